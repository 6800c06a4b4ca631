//! Follows channels through the graph, operands before users: the axis of a value that holds channels, the channels
//! that are constant, and the channels that must stay together.
//!
//! All channels of the operands of any other operation are needed.

use std::collections::HashMap;

use super::axes::{Moved, moved};
use super::layer::{Layer, numbers};
use super::slots::Slots;
use crate::support::weights::channel_axis;
use mcc_ir::Result;
use mcc_ir::{
    BinaryOp, CoordinateMode, DType, Dim, Graph, NodeId, Op, PadMode, PoolKind, PoolSpec, Range, ReduceKind,
    SamplePadding, Tensor, TensorType, Value, eval, infer,
};

/// The channels of a value.
pub(super) struct Track {
    /// Their axis.
    pub(super) axis: usize,
    /// The slot of the first channel.
    pub(super) first: usize,
    /// The value of a channel that is constant for all inputs.
    pub(super) known: Vec<Option<f64>>,
}

impl Track {
    pub(super) fn slots(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.known.len()
    }
}

/// The channels of a graph.
pub(super) struct Flow<'g> {
    pub(super) graph: &'g Graph,
    pub(super) order: Vec<NodeId>,
    pub(super) slots: Slots,
    pub(super) tracks: HashMap<Value, Track>,
    pub(super) layers: HashMap<NodeId, Layer>,
}

impl<'g> Flow<'g> {
    /// Follows the channels of a graph.
    pub(super) fn of(graph: &'g Graph) -> Result<Flow<'g>> {
        let order = graph.topological();
        let mut flow = Flow { graph, order, slots: Slots::default(), tracks: HashMap::new(), layers: HashMap::new() };
        for node in flow.order.clone() {
            let followed = flow.follow(node)?;
            for (n, value) in graph.operands(node).into_iter().enumerate() {
                if !followed.contains(&n) {
                    flow.need_all(value);
                }
            }
        }
        for output in &graph.outputs {
            flow.need_all(output.value);
        }
        Ok(flow)
    }

    fn need_all(&mut self, value: Value) {
        if let Some(track) = self.tracks.get(&value) {
            track.slots().for_each(|slot| {
                self.slots.need(slot);
            });
        }
    }

    fn shape(&self, value: Value) -> &'g [Dim] {
        &self.graph.ty(value).shape
    }

    /// Assigns channels to a node's result.
    fn track(&mut self, node: NodeId, axis: usize, known: Vec<Option<f64>>) -> usize {
        let first = self.slots.add(known.len());
        self.tracks.insert(node.into(), Track { axis, first, known });
        first
    }

