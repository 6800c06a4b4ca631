//! Graphs of a few operations, compiled, loaded and run: fusion, views, memory plan and symbolic dimensions are
//! compared with the reference evaluator.

use mcc::ir::{BinaryOp, DType, Dim, Graph, Op, Random, Range, Tensor, TensorType, UnaryOp, Value, eval};
use mcc::{codegen, driver, kernel, loader};
use mcc_targets::{Config, Target};

/// Seeded numbers from -2 to 2.
fn tensor(shape: &[usize], seed: u64) -> Tensor {
    Random::new(seed).floats(shape, 2.0).unwrap()
}

fn dims(d: &[i64]) -> Vec<Dim> {
    d.iter().map(|&d| Dim::from(d)).collect()
}

/// Compares the compiled graph with the evaluator; returns the program for further checks.
fn check(graph: &Graph, inputs: &[Tensor]) -> kernel::program::Program {
    let config = Config::host(None).unwrap();
    let program = kernel::lower(graph, &config, "m").unwrap();
    let compiled = codegen::compile(&program, &config.target).unwrap();
    let model = loader::Model::load(&compiled.object).unwrap();
    let got = model.invoke(inputs).unwrap();
    let want = eval::eval_graph(graph, inputs).unwrap();
    assert_eq!(got.len(), want.len());
    for (n, (g, w)) in got.iter().zip(&want).enumerate() {
        assert_eq!((g.dtype(), g.shape()), (w.dtype(), w.shape()), "output {n}");
        for (i, (a, b)) in g.to_f64s().iter().zip(w.to_f64s()).enumerate() {
            let close = (a - b).abs() <= 1e-5 * b.abs().max(1.0) || a.is_nan() && b.is_nan();
            assert!(close, "output {n}, element {i}: {a}, expected {b}");
        }
    }
    program
}

struct Case {
    graph: Graph,
    inputs: Vec<Tensor>,
}

impl Case {
    fn new() -> Case {
        Case { graph: Graph::new(), inputs: Vec::new() }
    }

    fn input(&mut self, name: &str, shape: &[usize]) -> Value {
        self.inputs.push(tensor(shape, self.inputs.len() as u64 + 1));
        self.graph.add_input(name, TensorType::fixed(DType::F32, shape))
    }

    fn op(&mut self, op: Op, operands: &[Value]) -> Value {
        self.graph.add(op, operands).unwrap()
    }

    fn output(&mut self, value: Value) {
        let name = format!("y{}", self.graph.outputs.len());
        self.graph.outputs.push(mcc::ir::Output { name, value });
    }

    fn check(&self) -> kernel::program::Program {
        check(&self.graph, &self.inputs)
    }
}

#[test]
fn a_chain_is_one_kernel() {
    for n in [1, 3, 4, 7, 64, 129] {
        let mut c = Case::new();
        let (x, b) = (c.input("x", &[n]), c.input("b", &[1]));
        let s = c.op(Op::Unary(UnaryOp::Sigmoid), &[x]);
        let y = c.op(Op::Binary(BinaryOp::Mul), &[x, s]);
        let z = c.op(Op::Binary(BinaryOp::Add), &[y, b]);
        c.output(z);
        assert_eq!(c.check().steps.len(), 1);
    }
}

#[test]
fn a_diamond_is_one_kernel() {
    let mut c = Case::new();
    let x = c.input("x", &[5, 9]);
    let half = c.graph.constant(Tensor::scalar_f64(DType::F32, 0.5));
    let e = c.op(Op::Unary(UnaryOp::Exp), &[x]);
    let a = c.op(Op::Binary(BinaryOp::Mul), &[e, half]);
    let b = c.op(Op::Unary(UnaryOp::Neg), &[e]);
    let y = c.op(Op::Binary(BinaryOp::Add), &[a, b]);
    c.output(y);
    assert_eq!(c.check().steps.len(), 1);
}

#[test]
fn views_are_read_in_place() {
    let mut c = Case::new();
    let (x, y) = (c.input("x", &[4, 6, 10]), c.input("y", &[5, 1, 3]));
    let t = c.op(Op::Transpose { perm: vec![2, 0, 1] }, &[x]);
    let range = |start: i64, step, len: i64| Range { start: Dim::from(start), step, len: Dim::from(len) };
    let s = c.op(Op::Slice { ranges: vec![range(9, -2, 5), range(0, 1, 4), range(1, 2, 3)] }, &[t]);
    let sum = c.op(Op::Binary(BinaryOp::Add), &[s, y]);
    c.output(sum);
    assert_eq!(c.check().steps.len(), 1);
}

