//! Fourier transforms, as products with constant matrices, and window functions.

use std::f64::consts::PI;

use super::super::builder::{self, Builder};
use super::super::node::{Node, Results};
use super::super::tensor;
use mcc_ir::{BinaryOp, ConvSpec, DType, Dim, Error, Layout, Op, Result, Tensor, UnaryOp, Value};

/// Maximum constant length of a transform, since its matrix grows with the square.
const MAX_LENGTH: i64 = 8192;

/// `cos` and `sin` of `2 pi * i * k / n`; the product is reduced modulo `n` first, so that long transforms stay exact.
fn angle(i: i64, k: i64, n: i64) -> (f64, f64) {
    let a = 2.0 * PI * ((i * k) % n) as f64 / n as f64;
    (a.cos(), a.sin())
}

fn checked_length(n: i64) -> Result<i64> {
    match n {
        1..=MAX_LENGTH => Ok(n),
        _ => Err(Error::unsupported(format!("a Fourier transform of length {n}"))),
    }
}

/// The axis is an attribute in version 17, an input from 20 on.
pub fn dft(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let shape = b.extents_from(x, 2, "input")?;
    let rank = shape.len();
    let axis = match n.version {
        ..20 => n.int("axis", 1)?,
        _ => n.optional(2).map(|v| b.ints(v, "the axis")).transpose()?.and_then(|a| a.first().copied()).unwrap_or(-2),
    };
    let axis = builder::axis(axis, rank)?;
    let (inverse, onesided) = (n.flag("inverse", false)?, n.flag("onesided", false)?);
    let extent = shape[axis].as_const();
    let given = n.optional(1).map(|v| b.ints(v, "the length")).transpose()?.and_then(|l| l.first().copied());
    let symbolic = || Error::unsupported("a Fourier transform of symbolic length");
    let real_result = inverse && onesided;
    let length = match given {
        Some(l) => l,
        None if real_result => 2 * (extent.ok_or_else(symbolic)? - 1),
        None => extent.ok_or_else(symbolic)?,
    };
    let length = checked_length(length)?;
    let complex = shape[rank - 1].is(2);
    let bins = if onesided && !inverse { length / 2 + 1 } else { length };
    let taken = if real_result { length / 2 + 1 } else { length };
    // The axis becomes the last but one, the parts stay last, and the matrix maps [taken, parts] to [bins, parts].
    let mut perm: Vec<usize> = (0..rank - 1).filter(|&a| a != axis).collect();
    perm.extend([axis, rank - 1]);
    let y = b.transpose(x, &perm)?;
    let y = fitted(b, y, rank - 2, taken)?;
    let (parts_in, parts_out) = (if complex { 2 } else { 1 }, if real_result { 1 } else { 2 });
    let dtype = b.dtype(x);
    let outer = b.shape(y)[..rank - 2].to_vec();
    let flat = [outer.clone(), vec![Dim::from(taken * parts_in)]].concat();
    let y = b.reshape(y, flat)?;
    b.budget.room(&[taken as u64, parts_in as u64, bins as u64, parts_out as u64], dtype.size())?;
    let matrix = matrix(dtype, length, taken, bins, [parts_in, parts_out], inverse)?;
    let matrix = b.constant(matrix);
    let row = rank == 2;
    let y = if row { b.unsqueeze(y, &[0])? } else { y };
    let y = b.matmul(y, matrix)?;
    let y = b.reshape(y, [outer, vec![Dim::from(bins), Dim::from(parts_out)]].concat())?;
    let back: Vec<usize> = (0..rank).map(|a| perm.iter().position(|&p| p == a).unwrap_or(a)).collect();
    Ok(b.transpose(y, &back)?.into())
}

