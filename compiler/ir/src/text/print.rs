//! Prints graphs.

use std::collections::HashMap;
use std::fmt::Write;

use super::attr::{Attr, escape};
use super::{END, MAX_LISTED_ELEMENTS, REGIONS, ops};
use crate::{DType, DTypeClass, Graph, NodeId, Op, Requirement, Tensor, TensorType, Value};

/// How constants of more than [`MAX_LISTED_ELEMENTS`] elements are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constants {
    /// As bytes: the text can be parsed.
    Whole,
    /// As a digest: the text is for reading and comparing.
    Digest,
}

/// The graph as text that [`super::parse()`] can read.
pub fn print(graph: &Graph) -> String {
    print_with(graph, Constants::Whole)
}

/// The graph as text. Nodes that no output depends on are left out, except inputs.
pub fn print_with(graph: &Graph, constants: Constants) -> String {
    let inputs = graph.inputs().iter().copied();
    let others = graph.topological().into_iter().filter(|n| !graph.inputs().contains(n));
    let mut names: HashMap<Value, usize> = HashMap::new();
    let mut out = String::new();
    for node in inputs.chain(others) {
        for result in 0..graph.types(node).len() {
            names.insert(Value { node, result }, names.len());
        }
        line(&mut out, graph, node, &names, constants);
        let regions = graph.regions(node);
        for (region, word) in regions.iter().zip(REGIONS) {
            let _ = writeln!(out, "  {word}");
            for line in print_with(region, constants).lines() {
                let _ = writeln!(out, "    {line}");
            }
        }
        if !regions.is_empty() {
            let _ = writeln!(out, "  {END}");
        }
    }
    for output in &graph.outputs {
        let _ = writeln!(out, "output {} = {}", output.name.show(), reference(&names, output.value));
    }
    for &value in &graph.kept {
        let _ = writeln!(out, "keep {}", reference(&names, value));
    }
    for Requirement { condition, reason } in graph.requires.iter() {
        let reason = if reason.is_empty() { String::new() } else { format!("  // {}", escape(reason, '\n')) };
        let _ = writeln!(out, "requires {condition}{reason}");
    }
    out
}

/// An operation on types as a line, without names and constants: everything that its time depends on.
pub fn signature(op: &Op, operands: &[TensorType], results: &[TensorType]) -> String {
    let types = |types: &[TensorType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("{}({}){} : {}", ops::name(op), types(operands), attributes(op), types(results))
}

/// The [`signature`] of a node.
pub fn node_signature(graph: &Graph, node: NodeId) -> String {
    let operands: Vec<TensorType> = graph.operands(node).iter().map(|&v| graph.ty(v).clone()).collect();
    signature(graph.op(node), &operands, graph.types(node))
}

/// An operation's attributes in braces, after a space.
fn attributes(op: &Op) -> String {
    let pairs: Vec<_> = ops::attributes(op).iter().map(|(name, value)| format!("{name}={value}")).collect();
    if pairs.is_empty() { String::new() } else { format!(" {{{}}}", pairs.join(", ")) }
}

fn reference(names: &HashMap<Value, usize>, value: Value) -> String {
    match names.get(&value) {
        Some(n) => format!("%{n}"),
        None => format!("%?{}.{}", value.node.index(), value.result),
    }
}

fn line(out: &mut String, graph: &Graph, node: NodeId, names: &HashMap<Value, usize>, constants: Constants) {
    let list =
        |values: &mut dyn Iterator<Item = Value>| values.map(|v| reference(names, v)).collect::<Vec<_>>().join(", ");
    let types = graph.types(node);
    let results = list(&mut (0..types.len()).map(|result| Value { node, result }));
    let _ = write!(out, "{results} = ");
    // Writing to a string cannot fail.
    let _ = match graph.op(node) {
        Op::Input(name, _) => write!(out, "input {}", name.show()),
        Op::Constant(tensor) => write!(out, "constant {}", data(tensor, constants)),
        op => write!(out, "{}({})", ops::name(op), list(&mut graph.operands(node).into_iter())),
    };
    out.push_str(&attributes(graph.op(node)));
    let types: Vec<_> = types.iter().map(ToString::to_string).collect();
    let _ = write!(out, " : {}", types.join(", "));
    match graph.label(node) {
        "" => out.push('\n'),
        label => drop(writeln!(out, "  // {}", escape(label, '\n'))),
    }
}

fn data(tensor: &Tensor, constants: Constants) -> String {
    if let Some(value) = tensor.splat_value().filter(|v| tensor.numel() > 1 && is_canonical(v)) {
        return format!("splat {}", element(&value, 0));
    }
    if tensor.numel() <= MAX_LISTED_ELEMENTS && is_canonical(tensor) {
        return format!("[{}]", (0..tensor.numel()).map(|i| element(tensor, i)).collect::<Vec<_>>().join(", "));
    }
    match constants {
        Constants::Whole => {
            let hex = |text: String, byte: &u8| text + &format!("{byte:02x}");
            tensor.data().iter().fold(String::from("0x"), hex)
        }
        Constants::Digest => format!("#{:016x}", digest(tensor.data())),
    }
}

/// FNV-1a: the same on every machine and with every version of the compiler, since snapshots contain it.
fn digest(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// Whether all elements have the code that their value is encoded as; for example, a NaN's payload has no decimal form.
fn is_canonical(t: &Tensor) -> bool {
    let same = |encoded: Tensor| encoded.data() == t.data();
    // Conversion to f64 keeps payloads, text does not.
    let plain = |v: f64| if v.is_nan() { f64::NAN } else { v };
    let values: Vec<f64> = t.to_f64s().into_iter().map(plain).collect();
    !t.dtype().is_float() || Tensor::from_f64s(t.dtype(), t.shape().to_vec(), &values).is_ok_and(same)
}

fn element(t: &Tensor, i: usize) -> String {
    match t.dtype().class() {
        DTypeClass::Float if matches!(t.dtype(), DType::F64 | DType::F8E8M0) => format!("{:?}", t.f64_at(i)),
        // The shortest number that rounds to the element.
        DTypeClass::Float => format!("{:?}", t.f64_at(i) as f32),
        DTypeClass::Unsigned => (t.i64_at(i) as u64).to_string(),
        DTypeClass::Signed | DTypeClass::Bool => t.i64_at(i).to_string(),
    }
}
