//! Schedules and the cost model of products with sparse weights, as pure functions of shape and target.
//!
//! Vectors run along the pixels (or rows of a matrix): a non-zero is loaded once and multiplied by several vectors of
//! staged elements. Tiles do not depend on the target, so that code for several CPU levels shares the weights.
//!
//! Costs are in multiply-adds of the longest vectors, or in nanoseconds where a name ends in `_ns`. They were fitted on
//! [`ZEN5`](crate::machine::ZEN5) with AVX-512 to the times of single layers of resnet50 with 50 to 95 % zeros. To
//! measure again: `mcc bench MODEL --profile` with choices of the knobs `sparse`, `sparse_tile` and `sparse_slices` (`docs/cost-model.md`).

use super::int8::by_signs;
use crate::choices::{Knob, Problem};
use crate::figures::Sparse;
use crate::machine::Machine;
use crate::{Arch, Config, Target};

/// Lanes of the longest vectors, which tiles fill.
const LANES: u64 = 16;

/// Maximum vectors, of the longest kind, of a tile that are computed at once: a group's sums fill the registers.
const MAX_TILE_VECTORS: u64 = 7;

/// A larger tile, or one with more lines, is preferred if it costs at most one part in this many more.
const NEARLY_EQUAL: u64 = 16;

/// Minimum share of zeros for which sparse forms are considered.
pub const MIN_ZEROS_SHARE: f64 = 0.3;

/// Maximum output channels of a block; see [`Cut`].
const MAX_BLOCK_CHANNELS: u64 = 256;

/// Blocks to share among threads, and the number of output channels that a shared block is a multiple of.
const SHARED_BLOCKS: u64 = 4;
const SHARED_BLOCK_CHANNELS: u64 = 64;

/// Results of a tile of a matrix with some rows (`None`: known at run time): a power of two, or a multiple of 16, the
/// lanes of the longest vectors.
pub fn span(config: &Config, problem: Problem<'_>, rows: Option<u64>, layer: &Layer) -> u64 {
    let Some(rows) = rows.filter(|&r| r > 0) else { return 4 * LANES };
    if rows < LANES {
        return if rows == 1 { 1 } else { rows.next_power_of_two().max(4) };
    }
    let vectors = rows.div_ceil(LANES);
    // Every tile stages a piece of every channel.
    let (m, f) = (config.weights_machine, &config.weights_machine.figures.sparse);
    let tile = |n: u64| {
        tile_cost(m, layer, n, layer.channels * n * LANES, &Reads::rows(n * LANES))
            + layer.channels as f64 * (f.staged_channel_multiply_adds + f.staged_vector_multiply_adds * n as f64)
    };
    let cost = |n: &u64| (vectors.div_ceil(*n) as f64 * tile(*n)) as u64;
    let ways = || (1..=MAX_TILE_VECTORS.min(vectors)).rev();
    let least = ways().map(|n| cost(&n)).min().unwrap_or(0);
    // Large tiles read the non-zeros less often.
    let best = ways().find(|n| cost(n) <= least + least / NEARLY_EQUAL).unwrap_or(1);
    let all: Vec<i64> = ways().map(|n| n as i64).collect();
    config.choose(Knob::SparseTile, problem, best as i64, &all) as u64 * LANES
}

/// Nanoseconds per multiply-add of the longest vectors at the nominal peak.
fn multiply_add_ns(m: &Machine) -> f64 {
    1.0 / f64::from(m.vector_multiply_adds_per_ns())
}

/// Bytes of weights that stay in the second-level cache from tile to tile: half of it.
fn cached_weights_bytes(m: &Machine) -> u64 {
    m.l2_sixteenths(8)
}

/// Bytes of the planes that stay in the first-level cache while a block of output channels is computed from a slice: 35
/// of 48 KiB.
fn cached_planes_bytes(m: &Machine) -> f64 {
    (m.l1d_bytes * 35 / 48) as f64
}

/// How the weights of a layer are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Output channels computed in turn, which makes loops fewer and additions independent.
    pub abreast: u64,
    /// Output channels whose sums are computed together, ordered by their number of non-zeros: many if one thread
    /// computes all, which makes loops alike, fewer if several threads share them.
    pub block: u64,
    /// Input channels whose planes stay in the first-level cache.
    pub depth: u64,
}

/// Maximum output channels of a block, for `out` output channels.
pub fn block(config: &Config, out: u64) -> u64 {
    if config.threads > 1 {
        (out / SHARED_BLOCKS).max(1).next_multiple_of(SHARED_BLOCK_CHANNELS).min(MAX_BLOCK_CHANNELS)
    } else {
        MAX_BLOCK_CHANNELS
    }
}

