//! Recurrent layers, differentiated through time (Werbos 1990).
//!
//! Contract: the results are one after another, as [`Operator`] says. The states of each step are computed again for the
//! gradients.

use std::ops::Range;

use faer::{MatMut, MatRef};
use mcc_ir::{Activation, Cell, CellSpec, Op, Result};

use super::products::add;
use super::{Call, Operator, Pass};

/// The operand of projected data.
const DATA: usize = 0;
/// That of recurrence weights.
const WEIGHTS: usize = 1;
/// That of first states.
const STATE: usize = 2;

struct Recurrent {
    spec: CellSpec,
    steps: usize,
    batch: usize,
    hidden: usize,
    /// Places of the operands that some cells have.
    cell: Option<usize>,
    bias: Option<usize>,
    peephole: Option<usize>,
    lengths: Option<usize>,
}

/// The operator of a recurrent layer with plain weights.
pub fn operator(call: &Call) -> Result<Option<Box<dyn Operator>>> {
    let Op::Recurrent(spec) = call.op else { return Ok(None) };
    let (Some(result), Some(weights)) = (call.result_shape(), call.shape(WEIGHTS)) else { return Ok(None) };
    let &[steps, batch, hidden] = &result[..] else { return Ok(None) };
    if spec.quantized || spec.coded.is_some() || weights != [hidden, spec.cell.gates() * hidden] {
        return Ok(None);
    }
    let mut next = STATE + 1;
    let mut place = |present: bool| {
        next += usize::from(present);
        present.then_some(next - 1)
    };
    let cell = place(spec.cell == Cell::Lstm);
    let bias = place(spec.cell == Cell::Gru { linear_before_reset: true });
    let peephole = place(spec.peephole);
    let lengths = place(spec.lengths);
    Ok(Some(Box::new(Recurrent { spec: spec.clone(), steps, batch, hidden, cell, bias, peephole, lengths })))
}

/// What a run computes, step after step in the order in which they run; states have one more, the first.
struct Tape {
    h: Vec<f32>,
    c: Vec<f32>,
    /// What the gates' activations read.
    sums: Vec<f32>,
    /// What they give.
    gates: Vec<f32>,
    /// What is added to a GRU's hidden gate: a product with the weights, and its bias if it has one.
    linear: Vec<f32>,
}

impl Recurrent {
    fn width(&self) -> usize {
        self.spec.cell.gates() * self.hidden
    }

    /// Elements of a step's states.
    fn state(&self) -> usize {
        self.batch * self.hidden
    }

    /// The states after a number of steps.
    fn after(&self, steps: usize) -> Range<usize> {
        steps * self.state()..(steps + 1) * self.state()
    }

    /// The time of a step.
    fn time(&self, step: usize) -> usize {
        if self.spec.reverse { self.steps - 1 - step } else { step }
    }

    /// The rows of the batch that a step is for: those that are long enough.
    fn rows<'a>(&'a self, step: usize, x: &'a [&[f32]]) -> impl Iterator<Item = usize> + 'a {
        let time = self.time(step);
        (0..self.batch).filter(move |&row| self.lengths.is_none_or(|at| (time as f32) < x[at][row]))
    }

