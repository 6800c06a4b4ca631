//! Layout and packing preserve what a graph computes.

use mcc_targets::Config;

use super::{dense, joined_axes, merge_pixels};
use crate::canonical::{fold_constants, transposes};
use crate::layout;
use mcc_ir::eval::eval_graph;
use mcc_ir::{
    ConvSpec, DType, Dim, Filters, Graph, Layout, Op, PoolKind, PoolSpec, Random, Tensor, TensorType, WeightFormat,
};

fn numbers(dtype: DType, shape: &[usize], seed: usize) -> Tensor {
    Random::new(seed as u64).integers(dtype, shape, -8, 8).unwrap()
}

/// Runs the passes on `op(x, constants...)`, where `x` has a symbolic first axis, and compares values and types.
fn check(op: Op, x: &Tensor, constants: &[Tensor], want: &str) {
    let mut graph = Graph::new();
    let mut shape: Vec<Dim> = x.shape().iter().map(|&d| Dim::from(d)).collect();
    shape[0] = Dim::sym("n");
    let mut operands = vec![graph.add_input("x", TensorType::new(x.dtype(), shape))];
    operands.extend(constants.iter().map(|t| graph.constant(t.clone())));
    let value = graph.add_labelled(op.clone(), &operands, "it").unwrap().into();
    graph.outputs.push(mcc_ir::Output { name: "y".to_string(), value });
    let before = eval_graph(&graph, std::slice::from_ref(x)).unwrap();
    let (ty, config) = (graph.ty(value).clone(), Config::new("x86_64-unknown-linux-gnu", None).unwrap());
    for pass in [layout::run, transposes::run, fold_constants::run, joined_axes::run, fold_constants::run, dense::run] {
        pass(&mut graph, &config).unwrap();
        let value = graph.outputs[0].value;
        assert_eq!(*graph.ty(value), ty, "type of {op:?}");
        let after = eval_graph(&graph, std::slice::from_ref(x)).unwrap();
        // The factors of minimal filtering have too many digits for exact sums.
        let near = |(a, b): (f64, f64)| want.contains("winograd") && (a - b).abs() <= 1e-6 * a.abs().max(1.0);
        let all_near = || before[0].to_f64s().into_iter().zip(after[0].to_f64s()).all(near);
        assert!(after == before || all_near(), "value of {op:?}");
        graph.remove_dead();
    }
    fold_constants::run(&mut graph, &config).unwrap();
    graph.remove_dead();
    assert!(!layout::run(&mut graph, &config).unwrap() && !dense::run(&mut graph, &config).unwrap());
    let names: Vec<&str> = graph.topological().iter().map(|&n| graph.op(n).name()).collect();
    let kernels: Vec<&str> = names.into_iter().filter(|n| !["input", "constant"].contains(n)).collect();
    assert_eq!(kernels.join(" "), want, "{op:?}");
}

fn spec(stride: i64, dilation: i64, pad: i64, group: usize) -> ConvSpec {
    ConvSpec {
        strides: vec![stride, stride],
        dilations: vec![dilation, dilation],
        pads: vec![(pad, pad), (0, pad)],
        group,
        layout: Layout::ChannelsFirst,
    }
}

#[test]
fn products() {
    for dtype in [DType::F32, DType::F16, DType::I32] {
        let want = if dtype == DType::F16 { "cast packed_matmul cast" } else { "packed_matmul" };
        check(Op::MatMul, &numbers(dtype, &[3, 5], 1), &[numbers(dtype, &[5, 11], 2)], want);
        check(Op::MatMul, &numbers(dtype, &[2, 3, 5], 1), &[numbers(dtype, &[1, 5, 8], 2)], want);
    }
}

