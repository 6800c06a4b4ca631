//! The graph verifier: checks the invariants of [`Graph`], and reports all violations at once.

use std::fmt::Write;

use super::{Dim, Graph, Layout, NodeId, Op, TensorType, Traits, Value, infer, text};
use crate::{Error, Result};

/// The stage of a graph. Each stage has its own rules, which [`verify_at`] checks in addition to those that always
/// hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// As the importer makes it: no operation is packed ([`Traits::MACHINE`]), convolutions are channels first.
    /// (Pooling may be channels last, if the model's own transposes cancelled around it.)
    Imported,
    /// In canonical form: constants are folded, patterns are fused.
    Canonical,
    /// Layouts are chosen: operations may be channels last, between explicit transposes.
    LaidOut,
    /// Products and convolutions are packed; those whose weights are not constant may be unpacked.
    Packed,
}

impl Stage {
    /// The first stage whose rules a graph satisfies.
    pub fn of(graph: &Graph) -> Stage {
        let keeps = |stage: &Stage| early(graph, *stage).is_empty();
        [Stage::Imported, Stage::LaidOut].into_iter().find(keeps).unwrap_or(Stage::Packed)
    }
}

/// The rule of a stage that an operation violates.
fn breaks(op: &Op, stage: Stage) -> Option<&'static str> {
    let layout = match op {
        Op::Conv(spec) | Op::ConvTranspose { spec, .. } => Some(spec.layout),
        _ => None,
    };
    if stage < Stage::Packed && op.is(Traits::MACHINE) {
        Some("is packed too early")
    } else if stage < Stage::LaidOut && layout == Some(Layout::ChannelsLast) {
        Some("is channels last before layouts are chosen")
    } else {
        None
    }
}

/// Checks the same as [`verify`], and the rules of a stage.
///
/// # Errors
/// An internal error that lists all violations, followed by the graph's text.
pub fn verify_at(graph: &Graph, stage: Stage) -> Result<()> {
    report(graph, early(graph, stage))
}

/// What breaks the rules of a stage, in regions too.
fn early(graph: &Graph, stage: Stage) -> Vec<String> {
    let mut wrong = Vec::new();
    for node in graph.nodes() {
        wrong.extend(breaks(graph.op(node), stage).map(|what| format!("{} {what}", name(graph, node))));
        let within = graph.regions(node).into_iter().flat_map(|region| early(region, stage));
        wrong.extend(within.map(|what| format!("in {}: {what}", name(graph, node))));
    }
    wrong
}

/// Checks that operands are numbered without gaps and exist, that no node depends on itself, that every type is the
/// inferred one, that inputs are inputs, and that outputs exist and have distinct names.
///
/// Dimensions that [`Graph::requires`] equates may replace one another in types: replacing a value by one whose type is
/// known to be equal at run time only does not retype the value's users.
///
/// # Errors
/// An internal error that lists all violations, followed by the graph's text.
pub fn verify(graph: &Graph) -> Result<()> {
    report(graph, Vec::new())
}

/// Reports violations of the invariants, in addition to those in `wrong`.
fn report(graph: &Graph, mut wrong: Vec<String>) -> Result<()> {
    faults(graph, &mut wrong);
    if wrong.is_empty() {
        return Ok(());
    }
    let mut message = String::from("the graph is unsound:");
    for w in &wrong {
        let _ = write!(message, "\n  {w}");
    }
    // Graphs with cycles or missing values cannot be listed.
    if graph.find_cycle().is_none() && graph.outputs.iter().all(|o| graph.contains(o.value)) {
        let _ = write!(message, "\n{}", text::print_with(graph, text::Constants::Digest));
    }
    Err(Error::internal(message))
}

/// Whatever is wrong with a graph and its regions.
fn faults(graph: &Graph, wrong: &mut Vec<String>) {
    if let Some(node) = graph.find_cycle() {
        wrong.push(format!("{} depends on itself", name(graph, node)));
    }
    for node in graph.nodes() {
        check_node(graph, node, wrong);
    }
    for (i, output) in graph.outputs.iter().enumerate() {
        if !graph.contains(output.value) {
            wrong.push(format!("output `{}` is a value that does not exist", output.name));
        }
        if graph.outputs[..i].iter().any(|o| o.name == output.name) {
            wrong.push(format!("two outputs are named `{}`", output.name));
        }
    }
    if graph.kept.iter().any(|&kept| !graph.contains(kept)) {
        wrong.push("a kept value does not exist".to_string());
    }
    for node in graph.nodes() {
        for region in graph.regions(node) {
            let mut within = Vec::new();
            faults(region, &mut within);
            wrong.extend(within.into_iter().map(|what| format!("in {}: {what}", name(graph, node))));
        }
    }
}

fn name(graph: &Graph, node: NodeId) -> String {
    format!("node {} (`{}`, label `{}`)", node.index(), graph.op(node).name(), graph.label(node))
}

fn check_node(graph: &Graph, node: NodeId, wrong: &mut Vec<String>) {
    let name = || name(graph, node);
    if matches!(graph.op(node), Op::Input(..)) != graph.inputs().contains(&node) {
        wrong.push(format!("{} is an input that is not listed, or listed but not an input", name()));
    }
    let numbers = graph.operand_numbers(node);
    if !numbers.iter().copied().eq(0..numbers.len()) {
        wrong.push(format!("the operands of {} are numbered {numbers:?}", name()));
    }
    let operands = graph.operands(node);
    if let Some(missing) = operands.iter().find(|v| !graph.contains(**v)) {
        wrong.push(format!("{} uses {missing:?}, which does not exist", name()));
        return;
    }
    let types: Vec<&TensorType> = operands.iter().map(|&v: &Value| graph.ty(v)).collect();
    match infer(graph.op(node), &types) {
        Err(e) => wrong.push(format!("{}: {}", name(), e.report())),
        Ok(inferred) if !types_agree(graph, &inferred.types, graph.types(node)) => {
            wrong.push(format!("{} gives {:?}, but has {:?}", name(), inferred.types, graph.types(node)));
        }
        Ok(_) => {}
    }
}

fn types_agree(graph: &Graph, inferred: &[TensorType], stored: &[TensorType]) -> bool {
    let equated = |a: &Dim, b: &Dim| graph.requires.equate(a, b);
    let dims = |a: &TensorType, b: &TensorType| a.shape.iter().zip(&b.shape).all(|(a, b)| a == b || equated(a, b));
    let one = |(a, b): (&TensorType, &TensorType)| a.dtype == b.dtype && a.rank() == b.rank() && dims(a, b);
    inferred.len() == stored.len() && inferred.iter().zip(stored).all(one)
}
