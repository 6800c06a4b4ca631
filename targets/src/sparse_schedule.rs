//! Schedules and the cost model of products with sparse weights, as pure functions of shape and target.
//!
//! Vectors run along the pixels (or rows of a matrix): a non-zero is loaded once and meets some vectors of staged elements.
//! Tiles do not depend on the target, so that code for several CPU levels shares the weights.

use crate::choices::{Point, Problem};
use crate::dot_schedule::by_signs;
use crate::{Arch, Target};

/// Lanes that tiles fill: those of the longest vectors.
const LANES: u64 = 16;

/// Most vectors of the longest kind in a tile that is computed at once: a group's sums fill the registers.
const VECTORS: u64 = 7;

/// Bytes of weights that stay in the second-level cache from tile to tile.
const CACHED_BYTES: u64 = 512 << 10;

/// Bytes of the planes that stay in the first-level cache while a block of output channels meets a slice, and what a load of
/// the others takes more, from the second-level one.
const NEAR: f64 = 35_840.0;
const FAR: f64 = 0.8;

/// What an output channel costs by itself in a slice, in multiply-adds of the longest vectors.
const GROUP: f64 = 8.0;

/// What a line of the second-level cache costs, and one from behind it.
const CACHE_LINE: f64 = 2.0;
const MEMORY_LINE: f64 = 5.0;

/// What spreading a non-zero over a vector costs, in such multiply-adds.
const SPREAD: f64 = 0.6;

/// Most output channels of a block; see [`Cut`].
const BLOCK: u64 = 256;

/// Results of a tile of a matrix with some rows (`None`: known at run time): a power of two, or a multiple of [`LANES`].
pub fn span(target: &Target, problem: Problem<'_>, rows: Option<u64>, layer: &Layer) -> u64 {
    let Some(rows) = rows.filter(|&r| r > 0) else { return 4 * LANES };
    if rows < LANES {
        return if rows == 1 { 1 } else { rows.next_power_of_two().max(4) };
    }
    let vectors = rows.div_ceil(LANES);
    // Every tile stages a piece of every channel.
    let tile = |n: u64| {
        met(layer, n, layer.channels * n * LANES, &Meets::rows(n * LANES)) + (layer.channels * (8 + 4 * n)) as f64
    };
    let cost = |n: &u64| (vectors.div_ceil(*n) as f64 * tile(*n)) as u64;
    let ways = || (1..=VECTORS.min(vectors)).rev();
    let least = ways().map(|n| cost(&n)).min().unwrap_or(0);
    // Large tiles read the non-zeros less often.
    let best = ways().find(|n| cost(n) <= least + least / 16).unwrap_or(1);
    let all: Vec<i64> = ways().map(|n| n as i64).collect();
    target.choose(Point::SparseTile, problem, best as i64, &all) as u64 * LANES
}

/// Nanoseconds of a multiply-add of the longest vectors at the nominal peak.
const VECTOR: f64 = 1.0 / 6.0;

/// How the weights of a layer are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Output channels that take turns, so that loops are few and additions do not wait for one another.
    pub abreast: u64,
    /// Output channels whose sums wait together, those with about as many non-zeros next to one another: many where one
    /// thread computes all, so that loops are alike, fewer where several share them.
    pub block: u64,
    /// Input channels whose planes stay in the first-level cache.
    pub depth: u64,
}

/// Most output channels of a block, of so many.
pub fn block(target: &Target, out: u64) -> u64 {
    if target.threads > 1 { (out / 4).max(1).next_multiple_of(64).min(BLOCK) } else { BLOCK }
}

/// How many output channels should share offsets, by how many values that takes with the zeros which fill blocks up.
pub fn shared(ways: [(u64, u64); 3]) -> u64 {
    let cost = |&(shared, values): &(u64, u64)| (values as f64 * product(shared) * 100.0) as u64;
    ways.iter().min_by_key(|way| cost(way)).map_or(1, |way| way.0)
}

/// What a multiply-add of a non-zero costs where so many output channels share what it meets: by itself it waits for a load.
fn product(shared: u64) -> f64 {
    match shared {
        1 => 1.0,
        2 => 0.85,
        _ => 0.8,
    }
}

