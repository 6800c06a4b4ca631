//! Packs weights into panels: matrix products with constant right operands and channels-last convolutions become
//! primitives whose kernels read weights in storage order.
//!
//! Packing consists of ordinary operations (pad, reshape, transpose), which constant folding evaluates. Padding of
//! convolutions becomes a separate operation, so that no kernel checks whether a window is inside. 16-bit floats are
//! multiplied as `f32`, the type of the sums. Convolutions that are faster with minimal filtering use that
//! ([`winograd`]).

use mcc_targets::schedule::filtering::FilterStorage;
use mcc_targets::{Config, Target, WeightFloats, schedule};

use super::winograd;
use mcc_ir::Result;
use mcc_ir::{
    BinaryOp, ConvSpec, DType, Dim, Filters, Graph, Layout, NodeId, Op, Packed, PadMode, Range, Tensor, Value,
    WeightFormat,
};

/// Packs the right operands of products and convolutions.
///
/// # Errors
/// When the graph contradicts itself.
pub fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    let mut changed = false;
    for node in graph.topological() {
        let result = match graph.op(node).clone() {
            Op::MatMul => matmul(graph, node, &config.target)?,
            Op::Conv(spec) if spec.layout == Layout::ChannelsLast => conv(graph, node, spec, config)?,
            Op::Recurrent(_) => {
                changed |= recurrent(graph, node, &config.target)?;
                None
            }
            _ => None,
        };
        if let Some(result) = result {
            graph.replace(node.into(), result);
            changed = true;
        }
    }
    Ok(changed)
}

/// The type that a 16-bit float type is computed in; other types are computed in themselves.
fn widened(dtype: DType) -> DType {
    if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype }
}

fn cast(graph: &mut Graph, v: Value, to: DType) -> Result<Value> {
    if graph.ty(v).dtype == to { Ok(v) } else { graph.add(Op::Cast { to, saturate: true }, &[v]) }
}

/// Whether loads of weights convert a 16-bit float type.
pub(crate) fn keeps(dtype: DType, target: &Target) -> bool {
    target.reads(if dtype == DType::F16 { WeightFloats::F16 } else { WeightFloats::Bf16 })
}

/// The stored form of weights: 16-bit floats are kept if loads convert them, and values that are representable as
/// 16-bit floats become such; other types are stored as they are computed.
fn stored(graph: &mut Graph, w: Value, target: &Target) -> Result<Value> {
    let dtype = graph.ty(w).dtype;
    if matches!(dtype, DType::F16 | DType::BF16) {
        return if keeps(dtype, target) { Ok(w) } else { cast(graph, w, DType::F32) };
    }
    match graph.as_constant(w).and_then(|w| short_type(w, target)) {
        Some(to) => cast(graph, w, to),
        None => cast(graph, w, widened(dtype)),
    }
}

/// The 16-bit type in which constant weights are stored, if there is one.
fn short_type(w: &Tensor, target: &Target) -> Option<DType> {
    let holds = |to: DType| match w.dtype() {
        DType::F32 => w.data().chunks_exact(4).all(|b| is_short([b[0], b[1], b[2], b[3]], to)),
        dtype => dtype == to,
    };
    [DType::F16, DType::BF16].into_iter().find(|&to| keeps(to, target) && holds(to))
}

/// Whether a number is zero or a normal number of a 16-bit float type.
fn is_short(bytes: [u8; 4], to: DType) -> bool {
    let bits = u32::from_le_bytes(bytes);
    let exponent = bits >> 23 & 0xff;
    match to {
        DType::BF16 => bits & 0xffff == 0,
        _ => bits & 0x1fff == 0 && ((127 - 14..=127 + 15).contains(&exponent) || bits << 1 == 0),
    }
}

fn panel(target: &Target, dtype: DType, columns: i64) -> i64 {
    // Elements in registers have at least 32 bits.
    let lanes = u64::from(target.vector_bytes) / dtype.size().max(4) as u64;
    schedule::products::panel_columns(target, lanes, u64::try_from(columns).ok()) as i64
}

