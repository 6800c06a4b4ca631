//! Files that ask for the impossible: every one is refused, soon and with the reason.

use mcc_proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, OperatorSetIdProto, TensorProto};

use super::{graph, imported, int, ints, model, node, output_type};
use crate::Options;
use crate::limits::Limits;
use mcc_ir::DType;

/// The graph with attributes on its only node, and constants.
fn with(mut g: GraphProto, attributes: Vec<AttributeProto>, constants: Vec<TensorProto>) -> GraphProto {
    g.node[0].attribute = attributes;
    g.initializer = constants;
    g
}

fn list(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.to_string(),
        ints: values.to_vec(),
        r#type: mcc_proto::attribute_proto::AttributeType::Ints as i32,
        ..Default::default()
    }
}

fn scalar(name: &str, value: i64) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        data_type: super::super::tensor::data_type(DType::I64) as i32,
        int64_data: vec![value],
        ..Default::default()
    }
}

#[track_caller]
fn refused(g: GraphProto, reason: &str) {
    let error = output_type(g);
    assert!(error.contains(reason), "{error}");
}

#[test]
fn ranks_that_operators_do_not_take() {
    let one = ["x: f32[4]"];
    let heads = || vec![int("q_num_heads", 2), int("kv_num_heads", 2)];
    refused(graph(&one, &["y = Attention(x, x, x)"], &["y"]), "input Q");
    let three = graph(&["q: f32[1, 2, 4]", "k: f32[4]"], &["y = Attention(q, k, k)"], &["y"]);
    refused(with(three, heads(), Vec::new()), "input K");
    let none = graph(&["q: f32[1, 2, 4]"], &["y = Attention(q, q, q)"], &["y"]);
    refused(with(none, vec![int("q_num_heads", 0), int("kv_num_heads", 1)], Vec::new()), "at least one head");
    refused(graph(&["x: f32[4]", "c: bool[]"], &["y = Compress(x, c)"], &["y"]), "input condition");
    refused(graph(&["x: f32[4]", "s: f32[4]"], &["y = InstanceNormalization(x, s, s)"], &["y"]), "at least 2 axes");
}

#[test]
fn attributes_out_of_their_range() {
    let x = ["x: f32[1, 1, 8]", "w: f32[1, 1, 3]"];
    let split = graph(&["x: f32[4]"], &["a, b = Split(x)"], &["a"]);
    refused(with(split, vec![int("num_outputs", i64::MAX)], Vec::new()), "num_outputs");
    for strides in [0, i64::MIN, i64::MAX] {
        let g = graph(&x, &["y = ConvTranspose(x, w)"], &["y"]);
        refused(with(g, vec![list("strides", &[strides]), list("output_shape", &[9])], Vec::new()), "strides");
        let g = graph(&x, &["y = LpPool(x)"], &["y"]);
        refused(with(g, vec![list("kernel_shape", &[strides])], Vec::new()), "kernel_shape");
    }
}

#[test]
fn sizes_beyond_memory_and_limits() {
    let wide = graph(&["x: f32[1099511627776, 4, 5, 6]", "z: f32[5, 6]"], &["y = Add(x, z)"], &["y"]);
    refused(wide, "larger than the address space");
    let parts = graph(&["x: f32[1048576]"], &["s = SplitToSequence(x)", "y = ConcatFromSequence(s)"], &["y"]);
    refused(parts, "--limit nodes=N");
    let mel = graph(&[], &["y = MelWeightMatrix(n, n, r, l, h)"], &["y"]);
    let numbers = [("n", 1 << 20), ("r", 16000), ("l", 0), ("h", 8000)].map(|(name, v)| scalar(name, v));
    refused(with(mel, Vec::new(), numbers.to_vec()), "--limit constant=N");
}

#[test]
fn numbers_at_the_ends_of_their_range() {
    let g = graph(&["x: f32[2]"], &["m = Mod(least, minus)", "y = Reshape(x, m)"], &["y"]);
    let g = GraphProto { initializer: vec![ints("least", &[i64::MIN]), ints("minus", &[-1])], ..g };
    // Nothing is left of such a division: a shape of 0 takes the operand's extent.
    assert!(!output_type(g).is_empty());
}

#[test]
fn squares_of_squares_of_shapes_end() {
    let nodes: Vec<String> = (0..40).map(|i| format!("s{} = Mul(s{i}, s{i})", i + 1)).collect();
    let mut g = graph(&["x: f32[a, b, c]"], &["s = Shape(x)", "s0 = ReduceSum(s)"], &["y"]);
    g.node.extend(nodes.iter().map(|n| node(n)));
    g.node.push(node("y = ConstantOfShape(s40)"));
    refused(g, "the shape is computed from data");
}

#[test]
fn functions_that_call_functions() {
    let versions = vec![
        OperatorSetIdProto { domain: String::new(), version: 21 },
        OperatorSetIdProto { domain: "own".to_string(), version: 1 },
    ];
    let function = |level: usize| FunctionProto {
        name: format!("F{level}"),
        domain: "own".to_string(),
        opset_import: versions.clone(),
        input: vec!["t0".to_string()],
        output: vec!["t10".to_string()],
        node: (0..10)
            .map(|i| {
                let inner = if level == 0 { "Relu".to_string() } else { format!("F{}", level - 1) };
                let mut call = node(&format!("t{} = {inner}(t{i})", i + 1));
                call.domain = if level == 0 { String::new() } else { "own".to_string() };
                call
            })
            .collect(),
        ..Default::default()
    };
    let mut g = graph(&["x: f32[4]"], &["y = F9(x)"], &["y"]);
    g.node[0].domain = "own".to_string();
    let functions = (0..10).map(function).collect();
    let model = ModelProto { functions, opset_import: versions.clone(), ..model(g) };
    let limits = Limits { nodes: 1000, ..Limits::default() };
    let error = imported(&model, &Options { limits, ..Options::default() }).expect_err("too many").to_string();
    assert!(error.contains("the limit of 1064") && error.contains("node \"y\" (own.F9)"), "{error}");
}

/// Graphs within graphs, of a condition that the file leaves open.
#[test]
fn nesting_is_bounded() {
    use mcc_proto::Message;
    let nested = |depth: usize| {
        let mut g = graph(&["x: f32[2]"], &["y = Identity(x)"], &["y"]);
        for _ in 0..depth {
            let branch = AttributeProto {
                name: "then_branch".to_string(),
                g: Some(g),
                r#type: mcc_proto::attribute_proto::AttributeType::Graph as i32,
                ..Default::default()
            };
            g = with(graph(&["x: f32[2]"], &["y = If(c)"], &["y"]), vec![branch], Vec::new());
        }
        let error = crate::import(model(g).encode_to_vec().into(), None, &crate::Options::default()).unwrap_err();
        error.to_string()
    };
    assert!(nested(60).contains("nested too deeply"), "{}", nested(60));
    assert!(!nested(5).contains("nested too deeply"), "{}", nested(5));
}
