//! Types of operations that move elements.

use super::check::{self, Checker};
use crate::{DType, Dim, PadMode, Range, TensorType};
use crate::{Error, Result};

pub(super) fn transpose(x: &TensorType, perm: &[usize]) -> Result<TensorType> {
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..x.rank()) {
        return Err(Error::invalid(format!("{perm:?} is not a permutation of {} axes", x.rank())));
    }
    Ok(TensorType::new(x.dtype, perm.iter().map(|&p| x.shape[p].clone()).collect()))
}

pub(super) fn broadcast(c: &mut Checker, shape: &[Dim]) -> Result<TensorType> {
    let x = c.ty(0);
    let Some(new) = shape.len().checked_sub(x.rank()) else {
        return Err(Error::invalid(format!("{} axes do not broadcast to {}", x.rank(), shape.len())));
    };
    for (i, (from, to)) in x.shape.iter().zip(&shape[new..]).enumerate() {
        if !from.is(1) {
            c.meet(from, to, &format!("axis {i}'s extent and the one it broadcasts to"))?;
        }
    }
    Ok(TensorType::new(x.dtype, shape.to_vec()))
}

pub(super) fn slice(c: &mut Checker, ranges: &[Range]) -> Result<TensorType> {
    let x = c.ty(0);
    check::length(ranges.len(), x.rank(), "the slice")?;
    for (i, (r, extent)) in ranges.iter().zip(&x.shape).enumerate() {
        if r.step == 0 {
            return Err(Error::invalid(format!("the slice of axis {i} has step 0")));
        }
        let last = &r.start + &(&(&r.len - &Dim::ONE) * &Dim::from(r.step));
        let ends = match r.len.as_const() {
            Some(len) if len <= 0 => continue,
            Some(_) => vec![&r.start, &last],
            // It may be empty at run time, and then start where there is no element.
            None => vec![&last],
        };
        for end in ends {
            let below = end.as_const().is_some_and(|e| e < 0);
            if below || (end - extent).as_const().is_some_and(|over| over >= 0) {
                return Err(Error::invalid(format!("the slice of axis {i} takes element {end} of {extent}")));
            }
        }
        let what = format!("the elements that it takes of axis {i}");
        if r.step == 1 {
            c.at_least(&r.start, &Dim::ZERO, &what)?;
            c.at_least(extent, &(&r.start + &r.len), &what)?;
            continue;
        }
        // If it takes any element, the first and the last must exist.
        let some = r.len.lesser(&Dim::ONE);
        for end in [&r.start, &last] {
            let taken = &(end + &Dim::ONE) * &some;
            c.at_least(&taken, &Dim::ZERO, &what)?;
            c.at_least(extent, &taken, &what)?;
        }
    }
    Ok(TensorType::new(x.dtype, ranges.iter().map(|r| r.len.clone()).collect()))
}

pub(super) fn concat(c: &mut Checker, axis: usize) -> Result<TensorType> {
    let first = c.ty(0);
    check::axis(axis, first.rank())?;
    let mut shape = first.shape.clone();
    for n in 1..c.operands.len() {
        c.same_dtype(0, n)?;
        let ty = c.ty(n);
        if ty.rank() != first.rank() {
            return Err(Error::invalid(format!("operand {n} has {} axes, operand 0 {}", ty.rank(), first.rank())));
        }
        for (i, (sum, extent)) in shape.iter_mut().zip(&ty.shape).enumerate() {
            *sum = match i == axis {
                true => &*sum + extent,
                false => c.meet(sum, extent, &format!("the extents of axis {i}"))?,
            };
        }
    }
    Ok(TensorType::new(first.dtype, shape))
}

pub(super) fn pad(c: &mut Checker, before: &[Dim], after: &[Dim], mode: PadMode) -> Result<TensorType> {
    let x = c.ty(0);
    c.same_dtype(0, 1)?;
    c.shape(1, &[], "the padding value")?;
    check::length(before.len(), x.rank(), "the padding before")?;
    check::length(after.len(), x.rank(), "the padding after")?;
    if let Some(p) = before.iter().chain(after).find(|p| p.as_const().is_some_and(|c| c < 0)) {
        return Err(Error::invalid(format!("padding of {p} elements is negative")));
    }
    for (axis, (b, a)) in before.iter().zip(after).enumerate() {
        c.at_least(b, &Dim::ZERO, &format!("the padding before axis {axis}"))?;
        c.at_least(a, &Dim::ZERO, &format!("the padding behind axis {axis}"))?;
    }
    let shape: Vec<Dim> = x.shape.iter().zip(before.iter().zip(after)).map(|(d, (b, a))| &(d + b) + a).collect();
    let padded = |axis: &usize| mode != PadMode::Constant && !(before[*axis].is(0) && after[*axis].is(0));
    for axis in (0..x.rank()).filter(padded) {
        c.not_empty(&x.shape[axis], &shape, &format!("the elements that pad axis {axis}"))?;
    }
    Ok(TensorType::new(x.dtype, shape))
}

