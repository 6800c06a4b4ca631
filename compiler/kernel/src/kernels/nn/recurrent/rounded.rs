//! States that are rounded to 8 bits before the product.

use super::Layer;
use crate::kernels::int8::dot::{self, Int8Loops};
use crate::kernels::reduce::run::{Fold, fold_run};
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::cover;
use crate::kir::{Bin, Builder, Cmp, Elem, Ty, Val};
use crate::{numbers, scalar};
use mcc_ir::{DType, Dim, UnaryOp};
use mcc_targets::schedule;

/// The additional data of a byte product.
pub(super) struct ByteProduct {
    /// Whether it takes states as signed bytes, the unsigned ones minus 128.
    pub(super) signed: bool,
    /// One zero point per sequence, `i32`.
    pub(super) lifts: Val,
    /// The column sums, `i32`.
    pub(super) sums: Val,
}

/// The product of byte states and `r`.
pub(super) struct ByteShape<'b> {
    pub(super) batch: &'b Dim,
    pub(super) depth: i64,
    pub(super) columns: i64,
    /// Columns of a panel of `r`.
    pub(super) panel: u32,
}

impl ByteProduct {
    /// The sums of the columns of `r`, which correct for zero points, and the loops of the product itself, which stores
    /// to `gates`. The sums are the product with a row of ones, which is stored in `used`, before the states.
    pub(super) fn new<'a, 'b>(
        e: &'b Emit<'a>,
        k: &mut Builder,
        shape: ByteShape<'_>,
        used: Val,
        gates: Val,
    ) -> (ByteProduct, Int8Loops<'a, 'b>) {
        let ByteShape { batch, depth, columns, panel } = shape;
        let signed = schedule::int8::takes_signed(&e.request.config.target);
        let kind = dot::kind(if signed { DType::I8 } else { DType::U8 }, &e.request.constants[1]);
        let lifts = e.scratch(k, batch * &Dim::from(4i64));
        let sums = e.scratch(k, Dim::from(4 * columns));
        let (zero, end, one) = (k.int(0), k.int(depth), k.int_of(1, Ty::new(Elem::I8, 1)));
        k.for_each(zero, end, 1, |k, i| {
            let to = k.at_index(used, i, 1);
            k.store(to, one);
        });
        Int8Loops::product(e, kind, &Dim::ONE, depth, columns, panel, sums).emit(k, used, e.operand(1), zero);
        let product = Int8Loops::product(e, kind, batch, depth, columns, panel, gates);
        (ByteProduct { signed, lifts, sums }, product)
    }

    /// A byte or zero point in the form that the product takes.
    fn moved(&self, k: &mut Builder, v: Val) -> Val {
        let half = k.int_of(128, k.ty(v));
        if self.signed { k.sub(v, half) } else { v }
    }

    /// Sums of sequence `b`, starting at column `column`, minus its zero point's contribution, as floats.
    pub(super) fn centred(&self, k: &mut Builder, sum: Val, b: Val, column: Val) -> Val {
        let ty = k.ty(sum);
        let of_ones = k.at_index(self.sums, column, 4);
        let of_ones = k.load(ty, of_ones);
        let lift = k.at_index(self.lifts, b, 4);
        let lift = k.load(ty.with_lanes(1), lift);
        let lift = k.splat(lift, ty.lanes);
        let added = k.mul(lift, of_ones);
        let sum = k.sub(sum, added);
        k.convert(sum, Elem::F32)
    }
}

impl Layer<'_, '_> {
    /// Quantizes the state of sequence `b` to 8 bits over the range that it and 0 span, relative to its zero point.
    pub(super) fn quantize(&self, k: &mut Builder, b: Val, used: Val) {
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
        // An all-zero state has no scale; any will do.
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
}
