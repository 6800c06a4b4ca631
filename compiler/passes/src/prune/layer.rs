//! Layers with constant weights: the operand channels that each result channel reads.

use super::axes::pick;
use crate::support::weights::channel_axis;
use mcc_ir::Result;
use mcc_ir::{ConvSpec, DType, Graph, Layout, NodeId, Op, Tensor, eval};

/// Maximum size of a map of the constant channels' contributions, as a multiple of the weights' size.
const MAX_MAP_GROWTH: usize = 8;

/// A convolution or matrix product with constant weights.
pub(super) struct Layer {
    op: Op,
    w: Tensor,
    /// Axes of the channels in operand and result.
    pub(super) in_axis: usize,
    pub(super) out_axis: usize,
    pub(super) ins: usize,
    pub(super) outs: usize,
    pub(super) groups: usize,
    /// Whether result `o` reads the `i`-th operand channel of its group: at `o * (ins / groups) + i`.
    reads: Vec<bool>,
    /// The bias, if constant; zeros if there is none.
    bias: Option<Vec<f64>>,
    /// Whether weights are multiplied with zero padding.
    padded: bool,
    /// Spatial extents of operand and result, if constant.
    extents: Option<[Vec<usize>; 2]>,
}

impl Layer {
    /// The layer that a node computes, if it does.
    pub(super) fn of(graph: &Graph, node: NodeId) -> Option<Layer> {
        let op = graph.op(node).clone();
        let operands = graph.operands(node);
        let (&x, &w) = (operands.first()?, operands.get(1)?);
        let w = graph.as_constant(w)?.clone();
        let (in_rank, out_rank) = (graph.ty(x).rank(), graph.ty(node.into()).rank());
        let s = w.shape();
        let (in_axis, out_axis, ins, outs, groups, spec) = match &op {
            Op::Conv(spec) => {
                let axis = channel_axis(spec.layout, in_rank);
                (axis, axis, s[1] * spec.group, s[0], spec.group, Some(spec))
            }
            Op::ConvTranspose { spec, .. } => {
                let axis = channel_axis(spec.layout, in_rank);
                (axis, axis, s[0], s[1] * spec.group, spec.group, Some(spec))
            }
            Op::MatMul if s.len() == 2 && in_rank >= 1 && out_rank >= 1 => {
                (in_rank - 1, out_rank - 1, s[0], s[1], 1, None)
            }
            _ => return None,
        };
        if ins == 0 || outs == 0 || w.numel() == 0 {
            return None;
        }
        let bias = match operands.get(2) {
            None => Some(vec![0.0; outs]),
            Some(&b) => graph.as_constant(b).map(Tensor::to_f64s),
        };
        let padded = spec.is_some_and(|s| s.pads.iter().any(|&p| p != (0, 0)));
        let spatial = |shape: Vec<usize>, layout| match layout {
            Layout::ChannelsFirst => shape[2..].to_vec(),
            Layout::ChannelsLast => shape[1..shape.len() - 1].to_vec(),
        };
        let extents = spec.and_then(|spec| {
            let mut types = [graph.ty(x), graph.ty(node.into())].map(mcc_ir::TensorType::clone);
            // The batch does not matter.
            types.iter_mut().for_each(|t| t.shape[0] = mcc_ir::Dim::ONE);
            let [x, y] = types.map(|t| t.fixed_shape());
            Some([spatial(x?, spec.layout), spatial(y?, spec.layout)])
        });
        let mut layer = Layer { op, w, in_axis, out_axis, ins, outs, groups, reads: Vec::new(), bias, padded, extents };
        layer.reads = layer.find_reads();
        Some(layer)
    }

    /// Operand channels and result channels per group.
    pub(super) fn per_group(&self) -> [usize; 2] {
        [self.ins / self.groups, self.outs / self.groups]
    }

    fn find_reads(&self) -> Vec<bool> {
        let [ins, outs] = self.per_group();
        let size = self.w.dtype().size();
        let float = self.w.dtype().is_float();
        let zero = |bytes: &[u8]| {
            // Minus zero is zero; its sign is in the last byte of a float.
            bytes[..size - 1].iter().all(|&b| b == 0)
                && (bytes[size - 1] == 0 || float && bytes[size - 1] == 0x80 && !self.unsigned_zero())
        };
        let mut reads = vec![false; self.outs * ins];
        let taps: usize = self.taps();
        for (run, bytes) in self.w.data().chunks_exact(taps * size).enumerate() {
            let (o, i) = match &self.op {
                Op::MatMul => (run % self.outs, run / self.outs),
                // `[in, out/group, k...]`.
                Op::ConvTranspose { .. } => {
                    let (i, o) = (run / outs, run % outs);
                    (i / ins * outs + o, i % ins)
                }
                _ => (run / ins, run % ins),
            };
            reads[o * ins + i] = !bytes.chunks_exact(size).all(zero);
        }
        reads
    }

