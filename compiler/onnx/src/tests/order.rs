//! Nodes in any order, and what the outputs do not need.

use super::*;

fn evaluated(model: &ModelProto, x: &[f64]) -> Vec<f64> {
    let g = imported(model, &Options::default()).expect("valid");
    let x = Tensor::from_f64s(DType::F32, vec![x.len()], x).expect("sized");
    eval_graph(&g, &[x]).expect("evaluates")[0].to_f64s()
}

fn branches(node: &mut NodeProto, then: GraphProto, otherwise: GraphProto) {
    for (name, g) in [("then_branch", then), ("else_branch", otherwise)] {
        let (name, r#type) = (name.to_string(), AttributeType::Graph as i32);
        node.attribute.push(AttributeProto { name, g: Some(g), r#type, ..Default::default() });
    }
}

#[test]
fn nodes_stand_in_any_order() {
    let g = graph(&["x: f32[2]"], &["y = Add(h, x)", "h = Neg(k)", "k = Abs(x)"], &["y"]);
    assert_eq!(evaluated(&model(g), &[3.0, -2.0]), [0.0, -4.0]);
    // In a branch, which also uses what comes later around it.
    let body = || graph(&[], &["r = Add(s, late)", "s = Neg(x)"], &["r"]);
    let mut g = graph(&["x: f32[2]"], &["y = If(c)", "c = Less(zero, one)", "late = Abs(x)"], &["y"]);
    g.initializer = vec![ints("zero", &[0]), ints("one", &[1])];
    branches(&mut g.node[0], body(), body());
    assert_eq!(evaluated(&model(g), &[3.0, -2.0]), [0.0, 4.0]);
    // In a function.
    let function = FunctionProto {
        name: "Mine".to_string(),
        domain: "own".to_string(),
        input: vec!["x".to_string()],
        output: vec!["y".to_string()],
        node: vec![node("y = Add(h, x)"), node("h = Neg(k)"), node("dead = Frob(x)"), node("k = Abs(x)")],
        ..Default::default()
    };
    let mut g = graph(&["x: f32[2]"], &["z = Mine(x)"], &["z"]);
    g.node[0].domain = "own".to_string();
    assert_eq!(evaluated(&ModelProto { functions: vec![function], ..model(g) }, &[3.0, -2.0]), [0.0, -4.0]);
}

#[test]
fn what_no_output_needs_is_not_required() {
    let nodes =
        ["a = Frob(x)", "b = RandomNormal()", "c = Add(missing, x)", "d = Relu(e)", "e = Relu(d)", "y = Abs(x)"];
    let mut g = graph(&["x: f32[2]"], &nodes, &["y"]);
    let text = TensorProto { name: "text".to_string(), data_type: 8, dims: vec![1], ..Default::default() };
    let elsewhere = TensorProto {
        name: "elsewhere".to_string(),
        data_type: 1,
        dims: vec![4],
        data_location: 1,
        external_data: vec![mcc_proto::StringStringEntryProto {
            key: "location".to_string(),
            value: "gone".to_string(),
        }],
        ..Default::default()
    };
    g.initializer = vec![text, elsewhere];
    assert_eq!(evaluated(&model(g), &[3.0, -2.0]), [3.0, 2.0]);
}

#[test]
fn unused_inputs_stay_unless_they_cannot_be_passed() {
    let mut g = graph(&["x: f32[2]", "more: i64[3]", "s: f32[1]", "r: f32[1]"], &["y = Abs(x)"], &["y"]);
    let tensor = |info: &mut ValueInfoProto, change: fn(&mut type_proto::Tensor)| {
        if let Some(Kind::TensorType(t)) = info.r#type.as_mut().and_then(|t| t.value.as_mut()) {
            change(t);
        }
    };
    tensor(&mut g.input[2], |t| t.elem_type = 8);
    tensor(&mut g.input[3], |t| t.shape = None);
    let mut used = g.clone();
    used.node.push(node("z = Identity(s)"));
    used.output.push(ValueInfoProto { name: "z".to_string(), ..Default::default() });
    let g = imported(&model(g), &Options::default()).expect("valid");
    let names: Vec<String> = g.inputs().iter().map(|&i| g.label(i).to_string()).collect();
    assert_eq!(names, ["x", "more"]);
    assert!(g.warnings.len() == 2 && g.warnings[0].contains("input \"s\" is dropped"), "{:?}", g.warnings);
    let error = imported(&model(used), &Options::default()).expect_err("strings").to_string();
    assert!(error.contains("input \"s\""), "{error}");
}

#[test]
fn an_initializer_that_nothing_needs_is_no_input() {
    let mut g = graph(&["x: f32[2]", "w: i64[1]"], &["y = Abs(x)"], &["y"]);
    g.initializer = vec![ints("w", &[1])];
    assert_eq!(imported(&model(g), &Options::default()).expect("valid").inputs().len(), 1);
}

#[test]
fn ports_have_names_of_their_own() {
    let text = output_type(graph(&["x: f32[2]", "x: f32[3]"], &["y = Abs(x)"], &["y"]));
    assert!(text.contains("two inputs of the model are named \"x\""), "{text}");
    let text = output_type(graph(&["x: f32[2]"], &["y = Abs(x)"], &["y", "y"]));
    assert!(text.contains("two outputs of the model are named \"y\""), "{text}");
    let text = output_type(graph(&["x: f32[2]"], &["x = Abs(x)"], &["x"]));
    assert!(text.contains("gives \"x\", as an input or initializer does"), "{text}");
}

#[test]
fn cycles_are_named() {
    let m = model(graph(&["x: f32[2]"], &["a = Add(x, b)", "c = Relu(x)", "b = Mul(a, c)"], &["b"]));
    let error = imported(&m, &Options::default()).expect_err("a cycle").to_string();
    assert!(error.contains("cycle") && error.contains("\"a\" (Add)") && error.contains("\"b\" (Mul)"), "{error}");
    assert!(!error.contains("\"c\""), "{error}");
}
