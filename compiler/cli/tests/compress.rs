//! `mcc compress` from the command line, on the sample model.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

fn mcc(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mcc")).args(arguments).current_dir(dir).output().unwrap()
}

/// Compresses the sample model with its samples, checks the exit status, and returns stdout and stderr.
fn compress(dir: &Path, status: i32, arguments: &[&str]) -> String {
    let (model, samples) = (models().join("digits.onnx"), models().join("digits"));
    let (model, samples) = (model.to_str().unwrap(), samples.to_str().unwrap());
    let data = if arguments.contains(&"--calib") { vec![] } else { vec!["--calib", samples] };
    let out = mcc(dir, &[&["compress", model], data.as_slice(), arguments].concat());
    let text = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
    assert_eq!(out.status.code(), Some(status), "{arguments:?}\n{text}");
    text
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_recipe_repeats_what_options_did() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let table = compress(dir, 0, &["-o", "a.onnx", "--prune", "0.5", "--quantize", "int8"]);
    assert!(table.contains("operator") && table.contains("bytes"), "{table}");
    assert_eq!(names(dir), ["a.onnx", "a.toml"]);
    compress(dir, 0, &["-o", "b.onnx", "--recipe", "a.toml"]);
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    assert!(read("a.onnx") == read("b.onnx") && read("a.toml") == read("b.toml"));
    let given = std::fs::metadata(models().join("digits.onnx")).unwrap().len();
    assert!((read("a.onnx").len() as u64) < given / 2, "{} of {given}", read("a.onnx").len());
    // The result still reads digits.
    for digit in [3, 7] {
        let sample = models().join(format!("digits/sample_{digit}_label{digit}.npy"));
        let out = mcc(dir, &["run", "a.onnx", "-i", sample.to_str().unwrap(), "-o", "."]);
        assert!(out.status.success());
        let file = names(dir).into_iter().find(|n| n.ends_with(".npy")).unwrap();
        let scores = read(&file);
        let scores: Vec<f32> =
            scores[scores.len() - 40..].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let best = (0..10).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        assert_eq!(best, digit, "{scores:?}");
    }
}

#[test]
fn a_run_that_is_killed_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let options = ["-o", "a.onnx", "--prune", "0.5", "--everywhere", "--quantize", "int8", "--rounding", "adaround"];
    compress(dir, 0, &options);
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let whole = read("a.onnx");
    std::fs::remove_file(dir.join("a.onnx")).unwrap();
    let (model, samples) = (models().join("digits.onnx"), models().join("digits"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcc"))
        .args(["compress", model.to_str().unwrap(), "--calib", samples.to_str().unwrap(), "--cache", "kept"])
        .args(options)
        .current_dir(dir)
        .spawn()
        .unwrap();
    // As soon as there is a result, if it is not finished by then.
    let results = || std::fs::read_dir(dir.join("kept")).map_or(0, Iterator::count);
    while results() == 0 && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(names(dir).iter().all(|n| ["a.onnx", "a.toml", "kept"].contains(&n.as_str())), "{:?}", names(dir));
    compress(dir, 0, &[&options[..], &["--cache", "kept"]].concat());
    assert!(read("a.onnx") == whole);
    let told = compress(dir, 2, &["-o", "b.onnx", "--quantize", "int8", "--cache", "a.onnx"]);
    assert!(told.contains("--cache takes a folder"), "{told}");
}

#[test]
fn a_page_tells_what_was_gained() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    compress(dir, 0, &["-o", "a.onnx", "--quantize", "int4", "--report", "a.html"]);
    let page = std::fs::read_to_string(dir.join("a.html")).unwrap();
    assert!(page.contains("digits") && page.contains("Conv") && page.contains("int4"), "{page}");
}

#[test]
fn bad_input_leaves_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("bad.toml"), "[[steps]]\nmethod = \"quantize\"\nweight = \"int8\"\n").unwrap();
    std::fs::write(dir.join("notes.txt"), "no samples").unwrap();
    let before = names(dir);
    for (status, arguments, part) in [
        (2, &["-o", "x.onnx"][..], "nothing to do"),
        (2, &["-o", "x.onnx", "--quantize", "int9"], "no type of weights"),
        (2, &["-o", "x.onnx", "--prune", "1.5"], "not between 0 and 1"),
        (2, &["-o", "x.onnx", "--recipe", "bad.toml"], "unknown field `weight`"),
        (2, &["-o", "x.onnx", "--quantize", "int8", "--only", "nowhere*"], "nowhere*"),
        (2, &["-o", "missing/x.onnx", "--quantize", "int8"], "no folder missing"),
        (1, &["-o", "x.onnx", "--quantize", "int8", "--calib", "nothing"], "nothing"),
        (1, &["-o", "x.onnx", "--quantize", "int8", "--calib", "notes.txt"], "notes.txt"),
    ] {
        let text = compress(dir, status, arguments);
        assert!(text.contains(part), "{arguments:?}: {text}");
        assert_eq!(names(dir), before, "{arguments:?}");
    }
}
