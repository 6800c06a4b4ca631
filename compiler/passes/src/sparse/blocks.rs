//! Stores only the non-zero blocks of matrix products and convolutions whose weights are zero in whole runs of output
//! channels ([`WeightFormat::Blocks`]), where a cost model predicts that this is faster.
//!
//! Zeros are detected in the constants and take no part in sums: an infinite activation times a zero weight does not
//! become NaN.

use mcc_targets::schedule::blocks::{Blocks, Costs};
use mcc_targets::{Config, Sparsity, Target, schedule};

use crate::pack::{dense, winograd};
use mcc_ir::Result;
use mcc_ir::{
    BinaryOp, ConvSpec, DType, Decision, Dim, Graph, Layout, NodeId, Op, Packed, Subject, Tensor, Value, WeightFormat,
};

/// Maximum bytes of an image that offsets and a tile's distances can span.
pub(crate) const MAX_IMAGE_BYTES: i64 = 1 << 30;

/// Turns products with few non-zero blocks into products of blocks.
///
/// # Errors
/// When the graph contradicts itself.
pub(crate) fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    if config.sparsity == Sparsity::Off {
        return Ok(false);
    }
    let mut changed = false;
    for node in graph.topological() {
        let Some(filters) = Filters::of(graph, node, config).filter(|_| !is_channels_first(graph.op(node))) else {
            continue;
        };
        let Some((width, costs)) = best(&config.target, &filters) else { continue };
        let result = rewritten(graph, node, &filters, width, &config.target)?;
        let zeros = 1.0 - filters.values.iter().filter(|v| **v != 0.0).count() as f64 / filters.values.len() as f64;
        let reason = format!("{:.1} % of the blocks are not zero", 100.0 * filters.share(width));
        let form = format!("1x{width} blocks");
        let decision = Decision::new(graph.label(node), Subject::Weights, graph.op(node).name(), form, reason);
        graph.decide(decision.zeros(zeros).gain(costs.dense / costs.blocks));
        graph.replace(node.into(), result);
        changed = true;
    }
    Ok(changed)
}

fn is_channels_first(op: &Op) -> bool {
    matches!(op, Op::Conv(spec) if spec.layout == Layout::ChannelsFirst)
}

/// Whether a product would use blocks if it is channels-last.
pub(crate) fn applies(graph: &Graph, node: NodeId, config: &Config) -> bool {
    config.sparsity != Sparsity::Off
        && Filters::of(graph, node, config).is_some_and(|f| best(&config.target, &f).is_some())
}

/// The width of blocks with the fastest product, if any pays.
fn best(target: &Target, filters: &Filters) -> Option<(usize, Costs)> {
    let values = filters.values.iter().filter(|v| **v != 0.0).count() as u64;
    let of = |width: usize| {
        let (blocks, [depth, columns]) = (filters.blocks(width), [filters.depth(), filters.columns].map(|n| n as u64));
        let problem =
            Blocks { depth, columns, width: width as u64, blocks, values: Some(values), filtered: filters.filtered };
        (width, schedule::blocks::costs(target, &problem))
    };
    let paying = schedule::blocks::WIDTHS.into_iter().map(of).filter(|(_, costs)| costs.pays());
    paying.min_by(|a, b| a.1.blocks.total_cmp(&b.1.blocks))
}

/// Constant weights as a matrix.
struct Filters {
    /// Attributes of a convolution in channels-last layout, with its window's extents; empty for a matrix product.
    spec: ConvSpec,
    kernel: Vec<i64>,
    /// The contracted elements, in the order of lists: an element of the window and a channel each.
    places: Vec<(usize, usize)>,
    columns: usize,
    /// Row-major `[places, columns]`.
    values: Vec<f32>,
    /// Multiply-adds per row of the result with minimal filtering, if it applies.
    filtered: Option<f64>,
}

impl Filters {
    /// The weights of a product with a matrix, or of a convolution in one group.
    fn of(graph: &Graph, node: NodeId, config: &Config) -> Option<Filters> {
        let operands = graph.operands(node);
        let (x, w) = (graph.ty(*operands.first()?), graph.as_constant(*operands.get(1)?)?);
        if w.numel() == 0 || x.rank() < 2 {
            return None;
        }
        let (spec, kernel, [channels, columns]) = match (graph.op(node), w.shape()) {
            (Op::MatMul, &[depth, columns]) => (ConvSpec::matrix(), Vec::new(), [depth, columns]),
            (Op::Conv(spec), &[columns, channels, ref kernel @ ..]) if spec.group == 1 => {
                let point = kernel.iter().all(|&k| k == 1) && spec.strides.iter().all(|&s| s == 1);
                if point && spec.pads.iter().all(|&p| p == (0, 0)) {
                    (ConvSpec::matrix(), Vec::new(), [channels, columns])
                } else {
                    let mut image = x.shape[1..].to_vec();
                    image.remove(spec.layout.channels(x.rank()) - 1);
                    let padded = image.iter().zip(&spec.pads).map(|(d, p)| d + &Dim::from(p.0 + p.1));
                    let bytes = (&padded.product::<Dim>() * &Dim::from(4 * channels)).as_const();
                    if bytes.is_none_or(|b| b > MAX_IMAGE_BYTES) {
                        return None;
                    }
                    let spec = ConvSpec { layout: Layout::ChannelsLast, ..spec.clone() };
                    (spec, kernel.iter().map(|&k| k as i64).collect(), [channels, columns])
                }
            }
            _ => return None,
        };
        let taps = kernel.iter().product::<i64>() as usize;
        let chunks = (0..channels)
            .step_by(schedule::blocks::PLACE_CHANNELS)
            .map(|first| first..(first + schedule::blocks::PLACE_CHANNELS).min(channels));
        let places: Vec<(usize, usize)> =
            chunks.flat_map(|chunk| (0..taps).flat_map(move |tap| chunk.clone().map(move |c| (tap, c)))).collect();
        let floats = w.to_f32s()?;
        let values = match graph.op(node) {
            Op::MatMul => floats,
            _ => {
                let of = |&(tap, channel): &(usize, usize)| {
                    floats.iter().skip(channel * taps + tap).step_by(channels * taps).copied()
                };
                places.iter().flat_map(of).collect()
            }
        };
        let filtered = winograd::windows(graph, node, w.shape()).filter(|w| schedule::filtering::gain(config, w) > 0);
        let filtered = filtered.map(|w| {
            schedule::filtering::cost(config, &w, schedule::filtering::FilterStorage::Transformed) as f64
                / w.size.iter().product::<u64>() as f64
        });
        Some(Filters { spec, kernel, places, columns, values, filtered })
    }

