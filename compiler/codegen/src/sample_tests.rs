//! A node of every primitive, lowered, compiled and run: at every CPU level of this machine, and on those that qemu
//! emulates, compared with the reference evaluator.

use std::fmt::Write;

use mcc_targets::{Config, Target};

use super::compile;
use mcc_ir::{Graph, Tensor, eval, samples};
use mcc_kernel::program::Program;
use mcc_loader::Model;
use mcc_passes::Effort;
use mcc_testing::sh;

/// All samples: graph, inputs, expected outputs.
fn cases() -> Vec<(Graph, Vec<Tensor>, Vec<Tensor>)> {
    let all = samples::samples().iter().map(|s| {
        let graph = s.graph();
        let inputs = samples::inputs(&graph);
        let want = eval::eval_graph(&graph, &inputs).expect("evaluates");
        (graph, inputs, want)
    });
    all.collect()
}

/// The program of a graph, after the passes that lowering requires.
fn lowered(graph: &Graph, target: &Target, name: &str) -> Program {
    let config = Config::from(target.clone());
    let mut graph = graph.clone();
    let program = mcc_passes::run(&mut graph, &config, Effort::Required, &mut |_, _| {})
        .and_then(|()| mcc_kernel::lower(&graph, &config, name));
    program.unwrap_or_else(|e| panic!("{e}\n{}", mcc_ir::text::print(&graph)))
}

fn compare(graph: &Graph, target: &str, got: &[Tensor], want: &[Tensor]) {
    let text = mcc_ir::text::print(graph);
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert_eq!((g.dtype(), g.shape()), (w.dtype(), w.shape()), "{target}\n{text}");
        for (i, (a, b)) in g.to_f64s().iter().zip(w.to_f64s()).enumerate() {
            let close = (a - b).abs() <= 2e-5 * b.abs().max(1.0) || (a.is_nan() && b.is_nan()) || *a == b;
            // A narrow float may be rounded the other way.
            let narrow = w.dtype().is_float() && w.dtype().size() < 4 && (a - b).abs() <= 0.01 * b.abs().max(1.0);
            assert!(close || narrow, "{target}: element {i} is {a}, not {b}\n{text}");
        }
    }
}

#[test]
fn samples_run_here() {
    for target in Target::host_levels() {
        for (graph, inputs, want) in cases() {
            let compiled = compile(&lowered(&graph, &target, "m"), &target).unwrap_or_else(|e| panic!("{e}"));
            let model = Model::load(&compiled.object).expect("loads");
            let got = model.invoke(&inputs).unwrap_or_else(|e| panic!("{e}\n{}", mcc_ir::text::print(&graph)));
            compare(&graph, &target.features.to_string(), &got, &want);
        }
    }
}

/// The kernels of wider vectors, including tails, for schedules without further extensions.
#[test]
fn samples_run_in_wide_vectors() {
    for level in Target::host_levels().into_iter().filter(|t| t.vector_bytes > 16) {
        let vector_bytes = level.vector_bytes;
        let plain = Target::host(Some("x86-64-v2")).expect("a level of the table");
        let target = Target { vector_bytes, ..plain };
        for (graph, inputs, want) in cases() {
            let compiled = compile(&lowered(&graph, &target, "m"), &target).unwrap_or_else(|e| panic!("{e}"));
            let model = Model::load(&compiled.object).expect("loads");
            let got = model.invoke(&inputs).unwrap_or_else(|e| panic!("{e}\n{}", mcc_ir::text::print(&graph)));
            compare(&graph, &format!("{vector_bytes} bytes"), &got, &want);
        }
    }
}

