//! Checks of operands and dimensions that inference shares.

use crate::{Condition, DType, Dim, Requirement, TensorType, bounds};
use crate::{Error, Result};

/// The operands of one operation, and the requirements so far.
pub(super) struct Checker<'a> {
    pub operands: &'a [&'a TensorType],
    pub requires: Vec<Requirement>,
}

impl<'a> Checker<'a> {
    /// The type of an operand whose existence [`Checker::count`] has checked.
    pub fn ty(&self, operand: usize) -> &'a TensorType {
        self.operands[operand]
    }

    pub fn count(&self, least: usize, most: usize) -> Result<()> {
        let n = self.operands.len();
        if (least..=most).contains(&n) {
            return Ok(());
        }
        let wanted = match most {
            _ if least == most => least.to_string(),
            usize::MAX => format!("at least {least}"),
            _ => format!("{least} to {most}"),
        };
        Err(Error::invalid(format!("has {n} operands instead of {wanted}")))
    }

    /// The common element type of two operands.
    pub fn same_dtype(&self, a: usize, b: usize) -> Result<DType> {
        let (x, y) = (self.ty(a).dtype, self.ty(b).dtype);
        if x != y {
            return Err(Error::invalid(format!("operands {a} and {b} have different element types, {x} and {y}")));
        }
        Ok(x)
    }

    /// The element type of operand 0; that of operand 1 is the same, except that weights may be stored in 16 bits.
    pub fn weights_dtype(&self) -> Result<DType> {
        match (self.ty(0).dtype, self.ty(1).dtype) {
            (DType::F32, DType::F16 | DType::BF16) => Ok(DType::F32),
            _ => self.same_dtype(0, 1),
        }
    }

    pub fn dtype(&self, operand: usize, allowed: &[DType]) -> Result<DType> {
        among(self.ty(operand).dtype, allowed).map_err(|e| e.within(format!("operand {operand}")))
    }

    /// Indices are signed 32-bit or 64-bit integers.
    pub fn indices(&self, operand: usize) -> Result<&'a TensorType> {
        self.dtype(operand, &[DType::I64, DType::I32]).map(|_| self.ty(operand))
    }

    /// The extents of an operand of rank `N`.
    pub fn axes<const N: usize>(&self, operand: usize) -> Result<[Dim; N]> {
        let shape = self.ty(operand).shape.clone();
        let rank = shape.len();
        shape.try_into().map_err(|_| Error::invalid(format!("operand {operand} has {rank} axes instead of {N}")))
    }

    /// Requires two dimensions to be equal; returns the simpler one.
    pub fn meet(&mut self, a: &Dim, b: &Dim, what: &str) -> Result<Dim> {
        match (a - b).as_const() {
            Some(0) => return Ok(a.clone()),
            Some(_) => return Err(Error::invalid(format!("{what} differ: {a} and {b}"))),
            None => {}
        }
        self.require(Condition::Equal(a.clone(), b.clone()), what);
        // Constants are simplest; a bare symbol is simpler than an expression.
        let simpler = b.as_const().is_some() || a.as_const().is_none() && a.as_sym().is_none() && b.as_sym().is_some();
        Ok(if simpler { b.clone() } else { a.clone() })
    }

    /// Requires a dimension to be at least another one.
    pub fn at_least(&mut self, a: &Dim, b: &Dim, what: &str) -> Result<()> {
        let condition = Condition::AtLeast(a.clone(), b.clone());
        match condition.holds() {
            Some(true) => Ok(()),
            Some(false) => Err(Error::invalid(format!("{what}: {a} is less than {b}"))),
            None => {
                self.require(condition, what);
                Ok(())
            }
        }
    }

    /// Requires at least one element along an axis of extent `extent`, unless nothing reads: `reads` are the extents of
    /// what is read.
    pub fn not_empty(&mut self, extent: &Dim, reads: &[Dim], what: &str) -> Result<()> {
        let positive = |d: &Dim| bounds::lower_bound(d).is_some_and(|l| l > 0);
        if positive(extent) || reads.iter().any(|d| d == extent || d.is(0)) {
            return Ok(());
        }
        let reads: Dim = reads.iter().filter(|d| !positive(d)).product();
        self.at_least(extent, &reads.lesser(&Dim::ONE), what)
    }

    /// Requires that no result has a negative extent.
    pub fn extents(&mut self, types: &[TensorType]) -> Result<()> {
        for ty in types {
            for (axis, d) in ty.shape.iter().enumerate() {
                let given = || self.operands.iter().any(|t| t.shape.contains(d));
                if d.as_const().is_some_and(|c| c < 0) {
                    return Err(Error::invalid(format!("the result would have a negative extent: {ty}")));
                }
                if bounds::lower_bound(d).is_none_or(|l| l < 0) && !given() {
                    self.at_least(d, &Dim::ZERO, &format!("the extent of axis {axis} of its result"))?;
                }
            }
        }
        Ok(())
    }

    fn require(&mut self, condition: Condition, what: &str) {
        if !self.requires.iter().any(|r| r.condition == condition) {
            self.requires.push(Requirement { condition, reason: what.to_string() });
        }
    }

    /// Requires a shape.
    pub fn shape(&mut self, operand: usize, shape: &[Dim], what: &str) -> Result<()> {
        let ty = self.ty(operand);
        if ty.rank() != shape.len() {
            return Err(Error::invalid(format!("{what} has {} axes instead of {}", ty.rank(), shape.len())));
        }
        for (i, (have, want)) in ty.shape.iter().zip(shape).enumerate() {
            self.meet(have, want, &format!("axis {i} of {what} and what it must be"))?;
        }
        Ok(())
    }

    /// The shape that two shapes broadcast to.
    pub fn broadcast(&mut self, a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>> {
        let rank = a.len().max(b.len());
        let at = |s: &[Dim], i: usize| (i + s.len()).checked_sub(rank).map_or(Dim::ONE, |i| s[i].clone());
        (0..rank)
            .map(|i| match (at(a, i), at(b, i)) {
                (x, y) if x.is(1) => Ok(y),
                (x, y) if y.is(1) => Ok(x),
                (x, y) => self.meet(&x, &y, &format!("the extents of axis {i}, which must be equal or 1,")),
            })
            .collect()
    }
}

