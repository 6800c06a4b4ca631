//! The two number types for arithmetic: `f64` for all floats, wrapping `i64` for all integers.

use crate::Result;
use crate::{DType, Tensor};

/// A number type for sums of products.
pub(super) trait Number: Copy + 'static {
    /// The empty sum.
    const ZERO: Self;
    /// The empty product.
    const ONE: Self;
    /// `self + a * b`.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// `self + a`.
    fn plus(self, a: Self) -> Self;
    /// All elements of a tensor.
    fn all(tensor: &Tensor) -> Vec<Self>;
    /// A tensor of numbers, rounded or wrapped to a type.
    fn tensor(dtype: DType, shape: Vec<usize>, values: &[Self]) -> Result<Tensor>;
}

impl Number for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;

    fn mul_add(self, a: f64, b: f64) -> f64 {
        self + a * b
    }

    fn plus(self, a: f64) -> f64 {
        self + a
    }

    fn all(tensor: &Tensor) -> Vec<f64> {
        tensor.to_f64s()
    }

    fn tensor(dtype: DType, shape: Vec<usize>, values: &[f64]) -> Result<Tensor> {
        Tensor::from_f64s(dtype, shape, values)
    }
}

impl Number for i64 {
    const ZERO: i64 = 0;
    const ONE: i64 = 1;

    fn mul_add(self, a: i64, b: i64) -> i64 {
        self.wrapping_add(a.wrapping_mul(b))
    }

    fn plus(self, a: i64) -> i64 {
        self.wrapping_add(a)
    }

    fn all(tensor: &Tensor) -> Vec<i64> {
        tensor.to_i64s()
    }

    fn tensor(dtype: DType, shape: Vec<usize>, values: &[i64]) -> Result<Tensor> {
        Tensor::from_i64s(dtype, shape, values)
    }
}

/// Calls `$f::<f64>` or `$f::<i64>`, depending on the element type.
macro_rules! by_class {
    ($dtype:expr, $f:ident ( $($arg:expr),* $(,)? )) => {
        if $dtype.is_float() { $f::<f64>($($arg),*) } else { $f::<i64>($($arg),*) }
    };
}
pub(super) use by_class;

/// An exact integer: every integer type fits, and results wrap when they are stored.
pub(super) fn wide(dtype: DType, value: i64) -> i128 {
    if dtype == DType::U64 { i128::from(value as u64) } else { i128::from(value) }
}

/// Smallest and largest value of an integer type.
pub(super) fn int_range(dtype: DType) -> (i128, i128) {
    let bits = dtype.bits();
    match dtype.class() {
        crate::DTypeClass::Signed => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        _ => (0, (1 << bits) - 1),
    }
}

/// The largest or smallest value of a type: the identity of minimum or maximum.
pub(super) fn extreme(dtype: DType, largest: bool) -> f64 {
    match (dtype.is_float(), largest) {
        (true, true) => f64::INFINITY,
        (true, false) => f64::NEG_INFINITY,
        (false, true) => int_range(dtype).1 as f64,
        (false, false) => int_range(dtype).0 as f64,
    }
}
