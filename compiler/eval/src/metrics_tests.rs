use mcc_data::Label;
use mcc_data::preprocess::Ctc;
use mcc_ir::{DType, Tensor};

use super::*;
use crate::score::decode;

fn scores(shape: &[usize], values: &[f64]) -> Vec<Tensor> {
    vec![Tensor::from_f64s(DType::F32, shape.to_vec(), values).unwrap()]
}

fn case<'a>(outputs: &'a [Tensor], reference: &'a [Tensor], label: Option<&'a Label>) -> Case<'a> {
    Case { outputs, reference, label, ctc: None }
}

fn class(n: usize) -> Label {
    Label::Text(n.to_string())
}

/// A metric's value for samples of scores and classes.
fn value(name: &str, samples: &[(&[f64], usize)]) -> f64 {
    let metric = find(name).unwrap();
    let row = |(values, label): &(&[f64], usize)| {
        let outputs = scores(&[1, values.len()], values);
        metric.row(&case(&outputs, &outputs, Some(&class(*label)))).unwrap()
    };
    metric.rows(samples.iter().map(row).collect()).value(&vec![1; samples.len()])
}

#[test]
fn classes_by_score() {
    let samples: &[(&[f64], usize)] =
        &[(&[0.1, 0.7, 0.2], 1), (&[0.5, 0.4, 0.1], 1), (&[0.3, 0.3, 0.4], 2), (&[0.0, f64::NAN, 1.0], 1)];
    assert_eq!(value("top1", samples), 0.5);
    // Equal scores: the first class is the one that is found.
    assert_eq!(value("top1", &[(&[0.5, 0.5], 1)]), 0.0);
    let six: &[f64] = &[6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
    assert_eq!(value("top5", &[(six, 4), (six, 5)]), 0.5);
    assert_eq!(value("accuracy", &[(&[0.7], 1), (&[0.2], 1), (&[0.1], 0)]), 2.0 / 3.0);
}

#[test]
fn a_model_may_choose_the_class_itself() {
    let outputs = vec![Tensor::from_i64s(DType::I64, vec![3], &[2, 0, 1]).unwrap()];
    let label = Label::Numbers(vec![2.0, 0.0, 0.0]);
    let row = find("accuracy").unwrap().row(&case(&outputs, &outputs, Some(&label))).unwrap();
    assert_eq!(row, [2.0, 3.0]);
    assert!(find("top1").unwrap().row(&case(&outputs, &outputs, Some(&class(0)))).is_err());
}

#[test]
fn precision_recall_and_f1_are_those_of_scikit_learn() {
    // Found 1 1 0 0 1, wanted 1 0 0 1 1.
    let two: &[(&[f64], usize)] = &[(&[0., 1.], 1), (&[0., 1.], 0), (&[1., 0.], 0), (&[1., 0.], 1), (&[0., 1.], 1)];
    for name in ["precision", "recall", "f1"] {
        assert!((value(name, two) - 2.0 / 3.0).abs() < 1e-12, "{name}");
    }
    // Found 0 1 2 2, wanted 0 1 1 2: macro averages.
    let three: &[(&[f64], usize)] = &[(&[1., 0., 0.], 0), (&[0., 1., 0.], 1), (&[0., 0., 1.], 1), (&[0., 0., 1.], 2)];
    assert!((value("precision", three) - (1.0 + 1.0 + 0.5) / 3.0).abs() < 1e-12);
    assert!((value("recall", three) - (1.0 + 0.5 + 1.0) / 3.0).abs() < 1e-12);
    // A class that is found but never wanted counts.
    assert!((value("f1", &[(&[1., 0., 0.], 0), (&[0., 0., 1.], 0)]) - 1.0 / 3.0).abs() < 1e-12);
    assert!((value("f1", three) - (1.0 + 2.0 / 3.0 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
}

#[test]
fn the_area_counts_ties_half() {
    let samples: &[(&[f64], usize)] = &[(&[0.1], 0), (&[0.4], 0), (&[0.35], 1), (&[0.8], 1)];
    assert_eq!(value("auc", samples), 0.75);
    assert_eq!(value("auc", &[(&[0.5], 0), (&[0.5], 1)]), 0.5);
    assert_eq!(value("auc", &[(&[0.9, 0.1], 0), (&[0.2, 0.8], 1)]), 1.0);
    // With weights: the pair of 0.4 and 0.35 counts twice of four.
    let metric = find("auc").unwrap();
    let rows = metric.rows(samples.iter().map(|(s, label)| vec![s[0], *label as f64]).collect());
    assert_eq!(rows.value(&[1, 2, 1, 1]), 4.0 / 6.0);
    assert!(rows.value(&[1, 1, 0, 0]).is_nan());
}

#[test]
fn a_score_for_each_of_several_decisions() {
    let outputs = scores(&[1, 4], &[0.9, 0.4, 0.6, 0.1]);
    let label = Label::Numbers(vec![1.0, 1.0, 0.0, 0.0]);
    let row = |name: &str| find(name).unwrap().row(&case(&outputs, &outputs, Some(&label))).unwrap();
    assert_eq!(row("accuracy"), [2.0, 4.0]);
    assert_eq!(row("f1"), [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    assert_eq!(find("auc").unwrap().rows(vec![row("auc")]).value(&[1]), 0.75);
}

#[test]
fn distances_from_the_first_model() {
    let (a, b) = (scores(&[1, 2], &[3.0, 4.0]), scores(&[1, 2], &[3.0, 3.0]));
    let of = |name: &str, found: &[Tensor]| {
        let metric = find(name).unwrap();
        metric.rows(vec![metric.row(&case(found, &a, None)).unwrap()]).value(&[1])
    };
    assert_eq!((of("mse", &b), of("mae", &b)), (0.5, 0.5));
    assert_eq!(of("relative-l2", &b), 0.2);
    assert!((of("sqnr", &b) - 10.0 * 25f64.log10()).abs() < 1e-9);
    assert!((of("cosine", &b) - 21.0 / (5.0 * 18f64.sqrt())).abs() < 1e-9);
    assert_eq!((of("relative-l2", &a), of("cosine", &a), of("sqnr", &a)), (0.0, 1.0, f64::INFINITY));
    assert_eq!((of("agreement", &a), of("agreement", &b)), (1.0, 0.0));
    let other = scores(&[2, 1], &[3.0, 4.0]);
    let error = find("cosine").unwrap().row(&case(&other, &a, None)).unwrap_err().to_string();
    assert!(error.contains("output 0 is f32[2, 1], the first model's f32[1, 2]"), "{error}");
}

#[test]
fn text_of_classes_per_step() {
    let ctc = Ctc { classes: ["", "a", "b"].map(str::to_string).into(), blank: 0 };
    let step = |class: usize| (0..3).map(move |n| f64::from(n == class));
    let path = [1, 1, 0, 1, 2, 2, 0];
    let outputs = scores(&[1, 7, 3], &path.into_iter().flat_map(step).collect::<Vec<_>>());
    assert_eq!(decode(&outputs, &ctc).unwrap(), "aab");
    let label = Label::Text("abb".to_string());
    let row = find("cer").unwrap().row(&Case {
        outputs: &outputs,
        reference: &outputs,
        label: Some(&label),
        ctc: Some(&ctc),
    });
    assert_eq!(row.unwrap(), [1.0, 3.0]);
    let wrong = Ctc { classes: ctc.classes[..2].to_vec(), blank: 0 };
    assert!(
        decode(&outputs, &wrong)
            .unwrap_err()
            .to_string()
            .contains("3 classes in the first output, 2 in the vocabulary")
    );
}

#[test]
fn what_does_not_suit_is_told() {
    let outputs = scores(&[1, 3], &[0.1, 0.2, 0.7]);
    let refusal = |name: &str, label: &Label| {
        find(name).unwrap().row(&case(&outputs, &outputs, Some(label))).unwrap_err().to_string()
    };
    assert!(refusal("top1", &class(3)).contains("the label is class 3, the model has 3 classes, from 0 on"));
    assert!(refusal("top1", &Label::Text("cat".to_string())).contains("\"cat\" is not the number of a class"));
    assert!(refusal("accuracy", &Label::Numbers(vec![1.0, 2.0])).contains("the label has 2 classes"));
    assert!(refusal("auc", &class(1)).contains("3 classes, not two"));
    assert!(refusal("mse", &Label::Numbers(vec![1.0])).contains("the label has 1 numbers, the first output 3"));
    let error = find("top2").unwrap_err().to_string();
    assert!(error.contains("did you mean top1?") && error.contains("relative-l2"), "{error}");
}
