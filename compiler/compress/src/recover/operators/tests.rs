//! Every operator against the reference evaluator: its results, and its gradients against finite differences of the
//! evaluator's results in 64-bit floats.

use mcc_ir::eval::eval_op;
use mcc_ir::{DType, Op, Tensor, TensorType, text};

use super::{Call, Pass, operator};

/// Operations on operands named by their types; elements are spread around 0, or above it after `+`. Integers are 1, 2, ...
const CASES: &[&str] = &[
    "neg f32[6] -> f32[6]",
    "abs f32[6] -> f32[6]",
    "sqrt +f32[6] -> f32[6]",
    "reciprocal +f32[6] -> f32[6]",
    "exp f32[6] -> f32[6]",
    "log +f32[6] -> f32[6]",
    "sin f32[6] -> f32[6]",
    "cos f32[6] -> f32[6]",
    "atan f32[6] -> f32[6]",
    "tanh f32[6] -> f32[6]",
    "erf f32[6] -> f32[6]",
    "gelu f32[6] -> f32[6]",
    "sigmoid f32[6] -> f32[6]",
    "softplus f32[6] -> f32[6]",
    "add f32[2, 3, 1] f32[3, 4] -> f32[2, 3, 4]",
    "sub f32[] f32[2, 3] -> f32[2, 3]",
    "mul f32[1, 3, 1, 1] f32[2, 3, 2, 2] -> f32[2, 3, 2, 2]",
    "mul f32[2, 1, 3] f32[4, 1] -> f32[2, 4, 3]",
    "div f32[2, 3] +f32[3] -> f32[2, 3]",
    "pow +f32[2, 3] f32[] -> f32[2, 3]",
    "min f32[2, 3] f32[3] -> f32[2, 3]",
    "max f32[2, 3] f32[2, 1] -> f32[2, 3]",
    "reshape {shape=[3, 2]} f32[2, 3] -> f32[3, 2]",
    "transpose {perm=[2, 0, 1]} f32[2, 3, 4] -> f32[4, 2, 3]",
    "broadcast {shape=[2, 3]} f32[2, 1] -> f32[2, 3]",
    "slice {ranges=[1:2, 3:2:-2]} f32[3, 4] -> f32[2, 2]",
    "concat {axis=1} f32[2, 1, 2] f32[2, 3, 2] -> f32[2, 4, 2]",
    "resize {sizes=[1, 2, 6, 5], mode=nearest, coordinates=asymmetric, nearest=floor, scales=[1.0, 1.0, 2.0, 1.0], \
     cubic_a=-0.75, exclude_outside=false, antialias=false, extrapolation=0.0, roi=[]} f32[1, 2, 3, 5] -> f32[1, 2, 6, 5]",
    "resize {sizes=[1, 2, 6, 3], mode=linear, coordinates=half_pixel, nearest=floor, scales=[1.0, 1.0, 2.0, 0.6], \
     cubic_a=-0.75, exclude_outside=false, antialias=false, extrapolation=0.0, roi=[]} f32[1, 2, 3, 5] -> f32[1, 2, 6, 3]",
    "resize {sizes=[1, 1, 7, 5], mode=cubic, coordinates=align_corners, nearest=floor, scales=[1.0, 1.0, 0.0, 1.0], \
     cubic_a=-0.5, exclude_outside=false, antialias=false, extrapolation=0.0, roi=[]} f32[1, 1, 4, 5] -> f32[1, 1, 7, 5]",
    "matmul f32[2, 3] f32[3, 4] -> f32[2, 4]",
    "matmul f32[2, 2, 3] f32[3, 4] -> f32[2, 2, 4]",
    "matmul f32[2, 1, 2, 3] f32[3, 3, 4] -> f32[2, 3, 2, 4]",
    "conv {strides=[2, 1], dilations=[1, 2], pads=[(1, 0), (0, 1)], group=2, layout=channels_first} \
     f32[2, 4, 5, 5] f32[6, 2, 2, 2] f32[6] -> f32[2, 6, 3, 4]",
    "conv {strides=[1, 1], dilations=[1, 1], pads=[(1, 1), (1, 1)], group=1, layout=channels_first} \
     f32[2, 2, 4, 5] f32[3, 2, 3, 3] -> f32[2, 3, 4, 5]",
    "conv {strides=[1, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_first} \
     f32[2, 3, 2, 2] f32[4, 3, 1, 1] f32[4] -> f32[2, 4, 2, 2]",
    "conv {strides=[2, 2], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_first} \
     f32[1, 3, 5, 5] f32[4, 3, 1, 1] f32[4] -> f32[1, 4, 3, 3]",
    "conv {strides=[2, 2], dilations=[1, 1], pads=[(2, 2), (2, 2)], group=3, layout=channels_first} \
     f32[1, 3, 5, 6] f32[6, 1, 5, 5] f32[6] -> f32[1, 6, 3, 3]",
    "conv {strides=[2], dilations=[3], pads=[(5, 4)], group=1, layout=channels_first} f32[1, 2, 7] f32[3, 2, 3] -> f32[1, 3, 5]",
    "conv {strides=[1, 1, 1], dilations=[1, 1, 1], pads=[(1, 0), (0, 1), (1, 1)], group=1, layout=channels_first} \
     f32[1, 2, 3, 3, 2] f32[2, 2, 2, 2, 3] -> f32[1, 2, 3, 3, 2]",
    "conv_transpose {strides=[2, 2], dilations=[1, 1], pads=[(1, 0), (0, 1)], group=2, layout=channels_first, \
     output_pads=[1, 0]} f32[1, 4, 3, 3] f32[4, 3, 3, 2] f32[6] -> f32[1, 6, 7, 5]",
    "conv_transpose {strides=[1, 2], dilations=[2, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_first, \
     output_pads=[0, 0]} f32[1, 2, 3, 3] f32[2, 1, 2, 2] -> f32[1, 1, 5, 6]",
    "pool {kind=max, kernel=[3, 2], strides=[2, 1], dilations=[1, 1], pads=[(1, 1), (0, 1)], ceil=false, \
     layout=channels_first} f32[1, 2, 5, 4] -> f32[1, 2, 3, 4]",
    "pool {kind=average, kernel=[3, 3], strides=[2, 2], dilations=[1, 1], pads=[(1, 1), (1, 1)], ceil=false, \
     layout=channels_first} f32[1, 2, 5, 4] -> f32[1, 2, 3, 2]",
    "pool {kind=average_with_padding, kernel=[3, 3], strides=[2, 2], dilations=[1, 1], pads=[(1, 1), (1, 1)], ceil=true, \
     layout=channels_first} f32[1, 2, 6, 5] -> f32[1, 2, 4, 3]",
    "reduce {kind=sum, axes=[0, 2], keep=false} f32[2, 3, 4] -> f32[3]",
    "reduce {kind=mean, axes=[1], keep=true} f32[2, 3, 4] -> f32[2, 1, 4]",
    "reduce {kind=max, axes=[1, 2], keep=false} f32[2, 3, 4] -> f32[2]",
    "reduce {kind=min, axes=[0], keep=false} f32[2, 3] -> f32[3]",
    "softmax {axis=1, log=false} f32[2, 3, 2] -> f32[2, 3, 2]",
    "softmax {axis=1, log=true} f32[2, 3] -> f32[2, 3]",
    "normalize {axis=1, epsilon=1e-5, center=true} f32[2, 3, 2] -> f32[2, 3, 2]",
    "normalize {axis=1, epsilon=1e-5, center=false} f32[2, 5] -> f32[2, 5]",
    "recurrent {cell=rnn, reverse=true, activations=[tanh, tanh, tanh], clip=none, peephole=false, coupled=false, \
     lengths=false, quantized=false, coded=none} f32[3, 2, 2] f32[2, 2] f32[2, 2] -> f32[3, 2, 2], f32[2, 2]",
    "recurrent {cell=gru, reverse=false, activations=[sigmoid, tanh, tanh], clip=none, peephole=false, coupled=false, \
     lengths=false, quantized=false, coded=none} f32[3, 2, 6] f32[2, 6] f32[2, 2] -> f32[3, 2, 2], f32[2, 2]",
    "recurrent {cell=gru_linear_before_reset, reverse=true, activations=[sigmoid, tanh, tanh], clip=none, \
     peephole=false, coupled=false, lengths=false, quantized=false, coded=none} f32[3, 2, 6] f32[2, 6] f32[2, 2] f32[2] \
     -> f32[3, 2, 2], f32[2, 2]",
    "recurrent {cell=lstm, reverse=false, activations=[sigmoid, tanh, tanh], clip=none, peephole=false, coupled=false, \
     lengths=false, quantized=false, coded=none} f32[3, 2, 8] f32[2, 8] f32[2, 2] f32[2, 2] \
     -> f32[3, 2, 2], f32[2, 2], f32[2, 2]",
    "recurrent {cell=lstm, reverse=true, activations=[softsign, softplus, tanh], clip=1.3, peephole=true, coupled=true, \
     lengths=false, quantized=false, coded=none} f32[3, 2, 8] f32[2, 8] f32[2, 2] f32[2, 2] f32[6] \
     -> f32[3, 2, 2], f32[2, 2], f32[2, 2]",
    "recurrent {cell=lstm, reverse=false, activations=[sigmoid, tanh, tanh], clip=0.4, peephole=true, coupled=false, \
     lengths=false, quantized=false, coded=none} f32[4, 1, 12] f32[3, 12] f32[1, 3] f32[1, 3] f32[9] \
     -> f32[4, 1, 3], f32[1, 3], f32[1, 3]",
    "recurrent {cell=lstm, reverse=true, activations=[sigmoid, tanh, tanh], clip=none, peephole=false, coupled=true, \
     lengths=true, quantized=false, coded=none} f32[3, 3, 8] f32[2, 8] f32[3, 2] f32[3, 2] i64[3] \
     -> f32[3, 3, 2], f32[3, 2], f32[3, 2]",
    "recurrent {cell=gru, reverse=false, activations=[sigmoid, tanh, tanh], clip=none, peephole=false, coupled=false, \
     lengths=true, quantized=false, coded=none} f32[3, 3, 6] f32[2, 6] f32[3, 2] i64[3] -> f32[3, 3, 2], f32[3, 2]",
    "recurrent {cell=rnn, reverse=false, activations=[tanh, tanh, tanh], clip=none, peephole=false, coupled=false, \
     lengths=true, quantized=false, coded=none} f32[3, 3, 2] f32[2, 2] f32[3, 2] i64[3] -> f32[3, 3, 2], f32[3, 2]",
];