    /// Some gates' columns of the recurrence weights.
    fn weights<'a>(&self, r: &'a [f32], gates: Range<usize>) -> MatRef<'a, f32> {
        let all = MatRef::from_row_major_slice(r, self.hidden, self.width());
        all.subcols(gates.start * self.hidden, gates.len() * self.hidden)
    }

    /// The gates that states are multiplied for; a GRU's hidden gate may be apart.
    fn direct(&self) -> usize {
        if matches!(self.spec.cell, Cell::Gru { .. }) { 2 } else { self.spec.cell.gates() }
    }

    fn function(&self, gate: usize) -> Activation {
        let which = match self.spec.cell {
            Cell::Rnn => 0,
            Cell::Gru { .. } => usize::from(gate == 2),
            Cell::Lstm => usize::from(gate == 3),
        };
        self.spec.activations[which]
    }

    fn gate(&self, gate: usize, sum: f32) -> f32 {
        let limit = self.spec.clip.map_or(f32::INFINITY, |limit| limit.get().abs() as f32);
        activation(self.function(gate), sum.clamp(-limit, limit)).0
    }

    fn slope(&self, gate: usize, sum: f32) -> f32 {
        let limit = self.spec.clip.map_or(f32::INFINITY, |limit| limit.get().abs() as f32);
        if sum.abs() > limit { 0.0 } else { activation(self.function(gate), sum).1 }
    }

    fn run(&self, x: &[&[f32]]) -> Tape {
        let (state, width) = (self.state(), self.width());
        let states = |first: &[f32]| [first, &vec![0.0; self.steps * state]].concat();
        let sums: Vec<f32> = (0..self.steps)
            .flat_map(|s| &x[DATA][self.time(s) * self.batch * width..][..self.batch * width])
            .copied()
            .collect();
        let gates = vec![0.0; sums.len()];
        let linear = vec![0.0; if self.direct() < self.spec.cell.gates() { self.steps * state } else { 0 }];
        let c = self.cell.map_or_else(Vec::new, |c| states(x[c]));
        let mut tape = Tape { h: states(x[STATE]), c, sums, gates, linear };
        for step in 0..self.steps {
            let sums = &mut tape.sums[step * self.batch * width..][..self.batch * width];
            let h = MatRef::from_row_major_slice(&tape.h[self.after(step)], self.batch, self.hidden);
            let mut columns = MatMut::from_row_major_slice_mut(sums, self.batch, width);
            let direct = self.direct() * self.hidden;
            add(columns.as_mut().subcols_mut(0, direct), h, self.weights(x[WEIGHTS], 0..self.direct()));
            for states in [&mut tape.h, &mut tape.c].into_iter().filter(|s| !s.is_empty()) {
                states.copy_within(self.after(step), self.after(step + 1).start);
            }
            for row in self.rows(step, x) {
                match self.spec.cell {
                    Cell::Rnn => self.rnn(step, row, &mut tape),
                    Cell::Gru { .. } => self.gru(step, row, x, &mut tape),
                    Cell::Lstm => self.lstm(step, row, x, &mut tape),
                }
            }
        }
        tape
    }

    fn rnn(&self, step: usize, row: usize, tape: &mut Tape) {
        for at in (0..self.hidden).map(|j| step * self.state() + row * self.hidden + j) {
            tape.gates[at] = self.gate(0, tape.sums[at]);
            tape.h[at + self.state()] = tape.gates[at];
        }
    }

    fn gru(&self, step: usize, row: usize, x: &[&[f32]], tape: &mut Tape) {
        let n = self.hidden;
        let (first, before) = ((step * self.batch + row) * 3 * n, step * self.state() + row * n);
        for at in first..first + 2 * n {
            tape.gates[at] = self.gate(0, tape.sums[at]);
        }
        let h = &tape.h[before..before + n];
        let reset = &tape.gates[first + n..first + 2 * n];
        let linear = &mut tape.linear[before..before + n];
        let left: Vec<f32> = match self.bias {
            Some(bias) => {
                linear.copy_from_slice(x[bias]);
                h.to_vec()
            }
            None => reset.iter().zip(h).map(|(r, h)| r * h).collect(),
        };
        let product = MatMut::from_row_major_slice_mut(linear, 1, n);
        add(product, MatRef::from_row_major_slice(&left, 1, n), self.weights(x[WEIGHTS], 2..3));
        for j in 0..n {
            let factor = if self.bias.is_some() { tape.gates[first + n + j] } else { 1.0 };
            let at = first + 2 * n + j;
            tape.sums[at] += factor * tape.linear[before + j];
            tape.gates[at] = self.gate(2, tape.sums[at]);
            let z = tape.gates[first + j];
            tape.h[before + self.state() + j] = (1.0 - z) * tape.gates[at] + z * tape.h[before + j];
        }
    }

    fn lstm(&self, step: usize, row: usize, x: &[&[f32]], tape: &mut Tape) {
        let n = self.hidden;
        let (first, before) = ((step * self.batch + row) * 4 * n, step * self.state() + row * n);
        let peephole = |gate: usize, j: usize| self.peephole.map_or(0.0, |p| x[p][gate * n + j]);
        for j in 0..n {
            let at = |gate: usize| first + gate * n + j;
            let (now, next) = (before + j, before + self.state() + j);
            let c = tape.c[now];
            for gate in [0, 2] {
                tape.sums[at(gate)] += peephole(gate, j) * c;
                tape.gates[at(gate)] = self.gate(gate, tape.sums[at(gate)]);
            }
            if self.spec.coupled {
                tape.gates[at(2)] = 1.0 - tape.gates[at(0)];
            }
            tape.gates[at(3)] = self.gate(3, tape.sums[at(3)]);
            tape.c[next] = tape.gates[at(2)] * c + tape.gates[at(0)] * tape.gates[at(3)];
            tape.sums[at(1)] += peephole(1, j) * tape.c[next];
            tape.gates[at(1)] = self.gate(1, tape.sums[at(1)]);
            tape.h[next] = tape.gates[at(1)] * activation(self.spec.activations[2], tape.c[next]).0;
        }
    }
}

