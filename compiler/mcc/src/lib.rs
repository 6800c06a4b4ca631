//! mcc: an ahead-of-time compiler from ONNX models to native object code, as a library. The command `mcc` uses it;
//! build scripts can use [`mcc-build`](https://docs.rs/mcc-build).
//!
//! ```
//! use mcc::{Options, Target};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/models/digits.onnx");
//! // For a phone: the object to link, and the header to include.
//! let phone = Target::new("aarch64-linux-android", Some("cortex-a76"))?;
//! let compiled = mcc::compile(model, &Options::new(vec![phone], "digits")?)?;
//! assert!(compiled.object().starts_with(b"\x7fELF"));
//! assert!(compiled.header().contains("digits_run"));
//!
//! // For this machine, loaded and run.
//! use mcc::ir::{DType, Tensor};
//! let here = Target::host(Some("native"))?;
//! let loaded = mcc::compile(model, &Options::new(vec![here], "digits")?)?.load()?;
//! let image = Tensor::from_f64s(DType::F32, vec![1, 1, 8, 8], &[0.0; 64])?;
//! let outputs = loaded.invoke(&[image])?;
//! assert_eq!(outputs[0].shape(), [1, 10]);
//! # Ok(())
//! # }
//! ```
//!
//! The results of all stages can be inspected: the optimised graph and the program print as text.
//!
//! ```
//! # use mcc::{Options, Target};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/models/digits.onnx");
//! # let compiled = mcc::compile(model, &Options::new(vec![Target::host(None)?], "digits")?)?;
//! let layers = mcc::ir::text::print_with(&compiled.graph, mcc::ir::text::Constants::Digest);
//! let kernels = compiled.program.to_string();
//! let (code, weights) = (compiled.code.text_bytes, compiled.code.weights_bytes);
//! # assert!(layers.contains("matmul") && kernels.contains("arena") && code > 0 && weights > 0);
//! # Ok(())
//! # }
//! ```
//!
//! Errors are values: [`Error`] says whose fault it is, where, and what to do; it lists all blockers that a stage
//! found.
//!
//! ```
//! use bytes::Bytes;
//! # use mcc::{Error, Options, Target};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let options = Options::new(vec![Target::host(None)?], "m")?;
//! let error = mcc::compile(Bytes::from_static(b"GIF89a"), &options).unwrap_err();
//! assert!(matches!(error, Error::InvalidModel(_)));
//! # Ok(())
//! # }
//! ```
//!
//! The stages, each a crate:
//!
//! ```text
//! bytes -> ModelProto -> Graph -> (passes) -> Graph -> Program -> object + header
//!          onnx           ir       passes              kernel     codegen
//! ```
//!
//! [`ir`] is shared by all stages; [`onnx`], [`passes`], [`kernel`] and [`codegen`] use it and the targets, not one
//! another (only `codegen` reads the [`Program`](kernel::program::Program) that `kernel` makes). [`driver`] calls them
//! in turn.

pub mod driver;
mod stack;
pub mod symbol;

pub use driver::{Compiled, Options, Source, compile};
pub use mcc_codegen as codegen;
pub use mcc_ir as ir;
pub use mcc_ir::error::{self, Error, Result};
pub use mcc_kernel as kernel;
pub use mcc_loader as loader;
pub use mcc_onnx as onnx;
pub use mcc_passes as passes;
pub use mcc_targets::{self as targets, Target};
