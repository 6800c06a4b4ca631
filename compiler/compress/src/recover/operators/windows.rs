//! Windows that slide over spatial axes, and pooling over them.

use mcc_ir::{ConvSpec, Layout, Op, PoolKind, PoolSpec, Result};

use super::{Call, Operator, Pass, vectors};

/// How windows slide.
pub struct Sliding {
    strides: Vec<i64>,
    dilations: Vec<i64>,
    before: Vec<i64>,
}

impl From<&ConvSpec> for Sliding {
    fn from(spec: &ConvSpec) -> Sliding {
        let before = spec.pads.iter().map(|p| p.0).collect();
        Sliding { strides: spec.strides.clone(), dilations: spec.dilations.clone(), before }
    }
}

impl From<&PoolSpec> for Sliding {
    fn from(spec: &PoolSpec) -> Sliding {
        let before = spec.pads.iter().map(|p| p.0).collect();
        Sliding { strides: spec.strides.clone(), dilations: spec.dilations.clone(), before }
    }
}

/// Neighbouring windows whose elements of one kind are on the data.
struct Run {
    /// The first window.
    narrow: usize,
    /// Its element's place.
    wide: usize,
    /// The number of windows.
    len: usize,
}

/// For each element of the window, where it lies as windows slide over the "wide" side; the "narrow" side has one
/// element for each window.
pub struct Windows {
    /// Elements of the wide side.
    pub wide: usize,
    /// Windows.
    pub narrow: usize,
    runs: Vec<Vec<Run>>,
    /// Distance on the wide side of neighbouring windows in a run.
    step: usize,
}

impl Windows {
    /// Windows of extents `kernel`.
    pub fn new(wide: &[usize], narrow: &[usize], kernel: &[usize], sliding: &Sliding) -> Windows {
        let taps = coordinates(kernel).map(|tap| runs(wide, narrow, &tap, sliding)).collect();
        let step = sliding.strides.last().map_or(1, |&s| s as usize);
        Windows { wide: wide.iter().product(), narrow: narrow.iter().product(), runs: taps, step }
    }

    /// Elements of a window.
    pub fn taps(&self) -> usize {
        self.runs.len()
    }

    /// Whether windows are the elements of the wide side.
    pub fn is_identity(&self) -> bool {
        let in_place = |run: &Run| run.narrow == run.wide;
        let whole = |runs: &Vec<Run>| runs.iter().map(|r| r.len).sum::<usize>() == self.narrow;
        self.taps() == 1
            && self.wide == self.narrow
            && self.step == 1
            && self.runs.iter().all(|runs| whole(runs) && runs.iter().all(in_place))
    }

    /// Shows the pairs of elements that one element of the window joins.
    fn each(&self, tap: usize, mut see: impl FnMut(usize, usize)) {
        for run in &self.runs[tap] {
            (0..run.len).for_each(|i| see(run.wide + i * self.step, run.narrow + i));
        }
    }

    /// Copies an element of each window; those outside the data stay.
    pub fn copy(&self, tap: usize, wide: &[f32], narrow: &mut [f32]) {
        for run in &self.runs[tap] {
            let to = &mut narrow[run.narrow..][..run.len];
            match self.step {
                1 => to.copy_from_slice(&wide[run.wide..][..run.len]),
                step => to.iter_mut().zip(wide[run.wide..].iter().step_by(step)).for_each(|(to, from)| *to = *from),
            }
        }
    }

    /// Adds `weight` times an element of each window.
    pub fn add_gathered(&self, tap: usize, weight: f32, wide: &[f32], narrow: &mut [f32]) {
        vectors::vectorized(|| {
            for run in &self.runs[tap] {
                let (to, from) = (&mut narrow[run.narrow..][..run.len], &wide[run.wide..]);
                match self.step {
                    1 => to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from),
                    step => to.iter_mut().zip(from.iter().step_by(step)).for_each(|(to, from)| *to += weight * from),
                }
            }
        });
    }

    /// Adds `weight` times each window's value to an element of it.
    pub fn add_scattered(&self, tap: usize, weight: f32, narrow: &[f32], wide: &mut [f32]) {
        vectors::vectorized(|| {
            for run in &self.runs[tap] {
                let (from, to) = (&narrow[run.narrow..][..run.len], &mut wide[run.wide..]);
                match self.step {
                    1 => to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from),
                    step => to.iter_mut().step_by(step).zip(from).for_each(|(to, from)| *to += weight * from),
                }
            }
        });
    }

    /// The sum of products of each window's value with an element of it.
    pub fn dot(&self, tap: usize, wide: &[f32], narrow: &[f32]) -> f32 {
        vectors::vectorized(|| {
            let mut sum = 0.0;
            for run in &self.runs[tap] {
                let (a, b) = (&narrow[run.narrow..][..run.len], &wide[run.wide..]);
                sum += match self.step {
                    1 => vectors::dot(a, &b[..run.len]),
                    step => a.iter().zip(b.iter().step_by(step)).map(|(a, b)| a * b).sum::<f32>(),
                };
            }
            sum
        })
    }
}

/// All coordinates within extents, row-major.
fn coordinates(extents: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    (0..extents.iter().product::<usize>()).map(|mut at| {
        let mut coordinates = vec![0; extents.len()];
        for axis in (0..extents.len()).rev() {
            coordinates[axis] = at % extents[axis];
            at /= extents[axis];
        }
        coordinates
    })
}

