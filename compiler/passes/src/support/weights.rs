//! Convolutions and matrix products with constant weights, and arithmetic on those weights.

use mcc_targets::schedule::products::MAX_COPIED_WEIGHTS_BYTES;

use super::edit::Edit;
use mcc_ir::Result;
use mcc_ir::{DType, Layout, Op, Tensor, Value};

/// An operation with constant weights, whichever it is.
pub(crate) struct Weighted {
    op: Op,
    pub(crate) x: Value,
    pub(crate) weights: Value,
    pub(crate) bias: Option<Value>,
    /// Rank, channel axis and channels of the result.
    pub(crate) rank: usize,
    pub(crate) out_axis: usize,
    pub(crate) out: usize,
    /// Rank, channel axis and channels of `x`.
    pub(crate) in_rank: usize,
    pub(crate) in_axis: usize,
    pub(crate) inner: usize,
    pub(crate) group: usize,
}

impl Weighted {
    /// The operation that makes a value, if its weights (and bias) are constants used by nothing else.
    pub(crate) fn of(edit: &Edit, value: Value) -> Option<Weighted> {
        let op = edit.graph.op(value.node).clone();
        let operands = edit.graph.operands(value.node);
        let (&x, &weights) = (operands.first()?, operands.get(1)?);
        let bias = operands.get(2).copied();
        let w = edit.graph.as_constant(weights)?;
        let own = edit.users(weights).len() <= 1 || w.data().len() <= MAX_COPIED_WEIGHTS_BYTES;
        let constant_bias = bias.is_none_or(|b| edit.graph.as_constant(b).is_some());
        if !own || !constant_bias || !w.dtype().is_float() {
            return None;
        }
        let rank = edit.graph.ty(value).rank();
        let in_rank = edit.graph.ty(x).rank();
        let (out_axis, in_axis, out, inner, group) = match &op {
            Op::Conv(spec) => {
                let axis = channel_axis(spec.layout, rank);
                (axis, axis, w.shape()[0], w.shape()[1] * spec.group, spec.group)
            }
            Op::ConvTranspose { spec, .. } => {
                let axis = channel_axis(spec.layout, rank);
                (axis, axis, w.shape()[1] * spec.group, w.shape()[0], spec.group)
            }
            Op::MatMul if w.shape().len() == 2 && in_rank >= 1 => {
                (rank.checked_sub(1)?, in_rank - 1, w.shape()[1], w.shape()[0], 1)
            }
            _ => return None,
        };
        Some(Weighted { op, x, weights, bias, rank, out_axis, out, in_rank, in_axis, inner, group })
    }

    /// The same operation on other operands.
    pub(crate) fn rebuilt(&self, edit: &mut Edit, x: Value, weights: Value, bias: Option<Value>) -> Result<Value> {
        let mut operands = vec![x, weights];
        operands.extend(bias);
        edit.add(self.op.clone(), &operands)
    }

    /// Whether the bias can be an operand.
    pub(crate) fn takes_bias(&self) -> bool {
        !matches!(self.op, Op::MatMul)
    }

    /// Whether every element of the result sums over the whole kernel.
    pub(crate) fn unpadded_conv(&self) -> bool {
        matches!(&self.op, Op::Conv(spec) if spec.pads.iter().all(|&p| p == (0, 0)))
    }

    /// The weights, with those of result channel `c` multiplied by `s[c]`.
    pub(crate) fn scale_outputs(&self, w: &Tensor, s: &Tensor) -> Option<Tensor> {
        match &self.op {
            Op::Conv(_) => scale_axis(w, 0, 1, s),
            Op::ConvTranspose { spec, .. } => scale_axis(w, 1, spec.group, s),
            Op::MatMul => scale_axis(w, 1, 1, s),
            _ => None,
        }
    }

