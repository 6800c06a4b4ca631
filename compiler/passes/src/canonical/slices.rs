//! Slices and concatenations: joins compositions and removes what cancels.

use mcc_targets::Config;
use mcc_targets::schedule::loops::{MAX_WINDOW_SLICES, MIN_WINDOW_LENGTH};

use crate::support::edit::{Edit, rewrite};
use mcc_ir::Result;
use mcc_ir::{Dim, Graph, NodeId, Op, PadMode, Range, Tensor, Value};

/// Simplifies slices, concatenations, and gathers with constant indices.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    rewrite(graph, |edit, node| match edit.graph.op(node).clone() {
        Op::Slice { ranges } => slice(edit, node, &ranges),
        Op::Concat { axis } => concat(edit, node, axis),
        Op::Gather { axis } => gather(edit, node, axis),
        _ => Ok(None),
    })
}

fn slice(edit: &mut Edit, node: NodeId, ranges: &[Range]) -> Result<Option<Value>> {
    let x = edit.graph.operands(node)[0];
    let shape = edit.shape(x);
    if ranges.iter().zip(&shape).all(|(r, d)| *r == Range::full(d)) {
        return Ok(Some(x));
    }
    match edit.graph.op(x.node).clone() {
        Op::Slice { ranges: inner } => {
            let source = edit.graph.operands(x.node)[0];
            let ranges = inner.iter().zip(ranges).map(|(i, o)| compose(i, o)).collect();
            edit.slice(source, ranges).map(Some)
        }
        Op::Concat { axis } => {
            let taken = &ranges[axis];
            if taken.step != 1 {
                return Ok(None);
            }
            let parts = edit.graph.operands(x.node);
            let mut start = Dim::ZERO;
            for part in parts {
                let extent = edit.shape(part)[axis].clone();
                let offset = &taken.start - &start;
                let rest = &(&extent - &offset) - &taken.len;
                if at_least_zero(&offset) && at_least_zero(&rest) {
                    let mut ranges = ranges.to_vec();
                    ranges[axis].start = offset;
                    return edit.slice(part, ranges).map(Some);
                }
                start = &start + &extent;
            }
            Ok(None)
        }
        Op::Pad { before, mode: PadMode::Constant, .. } => {
            let source = edit.graph.operands(x.node)[0];
            let mut moved = Vec::new();
            for ((r, b), d) in ranges.iter().zip(&before).zip(&edit.shape(source)) {
                let start = &r.start - b;
                let inside = r.step == 1 && at_least_zero(&start) && at_least_zero(&(&(d - &start) - &r.len));
                if !inside {
                    return Ok(None);
                }
                moved.push(Range { start, ..r.clone() });
            }
            edit.slice(source, moved).map(Some)
        }
        _ => Ok(None),
    }
}

/// The range of `outer` applied to the result of `inner`.
fn compose(inner: &Range, outer: &Range) -> Range {
    Range {
        start: &inner.start + &(&Dim::from(inner.step) * &outer.start),
        step: inner.step * outer.step,
        len: outer.len.clone(),
    }
}

/// Whether a dimension is a constant of at least zero; symbolic differences are not decided.
fn at_least_zero(d: &Dim) -> bool {
    d.as_const().is_some_and(|c| c >= 0)
}

fn concat(edit: &mut Edit, node: NodeId, axis: usize) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let mut parts: Vec<Value> = Vec::new();
    for &v in &operands {
        if edit.shape(v)[axis].is(0) && operands.len() > 1 {
            continue;
        }
        match edit.graph.op(v.node) {
            // One copy instead of two; the inner one is kept if others need it.
            Op::Concat { axis: inner } if *inner == axis && edit.used_once(v) => {
                parts.extend(edit.graph.operands(v.node));
            }
            _ => parts.push(v),
        }
    }
    if parts.is_empty() {
        parts.push(operands[0]);
    }
    join_adjacent_slices(edit, &mut parts, axis)?;
    if parts.len() == 1 {
        return Ok(Some(parts[0]));
    }
    if parts == operands {
        return Ok(None);
    }
    edit.add(Op::Concat { axis }, &parts).map(Some)
}

