//! Stores only the non-zeros of weights with enough zeros ([`WeightFormat::NonZeros`]), where a cost model predicts
//! that this is faster than dense products.
//!
//! Zeros are detected in the constants. A zero weight takes no part in sums: an infinite activation times a zero weight
//! does not become NaN.

use mcc_targets::choices::Problem;
use mcc_targets::schedule::sparse::{Costs, Image, Layer, Reads};
use mcc_targets::{Config, Sparsity, schedule};

use super::shared_places::{self, Shared};
use crate::pack::winograd;
use crate::support::layouts::{to_first, to_last};
use mcc_ir::Result;
use mcc_ir::{
    BinaryOp, ConvSpec, DType, Decision, Dim, Graph, Layout, NodeId, Op, Packed, Staging, Subject, Tensor, Value,
    WeightFormat,
};

/// Turns convolutions and products with sparse weights into sparse ones.
///
/// # Errors
/// When the graph contradicts itself.
pub fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    let mut changed = false;
    if config.sparsity == Sparsity::Off {
        return Ok(false);
    }
    for node in graph.topological() {
        let Some(candidate) = candidate(graph, node, config) else { continue };
        let first = [candidate.spec.layout, candidate.stored].map(|layout| layout == Layout::ChannelsFirst);
        let costs = schedule::sparse::costs(config, &candidate.plan.layer).with(first);
        let chosen = candidate.chosen(graph.label(node), config);
        let (layer, zeros) = (graph.label(node).to_string(), candidate.zeros);
        // Only layers with non-zeros have been left channels-first.
        let pays =
            config.sparsity == Sparsity::Force || first[1] || chosen.is_some_and(|chosen| chosen.with(first).pays());
        let (form, reason) = if pays {
            ("sparse", predicted_times(&costs, candidate.plan.shared.shared))
        } else {
            ("dense", predicted_times(&costs, 1))
        };
        let decision = Decision::new(&layer, Subject::Weights, graph.op(node).name(), form, reason).zeros(zeros);
        graph.decide(if pays { decision.gain(costs.dense / costs.sparse) } else { decision });
        if pays {
            let result = rewritten(graph, node, candidate)?;
            graph.replace(node.into(), result);
            changed = true;
        }
    }
    Ok(changed)
}

/// The sparse and dense costs of a convolution with channels-last operands and results; `None` if the sparse form does
/// not apply.
pub(crate) fn costs(graph: &Graph, node: NodeId, config: &Config) -> Option<Costs> {
    if config.sparsity == Sparsity::Off {
        return None;
    }
    candidate(graph, node, config)?.chosen(graph.label(node), config)
}

pub(crate) fn predicted_times(costs: &Costs, shared: usize) -> String {
    let blocks = if shared > 1 { format!("in blocks of {shared}x1, ") } else { String::new() };
    format!("{blocks}predicted {:.0} us sparse, {:.0} us dense", costs.sparse / 1e3, costs.dense / 1e3)
}

/// A layer whose weights may be stored as non-zeros.
pub(crate) struct Candidate {
    /// The operand, in the layout of `spec`.
    pub x: Value,
    pub spec: ConvSpec,
    pub stored: Layout,
    /// Extents of the window; empty for a matrix.
    pub kernel: Vec<i64>,
    pub plan: SparsePlan,
    pub zeros: f64,
    /// Bits of the weights as `[out, in, taps]`: floats, or words of bytes.
    pub weights: Vec<u32>,
}

/// The schedule of a layer.
pub(crate) struct SparsePlan {
    pub staging: Staging,
    /// The cost model's view of it.
    pub layer: Layer,
    /// The text that identifies its problem.
    text: String,
    /// The order of output channels.
    pub shared: Shared,
}

impl Candidate {
    /// The costs of both forms, with channels-last operands and results; a table of choices may decide.
    pub fn chosen(&self, layer: &str, config: &Config) -> Option<Costs> {
        schedule::sparse::costs(config, &self.plan.layer).chosen(config, Problem { text: &self.plan.text, layer })
    }
}