/// Gradients on the way back through time.
struct Back {
    /// By the states that the step gives, then by those that it reads.
    h: Vec<f32>,
    c: Vec<f32>,
    /// By the gates' sums, all steps.
    sums: Vec<f32>,
    /// By a GRU's hidden product, all steps.
    linear: Vec<f32>,
    peephole: Vec<f32>,
}

impl Recurrent {
    fn rnn_back(&self, step: usize, row: usize, tape: &Tape, back: &mut Back) {
        for j in row * self.hidden..(row + 1) * self.hidden {
            let at = step * self.state() + j;
            back.sums[at] = std::mem::take(&mut back.h[j]) * self.slope(0, tape.sums[at]);
        }
    }

    fn gru_back(&self, step: usize, row: usize, x: &[&[f32]], tape: &Tape, back: &mut Back) {
        let n = self.hidden;
        let (first, before) = ((step * self.batch + row) * 3 * n, step * self.state() + row * n);
        let gate = |gate: usize, j: usize| first + gate * n + j;
        for j in 0..n {
            let (h, dh) = (tape.h[before + j], back.h[row * n + j]);
            let (z, new) = (tape.gates[gate(0, j)], tape.gates[gate(2, j)]);
            back.sums[gate(2, j)] = dh * (1.0 - z) * self.slope(2, tape.sums[gate(2, j)]);
            back.sums[gate(0, j)] = dh * (h - new) * self.slope(0, tape.sums[gate(0, j)]);
            back.h[row * n + j] = dh * z;
            let factor = if self.bias.is_some() { tape.gates[gate(1, j)] } else { 1.0 };
            back.linear[before + j] = factor * back.sums[gate(2, j)];
        }
        let mut left = vec![0.0; n];
        let linear = MatRef::from_row_major_slice(&back.linear[before..before + n], 1, n);
        add(MatMut::from_row_major_slice_mut(&mut left, 1, n), linear, self.weights(x[WEIGHTS], 2..3).transpose());
        for (j, left) in left.into_iter().enumerate() {
            let (r, h) = (tape.gates[gate(1, j)], tape.h[before + j]);
            let (by_h, by_reset) = match self.bias {
                Some(_) => (left, back.sums[gate(2, j)] * tape.linear[before + j]),
                None => (left * r, left * h),
            };
            back.h[row * n + j] += by_h;
            back.sums[gate(1, j)] = by_reset * self.slope(1, tape.sums[gate(1, j)]);
        }
    }

