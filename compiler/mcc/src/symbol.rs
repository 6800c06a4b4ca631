//! Names of compiled models: the prefix of every symbol of an object.

use std::path::Path;

use mcc_ir::{Error, Result};

/// The prefix of the names in mcc.h, which no model may have.
const INTERFACE: &str = "mcc";

/// The longest name that is accepted; it is part of every symbol.
const MAX_LENGTH: usize = 500;

/// A C identifier derived from a model's file name.
pub fn of_file(model: &Path) -> String {
    let stem = model.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let mut name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || name == INTERFACE {
        name.insert_str(0, "model_");
    }
    name
}

/// Checks a name given by the user.
///
/// # Errors
/// When it is not a C identifier, too long, or the prefix of mcc.h.
pub fn check(name: &str) -> Result<()> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Error::usage(format!("name {name}: not a C identifier")));
    }
    if name == INTERFACE {
        return Err(Error::usage(format!("name {name}: this is the prefix of mcc.h"))
            .help("leave out the name to derive it from the model's file name"));
    }
    if name.len() > MAX_LENGTH {
        return Err(Error::usage(format!("the name has {} characters", name.len()))
            .help(format!("at most {MAX_LENGTH} are allowed")));
    }
    Ok(())
}

#[test]
fn names_of_files() {
    assert_eq!(of_file(Path::new("a/my-model.v2.onnx")), "my_model_v2");
    assert_eq!(of_file(Path::new("8bit.onnx")), "model_8bit");
    assert_eq!(of_file(Path::new("mcc.onnx")), "model_mcc");
}
