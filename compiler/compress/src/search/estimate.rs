//! What a whole candidate costs or loses, as a sum over sites and borders that measurements of whole candidates correct.
//!
//! Parts are not measured one by one: what was measured is a sum of them. The parts are therefore normally distributed
//! around what is first believed, and every measured sum moves all of them as Bayes' rule says (linear regression with a
//! Gaussian prior; Rasmussen and Williams 2006, chapter 2). Three kinds of belief are wrong together: the rest of the
//! model, all sites of one choice, all borders; a sum mostly moves those, and single parts where sums differ.

use super::problem::{Assignment, Problem};

/// How much a belief is trusted, as standard deviations relative to it.
#[derive(Debug, Clone, Copy)]
pub struct Trust {
    /// The rest of the model, relative to the largest sum believed.
    pub rest: f64,
    /// All sites of an option together.
    pub shared: f64,
    /// A site by itself.
    pub single: f64,
    /// All borders together.
    pub borders: f64,
    /// A border by itself.
    pub border: f64,
    /// A measurement.
    pub measured: f64,
}

impl Trust {
    /// Of times: the sum of calls is near the whole; borders are guessed.
    pub const TIME: Trust = Trust { rest: 0.02, shared: 0.2, single: 0.2, borders: 3.0, border: 1.0, measured: 0.01 };
    /// Of bytes: constants are known; code is not.
    pub const BYTES: Trust = Trust { rest: 0.1, shared: 0.1, single: 0.1, borders: 0.0, border: 0.0, measured: 0.001 };
    /// Of squared losses: errors of layers neither just add up nor is the rest at fault.
    pub const LOSS: Trust = Trust { rest: 0.0, shared: 0.7, single: 0.7, borders: 0.0, border: 0.0, measured: 0.03 };
}

/// What is first believed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Belief {
    /// The rest of the model.
    pub rest: f64,
    /// Each site with each option.
    pub sites: Vec<Vec<f64>>,
    /// Each of the problem's borders.
    pub borders: Vec<f64>,
}

/// A sum over sites and borders, as it is known by now.
#[derive(Debug, Clone)]
pub struct Estimate {
    belief: Belief,
    trust: Trust,
    /// The largest sum believed.
    scale: f64,
    /// What was measured: the parts of each sum, and how far it was from the belief.
    seen: Vec<(Assignment, f64, f64)>,
    /// What is known by now.
    now: Belief,
}

/// A part of a sum: its kind with the kind's number, and how often it counts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Rest,
    AllSites(usize),
    Site(usize, usize),
    AllBorders,
    Border(usize),
}

impl Estimate {
    /// Nothing is measured yet.
    pub fn new(belief: Belief, trust: Trust) -> Estimate {
        let most: f64 = belief.sites.iter().map(|s| s.iter().copied().fold(0.0, f64::max)).sum();
        Estimate { scale: belief.rest.abs() + most, now: belief.clone(), belief, trust, seen: Vec::new() }
    }

    /// A site with an option.
    pub fn site(&self, site: usize, option: usize) -> f64 {
        self.now.sites[site][option].max(0.0)
    }

    /// A site with an option, as first believed: for losses, what was measured of it by itself.
    pub fn first(&self, site: usize, option: usize) -> f64 {
        self.belief.sites[site][option]
    }

    /// A border, if its sides differ.
    pub fn border(&self, border: usize) -> f64 {
        self.now.borders.get(border).map_or(0.0, |b| b.max(0.0))
    }

    /// The rest of the model.
    pub fn rest(&self) -> f64 {
        self.now.rest
    }

    /// The sum for an assignment.
    pub fn sum(&self, problem: &Problem, assignment: &[usize]) -> f64 {
        let sites: f64 = assignment.iter().enumerate().map(|(site, &option)| self.site(site, option)).sum();
        self.rest() + sites + problem.crossed(assignment).map(|b| self.border(b)).sum::<f64>()
    }

    /// A whole candidate was measured.
    pub fn learn(&mut self, problem: &Problem, assignment: &[usize], measured: f64) {
        let believed = sum(&self.belief, problem, assignment);
        let noise = self.trust.measured * measured.abs().max(1e-3 * self.scale);
        self.seen.push((assignment.to_vec(), measured - believed, noise));
        self.update(problem);
    }

    /// Bayes' rule for all sums at once: with the parts' variances `S`, the sums' parts `X`, the noise `N` and the
    /// differences `d`, the parts move by `S X^T (X S X^T + N)^-1 d`.
    fn update(&mut self, problem: &Problem) {
        let rows: Vec<Vec<(Part, f64)>> = self.seen.iter().map(|s| self.parts(problem, &s.0)).collect();
        let count = rows.len();
        let mut system = vec![vec![0.0; count + 1]; count];
        for a in 0..count {
            for b in 0..count {
                system[a][b] = self.covariance(&rows[a], &rows[b]);
            }
            system[a][a] += self.seen[a].2.powi(2).max(f64::MIN_POSITIVE);
            system[a][count] = self.seen[a].1;
        }
        let weights = solve(system);
        let mut moved = self.belief.clone();
        for (row, weight) in rows.iter().zip(weights) {
            for &(part, times) in row {
                let by = self.variance(part) * times * weight;
                match part {
                    Part::Rest => moved.rest += by,
                    Part::Site(site, option) => moved.sites[site][option] += by,
                    Part::Border(border) => moved.borders[border] += by,
                    Part::AllSites(option) => {
                        moved.sites.iter_mut().zip(&self.belief.sites).for_each(|(m, b)| m[option] += by * b[option]);
                    }
                    Part::AllBorders => {
                        moved.borders.iter_mut().zip(&self.belief.borders).for_each(|(m, b)| *m += by * b);
                    }
                }
            }
        }
        self.now = moved;
    }

