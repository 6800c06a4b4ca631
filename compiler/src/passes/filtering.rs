//! Convolutions by minimal filtering ([`Op::WinogradConv`]), where a cost model says that they are faster by it: windows of
//! the same extent along both axes of an image, or of more than one element along a single axis, with unit strides.

use mcc_targets::Target;
use mcc_targets::choices::Problem;
use mcc_targets::schedule::{self, Windows};

use crate::Result;
use crate::ir::{ConvSpec, Dim, Filtering, Graph, NodeId, Op, Tensor, text};

/// Whether a node is a convolution with weights `w` that goes by minimal filtering.
pub(super) fn pays(graph: &Graph, node: NodeId, w: &Tensor, target: &Target) -> bool {
    let windows = if target.compact { None } else { windows(graph, node, w) };
    windows.is_some_and(|windows| best(graph, node, &windows, target).is_some())
}

/// A convolution in transformed space.
pub(super) struct Transformed {
    /// Along all axes.
    size: Vec<i64>,
    tile: Vec<i64>,
    kernel: Vec<i64>,
    dilations: Vec<i64>,
    /// `[planes, in, out]`.
    pub weights: Tensor,
    out: usize,
}

/// What the cost model is to know of a convolution with weights `[out, in, k...]`, if it is one that minimal
/// filtering can compute.
pub(super) fn windows(graph: &Graph, node: NodeId, w: &Tensor) -> Option<Windows> {
    let Op::Conv(spec) = graph.op(node) else { return None };
    let plain = spec.group == 1 && spec.strides.iter().all(|&s| s == 1);
    let (&[out, channels, ref kernel @ ..], true) = (w.shape(), plain) else { return None };
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
    // An axis of single elements has nothing between them.
    let dilations = [0, 1].map(|a| if kernel[a] == 1 { 1 } else { dilations[a] });
    let fits = kernel[0] == kernel[1] || kernel.contains(&1);
    let windows = Windows { size, kernel, dilations, channels: channels as u64, out: out as u64 };
    (fits && kernel != [1, 1] && !windows.size.contains(&0)).then_some(windows)
}

/// The results of a tile with which minimal filtering makes a convolution faster, if it does.
pub(super) fn best(graph: &Graph, node: NodeId, windows: &Windows, target: &Target) -> Option<[u64; 2]> {
    let text = text::node_signature(graph, node);
    schedule::filtered(target, Problem { text: &text, layer: graph.label(node) }, windows)
}

/// A convolution with weights `[out, in, k...]` by minimal filtering, if that makes it faster.
pub(super) fn transform(graph: &Graph, node: NodeId, w: &Tensor, target: &Target) -> Result<Option<Transformed>> {
    let Some(windows) = windows(graph, node, w) else { return Ok(None) };
    let Some(tile) = best(graph, node, &windows, target) else { return Ok(None) };
    let axes = w.shape().len() - 2;
    let along = |v: [u64; 2]| v[..axes].iter().map(|&n| n as i64).collect::<Vec<_>>();
    let [size, tile, kernel, dilations] = [windows.size, tile, windows.kernel, windows.dilations].map(along);
    let Some(filterings) = Filtering::of_axes(&tile, &kernel) else { return Ok(None) };
    let weights = transformed(w, filterings)?;
    Ok(Some(Transformed { size, tile, kernel, dilations, weights, out: windows.out as usize }))
}

/// Weights `[out, in, k...]` in transformed space: `[planes, in, out]`.
fn transformed(w: &Tensor, [down, across]: [Filtering; 2]) -> Result<Tensor> {
    let (out, channels) = (w.shape()[0], w.shape()[1]);
    let (rows, columns) = (down.elements(), across.elements());
    let factors = |f: &Filtering| -> Vec<Vec<f64>> {
        (0..f.elements()).map(|plane| (0..f.taps).map(|tap| f.filter(plane, tap)).collect()).collect()
    };
    let (vertical, horizontal) = (factors(&down), factors(&across));
    let mut values = vec![0.0; rows * columns * channels * out];
    for (i, filter) in w.to_f64s().chunks_exact(down.taps * across.taps).enumerate() {
        let (o, c) = (i / channels, i % channels);
        for (row, factors) in vertical.iter().enumerate() {
            let line: Vec<f64> = (0..across.taps)
                .map(|column| factors.iter().enumerate().map(|(tap, f)| f * filter[tap * across.taps + column]).sum())
                .collect();
            for (column, factors) in horizontal.iter().enumerate() {
                let v = factors.iter().zip(&line).map(|(f, x)| f * x).sum();
                values[((row * columns + column) * channels + c) * out + o] = v;
            }
        }
    }
    Tensor::from_f64s(w.dtype(), vec![rows * columns, channels, out], &values)
}

impl Transformed {
    /// The padding of a convolution with what whole tiles read beyond it.
    pub fn pads(&self, spec: &ConvSpec) -> Vec<(i64, i64)> {
        let whole = |(a, pad): (usize, &(i64, i64))| {
            let step = self.tile[a] * self.dilations[a];
            (pad.0, pad.1 + (self.size[a] + step - 1) / step * step - self.size[a])
        };
        spec.pads.iter().enumerate().map(whole).collect()
    }

    /// The operation that convolves what is padded with packed weights.
    pub fn op(&self) -> Op {
        Op::WinogradConv {
            size: self.size.iter().map(|&n| Dim::from(n)).collect(),
            tile: self.tile.clone(),
            kernel: self.kernel.clone(),
            dilations: self.dilations.clone(),
            out: self.out,
        }
    }
}
