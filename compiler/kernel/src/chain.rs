//! Chains: groups that are computed a block at a time in their only reader's kernel, in memory that caches hold. The
//! value between the two is never stored as a whole.

use std::collections::HashMap;

use mcc_targets::choices::Problem;
use mcc_targets::{Config, schedule};

use super::kernels;
use super::plan::Group;
use mcc_ir::{Decision, Dim, Graph, NodeId, Subject, TensorType, Value, text};

/// Merges groups into readers that can compute them a block at a time, where that pays.
pub fn chain(graph: &Graph, config: &Config, groups: Vec<Group>) -> (Vec<Group>, Vec<Decision>) {
    let (mut done, mut decisions): (Vec<Option<Group>>, Vec<Decision>) = (Vec::with_capacity(groups.len()), Vec::new());
    let place_of: HashMap<Value, usize> = groups.iter().enumerate().map(|(n, g)| (g.root.into(), n)).collect();
    for mut group in groups {
        if let Some((n, first, second)) = feeding(graph, &done, &place_of, &group) {
            let (bytes, pays) = pays(graph, config, [first, second], done[n].as_ref().map_or(first, |g| g.root).into());
            let form = if pays { "with its reader" } else { "alone" };
            let why = format!("{bytes} bytes between it and '{}'", graph.label(second));
            decisions.push(Decision::new(graph.label(first), Subject::Fusion, graph.op(first).name(), form, why));
            group.feeding = if pays { done[n].take().map(Box::new) } else { None };
        }
        done.push(Some(group));
    }
    (done.into_iter().flatten().collect(), decisions)
}

/// The group whose result has only one reader, which can compute it a block at a time; and both anchors.
fn feeding(
    graph: &Graph,
    groups: &[Option<Group>],
    place_of: &HashMap<Value, usize>,
    reader: &Group,
) -> Option<(usize, NodeId, NodeId)> {
    let second = reader.anchor?;
    let value = graph.operand(second, 0)?;
    if graph.users(value).len() != 1 || graph.is_output(value) {
        return None;
    }
    let n = *place_of.get(&value)?;
    let first = groups.get(n)?.as_ref()?.anchor?;
    let types: Vec<TensorType> = graph.operands(second).iter().map(|&v| graph.ty(v).clone()).collect();
    kernels::chains(graph.op(first), graph.op(second), &types).then_some((n, first, second))
}

/// The bytes of the first operation's result, and whether computing it in the second's kernel pays.
fn pays(graph: &Graph, config: &Config, anchors: [NodeId; 2], between: Value) -> (Dim, bool) {
    let problem = anchors.map(|node| text::node_signature(graph, node)).join("; ");
    let known = |d: &Dim| d.as_const().and_then(|c| u64::try_from(c).ok());
    let bytes = graph.ty(between).bytes();
    let columns = graph.types(anchors[1]).first().and_then(|ty| ty.shape.last());
    // It affects the time of both layers.
    let [_, pays] = anchors.map(|anchor| {
        let problem = Problem { text: &problem, layer: graph.label(anchor) };
        schedule::products::chains(config, problem, known(&bytes), columns.and_then(known))
    });
    (bytes, pays)
}
