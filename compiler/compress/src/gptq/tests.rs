//! GPTQ against rounding to the nearest level and against a search of everything.

use mcc_ir::{Error, Random};

use super::{Group, Options, Rounded, gptq, nearest};
use crate::curvature::{Order, row_errors};
use crate::levels::Levels;
use crate::matrix::Matrix;

fn random(seed: u64, rows: usize, columns: usize) -> Matrix {
    let mut random = Random::new(seed);
    Matrix { rows, columns, data: (0..rows * columns).map(|_| random.real() as f32).collect() }
}

/// The Gram matrix of `samples` correlated inputs; `dead` columns are always 0.
fn gram(seed: u64, columns: usize, samples: usize, dead: usize) -> Vec<f64> {
    let mut random = Random::new(seed);
    let mut gram = vec![0.0; columns * columns];
    for _ in 0..samples {
        let common = random.real();
        let scale = |c: usize| 1.0 + (c % 7) as f64;
        let x: Vec<f64> =
            (0..columns).map(|c| if c % 11 < dead { 0.0 } else { scale(c) * (random.real() + common) }).collect();
        for i in 0..columns {
            (0..columns).for_each(|j| gram[i * columns + j] += x[i] * x[j]);
        }
    }
    gram
}

/// Steps that reach the largest weight.
fn steps(bits: u32) -> impl Fn(Group<'_>) -> Levels + Sync {
    move |group| {
        let largest = group.weights.iter().fold(1e-6f32, |m, w| m.max(w.abs()));
        let highest = (1 << (bits - 1)) - 1;
        Levels::Steps { scale: f64::from(largest) / f64::from(highest), zero: 0, lowest: -highest - 1, highest }
    }
}

fn table(_: Group<'_>) -> Levels {
    Levels::Table { entries: [-0.9, -0.5, -0.2, -0.05, 0.05, 0.25, 0.45, 0.8].into(), factor: 1.0 }
}

fn total(weights: &Matrix, rounded: &Rounded, gram: &[f64]) -> f64 {
    row_errors(weights, &rounded.values, gram).expect("errors").iter().sum()
}

#[track_caller]
fn gains(gram: &[f64], options: &Options<'_>, levels: &(impl Fn(Group<'_>) -> Levels + Sync)) -> f64 {
    let columns = gram.len().isqrt();
    let weights = random(3, 37, columns);
    let rounded = gptq(&weights, gram, options, levels).expect("rounded");
    let plain = nearest(&weights, options, levels);
    let [new, old] = [&rounded, &plain].map(|r| row_errors(&weights, &r.values, gram).expect("errors"));
    assert!(new.iter().zip(&old).all(|(new, old)| new <= old));
    let width = options.group.unwrap_or(columns);
    for (at, (&code, &value)) in rounded.codes.iter().zip(&rounded.values.data).enumerate() {
        let (row, column) = (at / columns, at % columns);
        let level = &rounded.levels[row * columns.div_ceil(width) + column / width];
        let kept = options.kept.is_none_or(|kept| kept[at]);
        assert_eq!(value, if kept { level.value(code) } else { 0.0 });
    }
    total(&weights, &rounded, gram) / total(&weights, &plain, gram)
}

#[test]
fn errors_are_less_than_of_the_nearest_levels() {
    for (samples, dead) in [(2000, 0), (150, 0), (40, 0), (300, 3)] {
        let gram = gram(1, 150, samples, dead);
        for order in [Order::Given, Order::Energy] {
            for group in [None, Some(16), Some(40), Some(128)] {
                let options = Options { order, group, ..Options::default() };
                for bits in [3, 4, 8] {
                    let gain = gains(&gram, &options, &steps(bits));
                    assert!(gain < 0.9, "{samples} samples, {order:?}, {group:?}, {bits} bits: {gain}");
                }
                let gain = gains(&gram, &options, &table);
                assert!(gain < 0.9, "{samples} samples, {order:?}, {group:?}, a table: {gain}");
            }
        }
    }
}

#[test]
fn tiny_layers_are_nearly_as_good_as_searched() {
    // All roundings to two neighbouring levels of 8 weights.
    let mut sums = [0.0; 2];
    for seed in 0..20 {
        let (weights, gram) = (random(seed, 1, 8), gram(seed, 8, 30, 0));
        let levels = |_: Group<'_>| Levels::Steps { scale: 0.2, zero: 0, lowest: -8, highest: 7 };
        let rounded =
            gptq(&weights, &gram, &Options { damping: 1e-9, ..Options::default() }, &levels).expect("rounded");
        let level = levels(Group { row: 0, group: 0, weights: &[] });
        let best = (0..1 << 8).map(|choice: usize| {
            let value = |(i, &w): (usize, &f32)| level.value(level.around(w)[choice >> i & 1]);
            let data = weights.data.iter().enumerate().map(value).collect();
            row_errors(&weights, &Matrix { rows: 1, columns: 8, data }, &gram).expect("errors")[0]
        });
        sums[0] += total(&weights, &rounded, &gram);
        sums[1] += best.fold(f64::MAX, f64::min);
    }
    assert!(sums[0] < 2.0 * sums[1], "{sums:?}");
}

