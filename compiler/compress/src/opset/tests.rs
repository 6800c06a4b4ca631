//! Every row of the table: a small model gives the same values before and after. Both are imported and evaluated, and the
//! importers know every version.

use mcc_ir::eval::eval_graph;
use mcc_ir::{DType, Error, Random, Tensor};
use mcc_onnx::tensor::data_type;
use mcc_proto::tensor_shape_proto::{Dimension, DimensionValue};
use mcc_proto::type_proto::{self, Value};
use mcc_proto::{
    AttributeProto, FunctionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
};

use super::change::{int, ints, text};
use super::table::TABLE;
use super::{NEWEST, upgrade};

/// `name: dtype[dim, dim]`.
fn info(text: &str) -> ValueInfoProto {
    let (name, ty) = text.split_once(": ").expect("name and type");
    let (dtype, dims) = ty.trim_end_matches(']').split_once('[').expect("dimensions");
    let elem_type = data_type(DType::from_name(dtype).expect("a type")) as i32;
    let value = |d: &str| Some(DimensionValue::DimValue(d.parse().expect("a number")));
    let dims = dims.split(", ").filter(|d| !d.is_empty());
    let dim = dims.map(|d| Dimension { value: value(d), ..Default::default() }).collect();
    let tensor = type_proto::Tensor { elem_type, shape: Some(TensorShapeProto { dim }) };
    let ty = TypeProto { value: Some(Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(ty), ..Default::default() }
}

/// `result, ... = Operator(operand, ...)`, `_` for one left out.
fn node(text: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    let (results, call) = text.split_once(" = ").expect("results");
    let (operator, operands) = call.trim_end_matches(')').split_once('(').expect("operands");
    let names = |list: &str| -> Vec<String> {
        list.split(", ").filter(|n| !n.is_empty()).map(|n| if n == "_" { "" } else { n }.into()).collect()
    };
    let (input, output) = (names(operands), names(results));
    NodeProto { op_type: operator.into(), input, output, attribute, ..Default::default() }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f: Some(value), r#type: 1, ..Default::default() }
}

fn floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { name: name.into(), floats: values.to_vec(), r#type: 6, ..Default::default() }
}

fn body(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { name: name.into(), g: Some(graph), r#type: 5, ..Default::default() }
}

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        float_data: values.to_vec(),
        ..Default::default()
    }
}

fn imports(version: i64) -> Vec<OperatorSetIdProto> {
    vec![OperatorSetIdProto { domain: String::new(), version }]
}

/// A model of one operator, whose inputs are declared and whose outputs are those of the node.
fn model(version: i64, inputs: &[&str], nodes: Vec<NodeProto>) -> ModelProto {
    let output = nodes.last().expect("a node").output.iter().filter(|o| !o.is_empty());
    let output = output.map(|o| ValueInfoProto { name: o.clone(), ..Default::default() }).collect();
    let input = inputs.iter().map(|i| info(i)).collect();
    let graph = GraphProto { input, node: nodes, output, ..Default::default() };
    ModelProto { ir_version: 3, graph: Some(graph), opset_import: imports(version), ..Default::default() }
}

fn evaluated(model: &ModelProto) -> Vec<Tensor> {
    let graph = mcc_onnx::import(model.encode_to_vec().into(), None, &Default::default());
    let graph = graph.unwrap_or_else(|e| panic!("{e}"));
    let mut random = Random::new(7);
    let inputs: Vec<Tensor> = (graph.inputs().iter())
        .map(|&i| {
            let ty = &graph.types(i)[0];
            let shape = ty.fixed_shape().expect("constant extents");
            let values: Vec<f64> = (0..shape.iter().product()).map(|_| random.real()).collect();
            match ty.dtype.is_float() {
                true => Tensor::from_f64s(ty.dtype, shape, &values).expect("a tensor"),
                false => Tensor::from_i64s(ty.dtype, shape.clone(), &vec![1; values.len()]).expect("a tensor"),
            }
        })
        .collect();
    eval_graph(&graph, &inputs).expect("values")
}

