//! The baseline: one option in all layers, and the most sensitive layers stay as they are, as many as the budget allows.

use mcc_ir::Result;

use super::problem::Assignment;
use super::{Goal, Searcher, Tried};

impl Searcher<'_> {
    /// The best of this kind, found by halving and measured; `None` if the option in all layers is beyond the limit.
    ///
    /// # Errors
    /// When a candidate cannot be made or measured.
    pub fn greedy(&mut self, goal: Goal, option: usize) -> Result<Option<Tried>> {
        let count = self.problem.sites.len();
        let mut order: Vec<usize> = (0..count).collect();
        let loss = |&site: &usize| self.known.squares.site(site, option);
        order.sort_by(|a, b| loss(b).total_cmp(&loss(a)));
        let (mut fits, mut does_not) = (None, count + 1);
        let (mut low, mut next) = (0, 0);
        while low < does_not {
            let mut assignment: Assignment = self.problem.uniform(option);
            order.iter().take(next).for_each(|&site| assignment[site] = 0);
            self.try_all(vec![assignment.clone()])?;
            let Some(tried) = self.tried.iter().find(|t| t.assignment == assignment).cloned() else { break };
            if goal.cost(&tried.figures) <= goal.limit() {
                (fits, low) = (Some(tried), next + 1);
            } else {
                does_not = next;
            }
            next = usize::midpoint(low, does_not);
        }
        Ok(fits)
    }
}
