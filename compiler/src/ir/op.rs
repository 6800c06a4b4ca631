//! The primitives: one closed enum, one meaning each, whatever operator set a model came from.
//!
//! Everything that ONNX decides with operands that are constants in practice (axes, pads, target shapes) is an
//! attribute here; what is truly data stays an operand. Operands are written `(x, y, ...)` below; `[a]` is optional
//! and trails. "Broadcasting" is numpy's, from the last axis backwards. Axes count from 0.

use super::{DType, Dim, Tensor, TensorType};

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
    /// last one filled with zeros; `n` columns in the result.
    PackedMatMul { n: Dim },
    /// `(x, w: [out, in/group, k...], [bias: [out]])`: correlation over the spatial axes. Channels-first `x` is
    /// `[batch, in, d...]`, channels-last `[batch, d..., in]`; the weights' layout does not depend on it.
    Conv(ConvSpec),
    /// `(x: channels last, packed: [group, panels, k..., in/group, tile])`: the same, weights packed as for
    /// [`Op::PackedMatMul`]; `out` channels in the result. `spec.pads` are zero.
    PackedConv { spec: ConvSpec, out: usize },
    /// `(x: [batch, h, w, in], packed: [16, panels, in, tile])`: 3x3 correlation with unit strides by minimal filtering:
    /// each 2x2 of results from 4x4 elements in transformed space, where it is 16 matrix products. The weights are
    /// transformed and packed as for [`Op::PackedMatMul`]; `size` is the results' spatial extent `[oh, ow]`, to which
    /// belong `h = 2 * ceil(oh / 2) + 2` rows of `x`, and as many columns.
    WinogradConv { size: Vec<Dim>, out: usize },
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

    /// `(x)`: reduces `axes` (sorted, distinct; they keep extent 1 when `keep`).
    Reduce { kind: ReduceKind, axes: Vec<usize>, keep: bool },
    /// `(x)`: `i64` index of the largest (smallest) element along `axis`; ties take the first or the last one.
    ArgReduce { largest: bool, axis: usize, keep: bool, last: bool },
    /// `(x)`: running sum or product along `axis`.
    Cumulative { kind: CumulativeKind, axis: usize, exclusive: bool, reverse: bool },
    /// `(x)`: softmax (or its logarithm) along `axis`.
    Softmax { axis: usize, log: bool },
    /// `(x)`: `(x - mean) / sqrt(variance + epsilon)` over the axes from `axis` on; without `center`,
    /// `x / sqrt(mean(x²) + epsilon)`. Scale and bias are element-wise operations after it.
    Normalize { axis: usize, epsilon: F64, center: bool },
    /// `(x)`: the `k` largest (smallest) along `axis`, sorted, ties by lower index; results: values, `i64` indices.
    TopK { k: Dim, axis: usize, largest: bool },
    /// `(xw: [time, batch, gates*hidden], r: [hidden, gates*hidden], h0: [batch, hidden], rest...)`: a recurrent
    /// layer in one direction after the input projection (bias included); results: every step's hidden state
    /// `[time, batch, hidden]`, the last one `[batch, hidden]`, and for LSTM the last cell state. See [`CellSpec`].
    Recurrent(CellSpec),
    /// `(x)`: coordinates of non-zero elements, `[rank, count]`, `count` a fresh symbol bound at run time.
    NonZero { count: Dim },
    /// `(x: [n, features])`: the trees' aggregated scores, `[n, targets]`.
    TreeEnsemble(Box<TreeEnsemble>),
}

/// A floating-point attribute that compares and hashes by its bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct F64(u64);

impl F64 {
    /// Its value.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl From<f64> for F64 {
    fn from(v: f64) -> F64 {
        F64(v.to_bits())
    }
}

impl std::fmt::Debug for F64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.get())
    }
}

/// Element-wise functions of one operand. Result type is the operand's, `Bool` for the predicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum UnaryOp {
    Neg,
    Abs,
    Sign,
    Floor,
    Ceil,
    /// To the nearest integer, ties to even.
    Round,
    Sqrt,
    Reciprocal,
    Exp,
    Log,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `log(1 + exp(x))` without overflow.
    Softplus,
    /// Logical, on `Bool`.
    Not,
    /// Bitwise, on integers.
    BitNot,
    IsNan,
    IsInf,
}

