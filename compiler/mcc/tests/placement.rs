//! Values that are computed at their place in a concatenation or padding: nothing is copied, and results are the same.

use mcc::ir::{BinaryOp, ConvSpec, DType, Dim, Graph, Layout, Op, Packed, PadMode, PoolKind, PoolSpec, WeightFormat};
use mcc::ir::{Random, Tensor, TensorType, UnaryOp, Value, eval};
use mcc::kernel::program::Program;
use mcc::{codegen, kernel, loader};
use mcc_targets::Config;

struct Case {
    graph: Graph,
    inputs: Vec<Tensor>,
}

fn noise(shape: &[usize], seed: u64) -> Tensor {
    Random::new(seed).floats(shape, 2.0).unwrap()
}

impl Case {
    fn new() -> Case {
        Case { graph: Graph::new(), inputs: Vec::new() }
    }

    fn input(&mut self, shape: &[usize]) -> Value {
        let n = self.inputs.len();
        self.inputs.push(noise(shape, n as u64 + 1));
        self.graph.add_input(&format!("x{n}"), TensorType::fixed(DType::F32, shape))
    }

    fn op(&mut self, op: Op, operands: &[Value]) -> Value {
        self.graph.add(op, operands).unwrap()
    }

    fn relu(&mut self, x: Value) -> Value {
        self.op(Op::Unary(UnaryOp::Abs), &[x])
    }

    fn concat(&mut self, axis: usize, parts: &[Value]) -> Value {
        self.op(Op::Concat { axis }, parts)
    }

    fn pad(&mut self, x: Value, spatial: i64) -> Value {
        let rank = self.graph.ty(x).rank();
        let mut edge = vec![Dim::ZERO; rank];
        edge[1..rank - 1].fill(Dim::from(spatial));
        let zero = self.graph.constant(Tensor::scalar_f64(DType::F32, 0.0));
        self.op(Op::Pad { before: edge.clone(), after: edge, mode: PadMode::Constant }, &[x, zero])
    }

    /// A 1x1 convolution over channels last to `out` channels.
    fn point(&mut self, x: Value, out: usize) -> Value {
        self.conv(x, out, 1, 1)
    }

    fn conv(&mut self, x: Value, out: usize, kernel: usize, stride: i64) -> Value {
        let ins = self.graph.ty(x).shape[3].as_const().unwrap() as usize;
        let panels = out.div_ceil(8);
        let w = self.graph.constant(noise(&[1, panels, kernel, kernel, ins, 8], out as u64));
        let spec = ConvSpec {
            strides: vec![stride; 2],
            dilations: vec![1; 2],
            pads: vec![(0, 0); 2],
            group: 1,
            layout: Layout::ChannelsLast,
        };
        let op = Packed { spec, kernel: vec![kernel as i64; 2], out, weights: WeightFormat::Dense };
        self.op(op.into(), &[x, w])
    }

    fn depthwise(&mut self, x: Value, kernel: usize) -> Value {
        let channels = self.graph.ty(x).shape[3].as_const().unwrap() as usize;
        let w = self.graph.constant(noise(&[kernel, kernel, channels], 9));
        let spec = ConvSpec {
            strides: vec![1; 2],
            dilations: vec![1; 2],
            pads: vec![(0, 0); 2],
            group: channels,
            layout: Layout::ChannelsLast,
        };
        let op = Packed { spec, kernel: vec![kernel as i64; 2], out: channels, weights: WeightFormat::Depthwise };
        self.op(op.into(), &[x, w])
    }

    fn pool(&mut self, x: Value) -> Value {
        let spec = PoolSpec {
            kind: PoolKind::Max,
            kernel: vec![3, 3],
            strides: vec![2, 2],
            dilations: vec![1, 1],
            pads: vec![(1, 1), (1, 1)],
            ceil: false,
            layout: Layout::ChannelsLast,
        };
        self.op(Op::Pool(spec), &[x])
    }

    fn output(&mut self, value: Value) {
        let name = format!("y{}", self.graph.outputs.len());
        self.graph.outputs.push(mcc::ir::Output { name, value });
    }

