//! Separable convolutions in one kernel, compared with the evaluator: at every CPU level of this machine, with several
//! threads, and on 64-bit Arm under qemu.

use mcc_runtime::Pool;
use mcc_targets::Config;
use mcc_targets::choices::{Choices, Knob};

use super::noise;
use mcc_ir::{
    BinaryOp, ConvSpec, DType, Dim, Graph, Layout, Op, Output, Packed, Tensor, TensorType, UnaryOp, WeightFormat, eval,
};
use mcc_kernel::program::Program;

/// A depthwise convolution with these windows, and a pointwise one.
struct Case {
    /// Batch, spatial extents, channels.
    shape: &'static [usize],
    kernel: &'static [usize],
    strides: &'static [i64],
    dilations: &'static [i64],
    out: usize,
}

const CASES: &[Case] = &[
    Case { shape: &[1, 19, 23, 200], kernel: &[3, 3], strides: &[1, 1], dilations: &[1, 1], out: 20 },
    Case { shape: &[2, 33, 9, 130], kernel: &[3, 5], strides: &[2, 1], dilations: &[1, 1], out: 48 },
    Case { shape: &[1, 40, 11, 257], kernel: &[3, 3], strides: &[1, 1], dilations: &[2, 2], out: 5 },
    Case { shape: &[2, 301, 70], kernel: &[9], strides: &[1], dilations: &[3], out: 33 },
    Case { shape: &[1, 7, 6, 3], kernel: &[3, 3], strides: &[2, 2], dilations: &[1, 1], out: 2 },
];

impl Case {
    fn spec(&self, depthwise: bool) -> ConvSpec {
        let axes = self.kernel.len();
        let of = |own: &[i64]| if depthwise { own.to_vec() } else { vec![1; axes] };
        ConvSpec {
            strides: of(self.strides),
            dilations: of(self.dilations),
            pads: vec![(0, 0); axes],
            group: if depthwise { self.shape[axes + 1] } else { 1 },
            layout: Layout::ChannelsLast,
        }
    }

    /// The graph; its spatial extents are symbols if `open`.
    fn graph(&self, open: bool) -> Graph {
        let (axes, channels) = (self.kernel.len(), self.shape[self.kernel.len() + 1]);
        let mut graph = Graph::new();
        let extent = |(axis, &n): (usize, &usize)| match open && (1..=axes).contains(&axis) {
            true => Dim::sym(format!("d{axis}")),
            false => Dim::from(n),
        };
        let dims = self.shape.iter().enumerate().map(extent).collect();
        let x = graph.add_input("x", TensorType::new(DType::F32, dims));
        let constant = |graph: &mut Graph, shape: &[usize], seed| graph.constant(noise(DType::F32, shape, seed));
        let w = constant(&mut graph, &[self.kernel, &[channels]].concat(), 2);
        let kernel = self.kernel.iter().map(|&k| k as i64).collect();
        let op = Packed { spec: self.spec(true), kernel, out: channels, weights: WeightFormat::Depthwise };
        let y = graph.add_labelled(op.into(), &[x, w], "depthwise").unwrap();
        let bias = constant(&mut graph, &[channels], 3);
        let shape = graph.ty(y.into()).shape.clone();
        let bias = graph.add(Op::Broadcast { shape }, &[bias]).unwrap();
        let sum = graph.add(Op::Binary(BinaryOp::Add), &[y.into(), bias]).unwrap();
        let positive = graph.add(Op::Unary(UnaryOp::Abs), &[sum]).unwrap();
        let tile = 8;
        let packed = [&[1, self.out.div_ceil(tile)], &vec![1; axes][..], &[channels, tile]].concat();
        let packed = constant(&mut graph, &packed, 4);
        let op = Packed { spec: self.spec(false), kernel: vec![1; axes], out: self.out, weights: WeightFormat::Dense };
        let point = graph.add_labelled(op.into(), &[positive, packed], "pointwise").unwrap();
        let value = graph.add(Op::Unary(UnaryOp::Neg), &[point.into()]).unwrap();
        graph.outputs.push(Output { name: "y".into(), value });
        graph
    }

    /// Numbers, an infinity and a NaN.
    fn input(&self) -> Tensor {
        let mut values = noise(DType::F32, self.shape, 1).to_f64s();
        let count = values.len();
        (values[count / 3], values[count / 2]) = (f64::INFINITY, f64::NAN);
        Tensor::from_f64s(DType::F32, self.shape.to_vec(), &values).unwrap()
    }
}

/// Lowers a graph with all possible chains.
fn lower_chained(graph: &Graph, config: &mut Config) -> Program {
    mcc_kernel::lower(graph, config, "m").unwrap();
    let chains = config.choices.record().into_keys().filter(|key| key.1 == Knob::Chain);
    config.choices = Choices::new(&chains.map(|key| (key, 1)).collect());
    let program = mcc_kernel::lower(graph, config, "m").unwrap();
    assert_eq!(program.calls().map(|call| call.kernel.name.as_str()).collect::<Vec<_>>(), ["separable_conv"]);
    program
}

fn assert_close(got: &Tensor, want: &Tensor, what: &str) {
    assert_eq!(got.shape(), want.shape(), "{what}");
    for (i, (g, w)) in got.to_f64s().into_iter().zip(want.to_f64s()).enumerate() {
        let same = g == w || g.is_nan() && w.is_nan() || (g - w).abs() <= 1e-4 * w.abs().max(1.0);
        assert!(same, "{what}: element {i} is {g}, not {w}");
    }
}

#[test]
fn chains_compute_what_their_links_do() {
    for case in CASES {
        for open in [false, true] {
            let (graph, input) = (case.graph(open), case.input());
            let inputs = std::slice::from_ref(&input);
            let want = eval::eval_graph(&graph, inputs).unwrap();
            let what = format!("{:?} by {:?}, symbols: {open}", case.shape, case.kernel);
            for target in mcc_testing::machines() {
                let program = lower_chained(&graph, &mut Config::from(target.clone()));
                let object = mcc_codegen::compile(&program, &target).unwrap().object;
                let got = mcc_testing::invoke(&target, &object, inputs, &want);
                assert_close(&got[0], &want[0], &format!("{what} at {}", target.cpu_name()));
            }
            let mut config = Config { threads: 3, ..Config::host(Some("native")).unwrap() };
            let program = lower_chained(&graph, &mut config);
            let object = mcc_codegen::compile(&program, &config.target).unwrap().object;
            let got = mcc_loader::Model::load(&object).unwrap().invoke_on(inputs, Some(&Pool::new(3))).unwrap();
            assert_close(&got[0], &want[0], &format!("{what} on 3 threads"));
        }
    }
}

/// A result that others read too, or that is an output, must be stored.
#[test]
fn what_others_read_is_stored() {
    let (case, config) = (&CASES[0], Config::host(None).unwrap());
    let mut graph = case.graph(false);
    let node = graph.topological().into_iter().find(|&n| graph.label(n) == "pointwise").unwrap();
    let value = graph.operand(node, 0).unwrap();
    graph.outputs.push(Output { name: "between".into(), value });
    let program = mcc_kernel::lower(&graph, &config, "m").unwrap();
    assert_eq!(program.steps.len(), 2);
    assert!(config.choices.record().keys().all(|key| key.1 != Knob::Chain));
}
