//! `mcc inspect`: shows a model's contents and how it was compiled.
//!
//! Layers, steps and the steps of `mcc bench --profile` have the same names, the labels of the ONNX nodes that they
//! come from, so a decision's effect is the time of that node's steps.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use mcc::ir::{Decision, Graph, Op};
use mcc::kernel::program::Port;
use mcc::{Result, driver, symbol};
use mcc_targets::Target;
use serde_json::{Value, json};

use super::options::{ModelOptions, warn};
use super::say;

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
    #[command(flatten)]
    options: ModelOptions,
}

/// Prints the report.
pub fn inspect(args: &InspectArgs) -> Result<()> {
    let targets = args.options.targets(args.target.as_deref())?;
    let options = args.options.for_targets(targets, &symbol::of_file(&args.model), 1)?;
    let imported = driver::import(&args.model, &options)?;
    let before = operations(&imported);
    let compiled = driver::compile(&args.model, &options)?;
    warn(&options, &compiled);
    let program = &compiled.program;
    let calls: Vec<(&str, &str)> = program.calls().map(|call| (call.label, call.kernel.name.as_str())).collect();
    let work = program.multiply_adds();
    let report = json!({
        "target": options.config.target.triple.to_string(),
        "cpus": compiled.targets.iter().map(Target::cpu_name).collect::<Vec<_>>(),
        "inputs": ports(&program.inputs),
        "outputs": ports(&program.outputs),
        "symbols": program.symbols.iter().map(|s| s.name.to_string()).collect::<Vec<_>>(),
        "operations": before,
        "optimised_operations": operations(&compiled.graph),
        "kernels": program.kernels.len(),
        "steps": calls.iter().map(|(node, kernel)| json!({ "node": node, "kernel": kernel })).collect::<Vec<_>>(),
        "layers": compiled.graph.decisions().into_iter().chain(&program.decisions).map(layer).collect::<Vec<_>>(),
        "multiply_adds": work.as_const().map_or_else(|| json!(work.to_string()), |n| json!(n)),
        "text_bytes": compiled.code.text_bytes,
        "weights_bytes": compiled.code.weights_bytes,
        "live_bytes": program.live_bytes.as_const(),
        "arena_bytes": program.arena_bytes.as_const().map_or_else(|| json!(program.arena_bytes.to_string()), |b| json!(b)),
    });
    say(&if args.json { format!("{report:#}\n") } else { text(&report) })
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

fn text(report: &Value) -> String {
    let mut out = String::new();
    for side in ["inputs", "outputs"] {
        for port in report[side].as_array().into_iter().flatten() {
            let (name, ty) = (port["name"].as_str().unwrap_or(""), port["type"].as_str().unwrap_or(""));
            out += &format!("{} {name}: {ty}\n", side.trim_end_matches('s'));
        }
    }
    let cpus: Vec<&str> = report["cpus"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (richest, many) = (cpus.last().unwrap_or(&""), cpus.len() > 1);
    let which = if many { format!("; shown: {richest}") } else { String::new() };
    out += &format!("for {}: code for {}{which}\n", report["target"].as_str().unwrap_or(""), cpus.join(" and "));
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
    let layers = report["layers"].as_array().map_or(&[][..], Vec::as_slice);
    if !layers.is_empty() {
        out += &layer_table(layers);
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

/// The decisions per layer; the layer's time is in `mcc bench --profile`, under the same name.
fn layer_table(layers: &[Value]) -> String {
    let word = |row: &Value, key: &str| row[key].as_str().unwrap_or("").to_string();
    let number = |value: &Value, show: fn(f64) -> String| value.as_f64().map_or_else(String::new, show);
    let line = |cells: [&str; 6], reason: &str| {
        let [layer, operator, subject, form, zeros, gain] = cells;
        format!("  {layer:<32} {operator:<14} {subject:<9} {zeros:>7} {gain:>6}  {form:<36} {reason}")
            .trim_end()
            .to_string()
            + "\n"
    };
    let mut out = line(["layer", "operator", "subject", "form", "zeros", "gain"], "why");
    for row in layers {
        let [layer, operator, subject, form, reason] =
            ["layer", "operator", "subject", "form", "reason"].map(|key| word(row, key));
        let zeros = number(&row["zeros"], |z| format!("{:.1} %", 100.0 * z));
        let gain = number(&row["predicted_gain"], |g| format!("{g:.2}x"));
        out += &line([&layer, &operator, &subject, &form, &zeros, &gain], &reason);
    }
    out
}
