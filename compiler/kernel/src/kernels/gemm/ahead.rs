//! Prefetching of weights: while a tile of rows uses some columns, it fetches an equal part of the next ones, so that memory is
//! busy all the time.

use mcc_targets::machine::Machine;

use crate::kir::{Builder, Val};

/// Lines of the cache that are fetched ahead.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Ahead {
    /// The first one.
    pub(in crate::kernels) from: Val,
    /// How many, in a round of the inner loop.
    pub(in crate::kernels) lines: i64,
}

/// Weights that a tile of rows fetches ahead.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Fetch {
    /// Bytes from the weights in use to those that the first row fetches.
    pub(in crate::kernels) first: i64,
    /// Bytes from those of a row to those of the next.
    pub(in crate::kernels) a_row: i64,
    /// Lines in a round of the inner loop.
    pub(in crate::kernels) a_round: i64,
}

impl Fetch {
    /// Divides the next `bytes` evenly among the tiles of `tile` rows each, and the rounds of their inner loops.
    pub(in crate::kernels) fn new(machine: &Machine, bytes: i64, rows: i64, tile: u32, rounds: i64) -> Option<Fetch> {
        (rounds > 0 && rows > 0).then(|| {
            let a_round = bytes * i64::from(tile) / (rows * rounds * machine.line_bytes()) + 1;
            Fetch { first: bytes, a_row: bytes / rows, a_round }
        })
    }

    /// Where the tile that begins `done` rows behind the first begins to fetch, from the weights in use.
    pub(in crate::kernels) fn start(self, k: &mut Builder, right: Val, done: Val) -> Val {
        let part = k.mul_int(done, self.a_row);
        let part = k.add_int(part, self.first);
        k.add(right, part)
    }
}

/// Prefetches `lines` cache lines from an address on; gives the address behind them.
pub(in crate::kernels) fn fetch_lines(k: &mut Builder, next: Val, lines: i64, machine: &Machine) -> Val {
    for line in 0..lines {
        let at = k.at(next, (line * machine.line_bytes()) as i32);
        k.prefetch(at);
    }
    k.add_int(next, lines * machine.line_bytes())
}
