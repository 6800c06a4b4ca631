//! Traits of operations: facts that hold for all attributes, types and targets, in one table.

use bitflags::bitflags;

use super::Op;

bitflags! {
    /// Traits of an operation.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Traits: u16 {
        /// Computes each element of the result from the corresponding elements of the operands, broadcast.
        const ELEMENTWISE = 1 << 0;
        /// Only reorders or repeats its operand's elements.
        const VIEW = 1 << 1;
        /// Only concatenates its operands, or adds a border: if producers write directly into the result, no copy is
        /// needed.
        const JOINS = 1 << 2;
        /// Every axis of the result is an axis of the operands, in any order.
        const KEEPS_AXES = 1 << 3;
        /// The elements of the result are elements of the operands, or indices of them.
        const EXACT = 1 << 4;
        /// Its kernel satisfies the rules of shared kernels (`mcc_kernel::kir::share`), so that threads may share its
        /// loops.
        const PARALLEL = 1 << 5;
        /// Its kernel stores result 0 in only one place of its code, where element-wise operations can be fused.
        const EPILOGUE = 1 << 6;
        /// Made by packing passes only; other passes do not rewrite it.
        const MACHINE = 1 << 7;
    }
}

impl Op {
    /// The operation's traits.
    pub fn traits(&self) -> Traits {
        const NONE: Traits = Traits::empty();
        const VIEW: Traits = Traits::VIEW.union(Traits::EXACT);
        const MOVES: Traits = Traits::EXACT.union(SHARED);
        const JOINS: Traits = MOVES.union(Traits::JOINS).union(Traits::KEEPS_AXES);
        const ELEMENTWISE: Traits = Traits::ELEMENTWISE.union(Traits::KEEPS_AXES);
        /// Most kernels: threads may share them, and they take an epilogue.
        const SHARED: Traits = Traits::PARALLEL.union(Traits::EPILOGUE);
        match self {
            Op::Input(..) | Op::Constant(_) | Op::Dims(_) => NONE,
            Op::Iota { .. } => SHARED,

            // Whether they are exact depends on the function.
            Op::Unary(_) | Op::Binary(_) => ELEMENTWISE,
            Op::Select | Op::Cast { .. } | Op::Bitcast { .. } => ELEMENTWISE.union(Traits::EXACT),

            Op::Reshape { .. } => Traits::EXACT,
            Op::Transpose { .. } | Op::Broadcast { .. } => VIEW,
            Op::Slice { .. } => VIEW.union(Traits::KEEPS_AXES),
            Op::Concat { .. } | Op::Pad { .. } => JOINS,
            Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. } => MOVES,
            // They read their own result.
            Op::ScatterElements { .. } | Op::ScatterNd { .. } => NONE,
            // Little work, or steps that depend on one another.
            Op::ReverseSequence { .. } => Traits::EXACT.union(Traits::EPILOGUE),
            Op::Resize { .. } | Op::GridSample { .. } => SHARED,

            Op::MatMul | Op::Conv(_) => SHARED,
            Op::PackedMatMul { .. } | Op::Packed(_) => SHARED.union(Traits::MACHINE),
            // There is no kernel; a pass turns it into convolutions.
            Op::ConvTranspose { .. } => NONE,
            // Adds to its result.
            Op::Col2Im { .. } => Traits::EPILOGUE,
            Op::Pool(_) => SHARED,
            // Two results.
            Op::MaxPoolWithIndices { .. } => Traits::EXACT.union(Traits::PARALLEL),

            Op::Reduce { .. } => SHARED,
            Op::ArgReduce { .. } => SHARED.union(Traits::EXACT),
            Op::Cumulative { .. } => NONE,
            Op::Attention { .. } | Op::Softmax { .. } | Op::Normalize { .. } => SHARED,
            Op::TopK { .. } => Traits::EXACT,
            Op::Recurrent(_) => NONE,
            Op::NonZero { .. } | Op::NonMaxSuppression => Traits::EXACT,
            Op::TreeEnsemble(_) => Traits::EPILOGUE,
            // What it does is what its regions do.
            Op::If(_) => NONE,
        }
    }

    /// Whether the operation has all of `traits`.
    pub fn is(&self, traits: Traits) -> bool {
        self.traits().contains(traits)
    }
}
