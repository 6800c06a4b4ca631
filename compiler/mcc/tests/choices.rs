//! With any candidates that a table selects, models compute the same results; and the table determines the object's
//! bytes.

use mcc::ir::{BinaryOp, ConvSpec, DType, Dim, Graph, Layout, Op, Output, Random, Tensor, TensorType, eval};
use mcc::passes::{self, Effort};
use mcc::{codegen, kernel, loader};
use mcc_targets::choices::{Choices, KNOBS, Knob, Record, Table};
use mcc_targets::{CPU_LEVELS, Config, Target};

fn tensor(shape: &[usize], seed: u64) -> Tensor {
    Random::new(seed).floats(shape, 0.5).unwrap()
}

/// A convolution with equal numbers of outputs and of inputs per group, over an image of odd extents.
fn conv(x: &[usize], w: &[usize], group: usize) -> (Graph, Tensor) {
    strided(x, tensor(w, 2), group, 1)
}

fn strided(x: &[usize], weights: Tensor, group: usize, stride: i64) -> (Graph, Tensor) {
    let mut graph = Graph::new();
    let input = graph.add_input("x", TensorType::fixed(DType::F32, x));
    let kernel = weights.shape()[2..].to_vec();
    let weights = graph.constant(weights);
    let pads = kernel.iter().map(|k| (*k as i64 / 2, *k as i64 / 2)).collect();
    let (strides, dilations) = (vec![stride; kernel.len()], vec![1; kernel.len()]);
    let spec = ConvSpec { strides, dilations, pads, group, layout: Layout::ChannelsFirst };
    let value = graph.add(Op::Conv(spec), &[input, weights]).unwrap();
    graph.outputs.push(Output { name: "y".to_string(), value });
    (graph, tensor(x, 1))
}

fn product(rows: usize, depth: usize, columns: usize) -> (Graph, Tensor) {
    let mut graph = Graph::new();
    let input = graph.add_input("x", TensorType::fixed(DType::F32, &[rows, depth]));
    let (weights, bias) = (graph.constant(tensor(&[depth, columns], 2)), graph.constant(tensor(&[columns], 3)));
    let product = graph.add(Op::MatMul, &[input, weights]).unwrap();
    let shape = vec![Dim::from(rows), Dim::from(columns)];
    let bias = graph.add(Op::Broadcast { shape }, &[bias]).unwrap();
    let value = graph.add(Op::Binary(BinaryOp::Add), &[product, bias]).unwrap();
    graph.outputs.push(Output { name: "y".to_string(), value });
    (graph, tensor(&[rows, depth], 1))
}

fn object(graph: &Graph, config: &Config) -> Vec<u8> {
    let mut graph = graph.clone();
    passes::run(&mut graph, config, Effort::Full, &mut |_, _| {}).unwrap();
    let program = kernel::lower(&graph, config, "m").unwrap();
    codegen::compile(&program, &config.target).unwrap().object
}

/// Every level of x86-64, and all levels of this machine.
fn levels() -> Vec<Target> {
    let x86 = CPU_LEVELS.iter().filter_map(|l| Target::new("x86_64-unknown-linux-gnu", Some(l.name)).ok());
    let mut levels: Vec<Target> = Vec::new();
    for level in x86.chain(Target::host_levels()) {
        if levels.iter().all(|l| (l.arch, l.features) != (level.arch, level.features)) {
            levels.push(level);
        }
    }
    levels
}

/// Number of seeds of random answers per model and level.
const SEEDS: u64 = 8;

/// Random answers to all knobs; two seeds are for small objects, whose filters are transformed at run time.
fn any(level: Target, seed: u64) -> Config {
    Config { choices: Choices::any(seed), compact: seed + 2 >= SEEDS, ..Config::from(level) }
}

/// Compiles a model with all kinds of choices for every level, and runs it where this machine can. Returns the choices
/// that were requested.
fn check(graph: &Graph, x: Tensor) -> Record {
    let want = eval::eval_graph(graph, std::slice::from_ref(&x)).unwrap()[0].to_f64s();
    let mut asked = Record::new();
    for level in levels() {
        for seed in 0..SEEDS {
            let config = any(level.clone(), seed);
            let object = object(graph, &config);
            asked.extend(config.choices.record());
            if !level.runs_here() {
                continue;
            }
            let model = loader::Model::load(&object).unwrap();
            let got = model.invoke(std::slice::from_ref(&x)).unwrap()[0].to_f64s();
            for (i, (a, b)) in got.iter().zip(&want).enumerate() {
                assert!((a - b).abs() <= 1e-4, "{}, seed {seed}, element {i}: {a}, expected {b}", level.cpu_name());
            }
        }
    }
    asked
}

fn knobs(asked: &Record) -> Vec<Knob> {
    let mut knobs: Vec<Knob> = asked.keys().map(|key| key.1).collect();
    knobs.sort_unstable();
    knobs.dedup();
    knobs
}

