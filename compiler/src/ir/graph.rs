//! The graph: operations as nodes, uses of values as edges. The only file of `ir` that names petgraph.
//!
//! Invariants, kept by the editing API:
//! - every node's result types are what [`infer()`] says of its operands' types;
//! - operands are numbered `0..n` without gaps (a primitive's optional operands trail);
//! - the graph has no cycle: a node's operands exist before it is added, and [`Graph::replace`] is the one way to
//!   redirect uses (its callers must not make a value depend on itself; the verifier checks).

pub mod region;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use super::{Condition, Decision, Decisions, Dim, Op, Requirement, Requirements, Sym, Tensor, TensorType, infer};
use crate::Result;

/// A node of a graph. Ids of removed nodes may be reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(NodeIndex);

impl NodeId {
    /// A small number that is unique among a graph's live nodes.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// One result of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// The node that produces it.
    pub node: NodeId,
    /// Which of its results.
    pub result: usize,
}

impl From<NodeId> for Value {
    /// The node's first result.
    fn from(node: NodeId) -> Value {
        Value { node, result: 0 }
    }
}

/// A named result of the whole graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its name in the model.
    pub name: String,
    /// What it is.
    pub value: Value,
}

/// The named results of a graph, in order; and where a value is among them.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    list: Vec<Output>,
    places: HashMap<Value, Vec<usize>>,
}

impl Outputs {
    /// Adds one.
    pub fn push(&mut self, output: Output) {
        self.places.entry(output.value).or_default().push(self.list.len());
        self.list.push(output);
    }

    /// Whether a value is one.
    fn contains(&self, value: Value) -> bool {
        self.places.contains_key(&value)
    }

    /// Lets the outputs that are `old` be `new`.
    fn replace(&mut self, old: Value, new: Value) {
        for place in self.places.remove(&old).unwrap_or_default() {
            self.list[place].value = new;
            self.places.entry(new).or_default().push(place);
        }
    }
}

impl std::ops::Deref for Outputs {
    type Target = [Output];

    fn deref(&self) -> &[Output] {
        &self.list
    }
}

impl FromIterator<Output> for Outputs {
    fn from_iter<I: IntoIterator<Item = Output>>(list: I) -> Outputs {
        let mut outputs = Outputs::default();
        list.into_iter().for_each(|o| outputs.push(o));
        outputs
    }
}

impl<'a> IntoIterator for &'a Outputs {
    type Item = &'a Output;
    type IntoIter = std::slice::Iter<'a, Output>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

#[derive(Debug, Clone)]
struct Node {
    op: Op,
    types: Vec<TensorType>,
    label: String,
    requires: Vec<Requirement>,
}

#[derive(Debug, Clone, Copy)]
struct Use {
    operand: usize,
    result: usize,
}

/// A model's computation.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    net: StableDiGraph<Node, Use>,
    inputs: Vec<NodeId>,
    /// What the model returns, in order.
    pub outputs: Outputs,
    /// Values that are computed, before all others, though no output depends on them: something is required of what they bind.
    pub kept: Vec<Value>,
    /// What must hold of dimensions whatever becomes of the nodes that asked for it; the compiled model checks it before any
    /// work. What nodes of their own require is [`Graph::required_by`].
    pub requires: Requirements,
    /// What the user should know of the model: what it says and what holds instead.
    pub warnings: Vec<String>,
    /// Files beside the model's own that constants are windows of.
    pub files: Vec<PathBuf>,
    decisions: Decisions,
    is_region: bool,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// An empty [`region`].
    pub fn region() -> Graph {
        Graph { is_region: true, ..Graph::default() }
    }

    /// Whether it is a region of an operation: its inputs are none of the model's.
    pub fn is_region(&self) -> bool {
        self.is_region
    }

    /// Adds a model input.
    pub fn add_input(&mut self, name: &str, ty: TensorType) -> Value {
        let op = Op::Input(name.to_string(), ty.clone());
        let id = NodeId(self.net.add_node(Node { op, types: vec![ty], label: name.to_string(), requires: Vec::new() }));
        self.inputs.push(id);
        id.into()
    }

