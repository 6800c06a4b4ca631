//! Rebuilds the graph with the remaining channels.

use std::collections::HashMap;

use super::axes::pick;
use super::flow::{Flow, Track};
use super::layer::Layer;
use mcc_ir::Result;
use mcc_ir::{BinaryOp, Decision, Dim, Graph, NodeId, Op, Range, Subject, Tensor, Value};

/// Rebuilds nodes that lose channels or become constant; returns whether there are any.
pub(super) fn narrow(graph: &mut Graph, flow: &mut Flow) -> Result<bool> {
    let mut narrower = Narrower { kept: kept(flow), graph, flow, new: HashMap::new(), changed: false };
    for node in narrower.flow.order.clone() {
        narrower.node(node).map_err(|e| e.within(narrower.flow.graph.label(node).to_string()))?;
    }
    Ok(narrower.changed)
}

/// The channels of each value that are kept.
fn kept(flow: &mut Flow) -> HashMap<Value, Vec<usize>> {
    let Flow { tracks, slots, .. } = flow;
    let of = |track: &Track, slots: &mut super::slots::Slots| {
        track.slots().enumerate().filter(|&(_, s)| slots.is_needed(s)).map(|(i, _)| i).collect()
    };
    tracks.iter().map(|(&value, track)| (value, of(track, slots))).collect()
}

struct Narrower<'a, 'g> {
    graph: &'a mut Graph,
    /// The channels of the original graph.
    flow: &'a Flow<'g>,
    kept: HashMap<Value, Vec<usize>>,
    /// Narrower values, by the value that each replaces.
    new: HashMap<Value, Value>,
    changed: bool,
}

impl Narrower<'_, '_> {
    /// Whether a value loses channels.
    fn loses(&self, value: Value) -> bool {
        self.kept.get(&value).is_some_and(|k| k.len() < self.flow.tracks[&value].known.len())
    }

    fn node(&mut self, node: NodeId) -> Result<()> {
        let old = Value::from(node);
        let operands = self.flow.graph.operands(node);
        let kept = self.kept.get(&old).cloned();
        if kept.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let label = self.flow.graph.label(node).to_string();
        if let (Some(track), Some(kept)) = (self.flow.tracks.get(&old), &kept)
            && let Some(numbers) = kept.iter().map(|&i| track.known[i]).collect::<Option<Vec<f64>>>()
        {
            let axis = track.axis;
            let value = self.constant(old, axis, kept, &numbers)?;
            self.put(old, value);
            self.describe(node, kept, "a constant: it does not depend on the inputs");
            return Ok(());
        }
        if !self.loses(old) && !operands.iter().any(|v| self.loses(*v)) {
            return Ok(());
        }
        if self.flow.layers.contains_key(&node) && kept.is_some() {
            return self.layer(node, &operands, &label);
        }
        let Some(track) = self.flow.tracks.get(&old) else { return Ok(()) };
        let (axis, kept) = (track.axis, kept.unwrap_or_default());
        let op = self.operation(node, axis, &kept)?;
        let mut values = Vec::new();
        for (n, &operand) in operands.iter().enumerate() {
            values.extend(self.operand(node, n, operand, axis, &kept)?);
        }
        let value = self.graph.add_labelled(op, &values, &label)?.into();
        self.put(old, value);
        Ok(())
    }

    /// Replaces a value by another one, where all channels are kept.
    fn put(&mut self, old: Value, new: Value) {
        self.changed = true;
        self.new.insert(old, new);
        if !self.loses(old) {
            self.graph.replace(old, new);
        }
    }

    /// The replacement of a value.
    fn current(&self, value: Value) -> Value {
        self.new.get(&value).copied().unwrap_or(value)
    }

    /// A constant of the type's shape with the kept channels, each with its number.
    fn constant(&mut self, old: Value, axis: usize, kept: &[usize], numbers: &[f64]) -> Result<Value> {
        let ty = self.flow.graph.ty(old);
        let mut shape = ty.shape.clone();
        shape[axis] = Dim::from(kept.len());
        let mut own = vec![1; ty.rank() - axis];
        own[0] = kept.len();
        let values = self.graph.constant(Tensor::from_f64s(ty.dtype, own, numbers)?);
        self.graph.add(Op::Broadcast { shape }, &[values])
    }

