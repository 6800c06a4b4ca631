//! Codebooks against a search of everything, and their promises.

use mcc_ir::{Error, Random};

use super::{Codebooks, Fit, Options, nearest};

const KMEANS: Options = Options { bits: 2, rows_per_table: 1, fit: Fit::KMeans, keep_zeros: false };

fn weights(seed: u64, n: usize) -> Vec<f32> {
    let mut random = Random::new(seed);
    // Heavy tails, as weights have them.
    (0..n).map(|_| (random.real() + random.real() + 4.0 * random.real().powi(7)) as f32).collect()
}

fn error(values: &[f32], weights: &[f32], importance: Option<&[f64]>) -> f64 {
    let columns = importance.map_or(1, <[f64]>::len);
    let squares = weights.iter().zip(values).map(|(&w, &v)| f64::from(w - v).powi(2));
    squares.enumerate().map(|(i, e)| e * importance.map_or(1.0, |h| h[i % columns])).sum()
}

/// The least error over all ways to cut sorted weights into `k` intervals.
fn least_error(points: &[(f64, f64)], k: usize) -> f64 {
    if points.is_empty() {
        return 0.0;
    }
    let cost = |points: &[(f64, f64)]| {
        let total: f64 = points.iter().map(|p| p.1).sum();
        let mean = points.iter().map(|p| p.0 * p.1).sum::<f64>() / total;
        points.iter().map(|p| p.1 * (p.0 - mean).powi(2)).sum::<f64>()
    };
    match k {
        1 => cost(points),
        _ => (1..=points.len()).map(|n| cost(&points[..n]) + least_error(&points[n..], k - 1)).fold(f64::MAX, f64::min),
    }
}

#[test]
fn clusters_have_the_least_error_of_all() {
    for seed in 0..30 {
        let n = 5 + seed as usize % 9;
        let w = weights(seed, n);
        let mut random = Random::new(seed + 100);
        let importance: Vec<f64> = (0..n).map(|_| random.real().abs() + 0.01).collect();
        for importance in [None, Some(importance.as_slice())] {
            let books = Codebooks::fit(&w, n, importance, KMEANS).expect("tables");
            let mut points: Vec<(f64, f64)> =
                w.iter().enumerate().map(|(i, &w)| (f64::from(w), importance.map_or(1.0, |h| h[i]))).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (got, want) = (error(&books.values(), &w, importance), least_error(&points, 4));
            assert!((got - want).abs() <= 1e-6 * want + 1e-12, "seed {seed}: {got} instead of {want}");
        }
    }
}

#[test]
fn many_weights_have_less_error_than_with_equal_populations() {
    // Large enough to be merged first.
    let w = weights(1, 20_000);
    let options = Options { bits: 8, rows_per_table: 20, ..KMEANS };
    let of = |fit| Codebooks::fit(&w, 1000, None, Options { fit, ..options }).expect("tables");
    let [merged, quantiles] = [Fit::KMeans, Fit::Quantiles].map(|fit| error(&of(fit).values(), &w, None));
    assert!(merged < 0.5 * quantiles, "{merged} and {quantiles}");
}

#[test]
fn merging_loses_next_to_nothing() {
    let w = weights(5, 40_000);
    let options = Options { bits: 5, rows_per_table: 1, ..KMEANS };
    let merged = error(&Codebooks::fit(&w, w.len(), None, options).expect("tables").values(), &w, None);
    let points = super::Points::new(w.iter().map(|&w| (f64::from(w), 1.0)).collect());
    let table = points.searched(32);
    let best: f64 = w.iter().map(|&v| f64::from(v - table[nearest(&table, v)]).powi(2)).sum();
    assert!(merged <= 1.002 * best, "{merged} instead of {best}");
}

