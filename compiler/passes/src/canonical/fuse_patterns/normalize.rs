//! `(x - mean(x)) / sqrt(mean((x - mean(x))²) + e)` and `x / sqrt(mean(x²) + e)`.

use super::{binary, quotient, reduction, unary};
use crate::support::edit::Edit;
use mcc_ir::Result;
use mcc_ir::{BinaryOp, Op, ReduceKind, UnaryOp, Value};

pub(crate) fn match_at(edit: &mut Edit, value: Value) -> Result<Option<Value>> {
    if let Some((deviation, root)) = quotient(edit, value)
        && let Some(norm) = norm(edit, root)
        && norm.of == deviation
        && edit.graph.ty(value) == edit.graph.ty(deviation)
    {
        return norm.build(edit);
    }
    scaled_and_shifted(edit, value)
}

/// `x * m + (beta - mean(x) * m)` with `m = gamma / sqrt(variance(x) + e)`, which is the same multiplied out.
fn scaled_and_shifted(edit: &mut Edit, value: Value) -> Result<Option<Value>> {
    let Some((norm, gamma, beta)) = multiplied_out(edit, value) else { return Ok(None) };
    let Some(mut y) = norm.build(edit)? else { return Ok(None) };
    if let Some(gamma) = gamma {
        y = edit.add(Op::Binary(BinaryOp::Mul), &[y, gamma])?;
    }
    let y = edit.add(Op::Binary(BinaryOp::Add), &[y, beta])?;
    Ok((edit.graph.ty(y) == edit.graph.ty(value)).then_some(y))
}

fn multiplied_out(edit: &Edit, value: Value) -> Option<(Norm, Option<Value>, Value)> {
    let (a, b) = binary(edit, value, BinaryOp::Add)?;
    let (product, (beta, shift)) = match (binary(edit, b, BinaryOp::Sub), binary(edit, a, BinaryOp::Sub)) {
        (Some(sub), _) => (a, sub),
        (None, Some(sub)) => (b, sub),
        (None, None) => return None,
    };
    let (p, q) = binary(edit, product, BinaryOp::Mul)?;
    let (r, s) = binary(edit, shift, BinaryOp::Mul)?;
    let (x, m, mean) = match () {
        () if q == s => (p, q, r),
        () if q == r => (p, q, s),
        () if p == s => (q, p, r),
        () if p == r => (q, p, s),
        () => return None,
    };
    let (root, gamma) = match unary(edit, m, UnaryOp::Reciprocal) {
        Some(root) => (root, None),
        None => {
            let (gamma, root) = quotient(edit, m)?;
            (root, Some(gamma))
        }
    };
    let norm = norm(edit, root)?;
    let (centered, of_mean) = binary(edit, norm.of, BinaryOp::Sub)?;
    (centered == x && of_mean == mean && norm.centered == Some(x)).then_some((norm, gamma, beta))
}

/// A normalisation whose root was found.
struct Norm {
    /// The value whose mean square is under the root.
    of: Value,
    /// If `of` is the deviation of a value from its mean, that value.
    centered: Option<Value>,
    axes: Vec<usize>,
    epsilon: f64,
}

/// Matches `sqrt(mean(of²) + epsilon)`.
fn norm(edit: &Edit, root: Value) -> Option<Norm> {
    let sum = unary(edit, root, UnaryOp::Sqrt)?;
    let (variance, epsilon) = match binary(edit, sum, BinaryOp::Add) {
        Some((variance, epsilon)) => (variance, edit.splat(epsilon)?),
        None => (sum, 0.0),
    };
    let (square, axes) = reduction(edit, variance, ReduceKind::Mean)?;
    let (of, same) = binary(edit, square, BinaryOp::Mul)?;
    if of != same || epsilon < 0.0 {
        return None;
    }
    let centered = binary(edit, of, BinaryOp::Sub).and_then(|(x, mean)| {
        let (of_mean, mean_axes) = reduction(edit, mean, ReduceKind::Mean)?;
        (of_mean == x && mean_axes == axes).then_some(x)
    });
    Some(Norm { of, centered, axes, epsilon })
}

impl Norm {
    fn build(&self, edit: &mut Edit) -> Result<Option<Value>> {
        let x = self.centered.unwrap_or(self.of);
        let rank = edit.graph.ty(x).rank();
        let Some(&first) = self.axes.first() else { return Ok(None) };
        let normalize =
            |axis: usize| Op::Normalize { axis, epsilon: self.epsilon.into(), center: self.centered.is_some() };
        if self.axes.iter().copied().eq(first..rank) {
            return edit.add(normalize(first), &[x]).map(Some);
        }
        // Over the channels of an image between convolutions: those become channels-last, and the transposes cancel.
        if self.axes == [1] && rank == 4 {
            let last = edit.transpose(x, vec![0, 2, 3, 1])?;
            let y = edit.add(normalize(3), &[last])?;
            return edit.transpose(y, vec![0, 3, 1, 2]).map(Some);
        }
        Ok(None)
    }
}
