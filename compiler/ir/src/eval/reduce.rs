//! Reductions over whole axes.

use super::number::{int_range, wide};
use super::{index, movement};
use crate::Result;
use crate::tensor::{decode_f64, decode_i64};
use crate::{DType, ReduceKind, Tensor};

pub(super) fn reduce(x: &Tensor, kind: ReduceKind, axes: &[usize], result: Vec<usize>) -> Result<Tensor> {
    // With the reduced axes last, each result depends on one run of elements.
    let kept = (0..x.shape().len()).filter(|a| !axes.contains(a));
    let perm: Vec<usize> = kept.chain(axes.iter().copied()).collect();
    let run: usize = axes.iter().map(|&a| x.shape()[a]).product();
    let x = if perm.is_sorted() { x.clone() } else { movement::transpose(x, &perm)? };
    let rows: usize = result.iter().product();
    let dtype = x.dtype();
    let bytes = run * dtype.size();
    let row = |r: usize| x.data()[r * bytes..(r + 1) * bytes].chunks_exact(dtype.size());
    if dtype == DType::F32 {
        let single = |b: &[u8]| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let values: Vec<f64> = (0..rows).map(|r| reduce_floats(kind, row(r).map(single), run)).collect();
        Tensor::from_f64s(dtype, result, &values)
    } else if dtype.is_float() {
        let float = |b: &[u8]| decode_f64(dtype, b);
        let values: Vec<f64> = (0..rows).map(|r| reduce_floats(kind, row(r).map(float), run)).collect();
        Tensor::from_f64s(dtype, result, &values)
    } else {
        let int = |b: &[u8]| wide(dtype, decode_i64(dtype, b));
        let values: Vec<i64> = (0..rows).map(|r| reduce_ints(kind, row(r).map(int), run, dtype) as i64).collect();
        let bytes = kind == ReduceKind::Sum && matches!(dtype, DType::U8 | DType::I8);
        Tensor::from_i64s(if bytes { DType::I32 } else { dtype }, result, &values)
    }
}

fn reduce_floats(kind: ReduceKind, values: impl Iterator<Item = f64>, run: usize) -> f64 {
    match kind {
        ReduceKind::Sum => values.sum::<f64>() + 0.0,
        ReduceKind::Mean => values.sum::<f64>() / run as f64,
        ReduceKind::Prod => values.product(),
        ReduceKind::Min => values.fold(f64::INFINITY, |a, b| if a.is_nan() || a < b { a } else { b }),
        ReduceKind::Max => values.fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || a > b { a } else { b }),
    }
}

fn reduce_ints(kind: ReduceKind, values: impl Iterator<Item = i128>, run: usize, dtype: DType) -> i128 {
    let (least, most) = int_range(dtype);
    match kind {
        ReduceKind::Sum => values.sum(),
        ReduceKind::Mean => values.sum::<i128>().checked_div(run as i128).unwrap_or(0),
        ReduceKind::Prod => values.fold(1, i128::wrapping_mul),
        ReduceKind::Min => values.fold(most, i128::min),
        ReduceKind::Max => values.fold(least, i128::max),
    }
}

pub(super) fn softmax(x: &Tensor, axis: usize, log: bool) -> Result<Tensor> {
    let (outer, n, inner) = index::around(x.shape(), axis);
    let mut v = x.to_f64s();
    for o in 0..outer {
        for i in 0..inner {
            let at = |j: usize| (o * n + j) * inner + i;
            let most = (0..n).map(|j| v[at(j)]).fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || a > b { a } else { b });
            let sum: f64 = (0..n).map(|j| (v[at(j)] - most).exp()).sum();
            for j in 0..n {
                let shifted = v[at(j)] - most;
                v[at(j)] = if log { shifted - sum.ln() } else { shifted.exp() / sum };
            }
        }
    }
    Tensor::from_f64s(x.dtype(), x.shape().to_vec(), &v)
}

pub(super) fn normalize(x: &Tensor, axis: usize, epsilon: f64, center: bool) -> Result<Tensor> {
    let run: usize = x.shape()[axis..].iter().product();
    let mut v = x.to_f64s();
    for row in v.chunks_mut(run.max(1)) {
        let n = row.len() as f64;
        let mean = if center { row.iter().sum::<f64>() / n } else { 0.0 };
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let scale = 1.0 / (variance + epsilon).sqrt();
        row.iter_mut().for_each(|x| *x = (*x - mean) * scale);
    }
    Tensor::from_f64s(x.dtype(), x.shape().to_vec(), &v)
}
