//! Schedules of contractions: register tiles and block sizes, as data and pure functions of type, shape and target.
//!
//! A register tile is `rows` rows by `vectors` vectors of columns. The rows below come from measuring the inner loop
//! that the emitter makes: larger tiles spill on x86-64, whose multiply-add overwrites one of its factors.

use crate::choices::{Point, Problem};
use crate::{Arch, Target, dot_schedule};

/// A register tile of a contraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows held in registers at once.
    pub rows: u32,
    /// Vectors of columns held in registers at once.
    pub vectors: u32,
    /// Steps of the contraction in one round of the inner loop.
    pub unroll: u32,
}

/// One row a family, register width and number of vectors.
const TILES: &[(Arch, u32, Tile)] = &[
    (Arch::X86_64, 16, Tile { rows: 8, vectors: 1, unroll: 4 }),
    (Arch::X86_64, 16, Tile { rows: 5, vectors: 2, unroll: 4 }),
    (Arch::X86_64, 16, Tile { rows: 3, vectors: 3, unroll: 4 }),
    // Rows divide BLOCK_ROWS.
    (Arch::X86_64, 32, Tile { rows: 12, vectors: 1, unroll: 4 }),
    (Arch::X86_64, 32, Tile { rows: 6, vectors: 2, unroll: 4 }),
    // More rows have more pointers than there are registers for them.
    (Arch::X86_64, 64, Tile { rows: 8, vectors: 1, unroll: 4 }),
    (Arch::X86_64, 64, Tile { rows: 8, vectors: 2, unroll: 4 }),
    (Arch::X86_64, 64, Tile { rows: 8, vectors: 3, unroll: 4 }),
    (Arch::X86_64, 64, Tile { rows: 6, vectors: 4, unroll: 4 }),
    // Two vectors of contracted elements a round: what counts the rounds is as much for one.
    (Arch::Aarch64, 16, Tile { rows: 8, vectors: 1, unroll: 8 }),
    (Arch::Aarch64, 16, Tile { rows: 8, vectors: 2, unroll: 8 }),
    (Arch::Aarch64, 16, Tile { rows: 7, vectors: 3, unroll: 8 }),
];

/// Columns of a panel of weights for registers wider than 128 bits: the same for all of them, so that code for several
/// CPU levels shares the weights.
const PANEL: u64 = 16;

/// What a block of rows is a multiple of on registers wider than 128 bits, where columns at the end go by tiles of more
/// rows.
const BLOCK_ROWS: u64 = 24;

/// Bytes of left-hand rows that should stay in the second-level cache while the panels pass.
const ROW_BLOCK_BYTES: u64 = 256 << 10;

const FILTERING_BLOCK: i64 = 384 << 10;

/// Nanoseconds of one thread's work below which another thread does not pay: waking it and waiting for it costs one or
/// two thousand.
pub const THREAD_NANOSECONDS: i64 = 8000;

/// Nanoseconds of a part of a kernel's work below which cutting it up further does not pay. There are several parts a
/// thread, so that one that was held up does not hold up the others.
pub const PART_NANOSECONDS: i64 = 4000;

/// Parts a thread.
pub const PARTS: i64 = 4;

/// Multiply-adds of `f32` that one thread can do in a nanosecond: two vectors a cycle; of 8-bit integers four times as many.
pub fn multiply_adds_a_nanosecond(target: &Target) -> i64 {
    i64::from(target.vector_bytes) * 3 / 2
}

/// Bytes that one thread reads or writes in a nanosecond, where they come from the caches.
pub const BYTES_A_NANOSECOND: i64 = 24;

