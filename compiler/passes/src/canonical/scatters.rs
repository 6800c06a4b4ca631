//! Turns scatters into fewer and longer pieces. A scatter to constant indices that form a box becomes a concatenation
//! of the update with slices of the data; one whose elements take the same index along a row becomes a scatter of rows.

use mcc_targets::Config;

use crate::support::edit::{Edit, pad_rank, rewrite};
use mcc_ir::Result;
use mcc_ir::{DType, Dim, Graph, NodeId, Op, Range, ScatterReduction, Tensor, Value};

/// Turns scatters of boxes into concatenations, whose parts need no copies, and scatters of elements into scatters of
/// rows.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    rewrite(graph, |edit, node| match edit.graph.op(node) {
        Op::ScatterNd { reduction: ScatterReduction::None } => scatter(edit, node),
        &Op::ScatterElements { axis: 0, reduction } => rows(edit, node, reduction),
        _ => Ok(None),
    })
}

/// A scatter of elements along the first axis whose indices are equal for all elements of a row.
fn rows(edit: &mut Edit, node: NodeId, reduction: ScatterReduction) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let &[data, indices, updates] = operands.as_slice() else { return Ok(None) };
    let (shape, places) = (edit.shape(data), edit.shape(indices));
    let Op::Broadcast { .. } = edit.graph.op(indices.node) else { return Ok(None) };
    let source = edit.graph.operands(indices.node)[0];
    let own = pad_rank(&edit.shape(source), places.len());
    let whole_rows = shape.len() > 1 && shape[1..] == places[1..];
    if !whole_rows || own[0] != places[0] || !own[1..].iter().all(|d| d.is(1)) {
        return Ok(None);
    }
    let mut index = edit.reshape(source, vec![places[0].clone(), Dim::ONE])?;
    if edit.dtype(index) != DType::I64 {
        index = edit.add(Op::Cast { to: DType::I64, saturate: true }, &[index])?;
    }
    edit.add(Op::ScatterNd { reduction }, &[data, index, updates]).map(Some)
}

/// Maximum axes of which the box covers only a part: each splits the rest of the data in two.
const MAX_CUT_AXES: usize = 2;

fn scatter(edit: &mut Edit, node: NodeId) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let &[data, _, update] = operands.as_slice() else { return Ok(None) };
    let Some(places) = edit.graph.as_constant(operands[1]) else { return Ok(None) };
    let shape = edit.shape(data);
    let Some(extents) = shape.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>() else { return Ok(None) };
    let Some(mut ranges) = covered(places, &extents) else { return Ok(None) };
    ranges.extend(extents[ranges.len()..].iter().map(|&extent| (0, extent)));
    let cut = ranges.iter().zip(&extents).filter(|&(&r, &extent)| r != (0, extent)).count();
    if cut > MAX_CUT_AXES {
        return Ok(None);
    }
    let update = edit.reshape(update, ranges.iter().map(|r| Dim::from(r.1)).collect())?;
    insert(edit, data, update, &ranges).map(Some)
}

/// Start and length, along the indexed axes, of the box whose elements the indices list in order.
fn covered(places: &Tensor, extents: &[i64]) -> Option<Vec<(i64, i64)>> {
    let (&axes, leading) = places.shape().split_last()?;
    let count: usize = leading.iter().product();
    if axes == 0 || axes > extents.len() || count == 0 {
        return None;
    }
    let at = |n: usize, axis: usize| {
        let place = places.i64_at(n * axes + axis);
        if place < 0 { place + extents[axis] } else { place }
    };
    let ranges: Vec<(i64, i64)> = (0..axes).map(|a| (at(0, a), at(count - 1, a) - at(0, a) + 1)).collect();
    let inside =
        ranges.iter().zip(extents).all(|(&(start, len), &extent)| start >= 0 && len > 0 && start + len <= extent);
    if !inside || ranges.iter().map(|r| r.1).product::<i64>() != count as i64 {
        return None;
    }
    let in_order = (0..count).all(|n| {
        let mut rest = n as i64;
        (0..axes).rev().all(|a| {
            let (start, len) = ranges[a];
            let expected = start + rest % len;
            rest /= len;
            at(n, a) == expected
        })
    });
    in_order.then_some(ranges)
}

/// `data` with the box replaced by `update`.
fn insert(edit: &mut Edit, data: Value, update: Value, ranges: &[(i64, i64)]) -> Result<Value> {
    let shape = edit.shape(data);
    let cut = (0..shape.len()).find(|&a| !(ranges[a].0 == 0 && shape[a].is(ranges[a].1)));
    let Some(axis) = cut else { return Ok(update) };
    let (start, len) = ranges[axis];
    let extent = shape[axis].as_const().unwrap_or(start + len);
    let part = |edit: &mut Edit, start: i64, len: i64| {
        let mut all: Vec<Range> = shape.iter().map(Range::full).collect();
        all[axis] = Range { start: Dim::from(start), step: 1, len: Dim::from(len) };
        edit.slice(data, all)
    };
    let middle = part(edit, start, len)?;
    let mut inner = ranges.to_vec();
    inner[axis] = (0, len);
    let mut parts = vec![insert(edit, middle, update, &inner)?];
    if start > 0 {
        parts.insert(0, part(edit, 0, start)?);
    }
    if start + len < extent {
        parts.push(part(edit, start + len, extent - start - len)?);
    }
    edit.add(Op::Concat { axis }, &parts)
}