    /// Processes a node; returns the indices of the operands whose channels are represented by its own.
    fn follow(&mut self, node: NodeId) -> Result<Vec<usize>> {
        let graph = self.graph;
        let operands = graph.operands(node);
        let rank = graph.types(node).first().map_or(0, TensorType::rank);
        let Some(&x) = operands.first() else { return Ok(Vec::new()) };
        let op = graph.op(node);
        match op {
            Op::Conv(_) | Op::ConvTranspose { .. } => return Ok(self.layer(node, x)),
            Op::MatMul => {
                return Ok(match graph.as_constant(operands[1]) {
                    Some(_) => self.layer(node, x),
                    None => self.product(node, x, operands[1]),
                });
            }
            Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Cast { .. } => return self.elementwise(node, &operands),
            Op::Concat { axis } => return Ok(self.concat(node, &operands, *axis)),
            _ => {}
        }
        let Some(Track { axis, known, .. }) = self.tracks.get(&x) else { return Ok(Vec::new()) };
        let (axis, known) = (*axis, known.clone());
        let same = |keep: bool| -> Option<Vec<Option<f64>>> {
            Some(if keep { known.clone() } else { vec![None; known.len()] })
        };
        let zeros = || -> Option<Vec<Option<f64>>> { Some(known.iter().map(|k| k.filter(|&c| c == 0.0)).collect()) };
        let in_x = self.shape(x);
        // The axis and the known values of the result's channels, which correspond to those of `x`.
        let (to, known) = match op {
            Op::Transpose { perm } => (perm.iter().position(|&p| p == axis), same(true)),
            Op::Broadcast { shape } => {
                let to = axis + shape.len() - in_x.len();
                (Some(to).filter(|&to| shape[to] == in_x[axis]), same(true))
            }
            Op::Pool(spec) => {
                let own = channel_axis(spec.layout, rank) == axis && rank > 2;
                (Some(axis).filter(|_| own), if pool_keeps(spec) { same(true) } else { zeros() })
            }
            Op::Resize { sizes, rule } => {
                let scale = rule.scales.get(axis).map_or(1.0, |s| s.get());
                let stays = sizes[axis] == in_x[axis] && (scale == 1.0 || scale == 0.0);
                let crops = rule.coordinates == CoordinateMode::TfCropAndResize;
                (Some(axis).filter(|_| stays && !crops), same(true))
            }
            Op::GridSample { padding, .. } => {
                let inside = *padding != SamplePadding::Zeros;
                (Some(axis).filter(|&a| a == 1), if inside { same(true) } else { zeros() })
            }
            Op::Reduce { kind, axes, keep } => {
                let before = axes.iter().filter(|&&a| a < axis).count();
                let to = if *keep { axis } else { axis - before };
                let count: Dim = axes.iter().map(|&a| &in_x[a]).product();
                let known = match (kind, count.as_const()) {
                    (ReduceKind::Mean | ReduceKind::Min | ReduceKind::Max, Some(n)) if n > 0 => same(true),
                    (ReduceKind::Sum, Some(n)) => Some(known.iter().map(|k| k.map(|c| c * n as f64)).collect()),
                    (ReduceKind::Prod, _) => same(false),
                    _ => zeros(),
                };
                (Some(to).filter(|_| !axes.contains(&axis)), known)
            }
            Op::Softmax { axis: along, .. } => (Some(axis).filter(|a| a != along), same(false)),
            Op::Normalize { axis: first, .. } => (Some(axis).filter(|a| a < first), zeros()),
            Op::Slice { ranges } if ranges[axis] == Range::full(&in_x[axis]) => (Some(axis), same(true)),
            Op::Slice { ranges } => return Ok(self.slice(node, &ranges[axis])),
            Op::Pad { before, after, mode } => return Ok(self.pad(node, &operands, before, after, *mode)),
            Op::Gather { axis: along } if *along == axis => return Ok(self.gather(node, &operands)),
            Op::Gather { axis: along } => {
                let to = if *along > axis { axis } else { axis + self.shape(operands[1]).len() - 1 };
                (Some(to), same(true))
            }
            Op::Reshape { shape } => return Ok(self.reshape(node, moved(in_x, axis, shape))),
            _ => (None, None),
        };
        let (Some(to), Some(known)) = (to, known) else { return Ok(Vec::new()) };
        let n = known.len();
        let first = self.track(node, to, known);
        self.join(first, x, n);
        Ok(vec![0])
    }

    /// Joins the channels from `first` on with those of a value.
    fn join(&mut self, first: usize, value: Value, count: usize) {
        let from = self.tracks[&value].first;
        (0..count).for_each(|i| self.slots.join(first + i, from + i));
    }

    fn layer(&mut self, node: NodeId, x: Value) -> Vec<usize> {
        let Some(layer) = Layer::of(self.graph, node) else { return Vec::new() };
        let source = self.tracks.get(&x).filter(|t| t.axis == layer.in_axis);
        let known = |i: usize| source.and_then(|t| t.known[i]);
        let dtype = self.graph.ty(node.into()).dtype;
        let rounded = |c: f64| Some(Tensor::scalar_f64(dtype, c).f64_at(0)).filter(|c| c.is_finite());
        let constants = (0..layer.outs).map(|o| layer.constant(o, known).and_then(rounded)).collect();
        let tracked = source.is_some();
        let first = self.track(node, layer.out_axis, constants);
        let mut followed = vec![1, 2];
        if layer.groups > 1 && tracked {
            // A group is kept or removed as a whole.
            let from = self.tracks[&x].first;
            let [ins, outs] = layer.per_group();
            for g in 0..layer.groups {
                (0..outs).for_each(|o| self.slots.join(first + g * outs, first + g * outs + o));
                (0..ins).for_each(|i| self.slots.join(first + g * outs, from + g * ins + i));
            }
        } else if layer.groups > 1 {
            self.need_all(node.into());
        }
        if tracked {
            followed.push(0);
        }
        self.layers.insert(node, layer);
        followed
    }

