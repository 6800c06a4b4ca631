//! Products and convolutions as kernels compute them: channels last, the weights in a format of their own.
//!
//! A [`Packed`] operation is machine-level: passes make it last, from [`Op::MatMul`](super::Op::MatMul),
//! [`Op::Conv`](super::Op::Conv) and their like. What it computes is `spec`, `kernel` and `out`; by which algorithm, and in
//! which layout the weights are stored, its [`WeightFormat`] says. Each format has its layout in a file here.
//!
//! Invariants, which inference checks: `spec.pads` are zero (padding is an operation of its own) except where weights are
//! [non-zeros](WeightFormat::NonZeros), which are staged with their padding; there is no bias.

mod bitmask;
mod filtering;
mod lowbit;
mod staging;

use super::{ConvSpec, Dim, Layout};

pub use bitmask::{mask_bytes, unmask_bytes};
pub use filtering::{Filtering, Filters};
pub use lowbit::{Column, LowBit};
pub use staging::Staging;

/// A product or convolution with packed weights.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Packed {
    /// Steps of the window, channel groups, the operand's layout.
    pub spec: ConvSpec,
    /// The window's extents. Without any, the axes before the last are the rows of a matrix.
    pub kernel: Vec<i64>,
    /// Output channels.
    pub out: usize,
    /// How the weights are stored, and with it by which algorithm they are used.
    pub weights: WeightFormat,
}

/// The layouts of weights, and the operands that hold them (behind the data, `x`). `tile` is a number of output channels
/// that a register tile computes; a panel holds as many, the last one filled up with zeros.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// `(x, packed: [group, panels, kernel..., in/group, tile])`. `packed` may be of 16-bit floats where `x` is `f32`. A
    /// matrix has no format of this kind, see [`Op::PackedMatMul`](super::Op::PackedMatMul).
    Dense,
    /// `(x, w: [kernel..., channels])`: one filter per channel; `spec.group` and `out` are the channels.
    Depthwise,
    /// `(x: u8 or i8, packed: i8[group, panels, taps, steps, tile, 4])`: sums are `i32` and wrap. A window is
    /// [`ConvSpec::runs`]: `taps` runs of contiguous elements, which the weights hold in steps of four, filled up with zeros.
    /// With a `bitmask` the operands are `(x, masks, values, heads)` instead, see [`mask_bytes`].
    Int8 {
        /// Whether zeros are left out.
        bitmask: bool,
    },
    /// `(x: u8 or i8, packed: i8[lines, quads, columns, lanes, 4])`: one filter per channel; sums are `i32` and wrap. Of the
    /// last two axes of the window, rows and columns (a single one is that of rows), the weights of four rows lie side by
    /// side, filled up with zeros; the elements of the other axes are lines. There are lanes for all channels at least.
    Int8Depthwise,
    /// `(x, heads: i32[panels + 1], offsets: i32[blocks], values: f32[blocks, tile] or i8[blocks, tile, 4])`: only blocks
    /// that are not all zeros, those from `heads[p]` to before `heads[p + 1]` for panel `p`. A block of floats is multiplied
    /// with the element of `x: f32` that lies `offset` elements behind a window's first one; a block of bytes with four
    /// adjacent ones of `x: u8 or i8` from there on, in sums of `i32`, which wrap. The spatial extents of `x` are constant.
    Blocks,
    /// `(x, heads: i32[groups + 1], slots: u8[groups * abreast], offsets: u16 or i32[n / shared], values: f32[n])`: single
    /// non-zeros. Those of a group of output channels, whose places in their block are its slots, in a slice of the input
    /// channels stand from the group's head to the next one, the channels taking turns. Each is a value and an offset (which
    /// `shared` channels of the group have in common) in [`Staging::unit`]s of staged planes. Where `x` is `u8` or `i8`,
    /// channels last and with a multiple of four channels, `values` are `i8[n, 4]` for four channels each; sums are `i32` and
    /// wrap. `spec.layout` is the operand's.
    NonZeros {
        /// The planes.
        staging: Staging,
        /// Layout of the result.
        stored: Layout,
    },
    /// `(x: f32, codes: i32[panels, words, tile], scales: f32 or f16[panels, blocks, tile], [zeros: i8 or i16[panels, blocks,
    /// tile], or table: f32[16 or 256]])`: weights as codes of few bits, in one group.
    LowBit(LowBit),
    /// `(x: [batch, h, w, in] or [batch, h, in], packed: [planes, panels, in, columns])`: minimal filtering ([`Filtering`]) in
    /// one group with unit strides. Each tile of results is computed in transformed space, where it is a matrix product per
    /// plane. Weights are transformed, or (where `x` is `f32`) not: then they are `[taps, panels, in, columns]`, of `f32` or
    /// 16-bit floats, or codes with the operands of [`WeightFormat::LowBit`].
    Filtered {
        /// Results of a tile along each axis.
        tile: Vec<i64>,
        /// The results' spatial extents, which the rows and columns of `x` are for, in whole tiles ([`Filtering::extent`]).
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
    /// Short name of an operation with such weights, as in the text form and in kernels' names.
    pub fn name(&self) -> &'static str {
        match self {
            WeightFormat::Dense => "packed_conv",
            WeightFormat::Depthwise => "depthwise_conv",
            WeightFormat::Int8 { .. } => "dot_conv",
            WeightFormat::Int8Depthwise => "dot_depthwise",
            WeightFormat::Blocks => "block_conv",
            WeightFormat::NonZeros { .. } => "sparse_conv",
            WeightFormat::LowBit(_) => "coded_conv",
            WeightFormat::Filtered { .. } => "winograd_conv",
        }
    }

    /// The least and the largest number of operands, the data among them.
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
