//! Parameters of operations: functions, modes, and the attributes of the larger primitives.

use super::Dim;
use crate::packed::lowbit::LowBit;

/// A floating-point attribute, compared and hashed by its bits.
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

/// Element-wise functions of one operand. The result has the operand's type; predicates give `Bool`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum UnaryOp {
    Neg,
    Abs,
    Sign,
    Floor,
    Ceil,
    /// Rounds to the nearest integer, ties to even.
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
    /// `x Φ(x)` with the normal distribution's `Φ(x) = (1 + erf(x / √2)) / 2`; 0 at negative infinity.
    Gelu,
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

/// Element-wise functions of two operands with the same type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    /// Integers truncate towards zero; division by zero gives zero.
    Div,
    Pow,
    /// If an operand is NaN, so is the result.
    Min,
    /// If an operand is NaN, so is the result.
    Max,
    /// The result has the divisor's sign (numpy `mod`).
    Mod,
    /// The result has the dividend's sign (C `fmod`).
    Rem,
    /// Logical on `Bool`, bitwise on integers.
    And,
    /// Logical on `Bool`, bitwise on integers.
    Or,
    /// Logical on `Bool`, bitwise on integers.
    Xor,
    /// Shifting by the type's width or more gives zero.
    ShiftLeft,
    /// Logical; shifting by the type's width or more gives zero.
    ShiftRight,
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl BinaryOp {
    /// Whether the result is `Bool` for any operand type.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Equal | Less | LessOrEqual | Greater | GreaterOrEqual)
    }
}

/// One axis of a slice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Range {
    /// First index.
    pub start: Dim,
    /// Distance between elements; not 0.
    pub step: i64,
    /// Number of elements.
    pub len: Dim,
}

impl Range {
    /// All of an axis.
    pub fn full(extent: &Dim) -> Range {
        Range { start: Dim::ZERO, step: 1, len: extent.clone() }
    }
}

/// The elements that padding adds.
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

/// How updates are combined with existing elements.
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

/// Position of the channel axis of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[batch, channels, d...]`, as in ONNX.
    ChannelsFirst,
    /// `[batch, d..., channels]`.
    ChannelsLast,
}

impl Layout {
    /// The channel axis of a tensor with this rank.
    pub fn channels(self, rank: usize) -> usize {
        match self {
            Layout::ChannelsFirst => 1,
            Layout::ChannelsLast => rank.wrapping_sub(1),
        }
    }
}

/// Attributes shared by convolutions. All vectors have one element per spatial axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConvSpec {
    /// Distance between windows.
    pub strides: Vec<i64>,
    /// Distance between a window's elements.
    pub dilations: Vec<i64>,
    /// Zeros before and after each axis.
    pub pads: Vec<(i64, i64)>,
    /// Channel groups.
    pub group: usize,
    /// Layout of the activations.
    pub layout: Layout,
}

impl ConvSpec {
    /// A product with a matrix: there are no spatial axes, and all axes but the channels are rows.
    pub fn matrix() -> ConvSpec {
        let (strides, dilations, pads) = (Vec::new(), Vec::new(), Vec::new());
        ConvSpec { strides, dilations, pads, group: 1, layout: Layout::ChannelsLast }
    }

    /// A channels-last window as runs of contiguous elements, in a group of `channels`: their number and length. The
    /// last kernel axis is part of the run if its elements are adjacent.
    pub fn runs(&self, kernel: &[i64], channels: &Dim) -> (i64, Dim) {
        match kernel.split_last() {
            Some((&last, outer)) if self.joins_last() => (outer.iter().product(), channels * &Dim::from(last)),
            _ => (kernel.iter().product(), channels.clone()),
        }
    }

    /// Whether a channels-last window's elements along the last spatial axis are contiguous.
    pub fn joins_last(&self) -> bool {
        self.group == 1 && self.dilations.last() == Some(&1)
    }

    /// The same with one more spatial axis at the end, along which windows have one element.
    #[must_use]
    pub fn with_axis(&self) -> ConvSpec {
        let mut spec = self.clone();
        spec.strides.push(1);
        spec.dilations.push(1);
        spec.pads.push((0, 0));
        spec
    }
}

/// Lines, rows and columns of a depthwise window of bytes; a window along one axis is a column.
pub fn planes(kernel: &[i64]) -> [i64; 3] {
    match kernel {
        [outer @ .., rows, columns] => [outer.iter().product(), *rows, *columns],
        other => [1, other.iter().product(), 1],
    }
}