/// How many neighbouring pixels of a row a convolution with `out` output channels should compute as the channels of one:
/// filters of `columns` columns at `stride` grow by `stride` columns a pixel, but fill vectors. 1: none are merged.
pub fn merged_pixels(target: &Target, problem: Problem<'_>, out: u64, columns: u64, stride: u64) -> u64 {
    let lanes = u64::from(target.vector_bytes / 4);
    // Time a pixel, in hundredths of a vector's multiply-add.
    let cost = |f: u64| 100 * (columns + stride * (f - 1)) * (out * f).div_ceil(lanes) / f;
    let wide = lanes.max(PANEL.min(2 * lanes));
    let fitting = || [2, 4, 8, 16].into_iter().filter(|f| out * f <= wide);
    let best = fitting().min_by_key(|&f| cost(f));
    let best = best.filter(|&f| 20 * cost(f) <= 17 * cost(1)).unwrap_or(1);
    let candidates: Vec<i64> = fitting().chain([1]).map(|f| f as i64).collect();
    target.choose(Point::MergedPixels, problem, best as i64, &candidates) as u64
}

/// What a weight costs to fetch, and an element to take to transformed space or back, in multiply-adds of full vectors.
const WEIGHT_COST: u64 = 36;
const TRANSFORM_COST: u64 = 4;
/// The same for the largest tile of an image, which has more terms and does not fit the registers.
const LARGEST_TRANSFORM_COST: u64 = 18;

/// What an element of transformed weights costs that is made at run time, and a weight that is decoded.
const FILTER_COST: u64 = 4;
const DECODE_COST: u64 = 3;

/// Multiplications of a tile along an axis by minimal filtering: more are for larger tiles.
const FILTERINGS: [u64; 3] = [4, 6, 8];

/// How many times the weights may be in transformed space: they have to be stored and loaded, too.
const MOST_GROWN: u64 = 8;

/// What the weights of a convolution by minimal filtering are in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterStorage {
    /// What the products need.
    Transformed,
    /// Themselves, or codes; they are transformed at run time.
    Plain,
}

/// A convolution with unit strides, lines first, then columns.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    /// Results.
    pub size: [u64; 2],
    /// Extents of the window: 1 along an axis, or both the same.
    pub kernel: [u64; 2],
    /// Elements from one that a window meets to the next.
    pub dilations: [u64; 2],
    /// Channels of the data.
    pub channels: u64,
    /// Channels of the results.
    pub out: u64,
}

impl Windows {
    /// Elements of a window.
    fn taps(&self) -> u64 {
        self.kernel[0] * self.kernel[1]
    }

    /// Results of a tile along both axes with so many multiplications along those that are filtered.
    fn tile(&self, multiplications: u64) -> Option<[u64; 2]> {
        let taps = self.kernel[0].max(self.kernel[1]);
        let results = (multiplications + 1).checked_sub(taps).filter(|&m| m > 1)?;
        let axes = self.kernel.iter().filter(|k| **k > 1).count() as u32;
        let grown = multiplications.pow(axes) <= MOST_GROWN * self.taps();
        grown.then(|| self.kernel.map(|k| if k > 1 { results } else { 1 }))
    }

    /// Whether there is a kernel of minimal filtering for so many channels.
    fn is_filterable(&self) -> bool {
        self.channels >= 16 && self.out >= 16 && self.lanes() >= 4
    }

    /// Lanes of vectors that divide both kinds of channels.
    fn lanes(&self) -> u64 {
        1 << (self.channels | self.out).trailing_zeros().min(4)
    }

    /// The cost by minimal filtering with tiles of so many results.
    fn filtering_cost(&self, tile: [u64; 2], stored: FilterStorage) -> u64 {
        let along = |a: usize| {
            let step = tile[a] * self.dilations[a];
            (self.size[a].div_ceil(step) * self.dilations[a], tile[a] + self.kernel[a] - 1)
        };
        let ((down, lines), (across, columns)) = (along(0), along(1));
        let (tiles, planes) = (down * across, lines * columns);
        let transform_cost = if planes > 36 { LARGEST_TRANSFORM_COST } else { TRANSFORM_COST };
        let transform = tiles * planes * (self.channels + self.out) * transform_cost * 16 / self.lanes();
        let weights = planes * self.channels * self.out;
        match stored {
            FilterStorage::Transformed => (tiles * weights + transform).max(weights * WEIGHT_COST),
            FilterStorage::Plain => (tiles + FILTER_COST) * weights + transform,
        }
    }