#[test]
fn populations_are_equal() {
    let w: Vec<f32> = weights(2, 64);
    let books = Codebooks::fit(&w, 64, None, Options { bits: 3, fit: Fit::Quantiles, ..KMEANS }).expect("tables");
    let mut sorted = w.clone();
    sorted.sort_by(f32::total_cmp);
    let means: Vec<f32> =
        sorted.chunks(8).map(|c| (c.iter().map(|&v| f64::from(v)).sum::<f64>() / 8.0) as f32).collect();
    let close = books.centres.iter().zip(&means).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(close, "{:?} instead of {means:?}", books.centres);
    // Many weights are one number: the others still get all the centres that are left.
    let mut same = vec![0.5; 60];
    same.extend([1.0, 2.0, 3.0, 4.0]);
    let books = Codebooks::fit(&same, 64, None, Options { bits: 2, fit: Fit::Quantiles, ..KMEANS }).expect("tables");
    let mut different = books.centres.clone();
    different.dedup();
    assert_eq!(different.len(), 4);
}

#[test]
fn few_different_weights_are_kept_exactly() {
    let w = [0.5, -0.5, 0.25, 0.5, -0.5, 0.25];
    for fit in [Fit::KMeans, Fit::Quantiles] {
        let books = Codebooks::fit(&w, 3, None, Options { rows_per_table: 2, fit, ..KMEANS }).expect("tables");
        assert_eq!(books.values(), w);
        assert_eq!(books.centres, [-0.5, 0.25, 0.5, 0.5]);
        assert_eq!(books.codes, [2, 0, 1, 2, 0, 1]);
    }
}

#[test]
fn groups_have_their_own_tables() {
    let w = weights(3, 7 * 40);
    let books = Codebooks::fit(&w, 40, None, Options { rows_per_table: 3, ..KMEANS }).expect("tables");
    assert_eq!(books.centres.len(), 3 * 4);
    assert_eq!(books.table(6), &books.centres[8..]);
    let last = Codebooks::fit(&w[6 * 40..], 40, None, KMEANS).expect("tables");
    assert_eq!(last.centres, books.table(6));
    for (i, (&w, &code)) in w.iter().zip(&books.codes).enumerate() {
        let table = books.table(i / 40);
        let distance = |c: f32| (w - c).abs();
        assert!(table.iter().all(|&c| distance(table[usize::from(code)]) <= distance(c)));
    }
}

#[test]
fn zeros_stay_zeros() {
    let mut w = weights(4, 90);
    w.iter_mut().step_by(2).for_each(|w| *w = 0.0);
    for fit in [Fit::KMeans, Fit::Quantiles] {
        let books = Codebooks::fit(&w, 90, None, Options { keep_zeros: true, fit, ..KMEANS }).expect("tables");
        assert!(books.values().iter().zip(&w).all(|(&v, &w)| w != 0.0 || v == 0.0));
        assert!(books.centres.contains(&0.0));
    }
}

#[test]
fn columns_without_importance_hardly_count() {
    let w = [1.0, 2.0, 3.0, 4.0, 100.0, 5.0];
    let books = Codebooks::fit(&w, 6, Some(&[1.0, 1.0, 1.0, 1.0, 0.0, 0.0]), KMEANS).expect("tables");
    let error = error(&books.values()[..4], &w[..4], None);
    assert!(error < 0.51, "{:?}", books.centres);
    let none = Codebooks::fit(&w, 6, Some(&[0.0; 6]), KMEANS).expect("tables");
    assert_eq!(none, Codebooks::fit(&w, 6, None, KMEANS).expect("tables"));
}

#[test]
fn bad_numbers_are_told() {
    let fit = |w: &[f32], h: &[f64]| Codebooks::fit(w, 2, Some(h), KMEANS).expect_err("refused");
    assert!(matches!(fit(&[1.0, f32::NAN], &[1.0, 1.0]), Error::InvalidModel(_)));
    assert!(matches!(fit(&[1.0, 2.0], &[1.0, f64::INFINITY]), Error::InvalidModel(_)));
    assert!(matches!(fit(&[1.0, 2.0], &[1.0, -1.0]), Error::InvalidModel(_)));
    assert!(matches!(fit(&[1.0, 2.0], &[1.0]), Error::Internal(_)));
    assert!(matches!(Codebooks::fit(&[1.0], 1, None, Options { bits: 9, ..KMEANS }), Err(Error::Usage(_))));
    assert_eq!(Codebooks::fit(&[], 0, None, KMEANS).expect("nothing").codes, []);
}