/// Element-wise functions of two operands of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    /// Integers truncate towards zero; division by zero gives zero.
    Div,
    Pow,
    /// NaN wins.
    Min,
    /// NaN wins.
    Max,
    /// The divisor's sign (numpy `mod`).
    Mod,
    /// The dividend's sign (C `fmod`).
    Rem,
    /// Logical on `Bool`, bitwise on integers.
    And,
    /// Logical on `Bool`, bitwise on integers.
    Or,
    /// Logical on `Bool`, bitwise on integers.
    Xor,
    /// By the type's width or more gives zero.
    ShiftLeft,
    /// Logical; by the type's width or more gives zero.
    ShiftRight,
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl BinaryOp {
    /// Whether the result is `Bool` whatever the operands' type.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Equal | Less | LessOrEqual | Greater | GreaterOrEqual)
    }
}

/// One axis of a slice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Range {
    /// First index taken.
    pub start: Dim,
    /// Distance between elements; not 0.
    pub step: i64,
    /// How many.
    pub len: Dim,
}

impl Range {
    /// All of an axis.
    pub fn full(extent: &Dim) -> Range {
        Range { start: Dim::ZERO, step: 1, len: extent.clone() }
    }
}

/// What padding is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PadMode {
    /// The operand `value`.
    Constant,
    /// The border element.
    Edge,
    /// Mirrored without the border element.
    Reflect,
    /// From the other end.
    Wrap,
}

/// How scattered elements meet what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ScatterReduction {
    /// Replace.
    None,
    Add,
    Mul,
    Max,
    Min,
}

/// Where activations keep their channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[batch, channels, d...]`, as ONNX has it.
    ChannelsFirst,
    /// `[batch, d..., channels]`.
    ChannelsLast,
}

/// Attributes shared by convolutions. All vectors have one element a spatial axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConvSpec {
    /// Step between windows.
    pub strides: Vec<i64>,
    /// Step between a window's elements.
    pub dilations: Vec<i64>,
    /// Zeros before and after each axis.
    pub pads: Vec<(i64, i64)>,
    /// Channel groups.
    pub group: usize,
    /// Layout of the activations.
    pub layout: Layout,
}

/// Attributes of pooling. All vectors have one element a spatial axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolSpec {
    /// What is computed of a window.
    pub kind: PoolKind,
    /// Window extents.
    pub kernel: Vec<i64>,
    /// Step between windows.
    pub strides: Vec<i64>,
    /// Step between a window's elements.
    pub dilations: Vec<i64>,
    /// Padding before and after each axis.
    pub pads: Vec<(i64, i64)>,
    /// Whether a last, partial window counts (it must start inside the data or its near padding).
    pub ceil: bool,
    /// Layout of the activations.
    pub layout: Layout,
}

/// What pooling computes of a window; elements outside the data never count as values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// Largest element.
    Max,
    /// Mean, over the elements inside the data, or inside data and padding when `include_pad`.
    Average {
        /// Whether padding counts in the divisor.
        include_pad: bool,
    },
    /// `(sum |x|^p)^(1/p)`.
    Lp {
        /// Exponent.
        p: u32,
    },
}

/// Reductions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ReduceKind {
    Sum,
    Mean,
    Prod,
    Min,
    Max,
}

/// Running reductions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CumulativeKind {
    Sum,
    Prod,
}

/// ONNX Resize, its `sizes` apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResizeRule {
    /// Interpolation.
    pub mode: SampleMode,
    /// How a result coordinate becomes an operand coordinate.
    pub coordinates: CoordinateMode,
    /// How `nearest` rounds.
    pub nearest: NearestMode,
    /// Result extent over operand extent, an axis; 1 for axes that stay; 0 where it is exactly the quotient of extents
    /// that run time knows. See [`ResizeRule::scale`].
    pub scales: Vec<F64>,
    /// Cubic coefficient `a`.
    pub cubic_a: F64,
    /// Cubic, linear: weights outside the data are dropped and the rest rescaled.
    pub exclude_outside: bool,
    /// Widen the filter when shrinking.
    pub antialias: bool,
    /// Value outside for `TfCropAndResize`.
    pub extrapolation: F64,
    /// `TfCropAndResize`: normalised start and end, an axis.
    pub roi: Vec<(F64, F64)>,
}

impl ResizeRule {
    /// The scale of an axis whose operand has `extent` elements and whose result has `size`.
    pub fn scale(&self, axis: usize, extent: usize, size: usize) -> f64 {
        match self.scales.get(axis).map_or(1.0, |s| s.get()) {
            0.0 => size as f64 / extent as f64,
            scale => scale,
        }
    }
}

/// Interpolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SampleMode {
    Nearest,
    Linear,
    Cubic,
}