    /// The cost as it is defined.
    fn direct_cost(&self, stored: FilterStorage) -> u64 {
        let (weights, rows) = (self.taps() * self.channels * self.out, self.size[0] * self.size[1]);
        match stored {
            FilterStorage::Transformed => weights * rows.max(WEIGHT_COST),
            FilterStorage::Plain => weights * (rows + DECODE_COST),
        }
    }
}

/// Results of a tile along both axes with which minimal filtering is the fastest way of a convolution; none where the
/// definition is. The weights grow with the tile, the products shrink.
pub fn filtered(target: &Target, problem: Problem<'_>, windows: &Windows, stored: FilterStorage) -> Option<[u64; 2]> {
    if !windows.is_filterable() {
        return None;
    }
    // Rounding errors grow with the tile: the largest one has to be clearly faster.
    let cost = |n: u64, tile| windows.filtering_cost(tile, stored) * if n == 8 { 10 } else { 9 } / 9;
    let tiles = FILTERINGS.map(|n| windows.tile(n).map(|tile| (cost(n, tile), tile[0].max(tile[1]))));
    let best = tiles.into_iter().flatten().min().filter(|best| best.0 < windows.direct_cost(stored));
    let candidates: Vec<i64> = tiles.into_iter().flatten().map(|t| t.1 as i64).chain([0]).collect();
    let chosen = target.choose(Point::Filtering, problem, best.map_or(0, |best| best.1 as i64), &candidates);
    (chosen > 0).then(|| windows.kernel.map(|k| if k > 1 { chosen as u64 } else { 1 }))
}

/// What an element costs to move, in multiply-adds.
pub const MOVE_COST: u64 = 16;

/// How much cheaper a convolution is by minimal filtering than as it is defined, in multiply-adds.
pub fn gains(windows: &Windows) -> u64 {
    let stored = FilterStorage::Transformed;
    windows.direct_cost(stored).saturating_sub(products(windows, stored))
}

/// The cost of a convolution by the fastest way, in multiply-adds.
pub fn products(windows: &Windows, stored: FilterStorage) -> u64 {
    let tiles = FILTERINGS.iter().filter_map(|&n| windows.tile(n)).filter(|_| windows.is_filterable());
    tiles.map(|tile| windows.filtering_cost(tile, stored)).chain([windows.direct_cost(stored)]).min().unwrap_or(0)
}

/// Whether a convolution of bytes is clearly faster by minimal filtering of floats, whose weights stay codes: only where the
/// target has no instruction for products of bytes, with which they take two thirds of the time of floats.
pub fn filters_rather(target: &Target, windows: &Windows) -> bool {
    /// Quarters of the time that filtering may take at most: the data becomes floats for it.
    const CLEARLY: u64 = 3;
    let tiles = FILTERINGS.iter().filter_map(|&n| windows.tile(n)).filter(|_| windows.is_filterable());
    let filtered = tiles.map(|tile| windows.filtering_cost(tile, FilterStorage::Plain)).min();
    // A byte takes a quarter of a float's time to fetch.
    let rows = (windows.size[0] * windows.size[1]).max(WEIGHT_COST / 4);
    let bytes = windows.taps() * windows.channels * windows.out * rows * 2 / 3;
    !dot_schedule::has_dot(target) && filtered.is_some_and(|cost| cost * 4 < bytes * CLEARLY)
}

/// Bytes of transformed input that a block of a minimal-filtering convolution may take: they are to stay in the
/// second-level cache with the sums.
pub fn filtering_block(target: &Target, problem: Problem<'_>) -> i64 {
    target.choose(Point::FilteringBlock, problem, FILTERING_BLOCK >> 10, &[128, 256, 384, 640]) << 10
}

