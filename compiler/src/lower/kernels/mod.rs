//! Kernels: how each operation becomes loops. One file an operator family, one arm in [`build`] an operation.
//!
//! A kernel author reads operands with [`Emit::load`] and writes result 0 with [`Emit::store`], which applies the
//! epilogue (the element-wise operations that lowering fused behind the operation). Bounds may be constants or
//! run-time values: take them from [`Builder::dim`] and never ask which.

pub mod conv;
pub mod elementwise;
pub mod gemm;
pub mod int8;
pub mod lowbit;
pub mod movement;
pub mod nn;
pub mod reduce;
pub mod sparse;
pub mod support;
#[cfg(test)]
pub mod tests;
pub mod trees;

use bytes::Bytes;
use mcc_targets::Target;

use super::kir::{Builder, Kernel};
use super::view::View;
use crate::ir::{ConvSpec, Dim, Layout, Op, Packed, Tensor, TensorType, Traits, WeightFormat, text};
use crate::{Error, Result};

pub use support::emit::{Emit, Epilogue, Link, RowLeaf};

/// What an operation is to be built for.
pub struct Site<'a> {
    /// The operation.
    pub op: &'a Op,
    /// Types of its operands.
    pub operands: &'a [TensorType],
    /// The operands that are constants (they are still passed as pointers).
    pub constants: &'a [Option<Tensor>],
    /// Types of its own results, before the epilogue.
    pub results: &'a [TensorType],
    /// Where they lie in larger buffers.
    pub places: &'a Places,
    /// The machine.
    pub target: &'a Target,
    /// Label of the operation.
    pub layer: &'a str,
}

impl Site<'_> {
    /// What is to be done, as [`Target::choose`] wants it.
    fn problem(&self) -> String {
        text::signature(self.op, self.operands, self.results)
    }
}

/// Operands and a result that are parts of larger buffers, which makes concatenations, slices and padding free. Only
/// what [`reads_spaced`] and [`Traits::EPILOGUE`] allow; by default everything lies in order from its pointer on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Places {
    /// Operands that do not lie in order.
    pub operands: Vec<Option<View>>,
    /// Result 0 if it does not lie in order. Its columns are adjacent.
    pub result: Option<View>,
    /// Concat, Pad: the operands that lie in the result already.
    pub inside: Vec<bool>,
}

/// A kernel and what it wants as its last pointers: scratch buffers, then constants.
pub struct Built {
    /// The kernel.
    pub kernel: Kernel,
    /// Bytes of each scratch buffer. The last one of [`Op::NonZero`] receives the value of `count` as an `i64`.
    pub scratch: Vec<Dim>,
    /// Read-only tables.
    pub constants: Vec<Bytes>,
}

/// Builds the kernel of an operation with an epilogue.
///
/// # Errors
/// When there is no kernel for this operation on these types; the message says what is missing.
pub fn build(site: &Site<'_>, epilogue: &Epilogue) -> Result<Built> {
    // What lies in the result already leaves little to do.
    let little = site.places.inside.contains(&true);
    let threads = if site.op.is(Traits::PARALLEL) && !little { site.target.threads } else { 1 };
    let mut k = builder(site.op.name(), site.target, threads);
    let emit = Emit::new(site, epilogue, &mut k)?;
    dispatch(site, &emit, &mut k)?;
    let (scratch, constants) = emit.wants();
    Ok(Built { kernel: k.finish(), scratch, constants })
}

/// Whether the result of one operation can be operand 0 of another one within [one kernel](build_chain).
pub fn chains(first: &Op, second: &Op, operands: &[TensorType]) -> bool {
    depthwise(first).is_some() && conv::separable::is_pointwise(second, operands)
}

