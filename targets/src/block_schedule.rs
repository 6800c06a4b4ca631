//! Schedules of products with matrices of blocks (rows of a panel's width that are not zero), and when they pay.

use crate::{Arch, Target};

/// Columns of a panel that blocks may have, the widest first.
pub const WIDTHS: [usize; 2] = [16, 8];

/// Bytes of left-hand rows that stay in the first two levels of caches while all panels pass.
const ROW_BYTES: u64 = 72 << 10;

/// Blocks of a round of the inner loop.
pub const UNROLL: u32 = 2;

/// Rows of a register tile of so many vectors of columns, whose rows take `row_bytes` each: accumulators, a vector of
/// values a column, and where an instruction cannot spread an element, a register for that.
pub fn rows(target: &Target, vectors: u32, row_bytes: Option<u64>) -> u32 {
    let registers = match (target.arch, target.vector_bytes) {
        (Arch::X86_64, 64) => 28,
        (Arch::X86_64, _) => 14,
        (Arch::Aarch64, _) => 28,
    };
    let most = ((registers - vectors.min(4)) / vectors.max(1)).clamp(1, 24);
    let cached = row_bytes.map_or(8, |bytes| ROW_BYTES / bytes.max(1));
    // Fewer than some rows would not hide what a block costs by itself.
    most.min(u32::try_from(cached).unwrap_or(most).max(6))
}

/// Sets of sums that take turns, so that eight independent multiply-adds are under way.
pub fn sets(rows: u32, vectors: u32) -> u32 {
    8u32.div_ceil((rows * vectors).max(1)).min(4).next_power_of_two()
}

/// A matrix `[depth, columns]` of blocks.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    /// Its rows.
    pub depth: u64,
    /// Its columns.
    pub columns: u64,
    /// Columns of a panel.
    pub width: u64,
    /// Rows of panels that are not zero.
    pub blocks: u64,
    /// Elements that are not zero.
    pub values: u64,
}

/// Predicted times of a row of a product, in elements of a dense one.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// By the dense kernel.
    pub dense: f64,
    /// By blocks.
    pub blocks: f64,
    /// Value by value.
    pub values: f64,
}

/// Loading a block's row number and its values, beside the multiply-adds.
const BLOCK: f64 = 1.2;
/// Beginning a panel, in blocks, or a column, in values.
const PANEL: f64 = 4.0;
/// A value of its own costs a load of each vector that it meets.
const VALUE: f64 = 1.6;
/// How much faster than a dense product a sparse one must be predicted to be.
const BIAS: f64 = 1.1;

/// What the kinds of kernels take for a matrix.
pub fn costs(target: &Target, m: &Blocks) -> Costs {
    let lanes = u64::from(target.vector_bytes / 4);
    let panels = m.columns.div_ceil(m.width);
    // A block that is narrower than a register fills a part of it.
    let wide = m.width.max(lanes) as f64;
    Costs {
        dense: (m.depth * m.columns.next_multiple_of(lanes.min(16))) as f64,
        blocks: (m.blocks as f64 * BLOCK + panels as f64 * PANEL) * wide,
        values: m.values as f64 * VALUE + m.columns as f64 * PANEL,
    }
}

impl Costs {
    /// Whether blocks are the best form.
    pub fn pays(&self) -> bool {
        self.blocks * BIAS < self.dense && self.blocks <= self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_pay_where_they_are_full_and_few() {
        let target = Target::new("x86_64-unknown-linux-gnu", Some("x86-64-v4")).unwrap();
        let of = |width: u64, blocks: u64, values| {
            costs(&target, &Blocks { depth: 384, columns: 1536, width, blocks, values }).pays()
        };
        let all = 384 * 1536 / 16;
        assert!(of(16, all / 5, all / 5 * 16));
        assert!(!of(16, all * 9 / 10, all / 10 * 9 * 16), "few zeros");
        assert!(!of(16, all / 2, all / 8 * 16), "half-empty blocks");
        assert!(!of(8, all, all / 2 * 16), "half a register");
        assert!(rows(&target, 1, Some(1536)) > rows(&target, 1, Some(6144)));
        assert_eq!((sets(6, 1), sets(3, 1), sets(24, 1)), (2, 4, 1));
    }
}