/// What GPTQ's own definition gives, one column after the other with the inverse of what remains of the Gram matrix.
#[test]
fn it_is_the_greedy_method_in_a_fixed_order() {
    let (weights, gram) = (random(5, 2, 2), vec![2.0, 1.5, 1.5, 3.0]);
    let levels = |_: Group<'_>| Levels::Steps { scale: 1.0, zero: 0, lowest: -2, highest: 1 };
    let rounded = gptq(&weights, &gram, &Options { damping: 1e-9, ..Options::default() }, &levels).expect("rounded");
    let plain = nearest(&weights, &Options::default(), &levels);
    for row in 0..2 {
        let &[a, b] = weights.row(row) else { panic!("two columns") };
        let first = a.round_ties_even().clamp(-2.0, 1.0);
        // The best second weight, given the first one's error: b + (a - first) * H01 / H11.
        let second = (b + (a - first) * 1.5 / 3.0).round_ties_even().clamp(-2.0, 1.0);
        let error = |values: [f32; 2]| {
            let [p, q] = [0, 1].map(|i| f64::from(weights.row(row)[i] - values[i]));
            2.0 * p * p + 3.0 * p * q + 3.0 * q * q
        };
        let &[x, y] = plain.values.row(row) else { panic!("two columns") };
        let want = if error([first, second]) <= error([x, y]) { [first, second] } else { [x, y] };
        assert_eq!(rounded.values.row(row), want);
    }
}

#[test]
fn groups_begin_with_what_their_weights_have_become() {
    let (weights, gram) = (random(7, 3, 64), gram(7, 64, 400, 0));
    let options = Options { group: Some(32), ..Options::default() };
    let seen = std::sync::Mutex::new(Vec::new());
    let levels = |group: Group<'_>| {
        seen.lock().expect("a lock").push((group.row, group.group, group.weights.to_vec()));
        steps(4)(group)
    };
    gptq(&weights, &gram, &options, &levels).expect("rounded");
    let seen = seen.into_inner().expect("a lock");
    let of = |row, group| seen.iter().filter(move |s| (s.0, s.1) == (row, group)).map(|s| &s.2);
    for row in 0..3 {
        assert!(of(row, 0).all(|w| w == &weights.row(row)[..32]));
        let second: Vec<_> = of(row, 1).collect();
        assert_eq!(second.len(), 2);
        assert!(second[0] == &weights.row(row)[32..] && second[1] != second[0]);
    }
}

#[test]
fn removed_weights_stay_zero() {
    let gram = gram(1, 60, 500, 0);
    let kept: Vec<bool> = (0..37 * 60).map(|i| i % 3 == 0).collect();
    for order in [Order::Given, Order::Energy] {
        let gain = gains(&gram, &Options { kept: Some(&kept), order, ..Options::default() }, &steps(4));
        assert!(gain < 0.9, "{gain}");
    }
}

#[test]
fn threads_do_not_matter() {
    let (weights, gram) = (random(9, 70, 90), gram(9, 90, 300, 1));
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| gptq(&weights, &gram, &Options::default(), &steps(3)).expect("rounded").codes)
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn degenerate_layers_are_rounded() {
    let weights = random(2, 3, 5);
    // No data at all: nothing says how weights could make up for others.
    let rounded = gptq(&weights, &[0.0; 25], &Options::default(), &steps(4)).expect("rounded");
    assert_eq!(rounded.codes, nearest(&weights, &Options::default(), &steps(4)).codes);
    let empty = gptq(&Matrix::zeros(0, 5), &[0.0; 25], &Options::default(), &steps(4)).expect("nothing");
    assert!(empty.codes.is_empty());
    let refused =
        |weights: &Matrix, gram: &[f64]| gptq(weights, gram, &Options::default(), &steps(4)).expect_err("refused");
    assert!(matches!(refused(&weights, &[f64::NAN; 25]), Error::InvalidModel(_)));
    assert!(matches!(refused(&weights, &[1.0; 24]), Error::Internal(_)));
    let bad = Matrix { data: vec![f32::INFINITY; 15], ..weights.clone() };
    assert!(matches!(refused(&bad, &[1.0; 25]), Error::InvalidModel(_)));
}
