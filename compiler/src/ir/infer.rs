//! Result types of every primitive, from its operands' types.

use super::{Dim, Op, TensorType};
use crate::Result;

/// What is known of an operation's results.
pub struct Inferred {
    /// Type of each result.
    pub types: Vec<TensorType>,
    /// Pairs of dimensions that must turn out equal at run time: assumed here, checked by the compiled model.
    pub requires: Vec<(Dim, Dim)>,
}

/// The result types of `op` on operands of types `operands`.
///
/// # Errors
/// When the operands' number, element types or shapes contradict the operation; the message names the contradiction.
pub fn infer(op: &Op, operands: &[&TensorType]) -> Result<Inferred> {
    let _ = (op, operands);
    Err(crate::Error::internal("infer: not yet written"))
}
