//! Quantized layers as tools write them, compiled for each kind of vector here: stored codes differ by at most one step
//! from those of the layers as written, in floats, and only next to a tie.

use mcc::ir::{
    BinaryOp, ConvSpec, DType, Graph, Layout, Op, Output, PoolKind, PoolSpec, Random, ReduceKind, Tensor, TensorType,
    UnaryOp, Value, eval,
};
use mcc::{codegen, kernel, loader, passes};
use mcc_targets::{Config, Target};

/// The levels to check, if this machine runs them; `mcc cpus` lists them.
const CPUS: [&str; 4] = ["native", "native-avx512vbmi", "x86-64-v3+avxvnni", "x86-64-v3"];

/// Distance from a tie, in steps, within which results may differ.
const MAX_TIE_DISTANCE: f64 = 2e-3;

/// A graph under construction, its inputs, and the values that are rounded to its outputs.
struct Model {
    graph: Graph,
    inputs: Vec<Tensor>,
    seed: u64,
    rounded: Vec<Value>,
    /// The largest code of a weight, and the number of weights per non-zero.
    most: f64,
    share: usize,
}

/// Scale, zero point and type of codes.
type Code = (f64, i64, DType);

impl Model {
    fn new() -> Model {
        Model { graph: Graph::new(), inputs: Vec::new(), seed: 1, rounded: Vec::new(), most: 127.0, share: 1 }
    }

    fn op(&mut self, op: Op, operands: &[Value]) -> Value {
        self.graph.add(op, operands).unwrap()
    }

    fn number(&mut self, c: f64) -> Value {
        self.graph.constant(Tensor::scalar_f64(DType::F32, c))
    }

    /// Numbers from -1 to 1 times a bound.
    fn noise(&mut self, shape: &[usize], bound: f64) -> Tensor {
        self.seed += 1;
        Random::new(self.seed).floats(shape, bound).unwrap()
    }

    fn input(&mut self, shape: &[usize]) -> Value {
        let data = self.noise(shape, 3.0);
        self.inputs.push(data);
        self.graph.add_input(&format!("x{}", self.inputs.len()), TensorType::fixed(DType::F32, shape))
    }

    fn quantize(&mut self, x: Value, (scale, zero, dtype): Code) -> Value {
        let (scale, zero) = (self.number(scale), self.number(zero as f64));
        let (low, high) = match dtype {
            DType::U8 => (0.0, 255.0),
            DType::U16 => (0.0, 65535.0),
            DType::I16 => (-32768.0, 32767.0),
            _ => (-128.0, 127.0),
        };
        let (low, high) = (self.number(low), self.number(high));
        let scaled = self.op(Op::Binary(BinaryOp::Div), &[x, scale]);
        self.rounded.push(scaled);
        let mut v = self.op(Op::Unary(UnaryOp::Round), &[scaled]);
        for (op, other) in [(BinaryOp::Add, zero), (BinaryOp::Max, low), (BinaryOp::Min, high)] {
            v = self.op(Op::Binary(op), &[v, other]);
        }
        self.op(Op::Cast { to: dtype, saturate: true }, &[v])
    }

    fn dequantize(&mut self, codes: Value, (scale, zero, dtype): Code) -> Value {
        let zero = self.graph.constant(Tensor::scalar_i64(dtype, zero));
        let [wide, zero] = [codes, zero].map(|v| self.op(Op::Cast { to: DType::F32, saturate: true }, &[v]));
        let centred = self.op(Op::Binary(BinaryOp::Sub), &[wide, zero]);
        let scale = self.number(scale);
        self.op(Op::Binary(BinaryOp::Mul), &[centred, scale])
    }

    /// Quantizes and dequantizes.
    fn through(&mut self, x: Value, code: Code) -> Value {
        let codes = self.quantize(x, code);
        self.dequantize(codes, code)
    }

