//! Recovery and low rank of whole models.

mod common;

use std::collections::BTreeMap;

use common::{Builder, network, options, pruned, recovered, samples, setting, zeros};
use mcc_compress::attribute;
use mcc_compress::layers;
use mcc_compress::loss::distance;
use mcc_compress::model::Model;
use mcc_compress::recipe::{Activations, LowRank, Quantize, Recipe, Recover, Scope, Step, Weights};
use mcc_compress::recover::responses::squares;
use mcc_compress::session::compress;
use mcc_data::Samples;

const SHAPE: [usize; 4] = [1, 3, 8, 8];

#[test]
fn what_is_left_of_a_pruned_model_makes_up_for_the_rest() {
    let (options, data, unseen) = (options(), samples(&SHAPE, 48), samples(&SHAPE, 96));
    // Samples begin with the same numbers: those unseen are the later ones.
    let unseen = Samples::from_tensors((48..96).map(|n| unseen.read(n).unwrap()).collect());
    let none = Recipe::default();
    let teacher = compress(network().model(13), &none, &setting(&data, &options)).unwrap().teacher;
    let given = pruned(&teacher, 0.6);
    let mut student = given.clone();
    let reasons = recovered(&teacher, &mut student, &data);
    assert_eq!(zeros(&student), zeros(&given));
    let setting = setting(&unseen, &options);
    let (before, after) =
        (distance(&teacher, &given, &setting).unwrap(), distance(&teacher, &student, &setting).unwrap());
    assert!(after < 0.7 * before, "{before} -> {after}: {reasons:?}");
    assert!(reasons.iter().all(|r| r.starts_with("block error")), "{reasons:?}");
}

#[test]
fn roundings_of_codes_are_trained() {
    let (options, data) = (options(), samples(&SHAPE, 48));
    let setting = setting(&data, &options);
    let quantize = Quantize { weights: Weights::Int(3), activations: Activations::Float, ..Quantize::default() };
    let mut recipe = Recipe { steps: vec![Step::Quantize(quantize)], ..Recipe::default() };
    let before = compress(network().model(13), &recipe, &setting).unwrap();
    recipe.steps.push(Step::Recover(Recover { effort: 1e-4, ..Recover::default() }));
    let after = compress(network().model(13), &recipe, &setting).unwrap();
    let loss = |session: &mcc_compress::session::Session| {
        distance(&session.teacher, &session.written().unwrap(), &setting).unwrap()
    };
    assert!(loss(&after) < 0.85 * loss(&before), "{} -> {}", loss(&before), loss(&after));
    for (output, codes) in &after.codes {
        let old = &before.codes[output];
        assert!(codes.codes.iter().zip(&old.codes).all(|(a, b)| (a - b).abs() <= 1), "{output}");
        assert!(codes.codes.iter().all(|c| (-4..=3).contains(c)), "{output}");
        // The model's weights are what codes mean.
        let (_, layer) = layers::again(&after.model, output).unwrap();
        let matrix = layer.matrix(&after.model).unwrap();
        assert_eq!(codes.weights(&matrix), matrix);
    }
}

#[test]
fn bytes_between_layers_are_part_of_what_is_trained() {
    let (options, data) = (options(), samples(&SHAPE, 32));
    let setting = setting(&data, &options);
    let steps =
        vec![Step::Quantize(Quantize::default()), Step::Recover(Recover { effort: 1e-5, ..Recover::default() })];
    let session = compress(network().model(13), &Recipe { steps, ..Recipe::default() }, &setting).unwrap();
    let loss = distance(&session.teacher, &session.written().unwrap(), &setting).unwrap();
    assert!(loss < 0.03, "{loss}");
    assert!(session.changes.iter().all(|c| c.reason.starts_with("block error")), "{:?}", session.changes);
}

#[test]
fn the_same_seed_gives_the_same_weights_on_any_number_of_threads() {
    let teacher = network().model(13);
    let run = || {
        let mut student = pruned(&teacher, 0.5);
        recovered(&teacher, &mut student, &samples(&SHAPE, 16));
        student.encode().unwrap()
    };
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let (one, three) = (pool(1).install(run), pool(3).install(run));
    assert!(one == three);
}

#[test]
fn a_model_that_lost_nothing_stays_as_it_is() {
    let teacher = network().model(13);
    let mut student = teacher.clone();
    let reasons = recovered(&teacher, &mut student, &samples(&SHAPE, 12));
    assert!(reasons.iter().all(|r| r.contains("given up")), "{reasons:?}");
    assert!(student.encode().unwrap() == teacher.encode().unwrap());
}

/// Gradients come from the scores where an output is the best one's number.
#[test]
fn choosers_of_the_best_are_trained_by_their_scores() {
    let mut builder = network().node("ArgMax", &["y"], "best", |_| {}).output("best");
    builder.graph.output.remove(0);
    let teacher = builder.model(13);
    let mut student = pruned(&teacher, 0.6);
    let reasons = recovered(&teacher, &mut student, &samples(&SHAPE, 24));
    assert!(reasons.iter().all(|r| r.contains("the model's error") && !r.contains("given up")), "{reasons:?}");
}

