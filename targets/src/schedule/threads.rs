//! How work is shared among threads: how much is worth a thread, and in which parts.
//!
//! Measured on two cores of [`ZEN5`](crate::machine::ZEN5) with the pool of `runtime/`. To measure again: `mcc bench MODEL --threads 2
//! --profile` against one thread (`docs/cost-model.md`).

use crate::Target;

/// Nanoseconds of one thread's work below which another thread does not pay: waking it and waiting for it costs one or
/// two thousand.
pub const MIN_THREAD_NS: i64 = 8000;

/// Nanoseconds of a part of a kernel's work below which cutting it up further does not pay. There are several parts per
/// thread, so that one that was held up does not hold up the others.
pub const MIN_PART_NS: i64 = 4000;

/// Parts per thread.
pub const PARTS_PER_THREAD: i64 = 4;

/// Multiply-adds of `f32` that one thread can do in a nanosecond: two vectors a cycle; of 8-bit integers four times as many.
pub fn multiply_adds_per_ns(target: &Target) -> i64 {
    i64::from(target.lanes() * target.machine.vector_multiply_adds_per_ns())
}

/// How many times as many multiply-adds of 8-bit integers a thread does as of `f32`.
pub const INT8_SPEEDUP: i64 = 4;

/// Bytes that one thread reads or writes in a nanosecond, where they come from the caches.
pub fn bytes_per_ns(target: &Target) -> i64 {
    i64::from(target.machine.streamed_bytes_per_ns)
}

/// Blocks of rows that threads are to share.
const SHARED_BLOCKS: i64 = 16;

/// Tiles of columns that are enough for threads to share.
const SHARED_COLUMN_TILES: i64 = 8;

/// Whether threads share the rows of a contraction, not the tiles of columns, each `width` wide: a thread should read as
/// little as can be of what the others read. Gives how many rows a thread takes at once, a multiple of `unit`.
pub fn shared_rows(unit: u64, rows: Option<i64>, columns: Option<i64>, width: u32) -> Option<i64> {
    let (unit, width) = (i64::try_from(unit).unwrap_or(1), i64::from(width));
    let by_rows = match (rows, columns) {
        (Some(rows), columns) => rows >= 2 * unit && rows >= columns.unwrap_or(SHARED_COLUMN_TILES * width),
        (None, columns) => columns.is_none_or(|c| c / width < SHARED_COLUMN_TILES),
    };
    by_rows.then(|| (rows.unwrap_or(0) / SHARED_BLOCKS / unit).max(1) * unit)
}

/// Rounds of a loop that are enough for the threads that share it.
pub const MIN_SHARED_ROUNDS: i64 = 16;