/// A case's operation with its operands in 64-bit floats, and the types of its results.
struct Case {
    op: Op,
    operands: Vec<Tensor>,
    results: Vec<TensorType>,
}

fn numbers(count: usize, seed: usize, positive: bool) -> Vec<f64> {
    let spread = |i: usize| ((i * 7919 + seed * 104_729 + 17) % 1009) as f64 / 1009.0;
    (0..count).map(|i| if positive { 0.5 + spread(i) } else { 2.0 * spread(i) - 1.0 }).collect()
}

fn case(text: &str) -> Case {
    let (text, results) = text.split_once(" -> ").unwrap();
    let first = text.find("f32[").unwrap();
    let (call, types) = text.split_at(if text[..first].ends_with('+') { first - 1 } else { first });
    let (name, attributes) = call.trim().split_once(' ').unwrap_or((call.trim(), ""));
    let types: Vec<&str> = types.split_inclusive(']').map(str::trim).collect();
    let n = types.len();
    let inputs =
        types.iter().enumerate().map(|(i, ty)| format!("%{i} = input \"x{i}\" : {}\n", ty.trim_start_matches('+')));
    let places = (0..n).map(|i| format!("%{i}")).collect::<Vec<_>>().join(", ");
    let given = (n..n + results.matches("f32[").count()).map(|i| format!("%{i}")).collect::<Vec<_>>().join(", ");
    let node = format!("{given} = {name}({places}) {attributes}").trim_end().to_string();
    let graph = inputs.collect::<String>() + &format!("{node} : {results}\noutput \"y\" = %{n}\n");
    let graph = text::parse(&graph).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    let operands = graph.inputs().iter().zip(types).enumerate().map(|(seed, (&node, text))| {
        let shape = graph.ty(node.into()).fixed_shape().unwrap();
        let count = shape.iter().product();
        match text.starts_with('i') {
            true => Tensor::from_i64s(DType::I64, shape, &(1..=count as i64).collect::<Vec<_>>()).unwrap(),
            false => Tensor::from_f64s(DType::F64, shape, &numbers(count, seed, text.starts_with('+'))).unwrap(),
        }
    });
    let value = graph.outputs[0].value;
    Case { op: graph.op(value.node).clone(), operands: operands.collect(), results: graph.types(value.node).to_vec() }
}

