//! Products and convolutions as kernels compute them: channels last, with packed weights.
//!
//! A [`Packed`] operation is machine-level: packing passes make it from [`Op::MatMul`](super::Op::MatMul),
//! [`Op::Conv`](super::Op::Conv) and the like. `spec`, `kernel` and `out` define the computation; the [`WeightFormat`]
//! defines the algorithm and the layout of the weights, and each format is described in a file here.
//!
//! Invariants, which inference checks: `spec.pads` are zero (padding is a separate operation), except for
//! [non-zeros](WeightFormat::NonZeros), which are staged with their padding; there is no bias.

mod bitmask;
mod filtering;
pub(crate) mod lowbit;
mod staging;

use super::{ConvSpec, Dim, Layout};

pub use bitmask::{mask_bytes, unmask_bytes};
pub use filtering::{Filtering, Filters};
pub use lowbit::{Column, LowBit};
pub use staging::Staging;

/// A product or convolution with packed weights.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Packed {
    /// Strides and dilations of the window, channel groups, the operand's layout.
    pub spec: ConvSpec,
    /// The window's extents. If empty, the axes before the last are the rows of a matrix.
    pub kernel: Vec<i64>,
    /// Output channels.
    pub out: usize,
    /// The storage format of the weights, and thus the algorithm.
    pub weights: WeightFormat,
}

/// Layouts of weights, and the operands that hold them (after the data, `x`). `tile` is the number of output channels
/// that a register tile computes; a panel holds as many, the last one padded with zeros.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// `(x, packed: [group, panels, kernel..., in/group, tile])`. If `x` is `f32`, `packed` may be of 16-bit floats.
    /// For a matrix see [`Op::PackedMatMul`](super::Op::PackedMatMul) instead.
    Dense,
    /// `(x, w: [kernel..., channels])`: one filter per channel; `spec.group` and `out` equal the number of channels.
    Depthwise,
    /// `(x: u8 or i8, packed: i8[group, panels, taps, steps, tile, 4])`: sums are `i32` and wrap. A window consists of
    /// [`ConvSpec::runs`]: `taps` runs of contiguous elements, whose weights are in steps of four, padded with zeros.
    /// With a `bitmask` the operands are `(x, masks, values, heads)` instead, see [`mask_bytes`].
    Int8 {
        /// Whether zeros are left out.
        bitmask: bool,
    },
    /// `(x: u8 or i8, packed: i8[lines, quads, columns, lanes, 4])`: one filter per channel; sums are `i32` and wrap.
    /// The last two axes of the window are rows and columns (a single axis is the rows); the weights of four rows are
    /// adjacent, padded with zeros. The elements of the other axes are lines. There are at least as many lanes as
    /// channels.
    Int8Depthwise,
    /// `(x, heads: i32[panels + 1], offsets: i32[blocks], values: f32[blocks, tile] or i8[blocks, tile, 4])`: only the
    /// non-zero blocks; panel `p` has those from `heads[p]` to `heads[p + 1] - 1`. A block of floats is multiplied by
    /// the element of `x: f32` that is `offset` elements after the start of a window; a block of bytes by the four
    /// adjacent elements of `x: u8 or i8` from there on, with `i32` sums, which wrap. The spatial extents of `x` are
    /// constant.
    Blocks,
    /// `(x, heads: i32[groups + 1], slots: u8[groups * abreast], offsets: u16 or i32[n / shared], values: f32[n])`:
    /// single non-zeros. The slots of a group are the positions of its output channels within their block. A group's
    /// non-zeros in a slice of the input channels are those from its head to the next one, the channels in turn. Each
    /// is a value and an offset (common to `shared` channels of the group) in [`Staging::unit`]s of staged planes. If
    /// `x` is `u8` or `i8`, channels last and with a multiple of four channels, `values` are `i8[n, 4]` for four
    /// channels each; sums are `i32` and wrap. `spec.layout` is the operand's.
    NonZeros {
        /// The staged planes.
        staging: Staging,
        /// Layout of the result.
        stored: Layout,
    },
    /// `(x: f32, codes: i32[panels, words, tile], scales: f32 or f16[panels, blocks, tile], [zeros: i8 or i16[panels,
    /// blocks, tile], or table: f32[16 or 256]])`: weights as low-bit codes, in one group.
    LowBit(LowBit),
    /// `(x: [batch, h, w, in] or [batch, h, in], packed: [planes, panels, in, columns])`: minimal filtering
    /// ([`Filtering`]) in one group with unit strides. Each tile of results is computed in transformed space, as a
    /// matrix product per plane. Weights are transformed, or (if `x` is `f32`) untransformed: then they are `[taps,
    /// panels, in, columns]`, of `f32` or 16-bit floats, or codes with the operands of [`WeightFormat::LowBit`].
    Filtered {
        /// Results of a tile along each axis.
        tile: Vec<i64>,
        /// The results' spatial extents; `x` has the rows and columns for whole tiles ([`Filtering::extent`]).
        size: Vec<Dim>,
        /// How the weights are stored.
        filters: Filters,
    },
}

impl Packed {
    /// The same computation with other weights.
    #[must_use]
    pub fn with(&self, weights: WeightFormat) -> Packed {
        Packed { weights, ..self.clone() }
    }

    /// Elements of a window, without its channels; 1 for a matrix.
    pub fn taps(&self) -> i64 {
        self.kernel.iter().product()
    }
}

impl WeightFormat {
    /// Short name of an operation with these weights, as in the text form and in kernels' names.
    pub fn name(&self) -> &'static str {
        match self {
            WeightFormat::Dense => "packed_conv",
            WeightFormat::Depthwise => "depthwise_conv",
            WeightFormat::Int8 { .. } => "int8_conv",
            WeightFormat::Int8Depthwise => "int8_depthwise",
            WeightFormat::Blocks => "block_conv",
            WeightFormat::NonZeros { .. } => "sparse_conv",
            WeightFormat::LowBit(_) => "lowbit_conv",
            WeightFormat::Filtered { .. } => "winograd_conv",
        }
    }

    /// The minimum and maximum number of operands, including the data.
    pub fn arity(&self) -> (usize, usize) {
        match self {
            WeightFormat::Dense | WeightFormat::Depthwise | WeightFormat::Int8Depthwise => (2, 2),
            WeightFormat::Int8 { bitmask: false } => (2, 2),
            WeightFormat::Int8 { bitmask: true } | WeightFormat::Blocks => (4, 4),
            WeightFormat::NonZeros { .. } => (5, 5),
            WeightFormat::LowBit(_) | WeightFormat::Filtered { filters: Filters::LowBit(_), .. } => (3, 4),
            WeightFormat::Filtered { .. } => (2, 2),
        }
    }
}