    /// Compares the compiled graph with the evaluator; returns the names of the kernels called, in order.
    fn check(&self) -> Vec<String> {
        let config = Config::host(None).unwrap();
        let program = kernel::lower(&self.graph, &config, "m").unwrap();
        let compiled = codegen::compile(&program, &config.target).unwrap();
        let model = loader::Model::load(&compiled.object).unwrap();
        let got = model.invoke(&self.inputs).unwrap();
        let want = eval::eval_graph(&self.graph, &self.inputs).unwrap();
        for (n, (g, w)) in got.iter().zip(&want).enumerate() {
            assert_eq!((g.dtype(), g.shape()), (w.dtype(), w.shape()), "output {n}");
            let want = w.to_f64s();
            let range = want.iter().fold(1.0f64, |m, v| m.max(v.abs()));
            for (i, (a, b)) in g.to_f64s().iter().zip(want).enumerate() {
                assert!((a - b).abs() <= 1e-5 * range, "output {n}, element {i}: {a}, expected {b}");
            }
        }
        names(&program)
    }
}

fn names(program: &Program) -> Vec<String> {
    program.calls().map(|call| call.kernel.name.to_string()).collect()
}

#[test]
fn a_dense_block_lies_in_its_last_concatenation() {
    let mut c = Case::new();
    let x = c.input(&[2, 5, 6, 12]);
    let mut all = c.point(x, 20);
    for _ in 0..3 {
        let active = c.relu(all);
        let padded = c.pad(active, 1);
        let new = c.conv(padded, 9, 3, 1);
        all = c.concat(3, &[all, new]);
    }
    let last = c.point(all, 7);
    c.output(last);
    let names = c.check();
    assert!(!names.iter().any(|n| n == "concat" || n == "copy"), "{names:?}");
    assert_eq!(names.len(), 1 + 3 * 3 + 1, "{names:?}");
}

#[test]
fn borders_are_filled_around_what_lies_there() {
    for (kernel, width) in [(3, 7), (5, 4)] {
        let mut c = Case::new();
        let x = c.input(&[2, 6, width, 10]);
        let a = c.point(x, 12);
        let padded = c.pad(a, kernel as i64 / 2);
        let b = c.depthwise(padded, kernel);
        // The padded value is also a residual, and another padding of it is larger.
        let sum = c.op(Op::Binary(BinaryOp::Add), &[b, a]);
        let more = c.pad(a, 3);
        let small = c.conv(more, 4, 3, 2);
        let pooled = c.pool(sum);
        c.output(pooled);
        c.output(small);
        let names = c.check();
        assert_eq!(names.iter().filter(|n| *n == "pad").count(), 2, "{names:?}");
    }
}

#[test]
fn parts_of_outputs_and_of_padding() {
    let mut c = Case::new();
    let (x, y) = (c.input(&[1, 4, 4, 8]), c.input(&[1, 4, 4, 3]));
    let (a, b) = (c.point(x, 5), c.relu(y));
    let pair = c.concat(3, &[a, b, y]);
    let padded = c.pad(pair, 1);
    let wide = c.conv(padded, 6, 3, 1);
    let back = c.relu(b);
    let joined = c.concat(1, &[wide, wide]);
    c.output(joined);
    c.output(back);
    c.output(a);
    c.check();
}

#[test]
fn parts_under_other_shapes() {
    let mut c = Case::new();
    let x = c.input(&[1, 4, 6, 8]);
    let a = c.point(x, 16);
    let b = c.point(x, 16);
    let flat = |c: &mut Case, v| c.op(Op::Reshape { shape: [1, 24, 16].map(|d| Dim::from(d as i64)).to_vec() }, &[v]);
    let (a, b) = (flat(&mut c, a), flat(&mut c, b));
    let side = c.concat(2, &[a, b]);
    let behind = c.concat(1, &[side, side]);
    let sum = c.op(Op::Binary(BinaryOp::Mul), &[a, b]);
    c.output(behind);
    c.output(sum);
    c.check();
}
