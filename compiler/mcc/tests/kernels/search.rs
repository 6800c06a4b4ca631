//! Kernels that search, sort, accumulate and sample.

use super::{check, check_with, noise};
use mcc_ir::{
    BinaryOp, CoordinateMode, CumulativeKind, DType, Dim, NearestMode, Op, ReduceKind, ResizeRule, SampleMode,
    SamplePadding, Tensor, TreeEdge, TreeEnsemble, TreeNode,
};

#[test]
fn arg_reduce() {
    let repeated = noise(DType::I8, &[3, 5, 4], 1);
    let with_nan = Tensor::from_f64s(DType::F32, vec![2, 3], &[1.0, f64::NAN, 2.0, 0.0, 3.0, f64::NAN]).unwrap();
    for (largest, last) in [(true, false), (true, true), (false, false), (false, true)] {
        for (axis, keep) in [(0, false), (1, true), (2, false), (2, true)] {
            check(&Op::ArgReduce { largest, axis, keep, last }, std::slice::from_ref(&repeated));
        }
        check(&Op::ArgReduce { largest, axis: 1, keep: true, last }, std::slice::from_ref(&with_nan));
        for (shape, axis) in [([3, 20, 1], 2), ([4, 1, 6], 1), ([1, 5, 1], 0)] {
            check(&Op::ArgReduce { largest, axis, keep: true, last }, &[noise(DType::F32, &shape, 2)]);
            check(&Op::ArgReduce { largest, axis, keep: false, last }, &[noise(DType::F32, &shape, 2)]);
        }
    }
}

#[test]
fn cumulative() {
    for kind in [CumulativeKind::Sum, CumulativeKind::Prod] {
        for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
            for (axis, dtype) in [(0, DType::F32), (1, DType::F64), (2, DType::I32)] {
                let op = Op::Cumulative { kind, axis, exclusive, reverse };
                check(&op, &[noise(dtype, &[3, 4, 5], 1)]);
            }
        }
    }
}

#[test]
fn top_k() {
    for largest in [false, true] {
        let x = noise(DType::I8, &[2, 7, 3], 1);
        for (k, axis) in [(3i64, 1), (7, 1), (1, 2), (0, 1)] {
            check(&Op::TopK { k: k.into(), axis, largest }, std::slice::from_ref(&x));
        }
        let x = noise(DType::I16, &[2, 100], 1);
        check(&Op::TopK { k: 90i64.into(), axis: 1, largest }, std::slice::from_ref(&x));
        let x = noise(DType::F32, &[100, 2], 1);
        check(&Op::TopK { k: 70i64.into(), axis: 0, largest }, &[x]);
    }
}

#[test]
fn non_zero() {
    for shape in [&[7][..], &[3, 4], &[2, 3, 2]] {
        check(&Op::NonZero { count: Dim::sym("count") }, &[noise(DType::Bool, shape, 1)]);
        check(&Op::NonZero { count: Dim::sym("count") }, &[noise(DType::I64, shape, 1)]);
    }
}

#[test]
fn tree_ensemble() {
    use BinaryOp::{Greater, LessOrEqual};
    let node = |feature, test, value: f64, yes, no| TreeNode {
        feature,
        test,
        value: value.into(),
        missing_is_true: feature == 1,
        yes,
        no,
    };
    let nodes = vec![
        node(0, LessOrEqual, 0.25, TreeEdge::Node(1), TreeEdge::Leaf(0, 1)),
        node(1, Greater, -0.5, TreeEdge::Leaf(1, 2), TreeEdge::Leaf(3, 1)),
        node(2, LessOrEqual, 0.0, TreeEdge::Leaf(4, 1), TreeEdge::Leaf(5, 1)),
    ];
    let votes = [(0, 1.0), (1, 2.0), (0, -1.5), (1, 0.25), (0, 3.0), (1, -2.0)];
    let votes: Vec<_> = votes.iter().map(|&(t, w): &(u32, f64)| (t, w.into())).collect();
    for aggregate in [ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Min, ReduceKind::Max] {
        let trees =
            TreeEnsemble { roots: vec![0, 2], nodes: nodes.clone(), votes: votes.clone(), aggregate, targets: 3 };
        check(&Op::TreeEnsemble(Box::new(trees)), &[noise(DType::F32, &[9, 3], 1)]);
    }
}

