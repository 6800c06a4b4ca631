//! How operators that are no layers carry channels.
//!
//! Each rule gives the inputs whose channels the results stand for, after giving the results channels; none if the operator
//! needs all of them.

use mcc::passes::prune::axes::{Moved, moved};
use mcc_ir::{Dim, TensorType};
use mcc_proto::NodeProto;

use super::trace::{Edit, Trace, Track};
use crate::attribute;

/// Operators on single elements of their first input; what else they read has no channels.
const ELEMENTS: &[&str] = &[
    "Abs",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
];

/// Operators on elements of several inputs that broadcast.
const BROADCASTS: &[&str] = &[
    "Add",
    "And",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
];

/// Operators that leave the second axis as it is.
const POOLS: &[&str] = &["AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"];

/// Operators that leave out axes.
const REDUCTIONS: &[&str] = &[
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
];

/// The least version of the standard operators whose `Softmax` is over one axis.
const SOFTMAX_OF_ONE_AXIS: i64 = 13;

/// Inputs whose channels the results stand for; `None` if all channels are needed.
pub fn follow(trace: &mut Trace, n: usize, node: &NodeProto) -> Option<Vec<usize>> {
    if let Some(followed) = super::lists::follow(trace, n, node) {
        return Some(followed);
    }
    let op = node.op_type.as_str();
    if BROADCASTS.contains(&op) {
        return broadcast(trace, n, node);
    }
    match op {
        "Concat" => return concat(trace, node),
        "MatMul" => return super::heads::product(trace, n, node),
        "Attention" => return super::heads::attention(trace, n, node),
        _ => {}
    }
    let x = trace.tracks.get(node.input.first()?)?.clone();
    let from = trace.ty(&node.input[0])?;
    let to = trace.ty(node.output.first()?)?;
    match op {
        "Split" => return split(trace, n, node, &x),
        "Slice" => return slice(trace, n, node, &x),
        "Gather" => return gather(trace, n, node, &x),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => return reshape(trace, n, node, &x),
        _ => {}
    }
    // Masks and positions as further results.
    if node.output.iter().skip(1).any(|o| !trace.model.users(o).is_empty() || trace.model.is_output(o)) {
        return None;
    }
    let axis = match op {
        _ if ELEMENTS.contains(&op) => x.axis,
        _ if POOLS.contains(&op) && x.axis == 1 => 1,
        "BatchNormalization" | "InstanceNormalization" if x.axis == 1 => {
            per_channel(trace, n, node, &x)?;
            1
        }
        "Transpose" => {
            let perm = attribute::ints(node, "perm").unwrap_or_else(|| (0..from.rank() as i64).rev().collect());
            perm.iter().position(|&p| p == x.axis as i64)?
        }
        "Pad" => padded(trace, n, &x, from.rank())?,
        "Resize" | "Upsample" => resized(trace, n, node, &x)?,
        "Softmax" | "LogSoftmax" | "LayerNormalization" => normalised(trace, node, &x, from.rank())?,
        _ if REDUCTIONS.contains(&op) => reduced(trace, n, node, &x, from.rank())?,
        _ => return None,
    };
    if !to.shape.get(axis)?.is(x.channels.len() as i64) {
        return None;
    }
    trace.track(&node.output[0], axis, x.channels);
    Some((0..node.input.len()).collect())
}

/// An axis as a number from the front.
pub(super) fn from_front(axis: i64, rank: usize) -> Option<usize> {
    usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok().filter(|&a| a < rank)
}

/// Constants with an element per channel.
fn per_channel(trace: &mut Trace, n: usize, node: &NodeProto, x: &Track) -> Option<()> {
    let list = |name: &String| trace.model.constant(name).is_some_and(|t| t.shape() == [x.channels.len()]);
    if !node.input.iter().skip(1).all(list) {
        return None;
    }
    let cut = |input| Edit::Cut { node: n, input, axis: 0, channels: x.channels.clone() };
    trace.edits.extend((1..node.input.len()).map(cut));
    Some(())
}

fn broadcast(trace: &mut Trace, n: usize, node: &NodeProto) -> Option<Vec<usize>> {
    let to = trace.ty(node.output.first()?)?;
    let rank = to.rank();
    let aligned = |trace: &Trace, name: &str| -> Option<(usize, Vec<usize>)> {
        let (track, own) = (trace.tracks.get(name)?, trace.ty(name)?.rank());
        let axis = track.axis + rank - own;
        to.shape[axis].is(track.channels.len() as i64).then(|| (axis, track.channels.clone()))
    };
    let (axis, channels) = node.input.iter().find_map(|name| aligned(trace, name))?;
    let mut cuts = Vec::new();
    for (input, name) in node.input.iter().enumerate() {
        if let Some((other, own)) = aligned(trace, name) {
            if other != axis {
                return None;
            }
            trace.join(&channels, &own);
            continue;
        }
        if trace.tracks.contains_key(name) {
            return None;
        }
        let shape = trace.ty(name)?.shape;
        let Some(own) = (axis + shape.len()).checked_sub(rank) else { continue };
        if trace.model.constant(name).is_some() {
            if shape[own].is(channels.len() as i64) && channels.len() > 1 {
                cuts.push(Edit::Cut { node: n, input, axis: own, channels: channels.clone() });
            }
        } else if !shape[own].is(1) {
            let reason = format!("{} joins them with what is not followed", node.op_type);
            channels.iter().for_each(|&c| trace.sets.need(c, &reason));
        }
    }
    trace.edits.extend(cuts);
    trace.track(&node.output[0], axis, channels);
    Some((0..node.input.len()).collect())
}