    /// An operand of an operation that is not a layer; `None` for a removed part of a concatenation.
    fn operand(&mut self, node: NodeId, n: usize, old: Value, axis: usize, kept: &[usize]) -> Result<Option<Value>> {
        let (op, ty) = (self.flow.graph.op(node), self.flow.graph.ty(node.into()));
        let concat = match op {
            Op::Concat { axis: along } if *along == axis => Some(self.segment(node, n, axis)),
            _ => None,
        };
        let mine: Vec<usize> = match concat {
            Some((start, end)) => kept.iter().filter(|&&i| (start..end).contains(&i)).map(|i| i - start).collect(),
            None => kept.to_vec(),
        };
        if concat.is_some() && mine.is_empty() {
            return Ok(None);
        }
        match op {
            // Their other operands have no channels.
            Op::Gather { axis: along } if n == 1 && *along == axis => return self.indices(node, kept).map(Some),
            Op::Gather { .. } | Op::GridSample { .. } | Op::Pad { .. } if n == 1 => return Ok(Some(old)),
            _ => {}
        }
        let Some(t) = self.flow.graph.as_constant(old) else { return Ok(Some(self.current(old))) };
        let Some(own) = (axis + t.shape().len()).checked_sub(ty.rank()) else { return Ok(Some(old)) };
        let whole = concat.map_or_else(|| ty.shape[axis].clone(), |(start, end)| Dim::from(end - start));
        if Dim::from(t.shape()[own]) != whole || mine.len() == t.shape()[own] {
            return Ok(Some(old));
        }
        let part = pick(t, own, &mine)?;
        Ok(Some(self.graph.constant(part)))
    }

    /// The position of the `n`-th operand of a concatenation in the result.
    fn segment(&self, node: NodeId, n: usize, axis: usize) -> (usize, usize) {
        let graph = self.flow.graph;
        let extents =
            graph.operands(node).into_iter().map(|v| graph.ty(v).shape[axis].as_const().unwrap_or(0) as usize);
        let extents: Vec<usize> = extents.collect();
        let start = extents[..n].iter().sum();
        (start, start + extents[n])
    }

    /// The indices of a gather along the channels.
    fn indices(&mut self, node: NodeId, kept: &[usize]) -> Result<Value> {
        let operands = self.flow.graph.operands(node);
        let Some(old) = self.flow.graph.as_constant(operands[1]) else { return Ok(operands[1]) };
        let extent = self.flow.tracks[&operands[0]].known.len() as i64;
        let left = &self.kept[&operands[0]];
        let place = |i: i64| {
            let i = if i < 0 { i + extent } else { i };
            left.iter().filter(|&&k| (k as i64) < i).count() as i64
        };
        let places: Vec<i64> = kept.iter().map(|&k| place(old.i64_at(k))).collect();
        Ok(self.graph.constant(Tensor::from_i64s(old.dtype(), vec![places.len()], &places)?))
    }

    /// The operation, with the extents for these channels.
    fn operation(&self, node: NodeId, axis: usize, kept: &[usize]) -> Result<Op> {
        let graph = self.flow.graph;
        let mut op = graph.op(node).clone();
        let count = Dim::from(kept.len());
        match &mut op {
            Op::Reshape { shape } | Op::Broadcast { shape } => shape[axis] = count,
            Op::Resize { sizes, .. } => sizes[axis] = count,
            Op::Slice { ranges } => {
                let x = graph.operands(node)[0];
                let from = self.flow.tracks[&x].axis;
                let start = ranges[from].start.as_const().unwrap_or(0) as usize;
                let skipped = self.kept[&x].iter().filter(|&&i| i < start).count();
                ranges[from] = Range { start: Dim::from(skipped), step: 1, len: count };
            }
            Op::Pad { before, after, .. } => {
                let (ahead, behind) = (before[axis].as_const().unwrap_or(0), after[axis].as_const().unwrap_or(0));
                let end = self.flow.tracks[&Value::from(node)].known.len() - behind as usize;
                before[axis] = Dim::from(kept.iter().filter(|&&i| i < ahead as usize).count());
                after[axis] = Dim::from(kept.iter().filter(|&&i| i >= end).count());
            }
            _ => {}
        }
        Ok(op)
    }