    fn lstm_back(&self, step: usize, row: usize, x: &[&[f32]], tape: &Tape, back: &mut Back) {
        let n = self.hidden;
        let (first, before) = ((step * self.batch + row) * 4 * n, step * self.state() + row * n);
        let peephole = |gate: usize, j: usize| self.peephole.map_or(0.0, |p| x[p][gate * n + j]);
        for j in 0..n {
            let at = |gate: usize| first + gate * n + j;
            let [i, o, f, g] = [0, 1, 2, 3].map(|gate| tape.gates[at(gate)]);
            let (c, next) = (tape.c[before + j], tape.c[before + self.state() + j]);
            let dh = std::mem::take(&mut back.h[row * n + j]);
            let (squashed, slope) = activation(self.spec.activations[2], next);
            back.sums[at(1)] = dh * squashed * self.slope(1, tape.sums[at(1)]);
            let dc = back.c[row * n + j] + dh * o * slope + back.sums[at(1)] * peephole(1, j);
            let by_f = dc * c;
            let by_i = dc * g - if self.spec.coupled { by_f } else { 0.0 };
            back.sums[at(0)] = by_i * self.slope(0, tape.sums[at(0)]);
            back.sums[at(2)] = if self.spec.coupled { 0.0 } else { by_f * self.slope(2, tape.sums[at(2)]) };
            back.sums[at(3)] = dc * i * self.slope(3, tape.sums[at(3)]);
            let through = [0, 2].map(|gate| back.sums[at(gate)] * peephole(gate, j));
            back.c[row * n + j] = dc * f + through[0] + through[1];
            for (gate, seen) in [(0, c), (1, next), (2, c)].into_iter().filter(|_| self.peephole.is_some()) {
                back.peephole[gate * n + j] += back.sums[at(gate)] * seen;
            }
        }
    }

    /// Adds to the gradient by the recurrence weights.
    fn weigh(&self, tape: &Tape, back: &Back, dr: &mut [f32]) {
        let (n, rows) = (self.hidden, self.steps * self.batch);
        let h = MatRef::from_row_major_slice(&tape.h[..rows * n], rows, n);
        let sums = MatRef::from_row_major_slice(&back.sums, rows, self.width());
        let mut dr = MatMut::from_row_major_slice_mut(dr, n, self.width());
        let direct = self.direct() * n;
        add(dr.as_mut().subcols_mut(0, direct), h.transpose(), sums.subcols(0, direct));
        if direct < self.width() {
            let reset = |at: usize| tape.gates[at / n * 3 * n + n + at % n];
            let left: Vec<f32> = match self.bias {
                Some(_) => tape.h[..rows * n].to_vec(),
                None => tape.h[..rows * n].iter().enumerate().map(|(at, h)| reset(at) * h).collect(),
            };
            let linear = MatRef::from_row_major_slice(&back.linear, rows, n);
            add(dr.subcols_mut(direct, n), MatRef::from_row_major_slice(&left, rows, n).transpose(), linear);
        }
    }
}

