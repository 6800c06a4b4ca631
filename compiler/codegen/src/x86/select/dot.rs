//! Sums of four byte products per lane, all of them exact:
//!
//! | operands | with | by |
//! |---|---|---|
//! | unsigned and signed | VNNI | `vpdpbusd` |
//! | signed and narrow | VNNI | the same with `abs(a)` and `b` with the sign of `a` |
//! | signed and narrow | AVX2 | `vpmaddubsw` of those: two products of at most 128 * 127 fit 16 bits; `vpmaddwd` with ones |
//! | any others | AVX2 | the even and the odd bytes as words, and `vpmaddwd` |
//!
//! Prepared operands are reused by products that share them: a tile's rows share weights, its columns data.

use iced_x86::Mnemonic as M;
use regalloc2::VReg;

use super::vectors::view_bytes;
use super::{Parts, Selector, Source};
use crate::x86::machine::{Inst, Op, View};
use mcc_kernel::kir::{DotKind, Elem, Ty, Val};

/// A prepared form of an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// Magnitudes of signed bytes.
    Magnitudes,
    /// The mask of negative bytes. AVX-512.
    Negative,
    /// The even bytes as words, and the odd ones, if they are signed.
    Even(bool),
    Odd(bool),
}

impl Selector<'_> {
    /// See [`kir::Inst::Dot`](mcc_kernel::kir::Inst::Dot).
    pub fn dot(&mut self, kind: DotKind, a: Val, b: Val, acc: Val, ty: Ty) -> Parts {
        if ty.lanes == 1 {
            let scalar = self.reg(acc);
            let acc = vec![self.in_vector(scalar, Elem::I32)];
            let sums = self.dot_by_words(kind, a, b, &acc, View::X);
            return vec![self.in_general(sums[0], Elem::I32)];
        }
        let view = self.part_view(ty);
        let sums = self.parts(acc);
        match kind {
            DotKind::U8S8 if self.vnni => {
                let (x, y) = (self.parts(a), self.sources(b));
                (0..sums.len()).map(|i| self.byte_products(view, sums[i], x[i], y[i])).collect()
            }
            DotKind::S8Narrow => self.dot_by_signs(a, b, &sums, view),
            _ => self.dot_by_words(kind, a, b, &sums, view),
        }
    }

    /// `vpdpbusd`.
    fn byte_products(&mut self, view: View, acc: VReg, a: VReg, b: Source) -> VReg {
        let result = self.vector();
        let (last, broadcast) = match b {
            Source::Register(v) => (Op::Use(v, view), false),
            Source::Memory(m) => (Op::Mem(m), false),
            Source::Broadcast(m) => (Op::Mem(m), true),
        };
        let ops = [Op::Mod(result, acc, view), Op::Use(a, view), last];
        self.push(Inst { evex: self.avx512, broadcast, ..Inst::new(M::Vpdpbusd, ops) });
        result
    }

    /// Magnitudes times numbers with the other's sign, which `b`, being narrow, can represent.
    fn dot_by_signs(&mut self, a: Val, b: Val, acc: &[VReg], view: View) -> Parts {
        let magnitudes = self.split(a, Split::Magnitudes, view);
        let signs = if self.avx512 { self.split(a, Split::Negative, view) } else { self.parts(a) };
        let factors = self.parts(b);
        let words = Ty::new(Elem::I16, view_bytes(view) / 2);
        let ones = Source::Memory(self.spread_constant(&1i16.to_le_bytes(), words));
        (0..acc.len())
            .map(|i| {
                let factor = self.signed_as(factors[i], signs[i], view);
                if self.vnni {
                    return self.byte_products(view, acc[i], magnitudes[i], Source::Register(factor));
                }
                let pairs = self.r3(M::Vpmaddubsw, view, magnitudes[i], factor);
                let sums = self.v3(M::Vpmaddwd, view, pairs, ones);
                self.r3(M::Vpaddd, view, acc[i], sums)
            })
            .collect()
    }

    /// Bytes, negated where the sign is negative. Bytes that are multiplied by zero do not matter.
    fn signed_as(&mut self, x: VReg, sign: VReg, view: View) -> VReg {
        if !self.avx512 {
            return self.r3(M::Vpsignb, view, x, sign);
        }
        let (zero, result) = (self.zero_vector(), self.vector());
        let ops = [Op::Mod(result, x, view), Op::Use(zero, view), Op::Use(x, view)];
        self.push(Inst::new(M::Vpsubb, ops).masked(sign, false));
        result
    }

    /// The even and odd bytes as words, whose products `vpmaddwd` adds exactly: every sum of two fits 32 bits.
    fn dot_by_words(&mut self, kind: DotKind, a: Val, b: Val, acc: &[VReg], view: View) -> Parts {
        let (signed_a, signed_b) = kind.signed();
        let mut sums = acc.to_vec();
        for half in [Split::Even, Split::Odd] {
            let (x, y) = (self.split(a, half(signed_a), view), self.split(b, half(signed_b), view));
            for (i, sum) in sums.iter_mut().enumerate() {
                let products = self.r3(M::Vpmaddwd, view, x[i], y[i]);
                *sum = self.r3(M::Vpaddd, view, *sum, products);
            }
        }
        sums
    }

    fn split(&mut self, v: Val, split: Split, view: View) -> Parts {
        if let Some(known) = self.splits.iter().rev().find_map(|known| known.get(&(v, split))) {
            return known.clone();
        }
        let parts: Parts = self.parts(v).into_iter().map(|x| self.split_part(x, split, view)).collect();
        if let Some(known) = self.splits.last_mut() {
            known.insert((v, split), parts.clone());
        }
        parts
    }

    fn split_part(&mut self, x: VReg, split: Split, view: View) -> VReg {
        let shift = |signed: bool| if signed { M::Vpsraw } else { M::Vpsrlw };
        match split {
            Split::Magnitudes => self.v2(M::Vpabsb, view, Source::Register(x)),
            Split::Negative => {
                let mask = self.mask();
                self.emit(M::Vpmovb2m, &[Op::Def(mask, View::K), Op::Use(x, view)]);
                mask
            }
            Split::Even(true) => {
                let raised = self.v2i(M::Vpsllw, view, x, 8);
                self.v2i(M::Vpsraw, view, raised, 8)
            }
            Split::Even(false) => {
                let words = Ty::new(Elem::I16, view_bytes(view) / 2);
                let low = Source::Memory(self.spread_constant(&0xffu16.to_le_bytes(), words));
                self.v3(self.logic(M::Vpand, Elem::I32), view, x, low)
            }
            Split::Odd(signed) => self.v2i(shift(signed), view, x, 8),
        }
    }
}
