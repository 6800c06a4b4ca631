//! Kernels that move elements.

use super::{check, ints, noise};
use mcc_ir::{DType, Dim, Op, PadMode, ScatterReduction, Tensor};

fn dims(values: &[i64]) -> Vec<Dim> {
    values.iter().map(|&v| Dim::from(v)).collect()
}

#[test]
fn iota() {
    for dtype in [DType::F32, DType::I64, DType::U8] {
        check(&Op::Iota { dtype, shape: dims(&[3, 5]), axis: 1 }, &[]);
        check(&Op::Iota { dtype, shape: dims(&[3, 5]), axis: 0 }, &[]);
    }
}

#[test]
fn concat() {
    for dtype in [DType::F32, DType::U8, DType::I64, DType::F16] {
        let x = |shape: &[usize]| noise(dtype, shape, 3);
        check(&Op::Concat { axis: 1 }, &[x(&[2, 3, 5]), x(&[2, 1, 5]), x(&[2, 7, 5])]);
        check(&Op::Concat { axis: 2 }, &[x(&[2, 3, 5]), x(&[2, 3, 11])]);
        check(&Op::Concat { axis: 0 }, &[x(&[3]), x(&[200])]);
    }
}

#[test]
fn pad() {
    for mode in [PadMode::Constant, PadMode::Edge, PadMode::Reflect, PadMode::Wrap] {
        for dtype in [DType::F32, DType::I8] {
            let x = noise(dtype, &[2, 3, 4, 5], 1);
            for value in [0.0, 3.0] {
                let value = Tensor::scalar_f64(dtype, value);
                for (before, after) in [([0, 1, 2, 0], [0, 2, 1, 0]), ([1, 0, 0, 3], [0, 0, 1, 2]), ([0; 4], [0; 4])] {
                    let op = Op::Pad { before: dims(&before), after: dims(&after), mode };
                    check(&op, &[x.clone(), value.clone()]);
                }
            }
        }
    }
}

#[test]
fn gather() {
    let x = noise(DType::F32, &[3, 6, 5], 1);
    for axis in 0..3 {
        check(&Op::Gather { axis }, &[x.clone(), ints(&[2, 2], &[0, -1, 2, -3])]);
        check(&Op::Gather { axis }, &[x.clone(), ints(&[], &[1])]);
        check(&Op::Gather { axis }, &[x.clone(), ints(&[1], &[-2])]);
    }
    let picks = Tensor::from_i64s(DType::I32, vec![2, 4, 5], &(0..40).map(|i| i % 5 - 2).collect::<Vec<_>>()).unwrap();
    check(&Op::GatherElements { axis: 1 }, &[x, picks]);
    let x = noise(DType::F32, &[2, 3, 4], 1);
    check(&Op::GatherNd { batch_dims: 0 }, &[x.clone(), ints(&[2, 2], &[0, 1, -1, 2])]);
    check(&Op::GatherNd { batch_dims: 0 }, &[x.clone(), ints(&[2, 3], &[0, 1, 3, -1, 2, 0])]);
    check(&Op::GatherNd { batch_dims: 1 }, &[x, ints(&[2, 1], &[1, -1])]);
}

#[test]
fn scatter() {
    use ScatterReduction::{Add, Max, Min, Mul, None};
    for dtype in [DType::F32, DType::I64, DType::U8] {
        for reduction in [None, Add, Mul, Max, Min] {
            let (x, updates) = (noise(dtype, &[3, 4], 1), noise(dtype, &[2, 4], 2));
            let indices = ints(&[2, 4], &[0, 1, 2, 0, 1, -1, 0, -2]);
            check(&Op::ScatterElements { axis: 0, reduction }, &[x.clone(), indices, updates.clone()]);
            check(&Op::ScatterNd { reduction }, &[x.clone(), ints(&[2, 1], &[-1, 0]), updates]);
            let updates = noise(dtype, &[3], 2);
            check(&Op::ScatterNd { reduction }, &[x, ints(&[3, 2], &[0, 1, 2, 3, -1, -3]), updates]);
        }
    }
}

#[test]
fn reverse_sequence() {
    let x = noise(DType::F32, &[4, 3, 5], 1);
    let op = Op::ReverseSequence { batch_axis: 1, time_axis: 0 };
    check(&op, &[x.clone(), ints(&[3], &[4, 1, 3])]);
    let op = Op::ReverseSequence { batch_axis: 0, time_axis: 1 };
    check(&op, &[x, ints(&[4], &[1, 2, 3, 1])]);
    let op = Op::ReverseSequence { batch_axis: 0, time_axis: 1 };
    check(&op, &[noise(DType::I16, &[2, 5], 1), ints(&[2], &[2, 5])]);
}
