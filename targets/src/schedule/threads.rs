//! How threads share work: how much work makes a further thread pay, and the size of parts.
//!
//! Measured on two cores of [`ZEN5`](crate::machine::ZEN5) with the pool of `runtime/`. To measure again: compare `mcc
//! bench MODEL --threads 2 --profile` with one thread (`docs/cost-model.md`).

use crate::Target;

/// Nanoseconds of work per thread below which a further thread does not pay: waking it and waiting for it costs one or
/// two thousand.
pub const MIN_THREAD_NS: i64 = 8000;

/// Nanoseconds of a part of a kernel's work below which smaller parts do not pay. There are several parts per thread,
/// so that a delayed thread does not delay the others.
pub const MIN_PART_NS: i64 = 4000;

/// Parts per thread.
pub const PARTS_PER_THREAD: i64 = 4;

/// Multiply-adds of `f32` per nanosecond and thread: two vectors per cycle; four times as many of 8-bit integers.
pub fn multiply_adds_per_ns(target: &Target) -> i64 {
    i64::from(target.lanes() * target.machine.vector_multiply_adds_per_ns())
}

/// Ratio of a thread's rates of 8-bit and `f32` multiply-adds.
pub const INT8_SPEEDUP: i64 = 4;

/// Bytes that a thread reads or writes per nanosecond if they are in the caches.
pub fn bytes_per_ns(target: &Target) -> i64 {
    i64::from(target.machine.streamed_bytes_per_ns)
}

/// Number of blocks of rows for threads to share.
const SHARED_BLOCKS: i64 = 16;

/// Minimum tiles of columns for threads to share.
const SHARED_COLUMN_TILES: i64 = 8;

/// Whether threads share the rows of a contraction rather than the tiles of columns, each `width` wide, such that a
/// thread reads as little as possible of what the others read. Returns the rows that a thread takes at once, a multiple
/// of `unit`.
pub fn shared_rows(unit: u64, rows: Option<i64>, columns: Option<i64>, width: u32) -> Option<i64> {
    let (unit, width) = (i64::try_from(unit).unwrap_or(1), i64::from(width));
    let by_rows = match (rows, columns) {
        (Some(rows), columns) => rows >= 2 * unit && rows >= columns.unwrap_or(SHARED_COLUMN_TILES * width),
        (None, columns) => columns.is_none_or(|c| c / width < SHARED_COLUMN_TILES),
    };
    by_rows.then(|| (rows.unwrap_or(0) / SHARED_BLOCKS / unit).max(1) * unit)
}

/// Minimum iterations of a loop for threads to share it.
pub const MIN_SHARED_ROUNDS: i64 = 16;
