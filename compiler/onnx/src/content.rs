//! The known elements of small tensors during import: constants and dimensions.
//!
//! Models compute target shapes, slice bounds and repeat counts with ordinary tensor operators. Evaluating the elements
//! through these operators turns such operands into attributes, with symbols where the shapes are symbolic.

use std::rc::Rc;

pub use mcc_ir::bounds::{has_element, lower_bound, max, min};
use mcc_ir::eval::eval_op;
use mcc_ir::{BinaryOp, DType, Dim, Op, ReduceKind, Tensor, TensorType, UnaryOp};

/// Elements of larger tensors are not tracked.
pub const MAX_KNOWN_ELEMENTS: usize = 4096;

/// A known element, whatever the tensor's type.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// An integer.
    Int(Dim),
    /// A quotient of a symbolic integer and a positive constant.
    Ratio(Dim, i64),
    /// A number that is not an integer.
    Real(f64),
}

/// A tensor's elements in row-major order.
pub type Content = Rc<[Known]>;

use Known::{Int, Ratio, Real};

impl Known {
    /// A number; exact integers become `Int`.
    pub fn number(v: f64) -> Known {
        if v.fract() == 0.0 && v.abs() < 9e18 && (v != 0.0 || v.is_sign_positive()) {
            Int(Dim::from(v as i64))
        } else {
            Real(v)
        }
    }

    fn bool(v: bool) -> Known {
        Int(Dim::from(i64::from(v)))
    }

    /// Its value when it is a constant.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Int(d) => d.as_const().map(|c| c as f64),
            Ratio(..) => None,
            Real(v) => Some(*v),
        }
    }

    /// The integer, if it is one.
    pub fn as_dim(&self) -> Option<&Dim> {
        match self {
            Int(d) => Some(d),
            Ratio(..) | Real(_) => None,
        }
    }
}

/// The sign of `a - b` if it is certain: `Some(Less)` means that `a` is less than `b`.
pub fn compare(a: &Dim, b: &Dim) -> Option<std::cmp::Ordering> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let difference = a - b;
    match difference.as_const() {
        Some(c) => Some(c.cmp(&0)),
        None if lower_bound(&difference).is_some_and(|l| l > 0) => Some(Greater),
        None if lower_bound(&-&difference).is_some_and(|l| l > 0) => Some(Less),
        None if difference == Dim::ZERO => Some(Equal),
        None => None,
    }
}

/// The elements of a constant, if it is small enough.
pub fn of_tensor(t: &Tensor) -> Option<Content> {
    if t.numel() > MAX_KNOWN_ELEMENTS {
        return None;
    }
    Some(if t.dtype().is_float() {
        t.to_f64s().into_iter().map(Known::number).collect()
    } else {
        t.to_i64s().into_iter().map(|v| Int(Dim::from(v))).collect()
    })
}

/// An operation's operands with their known elements.
struct Operands<'a> {
    all: &'a [(Content, &'a TensorType)],
    /// Extents of the result.
    shape: Vec<usize>,
}

