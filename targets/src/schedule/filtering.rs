//! When convolutions use minimal filtering (Winograd's algorithms), with which tiles, and in which blocks.
//!
//! Costs are in multiply-adds of `f32` on full vectors. They were fitted on [`ZEN5`](crate::machine::ZEN5) with AVX-512
//! to the times of single convolutions, direct and with each tile. To measure again: `mcc bench MODEL --profile` with
//! choices of the knobs `filtering`, `filtering_block` and `filter_columns` (`docs/cost-model.md`).

use crate::choices::{Knob, Problem};
use crate::figures::Filtering;
use crate::machine::Machine;
use crate::{Config, Target};

/// Number of elements in transformed space from which a tile counts as the largest.
const LARGEST_TILE_PLANES: u64 = 37;

/// Multiplications of a tile along an axis; larger tiles need more.
const TILE_MULTIPLICATIONS: [u64; 3] = [4, 6, 8];

/// Maximum growth of the weights in transformed space, since they must be stored and loaded.
const MAX_WEIGHTS_GROWTH: u64 = 8;

/// Minimum number of channels, and of vectors of them, that fill the products in transformed space.
const MIN_CHANNELS: u64 = 16;
const MIN_LANES: u64 = 4;

/// How the weights of a convolution with minimal filtering are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterStorage {
    /// Transformed.
    Transformed,
    /// Untransformed, as floats or codes; they are transformed at run time.
    Plain,
}

/// A convolution with unit strides; lines first, then columns.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    /// Extents of the results.
    pub size: [u64; 2],
    /// Extents of the window: 1 along an axis, or both the same.
    pub kernel: [u64; 2],
    /// Distance in elements between neighbouring taps of a window.
    pub dilations: [u64; 2],
    /// Channels of the data.
    pub channels: u64,
    /// Channels of the results.
    pub out: u64,
}

/// A number of things, each at a cost.
fn times(n: u64, each: f64) -> u64 {
    (n as f64 * each) as u64
}

impl Windows {
    /// Elements of a window.
    fn taps(&self) -> u64 {
        self.kernel[0] * self.kernel[1]
    }

    /// Results of a tile along both axes, with this number of multiplications along those that are filtered.
    fn tile(&self, multiplications: u64) -> Option<[u64; 2]> {
        let taps = self.kernel[0].max(self.kernel[1]);
        let results = (multiplications + 1).checked_sub(taps).filter(|&m| m > 1)?;
        let axes = self.kernel.iter().filter(|k| **k > 1).count() as u32;
        let grown = multiplications.pow(axes) <= MAX_WEIGHTS_GROWTH * self.taps();
        grown.then(|| self.kernel.map(|k| if k > 1 { results } else { 1 }))
    }

    /// Whether minimal filtering supports this number of channels.
    fn is_filterable(&self) -> bool {
        self.channels >= MIN_CHANNELS && self.out >= MIN_CHANNELS && self.lanes() >= MIN_LANES
    }

    /// Lanes of the vectors; they divide both numbers of channels.
    fn lanes(&self) -> u64 {
        1 << (self.channels | self.out).trailing_zeros().min(4)
    }

    /// The cost with minimal filtering and tiles of this size.
    fn filtering_cost(&self, f: &Filtering, tile: [u64; 2], stored: FilterStorage) -> u64 {
        let along = |a: usize| {
            let step = tile[a] * self.dilations[a];
            (self.size[a].div_ceil(step) * self.dilations[a], tile[a] + self.kernel[a] - 1)
        };
        let ((down, lines), (across, columns)) = (along(0), along(1));
        let (tiles, planes) = (down * across, lines * columns);
        let transform_cost =
            if planes >= LARGEST_TILE_PLANES { f.largest_transform_multiply_adds } else { f.transform_multiply_adds };
        let transform = times(tiles * planes * (self.channels + self.out), transform_cost) * 16 / self.lanes();
        let weights = planes * self.channels * self.out;
        match stored {
            FilterStorage::Transformed => {
                (tiles * weights + transform).max(times(weights, f.weight_fetch_multiply_adds))
            }
            FilterStorage::Plain => tiles * weights + times(weights, f.filter_multiply_adds) + transform,
        }
    }

