//! Resize. Each resized axis gets a table in scratch memory, made at the start: the operand elements and the weights of
//! every result coordinate. Nearest copies runs behind the last resized axis; interpolation sums whole rows, and
//! interpolates along the last axis within such a sum.

use crate::Result;
use crate::ir::{CoordinateMode, DType, Dim, NearestMode, ResizeRule, SampleMode};
use crate::lower::kernels::support::emit::Emit;
use crate::lower::kernels::support::loops::{cover, flat, parallel_nest, product, spot};
use crate::lower::kernels::support::request::missing;
use crate::lower::kir::{Bin, Builder, Cmp, Elem, Ty, Un, Val};
use crate::lower::numbers;

const F64: Ty = Ty::new(Elem::F64, 1);

/// Taps of one axis up to this number are unrolled.
const UNROLL: i64 = 4;

/// ONNX Resize.
///
/// # Errors
/// When a filter of a shrinking antialiased axis is impossibly wide.
pub fn resize(e: &Emit<'_>, k: &mut Builder, rule: &ResizeRule) -> Result<()> {
    let (x, out) = (e.shape(0), e.out_shape());
    let crops = rule.coordinates == CoordinateMode::TfCropAndResize;
    let elem = numbers::compute_elem(real(e.dtype(0)));
    let mut tables = Vec::new();
    for axis in 0..x.len() {
        if rule.scales[axis].get() == 1.0 && x[axis] == out[axis] && !crops {
            continue;
        }
        let taps = taps(rule, axis, &x[axis], &out[axis]);
        if taps.as_const().is_some_and(|t| !(1..1 << 16).contains(&t)) {
            return missing(e.request);
        }
        let entries = &(&out[axis] * &taps) * &Dim::from(8i64);
        let indices = e.scratch(k, entries.clone());
        let weights = e.scratch(k, entries);
        let outside = e.scratch(k, &out[axis] * &Dim::from(8i64));
        tables.push(Table { axis, taps, indices, weights, outside, real: Ty::new(elem, 1) });
    }
    for table in &tables {
        table.fill(k, rule, &x[table.axis], &out[table.axis]);
    }
    let resize = Resize { e, rule, tables: &tables, real: real(e.dtype(0)) };
    if crops {
        resize.element_by_element(k);
    } else if rule.mode == SampleMode::Nearest {
        resize.nearest(k);
    } else if tables.last().is_some_and(|t| t.axis + 1 == x.len()) {
        resize.along_rows(k);
    } else {
        resize.whole_rows(k);
    }
    Ok(())
}

/// The type to interpolate in.
fn real(dtype: DType) -> DType {
    match dtype {
        DType::F64 | DType::I32 | DType::U32 | DType::I64 | DType::U64 => DType::F64,
        _ => DType::F32,
    }
}

