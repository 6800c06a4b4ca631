//! Weights that come next are fetched while the rows of a tile meet those in use: each tile asks for an equal part, so that
//! memory is busy all the time.

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
    /// An equal part of the next `bytes` for each tile, of `tile` of the `rows`, in so many rounds of the inner loop.
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

/// Fetches so many lines of the cache from an address on, and gives what follows them.
pub(in crate::kernels) fn fetch_lines(k: &mut Builder, next: Val, lines: i64, machine: &Machine) -> Val {
    for line in 0..lines {
        let at = k.at(next, (line * machine.line_bytes()) as i32);
        k.prefetch(at);
    }
    k.add_int(next, lines * machine.line_bytes())
}
