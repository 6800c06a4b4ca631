//! Every pass on small graphs: `tests/cases/passes/PASS/CASE.mir`, and beside it the snapshot of what becomes of it.

use std::fs;
use std::path::{Path, PathBuf};

use mcc::ir::{DType, Graph, Tensor, eval, text, verify};
use mcc::passes;
use mcc_targets::Target;

/// Runs the pass that a case's folder is named after, once and once more, and compares values before and after.
fn check(path: &Path) {
    let name = path.parent().and_then(Path::file_name).and_then(|n| n.to_str()).expect("a folder named after a pass");
    let pass = passes::find(name).unwrap_or_else(|| panic!("no pass is named {name}"));
    let source = fs::read_to_string(path).expect("a case");
    // A first line such as `// for aarch64-linux-gnu generic,+dotprod` names another machine than the usual one.
    let words: Vec<&str> = source.lines().next().unwrap_or_default().split_whitespace().collect();
    let target = match words.as_slice() {
        ["//", "for", triple, cpu] => Target::new(triple, Some(cpu)),
        _ => Target::new("x86_64-unknown-linux-gnu", None),
    };
    let target = target.expect("a known target");
    let before = text::parse(&source).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    verify(&before).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let printed = text::print(&before);
    let again = text::parse(&printed).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(text::print(&again), printed, "{}: printed and parsed", path.display());

    let mut after = before.clone();
    (pass.run)(&mut after, &target).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    after.remove_dead();
    verify(&after).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let result = text::print(&after);
    insta::with_settings!({ snapshot_path => path.parent().expect("a folder"), prepend_module_to_snapshot => false,
            omit_expression => true }, {
        insta::assert_snapshot!(path.file_stem().and_then(|s| s.to_str()).expect("a case's name"), result);
    });

    for seed in 1..=3 {
        let inputs = inputs(&before, seed);
        let expected = eval::eval_graph(&before, &inputs).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let got = eval::eval_graph(&after, &inputs).unwrap_or_else(|e| panic!("{}: {e}\n{result}", path.display()));
        for ((output, e), g) in before.outputs.iter().zip(&expected).zip(&got) {
            assert_close(e, g, &format!("{}: output {}\n{result}", path.display(), output.name));
        }
    }

    let mut twice = after.clone();
    (pass.run)(&mut twice, &target).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    twice.remove_dead();
    assert_eq!(text::print(&twice), result, "{}: a second run changes something", path.display());
}

/// Tensors for a graph's inputs; each symbol stands for a small number of its own.
fn inputs(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let extent = |s: &mcc::ir::Sym| Some(2 + s.0.bytes().map(i64::from).sum::<i64>() % 5);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut tensors = Vec::new();
    for &node in graph.inputs() {
        let ty = graph.ty(node.into());
        let shape: Vec<usize> =
            ty.shape.iter().map(|d| d.eval(&extent).and_then(|e| e.try_into().ok()).expect("an extent")).collect();
        let values: Vec<f64> = (0..shape.iter().product::<usize>())
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let unit = (state >> 11) as f64 / (1u64 << 53) as f64;
                match ty.dtype {
                    DType::Bool => f64::from(unit > 0.5),
                    t if t.is_float() => unit * 6.0 - 3.0,
                    _ => (unit * 3.0).floor(),
                }
            })
            .collect();
        tensors.push(Tensor::from_f64s(ty.dtype, shape, &values).expect("as many values as the shape asks for"));
    }
    tensors
}

fn assert_close(expected: &Tensor, got: &Tensor, place: &str) {
    assert_eq!(expected.ty(), got.ty(), "{place}");
    for (i, (e, g)) in expected.to_f64s().into_iter().zip(got.to_f64s()).enumerate() {
        let close = e == g || e.is_nan() && g.is_nan() || (e - g).abs() <= 1e-5 + 1e-4 * e.abs();
        assert!(close, "element {i}: {e} became {g}: {place}");
    }
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/passes");
    let root = root.canonicalize().expect("the folder of cases");
    let entries = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").path()).collect()
    };
    let mut cases: Vec<PathBuf> = entries(&root).iter().flat_map(|dir| entries(dir)).collect();
    cases.retain(|p| p.extension().is_some_and(|e| e == "mir"));
    cases.sort();
    cases
}

#[test]
fn every_case() {
    let cases = cases();
    assert!(cases.len() > 20, "only {} cases were found", cases.len());
    let failed: Vec<&PathBuf> = cases
        .iter()
        .filter(|case| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(case))).is_err())
        .collect();
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:?}", failed.len(), cases.len());
}
