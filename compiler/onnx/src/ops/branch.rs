//! If: a constant condition selects its branch; otherwise one of two regions runs.

use std::collections::BTreeSet;

use super::super::builder::Region;
use super::super::node::{Item, Node, Results};
use super::Bodies;
use mcc_ir::{BinaryOp, Dim, Error, If, Op, Output, Result, TensorType, UnaryOp, Value};

/// A branch as a region, and its results.
type Branch = (Region, Vec<Item>);

/// A constant condition selects its branch, and so does a test of a shape that decides the results' ranks. Otherwise
/// one of two regions runs.
pub fn if_(w: &mut dyn Bodies, n: &Node) -> Result<Results> {
    let condition = n.input(0)?;
    let (then, otherwise) = (n.graph("then_branch")?, n.graph("else_branch")?);
    if let Some(c) = w.b().known_floats(condition) {
        let branch = if c.first().is_some_and(|&c| c != 0.0) { then } else { otherwise };
        return Ok(Results(w.body(&branch, Vec::new())?));
    }
    let yes = w.region(&then, &[]);
    let operands = yes.as_ref().map_or(Vec::new(), |(region, _)| region.captured.clone());
    let no = w.region(&otherwise, &operands);
    if let Some((a, z, holds)) = shape_test(w, condition)
        && ranks_differ(&yes, &no)
    {
        // A test of a shape with results of different rank, such as the export of `squeeze`. The model is compiled for
        // equality, which is checked at run time.
        let what = format!("node \"{}\": its condition", w.b().label);
        w.b().graph.requires.equal(a, z, &what);
        return Ok(Results(w.body(if holds { &then } else { &otherwise }, Vec::new())?));
    }
    branches(w, condition, yes?, no?)
}

/// An operation that runs one of two regions.
fn branches(w: &mut dyn Bodies, condition: Value, yes: Branch, no: Branch) -> Result<Results> {
    let ((mut then, yes), (mut otherwise, no)) = (yes, no);
    if yes.len() != no.len() {
        let (yes, no) = (yes.len(), no.len());
        return Err(Error::invalid(format!("then_branch has {yes} results, else_branch {no}")));
    }
    for &value in &otherwise.captured[then.captured.len()..] {
        let ty = w.b().ty(value);
        then.graph.add_input(&then.captured.len().to_string(), ty);
        then.captured.push(value);
    }
    // Values that both branches pass through are not results.
    let (mut items, mut results, mut contents) = (Vec::new(), Vec::new(), Vec::new());
    let mut extents = Extents::new();
    for (i, pair) in yes.into_iter().zip(no).enumerate() {
        let (Item::Tensor(a), Item::Tensor(z)) = pair else {
            return Err(Error::unsupported(
                "a condition known at run time only, with branches whose results are not tensors",
            )
            .help(remedy(w, condition)));
        };
        if let Some(outer) = then.passes_through(a).filter(|&outer| otherwise.passes_through(z) == Some(outer)) {
            items.push(Some(outer));
            continue;
        }
        let (ours, theirs) = (then.graph.ty(a).clone(), otherwise.graph.ty(z).clone());
        if ours.dtype != theirs.dtype || ours.rank() != theirs.rank() {
            return Err(Error::unsupported(format!(
                "a condition known at run time only, with branches whose result {i} differs in element type or rank: {ours} \
                 from then_branch, {theirs} from else_branch"
            ))
            .help(remedy(w, condition)));
        }
        let pairs = ours.shape.into_iter().zip(theirs.shape);
        let shape = pairs.map(|(a, z)| if a == z { a } else { extent(w, &mut extents, [a, z]) }).collect();
        for (region, value) in [(&mut then, a), (&mut otherwise, z)] {
            region.graph.outputs.push(Output { name: results.len().to_string(), value });
        }
        results.push(TensorType::new(ours.dtype, shape));
        contents.push(then.content(a).filter(|&known| otherwise.content(z) == Some(known)).cloned());
        items.push(None);
    }
    let mut given = Vec::new();
    if !results.is_empty() {
        // A value that a branch keeps, such as a check of indices, keeps the operation even if nothing needs its results.
        let checks = !then.graph.kept.is_empty() || !otherwise.graph.kept.is_empty();
        let operands = [vec![w.b().reshape(condition, Vec::new())?], then.captured].concat();
        let binds = extents.iter().filter_map(|(_, extent)| extent.as_sym().cloned()).collect();
        let branches = If { then: then.graph, otherwise: otherwise.graph, results, binds };
        given = w.b().add_many(Op::If(Box::new(branches)), &operands)?;
        w.b().graph.kept.extend(given.first().filter(|_| checks));
    }
    for (&value, content) in given.iter().zip(contents) {
        content.into_iter().for_each(|content| w.b().set_content(value, content));
    }
    let mut given = given.into_iter();
    Ok(Results(items.into_iter().filter_map(|outer| outer.or_else(|| given.next())).map(Item::Tensor).collect()))
}

/// Replacements of extents in which the branches differ, by the extent in each branch.
type Extents = Vec<([Dim; 2], Dim)>;

fn extent(w: &mut dyn Bodies, extents: &mut Extents, pair: [Dim; 2]) -> Dim {
    if let Some((_, known)) = extents.iter().find(|(other, _)| *other == pair) {
        return known.clone();
    }
    let extent = w.b().counted_symbol("taken");
    extents.push((pair, extent.clone()));
    extent
}

/// The remedy that makes a condition constant.
fn remedy(w: &mut dyn Bodies, condition: Value) -> String {
    let declared: BTreeSet<_> = w.b().input_dims().iter().flat_map(Dim::symbols).collect();
    let (inputs, dims) = w.b().sources(condition);
    let inputs = inputs.into_iter().map(|name| format!("--value {name}=FILE.npy"));
    let symbols: BTreeSet<_> = dims.iter().flat_map(Dim::symbols).filter(|s| declared.contains(s)).collect();
    let symbols = symbols.into_iter().map(|s| format!("--dim {s}=N"));
    let known: Vec<String> = inputs.chain(symbols).collect();
    match known.as_slice() {
        [] => "make both branches give the same element type and rank".into(),
        known => format!("pin the condition with {}, so that only the branch taken matters", known.join(" and ")),
    }
}

/// The dimensions that a condition compares, and whether it holds if they are equal.
fn shape_test(w: &mut dyn Bodies, condition: Value) -> Option<(Dim, Dim, bool)> {
    let (mut at, mut holds) = (condition, true);
    loop {
        let operands = w.b().graph.operands(at.node);
        match w.b().graph.op(at.node) {
            Op::Binary(BinaryOp::Equal) => {
                let (a, z) = (w.b().known_dims(operands[0])?, w.b().known_dims(operands[1])?);
                return match (a.as_slice(), z.as_slice()) {
                    ([a], [z]) => Some((a.clone(), z.clone(), holds)),
                    _ => None,
                };
            }
            Op::Unary(UnaryOp::Not) => holds = !holds,
            Op::Reshape { .. } | Op::Cast { .. } | Op::Broadcast { .. } => {}
            _ => return None,
        }
        at = *operands.first()?;
    }
}

/// Whether the branches' results are tensors of different ranks. Branches that cannot be imported count as different.
fn ranks_differ(yes: &Result<Branch>, no: &Result<Branch>) -> bool {
    let (Ok((then, yes)), Ok((otherwise, no))) = (yes, no) else { return true };
    yes.iter().zip(no).any(|pair| match pair {
        (Item::Tensor(a), Item::Tensor(z)) => then.graph.ty(*a).rank() != otherwise.graph.ty(*z).rank(),
        _ => true,
    })
}