/// What is transformed at once of the weights of a convolution by minimal filtering that are so at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterPart {
    /// Output channels; none: all of everything, before anything else.
    pub columns: Option<i64>,
    /// Input channels.
    pub channels: i64,
}

/// Bytes of transformed weights that are made at once.
const WEIGHTS_AT_ONCE: i64 = 640 << 10;
const WEIGHTS_SLICE: i64 = 320 << 10;
/// Most of them where tuning may take all at once.
const MOST_AT_ONCE: i64 = 4 << 20;

/// Columns of weights that are transformed together.
const FILTER_COLUMNS: i64 = 32;

/// Bytes of transformed data that wait while the weights of all columns are transformed.
pub const WAITING_BLOCK: i64 = 1 << 20;

/// The parts of so many planes of `channels` by `out` weights of 32 bits: channels in multiples of `unit`, columns in panels of
/// `panel`.
pub fn filter_part(
    target: &Target,
    problem: Problem<'_>,
    planes: i64,
    [channels, out]: [i64; 2],
    [unit, panel]: [i64; 2],
) -> FilterPart {
    let column_bytes = 4 * planes * channels;
    let panels = |columns: i64| (columns / panel).max(1) * panel;
    let default = if column_bytes * out <= WEIGHTS_AT_ONCE { 0 } else { panels(FILTER_COLUMNS) };
    let all = (column_bytes * out <= MOST_AT_ONCE).then_some(0);
    let candidates: Vec<i64> = [16, 32, 64].into_iter().map(panels).filter(|&c| c <= out).chain(all).collect();
    let columns = target.choose(Point::FilterColumns, problem, default, &candidates);
    let fits = |parts: &i64| channels % (parts * unit) == 0 && column_bytes * columns / parts <= WEIGHTS_SLICE;
    let parts = if columns == 0 { 1 } else { (1..=channels / unit).find(fits).unwrap_or(1) };
    FilterPart { columns: (columns > 0).then_some(columns), channels: channels / parts }
}

/// The register tile for some vectors of columns.
pub fn tile(target: &Target, vectors: u32) -> Tile {
    let of_target = |t: &&(Arch, u32, Tile)| (t.0, t.1, t.2.vectors) == (target.arch, target.vector_bytes, vectors);
    TILES.iter().find(of_target).map_or(Tile { rows: 1, vectors, unroll: 1 }, |t| t.2)
}

/// Contracted elements below which storing a tile's sums takes so long beside the products that smaller tiles are
/// better: the processor stores one while it computes the next.
const SHORT: u64 = 96;

/// The rows of the register tile of a contraction's full width over `depth` elements; `even`: all rows are one block, so
/// that any number of rows fits.
pub fn tile_rows(target: &Target, problem: Problem<'_>, tile: Tile, depth: Option<u64>, even: bool) -> u32 {
    if target.vector_bytes == 16 {
        return tile.rows;
    }
    // One register holds a scalar of the left row, `vectors` the columns of a step.
    let most = (registers(target) - 1 - tile.vectors) / tile.vectors;
    let fits = |r: &u32| even || BLOCK_ROWS.is_multiple_of(u64::from(*r));
    let candidates: Vec<i64> = (4..=most.min(16)).filter(fits).map(i64::from).collect();
    let short = target.vector_bytes == 64 && depth.is_some_and(|d| d < SHORT);
    let default = if short { tile.rows.min(16 / tile.vectors.next_power_of_two()).max(4) } else { tile.rows };
    target.choose(Point::TileRows, problem, default.into(), &candidates) as u32
}

fn registers(target: &Target) -> u32 {
    if target.arch == Arch::Aarch64 || target.vector_bytes == 64 { 32 } else { 16 }
}

/// Most vectors of columns in a tile.
fn most_vectors(target: &Target) -> u64 {
    let of_target = |t: &&(Arch, u32, Tile)| (t.0, t.1) == (target.arch, target.vector_bytes);
    TILES.iter().filter(of_target).map(|t| u64::from(t.2.vectors)).max().unwrap_or(1)
}

