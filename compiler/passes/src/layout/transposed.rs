//! Replaces transposed convolutions by operations with fast kernels.

use super::conv_phases;
use crate::support::layouts::{to_first, to_last};
use mcc_ir::Result;
use mcc_ir::{BinaryOp, ConvSpec, Dim, Graph, Layout, NodeId, Op, Range, Value};

/// Replaces a channels-first transposed convolution.
///
/// # Errors
/// When the graph contradicts itself.
pub(super) fn replace(graph: &mut Graph, node: NodeId, spec: &ConvSpec, output_pads: &[i64]) -> Result<()> {
    let operands = graph.operands(node);
    let (x, rank) = (operands[0], spec.strides.len() + 2);
    // Spread columns would be stored before they are scaled and rounded.
    let spreads = graph.types(node)[0].dtype.is_float() && is_spread(graph, operands[1], spec, output_pads);
    if spec.strides.iter().any(|&s| s != 1) && !spreads {
        let last = graph.add(Op::Transpose { perm: to_last(rank) }, &[x])?;
        if let Some((end, result)) = conv_phases::convolve(graph, node, last, spec)? {
            let result = graph.add(Op::Transpose { perm: to_first(rank) }, &[result])?;
            graph.replace(end.into(), result);
            return Ok(());
        }
    }
    let result = transposed(graph, node, spec, output_pads)?;
    graph.replace(node.into(), result);
    Ok(())
}

/// Replaces a transposed convolution by
/// - a convolution with reversed weights, if strides are 1;
/// - a matrix product whose columns are moved to their positions, if windows do not overlap;
/// - convolutions for the phases of the result, see [`conv_phases`];
/// - otherwise, if phases differ in extent, a matrix product whose columns [`Op::Col2Im`] sums.
fn transposed(graph: &mut Graph, node: NodeId, spec: &ConvSpec, output_pads: &[i64]) -> Result<Value> {
    let operands = graph.operands(node);
    let (x, w) = (operands[0], operands[1]);
    let label = graph.label(node).to_string();
    let (x_shape, w_shape) = (graph.ty(x).shape.clone(), graph.ty(w).shape.clone());
    let axes = spec.strides.len();
    let kernel: Option<Vec<i64>> = w_shape[2..].iter().map(Dim::as_const).collect();
    let kernel = kernel.ok_or_else(|| mcc_ir::Error::unsupported(format!("{label}: weights of unknown extent")))?;
    let mut result = None;
    if spec.strides.iter().all(|&s| s == 1) {
        result = turned(graph, x, w, spec, output_pads, &kernel, &label)?;
    }
    if result.is_none() && is_spread(graph, w, spec, output_pads) {
        result = Some(spread(graph, x, w, &kernel, &label)?);
    }
    let product = match result {
        Some(v) => v,
        None => {
            let group = Dim::from(spec.group);
            let window: Dim = w_shape[2..].iter().product();
            let (ins, outs) = (x_shape[1].floor_div(&group), &w_shape[1] * &window);
            let positions: Dim = x_shape[2..].iter().product();
            let w = graph.add(Op::Reshape { shape: vec![group.clone(), ins.clone(), outs.clone()] }, &[w])?;
            let w = graph.add(Op::Transpose { perm: vec![0, 2, 1] }, &[w])?;
            let x = graph
                .add(Op::Reshape { shape: vec![x_shape[0].clone(), group.clone(), ins, positions.clone()] }, &[x])?;
            let columns = graph.add_labelled(Op::MatMul, &[w, x], &label)?;
            let shape = vec![x_shape[0].clone(), &group * &outs, positions];
            let columns = graph.add(Op::Reshape { shape }, &[columns.into()])?;
            let size = graph.types(node)[0].shape[2..].to_vec();
            // Windows are at the operand's elements; the elements that `output_pads` adds are beyond all of them.
            let pads = spec.pads.iter().zip(output_pads).map(|(&(b, a), &o)| (b, (a - o).max(0))).collect();
            let op = Op::Col2Im { spec: ConvSpec { pads, ..spec.clone() }, kernel, size };
            graph.add_labelled(op, &[columns], &label)?.into()
        }
    };
    let Some(&bias) = operands.get(2) else { return Ok(product) };
    let mut shape = vec![Dim::ONE; axes + 1];
    shape[0] = &w_shape[1] * &Dim::from(spec.group);
    let bias = graph.add(Op::Reshape { shape }, &[bias])?;
    graph.add(Op::Binary(BinaryOp::Add), &[product, bias])
}

