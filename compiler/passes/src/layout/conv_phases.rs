//! Turns transposed convolutions with strides into convolutions with unit strides.
//!
//! Every `stride`-th element of the result along each axis is a phase: a convolution of the operand with every
//! `stride`-th element of the kernel, reversed. The phases are computed one after another, including the element-wise
//! operations that follow the transposed convolution, and are interleaved in the result as concatenations along new
//! axes, which need no copies.

use mcc_ir::Result;
use mcc_ir::{BinaryOp, ConvSpec, Dim, Graph, Layout, NodeId, Op, Range, Value};

/// A phase on one axis.
struct Phase {
    /// First kernel element, counted from the start of the kernel.
    first: i64,
    /// Number of kernel elements.
    taps: i64,
    /// Padding of the operand.
    pads: (i64, i64),
}

/// One axis.
struct Axis {
    stride: i64,
    /// In the order of the result.
    phases: Vec<Phase>,
    /// Extent of a phase; phases with fewer elements in the result are computed beyond its end.
    extent: Dim,
}

impl Axis {
    /// `None` if a phase has no kernel elements, or skips operand elements.
    fn new(kernel: i64, stride: i64, skip: i64, operand: &Dim, result: &Dim) -> Option<Axis> {
        let extent = result.ceil_div(&Dim::from(stride));
        let longer = (&extent - operand).as_const()?;
        let phase = |r: i64| {
            let (first, ahead) = ((r + skip) % stride, (r + skip) / stride);
            let taps = (kernel - first + stride - 1) / stride;
            Phase { first, taps, pads: (taps - 1 - ahead, longer + ahead) }
        };
        let phases: Vec<Phase> = (0..stride).map(phase).collect();
        let fit = phases.iter().all(|p| p.taps > 0 && p.pads.0 >= 0 && p.pads.1 >= 0);
        fit.then_some(Axis { stride, phases, extent })
    }
}

/// The axes of a transposed convolution, if their phases fit together.
fn axes_of(graph: &Graph, node: NodeId, spec: &ConvSpec) -> Option<Vec<Axis>> {
    let (x, w) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
    let (x, w, y) = (&graph.ty(x).shape, &graph.ty(w).shape, &graph.types(node)[0].shape);
    let axis = |a: usize| {
        let kernel = w[2 + a].as_const().filter(|_| spec.dilations[a] == 1)?;
        Axis::new(kernel, spec.strides[a], spec.pads[a].0, &x[2 + a], &y[2 + a])
    };
    (0..spec.strides.len()).map(axis).collect()
}

/// Whether [`convolve`] supports a channels-first transposed convolution.
pub(crate) fn fits(graph: &Graph, node: NodeId, spec: &ConvSpec) -> bool {
    axes_of(graph, node, spec).is_some()
}

