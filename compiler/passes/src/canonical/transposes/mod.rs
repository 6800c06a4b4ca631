//! Transposes move towards the outputs, where they meet their inverses and vanish.
//!
//! A transpose of an operand becomes a transpose of the result wherever that costs no more than before: element-wise
//! operations stay next to the kernel that makes their operand (and become its epilogue), constants are permuted at
//! compile time, and what only moves axes of extent 1 is free. Costs are elements moved; where a later transpose is
//! known to undo this one ([`demand`]) the result's costs nothing.
//!
//! Convolutions are not sunk through: the layout pass writes transposes around them, and those meet here.

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
        // The smaller value is transposed.
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

/// What transposing by `perm` makes of one item an axis.
fn permuted<T: Clone>(items: &[T], perm: &[usize]) -> Vec<T> {
    perm.iter().map(|&p| items[p].clone()).collect()
}

/// Whether transposing an operand of this shape leaves every element where it is: only axes of extent 1 pass others.
pub(crate) fn moves_nothing(perm: &[usize], shape: &[Dim]) -> bool {
    let long: Vec<usize> = perm.iter().copied().filter(|&p| !shape[p].is(1)).collect();
    long.is_sorted()
}
