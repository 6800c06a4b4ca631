//! What a sample is before it becomes tensors.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use mcc_ir::{Error, Result};
use mcc_onnx::file::{open_regular, read_text};

use crate::preprocess::schema::Source as Kinds;
use crate::preprocess::value::Value;
use crate::preprocess::{image, sound};

/// Where a sample is.
#[derive(Debug, Clone)]
pub enum Raw {
    /// A file of a kind.
    File { kind: Kinds, path: PathBuf },
    /// Bytes of a file of text.
    Line { path: Arc<PathBuf>, start: u64, length: usize },
}

impl Raw {
    /// Reads the sample.
    ///
    /// # Errors
    /// When the file cannot be read, or is of another kind.
    pub fn read(&self) -> Result<Value> {
        match self {
            Raw::File { kind: Kinds::Image, path } => image::read(path).map(Value::Picture),
            Raw::File { kind: Kinds::Sound, path } => sound::read(path).map(Value::Sound),
            Raw::File { kind: Kinds::Text | Kinds::Lines, path } => read_text(path).map(Value::Text),
            Raw::File { kind: Kinds::Bytes, path } => {
                let mut bytes = Vec::new();
                let read = open_regular(path)?.read_to_end(&mut bytes);
                read.map_err(|e| Error::io(path.display(), &e)).map(|_| Value::Bytes(bytes))
            }
            Raw::Line { path, start, length } => {
                let failed = |e: std::io::Error| Error::io(path.display(), &e);
                let (mut file, mut bytes) = (open_regular(path)?, Vec::new());
                file.seek(SeekFrom::Start(*start)).map_err(failed)?;
                file.take(*length as u64).read_to_end(&mut bytes).map_err(failed)?;
                let text = String::from_utf8(bytes);
                text.map(Value::Text).map_err(|_| Error::invalid(format!("{}: not text in UTF-8", path.display())))
            }
        }
    }
}
