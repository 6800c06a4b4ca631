//! Products with matrices of blocks against the evaluator: ragged panels and rows, empty panels, odd numbers of blocks.

use super::testing::{check, noise};
use crate::ir::{DType, Dim, Op, Tensor};

/// `[rows, depth]` times blocks of `tile` columns, of which panel `p` has `counts[p]`.
fn product(rows: &[usize], depth: usize, n: usize, tile: usize, counts: &[usize]) -> (Op, Vec<Tensor>) {
    assert_eq!(n.div_ceil(tile), counts.len());
    let (mut heads, mut numbers) = (vec![0i64], Vec::new());
    for (p, &count) in counts.iter().enumerate() {
        numbers.extend((0..count).map(|i| ((i * 7 + p) % depth) as i64));
        heads.push(numbers.len() as i64);
    }
    let blocks = numbers.len();
    let operands = vec![
        noise(DType::F32, &[rows, &[depth]].concat(), 3),
        Tensor::from_i64s(DType::I32, vec![heads.len()], &heads).unwrap(),
        Tensor::from_i64s(DType::I32, vec![blocks], &numbers).unwrap(),
        noise(DType::F32, &[blocks, tile], 5),
    ];
    (Op::BlockMatMul { n: Dim::from(n) }, operands)
}

#[test]
fn products() {
    for (rows, depth, n, tile, counts) in [
        (&[1][..], 9, 5, 8, &[4][..]),
        (&[2, 29], 31, 40, 16, &[0, 7, 3]),
        (&[53], 17, 35, 8, &[5, 1, 0, 17, 2]),
        (&[7], 600, 33, 16, &[13, 40, 5]),
    ] {
        let (op, operands) = product(rows, depth, n, tile, counts);
        check(&op, &operands);
    }
}

#[test]
fn odd_numbers() {
    let (op, mut operands) = product(&[5], 30, 16, 16, &[3]);
    let mut values = operands[0].to_f64s();
    (values[0], values[37], values[60], values[67]) = (f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY, f64::NAN);
    operands[0] = Tensor::from_f64s(DType::F32, vec![5, 30], &values).unwrap();
    check(&op, &operands);
}