impl Case {
    /// The reference evaluator's results in 64-bit floats.
    fn reference(&self, operands: &[Tensor]) -> Vec<f64> {
        let results: Vec<TensorType> =
            self.results.iter().map(|ty| TensorType { dtype: DType::F64, ..ty.clone() }).collect();
        eval_op(&self.op, operands, &results).unwrap().iter().flat_map(Tensor::to_f64s).collect()
    }
}

/// The type of an operand: floats are of 32 bits.
fn single(tensor: &Tensor) -> TensorType {
    let dtype = if tensor.dtype().is_float() { DType::F32 } else { tensor.dtype() };
    TensorType { dtype, ..tensor.ty() }
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f64s().into_iter().map(|v| v as f32).collect()
}

#[test]
fn results_and_gradients_are_those_of_the_evaluator() {
    for text in CASES {
        let case = case(text);
        let types: Vec<TensorType> = case.operands.iter().map(single).collect();
        let constants = vec![None; types.len()];
        let call = Call { op: &case.op, operands: &types, constants: &constants, result: &case.results[0] };
        let operator = operator(&call).unwrap().unwrap_or_else(|| panic!("no operator for {text}"));
        let data: Vec<Vec<f32>> = case.operands.iter().map(floats).collect();
        let x: Vec<&[f32]> = data.iter().map(Vec::as_slice).collect();
        let expected = case.reference(&case.operands);
        let mut y = vec![0.0; expected.len()];
        operator.forward(&x, &mut y);
        for (n, (a, b)) in y.iter().zip(&expected).enumerate() {
            assert!((f64::from(*a) - b).abs() < 1e-5 * (1.0 + b.abs()), "{text}: element {n} is {a}, not {b}");
        }
        let dy: Vec<f32> = numbers(y.len(), 99, false).into_iter().map(|v| v as f32).collect();
        let mut dx: Vec<Option<Vec<f32>>> = x.iter().map(|x| Some(vec![0.0; x.len()])).collect();
        operator.backward(&Pass { x: &x, y: &y, dy: &dy }, &mut dx);
        for (operand, dx) in dx.iter().enumerate().filter(|(operand, _)| types[*operand].dtype.is_float()) {
            for (n, &found) in dx.as_ref().unwrap().iter().enumerate() {
                let wanted = difference(&case, operand, n, &dy);
                let off = (f64::from(found) - wanted).abs();
                assert!(
                    off < 1e-4 * (1.0 + wanted.abs()),
                    "{text}: gradient of {operand}[{n}] is {found}, not {wanted}"
                );
            }
        }
    }
}