/// ONNX `coordinate_transformation_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CoordinateMode {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfCropAndResize,
}

/// ONNX `nearest_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum NearestMode {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

/// ONNX GridSample `padding_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SamplePadding {
    Zeros,
    Border,
    Reflection,
}

/// One direction of a recurrent layer. Gate order is ONNX's: LSTM `i o f c`, GRU `z r h`.
///
/// Operands after `h0`: for LSTM `c0: [batch, hidden]`; for GRU with `linear_before_reset` `rbh: [hidden]` (the
/// hidden gate's recurrence bias, which the projection then leaves out); then, when `peephole`, `p: [3*hidden]`
/// (`i o f`); last, when `lengths`, `lengths: i64[batch]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CellSpec {
    /// Which recurrence.
    pub cell: Cell,
    /// Whether time runs backwards.
    pub reverse: bool,
    /// Gate activations `f`, `g`, `h` (unused ones repeat the last).
    pub activations: [Activation; 3],
    /// Clamp of the gates' inputs, if any.
    pub clip: Option<F64>,
    /// Whether the operand `p` is there.
    pub peephole: bool,
    /// Whether input and forget gate are coupled (LSTM).
    pub coupled: bool,
    /// Whether the operand `lengths` is there: steps past a sequence's length give zeros and keep the state.
    pub lengths: bool,
    /// Whether each step multiplies `r` by the hidden state rounded to 8 bits: to `scale * (q - zero)` with `q` in
    /// `0..=255`, where scale and zero point span the sequence's state and 0 (dynamic quantization).
    pub quantized: bool,
}

/// Recurrences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cell {
    /// One gate.
    Rnn,
    /// Three gates.
    Gru {
        /// Whether the reset gate multiplies after the recurrence's linear part.
        linear_before_reset: bool,
    },
    /// Four gates.
    Lstm,
}

impl Cell {
    /// Gates, which is the factor between `hidden` and the projection's width.
    pub fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru { .. } => 3,
            Cell::Lstm => 4,
        }
    }
}

/// A gate's activation with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Activation {
    Sigmoid,
    Tanh,
    Relu,
    LeakyRelu { alpha: F64 },
    ThresholdedRelu { alpha: F64 },
    ScaledTanh { alpha: F64, beta: F64 },
    HardSigmoid { alpha: F64, beta: F64 },
    Elu { alpha: F64 },
    Affine { alpha: F64, beta: F64 },
    Softsign,
    Softplus,
}

/// Decision trees in one array; a node's children and leaves follow ONNX `ai.onnx.ml` TreeEnsemble.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TreeEnsemble {
    /// Root node of each tree.
    pub roots: Vec<u32>,
    /// All inner nodes.
    pub nodes: Vec<TreeNode>,
    /// All leaves' votes: target and weight; a leaf owns a run of them.
    pub votes: Vec<(u32, F64)>,
    /// How the trees' votes meet.
    pub aggregate: ReduceKind,
    /// Columns of the result.
    pub targets: usize,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TreeNode {
    /// Column of `x` it looks at.
    pub feature: u32,
    /// Comparison of the feature with `value`; a true one goes to `yes`.
    pub test: BinaryOp,
    /// What it is compared with, in the operand's type.
    pub value: F64,
    /// Whether a missing value (NaN) counts as true.
    pub missing_is_true: bool,
    /// Next node or leaf when true.
    pub yes: TreeEdge,
    /// Next node or leaf when false.
    pub no: TreeEdge,
}

/// Where a decision leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TreeEdge {
    /// To another decision.
    Node(u32),
    /// To a run of votes: first and count.
    Leaf(u32, u32),
}

impl Op {
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
            Op::Conv(_) => "conv",
            Op::PackedConv { .. } => "packed_conv",
            Op::WinogradConv { .. } => "winograd_conv",
            Op::DepthwiseConv(_) => "depthwise_conv",
            Op::ConvTranspose { .. } => "conv_transpose",
            Op::Col2Im { .. } => "col2im",
            Op::Pool(_) => "pool",
            Op::MaxPoolWithIndices { .. } => "max_pool_with_indices",
            Op::Reduce { .. } => "reduce",
            Op::ArgReduce { .. } => "arg_reduce",
            Op::Cumulative { .. } => "cumulative",
            Op::Softmax { .. } => "softmax",
            Op::Normalize { .. } => "normalize",
            Op::TopK { .. } => "top_k",
            Op::Recurrent(_) => "recurrent",
            Op::NonZero { .. } => "non_zero",
            Op::TreeEnsemble(_) => "tree_ensemble",
        }
    }
}
