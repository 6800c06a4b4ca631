//! Sizes for heuristics.

use mcc_ir::TensorType;

/// Elements of a type when its shape is fixed; symbols count as a large number, so that heuristics take a value
/// of unknown size for a large one.
pub(crate) fn estimate(ty: &TensorType) -> i64 {
    const SYMBOL: i64 = 128;
    let mut elements = 1i64;
    for d in &ty.shape {
        elements = elements.saturating_mul(d.as_const().unwrap_or(SYMBOL).max(1));
    }
    elements
}
