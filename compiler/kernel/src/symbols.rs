//! Where the run-time value of every symbolic dimension comes from.

use std::collections::BTreeSet;

use super::program::{Symbol, SymbolSource};
use mcc_ir::Result;
use mcc_ir::{Graph, Op, Sym};

/// All symbols of a graph that have a source, in binding order: extents of inputs, elements of integer inputs, then
/// what steps compute.
pub fn bindings(graph: &Graph) -> Result<Vec<Symbol>> {
    let mut symbols: Vec<Symbol> = Vec::new();
    let mut bind = |name: &Sym, source: SymbolSource| {
        if !symbols.iter().any(|s| s.name == *name) {
            symbols.push(Symbol { name: name.clone(), source });
        }
    };
    for (input, &id) in graph.inputs().iter().enumerate() {
        for (axis, dim) in graph.ty(id.into()).shape.iter().enumerate() {
            if let Some(name) = dim.as_sym() {
                bind(name, SymbolSource::InputDim { input, axis });
            }
        }
    }
    let used = used_symbols(graph);
    for (input, &id) in graph.inputs().iter().enumerate() {
        let Op::Input(name, ty) = graph.op(id) else { continue };
        let elements = ty.numel().as_const().unwrap_or(0).min(64);
        for index in 0..elements as usize {
            let element = Sym(format!("{name}[{index}]").into());
            if used.contains(&element) {
                bind(&element, SymbolSource::InputElement { input, index });
            }
        }
    }
    for node in graph.topological() {
        if let Op::NonZero { count } = graph.op(node)
            && let (Some(name), Some(x)) = (count.as_sym(), graph.operand(node, 0))
        {
            bind(name, SymbolSource::Step { max: graph.ty(x).numel() });
        }
    }
    Ok(symbols)
}

fn used_symbols(graph: &Graph) -> BTreeSet<Sym> {
    let mut used = BTreeSet::new();
    for node in graph.topological() {
        for ty in graph.types(node) {
            ty.shape.iter().for_each(|d| used.extend(d.symbols()));
        }
        match graph.op(node) {
            Op::Dims(dims) => dims.iter().for_each(|d| used.extend(d.symbols())),
            Op::Slice { ranges } => ranges.iter().for_each(|r| used.extend(r.start.symbols())),
            Op::Pad { before, .. } => before.iter().for_each(|d| used.extend(d.symbols())),
            _ => {}
        }
    }
    for requirement in graph.requires.iter() {
        requirement.condition.dims().for_each(|d| used.extend(d.symbols()));
    }
    used
}