/// The model at each of `to`; it gives the same values as before.
#[track_caller]
fn kept(model: &ModelProto, to: &[i64]) -> Vec<ModelProto> {
    let want = evaluated(model);
    let raised = to.iter().map(|&to| {
        let mut raised = model.clone();
        upgrade(&mut raised, to).unwrap_or_else(|e| panic!("to {to}: {e}"));
        assert_eq!(raised.opset_import, imports(to));
        assert_eq!(evaluated(&raised), want, "at version {to}: {:#?}", raised.graph);
        raised
    });
    raised.collect()
}

#[track_caller]
fn refused(mut model: ModelProto, to: i64, why: &[&str]) {
    let before = model.clone();
    let error = upgrade(&mut model, to).expect_err("cannot be raised");
    let message = error.to_string();
    why.iter().for_each(|part| assert!(message.contains(part), "{message}"));
    assert!(matches!(error, Error::Unsupported(_)), "{message}");
    assert_eq!(model, before);
}

fn operators(model: &ModelProto) -> Vec<&str> {
    model.graph.as_ref().expect("a graph").node.iter().map(|n| n.op_type.as_str()).collect()
}

const NEW: &[i64] = &[13, 21, 23, NEWEST];

#[test]
fn the_table_is_in_order() {
    assert!(TABLE.is_sorted_by_key(|row| row.version));
    assert!(TABLE.iter().all(|row| row.version <= NEWEST));
}

#[test]
fn lists_become_inputs() {
    let x = &["x: f32[2, 1, 4, 6]"];
    let cases: Vec<(i64, &str, Vec<AttributeProto>)> = vec![
        (7, "y = Squeeze(x)", vec![ints("axes", &[1])]),
        (11, "y = Squeeze(x)", vec![]),
        (11, "y = Unsqueeze(x)", vec![ints("axes", &[-1, 0])]),
        (7, "y = ReduceSum(x)", vec![ints("axes", &[1, 2]), int("keepdims", 0)]),
        (7, "y = ReduceSum(x)", vec![]),
        (7, "y, z = Split(x)", vec![ints("split", &[1, 3]), int("axis", 2)]),
        (11, "y, z = Split(x)", vec![int("axis", -1)]),
        (7, "y = Slice(x)", vec![ints("starts", &[1, 0]), ints("ends", &[9, -1]), ints("axes", &[3, 2])]),
        (7, "y = Slice(x)", vec![ints("starts", &[1]), ints("ends", &[2])]),
        (7, "y, z = TopK(x)", vec![int("k", 2)]),
        (7, "y = Pad(x)", vec![ints("pads", &[0, 1, 0, 2, 0, 0, 3, -1]), float("value", 0.5)]),
        (7, "y = Pad(x)", vec![ints("pads", &[0, 0, 1, 2, 0, 0, 3, 1]), text("mode", "reflect")]),
        (7, "y = Clip(x)", vec![float("min", -0.5), float("max", 0.25)]),
        (7, "y = Clip(x)", vec![float("max", 0.25)]),
        (7, "y = Dropout(x)", vec![float("ratio", 0.25)]),
    ];
    for (version, text, attributes) in cases {
        kept(&model(version, x, vec![node(text, attributes)]), NEW);
    }
}

#[test]
fn reductions_take_their_axes_as_an_input_since_18() {
    let x = &["x: f32[2, 3, 4]"];
    for operator in [
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
    ] {
        let text = format!("y = {operator}(x)");
        let raised = kept(&model(11, x, vec![node(&text, vec![ints("axes", &[-1, 0])])]), NEW);
        assert_eq!(raised[0].graph.as_ref().expect("a graph").node[0].attribute.len(), 1);
        assert_eq!(raised[1].graph.as_ref().expect("a graph").node[1].input.len(), 2);
    }
    kept(&model(13, x, vec![node("y = ReduceSumSquare(x)", vec![ints("axes", &[1]), int("keepdims", 0)])]), NEW);
    refused(
        model(13, &["x: i64[2]"], vec![node("y = ReduceLogSum(x)", vec![])]),
        28,
        &["\"y\" (ReduceLogSum)", "Int64"],
    );
}