/// Crops or pads with zeros to an extent.
fn fitted(b: &mut Builder, x: Value, axis: usize, extent: i64) -> Result<Value> {
    let shape = b.shape(x);
    let has =
        shape[axis].as_const().ok_or_else(|| Error::unsupported("a Fourier transform along a symbolic extent"))?;
    if has >= extent {
        return b.slice(x, axis, Dim::ZERO, Dim::from(extent));
    }
    let mut after = vec![Dim::ZERO; shape.len()];
    after[axis] = Dim::from(extent - has);
    b.pad_zeros(x, vec![Dim::ZERO; shape.len()], after)
}

/// Rows: input elements and parts; columns: bins and parts.
fn matrix(dtype: DType, n: i64, taken: i64, bins: i64, parts: [i64; 2], inverse: bool) -> Result<Tensor> {
    let (scale, sign) = if inverse { (1.0 / n as f64, 1.0) } else { (1.0, -1.0) };
    let mut data = Vec::new();
    for i in 0..taken {
        // One-sided input implies its mirror image: every bin except the first and the middle one counts twice.
        let twice = inverse && parts[1] == 1 && i != 0 && 2 * i != n;
        let weight = if twice { 2.0 * scale } else { scale };
        for part in 0..parts[0] {
            for k in 0..bins {
                let (c, s) = angle(i, k, n);
                let (re, im) = if part == 0 { (c, sign * s) } else { (-sign * s, c) };
                data.push(re * weight);
                if parts[1] == 2 {
                    data.push(im * weight);
                }
            }
        }
    }
    let shape = vec![(taken * parts[0]) as usize, (bins * parts[1]) as usize];
    Tensor::from_f64s(dtype, shape, &data)
}

/// A convolution: one filter per bin and part, including the window, with the frame step as stride.
pub fn stft(b: &mut Builder, n: &Node) -> Result<Results> {
    let mut x = n.input(0)?;
    let dtype = b.dtype(x);
    if b.rank(x) == 2 {
        x = b.unsqueeze(x, &[2])?;
    }
    let shape = b.extents::<3>(x, "input signal")?;
    let first = |v: Vec<i64>| v.first().copied().unwrap_or(0);
    let step = first(b.ints(n.input(1)?, "the frame step")?).max(1);
    let length = match (n.optional(3), n.optional(2)) {
        (Some(l), _) => first(b.ints(l, "the frame length")?),
        (None, Some(w)) => {
            let [length] = b.extents(w, "input window")?;
            length.as_const().unwrap_or(0)
        }
        (None, None) => shape[1].as_const().unwrap_or(0),
    };
    let length = checked_length(length)?;
    let parts = shape[2].as_const().filter(|p| (1..=2).contains(p));
    let parts = parts.ok_or_else(|| Error::invalid(format!("a signal of shape {shape:?}")))?;
    let onesided = n.flag("onesided", true)? && parts == 1;
    let bins = if onesided { length / 2 + 1 } else { length };
    b.budget.room(&[2, bins as u64, parts as u64, length as u64], dtype.size())?;
    let mut filters = Vec::new();
    for k in 0..bins {
        for out in 0..2 {
            for part in 0..parts {
                filters.extend((0..length).map(|i| {
                    let (c, s) = angle(i, k, length);
                    match (out, part) {
                        (0, 0) | (1, 1) => c,
                        (0, _) => s,
                        _ => -s,
                    }
                }));
            }
        }
    }
    let filters = Tensor::from_f64s(dtype, vec![2 * bins as usize, parts as usize, length as usize], &filters)?;
    let mut filters = b.constant(filters);
    if let Some(window) = n.optional(2) {
        filters = b.times(filters, window)?;
    }
    let x = b.transpose(x, &[0, 2, 1])?;
    let layout = Layout::ChannelsFirst;
    let spec = ConvSpec { strides: vec![step], dilations: vec![1], pads: vec![(0, 0)], group: 1, layout };
    let y = b.add(Op::Conv(spec), &[x, filters])?;
    let frames = b.shape(y)[2].clone();
    let y = b.reshape(y, vec![shape[0].clone(), Dim::from(bins), Dim::from(2i64), frames])?;
    Ok(b.transpose(y, &[0, 3, 1, 2])?.into())
}