    /// Adds constant data.
    pub fn constant(&mut self, tensor: Tensor) -> Value {
        let types = vec![tensor.ty()];
        let op = Op::Constant(tensor);
        NodeId(self.net.add_node(Node { op, types, label: String::new(), requires: Vec::new() })).into()
    }

    /// Adds an operation; its first result is the value returned.
    ///
    /// # Errors
    /// When the operands' types contradict the operation.
    pub fn add(&mut self, op: Op, operands: &[Value]) -> Result<Value> {
        self.add_labelled(op, operands, "").map(Value::from)
    }

    /// Adds an operation under a label (the ONNX node it stems from) that errors, listings and profiles show.
    ///
    /// # Errors
    /// When the operands' types contradict the operation.
    pub fn add_labelled(&mut self, op: Op, operands: &[Value], label: &str) -> Result<NodeId> {
        let types: Vec<&TensorType> = operands.iter().map(|&v| self.ty(v)).collect();
        let inferred = infer(&op, &types)?;
        let mut requires = inferred.requires;
        // Equal extents are what types were simplified by: that outlives the node.
        for requirement in &mut requires {
            if !label.is_empty() {
                requirement.reason = format!("node \"{label}\": {}", requirement.reason);
            }
            if let Condition::Equal(..) = requirement.condition {
                self.requires.push(requirement.clone());
            }
        }
        let id = self.net.add_node(Node { op, types: inferred.types, label: label.to_string(), requires });
        for (operand, v) in operands.iter().enumerate() {
            self.net.add_edge(v.node.0, id, Use { operand, result: v.result });
        }
        Ok(NodeId(id))
    }

    /// The graph with what `f` makes of every operation, which must have as many results; types and requirements are inferred
    /// anew.
    ///
    /// # Errors
    /// Those of `f`, and when operations contradict their operands then.
    pub fn map_ops(&self, f: &dyn Fn(&Op) -> Result<Op>) -> Result<Graph> {
        let (warnings, files, decisions) = (self.warnings.clone(), self.files.clone(), self.decisions.clone());
        let mut made = Graph { warnings, files, decisions, is_region: self.is_region, ..Graph::default() };
        let mut values: HashMap<Value, Value> = HashMap::new();
        for &input in &self.inputs {
            if let Op::Input(name, ty) = f(self.op(input))? {
                values.insert(input.into(), made.add_input(&name, ty));
            }
        }
        for node in self.topological() {
            let label = self.label(node);
            let first = match self.op(node) {
                Op::Input(..) => continue,
                Op::Constant(tensor) => made.constant(tensor.clone()),
                op => {
                    let operands: Vec<Value> = self.operands(node).iter().map(|v| values[v]).collect();
                    f(op).and_then(|op| made.add_labelled(op, &operands, label)).map_err(|e| e.within(label))?.into()
                }
            };
            made.set_label(first.node, label);
            values
                .extend((0..self.types(node).len()).map(|n| (Value { node, result: n }, Value { result: n, ..first })));
        }
        let output = |o: &Output| Output { name: o.name.clone(), value: values[&o.value] };
        made.outputs = self.outputs.iter().map(output).collect();
        made.kept = self.kept.iter().map(|v| values[v]).collect();
        Ok(made)
    }

    /// What a node requires of its operands' dimensions.
    pub fn required_by(&self, node: NodeId) -> &[Requirement] {
        &self.net[node.0].requires
    }

    /// Records what was decided for a layer, in the place of an earlier decision about the same.
    pub fn decide(&mut self, decision: Decision) {
        self.decisions.record(decision);
    }

    /// What passes decided so far, by layer, within regions too.
    pub fn decisions(&self) -> Vec<&Decision> {
        let within = self.nodes().flat_map(|n| self.regions(n)).flat_map(Graph::decisions);
        self.decisions.iter().chain(within).collect()
    }

    /// Gives a node another label.
    pub fn set_label(&mut self, node: NodeId, label: &str) {
        self.net[node.0].label = label.to_string();
    }

    /// The label of a node: the name of the ONNX node it stems from, or empty.
    pub fn label(&self, node: NodeId) -> &str {
        &self.net[node.0].label
    }