/// How many operand elements one coordinate of the result takes in: as many left of it as right.
fn taps(rule: &ResizeRule, axis: usize, n: &Dim, size: &Dim) -> Dim {
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

/// What the coordinates of one result axis are made of.
struct Table {
    axis: usize,
    taps: Dim,
    /// `i64`s, `taps` a coordinate.
    indices: Val,
    /// Of type `real`, `taps` a coordinate.
    weights: Val,
    real: Ty,
    /// `i64`s, 1 for coordinates that take the extrapolation value.
    outside: Val,
}

impl Table {
    fn fill(&self, k: &mut Builder, rule: &ResizeRule, n: &Dim, size: &Dim) {
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
        k.for_each(zero, size, 1, &mut |k, i| {
            let x = coordinate(k, rule, self.axis, scale, n, size, i);
            let (before, after) = (k.cmp(Cmp::Lt, x, none), k.cmp(Cmp::Gt, x, bound));
            let outside = k.bin(Bin::Or, before, after);
            let outside = k.select(outside, one, zero);
            let to = k.at_index(self.outside, i, 8);
            k.store(to, outside);
            // The ratio is in (0, 1]: of two neighbours at the same distance the left one counts as near.
            let ceil = k.un(Un::Ceil, x);
            let left = k.sub(ceil, unit);
            let ratio = k.sub(x, left);
            let start = k.mul(i, taps);
            let sum = k.fold_loop(zero, taps, 1, &[none], &mut |k, tap, sum| {
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
                k.for_each(zero, taps, 1, &mut |k, tap| {
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

    /// The operand element of a coordinate's tap.
    fn index(&self, k: &mut Builder, coordinate: Val, tap: Val) -> Val {
        let slot = self.slot(k, coordinate, tap);
        let from = k.at_index(self.indices, slot, 8);
        k.load(Ty::I64, from)
    }

    /// The weight of a coordinate's tap.
    fn weight(&self, k: &mut Builder, coordinate: Val, tap: Val) -> Val {
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

/// The weight of the element at `place`, counted from the left neighbour of a coordinate `ratio` away from it.
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

/// Where result element `i` lies in the operand, as an `f64`. Which neighbour is nearest hangs on the rounding, so that these
/// coordinates are computed in `f32`, as elsewhere.
fn coordinate(k: &mut Builder, rule: &ResizeRule, axis: usize, scale: Val, n: Val, size: Val, i: Val) -> Val {
    let elem = if rule.mode == SampleMode::Nearest { Elem::F32 } else { Elem::F64 };
    let f = |k: &mut Builder, v: f64| k.float(v, Ty::new(elem, 1));
    let [x, n, size, scale] = [i, n, size, scale].map(|v| k.convert(v, elem));
    let (half, one, two) = (f(k, 0.5), f(k, 1.0), f(k, 2.0));
    // The exact width, which the result's is the floor of.
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
            // What is not resized stays where it is.
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

struct Resize<'a> {
    e: &'a Emit<'a>,
    rule: &'a ResizeRule,
    tables: &'a [Table],
    real: DType,
}

impl Resize<'_> {
    fn table(&self, axis: usize) -> Option<&Table> {
        self.tables.iter().find(|t| t.axis == axis)
    }

    /// Copies what lies behind the last resized axis, or single elements along it.
    fn nearest(&self, k: &mut Builder) {
        let (x, out) = (self.e.shape(0), self.e.out_shape());
        let zero = k.int(0);
        let depth = self.tables.last().map_or(0, |t| t.axis + 1);
        let source = |k: &mut Builder, coords: &[Val]| {
            let mut at = Vec::with_capacity(coords.len());
            for (axis, &c) in coords.iter().enumerate() {
                at.push(match self.table(axis) {
                    Some(table) => table.index(k, c, zero),
                    None => c,
                });
            }
            flat(k, &x[..coords.len()], &at)
        };
        if depth == out.len() && depth > 0 {
            let (rows, inner) = (&out[..depth - 1], k.dim(&x[depth - 1]));
            let cols = k.dim(&out[depth - 1]);
            let Some(table) = self.tables.last() else { return };
            parallel_nest(k, rows, &mut |k, coords| {
                let row = flat(k, rows, coords);
                let line = source(k, coords);
                let start = k.mul(line, inner);
                k.for_each(zero, cols, 1, &mut |k, col| {
                    let i = table.index(k, col, zero);
                    let from = k.add(start, i);
                    self.e.relay(k, 0, from, row, col, 1);
                });
            });
            return;
        }
        let (lead_shape, tail) = out.split_at(depth);
        let run = k.dim(&product(tail));
        parallel_nest(k, lead_shape, &mut |k, coords| {
            let block = source(k, coords);
            let from = k.mul(block, run);
            let lead = flat(k, lead_shape, coords);
            self.e.relay_block(k, 0, from, lead, tail);
        });
    }

    /// Sums of rows: the axes behind the last resized one stay whole.
    fn whole_rows(&self, k: &mut Builder) {
        let (x, out) = (self.e.shape(0), self.e.out_shape());
        let depth = self.tables.last().map_or(0, |t| t.axis + 1);
        let (lead_shape, tail) = out.split_at(depth);
        let Some((last, rows)) = tail.split_last() else { return };
        let (zero, last, rows) = (k.int(0), k.dim(last), k.dim(&product(rows)));
        let lanes = self.lanes();
        parallel_nest(k, lead_shape, &mut |k, coords| {
            let blocks = self.blocks(k, &x[..depth], coords);
            let lead = flat(k, lead_shape, coords);
            let first = k.mul(lead, rows);
            k.for_each(zero, rows, 1, &mut |k, r| {
                let row = k.add(first, r);
                cover(k, last, lanes, &mut |k, col, lanes| {
                    let v = self.sum(k, &blocks, lanes, &mut |k, block| {
                        let line = k.mul(block, rows);
                        let line = k.add(line, r);
                        let start = k.mul(line, last);
                        k.add(start, col)
                    });
                    let v = self.finish(k, v);
                    self.e.store(k, row, col, v);
                });
            });
        });
    }

    /// Sums of rows in scratch memory, then along each of them.
    fn along_rows(&self, k: &mut Builder) {
        let (x, out) = (self.e.shape(0), self.e.out_shape());
        let (Some((last_out, rows)), Some((last, outer)), Some((table, _))) =
            (out.split_last(), x.split_last(), self.tables.split_last())
        else {
            return;
        };
        let elem = Ty::new(numbers::compute_elem(self.real), 1);
        let line = self.e.scratch(k, last * &Dim::from(i64::from(elem.bytes())));
        let (zero, n, cols) = (k.int(0), k.dim(last), k.dim(last_out));
        parallel_nest(k, rows, &mut |k, coords| {
            let row = flat(k, rows, coords);
            let blocks = self.blocks(k, outer, coords);
            cover(k, n, self.lanes(), &mut |k, i, lanes| {
                let v = self.sum(k, &blocks, lanes, &mut |k, block| {
                    let start = k.mul(block, n);
                    k.add(start, i)
                });
                let to = k.at_index(line, i, elem.bytes());
                k.store(to, v);
            });
            k.for_each(zero, cols, 1, &mut |k, col| {
                let init = k.zero(elem);
                let mut step = |k: &mut Builder, tap: Val, sum: Val| {
                    let index = table.index(k, col, tap);
                    let weight = table.weight(k, col, tap);
                    let from = k.at_index(line, index, elem.bytes());
                    let v = k.load(elem, from);
                    k.fma(v, weight, sum)
                };
                let v = each_tap(k, &table.taps, init, &mut step);
                let v = self.finish(k, v);
                self.e.store(k, row, col, v);
            });
        });
    }

    /// Crops: any mode, slowly; elements outside take the extrapolation value.
    fn element_by_element(&self, k: &mut Builder) {
        let (x, out) = (self.e.shape(0), self.e.out_shape());
        parallel_nest(k, out, &mut |k, coords| {
            let zero = k.int(0);
            let blocks = self.blocks(k, x, coords);
            let v = self.sum(k, &blocks, 1, &mut |_, block| block);
            let mut outside = zero;
            for table in self.tables {
                let from = k.at_index(table.outside, coords[table.axis], 8);
                let flag = k.load(Ty::I64, from);
                outside = k.bin(Bin::Or, outside, flag);
            }
            let outside = k.cmp(Cmp::Ne, outside, zero);
            let other = k.float(self.rule.extrapolation.get(), k.ty(v));
            let v = k.select(outside, other, v);
            let v = self.finish(k, v);
            let (row, col) = spot(k, out, coords);
            self.e.store(k, row, col, v);
        });
    }

    /// What a result block at `coords` is made of, `shape` being the operand's leading axes.
    fn blocks<'a>(&'a self, k: &mut Builder, shape: &'a [Dim], coords: &[Val]) -> Blocks<'a> {
        let short = |t: &Table| t.axis >= coords.len() || is_short(&t.taps);
        if !self.tables.iter().all(short) {
            return Blocks::Walk { shape, coords: coords.to_vec() };
        }
        let mut blocks: Vec<(Val, Option<Val>)> = vec![(k.int(0), None)];
        for (axis, &c) in coords.iter().enumerate() {
            let extent = k.dim(&shape[axis]);
            let table = self.table(axis);
            let own: Vec<(Val, Option<Val>)> = match table {
                None => vec![(c, None)],
                Some(table) => (0..table.taps.as_const().unwrap_or(0))
                    .map(|tap| {
                        let tap = k.int(tap);
                        (table.index(k, c, tap), Some(table.weight(k, c, tap)))
                    })
                    .collect(),
            };
            let mut next = Vec::with_capacity(blocks.len() * own.len());
            for &(block, weight) in &blocks {
                let start = k.mul(block, extent);
                for &(i, w) in &own {
                    let weight = match (weight, w) {
                        (Some(a), Some(b)) => Some(k.mul(a, b)),
                        (a, b) => a.or(b),
                    };
                    next.push((k.add(start, i), weight));
                }
            }
            blocks = next;
        }
        Blocks::List(blocks)
    }

    /// The weighted sum of lanes of all blocks; `at` gives the operand's flat index for a block.
    fn sum(
        &self,
        k: &mut Builder,
        blocks: &Blocks<'_>,
        lanes: u32,
        at: &mut dyn FnMut(&mut Builder, Val) -> Val,
    ) -> Val {
        let ty = Ty::new(numbers::compute_elem(self.real), lanes);
        let mut add = |k: &mut Builder, sum: Val, block: Val, weight: Option<Val>| {
            let index = at(k, block);
            let v = self.e.load(k, 0, index, lanes);
            let v = self.as_real(k, v);
            match weight {
                Some(weight) => {
                    let weight = k.splat(weight, lanes);
                    k.fma(v, weight, sum)
                }
                None => k.add(sum, v),
            }
        };
        let zero = k.zero(ty);
        match blocks {
            Blocks::List(list) => list.iter().fold(zero, |sum, &(block, weight)| add(k, sum, block, weight)),
            Blocks::Walk { shape, coords } => {
                let first = k.int(0);
                self.walk(k, shape, coords, 0, (first, None), zero, &mut add)
            }
        }
    }

    fn walk(
        &self,
        k: &mut Builder,
        shape: &[Dim],
        coords: &[Val],
        axis: usize,
        (block, weight): (Val, Option<Val>),
        sum: Val,
        add: &mut dyn FnMut(&mut Builder, Val, Val, Option<Val>) -> Val,
    ) -> Val {
        let Some(&c) = coords.get(axis) else { return add(k, sum, block, weight) };
        let extent = k.dim(&shape[axis]);
        let start = k.mul(block, extent);
        let Some(table) = self.table(axis) else {
            let block = k.add(start, c);
            return self.walk(k, shape, coords, axis + 1, (block, weight), sum, add);
        };
        each_tap(k, &table.taps, sum, &mut |k, tap, sum| {
            let index = table.index(k, c, tap);
            let own = table.weight(k, c, tap);
            let block = k.add(start, index);
            let weight = match weight {
                Some(weight) => k.mul(weight, own),
                None => own,
            };
            self.walk(k, shape, coords, axis + 1, (block, Some(weight)), sum, add)
        })
    }

    /// Lanes in which the operand and the interpolation both fit a register.
    fn lanes(&self) -> u32 {
        self.e.lanes(self.e.dtype(0)).min(self.e.lanes(self.real)).min(
            if numbers::compute_elem(self.e.dtype(0)).bytes() == numbers::compute_elem(self.real).bytes() {
                u32::MAX
            } else {
                1
            },
        )
    }

    fn as_real(&self, k: &mut Builder, v: Val) -> Val {
        let dtype = self.e.dtype(0);
        if dtype.is_float() { v } else { numbers::cast(k, v, dtype, self.real, false) }
    }

    /// The result's register type again.
    fn finish(&self, k: &mut Builder, v: Val) -> Val {
        let dtype = self.e.dtype(0);
        if dtype.is_float() { v } else { numbers::cast(k, v, self.real, dtype, false) }
    }
}

/// Blocks of the operand that a block of the result is a weighted sum of.
enum Blocks<'a> {
    /// Index and weight of each; no weight means 1.
    List(Vec<(Val, Option<Val>)>),
    /// Too many: found by loops.
    Walk { shape: &'a [Dim], coords: Vec<Val> },
}

/// Carries a sum through all taps, unrolled when they are few.
fn each_tap(k: &mut Builder, taps: &Dim, init: Val, step: &mut dyn FnMut(&mut Builder, Val, Val) -> Val) -> Val {
    let (zero, count) = (k.int(0), k.dim(taps));
    if is_short(taps) {
        return (0..taps.as_const().unwrap_or(0)).fold(init, |sum, tap| {
            let tap = k.int(tap);
            step(k, tap, sum)
        });
    }
    k.fold_loop(zero, count, 1, &[init], &mut |k, tap, sum| vec![step(k, tap, sum[0])])[0]
}

fn is_short(taps: &Dim) -> bool {
    taps.as_const().is_some_and(|t| t <= UNROLL)
}
