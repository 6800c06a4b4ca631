//! Conversions between number types. Scalars are converted in vector registers too.

use iced_x86::Mnemonic as M;
use regalloc2::VReg;

use super::machine::{Cc, Inst, Op, View};
use super::memory::further;
use super::select::vectors::{pick, view_bytes};
use super::select::{Parts, Selector, Source};
use mcc_kernel::kir::{self, Elem, Ty, Val};

impl Selector<'_> {
    /// Between numbers of equal lane count.
    pub fn convert(&mut self, a: Val, to: Ty, signed: bool) -> Parts {
        let from = self.ty(a);
        if from.elem == to.elem {
            return self.parts(a);
        }
        if to.lanes == 1 {
            let x = self.reg(a);
            return vec![self.convert_scalar(x, from.elem, to.elem, signed)];
        }
        let widens = from.elem.is_int() && to.elem.is_int() && from.elem.bytes() < to.elem.bytes();
        if widens && self.part_count(to) == 1 && matches!(self.inst(a), kir::Inst::Load(_)) && self.foldable(a) {
            let sources = self.sources(a);
            let (v, view) = (self.vector(), self.part_view(to));
            self.with_source(widening(from, to, signed), &[Op::Def(v, view)], View::X, sources[0]);
            return vec![v];
        }
        let parts = self.parts(a);
        match (from.elem.is_float(), to.elem.is_float()) {
            (false, false) if from.elem.bytes() < to.elem.bytes() => self.widen(parts, from, to, signed),
            (false, false) => self.narrow(parts, from, to),
            (false, true) => {
                // Bytes and words become signed 32-bit integers of the same value.
                let short = from.elem.bytes() < 4;
                let words = from.with(Elem::I32);
                let (parts, from) = if short { (self.widen(parts, from, words, signed), words) } else { (parts, from) };
                self.ints_to_floats(parts, from, to, signed || short)
            }
            (true, false) => self.floats_to_ints(parts, from, to, signed),
            (true, true) => self.resize(parts, from, to, pick(to.elem == Elem::F64, M::Vcvtps2pd, M::Vcvtpd2ps)),
        }
    }

    fn convert_scalar(&mut self, x: VReg, from: Elem, to: Elem, signed: bool) -> VReg {
        match (from.is_float(), to.is_float()) {
            (false, false) => self.extended(x, from, to, signed),
            (true, true) => {
                let mnemonic = pick(to == Elem::F64, M::Vcvtss2sd, M::Vcvtsd2ss);
                self.r3(mnemonic, View::X, x, x)
            }
            (false, true) => self.int_to_float(x, from, to, signed),
            (true, false) => self.float_to_int(x, from, to, signed),
        }
    }

    fn int_to_float(&mut self, x: VReg, from: Elem, to: Elem, signed: bool) -> VReg {
        // Unsigned 32-bit integers and all narrower ones become signed 64-bit ones of the same value.
        let long = from == Elem::I64;
        let x = if long { x } else { self.extended(x, from, Elem::I64, signed) };
        let single = to == Elem::F32;
        let view = View::Q;
        if signed || !long {
            return self.scalar_from_int(pick(single, M::Vcvtsi2ss, M::Vcvtsi2sd), x, view);
        }
        if self.avx512 {
            return self.scalar_from_int(pick(single, M::Vcvtusi2ss, M::Vcvtusi2sd), x, view);
        }
        // Convert half of it, rounded to odd, then double the result: the same rounding.
        let plain = self.scalar_from_int(pick(single, M::Vcvtsi2ss, M::Vcvtsi2sd), x, view);
        let (half, odd, joined) = (self.int(), self.int(), self.int());
        self.emit(M::Shr, &[Op::Mod(half, x, View::Q), Op::Imm(1)]);
        self.emit(M::And, &[Op::Mod(odd, x, View::D), Op::Imm(1)]);
        self.emit(M::Or, &[Op::Mod(joined, half, View::Q), Op::Use(odd, View::Q)]);
        let halved = self.scalar_from_int(pick(single, M::Vcvtsi2ss, M::Vcvtsi2sd), joined, view);
        let doubled = self.r3(pick(single, M::Vaddss, M::Vaddsd), View::X, halved, halved);
        let sign = self.in_vector(x, Elem::I64);
        // The blend uses the sign bit of each lane: of 64 bits, or of the upper 32 moved to lane 0.
        let sign = if single { self.v2i(M::Vpsrlq, View::X, sign, 32) } else { sign };
        let v = self.vector();
        let mnemonic = pick(single, M::Vblendvps, M::Vblendvpd);
        let ops = [Op::Def(v, View::X), Op::Use(plain, View::X), Op::Use(doubled, View::X), Op::Use(sign, View::X)];
        self.emit(mnemonic, &ops);
        v
    }

    fn scalar_from_int(&mut self, mnemonic: M, x: VReg, view: View) -> VReg {
        let (zero, v) = (self.zero_vector(), self.vector());
        self.emit(mnemonic, &[Op::Def(v, View::X), Op::Use(zero, View::X), Op::Use(x, view)]);
        v
    }

    fn float_to_int(&mut self, x: VReg, from: Elem, to: Elem, signed: bool) -> VReg {
        let single = from == Elem::F32;
        let ty = Ty::new(from, 1);
        if to != Elem::I64 {
            // 64 bits hold the values before they saturate to fewer.
            let x = self.number_or_zero(x, ty);
            let bits = to.bytes() * 8;
            let (low, high) = if signed {
                (-((1i64 << (bits - 1)) as f64), ((1i64 << (bits - 1)) - 1) as f64)
            } else {
                (0.0, ((1u64 << bits) - 1) as f64)
            };
            // In `f64`, which represents all the bounds.
            let x = if single { self.r3(M::Vcvtss2sd, View::X, x, x) } else { x };
            let bound = |s: &mut Self, c: f64| s.vector_constant(&c.to_le_bytes(), Ty::new(Elem::F64, 1));
            let (low, high) = (bound(self, low), bound(self, high));
            let x = self.r3(M::Vmaxsd, View::X, x, low);
            let x = self.r3(M::Vminsd, View::X, x, high);
            return self.truncated(M::Vcvttsd2si, x);
        }
        let zero_bits = self.zero_vector();
        let bits = |s: &mut Self, c: f64| {
            let lane = if single { (c as f32).to_le_bytes().to_vec() } else { c.to_le_bytes().to_vec() };
            s.vector_constant(&lane, ty)
        };
        let convert = pick(single, M::Vcvttss2si, M::Vcvttsd2si);
        let compare = pick(single, M::Vucomiss, M::Vucomisd);
        let flags = |s: &mut Self, a: VReg, b: VReg| s.emit(compare, &[Op::Use(a, View::X), Op::Use(b, View::X)]);
        let clean = self.number_or_zero(x, ty);
        if signed {
            let two63 = bits(self, 9_223_372_036_854_775_808.0);
            let (plain, most) = (self.truncated(convert, clean), self.int_constant(i64::MAX));
            flags(self, clean, two63);
            return self.int_select(Cc::Ae, most, plain);
        }
        let (two63, two64) = (bits(self, 9_223_372_036_854_775_808.0), bits(self, 18_446_744_073_709_551_616.0));
        let clean = self.r3(pick(single, M::Vmaxss, M::Vmaxsd), View::X, clean, zero_bits);
        let plain = self.truncated(convert, clean);
        let less = self.r3(pick(single, M::Vsubss, M::Vsubsd), View::X, clean, two63);
        let upper = self.truncated(convert, less);
        let (sign, upper_bits) = (self.int_constant(i64::MIN), self.int());
        self.emit(M::Xor, &[Op::Mod(upper_bits, upper, View::Q), Op::Use(sign, View::Q)]);
        flags(self, clean, two63);
        let some = self.int_select(Cc::Ae, upper_bits, plain);
        let all = self.int_constant(-1);
        flags(self, clean, two64);
        self.int_select(Cc::Ae, all, some)
    }

    fn truncated(&mut self, mnemonic: M, x: VReg) -> VReg {
        let v = self.int();
        self.emit(mnemonic, &[Op::Def(v, View::Q), Op::Use(x, View::X)]);
        v
    }

    /// Replaces NaN by zero.
    fn number_or_zero(&mut self, x: VReg, ty: Ty) -> VReg {
        let single = ty.elem == Elem::F32;
        let view = self.part_view(ty);
        // The predicate "neither is NaN".
        const ORDERED: i64 = 7;
        // 128-bit vectors also work for scalars: the upper lanes do not matter.
        let compare = pick(single, M::Vcmpps, M::Vcmppd);
        if !self.avx512 {
            let number = self.v3i(compare, view, x, x, ORDERED);
            return self.r3(pick(single, M::Vandps, M::Vandpd), view, number, x);
        }
        let (number, v) = (self.mask(), self.vector());
        self.emit(compare, &[Op::Def(number, View::K), Op::Use(x, view), Op::Use(x, view), Op::Imm(ORDERED)]);
        let move_ = pick(single, M::Vmovups, M::Vmovupd);
        self.push(Inst::new(move_, [Op::Def(v, view), Op::Use(x, view)]).masked(number, true));
        v
    }

    // ---- 16-bit floats ----

    /// Converts 16-bit floats to `f32`.
    pub fn half_to_float(&mut self, a: Val, to: Ty) -> Parts {
        if to.lanes > 1 {
            let (parts, from) = (self.parts(a), self.ty(a));
            return self.resize(parts, from, to, M::Vcvtph2ps);
        }
        let (code, v) = (self.reg(a), self.vector());
        let code = self.in_vector(code, Elem::I32);
        self.emit(M::Vcvtph2ps, &[Op::Def(v, View::X), Op::Use(code, View::X)]);
        vec![v]
    }

    /// Rounds `f32` to nearest, ties to even.
    pub fn float_to_half(&mut self, a: Val, to: Ty) -> Parts {
        let (parts, from) = (self.parts(a), self.ty(a));
        let view = if to.lanes > 1 { self.part_view(from) } else { View::X };
        let codes: Parts = parts
            .iter()
            .map(|&x| {
                let v = self.vector();
                let half = view_of(view_bytes(view) / 2);
                self.emit(M::Vcvtps2ph, &[Op::Def(v, half), Op::Use(x, view), Op::Imm(0)]);
                v
            })
            .collect();
        if to.lanes > 1 { self.join(codes, from, to) } else { vec![self.in_general(codes[0], Elem::I32)] }
    }

    // ---- integers ----

    /// The `n`-th group of a value's lanes that fills one register of another type.
    fn lanes_for(&mut self, parts: &[VReg], from: Ty, lanes: u32, n: usize) -> VReg {
        let byte = n as u32 * lanes * from.elem.bytes();
        let part = parts[(byte / self.max) as usize];
        self.extract(part, self.part_view(from), byte % self.max)
    }

    fn widen(&mut self, parts: Parts, from: Ty, to: Ty, signed: bool) -> Parts {
        self.resize(parts, from, to, widening(from, to, signed))
    }

    /// Converts lane by lane to registers of another element size, with one instruction.
    fn resize(&mut self, parts: Parts, from: Ty, to: Ty, mnemonic: M) -> Parts {
        if from.elem.bytes() > to.elem.bytes() {
            let halves = parts.iter().map(|&x| self.shrunk(mnemonic, x, self.part_view(from), 2)).collect();
            return self.join(halves, from, to);
        }
        let (lanes, view) = (self.part_lanes(to), self.part_view(to));
        (0..self.part_count(to))
            .map(|n| {
                let x = self.lanes_for(&parts, from, lanes, n);
                let v = self.vector();
                let source = view_of(lanes * from.elem.bytes());
                // The smallest source of some instructions is smaller than a register.
                self.emit(mnemonic, &[Op::Def(v, view), Op::Use(x, source.min(view))]);
                v
            })
            .collect()
    }

    /// An instruction whose result is `ratio` times smaller than its source.
    fn shrunk(&mut self, mnemonic: M, x: VReg, view: View, ratio: u32) -> VReg {
        let v = self.vector();
        self.emit(mnemonic, &[Op::Def(v, view_of(view_bytes(view) / ratio)), Op::Use(x, view)]);
        v
    }

    /// Joins registers with the lanes of `from` but elements of `to` into registers of `to`.
    fn join(&mut self, pieces: Parts, from: Ty, to: Ty) -> Parts {
        if pieces.len() == 1 {
            return pieces;
        }
        let size = self.part_lanes(from) * to.elem.bytes();
        let piece = Ty::new(to.elem, self.part_lanes(from));
        if pieces.len() == 2 && size >= 16 {
            let view = self.part_view(to);
            let (mnemonic, imm) = match (view, self.avx512) {
                (View::Z, _) => (M::Vinsertf64x4, 1),
                (_, true) => (M::Vinsertf32x4, 1),
                _ => (M::Vinsertf128, 1),
            };
            let v = self.vector();
            let half = view_of(size);
            self.emit(mnemonic, &[Op::Def(v, view), Op::Use(pieces[0], view), Op::Use(pieces[1], half), Op::Imm(imm)]);
            return vec![v];
        }
        let room = self.code.room((pieces.len() as u32 * size).max(64) as i32);
        for (i, &x) in pieces.iter().enumerate() {
            self.store_vector(piece, further(room, i as u32 * size), x);
        }
        self.reload(to, room)
    }

    fn narrow(&mut self, parts: Parts, from: Ty, to: Ty) -> Parts {
        let view = self.part_view(from);
        if self.avx512 {
            let mnemonic = match (from.elem, to.elem) {
                (Elem::I64, Elem::I32) => M::Vpmovqd,
                (Elem::I64, Elem::I16) => M::Vpmovqw,
                (Elem::I64, _) => M::Vpmovqb,
                (Elem::I32, Elem::I16) => M::Vpmovdw,
                (Elem::I32, _) => M::Vpmovdb,
                _ => M::Vpmovwb,
            };
            let ratio = from.elem.bytes() / to.elem.bytes();
            let pieces = parts.iter().map(|&x| self.shrunk(mnemonic, x, view, ratio)).collect();
            return self.join(pieces, from, to);
        }
        // Halve the width in each step.
        let (mut parts, mut ty) = (parts, from);
        while ty.elem.bytes() > to.elem.bytes() {
            let half = match ty.elem {
                Elem::I64 => Elem::I32,
                Elem::I32 => Elem::I16,
                _ => Elem::I8,
            };
            let view = self.part_view(ty);
            let next: Parts = parts.chunks(2).map(|pair| self.narrow_pair(pair, ty.elem, view)).collect();
            (parts, ty) = (next, ty.with(half));
        }
        parts
    }

    /// The low halves of the lanes of one or two registers, in one register. Without AVX-512.
    fn narrow_pair(&mut self, pair: &[VReg], elem: Elem, view: View) -> VReg {
        let full = Ty::new(elem, view_bytes(view) / elem.bytes());
        let low: Vec<VReg> = match elem {
            Elem::I64 => pair.to_vec(),
            _ => {
                let bits: &[u8] = if elem == Elem::I32 { &[0xff, 0xff, 0, 0] } else { &[0xff, 0] };
                let mask = self.vector_constant(bits, full);
                pair.iter().map(|&x| self.r3(M::Vpand, view, x, mask)).collect()
            }
        };
        // The upper half of a single register is the second operand.
        let (x, y, at) = match (low.as_slice(), view) {
            ([x, y], _) => (*x, *y, view),
            ([x, ..], View::Y) => (*x, self.extract(*x, View::Y, 16), View::X),
            ([x, ..], _) => (*x, *x, View::X),
            ([], _) => return self.zero_vector(),
        };
        let packed = match elem {
            Elem::I64 => self.v3i(M::Vshufps, at, x, y, 0x88),
            Elem::I32 => self.r3(M::Vpackusdw, at, x, y),
            _ => self.r3(M::Vpackuswb, at, x, y),
        };
        // Packing works within 128 bits: the quarters are out of order.
        if at == View::Y { self.v2i(M::Vpermq, View::Y, packed, 0xd8) } else { packed }
    }

    // ---- to and from floats ----

    /// Integers of 32 or 64 bits to floats.
    fn ints_to_floats(&mut self, parts: Parts, from: Ty, to: Ty, signed: bool) -> Parts {
        let single = to.elem == Elem::F32;
        if self.avx512 || (signed && from.elem == Elem::I32) {
            let mnemonic = match (from.elem, single, signed) {
                (Elem::I32, true, true) => M::Vcvtdq2ps,
                (Elem::I32, false, true) => M::Vcvtdq2pd,
                (Elem::I32, true, false) => M::Vcvtudq2ps,
                (Elem::I32, false, false) => M::Vcvtudq2pd,
                (_, true, true) => M::Vcvtqq2ps,
                (_, false, true) => M::Vcvtqq2pd,
                (_, true, false) => M::Vcvtuqq2ps,
                (_, false, false) => M::Vcvtuqq2pd,
            };
            if from.elem.bytes() != to.elem.bytes() {
                return self.resize(parts, from, to, mnemonic);
            }
            let view = self.part_view(to);
            return parts.iter().map(|&x| self.v2(mnemonic, view, Source::Register(x))).collect();
        }
        if from.elem == Elem::I32 && single {
            // The upper and lower halves convert exactly; their sum is rounded once.
            let view = self.part_view(to);
            let scale = self.vector_constant(&65536f32.to_le_bytes(), to);
            let words = self.vector_constant(&[0xff, 0xff, 0, 0], from);
            return parts
                .iter()
                .map(|&x| {
                    let high = self.v2i(M::Vpsrld, view, x, 16);
                    let low = self.r3(M::Vpand, view, x, words);
                    let high = self.v2(M::Vcvtdq2ps, view, Source::Register(high));
                    let low = self.v2(M::Vcvtdq2ps, view, Source::Register(low));
                    self.tied(M::Vfmadd231ps, view, low, high, Source::Register(scale))
                })
                .collect();
        }
        self.lanes_apart(&parts, from, to, signed)
    }

    /// Lane by lane, through memory.
    fn lanes_apart(&mut self, parts: &[VReg], from: Ty, to: Ty, signed: bool) -> Parts {
        let bytes = |ty: Ty| ty.bytes().max(64) as i32;
        let (source, result) = (self.code.room(bytes(from)), self.code.room(bytes(to)));
        for (i, &part) in parts.iter().enumerate() {
            self.store_vector(from, further(source, i as u32 * self.max), part);
        }
        for i in 0..from.lanes {
            let at = further(source, i * from.elem.bytes());
            let one = Ty::new(from.elem, 1);
            let x = if from.elem.is_float() { self.load_vector(one, at) } else { self.load_int(from.elem, at) };
            let y = self.convert_scalar(x, from.elem, to.elem, signed);
            let place = further(result, i * to.elem.bytes());
            if to.elem.is_float() {
                self.store_vector(Ty::new(to.elem, 1), place, y);
            } else {
                self.emit(M::Mov, &[Op::Mem(place), Op::Use(y, super::select::scalars::view(to.elem))]);
            }
        }
        self.reload(to, result)
    }

    /// Floats to integers, truncating and saturating.
    fn floats_to_ints(&mut self, parts: Parts, from: Ty, to: Ty, signed: bool) -> Parts {
        if to.elem == Elem::I64 || from.elem == Elem::F64 {
            return self.lanes_apart(&parts, from, to, signed);
        }
        let view = self.part_view(from);
        let words = from.with(Elem::I32);
        if to.elem == Elem::I32 && !signed {
            let ints = parts.iter().map(|&x| self.unsigned_words(x, from)).collect();
            return ints;
        }
        // Bytes and words saturate as floats, which represent all their bounds.
        let bits = to.elem.bytes() * 8;
        let ints: Parts = parts
            .iter()
            .map(|&x| {
                let x = self.number_or_zero(x, from);
                if to.elem == Elem::I32 {
                    let bound = self.vector_constant(&2_147_483_648f32.to_le_bytes(), from);
                    let int = self.v2(M::Vcvttps2dq, view, Source::Register(x));
                    let most = self.vector_constant(&i32::MAX.to_le_bytes(), words);
                    return self.where_at_least(x, bound, most, int, from);
                }
                let (low, high) =
                    if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
                let low = self.vector_constant(&(low as f32).to_le_bytes(), from);
                let high = self.vector_constant(&(high as f32).to_le_bytes(), from);
                let x = self.r3(M::Vmaxps, view, x, low);
                let x = self.r3(M::Vminps, view, x, high);
                self.v2(M::Vcvttps2dq, view, Source::Register(x))
            })
            .collect();
        if to.elem == Elem::I32 { ints } else { self.narrow(ints, words, to) }
    }

    /// `x >= bound ? a : b`.
    fn where_at_least(&mut self, x: VReg, bound: VReg, a: VReg, b: VReg, ty: Ty) -> VReg {
        let view = self.part_view(ty);
        // Greater or equal, false for NaN.
        const AT_LEAST: i64 = 0x1d;
        if self.avx512 {
            let k = self.mask();
            self.emit(M::Vcmpps, &[Op::Def(k, View::K), Op::Use(x, view), Op::Use(bound, view), Op::Imm(AT_LEAST)]);
            return self.blend_part(k, a, b, ty.with(Elem::I32));
        }
        let mask = self.v3i(M::Vcmpps, view, x, bound, AT_LEAST);
        self.blend_part(mask, a, b, ty)
    }

    fn unsigned_words(&mut self, x: VReg, ty: Ty) -> VReg {
        let view = self.part_view(ty);
        let zero = self.zero_vector();
        // For NaN the result is the second operand, zero.
        let x = self.r3(M::Vmaxps, view, x, zero);
        if self.avx512 {
            // Out of range, the result is all ones: the largest integer.
            return self.v2(M::Vcvttps2udq, view, Source::Register(x));
        }
        let words = ty.with(Elem::I32);
        let half = self.vector_constant(&2_147_483_648f32.to_le_bytes(), ty);
        let whole = self.vector_constant(&4_294_967_296f32.to_le_bytes(), ty);
        let plain = self.v2(M::Vcvttps2dq, view, Source::Register(x));
        let less = self.r3(M::Vsubps, view, x, half);
        let upper = self.v2(M::Vcvttps2dq, view, Source::Register(less));
        let sign = self.vector_constant(&i32::MIN.to_le_bytes(), words);
        let upper = self.r3(self.logic(M::Vpxor, Elem::I32), view, upper, sign);
        let some = self.where_at_least(x, half, upper, plain, ty);
        let all = self.vector_constant(&[0xff; 4], words);
        self.where_at_least(x, whole, all, some, ty)
    }
}

/// The instruction that zero- or sign-extends integers.
fn widening(from: Ty, to: Ty, signed: bool) -> M {
    match (from.elem, to.elem, signed) {
        (Elem::I8, Elem::I16, true) => M::Vpmovsxbw,
        (Elem::I8, Elem::I16, false) => M::Vpmovzxbw,
        (Elem::I8, Elem::I32, true) => M::Vpmovsxbd,
        (Elem::I8, Elem::I32, false) => M::Vpmovzxbd,
        (Elem::I8, _, true) => M::Vpmovsxbq,
        (Elem::I8, _, false) => M::Vpmovzxbq,
        (Elem::I16, Elem::I32, true) => M::Vpmovsxwd,
        (Elem::I16, Elem::I32, false) => M::Vpmovzxwd,
        (Elem::I16, _, true) => M::Vpmovsxwq,
        (Elem::I16, _, false) => M::Vpmovzxwq,
        (_, _, true) => M::Vpmovsxdq,
        (_, _, false) => M::Vpmovzxdq,
    }
}

/// The view with this number of bytes.
fn view_of(bytes: u32) -> View {
    match bytes {
        0..=16 => View::X,
        17..=32 => View::Y,
        _ => View::Z,
    }
}
