//! Compiles the model with `mcc` (from `MCC`, or from the path) and links the object into the program.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    let model = PathBuf::from(env("CARGO_MANIFEST_DIR")).join("../../tests/models/digits.onnx");
    let object = PathBuf::from(env("OUT_DIR")).join("digits.o");
    let mcc = std::env::var("MCC").unwrap_or_else(|_| "mcc".to_string());
    let status = Command::new(&mcc)
        .arg(&model)
        .arg("-o")
        .arg(&object)
        .args(["--name", "digits", "--target", &env("TARGET")])
        .status()
        .unwrap_or_else(|e| panic!("{mcc}: {e} (set MCC to the compiler's path)"));
    assert!(status.success(), "{mcc} could not compile {}", model.display());
    println!("cargo::rustc-link-arg-bins={}", object.display());
    println!("cargo::rerun-if-changed={}", model.display());
    println!("cargo::rerun-if-env-changed=MCC");
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
