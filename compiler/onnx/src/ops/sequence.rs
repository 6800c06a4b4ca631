//! Sequences and optional values, whose elements are known at import.

use super::super::builder::{self, Builder};
use super::super::node::{Item, Node, Results};
use super::movement::even_sizes;
use mcc_ir::{DType, Dim, Error, Result, Tensor, Value};

fn list<'a>(n: &'a Node, input: usize) -> Result<&'a [Item]> {
    match n.item(input) {
        Item::Sequence(list) => Ok(list),
        Item::Optional(Some(inner)) => match &**inner {
            Item::Sequence(list) => Ok(list),
            Item::Absent | Item::Tensor(_) | Item::Optional(_) => Err(not_a_sequence(input)),
        },
        Item::Absent | Item::Tensor(_) | Item::Optional(None) => Err(not_a_sequence(input)),
    }
}

/// A copy of a sequence to change; copies count against the budget, which bounds the changes of long sequences.
fn copied(b: &mut Builder, n: &Node) -> Result<Vec<Item>> {
    let list = list(n, 0)?;
    b.budget.nodes(list.len() as u64 / COPIES_PER_NODE)?;
    Ok(list.to_vec())
}

/// Elements whose copying takes as long as a node.
const COPIES_PER_NODE: u64 = 64;

fn not_a_sequence(input: usize) -> Error {
    Error::invalid(format!("input {input} is not a sequence"))
}

/// A position in a sequence of length `len`, which may count from the end; `len` itself is valid if `past` is true.
fn position(b: &mut Builder, v: Value, len: usize, past: bool) -> Result<usize> {
    let i = b.ints(v, "the position")?.first().copied().unwrap_or(0);
    let at = if i < 0 { i + len as i64 } else { i };
    let limit = if past { len as i64 } else { len as i64 - 1 };
    match (0..=limit).contains(&at) {
        true => Ok(at as usize),
        false => Err(Error::invalid(format!("position {i} in a sequence of {len}"))),
    }
}

pub fn empty(_: &mut Builder, _: &Node) -> Result<Results> {
    Ok(Item::Sequence(Vec::new()).into())
}

pub fn construct(_: &mut Builder, n: &Node) -> Result<Results> {
    let elements = n.tensors()?.into_iter().map(Item::Tensor).collect();
    Ok(Item::Sequence(elements).into())
}

pub fn at(b: &mut Builder, n: &Node) -> Result<Results> {
    let list = list(n, 0)?;
    let i = position(b, n.input(1)?, list.len(), false)?;
    Ok(list[i].clone().into())
}

pub fn length(b: &mut Builder, n: &Node) -> Result<Results> {
    let len = list(n, 0)?.len() as i64;
    Ok(b.constant(Tensor::scalar_i64(DType::I64, len)).into())
}

pub fn insert(b: &mut Builder, n: &Node) -> Result<Results> {
    let mut list = copied(b, n)?;
    let element = n.input(1)?;
    let at = match n.optional(2) {
        Some(v) => position(b, v, list.len(), true)?,
        None => list.len(),
    };
    list.insert(at, Item::Tensor(element));
    Ok(Item::Sequence(list).into())
}

pub fn erase(b: &mut Builder, n: &Node) -> Result<Results> {
    let mut list = copied(b, n)?;
    let at = match n.optional(1) {
        Some(v) => position(b, v, list.len(), false)?,
        None if !list.is_empty() => list.len() - 1,
        None => return Err(Error::invalid("the sequence is empty")),
    };
    list.remove(at);
    Ok(Item::Sequence(list).into())
}

pub fn concat(b: &mut Builder, n: &Node) -> Result<Results> {
    let mut parts = Vec::new();
    for item in list(n, 0)? {
        let Item::Tensor(v) = item else { return Err(Error::invalid("an element that is not a tensor")) };
        parts.push(*v);
    }
    let first = *parts.first().ok_or_else(|| Error::unsupported("the concatenation of an empty sequence"))?;
    let new_axis = n.flag("new_axis", false)?;
    let axis = builder::axis(n.need("axis", n.try_int("axis")?)?, b.rank(first) + usize::from(new_axis))?;
    if new_axis {
        for v in &mut parts {
            *v = b.unsqueeze(*v, &[axis])?;
        }
    }
    Ok(b.concat(&parts, axis)?.into())
}

pub fn split(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let axis = builder::axis(n.int("axis", 0)?, b.rank(x))?;
    let extent = b.shape(x)[axis].clone();
    let symbolic = || Error::unsupported("a split into a number of parts that depends on a symbolic extent");
    let mut keep = true;
    let sizes: Vec<Dim> = match n.optional(1) {
        Some(v) if b.rank(v) == 1 => b.dims(v, "the split")?,
        Some(v) => {
            let size = b.ints(v, "the split")?.first().copied().unwrap_or(1).max(1);
            let total = extent.as_const().ok_or_else(symbolic)?;
            b.budget.nodes(total.div_euclid(size) as u64)?;
            (0..total.div_euclid(size) + i64::from(total % size != 0))
                .map(|i| Dim::from(size.min(total - i * size)))
                .collect()
        }
        None => {
            keep = n.flag("keepdims", true)?;
            let parts = extent.as_const().ok_or_else(symbolic)?.max(1);
            b.budget.nodes(parts as u64)?;
            even_sizes(&extent, parts)
        }
    };
    let mut start = Dim::ZERO;
    let mut parts = Vec::new();
    for size in sizes {
        let mut part = b.slice(x, axis, start.clone(), size.clone())?;
        if !keep {
            part = b.squeeze(part, &[axis])?;
        }
        parts.push(Item::Tensor(part));
        start = &start + &size;
    }
    Ok(Item::Sequence(parts).into())
}

pub fn optional(_: &mut Builder, n: &Node) -> Result<Results> {
    let inner = match n.item(0) {
        Item::Absent => None,
        item @ (Item::Tensor(_) | Item::Sequence(_)) => Some(Box::new(item.clone())),
        Item::Optional(_) => return Err(Error::invalid("input 0 is an optional value already")),
    };
    Ok(Item::Optional(inner).into())
}

pub fn optional_has_element(b: &mut Builder, n: &Node) -> Result<Results> {
    let has = match n.item(0) {
        Item::Absent | Item::Optional(None) => 0,
        Item::Tensor(_) | Item::Sequence(_) | Item::Optional(Some(_)) => 1,
    };
    Ok(b.constant(Tensor::scalar_i64(DType::Bool, has)).into())
}

pub fn optional_get_element(_: &mut Builder, n: &Node) -> Result<Results> {
    match n.item(0) {
        Item::Optional(Some(inner)) => Ok((**inner).clone().into()),
        item @ (Item::Tensor(_) | Item::Sequence(_)) => Ok(item.clone().into()),
        Item::Absent | Item::Optional(None) => Err(Error::invalid("the optional value is empty")),
    }
}
