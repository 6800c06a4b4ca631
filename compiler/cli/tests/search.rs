//! `mcc compress --search` as users call it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

fn mcc(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mcc")).args(arguments).output().expect("mcc starts")
}

/// Compresses the sample model with its samples, for a phone, so that times are predicted; gives both streams.
fn compress(status: i32, output: &Path, options: &[&str]) -> (String, String) {
    let (model, data) = (models().join("digits.onnx"), models().join("digits"));
    let (model, data, output) = (model.display().to_string(), data.display().to_string(), output.display().to_string());
    let all = [&["compress", &model, "-o", &output, "--calib", &data], options].concat();
    let result = mcc(&all);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&result.stdout), text(&result.stderr));
    assert_eq!(result.status.code(), Some(status), "{all:?}\n{out}{err}");
    (out, err)
}

const PHONE: [&str; 5] = ["--search", "--target", "aarch64-linux-android", "--cpu", "cortex-a76"];

#[test]
fn what_is_found_is_written_with_a_recipe_that_repeats_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let sweep = file("sweep.json").display().to_string();
    let (table, told) =
        compress(0, &file("found.onnx"), &[&PHONE[..], &["--max-loss", "0.5", "--sweep", &sweep]].concat());
    assert!(table.contains("ms, loses") && told.contains("found: ") && told.contains("predicted"), "{table}{told}");
    let front: serde_json::Value = serde_json::from_slice(&std::fs::read(&sweep).unwrap()).unwrap();
    let points = front["points"].as_array().unwrap();
    assert!(points.len() >= 2 && points.iter().all(|p| p["figures"]["ms"].as_f64() > Some(0.0)), "{front}");
    let recipe = file("found.toml").display().to_string();
    compress(0, &file("again.onnx"), &["--recipe", &recipe]);
    assert_eq!(std::fs::read(file("found.onnx")).unwrap(), std::fs::read(file("again.onnx")).unwrap());
}

#[test]
fn what_cannot_be_searched_is_said_before_work() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.onnx");
    let error = |options: &[&str]| compress(2, &output, options).1;
    assert!(error(&[&PHONE[..], &["--budget-ms", "1e-9"]].concat()).contains("cannot be reached: the least is"));
    assert!(error(&[&PHONE[..], &["--budget-bytes", "1e9"]].concat()).contains("which is within the limit"));
    assert!(error(&["--search"]).contains("give --budget-ms, --budget-bytes or --max-loss"));
    assert!(error(&["--search", "--max-loss", "0.1", "--allow", "int7"]).contains("it may become int8"));
    assert!(error(&["--search", "--max-loss", "0.1", "--budget-ms", "1"]).contains("cannot be used with"));
    assert!(error(&["--max-loss", "0.1"]).contains("--search"));
    assert!(!output.exists());
}
