//! The computation of a step from the gates, for each kind of cell.

use super::{At, Layer};
use crate::kernels::support::loops::columns;
use crate::kir::{Bin, Builder, Cmp, Elem, Ty, Val};
use crate::scalar;
use mcc_ir::{Activation, BinaryOp, Cell, DType, UnaryOp};

impl Layer<'_, '_> {
    /// The units of sequence `b`, whose row of the projection and the result is `row`.
    pub(super) fn units(&self, k: &mut Builder, row: Val, b: Val) {
        let (zero, state) = (k.int(0), k.mul(b, self.n));
        let at = At { row, b, state };
        columns(k, zero, self.n, self.lanes, |k, j, lanes| match self.spec.cell {
            Cell::Rnn => {
                let v = self.gate(k, 0, at, j, lanes);
                let v = self.activate(k, 0, v);
                self.put_state(k, at, j, v);
            }
            Cell::Gru { linear_before_reset } => self.gru_unit(k, linear_before_reset, at, j, lanes),
            Cell::Lstm => self.lstm_unit(k, at, j, lanes),
        });
    }

    fn gru_unit(&self, k: &mut Builder, linear_before_reset: bool, at: At, j: Val, lanes: u32) {
        let z = self.gate(k, 0, at, j, lanes);
        let z = self.activate(k, 0, z);
        let mut candidate = self.projected(k, 2, at, j, lanes);
        if linear_before_reset {
            let r = self.gate(k, 1, at, j, lanes);
            let r = self.activate(k, 0, r);
            let mut linear = self.summed(k, 2, at, j, lanes);
            if let Some(rbh) = self.operands.rbh {
                let bias = self.e.load(k, rbh, j, lanes);
                linear = k.add(linear, bias);
            }
            candidate = k.fma(r, linear, candidate);
        } else if let Some(late) = &self.late {
            let first = k.mul(at.b, late.columns);
            let column = k.mul_int(self.n, 2);
            let column = k.add_int(column, -self.late_first);
            let index = k.add(first, column);
            let index = k.add(index, j);
            let linear = self.get(k, late.at, index, lanes);
            candidate = k.add(candidate, linear);
        }
        let candidate = self.activate(k, 1, candidate);
        let i = k.add(at.state, j);
        let h = self.get(k, self.h, i, lanes);
        let one = k.float(1.0, k.ty(z));
        let rest = k.sub(one, z);
        let fresh = k.mul(rest, candidate);
        let v = k.fma(z, h, fresh);
        self.put_state(k, at, j, v);
    }

    fn lstm_unit(&self, k: &mut Builder, at: At, j: Val, lanes: u32) {
        let Some(cells) = self.c else { return };
        let unit = k.add(at.state, j);
        let c = self.get(k, cells, unit, lanes);
        let peep = |k: &mut Builder, which: i64, v: Val, c: Val| {
            let Some(operand) = self.operands.peephole else { return v };
            let first = k.mul_int(self.n, which);
            let index = k.add(first, j);
            let p = self.e.load(k, operand, index, lanes);
            k.fma(p, c, v)
        };
        let i = self.gate(k, 0, at, j, lanes);
        let i = peep(k, 0, i, c);
        let i = self.activate(k, 0, i);
        let f = if self.spec.coupled {
            let one = k.float(1.0, k.ty(i));
            k.sub(one, i)
        } else {
            let f = self.gate(k, 2, at, j, lanes);
            let f = peep(k, 2, f, c);
            self.activate(k, 0, f)
        };
        let g = self.gate(k, 3, at, j, lanes);
        let g = self.activate(k, 1, g);
        let kept = k.mul(f, c);
        let c = k.fma(i, g, kept);
        self.put(k, cells, unit, c);
        let o = self.gate(k, 1, at, j, lanes);
        let o = peep(k, 1, o, c);
        let o = self.activate(k, 0, o);
        let out = activation(k, self.math, self.spec.activations[2], c);
        let h = k.mul(o, out);
        self.put_state(k, at, j, h);
    }

    /// A gate's input: the projection's part plus the state's.
    pub(super) fn gate(&self, k: &mut Builder, which: i64, at: At, j: Val, lanes: u32) -> Val {
        let (projected, summed) = (self.projected(k, which, at, j, lanes), self.summed(k, which, at, j, lanes));
        k.add(projected, summed)
    }

