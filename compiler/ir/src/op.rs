//! The primitives: one closed enum, with one meaning per variant, whatever operator set a model came from.
//!
//! Operands of ONNX that are constant in practice (axes, pads, target shapes) are attributes here; only data are
//! operands. Operands are written `(x, y, ...)` below; `[a]` is optional and comes last. "Broadcasting" is numpy's,
//! from the last axis backwards. Axes count from 0.

use super::{
    BinaryOp, CellSpec, ConvSpec, CumulativeKind, DType, Dim, F64, If, Packed, PadMode, PoolSpec, Range, ReduceKind,
    ResizeRule, SampleMode, SamplePadding, ScatterReduction, Sym, Tensor, TensorType, TreeEnsemble, UnaryOp,
    WeightFormat,
};

/// A primitive operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the text of each variant describes its fields")]
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

    /// `(x)`: the same elements in the same order with another shape.
    Reshape { shape: Vec<Dim> },
    /// `(x)`: result axis `i` is operand axis `perm[i]`.
    Transpose { perm: Vec<usize> },
    /// `(x)`: broadcasts to exactly `shape`.
    Broadcast { shape: Vec<Dim> },
    /// `(x)`: on every axis the elements `start + i * step` for `i < len`. `start` is in range; `step` may be negative.
    Slice { ranges: Vec<Range> },
    /// `(x, y, ...)`: concatenation along `axis`.
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
    /// `(x)`: ONNX Resize to `sizes`, with one rule per axis.
    Resize { sizes: Vec<Dim>, rule: ResizeRule },
    /// `(x, grid)`: ONNX GridSample on 4-D or 5-D, channels first.
    GridSample { mode: SampleMode, padding: SamplePadding, align_corners: bool },

    /// `(a: [..., m, k], b: [..., k, n])`: matrix product, batch axes broadcast. Floats accumulate in their own type
    /// (16-bit ones in `f32`), integers wrap.
    MatMul,
    /// `(a: [..., m, k], packed: [..., panels, k, tile])`: the same with `b` cut into panels of `tile` columns, the
    /// last one padded with zeros; the result has `n` columns. If `a` is `f32`, `packed` may be of 16-bit floats.
    PackedMatMul { n: Dim },
    /// `(x, w: [out, in/group, k...], [bias: [out]])`: correlation over the spatial axes. Channels-first `x` is
    /// `[batch, in, d...]`, channels-last `[batch, d..., in]`; the weights' layout does not depend on it.
    Conv(ConvSpec),
    /// `(x: channels last, weights...)`: a correlation or matrix product with packed weights; the [`WeightFormat`]
    /// defines the operands and the algorithm.
    Packed(Box<Packed>),
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
    /// `softmax(scale * q kᵀ + mask) v`, `[batch, m, heads, e]`, in `f32`. `heads / groups` consecutive heads share a
    /// group of keys and values; the mask is `[batch, heads, m, n]`, where all but `n` may be 1. `guarded`: weights
    /// that are NaN are replaced by 0.
    Attention { scale: F64, guarded: bool },
    /// `(x)`: softmax (or its logarithm) along `axis`.
    Softmax { axis: usize, log: bool },
    /// `(x)`: `(x - mean) / sqrt(variance + epsilon)` over the axes from `axis` on; without `center`,
    /// `x / sqrt(mean(x²) + epsilon)`. Scale and bias are element-wise operations after it.
    Normalize { axis: usize, epsilon: F64, center: bool },
    /// `(x)`: the `k` largest (smallest) along `axis`, sorted, ties by lower index; results: values, `i64` indices.
    TopK { k: Dim, axis: usize, largest: bool },
    /// `(xw: [time, batch, gates*hidden], r: [hidden, gates*hidden], h0: [batch, hidden], rest...)`: a recurrent layer
    /// in one direction after the input projection (bias included); results: every step's hidden state `[time, batch,
    /// hidden]`, the last one `[batch, hidden]`, and for LSTM the last cell state. `r` may be in panels `[panels,
    /// hidden, tile]` of its columns, the last one padded with any values, and for states rounded to 8 bits in panels
    /// of bytes `i8[panels, steps, tile, 4]`, in steps of four as for [`WeightFormat::Int8`]. It may be 16-bit floats if
    /// the rest is `f32`, or codes as for [`WeightFormat::LowBit`]. See [`CellSpec`].
    Recurrent(CellSpec),
    /// `(x)`: coordinates of non-zero elements, `[rank, count]`, where `count` is a new symbol bound at run time.
    NonZero { count: Dim },
    /// `(boxes: f32[groups, n, 4], live: Bool[groups, n], threshold: f32[])`: greedy suppression per group:
    /// `i64[groups, n]`, 1 for a live box whose overlap (intersection over union) with no box kept before it is more
    /// than the threshold; else 0. A box is `y0 x0 y1 x1`, the lesser corner first.
    NonMaxSuppression,
    /// `(x: [n, features])`: the trees' aggregated scores, `[n, targets]`.
    TreeEnsemble(Box<TreeEnsemble>),

    /// `(condition: Bool[], x, ...)`: the outputs of one of two regions, which take `x, ...`.
    If(Box<If>),
}

impl Op {
    /// The packed product or convolution, if it is one.
    pub fn packed(&self) -> Option<&Packed> {
        if let Op::Packed(packed) = self { Some(packed) } else { None }
    }

    /// The format of its packed weights.
    pub fn weights(&self) -> Option<&WeightFormat> {
        self.packed().map(|packed| &packed.weights)
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
            Op::Packed(packed) => packed.weights.name(),
            Op::Conv(_) => "conv",
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
            Op::NonMaxSuppression => "non_max_suppression",
            Op::TreeEnsemble(_) => "tree_ensemble",
            Op::If(_) => "if",
        }
    }

    /// The symbols that it binds at run time.
    pub fn binds(&self) -> Vec<&Sym> {
        if let Op::NonZero { count } = self {
            return count.as_sym().into_iter().collect();
        }
        if let Op::If(branches) = self { branches.binds.iter().collect() } else { Vec::new() }
    }
}

impl From<Packed> for Op {
    fn from(packed: Packed) -> Op {
        Op::Packed(Box::new(packed))
    }
}
