//! Operations that move elements: the gradient goes back to where each element came from.

use mcc_ir::eval::eval_op;
use mcc_ir::{DType, NearestMode, Op, ResizeRule, Result, SampleMode, Tensor, TensorType};

use super::{Call, Operator, Pass};

/// Stands for an element that comes from nowhere.
const NOWHERE: u32 = u32::MAX;

/// The operator of an operation that moves elements.
pub fn operator(call: &Call) -> Result<Option<Box<dyn Operator>>> {
    Ok(match call.op {
        Op::Reshape { .. } => Some(Box::new(Same)),
        Op::Concat { axis } => concat(call, *axis).map(|c| Box::new(c) as Box<dyn Operator>),
        Op::Resize { rule, .. } if rule.mode != SampleMode::Nearest => resize(call, rule)?,
        Op::Transpose { .. } | Op::Broadcast { .. } | Op::Slice { .. } | Op::Pad { .. } | Op::Resize { .. } => {
            moved(call)?
        }
        Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. } | Op::ReverseSequence { .. } => {
            moved(call)?
        }
        _ => None,
    })
}

/// The same elements.
struct Same;

impl Operator for Same {
    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        y.copy_from_slice(x[0]);
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let Some(dx) = &mut dx[0] else { return };
        dx.iter_mut().zip(pass.dy).for_each(|(dx, dy)| *dx += dy);
    }
}

/// Elements of the first operand at other places.
struct Moved {
    /// The place that each element of the result comes from.
    from: Vec<u32>,
    /// The value of those that come from nowhere.
    fill: f32,
}

/// Finds out where elements come from by moving their numbers.
fn moved(call: &Call) -> Result<Option<Box<dyn Operator>>> {
    let Some(shape) = call.shape(0) else { return Ok(None) };
    let count: usize = shape.iter().product();
    if count >= NOWHERE as usize {
        return Ok(None);
    }
    let numbers: Vec<f64> = (0..count).map(|n| n as f64).collect();
    let mut operands = vec![Tensor::from_f64s(DType::F64, shape, &numbers)?];
    let mut fill = 0.0;
    for constant in &call.constants[1..] {
        let Some(constant) = constant else { return Ok(None) };
        operands.push((*constant).clone());
    }
    if let (Op::Pad { .. }, Some(value)) = (call.op, operands.get_mut(1)) {
        fill = value.f64_at(0) as f32;
        *value = Tensor::scalar_f64(DType::F64, -1.0);
    }
    let result = TensorType { dtype: DType::F64, ..call.result.clone() };
    let places = eval_op(call.op, &operands, &[result])?.remove(0).to_f64s();
    let from = places.into_iter().map(|p| if p < 0.0 { NOWHERE } else { p as u32 }).collect();
    Ok(Some(Box::new(Moved { from, fill })))
}

impl Operator for Moved {
    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        let value = |from: u32| if from == NOWHERE { self.fill } else { x[0][from as usize] };
        y.iter_mut().zip(&self.from).for_each(|(y, &from)| *y = value(from));
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let Some(dx) = &mut dx[0] else { return };
        for (&from, dy) in self.from.iter().zip(pass.dy).filter(|(from, _)| **from != NOWHERE) {
            dx[from as usize] += dy;
        }
    }
}

/// Operands one after another along an axis.
struct Concat {
    /// Elements of each operand for one index of the axes before.
    parts: Vec<usize>,
}

fn concat(call: &Call, axis: usize) -> Option<Concat> {
    let part = |n: usize| call.shape(n).map(|s| s[axis..].iter().product());
    Some(Concat { parts: (0..call.operands.len()).map(part).collect::<Option<_>>()? })
}

impl Concat {
    /// Where each operand's part begins in a row of the result.
    fn starts(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().scan(0, |at, &part| Some(std::mem::replace(at, *at + part)))
    }
}

