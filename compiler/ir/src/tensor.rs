//! Tensor types and constant tensors.

use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};

use super::{DType, DTypeClass, Dim};
use crate::{Error, Result};

/// Element type and shape of a value. The rank is always known.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extent of each axis, outermost first; row-major and contiguous in memory.
    pub shape: Vec<Dim>,
}

impl TensorType {
    /// A type of any dimensions.
    pub fn new(dtype: DType, shape: Vec<Dim>) -> TensorType {
        TensorType { dtype, shape }
    }

    /// A type of constant dimensions.
    pub fn fixed(dtype: DType, shape: &[usize]) -> TensorType {
        TensorType { dtype, shape: shape.iter().map(|&d| Dim::from(d)).collect() }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn numel(&self) -> Dim {
        self.shape.iter().product()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> Dim {
        &self.numel() * &Dim::from(self.dtype.size())
    }

    /// The shape when all dimensions are constant.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(|d| d.as_const().and_then(|c| usize::try_from(c).ok())).collect()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.shape.iter().enumerate() {
            if i > 0 {
                write!(f, ", ")?;
            }
            write!(f, "{d}")?;
        }
        write!(f, "]")
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A constant tensor: little-endian elements, row-major, one byte each for types of less than a byte.
///
/// The bytes are reference-counted and may be a slice of a memory-mapped file: cloning costs nothing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Bytes,
}

impl Tensor {
    /// A tensor with given bytes.
    ///
    /// # Errors
    /// When the number of bytes does not match type and shape, or the size overflows.
    pub fn new(dtype: DType, shape: Vec<usize>, data: Bytes) -> Result<Tensor> {
        // An empty tensor has no bytes, however long its other axes are.
        let element = if shape.contains(&0) { 0 } else { dtype.size() };
        let want = shape.iter().try_fold(element, |n, &d| n.checked_mul(d));
        // Strides are products of all extents but the first; they must not overflow even without elements.
        let strides = shape.iter().skip(1).try_fold(1usize, |n, &d| n.checked_mul(d.max(1)));
        match want.filter(|_| strides.is_some_and(|n| n <= isize::MAX as usize)) {
            Some(n) if n == data.len() => Ok(Tensor { dtype, shape, data }),
            Some(n) => Err(Error::invalid(format!("{dtype}{shape:?} needs {n} bytes of data, but has {}", data.len()))),
            None => Err(Error::invalid(format!("{dtype}{shape:?} is larger than the address space"))),
        }
    }

    /// A tensor from numbers, rounded to `dtype` (half to even; integers truncate and wrap; non-zero is true).
    ///
    /// # Errors
    /// When the number of `values` does not match `shape`.
    pub fn from_f64s(dtype: DType, shape: Vec<usize>, values: &[f64]) -> Result<Tensor> {
        let mut data = Vec::with_capacity(values.len() * dtype.size());
        match dtype {
            DType::F32 => values.iter().for_each(|&v| data.extend((v as f32).to_le_bytes())),
            _ => values.iter().for_each(|&v| encode_f64(dtype, v, &mut data)),
        }
        Tensor::new(dtype, shape, data.into())
    }

    /// A tensor from integers, wrapped to `dtype` (or rounded, when it is a float type).
    ///
    /// # Errors
    /// When the number of `values` does not match `shape`.
    pub fn from_i64s(dtype: DType, shape: Vec<usize>, values: &[i64]) -> Result<Tensor> {
        let mut data = Vec::with_capacity(values.len() * dtype.size());
        values.iter().for_each(|&v| encode_i64(dtype, v, &mut data));
        Tensor::new(dtype, shape, data.into())
    }

    /// A tensor of rank 0.
    pub fn scalar_f64(dtype: DType, value: f64) -> Tensor {
        let mut data = Vec::new();
        encode_f64(dtype, value, &mut data);
        Tensor { dtype, shape: Vec::new(), data: data.into() }
    }

    /// A tensor of rank 0.
    pub fn scalar_i64(dtype: DType, value: i64) -> Tensor {
        let mut data = Vec::new();
        encode_i64(dtype, value, &mut data);
        Tensor { dtype, shape: Vec::new(), data: data.into() }
    }

    /// A tensor of zeros.
    pub fn zeros(dtype: DType, shape: Vec<usize>) -> Tensor {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        Tensor { dtype, shape, data: vec![0; bytes].into() }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.data.len() / self.dtype.size()
    }