    /// Whether the code of a negative zero has another meaning.
    fn unsigned_zero(&self) -> bool {
        self.w.dtype().size() == 1
    }

    fn taps(&self) -> usize {
        match &self.op {
            Op::MatMul => 1,
            _ => self.w.shape()[2..].iter().product(),
        }
    }

    /// The share of weights that are zero.
    pub(super) fn zeros(&self) -> f64 {
        let values = self.w.to_f64s();
        values.iter().filter(|v| **v == 0.0).count() as f64 / values.len().max(1) as f64
    }

    /// Whether result channel `o` depends on operand channel `i`, both counted within the whole layer.
    pub(super) fn reads(&self, o: usize, i: usize) -> bool {
        let [ins, outs] = self.per_group();
        o / outs == i / ins && self.reads[o * ins + i % ins]
    }

    /// The operand channels of the group of result channel `o`.
    pub(super) fn sources(&self, o: usize) -> std::ops::Range<usize> {
        let [ins, outs] = self.per_group();
        let first = o / outs * ins;
        first..first + ins
    }

    /// Whether an operand channel with the constant value `c` contributes the same number to all elements of a result
    /// channel.
    fn uniform(&self, c: f64) -> bool {
        c == 0.0 || !self.padded && !matches!(self.op, Op::ConvTranspose { .. })
    }

    /// Whether an operand channel with the constant value `c` can be removed, with its contribution added elsewhere.
    pub(super) fn folds(&self, c: f64) -> bool {
        let map = || {
            let size = |e: &[Vec<usize>; 2]| self.outs * e[1].iter().product::<usize>();
            matches!(self.op, Op::Conv(_))
                && self.extents.as_ref().is_some_and(|e| size(e) <= MAX_MAP_GROWTH * self.w.numel())
        };
        self.uniform(c) || map()
    }

    /// The constant value of result channel `o`, if it does not depend on the operand channels that are not `known`.
    pub(super) fn constant(&self, o: usize, known: impl Fn(usize) -> Option<f64>) -> Option<f64> {
        let mut sum = self.bias.as_ref()?[o];
        for i in self.sources(o).filter(|&i| self.reads(o, i)) {
            let c = known(i).filter(|&c| self.uniform(c))?;
            if c != 0.0 {
                sum += c * self.tap_values(o, i).sum::<f64>();
            }
        }
        Some(sum)
    }