impl Operator for Concat {
    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        let row = self.parts.iter().sum::<usize>().max(1);
        for (n, start) in self.starts().enumerate().filter(|&(n, _)| self.parts[n] > 0) {
            let rows = x[n].chunks_exact(self.parts[n]).zip(y.chunks_exact_mut(row));
            rows.for_each(|(x, y)| y[start..][..self.parts[n]].copy_from_slice(x));
        }
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let row = self.parts.iter().sum::<usize>().max(1);
        for (n, start) in self.starts().enumerate().filter(|&(n, _)| self.parts[n] > 0) {
            let Some(dx) = &mut dx[n] else { continue };
            for (dx, dy) in dx.chunks_exact_mut(self.parts[n]).zip(pass.dy.chunks_exact(row)) {
                dx.iter_mut().zip(&dy[start..]).for_each(|(dx, dy)| *dx += dy);
            }
        }
    }
}

/// A sum of weighted neighbours along one axis after another.
struct Interpolation {
    axes: Vec<Axis>,
}

/// The matrix of one axis: `to` rows of `from` weights.
struct Axis {
    weights: Vec<f32>,
    from: usize,
    to: usize,
    /// Elements for one index of the axis.
    inner: usize,
}

/// Finds the weights by resizing unit vectors; the axes are independent of one another.
fn resize(call: &Call, rule: &ResizeRule) -> Result<Option<Box<dyn Operator>>> {
    let (Some(mut shape), Some(result)) = (call.shape(0), call.result_shape()) else { return Ok(None) };
    let crops = rule.coordinates == mcc_ir::CoordinateMode::TfCropAndResize;
    if crops || shape.iter().chain(&result).any(|&e| e == 0) {
        return Ok(None);
    }
    let mut axes = Vec::new();
    for axis in (0..shape.len()).filter(|&a| shape[a] != result[a]).collect::<Vec<_>>() {
        let (from, to) = (shape[axis], result[axis]);
        let line =
            |extent: usize| -> Vec<usize> { (0..shape.len()).map(|a| if a == axis { extent } else { 1 }).collect() };
        let mut rule = ResizeRule { nearest: NearestMode::Floor, ..rule.clone() };
        rule.scales.iter_mut().enumerate().filter(|(a, _)| *a != axis).for_each(|(_, s)| *s = 1.0.into());
        let op = Op::Resize { sizes: line(to).into_iter().map(Into::into).collect(), rule };
        let ty = TensorType::fixed(DType::F64, &line(to));
        let mut weights = vec![0.0; from * to];
        for unit in 0..from {
            let mut values = vec![0.0; from];
            values[unit] = 1.0;
            let column =
                eval_op(&op, &[Tensor::from_f64s(DType::F64, line(from), &values)?], std::slice::from_ref(&ty))?;
            column[0].to_f64s().into_iter().enumerate().for_each(|(row, w)| weights[row * from + unit] = w as f32);
        }
        axes.push(Axis { weights, from, to, inner: shape[axis + 1..].iter().product() });
        shape[axis] = to;
    }
    Ok(Some(Box::new(Interpolation { axes })))
}

impl Axis {
    /// Shows each weight that is not 0 with the beginnings of the runs that it joins.
    fn each(&self, elements: usize, mut see: impl FnMut(usize, usize, f32)) {
        for block in 0..elements / (self.from * self.inner).max(1) {
            for to in 0..self.to {
                for from in 0..self.from {
                    let weight = self.weights[to * self.from + from];
                    if weight != 0.0 {
                        see((block * self.from + from) * self.inner, (block * self.to + to) * self.inner, weight);
                    }
                }
            }
        }
    }
}

impl Operator for Interpolation {
    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        let mut data = x[0].to_vec();
        for axis in &self.axes {
            let mut next = vec![0.0; data.len() / axis.from * axis.to];
            axis.each(data.len(), |from, to, weight| {
                let (x, y) = (&data[from..][..axis.inner], &mut next[to..][..axis.inner]);
                y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
            });
            data = next;
        }
        y.copy_from_slice(&data);
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let Some(dx) = &mut dx[0] else { return };
        let mut data = pass.dy.to_vec();
        for axis in self.axes.iter().rev() {
            let mut next = vec![0.0; data.len() / axis.to * axis.from];
            axis.each(next.len(), |from, to, weight| {
                let (y, x) = (&data[to..][..axis.inner], &mut next[from..][..axis.inner]);
                x.iter_mut().zip(y).for_each(|(x, y)| *x += weight * y);
            });
            data = next;
        }
        dx.iter_mut().zip(data).for_each(|(dx, d)| *dx += d);
    }
}
