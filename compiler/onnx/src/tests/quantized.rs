//! Scales, zero points and block sizes that contradict are errors that name the node, the input and a remedy.

use super::*;

fn floats(name: &str, shape: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        dims: shape.to_vec(),
        data_type: crate::tensor::data_type(DType::F32) as i32,
        float_data: values.to_vec(),
        ..Default::default()
    }
}

fn bytes(name: &str, dtype: DType, shape: &[i64], values: &[i32]) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        dims: shape.to_vec(),
        data_type: crate::tensor::data_type(dtype) as i32,
        int32_data: values.to_vec(),
        ..Default::default()
    }
}

/// What importing one node says: its result's type, or the error with its help.
fn import_node(
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
    let of =
        |call: &str, input: &str, scale: f32| import_node(&[input], call, "", &[], vec![floats("s", &[], &[scale])]);
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
        import_node(&[input], "y = DequantizeLinear(x, s, z)", "", &[], vec![floats("s", &[], &[1.0]), zero])
    };
    assert_eq!(of(bytes("z", DType::U8, &[], &[255]), "x: u8[4]"), "f32[4]");
    holds(
        &of(bytes("z", DType::I8, &[], &[1]), "x: u8[4]"),
        &["the node", "x_zero_point", "i8", "u8", "type of the quantized tensor"],
    );
    holds(&of(bytes("z", DType::I32, &[], &[7]), "x: i32[4]"), &["the node", "x_zero_point", "7", "is zero"]);
    holds(
        &of(bytes("z", DType::U8, &[2], &[1, 2]), "x: u8[4]"),
        &["the node", "2 elements", "one zero point per scale"],
    );
}

#[test]
fn scales_of_an_axis_are_as_many() {
    let of = |axis: i64, count: usize| {
        let scales = floats("s", &[count as i64], &vec![1.0; count]);
        import_node(&["x: i8[3, 4]"], "y = DequantizeLinear(x, s)", "", &[int("axis", axis)], vec![scales])
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
        import_node(&["x: i8[3, 8]"], "y = DequantizeLinear(x, s)", "", &attributes, vec![scales])
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
        import_node(&["x: u8[1, 3, 5, 5]"], "y = QLinearConv(x, sx, zx, w, sw, zw, sy, zy)", "", &[], given)
    };
    assert_eq!(conv(DType::I8, 2, 0.5), "u8[1, 2, 5, 5]");
    holds(&conv(DType::U8, 2, 0.5), &["the node", "QLinearConv", "w_zero_point", "u8", "i8"]);
    holds(&conv(DType::I8, 3, 0.5), &["w_scale", "3 elements", "axis 0"]);
    holds(&conv(DType::I8, 2, 0.0), &["y_scale", "positive"]);
    let add = |result: f32| {
        let given = vec![one("sx", 0.5), zero("zx"), one("sy", result), zero("zy")];
        let call = "y = QLinearAdd(x, sx, zx, x, sx, zx, sy, zy)";
        import_node(&["x: u8[4]"], call, "com.microsoft", &[], given)
    };
    assert_eq!(add(1.0), "u8[4]");
    holds(&add(f32::NAN), &["the node", "QLinearAdd", "scale of the result", "positive"]);
    let bits = |codes: i64, scales: i64| {
        let given = vec![
            bytes("b", DType::U8, &[2, 2, codes / 4], &vec![17; codes as usize]),
            floats("s", &[scales], &vec![1.0; scales as usize]),
        ];
        let attributes = [int("K", 32), int("N", 2), int("bits", 4), int("block_size", 16)];
        import_node(&["x: f32[3, 32]"], "y = MatMulNBits(x, b, s)", "com.microsoft", &attributes, given)
    };
    assert_eq!(bits(32, 4), "f32[3, 2]");
    holds(&bits(16, 4), &["the node", "MatMulNBits", "input B", "block_size 16"]);
    holds(&bits(32, 5), &["the node", "input scales has 5", "make it 4"]);
}

/// The result of an operator whose inputs after `x` are these, named as they are in `call`.
fn with(input: &str, call: &str, domain: &str, given: Vec<TensorProto>) -> String {
    import_node(&[input], call, domain, &[], given)
}

