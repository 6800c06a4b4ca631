//! Quantization of whole models.

mod common;

use common::{Builder, network, options, samples, setting};
use mcc_compress::attribute;
use mcc_compress::codebook::Fit;
use mcc_compress::loss::distance;
use mcc_compress::model::Model;
use mcc_compress::recipe::{Activations, Quantize, Recipe, Rounding, Step, Weights};
use mcc_compress::session::compress;
use mcc_data::Samples;
use mcc_ir::{DType, Random, Tensor};

fn recipe(quantize: Quantize) -> Recipe {
    Recipe { steps: vec![Step::Quantize(quantize)], ..Recipe::default() }
}

/// The loss, the operators of the result, and its bytes.
fn done(model: &Model, recipe: &Recipe, samples: &Samples) -> (f64, Vec<String>, Vec<u8>) {
    let options = options();
    let setting = setting(samples, &options);
    let session = compress(model.clone(), recipe, &setting).unwrap();
    let written = session.written().unwrap();
    // The result is a file that is read again.
    let bytes = written.encode().unwrap();
    let again = Model::new(mcc_proto::Message::decode(bytes.clone()).unwrap(), None).unwrap();
    let operators = again.nodes().iter().map(|n| n.op_type.clone()).collect();
    (distance(model, &again, &setting).unwrap(), operators, bytes.to_vec())
}

fn count(operators: &[String], operator: &str) -> usize {
    operators.iter().filter(|o| *o == operator).count()
}

#[test]
fn static_int8_is_close_and_folds_norms() {
    let (loss, operators, _) = done(&network().model(13), &recipe(Quantize::default()), &samples(&[2, 3, 8, 8], 8));
    assert!(loss > 0.0 && loss < 0.03, "{loss}");
    // x, r1, r2 and the pooled features are bytes; each once, whoever reads it.
    assert_eq!((count(&operators, "BatchNormalization"), count(&operators, "QuantizeLinear")), (0, 4), "{operators:?}");
    // Those, four layers' weights, and as many biases: c1's is made by the norm, c3's corrects its mean.
    assert_eq!(count(&operators, "DequantizeLinear"), 4 + 4 + 4, "{operators:?}");
}

#[test]
fn steps_for_different_layers_add_up() {
    let only = |operator: &str| Step::Quantize(Quantize { only: vec![operator.to_string()], ..Quantize::default() });
    let recipe = Recipe { steps: vec![only("Conv"), only("Gemm")], ..Recipe::default() };
    let (loss, operators, _) = done(&network().model(13), &recipe, &samples(&[2, 3, 8, 8], 8));
    assert!(loss > 0.0 && loss < 0.03, "{loss}");
    assert_eq!((count(&operators, "QuantizeLinear"), count(&operators, "DequantizeLinear")), (4, 12), "{operators:?}");
}

#[test]
fn older_operator_sets_are_raised() {
    let (loss, ..) = done(&network().model(11), &recipe(Quantize::default()), &samples(&[2, 3, 8, 8], 8));
    assert!(loss < 0.03, "{loss}");
}

#[test]
fn ranges_at_run_time() {
    let step = Quantize { activations: Activations::Dynamic, ..Quantize::default() };
    let (loss, operators, _) = done(&network().model(13), &recipe(step), &samples(&[2, 3, 8, 8], 8));
    assert!(loss > 0.0 && loss < 0.03, "{loss}");
    assert_eq!((count(&operators, "ConvInteger"), count(&operators, "MatMulInteger")), (3, 1), "{operators:?}");
}

#[test]
fn weights_only() {
    let step = Quantize { activations: Activations::Float, ..Quantize::default() };
    let (loss, operators, _) = done(&network().model(13), &recipe(step), &samples(&[2, 3, 8, 8], 8));
    assert!(loss > 0.0 && loss < 0.01, "{loss}");
    assert_eq!(count(&operators, "QuantizeLinear"), 0);
}