/// Points around one centre for each class, and their classes.
fn points(classes: &[Vec<f64>], count: usize, seed: u64) -> (Samples, Vec<usize>) {
    let mut random = mcc_ir::Random::new(seed);
    let (mut samples, mut labels) = (Vec::new(), Vec::new());
    for n in 0..count {
        let center = &classes[n % classes.len()];
        let values: Vec<f64> = center.iter().map(|c| c + common::normal(&mut random)).collect();
        samples.push(vec![mcc_ir::Tensor::from_f64s(mcc_ir::DType::F32, vec![1, center.len()], &values).unwrap()]);
        labels.push(n % classes.len());
    }
    (Samples::from_tensors(samples), labels)
}

/// The share of samples whose class is the best one.
fn accuracy(model: &Model, samples: &Samples, labels: &[usize]) -> f64 {
    let options = options();
    let mut right = 0;
    mcc_compress::observe::observe(model, &["y"], &setting(samples, &options), &mut |n, values| {
        let scores = values[0].to_f64s();
        let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        right += usize::from(best == labels[n]);
        Ok(())
    })
    .unwrap();
    right as f64 / labels.len() as f64
}

/// A classifier by the nearest of centres that are not quite right, and the right ones.
fn classifier() -> (Model, Vec<Vec<f64>>) {
    const SIZE: usize = 24;
    let mut random = mcc_ir::Random::new(11);
    let mut centres = |scale: f64| -> Vec<Vec<f64>> {
        (0..6).map(|_| (0..SIZE).map(|_| scale * common::normal(&mut random)).collect()).collect()
    };
    let (right, off) = (centres(0.8), centres(1.6));
    let mut values = vec![0.0; SIZE * 6];
    for class in 0..6 {
        (0..SIZE).for_each(|n| values[n * 6 + class] = right[class][n] + off[class][n]);
    }
    let weights = mcc_ir::Tensor::from_f64s(mcc_ir::DType::F32, vec![SIZE, 6], &values).unwrap();
    let builder = Builder::new(1).input("x", &[1, SIZE as i64]).constant("w", &weights);
    (builder.node("MatMul", &["x", "w"], "y", |_| {}).output("y").model(13), right)
}

