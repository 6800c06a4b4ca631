//! The primitives: one closed enum, one meaning each, whatever operator set a model came from.
//!
//! Everything that ONNX decides with operands that are constants in practice (axes, pads, target shapes) is an
//! attribute here; what is truly data stays an operand. Operands are written `(x, y, ...)` below; `[a]` is optional
//! and trails. "Broadcasting" is numpy's, from the last axis backwards. Axes count from 0.

use super::{
    BinaryOp, CellSpec, ConvSpec, CumulativeKind, DType, Dim, F64, Filters, Layout, PadMode, PoolSpec, Range,
    ReduceKind, ResizeRule, SampleMode, SamplePadding, ScatterReduction, Staging, Tensor, TensorType, TreeEnsemble,
    UnaryOp,
};

/// A primitive operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are told by each variant's text")]
pub enum Op {
    /// `()`: a model input; its name and type.
    Input(String, TensorType),
    /// `()`: constant data.
    Constant(Tensor),
    /// `()`: an `i64` vector of dimensions, for models that compute with shapes.
    Dims(Vec<Dim>),
    /// `()`: `shape`, each element its index along `axis`.
    Iota { dtype: DType, shape: Vec<Dim>, axis: usize },

    /// `(x)`: element-wise function.
    Unary(UnaryOp),
    /// `(a, b)`: element-wise function of both operands' common type, broadcasting; comparisons give `Bool`.
    Binary(BinaryOp),
    /// `(condition: Bool, a, b)`: `a` where true, else `b`; broadcasting.
    Select,
    /// `(x)`: converts to another type as ONNX Cast does: float to integer truncates, to `Bool` is `!= 0`;
    /// `saturate` holds for float-8 results.
    Cast { to: DType, saturate: bool },
    /// `(x)`: the same bits as another type of the same size.
    Bitcast { to: DType },

    /// `(x)`: the same elements in the same order under another shape.
    Reshape { shape: Vec<Dim> },
    /// `(x)`: result axis `i` is operand axis `perm[i]`.
    Transpose { perm: Vec<usize> },
    /// `(x)`: broadcasts to exactly `shape`.
    Broadcast { shape: Vec<Dim> },
    /// `(x)`: on every axis the elements `start + i * step` for `i < len`. `start` is in range; `step` may be negative.
    Slice { ranges: Vec<Range> },
    /// `(x, y, ...)`: side by side along `axis`.
    Concat { axis: usize },
    /// `(x, value: scalar)`: adds `before` and `after` elements on every axis (not negative).
    Pad { before: Vec<Dim>, after: Vec<Dim>, mode: PadMode },
    /// `(x, indices)`: ONNX Gather; negative indices count from the end.
    Gather { axis: usize },
    /// `(x, indices)`: ONNX GatherElements.
    GatherElements { axis: usize },
    /// `(x, indices)`: ONNX GatherND.
    GatherNd { batch_dims: usize },
    /// `(x, indices, updates)`: ONNX ScatterElements.
    ScatterElements { axis: usize, reduction: ScatterReduction },
    /// `(x, indices, updates)`: ONNX ScatterND.
    ScatterNd { reduction: ScatterReduction },
    /// `(x, lengths: i64[batch])`: ONNX ReverseSequence.
    ReverseSequence { batch_axis: usize, time_axis: usize },
    /// `(x)`: ONNX Resize to `sizes`; one rule an axis.
    Resize { sizes: Vec<Dim>, rule: ResizeRule },
    /// `(x, grid)`: ONNX GridSample on 4-D or 5-D, channels first.
    GridSample { mode: SampleMode, padding: SamplePadding, align_corners: bool },

