//! Samples at the points of a grid: per point, the elements and weights of each axis once, then every channel.

use super::resize::cubic;
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{parallel_coordinates, product, spot};
use crate::kir::{Bin, Builder, Cmp, Elem, Ty, Un, Val};
use crate::numbers;
use mcc_ir::Result;
use mcc_ir::{DType, SampleMode, SamplePadding};

const F64: Ty = Ty::new(Elem::F64, 1);

/// How grid coordinates map to elements.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Interpolation.
    pub mode: SampleMode,
    /// Values of elements outside.
    pub padding: SamplePadding,
    /// Whether -1 and 1 are the centres of the border elements, rather than their outer edges.
    pub align_corners: bool,
}

/// ONNX GridSample.
pub fn grid_sample(e: &Emit<'_>, k: &mut Builder, rule: Rule) -> Result<()> {
    let (x, grid, out) = (e.shape(0), e.shape(1), e.out_shape());
    let data = &x[2..];
    let rank = data.len();
    let (zero, channels, extent) = (k.int(0), k.dim(&x[1]), k.dim(&product(data)));
    parallel_coordinates(k, &grid[..=rank], |k, point| {
        let first = crate::kernels::support::loops::flat(k, &grid[..=rank], point);
        let first = k.mul_int(first, rank as i64);
        let mut taps: Vec<(Val, Val)> = Vec::new();
        for (axis, size) in data.iter().enumerate() {
            // The grid stores the innermost axis' coordinate first.
            let at = k.add_int(first, (rank - 1 - axis) as i64);
            let v = e.load(k, 1, at, 1);
            let v = numbers::cast(k, v, e.dtype(1), DType::F64, false);
            let n = k.dim(size);
            let own = axis_taps(k, rule, v, n);
            if taps.is_empty() {
                taps = own;
                continue;
            }
            let mut both = Vec::with_capacity(taps.len() * own.len());
            for &(index, weight) in &taps {
                let start = k.mul(index, n);
                for &(i, w) in &own {
                    both.push((k.add(start, i), k.mul(weight, w)));
                }
            }
            taps = both;
        }
        let image = k.mul(point[0], channels);
        k.for_each(zero, channels, 1, |k, c| {
            let plane = k.add(image, c);
            let start = k.mul(plane, extent);
            let mut sum = k.zero(F64);
            for &(index, weight) in &taps {
                let at = k.add(start, index);
                let v = e.load(k, 0, at, 1);
                let v = numbers::cast(k, v, e.dtype(0), DType::F64, false);
                sum = k.fma(v, weight, sum);
            }
            let v = numbers::cast(k, sum, DType::F64, e.dtype(0), false);
            let coords = [&[point[0], c], &point[1..]].concat();
            let (row, col) = spot(k, out, &coords);
            e.store(k, row, col, v);
        });
    });
    Ok(())
}

/// Elements of one axis of extent `n`, and their weights; an unused element has weight 0.
fn axis_taps(k: &mut Builder, rule: Rule, coordinate: Val, n: Val) -> Vec<(Val, Val)> {
    let size = k.convert(n, Elem::F64);
    let (zero, one, half) = (k.float(0.0, F64), k.float(1.0, F64), k.float(0.5, F64));
    let last = k.sub(size, one);
    let lifted = k.add(coordinate, one);
    let (low, high, mut at) = if rule.align_corners {
        let share = k.mul(lifted, half);
        (zero, last, k.mul(share, last))
    } else {
        let scaled = k.mul(lifted, size);
        let doubled = k.sub(scaled, one);
        (k.float(-0.5, F64), k.sub(size, half), k.mul(doubled, half))
    };
    if rule.mode == SampleMode::Nearest {
        at = k.un(Un::Nearest, at);
    }
    let (below, above) = (k.cmp(Cmp::Lt, at, low), k.cmp(Cmp::Gt, at, high));
    let beyond = k.bin(Bin::Or, below, above);
    at = match rule.padding {
        SamplePadding::Zeros => at,
        SamplePadding::Border => {
            // For cubic interpolation, each element is clamped separately.
            let margin = if rule.mode == SampleMode::Cubic { 2.0 } else { 0.0 };
            let margin = k.float(margin, F64);
            let (from, to) = (k.sub(zero, margin), k.add(last, margin));
            let clamped = k.bin(Bin::Min, at, to);
            let clamped = k.bin(Bin::Max, clamped, from);
            k.select(beyond, clamped, at)
        }
        SamplePadding::Reflection => reflect(k, at, low, high),
    };
    let near = k.un(Un::Floor, at);
    let ratio = k.sub(at, near);
    let taps: Vec<(Val, Val)> = match rule.mode {
        SampleMode::Nearest => vec![(k.un(Un::Trunc, at), one)],
        SampleMode::Linear => {
            let (rest, next) = (k.sub(one, ratio), k.add(near, one));
            vec![(near, rest), (next, ratio)]
        }
        SampleMode::Cubic => (-1..=2)
            .map(|i| {
                let i = k.float(f64::from(i), F64);
                let distance = k.sub(i, ratio);
                let distance = k.un(Un::Abs, distance);
                (k.add(near, i), cubic(k, -0.75, distance))
            })
            .collect(),
    };
    taps.into_iter()
        .map(|(i, weight)| {
            let (from, to) = (k.cmp(Cmp::Ge, i, zero), k.cmp(Cmp::Lt, i, size));
            let inside = k.bin(Bin::And, from, to);
            let (i, weight) = match rule.padding {
                SamplePadding::Zeros => (i, k.select(inside, weight, zero)),
                SamplePadding::Border => (i, weight),
                SamplePadding::Reflection => {
                    let mirrored = reflect(k, i, low, high);
                    (k.select(inside, i, mirrored), weight)
                }
            };
            let i = clamp(k, i, last);
            (k.convert(i, Elem::I64), weight)
        })
        .collect()
}

/// Clamps to `0..=last`.
fn clamp(k: &mut Builder, v: Val, last: Val) -> Val {
    let zero = k.float(0.0, F64);
    let v = k.bin(Bin::Min, v, last);
    k.bin(Bin::Max, v, zero)
}

/// Mirrors a coordinate at both bounds until it is between them.
fn reflect(k: &mut Builder, x: Val, low: Val, high: Val) -> Val {
    let zero = k.float(0.0, F64);
    let range = k.sub(high, low);
    let (under, over) = (k.sub(low, x), k.sub(x, high));
    let beyond = k.bin(Bin::Max, under, over);
    let turns = k.bin(Bin::Div, beyond, range);
    let turns = k.un(Un::Floor, turns);
    let whole = k.mul(turns, range);
    let rest = k.sub(beyond, whole);
    let half = k.float(0.5, F64);
    let halves = k.mul(turns, half);
    let floor = k.un(Un::Floor, halves);
    let even = k.cmp(Cmp::Eq, halves, floor);
    let odd = k.cmp(Cmp::Ne, halves, floor);
    let (below, inside) = (k.cmp(Cmp::Lt, x, low), k.cmp(Cmp::Le, beyond, zero));
    let not_below = k.cmp(Cmp::Ge, x, low);
    let (from_under, from_over) = (k.bin(Bin::And, below, even), k.bin(Bin::And, not_below, odd));
    let from_low = k.bin(Bin::Or, from_under, from_over);
    let (up, down) = (k.add(low, rest), k.sub(high, rest));
    let mirrored = k.select(from_low, up, down);
    let v = k.select(inside, x, mirrored);
    let single = k.cmp(Cmp::Le, range, zero);
    let only = k.bin(Bin::Max, low, zero);
    k.select(single, only, v)
}