    /// The weights between two channels of one group; not for transposed convolutions.
    fn tap_values(&self, o: usize, i: usize) -> impl Iterator<Item = f64> + '_ {
        let taps = self.taps();
        let ins = self.per_group()[0];
        let first = match self.op {
            Op::MatMul => i * self.outs + o,
            _ => (o * ins + i % ins) * taps,
        };
        (first..first + taps).map(|k| self.w.f64_at(k))
    }

    /// The contribution of operand channels `removed`, with their values, to the result channels `kept`: one number per
    /// channel, or one per element of `[kept, d...]` (`[d..., kept]`, depending on the layout) if padding makes
    /// elements differ. `None` if it is zero.
    pub(super) fn folded(&self, kept: &[usize], removed: &[(usize, f64)]) -> Result<Option<Tensor>> {
        let removed: Vec<(usize, f64)> = removed.iter().copied().filter(|&(_, c)| c != 0.0).collect();
        let read = |o: usize| removed.iter().filter(move |&&(i, _)| self.reads(o, i));
        if !kept.iter().any(|&o| read(o).next().is_some()) {
            return Ok(None);
        }
        // The contribution of the constant channels at each tap.
        let by_tap = |o: usize| {
            let mut sums = vec![0.0; self.taps()];
            for &(i, c) in read(o) {
                sums.iter_mut().zip(self.tap_values(o, i)).for_each(|(s, w)| *s += c * w);
            }
            sums
        };
        let dtype = self.w.dtype();
        let map = |spec: &ConvSpec, [from, to]: &[Vec<usize>; 2]| {
            let kernel = &self.w.shape()[2..];
            let mut values = Vec::new();
            for &o in kept {
                let sums = by_tap(o);
                for at in positions(to) {
                    let inside = |tap: &[usize]| {
                        (0..tap.len()).all(|a| {
                            let p = at[a] as i64 * spec.strides[a] + tap[a] as i64 * spec.dilations[a] - spec.pads[a].0;
                            (0..from[a] as i64).contains(&p)
                        })
                    };
                    values.push(positions(kernel).zip(&sums).filter(|(t, _)| inside(t)).map(|(_, s)| s).sum());
                }
            }
            let shape: Vec<usize> = std::iter::once(kept.len()).chain(to.iter().copied()).collect();
            let map = Tensor::from_f64s(dtype, shape.clone(), &values)?;
            if spec.layout == Layout::ChannelsFirst {
                return Ok(map);
            }
            let perm: Vec<usize> = (1..shape.len()).chain([0]).collect();
            let turned: Vec<usize> = perm.iter().map(|&a| shape[a]).collect();
            let ty = mcc_ir::TensorType::fixed(dtype, &turned);
            Ok(eval::eval_op(&Op::Transpose { perm }, &[map], &[ty])?.remove(0))
        };
        match (&self.op, &self.extents) {
            (Op::Conv(spec), Some(extents)) if self.padded => map(spec, extents).map(Some),
            _ => {
                let values: Vec<f64> = kept.iter().map(|&o| by_tap(o).iter().sum()).collect();
                Tensor::from_f64s(dtype, vec![kept.len()], &values).map(Some)
            }
        }
    }

    /// The operation and weights of the layer with these channels only; both are whole groups if there are several.
    pub(super) fn narrowed(&self, ins: &[usize], outs: &[usize]) -> Result<(Op, Tensor)> {
        let groups = if self.groups == 1 { 1 } else { outs.len() / self.per_group()[1] };
        let narrow = |spec: &ConvSpec| ConvSpec { group: groups, ..spec.clone() };
        Ok(match &self.op {
            Op::Conv(spec) if self.groups > 1 => (Op::Conv(narrow(spec)), pick(&self.w, 0, outs)?),
            Op::ConvTranspose { spec, output_pads } if self.groups > 1 => {
                let op = Op::ConvTranspose { spec: narrow(spec), output_pads: output_pads.clone() };
                (op, pick(&self.w, 0, ins)?)
            }
            Op::Conv(_) => (self.op.clone(), pick(&pick(&self.w, 0, outs)?, 1, ins)?),
            _ => (self.op.clone(), pick(&pick(&self.w, 0, ins)?, 1, outs)?),
        })
    }

    /// Whether the operation has its bias as an operand.
    pub(super) fn takes_bias(&self) -> bool {
        !matches!(self.op, Op::MatMul)
    }

    /// Multiply-adds per position of the result, with this many channels left.
    pub(super) fn work(&self, ins: usize, outs: usize) -> f64 {
        if self.groups == 1 { (ins * outs) as f64 } else { (outs * self.per_group()[0]) as f64 }
    }
}

/// Every index of a shape, in row-major order.
fn positions(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    (0..shape.iter().product::<usize>()).map(move |mut flat| {
        let mut index = vec![0; shape.len()];
        for (i, &d) in index.iter_mut().zip(shape).rev() {
            (*i, flat) = (flat % d, flat / d);
        }
        index
    })
}

/// The value of a constant that broadcasts with `rank` axes at each of `extent` indices of an axis, if it is one finite
/// number there.
pub(super) fn numbers(t: &Tensor, rank: usize, axis: usize, extent: usize) -> Vec<Option<f64>> {
    let finite = |v: f64| v.is_finite().then_some(v);
    // `f64` cannot represent every 64-bit integer.
    let exact = !matches!(t.dtype(), DType::I64 | DType::U64);
    let own = (axis + t.shape().len()).checked_sub(rank).filter(|&a| t.shape()[a] == extent && extent > 1);
    let Some(own) = own.filter(|_| exact) else {
        let one = t.splat_value().filter(|_| exact).and_then(|v| finite(v.f64_at(0)));
        return vec![one; extent];
    };
    let values = t.to_f64s();
    let inner: usize = t.shape()[own + 1..].iter().product();
    let mut found: Vec<Option<f64>> = vec![None; extent];
    let mut mixed = vec![false; extent];
    for (run, chunk) in values.chunks_exact(inner.max(1)).enumerate() {
        let i = run % extent;
        for &v in chunk {
            mixed[i] |= *found[i].get_or_insert(v) != v;
        }
    }
    found.into_iter().zip(mixed).map(|(v, mixed)| v.filter(|_| !mixed).and_then(finite)).collect()
}
