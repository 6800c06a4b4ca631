//! Element-wise operations.

use super::Maker;
use mcc_ir::{BinaryOp, DType, Op, UnaryOp, Value};

impl Maker {
    pub fn element_wise(&mut self, x: Value) -> Option<Value> {
        let dtype = self.ty(x).dtype;
        if dtype == DType::Bool {
            return self.logical(x);
        }
        if self.random.chance(45) {
            return if dtype.is_float() { self.function(x) } else { self.integer_function(x) };
        }
        let other = self.other(x)?;
        if self.random.chance(12) {
            let op = self.random.pick(&[BinaryOp::Less, BinaryOp::GreaterOrEqual, BinaryOp::Greater]);
            let less = self.binary(op, x, other)?;
            let zero = self.number_like(x, 0.0);
            return if self.random.chance(70) { self.add(Op::Select, &[less, x, zero]) } else { Some(less) };
        }
        let op = self.random.pick(&[
            BinaryOp::Add,
            BinaryOp::Add,
            BinaryOp::Add,
            BinaryOp::Mul,
            BinaryOp::Sub,
            BinaryOp::Max,
            BinaryOp::Min,
        ]);
        let y = self.binary(op, x, other)?;
        // Products of activations must not grow without bound.
        if op == BinaryOp::Mul && dtype.is_float() && self.random.chance(50) {
            return self.add(Op::Unary(UnaryOp::Tanh), &[y]);
        }
        Some(y)
    }

    /// A value of the same type that broadcasts with a value.
    fn other(&mut self, x: Value) -> Option<Value> {
        let ty = self.ty(x);
        let rank = ty.rank();
        match self.random.below(6) {
            0 => {
                let number =
                    if ty.dtype.is_float() { self.random.real() * 2.0 } else { self.random.within(0, 5) as f64 };
                Some(self.number_like(x, number))
            }
            1 | 2 if rank > 0 => {
                let axis = self.random.below(rank);
                self.per_channel(x, axis, 1.0)
            }
            3 if rank > 0 => {
                // The value itself, at one index of an axis.
                let axis = self.random.below(rank);
                if ty.shape[axis].as_const().is_none_or(|d| d == 0) {
                    return None;
                }
                let kind = if ty.dtype.is_float() { mcc_ir::ReduceKind::Mean } else { mcc_ir::ReduceKind::Max };
                let part = self.add(Op::Reduce { kind, axes: vec![axis], keep: true }, &[x])?;
                (self.ty(part).dtype == ty.dtype).then_some(part)
            }
            _ => {
                let same: Vec<Value> =
                    self.pool.iter().copied().filter(|&y| y != x && *self.graph.ty(y) == ty).collect();
                if same.is_empty() { None } else { Some(self.random.pick(&same)) }
            }
        }
    }

    /// A function of floats, with arguments for which it is defined.
    fn function(&mut self, x: Value) -> Option<Value> {
        use UnaryOp::*;
        let op = self.random.pick(&[
            Neg, Abs, Sqrt, Reciprocal, Exp, Log, Sin, Cos, Tanh, Erf, Gelu, Sigmoid, Softplus, Floor, Round, Atan,
            Asinh,
        ]);
        let x = match op {
            Sqrt | Log | Reciprocal => {
                let a = self.add(Op::Unary(Abs), &[x])?;
                let half = self.number_like(a, 0.5);
                self.binary(BinaryOp::Add, a, half)?
            }
            Exp => {
                let three = self.number_like(x, 3.0);
                self.binary(BinaryOp::Min, x, three)?
            }
            _ => x,
        };
        self.add(Op::Unary(op), &[x])
    }

    fn integer_function(&mut self, x: Value) -> Option<Value> {
        let dtype = self.ty(x).dtype;
        match self.random.below(6) {
            0 => self.add(Op::Unary(UnaryOp::Abs), &[x]),
            1 => self.add(Op::Unary(UnaryOp::Sign), &[x]),
            2 => self.add(Op::Unary(UnaryOp::BitNot), &[x]),
            3 => {
                let by = self.random.pick(&[1.0, 2.0, 3.0, 7.0, 16.0]);
                let by = self.number_like(x, by);
                let op = self.random.pick(&[BinaryOp::Div, BinaryOp::Mod, BinaryOp::Rem]);
                self.binary(op, x, by)
            }
            4 => {
                let other = self.other(x)?;
                let op = self.random.pick(&[BinaryOp::And, BinaryOp::Or, BinaryOp::Xor]);
                self.binary(op, x, other)
            }
            _ if matches!(dtype, DType::U8 | DType::U32 | DType::U64 | DType::U16) => {
                let by = self.number_like(x, 3.0);
                let op = self.random.pick(&[BinaryOp::ShiftLeft, BinaryOp::ShiftRight]);
                self.binary(op, x, by)
            }
            _ => self.add(Op::Unary(UnaryOp::Neg), &[x]),
        }
    }

    fn logical(&mut self, x: Value) -> Option<Value> {
        match self.random.below(4) {
            0 => self.add(Op::Unary(UnaryOp::Not), &[x]),
            1 => self.cast(x, self.float),
            2 => {
                let shape = self.shape(x);
                let numbers: Vec<Value> = self.pool.iter().copied().filter(|&y| self.shape(y) == shape).collect();
                let a = self.random.pick(&numbers);
                let zero = self.number_like(a, 0.0);
                self.add(Op::Select, &[x, a, zero])
            }
            _ => {
                let other = self.other(x)?;
                let op = self.random.pick(&[BinaryOp::And, BinaryOp::Or, BinaryOp::Xor, BinaryOp::Equal]);
                self.binary(op, x, other)
            }
        }
    }

    /// A conversion to another type.
    pub fn converted(&mut self, x: Value) -> Option<Value> {
        let dtype = self.ty(x).dtype;
        if dtype.is_float() && self.random.chance(50) {
            // Numbers to convert to integers.
            return match self.random.below(2) {
                0 => Some(self.quantized(x)?.0),
                _ => {
                    let to = self.random.pick(&[DType::I32, DType::I64, DType::Bool]);
                    let by = self.number_like(x, 16.0);
                    let wide = self.binary(BinaryOp::Mul, x, by)?;
                    self.cast(wide, to)
                }
            };
        }
        let to = self.random.pick(&[DType::F32, DType::F64, DType::F16, DType::BF16, self.float]);
        (to != dtype).then_some(())?;
        self.cast(x, to)
    }
}
