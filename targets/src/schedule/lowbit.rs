//! Schedules of contractions with low-bit weights (codes of up to 8 bits with scales, zero points or a table).
//!
//! Figures were fitted on [`ZEN5`](crate::machine::ZEN5) with AVX-512 VNNI to the times of single layers of int4 and
//! int8-weight models. To measure again: `mcc bench MODEL --profile` with the figure changed; no knob overrules these
//! yet (`docs/cost-model.md`).

use super::int8::{SMALLEST_TILE, tile};
use super::{Tile, products};
use crate::{Arch, Target};

/// Vectors of columns for a single row with 512-bit vectors: few sums leave registers for more columns.
const SINGLE_ROW_VECTORS: u32 = 4;

/// Fixed cost of a block of weights with rows split into two bytes, in elements of an `f32` product.
const BLOCK_OVERHEAD_ELEMENTS: f64 = 4.0;

/// Rows whose products take as long as decoding the weights.
const DECODE_ROWS: f64 = 2.0;

/// Rows up to which codes are decoded in registers for each row, if the target has no byte products.
pub const MAX_ROWS_IN_REGISTERS: i64 = 2;

/// Sequences of a recurrent layer that are multiplied at once by codes that are decoded in registers: as many as leave
/// registers for the codes.
pub const SEQUENCES_AT_ONCE: u32 = 4;

/// Maximum bytes of a row that count when rows are cut into blocks: decoding takes as long as about a hundred rows, so
/// blocks have at least that many even if they do not stay in the second-level cache.
pub const MAX_COUNTED_ROW_BYTES: i64 = 2600;

/// Minimum columns decoded together for `f32` products, if vectors alone would fill panels.
pub const MIN_GROUP_COLUMNS: u32 = 32;

/// Maximum iterations over a block that are unrolled instead of a loop.
pub const MAX_UNROLLED_ROUNDS: i64 = 4;

/// Elements of a row per iteration of the innermost loop.
pub const ROUND_ELEMENTS: i64 = 16;

/// Vectors of elements processed in turn when a row is split into bytes.
pub const SPLIT_VECTORS: i64 = 4;

/// Minimum tiles of rows for prefetching the next columns' codes.
pub const MIN_FETCHING_TILES: i64 = 8;

/// Numbers of elements that may share parameters, besides a whole column.
pub const BLOCK_SIZES: [usize; 5] = [256, 128, 64, 32, 16];

/// Minimum contracted elements, columns and weights for low-bit storage to pay.
pub const MIN_DEPTH: usize = 16;
/// See [`MIN_DEPTH`].
pub const MIN_COLUMNS: usize = 8;
/// See [`MIN_DEPTH`].
pub const MIN_WEIGHTS: usize = 2048;

/// Bytes of split rows that should stay in the second-level cache while the weights pass.
pub fn cached_rows_bytes(target: &Target) -> i64 {
    products::cached_rows_bytes(target)
}

/// Register tiles of low-bit weights with rows of two bytes per element: rows count twice, and separately scaled blocks
/// of weights take one more sum per row. First with one block per column, then with several.
const TILES: &[(Arch, u32, [Tile; 2])] = &[
    (Arch::X86_64, 64, [tile(6, 2), tile(4, 2)]),
    (Arch::X86_64, 32, [tile(2, 2), tile(2, 2)]),
    (Arch::Aarch64, 16, [tile(2, 4), tile(2, 2)]),
];

/// The register tile for low-bit weights, with `several` blocks per column or one, for a number of rows, if known.
pub fn row_tile(target: &Target, several: bool, rows: Option<i64>) -> Tile {
    let of_target = |t: &&(Arch, u32, [Tile; 2])| t.0 == target.arch && t.1 == target.vector_bytes;
    let mut tile = TILES.iter().find(of_target).map_or(SMALLEST_TILE[0], |t| t.2[usize::from(several)]);
    if let Some(rows) = rows.and_then(|r| u32::try_from(r).ok()).filter(|&r| r > 0) {
        // Tiles of about equal size; few rows leave registers for more columns.
        tile.rows = rows.div_ceil(rows.div_ceil(tile.rows));
        if tile.rows == 1 && target.vector_bytes == 64 {
            tile.vectors = SINGLE_ROW_VECTORS;
        }
    }
    tile
}

/// Predicted speed-up of rows split into two bytes over a product with `f32` weights, with blocks of `block` elements:
/// half of the instructions, and some more per block.
pub fn int8_split_gain(block: usize) -> f64 {
    let block = block as f64;
    block / (block / 2.0 + BLOCK_OVERHEAD_ELEMENTS)
}

/// Predicted speed-up of a product with `f32` weights over the same with weights that are decoded first, which takes as
/// long as multiplying some rows.
pub fn decoded_gain(rows: Option<i64>) -> f64 {
    rows.map_or(1.0, |r| r as f64 / (r as f64 + DECODE_ROWS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_suffice() {
        for (arch, bytes, tiles) in TILES {
            let registers = if *arch == Arch::Aarch64 || *bytes == 64 { 32 } else { 16 };
            for (t, totals) in tiles.iter().zip([0, 1]) {
                assert!((2 + totals) * t.rows * t.vectors + t.vectors < registers, "{t:?}");
            }
        }
    }
}