/// A node's layer, if its weights are constant and have enough zeros.
fn candidate(graph: &Graph, node: NodeId, config: &Config) -> Option<Candidate> {
    let operands = graph.operands(node);
    let (value, w) = (*operands.first()?, graph.as_constant(*operands.get(1)?)?);
    let x = graph.ty(value);
    if x.dtype != DType::F32 || w.dtype() != DType::F32 || w.numel() == 0 {
        return None;
    }
    let (spec, shape, kernel) = match graph.op(node) {
        Op::MatMul if w.shape().len() == 2 && x.rank() > 1 => {
            (ConvSpec::matrix(), [w.shape()[1], w.shape()[0]], Vec::new())
        }
        Op::Conv(spec) if Staging::fits(spec) => {
            let kernel: Vec<i64> = w.shape()[2..].iter().map(|&k| k as i64).collect();
            (spec.clone(), [w.shape()[0], w.shape()[1]], kernel)
        }
        _ => return None,
    };
    let values = w.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    // Zeros have signs.
    let values: Vec<u32> = values.map(|bits| if bits << 1 == 0 { 0 } else { bits }).collect();
    let non_zero = values.iter().filter(|bits| **bits != 0).count();
    let zeros = 1.0 - non_zero as f64 / values.len() as f64;
    if zeros < schedule::sparse::MIN_ZEROS_SHARE {
        return None;
    }
    let weights = match graph.op(node) {
        Op::MatMul => (0..shape[0]).flat_map(|o| values.iter().skip(o).step_by(shape[0]).copied()).collect(),
        _ => values,
    };
    let point = kernel.iter().all(|&k| k == 1) && spec.strides.iter().all(|&s| s == 1);
    let is_matrix = kernel.is_empty() || point && spec.pads.iter().all(|&p| p == (0, 0));
    let filtered = winograd::windows(graph, node, w.shape()).filter(|_| !is_matrix);
    let filtered = filtered
        .map(|windows| schedule::filtering::cost(config, &windows, schedule::filtering::FilterStorage::Transformed));
    let (stored, (value, layout)) = (spec.layout, read(graph, value, spec.layout));
    let (spec, kernel) = if is_matrix { (ConvSpec::matrix(), Vec::new()) } else { (spec, kernel) };
    let spec = ConvSpec { layout, ..spec };
    let [x, y] = [&x.shape, &graph.types(node)[0].shape].map(|shape| {
        let mut shape = shape.clone();
        let channels = shape.remove(stored.channels(shape.len()));
        [shape, vec![channels]].concat()
    });
    let geometry =
        Geometry { spec: &spec, stored, kernel: &kernel, x: &x, y: &y, channels: shape[1], words: false, filtered };
    let plan = geometry.plan(config, graph.label(node), &weights)?;
    Some(Candidate { x: value, spec, stored, kernel, plan, zeros, weights })
}

/// A layer without its weights.
pub(crate) struct Geometry<'a> {
    pub spec: &'a ConvSpec,
    pub stored: Layout,
    /// Extents of the window; empty for a matrix.
    pub kernel: &'a [i64],
    /// Shapes of operand and result, channels last.
    pub x: &'a [Dim],
    pub y: &'a [Dim],
    /// Input channels, or words of them for byte products.
    pub channels: usize,
    pub words: bool,
    /// Multiply-adds with minimal filtering of an image, if it applies.
    pub filtered: Option<u64>,
}

