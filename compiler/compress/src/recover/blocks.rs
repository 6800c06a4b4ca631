//! Cuts a model into blocks that are recovered one after another.
//!
//! Contract: blocks follow one another in the order of the nodes, and every layer is in one. A block ends where few
//! values are alive that depend on layers: between the blocks of a residual network only one is. All of them must be
//! comparable: the teacher has them too, with the same shapes. Values that depend on no layer are not cut: each block
//! computes those that it needs from the model's inputs.

use std::collections::{BTreeSet, HashMap, HashSet};

use mcc_onnx::order::uses;

use crate::layers::Layer;
use crate::model::Model;

/// Layers that a block has if it can be cut there as well as anywhere.
const USUAL_LAYERS: usize = 4;

/// Layers after which a block ends, wherever it is.
const MOST_LAYERS: usize = 16;

/// Operators whose result does not depend on their operand's elements.
const SHAPES: &[&str] = &["Shape", "Size"];

/// A part of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Values of earlier blocks that it reads.
    pub inputs: Vec<String>,
    /// The model's inputs that it reads.
    pub sides: Vec<String>,
    /// Its values that later blocks read, or that are the model's outputs.
    pub outputs: Vec<String>,
    /// Results of its layers.
    pub layers: Vec<String>,
}

/// The blocks of a model with some layers.
pub fn blocks(model: &Model, layers: &[Layer], comparable: &dyn Fn(&str) -> bool) -> Vec<Block> {
    let flow = Flow::of(model, layers);
    let mut blocks = Vec::new();
    let mut start = 0;
    while start < flow.nodes.len() {
        let end = flow.end(start, comparable);
        blocks.extend(flow.block(start, end));
        start = end;
    }
    blocks
}

/// The part of a model that computes some values, as one block.
pub fn whole(model: &Model, layers: &[Layer], outputs: &[String]) -> Option<Block> {
    let (mut sides, mut seen) = (BTreeSet::new(), HashSet::new());
    let mut waiting: Vec<&str> = outputs.iter().map(String::as_str).collect();
    while let Some(name) = waiting.pop() {
        if !seen.insert(name) || model.constant(name).is_some() {
            continue;
        }
        match model.giver(name) {
            Some(node) => waiting.extend(uses(&model.nodes()[node])),
            None => drop(sides.insert(name.to_string())),
        }
    }
    // A recurrent node's second layer is in as its first is.
    let results = |l: &Layer| model.giver(&l.output).map_or(&[][..], |n| &model.nodes()[n].output);
    let is_in = |l: &&Layer| results(l).iter().any(|result| seen.contains(result.as_str()));
    let layers = layers.iter().filter(is_in).map(|l| l.output.clone()).collect();
    block(model, Block { inputs: Vec::new(), sides: sides.into_iter().collect(), outputs: outputs.to_vec(), layers })
}

/// A block, if it has layers and outputs.
fn block(model: &Model, block: Block) -> Option<Block> {
    let given = |name: &String| model.graph().input.iter().any(|i| i.name == *name);
    let sides = block.sides.into_iter().filter(given).collect();
    (!block.layers.is_empty() && !block.outputs.is_empty()).then_some(Block { sides, ..block })
}

/// The last values before each of the model's outputs that depend on layers and are comparable: outputs themselves, or
/// the scores from which the best is chosen.
pub fn ends(model: &Model, layers: &[Layer], comparable: &dyn Fn(&str) -> bool) -> Vec<String> {
    let flow = Flow::of(model, layers);
    let (mut ends, mut seen) = (Vec::new(), HashSet::new());
    let mut waiting: Vec<&str> = model.graph().output.iter().rev().map(|o| o.name.as_str()).collect();
    while let Some(name) = waiting.pop() {
        if !flow.lives.contains_key(name) || !seen.insert(name) {
            continue;
        }
        match model.giver(name) {
            _ if comparable(name) => ends.push(name.to_string()),
            Some(node) if SHAPES.contains(&model.nodes()[node].op_type.as_str()) => {}
            Some(node) => waiting.extend(uses(&model.nodes()[node])),
            None => {}
        }
    }
    ends
}

/// The nodes that depend on layers.
struct Flow<'m> {
    model: &'m Model,
    /// Their numbers, in order.
    nodes: Vec<usize>,
    /// For each, the layers that it is.
    layers: Vec<Vec<String>>,
    /// For each name that they give, who gives it, and the place after the last that reads it.
    lives: HashMap<&'m str, Life>,
}