    /// The parts of a sum, and how often each counts, in an order that does not depend on the assignment.
    fn parts(&self, problem: &Problem, assignment: &[usize]) -> Vec<(Part, f64)> {
        let options = self.belief.sites.first().map_or(0, Vec::len);
        let mut all = vec![0.0; options];
        let mut parts = vec![(Part::Rest, 1.0)];
        for (site, &option) in assignment.iter().enumerate() {
            all[option] += self.belief.sites[site][option];
            parts.push((Part::Site(site, option), 1.0));
        }
        let mut borders = 0.0;
        for border in problem.crossed(assignment) {
            borders += self.belief.borders.get(border).copied().unwrap_or(0.0);
            parts.push((Part::Border(border), 1.0));
        }
        parts.extend(all.into_iter().enumerate().map(|(option, sum)| (Part::AllSites(option), sum)));
        parts.push((Part::AllBorders, borders));
        parts.retain(|(part, _)| self.variance(*part) > 0.0);
        parts
    }

    fn covariance(&self, a: &[(Part, f64)], b: &[(Part, f64)]) -> f64 {
        let other = |part: Part| b.iter().find(|p| p.0 == part).map_or(0.0, |p| p.1);
        a.iter().map(|&(part, times)| times * other(part) * self.variance(part)).sum()
    }

    fn variance(&self, part: Part) -> f64 {
        let deviation = match part {
            Part::Rest => self.trust.rest * self.scale,
            Part::AllSites(_) => self.trust.shared,
            Part::AllBorders => self.trust.borders,
            Part::Site(site, option) => self.trust.single * self.belief.sites[site][option],
            Part::Border(border) => self.trust.border * self.belief.borders.get(border).copied().unwrap_or(0.0),
        };
        deviation * deviation
    }
}

fn sum(belief: &Belief, problem: &Problem, assignment: &[usize]) -> f64 {
    let sites: f64 = assignment.iter().zip(&belief.sites).map(|(&option, site)| site[option]).sum();
    let border = |b: usize| belief.borders.get(b).copied().unwrap_or(0.0);
    belief.rest + sites + problem.crossed(assignment).map(border).sum::<f64>()
}

/// Solves a symmetric positive definite system, whose right side is the last column, by elimination.
fn solve(mut system: Vec<Vec<f64>>) -> Vec<f64> {
    let count = system.len();
    for pivot in 0..count {
        let (head, tail) = system.split_at_mut(pivot + 1);
        let row = &head[pivot];
        for other in tail {
            let factor = other[pivot] / row[pivot];
            other.iter_mut().zip(row).skip(pivot).for_each(|(o, r)| *o -= factor * r);
        }
    }
    let mut solution = vec![0.0; count];
    for n in (0..count).rev() {
        let known: f64 = (n + 1..count).map(|m| system[n][m] * solution[m]).sum();
        solution[n] = (system[n][count] - known) / system[n][n];
    }
    solution
}

#[cfg(test)]
mod tests {
    use mcc_ir::Random;

    use super::*;
    use crate::search::problem::tests::chain;

    /// The truth differs from the belief: a choice is slower than believed, and borders cost.
    #[test]
    fn measured_sums_correct_the_parts() {
        let problem = chain(12);
        let belief = Belief { rest: 1.0, sites: vec![vec![1.0, 0.3]; 12], borders: vec![0.1; 11] };
        let sites = (0..12).map(|n| vec![1.0, if n == 5 { 0.8 } else { 0.4 }]).collect();
        let truth = Belief { rest: 1.1, sites, borders: vec![0.4; 11] };
        let mut random = Random::new(3);
        let mut drawn = || -> Assignment { (0..12).map(|_| random.below(2)).collect() };
        let probes: Vec<Assignment> = (0..20).map(|_| drawn()).collect();
        let mut estimate = Estimate::new(belief, Trust::TIME);
        let worst = |estimate: &Estimate| {
            let error = |a: &Assignment| (estimate.sum(&problem, a) / sum(&truth, &problem, a) - 1.0).abs();
            probes.iter().map(error).fold(0.0, f64::max)
        };
        let before = worst(&estimate);
        for _ in 0..16 {
            let tried = drawn();
            estimate.learn(&problem, &tried, sum(&truth, &problem, &tried));
        }
        let after = worst(&estimate);
        assert!(before > 0.2 && after < 0.06, "{before} -> {after}");
        let gain = |site: usize| estimate.site(site, 0) - estimate.site(site, 1);
        assert!(gain(5) < 0.6 * gain(4), "{:?}", estimate.now);
        assert!(estimate.border(3) > 0.25, "{:?}", estimate.now);
    }

    #[test]
    fn a_measured_candidate_is_predicted_as_it_was_measured() {
        let problem = chain(3);
        let belief = Belief { rest: 0.0, sites: vec![vec![2.0, 1.0]; 3], borders: vec![0.2; 2] };
        let mut estimate = Estimate::new(belief, Trust::TIME);
        for (assignment, measured) in [([0, 0, 0], 6.3), ([1, 1, 1], 2.7), ([0, 1, 0], 6.0)] {
            estimate.learn(&problem, &assignment, measured);
        }
        for (assignment, measured) in [([0, 0, 0], 6.3), ([1, 1, 1], 2.7), ([0, 1, 0], 6.0)] {
            let told = estimate.sum(&problem, &assignment);
            assert!((told / measured - 1.0).abs() < 0.02, "{assignment:?}: {told} for {measured}");
        }
    }
}
