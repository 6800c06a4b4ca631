//! Heads of attention: the axis of a split that two results have in common when they are multiplied (as in
//! `softmax(Q K^T) V`, a product per head). A head goes as a whole, with its part of each projection.

use std::collections::HashSet;

use mcc::passes::prune::axes::{Moved, moved};
use mcc_proto::NodeProto;

use super::ops::from_front;
use super::trace::{Edit, Trace, Track};
use crate::attribute;

/// Operators whose results have the axes of their operands, counted from behind.
const CARRIERS: &[&str] = &[
    "Add",
    "Cast",
    "Concat",
    "Div",
    "Dropout",
    "Identity",
    "LayerNormalization",
    "Mul",
    "Neg",
    "Slice",
    "Split",
    "Sub",
];

/// Whether an axis of a value becomes one along which products of two results stand side by side.
pub fn is_head_axis(trace: &Trace, name: &str, axis: usize) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![(name.to_string(), axis)];
    while let Some((name, axis)) = open.pop() {
        if !seen.insert((name.clone(), axis)) {
            continue;
        }
        for place in trace.model.users(&name) {
            let node = &trace.model.nodes()[place.node];
            let Some(input) = place.input else { continue };
            if is_product_of_results(trace, node) {
                let rank = trace.ty(&name).map_or(0, |ty| ty.rank());
                if axis + 2 < rank {
                    return true;
                }
                continue;
            }
            if is_attention(trace, node) && axis == 1 {
                return true;
            }
            let Some(axis) = carried(trace, node, input, axis) else { continue };
            open.extend(node.output.iter().filter(|o| !o.is_empty()).map(|output| (output.clone(), axis)));
        }
    }
    false
}

/// Whether a node multiplies two values that are both no constants.
fn is_product_of_results(trace: &Trace, node: &NodeProto) -> bool {
    node.op_type == "MatMul" && node.input.iter().all(|name| trace.model.constant(name).is_none())
}

/// Whether a node is attention with an axis of heads.
fn is_attention(trace: &Trace, node: &NodeProto) -> bool {
    let rank = |name: &String| trace.ty(name).map(|ty| ty.rank());
    node.op_type == "Attention" && node.domain != "com.microsoft" && node.input.first().and_then(rank) == Some(4)
}

/// Where the axis of an operand is in a node's results.
fn carried(trace: &Trace, node: &NodeProto, input: usize, axis: usize) -> Option<usize> {
    let (from, to) = (trace.ty(&node.input[input])?, trace.ty(node.output.first()?)?);
    match node.op_type.as_str() {
        op if CARRIERS.contains(&op) => (axis + to.rank()).checked_sub(from.rank()),
        "Transpose" => {
            let perm = attribute::ints(node, "perm").unwrap_or_else(|| (0..from.rank() as i64).rev().collect());
            perm.iter().position(|&p| p == axis as i64)
        }
        "Gather" if input == 0 => {
            let along = from_front(attribute::int(node, "axis", 0), from.rank())?;
            let more = to.rank() + 1 - from.rank();
            (along != axis).then(|| if along < axis { axis + more - 1 } else { axis })
        }
        "Reshape" | "Squeeze" | "Unsqueeze" if input == 0 => match moved(&from.shape, axis, &to.shape)? {
            Moved::Merged { axis: new, .. } if to.shape[new] == from.shape[axis] => Some(new),
            _ => None,
        },
        _ => None,
    }
}

/// A product that is not by a layer's weights: of two results, or by constants of several matrices.
pub fn product(trace: &mut Trace, n: usize, node: &NodeProto) -> Option<Vec<usize>> {
    let rank = trace.ty(node.output.first()?)?.rank();
    let [a, b] = node.input.as_slice() else { return None };
    let aligned = |trace: &Trace, name: &str| -> Option<Option<Track>> {
        let own = trace.ty(name)?.rank();
        let track =
            trace.tracks.get(name).map(|t| Some(Track { axis: (t.axis + rank).checked_sub(own)?, ..t.clone() }));
        if own < 2 || rank < own { None } else { track.map_or(Some(None), |t| t.map(Some)) }
    };
    let (a, b) = (aligned(trace, a)?, aligned(trace, b)?);
    let (rows, columns) = (rank - 2, rank - 1);
    let (axis, channels) = match (&a, &b) {
        (Some(a), Some(b)) if a.axis == b.axis && a.axis < rows && a.channels.len() == b.channels.len() => {
            trace.join(&a.channels, &b.channels);
            (a.axis, a.channels.clone())
        }
        (Some(one), None) | (None, Some(one)) if one.axis < rows => {
            let other = usize::from(a.is_some());
            beside(trace, n, other, rank - one.axis, &one.channels)?;
            (one.axis, one.channels.clone())
        }
        (Some(a), None) if a.axis == rows => (rows, a.channels.clone()),
        (None, Some(b)) if b.axis == columns => (columns, b.channels.clone()),
        _ => return None,
    };
    trace.track(&node.output[0], axis, channels);
    Some(vec![0, 1])
}