    /// The elements' bytes.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Its type.
    pub fn ty(&self) -> TensorType {
        TensorType::fixed(self.dtype, &self.shape)
    }

    /// The same data with another shape.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshaped(&self, shape: Vec<usize>) -> Result<Tensor> {
        Tensor::new(self.dtype, shape, self.data.clone())
    }

    /// Every element as `f64` (integers of 64 bits may round).
    pub fn to_f64s(&self) -> Vec<f64> {
        match self.dtype {
            DType::F32 => {
                let element = |b: &[u8]| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                self.data.chunks_exact(4).map(element).collect()
            }
            dtype => self.data.chunks_exact(dtype.size()).map(|b| decode_f64(dtype, b)).collect(),
        }
    }

    /// All elements, if they are `f32`.
    pub fn to_f32s(&self) -> Option<Vec<f32>> {
        let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        (self.dtype == DType::F32).then(|| self.data.chunks_exact(4).map(number).collect())
    }

    /// Every element as `i64` (floats truncate; `u64` keeps its bits).
    pub fn to_i64s(&self) -> Vec<i64> {
        self.data.chunks_exact(self.dtype.size()).map(|b| decode_i64(self.dtype, b)).collect()
    }

    /// Element `i` in row-major order, as `f64`.
    pub fn f64_at(&self, i: usize) -> f64 {
        let size = self.dtype.size();
        decode_f64(self.dtype, &self.data[i * size..(i + 1) * size])
    }

    /// Element `i` in row-major order, as `i64`.
    pub fn i64_at(&self, i: usize) -> i64 {
        let size = self.dtype.size();
        decode_i64(self.dtype, &self.data[i * size..(i + 1) * size])
    }

    /// The value of all elements as a rank-0 tensor, if they have the same bytes.
    pub fn splat_value(&self) -> Option<Tensor> {
        let size = self.dtype.size();
        let first = self.data.get(..size)?;
        let same = self.data.chunks_exact(size).all(|c| c == first);
        same.then(|| Tensor { dtype: self.dtype, shape: Vec::new(), data: self.data.slice(..size) })
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{{{} bytes}}", self.ty(), self.data.len())
    }
}

/// A small float format: 1 sign bit, then exponent and mantissa.
struct Minifloat {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i32,
    /// Whether the top exponent codes infinities and NaN as in IEEE 754.
    ieee: bool,
    /// Whether the only NaN is the code of negative zero.
    unsigned_zero: bool,
}

fn minifloat(dtype: DType) -> Option<Minifloat> {
    let m = |exponent_bits, mantissa_bits, bias, ieee, unsigned_zero| {
        Some(Minifloat { exponent_bits, mantissa_bits, bias, ieee, unsigned_zero })
    };
    match dtype {
        DType::F8E4M3FN => m(4, 3, 7, false, false),
        DType::F8E4M3FNUZ => m(4, 3, 8, false, true),
        DType::F8E5M2 => m(5, 2, 15, true, false),
        DType::F8E5M2FNUZ => m(5, 2, 16, false, true),
        DType::F4E2M1 => m(2, 1, 1, false, false),
        _ => None,
    }
}

impl Minifloat {
    fn decode(&self, code: u8, has_nan: bool) -> f64 {
        let m = self.mantissa_bits;
        let negative = code >> (self.exponent_bits + m) & 1 == 1;
        let exponent = i32::from(code >> m & ((1 << self.exponent_bits) - 1) as u8);
        let mantissa = f64::from(code & ((1 << m) - 1) as u8) / f64::from(1 << m);
        let top = (1 << self.exponent_bits) - 1;
        if self.unsigned_zero && negative && exponent == 0 && mantissa == 0.0 {
            return f64::NAN;
        }
        if self.ieee && exponent == top {
            let inf = if negative { f64::NEG_INFINITY } else { f64::INFINITY };
            return if mantissa == 0.0 { inf } else { f64::NAN };
        }
        if has_nan
            && !self.ieee
            && !self.unsigned_zero
            && exponent == top
            && code & ((1 << m) - 1) as u8 == (1 << m) - 1
        {
            return f64::NAN;
        }
        let magnitude = if exponent == 0 {
            mantissa * 2f64.powi(1 - self.bias)
        } else {
            (1.0 + mantissa) * 2f64.powi(exponent - self.bias)
        };
        if negative { -magnitude } else { magnitude }
    }
}