    fn depth(&self) -> usize {
        self.places.len()
    }

    /// Number of elements of the window.
    fn taps(&self) -> i64 {
        self.kernel.iter().product()
    }

    /// The non-zero rows of a panel.
    fn rows(&self, panel: usize, width: usize) -> impl Iterator<Item = (usize, &[f32])> {
        let columns = panel * width..((panel + 1) * width).min(self.columns);
        let rows = self.values.chunks_exact(self.columns).enumerate();
        rows.map(move |(row, values)| (row, &values[columns.clone()])).filter(|(_, v)| v.iter().any(|v| *v != 0.0))
    }

    fn blocks(&self, width: usize) -> u64 {
        (0..self.columns.div_ceil(width)).map(|panel| self.rows(panel, width).count() as u64).sum()
    }

    fn share(&self, width: usize) -> f64 {
        self.blocks(width) as f64 / (self.depth() * self.columns.div_ceil(width)) as f64
    }

    /// Elements from the start of a window to each place, in images of these extents.
    fn offsets(&self, image: &[i64], channels: i64) -> Vec<i64> {
        let axes = self.kernel.len();
        let offset = |&(tap, channel): &(usize, usize)| {
            let (mut rest, mut offset, mut apart) = (tap as i64, channel as i64, channels);
            for axis in (0..axes).rev() {
                offset += rest % self.kernel[axis] * self.spec.dilations[axis] * apart;
                rest /= self.kernel[axis];
                apart *= image[axis];
            }
            offset
        };
        self.places.iter().map(offset).collect()
    }
}

fn rewritten(graph: &mut Graph, node: NodeId, filters: &Filters, width: usize, target: &Target) -> Result<Value> {
    let (operands, label) = (graph.operands(node), graph.label(node).to_string());
    let side = |pick: fn(&(i64, i64)) -> i64, channels: i64| -> Vec<Dim> {
        let spatial = filters.spec.pads.iter().map(pick);
        std::iter::once(0).chain(spatial).chain([channels]).map(Dim::from).collect()
    };
    // Windows that are padded anyway are moved apart if they would map to few sets of the cache.
    let apart = filters.spec.strides.last().map_or(0, |s| s * 4 * filters.places.len() as i64 / filters.taps());
    let padded = filters.spec.pads.iter().any(|&p| p != (0, 0));
    let more = if padded && schedule::blocks::collide(target, apart, filters.taps()) {
        schedule::blocks::PLACE_CHANNELS as i64
    } else {
        0
    };
    let x = match filters.kernel.is_empty() {
        true => operands[0],
        false => dense::pad(graph, operands[0], side(|p| p.0, 0), side(|p| p.1, more))?,
    };
    let known = |d: &Dim| d.as_const().unwrap_or(0);
    let shape: Vec<i64> = graph.ty(x).shape.iter().map(known).collect();
    let offsets = filters.offsets(&shape[1..shape.len() - 1], shape[shape.len() - 1]);
    let (mut heads, mut met, mut values) = (vec![0i64], Vec::new(), Vec::new());
    for panel in 0..filters.columns.div_ceil(width) {
        for (row, block) in filters.rows(panel, width) {
            met.push(offsets[row]);
            values.extend(block.iter().flat_map(|v| v.to_le_bytes()));
            values.resize(met.len() * width * 4, 0);
        }
        heads.push(met.len() as i64);
    }
    let heads = graph.constant(Tensor::from_i64s(DType::I32, vec![heads.len()], &heads)?);
    let values = graph.constant(Tensor::new(DType::F32, vec![met.len(), width], values.into())?);
    let met = graph.constant(Tensor::from_i64s(DType::I32, vec![met.len()], &met)?);
    let spec = ConvSpec { pads: vec![(0, 0); filters.kernel.len()], ..filters.spec.clone() };
    let op = Packed { spec, kernel: filters.kernel.clone(), out: filters.columns, weights: WeightFormat::Blocks };
    let product = graph.add_labelled(op.into(), &[x, heads, met, values], &label)?.into();
    match operands.get(2) {
        Some(&bias) => graph.add(Op::Binary(BinaryOp::Add), &[product, bias]),
        None => Ok(product),
    }
}
