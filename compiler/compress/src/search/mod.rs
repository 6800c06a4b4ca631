//! Searches for the recipe that loses least within a budget of time or bytes, or is fastest within a loss.
//!
//! Contract: what is searched is an [`Assignment`] of an option to every site; what is found is an
//! explicit recipe, which gives the same bytes when it is run again, although the search measured times. With the same
//! measured numbers the search takes the same way: of equals, the first wins.
//!
//! 1. Every option in all layers is measured, as whole models: time or predicted time, bytes, loss.
//! 2. Every option of every site by itself: what the outputs lose ([`sensitivity`]).
//! 3. A knapsack proposes assignments ([`propose`]) by estimates ([`estimate`]) that are sums over sites and borders.
//! 4. Proposals are compiled and measured as whole models; what was measured corrects the estimates; and again.
//! 5. The best measured one wins.

pub mod bench;
pub mod estimate;
pub mod explain;
pub mod greedy;
pub mod knapsack;
pub mod machine;
pub mod option;
pub mod problem;
pub mod propose;
pub mod sensitivity;
pub mod sweep;

use std::collections::BTreeMap;

use mcc_ir::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::loss::Loss;
use crate::recipe::Recipe;
use bench::{Bench, Parts};
use estimate::{Belief, Estimate, Trust};
use problem::{Assignment, Problem};
use propose::Known;
use sweep::Front;

/// What all borders between bytes and floats cost together, relative to the model as it is, as first believed; each has a part
/// in proportion to its elements, and an equal one. Measurements correct it.
const BORDERS: f64 = 0.1;

/// How far below the least predicted cost a budget may be before it is refused without a search.
const HOPE: f64 = 0.9;

/// Proposals that are measured in turns.
const BATCH: usize = 4;

/// Rounds without a better candidate after which the search ends.
const PATIENCE: usize = 3;

/// Limits that proposals are made for, relative to the budget: estimates err in both directions.
const LIMITS: [f64; 4] = [1.0, 0.98, 1.02, 0.95];

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// The least loss in so many milliseconds.
    Ms(f64),
    /// The least loss in so many bytes of code and weights.
    Bytes(f64),
    /// The shortest time with so much loss: 0.01 is one percent of the outputs' norm.
    Loss(f64),
}

/// A measured model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// What it loses on held-out samples.
    pub loss: Loss,
    /// Milliseconds of a run on one thread: measured on this machine, predicted for another.
    pub ms: f64,
    /// Bytes of code and weights in the object.
    pub bytes: u64,
    /// Bytes of memory that the caller provides; `None` if they depend on a run's dimensions.
    pub arena: Option<u64>,
}

/// What is searched for, and for how long.
#[derive(Debug, Clone)]
pub struct Search {
    /// What is wanted.
    pub goal: Goal,
    /// Proposals that are measured at most.
    pub candidates: usize,
    /// Budgets of time for which a front is searched besides; 0 for none.
    pub sweep: usize,
    /// The recipe without steps: its seed and number of samples.
    pub plain: Recipe,
}

/// A measured assignment.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// The option of each site.
    pub assignment: Assignment,
    /// What was measured.
    pub figures: Figures,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The best candidate.
    pub best: Tried,
    /// Its recipe.
    pub recipe: Recipe,
    /// The model as it is.
    pub float: Figures,
    /// Everything that was measured, in order.
    pub tried: Vec<Tried>,
    /// Why each layer is what it is, by the layer's result.
    pub reasons: BTreeMap<String, String>,
    /// How sensitivities were found.
    pub sensitivity: sensitivity::How,
    /// Options that no layer can take, and why.
    pub refused: BTreeMap<&'static str, Error>,
    /// What none beats in loss, time and bytes together, if a sweep is wanted.
    pub front: Option<Front>,
}

impl Goal {
    /// The limit, of [`Goal::cost`].
    pub fn limit(self) -> f64 {
        match self {
            Goal::Ms(limit) | Goal::Bytes(limit) => limit,
            Goal::Loss(limit) => limit * limit,
        }
    }

    /// What is limited.
    pub fn cost(self, figures: &Figures) -> f64 {
        match self {
            Goal::Ms(_) => figures.ms,
            Goal::Bytes(_) => figures.bytes as f64,
            Goal::Loss(_) => figures.loss.relative.powi(2),
        }
    }

