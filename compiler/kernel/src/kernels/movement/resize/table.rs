//! Sources of the coordinates along an axis: tables that a kernel fills first, so that its loops only read them.

use super::F64;
use crate::kir::{Bin, Builder, Cmp, Elem, Ty, Un, Val};
use mcc_ir::{CoordinateMode, Dim, NearestMode, ResizeRule, SampleMode};

/// The number of operand elements per coordinate of the result: as many left of it as right.
pub(super) fn taps(rule: &ResizeRule, axis: usize, n: &Dim, size: &Dim) -> Dim {
    let radius = match rule.mode {
        SampleMode::Nearest => return Dim::ONE,
        SampleMode::Linear => 1i64,
        SampleMode::Cubic => 2,
    };
    let two = Dim::from(2i64);
    let scale = rule.scales[axis].get();
    if !rule.antialias {
        return &two * &Dim::from(radius);
    }
    if scale == 0.0 {
        let reach = (n * &Dim::from(radius)).ceil_div(size);
        return &two * &reach.greater(&Dim::from(radius));
    }
    &two * &Dim::from(-(-(radius as f64) / scale.min(1.0)).floor() as i64)
}

/// The sources of the coordinates of one result axis.
pub(super) struct Table {
    pub(super) axis: usize,
    pub(super) taps: Dim,
    /// `i64`s, `taps` per coordinate.
    pub(super) indices: Val,
    /// Of type `real`, `taps` per coordinate.
    pub(super) weights: Val,
    pub(super) real: Ty,
    /// `i64`s, 1 for coordinates that take the extrapolation value.
    pub(super) outside: Val,
}

impl Table {
    pub(super) fn fill(&self, k: &mut Builder, rule: &ResizeRule, n: &Dim, size: &Dim) {
        let (zero, one, n, size, taps) = (k.int(0), k.int(1), k.dim(n), k.dim(size), k.dim(&self.taps));
        let last = k.add_int(n, -1);
        let (extent, bound) = (k.convert(n, Elem::F64), k.convert(last, Elem::F64));
        let (none, unit) = (k.float(0.0, F64), k.float(1.0, F64));
        let scale = match rule.scales[self.axis].get() {
            0.0 => {
                let size = k.convert(size, Elem::F64);
                k.bin(Bin::Div, size, extent)
            }
            scale => k.float(scale, F64),
        };
        let two = k.int(2);
        let half = k.bin(Bin::Div, taps, two);
        let first = k.sub(one, half);
        k.for_each(zero, size, 1, |k, i| {
            let x = coordinate(k, rule, self.axis, scale, n, size, i);
            let (before, after) = (k.cmp(Cmp::Lt, x, none), k.cmp(Cmp::Gt, x, bound));
            let outside = k.bin(Bin::Or, before, after);
            let outside = k.select(outside, one, zero);
            let to = k.at_index(self.outside, i, 8);
            k.store(to, outside);
            // The ratio is in (0, 1]: of two neighbours at the same distance, the left one is the nearest.
            let ceil = k.un(Un::Ceil, x);
            let left = k.sub(ceil, unit);
            let ratio = k.sub(x, left);
            let start = k.mul(i, taps);
            let sum = k.fold_loop(zero, taps, 1, &[none], |k, tap, sum| {
                let (place, mut weight) = if rule.mode == SampleMode::Nearest {
                    (nearest(k, rule.nearest, ratio, scale), unit)
                } else {
                    let place = k.add(first, tap);
                    let place = k.convert(place, Elem::F64);
                    (place, filter(k, rule, place, ratio, scale))
                };
                let place = k.add(left, place);
                if rule.exclude_outside && rule.mode != SampleMode::Nearest {
                    let (from, to) = (k.cmp(Cmp::Ge, place, none), k.cmp(Cmp::Lt, place, extent));
                    let inside = k.bin(Bin::And, from, to);
                    weight = k.select(inside, weight, none);
                }
                let slot = k.add(start, tap);
                let index = k.convert(place, Elem::I64);
                let index = k.bin(Bin::Min, index, last);
                let index = k.bin(Bin::Max, index, zero);
                let to = k.at_index(self.indices, slot, 8);
                k.store(to, index);
                self.put_weight(k, slot, weight);
                vec![k.add(sum[0], weight)]
            })[0];
            if rule.mode != SampleMode::Nearest && (rule.antialias || rule.exclude_outside) {
                k.for_each(zero, taps, 1, |k, tap| {
                    let weight = self.weight(k, i, tap);
                    let weight = k.convert(weight, Elem::F64);
                    let weight = k.bin(Bin::Div, weight, sum);
                    let slot = k.add(start, tap);
                    self.put_weight(k, slot, weight);
                });
            }
        });
    }

    fn put_weight(&self, k: &mut Builder, slot: Val, weight: Val) {
        let weight = k.convert(weight, self.real.elem);
        let to = k.at_index(self.weights, slot, self.real.bytes());
        k.store(to, weight);
    }

    /// The index of the operand element for a coordinate's tap.
    pub(super) fn index(&self, k: &mut Builder, coordinate: Val, tap: Val) -> Val {
        let slot = self.slot(k, coordinate, tap);
        let from = k.at_index(self.indices, slot, 8);
        k.load(Ty::I64, from)
    }

    /// The weight of a coordinate's tap.
    pub(super) fn weight(&self, k: &mut Builder, coordinate: Val, tap: Val) -> Val {
        let slot = self.slot(k, coordinate, tap);
        let from = k.at_index(self.weights, slot, self.real.bytes());
        k.load(self.real, from)
    }

