//! Building blocks of all kernels.

pub mod emit;
pub mod interleave;
pub mod loops;
mod relay;
pub mod request;
pub mod transpose_block;
