//! Regions: graphs within a graph, one of which an operation runs at run time.
//!
//! A region is an ordinary graph, so inference, verifier, text form, evaluator and passes work on it as on a model. It
//! is isolated: its inputs are the operands that the operation passes to it, in order (their names are these numbers),
//! and its outputs are the operation's results. Values of the surrounding graph are not visible; its symbols are, and
//! symbols that the region's own operations bind are known within it only. The region's requirements are checked where
//! it runs, and only there.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use super::{Graph, Value};
use crate::{Dim, Sym, TensorType};
use crate::{Error, Result};

/// Two regions, of which a condition runs one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct If {
    /// Runs if the condition is true.
    pub then: Graph,
    /// Runs if it is false.
    pub otherwise: Graph,
    /// Types of the results. Extents that differ between the branches are symbols of `binds`.
    pub results: Vec<TensorType>,
    /// Symbols for extents of the branch that is taken.
    pub binds: Vec<Sym>,
}

impl If {
    /// Both regions, the one for true first.
    pub fn branches(&self) -> [&Graph; 2] {
        [&self.then, &self.otherwise]
    }

    /// The types of each branch's inputs.
    pub fn inputs(&self) -> [Vec<&TensorType>; 2] {
        self.branches().map(|region| region.inputs().iter().map(|&input| region.ty(input.into())).collect())
    }

    /// The types of each branch's outputs.
    pub fn outputs(&self) -> [Vec<&TensorType>; 2] {
        self.branches().map(|region| region.outputs.iter().map(|output| region.ty(output.value)).collect())
    }

    /// The extent in each branch of a symbol of [`If::binds`].
    pub fn extents(&self, symbol: &Sym) -> Option<[Dim; 2]> {
        let places = self.results.iter().enumerate().flat_map(|(result, ty)| (0..ty.rank()).map(move |a| (result, a)));
        let mut bound = places.filter(|&(result, axis)| self.results[result].shape[axis].as_sym() == Some(symbol));
        let (result, axis) = bound.next()?;
        let extent = |g: &Graph| Some(g.ty(g.outputs.get(result)?.value).shape.get(axis)?.clone());
        Some([extent(&self.then)?, extent(&self.otherwise)?])
    }
}

/// Compares inputs, operations in order, their operands, outputs and requirements. Labels and reports are ignored.
impl PartialEq for Graph {
    fn eq(&self, other: &Graph) -> bool {
        let (own, others) = (self.listed(), other.listed());
        let types = |g: &Graph| g.inputs().iter().map(|&n| g.types(n).to_vec()).collect::<Vec<_>>();
        let numbers = |g: &Graph, order: &[super::NodeId]| {
            let mut numbers = HashMap::new();
            order.iter().for_each(|&n| {
                numbers.insert(n, numbers.len());
            });
            let number = |v: Value| numbers.get(&v.node).map(|&n| (n, v.result));
            let uses: Vec<_> =
                order.iter().map(|&n| g.operands(n).into_iter().map(number).collect::<Vec<_>>()).collect();
            let outputs: Vec<_> = g.outputs.iter().map(|o| (o.name.clone(), number(o.value))).collect();
            let kept: Vec<_> = g.kept.iter().map(|&v| number(v)).collect();
            (uses, outputs, kept)
        };
        own.len() == others.len()
            && types(self) == types(other)
            && self.requires == other.requires
            && numbers(self, &own) == numbers(other, &others)
            && own.iter().zip(&others).all(|(&a, &b)| self.op(a) == other.op(b))
    }
}

impl Eq for Graph {}

/// Hashes only a little, since equality is checked anyway and constants are large.
impl Hash for Graph {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let order = self.listed();
        order.len().hash(state);
        order.iter().for_each(|&n| self.op(n).name().hash(state));
    }
}

impl Graph {
    /// Adds the nodes and requirements of another graph, with its inputs replaced by these values; unused inputs may be
    /// `None`. Returns the new values by the other graph's values.
    ///
    /// # Errors
    /// When operations contradict their new operands.
    pub fn inline(&mut self, other: &Graph, inputs: &[Option<Value>]) -> Result<HashMap<Value, Value>> {
        let given = other.inputs().iter().zip(inputs).filter_map(|(&input, &value)| Some((input.into(), value?)));
        let mut values: HashMap<Value, Value> = given.collect();
        for node in other.topological().into_iter().filter(|n| !other.inputs().contains(n)) {
            let label = other.label(node);
            let first = match other.as_constant(node.into()) {
                Some(tensor) => self.constant(tensor.clone()),
                None => {
                    let operands =
                        other.operands(node).iter().map(|v| values.get(v).copied()).collect::<Option<Vec<_>>>();
                    let operands = operands.ok_or_else(|| Error::internal("a region uses an input without a value"))?;
                    self.add_labelled(other.op(node).clone(), &operands, label).map_err(|e| e.within(label))?.into()
                }
            };
            self.set_label(first.node, label);
            let results =
                (0..other.types(node).len()).map(|result| (Value { node, result }, Value { result, ..first }));
            values.extend(results);
        }
        self.kept.extend(other.kept.iter().filter_map(|v| values.get(v).copied()));
        other.requires.iter().for_each(|requirement| self.requires.push(requirement.clone()));
        other.decisions.iter().for_each(|decision| self.decide(decision.clone()));
        Ok(values)
    }

    /// The inputs, then all needed nodes, in order.
    fn listed(&self) -> Vec<super::NodeId> {
        let inputs = self.inputs().iter().copied();
        inputs.chain(self.topological().into_iter().filter(|n| !self.inputs().contains(n))).collect()
    }
}
