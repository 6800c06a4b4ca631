//! Attention, one head at a time.

use crate::Result;
use crate::Tensor;

/// `(q: [batch, m, heads, d], k: [batch, n, groups, d], v: [batch, n, groups, e], [mask])`.
pub(super) fn attention(x: &[Tensor], scale: f64, guarded: bool, result: &[usize]) -> Result<Tensor> {
    let (q, k, v) = (x[0].to_f64s(), x[1].to_f64s(), x[2].to_f64s());
    let (shape, keys) = (x[0].shape(), x[1].shape());
    let (queries, heads, depth) = (shape[1], shape[2], shape[3]);
    let (count, groups, width) = (keys[1], keys[2], result[3]);
    let mask = x.get(3).map(|mask| (mask.shape().to_vec(), mask.to_f64s()));
    let mut out = Vec::with_capacity(result.iter().product());
    for b in 0..result[0] {
        for i in 0..queries {
            for h in 0..heads {
                let group = h / (heads / groups);
                let query = &q[((b * queries + i) * heads + h) * depth..][..depth];
                let row = |size: usize, j: usize| ((b * count + j) * groups + group) * size;
                let added = |j: usize| {
                    let Some((extents, values)) = &mask else { return 0.0 };
                    let place =
                        extents.iter().zip([b, h, i, j]).fold(0, |at, (&n, i)| at * n + if n == 1 { 0 } else { i });
                    values[place]
                };
                let score = |j: usize| {
                    let key = &k[row(depth, j)..][..depth];
                    scale * query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() + added(j)
                };
                let scores: Vec<f64> = (0..count).map(score).collect();
                let most = scores.iter().fold(f64::NEG_INFINITY, |a, &b| if a.is_nan() || a > b { a } else { b });
                let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
                let sum: f64 = weights.iter().sum();
                let weight = |j: usize| {
                    let w = weights[j] / sum;
                    if guarded && w.is_nan() { 0.0 } else { w }
                };
                out.extend((0..width).map(|c| (0..count).map(|j| weight(j) * v[row(width, j) + c]).sum::<f64>()));
            }
        }
    }
    Tensor::from_f64s(x[0].dtype(), result.to_vec(), &out)
}
