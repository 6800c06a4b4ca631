//! Weights in all forms that have a storage format of their own.

use super::Maker;
use mcc_ir::{BinaryOp, DType, Dim, Op, Tensor, Value};

impl Maker {
    /// Weights of a type whose axis `out` has the output channels, scaled such that results are as large as the
    /// operands.
    pub fn weights(&mut self, dtype: DType, shape: &[usize], out: usize) -> Option<Value> {
        let fan = shape.iter().product::<usize>() / shape[out].max(1);
        let bound = 1.7 / (fan.max(1) as f64).sqrt();
        if self.random.chance(25) {
            return self.coded(dtype, shape, out, bound);
        }
        let mut values = self.noise(DType::F64, shape.to_vec(), bound).to_f64s();
        self.prune(&mut values, shape, out);
        if self.random.chance(15) {
            // A few distinct values.
            let kinds = self.random.pick(&[2.0, 7.0, 60.0]);
            values.iter_mut().for_each(|v| *v = (*v / bound * kinds).round() * bound / kinds);
        }
        let held = if self.random.chance(10) { DType::F16 } else { dtype };
        let tensor = Tensor::from_f64s(held, shape.to_vec(), &values).ok()?;
        let weights = self.graph.constant(tensor);
        self.cast(weights, dtype)
    }

    /// Makes some weights zero: at random, in runs of output channels, or whole channels.
    fn prune(&mut self, values: &mut [f64], shape: &[usize], out: usize) {
        let share = self.random.pick(&[50, 80, 90, 95, 100]);
        let inner: usize = shape[out + 1..].iter().product();
        let channel = |i: usize| i / inner.max(1) % shape[out];
        match self.random.below(10) {
            0..=2 => values.iter_mut().for_each(|v| *v = if self.random.chance(share) { 0.0 } else { *v }),
            3..=4 => {
                let run = self.random.pick(&[4, 8, 16]);
                let rest = values.len() / shape[out].max(1);
                let runs = shape[out].div_ceil(run);
                let kept: Vec<bool> = (0..rest * runs).map(|_| !self.random.chance(share)).collect();
                for (i, v) in values.iter_mut().enumerate() {
                    let others = i / (inner.max(1) * shape[out]) * inner + i % inner.max(1);
                    *v = if kept[others * runs + channel(i) / run] { *v } else { 0.0 };
                }
            }
            5 => {
                let kept: Vec<bool> = (0..shape[out]).map(|_| self.random.chance(60)).collect();
                values.iter_mut().enumerate().for_each(|(i, v)| *v = if kept[channel(i)] { *v } else { 0.0 });
            }
            _ => {}
        }
    }

    /// Codes of 8 or 4 bits, dequantized.
    fn coded(&mut self, dtype: DType, shape: &[usize], out: usize, bound: f64) -> Option<Value> {
        let (kind, most) = self.random.pick(&[
            (DType::I8, 127),
            (DType::I8, 127),
            (DType::U8, 255),
            (DType::I4, 7),
            (DType::U4, 15),
            (DType::I2, 1),
        ]);
        let least = if matches!(kind, DType::U8 | DType::U4) { 0 } else { -most };
        let mut values: Vec<f64> =
            (0..shape.iter().product()).map(|_| self.random.within(least, most) as f64).collect();
        let zero = if least < 0 { self.random.pick(&[0, 0, 0, 1]) } else { (most + 1) / 2 };
        if zero == 0 {
            self.prune(&mut values, shape, out);
        }
        let codes = self.graph.constant(Tensor::from_f64s(kind, shape.to_vec(), &values).ok()?);
        let wide = self.cast(codes, dtype)?;
        let zero = self.number_like(wide, zero as f64);
        let centred = self.binary(BinaryOp::Sub, wide, zero)?;
        let each = self.random.chance(60);
        let mut scale_shape = vec![1; shape.len()];
        if each {
            scale_shape[out] = shape[out];
        }
        let count = if each { shape[out] } else { 1 };
        let scales: Vec<f64> = (0..count).map(|_| bound / most as f64 * (1.0 + 0.3 * self.random.real())).collect();
        let scales = self.graph.constant(Tensor::from_f64s(dtype, scale_shape, &scales).ok()?);
        self.binary(BinaryOp::Mul, centred, scales)
    }

    /// Quantizes and dequantizes, as QuantizeLinear and DequantizeLinear are imported.
    pub fn through_codes(&mut self, x: Value) -> Option<Value> {
        let codes = self.quantized(x)?;
        let (codes, scale, zero) = codes;
        let float = self.ty(x).dtype;
        let wide = self.cast(codes, float)?;
        let zero = self.number_like(wide, zero as f64);
        let centred = self.binary(BinaryOp::Sub, wide, zero)?;
        let scale = self.number_like(centred, scale);
        self.binary(BinaryOp::Mul, centred, scale)
    }

    /// Codes, their scale and zero point.
    pub fn quantized(&mut self, x: Value) -> Option<(Value, f64, i64)> {
        let (dtype, low, high) = self.random.pick(&[(DType::U8, 0, 255), (DType::I8, -128, 127)]);
        let zero = if low == 0 { self.random.pick(&[128, 117, 0, 3]) } else { self.random.pick(&[0, 0, -5, -128]) };
        let scale = f64::from((0.011 + 0.02 * self.random.real().abs()) as f32);
        let [s, z, l, h] =
            [scale, zero as f64, f64::from(low), f64::from(high)].map(|number| self.number_like(x, number));
        let scaled = self.binary(BinaryOp::Div, x, s)?;
        let mut v = self.add(Op::Unary(mcc_ir::UnaryOp::Round), &[scaled])?;
        for (op, other) in [(BinaryOp::Add, z), (BinaryOp::Max, l), (BinaryOp::Min, h)] {
            v = self.binary(op, v, other)?;
        }
        Some((self.add(Op::Cast { to: dtype, saturate: true }, &[v])?, scale, zero))
    }

    /// A constant per channel along an axis, to be added or multiplied.
    pub fn per_channel(&mut self, x: Value, axis: usize, bound: f64) -> Option<Value> {
        let ty = self.ty(x);
        let extent = ty.shape[axis].as_const()? as usize;
        let mut shape = vec![1; ty.rank() - axis];
        shape[0] = extent;
        let values = self.noise(ty.dtype, shape, bound);
        Some(self.graph.constant(values))
    }

    /// All extents of a list that are constant.
    pub fn constant_dims(dims: &[Dim]) -> Option<Vec<usize>> {
        dims.iter().map(|d| d.as_const().map(|d| d as usize)).collect()
    }
}
