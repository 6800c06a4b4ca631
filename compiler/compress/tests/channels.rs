//! Channels disappear from a model through everything that carries them: channels of zeros, without any change of the
//! results.

mod common;

use common::{Builder, normal, options, samples, setting};
use mcc_compress::attribute::{set_int, set_ints};
use mcc_compress::model::Model;
use mcc_compress::recipe::{Criterion, Pattern, Prune, Recipe, Scope, Step};
use mcc_compress::session::{Session, compress};
use mcc_ir::{DType, Random, Tensor};
use mcc_onnx::tensor;
use mcc_proto::NodeProto;

/// Weights in which every odd row of an axis is zero.
fn half(seed: u64, shape: &[usize], axis: usize) -> Tensor {
    let mut random = Random::new(seed);
    let inner: usize = shape[axis + 1..].iter().product();
    let value = |at: usize| if (at / inner % shape[axis]).is_multiple_of(2) { normal(&mut random) * 0.4 } else { 0.0 };
    let values: Vec<f64> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_f64s(DType::F32, shape.to_vec(), &values).unwrap()
}

fn integers(values: &[i64]) -> Tensor {
    Tensor::from_i64s(DType::I64, vec![values.len()], values).unwrap()
}

fn pads(node: &mut NodeProto) {
    set_ints(node, "pads", vec![1; 4]);
}

/// A first layer whose odd channels are zero: `a`, of 8 channels.
fn start() -> Builder {
    Builder::new(3).input("x", &[-1, 3, 8, 8]).constant("w0", &half(1, &[8, 3, 3, 3], 0)).node(
        "Conv",
        &["x", "w0"],
        "a",
        pads,
    )
}

/// A last layer that reads `from`, of some channels.
fn end(builder: Builder, from: &str, channels: usize) -> Model {
    builder
        .weights("w9", &[5, channels, 1, 1])
        .weights("b9", &[5])
        .node("Conv", &[from, "w9", "b9"], "y", |_| {})
        .output("y")
        .model(17)
}

fn step(share: f64) -> Prune {
    Prune { pattern: Pattern::Channels, share: Some(share), ..Prune::default() }
}

fn pruned(model: Model, step: Prune) -> mcc_ir::Result<Session> {
    let (samples, options) = (samples(&[2, 3, 8, 8], 24), options());
    let recipe = Recipe { steps: vec![Step::Prune(step)], ..Recipe::default() };
    compress(model, &recipe, &setting(&samples, &options))
}

fn results(model: &Model) -> Vec<f64> {
    let loaded = mcc::compile(model.encode().unwrap(), &options()).unwrap();
    let outputs = loaded.load().unwrap().invoke(&samples(&[2, 3, 8, 8], 1).read(0).unwrap()).unwrap();
    outputs.iter().flat_map(Tensor::to_f64s).collect()
}

fn weights(model: &Model) -> usize {
    model.graph().initializer.iter().map(|t| tensor::tensor_of(t).unwrap().numel()).sum()
}

/// Prunes half of the channels, which are zero; gives the number of output channels of each layer.
fn lossless(model: Model, except: &[&str]) -> Vec<(String, usize)> {
    let (before, size) = (results(&model), weights(&model));
    let except = except.iter().map(|name| (*name).to_string()).collect();
    let done = pruned(model, Prune { except, ..step(0.5) }).unwrap();
    let after = results(&done.model);
    let most = before.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert_eq!(before.len(), after.len());
    for (a, b) in before.iter().zip(&after) {
        assert!((a - b).abs() <= 2e-3 * most, "{a} became {b}");
    }
    assert!(weights(&done.model) < size, "nothing went");
    let found = mcc_compress::layers::find(&done.model);
    found.into_iter().map(|layer| (layer.output.clone(), layer.rows())).collect()
}

fn rows(found: &[(String, usize)], output: &str) -> usize {
    found.iter().find(|f| f.0 == output).unwrap().1
}

#[test]
fn through_single_elements_and_norms() {
    let slopes = Tensor::from_f64s(DType::F32, vec![8, 1, 1], &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]).unwrap();
    let ones = Tensor::from_f64s(DType::F32, vec![8], &[1.0, 0.5, 2.0, 1.5, 1.0, 1.0, 0.7, 0.9]).unwrap();
    let built = start()
        .constant("slopes", &slopes)
        .constant("ones", &ones)
        .weights("beta", &[8])
        .node("PRelu", &["a", "slopes"], "p", |_| {})
        .node("MaxPool", &["p"], "m", |node| set_ints(node, "kernel_shape", vec![2, 2]))
        .node("BatchNormalization", &["m", "ones", "beta", "beta", "ones"], "n", |_| {})
        .node("Relu", &["n"], "r", |_| {});
    let found = lossless(end(built, "r", 8), &[]);
    assert_eq!((rows(&found, "a"), rows(&found, "y")), (4, 5));
}