    /// The cost of direct convolution.
    fn direct_cost(&self, f: &Filtering, stored: FilterStorage) -> u64 {
        let (weights, rows) = (self.taps() * self.channels * self.out, self.size[0] * self.size[1]);
        match stored {
            FilterStorage::Transformed => (weights * rows).max(times(weights, f.weight_fetch_multiply_adds)),
            FilterStorage::Plain => weights * rows + times(weights, f.decode_multiply_adds),
        }
    }
}

/// The tile, as results along both axes, with which minimal filtering is the fastest way to compute a convolution; none
/// if direct convolution is. Larger tiles need larger weights and fewer multiplications.
pub fn tile(config: &Config, problem: Problem<'_>, windows: &Windows, stored: FilterStorage) -> Option<[u64; 2]> {
    if !windows.is_filterable() {
        return None;
    }
    let f = &config.weights_machine.figures.filtering;
    // Rounding errors grow with the tile: the largest one has to be clearly faster.
    let cost = |n: u64, tile| windows.filtering_cost(f, tile, stored) * if n == 8 { 10 } else { 9 } / 9;
    let tiles = TILE_MULTIPLICATIONS.map(|n| windows.tile(n).map(|tile| (cost(n, tile), tile[0].max(tile[1]))));
    let best = tiles.into_iter().flatten().min().filter(|best| best.0 < windows.direct_cost(f, stored));
    let candidates: Vec<i64> = tiles.into_iter().flatten().map(|t| t.1 as i64).chain([0]).collect();
    let chosen = config.choose(Knob::Filtering, problem, best.map_or(0, |best| best.1 as i64), &candidates);
    (chosen > 0).then(|| windows.kernel.map(|k| if k > 1 { chosen as u64 } else { 1 }))
}

/// Whether minimal filtering gains more than it costs to move some elements.
pub fn gains_more_than_moves(config: &Config, windows: &Windows, moved: u64) -> bool {
    gain(config, windows) > times(moved, config.weights_machine.figures.filtering.move_multiply_adds)
}

/// Gain of minimal filtering over direct convolution, in multiply-adds.
pub fn gain(config: &Config, windows: &Windows) -> u64 {
    let stored = FilterStorage::Transformed;
    let f = &config.weights_machine.figures.filtering;
    windows.direct_cost(f, stored).saturating_sub(cost(config, windows, stored))
}

/// The cost of a convolution in the fastest way, in multiply-adds.
pub fn cost(config: &Config, windows: &Windows, stored: FilterStorage) -> u64 {
    let f = &config.weights_machine.figures.filtering;
    let tiles = TILE_MULTIPLICATIONS.iter().filter_map(|&n| windows.tile(n)).filter(|_| windows.is_filterable());
    tiles.map(|tile| windows.filtering_cost(f, tile, stored)).chain([windows.direct_cost(f, stored)]).min().unwrap_or(0)
}

/// Maximum time of filtering in quarters of the int8 convolution's, since the data must be converted to floats.
const MAX_QUARTERS_OF_INT8: u64 = 3;

/// Ratio of the fetch times of a 32-bit and an 8-bit element.
const INT8_FETCH_SPEEDUP: f64 = 4.0;

/// Whether a convolution of 8-bit integers is clearly faster with minimal filtering of floats, whose weights stay
/// codes. This is possible only without an instruction for byte products; without it they take two thirds of the time
/// of floats.
pub fn beats_int8(config: &Config, windows: &Windows) -> bool {
    let f = &config.weights_machine.figures.filtering;
    let tiles = TILE_MULTIPLICATIONS.iter().filter_map(|&n| windows.tile(n)).filter(|_| windows.is_filterable());
    let filtered = tiles.map(|tile| windows.filtering_cost(f, tile, FilterStorage::Plain)).min();
    let weights = windows.taps() * windows.channels * windows.out;
    let fetch = times(weights, f.weight_fetch_multiply_adds / INT8_FETCH_SPEEDUP);
    let int8 = (weights * windows.size[0] * windows.size[1]).max(fetch) * 2 / 3;
    !config.target.has_byte_dot() && filtered.is_some_and(|cost| cost * 4 < int8 * MAX_QUARTERS_OF_INT8)
}

/// Maximum bytes of transformed input in a block of a convolution with minimal filtering; with the sums they should
/// stay in three eighths of the second-level cache.
pub fn block_bytes(config: &Config, problem: Problem<'_>) -> i64 {
    let default = config.target.machine.l2_sixteenths(6) as i64;
    config.choose(Knob::FilteringBlock, problem, default >> 10, &[128, 256, 384, 640]) << 10
}

