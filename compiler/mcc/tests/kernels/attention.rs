//! Attention: whole and partial blocks of queries and keys, masks, groups of heads.

use super::{check, noise};
use mcc_ir::{DType, Op, Tensor};

fn op(scale: f64) -> Op {
    Op::Attention { scale: scale.into(), guarded: false }
}

/// Queries, keys and values: `[batch, m, heads, d]`, `n` keys in `groups`, values of `e`.
fn operands(
    batch: usize,
    (m, n): (usize, usize),
    (heads, groups): (usize, usize),
    (d, e): (usize, usize),
) -> Vec<Tensor> {
    vec![
        noise(DType::F32, &[batch, m, heads, d], 1),
        noise(DType::F32, &[batch, n, groups, d], 2),
        noise(DType::F32, &[batch, n, groups, e], 3),
    ]
}

#[test]
fn sizes() {
    check(&op(1.0), &operands(1, (16, 11), (2, 2), (8, 16)));
    check(&op(0.25), &operands(2, (19, 13), (3, 3), (5, 7)));
    check(&op(1.0), &operands(1, (1, 9), (1, 1), (4, 3)));
    check(&op(0.5), &operands(1, (70, 1), (2, 1), (6, 17)));
}

/// More than one block of keys.
#[test]
fn long_sequences() {
    check(&op(0.125), &operands(1, (5, 700), (1, 1), (8, 8)));
    check(&op(2.0), &operands(1, (33, 333), (2, 2), (3, 4)));
}

#[test]
fn heads_share_keys() {
    check(&op(0.5), &operands(2, (6, 10), (4, 2), (8, 9)));
    check(&op(0.5), &operands(1, (17, 5), (6, 1), (3, 20)));
}

#[test]
fn masks() {
    for shape in [[2, 3, 18, 21], [1, 1, 18, 21], [2, 1, 1, 21], [1, 3, 1, 21]] {
        let mut x = operands(2, (18, 21), (3, 3), (8, 12));
        x.push(noise(DType::F32, &shape, 4));
        check(&op(0.5), &x);
    }
}

/// Rows of negative infinity give NaN, in whichever block of keys they are; partial ones do not affect the others.
#[test]
fn infinite_masks() {
    let n = 400;
    let mut x = operands(1, (7, n), (1, 1), (4, 5));
    let hidden = |i: usize, j: usize| match i {
        0 => true,
        1 => j < 350,
        2 => j >= 3,
        3 => j > 0,
        4 => j + 1 < n,
        _ => j.is_multiple_of(2),
    };
    let values: Vec<f64> =
        (0..7 * n).map(|at| if hidden(at / n, at % n) { f64::NEG_INFINITY } else { (at % 5) as f64 }).collect();
    x.push(Tensor::from_f64s(DType::F32, vec![1, 1, 7, n], &values).unwrap());
    check(&op(1.0), &x);
    check(&Op::Attention { scale: 1.0.into(), guarded: true }, &x);
    let row: Vec<f64> = (0..n).map(|j| if j < 390 { f64::from(f32::MIN) } else { 0.0 }).collect();
    x[3] = Tensor::from_f64s(DType::F32, vec![1, 1, 1, n], &row).unwrap();
    check(&op(1.0), &x);
}

/// NaN stays in its own rows.
#[test]
fn not_numbers() {
    let mut x = operands(1, (20, 12), (1, 1), (4, 6));
    let mut values = x[0].to_f64s();
    (values[5], values[40]) = (f64::NAN, f64::INFINITY);
    x[0] = Tensor::from_f64s(DType::F32, vec![1, 20, 1, 4], &values).unwrap();
    check(&op(1.0), &x);
    check(&Op::Attention { scale: 1.0.into(), guarded: true }, &x);
}
