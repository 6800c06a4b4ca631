//! Data sets in ONNX's layout, as its backend suite has them: a folder `test_data_set_N` with `input_M.pb` and
//! `output_M.pb`, serialized tensors, matched to the model's inputs and outputs by name where they carry a known one,
//! else by number.

use std::path::{Path, PathBuf};

use mcc_ir::{Error, Result, Tensor};
use mcc_proto::Message;

use crate::files::entries;

/// The tensors `SIDE_0.pb`, `SIDE_1.pb`, ... of a data set, in the order of `names`; `None` where a file is missing.
///
/// # Errors
/// When the folder or a file cannot be read, or there are more files than names.
pub fn read_tensors(data_set: &Path, side: &str, names: &[&str]) -> Result<Vec<Option<Tensor>>> {
    let found = read_files(data_set, side, names)?;
    Ok(found.into_iter().map(|found| found.map(|(_, tensor)| tensor)).collect())
}

/// The same with the file of each tensor.
///
/// # Errors
/// As [`read_tensors`].
pub fn read_files(data_set: &Path, side: &str, names: &[&str]) -> Result<Vec<Option<(PathBuf, Tensor)>>> {
    let mut tensors: Vec<Option<(PathBuf, Tensor)>> = vec![None; names.len()];
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
            Some(slot) => *slot = Some((file, tensor)),
            None => {
                let text = format!("{}: the model has only {} {side}s", file.display(), names.len());
                return Err(Error::invalid(text));
            }
        }
    }
    Ok(tensors)
}

/// The data sets directly below a folder, by their number.
///
/// # Errors
/// When the folder cannot be read.
pub fn data_sets(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut sets: Vec<PathBuf> = entries(folder)?.into_iter().filter(|p| p.is_dir()).collect();
    sets.retain(|p| numbered(p, "test_data_set_").is_some());
    sets.sort_by_key(|p| numbered(p, "test_data_set_"));
    Ok(sets)
}

/// The number in a file's name after a prefix, up to its extension.
pub fn numbered(path: &Path, prefix: &str) -> Option<usize> {
    path.file_stem()?.to_str()?.strip_prefix(prefix)?.parse().ok()
}

/// A serialized tensor and the name that it carries.
///
/// # Errors
/// When the file cannot be read, or holds no tensor.
pub fn read_tensor(file: &Path) -> Result<(String, Tensor)> {
    let proto = mcc_proto::TensorProto::decode(mcc_onnx::file::map(file)?)
        .map_err(|e| Error::invalid(format!("not a serialized tensor: {e}")))?;
    Ok((proto.name.clone(), mcc_onnx::tensor::tensor_of(&proto)?))
}
