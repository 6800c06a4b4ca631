//! Imports of small models, written as text: see [`model`].

mod control;
mod hints;
mod hostile;
mod order;
mod quantized;
mod requirements;

use mcc_proto::attribute_proto::AttributeType;
use mcc_proto::tensor_shape_proto::{Dimension, DimensionValue};
use mcc_proto::type_proto::{self, Value as Kind};
use mcc_proto::{
    AttributeProto, FunctionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
};

use super::{Options, import};
use mcc_ir::eval::eval_graph;
use mcc_ir::{DType, Error, Graph, Result, Tensor};

/// `name: dtype[dim, dim]`, dtypes by their ONNX numbers' names `f32` and `i64`.
fn info(text: &str) -> ValueInfoProto {
    let (name, ty) = text.split_once(": ").expect("name and type");
    let (dtype, dims) = ty.trim_end_matches(']').split_once('[').expect("dimensions");
    let elem_type = super::tensor::data_type(DType::from_name(dtype).expect("a type")) as i32;
    let dim = |d: &str| Dimension {
        value: Some(match d.parse() {
            Ok(v) => DimensionValue::DimValue(v),
            Err(_) => DimensionValue::DimParam(d.to_string()),
        }),
        ..Default::default()
    };
    let dim = dims.split(", ").filter(|d| !d.is_empty()).map(dim).collect();
    let tensor = type_proto::Tensor { elem_type, shape: Some(TensorShapeProto { dim }) };
    let ty = TypeProto { value: Some(Kind::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.to_string(), r#type: Some(ty), ..Default::default() }
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        dims: vec![values.len() as i64],
        data_type: super::tensor::data_type(DType::I64) as i32,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

/// `result, ... = Operator(operand, ...)`, `_` for one left out.
fn node(text: &str) -> NodeProto {
    let (results, call) = text.split_once(" = ").expect("results");
    let (operator, operands) = call.trim_end_matches(')').split_once('(').expect("operands");
    let names = |list: &str| -> Vec<String> {
        list.split(", ").filter(|n| !n.is_empty()).map(|n| n.replace('_', "")).collect()
    };
    NodeProto { op_type: operator.to_string(), input: names(operands), output: names(results), ..Default::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_string(), i: Some(i), r#type: AttributeType::Int as i32, ..Default::default() }
}

fn graph(inputs: &[&str], nodes: &[&str], outputs: &[&str]) -> GraphProto {
    GraphProto {
        input: inputs.iter().map(|i| info(i)).collect(),
        node: nodes.iter().map(|n| node(n)).collect(),
        output: outputs.iter().map(|o| ValueInfoProto { name: o.to_string(), ..Default::default() }).collect(),
        ..Default::default()
    }
}

fn model(graph: GraphProto) -> ModelProto {
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 21 }];
    ModelProto { ir_version: 10, graph: Some(graph), opset_import, ..Default::default() }
}

fn imported(model: &ModelProto, options: &Options) -> Result<Graph> {
    import(model.encode_to_vec().into(), None, options)
}

/// Imports; returns the first output's type, or the error's text.
fn output_type(graph: GraphProto) -> String {
    match imported(&model(graph), &Options::default()) {
        Ok(g) => g.ty(g.outputs[0].value).to_string(),
        Err(e) => e.to_string(),
    }
}

#[test]
fn shapes_are_followed_through_their_arithmetic() {
    let mut g = graph(
        &["x: f32[batch, seq, 64]"],
        &[
            "s = Shape(x)",
            "b = Gather(s, zero)",
            "n = Gather(s, one)",
            "n2 = Mul(n, two)",
            "t = Concat(b, n2, rest)",
            "y = Reshape(x, t)",
        ],
        &["y"],
    );
    g.node[4].attribute.push(int("axis", 0));
    g.initializer = vec![ints("zero", &[0]), ints("one", &[1]), ints("two", &[2]), ints("rest", &[-1])];
    assert_eq!(output_type(g), "f32[batch, 2*seq, 32]");
}

#[test]
fn dimensions_without_a_name_are_not_one() {
    assert_eq!(output_type(graph(&["x: f32[?, ?, -1]"], &["y = Relu(x)"], &["y"])), "f32[x.dim0, x.dim1, x.dim2]");
}

#[test]
fn an_input_may_be_a_shape() {
    let g = graph(&["x: f32[6]", "t: i64[2]"], &["y = Reshape(x, t)"], &["y"]);
    let imported = imported(&model(g), &Options::default()).expect("valid");
    let x = Tensor::from_f64s(DType::F32, vec![6], &[0.0; 6]).expect("sized");
    for (target, shape) in [([2, 3], [2, 3]), ([-1, 2], [3, 2]), ([0, 1], [6, 1])] {
        let t = Tensor::from_i64s(DType::I64, vec![2], &target).expect("sized");
        let y = eval_graph(&imported, &[x.clone(), t]).expect("evaluates");
        assert_eq!(y[0].shape(), shape);
    }
}

#[test]
fn a_pinned_input_is_known_and_checked() {
    let g = graph(&["x: f32[2, 3]", "axes: i64[1]"], &["y = ReduceSum(x, axes)"], &["y"]);
    let model = model(g);
    let error = imported(&model, &Options::default()).expect_err("unknown axes").to_string();
    assert!(error.contains("axes is not constant") && error.contains("(ReduceSum)"), "{error}");
    let axes = Tensor::from_i64s(DType::I64, vec![1], &[1]).expect("sized");
    let options = Options { values: vec![("axes".to_string(), axes)], ..Default::default() };
    let g = imported(&model, &options).expect("valid");
    assert_eq!(g.ty(g.outputs[0].value).to_string(), "f32[2, 1]");
    assert_eq!(required(&g), ["axes[0] == 1"]);
}

#[test]
fn options_pin_dimensions_and_name_what_they_miss() {
    let model = model(graph(&["x: f32[batch, n]"], &["y = Relu(x)"], &["y"]));
    let pinned = |dims: &[(&str, i64)]| {
        let dims = dims.iter().map(|(n, d)| (n.to_string(), *d)).collect();
        imported(&model, &Options { dims, ..Default::default() })
    };
    let g = pinned(&[("batch", 4)]).expect("valid");
    assert_eq!(g.ty(g.outputs[0].value).to_string(), "f32[4, n]");
    let error = pinned(&[("bath", 4)]).expect_err("no such dimension");
    assert!(matches!(error, Error::Usage(_)) && error.to_string().contains("batch, n"), "{error}");
}

#[test]
fn all_unknown_operators_are_listed() {
    let text = output_type(graph(&["x: f32[1]"], &["a = Frob(x)", "b = Nicate(a)", "y = Frob(b)"], &["y"]));
    assert!(text.contains("Frob (2x), Nicate (1x)"), "{text}");
}

#[test]
fn errors_do_not_hide_one_another() {
    let nodes = ["a = Squeeze(x)", "b = Concat(x, x)", "c = Add(a, b)", "y = Softmax(x)"];
    let mut g = graph(&["x: f32[2, 3]"], &nodes, &["y", "c"]);
    g.node[1].attribute.push(int("axis", 7));
    g.node[3].attribute.push(int("axis", -3));
    let text = output_type(g);
    assert!(text.contains("\"b\" (Concat)") && text.contains("\"y\" (Softmax)") && !text.contains("Add"), "{text}");
}

#[test]
fn functions_expand_with_their_attributes() {
    let mut inner = node("y = Softmax(x)");
    inner.attribute.push(AttributeProto {
        name: "axis".to_string(),
        ref_attr_name: "over".to_string(),
        r#type: AttributeType::Int as i32,
        ..Default::default()
    });
    let function = FunctionProto {
        name: "Mine".to_string(),
        domain: "own".to_string(),
        input: vec!["x".to_string()],
        output: vec!["y".to_string()],
        node: vec![inner],
        ..Default::default()
    };
    let mut call = node("z = Mine(x)");
    call.domain = "own".to_string();
    call.attribute.push(int("over", 0));
    let mut g = graph(&["x: f32[2, 3]"], &[], &["z"]);
    g.node.push(call);
    let g = imported(&ModelProto { functions: vec![function], ..model(g) }, &Options::default()).expect("valid");
    let x = Tensor::from_f64s(DType::F32, vec![2, 3], &[0.0; 6]).expect("sized");
    let y = eval_graph(&g, &[x]).expect("evaluates");
    assert_eq!(y[0].to_f64s(), [0.5; 6]);
}

#[test]
fn a_shape_test_takes_the_case_of_equality() {
    let branch = |name: &str, node_text: &str| AttributeProto {
        name: name.to_string(),
        g: Some(graph(&[], &[node_text], &["r"])),
        r#type: AttributeType::Graph as i32,
        ..Default::default()
    };
    let nodes = ["s = Shape(x)", "n = Gather(s, one)", "c = Equal(n, one)", "y = If(c)"];
    let mut g = graph(&["x: f32[batch, n]"], &nodes, &["y"]);
    g.initializer = vec![ints("one", &[1])];
    g.node[3].attribute.extend([branch("then_branch", "r = Squeeze(x, one)"), branch("else_branch", "r = Relu(x)")]);
    let g = imported(&model(g), &Options::default()).expect("valid");
    assert_eq!(g.ty(g.outputs[0].value).to_string(), "f32[batch]");
    assert!(required(&g).contains(&"n == 1".to_string()));
}

#[test]
fn einsum_is_products_and_sums() {
    let cases = [
        ("ij,jk->ik", vec![vec![2, 3], vec![3, 4]], vec![2, 4]),
        ("bij,bkj->bik", vec![vec![5, 2, 3], vec![5, 4, 3]], vec![5, 2, 4]),
        ("...ij,...jk", vec![vec![5, 2, 3], vec![3, 4]], vec![5, 2, 4]),
        ("ii->i", vec![vec![3, 3]], vec![3]),
        ("ii", vec![vec![3, 3]], vec![]),
        ("bii", vec![vec![2, 3, 3]], vec![2]),
        ("ba", vec![vec![2, 3]], vec![3, 2]),
        ("...ii,i", vec![vec![2, 3, 3], vec![3]], vec![2]),
        ("i,j->ij", vec![vec![2], vec![3]], vec![2, 3]),
        ("ij->", vec![vec![2, 3]], vec![]),
    ];
    for (equation, operands, shape) in cases {
        let types: Vec<String> = operands.iter().enumerate().map(|(i, s)| format!("x{i}: f32{s:?}")).collect();
        let names: Vec<String> = (0..operands.len()).map(|i| format!("x{i}")).collect();
        let types: Vec<&str> = types.iter().map(String::as_str).collect();
        let mut g = graph(&types, &[&format!("y = Einsum({})", names.join(", "))], &["y"]);
        g.node[0].attribute.push(AttributeProto {
            name: "equation".to_string(),
            s: Some(equation.to_string().into()),
            r#type: AttributeType::String as i32,
            ..Default::default()
        });
        assert_eq!(output_type(g), format!("f32{shape:?}"), "{equation}");
    }
}

#[test]
fn external_data_stays_in_the_models_directory() {
    let mut external = super::file::ExternalData::new(Some(std::path::Path::new(".")));
    for location in ["/etc/passwd", "../secret", "a/../../b", ""] {
        let error = external.read(location, 0, None).expect_err(location).to_string();
        assert!(error.contains("outside the model's directory"), "{error}");
    }
}

#[test]
fn garbage_is_refused() {
    for bytes in [&b"not a model"[..], &[0x08, 0xff], &[0xff; 64]] {
        assert!(import(bytes.to_vec().into(), None, &Options::default()).is_err());
    }
}

/// The conditions that a graph requires.
fn required(graph: &Graph) -> Vec<String> {
    graph.requires.iter().map(|r| r.condition.to_string()).collect()
}