    /// `(a: [..., m, k], b: [..., k, n])`: matrix product, batch axes broadcast. Float types accumulate in themselves
    /// (16-bit ones in `f32`), integers wrap.
    MatMul,
    /// `(a: [..., m, k], packed: [..., panels, k, tile])`: the same with `b` cut into panels of `tile` columns, the
    /// last one filled with zeros; `n` columns in the result. Where `a` is `f32`, `packed` may be of 16-bit floats.
    PackedMatMul { n: Dim },
    /// `(x: channels last, heads: i32[panels + 1], offsets: i32[blocks], values: f32[blocks, tile] or
    /// i8[blocks, tile, 4])`: correlation in one group with weights in blocks, of which only some are not zero: those from
    /// `heads[p]` to before `heads[p + 1]` are of panel `p` of `tile` output channels. A block of floats meets the element
    /// of `x: f32` that lies so many elements behind a window's first one as its offset says; a block of bytes meets four
    /// adjacent ones of `x: u8 or i8` from there on, and is summed in `i32`, which wraps. `kernel` holds the window's
    /// extents, and the spatial ones of `x` are constant; without any, the axes before the last are a matrix's rows. `out`
    /// channels in the result; `spec.pads` are zero.
    BlockConv { spec: ConvSpec, kernel: Vec<i64>, out: usize },
    /// `(x, w: [out, in/group, k...], [bias: [out]])`: correlation over the spatial axes. Channels-first `x` is
    /// `[batch, in, d...]`, channels-last `[batch, d..., in]`; the weights' layout does not depend on it.
    Conv(ConvSpec),
    /// `(x: channels last, packed: [group, panels, k..., in/group, tile])`: the same, weights packed as for
    /// [`Op::PackedMatMul`]; `out` channels in the result. `spec.pads` are zero.
    PackedConv { spec: ConvSpec, out: usize },
    /// `(x: u8 or i8, channels last; packed: i8[group, panels, taps, steps, tile, 4])`: correlation of bytes, summed in
    /// `i32`, which wraps. `kernel` holds the window's extents; without any, the axes before the last are a matrix's
    /// rows. A window is [`ConvSpec::runs`]: so many taps of runs of contiguous elements, which the weights hold in steps
    /// of four, filled up with zeros. `out` channels in the result; `spec.pads` are zero. Instead of `packed` there may be
    /// masks, values and heads: see [`mask_bytes`](super::mask_bytes).
    DotConv { spec: ConvSpec, kernel: Vec<i64>, out: usize },
    /// `(x: u8 or i8, channels last; packed: i8[lines, quads, columns, lanes, 4])`: correlation of bytes with one filter a
    /// channel, summed in `i32`, which wraps. `kernel` holds the window's extents: of the last two, rows and columns (a
    /// single one is that of rows), the weights of four rows lie side by side, filled up with zeros; the others' elements
    /// are lines. There are lanes for all channels at least. `spec.group` equals the channels and `spec.pads` are zero.
    DotDepthwise { spec: ConvSpec, kernel: Vec<i64> },
    /// `(x, heads: i32[groups + 1], slots: u8[groups * abreast], offsets: u16 or i32[n / shared], values: f32[n])`:
    /// correlation in one group with weights of which only some are not zero: those that a group of output channels, whose
    /// places in their block are its slots, has in a slice of the input channels, from its head on to the next one's,
    /// taking turns in whole rounds. Each is a value and the offset, which some of the group may share, in
    /// [`Staging::unit`]s of staged planes ([`Staging`]), of what the first result of a tile meets by it. `kernel` holds
    /// the window's extents; without any, all axes but the channels are a matrix's rows. `spec.layout` is the operand's,
    /// the result has a layout of its own. Where `x` is `u8` or `i8`, channels-last and with a multiple of four channels,
    /// `values` are `i8[n, 4]`, which meet four channels each; sums are `i32` and wrap.
    SparseConv { spec: ConvSpec, kernel: Vec<i64>, staging: Staging, out: usize, stored: Layout },
    /// `(x: f32, channels last; codes: i32[panels, words, tile]; scales: f32 or f16[panels, blocks, tile]; [zeros: i8 or
    /// i16[panels, blocks, tile], or table: f32[16 or 256]])`: correlation with weights that are codes; see
    /// [`Coded`](super::Coded) for what they stand for. `kernel` holds the window's extents; without any, the axes before
    /// the last are a matrix's rows. `out` channels in the result; `spec.pads` are zero and there is one group.
    CodedConv { spec: ConvSpec, kernel: Vec<i64>, out: usize, bits: u32, block: usize },
    /// `(x: [batch, h, w, in] or [batch, h, in], packed: [planes, panels, in, columns])`: correlation with unit strides by
    /// [`Filtering`](super::Filtering): each tile of results, so many along every axis, from elements in transformed space,
    /// where it is a matrix product a plane. `kernel` holds the window's extents. The weights are packed as for
    /// [`Op::PackedMatMul`], transformed or, where `x` is `f32`, not: then they are `[taps, panels, in, columns]`, of `f32`
    /// or 16-bit floats, or codes with the operands of [`Op::CodedConv`] ([`Filters`]). `size` is the results' spatial
    /// extent, to which belong rows and columns of `x` for whole tiles ([`Filtering::extent`](super::Filtering::extent)).
    WinogradConv { size: Vec<Dim>, tile: Vec<i64>, kernel: Vec<i64>, dilations: Vec<i64>, out: usize, filters: Filters },
    /// `(x: channels last, w: [k..., channels])`: one filter a channel; `spec.group` equals the channels and
    /// `spec.pads` are zero.
    DepthwiseConv(ConvSpec),
    /// `(x, w: [in, out/group, k...], [bias: [out]])`: transposed convolution; `output_pads` extend the far end.
    ConvTranspose { spec: ConvSpec, output_pads: Vec<i64> },
    /// `(x: [batch, out * prod(kernel), positions])`: sums overlapping windows into `[batch, out, size...]`
    /// (ONNX Col2Im: `spec` holds strides, dilations, pads; positions run row-major over the windows).
    Col2Im { spec: ConvSpec, kernel: Vec<i64>, size: Vec<Dim> },
    /// `(x)`: pooling over the spatial axes.
    Pool(PoolSpec),
    /// `(x: channels first)`: maximum pooling; results: the maxima and their flat `i64` indices in the whole tensor.
    MaxPoolWithIndices { spec: PoolSpec, column_major: bool },