/// Columns of a panel of weights with `columns` columns in all (`None`: known at run time), `lanes` in a vector.
pub fn panel_columns(target: &Target, lanes: u64, columns: Option<u64>) -> u64 {
    if target.vector_bytes == 16 {
        return lanes * vectors_128(columns, lanes);
    }
    columns.map_or(PANEL, |c| c.next_power_of_two().clamp(4, PANEL))
}

/// Vectors of columns in a tile over panels of `panel` columns: whole panels.
pub fn packed_vectors(target: &Target, problem: Problem<'_>, lanes: u32, panel: u32, columns: Option<u64>) -> u32 {
    let in_panel = panel / lanes;
    match columns.map(|c| c.div_ceil(panel.into())) {
        Some(panels) if target.vector_bytes > 16 => {
            let most = (most_vectors(target) / u64::from(in_panel)).max(1);
            let candidates: Vec<i64> = (1..=panels.min(most)).map(|n| i64::from(in_panel) * n as i64).collect();
            let default = in_panel * evenly(panels, most);
            target.choose(Point::TileVectors, problem, default.into(), &candidates) as u32
        }
        _ => in_panel,
    }
}

/// Vectors of columns in a tile over rows of a matrix.
pub fn row_vectors(target: &Target, problem: Problem<'_>, lanes: u32, columns: Option<u64>) -> u32 {
    match columns.map(|c| c.div_ceil(lanes.into())) {
        Some(vectors) if target.vector_bytes > 16 => {
            let most = most_vectors(target);
            let candidates: Vec<i64> = (1..=vectors.min(most)).map(|n| n as i64).collect();
            target.choose(Point::TileVectors, problem, evenly(vectors, most).into(), &candidates) as u32
        }
        None if target.vector_bytes > 16 => 2,
        _ => vectors_128(columns, lanes.into()).min(2) as u32,
    }
}

/// The largest tile that leaves no rest, or the largest if all do.
fn evenly(vectors: u64, most: u64) -> u32 {
    let even = (2..=most).rev().find(|&n| vectors.is_multiple_of(n));
    even.unwrap_or(most.min(vectors.max(1))) as u32
}

/// Vectors of 128 bits in a panel.
fn vectors_128(columns: Option<u64>, lanes: u64) -> u64 {
    let Some(columns) = columns else { return 2 };
    let filled = |vectors: u64| columns.div_ceil(vectors * lanes) * vectors;
    // Three vectors only where they leave fewer empty columns: the tile of two is the faster one.
    match columns.div_ceil(lanes) {
        0 | 1 => 1,
        n if n <= 6 && filled(3) < filled(2) => 3,
        _ => 2,
    }
}

/// Rows to pass over all panels before the next rows come; a multiple of the tile's rows.
pub fn row_block(target: &Target, problem: Problem<'_>, tile: Tile, bytes_a_row: u64, rows: Option<u64>) -> u64 {
    let unit = row_unit(target, tile);
    let units = (ROW_BLOCK_BYTES / bytes_a_row.max(1) / unit).max(if target.vector_bytes > 16 { 1 } else { 8 });
    // Blocks of more rows than there are would all be one.
    let most = rows.map_or(u64::MAX, |rows| rows.div_ceil(unit));
    let candidates = [units / 4, units / 2, units * 2, units * 4].map(|n| (n.clamp(1, most.max(1)) * unit) as i64);
    let default = units.min(most.max(1)) * unit;
    target.choose(Point::RowBlock, problem, default as i64, &candidates) as u64
}

/// Most bytes of weights to fetch ahead of the tiles that need them: with those in use they must stay in the second-level
/// cache, which is larger where vectors are.
pub fn ahead_bytes(target: &Target, problem: Problem<'_>) -> i64 {
    match target.choose(Point::Ahead, problem, 1, &[0, 2]) {
        0 => 0,
        1 => i64::from(target.vector_bytes) * (8 << 10),
        _ => i64::MAX,
    }
}

