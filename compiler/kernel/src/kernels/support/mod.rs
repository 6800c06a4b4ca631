//! What kernels of all kinds are written with.

pub mod emit;
pub mod interleave;
pub mod loops;
mod relay;
pub mod request;
pub mod transpose_block;
