//! The reference evaluator: the meaning of every primitive, computed in the simplest way.
//!
//! Constant folding runs it on weights, so operations that only move elements, element-wise functions, reductions and
//! casts must be fast for a hundred megabytes; everything else favours being obviously right. Floats are computed in
//! `f64` and rounded to the result's type at the end; integers wrap to it.

mod attention;
mod blocks;
mod conv;
mod elementwise;
mod gather;
mod graph;
mod index;
mod int8;
mod lowbit;
mod math;
mod matmul;
mod movement;
mod number;
mod packed;
mod pool;
mod recurrent;
mod reduce;
mod resize;
mod sample;
mod scan;
mod sort;
mod sparse;
mod strided;
#[cfg(test)]
mod tests;
mod trees;
mod winograd;

pub use graph::{Bindings, Observer, eval_graph, eval_graph_with};

use super::{Dim, Op, Range, Tensor, TensorType, infer};
use crate::{Error, Result};

/// The results of an operation on constant operands. All dimensions in `op` and in `result_types` must be constants,
/// except the count of [`Op::NonZero`].
///
/// # Errors
/// When the operands contradict the operation, an index is out of range, or `op` holds a symbol.
pub fn eval_op(op: &Op, operands: &[Tensor], result_types: &[TensorType]) -> Result<Vec<Tensor>> {
    let types: Vec<TensorType> = operands.iter().map(Tensor::ty).collect();
    let inferred = infer(op, &types.iter().collect::<Vec<_>>())?.types;
    if inferred != result_types {
        return Err(Error::internal(format!("`{}` gives {inferred:?}, not {result_types:?}", op.name())));
    }
    eval(op, operands, &inferred).map_err(|e| e.within(format!("evaluation of `{}`", op.name())))
}

/// The results, if their types say that they are all empty.
fn empty(types: &[TensorType]) -> Option<Vec<Tensor>> {
    let tensor = |ty: &TensorType| {
        let shape = shape(ty).ok().filter(|shape| shape.contains(&0))?;
        Tensor::new(ty.dtype, shape, Default::default()).ok()
    };
    types.iter().map(tensor).collect()
}

