//! Lanes: broadcasts, extraction, insertion, shuffles, bitcasts.
//!
//! Shuffles without a short sequence go through memory, one lane at a time.

use iced_x86::Mnemonic as M;
use regalloc2::VReg;

use super::machine::{Mem, Op, View};
use super::memory::{broadcast, further};
use super::select::scalars;
use super::select::vectors::{pick, view_bytes};
use super::select::{Parts, Selector, Source};
use mcc_kernel::kir::{Elem, Ty, Val};

impl Selector<'_> {
    // ---- between general and vector registers ----

    /// An integer in lane 0.
    pub fn in_vector(&mut self, x: VReg, elem: Elem) -> VReg {
        let v = self.vector();
        let (mnemonic, view) = if elem.bytes() == 8 { (M::Vmovq, View::Q) } else { (M::Vmovd, View::D) };
        self.emit(mnemonic, &[Op::Def(v, View::X), Op::Use(x, view)]);
        v
    }

    /// Lane 0 as an integer.
    pub fn in_general(&mut self, x: VReg, elem: Elem) -> VReg {
        let v = self.int();
        let (mnemonic, view) = if elem.bytes() == 8 { (M::Vmovq, View::Q) } else { (M::Vmovd, View::D) };
        self.emit(mnemonic, &[Op::Def(v, view), Op::Use(x, View::X)]);
        v
    }

    // ---- spreading ----

    /// `None` if the result is deferred as a memory operand.
    pub fn splat(&mut self, v: Val, a: Val, ty: Ty) -> Option<Parts> {
        if ty.lanes == 1 {
            return Some(self.parts(a));
        }
        if ty.elem.is_mask() {
            let truth = self.reg(a);
            return Some(self.splat_truth(truth, ty));
        }
        if let Some(from) = self.take_waiting(a) {
            if self.avx512 && self.uses[v.0 as usize] == 1 && ty.elem.bytes() >= 4 {
                self.wait(v, from);
                return None;
            }
            return Some(self.load_now(v, from));
        }
        if let Some(lane) = self.lane_bytes(a, ty.with_lanes(1)) {
            let part = self.vector_constant(&lane, ty);
            return Some(vec![part; self.part_count(ty)]);
        }
        let x = self.reg(a);
        let part = self.spread(x, ty);
        Some(vec![part; self.part_count(ty)])
    }

    /// A scalar, broadcast to every lane of a register.
    fn spread(&mut self, x: VReg, ty: Ty) -> VReg {
        let view = self.part_view(ty);
        let x = if ty.elem.is_float() { x } else { self.in_vector(x, ty.elem) };
        let mnemonic = match (ty.elem.is_float(), ty.elem.bytes()) {
            (true, _) => broadcast(ty.elem, view),
            (false, 1) => M::Vpbroadcastb,
            (false, 2) => M::Vpbroadcastw,
            (false, 4) => M::Vpbroadcastd,
            (false, _) => M::Vpbroadcastq,
        };
        let v = self.vector();
        self.emit(mnemonic, &[Op::Def(v, view), Op::Use(x, View::X)]);
        v
    }

    /// One lane of a vector of floats, broadcast to every lane of a register of `ty`.
    pub fn spread_lane(&mut self, a: Val, lane: u8, ty: Ty) -> VReg {
        let scalar = self.lane(a, lane);
        self.spread(scalar, ty)
    }

    // ---- single lanes ----

    /// One lane as a scalar.
    pub fn lane(&mut self, a: Val, lane: u8) -> VReg {
        let ty = self.ty(a);
        let parts = self.parts(a);
        if ty.lanes == 1 {
            return parts[0];
        }
        let (part, at) = (u32::from(lane) / self.part_lanes(ty), u32::from(lane) % self.part_lanes(ty));
        let part = parts[part as usize];
        if ty.elem.is_mask() && self.avx512 {
            let shifted = if at == 0 {
                part
            } else {
                let k = self.mask();
                self.emit(M::Kshiftrq, &[Op::Def(k, View::K), Op::Use(part, View::K), Op::Imm(at.into())]);
                k
            };
            return self.scalar_truth(shifted);
        }
        let low = self.extract(part, self.part_view(ty), at * ty.elem.bytes());
        if ty.elem.is_float() {
            return low;
        }
        let scalar = self.in_general(low, ty.elem);
        if !ty.elem.is_mask() {
            return scalar;
        }
        let one = self.int();
        self.emit(M::And, &[Op::Mod(one, scalar, View::D), Op::Imm(1)]);
        one
    }

    /// The data at a byte offset in a register, moved to its low lanes; data beyond 16 bytes only if the offset is a
    /// multiple of 16.
    pub fn extract(&mut self, x: VReg, view: View, byte: u32) -> VReg {
        let (block, rest) = (byte / 16, byte % 16);
        let mut x = x;
        if block > 0 {
            let v = self.vector();
            let (mnemonic, from, imm, to) = match (view, block) {
                (View::Y, _) => (pick(self.avx512, M::Vextractf32x4, M::Vextractf128), View::Y, 1, View::X),
                (_, 2) if rest == 0 => (M::Vextractf64x4, View::Z, 1, View::Y),
                _ => (M::Vextractf32x4, View::Z, block.into(), View::X),
            };
            self.emit(mnemonic, &[Op::Def(v, to), Op::Use(x, from), Op::Imm(imm)]);
            x = v;
        }
        if rest > 0 {
            x = self.v2i(M::Vpsrldq, View::X, x, rest.into());
        }
        x
    }

    pub fn with_lane(&mut self, a: Val, scalar: Val, lane: u8, ty: Ty) -> Parts {
        let mut parts = self.parts(a);
        if ty.elem.is_mask() {
            self.refuse("a lane set in a mask".to_string());
            return parts;
        }
        let scalar = self.reg(scalar);
        let (part, at) = (u32::from(lane) / self.part_lanes(ty), u32::from(lane) % self.part_lanes(ty));
        let view = self.part_view(ty);
        // Selected from the broadcast scalar.
        let spread = self.spread(scalar, ty.with_lanes(view_bytes(view) / ty.elem.bytes()));
        let size = ty.elem.bytes();
        let old = parts[part as usize];
        parts[part as usize] = if self.avx512 {
            let bit = self.int_constant(1i64 << at);
            let k = self.mask();
            self.emit(M::Kmovq, &[Op::Def(k, View::K), Op::Use(bit, View::Q)]);
            self.blend_part(k, spread, old, ty)
        } else {
            let bytes: Vec<u8> = (0..view_bytes(view)).map(|i| if i / size == at { 0xff } else { 0 }).collect();
            let m = self.code.constant(&bytes);
            let mask = self.vector();
            self.emit(M::Vmovups, &[Op::Def(mask, view), Op::Mem(m)]);
            self.blend_part(mask, spread, old, ty.with(ty.elem.int()))
        };
        parts
    }

    // ---- shuffles ----

    pub fn shuffle(&mut self, a: Val, b: Val, pattern: &[u8], ty: Ty) -> Parts {
        let from = self.ty(a);
        if ty.elem.is_mask() {
            self.refuse("a shuffle of masks".to_string());
            return self.parts(a);
        }
        let one_source = pattern.iter().all(|&i| u32::from(i) < from.lanes);
        let run = pattern.windows(2).all(|w| w[1] == w[0] + 1);
        let first = u32::from(pattern[0]) * ty.elem.bytes();
        if one_source && from.lanes > 1 && ty.lanes > 1 && self.part_count(from) == 1 {
            if pattern[0] == 0 && run {
                return self.parts(a);
            }
            let fits = ty.bytes() <= 16 && first % 16 + ty.bytes() <= 16 || first.is_multiple_of(32);
            if run && fits {
                let x = self.reg(a);
                return vec![self.extract(x, self.part_view(from), first)];
            }
        }
        if from.lanes > 1 && ty.lanes > 1 && self.part_count(from) == 1 && self.part_count(ty) == 1 {
            if pattern[0] == 0
                && run
                && ty.lanes == 2 * from.lanes
                && let Some(v) = self.side_by_side(a, b, from, ty)
            {
                return vec![v];
            }
            let wide = pattern_of_words(pattern, ty.elem.bytes());
            if let Some(wide) = wide
                && let Some(v) = self.shuffle_words(a, b, &wide, from, ty)
            {
                return vec![v];
            }
            if one_source && self.part_view(from) == View::X && self.part_view(ty) == View::X {
                let size = ty.elem.bytes() as u8;
                let mut bytes: Vec<u8> = pattern.iter().flat_map(|&l| (0..size).map(move |i| l * size + i)).collect();
                bytes.resize(16, 0x80);
                let m = self.code.constant(&bytes);
                let x = self.reg(a);
                return vec![self.v3(M::Vpshufb, View::X, x, Source::Memory(m))];
            }
            if one_source
                && ty.elem.bytes() == 1
                && let Some(v) = self.permute_bytes(a, pattern, self.part_view(from).max(self.part_view(ty)))
            {
                return vec![v];
            }
        }
        self.shuffle_in_memory(a, b, pattern, ty)
    }

    /// Concatenates two values.
    fn side_by_side(&mut self, a: Val, b: Val, from: Ty, ty: Ty) -> Option<VReg> {
        let view = self.part_view(ty);
        let (mnemonic, half) = match from.bytes() {
            4 => (M::Vpunpckldq, None),
            8 => (M::Vpunpcklqdq, None),
            16 => (pick(self.avx512, M::Vinserti32x4, M::Vinserti128), Some(View::X)),
            32 => (M::Vinserti64x4, Some(View::Y)),
            _ => return None,
        };
        let x = self.reg(a);
        let Some(half) = half else {
            let y = self.reg(b);
            return Some(self.r3(mnemonic, view, x, y));
        };
        let y = match self.sources(b).first() {
            Some(&Source::Register(y)) => Op::Use(y, half),
            Some(&Source::Memory(m)) => Op::Mem(m),
            _ => return None,
        };
        let v = self.vector();
        self.emit(mnemonic, &[Op::Def(v, view), Op::Use(x, view), y, Op::Imm(1)]);
        Some(v)
    }

    /// Permutes the bytes of a register: by one instruction, or words first if each 16 bytes come from four of them.
    fn permute_bytes(&mut self, a: Val, pattern: &[u8], view: View) -> Option<VReg> {
        let mut bytes = pattern.to_vec();
        bytes.resize(view_bytes(view) as usize, 0);
        if self.vbmi {
            let m = self.code.constant(&bytes);
            let x = self.reg(a);
            let places = self.v2(M::Vmovups, view, Source::Memory(m));
            return Some(self.r3(M::Vpermb, view, places, x));
        }
        let (mut words, mut within) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(16) {
            let mut own: Vec<u8> = Vec::new();
            for &byte in piece {
                let place = own.iter().position(|&w| w == byte / 4).unwrap_or_else(|| {
                    own.push(byte / 4);
                    own.len() - 1
                });
                within.push(4 * place as u8 + byte % 4);
            }
            if own.len() > 4 {
                return None;
            }
            own.resize(4, 0);
            words.extend(own.into_iter().flat_map(|w| u32::from(w).to_le_bytes()));
        }
        let (words, within) = (self.code.constant(&words), self.code.constant(&within));
        let x = self.reg(a);
        let places = self.v2(M::Vmovups, view, Source::Memory(words));
        let moved = self.r3(M::Vpermd, view, places, x);
        Some(self.v3(M::Vpshufb, view, moved, Source::Memory(within)))
    }

    /// A shuffle of 32-bit lanes; `from` is one register each.
    fn shuffle_words(&mut self, a: Val, b: Val, pattern: &[u8], from: Ty, ty: Ty) -> Option<VReg> {
        let words = (from.bytes() / 4) as u8;
        let view = self.part_view(from).max(self.part_view(ty));
        let second = pattern.iter().any(|&i| i >= words);
        // Lanes of the second source are numbered after all lanes of the first register.
        let capacity = (view_bytes(view) / 4) as u8;
        let place = |i: u8| if i < words { i } else { i - words + capacity };
        let mut indices: Vec<u8> = pattern.iter().map(|&i| place(i)).collect();
        indices.resize(capacity.into(), 0);
        if second
            && from == ty
            && u32::from(words) * 4 == view_bytes(view)
            && let Some((mnemonic, imm)) = without_table(&indices)
        {
            let (x, y) = (self.reg(a), self.reg(b));
            return Some(match imm {
                Some(imm) => self.v3i(mnemonic, view, x, y, imm),
                None => self.r3(mnemonic, view, x, y),
            });
        }
        let as_constant = |s: &mut Self, lanes: u8| {
            let indices = indices.iter().flat_map(|&i| u32::from(i % lanes).to_le_bytes());
            s.code.constant(&indices.collect::<Vec<u8>>())
        };
        if !second && view == View::X {
            let x = self.reg(a);
            let imm = indices.iter().take(4).enumerate().map(|(n, &i)| i64::from(i) << (2 * n)).sum();
            return Some(self.v2i(M::Vpermilps, View::X, x, imm));
        }
        if self.avx512 && second {
            let m = as_constant(self, 2 * capacity);
            let (x, y) = (self.reg(a), self.reg(b));
            let (index, v) = (self.vector(), self.vector());
            self.emit(M::Vmovups, &[Op::Def(index, view), Op::Mem(m)]);
            self.emit(M::Vpermi2ps, &[Op::Mod(v, index, view), Op::Use(x, view), Op::Use(y, view)]);
            return Some(v);
        }
        if view == View::X {
            return None;
        }
        let m = as_constant(self, capacity);
        let index = self.vector();
        self.emit(M::Vmovups, &[Op::Def(index, view), Op::Mem(m)]);
        let x = self.reg(a);
        let low = self.r3(M::Vpermps, view, index, x);
        if !second {
            return Some(low);
        }
        let y = self.reg(b);
        let high = self.r3(M::Vpermps, view, index, y);
        let imm = indices.iter().enumerate().map(|(n, &i)| i64::from(i >= capacity) << n).sum();
        Some(self.v3i(M::Vblendps, view, low, high, imm))
    }

    /// See [`kir::Inst::Permute`](mcc_kernel::kir::Inst::Permute), for one register.
    pub fn permute(&mut self, a: Val, places: Val, ty: Ty) -> Parts {
        if self.part_count(ty) != 1 {
            self.refuse(format!("a permutation of {} lanes", ty.lanes));
            return self.parts(a);
        }
        let (x, places) = (self.reg(a), self.reg(places));
        // Both use the low bits of the indices.
        vec![match self.part_view(ty) {
            View::X => self.r3(M::Vpermilps, View::X, x, places),
            view => self.r3(M::Vpermps, view, places, x),
        }]
    }

    fn shuffle_in_memory(&mut self, a: Val, b: Val, pattern: &[u8], ty: Ty) -> Parts {
        let from = self.ty(a);
        let bytes = from.bytes().max(16).next_multiple_of(16) as i32;
        let (source, result) = (self.code.room(2 * bytes), self.code.room(ty.bytes().max(16) as i32));
        let size = ty.elem.bytes();
        for (n, v) in [a, b].into_iter().enumerate() {
            self.spill(v, further(source, n as u32 * bytes as u32));
        }
        for (i, &lane) in pattern.iter().enumerate() {
            let lane = u32::from(lane);
            let (n, lane) = (lane / from.lanes, lane % from.lanes);
            let x = self.load_int(ty.elem.int(), further(source, n * bytes as u32 + lane * size));
            let to = further(result, i as u32 * size);
            self.emit(M::Mov, &[Op::Mem(to), Op::Use(x, scalars::view(ty.elem.int()))]);
        }
        self.reload(ty, result)
    }

    /// Stores all registers of a value.
    pub fn spill(&mut self, v: Val, to: Mem) {
        let ty = self.ty(v);
        let parts = self.parts(v);
        if self.is_int(ty) {
            return self.emit(M::Mov, &[Op::Mem(to), Op::Use(parts[0], scalars::view(ty.elem))]);
        }
        for (i, &part) in parts.iter().enumerate() {
            self.store_vector(ty, further(to, i as u32 * self.max), part);
        }
    }

    /// Loads all registers of a value.
    pub fn reload(&mut self, ty: Ty, from: Mem) -> Parts {
        if self.is_int(ty) {
            return vec![self.load_int(ty.elem, from)];
        }
        (0..self.part_count(ty)).map(|i| self.load_vector(ty, further(from, i as u32 * self.max))).collect()
    }

    // ---- bits ----

    pub fn bitcast(&mut self, a: Val, ty: Ty) -> Parts {
        let from = self.ty(a);
        let parts = self.parts(a);
        match (self.is_int(from), self.is_int(ty)) {
            (true, false) => vec![self.in_vector(parts[0], if from.bytes() == 8 { Elem::I64 } else { Elem::I32 })],
            (false, true) => vec![self.in_general(parts[0], if ty.bytes() == 8 { Elem::I64 } else { Elem::I32 })],
            _ => parts,
        }
    }

    /// Whether a value is a load that only a broadcast uses.
    pub fn only_spread(&self, v: Val) -> bool {
        self.uses[v.0 as usize] == 1 && self.spreads[v.0 as usize] == 1
    }
}

