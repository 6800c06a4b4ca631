//! Turns values that are rounded to integers into sums of products with constants: `x * a + y * b + c`.
//!
//! Dequantizing, adding and quantizing again alternate shifts and scales. Multiplied out, each term has one factor, and
//! all shifts are one; a rectifier in between moves to the end. Results differ by rounding only.

use mcc_targets::Config;

use crate::support::edit::{Edit, rewrite};
use mcc_ir::Result;
use mcc_ir::{BinaryOp, DType, Graph, NodeId, Op, UnaryOp, Value};

/// Maximum number of operations that the search passes through.
const MAX_SEARCH_DEPTH: usize = 12;

/// Multiplies out values that are rounded.
///
/// # Errors
/// When the graph contradicts itself.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    rewrite(graph, |edit, node| {
        if !matches!(edit.graph.op(node), Op::Unary(UnaryOp::Round)) || edit.dtype(node.into()) != DType::F32 {
            return Ok(None);
        }
        let operand = edit.graph.operands(node)[0];
        let rectified = rectified(edit, operand);
        let (inner, factor) = rectified.unwrap_or((operand, None));
        let mut sum = Sum { terms: Vec::new(), shift: None, operations: usize::from(factor.is_some()) };
        sum.collect(edit, inner, factor, MAX_SEARCH_DEPTH)?;
        if sum.operations <= sum.least() {
            return Ok(None);
        }
        let mut whole = sum.built(edit)?;
        // A value that is clamped to zero afterwards need not be clamped before.
        let again = |user: NodeId| match edit.graph.op(user) {
            Op::Binary(BinaryOp::Max) => edit.splat(edit.graph.operands(user)[1]) == Some(0.0),
            _ => false,
        };
        if rectified.is_some() && !edit.users(node.into()).iter().all(|&(user, _)| again(user)) {
            let zero = edit.scalar(DType::F32, 0.0);
            whole = edit.add(Op::Binary(BinaryOp::Max), &[whole, zero])?;
        }
        edit.add(Op::Unary(UnaryOp::Round), &[whole]).map(Some)
    })
}

/// `x` and `k` of `max(x, 0) * k`, which is `max(x * k, 0)` for a positive `k`.
fn rectified(edit: &Edit, v: Value) -> Option<(Value, Option<Value>)> {
    let same = |x: Value| edit.graph.ty(x) == edit.graph.ty(v);
    let (larger, factor) = match edit.graph.op(v.node) {
        Op::Binary(BinaryOp::Mul) => {
            let operands = edit.graph.operands(v.node);
            let positive = edit.splat(operands[1]).is_some_and(|k| k > 0.0 && k.is_finite());
            (positive && same(operands[0])).then_some((operands[0], Some(operands[1])))?
        }
        _ => (v, None),
    };
    let Op::Binary(BinaryOp::Max) = edit.graph.op(larger.node) else { return None };
    let operands = edit.graph.operands(larger.node);
    let zero = edit.splat(operands[1]) == Some(0.0);
    let once = edit.used_once(larger) && edit.used_once(v);
    (zero && once && same(operands[0])).then_some((operands[0], factor))
}

/// Values with their factors, and a constant term.
struct Sum {
    terms: Vec<(Value, Option<Value>)>,
    shift: Option<Value>,
    /// The number of operations that compute it now.
    operations: usize,
}

impl Sum {
    /// Decomposes `factor * value`.
    fn collect(&mut self, edit: &mut Edit, value: Value, factor: Option<Value>, depth: usize) -> Result<()> {
        let operands = edit.graph.operands(value.node);
        let op = edit.graph.op(value.node).clone();
        let same = |v: Value| edit.graph.ty(v) == edit.graph.ty(value);
        let open = depth > 0 && edit.used_once(value);
        match op {
            Op::Binary(BinaryOp::Add) if open && same(operands[0]) => {
                let constant = edit.graph.as_constant(operands[1]).is_some();
                if constant {
                    let shift = times(edit, operands[1], factor)?;
                    self.shift = Some(match self.shift {
                        Some(other) => edit.add(Op::Binary(BinaryOp::Add), &[other, shift])?,
                        None => shift,
                    });
                } else if same(operands[1]) {
                    self.collect(edit, operands[1], factor, depth - 1)?;
                } else {
                    self.terms.push((value, factor));
                    return Ok(());
                }
                self.operations += 1;
                self.collect(edit, operands[0], factor, depth - 1)
            }
            Op::Binary(BinaryOp::Mul) if open && same(operands[0]) => {
                if edit.graph.as_constant(operands[1]).is_none() {
                    self.terms.push((value, factor));
                    return Ok(());
                }
                self.operations += 1;
                let factor = times(edit, operands[1], factor)?;
                self.collect(edit, operands[0], Some(factor), depth - 1)
            }
            _ => {
                self.terms.push((value, factor));
                Ok(())
            }
        }
    }

    /// The number of operations that it needs.
    fn least(&self) -> usize {
        let factors = self.terms.iter().filter(|t| t.1.is_some()).count();
        factors + self.terms.len() - 1 + usize::from(self.shift.is_some())
    }

    fn built(&self, edit: &mut Edit) -> Result<Value> {
        let mut whole: Option<Value> = None;
        for &(value, factor) in self.terms.iter().rev() {
            let term = match factor {
                Some(factor) => edit.add(Op::Binary(BinaryOp::Mul), &[value, factor])?,
                None => value,
            };
            whole = Some(match (whole, self.shift) {
                (Some(sum), _) => edit.add(Op::Binary(BinaryOp::Add), &[sum, term])?,
                (None, Some(shift)) => edit.add(Op::Binary(BinaryOp::Add), &[term, shift])?,
                (None, None) => term,
            });
        }
        whole.ok_or_else(|| mcc_ir::Error::internal("a sum of nothing"))
    }
}

fn times(edit: &mut Edit, v: Value, factor: Option<Value>) -> Result<Value> {
    match factor {
        Some(factor) => edit.add(Op::Binary(BinaryOp::Mul), &[v, factor]),
        None => Ok(v),
    }
}
