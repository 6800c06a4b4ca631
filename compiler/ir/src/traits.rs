//! What an operation is: facts that hold whatever its attributes, types and target are, in one table.

use bitflags::bitflags;

use super::Op;

bitflags! {
    /// Facts about an operation.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Traits: u16 {
        /// Computes each element of the result from the elements of the operands at its place, broadcast.
        const ELEMENTWISE = 1 << 0;
        /// Only shows its operand's elements in another order, or several times.
        const VIEW = 1 << 1;
        /// Only puts elements of its operands side by side, or a border around them: where a producer writes right into the
        /// result, nothing is left to do.
        const JOINS = 1 << 2;
        /// Every axis of the result is one of the operands', whatever their order.
        const KEEPS_AXES = 1 << 3;
        /// The elements of the result are some of the operands', or places of them.
        const EXACT = 1 << 4;
        /// Its kernel keeps to what shared kernels must (`mcc_kernel::kir::share`), so that threads may share its loops.
        const PARALLEL = 1 << 5;
        /// Its kernel stores result 0 in one place of its code only, where element-wise operations can be fused.
        const EPILOGUE = 1 << 6;
        /// Made by the packing passes for kernels: no other pass has anything to say of it.
        const MACHINE = 1 << 7;
    }
}

impl Op {
    /// What the operation is.
    pub fn traits(&self) -> Traits {
        const NONE: Traits = Traits::empty();
        const VIEW: Traits = Traits::VIEW.union(Traits::EXACT);
        const MOVES: Traits = Traits::EXACT.union(SHARED);
        const JOINS: Traits = MOVES.union(Traits::JOINS).union(Traits::KEEPS_AXES);
        const ELEMENTWISE: Traits = Traits::ELEMENTWISE.union(Traits::KEEPS_AXES);
        /// Most kernels: threads share them, and they take an epilogue.
        const SHARED: Traits = Traits::PARALLEL.union(Traits::EPILOGUE);
        match self {
            Op::Input(..) | Op::Constant(_) | Op::Dims(_) => NONE,
            Op::Iota { .. } => SHARED,

            // Whether their numbers are exact depends on the function.
            Op::Unary(_) | Op::Binary(_) => ELEMENTWISE,
            Op::Select | Op::Cast { .. } | Op::Bitcast { .. } => ELEMENTWISE.union(Traits::EXACT),

            Op::Reshape { .. } => Traits::EXACT,
            Op::Transpose { .. } | Op::Broadcast { .. } => VIEW,
            Op::Slice { .. } => VIEW.union(Traits::KEEPS_AXES),
            Op::Concat { .. } | Op::Pad { .. } => JOINS,
            Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. } => MOVES,
            // They read their own result again.
            Op::ScatterElements { .. } | Op::ScatterNd { .. } => NONE,
            // Little to do, or steps that need one another.
            Op::ReverseSequence { .. } => Traits::EXACT.union(Traits::EPILOGUE),
            Op::Resize { .. } | Op::GridSample { .. } => SHARED,

            Op::MatMul | Op::Conv(_) => SHARED,
            Op::PackedMatMul { .. } | Op::Packed(_) => SHARED.union(Traits::MACHINE),
            // Lowering has no kernel for it: a pass makes convolutions of it.
            Op::ConvTranspose { .. } => NONE,
            // Sums in place.
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
