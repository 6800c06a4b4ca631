//! Products of states with codes, which are decoded in registers, for a few sequences at once.

use super::{By, Operands, Products};
use crate::kernels::lowbit::Weights;
use crate::kernels::support::emit::Emit;
use crate::kir::{Bin, Builder, Val};
use mcc_ir::{Cell, CellSpec, Dim, LowBit, Result};
use mcc_targets::schedule::lowbit::SEQUENCES_AT_ONCE;

impl<'a, 'b> Products<'a, 'b> {
    /// The products with codes: their columns are rounded up to whole groups of columns. `None` where extents are not
    /// known.
    pub(super) fn coded(
        e: &'b Emit<'a>,
        spec: &CellSpec,
        coded: LowBit,
        [batch, width, hidden]: [&'b Dim; 3],
    ) -> Result<Option<Self>> {
        let (Some(columns), Some(depth), Some(first)) =
            (width.as_const(), hidden.as_const(), Operands::of(spec).parameters)
        else {
            return Ok(None);
        };
        let weights = Weights::of_operands(e.request, e, coded, [depth, columns], [1, first, first + 1])?;
        let panels = columns.div_euclid(i64::from(weights.panel)) + i64::from(columns % i64::from(weights.panel) != 0);
        // Two vectors hide latency, if there is no panel without a second.
        let panel = if weights.panel == weights.lanes && panels % 2 == 0 { 2 * weights.panel } else { weights.panel };
        let wide = i64::from(panel);
        let whole = |columns: i64| (columns + wide - 1) / wide * wide;
        let resets = spec.cell == Cell::Gru { linear_before_reset: false };
        let early = if resets { 2 * depth } else { columns };
        let late_panel = if resets { early / wide } else { 0 };
        let late_columns = resets.then(|| Dim::from(whole(columns) - late_panel * wide));
        let early_columns = Dim::from(whole(early));
        let by = By::Codes(weights);
        Ok(Some(Products { e, by, batch, hidden, width, panel, early_columns, late_columns, late_panel }))
    }

    /// Multiplies rows of states, starting at `left`, by whole groups of columns of codes, starting at group `first`.
    pub(super) fn multiply_codes(
        &self,
        k: &mut Builder,
        weights: &Weights<'a, 'b>,
        left: Val,
        columns: &Dim,
        first: i64,
        sink: Val,
    ) {
        let wide = i64::from(self.panel);
        let groups = columns.as_const().unwrap_or(0) / wide;
        let (zero, count, batch) = (k.int(0), k.int(groups), k.dim(self.batch));
        let most = k.int(i64::from(SEQUENCES_AT_ONCE));
        let fours = k.bin(Bin::UDiv, batch, most);
        let fours = k.mul_int(fours, i64::from(SEQUENCES_AT_ONCE));
        k.for_each(zero, count, 1, |k, group| {
            let at = k.add_int(group, first);
            let of_group = weights.group(k, at, self.panel / weights.lanes, self.panel);
            let some = |k: &mut Builder, sequence: Val, sequences: u32| {
                let row_bytes = 4 * weights.depth;
                let start = k.mul_int(sequence, row_bytes);
                let start = k.add(left, start);
                let rows: Vec<Val> = (0..sequences).map(|n| k.add_int(start, i64::from(n) * row_bytes)).collect();
                let sums = weights.sums(k, &of_group, &rows);
                let to = k.mul_int(sequence, 4 * groups * wide);
                let within = k.mul_int(group, 4 * wide);
                let to = k.add(to, within);
                let to = k.add(sink, to);
                for (n, sums) in sums.chunks((self.panel / weights.lanes) as usize).enumerate() {
                    for (v, &sum) in sums.iter().enumerate() {
                        let offset = n as i64 * 4 * groups * wide + v as i64 * 4 * i64::from(weights.lanes);
                        let to = k.at(to, offset as i32);
                        k.store(to, sum);
                    }
                }
            };
            k.for_each(zero, fours, SEQUENCES_AT_ONCE.into(), |k, sequence| some(k, sequence, SEQUENCES_AT_ONCE));
            k.for_each(fours, batch, 1, |k, sequence| some(k, sequence, 1));
        });
    }
}
