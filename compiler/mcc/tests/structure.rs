//! Dependencies go one way: the stages use the IR and the targets, not one another.

use std::fs;
use std::path::{Path, PathBuf};

/// The stages (crates below `compiler`), and the crates of this repository that each may depend on; Cargo ensures that
/// code uses no others. Dependencies of tests are not restricted.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("ir", &[]),
    ("onnx", &["ir", "proto"]),
    ("passes", &["ir", "targets"]),
    ("kernel", &["ir", "runtime", "targets"]),
    ("codegen", &["ir", "kernel", "runtime", "targets"]),
    ("loader", &["ir", "runtime", "targets"]),
    ("runner", &["ir", "loader"]),
    // Around the compiler: what a model is worth, and what it costs to make it smaller.
    ("data", &["ir", "onnx", "proto"]),
    ("eval", &["data", "ir", "runtime"]),
    ("compress", &["data", "eval", "ir", "onnx", "proto"]),
];

/// External crates, and the only crates or files below `compiler` that may use them. The command line reads the ONNX
/// suite's tensors, which are protobuf messages.
const PRIVATE: &[(&str, &[&str])] = &[
    ("petgraph", &["ir/src/graph.rs", "passes/src/layout/cut.rs"]),
    ("cranelift", &["codegen/"]),
    ("mcc_proto", &["onnx/", "data/", "compress/", "cli/"]),
    ("clap", &["cli/"]),
    ("indicatif", &["cli/"]),
    ("npyz", &["data/"]),
    ("zip", &["data/"]),
    ("image", &["data/", "eval/src/report/preview.rs"]),
    ("symphonia", &["data/"]),
    ("plotters", &["eval/"]),
    ("serde_json", &["cli/"]),
];

/// The crates' folder.
fn compiler() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

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

/// The file's code without comments and tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    before_tests.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The crates of this repository in a table of dependencies of a crate's manifest.
fn dependencies(krate: &str, table: &str) -> Vec<String> {
    let manifest = fs::read_to_string(compiler().join(krate).join("Cargo.toml")).expect("a manifest");
    let lines = manifest.lines().skip_while(|line| *line != format!("[{table}]")).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.strip_prefix("mcc-")?.split(['.', ' ']).next());
    names.map(str::to_string).collect()
}