fn concat(trace: &mut Trace, node: &NodeProto) -> Option<Vec<usize>> {
    let to = trace.ty(node.output.first()?)?;
    let along = from_front(attribute::int(node, "axis", 1), to.rank())?;
    let tracks: Vec<Option<Track>> = node.input.iter().map(|name| trace.tracks.get(name).cloned()).collect();
    let axis =
        if tracks.iter().flatten().any(|t| t.axis == along) { along } else { tracks.iter().flatten().next()?.axis };
    if axis != along {
        let same = |t: &Option<Track>| t.as_ref().filter(|t| t.axis == axis).map(|t| t.channels.clone());
        let sides: Vec<Vec<usize>> = tracks.iter().map(same).collect::<Option<_>>()?;
        sides[1..].iter().for_each(|side| trace.join(&sides[0], side));
        trace.track(&node.output[0], axis, sides[0].clone());
        return Some((0..node.input.len()).collect());
    }
    let mut extents = Vec::new();
    for name in &node.input {
        extents.push(usize::try_from(trace.ty(name)?.shape[along].as_const()?).ok()?);
    }
    let (mut all, mut followed) = (Vec::new(), Vec::new());
    for (input, (track, extent)) in tracks.into_iter().zip(extents).enumerate() {
        match track.filter(|t| t.axis == along) {
            Some(track) => {
                all.extend(track.channels);
                followed.push(input);
            }
            None => {
                let fresh = trace.sets.add(extent);
                fresh.iter().for_each(|&c| trace.sets.need(c, "Concat joins them with what is not followed"));
                all.extend(fresh);
            }
        }
    }
    trace.track(&node.output[0], along, all);
    Some(followed)
}

fn split(trace: &mut Trace, n: usize, node: &NodeProto, x: &Track) -> Option<Vec<usize>> {
    let rank = trace.ty(&node.input[0])?.rank();
    let axis = from_front(attribute::int(node, "axis", 0), rank)?;
    let given = node.input.get(1).is_some_and(|name| !name.is_empty());
    if given && trace.model.integers(n, "split", Some(1)).is_none() {
        return None;
    }
    let (mut parts, mut first) = (Vec::new(), 0);
    for output in &node.output {
        let extent = usize::try_from(trace.ty(output)?.shape[x.axis].as_const()?).ok()?;
        if axis != x.axis {
            parts.push(x.channels.clone());
            continue;
        }
        parts.push(x.channels.get(first..first + extent)?.to_vec());
        first += extent;
    }
    for (output, part) in node.output.iter().zip(&parts) {
        trace.track(output, x.axis, part.clone());
    }
    if axis == x.axis {
        trace.edits.push(Edit::Split { node: n, parts });
    }
    Some(vec![0, 1])
}