#[test]
fn every_type_of_weights_and_every_rounding() {
    let samples = samples(&[2, 3, 8, 8], 8);
    for (weights, most) in [
        ("int8", 0.01),
        ("int6", 0.03),
        ("int4", 0.15),
        ("int3", 0.3),
        ("int2", 0.8),
        ("codebook4", 0.12),
        ("codebook2", 0.5),
        ("f16", 0.001),
        ("bf16", 0.01),
    ] {
        let (weights, activations) = (weights.parse().unwrap(), Activations::Float);
        let step = Quantize { weights, activations, ..Quantize::default() };
        let loss = done(&network().model(13), &recipe(step), &samples).0;
        assert!(loss > 0.0 && loss < most, "{weights}: {loss}");
    }
}

#[test]
fn rounding_looks_at_the_data() {
    let model =
        || Builder::new(4).input("x", &[8, 40]).weights("w", &[40, 30]).node("MatMul", &["x", "w"], "y", |_| {});
    // Data with correlated columns, as data has.
    let mut random = Random::new(8);
    let mixed: Vec<f64> = (0..8 * 40).map(|_| common::normal(&mut random)).collect();
    let sample = |_| {
        let parts: Vec<f64> = (0..8).map(|_| common::normal(&mut random)).collect();
        let values: Vec<f64> = (0..8 * 40).map(|at| parts[at / 40] * mixed[at % 40 * 8] + mixed[at]).collect();
        vec![Tensor::from_f64s(DType::F32, vec![8, 40], &values).unwrap()]
    };
    let samples = Samples::from_tensors((0..10).map(sample).collect());
    let loss = |weights: &str, rounding: Rounding| {
        let (weights, activations) = (weights.parse().unwrap(), Activations::Float);
        let step = Quantize { weights, rounding, activations, ..Quantize::default() };
        done(&model().output("y").model(13), &recipe(step), &samples).0
    };
    for weights in ["int4", "int3", "codebook4", "codebook2"] {
        let [nearest, gptq, adaround] =
            [Rounding::Nearest, Rounding::Gptq, Rounding::Adaround].map(|r| loss(weights, r));
        assert!(gptq < nearest && adaround < nearest, "{weights}: {nearest} {gptq} {adaround}");
    }
}

#[test]
fn products_have_blocks_of_codes() {
    let model = Builder::new(3)
        .input("x", &[2, 64])
        .weights("w", &[64, 48])
        .weights("v", &[24, 48])
        .weights("b", &[24])
        .node("MatMul", &["x", "w"], "h", |_| {})
        .node("Gemm", &["h", "v", "b"], "y", |n| attribute::set_int(n, "transB", 1))
        .output("y")
        .model(13);
    let step =
        |block| Quantize { weights: Weights::Int(4), activations: Activations::Float, block, ..Default::default() };
    let run = |block| done(&model, &recipe(step(block)), &samples(&[2, 64], 20));
    let ((usual, operators, _), (small, ..), (whole, ..)) = (run(None), run(Some(16)), run(Some(64)));
    assert_eq!(count(&operators, "MatMulNBits"), 2, "{operators:?}");
    assert!(small < usual && usual < whole && whole < 0.2, "{small} {usual} {whole}");
}

#[test]
fn only_and_except_are_obeyed() {
    let step = Quantize { except: vec!["Gemm".to_string(), "c2".to_string()], ..Quantize::default() };
    let (loss, operators, _) = done(&network().model(13), &recipe(step), &samples(&[2, 3, 8, 8], 8));
    assert!(loss < 0.03, "{loss}");
    assert_eq!(count(&operators, "QuantizeLinear"), 2, "{operators:?}");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = || done(&network().model(13), &recipe(Quantize::default()), &samples(&[2, 3, 8, 8], 9)).2;
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let (one, three) = (pool(1).install(run), pool(3).install(run));
    assert_eq!(one, three);
}

#[test]
fn embeddings_and_sequences() {
    let indices = |values: &[i64]| vec![Tensor::from_i64s(DType::I64, vec![1, 4], values).unwrap()];
    let samples = Samples::from_tensors(vec![indices(&[0, 5, 19, 3]), indices(&[7, 7, 1, 12])]);
    let mut builder = Builder::new(3)
        .input("ids", &[1, 4])
        .weights("table", &[20, 16])
        .weights("w", &[16, 16])
        .node("Gather", &["table", "ids"], "rows", |_| {})
        .node("MatMul", &["rows", "w"], "product", |_| {})
        .node("Add", &["product", "rows"], "y", |_| {})
        .output("y");
    if let Some(mcc_proto::type_proto::Value::TensorType(t)) =
        &mut builder.graph.input[0].r#type.as_mut().unwrap().value
    {
        t.elem_type = 7;
    }
    let (loss, operators, _) = done(&builder.model(17), &recipe(Quantize::default()), &samples);
    assert!(loss > 0.0 && loss < 0.02, "{loss}");
    assert_eq!((count(&operators, "Gather"), count(&operators, "QuantizeLinear")), (2, 1), "{operators:?}");
}