#[test]
fn codes_are_integers_of_few_bits() {
    let scale = || vec![floats("s", &[], &[0.5])];
    let dequantize = |input: &str| with(input, "y = DequantizeLinear(x, s)", "", scale());
    assert_eq!(dequantize("x: u16[4]"), "f32[4]");
    assert_eq!(dequantize("x: i32[4]"), "f32[4]");
    for input in ["x: f32[4]", "x: i64[4]", "x: bool[4]"] {
        holds(&dequantize(input), &["the node", "input x is", "not a type of quantized tensors", "help"]);
    }
    let quantize = |input: &str, zero: DType, attributes: &[AttributeProto]| {
        let given = [scale(), vec![bytes("z", zero, &[], &[0])]].concat();
        import_node(&[input], "y = QuantizeLinear(x, s, z)", "", attributes, given)
    };
    assert_eq!(quantize("x: i32[4]", DType::I16, &[]), "i16[4]");
    // What exporters write of biases.
    assert_eq!(quantize("x: f32[4]", DType::I32, &[]), "i32[4]");
    holds(&quantize("x: f32[4]", DType::Bool, &[]), &["the node", "bool", "not a type of quantized tensors"]);
    holds(&quantize("x: u8[4]", DType::U8, &[]), &["the node", "input x is u8[4]", "floats"]);
    let other = int("output_dtype", crate::tensor::data_type(DType::I8) as i64);
    holds(&quantize("x: f32[4]", DType::U8, &[other]), &["output_dtype is i8", "y_zero_point u8", "leave one out"]);
    let many = vec![floats("s", &[2, 2], &[0.5; 4])];
    holds(&with("x: u8[2, 2]", "y = DequantizeLinear(x, s)", "", many), &["x_scale", "without a block_size"]);
}

#[test]
fn products_of_codes_check_what_is_one_a_row_or_column() {
    let of = |zeros: [(DType, &[i64]); 2]| {
        let zero = |name: &str, (dtype, shape): (DType, &[i64])| {
            bytes(name, dtype, shape, &vec![1; shape.iter().product::<i64>() as usize])
        };
        let given =
            vec![bytes("w", DType::I8, &[3, 2], &[1, 2, 3, 4, 5, 6]), zero("zx", zeros[0]), zero("zw", zeros[1])];
        with("x: u8[4, 3]", "y = MatMulInteger(x, w, zx, zw)", "", given)
    };
    let (u8s, i8s) = (DType::U8, DType::I8);
    assert_eq!(of([(u8s, &[4]), (i8s, &[2])]), "i32[4, 2]");
    assert_eq!(of([(u8s, &[4, 1]), (i8s, &[1, 2])]), "i32[4, 2]");
    holds(&of([(u8s, &[3]), (i8s, &[])]), &["the node", "a_zero_point is u8[3]", "one per row"]);
    holds(&of([(u8s, &[]), (i8s, &[3])]), &["the node", "b_zero_point is i8[3]", "one per column"]);
    holds(&of([(u8s, &[4, 3]), (i8s, &[])]), &["a_zero_point", "one per row"]);
    holds(&of([(i8s, &[]), (i8s, &[])]), &["a_zero_point is i8 for a tensor of u8"]);
    let dynamic = |scales: &[f32], zeros: usize| {
        let given = vec![
            bytes("w", i8s, &[3, 2], &[1, 2, 3, 4, 5, 6]),
            floats("s", &[scales.len() as i64], scales),
            bytes("z", i8s, &[zeros as i64], &vec![0; zeros]),
        ];
        with("x: f32[4, 3]", "y = DynamicQuantizeMatMul(x, w, s, z)", "com.microsoft", given)
    };
    assert_eq!(dynamic(&[1.0, 2.0], 2), "f32[4, 2]");
    holds(&dynamic(&[1.0, 2.0, 3.0], 3), &["the node", "b_scale is f32[3]", "one per column"]);
    holds(&dynamic(&[1.0, f32::NAN], 2), &["b_scale is NaN at element 1", "finite"]);
    holds(&dynamic(&[1.0, 2.0], 1), &["b_zero_point has 1 elements, but b_scale has 2"]);
    let conv = |zero: DType, count: i64| {
        let given = vec![
            bytes("w", i8s, &[2, 3, 1], &[1, 2, 3, 4, 5, 6]),
            bytes("zx", DType::U8, &[], &[1]),
            bytes("zw", zero, &[count], &vec![0; count as usize]),
        ];
        with("x: u8[1, 3, 4]", "y = ConvInteger(x, w, zx, zw)", "", given)
    };
    assert_eq!(conv(i8s, 2), "i32[1, 2, 4]");
    holds(&conv(i8s, 3), &["the node", "w_zero_point has 3 elements", "axis 0"]);
    holds(&conv(u8s, 2), &["w_zero_point is u8 for a tensor of i8"]);
}