/// The runs of one element of the window along the last axis.
fn runs(wide: &[usize], narrow: &[usize], tap: &[usize], sliding: &Sliding) -> Vec<Run> {
    let Some(last) = narrow.len().checked_sub(1) else { return vec![Run { narrow: 0, wide: 0, len: 1 }] };
    // The place on an axis of this element for the first window.
    let first = |axis: usize| tap[axis] as i64 * sliding.dilations[axis] - sliding.before[axis];
    let (begin, stride, extent) = (first(last), sliding.strides[last], wide[last] as i64);
    let low = (-begin).max(0).div_euclid(stride) + i64::from((-begin).max(0) % stride != 0);
    let high = ((extent - begin + stride - 1).div_euclid(stride)).min(narrow[last] as i64);
    let mut runs = Vec::new();
    if low >= high {
        return runs;
    }
    for at in coordinates(&narrow[..last]) {
        let (mut from, mut to, mut inside) = (0, 0, true);
        for axis in 0..last {
            let place = first(axis) + at[axis] as i64 * sliding.strides[axis];
            inside &= (0..wide[axis] as i64).contains(&place);
            from = from * wide[axis] as i64 + place;
            to = to * narrow[axis] + at[axis];
        }
        if inside {
            let wide = (from * extent + begin + low * stride) as usize;
            runs.push(Run { narrow: to * narrow[last] + low as usize, wide, len: (high - low) as usize });
        }
    }
    runs
}

/// The operator of a pooling.
pub fn operator(call: &Call) -> Result<Option<Box<dyn Operator>>> {
    let Op::Pool(spec) = call.op else { return Ok(None) };
    let (Some(x), Some(y)) = (call.shape(0), call.result_shape()) else { return Ok(None) };
    if spec.layout != Layout::ChannelsFirst || x.len() < 3 || x.iter().chain(&y).any(|&e| e == 0) {
        return Ok(None);
    }
    let kernel: Vec<usize> = spec.kernel.iter().map(|&k| k as usize).collect();
    let windows = Windows::new(&x[2..], &y[2..], &kernel, &spec.into());
    Ok(match spec.kind {
        PoolKind::Max => Some(Box::new(Largest { windows })),
        PoolKind::Average { include_pad: false } => {
            let mut counts = vec![0.0; windows.narrow];
            (0..windows.taps()).for_each(|tap| windows.each(tap, |_, window| counts[window] += 1.0f32));
            let parts = counts.into_iter().map(|count| 1.0 / count.max(1.0)).collect();
            Some(Box::new(Mean { windows, parts }))
        }
        PoolKind::Average { include_pad: true } => {
            let parts = padded_parts(spec, &kernel, &x[2..], &y[2..]);
            Some(Box::new(Mean { windows, parts }))
        }
        PoolKind::Lp { .. } => None,
    })
}

/// One over the elements of each window that are on the data or its padding.
fn padded_parts(spec: &PoolSpec, kernel: &[usize], x: &[usize], y: &[usize]) -> Vec<f32> {
    let count = |axis: usize, window: usize| {
        let (before, after) = spec.pads[axis];
        let start = window as i64 * spec.strides[axis] - before;
        let place = |tap: usize| start + tap as i64 * spec.dilations[axis];
        (0..kernel[axis]).filter(|&tap| place(tap) < x[axis] as i64 + after).count().max(1)
    };
    coordinates(y)
        .map(|window| 1.0 / window.iter().enumerate().map(|(axis, &w)| count(axis, w)).product::<usize>() as f32)
        .collect()
}

/// The largest element of each window.
struct Largest {
    windows: Windows,
}

impl Largest {
    /// The place of the largest element of each window of a plane.
    fn places(&self, x: &[f32]) -> Vec<usize> {
        let mut places = vec![usize::MAX; self.windows.narrow];
        for tap in 0..self.windows.taps() {
            self.windows.each(tap, |wide, narrow| {
                let best = &mut places[narrow];
                if *best == usize::MAX || x[wide] > x[*best] || x[wide].is_nan() {
                    *best = wide;
                }
            });
        }
        places
    }
}

impl Operator for Largest {
    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        for (x, y) in x[0].chunks_exact(self.windows.wide).zip(y.chunks_exact_mut(self.windows.narrow)) {
            let places = self.places(x);
            y.iter_mut().zip(places).for_each(|(y, p)| *y = x.get(p).copied().unwrap_or(f32::NEG_INFINITY));
        }
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let Some(dx) = &mut dx[0] else { return };
        let planes = pass.x[0].chunks_exact(self.windows.wide).zip(pass.dy.chunks_exact(self.windows.narrow));
        for (dx, (x, dy)) in dx.chunks_exact_mut(self.windows.wide).zip(planes) {
            for (place, dy) in self.places(x).into_iter().zip(dy) {
                if let Some(dx) = dx.get_mut(place) {
                    *dx += dy;
                }
            }
        }
    }
}

/// The mean of each window.
struct Mean {
    windows: Windows,
    /// One over the number of elements of each window.
    parts: Vec<f32>,
}

impl Operator for Mean {
    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        for (x, y) in x[0].chunks_exact(self.windows.wide).zip(y.chunks_exact_mut(self.windows.narrow)) {
            (0..self.windows.taps()).for_each(|tap| self.windows.add_gathered(tap, 1.0, x, y));
            y.iter_mut().zip(&self.parts).for_each(|(y, part)| *y *= part);
        }
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let Some(dx) = &mut dx[0] else { return };
        let planes = dx.chunks_exact_mut(self.windows.wide).zip(pass.dy.chunks_exact(self.windows.narrow));
        for (dx, dy) in planes {
            let shares: Vec<f32> = dy.iter().zip(&self.parts).map(|(dy, part)| dy * part).collect();
            (0..self.windows.taps()).for_each(|tap| self.windows.add_scattered(tap, 1.0, &shares, dx));
        }
    }
}
