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

/// Folders without figures that were measured: those stand in `targets/src/schedule`, sizes of caches in
/// `targets/src/machine.rs`.
const WITHOUT_FIGURES: &[&str] = &["lower/kernels", "passes"];

/// Numbers that folders without figures may name, by what they are.
const NUMBERS: &[(&str, &[&str])] = &[
    // Sizes of elements, words and records, orders of axes: how data lies.
    ("lower/kernels/gemm/strided.rs", &["SIZE"]),
    ("lower/kernels/int8/bitmask.rs", &["LANES", "COLUMNS"]),
    ("lower/kernels/lowbit/mod.rs", &["ENTRIES"]),
    ("lower/kernels/nn/attention.rs", &["SIZE"]),
    ("lower/kernels/sparse/blocks.rs", &["WORD"]),
    ("lower/kernels/trees/mod.rs", &["RECORD"]),
    ("passes/canonical/attention.rs", &["HEADS", "KEYS"]),
    ("passes/pack/lowbit.rs", &["BLOCKS"]),
    ("passes/sparse/int8_blocks.rs", &["STEP"]),
    // What the instruction set has.
    ("lower/kernels/conv/pool.rs", &["WIDEST"]),
    // Bounds and patterns of bits by which results are right.
    ("lower/kernels/int8/dot.rs", &["LEAST"]),
    ("lower/kernels/lowbit/int8_split.rs", &["LARGEST", "ALL_WHOLE", "ALIGNED", "MAGIC", "LEAST_BITS", "MOST_BITS"]),
    ("lower/kernels/lowbit/int8.rs", &["NARROW", "UNSIGNED_NARROW", "LONGEST"]),
    ("lower/kernels/conv/winograd.rs", &["PAIRS"]),
    ("passes/canonical/algebra/binary.rs", &["REASSOCIATE_BELOW"]),
    ("passes/pack/codebook.rs", &["TOLERANCE"]),
    ("passes/pack/lowbit.rs", &["TOLERANCE", "SPAN"]),
    ("passes/quantize/int8_reductions.rs", &["MOST"]),
    ("passes/sparse/blocks.rs", &["LARGEST"]),
    // How far the compiler looks, and how much it does itself.
    ("passes/canonical/algebra/bounds.rs", &["DEPTH"]),
    ("passes/canonical/algebra/quotient.rs", &["LOOK"]),
    ("passes/canonical/cse.rs", &["SAMPLES"]),
    ("passes/canonical/fold_constants.rs", &["WEIGHT_DEPTH"]),
    ("passes/canonical/fold_scales.rs", &["CLIMB"]),
    ("passes/canonical/scatters.rs", &["MAX_CUT_AXES"]),
    ("passes/layout/cut.rs", &["NEVER"]),
    ("passes/pack/lowbit.rs", &["STEPS"]),
    ("passes/prune/axes.rs", &["MULTIPLES"]),
    ("passes/prune/layer.rs", &["MAX_MAP"]),
    ("passes/quantize/qdq_propagation.rs", &["DEPTH"]),
    ("passes/quantize/requantize_affine.rs", &["DEPTH"]),
    ("passes/support/edit.rs", &["REPEATS"]),
    ("passes/support/fold.rs", &["MAX_GROWTH", "MAX_RESULT", "MAX_WORK"]),
    ("passes/support/size.rs", &["SYMBOL"]),
];

/// The name of the number that a line of code declares, or the literal of kilobytes or megabytes that it has.
fn number(line: &str) -> Option<&str> {
    let line = line.trim();
    let item = ["const ", "pub const ", "pub(crate) const ", "pub(super) const ", "static "].iter();
    if let Some((name, rest)) = item.filter_map(|start| line.strip_prefix(start)).find_map(|rest| rest.split_once(": "))
    {
        let ty = rest.split(['=', ';']).next().unwrap_or_default().trim_start_matches(['[', '(', '&']).trim();
        let numeric = ["i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "usize", "isize", "f32", "f64"];
        return numeric.contains(&ty.trim_end_matches(']')).then_some(name);
    }
    line.find("<< 10").or(line.find("<< 20")).map(|at| &line[at..at + 5])
}

#[test]
fn kernels_and_passes_name_no_figures() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for folder in WITHOUT_FIGURES {
        let mut files = Vec::new();
        sources(&root.join(folder), &mut files);
        for file in files {
            let name = file.strip_prefix(&root).expect("below src").display().to_string();
            if name.ends_with("tests.rs") || name.contains("/tests/") {
                continue;
            }
            for number in code(&file).lines().filter_map(number) {
                let allowed = NUMBERS.iter().any(|(path, names)| *path == name && names.contains(&number));
                match allowed {
                    true => found.push((name.clone(), number.to_string())),
                    false => {
                        wrong.push(format!("{name}: {number} belongs to targets/src/schedule, or to NUMBERS here"))
                    }
                }
            }
        }
    }
    for (path, names) in NUMBERS {
        let gone = names.iter().filter(|name| !found.contains(&(path.to_string(), name.to_string())));
        wrong.extend(gone.map(|name| format!("{path}: {name} is listed and not there")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn numbers_are_seen() {
    assert_eq!(number("    const LINE: i64 = 64;"), Some("LINE"));
    assert_eq!(number("pub(crate) const RATIO: f64 = 0.3;"), Some("RATIO"));
    assert_eq!(number("const ROWS: [i64; 3] = [8, 4, 1];"), Some("ROWS"));
    assert_eq!(number("let block = 256 << 10;"), Some("<< 10"));
    assert_eq!(number("const F64: Ty = Ty::new(Elem::F64, 1);"), None);
    assert_eq!(number("let shift = 1 << 15;"), None);
}
