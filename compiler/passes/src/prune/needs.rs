//! Finds the needed channels: backwards from readers of whole values through the non-zero weights.

use super::flow::Flow;
use mcc_ir::NodeId;

/// Marks every channel that the outputs depend on, and those that are kept because odd numbers of channels cost more
/// than a few superfluous ones.
pub(super) fn spread(flow: &mut Flow) {
    mark(flow);
    for node in flow.order.clone() {
        if keep_blocks(flow, node) | round_up(flow, node) {
            mark(flow);
        }
    }
}

/// Keeps neighbouring channels together if their weights are mostly zero in all of them at once: such runs are blocks,
/// which have a kernel as long as no channel among them is removed.
fn keep_blocks(flow: &mut Flow, node: NodeId) -> bool {
    let Some(layer) = flow.layers.get(&node).filter(|l| l.groups == 1) else { return false };
    let mut changed = false;
    let slots = flow.tracks[&node.into()].slots();
    let needed: Vec<bool> = slots.clone().map(|slot| flow.slots.is_needed(slot)).collect();
    let source = flow.graph.operand(node, 0).and_then(|x| flow.tracks.get(&x)).filter(|t| t.axis == layer.in_axis);
    let left = |i: &usize| source.is_none_or(|t| flow.slots.is_needed(t.first + i));
    let ins: Vec<usize> = (0..layer.ins).filter(left).collect();
    for width in mcc_targets::schedule::blocks::WIDTHS {
        for start in (0..needed.len()).step_by(width) {
            let run = start..(start + width).min(needed.len());
            let kept = needed[run.clone()].iter().filter(|&&n| n).count();
            let zeros = ins.iter().filter(|&&i| !run.clone().any(|o| layer.reads(o, i))).count();
            if kept > 0 && 2 * zeros >= ins.len() {
                run.for_each(|o| changed |= flow.slots.need(slots.start + o));
            }
        }
    }
    changed
}

/// Keeps some more channels of a layer, constant ones first, since these need nothing themselves.
fn round_up(flow: &mut Flow, node: NodeId) -> bool {
    if !flow.layers.contains_key(&node) {
        return false;
    }
    let track = &flow.tracks[&node.into()];
    let (slots, known) = (track.slots(), track.known.clone());
    let count = |flow: &mut Flow| slots.clone().filter(|&s| flow.slots.is_needed(s)).count();
    let want = mcc_targets::schedule::products::whole_registers(count(flow)).min(slots.len());
    let mut changed = false;
    for numbers in [true, false] {
        for (slot, known) in slots.clone().zip(&known) {
            if count(flow) >= want {
                return changed;
            }
            if known.is_some() == numbers {
                changed |= flow.slots.need(slot);
            }
        }
    }
    changed
}

/// Marks the operand channels that the needed results of layers read, until nothing changes.
fn mark(flow: &mut Flow) {
    let layers: Vec<NodeId> = flow.order.iter().rev().copied().filter(|n| flow.layers.contains_key(n)).collect();
    loop {
        let mut changed = false;
        for &node in &layers {
            changed |= mark_operands(flow, node);
        }
        if !changed {
            return;
        }
    }
}

fn mark_operands(flow: &mut Flow, node: NodeId) -> bool {
    let layer = &flow.layers[&node];
    let Some(x) = flow.graph.operand(node, 0) else { return false };
    let Some(source) = flow.tracks.get(&x).filter(|t| t.axis == layer.in_axis) else { return false };
    // Channels of several groups stay together: `flow` has joined the operands of a group with its results.
    if layer.groups > 1 {
        return false;
    }
    let result = &flow.tracks[&node.into()];
    let outs: Vec<usize> = result
        .slots()
        .zip(&result.known)
        .enumerate()
        .filter(|(_, (slot, known))| known.is_none() && flow.slots.is_needed(*slot))
        .map(|(o, _)| o)
        .collect();
    let mut changed = false;
    for (i, (slot, known)) in source.slots().zip(&source.known).enumerate() {
        if flow.slots.is_needed(slot) || known.is_some_and(|c| layer.folds(c)) {
            continue;
        }
        if outs.iter().any(|&o| layer.reads(o, i)) {
            changed |= flow.slots.need(slot);
        }
    }
    changed
}