/// The central difference of the weighted sum of results by one element of an operand.
fn difference(case: &Case, operand: usize, element: usize, dy: &[f32]) -> f64 {
    const STEP: f64 = 1e-5;
    let sum = |step: f64| -> f64 {
        let mut operands = case.operands.clone();
        let mut values = operands[operand].to_f64s();
        values[element] += step;
        operands[operand] = Tensor::from_f64s(DType::F64, operands[operand].shape().to_vec(), &values).unwrap();
        case.reference(&operands).iter().zip(dy).map(|(y, d)| y * f64::from(*d)).sum()
    };
    (sum(STEP) - sum(-STEP)) / (2.0 * STEP)
}

/// Operands after the first that are constant: a condition, indices, a padding's value.
#[test]
fn elements_that_move_take_their_gradients_along() {
    for (text, constants, from) in [
        (
            "%1 = constant [0.5] : f32[]\n%2 = pad(%0, %1) {before=[1, 0], after=[0, 1], mode=constant} : f32[3, 4]",
            1,
            vec![None, None, None, None, Some(0), Some(1), Some(2), None, Some(3), Some(4), Some(5), None],
        ),
        (
            "%1 = constant [1, 1, 0] : i64[3]\n%2 = gather(%0, %1) {axis=0} : f32[3, 3]",
            1,
            vec![Some(3), Some(4), Some(5), Some(3), Some(4), Some(5), Some(0), Some(1), Some(2)],
        ),
    ] {
        let graph = text::parse(&format!("%0 = input \"x\" : f32[2, 3]\n{text}\noutput \"y\" = %2\n")).unwrap();
        let value = graph.outputs[0].value;
        let operands = graph.operands(value.node);
        let types: Vec<TensorType> = operands.iter().map(|&v| graph.ty(v).clone()).collect();
        let known: Vec<Option<&Tensor>> = operands.iter().map(|&v| graph.as_constant(v)).collect();
        assert_eq!(known.iter().flatten().count(), constants);
        let call = Call { op: graph.op(value.node), operands: &types, constants: &known, result: graph.ty(value) };
        let operator = operator(&call).unwrap().unwrap();
        let x: Vec<f32> = (1..=6u8).map(f32::from).collect();
        let mut y = vec![0.0; from.len()];
        operator.forward(&[&x, &[]], &mut y);
        let expected: Vec<f32> = from.iter().map(|f: &Option<usize>| f.map_or(0.5, |f| x[f])).collect();
        assert_eq!(y, expected);
        let mut dx = vec![Some(vec![0.0; 6]), None];
        let dy: Vec<f32> = (0..y.len()).map(|n| n as f32).collect();
        operator.backward(&Pass { x: &[&x, &[]], y: &y, dy: &dy }, &mut dx);
        let mut wanted = vec![0.0; 6];
        from.iter().zip(&dy).filter_map(|(f, d)| Some(((*f)?, d))).for_each(|(f, d)| wanted[f] += d);
        assert_eq!(dx[0].as_ref().unwrap(), &wanted);
    }
}

/// Codes are floats that are rounded; gradients pass through.
#[test]
fn rounding_and_casts_pass_gradients_through() {
    for node in ["round(%0) : f32[3]", "cast(%0) {to=u8, saturate=true} : u8[3]"] {
        let graph = text::parse(&format!("%0 = input \"x\" : f32[3]\n%1 = {node}\noutput \"y\" = %1\n")).unwrap();
        let value = graph.outputs[0].value;
        let types = [graph.ty(graph.operands(value.node)[0]).clone()];
        let call = Call { op: graph.op(value.node), operands: &types, constants: &[None], result: graph.ty(value) };
        let operator = operator(&call).unwrap().unwrap();
        let (x, mut y) = ([2.0, 7.0, 0.0], [0.0; 3]);
        operator.forward(&[&x], &mut y);
        assert_eq!(x, y);
        let mut dx = vec![Some(vec![1.0; 3])];
        operator.backward(&Pass { x: &[&x], y: &y, dy: &[0.5, 0.25, -2.0] }, &mut dx);
        assert_eq!(dx[0].as_ref().unwrap(), &[1.5, 1.25, -1.0]);
    }
}
