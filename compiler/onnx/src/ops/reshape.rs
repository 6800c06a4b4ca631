//! Operators that give the same elements another shape.

use super::super::builder::{self, Builder};
use super::super::content::{self, lower_bound};
use super::super::node::{Node, Results};
use super::movement::list;
use mcc_ir::{Condition, Dim, Error, Result};

pub fn reshape(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let target = match n.version {
        ..5 => n.ints("shape")?.unwrap_or_default().into_iter().map(Dim::from).collect(),
        _ => b.dims(n.input(1)?, "the shape")?,
    };
    let shape = reshaped(&b.ty(x).shape, &target, n.flag("allowzero", false)?)?;
    Ok(b.reshape(x, shape)?.into())
}

/// The result shape: 0 copies an extent (unless zeros are allowed), -1 takes the remaining elements.
pub fn reshaped(from: &[Dim], target: &[Dim], allow_zero: bool) -> Result<Vec<Dim>> {
    let mut shape = Vec::with_capacity(target.len());
    for (i, d) in target.iter().enumerate() {
        let copied = || from.get(i).cloned();
        shape.push(match lower_bound(d) {
            _ if d.is(0) && !allow_zero => copied().ok_or_else(|| {
                Error::invalid(format!("the shape {target:?} copies axis {i} of an input of rank {}", from.len()))
            })?,
            // Extents computed from shapes are used as they are; only an input's elements can be 0 or -1.
            Some(low) if low >= 0 => d.clone(),
            _ if d.as_const().is_some() || allow_zero => d.clone(),
            _ => (d - &Dim::ONE).if_neg(&d.if_neg(d, &copied().unwrap_or(Dim::ZERO)), d),
        });
    }
    let total: Dim = from.iter().product();
    let open: Vec<usize> = (0..shape.len()).filter(|&i| shape[i].as_const().is_some_and(|d| d < 0)).collect();
    match open.as_slice() {
        [] => {
            // If one of them is -1, the product of all is minus the product of the others.
            let product: Dim = shape.iter().product();
            for d in shape.iter_mut().filter(|d| lower_bound(d).is_none() && content::has_element(d)) {
                *d = d.if_neg(&total.floor_div(&-&product), d);
            }
            Ok(shape)
        }
        [open] => {
            let others: Dim = shape.iter().enumerate().filter(|(i, _)| i != open).map(|(_, d)| d).product();
            if others.is(0) && total.as_const().is_some() {
                shape[*open] = Dim::ZERO;
                return Ok(shape);
            }
            shape[*open] = quotient(from, &shape, *open).unwrap_or_else(|| total.floor_div(&others));
            if let (Some(t), Some(o)) = (total.as_const(), others.as_const())
                && (o == 0 || t % o != 0)
            {
                return Err(Error::invalid(format!("{from:?} does not reshape to {target:?}")));
            }
            Ok(shape)
        }
        _ => Err(Error::invalid(format!("the shape {target:?} has more than one -1"))),
    }
}

/// The product of `from` divided by that of the other extents, after cancelling common extents, since division of
/// polynomials has no normal form.
fn quotient(from: &[Dim], shape: &[Dim], open: usize) -> Option<Dim> {
    let mut left: Vec<&Dim> = from.iter().collect();
    let mut by = Dim::ONE;
    for (_, d) in shape.iter().enumerate().filter(|(i, _)| *i != open) {
        match left.iter().position(|f| *f == d && d.as_const().is_none()) {
            Some(i) => drop(left.remove(i)),
            None => by = &by * d,
        }
    }
    let total: Dim = left.into_iter().product();
    total.exact_div(&by)
}

pub fn flatten(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let shape = b.shape(x);
    let axis = match n.int("axis", 1)? {
        a if a == shape.len() as i64 => shape.len(),
        a => builder::axis(a, shape.len())?,
    };
    let (outer, inner) = (shape[..axis].iter().product(), shape[axis..].iter().product());
    Ok(b.reshape(x, vec![outer, inner])?.into())
}

pub fn squeeze(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let shape = b.shape(x);
    let axes = match list(b, n, 1, "axes", 13)? {
        Some(axes) => builder::axes(&axes, shape.len())?,
        None => {
            // The rank is fixed: extents that are not known to be 1 must not be 1 at run time.
            for d in shape.iter().filter(|d| d.as_const().is_none()) {
                b.require(Condition::Differ(d.clone(), Dim::ONE), "it drops all axes of extent 1, and this one stays")?;
            }
            (0..shape.len()).filter(|&i| shape[i].is(1)).collect()
        }
    };
    if let Some(a) = axes.iter().find(|&&a| shape[a].as_const().is_some_and(|d| d != 1)) {
        return Err(Error::invalid(format!("axis {a} of {shape:?} is not 1 and cannot be dropped")));
    }
    Ok(b.squeeze(x, &axes)?.into())
}

pub fn unsqueeze(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let axes = list(b, n, 1, "axes", 13)?;
    let axes = n.need("axes", axes)?;
    let axes = builder::axes(&axes, b.rank(x) + axes.len())?;
    Ok(b.unsqueeze(x, &axes)?.into())
}
