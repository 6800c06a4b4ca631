//! Lists of integers that a model computes from shapes, of which some count channels.

use mcc_proto::NodeProto;

use super::trace::{Edit, Trace};
use crate::attribute;

/// An element of a list.
#[derive(Debug, Clone, PartialEq)]
pub enum Element {
    /// Any number that no channel changes.
    Other,
    /// The number of these channels.
    Count(Vec<usize>),
    /// A constant.
    Fixed {
        /// The node that reads the constant.
        node: usize,
        /// The node's input.
        input: usize,
        /// The constant's element.
        element: usize,
    },
}

/// Follows a node that computes a list; `None` if it is another.
pub fn follow(trace: &mut Trace, n: usize, node: &NodeProto) -> Option<Vec<usize>> {
    let list = match node.op_type.as_str() {
        "Shape" => shape(trace, node)?,
        "Gather" => {
            let list = trace.lists.get(node.input.first()?)?;
            let indices = trace.model.constant(node.input.get(1)?)?.to_i64s();
            let pick = |i: i64| list.get(usize::try_from(if i < 0 { i + list.len() as i64 } else { i }).ok()?).cloned();
            indices.into_iter().map(pick).collect::<Option<Vec<Element>>>()?
        }
        "Slice" => {
            let list = trace.lists.get(node.input.first()?)?;
            let ends = |name: &str, input: usize| trace.model.integers(n, name, Some(input)).filter(|l| l.len() == 1);
            let (start, end) = (ends("starts", 1)?[0], ends("ends", 2)?[0]);
            let stepped = node.input.get(4).is_some_and(|name| !name.is_empty());
            if stepped && trace.model.integers(n, "steps", Some(4))? != [1] {
                return None;
            }
            let length = list.len() as i64;
            let place = |at: i64| (if at < 0 { at.saturating_add(length) } else { at }).clamp(0, length) as usize;
            list.get(place(start)..place(end))?.to_vec()
        }
        "Unsqueeze" | "Squeeze" | "Cast" | "Identity" => trace.lists.get(node.input.first()?)?.clone(),
        "Concat" => concat(trace, n, node)?,
        _ => return None,
    };
    trace.lists.insert(node.output.first()?.clone(), list);
    Some((0..node.input.len()).collect())
}

fn shape(trace: &Trace, node: &NodeProto) -> Option<Vec<Element>> {
    let name = node.input.first()?;
    let rank = trace.ty(name)?.rank() as i64;
    let of = |axis: i64| match trace.tracks.get(name) {
        Some(track) if track.axis as i64 == axis => Element::Count(track.channels.clone()),
        _ => Element::Other,
    };
    let place = |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank);
    let (start, end) = (attribute::int(node, "start", 0), attribute::int(node, "end", rank));
    Some((place(start)..place(end)).map(of).collect())
}

/// Joined lists, of which at least one is followed.
fn concat(trace: &Trace, n: usize, node: &NodeProto) -> Option<Vec<Element>> {
    if !node.input.iter().any(|name| trace.lists.contains_key(name)) {
        return None;
    }
    let mut all = Vec::new();
    for (input, name) in node.input.iter().enumerate() {
        let length = super::ops::extents(&trace.ty(name)?)?.first().copied().unwrap_or(1);
        all.extend(elements(trace, n, input).unwrap_or_else(|| vec![Element::Other; length]));
    }
    Some(all)
}

/// The elements of a node's input, if they are known.
fn elements(trace: &Trace, n: usize, input: usize) -> Option<Vec<Element>> {
    let name = trace.model.nodes()[n].input.get(input)?;
    match trace.model.constant(name) {
        Some(t) => Some((0..t.numel()).map(|element| Element::Fixed { node: n, input, element }).collect()),
        None => trace.lists.get(name).cloned(),
    }
}

/// Lets an element of a list that a node reads count channels; `None` if it cannot, or if others count channels too.
pub fn count(trace: &mut Trace, n: usize, input: usize, place: usize, channels: &[usize]) -> Option<()> {
    let list = elements(trace, n, input)?;
    let others = list.iter().enumerate().filter(|(at, _)| *at != place);
    if others.clone().any(|(_, e)| matches!(e, Element::Count(_))) {
        return None;
    }
    match list.get(place)? {
        Element::Other => None,
        Element::Count(own) if own.len() == channels.len() => {
            trace.join(&own.clone(), channels);
            Some(())
        }
        Element::Count(_) => None,
        &Element::Fixed { node, input, element } => {
            let name = &trace.model.nodes()[node].input[input];
            // Not for lists that copy an extent or compute it.
            if trace.model.constant(name)?.i64_at(element) > 0 {
                let same = |edit: &&Edit| matches!(edit, Edit::Count { node: n, input: i, element: e, .. } if (*n, *i, *e) == (node, input, element));
                if let Some(Edit::Count { channels: own, .. }) = trace.edits.iter().find(same).cloned() {
                    return (own == channels).then_some(());
                }
                trace.edits.push(Edit::Count { node, input, element, channels: channels.to_vec() });
            }
            Some(())
        }
    }
}
