//! Writes files atomically, several together: each under a temporary name first, then renamed. No output replaces an
//! input.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use mcc::{Error, Result};
use tempfile::NamedTempFile;

/// A file that a command reads or writes, and its description for the user.
pub type Named<'a> = (&'a str, &'a Path);

/// Refuses outputs that would replace an input or one another, and those that cannot be created, before any work.
pub fn check(inputs: &[Named], outputs: &[Named]) -> Result<()> {
    for (n, (what, path)) in outputs.iter().enumerate() {
        if let Some((other, _)) = inputs.iter().find(|i| is_same(i.1, path)) {
            return Err(Error::usage(format!("{}: {what} would overwrite {other}", path.display())));
        }
        if let Some((other, _)) = outputs[..n].iter().find(|o| is_same(o.1, path)) {
            let text = format!("{}: {what} and {other} would be one file", path.display());
            return Err(Error::usage(text).help("give -o and --header different names"));
        }
        if path.is_dir() || path.file_name().is_none() {
            return Err(Error::usage(format!("{}: {what} would be a folder", path.display())));
        }
        let folder = folder_of(path);
        if !folder.is_dir() {
            return Err(Error::usage(format!("{}: {what} has no folder {}", path.display(), folder.display())));
        }
    }
    Ok(())
}

/// Whether two paths lead to the same existing file (by another spelling, a symbolic link or a hard link).
fn is_same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| Some(folder_of(path).canonicalize().ok()?.join(path.file_name()?));
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(x), Ok(y)) => x.is_file() && y.is_file() && one_file(a, b),
        (Err(_), Err(_)) => a == b || real(a).is_some_and(|a| Some(a) == real(b)),
        _ => false,
    }
}

#[cfg(unix)]
fn one_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let file = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino()));
    file(a).is_ok_and(|a| file(b).is_ok_and(|b| a == b))
}

#[cfg(not(unix))]
fn one_file(a: &Path, b: &Path) -> bool {
    a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes files that belong together: all or none.
pub fn write_all(files: &[(&Path, &[u8])]) -> Result<()> {
    let staged = files.iter().map(|(path, bytes)| stage(path, |f| f.write_all(bytes))).collect::<Result<Vec<_>>>()?;
    let mut done: Vec<PathBuf> = Vec::new();
    for (file, (path, _)) in staged.into_iter().zip(files) {
        // Without a staged file the bytes are written already.
        let Some(file) = file else { continue };
        if let Err(e) = file.persist(path) {
            // The other files would describe a model that does not exist.
            done.iter().for_each(|path| drop(std::fs::remove_file(path)));
            return Err(Error::io(path.display(), &e.error));
        }
        done.push(path.to_path_buf());
    }
    Ok(())
}

/// Writes a file of given bytes.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_all(&[(path, bytes)])
}

/// Lets whoever may read a file run it.
pub fn make_executable(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map(|m| m.permissions().mode());
        let set = |mode: u32| std::fs::set_permissions(path, PermissionsExt::from_mode(mode | (mode & 0o444) >> 2));
        mode.and_then(set).map_err(|e| Error::io(path.display(), &e))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Writes a file by calling a function.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    match stage(path, fill)? {
        Some(file) => file.persist(path).map(drop).map_err(|e| Error::io(path.display(), &e.error)),
        None => Ok(()),
    }
}

/// Writes a file's bytes to a temporary file in the same folder. A device or a pipe is written to directly, since
/// replacing it by a file would be surprising.
fn stage(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<Option<NamedTempFile>> {
    let failed = |e: std::io::Error| Error::io(path.display(), &e);
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        return File::options().write(true).open(path).and_then(|mut f| fill(&mut f)).map(|()| None).map_err(failed);
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mcc-");
    // Temporary files are readable by their owner only; the result has the user's ordinary mode.
    #[cfg(unix)]
    let builder = builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder_of(path)).map_err(failed)?;
    fill(file.as_file_mut()).map_err(failed)?;
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn all_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        write_all(&[(&a, b"1"), (&b, b"2")]).unwrap();
        assert_eq!((std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap()), (b"1".to_vec(), b"2".to_vec()));
        // Neither can a folder be replaced, nor a file be written in a missing folder.
        let (c, taken) = (dir.path().join("c"), dir.path().join("taken"));
        let missing = dir.path().join("missing/x");
        std::fs::create_dir(&taken).unwrap();
        for bad in [&taken, &missing] {
            assert!(write_all(&[(&c, b"1"), (bad, b"2")]).is_err());
            assert_eq!(names(dir.path()), ["a", "b", "taken"]);
        }
    }

    #[test]
    #[cfg(unix)]
    fn one_file_has_many_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("model"), "m").unwrap();
        std::fs::hard_link(at("model"), at("hard")).unwrap();
        std::os::unix::fs::symlink(at("model"), at("soft")).unwrap();
        std::os::unix::fs::symlink(dir.path(), at("folder")).unwrap();
        let model = at("model");
        for name in ["model", "./model", "hard", "soft", "folder/model", "folder/./hard"] {
            let error = check(&[("the model", &model)], &[("the object", &at(name))]).unwrap_err().to_string();
            assert!(error.contains("the object would overwrite the model"), "{name}: {error}");
        }
        let (new, folder) = (at("new"), at("folder"));
        assert!(check(&[("the model", &model)], &[("the object", &new), ("the header", &at("other"))]).is_ok());
        for bad in [vec![("a", new.as_path()), ("b", &at("folder/new"))], vec![("a", &folder)], vec![("a", &at("x/y"))]]
        {
            assert!(matches!(check(&[], &bad), Err(Error::Usage(_))), "{bad:?}");
        }
        let null = Path::new("/dev/null");
        assert!(check(&[], &[("the object", null), ("the header", null)]).is_ok());
    }
}
