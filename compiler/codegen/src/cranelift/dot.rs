//! Sums of four byte products per lane. Cranelift has no instruction for them: it recognises trees, including the order
//! of the operands, and selects one instruction for each:
//!
//! | tree | with | gives |
//! |---|---|---|
//! | 16-bit products of two signed operands, added in pairs | aarch64 `dotprod` | `sdot` |
//! | the same with an unsigned and a signed one | aarch64 `i8mm` | `usdot` |
//! | 32-bit products of 16-bit numbers, added in pairs | x86-64 | `pmaddwd` |
//!
//! All are exact: the product of two bytes fits 16 bits if at most one is unsigned, that of two unsigned bytes as an
//! unsigned number. The snapshots of `codegen/tests/dot.rs` show the code for each target.

use cranelift_codegen::ir::{InstBuilder, Value, types};
use mcc_targets::{Arch, Feature, Target};

use super::{Parts, Translator};
use mcc_kernel::kir::{DotKind, Elem, Ty, Val};

/// The target's instructions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Support {
    /// `pmaddwd`.
    word_pairs: bool,
    /// `sdot`.
    signed: bool,
    /// `usdot`.
    mixed: bool,
}

impl Support {
    pub(super) fn of(target: &Target) -> Support {
        Support {
            word_pairs: target.arch == Arch::X86_64,
            signed: target.has(Feature::Dotprod),
            mixed: target.has(Feature::Dotprod) && target.has(Feature::I8mm),
        }
    }
}

impl Translator<'_> {
    pub(super) fn dot(&mut self, kind: DotKind, a: Val, b: Val, acc: Val) -> Parts {
        let scalar = self.ty(acc).lanes == 1;
        let (a, b, mut acc) = (self.parts(a), self.parts(b), self.parts(acc));
        if scalar {
            let wide = Ty::new(Elem::I32, 4);
            acc = self.gather_lanes(wide, &acc);
        }
        let sums: Parts = (0..acc.len()).map(|i| self.dot_part(kind, a[i], b[i], acc[i])).collect();
        if scalar { vec![self.b.ins().extractlane(sums[0], 0)] } else { sums }
    }

    /// The sums of each row of `a`, twice, times both rows of `b`: four lanes for each, in pairs of one sum.
    pub(super) fn matrix_dot(&mut self, kind: DotKind, a: Val, b: Val, acc: Val) -> Parts {
        let (a, b, acc) = (self.parts(a), self.parts(b), self.parts(acc));
        let zero = self.vector_constant(&[0], types::I32X4);
        let part = |t: &mut Self, i: usize| {
            let rows = t.cast_bits(a[i], types::I64X2);
            let [first, second] = [0, 1].map(|row| {
                let row = t.b.ins().extractlane(rows, row);
                let both = t.b.ins().splat(types::I64X2, row);
                let both = t.cast_bits(both, types::I8X16);
                t.dot_part(kind, both, b[i], zero)
            });
            let sums = t.b.ins().iadd_pairwise(first, second);
            t.b.ins().iadd(sums, acc[i])
        };
        (0..acc.len()).map(|i| part(self, i)).collect()
    }

    fn dot_part(&mut self, kind: DotKind, a: Value, b: Value, acc: Value) -> Value {
        if self.dot.word_pairs {
            return self.word_pairs(kind, a, b, acc);
        }
        if kind == DotKind::U8S8 && self.dot.signed && !self.dot.mixed {
            // a is 128 more than the signed number with the same bits except for an inverted sign bit.
            let flip = self.vector_constant(&[0x80], types::I8X16);
            let zero = self.vector_constant(&[0], types::I32X4);
            let turned = self.b.ins().bxor(a, flip);
            let sum = self.byte_products(DotKind::S8S8, turned, b, acc);
            let correction = self.byte_products(DotKind::S8S8, flip, b, zero);
            return self.b.ins().isub(sum, correction);
        }
        self.byte_products(kind, a, b, acc)
    }

    /// Uses 16-bit products.
    fn byte_products(&mut self, kind: DotKind, a: Value, b: Value, acc: Value) -> Value {
        let (a_signed, b_signed) = kind.signed();
        let (a_low, a_high) = (self.low(a, a_signed), self.high(a, a_signed));
        let (b_low, b_high) = (self.low(b, b_signed), self.high(b, b_signed));
        let signed = a_signed || b_signed;
        let [low, high] = [(a_low, b_low), (a_high, b_high)].map(|(a, b)| {
            let products = self.b.ins().imul(a, b);
            let (low, high) = (self.low(products, signed), self.high(products, signed));
            self.b.ins().iadd_pairwise(low, high)
        });
        let sums = self.b.ins().iadd_pairwise(low, high);
        self.b.ins().iadd(sums, acc)
    }

    /// Uses 16-bit numbers, added in pairs.
    fn word_pairs(&mut self, kind: DotKind, a: Value, b: Value, acc: Value) -> Value {
        let (a_signed, b_signed) = kind.signed();
        let (a_low, a_high) = (self.low(a, a_signed), self.high(a, a_signed));
        let (b_low, b_high) = (self.low(b, b_signed), self.high(b, b_signed));
        let [low, high] = [(a_low, b_low), (a_high, b_high)].map(|(a, b)| {
            let [low, high] = [Self::low, Self::high].map(|half| {
                let (a, b) = (half(self, a, true), half(self, b, true));
                self.b.ins().imul(a, b)
            });
            self.b.ins().iadd_pairwise(low, high)
        });
        let sums = self.b.ins().iadd_pairwise(low, high);
        self.b.ins().iadd(sums, acc)
    }

    /// The low half of the lanes, widened to twice the size.
    fn low(&mut self, v: Value, signed: bool) -> Value {
        if signed { self.b.ins().swiden_low(v) } else { self.b.ins().uwiden_low(v) }
    }

    /// The high half of the lanes, widened to twice the size.
    fn high(&mut self, v: Value, signed: bool) -> Value {
        if signed { self.b.ins().swiden_high(v) } else { self.b.ins().uwiden_high(v) }
    }
}