/// Blocks of rows are multiples of this.
pub fn row_unit(target: &Target, tile: Tile) -> u64 {
    if target.vector_bytes > 16 { BLOCK_ROWS } else { u64::from(tile.rows) }
}

/// Whether tiles of two sizes that differ by one are better for `count` rows than tiles of `size` rows and one of the rest.
/// A tile takes as long as one of four rows at least, since it reads as many weights; but code for a small rest is smaller.
pub fn spreads_rest(count: i64, size: i64) -> bool {
    let rest = count % size;
    count > size && rest > 0 && (4 - rest) * 20 > count
}

/// Blocks of rows that threads are to share.
const SHARED_BLOCKS: i64 = 16;

/// Tiles of columns that are enough for threads to share.
const SHARED_COLUMNS: i64 = 8;

/// Whether threads share the rows of a contraction, not the tiles of columns, each `width` wide: a thread should read as
/// little as can be of what the others read. Gives how many rows a thread takes at once, a multiple of `unit`.
pub fn shared_rows(unit: u64, rows: Option<i64>, columns: Option<i64>, width: u32) -> Option<i64> {
    let (unit, width) = (i64::try_from(unit).unwrap_or(1), i64::from(width));
    let by_rows = match (rows, columns) {
        (Some(rows), columns) => rows >= 2 * unit && rows >= columns.unwrap_or(8 * width),
        (None, columns) => columns.is_none_or(|c| c / width < SHARED_COLUMNS),
    };
    by_rows.then(|| (rows.unwrap_or(0) / SHARED_BLOCKS / unit).max(1) * unit)
}

/// Columns of output computed at once by a depthwise convolution whose rows have `width` columns.
pub fn depthwise_columns(target: &Target, problem: Problem<'_>, width: Option<u64>) -> u64 {
    let most = match target.arch {
        Arch::X86_64 => 8,
        Arch::Aarch64 => 10,
    };
    let Some(width) = width.filter(|&w| w > 0) else { return 8 };
    // The fewest rounds, then the smallest tile that needs no more.
    let even = |most: u64| width.div_ceil(width.div_ceil(most));
    let candidates = [2, 4, 6, 8, 12].map(|most| even(most) as i64);
    target.choose(Point::DepthwiseColumns, problem, even(most) as i64, &candidates) as u64
}

/// Lines of output computed at once by a depthwise convolution that computes so many columns at once with windows of `length`
/// columns: two where registers hold their sums and both lines of weights.
pub fn depthwise_lines(target: &Target, columns: i64, length: i64) -> i64 {
    if 2 * (columns + length) < i64::from(registers(target)) { 2 } else { 1 }
}

/// How many times its bytes a row counts that is computed in the kernel that reads it, when rows are cut into blocks: what
/// they are computed from passes through the second-level cache with them.
pub const STAGED_ROW: i64 = 2;

/// Bytes of a tensor from which on writing it and reading it again takes longer than its parts in the second-level cache.
const UNCACHED_BYTES: u64 = 4 << 20;

/// Most multiply-adds with an element for which who reads it from memory has to wait: more take longer than that, and then
/// one operation after the other is as fast.
const FEW_COLUMNS: u64 = 32;