impl Geometry<'_> {
    /// The schedule of a layer with these weights.
    pub fn plan(&self, config: &Config, label: &str, weights: &[u32]) -> Option<SparsePlan> {
        let &Geometry { spec, stored, kernel, x, y, channels, words, filtered } = self;
        let (is_matrix, layout) = (kernel.is_empty(), spec.layout);
        let extent = |d: &Dim| d.as_const().and_then(|c| u64::try_from(c).ok());
        let pixels = y[..y.len() - 1].iter().product::<Dim>();
        // Each image has its own planes; channels-last images follow one another.
        let apart = is_matrix && [layout, stored].contains(&Layout::ChannelsFirst);
        let (images, together) =
            if apart { (&y[0], y[1..y.len() - 1].iter().product()) } else { (&Dim::ONE, pixels.clone()) };
        let (out, channels) = (y.last().and_then(extent)?, channels as u64);
        let block = schedule::sparse::block(config, out) as usize;
        let ways =
            [1, 2, 4].map(|n| shared_places::order(weights.chunks_exact(weights.len() / out as usize), block, n));
        let shared =
            schedule::sparse::shared(config, ways.each_ref().map(|way| (way.shared as u64, way.values as u64)));
        let shared = ways.into_iter().find(|way| way.shared as u64 == shared)?;
        let mut layer = Layer {
            rows: extent(&pixels).unwrap_or(schedule::sparse::ASSUMED_ROWS),
            channels,
            depth: channels * kernel.iter().product::<i64>() as u64,
            out,
            values: shared.values as u64,
            shared: shared.shared as u64,
            products: 0,
            words,
            filtered: false,
            span: 0,
            tiles: 0,
            staged: 0,
            reads: Reads::rows(0),
        };
        layer.products = layer.rows * layer.depth * out;
        let shape: Vec<String> = x.iter().map(Dim::to_string).collect();
        let (window, values, abreast) = (kernel, layer.values, shared.shared);
        let (strides, dilations, pads) = (&spec.strides, &spec.dilations, &spec.pads);
        let name = if words { "sparse bytes" } else { "sparse" };
        let text = format!(
            "{name} {} {window:?} {strides:?} {dilations:?} {pads:?} {out} {values} {abreast}",
            shape.join("x")
        );
        let problem = Problem { text: &text, layer: label };
        let staging = if is_matrix {
            let span = schedule::sparse::span(config, problem, extent(&together), &layer);
            let rows = extent(&together).unwrap_or(schedule::sparse::ASSUMED_ROWS);
            (layer.span, layer.tiles) = (span, extent(images).unwrap_or(1) * rows.div_ceil(span));
            (layer.staged, layer.reads) = (channels * span, Reads::rows(span));
            let cut = schedule::sparse::cut(config, problem, &layer);
            let [span, abreast, block, depth] = [span, cut.abreast, cut.block, cut.depth].map(|n| n as usize);
            Staging {
                lines: span,
                pitch: 1,
                span,
                phase: span,
                aligned: false,
                abreast,
                shared: shared.shared,
                block,
                depth,
            }
        } else {
            let spatial: Option<Vec<u64>> = y[1..y.len() - 1].iter().chain(&x[1..x.len() - 1]).map(extent).collect();
            let (results, batch) = (spatial?[..kernel.len()].to_vec(), extent(&y[0]).unwrap_or(1));
            let two = |v: &[u64], one: u64| if v.len() == 1 { [one, v[0]] } else { [v[0], v[1]] };
            let size = two(&results, 1);
            let images = [false, true].map(|aligned| {
                let any = Staging {
                    lines: 1,
                    pitch: 1,
                    span: 1,
                    phase: 1,
                    aligned,
                    abreast: 4,
                    shared: 1,
                    block: 4,
                    depth: 1,
                };
                let reach: Vec<u64> = any.reach(spec, kernel).into_iter().map(|r| r as u64).collect();
                let phases: Vec<u64> = any.phases(spec, kernel).into_iter().map(|p| p as u64).collect();
                let (reach, phases) = (two(&reach, 0), two(&phases, 1));
                // With a stride, every element of the window but the first of each phase adds one.
                let more = if phases[0] > 1 { kernel[0] as u64 - phases[0] } else { reach[0] };
                Image { size, reach, phases, more, aligned }
            });
            let (tiles, image) = schedule::sparse::tiles(config, problem, &images, &layer);
            let phase = (tiles.span + image.reach[0] * tiles.pitch + image.reach[1]).next_multiple_of(16);
            (layer.span, layer.tiles) = (tiles.span, batch * size[0].div_ceil(tiles.lines));
            layer.staged = channels * image.phases.iter().product::<u64>() * phase;
            layer.reads = tiles.reads;
            if let Some(products) = filtered {
                layer.filtered = true;
                layer.products = batch * products;
            }
            let cut = schedule::sparse::cut(config, problem, &layer);
            let [abreast, block, depth] = [cut.abreast, cut.block, cut.depth].map(|n| n as usize);
            let [lines, pitch, span, phase] = [tiles.lines, tiles.pitch, tiles.span, phase].map(|n| n as usize);
            Staging { lines, pitch, span, phase, aligned: image.aligned, abreast, shared: shared.shared, block, depth }
        };
        Some(SparsePlan { staging, layer, text, shared })
    }
}

/// The operand and its layout, from before a transpose for the convolution.
fn read(graph: &Graph, x: Value, layout: Layout) -> (Value, Layout) {
    let Op::Transpose { perm } = graph.op(x.node) else { return (x, layout) };
    let (turned, other) = match layout {
        Layout::ChannelsFirst => (to_first(perm.len()), Layout::ChannelsLast),
        Layout::ChannelsLast => (to_last(perm.len()), Layout::ChannelsFirst),
    };
    match graph.operand(x.node, 0) {
        Some(source) if *perm == turned => (source, other),
        _ => (x, layout),
    }
}

