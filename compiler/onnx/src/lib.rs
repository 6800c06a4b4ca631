//! From an ONNX file to a [`Graph`]: the only place that knows the file format and operator-set versions.
//!
//! Contract: a graph that comes out has one meaning, whatever version its operators came from. Functions are
//! expanded, constant conditions and loops of constant length unrolled, composite operators taken apart, shape
//! computations turned into attributes. What mcc cannot do is an error that names the node and the operator; all
//! operators that are not supported are listed at once.
//!
//! - `foreign`: what other files are. [`mod@file`]: maps files; [`tensor`]: their tensors.
//! - `order`: which nodes are needed, and in which order; `hints`: what a file declares of results;
//!   `sharing`: whether dimensions of one name are one.
//! - `import`: walks graphs, subgraphs and functions, and knows what each name stands for.
//! - [`limits`]: how much a model may expand to.
//! - `ops`: one function an operator, in one table.
//! - `builder`, `content`: the graph under construction, and what is known of small tensors' elements.

mod builder;
mod content;
pub mod file;
mod foreign;
mod hints;
mod import;
mod inputs;
pub mod limits;
mod node;
mod ops;
mod order;
mod sharing;
pub mod tensor;
#[cfg(test)]
mod tests;

use std::path::Path;

use bytes::Bytes;
use mcc_proto::{Message, ModelProto};

use mcc_ir::{Error, Graph, Result, Tensor};

/// What the caller pins of a model's inputs.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Extents of named dimensions.
    pub dims: Vec<(String, i64)>,
    /// Shapes of inputs; a negative extent leaves that axis as the model has it.
    pub shapes: Vec<(String, Vec<i64>)>,
    /// Inputs whose elements are known, such as axes or scales that a model takes at run time. They stay inputs; the
    /// compiled model checks that they are what it was compiled for.
    pub values: Vec<(String, Tensor)>,
    /// Whether indices that the data hold are required to be in range.
    pub check_indices: bool,
    /// What importing may cost.
    pub limits: limits::Limits,
}

/// Elements that a pinned input may have at most: each is checked at run time.
pub const MAX_PINNED: usize = 64;

/// Every operator that mcc imports, by domain and name; operators that ONNX defines as functions come on top of these.
pub fn operators() -> impl Iterator<Item = (&'static str, &'static str)> {
    ops::operators()
}

/// Imports the model in a file. Its weights stay in the file: the graph's constants are windows of its map.
///
/// # Errors
/// When the file cannot be read, is no valid model, or asks for something that is not supported.
pub fn import_file(path: &Path, options: &Options) -> Result<Graph> {
    let bytes = file::map(path)?;
    let directory = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    import(bytes, Some(directory), options).map_err(|e| e.within(path.display().to_string()))
}

/// Imports a model's bytes; external data is looked up in `directory`.
///
/// # Errors
/// When the bytes are no valid model, or it asks for something that is not supported.
pub fn import(bytes: Bytes, directory: Option<&Path>, options: &Options) -> Result<Graph> {
    let size = bytes.len();
    foreign::refuse(&bytes)?;
    let broken = |e| Error::invalid(format!("not an ONNX model: {e}")).help("is the file whole, and not cut short?");
    let model = ModelProto::decode(bytes).map_err(broken)?;
    import::model(&model, size, directory, options)
}