/// How to cut a layer over its tiles.
pub fn cut(target: &Target, problem: Problem<'_>, layer: &Layer) -> Cut {
    let abreast = if layer.span <= LANES { 8 } else { 4 };
    let block = layer.out.next_multiple_of(abreast).min(block(target, layer.out));
    let (best, _) = slices(layer, at_once(layer.span.div_ceil(LANES)), &layer.meets);
    let others = [best / 2, best * 3 / 4, best * 3 / 2, best * 2].map(|n| n.clamp(1, layer.channels.max(1)) as i64);
    let slices = target.choose(Point::SparseSlices, problem, best as i64, &others) as u64;
    Cut { abreast, block, depth: layer.channels.div_ceil(slices).max(1) }
}

/// Slices of equal size of the channels, and what the non-zeros of a layer take over `once` vectors of the longest kind, in
/// multiply-adds of such vectors: measured on a core that loads two of them a cycle.
fn slices(layer: &Layer, once: u64, meets: &Meets) -> (u64, f64) {
    let bytes = (layer.channels * meets.elements * 4) as f64;
    let of = |slices: u64| {
        // Sums are stored, and between slices also loaded.
        let sums = (if slices > 1 { 3.6 } else { 2.0 }) * once as f64 + GROUP;
        let far = (1.0 - NEAR * slices as f64 / bytes).max(0.0) * FAR;
        // Two that share what they meet load it once, and four twice.
        let each = if layer.shared > 1 { (meets.loads + far) / 2.0 } else { meets.loads + far };
        let each = each.max(product(layer.shared));
        let loads = layer.values as f64 * (once as f64 * each + SPREAD / layer.shared as f64);
        (slices, loads + (layer.out * slices) as f64 * sums)
    };
    let most = ((bytes / NEAR).ceil() as u64).clamp(1, layer.channels.max(1));
    (2..=most).map(of).fold(of(1), |best, next| if next.1 < best.1 { next } else { best })
}

/// The same for a tile of `vectors` vectors, of which some are computed at once, with so many staged elements.
fn met(layer: &Layer, vectors: u64, staged: u64, meets: &Meets) -> f64 {
    let once = at_once(vectors);
    // Every block of output channels fetches what it meets.
    let lines = (layer.channels * meets.elements * layer.out.div_ceil(BLOCK)) as f64 / LANES as f64;
    let fetched = lines * if staged * 4 > CACHED_BYTES { MEMORY_LINE } else { CACHE_LINE };
    // Every tile fetches all non-zeros, half of them before they are needed.
    let entries = self::fetched(layer.bytes()) / VECTOR / 2.0;
    (slices(layer, once, meets).1 + fetched) * (vectors / once) as f64 + entries
}

/// What is to be staged of an image, in one of two ways: with lines as long as they are, or filled up to whole vectors,
/// or half of one, and every column of the window in planes of its own.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    /// Lines and columns of results.
    pub size: [u64; 2],
    /// How many more lines and columns a phase has.
    pub reach: [u64; 2],
    /// Phases of lines and of columns.
    pub phases: [u64; 2],
    /// How many more lines all phases of lines together have than results.
    pub more: u64,
    /// Whether lines are filled up.
    pub aligned: bool,
}

/// What results that are computed at once meet of a channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Meets {
    /// Elements.
    pub elements: u64,
    /// Loads of a vector: more than one where vectors cross lines of the cache.
    pub loads: f64,
}

impl Meets {
    /// Of a tile of so many rows of a matrix.
    pub fn rows(span: u64) -> Meets {
        Meets { elements: (at_once(span.div_ceil(LANES)) * LANES).min(span), loads: 1.0 }
    }
}

impl Image {
    /// Of a tile of so many results, with lines so far apart.
    fn meets(&self, span: u64, pitch: u64) -> Meets {
        let results = at_once(span / LANES) * LANES;
        let elements = self.phases[0] * (results + self.reach[1]) + self.more * pitch;
        // Either all vectors cross lines of the cache, or those of every other line of the window.
        let loads = match self.aligned {
            true if pitch < LANES && self.reach[0] > 0 => 1.25,
            // Without a reach, all places are at the start of a plane.
            false if self.reach != [0, 0] => 1.7,
            _ => 1.0,
        };
        Meets { elements: self.phases[1] * elements, loads }
    }
}

