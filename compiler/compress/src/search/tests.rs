//! Searches with made-up costs and losses, which a real measurement would give.

use mcc_ir::Result;

use super::bench::{Bench, Kept, Parts};
use super::problem::tests::chain;
use super::sensitivity::{How, Sensitivities};
use super::*;
use crate::cache::Cache;

/// Costs and losses that are not what their parts say: borders cost, and neighbours' losses add up.
struct Fake {
    problem: Problem,
    measured: usize,
}

impl Fake {
    fn new(sites: usize) -> Fake {
        Fake { problem: chain(sites), measured: 0 }
    }

    /// Small and large layers, some of which gain nothing.
    fn ms(site: usize, option: usize) -> f64 {
        let float = [0.9, 0.3, 0.5, 0.2][site % 4];
        if option == 0 { float } else { float * [0.3, 0.4, 1.0, 0.5][site % 4] }
    }

    fn loss(site: usize, option: usize) -> f64 {
        if option == 0 { 0.0 } else { [0.004, 0.02, 0.001, 0.008, 0.03][site % 5] }
    }

    fn truth(&self, assignment: &[usize]) -> Figures {
        let cells = || assignment.iter().copied().enumerate();
        let borders = self.problem.crossed(assignment).count() as f64;
        let ms = 0.05 + cells().map(|(s, o)| Fake::ms(s, o)).sum::<f64>() + 0.11 * borders;
        let both = assignment.windows(2).filter(|w| w[0] + w[1] == 2).count() as f64;
        let squares = cells().map(|(s, o)| Fake::loss(s, o).powi(2)).sum::<f64>() + 2e-6 * both;
        let bytes = cells().map(|(s, o)| if o == 0 { 4000 } else { 1000 } * (s as u64 + 1)).sum();
        Figures { loss: Loss { relative: squares.sqrt(), agreement: None }, ms, bytes, arena: None }
    }

    /// The best that there is, by trying everything.
    fn brute_force(&self, goal: Goal) -> f64 {
        let sites = self.problem.sites.len();
        let all = (0..1usize << sites).map(|bits| (0..sites).map(|s| bits >> s & 1).collect::<Vec<_>>());
        let within = all.map(|a| self.truth(&a)).filter(|f| goal.cost(f) <= goal.limit());
        within.map(|f| goal.value(&f)).fold(f64::INFINITY, f64::min)
    }
}

impl Bench for Fake {
    fn figures(&mut self, candidates: &[Assignment]) -> Result<Vec<Figures>> {
        self.measured += candidates.len();
        Ok(candidates.iter().map(|a| self.truth(a)).collect())
    }

    fn parts(&mut self, candidate: &Assignment) -> Result<Parts> {
        // What a profile of calls says is a tenth too little.
        let cells = || candidate.iter().copied().enumerate();
        let ms = cells().map(|(s, o)| 0.9 * Fake::ms(s, o)).collect();
        let bytes = cells().map(|(s, o)| if o == 0 { 4000.0 } else { 1000.0 } * (s as f64 + 1.0)).collect();
        Ok(Parts { ms, bytes, rest_bytes: 0.0 })
    }

    fn sensitivities(&mut self, problem: &Problem, _: &[Vec<usize>]) -> Result<Sensitivities> {
        let site = |site: usize| (0..2).map(|option| Some(Fake::loss(site, option))).collect();
        Ok(Sensitivities { how: How::Measured, losses: (0..problem.sites.len()).map(site).collect() })
    }
}

fn wanted(goal: Goal) -> Search {
    Search { goal, candidates: 24, sweep: 0, plain: Recipe::default() }
}

#[test]
fn the_best_is_found_with_few_measurements() {
    for goal in [
        Goal::Ms(3.1),
        Goal::Ms(3.5),
        Goal::Ms(4.5),
        Goal::Bytes(130_000.0),
        Goal::Bytes(250_000.0),
        Goal::Loss(0.02),
        Goal::Loss(0.045),
    ] {
        let mut fake = Fake::new(12);
        let problem = fake.problem.clone();
        let found = search(&problem, &mut fake, &wanted(goal)).unwrap();
        assert!(fake.measured <= 27, "{} of 4096 candidates were measured", fake.measured);
        let best = fake.brute_force(goal);
        let value = goal.value(&found.best.figures);
        assert!(goal.cost(&found.best.figures) <= goal.limit());
        assert!(value <= 1.03 * best, "{goal:?}: {value}, but there is {best}");
        assert_eq!(found.recipe, problem.recipe(&found.best.assignment, &Recipe::default()));
        let again = search(&problem, &mut Fake::new(12), &wanted(goal)).unwrap();
        assert_eq!(again.tried, found.tried);
    }
}