    /// Weights with one scale per element of an axis, and a bias for `out` channels.
    fn weights(&mut self, weights: &[usize], axis: usize, out: usize) -> [Value; 2] {
        let codes = self.noise(weights, self.most);
        let kept = |(i, v): (usize, &f64)| if i * 7 % self.share == 0 { v.round() as i64 } else { 0 };
        let codes = codes.to_f64s().iter().enumerate().map(kept).collect::<Vec<_>>();
        let codes = self.graph.constant(Tensor::from_i64s(DType::I8, weights.to_vec(), &codes).unwrap());
        let wide = self.op(Op::Cast { to: DType::F32, saturate: true }, &[codes]);
        let (count, fan) = (weights[axis], weights.iter().product::<usize>() / weights[axis]);
        let scales: Vec<f64> = (0..count).map(|i| (0.01 + 0.0003 * i as f64) / (fan as f64).sqrt()).collect();
        let mut shape = vec![1; weights.len()];
        shape[axis] = count;
        let scales = Tensor::from_f64s(DType::F32, shape, &scales).unwrap();
        let scales = self.graph.constant(scales);
        let w = self.op(Op::Binary(BinaryOp::Mul), &[wide, scales]);
        let bias = self.noise(&[out], 0.5);
        [w, self.graph.constant(bias)]
    }

    /// A convolution with weights with one scale per channel.
    fn conv(&mut self, x: Value, weights: &[usize], (stride, pad, group): (i64, i64, usize)) -> Value {
        let [w, bias] = self.weights(weights, 0, weights[0]);
        let spec = window(weights.len() - 2, stride, pad, group);
        self.op(Op::Conv(spec), &[x, w, bias])
    }

    /// A transposed convolution likewise.
    fn conv_transpose(&mut self, x: Value, weights: &[usize], (stride, pad, group): (i64, i64, usize)) -> Value {
        let [w, bias] = self.weights(weights, 1, weights[1] * group);
        let axes = weights.len() - 2;
        let op = Op::ConvTranspose { spec: window(axes, stride, pad, group), output_pads: vec![0; axes] };
        self.op(op, &[x, w, bias])
    }

    fn output(&mut self, value: Value) {
        let name = format!("y{}", self.graph.outputs.len());
        self.graph.outputs.push(Output { name, value });
    }

    /// Quantizes to an output.
    fn result(&mut self, x: Value, code: Code) {
        let codes = self.quantize(x, code);
        self.output(codes);
    }

    /// Compares compiled results with those as written. Codes may differ by one step if something that was rounded on
    /// the way to an element is next to a tie; only the last rounding is considered, unless there are `several`.
    fn check(&self, several: bool) {
        let want = eval::eval_graph(&self.graph, &self.inputs).unwrap();
        let mut scaled = self.graph.clone();
        scaled.outputs =
            std::iter::once(Output { name: "scaled".into(), value: *self.rounded.last().unwrap() }).collect();
        let scaled = eval::eval_graph(&scaled, &self.inputs).unwrap()[0].to_f64s();
        for cpu in CPUS {
            let Ok(config) = Config::host(Some(cpu)) else { continue };
            if !config.target.runs_here() {
                continue;
            }
            let mut graph = self.graph.clone();
            passes::run(&mut graph, &config, passes::Effort::Full, &mut |_, _| {}).unwrap();
            let program = kernel::lower(&graph, &config, "m").unwrap();
            let object = codegen::compile(&program, &config.target).unwrap().object;
            let got = loader::Model::load(&object).unwrap().invoke(&self.inputs).unwrap();
            let (got, want) = (&got[0], &want[0]);
            assert_eq!(got.ty(), want.ty());
            let mut differ = 0;
            for (i, (g, w)) in got.to_f64s().into_iter().zip(want.to_f64s()).enumerate() {
                let near = (scaled[i] - scaled[i].floor() - 0.5).abs() < MAX_TIE_DISTANCE;
                let allowed = g == w || (g - w).abs() <= 1.0 && (near || several);
                assert!(allowed, "{cpu}: element {i}: {g}, not {w}, of {}", scaled[i]);
                differ += usize::from(g != w);
            }
            assert!(differ * 200 <= got.numel(), "{cpu}: {differ} of {} differ", got.numel());
        }
    }
}

fn window(axes: usize, stride: i64, pad: i64, group: usize) -> ConvSpec {
    let (strides, dilations) = (vec![stride; axes], vec![1; axes]);
    ConvSpec { strides, dilations, pads: vec![(pad, pad); axes], group, layout: Layout::ChannelsFirst }
}

