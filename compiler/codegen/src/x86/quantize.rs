//! Floats to bytes: nearest integers plus a zero point, saturated.
//!
//! `vcvtps2dq` rounds to nearest, ties to even, and returns the smallest integer for NaN and out-of-range values; the
//! packing instructions saturate. So only numbers that exceed the integer range need an explicit bound.

use iced_x86::Mnemonic as M;
use regalloc2::VReg;

use super::machine::{Base, Inst, Mem, Op, View};
use super::select::{Parts, Selector, Source};
use mcc_kernel::kir::{self, Elem, Rounding, Ty, Val};

/// Larger than all bytes, and far from the limits of 32-bit integers.
const FAR: f32 = Rounding::BOUND as f32;

/// The predicate "neither is NaN".
const ORDERED: i64 = 7;

impl Selector<'_> {
    /// See [`kir::Inst::Quantize`].
    pub fn quantize(&mut self, parts: &[Val], zero: Val, rounding: Rounding) -> Parts {
        let signed = rounding.signed;
        let ty = self.ty(zero);
        let view = self.part_view(ty);
        let shift = self.shift_of(zero, ty);
        let mut words = Parts::new();
        for &x in parts {
            for x in self.parts(x) {
                words.push(self.word(x, shift, rounding, view, ty));
            }
        }
        if ty.lanes == 1 {
            let packed = self.packed(&words, signed, View::X);
            return vec![self.in_general(packed, Elem::I8)];
        }
        let size = 4.min(words.len().next_power_of_two());
        words.chunks(size).map(|chunk| self.packed(chunk, signed, view)).collect()
    }

    /// See [`kir::Inst::Grid`].
    pub fn grid(&mut self, x: Val, zero: Val, rounding: Rounding) -> Parts {
        let Rounding { signed, bounded } = rounding;
        let ty = self.ty(x);
        let view = self.part_view(ty);
        let shifts = !self.is_zero(zero);
        let (parts, zeros) = (self.parts(x), if shifts { self.sources(zero) } else { Vec::new() });
        let (low, high): (f32, f32) = if signed { (-128.0, 127.0) } else { (0.0, 255.0) };
        let (low, high) = (self.vector_constant(&low.to_le_bytes(), ty), self.vector_constant(&high.to_le_bytes(), ty));
        let full = Ty::new(Elem::F32, super::select::vectors::view_bytes(view) / 4);
        let mut grid = Parts::new();
        for (i, x) in parts.into_iter().enumerate() {
            let rounding = if self.avx512 { M::Vrndscaleps } else { M::Vroundps };
            let mut v = self.v2i(rounding, view, x, 8);
            match zeros.get(i) {
                // For scalars, a memory operand would be too wide.
                Some(Source::Memory(m)) if ty.lanes == 1 => {
                    let zero = self.load_vector(ty, *m);
                    v = self.r3(M::Vaddps, view, v, zero);
                }
                Some(&zero) => v = self.v3(M::Vaddps, view, v, zero),
                None => {}
            }
            // For NaN the result is the second operand.
            let v = self.r3(M::Vmaxps, view, v, low);
            grid.push(if signed && !bounded {
                self.bounded_number(v, high, x, full)
            } else {
                self.r3(M::Vminps, view, v, high)
            });
        }
        grid
    }

    /// See [`kir::Inst::Lookup`]: two permutations of 128 bytes each and a selection by the highest bit, or a byte at a
    /// time.
    pub fn lookup(&mut self, x: Val, table: Val, ty: Ty) -> Parts {
        let table = self.reg(table);
        let at = |disp: i32, index: Option<VReg>| Mem { base: Base::Reg(table), index: index.map(|i| (i, 1)), disp };
        if ty.lanes == 1 {
            let byte = self.reg(x);
            let index = self.extended(byte, Elem::I8, Elem::I64, false);
            return vec![self.load_int(Elem::I8, at(0, Some(index)))];
        }
        let parts = self.parts(x);
        let view = self.part_view(ty);
        if self.vbmi {
            let of = |s: &mut Self, x: VReg, first: i32| {
                let low = s.v2(M::Vmovups, View::Z, Source::Memory(at(first, None)));
                s.tied(M::Vpermi2b, View::Z, x, low, Source::Memory(at(first + 64, None)))
            };
            return parts
                .into_iter()
                .map(|x| {
                    let (low, high, upper) = (of(self, x, 0), of(self, x, 128), self.mask());
                    self.emit(M::Vpmovb2m, &[Op::Def(upper, View::K), Op::Use(x, View::Z)]);
                    self.blend_part(upper, high, low, Ty::new(Elem::I8, 64))
                })
                .collect();
        }
        let room = self.code.room(64);
        let each = self.part_lanes(ty);
        let mut found = Parts::new();
        for x in parts {
            self.store_vector(Ty::new(Elem::I8, each), room, x);
            let quarters: Parts = (0..each.div_ceil(16))
                .map(|quarter| {
                    let first = quarter * 16;
                    (0..16.min(each - first)).fold(self.zero_vector(), |sum, i| {
                        let index = self.load_int(Elem::I8, super::memory::further(room, first + i));
                        let next = self.vector();
                        let ops = [Op::Def(next, View::X), Op::Use(sum, View::X), Op::Mem(at(0, Some(index)))];
                        self.emit(M::Vpinsrb, &[ops.as_slice(), &[Op::Imm(i.into())]].concat());
                        next
                    })
                })
                .collect();
            found.push(self.joined(&quarters, view));
        }
        found
    }

    /// Joins 128-bit registers into one.
    fn joined(&mut self, quarters: &[VReg], view: View) -> VReg {
        let mut whole = quarters[0];
        for (i, &quarter) in quarters.iter().enumerate().skip(1) {
            let mnemonic = if self.avx512 { M::Vinserti32x4 } else { M::Vinserti128 };
            let next = self.vector();
            let ops = [Op::Def(next, view), Op::Use(whole, view), Op::Use(quarter, View::X), Op::Imm(i as i64)];
            self.emit(mnemonic, &ops);
            whole = next;
        }
        whole
    }

    /// `min(v, high)`, but zero where `x` is NaN.
    fn bounded_number(&mut self, v: VReg, high: VReg, x: VReg, ty: Ty) -> VReg {
        let view = self.part_view(ty);
        if !self.avx512 {
            let number = self.v3i(M::Vcmpps, view, x, x, ORDERED);
            let v = self.r3(M::Vminps, view, v, high);
            return self.r3(M::Vandps, view, v, number);
        }
        let number = self.number(x, view);
        let result = self.vector();
        let ops = [Op::Def(result, view), Op::Use(v, view), Op::Use(high, view)];
        self.push(Inst::new(M::Vminps, ops).masked(number, true));
        result
    }

    /// The mask of lanes that are not NaN. AVX-512.
    fn number(&mut self, x: VReg, view: View) -> VReg {
        let number = self.mask();
        self.emit(M::Vcmpps, &[Op::Def(number, View::K), Op::Use(x, view), Op::Use(x, view), Op::Imm(ORDERED)]);
        number
    }

    fn is_zero(&self, v: Val) -> bool {
        matches!(*self.inst(v), kir::Inst::Float(bits) if f64::from_bits(bits) == 0.0)
    }

    /// A zero point as integers, unless it is zero.
    fn shift_of(&mut self, zero: Val, ty: Ty) -> Option<Source> {
        if self.is_zero(zero) {
            return None;
        }
        let view = self.part_view(ty);
        if let kir::Inst::Float(bits) = *self.inst(zero) {
            let word = f64::from_bits(bits) as i32;
            let lanes = super::select::vectors::view_bytes(view) / 4;
            return Some(Source::Register(self.vector_constant(&word.to_le_bytes(), Ty::new(Elem::I32, lanes))));
        }
        let zero = self.reg(zero);
        Some(Source::Register(self.v2(M::Vcvtps2dq, view, Source::Register(zero))))
    }

    /// One register of integers, which saturate to bytes later.
    fn word(&mut self, x: VReg, shift: Option<Source>, rounding: Rounding, view: View, ty: Ty) -> VReg {
        let Rounding { signed, bounded } = rounding;
        let mut v = x;
        if !bounded {
            let bound = self.vector_constant(&FAR.to_le_bytes(), ty);
            // For NaN the result is the second operand, which converts to the smallest integer.
            v = self.r3(M::Vminps, view, bound, v);
            if signed && shift.is_some() {
                let bound = self.vector_constant(&(-FAR).to_le_bytes(), ty);
                v = self.r3(M::Vmaxps, view, bound, v);
            }
        }
        let word = self.v2(M::Vcvtps2dq, view, Source::Register(v));
        let word = match shift {
            Some(shift) => self.v3(M::Vpaddd, view, word, shift),
            None => word,
        };
        if !signed || bounded {
            return word;
        }
        if self.avx512 {
            let (number, result) = (self.number(x, view), self.vector());
            let ops = [Op::Def(result, view), Op::Use(word, view)];
            self.push(Inst::new(M::Vmovdqu32, ops).masked(number, true));
            return result;
        }
        let number = self.v3i(M::Vcmpps, view, x, x, ORDERED);
        self.r3(M::Vpand, view, word, number)
    }

    /// One, two or four registers of integers as bytes.
    fn packed(&mut self, words: &[VReg], signed: bool, view: View) -> VReg {
        let pack = if signed { M::Vpacksswb } else { M::Vpackuswb };
        let at = |i: usize| words[i % words.len()];
        let low = self.r3(M::Vpackssdw, view, at(0), at(1));
        let high = if words.len() > 2 { self.r3(M::Vpackssdw, view, at(2), at(3)) } else { low };
        let bytes = self.r3(pack, view, low, high);
        // Packing works within 128 bits: four bytes of each register, then of the next 128 bits.
        let quarters = super::select::vectors::view_bytes(view) as usize / 16;
        if quarters == 1 {
            return bytes;
        }
        let order: Vec<u8> =
            (0..4 * quarters).flat_map(|k| ((4 * (k % quarters) + k / quarters % 4) as u32).to_le_bytes()).collect();
        let order = self.code.constant(&order);
        let order = self.v2(M::Vmovups, view, Source::Memory(order));
        self.r3(M::Vpermd, view, order, bytes)
    }
}
