//! Test cases in ONNX's layout, as its backend suite has them.
//!
//! A case is a folder with `model.onnx` and data sets `test_data_set_N`, each with `input_M.pb` and `output_M.pb`: serialized
//! tensors, matched to the model's inputs and outputs by name where they carry a known one, else by number.
//! A file `tolerance` beside the model holds `RTOL ATOL`, one line per output; the last line applies to all further
//! outputs.

use std::path::{Path, PathBuf};

use mcc::ir::Tensor;
use mcc::{Error, Result};
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
    let mut data_sets: Vec<PathBuf> = entries(folder)?.into_iter().filter(|p| p.is_dir()).collect();
    data_sets.retain(|p| numbered(p, "test_data_set_").is_some());
    data_sets.sort_by_key(|p| numbered(p, "test_data_set_"));
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

/// The tensors `SIDE_0.pb`, `SIDE_1.pb`, ... of a data set, in the order of `names`; `None` where a file is missing.
pub fn read_tensors(data_set: &Path, side: &str, names: &[&str]) -> Result<Vec<Option<Tensor>>> {
    let mut tensors: Vec<Option<Tensor>> = vec![None; names.len()];
    let mut files: Vec<(usize, PathBuf)> = entries(data_set)?
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "pb"))
        .filter_map(|p| Some((numbered(&p, &format!("{side}_"))?, p)))
        .collect();
    files.sort();
    for (number, file) in files {
        let (name, tensor) = read_tensor(&file).map_err(|e| e.within(file.display().to_string()))?;
        let slot = names.iter().position(|n| *n == name).unwrap_or(number);
        match tensors.get_mut(slot) {
            Some(slot) => *slot = Some(tensor),
            None => {
                let text = format!("{}: the model has only {} {side}s", file.display(), names.len());
                return Err(Error::invalid(text));
            }
        }
    }
    Ok(tensors)
}

/// The names of a model's inputs, without initializers that are listed among them.
pub fn input_names(model: &Path) -> Result<Vec<String>> {
    let graph =
        mcc_proto::ModelProto::decode(mcc::onnx::file::map(model)?).ok().and_then(|m| m.graph).unwrap_or_default();
    let initialised = |name: &str| graph.initializer.iter().any(|t| t.name == name);
    Ok(graph.input.iter().map(|i| i.name.clone()).filter(|name| !initialised(name)).collect())
}

fn read_tensor(file: &Path) -> Result<(String, Tensor)> {
    let proto = mcc_proto::TensorProto::decode(mcc::onnx::file::map(file)?)
        .map_err(|e| Error::invalid(format!("not a serialized tensor: {e}")))?;
    Ok((proto.name.clone(), mcc::onnx::tensor::tensor_of(&proto)?))
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

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: std::io::Error| Error::io(folder.display(), &e);
    std::fs::read_dir(folder).map_err(failed)?.map(|e| e.map(|e| e.path()).map_err(failed)).collect()
}

/// The number in a file's name after a prefix, up to its extension.
fn numbered(path: &Path, prefix: &str) -> Option<usize> {
    path.file_stem()?.to_str()?.strip_prefix(prefix)?.parse().ok()
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
