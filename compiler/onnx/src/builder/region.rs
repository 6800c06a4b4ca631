//! Builds regions: graphs within the graph, which receive the values that they use as operands.
//!
//! While a region is built, it is the builder's graph; the surrounding graphs wait, each with the known elements of its
//! values. A value of a surrounding graph becomes an input of every region in between when it is first used. Constants
//! and dimensions need no operand: a region gets copies.

use std::collections::{HashMap, HashSet};

use super::{Builder, Content};
use mcc_ir::{Dim, Graph, Op, Result, Value};

/// Values that are followed to find what a value is computed from.
const MAX_FOLLOWED_VALUES: usize = 1000;

/// A graph that waits until its region is built.
pub(super) struct Around {
    graph: Graph,
    contents: HashMap<Value, Content>,
    /// The region's operands.
    captured: Vec<Value>,
    /// The values of this graph that are inputs of the region.
    inside: HashMap<Value, Value>,
}

/// A finished region.
pub struct Region {
    /// Its operations.
    pub graph: Graph,
    /// The values of the surrounding graph for its inputs.
    pub captured: Vec<Value>,
    contents: HashMap<Value, Content>,
}

impl Region {
    /// The known elements of one of its values.
    pub fn content(&self, value: Value) -> Option<&Content> {
        self.contents.get(&value)
    }

    /// The value of the surrounding graph that is passed to the region as one of its values.
    pub fn passes_through(&self, value: Value) -> Option<Value> {
        let input = self.graph.inputs().iter().position(|&input| value == input.into())?;
        self.captured.get(input).copied()
    }
}

impl Builder {
    /// The nesting depth of the graph under construction.
    pub fn depth(&self) -> usize {
        self.around.len()
    }

    /// Begins a region with some operands.
    pub fn begin_region(&mut self, operands: &[Value]) -> Result<()> {
        let graph = std::mem::replace(&mut self.graph, Graph::region());
        let contents = std::mem::take(&mut self.contents);
        self.around.push(Around { graph, contents, captured: Vec::new(), inside: HashMap::new() });
        operands.iter().try_for_each(|&v| self.enter(v, self.depth() - 1).map(|_| ()))
    }

    /// Ends the current region.
    pub fn end_region(&mut self) -> Option<Region> {
        let around = self.around.pop()?;
        let graph = std::mem::replace(&mut self.graph, around.graph);
        let contents = std::mem::replace(&mut self.contents, around.contents);
        Some(Region { graph, captured: around.captured, contents })
    }

    /// A value of the graph at a nesting depth, made available in the graph under construction.
    pub fn captured(&mut self, value: Value, depth: usize) -> Result<Value> {
        (depth..self.depth()).try_fold(value, |value, depth| self.enter(value, depth))
    }

    /// What a value is computed from: names of the model's inputs, and dimensions.
    pub fn sources(&self, value: Value) -> (Vec<String>, Vec<Dim>) {
        let (mut inputs, mut dims) = (Vec::new(), Vec::new());
        let (mut stack, mut seen) = (vec![(self.depth(), value)], HashSet::new());
        while let Some((depth, value)) = stack.pop() {
            if seen.len() > MAX_FOLLOWED_VALUES || !seen.insert((depth, value)) {
                continue;
            }
            let graph = self.around.get(depth).map_or(&self.graph, |around| &around.graph);
            let place = graph.inputs().iter().position(|&input| value == input.into());
            let outer = place.filter(|_| depth > 0).and_then(|place| self.around[depth - 1].captured.get(place));
            if let Some(&outer) = outer {
                stack.push((depth - 1, outer));
            } else if place.is_some() {
                inputs.push(graph.label(value.node).to_string());
            } else if let Op::Dims(all) = graph.op(value.node) {
                dims.extend(all.iter().cloned());
            } else {
                stack.extend(graph.operands(value.node).into_iter().map(|v| (depth, v)));
            }
        }
        (inputs, dims)
    }

    /// The dimensions of the model's inputs.
    pub fn input_dims(&self) -> Vec<Dim> {
        let model = self.around.first().map_or(&self.graph, |around| &around.graph);
        model.inputs().iter().flat_map(|&input| model.ty(input.into()).shape.clone()).collect()
    }

    /// Makes a value of a surrounding graph available in the region that is built in it.
    fn enter(&mut self, value: Value, depth: usize) -> Result<Value> {
        let (outer, inner) = self.around.split_at_mut(depth + 1);
        let Around { graph, contents, captured, inside } = &mut outer[depth];
        if let Some(&known) = inside.get(&value) {
            return Ok(known);
        }
        let (region, known) = match inner.first_mut() {
            Some(next) => (&mut next.graph, &mut next.contents),
            None => (&mut self.graph, &mut self.contents),
        };
        let label = graph.label(value.node);
        let own = if let Some(tensor) = graph.as_constant(value) {
            let own = region.constant(tensor.clone());
            region.set_label(own.node, label);
            own
        } else if let Op::Dims(dims) = graph.op(value.node) {
            region.add_labelled(Op::Dims(dims.clone()), &[], label)?.into()
        } else {
            captured.push(value);
            region.add_input(&(captured.len() - 1).to_string(), graph.ty(value).clone())
        };
        known.extend(contents.get(&value).map(|content| (own, content.clone())));
        inside.insert(value, own);
        Ok(own)
    }
}