#[test]
fn bounds_have_the_type_of_the_operand() {
    for dtype in ["f16", "f64"] {
        let x = format!("x: {dtype}[9]");
        kept(&model(7, &[&x], vec![node("y = Clip(x)", vec![float("min", -0.5)])]), NEW);
        // The type follows from the operands of other nodes, in whatever order the nodes are.
        let nodes = vec![
            node("y = Clip(s)", vec![float("min", 0.1)]),
            node("s = Add(x, x)", vec![]),
            node("z = Abs(y)", vec![]),
        ];
        kept(&model(7, &[&x], nodes), NEW);
    }
    let unknown = node("y = Clip(z)", vec![float("min", 0.1)]);
    let nodes = vec![NodeProto { domain: "vendor".into(), ..node("z = Abs(x)", vec![]) }, unknown];
    refused(model(7, &["x: f32[9]"], nodes), 13, &["node \"y\" (Clip)", "type of \"z\"", "value_info"]);
}

#[test]
fn softmax_of_a_matrix_becomes_one_along_an_axis() {
    for operator in ["Softmax", "LogSoftmax", "Hardmax"] {
        for axis in [0, 1, 2, -1, -2] {
            let text = format!("y = {operator}(x)");
            let raised = kept(&model(11, &["x: f32[2, 3, 4]"], vec![node(&text, vec![int("axis", axis)])]), NEW);
            let want: &[&str] =
                if axis == 2 || axis == -1 { &[operator] } else { &["Shape", "Flatten", operator, "Reshape"] };
            assert_eq!(operators(&raised[0]), want, "axis {axis}");
        }
    }
    // The default was axis 1; the rank follows from other nodes.
    let nodes = vec![node("a = MatMul(x, w)", vec![]), node("b = Add(a, c)", vec![]), node("y = Softmax(b)", vec![])];
    let raised = kept(&model(7, &["x: f32[2, 3]", "w: f32[3, 5]", "c: f32[5]"], nodes), NEW);
    assert_eq!(operators(&raised[0]), ["MatMul", "Add", "Softmax"]);
    // An extent of 0 is no reference to another one.
    kept(&model(11, &["x: f32[4, 3, 0]"], vec![node("y = Softmax(x)", vec![int("axis", 1)])]), &[21]);
}

#[test]
fn images_are_sampled_as_before() {
    let x = &["x: f32[1, 2, 4, 5]"];
    for (mode, scales) in [("nearest", [1.0, 1.0, 2.0, 1.5]), ("linear", [1.0, 1.0, 2.5, 2.0])] {
        let attributes = vec![text("mode", mode), floats("scales", &scales)];
        kept(&model(7, x, vec![node("y = Upsample(x)", attributes)]), NEW);
    }
    for scales in [[1.0, 1.0, 2.0, 1.5], [1.0, 1.0, 0.6, 0.5], [1.0, 1.0, 0.6, 2.5]] {
        for mode in ["nearest", "linear"] {
            let mut resize = model(10, x, vec![node("y = Resize(x, s)", vec![text("mode", mode)])]);
            resize.graph.as_mut().expect("a graph").initializer.push(tensor("s", &[4], &scales));
            kept(&resize, &[11, 13, 18, 21]);
        }
    }
    let unknown = model(10, &["x: f32[1, 2, 4, 5]", "s: f32[4]"], vec![node("y = Resize(x, s)", vec![])]);
    refused(unknown, 13, &["node \"y\" (Resize)", "\"s\" are not constant"]);
    // An empty region and empty scales were how they were left out.
    let mut sized = model(11, x, vec![node("y = Resize(x, r, r, n)", vec![])]);
    let graph = sized.graph.as_mut().expect("a graph");
    let sizes = TensorProto {
        name: "n".into(),
        dims: vec![4],
        data_type: 7,
        int64_data: vec![1, 2, 7, 3],
        ..Default::default()
    };
    graph.initializer.extend([tensor("r", &[0], &[]), sizes]);
    assert_eq!(kept(&sized, &[13])[0].graph.as_ref().expect("a graph").node[0].input, ["x", "", "", "n"]);
}

