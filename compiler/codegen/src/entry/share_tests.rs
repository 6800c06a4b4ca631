//! Models on several threads: bitwise identical results for any number of them, in this process and from C.

use mcc_runtime::Pool;
use mcc_targets::Config;

use crate::compile;
use mcc_ir::{Tensor, samples, text};
use mcc_kernel::program::{Place, Program, Step};
use mcc_loader::Model;
use mcc_passes::Effort;
use mcc_testing::sh;

/// A convolution by minimal filtering and one with a window table, a pool, a product, a softmax and element-wise
/// operations, each with enough work to be shared.
const MODEL: &str = r#"
%0 = input "x" : f32[N, 32, 40, 40]
%1 = input "w1" : f32[64, 32, 3, 3]
%2 = input "w2" : f32[50, 64, 5, 5]
%3 = input "m" : f32[18, 70]
%4 = conv(%0, %1) {strides=[1, 1], dilations=[1, 1], pads=[(1, 1), (1, 1)], group=1, layout=channels_first} : f32[N, 64, 40, 40]
%5 = tanh(%4) : f32[N, 64, 40, 40]
%6 = conv(%5, %2) {strides=[2, 2], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_first} : f32[N, 50, 18, 18]
%7 = matmul(%6, %3) : f32[N, 50, 18, 70]
%8 = softmax(%7) {axis=3, log=false} : f32[N, 50, 18, 70]
%9 = add(%8, %7) : f32[N, 50, 18, 70]
output "y" = %9
"#;

fn lowered(text: &str, config: &Config) -> Program {
    let mut graph = text::parse(text).expect("parses");
    mcc_passes::run(&mut graph, config, Effort::Full, &mut |_, _| {}).expect("passes");
    mcc_kernel::lower(&graph, config, "m").expect("lowers")
}

fn inputs() -> Vec<Tensor> {
    samples::inputs(&text::parse(&MODEL.replace('N', "2")).expect("parses"))
}

fn host(threads: u32) -> Config {
    Config { threads, ..Config::host(None).expect("the host is a target") }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for text in [MODEL.replace('N', "2"), MODEL.to_string()] {
        let program = lowered(&text, &host(4));
        let shared = |step: &&Step| matches!(step, Step::Call { shared: Some(_), .. });
        assert!(program.steps.iter().filter(shared).count() >= 5, "{program}");
        let model = Model::load(&compile(&program, &host(4).target).expect("compiles").object).expect("loads");
        let want = model.invoke(&inputs()).expect("runs");
        for threads in 1..=5 {
            let pool = Pool::new(threads);
            for _ in 0..3 {
                let got = model.invoke_on(&inputs(), Some(&pool)).expect("runs");
                assert!(got == want, "{threads} threads differ");
            }
        }
        // Many simultaneous runs on one pool.
        let pool = Pool::new(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..3 {
                        assert!(model.invoke_on(&inputs(), Some(&pool)).expect("runs") == want);
                    }
                });
            }
        });
    }
}

#[test]
fn without_threads_nothing_is_shared() {
    let program = lowered(&MODEL.replace('N', "2"), &host(1));
    for step in &program.steps {
        let Step::Call { shared, args, .. } = step else { continue };
        assert!(shared.is_none() && !args.iter().any(|a| matches!(a, Place::Slot { .. })), "{program}");
    }
    assert!(program.kernels.iter().all(|k| !k.is_shared()));
    let small = "%0 = input \"x\" : f32[8, 8]\n%1 = tanh(%0) : f32[8, 8]\noutput \"y\" = %1\n";
    let program = lowered(small, &host(4));
    assert!(matches!(&program.steps[..], [Step::Call { shared: None, .. }]), "{program}");
}

/// Runs the model without a pool and on the program's own pools: with threads, and with sequential calls in reverse
/// order.
const CALLER: &str = r#"
#include "m.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef struct { void (*task)(void *, int64_t); void *argument; int64_t index; } job;
static int calls;
static void *start(void *p) { job *j = p; j->task(j->argument, j->index); return 0; }
static void threads(void *context, void (*task)(void *, int64_t), void *argument, int64_t count)
{
    pthread_t ids[16];
    job jobs[16];
    if (context != &calls || count < 2 || count > 3) abort();
    calls++;
    for (int64_t i = 0; i < count; i++) {
        jobs[i] = (job){task, argument, i};
        if (pthread_create(&ids[i], 0, start, &jobs[i])) abort();
    }
    for (int64_t i = 0; i < count; i++) pthread_join(ids[i], 0);
}
static void backwards(void *context, void (*task)(void *, int64_t), void *argument, int64_t count)
{
    (void)context;
    while (count-- > 0) task(argument, count);
}
static float noise[4096 * 128];
int main(void)
{
    enum { OUT = 2 * 50 * 18 * 70 };
    static float y[3][OUT];
    void *arena = aligned_alloc(64, (M_ARENA_SIZE + 63) / 64 * 64);
    for (int i = 0; i < 4096 * 128; i++) noise[i] = (float)(i % 1009 * 13 % 1009) / 504.5f - 1;
    mcc_pool pools[2] = {{&calls, threads, 3}, {0, backwards, 100}};
    const mcc_pool *pool[3] = {0, &pools[0], &pools[1]};
    for (int i = 0; i < 3; i++)
        if (m_run(noise, noise, noise, noise, y[i], arena, M_ARENA_SIZE, pool[i]) != MCC_OK) return 1;
    if (memcmp(y[0], y[1], sizeof y[0]) || memcmp(y[0], y[2], sizeof y[0]) || calls < 5 || m_model.threads != 4) return 2;
    return 0;
}
"#;

#[test]
fn pools_of_the_application() {
    let configs = [host(4), Config { threads: 4, ..Config::new("aarch64-unknown-linux-gnu", None).expect("known") }];
    for (config, cc, run) in [(&configs[0], "cc", ""), (&configs[1], "aarch64-linux-gnu-gcc -static", "qemu-aarch64 ")]
    {
        let compiled = compile(&lowered(&MODEL.replace('N', "2"), config), &config.target).expect("compiles");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("m.o"), &compiled.object).expect("written");
        std::fs::write(dir.path().join("m.h"), &compiled.header).expect("written");
        std::fs::write(dir.path().join("main.c"), CALLER).expect("written");
        sh(dir.path(), &format!("{cc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -O1 -pthread main.c m.o -o main"));
        sh(dir.path(), &format!("{run}./main"));
        assert_eq!(sh(dir.path(), "nm -u m.o | grep -vE ' (memcpy|memset)$' || true"), "");
    }
}