/// Runs models by their descriptors and prints each output's bytes.
const RUNNER: &str = r#"
#include <stdio.h>
#include <stdlib.h>
static void run(const mcc_model *m, const unsigned char *const *data, const int64_t *dims)
{
    mcc_tensor in[16], out[16];
    int64_t out_dims[16][16], arena_size = 0;
    for (int i = 0; i < m->input_count; i++) {
        in[i] = (mcc_tensor){(void *)data[i], (int64_t *)dims, m->inputs[i].rank, m->inputs[i].dtype};
        dims += m->inputs[i].rank;
    }
    for (int i = 0; i < m->output_count; i++)
        out[i] = (mcc_tensor){0, out_dims[i], m->outputs[i].rank, m->outputs[i].dtype};
    int code = m->shapes(in, out, &arena_size);
    if (code) { printf("shapes %d\n", code); exit(1); }
    for (int i = 0; i < m->output_count; i++) {
        int64_t n = 8;
        for (int a = 0; a < out[i].rank; a++) n *= out_dims[i][a];
        out[i].data = calloc(1, n + 1);
    }
    void *arena = aligned_alloc(64, (arena_size + 63) / 64 * 64 + 64);
    code = m->invoke(in, out, arena, arena_size, 0);
    if (code) { printf("invoke %d\n", code); exit(1); }
    for (int i = 0; i < m->output_count; i++) {
        int64_t n = 1;
        for (int a = 0; a < out[i].rank; a++) { n *= out_dims[i][a]; printf("%lld,", (long long)out_dims[i][a]); }
        printf(":");
        for (int64_t b = 0; b < 8 * n; b++) printf("%02x", ((unsigned char *)out[i].data)[b]);
        printf("\n");
        free(out[i].data);
    }
    free(arena);
}
"#;

#[test]
fn samples_run_under_qemu() {
    for target in mcc_testing::emulated() {
        samples_run_on(&target);
    }
}

fn samples_run_on(target: &Target) {
    let (link, run) = mcc_testing::tools(target);
    let dir = tempfile::tempdir().expect("a directory");
    let (mut c, mut calls) = (String::new(), String::new());
    let mut wanted = Vec::new();
    for (n, (graph, inputs, want)) in cases().into_iter().enumerate() {
        let compiled = compile(&lowered(&graph, target, &format!("m{n}")), target).unwrap_or_else(|e| panic!("{e}"));
        std::fs::write(dir.path().join(format!("m{n}.o")), &compiled.object).expect("written");
        if wanted.is_empty() {
            c += include_str!("../../../runtime/mcc.h");
            c += RUNNER;
        }
        let mut pointers = Vec::new();
        for (i, input) in inputs.iter().enumerate() {
            let bytes: Vec<String> = input.data().iter().map(u8::to_string).collect();
            let _ = writeln!(
                c,
                "static const unsigned char d{n}_{i}[] = {{{} 0}};",
                bytes.join(", ") + if bytes.is_empty() { "" } else { "," }
            );
            pointers.push(format!("d{n}_{i}, "));
        }
        let dims: Vec<String> = inputs.iter().flat_map(|t| t.shape()).map(|d| format!("{d}, ")).collect();
        let _ = writeln!(c, "extern const mcc_model m{n}_model;");
        let _ = writeln!(c, "static const unsigned char *const p{n}[] = {{{} 0}};", pointers.concat());
        let _ = writeln!(c, "static const int64_t s{n}[] = {{{} 0}};", dims.concat());
        let _ = writeln!(calls, "run(&m{n}_model, p{n}, s{n});");
        wanted.push((graph, want));
    }
    let _ = writeln!(c, "int main(void) {{ {calls} return 0; }}");
    std::fs::write(dir.path().join("main.c"), c.replacen(",, 0}", ", 0}", usize::MAX)).expect("written");
    sh(dir.path(), &format!("{link} -O1 main.c m*.o -o main"));
    let printed = sh(dir.path(), &format!("{run} ./main"));
    let mut lines = printed.lines();
    for (graph, want) in wanted {
        let mut got = Vec::new();
        for w in &want {
            let (dims, hex) = lines.next().and_then(|l| l.split_once(':')).expect("a line an output");
            let shape: Vec<usize> = dims.split_terminator(',').map(|d| d.parse().expect("a number")).collect();
            let bytes: Vec<u8> = (0..shape.iter().product::<usize>() * w.dtype().size())
                .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex"))
                .collect();
            got.push(Tensor::new(w.dtype(), shape, bytes.into()).expect("its size"));
        }
        compare(&graph, &target.cpu_name(), &got, &want);
    }
}