#[test]
fn defaults_that_changed_are_written() {
    let inputs = &["x: f32[1, 2, 6, 6]", "rois: f32[3, 4]", "at: i64[3]"];
    let mut align = model(
        10,
        inputs,
        vec![node(
            "y = RoiAlign(x, rois, b)",
            vec![int("output_height", 2), int("output_width", 2), int("sampling_ratio", 2)],
        )],
    );
    let batches =
        TensorProto { name: "b".into(), dims: vec![3], data_type: 7, int64_data: vec![0; 3], ..Default::default() };
    align.graph.as_mut().expect("a graph").initializer.push(batches);
    kept(&align, &[16, 21, 23]);
    let grid = &["x: f32[1, 2, 5, 4]", "g: f32[1, 3, 3, 2]"];
    for mode in ["bilinear", "bicubic", "nearest"] {
        kept(&model(16, grid, vec![node("y = GridSample(x, g)", vec![text("mode", mode)])]), &[20, 23]);
    }
    kept(&model(17, &["x: f32[1, 8, 1]"], vec![node("y = DFT(x)", vec![])]), &[20, 23]);
    kept(&model(17, &["x: f32[2, 3, 8, 2]"], vec![node("y = DFT(x)", vec![int("axis", 2)])]), &[20, 23]);
    let update = &["x: f32[4, 3]", "u: f32[1, 3]"];
    let mut scatter = model(9, update, vec![node("y = Scatter(x, i, u)", vec![])]);
    let at = TensorProto {
        name: "i".into(),
        dims: vec![1, 3],
        data_type: 7,
        int64_data: vec![2, 0, 3],
        ..Default::default()
    };
    scatter.graph.as_mut().expect("a graph").initializer.push(at);
    assert_eq!(operators(&kept(&scatter, NEW)[0]), ["ScatterElements"]);
}

#[test]
fn normalizations_keep_their_statistics() {
    let inputs = &["x: f32[2, 3, 4]", "s: f32[3]", "b: f32[3]", "m: f32[3]", "v: f32[3]"];
    let bn =
        |y: &str| vec![node("w = Abs(v)", vec![]), node(&format!("{y} = BatchNormalization(x, s, b, m, w)"), vec![])];
    let plain = model(7, inputs, bn("y"));
    kept(&plain, NEW);
    // Statistics that nothing uses go, and the others stay.
    let mut unused = model(7, inputs, bn("y, unused"));
    unused.graph.as_mut().expect("a graph").output.truncate(1);
    upgrade(&mut unused, 14).expect("can be raised");
    assert_eq!(evaluated(&unused), evaluated(&plain));
    let training = model(9, inputs, vec![node("y, mean = BatchNormalization(x, s, b, m, v)", vec![])]);
    refused(training, 14, &["node \"y\" (BatchNormalization)", "output \"mean\"", "inference"]);
    let split = model(7, inputs, vec![node("y = BatchNormalization(x, s, b, m, v)", vec![int("spatial", 0)])]);
    refused(split, 13, &["spatial"]);
    let groups = &["x: f32[2, 6, 4]", "s: f32[3]", "b: f32[3]"];
    kept(&model(18, groups, vec![node("y = GroupNormalization(x, s, b)", vec![int("num_groups", 3)])]), &[21, 23]);
    let mask = model(7, &["x: f32[3]"], vec![node("y, mask = Dropout(x)", vec![])]);
    refused(mask, 13, &["node \"y\" (Dropout)", "mask"]);
    refused(model(9, &["x: i32[3]"], vec![node("y = Erf(x)", vec![])]), 13, &["Erf", "Int32"]);
}

