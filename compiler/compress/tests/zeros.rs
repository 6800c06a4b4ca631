//! Zeros among the weights: as many as asked for, where asked for, with less error than magnitudes alone.

mod common;

use common::{Builder, network, options, samples, setting};
use mcc_compress::layers::{self, Layer};
use mcc_compress::matrix::Matrix;
use mcc_compress::model::Model;
use mcc_compress::recipe::{Criterion, Pattern, Prune, Quantize, Recipe, Scope, Step};
use mcc_compress::session::{Session, compress};

fn pruned(steps: Vec<Step>) -> mcc_ir::Result<Session> {
    let (samples, options) = (samples(&[2, 3, 8, 8], 24), options());
    compress(network().model(17), &Recipe { steps, ..Recipe::default() }, &setting(&samples, &options))
}

fn zeros(step: Prune) -> Session {
    pruned(vec![Step::Prune(step)]).unwrap()
}

fn share(share: f64) -> Prune {
    Prune { share: Some(share), everywhere: true, ..Prune::default() }
}

fn pattern(text: &str) -> Prune {
    Prune { pattern: text.parse().unwrap(), everywhere: true, ..Prune::default() }
}

fn matrices(model: &Model) -> Vec<(Layer, Matrix)> {
    layers::find(model).into_iter().map(|l| (l.clone(), l.matrix(model).unwrap())).collect()
}

fn count(matrix: &Matrix) -> usize {
    matrix.data.iter().filter(|w| **w == 0.0).count()
}

const CRITERIA: [Criterion; 5] =
    [Criterion::L1, Criterion::L2, Criterion::Random, Criterion::Activation, Criterion::Error];

#[test]
fn every_layer_has_the_share_to_within_a_weight() {
    for criterion in CRITERIA {
        let done = zeros(Prune { criterion, ..share(0.7) });
        for (layer, matrix) in matrices(&done.model) {
            let wanted = if layer.is_depthwise() { 0.0 } else { 0.7 * matrix.data.len() as f64 };
            assert!((count(&matrix) as f64 - wanted).abs() <= 1.0, "{criterion:?} {}: {}", layer.name, count(&matrix));
        }
    }
}

#[test]
fn all_layers_together_have_a_global_share() {
    for criterion in CRITERIA {
        let done = zeros(Prune { criterion, scope: Scope::Global, ..share(0.6) });
        let pruned: Vec<(Layer, Matrix)> =
            matrices(&done.model).into_iter().filter(|(layer, _)| !layer.is_depthwise()).collect();
        let [gone, all] = [count, |m: &Matrix| m.data.len()].map(|of| pruned.iter().map(|(_, m)| of(m)).sum::<usize>());
        assert!((gone as f64 - 0.6 * all as f64).abs() <= pruned.len() as f64, "{criterion:?}: {gone} of {all}");
        let shares: Vec<f64> = pruned.iter().map(|(_, m)| m.zero_share()).collect();
        // Chance takes about as much from all: within four standard deviations.
        let chance = |m: &Matrix| 4.0 * (0.6 * 0.4 / m.data.len() as f64).sqrt();
        let differ = pruned
            .iter()
            .any(|(_, m)| (m.zero_share() - 0.6).abs() > if criterion == Criterion::Random { chance(m) } else { 0.02 });
        assert_eq!(differ, criterion != Criterion::Random, "{criterion:?}: {shares:?}");
        assert!(shares.iter().all(|&s| s <= 0.9 + 1e-9), "{criterion:?}: a layer loses nearly all: {shares:?}");
    }
}

/// The weights of a row by places of the window, then channels.
fn in_order(layer: &Layer, row: &[f32]) -> Vec<Vec<f32>> {
    let taps: usize = layer.shape.iter().skip(2).product::<usize>().max(1);
    (0..taps).map(|tap| row.iter().skip(tap).step_by(taps).copied().collect()).collect()
}