#[test]
fn through_residuals_depthwise_and_grouped_layers() {
    let built = start()
        .constant("w1", &half(2, &[8, 8, 3, 3], 0))
        .constant("w2", &half(3, &[8, 1, 3, 3], 0))
        .constant("w3", &half(4, &[8, 4, 1, 1], 0))
        .node("Relu", &["a"], "r", |_| {})
        .node("Conv", &["r", "w1"], "b", pads)
        .node("Add", &["r", "b"], "sum", |_| {})
        .node("Conv", &["sum", "w2"], "d", |node| {
            pads(node);
            set_int(node, "group", 8);
        })
        .node("Conv", &["d", "w3"], "g", |node| set_int(node, "group", 2));
    let found = lossless(end(built, "g", 8), &[]);
    assert_eq!(["a", "b", "d", "g", "y"].map(|output| rows(&found, output)), [4, 4, 4, 4, 5]);
}

#[test]
fn through_concatenations_and_a_norm_behind_them() {
    let ones = Tensor::from_f64s(DType::F32, vec![16], &[1.25; 16]).unwrap();
    let built = start()
        .constant("w1", &half(2, &[8, 8, 1, 1], 0))
        .constant("ones", &ones)
        .weights("beta", &[16])
        .node("Relu", &["a"], "r", |_| {})
        .node("Conv", &["r", "w1"], "b", |_| {})
        .node("Concat", &["r", "b"], "c", |node| set_int(node, "axis", 1))
        .node("BatchNormalization", &["c", "ones", "beta", "beta", "ones"], "n", |_| {})
        .node("Relu", &["n"], "m", |_| {});
    let found = lossless(end(built, "m", 16), &[]);
    assert_eq!(["a", "b", "y"].map(|output| rows(&found, output)), [4, 4, 5]);
}

#[test]
fn through_parts_of_a_value() {
    let built = start()
        .constant("sizes", &integers(&[4, 4]))
        .constant("s", &integers(&[1]))
        .constant("e", &integers(&[i64::MAX]))
        .constant("axes", &integers(&[1]))
        .constant("order", &integers(&[6, 7, 1, 0, -4, 2]))
        .node("Split", &["a", "sizes"], "p", |node| {
            set_int(node, "axis", 1);
            node.output.push("q".to_string());
        })
        .node("Mul", &["p", "q"], "pq", |_| {})
        .node("Slice", &["a", "s", "e", "axes"], "sliced", |_| {})
        .node("Gather", &["a", "order"], "gathered", |node| set_int(node, "axis", 1))
        .node("Concat", &["pq", "sliced", "gathered"], "c", |node| set_int(node, "axis", 1));
    let found = lossless(end(built, "c", 17), &[]);
    assert_eq!(rows(&found, "a"), 4);
}

#[test]
fn through_shuffles_with_computed_shapes() {
    let built = start()
        .constant("zero", &integers(&[0]))
        .constant("rest", &integers(&[2, 4, 8, 8]))
        .constant("back", &integers(&[0, 8, 8, 8]))
        .node("Shape", &["a"], "shape", |_| {})
        .node("Gather", &["shape", "zero"], "batch", |_| {})
        .node("Concat", &["batch", "rest"], "parts", |node| set_int(node, "axis", 0))
        .node("Reshape", &["a", "parts"], "split", |_| {})
        .node("Transpose", &["split"], "turned", |node| set_ints(node, "perm", vec![0, 2, 1, 3, 4]))
        .node("Reshape", &["turned", "back"], "shuffled", |_| {});
    let found = lossless(end(built, "shuffled", 8), &[]);
    assert_eq!(rows(&found, "a"), 4);
}

#[test]
fn through_gates_and_enlargement() {
    let built = start()
        .weights("w1", &[4, 8, 1, 1])
        .weights("w2", &[8, 4, 1, 1])
        .constant("w3", &half(5, &[8, 8, 2, 2], 1))
        .constant("scales", &Tensor::from_f64s(DType::F32, vec![4], &[1.0, 1.0, 2.0, 2.0]).unwrap())
        .node("GlobalAveragePool", &["a"], "pool", |_| {})
        .node("Conv", &["pool", "w1"], "squeeze", |_| {})
        .node("Relu", &["squeeze"], "s", |_| {})
        .node("Conv", &["s", "w2"], "excite", |_| {})
        .node("Sigmoid", &["excite"], "gate", |_| {})
        .node("Mul", &["a", "gate"], "gated", |_| {})
        .node("Resize", &["gated", "", "scales"], "large", |_| {})
        .node("ConvTranspose", &["large", "w3"], "t", |node| set_ints(node, "strides", vec![2, 2]));
    let found = lossless(end(built, "t", 8), &["squeeze"]);
    assert_eq!(["a", "squeeze", "excite", "t", "y"].map(|output| rows(&found, output)), [4, 4, 4, 4, 5]);
}

