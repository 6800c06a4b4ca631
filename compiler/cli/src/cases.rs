//! Test cases in ONNX's layout, as its backend suite has them.
//!
//! A case is a folder with `model.onnx` and [data sets](mcc_data::pb).
//! A file `tolerance` beside the model holds `RTOL ATOL`, one line per output; the last line applies to all further
//! outputs.

use std::path::{Path, PathBuf};

use mcc::{Error, Result};
use mcc_data::files::entries;
use mcc_data::pb;
use mcc_proto::Message;

use super::compare::Tolerance;

/// A case's files.
pub struct Case {
    /// The model.
    pub model: PathBuf,
    /// The folders of its data sets.
    pub data_sets: Vec<PathBuf>,
    tolerances: Vec<Tolerance>,
}

/// All cases at or below the folders.
pub fn find(folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in folders {
        let before = found.len();
        collect(folder, &mut found)?;
        if found.len() == before {
            return Err(Error::usage(format!("{}: no model.onnx at or below it", folder.display())));
        }
    }
    Ok(found)
}

/// Reads the layout of a case, but not its data.
pub fn open(folder: &Path) -> Result<Case> {
    let data_sets = pb::data_sets(folder)?;
    if data_sets.is_empty() {
        return Err(Error::invalid(format!("{}: no test_data_set_0", folder.display())));
    }
    let file = folder.join("tolerance");
    let tolerances = match std::fs::read_to_string(&file) {
        Ok(text) => parse_tolerances(&text)
            .ok_or_else(|| Error::invalid(format!("{}: expected lines of two numbers, RTOL ATOL", file.display())))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(Error::io(file.display(), &e)),
    };
    Ok(Case { model: folder.join("model.onnx"), data_sets, tolerances })
}

impl Case {
    /// The tolerance of output `n`, if the case gives one.
    pub fn tolerance(&self, n: usize) -> Option<Tolerance> {
        self.tolerances.get(n).or(self.tolerances.last()).copied()
    }
}

/// The names of a model's inputs, without initializers that are listed among them.
pub fn input_names(model: &Path) -> Result<Vec<String>> {
    let graph =
        mcc_proto::ModelProto::decode(mcc::onnx::file::map(model)?).ok().and_then(|m| m.graph).unwrap_or_default();
    let initialised = |name: &str| graph.initializer.iter().any(|t| t.name == name);
    Ok(graph.input.iter().map(|i| i.name.clone()).filter(|name| !initialised(name)).collect())
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if folder.join("model.onnx").exists() {
        found.push(folder.to_path_buf());
        return Ok(());
    }
    let mut below: Vec<PathBuf> = entries(folder)?.into_iter().filter(|p| p.is_dir()).collect();
    below.sort();
    below.iter().try_for_each(|f| collect(f, found))
}

fn parse_tolerances(text: &str) -> Option<Vec<Tolerance>> {
    let number = |word: &str| word.parse::<f64>().ok().filter(|v| *v >= 0.0);
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| match line.split_whitespace().map(number).collect::<Option<Vec<_>>>()?.as_slice() {
            [rtol, atol] => Some(Tolerance { rtol: *rtol, atol: *atol }),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerances() {
        let t = |rtol, atol| Tolerance { rtol, atol };
        assert_eq!(parse_tolerances("0.001 1e-07\n"), Some(vec![t(1e-3, 1e-7)]));
        assert_eq!(parse_tolerances("1e-3 1e-5\n0 2\n"), Some(vec![t(1e-3, 1e-5), t(0.0, 2.0)]));
        for bad in ["1e-3", "1e-3 x", "1 2 3", "-1 0", "NaN 0"] {
            assert_eq!(parse_tolerances(bad), None, "{bad}");
        }
    }
}
