//! Moves reshapes after element-wise operations, which are then next to the kernel that makes their operand and become
//! its epilogue; for example, a bias after the squeeze that makes a 1-D convolution of a 2-D one.

use mcc_targets::Config;

use crate::support::edit::{Edit, pad_rank, rewrite};
use crate::support::regroup::blocks;
use crate::support::size::estimate;
use mcc_ir::Result;
use mcc_ir::{Dim, Graph, NodeId, Op, Traits, Value};

/// Sinks reshapes through element-wise operations.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    rewrite(graph, |edit, node| if edit.graph.op(node).is(Traits::ELEMENTWISE) { sink(edit, node) } else { Ok(None) })
}

fn sink(edit: &mut Edit, node: NodeId) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let shape = edit.shape(node.into());
    let reshaped = operands.iter().copied().find(|v| match edit.graph.op(v.node) {
        Op::Reshape { shape: s } => *s == shape,
        _ => false,
    });
    let Some(reshaped) = reshaped else { return Ok(None) };
    // If others need the value in the new shape, it would be computed twice, or be separated from its kernel.
    let elementwise = |(user, _): &(NodeId, usize)| edit.graph.op(*user).is(Traits::ELEMENTWISE);
    if edit.graph.is_output(reshaped) || !edit.users(reshaped).iter().all(elementwise) {
        return Ok(None);
    }
    let source = edit.shape(root(edit, reshaped));
    let mut new_shapes = Vec::new();
    for &v in &operands {
        match reshaped_operand(edit, v, &source, &shape) {
            Some(new) => new_shapes.push(new),
            None => return Ok(None),
        }
    }
    let mut new = Vec::new();
    for (&v, shape) in operands.iter().zip(new_shapes) {
        new.push(edit.reshape(v, shape)?);
    }
    let op = edit.graph.op(node).clone();
    let result = edit.add(op, &new)?;
    edit.reshape(result, shape).map(Some)
}

/// The value before reshapes.
fn root(edit: &Edit, mut value: Value) -> Value {
    while let Op::Reshape { .. } = edit.graph.op(value.node) {
        value = edit.graph.operands(value.node)[0];
    }
    value
}

/// The shape in which a value broadcasts with a result of shape `source`, as it does now with one of `shape`; `None` if
/// there is none, or if the new shape would separate the value from the operations fused with it.
fn reshaped_operand(edit: &Edit, value: Value, source: &[Dim], shape: &[Dim]) -> Option<Vec<Dim>> {
    let ty = edit.graph.ty(value);
    let padded = pad_rank(&ty.shape, shape.len());
    let op = edit.graph.op(value.node);
    let full = padded == shape;
    let fused = op.is(Traits::ELEMENTWISE) || op.is(Traits::VIEW) || matches!(op, Op::Iota { .. });
    if fused && full && estimate(ty) > 1 {
        return None;
    }
    if full {
        return Some(source.to_vec());
    }
    let mut new = Vec::with_capacity(source.len());
    for block in blocks(source, shape)? {
        let (own, all) = (&padded[block.to.clone()], &shape[block.to.clone()]);
        if own.iter().all(|d| d.is(1)) {
            new.extend(block.from.map(|_| Dim::ONE));
        } else if own == all {
            new.extend_from_slice(&source[block.from]);
        } else {
            return None;
        }
    }
    // A value broadcast from fewer axes stays so.
    let leading = if ty.rank() < shape.len() { new.iter().take_while(|d| d.is(1)).count() } else { 0 };
    Some(new.split_off(leading))
}