/// Whether an operation whose result has so many bytes should be computed in the kernel of its only reader, a block of rows at a
/// time, where they meet so many columns.
pub fn chains(target: &Target, problem: Problem<'_>, bytes: Option<u64>, columns: Option<u64>) -> bool {
    let pays = bytes.is_some_and(|b| b > UNCACHED_BYTES) && columns.is_some_and(|c| c <= FEW_COLUMNS);
    target.choose(Point::Chain, problem, pays.into(), &[0, 1]) > 0
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
        let target = Target::new("x86_64-unknown-linux-gnu", None).unwrap();
        let pays = |bytes, columns| chains(&target, Problem::default(), bytes, Some(columns));
        assert_eq!([(1 << 20, 24), (9 << 20, 24), (9 << 20, 96)].map(|(b, c)| pays(Some(b), c)), [false, true, false]);
        assert!(!pays(None, 16));
    }

    #[test]
    fn filtering_beats_byte_products_without_their_instructions() {
        let rather = |cpu, size, kernel, channels| {
            let target = Target::new("x86_64-unknown-linux-gnu", Some(cpu)).unwrap();
            let (size, kernel) = ([size; 2], [kernel; 2]);
            filters_rather(&target, &Windows { size, kernel, dilations: [1; 2], channels, out: channels })
        };
        assert!(rather("x86-64-v3", 52, 3, 96) && rather("x86-64-v3", 14, 3, 256));
        // Few results beside the weights, nothing to filter, too few channels, VNNI.
        assert!(!rather("x86-64-v3", 4, 3, 512) && !rather("x86-64-v3", 52, 1, 96) && !rather("x86-64-v3", 52, 3, 8));
        assert!(!rather("znver4", 52, 3, 96));
    }

    #[test]
    fn narrow_filters_merge_pixels() {
        let target = Target::new("x86_64-unknown-linux-gnu", Some("x86-64-v4")).unwrap();
        let merged = |out, columns, stride| merged_pixels(&target, Problem::default(), out, columns, stride);
        assert_eq!([merged(16, 3, 1), merged(8, 39, 1), merged(1, 3, 1), merged(1, 256, 2)], [1, 2, 16, 16]);
        assert_eq!(merged(8, 3, 2), 2);
        assert_eq!((merged(8, 1, 1), merged(64, 3, 1)), (1, 1));
    }

    #[test]
    fn large_images_take_large_tiles() {
        let target = Target::new("x86_64-unknown-linux-gnu", None).unwrap();
        let tile = |size, kernel, channels| {
            let windows = Windows { size, kernel, dilations: [1; 2], channels, out: channels };
            filtered(&target, Problem::default(), &windows, FilterStorage::Transformed).map(|tile| (tile[0], tile[1]))
        };
        let best = |size, channels| tile([size; 2], [3; 2], channels);
        assert_eq!([56, 28].map(|size| best(size, 64)), [Some((4, 4)); 2]);
        assert_eq!((best(56, 8), best(56, 18), best(3, 512)), (None, None, None));
        assert_eq!([(128, 64), (60, 512)].map(|(size, channels)| best(size, channels)), [Some((4, 4)), Some((6, 6))]);
        assert_eq!([3, 5, 7, 9].map(|k| tile([500, 1], [k, 1], 256)), [Some((6, 1)), Some((4, 1)), Some((2, 1)), None]);
    }

    #[test]
    fn every_tile_is_in_the_table() {
        for cpu in crate::CPU_LEVELS {
            let triple =
                if cpu.arch == Arch::X86_64 { "x86_64-unknown-linux-gnu" } else { "aarch64-unknown-linux-gnu" };
            let target = Target::new(triple, Some(cpu.name)).unwrap();
            for columns in 1..200 {
                let lanes = target.vector_bytes / 4;
                let panel = panel_columns(&target, lanes.into(), Some(columns)) as u32;
                let lanes = lanes.min(panel);
                let none = Problem::default();
                for vectors in [
                    packed_vectors(&target, none, lanes, panel, Some(columns)),
                    row_vectors(&target, none, lanes, Some(columns)),
                ] {
                    let tile = tile(&target, vectors);
                    assert!(tile.rows > 1 && tile.vectors == vectors, "{} {columns}", cpu.name);
                    assert_eq!(row_block(&target, none, tile, 4096, None) % u64::from(tile.rows), 0);
                }
            }
            assert_eq!(depthwise_columns(&target, Problem::default(), Some(7)), 7);
            assert_eq!(depthwise_columns(&target, Problem::default(), Some(14)), 7);
            assert_eq!(depthwise_columns(&target, Problem::default(), Some(1)), 1);
        }
    }
}
