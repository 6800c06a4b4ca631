//! Tests of which weights are recognised as codes, in which form, and that their results are preserved.

use mcc_targets::{Config, WeightFloats};

use super::lowbit;
use mcc_ir::eval::eval_graph;
use mcc_ir::{
    Activation, Cell, CellSpec, ConvSpec, DType, Dim, Graph, Layout, Op, Output, Random, Tensor, TensorType, UnaryOp,
    Value,
};

fn floats(shape: &[usize], values: impl Fn(usize) -> f32) -> Tensor {
    let values: Vec<f64> = (0..shape.iter().product()).map(|i| f64::from(values(i))).collect();
    Tensor::from_f64s(DType::F32, shape.to_vec(), &values).unwrap()
}

/// Pseudo-random integers from `low` on.
fn number(i: usize, low: i32, count: u32) -> f32 {
    Random::new(i as u64).within(low.into(), i64::from(low) + i64::from(count) - 1) as f32
}

/// A scale without a short binary representation.
fn scale(i: usize) -> f32 {
    0.013 + (i % 23) as f32 * 0.0017
}

fn graph(op: Op, x: &Tensor, w: Tensor) -> Graph {
    let mut graph = Graph::new();
    let input = graph.add_input("x", TensorType::new(x.dtype(), x.shape().iter().map(|&d| Dim::from(d)).collect()));
    let w = graph.constant(w);
    let operands = if matches!(op, Op::Gather { .. }) { [w, input] } else { [input, w] };
    let value = graph.add_labelled(op, &operands, "it").unwrap().into();
    graph.outputs.push(Output { name: "y".to_string(), value });
    graph
}

/// Runs the pass and compares values; returns the form that was chosen, if any.
fn form(mut graph: Graph, x: &Tensor, compact: bool) -> Option<String> {
    let before = eval_graph(&graph, std::slice::from_ref(x)).unwrap();
    let config = Config { compact, ..Config::new("x86_64-unknown-linux-gnu", None).unwrap() };
    let changed = lowbit::run(&mut graph, &config).unwrap();
    graph.remove_dead();
    mcc_ir::verify(&graph).unwrap();
    let after = eval_graph(&graph, std::slice::from_ref(x)).unwrap();
    assert_eq!(before[0].ty(), after[0].ty());
    for (a, b) in before[0].to_f64s().into_iter().zip(after[0].to_f64s()) {
        let near = (a - b).abs() <= 1e-5 * a.abs().max(1.0);
        assert!(near || a.is_nan() && b.is_nan(), "{b}, not {a}");
    }
    assert!(!lowbit::run(&mut graph, &config).unwrap(), "a second run changes something");
    let decided = graph.decisions().first().map(|d| d.form.clone());
    assert_eq!(decided.as_deref().is_some_and(|form| form != "dense"), changed);
    decided
}

fn product(w: Tensor) -> Option<String> {
    let x = floats(&[3, w.shape()[0]], |i| number(i, -50, 100) / 16.0);
    form(graph(Op::MatMul, &x, w), &x, false)
}

#[test]
fn products() {
    let shape = [96, 40];
    let of = |f: &dyn Fn(usize, usize) -> f32| product(floats(&shape, |i| f(i / 40, i % 40)));
    let n = |row: usize, column: usize, low, count| number(row * 40 + column, low, count);
    let found = |f: &dyn Fn(usize, usize) -> f32, want: &str| assert_eq!(of(f).as_deref(), Some(want));
    found(&|r, c| n(r, c, -128, 256) * scale(0), "int8 per column");
    found(&|r, c| n(r, c, -127, 255) * scale(c), "int8 per column");
    found(&|r, c| n(r, c, -8, 16) * scale(c), "int4 per column");
    found(&|r, c| n(r, c, -2, 4) * -scale(c), "int2 per column");
    found(&|r, c| (n(r, c, 0, 256) - 99.0) * scale(c), "int8 per column with zero points");
    // A small range of numbers that are not bytes.
    found(&|r, c| (n(r, c, 0, 16) + 200.0) * scale(c), "int8 per column with zero points");
    found(&|r, c| n(r, c, -8, 16) * scale(r / 32 + 3 * c), "int4 in blocks of 32");
    found(
        &|r, c| (n(r, c, 0, 16) - ((r / 16 + c) % 16) as f32) * scale(r / 16 + 5 * c),
        "int4 in blocks of 16 with zero points",
    );
    // Numbers without a common scale, but few distinct ones.
    let table = |k: usize| (k as f32 * 0.7).sin() + 0.01 * (k * k) as f32;
    found(&|r, c| table(n(r, c, 0, 16) as usize), "codebook of 16, 4 bits");
    found(&|r, c| table(n(r, c, 0, 3) as usize), "codebook of 3, 2 bits");
    found(&|r, c| table(n(r, c, 0, 16) as usize) * scale(c), "codebook of 16 times a scale per column, 4 bits");
    // Columns of zeros, of few entries, and with negative factors.
    let factor = |c: usize| [0.0, 1.3, -0.7, 0.011][c % 4];
    found(
        &|r, c| table(n(r, c, 0, if c % 3 == 0 { 4 } else { 16 }) as usize) * factor(c),
        "codebook of 16 times a scale per column, 4 bits",
    );
    found(
        &|r, c| table(n(r, c, 0, 16) as usize) * scale(r / 32 + 3 * c),
        "codebook of 16 times a scale per block of 32, 4 bits",
    );
    // No block of 16 has all entries, and some are zeros.
    found(
        &|r, c| table(n(r, c, 0, 16) as usize) * if (r / 16 + c) % 7 == 0 { 0.0 } else { scale(r / 16 + 5 * c) },
        "codebook of 16 times a scale per block of 16, 4 bits",
    );
    // One number that differs.
    assert_eq!(of(&|r, c| table(n(r, c, 0, 16) as usize) * scale(c) * if r + c == 100 { 1.0001 } else { 1.0 }), None);
    // Seventeen values are too many, as are arbitrary weights.
    assert_eq!(of(&|r, c| table(n(r, c, 0, 17) as usize)), None);
    assert_eq!(of(&|r, c| ((r * 40 + c) as f32).sin()), None);
    assert_eq!(of(&|r, c| if r == 5 { f32::NAN } else { n(r, c, -8, 16) }), None);
}

