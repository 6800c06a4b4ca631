//! Replaces symbolic dimensions that the model uses as constants by the constants.
//!
//! If a symbol must equal a constant, such as the channels of an image those of the weights, the symbol is that
//! constant: the input then has that extent, and callers that pass another one are refused. If a product of dimensions
//! must equal a constant, as after flattening an image, it is replaced in all dimensions, and the compiled model checks
//! the equality before any kernel. Other expressions, such as a sum of two extents, become constants only where they
//! are contracted with weights. Kernels rely on this: constant weights and the operand contracted with them have the
//! same extent.

use std::collections::BTreeSet;

use mcc_targets::Config;

use crate::support::edit::{Edit, rewrite};
use mcc_ir::Result;
use mcc_ir::{Condition, Dim, Graph, NodeId, Op, Requirement, Rule, Sym, Value};

/// Replaces dimensions that must be constant by the constant.
///
/// # Errors
/// When a dimension would have to be several constants.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    let mut changed = false;
    while let Some(known) = Known::of(graph) {
        known.shape_inputs(graph)?;
        known.say(graph)?;
        changed = true;
    }
    Ok(rewrite(graph, meets_weights)? || changed)
}

/// A product or convolution whose operand gets the channels of its constant weights.
fn meets_weights(edit: &mut Edit, node: NodeId) -> Result<Option<Value>> {
    let (op, mut operands) = (edit.graph.op(node).clone(), edit.graph.operands(node));
    let (&[x, w, ..], Some((axis, channels))) = (operands.as_slice(), channels(edit, &op, &operands)) else {
        return Ok(None);
    };
    let mut shape = edit.shape(x);
    if edit.graph.as_constant(w).is_none() || shape[axis].as_const().is_some() {
        return Ok(None);
    }
    shape[axis] = channels;
    operands[0] = edit.reshape(x, shape)?;
    edit.add(op, &operands).map(Some)
}

/// The axis of the first operand that is contracted with the weights, and its extent.
fn channels(edit: &Edit, op: &Op, operands: &[Value]) -> Option<(usize, Dim)> {
    let &[x, w, ..] = operands else { return None };
    let (rank, w) = (edit.graph.ty(x).rank(), &edit.graph.ty(w).shape);
    match op {
        Op::MatMul => Some((rank.checked_sub(1)?, w[w.len().saturating_sub(2)].clone())),
        Op::Conv(spec) => Some((spec.layout.channels(rank), &w[1] * &Dim::from(spec.group))),
        Op::ConvTranspose { spec, .. } => Some((spec.layout.channels(rank), w[0].clone())),
        _ => None,
    }
}

/// Equalities with constants.
struct Known {
    rules: Vec<Rule>,
    /// Extents of inputs.
    extents: BTreeSet<Sym>,
    /// Whether the inputs are a region's: what a region takes has the extents that it has outside.
    is_region: bool,
}

impl Known {
    /// The equalities that the graph does not reflect yet, if there are any.
    fn of(graph: &Graph) -> Option<Known> {
        let mut known = Known { rules: Vec::new(), extents: BTreeSet::new(), is_region: graph.is_region() };
        let counted: BTreeSet<Sym> = graph.nodes().flat_map(|n| graph.op(n).binds().into_iter().cloned()).collect();
        // A step's count is not known before the step.
        let early = |d: &Dim| d.symbols().is_disjoint(&counted);
        let met = |r: &'_ Requirement| match &r.condition {
            Condition::Equal(a, b) if a.as_const().or(b.as_const()).is_some() => Some((a.clone(), b.clone())),
            _ => None,
        };
        let met: Vec<(Dim, Dim)> =
            graph.requires.iter().filter_map(met).filter(|(a, b)| early(a) && early(b)).collect();
        let next = |known: &Known| {
            let rules = met.iter().filter_map(|(a, b)| Rule::equating(&known.apply(a), &known.apply(b)));
            rules.min_by_key(|rule| rule.fixed().is_none())
        };
        while let Some(rule) = next(&known) {
            known.rules.push(rule);
        }
        if known.rules.is_empty() {
            return None;
        }
        let types = graph.inputs().iter().map(|&n| graph.ty(n.into()));
        known.extents = types.flat_map(|ty| ty.shape.iter().filter_map(|d| d.as_sym().cloned())).collect();
        let news = graph.nodes().any(|n| match graph.op(n) {
            Op::Constant(_) => false,
            op => !known.op(op).is_ok_and(|known| known == *op),
        });
        (news || !known.other_shapes(graph).is_empty()).then_some(known)
    }

    /// A region's inputs that are used in other shapes than those that are known of them.
    fn other_shapes(&self, graph: &Graph) -> Vec<(Value, Vec<Dim>)> {
        let inputs = graph.inputs().iter().filter(|_| self.is_region).map(|&input| {
            let shape: Vec<Dim> = graph.ty(input.into()).shape.iter().map(|d| self.pinned(d)).collect();
            (Value::from(input), shape)
        });
        let other = |(input, shape): &(Value, Vec<Dim>)| {
            let known = |&(user, _): &(NodeId, usize)| matches!(graph.op(user), Op::Reshape { shape: s } if s == shape);
            let used = graph.is_output(*input) || !graph.users(*input).iter().all(known);
            used && graph.ty(*input).shape != *shape
        };
        inputs.filter(other).collect()
    }

    /// Lets a region use what it takes in the shapes that are known of it.
    fn shape_inputs(&self, graph: &mut Graph) -> Result<()> {
        // As many elements as before follows from what is known.
        let required = graph.requires.clone();
        for (input, shape) in self.other_shapes(graph) {
            let shaped = graph.add(Op::Reshape { shape }, &[input])?;
            graph.replace(input, shaped);
        }
        graph.requires = required;
        Ok(())
    }

    fn apply(&self, d: &Dim) -> Dim {
        self.rules.iter().fold(d.clone(), |d, rule| rule.apply(&d))
    }

    /// A dimension with the symbols replaced that are extents of inputs.
    fn pinned(&self, d: &Dim) -> Dim {
        let value = |s: &Sym| self.rules.iter().filter_map(Rule::fixed).find(|(fixed, _)| *fixed == s);
        d.substitute(&|s| value(s).filter(|_| self.extents.contains(s)).map(|(_, c)| Dim::from(c)))
    }

    fn op(&self, op: &Op) -> Result<Op> {
        match op {
            Op::Input(..) if self.is_region => Ok(op.clone()),
            Op::Input(..) => op.map_dims(&|d| self.pinned(d)),
            _ => op.map_dims(&|d| self.apply(d)),
        }
    }

    /// Rebuilds the graph.
    fn say(&self, graph: &mut Graph) -> Result<()> {
        let mut made = graph.map_ops(&|op| self.op(op))?;
        let derived = std::mem::take(&mut made.requires);
        for requirement in graph.requires.iter() {
            // A model's inputs are held to their extents anyway.
            let condition = requirement.condition.map(&|d| if self.is_region { d.clone() } else { self.pinned(d) });
            if condition.holds() != Some(true) {
                made.requires.push(Requirement { condition, reason: requirement.reason.clone() });
            }
        }
        // Requirements that follow from these need not be checked.
        let follows = |r: &Requirement| r.condition.map(&|d| self.apply(d)).holds() == Some(true);
        derived.iter().filter(|r| !follows(r)).for_each(|r| made.requires.push(r.clone()));
        *graph = made;
        Ok(())
    }
}
