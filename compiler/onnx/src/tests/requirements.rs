//! What compiled models refuse at run time, and how they say it.

use mcc_targets::Target;

use super::*;
use mcc_kernel::lower;
use mcc_loader::Model;

/// The first output of a compiled model, or why it refuses its inputs, at every level of this machine alike.
fn run(g: &Graph, inputs: &[Tensor]) -> Result<Tensor, String> {
    let answers = Target::host_levels().into_iter().map(|target| {
        let program = lower(g, &target.clone().into(), "t").expect("lowers");
        let compiled = mcc_codegen::compile(&program, &target).expect("compiles");
        let outputs = Model::load(&compiled.object).expect("loads").invoke(inputs);
        outputs.map(|mut o| o.swap_remove(0)).map_err(|e| e.report().message.clone())
    });
    let answers: Vec<_> = answers.into_iter().collect();
    assert!(answers.iter().all(|a| a == &answers[0]), "{answers:?}");
    answers.into_iter().next().expect("this machine runs something")
}

fn compiled(g: GraphProto, check_indices: bool) -> Graph {
    imported(&model(g), &Options { check_indices, ..Default::default() }).expect("valid")
}

fn i64s(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_i64s(DType::I64, shape.to_vec(), values).expect("sized")
}

fn f32s(shape: &[usize]) -> Tensor {
    let values: Vec<f64> = (0..shape.iter().product()).map(|i: usize| i as f64).collect();
    Tensor::from_f64s(DType::F32, shape.to_vec(), &values).expect("sized")
}

fn refused<T>(because: &str) -> Result<T, String> {
    Err(format!("the model refuses its inputs: {because}"))
}

#[test]
fn extents_that_values_decide() {
    let g = compiled(graph(&["n: i64[2]"], &["c = ConstantOfShape(n)", "y = ReduceSum(c)"], &["y"]), false);
    let of = |a, b| run(&g, &[i64s(&[2], &[a, b])]);
    assert_eq!(of(3, 4).map(|y| y.to_f64s()), Ok(vec![0.0]));
    assert_eq!(of(i64::MAX, 0).map(|y| y.to_f64s()), Ok(vec![0.0]));
    let negative = "element 0 of input \"n\" must not be negative, for node \"c\": the extent of axis 0 of its result";
    // The product of two negative extents is not a number of elements.
    assert_eq!(of(-1, -1), refused(negative));
    assert_eq!(of(i64::MIN, 2), refused(negative));
    for (a, b) in [(1 << 31, 1 << 31), (1 << 62, 4), (i64::MAX, i64::MAX)] {
        assert!(of(a, b).is_err_and(|e| e.contains("larger than can be addressed")), "{a} {b}");
    }
}

#[test]
fn padding_that_crops() {
    let g = compiled(graph(&["x: f32[n]", "p: i64[2]"], &["y = Pad(x, p)"], &["y"]), false);
    let of = |before, after| run(&g, &[f32s(&[5]), i64s(&[2], &[before, after])]).map(|y| y.to_f64s());
    assert_eq!(of(-1, -2), Ok(vec![1.0, 2.0]));
    assert_eq!(of(1, -3), Ok(vec![0.0, 0.0, 1.0]));
    assert_eq!(of(-5, 0), Ok(vec![]));
    assert!(of(i64::MIN, 0).is_err() && of(1 << 62, 1 << 62).is_err());
}

#[test]
fn parts_that_do_not_add_up() {
    let g = compiled(graph(&["x: f32[n]", "s: i64[2]"], &["a, y = Split(x, s)"], &["y"]), false);
    let of = |a, b| run(&g, &[f32s(&[5]), i64s(&[2], &[a, b])]).map(|y| y.to_f64s());
    assert_eq!(of(2, 3), Ok(vec![2.0, 3.0, 4.0]));
    for (a, b) in [(2, 7), (-1, 6), (1, 1), (1 << 62, 5 - (1 << 62))] {
        assert!(of(a, b).is_err(), "{a} {b}");
    }
}

#[test]
fn the_best_of_fewer() {
    let g = compiled(graph(&["x: f32[n]", "k: i64[1]"], &["y, i = TopK(x, k)"], &["y"]), false);
    let of = |n, k| run(&g, &[f32s(&[n]), i64s(&[1], &[k])]).map(|y| y.to_f64s());
    assert_eq!(of(3, 2), Ok(vec![2.0, 1.0]));
    assert_eq!(of(0, 0), Ok(vec![]));
    let e = of(3, 4).expect_err("more than there are");
    assert!(e.contains("dimension 0 (n) of input \"x\" must be at least element 0 of input \"k\""), "{e}");
}

#[test]
fn nothing_to_pick_from() {
    let g = compiled(graph(&["x: f32[n]", "i: i64[m]"], &["y = Gather(x, i)"], &["y"]), false);
    assert_eq!(run(&g, &[f32s(&[0]), i64s(&[0], &[])]).map(|y| y.numel()), Ok(0));
    assert!(run(&g, &[f32s(&[0]), i64s(&[1], &[0])]).is_err());
    // Kernels draw indices to the nearest valid one.
    assert_eq!(run(&g, &[f32s(&[3]), i64s(&[2], &[7, -9])]).map(|y| y.to_f64s()), Ok(vec![2.0, 0.0]));
}

#[test]
fn indices_are_checked_where_asked() {
    let g = compiled(graph(&["x: f32[n]", "i: i64[m]"], &["y = Gather(x, i)"], &["y"]), true);
    let of = |i: &[i64]| run(&g, &[f32s(&[3]), i64s(&[i.len()], i)]).map(|y| y.to_f64s());
    assert_eq!(of(&[2, -3]), Ok(vec![2.0, 0.0]));
    assert_eq!(of(&[]), Ok(vec![]));
    let wrong = "indices_out_of_range.1 must be 0, for node \"y\": its indices along axis 0, of extent n";
    assert_eq!(of(&[0, 3]), refused(wrong));
    assert_eq!(of(&[-4]), refused(wrong));
    let again = mcc_ir::text::parse(&mcc_ir::text::print(&g)).expect("its own text");
    assert_eq!(again.kept.len(), 1);
}

#[test]
fn an_axis_that_must_stay() {
    let g = compiled(graph(&["x: f32[n, 1]"], &["y = Squeeze(x)"], &["y"]), false);
    assert_eq!(run(&g, &[f32s(&[2, 1])]).map(|y| y.shape().to_vec()), Ok(vec![2]));
    assert!(run(&g, &[f32s(&[1, 1])]).is_err_and(|e| e.contains("dimension 0 (n) of input \"x\" must not be 1")));
}
