//! Schedules of float products and convolutions: register tiles and block sizes, as data and pure functions of type,
//! shape and target.
//!
//! A register tile is `rows` rows by `vectors` vectors of columns. The table comes from measuring the inner loop that
//! the emitter makes: larger tiles spill on x86-64, whose multiply-add overwrites one of its operands.
//!
//! Measured on [`ZEN5`](crate::machine::ZEN5), with 256-bit and 512-bit vectors; tiles of 128 bits, for Arm, are
//! reasoned, not measured. To measure again: `mcc bench MODEL --tune choices.json` times each knob's candidates
//! (`docs/cost-model.md`).

use super::Tile;
use crate::choices::{Knob, Problem};
use crate::{Arch, Config, Target};

/// One row per family, register width and number of vectors.
const TILES: &[(Arch, u32, Tile)] = &[
    (Arch::X86_64, 16, Tile { rows: 8, vectors: 1, unroll: 4 }),
    (Arch::X86_64, 16, Tile { rows: 5, vectors: 2, unroll: 4 }),
    (Arch::X86_64, 16, Tile { rows: 3, vectors: 3, unroll: 4 }),
    // Rows divide BLOCK_ROWS.
    (Arch::X86_64, 32, Tile { rows: 12, vectors: 1, unroll: 4 }),
    (Arch::X86_64, 32, Tile { rows: 6, vectors: 2, unroll: 4 }),
    // More rows need more pointers than there are registers for them.
    (Arch::X86_64, 64, Tile { rows: 8, vectors: 1, unroll: 4 }),
    (Arch::X86_64, 64, Tile { rows: 8, vectors: 2, unroll: 4 }),
    (Arch::X86_64, 64, Tile { rows: 8, vectors: 3, unroll: 4 }),
    (Arch::X86_64, 64, Tile { rows: 6, vectors: 4, unroll: 4 }),
    // Two vectors of contracted elements per iteration, since the loop's overhead is the same as for one.
    (Arch::Aarch64, 16, Tile { rows: 8, vectors: 1, unroll: 8 }),
    (Arch::Aarch64, 16, Tile { rows: 8, vectors: 2, unroll: 8 }),
    (Arch::Aarch64, 16, Tile { rows: 7, vectors: 3, unroll: 8 }),
];

/// Columns of a panel of weights for registers wider than 128 bits: the same for all widths, so that code for several
/// CPU levels shares the weights.
pub const PANEL_COLUMNS: u64 = 16;

/// Blocks of rows are multiples of this on registers wider than 128 bits, where the last columns use tiles with more
/// rows.
const BLOCK_ROWS: u64 = 24;

/// Bytes of left-hand rows that should stay in the second-level cache while the panels pass: a quarter of it.
pub(super) fn cached_rows_bytes(target: &Target) -> i64 {
    target.machine.l2_sixteenths(4) as i64
}

/// Assumed bytes per row for choosing the block of rows, if they are known at run time only.
pub const ASSUMED_ROW_BYTES: u64 = 4096;

/// Minimum tiles per block of rows with 128-bit vectors.
const MIN_BLOCK_TILES_128: u64 = 8;

/// Maximum bytes of weights to prefetch: a share of the second-level cache that grows with the vector width, half of it
/// for 512 bits.
fn fetch_ahead_bytes(target: &Target) -> i64 {
    target.machine.l2_sixteenths(8) as i64 / 64 * i64::from(target.vector_bytes)
}

/// Percentage of a single pixel's time below which computing several pixels as one pays.
const MERGE_MAX_PERCENT: u64 = 85;

/// Minimum elements of a line of a window for vectors along the line to pay, where a convolution of one image takes
/// lines of all channels as columns.
pub const MIN_LINE_ELEMENTS: i64 = 32;

/// Longer lines of a window are computed in a loop.
pub const MAX_UNROLLED_WINDOW: i64 = 9;

/// Minimum number of weights for which rounding to 16 bits pays.
pub const MIN_HALF_WEIGHTS: usize = 2048;

/// Maximum bytes of weights that are copied for one of several users.
pub const MAX_COPIED_WEIGHTS_BYTES: usize = 64 << 10;