const UNSIGNED: Code = (0.025, 117, DType::U8);
const SIGNED: Code = (0.03, -5, DType::I8);

#[test]
fn convolutions() {
    for (code, weights, at) in [
        (UNSIGNED, [24, 3, 3, 3], (2, 1, 1)),
        (SIGNED, [40, 3, 3, 3], (1, 0, 1)),
        (SIGNED, [70, 20, 1, 1], (1, 0, 1)),
        (UNSIGNED, [24, 6, 3, 3], (1, 1, 4)),
    ] {
        let mut m = Model::new();
        let x = m.input(&[1, weights[1] * at.2, 9, 21]);
        let x = m.through(x, code);
        let y = m.conv(x, &weights, at);
        m.result(y, code);
        m.check(false);
    }
}

/// Windows with and without overlap, and results that extend beyond the last phase.
#[test]
fn transposed_convolutions() {
    for (code, weights, at) in [
        (UNSIGNED, &[16, 12, 4, 4][..], (2, 1, 1)),
        (SIGNED, &[8, 20, 2, 2], (2, 0, 1)),
        (UNSIGNED, &[8, 20, 3, 3], (2, 1, 1)),
        (SIGNED, &[16, 6, 3, 3], (1, 1, 2)),
        (SIGNED, &[16, 10, 5], (3, 1, 2)),
    ] {
        let mut m = Model::new();
        let x = m.input(&[&[1, weights[0]], &[5, 11][..weights.len() - 2]].concat());
        let x = m.through(x, code);
        let y = m.conv_transpose(x, weights, at);
        m.result(y, code);
        m.check(false);
    }
}

#[test]
fn depthwise() {
    for (code, weights, stride) in [
        (UNSIGNED, [40, 1, 5, 5], 1),
        (SIGNED, [24, 1, 3, 3], 1),
        (SIGNED, [8, 1, 3, 3], 2),
        (UNSIGNED, [100, 1, 3, 3], 2),
        (UNSIGNED, [3, 1, 3, 3], 1),
    ] {
        let mut m = Model::new();
        let x = m.input(&[1, weights[0], 7, 19]);
        let x = m.through(x, code);
        let y = m.conv(x, &weights, (stride, weights[2] as i64 / 2, weights[0]));
        m.result(y, code);
        m.check(false);
    }
}

/// Windows along one axis, some longer than two axes allow.
#[test]
fn depthwise_lines() {
    for (code, weights, stride) in [(UNSIGNED, [40, 1, 5], 1), (SIGNED, [18, 1, 31], 1), (UNSIGNED, [7, 1, 3], 2)] {
        let mut m = Model::new();
        let x = m.input(&[1, weights[0], 45]);
        let x = m.through(x, code);
        let y = m.conv(x, &weights, (stride, weights[2] as i64 / 2, weights[0]));
        m.result(y, code);
        m.check(false);
    }
}

