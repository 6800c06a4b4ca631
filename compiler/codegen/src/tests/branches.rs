//! Branches as machine code, on every machine: only the taken one runs, and the result has its extents.

use mcc_runtime::Pool;
use mcc_targets::{Config, Target};

use super::compile;
use mcc_ir::{DType, Graph, Random, Tensor, eval, text};
use mcc_kernel::program::{Place, Program, Step};
use mcc_loader::{Model, trace};
use mcc_passes::Effort;

/// A condition within a condition, both with results of different extents; the outer one uses a symbol that the inner
/// one binds. One branch has a data-dependent extent, one passes on its input, one rejects a dimension.
const NESTED: &str = r#"%0 = input "x" : f32[n, 8]
%1 = input "c" : bool[]
%2 = input "d" : bool[]
%3 = exp(%0) : f32[n, 8]
%4, %5 = if(%1, %2, %0, %3) {binds=[rows, columns]} : f32[rows, columns], f32[n, 8]  // outer
  then
    %0 = input "0" : bool[]
    %1 = input "1" : f32[n, 8]
    %2 = input "2" : f32[n, 8]
    %3 = if(%0, %1) {binds=[some]} : f32[some, 8]  // inner
      then
        %0 = input "0" : f32[n, 8]
        %1 = slice(%0) {ranges=[n-1:1, 0:8]} : f32[1, 8]
        output "0" = %1
        requires n >= 2  // rows of which one is left out
      else
        %0 = input "0" : f32[n, 8]
        %1 = concat(%0, %0) {axis=0} : f32[2*n, 8]
        output "0" = %1
      end
    %4 = softmax(%3) {axis=1, log=false} : f32[some, 8]
    output "0" = %4
    output "1" = %2
  else
    %0 = input "0" : bool[]
    %1 = input "1" : f32[n, 8]
    %2 = input "2" : f32[n, 8]
    %3 = constant [0.5] : f32[1]
    %4 = less(%1, %3) : bool[n, 8]
    %5 = non_zero(%4) {count=found} : i64[2, found]
    %6 = cast(%5) {to=f32, saturate=true} : f32[2, found]
    %7 = constant noise(seed=1) : f32[8, 8]
    %8 = matmul(%1, %7) : f32[n, 8]
    output "0" = %6
    output "1" = %8
  end
%6 = neg(%4) : f32[rows, columns]
%7 = iota() {dtype=i64, shape=[rows, 2], axis=0} : i64[rows, 2]
%8 = add(%5, %0) : f32[n, 8]
output "y" = %6
output "raw" = %4
output "i" = %7
output "z" = %8
"#;

fn nested() -> Graph {
    text::parse(NESTED).unwrap_or_else(|e| panic!("{e}"))
}

fn program(graph: &Graph, config: &Config, effort: Effort) -> Program {
    let mut graph = graph.clone();
    let lowered = mcc_passes::run(&mut graph, config, effort, &mut |_, _| {})
        .and_then(|()| mcc_kernel::lower(&graph, config, "m"));
    lowered.unwrap_or_else(|e| panic!("{e}\n{}", text::print(&graph)))
}

fn inputs(n: usize, c: bool, d: bool) -> Vec<Tensor> {
    let mut random = Random::new(7);
    let values: Vec<f64> = (0..n * 8).map(|_| random.real()).collect();
    let truth = |v: bool| Tensor::scalar_i64(DType::Bool, i64::from(v));
    vec![Tensor::from_f64s(DType::F32, vec![n, 8], &values).expect("sized"), truth(c), truth(d)]
}

fn assert_close(got: &[Tensor], want: &[Tensor], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (g, w) in got.iter().zip(want) {
        assert_eq!(g.shape(), w.shape(), "{what}");
        // Rounding errors of sums are relative to the largest element.
        let largest = w.to_f64s().into_iter().fold(1.0, |most: f64, v| most.max(v.abs()));
        let far = g.to_f64s().into_iter().zip(w.to_f64s()).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
        assert!(far <= 2e-5 * largest, "{far} of {largest}: {what}");
    }
}

const ALL: [(bool, bool); 4] = [(true, true), (true, false), (false, true), (false, false)];

#[test]
fn the_branch_that_is_taken_decides_values_and_extents() {
    let graph = nested();
    let want = |n, c, d| eval::eval_graph(&graph, &inputs(n, c, d)).unwrap_or_else(|e| panic!("{e}"));
    for target in mcc_testing::machines() {
        for (effort, threads) in [(Effort::Required, 1), (Effort::Full, 1), (Effort::Full, 2)] {
            let config = Config { threads, ..target.clone().into() };
            let object = compile(&program(&graph, &config, effort), &target).expect("compiles").object;
            for (c, d) in ALL {
                for n in if target.runs_here() { vec![2, 5, 64] } else { vec![5] } {
                    let want = want(n, c, d);
                    let got = mcc_testing::invoke(&target, &object, &inputs(n, c, d), &want);
                    assert_close(&got, &want, &format!("{} {effort:?} {n} {c} {d}", target.cpu_name()));
                }
            }
        }
    }
}

