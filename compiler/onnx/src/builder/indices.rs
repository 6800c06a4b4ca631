//! `--check-indices`: requires indices in data to be in range, where kernels otherwise clamp them to the nearest valid
//! one.
//!
//! Invalid indices are counted at run time, before anything uses them; their number must be 0.

use super::Builder;
use mcc_ir::Result;
use mcc_ir::{BinaryOp, Condition, DType, Dim, Op, Value};

/// Requires the indices of an operation to be in range.
pub fn require_in_range(b: &mut Builder, op: &Op, operands: &[Value]) -> Result<()> {
    let (first, tuples) = match op {
        Op::Gather { axis } | Op::GatherElements { axis } | Op::ScatterElements { axis, .. } => (*axis, false),
        Op::GatherNd { batch_dims } => (*batch_dims, true),
        Op::ScatterNd { .. } => (0, true),
        // Other operations do not access memory by indices in data. (The arms above must list all that do.)
        _ => return Ok(()),
    };
    let (x, indices) = (operands[0], operands[1]);
    if b.graph.as_constant(indices).is_some() && b.shape(x)[first].as_const().is_some() {
        return Ok(());
    }
    let axes = match b.shape(indices).last().and_then(Dim::as_const) {
        Some(tuple) if tuples => first..first + tuple as usize,
        _ => first..first + 1,
    };
    for axis in axes {
        let extent = b.shape(x)[axis].clone();
        let along = match tuples {
            true => {
                let last = b.rank(indices) - 1;
                b.slice(indices, last, Dim::from(axis - first), Dim::ONE)?
            }
            false => indices,
        };
        let along = b.cast(along, DType::I64)?;
        let least = b.dim_scalar(&-&extent, DType::I64)?;
        let end = b.dim_scalar(&extent, DType::I64)?;
        let (below, beyond) =
            (b.binary(BinaryOp::Less, along, least)?, b.binary(BinaryOp::GreaterOrEqual, along, end)?);
        let wrong = b.binary(BinaryOp::Or, below, beyond)?;
        let numel = b.ty(wrong).numel();
        let wrong = b.reshape(wrong, vec![numel])?;
        let count = b.counted_symbol("indices_out_of_range");
        let found = b.add(Op::NonZero { count: count.clone() }, &[wrong])?;
        b.graph.kept.push(found);
        b.require(Condition::Equal(count, Dim::ZERO), &format!("its indices along axis {axis}, of extent {extent}"))?;
    }
    Ok(())
}
