//! Loads, stores, copies.

use regalloc2::{RegClass, VReg};

use super::inst::{Inst, Reg};
use super::operand::{Cc, Size};
use super::select::{Parts, Selector, class, size};
use super::table::Row;
use crate::parts::{part_count, place};
use mcc_kernel::kir::{Addr, Elem, Ty, Val};

/// The longest constant copy or fill that is expanded inline.
const INLINE_COPY: i64 = 512;

/// Bytes that a round of a longer one copies.
const ROUND: i64 = 64;

/// An address in registers.
#[derive(Debug, Clone, Copy)]
pub struct Mem {
    pub base: VReg,
    /// Added to the base, times the size of the access if the flag is set.
    pub index: Option<(VReg, bool)>,
    pub offset: i64,
}

/// Whether memory is read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Load,
    Store,
}

impl Mem {
    pub fn at(base: VReg, offset: i64) -> Mem {
        Mem { base, index: None, offset }
    }

    pub fn further(self, bytes: i64) -> Mem {
        Mem { offset: self.offset + bytes, ..self }
    }
}

impl Selector<'_> {
    // ---- addresses ----

    /// An address for accesses of `bytes` each, `count` of them.
    fn address(&mut self, a: Addr, bytes: u32, count: u32) -> Mem {
        let Some(index) = a.index else { return Mem::at(self.reg(a.base), a.offset.into()) };
        if let Some((sum, added)) = self.known_sum(a) {
            return Mem::at(sum, i64::from(a.offset) - added);
        }
        let single = count == 1 && self.uses.accesses((a.base, index, a.scale)) == 1;
        let (base, index_register) = (self.reg(a.base), self.reg(index));
        if single && a.offset == 0 && (a.scale == 1 || u32::from(a.scale) == bytes) {
            return Mem { base, index: Some((index_register, a.scale != 1)), offset: 0 };
        }
        let shift = i64::from(a.scale.trailing_zeros());
        let sum = self.gi(Row::AddShifted, Size::D, &[base, index_register], shift);
        if let Some(known) = self.sums.last_mut() {
            known.insert((a.base, index, a.scale), (sum, 0));
        }
        Mem::at(sum, a.offset.into())
    }

    /// An address in one register.
    fn pointer(&mut self, a: Addr) -> VReg {
        let m = self.address(a, 0, 2);
        self.plus(m.base, m.offset)
    }

    /// Loads or stores a register.
    fn transfer(&mut self, way: Way, register: VReg, size: Size, m: Mem) {
        let vector = register.class() == RegClass::Float;
        let reg = if way == Way::Load { Reg::Def(register) } else { Reg::Use(register) };
        let row = |[load_v, store_v, load_g, store_g]: [Row; 4]| match (vector, way) {
            (true, Way::Load) => load_v,
            (true, Way::Store) => store_v,
            (false, Way::Load) => load_g,
            (false, Way::Store) => store_g,
        };
        if let Some((index, scaled)) = m.index {
            let rows = match scaled {
                false => [Row::LdrVReg, Row::StrVReg, Row::LdrGReg, Row::StrGReg],
                true => [Row::LdrVIndex, Row::StrVIndex, Row::LdrGIndex, Row::StrGIndex],
            };
            let regs = [reg, Reg::Use(m.base), Reg::Use(index)];
            return self.push(row(rows), size, regs, [size.log2().into(), 0]);
        }
        let mut m = m;
        let scaled = row([Row::LdrV, Row::StrV, Row::LdrG, Row::StrG]);
        let near = row([Row::LdurV, Row::SturV, Row::LdurG, Row::SturG]);
        let fits = |row: Row, offset: i64| row.form().fields[0].bits(size, offset).is_some();
        let chosen = match () {
            () if fits(scaled, m.offset) => scaled,
            () if fits(near, m.offset) => near,
            () => {
                m = Mem::at(self.plus(m.base, m.offset), 0);
                scaled
            }
        };
        self.push(chosen, size, [reg, Reg::Use(m.base)], [m.offset, 0]);
    }

    fn load_register(&mut self, class: RegClass, size: Size, m: Mem) -> VReg {
        let v = self.code.vreg(class);
        self.transfer(Way::Load, v, size, m);
        v
    }

    // ---- whole values ----

    pub fn load(&mut self, from: Addr, ty: Ty) -> Parts {
        let (count, bytes) = (part_count(ty), ty.bytes().min(16));
        let m = self.address(from, bytes, count as u32);
        let load = |s: &mut Self, i: usize| s.load_register(class(ty), Size::of(bytes), m.further(16 * i as i64));
        (0..count).map(|i| load(self, i)).collect()
    }

    pub fn store(&mut self, to: Addr, v: Val) {
        let (ty, parts) = (self.ty(v), self.parts(v));
        let bytes = ty.bytes().min(16);
        let m = self.address(to, bytes, parts.len() as u32);
        for (i, &part) in parts.iter().enumerate() {
            self.transfer(Way::Store, part, Size::of(bytes), m.further(16 * i as i64));
        }
    }

    /// One element in the lowest lane of a vector register.
    pub fn load_element(&mut self, from: Addr, elem: Elem) -> VReg {
        let m = self.address(from, elem.bytes(), 1);
        self.load_register(RegClass::Float, size(elem), m)
    }

    /// One element in every lane.
    pub fn load_everywhere(&mut self, from: Addr, elem: Elem) -> VReg {
        let m = self.address(from, elem.bytes(), 1);
        if m.offset == 0 && m.index.is_none() {
            return self.v(Row::Ld1r, size(elem), &[m.base]);
        }
        let first = self.load_register(RegClass::Float, size(elem), m);
        self.vi(Row::DupLane, size(elem), &[first], 0)
    }

    pub fn prefetch(&mut self, at: Addr) {
        let m = self.address(at, 0, 2);
        let fits = |row: Row| row.form().fields[0].bits(Size::D, m.offset).is_some();
        let (row, base, offset) = match () {
            () if fits(Row::Prfm) => (Row::Prfm, m.base, m.offset),
            () if fits(Row::Prfum) => (Row::Prfum, m.base, m.offset),
            () => (Row::Prfm, self.plus(m.base, m.offset), 0),
        };
        self.push(row, Size::D, [Reg::Use(base)], [offset, 0]);
    }

    // ---- the first lanes ----

    pub fn load_part(&mut self, from: Addr, count: Val, ty: Ty) -> Parts {
        let pointer = self.pointer(from);
        let zeros = |s: &mut Self| -> Parts {
            let one = |s: &mut Self| match class(ty) {
                RegClass::Int => s.int_constant(0),
                _ => s.vector_constant(&[0]),
            };
            (0..part_count(ty)).map(|_| one(s)).collect()
        };
        if let Some(count) = self.constant(count) {
            let lanes = count.clamp(0, ty.lanes.into()) as u32;
            if lanes == ty.lanes {
                return self.load_from(pointer, ty);
            }
            let parts = zeros(self);
            return (0..lanes).fold(parts, |parts, lane| self.load_lane(pointer, parts, ty, lane));
        }
        let count = self.reg(count);
        let done = self.code.block();
        let result: Parts = (0..part_count(ty)).map(|_| self.param(done, class(ty))).collect();
        self.put(Row::CmpImm, Size::D, &[count], [i64::from(ty.lanes) - 1, 0]);
        let (all, some) = self.branch(Cc::Gt);
        self.switch(all);
        let parts = self.load_from(pointer, ty);
        self.end(super::inst::End::Jump(done, parts));
        self.switch(some);
        let mut parts = zeros(self);
        for lane in 0..ty.lanes - u32::from(ty.lanes > 1) {
            self.put(Row::CmpImm, Size::D, &[count], [lane.into(), 0]);
            let (next, last) = self.branch(Cc::Gt);
            self.switch(last);
            self.end(super::inst::End::Jump(done, parts.clone()));
            self.switch(next);
            parts = self.load_lane(pointer, parts, ty, lane);
        }
        self.end(super::inst::End::Jump(done, parts));
        self.switch(done);
        result
    }

    fn load_from(&mut self, pointer: VReg, ty: Ty) -> Parts {
        let load = |s: &mut Self, i: usize| {
            s.load_register(class(ty), Size::of(ty.bytes().min(16)), Mem::at(pointer, 16 * i as i64))
        };
        (0..part_count(ty)).map(|i| load(self, i)).collect()
    }

    fn load_lane(&mut self, pointer: VReg, mut parts: Parts, ty: Ty, lane: u32) -> Parts {
        let m = Mem::at(pointer, i64::from(lane * ty.elem.bytes()));
        if ty.lanes == 1 {
            return vec![self.load_register(class(ty), size(ty.elem), m)];
        }
        let (part, at) = place(ty, lane);
        let scalar = self.load_register(RegClass::Float, size(ty.elem), m);
        // A load clears what follows it.
        parts[part] = if at == 0 {
            scalar
        } else {
            self.vii(Row::InsLane, size(ty.elem), &[parts[part], scalar], [at.into(), 0])
        };
        parts
    }

    pub fn store_part(&mut self, to: Addr, v: Val, count: Val) {
        let (ty, parts, pointer) = (self.ty(v), self.parts(v), self.pointer(to));
        if let Some(count) = self.constant(count) {
            let lanes = count.clamp(0, ty.lanes.into()) as u32;
            if lanes == ty.lanes {
                return self.store_at(pointer, &parts, ty);
            }
            (0..lanes).for_each(|lane| self.store_lane(pointer, &parts, ty, lane));
            return;
        }
        let count = self.reg(count);
        let done = self.code.block();
        self.put(Row::CmpImm, Size::D, &[count], [i64::from(ty.lanes) - 1, 0]);
        let (all, some) = self.branch(Cc::Gt);
        self.switch(all);
        self.store_at(pointer, &parts, ty);
        self.end(super::inst::End::Jump(done, vec![]));
        self.switch(some);
        for lane in 0..ty.lanes - u32::from(ty.lanes > 1) {
            self.put(Row::CmpImm, Size::D, &[count], [lane.into(), 0]);
            let (next, last) = self.branch(Cc::Gt);
            self.switch(last);
            self.end(super::inst::End::Jump(done, vec![]));
            self.switch(next);
            self.store_lane(pointer, &parts, ty, lane);
        }
        self.end(super::inst::End::Jump(done, vec![]));
        self.switch(done);
    }

    fn store_at(&mut self, pointer: VReg, parts: &[VReg], ty: Ty) {
        for (i, &part) in parts.iter().enumerate() {
            self.transfer(Way::Store, part, Size::of(ty.bytes().min(16)), Mem::at(pointer, 16 * i as i64));
        }
    }

    fn store_lane(&mut self, pointer: VReg, parts: &[VReg], ty: Ty, lane: u32) {
        let m = Mem::at(pointer, i64::from(lane * ty.elem.bytes()));
        let (part, at) = if ty.lanes == 1 { (0, 0) } else { place(ty, lane) };
        let scalar = match at {
            0 => parts[part],
            _ => self.vi(Row::DupLane, size(ty.elem), &[parts[part]], at.into()),
        };
        self.transfer(Way::Store, scalar, size(ty.elem), m);
    }

    /// See [`Inst::LoadExpanded`](mcc_kernel::kir::Inst::LoadExpanded): a byte at a time.
    pub fn load_expanded(&mut self, from: Addr, mask: Val, ty: Ty) -> Parts {
        let (mut at, mask) = (self.pointer(from), self.reg(mask));
        self.lane_by_lane(ty, |s, lane| {
            let bit = s.gii(Row::Ubfm, Size::D, &[mask], [lane.into(), lane.into()]);
            let byte = s.load_register(RegClass::Int, Size::B, Mem::at(at, 0));
            at = s.g(Row::Add, Size::D, &[at, bit]);
            s.g(Row::Mul, Size::S, &[byte, bit])
        })
    }

    /// See [`Inst::Lookup`](mcc_kernel::kir::Inst::Lookup): a byte at a time.
    pub fn lookup(&mut self, x: Val, table: Val, ty: Ty) -> Parts {
        let (parts, table) = (self.parts(x), self.reg(table));
        self.lane_by_lane(ty, |s, lane| {
            let mut byte = s.lane(&parts, ty, lane);
            if ty.lanes == 1 {
                byte = s.extended(byte, Elem::I8, Elem::I64, false);
            }
            s.load_register(RegClass::Int, Size::B, Mem { base: table, index: Some((byte, false)), offset: 0 })
        })
    }

    // ---- copies ----

    /// Copies bytes, or clears them without a source.
    pub fn copy(&mut self, to: Val, from: Option<Val>, bytes: Val) {
        let (to, from) = (self.reg(to), from.map(|f| self.reg(f)));
        if let Some(n) = self.constant(bytes).filter(|&n| n <= INLINE_COPY) {
            let mut at = 0;
            for size in [16, 8, 4, 2, 1] {
                while n - at >= size {
                    self.copy_pieces(to, from, at, size, 1);
                    at += size;
                }
            }
            return;
        }
        let bytes = self.reg(bytes);
        let pointers: Vec<VReg> = [to].into_iter().chain(from).collect();
        let (mut left, mut pointers) = (bytes, pointers);
        for round in [ROUND, 16] {
            (left, pointers) = self.machine_loop(left, round, &pointers, |s, pointers| {
                s.copy_pieces(pointers[0], pointers.get(1).copied(), 0, 16, round / 16);
                pointers.iter().map(|&p| s.plus(p, round)).collect()
            });
        }
        // Fewer than 16 bytes, of which each bit counts a piece. A negative number of bytes is none.
        for size in [8, 4, 2, 1] {
            let bit = i64::from((size as u64).trailing_zeros());
            let piece = self.gii(Row::Ubfm, Size::D, &[left], [bit, bit]);
            let sign = self.gii(Row::Ubfm, Size::D, &[left], [63, 63]);
            self.put(Row::Cmp, Size::D, &[piece, sign], [0; 2]);
            let before = pointers.clone();
            pointers = self.machine_if(Cc::Gt, &before, |s| {
                s.copy_pieces(before[0], before.get(1).copied(), 0, size, 1);
                before.iter().map(|&p| s.plus(p, size)).collect()
            });
        }
    }

    /// Copies consecutive pieces.
    fn copy_pieces(&mut self, to: VReg, from: Option<VReg>, offset: i64, size: i64, count: i64) {
        let at = |n: i64| offset + n * size;
        let size_of = Size::of(size as u32);
        let pieces: Vec<VReg> = (0..count)
            .map(|n| match from {
                Some(from) => self.load_register(RegClass::Float, size_of, Mem::at(from, at(n))),
                None => self.vector_constant(&[0]),
            })
            .collect();
        for (n, piece) in (0..).zip(pieces) {
            self.transfer(Way::Store, piece, size_of, Mem::at(to, at(n)));
        }
    }
}

/// The memory that an instruction accesses at a base and a constant offset.
pub fn accessed(inst: &Inst) -> Option<Mem> {
    let base = |n: usize| match inst.regs.get(n) {
        Some(&Reg::Use(v)) => Some(v),
        _ => None,
    };
    match inst.row {
        Row::LdrV | Row::StrV | Row::LdrG | Row::StrG | Row::LdurV | Row::SturV | Row::LdurG | Row::SturG => {
            Some(Mem::at(base(1)?, inst.imms[0]))
        }
        Row::LdpV | Row::StpV => Some(Mem::at(base(2)?, inst.imms[0])),
        Row::Ld1r => Some(Mem::at(base(1)?, 0)),
        Row::Prfm | Row::Prfum => Some(Mem::at(base(0)?, inst.imms[0])),
        _ => None,
    }
}