    /// A product of two computed matrices: channels of batch axes belong to both operands, channels of rows and columns
    /// to one.
    fn product(&mut self, node: NodeId, a: Value, b: Value) -> Vec<usize> {
        let rank = self.graph.ty(node.into()).rank();
        // The axis of the result, and whether it is a batch axis.
        let place = |flow: &Flow, v: Value, own: usize| {
            let (track, r) = (flow.tracks.get(&v)?, flow.graph.ty(v).rank());
            let batch = r >= 2 && track.axis < r - 2;
            let to = (track.axis + rank).checked_sub(r)?;
            (batch || r >= 2 && track.axis == r - own).then_some((to, batch, track.known.len()))
        };
        let stretched = |flow: &Flow, v: Value, to: usize| {
            let shape = flow.shape(v);
            (to + shape.len()).checked_sub(rank).is_none_or(|a| shape[a].is(1))
        };
        let (pa, pb) = (place(self, a, 2), place(self, b, 1));
        let zeros = |flow: &Flow, v: Value| -> Vec<Option<f64>> {
            flow.tracks[&v].known.iter().map(|k| k.filter(|&c| c == 0.0)).collect()
        };
        if rank < 2 {
            return Vec::new();
        }
        match (pa, pb) {
            (Some((to, true, n)), Some((other, true, m))) if to == other && n == m => {
                let known = zeros(self, a).into_iter().zip(zeros(self, b)).map(|(a, b)| a.or(b)).collect();
                let first = self.track(node, to, known);
                self.join(first, a, n);
                self.join(first, b, n);
                vec![0, 1]
            }
            (Some((to, batch, n)), _) if !batch || stretched(self, b, to) => {
                let known = zeros(self, a);
                let first = self.track(node, to, known);
                self.join(first, a, n);
                vec![0]
            }
            (_, Some((to, batch, n))) if !batch || stretched(self, a, to) => {
                let known = zeros(self, b);
                let first = self.track(node, to, known);
                self.join(first, b, n);
                vec![1]
            }
            _ => Vec::new(),
        }
    }

    fn elementwise(&mut self, node: NodeId, operands: &[Value]) -> Result<Vec<usize>> {
        let graph = self.graph;
        let ty = graph.ty(node.into());
        let aligned = |flow: &Flow, v: Value| {
            let track = flow.tracks.get(&v)?;
            let axis = track.axis + ty.rank() - flow.graph.ty(v).rank();
            (ty.shape[axis] == Dim::from(track.known.len())).then_some(axis)
        };
        let Some(axis) = operands.iter().find_map(|&v| aligned(self, v)) else { return Ok(Vec::new()) };
        let extent = ty.shape[axis].as_const().and_then(|e| usize::try_from(e).ok()).unwrap_or(0);
        let (mut followed, mut sides, mut whole) = (Vec::new(), Vec::new(), false);
        for (n, &v) in operands.iter().enumerate() {
            let shape = &graph.ty(v).shape;
            let spread = (axis + shape.len()).checked_sub(ty.rank()).is_none_or(|a| shape[a].is(1) && extent != 1);
            if aligned(self, v) == Some(axis) {
                followed.push(n);
                sides.push(self.tracks[&v].known.clone());
            } else if let Some(t) = graph.as_constant(v) {
                sides.push(numbers(t, ty.rank(), axis, extent));
            } else {
                whole |= !spread;
                sides.push(vec![None; extent]);
            }
        }
        let known = evaluate(graph.op(node), &sides, operands.iter().map(|&v| graph.ty(v).dtype))?;
        let first = self.track(node, axis, known);
        for &n in &followed {
            self.join(first, operands[n], extent);
        }
        if whole {
            self.need_all(node.into());
        }
        Ok(followed)
    }