#[test]
fn stages_do_not_point_backwards() {
    let mut wrong = Vec::new();
    for (stage, allowed) in DEPENDENCIES {
        assert!(
            !dependencies(stage, "dependencies").is_empty() || allowed.is_empty(),
            "{stage}: no dependencies were read"
        );
        let others = dependencies(stage, "dependencies").into_iter().filter(|d| !allowed.contains(&d.as_str()));
        wrong.extend(others.map(|other| format!("{stage} depends on {other}")));
    }
    let mut files = Vec::new();
    sources(&compiler(), &mut files);
    assert!(files.len() > 300, "the sources were not found");
    for file in files {
        let name = file.strip_prefix(compiler()).expect("below compiler").display().to_string();
        if name.ends_with("tests.rs") || name.contains("/tests/") {
            continue;
        }
        let code = code(&file);
        let named = PRIVATE.iter().filter(|(_, rooms)| !rooms.iter().any(|room| name.starts_with(room)));
        let named = named.filter(|(krate, _)| ["::", " as "].iter().any(|end| code.contains(&format!("{krate}{end}"))));
        wrong.extend(named.map(|(krate, _)| format!("{name} names {krate}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Folders that may not hold measured figures; these belong in `targets/src/schedule`, cache sizes in
/// `targets/src/machine.rs`.
const WITHOUT_FIGURES: &[&str] = &["kernel/src/kernels", "passes/src"];

/// Numeric constants that these folders may hold, by their meaning.
const NUMBERS: &[(&str, &[&str])] = &[
    // Sizes of elements, words and records, orders of axes: memory layout.
    ("kernel/src/kernels/gemm/strided.rs", &["SIZE"]),
    ("kernel/src/kernels/int8/bitmask.rs", &["LANES", "COLUMNS"]),
    ("kernel/src/kernels/int8/dot/matrices.rs", &["LANES", "QUADRANTS"]),
    ("kernel/src/kernels/lowbit/mod.rs", &["ENTRIES"]),
    ("kernel/src/kernels/nn/attention.rs", &["SIZE"]),
    ("kernel/src/kernels/sparse/blocks.rs", &["WORD"]),
    ("kernel/src/kernels/trees/mod.rs", &["RECORD"]),
    ("passes/src/canonical/attention.rs", &["SWAP_HEADS", "KEYS_TO_TOKENS"]),
    ("passes/src/sparse/int8_blocks.rs", &["BLOCK_BYTES"]),
    // Properties of the instruction set.
    ("kernel/src/kernels/conv/pool.rs", &["WIDEST"]),
    // Bounds and bit patterns that correctness depends on.
    ("kernel/src/kernels/int8/dot.rs", &["MINUS_128"]),
    (
        "kernel/src/kernels/lowbit/int8_split.rs",
        &["LARGEST_NUMBER", "ALL_WHOLE", "PADDED_ELEMENTS", "MAGIC", "MIN_MAGNITUDE_BITS", "MAX_MAGNITUDE_BITS"],
    ),
    (
        "kernel/src/kernels/lowbit/int8.rs",
        &["MAX_NARROW_ELEMENTS", "MAX_UNSIGNED_NARROW_ELEMENTS", "MAX_BLOCK_ELEMENTS"],
    ),
    ("kernel/src/kernels/conv/winograd_maps.rs", &["PAIRS"]),
    ("passes/src/canonical/algebra/binary.rs", &["MAX_REASSOCIATED_ADDEND"]),
    ("passes/src/pack/codebook.rs", &["MAX_RELATIVE_ERROR"]),
    ("passes/src/pack/lowbit.rs", &["MAX_RELATIVE_ERROR", "MAX_SPAN"]),
    ("passes/src/quantize/int8_reductions.rs", &["MAX_SUMMED_ELEMENTS"]),
    ("passes/src/sparse/blocks.rs", &["MAX_IMAGE_BYTES"]),
    // Limits on the compiler's own searching and computing.
    ("passes/src/canonical/algebra/bounds.rs", &["MAX_SEARCH_DEPTH"]),
    ("passes/src/canonical/algebra/quotient.rs", &["MAX_SEARCHED_VALUES"]),
    ("passes/src/canonical/cse.rs", &["HASHED_SAMPLES"]),
    ("passes/src/canonical/fold_constants.rs", &["WEIGHT_DEPTH"]),
    ("passes/src/canonical/fold_scales.rs", &["MAX_CLIMB"]),
    ("passes/src/canonical/scatters.rs", &["MAX_CUT_AXES"]),
    ("passes/src/layout/cut.rs", &["FORBIDDEN"]),
    ("passes/src/pack/codebook.rs", &["KNOWN", "FIRST"]),
    ("passes/src/pack/lowbit.rs", &["MAX_SEARCHED_OPERATIONS"]),
    ("passes/src/prune/axes.rs", &["MAX_MULTIPLE"]),
    ("passes/src/prune/layer.rs", &["MAX_MAP_GROWTH"]),
    ("passes/src/quantize/qdq_propagation.rs", &["MAX_MOVES"]),
    ("passes/src/quantize/requantize_affine.rs", &["MAX_SEARCH_DEPTH"]),
    ("passes/src/support/edit.rs", &["MAX_REWRITES"]),
    ("passes/src/support/fold.rs", &["MAX_GROWN_BYTES", "MAX_RESULT_BYTES", "MAX_MULTIPLICATIONS"]),
    ("passes/src/support/size.rs", &["ASSUMED_EXTENT"]),
];

/// The name of the numeric constant that a line of code declares, or the literal of kilobytes or megabytes in it.
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
    let root = compiler();
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for folder in WITHOUT_FIGURES {
        let mut files = Vec::new();
        sources(&root.join(folder), &mut files);
        for file in files {
            let name = file.strip_prefix(&root).expect("below compiler").display().to_string();
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
        wrong.extend(gone.map(|name| format!("{path}: {name} is listed but does not exist")));
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
