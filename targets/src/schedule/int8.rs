//! Schedules of contractions of 8-bit integers, as data and pure functions of shape and target.
//!
//! A step loads one vector per vector of columns and broadcasts four bytes per row; all its multiply-adds share these.
//! Sums, the columns of a step and one broadcast must fit the registers.
//!
//! Tiles follow from the registers. Bounds on rows and bytes were fitted on [`ZEN5`](crate::machine::ZEN5) with AVX-512
//! VNNI to the times of single layers of int8 models. To measure again: `mcc bench MODEL --tune choices.json` times the
//! tiles that the knobs `tile_rows` and `tile_vectors` offer, `--profile` a layer with and without a bound
//! (`docs/cost-model.md`).

use super::{Tile, products};
use crate::choices::{Knob, Problem};
use crate::{Arch, Config, Target};

/// One row per family and vector width. The row for 256 bits is for x86-64 with VNNI.
const TILES: &[(Arch, u32, &[Tile])] = &[
    (Arch::X86_64, 64, &[tile(6, 4), tile(8, 3), tile(10, 2), tile(12, 1)]),
    (Arch::X86_64, 32, &[tile(6, 2), tile(10, 1)]),
    // Products by widening, which needs extra registers.
    (Arch::X86_64, 16, &[tile(2, 2), tile(4, 1)]),
    // A broadcast is a lane spread by the units that multiply: the more columns share it, the better.
    (Arch::Aarch64, 16, &[tile(5, 4), tile(6, 3), tile(8, 2), tile(12, 1)]),
];

/// Tiles without VNNI: magnitudes and signs of a row's bytes take two registers, and every product needs a temporary.
const TILES_BY_SIGNS: &[Tile] = &[tile(5, 2), tile(11, 1)];

pub(super) const SMALLEST_TILE: &[Tile] = &[tile(1, 1)];

pub(super) const fn tile(rows: u32, vectors: u32) -> Tile {
    Tile { rows, vectors, unroll: 4 }
}

fn tiles(target: &Target) -> &'static [Tile] {
    if target.vector_bytes == 32 && by_signs(target) {
        return TILES_BY_SIGNS;
    }
    let of_target = |t: &&(Arch, u32, &'static [Tile])| t.0 == target.arch && t.1 == target.vector_bytes;
    TILES.iter().find(of_target).map_or(SMALLEST_TILE, |t| t.2)
}

/// Whether byte products are computed from magnitudes and signs, which need extra registers.
pub(crate) fn by_signs(target: &Target) -> bool {
    target.arch == Arch::X86_64 && !target.has_byte_dot()
}

/// Whether byte products are at least as fast as float products. With AVX2 but no VNNI they take three instructions and
/// one for signs, two of which use the multiply-add units, in place of four multiply-adds.
pub fn multiplies_int8(target: &Target) -> bool {
    target.has_byte_dot() || target.arch == Arch::X86_64 && target.vector_bytes > 16
}

/// Whether products need signed data: `sdot` does, and on x86-64 without VNNI the products are of magnitudes. VNNI
/// needs unsigned data.
pub fn takes_signed(target: &Target) -> bool {
    target.arch == Arch::Aarch64 || !target.has_byte_dot()
}

/// The register tile of `vectors` vectors for a number of rows, if known.
pub fn row_tile(config: &Config, problem: Problem<'_>, vectors: u32, rows: Option<i64>) -> Tile {
    let Some(&tile) = tiles(&config.target).iter().find(|t| t.vectors == vectors) else {
        return Tile { rows: 1, vectors, unroll: 1 };
    };
    let rows = rows.and_then(|r| u32::try_from(r).ok()).filter(|&r| r > 0);
    // Tiles of about equal size.
    let even = |most: u32| rows.map_or(most, |rows| rows.div_ceil(rows.div_ceil(most)));
    // Products of matrices take two rows.
    let pairs = if config.target.has_matrix_dot() { 2 } else { 1 };
    let size = |most: u32| i64::from(even(most).next_multiple_of(pairs));
    let candidates: Vec<i64> = (tile.rows.div_ceil(2)..=tile.rows).map(size).collect();
    Tile { rows: config.choose(Knob::TileRows, problem, size(tile.rows), &candidates) as u32, ..tile }
}

/// Rows per block: a multiple of the tile's, since only the last block may end in a smaller tile.
pub fn row_block(target: &Target, tile: Tile, row_bytes: i64) -> i64 {
    let rows = i64::from(tile.rows);
    (products::cached_rows_bytes(target) / row_bytes.max(1) / rows).max(1) * rows
}