    /// `(x)`: reduces `axes` (sorted, distinct; they keep extent 1 when `keep`). Sums of bytes are `i32`.
    Reduce { kind: ReduceKind, axes: Vec<usize>, keep: bool },
    /// `(x)`: `i64` index of the largest (smallest) element along `axis`; ties take the first or the last one.
    ArgReduce { largest: bool, axis: usize, keep: bool, last: bool },
    /// `(x)`: running sum or product along `axis`.
    Cumulative { kind: CumulativeKind, axis: usize, exclusive: bool, reverse: bool },
    /// `(q: [batch, m, heads, d], k: [batch, n, groups, d], v: [batch, n, groups, e], [mask])`: for each head
    /// `softmax(scale * q kᵀ + mask) v`, `[batch, m, heads, e]`, in `f32`. As many heads in order share a group of keys and
    /// values; the mask is `[batch, heads, m, n]`, where all but `n` may be 1. `guarded`: weights that are NaN are 0.
    Attention { scale: F64, guarded: bool },
    /// `(x)`: softmax (or its logarithm) along `axis`.
    Softmax { axis: usize, log: bool },
    /// `(x)`: `(x - mean) / sqrt(variance + epsilon)` over the axes from `axis` on; without `center`,
    /// `x / sqrt(mean(x²) + epsilon)`. Scale and bias are element-wise operations after it.
    Normalize { axis: usize, epsilon: F64, center: bool },
    /// `(x)`: the `k` largest (smallest) along `axis`, sorted, ties by lower index; results: values, `i64` indices.
    TopK { k: Dim, axis: usize, largest: bool },
    /// `(xw: [time, batch, gates*hidden], r: [hidden, gates*hidden], h0: [batch, hidden], rest...)`: a recurrent
    /// layer in one direction after the input projection (bias included); results: every step's hidden state
    /// `[time, batch, hidden]`, the last one `[batch, hidden]`, and for LSTM the last cell state. `r` may be in panels
    /// `[panels, hidden, tile]` of its columns, the last one filled up with anything, and for states rounded to 8 bits
    /// bytes in panels `i8[panels, steps, tile, 4]`, in steps of four as for [`Op::DotConv`]. See [`CellSpec`].
    Recurrent(CellSpec),
    /// `(x)`: coordinates of non-zero elements, `[rank, count]`, `count` a fresh symbol bound at run time.
    NonZero { count: Dim },
    /// `(boxes: f32[groups, n, 4], live: Bool[groups, n], threshold: f32[])`: greedy suppression in each group: `i64`
    /// `[groups, n]`, 1 for a live box when the share of no box kept before it, intersection over union, is more than
    /// the threshold; else 0. A box is `y0 x0 y1 x1`, the lesser corner first.
    Suppress,
    /// `(x: [n, features])`: the trees' aggregated scores, `[n, targets]`.
    TreeEnsemble(Box<TreeEnsemble>),
}