    /// What is to be little, within the limit.
    pub fn value(self, figures: &Figures) -> f64 {
        match self {
            Goal::Ms(_) | Goal::Bytes(_) => figures.loss.relative,
            Goal::Loss(_) => figures.ms,
        }
    }

    /// The same with another limit.
    pub fn scaled(self, by: f64) -> Goal {
        match self {
            Goal::Ms(limit) => Goal::Ms(limit * by),
            Goal::Bytes(limit) => Goal::Bytes(limit * by),
            Goal::Loss(limit) => Goal::Loss(limit * by),
        }
    }

    /// A limit or cost with its unit.
    pub fn text(self, cost: f64) -> String {
        match self {
            Goal::Ms(_) => format!("{cost:.4} ms"),
            Goal::Bytes(_) => format!("{cost:.0} bytes"),
            Goal::Loss(_) => format!("a loss of {:.4} %", 100.0 * cost.sqrt()),
        }
    }

    /// Refuses limits that mean nothing.
    fn check(self) -> Result<()> {
        let limit = match self {
            Goal::Ms(limit) | Goal::Bytes(limit) | Goal::Loss(limit) => limit,
        };
        match limit.is_finite() && limit > 0.0 {
            true => Ok(()),
            false => Err(Error::usage(format!("a limit of {limit}")).help("give a number above 0")),
        }
    }
}

/// A search under way.
pub struct Searcher<'a> {
    problem: &'a Problem,
    bench: &'a mut dyn Bench,
    known: Known,
    /// Options that no layer can take, and why.
    refused: BTreeMap<usize, Error>,
    /// Everything that was measured, in order.
    pub tried: Vec<Tried>,
    how: sensitivity::How,
}

/// Finds the best recipe.
///
/// # Errors
/// When the limit cannot be reached (which says what can be), the model is within it as it is, or a candidate cannot be
/// made or measured.
pub fn search(problem: &Problem, bench: &mut dyn Bench, wanted: &Search) -> Result<Found> {
    wanted.goal.check()?;
    let mut searcher = Searcher::new(problem, bench)?;
    searcher.check_reach(wanted.goal)?;
    searcher.find_sensitivities()?;
    searcher.improve(wanted.goal, wanted.candidates)?;
    let front = if wanted.sweep > 0 { Some(searcher.sweep(wanted.sweep, &wanted.plain)?) } else { None };
    Ok(Found { front, ..searcher.found(wanted)? })
}

