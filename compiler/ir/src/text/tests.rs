use super::*;
use crate::{DType, Dim, Graph, Op, Output, Stage, Tensor, TensorType, Value, random, verify_at};

/// Asserts that graphs are equal except for nodes' ids: they print the same, and have the same operations in the same
/// order.
fn assert_same(a: &Graph, b: &Graph) {
    assert_eq!(print(a), print(b));
    let order = |g: &Graph| g.topological();
    for (x, y) in order(a).into_iter().zip(order(b)) {
        assert_eq!(a.op(x), b.op(y));
        assert_eq!(a.types(x), b.types(y));
        assert_eq!(a.label(x), b.label(y));
    }
    assert_eq!(a.requires, b.requires);
}

#[test]
fn every_operation_round_trips() {
    for sample in crate::samples::samples() {
        let graph = sample.graph();
        let text = print(&graph);
        let parsed = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_same(&graph, &parsed);
    }
}

#[test]
fn hand_written() {
    let text = r#"%0 = input "x" : f32[batch, 'a "b\' // c', x[1]]  // the input
%1 = input "unused" : i64[]
%2 = constant splat 0.5 : f32[3, 1]
%3 = add(%0, %2) : f32[batch, 3, x[1]]  // a // b\\c\n
%4, %5 = top_k(%3) {k=2, axis=1, largest=true} : f32[batch, 2, x[1]], i64[batch, 2, x[1]]
output "y" = %4
output "z" = %5
requires 'a "b\' // c' == 3
"#;
    let graph = parse(text).unwrap();
    assert_eq!(print(&graph), text);
    assert_eq!(graph.label(graph.operand(graph.outputs[0].value.node, 0).unwrap().node), "a // b\\c\n");
}

#[test]
fn constants_keep_their_bits() {
    let f32s = |bits: &[u32]| {
        let data: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        Tensor::new(DType::F32, vec![bits.len()], data.into()).unwrap()
    };
    let all_bytes: Vec<u8> = (0..=255).collect();
    let mut tensors = vec![
        f32s(&[0, 0x8000_0000, 0x7f80_0000, 0xff80_0000, 1, 0x3dcc_cccd]),
        f32s(&[0x7fc0_0000, 0]),
        f32s(&[0xffc0_0001, 0]),
        f32s(&[0xffc0_0001, 0xffc0_0001]),
        Tensor::from_i64s(DType::U64, vec![2], &[-1, 0]).unwrap(),
        Tensor::from_i64s(DType::I64, vec![2], &[i64::MIN, i64::MAX]).unwrap(),
        Tensor::from_i64s(DType::Bool, vec![2], &[1, 0]).unwrap(),
        Tensor::from_i64s(DType::I32, vec![100], &(0..100).collect::<Vec<_>>()).unwrap(),
        Tensor::zeros(DType::F32, vec![0, 3]),
        Tensor::zeros(DType::F32, vec![5, 30]),
        Tensor::scalar_f64(DType::BF16, 0.1),
    ];
    for dtype in DType::all().filter(|d| d.size() == 1 && d.is_float()) {
        for part in all_bytes.chunks(MAX_LISTED_ELEMENTS) {
            tensors.push(Tensor::new(dtype, vec![MAX_LISTED_ELEMENTS], part.to_vec().into()).unwrap());
        }
    }
    for half in [0..32u16, 31740..31760, 1000..1064] {
        let data: Vec<u8> = half.clone().flat_map(u16::to_le_bytes).collect();
        tensors.push(Tensor::new(DType::F16, vec![half.len()], data.clone().into()).unwrap());
        tensors.push(Tensor::new(DType::BF16, vec![half.len()], data.into()).unwrap());
    }
    for tensor in tensors {
        let mut graph = Graph::new();
        let value = graph.constant(tensor);
        graph.outputs.push(Output { name: "y".into(), value });
        assert_same(&graph, &parse(&print(&graph)).unwrap());
    }
}

#[test]
fn dimension_expressions() {
    let (n, m) = (Dim::sym("n"), Dim::sym("a b"));
    let two = Dim::from(2i64);
    for dim in [
        Dim::from(-3i64),
        &(&n * &m) - &two,
        (&n + &m).floor_div(&two),
        &n.lesser(&m) * &two,
        n.greater(&Dim::sym("min")),
        (&n - &m).if_neg(&(&n * &n), &Dim::sym("x[3]")),
        Dim::sym("it's"),
        Dim::sym("-1"),
        Dim::sym(""),
        -&n,
    ] {
        assert_eq!(dim.to_string().parse::<Dim>().unwrap(), dim, "{dim}");
    }
    for text in ["", "n+", "min(n)", "(n", "n n", "x[", "x[y]", "'n", "99999999999999999999", &"(".repeat(10_000)] {
        assert!(text.parse::<Dim>().is_err(), "{text}");
    }
}