    /// A node's operation.
    pub fn op(&self, node: NodeId) -> &Op {
        &self.net[node.0].op
    }

    /// The regions that a node may run.
    pub fn regions(&self, node: NodeId) -> Vec<&Graph> {
        if let Op::If(branches) = self.op(node) { branches.branches().to_vec() } else { Vec::new() }
    }

    /// Rewrites all regions; tells whether `f` changed any.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn edit_regions(&mut self, f: &mut dyn FnMut(&mut Graph) -> Result<bool>) -> Result<bool> {
        let mut changed = false;
        for node in self.net.node_weights_mut() {
            if let Op::If(branches) = &mut node.op {
                changed |= f(&mut branches.then).map_err(|e| e.within(node.label.clone()))?;
                changed |= f(&mut branches.otherwise).map_err(|e| e.within(node.label.clone()))?;
            }
        }
        Ok(changed)
    }

    /// A node's operands, in order.
    pub fn operands(&self, node: NodeId) -> Vec<Value> {
        let mut uses: Vec<(usize, Value)> = self
            .net
            .edges_directed(node.0, Direction::Incoming)
            .map(|e| (e.weight().operand, Value { node: NodeId(e.source()), result: e.weight().result }))
            .collect();
        uses.sort_unstable_by_key(|u| u.0);
        uses.into_iter().map(|u| u.1).collect()
    }

    /// The `n`-th operand.
    pub fn operand(&self, node: NodeId, n: usize) -> Option<Value> {
        self.operands(node).get(n).copied()
    }

    /// A value's type.
    pub fn ty(&self, value: Value) -> &TensorType {
        &self.net[value.node.0].types[value.result]
    }

    /// The types of all results of a node.
    pub fn types(&self, node: NodeId) -> &[TensorType] {
        &self.net[node.0].types
    }

    /// The constant that a value is, if it is one.
    pub fn as_constant(&self, value: Value) -> Option<&Tensor> {
        match self.op(value.node) {
            Op::Constant(t) => Some(t),
            _ => None,
        }
    }

    /// Who uses a value: node and operand number, in a fixed order. Graph outputs are not among them.
    pub fn users(&self, value: Value) -> Vec<(NodeId, usize)> {
        let mut users: Vec<(NodeId, usize)> = self
            .net
            .edges_directed(value.node.0, Direction::Outgoing)
            .filter(|e| e.weight().result == value.result)
            .map(|e| (NodeId(e.target()), e.weight().operand))
            .collect();
        users.sort_unstable();
        users
    }

    /// Whether a value is an output of the graph.
    pub fn is_output(&self, value: Value) -> bool {
        self.outputs.contains(value)
    }

    /// The one user of a value that has exactly one and is no output.
    pub fn sole_user(&self, value: Value) -> Option<NodeId> {
        match self.users(value).as_slice() {
            [(user, _)] if !self.is_output(value) => Some(*user),
            _ => None,
        }
    }

    /// Lets all users of `old`, and the outputs that are `old`, take `new` instead.
    pub fn replace(&mut self, old: Value, new: Value) {
        debug_assert_eq!(
            (self.ty(old).dtype, self.ty(old).shape.len()),
            (self.ty(new).dtype, self.ty(new).shape.len()),
            "element type and rank of what {old:?} is replaced by"
        );
        let uses: Vec<_> = self
            .net
            .edges_directed(old.node.0, Direction::Outgoing)
            .filter(|e| e.weight().result == old.result)
            .map(|e| (e.id(), e.target(), e.weight().operand))
            .collect();
        for (edge, target, operand) in uses {
            if target == new.node.0 {
                continue;
            }
            self.net.remove_edge(edge);
            self.net.add_edge(new.node.0, target, Use { operand, result: new.result });
        }
        self.outputs.replace(old, new);
        self.kept.iter_mut().filter(|kept| **kept == old).for_each(|kept| *kept = new);
    }

    /// Lets one use take another value.
    pub fn set_operand(&mut self, node: NodeId, operand: usize, new: Value) {
        let edge = self
            .net
            .edges_directed(node.0, Direction::Incoming)
            .find(|e| e.weight().operand == operand)
            .map(|e| e.id());
        if let Some(edge) = edge {
            self.net.remove_edge(edge);
        }
        self.net.add_edge(new.node.0, node.0, Use { operand, result: new.result });
    }

    /// Removes a node that nothing uses. What binds symbols would else stay as long as they are seen.
    pub fn remove(&mut self, node: NodeId) {
        self.net.remove_node(node.0);
    }

    /// Removes every node that no output or kept value depends on; model inputs stay. Returns how many went.
    pub fn remove_dead(&mut self) -> usize {
        let live: std::collections::HashSet<NodeId> = self.topological().into_iter().collect();
        let before = self.net.node_count();
        self.net.retain_nodes(|net, n| live.contains(&NodeId(n)) || matches!(net[n].op, Op::Input(..)));
        before - self.net.node_count()
    }

    /// The model's inputs, in order.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// Every node, dead ones too, in the order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.net.node_indices().map(NodeId)
    }

    /// Whether a value is there: it may be gone with its node, or never have been.
    pub fn contains(&self, value: Value) -> bool {
        self.net.node_weight(value.node.0).is_some_and(|n| value.result < n.types.len())
    }

    /// A node that depends on itself, if there is one.
    pub fn find_cycle(&self) -> Option<NodeId> {
        petgraph::algo::toposort(&self.net, None).err().map(|cycle| NodeId(cycle.node_id()))
    }

    /// The numbers under which a node's operands are stored, sorted: `0..n` if the graph is sound.
    pub(super) fn operand_numbers(&self, node: NodeId) -> Vec<usize> {
        let edges = self.net.edges_directed(node.0, Direction::Incoming);
        let mut numbers: Vec<usize> = edges.map(|e| e.weight().operand).collect();
        numbers.sort_unstable();
        numbers
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.net.node_count()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every node that an output or a kept value depends on, operands before users: the depth-first order from these, which
    /// keeps a value's producer near its first user. It depends on the graph alone, not on its editing history's ids. What binds
    /// a symbol counts as an operand of whatever has that symbol in a dimension.
    pub fn topological(&self) -> Vec<NodeId> {
        let binders = self.binders();
        let mut order = Vec::with_capacity(self.net.node_count());
        let mut state: HashMap<NodeId, bool> = HashMap::new();
        let roots = self.kept.iter().copied().chain(self.outputs.iter().map(|o| o.value));
        let mut stack: Vec<(NodeId, bool)> = roots.map(|root| (root.node, false)).collect();
        stack.reverse();
        while let Some((node, operands_done)) = stack.pop() {
            if operands_done {
                if state.insert(node, true) == Some(false) {
                    order.push(node);
                }
                continue;
            }
            if state.contains_key(&node) {
                continue;
            }
            state.insert(node, false);
            stack.push((node, true));
            if !binders.is_empty() {
                let symbols = self.symbols(node).into_iter();
                let binders = symbols.filter_map(|s| binders.get(&s).copied()).filter(|&binder| binder != node);
                stack.extend(binders.map(|binder| (binder, false)));
            }
            stack.extend(self.operands(node).iter().rev().map(|v| (v.node, false)));
        }
        order
    }

    /// The nodes that bind symbols.
    fn binders(&self) -> HashMap<Sym, NodeId> {
        self.nodes().flat_map(|n| self.op(n).binds().into_iter().map(move |s| (s.clone(), n))).collect()
    }

    /// The symbols in a node's dimensions: of its results, of what its operation holds, and of its regions.
    pub fn symbols(&self, node: NodeId) -> BTreeSet<Sym> {
        let mut symbols: BTreeSet<Sym> =
            self.types(node).iter().flat_map(|ty| &ty.shape).flat_map(Dim::symbols).collect();
        symbols.extend(self.op(node).symbols());
        for region in self.regions(node) {
            let required = region.requires.iter().flat_map(|r| r.condition.dims()).flat_map(Dim::symbols);
            symbols.extend(required.chain(region.nodes().flat_map(|n| region.symbols(n))));
        }
        symbols
    }
}