impl Operator for Recurrent {
    fn work(&self) -> u64 {
        (self.steps * self.state() * self.width()) as u64
    }

    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        let tape = self.run(x);
        let (all, last) = y.split_at_mut(self.steps * self.state());
        for step in 0..self.steps {
            for row in self.rows(step, x) {
                let of =
                    |step: usize| (step * self.batch + row) * self.hidden..(step * self.batch + row + 1) * self.hidden;
                all[of(self.time(step))].copy_from_slice(&tape.h[of(step + 1)]);
            }
        }
        let states = [&tape.h, &tape.c].into_iter().filter(|s| !s.is_empty());
        for (last, states) in last.chunks_exact_mut(self.state().max(1)).zip(states) {
            last.copy_from_slice(&states[self.after(self.steps)]);
        }
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let (x, state, width) = (pass.x, self.state(), self.width());
        let tape = self.run(x);
        let (all, last) = pass.dy.split_at(self.steps * state);
        let (h, c) = last.split_at(state);
        let mut back = Back {
            h: h.to_vec(),
            c: c.to_vec(),
            sums: vec![0.0; tape.sums.len()],
            linear: vec![0.0; tape.linear.len()],
            peephole: vec![0.0; self.peephole.map_or(0, |p| x[p].len())],
        };
        for step in (0..self.steps).rev() {
            for row in self.rows(step, x) {
                let own = row * self.hidden..(row + 1) * self.hidden;
                let dy = &all[self.after(self.time(step))][own.clone()];
                back.h[own].iter_mut().zip(dy).for_each(|(h, dy)| *h += dy);
                match self.spec.cell {
                    Cell::Rnn => self.rnn_back(step, row, &tape, &mut back),
                    Cell::Gru { .. } => self.gru_back(step, row, x, &tape, &mut back),
                    Cell::Lstm => self.lstm_back(step, row, x, &tape, &mut back),
                }
            }
            let sums = &back.sums[step * self.batch * width..][..self.batch * width];
            let sums = MatRef::from_row_major_slice(sums, self.batch, width);
            let h = MatMut::from_row_major_slice_mut(&mut back.h, self.batch, self.hidden);
            let gates = self.direct();
            add(h, sums.subcols(0, gates * self.hidden), self.weights(x[WEIGHTS], 0..gates).transpose());
        }
        if let Some(dx) = &mut dx[DATA] {
            for step in 0..self.steps {
                let rows = self.batch * width;
                let to = &mut dx[self.time(step) * rows..][..rows];
                to.iter_mut().zip(&back.sums[step * rows..]).for_each(|(to, d)| *to += d);
            }
        }
        if let Some(dr) = &mut dx[WEIGHTS] {
            self.weigh(&tape, &back, dr);
        }
        if let Some(bias) = self.bias.and_then(|at| dx[at].as_mut()) {
            back.linear.iter().enumerate().for_each(|(at, d)| bias[at % self.hidden] += d);
        }
        let rest = [(Some(STATE), &back.h), (self.cell, &back.c), (self.peephole, &back.peephole)];
        for (place, gradient) in rest {
            if let Some(dx) = place.and_then(|place| dx[place].as_mut()) {
                dx.iter_mut().zip(gradient).for_each(|(to, d)| *to += d);
            }
        }
    }
}

/// An activation and its derivative.
fn activation(f: Activation, x: f32) -> (f32, f32) {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let number = |v: mcc_ir::F64| v.get() as f32;
    let either = |first: bool, [one, other]: [(f32, f32); 2]| if first { one } else { other };
    match f {
        Activation::Sigmoid => {
            let y = sigmoid(x);
            (y, y * (1.0 - y))
        }
        Activation::Tanh => {
            let y = x.tanh();
            (y, 1.0 - y * y)
        }
        Activation::Relu => either(x > 0.0, [(x, 1.0), (0.0, 0.0)]),
        Activation::LeakyRelu { alpha } => either(x < 0.0, [(number(alpha) * x, number(alpha)), (x, 1.0)]),
        Activation::ThresholdedRelu { alpha } => either(x > number(alpha), [(x, 1.0), (0.0, 0.0)]),
        Activation::ScaledTanh { alpha, beta } => {
            let y = (number(beta) * x).tanh();
            (number(alpha) * y, number(alpha) * number(beta) * (1.0 - y * y))
        }
        Activation::HardSigmoid { alpha, beta } => {
            let y = number(alpha) * x + number(beta);
            (y.clamp(0.0, 1.0), if (0.0..=1.0).contains(&y) { number(alpha) } else { 0.0 })
        }
        Activation::Elu { alpha } => either(x < 0.0, [(number(alpha) * x.exp_m1(), number(alpha) * x.exp()), (x, 1.0)]),
        Activation::Affine { alpha, beta } => (number(alpha) * x + number(beta), number(alpha)),
        Activation::Softsign => (x / (1.0 + x.abs()), (1.0 + x.abs()).powi(-2)),
        Activation::Softplus => (x.max(0.0) + (-x.abs()).exp().ln_1p(), sigmoid(x)),
    }
}
