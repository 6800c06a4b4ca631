//! Recurrent layers.

use super::math::{sigmoid, softplus};
use crate::{Activation, Cell, CellSpec, Tensor};
use crate::{Error, Result};

/// One step's inputs for one sequence.
struct CellStep<'a> {
    spec: &'a CellSpec,
    /// The projected input, all gates.
    xw: &'a [f64],
    /// `[hidden, gates * hidden]`.
    r: &'a [f64],
    /// The hidden gate's recurrence bias, or empty.
    rbh: &'a [f64],
    /// Peephole weights `i o f`, or empty.
    peephole: &'a [f64],
    /// Factors of the product's columns, or empty.
    scales: &'a [f64],
}

pub(super) fn recurrent(operands: &[Tensor], spec: &CellSpec) -> Result<Vec<Tensor>> {
    let (dtype, shape) = (operands[0].dtype(), operands[0].shape());
    let (time, batch, width) = (shape[0], shape[1], shape[2]);
    let (xw, mut r, mut h) = (operands[0].to_f64s(), operands[1].to_f64s(), operands[2].to_f64s());
    let hidden = match *operands[1].shape() {
        _ if spec.coded.is_some() => operands[2].shape()[1],
        [_, hidden, tile] => {
            r = (0..hidden * width)
                .map(|i| (i / width, i % width))
                .map(|(row, column)| r[(column / tile * hidden + row) * tile + column % tile])
                .collect();
            hidden
        }
        [_, steps, tile, _] => {
            let hidden = operands[2].shape()[1];
            r = (0..hidden * width)
                .map(|i| (i / width, i % width))
                .map(|(row, column)| ((column / tile * steps + row / 4) * tile + column % tile) * 4 + row % 4)
                .map(|at| r[at])
                .collect();
            hidden
        }
        ref shape => shape[0],
    };
    let mut rest = operands[3..].iter();
    let mut next = |present: bool| if present { rest.next().map(Tensor::to_f64s) } else { None };
    let mut c = next(spec.cell == Cell::Lstm).unwrap_or_default();
    let rbh = next(spec.cell == Cell::Gru { linear_before_reset: true }).unwrap_or_default();
    let peephole = next(spec.peephole).unwrap_or_default();
    let lengths = next(spec.lengths).unwrap_or_else(|| vec![time as f64; batch]);
    let scales = next(spec.quantized).unwrap_or_default();
    if let Some(coded) = spec.coded {
        let [of_codes, parameters @ ..] = rest.as_slice() else {
            return Err(Error::internal("codes of recurrence weights without scales"));
        };
        r = coded.decode(&operands[1], of_codes, parameters.first(), [hidden, width])?.to_f64s();
    }
    let mut y = vec![0.0; time * batch * hidden];
    for t in 0..time {
        let t = if spec.reverse { time - 1 - t } else { t };
        for b in 0..batch {
            if t as f64 >= lengths[b] {
                continue;
            }
            let xw = &xw[(t * batch + b) * width..(t * batch + b + 1) * width];
            let step = CellStep { spec, xw, r: &r, rbh: &rbh, peephole: &peephole, scales: &scales };
            let state = &mut h[b * hidden..(b + 1) * hidden];
            if spec.quantized {
                quantize(state);
            }
            match spec.cell {
                Cell::Rnn => step.rnn(state),
                Cell::Gru { linear_before_reset } => step.gru(state, linear_before_reset),
                Cell::Lstm => step.lstm(state, &mut c[b * hidden..(b + 1) * hidden]),
            }
            y[(t * batch + b) * hidden..(t * batch + b + 1) * hidden].copy_from_slice(state);
        }
    }
    let mut results = vec![
        Tensor::from_f64s(dtype, vec![time, batch, hidden], &y)?,
        Tensor::from_f64s(dtype, vec![batch, hidden], &h)?,
    ];
    if spec.cell == Cell::Lstm {
        results.push(Tensor::from_f64s(dtype, vec![batch, hidden], &c)?);
    }
    Ok(results)
}

