//! mcc: an ahead-of-time compiler from ONNX models to native object code.
//!
//! One way through, each stage in a room of its own:
//!
//! ```text
//! bytes -> ModelProto -> Graph -> (passes) -> Graph -> Program -> object + header
//!          onnx/         ir/      passes/             lower/     codegen/
//! ```
//!
//! [`ir`] is what the stages share; [`onnx`], [`passes`], [`lower`] and `codegen` know it and the targets, not
//! one another (`codegen` reads the `Program` that `lower` makes).

pub mod codegen;
pub mod driver;
pub mod error;
#[cfg(all(test, unix))]
mod fuzz;
pub mod ir;
pub mod loader;
pub mod lower;
pub mod onnx;
pub mod passes;
pub mod symbol;

pub use error::{Error, Result};
