//! Improves single codes.

use super::Layer;

/// How often all weights are looked at.
const MAX_ROUNDS: usize = 8;

/// Changes one code after the other to the level with the least error given all other codes, while that helps.
pub fn descend(
    layer: &Layer<'_>,
    rows: std::ops::Range<usize>,
    mut codes: Vec<i32>,
    kept: Option<&[bool]>,
) -> Vec<i32> {
    let n = layer.weights.columns;
    let first = rows.start * n;
    let value = |i: usize, code: i32| match kept.is_none_or(|kept| kept[first + i]) {
        true => layer.levels(first + i).value(code),
        false => 0.0,
    };
    let off: Vec<f32> = (0..codes.len()).map(|i| value(i, codes[i]) - layer.weights.data[first + i]).collect();
    let mut slope = vec![0.0f32; codes.len()];
    layer.product(&off, &mut slope);
    for (row, slope) in slope.chunks_mut(n).enumerate() {
        for _ in 0..MAX_ROUNDS {
            let mut changed = false;
            for column in 0..n {
                let (i, curvature) = (row * n + column, layer.gram[column * n + column]);
                if curvature <= 0.0 || kept.is_some_and(|kept| !kept[first + i]) {
                    continue;
                }
                let old = value(i, codes[i]);
                let code = layer.levels(first + i).code(old - slope[column] / curvature);
                let step = value(i, code) - old;
                // What the error changes by; rounding must not let two codes alternate.
                let gain = step * (2.0 * slope[column] + curvature * step);
                if code == codes[i] || gain >= -1e-6 * curvature * step * step {
                    continue;
                }
                let gram = &layer.gram[column * n..(column + 1) * n];
                slope.iter_mut().zip(gram).for_each(|(s, g)| *s += step * g);
                codes[i] = code;
                changed = true;
            }
            if !changed {
                break;
            }
        }
    }
    codes
}
