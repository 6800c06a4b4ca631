//! The inputs for building a kernel: an operation, its types and constants, the places of operands and results, the
//! machine.

use mcc_targets::Config;

use crate::view::View;
use mcc_ir::{Dim, Error, Layout, Op, Packed, Result, Tensor, TensorType, WeightFormat, text};

/// The request to build an operation's kernel.
pub struct KernelRequest<'a> {
    /// The operation.
    pub op: &'a Op,
    /// Types of its operands.
    pub operands: &'a [TensorType],
    /// The values of constant operands (which are still passed as pointers).
    pub constants: &'a [Option<Tensor>],
    /// Types of its own results, before the epilogue.
    pub results: &'a [TensorType],
    /// Their places in larger buffers.
    pub places: &'a Places,
    /// The target and the options.
    pub config: &'a Config,
    /// Label of the operation.
    pub layer: &'a str,
}

impl KernelRequest<'_> {
    /// The problem, as [`Config::choose`] takes it.
    pub(crate) fn problem(&self) -> String {
        text::signature(self.op, self.operands, self.results)
    }
}

/// Operands and a result that are parts of larger buffers, which makes concatenations, slices and padding free. Only as
/// [`reads_spaced`] and [`Traits::EPILOGUE`](mcc_ir::Traits::EPILOGUE) allow; by default everything is contiguous.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Places {
    /// Views of operands that are not contiguous.
    pub operands: Vec<Option<View>>,
    /// The view of result 0 if it is not contiguous. Its columns are contiguous.
    pub result: Option<View>,
    /// Concat, Pad: whether each operand is already stored in the result.
    pub inside: Vec<bool>,
}

/// Whether an operation's kernel reads an operand through [`Emit::strides`](super::emit::Emit::strides), so that it may
/// be part of a larger buffer: its last axis contiguous, the others with these strides.
pub fn reads_spaced(op: &Op, operand: usize, strides: &[Dim]) -> bool {
    let fixed = |from: usize| strides.iter().skip(from).all(|s| s.as_const().is_some());
    match op {
        Op::Concat { .. } => true,
        Op::Pad { .. } => operand == 0,
        Op::Packed(p) => match &p.weights {
            WeightFormat::Dense => operand == 0,
            // The code contains the strides of columns, and here also of rows.
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

/// How many of the last axes of result 0 an operation's kernel treats as one axis of columns.
pub fn column_axes(op: &Op, rank: usize) -> usize {
    let planes = |p: &Packed| matches!(p.weights, WeightFormat::NonZeros { stored: Layout::ChannelsFirst, .. });
    match op {
        Op::Packed(p) if planes(p) => rank.saturating_sub(2),
        _ => rank.min(1),
    }
}

/// The error for an operation on types that no kernel supports.
pub(crate) fn missing<T>(request: &KernelRequest<'_>) -> Result<T> {
    Err(Error::unsupported(format!("{}: no kernel for {:?}", request.op.name(), request.operands)))
}