pub(super) fn among(dtype: DType, allowed: &[DType]) -> Result<DType> {
    if allowed.contains(&dtype) {
        return Ok(dtype);
    }
    let names: Vec<_> = allowed.iter().map(|d| d.name()).collect();
    Err(Error::invalid(format!("element type is {dtype} instead of {}", names.join(" or "))))
}

pub(super) fn numeric(dtype: DType) -> Result<DType> {
    if dtype == DType::Bool {
        return Err(Error::invalid("element type is bool instead of a number"));
    }
    Ok(dtype)
}

pub(super) fn float(dtype: DType) -> Result<DType> {
    if dtype.is_float() {
        return Ok(dtype);
    }
    Err(Error::invalid(format!("element type is {dtype} instead of a floating-point type")))
}

pub(super) fn int(dtype: DType) -> Result<DType> {
    if dtype.is_int() {
        return Ok(dtype);
    }
    Err(Error::invalid(format!("element type is {dtype} instead of an integer type")))
}

pub(super) fn axis(axis: usize, rank: usize) -> Result<()> {
    if axis < rank {
        return Ok(());
    }
    Err(Error::invalid(format!("axis {axis} does not exist: there are {rank} axes")))
}

/// Checks that an attribute has one element per axis.
pub(super) fn length(len: usize, axes: usize, what: &str) -> Result<()> {
    if len == axes {
        return Ok(());
    }
    Err(Error::invalid(format!("{what} has {len} elements for {axes} axes")))
}

/// Maximum bytes of a tensor with constant extents, counting empty axes as 1: a process's address space. Sums and
/// products of an extent with a stride then fit 64 bits.
const MAX_BYTES: i64 = 1 << 47;

/// Checks that no result exceeds the address space, or has extents that are too large to compute.
pub(super) fn sizes(types: &[TensorType]) -> Result<()> {
    for ty in types {
        if ty.shape.iter().any(Dim::is_too_large) {
            return Err(Error::unsupported("the result's extents are expressions that grow too large")
                .help("pin the dimensions that they follow from with --dim or --shape"));
        }
        let size = ty.dtype.size() as i64;
        let bytes = ty.shape.iter().fold(size, |n, d| n.saturating_mul(d.as_const().unwrap_or(1).max(1)));
        if bytes > MAX_BYTES {
            return Err(Error::invalid(format!("the result would be larger than the address space: {ty}")));
        }
    }
    Ok(())
}