fn slice(trace: &mut Trace, n: usize, node: &NodeProto, x: &Track) -> Option<Vec<usize>> {
    let rank = trace.ty(&node.input[0])?.rank();
    let list = |name: &str, input: usize| trace.model.integers(n, name, Some(input));
    let (starts, ends) = (list("starts", 1)?, list("ends", 2)?);
    let given = |input: usize| node.input.get(input).is_some_and(|name| !name.is_empty());
    let axes = match list("axes", 3) {
        Some(axes) => axes,
        None if given(3) => return None,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match list("steps", 4) {
        Some(steps) => steps,
        None if given(4) => return None,
        None => vec![1; starts.len()],
    };
    let element = axes.iter().position(|&axis| from_front(axis, rank) == Some(x.axis));
    let mut channels = x.channels.clone();
    if let Some(element) = element {
        if *steps.get(element)? != 1 {
            return None;
        }
        let extent = channels.len() as i64;
        let place = |at: i64| (if at < 0 { at.saturating_add(extent) } else { at }).clamp(0, extent) as usize;
        let (start, end) = (place(starts[element]), place(*ends.get(element)?));
        let inside = channels.get(start..end)?.to_vec();
        trace.edits.push(Edit::Slice { node: n, element, before: channels[..start].to_vec(), inside: inside.clone() });
        channels = inside;
    }
    trace.track(&node.output[0], x.axis, channels);
    Some((0..node.input.len()).collect())
}

fn gather(trace: &mut Trace, n: usize, node: &NodeProto, x: &Track) -> Option<Vec<usize>> {
    let [from, indices] = [trace.ty(&node.input[0])?, trace.ty(node.input.get(1)?)?];
    let along = from_front(attribute::int(node, "axis", 0), from.rank())?;
    if along != x.axis {
        let axis = if along > x.axis { x.axis } else { (x.axis + indices.rank()).checked_sub(1)? };
        trace.track(&node.output[0], axis, x.channels.clone());
        return Some(vec![0]);
    }
    let constant = trace.model.constant(&node.input[1]).filter(|t| t.shape().len() == 1)?;
    let number = |i: i64| from_front(i, x.channels.len());
    let indices: Vec<usize> = constant.to_i64s().into_iter().map(number).collect::<Option<_>>()?;
    let channels = indices.iter().map(|&i| x.channels[i]).collect();
    trace.edits.push(Edit::Gather { node: n, channels: x.channels.clone(), indices });
    trace.track(&node.output[0], x.axis, channels);
    Some(vec![0, 1])
}

fn reshape(trace: &mut Trace, n: usize, node: &NodeProto, x: &Track) -> Option<Vec<usize>> {
    let (from, to) = (trace.ty(&node.input[0])?, trace.ty(&node.output[0])?);
    let extent = |axis: usize| usize::try_from(to.shape[axis].as_const()?).ok();
    let (axis, channels) = match moved(&from.shape, x.axis, &to.shape)? {
        Moved::Merged { axis, inner } => {
            let outer = extent(axis)? / (inner * x.channels.len());
            let spread = x.channels.iter().flat_map(|&c| std::iter::repeat_n(c, inner));
            (axis, spread.collect::<Vec<usize>>().repeat(outer))
        }
        Moved::Split { axis, .. } => split_up(trace, &node.output[0], axis, &x.channels)?,
    };
    if node.op_type == "Reshape" {
        super::lists::count(trace, n, 1, axis, &channels)?;
    }
    trace.track(&node.output[0], axis, channels);
    Some(vec![0, 1])
}

/// Channels that become several axes from `first` on; of these, one becomes shorter.
fn split_up(trace: &mut Trace, name: &str, first: usize, channels: &[usize]) -> Option<(usize, Vec<usize>)> {
    let (mut extents, mut product) = (Vec::new(), 1);
    for dim in &trace.ty(name)?.shape[first..] {
        if product == channels.len() {
            break;
        }
        extents.push(usize::try_from(dim.as_const()?).ok()?);
        product *= extents[extents.len() - 1];
    }
    if product != channels.len() {
        return None;
    }
    let is_head = |&n: &usize| extents[n] > 1 && super::heads::is_head_axis(trace, name, first + n);
    let chosen = (0..extents.len()).find(is_head).unwrap_or_else(|| match extents[..] {
        // The longer of two.
        [outer, inner] if inner >= outer => 1,
        _ => 0,
    });
    let inner: usize = extents[chosen + 1..].iter().product();
    for (c, &channel) in channels.iter().enumerate() {
        trace.sets.join(channels[c / inner % extents[chosen] * inner], channel);
    }
    let channels = (0..extents[chosen]).map(|n| channels[n * inner]).collect();
    Some((first + chosen, channels))
}

fn padded(trace: &Trace, n: usize, x: &Track, rank: usize) -> Option<usize> {
    let pads = trace.model.integers(n, "pads", Some(1))?;
    let whole = pads.len() == 2 * rank && pads[x.axis] == 0 && pads[rank + x.axis] == 0;
    whole.then_some(x.axis)
}

fn resized(trace: &mut Trace, n: usize, node: &NodeProto, x: &Track) -> Option<usize> {
    let [from, to] = [trace.ty(&node.input[0])?, trace.ty(&node.output[0])?];
    let crops = attribute::text(node, "coordinate_transformation_mode").as_deref() == Some("tf_crop_and_resize");
    if crops || attribute::ints(node, "axes").is_some() || to.shape[x.axis] != from.shape[x.axis] {
        return None;
    }
    if node.input.get(3).is_some_and(|name| !name.is_empty()) {
        super::lists::count(trace, n, 3, x.axis, &x.channels)?;
    }
    Some(x.axis)
}

fn normalised(trace: &Trace, node: &NodeProto, x: &Track, rank: usize) -> Option<usize> {
    let single = node.op_type != "LayerNormalization" && trace.model.opset() >= SOFTMAX_OF_ONE_AXIS;
    let usual = if node.op_type == "LayerNormalization" || single { -1 } else { 1 };
    let axis = from_front(attribute::int(node, "axis", usual), rank)?;
    (if single { axis != x.axis } else { x.axis < axis }).then_some(x.axis)
}

fn reduced(trace: &Trace, n: usize, node: &NodeProto, x: &Track, rank: usize) -> Option<usize> {
    let axes: Option<Vec<usize>> =
        trace.model.integers(n, "axes", Some(1))?.into_iter().map(|axis| from_front(axis, rank)).collect();
    let axes = axes.filter(|axes| !axes.is_empty() && !axes.contains(&x.axis))?;
    let before = axes.iter().filter(|&&axis| axis < x.axis).count();
    Some(if attribute::int(node, "keepdims", 1) != 0 { x.axis } else { x.axis - before })
}

/// The constant extents of a type.
pub(super) fn extents(ty: &TensorType) -> Option<Vec<usize>> {
    ty.shape.iter().map(|d: &Dim| usize::try_from(d.as_const()?).ok()).collect()
}