/// The value of one element's little-endian bytes.
pub(crate) fn decode_f64(dtype: DType, b: &[u8]) -> f64 {
    match dtype {
        DType::F32 => f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        DType::F64 => f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
        DType::F16 => f64::from(f16::from_le_bytes([b[0], b[1]])),
        DType::BF16 => f64::from(bf16::from_le_bytes([b[0], b[1]])),
        DType::F8E8M0 if b[0] == 255 => f64::NAN,
        DType::F8E8M0 => 2f64.powi(i32::from(b[0]) - 127),
        DType::U64 => decode_i64(dtype, b) as u64 as f64,
        _ => match minifloat(dtype) {
            Some(m) => m.decode(b[0], dtype != DType::F4E2M1),
            None => decode_i64(dtype, b) as f64,
        },
    }
}

/// The value of one element's little-endian bytes; floats truncate.
pub(crate) fn decode_i64(dtype: DType, b: &[u8]) -> i64 {
    match dtype {
        DType::I8 | DType::I4 | DType::I2 => i64::from(b[0] as i8),
        DType::U8 | DType::U4 | DType::U2 | DType::Bool => i64::from(b[0]),
        DType::I16 => i64::from(i16::from_le_bytes([b[0], b[1]])),
        DType::U16 => i64::from(u16::from_le_bytes([b[0], b[1]])),
        DType::I32 => i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        DType::U32 => i64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        DType::I64 | DType::U64 => i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
        _ => decode_f64(dtype, b) as i64,
    }
}

/// Appends `v` rounded to `dtype`; small floats saturate at their largest finite value.
pub(crate) fn encode_f64(dtype: DType, v: f64, out: &mut Vec<u8>) {
    match dtype {
        DType::F32 => out.extend((v as f32).to_le_bytes()),
        DType::F64 => out.extend(v.to_le_bytes()),
        DType::F16 => out.extend(f16::from_f32(to_odd(v)).to_le_bytes()),
        DType::BF16 => out.extend(bf16::from_f32(to_odd(v)).to_le_bytes()),
        DType::F8E8M0 => out.push(encode_e8m0(v)),
        DType::Bool => out.push(u8::from(v != 0.0)),
        DType::U64 => out.extend((v as u64).to_le_bytes()),
        _ => match minifloat(dtype) {
            Some(m) => out.push(m.encode(v, dtype != DType::F4E2M1, true)),
            None => encode_i64(dtype, v as i64, out),
        },
    }
}

/// `v` as an `f32` whose last bit records whether bits were lost, so that rounding it again gives the same as rounding
/// once (`half` ignores the low bits of an `f64`).
fn to_odd(v: f64) -> f32 {
    let lost = (1 << 29) - 1;
    let bits = v.to_bits();
    let sticky = if v.is_finite() && bits & lost != 0 { 1 << 29 } else { 0 };
    f64::from_bits(bits & !lost | sticky | if v.is_nan() { 1 << 51 } else { 0 }) as f32
}

/// Appends `v` wrapped to `dtype`.
pub(crate) fn encode_i64(dtype: DType, v: i64, out: &mut Vec<u8>) {
    match dtype.class() {
        DTypeClass::Float => encode_f64(dtype, v as f64, out),
        DTypeClass::Bool => out.push(u8::from(v != 0)),
        DTypeClass::Signed | DTypeClass::Unsigned if dtype.bits() < 8 => {
            let unused = 8 - dtype.bits();
            let low = (v as u8) << unused;
            out.push(if dtype.class() == DTypeClass::Signed { (low as i8 >> unused) as u8 } else { low >> unused });
        }
        DTypeClass::Signed | DTypeClass::Unsigned => out.extend(&v.to_le_bytes()[..dtype.size()]),
    }
}