pub(crate) fn pad(graph: &mut Graph, x: Value, before: Vec<Dim>, after: Vec<Dim>) -> Result<Value> {
    if before.iter().chain(&after).all(|d| d.is(0)) {
        return Ok(x);
    }
    let zero = graph.constant(Tensor::scalar_i64(graph.ty(x).dtype, 0));
    graph.add(Op::Pad { before, after, mode: PadMode::Constant }, &[x, zero])
}

/// Reshapes `[..., k, n]` to `[..., panels, k, tile]`.
fn in_panels(graph: &mut Graph, b: Value, n: i64, target: &Target) -> Result<Value> {
    let (dtype, shape) = (graph.ty(b).dtype, graph.ty(b).shape.clone());
    let tile = panel(target, dtype, n);
    let panels = (n + tile - 1) / tile;
    let mut after = vec![Dim::ZERO; shape.len()];
    after[shape.len() - 1] = Dim::from(panels * tile - n);
    let b = pad(graph, b, vec![Dim::ZERO; shape.len()], after)?;
    let batch = shape.len() - 2;
    let split = shape[..=batch].iter().cloned().chain([Dim::from(panels), Dim::from(tile)]).collect();
    let b = graph.add(Op::Reshape { shape: split }, &[b])?;
    graph.add(Op::Transpose { perm: (0..batch).chain([batch + 1, batch, batch + 2]).collect() }, &[b])
}

fn matmul(graph: &mut Graph, node: NodeId, target: &Target) -> Result<Option<Value>> {
    let operands = graph.operands(node);
    let (mut a, mut b) = (operands[0], operands[1]);
    let shape = graph.ty(b).shape.clone();
    let Some([depth, columns]) = shape.last_chunk() else { return Ok(None) };
    let (Some(_), Some(n)) = (graph.as_constant(b), columns.as_const()) else { return Ok(None) };
    if n == 0 || depth.is(0) {
        return Ok(None);
    }
    let dtype = graph.ty(a).dtype;
    let label = graph.label(node).to_string();
    a = cast(graph, a, widened(dtype))?;
    b = stored(graph, b, target)?;
    b = in_panels(graph, b, n, target)?;
    let product = graph.add_labelled(Op::PackedMatMul { n: Dim::from(n) }, &[a, b], &label)?;
    cast(graph, product.into(), dtype).map(Some)
}

/// Turns a convolution with one output channel into one with one input channel, joining the last two axes: a panel of
/// weights would otherwise have a single used column.
fn one_output(graph: &mut Graph, x: Value, w: Value, spec: &ConvSpec, kernel: &[i64]) -> Result<Option<Value>> {
    let (shape, axes) = (graph.ty(x).shape.clone(), kernel.len());
    let weights: Vec<Option<i64>> = graph.ty(w).shape.iter().map(Dim::as_const).collect();
    let (Some(&[Some(1), Some(channels)]), Some(width)) = (weights.first_chunk(), shape[axes].as_const()) else {
        return Ok(None);
    };
    if channels == 1
        || spec.group != 1
        || spec.dilations[axes - 1] != 1
        || kernel[axes - 1] * channels < schedule::products::MIN_LINE_ELEMENTS
    {
        return Ok(None);
    }
    let mut lines = shape;
    (lines[axes], lines[axes + 1]) = (Dim::from(width * channels), Dim::ONE);
    let x = graph.add(Op::Reshape { shape: lines }, &[x])?;
    let perm = (2..axes + 2).chain([1, 0]).collect();
    let w = graph.add(Op::Transpose { perm }, &[w])?;
    let mut window: Vec<Dim> = kernel.iter().map(|&k| Dim::from(k)).collect();
    window[axes - 1] = Dim::from(kernel[axes - 1] * channels);
    window.push(Dim::ONE);
    let w = graph.add(Op::Reshape { shape: window }, &[w])?;
    let (mut spec, mut kernel) = (spec.clone(), kernel.to_vec());
    spec.strides[axes - 1] *= channels;
    kernel[axes - 1] *= channels;
    Ok(Some(graph.add(Packed { spec, kernel, out: 1, weights: WeightFormat::Depthwise }.into(), &[x, w])?))
}