#[test]
fn long_tables_are_small() {
    let x = floats(&[3, 64], |i| number(i, -50, 100) / 16.0);
    let w = floats(&[64, 64], |i| (number(i, 0, 200) * 0.37).sin());
    assert_eq!(form(graph(Op::MatMul, &x, w.clone()), &x, false), None);
    assert!(form(graph(Op::MatMul, &x, w), &x, true).unwrap().starts_with("codebook of"));
}

#[test]
fn convolutions() {
    let spec = |pads| ConvSpec {
        strides: vec![1, 1],
        dilations: vec![1, 1],
        pads: vec![(pads, pads); 2],
        group: 1,
        layout: Layout::ChannelsLast,
    };
    let of = |size: usize, kernel: usize, compact: bool| {
        let x = floats(&[1, size, size, 16], |i| number(i, -50, 100) / 16.0);
        let w = floats(&[32, 16, kernel, kernel], |i| number(i, -8, 16) * scale(i / (16 * kernel * kernel)));
        form(graph(Op::Conv(spec(kernel as i64 / 2)), &x, w), &x, compact)
    };
    assert_eq!(of(2, 3, false).as_deref(), Some("int4 per column"));
    // Minimal filtering needs a third of the products.
    for compact in [false, true] {
        assert_eq!(of(16, 3, compact).as_deref(), Some("int4 per column by minimal filtering"));
    }
}

/// Scales that are not 16-bit floats are rounded only if weights may be rounded, and then results change accordingly.
#[test]
fn scales_are_rounded_where_that_is_asked_for() {
    let x = floats(&[3, 64], |i| number(i, -50, 100) / 16.0);
    let w = floats(&[64, 64], |i| number(i, -8, 16) * scale(i % 64 + i / 2048));
    let config = Config::new("x86_64-unknown-linux-gnu", Some("x86-64-v3")).unwrap();
    for (weights, dtype) in
        [(WeightFloats::AsGiven, DType::F32), (WeightFloats::F16, DType::F16), (WeightFloats::Bf16, DType::F32)]
    {
        let mut graph = graph(Op::MatMul, &x, w.clone());
        let before = eval_graph(&graph, std::slice::from_ref(&x)).unwrap()[0].to_f64s();
        assert!(lowbit::run(&mut graph, &Config { weights, ..config.clone() }).unwrap());
        let product = graph.outputs[0].value.node;
        assert_eq!(graph.ty(graph.operand(product, 2).unwrap()).dtype, dtype);
        let after = eval_graph(&graph, std::slice::from_ref(&x)).unwrap()[0].to_f64s();
        // Elements are at most 50 / 16, weights 8 * 0.0504.
        let bound = if dtype == DType::F16 { 64.0 * 3.2 * 0.41 / 2048.0 } else { 1e-4 };
        assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() <= bound), "{weights:?}");
        assert_eq!(before.iter().zip(&after).any(|(a, b)| (a - b).abs() > 1e-4), dtype == DType::F16);
        let reason = graph.decisions().first().map(|d| d.reason.clone()).unwrap_or_default();
        assert_eq!(reason.ends_with("rounded to f16"), dtype == DType::F16, "{reason}");
    }
}

