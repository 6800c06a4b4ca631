//! Plans minimal filtering of convolutions ([`WeightFormat::Filtered`]) where the cost model predicts that it is
//! faster: windows with the same extent along both axes of an image, or with more than one element along a single axis,
//! with unit strides.

use mcc_targets::choices::Problem;
use mcc_targets::schedule::filtering::{FilterStorage, Windows};
use mcc_targets::{Config, schedule};

use mcc_ir::Result;
use mcc_ir::{ConvSpec, Dim, Filtering, Filters, Graph, Layout, NodeId, Op, Packed, Tensor, WeightFormat, text};

/// A convolution with minimal filtering.
pub(crate) struct FilterPlan {
    /// Along all axes.
    size: Vec<i64>,
    tile: Vec<i64>,
    kernel: Vec<i64>,
    dilations: Vec<i64>,
    filterings: [Filtering; 2],
    out: usize,
    /// Its predicted speed-up over the same with transformed weights.
    pub gain: f64,
}

/// The cost model's description of a convolution with weights of shape `[out, in, k...]`, if minimal filtering supports
/// it.
pub(crate) fn windows(graph: &Graph, node: NodeId, w: &[usize]) -> Option<Windows> {
    let Op::Conv(spec) = graph.op(node) else { return None };
    let plain = spec.group == 1 && spec.strides.iter().all(|&s| s == 1);
    let (&[out, channels, ref kernel @ ..], true) = (w, plain) else { return None };
    let mut result = graph.types(node)[0].shape.clone();
    result.remove(spec.layout.channels(result.len()));
    let extent = |d: &Dim| d.as_const().and_then(|c| u64::try_from(c).ok()).filter(|&c| c > 0);
    let size: Vec<u64> = result[1..].iter().map(extent).collect::<Option<_>>()?;
    let dilations: Vec<u64> = spec.dilations.iter().map(|&d| d as u64).collect();
    let (kernel, size, dilations) = match (kernel, size.as_slice(), dilations.as_slice()) {
        (&[lines, columns], &[h, w], &[down, across]) => ([lines, columns], [h, w], [down, across]),
        (&[lines], &[h], &[down]) => ([lines, 1], [h, 1], [down, 1]),
        _ => return None,
    };
    let kernel = kernel.map(|k| k as u64);
    // A single element has no dilation.
    let dilations = [0, 1].map(|a| if kernel[a] == 1 { 1 } else { dilations[a] });
    let fits = kernel[0] == kernel[1] || kernel.contains(&1);
    let windows = Windows { size, kernel, dilations, channels: channels as u64, out: out as u64 };
    (fits && kernel != [1, 1] && !windows.size.contains(&0)).then_some(windows)
}

/// The plan for a convolution with weights `[out, in, k...]`, if minimal filtering is faster.
pub(crate) fn plan(
    graph: &Graph,
    node: NodeId,
    w: &Tensor,
    config: &Config,
    stored: FilterStorage,
) -> Option<FilterPlan> {
    let windows = windows(graph, node, w.shape())?;
    let text = text::node_signature(graph, node);
    let tile = schedule::filtering::tile(config, Problem { text: &text, layer: graph.label(node) }, &windows, stored)?;
    let axes = w.shape().len() - 2;
    let along = |v: [u64; 2]| v[..axes].iter().map(|&n| n as i64).collect::<Vec<_>>();
    let [size, tile, kernel, dilations] = [windows.size, tile, windows.kernel, windows.dilations].map(along);
    let filterings = Filtering::of_axes(&tile, &kernel)?;
    let [dense, own] =
        [FilterStorage::Transformed, stored].map(|stored| schedule::filtering::cost(config, &windows, stored) as f64);
    Some(FilterPlan { size, tile, kernel, dilations, filterings, out: windows.out as usize, gain: dense / own })
}

impl FilterPlan {
    /// Weights `[out, in, k...]` in transformed space: `[planes, in, out]`.
    pub fn transformed(&self, w: &Tensor) -> Result<Tensor> {
        let (out, channels, taps) = (w.shape()[0], w.shape()[1], w.shape()[2..].iter().product::<usize>());
        let filters = w.to_f64s();
        let at = |place: usize, c: usize, o: usize| filters[(o * channels + c) * taps + place];
        let values = Filtering::transformed(self.filterings, [channels, out], &at);
        Tensor::from_f64s(w.dtype(), vec![values.len() / (channels * out), channels, out], &values)
    }
    /// The padding of a convolution, including what whole tiles read beyond it.
    pub fn pads(&self, spec: &ConvSpec) -> Vec<(i64, i64)> {
        let whole = |(a, pad): (usize, &(i64, i64))| {
            let step = self.tile[a] * self.dilations[a];
            (pad.0, pad.1 + (self.size[a] + step - 1) / step * step - self.size[a])
        };
        spec.pads.iter().enumerate().map(whole).collect()
    }

    /// The operation on the padded operand and packed weights.
    pub fn op(&self, filters: Filters) -> Op {
        let axes = self.kernel.len();
        let size = self.size.iter().map(|&n| Dim::from(n)).collect();
        let spec = ConvSpec {
            strides: vec![1; axes],
            dilations: self.dilations.clone(),
            pads: vec![(0, 0); axes],
            group: 1,
            layout: Layout::ChannelsLast,
        };
        let weights = WeightFormat::Filtered { tile: self.tile.clone(), size, filters };
        Packed { spec, kernel: self.kernel.clone(), out: self.out, weights }.into()
    }
}
