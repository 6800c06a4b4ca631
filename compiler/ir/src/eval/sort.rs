//! Operations that compare elements and return positions.

use std::cmp::Ordering;

use super::{index, movement};
use crate::Result;
use crate::tensor::{decode_f64, decode_i64};
use crate::{DType, Tensor};

/// The order of two elements of a tensor; NaN is the largest.
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
    // The axis goes last, so that each row's results are found and stored together.
    let mut perm: Vec<usize> = (0..rank).filter(|&a| a != axis).collect();
    perm.push(axis);
    let rows = movement::transpose(x, &perm)?;
    let n = x.shape()[axis];
    let size = x.dtype().size();
    let (mut data, mut indices) = (Vec::new(), Vec::new());
    for row in 0..rows.numel().checked_div(n).unwrap_or(0) {
        let mut places: Vec<usize> = (0..n).collect();
        // A stable sort: ties are ordered by index.
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

/// Greedy suppression of overlapping boxes.
pub(super) fn suppress(boxes: &Tensor, live: &Tensor, threshold: &Tensor) -> Result<Tensor> {
    let (groups, n) = (live.shape()[0], live.shape()[1]);
    let (corners, live, threshold) = (boxes.to_f64s(), live.to_i64s(), threshold.f64_at(0));
    let mut kept = vec![0i64; groups * n];
    for g in 0..groups {
        for i in 0..n {
            let at = |i: usize| &corners[(g * n + i) * 4..(g * n + i) * 4 + 4];
            let free = (0..i).all(|j| kept[g * n + j] == 0 || overlap(at(i), at(j)) <= threshold);
            kept[g * n + i] = i64::from(live[g * n + i] != 0 && free);
        }
    }
    Tensor::from_i64s(DType::I64, vec![groups, n], &kept)
}

/// Intersection over union of two boxes; 0 when both are empty.
fn overlap(a: &[f64], b: &[f64]) -> f64 {
    let area = |c: &[f64]| (c[2] - c[0]) * (c[3] - c[1]);
    let height = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let width = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let shared = height * width;
    let union = area(a) + area(b) - shared;
    if union > 0.0 { shared / union } else { 0.0 }
}
