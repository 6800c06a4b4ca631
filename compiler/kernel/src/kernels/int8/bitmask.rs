//! Packed bytes of which only the non-zero ones are stored. Each panel is expanded in memory before byte products read
//! it; see [`mask_bytes`](mcc_ir::mask_bytes) for their layout.

use crate::kernels::support::emit::Emit;
use crate::kir::{Addr, Builder, Elem, Ty, Un, Val};
use mcc_ir::Dim;
use mcc_targets::schedule;

/// Bytes per word of a mask, one per bit.
const LANES: u32 = 64;

/// Columns whose bytes of a step fill a word.
pub(crate) const COLUMNS: u32 = LANES / 4;

/// The weights, and a buffer for the panels of a tile.
#[derive(Clone)]
pub(crate) struct Masked {
    masks: Val,
    values: Val,
    heads: Val,
    /// Buffer of expanded panels.
    pub(crate) room: Val,
    /// Words per panel.
    words: i64,
    /// Approximate number of values per panel.
    few: i64,
    unrolled: u32,
}

impl Masked {
    /// Operands 1 to 3 of a kernel, for tiles of `panels` panels of `panel_bytes` bytes, about `few` of them non-zero.
    pub(crate) fn new(e: &Emit<'_>, k: &mut Builder, [few, panel_bytes]: [i64; 2], panels: u32) -> Masked {
        Masked {
            masks: e.operand(1),
            values: e.operand(2),
            heads: e.operand(3),
            room: e.scratch(k, Dim::from(panel_bytes * i64::from(panels))),
            words: panel_bytes / i64::from(LANES),
            few,
            unrolled: if e.request.config.target.expands_bytes() { schedule::int8::BITMASK_UNROLL } else { 1 },
        }
    }

    /// Bytes of a panel's values (approximately) and of its masks.
    pub(crate) fn panel_bytes(&self) -> [i64; 2] {
        [self.few, 8 * self.words]
    }

    /// Pointer to the values of the `n`th panel after `panel`.
    pub(crate) fn values(&self, k: &mut Builder, panel: Val, n: u32) -> Val {
        let head = k.at_index(self.heads, panel, 4);
        let head = k.load(Ty::new(Elem::I32, 1), Addr { offset: head.offset + 4 * n as i32, ..head });
        let head = k.convert(head, Elem::I64);
        k.add(self.values, head)
    }

    /// Pointer to a panel's masks.
    pub(crate) fn masks(&self, k: &mut Builder, panel: Val) -> Val {
        let masks = k.mul_int(panel, 8 * self.words);
        k.add(self.masks, masks)
    }

    /// Expands the `n`th panel after `panel` into its place.
    pub(crate) fn write(&self, k: &mut Builder, panel: Val, n: u32) {
        let (mut values, masks) = (self.values(k, panel, n), self.masks(k, panel));
        let before = i64::from(n) * self.words;
        let (masks, room) = (k.add_int(masks, 8 * before), k.add_int(self.room, i64::from(LANES) * before));
        let round = i64::from(self.unrolled);
        let whole = self.words / round * round;
        let words = |k: &mut Builder, at: Val, count: u32, mut values: Val| {
            // The index counts bytes of masks, each for eight bytes of weights.
            let (masks, to) = (k.add(masks, at), k.at_index(room, at, 8));
            for n in 0..count {
                let mask = k.at(masks, 8 * n as i32);
                word(k, mask, &mut values, Some(Addr { offset: to.offset + (n * LANES) as i32, ..to }));
            }
            values
        };
        let (zero, end) = (k.int(0), k.int(8 * whole));
        values =
            k.fold_loop(zero, end, 8 * round, &[values], |k, at, state| vec![words(k, at, self.unrolled, state[0])])[0];
        words(k, end, (self.words - whole) as u32, values);
    }
}

/// The expanded bytes of a mask's word, stored to `to` if given; advances `values` to the values of the next word.
pub(crate) fn word(k: &mut Builder, mask: Addr, values: &mut Val, to: Option<Addr>) -> Val {
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
