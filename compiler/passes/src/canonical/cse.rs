//! Common subexpression elimination: of equal operations on equal operands one is kept. Constants count as operations,
//! so equal weights are stored once.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use mcc_targets::Config;

use mcc_ir::Result;
use mcc_ir::{BinaryOp, Graph, NodeId, Op, Value};

/// Merges equal nodes.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    let mut seen: HashMap<u64, Vec<NodeId>> = HashMap::new();
    let mut changed = false;
    for node in graph.topological() {
        if matches!(graph.op(node), Op::Input(..)) {
            continue;
        }
        let operands = key_operands(graph, node);
        let candidates = seen.entry(hash(graph.op(node), &operands)).or_default();
        let twin = candidates
            .iter()
            .copied()
            .find(|&other| graph.op(other) == graph.op(node) && key_operands(graph, other) == operands);
        let Some(twin) = twin else {
            candidates.push(node);
            continue;
        };
        for result in 0..graph.types(node).len() {
            graph.replace(Value { node, result }, Value { node: twin, result });
        }
        changed = true;
    }
    Ok(changed)
}

/// The operands, sorted if the operation commutes.
fn key_operands(graph: &Graph, node: NodeId) -> Vec<Value> {
    use BinaryOp::{Add, And, Equal, Max, Min, Mul, Or, Xor};
    let mut operands = graph.operands(node);
    if matches!(graph.op(node), Op::Binary(Add | Mul | Min | Max | And | Or | Xor | Equal)) {
        operands.sort_unstable();
    }
    operands
}

/// Hashes large constants by a sample of their bytes: equality is checked anyway, and weights can have gigabytes.
fn hash(op: &Op, operands: &[Value]) -> u64 {
    const HASHED_SAMPLES: usize = 64;
    let mut hasher = DefaultHasher::new();
    match op {
        Op::Constant(t) if t.data().len() > 4 * HASHED_SAMPLES => {
            (t.dtype(), t.shape()).hash(&mut hasher);
            let step = t.data().len() / HASHED_SAMPLES;
            t.data().iter().step_by(step).for_each(|b| b.hash(&mut hasher));
        }
        _ => op.hash(&mut hasher),
    }
    operands.hash(&mut hasher);
    hasher.finish()
}
