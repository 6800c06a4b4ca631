//! `mcc inspect`: what is in a model, and what the compiler makes of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use mcc::ir::{Dim, Graph, Op};
use mcc::lower::program::{Port, Step};
use mcc::{Result, driver};
use serde_json::{Value, json};

use super::options::ModelOptions;
use super::say;

#[derive(Args)]
pub struct InspectArgs {
    /// The model, an .onnx file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: ModelOptions,
}

/// Prints the report.
pub fn inspect(args: &InspectArgs) -> Result<()> {
    let options = args.options.for_host(&args.model, 1)?;
    let imported = driver::import(&args.model, &options)?;
    let before = operations(&imported);
    let compiled = driver::compile(&args.model, &options)?;
    let program = &compiled.program;
    let calls: Vec<(&str, &str)> = program
        .steps
        .iter()
        .filter_map(|s| match s {
            Step::Call { kernel, label, .. } => Some((label.as_str(), program.kernels[*kernel].name.as_str())),
            Step::Bind { .. } => None,
        })
        .collect();
    let work = program.steps.iter().map(|s| match s {
        Step::Call { work, .. } => work.multiply_adds.clone(),
        Step::Bind { .. } => Dim::ZERO,
    });
    let work = work.fold(Dim::ZERO, |sum, n| &sum + &n);
    let report = json!({
        "inputs": ports(&program.inputs),
        "outputs": ports(&program.outputs),
        "symbols": program.symbols.iter().map(|s| s.name.to_string()).collect::<Vec<_>>(),
        "operations": before,
        "optimised_operations": operations(&compiled.graph),
        "kernels": program.kernels.len(),
        "steps": calls.iter().map(|(node, kernel)| json!({ "node": node, "kernel": kernel })).collect::<Vec<_>>(),
        "multiply_adds": work.as_const().map_or_else(|| json!(work.to_string()), |n| json!(n)),
        "text_bytes": compiled.code.text_bytes,
        "weights_bytes": compiled.code.weights_bytes,
        "live_bytes": program.live_bytes.as_const(),
        "arena_bytes": program.arena_bytes.as_const().map_or_else(|| json!(program.arena_bytes.to_string()), |b| json!(b)),
    });
    say(&if args.json { format!("{report:#}\n") } else { text(&report) });
    Ok(())
}

fn ports(ports: &[Port]) -> Vec<Value> {
    ports.iter().map(|p| json!({ "name": p.name, "type": p.ty.to_string() })).collect()
}

/// How often each primitive stands in a graph.
fn operations(graph: &Graph) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for node in graph.topological() {
        let op = graph.op(node);
        if !matches!(op, Op::Input(..) | Op::Constant(_)) {
            *counts.entry(op.name().to_string()).or_insert(0) += 1;
        }
    }
    counts
}

fn text(report: &Value) -> String {
    let mut out = String::new();
    for side in ["inputs", "outputs"] {
        for port in report[side].as_array().into_iter().flatten() {
            let (name, ty) = (port["name"].as_str().unwrap_or(""), port["type"].as_str().unwrap_or(""));
            out += &format!("{} {name}: {ty}\n", side.trim_end_matches('s'));
        }
    }
    for (title, key) in [("as imported", "operations"), ("optimised", "optimised_operations")] {
        let counts: Vec<_> = report[key].as_object().into_iter().flatten().collect();
        let total: u64 = counts.iter().filter_map(|(_, n)| n.as_u64()).sum();
        let list: Vec<String> = counts.iter().map(|(op, n)| format!("{op} {n}")).collect();
        out += &format!("{title}: {total} operations: {}\n", list.join(", "));
    }
    let steps = report["steps"].as_array().map_or(0, Vec::len);
    out += &format!("program: {steps} calls of {} kernels\n", report["kernels"]);
    for step in report["steps"].as_array().into_iter().flatten() {
        out += &format!("  {:<40} {}\n", step["kernel"].as_str().unwrap_or(""), step["node"].as_str().unwrap_or(""));
    }
    let [arena, work] = ["arena_bytes", "multiply_adds"].map(|key| report[key].to_string());
    out + &format!(
        "{} multiply-adds, code {} bytes, weights {} bytes, arena {} bytes\n",
        work.trim_matches('"'),
        report["text_bytes"],
        report["weights_bytes"],
        arena.trim_matches('"')
    )
}
