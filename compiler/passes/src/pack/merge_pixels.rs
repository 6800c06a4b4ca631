//! Merges pixels in convolutions with few output channels: neighbouring pixels of a row become channels of one wider
//! pixel.
//!
//! A kernel's vectors run over output channels, so a single channel fills one lane. `f` pixels of `out` channels at
//! stride `s` are the `f * out` channels of one pixel at stride `s * f` whose filters have `s * (f - 1)` more columns,
//! which are zero except where the pixel's own filter is. The result has the same bytes in the same order.

use mcc_targets::choices::Problem;
use mcc_targets::{Config, schedule};

use mcc_ir::Result;
use mcc_ir::{BinaryOp, ConvSpec, DType, Dim, Graph, Layout, NodeId, Op, Range, Tensor, Value, text};

/// Merges the pixels of convolutions where that fills vectors.
///
/// # Errors
/// When the graph contradicts itself.
pub fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    let mut changed = false;
    for node in graph.topological() {
        let Op::Conv(spec) = graph.op(node).clone() else { continue };
        if let Some(result) = conv(graph, node, spec, config)? {
            graph.replace(node.into(), result);
            changed = true;
        }
    }
    Ok(changed)
}

fn conv(graph: &mut Graph, node: NodeId, spec: ConvSpec, config: &Config) -> Result<Option<Value>> {
    let operands = graph.operands(node);
    let (x, y) = (graph.ty(operands[0]).clone(), graph.types(node)[0].clone());
    let axes = spec.strides.len();
    let plain = spec.layout == Layout::ChannelsLast && spec.group == 1 && axes > 0 && spec.dilations[axes - 1] == 1;
    if !plain || x.dtype != DType::F32 {
        return Ok(None);
    }
    let Some(w) = graph.as_constant(operands[1]).cloned() else { return Ok(None) };
    let (Some(width), Some(row)) = (x.shape[axes].as_const(), y.shape[axes].as_const()) else { return Ok(None) };
    let (out, columns, stride) = (w.shape()[0], w.shape()[axes + 1], spec.strides[axes - 1]);
    let text = text::node_signature(graph, node);
    let problem = Problem { text: &text, layer: graph.label(node) };
    let merged = schedule::products::merged_pixels(config, problem, out as u64, columns as u64, stride as u64) as i64;
    if merged < 2 || row < 2 * merged {
        return Ok(None);
    }
    let label = graph.label(node).to_string();
    let wide_row = (row + merged - 1) / merged;
    let mut spec = spec;
    spec.strides[axes - 1] = stride * merged;
    let wide_columns = columns as i64 + stride * (merged - 1);
    // As many columns of `x` as the last pixel reads.
    let pads = &mut spec.pads[axes - 1];
    pads.1 += ((wide_row - 1) * stride * merged + wide_columns - (width + pads.0 + pads.1)).max(-pads.1);
    let w = graph.constant(spread(&w, merged as usize, stride as usize)?);
    let mut result: Value = graph.add_labelled(Op::Conv(spec), &[operands[0], w], &label)?.into();
    if let Some(&bias) = operands.get(2) {
        let (merged, out) = (Dim::from(merged), Dim::from(out));
        let each = graph.add(Op::Broadcast { shape: vec![merged.clone(), out.clone()] }, &[bias])?;
        let each = graph.add(Op::Reshape { shape: vec![&merged * &out] }, &[each])?;
        result = graph.add(Op::Binary(BinaryOp::Add), &[result, each])?;
    }
    let mut shape = y.shape.clone();
    shape[axes] = Dim::from(wide_row * merged);
    let mut result = graph.add(Op::Reshape { shape: shape.clone() }, &[result])?;
    if wide_row * merged != row {
        let mut ranges: Vec<Range> = shape.iter().map(Range::full).collect();
        ranges[axes].len = Dim::from(row);
        result = graph.add(Op::Slice { ranges }, &[result])?;
    }
    Ok(Some(result))
}

/// The filters `[out, in, .., columns]` of `merged` neighbouring pixels, as filters of one pixel.
fn spread(w: &Tensor, merged: usize, stride: usize) -> Result<Tensor> {
    let (out, columns) = (w.shape()[0], w.shape()[w.shape().len() - 1]);
    let wide = columns + stride * (merged - 1);
    let rows = w.numel() / out / columns;
    let values = w.to_f64s();
    let mut spread = vec![0.0; merged * out * rows * wide];
    for (i, row) in values.chunks_exact(columns).enumerate() {
        for pixel in 0..merged {
            let at = ((pixel * out * rows) + i) * wide + stride * pixel;
            spread[at..at + columns].copy_from_slice(row);
        }
    }
    let mut shape = w.shape().to_vec();
    shape[0] *= merged;
    if let Some(last) = shape.last_mut() {
        *last = wide;
    }
    Tensor::from_f64s(w.dtype(), shape, &spread)
}
