//! Random graphs and kernels, compared with the oracles. Each fault found becomes a test.
//!
//! `MCC_FUZZ=FIRST..LAST` gives the seeds, each for one graph or kernel; without it a few are tried. Everything is
//! deterministic: `MCC_FUZZ=SEED` repeats a failure. `tests/README.md` has the commands.

mod check;
mod graphs;
mod interpret;
mod kernels;

use std::ops::Range;

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

/// The interpreter of kernels and both emitters, at every level, agree on random kernels.
#[test]
fn kernels() {
    search(60, kernels::kernel);
}