/// Packs recurrence weights into panels.
fn recurrent(graph: &mut Graph, node: NodeId, target: &Target) -> Result<bool> {
    let Some(r) = graph.operand(node, 1) else { return Ok(false) };
    let fixed: Option<Vec<i64>> = graph.ty(r).shape.iter().map(Dim::as_const).collect();
    let Some(&[_, columns]) = fixed.as_deref().filter(|shape| !shape.contains(&0)) else { return Ok(false) };
    let bytes = matches!(graph.op(node), Op::Recurrent(spec) if spec.quantized);
    let r = if graph.ty(r).dtype == DType::F32 && !bytes { stored(graph, r, target)? } else { r };
    let packed = in_panels(graph, r, columns, target)?;
    graph.set_operand(node, 1, packed);
    Ok(true)
}

/// Weights `[out, in, k...]` in their stored order: `[taps, in, out]`.
fn by_taps(graph: &mut Graph, w: Value, target: &Target) -> Result<Value> {
    let w = stored(graph, w, target)?;
    let shape = graph.ty(w).shape.clone();
    let axes = shape.len() - 2;
    let w = graph.add(Op::Transpose { perm: (2..axes + 2).chain([1, 0]).collect() }, &[w])?;
    let taps = shape[2..].iter().product();
    graph.add(Op::Reshape { shape: vec![taps, shape[1].clone(), shape[0].clone()] }, &[w])
}

fn conv(graph: &mut Graph, node: NodeId, spec: ConvSpec, config: &Config) -> Result<Option<Value>> {
    let operands = graph.operands(node);
    let (mut x, mut w) = (operands[0], operands[1]);
    let shape: Option<Vec<i64>> = graph.ty(w).shape.iter().map(Dim::as_const).collect();
    let Some([out, channels, kernel @ ..]) = shape.as_deref() else { return Ok(None) };
    let (out, channels, group) = (*out, *channels, spec.group as i64);
    if kernel.is_empty() || out == 0 || channels == 0 || kernel.contains(&0) {
        return Ok(None);
    }
    let dtype = graph.ty(x).dtype;
    let label = graph.label(node).to_string();
    x = cast(graph, x, widened(dtype))?;
    let narrow = w;
    w = cast(graph, w, widened(dtype))?;
    // Transformed weights would be larger than compressed ones.
    let given = graph.as_constant(narrow);
    let short = given.is_some_and(|w| short_type(w, &config.target).is_some());
    let form = if config.compact || short { FilterStorage::Plain } else { FilterStorage::Transformed };
    let filtered = given
        .filter(|_| dtype == DType::F32 || short)
        .and_then(|w| winograd::plan(graph, node, w, config, form))
        .zip(given.cloned());
    let pads = filtered.as_ref().map_or_else(|| spec.pads.clone(), |(plan, _)| plan.pads(&spec));
    let side = |pick: fn(&(i64, i64)) -> i64| -> Vec<Dim> {
        let spatial = pads.iter().map(|p| Dim::from(pick(p)));
        std::iter::once(Dim::ZERO).chain(spatial).chain([Dim::ZERO]).collect()
    };
    let larger = if filtered.is_none() { shared_pads(graph, operands[0], &pads) } else { None };
    x = match larger {
        Some(larger) => part_of_padded(graph, x, &pads, &larger)?,
        None => pad(graph, x, side(|p| p.0), side(|p| p.1))?,
    };
    let axes = kernel.len();
    let spec = ConvSpec { pads: vec![(0, 0); axes], ..spec };
    if let Some(joined) = one_output(graph, x, w, &spec, kernel)? {
        let (result, shape) = (joined, graph.types(node)[0].shape.clone());
        let mut result = graph.add(Op::Reshape { shape }, &[result])?;
        if let Some(&bias) = operands.get(2) {
            let bias = cast(graph, bias, widened(dtype))?;
            result = graph.add(Op::Binary(BinaryOp::Add), &[result, bias])?;
        }
        return cast(graph, result, dtype).map(Some);
    }
    let window = kernel.to_vec();
    let kernel = || kernel.iter().map(|&k| Dim::from(k));
    let mut result: Value = if let Some((plan, given)) = filtered {
        let (w, filters) = match form {
            FilterStorage::Transformed => (graph.constant(plan.transformed(&given)?), Filters::Transformed),
            FilterStorage::Plain => (by_taps(graph, narrow, &config.target)?, Filters::Plain),
        };
        let w = in_panels(graph, w, out, &config.target)?;
        graph.add_labelled(plan.op(filters), &[x, w], &label)?.into()
    } else if channels == 1 && out == group {
        w = graph.add(Op::Reshape { shape: std::iter::once(Dim::from(out)).chain(kernel()).collect() }, &[w])?;
        w = graph.add(Op::Transpose { perm: (1..=axes).chain([0]).collect() }, &[w])?;
        let op = Packed { spec, kernel: window, out: out as usize, weights: WeightFormat::Depthwise };
        graph.add_labelled(op.into(), &[x, w], &label)?.into()
    } else {
        w = stored(graph, narrow, &config.target)?;
        let columns = out / group;
        let tile = panel(&config.target, widened(dtype), columns);
        let panels = (columns + tile - 1) / tile;
        let grouped = [group, columns, channels].into_iter().map(Dim::from).chain(kernel()).collect();
        w = graph.add(Op::Reshape { shape: grouped }, &[w])?;
        let mut after = vec![Dim::ZERO; axes + 3];
        after[1] = Dim::from(panels * tile - columns);
        w = pad(graph, w, vec![Dim::ZERO; axes + 3], after)?;
        let split = [group, panels, tile, channels].into_iter().map(Dim::from).chain(kernel()).collect();
        w = graph.add(Op::Reshape { shape: split }, &[w])?;
        w = graph.add(Op::Transpose { perm: [0, 1].into_iter().chain(4..4 + axes).chain([3, 2]).collect() }, &[w])?;
        let op = Packed { spec, kernel: window, out: out as usize, weights: WeightFormat::Dense };
        graph.add_labelled(op.into(), &[x, w], &label)?.into()
    };
    if let Some(&bias) = operands.get(2) {
        let bias = cast(graph, bias, widened(dtype))?;
        result = graph.add(Op::Binary(BinaryOp::Add), &[result, bias])?;
    }
    cast(graph, result, dtype).map(Some)
}

