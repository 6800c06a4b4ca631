//! Operations with regions: their regions' inputs and outputs must match their operands and declared results.

use super::check::Checker;
use crate::{DType, If, TensorType};
use crate::{Error, Result};

/// Two regions with declared results, which both must match.
pub(super) fn branches(c: &mut Checker, branches: &If) -> Result<Vec<TensorType>> {
    c.dtype(0, &[DType::Bool])?;
    c.shape(0, &[], "the condition")?;
    let types = branches.inputs().into_iter().zip(branches.outputs());
    for ((inputs, outputs), name) in types.zip(["then", "else"]) {
        check_inputs(c, &inputs, 1)
            .and_then(|()| check_outputs(&outputs, &branches.results))
            .map_err(|e| e.within(name))?;
    }
    for symbol in &branches.binds {
        let [a, b] = branches
            .extents(symbol)
            .ok_or_else(|| Error::invalid(format!("it binds {symbol}, which is not an extent of its results")))?;
        let known = |s| c.operands.iter().any(|ty| ty.shape.iter().any(|d| d.symbols().contains(s)));
        if known(symbol) || [a, b].iter().any(|d| d.symbols().contains(symbol)) {
            return Err(Error::invalid(format!("it binds {symbol}, which is known already")));
        }
    }
    Ok(branches.results.clone())
}

/// Checks a region's inputs against the operands from index `first` on. Extents may be written differently.
fn check_inputs(c: &mut Checker, inputs: &[&TensorType], first: usize) -> Result<()> {
    let (want, have) = (inputs.len(), c.operands.len() - first);
    if want != have {
        return Err(Error::invalid(format!("it takes {want} operands instead of {have}")));
    }
    for (n, ty) in inputs.iter().enumerate() {
        let given = c.ty(first + n);
        if ty.dtype != given.dtype {
            return Err(Error::invalid(format!("its input {n} is {ty}, but is given {given}")));
        }
        c.shape(first + n, &ty.shape, &format!("input {n}"))?;
    }
    Ok(())
}

/// Checks a region's outputs against declared types. Extents that are not constant may be written differently, or be
/// equal because of the region's requirements; the evaluator checks them against the results.
fn check_outputs(outputs: &[&TensorType], results: &[TensorType]) -> Result<()> {
    if outputs.len() != results.len() {
        return Err(Error::invalid(format!("it gives {} results instead of {}", outputs.len(), results.len())));
    }
    for (n, (given, ty)) in outputs.iter().zip(results).enumerate() {
        let differ = || given.shape.iter().zip(&ty.shape).any(|(a, b)| (a - b).as_const().is_some_and(|d| d != 0));
        if given.dtype != ty.dtype || given.rank() != ty.rank() || differ() {
            return Err(Error::invalid(format!("its result {n} is {given} instead of {ty}")));
        }
    }
    Ok(())
}
