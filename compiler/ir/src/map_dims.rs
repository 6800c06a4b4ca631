//! Substitution in the dimensions of an operation.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::{Dim, Graph, If, Op, Range, Requirement, Sym, TensorType, WeightFormat};
use crate::Result;

impl Op {
    /// The operation with `f` applied to every dimension in it and in its regions.
    ///
    /// # Errors
    /// When operations in a region then contradict one another.
    pub fn map_dims(&self, f: &dyn Fn(&Dim) -> Dim) -> Result<Op> {
        if let Op::If(branches) = self {
            let results = branches.results.iter().map(|ty| TensorType::new(ty.dtype, ty.shape.iter().map(f).collect()));
            let [then, otherwise] = branches.branches().map(|region| region.map_dims(f));
            let (results, binds) = (results.collect(), branches.binds.clone());
            return Ok(Op::If(Box::new(If { then: then?, otherwise: otherwise?, results, binds })));
        }
        Ok(self.map_own_dims(f))
    }

    /// The symbols in the operation's own dimensions, without those of its regions.
    pub(super) fn symbols(&self) -> BTreeSet<Sym> {
        let symbols = RefCell::new(BTreeSet::new());
        if let Op::If(_) = self {
            return symbols.into_inner();
        }
        self.map_own_dims(&|d| {
            symbols.borrow_mut().extend(d.symbols());
            d.clone()
        });
        symbols.into_inner()
    }

    fn map_own_dims(&self, f: &dyn Fn(&Dim) -> Dim) -> Op {
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
            | Op::TreeEnsemble(_)
            | Op::If(_) => self.clone(),
        }
    }
}

impl Graph {
    /// The graph with every dimension in it replaced by `f`'s result. What it requires stays required, even what does not hold
    /// now.
    ///
    /// # Errors
    /// When operations contradict one another then.
    pub fn map_dims(&self, f: &dyn Fn(&Dim) -> Dim) -> Result<Graph> {
        let mut made = self.map_ops(&|op| op.map_dims(f))?;
        let derived = std::mem::take(&mut made.requires);
        for Requirement { condition, reason } in self.requires.iter() {
            let condition = condition.map(f);
            if condition.holds() != Some(true) {
                made.requires.push(Requirement { condition, reason: reason.clone() });
            }
        }
        derived.iter().for_each(|requirement| made.requires.push(requirement.clone()));
        Ok(made)
    }
}
