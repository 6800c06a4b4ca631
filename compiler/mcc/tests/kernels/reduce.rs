//! Kernels that reduce, pool and normalise.

use super::{check, check_with, noise};
use mcc_ir::{DType, Layout, Op, PoolKind, PoolSpec, ReduceKind, Tensor};

#[test]
fn reduce() {
    use ReduceKind::{Max, Mean, Min, Prod, Sum};
    let axes: &[&[usize]] = &[&[0], &[1], &[2], &[0, 1], &[1, 2], &[0, 2], &[0, 1, 2], &[]];
    for kind in [Sum, Mean, Prod, Min, Max] {
        for &axes in axes {
            for keep in [false, true] {
                let op = Op::Reduce { kind, axes: axes.to_vec(), keep };
                check_with(&op, &[noise(DType::F32, &[2, 3, 37], 1)], 1e-4);
                check_with(&op, &[noise(DType::F32, &[5, 9, 3], 2)], 1e-4);
                // Axes of extent 1 need no loop, but rows and columns must not change.
                for shape in [[2, 40, 1], [40, 1, 1], [1, 5, 7], [3, 1, 20], [1, 1, 1]] {
                    check_with(&op, &[noise(DType::F32, &shape, 3)], 1e-4);
                }
            }
        }
        let op = Op::Reduce { kind, axes: vec![1, 3], keep: true };
        check_with(&op, &[noise(DType::F32, &[2, 3, 5, 4], 1)], 1e-4);
        for dtype in [DType::F64, DType::I32, DType::I64, DType::U8, DType::I8, DType::F16] {
            let tolerance = if dtype == DType::F16 { 5e-3 } else { 1e-5 };
            let op = Op::Reduce { kind, axes: vec![1], keep: false };
            check_with(&op, &[noise(dtype, &[3, 9], 1)], tolerance);
        }
    }
}

#[test]
fn softmax() {
    for log in [false, true] {
        let ones = [(&[5, 1][..], 1), (&[1, 7], 0), (&[3, 1, 9], 1), (&[1, 1], 0)];
        let others = [(&[3, 17][..], 1), (&[2, 3], 1), (&[2, 5, 6], 1), (&[4, 3], 0), (&[2, 32], 1)];
        for (shape, axis) in ones.into_iter().chain(others) {
            check(&Op::Softmax { axis, log }, &[noise(DType::F32, shape, 1)]);
        }
        check(&Op::Softmax { axis: 1, log }, &[noise(DType::F64, &[2, 9], 1)]);
        check_with(&Op::Softmax { axis: 1, log }, &[noise(DType::F16, &[2, 9], 1)], 5e-3);
    }
    let masked = [1.0, f64::NEG_INFINITY, 2.0, f64::NEG_INFINITY, f64::NAN, 0.0];
    let x = Tensor::from_f64s(DType::F32, vec![2, 3], &masked).unwrap();
    check(&Op::Softmax { axis: 1, log: false }, &[x]);
}

#[test]
fn normalize() {
    for center in [false, true] {
        for (shape, axis) in
            [(&[3, 17][..], 1), (&[2, 3, 7], 1), (&[2, 3, 8], 2), (&[3], 0), (&[2, 1], 1), (&[9, 1, 1], 1)]
        {
            check(&Op::Normalize { axis, epsilon: 1e-5.into(), center }, &[noise(DType::F32, shape, 1)]);
        }
    }
}

fn pool_spec(kind: PoolKind, kernel: &[i64], strides: &[i64], pads: &[(i64, i64)], layout: Layout) -> PoolSpec {
    let dilations = vec![1; kernel.len()];
    PoolSpec {
        kind,
        kernel: kernel.to_vec(),
        strides: strides.to_vec(),
        dilations,
        pads: pads.to_vec(),
        ceil: false,
        layout,
    }
}

#[test]
fn pool() {
    let kinds = [
        PoolKind::Max,
        PoolKind::Average { include_pad: false },
        PoolKind::Average { include_pad: true },
        PoolKind::Lp { p: 2 },
        PoolKind::Lp { p: 3 },
    ];
    for kind in kinds {
        for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
            let x = noise(DType::F32, if layout == Layout::ChannelsFirst { &[2, 5, 7, 6] } else { &[2, 7, 6, 21] }, 1);
            let mut spec = pool_spec(kind, &[3, 2], &[2, 1], &[(1, 1), (0, 1)], layout);
            check_with(&Op::Pool(spec.clone()), std::slice::from_ref(&x), 1e-4);
            spec.ceil = true;
            check_with(&Op::Pool(spec.clone()), std::slice::from_ref(&x), 1e-4);
            spec.dilations = vec![2, 1];
            check_with(&Op::Pool(spec), std::slice::from_ref(&x), 1e-4);
            let spec = pool_spec(kind, &[2, 2], &[2, 2], &[(0, 0), (0, 0)], layout);
            check_with(&Op::Pool(spec), &[x], 1e-4);
        }
    }
    for dtype in [DType::I8, DType::U8] {
        let spec = pool_spec(PoolKind::Max, &[2, 2], &[1, 1], &[(1, 0), (0, 1)], Layout::ChannelsLast);
        for channels in [9, 70] {
            check(&Op::Pool(spec.clone()), &[noise(dtype, &[1, 3, 4, channels], 1)]);
        }
    }
}

#[test]
fn max_pool_with_indices() {
    for column_major in [false, true] {
        let spec = pool_spec(PoolKind::Max, &[2, 3], &[1, 2], &[(1, 0), (1, 1)], Layout::ChannelsFirst);
        check(&Op::MaxPoolWithIndices { spec, column_major }, &[noise(DType::F32, &[2, 2, 5, 6], 1)]);
    }
}
