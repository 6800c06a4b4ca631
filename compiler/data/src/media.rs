//! Samples that are not tensors yet: images, sound, text.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mcc_ir::{Error, Result};
use mcc_onnx::file::{open_regular, read_text};

use crate::files::{Kind, below, relative};
use crate::find::{Found, Item, Source};
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

/// The samples of a kind in `data`: files, or lines of files.
pub fn samples(data: &[PathBuf], kind: Kinds) -> Found {
    let mut found = Found::default();
    for path in data {
        match std::fs::metadata(path) {
            Err(e) => found.faults.push(Error::io(path.display(), &e)),
            Ok(meta) if meta.is_dir() => match below(path, &|file| wanted(file, kind)) {
                Ok(files) if files.is_empty() => found.faults.push(none_below(path, kind)),
                Ok(files) => files.iter().for_each(|file| add(file, &relative(file, path), kind, &mut found)),
                Err(e) => found.faults.push(e),
            },
            Ok(_) => add(path, &path.display().to_string(), kind, &mut found),
        }
    }
    found
}

/// Whether a file in a folder is a sample; folders of pictures and sound may hold other files too.
fn wanted(file: &Path, kind: Kinds) -> bool {
    match kind {
        Kinds::Image => Kind::of(file) == Kind::Image,
        Kinds::Sound => Kind::of(file) == Kind::Sound,
        Kinds::Text | Kinds::Lines | Kinds::Bytes => true,
    }
}

fn none_below(folder: &Path, kind: Kinds) -> Error {
    let what = match kind {
        Kinds::Image => "pictures",
        Kinds::Sound => "sound",
        _ => "files",
    };
    let error = Error::invalid(format!("{}: no {what} at or below it", folder.display()));
    let extensions = Kind::Image.extensions().chain(Kind::Sound.extensions()).collect::<Vec<_>>();
    error.help(format!("pictures and sound are known by their names' ends: {}", extensions.join(", ")))
}

fn add(file: &Path, name: &str, kind: Kinds, found: &mut Found) {
    let item = || Item { name: name.to_string(), source: Source::Raw(Raw::File { kind, path: file.to_path_buf() }) };
    let added = match kind {
        Kinds::Image => image::probe(file).map(|()| vec![item()]),
        Kinds::Sound => sound::probe(file).map(|()| vec![item()]),
        Kinds::Text | Kinds::Bytes => Ok(vec![item()]),
        Kinds::Lines => lines(file, name),
    };
    found.keep(added);
}

/// A sample for each line that is not empty, by its number.
fn lines(file: &Path, name: &str) -> Result<Vec<Item>> {
    let text = read_text(file)?;
    let path = Arc::new(file.to_path_buf());
    let (mut items, mut start) = (Vec::new(), 0);
    for (n, line) in text.split_inclusive('\n').enumerate() {
        let length = line.trim_end_matches(['\n', '\r']).len();
        if length > 0 {
            let raw = Raw::Line { path: path.clone(), start, length };
            items.push(Item { name: format!("{name}:{}", n + 1), source: Source::Raw(raw) });
        }
        start += line.len() as u64;
    }
    Ok(items)
}
