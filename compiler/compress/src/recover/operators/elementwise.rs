//! Element-wise functions and their derivatives.

use mcc_ir::{BinaryOp, DType, Op, Result, UnaryOp};

use super::vectors::{self, vectorized};
use super::{Call, Operator, Pass};

/// How the elements of operands meet those of a result of their common shape.
///
/// The result falls into runs of `inner` elements, during which an operand moves along with the result or stays.
pub struct Broadcasting {
    inner: usize,
    /// Whether each operand moves within a run.
    moves: Vec<bool>,
    /// For each run, where each operand begins.
    starts: Vec<Vec<usize>>,
}

impl Broadcasting {
    /// How operands of some shapes meet in a result.
    pub fn new(operands: &[Vec<usize>], result: &[usize]) -> Broadcasting {
        let rank = result.len();
        let padded: Vec<Vec<usize>> = operands.iter().map(|s| [&vec![1; rank - s.len()][..], s].concat()).collect();
        // Axes join the run as long as each operand moves along all of them or along none.
        let mut split = rank;
        let mut moves: Vec<Option<bool>> = vec![None; operands.len()];
        while split > 0 && result[split - 1] > 0 {
            let axis = split - 1;
            let along: Vec<Option<bool>> = padded.iter().map(|s| (result[axis] > 1).then(|| s[axis] > 1)).collect();
            if moves.iter().zip(&along).any(|(m, a)| matches!((m, a), (Some(m), Some(a)) if m != a)) {
                break;
            }
            moves.iter_mut().zip(&along).for_each(|(m, a)| *m = m.or(*a));
            split = axis;
        }
        let inner: usize = result[split..].iter().product();
        let outer: usize = result[..split].iter().product();
        let starts = padded.iter().map(|shape| starts(shape, &result[..split], outer)).collect();
        Broadcasting { inner, moves: moves.into_iter().map(|m| m.unwrap_or(false)).collect(), starts }
    }

    /// Elements of the result.
    pub fn elements(&self) -> usize {
        self.runs() * self.inner
    }

    fn runs(&self) -> usize {
        self.starts.first().map_or(0, Vec::len)
    }

    /// Shows the index of each result's element with those of the operands.
    pub fn each<const N: usize>(&self, mut see: impl FnMut(usize, [usize; N])) {
        for run in 0..self.runs() {
            let starts: [usize; N] = std::array::from_fn(|o| self.starts[o][run]);
            let steps: [usize; N] = std::array::from_fn(|o| usize::from(self.moves[o]));
            for i in 0..self.inner {
                see(run * self.inner + i, std::array::from_fn(|o| starts[o] + i * steps[o]));
            }
        }
    }

    /// Computes a function of two operands.
    fn zip(&self, a: &[f32], b: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> f32) {
        vectorized(|| {
            for (run, y) in y.chunks_exact_mut(self.inner.max(1)).enumerate() {
                let (a, b) = (&a[self.starts[0][run]..], &b[self.starts[1][run]..]);
                match (self.moves[0], self.moves[1]) {
                    (true, true) => y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (&a, &b))| *y = f(a, b)),
                    (true, false) => y.iter_mut().zip(a).for_each(|(y, &a)| *y = f(a, b[0])),
                    (false, true) => y.iter_mut().zip(b).for_each(|(y, &b)| *y = f(a[0], b)),
                    (false, false) => y.fill(f(a[0], b[0])),
                }
            }
        });
    }

    /// Adds `dy` times a derivative to an operand's gradient.
    fn pull(&self, operand: usize, pass: &Pass, dx: &mut [f32], derivative: impl Fn(f32, f32, f32) -> f32) {
        let mut room = vec![0.0; self.inner];
        vectorized(|| {
            for (run, dy) in pass.dy.chunks_exact(self.inner.max(1)).enumerate() {
                let y = &pass.y[run * self.inner..][..self.inner];
                let (a, b) = (&pass.x[0][self.starts[0][run]..], &pass.x[1][self.starts[1][run]..]);
                let given = room.iter_mut().zip(dy.iter().zip(y));
                match (self.moves[0], self.moves[1]) {
                    (true, true) => {
                        given.zip(a.iter().zip(b)).for_each(|((to, (dy, &y)), (&a, &b))| *to = dy * derivative(a, b, y))
                    }
                    (true, false) => {
                        given.zip(a).for_each(|((to, (dy, &y)), &a)| *to = dy * derivative(a, b[0], y));
                    }
                    (false, true) => {
                        given.zip(b).for_each(|((to, (dy, &y)), &b)| *to = dy * derivative(a[0], b, y));
                    }
                    (false, false) => given.for_each(|(to, (dy, &y))| *to = dy * derivative(a[0], b[0], y)),
                }
                let dx = &mut dx[self.starts[operand][run]..];
                match self.moves[operand] {
                    true => dx.iter_mut().zip(&room).for_each(|(dx, d)| *dx += d),
                    false => dx[0] += vectors::sum(&room),
                }
            }
        });
    }
}

