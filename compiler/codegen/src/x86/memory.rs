//! Loads, stores, constants, copies.

use iced_x86::Mnemonic as M;
use regalloc2::VReg;

use super::encode::{RCX, RDI, RSI};
use super::machine::{Base, Cc, Inst, Mem, Op, View};
use super::select::scalars;
use super::select::{Parts, Selector, Source};
use mcc_kernel::kir::{self, Addr, Elem, Ty, Val};

/// The longest constant copy or fill that is expanded inline.
const INLINE_COPY: i64 = 512;

/// `m` plus some bytes.
pub fn further(m: Mem, bytes: u32) -> Mem {
    Mem { disp: m.disp + bytes as i32, ..m }
}

impl Selector<'_> {
    // ---- loads and stores ----

    /// Emits a load, or defers it to its use.
    pub fn load(&mut self, v: Val, from: Addr) {
        let ty = self.ty(v);
        let vector = ty.elem.is_float() || ty.lanes > 1 || self.only_spread(v);
        let whole = ty.lanes == 1 || ty.bytes() >= 16;
        if vector && whole && self.uses[v.0 as usize] == 1 {
            self.wait(v, from);
        } else {
            let parts = self.load_now(v, from);
            self.set(v, parts);
        }
    }

    pub fn load_now(&mut self, v: Val, from: Addr) -> Parts {
        let ty = self.ty(v);
        if let kir::Inst::Splat(_) = self.inst(v) {
            let part = self.load_splat(ty, from);
            return vec![part; self.part_count(ty)];
        }
        let m = self.address(from);
        if ty.lanes == 1 && !ty.elem.is_float() {
            return vec![self.load_int(ty.elem, m)];
        }
        (0..self.part_count(ty)).map(|i| self.load_vector(ty, further(m, i as u32 * self.max))).collect()
    }

    /// A deferred load as memory operands.
    pub fn load_sources(&mut self, v: Val, from: Addr) -> Vec<Source> {
        let ty = self.ty(v);
        let m = self.address(from);
        if let kir::Inst::Splat(_) = self.inst(v) {
            return vec![Source::Broadcast(m); self.part_count(ty)];
        }
        (0..self.part_count(ty)).map(|i| Source::Memory(further(m, i as u32 * self.max))).collect()
    }

    pub fn load_int(&mut self, elem: Elem, m: Mem) -> VReg {
        let v = self.int();
        match elem {
            Elem::I8 => self.push_sized(M::Movzx, v, m, View::B),
            Elem::I16 => self.push_sized(M::Movzx, v, m, View::W),
            _ => self.emit(M::Mov, &[Op::Def(v, scalars::view(elem)), Op::Mem(m)]),
        }
        v
    }

    /// `movzx` from memory, whose width no register determines.
    fn push_sized(&mut self, mnemonic: M, v: VReg, m: Mem, view: View) {
        self.push(Inst { memory_view: Some(view), ..Inst::new(mnemonic, [Op::Def(v, View::D), Op::Mem(m)]) });
    }

    /// Loads one register of a vector (or a float).
    pub fn load_vector(&mut self, ty: Ty, m: Mem) -> VReg {
        let v = self.vector();
        let view = self.part_view(ty);
        match ty.bytes() {
            1 | 2 => {
                let elem = if ty.bytes() == 1 { Elem::I8 } else { Elem::I16 };
                let scalar = self.load_int(elem, m);
                self.emit(M::Vmovd, &[Op::Def(v, View::X), Op::Use(scalar, View::D)]);
            }
            4 => self.emit(M::Vmovss, &[Op::Def(v, View::X), Op::Mem(m)]),
            8 => self.emit(M::Vmovsd, &[Op::Def(v, View::X), Op::Mem(m)]),
            _ => self.emit(M::Vmovups, &[Op::Def(v, view), Op::Mem(m)]),
        }
        v
    }

    /// Broadcasts an element from memory to all lanes of a register.
    fn load_splat(&mut self, ty: Ty, from: Addr) -> VReg {
        let m = self.address(from);
        let (mnemonic, view) = (broadcast(ty.elem, self.part_view(ty)), self.part_view(ty));
        let v = self.vector();
        self.emit(mnemonic, &[Op::Def(v, view), Op::Mem(m)]);
        v
    }

    pub fn store(&mut self, to: Addr, v: Val) {
        let ty = self.ty(v);
        let parts = self.parts(v);
        let m = self.address(to);
        if ty.lanes == 1 && !ty.elem.is_float() {
            let view = scalars::view(ty.elem);
            return self.emit(M::Mov, &[Op::Mem(m), Op::Use(parts[0], view)]);
        }
        for (i, &part) in parts.iter().enumerate() {
            self.store_vector(ty, further(m, i as u32 * self.max), part);
        }
    }

    /// Stores one register of a vector (or a float).
    pub fn store_vector(&mut self, ty: Ty, m: Mem, v: VReg) {
        match ty.bytes() {
            1 => self.emit(M::Vpextrb, &[Op::Mem(m), Op::Use(v, View::X), Op::Imm(0)]),
            2 => self.emit(M::Vpextrw, &[Op::Mem(m), Op::Use(v, View::X), Op::Imm(0)]),
            4 => self.emit(M::Vmovss, &[Op::Mem(m), Op::Use(v, View::X)]),
            8 => self.emit(M::Vmovsd, &[Op::Mem(m), Op::Use(v, View::X)]),
            _ => self.emit(M::Vmovups, &[Op::Mem(m), Op::Use(v, self.part_view(ty))]),
        }
    }

    // ---- the first lanes ----

    pub fn load_part(&mut self, v: Val, from: Addr, count: Val) -> Parts {
        let ty = self.ty(v);
        if ty.lanes == 1 {
            return self.load_one_if(ty, from, count);
        }
        let m = self.address(from);
        let view = self.part_view(ty);
        if self.avx512 {
            return (0..self.part_count(ty))
                .map(|i| {
                    let mask = self.first_lanes(count, ty, i);
                    let part = self.vector();
                    let ops = [Op::Def(part, view), Op::Mem(further(m, i as u32 * self.max))];
                    self.push(Inst::new(masked_move(ty.elem), ops).masked(mask, true));
                    part
                })
                .collect();
        }
        if ty.elem.bytes() >= 4 {
            return (0..self.part_count(ty))
                .map(|i| {
                    let mask = self.first_lanes(count, ty, i);
                    let part = self.vector();
                    let at = Op::Mem(further(m, i as u32 * self.max));
                    self.emit(mask_move(ty.elem), &[Op::Def(part, view), Op::Use(mask, view), at]);
                    part
                })
                .collect();
        }
        let room = self.code.room(ty.bytes() as i32);
        let zero = self.zero_vector();
        for i in 0..self.part_count(ty) as u32 {
            self.emit(M::Vmovups, &[Op::Mem(further(room, i * self.max)), Op::Use(zero, view)]);
        }
        let (to, from) = (self.lea(room), self.lea(m));
        self.copy_first(count, ty, to, from);
        (0..self.part_count(ty)).map(|i| self.load_vector(ty, further(room, i as u32 * self.max))).collect()
    }

    fn load_one_if(&mut self, ty: Ty, from: Addr, count: Val) -> Parts {
        let room = self.code.room(8);
        let zero = self.int_constant(0);
        self.emit(M::Mov, &[Op::Mem(room), Op::Use(zero, View::Q)]);
        let m = self.address(from);
        let (to, from) = (self.lea(room), self.lea(m));
        self.copy_first(count, ty, to, from);
        vec![if ty.elem.is_float() { self.load_vector(ty, room) } else { self.load_int(ty.elem, room) }]
    }

    pub fn store_part(&mut self, to: Addr, v: Val, count: Val) {
        let ty = self.ty(v);
        let parts = self.parts(v);
        let m = self.address(to);
        let view = self.part_view(ty);
        if ty.lanes > 1 && (self.avx512 || ty.elem.bytes() >= 4) {
            for (i, &part) in parts.iter().enumerate() {
                let mask = self.first_lanes(count, ty, i);
                let at = Op::Mem(further(m, i as u32 * self.max));
                if self.avx512 {
                    let ops = [at, Op::Use(part, view)];
                    self.push(Inst::new(masked_move(ty.elem), ops).masked(mask, false));
                } else {
                    self.emit(mask_move(ty.elem), &[at, Op::Use(mask, view), Op::Use(part, view)]);
                }
            }
            return;
        }
        let room = self.code.room(ty.bytes() as i32);
        if ty.lanes == 1 && !ty.elem.is_float() {
            self.emit(M::Mov, &[Op::Mem(room), Op::Use(parts[0], View::Q)]);
        } else {
            for (i, &part) in parts.iter().enumerate() {
                self.store_vector(ty, further(room, i as u32 * self.max), part);
            }
        }
        let (to, from) = (self.lea(m), self.lea(room));
        self.copy_first(count, ty, to, from);
    }

    /// Copies the elements below a count; there are at most as many as `ty` has lanes.
    fn copy_first(&mut self, count: Val, ty: Ty, to: VReg, from: VReg) {
        if let Some(count) = self.constant(count) {
            let at = |base: VReg, disp: i32| Mem { base: Base::Reg(base), index: None, disp };
            let (mut done, whole) = (0, ty.elem.bytes() * count.clamp(0, ty.lanes.into()) as u32);
            for size in [32, 16, 8, 4, 2, 1] {
                while whole - done >= size {
                    let v = self.load_vector(Ty::new(Elem::I8, size), at(from, done as i32));
                    self.store_vector(Ty::new(Elem::I8, size), at(to, done as i32), v);
                    done += size;
                }
            }
            return;
        }
        let count = self.clamped(count, ty.lanes);
        let bytes = self.int();
        let shift = i64::from(ty.elem.bytes().trailing_zeros());
        self.emit(M::Shl, &[Op::Mod(bytes, count, View::Q), Op::Imm(shift)]);
        self.string(M::Movsb, bytes, to, Some(from));
    }

    /// A count clamped to `0..=most`.
    pub fn clamped(&mut self, count: Val, most: u32) -> VReg {
        if let Some(c) = self.constant(count) {
            return self.int_constant(c.clamp(0, most.into()));
        }
        let count = self.reg(count);
        let (zero, most) = (self.int_constant(0), self.int_constant(most.into()));
        self.emit(M::Cmp, &[Op::Use(count, View::Q), Op::Use(most, View::Q)]);
        let upper = self.int_select(Cc::L, count, most);
        self.emit(M::Test, &[Op::Use(upper, View::Q), Op::Use(upper, View::Q)]);
        self.int_select(Cc::L, zero, upper)
    }

    // ---- copies ----

    pub fn lea(&mut self, m: Mem) -> VReg {
        let v = self.int();
        self.emit(M::Lea, &[Op::Def(v, View::Q), Op::Mem(m)]);
        v
    }

    /// `rep movsb`, or `rep stosb` of zeros without a source.
    fn string(&mut self, mnemonic: M, bytes: VReg, to: VReg, from: Option<VReg>) {
        let (rest, to_end, from_end) = (self.int(), self.int(), self.int());
        let mut uses = vec![(bytes, RCX), (to, RDI)];
        let mut defs = vec![(rest, RCX), (to_end, RDI)];
        match from {
            Some(from) => {
                uses.push((from, RSI));
                defs.push((from_end, RSI));
            }
            None => {
                let zero = self.int_constant(0);
                uses.push((zero, super::encode::RAX));
            }
        }
        self.push(Inst::new(mnemonic, []).fixed(&uses, &defs));
    }

    /// Copies bytes, or clears them without a source: vectors, then the tail.
    pub fn copy(&mut self, to: Val, from: Option<Val>, bytes: Val) {
        let (to, from) = (self.reg(to), from.map(|f| self.reg(f)));
        if let Some(n) = self.constant(bytes).filter(|&n| n <= INLINE_COPY) {
            let mut at = 0;
            let zero = from.is_none().then(|| self.zero_vector());
            for size in [self.max, 32, 16, 8, 4, 2, 1] {
                while n - i64::from(at) >= i64::from(size) && size <= self.max {
                    self.copy_piece(to, from, zero, at as i32, None, size);
                    at += size;
                }
            }
            return;
        }
        let bytes = self.reg(bytes);
        let size = self.max;
        let zero = from.is_none().then(|| self.zero_vector());
        let done = self.machine_loop(bytes, size.into(), |s, i| s.copy_piece(to, from, zero, 0, Some(i), size));
        let rest = self.int();
        self.emit(M::Sub, &[Op::Mod(rest, bytes, View::Q), Op::Use(done, View::Q)]);
        self.emit(M::Test, &[Op::Use(rest, View::Q), Op::Use(rest, View::Q)]);
        self.machine_if(Cc::G, |s| {
            let at = |base: VReg| Mem { base: Base::Reg(base), index: Some((done, 1)), disp: 0 };
            if !s.avx512 {
                let (to, from) = (s.lea(at(to)), from.map(|f| s.lea(at(f))));
                let mnemonic = if from.is_some() { M::Movsb } else { M::Stosb };
                return s.string(mnemonic, rest, to, from);
            }
            let mask = s.low_bits(rest);
            let v = match from {
                Some(from) => {
                    let v = s.vector();
                    let ops = [Op::Def(v, View::Z), Op::Mem(at(from))];
                    s.push(Inst::new(M::Vmovdqu8, ops).masked(mask, true));
                    v
                }
                None => s.zero_vector(),
            };
            s.push(Inst::new(M::Vmovdqu8, [Op::Mem(at(to)), Op::Use(v, View::Z)]).masked(mask, false));
        });
    }

    fn copy_piece(
        &mut self,
        to: VReg,
        from: Option<VReg>,
        zero: Option<VReg>,
        disp: i32,
        index: Option<VReg>,
        size: u32,
    ) {
        let at = |base: VReg| Mem { base: Base::Reg(base), index: index.map(|i| (i, 1)), disp };
        let ty = Ty::new(Elem::I8, size);
        let v = match (from, zero) {
            (Some(from), _) => self.load_vector(ty, at(from)),
            (None, Some(zero)) => zero,
            (None, None) => self.zero_vector(),
        };
        self.store_vector(ty, at(to), v);
    }

    // ---- constants ----

    pub fn zero_vector(&mut self) -> VReg {
        let v = self.vector();
        // Without inputs for the allocator: the register's old value is unused.
        self.emit(M::Vpxor, &[Op::Def(v, View::X)]);
        v
    }

    /// The bytes of one lane of a constant.
    pub fn lane_bytes(&self, v: Val, ty: Ty) -> Option<Vec<u8>> {
        let size = ty.elem.bytes() as usize;
        match *self.inst(v) {
            kir::Inst::Int(c) => match ty.elem {
                Elem::F32 => Some((c as f32).to_le_bytes().to_vec()),
                Elem::F64 => Some((c as f64).to_le_bytes().to_vec()),
                _ => Some(c.to_le_bytes()[..size].to_vec()),
            },
            kir::Inst::Float(bits) => match ty.elem {
                Elem::F32 => Some((f64::from_bits(bits) as f32).to_le_bytes().to_vec()),
                _ => Some(bits.to_le_bytes().to_vec()),
            },
            _ => None,
        }
    }

    pub fn constant_parts(&mut self, v: Val, ty: Ty) -> Parts {
        if ty.lanes == 1 && !ty.elem.is_float() {
            let c = self.constant(v).unwrap_or_default();
            return vec![self.int_constant(c)];
        }
        let lane = self.lane_bytes(v, ty).unwrap_or_default();
        let part = self.vector_constant(&lane, ty);
        vec![part; self.part_count(ty)]
    }

    /// A register with a lane's bytes in every lane.
    pub fn vector_constant(&mut self, lane: &[u8], ty: Ty) -> VReg {
        if lane.iter().all(|&b| b == 0) {
            return self.zero_vector();
        }
        let view = self.part_view(ty);
        let v = self.vector();
        if ty.lanes == 1 || lane.len() < 4 {
            let m = self.spread_constant(lane, ty);
            let load = match (ty.lanes, lane.len()) {
                (1, 4) => M::Vmovss,
                (1, 8) => M::Vmovsd,
                _ => M::Vmovups,
            };
            self.emit(load, &[Op::Def(v, view), Op::Mem(m)]);
        } else {
            let m = self.code.constant(lane);
            self.emit(broadcast(ty.elem, view), &[Op::Def(v, view), Op::Mem(m)]);
        }
        v
    }

    /// A constant's lanes in memory, as many as fill a register.
    pub fn spread_constant(&mut self, lane: &[u8], ty: Ty) -> Mem {
        let count = if ty.lanes == 1 { 1 } else { self.part_bytes(ty) as usize / lane.len() };
        self.code.constant(&lane.repeat(count))
    }

    pub fn constant_folds(&self, v: Val) -> bool {
        let ty = self.ty(v);
        let vector = ty.lanes > 1 || ty.elem.is_float();
        vector && self.lane_bytes(v, ty).is_some_and(|lane| lane.iter().any(|&b| b != 0))
    }

    /// A constant as memory operands, if that pays.
    pub fn constant_sources(&mut self, v: Val, ty: Ty) -> Option<Vec<Source>> {
        if !self.constant_folds(v) {
            return None;
        }
        let lane = self.lane_bytes(v, ty)?;
        let source = if self.avx512 && ty.lanes > 1 && lane.len() >= 4 {
            Source::Broadcast(self.code.constant(&lane))
        } else {
            Source::Memory(self.spread_constant(&lane, ty))
        };
        Some(vec![source; self.part_count(ty)])
    }
}

/// The instruction that broadcasts an element from memory.
pub fn broadcast(elem: Elem, view: View) -> M {
    match (elem.bytes(), view) {
        (1, _) => M::Vpbroadcastb,
        (2, _) => M::Vpbroadcastw,
        (4, _) => M::Vbroadcastss,
        // There is no 128-bit `vbroadcastsd`.
        (_, View::X) => M::Vmovddup,
        _ => M::Vbroadcastsd,
    }
}

/// The move with a mask register.
pub fn masked_move(elem: Elem) -> M {
    match elem.bytes() {
        1 => M::Vmovdqu8,
        2 => M::Vmovdqu16,
        4 => M::Vmovups,
        _ => M::Vmovupd,
    }
}

/// The move with a vector mask.
fn mask_move(elem: Elem) -> M {
    if elem.bytes() == 4 { M::Vmaskmovps } else { M::Vmaskmovpd }
}
