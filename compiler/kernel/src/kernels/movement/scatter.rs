//! Updates written at indices into a copy of a tensor. The results have no epilogue.

use super::gather::load_tuple;
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{columns, copy_bytes, each_coordinate, flat, pointer_at, product, raw_dtype};
use crate::kernels::support::request::missing;
use crate::kir::{Builder, Val};
use crate::{numbers, scalar};
use mcc_ir::Result;
use mcc_ir::{BinaryOp, DType, ScatterReduction};

/// ONNX ScatterElements.
pub fn scatter_elements(e: &Emit<'_>, k: &mut Builder, axis: usize, reduction: ScatterReduction) -> Result<()> {
    copy_operand(e, k);
    let (x, indices) = (e.shape(0), e.shape(1));
    let extent = k.dim(&x[axis]);
    each_coordinate(k, indices, |k, coords| {
        let at = flat(k, indices, coords);
        let mut target = coords.to_vec();
        target[axis] = e.load_bounded_index(k, 1, at, extent);
        let to = flat(k, x, &target);
        update(e, k, reduction, to, at, 1);
    });
    Ok(())
}

/// ONNX ScatterND.
///
/// # Errors
/// When the length of the index tuples is not constant.
pub fn scatter_nd(e: &Emit<'_>, k: &mut Builder, reduction: ScatterReduction) -> Result<()> {
    let (x, indices) = (e.shape(0), e.shape(1));
    let Some((tuple, lead_shape)) = indices.split_last() else { return missing(e.request) };
    let Some(tuple) = tuple.as_const().and_then(|t| usize::try_from(t).ok()) else { return missing(e.request) };
    copy_operand(e, k);
    let (picked_axes, tail) = x.split_at(tuple);
    let (zero, count, run) = (k.int(0), k.dim(&product(lead_shape)), k.dim(&product(tail)));
    k.for_each(zero, count, 1, |k, n| {
        let target = load_tuple(e, k, n, tuple, picked_axes);
        let block = flat(k, picked_axes, &target);
        let (to, from) = (k.mul(block, run), k.mul(n, run));
        if reduction == ScatterReduction::None {
            let size = e.dtype(0).size();
            let to = pointer_at(k, e.result(0), to, size);
            let from = pointer_at(k, e.operand(2), from, size);
            let bytes = k.mul_int(run, size as i64);
            copy_bytes(k, e.request.config.target.vector_bytes, to, from, bytes);
            return;
        }
        columns(k, zero, run, e.lanes(e.dtype(0)), |k, i, lanes| {
            let (to, from) = (k.add(to, i), k.add(from, i));
            update(e, k, reduction, to, from, lanes);
        });
    });
    Ok(())
}

fn copy_operand(e: &Emit<'_>, k: &mut Builder) {
    let (zero, count) = (k.int(0), k.dim(&product(e.shape(0))));
    e.relay_run(k, 0, zero, zero, zero, count);
}

/// Combines lanes of the result with lanes of the updates.
fn update(e: &Emit<'_>, k: &mut Builder, reduction: ScatterReduction, to: Val, from: Val, lanes: u32) {
    let op = match reduction {
        ScatterReduction::None => None,
        ScatterReduction::Add => Some(BinaryOp::Add),
        ScatterReduction::Mul => Some(BinaryOp::Mul),
        ScatterReduction::Max => Some(BinaryOp::Max),
        ScatterReduction::Min => Some(BinaryOp::Min),
    };
    let dtype = if op.is_some() { e.dtype(0) } else { raw_dtype(e.dtype(0).size()) };
    let size = e.dtype(0).size() as u32;
    let (to, from) = (k.at_index(e.result(0), to, size), k.at_index(e.operand(2), from, size));
    let mut v = numbers::load(k, dtype, from, lanes);
    if let Some(op) = op {
        let old = numbers::load(k, dtype, to, lanes);
        v = combine(k, op, dtype, old, v);
    }
    numbers::store(k, dtype, to, v);
}

/// `Bool` has no arithmetic: a sum or maximum is "or", a product or minimum "and".
fn combine(k: &mut Builder, op: BinaryOp, dtype: DType, a: Val, b: Val) -> Val {
    let op = match (dtype, op) {
        (DType::Bool, BinaryOp::Add | BinaryOp::Max) => BinaryOp::Or,
        (DType::Bool, BinaryOp::Mul | BinaryOp::Min) => BinaryOp::And,
        _ => op,
    };
    scalar::binary(k, op, dtype, a, b)
}
