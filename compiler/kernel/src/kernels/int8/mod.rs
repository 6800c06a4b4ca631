//! Products and convolutions of bytes by the target's dot-product instructions.

pub mod bitmask;
pub mod depthwise;
pub mod dot;