#[test]
fn labels_make_a_classifier_better_than_its_teacher() {
    let (teacher, centres) = classifier();
    let ((data, classes), (unseen, truth)) = (points(&centres, 240, 3), points(&centres, 600, 4));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("labels.txt");
    std::fs::write(&file, classes.iter().map(|c| format!("{c}\n")).collect::<String>()).unwrap();
    let options = options();
    let run = |labels: Option<std::path::PathBuf>| {
        let prune = mcc_compress::recipe::Prune { share: Some(0.3), everywhere: true, ..Default::default() };
        let recover = Recover { effort: 1e-4, labels, ..Recover::default() };
        let recipe = Recipe { steps: vec![Step::Prune(prune), Step::Recover(recover)], ..Recipe::default() };
        compress(teacher.clone(), &recipe, &setting(&data, &options))
    };
    let accuracy = |model: &Model| accuracy(model, &unseen, &truth);
    let (without, with) = (run(None).unwrap(), run(Some(file.clone())).unwrap());
    let reasons = [&without.changes[0].reason, &with.changes[0].reason];
    let [of_teacher, without, with] = [&teacher, &without.model, &with.model].map(accuracy);
    assert!(with > without + 0.02 && with > of_teacher, "{of_teacher} {without} {with} {reasons:?}");
    // Labels that do not fit.
    for (text, part) in [
        ("1\n2\n", "2 labels for 240 samples"),
        (&"cat\n".repeat(240), "\"cat\", the label of sample 0 is no class"),
        (&"9\n".repeat(240), "class 9, but the model has 6 classes"),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = run(Some(file.clone())).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn layers_without_gradients_are_fitted() {
    let builder = Builder::new(5)
        .input("x", &[1, 4, 16])
        .weights("w", &[16, 16])
        .weights("v", &[16, 16])
        .node("MatMul", &["x", "w"], "a", |_| {})
        .node("CumSum", &["a", "axis"], "b", |_| {})
        .node("MatMul", &["b", "v"], "y", |_| {})
        .constant("axis", &mcc_ir::Tensor::scalar_i64(mcc_ir::DType::I64, 1))
        .output("y");
    let teacher = builder.model(14);
    let given = pruned(&teacher, 0.5);
    let mut student = given.clone();
    let data = samples(&[1, 4, 16], 12);
    let reasons = recovered(&teacher, &mut student, &data);
    assert!(reasons.iter().any(|r| r.contains("no gradients for cumulative")), "{reasons:?}");
    assert_eq!(zeros(&student), zeros(&given));
    let options = options();
    let setting = setting(&data, &options);
    let (before, after) =
        (distance(&teacher, &given, &setting).unwrap(), distance(&teacher, &student, &setting).unwrap());
    assert!(after < before, "{before} -> {after}");
}

/// Of linear models, the first order is all: what outputs respond is what they lose without a row.
#[test]
fn responses_of_outputs_tell_what_they_lose() {
    let (options, data) = (options(), samples(&[1, 12], 300));
    let setting = setting(&data, &options);
    let model = Builder::new(5)
        .input("x", &[1, 12])
        .weights("w", &[12, 6])
        .weights("v", &[6, 20])
        .node("MatMul", &["x", "w"], "a", |_| {})
        .node("MatMul", &["a", "v"], "y", |_| {})
        .output("y")
        .model(14);
    let layer = layers::find(&model).into_iter().find(|l| l.output == "a").unwrap();
    let values = model.constant("w").unwrap().to_f64s();
    let sums = |gradients: &BTreeMap<&str, Vec<f32>>| -> Vec<f64> {
        let each = gradients["w"].iter().zip(&values).map(|(&g, w)| f64::from(g) * w).enumerate();
        each.fold(vec![0.0; 6], |mut sums, (at, part)| {
            sums[at % 6] += part;
            sums
        })
    };
    let found = squares(&model, &["w".to_string()].into(), &sums, 1, &setting).unwrap();
    // Errors are relative to the first sample's outputs here, and to all samples' there.
    let lost: Vec<f64> = (0..6)
        .map(|row| {
            let (mut without, mut matrix) = (model.clone(), layer.matrix(&model).unwrap());
            let columns = matrix.columns;
            matrix.data[row * columns..(row + 1) * columns].fill(0.0);
            layer.set_matrix(&mut without, &matrix).unwrap();
            distance(&model, &without, &setting).unwrap().powi(2)
        })
        .collect();
    let [all_found, all_lost] = [&found, &lost].map(|values| values.iter().sum::<f64>());
    for (row, (found, lost)) in found.iter().zip(&lost).enumerate() {
        let (found, lost) = (found / all_found, lost / all_lost);
        assert!((found - lost).abs() < 0.25 * lost, "{row}: {found} {lost}");
    }
}

#[test]
fn large_layers_of_low_rank_become_two() {
    let (options, data) = (options(), samples(&[1, 8, 6, 6], 24));
    let setting = setting(&data, &options);
    let stride = |node: &mut mcc_proto::NodeProto| {
        attribute::set_ints(node, "strides", vec![2, 1]);
        attribute::set_ints(node, "pads", vec![1, 0, 1, 1]);
    };
    // The data has few directions: what follows eight channels spans eight.
    let model = Builder::new(9)
        .input("x", &[1, 8, 6, 6])
        .weights("w0", &[64, 8, 1, 1])
        .weights("w1", &[96, 64, 3, 3])
        .weights("b1", &[96])
        .weights("w2", &[64, 96])
        .weights("b2", &[64])
        .node("Conv", &["x", "w0"], "a", |_| {})
        .node("Conv", &["a", "w1", "b1"], "b", stride)
        .node("GlobalAveragePool", &["b"], "c", |_| {})
        .node("Flatten", &["c"], "d", |_| {})
        .node("Gemm", &["d", "w2", "b2"], "y", |node| attribute::set_int(node, "transB", 1))
        .output("y")
        .model(13);
    let low_rank = |step: LowRank| {
        compress(model.clone(), &Recipe { steps: vec![Step::LowRank(step)], ..Recipe::default() }, &setting)
    };
    let run = |share: f64| low_rank(LowRank { share, ..LowRank::default() });
    let session = run(0.2).unwrap();
    let written = session.written().unwrap();
    let loss = distance(&model, &written, &setting).unwrap();
    assert!(loss < 0.2, "{loss}");
    let work = |model: &Model| -> usize {
        let layers = layers::find(model);
        let at = |l: &layers::Layer| if l.operator == "Conv" && l.output != "a" { 15 } else { 1 };
        layers.iter().map(|l| at(l) * l.rows() * l.columns()).sum()
    };
    assert!(work(&written) as f64 <= 0.8 * work(&model) as f64, "{} {}", work(&written), work(&model));
    let reasons: Vec<&str> = session.changes.iter().map(|c| c.reason.as_str()).filter(|r| !r.is_empty()).collect();
    assert!(reasons.iter().any(|r| r.starts_with("rank ")), "{reasons:?}");
    assert!(reasons.iter().any(|r| r.starts_with("first half of")), "{reasons:?}");
    let each = |share: f64| low_rank(LowRank { share, scope: Scope::Layer, ..LowRank::default() });
    let halved = each(0.5).unwrap();
    let ranks: Vec<&str> = halved.changes.iter().map(|c| c.reason.as_str()).filter(|r| r.starts_with("rank")).collect();
    // Half of 96 x 576 multiply-adds is a rank of 41, of 64 x 96 one of 19; ranks are multiples of 16.
    assert_eq!(ranks, ["rank 32 of 96", "rank 16 of 64"]);
    let Err(error) = each(0.95) else { panic!("too much was saved") };
    assert!(error.to_string().contains("no layer has a rank"), "{error}");
    let Err(error) = run(0.99) else { panic!("too much was saved") };
    assert!(error.to_string().contains("saves at most"), "{error}");
}