/// Builds the kernel of two operations that [chain](chains). Its arguments are the first one's operands and what its
/// epilogue reads, then the second one's operands but the first, what its epilogue reads, and its result.
///
/// # Errors
/// As [`build`].
pub fn build_chain(links: &[Link<'_>; 2]) -> Result<Built> {
    let [first, second] = links;
    let Some(spec) = depthwise(first.site.op) else { return missing(first.site) };
    let target = second.site.target;
    let mut k = builder("separable_conv", target, target.threads);
    let [feeding, fed] = Emit::chain([first, second], &mut k)?;
    conv::separable::separable_conv(first.site, spec, second.site, [&feeding, &fed], &mut k)?;
    let (mut scratch, _) = feeding.wants();
    let (more, constants) = fed.wants();
    scratch.extend(more);
    Ok(Built { kernel: k.finish(), scratch, constants })
}

/// The window of a depthwise convolution of floats.
fn depthwise(op: &Op) -> Option<&ConvSpec> {
    match op {
        Op::Packed(p) if p.weights == WeightFormat::Depthwise => Some(&p.spec),
        _ => None,
    }
}

fn builder(name: &str, target: &Target, threads: u32) -> Builder {
    let builder = Builder::new(name, 0).with_masks(target.has_masks()).with_halves(target.has_halves());
    builder.with_threads(threads)
}

fn dispatch(site: &Site<'_>, e: &Emit<'_>, k: &mut Builder) -> Result<()> {
    match site.op {
        Op::Iota { dtype, axis, .. } => movement::iota::iota(e, k, *dtype, *axis),
        Op::Concat { axis } => movement::concat::concat(e, k, *axis),
        Op::Pad { before, after, mode } => movement::pad::pad(e, k, before, after, *mode),
        Op::Gather { axis } => movement::gather::gather(e, k, *axis),
        Op::GatherElements { axis } => movement::gather::gather_elements(e, k, *axis),
        Op::GatherNd { batch_dims } => movement::gather::gather_nd(e, k, *batch_dims),
        Op::ScatterElements { axis, reduction } => movement::scatter::scatter_elements(e, k, *axis, *reduction),
        Op::ScatterNd { reduction } => movement::scatter::scatter_nd(e, k, *reduction),
        Op::ReverseSequence { batch_axis, time_axis } => {
            movement::reverse_sequence::reverse_sequence(e, k, *batch_axis, *time_axis)
        }
        Op::Resize { rule, .. } => movement::resize::resize(e, k, rule),
        Op::GridSample { mode, padding, align_corners } => {
            let rule = movement::grid_sample::Rule { mode: *mode, padding: *padding, align_corners: *align_corners };
            movement::grid_sample::grid_sample(e, k, rule)
        }
        Op::MatMul => gemm::packed::matmul(site, e, k),
        Op::PackedMatMul { n } => gemm::packed::packed_matmul(site, e, k, n),
        Op::Conv(spec) => conv::direct::conv(site, e, k, spec),
        Op::Packed(p) => packed(site, p, e, k),
        Op::ConvTranspose { .. } => missing(site),
        Op::Col2Im { spec, kernel, size } => conv::col2im::col2im(site, e, k, spec, kernel, size),
        Op::Pool(spec) => conv::pool::pool(e, k, spec),
        Op::MaxPoolWithIndices { spec, column_major } => conv::pool::max_pool_with_indices(e, k, spec, *column_major),
        Op::Reduce { kind, axes, keep } => reduce::reduce(e, k, *kind, axes, *keep),
        Op::ArgReduce { largest, axis, last, .. } => reduce::arg_reduce::arg_reduce(e, k, *largest, *axis, *last),
        Op::Cumulative { kind, axis, exclusive, reverse } => {
            reduce::cumulative::cumulative(e, k, *kind, *axis, *exclusive, *reverse)
        }
        Op::Attention { scale, guarded } => nn::attention::attention(site, e, k, (scale.get(), *guarded)),
        Op::Softmax { axis, log } => nn::softmax::softmax(e, k, *axis, *log),
        Op::Normalize { axis, epsilon, center } => nn::normalize::normalize(e, k, *axis, epsilon.get(), *center),
        Op::TopK { k: count, axis, largest } => reduce::top_k::top_k(e, k, count, *axis, *largest),
        Op::Recurrent(spec) => nn::recurrent::recurrent(e, k, spec),
        Op::NonZero { .. } => reduce::non_zero::non_zero(e, k),
        Op::Suppress => reduce::non_max_suppression::suppress(e, k),
        Op::TreeEnsemble(trees) => trees::tree_ensemble(e, k, trees),
        // Lowering turns these into buffers, views and element-wise kernels; none reaches this point.
        Op::Input(..)
        | Op::Constant(_)
        | Op::Dims(_)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Select
        | Op::Cast { .. }
        | Op::Bitcast { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Broadcast { .. }
        | Op::Slice { .. } => {
            Err(Error::internal(format!("{} is not lowered through a kernel of its own", site.op.name())))
        }
    }
}

/// A kernel for each format of packed weights.
fn packed(site: &Site<'_>, p: &Packed, e: &Emit<'_>, k: &mut Builder) -> Result<()> {
    let Packed { spec, kernel, out, weights } = p;
    match weights {
        WeightFormat::Dense => gemm::packed::packed_conv(site, e, k, spec, *out),
        WeightFormat::Depthwise => conv::depthwise::depthwise_conv(site, e, k, spec),
        WeightFormat::Int8 { .. } => int8::dot::dot_conv(site, e, k, spec, kernel, *out),
        WeightFormat::Int8Depthwise => int8::depthwise::dot_depthwise(site, e, k, spec, kernel),
        WeightFormat::Blocks => sparse::blocks::block_conv(site, e, k, (spec, kernel), *out),
        WeightFormat::NonZeros { staging, stored } => {
            sparse::sparse_conv(site, e, k, (spec, kernel), staging, (*out, *stored))
        }
        WeightFormat::LowBit(coded) => lowbit::coded_conv(site, e, k, p, *coded),
        WeightFormat::Filtered { tile, size, filters } => {
            conv::winograd::winograd_conv(site, e, k, size, [tile, kernel, &spec.dilations], (*out, *filters))
        }
    }
}

/// Whether the kernel of an operation reads an operand through [`Emit::strides`], so that it may be part of a larger
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

fn missing<T>(site: &Site<'_>) -> Result<T> {
    Err(Error::unsupported(format!("{}: no kernel for {:?}", site.op.name(), site.operands)))
}
