//! How images, sound and text become tensors.

use std::path::Path;

use mcc_ir::{Error, Result};

/// How the files of samples become a model's inputs.
#[derive(Debug, Clone)]
pub struct Preprocess(());

impl Preprocess {
    /// Reads a file of preprocessing.
    ///
    /// # Errors
    /// Always, so far.
    pub fn open(file: &Path) -> Result<Preprocess> {
        Err(Error::unsupported(format!("{}: preprocessing", file.display())))
    }
}
