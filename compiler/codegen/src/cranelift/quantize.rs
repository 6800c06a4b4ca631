//! Floats to bytes: nearest integers plus a zero point, saturated.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::{FLAGS, Parts, Translator};
use mcc_kernel::kir::{Elem, Inst, Ty, Val};

impl Translator<'_> {
    /// See [`Inst::Quantize`].
    pub(super) fn quantize(&mut self, parts: &[Val], zero: Val, signed: bool) -> Parts {
        let scalar = self.ty(zero).lanes == 1;
        let words: Parts = parts
            .iter()
            .flat_map(|&x| {
                let shifted = self.rounded(x, zero);
                let word = if scalar { types::I32 } else { types::I32X4 };
                // Zero for NaN.
                shifted.into_iter().map(|v| self.b.ins().fcvt_to_sint_sat(word, v)).collect::<Parts>()
            })
            .collect();
        if scalar {
            let (low, high) = if signed { (-128, 127) } else { (0, 255) };
            let of = |c: i64| self.int_constant(c, Ty::new(Elem::I32, 1));
            let [low, high] = [low, high].map(of);
            let v = self.b.ins().smax(words[0], low);
            let v = self.b.ins().smin(v, high);
            return vec![self.b.ins().ireduce(types::I8, v)];
        }
        let second = |pair: &[Value]| pair.get(1).copied().unwrap_or(pair[0]);
        let halves: Parts = words.chunks(2).map(|pair| self.b.ins().snarrow(pair[0], second(pair))).collect();
        let narrowed = halves.chunks(2).map(|pair| match signed {
            true => self.b.ins().snarrow(pair[0], second(pair)),
            false => self.b.ins().unarrow(pair[0], second(pair)),
        });
        narrowed.collect()
    }

    /// See [`Inst::Lookup`]: a byte at a time.
    pub(super) fn lookup(&mut self, x: Val, table: Val) -> Parts {
        let (ty, table) = (self.ty(x), self.scalar(table));
        let parts = self.parts(x);
        let find = |f: &mut Self, byte: Value| {
            let offset = f.b.ins().uextend(types::I64, byte);
            let at = f.b.ins().iadd(table, offset);
            f.b.ins().load(types::I8, FLAGS, at, 0)
        };
        if ty.lanes == 1 {
            return vec![find(self, parts[0])];
        }
        self.lane_by_lane(ty, |f, i| {
            let byte = f.lane(&parts, ty, i);
            find(f, byte)
        })
    }

    /// See [`Inst::Grid`].
    pub(super) fn grid(&mut self, x: Val, zero: Val, signed: bool) -> Parts {
        let ty = self.ty(x);
        let (low, high) = if signed { (-128.0, 127.0) } else { (0.0, 255.0) };
        let shifted = self.rounded(x, zero);
        let (low, high) = (self.float_constant(low, ty), self.float_constant(high, ty));
        shifted
            .into_iter()
            .map(|v| {
                let bounded = self.b.ins().fmax(v, low);
                let bounded = self.b.ins().fmin(bounded, high);
                let number = self.b.ins().fcmp(FloatCC::Equal, v, v);
                if ty.lanes == 1 {
                    let nothing = self.float_constant(0.0, ty);
                    return self.b.ins().select(number, bounded, nothing);
                }
                let number = self.cast_bits(number, types::F32X4);
                self.b.ins().band(bounded, number)
            })
            .collect()
    }

    /// The nearest integers plus the zero point.
    fn rounded(&mut self, x: Val, zero: Val) -> Parts {
        let (parts, zeros) = (self.parts(x), self.parts(zero));
        let shifts = !matches!(self.kernel.insts[zero.0 as usize].0, Inst::Float(0));
        let round = |(v, zero): (Value, Value)| {
            let v = self.b.ins().nearest(v);
            if shifts { self.b.ins().fadd(v, zero) } else { v }
        };
        parts.into_iter().zip(zeros).map(round).collect()
    }
}
