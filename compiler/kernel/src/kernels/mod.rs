//! Kernels: how each operation becomes loops. One file per operator family, one arm in `dispatch` per operation.
//!
//! A kernel author reads operands with [`Emit::load`] and writes result 0 with [`Emit::store`], which applies the
//! epilogue (the element-wise operations that lowering fused after the operation). Bounds may be constants or run-time
//! values: get them from [`Builder::dim`], which hides the difference.

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
pub mod trees;

use bytes::Bytes;
use mcc_targets::Target;

use super::kir::{Builder, Kernel};
use mcc_ir::{ConvSpec, Dim, Error, Op, Packed, Result, TensorType, Traits, WeightFormat};

pub use support::emit::{Emit, Epilogue, Link, RowLeaf};
use support::request::missing;
pub use support::request::{KernelRequest, Places, column_axes, reads_spaced};

/// A kernel and its requirements for its last pointers: scratch buffers, then constants.
pub struct Built {
    /// The kernel.
    pub kernel: Kernel,
    /// Bytes of each scratch buffer. The last one of [`Op::NonZero`] receives the `i64` value of `count`.
    pub scratch: Vec<Dim>,
    /// Read-only tables.
    pub constants: Vec<Bytes>,
}

/// Builds the kernel of an operation with an epilogue.
///
/// # Errors
/// When no kernel supports this operation on these types; the message says what is missing.
pub fn build(request: &KernelRequest<'_>, epilogue: &Epilogue) -> Result<Built> {
    // When some operands are already in the result, little is left to do.
    let little = request.places.inside.contains(&true);
    let threads = if request.op.is(Traits::PARALLEL) && !little { request.config.threads } else { 1 };
    let mut k = builder(request.op.name(), &request.config.target, threads);
    let emit = Emit::new(request, epilogue, &mut k)?;
    dispatch(request, &emit, &mut k)?;
    let (scratch, constants) = emit.wants();
    Ok(Built { kernel: k.finish(), scratch, constants })
}

/// Whether the result of one operation can be operand 0 of another within [one kernel](build_chain).
pub fn chains(first: &Op, second: &Op, operands: &[TensorType]) -> bool {
    depthwise(first).is_some() && conv::separable::is_pointwise(second, operands)
}

/// Builds the kernel of two operations that [chain](chains). Its arguments are the first one's operands and epilogue
/// leaves, then the second one's operands except the first, its epilogue leaves, and its result.
///
/// # Errors
/// As [`build`].
pub fn build_chain(links: &[Link<'_>; 2]) -> Result<Built> {
    let [first, second] = links;
    let Some(spec) = depthwise(first.request.op) else { return missing(first.request) };
    let config = second.request.config;
    let mut k = builder("separable_conv", &config.target, config.threads);
    let [feeding, fed] = Emit::chain([first, second], &mut k)?;
    conv::separable::separable_conv(first.request, spec, second.request, [&feeding, &fed], &mut k)?;
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

fn dispatch(request: &KernelRequest<'_>, e: &Emit<'_>, k: &mut Builder) -> Result<()> {
    match request.op {
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
        Op::MatMul => gemm::packed::matmul(request, e, k),
        Op::PackedMatMul { n } => gemm::packed::packed_matmul(request, e, k, n),
        Op::Conv(spec) => conv::direct::conv(request, e, k, spec),
        Op::Packed(p) => packed(request, p, e, k),
        Op::ConvTranspose { .. } => missing(request),
        Op::Col2Im { spec, kernel, size } => conv::col2im::col2im(request, e, k, spec, kernel, size),
        Op::Pool(spec) => conv::pool::pool(e, k, spec),
        Op::MaxPoolWithIndices { spec, column_major } => conv::pool::max_pool_with_indices(e, k, spec, *column_major),
        Op::Reduce { kind, axes, keep } => reduce::reduce(e, k, *kind, axes, *keep),
        Op::ArgReduce { largest, axis, last, .. } => reduce::arg_reduce::arg_reduce(e, k, *largest, *axis, *last),
        Op::Cumulative { kind, axis, exclusive, reverse } => {
            reduce::cumulative::cumulative(e, k, *kind, *axis, *exclusive, *reverse)
        }
        Op::Attention { scale, guarded } => nn::attention::attention(request, e, k, scale.get(), *guarded),
        Op::Softmax { axis, log } => nn::softmax::softmax(e, k, *axis, *log),
        Op::Normalize { axis, epsilon, center } => nn::normalize::normalize(e, k, *axis, epsilon.get(), *center),
        Op::TopK { k: count, axis, largest } => reduce::top_k::top_k(e, k, count, *axis, *largest),
        Op::Recurrent(spec) => nn::recurrent::recurrent(e, k, spec),
        Op::NonZero { .. } => reduce::non_zero::non_zero(e, k),
        Op::NonMaxSuppression => reduce::non_max_suppression::non_max_suppression(e, k),
        Op::TreeEnsemble(trees) => trees::tree_ensemble(e, k, trees),
        // Lowering turns these into buffers, views, element-wise kernels and branches before this point.
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
        | Op::Slice { .. }
        | Op::If(_) => {
            Err(Error::internal(format!("{} is not lowered through a kernel of its own", request.op.name())))
        }
    }
}

/// A kernel for each format of packed weights.
fn packed(request: &KernelRequest<'_>, p: &Packed, e: &Emit<'_>, k: &mut Builder) -> Result<()> {
    let Packed { spec, kernel, out, weights } = p;
    match weights {
        WeightFormat::Dense => gemm::packed::packed_conv(request, e, k, spec, *out),
        WeightFormat::Depthwise => conv::depthwise::depthwise_conv(request, e, k, spec),
        WeightFormat::Int8 { .. } => int8::dot::int8_conv(request, e, k, spec, kernel, *out),
        WeightFormat::Int8Depthwise => int8::depthwise::int8_depthwise(request, e, k, spec, kernel),
        WeightFormat::Blocks => sparse::blocks::block_conv(request, e, k, spec, kernel, *out),
        WeightFormat::NonZeros { staging, stored } => sparse::sparse_conv(request, e, k, p, staging, *stored),
        WeightFormat::LowBit(coded) => lowbit::lowbit_conv(request, e, k, p, *coded),
        WeightFormat::Filtered { tile, size, filters } => {
            conv::winograd::winograd_conv(request, e, k, p, tile, size, *filters)
        }
    }
}