#[test]
fn generated_constants() {
    let text = |data: &str| format!("%0 = constant {data} : i8[20, 8]\noutput \"y\" = %0\n");
    let value = |data: &str| {
        let graph = parse(&text(data)).unwrap();
        graph.as_constant(graph.outputs[0].value).unwrap().clone()
    };
    let sparse = value("sparse(seed=3, density=0.25, block=[5, 4])");
    let places = random::NonZeros { density: 0.25, block: vec![5, 4], period: vec![] };
    assert_eq!(sparse, random::sparse(DType::I8, &[20, 8], 3, &places).unwrap());
    assert_eq!(value("noise(seed=3)"), random::noise(DType::I8, &[20, 8], 3).unwrap());
    let graph = parse(&text("noise(seed=3)")).unwrap();
    assert_same(&graph, &parse(&print(&graph)).unwrap());
}

#[test]
fn malformed_text_is_an_error() {
    for (text, message) in [
        ("%0 = input \"x\"", "`:` is missing"),
        ("%0 = exp(%1) : f32[]", "`%1` is not defined above"),
        ("%0 = input \"x\" : f32[2]\n%1 = exp(%0) : f32[3]", "the operation gives f32[2]"),
        ("%0 = input \"x\" : f32[2]\n%1 = exq(%0) : f32[2]", "there is no operation `exq`"),
        ("%0 = input \"x\" : f32[2]\n%1 = cast(%0) {to=i8} : i8[2]", "attribute `saturate` is missing"),
        ("%0 = input \"x\" : f32[2]\n%1 = exp(%0) {a=1} : f32[2]", "`exp` has no attribute `a`"),
        ("%0 = constant [1, x] : f32[2]", "`x` is not a valid f32"),
        ("%0 = constant [1, 2, 3] : f32[2]", "f32[2] needs 8 bytes of data, but has 12"),
        ("%0 = constant 0x1 : u8[1]", "half a byte is missing"),
        ("%0 = constant sparse(seed=1) : f32[2]", "`sparse` needs `density`"),
        ("%0 = constant noise(seed=1, block=[1]) : f32[2]", "`noise` has no `block`"),
        ("%0 = constant zeros(seed=1) : f32[2]", "there is no generator `zeros`: there are `noise` and `sparse`"),
        ("%0 = select : f32[2]", "operands are missing"),
        ("nonsense", "`=` is missing"),
    ] {
        assert_eq!(parse(text).unwrap_err().report().message, message);
    }
}

