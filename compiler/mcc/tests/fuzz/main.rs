//! Random graphs and kernels, compared with the oracles. Each fault found becomes a test.
//!
//! `MCC_FUZZ=FIRST..LAST` gives the seeds, each for one graph or kernel; without it a few are tried. Everything is
//! deterministic: `MCC_FUZZ=SEED` repeats a failure. `tests/README.md` has the commands.

mod check;
mod graphs;
mod interpret;
mod kernels;

use std::collections::BTreeSet;
use std::ops::Range;

use mcc_ir::samples::{Sample, samples};
use mcc_ir::{Graph, Op, Traits};

/// The seeds to try: the environment's, or `count` of them.
fn seeds(count: u64) -> Range<u64> {
    let Ok(text) = std::env::var("MCC_FUZZ") else { return 0..count };
    let number = |s: &str| s.trim().parse::<u64>().unwrap_or_else(|e| panic!("MCC_FUZZ={text}: {e}"));
    match text.split_once("..") {
        Some((first, last)) => number(first)..number(last),
        None => number(&text)..number(&text) + 1,
    }
}

/// Failures to report before the search ends.
const MAX_FAILURES: usize = 20;

/// Tries every seed; `one` returns the fault, or a word for the statistics.
fn search(count: u64, mut one: impl FnMut(u64) -> Result<&'static str, String>) {
    let mut counts: std::collections::BTreeMap<&'static str, u64> = std::collections::BTreeMap::new();
    let mut wrong = Vec::new();
    for seed in seeds(count) {
        match one(seed) {
            Ok(word) => *counts.entry(word).or_default() += 1,
            Err(what) => {
                eprintln!("seed {seed}: {what}\n");
                wrong.push(seed);
            }
        }
        if wrong.len() >= MAX_FAILURES {
            break;
        }
    }
    eprintln!("{counts:?}, seeds that failed: {wrong:?}");
    assert!(wrong.is_empty(), "seeds {wrong:?} failed");
    assert!(counts.values().sum::<u64>() > 0, "no seed was tried");
}

/// The evaluator on the original graph, the interpreter of the lowered program, and objects for every level and several
/// numbers of threads, between guard pages, agree.
#[test]
fn graphs() {
    search(40, check::graph);
}

/// Number of graphs in which every operation occurs.
const SEEDS: u64 = 2000;

/// Operations that random graphs do not contain yet: their kernels are tested with samples and cases only. The list is
/// exact, so that it can only become shorter.
const NOT_RANDOM: &[&str] = &[
    "Acos",
    "Acosh",
    "Asin",
    "Atanh",
    "Ceil",
    "Cosh",
    "IsInf",
    "IsNan",
    "LessOrEqual",
    "Pow",
    "Sinh",
    "Tan",
    "attention",
    "bitcast",
    "col2im",
    "dims",
    "gather_nd",
    "grid_sample",
    "iota",
    "max_pool_with_indices",
    "non_max_suppression",
    "non_zero",
    "reverse_sequence",
    "scatter_nd",
];

/// The name of an operation, or of its function.
fn name(op: &Op) -> String {
    match op {
        Op::Unary(f) => format!("{f:?}"),
        Op::Binary(f) => format!("{f:?}"),
        op => op.name().to_string(),
    }
}

/// Every operation that passes do not make occurs in random graphs, and what is listed does not.
#[test]
fn graphs_contain_every_operation() {
    let names = |graph: &Graph| graph.nodes().map(|node| name(graph.op(node))).collect::<Vec<_>>();
    let imported = |op: &Op| !op.is(Traits::MACHINE);
    let samples = samples().iter().map(Sample::graph);
    let all: BTreeSet<String> = samples
        .flat_map(|g| g.nodes().map(|n| g.op(n)).filter(|op| imported(op)).map(name).collect::<Vec<_>>())
        .collect();
    let random: BTreeSet<String> = (0..SEEDS).flat_map(|seed| names(&graphs::case(seed).graph)).collect();
    let listed = NOT_RANDOM.iter().map(|name| name.to_string()).collect();
    let missing: BTreeSet<String> = all.difference(&random).cloned().collect();
    let forgotten: Vec<&String> = missing.difference(&listed).collect();
    assert!(forgotten.is_empty(), "random graphs (mcc/tests/fuzz/graphs) do not contain {forgotten:?}");
    let found: Vec<&String> = listed.difference(&missing).collect();
    assert!(found.is_empty(), "random graphs contain {found:?}: NOT_RANDOM need not list them");
}

/// The interpreter of kernels and the emitters, at every level, agree on random kernels.
#[test]
fn kernels() {
    search(60, kernels::kernel);
}
