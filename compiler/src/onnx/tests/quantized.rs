//! Scales, zero points and block sizes that contradict are told, each with its node, its input and a remedy.

use super::*;

fn floats(name: &str, shape: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        dims: shape.to_vec(),
        data_type: crate::onnx::tensor::data_type(DType::F32) as i32,
        float_data: values.to_vec(),
        ..Default::default()
    }
}

fn bytes(name: &str, dtype: DType, shape: &[i64], values: &[i32]) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        dims: shape.to_vec(),
        data_type: crate::onnx::tensor::data_type(dtype) as i32,
        int32_data: values.to_vec(),
        ..Default::default()
    }
}

/// What importing one node says: its result's type, or the error with its help.
fn told(
    inputs: &[&str],
    call: &str,
    domain: &str,
    attributes: &[AttributeProto],
    initializers: Vec<TensorProto>,
) -> String {
    let mut g = graph(inputs, &[call], &["y"]);
    g.initializer = initializers;
    g.node[0].attribute = attributes.to_vec();
    g.node[0].domain = domain.to_string();
    g.node[0].name = "the node".to_string();
    let mut m = model(g);
    m.opset_import.push(OperatorSetIdProto { domain: "com.microsoft".to_string(), version: 1 });
    match imported(&m, &Options::default()) {
        Ok(g) => g.ty(g.outputs[0].value).to_string(),
        Err(e) => e.to_string(),
    }
}

/// The message must hold all of these.
fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[test]
fn scales_are_numbers() {
    let of = |call: &str, input: &str, scale: f32| told(&[input], call, "", &[], vec![floats("s", &[], &[scale])]);
    let quantize = |scale| of("y = QuantizeLinear(x, s)", "x: f32[2, 3]", scale);
    assert_eq!(quantize(0.5), "u8[2, 3]");
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        holds(&quantize(bad), &["the node", "QuantizeLinear", "y_scale", "positive and finite", "help"]);
    }
    let dequantize = |scale| of("y = DequantizeLinear(x, s)", "x: u8[2, 3]", scale);
    // Zero is defined: all zeros.
    assert_eq!(dequantize(0.0), "f32[2, 3]");
    for bad in [f32::NAN, f32::NEG_INFINITY] {
        holds(&dequantize(bad), &["the node", "DequantizeLinear", "x_scale", "finite", "help"]);
    }
}

#[test]
fn zero_points_have_the_type_of_the_codes() {
    let of = |zero: TensorProto, input: &str| {
        told(&[input], "y = DequantizeLinear(x, s, z)", "", &[], vec![floats("s", &[], &[1.0]), zero])
    };
    assert_eq!(of(bytes("z", DType::U8, &[], &[255]), "x: u8[4]"), "f32[4]");
    holds(
        &of(bytes("z", DType::I8, &[], &[1]), "x: u8[4]"),
        &["the node", "x_zero_point", "i8", "u8", "type of the quantized tensor"],
    );
    holds(&of(bytes("z", DType::I32, &[], &[7]), "x: i32[4]"), &["the node", "x_zero_point", "7", "is zero"]);
    holds(&of(bytes("z", DType::U8, &[2], &[1, 2]), "x: u8[4]"), &["the node", "2 elements", "one zero point a scale"]);
}

#[test]
fn scales_of_an_axis_are_as_many() {
    let of = |axis: i64, count: usize| {
        let scales = floats("s", &[count as i64], &vec![1.0; count]);
        told(&["x: i8[3, 4]"], "y = DequantizeLinear(x, s)", "", &[int("axis", axis)], vec![scales])
    };
    assert_eq!(of(1, 4), "f32[3, 4]");
    assert_eq!(of(0, 3), "f32[3, 4]");
    holds(&of(0, 4), &["the node", "x_scale", "4 elements", "axis 0", "3"]);
    holds(&of(2, 4), &["the node", "axis"]);
}

#[test]
fn blocks_divide_their_axis() {
    let of = |block: i64, shape: [i64; 2]| {
        let scales = floats("s", &shape, &vec![1.0; (shape[0] * shape[1]) as usize]);
        let attributes = [int("axis", 1), int("block_size", block)];
        told(&["x: i8[3, 8]"], "y = DequantizeLinear(x, s)", "", &attributes, vec![scales])
    };
    assert_eq!(of(4, [3, 2]), "f32[3, 8]");
    // The last block may be smaller.
    assert_eq!(of(5, [3, 2]), "f32[3, 8]");
    holds(&of(4, [3, 3]), &["the node", "block_size 4", "axis 1", "2 elements"]);
    holds(&of(4, [2, 2]), &["the node", "axis 0", "3 elements"]);
    holds(&of(-4, [3, 2]), &["the node", "block_size is -4", "help"]);
}

#[test]
fn operators_on_codes_check_theirs() {
    let one = |name: &str, v: f32| floats(name, &[], &[v]);
    let zero = |name: &str| bytes(name, DType::U8, &[], &[3]);
    let conv = |weights: DType, scales: i64, result: f32| {
        let given = vec![
            one("sx", 0.5),
            zero("zx"),
            bytes("w", DType::I8, &[2, 3, 1, 1], &[1, 2, 3, 4, 5, 6]),
            floats("sw", &[scales], &vec![0.25; scales as usize]),
            bytes("zw", weights, &[scales], &vec![0; scales as usize]),
            one("sy", result),
            zero("zy"),
        ];
        told(&["x: u8[1, 3, 5, 5]"], "y = QLinearConv(x, sx, zx, w, sw, zw, sy, zy)", "", &[], given)
    };
    assert_eq!(conv(DType::I8, 2, 0.5), "u8[1, 2, 5, 5]");
    holds(&conv(DType::U8, 2, 0.5), &["the node", "QLinearConv", "w_zero_point", "u8", "i8"]);
    holds(&conv(DType::I8, 3, 0.5), &["w_scale", "3 elements", "axis 0"]);
    holds(&conv(DType::I8, 2, 0.0), &["y_scale", "positive"]);
    let add = |result: f32| {
        let given = vec![one("sx", 0.5), zero("zx"), one("sy", result), zero("zy")];
        let call = "y = QLinearAdd(x, sx, zx, x, sx, zx, sy, zy)";
        told(&["x: u8[4]"], call, "com.microsoft", &[], given)
    };
    assert_eq!(add(1.0), "u8[4]");
    holds(&add(f32::NAN), &["the node", "QLinearAdd", "scale of the result", "positive"]);
    let bits = |codes: i64, scales: i64| {
        let given = vec![
            bytes("b", DType::U8, &[2, 2, codes / 4], &vec![17; codes as usize]),
            floats("s", &[scales], &vec![1.0; scales as usize]),
        ];
        let attributes = [int("K", 32), int("N", 2), int("bits", 4), int("block_size", 16)];
        told(&["x: f32[3, 32]"], "y = MatMulNBits(x, b, s)", "com.microsoft", &attributes, given)
    };
    assert_eq!(bits(32, 4), "f32[3, 2]");
    holds(&bits(16, 4), &["the node", "MatMulNBits", "input B", "block_size 16"]);
    holds(&bits(32, 5), &["the node", "input scales has 5", "make it 4"]);
}
