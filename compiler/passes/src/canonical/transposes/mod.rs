//! Moves transposes towards the outputs, where they meet their inverses and cancel.
//!
//! A transpose of an operand becomes a transpose of the result wherever that costs no more: element-wise operations
//! stay next to the kernel that makes their operand (and become its epilogue), constants are permuted at compile time,
//! and moving only axes of extent 1 is free. Costs are elements moved; if a later transpose is known to undo this one
//! ([`demand`]), the result's costs nothing.
//!
//! Transposes do not move past convolutions: the layout pass adds transposes around them, which meet here.

mod demand;
mod reshape;
mod sink;

use mcc_targets::Config;

use crate::support::edit::{Edit, pad_rank, rewrite};
use demand::Demands;
use mcc_ir::Result;
use mcc_ir::{Dim, Graph, NodeId, Op, Value};

/// Sinks and cancels transposes.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    let demands = Demands::of(graph);
    rewrite(graph, |edit, node| match edit.graph.op(node).clone() {
        Op::Transpose { perm } => transpose(edit, node, &perm),
        Op::Reshape { shape } => reshape::sink(edit, node, &shape, &demands),
        Op::MatMul => match reshape::flatten_into_weights(edit, node)? {
            Some(new) => Ok(Some(new)),
            None => sink::sink(edit, node, &demands),
        },
        _ => sink::sink(edit, node, &demands),
    })
}

fn transpose(edit: &mut Edit, node: NodeId, perm: &[usize]) -> Result<Option<Value>> {
    let x = edit.graph.operands(node)[0];
    if is_identity(perm) {
        return Ok(Some(x));
    }
    match edit.graph.op(x.node).clone() {
        Op::Transpose { perm: inner } => {
            let source = edit.graph.operands(x.node)[0];
            edit.transpose(source, compose(&inner, perm)).map(Some)
        }
        // Transposes the smaller value.
        Op::Broadcast { shape } => {
            let source = edit.graph.operands(x.node)[0];
            let padded = pad_rank(&edit.shape(source), shape.len());
            let source = edit.reshape(source, padded)?;
            let source = edit.transpose(source, perm.to_vec())?;
            edit.broadcast(source, permuted(&shape, perm)).map(Some)
        }
        _ => Ok(None),
    }
}

/// The permutation that applies `first` and then `second`.
pub(crate) fn compose(first: &[usize], second: &[usize]) -> Vec<usize> {
    second.iter().map(|&i| first[i]).collect()
}

/// The permutation that undoes `perm`.
pub(crate) fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; perm.len()];
    for (i, &p) in perm.iter().enumerate() {
        inverse[p] = i;
    }
    inverse
}

pub(crate) fn is_identity(perm: &[usize]) -> bool {
    perm.iter().enumerate().all(|(i, &p)| i == p)
}

/// Items per axis, permuted like the axes.
fn permuted<T: Clone>(items: &[T], perm: &[usize]) -> Vec<T> {
    perm.iter().map(|&p| items[p].clone()).collect()
}

/// Whether transposing an operand of this shape moves no data: only axes of extent 1 change their order.
pub(crate) fn moves_nothing(perm: &[usize], shape: &[Dim]) -> bool {
    let long: Vec<usize> = perm.iter().copied().filter(|&p| !shape[p].is(1)).collect();
    long.is_sorted()
}
