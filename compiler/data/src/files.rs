//! Folders and files: what is there, and what kind each file is of, by its extension.

use std::path::{Path, PathBuf};

use mcc_ir::{Error, Result};

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An array of NumPy.
    Npy,
    /// Several arrays of NumPy, each with a name.
    Npz,
    /// A serialized tensor of ONNX.
    Pb,
    /// A picture.
    Image,
    /// Sound.
    Sound,
    /// Anything else.
    Other,
}

/// The extensions of each kind, in lower case.
const EXTENSIONS: &[(Kind, &[&str])] = &[
    (Kind::Npy, &["npy"]),
    (Kind::Npz, &["npz"]),
    (Kind::Pb, &["pb"]),
    (Kind::Image, &["png", "jpg", "jpeg", "bmp", "pgm", "ppm", "pbm", "pam", "pnm", "gif", "webp"]),
    (Kind::Sound, &["wav", "flac", "ogg", "oga", "mp3"]),
];

impl Kind {
    /// The kind of a file, by its name.
    pub fn of(path: &Path) -> Kind {
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let found = EXTENSIONS.iter().find(|(_, names)| names.contains(&extension.as_str()));
        found.map_or(Kind::Other, |(kind, _)| *kind)
    }
}

impl Kind {
    /// The extensions of the kind.
    pub fn extensions(self) -> impl Iterator<Item = &'static str> {
        EXTENSIONS.iter().filter(move |(kind, _)| *kind == self).flat_map(|(_, names)| names.iter().copied())
    }
}

/// The paths in a folder, in no certain order.
///
/// # Errors
/// When the folder cannot be read.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: std::io::Error| Error::io(folder.display(), &e);
    std::fs::read_dir(folder).map_err(failed)?.map(|e| e.map(|e| e.path()).map_err(failed)).collect()
}

/// What is directly in a folder, without hidden files. Names are in the order that people expect: `x2` before `x10`.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(folder: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    for path in entries(folder)? {
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        match path.is_dir() {
            _ if hidden => {}
            true => listing.folders.push(path),
            false => listing.files.push(path),
        }
    }
    listing.folders.sort_by_cached_key(|path| natural(path));
    listing.files.sort_by_cached_key(|path| natural(path));
    Ok(listing)
}

/// Paths of a folder, or those that a caller gave.
#[derive(Debug, Default)]
pub struct Listing {
    /// Files.
    pub files: Vec<PathBuf>,
    /// Folders.
    pub folders: Vec<PathBuf>,
}

impl Listing {
    /// The files of a kind.
    pub fn of(&self, kind: Kind) -> Vec<&PathBuf> {
        self.files.iter().filter(|path| Kind::of(path) == kind).collect()
    }
}

/// All files at or below a folder that `wanted` accepts, folder by folder.
///
/// # Errors
/// When a folder cannot be read.
pub fn below(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let Listing { files, folders } = list(folder)?;
    let mut found: Vec<PathBuf> = files.into_iter().filter(|path| wanted(path)).collect();
    for folder in folders {
        found.extend(below(&folder, wanted)?);
    }
    Ok(found)
}

/// A key whose order is that of names with numbers in them: `x2` before `x10`.
fn natural(path: &Path) -> Vec<Piece> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut pieces: Vec<Piece> = Vec::new();
    for c in name.chars() {
        match (pieces.last_mut(), c.to_digit(10)) {
            (Some(Piece::Number(n, digits)), Some(d)) if *digits < 18 => {
                (*n, *digits) = (*n * 10 + u64::from(d), *digits + 1);
            }
            (_, Some(d)) => pieces.push(Piece::Number(u64::from(d), 1)),
            (Some(Piece::Text(text)), None) => text.push(c),
            (_, None) => pieces.push(Piece::Text(c.to_string())),
        }
    }
    pieces
}

/// A run of digits, with their count (`x1` before `x01`), or of other characters.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    Number(u64, usize),
    Text(String),
}

/// A path as people read it: below the folder that they gave.
pub fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).ok().filter(|p| !p.as_os_str().is_empty()).unwrap_or(path).display().to_string()
}

/// Whether a name is a valid file name on every system.
pub fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && !name.ends_with(['.', ' '])
        && name.chars().all(|c| !c.is_control() && !r#"/\:*?"<>|"#.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_in_order() {
        let mut names: Vec<PathBuf> = ["b", "x10.png", "x2.png", "x02.png", "a1b3", "a1b20"].map(PathBuf::from).into();
        names.sort_by_cached_key(|p| natural(p));
        let names: Vec<_> = names.iter().map(|p| p.display().to_string()).collect();
        assert_eq!(names, ["a1b3", "a1b20", "b", "x2.png", "x02.png", "x10.png"]);
    }

    #[test]
    fn kinds_are_by_extension() {
        for (name, kind) in
            [("a.NPY", Kind::Npy), ("b.tar.npz", Kind::Npz), ("c.JPeG", Kind::Image), ("d", Kind::Other)]
        {
            assert_eq!(Kind::of(Path::new(name)), kind, "{name}");
        }
    }
}