/// The number of output channels that should share offsets, given the number of values, with zeros that fill blocks,
/// for each.
pub fn shared(config: &Config, ways: [(u64, u64); 3]) -> u64 {
    let f = &config.weights_machine.figures.sparse;
    let cost = |&(shared, values): &(u64, u64)| (values as f64 * multiply_add_cost(f, shared) * 100.0) as u64;
    ways.iter().min_by_key(|way| cost(way)).map_or(1, |way| way.0)
}

/// Cost of a multiply-add of a non-zero if this many output channels share what it reads; if only one does, it waits
/// for a load.
fn multiply_add_cost(f: &Sparse, shared: u64) -> f64 {
    match shared {
        1 => 1.0,
        2 => f.pair_multiply_adds,
        _ => f.quad_multiply_adds,
    }
}

/// How to cut a layer, given its tiles.
pub fn cut(config: &Config, problem: Problem<'_>, layer: &Layer) -> Cut {
    let abreast = if layer.span <= LANES { 8 } else { 4 };
    let block = layer.out.next_multiple_of(abreast).min(block(config, layer.out));
    let (best, _) = slices(config.weights_machine, layer, at_once(layer.span.div_ceil(LANES)), &layer.reads);
    let others = [best / 2, best * 3 / 4, best * 3 / 2, best * 2].map(|n| n.clamp(1, layer.channels.max(1)) as i64);
    let slices = config.choose(Knob::SparseSlices, problem, best as i64, &others) as u64;
    Cut { abreast, block, depth: layer.channels.div_ceil(slices).max(1) }
}

/// The number of slices of equal size of the channels, and the cost of a layer's non-zeros over `once` vectors of the
/// longest kind, in multiply-adds of such vectors; measured on a core that loads two of them per cycle.
fn slices(m: &Machine, layer: &Layer, once: u64, reads: &Reads) -> (u64, f64) {
    let f = &m.figures.sparse;
    let bytes = (layer.channels * reads.elements * 4) as f64;
    let of = |slices: u64| {
        // Sums are stored, and between slices also loaded.
        let sums = (if slices > 1 { f.sums_kept_multiply_adds } else { f.sums_stored_multiply_adds }) * once as f64
            + f.channel_multiply_adds;
        let far = (1.0 - cached_planes_bytes(m) * slices as f64 / bytes).max(0.0) * f.l2_load_multiply_adds;
        // Two output channels that share offsets load each vector once, four twice.
        let each = if layer.shared > 1 { (reads.loads + far) / 2.0 } else { reads.loads + far };
        let each = each.max(multiply_add_cost(f, layer.shared));
        let loads = layer.values as f64 * (once as f64 * each + f.spread_multiply_adds / layer.shared as f64);
        (slices, loads + (layer.out * slices) as f64 * sums)
    };
    let most = ((bytes / cached_planes_bytes(m)).ceil() as u64).clamp(1, layer.channels.max(1));
    (2..=most).map(of).fold(of(1), |best, next| if next.1 < best.1 { next } else { best })
}

/// The same for a tile of `vectors` vectors, of which some are computed at once, with `staged` elements.
fn tile_cost(m: &Machine, layer: &Layer, vectors: u64, staged: u64, reads: &Reads) -> f64 {
    let f = &m.figures.sparse;
    let once = at_once(vectors);
    // Every block of output channels fetches the lines that it reads.
    let lines =
        (layer.channels * reads.elements * layer.out.div_ceil(MAX_BLOCK_CHANNELS)) as f64 / m.line_floats() as f64;
    let far = staged * 4 > cached_weights_bytes(m);
    let fetched = lines * if far { f.memory_line_multiply_adds } else { f.l2_line_multiply_adds };
    // Every tile fetches all non-zeros, half of them too late.
    let entries = self::fetched(m, layer.bytes()) / multiply_add_ns(m) * f.late_fetches_share;
    (slices(m, layer, once, reads).1 + fetched) * (vectors / once) as f64 + entries
}

/// The staged planes of an image, in one of two ways: with lines at their own length, or with lines padded to whole or
/// half vectors and separate planes for every column of the window.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    /// Lines and columns of results.
    pub size: [u64; 2],
    /// Additional lines and columns of a phase.
    pub reach: [u64; 2],
    /// Number of phases of lines and of columns.
    pub phases: [u64; 2],
    /// Additional lines of all phases together, compared with the results.
    pub more: u64,
    /// Whether lines are padded.
    pub aligned: bool,
}

