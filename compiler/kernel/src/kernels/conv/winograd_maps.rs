//! Transforms of tiles along an axis, in both directions.

use super::winograd_weights::weighted;
use crate::kir::{Builder, Val};

/// Transforms a tile along an axis, by the maps of [`Filtering::input`](mcc_ir::Filtering::input).
pub(super) fn spread(k: &mut Builder, d: &[Val]) -> Vec<Val> {
    match *d {
        [a] => vec![a],
        [a, b, c, d] => vec![k.sub(a, c), k.add(b, c), k.sub(c, b), k.sub(d, b)],
        [a, b, c, d, e, f] => {
            let ty = k.ty(a);
            let [two, four, minus_four, minus_five] = [2.0, 4.0, -4.0, -5.0].map(|x| k.float(x, ty));
            let [first, last] = [(a, c, e), (b, d, f)].map(|(x, y, z)| {
                let sum = k.fma(x, four, z);
                k.fma(y, minus_five, sum)
            });
            let (even, odd) = (k.fma(c, minus_four, e), k.fma(b, minus_four, d));
            let (near, far) = (k.sub(e, c), k.sub(d, b));
            let far = k.mul(far, two);
            vec![first, k.add(even, odd), k.sub(even, odd), k.add(near, far), k.sub(near, far), last]
        }
        [a, b, c, d, e, f, g, h] => {
            let ty = k.ty(a);
            let ends = [(a, c, e, g), (h, f, d, b)].map(|(x, y, z, w)| {
                let (outer, inner, factor) = (k.sub(x, w), k.sub(z, y), k.float(5.25, ty));
                k.fma(inner, factor, outer)
            });
            // Even and odd parts at three pairs of points: the factors of c, e and of b, d, f; that of g is 1.
            let parts =
                [([1.0, -4.25], [1.0, -4.25, 1.0]), ([0.25, -1.25], [0.5, -2.5, 2.0]), ([4.0, -5.0], [2.0, -2.5, 0.5])];
            let mut all = vec![ends[0]];
            for (even, odd) in parts {
                let even = weighted(k, g, &[(c, even[0]), (e, even[1])]);
                let first = k.float(odd[0], ty);
                let first = k.mul(b, first);
                let odd = weighted(k, first, &[(d, odd[1]), (f, odd[2])]);
                all.extend([k.add(even, odd), k.sub(even, odd)]);
            }
            all.push(ends[1]);
            all
        }
        _ => Vec::new(),
    }
}

/// The `m` results of a tile along an axis from transformed sums, by the maps of
/// [`Filtering::output`](mcc_ir::Filtering::output).
pub(super) fn gather(k: &mut Builder, sums: &[Val], m: i64) -> Vec<Val> {
    let (&[first, .., last], pairs) = (sums, sums.get(1..sums.len().saturating_sub(1)).unwrap_or_default()) else {
        return sums.to_vec();
    };
    // At opposite points, even powers are equal and odd ones opposite.
    let even: Vec<Val> = pairs.chunks_exact(2).map(|p| k.add(p[0], p[1])).collect();
    let odd: Vec<Val> = pairs.chunks_exact(2).map(|p| k.sub(p[0], p[1])).collect();
    let result = |nth: i64| {
        let pairs = if nth % 2 == 0 { &even } else { &odd };
        let mut sum = pairs[0];
        if nth == 0 {
            sum = k.add(first, sum);
        }
        if nth + 1 == m {
            sum = k.add(sum, last);
        }
        let others: Vec<(Val, f64)> = pairs[1..].iter().zip(PAIRS).map(|(&v, p)| (v, p.powi(nth as i32))).collect();
        weighted(k, sum, &others)
    };
    (0..m).map(result).collect()
}

/// The points of the pairs after 1 and -1.
const PAIRS: [f64; 2] = [2.0, 0.5];