/// How an image is cut into tiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tiles {
    /// Lines of results in a tile.
    pub lines: u64,
    /// Elements between lines.
    pub pitch: u64,
    /// Results in a tile, with what lies between lines, in whole vectors.
    pub span: u64,
    /// What those that are computed at once meet.
    pub meets: Meets,
    /// What it costs, in multiply-adds of the longest vectors.
    pub cost: u64,
}

impl Image {
    /// Tiles of so many lines.
    fn tiles(&self, layer: &Layer, lines: u64) -> Tiles {
        let width = self.size[1] + self.reach[1];
        let pitch = match self.aligned {
            true if width <= LANES / 2 => LANES / 2,
            true => width.next_multiple_of(LANES),
            false => width,
        };
        let vectors = ((lines - 1) * pitch + self.size[1]).div_ceil(LANES);
        let at_once = vectors.min(2)..=vectors.min(VECTORS);
        let span = at_once.map(|n| vectors.div_ceil(n) * n).min().unwrap_or(vectors) * LANES;
        let plane = (span + self.reach[0] * pitch + self.reach[1]) * self.phases.iter().product::<u64>();
        let (staged, meets) = (layer.channels * plane, self.meets(span, pitch));
        let met = met(layer, span / LANES, staged, &meets) + staged as f64 * TURN / VECTOR;
        Tiles { lines, pitch, span, meets, cost: (self.size[0].div_ceil(lines) as f64 * met) as u64 }
    }
}

/// Ways to cut an image that tuning tries.
const WAYS: usize = 8;

/// The best tiles of an image that a layer meets, which may be staged in either way.
pub fn tiles(target: &Target, problem: Problem<'_>, images: &[Image; 2], layer: &Layer) -> (Tiles, Image) {
    let lines = 1..=images[0].size[0].max(1);
    let ways = images.iter().flat_map(|image| lines.clone().map(|lines| (image.tiles(layer, lines), *image)));
    let mut ways: Vec<(Tiles, Image)> = ways.collect();
    ways.sort_by_key(|way| way.0.cost);
    // Large tiles leave little to share for threads.
    let notably = |(tiles, _): &&(Tiles, Image)| tiles.cost <= ways[0].0.cost + ways[0].0.cost / 16;
    let best = ways.iter().filter(notably).min_by_key(|way| way.0.lines).unwrap_or(&ways[0]);
    let code = |(tiles, image): &(Tiles, Image)| (2 * tiles.lines + u64::from(image.aligned)) as i64;
    let candidates: Vec<i64> = ways.iter().take(WAYS).map(code).collect();
    let chosen = target.choose(Point::SparseTile, problem, code(best), &candidates);
    *ways.iter().find(|way| code(way) == chosen).unwrap_or(best)
}

/// Vectors of the longest kind that are computed at once of so many.
fn at_once(vectors: u64) -> u64 {
    (1..=VECTORS).rev().find(|n| vectors.is_multiple_of(*n)).unwrap_or(1)
}

/// Vectors that are computed at once of a span of so many, of words of bytes or floats, for each of some output channels.
pub fn vectors(target: &Target, words: bool, span: u32, abreast: u32) -> u32 {
    let registers = match (target.arch, target.vector_bytes) {
        (Arch::X86_64, 16 | 32) if words && by_signs(target) => 10,
        (Arch::X86_64, 16 | 32) => 14,
        (Arch::X86_64, _) => 28,
        _ => 24,
    };
    let most = (registers / abreast).clamp(1, VECTORS as u32).min(span);
    (1..=most).rev().find(|n| span.is_multiple_of(*n)).unwrap_or(1)
}

/// Rows that the cost model assumes where run time decides.
pub const UNKNOWN_ROWS: u64 = 64;

/// What the cost model knows of a layer.
#[derive(Debug, Clone, Copy)]
pub struct Layer {
    /// Rows of the result: pixels.
    pub rows: u64,
    /// Input channels.
    pub channels: u64,
    /// Weights of an output channel.
    pub depth: u64,
    /// Output channels.
    pub out: u64,
    /// Non-zeros of all weights, with zeros that fill blocks up.
    pub values: u64,
    /// Output channels that share offsets.
    pub shared: u64,
    /// Multiply-adds of the fastest dense way.
    pub products: u64,
    /// Whether channels are words of four, multiplied as bytes.
    pub words: bool,
    /// Whether that is by minimal filtering where it pays.
    pub filtered: bool,
    /// Results of a tile, how many tiles, and the elements that each stages.
    pub span: u64,
    /// See `span`.
    pub tiles: u64,
    /// See `span`.
    pub staged: u64,
    /// See `span`: what results that are computed at once meet.
    pub meets: Meets,
}

