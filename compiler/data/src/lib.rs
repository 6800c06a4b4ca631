//! Samples for a model's inputs, read one at a time from files of tensors, images, sound or text.
//!
//! Contract: everything that can be checked without running the model is checked when the samples are opened: names,
//! shapes, element types, values that are not numbers. A sample is one run of the model: a tensor per input, in the
//! order of the inputs.

mod array;
mod distance;
pub mod files;
mod find;
mod fit;
mod item;
mod labels;
mod media;
pub mod npy;
pub mod pb;
pub mod preprocess;
mod raw;
mod samples;

use mcc_ir::TensorType;

pub use distance::edit_distance;
pub use labels::{Label, Labels};
pub use preprocess::Preprocess;
pub use samples::Samples;

/// An input of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name in the model.
    pub name: String,
    /// Its type; dimensions may be symbolic.
    pub ty: TensorType,
}
