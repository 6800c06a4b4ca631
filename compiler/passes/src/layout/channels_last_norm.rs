//! Instance and group normalisation of channels-last images.
//!
//! The importer writes them as [`Op::Normalize`] over the trailing axes of a channels-first value. If that value is a
//! transposed channels-last one, as after a convolution, the statistics are computed from the channels-last value
//! instead: a reduction over positions is vectorized along channels and costs less than two transposes.

use mcc_targets::Config;

use crate::support::edit::{Edit, rewrite};
use mcc_ir::Result;
use mcc_ir::{BinaryOp, Dim, F64, Graph, Op, ReduceKind, UnaryOp, Value};

/// Rewrites normalisations of transposed values.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    rewrite(graph, |edit, node| {
        let Op::Normalize { axis: 2, epsilon, center: true } = *edit.graph.op(node) else { return Ok(None) };
        let x = edit.graph.operands(node)[0];
        let shape = edit.shape(x);
        // `[batch, groups, rest]`; the statistics are over the rest.
        let [batch, groups, ..] = shape.as_slice() else { return Ok(None) };
        let under = match edit.graph.op(x.node) {
            Op::Reshape { .. } => edit.graph.operands(x.node)[0],
            _ => x,
        };
        let Op::Transpose { perm } = edit.graph.op(under.node).clone() else { return Ok(None) };
        let source = edit.graph.operands(under.node)[0];
        let rank = perm.len();
        let to_first = rank > 2 && perm[..2] == [0, rank - 1] && perm[2..].iter().copied().eq(1..rank - 1);
        let source_shape = edit.shape(source);
        let channels = &source_shape[rank - 1];
        let (Some(c), Some(g)) = (channels.as_const(), groups.as_const()) else { return Ok(None) };
        if !to_first || source_shape[0] != *batch || g <= 0 || c % g != 0 {
            return Ok(None);
        }
        let positions: Dim = source_shape[1..rank - 1].iter().product();
        let mut grouped = vec![batch.clone(), positions, Dim::from(g)];
        grouped.extend((c != g).then(|| Dim::from(c / g)));
        let grouped = edit.reshape(source, grouped)?;
        let y = normalized(edit, grouped, epsilon)?;
        let y = edit.reshape(y, source_shape)?;
        let y = edit.transpose(y, perm)?;
        edit.reshape(y, shape).map(Some)
    })
}

/// `x: [batch, positions, groups, channels]` normalised over positions and channels; the last axis may be missing.
fn normalized(edit: &mut Edit, x: Value, epsilon: F64) -> Result<Value> {
    let mean = mean(edit, x)?;
    let deviation = edit.add(Op::Binary(BinaryOp::Sub), &[x, mean])?;
    let square = edit.add(Op::Binary(BinaryOp::Mul), &[deviation, deviation])?;
    let variance = self::mean(edit, square)?;
    let epsilon = edit.scalar(edit.dtype(x), epsilon.get());
    let sum = edit.add(Op::Binary(BinaryOp::Add), &[variance, epsilon])?;
    let root = edit.add(Op::Unary(UnaryOp::Sqrt), &[sum])?;
    let scale = edit.add(Op::Unary(UnaryOp::Reciprocal), &[root])?;
    edit.add(Op::Binary(BinaryOp::Mul), &[deviation, scale])
}

/// Positions first, which leaves little for the second step; `algebra` joins only adjacent axes.
fn mean(edit: &mut Edit, x: Value) -> Result<Value> {
    let reduce = |axis| Op::Reduce { kind: ReduceKind::Mean, axes: vec![axis], keep: true };
    let channels = edit.add(reduce(1), &[x])?;
    if edit.shape(x).len() == 3 {
        return Ok(channels);
    }
    edit.add(reduce(3), &[channels])
}