#[test]
fn square_filters() {
    let (graph, x) = conv(&[1, 32, 19, 23], &[48, 32, 3, 3], 1);
    let knobs = knobs(&check(&graph, x));
    assert!(knobs.contains(&Knob::Filtering) && knobs.contains(&Knob::TileVectors), "{knobs:?}");
}

#[test]
fn one_channel() {
    let (graph, x) = conv(&[1, 9, 11, 40], &[1, 9, 3, 3], 1);
    assert!(knobs(&check(&graph, x)).contains(&Knob::MergedPixels));
}

#[test]
fn depthwise() {
    let (graph, x) = conv(&[1, 20, 13, 29], &[20, 1, 5, 5], 20);
    assert_eq!(knobs(&check(&graph, x)), [Knob::DepthwiseColumns]);
}

/// A depthwise convolution and a pointwise one that reads it.
fn separable() -> (Graph, Tensor) {
    let (mut graph, x) = conv(&[1, 40, 13, 29], &[40, 1, 3, 3], 40);
    let weights = graph.constant(tensor(&[24, 40, 1, 1], 3));
    let spec = ConvSpec {
        strides: vec![1; 2],
        dilations: vec![1; 2],
        pads: vec![(0, 0); 2],
        group: 1,
        layout: Layout::ChannelsFirst,
    };
    let value = graph.add(Op::Conv(spec), &[graph.outputs[0].value, weights]).unwrap();
    graph.outputs = [Output { name: "y".to_string(), value }].into_iter().collect();
    (graph, x)
}

#[test]
fn chains() {
    let (graph, x) = separable();
    assert!(knobs(&check(&graph, x)).contains(&Knob::Chain));
}

#[test]
fn products() {
    for (rows, depth, columns) in [(61, 70, 100), (49, 33, 128), (200, 700, 130), (1, 64, 64)] {
        let (graph, x) = product(rows, depth, columns);
        assert!(knobs(&check(&graph, x)).contains(&Knob::TileVectors));
    }
}

/// A convolution with one weight in eight left.
fn sparse(shape: [usize; 4], stride: i64) -> (Graph, Tensor) {
    let values = tensor(&shape, 2).to_f64s();
    let few = values.into_iter().enumerate().map(|(n, v)| if n * 5 % 8 == 0 { v } else { 0.0 });
    let weights = Tensor::from_f64s(DType::F32, shape.to_vec(), &few.collect::<Vec<_>>()).unwrap();
    strided(&[1, shape[1], 15, 29], weights, 1, stride)
}

#[test]
fn non_zeros() {
    for (shape, stride) in [([72, 48, 3, 3], 1), ([40, 24, 3, 3], 2), ([64, 96, 1, 1], 1)] {
        let (graph, x) = sparse(shape, stride);
        let knobs = knobs(&check(&graph, x));
        let sparse = [Knob::Sparse, Knob::SparseTile, Knob::SparseSlices];
        assert!(sparse.iter().all(|knob| knobs.contains(knob)), "{knobs:?}");
    }
}

/// One that asks for each knob, so that random answers to all of them are tried.
#[test]
fn every_knob_is_asked() {
    let graphs = [
        conv(&[1, 32, 19, 23], &[48, 32, 3, 3], 1),
        conv(&[1, 9, 11, 40], &[1, 9, 3, 3], 1),
        conv(&[1, 20, 13, 29], &[20, 1, 5, 5], 20),
        separable(),
        product(200, 700, 130),
        sparse([72, 48, 3, 3], 1),
    ];
    let mut asked = Record::new();
    let level = Target::new("x86_64-unknown-linux-gnu", Some("x86-64-v4")).unwrap();
    for (graph, seed) in graphs.iter().flat_map(|(graph, _)| (0..SEEDS).map(move |seed| (graph, seed))) {
        let config = any(level.clone(), seed);
        object(graph, &config);
        asked.extend(config.choices.record());
    }
    let asked = knobs(&asked);
    let never: Vec<&str> = KNOBS.iter().filter(|(knob, _)| !asked.contains(knob)).map(|(_, name)| *name).collect();
    assert!(never.is_empty(), "no graph here asks for {never:?}");
}

#[test]
fn a_table_decides() {
    let (graph, x) = conv(&[1, 32, 24, 24], &[32, 32, 3, 3], 1);
    check(&graph, x);
    let level = Config::new("x86_64-unknown-linux-gnu", None).unwrap();
    object(&graph, &level);
    let (key, asked) = level.choices.record().into_iter().find(|(key, _)| key.1 == Knob::Filtering).unwrap();
    let with = |choice: Option<i64>| {
        let table: Table = choice.map(|c| (key.clone(), c)).into_iter().collect();
        object(&graph, &Config { choices: Choices::new(&table), ..level.clone() })
    };
    let default = with(None);
    for &candidate in &asked.candidates {
        let chosen = with(Some(candidate));
        assert_eq!(chosen == default, candidate == asked.default, "{candidate}");
        assert_eq!(chosen, with(Some(candidate)));
    }
    assert_eq!(with(Some(77)), default);
}
