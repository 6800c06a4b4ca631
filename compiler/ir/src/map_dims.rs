//! Substitution in the dimensions of an operation.

use super::{Dim, Op, Range, TensorType, WeightFormat};

impl Op {
    /// The operation with `f` applied to every dimension in it.
    pub fn map_dims(&self, f: &dyn Fn(&Dim) -> Dim) -> Op {
        let all = |dims: &[Dim]| dims.iter().map(f).collect::<Vec<Dim>>();
        match self {
            Op::Input(name, ty) => Op::Input(name.clone(), TensorType::new(ty.dtype, all(&ty.shape))),
            Op::Dims(dims) => Op::Dims(all(dims)),
            Op::Iota { dtype, shape, axis } => Op::Iota { dtype: *dtype, shape: all(shape), axis: *axis },
            Op::Reshape { shape } => Op::Reshape { shape: all(shape) },
            Op::Broadcast { shape } => Op::Broadcast { shape: all(shape) },
            Op::Slice { ranges } => {
                let one = |r: &Range| Range { start: f(&r.start), step: r.step, len: f(&r.len) };
                Op::Slice { ranges: ranges.iter().map(one).collect() }
            }
            Op::Pad { before, after, mode } => Op::Pad { before: all(before), after: all(after), mode: *mode },
            Op::Resize { sizes, rule } => Op::Resize { sizes: all(sizes), rule: rule.clone() },
            Op::PackedMatMul { n } => Op::PackedMatMul { n: f(n) },
            Op::Col2Im { spec, kernel, size } => {
                Op::Col2Im { spec: spec.clone(), kernel: kernel.clone(), size: all(size) }
            }
            Op::Packed(packed) => match &packed.weights {
                WeightFormat::Filtered { tile, size, filters } => {
                    let (tile, size, filters) = (tile.clone(), all(size), *filters);
                    packed.with(WeightFormat::Filtered { tile, size, filters }).into()
                }
                WeightFormat::Dense
                | WeightFormat::Depthwise
                | WeightFormat::Int8 { .. }
                | WeightFormat::Int8Depthwise
                | WeightFormat::Blocks
                | WeightFormat::NonZeros { .. }
                | WeightFormat::LowBit(_) => self.clone(),
            },
            Op::TopK { k, axis, largest } => Op::TopK { k: f(k), axis: *axis, largest: *largest },
            Op::NonZero { count } => Op::NonZero { count: f(count) },
            Op::Constant(_)
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Select
            | Op::Cast { .. }
            | Op::Bitcast { .. }
            | Op::Transpose { .. }
            | Op::Concat { .. }
            | Op::Gather { .. }
            | Op::GatherElements { .. }
            | Op::GatherNd { .. }
            | Op::ScatterElements { .. }
            | Op::ScatterNd { .. }
            | Op::ReverseSequence { .. }
            | Op::GridSample { .. }
            | Op::MatMul
            | Op::Conv(_)
            | Op::ConvTranspose { .. }
            | Op::Pool(_)
            | Op::MaxPoolWithIndices { .. }
            | Op::Reduce { .. }
            | Op::ArgReduce { .. }
            | Op::Cumulative { .. }
            | Op::Softmax { .. }
            | Op::Attention { .. }
            | Op::Normalize { .. }
            | Op::Recurrent(_)
            | Op::NonMaxSuppression
            | Op::TreeEnsemble(_) => self.clone(),
        }
    }
}