    /// The weights, with those of operand channel `c` multiplied by `s[c]`.
    pub(crate) fn scale_inputs(&self, w: &Tensor, s: &Tensor) -> Option<Tensor> {
        match &self.op {
            Op::Conv(spec) => scale_axis(w, 1, spec.group, s),
            Op::ConvTranspose { .. } | Op::MatMul => scale_axis(w, 0, 1, s),
            _ => None,
        }
    }
}

/// The channel axis for a layout and a rank.
pub(crate) fn channel_axis(layout: Layout, rank: usize) -> usize {
    match layout {
        Layout::ChannelsFirst => 1,
        Layout::ChannelsLast => rank - 1,
    }
}

/// A constant that broadcasts with a value of `rank` along `axis` (of extent `channels`) only, as a vector.
pub(crate) fn per_channel(c: &Tensor, rank: usize, axis: usize, channels: usize) -> Option<Tensor> {
    let missing = rank.checked_sub(c.shape().len())?;
    let own = axis.checked_sub(missing).map_or(1, |a| c.shape()[a]);
    if c.numel() != own {
        return None;
    }
    match own {
        n if n == channels => c.reshaped(vec![channels]).ok(),
        1 => Tensor::new(c.dtype(), vec![channels], c.data().repeat(channels).into()).ok(),
        _ => None,
    }
}

/// `w` with index `i` of `axis` multiplied by `s[i]`. With several groups, axis 0 is split into that many runs and the
/// factor is `s[run * extent + i]`. `None` if a product is not finite, or `s` is not of floats.
pub(crate) fn scale_axis(w: &Tensor, axis: usize, groups: usize, s: &Tensor) -> Option<Tensor> {
    let extent = w.shape()[axis];
    let inner: usize = w.shape()[axis + 1..].iter().product();
    let rows = w.numel().checked_div(extent * inner)?;
    if s.numel() != groups * extent || groups > 1 && (axis == 0 || rows % groups != 0) {
        return None;
    }
    let factors = s.to_f64s();
    let factor = |flat: usize| {
        let (row, i) = (flat / (extent * inner), flat / inner % extent);
        factors[row / (rows / groups) * extent + i]
    };
    if w.dtype() != DType::F32 {
        let scaled: Vec<f64> = (0..w.numel()).map(|i| w.f64_at(i) * factor(i)).collect();
        let t = Tensor::from_f64s(w.dtype(), w.shape().to_vec(), &scaled).ok()?;
        return (0..t.numel()).all(|i| t.f64_at(i).is_finite()).then_some(t);
    }
    // Weights are mostly `f32` and many: process a run of equal factors at a time.
    let mut data = Vec::with_capacity(w.data().len());
    let mut finite = true;
    for (run, chunk) in w.data().chunks_exact(4 * inner.max(1)).enumerate() {
        let factor = factor(run * inner) as f32;
        for b in chunk.chunks_exact(4) {
            let v = f32::from_le_bytes([b[0], b[1], b[2], b[3]]) * factor;
            finite &= v.is_finite();
            data.extend_from_slice(&v.to_le_bytes());
        }
    }
    finite.then(|| Tensor::new(DType::F32, w.shape().to_vec(), data.into()).ok()).flatten()
}

/// The sum added to each result channel when `t[c]` is added to every operand channel `c` of a convolution.
pub(crate) fn shift_through(w: &Tensor, t: &Tensor, groups: usize) -> Option<Tensor> {
    let (out, per_group) = (w.shape()[0], w.shape()[1]);
    let window: usize = w.shape()[2..].iter().product();
    let outs = out.checked_div(groups).filter(|&n| n > 0)?;
    let shift: Vec<f64> = (0..out)
        .map(|o| {
            let channels = (0..per_group).map(|i| {
                let first = (o * per_group + i) * window;
                let sum: f64 = (first..first + window).map(|k| w.f64_at(k)).sum();
                sum * t.f64_at(o / outs * per_group + i)
            });
            channels.sum()
        })
        .collect();
    Tensor::from_f64s(w.dtype(), vec![out], &shift).ok()
}
