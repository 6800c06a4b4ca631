//! Benchmarks of kernels, each as a model of one operation: through the passes, the object and the loader, for this
//! machine.
//!
//! `cargo bench --bench kernels [FILTER]`. For operations that multiply and add, "Gelem/s" is GFLOP/s; for others the
//! throughput is in bytes read and written.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use mcc::ir::{BinaryOp, ConvSpec, Graph, Layout, Op, Output, Random, Tensor, UnaryOp, Value};
use mcc::kernel::program::{Program, Step};
use mcc::loader::Model;
use mcc::passes::{self, Effort};
use mcc::{codegen, kernel};
use mcc_targets::Config;

/// Seeded numbers of both signs.
fn numbers(shape: &[usize]) -> Tensor {
    Random::new(1).floats(shape, 1.0).expect("as many values as elements")
}

/// A graph of one input, completed by `body`.
fn graph(shape: &[usize], body: impl FnOnce(&mut Graph, Value) -> Value) -> (Graph, Tensor) {
    let (mut graph, input) = (Graph::new(), numbers(shape));
    let x = graph.add_input("x", input.ty());
    let value = body(&mut graph, x);
    graph.outputs.push(Output { name: "y".to_string(), value });
    (graph, input)
}

fn add(graph: &mut Graph, op: Op, operands: &[Value]) -> Value {
    graph.add(op, operands).expect("the operands fit the operation")
}

fn weights(graph: &mut Graph, shape: &[usize]) -> Value {
    add(graph, Op::Constant(numbers(shape)), &[])
}

fn throughput(program: &Program) -> Throughput {
    let (mut operations, mut bytes) = (0, 0);
    for step in &program.steps {
        if let Step::Call { work, .. } = step {
            operations += 2 * work.multiply_adds.as_const().unwrap_or(0);
            bytes += work.bytes.as_const().unwrap_or(0);
        }
    }
    if operations > 0 { Throughput::Elements(operations as u64) } else { Throughput::Bytes(bytes as u64) }
}

fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, (mut graph, input): (Graph, Tensor)) {
    let config = Config::host(Some("native")).expect("mcc runs on machines that it compiles for");
    passes::run(&mut graph, &config, Effort::Full, &mut |_, _| {}).expect("the passes keep a valid graph valid");
    let program = kernel::lower(&graph, &config, "m").expect("every operation here has a kernel");
    let code = codegen::compile(&program, &config.target).expect("kernels compile");
    let model = Model::load(&code.object).expect("objects for this machine load");
    let mut session = model.session(&[input], None).expect("the input is the graph's");
    group.throughput(throughput(&program));
    group.bench_function(name, |b| b.iter(|| black_box(&mut session).run().expect("the input fits")));
}

fn matmul(m: usize, k: usize, n: usize) -> (Graph, Tensor) {
    graph(&[m, k], |g, x| {
        let w = weights(g, &[k, n]);
        add(g, Op::MatMul, &[x, w])
    })
}

/// A convolution over a channels-first picture; `group` is 1 or the channels.
fn conv(size: usize, channels: usize, out: usize, kernel: usize, stride: i64, group: usize) -> (Graph, Tensor) {
    let pad = (kernel / 2) as i64;
    let spec = ConvSpec {
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        pads: vec![(pad, pad); 2],
        group,
        layout: Layout::ChannelsFirst,
    };
    graph(&[1, channels, size, size], |g, x| {
        let w = weights(g, &[out, channels / group, kernel, kernel]);
        add(g, Op::Conv(spec), &[x, w])
    })
}

fn contractions(c: &mut Criterion) {
    let mut group = c.benchmark_group("matmul");
    for (m, k, n) in [(1, 768, 768), (8, 384, 384), (64, 64, 64), (128, 384, 1536), (257, 384, 384), (512, 512, 512)] {
        bench(&mut group, &format!("{m}x{k}x{n}"), matmul(m, k, n));
    }
}

fn convolutions(c: &mut Criterion) {
    let mut group = c.benchmark_group("conv1x1");
    for (size, channels, out) in [(56, 64, 256), (28, 512, 128), (14, 256, 1024), (7, 2048, 512), (160, 32, 48)] {
        bench(&mut group, &format!("{size}x{size}x{channels} to {out}"), conv(size, channels, out, 1, 1, 1));
    }
    drop(group);
    let mut group = c.benchmark_group("conv3x3");
    for (size, channels, out) in [(56, 64, 64), (28, 128, 128), (14, 256, 256), (7, 512, 512), (128, 32, 32)] {
        bench(&mut group, &format!("{size}x{size}x{channels} to {out}"), conv(size, channels, out, 3, 1, 1));
    }
    bench(&mut group, "56x56x128 to 128, stride 2", conv(56, 128, 128, 3, 2, 1));
    bench(&mut group, "224x224x3 to 32, stride 2", conv(224, 3, 32, 3, 2, 1));
    drop(group);
    let mut group = c.benchmark_group("depthwise");
    for (size, channels, kernel, stride) in [(112, 32, 3, 1), (56, 144, 3, 2), (14, 272, 3, 1), (20, 192, 5, 1)] {
        let name = format!("{size}x{size}x{channels}, {kernel}x{kernel}, stride {stride}");
        bench(&mut group, &name, conv(size, channels, channels, kernel, stride, channels));
    }
}

fn others(c: &mut Criterion) {
    let mut group = c.benchmark_group("softmax");
    for (rows, columns) in [(12 * 128, 128), (1024, 1024)] {
        let made = graph(&[rows, columns], |g, x| add(g, Op::Softmax { axis: 1, log: false }, &[x]));
        bench(&mut group, &format!("{rows}x{columns}"), made);
    }
    drop(group);
    let mut group = c.benchmark_group("element-wise");
    let side = |op: UnaryOp| graph(&[256, 1024], |g, x| add(g, Op::Unary(op), &[x]));
    for (name, op) in
        [("exp", UnaryOp::Exp), ("erf", UnaryOp::Erf), ("tanh", UnaryOp::Tanh), ("sigmoid", UnaryOp::Sigmoid)]
    {
        bench(&mut group, name, side(op));
    }
    let chain = graph(&[256, 1024], |g, x| {
        let b = weights(g, &[1024]);
        let sum = add(g, Op::Binary(BinaryOp::Add), &[x, b]);
        let gate = add(g, Op::Unary(UnaryOp::Sigmoid), &[sum]);
        add(g, Op::Binary(BinaryOp::Mul), &[sum, gate])
    });
    bench(&mut group, "bias and swish", chain);
    let turned = graph(&[256, 1024], |g, x| add(g, Op::Transpose { perm: vec![1, 0] }, &[x]));
    bench(&mut group, "transpose", turned);
}

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
}

criterion_group! { name = kernels; config = short(); targets = contractions, convolutions, others }
criterion_main!(kernels);