/// Rounds a state to 8 bits over its range including 0.
fn quantize(h: &mut [f64]) {
    let low = h.iter().fold(0.0f64, |m, &v| m.min(v));
    let high = h.iter().fold(0.0f64, |m, &v| m.max(v));
    let scale = f64::from(((high - low) / 255.0) as f32);
    if scale == 0.0 {
        return;
    }
    let zero = (-low / scale).round_ties_even().clamp(0.0, 255.0);
    for v in h {
        let q = ((*v / scale).round_ties_even() + zero).clamp(0.0, 255.0);
        *v = (q - zero) * scale;
    }
}

impl CellStep<'_> {
    /// The recurrence's linear part of gate `gate`, unit `j`.
    fn linear(&self, h: &[f64], gate: usize, j: usize) -> f64 {
        let n = h.len();
        let sum: f64 = (0..n).map(|k| h[k] * self.r[k * self.xw.len() + gate * n + j]).sum();
        self.scales.get(gate * n + j).map_or(sum, |scale| sum * scale)
    }

    fn clip(&self, x: f64) -> f64 {
        match self.spec.clip {
            Some(limit) => x.clamp(-limit.get().abs(), limit.get().abs()),
            None => x,
        }
    }

    fn activate(&self, which: usize, x: f64) -> f64 {
        activation(self.spec.activations[which], self.clip(x))
    }

    fn rnn(&self, h: &mut [f64]) {
        let new: Vec<f64> = (0..h.len()).map(|j| self.activate(0, self.xw[j] + self.linear(h, 0, j))).collect();
        h.copy_from_slice(&new);
    }

    fn gru(&self, h: &mut [f64], linear_before_reset: bool) {
        let n = h.len();
        let gate = |gate: usize, j: usize| self.activate(0, self.xw[gate * n + j] + self.linear(h, gate, j));
        let z: Vec<f64> = (0..n).map(|j| gate(0, j)).collect();
        let r: Vec<f64> = (0..n).map(|j| gate(1, j)).collect();
        let reset: Vec<f64> = (0..n).map(|j| r[j] * h[j]).collect();
        let new: Vec<f64> = (0..n)
            .map(|j| {
                let linear = match linear_before_reset {
                    true => r[j] * (self.linear(h, 2, j) + self.rbh[j]),
                    false => self.linear(&reset, 2, j),
                };
                let candidate = self.activate(1, self.xw[2 * n + j] + linear);
                (1.0 - z[j]) * candidate + z[j] * h[j]
            })
            .collect();
        h.copy_from_slice(&new);
    }

    fn lstm(&self, h: &mut [f64], c: &mut [f64]) {
        let n = h.len();
        let linear: Vec<f64> = (0..4 * n).map(|g| self.xw[g] + self.linear(h, g / n, g % n)).collect();
        for j in 0..n {
            let peep = |gate: usize, c: f64| self.peephole.get(gate * n + j).map_or(0.0, |p| p * c);
            let i = self.activate(0, linear[j] + peep(0, c[j]));
            let f = match self.spec.coupled {
                true => 1.0 - i,
                false => self.activate(0, linear[2 * n + j] + peep(2, c[j])),
            };
            c[j] = f * c[j] + i * self.activate(1, linear[3 * n + j]);
            let o = self.activate(0, linear[n + j] + peep(1, c[j]));
            h[j] = o * activation(self.spec.activations[2], c[j]);
        }
    }
}

fn activation(f: Activation, x: f64) -> f64 {
    match f {
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Relu => x.max(0.0),
        Activation::LeakyRelu { alpha } => {
            if x < 0.0 {
                alpha.get() * x
            } else {
                x
            }
        }
        Activation::ThresholdedRelu { alpha } => {
            if x > alpha.get() {
                x
            } else {
                0.0
            }
        }
        Activation::ScaledTanh { alpha, beta } => alpha.get() * (beta.get() * x).tanh(),
        Activation::HardSigmoid { alpha, beta } => (alpha.get() * x + beta.get()).clamp(0.0, 1.0),
        Activation::Elu { alpha } => {
            if x < 0.0 {
                alpha.get() * x.exp_m1()
            } else {
                x
            }
        }
        Activation::Affine { alpha, beta } => alpha.get() * x + beta.get(),
        Activation::Softsign => x / (1.0 + x.abs()),
        Activation::Softplus => softplus(x),
    }
}
