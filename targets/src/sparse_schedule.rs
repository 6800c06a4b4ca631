//! Schedules and the cost model of products with sparse weights, as pure functions of shape and target.
//!
//! Vectors run along the pixels (or rows of a matrix): a non-zero is loaded once and meets some vectors of staged elements.
//! Tiles do not depend on the target, so that code for several CPU levels shares the weights.

use crate::{Arch, Target};

/// Lanes that tiles fill: those of the longest vectors.
const LANES: u64 = 16;

/// Most vectors of the longest kind in a tile that is computed at once.
const VECTORS: u64 = 8;

/// Bytes of staged planes that should stay in the second-level cache.
const STAGED_BYTES: u64 = 512 << 10;

/// Results of a tile of a matrix with `rows` rows (`None`: known at run time) and `depth` columns: a power of two, or a
/// multiple of [`LANES`].
pub fn span(rows: Option<u64>, depth: u64) -> u64 {
    let Some(rows) = rows.filter(|&r| r > 0) else { return 4 * LANES };
    if rows < LANES {
        return if rows == 1 { 1 } else { rows.next_power_of_two().max(4) };
    }
    let vectors = rows.div_ceil(LANES);
    let most = (STAGED_BYTES / (depth * LANES * 4).max(1)).clamp(2, VECTORS);
    // The fewest vectors in all, then the largest tile.
    let best = (2.min(vectors)..=most.min(vectors)).min_by_key(|&n| (vectors.div_ceil(n) * n, most - n));
    best.unwrap_or(vectors) * LANES
}

/// What is to be staged of an image, in one of two ways: with lines as long as they are, or filled up to whole vectors
/// and every column of the window in planes of its own.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    /// Lines and columns of results.
    pub size: [u64; 2],
    /// How many more lines and columns a plane has.
    pub reach: [u64; 2],
    /// Planes: channels times phases.
    pub planes: u64,
    /// Non-zeros of all weights.
    pub values: u64,
    /// Whether lines are filled up.
    pub aligned: bool,
}

/// How an image is cut into tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiles {
    /// Lines of results in a tile.
    pub lines: u64,
    /// Elements between lines.
    pub pitch: u64,
    /// Results in a tile, with what lies between lines, in whole vectors.
    pub span: u64,
    /// What it costs, in multiply-adds of elements.
    pub cost: u64,
}

/// The best tiles of an image.
pub fn tiles(image: &Image) -> Tiles {
    let width = image.size[1] + image.reach[1];
    let pitch = if image.aligned { width.next_multiple_of(LANES) } else { width };
    let of = |lines: u64| {
        let vectors = ((lines - 1) * pitch + image.size[1]).div_ceil(LANES);
        // At least four vectors at once keep the multipliers busy.
        let at_once = vectors.min(4)..=vectors.min(VECTORS);
        let span = at_once.map(|n| vectors.div_ceil(n) * n).min().unwrap_or(vectors) * LANES;
        let staged = (span + image.reach[0] * pitch + image.reach[1]) * image.planes;
        // What is not aligned takes two loads for most vectors, and so does what comes from further away.
        let halves = (if image.aligned { 2 } else { 3 }) * (1 + u64::from(staged * 4 > STAGED_BYTES));
        let cost = image.size[0].div_ceil(lines) * (span * image.values * halves / 2 + staged * STAGING_COST);
        Tiles { lines, pitch, span, cost }
    };
    let first = of(1);
    (2..=image.size[0]).map(of).fold(first, |best, t| if t.cost < best.cost { t } else { best })
}

/// What an element costs to stage, in multiply-adds of full vectors.
const STAGING_COST: u64 = 6;

/// Output channels of a group, for tiles of `span` results: so many that their sums fill the registers.
pub fn abreast(span: u64) -> u64 {
    match span.div_ceil(LANES) {
        1 => 8,
        n if at_once(n) <= 4 => 4,
        _ => 2,
    }
}

/// Vectors of the longest kind that are computed at once of so many.
fn at_once(vectors: u64) -> u64 {
    (1..=VECTORS).rev().find(|n| vectors.is_multiple_of(*n)).unwrap_or(1)
}

/// Vectors that are computed at once of a span of so many, for each of some output channels.
pub fn vectors(target: &Target, span: u32, abreast: u32) -> u32 {
    let registers = match (target.arch, target.vector_bytes) {
        (Arch::X86_64, 16 | 32) => 14,
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
    /// Weights of an output channel.
    pub depth: u64,
    /// Output channels.
    pub out: u64,
    /// Non-zeros of all weights.
    pub values: u64,
    /// Multiply-adds of the fastest dense way.
    pub products: u64,
    /// Whether that is by minimal filtering where it pays.
    pub filtered: bool,
    /// Results of a tile, how many tiles, and the elements that each stages.
    pub span: u64,
    /// See `span`.
    pub tiles: u64,
    /// See `span`.
    pub staged: u64,
}

/// Predicted nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// By non-zeros.
    pub sparse: f64,
    /// With all weights.
    pub dense: f64,
}

