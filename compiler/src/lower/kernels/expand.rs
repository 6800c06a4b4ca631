//! Element-wise kernels whose last axes are short: tensors that are constant or turned along them are laid out once in
//! scratch memory, in the result's order, so that the axes become one long row (a group norm's groups of two channels).

use super::super::kir::{Builder, Val};
use super::super::numbers;
use super::super::view::View;
use super::nest::{dot, flat, nest, raw_dtype};
use crate::ir::{DType, Dim};

/// Elements that a laid out leaf may have.
const MOST: i64 = 4096;

/// Rounds of the axis outside that it must serve.
const ROUNDS: i64 = 8;

/// How the last axes become one.
pub(super) struct Expansion {
    /// The first of them.
    pub(super) axis: usize,
    /// Elements in all of them.
    pub(super) count: i64,
    /// What becomes of each leaf.
    pub(super) leaves: Vec<Row>,
}

/// A leaf along the joined axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    /// In order.
    Adjacent,
    /// One element for all.
    Level,
    /// To be laid out.
    Spread,
}

/// Whether it pays: the last axis is shorter than `short`, the result lies in order, and every leaf that is to be laid
/// out is the same for all rounds of the axis outside.
pub(super) fn plan(extents: &[Dim], views: &[View], own: &View, short: i64) -> Option<Expansion> {
    let last = extents.last()?.as_const()?;
    if last >= short {
        return None;
    }
    let mut found = None;
    for axis in (1..extents.len().saturating_sub(1)).rev() {
        let Some(count) = extents[axis..].iter().product::<Dim>().as_const().filter(|&c| c <= MOST) else { break };
        let rounds = extents[axis - 1].as_const().is_none_or(|c| c >= ROUNDS);
        let kinds: Vec<Row> = views.iter().map(|view| row(&extents[axis..], &view.strides[axis..])).collect();
        let served = views.iter().zip(&kinds).all(|(view, &kind)| kind != Row::Spread || view.strides[axis - 1].is(0));
        if rounds && served && row(&extents[axis..], &own.strides[axis..]) == Row::Adjacent {
            found = Some(Expansion { axis, count, leaves: kinds });
        }
    }
    found.filter(|f| f.leaves.contains(&Row::Spread))
}

fn row(extents: &[Dim], strides: &[Dim]) -> Row {
    if strides.iter().all(|s| s.is(0)) {
        return Row::Level;
    }
    if View::contiguous(extents).strides == strides { Row::Adjacent } else { Row::Spread }
}

/// Lays a leaf's elements out in order.
pub(super) fn spread(k: &mut Builder, dtype: DType, extents: &[Dim], strides: &[Dim], from: Val, to: Val) {
    let raw = raw_dtype(dtype.size());
    nest(k, extents, &mut |k, coords| {
        let (source, target) = (dot(k, strides, coords), flat(k, extents, coords));
        let from = k.at_index(from, source, dtype.size() as u32);
        let v = numbers::load(k, raw, from, 1);
        let to = k.at_index(to, target, dtype.size() as u32);
        numbers::store(k, raw, to, v);
    });
}