/// Whether the windows of a transposed convolution with weights `w` do not overlap.
fn is_spread(graph: &Graph, w: Value, spec: &ConvSpec, output_pads: &[i64]) -> bool {
    let kernel = graph.ty(w).shape[2..].iter().zip(&spec.strides).all(|(k, &s)| k.is(s));
    let plain = spec.pads.iter().all(|&p| p == (0, 0)) && output_pads.iter().all(|&p| p == 0);
    kernel && plain && spec.group == 1 && spec.dilations.iter().all(|&d| d == 1)
}

/// The convolution that equals a transposed one with unit strides; `None` if it would need negative padding.
fn turned(
    graph: &mut Graph,
    x: Value,
    w: Value,
    spec: &ConvSpec,
    output_pads: &[i64],
    kernel: &[i64],
    label: &str,
) -> Result<Option<Value>> {
    let reach = |a: usize| (kernel[a] - 1) * spec.dilations[a];
    let pads: Vec<(i64, i64)> =
        (0..kernel.len()).map(|a| (reach(a) - spec.pads[a].0, reach(a) - spec.pads[a].1 + output_pads[a])).collect();
    if pads.iter().any(|&(b, a)| b < 0 || a < 0) {
        return Ok(None);
    }
    let shape = graph.ty(w).shape.clone();
    let group = Dim::from(spec.group);
    let ins = shape[0].floor_div(&group);
    let mut ranges: Vec<Range> = shape[..2].iter().map(Range::full).collect();
    ranges.extend(kernel.iter().map(|&k| Range { start: Dim::from(k - 1), step: -1, len: Dim::from(k) }));
    let w = graph.add(Op::Slice { ranges }, &[w])?;
    let grouped = [&[group.clone(), ins.clone()], &shape[1..]].concat();
    let w = graph.add(Op::Reshape { shape: grouped }, &[w])?;
    let perm = [0, 2, 1].into_iter().chain(3..3 + kernel.len()).collect();
    let w = graph.add(Op::Transpose { perm }, &[w])?;
    let joined = [&[&group * &shape[1], ins], &shape[2..]].concat();
    let w = graph.add(Op::Reshape { shape: joined }, &[w])?;
    let rank = kernel.len() + 2;
    let x = graph.add(Op::Transpose { perm: to_last(rank) }, &[x])?;
    let spec = ConvSpec { pads, layout: Layout::ChannelsLast, ..spec.clone() };
    let y = graph.add_labelled(Op::Conv(spec), &[x, w], label)?;
    graph.add(Op::Transpose { perm: to_first(rank) }, &[y.into()]).map(Some)
}

/// `[batch, d..., in]` times `[in, k..., out]`, with every `k` axis moved after its `d`.
fn spread(graph: &mut Graph, x: Value, w: Value, kernel: &[i64], label: &str) -> Result<Value> {
    let axes = kernel.len();
    let w_shape = graph.ty(w).shape.clone();
    let out = w_shape[1].clone();
    let w = graph.add(Op::Transpose { perm: to_last(axes + 2) }, &[w])?;
    let columns: Dim = w_shape[1..].iter().product();
    let w = graph.add(Op::Reshape { shape: vec![w_shape[0].clone(), columns] }, &[w])?;
    let x = graph.add(Op::Transpose { perm: to_last(axes + 2) }, &[x])?;
    let extents = graph.ty(x).shape[..=axes].to_vec();
    let y = graph.add_labelled(Op::MatMul, &[x, w], label)?;
    let split = extents.iter().cloned().chain(kernel.iter().map(|&k| Dim::from(k))).chain([out.clone()]).collect();
    let y = graph.add(Op::Reshape { shape: split }, &[y.into()])?;
    let pairs = (0..axes).flat_map(|a| [1 + a, 1 + axes + a]);
    let y = graph.add(Op::Transpose { perm: std::iter::once(0).chain(pairs).chain([1 + 2 * axes]).collect() }, &[y])?;
    let size = (0..axes).map(|a| &extents[1 + a] * &Dim::from(kernel[a]));
    let shape = std::iter::once(extents[0].clone()).chain(size).chain([out]).collect();
    let y = graph.add(Op::Reshape { shape }, &[y])?;
    graph.add(Op::Transpose { perm: to_first(axes + 2) }, &[y])
}