#[test]
fn tables_of_rows() {
    let of = |f: &dyn Fn(usize, usize) -> f32| {
        let x = Tensor::from_i64s(DType::I64, vec![2, 3], &[0, 5, 99, -1, 7, 42]).unwrap();
        form(graph(Op::Gather { axis: 0 }, &x, floats(&[100, 32], |i| f(i / 32, i % 32))), &x, false)
    };
    let n = |r: usize, c: usize| number(r * 32 + c, -127, 255);
    assert_eq!(of(&|r, c| n(r, c) * 0.01).as_deref(), Some("int8 per column"));
    assert_eq!(of(&|r, c| n(r, c) * scale(c)).as_deref(), Some("int8 per column"));
    assert_eq!(of(&|r, c| n(r, c) * scale(r)).as_deref(), Some("int8 per row"));
    assert_eq!(of(&|r, c| number(r * 32 + c, -8, 16) * scale(r)).as_deref(), Some("int4 per row"));
    let table = |k: usize| (k as f32 * 0.7).sin() + 0.01 * (k * k) as f32;
    let found = of(&|r, c| table(number(r * 32 + c, 0, 16) as usize));
    assert_eq!(found.as_deref(), Some("codebook of 16, 4 bits"));
    assert_eq!(of(&|r, c| ((r * 32 + c) as f32).sin()), None);
}

/// Products with split rows are off by some 16-bit steps, so products whose results are quantized to 16 bits stay
/// floats.
#[test]
fn sixteen_bits_are_finer_than_digits() {
    let coded = |to: DType, cpu: &str| {
        let x = floats(&[3, 96], |i| number(i, -50, 100) / 16.0);
        let mut g = graph(Op::MatMul, &x, floats(&[96, 40], |i| number(i, -8, 16) * scale(0)));
        let product = g.outputs[0].value;
        let rounded = g.add(Op::Unary(UnaryOp::Round), &[product]).unwrap();
        let codes = g.add(Op::Cast { to, saturate: true }, &[rounded]).unwrap();
        g.outputs = std::iter::once(Output { name: "y".to_string(), value: codes }).collect();
        let config = Config::new("x86_64-unknown-linux-gnu", Some(cpu)).unwrap();
        lowbit::run(&mut g, &config).unwrap()
    };
    let all = [DType::U8, DType::U16, DType::I16];
    assert_eq!(all.map(|to| coded(to, "icelake-server")), [true, false, false]);
    assert_eq!(all.map(|to| coded(to, "x86-64-v4")), [true, true, true]);
}

#[test]
fn recurrent_layers() {
    let layer = |r: Tensor, quantized: bool| {
        let (hidden, width) = (r.shape()[0], r.shape()[1]);
        let x = floats(&[3, 2, width], |i| number(i, -50, 100) / 40.0);
        let mut graph = Graph::new();
        let input =
            graph.add_input("x", TensorType::new(DType::F32, x.shape().iter().map(|&d| Dim::from(d)).collect()));
        let r = graph.constant(r);
        let state = graph.constant(Tensor::zeros(DType::F32, vec![2, hidden]));
        let spec = CellSpec {
            cell: Cell::Lstm,
            reverse: true,
            activations: [Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
            clip: None,
            peephole: false,
            coupled: false,
            lengths: false,
            quantized,
            coded: None,
        };
        let mut operands = vec![input, r, state, state];
        if quantized {
            operands.push(graph.constant(Tensor::from_f64s(DType::F32, vec![width], &vec![0.01; width]).unwrap()));
        }
        let node = graph.add_labelled(Op::Recurrent(spec), &operands, "it").unwrap();
        for result in 0..3 {
            graph.outputs.push(Output { name: format!("y{result}"), value: Value { node, result } });
        }
        form(graph, &x, false)
    };
    let of = |f: &dyn Fn(usize, usize) -> f32| floats(&[32, 128], |i| f(i / 128, i % 128) / 20.0);
    let n = |row: usize, column: usize, low, count| number(row * 128 + column, low, count);
    let found = |f: &dyn Fn(usize, usize) -> f32, want: Option<&str>| assert_eq!(layer(of(f), false).as_deref(), want);
    found(&|r, c| n(r, c, -127, 255) * scale(c), Some("int8 per column"));
    found(&|r, c| n(r, c, -8, 16) * scale(r / 16 + 3 * c), Some("int4 in blocks of 16"));
    let table = |k: usize| (k as f32 * 0.7).sin() + 0.01 * (k * k) as f32;
    found(&|r, c| table(n(r, c, 0, 16) as usize) * scale(c), Some("codebook of 16 times a scale per column, 4 bits"));
    found(&|r, c| n(r, c, -5000, 10000) * scale(r), None);
    // Those of states that are rounded to bytes are another pass's.
    assert_eq!(layer(of(&|r, c| n(r, c, -127, 255) * scale(c)), true), None);
}
