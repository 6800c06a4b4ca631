//! Sizes for heuristics.

use mcc_ir::TensorType;

/// Number of elements of a type; symbols count as a large number, so that heuristics treat a value of unknown size as a
/// large one.
pub(crate) fn estimate(ty: &TensorType) -> i64 {
    const ASSUMED_EXTENT: i64 = 128;
    let mut elements = 1i64;
    for d in &ty.shape {
        elements = elements.saturating_mul(d.as_const().unwrap_or(ASSUMED_EXTENT).max(1));
    }
    elements
}
