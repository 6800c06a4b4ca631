//! Packed bytes of which only the non-zero ones are stored, written out a panel at a time where byte products read them;
//! see [`mask_bytes`](crate::ir::mask_bytes) for how they lie.

use super::Emit;
use crate::ir::Dim;
use crate::lower::kir::{Addr, Builder, Elem, Ty, Un, Val};

/// Words a round of the loop, where expanding one is an instruction.
const UNROLLED: u32 = 4;

/// Bytes that a word of a mask has a bit of each of.
const LANES: u32 = 64;

/// The weights, and room for a panel of them.
#[derive(Clone)]
pub(super) struct Masked {
    masks: Val,
    values: Val,
    heads: Val,
    /// Where a panel is written out.
    pub(super) room: Val,
    /// Words a panel.
    words: i64,
    unrolled: u32,
}

impl Masked {
    /// Operands 1 to 3 of a kernel, for panels of so many bytes.
    pub(super) fn new(e: &Emit<'_>, k: &mut Builder, panel_bytes: i64) -> Masked {
        Masked {
            masks: e.operand(1),
            values: e.operand(2),
            heads: e.operand(3),
            room: e.scratch(k, Dim::from(panel_bytes)),
            words: panel_bytes / i64::from(LANES),
            unrolled: if e.site.target.expands_bytes() { UNROLLED } else { 1 },
        }
    }

    /// Where a panel's values and masks begin.
    pub(super) fn sources(&self, k: &mut Builder, panel: Val) -> [Val; 2] {
        let head = k.at_index(self.heads, panel, 4);
        let head = k.load(Ty::new(Elem::I32, 1), head);
        let head = k.convert(head, Elem::I64);
        let masks = k.mul_int(panel, 8 * self.words);
        [k.add(self.values, head), k.add(self.masks, masks)]
    }

    /// Writes out a panel.
    pub(super) fn write(&self, k: &mut Builder, panel: Val) {
        let [mut values, masks] = self.sources(k, panel);
        let round = i64::from(self.unrolled);
        let whole = self.words / round * round;
        let words = |k: &mut Builder, at: Val, count: u32, mut values: Val| {
            // The index counts bytes of masks, each of which stands for eight of weights.
            let (masks, to) = (k.add(masks, at), k.at_index(self.room, at, 8));
            for n in 0..count {
                word(k, (masks, n), &mut values, Some(Addr { offset: to.offset + (n * LANES) as i32, ..to }));
            }
            values
        };
        let (zero, end) = (k.int(0), k.int(8 * whole));
        values = k.fold_loop(zero, end, 8 * round, &[values], &mut |k, at, state| {
            vec![words(k, at, self.unrolled, state[0])]
        })[0];
        words(k, end, (self.words - whole) as u32, values);
    }
}

/// The bytes of the `n`th word from some masks on, written out if there is a place for them; moves `values` on to what the
/// next word begins with.
pub(super) fn word(k: &mut Builder, (masks, n): (Val, u32), values: &mut Val, to: Option<Addr>) -> Val {
    let mask = k.at(masks, 8 * n as i32);
    let mask = k.load(Ty::I64, mask);
    let from = k.at(*values, 0);
    let bytes = k.load_expanded(LANES, from, mask);
    if let Some(to) = to {
        k.store(to, bytes);
    }
    let count = k.un(Un::CountOnes, mask);
    *values = k.add(*values, count);
    bytes
}