/// Attributes of pooling. All vectors have one element per spatial axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolSpec {
    /// The function of a window.
    pub kind: PoolKind,
    /// Window extents.
    pub kernel: Vec<i64>,
    /// Distance between windows.
    pub strides: Vec<i64>,
    /// Distance between a window's elements.
    pub dilations: Vec<i64>,
    /// Padding before and after each axis.
    pub pads: Vec<(i64, i64)>,
    /// Whether a last, partial window counts (it must start inside the data or the padding before it).
    pub ceil: bool,
    /// Layout of the activations.
    pub layout: Layout,
}

/// The function of a window; elements outside the data never count as values.
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

/// ONNX Resize, without its `sizes`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResizeRule {
    /// Interpolation.
    pub mode: SampleMode,
    /// How a result coordinate is mapped to an operand coordinate.
    pub coordinates: CoordinateMode,
    /// How `nearest` rounds.
    pub nearest: NearestMode,
    /// Result extent over operand extent, per axis; 1 for axes that stay; 0 if it is exactly the quotient of extents
    /// known at run time. See [`ResizeRule::scale`].
    pub scales: Vec<F64>,
    /// Cubic coefficient `a`.
    pub cubic_a: F64,
    /// Cubic, linear: weights outside the data are dropped and the rest rescaled.
    pub exclude_outside: bool,
    /// Whether to widen the filter when shrinking.
    pub antialias: bool,
    /// Value outside for `TfCropAndResize`.
    pub extrapolation: F64,
    /// `TfCropAndResize`: normalised start and end, per axis.
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
    /// `tf_half_pixel_for_nn`, of versions 11 and 12.
    TfHalfPixel,
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
    /// As before version 11: `Ceil` along axes that shrink, else `Floor`.
    Simple,
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
/// (`i o f`); then, when `lengths`, `lengths: i64[batch]`; then, when `quantized`, `scales`; last, when `coded`, the
/// codes' scales and, if there are any, zero points or a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CellSpec {
    /// The recurrence.
    pub cell: Cell,
    /// Whether time runs backwards.
    pub reverse: bool,
    /// Gate activations `f`, `g`, `h` (unused ones repeat the last).
    pub activations: [Activation; 3],
    /// Clamp of the gates' inputs, if any.
    pub clip: Option<F64>,
    /// Whether the operand `p` exists.
    pub peephole: bool,
    /// Whether input and forget gate are coupled (LSTM).
    pub coupled: bool,
    /// Whether the operand `lengths` exists: steps past a sequence's length give zeros and keep the state.
    pub lengths: bool,
    /// Whether each step multiplies `r` by the hidden state rounded to 8 bits: by `scale * (q - zero)` with `q` in
    /// `0..=255`, where scale and zero point span the sequence's state and 0 (dynamic quantization). The product's
    /// columns are then multiplied by one more operand, `scales: [gates*hidden]`, which is separate so that `r` may
    /// hold integers, whose sums are exact.
    pub quantized: bool,
    /// Whether `r` is codes in panels of columns, as those of [`WeightFormat::LowBit`](crate::WeightFormat::LowBit).
    pub coded: Option<LowBit>,
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
    /// Number of gates: the ratio of the projection's width to `hidden`.
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
    /// All decision nodes.
    pub nodes: Vec<TreeNode>,
    /// All leaves' votes: target and weight; a leaf owns a run of them.
    pub votes: Vec<(u32, F64)>,
    /// How the trees' votes are combined.
    pub aggregate: ReduceKind,
    /// Columns of the result.
    pub targets: usize,
}

/// A decision node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TreeNode {
    /// The column of `x` that it tests.
    pub feature: u32,
    /// The comparison of the feature with `value`; if true, `yes` follows.
    pub test: BinaryOp,
    /// The value to compare with, in the operand's type.
    pub value: F64,
    /// Whether a missing value (NaN) counts as true.
    pub missing_is_true: bool,
    /// The next node or leaf if true.
    pub yes: TreeEdge,
    /// The next node or leaf if false.
    pub no: TreeEdge,
}

/// The successor of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TreeEdge {
    /// Another decision.
    Node(u32),
    /// A run of votes: first and count.
    Leaf(u32, u32),
}