/// Joins adjacent slices of one value in a concatenation into one slice.
fn join_adjacent_slices(edit: &mut Edit, parts: &mut Vec<Value>, axis: usize) -> Result<()> {
    let mut joined: Vec<Value> = Vec::new();
    for &part in parts.iter() {
        let both = joined.last().and_then(|&last| adjacent(edit.graph, last, part, axis));
        match both {
            Some((source, ranges)) => {
                joined.pop();
                joined.push(edit.slice(source, ranges)?);
            }
            None => joined.push(part),
        }
    }
    *parts = joined;
    Ok(())
}

fn adjacent(graph: &Graph, a: Value, b: Value, axis: usize) -> Option<(Value, Vec<Range>)> {
    let (Op::Slice { ranges: ra }, Op::Slice { ranges: rb }) = (graph.op(a.node), graph.op(b.node)) else {
        return None;
    };
    let source = graph.operand(a.node, 0)?;
    let same = graph.operand(b.node, 0)? == source
        && ra.iter().zip(rb).enumerate().all(|(i, (p, q))| i == axis || p == q)
        && ra[axis].step == 1
        && rb[axis].step == 1
        && &ra[axis].start + &ra[axis].len == rb[axis].start;
    if !same {
        return None;
    }
    let mut ranges = ra.clone();
    ranges[axis].len = &ra[axis].len + &rb[axis].len;
    Some((source, ranges))
}

/// Turns a gather with a constant matrix of indices whose rows are runs into a concatenation of slices; this is how
/// models unfold an axis into windows.
fn windows(edit: &mut Edit, node: NodeId, x: Value, axis: usize, indices: &Tensor) -> Result<Option<Value>> {
    let &[rows, length] = indices.shape() else { return Ok(None) };
    let Some(extent) = edit.shape(x)[axis].as_const() else { return Ok(None) };
    if !(2..=MAX_WINDOW_SLICES).contains(&rows) || length < MIN_WINDOW_LENGTH {
        return Ok(None);
    }
    let starts: Vec<i64> = (0..rows).map(|r| indices.i64_at(r * length)).collect();
    let runs = (0..rows * length).all(|i| indices.i64_at(i) == starts[i / length] + (i % length) as i64);
    if !runs || starts.iter().any(|&s| s < 0 || s + length as i64 > extent) {
        return Ok(None);
    }
    let mut shape = edit.shape(node.into());
    shape[axis] = Dim::ONE;
    let mut parts = Vec::new();
    for start in starts {
        let mut ranges: Vec<Range> = edit.shape(x).iter().map(Range::full).collect();
        ranges[axis] = Range { start: Dim::from(start), step: 1, len: Dim::from(length) };
        let part = edit.slice(x, ranges)?;
        parts.push(edit.reshape(part, shape.clone())?);
    }
    edit.add(Op::Concat { axis }, &parts).map(Some)
}

/// Turns a gather with a constant arithmetic progression of indices into a slice.
fn gather(edit: &mut Edit, node: NodeId, axis: usize) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let (x, Some(indices)) = (operands[0], edit.graph.as_constant(operands[1]).cloned()) else { return Ok(None) };
    let shape = edit.shape(x);
    let n = indices.numel();
    if n == 0 || n > 1 << 16 {
        return Ok(None);
    }
    let at = |i: usize| match indices.i64_at(i) {
        negative if negative < 0 => &shape[axis] + &Dim::from(negative),
        index => Dim::from(index),
    };
    let start = at(0);
    // If it is not certain that the start is in range, the gather is kept.
    let in_range = match (start.as_const(), shape[axis].as_const()) {
        (Some(s), Some(d)) => (0..d).contains(&s),
        _ => false,
    };
    let step = if n > 1 { (&at(1) - &start).as_const() } else { Some(1) };
    let Some(step) = step.filter(|&s| s != 0 && in_range) else { return Ok(None) };
    let progression = (1..n).all(|i| at(i) == &start + &Dim::from(step * i as i64));
    if !progression {
        return windows(edit, node, x, axis, &indices);
    }
    let last = at(n - 1).as_const();
    if last.is_none_or(|l| l < 0 || shape[axis].as_const().is_some_and(|d| l >= d)) {
        return Ok(None);
    }
    let mut ranges: Vec<Range> = shape.iter().map(Range::full).collect();
    ranges[axis] = Range { start, step, len: Dim::from(n) };
    let part = edit.slice(x, ranges)?;
    let shape = edit.shape(node.into());
    edit.reshape(part, shape).map(Some)
}