#[test]
fn convolutions() {
    let x = numbers(DType::F32, &[2, 6, 7, 8], 1);
    let weights = |shape: &[usize]| [numbers(DType::F32, shape, 2), numbers(DType::F32, &shape[..1], 3)];
    let want = "transpose pad packed_conv binary transpose";
    check(Op::Conv(spec(1, 1, 1, 1)), &x, &weights(&[9, 6, 3, 3]), want);
    check(Op::Conv(spec(2, 2, 2, 1)), &x, &weights(&[4, 6, 3, 2]), want);
    check(Op::Conv(spec(1, 1, 0, 2)), &x, &weights(&[10, 3, 2, 2]), "transpose packed_conv binary transpose");
    check(Op::Conv(spec(2, 1, 1, 6)), &x, &weights(&[6, 1, 3, 3]), "transpose pad depthwise_conv binary transpose");
    check(Op::Conv(spec(1, 1, 1, 6)), &x, &weights(&[12, 1, 3, 3])[..1], "transpose pad packed_conv transpose");
    let one = "transpose pad reshape depthwise_conv reshape binary transpose";
    check(Op::Conv(spec(2, 1, 1, 1)), &x, &weights(&[1, 6, 3, 6]), one);
    let mut fine = numbers(DType::F32, &[2, 32, 13, 14], 4);
    check(Op::Conv(spec(1, 1, 1, 1)), &fine, &weights(&[32, 32, 3, 3]), "transpose pad winograd_conv binary transpose");
    fine = numbers(DType::F32, &[1, 32, 14, 14], 4);
    check(Op::Conv(spec(1, 1, 0, 1)), &fine, &weights(&[32, 32, 3, 3]), "transpose winograd_conv binary transpose");
    let whole = |pads| ConvSpec { pads, ..spec(1, 1, 0, 1) };
    let tall = numbers(DType::F32, &[1, 8, 4, 66], 5);
    let joined = "transpose transpose reshape pad winograd_conv binary reshape transpose";
    check(Op::Conv(whole(vec![(0, 0), (1, 1)])), &tall, &weights(&[96, 8, 4, 3]), joined);
    let wide = numbers(DType::F32, &[1, 8, 66, 4], 5);
    let joined = "transpose reshape pad winograd_conv binary reshape transpose";
    check(Op::Conv(whole(vec![(1, 1), (0, 0)])), &wide, &weights(&[96, 8, 3, 4]), joined);
    let pool = PoolSpec {
        kind: PoolKind::Average { include_pad: false },
        kernel: vec![3, 2],
        strides: vec![2, 1],
        dilations: vec![1, 1],
        pads: vec![(1, 0), (0, 1)],
        ceil: true,
        layout: Layout::ChannelsFirst,
    };
    check(Op::Pool(pool), &x, &[], "transpose pool transpose");
}

/// Compressed weights stay compressed: minimal filtering transforms them at run time.
#[test]
fn small_filters_are_transformed_late() {
    let x = numbers(DType::F32, &[1, 14, 14, 32], 4);
    let config = Config::new("x86_64-unknown-linux-gnu", Some("x86-64-v3")).unwrap();
    let spec = ConvSpec { layout: Layout::ChannelsLast, pads: vec![(1, 1); 2], ..spec(1, 1, 1, 1) };
    let packed = |dtype: DType, halved: f64, compact: bool| {
        let w = numbers(DType::F32, &[32, 32, 3, 3], 2).to_f64s().iter().map(|v| v * halved).collect::<Vec<_>>();
        let w = Tensor::from_f64s(dtype, vec![32, 32, 3, 3], &w).unwrap();
        let x = Tensor::from_f64s(dtype, x.shape().to_vec(), &x.to_f64s()).unwrap();
        let mut graph = Graph::new();
        let input = graph.add_input("x", TensorType::fixed(dtype, x.shape()));
        let w = graph.constant(w);
        let value = graph.add_labelled(Op::Conv(spec.clone()), &[input, w], "it").unwrap().into();
        graph.outputs.push(mcc_ir::Output { name: "y".to_string(), value });
        let before = eval_graph(&graph, std::slice::from_ref(&x)).unwrap()[0].to_f64s();
        dense::run(&mut graph, &Config { compact, ..config.clone() }).unwrap();
        fold_constants::run(&mut graph, &config).unwrap();
        graph.remove_dead();
        let after = eval_graph(&graph, std::slice::from_ref(&x)).unwrap()[0].to_f64s();
        assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() <= 1e-3 * a.abs().max(1.0)));
        let form = |n| match graph.op(n).weights() {
            Some(WeightFormat::Filtered { filters, .. }) => {
                Some((*filters, graph.operand(n, 1).map(|w| graph.ty(w).dtype)))
            }
            _ => None,
        };
        graph.topological().into_iter().find_map(form)
    };
    // Thirds are not 16-bit floats, quarters are.
    assert_eq!(packed(DType::F32, 1.0 / 3.0, false), Some((Filters::Transformed, Some(DType::F32))));
    assert_eq!(packed(DType::F32, 1.0 / 3.0, true), Some((Filters::Plain, Some(DType::F32))));
    assert_eq!(packed(DType::F32, 0.25, false), Some((Filters::Plain, Some(DType::F16))));
    assert_eq!(packed(DType::F16, 0.25, false), Some((Filters::Plain, Some(DType::F16))));
}