#[test]
fn it_is_better_than_greedy_at_equal_budget() {
    for limit in [3.3, 3.5, 4.5, 5.0] {
        let goal = Goal::Ms(limit);
        let mut fake = Fake::new(12);
        let problem = fake.problem.clone();
        let found = search(&problem, &mut fake, &wanted(goal)).unwrap();
        let mut searcher = Searcher::new(&problem, &mut fake).unwrap();
        searcher.find_sensitivities().unwrap();
        let greedy = searcher.greedy(goal, 1).unwrap().unwrap();
        let (ours, theirs) = (found.best.figures.loss.relative, greedy.figures.loss.relative);
        assert!(ours < theirs, "{limit} ms: {ours} and {theirs}");
    }
}

#[test]
fn layers_that_gain_nothing_stay_as_they_are_and_say_so() {
    let mut fake = Fake::new(12);
    let problem = fake.problem.clone();
    let found = search(&problem, &mut fake, &wanted(Goal::Ms(4.5))).unwrap();
    let reason = |site: usize| found.reasons[&problem.sites[site].members[0].output].as_str();
    let float: Vec<usize> = (0..12).filter(|&s| found.best.assignment[s] == 0).collect();
    assert!(float.contains(&10), "{:?}", found.best.assignment);
    assert!(reason(10).starts_with("stays float: int8 gains nothing"), "{}", reason(10));
    assert!(float.iter().any(|&s| reason(s).starts_with("stays float: int8 would lose")), "{:?}", found.reasons);
    let int8 = (0..12).find(|&s| found.best.assignment[s] == 1).unwrap();
    assert!(reason(int8).starts_with("int8: ") && reason(int8).contains(" ms, loses "), "{}", reason(int8));
}

#[test]
fn limits_that_cannot_be_met_are_refused_before_the_search() {
    let error = |goal: Goal| {
        let mut fake = Fake::new(12);
        let problem = fake.problem.clone();
        let text = search(&problem, &mut fake, &wanted(goal)).unwrap_err().to_string();
        assert!(fake.measured <= 3, "{} candidates were measured", fake.measured);
        text
    };
    let told = error(Goal::Ms(1.0));
    assert!(told.contains("1.0000 ms cannot be reached: the least is ") && told.contains("int8 in"), "{told}");
    assert!(told.contains("help: raise the limit"), "{told}");
    assert!(error(Goal::Bytes(1000.0)).contains("the least is 78000 bytes, with int8 in 12 layers"));
    assert!(error(Goal::Ms(50.0)).contains("the model as it is takes"));
    assert!(error(Goal::Ms(0.0)).contains("give a number above 0"));
    assert!(error(Goal::Loss(f64::NAN)).contains("give a number above 0"));
}

#[test]
fn a_search_that_is_repeated_measures_nothing_again() {
    let folder = tempfile::tempdir().unwrap();
    let samples = mcc_data::Samples::from_tensors(Vec::new());
    let cache = Cache::open(folder.path(), &[], &samples).unwrap();
    let run = |sites: usize| {
        let fake = Fake::new(sites);
        let problem = fake.problem.clone();
        let mut bench = Kept { bench: fake, cache: &cache };
        let found = search(&problem, &mut bench, &wanted(Goal::Ms(2.0))).unwrap();
        (found.tried, bench.bench.measured)
    };
    let (first, second) = (run(6), run(6));
    assert!(first.0 == second.0 && first.1 > 0 && second.1 == 0, "{} {}", first.1, second.1);
    assert!(run(7).1 > 0);
}

#[test]
fn a_sweep_gives_what_none_beats() {
    let mut fake = Fake::new(12);
    let problem = fake.problem.clone();
    let mut searcher = Searcher::new(&problem, &mut fake).unwrap();
    searcher.find_sensitivities().unwrap();
    let front = searcher.sweep(6, &Recipe::default()).unwrap();
    assert!(front.points.len() >= 6, "{front:?}");
    assert_eq!(front.points.last().map(|p| p.figures.loss.relative), Some(0.0));
    let key = |f: &Figures| [f.ms, f.loss.relative, f.bytes as f64];
    for (n, a) in front.points.iter().enumerate() {
        assert!(n == 0 || front.points[n - 1].figures.ms <= a.figures.ms, "the fastest is not first");
        let beats = |b: &sweep::Point| {
            let pairs = || key(&b.figures).into_iter().zip(key(&a.figures));
            pairs().all(|(b, a)| b <= a) && pairs().any(|(b, a)| b < a)
        };
        assert!(!front.points.iter().any(beats), "{:?} is beaten", a.figures);
    }
    let int8 = &front.points[0].layers;
    assert_eq!(int8.iter().map(|c| c.layers).sum::<usize>(), 12);
}
