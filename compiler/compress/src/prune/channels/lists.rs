//! Lists of integers that a model computes from shapes, of which some count channels.

use mcc_proto::NodeProto;

use super::trace::{Edit, Trace};
use crate::attribute;

/// An element of a list.
#[derive(Debug, Clone, PartialEq)]
pub enum Element {
    /// Any number that no channel changes.
    Other,
    /// A known number that no channel changes.
    Number(i64),
    /// The number of these channels.
    Count(Vec<usize>),
    /// A constant.
    Fixed(Place),
}

impl Element {
    /// The place of a constant.
    pub fn place(&self) -> Option<Place> {
        match self {
            &Element::Fixed(place) => Some(place),
            _ => None,
        }
    }
}

/// The place of a constant element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The node that reads the constant.
    pub node: usize,
    /// The node's input.
    pub input: usize,
    /// The constant's element.
    pub element: usize,
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
        "Mul" => multiplied(trace, node)?,
        _ => return None,
    };
    trace.lists.insert(node.output.first()?.clone(), list);
    Some((0..node.input.len()).collect())
}

fn shape(trace: &Trace, node: &NodeProto) -> Option<Vec<Element>> {
    let name = node.input.first()?;
    let ty = trace.ty(name)?;
    let rank = ty.rank() as i64;
    let of = |axis: i64| match trace.tracks.get(name) {
        Some(track) if track.axis as i64 == axis => Element::Count(track.channels.clone()),
        _ => ty.shape[axis as usize].as_const().map_or(Element::Other, Element::Number),
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

/// Products of the elements of two lists, of which at least one is followed.
fn multiplied(trace: &Trace, node: &NodeProto) -> Option<Vec<Element>> {
    let [a, b] = node.input.as_slice() else { return None };
    let (a, b) = (trace.lists.get(a)?, trace.lists.get(b)?);
    let product = |(a, b): (&Element, &Element)| match (a, b) {
        (Element::Number(a), Element::Number(b)) => Some(Element::Number(a.checked_mul(*b)?)),
        (Element::Count(channels), Element::Number(n)) | (Element::Number(n), Element::Count(channels)) => {
            let n = usize::try_from(*n).ok()?;
            Some(Element::Count(channels.iter().flat_map(|&c| std::iter::repeat_n(c, n)).collect()))
        }
        (Element::Count(_), _) | (_, Element::Count(_)) => None,
        _ => Some(Element::Other),
    };
    (a.len() == b.len()).then(|| a.iter().zip(b).map(product).collect())?
}

/// The elements of a node's input, if they are known.
fn elements(trace: &Trace, n: usize, input: usize) -> Option<Vec<Element>> {
    let name = trace.model.nodes()[n].input.get(input)?;
    match trace.model.constant(name) {
        Some(t) => Some((0..t.numel()).map(|element| Element::Fixed(Place { node: n, input, element })).collect()),
        None => trace.lists.get(name).cloned(),
    }
}

/// Lets an element of a list that a node reads count channels; `None` if it cannot, or if others count channels too.
pub fn count(trace: &mut Trace, n: usize, input: usize, place: usize, channels: &[usize]) -> Option<()> {
    let list = elements(trace, n, input)?;
    let others = list.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, e)| e);
    if others.clone().any(|e| matches!(e, Element::Count(_))) {
        return None;
    }
    match list.get(place)? {
        Element::Other | Element::Number(_) => return None,
        Element::Count(own) => same(trace, own, channels)?,
        &Element::Fixed(place) => fixed(trace, place, channels)?,
    }
    // The others stand for axes that stay; one that another reader of the list takes for channels must stay, too.
    let reason = format!("{} reads a list that others read, too", trace.model.nodes()[n].op_type);
    others.filter_map(Element::place).for_each(|place| trace.fix(place, &reason));
    Some(())
}

/// A constant counts channels, which may be counted for another node already.
fn fixed(trace: &mut Trace, place: Place, channels: &[usize]) -> Option<()> {
    let name = &trace.model.nodes()[place.node].input[place.input];
    // Not one that copies an extent or lets the engine compute it.
    if trace.model.constant(name)?.i64_at(place.element) <= 0 {
        return Some(());
    }
    if let Some(&edit) = trace.counts.get(&place) {
        let Edit::Count { channels: own, .. } = trace.edits[edit].clone() else { return None };
        return same(trace, &own, channels);
    }
    trace.counts.insert(place, trace.edits.len());
    trace.edits.push(Edit::Count { place, channels: channels.to_vec() });
    Some(())
}

/// Lets the numbers of two lists of channels be the same, whichever go.
fn same(trace: &mut Trace, a: &[usize], b: &[usize]) -> Option<()> {
    let sorted = |list: &[usize]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        list
    };
    if sorted(a) != sorted(b) {
        trace.join((a.len() == b.len()).then_some(a)?, b);
    }
    Some(())
}