#[test]
fn transposes_of_odd_sizes() {
    for shape in [[3, 5, 7], [1, 8, 12], [2, 9, 4], [2, 4, 1]] {
        let mut c = Case::new();
        let x = c.input("x", &shape);
        let t = c.op(Op::Transpose { perm: vec![0, 2, 1] }, &[x]);
        let u = c.op(Op::Transpose { perm: vec![2, 1, 0] }, &[x]);
        c.output(t);
        c.output(u);
        c.check();
    }
}

#[test]
fn outputs_may_be_inputs_constants_and_twice_the_same() {
    let mut c = Case::new();
    let x = c.input("x", &[2, 3]);
    let k = c.graph.constant(tensor(&[4], 9));
    let y = c.op(Op::Unary(UnaryOp::Neg), &[x]);
    let r = c.op(Op::Reshape { shape: dims(&[3, 2]) }, &[x]);
    let s = c.op(Op::Reshape { shape: dims(&[6]) }, &[y]);
    for v in [x, k, y, y, r, s] {
        c.output(v);
    }
    c.check();
}

#[test]
fn long_chains_reuse_memory() {
    let mut c = Case::new();
    let mut x = c.input("x", &[32, 32]);
    for n in 0..8 {
        // Two users each keep an operation out of the next one's kernel.
        let t = c.op(Op::Transpose { perm: vec![1, 0] }, &[x]);
        let e = c.op(Op::Unary(if n % 2 == 0 { UnaryOp::Tanh } else { UnaryOp::Sin }), &[x]);
        x = c.op(Op::Binary(BinaryOp::Sub), &[e, t]);
    }
    c.output(x);
    let program = c.check();
    let (arena, live) = (program.arena_bytes.as_const().unwrap(), program.live_bytes.as_const().unwrap());
    assert!(arena * 10 <= live * 13, "arena {arena}, live {live}");
    assert!(arena <= 2 * 4096);
}

#[test]
fn symbolic_dimensions() {
    let mut graph = Graph::new();
    let (rows, cols) = (Dim::sym("rows"), Dim::sym("cols"));
    let x = graph.add_input("x", TensorType::new(DType::F32, vec![rows.clone(), cols.clone()]));
    let b = graph.add_input("b", TensorType::new(DType::F32, vec![cols.clone()]));
    let sum = graph.add(Op::Binary(BinaryOp::Add), &[x, b]).unwrap();
    let turned = graph.add(Op::Transpose { perm: vec![1, 0] }, &[sum]).unwrap();
    let e = graph.add(Op::Unary(UnaryOp::Exp), &[turned]).unwrap();
    let flat = graph.add(Op::Reshape { shape: vec![&rows * &cols] }, &[e]).unwrap();
    let size = graph.add(Op::Dims(vec![&rows * &cols, cols.clone()]), &[]).unwrap();
    for (name, value) in [("flat", flat), ("size", size), ("sum", sum)] {
        graph.outputs.push(mcc::ir::Output { name: name.into(), value });
    }
    for (r, c) in [(1, 1), (3, 5), (8, 4), (7, 33)] {
        check(&graph, &[tensor(&[r, c], 1), tensor(&[c], 2)]);
    }
}

#[test]
fn weights_may_stay_outside() {
    let mut c = Case::new();
    let x = c.input("weights", &[3, 5]);
    let (w, b) = (c.graph.constant(tensor(&[5, 4], 7)), c.graph.constant(tensor(&[4], 8)));
    let y = c.op(Op::MatMul, &[x, w]);
    let y = c.op(Op::Binary(BinaryOp::Add), &[y, b]);
    c.output(y);
    let config = Config::host(None).unwrap();
    let mut program = kernel::lower(&c.graph, &config, "m").unwrap();
    let weights = kernel::weights::separate(std::slice::from_mut(&mut program)).unwrap();
    assert!(program.constants.is_empty());
    assert_ne!(program.inputs[0].c_name, program.inputs[1].c_name);
    let compiled = codegen::compile(&program, &config.target).unwrap();
    let model = loader::Model::load(&compiled.object).unwrap();
    let bytes = |data: Vec<u8>| Tensor::new(DType::U8, vec![data.len()], data.into()).unwrap();
    let (blob, others) = (bytes(weights.to_vec()), bytes(weights.iter().map(|b| b ^ 1).collect()));
    let got = model.invoke(&[c.inputs[0].clone(), blob]).unwrap();
    let want = eval::eval_graph(&c.graph, &c.inputs).unwrap();
    for (a, b) in got[0].to_f64s().iter().zip(want[0].to_f64s()) {
        assert!((a - b).abs() < 1e-5);
    }
    // Other weights are rejected, whatever their size.
    let error = model.invoke(&[c.inputs[0].clone(), others]).unwrap_err().to_string();
    assert!(error.contains("\"weights_2\" must be the file of weights"), "{error}");
    assert!(model.invoke(&[c.inputs[0].clone(), Tensor::zeros(DType::U8, vec![8])]).is_err());
}

