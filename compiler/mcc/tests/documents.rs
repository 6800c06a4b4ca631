//! Checks of the documents: the paths and tests that they name exist, links have a target, README.md is short.

use std::fs;
use std::path::{Path, PathBuf};

use mcc_targets::CPU_LEVELS;
use mcc_targets::choices::KNOBS;

/// The largest number of lines of README.md.
const README_LINES: usize = 120;

/// Folders that paths in documents are relative to: the repository, the crates of the compiler, the targets, the tests.
const BASES: &[&str] = &["", "compiler", "targets/src", "tests"];

/// Endings of files whose names are checked.
const ENDINGS: &[&str] = &["rs", "sh", "py", "c", "h", "md", "txt", "json", "toml", "onnx", "proto"];

/// Parts of words that look like paths but exist only at the reader's: generated files, placeholders in commands.
const READERS_OWN: &[&str] = &["test_data_set", "target/", "path/to/", ".venv/", "DIR/", "/PASS/", "/NAME/"];

/// README.md, the documents at the root and those in `docs/` and `tests/`, all of which must exist.
fn documents(root: &Path) -> Vec<PathBuf> {
    let mut documents: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "tests/README.md"].iter().map(|name| root.join(name)).collect();
    for folder in ["docs", "docs/design"] {
        let entries = fs::read_dir(root.join(folder)).expect("a folder of documents");
        documents.extend(
            entries.map(|e| e.expect("a folder entry").path()).filter(|p| p.extension().is_some_and(|e| e == "md")),
        );
    }
    documents
}

/// A document's lines outside of code blocks, and the words in code blocks that name a path of the repository.
fn prose_and_commands(text: &str) -> (String, Vec<&str>) {
    let (mut prose, mut commands, mut fenced) = (String::new(), Vec::new(), false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            let folders = ["tests/", "examples/", "docs/", "compiler/", "targets/", "runtime/", "proto/"];
            commands
                .extend(line.split_whitespace().filter(|word| folders.iter().any(|folder| word.starts_with(folder))));
        } else {
            prose += line;
            prose += "\n";
        }
    }
    (prose, commands)
}

/// Whether a word of code is the path of a file or a folder of the repository.
fn is_path(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let file = Path::new(word).extension().and_then(|e| e.to_str()).is_some_and(|e| ENDINGS.contains(&e));
    let ours = !READERS_OWN.iter().any(|own| word.contains(own));
    // A name without a folder may be the application's.
    word.chars().all(plain)
        && word.contains('/')
        && !word.starts_with(['/', '-'])
        && ours
        && (file || word.ends_with('/'))
}

/// Finds a path.
fn find(root: &Path, path: &str) -> Option<PathBuf> {
    BASES.iter().map(|base| root.join(base).join(path)).find(|p| p.exists())
}

/// Paths in backticks exist, links have a target, and `FILE.rs::NAME` is a function of that file.
#[test]
fn documents_name_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (mut wrong, mut paths, mut functions) = (Vec::new(), 0, 0);
    for document in documents(&root) {
        let text = fs::read_to_string(&document).expect("a document");
        let name = document.strip_prefix(&root).expect("below the root").display();
        let (prose, commands) = prose_and_commands(&text);
        let code = prose.split('`').skip(1).step_by(2).flat_map(str::split_whitespace);
        for word in code.chain(commands) {
            let word = word.trim_matches([',', ';', ':', '(', ')', '[', ']']);
            let (path, function) = word.split_once("::").map_or((word, None), |(path, f)| (path, Some(f)));
            if !is_path(path) {
                continue;
            }
            paths += 1;
            let Some(found) = find(&root, path) else {
                wrong.push(format!("{name}: {path} does not exist"));
                continue;
            };
            if let Some(function) = function {
                functions += 1;
                let source = fs::read_to_string(&found).unwrap_or_default();
                if !source.contains(&format!("fn {function}(")) {
                    wrong.push(format!("{name}: {path} has no function {function}"));
                }
            }
        }
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            let from = document.parent().expect("a folder");
            if !link.contains("://") && !path.is_empty() && !from.join(path).exists() {
                wrong.push(format!("{name}: the target of the link {link} does not exist"));
            }
        }
    }
    assert!(paths > 100 && functions > 20, "{paths} paths and {functions} functions were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `docs/cost-model.md` says which machine each CPU level and which figures each knob stands for.
#[test]
fn the_cost_model_names_every_level_and_knob() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cost-model.md");
    let text = fs::read_to_string(document).expect("docs/cost-model.md");
    let words: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    // `cortex-*` stands for several.
    let named = |name: &str| {
        words.iter().any(|word| word.strip_suffix('*').map_or(*word == name, |start| name.starts_with(start)))
    };
    let levels = CPU_LEVELS.iter().map(|level| level.name);
    let missing: Vec<&str> = levels.chain(KNOBS.iter().map(|knob| knob.1)).filter(|name| !named(name)).collect();
    assert!(missing.is_empty(), "docs/cost-model.md does not name {missing:?}");
}

#[test]
fn the_readme_is_short() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let lines = fs::read_to_string(readme).expect("README.md").lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines: {README_LINES} at most; details belong in docs/");
}