impl Minifloat {
    /// The code of `v` rounded to nearest, ties to even. Values that are too large become the largest finite value if
    /// `saturate`, else infinity or NaN, whichever the format has.
    fn encode(&self, v: f64, has_nan: bool, saturate: bool) -> u8 {
        let m = self.mantissa_bits;
        let sign = u8::from(v.is_sign_negative()) << (self.exponent_bits + m);
        let mask = (1u8 << (self.exponent_bits + m)) - 1;
        let nan = match (has_nan, self.unsigned_zero) {
            (true, true) => 1 << (self.exponent_bits + m),
            (true, false) => sign | mask,
            // Formats without a NaN give negative zero, as the reference implementations do.
            (false, _) => 1 << (self.exponent_bits + m),
        };
        if v.is_nan() {
            return nan;
        }
        let largest = match (self.ieee, has_nan && !self.unsigned_zero) {
            (true, _) => mask - (1 << m),
            (false, true) => mask - 1,
            (false, false) => mask,
        };
        let code = if v.is_infinite() {
            u64::MAX
        } else {
            // Bits 52.. of an f64 are its exponent; subnormal f64s are far below every small format.
            let exponent = ((v.abs().to_bits() >> 52) as i32 - 1023).max(1 - self.bias);
            let steps = (v.abs() / 2f64.powi(exponent - m as i32)).round_ties_even() as u64;
            // A normal number's implicit bit carries into the exponent field, and so does rounding up.
            let field = (exponent - (1 - self.bias)) as u64;
            (field << m) + steps
        };
        let code = match u8::try_from(code) {
            Ok(c) if c <= largest => c,
            _ if saturate => largest,
            _ if self.ieee => mask - ((1 << m) - 1),
            _ => return nan,
        };
        if self.unsigned_zero && code == 0 { 0 } else { sign | code }
    }
}

/// Appends `v` rounded to the float type `dtype`; `saturate` decides the overflow of 8-bit floats, as in ONNX Cast.
pub(crate) fn encode_saturating(dtype: DType, v: f64, saturate: bool, out: &mut Vec<u8>) {
    match minifloat(dtype) {
        Some(m) => out.push(m.encode(v, dtype != DType::F4E2M1, saturate || dtype == DType::F4E2M1)),
        None => encode_f64(dtype, v, out),
    }
}

/// A power of two, rounded up as ONNX Cast does by default: the exponent plus 127.
fn encode_e8m0(v: f64) -> u8 {
    let bits = v.abs().to_bits();
    if v.is_nan() {
        return 255;
    }
    let exponent = (bits >> 52) as i64 - 1023 + i64::from(bits & ((1 << 52) - 1) != 0);
    (exponent + 127).clamp(0, 254) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_floats_round_trip() {
        for dtype in DType::all().filter(|d| d.size() == 1 && d.is_float()) {
            for code in 0..=255u8 {
                let v = decode_f64(dtype, &[code]);
                let mut out = Vec::new();
                encode_f64(dtype, v, &mut out);
                let unused = dtype == DType::F4E2M1 && code > 15;
                // All NaN codes become one; infinity saturates.
                assert!(unused || !v.is_finite() || out == [code], "{dtype} {code} is {v}, encoded {out:?}");
                assert_eq!(decode_f64(dtype, &out).is_nan(), v.is_nan(), "{dtype} {code}");
            }
        }
    }

    #[test]
    fn small_floats_round_to_nearest_even() {
        let round = |dtype, v, saturate| {
            let mut out = Vec::new();
            encode_saturating(dtype, v, saturate, &mut out);
            decode_f64(dtype, &out)
        };
        use DType::*;
        for (dtype, v, want, wrapped) in [
            (F8E4M3FN, 0.48033, 0.46875, 0.46875),
            (F8E4M3FN, 1e6, 448.0, f64::NAN),
            (F8E4M3FN, 463.0, 448.0, 448.0),
            (F8E4M3FN, 465.0, 448.0, f64::NAN),
            (F8E4M3FN, f64::NEG_INFINITY, -448.0, f64::NAN),
            (F8E4M3FNUZ, f64::INFINITY, 240.0, f64::NAN),
            (F8E5M2, 1e6, 57344.0, f64::INFINITY),
            (F8E5M2FNUZ, -1e6, -57344.0, f64::NAN),
            (F8E4M3FN, 2f64.powi(-10), 0.0, 0.0),
            (F8E4M3FN, 3.0 * 2f64.powi(-10), 2f64.powi(-8), 2f64.powi(-8)),
            (F4E2M1, 0.25, 0.0, 0.0),
            (F4E2M1, -3.5, -4.0, -4.0),
            (F4E2M1, 1e6, 6.0, 6.0),
            (F8E8M0, 1.1, 2.0, 2.0),
            (F8E8M0, 0.0, 2f64.powi(-127), 2f64.powi(-127)),
        ] {
            for (saturate, want) in [(true, want), (false, wrapped)] {
                let got = round(dtype, v, saturate);
                assert!(got == want || got.is_nan() && want.is_nan(), "{dtype} of {v}: {got}, not {want}");
            }
        }
    }
}
