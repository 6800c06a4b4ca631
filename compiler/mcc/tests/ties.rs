//! Quantizing floats divides by the scale, exact to the last bit, also next to ties.

use mcc::ir::{BinaryOp, DType, Graph, Op, Output, Tensor, TensorType, UnaryOp, Value, eval};
use mcc::{codegen, kernel, loader, passes};
use mcc_targets::Config;

const CPUS: [&str; 6] = ["x86-64-v2", "x86-64-v3", "x86-64-v3,-fma", "x86-64-v4", "native", "generic"];

/// Scales as tools write them, most of which have no exact reciprocal.
const SCALES: [f32; 6] = [0.1, 0.003_921_569, 0.023_622_05, 0.007_843_138, 1.7, 0.062_5];

fn op(g: &mut Graph, op: Op, operands: &[Value]) -> Value {
    g.add(op, operands).unwrap()
}

/// `cast(min(max(round(x / scale) + zero, low), high))`.
fn quantized(g: &mut Graph, x: Value, scales: Tensor, (zero, low, high): (f64, f64, f64), to: DType) -> Value {
    let scale = g.constant(scales);
    let divided = op(g, Op::Binary(BinaryOp::Div), &[x, scale]);
    let mut v = op(g, Op::Unary(UnaryOp::Round), &[divided]);
    for (f, number) in [(BinaryOp::Add, zero), (BinaryOp::Max, low), (BinaryOp::Min, high)] {
        let number = g.constant(Tensor::scalar_f64(DType::F32, number));
        v = op(g, Op::Binary(f), &[v, number]);
    }
    op(g, Op::Cast { to, saturate: true }, &[v])
}

/// Per scale, a row of 600 numbers within three units in the last place of a tie.
fn next_to_ties(steps: f32) -> Vec<f32> {
    let row = |scale: f32| {
        (0..600).map(move |i| {
            let tie = (((i * 7919) % 600) as f32 / 600.0 - 0.5) * steps;
            let x = (tie.floor() + 0.5) * scale;
            f32::from_bits(x.to_bits().wrapping_add_signed(i % 7 - 3))
        })
    };
    SCALES.into_iter().flat_map(row).collect()
}

fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
    let values: Vec<f64> = values.iter().copied().map(f64::from).collect();
    Tensor::from_f64s(DType::F32, shape.to_vec(), &values).unwrap()
}

/// Compares the results of each level here, with and without the passes that are not required.
fn check(graph: &Graph, input: &Tensor) {
    let want = eval::eval_graph(graph, std::slice::from_ref(input)).unwrap();
    let mut ran = 0;
    for cpu in CPUS {
        let Ok(config) = Config::host(Some(cpu)) else { continue };
        if !config.target.runs_here() {
            continue;
        }
        for effort in [passes::Effort::Full, passes::Effort::Required] {
            let mut graph = graph.clone();
            passes::run(&mut graph, &config, effort, &mut |_, _| {}).unwrap();
            let program = kernel::lower(&graph, &config, "m").unwrap();
            let object = codegen::compile(&program, &config.target).unwrap().object;
            let got = loader::Model::load(&object).unwrap().invoke(std::slice::from_ref(input));
            let got = got.unwrap_or_else(|e| panic!("{cpu}: {e}"));
            ran += 1;
            for ((got, want), output) in got.iter().zip(&want).zip(&graph.outputs) {
                let (got, want) = (got.to_f64s(), want.to_f64s());
                let differ = got.iter().zip(&want).filter(|(g, w)| g != w).count();
                assert_eq!(differ, 0, "{cpu}: {differ} of {} of {} differ", want.len(), output.name);
            }
        }
    }
    assert!(ran > 0, "no level runs here");
}

#[test]
fn codes_are_of_a_division() {
    let rows = SCALES.len();
    let mut g = Graph::new();
    let x = g.add_input("x", TensorType::fixed(DType::F32, &[rows, 600]));
    // A rectifier and a reshape in between do not permit a multiplication.
    let nothing = g.constant(Tensor::scalar_f64(DType::F32, 0.0));
    let rectified = op(&mut g, Op::Binary(BinaryOp::Max), &[x, nothing]);
    let limits =
        [(DType::U8, 117.0, 0.0, 255.0), (DType::I8, -5.0, -128.0, 127.0), (DType::I16, 3.0, -32768.0, 32767.0)];
    for (to, zero, low, high) in limits {
        for (name, of) in [("x", x), ("rectified", rectified)] {
            let y = quantized(&mut g, of, tensor(&[rows, 1], &SCALES), (zero, low, high), to);
            g.outputs.push(Output { name: format!("{name} to {to}"), value: y });
        }
        let y = quantized(&mut g, x, tensor(&[], &SCALES[..1]), (zero, low, high), to);
        g.outputs.push(Output { name: format!("x by one scale to {to}"), value: y });
    }
    let scale = g.constant(tensor(&[rows, 1], &SCALES));
    let divided = op(&mut g, Op::Binary(BinaryOp::Div), &[x, scale]);
    let y = op(&mut g, Op::Cast { to: DType::F8E4M3FN, saturate: true }, &[divided]);
    g.outputs.push(Output { name: "x to f8".into(), value: y });
    for steps in [256.0, 65536.0] {
        let input = tensor(&[rows, 600], &next_to_ties(steps));
        check(&g, &input);
    }
}

/// A function that targets compute differently in the last bit is still divided, if its value is also used directly.
#[test]
fn codes_of_what_is_an_output_too() {
    let mut g = Graph::new();
    let x = g.add_input("x", TensorType::fixed(DType::F32, &[SCALES.len(), 600]));
    let y = op(&mut g, Op::Unary(UnaryOp::Tanh), &[x]);
    let codes = quantized(&mut g, y, tensor(&[], &[1.0 / 127.0]), (0.0, -128.0, 127.0), DType::I8);
    g.outputs.push(Output { name: "y".into(), value: y });
    g.outputs.push(Output { name: "codes".into(), value: codes });
    let input = tensor(&[SCALES.len(), 600], &next_to_ties(20.0));
    let mut second = Graph::new();
    let seen = second.add_input("y", TensorType::fixed(DType::F32, &[SCALES.len(), 600]));
    let again = quantized(&mut second, seen, tensor(&[], &[1.0 / 127.0]), (0.0, -128.0, 127.0), DType::I8);
    second.outputs.push(Output { name: "codes".into(), value: again });
    let config = Config::host(None).unwrap();
    passes::run(&mut g, &config, passes::Effort::Full, &mut |_, _| {}).unwrap();
    let program = kernel::lower(&g, &config, "m").unwrap();
    let object = codegen::compile(&program, &config.target).unwrap().object;
    let got = loader::Model::load(&object).unwrap().invoke(&[input]).unwrap();
    let want = eval::eval_graph(&second, &got[..1]).unwrap();
    assert_eq!(got[1].to_f64s(), want[0].to_f64s());
}
