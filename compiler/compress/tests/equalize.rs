//! Equalization: the float model's results stay, and bytes lose less.

mod common;

use common::{Builder, network, normal, options, samples, setting};
use mcc_compress::attribute;
use mcc_compress::equalize;
use mcc_compress::loss::distance;
use mcc_compress::model::Model;
use mcc_compress::recipe::{Quantize, Recipe, Step};
use mcc_compress::session::compress;
use mcc_data::Samples;
use mcc_ir::{DType, Random, Tensor};

/// Numbers of very different sizes.
fn uneven(count: usize, seed: u64) -> Tensor {
    let mut random = Random::new(seed);
    let values: Vec<f64> = (0..count).map(|at| normal(&mut random) * if at % 7 == 0 { 40.0 } else { 1.0 }).collect();
    Tensor::from_f64s(DType::F32, vec![count], &values).unwrap()
}

/// What was moved, how far the results are from before, and what int8 loses without and with it.
fn moved(model: &Model, samples: &Samples) -> (Vec<String>, f64, [f64; 2]) {
    let options = options();
    let setting = setting(samples, &options);
    let mut equalized = model.clone();
    let names = equalize::run(&mut equalized, &setting).unwrap();
    let loss = |equalize: bool| {
        let step = Step::Quantize(Quantize { equalize, ..Quantize::default() });
        let recipe = Recipe { steps: vec![step], ..Recipe::default() };
        distance(model, &compress(model.clone(), &recipe, &setting).unwrap().written().unwrap(), &setting).unwrap()
    };
    (names, distance(model, &equalized, &setting).unwrap(), [false, true].map(loss))
}

#[test]
fn normalizations_take_factors() {
    let model = Builder::new(3)
        .input("x", &[-1, 5, 21])
        .constant("scale", &uneven(21, 1))
        .constant("shift", &uneven(21, 2))
        .weights("w", &[21, 30])
        .weights("v", &[21, 30])
        .node("LayerNormalization", &["x", "scale", "shift"], "n", |_| {})
        .node("MatMul", &["n", "w"], "a", |_| {})
        .node("MatMul", &["n", "v"], "b", |_| {})
        .node("Add", &["a", "b"], "y", |_| {})
        .output("y")
        .model(17);
    let (names, off, [without, with]) = moved(&model, &samples(&[2, 5, 21], 10));
    assert_eq!(names, ["n"]);
    assert!(off < 1e-6 && with < 0.7 * without, "{off}; {without} became {with}");
}

#[test]
fn normalizations_of_single_operators_take_factors() {
    let model = Builder::new(3)
        .input("x", &[-1, 5, 21])
        .constant("scale", &uneven(21, 1))
        .constant("shift", &uneven(21, 2))
        .weights("w", &[21, 30])
        .node("Mul", &["scale", "x"], "m", |_| {})
        .node("Add", &["m", "shift"], "n", |_| {})
        .node("MatMul", &["n", "w"], "y", |_| {})
        .output("y")
        .model(17);
    let (names, off, [without, with]) = moved(&model, &samples(&[2, 5, 21], 10));
    assert_eq!(names, ["n"]);
    assert!(off < 1e-6 && with < 0.7 * without, "{off}; {without} became {with}");
}

#[test]
fn convolutions_and_depthwise_ones_take_factors() {
    let scaled = |shape: &[usize], seed: u64| {
        let inner: usize = shape[1..].iter().product();
        let by = uneven(shape[0], seed).to_f64s();
        let mut random = Random::new(seed + 50);
        let values: Vec<f64> = (0..shape[0] * inner).map(|at| by[at / inner] * normal(&mut random)).collect();
        Tensor::from_f64s(DType::F32, shape.to_vec(), &values).unwrap()
    };
    let model = Builder::new(4)
        .input("x", &[-1, 3, 8, 8])
        .constant("w1", &scaled(&[15, 3, 3, 3], 5))
        .constant("slope", &Tensor::from_f64s(DType::F32, vec![15, 1, 1], &[0.25; 15]).unwrap())
        .weights("w2", &[15, 1, 3, 3])
        .weights("b2", &[15])
        .weights("w3", &[10, 15, 1, 1])
        .node("Conv", &["x", "w1"], "c1", |_| {})
        .node("PRelu", &["c1", "slope"], "r1", |_| {})
        .node("MaxPool", &["r1"], "p", |n| attribute::set_ints(n, "kernel_shape", vec![2, 2]))
        .node("Conv", &["p", "w2", "b2"], "c2", |n| attribute::set_int(n, "group", 15))
        .node("Relu", &["c2"], "r2", |_| {})
        .node("Conv", &["r2", "w3"], "y", |_| {})
        .output("y")
        .model(13);
    let (names, off, [without, with]) = moved(&model, &samples(&[2, 3, 8, 8], 10));
    assert_eq!(names, ["p", "r2"]);
    assert!(off < 1e-6 && with < 0.7 * without, "{off}; {without} became {with}");
}

#[test]
fn what_others_read_stays() {
    // The residual reads r1 too, and a sigmoid is not homogeneous; the data of the last layer is an output.
    let model = Builder::new(8)
        .input("x", &[-1, 12])
        .constant("scale", &uneven(12, 1))
        .weights("w", &[12, 12])
        .weights("v", &[12, 12])
        .weights("u", &[12, 12])
        .node("Mul", &["x", "scale"], "n", |_| {})
        .node("MatMul", &["n", "w"], "a", |_| {})
        .node("Add", &["a", "n"], "r", |_| {})
        .node("Sigmoid", &["r"], "s", |_| {})
        .node("MatMul", &["s", "v"], "b", |_| {})
        .node("Relu", &["b"], "t", |_| {})
        .node("MatMul", &["t", "u"], "y", |_| {})
        .output("y")
        .output("t")
        .model(13);
    let (names, off, [without, with]) = moved(&model, &samples(&[2, 12], 6));
    assert!(names.is_empty() && off == 0.0 && without == with, "{names:?}, {off}: {without} {with}");
    // A whole network's results stay, too.
    assert!(moved(&network().model(13), &samples(&[2, 3, 8, 8], 6)).1 < 1e-6);
}