/// Every comparison, with missing values in either branch, on numbers equal and adjacent to the compared value.
#[test]
fn tree_tests() {
    use BinaryOp::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    let values = [0.0, 0.25, -1.5, f64::INFINITY, f64::NEG_INFINITY];
    let all: Vec<_> = [Less, LessOrEqual, Greater, GreaterOrEqual, Equal]
        .iter()
        .flat_map(|&test| [(test, false), (test, true)])
        .flat_map(|(test, missing)| values.map(|value| (test, missing, value)))
        .collect();
    let ensemble = |tests: &[(BinaryOp, bool, f64)]| {
        let nodes = tests.iter().enumerate().map(|(i, &(test, missing_is_true, value))| {
            let leaf = |n: usize| TreeEdge::Leaf((2 * i + n) as u32, 1);
            TreeNode { feature: 0, test, value: value.into(), missing_is_true, yes: leaf(1), no: leaf(0) }
        });
        let votes = (0..2 * tests.len()).map(|v| ((v / 2) as u32, (v as f64 - 7.0).into())).collect();
        let roots = (0..tests.len() as u32).collect();
        let (nodes, aggregate) = (nodes.collect(), ReduceKind::Sum);
        Op::TreeEnsemble(Box::new(TreeEnsemble { roots, nodes, votes, aggregate, targets: tests.len() }))
    };
    for dtype in [DType::F32, DType::F64, DType::F16] {
        let least = if dtype == DType::F64 { 5e-324 } else { 1e-45 };
        let mut x = vec![f64::NAN, 0.0, -0.0, least, -least];
        x.extend(values.iter().flat_map(|&v| [v, v * 1.01, v * 0.99, -v]));
        let x = Tensor::from_f64s(dtype, vec![x.len(), 1], &x).unwrap();
        check(&ensemble(&all), std::slice::from_ref(&x));
        for &(test, ..) in all.iter().step_by(2 * values.len()) {
            let alike: Vec<_> = all.iter().copied().filter(|t| t.0 == test).collect();
            check(&ensemble(&alike), std::slice::from_ref(&x));
        }
    }
}

/// A node with two predecessors, and more rows than a block.
#[test]
fn shared_nodes() {
    let node = |value: f64, no, yes| TreeNode {
        feature: 1,
        test: BinaryOp::Less,
        value: value.into(),
        missing_is_true: false,
        yes,
        no,
    };
    let (inner, leaf) = (TreeEdge::Node, |n| TreeEdge::Leaf(n, 1));
    let nodes = vec![node(0.1, inner(1), inner(2)), node(0.3, leaf(0), inner(2)), node(-0.4, leaf(1), leaf(2))];
    let votes = [1.5, -2.0, 0.25].map(|w: f64| (0, w.into())).to_vec();
    let trees = TreeEnsemble { roots: vec![0, 1], nodes, votes, aggregate: ReduceKind::Mean, targets: 1 };
    for rows in [1, 7, 64, 141] {
        check(&Op::TreeEnsemble(Box::new(trees.clone())), &[noise(DType::F64, &[rows, 3], 1)]);
    }
}

fn rule(scales: &[f64]) -> ResizeRule {
    ResizeRule {
        mode: SampleMode::Linear,
        coordinates: CoordinateMode::HalfPixel,
        nearest: NearestMode::RoundPreferFloor,
        scales: scales.iter().map(|&s| s.into()).collect(),
        cubic_a: (-0.75).into(),
        exclude_outside: false,
        antialias: false,
        extrapolation: 7.0.into(),
        roi: vec![(0.0.into(), 1.0.into()); scales.len()],
    }
}

fn resize_to(x: &Tensor, mut rule: ResizeRule) {
    let extents = x.shape().iter().zip(&rule.scales);
    let sizes: Vec<Dim> = extents.map(|(&n, s)| Dim::from((n as f64 * s.get()).floor() as i64)).collect();
    check_with(&Op::Resize { sizes: sizes.clone(), rule: rule.clone() }, std::slice::from_ref(x), 1e-4);
    rule.scales = vec![0.0.into(); sizes.len()];
    check_with(&Op::Resize { sizes, rule }, std::slice::from_ref(x), 1e-4);
}