#[test]
fn threads_share_the_steps_of_a_branch() {
    let graph = text::parse(
        r#"%0 = input "x" : f32[512, 512]
%1 = input "c" : bool[]
%2 = if(%1, %0) {binds=[]} : f32[512, 512]
  then
    %0 = input "0" : f32[512, 512]
    %1 = constant noise(seed=2) : f32[512, 512]
    %2 = matmul(%0, %1) : f32[512, 512]
    output "0" = %2
  else
    %0 = input "0" : f32[512, 512]
    %1 = softmax(%0) {axis=1, log=false} : f32[512, 512]
    output "0" = %1
  end
output "y" = %2
"#,
    )
    .expect("a graph");
    let of = |threads| Config { threads, ..Config::host(None).expect("the host is a target") };
    let shared = program(&graph, &of(2), Effort::Full);
    assert!(shared.to_string().contains("shared("), "{shared}");
    let [one, two] = [1, 2].map(|threads| {
        let config = of(threads);
        Model::load(&compile(&program(&graph, &config, Effort::Full), &config.target).expect("compiles").object)
            .expect("loads")
    });
    let pool = Pool::new(2);
    for c in [true, false] {
        let mut random = Random::new(3);
        let values: Vec<f64> = (0..512 * 512).map(|_| random.real()).collect();
        let x = Tensor::from_f64s(DType::F32, vec![512, 512], &values).expect("sized");
        let inputs = [x, Tensor::scalar_i64(DType::Bool, i64::from(c))];
        assert_eq!(one.invoke(&inputs).expect("runs"), two.invoke_on(&inputs, Some(&pool)).expect("runs"));
    }
}

#[test]
fn only_the_branch_that_is_taken_runs_and_refuses() {
    let graph = nested();
    for target in Target::host_levels() {
        let mut program = program(&graph, &target.clone().into(), Effort::Full);
        program.traced = true;
        let model = Model::load(&compile(&program, &target).expect("compiles").object).expect("loads");
        let calls: Vec<String> = program.calls().map(|call| call.kernel.name.clone()).collect();
        let happened = |c, d| {
            let (outputs, times) = trace::during(|| model.invoke(&inputs(3, c, d)));
            outputs.expect("runs");
            assert!(times.len() <= calls.len());
            let names = calls.iter().zip(times).filter(|(_, time)| time.is_some()).map(|(name, _)| name.as_str());
            names.collect::<Vec<_>>()
        };
        let (then, otherwise) = (happened(true, false), happened(false, false));
        for (calls, there, not) in [(&then, "softmax", "non_zero"), (&otherwise, "non_zero", "softmax")] {
            assert!(calls.contains(&there) && !calls.contains(&not), "{calls:?}");
        }
        assert!(then.contains(&"concat") && !happened(true, true).contains(&"concat"));
        // The innermost branch's requirement is checked only there.
        let one = |c, d| model.invoke(&inputs(1, c, d));
        let error = one(true, true).expect_err("one row").to_string();
        assert!(error.contains("must be at least 2, for rows of which one is left out"), "{error}");
        assert!([one(true, false), one(false, true)].iter().all(Result::is_ok));
    }
}

#[test]
fn branches_share_memory_and_write_results_in_place() {
    let branch = |f: &str| {
        format!(
            "    %0 = input \"0\" : f32[1024]\n    %1 = {f}(%0) {{axis=0, log=false}} : f32[1024]\n    \
             %2 = cumulative(%1) {{kind=sum, axis=0, exclusive=false, reverse=false}} : f32[1024]\n    output \"0\" = %2\n"
        )
    };
    let text = format!(
        "%0 = input \"x\" : f32[1024]\n%1 = input \"c\" : bool[]\n%2 = if(%1, %0) {{binds=[]}} : f32[1024]\n  then\n{}  else\n{}  \
         end\noutput \"y\" = %2\n",
        branch("softmax"),
        branch("softmax").replace("kind=sum", "kind=prod")
    );
    let target = Target::host(Some("x86-64-v2")).expect("a level");
    let program = program(&text::parse(&text).expect("a graph"), &target.into(), Effort::Full);
    // One branch's buffers: the value between its two calls, and the first one's scratch memory. Nothing is copied.
    assert_eq!((program.arena_bytes.as_const(), program.calls().count()), (Some(2 * 4096), 4), "{program}");
}

