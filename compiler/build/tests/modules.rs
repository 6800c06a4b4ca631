//! Generated modules: their declarations; and after an error no files are left.

use std::path::{Path, PathBuf};

use mcc_build::Model;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder for results");
    folder
}

#[test]
fn digits() {
    let out = folder("digits");
    for target in ["x86_64-unknown-linux-gnu", "aarch64-apple-ios", "x86_64-pc-windows-msvc"] {
        let model = Model::new(models().join("digits.onnx"));
        let compiled = model.compile_to(&out, target).unwrap_or_else(|e| panic!("{target}: {e}"));
        assert_eq!((compiled.library.as_str(), compiled.sources.len()), ("digits_mcc", 1));
        let module = std::fs::read_to_string(&compiled.module).expect("the module");
        for part in
            ["pub fn model()", "input_image: &[f32; 64]", "output_probabilities: &mut [f32; 10]", "arena: &mut Arena"]
        {
            assert!(module.contains(part), "{part} in\n{module}");
        }
    }
    assert!(out.join("libdigits_mcc.a").exists() && out.join("digits_mcc.lib").exists());
}

#[test]
fn mistakes_are_errors() {
    let out = folder("mistakes");
    let message = |model: Model, target: &str| model.compile_to(&out, target).expect_err("an error").to_string();
    let (digits, host) = (models().join("digits.onnx"), "x86_64-unknown-linux-gnu");
    assert!(message(Model::new(models().join("none.onnx")), host).contains("none.onnx"));
    assert!(message(Model::new(&digits).name("8bit"), host).contains("not a C identifier"));
    assert!(message(Model::new(&digits), "m68k-unknown-linux-gnu").contains("m68k"));
    assert!(message(Model::new(&digits).dim("height", 3), host).contains("height"));
    assert!(message(Model::new(&digits).cpu("8086"), host).contains("8086"));
    assert_eq!(std::fs::read_dir(&out).expect("the folder").count(), 0, "files of models that were not compiled");
}