/// `sum of coefficients[k] * cos(2 pi k i / n)`.
fn window(b: &mut Builder, n: &Node, coefficients: &[f64]) -> Result<Results> {
    let size = b.dims(n.input(0)?, "the size")?;
    let size = size.first().cloned().ok_or_else(|| Error::invalid("the size is empty"))?;
    let to = tensor::dtype(n.int("output_datatype", 1)?)?;
    let period = if n.flag("periodic", true)? { size.clone() } else { &size - &Dim::ONE };
    let at = b.iota(DType::F64, &size)?;
    let period = b.dim_scalar(&period, DType::F64)?;
    let turn = b.over(at, period)?;
    let mut y = None;
    for (k, &c) in coefficients.iter().enumerate() {
        let term = match k {
            0 => b.splat(DType::F64, c, vec![size.clone()])?,
            _ => {
                let a = b.with(BinaryOp::Mul, turn, 2.0 * PI * k as f64)?;
                let a = b.unary(UnaryOp::Cos, a)?;
                b.with(BinaryOp::Mul, a, c)?
            }
        };
        y = Some(match y {
            Some(sum) => b.plus(sum, term)?,
            None => term,
        });
    }
    let y = y.ok_or_else(|| Error::internal("a window without coefficients"))?;
    Ok(b.cast(y, to)?.into())
}

pub fn hann_window(b: &mut Builder, n: &Node) -> Result<Results> {
    window(b, n, &[0.5, -0.5])
}

pub fn hamming_window(b: &mut Builder, n: &Node) -> Result<Results> {
    window(b, n, &[25.0 / 46.0, -21.0 / 46.0])
}

pub fn blackman_window(b: &mut Builder, n: &Node) -> Result<Results> {
    window(b, n, &[0.42, -0.5, 0.08])
}

/// Triangles on the mel scale, each with its peak of 1 at a bin.
pub fn mel_weight_matrix(b: &mut Builder, n: &Node) -> Result<Results> {
    let number = |b: &mut Builder, i: usize, what: &str| -> Result<f64> {
        let v = n.input(i)?;
        Ok(b.floats(v, what)?.first().copied().unwrap_or(0.0))
    };
    // Numbers that exceed any constant's size are refused below.
    let mels = number(b, 0, "the number of bins")?.min(2f64.powi(40)) as usize;
    let length = number(b, 1, "the transform's length")?;
    let rate = number(b, 2, "the sample rate")?;
    let (low, high) = (number(b, 3, "the lower edge")?, number(b, 4, "the upper edge")?);
    let to = tensor::dtype(n.int("output_datatype", 1)?)?;
    let bins = (length / 2.0).floor().min(2f64.powi(40)) as usize + 1;
    b.budget.room(&[bins as u64, mels as u64 + 2], to.size())?;
    let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / 10f64.ln();
    let step = (mel(high) - mel(low)) / (mels + 2) as f64;
    let edges: Vec<usize> = (0..mels + 2)
        .map(|i| {
            let hertz = 700.0 * ((i as f64 * step + mel(low)) / 2595.0 * 10f64.ln()).exp_m1();
            ((length + 1.0) * hertz / rate).floor().clamp(0.0, (bins - 1) as f64) as usize
        })
        .collect();
    let mut data = vec![0.0; bins * mels];
    for i in 0..mels {
        let (left, peak, right) = (edges[i], edges[i + 1], edges[i + 2]);
        for j in left..=peak {
            data[j * mels + i] = if peak == left { 1.0 } else { (j - left) as f64 / (peak - left) as f64 };
        }
        for j in peak..right {
            data[j * mels + i] = (right - j) as f64 / (right - peak) as f64;
        }
    }
    Ok(b.constant(Tensor::from_f64s(to, vec![bins, mels], &data)?).into())
}