/// Distance in bytes between planes in transformed space, of `bytes` each: one cache line more if all planes would map
/// to a few sets of the first-level cache.
pub fn plane_bytes(machine: &Machine, bytes: i64) -> i64 {
    if bytes % (machine.l1d_way_bytes() / 4) == 0 { bytes + machine.line_bytes() } else { bytes }
}

/// The slice of the weights that is transformed at once, if they are transformed at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterPart {
    /// Output channels; none: all weights are transformed before anything else.
    pub columns: Option<i64>,
    /// Input channels.
    pub channels: i64,
}

/// Bytes of transformed weights made at once: all if five eighths of the second-level cache hold them, else a slice in
/// half of that; last, the limit up to which tuning may try all at once.
fn weights_bytes(target: &Target) -> [i64; 3] {
    [10, 5, 64].map(|sixteenths| target.machine.l2_sixteenths(sixteenths) as i64)
}

/// Columns of weights transformed together.
const TRANSFORMED_COLUMNS: i64 = 32;

/// Bytes of transformed data that wait while the weights of all columns are transformed: the size of the second-level
/// cache.
pub fn waiting_block_bytes(target: &Target) -> i64 {
    target.machine.l2_sixteenths(16) as i64
}

/// The slice of `channels` by `out` weights of 32 bits in so many planes: channels in multiples of `unit`, columns in
/// panels of `panel`.
pub fn filter_part(
    config: &Config,
    problem: Problem<'_>,
    planes: i64,
    [channels, out]: [i64; 2],
    [unit, panel]: [i64; 2],
) -> FilterPart {
    let [all_bytes, slice_bytes, tuned_bytes] = weights_bytes(&config.target);
    let column_bytes = 4 * planes * channels;
    let panels = |columns: i64| (columns / panel).max(1) * panel;
    let default = if column_bytes * out <= all_bytes { 0 } else { panels(TRANSFORMED_COLUMNS) };
    let all = (column_bytes * out <= tuned_bytes).then_some(0);
    let candidates: Vec<i64> = [16, 32, 64].into_iter().map(panels).filter(|&c| c <= out).chain(all).collect();
    let columns = config.choose(Knob::FilterColumns, problem, default, &candidates);
    let fits = |parts: &i64| channels % (parts * unit) == 0 && column_bytes * columns / parts <= slice_bytes;
    let parts = if columns == 0 { 1 } else { (1..=channels / unit).find(fits).unwrap_or(1) };
    FilterPart { columns: (columns > 0).then_some(columns), channels: channels / parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filtering_beats_int8_without_its_instructions() {
        let rather = |cpu, size, kernel, channels| {
            let config = Config::new("x86_64-unknown-linux-gnu", Some(cpu)).unwrap();
            let (size, kernel) = ([size; 2], [kernel; 2]);
            beats_int8(&config, &Windows { size, kernel, dilations: [1; 2], channels, out: channels })
        };
        assert!(rather("x86-64-v3", 52, 3, 96) && rather("x86-64-v3", 14, 3, 256));
        // Few results compared with the weights, nothing to filter, too few channels, VNNI.
        assert!(!rather("x86-64-v3", 4, 3, 512) && !rather("x86-64-v3", 52, 1, 96) && !rather("x86-64-v3", 52, 3, 8));
        assert!(!rather("znver4", 52, 3, 96));
    }

    #[test]
    fn large_images_take_large_tiles() {
        let config = Config::new("x86_64-unknown-linux-gnu", None).unwrap();
        let tile = |size, kernel, channels| {
            let windows = Windows { size, kernel, dilations: [1; 2], channels, out: channels };
            super::tile(&config, Problem::default(), &windows, FilterStorage::Transformed)
                .map(|tile| (tile[0], tile[1]))
        };
        let best = |size, channels| tile([size; 2], [3; 2], channels);
        assert_eq!([56, 28].map(|size| best(size, 64)), [Some((4, 4)); 2]);
        assert_eq!((best(56, 8), best(56, 18), best(3, 512)), (None, None, None));
        assert_eq!([(128, 64), (60, 512)].map(|(size, channels)| best(size, channels)), [Some((4, 4)), Some((6, 6))]);
        assert_eq!([3, 5, 7, 9].map(|k| tile([500, 1], [k, 1], 256)), [Some((6, 1)), Some((4, 1)), Some((2, 1)), None]);
    }
}