/// The number of neighbouring pixels of a row that a convolution with `out` output channels should compute as the
/// channels of one pixel; 1 for no merging. Filters of `columns` columns at `stride` grow by `stride` columns per
/// pixel, but fill vectors.
pub fn merged_pixels(config: &Config, problem: Problem<'_>, out: u64, columns: u64, stride: u64) -> u64 {
    let lanes = u64::from(config.target.lanes());
    // Time per pixel, in hundredths of a vector multiply-add.
    let cost = |f: u64| 100 * (columns + stride * (f - 1)) * (out * f).div_ceil(lanes) / f;
    let wide = lanes.max(PANEL_COLUMNS.min(2 * lanes));
    let fitting = || [2, 4, 8, 16].into_iter().filter(|f| out * f <= wide);
    let best = fitting().min_by_key(|&f| cost(f));
    let best = best.filter(|&f| 100 * cost(f) <= MERGE_MAX_PERCENT * cost(1)).unwrap_or(1);
    let candidates: Vec<i64> = fitting().chain([1]).map(|f| f as i64).collect();
    config.choose(Knob::MergedPixels, problem, best as i64, &candidates) as u64
}

/// The register tile for a number of vectors of columns.
pub fn tile(target: &Target, vectors: u32) -> Tile {
    let of_target = |t: &&(Arch, u32, Tile)| (t.0, t.1, t.2.vectors) == (target.arch, target.vector_bytes, vectors);
    TILES.iter().find(of_target).map_or(Tile { rows: 1, vectors, unroll: 1 }, |t| t.2)
}

/// Contracted elements below which storing a tile's sums takes so long compared with the products that smaller tiles
/// are better: the processor stores one while it computes the next.
const SHORT_DEPTH: u64 = 96;

/// The rows of the register tile for a contraction of full width over `depth` elements; `even`: all rows are one block,
/// so any number of rows fits.
pub fn tile_rows(config: &Config, problem: Problem<'_>, tile: Tile, depth: Option<u64>, even: bool) -> u32 {
    if config.target.vector_bytes == 16 {
        return tile.rows;
    }
    // One register holds a scalar of the left row, `vectors` registers the columns of a step.
    let most = (config.target.vector_registers() - 1 - tile.vectors) / tile.vectors;
    let fits = |r: &u32| even || BLOCK_ROWS.is_multiple_of(u64::from(*r));
    let candidates: Vec<i64> = (4..=most.min(16)).filter(fits).map(i64::from).collect();
    let short = config.target.vector_bytes == 64 && depth.is_some_and(|d| d < SHORT_DEPTH);
    let default = if short { tile.rows.min(16 / tile.vectors.next_power_of_two()).max(4) } else { tile.rows };
    config.choose(Knob::TileRows, problem, default.into(), &candidates) as u32
}

/// Maximum vectors of columns in a tile.
fn most_vectors(target: &Target) -> u64 {
    let of_target = |t: &&(Arch, u32, Tile)| (t.0, t.1) == (target.arch, target.vector_bytes);
    TILES.iter().filter(of_target).map(|t| u64::from(t.2.vectors)).max().unwrap_or(1)
}

/// `channels`, rounded up to a number that a layer computes without loss: whole registers, if it needs several.
pub fn whole_registers(channels: usize) -> usize {
    let unit = match channels {
        0..=3 => 1,
        4..=15 => 4,
        16..=47 => 8,
        _ => 16,
    };
    channels.next_multiple_of(unit)
}

/// Columns of a panel of weights with `columns` columns in total (`None`: known at run time), `lanes` per vector.
pub fn panel_columns(target: &Target, lanes: u64, columns: Option<u64>) -> u64 {
    if target.vector_bytes == 16 {
        return lanes * vectors_128(columns, lanes);
    }
    columns.map_or(PANEL_COLUMNS, |c| c.next_power_of_two().clamp(4, PANEL_COLUMNS))
}

/// Vectors of columns in a tile over panels of `panel` columns: whole panels.
pub fn packed_vectors(config: &Config, problem: Problem<'_>, lanes: u32, panel: u32, columns: Option<u64>) -> u32 {
    let in_panel = panel / lanes;
    match columns.map(|c| c.div_ceil(panel.into())) {
        Some(panels) if config.target.vector_bytes > 16 => {
            let most = (most_vectors(&config.target) / u64::from(in_panel)).max(1);
            let candidates: Vec<i64> = (1..=panels.min(most)).map(|n| i64::from(in_panel) * n as i64).collect();
            let default = in_panel * evenly(panels, most);
            config.choose(Knob::TileVectors, problem, default.into(), &candidates) as u32
        }
        _ => in_panel,
    }
}

