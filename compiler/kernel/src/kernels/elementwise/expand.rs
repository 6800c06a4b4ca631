//! Element-wise kernels whose last axes are short: tensors that are broadcast or transposed along them are first copied
//! to scratch memory in the result's order, so that the axes become one long row (a group norm's groups of two
//! channels).

use mcc_targets::schedule::loops::{MAX_EXPANDED_ELEMENTS, MAX_SPLIT_ROW_ELEMENTS, MIN_EXPANDED_ROUNDS};

use crate::kernels::support::loops::{copy_bytes, dot, each_coordinate, flat, pointer_at};
use crate::kir::{Builder, Val};
use crate::view::View;
use mcc_ir::{DType, Dim};

/// How the last axes are merged.
pub(crate) struct Expansion {
    /// The first of them.
    pub(crate) axis: usize,
    /// Number of elements in all of them.
    pub(crate) count: i64,
    /// How each leaf is read.
    pub(crate) leaves: Vec<Row>,
}

/// A leaf along the merged axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    /// Contiguous.
    Adjacent,
    /// Constant.
    Level,
    /// To be copied.
    Spread,
}

/// Whether it pays: the last axis is shorter than `short`, the result (the last view) is contiguous, and every leaf to
/// copy is equal in all rounds of the next outer axis.
pub(crate) fn plan(extents: &[Dim], views: &[View], short: i64) -> Option<Expansion> {
    let (own, views) = views.split_last()?;
    let last = extents.last()?.as_const()?;
    if last >= short {
        return None;
    }
    let mut found = None;
    for axis in (1..extents.len().saturating_sub(1)).rev() {
        let Some(count) = extents[axis..].iter().product::<Dim>().as_const().filter(|&c| c <= MAX_EXPANDED_ELEMENTS)
        else {
            break;
        };
        let rounds = extents[axis - 1].as_const().is_none_or(|c| c >= MIN_EXPANDED_ROUNDS);
        let kinds: Vec<Row> = views.iter().map(|view| row(&extents[axis..], &view.strides[axis..])).collect();
        let served = views.iter().zip(&kinds).all(|(view, &kind)| kind != Row::Spread || view.strides[axis - 1].is(0));
        if rounds && served && row(&extents[axis..], &own.strides[axis..]) == Row::Adjacent {
            found = Some(Expansion { axis, count, leaves: kinds });
        }
    }
    found.filter(|f| f.leaves.contains(&Row::Spread))
}

/// Splits the axis before a short last one, so that the last one and a part of it can be merged into one row, if that
/// fills `lanes` better.
pub(crate) fn split(extents: &[Dim], views: &[View], lanes: i64) -> Option<(Vec<Dim>, Vec<View>)> {
    let (rows, last) = match extents {
        [.., rows, last] => (rows.as_const()?, last.as_const()?),
        _ => return None,
    };
    let full = last % (4 * lanes) == 0 || last % lanes == 0 && last > 2 * lanes;
    if last < 2 || full {
        return None;
    }
    let fits = |f: &i64| {
        rows % f == 0
            && rows / f >= MIN_EXPANDED_ROUNDS
            && f * last <= MAX_SPLIT_ROW_ELEMENTS
            && f * last % (4 * lanes) == 0
    };
    let f = (2..=(rows / MIN_EXPANDED_ROUNDS).min(MAX_SPLIT_ROW_ELEMENTS / last)).rev().find(fits)?;
    let at = extents.len() - 2;
    let (mut extents, mut views) = (extents.to_vec(), views.to_vec());
    extents[at] = Dim::from(f);
    extents.insert(at, Dim::from(rows / f));
    for view in &mut views {
        let outer = &view.strides[at] * &Dim::from(f);
        view.strides.insert(at, outer);
    }
    Some((extents, views))
}

fn row(extents: &[Dim], strides: &[Dim]) -> Row {
    if strides.iter().all(|s| s.is(0)) {
        return Row::Level;
    }
    if View::contiguous(extents).strides == strides { Row::Adjacent } else { Row::Spread }
}

/// Copies a leaf's elements to contiguous memory.
pub(crate) fn spread(
    k: &mut Builder,
    dtype: DType,
    vector_bytes: u32,
    extents: &[Dim],
    strides: &[Dim],
    from: Val,
    to: Val,
) {
    let size = dtype.size();
    // Contiguous runs are copied as a whole.
    let runs = strides.last().is_some_and(|s| s.is(1));
    let (outer, run) =
        if runs { (extents.len() - 1, extents[extents.len() - 1].clone()) } else { (extents.len(), Dim::ONE) };
    let bytes = k.dim(&(&run * &Dim::from(size)));
    each_coordinate(k, &extents[..outer], |k, coords| {
        let (source, place) = (dot(k, &strides[..outer], coords), flat(k, &extents[..outer], coords));
        let run = k.dim(&run);
        let place = k.mul(place, run);
        let (from, to) = (pointer_at(k, from, source, size), pointer_at(k, to, place, size));
        copy_bytes(k, vector_bytes, to, from, bytes);
    });
}
