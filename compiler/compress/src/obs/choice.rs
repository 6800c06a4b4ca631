//! Chooses the weights that are removed.

use super::Pattern;
use crate::curvature::{Inverse, ROWS};
use crate::matrix::Matrix;
use crate::sweep::Decide;

/// Chooses in a sweep over some rows.
pub struct Choice<'c> {
    pattern: &'c Pattern<'c>,
    columns: usize,
    inverse: &'c Inverse,
    /// The position of the first row's first weight in the layer.
    first: usize,
    /// Whether weights of the current block of columns stay, a row after the other.
    stays: Vec<bool>,
    start: usize,
    width: usize,
    /// Blocks that were seen and removed, so that the share holds over all columns.
    seen: usize,
    removed: usize,
}

impl<'c> Choice<'c> {
    /// For rows of `columns` that begin at position `first` of the layer.
    pub fn new(pattern: &'c Pattern<'c>, columns: usize, inverse: &'c Inverse, first: usize) -> Choice<'c> {
        Choice { pattern, columns, inverse, first, stays: Vec::new(), start: 0, width: 0, seen: 0, removed: 0 }
    }

    /// Columns that are decided about together.
    pub fn unit(&self) -> usize {
        match *self.pattern {
            Pattern::Blocks { columns, .. } => columns,
            Pattern::Few { of, .. } => of,
            Pattern::Given(_) => 1,
        }
    }

    /// What removing some consecutive weights costs, which the columns after them make up for.
    fn cost(&self, weights: &mut [f32], column: usize) -> f64 {
        let mut cost = 0.0;
        for i in 0..weights.len() {
            let factor = &self.inverse.row(column + i)[..weights.len() - i];
            let error = weights[i] / factor[0];
            cost += f64::from(error).powi(2);
            weights[i..].iter_mut().zip(factor).for_each(|(w, u)| *w -= error * u);
        }
        cost
    }

    /// The weights of `weights` that stay if those in `removed` (bits) go, and what that costs. The weights that stay
    /// make up for those before them.
    fn cost_of(&self, weights: &[f32], column: usize, removed: u32) -> f64 {
        let mut weights = weights.to_vec();
        let mut cost = 0.0;
        for i in (0..weights.len()).filter(|i| removed >> i & 1 == 1) {
            let factor = &self.inverse.row(column + i)[..weights.len() - i];
            let error = weights[i] / factor[0];
            cost += f64::from(error).powi(2);
            weights[i..].iter_mut().zip(factor).for_each(|(w, u)| *w -= error * u);
        }
        cost
    }

    fn choose_blocks(&mut self, rows: &[f32], height: usize, length: usize, share: f64) {
        let count = rows.len() / self.columns;
        let mut blocks = Vec::new();
        for top in (0..count).step_by(height) {
            for left in (0..self.width).step_by(length) {
                let length = length.min(self.width - left);
                let at = self.start + left;
                let cost: f64 = (top..count.min(top + height))
                    .map(|r| self.cost(&mut rows[r * self.columns + at..][..length].to_vec(), at))
                    .sum();
                blocks.push((cost, top, left));
            }
        }
        self.seen += blocks.len();
        let wanted = ((self.seen as f64 * share).round() as usize).saturating_sub(self.removed).min(blocks.len());
        self.removed += wanted;
        blocks.sort_by(|a, b| a.0.total_cmp(&b.0));
        for &(_, top, left) in &blocks[..wanted] {
            for r in top..count.min(top + height) {
                let length = length.min(self.width - left);
                self.stays[r * self.width + left..][..length].fill(false);
            }
        }
    }

    fn choose_few(&mut self, row: usize, column: usize, weights: &[f32], keep: usize) {
        let (least, removed) = ways(weights.len(), weights.len().saturating_sub(keep))
            .map(|removed| (self.cost_of(weights, column, removed), removed))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap_or_default();
        debug_assert!(least.is_finite() || !weights.iter().all(|w| w.is_finite()));
        let at = row * self.width + column - self.start;
        self.stays[at..at + weights.len()].iter_mut().enumerate().for_each(|(i, stays)| *stays = removed >> i & 1 == 0);
    }
}

/// All sets of `count` of `of` bits.
fn ways(of: usize, count: usize) -> impl Iterator<Item = u32> {
    (0..1u32 << of).filter(move |set| set.count_ones() as usize == count)
}

impl Decide for Choice<'_> {
    fn block(&mut self, rows: &[f32], start: usize, end: usize) {
        (self.start, self.width) = (start, end - start);
        self.stays = vec![true; rows.len() / self.columns * self.width];
        match *self.pattern {
            Pattern::Blocks { rows: height, columns, share } => self.choose_blocks(rows, height, columns, share),
            Pattern::Given(kept) => {
                for (r, stays) in self.stays.chunks_mut(end - start).enumerate() {
                    let at = self.first + r * self.columns;
                    stays.copy_from_slice(&kept[at + start..at + end]);
                }
            }
            Pattern::Few { .. } => {}
        }
    }

    fn value(&mut self, row: usize, column: usize, weights: &[f32]) -> f32 {
        if let Pattern::Few { keep, of } = *self.pattern
            && column.is_multiple_of(of)
        {
            let group = of.min(self.columns - column);
            self.choose_few(row, column, &weights[..group], keep);
        }
        if self.stays[row * self.width + column - self.start] { weights[0] } else { 0.0 }
    }
}

/// The weights without the smallest ones, in a pattern, within each group of [`ROWS`] rows.
pub fn smallest(weights: &Matrix, pattern: &Pattern<'_>) -> Vec<f32> {
    let mut data = weights.data.clone();
    for (chunk, rows) in data.chunks_mut(ROWS * weights.columns).enumerate() {
        match *pattern {
            Pattern::Blocks { rows: height, columns, share } => {
                without_blocks(rows, weights.columns, [height, columns], share)
            }
            Pattern::Few { keep, of } => rows.chunks_mut(weights.columns).for_each(|row| {
                row.chunks_mut(of).for_each(|group| {
                    let mut order: Vec<usize> = (0..group.len()).collect();
                    order.sort_by(|&a, &b| group[b].abs().total_cmp(&group[a].abs()));
                    order.iter().skip(keep).for_each(|&i| group[i] = 0.0);
                });
            }),
            Pattern::Given(kept) => {
                let kept = &kept[chunk * ROWS * weights.columns..];
                rows.iter_mut().zip(kept).filter(|(_, kept)| !**kept).for_each(|(w, _)| *w = 0.0);
            }
        }
    }
    data
}

fn without_blocks(rows: &mut [f32], columns: usize, [height, length]: [usize; 2], share: f64) {
    let count = rows.len() / columns;
    let mut blocks = Vec::new();
    for top in (0..count).step_by(height) {
        for left in (0..columns).step_by(length) {
            let right = columns.min(left + length);
            let block = (top..count.min(top + height)).flat_map(|r| &rows[r * columns + left..r * columns + right]);
            blocks.push((block.map(|&w| f64::from(w).powi(2)).sum::<f64>(), top, left));
        }
    }
    blocks.sort_by(|a, b| a.0.total_cmp(&b.0));
    let wanted = (blocks.len() as f64 * share).round() as usize;
    for &(_, top, left) in &blocks[..wanted] {
        let right = columns.min(left + length);
        (top..count.min(top + height)).for_each(|r| rows[r * columns + left..r * columns + right].fill(0.0));
    }
}