    fn concat(&mut self, node: NodeId, operands: &[Value], along: usize) -> Vec<usize> {
        let graph = self.graph;
        let ty = graph.ty(node.into());
        let axes: Vec<Option<usize>> = operands.iter().map(|v| self.tracks.get(v).map(|t| t.axis)).collect();
        let axis = if axes.contains(&Some(along)) { Some(along) } else { axes.iter().find_map(|a| *a) };
        let Some(axis) = axis else { return Vec::new() };
        let extents: Option<Vec<usize>> =
            operands.iter().map(|&v| self.shape(v)[axis].as_const().and_then(|e| usize::try_from(e).ok())).collect();
        let Some(extents) = extents else { return Vec::new() };
        let followed: Vec<usize> = (0..operands.len()).filter(|&n| axes[n] == Some(axis)).collect();
        let constant = |n: usize| graph.as_constant(operands[n]);
        let known = |flow: &Flow, n: usize| match constant(n) {
            _ if followed.contains(&n) => flow.tracks[&operands[n]].known.clone(),
            Some(t) => numbers(t, ty.rank(), axis, extents[n]),
            None => vec![None; extents[n]],
        };
        let sides: Vec<Vec<Option<f64>>> = (0..operands.len()).map(|n| known(self, n)).collect();
        let own = |n: usize| followed.contains(&n) || constant(n).is_some();
        if axis == along {
            let first = self.track(node, axis, sides.concat());
            let mut at = first;
            for (n, &extent) in extents.iter().enumerate() {
                if followed.contains(&n) {
                    self.join(at, operands[n], extent);
                } else if !own(n) {
                    (at..at + extent).for_each(|slot| {
                        self.slots.need(slot);
                    });
                }
                at += extent;
            }
        } else {
            let all = |i: usize| sides[0][i].filter(|&c| sides.iter().all(|s| s[i] == Some(c)));
            let first = self.track(node, axis, (0..extents[0]).map(all).collect());
            for &n in &followed {
                self.join(first, operands[n], extents[n]);
            }
            if !(0..operands.len()).all(own) {
                self.need_all(node.into());
            }
        }
        followed
    }

    fn slice(&mut self, node: NodeId, range: &Range) -> Vec<usize> {
        let x = self.graph.operands(node)[0];
        let number = |d: &Dim| d.as_const().and_then(|d| usize::try_from(d).ok());
        let (Some(start), Some(len), 1) = (number(&range.start), number(&range.len), range.step) else {
            return Vec::new();
        };
        let track = &self.tracks[&x];
        let (from, known) = (track.first + start, track.known[start..start + len].to_vec());
        let first = self.track(node, track.axis, known);
        (0..len).for_each(|i| self.slots.join(first + i, from + i));
        vec![0]
    }

    fn pad(&mut self, node: NodeId, operands: &[Value], before: &[Dim], after: &[Dim], mode: PadMode) -> Vec<usize> {
        let (track, value) = (&self.tracks[&operands[0]], self.graph.as_constant(operands[1]));
        let (axis, from) = (track.axis, track.first);
        let number = |d: &Dim| d.as_const().and_then(|d| usize::try_from(d).ok());
        let (Some(ahead), Some(behind)) = (number(&before[axis]), number(&after[axis])) else { return Vec::new() };
        if ahead + behind > 0 && mode != PadMode::Constant {
            return Vec::new();
        }
        let value = value.and_then(|v| numbers(v, 1, 0, 1)[0]);
        let others = (0..before.len()).filter(|&a| a != axis).any(|a| !before[a].is(0) || !after[a].is(0));
        let inside = track.known.iter().map(|&k| k.filter(|_| !others || mode != PadMode::Constant || k == value));
        let known: Vec<_> = (0..ahead).map(|_| value).chain(inside).chain((0..behind).map(|_| value)).collect();
        let count = known.len() - ahead - behind;
        let first = self.track(node, axis, known);
        (0..count).for_each(|i| self.slots.join(first + ahead + i, from + i));
        vec![0, 1]
    }

