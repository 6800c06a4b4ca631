//! Partial vectors: loads and stores of some lanes only.

use super::Builder;
use crate::kir::{Addr, Bin, Cmp, Elem, Inst, Stmt, Ty, Val};

impl Builder {
    /// Sets whether partial loads and stores are cheap on the target.
    pub fn with_masks(self, masks: bool) -> Builder {
        Builder { masks, ..self }
    }

    /// Whether partial loads and stores are cheap.
    pub fn has_masks(&self) -> bool {
        self.masks
    }

    /// Restricts every load and store of `lanes` lanes in `body` to the lanes below `count`. The values that the body
    /// computes in the other lanes must not matter.
    pub fn partly(&mut self, count: Val, lanes: u32, body: impl FnOnce(&mut Builder)) {
        assert!(self.part.is_none() && lanes > 1, "a part of a part");
        self.part = Some((count, lanes));
        body(self);
        self.part = None;
    }

    /// The number of lanes that are loaded and stored, of `lanes`, if not all.
    pub fn part(&self, lanes: u32) -> Option<Val> {
        self.part.filter(|p| p.1 == lanes).map(|p| p.0)
    }

    /// The mask of the lanes below an `i64` count, for values of a type.
    pub fn lanes_below(&mut self, count: Val, ty: Ty) -> Val {
        let bytes = self.lane_numbers(ty.lanes);
        let (int, width) = (ty.elem.int(), self.int(i64::from(ty.lanes)));
        let numbers = self.convert(bytes, int);
        let count = self.bin(Bin::Min, count, width);
        let count = self.convert(count, int);
        let count = self.splat(count, ty.lanes);
        self.cmp(Cmp::Lt, numbers, count)
    }

    /// The bytes 0, 1, 2 and so on, one per lane.
    fn lane_numbers(&mut self, lanes: u32) -> Val {
        assert!(lanes <= 16);
        let (low, high) = (self.int(0x0706_0504_0302_0100), self.int(0x0f0e_0d0c_0b0a_0908));
        let low = self.splat(low, 2);
        let both = self.with_lane(low, high, 1);
        let bytes = self.bitcast(both, Ty::new(Elem::I8, 16));
        if lanes == 16 {
            return bytes;
        }
        let pattern: Vec<u8> = (0..lanes as u8).collect();
        self.shuffle(bytes, bytes, &pattern)
    }

    /// Loads the lanes below `count`; the others are zero.
    pub fn load_part(&mut self, ty: Ty, from: Addr, count: Val) -> Val {
        match self.as_int(count) {
            Some(n) if n >= i64::from(ty.lanes) => self.inst(Inst::Load(from), ty),
            Some(n) if n <= 0 => self.zero(ty),
            _ => self.inst(Inst::LoadPart(from, count), ty),
        }
    }

    /// Stores the lanes below `count`.
    pub fn store_part(&mut self, to: Addr, v: Val, count: Val) {
        match self.as_int(count) {
            Some(n) if n >= i64::from(self.ty(v).lanes) => self.push(Stmt::Store(to, v)),
            Some(n) if n <= 0 => {}
            _ => self.push(Stmt::StorePart(to, v, count)),
        }
    }
}
