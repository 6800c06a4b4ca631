//! Samples that are not tensors yet: images, sound, text.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mcc_ir::{Error, Result};
use mcc_onnx::file::read_text;

use crate::files::{Kind, below, relative};
use crate::item::{Found, Item, Source};
use crate::preprocess::schema::Source as Kinds;
use crate::preprocess::{image, sound};
use crate::raw::Raw;

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
