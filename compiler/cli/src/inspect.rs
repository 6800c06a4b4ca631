//! `mcc inspect`: shows a model's contents and how it was compiled.
//!
//! Layers, steps and the steps of `mcc bench --profile` have the same names, the labels of the ONNX nodes that they
//! come from, so a decision's effect is the time of that node's steps.

mod html;
mod short;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use mcc::ir::{Decision, Dim, Graph, Op};
use mcc::kernel::program::{Place, Port, Program, Step, Work};
use mcc::{Result, driver, symbol};
use mcc_targets::Target;
use serde_json::{Value, json};

use super::options::{ModelOptions, warn};
use super::{output, say};

#[derive(Args)]
pub struct InspectArgs {
    /// The model, an .onnx file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Machine to compile for, such as aarch64-linux-android [default: this one]
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write a page that shows the same, for a browser
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
    #[command(flatten)]
    options: ModelOptions,
}

/// Prints the report.
pub fn inspect(args: &InspectArgs) -> Result<()> {
    if let Some(page) = &args.html {
        output::check(&[("the model", &args.model)], &[("the page", page)])?;
    }
    let targets = args.options.targets(args.target.as_deref())?;
    let options = args.options.for_targets(targets, &symbol::of_file(&args.model), 1)?;
    let imported = driver::import(&args.model, &options)?;
    let before = operations(&imported);
    let compiled = driver::compile(&args.model, &options)?;
    warn(&options, &compiled);
    let program = &compiled.program;
    let (work, target) = (program.multiply_adds(), &options.config.target);
    let report = json!({
        "target": options.config.target.triple.to_string(),
        "cpus": compiled.targets.iter().map(Target::cpu_name).collect::<Vec<_>>(),
        "inputs": ports(&program.inputs),
        "outputs": ports(&program.outputs),
        "symbols": program.symbols.iter().map(|s| s.name.to_string()).collect::<Vec<_>>(),
        "operations": before,
        "optimised_operations": operations(&compiled.graph),
        "kernels": program.kernels.len(),
        "assumed_extent": ASSUMED_EXTENT,
        "steps": steps(program, target),
        "layers": compiled.graph.decisions().into_iter().chain(&program.decisions).map(layer).collect::<Vec<_>>(),
        "multiply_adds": amount(&work),
        "text_bytes": compiled.code.text_bytes,
        "weights_bytes": compiled.code.weights_bytes,
        "live_bytes": program.live_bytes.as_const(),
        "arena_bytes": amount(&program.arena_bytes),
        "assumed": { "multiply_adds": assumed(&work), "arena_bytes": assumed(&program.arena_bytes) },
    });
    match &args.html {
        Some(page) => output::write(page, html::page(&report).as_bytes()),
        None if args.json => say(&format!("{report:#}\n")),
        None => say(&text::text(&report)),
    }
}

/// The value of every free dimension for which sizes and times are stated.
const ASSUMED_EXTENT: i64 = 64;

fn assumed(d: &Dim) -> i64 {
    d.eval(&|_| Some(ASSUMED_EXTENT)).unwrap_or(0)
}

/// A number, or the expression of one.
fn amount(d: &Dim) -> Value {
    d.as_const().map_or_else(|| json!(d.to_string()), |n| json!(n))
}

/// Every call of a kernel with its work; constants count where they are first used. The predicted time is one thread's:
/// work over the target's rates, and what a sparse form gains.
fn steps(program: &Program, target: &Target) -> Vec<Value> {
    let gain = |label: &str| {
        let decision = program.decisions.iter().find(|d| d.layer == label && d.zeros.is_some());
        decision.and_then(|d| d.gain).filter(|gain| *gain > 0.0).unwrap_or(1.0)
    };
    let mut counted = BTreeSet::new();
    let mut rows = Vec::new();
    for step in program.all_steps() {
        let Step::Call { kernel, args, label, work, .. } = step else { continue };
        let weights: usize = args
            .iter()
            .filter_map(|place| match place {
                Place::Constant(n) if counted.insert(*n) => Some(program.constants[*n].data.len()),
                _ => None,
            })
            .sum();
        let Work { multiply_adds, integers, bytes, shapes, .. } = work;
        rows.push(json!({
            "node": label, "kernel": program.kernels[*kernel].name, "shapes": shapes, "integers": integers,
            "multiply_adds": amount(multiply_adds), "bytes": amount(bytes), "weights_bytes": weights,
            "assumed": { "multiply_adds": assumed(multiply_adds), "bytes": assumed(bytes) },
            "predicted_us": assumed(&work.nanoseconds(target)) as f64 * 1e-3 / gain(label),
        }));
    }
    rows
}

fn ports(ports: &[Port]) -> Vec<Value> {
    ports.iter().map(|p| json!({ "name": p.name, "type": p.ty.to_string() })).collect()
}

/// A decision about a layer.
fn layer(decision: &Decision) -> Value {
    let Decision { layer, subject, operator, form, zeros, gain, reason } = decision;
    json!({
        "layer": layer, "subject": subject.to_string(), "operator": operator, "form": form,
        "zeros": zeros, "predicted_gain": gain, "reason": reason,
    })
}

/// The count of each primitive in a graph and its regions.
fn operations(graph: &Graph) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for node in graph.topological() {
        for (op, count) in graph.regions(node).into_iter().flat_map(operations) {
            *counts.entry(op).or_insert(0) += count;
        }
        let op = graph.op(node);
        if !matches!(op, Op::Input(..) | Op::Constant(_)) {
            *counts.entry(op.name().to_string()).or_insert(0) += 1;
        }
    }
    counts
}