    fn layer(&mut self, node: NodeId, operands: &[Value], label: &str) -> Result<()> {
        let (flow, old) = (self.flow, Value::from(node));
        let layer = &flow.layers[&node];
        let outs = self.kept[&old].clone();
        let source = flow.tracks.get(&operands[0]).filter(|t| t.axis == layer.in_axis);
        let ins: Vec<usize> = match source {
            Some(_) => self.kept[&operands[0]].clone(),
            None => (0..layer.ins).collect(),
        };
        // Channels of several groups are removed with their readers.
        let folds = layer.groups == 1;
        let removed: Vec<(usize, f64)> = (0..layer.ins)
            .filter(|i| folds && ins.binary_search(i).is_err())
            .filter_map(|i| Some((i, source?.known[i]?)))
            .collect();
        let added = layer.folded(&outs, &removed)?;
        let bias = match operands.get(2) {
            Some(&bias) if outs.len() < layer.outs => Some(match flow.graph.as_constant(bias) {
                Some(t) => self.graph.constant(pick(t, 0, &outs)?),
                None => {
                    let indices: Vec<i64> = outs.iter().map(|&o| o as i64).collect();
                    let indices = Tensor::from_i64s(mcc_ir::DType::I64, vec![outs.len()], &indices)?;
                    let indices = self.graph.constant(indices);
                    self.graph.add(Op::Gather { axis: 0 }, &[bias, indices])?
                }
            }),
            bias => bias.copied(),
        };
        let (op, w) = layer.narrowed(&ins, &outs)?;
        let mut shape = flow.graph.ty(old).shape.clone();
        shape[layer.out_axis] = Dim::from(outs.len());
        let mut values = vec![self.current(operands[0])];
        let value = if ins.is_empty() {
            let zero = self.graph.constant(Tensor::zeros(w.dtype(), Vec::new()));
            let nothing = self.graph.add(Op::Broadcast { shape }, &[zero])?;
            match bias {
                Some(bias) => self.plus(nothing, bias, layer)?,
                None => nothing,
            }
        } else {
            values.push(self.graph.constant(w));
            values.extend(bias);
            self.graph.add_labelled(op, &values, label)?.into()
        };
        let value = match added {
            Some(t) => {
                let t = self.graph.constant(t);
                self.plus(value, t, layer)?
            }
            None => value,
        };
        self.put(old, value);
        let why = "the others are constant or not read";
        self.describe_layer(node, layer, ins.len(), outs.len(), why);
        Ok(())
    }

    /// Adds a number per channel, or per element of all but the batch axis, to a layer's result.
    fn plus(&mut self, value: Value, t: Value, layer: &Layer) -> Result<Value> {
        let (rank, shape) = (self.graph.ty(value).rank(), self.graph.ty(t).shape.clone());
        let t = if shape.len() == 1 && layer.takes_bias() {
            let mut aligned = vec![Dim::ONE; rank - layer.out_axis];
            aligned[0] = shape[0].clone();
            self.graph.add(Op::Reshape { shape: aligned }, &[t])?
        } else {
            t
        };
        self.graph.add(Op::Binary(BinaryOp::Add), &[value, t])
    }

    /// Records the decision for a layer.
    fn describe(&mut self, node: NodeId, kept: &[usize], why: &str) {
        if let Some(layer) = self.flow.layers.get(&node) {
            self.describe_layer(node, layer, 0, kept.len(), why);
        }
    }

    fn describe_layer(&mut self, node: NodeId, layer: &Layer, ins: usize, outs: usize, why: &str) {
        let graph = self.flow.graph;
        let form = if ins == 0 {
            "constant".to_string()
        } else {
            format!("{ins} of {} inputs, {outs} of {} outputs", layer.ins, layer.outs)
        };
        let decision = Decision::new(graph.label(node), Subject::Channels, graph.op(node).name(), form, why);
        let decision = decision.zeros(layer.zeros());
        let left = layer.work(ins, outs);
        self.graph.decide(if left > 0.0 { decision.gain(layer.work(layer.ins, layer.outs) / left) } else { decision });
    }
}