/// The layer with non-zeros only.
///
/// # Errors
/// When the graph contradicts itself.
pub(crate) fn rewritten(graph: &mut Graph, node: NodeId, candidate: Candidate) -> Result<Value> {
    let Candidate { x, spec, stored, kernel, plan, weights, .. } = candidate;
    let SparsePlan { staging, layer, shared, .. } = plan;
    let (plane, taps) = (staging.plane(&spec, &kernel), staging.places(&spec, &kernel));
    let unit = staging.unit(&spec, &kernel) as i64;
    let out = layer.out as usize;
    let per_filter = weights.len() / out;
    // Padding slots use the plane after the last channel, which holds zeros.
    let nothing = (per_filter / taps.len() * plane) as i64;
    let (mut heads, mut slots, mut offsets, mut values) = (vec![0i64], Vec::new(), Vec::new(), Vec::new());
    let slice = (staging.depth * plane) as i64;
    for (mut order, filters) in shared.order.into_iter().zip(weights.chunks(staging.block * per_filter)) {
        // Missing output channels have no weights.
        order.extend(order.len()..order.len().next_multiple_of(staging.abreast));
        let weight = |slot: usize, n: usize| filters.get(slot * per_filter + n).copied().unwrap_or(0);
        // The output channels that share places, with all of these places.
        let sharing: Vec<(&[usize], Vec<(i64, usize)>)> = order
            .chunks(shared.shared)
            .map(|some| {
                let places = (0..per_filter).filter(|&n| some.iter().any(|&slot| weight(slot, n) != 0));
                let offset = |n: usize| (n / taps.len() * plane + taps[n % taps.len()]) as i64;
                (some, places.map(|n| (offset(n), n)).collect())
            })
            .collect();
        for n in 0..staging.slices(per_filter / taps.len()) as i64 {
            let within = |entries: &[(i64, usize)]| {
                let before = |end: i64| entries.partition_point(|entry| entry.0 < end);
                before(n * slice)..before((n + 1) * slice)
            };
            let mut of_slice: Vec<(&[usize], &[(i64, usize)])> =
                sharing.iter().map(|(some, entries)| (*some, &entries[within(entries)])).collect();
            of_slice.sort_by_key(|(_, entries)| entries.len());
            for group in of_slice.chunks_exact(staging.abreast / shared.shared) {
                let rounds = group.iter().map(|(_, entries)| entries.len()).max().unwrap_or(0);
                for round in 0..rounds {
                    for (some, entries) in group {
                        let entry = entries.get(round);
                        offsets.push(entry.map_or(nothing, |entry| entry.0) / unit);
                        let value = |slot: &usize| entry.map_or(0, |entry| weight(*slot, entry.1)).to_le_bytes();
                        values.extend(some.iter().flat_map(value));
                    }
                }
                slots.extend(group.iter().flat_map(|(some, _)| some.iter()).map(|&slot| slot as i64));
                heads.push((values.len() / 4) as i64);
            }
        }
    }
    let small = offsets.iter().all(|&o| o <= i64::from(u16::MAX));
    let kind = if small { DType::U16 } else { DType::I32 };
    let heads = graph.constant(Tensor::from_i64s(DType::I32, vec![heads.len()], &heads)?);
    let slots = graph.constant(Tensor::from_i64s(DType::U8, vec![slots.len()], &slots)?);
    let offsets = graph.constant(Tensor::from_i64s(kind, vec![offsets.len()], &offsets)?);
    let count = values.len() / 4;
    let (dtype, shape) = match graph.ty(x).dtype {
        DType::F32 => (DType::F32, vec![count]),
        _ => (DType::I8, vec![count, 4]),
    };
    let values = graph.constant(Tensor::new(dtype, shape, values.into())?);
    let (operands, label) = (graph.operands(node), graph.label(node).to_string());
    let op = Packed { spec, kernel, out, weights: WeightFormat::NonZeros { staging, stored } };
    let result = graph.add_labelled(op.into(), &[x, heads, slots, offsets, values], &label)?;
    let Some(&bias) = operands.get(2) else { return Ok(result.into()) };
    // A bias broadcasts along the channel axis.
    let rank = graph.types(result)[0].rank();
    let mut shape = vec![Dim::ONE; rank - stored.channels(rank)];
    shape[0] = Dim::from(out);
    let bias = if shape.len() > 1 { graph.add(Op::Reshape { shape }, &[bias])? } else { bias };
    graph.add(Op::Binary(BinaryOp::Add), &[result.into(), bias])
}