    /// A gather along the channels.
    fn gather(&mut self, node: NodeId, operands: &[Value]) -> Vec<usize> {
        let Some(indices) = self.graph.as_constant(operands[1]).filter(|t| t.shape().len() == 1) else {
            return Vec::new();
        };
        let track = &self.tracks[&operands[0]];
        let n = track.known.len() as i64;
        let indices: Vec<usize> =
            indices.to_i64s().into_iter().map(|i| if i < 0 { i + n } else { i }.clamp(0, n - 1) as usize).collect();
        let (axis, from) = (track.axis, track.first);
        let known = indices.iter().map(|&i| track.known[i]).collect();
        let first = self.track(node, axis, known);
        indices.iter().enumerate().for_each(|(n, &i)| self.slots.join(first + n, from + i));
        vec![0, 1]
    }

    fn reshape(&mut self, node: NodeId, place: Option<Moved>) -> Vec<usize> {
        let Some(place) = place else { return Vec::new() };
        let x = self.graph.operands(node)[0];
        let track = &self.tracks[&x];
        let (from, n) = (track.first, track.known.len());
        let extent = self.graph.types(node)[0].shape[place.axis()].as_const().map_or(0, |e| e as usize);
        let sources = |i: usize| match place {
            Moved::Merged { inner, .. } => (i / inner % n, 1),
            Moved::Split { inner, .. } => (i * inner, inner),
        };
        let known = |i: usize| {
            let (first, count) = sources(i);
            let c = track.known[first];
            c.filter(|_| track.known[first..first + count].iter().all(|k| *k == c))
        };
        let known: Vec<Option<f64>> = (0..extent).map(known).collect();
        let first = self.track(node, place.axis(), known);
        for i in 0..extent {
            let (source, count) = sources(i);
            (source..source + count).for_each(|s| self.slots.join(first + i, from + s));
        }
        vec![0]
    }
}

/// Whether a pool of equal elements returns that element everywhere.
fn pool_keeps(spec: &PoolSpec) -> bool {
    let inside = (0..spec.kernel.len())
        .all(|a| spec.pads[a].0 < spec.kernel[a] && spec.pads[a].1 < spec.kernel[a] && spec.dilations[a] == 1);
    let unpadded = spec.pads.iter().all(|&p| p == (0, 0)) && !spec.ceil;
    match spec.kind {
        PoolKind::Max | PoolKind::Average { include_pad: false } => inside || unpadded,
        PoolKind::Average { include_pad: true } => unpadded,
        PoolKind::Lp { .. } => false,
    }
}

/// An element-wise operation on constant channels; zero times anything is zero.
fn evaluate(op: &Op, sides: &[Vec<Option<f64>>], dtypes: impl Iterator<Item = DType>) -> Result<Vec<Option<f64>>> {
    let n = sides[0].len();
    let all: Vec<usize> = (0..n).filter(|&i| sides.iter().all(|s| s[i].is_some())).collect();
    let mut known = vec![None; n];
    if matches!(op, Op::Binary(BinaryOp::Mul)) {
        let zero = |i: usize| sides.iter().any(|s| s[i] == Some(0.0));
        (0..n).filter(|&i| zero(i)).for_each(|i| known[i] = Some(0.0));
    }
    if all.is_empty() {
        return Ok(known);
    }
    let column = |(side, dtype): (&Vec<Option<f64>>, DType)| {
        let values: Vec<f64> = all.iter().filter_map(|&i| side[i]).collect();
        Tensor::from_f64s(dtype, vec![values.len()], &values)
    };
    let operands = sides.iter().zip(dtypes).map(column).collect::<Result<Vec<Tensor>>>()?;
    let types: Vec<TensorType> = operands.iter().map(Tensor::ty).collect();
    let results = infer(op, &types.iter().collect::<Vec<_>>())?.types;
    let values = eval::eval_op(op, &operands, &results)?.remove(0).to_f64s();
    for (&i, v) in all.iter().zip(values) {
        known[i] = Some(v).filter(|v| v.is_finite());
    }
    Ok(known)
}
