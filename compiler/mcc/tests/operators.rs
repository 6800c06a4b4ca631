//! `docs/operators.md` and README.md match the importers' table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Width of the page.
const PAGE_COLUMNS: usize = 116;

fn document() -> String {
    let mut domains: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (domain, name) in mcc::onnx::operators() {
        assert!(domains.entry(domain).or_default().insert(name), "{domain} {name} has two rows");
    }
    let mut text = "# Operators\n\nWhat mcc imports, in every version of the operator sets unless an error says otherwise. \
                    Functions that a model defines\nitself are expanded. Cases of the ONNX backend suite that do not pass are in \
                    [tests/conformance/failing.txt](../tests/conformance/failing.txt).\n"
        .to_string();
    for (domain, names) in domains {
        let title = if domain.is_empty() { "ai.onnx" } else { domain };
        text += &format!("\n## {title} ({})\n", names.len());
        let mut column = PAGE_COLUMNS;
        for (n, name) in names.iter().enumerate() {
            let last = n + 1 == names.len();
            let word = if last { (*name).to_string() } else { format!("{name},") };
            if column + 1 + word.len() > PAGE_COLUMNS {
                text += "\n";
                column = 0;
            } else {
                text += " ";
                column += 1;
            }
            text += &word;
            column += word.len();
        }
        text += "\n";
    }
    text
}

/// The row of README.md that counts them.
#[test]
fn the_readme_counts_operators() {
    let count = |domain: &str| mcc::onnx::operators().filter(|(of, _)| *of == domain).count();
    let (onnx, ml, microsoft) = (count(""), count("ai.onnx.ml"), count("com.microsoft"));
    let row = format!("| operators | {onnx} of ONNX, {ml} of ONNX-ML, {microsoft} of ONNX Runtime: ");
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    assert!(std::fs::read_to_string(readme).expect("README.md").contains(&row), "README.md lacks `{row}`");
}

#[test]
fn the_list_of_operators_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operators.md");
    let (want, found) = (document(), std::fs::read_to_string(&file).unwrap_or_default());
    if want != found && std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &want).unwrap();
        return;
    }
    assert!(want == found, "docs/operators.md is out of date; UPDATE_DOCS=1 cargo test --test operators writes it");
}