pub(super) fn gather(c: &mut Checker, axis: usize) -> Result<TensorType> {
    let (x, indices) = (c.ty(0), c.indices(1)?);
    check::axis(axis, x.rank())?;
    let shape = [&x.shape[..axis], &indices.shape, &x.shape[axis + 1..]].concat();
    c.not_empty(&x.shape[axis], &shape, &format!("what it indexes along axis {axis}"))?;
    Ok(TensorType::new(x.dtype, shape))
}

pub(super) fn gather_elements(c: &mut Checker, axis: usize) -> Result<TensorType> {
    let (x, indices) = (c.ty(0), c.indices(1)?);
    check::axis(axis, x.rank())?;
    within(c, x, indices, axis)?;
    Ok(TensorType::new(x.dtype, indices.shape.clone()))
}

/// Requires that indices are no larger than the data, except along `axis`.
fn within(c: &mut Checker, x: &TensorType, indices: &TensorType, axis: usize) -> Result<()> {
    check::length(indices.rank(), x.rank(), "the indices' shape")?;
    for (i, (have, most)) in indices.shape.iter().zip(&x.shape).enumerate() {
        if i != axis {
            c.at_least(most, have, &format!("its indices along axis {i}"))?;
        }
    }
    c.not_empty(&x.shape[axis], &indices.shape, &format!("what it indexes along axis {axis}"))
}

/// Splits the shape of indices into the outer part and the constant extent of the last axis.
fn index_depth(indices: &TensorType, most: usize) -> Result<(&[Dim], usize)> {
    let Some((depth, outer)) = indices.shape.split_last() else {
        return Err(Error::invalid("the indices have no axis"));
    };
    let Some(k) = depth.as_const().and_then(|k| usize::try_from(k).ok()) else {
        return Err(Error::unsupported(format!("the indices' last axis has the unknown extent {depth}")));
    };
    if k > most {
        return Err(Error::invalid(format!("the indices' last axis is {k}, but only {most} axes can be indexed")));
    }
    Ok((outer, k))
}

pub(super) fn gather_nd(c: &mut Checker, batch_dims: usize) -> Result<TensorType> {
    let (x, indices) = (c.ty(0), c.indices(1)?);
    if batch_dims > x.rank() || batch_dims >= indices.rank() {
        return Err(Error::invalid(format!("{batch_dims} batch axes are more than the operands have")));
    }
    let (outer, k) = index_depth(indices, x.rank() - batch_dims)?;
    let mut shape = outer.to_vec();
    for (i, d) in shape.iter_mut().enumerate().take(batch_dims) {
        *d = c.meet(d, &x.shape[i], &format!("the extents of batch axis {i}"))?;
    }
    for axis in batch_dims..batch_dims + k {
        c.not_empty(&x.shape[axis], outer, &format!("what it indexes along axis {axis}"))?;
    }
    shape.extend_from_slice(&x.shape[batch_dims + k..]);
    Ok(TensorType::new(x.dtype, shape))
}

pub(super) fn scatter_elements(c: &mut Checker, axis: usize) -> Result<TensorType> {
    let (x, indices) = (c.ty(0), c.indices(1)?);
    check::axis(axis, x.rank())?;
    within(c, x, indices, axis)?;
    c.same_dtype(0, 2)?;
    c.shape(2, &indices.shape, "the updates")?;
    Ok(x.clone())
}

pub(super) fn scatter_nd(c: &mut Checker) -> Result<TensorType> {
    let (x, indices) = (c.ty(0), c.indices(1)?);
    let (outer, k) = index_depth(indices, x.rank())?;
    c.same_dtype(0, 2)?;
    c.shape(2, &[outer, &x.shape[k..]].concat(), "the updates")?;
    for axis in 0..k {
        c.not_empty(&x.shape[axis], outer, &format!("what it indexes along axis {axis}"))?;
    }
    Ok(x.clone())
}

pub(super) fn reverse_sequence(c: &mut Checker, batch_axis: usize, time_axis: usize) -> Result<TensorType> {
    let x = c.ty(0);
    check::axis(batch_axis, x.rank())?;
    check::axis(time_axis, x.rank())?;
    if batch_axis == time_axis {
        return Err(Error::invalid(format!("axis {time_axis} is both batch and time")));
    }
    c.dtype(1, &[DType::I64])?;
    c.shape(1, &x.shape[batch_axis..=batch_axis], "the lengths")?;
    Ok(x.clone())
}
