//! Resize, one axis at a time, as in ONNX's reference implementation.

use super::index;
use crate::Result;
use crate::{CoordinateMode, NearestMode, ResizeRule, SampleMode, Tensor};

pub(super) fn resize(x: &Tensor, sizes: &[usize], rule: &ResizeRule) -> Result<Tensor> {
    let mut shape = x.shape().to_vec();
    let mut values = x.to_f64s();
    // A result element is outside if it is so along any axis: marked as NaN here, replaced at the end.
    let mut outside: Vec<Vec<bool>> = Vec::new();
    for axis in 0..shape.len() {
        let taps: Vec<Option<Vec<(usize, f64)>>> =
            (0..sizes[axis]).map(|i| taps(rule, axis, shape[axis], sizes[axis], i)).collect();
        outside.push(taps.iter().map(Option::is_none).collect());
        let identity =
            taps.iter().enumerate().all(|(i, t)| matches!(t.as_deref(), Some(&[(at, w)]) if at == i && w == 1.0));
        if identity && sizes[axis] == shape[axis] {
            continue;
        }
        let (outer, n, inner) = index::around(&shape, axis);
        let mut next = Vec::with_capacity(outer * taps.len() * inner);
        for o in 0..outer {
            for taps in &taps {
                for i in 0..inner {
                    let taps = taps.iter().flatten();
                    next.push(taps.map(|&(at, w)| w * values[(o * n + at) * inner + i]).sum());
                }
            }
        }
        values = next;
        shape[axis] = sizes[axis];
    }
    if outside.iter().flatten().any(|o| *o) {
        let mut position = 0;
        index::each(sizes, |i| {
            if i.iter().zip(&outside).any(|(&i, outside)| outside[i]) {
                values[position] = rule.extrapolation.get();
            }
            position += 1;
        });
    }
    Tensor::from_f64s(x.dtype(), shape, &values)
}

/// The operand elements and weights of result element `i` along an axis; `None` for the extrapolation value.
fn taps(rule: &ResizeRule, axis: usize, n: usize, size: usize, i: usize) -> Option<Vec<(usize, f64)>> {
    let scale = rule.scale(axis, n, size);
    if scale == 1.0 && n == size && rule.coordinates != CoordinateMode::TfCropAndResize {
        return Some(vec![(i, 1.0)]);
    }
    let x = coordinate(rule, axis, n, size, i)?;
    // The ratio is in (0, 1]: of two neighbours at the same distance the left one is the nearer.
    let left = x.ceil() - 1.0;
    let weights = weights(rule, x - left, scale);
    let first = left as i64 - (weights.len() as i64 / 2 - 1);
    let inside = |at: i64| (0..n as i64).contains(&at);
    let mut taps: Vec<(i64, f64)> = weights.iter().enumerate().map(|(j, &w)| (first + j as i64, w)).collect();
    if rule.exclude_outside && rule.mode != SampleMode::Nearest {
        taps.retain(|t| inside(t.0));
        let sum: f64 = taps.iter().map(|t| t.1).sum();
        taps.iter_mut().for_each(|t| t.1 /= sum);
    }
    // Weights of zero are dropped, since zero times infinity is not zero.
    let clamped = taps.into_iter().filter(|t| t.1 != 0.0).map(|(at, w)| (at.clamp(0, n as i64 - 1) as usize, w));
    Some(clamped.collect())
}

/// The operand coordinate of result element `i`; `None` outside a crop. The nearest neighbour depends on the rounding,
/// so coordinates are computed in `f32`, as elsewhere.
fn coordinate(rule: &ResizeRule, axis: usize, n: usize, size: usize, i: usize) -> Option<f64> {
    let f = |v: f64| if rule.mode == SampleMode::Nearest { f64::from(v as f32) } else { v };
    let scale = f(rule.scale(axis, n, size));
    let (x, n) = (f(i as f64), f(n as f64));
    // The exact width, whose floor is the result's.
    let width = f(scale * n);
    let centre = f(f(x + 0.5) / scale);
    let half_pixel = f(centre - 0.5);
    Some(match rule.coordinates {
        CoordinateMode::HalfPixel => half_pixel,
        CoordinateMode::HalfPixelSymmetric => {
            let adjustment = f(f(size as f64) / width);
            let shift = f(n / 2.0 * f(1.0 - adjustment));
            f(f(shift + centre) - 0.5)
        }
        CoordinateMode::PytorchHalfPixel if size == 1 => 0.0,
        CoordinateMode::PytorchHalfPixel => half_pixel,
        CoordinateMode::TfHalfPixel => centre,
        CoordinateMode::AlignCorners if width == 1.0 => 0.0,
        CoordinateMode::AlignCorners => f(f(x * f(n - 1.0)) / f(width - 1.0)),
        CoordinateMode::Asymmetric => f(x / scale),
        CoordinateMode::TfCropAndResize => {
            let (start, end) = rule.roi.get(axis).map_or((0.0, 1.0), |r| (r.0.get(), r.1.get()));
            let (span, last) = (f(end - start), f(n - 1.0));
            let at = match width == 1.0 {
                true => f(f(span * last) / 2.0),
                false => f(f(f(x * span) * last) / f(width - 1.0)),
            };
            let at = f(at + f(f(start) * last));
            return (0.0..=n - 1.0).contains(&at).then_some(at);
        }
    })
}

/// Weights of the neighbours, the same number on both sides of the coordinate; `ratio` is the coordinate's distance
/// from the left one, in (0, 1].
fn weights(rule: &ResizeRule, ratio: f64, scale: f64) -> Vec<f64> {
    let a = rule.cubic_a.get();
    match rule.mode {
        SampleMode::Nearest => {
            let right = match rule.nearest {
                _ if ratio == 1.0 => true,
                NearestMode::RoundPreferFloor => ratio > 0.5,
                NearestMode::RoundPreferCeil => ratio >= 0.5,
                NearestMode::Floor => false,
                NearestMode::Ceil => true,
                NearestMode::Simple => scale < 1.0,
            };
            vec![f64::from(!right), f64::from(right)]
        }
        SampleMode::Linear if rule.antialias => widened(ratio, scale, 1.0, |d| (1.0 - d).max(0.0)),
        SampleMode::Linear => vec![1.0 - ratio, ratio],
        SampleMode::Cubic if rule.antialias => widened(ratio, scale, 2.0, |d| cubic(a, d)),
        SampleMode::Cubic => [ratio + 1.0, ratio, 1.0 - ratio, 2.0 - ratio].map(|d| cubic(a, d)).to_vec(),
    }
}

/// A filter of radius `radius`, widened when the axis shrinks, with weights rescaled to a sum of 1.
fn widened(ratio: f64, scale: f64, radius: f64, filter: impl Fn(f64) -> f64) -> Vec<f64> {
    let scale = scale.min(1.0);
    let start = (-radius / scale).floor() as i64 + 1;
    let raw: Vec<f64> = (start..2 - start).map(|i| filter(((i as f64 - ratio) * scale).abs())).collect();
    let sum: f64 = raw.iter().sum();
    raw.iter().map(|w| w / sum).collect()
}

/// Keys' cubic kernel at distance `d`.
pub(super) fn cubic(a: f64, d: f64) -> f64 {
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}