/// Bytes of a left operand that stay in the second-level cache while decoded weights pass: half of it.
pub fn written_out_block_bytes(target: &Target) -> i64 {
    target.machine.l2_sixteenths(8) as i64
}

/// Rows up to which bitmask weights are multiplied in one tile only.
const BITMASK_MAX_FEW_ROWS: i64 = 6;

/// Rows from which expanding bitmask weights costs little compared with the products.
const BITMASK_MIN_MANY_ROWS: i64 = 32;

/// Whether bitmask weights cost little time, for a number of rows, if known. With one instruction per vector, expanding
/// them in the first tile of rows costs as much as the products of about three rows; with about twenty, as much as
/// those of a tile. That is little with many rows, and with few it is less than reading dense weights from memory. The
/// result is the same for all targets that expand bytes in registers, so that their code shares the weights.
pub fn bitmask_is_free(target: &Target, rows: Option<i64>) -> bool {
    target.spreads_bytes() && rows.is_none_or(|r| !(BITMASK_MAX_FEW_ROWS + 1..BITMASK_MIN_MANY_ROWS).contains(&r))
}

/// Columns per panel of weights with `columns` columns in total. Empty columns of the last panel are not computed.
pub fn panel_columns(config: &Config, problem: Problem<'_>, columns: u64) -> u64 {
    match config.target.arch {
        Arch::X86_64 => columns.next_power_of_two().clamp(4, products::PANEL_COLUMNS),
        // All levels have the same vector width: a panel is a tile.
        Arch::Aarch64 => {
            let lanes = u64::from(config.target.lanes());
            let least = |v: &u64| columns.div_ceil(v * lanes);
            lanes * chosen(config, problem, &|_| true, &least, columns.div_ceil(lanes))
        }
    }
}

/// Vectors of `lanes` columns in a tile over `columns` columns in panels of `panel`: whole panels, or part of one.
pub fn tile_vectors(config: &Config, problem: Problem<'_>, lanes: u32, panel: u32, columns: u64) -> u32 {
    let (in_panel, lanes) = (u64::from(panel / lanes), u64::from(lanes));
    if config.target.arch == Arch::Aarch64 {
        // Operands that are pairs of rows, and interleaved weights, leave fewer registers for sums.
        let whole = !config.target.has_matrix_dot() || !in_panel.is_multiple_of(4);
        return if whole { in_panel } else { in_panel / 2 } as u32;
    }
    let fits = |v: u64| v.is_multiple_of(in_panel) || in_panel.is_multiple_of(v);
    chosen(config, problem, &fits, &|v| columns.div_ceil(v * lanes), columns.div_ceil(lanes)) as u32
}

/// Of the tiles that fit, the one with the fewest iterations over all columns, and among these the one with the fewest
/// vectors.
fn chosen(
    config: &Config,
    problem: Problem<'_>,
    fits: &dyn Fn(u64) -> bool,
    rounds: &dyn Fn(&u64) -> u64,
    most: u64,
) -> u64 {
    let all: Vec<u64> = tiles(&config.target).iter().map(|t| u64::from(t.vectors)).filter(|&v| fits(v)).collect();
    let default = all.iter().copied().min_by_key(|v| (rounds(v), *v)).unwrap_or(1);
    let candidates: Vec<i64> = all.iter().filter(|v| **v <= most).map(|&v| v as i64).collect();
    config.choose(Knob::TileVectors, problem, default as i64, &candidates) as u64
}

/// Maximum columns that a depthwise convolution computes at once; more only makes the code larger.
const MAX_DEPTHWISE_COLUMNS: i64 = 12;

/// Depthwise filters are stored in multiples of this many, the lanes of the widest vectors, for all targets.
pub const DEPTHWISE_LANES: usize = 16;

/// Minimum contracted elements and columns; fewer leave most of a step or a vector empty, and float products are as
/// fast.
pub const MIN_EXTENT: usize = 4;

/// Words per iteration of the loop that expands bitmask weights, if a word takes one instruction.
pub const BITMASK_UNROLL: u32 = 4;

/// Output rows and columns that a depthwise convolution of bytes computes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepthwiseTile {
    /// Rows: the windows that four rows of the input hold without another step, two at most.
    pub rows: i64,
    /// Columns.
    pub columns: i64,
}

