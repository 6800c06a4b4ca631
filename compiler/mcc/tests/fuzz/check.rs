//! Computes one random graph in every way.
//!
//! The evaluator's results are the reference. Other results may differ by rounding only: if one is not close, the graph
//! is evaluated repeatedly, with noise of the size of rounding errors added to everything that is computed in floats,
//! and the result must be within the range of these evaluations. So integers that do not depend on rounding must be
//! exact. Rounding errors of products with low-bit weights are larger: there, floats may be 16-bit numbers
//! (`kernel::kernels::lowbit::int8_split`).

use std::panic::{AssertUnwindSafe, catch_unwind};

use mcc_runtime::Pool;
use mcc_targets::{Config, Target, choices::Choices};

use super::graphs::{Case, case};
use super::interpret;
use mcc_ir::{
    BinaryOp, DType, Error, Graph, NodeId, Op, Output, Random, Tensor, UnaryOp, Value, WeightFormat, eval, text,
};
use mcc_kernel::program::Program;
use mcc_loader::{Model, guard};
use mcc_passes::Effort;

/// Evaluations with noise before a differing result counts as wrong. If several roundings must coincide, many are
/// needed.
const MAX_EVALUATIONS: u64 = 300;
/// Larger results are not compared, since the numbers have diverged.
const MAX_COMPARED: f64 = 1e6;

/// Options for compiling and running.
struct Way {
    config: Config,
    effort: Effort,
}

impl Way {
    fn name(&self) -> String {
        let level = if self.effort == Effort::Full { 3 } else { 0 };
        format!("--cpu {} -O{level} --threads {}", self.config.target.cpu_name(), self.config.threads)
    }
}

/// Checks the graph of a seed.
pub fn graph(seed: u64) -> Result<&'static str, String> {
    let case = case(seed);
    let mut sets = Vec::new();
    for inputs in &case.inputs {
        // Otherwise numbers have diverged, or dimensions do not fit.
        if let Ok((want, true)) = caught(|| evaluate(&case.graph, inputs, None)) {
            sets.push((inputs.clone(), want));
        }
    }
    if sets.is_empty() {
        return Ok("nothing to compare");
    }
    let mut random = Random::new(seed ^ 0x5eed);
    for way in ways(&case, &mut random) {
        match try_way(&case.graph, &way, &sets, seed) {
            Ok(true) => {}
            Ok(false) => return Ok("unsupported"),
            Err(what) => {
                let smaller = shrink(&case.graph, &way, &case.inputs, seed);
                let (graph, what) = smaller.unwrap_or_else(|| (case.graph.clone(), what));
                let whole = text::print(&graph);
                let shown = if whole.len() < 6000 { whole } else { text::print_with(&graph, text::Constants::Digest) };
                return Err(format!("{}: {what}\n{shown}", way.name()));
            }
        }
    }
    Ok("right")
}

/// The levels that every graph is compiled for, and some others.
fn ways(case: &Case, random: &mut Random) -> Vec<Way> {
    let levels = Target::host_levels();
    let mut ways = Vec::new();
    let mut add = |target: &Target, effort: Effort, threads: u32| {
        let choices = case.choices.map_or_else(Choices::default, Choices::any);
        let (sparsity, compact) = (case.sparsity, case.compact);
        ways.push(Way {
            config: Config { threads, choices, sparsity, compact, ..Config::from(target.clone()) },
            effort,
        });
    };
    for (n, target) in levels.iter().enumerate() {
        // The first three levels are common; one of the others is tried.
        let threads = if random.chance(35) { 3 } else { 1 };
        if n < 3 || n == levels.len() - 1 {
            add(target, Effort::Full, threads);
        }
    }
    if levels.len() > 4 {
        add(&random.pick(&levels[3..]), Effort::Full, 2);
    }
    add(&random.pick(&levels), Effort::Required, random.pick(&[1, 2]));
    ways
}

/// Noise of the size of rounding errors.
struct Noise {
    random: Random,
    /// Whether some weights are codes.
    coded: bool,
}

