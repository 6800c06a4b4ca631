//! Every pass on small graphs: `tests/cases/passes/PASS/CASE.mir`, and beside it the snapshot of the result.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mcc::ir::text::{self, Constants};
use mcc::ir::{DType, Graph, Random, Tensor, eval, verify};
use mcc::passes;
use mcc_targets::{Config, WeightFloats};

/// The settings in a case's first lines.
struct Settings {
    /// `// for aarch64-linux-gnu generic,+dotprod`: a target other than the default; `// weights f16`.
    config: Config,
    /// `// within 1e-3`: the tolerance, relative to 1 and the value, where the pass rounds.
    tolerance: Option<f64>,
}

impl Settings {
    fn of(source: &str) -> Settings {
        let mut config = Config::new("x86_64-unknown-linux-gnu", None).expect("the usual target");
        let (mut weights, mut tolerance) = (WeightFloats::AsGiven, None);
        for line in source.lines().map_while(|line| line.strip_prefix("// ")) {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["for", triple, cpu] => config = Config::new(triple, Some(cpu)).expect("a known target"),
                ["weights", "f16"] => weights = WeightFloats::F16,
                ["within", bound] => tolerance = Some(bound.parse().expect("a number")),
                _ => {}
            }
        }
        config.weights = weights;
        Settings { config, tolerance }
    }
}

/// Runs a pass on a graph; returns the result, and whether the pass reports a change, which must be true.
fn run(pass: &passes::Pass, before: &Graph, config: &Config) -> (Graph, bool) {
    let mut after = before.clone();
    let changed = pass.apply(&mut after, config).unwrap_or_else(|e| panic!("{e}"));
    assert!(
        changed || text::print(before) == text::print(&after),
        "{} says that it changed nothing, but did:\n{}",
        pass.name,
        text::print(&after)
    );
    after.remove_dead();
    verify(&after).unwrap_or_else(|e| panic!("{e}"));
    (after, changed)
}

/// Runs the pass that a case's folder is named after twice, and compares values before and after; returns whether it
/// changes anything.
fn check(path: &Path) -> bool {
    let name = path.parent().and_then(Path::file_name).and_then(|n| n.to_str()).expect("a folder named after a pass");
    let pass = passes::find(name).unwrap_or_else(|| panic!("no pass is named {name}"));
    let source = fs::read_to_string(path).expect("a case");
    let Settings { config, tolerance } = Settings::of(&source);
    let before = text::parse(&source).unwrap_or_else(|e| panic!("{e}"));
    verify(&before).unwrap_or_else(|e| panic!("{e}"));
    let printed = text::print(&before);
    let again = text::parse(&printed).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(text::print(&again), printed, "printed and parsed");

    let (after, changed) = run(pass, &before, &config);
    let result = text::print_with(&after, Constants::Digest);
    insta::with_settings!({ snapshot_path => path.parent().expect("a folder"), prepend_module_to_snapshot => false,
            omit_expression => true }, {
        insta::assert_snapshot!(path.file_stem().and_then(|s| s.to_str()).expect("a case's name"), result);
    });

    for seed in 1..=3 {
        let inputs = inputs(&before, seed);
        let expected = eval::eval_graph(&before, &inputs).unwrap_or_else(|e| panic!("{e}"));
        let got = eval::eval_graph(&after, &inputs).unwrap_or_else(|e| panic!("{e}\n{result}"));
        for ((output, e), g) in before.outputs.iter().zip(&expected).zip(&got) {
            assert_close(e, g, tolerance, &format!("output {}\n{result}", output.name));
        }
    }

    let (twice, _) = run(pass, &after, &config);
    assert_eq!(text::print(&twice), text::print(&after), "a second run changes something");
    changed
}

/// Tensors for a graph's inputs; each symbol has a small value of its own.
fn inputs(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let extent = |s: &mcc::ir::Sym| Some(2 + s.0.bytes().map(i64::from).sum::<i64>() % 5);
    let mut random = Random::new(seed);
    let mut tensors = Vec::new();
    for &node in graph.inputs() {
        let ty = graph.ty(node.into());
        let shape: Vec<usize> =
            ty.shape.iter().map(|d| d.eval(&extent).and_then(|e| e.try_into().ok()).expect("an extent")).collect();
        let values: Vec<f64> = (0..shape.iter().product::<usize>())
            .map(|_| match ty.dtype {
                DType::Bool => random.within(0, 1) as f64,
                t if t.is_float() => random.real() * 3.0,
                _ => random.within(0, 2) as f64,
            })
            .collect();
        tensors.push(Tensor::from_f64s(ty.dtype, shape, &values).expect("as many values as the shape asks for"));
    }
    tensors
}

fn assert_close(expected: &Tensor, got: &Tensor, tolerance: Option<f64>, place: &str) {
    let (absolute, relative) = tolerance.map_or((1e-5, 1e-4), |t| (t, t));
    assert_eq!(expected.ty(), got.ty(), "{place}");
    for (i, (e, g)) in expected.to_f64s().into_iter().zip(got.to_f64s()).enumerate() {
        let close = e == g || e.is_nan() && g.is_nan() || (e - g).abs() <= absolute + relative * e.abs();
        assert!(close, "element {i}: {e} became {g}: {place}");
    }
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/passes");
    let root = root.canonicalize().expect("the folder of cases");
    let entries = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").path()).collect()
    };
    let mut cases: Vec<PathBuf> = entries(&root).iter().flat_map(|dir| entries(dir)).collect();
    cases.retain(|p| p.extension().is_some_and(|e| e == "mir"));
    cases.sort();
    cases
}

/// Every case passes, and every pass of the pipeline has a case that it changes.
#[test]
fn every_case() {
    let (mut failed, mut at_work) = (Vec::new(), BTreeSet::new());
    let cases = cases();
    for case in &cases {
        match catch_unwind(AssertUnwindSafe(|| check(case))) {
            Ok(true) => drop(at_work.insert(case.parent().and_then(Path::file_name).expect("a folder").to_os_string())),
            Ok(false) => {}
            Err(_) => failed.push(case),
        }
    }
    assert!(failed.is_empty(), "{} cases failed: {failed:?}", failed.len());
    let all: BTreeSet<&str> = passes::PIPELINE.iter().flat_map(|phase| phase.passes).map(|pass| pass.name).collect();
    let without: Vec<&&str> = all.iter().filter(|name| !at_work.contains(std::ffi::OsStr::new(name))).collect();
    assert!(without.is_empty(), "no case under tests/cases/passes has {without:?} change something");
}
