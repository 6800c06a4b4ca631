//! If: what decides a branch, what both must have in common, and what branches use of the graph around them.

use super::{
    AttributeProto, AttributeType, FunctionProto, GraphProto, Options, graph, imported, int, ints, model, node,
};
use mcc_ir::eval::eval_graph;
use mcc_ir::{DType, Graph, Op, Tensor};
use mcc_proto::{ModelProto, NodeProto, ValueInfoProto};

/// A branch: its nodes, and the names of its results.
fn branch(name: &str, nodes: Vec<NodeProto>, results: &[&str]) -> AttributeProto {
    let output = results.iter().map(|r| ValueInfoProto { name: r.to_string(), ..Default::default() }).collect();
    AttributeProto {
        name: name.to_string(),
        g: Some(GraphProto { node: nodes, output, ..Default::default() }),
        r#type: AttributeType::Graph as i32,
        ..Default::default()
    }
}

/// `results = If(condition)` with branches of nodes as text.
fn if_(text: &str, then: (&[&str], &[&str]), otherwise: (&[&str], &[&str])) -> NodeProto {
    let nodes = |texts: &[&str]| texts.iter().map(|t| node(t)).collect();
    let mut node = node(text);
    node.attribute.push(branch("then_branch", nodes(then.0), then.1));
    node.attribute.push(branch("else_branch", nodes(otherwise.0), otherwise.1));
    node
}

/// `y` is one of two functions of `x: f32[n, 3]`, as `c` says.
fn choice(then_branch: &str, else_branch: &str) -> ModelProto {
    with(
        &["x: f32[n, 3]", "c: bool[]"],
        vec![if_("y = If(c)", (&[then_branch], &["r"]), (&[else_branch], &["r"]))],
        &["y"],
    )
}

/// A model with some initializers.
fn with(inputs: &[&str], nodes: Vec<NodeProto>, outputs: &[&str]) -> ModelProto {
    let mut g = graph(inputs, &[], outputs);
    g.initializer =
        vec![ints("zero", &[0]), ints("one", &[1]), ints("flat", &[-1]), ints("pair", &[2, 3]), ints("w", &[5, 6, 7])];
    g.node = nodes;
    model(g)
}