/// The results of a graph, with noise if given, and whether all intermediate numbers stayed small.
fn evaluate(graph: &Graph, inputs: &[Tensor], mut noise: Option<Noise>) -> mcc_ir::Result<(Vec<Tensor>, bool)> {
    let mut small = true;
    let outputs = eval::eval_graph_with(graph, inputs, &mut |graph, node, results| {
        for tensor in results.iter_mut().filter(|t| t.dtype().is_float()) {
            small &= tensor.to_f64s().iter().all(|v| v.abs() < MAX_COMPARED);
            if let Some(noise) = noise.as_mut().filter(|_| rounds(graph, node)) {
                *tensor = noise.on(tensor, graph.op(node));
            }
        }
    })?;
    Ok((outputs, small))
}

/// Whether an operation computes floats whose rounding may differ.
fn rounds(graph: &Graph, node: NodeId) -> bool {
    !matches!(
        graph.op(node),
        Op::Constant(_)
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Broadcast { .. }
            | Op::Slice { .. }
            | Op::Concat { .. }
            | Op::Pad { .. }
            | Op::Gather { .. }
            | Op::GatherElements { .. }
            | Op::Select
            | Op::If(_)
            | Op::Binary(BinaryOp::Min | BinaryOp::Max)
            | Op::Unary(UnaryOp::Round | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Sign | UnaryOp::Neg | UnaryOp::Abs)
    )
}

impl Noise {
    /// Adds noise like rounding errors: relative to each number if it is computed from few, to the largest one for
    /// sums.
    fn on(&mut self, tensor: &Tensor, op: &Op) -> Tensor {
        let values = tensor.to_f64s();
        let few = matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Cast { .. });
        if few && whole(tensor.dtype(), &values) {
            return tensor.clone();
        }
        let epsilon = match tensor.dtype() {
            DType::F64 => 1e-13,
            DType::F32 if self.coded && !few => 5e-6,
            DType::F32 => 5e-7,
            DType::F16 => 1.5e-3,
            _ => 1.2e-2,
        };
        let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let size = |v: f64| if few { v.abs() } else { 6.0 * largest };
        let values: Vec<f64> = values.iter().map(|&v| v + self.random.real() * epsilon * size(v)).collect();
        Tensor::from_f64s(tensor.dtype(), tensor.shape().to_vec(), &values).unwrap_or_else(|_| tensor.clone())
    }
}

/// Whether all are integers, and some are too small for the type to be the reason: nothing was rounded.
fn whole(dtype: DType, values: &[f64]) -> bool {
    let fractions_below = match dtype {
        DType::F64 => 2f64.powi(52),
        DType::F32 => 2f64.powi(23),
        DType::F16 => 2f64.powi(10),
        _ => 2f64.powi(7),
    };
    values.iter().all(|v| v.fract() == 0.0) && values.iter().any(|v| v.abs() < fractions_below / 2.0)
}

/// Compiles and runs with given options; returns `false` if mcc reports that it cannot.
fn try_way(graph: &Graph, way: &Way, sets: &[(Vec<Tensor>, Vec<Tensor>)], seed: u64) -> Result<bool, String> {
    let (program, coded) = match caught(|| lowered(graph, way)) {
        Ok(lowered) => lowered,
        Err(what) if what.starts_with("unsupported") => return Ok(false),
        Err(what) => return Err(what),
    };
    let object = caught(|| mcc_codegen::compile(&program, &way.config.target))?.object;
    let model = caught(|| Model::load(&object))?;
    let pool = (way.config.threads > 1).then(|| Pool::new(way.config.threads as usize));
    for (n, (inputs, want)) in sets.iter().enumerate() {
        let dims: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
        let note = format!("seed {seed}, {}, inputs of {dims:?}", way.name());
        let got = caught(|| guard::invoke(&model, inputs, pool.as_ref(), &note)).map_err(|e| format!("{e}; {note}"))?;
        compare(graph, inputs, coded, &got, want).map_err(|e| format!("the object: {e}; {note}"))?;
        let elements = inputs.iter().map(Tensor::numel).sum::<usize>();
        if n == seed as usize % sets.len()
            && elements < 3000
            && way.config.target.vector_bytes as u64 == 16 << (seed % 3)
        {
            let got = caught(|| interpret::run(&program, inputs, 1 + seed as i64 % 3));
            let got = got.map_err(|e| format!("the interpreter: {e}; {note}"))?;
            compare(graph, inputs, coded, &got, want).map_err(|e| format!("the interpreter: {e}; {note}"))?;
        }
    }
    Ok(true)
}

