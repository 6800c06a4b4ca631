//! Simplifies conditions: a constant condition is replaced by its branch; regions get only the operands that they use,
//! and copies of constants; unused results are removed, and results that are the same in both branches are replaced; if
//! computing both branches is cheaper than a pass over the data, the results are selected.

use std::collections::BTreeSet;

use mcc_targets::{Config, schedule};

use mcc_ir::{BinaryOp, Dim, Error, Graph, If, NodeId, Op, Output, Result, Sym, UnaryOp, Value};

/// Simplifies every condition.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    let mut changed = false;
    'again: loop {
        for node in graph.topological() {
            let Op::If(branches) = graph.op(node) else { continue };
            let branches = branches.clone();
            match take(graph, node, &branches)? {
                Taken::No => changed |= select(graph, node, &branches)? || simplify(graph, node, &branches)?,
                Taken::Yes => changed = true,
                // Its nodes have new ids.
                Taken::WithExtents => {
                    changed = true;
                    continue 'again;
                }
            }
        }
        return Ok(changed);
    }
}

/// The outcome of replacing a condition.
enum Taken {
    /// It is not constant.
    No,
    /// It was replaced by its branch.
    Yes,
    /// The same, and the graph was rebuilt.
    WithExtents,
}

/// Replaces a constant condition by its branch.
fn take(graph: &mut Graph, node: NodeId, branches: &If) -> Result<Taken> {
    let operands = graph.operands(node);
    let Some(condition) = graph.as_constant(operands[0]) else { return Ok(Taken::No) };
    let holds = condition.i64_at(0) != 0;
    let region = if holds { &branches.then } else { &branches.otherwise };
    let results = inlined(graph, region, &operands[1..])?;
    for (result, value) in results.into_iter().enumerate() {
        graph.replace(Value { node, result }, value);
    }
    graph.remove(node);
    if branches.binds.is_empty() {
        return Ok(Taken::Yes);
    }
    let extent = |s: &Sym| {
        let [then, otherwise] = branches.binds.contains(s).then(|| branches.extents(s)).flatten()?;
        Some(if holds { then } else { otherwise })
    };
    *graph = graph.map_dims(&|d: &Dim| d.substitute(&extent))?;
    Ok(Taken::WithExtents)
}

/// The results of a region for some operands, computed in the surrounding graph.
fn inlined(graph: &mut Graph, region: &Graph, operands: &[Value]) -> Result<Vec<Value>> {
    let operands: Vec<Option<Value>> = operands.iter().copied().map(Some).collect();
    let values = graph.inline(region, &operands)?;
    let result = |o: &Output| values.get(&o.value).copied().ok_or_else(|| Error::internal("a result is missing"));
    region.outputs.iter().map(result).collect()
}

/// Computes both branches and selects, if they are a few steps on the same elements.
fn select(graph: &mut Graph, node: NodeId, branches: &If) -> Result<bool> {
    let operands = graph.operands(node);
    let tensors = operands[1..].iter().filter(|&&v| !graph.ty(v).numel().is(1)).count();
    let work: Option<usize> = branches.branches().into_iter().map(steps).sum();
    let alike = |region: &Graph| {
        let types = region.outputs.iter().map(|o| region.ty(o.value));
        types.eq(&branches.results)
    };
    let cheap = work.is_some_and(|steps| steps <= schedule::branches::MAX_SELECTED_STEPS);
    if !cheap || tensors > schedule::branches::MAX_SELECTED_TENSORS || !branches.branches().into_iter().all(alike) {
        return Ok(false);
    }
    let then = inlined(graph, &branches.then, &operands[1..])?;
    let otherwise = inlined(graph, &branches.otherwise, &operands[1..])?;
    let label = graph.label(node).to_string();
    for (result, (a, z)) in then.into_iter().zip(otherwise).enumerate() {
        let value = graph.add_labelled(Op::Select, &[operands[0], a, z], &label)?;
        graph.replace(Value { node, result }, value.into());
    }
    graph.remove(node);
    Ok(true)
}

/// Number of steps per element; `None` if the region does anything else.
fn steps(region: &Graph) -> Option<usize> {
    if !region.kept.is_empty() || !region.requires.is_empty() {
        return None;
    }
    let mut steps = 0;
    for node in region.topological() {
        match region.op(node) {
            Op::Input(..) | Op::Constant(_) => {}
            op if is_step(op) && region.required_by(node).is_empty() => steps += 1,
            _ => return None,
        }
    }
    Some(steps)
}

/// Whether an operation takes about one instruction per vector of elements.
fn is_step(op: &Op) -> bool {
    use BinaryOp::{Add, And, Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Max, Min, Mul, Or, Sub, Xor};
    match op {
        Op::Unary(f) => matches!(f, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not | UnaryOp::BitNot),
        Op::Binary(Add | Sub | Mul | Min | Max | And | Or | Xor) => true,
        Op::Binary(Equal | Less | LessOrEqual | Greater | GreaterOrEqual) | Op::Select => true,
        _ => false,
    }
}

/// The replacement of a region's input.
#[derive(Clone, Copy)]
enum Given {
    /// Stays an operand.
    Operand,
    /// Becomes a constant of the region.
    Constant,
    /// Is unused.
    Nothing,
}

