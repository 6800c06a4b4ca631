//! Recurrent layers, one direction: per step, the gates' inputs (projection plus state times `r`), then the gates.
//!
//! The product runs in vectors of gate columns, several rows of `r` at a time, so that `r` is read in long streams.
//! States live in scratch memory in the register type.

use super::nest::{columns, cover, product};
use super::run::{Fold, arithmetic, fold_run};
use super::{Emit, missing};
use crate::Result;
use crate::ir::{Activation, BinaryOp, Cell, CellSpec, DType, Dim, UnaryOp};
use crate::lower::kir::{Bin, Builder, Cmp, Ty, Val};
use crate::lower::{numbers, scalar};

/// Rows of `r` that one pass over the gates takes in.
const ROWS: i64 = 8;

/// See [`CellSpec`].
pub fn recurrent(e: &Emit<'_>, k: &mut Builder, spec: &CellSpec) -> Result<()> {
    let [time, batch, width] = e.shape(0) else { return missing(e.site) };
    let hidden = &e.shape(1)[0];
    let elem = Ty::new(numbers::compute_elem(e.dtype(0)), 1);
    let bytes = |d: &Dim| d * &Dim::from(i64::from(elem.bytes()));
    let linear_before_reset = spec.cell == Cell::Gru { linear_before_reset: true };
    let mut operand = 2;
    let mut next = |there: bool| {
        operand += usize::from(there);
        there.then_some(operand)
    };
    let c0 = next(spec.cell == Cell::Lstm);
    let rbh = next(linear_before_reset);
    let peephole = next(spec.peephole);
    let lengths = next(spec.lengths);
    let scales = next(spec.quantized);
    let states = bytes(&(batch * hidden));
    let layer = Layer {
        e,
        spec,
        elem,
        lanes: e.lanes(e.dtype(0)),
        math: arithmetic(e.dtype(0)),
        n: k.dim(hidden),
        width: k.dim(width),
        gates: e.scratch(k, bytes(width)),
        reset: e.scratch(k, bytes(hidden)),
        h: e.scratch(k, states.clone()),
        c: if c0.is_some() { Some(e.scratch(k, states)) } else { None },
        rbh,
        peephole,
        scales,
    };
    let (zero, time, batch_val) = (k.int(0), k.dim(time), k.dim(batch));
    let all = k.dim(&product(&[batch.clone(), hidden.clone()]));
    layer.copy_in(k, 2, zero, layer.h, zero, all);
    if let (Some(c0), Some(c)) = (c0, layer.c) {
        layer.copy_in(k, c0, zero, c, zero, all);
    }
    let last = k.add_int(time, -1);
    k.for_each(zero, time, 1, &mut |k, t| {
        let t = if spec.reverse { k.sub(last, t) } else { t };
        let first = k.mul(t, batch_val);
        k.for_each(zero, batch_val, 1, &mut |k, b| {
            let row = k.add(first, b);
            let Some(lengths) = lengths else { return layer.step(k, row, b) };
            let length = e.load_index(k, lengths, b);
            let (live, over) = (k.cmp(Cmp::Lt, t, length), k.cmp(Cmp::Ge, t, length));
            k.when(live, &mut |k| layer.step(k, row, b));
            k.when(over, &mut |k| {
                cover(k, layer.n, layer.lanes, &mut |k, j, lanes| {
                    let v = k.zero(Ty::new(elem.elem, lanes));
                    e.store(k, row, j, v);
                });
            });
        });
    });
    for (result, state) in [(1, Some(layer.h)), (2, layer.c)] {
        let Some(state) = state else { continue };
        cover(k, all, layer.lanes, &mut |k, i, lanes| {
            let v = layer.get(k, state, i, lanes);
            e.store_result(k, result, i, v);
        });
    }
    Ok(())
}

struct Layer<'a> {
    e: &'a Emit<'a>,
    spec: &'a CellSpec,
    elem: Ty,
    lanes: u32,
    /// The type to compute in.
    math: DType,
    /// Hidden units.
    n: Val,
    /// Gates times hidden units.
    width: Val,
    /// All gates of one step.
    gates: Val,
    /// GRU: the reset state, or the hidden gate's linear part. LSTM: the rounded state.
    reset: Val,
    h: Val,
    c: Option<Val>,
    rbh: Option<usize>,
    peephole: Option<usize>,
    scales: Option<usize>,
}