/// A symbol bound by a step is a valid extent anywhere: also of values that do not depend on that step, and after it.
#[test]
fn extents_that_steps_bind_are_known_everywhere() {
    let graphs = [
        r#"%0 = input "x" : f32[n]
%1 = input "c" : bool[]
%2 = if(%1, %0) {binds=[taken]} : f32[taken]
  then
    %0 = input "0" : f32[n]
    %1 = slice(%0) {ranges=[0:1]} : f32[1]
    output "0" = %1
  else
    %0 = input "0" : f32[n]
    output "0" = %0
  end
%3 = exp(%0) : f32[n]
%4 = concat(%2, %3) {axis=0} : f32[n+taken]
%5 = cumulative(%4) {kind=sum, axis=0, exclusive=false, reverse=false} : f32[n+taken]
%6 = iota() {dtype=f32, shape=[taken], axis=0} : f32[taken]
output "i" = %6
output "y" = %5
"#,
        r#"%0 = input "x" : f32[n]
%1 = input "c" : bool[]
%2 = non_zero(%0) {count=count} : i64[1, count]
%3 = cumulative(%2) {kind=sum, axis=1, exclusive=false, reverse=false} : i64[1, count]
%4 = cast(%0) {to=i64, saturate=true} : i64[n]
%5 = reshape(%4) {shape=[1, n]} : i64[1, n]
%6 = concat(%3, %5) {axis=1} : i64[1, count+n]
%7 = cumulative(%6) {kind=sum, axis=1, exclusive=false, reverse=false} : i64[1, count+n]
%8 = iota() {dtype=i64, shape=[count, 2], axis=0} : i64[count, 2]
output "i" = %8
output "y" = %7
"#,
    ];
    for graph in graphs.map(|text| text::parse(text).unwrap_or_else(|e| panic!("{e}"))) {
        for (target, effort) in
            Target::host_levels().into_iter().flat_map(|t| [(t.clone(), Effort::Full), (t, Effort::Required)])
        {
            let program = program(&graph, &target.clone().into(), effort);
            let model = Model::load(&compile(&program, &target).expect("compiles").object).expect("loads");
            for c in [true, false] {
                let x = Tensor::from_f64s(DType::F32, vec![5], &[0.0, 2.0, 0.0, 3.0, 1.0]).expect("sized");
                let inputs = [x, Tensor::scalar_i64(DType::Bool, i64::from(c))];
                let want = eval::eval_graph(&graph, &inputs).expect("evaluates");
                assert_close(&model.invoke(&inputs).expect("runs"), &want, &format!("{c}\n{program}"));
            }
        }
    }
}

#[test]
fn layers_in_branches_are_packed_and_their_weights_may_be_elsewhere() {
    let graph = text::parse(
        r#"%0 = input "x" : f32[1, 16, 12, 12]
%1 = input "c" : bool[]
%2 = constant noise(seed=1) : f32[32, 16, 3, 3]
%3 = if(%1, %0, %2) {binds=[rows]} : f32[1, 32, rows, 10]
  then
    %0 = input "0" : f32[1, 16, 12, 12]
    %1 = input "1" : f32[32, 16, 3, 3]
    %2 = conv(%0, %1) {strides=[1, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_first} : f32[1, 32, 10, 10]
    output "0" = %2
  else
    %0 = input "0" : f32[1, 16, 12, 12]
    %1 = input "1" : f32[32, 16, 3, 3]
    %2 = conv(%0, %1) {strides=[2, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_first} : f32[1, 32, 5, 10]
    %3 = constant splat 0.0 : f32[32, 1, 1]
    %4 = max(%2, %3) : f32[1, 32, 5, 10]
    output "0" = %4
  end
output "y" = %3
"#,
    )
    .unwrap_or_else(|e| panic!("{e}"));
    let config = Config::host(None).expect("the host is a target");
    let mut programs = [program(&graph, &config, Effort::Full)];
    // In whatever format, it must have changed.
    let packed = programs[0].calls().filter(|call| call.kernel.name.ends_with("_conv"));
    assert_eq!(packed.count(), 2, "{}", programs[0]);
    let weights = mcc_kernel::weights::separate(&mut programs).expect("memory");
    let [program] = programs;
    let places: Vec<_> = program.all_steps().flat_map(Step::places).collect();
    assert!(!places.iter().any(|p| matches!(p, Place::Constant(_))) && program.weights_input() == Some(2), "{program}");
    let model = Model::load(&compile(&program, &config.target).expect("compiles").object).expect("loads");
    for c in [true, false] {
        let mut random = Random::new(3);
        let values: Vec<f64> = (0..16 * 144).map(|_| random.real()).collect();
        let x = Tensor::from_f64s(DType::F32, vec![1, 16, 12, 12], &values).expect("sized");
        let inputs = vec![x, Tensor::scalar_i64(DType::Bool, i64::from(c))];
        let want = eval::eval_graph(&graph, &inputs).expect("evaluates");
        let file = Tensor::new(DType::U8, vec![weights.len()], weights.clone()).expect("sized");
        let got = model.invoke(&[inputs, vec![file]].concat()).expect("runs");
        assert_close(&got, &want, &format!("{c}\n{program}"));
    }
}
