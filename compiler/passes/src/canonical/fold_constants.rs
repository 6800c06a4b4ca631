//! Replaces operations on constants by their results, if that [pays](crate::support::fold).

use mcc_targets::Config;

use crate::support::fold::evaluate;
use mcc_ir::Result;
use mcc_ir::{Graph, NodeId, Op, Tensor, Value};

/// Maximum number of operations between constants and the product whose weights they become.
const WEIGHT_DEPTH: usize = 8;

/// Replaces operations on constants by their results.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    let mut changed = false;
    for node in graph.topological() {
        let operands = graph.operands(node);
        if matches!(graph.op(node), Op::Constant(_)) || !operands.iter().all(|&v| graph.as_constant(v).is_some()) {
            continue;
        }
        let op = graph.op(node).clone();
        let place = |graph: &Graph| format!("{} {}", op.name(), graph.label(node));
        let forced =
            matches!(op, Op::Broadcast { .. } | Op::Gather { .. }) && is_weight(graph, node.into(), WEIGHT_DEPTH);
        let Some(results) = evaluate(graph, &op, &operands, forced).map_err(|e| e.within(place(graph)))? else {
            continue;
        };
        replace_all(graph, node, results);
        changed = true;
    }
    Ok(changed)
}

fn replace_all(graph: &mut Graph, node: NodeId, results: Vec<Tensor>) {
    let label = graph.label(node).to_string();
    for (result, tensor) in results.into_iter().enumerate() {
        let new = graph.constant(tensor);
        graph.set_label(new.node, &label);
        graph.replace(Value { node, result }, new);
    }
}

/// Whether a value becomes the weights of a product or convolution, which must be constant to be packed.
fn is_weight(graph: &Graph, value: Value, depth: usize) -> bool {
    graph.users(value).iter().any(|&(user, operand)| match graph.op(user) {
        Op::Conv(_) | Op::ConvTranspose { .. } | Op::MatMul | Op::Recurrent(_) => operand > 0,
        Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } | Op::Pad { .. } | Op::Cast { .. } => {
            depth > 0 && is_weight(graph, user.into(), depth - 1)
        }
        // Scales of blocks, which are multiplied with codes.
        Op::Binary(_) => {
            let known = graph.operands(user).iter().all(|&v| v == value || is_known(graph, v, WEIGHT_DEPTH));
            depth > 0 && known && is_weight(graph, user.into(), depth - 1)
        }
        _ => false,
    })
}

/// Whether a value is computed from constants only.
fn is_known(graph: &Graph, value: Value, depth: usize) -> bool {
    let operands = graph.operands(value.node);
    graph.as_constant(value).is_some()
        || depth > 0 && !operands.is_empty() && operands.iter().all(|&v| is_known(graph, v, depth - 1))
}