impl Operands<'_> {
    fn content(&self, n: usize) -> Option<&Content> {
        self.all.get(n).map(|(content, _)| content)
    }

    fn fixed(&self, n: usize) -> Option<Vec<usize>> {
        self.all.get(n)?.1.fixed_shape()
    }

    /// The elements of an operand, broadcast to the result's shape.
    fn broadcast(&self, n: usize) -> Option<Vec<Known>> {
        if self.fixed(n)? == self.shape {
            return self.content(n).map(|content| content.to_vec());
        }
        let places = moved(&Op::Broadcast { shape: dims(&self.shape) }, &[places(0, &self.fixed(n)?)], &self.shape)?;
        let x = self.content(n)?;
        Some(places.into_iter().map(|place| x[place].clone()).collect())
    }

    /// The result of an operation that only moves the elements of its first `data` operands; the others are indices.
    fn moved(&self, op: &Op, data: usize) -> Option<Vec<Known>> {
        let (mut elements, mut operands) = (Vec::new(), Vec::new());
        for (n, (content, ty)) in self.all.iter().enumerate() {
            if n < data {
                operands.push(places(elements.len(), &self.fixed(n)?));
                elements.extend(content.iter());
            } else {
                let indices: Option<Vec<i64>> = content.iter().map(|i| i.as_dim()?.as_const()).collect();
                operands.push(Tensor::from_i64s(ty.dtype, self.fixed(n)?, &indices?).ok()?);
            }
        }
        let places = moved(op, &operands, &self.shape)?;
        places.into_iter().map(|place| elements.get(place).map(|e| (*e).clone())).collect()
    }

    /// A reduction over `axes` with a function of two elements.
    fn reduced(&self, axes: &[usize], f: impl Fn(&Known, &Known) -> Option<Known>) -> Option<Vec<Known>> {
        let from = self.fixed(0)?;
        let kept: Vec<usize> = from.iter().enumerate().map(|(a, &d)| if axes.contains(&a) { 1 } else { d }).collect();
        let slots = moved(&Op::Broadcast { shape: dims(&from) }, &[places(0, &kept)], &from)?;
        let mut out: Vec<Option<Known>> = vec![None; self.shape.iter().product()];
        for (x, slot) in self.content(0)?.iter().zip(slots) {
            out[slot] = Some(match out[slot].take() {
                None => x.clone(),
                Some(sum) => f(&sum, x)?,
            });
        }
        out.into_iter().collect()
    }
}

fn dims(shape: &[usize]) -> Vec<Dim> {
    shape.iter().map(|&d| Dim::from(d)).collect()
}

/// A tensor whose elements are numbers from `first` on.
fn places(first: usize, shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let numbers: Vec<i64> = (first..first + count).map(|n| n as i64).collect();
    Tensor::from_i64s(DType::I64, shape.to_vec(), &numbers).unwrap_or_else(|_| Tensor::zeros(DType::I64, vec![0]))
}

/// The number of the element at each position of the result of an operation that only moves elements: the evaluator moves
/// their numbers.
fn moved(op: &Op, places: &[Tensor], shape: &[usize]) -> Option<Vec<usize>> {
    let result = TensorType::fixed(DType::I64, shape);
    let numbers = eval_op(op, places, &[result]).ok()?.swap_remove(0).to_i64s();
    numbers.into_iter().map(|n| usize::try_from(n).ok()).collect()
}

