//! What a kernel is asked for: an operation, its types and constants, where operands and results are in memory, the machine.

use mcc_targets::Config;

use crate::view::View;
use mcc_ir::{Dim, Error, Layout, Op, Packed, Result, Tensor, TensorType, WeightFormat, text};

/// What an operation is to be built for.
pub struct KernelRequest<'a> {
    /// The operation.
    pub op: &'a Op,
    /// Types of its operands.
    pub operands: &'a [TensorType],
    /// The operands that are constants (they are still passed as pointers).
    pub constants: &'a [Option<Tensor>],
    /// Types of its own results, before the epilogue.
    pub results: &'a [TensorType],
    /// Where they are in larger buffers.
    pub places: &'a Places,
    /// The machine, and what is wanted of the code.
    pub config: &'a Config,
    /// Label of the operation.
    pub layer: &'a str,
}

impl KernelRequest<'_> {
    /// What is to be done, as [`Config::choose`] wants it.
    pub(crate) fn problem(&self) -> String {
        text::signature(self.op, self.operands, self.results)
    }
}

/// Operands and a result that are parts of larger buffers, which makes concatenations, slices and padding free. Only
/// what [`reads_spaced`] and [`Traits::EPILOGUE`](mcc_ir::Traits::EPILOGUE) allow; by default everything is contiguous from its pointer on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Places {
    /// Operands that are not contiguous.
    pub operands: Vec<Option<View>>,
    /// Result 0 if it is not contiguous. Its columns are adjacent.
    pub result: Option<View>,
    /// Concat, Pad: the operands that are in the result already.
    pub inside: Vec<bool>,
}

/// Whether the kernel of an operation reads an operand through [`Emit::strides`](super::emit::Emit::strides), so that it may be part of a larger
/// buffer: its last axis in order, the others at these distances.
pub fn reads_spaced(op: &Op, operand: usize, strides: &[Dim]) -> bool {
    let fixed = |from: usize| strides.iter().skip(from).all(|s| s.as_const().is_some());
    match op {
        Op::Concat { .. } => true,
        Op::Pad { .. } => operand == 0,
        Op::Packed(p) => match &p.weights {
            WeightFormat::Dense => operand == 0,
            // Distances between columns, and here also between rows, are part of the code.
            WeightFormat::Depthwise | WeightFormat::Int8Depthwise => {
                operand == 0 && fixed(strides.len().saturating_sub(2))
            }
            WeightFormat::Filtered { .. } => operand == 0 && fixed(1),
            WeightFormat::Int8 { .. }
            | WeightFormat::Blocks
            | WeightFormat::NonZeros { .. }
            | WeightFormat::LowBit(_) => false,
        },
        Op::Pool(spec) => spec.layout == Layout::ChannelsLast,
        _ => false,
    }
}

/// How many of the last axes of result 0 of a rank are the columns of rows that the kernel of an operation stores, as one.
pub fn column_axes(op: &Op, rank: usize) -> usize {
    let planes = |p: &Packed| matches!(p.weights, WeightFormat::NonZeros { stored: Layout::ChannelsFirst, .. });
    match op {
        Op::Packed(p) if planes(p) => rank.saturating_sub(2),
        _ => rank.min(1),
    }
}

/// The error for an operation on types that there is no kernel for.
pub(crate) fn missing<T>(request: &KernelRequest<'_>) -> Result<T> {
    Err(Error::unsupported(format!("{}: no kernel for {:?}", request.op.name(), request.operands)))
}