/// The program of a graph, and whether some of its weights are codes.
fn lowered(graph: &Graph, way: &Way) -> mcc_ir::Result<(Program, bool)> {
    let mut graph = graph.clone();
    mcc_passes::run(&mut graph, &way.config, way.effort, &mut |_, _| {})?;
    Ok((mcc_kernel::lower(&graph, &way.config, "m")?, has_codes(&graph)))
}

/// Whether some weights are codes, including those in regions.
fn has_codes(graph: &Graph) -> bool {
    graph.topological().into_iter().any(|node| {
        let coded = matches!(graph.op(node).weights(), Some(WeightFormat::LowBit(_)));
        coded || graph.regions(node).into_iter().any(has_codes)
    })
}

/// The result of a function, or its error or panic as text.
fn caught<T>(f: impl FnOnce() -> mcc_ir::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e @ Error::Unsupported(_))) => Err(format!("unsupported: {e}")),
        Ok(Err(e)) => Err(e.to_string()),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            Err(format!("panic: {}", text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no message")))
        }
    }
}

fn compare(graph: &Graph, inputs: &[Tensor], coded: bool, got: &[Tensor], want: &[Tensor]) -> Result<(), String> {
    let mut far = Vec::new();
    for (n, (got, want)) in got.iter().zip(want).enumerate() {
        if got.dtype() != want.dtype() || got.shape() != want.shape() {
            return Err(format!("output {n} is {}, not {}", got.ty(), want.ty()));
        }
        let (g, w) = (got.to_f64s(), want.to_f64s());
        far.extend((0..g.len()).filter(|&i| !close(want.dtype(), g[i], w[i])).map(|i| (n, i)));
    }
    if far.is_empty() {
        return Ok(());
    }
    let mut ends: Vec<(f64, f64)> = far.iter().map(|&(n, i)| (want[n].f64_at(i), want[n].f64_at(i))).collect();
    for draw in 0..MAX_EVALUATIONS {
        let noise = Noise { random: Random::new(draw), coded };
        let Ok((drawn, _)) = evaluate(graph, inputs, Some(noise)) else { continue };
        for (&(n, i), ends) in far.iter().zip(&mut ends) {
            if drawn[n].shape() == want[n].shape() {
                let v = drawn[n].f64_at(i);
                *ends = (ends.0.min(v), ends.1.max(v));
            }
        }
        // Random samples do not reach the ends of the range; elements that no noise changes must be exact.
        let outside = |&(&(n, i), &(low, high)): &(&(usize, usize), &(f64, f64))| {
            let slack = (high - low) * 0.5;
            !(low - slack..=high + slack).contains(&got[n].f64_at(i))
        };
        let Some((&(n, i), (low, high))) = far.iter().zip(&ends).find(outside) else { return Ok(()) };
        if draw + 1 == MAX_EVALUATIONS {
            let (what, g, w) = (want[n].ty(), got[n].f64_at(i), want[n].f64_at(i));
            let range = format!("rounding gives {low} to {high}; {} are far", far.len());
            return Err(format!("output {n}, element {i} of {what} is {g}, not {w} ({range})"));
        }
    }
    Err("no evaluation with noise ended".to_string())
}

fn close(dtype: DType, got: f64, want: f64) -> bool {
    let tolerance = match dtype {
        DType::F64 => 1e-12,
        DType::F32 => 1e-6,
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        _ => 0.0,
    };
    got == want || got.is_nan() && want.is_nan() || (got - want).abs() <= tolerance * want.abs().max(1.0)
}

/// The smallest part of a graph, from its inputs to one value, that is wrong in the same way; and the fault.
fn shrink(graph: &Graph, way: &Way, inputs: &[Vec<Tensor>], seed: u64) -> Option<(Graph, String)> {
    for node in graph.topological() {
        if matches!(graph.op(node), Op::Input(..) | Op::Constant(_)) {
            continue;
        }
        let mut part = graph.clone();
        let results = 0..graph.types(node).len();
        part.outputs =
            results.map(|result| Output { name: format!("y{result}"), value: Value { node, result } }).collect();
        part.remove_dead();
        let sets = inputs.iter().filter_map(|inputs| {
            let (want, small) = caught(|| evaluate(&part, inputs, None)).ok()?;
            small.then(|| (inputs.clone(), want))
        });
        let sets: Vec<_> = sets.collect();
        if let Err(what) = try_way(&part, way, &sets, seed) {
            return Some((part, what));
        }
    }
    None
}