impl Op {
    /// Whether every axis of the result is that of the operands, whatever their order: element by element, parts, joined
    /// parts, borders.
    pub fn keeps_axes(&self) -> bool {
        matches!(
            self,
            Op::Unary(_)
                | Op::Binary(_)
                | Op::Select
                | Op::Cast { .. }
                | Op::Bitcast { .. }
                | Op::Slice { .. }
                | Op::Concat { .. }
                | Op::Pad { .. }
        )
    }

    /// Short name, as in the text form and in kernels' names.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input(..) => "input",
            Op::Constant(_) => "constant",
            Op::Dims(_) => "dims",
            Op::Iota { .. } => "iota",
            Op::Unary(_) => "unary",
            Op::Binary(_) => "binary",
            Op::Select => "select",
            Op::Cast { .. } => "cast",
            Op::Bitcast { .. } => "bitcast",
            Op::Reshape { .. } => "reshape",
            Op::Transpose { .. } => "transpose",
            Op::Broadcast { .. } => "broadcast",
            Op::Slice { .. } => "slice",
            Op::Concat { .. } => "concat",
            Op::Pad { .. } => "pad",
            Op::Gather { .. } => "gather",
            Op::GatherElements { .. } => "gather_elements",
            Op::GatherNd { .. } => "gather_nd",
            Op::ScatterElements { .. } => "scatter_elements",
            Op::ScatterNd { .. } => "scatter_nd",
            Op::ReverseSequence { .. } => "reverse_sequence",
            Op::Resize { .. } => "resize",
            Op::GridSample { .. } => "grid_sample",
            Op::MatMul => "matmul",
            Op::PackedMatMul { .. } => "packed_matmul",
            Op::BlockConv { .. } => "block_conv",
            Op::Conv(_) => "conv",
            Op::PackedConv { .. } => "packed_conv",
            Op::DotConv { .. } => "dot_conv",
            Op::DotDepthwise { .. } => "dot_depthwise",
            Op::SparseConv { .. } => "sparse_conv",
            Op::CodedConv { .. } => "coded_conv",
            Op::WinogradConv { .. } => "winograd_conv",
            Op::DepthwiseConv(_) => "depthwise_conv",
            Op::ConvTranspose { .. } => "conv_transpose",
            Op::Col2Im { .. } => "col2im",
            Op::Pool(_) => "pool",
            Op::MaxPoolWithIndices { .. } => "max_pool_with_indices",
            Op::Reduce { .. } => "reduce",
            Op::ArgReduce { .. } => "arg_reduce",
            Op::Cumulative { .. } => "cumulative",
            Op::Attention { .. } => "attention",
            Op::Softmax { .. } => "softmax",
            Op::Normalize { .. } => "normalize",
            Op::TopK { .. } => "top_k",
            Op::Recurrent(_) => "recurrent",
            Op::NonZero { .. } => "non_zero",
            Op::Suppress => "suppress",
            Op::TreeEnsemble(_) => "tree_ensemble",
        }
    }
}