/// The elements of the first result of `op`, if the operands' elements determine them.
pub fn evaluate(op: &Op, operands: &[(Content, &TensorType)], result: &TensorType) -> Option<Content> {
    let shape = result.fixed_shape()?;
    let numel = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_KNOWN_ELEMENTS)?;
    let dtype = result.dtype;
    let x = Operands { all: operands, shape };
    let elements: Option<Vec<Known>> = match op {
        Op::Dims(dims) => Some(dims.iter().cloned().map(Int).collect()),
        Op::Iota { .. } => {
            let numbers = eval_op(op, &[], std::slice::from_ref(result)).ok()?.swap_remove(0);
            of_tensor(&numbers).map(|content| content.to_vec())
        }
        Op::Unary(f) => x.content(0)?.iter().map(|x| unary(*f, x, dtype)).collect(),
        Op::Binary(f) => {
            let pairs = x.broadcast(0)?.into_iter().zip(x.broadcast(1)?);
            pairs.map(|(a, b)| binary(*f, &a, &b, operands[0].1.dtype)).collect()
        }
        Op::Select => {
            let pairs = x.broadcast(1)?.into_iter().zip(x.broadcast(2)?);
            let selected = x.broadcast(0)?.into_iter().zip(pairs).map(|(condition, (a, b))| match condition.as_f64() {
                Some(c) => Some(if c != 0.0 { a } else { b }),
                None => (a == b).then_some(a),
            });
            selected.collect()
        }
        Op::Cast { to, .. } => x.content(0)?.iter().map(|x| cast(x, *to)).collect(),
        Op::Reshape { .. } | Op::Broadcast { .. } | Op::Transpose { .. } | Op::Slice { .. } | Op::Concat { .. } => {
            x.moved(op, operands.len())
        }
        Op::Gather { .. } => x.moved(op, 1),
        Op::Reduce { kind, axes, .. } => {
            let f = reducer(*kind)?;
            x.reduced(axes, |a, b| binary(f, a, b, dtype))
        }
        // The others do not occur in shape computations.
        Op::Input(..)
        | Op::Constant(_)
        | Op::Bitcast { .. }
        | Op::Pad { .. }
        | Op::GatherElements { .. }
        | Op::GatherNd { .. }
        | Op::ScatterElements { .. }
        | Op::ScatterNd { .. }
        | Op::ReverseSequence { .. }
        | Op::Resize { .. }
        | Op::GridSample { .. }
        | Op::MatMul
        | Op::PackedMatMul { .. }
        | Op::Packed(_)
        | Op::Conv(_)
        | Op::ConvTranspose { .. }
        | Op::Col2Im { .. }
        | Op::Pool(_)
        | Op::MaxPoolWithIndices { .. }
        | Op::ArgReduce { .. }
        | Op::Cumulative { .. }
        | Op::Softmax { .. }
        | Op::Attention { .. }
        | Op::Normalize { .. }
        | Op::TopK { .. }
        | Op::Recurrent(_)
        | Op::NonZero { .. }
        | Op::NonMaxSuppression
        | Op::TreeEnsemble(_)
        | Op::If(_) => None,
    };
    // An expression that has grown too large is treated as computed from data.
    let sound = |k: &Known| !matches!(k, Int(d) | Ratio(d, _) if d.is_too_large());
    elements.filter(|e| e.len() == numel && e.iter().all(sound)).map(Rc::from)
}

fn reducer(kind: ReduceKind) -> Option<BinaryOp> {
    match kind {
        ReduceKind::Sum => Some(BinaryOp::Add),
        ReduceKind::Prod => Some(BinaryOp::Mul),
        ReduceKind::Min => Some(BinaryOp::Min),
        ReduceKind::Max => Some(BinaryOp::Max),
        ReduceKind::Mean => None,
    }
}

fn unary(f: UnaryOp, x: &Known, dtype: DType) -> Option<Known> {
    match (f, x) {
        (UnaryOp::Neg, Int(d)) => return Some(Int(-d)),
        (UnaryOp::Neg, Ratio(d, by)) => return Some(Ratio(-d, *by)),
        (UnaryOp::Floor, Ratio(d, by)) => return Some(Int(d.floor_div(&Dim::from(*by)))),
        (UnaryOp::Ceil, Ratio(d, by)) => return Some(Int(d.ceil_div(&Dim::from(*by)))),
        (UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round, Int(_)) => return Some(x.clone()),
        (UnaryOp::Abs, Int(d)) if lower_bound(d).is_some_and(|l| l >= 0) => return Some(x.clone()),
        _ => {}
    }
    let v = x.as_f64()?;
    let r = match f {
        UnaryOp::Neg => -v,
        UnaryOp::Abs => v.abs(),
        UnaryOp::Sign if v == 0.0 => 0.0,
        UnaryOp::Sign => v.signum(),
        UnaryOp::Floor => v.floor(),
        UnaryOp::Ceil => v.ceil(),
        UnaryOp::Round => v.round_ties_even(),
        UnaryOp::Sqrt => v.sqrt(),
        UnaryOp::Reciprocal => 1.0 / v,
        UnaryOp::Exp => v.exp(),
        UnaryOp::Log => v.ln(),
        UnaryOp::Not => f64::from(v == 0.0),
        _ => return None,
    };
    Some(rounded(r, dtype))
}