/// Converts a pattern of lanes to one of 32-bit lanes, if the lanes are at least that wide.
fn pattern_of_words(pattern: &[u8], bytes: u32) -> Option<Vec<u8>> {
    match bytes {
        4 => Some(pattern.to_vec()),
        8 => Some(pattern.iter().flat_map(|&i| [2 * i, 2 * i + 1]).collect()),
        _ => None,
    }
}

/// The instruction that moves words of two registers by `indices` (the second register's follow the first's) without an
/// index table: within pieces of four words, or whole pieces.
fn without_table(indices: &[u8]) -> Option<(M, Option<i64>)> {
    let words = indices.len() as u8;
    let every_piece =
        |of: &dyn Fn(u8) -> [u8; 4]| (0..words / 4).all(|p| indices[4 * usize::from(p)..][..4] == of(4 * p));
    let (second, first) = (words, 0);
    if every_piece(&|p| [first + p, second + p, first + p + 1, second + p + 1]) {
        return Some((M::Vunpcklps, None));
    }
    if every_piece(&|p| [first + p + 2, second + p + 2, first + p + 3, second + p + 3]) {
        return Some((M::Vunpckhps, None));
    }
    // Two words of the first, then two of the second.
    let [a, b, c, d] = [indices[0], indices[1], indices[2].wrapping_sub(words), indices[3].wrapping_sub(words)];
    let within = [a, b, c, d].iter().all(|&i| i < 4);
    if within && every_piece(&|p| [first + p + a, first + p + b, second + p + c, second + p + d]) {
        return Some((M::Vshufps, Some(i64::from(a | b << 2 | c << 4 | d << 6))));
    }
    let piece = |n: usize| {
        let p = &indices[4 * n..4 * n + 4];
        (p[0].is_multiple_of(4) && p.windows(2).all(|w| w[1] == w[0] + 1)).then_some(i64::from(p[0] / 4))
    };
    let pieces: Vec<i64> = (0..indices.len() / 4).map(piece).collect::<Option<_>>()?;
    match *pieces.as_slice() {
        [a, b, c, d] if a < 4 && b < 4 && c >= 4 && d >= 4 => {
            Some((M::Vshuff32x4, Some(a | b << 2 | (c - 4) << 4 | (d - 4) << 6)))
        }
        [a, b] => Some((M::Vperm2f128, Some(a | b << 4))),
        _ => None,
    }
}
