//! From an ONNX file to a [`Graph`]: the only place that knows the file format and operator-set versions.
//!
//! Contract: the resulting graph has one meaning, whatever versions its operators had. Functions are expanded, constant
//! conditions and loops of constant length unrolled, composite operators decomposed, shape computations turned into
//! attributes. Anything not supported is an error that names the node and the operator; all unsupported operators are
//! listed at once.
//!
//! - `foreign`: recognises other kinds of files. [`mod@file`]: maps files. [`tensor`]: reads tensors.
//! - `order`: the nodes that are needed, and their order. `hints`: declared types of results. `sharing`: whether
//!   dimensions with the same name are equal.
//! - `import`: walks graphs, subgraphs and functions, and resolves names.
//! - [`limits`]: bounds on the expansion of a model.
//! - `ops`: one function per operator, in one table.
//! - `builder`, `content`: the graph under construction, and the known elements of small tensors.

mod builder;
mod content;
pub mod file;
mod foreign;
mod hints;
mod import;
mod inputs;
pub mod limits;
pub mod node;
mod ops;
pub mod order;
mod sharing;
pub mod tensor;
#[cfg(test)]
mod tests;

use std::path::Path;

use bytes::Bytes;
use mcc_proto::{Message, ModelProto};

use mcc_ir::{Error, Graph, Result, Tensor};

/// Parts of a model's inputs that the caller pins.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Extents of named dimensions.
    pub dims: Vec<(String, i64)>,
    /// Shapes of inputs; a negative extent leaves that axis as the model has it.
    pub shapes: Vec<(String, Vec<i64>)>,
    /// Inputs with known elements, such as axes or scales that a model reads at run time. They stay inputs; the
    /// compiled model checks that their elements are these.
    pub values: Vec<(String, Tensor)>,
    /// Whether indices in data are required to be in range.
    pub check_indices: bool,
    /// Bounds on the expansion of the model.
    pub limits: limits::Limits,
}

/// Maximum number of elements of a pinned input, since each is checked at run time.
pub const MAX_PINNED: usize = 64;

/// Domain and name of every operator with an importer; operators that ONNX defines as functions are expanded in
/// addition.
pub fn operators() -> impl Iterator<Item = (&'static str, &'static str)> {
    ops::operators()
}

/// How the decoder's message ends if messages are nested more deeply than it reads.
const TOO_DEEP: &str = "recursion limit reached";

/// Imports the model in a file. Its weights stay in the file: the graph's constants are slices of its map.
///
/// # Errors
/// When the file cannot be read, is not a valid model, or needs something that is not supported.
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
/// When the bytes are not a valid model, or it needs something that is not supported.
pub fn import(bytes: Bytes, directory: Option<&Path>, options: &Options) -> Result<Graph> {
    let size = bytes.len();
    foreign::refuse(&bytes)?;
    let broken = |e: mcc_proto::DecodeError| match e.to_string() {
        text if text.ends_with(TOO_DEEP) => Error::unsupported("graphs or types are nested too deeply")
            .help("protobuf messages may be nested 100 deep, which is about 30 graphs within graphs"),
        text => Error::invalid(format!("not an ONNX model: {text}")).help("is the file complete?"),
    };
    let model = ModelProto::decode(bytes).map_err(broken)?;
    import::model(&model, size, directory, options)
}