/// Weights that an object cannot hold are kept out of it without an option.
#[test]
fn weights_beyond_a_limit_stay_outside() {
    let mut c = Case::new();
    let x = c.input("x", &[3, 5]);
    let w = c.graph.constant(tensor(&[5, 40], 7));
    let y = c.op(Op::MatMul, &[x, w]);
    c.output(y);
    let compiled = |embedded_limit: usize| {
        let options =
            driver::Options { embedded_limit, ..driver::Options::new(Target::all_host(None).unwrap(), "m").unwrap() };
        driver::compile_graph(c.graph.clone(), &options).unwrap()
    };
    let (embedded, separate) = (compiled(driver::EMBEDDED_LIMIT), compiled(799));
    assert!(embedded.weights.is_none() && !embedded.code.header.contains("not in the object"));
    let bytes = separate.weights.as_ref().unwrap().len();
    assert!(bytes >= 800, "{bytes}");
    assert!(separate.code.header.contains("input 1 is the content of the file"), "{}", separate.code.header);
    let want = eval::eval_graph(&c.graph, &c.inputs).unwrap();
    for compiled in [embedded, separate] {
        assert_eq!(compiled.inputs().len(), 1);
        let model = loader::Model::load(&compiled.code.object).unwrap();
        let got = model.invoke(&compiled.with_weights(c.inputs.clone()).unwrap()).unwrap();
        for (a, b) in got[0].to_f64s().iter().zip(want[0].to_f64s()) {
            assert!((a - b).abs() < 1e-5);
        }
    }
}

#[test]
fn sizes_that_overflow_are_refused() {
    let mut graph = Graph::new();
    let x = graph.add_input("x", TensorType::new(DType::F32, dims(&[1 << 40, 1 << 30])));
    let error = graph.add(Op::Unary(UnaryOp::Exp), &[x]).unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
}

#[test]
fn planes_become_pixels() {
    for (planes, height, width) in [(3, 7, 11), (2, 4, 16), (3, 1, 50), (4, 5, 9)] {
        let mut c = Case::new();
        let x = c.input("x", &[2, planes, height, width]);
        let y = c.op(Op::Transpose { perm: vec![0, 2, 3, 1] }, &[x]);
        c.output(y);
        c.check();
    }
}

#[test]
fn every_other_element() {
    for (rows, columns) in [(4, 64), (3, 35), (1, 7), (5, 100)] {
        for start in [0usize, 1] {
            let mut c = Case::new();
            let (x, y) = (c.input("x", &[rows, 2 * columns]), c.input("y", &[rows, columns]));
            let all = Range { start: Dim::ZERO, step: 1, len: rows.into() };
            let ranges = vec![all, Range { start: start.into(), step: 2, len: columns.into() }];
            let x = c.op(Op::Slice { ranges }, &[x]);
            let sum = c.op(Op::Binary(BinaryOp::Add), &[x, y]);
            c.output(sum);
            c.check();
        }
    }
}

#[test]
fn short_last_axes_are_one_long_row() {
    // A group norm's last step over channels last: groups of two or three channels.
    for (pixels, groups, channels) in [(40, 32, 2), (9, 5, 3), (300, 3, 1)] {
        let mut c = Case::new();
        let x = c.input("x", &[2, pixels, groups, channels]);
        let mean = c.input("mean", &[2, 1, groups, 1]);
        let (scale, bias) = (c.input("scale", &[1, 1, groups, channels]), c.input("bias", &[1]));
        let away = c.op(Op::Binary(BinaryOp::Sub), &[x, mean]);
        let scaled = c.op(Op::Binary(BinaryOp::Mul), &[away, scale]);
        let y = c.op(Op::Binary(BinaryOp::Add), &[scaled, bias]);
        c.output(y);
        assert_eq!(c.check().steps.len(), 1);
    }
}