    /// A gate's part of the projection.
    fn projected(&self, k: &mut Builder, which: i64, at: At, j: Val, lanes: u32) -> Val {
        let first = k.mul_int(self.n, which);
        let column = k.add(first, j);
        let start = k.mul(at.row, self.width);
        let index = k.add(start, column);
        self.e.load(k, 0, index, lanes)
    }

    /// A gate's part of the product.
    fn summed(&self, k: &mut Builder, which: i64, at: At, j: Val, lanes: u32) -> Val {
        let first = k.mul_int(self.n, which);
        let column = k.add(first, j);
        let start = k.mul(at.b, self.gates.columns);
        let index = k.add(start, column);
        let sum = match &self.bytes {
            Some(bytes) => {
                let from = k.at_index(self.gates.at, index, 4);
                let sum = k.load(Ty::new(Elem::I32, lanes), from);
                bytes.centred(k, sum, at.b, column)
            }
            None => self.get(k, self.gates.at, index, lanes),
        };
        let (Some(scales), Some(factors)) = (self.operands.scales, self.factors) else { return sum };
        let scale = self.get(k, factors, at.b, 1);
        let scale = k.splat(scale, lanes);
        let own = self.e.load(k, scales, column, lanes);
        let factor = k.mul(scale, own);
        k.mul(sum, factor)
    }

    /// Stores a unit's new hidden state.
    fn put_state(&self, k: &mut Builder, at: At, j: Val, v: Val) {
        let i = k.add(at.state, j);
        self.put(k, self.h, i, v);
        self.e.store(k, at.row, j, v);
    }

    /// Gate activation `which`, its input clamped.
    pub(super) fn activate(&self, k: &mut Builder, which: usize, x: Val) -> Val {
        let x = match self.spec.clip {
            Some(limit) => {
                let (high, low) = (k.float(limit.get().abs(), k.ty(x)), k.float(-limit.get().abs(), k.ty(x)));
                let x = k.bin(Bin::Min, x, high);
                k.bin(Bin::Max, x, low)
            }
            None => x,
        };
        activation(k, self.math, self.spec.activations[which], x)
    }
}

fn activation(k: &mut Builder, math: DType, f: Activation, x: Val) -> Val {
    let ty = k.ty(x);
    let zero = k.zero(ty);
    let one = k.float(1.0, ty);
    match f {
        Activation::Sigmoid => scalar::unary(k, UnaryOp::Sigmoid, math, x),
        Activation::Tanh => scalar::unary(k, UnaryOp::Tanh, math, x),
        Activation::Relu => k.bin(Bin::Max, x, zero),
        Activation::LeakyRelu { alpha } => {
            let alpha = k.float(alpha.get(), ty);
            let (negative, scaled) = (k.cmp(Cmp::Lt, x, zero), k.mul(alpha, x));
            k.select(negative, scaled, x)
        }
        Activation::ThresholdedRelu { alpha } => {
            let alpha = k.float(alpha.get(), ty);
            let above = k.cmp(Cmp::Gt, x, alpha);
            k.select(above, x, zero)
        }
        Activation::ScaledTanh { alpha, beta } => {
            let (alpha, beta) = (k.float(alpha.get(), ty), k.float(beta.get(), ty));
            let inner = k.mul(beta, x);
            let inner = scalar::unary(k, UnaryOp::Tanh, math, inner);
            k.mul(alpha, inner)
        }
        Activation::HardSigmoid { alpha, beta } => {
            let (alpha, beta) = (k.float(alpha.get(), ty), k.float(beta.get(), ty));
            let line = k.fma(alpha, x, beta);
            let line = k.bin(Bin::Min, line, one);
            k.bin(Bin::Max, line, zero)
        }
        Activation::Elu { alpha } => {
            let alpha = k.float(alpha.get(), ty);
            let exp = scalar::unary(k, UnaryOp::Exp, math, x);
            let less = k.sub(exp, one);
            let (negative, scaled) = (k.cmp(Cmp::Lt, x, zero), k.mul(alpha, less));
            k.select(negative, scaled, x)
        }
        Activation::Affine { alpha, beta } => {
            let (alpha, beta) = (k.float(alpha.get(), ty), k.float(beta.get(), ty));
            k.fma(alpha, x, beta)
        }
        Activation::Softsign => {
            let size = scalar::unary(k, UnaryOp::Abs, math, x);
            let lifted = k.add(size, one);
            scalar::binary(k, BinaryOp::Div, math, x, lifted)
        }
        Activation::Softplus => scalar::unary(k, UnaryOp::Softplus, math, x),
    }
}