/// Vectors of columns in a tile over rows of a matrix.
pub fn row_vectors(config: &Config, problem: Problem<'_>, lanes: u32, columns: Option<u64>) -> u32 {
    match columns.map(|c| c.div_ceil(lanes.into())) {
        Some(vectors) if config.target.vector_bytes > 16 => {
            let most = most_vectors(&config.target);
            let candidates: Vec<i64> = (1..=vectors.min(most)).map(|n| n as i64).collect();
            config.choose(Knob::TileVectors, problem, evenly(vectors, most).into(), &candidates) as u32
        }
        None if config.target.vector_bytes > 16 => 2,
        _ => vectors_128(columns, lanes.into()).min(2) as u32,
    }
}

/// The largest tile that divides the vectors, or the largest one if none does.
fn evenly(vectors: u64, most: u64) -> u32 {
    let even = (2..=most).rev().find(|&n| vectors.is_multiple_of(n));
    even.unwrap_or(most.min(vectors.max(1))) as u32
}

/// Vectors of 128 bits in a panel.
fn vectors_128(columns: Option<u64>, lanes: u64) -> u64 {
    let Some(columns) = columns else { return 2 };
    let filled = |vectors: u64| columns.div_ceil(vectors * lanes) * vectors;
    // Three vectors only if that leaves fewer empty columns: the tile of two is faster.
    match columns.div_ceil(lanes) {
        0 | 1 => 1,
        n if n <= 6 && filled(3) < filled(2) => 3,
        _ => 2,
    }
}

/// Rows per block, which passes over all panels before the next one; a multiple of the tile's rows.
pub fn row_block(config: &Config, problem: Problem<'_>, tile: Tile, row_bytes: u64, rows: Option<u64>) -> u64 {
    let unit = row_unit(&config.target, tile);
    let least = if config.target.vector_bytes > 16 { 1 } else { MIN_BLOCK_TILES_128 };
    let units = (cached_rows_bytes(&config.target) as u64 / row_bytes.max(1) / unit).max(least);
    // Blocks with more rows than there are would all be the same.
    let most = rows.map_or(u64::MAX, |rows| rows.div_ceil(unit));
    let candidates = [units / 4, units / 2, units * 2, units * 4].map(|n| (n.clamp(1, most.max(1)) * unit) as i64);
    let default = units.min(most.max(1)) * unit;
    config.choose(Knob::RowBlock, problem, default as i64, &candidates) as u64
}

/// Maximum bytes of weights to prefetch ahead of the tiles that need them: with those in use they must stay in the
/// second-level cache, of which wider vectors may use more.
pub fn ahead_bytes(config: &Config, problem: Problem<'_>) -> i64 {
    match config.choose(Knob::FetchAhead, problem, 1, &[0, 2]) {
        0 => 0,
        1 => fetch_ahead_bytes(&config.target),
        _ => i64::MAX,
    }
}

/// Blocks of rows are multiples of this.
pub fn row_unit(target: &Target, tile: Tile) -> u64 {
    if target.vector_bytes > 16 { BLOCK_ROWS } else { u64::from(tile.rows) }
}

/// Whether tiles of two sizes that differ by one are better for `count` rows than tiles of `size` rows and a remainder.
/// Any tile takes at least as long as one of four rows, since it reads as many weights; but code for a small remainder
/// is smaller.
pub fn spreads_rest(count: i64, size: i64) -> bool {
    let rest = count % size;
    count > size && rest > 0 && (4 - rest) * 20 > count
}

/// Columns of the output that a depthwise convolution computes at once, for rows of `width` columns.
pub fn depthwise_columns(config: &Config, problem: Problem<'_>, width: Option<u64>) -> u64 {
    let most = match config.target.arch {
        Arch::X86_64 => 8,
        Arch::Aarch64 => 10,
    };
    let Some(width) = width.filter(|&w| w > 0) else { return 8 };
    // The fewest iterations, then the smallest tile that needs no more.
    let even = |most: u64| width.div_ceil(width.div_ceil(most));
    let candidates = [2, 4, 6, 8, 12].map(|most| even(most) as i64);
    config.choose(Knob::DepthwiseColumns, problem, even(most) as i64, &candidates) as u64
}

