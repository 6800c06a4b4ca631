//! Convolutions and pooling: sliding windows over an operand.
//!
//! | file | what |
//! |---|---|
//! | [`direct`] | channels first, few channels or odd shapes: one output row at a time |
//! | [`depthwise`] | a filter per channel, channels last |
//! | [`separable`] | a depthwise convolution followed by a 1x1 convolution, in one kernel |
//! | [`winograd`], [`winograd_maps`], [`winograd_weights`] | minimal filtering, its maps, and its transformed weights |
//! | [`col2im`] | the sums of a transposed convolution |
//! | [`pool`] | maxima, means and norms of windows |
//!
//! Convolutions as matrix products are in [`gemm::packed`](super::gemm::packed), those of bytes in [`int8`](super::int8).

pub mod col2im;
pub mod depthwise;
pub mod direct;
pub mod pool;
pub mod separable;
pub mod winograd;
mod winograd_maps;
pub mod winograd_weights;
