//! Why each layer is what it is.

use std::collections::BTreeMap;

use super::Goal;
use super::problem::Problem;
use super::propose::Known;

/// A gain below this share of the whole model is none.
const SOME: f64 = 0.001;

/// The reason for each layer's option, by the layer's result.
pub fn reasons(problem: &Problem, known: &Known, goal: Goal, assignment: &[usize]) -> BTreeMap<String, String> {
    let whole = spent(known, goal).rest() + (0..assignment.len()).map(|n| spent(known, goal).site(n, 0)).sum::<f64>();
    let mut reasons = BTreeMap::new();
    for (n, site) in problem.sites.iter().enumerate() {
        let reason = reason(problem, known, goal, (n, assignment[n]).into(), whole);
        reasons.extend(site.members.iter().map(|m| (m.output.clone(), reason.clone())));
    }
    reasons
}

/// A site with an option.
#[derive(Clone, Copy)]
struct Cell {
    site: usize,
    option: usize,
}

impl From<(usize, usize)> for Cell {
    fn from((site, option): (usize, usize)) -> Cell {
        Cell { site, option }
    }
}

/// What compressing is to spare.
fn spent(known: &Known, goal: Goal) -> &super::estimate::Estimate {
    if matches!(goal, Goal::Bytes(_)) { &known.bytes } else { &known.ms }
}

fn reason(problem: &Problem, known: &Known, goal: Goal, Cell { site, option }: Cell, whole: f64) -> String {
    let spent = spent(known, goal);
    let (scale, unit) = if matches!(goal, Goal::Bytes(_)) { (1e-3, "kB") } else { (1.0, "ms") };
    let cost = |option: usize| spent.site(site, option) * scale;
    let loss = |option: usize| 100.0 * known.squares.first(site, option).sqrt();
    let name = |option: usize| problem.options[option].name;
    if option > 0 {
        return format!("{}: {:.4} -> {:.4} {unit}, loses {:.3} %", name(option), cost(0), cost(option), loss(option));
    }
    let others = known.possible[site].iter().copied().filter(|&o| o > 0);
    let Some(other) = others.min_by(|&a, &b| cost(a).total_cmp(&cost(b))) else {
        return "stays float: nothing that is allowed can be done to it".to_string();
    };
    let gain = cost(0) - cost(other);
    if gain < SOME * whole * scale {
        let (from, to) = (cost(0), cost(other));
        return format!("stays float: {} gains nothing ({from:.4} -> {to:.4} {unit})", name(other));
    }
    format!("stays float: {} would lose {:.3} % for {gain:.4} {unit}", name(other), loss(other))
}
