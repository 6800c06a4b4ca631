//! Reductions of contiguous runs in registers, and their initial values.

use mcc_targets::schedule::loops::ACCUMULATORS;

use crate::kernels::support::loops::round_down;
use crate::kir::{Builder, Cmp, Elem, Ty, Val};
use crate::{numbers, scalar};
use mcc_ir::{BinaryOp, DType, DTypeClass};

/// The type in which registers of `dtype` are computed: narrow floats use `F32`.
pub fn arithmetic(dtype: DType) -> DType {
    match numbers::compute_elem(dtype) {
        Elem::F32 => DType::F32,
        _ => dtype,
    }
}

/// The least value of a type (negative infinity of a float), in a register.
pub fn lowest(k: &mut Builder, dtype: DType, lanes: u32) -> Val {
    extreme(k, dtype, lanes, false)
}

/// The greatest value of a type (infinity of a float), in a register.
pub fn highest(k: &mut Builder, dtype: DType, lanes: u32) -> Val {
    extreme(k, dtype, lanes, true)
}

fn extreme(k: &mut Builder, dtype: DType, lanes: u32, high: bool) -> Val {
    let ty = Ty::new(numbers::compute_elem(dtype), lanes);
    let bits = dtype.bits();
    let value = match (dtype.class(), high) {
        (DTypeClass::Float, true) => return k.float(f64::INFINITY, ty),
        (DTypeClass::Float, false) => return k.float(f64::NEG_INFINITY, ty),
        (DTypeClass::Signed, true) => i64::MAX >> (64 - bits),
        (DTypeClass::Signed, false) => i64::MIN >> (64 - bits),
        (DTypeClass::Unsigned | DTypeClass::Bool, false) => 0,
        (DTypeClass::Unsigned, true) if dtype == DType::U32 || dtype == DType::U64 => -1,
        (DTypeClass::Unsigned | DTypeClass::Bool, true) => (1 << bits) - 1,
    };
    k.int_of(value, ty)
}

/// One in a register.
pub fn one(k: &mut Builder, dtype: DType, lanes: u32) -> Val {
    let ty = Ty::new(numbers::compute_elem(dtype), lanes);
    if ty.elem.is_float() { k.float(1.0, ty) } else { k.int_of(1, ty) }
}

/// A binary operation on registers of `dtype`; on `Bool`, sums and maxima are "or", products and minima "and".
pub fn combine(k: &mut Builder, op: BinaryOp, dtype: DType, a: Val, b: Val) -> Val {
    let op = match (dtype, op) {
        (DType::Bool, BinaryOp::Add | BinaryOp::Max) => BinaryOp::Or,
        (DType::Bool, BinaryOp::Mul | BinaryOp::Min) => BinaryOp::And,
        _ => op,
    };
    scalar::binary(k, op, arithmetic(dtype), a, b)
}

/// A `Bool` in registers as a mask.
pub fn as_mask(k: &mut Builder, v: Val) -> Val {
    let zero = k.zero(k.ty(v));
    k.cmp(Cmp::Ne, v, zero)
}

/// The functions of a reduction.
#[derive(Clone, Copy)]
pub struct Fold<'a> {
    /// The initial value of an accumulator with this number of lanes.
    pub init: &'a dyn Fn(&mut Builder, u32) -> Val,
    /// Adds the elements at an index to an accumulator, one per lane.
    pub step: &'a dyn Fn(&mut Builder, Val, Val) -> Val,
    /// Merges two accumulators.
    pub merge: &'a dyn Fn(&mut Builder, Val, Val) -> Val,
}

/// Reduces the elements `0..n` of a run to a scalar: several vectors at a time, then one, then a partial one, or single
/// elements if the target has no masks.
pub fn fold_run(k: &mut Builder, n: Val, lanes: u32, fold: Fold<'_>) -> Val {
    let state = start(k, n, lanes, fold);
    let state = walk(k, n, lanes, &state, fold);
    finish(k, lanes, &state, fold)
}

/// The accumulators of a run of `n` elements: vectors (none if the run is too short and the target has no masks), then
/// a scalar.
pub fn start(k: &mut Builder, n: Val, lanes: u32, fold: Fold<'_>) -> Vec<Val> {
    let vectors = match k.as_int(n) {
        _ if lanes == 1 => 0,
        Some(c) => (c / i64::from(lanes)).min(ACCUMULATORS).max(k.has_masks().into()),
        None => ACCUMULATORS,
    };
    let mut state: Vec<Val> = (0..vectors).map(|_| (fold.init)(k, lanes)).collect();
    state.push((fold.init)(k, 1));
    state
}

/// Adds the elements `0..n` to the accumulators.
pub fn walk(k: &mut Builder, n: Val, lanes: u32, state: &[Val], fold: Fold<'_>) -> Vec<Val> {
    let zero = k.int(0);
    let Some((&scalar, vectors)) = state.split_last() else { return Vec::new() };
    let mut vectors = vectors.to_vec();
    let mut from = zero;
    if !vectors.is_empty() {
        let step = i64::from(lanes) * vectors.len() as i64;
        // The number of chains is a power of two or the whole of a short constant run.
        let blocks = match k.as_int(n) {
            Some(c) => k.int(c / step * step),
            None => round_down(k, n, step as u32),
        };
        vectors = k.fold_loop(zero, blocks, step, &vectors, |k, i, accs| {
            let mut next = Vec::with_capacity(accs.len());
            for (c, &acc) in accs.iter().enumerate() {
                let at = k.add_int(i, c as i64 * i64::from(lanes));
                next.push((fold.step)(k, acc, at));
            }
            next
        });
        let whole = round_down(k, n, lanes);
        let last =
            k.fold_loop(blocks, whole, i64::from(lanes), &vectors[..1], |k, i, accs| vec![(fold.step)(k, accs[0], i)]);
        vectors[0] = last[0];
        from = whole;
        if k.has_masks() {
            vectors[0] = part(k, whole, n, vectors[0], fold);
            from = n;
        }
    }
    let scalar = k.fold_loop(from, n, 1, &[scalar], |k, i, accs| vec![(fold.step)(k, accs[0], i)]);
    vectors.push(scalar[0]);
    vectors
}

/// Adds the elements from `whole` to `n`, fewer than the lanes, to an accumulator.
fn part(k: &mut Builder, whole: Val, n: Val, acc: Val, fold: Fold<'_>) -> Val {
    let ty = k.ty(acc);
    let taken = |k: &mut Builder| {
        let count = k.sub(n, whole);
        let mut sum = acc;
        k.partly(count, ty.lanes, |k| sum = (fold.step)(k, acc, whole));
        let counts = k.lanes_below(count, ty);
        k.select(counts, sum, acc)
    };
    if k.as_int(n).is_some() {
        return if whole == n { acc } else { taken(k) };
    }
    let any = k.cmp(Cmp::Gt, n, whole);
    k.choose(any, |k| vec![taken(k)], |_| vec![acc])[0]
}

/// Merges all accumulators into one scalar.
pub fn finish(k: &mut Builder, lanes: u32, state: &[Val], fold: Fold<'_>) -> Val {
    let Some((&scalar, vectors)) = state.split_last() else { return k.int(0) };
    let Some((&first, others)) = vectors.split_first() else { return scalar };
    let sum = others.iter().fold(first, |sum, &v| (fold.merge)(k, sum, v));
    assert_eq!(k.ty(sum).lanes, lanes);
    let sum = k.reduce_lanes(sum, |k, a, b| (fold.merge)(k, a, b));
    (fold.merge)(k, sum, scalar)
}