/// The elements of a channel that the results computed at once read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reads {
    /// Number of elements.
    pub elements: u64,
    /// Loads per vector: more than one if vectors cross cache lines.
    pub loads: f64,
}

impl Reads {
    /// For a tile of `span` rows of a matrix.
    pub fn rows(span: u64) -> Reads {
        Reads { elements: (at_once(span.div_ceil(LANES)) * LANES).min(span), loads: 1.0 }
    }
}

impl Image {
    /// For a tile of `span` results, with lines `pitch` apart.
    fn reads(&self, f: &Sparse, span: u64, pitch: u64) -> Reads {
        let results = at_once(span / LANES) * LANES;
        let elements = self.phases[0] * (results + self.reach[1]) + self.more * pitch;
        // Either all vectors cross cache lines, or those of every other line of the window.
        let loads = match self.aligned {
            true if pitch < LANES && self.reach[0] > 0 => f.short_line_loads,
            // Without a reach, every line starts a plane.
            false if self.reach != [0, 0] => f.packed_line_loads,
            _ => 1.0,
        };
        Reads { elements: self.phases[1] * elements, loads }
    }
}

/// How an image is cut into tiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tiles {
    /// Lines of results in a tile.
    pub lines: u64,
    /// Elements between lines.
    pub pitch: u64,
    /// Results in a tile, including gaps between lines, in whole vectors.
    pub span: u64,
    /// Reads of the results that are computed at once.
    pub reads: Reads,
    /// Its cost, in multiply-adds of the longest vectors.
    pub cost: u64,
}

impl Image {
    /// Tiles with a number of lines.
    fn tiles(&self, m: &Machine, layer: &Layer, lines: u64) -> Tiles {
        let f = &m.figures.sparse;
        let width = self.size[1] + self.reach[1];
        let pitch = match self.aligned {
            true if width <= LANES / 2 => LANES / 2,
            true => width.next_multiple_of(LANES),
            false => width,
        };
        let vectors = ((lines - 1) * pitch + self.size[1]).div_ceil(LANES);
        let at_once = vectors.min(2)..=vectors.min(MAX_TILE_VECTORS);
        let span = at_once.map(|n| vectors.div_ceil(n) * n).min().unwrap_or(vectors) * LANES;
        let plane = (span + self.reach[0] * pitch + self.reach[1]) * self.phases.iter().product::<u64>();
        let (staged, reads) = (layer.channels * plane, self.reads(f, span, pitch));
        let cost =
            tile_cost(m, layer, span / LANES, staged, &reads) + staged as f64 * f.transpose_ns / multiply_add_ns(m);
        Tiles { lines, pitch, span, reads, cost: (self.size[0].div_ceil(lines) as f64 * cost) as u64 }
    }
}

/// Maximum number of tilings of an image that tuning tries.
const MAX_TUNED_WAYS: usize = 8;

/// The best tiles of an image that a layer reads, which may be staged in either way.
pub fn tiles(config: &Config, problem: Problem<'_>, images: &[Image; 2], layer: &Layer) -> (Tiles, Image) {
    let lines = 1..=images[0].size[0].max(1);
    let ways = images
        .iter()
        .flat_map(|image| lines.clone().map(|lines| (image.tiles(config.weights_machine, layer, lines), *image)));
    let mut ways: Vec<(Tiles, Image)> = ways.collect();
    ways.sort_by_key(|way| way.0.cost);
    // Larger tiles leave fewer to share among threads.
    let notably = |(tiles, _): &&(Tiles, Image)| tiles.cost <= ways[0].0.cost + ways[0].0.cost / NEARLY_EQUAL;
    let best = ways.iter().filter(notably).min_by_key(|way| way.0.lines).unwrap_or(&ways[0]);
    let code = |(tiles, image): &(Tiles, Image)| (2 * tiles.lines + u64::from(image.aligned)) as i64;
    let candidates: Vec<i64> = ways.iter().take(MAX_TUNED_WAYS).map(code).collect();
    let chosen = config.choose(Knob::SparseTile, problem, code(best), &candidates);
    *ways.iter().find(|way| code(way) == chosen).unwrap_or(best)
}

/// Of `vectors` vectors of the longest kind, the number computed at once.
fn at_once(vectors: u64) -> u64 {
    (1..=MAX_TILE_VECTORS).rev().find(|n| vectors.is_multiple_of(*n)).unwrap_or(1)
}

