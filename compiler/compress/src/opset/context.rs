//! What is known about the names of a model: element types, ranks, constants, and which names are in use.

use std::collections::{HashMap, HashSet};

use mcc_ir::{DType, Tensor};
use mcc_onnx::tensor::{data_type, tensor_of};
use mcc_proto::{FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use super::types::{self, Known, Operands};

/// How often types are passed on in a graph whose nodes are in no order in which they can run.
const MAX_ROUNDS: usize = 8;

/// Whether a domain is that of the standard operators.
pub fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// The names of one graph.
#[derive(Default)]
struct Scope<'m> {
    known: HashMap<&'m str, Known>,
    tensors: HashMap<&'m str, &'m TensorProto>,
    constants: HashMap<&'m str, &'m NodeProto>,
}

impl<'m> Scope<'m> {
    /// Names without a type are known as well: they hide those of graphs around this one.
    fn declare(&mut self, infos: impl Iterator<Item = &'m ValueInfoProto>) {
        for info in infos {
            let known = info.r#type.as_ref().map(Known::declared).unwrap_or_default();
            let entry = self.known.entry(info.name.as_str()).or_default();
            *entry = entry.or(known);
        }
    }
}

/// What is known about a model while its nodes are rewritten.
pub struct Context<'m> {
    /// The version to which the model is raised.
    pub to: i64,
    /// The graphs around the node, outermost first.
    scopes: Vec<Scope<'m>>,
    /// Every name in the model, whatever its graph.
    names: HashSet<String>,
    /// Every name that a node reads or a graph or function gives.
    used: HashSet<String>,
    /// Constants that were added.
    made: HashMap<String, Tensor>,
}

impl<'m> Context<'m> {
    /// Of a model that is raised to version `to`.
    pub fn new(model: &'m ModelProto, to: i64) -> Context<'m> {
        let (mut names, mut used) = (HashSet::new(), HashSet::new());
        let training = model.training_info.iter().flat_map(|t| t.initialization.iter().chain(&t.algorithm));
        model.graph.iter().chain(training).for_each(|g| graph_names(g, &mut names, &mut used));
        for function in &model.functions {
            names.extend(function.input.iter().cloned());
            used.extend(function.output.iter().cloned());
            function.node.iter().for_each(|n| node_names(n, &mut names, &mut used));
        }
        names.extend(used.iter().cloned());
        Context { to, scopes: Vec::new(), names, used, made: HashMap::new() }
    }

    /// Enters a graph, until [`Context::leave`].
    pub fn enter(&mut self, graph: &'m GraphProto) {
        let mut scope = Scope::default();
        scope.declare(graph.input.iter().chain(&graph.output).chain(&graph.value_info));
        scope.tensors.extend(graph.initializer.iter().map(|t| (t.name.as_str(), t)));
        scope.known.extend(graph.initializer.iter().map(|t| (t.name.as_str(), Known::tensor(t))));
        self.scopes.push(scope);
        self.pass_types_on(&graph.node);
    }

    /// Enters a function, which is not within another graph, until [`Context::leave`].
    pub fn enter_function(&mut self, function: &'m FunctionProto) {
        let mut scope = Scope::default();
        scope.known.extend(function.input.iter().map(|i| (i.as_str(), Known::default())));
        scope.declare(function.value_info.iter());
        self.scopes.push(scope);
        self.pass_types_on(&function.node);
    }

    /// Leaves the innermost graph.
    pub fn leave(&mut self) {
        self.scopes.pop();
    }

    fn pass_types_on(&mut self, nodes: &'m [NodeProto]) {
        let constants = nodes.iter().filter(|n| n.op_type == "Constant" && is_standard(&n.domain));
        let constants: Vec<_> = constants.filter_map(|n| Some((n.output.first()?.as_str(), n))).collect();
        if let Some(scope) = self.scopes.last_mut() {
            scope.constants.extend(constants);
        }
        for _ in 0..MAX_ROUNDS {
            let mut changed = false;
            for node in nodes {
                for (index, output) in node.output.iter().enumerate().filter(|(_, o)| !o.is_empty()) {
                    let old = self.known(output);
                    let new = old.or(types::result(node, index, self));
                    changed |= new != old;
                    if let Some(scope) = self.scopes.last_mut() {
                        scope.known.insert(output, new);
                    }
                }
            }
            if !changed {
                break;
            }
        }
    }

    /// A name that no value of the model has.
    pub fn fresh(&mut self, stem: &str) -> String {
        let numbered = (1u64..).map(|n| format!("{stem}_{n}"));
        let free = std::iter::once(stem.to_string()).chain(numbered).find(|name| !self.names.contains(name));
        let name = free.unwrap_or_default();
        self.names.insert(name.clone());
        name
    }

    /// Whether a node reads a name, or a graph gives it.
    pub fn is_used(&self, name: &str) -> bool {
        self.used.contains(name)
    }

    /// Makes a constant known.
    pub fn remember(&mut self, name: &str, tensor: Tensor) {
        self.made.insert(name.to_string(), tensor);
    }

    /// The elements of a name, if they are constant and in the file.
    pub fn constant(&self, name: &str) -> Option<Tensor> {
        if let Some(made) = self.made.get(name) {
            return Some(made.clone());
        }
        let scope = self.scopes.iter().rev().find(|scope| scope.known.contains_key(name))?;
        if let Some(tensor) = scope.tensors.get(name) {
            return tensor_of(tensor).ok();
        }
        let attribute = scope.constants.get(name)?.attribute.first().filter(|a| a.ref_attr_name.is_empty())?;
        match attribute.name.as_str() {
            "value" => tensor_of(attribute.t.as_ref()?).ok(),
            "value_floats" => {
                let floats: Vec<f64> = attribute.floats.iter().map(|&f| f64::from(f)).collect();
                Tensor::from_f64s(DType::F32, vec![floats.len()], &floats).ok()
            }
            "value_ints" => Tensor::from_i64s(DType::I64, vec![attribute.ints.len()], &attribute.ints).ok(),
            _ => None,
        }
    }
}

impl Operands for Context<'_> {
    fn known(&self, name: &str) -> Known {
        if let Some(made) = self.made.get(name) {
            return Known { element: Some(data_type(made.dtype())), rank: Some(made.shape().len()) };
        }
        self.scopes.iter().rev().find_map(|scope| scope.known.get(name).copied()).unwrap_or_default()
    }

    fn length(&self, name: &str) -> Option<usize> {
        self.constant(name).map(|t| t.numel())
    }
}

fn graph_names(graph: &GraphProto, names: &mut HashSet<String>, used: &mut HashSet<String>) {
    names.extend(graph.input.iter().chain(&graph.value_info).map(|i| i.name.clone()));
    names.extend(graph.initializer.iter().map(|t| t.name.clone()));
    names.extend(graph.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.name.clone())));
    used.extend(graph.output.iter().map(|o| o.name.clone()));
    graph.node.iter().for_each(|n| node_names(n, names, used));
}

fn node_names(node: &NodeProto, names: &mut HashSet<String>, used: &mut HashSet<String>) {
    names.extend(node.output.iter().cloned());
    used.extend(node.input.iter().filter(|i| !i.is_empty()).cloned());
    node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).for_each(|g| graph_names(g, names, used));
}