impl Layer<'_> {
    /// One step of sequence `b`; `row` is its row in the projection and the result.
    fn step(&self, k: &mut Builder, row: Val, b: Val) {
        let zero = k.int(0);
        let input = k.mul(row, self.width);
        let state = k.mul(b, self.n);
        let two = k.mul_int(self.n, 2);
        if self.scales.is_none() {
            self.copy_in(k, 0, input, self.gates, zero, self.width);
        }
        match self.spec.cell {
            Cell::Rnn => {
                self.accumulate(k, self.h, state, self.gates, zero, zero, self.width);
                cover(k, self.n, self.lanes, &mut |k, j, lanes| {
                    let v = self.get(k, self.gates, j, lanes);
                    let v = self.activate(k, 0, v);
                    // The state may be overwritten here: nothing reads it any more in this step.
                    self.put_state(k, row, state, j, v);
                });
            }
            Cell::Gru { linear_before_reset } => {
                self.accumulate(k, self.h, state, self.gates, zero, zero, two);
                if let Some(rbh) = self.rbh {
                    self.copy_in(k, rbh, zero, self.reset, zero, self.n);
                    self.accumulate(k, self.h, state, self.reset, zero, two, self.n);
                } else {
                    cover(k, self.n, self.lanes, &mut |k, j, lanes| {
                        let r = self.gate(k, 1, j, lanes);
                        let r = self.activate(k, 0, r);
                        let at = k.add(state, j);
                        let h = self.get(k, self.h, at, lanes);
                        let v = k.mul(r, h);
                        self.put(k, self.reset, j, v);
                    });
                    self.accumulate(k, self.reset, zero, self.gates, two, two, self.n);
                }
                columns(k, zero, self.n, self.lanes, &mut |k, j, lanes| {
                    self.gru_unit(k, linear_before_reset, row, state, j, lanes);
                });
            }
            Cell::Lstm => {
                if let Some(scales) = self.scales {
                    self.quantized_product(k, input, state, scales);
                } else {
                    self.accumulate(k, self.h, state, self.gates, zero, zero, self.width);
                }
                columns(k, zero, self.n, self.lanes, &mut |k, j, lanes| self.lstm_unit(k, row, state, j, lanes));
            }
        }
    }

    /// The gates' inputs from the rounded state: integers are summed first, exactly, and scaled afterwards.
    fn quantized_product(&self, k: &mut Builder, input: Val, state: Val, scales: usize) {
        let zero = k.int(0);
        let scale = self.quantize(k, state);
        cover(k, self.width, self.lanes, &mut |k, j, lanes| {
            let none = k.zero(Ty::new(self.elem.elem, lanes));
            self.put(k, self.gates, j, none);
        });
        self.accumulate(k, self.reset, zero, self.gates, zero, zero, self.width);
        columns(k, zero, self.width, self.lanes, &mut |k, j, lanes| {
            let sum = self.get(k, self.gates, j, lanes);
            let own = self.e.load(k, scales, j, lanes);
            let state_scale = k.splat(scale, lanes);
            let factor = k.mul(state_scale, own);
            let sum = k.mul(sum, factor);
            let at = k.add(input, j);
            let xw = self.e.load(k, 0, at, lanes);
            let v = k.add(xw, sum);
            self.put(k, self.gates, j, v);
        });
    }

    /// The state as integers of 8 bits over the range that it and 0 span, relative to their zero point, into `reset`;
    /// gives their scale.
    fn quantize(&self, k: &mut Builder, state: Val) -> Val {
        let ends = [Bin::Min, Bin::Max].map(|f| {
            let fold = &mut Fold {
                init: &mut |k, lanes| k.zero(Ty::new(self.elem.elem, lanes)),
                step: &mut |k, acc, j| {
                    let at = k.add(state, j);
                    let v = self.get(k, self.h, at, k.ty(acc).lanes);
                    k.bin(f, acc, v)
                },
                merge: &mut |k, a, b| k.bin(f, a, b),
            };
            fold_run(k, self.n, self.lanes, fold)
        });
        let [low, high] = ends;
        let (none, steps) = (k.float(0.0, self.elem), k.float(255.0, self.elem));
        let range = k.sub(high, low);
        let scale = k.bin(Bin::Div, range, steps);
        // An all-zero state has no scale; any does.
        let (flat, one) = (k.cmp(Cmp::Eq, scale, none), k.float(1.0, self.elem));
        let scale = k.select(flat, one, scale);
        let lift = k.bin(Bin::Div, low, scale);
        let lift = k.sub(none, lift);
        let lift = scalar::unary(k, UnaryOp::Round, self.math, lift);
        cover(k, self.n, self.lanes, &mut |k, j, lanes| {
            let at = k.add(state, j);
            let v = self.get(k, self.h, at, lanes);
            let (scale, lift) = (k.splat(scale, lanes), k.splat(lift, lanes));
            let (none, steps) = (k.splat(none, lanes), k.splat(steps, lanes));
            let q = k.bin(Bin::Div, v, scale);
            let q = scalar::unary(k, UnaryOp::Round, self.math, q);
            let q = k.add(q, lift);
            let q = k.bin(Bin::Max, q, none);
            let q = k.bin(Bin::Min, q, steps);
            let v = k.sub(q, lift);
            self.put(k, self.reset, j, v);
        });
        scale
    }

    fn gru_unit(&self, k: &mut Builder, linear_before_reset: bool, row: Val, state: Val, j: Val, lanes: u32) {
        let z = self.gate(k, 0, j, lanes);
        let z = self.activate(k, 0, z);
        let mut candidate = self.gate(k, 2, j, lanes);
        if linear_before_reset {
            let r = self.gate(k, 1, j, lanes);
            let r = self.activate(k, 0, r);
            let linear = self.get(k, self.reset, j, lanes);
            candidate = k.fma(r, linear, candidate);
        }
        let candidate = self.activate(k, 1, candidate);
        let at = k.add(state, j);
        let h = self.get(k, self.h, at, lanes);
        let one = k.float(1.0, k.ty(z));
        let rest = k.sub(one, z);
        let fresh = k.mul(rest, candidate);
        let v = k.fma(z, h, fresh);
        self.put_state(k, row, state, j, v);
    }

    fn lstm_unit(&self, k: &mut Builder, row: Val, state: Val, j: Val, lanes: u32) {
        let Some(cells) = self.c else { return };
        let at = k.add(state, j);
        let c = self.get(k, cells, at, lanes);
        let peep = |k: &mut Builder, which: i64, v: Val, c: Val| {
            let Some(operand) = self.peephole else { return v };
            let first = k.mul_int(self.n, which);
            let index = k.add(first, j);
            let p = self.e.load(k, operand, index, lanes);
            k.fma(p, c, v)
        };
        let i = self.gate(k, 0, j, lanes);
        let i = peep(k, 0, i, c);
        let i = self.activate(k, 0, i);
        let f = if self.spec.coupled {
            let one = k.float(1.0, k.ty(i));
            k.sub(one, i)
        } else {
            let f = self.gate(k, 2, j, lanes);
            let f = peep(k, 2, f, c);
            self.activate(k, 0, f)
        };
        let g = self.gate(k, 3, j, lanes);
        let g = self.activate(k, 1, g);
        let kept = k.mul(f, c);
        let c = k.fma(i, g, kept);
        self.put(k, cells, at, c);
        let o = self.gate(k, 1, j, lanes);
        let o = peep(k, 1, o, c);
        let o = self.activate(k, 0, o);
        let out = activation(k, self.math, self.spec.activations[2], c);
        let h = k.mul(o, out);
        self.put_state(k, row, state, j, h);
    }

    /// `into[to + j] += sum over i of from[at + i] * r[i, col + j]` for `j < count`.
    fn accumulate(&self, k: &mut Builder, from: Val, at: Val, into: Val, to: Val, col: Val, count: Val) {
        let zero = k.int(0);
        let whole = match k.as_int(self.n) {
            Some(n) => k.int(n / ROWS * ROWS),
            None => {
                let mask = k.int(-ROWS);
                k.bin(Bin::And, self.n, mask)
            }
        };
        let rows = |k: &mut Builder, first: Val, rows: i64| {
            let mut factors = Vec::new();
            let mut starts = Vec::new();
            for i in 0..rows {
                let row = k.add_int(first, i);
                let place = k.add(at, row);
                factors.push(self.get(k, from, place, 1));
                let start = k.mul(row, self.width);
                starts.push(k.add(start, col));
            }
            let splats: Vec<Val> = factors.iter().map(|&f| k.splat(f, self.lanes)).collect();
            columns(k, zero, count, self.lanes, &mut |k, j, lanes| {
                let place = k.add(to, j);
                let mut sum = self.get(k, into, place, lanes);
                for i in 0..rows as usize {
                    let index = k.add(starts[i], j);
                    let r = self.e.load(k, 1, index, lanes);
                    sum = k.fma(if lanes == 1 { factors[i] } else { splats[i] }, r, sum);
                }
                self.put(k, into, place, sum);
            });
        };
        k.for_each(zero, whole, ROWS, &mut |k, first| rows(k, first, ROWS));
        k.for_each(whole, self.n, 1, &mut |k, first| rows(k, first, 1));
    }

    fn gate(&self, k: &mut Builder, which: i64, j: Val, lanes: u32) -> Val {
        let first = k.mul_int(self.n, which);
        let index = k.add(first, j);
        self.get(k, self.gates, index, lanes)
    }

    fn get(&self, k: &mut Builder, base: Val, index: Val, lanes: u32) -> Val {
        let from = k.at_index(base, index, self.elem.bytes());
        k.load(Ty::new(self.elem.elem, lanes), from)
    }

    fn put(&self, k: &mut Builder, base: Val, index: Val, v: Val) {
        let to = k.at_index(base, index, self.elem.bytes());
        k.store(to, v);
    }

    /// A unit's new hidden state.
    fn put_state(&self, k: &mut Builder, row: Val, state: Val, j: Val, v: Val) {
        let at = k.add(state, j);
        self.put(k, self.h, at, v);
        self.e.store(k, row, j, v);
    }

    /// Copies elements of an operand to scratch memory.
    fn copy_in(&self, k: &mut Builder, operand: usize, from: Val, to: Val, at: Val, count: Val) {
        cover(k, count, self.lanes, &mut |k, i, lanes| {
            let (from, at) = (k.add(from, i), k.add(at, i));
            let v = self.e.load(k, operand, from, lanes);
            self.put(k, to, at, v);
        });
    }

    /// Gate activation `which`, its input clamped.
    fn activate(&self, k: &mut Builder, which: usize, x: Val) -> Val {
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