#[test]
fn names_and_order_do_not_matter() {
    // Names that edits would choose are taken, nodes stand in reverse, weights are computed and shared.
    let shape = Tensor::from_i64s(DType::I64, vec![4], &[8, 3, 1, 1]).unwrap();
    let builder = Builder::new(5)
        .input("x", &[1, 3, 4, 4])
        .weights("flat", &[24])
        .constant("shape", &shape)
        .node("Add", &["x_scale", "x_quantized"], "x_dequantized", |_| {})
        .node("Conv", &["x", "w"], "x_quantized", |_| {})
        .node("Conv", &["x", "w"], "x_scale", |_| {})
        .node("Reshape", &["flat", "shape"], "w", |_| {})
        .output("x_dequantized");
    let (loss, operators, _) = done(&builder.model(13), &recipe(Quantize::default()), &samples(&[1, 3, 4, 4], 4));
    assert!(loss > 0.0 && loss < 0.03, "{loss}");
    assert_eq!((count(&operators, "Conv"), count(&operators, "Reshape")), (2, 0), "{operators:?}");
    // The data, the shared weights, and two biases.
    assert_eq!(count(&operators, "DequantizeLinear"), 4, "{operators:?}");
}

#[test]
fn transposed_convolutions_and_groups() {
    let builder = Builder::new(9)
        .input("x", &[1, 4, 5, 5])
        .weights("w", &[4, 6, 3, 3])
        .weights("v", &[6, 2, 3, 3])
        .node("ConvTranspose", &["x", "w"], "up", |n| attribute::set_ints(n, "strides", vec![2, 2]))
        .node("Relu", &["up"], "r", |_| {})
        .node("Conv", &["r", "v"], "c", |n| attribute::set_int(n, "group", 3))
        .weights("u", &[6, 2, 2, 2])
        .node("ConvTranspose", &["c", "u"], "y", |n| attribute::set_int(n, "group", 3))
        .output("y");
    let (loss, ..) = done(&builder.model(13), &recipe(Quantize::default()), &samples(&[1, 4, 5, 5], 4));
    assert!(loss > 0.0 && loss < 0.03, "{loss}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let options = options();
    let message = |model: Model, step: Quantize, samples: &Samples| {
        compress(model, &recipe(step), &setting(samples, &options)).err().map(|e| e.report().to_string())
    };
    let good = samples(&[1, 3, 8, 8], 2);
    let nothing = Builder::new(1).input("x", &[1, 3, 8, 8]).node("Relu", &["x"], "y", |_| {}).output("y").model(13);
    assert!(message(nothing, Quantize::default(), &good).unwrap().contains("no layers"));
    let nan = Tensor::from_f64s(DType::F32, vec![1, 3, 8, 8], &[f64::NAN; 192]).unwrap();
    let text = message(network().model(13), Quantize::default(), &Samples::from_tensors(vec![vec![nan]])).unwrap();
    assert!(text.contains("not a finite number on sample 0") || text.contains("sample 0"), "{text}");
    let misspelt = Quantize { only: vec!["c9".to_string()], ..Quantize::default() };
    assert!(message(network().model(13), misspelt, &good).unwrap().contains("c9"));
    let session = compress(network().model(13), &recipe(Quantize::default()), &setting(&good, &options)).unwrap();
    let bytes = session.written().unwrap().encode().unwrap();
    let written = Model::new(mcc_proto::Message::decode(bytes).unwrap(), None).unwrap();
    let again = message(written, Quantize::default(), &good).unwrap();
    assert!(again.contains("quantized already") && again.contains("from which this one was made"), "{again}");
    let short = Quantize { weights: Weights::Int(4), ..Quantize::default() };
    assert!(message(network().model(13), short, &good).unwrap().contains("activations float"));
}

/// A network with channels enough for blocks: a window, a point and a product.
fn blocks() -> Model {
    Builder::new(6)
        .input("x", &[-1, 32, 6, 6])
        .weights("w1", &[24, 32, 3, 3])
        .weights("w2", &[48, 24, 1, 1])
        .weights("w3", &[64, 32])
        .weights("b3", &[32])
        .weights("w4", &[48, 64, 1, 1])
        .node("Conv", &["x", "w1"], "c1", |n| attribute::set_ints(n, "pads", vec![1; 4]))
        .node("Relu", &["c1"], "r1", |_| {})
        .node("Conv", &["r1", "w2"], "c2", |_| {})
        .node("GlobalAveragePool", &["c2"], "p", |_| {})
        .node("Conv", &["p", "w4t"], "c4", |_| {})
        .node("Transpose", &["w4"], "w4t", |n| attribute::set_ints(n, "perm", vec![1, 0, 2, 3]))
        .node("Flatten", &["c4"], "f", |_| {})
        .node("Gemm", &["f", "w3", "b3"], "y", |_| {})
        .output("y")
        .model(13)
}

#[test]
fn short_codes_have_scales_per_block() {
    let samples = samples(&[2, 32, 6, 6], 12);
    let of = |weights: &str, block| {
        let weights: Weights = weights.parse().unwrap();
        done(
            &blocks(),
            &recipe(Quantize { weights, activations: Activations::Float, block, ..Quantize::default() }),
            &samples,
        )
    };
    for (weights, usual_bound) in [("int4", 0.12), ("codebook4", 0.11), ("codebook3", 0.2), ("codebook6", 0.05)] {
        let ((usual, operators, _), (small, ..), (whole, ..)) =
            (of(weights, None), of(weights, Some(16)), of(weights, Some(4096)));
        assert!(small < usual_bound && usual < usual_bound && small < whole, "{weights}: {small} {usual} {whole}");
        let tables = weights.starts_with("codebook");
        // Factors of blocks are spread by a Gather of their own: not for 24 channels, which are no whole blocks.
        let spread = if tables { 4 + if weights == "codebook6" { 0 } else { 3 } } else { 0 };
        assert_eq!(count(&operators, "Gather"), spread, "{weights}: {operators:?}");
        assert_eq!(count(&operators, "MatMulNBits"), usize::from(!tables), "{weights}: {operators:?}");
    }
}

#[test]
fn tables_of_equal_populations() {
    let samples = samples(&[2, 32, 6, 6], 12);
    let of = |table| {
        let (weights, activations) = (Weights::Codebook(4), Activations::Float);
        done(&blocks(), &recipe(Quantize { weights, activations, table, ..Quantize::default() }), &samples)
    };
    let ((means, ..), (quantiles, ..)) = (of(Fit::KMeans), of(Fit::Quantiles));
    // Which is better is chance here: rounding makes up for much.
    assert!(means != quantiles && means.max(quantiles) < 0.03, "{means} {quantiles}");
}

#[test]
fn a_bias_that_a_node_behind_adds_is_corrected() {
    // Inputs with a mean, so that rounding weights shifts the results.
    let model = Builder::new(6)
        .input("x", &[-1, 24])
        .weights("w", &[24, 16])
        .weights("b", &[16])
        .node("MatMul", &["x", "w"], "m", |_| {})
        .node("Add", &["b", "m"], "y", |_| {})
        .output("y")
        .model(17);
    let mut random = Random::new(8);
    let sample = |random: &mut Random| {
        let values: Vec<f64> = (0..8 * 24).map(|_| 3.0 + random.real()).collect();
        vec![Tensor::from_f64s(DType::F32, vec![8, 24], &values).unwrap()]
    };
    let data = Samples::from_tensors((0..16).map(|_| sample(&mut random)).collect());
    let rounding = Rounding::Nearest;
    let weights =
        Quantize { weights: Weights::Int(3), activations: Activations::Float, rounding, ..Default::default() };
    let loss = |step: Quantize| done(&model, &recipe(step), &data).0;
    let (with, without) = (loss(weights.clone()), loss(Quantize { bias_correction: false, ..weights }));
    assert!(with < 0.5 * without, "{with} {without}");
}
