//! Recurrent layers, one direction: per step, the product of all sequences' states and `r`, then the gates.
//!
//! The product is a contraction like any other ([`crate::kernels::gemm`]), over `r` in panels or as it is; where states are
//! rounded to 8 bits and `r` is bytes, one of bytes ([`crate::kernels::int8::dot`]). States live in scratch memory in the register type.

use crate::kernels::gemm::{Contraction, Job, Panels, Rows};
use crate::kernels::int8::dot;
use crate::kernels::reduce::run::{Fold, arithmetic, fold_run};
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{columns, cover, product};
use crate::kernels::support::request::missing;
use crate::kir::{Bin, Builder, Cmp, Elem, Ty, Val};
use crate::{numbers, scalar};
use mcc_ir::Result;
use mcc_ir::{Activation, BinaryOp, Cell, CellSpec, DType, Dim, UnaryOp};
use mcc_targets::schedule;

/// See [`CellSpec`].
pub fn recurrent(e: &Emit<'_>, k: &mut Builder, spec: &CellSpec) -> Result<()> {
    let [time, batch, width] = e.shape(0) else { return missing(e.request) };
    let [_, hidden] = e.shape(2) else { return missing(e.request) };
    let elem = Ty::new(numbers::compute_elem(e.dtype(0)), 1);
    let bytes = |d: &Dim| d * &Dim::from(i64::from(elem.bytes()));
    let mut operand = 2;
    let mut next = |there: bool| {
        operand += usize::from(there);
        there.then_some(operand)
    };
    let c0 = next(spec.cell == Cell::Lstm);
    let rbh = next(spec.cell == Cell::Gru { linear_before_reset: true });
    let peephole = next(spec.peephole);
    let lengths = next(spec.lengths);
    let scales = next(spec.quantized);
    // A reset state, or one rounded to 8 bits, is what the product takes in place of the state.
    let resets = spec.cell == Cell::Gru { linear_before_reset: false };
    let states = bytes(&(batch * hidden));
    let r = &e.request.operands[1].shape;
    let lanes = e.lanes(e.dtype(0));
    let of_bytes = e.dtype(1) == DType::I8;
    let tile = match r.as_slice() {
        [_, _, tile] | [_, _, tile, _] => tile.as_const().and_then(|t| u32::try_from(t).ok()),
        _ => Some(1),
    };
    let Some(tile) = tile else { return missing(e.request) };
    let panels = if r.len() == 2 { Panels::Rows } else { Panels::Packed(tile) };
    let mut contraction = Contraction::new(e.request, e, panels, (batch, width, hidden), &bytes(hidden));
    contraction.left = arithmetic(e.dtype(0));
    contraction.right = if of_bytes { contraction.left } else { contraction.right };
    contraction.run = hidden.clone();
    let (early, late, late_panel) = match (resets, r.len()) {
        (false, _) => (width.clone(), None, 0),
        // Without panels all columns have the same row, so that all are computed twice.
        (true, 2) => (width.clone(), Some(width.clone()), 0),
        (true, _) => {
            let Some(two) = (hidden * &Dim::from(2i64)).as_const() else { return missing(e.request) };
            let panel = two / i64::from(tile);
            (Dim::from(two), Some(width - &Dim::from(panel * i64::from(tile))), panel)
        }
    };
    let mut layer = Layer {
        e,
        spec,
        elem,
        lanes,
        math: arithmetic(e.dtype(0)),
        n: k.dim(hidden),
        width: k.dim(width),
        gates: Product { columns: k.dim(&early), at: e.scratch(k, bytes(&(batch * &early))) },
        late: late.as_ref().map(|late| Product { columns: k.dim(late), at: e.scratch(k, bytes(&(batch * late))) }),
        late_first: late_panel * i64::from(tile),
        h: e.scratch(k, states.clone()),
        used: if resets || scales.is_some() { Some(e.scratch(k, states.clone())) } else { None },
        factors: if scales.is_some() { Some(e.scratch(k, bytes(batch))) } else { None },
        c: if c0.is_some() { Some(e.scratch(k, states)) } else { None },
        bytes: None,
        rbh,
        peephole,
        scales,
    };
    let mut of_states = None;
    if of_bytes {
        let (Some(depth), Some(columns), Some(used)) = (hidden.as_const(), width.as_const(), layer.used) else {
            return missing(e.request);
        };
        let signed = schedule::int8::takes_signed(e.request.target);
        let kind = dot::kind(if signed { DType::I8 } else { DType::U8 }, &e.request.constants[1]);
        let lifts = e.scratch(k, batch * &Dim::from(4i64));
        let sums = e.scratch(k, Dim::from(4 * columns));
        // What zero points meet: the columns' sums, which a row of ones gives. It may stand where states come later.
        let (zero, end, one) = (k.int(0), k.int(depth), k.int_of(1, Ty::new(Elem::I8, 1)));
        k.for_each(zero, end, 1, |k, i| {
            let to = k.at_index(used, i, 1);
            k.store(to, one);
        });
        dot::Int8Loops::product(e, kind, (&Dim::ONE, depth), (columns, tile), sums).emit(k, used, e.operand(1), zero);
        of_states = Some(dot::Int8Loops::product(e, kind, (batch, depth), (columns, tile), layer.gates.at));
        layer.bytes = Some(Bytes { signed, lifts, sums });
    }
    let layer = layer;
    let multiply = |k: &mut Builder, left: Val, columns: &Dim, panel: i64, sink: Val| {
        let zero = k.int(0);
        let depth = k.dim(hidden);
        let skip = k.mul_int(depth, panel * i64::from(tile) * e.dtype(1).size() as i64);
        let right = k.add(e.operand(1), skip);
        let rows = Rows::Affine { base: left, bytes: bytes(hidden) };
        let job = Job {
            rows,
            count: batch.clone(),
            columns: columns.clone(),
            right,
            out: (zero, zero),
            sink: Some(sink),
            adds: false,
        };
        contraction.emit(k, &job);
    };
    let (zero, time, batch_val) = (k.int(0), k.dim(time), k.dim(batch));
    let all = k.dim(&product(&[batch.clone(), hidden.clone()]));
    layer.copy_in(k, 2, layer.h, all);
    if let (Some(c0), Some(c)) = (c0, layer.c) {
        layer.copy_in(k, c0, c, all);
    }
    let last = k.add_int(time, -1);
    k.for_each(zero, time, 1, |k, t| {
        let t = if spec.reverse { k.sub(last, t) } else { t };
        let first = k.mul(t, batch_val);
        if let (Some(used), Some(_)) = (layer.used, scales) {
            k.for_each(zero, batch_val, 1, |k, b| layer.quantize(k, b, used));
            match &of_states {
                Some(nest) => nest.emit(k, used, e.operand(1), zero),
                None => multiply(k, used, &early, 0, layer.gates.at),
            }
        } else {
            multiply(k, layer.h, &early, 0, layer.gates.at);
        }
        if let (Some(used), Some(late), Some(product)) = (layer.used, &late, &layer.late) {
            k.for_each(zero, batch_val, 1, |k, b| {
                let row = k.add(first, b);
                layer.reset(k, row, b, used);
            });
            multiply(k, used, late, late_panel, product.at);
        }
        k.for_each(zero, batch_val, 1, |k, b| {
            let row = k.add(first, b);
            let Some(lengths) = lengths else { return layer.units(k, row, b) };
            let length = e.load_index(k, lengths, b);
            let (live, over) = (k.cmp(Cmp::Lt, t, length), k.cmp(Cmp::Ge, t, length));
            k.when(live, |k| layer.units(k, row, b));
            k.when(over, |k| {
                cover(k, layer.n, layer.lanes, |k, j, lanes| {
                    let v = k.zero(Ty::new(elem.elem, lanes));
                    e.store(k, row, j, v);
                });
            });
        });
    });
    for (result, state) in [(1, Some(layer.h)), (2, layer.c)] {
        let Some(state) = state else { continue };
        cover(k, all, layer.lanes, |k, i, lanes| {
            let v = layer.get(k, state, i, lanes);
            e.store_result(k, result, i, v);
        });
    }
    Ok(())
}

