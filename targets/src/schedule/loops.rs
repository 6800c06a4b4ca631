//! Blocks and unrolling of all kernels but products and convolutions: attention, pools, reductions, trees, element-wise
//! loops.
//!
//! Chosen on [`ZEN5`](crate::machine::ZEN5) with AVX-512 by timing single steps. To measure again: `mcc bench MODEL
//! --profile` with the figure changed; no knob overrules these yet (`docs/cost-model.md`).

/// Vectors of queries in a block of attention.
pub const ATTENTION_QUERY_VECTORS: u32 = 4;

/// Maximum keys in a block of attention: their scores and the queries' stay in the first-level cache.
pub const MAX_ATTENTION_KEYS: i64 = 320;

/// Vectors of channels pooled together.
pub const POOL_VECTORS: u32 = 4;

/// Pools with windows of at most this many elements are unrolled.
pub const MAX_UNROLLED_POOL: i64 = 9;

/// Vectors of a kept innermost block that are reduced together.
pub const REDUCED_VECTORS: usize = 4;

/// Accumulators of a reduction in flight: enough to hide an addition's latency.
pub const ACCUMULATORS: i64 = 4;

/// Maximum length of the list with which TopK finds the largest elements; beyond that it sorts.
pub const MAX_TOP_K_LIST: i64 = 64;

/// Interpolations with at most this many taps along an axis are unrolled.
pub const MAX_UNROLLED_TAPS: i64 = 4;

/// Rows that descend a tree together: as many as possible, then fewer.
pub const TREE_ROWS: [i64; 3] = [8, 4, 1];

/// Rows that pass through all trees before the next ones.
pub const TREE_BLOCK_ROWS: i64 = 64;

/// Longer runs of bytes are copied or filled by a call; shorter ones of constant length inline.
pub const MAX_INLINE_COPY_BYTES: i32 = 256;

/// Maximum elements of an operand that is expanded along joined axes of an element-wise kernel.
pub const MAX_EXPANDED_ELEMENTS: i64 = 4096;

/// Minimum iterations over the axis outside of joined axes, which all read the expanded operand.
pub const MIN_EXPANDED_ROUNDS: i64 = 8;

/// Maximum elements of a row that is joined from a short axis and a part of the one before it.
pub const MAX_SPLIT_ROW_ELEMENTS: i64 = 1024;

/// Vectors of sums that are stored together, and that an epilogue may convert to bytes.
pub const STORED_VECTORS: i64 = 4;

/// Minimum columns for a table of the rows to pay.
pub const MIN_TABLE_COLUMNS: i64 = 8;

/// Maximum number of window rows that become one slice each; more, or shorter ones, are gathered by index.
pub const MAX_WINDOW_SLICES: usize = 16;
/// See [`MAX_WINDOW_SLICES`].
pub const MIN_WINDOW_LENGTH: usize = 4;