#[test]
fn biases_of_codes_are_integers() {
    let of = |bias: TensorProto| {
        let given = vec![
            floats("s", &[], &[0.5]),
            bytes("z", DType::U8, &[], &[3]),
            bytes("w", DType::U8, &[2, 3, 1], &[1, 2, 3, 4, 5, 6]),
            bias,
        ];
        with("x: u8[1, 3, 4]", "y = QLinearConv(x, s, z, w, s, z, s, z, b)", "", given)
    };
    assert_eq!(of(bytes("b", DType::I32, &[2], &[1, 2])), "u8[1, 2, 4]");
    holds(&of(bytes("b", DType::I32, &[3], &[1, 2, 3])), &["the node", "input B has 3 elements for 2 output channels"]);
    holds(&of(floats("b", &[2], &[1.0, 2.0])), &["the node", "input B is f32[2]", "i32"]);
}

#[test]
fn packed_weights_have_the_declared_length() {
    let of = |attributes: [i64; 4], zeros: TensorProto, order: &[i32]| {
        let given = vec![
            bytes("b", DType::U8, &[2, 2, 8], &[17; 32]),
            floats("s", &[4], &[1.0; 4]),
            zeros,
            bytes("g", DType::I32, &[order.len() as i64], order),
        ];
        let names = ["K", "N", "bits", "block_size"];
        let attributes: Vec<AttributeProto> = names.iter().zip(attributes).map(|(name, v)| int(name, v)).collect();
        let call = if order.is_empty() { "y = MatMulNBits(x, b, s, z)" } else { "y = MatMulNBits(x, b, s, z, g)" };
        import_node(&["x: f32[3, 32]"], call, "com.microsoft", &attributes, given)
    };
    let usual = [32, 2, 4, 16];
    let packed = |count: usize| bytes("z", DType::U8, &[count as i64], &vec![0x88; count]);
    assert_eq!(of(usual, packed(2), &[]), "f32[3, 2]");
    assert_eq!(of(usual, floats("z", &[4], &[7.5; 4]), &[]), "f32[3, 2]");
    assert_eq!(of(usual, packed(2), &[1; 32]), "f32[3, 2]");
    for (attributes, zeros, order, parts) in [
        (usual, packed(3), &[][..], ["input zero_points has 6 elements", "make it 4"]),
        (usual, floats("z", &[5], &[7.5; 5]), &[], ["input zero_points has 5 elements", "make it 4"]),
        (usual, bytes("z", DType::I8, &[2], &[0; 2]), &[], ["input zero_points is i8[2]", "packed"]),
        (usual, packed(2), &[2; 32], ["g_idx holds 2 for 2 blocks", "start at 0"]),
        (usual, packed(2), &[0; 31], ["g_idx is i32[31]", "K 32"]),
        ([32, 2, 4, 0], packed(2), &[], ["attribute block_size is 0", "positive"]),
        ([32, 2, 3, 16], packed(2), &[], ["attribute bits is 3", "2, 4 or 8"]),
        ([31, 2, 4, 16], packed(2), &[], ["input A is f32[3, 32]", "K 31"]),
        ([1 << 62, 1 << 62, 4, 16], packed(2), &[], ["input B has 64 elements", "more than can be counted"]),
    ] {
        holds(&of(attributes, zeros, order), &["the node", "MatMulNBits", "help", parts[0], parts[1]]);
    }
}

#[test]
fn tables_of_blocks_are_gathered_within() {
    let of = |scales: i64, index: i64, block: i64| {
        let given = vec![
            bytes("d", DType::U4, &[3, 8], &[0x21; 12]),
            floats("s", &[3, scales], &vec![1.0; 3 * scales as usize]),
            ints("i", &[0, index]),
        ];
        let attributes = [int("block_size", block)];
        import_node(&["x: f32[1]"], "y = GatherBlockQuantized(d, i, s)", "com.microsoft", &attributes, given)
    };
    assert_eq!(of(2, 2, 4), "f32[2, 8]");
    assert_eq!(of(2, -1, 5), "f32[2, 8]");
    holds(&of(3, 2, 4), &["the node", "GatherBlockQuantized", "input scales", "block_size 4"]);
    holds(&of(2, 3, 4), &["the node", "input indices is 3 at element 1, for 3 elements"]);
    holds(&of(2, 2, 0), &["attribute block_size is 0"]);
    let codebook = |index: i64| {
        let given = vec![floats("t", &[3], &[0.5, 1.0, 2.0]), ints("i", &[0, index])];
        with("x: f32[1]", "y = Gather(t, i)", "", given)
    };
    assert_eq!(codebook(-3), "f32[2]");
    holds(&codebook(3), &["the node", "Gather", "input indices is 3 at element 1", "help"]);
}