fn binary(f: BinaryOp, a: &Known, b: &Known, dtype: DType) -> Option<Known> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    if f.is_comparison() {
        let order = match (a, b) {
            (Int(a), Int(b)) => compare(a, b)?,
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?)?,
        };
        return Some(Known::bool(match f {
            BinaryOp::Equal => order == Equal,
            BinaryOp::Less => order == Less,
            BinaryOp::LessOrEqual => order != Greater,
            BinaryOp::Greater => order == Greater,
            _ => order != Less,
        }));
    }
    match (f, a, b) {
        (BinaryOp::Add, Int(a), Int(b)) => Some(Int(a + b)),
        (BinaryOp::Sub, Int(a), Int(b)) => Some(Int(a - b)),
        (BinaryOp::Mul, Int(a), Int(b)) => Some(Int(a * b)),
        (BinaryOp::Min, Int(a), Int(b)) => Some(Int(min(a, b))),
        (BinaryOp::Max, Int(a), Int(b)) => Some(Int(max(a, b))),
        (BinaryOp::Div, Int(a), Int(b)) if dtype.is_int() => truncating_div(a, b).map(Int),
        (BinaryOp::Mod, Int(a), Int(b)) if dtype.is_int() && !b.is(0) => Some(Int(a - &(&a.floor_div(b) * b))),
        (BinaryOp::Rem, Int(a), Int(b)) if dtype.is_int() && !b.is(0) => {
            truncating_div(a, b).map(|q| Int(a - &(&q * b)))
        }
        (BinaryOp::And | BinaryOp::Or | BinaryOp::Xor, Int(a), Int(b)) => {
            let known = match (a.as_const(), b.as_const()) {
                (Some(a), Some(b)) => match f {
                    BinaryOp::And => a & b,
                    BinaryOp::Or => a | b,
                    _ => a ^ b,
                },
                (Some(0), _) | (_, Some(0)) if f == BinaryOp::And => 0,
                _ => return None,
            };
            Some(Int(Dim::from(known)))
        }
        (BinaryOp::Div, Int(a), Int(b)) if a.as_const().is_none() => match b.as_const() {
            Some(c) if c > 0 => Some(ratio(a.clone(), c)),
            _ => (a == b).then_some(Int(Dim::ONE)).or_else(|| a.exact_div(b).map(Int)),
        },
        (BinaryOp::Div, Int(a), Real(r)) if a.as_const().is_none() => scaled(a, 1, 1.0 / r),
        (BinaryOp::Mul, Int(a), Real(r)) | (BinaryOp::Mul, Real(r), Int(a)) if a.as_const().is_none() => {
            scaled(a, 1, *r)
        }
        (BinaryOp::Mul, Ratio(a, by), other) | (BinaryOp::Mul, other, Ratio(a, by)) => match other {
            Int(b) => Some(ratio(a * b, *by)),
            Real(r) => scaled(a, *by, *r),
            Ratio(b, c) => Some(ratio(a * b, by.checked_mul(*c)?)),
        },
        (BinaryOp::Div, Ratio(a, by), Int(b)) => {
            Some(ratio(a.clone(), by.checked_mul(b.as_const().filter(|&c| c > 0)?)?))
        }
        (BinaryOp::Add, Ratio(a, by), Int(b)) | (BinaryOp::Add, Int(b), Ratio(a, by)) => {
            Some(ratio(a + &(b * &Dim::from(*by)), *by))
        }
        (BinaryOp::Sub, Ratio(a, by), Int(b)) => Some(ratio(a - &(b * &Dim::from(*by)), *by)),
        _ => {
            let (a, b) = (a.as_f64()?, b.as_f64()?);
            let r = match f {
                BinaryOp::Add => a + b,
                BinaryOp::Sub => a - b,
                BinaryOp::Mul => a * b,
                BinaryOp::Div => a / b,
                BinaryOp::Pow => a.powf(b),
                BinaryOp::Min => a.min(b),
                BinaryOp::Max => a.max(b),
                _ => return None,
            };
            Some(rounded(r, dtype))
        }
    }
}

