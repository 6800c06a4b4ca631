//! Learned roundings against given ones and against a search of everything.

use mcc_ir::{Error, Random};

use super::{Options, adaround};
use crate::curvature::row_errors;
use crate::gptq::{self, Group, Rounded, gptq, nearest};
use crate::levels::Levels;
use crate::matrix::Matrix;

fn layer(seed: u64, rows: usize, columns: usize) -> (Matrix, Vec<f64>) {
    let mut random = Random::new(seed);
    let data = (0..rows * columns).map(|_| random.real() as f32).collect();
    let mut gram = vec![0.0; columns * columns];
    for _ in 0..3 * columns {
        let common = random.real();
        let x: Vec<f64> = (0..columns).map(|c| (1.0 + (c % 5) as f64) * (random.real() + common)).collect();
        for i in 0..columns {
            (0..columns).for_each(|j| gram[i * columns + j] += x[i] * x[j]);
        }
    }
    (Matrix { rows, columns, data }, gram)
}

fn levels(_: Group<'_>) -> Levels {
    Levels::Steps { scale: 0.25, zero: 0, lowest: -4, highest: 3 }
}

fn error(weights: &Matrix, rounded: &Rounded, gram: &[f64]) -> Vec<f64> {
    row_errors(weights, &rounded.values, gram).expect("errors")
}

#[test]
fn no_row_is_worse_than_given() {
    let (weights, gram) = layer(1, 40, 60);
    for group in [None, Some(16)] {
        let how = gptq::Options { group, ..Default::default() };
        for given in [nearest(&weights, &how, &levels), gptq(&weights, &gram, &how, &levels).expect("rounded")] {
            let before = error(&weights, &given, &gram);
            for iterations in [0, 60] {
                let learned = adaround(&weights, &gram, given.clone(), &Options { iterations, ..Options::default() })
                    .expect("learned");
                let after = error(&weights, &learned, &gram);
                assert!(after.iter().zip(&before).all(|(after, before)| after <= before));
                let [after, before]: [f64; 2] = [after.iter().sum(), before.iter().sum()];
                assert!(after < 0.97 * before, "{group:?}, {iterations} iterations: {after} and {before}");
                assert_eq!(learned.levels, given.levels);
            }
        }
    }
}

#[test]
fn tiny_layers_are_as_good_as_searched() {
    let mut sums = [0.0; 2];
    for seed in 0..12 {
        let (weights, gram) = layer(seed, 1, 8);
        let given = nearest(&weights, &gptq::Options::default(), &levels);
        let learned = adaround(&weights, &gram, given, &Options::default()).expect("learned");
        let level = levels(Group { row: 0, group: 0, weights: &[] });
        let best = (0..1 << 8).map(|choice: usize| {
            let value = |(i, &w): (usize, &f32)| level.value(level.around(w)[choice >> i & 1]);
            let data = weights.data.iter().enumerate().map(value).collect();
            row_errors(&weights, &Matrix { data, ..weights.clone() }, &gram).expect("errors")[0]
        });
        sums[0] += error(&weights, &learned, &gram)[0];
        sums[1] += best.fold(f64::MAX, f64::min);
    }
    assert!(sums[0] < 1.25 * sums[1], "{sums:?}");
}

#[test]
fn tables_and_masks_are_kept() {
    let (weights, gram) = layer(3, 33, 40);
    let table =
        |_: Group<'_>| Levels::Table { entries: [-0.9, -0.5, -0.2, -0.05, 0.05, 0.25, 0.45, 0.8].into(), factor: 1.0 };
    let kept: Vec<bool> = (0..33 * 40).map(|i| i % 3 != 0).collect();
    let how = gptq::Options { kept: Some(&kept), ..Default::default() };
    let given = nearest(&weights, &how, &table);
    let options = Options { iterations: 40, kept: Some(&kept), ..Options::default() };
    let learned = adaround(&weights, &gram, given.clone(), &options).expect("learned");
    let zeros = learned.values.data.iter().zip(&kept).all(|(&v, &kept)| kept || v == 0.0);
    assert!(
        zeros
            && learned
                .values
                .data
                .iter()
                .all(|v| *v == 0.0 || matches!(&given.levels[0], Levels::Table { entries, .. } if entries.contains(v)))
    );
    let [after, before]: [f64; 2] = [&learned, &given].map(|r| error(&weights, r, &gram).iter().sum());
    assert!(after < before);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| adaround(&weights, &gram, given.clone(), &options).expect("learned").codes)
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn bad_sizes_are_told() {
    let (weights, gram) = layer(4, 2, 5);
    let given = nearest(&weights, &gptq::Options::default(), &levels);
    let refused = adaround(&weights, &gram[1..], given.clone(), &Options::default()).expect_err("refused");
    assert!(matches!(refused, Error::Internal(_)));
    let refused = adaround(&weights, &[f64::NAN; 25], given, &Options::default()).expect_err("refused");
    assert!(matches!(refused, Error::InvalidModel(_)));
}
