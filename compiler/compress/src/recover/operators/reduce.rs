//! Reductions, softmax and normalisation.

use mcc_ir::{Op, ReduceKind, Result};

use super::elementwise::Broadcasting;
use super::{Call, Operator, Pass};

/// The operator of an operation along axes.
pub fn operator(call: &Call) -> Result<Option<Box<dyn Operator>>> {
    let (Some(x), Some(_)) = (call.shape(0), call.result_shape()) else { return Ok(None) };
    if x.contains(&0) {
        return Ok(None);
    }
    Ok(match call.op {
        Op::Reduce { kind, axes, .. } if *kind != ReduceKind::Prod => {
            let kept: Vec<usize> = x.iter().enumerate().map(|(a, &e)| if axes.contains(&a) { 1 } else { e }).collect();
            let count: usize = axes.iter().map(|&a| x[a]).product();
            let part = if *kind == ReduceKind::Mean { 1.0 / count as f32 } else { 1.0 };
            Some(Box::new(Reduce { kind: *kind, part, broadcasting: Broadcasting::new(&[kept], &x) }))
        }
        Op::Softmax { axis, log } => {
            Some(Box::new(Softmax { extent: x[*axis], inner: x[axis + 1..].iter().product(), log: *log }))
        }
        Op::Normalize { axis, epsilon, center } => {
            Some(Box::new(Normalize { extent: x[*axis..].iter().product(), epsilon: epsilon.get(), center: *center }))
        }
        _ => None,
    })
}

struct Reduce {
    kind: ReduceKind,
    /// What each element counts in a sum.
    part: f32,
    /// How results meet operands.
    broadcasting: Broadcasting,
}

impl Operator for Reduce {
    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        let x = x[0];
        match self.kind {
            ReduceKind::Max => {
                y.fill(f32::NEG_INFINITY);
                self.broadcasting.each(|at, [to]| y[to] = if x[at] > y[to] || x[at].is_nan() { x[at] } else { y[to] });
            }
            ReduceKind::Min => {
                y.fill(f32::INFINITY);
                self.broadcasting.each(|at, [to]| y[to] = if x[at] < y[to] || x[at].is_nan() { x[at] } else { y[to] });
            }
            ReduceKind::Sum | ReduceKind::Mean | ReduceKind::Prod => {
                let mut sums = vec![0.0f64; y.len()];
                self.broadcasting.each(|at, [to]| sums[to] += f64::from(x[at]));
                y.iter_mut().zip(sums).for_each(|(y, sum)| *y = (sum * f64::from(self.part)) as f32);
            }
        }
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let Some(dx) = &mut dx[0] else { return };
        match self.kind {
            ReduceKind::Max | ReduceKind::Min => {
                // The first of equal elements.
                let mut taken = vec![false; pass.y.len()];
                self.broadcasting.each(|at, [to]| {
                    if pass.x[0][at] == pass.y[to] && !std::mem::replace(&mut taken[to], true) {
                        dx[at] += pass.dy[to];
                    }
                });
            }
            ReduceKind::Sum | ReduceKind::Mean | ReduceKind::Prod => {
                self.broadcasting.each(|at, [to]| dx[at] += self.part * pass.dy[to]);
            }
        }
    }
}

struct Softmax {
    extent: usize,
    inner: usize,
    log: bool,
}

impl Softmax {
    /// Calls `f` with the places of each line.
    fn lines(&self, elements: usize, mut f: impl FnMut(&dyn Fn(usize) -> usize)) {
        for line in 0..elements / self.extent {
            let start = line / self.inner * self.extent * self.inner + line % self.inner;
            f(&|i| start + i * self.inner);
        }
    }
}

impl Operator for Softmax {
    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        let (x, count) = (x[0], y.len());
        self.lines(count, |at| {
            let largest = (0..self.extent).fold(f32::NEG_INFINITY, |m, i| m.max(x[at(i)]));
            let sum: f64 = (0..self.extent).map(|i| f64::from((x[at(i)] - largest).exp())).sum();
            for i in 0..self.extent {
                let place = at(i);
                y[place] = match self.log {
                    true => x[place] - largest - sum.ln() as f32,
                    false => (f64::from((x[place] - largest).exp()) / sum) as f32,
                };
            }
        });
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let Some(dx) = &mut dx[0] else { return };
        let (y, dy) = (pass.y, pass.dy);
        self.lines(y.len(), |at| {
            let weight = |i: usize| f64::from(dy[at(i)]) * if self.log { 1.0 } else { f64::from(y[at(i)]) };
            let sum = (0..self.extent).map(weight).sum::<f64>() as f32;
            for i in 0..self.extent {
                let place = at(i);
                dx[place] += match self.log {
                    true => dy[place] - y[place].exp() * sum,
                    false => y[place] * (dy[place] - sum),
                };
            }
        });
    }
}

struct Normalize {
    extent: usize,
    epsilon: f64,
    center: bool,
}

impl Normalize {
    /// The mean that is taken off a row, and what the rest is multiplied by.
    fn measure(&self, x: &[f32]) -> [f64; 2] {
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / self.extent as f64;
        let center = if self.center { mean(&mut x.iter().map(|&v| f64::from(v))) } else { 0.0 };
        let variance = mean(&mut x.iter().map(|&v| (f64::from(v) - center).powi(2)));
        [center, 1.0 / (variance + self.epsilon).sqrt()]
    }
}

impl Operator for Normalize {
    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        for (x, y) in x[0].chunks_exact(self.extent).zip(y.chunks_exact_mut(self.extent)) {
            let [center, factor] = self.measure(x);
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = ((f64::from(x) - center) * factor) as f32);
        }
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let Some(dx) = &mut dx[0] else { return };
        let rows = pass.x[0].chunks_exact(self.extent).zip(pass.y.chunks_exact(self.extent));
        let rows = rows.zip(pass.dy.chunks_exact(self.extent));
        for (dx, ((x, y), dy)) in dx.chunks_exact_mut(self.extent).zip(rows) {
            let [_, factor] = self.measure(x);
            let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / self.extent as f64;
            let along = mean(&mut dy.iter().zip(y).map(|(&d, &y)| f64::from(d) * f64::from(y)));
            let level = if self.center { mean(&mut dy.iter().map(|&d| f64::from(d))) } else { 0.0 };
            for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                *dx += (factor * (f64::from(dy) - level - f64::from(y) * along)) as f32;
            }
        }
    }
}
