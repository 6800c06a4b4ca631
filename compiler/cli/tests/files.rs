//! How the command line treats files: inputs are never overwritten, and outputs that belong together are written
//! together.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/digits.onnx")
}

fn mcc(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mcc")).args(arguments).current_dir(dir).output().unwrap()
}

/// Runs mcc in a folder, checks the exit status, and returns stderr.
fn expect(status: i32, dir: &Path, arguments: &[&str]) -> String {
    let out = mcc(dir, arguments);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(status), "mcc {arguments:?}\n{stderr}");
    stderr
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
#[cfg(unix)]
fn what_is_read_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let model = std::fs::read(digits()).unwrap();
    std::fs::write(dir.join("m.onnx"), &model).unwrap();
    std::fs::write(dir.join("choices.json"), "{\"choices\": []}").unwrap();
    std::fs::hard_link(dir.join("m.onnx"), dir.join("hard.o")).unwrap();
    std::os::unix::fs::symlink("m.onnx", dir.join("soft.h")).unwrap();
    let before = names(dir);
    for arguments in [
        &["-o", "m.onnx"][..],
        &["-o", "./m.onnx"],
        &["-o", "hard.o"],
        &["-o", "soft.o"],
        &["-o", "m.o", "--header", "m.onnx"],
        &["-o", "m.o", "--header", "m.o"],
        &["-o", "m.h"],
        &["-o", "m.weights", "--weights", "separate"],
        &["-o", "m.o", "--header", "m.weights", "--weights", "separate"],
        &["-o", "choices.json", "--choices", "choices.json"],
        &["-o", "m.onnx", "--emit", "graph"],
        &["-o", "m.o", "--tune", "m.onnx"],
    ] {
        let stderr = expect(2, dir, &[&["m.onnx"], arguments].concat());
        assert!(stderr.contains("would overwrite") || stderr.contains("would be one file"), "{arguments:?}: {stderr}");
        assert_eq!(names(dir), before);
        assert_eq!(std::fs::read(dir.join("m.onnx")).unwrap(), model);
    }
    expect(2, dir, &["bench", "m.onnx", "--tune", "hard.o"]);
}

#[test]
fn files_come_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let model = digits();
    let model = model.to_str().unwrap();
    expect(0, dir, &[model, "-o", "m.o", "--weights", "separate"]);
    assert_eq!(names(dir), ["m.h", "m.o", "m.weights"]);
    // Compiling again replaces all files; an error leaves all as they were.
    let before = std::fs::read(dir.join("m.o")).unwrap();
    std::fs::write(dir.join("bad.onnx"), b"no model").unwrap();
    expect(1, dir, &["bad.onnx", "-o", "m.o"]);
    assert_eq!(names(dir), ["bad.onnx", "m.h", "m.o", "m.weights"]);
    assert_eq!(std::fs::read(dir.join("m.o")).unwrap(), before);
}

#[test]
#[cfg(target_os = "linux")]
fn what_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let (model, full) = (digits(), || std::fs::File::options().write(true).open("/dev/full").unwrap());
    let model = model.to_str().unwrap();
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcc"));
        command.current_dir(dir);
        command
    };
    for arguments in [&["inspect", model][..], &["completions", "bash"], &[model, "-o", "-", "--emit", "program"]] {
        let out = command().args(arguments).stdout(full()).output().unwrap();
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.code() == Some(1) && stderr.contains("stdout: No space left"), "{arguments:?}: {stderr}");
        // A closed stdout gives no message, but is not a success either. It is closed before the program starts: a
        // pipe takes a short output whole, so that one closed later may never be written to again.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let out = command().args(arguments).stdout(writer).output().unwrap();
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert_eq!((out.status.code(), stderr.as_str()), (Some(1), ""), "{arguments:?}");
    }
    expect(1, dir, &[model, "-o", "/dev/full", "--header", "m.h"]);
    assert_eq!(names(dir), [] as [&str; 0]);
    // A full stderr does not cause a panic either.
    let status = command().args(["no.onnx", "-o", "m.o"]).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}