/// Removes operands and results of an operation.
fn simplify(graph: &mut Graph, node: NodeId, branches: &If) -> Result<bool> {
    let operands = graph.operands(node);
    let changed = pass_through(graph, node, branches);
    let wanted = wanted_results(graph, node, branches);
    let mut made = If { binds: wanted.binds, ..branches.clone() };
    made.results = kept(&branches.results, &wanted.results);
    let read = |region: &Graph, n: usize| {
        let input: Value = region.inputs()[n].into();
        let given = region.outputs.iter().zip(&wanted.results).any(|(o, wanted)| *wanted && o.value == input);
        given || !region.users(input).is_empty()
    };
    let given: Vec<Given> = (0..operands.len() - 1)
        .map(|n| match () {
            () if !branches.branches().into_iter().any(|region| read(region, n)) => Given::Nothing,
            () if graph.as_constant(operands[n + 1]).is_some() => Given::Constant,
            () => Given::Operand,
        })
        .collect();
    let stays = |g: &Given| matches!(g, Given::Operand);
    let known = |region: &Graph| region.requires.iter().any(|r| graph.requires.contains(&r.condition));
    let less =
        !given.iter().all(stays) || wanted.results.contains(&false) || branches.branches().into_iter().any(known);
    if !less {
        return Ok(changed);
    }
    for region in [&mut made.then, &mut made.otherwise] {
        *region = rebuilt(graph, region, &operands[1..], &given, &wanted.results)?;
        region.requires.retain(|r| !graph.requires.contains(&r.condition));
    }
    let taken: Vec<bool> = given.iter().map(stays).collect();
    let operands = [&operands[..1], &kept(&operands[1..], &taken)].concat();
    let label = graph.label(node).to_string();
    let new = graph.add_labelled(Op::If(Box::new(made)), &operands, &label)?;
    let places = wanted.results.iter().enumerate().filter(|(_, wanted)| **wanted).map(|(result, _)| result);
    for (result, old) in places.enumerate() {
        graph.replace(Value { node, result: old }, Value { node: new, result });
    }
    graph.remove(node);
    Ok(true)
}

/// The wanted elements of a list.
fn kept<T: Clone>(list: &[T], wanted: &[bool]) -> Vec<T> {
    list.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(item, _)| item.clone()).collect()
}

/// Replaces results that both branches pass through from the same operand.
fn pass_through(graph: &mut Graph, node: NodeId, branches: &If) -> bool {
    let operands = graph.operands(node);
    let mut changed = false;
    for result in 0..branches.results.len() {
        let input = |region: &Graph| {
            let value = region.outputs[result].value;
            region.inputs().iter().position(|&input| value == input.into())
        };
        let value = Value { node, result };
        let used = graph.is_output(value) || !graph.users(value).is_empty();
        let same = input(&branches.then).filter(|n| input(&branches.otherwise) == Some(*n));
        if let Some(n) = same.filter(|_| used) {
            graph.replace(value, operands[n + 1]);
            changed = true;
        }
    }
    changed
}

/// The used parts of an operation.
struct Wanted {
    results: Vec<bool>,
    binds: Vec<Sym>,
}

/// The results that are used, or whose extents define a symbol.
fn wanted_results(graph: &Graph, node: NodeId, branches: &If) -> Wanted {
    let used = |result: usize| {
        let value = Value { node, result };
        graph.is_output(value) || graph.kept.contains(&value) || !graph.users(value).is_empty()
    };
    let mut results: Vec<bool> = (0..branches.results.len()).map(used).collect();
    let mut symbols: BTreeSet<Sym> = BTreeSet::new();
    if !branches.binds.is_empty() {
        symbols.extend(graph.requires.iter().flat_map(|r| r.condition.dims()).flat_map(Dim::symbols));
        symbols.extend(graph.nodes().filter(|&n| n != node).flat_map(|n| graph.symbols(n)));
    }
    let has = |result: usize, s: &Sym| branches.results[result].shape.iter().any(|d| d.as_sym() == Some(s));
    let mut binds = branches.binds.clone();
    binds.retain(|s| {
        let places: Vec<usize> = (0..results.len()).filter(|&result| has(result, s)).collect();
        let given = places.iter().any(|&result| results[result]);
        if let Some(&first) = places.first().filter(|_| !given && symbols.contains(s)) {
            results[first] = true;
            return true;
        }
        given
    });
    // A result that is kept for one symbol may contain another one.
    let still = |s: &&Sym| !binds.contains(s) && (0..results.len()).any(|result| results[result] && has(result, s));
    binds.extend(branches.binds.iter().filter(still).cloned().collect::<Vec<_>>());
    // Without results the operation is unused and removed as a whole.
    if !results.contains(&true) {
        return Wanted { results: vec![true; results.len()], binds: branches.binds.clone() };
    }
    Wanted { results, binds }
}

/// A region with other inputs and fewer outputs.
fn rebuilt(graph: &Graph, region: &Graph, operands: &[Value], given: &[Given], wanted: &[bool]) -> Result<Graph> {
    let mut made = Graph::region();
    let mut inputs = Vec::new();
    for ((&input, &operand), given) in region.inputs().iter().zip(operands).zip(given) {
        inputs.push(match (given, graph.as_constant(operand)) {
            (Given::Operand, _) => {
                let name = made.inputs().len().to_string();
                Some(made.add_input(&name, region.ty(input.into()).clone()))
            }
            (Given::Constant, Some(tensor)) => {
                let own = made.constant(tensor.clone());
                made.set_label(own.node, graph.label(operand.node));
                Some(own)
            }
            _ => None,
        });
    }
    let values = made.inline(region, &inputs)?;
    let outputs = region.outputs.iter().zip(wanted).filter(|(_, wanted)| **wanted).enumerate();
    for (n, (output, _)) in outputs {
        let value = values.get(&output.value).ok_or_else(|| Error::internal("a result is missing"))?;
        made.outputs.push(Output { name: n.to_string(), value: *value });
    }
    made.remove_dead();
    Ok(made)
}
