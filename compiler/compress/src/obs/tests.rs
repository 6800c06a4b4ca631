//! Pruning against magnitudes and against a search of everything.

use mcc_ir::{Error, Random};

use super::{Options, Pattern, fit, prune};
use crate::curvature::{ROWS, row_errors, times_gram};
use crate::matrix::Matrix;
use crate::obs::choice::smallest;

fn random(seed: u64, rows: usize, columns: usize) -> Matrix {
    let mut random = Random::new(seed);
    Matrix { rows, columns, data: (0..rows * columns).map(|_| random.real() as f32).collect() }
}

/// The Gram matrix of correlated inputs; `dead` of 11 columns are always 0.
fn gram(seed: u64, columns: usize, samples: usize, dead: usize) -> Vec<f64> {
    let mut random = Random::new(seed);
    let mut gram = vec![0.0; columns * columns];
    for _ in 0..samples {
        let common = random.real();
        let scale = |c: usize| 1.0 + (c % 5) as f64;
        let x: Vec<f64> =
            (0..columns).map(|c| if c % 11 < dead { 0.0 } else { scale(c) * (random.real() + common) }).collect();
        for i in 0..columns {
            (0..columns).for_each(|j| gram[i * columns + j] += x[i] * x[j]);
        }
    }
    gram
}

