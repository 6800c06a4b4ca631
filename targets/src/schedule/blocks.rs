//! Schedules of products and convolutions with weights in blocks (rows of a panel's width that are not zero), and when
//! they pay.
//!
//! Costs are in elements of a dense row. They were fitted on [`ZEN5`] with AVX-512 to the times of
//! single layers with zeros in whole blocks. To measure again: `mcc bench MODEL --profile` with `--sparse force` and
//! `--sparse off` (`docs/cost-model.md`).

use super::int8::by_signs;
use crate::machine::{Machine, ZEN5};
use crate::{Arch, Target};

/// Possible panel widths of blocks in columns, the widest first.
pub const WIDTHS: [usize; 2] = [16, 8];

/// Bytes of left-hand rows that stay in the first two cache levels while all panels pass: one and a half times the
/// first level.
fn cached_rows_bytes(machine: &Machine) -> u64 {
    machine.l1d_bytes * 3 / 2
}

/// Bytes of values prefetched ahead of the current block; each value is read once per tile, the first time from memory.
pub const FETCH_AHEAD_BYTES: i64 = 4096;

/// Minimum rows of a tile: fewer would not hide the fixed cost of a block.
const MIN_TILE_ROWS: u32 = 6;

/// Channels of one window position that a list names before those of the next position: a cache line.
pub const PLACE_CHANNELS: usize = ZEN5.line_floats() as usize;

/// Blocks per iteration of the inner loop.
pub const UNROLL: u32 = 2;

/// Maximum distance in bytes between windows that share a pointer.
pub const FARTHEST: i32 = 1 << 24;

/// Lines and columns of a register tile for panels of `vectors` vectors, of 8-bit integers or floats, and results of
/// `size` lines and columns (`None`: known at run time). Registers hold sums, a vector of values per column, and a
/// broadcast element. Rows of a matrix have `row_bytes` each.
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
    // Tiles of about equal size.
    let even = |n: Option<u32>, most: u32| n.filter(|&n| n > 0).map_or(most, |n| n.div_ceil(n.div_ceil(most)));
    let columns = even(size[1], sums.min(cached));
    [even(size[0].or(Some(1)), sums / columns), columns]
}

/// Whether windows of an image, `bytes` apart and of so many `elements`, would all map to a few sets of the first-level
/// cache.
pub fn collide(target: &Target, bytes: i64, elements: i64) -> bool {
    let least = target.machine.l1d_way_bytes() / if elements > 1 { 4 } else { 2 };
    bytes > 0 && bytes % least == 0
}

/// Sets of sums used in turn, so that eight independent multiply-adds are in flight.
pub fn sets(rows: u32, vectors: u32) -> u32 {
    8u32.div_ceil((rows * vectors).max(1)).min(4).next_power_of_two()
}

/// A matrix `[depth, columns]` in blocks, of elements or of groups of four bytes.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    /// Rows.
    pub depth: u64,
    /// Columns.
    pub columns: u64,
    /// Columns per panel.
    pub width: u64,
    /// Panel rows that are not zero.
    pub blocks: u64,
    /// Non-zero elements, if they can be multiplied one by one.
    pub values: Option<u64>,
    /// Multiply-adds per row of the result with minimal filtering, if it applies.
    pub filtered: Option<f64>,
}

/// Predicted times of a row of a product, in elements of a dense row.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// With the dense kernel.
    pub dense: f64,
    /// With blocks.
    pub blocks: f64,
    /// With single values.
    pub values: f64,
}

/// Cost of a column of a block, including loading the block's row number and values.
const BLOCK_COLUMN_ELEMENTS: f64 = 1.2;
/// Fixed cost of a panel, in blocks, or of a column, in values.
const PANEL_START_BLOCKS: f64 = 4.0;
/// Cost of a single value: a load of each vector that it is multiplied by.
const VALUE_ELEMENTS: f64 = 1.6;
/// Ratio of the time of a multiply-add in minimal filtering to one in other dense kernels.
const FILTERING_SLOWDOWN: f64 = 4.0 / 3.0;
/// Minimum predicted speed-up of a sparse product over a dense one.
const MIN_SPEEDUP: f64 = 1.1;

/// Costs of a matrix with each kind of kernel.
pub fn costs(target: &Target, m: &Blocks) -> Costs {
    let lanes = u64::from(target.lanes());
    let panels = m.columns.div_ceil(m.width);
    // A block narrower than a register fills only a part of it.
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