/// Integer division that truncates, as tensors do; it equals rounding down if both operands are positive.
fn truncating_div(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a.as_const(), b.as_const()) {
        (_, Some(0)) => Some(Dim::ZERO),
        (Some(x), Some(y)) => Some(Dim::from(x.wrapping_div(y))),
        _ if lower_bound(a)? >= 0 && lower_bound(b)? >= 0 => Some(a.floor_div(b)),
        _ => None,
    }
}

fn ratio(a: Dim, by: i64) -> Known {
    match a.exact_div(&Dim::from(by)) {
        Some(exact) => Int(exact),
        None => Ratio(a, by),
    }
}

/// `a / by * r`, when `r` is a fraction of small numbers.
fn scaled(a: &Dim, by: i64, r: f64) -> Option<Known> {
    let denominator = (1..=512i64).find(|&q| {
        let p = r * q as f64;
        (p - p.round()).abs() <= 1e-7 * p.abs().max(1e-3) && p.round() != 0.0
    })?;
    let numerator = (r * denominator as f64).round() as i64;
    Some(ratio(a * &Dim::from(numerator), by.checked_mul(denominator)?))
}

fn cast(x: &Known, to: DType) -> Option<Known> {
    match (x, to) {
        (Int(d), DType::Bool) => Some(Known::bool(match compare(d, &Dim::ZERO)? {
            std::cmp::Ordering::Equal => false,
            std::cmp::Ordering::Less | std::cmp::Ordering::Greater => true,
        })),
        (Int(d), _) if to.is_float() || to.bits() >= 32 => match d.as_const() {
            Some(c) if to.is_float() => Some(rounded(c as f64, to)),
            _ => Some(x.clone()),
        },
        (Int(d), _) => {
            let c = d.as_const()?;
            Some(Int(Dim::from(Tensor::scalar_i64(to, c).i64_at(0))))
        }
        (Ratio(d, by), _) if to.is_int() => (lower_bound(d)? >= 0).then(|| Int(d.floor_div(&Dim::from(*by)))),
        (Ratio(..), _) => to.is_float().then(|| x.clone()),
        (Real(v), DType::Bool) => Some(Known::bool(*v != 0.0)),
        (Real(v), _) if to.is_int() => Some(Int(Dim::from(v.trunc() as i64))),
        (Real(v), _) => Some(rounded(*v, to)),
    }
}

/// A number rounded to element type `dtype`.
fn rounded(v: f64, dtype: DType) -> Known {
    match dtype {
        DType::F64 => Known::number(v),
        DType::F32 => Known::number(f64::from(v as f32)),
        _ if dtype.is_float() => Known::number(Tensor::scalar_f64(dtype, v).f64_at(0)),
        _ => Known::number(v),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_settle_comparisons() {
        let s = Dim::sym("s");
        let e = Dim::sym("x[0]");
        assert_eq!(
            binary(BinaryOp::Equal, &Int(s.clone()), &Int(Dim::from(-1i64)), DType::I64),
            Some(Known::bool(false))
        );
        assert_eq!(binary(BinaryOp::Equal, &Int(e), &Int(Dim::from(-1i64)), DType::I64), None);
        assert_eq!(max(&s, &Dim::ZERO), s);
        assert_eq!(min(&(&s + &Dim::ONE), &s), s);
    }

    #[test]
    fn scales_stay_exact() {
        let s = Known::Int(Dim::sym("s"));
        let half = binary(BinaryOp::Mul, &s, &Real(0.5), DType::F32).expect("a ratio");
        assert_eq!(unary(UnaryOp::Floor, &half, DType::F32), Some(Int(Dim::sym("s").floor_div(&Dim::from(2i64)))));
        assert_eq!(binary(BinaryOp::Mul, &half, &Int(Dim::from(2i64)), DType::F32), Some(s));
    }
}