/// Where an operand begins for each of `outer` runs over the leading axes of the result.
fn starts(shape: &[usize], leading: &[usize], outer: usize) -> Vec<usize> {
    let mut strides = vec![0; leading.len()];
    let mut stride: usize = shape[leading.len()..].iter().product();
    for axis in (0..leading.len()).rev() {
        strides[axis] = if shape[axis] > 1 { stride } else { 0 };
        stride *= shape[axis];
    }
    let start = |mut at: usize| {
        let mut start = 0;
        for axis in (0..leading.len()).rev() {
            start += at % leading[axis] * strides[axis];
            at /= leading[axis];
        }
        start
    };
    (0..outer).map(start).collect()
}

/// The operator of an element-wise operation.
pub fn operator(call: &Call) -> Result<Option<Box<dyn Operator>>> {
    let shapes: Option<Vec<Vec<usize>>> = (0..call.operands.len()).map(|n| call.shape(n)).collect();
    let (Some(shapes), Some(result)) = (shapes, call.result_shape()) else { return Ok(None) };
    let broadcasting = || Broadcasting::new(&shapes, &result);
    Ok(match call.op {
        Op::Unary(f) if function(*f).is_some() => Some(Box::new(Unary { f: *f })),
        Op::Binary(f) if is_known(*f) && call.operands.iter().all(|t| t.dtype.is_float()) => {
            Some(Box::new(Binary { f: *f, broadcasting: broadcasting() }))
        }
        Op::Select => Some(Box::new(Select { broadcasting: broadcasting() })),
        Op::Cast { to, .. } => Some(Box::new(Cast { to: *to, from_float: call.operands[0].dtype.is_float() })),
        _ => None,
    })
}

struct Unary {
    f: UnaryOp,
}

/// A function, and its derivative by operand and result.
struct Function {
    of: fn(f32) -> f32,
    derivative: fn(f32, f32) -> f32,
}

fn function(f: UnaryOp) -> Option<Function> {
    const TWO_OVER_ROOT_PI: f32 = std::f32::consts::FRAC_2_SQRT_PI;
    let (of, derivative): (fn(f32) -> f32, fn(f32, f32) -> f32) = match f {
        UnaryOp::Neg => (|x| -x, |_, _| -1.0),
        UnaryOp::Abs => (f32::abs, |x, _| sign(x)),
        UnaryOp::Sign => (sign, |_, _| 0.0),
        // Straight through.
        UnaryOp::Floor => (f32::floor, |_, _| 1.0),
        UnaryOp::Ceil => (f32::ceil, |_, _| 1.0),
        UnaryOp::Round => (f32::round_ties_even, |_, _| 1.0),
        UnaryOp::Sqrt => (f32::sqrt, |_, y| 0.5 / y),
        UnaryOp::Reciprocal => (|x| 1.0 / x, |_, y| -y * y),
        UnaryOp::Exp => (f32::exp, |_, y| y),
        UnaryOp::Log => (f32::ln, |x, _| 1.0 / x),
        UnaryOp::Sin => (f32::sin, |x, _| x.cos()),
        UnaryOp::Cos => (f32::cos, |x, _| -x.sin()),
        UnaryOp::Atan => (f32::atan, |x, _| 1.0 / (1.0 + x * x)),
        UnaryOp::Tanh => (f32::tanh, |_, y| 1.0 - y * y),
        UnaryOp::Erf => (erf, |x, _| TWO_OVER_ROOT_PI * (-x * x).exp()),
        UnaryOp::Gelu => (|x| x * normal(x), |x, _| normal(x) + x * density(x)),
        UnaryOp::Sigmoid => (sigmoid, |_, y| y * (1.0 - y)),
        UnaryOp::Softplus => (|x| x.max(0.0) + (-x.abs()).exp().ln_1p(), |x, _| sigmoid(x)),
        UnaryOp::Tan | UnaryOp::Asin | UnaryOp::Acos | UnaryOp::Sinh | UnaryOp::Cosh => return None,
        UnaryOp::Asinh | UnaryOp::Acosh | UnaryOp::Atanh | UnaryOp::Not | UnaryOp::BitNot => return None,
        UnaryOp::IsNan | UnaryOp::IsInf => return None,
    };
    Some(Function { of, derivative })
}

fn sign(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The normal distribution function.
fn normal(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

fn density(x: f32) -> f32 {
    (-0.5 * x * x).exp() * (0.5 * std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2)
}

/// The error function, to 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26).
fn erf(x: f32) -> f32 {
    const TERMS: [f64; 5] = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592];
    let (x, sign) = (f64::from(x.abs()), f64::from(sign(x)));
    let t = 1.0 / (1.0 + 0.3275911 * x);
    let polynomial = TERMS.iter().fold(0.0, |sum, term| sum * t + term) * t;
    (sign * (1.0 - polynomial * (-x * x).exp())) as f32
}

impl Operator for Unary {
    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        let Some(f) = function(self.f) else { return };
        y.iter_mut().zip(x[0]).for_each(|(y, &x)| *y = (f.of)(x));
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let (Some(f), Some(dx)) = (function(self.f), &mut dx[0]) else { return };
        let results = pass.y.iter().zip(pass.dy);
        dx.iter_mut().zip(pass.x[0]).zip(results).for_each(|((dx, &x), (&y, dy))| *dx += dy * (f.derivative)(x, y));
    }
}

