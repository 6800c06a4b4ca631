//! Blocks and unrolling of the kernels that are no contractions: attention, pools, reductions, trees, element-wise loops.
//!
//! Chosen on [`ZEN5`](crate::machine::ZEN5) with AVX-512 by timing single steps. To measure again: `mcc bench MODEL --profile` with the
//! figure changed: no knob overrules these yet (`docs/cost-model.md`).

/// Vectors of queries in a block of attention.
pub const ATTENTION_QUERY_VECTORS: u32 = 4;

/// Most keys in a block of attention: their scores, with the queries', stay in the first-level cache.
pub const MAX_ATTENTION_KEYS: i64 = 320;

/// Vectors of channels pooled together.
pub const POOL_VECTORS: u32 = 4;

/// Windows of a pool of at most this many elements are unrolled.
pub const MAX_UNROLLED_POOL: i64 = 9;

/// Vectors of a kept innermost block that are reduced together.
pub const REDUCED_VECTORS: usize = 4;

/// Accumulators of a reduction in flight: enough to hide an addition's latency.
pub const ACCUMULATORS: i64 = 4;

/// Most elements of a list by which TopK finds the largest; more are found by sorting.
pub const MAX_TOP_K_LIST: i64 = 64;

/// Taps of an axis of an interpolation up to this number are unrolled.
pub const MAX_UNROLLED_TAPS: i64 = 4;

/// Rows that go down a tree side by side: as many as can, then fewer.
pub const TREE_ROWS: [i64; 3] = [8, 4, 1];

/// Rows that pass through all trees before the next ones come.
pub const TREE_BLOCK_ROWS: i64 = 64;

/// Longer runs of bytes are copied or filled by the emitter's own means (a call); shorter ones of constant length inline.
pub const MAX_INLINE_COPY_BYTES: i32 = 256;

/// Most elements of an operand that is laid out along joined axes of an element-wise kernel.
pub const MAX_EXPANDED_ELEMENTS: i64 = 4096;

/// Fewest rounds of the axis outside joined axes, which all read what is laid out.
pub const MIN_EXPANDED_ROUNDS: i64 = 8;

/// Most elements of a row that a short axis and a part of the one before it become.
pub const MAX_SPLIT_ROW_ELEMENTS: i64 = 1024;

/// Vectors of sums that are stored together, of which an epilogue may make bytes.
pub const STORED_VECTORS: i64 = 4;

/// Fewer columns than this are not worth a table of their rows.
pub const MIN_TABLE_COLUMNS: i64 = 8;

/// Rows of windows worth a slice each: fewer and shorter ones go by index.
pub const MAX_WINDOW_SLICES: usize = 16;
/// See [`MAX_WINDOW_SLICES`].
pub const MIN_WINDOW_LENGTH: usize = 4;
