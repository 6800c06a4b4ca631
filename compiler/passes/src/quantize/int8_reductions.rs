//! Computes sums and means of dequantized bytes from the bytes, scaled and shifted afterwards.
//!
//! ```text
//! sum((x + z) * s) = (sum(x) + n * z) * s
//! ```
//!
//! The sum is exact. The operand then need not exist as floats, so that its other users can read bytes too. The results
//! differ by rounding only.

use mcc_targets::Config;

use super::qdq_propagation::{Dequantized, Parameters};
use crate::support::edit::rewrite;
use mcc_ir::Result;
use mcc_ir::{BinaryOp, DType, Dim, Graph, Op, ReduceKind};

/// Maximum number of elements: the sum of more might not be representable as a 32-bit float.
const MAX_SUMMED_ELEMENTS: i64 = 1 << 16;

/// Sums bytes.
///
/// # Errors
/// When the graph contradicts itself.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    rewrite(graph, |edit, node| {
        let Op::Reduce { kind: kind @ (ReduceKind::Sum | ReduceKind::Mean), axes, keep } = edit.graph.op(node).clone()
        else {
            return Ok(None);
        };
        let x = edit.graph.operands(node)[0];
        let Some(Dequantized { codes, parameters: Parameters { scale, zero, .. } }) = Dequantized::of(edit.graph, x)
        else {
            return Ok(None);
        };
        let count: Dim = axes.iter().map(|&a| edit.shape(x)[a].clone()).product();
        let Some(count) = count.as_const().filter(|c| (1..=MAX_SUMMED_ELEMENTS).contains(c)) else { return Ok(None) };
        let sum = edit.add(Op::Reduce { kind: ReduceKind::Sum, axes, keep }, &[codes])?;
        let mut result = edit.add(Op::Cast { to: DType::F32, saturate: true }, &[sum])?;
        let (scale, shift) = match kind {
            ReduceKind::Mean => (scale / count as f64, -zero * scale),
            _ => (scale, -zero * scale * count as f64),
        };
        for (op, number) in [(BinaryOp::Mul, scale), (BinaryOp::Add, shift)] {
            if (op, number) != (BinaryOp::Add, 0.0) {
                let number = edit.scalar(DType::F32, number);
                result = edit.add(Op::Binary(op), &[result, number])?;
            }
        }
        Ok(Some(result))
    })
}