struct Binary {
    f: BinaryOp,
    broadcasting: Broadcasting,
}

fn is_known(f: BinaryOp) -> bool {
    use BinaryOp::{Add, Div, Max, Min, Mul, Pow, Sub};
    matches!(f, Add | Sub | Mul | Div | Pow | Min | Max) || f.is_comparison()
}

fn truth(holds: bool) -> f32 {
    f32::from(u8::from(holds))
}

impl Operator for Binary {
    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        let (a, b, by) = (x[0], x[1], &self.broadcasting);
        match self.f {
            BinaryOp::Add => by.zip(a, b, y, |a, b| a + b),
            BinaryOp::Sub => by.zip(a, b, y, |a, b| a - b),
            BinaryOp::Mul => by.zip(a, b, y, |a, b| a * b),
            BinaryOp::Div => by.zip(a, b, y, |a, b| a / b),
            BinaryOp::Pow => by.zip(a, b, y, f32::powf),
            BinaryOp::Min => by.zip(a, b, y, |a, b| if a < b || a.is_nan() { a } else { b }),
            BinaryOp::Max => by.zip(a, b, y, |a, b| if a > b || a.is_nan() { a } else { b }),
            BinaryOp::Equal => by.zip(a, b, y, |a, b| truth(a == b)),
            BinaryOp::Less => by.zip(a, b, y, |a, b| truth(a < b)),
            BinaryOp::LessOrEqual => by.zip(a, b, y, |a, b| truth(a <= b)),
            BinaryOp::Greater => by.zip(a, b, y, |a, b| truth(a > b)),
            BinaryOp::GreaterOrEqual => by.zip(a, b, y, |a, b| truth(a >= b)),
            // `is_known` says no.
            BinaryOp::Mod | BinaryOp::Rem | BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => {}
            BinaryOp::ShiftLeft | BinaryOp::ShiftRight => {}
        }
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let by = &self.broadcasting;
        let [da, db] = dx else { return };
        if let Some(dx) = da {
            match self.f {
                BinaryOp::Add | BinaryOp::Sub => by.pull(0, pass, dx, |_, _, _| 1.0),
                BinaryOp::Mul => by.pull(0, pass, dx, |_, b, _| b),
                BinaryOp::Div => by.pull(0, pass, dx, |_, b, _| 1.0 / b),
                BinaryOp::Pow => by.pull(0, pass, dx, |a, b, _| b * a.powf(b - 1.0)),
                BinaryOp::Min => by.pull(0, pass, dx, |a, b, _| truth(a < b)),
                BinaryOp::Max => by.pull(0, pass, dx, |a, b, _| truth(a > b)),
                _ => {}
            }
        }
        if let Some(dx) = db {
            match self.f {
                BinaryOp::Add => by.pull(1, pass, dx, |_, _, _| 1.0),
                BinaryOp::Sub => by.pull(1, pass, dx, |_, _, _| -1.0),
                BinaryOp::Mul => by.pull(1, pass, dx, |a, _, _| a),
                BinaryOp::Div => by.pull(1, pass, dx, |_, b, y| -y / b),
                BinaryOp::Pow => by.pull(1, pass, dx, |a, _, y| if a > 0.0 { y * a.ln() } else { 0.0 }),
                BinaryOp::Min => by.pull(1, pass, dx, |a, b, _| truth(a >= b)),
                BinaryOp::Max => by.pull(1, pass, dx, |a, b, _| truth(a <= b)),
                _ => {}
            }
        }
    }
}

struct Select {
    broadcasting: Broadcasting,
}

impl Operator for Select {
    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        self.broadcasting.each(|at, [c, a, b]| y[at] = if x[0][c] != 0.0 { x[1][a] } else { x[2][b] });
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let [_, da, db] = dx else { return };
        self.broadcasting.each(|at, [c, a, b]| {
            let (side, place) = if pass.x[0][c] != 0.0 { (&mut *da, a) } else { (&mut *db, b) };
            if let Some(dx) = side {
                dx[place] += pass.dy[at];
            }
        });
    }
}

/// Floats stay floats; the codes that they stand for are truncated.
struct Cast {
    to: DType,
    from_float: bool,
}

impl Operator for Cast {
    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        let truncates = self.from_float && !self.to.is_float();
        y.iter_mut().zip(x[0]).for_each(|(y, &x)| {
            *y = match truncates {
                true if self.to == DType::Bool => truth(x != 0.0),
                true => x.trunc(),
                false => x,
            }
        });
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let (Some(dx), true) = (&mut dx[0], self.to != DType::Bool) else { return };
        dx.iter_mut().zip(pass.dy).for_each(|(dx, dy)| *dx += dy);
    }
}