#[test]
fn two_of_four_channels_stay_at_each_place_of_the_window() {
    for reconstruct in [false, true] {
        let done = zeros(Prune { reconstruct, ..pattern("2:4") });
        let mut full = 0;
        for (layer, matrix) in matrices(&done.model).iter().filter(|(layer, _)| !layer.is_depthwise()) {
            for row in 0..matrix.rows {
                for channels in in_order(layer, matrix.row(row)) {
                    for group in channels.chunks(4) {
                        let left = group.iter().filter(|w| **w != 0.0).count();
                        assert!(left <= 2, "{}: {group:?}", layer.name);
                        full += left / 2;
                    }
                }
            }
        }
        // 72 groups of the first layer have three channels.
        assert_eq!(full, 72 + 16 + 20);
    }
}

#[test]
fn rows_of_a_run_keep_the_same_inputs() {
    let done = zeros(pattern("4x2:4"));
    for (layer, matrix) in matrices(&done.model).iter().filter(|(layer, _)| !layer.is_depthwise()) {
        let of = |row: usize| -> Vec<Vec<bool>> {
            let places = in_order(layer, matrix.row(row));
            places.iter().map(|channels| channels.iter().map(|w| *w != 0.0).collect()).collect()
        };
        for row in 0..matrix.rows {
            assert_eq!(of(row), of(row / 4 * 4), "{}", layer.name);
            assert!(of(row).iter().flat_map(|place| place.chunks(4)).all(|g| g.iter().filter(|w| **w).count() <= 2));
        }
    }
}

/// A product as wide as the target's panels, with a bias of its own, as exporters write it.
fn wide() -> Model {
    Builder::new(3)
        .input("x", &[-1, 64])
        .weights("w", &[64, 128])
        .weights("b", &[128])
        .node("MatMul", &["x", "w"], "m", |n| n.name = "first".to_string())
        .node("Add", &["m", "b"], "y", |n| n.name = "second".to_string())
        .output("y")
        .model(17)
}

#[test]
fn the_target_chooses_the_shape_also_of_layers_that_it_merges() {
    for (text, share) in [("blocks", Some(0.75)), ("2:4", None)] {
        let (samples, options) = (samples(&[32, 64], 24), options());
        let step = Prune { share, everywhere: false, ..pattern(text) };
        let recipe = Recipe { steps: vec![Step::Prune(step)], ..Recipe::default() };
        let done = compress(wide(), &recipe, &setting(&samples, &options)).unwrap();
        let reason = &done.changes[0].reason;
        assert!(reason.contains("times as fast") && reason.contains("blocks"), "{text}: {reason}");
        let matrix = layers::find(&done.model)[0].matrix(&done.model).unwrap();
        for (run, column) in (0..matrix.rows / 8).flat_map(|run| (0..matrix.columns).map(move |c| (run, c))) {
            let zero = |row: usize| matrix.row(run * 8 + row)[column] == 0.0;
            assert!((1..8).all(|row| zero(row) == zero(0)), "{text}: the target skips zeros of whole vectors");
        }
    }
}

#[test]
fn blocks_are_zero_as_a_whole() {
    let done = zeros(Prune { share: Some(0.5), ..pattern("4x1") });
    for (layer, matrix) in matrices(&done.model).iter().filter(|(layer, _)| !layer.is_depthwise()) {
        for column in 0..matrix.columns {
            for first in (0..matrix.rows).step_by(4) {
                let block: Vec<f32> = (first..(first + 4).min(matrix.rows)).map(|r| matrix.row(r)[column]).collect();
                let left = block.iter().filter(|w| **w != 0.0).count();
                assert!(left == 0 || left == block.len(), "{}: {block:?}", layer.name);
            }
        }
        assert!((count(matrix) as f64 - 0.5 * matrix.data.len() as f64).abs() <= 2.0, "{}", layer.name);
    }
}