impl Costs {
    /// Whether non-zeros are faster by more than predictions err.
    pub fn pays(&self) -> bool {
        self.sparse * 1.1 < self.dense
    }
}

/// Bytes that come from memory in a nanosecond, and from the second-level cache.
const MEMORY_BYTES: f64 = 36.0;
const CACHE_BYTES: f64 = 64.0;

/// Shares of the nominal peak, which is of a slower clock than that of the machine where they were measured: of dense
/// kernels, of minimal filtering, and of sparse kernels, which load an operand a multiply-add from the second-level cache.
const DENSE_SHARE: f64 = 1.2;
const FILTERED_SHARE: f64 = 0.9;
const SPARSE_SHARE: f64 = 0.45;

/// Nanoseconds a scalar non-zero takes, and an element to be turned, with vectors of 16 lanes.
const SCALAR: f64 = 0.35;
const TURN: f64 = 0.15;

/// Predicts both ways of a layer.
pub fn costs(target: &Target, layer: &Layer) -> Costs {
    let rate = crate::schedule::multiply_adds_a_nanosecond(target) as f64;
    let lanes = f64::from(target.vector_bytes / 4);
    let fetched = |bytes: f64| bytes / if bytes > STAGED_BYTES as f64 { MEMORY_BYTES } else { CACHE_BYTES };
    let [rows, depth, out, values] = [layer.rows, layer.depth, layer.out, layer.values].map(|n| n as f64);
    let filled = (out / lanes).ceil() * lanes / out;
    let share = if layer.filtered { FILTERED_SHARE } else { DENSE_SHARE };
    let dense = (layer.products as f64 * filled / (rate * share)).max(fetched(depth * out * 4.0));
    let entries = fetched(values * 6.0);
    if layer.span == 1 {
        return Costs { sparse: rows * (values * SCALAR).max(entries), dense };
    }
    let used = lanes.min(layer.span as f64) / lanes;
    let met = values * (layer.tiles * layer.span) as f64 / (rate * SPARSE_SHARE * used);
    let turned = ((layer.tiles * layer.staged) as f64 + rows * out) * TURN * 16.0 / lanes;
    Costs { sparse: met.max(entries) + turned, dense }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_fill_vectors() {
        let spans = [1, 3, 9, 16, 49, 128, 196, 784].map(|rows| span(Some(rows), 256));
        assert_eq!(spans, [1, 4, 16, 16, 64, 128, 112, 112]);
        assert_eq!((span(None, 64), span(Some(196), 4096)), (64, 32));
    }

    #[test]
    fn lines_of_images() {
        let image = |size: u64, aligned, planes, values| {
            let reach = [2, if aligned { 0 } else { 2 }];
            tiles(&Image { size: [size; 2], reach, planes, values, aligned })
        };
        // Lines of seven fill vectors only when they follow one another.
        let small = [false, true].map(|aligned| image(7, aligned, if aligned { 1536 } else { 512 }, 200_000));
        assert_eq!((small[0].lines, small[0].span), (7, 64));
        assert!(small[0].cost < small[1].cost);
        let medium = [false, true].map(|aligned| image(14, aligned, if aligned { 768 } else { 256 }, 50_000));
        assert_eq!((medium[1].lines, medium[1].pitch, medium[1].span), (7, 16, 112));
        assert!(medium[1].cost < medium[0].cost);
    }

    /// A 1x1 convolution of 1024 to 256 channels over 14x14 pixels: faster by non-zeros where three quarters are zero.
    #[test]
    fn dense_layers_stay_dense() {
        let target = Target::new("x86_64-unknown-linux-gnu", Some("x86-64-v4")).unwrap();
        let (rows, depth, out) = (196, 1024, 256);
        let span = span(Some(rows), depth);
        let pays = |percent: u64| {
            let values = depth * out * (100 - percent) / 100;
            let (tiles, staged, products) = (rows.div_ceil(span), depth * span, rows * depth * out);
            costs(&target, &Layer { rows, depth, out, values, products, filtered: false, span, tiles, staged }).pays()
        };
        assert_eq!([0, 50, 65, 80, 95].map(pays), [false, false, false, true, true]);
    }

    #[test]
    fn vectors_divide_the_span() {
        let target = Target::new("x86_64-unknown-linux-gnu", Some("x86-64-v3")).unwrap();
        assert_eq!([1, 8, 14, 16].map(|n| vectors(&target, n, 2)), [1, 4, 7, 4]);
        assert_eq!((vectors(&target, 8, 4), vectors(&target, 2, 8)), (2, 1));
        assert_eq!([1, 16, 64, 112].map(abreast), [8, 8, 4, 2]);
    }
}