fn graph_of(model: &ModelProto) -> Graph {
    imported(model, &Options::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// The number of conditions that are decided at run time, including those in regions.
fn conditions(g: &Graph) -> usize {
    let of = |n| usize::from(matches!(g.op(n), Op::If(_))) + g.regions(n).into_iter().map(conditions).sum::<usize>();
    g.topological().into_iter().map(of).sum()
}

fn floats(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64s(DType::F32, shape.to_vec(), values).expect("sized")
}

fn truth(c: bool) -> Tensor {
    Tensor::scalar_i64(DType::Bool, i64::from(c))
}

/// Shape and elements of all outputs.
fn run(g: &Graph, inputs: &[Tensor]) -> Vec<(Vec<usize>, Vec<f64>)> {
    let outputs = eval_graph(g, inputs).unwrap_or_else(|e| panic!("{e}"));
    outputs.into_iter().map(|t| (t.shape().to_vec(), t.to_f64s())).collect()
}

#[test]
fn run_time_decides_a_branch() {
    let g = graph_of(&choice("r = Relu(x)", "r = Neg(x)"));
    assert_eq!((g.ty(g.outputs[0].value).to_string().as_str(), conditions(&g)), ("f32[n, 3]", 1));
    let x = floats(&[1, 3], &[1.0, -2.0, 3.0]);
    assert_eq!(run(&g, &[x.clone(), truth(true)])[0].1, [1.0, 0.0, 3.0]);
    assert_eq!(run(&g, &[x, truth(false)])[0].1, [-1.0, 2.0, -3.0]);
}

#[test]
fn extents_are_those_of_the_branch_that_is_taken() {
    let model = choice("r = Slice(x, zero, one)", "r = Relu(x)");
    let g = graph_of(&model);
    assert_eq!(g.ty(g.outputs[0].value).to_string(), "f32[taken.1, 3]");
    let x = || floats(&[4, 3], &[1.0; 12]);
    assert_eq!(run(&g, &[x(), truth(true)])[0].0, [1, 3]);
    assert_eq!(run(&g, &[x(), truth(false)])[0].0, [4, 3]);
    // Of no elements, too.
    let none = floats(&[0, 3], &[]);
    assert_eq!(run(&g, &[none.clone(), truth(true)])[0].0, [0, 3]);
    assert_eq!(run(&g, &[none, truth(false)])[0].0, [0, 3]);
    // A condition that is known picks its branch.
    for (c, taken) in [(1, "f32[min(1,n), 3]"), (0, "f32[n, 3]")] {
        let values = vec![("c".to_string(), Tensor::scalar_i64(DType::Bool, c))];
        let g = imported(&model, &Options { values, ..Default::default() }).expect("pinned");
        assert_eq!((g.ty(g.outputs[0].value).to_string().as_str(), conditions(&g)), (taken, 0));
    }
}

#[test]
fn branches_of_other_ranks_or_types_are_refused_unless_the_condition_is_pinned() {
    for (branch, ty) in [("r = Reshape(x, flat)", "f32[3*n]"), ("r = Shape(x)", "i64[2]")] {
        let model = choice(branch, "r = Relu(x)");
        let error = imported(&model, &Options::default()).expect_err("different").to_string();
        for part in [ty, "f32[n, 3]", "(If)", "--value c=FILE.npy"] {
            assert!(error.contains(part), "{error}");
        }
        let values = vec![("c".to_string(), truth(true))];
        let g = imported(&model, &Options { values, ..Default::default() }).expect("pinned");
        assert_eq!(g.ty(g.outputs[0].value).to_string(), ty);
    }
}

#[test]
fn what_decides_a_branch_within_a_branch_is_told_by_the_models_names() {
    let inner = if_("r = If(way)", (&["r = Reshape(x, flat)"], &["r"]), (&["r = Relu(x)"], &["r"]));
    let mut outer = node("y = If(c)");
    let then = vec![node("way = Not(d)"), inner];
    outer
        .attribute
        .extend([branch("then_branch", then, &["r"]), branch("else_branch", vec![node("r = Neg(x)")], &["r"])]);
    let model = with(&["x: f32[n, 3]", "c: bool[]", "d: bool[]"], vec![outer], &["y"]);
    let error = imported(&model, &Options::default()).expect_err("other ranks").to_string();
    assert!(error.contains("--value d=FILE.npy") && !error.contains("--value 0"), "{error}");
}

#[test]
fn a_branch_takes_what_it_uses() {
    // Names within a branch hide those around it; the inner condition reaches through two graphs.
    let inner = if_("r = If(d)", (&["a = Add(q, x)", "r = Neg(a)"], &["r"]), (&["r = Sub(q, z)"], &["r"]));
    let mut outer = node("y = If(c)");
    let then = vec![inner, node("r2 = Add(r, r)")];
    outer
        .attribute
        .extend([branch("then_branch", then, &["r2"]), branch("else_branch", vec![node("q = Neg(x)")], &["q"])]);
    let inputs = ["x: f32[2]", "z: f32[2]", "c: bool[]", "d: bool[1]"];
    let g = graph_of(&with(&inputs, vec![node("q = Mul(x, x)"), outer], &["y"]));
    assert_eq!(conditions(&g), 2);
    let (x, z) = (floats(&[2], &[2.0, 3.0]), floats(&[2], &[1.0, 1.0]));
    let y = |c, d| {
        let d = Tensor::from_i64s(DType::Bool, vec![1], &[d]).expect("sized");
        run(&g, &[x.clone(), z.clone(), truth(c), d])[0].1.clone()
    };
    assert_eq!((y(true, 1), y(true, 0)), (vec![-12.0, -24.0], vec![6.0, 16.0]));
    assert_eq!(y(false, 1), [-2.0, -3.0]);
}

#[test]
fn a_branch_may_give_what_is_around_it() {
    // An outer value, an initializer, one value twice; the other branch takes nothing.
    let then = (&[][..], &["a", "w", "a"][..]);
    let otherwise =
        (&["k = Shape(x)", "s = Concat(k, one, one)", "f = Cast(s)", "e = Exp(x)"][..], &["e", "s", "e"][..]);
    let mut choose = if_("p, q, r = If(c)", then, otherwise);
    let cast = choose.attribute[1].g.as_mut().expect("a branch");
    cast.node[1].attribute.push(int("axis", 0));
    cast.node[2].attribute.push(int("to", 1));
    let g = graph_of(&with(&["x: f32[2]", "c: bool[]"], vec![node("a = Abs(x)"), choose], &["p", "q", "r"]));
    let x = || floats(&[2], &[0.0, -2.0]);
    let [p, q, r] = &run(&g, &[x(), truth(true)])[..] else { panic!("three outputs") };
    assert_eq!((&p.1, &q.1, &r.1), (&vec![0.0, 2.0], &vec![5.0, 6.0, 7.0], &vec![0.0, 2.0]));
    let [p, q, r] = &run(&g, &[x(), truth(false)])[..] else { panic!("three outputs") };
    assert_eq!((p, &q.1), (r, &vec![2.0, 1.0, 1.0]));
    // What both give alike is decided by nobody.
    let g = graph_of(&with(&["x: f32[2]", "c: bool[]"], vec![if_("y = If(c)", (&[], &["x"]), (&[], &["x"]))], &["y"]));
    assert_eq!(conditions(&g), 0);
}

#[test]
fn a_function_may_decide() {
    let function = FunctionProto {
        name: "Mine".to_string(),
        domain: "own".to_string(),
        input: vec!["x".to_string(), "way".to_string()],
        output: vec!["y".to_string()],
        node: vec![if_("y = If(way)", (&["r = Add(x, x)"], &["r"]), (&["r = Neg(x)"], &["r"]))],
        ..Default::default()
    };
    let mut inner = node("r = Mine(x, d)");
    inner.domain = "own".to_string();
    let mut outer = node("y = If(c)");
    outer
        .attribute
        .extend([branch("then_branch", vec![inner], &["r"]), branch("else_branch", vec![node("r = Exp(x)")], &["r"])]);
    let m = with(&["x: f32[1]", "c: bool[]", "d: bool[]"], vec![outer], &["y"]);
    let g = graph_of(&ModelProto { functions: vec![function], ..m });
    let y = |c, d| run(&g, &[floats(&[1], &[3.0]), truth(c), truth(d)])[0].1[0];
    assert_eq!((y(true, true), y(true, false), y(false, true)), (6.0, -3.0, 3f64.exp() as f32 as f64));
}

#[test]
fn what_a_branch_requires_is_asked_where_it_is_taken() {
    let g = graph_of(&choice("r = Reshape(x, pair)", "r = Relu(x)"));
    assert!(g.requires.is_empty(), "{:?}", g.requires);
    let four = || floats(&[4, 3], &[1.0; 12]);
    assert_eq!(run(&g, &[four(), truth(false)])[0].0, [4, 3]);
    assert!(eval_graph(&g, &[four(), truth(true)]).is_err());
    assert_eq!(run(&g, &[floats(&[2, 3], &[1.0; 6]), truth(true)])[0].0, [2, 3]);
}

#[test]
fn an_index_is_checked_where_it_is_read() {
    let nodes = vec![if_("y = If(c)", (&["r = Gather(x, i)"], &["r"]), (&["r = Neg(x)"], &["r"]))];
    let model = with(&["x: f32[2]", "i: i64[2]", "c: bool[]"], nodes, &["y"]);
    let g = imported(&model, &Options { check_indices: true, ..Default::default() }).expect("valid");
    let indices = Tensor::from_i64s(DType::I64, vec![2], &[0, 2]).expect("sized");
    let inputs = |c| [floats(&[2], &[1.0, 2.0]), indices.clone(), truth(c)];
    assert_eq!(run(&g, &inputs(false))[0].1, [-1.0, -2.0]);
    let error = eval_graph(&g, &inputs(true)).expect_err("beyond").to_string();
    assert!(error.contains("indices_out_of_range"), "{error}");
}

#[test]
fn shapes_that_both_branches_compute_alike_are_known() {
    let nodes = vec![
        if_("s = If(c)", (&["r = Shape(x)"], &["r"]), (&["e = Exp(x)", "r = Shape(e)"], &["r"])),
        node("y = ConstantOfShape(s)"),
    ];
    let g = graph_of(&with(&["x: f32[n, 3]", "c: bool[]"], nodes, &["y"]));
    assert_eq!(g.ty(g.outputs[0].value).to_string(), "f32[n, 3]");
    let nodes = vec![
        if_("s = If(c)", (&["r = Shape(x)"], &["r"]), (&["r = Identity(pair)"], &["r"])),
        node("y = ConstantOfShape(s)"),
    ];
    let error = imported(&with(&["x: f32[n, 3]", "c: bool[]"], nodes, &["y"]), &Options::default());
    assert!(error.expect_err("computed").to_string().contains("computed from data"));
}

#[test]
fn sequences_in_branches_are_refused() {
    let branches = (&["r = SequenceConstruct(x)"][..], &["r"][..]);
    let nodes = vec![if_("s = If(c)", branches, branches), node("y = SequenceAt(s, zero)")];
    let error = imported(&with(&["x: f32[2]", "c: bool[]"], nodes, &["y"]), &Options::default());
    let error = error.expect_err("a sequence").to_string();
    assert!(error.contains("results are not tensors") && error.contains("--value c=FILE.npy"), "{error}");
}

#[test]
fn errors_in_a_branch_name_the_node() {
    let uneven = if_("y = If(c)", (&["r = Relu(x)"], &["r", "r"]), (&["r = Neg(x)"], &["r"]));
    let error = imported(&with(&["x: f32[2]", "c: bool[]"], vec![uneven], &["y"]), &Options::default());
    assert!(error.expect_err("uneven").to_string().contains("then_branch has 2 results, else_branch 1"));
    for (bad, part) in [("r = Relu(nothing)", "gives \"nothing\""), ("r = MatMul(x, x)", "\"r\" (MatMul)")] {
        let model = choice(bad, "r = Relu(x)");
        let dims = vec![("n".to_string(), 4)];
        let error = imported(&model, &Options { dims, ..Default::default() }).expect_err(bad).to_string();
        assert!(error.contains(part) && error.contains("(If)"), "{error}");
    }
}
