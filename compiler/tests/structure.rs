//! Nothing points backwards: the stages know the IR and the targets, not one another.

use std::fs;
use std::path::{Path, PathBuf};

/// Stage, and the sibling modules that it must not use.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("ir", &["onnx", "passes", "lower", "codegen", "driver", "loader", "cli"]),
    ("onnx", &["passes", "lower", "codegen", "driver", "loader", "cli"]),
    ("passes", &["onnx", "lower", "codegen", "driver", "loader", "cli"]),
    ("lower", &["onnx", "passes", "codegen", "driver", "loader", "cli"]),
    ("codegen", &["onnx", "passes", "driver", "loader", "cli"]),
];

/// Crates, and the only rooms that may name them. The command line reads the ONNX suite's tensors, which are protobuf
/// messages too.
const PRIVATE: &[(&str, &[&str])] = &[
    ("petgraph", &["ir/graph.rs", "passes/layout/cut.rs"]),
    ("cranelift", &["codegen/"]),
    ("mcc_proto", &["onnx/", "cli/"]),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a source folder") {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The file's code without comments and without its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    before_tests.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn stages_do_not_point_backwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20, "the sources were not found");
    let mut wrong = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).expect("below src").display().to_string();
        // Tests compare stages with one another.
        if name.ends_with("tests.rs") || name.ends_with("testing.rs") || name.contains("/tests/") {
            continue;
        }
        let code = code(&file);
        for (stage, forbidden) in FORBIDDEN {
            if name != format!("{stage}.rs") && !name.starts_with(&format!("{stage}/")) {
                continue;
            }
            let bad = forbidden.iter().filter(|other| code.contains(&format!("crate::{other}")));
            wrong.extend(bad.map(|other| format!("{name} uses crate::{other}")));
        }
        for (krate, rooms) in PRIVATE {
            if !rooms.iter().any(|room| name.starts_with(room)) && code.contains(krate) {
                wrong.push(format!("{name} names {krate}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
