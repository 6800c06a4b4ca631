//! `mcc eval`, as scripts see it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

/// Runs mcc, checks the exit status, and returns stdout and stderr.
fn expect(status: i32, arguments: &[&str]) -> (String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_mcc")).args(arguments).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert_eq!(out.status.code(), Some(status), "mcc {arguments:?}\n{stdout}{stderr}");
    (stdout, stderr)
}

/// A folder with the sample model's images as tensors and as pictures, and their labels.
struct Digits {
    dir: TempDir,
}

impl Digits {
    fn new() -> Digits {
        let dir = TempDir::new().unwrap();
        let mut labels = "sample,label\n".to_string();
        for n in 0..10 {
            for kind in ["npy", "pgm"] {
                fs::create_dir_all(dir.path().join(kind)).unwrap();
                let name = format!("sample_{n}_label{n}.{kind}");
                fs::copy(models().join("digits").join(&name), dir.path().join(kind).join(&name)).unwrap();
            }
            labels += &format!("sample_{n}_label{n},{n}\n");
        }
        fs::write(dir.path().join("labels.csv"), labels).unwrap();
        fs::copy(models().join("digits.onnx"), dir.path().join("copy.onnx")).unwrap();
        Digits { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.dir.path().join(name), text).unwrap();
        self.path(name)
    }
}

fn digits() -> String {
    models().join("digits.onnx").display().to_string()
}

#[test]
fn labels_give_accuracy() {
    let at = Digits::new();
    let (labels, data) = (at.path("labels.csv"), at.path("npy"));
    let arguments = ["eval", &digits(), "--data", &data, "--labels", &labels, "--cpu", "native", "--seconds", "0.05"];
    let (table, _) = expect(0, &arguments);
    assert!(
        table.contains("accuracy") && table.contains("100.00 %") && table.contains("10 samples, with labels"),
        "{table}"
    );
    let (json, _) = expect(0, &[&arguments[..], &["--metric", "top1", "--metric", "f1", "--json", "-"]].concat());
    let found: Value = serde_json::from_str(&json).unwrap();
    let model = &found["models"][0];
    assert_eq!((&model["values"][0]["value"], &model["values"][1]["value"]), (&1.0.into(), &1.0.into()));
    assert_eq!(model["file_bytes"], fs::metadata(digits()).unwrap().len());
    for key in ["median_ms", "arena_bytes", "text_bytes", "weights_bytes"] {
        assert!(model[key].as_f64().unwrap() > 0.0, "{key}: {json}");
    }
}

#[test]
fn models_are_compared() {
    let at = Digits::new();
    let (data, copy) = (at.path("npy"), at.path("copy.onnx"));
    let page = at.path("report.html");
    let arguments =
        ["eval", &digits(), &copy, "--data", &data, "--cpu", "native", "--seconds", "0.05", "--samples", "7"];
    let (table, _) = expect(0, &[&arguments[..], &["--report", &page]].concat());
    assert!(
        table.contains("relative-l2") && table.contains("exact") && table.contains("7 samples, compared"),
        "{table}"
    );
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg") && page.contains("copy"));
    // The same seed gives the same values.
    let values = || {
        let (json, _) = expect(0, &[&arguments[..], &["--json", "-"]].concat());
        let found: Value = serde_json::from_str(&json).unwrap();
        found["models"][1]["values"].clone()
    };
    assert_eq!(values(), values());
}

#[test]
fn pictures_give_what_tensors_give() {
    let at = Digits::new();
    let preprocess = at.write(
        "digits.toml",
        "source = \"image\"\n[inputs.image]\nsteps = [{ color = \"gray\" }, { scale = 0.00392156862745098 }]\n",
    );
    let (data, labels) = (at.path("pgm"), at.path("labels.csv"));
    let arguments = ["eval", &digits(), "--data", &data, "--labels", &labels, "--preprocess", &preprocess];
    let (table, _) = expect(0, &[&arguments[..], &["--metric", "top1", "--seconds", "0"]].concat());
    assert!(table.contains("100.00 %"), "{table}");
}

#[test]
fn faults_are_told_before_the_work() {
    let at = Digits::new();
    let (data, labels, model) = (at.path("npy"), at.path("labels.csv"), digits());
    let refusal = |status: i32, more: &[&str]| expect(status, &[&["eval", model.as_str()], more].concat()).1;
    assert!(refusal(2, &[]).contains("--data"));
    let message = refusal(2, &["--data", &data, "--metric", "acuracy", "--labels", "none.csv"]);
    assert!(message.contains("did you mean accuracy?") && message.contains("none.csv"), "{message}");
    assert!(refusal(2, &["--data", &data, "--metric", "top1"]).contains("--metric top1 needs labels"));
    let message = refusal(2, &["--data", &data, "--labels", &labels, "--metric", "cer"]);
    assert!(message.contains("[output]"), "{message}");
    let message = refusal(1, &["--data", &at.path("pgm")]);
    assert!(message.contains("--preprocess"), "{message}");
    let wrong = at.write("wrong.csv", "sample_0_label0,10\n");
    let message = refusal(1, &["--data", &data, "--labels", &wrong]);
    assert!(message.contains("no label for 9 of 10 samples"), "{message}");
    let wrong = at.write("wrong.txt", &"10\n".repeat(10));
    let message = refusal(1, &["--data", &data, "--labels", &wrong, "--metric", "top1"]);
    assert!(message.contains("the label is class 10, the model has 10 classes"), "{message}");
    let message = refusal(2, &["--data", &data, "--json", &model]);
    assert!(message.contains("would overwrite the model"), "{message}");
}