/// Of a span, the number of vectors computed at once, with words of bytes or floats, for each of `abreast` output
/// channels.
pub fn vectors(target: &Target, words: bool, span: u32, abreast: u32) -> u32 {
    let registers = match (target.arch, target.vector_bytes) {
        (Arch::X86_64, 16 | 32) if words && by_signs(target) => 10,
        (Arch::X86_64, 16 | 32) => 14,
        (Arch::X86_64, _) => 28,
        _ => 24,
    };
    let most = (registers / abreast).clamp(1, MAX_TILE_VECTORS as u32).min(span);
    (1..=most).rev().find(|n| span.is_multiple_of(*n)).unwrap_or(1)
}

/// Rows that the cost model assumes if they are known at run time only.
pub const ASSUMED_ROWS: u64 = 64;

/// A layer as the cost model sees it.
#[derive(Debug, Clone, Copy)]
pub struct Layer {
    /// Rows of the result: pixels.
    pub rows: u64,
    /// Input channels.
    pub channels: u64,
    /// Weights per output channel.
    pub depth: u64,
    /// Output channels.
    pub out: u64,
    /// Non-zeros of all weights, including zeros that fill blocks.
    pub values: u64,
    /// Output channels that share offsets.
    pub shared: u64,
    /// Multiply-adds of the fastest dense way.
    pub products: u64,
    /// Whether channels are grouped in words of four bytes.
    pub words: bool,
    /// Whether the fastest dense way is minimal filtering.
    pub filtered: bool,
    /// Results per tile, the number of tiles, and the elements that each stages.
    pub span: u64,
    /// See `span`.
    pub tiles: u64,
    /// See `span`.
    pub staged: u64,
    /// See `span`: reads of the results that are computed at once.
    pub reads: Reads,
}

/// Predicted nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// With non-zeros only.
    pub sparse: f64,
    /// With dense weights.
    pub dense: f64,
    /// Time that non-zeros save if the operand, and the result, are channels first.
    pub saved: [f64; 2],
}

/// Minimum predicted speed-up over dense weights, since predictions err.
const MIN_SPEEDUP: f64 = 1.1;

impl Costs {
    /// Lets a table of choices decide; `None` if it chooses dense weights although non-zeros pay.
    pub fn chosen(self, config: &Config, problem: Problem<'_>) -> Option<Costs> {
        let pays = self.pays();
        match (pays, config.choose(Knob::Sparse, problem, pays.into(), &[0, 1]) > 0) {
            (true, false) => None,
            (false, true) => Some(Costs { dense: f64::MAX, ..self }),
            _ => Some(self),
        }
    }

    /// Whether non-zeros are faster by more than the error of predictions.
    pub fn pays(&self) -> bool {
        self.sparse < self.to_beat()
    }

    /// The time that the sparse form must beat.
    pub fn to_beat(&self) -> f64 {
        self.dense / MIN_SPEEDUP
    }

    /// The time with non-zeros, if the operand or the result is channels first.
    pub fn planes(&self, [operand, result]: [bool; 2]) -> f64 {
        let saved = |n: usize, first: bool| if first { self.saved[n] } else { 0.0 };
        self.sparse - saved(0, operand) - saved(1, result)
    }

    /// The costs with other layouts.
    pub fn with(self, planes: [bool; 2]) -> Costs {
        Costs { sparse: self.planes(planes), ..self }
    }
}

/// Bytes of a non-zero's value, and of its offset.
const VALUE_BYTES: f64 = 4.0;
const OFFSET_BYTES: f64 = 2.0;

impl Layer {
    /// Bytes of all non-zeros.
    fn bytes(&self) -> f64 {
        self.values as f64 * (VALUE_BYTES + OFFSET_BYTES / self.shared as f64)
    }
}

/// Nanoseconds to fetch `bytes`.
fn fetched(m: &Machine, bytes: f64) -> f64 {
    let cached = bytes <= cached_weights_bytes(m) as f64;
    bytes / f64::from(if cached { m.l2_bytes_per_ns } else { m.memory_bytes_per_ns })
}