#[test]
fn operands_are_aligned_at_their_last_axes() {
    for axis in [1, -2] {
        let attributes = vec![int("broadcast", 1), int("axis", axis)];
        kept(&model(6, &["x: f32[2, 3, 4]", "z: f32[3]"], vec![node("y = Mul(x, z)", attributes)]), NEW);
    }
    kept(&model(6, &["x: f32[2, 3, 4]", "z: f32[4]"], vec![node("y = Sub(x, z)", vec![int("broadcast", 1)])]), NEW);
    kept(&model(6, &["x: f32[2, 3]", "z: f32[2, 3]"], vec![node("y = Less(x, z)", vec![])]), NEW);
    kept(&model(6, &["x: f32[2, 3, 4]", "s: f32[3]"], vec![node("y = PRelu(x, s)", vec![])]), NEW);
    let gemm = node("y = Gemm(x, w, c)", vec![int("broadcast", 1)]);
    kept(&model(6, &["x: f32[2, 3]", "w: f32[3, 5]", "c: f32[5]"], vec![gemm]), NEW);
    kept(&model(6, &["x: f32[2, 3]"], vec![node("y = Dropout(x)", vec![int("is_test", 1)])]), NEW);
    refused(model(6, &["x: f32[2, 3]"], vec![node("y = Dropout(x)", vec![])]), 13, &["is_test"]);
    let rnn = node("y = RNN(x, w, r)", vec![int("hidden_size", 2), int("output_sequence", 1)]);
    kept(&model(6, &["x: f32[3, 1, 2]", "w: f32[1, 2, 2]", "r: f32[1, 2, 2]"], vec![rnn]), NEW);
}

fn graph(inputs: &[&str], nodes: Vec<NodeProto>, outputs: &[&str]) -> GraphProto {
    let named = |name: &&str| ValueInfoProto { name: name.to_string(), ..Default::default() };
    GraphProto {
        name: "inner".into(),
        input: inputs.iter().map(named).collect(),
        node: nodes,
        output: outputs.iter().map(named).collect(),
        ..Default::default()
    }
}

#[test]
fn a_batch_is_scanned_by_a_scan() {
    let step = graph(
        &["s", "x"],
        vec![
            node("t = Add(s, x)", vec![]),
            node("k = ReduceSum(t)", vec![ints("axes", &[0])]),
            node("u = Identity(t)", vec![]),
        ],
        &["t", "u", "k"],
    );
    let scan = |operands: &str| {
        let attributes = vec![body("body", step.clone()), int("num_scan_inputs", 1), ints("directions", &[1])];
        let operand = node(&format!("t2, u2, k2 = Scan({operands})"), attributes);
        model(8, &["s0: f32[2, 3]", "xs: f32[2, 5, 3]", "n: i64[2]"], vec![operand])
    };
    kept(&scan("_, s0, xs"), NEW);
    refused(scan("n, s0, xs"), 13, &["node \"t2\" (Scan)", "sequence_lens"]);
}

