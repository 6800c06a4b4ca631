//! Prefetching of weights: while a tile of rows uses some columns, it fetches an equal share of the next ones, which
//! keeps memory busy all the time.

use mcc_targets::machine::Machine;

use crate::kir::{Builder, Val};

/// Cache lines to prefetch.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Ahead {
    /// Address of the first one.
    pub(in crate::kernels) from: Val,
    /// Lines per round of the inner loop.
    pub(in crate::kernels) lines: i64,
}

/// The weights that a tile of rows prefetches.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Fetch {
    /// Bytes from the current weights to those that the first row fetches.
    pub(in crate::kernels) first: i64,
    /// Bytes to fetch per row.
    pub(in crate::kernels) a_row: i64,
    /// Lines per round of the inner loop.
    pub(in crate::kernels) a_round: i64,
}

impl Fetch {
    /// Divides the next `bytes` evenly among tiles of `tile` rows and the rounds of their inner loops.
    pub(in crate::kernels) fn new(machine: &Machine, bytes: i64, rows: i64, tile: u32, rounds: i64) -> Option<Fetch> {
        (rounds > 0 && rows > 0).then(|| {
            let a_round = bytes * i64::from(tile) / (rows * rounds * machine.line_bytes()) + 1;
            Fetch { first: bytes, a_row: bytes / rows, a_round }
        })
    }

    /// The address at which a tile `done` rows after the first one starts to fetch; `right` are the current weights.
    pub(in crate::kernels) fn start(self, k: &mut Builder, right: Val, done: Val) -> Val {
        let part = k.mul_int(done, self.a_row);
        let part = k.add_int(part, self.first);
        k.add(right, part)
    }
}

/// Prefetches `lines` cache lines; returns the address after them.
pub(in crate::kernels) fn fetch_lines(k: &mut Builder, next: Val, lines: i64, machine: &Machine) -> Val {
    for line in 0..lines {
        let at = k.at(next, (line * machine.line_bytes()) as i32);
        k.prefetch(at);
    }
    k.add_int(next, lines * machine.line_bytes())
}