/// The padding that suffices for all convolutions of a value, if several have different padding.
fn shared_pads(graph: &Graph, x: Value, pads: &[(i64, i64)]) -> Option<Vec<(i64, i64)>> {
    let padded = |pads: &[(i64, i64)]| pads.iter().any(|&p| p != (0, 0));
    let mut most = pads.to_vec();
    for (user, operand) in graph.users(x) {
        match graph.op(user) {
            Op::Conv(other) if operand == 0 && other.layout == Layout::ChannelsLast && padded(&other.pads) => {
                most.iter_mut().zip(&other.pads).for_each(|(m, p)| *m = (m.0.max(p.0), m.1.max(p.1)));
            }
            _ => {}
        }
    }
    (padded(pads) && most != pads).then_some(most)
}

/// A padded value as a slice of one with more padding, so that convolutions with different padding share one padded
/// value.
fn part_of_padded(graph: &mut Graph, x: Value, pads: &[(i64, i64)], larger: &[(i64, i64)]) -> Result<Value> {
    let shape = graph.ty(x).shape.clone();
    let side = |pick: fn(&(i64, i64)) -> i64| -> Vec<Dim> {
        [0].into_iter().chain(larger.iter().map(pick)).chain([0]).map(Dim::from).collect()
    };
    let whole = pad(graph, x, side(|p| p.0), side(|p| p.1))?;
    let mut ranges: Vec<Range> = shape.iter().map(Range::full).collect();
    for (range, (own, all)) in ranges[1..].iter_mut().zip(pads.iter().zip(larger)) {
        let len = &range.len + &Dim::from(own.0 + own.1);
        *range = Range { start: Dim::from(all.0 - own.0), step: 1, len };
    }
    graph.add(Op::Slice { ranges }, &[whole])
}