/// The operand beside one with channels along an axis, counted from behind: it has one element there, or is constant.
fn beside(trace: &mut Trace, n: usize, input: usize, behind: usize, channels: &[usize]) -> Option<()> {
    let name = &trace.model.nodes()[n].input[input];
    let shape = trace.ty(name)?.shape;
    let Some(axis) = shape.len().checked_sub(behind) else { return Some(()) };
    if shape[axis].is(1) {
        return Some(());
    }
    trace.model.constant(name)?;
    trace.edits.push(Edit::Cut { node: n, input, axis, channels: channels.to_vec() });
    Some(())
}

/// `Attention` or `MultiHeadAttention` with as many heads of each operand: on an axis, or side by side in the last one.
pub fn attention(trace: &mut Trace, n: usize, node: &NodeProto) -> Option<Vec<usize>> {
    let standard = node.op_type == "Attention";
    let given = |slot: usize| node.input.get(slot).is_some_and(|name| !name.is_empty());
    // Keys and values of earlier calls, or results for later ones, are the caller's.
    let past = if standard { 4..6 } else { 6..node.input.len().max(6) };
    if past.into_iter().any(given) || node.output.iter().skip(1).any(|o| !o.is_empty()) {
        return None;
    }
    // A mask that differs from head to head has an extent of its own.
    let mask = if standard { 3 } else { 5 };
    if given(mask) {
        let shape = trace.ty(&node.input[mask])?.shape;
        if shape.len() > 2 && !shape[shape.len() - 3].is(1) {
            return None;
        }
    }
    let axis = if is_attention(trace, node) { 1 } else { 2 };
    let mut operands: Vec<Vec<usize>> = Vec::new();
    for slot in 0..3 {
        let track = trace.tracks.get(node.input.get(slot)?).filter(|t| t.axis == axis)?;
        operands.push(track.channels.clone());
    }
    let followed = (0..node.input.len()).collect();
    if axis == 1 {
        if operands.iter().any(|own| own.len() != operands[0].len()) {
            return None;
        }
        operands[1..].iter().for_each(|own| trace.join(&operands[0], own));
        trace.track(&node.output[0], axis, operands.swap_remove(0));
        return Some(followed);
    }
    let names: &[&'static str] = if standard { &["q_num_heads", "kv_num_heads"] } else { &["num_heads"] };
    let numbers: Vec<i64> = names.iter().map(|name| attribute::int(node, name, 0)).collect();
    let heads = usize::try_from(numbers[0]).ok().filter(|&h| h > 0 && numbers.iter().all(|&n| n == numbers[0]))?;
    if operands.iter().any(|own| own.is_empty() || !own.len().is_multiple_of(heads)) {
        return None;
    }
    if !standard && given(3) {
        let all = operands.concat();
        trace.model.constant(&node.input[3]).filter(|bias| bias.shape() == [all.len()])?;
        trace.edits.push(Edit::Cut { node: n, input: 3, axis: 0, channels: all });
    }
    let first: Vec<usize> = operands[0].chunks(operands[0].len() / heads).map(|head| head[0]).collect();
    for channels in &operands {
        let head = channels.chunks(channels.len() / heads);
        head.zip(&first).for_each(|(head, &first)| head.iter().for_each(|&c| trace.sets.join(first, c)));
    }
    trace.edits.extend(names.iter().map(|&name| Edit::Attribute { node: n, name, channels: first.clone() }));
    trace.track(&node.output[0], axis, operands.swap_remove(2));
    Some(followed)
}