#[test]
fn resize() {
    use CoordinateMode::*;
    let cases = [
        (noise(DType::F32, &[1, 2, 4, 5], 1), [1.0, 1.0, 2.0, 1.5]),
        (noise(DType::F32, &[1, 4, 5, 6], 2), [1.0, 0.6, 1.7, 1.0]),
        (noise(DType::U8, &[1, 1, 5, 4], 3), [1.0, 1.0, 0.6, 0.5]),
    ];
    for (x, scales) in &cases {
        for coordinates in [HalfPixel, HalfPixelSymmetric, PytorchHalfPixel, TfHalfPixel, AlignCorners, Asymmetric] {
            for mode in [SampleMode::Nearest, SampleMode::Linear, SampleMode::Cubic] {
                // Sums that are integers except for rounding may be truncated either way.
                let whole = coordinates == TfHalfPixel && mode != SampleMode::Nearest && x.dtype() == DType::U8;
                if !whole {
                    resize_to(x, ResizeRule { mode, coordinates, ..rule(scales) });
                }
            }
        }
        for nearest in [NearestMode::Floor, NearestMode::Ceil, NearestMode::RoundPreferCeil, NearestMode::Simple] {
            resize_to(x, ResizeRule { mode: SampleMode::Nearest, nearest, ..rule(scales) });
        }
        for mode in [SampleMode::Linear, SampleMode::Cubic] {
            resize_to(x, ResizeRule { mode, antialias: true, ..rule(scales) });
            resize_to(x, ResizeRule { mode, exclude_outside: true, ..rule(scales) });
            resize_to(x, ResizeRule { mode, antialias: true, exclude_outside: true, ..rule(scales) });
        }
        for mode in [SampleMode::Nearest, SampleMode::Linear, SampleMode::Cubic] {
            let roi = vec![(0.0, 1.0), (0.0, 1.0), (0.2, 1.3), (-0.1, 0.7)];
            let roi = roi.into_iter().map(|(a, b): (f64, f64)| (a.into(), b.into())).collect();
            resize_to(x, ResizeRule { mode, coordinates: TfCropAndResize, roi, ..rule(scales) });
        }
    }
}

#[test]
fn grid_sample() {
    for mode in [SampleMode::Nearest, SampleMode::Linear, SampleMode::Cubic] {
        for padding in [SamplePadding::Zeros, SamplePadding::Border, SamplePadding::Reflection] {
            for align_corners in [false, true] {
                let op = Op::GridSample { mode, padding, align_corners };
                check(&op, &[noise(DType::F32, &[2, 3, 4, 5], 1), noise(DType::F32, &[2, 3, 2, 2], 2)]);
                if mode != SampleMode::Cubic {
                    check(&op, &[noise(DType::F32, &[1, 2, 3, 4, 2], 1), noise(DType::F32, &[1, 2, 3, 2, 3], 2)]);
                }
            }
        }
    }
}

#[test]
fn suppression() {
    // Corners on a coarse grid, for many overlaps and exact arithmetic.
    let (groups, n) = (2, 40);
    let mut corners = Vec::new();
    for i in 0..groups * n {
        let (y, x) = ((i * 7 % 13) as f64, (i * 5 % 11) as f64);
        corners.extend([y, x, y + (i % 4) as f64, x + (i % 5) as f64]);
    }
    let boxes = Tensor::from_f64s(DType::F32, vec![groups, n, 4], &corners).expect("sized");
    let live: Vec<i64> = (0..groups * n).map(|i| i64::from(i % 6 != 0)).collect();
    let live = Tensor::from_i64s(DType::Bool, vec![groups, n], &live).expect("sized");
    for threshold in [0.0, 0.25, 0.5] {
        check(&Op::NonMaxSuppression, &[boxes.clone(), live.clone(), Tensor::scalar_f64(DType::F32, threshold)]);
    }
}