#[test]
fn verifier_finds_all_faults() {
    let mut graph = Graph::new();
    let x = graph.add_input("x", TensorType::fixed(DType::F32, &[2]));
    let y = graph.add(Op::Concat { axis: 0 }, &[x, x]).unwrap();
    let z = graph.constant(Tensor::zeros(DType::F32, vec![3]));
    graph.outputs =
        [Output { name: "y".into(), value: y }, Output { name: "y".into(), value: y }].into_iter().collect();
    graph.set_operand(y.node, 1, z);
    graph.set_operand(y.node, 3, z);
    graph.outputs.push(Output { name: "none".into(), value: Value { node: y.node, result: 7 } });
    let message = crate::verify(&graph).unwrap_err().report().message.clone();
    for part in ["numbered [0, 1, 3]", "gives [f32[8]], but has [f32[4]]", "does not exist", "two outputs"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn stages_have_rules() {
    let graph = parse(
        "%0 = input \"x\" : f32[1, 4, 4, 3]\n\
         %1 = constant splat 1.0 : f32[2, 2, 3]\n\
         %2 = depthwise_conv(%0, %1) {strides=[1, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=3, \
         layout=channels_last, kernel=[2, 2], out=3} : f32[1, 3, 3, 3]\n\
         %3 = constant splat 1.0 : f32[2, 3, 2, 2]\n\
         %4 = conv(%2, %3) {strides=[1, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_last} : \
         f32[1, 2, 2, 2]\n\
         output \"y\" = %4\n",
    )
    .unwrap();
    let message = |stage| verify_at(&graph, stage).map_err(|e| e.report().message.clone());
    for stage in [Stage::Imported, Stage::Canonical] {
        let message = message(stage).unwrap_err();
        assert!(message.contains("packed too early") && message.contains("before layouts are chosen"), "{message}");
    }
    assert!(message(Stage::LaidOut).unwrap_err().contains("packed too early"));
    message(Stage::Packed).unwrap();
}

/// A condition with these two branches, of which the first binds `taken`.
fn condition(then: &str, otherwise: &str) -> String {
    format!(
        "%0 = input \"c\" : bool[]\n%1 = input \"x\" : f32[n, 3]\n%2 = if(%0, %1) {{binds=[taken]}} : f32[taken, 3]\n  then\n    \
         %0 = input \"0\" : f32[n, 3]\n{then}  else\n    %0 = input \"0\" : f32[n, 3]\n{otherwise}  end\noutput \"y\" = %2\n"
    )
}

#[test]
fn regions_are_graphs_of_their_own() {
    let slice = "    %1 = slice(%0) {ranges=[0:1, 0:3]} : f32[1, 3]\n    output \"0\" = %1\n";
    let same = "    output \"0\" = %0\n";
    let text = condition(slice, same);
    let graph = parse(&text).unwrap();
    assert_eq!(print(&graph), text);
    crate::verify(&graph).unwrap();
    assert!(graph.op(graph.outputs[0].value.node) == graph.clone().op(graph.outputs[0].value.node));
    for (other, equal) in [(condition(slice, same), true), (condition(same, slice), false)] {
        let other = parse(&other).unwrap();
        assert_eq!(graph.op(graph.outputs[0].value.node) == other.op(other.outputs[0].value.node), equal);
    }
    for (text, message) in [
        (text.replace("  then\n", ""), "`then` is missing"),
        (text.replace("  end\n", ""), "`%2` is not defined above"),
        (text.replace("  end\noutput \"y\" = %2\n", ""), "`end` is missing"),
        (text.replace("binds=[taken]", "binds=[2]"), "2 is not a symbol"),
        (text.replace(" {binds=[taken]}", ""), "attribute `binds` is missing"),
        (text.replace("binds=[taken]", "binds=[other]"), "it binds other, which is not an extent of its results"),
        (text.replace("taken", "n"), "it binds n, which is known already"),
        (text.replace("if(%0, %1)", "if(%0)"), "it takes 1 operands instead of 0"),
        (
            text.replace("input \"x\" : f32[n, 3]", "input \"x\" : i32[n, 3]"),
            "its input 0 is f32[n, 3], but is given i32[n, 3]",
        ),
        (condition(slice, "    %1 = exp(%0) : f32[n, 3]\n"), "it gives 0 results instead of 1"),
        (condition(slice, "    output \"0\" = %1\n"), "`%1` is not defined above"),
        (
            condition("    %1 = reshape(%0) {shape=[3*n]} : f32[3*n]\n    output \"0\" = %1\n", same),
            "its result 0 is f32[3*n] instead of f32[taken, 3]",
        ),
    ] {
        assert_eq!(parse(&text).unwrap_err().report().message, message, "{text}");
    }
}

#[test]
fn the_verifier_looks_into_regions() {
    let packed = "    %1 = constant splat 1.0 : f32[1, 3, 4]\n    %2 = packed_matmul(%0, %1) {n=3} : f32[n, 3]\n    output \"0\" = %2\n";
    let mut graph = parse(&condition(packed, "    output \"0\" = %0\n")).unwrap();
    let verified = |graph: &Graph, stage| verify_at(graph, stage).map_err(|e| e.report().message.clone());
    assert_eq!(Stage::of(&graph), Stage::Packed);
    verified(&graph, Stage::Packed).unwrap();
    let message = verified(&graph, Stage::LaidOut).unwrap_err();
    assert!(message.contains("(`if`, label ``): node") && message.contains("is packed too early"), "{message}");
    graph
        .edit_regions(&mut |region| {
            let (x, last) = (region.inputs()[0].into(), region.outputs[0].value.node);
            region.set_operand(last, 3, x);
            Ok(true)
        })
        .unwrap();
    let message = verified(&graph, Stage::Packed).unwrap_err();
    assert!(message.contains("(`if`, label ``): the operands of node"), "{message}");
}
