//! Schedules of products and convolutions with weights in blocks (rows of a panel's width that are not zero), and when
//! they pay.
//!
//! Costs are in elements of a dense row. They were fitted on [`ZEN5`] with AVX-512 to the times of
//! single layers with zeros in whole blocks. To measure again: `mcc bench MODEL --profile` with `--sparse force` and
//! `--sparse off` (`docs/cost-model.md`).

use super::int8::by_signs;
use crate::machine::{Machine, ZEN5};
use crate::{Arch, Target};

/// Columns of a panel that blocks may have, the widest first.
pub const WIDTHS: [usize; 2] = [16, 8];

/// Bytes of left-hand rows that stay in the first two levels of caches while all panels pass: half as many again as the
/// first one holds.
fn cached_rows_bytes(machine: &Machine) -> u64 {
    machine.l1d_bytes * 3 / 2
}

/// Bytes of values fetched ahead of the block that is multiplied: each is read once a tile, the first time from memory.
pub const FETCH_AHEAD_BYTES: i64 = 4096;

/// Fewest rows of a tile: fewer would not hide what a block costs by itself.
const MIN_TILE_ROWS: u32 = 6;

/// Channels of a place in the window that a list names before those of the next place: a cache line.
pub const PLACE_CHANNELS: usize = ZEN5.line_floats() as usize;

/// Blocks of a round of the inner loop.
pub const UNROLL: u32 = 2;

/// Bytes within which windows that share a pointer lie from one another.
pub const FARTHEST: i32 = 1 << 24;

/// Lines and columns of a register tile of panels of so many vectors, of 8-bit integers or floats, for results of so many lines and columns (`None`:
/// known at run time): sums, a vector of values a column, and a register for what is spread. Rows of a matrix take
/// `row_bytes` each.
pub fn tile(target: &Target, int8: bool, vectors: u32, size: [Option<u32>; 2], row_bytes: Option<u64>) -> [u32; 2] {
    let registers = match (target.arch, target.vector_bytes) {
        (Arch::X86_64, _) if int8 && by_signs(target) => 12,
        (Arch::X86_64, 64) => 30,
        (Arch::X86_64, _) => 14,
        (Arch::Aarch64, _) => 28,
    };
    let sums = ((registers - vectors.min(4)) / vectors.max(1)).clamp(1, 28);
    let cached = cached_rows_bytes(target.machine);
    let cached =
        row_bytes.map_or(sums, |bytes| u32::try_from(cached / bytes.max(1)).unwrap_or(sums).max(MIN_TILE_ROWS));
    // Pieces of about equal size.
    let even = |n: Option<u32>, most: u32| n.filter(|&n| n > 0).map_or(most, |n| n.div_ceil(n.div_ceil(most)));
    let columns = even(size[1], sums.min(cached));
    [even(size[0].or(Some(1)), sums / columns), columns]
}

/// Whether windows of so many elements of an image, so many bytes apart, would all lie in few sets of the first-level
/// cache.
pub fn collide(target: &Target, bytes: i64, elements: i64) -> bool {
    let least = target.machine.l1d_way_bytes() / if elements > 1 { 4 } else { 2 };
    bytes > 0 && bytes % least == 0
}

/// Sets of sums that take turns, so that eight independent multiply-adds are under way.
pub fn sets(rows: u32, vectors: u32) -> u32 {
    8u32.div_ceil((rows * vectors).max(1)).min(4).next_power_of_two()
}

/// A matrix `[depth, columns]` of blocks, of elements or of four bytes each.
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
    /// Elements that are not zero, where they can be multiplied one by one.
    pub values: Option<u64>,
    /// Multiply-adds a row of the result by minimal filtering, if that is a way.
    pub filtered: Option<f64>,
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

/// What a column of a block costs, with loading the block's row number and its values.
const BLOCK_COLUMN_ELEMENTS: f64 = 1.2;
/// What beginning a panel costs, in blocks, or a column, in values.
const PANEL_START_BLOCKS: f64 = 4.0;
/// What a value of its own costs: a load of each vector that it is multiplied by.
const VALUE_ELEMENTS: f64 = 1.6;
/// How much longer multiply-adds of minimal filtering take than those of other dense kernels.
const FILTERING_SLOWDOWN: f64 = 4.0 / 3.0;
/// How much faster than a dense product a sparse one must be predicted to be.
const MIN_SPEEDUP: f64 = 1.1;

/// What the kinds of kernels take for a matrix.
pub fn costs(target: &Target, m: &Blocks) -> Costs {
    let lanes = u64::from(target.lanes());
    let panels = m.columns.div_ceil(m.width);
    // A block that is narrower than a register fills a part of it.
    let wide = m.width.max(lanes) as f64;
    let dense = (m.depth * m.columns.next_multiple_of(lanes.min(16))) as f64;
    Costs {
        dense: m.filtered.map_or(dense, |filtered| dense.min(filtered * FILTERING_SLOWDOWN)),
        blocks: (m.blocks as f64 * BLOCK_COLUMN_ELEMENTS + panels as f64 * PANEL_START_BLOCKS) * wide,
        values: m
            .values
            .map_or(f64::INFINITY, |values| values as f64 * VALUE_ELEMENTS + m.columns as f64 * PANEL_START_BLOCKS),
    }
}

impl Costs {
    /// Whether blocks are the best form.
    pub fn pays(&self) -> bool {
        self.blocks * MIN_SPEEDUP < self.dense && self.blocks <= self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_pay_where_they_are_full_and_few() {
        let target = Target::new("x86_64-unknown-linux-gnu", Some("x86-64-v4")).unwrap();
        let of = |width: u64, blocks: u64, values| {
            costs(&target, &Blocks { depth: 384, columns: 1536, width, blocks, values: Some(values), filtered: None })
                .pays()
        };
        let all = 384 * 1536 / 16;
        assert!(of(16, all / 5, all / 5 * 16));
        assert!(!of(16, all * 9 / 10, all / 10 * 9 * 16), "few zeros");
        assert!(!of(16, all / 2, all / 8 * 16), "half-empty blocks");
        assert!(!of(8, all, all / 2 * 16), "half a register");
        let of = |vectors, lines, columns, bytes| tile(&target, false, vectors, [lines, columns], bytes);
        assert_eq!(of(1, Some(7), Some(7), None), [4, 7]);
        assert_eq!(of(1, Some(56), Some(56), None), [1, 28]);
        assert_eq!(of(1, Some(1), None, Some(1536)), [1, 28]);
        assert_eq!(of(1, Some(1), Some(197), Some(6144)), [1, 12]);
        assert_eq!(of(1, None, Some(10), None), [1, 10]);
        assert!([(4096, 1), (1024, 9)].iter().all(|&(bytes, elements)| collide(&target, bytes, elements)));
        assert!(![(1024, 1), (1088, 9)].iter().any(|&(bytes, elements)| collide(&target, bytes, elements)));
        assert_eq!((sets(6, 1), sets(3, 1), sets(24, 1)), (2, 4, 1));
    }
}
