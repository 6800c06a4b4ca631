//! Compressed models give the same results on every machine and level, optimised or not, for every batch: those of the
//! evaluator on the written file.

mod common;

use common::{Builder, options, samples, setting};
use mcc::passes::Effort;
use mcc::targets::Arch;
use mcc::{Options, driver};
use mcc_compress::attribute;
use mcc_compress::model::Model;
use mcc_compress::recipe::Recipe;
use mcc_compress::session::compress;
use mcc_ir::eval::eval_graph;
use mcc_ir::{DType, Random, Tensor};

/// Recipes, and how far results may be from the evaluator's: codes next to a tie may differ by a step, and products with
/// short codes may split their rows into bytes.
const FORMS: [(&str, f64); 10] = [
    ("method = \"quantize\"", 0.02),
    ("method = \"quantize\"\nactivations = \"dynamic\"", 0.02),
    ("method = \"quantize\"\nweights = \"int4\"\nactivations = \"float\"", 1e-4),
    ("method = \"quantize\"\nweights = \"int3\"\nactivations = \"float\"", 1e-4),
    ("method = \"quantize\"\nweights = \"codebook4\"\nactivations = \"float\"", 1e-4),
    ("method = \"quantize\"\nweights = \"f16\"\nactivations = \"float\"", 1e-5),
    ("method = \"prune\"\nshare = 0.8\neverywhere = true", 1e-5),
    ("method = \"prune\"\npattern = \"2:4\"\neverywhere = true", 1e-5),
    (
        "method = \"prune\"\npattern = \"blocks\"\nshare = 0.8\neverywhere = true\n[[steps]]\nmethod = \"quantize\"",
        0.02,
    ),
    ("method = \"prune\"\npattern = \"channels\"\nshare = 0.5", 1e-5),
];

/// Layers that are wide enough for the kernels of all forms.
fn wide() -> Model {
    Builder::new(2)
        .input("x", &[-1, 16, 6, 6])
        .weights("w1", &[48, 16, 3, 3])
        .weights("b1", &[48])
        .weights("w2", &[64, 48, 1, 1])
        .weights("b2", &[64])
        .weights("w3", &[64, 32])
        .weights("w4", &[32, 10])
        .node("Conv", &["x", "w1", "b1"], "c1", |node| attribute::set_ints(node, "pads", vec![1; 4]))
        .node("Relu", &["c1"], "r1", |_| {})
        .node("Conv", &["r1", "w2", "b2"], "c2", |_| {})
        .node("Relu", &["c2"], "r2", |_| {})
        .node("GlobalAveragePool", &["r2"], "pool", |_| {})
        .node("Flatten", &["pool"], "flat", |_| {})
        .node("MatMul", &["flat", "w3"], "m", |_| {})
        .node("Relu", &["m"], "r3", |_| {})
        .node("MatMul", &["r3", "w4"], "y", |_| {})
        .output("y")
        .model(17)
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let (a, b) = (a.to_f32s().unwrap(), b.to_f32s().unwrap());
    let squared = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let (error, of) = (squared(&mut a.iter().zip(&b).map(|(a, b)| a - b)), squared(&mut b.iter().copied()));
    (error / of.max(f64::MIN_POSITIVE)).sqrt()
}

#[test]
fn results_are_those_of_the_evaluator() {
    let (data, options) = (samples(&[4, 16, 6, 6], 12), options());
    let mut random = Random::new(11);
    let mut batch = |n: usize| {
        let values: Vec<f64> = (0..n * 16 * 36).map(|_| common::normal(&mut random)).collect();
        Tensor::from_f64s(DType::F32, vec![n, 16, 6, 6], &values).unwrap()
    };
    let batches = [0, 1, 3, 17].map(&mut batch);
    let mut targets = mcc_testing::levels();
    targets.extend(mcc_testing::emulated().into_iter().filter(|t| t.arch == Arch::Aarch64 && !t.runs_here()));
    for (form, limit) in FORMS {
        let recipe = Recipe::parse(&format!("[[steps]]\n{form}")).unwrap();
        let session = compress(wide(), &recipe, &setting(&data, &options)).unwrap();
        let file = session.written().unwrap().encode().unwrap();
        let graph = driver::import(file.clone(), &options).unwrap();
        let expected: Vec<Tensor> =
            batches.iter().map(|x| eval_graph(&graph, std::slice::from_ref(x)).unwrap().remove(0)).collect();
        for (target, effort) in targets.iter().flat_map(|t| [(t, Effort::Full), (t, Effort::Required)]) {
            let options = Options { effort, ..Options::new(vec![target.clone()], "model").unwrap() };
            let compiled = mcc::compile(file.clone(), &options).unwrap();
            for (x, expected) in batches.iter().zip(&expected) {
                let inputs = compiled.with_weights(vec![x.clone()]).unwrap();
                let outputs = mcc_testing::invoke(target, compiled.object(), &inputs, std::slice::from_ref(expected));
                let off = distance(&outputs[0], expected);
                let name = target.cpu_name();
                assert!(off <= limit, "{form}, {name}, {effort:?}, batch {}: {off}", x.shape()[0]);
            }
        }
    }
}