/// Predicts the sparse and the dense time of a layer.
pub fn costs(config: &Config, layer: &Layer) -> Costs {
    let (target, m, f) = (&config.target, config.weights_machine, &config.weights_machine.figures.sparse);
    let rate = super::threads::multiply_adds_per_ns(target) as f64;
    let lanes = f64::from(target.lanes());
    let [rows, depth, out, values] = [layer.rows, layer.depth, layer.out, layer.values].map(|n| n as f64);
    let filled = (out / lanes).ceil() * lanes / out;
    let share = match layer {
        Layer { words: true, .. } => f.int8_peak_share,
        Layer { filtered: true, .. } => f.filtering_peak_share,
        _ => f.dense_peak_share,
    };
    let dense = (layer.products as f64 * filled / (rate * share)).max(fetched(m, depth * out * 4.0));
    let entries = fetched(m, layer.bytes());
    if layer.span == 1 {
        return Costs { sparse: rows * (values * f.scalar_ns).max(entries), dense, saved: [0.0; 2] };
    }
    let multiplied =
        tile_cost(m, layer, layer.span.div_ceil(LANES), layer.staged, &layer.reads) * layer.tiles as f64 * LANES as f64
            / (rate * f.sparse_peak_share);
    let transposed = [(layer.tiles * layer.staged) as f64, rows * out];
    let moved = |each: f64| transposed.map(|elements| elements * each * LANES as f64 / lanes);
    Costs {
        sparse: multiplied.max(entries) + moved(f.transpose_ns).iter().sum::<f64>(),
        dense,
        saved: moved(f.copy_saves_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Problem<'static> = Problem { text: "", layer: "" };

    fn layer(channels: u64, out: u64, values: u64) -> Layer {
        let (rows, products) = (1, channels * out);
        let (span, tiles, staged, reads) = (64, 1, 0, Reads::rows(64));
        let shared = 1;
        Layer {
            rows,
            channels,
            depth: channels,
            out,
            values,
            shared,
            products,
            words: false,
            filtered: false,
            span,
            tiles,
            staged,
            reads,
        }
    }

    #[test]
    fn layers_are_cut() {
        let mut config = Config::new("x86_64-unknown-linux-gnu", Some("x86-64-v4")).unwrap();
        let wide = |values| cut(&config, ANY, &layer(512, 200, values));
        assert_eq!(wide(20_000), Cut { abreast: 4, block: 200, depth: 128 });
        assert_eq!((wide(10_000).depth, wide(1_000).depth), (128, 512));
        assert_eq!(cut(&config, ANY, &layer(300, 2048, 100_000)).depth, 150);
        config.threads = 2;
        assert_eq!([200, 512, 2048].map(|out| cut(&config, ANY, &layer(64, out, 9)).block), [64, 128, 256]);
        assert_eq!(
            [1, 3, 4].map(|out| (block(&config, out), cut(&config, ANY, &layer(64, out, 9)).block)),
            [(64, 4); 3]
        );
    }

    #[test]
    fn spans_fill_vectors() {
        let (config, layer) = (Config::new("x86_64-unknown-linux-gnu", None).unwrap(), layer(256, 512, 12_000));
        let spans = [1, 3, 9, 16, 49, 128, 196, 784].map(|rows| span(&config, ANY, Some(rows), &layer));
        assert_eq!(spans, [1, 4, 16, 16, 64, 64, 112, 112]);
        assert_eq!(span(&config, ANY, None, &layer), 64);
    }

    #[test]
    fn lines_of_images() {
        let config = Config::new("x86_64-unknown-linux-gnu", None).unwrap();
        let images = |size: u64, channels, values| {
            let images = [false, true].map(|aligned| {
                let (reach, phases) = ([2, if aligned { 0 } else { 2 }], [1, if aligned { 3 } else { 1 }]);
                Image { size: [size; 2], reach, phases, more: 2, aligned }
            });
            let (tiles, image) = tiles(&config, ANY, &images, &layer(channels, channels, values));
            (image.aligned, tiles.lines, tiles.pitch, tiles.span)
        };
        // Lines of seven fill vectors in pairs.
        assert_eq!(images(7, 512, 200_000), (true, 7, 8, 64));
        assert_eq!(images(14, 256, 50_000), (true, 7, 16, 112));
    }

    /// A 1x1 convolution of 1024 to 256 channels over 14x14 pixels is faster sparse if two thirds are zero.
    #[test]
    fn dense_layers_stay_dense() {
        let config = Config::new("x86_64-unknown-linux-gnu", Some("x86-64-v4")).unwrap();
        let (rows, depth, out) = (196, 1024, 256);
        let pays = |percent: u64| {
            let mut layer =
                Layer { rows, products: rows * depth * out, ..layer(depth, out, depth * out * (100 - percent) / 100) };
            layer.span = span(&config, ANY, Some(rows), &layer);
            (layer.tiles, layer.staged) = (rows.div_ceil(layer.span), depth * layer.span);
            costs(&config, &layer).pays()
        };
        assert_eq!([0, 50, 65, 80, 95].map(pays), [false, false, true, true, true]);
    }

    #[test]
    fn vectors_divide_the_span() {
        let config = Config::new("x86_64-unknown-linux-gnu", Some("x86-64-v3")).unwrap();
        assert_eq!([1, 8, 12, 14].map(|n| vectors(&config.target, false, n, 4)), [1, 2, 3, 2]);
        assert_eq!(vectors(&config.target, false, 2, 8), 1);
    }
}