/// An object with code for several CPU levels has one copy of the weights, in whatever form.
#[test]
fn levels_share_weights() {
    let targets = Target::all("x86_64-unknown-linux-gnu", None).unwrap();
    assert!(targets.len() > 1);
    for (quantized, most, share, bits) in [(true, 127.0, 1, 8.0), (true, 127.0, 5, 3.0), (false, 7.0, 1, 4.0)] {
        let mut m = Model { most, share, ..Model::new() };
        let mut x = m.input(&[1, 64, 14, 14]);
        let layers = [([256, 64, 1, 1], (1, 0, 1)), ([100, 256, 1, 1], (2, 0, 1)), ([200, 100, 3, 3], (1, 1, 1))];
        for (weights, at) in layers {
            x = if quantized { m.through(x, SIGNED) } else { x };
            x = m.conv(x, &weights, at);
        }
        m.output(x);
        let programs: Vec<_> = targets
            .iter()
            .map(|target| {
                let config = Config::from(target.clone());
                let mut graph = m.graph.clone();
                passes::run(&mut graph, &config, passes::Effort::Full, &mut |_, _| {}).unwrap();
                kernel::lower(&graph, &config, "m").unwrap()
            })
            .collect();
        let variants: Vec<_> =
            programs.iter().zip(&targets).map(|(program, target)| codegen::Variant { program, target }).collect();
        let bytes = |variants: &[codegen::Variant<'_>]| codegen::compile_variants(variants).unwrap().weights_bytes;
        let (all, best) = (bytes(&variants), bytes(&variants[variants.len() - 1..]));
        assert!(all * 100 <= best * 105, "{bits} bits: {all} bytes for {} levels, {best} for one", targets.len());
        let elements: usize = layers.iter().map(|l| l.0.iter().product::<usize>()).sum();
        assert!(best as f64 * 8.0 < elements as f64 * bits * 1.1, "{bits} bits: {best} bytes for {elements} elements");
    }
}

/// Data of 16 bits, whose high and low bytes are multiplied.
#[test]
fn words() {
    let codes = [(0.001, 30000, DType::U16), (0.0008, -300, DType::I16)];
    for (code, weights, at) in [
        (codes[0], [40, 16, 1, 1], (1, 0, 1)),
        (codes[1], [24, 6, 3, 3], (2, 1, 2)),
        (codes[0], [12, 1, 3, 3], (1, 1, 12)),
    ] {
        let mut m = Model::new();
        let x = m.input(&[1, weights[1] * at.2, 9, 21]);
        let x = m.through(x, code);
        let y = m.conv(x, &weights, at);
        m.result(y, code);
        m.check(true);
    }
}

/// Two convolutions that read one sum; the codes of each are stored.
#[test]
fn sums_of_layers() {
    let mut m = Model::new();
    let x = m.input(&[1, 16, 6, 11]);
    let x = m.through(x, UNSIGNED);
    let branches = [0, 1].map(|_| {
        let y = m.conv(x, &[72, 16, 1, 1], (1, 0, 1));
        m.through(y, SIGNED)
    });
    let sum = m.op(Op::Binary(BinaryOp::Add), &branches);
    m.result(sum, (0.0537, 3, DType::U8));
    m.check(true);
}

/// A channel is scaled by its mean: sums of bytes, and products of rows too short for whole vectors.
#[test]
fn scaled_channels() {
    for channels in [8, 40, 88] {
        let mut m = Model::new();
        let x = m.input(&[1, channels, 12, 32]);
        let x = m.through(x, SIGNED);
        let mean = m.op(Op::Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep: true }, &[x]);
        let gate = m.op(Op::Unary(UnaryOp::Sigmoid), &[mean]);
        let gate = m.through(gate, (1.0 / 255.0, 0, DType::U8));
        let y = m.op(Op::Binary(BinaryOp::Mul), &[x, gate]);
        let y = m.through(y, SIGNED);
        let y = m.conv(y, &[16, channels, 1, 1], (1, 0, 1));
        m.result(y, SIGNED);
        m.check(true);
    }
}

/// Channel shuffles and maximum pooling: bytes move, nothing is rounded.
#[test]
fn moved_bytes() {
    for (groups, each) in [(4, 34), (3, 10), (2, 25), (8, 20), (12, 17), (5, 9)] {
        let mut m = Model::new();
        let channels = groups * each;
        let x = m.input(&[1, channels, 8, 8]);
        let x = m.through(x, UNSIGNED);
        let dim = |n: usize| mcc::ir::Dim::from(n);
        let split = [1, groups, each, 8, 8].map(dim).to_vec();
        let x = m.op(Op::Reshape { shape: split }, &[x]);
        let x = m.op(Op::Transpose { perm: vec![0, 2, 1, 3, 4] }, &[x]);
        let x = m.op(Op::Reshape { shape: [1, channels, 8, 8].map(dim).to_vec() }, &[x]);
        let spec = PoolSpec {
            kind: PoolKind::Max,
            kernel: vec![3, 3],
            strides: vec![2, 2],
            dilations: vec![1, 1],
            pads: vec![(1, 1); 2],
            ceil: false,
            layout: Layout::ChannelsFirst,
        };
        let x = m.op(Op::Pool(spec), &[x]);
        m.result(x, UNSIGNED);
        m.check(false);
    }
}