/// Convolves for a channels-first transposed convolution, given `x` with channels last, and the element-wise operations
/// that follow it. Returns the last node that is replaced, and its result with channels last; `None` if the phases do
/// not fit together.
///
/// # Errors
/// When the graph contradicts itself.
pub(crate) fn convolve(graph: &mut Graph, node: NodeId, x: Value, spec: &ConvSpec) -> Result<Option<(NodeId, Value)>> {
    let operands = graph.operands(node);
    let (shape, w_shape) = (graph.ty(x).shape.clone(), graph.ty(operands[1]).shape.clone());
    let sizes = graph.types(node)[0].shape[2..].to_vec();
    let Some(axes) = axes_of(graph, node, spec) else { return Ok(None) };
    let label = graph.label(node).to_string();
    let (last, behind) = followers(graph, node)?;
    // [in, out/group, k...] -> [out, in/group, k...], still with all kernel elements.
    let (group, outs) = (Dim::from(spec.group), w_shape[1].clone());
    let ins = w_shape[0].floor_div(&group);
    let kernel = &w_shape[2..];
    let grouped = [&[group.clone(), ins.clone(), outs.clone()], kernel].concat();
    let w = graph.add(Op::Reshape { shape: grouped }, &[operands[1]])?;
    let perm = [0, 2, 1].into_iter().chain(3..3 + kernel.len()).collect();
    let w = graph.add(Op::Transpose { perm }, &[w])?;
    let w = graph.add(Op::Reshape { shape: [&[&group * &outs, ins], kernel].concat() }, &[w])?;
    let mut parts = Vec::new();
    for number in 0..axes.iter().map(|a| a.phases.len()).product() {
        let phases = phases_of(&axes, number);
        let mut ranges: Vec<Range> = graph.ty(w).shape.iter().map(Range::full).collect();
        for (a, (axis, phase)) in axes.iter().zip(&phases).enumerate() {
            let end = Dim::from(phase.first + axis.stride * (phase.taps - 1));
            ranges[2 + a] = Range { start: end, step: -axis.stride, len: Dim::from(phase.taps) };
        }
        let spec = ConvSpec {
            strides: vec![1; axes.len()],
            pads: phases.iter().map(|p| p.pads).collect(),
            layout: Layout::ChannelsLast,
            ..spec.clone()
        };
        let filter = graph.add(Op::Slice { ranges }, &[w])?;
        let operands: Vec<Value> = [x, filter].into_iter().chain(operands.get(2).copied()).collect();
        let mut y = Value::from(graph.add_labelled(Op::Conv(spec), &operands, &label)?);
        for (op, other) in &behind {
            let operands: Vec<Value> = [y].into_iter().chain(*other).collect();
            y = graph.add_labelled(op.clone(), &operands, &label)?.into();
        }
        let apart = axes.iter().flat_map(|a| [a.extent.clone(), Dim::ONE]);
        let split = [shape[0].clone()].into_iter().chain(apart).chain([&group * &outs]).collect();
        parts.push(graph.add(Op::Reshape { shape: split }, &[y])?);
    }
    for (a, axis) in axes.iter().enumerate().rev().filter(|(_, axis)| axis.stride > 1) {
        let joined = parts.chunks(axis.phases.len()).map(|some| graph.add(Op::Concat { axis: 2 + 2 * a }, some));
        parts = joined.collect::<Result<_>>()?;
    }
    let around = |sizes: Vec<Dim>| [vec![shape[0].clone()], sizes, vec![&group * &outs]].concat();
    let whole = around(axes.iter().map(|a| &a.extent * &Dim::from(a.stride)).collect());
    let kept: Vec<Range> = around(sizes).iter().map(Range::full).collect();
    let mut result = graph.add(Op::Reshape { shape: whole.clone() }, &parts[..1])?;
    if kept.iter().zip(&whole).any(|(kept, all)| kept.len != *all) {
        result = graph.add(Op::Slice { ranges: kept }, &[result])?;
    }
    Ok(Some((last, result)))
}

/// The phases of each axis in their order in the result, the last axis fastest.
fn phases_of(axes: &[Axis], mut number: usize) -> Vec<&Phase> {
    let mut phases: Vec<&Phase> = Vec::new();
    for axis in axes.iter().rev() {
        phases.push(&axis.phases[number % axis.phases.len()]);
        number /= axis.phases.len();
    }
    phases.reverse();
    phases
}

/// The element-wise operations after a node, each the only user of the one before, with their other operand for
/// channels last; and the last of them.
fn followers(graph: &mut Graph, node: NodeId) -> Result<(NodeId, Vec<(Op, Option<Value>)>)> {
    let (mut last, mut found) = (node, Vec::new());
    loop {
        let users = graph.users(last.into());
        let &[(user, place)] = users.as_slice() else { break };
        if graph.is_output(last.into()) || graph.types(user)[0].shape != graph.types(node)[0].shape {
            break;
        }
        match graph.op(user).clone() {
            op @ (Op::Unary(_) | Op::Cast { .. }) => found.push((op, None)),
            op @ Op::Binary(BinaryOp::Add | BinaryOp::Mul | BinaryOp::Max | BinaryOp::Min | BinaryOp::Sub)
                if place == 0 =>
            {
                let other = graph.operands(user)[1];
                let shape = graph.ty(other).shape.clone();
                // A number, or one per channel.
                let rank = graph.types(node)[0].rank();
                let level =
                    shape.iter().rev().take(rank - 2).all(|d| d.is(1)) && (shape.len() < rank || shape[0].is(1));
                if !level || graph.as_constant(other).is_none() {
                    break;
                }
                let channels = shape.iter().rev().nth(rank - 2).cloned().unwrap_or(Dim::ONE);
                found.push((op, Some(graph.add(Op::Reshape { shape: vec![channels] }, &[other])?)));
            }
            _ => break,
        }
        last = user;
    }
    Ok((last, found))
}
