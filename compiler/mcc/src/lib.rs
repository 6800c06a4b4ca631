//! mcc: an ahead-of-time compiler from ONNX models to native object code.
//!
//! One way through, each stage a crate of its own:
//!
//! ```text
//! bytes -> ModelProto -> Graph -> (passes) -> Graph -> Program -> object + header
//!          onnx           ir       passes              kernel     codegen
//! ```
//!
//! [`ir`] is what the stages share; [`onnx`], [`passes`], [`kernel`] and [`codegen`] know it and the targets, not
//! one another (`codegen` reads the [`Program`](kernel::program::Program) that `kernel` makes). [`driver`] goes the way.

pub mod driver;
pub mod symbol;

pub use mcc_codegen as codegen;
pub use mcc_ir as ir;
pub use mcc_ir::error::{self, Error, Result};
pub use mcc_kernel as kernel;
pub use mcc_loader as loader;
pub use mcc_onnx as onnx;
pub use mcc_passes as passes;