#[derive(Clone, Copy)]
struct Life {
    from: usize,
    to: usize,
}

/// Where a block may end.
struct End {
    at: usize,
    /// Values that are alive there.
    alive: usize,
    /// Layers before it.
    layers: usize,
}

impl<'m> Flow<'m> {
    fn of(model: &'m Model, layers: &[Layer]) -> Flow<'m> {
        let results: HashSet<&str> = layers.iter().map(|l| l.output.as_str()).collect();
        let mut flow = Flow { model, nodes: Vec::new(), layers: Vec::new(), lives: HashMap::new() };
        for (n, node) in model.nodes().iter().enumerate() {
            let own: Vec<String> = node.output.iter().filter(|o| results.contains(o.as_str())).cloned().collect();
            let is_layer = !own.is_empty();
            let by_shape = SHAPES.contains(&node.op_type.as_str());
            if !is_layer && (by_shape || !uses(node).iter().any(|name| flow.lives.contains_key(name))) {
                continue;
            }
            let at = flow.nodes.len();
            for name in uses(node) {
                if let Some(life) = flow.lives.get_mut(name) {
                    life.to = at;
                }
            }
            for name in node.output.iter().filter(|o| !o.is_empty()) {
                let to = if model.is_output(name) { usize::MAX } else { at };
                flow.lives.insert(name, Life { from: at, to });
            }
            flow.nodes.push(n);
            flow.layers.push(own);
        }
        // A later use is no earlier end.
        for output in &model.graph().output {
            flow.lives.entry(&output.name).and_modify(|life| life.to = usize::MAX);
        }
        flow
    }

    /// The values that are alive before the node at a place.
    fn alive(&self, at: usize) -> impl Iterator<Item = &'m str> {
        let alive = move |life: &Life| life.from < at && life.to >= at;
        self.lives.iter().filter(move |(_, life)| alive(life)).map(|(name, _)| *name)
    }

    /// Where a block that begins at `start` ends best.
    fn end(&self, start: usize, comparable: &dyn Fn(&str) -> bool) -> usize {
        let last = self.nodes.len();
        let mut best: Option<End> = None;
        let mut layers = 0;
        for at in start + 1..last {
            layers += self.layers[at - 1].len();
            let most = match &best {
                Some(best) if best.alive == 1 => best.layers.max(USUAL_LAYERS),
                Some(_) => MOST_LAYERS,
                None => usize::MAX,
            };
            if layers > most {
                break;
            }
            let names: Vec<&str> = self.alive(at).collect();
            if layers == 0 || !names.iter().all(|name| comparable(name)) {
                continue;
            }
            // Few values first; then as many layers as are usual, and what follows them.
            let better = best.as_ref().is_none_or(|best| {
                let as_few = names.len() == best.alive && layers <= best.layers.max(USUAL_LAYERS);
                names.len() < best.alive || as_few
            });
            if better {
                best = Some(End { at, alive: names.len(), layers });
            }
        }
        let rest = |at: usize| self.layers[at..].iter().all(Vec::is_empty);
        best.map(|b| b.at).filter(|&at| !rest(at)).unwrap_or(last)
    }

    /// The block of the nodes from `start` to `end`.
    fn block(&self, start: usize, end: usize) -> Option<Block> {
        let layers: Vec<String> = self.layers[start..end].iter().flatten().cloned().collect();
        let inside = |life: &Life| (start..end).contains(&life.from);
        let mut outputs: Vec<(usize, &str)> = self
            .lives
            .iter()
            .filter(|(_, life)| inside(life) && life.to >= end)
            .map(|(&name, life)| (life.from, name))
            .collect();
        outputs.sort_unstable();
        let (mut inputs, mut sides, mut seen) = (BTreeSet::new(), BTreeSet::new(), HashSet::new());
        let mut waiting: Vec<&str> = outputs.iter().map(|o| o.1).collect();
        while let Some(name) = waiting.pop() {
            if !seen.insert(name) || self.model.constant(name).is_some() {
                continue;
            }
            match (self.lives.get(name), self.model.giver(name)) {
                (Some(life), _) if !inside(life) => drop(inputs.insert(name.to_string())),
                (_, Some(node)) => waiting.extend(uses(&self.model.nodes()[node])),
                (_, None) => drop(sides.insert(name.to_string())),
            }
        }
        let names = |names: BTreeSet<String>| names.into_iter().collect();
        let outputs = outputs.into_iter().map(|o| o.1.to_string()).collect();
        block(self.model, Block { inputs: names(inputs), sides: names(sides), outputs, layers })
    }
}
