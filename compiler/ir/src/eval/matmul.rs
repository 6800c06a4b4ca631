//! Matrix products.

use super::number::{Number, by_class};
use super::{elementwise, index, movement};
use crate::Result;
use crate::Tensor;

pub(super) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    by_class!(a.dtype(), batched(a, b))
}

/// Unpacks `packed: [..., panels, k, tile]` to `[..., k, n]` first.
pub(super) fn packed_matmul(a: &Tensor, packed: &Tensor, result: &[usize]) -> Result<Tensor> {
    let n = result[result.len() - 1];
    matmul(a, &elementwise::cast(&unpack(packed, n)?, a.dtype(), true)?)
}

/// Reshapes `[..., panels, k, tile]` to `[..., k, n]`.
pub(super) fn unpack(packed: &Tensor, n: usize) -> Result<Tensor> {
    let rank = packed.shape().len();
    let (batch, [panels, k, tile]) = (&packed.shape()[..rank - 3], [0, 1, 2].map(|i| packed.shape()[rank - 3 + i]));
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 3, rank - 2);
    let wide = movement::transpose(packed, &perm)?.reshaped([batch, &[k, panels * tile]].concat())?;
    let mut ranges: Vec<_> = wide.shape().iter().map(|&extent| (0, 1, extent)).collect();
    ranges[rank - 2].2 = n;
    movement::slice(&wide, &ranges)
}

fn batched<T: Number>(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let split = |t: &Tensor| {
        let (batch, last) = t.shape().split_at(t.shape().len() - 2);
        (batch.to_vec(), last[0], last[1])
    };
    let ((a_batch, m, k), (b_batch, _, n)) = (split(a), split(b));
    let rank = a_batch.len().max(b_batch.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    let one_wins = |(x, y): (usize, usize)| if x == 1 { y } else { x };
    let batch: Vec<usize> = (0..rank).map(|i| one_wins((at(&a_batch, i), at(&b_batch, i)))).collect();
    let (x, y) = (T::all(a), T::all(b));
    // The position of an operand's matrix for a batch index.
    let matrix = |index: &[usize], own: &[usize], size: usize| {
        let tail = &index[rank - own.len()..];
        let clipped: Vec<usize> = tail.iter().zip(own).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect();
        index::flat(&clipped, &index::strides(own)) * size
    };
    let mut out = Vec::with_capacity(batch.iter().product::<usize>() * m * n);
    index::each(&batch, |i| {
        let (p, q) = (matrix(i, &a_batch, m * k), matrix(i, &b_batch, k * n));
        product(&x[p..p + m * k], &y[q..q + k * n], m, k, n, &mut out);
    });
    T::tensor(a.dtype(), [batch, vec![m, n]].concat(), &out)
}

/// Appends the product of two row-major matrices.
pub(super) fn product<T: Number>(a: &[T], b: &[T], m: usize, k: usize, n: usize, out: &mut Vec<T>) {
    for i in 0..m {
        let start = out.len();
        out.resize(start + n, T::ZERO);
        let row = &mut out[start..];
        for l in 0..k {
            let factor = a[i * k + l];
            row.iter_mut().zip(&b[l * n..(l + 1) * n]).for_each(|(sum, &v)| *sum = sum.mul_add(factor, v));
        }
    }
}