impl<'a> Searcher<'a> {
    /// Measures every option in all layers.
    ///
    /// # Errors
    /// When the model has no layers, or an option cannot be made or measured.
    pub fn new(problem: &'a Problem, bench: &'a mut dyn Bench) -> Result<Searcher<'a>> {
        if problem.sites.is_empty() {
            return Err(Error::unsupported("the model has no layers that could be compressed")
                .help("layers are Conv, ConvTranspose, Gemm and MatMul by constant 32-bit float weights"));
        }
        let (mut uniform, mut parts, mut refused) = (Vec::new(), Vec::<Parts>::new(), BTreeMap::new());
        for option in 0..problem.options.len() {
            match bench.parts(&problem.uniform(option)) {
                Ok(told) => {
                    uniform.push(problem.uniform(option));
                    parts.push(told);
                }
                // The model has no layer for it; the others remain.
                Err(error @ Error::Unsupported(_)) if option > 0 => {
                    refused.insert(option, error);
                    parts.push(parts[0].clone());
                }
                Err(error) => return Err(error),
            }
        }
        if uniform.len() == 1 {
            return Err(
                Error::all(refused.into_values().collect()).unwrap_or_else(|| Error::usage("nothing is allowed"))
            );
        }
        let figures = bench.figures(&uniform)?;
        let by_site = |of: &dyn Fn(&Parts) -> &[f64]| -> Vec<Vec<f64>> {
            (0..problem.sites.len()).map(|site| parts.iter().map(|p| of(p)[site]).collect()).collect()
        };
        let (count, free) = (problem.borders.len() as f64, vec![0.0; problem.borders.len()]);
        let elements: f64 = problem.borders.iter().map(|b| b.elements).sum();
        let all = BORDERS * parts[0].ms.iter().sum::<f64>();
        let border = |elements_of_it: f64| all * (elements_of_it / elements + 1.0 / count) / 2.0;
        let borders = problem.borders.iter().map(|b| border(b.elements)).collect();
        let ms = Belief { rest: 0.0, sites: by_site(&|p| &p.ms), borders };
        let bytes = Belief { rest: parts[0].rest_bytes, sites: by_site(&|p| &p.bytes), borders: free.clone() };
        let nothing = vec![vec![0.0; problem.options.len()]; problem.sites.len()];
        let squares = Belief { rest: 0.0, sites: nothing, borders: free };
        let known = Known {
            ms: Estimate::new(ms, Trust::TIME),
            bytes: Estimate::new(bytes, Trust::BYTES),
            squares: Estimate::new(squares, Trust::LOSS),
            possible: vec![
                (0..problem.options.len()).filter(|o| !refused.contains_key(o)).collect();
                problem.sites.len()
            ],
        };
        let mut searcher =
            Searcher { problem, bench, known, refused, tried: Vec::new(), how: sensitivity::How::Measured };
        uniform.into_iter().zip(figures).for_each(|(a, f)| searcher.learn(a, f));
        Ok(searcher)
    }

    fn learn(&mut self, assignment: Assignment, figures: Figures) {
        self.known.learn(self.problem, &assignment, &figures);
        self.tried.push(Tried { assignment, figures });
    }

    /// Measures assignments that are new, and learns from them; gives their number.
    fn try_all(&mut self, mut new: Vec<Assignment>) -> Result<usize> {
        let mut seen: Vec<Assignment> = self.tried.iter().map(|t| t.assignment.clone()).collect();
        new.retain(|a| {
            let fresh = !seen.contains(a);
            if fresh {
                seen.push(a.clone());
            }
            fresh
        });
        let figures = self.bench.figures(&new)?;
        let count = new.len();
        new.into_iter().zip(figures).for_each(|(a, f)| self.learn(a, f));
        Ok(count)
    }

    /// Refuses a limit that the model meets as it is, or that the cheapest candidate is far from.
    fn check_reach(&mut self, goal: Goal) -> Result<()> {
        if matches!(goal, Goal::Loss(_)) {
            return Ok(());
        }
        let float = goal.cost(&self.tried[0].figures);
        if float <= goal.limit() {
            return Err(Error::usage(format!(
                "the model as it is takes {}, which is within the limit",
                goal.text(float)
            ))
            .help("give a smaller limit, or --max-loss"));
        }
        let cheapest = self.known.propose(self.problem, goal.scaled(0.0));
        self.try_all(vec![cheapest])?;
        let least = self.least(goal);
        match goal.limit() < HOPE * goal.cost(&least.figures) {
            true => Err(self.unreachable(goal)),
            false => Ok(()),
        }
    }

    /// The cheapest candidate that was measured.
    fn least(&self, goal: Goal) -> &Tried {
        let cheaper = |a: &&Tried, b: &&Tried| goal.cost(&a.figures).total_cmp(&goal.cost(&b.figures));
        self.tried.iter().min_by(cheaper).unwrap_or(&self.tried[0])
    }

    fn unreachable(&self, goal: Goal) -> Error {
        let least = self.least(goal);
        let options = self.problem.options.iter().enumerate();
        let used = options.map(|(n, o)| (o.name, least.assignment.iter().filter(|&&a| a == n).count()));
        let used: Vec<String> = used.filter(|u| u.1 > 0).map(|(name, n)| format!("{name} in {n} layers")).collect();
        let cost = goal.cost(&least.figures);
        Error::usage(format!(
            "{} cannot be reached: the least is {}, with {} and a loss of {:.3} %",
            goal.text(goal.limit()),
            goal.text(cost),
            used.join(", "),
            100.0 * least.figures.loss.relative
        ))
        .help("raise the limit, or let --allow name more that layers may become")
    }

    /// Measures what each option of each site loses by itself.
    ///
    /// # Errors
    /// When a candidate cannot be made or measured.
    pub fn find_sensitivities(&mut self) -> Result<()> {
        let told = self.bench.sensitivities(self.problem, &self.known.possible)?;
        self.how = told.how;
        let sites: Vec<Vec<f64>> =
            told.losses.iter().map(|site| site.iter().map(|l| l.map_or(0.0, |l| l * l)).collect()).collect();
        for (possible, losses) in self.known.possible.iter_mut().zip(&told.losses) {
            possible.retain(|&option| losses[option].is_some_and(f64::is_finite));
        }
        let belief = Belief { rest: 0.0, sites, borders: vec![0.0; self.problem.borders.len()] };
        self.known.squares = Estimate::new(belief, Trust::LOSS);
        for tried in &self.tried {
            if tried.figures.loss.relative.is_finite() {
                self.known.squares.learn(self.problem, &tried.assignment, tried.figures.loss.relative.powi(2));
            }
        }
        Ok(())
    }

    /// How sensitivities were found.
    pub fn how(&self) -> sensitivity::How {
        self.how
    }

    /// Proposes and measures until nothing improves, or so many candidates were measured.
    ///
    /// # Errors
    /// When a candidate cannot be made or measured.
    pub fn improve(&mut self, goal: Goal, candidates: usize) -> Result<()> {
        let (mut left, mut stale) = (candidates, 0);
        while left > 0 && stale < PATIENCE {
            let before = self.best(goal).map(|t| goal.value(&t.figures));
            let mut new: Vec<Assignment> =
                LIMITS.iter().map(|&by| self.known.propose(self.problem, goal.scaled(by))).collect();
            new.extend(self.near_best(goal));
            let fresh = |a: &Assignment| self.tried.iter().all(|t| t.assignment != *a);
            let mut chosen: Vec<Assignment> = Vec::new();
            for assignment in new.into_iter().filter(fresh) {
                if !chosen.contains(&assignment) && chosen.len() < BATCH.min(left) {
                    chosen.push(assignment);
                }
            }
            let measured = self.try_all(chosen)?;
            if measured == 0 {
                break;
            }
            left -= measured;
            let after = self.best(goal).map(|t| goal.value(&t.figures));
            stale = if after == before { stale + 1 } else { 0 };
        }
        Ok(())
    }

    /// Changes of the best candidate that are expected to be better than it is.
    fn near_best(&self, goal: Goal) -> Vec<Assignment> {
        let Some(best) = self.best(goal) else { return Vec::new() };
        let now = self.known.worth(self.problem, goal, &best.assignment);
        let new = |a: &Assignment| self.tried.iter().all(|t| t.assignment != *a);
        let changes = self.known.changes(self.problem, &best.assignment).filter(new);
        let mut better: Vec<_> = changes.map(|a| (self.known.worth(self.problem, goal, &a), a)).collect();
        better.retain(|(worth, _)| propose::compare(*worth, now).is_lt());
        better.sort_by(|a, b| propose::compare(a.0, b.0));
        better.into_iter().map(|b| b.1).take(BATCH).collect()
    }

    /// The best measured candidate within the limit.
    pub fn best(&self, goal: Goal) -> Option<&Tried> {
        let within = self.tried.iter().filter(|t| goal.cost(&t.figures) <= goal.limit());
        let key = |t: &&Tried| [goal.value(&t.figures), goal.cost(&t.figures)];
        within.min_by(|a, b| {
            let ([a, a_cost], [b, b_cost]) = (key(a), key(b));
            a.total_cmp(&b).then(a_cost.total_cmp(&b_cost))
        })
    }

    fn found(self, wanted: &Search) -> Result<Found> {
        let Some(best) = self.best(wanted.goal).cloned() else { return Err(self.unreachable(wanted.goal)) };
        if best.assignment.iter().all(|&option| option == 0) {
            let text =
                format!("within {} nothing is faster than the model as it is", wanted.goal.text(wanted.goal.limit()));
            return Err(Error::usage(text).help("allow more loss, or let --allow name more that layers may become"));
        }
        let recipe = self.problem.recipe(&best.assignment, &wanted.plain);
        let reasons = explain::reasons(self.problem, &self.known, wanted.goal, &best.assignment);
        let float = self.tried[0].figures;
        let refused = self.refused.into_iter().map(|(option, e)| (self.problem.options[option].name, e)).collect();
        Ok(Found { refused, recipe, reasons, float, best, tried: self.tried, sensitivity: self.how, front: None })
    }
}

#[cfg(test)]
mod tests;