fn eval(op: &Op, x: &[Tensor], types: &[TensorType]) -> Result<Vec<Tensor>> {
    // Returns at once if there are no elements, however long the other axes are.
    if let Some(nothing) = empty(types).filter(|_| !matches!(op, Op::If(_))) {
        return Ok(nothing);
    }
    // Only used here, where inference has checked the operands' number and types.
    let one = |t: Result<Tensor>| t.map(|t| vec![t]);
    match op {
        Op::Input(name, _) => Err(Error::internal(format!("input `{name}` is not constant"))),
        Op::Constant(tensor) => Ok(vec![tensor.clone()]),
        Op::Dims(dims) => one(dims_tensor(dims)),
        Op::Iota { dtype, axis, .. } => one(movement::iota(*dtype, &shape(&types[0])?, *axis)),

        Op::Unary(f) => one(elementwise::unary(*f, &x[0])),
        Op::Binary(f) => one(elementwise::binary(*f, &x[0], &x[1], &shape(&types[0])?)),
        Op::Select => one(elementwise::select(&x[0], &x[1], &x[2], &shape(&types[0])?)),
        Op::Cast { to, saturate } => one(elementwise::cast(&x[0], *to, *saturate)),
        Op::Bitcast { to } => one(Tensor::new(*to, x[0].shape().to_vec(), x[0].data().clone())),

        Op::Reshape { .. } => one(x[0].reshaped(shape(&types[0])?)),
        Op::Transpose { perm } => one(movement::transpose(&x[0], perm)),
        Op::Broadcast { .. } => one(movement::broadcast(&x[0], &shape(&types[0])?)),
        Op::Slice { ranges } => one(movement::slice(&x[0], &constant_ranges(ranges)?)),
        Op::Concat { axis } => one(movement::concat(x, *axis)),
        Op::Pad { before, after, mode } => {
            one(movement::pad(&x[0], &x[1], &constants(before)?, &constants(after)?, *mode))
        }
        Op::Gather { axis } => one(gather::gather(&x[0], &x[1], *axis)),
        Op::GatherElements { axis } => one(gather::gather_elements(&x[0], &x[1], *axis)),
        Op::GatherNd { batch_dims } => one(gather::gather_nd(&x[0], &x[1], *batch_dims)),
        Op::ScatterElements { axis, reduction } => {
            one(gather::scatter_elements(&x[0], &x[1], &x[2], *axis, *reduction))
        }
        Op::ScatterNd { reduction } => one(gather::scatter_nd(&x[0], &x[1], &x[2], *reduction)),
        Op::ReverseSequence { batch_axis, time_axis } => {
            one(movement::reverse_sequence(&x[0], &x[1], *batch_axis, *time_axis))
        }
        Op::Resize { rule, .. } => one(resize::resize(&x[0], &shape(&types[0])?, rule)),
        Op::GridSample { mode, padding, align_corners } => {
            one(sample::grid_sample(&x[0], &x[1], *mode, *padding, *align_corners))
        }

        Op::MatMul => one(matmul::matmul(&x[0], &x[1])),
        Op::PackedMatMul { .. } => one(matmul::packed_matmul(&x[0], &x[1], &shape(&types[0])?)),
        Op::Conv(spec) => one(conv::conv(&x[0], &x[1], x.get(2), spec, &shape(&types[0])?)),
        Op::Packed(p) => one(packed::packed(p, x, &shape(&types[0])?)),
        Op::ConvTranspose { spec, .. } => one(conv::conv_transpose(&x[0], &x[1], x.get(2), spec, &shape(&types[0])?)),
        Op::Col2Im { spec, kernel, .. } => one(conv::col2im(&x[0], spec, kernel, &shape(&types[0])?)),
        Op::Pool(spec) => one(pool::pool(&x[0], spec, &shape(&types[0])?)),
        Op::MaxPoolWithIndices { spec, column_major } => {
            pool::max_pool_with_indices(&x[0], spec, *column_major, &shape(&types[0])?)
        }

        Op::Reduce { kind, axes, .. } => one(reduce::reduce(&x[0], *kind, axes, shape(&types[0])?)),
        Op::ArgReduce { largest, axis, last, .. } => {
            one(sort::arg_reduce(&x[0], *axis, *largest, *last, shape(&types[0])?))
        }
        Op::Cumulative { kind, axis, exclusive, reverse } => {
            one(scan::cumulative(&x[0], *kind, *axis, *exclusive, *reverse))
        }
        Op::Attention { scale, guarded } => one(attention::attention(x, scale.get(), *guarded, &shape(&types[0])?)),
        Op::Softmax { axis, log } => one(reduce::softmax(&x[0], *axis, *log)),
        Op::Normalize { axis, epsilon, center } => one(reduce::normalize(&x[0], *axis, epsilon.get(), *center)),
        Op::TopK { axis, largest, .. } => sort::top_k(&x[0], &shape(&types[0])?, *axis, *largest),
        Op::Recurrent(spec) => recurrent::recurrent(x, spec),
        Op::NonZero { .. } => one(sort::non_zero(&x[0])),
        Op::NonMaxSuppression => one(sort::suppress(&x[0], &x[1], &x[2])),
        Op::TreeEnsemble(trees) => one(trees::tree_ensemble(&x[0], trees)),
        Op::If(branches) => graph::branch(branches, x),
    }
}

fn shape(ty: &TensorType) -> Result<Vec<usize>> {
    constants(&ty.shape)
}

fn constants(dims: &[Dim]) -> Result<Vec<usize>> {
    dims.iter().map(constant).collect()
}

fn constant(dim: &Dim) -> Result<usize> {
    let value = dim.as_const().and_then(|c| usize::try_from(c).ok());
    value.ok_or_else(|| Error::internal(format!("dimension {dim} is not bound to a size")))
}

fn dims_tensor(dims: &[Dim]) -> Result<Tensor> {
    let value = |d: &Dim| d.as_const().ok_or_else(|| Error::internal(format!("dimension {d} is not bound")));
    let values = dims.iter().map(value).collect::<Result<Vec<i64>>>()?;
    Tensor::from_i64s(super::DType::I64, vec![dims.len()], &values)
}

/// Start, step and length of each axis.
fn constant_ranges(ranges: &[Range]) -> Result<Vec<(usize, isize, usize)>> {
    let one = |r: &Range| {
        let len = constant(&r.len)?;
        // An empty range may start anywhere.
        let start = if len == 0 { 0 } else { constant(&r.start)? };
        Ok((start, r.step as isize, len))
    };
    ranges.iter().map(one).collect()
}
