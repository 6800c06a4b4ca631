//! Operations that compare elements and answer with positions.

use std::cmp::Ordering;

use super::{index, movement};
use crate::Result;
use crate::ir::tensor::{decode_f64, decode_i64};
use crate::ir::{DType, Tensor};

/// How two elements of a tensor are ordered; NaN is the largest.
fn order(x: &Tensor, a: usize, b: usize) -> Ordering {
    let size = x.dtype().size();
    let bytes = |i: usize| &x.data()[i * size..(i + 1) * size];
    if x.dtype().is_float() {
        let (a, b) = (decode_f64(x.dtype(), bytes(a)), decode_f64(x.dtype(), bytes(b)));
        a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
    } else {
        let wide = |i| super::number::wide(x.dtype(), decode_i64(x.dtype(), bytes(i)));
        wide(a).cmp(&wide(b))
    }
}

pub(super) fn arg_reduce(x: &Tensor, axis: usize, largest: bool, last: bool, result: Vec<usize>) -> Result<Tensor> {
    let (outer, n, inner) = index::around(x.shape(), axis);
    let mut indices = Vec::with_capacity(outer * inner);
    for o in 0..outer {
        for i in 0..inner {
            let at = |j: usize| (o * n + j) * inner + i;
            let best = (0..n).reduce(|best, j| match order(x, at(j), at(best)) {
                Ordering::Equal => {
                    if last {
                        j
                    } else {
                        best
                    }
                }
                Ordering::Greater => {
                    if largest {
                        j
                    } else {
                        best
                    }
                }
                Ordering::Less => {
                    if largest {
                        best
                    } else {
                        j
                    }
                }
            });
            indices.push(best.unwrap_or(0) as i64);
        }
    }
    Tensor::from_i64s(DType::I64, result, &indices)
}

pub(super) fn top_k(x: &Tensor, result: &[usize], axis: usize, largest: bool) -> Result<Vec<Tensor>> {
    let k = result[axis];
    let rank = result.len();
    // The axis goes last, so that each row's winners are found and written together.
    let mut perm: Vec<usize> = (0..rank).filter(|&a| a != axis).collect();
    perm.push(axis);
    let rows = movement::transpose(x, &perm)?;
    let n = x.shape()[axis];
    let size = x.dtype().size();
    let (mut data, mut indices) = (Vec::new(), Vec::new());
    for row in 0..rows.numel().checked_div(n).unwrap_or(0) {
        let mut places: Vec<usize> = (0..n).collect();
        // A stable sort: ties stay in the order of their indices.
        places.sort_by(|&a, &b| {
            let order = order(&rows, row * n + a, row * n + b);
            if largest { order.reverse() } else { order }
        });
        for &p in &places[..k] {
            let at = (row * n + p) * size;
            data.extend_from_slice(&rows.data()[at..at + size]);
            indices.push(p as i64);
        }
    }
    let mut shape: Vec<usize> = perm.iter().map(|&a| result[a]).collect();
    shape[rank - 1] = k;
    let mut back: Vec<usize> = (0..rank - 1).collect();
    back.insert(axis, rank - 1);
    let values = Tensor::new(x.dtype(), shape.clone(), data.into())?;
    let indices = Tensor::from_i64s(DType::I64, shape, &indices)?;
    Ok(vec![movement::transpose(&values, &back)?, movement::transpose(&indices, &back)?])
}

pub(super) fn non_zero(x: &Tensor) -> Result<Tensor> {
    let rank = x.shape().len();
    let mut found = Vec::new();
    let mut position = 0;
    index::each(x.shape(), |i| {
        if x.f64_at(position) != 0.0 {
            found.push(i.to_vec());
        }
        position += 1;
    });
    let rows: Vec<i64> = (0..rank).flat_map(|axis| found.iter().map(move |i| i[axis] as i64)).collect();
    Tensor::from_i64s(DType::I64, vec![rank, found.len()], &rows)
}