#[test]
fn fits_never_lose_more_than_magnitudes() {
    for text in ["elements", "2:4", "4x1", "2x2"] {
        let pattern: Pattern = text.parse().unwrap();
        let share = (!matches!(pattern, Pattern::OutOf { .. })).then_some(0.6);
        let errors = |criterion, reconstruct| -> Vec<f64> {
            let step = Prune { pattern, share, criterion, reconstruct, everywhere: true, ..Prune::default() };
            // Only the first layer sees the same data whatever is pruned.
            let done = zeros(Prune { only: vec!["n1".to_string()], ..step });
            done.changes.iter().map(|c| c.error).filter(|e| *e > 0.0).collect()
        };
        let (best, plain) = (errors(Criterion::Error, true), errors(Criterion::L1, false));
        assert!(best.len() == 1 && plain.len() == 1, "{best:?} {plain:?}");
        for criterion in CRITERIA {
            let fitted = errors(criterion, true);
            assert!(best[0] <= fitted[0] * 1.02, "{text} {criterion:?}: {best:?} {fitted:?}");
        }
        assert!(errors(Criterion::L1, true)[0] < plain[0], "{text}");
        assert!(best[0] < plain[0], "{text}: {best:?} {plain:?}");
    }
}

#[test]
fn zeros_stay_when_pruned_again_and_quantized() {
    let again = vec![Step::Prune(share(0.4)), Step::Prune(pattern("2:4")), Step::Quantize(Quantize::default())];
    let (first, last) = (pruned(again[..1].to_vec()).unwrap(), pruned(again).unwrap());
    for ((layer, before), (_, after)) in matrices(&first.model).iter().zip(matrices(&last.model)) {
        let lost = before.data.iter().zip(&after.data).filter(|(a, b)| **a == 0.0 && **b != 0.0);
        assert_eq!(lost.count(), 0, "{}: zeros are gone", layer.name);
        assert!(layer.is_depthwise() || count(&after) > count(before), "{}: no more zeros", layer.name);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let made = |seed: u64, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (samples, options) = (samples(&[2, 3, 8, 8], 8), options());
        let steps = vec![Step::Prune(Prune { criterion: Criterion::Random, ..share(0.5) })];
        let recipe = Recipe { seed, steps, ..Recipe::default() };
        let done = pool.install(|| compress(network().model(17), &recipe, &setting(&samples, &options)).unwrap());
        done.written().unwrap().encode().unwrap()
    };
    assert_eq!(made(1, 1), made(1, 3));
    assert_ne!(made(1, 1), made(2, 1));
}

#[test]
fn only_layers_that_gain_are_pruned() {
    let done = pruned(vec![Step::Prune(Prune { everywhere: false, ..share(0.9) })]).unwrap();
    for change in &done.changes {
        assert!(!change.reason.is_empty(), "{}: no reason", change.layer);
        let stays = change.reason.starts_with("zeros gain nothing") || change.operator == "Conv" && change.zeros == 0.0;
        assert_eq!(stays, change.zeros == 0.0, "{}: {}", change.layer, change.reason);
    }
}

#[test]
fn what_cannot_be_pruned_says_why() {
    let error = |steps: Vec<Step>| match pruned(steps) {
        Ok(_) => panic!("pruned"),
        Err(error) => error.report().to_string(),
    };
    let twice = error(vec![Step::Prune(share(0.7)), Step::Prune(share(0.5))]);
    assert!(twice.contains("70") && twice.contains("zero already"), "{twice}");
    let depthwise = error(vec![Step::Prune(Prune { only: vec!["c2".to_string()], ..share(0.5) })]);
    assert!(depthwise.contains("every channel has weights of its own"), "{depthwise}");
    let late = error(vec![Step::Quantize(Quantize::default()), Step::Prune(share(0.5))]);
    assert!(late.contains("quantized by an earlier step"), "{late}");
    let narrow = error(vec![Step::Prune(Prune { only: vec!["n1".to_string()], ..pattern("3:4") })]);
    assert!(narrow.contains("too few channels"), "{narrow}");
    let misspelt = error(vec![Step::Prune(Prune { only: vec!["c7".to_string()], ..share(0.5) })]);
    assert!(misspelt.contains("no layer fits c7"), "{misspelt}");
}
