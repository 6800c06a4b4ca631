//! Lowering: every decision. A [`Graph`](crate::ir::Graph) becomes a [`program::Program`]: plain data.
//!
//! - [`kir`], [`program`]: what comes out.
//! - [`kernels`]: one file an operator family: how an operation becomes loops.
//! - [`expr`]: element-wise expressions, alone or as the epilogue of another kernel.
//! - [`numbers`], [`scalar`]: how element types live in registers, and element-wise functions on them.

pub mod expr;
pub mod kernels;
pub mod kir;
pub mod numbers;
pub mod program;
pub mod scalar;
