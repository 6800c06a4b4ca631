//! Maps files into memory: the model itself, and the external data that it names.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use mcc_ir::{Error, Result};

/// Maps a file. The bytes stay valid while any slice of them lives.
///
/// # Errors
/// When the file cannot be opened or mapped.
pub fn map(path: &Path) -> Result<Bytes> {
    let failed = |e: &std::io::Error| Error::io(path.display(), e);
    let file = open_regular(path)?;
    let meta = file.metadata().map_err(|e| failed(&e))?;
    if meta.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is private and read-only. If another process truncates the file meanwhile, reading faults. This
    // is accepted in order not to hold a second copy of gigabytes of weights, and the file is the user's own.
    #[allow(unsafe_code)]
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| failed(&e))?;
    Ok(Bytes::from_owner(map))
}

/// Opens a file to read. Pipes and devices are refused: reading the first may wait, reading the second may not end.
///
/// # Errors
/// When there is no such file, it cannot be opened, or it is not a regular one.
pub fn open_regular(path: &Path) -> Result<File> {
    let failed = |e: &std::io::Error| Error::io(path.display(), e);
    let regular = |meta: std::io::Result<std::fs::Metadata>| match meta {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(failed(&std::io::Error::other("not a regular file"))),
        Err(e) => Err(failed(&e)),
    };
    regular(std::fs::metadata(path))?;
    let file = File::open(path).map_err(|e| failed(&e))?;
    // The path may name another file by now.
    regular(file.metadata())?;
    Ok(file)
}

/// The text of a file.
///
/// # Errors
/// As [`open_regular`], and when it is not text.
pub fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    open_regular(path)?.read_to_string(&mut text).map_err(|e| Error::io(path.display(), &e))?;
    Ok(text)
}

/// External data files of one model, each mapped once.
pub struct ExternalData {
    directory: Option<PathBuf>,
    mapped: HashMap<PathBuf, Bytes>,
}

impl ExternalData {
    /// Looks up files in `directory`, the model's; `None` if the model was given as bytes.
    pub fn new(directory: Option<&Path>) -> ExternalData {
        ExternalData { directory: directory.map(Path::to_path_buf), mapped: HashMap::new() }
    }

    /// The files that were mapped, in a deterministic order.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.mapped.keys().cloned().collect();
        files.sort();
        files
    }

    /// The bytes `offset..offset+length` of a file, or to its end without a length.
    ///
    /// # Errors
    /// When the path leaves the model's directory, or the range exceeds the file.
    pub fn read(&mut self, location: &str, offset: usize, length: Option<usize>) -> Result<Bytes> {
        let file = self.open(location)?;
        let end = match length {
            Some(n) => offset.checked_add(n),
            None => Some(file.len()),
        };
        match end {
            Some(end) if offset <= end && end <= file.len() => Ok(file.slice(offset..end)),
            _ => Err(Error::invalid(format!(
                "external data \"{location}\" has {} bytes, but the tensor's bytes are declared to start at {offset}{}",
                file.len(),
                length.map_or(String::new(), |n| format!(" and to be {n}")),
            ))),
        }
    }

    fn open(&mut self, location: &str) -> Result<Bytes> {
        let Some(directory) = &self.directory else {
            return Err(Error::invalid(format!(
                "external data \"{location}\" of a model that was not read from a file"
            )));
        };
        let relative = Path::new(location);
        let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let outside = || {
            Error::invalid(format!("external data \"{location}\" lies outside the model's directory"))
                .help("the path must be relative, without \"..\", and not a link out of the directory")
        };
        if !plain || location.is_empty() {
            return Err(outside());
        }
        let path = directory.join(relative);
        let real = path.canonicalize().map_err(|e| Error::io(path.display(), &e))?;
        let root = directory.canonicalize().map_err(|e| Error::io(directory.display(), &e))?;
        if !real.starts_with(&root) {
            return Err(outside());
        }
        if let Some(bytes) = self.mapped.get(&real) {
            return Ok(bytes.clone());
        }
        let bytes = map(&real)?;
        self.mapped.insert(real, bytes.clone());
        Ok(bytes)
    }
}