#[test]
fn inner_graphs_and_functions_are_raised() {
    let branch = |axes: &[i64]| graph(&[], vec![node("r = ReduceSum(x)", vec![ints("axes", axes)])], &["r"]);
    let attributes = vec![body("then_branch", branch(&[0])), body("else_branch", branch(&[1]))];
    let nodes = vec![
        node("m = ReduceMax(x)", vec![int("keepdims", 0)]),
        node("c = Greater(m, m)", vec![]),
        node("y = If(c)", attributes),
    ];
    kept(&model(11, &["x: f32[2, 3]"], nodes), NEW);
    // Attributes that callers give become inputs by way of a constant.
    let axes = AttributeProto { name: "axes".into(), ref_attr_name: "over".into(), r#type: 7, ..Default::default() };
    let function = FunctionProto {
        domain: "own".into(),
        name: "Squeeze".into(),
        input: vec!["a".into()],
        output: vec!["b".into()],
        attribute: vec!["over".into()],
        node: vec![node("b = Squeeze(a)", vec![axes])],
        opset_import: imports(11),
        ..Default::default()
    };
    let call = NodeProto { domain: "own".into(), ..node("y = Squeeze(x)", vec![ints("over", &[1])]) };
    let mut calls = model(12, &["x: f32[2, 1, 3]"], vec![call]);
    calls.functions.push(function);
    let raised = kept(&calls, NEW);
    assert_eq!(raised[0].functions[0].opset_import, imports(13));
    calls.functions[0].node[0] = NodeProto {
        attribute: vec![AttributeProto {
            name: "axis".into(),
            ref_attr_name: "over".into(),
            r#type: 2,
            ..Default::default()
        }],
        ..node("b = Softmax(a)", vec![])
    };
    refused(calls, 13, &["axis", "callers", "node \"b\" (Softmax)", "function \"Squeeze\""]);
}

#[test]
fn added_names_are_new_in_every_graph() {
    let inner = graph(&[], vec![node("y_axes_1 = Identity(x)", vec![]), node("r = Abs(y_axes_1)", vec![])], &["r"]);
    let nodes = vec![
        node("y_axes = Neg(x)", vec![]),
        node("m = ReduceMax(x)", vec![int("keepdims", 0)]),
        node("c = Greater(m, m)", vec![]),
        node("z = If(c)", vec![body("then_branch", inner.clone()), body("else_branch", inner)]),
        node("w = Add(z, y_axes)", vec![]),
        node("y = Squeeze(w)", vec![ints("axes", &[0])]),
    ];
    let raised = kept(&model(11, &["x: f32[1, 3]"], nodes), &[13]);
    let added = raised[0].graph.as_ref().expect("a graph").node.iter().find(|n| n.op_type == "Constant");
    assert_eq!(added.expect("the axes").output, ["y_axes_2"]);
}

#[test]
fn constants_of_old_files_stay_constants() {
    let mut old = model(8, &["x: f32[3]", "w: f32[3]"], vec![node("y = Add(x, w)", vec![])]);
    old.graph.as_mut().expect("a graph").initializer.push(tensor("w", &[3], &[1.0, 2.0, 3.0]));
    let raised = kept(&old, &[13]).remove(0);
    let names: Vec<_> = raised.graph.iter().flat_map(|g| &g.input).map(|i| i.name.as_str()).collect();
    assert_eq!((raised.ir_version, names), (7, vec!["x"]));
}

#[test]
fn versions_out_of_range_are_told() {
    let plain = |version| model(version, &["x: f32[3]"], vec![node("y = Abs(x)", vec![])]);
    let mut newer = plain(22);
    upgrade(&mut newer, 13).expect("nothing to do");
    assert_eq!(newer.opset_import, imports(22));
    refused(plain(5), 13, &["ai.onnx 5", "export"]);
    assert!(matches!(upgrade(&mut plain(13), NEWEST + 1), Err(Error::Usage(_))));
    let mut none = plain(13);
    none.opset_import.clear();
    assert!(matches!(upgrade(&mut none, 13), Err(Error::InvalidModel(_))));
    // Every fault is reported at once.
    let mask = |y: &str| node(&format!("{y}, m{y} = Dropout(x)"), vec![]);
    let nodes = vec![mask("a"), mask("b"), node("y = Sum(ma, mb)", vec![])];
    refused(model(7, &["x: f32[3]"], nodes), 13, &["node \"a\"", "node \"b\""]);
}
