//! The source of every symbolic dimension's run-time value.

use std::collections::BTreeSet;

use super::program::{Symbol, SymbolSource};
use mcc_ir::Result;
use mcc_ir::{Dim, Graph, Op, Sym, bounds};

/// All symbols of a graph that have a source, in binding order: extents of inputs, elements of integer inputs, then
/// symbols bound by steps.
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
    of_steps(graph, &mut bind);
    Ok(symbols)
}

/// The symbols bound by steps, in binding order; those within a region before those of its operation.
fn of_steps(graph: &Graph, bind: &mut dyn FnMut(&Sym, SymbolSource)) {
    for node in graph.topological() {
        graph.regions(node).into_iter().for_each(|region| of_steps(region, bind));
        for symbol in graph.op(node).binds() {
            let max = match graph.op(node) {
                // A branch that is not taken may have any requirements.
                Op::If(branches) => {
                    branches.extents(symbol).map(|[a, b]| bounds::max(&bounds::max(&a, &b), &Dim::ZERO))
                }
                _ => graph.operand(node, 0).map(|x| graph.ty(x).numel()),
            };
            if let Some(max) = max {
                bind(symbol, SymbolSource::Step { max });
            }
        }
    }
}

fn used_symbols(graph: &Graph) -> BTreeSet<Sym> {
    let mut used: BTreeSet<Sym> = graph.topological().into_iter().flat_map(|node| graph.symbols(node)).collect();
    for requirement in graph.requires.iter() {
        requirement.condition.dims().for_each(|d| used.extend(d.symbols()));
    }
    used
}
