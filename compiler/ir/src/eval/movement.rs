//! Operations that move elements; they work on raw bytes of any type.

use bytes::Bytes;

use super::{index, strided};
use crate::{DType, PadMode, Tensor};
use crate::{Error, Result};

fn signed_strides(shape: &[usize]) -> Vec<isize> {
    index::strides(shape).into_iter().map(|s| s as isize).collect()
}

pub(super) fn iota(dtype: DType, shape: &[usize], axis: usize) -> Result<Tensor> {
    let (outer, n, inner) = index::around(shape, axis);
    let mut values = Vec::with_capacity(outer * n * inner);
    for _ in 0..outer {
        (0..n).for_each(|i| values.extend(std::iter::repeat_n(i as i64, inner)));
    }
    Tensor::from_i64s(dtype, shape.to_vec(), &values)
}

pub(super) fn transpose(x: &Tensor, perm: &[usize]) -> Result<Tensor> {
    let strides = signed_strides(x.shape());
    let shape: Vec<usize> = perm.iter().map(|&p| x.shape()[p]).collect();
    let strides: Vec<isize> = perm.iter().map(|&p| strides[p]).collect();
    let data = strided::read(x.data(), x.dtype().size(), &shape, 0, &strides);
    Tensor::new(x.dtype(), shape, data.into())
}

pub(super) fn broadcast(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if x.shape() == shape {
        return Ok(x.clone());
    }
    let new = shape.len() - x.shape().len();
    let mut strides = vec![0; new];
    let own = signed_strides(x.shape());
    strides.extend(x.shape().iter().zip(own).map(|(&n, s)| if n == 1 { 0 } else { s }));
    let data = strided::read(x.data(), x.dtype().size(), shape, 0, &strides);
    Tensor::new(x.dtype(), shape.to_vec(), data.into())
}

/// `ranges`: start, step and length of each axis.
pub(super) fn slice(x: &Tensor, ranges: &[(usize, isize, usize)]) -> Result<Tensor> {
    let own = index::strides(x.shape());
    let shape: Vec<usize> = ranges.iter().map(|r| r.2).collect();
    let offset = ranges.iter().zip(&own).map(|(r, s)| r.0 * s).sum();
    let strides: Vec<isize> = ranges.iter().zip(&own).map(|(r, &s)| r.1 * s as isize).collect();
    let data = strided::read(x.data(), x.dtype().size(), &shape, offset, &strides);
    Tensor::new(x.dtype(), shape, data.into())
}

pub(super) fn concat(parts: &[Tensor], axis: usize) -> Result<Tensor> {
    let mut shape = parts[0].shape().to_vec();
    shape[axis] = parts.iter().map(|p| p.shape()[axis]).sum();
    let outer: usize = shape[..axis].iter().product();
    let mut data = Vec::with_capacity(parts.iter().map(|p| p.data().len()).sum());
    for i in 0..outer {
        for part in parts {
            let run = part.data().len() / outer;
            data.extend_from_slice(&part.data()[i * run..(i + 1) * run]);
        }
    }
    Tensor::new(parts[0].dtype(), shape, data.into())
}

pub(super) fn pad(x: &Tensor, value: &Tensor, before: &[usize], after: &[usize], mode: PadMode) -> Result<Tensor> {
    let mut padded = x.clone();
    for (axis, (&b, &a)) in before.iter().zip(after).enumerate() {
        if (b, a) != (0, 0) {
            padded = pad_axis(&padded, value, axis, (b, a), mode)?;
        }
    }
    Ok(padded)
}

/// Pads one axis; axes can be padded in any order, in every mode.
fn pad_axis(x: &Tensor, value: &Tensor, axis: usize, pads: (usize, usize), mode: PadMode) -> Result<Tensor> {
    let (outer, n, inner) = index::around(x.shape(), axis);
    let run = inner * x.dtype().size();
    let filling = value.data().repeat(if mode == PadMode::Constant { inner } else { 0 });
    let mut shape = x.shape().to_vec();
    shape[axis] = pads.0 + n + pads.1;
    if n == 0 && mode != PadMode::Constant && outer * inner != 0 {
        return Err(Error::invalid(format!("axis {axis} is empty: there is nothing to pad it with")));
    }
    // The element of the axis at each position; `None` for the padding value.
    let source = |i: usize| -> Option<usize> {
        let (i, n) = (i as i64 - pads.0 as i64, n as i64);
        let at = match mode {
            PadMode::Constant if !(0..n).contains(&i) => return None,
            PadMode::Constant => i,
            PadMode::Edge => i.clamp(0, n - 1),
            PadMode::Reflect if n == 1 => 0,
            PadMode::Reflect => {
                let m = i.rem_euclid(2 * (n - 1));
                m.min(2 * (n - 1) - m)
            }
            PadMode::Wrap => i.rem_euclid(n),
        };
        Some(at as usize)
    };
    let mut data = Vec::with_capacity(outer * shape[axis] * run);
    for o in 0..outer {
        let block = &x.data()[o * n * run..(o + 1) * n * run];
        for i in 0..shape[axis] {
            match source(i) {
                Some(at) => data.extend_from_slice(&block[at * run..(at + 1) * run]),
                None => data.extend_from_slice(&filling),
            }
        }
    }
    Tensor::new(x.dtype(), shape, data.into())
}

pub(super) fn reverse_sequence(x: &Tensor, lengths: &Tensor, batch_axis: usize, time_axis: usize) -> Result<Tensor> {
    let size = x.dtype().size();
    let strides = index::strides(x.shape());
    let lengths = lengths.to_i64s();
    let time = x.shape()[time_axis];
    if let Some(l) = lengths.iter().find(|l| !(0..=time as i64).contains(l)) {
        return Err(Error::invalid(format!("sequence length {l} is not within 0..={time}")));
    }
    let mut data = Vec::with_capacity(x.data().len());
    index::each(x.shape(), |i| {
        let (t, length) = (i[time_axis], lengths[i[batch_axis]] as usize);
        let from = if t < length { length - 1 - t } else { t };
        let at = (index::flat(i, &strides) + from * strides[time_axis] - t * strides[time_axis]) * size;
        data.extend_from_slice(&x.data()[at..at + size]);
    });
    Tensor::new(x.dtype(), x.shape().to_vec(), Bytes::from(data))
}