/// Predicted nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// By non-zeros.
    pub sparse: f64,
    /// With all weights.
    pub dense: f64,
    /// How much less non-zeros take where the operand, and the result, have their channels first.
    pub saved: [f64; 2],
}

/// How much faster than with all weights non-zeros must be predicted to be: predictions err.
const BIAS: f64 = 1.1;

impl Costs {
    /// The same, so that a table of choices decides; `None` where it takes all weights although non-zeros pay.
    pub fn chosen(self, target: &Target, problem: Problem<'_>) -> Option<Costs> {
        let pays = self.pays();
        match (pays, target.choose(Point::Sparse, problem, pays.into(), &[0, 1]) > 0) {
            (true, false) => None,
            (false, true) => Some(Costs { dense: f64::MAX, ..self }),
            _ => Some(self),
        }
    }

    /// Whether non-zeros are faster by more than predictions err.
    pub fn pays(&self) -> bool {
        self.sparse < self.to_beat()
    }

    /// The time that non-zeros must not reach.
    pub fn to_beat(&self) -> f64 {
        self.dense / BIAS
    }

    /// By non-zeros, where the operand or the result has its channels first.
    pub fn planes(&self, [operand, result]: [bool; 2]) -> f64 {
        let saved = |n: usize, first: bool| if first { self.saved[n] } else { 0.0 };
        self.sparse - saved(0, operand) - saved(1, result)
    }

    /// The same with other layouts.
    pub fn with(self, planes: [bool; 2]) -> Costs {
        Costs { sparse: self.planes(planes), ..self }
    }
}

/// Bytes that come from memory in a nanosecond, and from the second-level cache.
const MEMORY_BYTES: f64 = 36.0;
const CACHE_BYTES: f64 = 64.0;

/// Bytes of the value of a non-zero, and of its offset.
const VALUE: f64 = 4.0;
const OFFSET: f64 = 2.0;

impl Layer {
    /// Bytes of all non-zeros.
    fn bytes(&self) -> f64 {
        self.values as f64 * (VALUE + OFFSET / self.shared as f64)
    }
}

/// Nanoseconds until so many bytes are there.
fn fetched(bytes: f64) -> f64 {
    bytes / if bytes > CACHED_BYTES as f64 { MEMORY_BYTES } else { CACHE_BYTES }
}

/// Shares of the nominal peak, which is of a slower clock than that of the machine where they were measured: of dense
/// kernels of floats and of bytes, of minimal filtering, and of sparse kernels, beside what [`met`] counts.
const DENSE_SHARE: f64 = 1.2;
const BYTES_SHARE: f64 = 1.1;
const FILTERED_SHARE: f64 = 0.9;
const SPARSE_SHARE: f64 = 0.95;

/// Nanoseconds a scalar non-zero takes, and an element to be turned, with vectors of 16 lanes; and how much less it takes
/// to be copied.
const SCALAR: f64 = 0.35;
pub(crate) const TURN: f64 = 0.15;
const COPIED: f64 = 0.04;