/// States times `r`: a row a sequence.
struct Product {
    columns: Val,
    at: Val,
}

/// What a product of bytes needs besides.
struct Bytes {
    /// Whether it takes states as signed bytes, 128 less than their unsigned ones.
    signed: bool,
    /// A zero point a sequence, `i32`.
    lifts: Val,
    /// The columns' sums, `i32`.
    sums: Val,
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
    gates: Product,
    /// The product of reset states, from column `late_first` of `r` on.
    late: Option<Product>,
    late_first: i64,
    h: Val,
    /// What the product takes in place of the state.
    used: Option<Val>,
    /// Scales of the rounded states.
    factors: Option<Val>,
    c: Option<Val>,
    /// Where the rounded states are bytes.
    bytes: Option<Bytes>,
    rbh: Option<usize>,
    peephole: Option<usize>,
    scales: Option<usize>,
}

impl Bytes {
    /// A byte, or a zero point, as the product takes it.
    fn moved(&self, k: &mut Builder, v: Val) -> Val {
        let half = k.int_of(128, k.ty(v));
        if self.signed { k.sub(v, half) } else { v }
    }

    /// Sums at an index, less what the zero point of sequence `b` adds to them from `column` on, as floats.
    fn centred(&self, k: &mut Builder, (from, index): (Val, Val), (b, column): (Val, Val), lanes: u32) -> Val {
        let ty = Ty::new(Elem::I32, lanes);
        let [sum, met] = [(from, index), (self.sums, column)].map(|(base, index)| {
            let from = k.at_index(base, index, 4);
            k.load(ty, from)
        });
        let lift = k.at_index(self.lifts, b, 4);
        let lift = k.load(ty.with_lanes(1), lift);
        let lift = k.splat(lift, lanes);
        let added = k.mul(lift, met);
        let sum = k.sub(sum, added);
        k.convert(sum, Elem::F32)
    }
}