#[test]
fn transposed_convolutions() {
    let x = numbers(DType::F32, &[2, 4, 3, 5], 1);
    let weights = |shape: &[usize], group| [numbers(DType::F32, shape, 2), numbers(DType::F32, &[shape[1] * group], 3)];
    let op = |spec, output_pads: [i64; 2]| Op::ConvTranspose { spec, output_pads: output_pads.to_vec() };
    check(op(spec(1, 1, 1, 1), [0, 0]), &x, &weights(&[4, 5, 3, 3], 1), "transpose pad packed_conv binary transpose");
    check(op(spec(1, 2, 1, 2), [0, 0]), &x, &weights(&[4, 3, 2, 3], 2), "transpose pad packed_conv binary transpose");
    let apart = "transpose packed_matmul reshape transpose reshape binary transpose";
    check(op(spec(2, 1, 0, 1), [0, 0]), &x, &weights(&[4, 3, 2, 2], 1), apart);
    // Two phases per axis, which differ in padding.
    let phases = "transpose pad slice packed_conv binary reshape packed_conv binary reshape concat \
                  pad packed_conv binary reshape pad slice packed_conv binary reshape concat concat reshape transpose";
    check(op(spec(2, 1, 1, 2), [1, 0]), &x, &weights(&[4, 3, 3, 3], 2), phases);
    // The last phases have one element less per axis.
    let longer = "transpose pad slice packed_conv binary reshape pad slice packed_conv binary reshape concat \
                  pad packed_conv binary reshape pad packed_conv binary reshape concat concat reshape slice transpose";
    check(op(spec(2, 1, 1, 1), [0, 0]), &x, &weights(&[4, 3, 3, 4], 1), longer);
    let wider = "transpose pad slice packed_conv binary reshape pad slice packed_conv binary reshape concat \
                 pad packed_conv binary reshape pad slice packed_conv binary reshape concat concat reshape slice transpose";
    check(op(spec(2, 1, 1, 2), [1, 1]), &x, &weights(&[4, 3, 3, 3], 2), wider);
    let summed = "reshape matmul reshape col2im binary";
    check(op(spec(3, 2, 0, 1), [2, 1]), &x, &weights(&[4, 2, 2, 3], 1), summed);
}

/// Few output channels at the ends and in the middle of rows, with strides, pads and bias, on several vector widths.
#[test]
fn pixels_merge() {
    for (cpu, out, columns, stride, pads, width) in [
        ("x86-64-v4", 1, 3, 1, (1, 1), 40),
        ("x86-64-v4", 1, 7, 2, (3, 2), 75),
        ("x86-64-v4", 8, 5, 1, (0, 0), 37),
        ("x86-64-v3", 3, 4, 1, (2, 0), 50),
        ("x86-64-v2", 2, 3, 1, (0, 2), 17),
    ] {
        let config = Config::new("x86_64-unknown-linux-gnu", Some(cpu)).unwrap();
        let spec = ConvSpec {
            strides: vec![1, stride],
            dilations: vec![1, 1],
            pads: vec![(1, 0), pads],
            group: 1,
            layout: Layout::ChannelsLast,
        };
        let mut graph = Graph::new();
        let x = numbers(DType::F32, &[2, 3, width, 5], 1);
        let input = graph.add_input("x", x.ty());
        let weights = graph.constant(numbers(DType::F32, &[out, 5, 2, columns], 2));
        let bias = graph.constant(numbers(DType::F32, &[out], 3));
        let value = graph.add(Op::Conv(spec), &[input, weights, bias]).unwrap();
        graph.outputs.push(mcc_ir::Output { name: "y".to_string(), value });
        let before = eval_graph(&graph, std::slice::from_ref(&x)).unwrap();
        assert!(merge_pixels::run(&mut graph, &config).unwrap(), "{cpu} {out}");
        graph.remove_dead();
        assert!(eval_graph(&graph, std::slice::from_ref(&x)).unwrap() == before, "{cpu} {out}");
        assert!(!merge_pixels::run(&mut graph, &config).unwrap(), "{cpu} {out}: twice");
    }
}