fn options(pattern: Pattern<'_>) -> Options<'_> {
    Options { pattern, damping: 0.01, steps: 30 }
}

const SINGLE: Pattern<'_> = Pattern::Blocks { rows: 1, columns: 1, share: 0.7 };

#[test]
fn errors_are_less_than_without_the_smallest_weights() {
    let patterns = [
        SINGLE,
        Pattern::Few { keep: 2, of: 4 },
        Pattern::Few { keep: 1, of: 3 },
        Pattern::Blocks { rows: 1, columns: 8, share: 0.5 },
        Pattern::Blocks { rows: 4, columns: 4, share: 0.5 },
        Pattern::Blocks { rows: 16, columns: 1, share: 0.5 },
    ];
    for (samples, dead) in [(1500, 0), (60, 0), (500, 2)] {
        let (weights, gram) = (random(1, 70, 150), gram(2, 150, samples, dead));
        for pattern in patterns {
            let pruned = prune(&weights, &gram, &options(pattern)).expect("pruned");
            let data = smallest(&weights, &pattern);
            let old = row_errors(&weights, &Matrix { data, ..weights.clone() }, &gram).expect("errors");
            let groups = pruned.errors.chunks(ROWS).zip(old.chunks(ROWS));
            assert!(groups.clone().all(|(new, old)| new.iter().sum::<f64>() <= old.iter().sum()));
            let [new, old]: [f64; 2] = [pruned.errors.iter().sum(), old.iter().sum()];
            assert!(new < 0.6 * old, "{samples} samples, {pattern:?}: {new} and {old}");
            assert!(pruned.values.data.iter().zip(&pruned.kept).all(|(&v, &kept)| kept || v == 0.0));
        }
    }
}

#[test]
fn patterns_are_exact() {
    let (weights, gram) = (random(3, 64, 100), gram(4, 100, 400, 0));
    let zeros = |pattern| {
        let pruned = prune(&weights, &gram, &options(pattern)).expect("pruned");
        (pruned.values.zero_share(), pruned)
    };
    assert!((zeros(SINGLE).0 - 0.7).abs() < 1e-3);
    let (_, pruned) = zeros(Pattern::Few { keep: 2, of: 4 });
    assert!(pruned.kept.chunks(4).all(|group| group.iter().filter(|k| **k).count() == 2));
    // 100 is no multiple of 16: the last 4 inputs keep all that may stay.
    let (_, pruned) = zeros(Pattern::Few { keep: 5, of: 16 });
    for row in pruned.kept.chunks(100) {
        let counts: Vec<usize> = row.chunks(16).map(|group| group.iter().filter(|k| **k).count()).collect();
        assert_eq!(counts, [5, 5, 5, 5, 5, 5, 4]);
    }
    let (share, pruned) = zeros(Pattern::Blocks { rows: 2, columns: 8, share: 0.5 });
    assert!((share - 0.5).abs() < 0.02, "{share}");
    for top in (0..64).step_by(2) {
        for left in (0..100).step_by(8) {
            let at = |r: usize, c: usize| pruned.kept[(top + r) * 100 + left + c];
            let width = 8.min(100 - left);
            assert!((0..2).all(|r| (0..width).all(|c| at(r, c) == at(0, 0))));
        }
    }
    assert_eq!(zeros(Pattern::Blocks { rows: 1, columns: 1, share: 1.0 }).0, 1.0);
    assert_eq!(zeros(Pattern::Blocks { rows: 1, columns: 1, share: 0.0 }).1.values, weights);
    let mask: Vec<bool> = (0..6400).map(|i| i % 3 != 0).collect();
    assert_eq!(zeros(Pattern::Given(&mask)).1.kept, mask);
}

/// The least error over all weights where `kept`: the solution of the normal equations by elimination.
fn least_error(weights: &[f32], kept: &[bool], gram: &[f64]) -> f64 {
    let n = weights.len();
    let off: Vec<f64> = weights.iter().zip(kept).map(|(&w, &k)| if k { 0.0 } else { f64::from(w) }).collect();
    let free: Vec<usize> = (0..n).filter(|&i| kept[i]).collect();
    let product = times_gram(&off, gram, n);
    let mut rows: Vec<Vec<f64>> =
        free.iter().map(|&i| free.iter().map(|&j| gram[i * n + j]).chain([-product[i]]).collect()).collect();
    for i in 0..rows.len() {
        for r in 0..rows.len() {
            if r != i {
                let factor = rows[r][i] / rows[i][i];
                let pivot = rows[i].clone();
                rows[r].iter_mut().zip(pivot).for_each(|(x, p)| *x -= factor * p);
            }
        }
    }
    let mut d = off;
    free.iter().enumerate().for_each(|(k, &i)| d[i] = rows[k][free.len()] / rows[k][k]);
    let product = times_gram(&d, gram, n);
    d.iter().zip(product).map(|(a, b)| a * b).sum()
}

#[test]
fn tiny_layers_are_nearly_as_good_as_searched() {
    let mut sums = [0.0; 3];
    for seed in 0..20 {
        let (weights, gram) = (random(seed, 1, 8), gram(seed, 8, 40, 0));
        let half = Pattern::Blocks { rows: 1, columns: 1, share: 0.5 };
        let pruned = prune(&weights, &gram, &Options { damping: 1e-9, ..options(half) }).expect("pruned");
        assert_eq!(pruned.kept.iter().filter(|k| **k).count(), 4);
        let of = |kept: &[bool]| least_error(&weights.data, kept, &gram);
        // The weights that stay are fitted exactly.
        let fitted = of(&pruned.kept);
        assert!((pruned.errors[0] - fitted).abs() <= 1e-3 * fitted + 1e-6, "{} and {fitted}", pruned.errors[0]);
        let masks = (0..1u32 << 8).filter(|m| m.count_ones() == 4);
        let best = masks.map(|m| of(&(0..8).map(|i| m >> i & 1 == 1).collect::<Vec<_>>())).fold(f64::MAX, f64::min);
        let data = smallest(&weights, &half);
        let magnitude = of(&data.iter().map(|&v| v != 0.0).collect::<Vec<_>>());
        sums = [sums[0] + fitted, sums[1] + best, sums[2] + magnitude];
    }
    let [got, best, magnitude] = sums;
    assert!(got < 2.5 * best && got < magnitude, "{got}, searched {best}, by magnitude {magnitude}");
}

#[test]
fn groups_of_few_are_chosen_with_the_least_error() {
    // One group: the choice and its cost are exact, so it is the best of all six.
    for seed in 0..20 {
        let (weights, gram) = (random(seed, 1, 4), gram(seed, 4, 40, 0));
        let few = Options { damping: 1e-9, ..options(Pattern::Few { keep: 2, of: 4 }) };
        let pruned = prune(&weights, &gram, &few).expect("pruned");
        let masks = (0..1u32 << 4).filter(|m| m.count_ones() == 2);
        let of = |m: u32| least_error(&weights.data, &(0..4).map(|i| m >> i & 1 == 1).collect::<Vec<_>>(), &gram);
        let best = masks.map(of).fold(f64::MAX, f64::min);
        assert!(pruned.errors[0] <= 3.0 * best + 1e-6, "seed {seed}: {} and {best}", pruned.errors[0]);
    }
}

#[test]
fn fitting_adds_no_error_and_leaves_dead_inputs() {
    let (weights, gram) = (random(5, 40, 66), gram(6, 66, 30, 2));
    let kept: Vec<bool> = (0..40 * 66).map(|i| i % 2 == 0).collect();
    let start: Vec<f32> = weights.data.iter().zip(&kept).map(|(&w, &k)| if k { w } else { 0.0 }).collect();
    let start = Matrix { data: start, ..weights.clone() };
    let error = |m: &Matrix| row_errors(&weights, m, &gram).expect("errors");
    let mut last = error(&start);
    for steps in [1, 3, 10, 40] {
        let fitted = fit(&weights, start.clone(), &kept, &gram, steps).expect("fitted");
        let new = error(&fitted);
        assert!(new.iter().zip(&last).all(|(new, old)| *new <= old * (1.0 + 1e-6) + 1e-6), "{steps} steps");
        let dead = (0..40 * 66).filter(|i| i % 66 % 11 < 2);
        assert!(dead.clone().all(|i| fitted.data[i] == start.data[i]));
        last = new;
    }
}

#[test]
fn impossible_patterns_are_told() {
    let (weights, gram) = (random(1, 2, 3), gram(1, 3, 9, 0));
    let refused = |pattern| prune(&weights, &gram, &options(pattern)).expect_err("refused");
    assert!(matches!(refused(Pattern::Blocks { rows: 1, columns: 1, share: 1.5 }), Error::Usage(_)));
    assert!(matches!(refused(Pattern::Blocks { rows: 3, columns: 1, share: 0.5 }), Error::Usage(_)));
    assert!(matches!(refused(Pattern::Few { keep: 3, of: 2 }), Error::Usage(_)));
    assert!(matches!(refused(Pattern::Given(&[true])), Error::Internal(_)));
    // Without data every direction costs the same: the smallest weights go.
    let none = prune(&weights, &[0.0; 9], &options(Pattern::Few { keep: 1, of: 3 })).expect("pruned");
    assert_eq!(none.values.data, smallest(&weights, &Pattern::Few { keep: 1, of: 3 }));
}