/// A sequence in a step: its row in the projection and the result, its number, and its state's first unit.
#[derive(Clone, Copy)]
struct At {
    row: Val,
    b: Val,
    state: Val,
}

impl Layer<'_> {
    /// The gates of sequence `b`, whose row of the projection and the result is `row`.
    fn units(&self, k: &mut Builder, row: Val, b: Val) {
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

    /// The state of sequence `b` times its reset gate.
    fn reset(&self, k: &mut Builder, row: Val, b: Val, used: Val) {
        let at = At { row, b, state: k.mul(b, self.n) };
        cover(k, self.n, self.lanes, |k, j, lanes| {
            let r = self.gate(k, 1, at, j, lanes);
            let r = self.activate(k, 0, r);
            let i = k.add(at.state, j);
            let h = self.get(k, self.h, i, lanes);
            let v = k.mul(r, h);
            self.put(k, used, i, v);
        });
    }

    /// The state of sequence `b` as integers of 8 bits over the range that it and 0 span, relative to their zero point.
    fn quantize(&self, k: &mut Builder, b: Val, used: Val) {
        let state = k.mul(b, self.n);
        let ends = [Bin::Min, Bin::Max].map(|f| {
            let fold = Fold {
                init: &|k, lanes| k.zero(Ty::new(self.elem.elem, lanes)),
                step: &|k, acc, j| {
                    let at = k.add(state, j);
                    let v = self.get(k, self.h, at, k.ty(acc).lanes);
                    k.bin(f, acc, v)
                },
                merge: &|k, a, b| k.bin(f, a, b),
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
        cover(k, self.n, self.lanes, |k, j, lanes| {
            let at = k.add(state, j);
            let v = self.get(k, self.h, at, lanes);
            let (scale, lift) = (k.splat(scale, lanes), k.splat(lift, lanes));
            let (none, steps) = (k.splat(none, lanes), k.splat(steps, lanes));
            let q = k.bin(Bin::Div, v, scale);
            let q = scalar::unary(k, UnaryOp::Round, self.math, q);
            let q = k.add(q, lift);
            let q = k.bin(Bin::Max, q, none);
            let q = k.bin(Bin::Min, q, steps);
            let Some(bytes) = &self.bytes else {
                let v = k.sub(q, lift);
                return self.put(k, used, at, v);
            };
            let q = k.convert(q, Elem::I32);
            let q = bytes.moved(k, q);
            let to = k.at_index(used, at, 1);
            numbers::store(k, if bytes.signed { DType::I8 } else { DType::U8 }, to, q);
        });
        if let Some(bytes) = &self.bytes {
            let lift = k.convert(lift, Elem::I32);
            let lift = bytes.moved(k, lift);
            let to = k.at_index(bytes.lifts, b, 4);
            k.store(to, lift);
        }
        if let Some(factors) = self.factors {
            self.put(k, factors, b, scale);
        }
    }

    fn gru_unit(&self, k: &mut Builder, linear_before_reset: bool, at: At, j: Val, lanes: u32) {
        let z = self.gate(k, 0, at, j, lanes);
        let z = self.activate(k, 0, z);
        let mut candidate = self.projected(k, 2, at, j, lanes);
        if linear_before_reset {
            let r = self.gate(k, 1, at, j, lanes);
            let r = self.activate(k, 0, r);
            let mut linear = self.summed(k, 2, at, j, lanes);
            if let Some(rbh) = self.rbh {
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
            let Some(operand) = self.peephole else { return v };
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
    fn gate(&self, k: &mut Builder, which: i64, at: At, j: Val, lanes: u32) -> Val {
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
            Some(bytes) => bytes.centred(k, (self.gates.at, index), (at.b, column), lanes),
            None => self.get(k, self.gates.at, index, lanes),
        };
        let (Some(scales), Some(factors)) = (self.scales, self.factors) else { return sum };
        let scale = self.get(k, factors, at.b, 1);
        let scale = k.splat(scale, lanes);
        let own = self.e.load(k, scales, column, lanes);
        let factor = k.mul(scale, own);
        k.mul(sum, factor)
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
    fn put_state(&self, k: &mut Builder, at: At, j: Val, v: Val) {
        let i = k.add(at.state, j);
        self.put(k, self.h, i, v);
        self.e.store(k, at.row, j, v);
    }

    /// Copies a whole operand to scratch memory.
    fn copy_in(&self, k: &mut Builder, operand: usize, to: Val, count: Val) {
        cover(k, count, self.lanes, |k, i, lanes| {
            let v = self.e.load(k, operand, i, lanes);
            self.put(k, to, i, v);
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
