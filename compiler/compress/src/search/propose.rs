//! Proposes assignments: an exact knapsack over sites and the borders between neighbours, then changes of single sites,
//! pairs of a border's sides and runs of sites, which see all borders.

use super::estimate::Estimate;
use super::knapsack::{self, Choice, Knapsack};
use super::problem::{Assignment, Problem};
use super::{Figures, Goal};

/// Sites that change together at most.
const RUN: usize = 8;

/// Changes of one proposal at most.
const CHANGES: usize = 400;

/// What is known of the sites.
#[derive(Debug, Clone)]
pub struct Known {
    /// Milliseconds.
    pub ms: Estimate,
    /// Bytes of the object.
    pub bytes: Estimate,
    /// Squares of losses: errors that do not depend on one another add up so.
    pub squares: Estimate,
    /// The options that each site can take.
    pub possible: Vec<Vec<usize>>,
}

/// How good an assignment is: by how much it is beyond the limit, then what is to be little.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Worth {
    /// The excess over the limit; 0 within it.
    pub excess: f64,
    /// What is to be little.
    pub value: f64,
}

impl Known {
    /// Learns what a candidate was measured to cost and lose.
    pub fn learn(&mut self, problem: &Problem, assignment: &Assignment, figures: &Figures) {
        self.ms.learn(problem, assignment, figures.ms);
        self.bytes.learn(problem, assignment, figures.bytes as f64);
        if figures.loss.relative.is_finite() {
            self.squares.learn(problem, assignment, figures.loss.relative.powi(2));
        }
    }

    /// What is limited, and what is to be little.
    fn roles(&self, goal: Goal) -> (&Estimate, &Estimate) {
        match goal {
            Goal::Ms(_) => (&self.ms, &self.squares),
            Goal::Bytes(_) => (&self.bytes, &self.squares),
            Goal::Loss(_) => (&self.squares, &self.ms),
        }
    }

    /// What is expected of an assignment.
    pub fn worth(&self, problem: &Problem, goal: Goal, assignment: &[usize]) -> Worth {
        let (limited, little) = self.roles(goal);
        let excess = (limited.sum(problem, assignment) - goal.limit()).max(0.0);
        Worth { excess, value: little.sum(problem, assignment) }
    }

    /// The best assignment that is expected to be within the limit; the nearest to it if none is.
    pub fn propose(&self, problem: &Problem, goal: Goal) -> Assignment {
        let (limited, little) = self.roles(goal);
        let mut knapsack = Knapsack::default();
        for (site, options) in self.possible.iter().enumerate() {
            let choice = |&option: &usize| Choice {
                value: little.site(site, option),
                weight: limited.site(site, option),
                class: usize::from(problem.options[option].bytes),
            };
            knapsack.items.push(options.iter().map(choice).collect());
            let before = problem.borders.iter().enumerate().filter(|(_, b)| b.to == site && b.from + 1 == site);
            let mut border = knapsack::Border::default();
            for (n, _) in before {
                border.value += little.border(n);
                border.weight += limited.border(n);
            }
            knapsack.borders.push(border);
        }
        let lightest = |(site, options): (usize, &Vec<usize>)| {
            let least = options.iter().min_by(|&&a, &&b| limited.site(site, a).total_cmp(&limited.site(site, b)));
            least.copied().unwrap_or(0)
        };
        let start = match knapsack.solve(goal.limit() - limited.rest()) {
            Some(chosen) => chosen.iter().zip(&self.possible).map(|(&c, options)| options[c]).collect(),
            None => self.possible.iter().enumerate().map(lightest).collect(),
        };
        self.repair(problem, goal, start)
    }

    /// Changes an assignment as long as it is expected to get better.
    fn repair(&self, problem: &Problem, goal: Goal, mut at: Assignment) -> Assignment {
        let mut worth = self.worth(problem, goal, &at);
        for _ in 0..CHANGES {
            let found = self.changes(problem, &at).map(|change| (self.worth(problem, goal, &change), change));
            let best = found.min_by(|a, b| compare(a.0, b.0));
            match best.filter(|b| compare(b.0, worth).is_lt()) {
                Some(better) => (worth, at) = better,
                None => break,
            }
        }
        at
    }

    /// Assignments near one, in a fixed order.
    pub fn changes<'a>(&'a self, problem: &'a Problem, at: &'a Assignment) -> impl Iterator<Item = Assignment> + 'a {
        let runs = (0..at.len()).flat_map(move |from| (from..at.len().min(from + RUN)).map(move |to| from..=to));
        let same = runs.flat_map(move |run| {
            (0..problem.options.len()).filter_map(move |option| {
                let mut changed = at.clone();
                let can = |site: &usize| self.possible[*site].contains(&option);
                run.clone().filter(can).for_each(|site| changed[site] = option);
                // A run that begins or ends with a site that stays is a shorter run.
                (changed[*run.start()] != at[*run.start()] && changed[*run.end()] != at[*run.end()]).then_some(changed)
            })
        });
        // One side of a border takes the other's option.
        let sides = problem.borders.iter().flat_map(move |b| {
            [(b.from, b.to), (b.to, b.from)].into_iter().filter_map(move |(from, to)| {
                let mut changed = at.clone();
                changed[to] = at[from];
                let other = at[to];
                if self.possible[from].contains(&other) {
                    changed[from] = other;
                }
                (changed != *at && self.possible[to].contains(&at[from])).then_some(changed)
            })
        });
        same.chain(sides)
    }
}

/// Better first.
pub fn compare(a: Worth, b: Worth) -> std::cmp::Ordering {
    a.excess.total_cmp(&b.excess).then(a.value.total_cmp(&b.value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::estimate::{Belief, Trust};
    use crate::search::problem::tests::chain;

    fn known(count: usize, squares: &[f64], border: f64) -> Known {
        let belief = |sites: Vec<Vec<f64>>, borders| Belief { rest: 0.0, sites, borders };
        let losses = squares.iter().map(|&s| vec![0.0, s]).collect();
        Known {
            ms: Estimate::new(belief(vec![vec![1.0, 0.5]; count], vec![border; count - 1]), Trust::TIME),
            bytes: Estimate::new(belief(vec![vec![4.0, 1.0]; count], vec![0.0; count - 1]), Trust::BYTES),
            squares: Estimate::new(belief(losses, vec![0.0; count - 1]), Trust::LOSS),
            possible: vec![vec![0, 1]; count],
        }
    }

    #[test]
    fn borders_decide_what_is_proposed() {
        let problem = chain(6);
        let squares = [9.0, 1.0, 8.0, 1.0, 7.0, 1.0];
        // Without borders the three insensitive sites become int8, with them three neighbours.
        assert_eq!(known(6, &squares, 0.0).propose(&problem, Goal::Ms(4.5)), [0, 1, 0, 1, 0, 1]);
        assert_eq!(known(6, &squares, 0.3).propose(&problem, Goal::Ms(4.8)), [0, 0, 0, 1, 1, 1]);
        // The limit is on what is lost instead.
        assert_eq!(known(6, &squares, 0.0).propose(&problem, Goal::Loss(3.1f64.sqrt())), [0, 1, 0, 1, 0, 1]);
        assert_eq!(known(6, &squares, 0.0).propose(&problem, Goal::Bytes(21.0)), [0, 1, 0, 0, 0, 0]);
        // Nothing is within the limit: what is nearest to it.
        assert_eq!(known(6, &squares, 0.0).propose(&problem, Goal::Ms(1.0)), [1; 6]);
    }
}
