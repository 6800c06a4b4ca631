//! The graph IR: the meaning of a model, independent of the file it came from and of the machine it will run on.
//!
//! - [`DType`], [`Dim`], [`TensorType`]: the type of a value; dimensions are constants or expressions over symbols.
//! - [`Op`]: one closed enum of primitives. Almost all matches outside of passes name every primitive, so the
//!   compiler lists the places that a new one needs.
//! - [`Graph`]: nodes and values with a small editing API; every node's result types are inferred when it is added.
//! - [`If`]: graphs within a graph.
//! - [`Tensor`]: constant data.
//! - [`Decision`]: the choices made for a layer, for reports.

mod attributes;
pub mod bounds;
mod decisions;
mod dim;
mod dtype;
pub mod error;
pub mod eval;
mod graph;
mod infer;
mod map_dims;
mod op;
mod packed;
pub mod random;
mod requirement;
pub mod samples;
mod tensor;
pub mod text;
mod traits;
mod verify;

pub use attributes::*;
pub use decisions::{Decision, Decisions, Subject};
pub use dim::{Dim, DimNode, Rule, Sym};
pub use dtype::{DType, DTypeClass};
pub use error::{Error, Result};
pub use graph::region::If;
pub use graph::{Graph, NodeId, Output, Outputs, Value};
pub use infer::{Inferred, infer};
pub use op::*;
pub use packed::{Column, Filtering, Filters, LowBit, Packed, Staging, WeightFormat, mask_bytes, unmask_bytes};
pub use random::Random;
pub use requirement::{Condition, MAX_BYTES, Requirement, Requirements};
pub use tensor::{Tensor, TensorType};
pub use traits::Traits;
pub use verify::{Stage, verify, verify_at};