/// Predicts both ways of a layer.
pub fn costs(target: &Target, layer: &Layer) -> Costs {
    let rate = crate::schedule::multiply_adds_a_nanosecond(target) as f64;
    let lanes = f64::from(target.vector_bytes / 4);
    let [rows, depth, out, values] = [layer.rows, layer.depth, layer.out, layer.values].map(|n| n as f64);
    let filled = (out / lanes).ceil() * lanes / out;
    let share = match layer {
        Layer { words: true, .. } => BYTES_SHARE,
        Layer { filtered: true, .. } => FILTERED_SHARE,
        _ => DENSE_SHARE,
    };
    let dense = (layer.products as f64 * filled / (rate * share)).max(fetched(depth * out * 4.0));
    let entries = fetched(layer.bytes());
    if layer.span == 1 {
        return Costs { sparse: rows * (values * SCALAR).max(entries), dense, saved: [0.0; 2] };
    }
    let met = met(layer, layer.span.div_ceil(LANES), layer.staged, &layer.meets) * layer.tiles as f64 * LANES as f64
        / (rate * SPARSE_SHARE);
    let turned = [(layer.tiles * layer.staged) as f64, rows * out];
    let cost = |each: f64| turned.map(|elements| elements * each * 16.0 / lanes);
    Costs { sparse: met.max(entries) + cost(TURN).iter().sum::<f64>(), dense, saved: cost(COPIED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Problem<'static> = Problem { text: "", layer: "" };

    fn layer(channels: u64, out: u64, values: u64) -> Layer {
        let (rows, products) = (1, channels * out);
        let (span, tiles, staged, meets) = (64, 1, 0, Meets::rows(64));
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
            meets,
        }
    }

    #[test]
    fn layers_are_cut() {
        let mut target = Target::new("x86_64-unknown-linux-gnu", Some("x86-64-v4")).unwrap();
        let wide = |values| cut(&target, ANY, &layer(512, 200, values));
        assert_eq!(wide(20_000), Cut { abreast: 4, block: 200, depth: 128 });
        assert_eq!((wide(10_000).depth, wide(1_000).depth), (128, 512));
        assert_eq!(cut(&target, ANY, &layer(300, 2048, 100_000)).depth, 150);
        target.threads = 2;
        assert_eq!([200, 512, 2048].map(|out| cut(&target, ANY, &layer(64, out, 9)).block), [64, 128, 256]);
        assert_eq!(
            [1, 3, 4].map(|out| (block(&target, out), cut(&target, ANY, &layer(64, out, 9)).block)),
            [(64, 4); 3]
        );
    }

    #[test]
    fn spans_fill_vectors() {
        let (target, layer) = (Target::new("x86_64-unknown-linux-gnu", None).unwrap(), layer(256, 512, 12_000));
        let spans = [1, 3, 9, 16, 49, 128, 196, 784].map(|rows| span(&target, ANY, Some(rows), &layer));
        assert_eq!(spans, [1, 4, 16, 16, 64, 64, 112, 112]);
        assert_eq!(span(&target, ANY, None, &layer), 64);
    }

    #[test]
    fn lines_of_images() {
        let target = Target::new("x86_64-unknown-linux-gnu", None).unwrap();
        let images = |size: u64, channels, values| {
            let images = [false, true].map(|aligned| {
                let (reach, phases) = ([2, if aligned { 0 } else { 2 }], [1, if aligned { 3 } else { 1 }]);
                Image { size: [size; 2], reach, phases, more: 2, aligned }
            });
            let (tiles, image) = tiles(&target, ANY, &images, &layer(channels, channels, values));
            (image.aligned, tiles.lines, tiles.pitch, tiles.span)
        };
        // Lines of seven fill vectors two by two.
        assert_eq!(images(7, 512, 200_000), (true, 7, 8, 64));
        assert_eq!(images(14, 256, 50_000), (true, 7, 16, 112));
    }

    /// A 1x1 convolution of 1024 to 256 channels over 14x14 pixels: faster by non-zeros where two thirds are zero.
    #[test]
    fn dense_layers_stay_dense() {
        let target = Target::new("x86_64-unknown-linux-gnu", Some("x86-64-v4")).unwrap();
        let (rows, depth, out) = (196, 1024, 256);
        let pays = |percent: u64| {
            let mut layer =
                Layer { rows, products: rows * depth * out, ..layer(depth, out, depth * out * (100 - percent) / 100) };
            layer.span = span(&target, ANY, Some(rows), &layer);
            (layer.tiles, layer.staged) = (rows.div_ceil(layer.span), depth * layer.span);
            costs(&target, &layer).pays()
        };
        assert_eq!([0, 50, 65, 80, 95].map(pays), [false, false, true, true, true]);
    }

    #[test]
    fn vectors_divide_the_span() {
        let target = Target::new("x86_64-unknown-linux-gnu", Some("x86-64-v3")).unwrap();
        assert_eq!([1, 8, 12, 14].map(|n| vectors(&target, false, n, 4)), [1, 2, 3, 2]);
        assert_eq!(vectors(&target, false, 2, 8), 1);
    }
}