    fn slot(&self, k: &mut Builder, coordinate: Val, tap: Val) -> Val {
        let taps = k.dim(&self.taps);
        let start = k.mul(coordinate, taps);
        k.add(start, tap)
    }
}

/// The weight of the element at `place`, counted from the left neighbour of a coordinate at distance `ratio`.
fn filter(k: &mut Builder, rule: &ResizeRule, place: Val, ratio: Val, scale: Val) -> Val {
    let (none, unit) = (k.float(0.0, F64), k.float(1.0, F64));
    let mut distance = k.sub(place, ratio);
    if rule.antialias {
        let scale = k.bin(Bin::Min, scale, unit);
        distance = k.mul(distance, scale);
    }
    let distance = k.un(Un::Abs, distance);
    if rule.mode == SampleMode::Cubic {
        return cubic(k, rule.cubic_a.get(), distance);
    }
    let rest = k.sub(unit, distance);
    k.bin(Bin::Max, rest, none)
}

/// 0 for the left neighbour, 1 for the right one.
fn nearest(k: &mut Builder, mode: NearestMode, ratio: Val, scale: Val) -> Val {
    let (left, right, half) = (k.float(0.0, F64), k.float(1.0, F64), k.float(0.5, F64));
    let (cmp, bound) = match mode {
        NearestMode::Simple => {
            let floor = nearest(k, NearestMode::Floor, ratio, scale);
            let shrinks = k.cmp(Cmp::Lt, scale, right);
            return k.select(shrinks, right, floor);
        }
        NearestMode::RoundPreferFloor => (Cmp::Gt, half),
        NearestMode::RoundPreferCeil => (Cmp::Ge, half),
        NearestMode::Floor => (Cmp::Eq, right),
        NearestMode::Ceil => return right,
    };
    let upper = k.cmp(cmp, ratio, bound);
    k.select(upper, right, left)
}

/// The position of result element `i` in the operand, as an `f64`. Rounding decides which neighbour is nearest, so
/// these coordinates are computed in `f32`, as in other implementations.
fn coordinate(k: &mut Builder, rule: &ResizeRule, axis: usize, scale: Val, n: Val, size: Val, i: Val) -> Val {
    let elem = if rule.mode == SampleMode::Nearest { Elem::F32 } else { Elem::F64 };
    let f = |k: &mut Builder, v: f64| k.float(v, Ty::new(elem, 1));
    let [x, n, size, scale] = [i, n, size, scale].map(|v| k.convert(v, elem));
    let (half, one, two) = (f(k, 0.5), f(k, 1.0), f(k, 2.0));
    // The exact width; the result's is its floor.
    let width = k.mul(scale, n);
    let single = k.cmp(Cmp::Eq, width, one);
    let (last, wide) = (k.sub(n, one), k.sub(width, one));
    let centre = k.add(x, half);
    let centre = k.bin(Bin::Div, centre, scale);
    let half_pixel = k.sub(centre, half);
    let at = match rule.coordinates {
        CoordinateMode::HalfPixel => half_pixel,
        CoordinateMode::HalfPixelSymmetric => {
            let adjustment = k.bin(Bin::Div, size, width);
            let rest = k.sub(one, adjustment);
            let middle = k.bin(Bin::Div, n, two);
            let shift = k.mul(middle, rest);
            let shifted = k.add(shift, centre);
            k.sub(shifted, half)
        }
        CoordinateMode::PytorchHalfPixel => {
            let (only, first) = (k.cmp(Cmp::Eq, size, one), f(k, 0.0));
            k.select(only, first, half_pixel)
        }
        CoordinateMode::TfHalfPixel => {
            // An axis that is not resized is unchanged.
            let whole = k.cmp(Cmp::Eq, scale, one);
            k.select(whole, x, centre)
        }
        CoordinateMode::AlignCorners => {
            let scaled = k.mul(x, last);
            let at = k.bin(Bin::Div, scaled, wide);
            let zero = f(k, 0.0);
            k.select(single, zero, at)
        }
        CoordinateMode::Asymmetric => k.bin(Bin::Div, x, scale),
        CoordinateMode::TfCropAndResize => {
            let (start, end) = rule.roi.get(axis).map_or((0.0, 1.0), |r| (r.0.get(), r.1.get()));
            let (span, start) = (f(k, end - start), f(k, start));
            let reach = k.mul(span, last);
            let middle = k.bin(Bin::Div, reach, two);
            let scaled = k.mul(x, span);
            let scaled = k.mul(scaled, last);
            let at = k.bin(Bin::Div, scaled, wide);
            let at = k.select(single, middle, at);
            let shift = k.mul(start, last);
            k.add(at, shift)
        }
    };
    k.convert(at, Elem::F64)
}

/// Keys' cubic kernel at a distance.
pub fn cubic(k: &mut Builder, a: f64, d: Val) -> Val {
    let f = |k: &mut Builder, v: f64| k.float(v, F64);
    let (one, two, zero) = (f(k, 1.0), f(k, 2.0), f(k, 0.0));
    let horner = |k: &mut Builder, coefficients: [f64; 4]| {
        let mut v = k.float(coefficients[0], F64);
        for c in &coefficients[1..] {
            let product = k.mul(v, d);
            let c = k.float(*c, F64);
            v = k.add(product, c);
        }
        v
    };
    let near = horner(k, [a + 2.0, -(a + 3.0), 0.0, 1.0]);
    let far = horner(k, [a, -5.0 * a, 8.0 * a, -4.0 * a]);
    let (is_near, is_far) = (k.cmp(Cmp::Le, d, one), k.cmp(Cmp::Lt, d, two));
    let outer = k.select(is_far, far, zero);
    k.select(is_near, near, outer)
}
