//! A range of budgets: the candidates that none beats in loss, time and bytes together.

use mcc_ir::Result;
use serde::{Deserialize, Serialize};

use super::{Figures, Goal, Searcher, Tried};
use crate::recipe::Recipe;

/// Candidates that are measured for a budget at most.
const CANDIDATES: usize = 8;

/// The candidates that none beats: plain data for reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Front {
    /// The model as it is.
    pub float: Figures,
    /// The candidates, the fastest first.
    pub points: Vec<Point>,
}

/// A candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// What was measured.
    pub figures: Figures,
    /// The number of layers with each option.
    pub layers: Vec<Count>,
    /// Its recipe.
    pub recipe: Recipe,
}

/// Layers with an option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The option's name.
    pub option: String,
    /// How many.
    pub layers: usize,
}

impl Front {
    /// The candidates as a report draws them.
    pub fn for_report(&self) -> mcc_eval::Sweep {
        let count = |c: &Count| format!("{} {}", c.layers, c.option);
        let point = |p: &Point| mcc_eval::Point {
            name: p.layers.iter().map(count).collect::<Vec<_>>().join(", "),
            bytes: p.figures.bytes,
            median_ms: p.figures.ms,
            value: p.figures.loss.relative,
        };
        let metric = "relative L2 to the model given, held-out samples".to_string();
        mcc_eval::Sweep { metric, higher_is_better: false, points: self.points.iter().map(point).collect() }
    }
}

impl Searcher<'_> {
    /// Searches for several budgets of time, from the least that was measured to the model as it is.
    ///
    /// # Errors
    /// When a candidate cannot be made or measured.
    pub fn sweep(&mut self, budgets: usize, plain: &Recipe) -> Result<Front> {
        let goal = Goal::Ms(0.0);
        let (least, most) = (self.least(goal).figures.ms, self.tried[0].figures.ms);
        for n in 0..budgets {
            let share = n as f64 / budgets.max(1) as f64;
            self.improve(Goal::Ms(least + share * (most - least)), CANDIDATES)?;
        }
        Ok(self.front(plain))
    }

    /// The measured candidates that none beats.
    pub fn front(&self, plain: &Recipe) -> Front {
        let beats = |a: &Tried, b: &Tried| {
            let key = |t: &Tried| [t.figures.loss.relative, t.figures.ms, t.figures.bytes as f64];
            let (a, b) = (key(a), key(b));
            a.iter().zip(b).all(|(a, b)| *a <= b) && a != b
        };
        let mut best: Vec<&Tried> =
            self.tried.iter().filter(|t| !self.tried.iter().any(|other| beats(other, t))).collect();
        best.sort_by(|a, b| a.figures.ms.total_cmp(&b.figures.ms));
        let point = |t: &Tried| Point {
            figures: t.figures,
            layers: self.counts(t),
            recipe: self.problem.recipe(&t.assignment, plain),
        };
        Front { float: self.tried[0].figures, points: best.into_iter().map(point).collect() }
    }

    fn counts(&self, tried: &Tried) -> Vec<Count> {
        let count = |option: usize| {
            let with = tried.assignment.iter().zip(&self.problem.sites).filter(|(a, _)| **a == option);
            with.map(|(_, site)| site.members.len()).sum()
        };
        let options = self.problem.options.iter().enumerate();
        let counts = options.map(|(n, o)| Count { option: o.name.to_string(), layers: count(n) });
        counts.filter(|c| c.layers > 0).collect()
    }
}
