//! Turns convolutions of images whose windows are as long as the data along one axis into convolutions along the other
//! axis: the first axis is joined with the channels, where minimal filtering then gains more than moving the data
//! costs.

use mcc_targets::schedule::filtering::Windows;
use mcc_targets::{Config, schedule};

use mcc_ir::Result;
use mcc_ir::{ConvSpec, DType, Dim, Graph, Layout, NodeId, Op, Value};

/// Joins axes with channels.
///
/// # Errors
/// When the graph contradicts itself.
pub fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    let mut changed = false;
    for node in graph.topological() {
        let Op::Conv(spec) = graph.op(node).clone() else { continue };
        let Some(axis) = (0..2).find(|&axis| pays(graph, node, &spec, axis, config)) else { continue };
        let result = line(graph, node, &spec, axis)?;
        graph.replace(node.into(), result);
        changed = true;
    }
    Ok(changed)
}

/// Whether windows are as long as the data along spatial axis `axis`, and the convolution along the other one is
/// faster.
fn pays(graph: &Graph, node: NodeId, spec: &ConvSpec, axis: usize, config: &Config) -> bool {
    let operands = graph.operands(node);
    let (x, y, other) = (graph.ty(operands[0]), &graph.types(node)[0], 1 - axis);
    let Some(w) = graph.as_constant(operands[1]).filter(|w| w.shape().len() == 4 && w.dtype() == DType::F32) else {
        return false;
    };
    let plain = spec.layout == Layout::ChannelsLast && spec.group == 1 && spec.strides[other] == 1 && !config.compact;
    let (whole, taps) = (w.shape()[2 + axis], w.shape()[2 + other]);
    let covered = spec.pads[axis] == (0, 0) && x.shape[1 + axis].is(whole as i64) && y.shape[1 + axis].is(1);
    let extent = |d: &Dim| d.as_const().and_then(|c| u64::try_from(c).ok()).filter(|&c| c > 0);
    let image = x.shape[1..].iter().product::<Dim>();
    let (Some(size), Some(elements), true) = (extent(&y.shape[1 + other]), extent(&image), plain && covered) else {
        return false;
    };
    let windows = Windows {
        size: [size, 1],
        kernel: [taps as u64, 1],
        dilations: [spec.dilations[other] as u64, 1],
        channels: (w.shape()[1] * whole) as u64,
        out: w.shape()[0] as u64,
    };
    // Channels are adjacent in memory: the last axis joins them without moving.
    let moved = if axis == 0 { elements } else { 0 };
    taps > 1 && whole > 1 && schedule::filtering::gains_more_than_moves(config, &windows, moved)
}

/// The convolution along the other axis.
fn line(graph: &mut Graph, node: NodeId, spec: &ConvSpec, axis: usize) -> Result<Value> {
    let (mut operands, other) = (graph.operands(node), 1 - axis);
    let label = graph.label(node).to_string();
    let (x, w, y) =
        (graph.ty(operands[0]).shape.clone(), graph.ty(operands[1]).shape.clone(), graph.types(node)[0].clone());
    if axis == 0 {
        operands[0] = graph.add(Op::Transpose { perm: vec![0, 2, 1, 3] }, &operands[..1])?;
    }
    let joined = vec![x[0].clone(), x[1 + other].clone(), &x[1 + axis] * &x[3]];
    operands[0] = graph.add(Op::Reshape { shape: joined }, &operands[..1])?;
    operands[1] = graph.add(Op::Transpose { perm: vec![0, 2 + axis, 1, 2 + other] }, &operands[1..2])?;
    let joined = vec![w[0].clone(), &w[2 + axis] * &w[1], w[2 + other].clone()];
    operands[1] = graph.add(Op::Reshape { shape: joined }, &operands[1..2])?;
    let spec = ConvSpec {
        strides: vec![spec.strides[other]],
        dilations: vec![spec.dilations[other]],
        pads: vec![spec.pads[other]],
        ..spec.clone()
    };
    let result = graph.add_labelled(Op::Conv(spec), &operands, &label)?;
    graph.add(Op::Reshape { shape: y.shape }, &[result.into()])
}