#[test]
fn through_a_flattened_image() {
    let built = start()
        .constant("w1", &half(2, &[8 * 16, 8], 1))
        .weights("w2", &[8, 3])
        .weights("b2", &[3])
        .node("AveragePool", &["a"], "pool", |node| {
            set_ints(node, "kernel_shape", vec![2, 2]);
            set_ints(node, "strides", vec![2, 2]);
        })
        .node("Flatten", &["pool"], "flat", |_| {})
        .node("MatMul", &["flat", "w1"], "h", |_| {})
        .node("Relu", &["h"], "r", |_| {})
        .node("Gemm", &["r", "w2", "b2"], "y", |_| {})
        .output("y");
    let found = lossless(built.model(17), &[]);
    assert_eq!(["a", "h", "y"].map(|output| rows(&found, output)), [4, 4, 3]);
}

/// Two layers of 16 channels each, of which the first has 12 that say nothing new, and the second none.
fn uneven() -> Model {
    let mut random = Random::new(11);
    let base: Vec<f64> = (0..4 * 27).map(|_| normal(&mut random) * 0.4).collect();
    let repeated: Vec<f64> = (0..16).flat_map(|row| base[row % 4 * 27..][..27].to_vec()).collect();
    let built = Builder::new(5)
        .input("x", &[-1, 3, 8, 8])
        .constant("w0", &Tensor::from_f64s(DType::F32, vec![16, 3, 3, 3], &repeated).unwrap())
        .weights("w1", &[16, 16, 3, 3])
        .node("Conv", &["x", "w0"], "a", pads)
        .node("Relu", &["a"], "r", |_| {})
        .node("Conv", &["r", "w1"], "b", pads)
        .node("Relu", &["b"], "s", |_| {});
    end(built, "s", 16)
}

#[test]
fn of_equal_channels_all_but_one_go() {
    let done = pruned(uneven(), Prune { only: vec!["a".to_string()], ..step(0.5) }).unwrap();
    let (before, after) = (results(&uneven()), results(&done.model));
    let most = before.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() <= 2e-3 * most));
}

#[test]
fn global_shares_follow_what_is_lost() {
    let done = pruned(uneven(), Prune { scope: Scope::Global, ..step(0.25) }).unwrap();
    let of = |output: &str| done.changes.iter().find(|c| c.output == output).unwrap().reason.clone();
    assert_eq!(of("a"), "8 of 16 channels");
    assert_eq!(of("b"), "16 of 16 channels");
    assert!(of("y").contains("they are in the output \"y\""), "{}", of("y"));
}

#[test]
fn fits_and_errors_lose_less_than_norms() {
    let distance = |step: Prune| -> f64 {
        let (before, after) = (results(&uneven()), results(&pruned(uneven(), step).unwrap().model));
        before.iter().zip(&after).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
    };
    let best = distance(step(0.5));
    for criterion in [Criterion::L1, Criterion::L2, Criterion::Activation, Criterion::Random] {
        let fitted = distance(Prune { criterion, ..step(0.5) });
        let plain = distance(Prune { criterion, reconstruct: false, ..step(0.5) });
        assert!(best <= fitted * 1.05, "{criterion:?}: {best} is more than {fitted}");
        assert!(fitted < plain, "{criterion:?}: {fitted} is no less than {plain}");
    }
}

#[test]
fn channels_that_cannot_go_say_why() {
    let only_output = end(Builder::new(3).input("x", &[-1, 3, 8, 8]), "x", 3);
    let refused = |model: Model| pruned(model, step(0.5)).err().unwrap().report().to_string();
    let error = refused(only_output);
    assert!(error.contains("no channels can go") && error.contains("output \"y\""), "{error}");
    // A sum over the channels needs all of them.
    let summed = start()
        .node("ReduceSum", &["a"], "sum", |node| set_int(node, "keepdims", 1))
        .node("Add", &["sum", "a"], "y", |_| {})
        .output("y");
    let error = refused(summed.model(17));
    assert!(error.contains("ReduceSum"), "{error}");
}
