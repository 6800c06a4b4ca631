//! Names of compiled models: the prefix of every symbol of an object.

use std::path::Path;

use mcc_ir::{Error, Result};

/// The prefix of names of mcc.h, which no model can have.
const INTERFACE: &str = "mcc";

/// Characters that a name may have: it is part of every symbol.
const MAX_LENGTH: usize = 500;

/// A C identifier made of a model's file name.
pub fn of_file(model: &Path) -> String {
    let stem = model.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let mut name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || name == INTERFACE {
        name.insert_str(0, "model_");
    }
    name
}

/// Checks a name that a user gives.
///
/// # Errors
/// When it is no C identifier, too long, or one of mcc.h's own.
pub fn check(name: &str) -> Result<()> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Error::usage(format!("name {name}: not a C identifier")));
    }
    if name == INTERFACE {
        return Err(Error::usage(format!("name {name}: names that begin so are those of mcc.h"))
            .help("by default it is made of the model's file name"));
    }
    if name.len() > MAX_LENGTH {
        return Err(Error::usage(format!("name of {} characters", name.len()))
            .help(format!("{MAX_LENGTH} are enough for anyone to read, and for every linker")));
    }
    Ok(())
}

#[test]
fn names_of_files() {
    assert_eq!(of_file(Path::new("a/my-model.v2.onnx")), "my_model_v2");
    assert_eq!(of_file(Path::new("8bit.onnx")), "model_8bit");
    assert_eq!(of_file(Path::new("mcc.onnx")), "model_mcc");
}
