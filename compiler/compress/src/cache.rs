//! Results of long computations, kept in a folder: a run that was interrupted goes on where it stopped, and one with more
//! steps repeats only what these change: the operator set that all need, or the samples that recovery holds out.
//!
//! A result is known by all that it depends on: the build, the model, the samples, the target, and the recipe up to its step.
//! As the same recipe gives the same bytes, nothing in between has to be compared. A file that is damaged or half written is
//! computed anew.

use std::io::Write;
use std::path::{Path, PathBuf};

use mcc_data::Samples;
use mcc_ir::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

/// Bytes of a checksum.
const SUM: usize = blake3::OUT_LEN;

/// Results in a folder, or nowhere.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: Option<PathBuf>,
    /// What all results depend on.
    scope: blake3::Hash,
}

/// Keeps nothing.
pub static NONE: Cache = Cache { dir: None, scope: blake3::Hash::from_bytes([0; SUM]) };

impl Cache {
    /// A folder, which is made if it does not exist, for results that depend on some bytes and samples.
    ///
    /// # Errors
    /// When the folder cannot be made, or a sample not read.
    pub fn open(dir: &Path, depends: &[&[u8]], samples: &Samples) -> Result<Cache> {
        std::fs::create_dir_all(dir).map_err(|e| failed(dir, &e))?;
        let mut cache = Cache { dir: Some(dir.to_path_buf()), ..NONE.within(depends) };
        for n in 0..samples.len() {
            for tensor in samples.read(n)? {
                let form = format!("{} {:?}", tensor.dtype(), tensor.shape());
                cache = cache.within(&[form.as_bytes(), tensor.data()]);
            }
        }
        Ok(cache)
    }

    /// The same for results that also depend on some bytes.
    pub fn within(&self, depends: &[&[u8]]) -> Cache {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.scope.as_bytes());
        for bytes in depends {
            hasher.update(blake3::hash(bytes).as_bytes());
        }
        Cache { dir: self.dir.clone(), scope: hasher.finalize() }
    }

    /// Whether results are kept.
    pub fn keeps(&self) -> bool {
        self.dir.is_some()
    }

    /// A result by its name and number: the one that is kept, or else what `make` gives, which is kept.
    ///
    /// # Errors
    /// Those of `make`; when a result cannot be written.
    pub fn get<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        number: usize,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(dir) = &self.dir else { return make() };
        let Cache { scope, .. } = self.within(&[name.as_bytes(), &number.to_le_bytes()]);
        let path = dir.join(scope.to_hex().as_str());
        if let Some(kept) = std::fs::read(&path).ok().and_then(|bytes| decoded(&bytes)) {
            return Ok(kept);
        }
        let made = make()?;
        let bytes = postcard::to_stdvec(&made).map_err(|e| Error::internal(format!("result \"{name}\": {e}")))?;
        let write = || {
            let mut file = NamedTempFile::new_in(dir)?;
            file.write_all(blake3::hash(&bytes).as_bytes())?;
            file.write_all(&bytes)?;
            file.persist(&path).map(drop).map_err(std::io::Error::from)
        };
        write().map_err(|e| failed(dir, &e))?;
        Ok(made)
    }
}

fn failed(dir: &Path, error: &std::io::Error) -> Error {
    Error::usage(format!("{}: {error}", dir.display())).help("--cache takes a folder that can be written to")
}

/// What a file holds, if it is whole.
fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (sum, bytes) = bytes.split_at_checked(SUM)?;
    (blake3::hash(bytes).as_bytes() == sum).then(|| postcard::from_bytes(bytes).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use mcc_ir::{DType, Tensor};

    use super::*;

    fn samples(value: f64) -> Samples {
        Samples::from_tensors(vec![vec![Tensor::from_f64s(DType::F32, vec![1], &[value]).unwrap()]])
    }

    #[test]
    fn a_result_is_computed_once_and_anew_where_it_differs_or_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let open = |model: &[u8], value: f64| Cache::open(dir.path(), &[model], &samples(value)).unwrap();
        let made = std::cell::Cell::new(0);
        let get = |cache: &Cache, number: usize| {
            let make = || {
                made.set(made.get() + 1);
                Ok((number, vec![0.5f32; 3]))
            };
            assert_eq!(cache.get("a", number, make).unwrap(), (number, vec![0.5; 3]));
            made.get()
        };
        let cache = open(b"model", 1.0);
        assert_eq!([get(&cache, 0), get(&cache, 0), get(&open(b"model", 1.0), 0)], [1, 1, 1]);
        assert_eq!([get(&cache, 1), get(&open(b"other", 1.0), 0), get(&open(b"model", 2.0), 0)], [2, 3, 4]);
        assert_eq!([get(&cache.within(&[b"step"]), 0), get(&cache.within(&[b"step"]), 0)], [5, 5]);
        assert_eq!([get(&NONE, 0), get(&NONE, 0)], [6, 7]);
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let path = file.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.pop();
            std::fs::write(&path, bytes).unwrap();
        }
        assert_eq!([get(&cache, 0), get(&cache, 0)], [8, 8]);
    }

    #[test]
    fn failures_are_not_kept_and_folders_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), &[], &samples(0.0)).unwrap();
        assert!(cache.get::<u8>("a", 0, || Err(Error::usage("no"))).is_err());
        assert_eq!(cache.get("a", 0, || Ok(1u8)).unwrap(), 1);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(Cache::open(&file, &[], &samples(0.0)).unwrap_err().to_string().contains("file"));
    }
}