/// The tile for a `window` of rows and columns at a `stride` of rows, which are adjacent if it is `dense`, for results
/// with a `width`, if known. Sums, a step's weights and one vector of the input must fit the registers.
pub fn depthwise_tile(
    target: &Target,
    window: [i64; 2],
    stride: i64,
    dense: bool,
    width: Option<u64>,
) -> DepthwiseTile {
    let registers = i64::from(target.vector_registers());
    let quads = |rows: i64| (rows + 3) / 4;
    let most = |rows: i64| (registers - 5 - rows * window[1]) / rows;
    // The second row's window begins `stride` rows below the first.
    let two = dense && quads(stride % 4 + window[0]) == quads(window[0]) && most(2) >= 3;
    let rows = if two { 2 } else { 1 };
    let most = most(rows).clamp(2, MAX_DEPTHWISE_COLUMNS);
    let width = width.and_then(|w| i64::try_from(w).ok()).filter(|&w| w > 0).unwrap_or(most);
    // The fewest iterations, then the smallest tile that needs no more.
    let rounds = (width + most - 1) / most;
    DepthwiseTile { rows, columns: (width + rounds - 1) / rounds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_leave_little_empty() {
        let mut config = Config::new("x86_64-unknown-linux-gnu", Some("x86-64-v4")).unwrap();
        config.target.vector_bytes = 64;
        let of = |n| tile_vectors(&config, Problem::default(), 16, 16, n);
        assert_eq!((of(1), of(17), of(48), of(64), of(96), of(200), of(1000)), (1, 2, 3, 4, 3, 4, 4));
        let arm = Config::new("aarch64-linux-android", None).unwrap();
        let of = |n| panel_columns(&arm, Problem::default(), n);
        assert_eq!((of(1), of(6), of(12), of(16), of(24), of(1000)), (4, 8, 12, 16, 12, 16));
    }

    #[test]
    fn panels_are_the_same_for_all_levels() {
        for columns in [1, 5, 9, 34, 1000] {
            let panel = |cpu| {
                let config = Config::new("x86_64-unknown-linux-gnu", Some(cpu)).unwrap();
                let panel = panel_columns(&config, Problem::default(), columns) as u32;
                let lanes = (config.target.vector_bytes / 4).min(panel);
                let vectors = tile_vectors(&config, Problem::default(), lanes, panel, columns);
                let width = vectors * lanes;
                assert!(width.is_multiple_of(panel) || panel.is_multiple_of(width), "{cpu}: {width} of {panel}");
                panel
            };
            let panels = ["x86-64-v2", "x86-64-v3", "x86-64-v4", "icelake-server"].map(panel);
            assert!(panels.iter().all(|p| *p == panels[0]), "{columns}: {panels:?}");
        }
    }

    #[test]
    fn two_rows_where_a_step_has_room() {
        let mut config = Config::new("x86_64-unknown-linux-gnu", Some("x86-64-v4")).unwrap();
        config.target.vector_bytes = 64;
        let of = |window, stride, dense, width| {
            let tile = depthwise_tile(&config.target, window, stride, dense, width);
            (tile.rows, tile.columns)
        };
        assert_eq!(of([3, 3], 1, true, Some(28)), (2, 10));
        assert_eq!(of([3, 3], 2, true, Some(28)), (1, 10));
        assert_eq!(of([5, 5], 2, true, None), (2, 8));
        assert_eq!(of([3, 3], 1, false, Some(7)), (1, 7));
        assert_eq!(of([4, 4], 1, true, Some(7)), (1, 7));
        config.target.vector_bytes = 32;
        assert_eq!(depthwise_tile(&config.target, [5, 5], 1, true, None).rows, 1);
    }

    #[test]
    fn registers_suffice() {
        let config = Config::new("x86_64-unknown-linux-gnu", None).unwrap();
        for (arch, bytes, tiles) in TILES {
            let registers = if *arch == Arch::Aarch64 || *bytes == 64 { 32 } else { 16 };
            for t in *tiles {
                // On Arm a vector holds a row's four broadcasts.
                let left = if *arch == Arch::Aarch64 { t.rows + 1 } else { 1 };
                assert!(t.rows * t.vectors + t.vectors + left <= registers, "{t:?}");
                assert_eq!(row_block(&config.target, *t, 1000) % i64::from(t.rows), 0);
            }
        }
        for t in TILES_BY_SIGNS {
            assert!(t.rows * t.vectors + t.vectors + 3 <= 16, "{t:?}");
        }
    }
}