/// Lines of the output that a depthwise convolution computes at once, given its columns and windows with `length`
/// columns: two if the registers hold their sums and both lines of weights.
pub fn depthwise_lines(target: &Target, columns: i64, length: i64) -> i64 {
    if 2 * (columns + length) < i64::from(target.vector_registers()) { 2 } else { 1 }
}

/// Factor for the bytes of a row that is computed in its reader's kernel, when rows are cut into blocks: the rows that
/// it is computed from pass through the second-level cache too.
pub const CHAINED_ROW_FACTOR: i64 = 2;

/// Bytes of a tensor from which writing and rereading it takes longer than computing it in parts in the second-level
/// cache: four such caches.
fn uncached_bytes(target: &Target) -> u64 {
    target.machine.l2_bytes * 4
}

/// Maximum multiply-adds per element for which a reader waits for memory; with more, computing takes longer, and
/// separate operations are as fast.
const MAX_CHAINED_COLUMNS: u64 = 32;

/// Whether an operation with a result of `bytes` should be computed in the kernel of its only reader, one block of rows
/// at a time, if each element is multiplied by so many `columns`.
pub fn chains(config: &Config, problem: Problem<'_>, bytes: Option<u64>, columns: Option<u64>) -> bool {
    let pays =
        bytes.is_some_and(|b| b > uncached_bytes(&config.target)) && columns.is_some_and(|c| c <= MAX_CHAINED_COLUMNS);
    config.choose(Knob::Chain, problem, pays.into(), &[0, 1]) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels() {
        let of = |cpu, n| panel_columns(&Target::new("x86_64-unknown-linux-gnu", Some(cpu)).unwrap(), 4, n);
        let narrow = [1, 4, 5, 8, 12, 16, 24, 64, 1000].map(|n| of("x86-64-v2", Some(n)) / 4);
        assert_eq!(narrow, [1, 1, 2, 2, 3, 2, 2, 2, 2]);
        assert_eq!(of("x86-64-v2", None), 8);
        assert_eq!([3, 7, 9, 1000].map(|n| of("x86-64-v3", Some(n))), [4, 8, 16, 16]);
    }

    #[test]
    fn what_has_to_be_fetched_again_is_not_stored() {
        let config = Config::new("x86_64-unknown-linux-gnu", None).unwrap();
        let pays = |bytes, columns| chains(&config, Problem::default(), bytes, Some(columns));
        assert_eq!([(1 << 20, 24), (9 << 20, 24), (9 << 20, 96)].map(|(b, c)| pays(Some(b), c)), [false, true, false]);
        assert!(!pays(None, 16));
    }

    #[test]
    fn narrow_filters_merge_pixels() {
        let config = Config::new("x86_64-unknown-linux-gnu", Some("x86-64-v4")).unwrap();
        let merged = |out, columns, stride| merged_pixels(&config, Problem::default(), out, columns, stride);
        assert_eq!([merged(16, 3, 1), merged(8, 39, 1), merged(1, 3, 1), merged(1, 256, 2)], [1, 2, 16, 16]);
        assert_eq!(merged(8, 3, 2), 2);
        assert_eq!((merged(8, 1, 1), merged(64, 3, 1)), (1, 1));
    }

    #[test]
    fn every_tile_is_in_the_table() {
        for cpu in crate::CPU_LEVELS {
            let triple =
                if cpu.arch == Arch::X86_64 { "x86_64-unknown-linux-gnu" } else { "aarch64-unknown-linux-gnu" };
            let config = Config::new(triple, Some(cpu.name)).unwrap();
            for columns in 1..200 {
                let lanes = config.target.vector_bytes / 4;
                let panel = panel_columns(&config.target, lanes.into(), Some(columns)) as u32;
                let lanes = lanes.min(panel);
                let none = Problem::default();
                for vectors in [
                    packed_vectors(&config, none, lanes, panel, Some(columns)),
                    row_vectors(&config, none, lanes, Some(columns)),
                ] {
                    let tile = tile(&config.target, vectors);
                    assert!(tile.rows > 1 && tile.vectors == vectors, "{} {columns}", cpu.name);
                    assert_eq!(row_block(&config, none, tile, 4096, None) % u64::from(tile.rows), 0);
                }
            }
            assert_eq!(depthwise_columns(&config, Problem::default(), Some(7)), 7);
            assert_eq!(depthwise_columns(&config, Problem::default(), Some(14)), 7);
            assert_eq!(depthwise_columns(&config, Problem::default(), Some(1)), 1);
        }
    }
}
