//! Gathers and scatters.

use super::{elementwise, index};
use crate::{BinaryOp, ScatterReduction, Tensor};
use crate::{Error, Result};

/// An index of an axis, counted from the end if negative.
fn resolve(i: i64, extent: usize) -> Result<usize> {
    let n = extent as i64;
    if !(-n..n).contains(&i) {
        return Err(Error::invalid(format!("index {i} is out of range for an axis of {extent} elements")));
    }
    Ok(if i < 0 { i + n } else { i } as usize)
}

pub(super) fn gather(x: &Tensor, indices: &Tensor, axis: usize) -> Result<Tensor> {
    let (outer, n, inner) = index::around(x.shape(), axis);
    let run = inner * x.dtype().size();
    let rows = indices.to_i64s().into_iter().map(|i| resolve(i, n)).collect::<Result<Vec<usize>>>()?;
    let mut data = Vec::with_capacity(outer * rows.len() * run);
    for o in 0..outer {
        for row in &rows {
            let at = (o * n + row) * run;
            data.extend_from_slice(&x.data()[at..at + run]);
        }
    }
    let shape = [&x.shape()[..axis], indices.shape(), &x.shape()[axis + 1..]].concat();
    Tensor::new(x.dtype(), shape, data.into())
}

pub(super) fn gather_elements(x: &Tensor, indices: &Tensor, axis: usize) -> Result<Tensor> {
    let size = x.dtype().size();
    let mut data = Vec::with_capacity(indices.numel() * size);
    for at in element_positions(x, indices, axis)? {
        data.extend_from_slice(&x.data()[at * size..(at + 1) * size]);
    }
    Tensor::new(x.dtype(), indices.shape().to_vec(), data.into())
}

/// For each index, the position in `x` of its element.
fn element_positions(x: &Tensor, indices: &Tensor, axis: usize) -> Result<Vec<usize>> {
    let strides = index::strides(x.shape());
    let values = indices.to_i64s();
    let mut positions = Vec::with_capacity(values.len());
    let mut error = None;
    index::each(indices.shape(), |i| {
        let fits = i.iter().zip(x.shape()).enumerate().all(|(a, (i, n))| a == axis || i < n);
        let position = match resolve(values[positions.len()], x.shape()[axis]) {
            Ok(at) if fits => index::flat(i, &strides) - i[axis] * strides[axis] + at * strides[axis],
            Ok(_) => {
                error = Some(Error::invalid("the indices' shape exceeds the data's"));
                0
            }
            Err(e) => {
                error = Some(e);
                0
            }
        };
        positions.push(position);
    });
    error.map_or(Ok(positions), Err)
}

pub(super) fn gather_nd(x: &Tensor, indices: &Tensor, batch_dims: usize) -> Result<Tensor> {
    let depth = indices.shape().last().copied().unwrap_or(0);
    let outer = &indices.shape()[..indices.shape().len() - 1];
    let rest = &x.shape()[batch_dims + depth..];
    let run = rest.iter().product::<usize>() * x.dtype().size();
    let mut data = Vec::new();
    let per_batch: usize = outer[batch_dims..].iter().product();
    let block: usize = x.shape()[batch_dims..].iter().product::<usize>() * x.dtype().size();
    for (n, at) in nd_positions(&x.shape()[batch_dims..], indices, depth)?.into_iter().enumerate() {
        let at = n / per_batch * block + at * run;
        data.extend_from_slice(&x.data()[at..at + run]);
    }
    Tensor::new(x.dtype(), [outer, rest].concat(), data.into())
}

/// For each index tuple, the run of the data that it selects.
fn nd_positions(shape: &[usize], indices: &Tensor, depth: usize) -> Result<Vec<usize>> {
    let strides = index::strides(&shape[..depth]);
    let tuples: usize = indices.shape()[..indices.shape().len() - 1].iter().product();
    let values = indices.to_i64s();
    (0..tuples)
        .map(|t| {
            let tuple = &values[t * depth..(t + 1) * depth];
            let parts = tuple.iter().zip(shape).zip(&strides);
            parts.map(|((&i, &n), s)| resolve(i, n).map(|i| i * s)).sum::<Result<usize>>()
        })
        .collect()
}

pub(super) fn scatter_elements(
    x: &Tensor,
    indices: &Tensor,
    updates: &Tensor,
    axis: usize,
    reduction: ScatterReduction,
) -> Result<Tensor> {
    scatter(x, &element_positions(x, indices, axis)?, updates, 1, reduction)
}

pub(super) fn scatter_nd(
    x: &Tensor,
    indices: &Tensor,
    updates: &Tensor,
    reduction: ScatterReduction,
) -> Result<Tensor> {
    let depth = indices.shape().last().copied().unwrap_or(0);
    let run = x.shape()[depth..].iter().product();
    scatter(x, &nd_positions(x.shape(), indices, depth)?, updates, run, reduction)
}

/// Merges runs of `run` elements of `updates` into `x`; `positions` count runs.
fn scatter(
    x: &Tensor,
    positions: &[usize],
    updates: &Tensor,
    run: usize,
    reduction: ScatterReduction,
) -> Result<Tensor> {
    let size = x.dtype().size();
    let mut data = x.data().to_vec();
    let merge = match reduction {
        ScatterReduction::None => None,
        ScatterReduction::Add => Some(BinaryOp::Add),
        ScatterReduction::Mul => Some(BinaryOp::Mul),
        ScatterReduction::Max => Some(BinaryOp::Max),
        ScatterReduction::Min => Some(BinaryOp::Min),
    };
    let mut merged = Vec::new();
    for (n, at) in positions.iter().enumerate() {
        for i in 0..run {
            let to = (at * run + i) * size..(at * run + i + 1) * size;
            let from = &updates.data()[(n * run + i) * size..(n * run + i + 1) * size];
            match merge {
                None => data[to].copy_from_slice(from),
                Some(f) => {
                    merged.clear();
                    elementwise::binary_element(f, x.dtype(), &data[to.clone()], from, &mut merged);
                    data[to].copy_from_slice(&merged);
                }
            }
        }
    }
    Tensor::new(x.dtype(), x.shape().to_vec(), data.into())
}
