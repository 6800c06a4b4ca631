//! Walks graphs, subgraphs and functions, and resolves names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use mcc_proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

use super::builder::{Builder, Region};
use super::content::{self, Known};
use super::file::ExternalData;
use super::hints::Hints;
use super::inputs::Symbols;
use super::limits::Budget;
use super::node::{Item, Node, domain, label, place};
use super::ops::{self, Bodies, Importer};
use super::order::{self, NodeOrder};
use super::sharing::{self, Naming, Use};
use super::{Options, tensor};
use mcc_ir::{DType, Dim, Error, Graph, Output, Result, Tensor, TensorType, Value};

/// Inputs with more elements are data, not shapes.
const SHAPE_INPUT_LIMIT: i64 = 16;

/// Maximum number of errors that are reported together.
const MAX_ERRORS: usize = 20;

/// Maximum nesting of function calls.
const MAX_DEPTH: usize = 64;

type Versions = HashMap<String, i64>;
type Functions = HashMap<(String, String, String), Rc<FunctionProto>>;

/// The names of one graph.
struct Scope {
    names: HashMap<String, Item>,
    /// The nesting depth of the region that its values are in.
    depth: usize,
}

/// The state of the walk.
pub struct Walk {
    /// The graph under construction.
    pub b: Builder,
    /// The names of each enclosing graph and their values, the innermost last.
    scopes: Vec<Scope>,
    versions: Rc<Versions>,
    functions: Rc<Functions>,
    depth: usize,
}

/// Imports a model from a file of `size` bytes. Dimensions with the same name are equal only if nodes require it.
pub fn model(model: &ModelProto, size: usize, directory: Option<&Path>, options: &Options) -> Result<Graph> {
    let (graph, uses) = named(model, size, directory, options, &Naming::new())?;
    // If the model cannot be imported without the names' equality, the names are kept.
    let apart = sharing::apart(&uses).and_then(|apart| named(model, size, directory, options, &apart).ok());
    let naming = apart.and_then(|(graph, uses)| sharing::required(&graph, &uses));
    let Some(Ok((mut graph, uses))) = naming.map(|naming| named(model, size, directory, options, &naming)) else {
        return Ok(graph);
    };
    graph.warnings.extend(sharing::warnings(&uses));
    Ok(graph)
}

/// Imports a model with the dimensions' names resolved by `naming`.
fn named(
    model: &ModelProto,
    size: usize,
    directory: Option<&Path>,
    options: &Options,
    naming: &Naming,
) -> Result<(Graph, Vec<Use>)> {
    let graph = model
        .graph
        .as_ref()
        .ok_or_else(|| Error::invalid("the model has no graph").help("a tensor of a test case (.pb) is not a model"))?;
    let functions = model
        .functions
        .iter()
        .map(|f| ((domain(&f.domain).to_string(), f.name.clone(), f.overload.clone()), Rc::new(f.clone())))
        .collect();
    let mut walk = Walk {
        b: Builder::new(
            ExternalData::new(directory),
            Budget::new(&options.limits, nodes_of(graph), size),
            options.check_indices,
        ),
        scopes: vec![Scope { names: HashMap::new(), depth: 0 }],
        versions: Rc::new(versions(&model.opset_import)),
        functions: Rc::new(functions),
        depth: 0,
    };
    check_ports(graph)?;
    let plan = NodeOrder::of(graph)?;
    walk.check_operators(graph)?;
    walk.initializers(graph, &plan)?;
    let uses = walk.inputs(graph, &plan, options, naming)?;
    walk.nodes_collecting(graph, &plan)?;
    walk.outputs(graph)?;
    walk.hints(graph);
    let mut graph = walk.b.graph;
    graph.files = walk.b.external.files();
    graph.remove_dead();
    Ok((graph, uses))
}

/// Inputs and outputs must have distinct names.
fn check_ports(graph: &GraphProto) -> Result<()> {
    for (side, ports) in [("inputs", &graph.input), ("outputs", &graph.output)] {
        let mut seen = HashSet::new();
        if let Some(twice) = ports.iter().find(|p| !seen.insert(&p.name)) {
            return Err(Error::invalid(format!("two {side} of the model are named \"{}\"", twice.name)));
        }
    }
    Ok(())
}

/// The number of nodes of a graph and its subgraphs.
fn nodes_of(graph: &GraphProto) -> usize {
    let inner = graph.node.iter().flat_map(|n| &n.attribute).flat_map(|a| a.g.iter().chain(&a.graphs));
    graph.node.len() + inner.map(nodes_of).sum::<usize>()
}

fn versions(imports: &[mcc_proto::OperatorSetIdProto]) -> Versions {
    imports.iter().map(|o| (domain(&o.domain).to_string(), o.version)).collect()
}

impl Walk {
    /// The version of a domain's operators in this scope; 1 if the file imports none.
    fn version(&self, of: &str) -> i64 {
        self.versions.get(domain(of)).copied().unwrap_or(1)
    }

    fn function(&self, node: &NodeProto) -> Option<Rc<FunctionProto>> {
        let key = (domain(&node.domain).to_string(), node.op_type.clone(), node.overload.clone());
        self.functions.get(&key).cloned()
    }

    /// Lists every operator without an importer, in the graph and in all functions that it calls.
    fn check_operators(&self, graph: &GraphProto) -> Result<()> {
        let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
        let mut seen = HashSet::new();
        self.unknown(graph, &self.versions, &mut seen, &mut unknown)?;
        if unknown.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = unknown.iter().map(|(name, count)| format!("{name} ({count}x)")).collect();
        Err(Error::unsupported(format!("operators that mcc does not have: {}", list.join(", "))))
    }

    fn unknown(
        &self,
        graph: &GraphProto,
        versions: &Versions,
        seen: &mut HashSet<(String, String, String)>,
        unknown: &mut BTreeMap<String, usize>,
    ) -> Result<()> {
        self.unknown_of(&graph.node, &NodeOrder::of(graph)?, versions, seen, unknown)
    }

    fn unknown_of(
        &self,
        nodes: &[NodeProto],
        plan: &NodeOrder<'_>,
        versions: &Versions,
        seen: &mut HashSet<(String, String, String)>,
        unknown: &mut BTreeMap<String, usize>,
    ) -> Result<()> {
        for node in plan.order.iter().map(|&n| &nodes[n]) {
            let domain = domain(&node.domain);
            let key = (domain.to_string(), node.op_type.clone(), node.overload.clone());
            if let Some(f) = self.functions.get(&key) {
                if seen.insert(key) {
                    self.unknown_of(&f.node, &function_plan(f)?, &function_versions(f, versions), seen, unknown)?;
                }
            } else {
                let version = versions.get(domain).copied().unwrap_or(1);
                if ops::find(domain, &node.op_type, version).is_none() {
                    let name =
                        if domain.is_empty() { node.op_type.clone() } else { format!("{domain}.{}", node.op_type) };
                    *unknown.entry(name).or_default() += 1;
                }
            }
            for a in &node.attribute {
                for g in a.g.iter().chain(&a.graphs) {
                    self.unknown(g, versions, seen, unknown).map_err(|e| e.within(place(node)))?;
                }
            }
        }
        Ok(())
    }

    /// Defines the initializers that the plan needs; others may have any type, and their data may be missing.
    fn initializers(&mut self, graph: &GraphProto, plan: &NodeOrder<'_>) -> Result<()> {
        for proto in graph.initializer.iter().filter(|t| plan.needs.contains(t.name.as_str())) {
            let t = tensor::tensor(proto, &mut self.b.external)?;
            let value = self.b.constant(t);
            self.define(&proto.name, Item::Tensor(value));
        }
        for proto in &graph.sparse_initializer {
            let name = proto.values.as_ref().map_or("", |v| &v.name);
            if !plan.needs.contains(name) {
                continue;
            }
            let t = tensor::sparse(proto, &mut self.b.external)
                .map_err(|e| e.within(format!("sparse tensor \"{name}\"")))?;
            let value = self.b.constant(t);
            self.define(name, Item::Tensor(value));
        }
        Ok(())
    }

    fn inputs(
        &mut self,
        graph: &GraphProto,
        plan: &NodeOrder<'_>,
        options: &Options,
        naming: &Naming,
    ) -> Result<Vec<Use>> {
        let mut symbols = Symbols::new(options, naming);
        // An input that is also an initializer has a default value, which is always used.
        let initialized: HashSet<&str> = order::initialized(graph).collect();
        let mut names = Vec::new();
        for info in graph.input.iter().filter(|i| !initialized.contains(i.name.as_str())) {
            let ty = match symbols.input(info) {
                Ok(ty) => ty,
                // An input that nothing needs may have any type, but it cannot be passed.
                Err(e @ (Error::Unsupported(_) | Error::InvalidModel(_)))
                    if !plan.needs.contains(info.name.as_str()) =>
                {
                    let why = &e.report().message;
                    let text = format!("input \"{}\" is dropped, since no output needs it: {why}", info.name);
                    self.b.graph.warnings.push(text);
                    continue;
                }
                Err(e) => return Err(e),
            };
            names.push(info.name.as_str());
            let value = self.b.graph.add_input(&info.name, ty.clone());
            match symbols.pinned(&info.name) {
                Some(t) => self.pin(&info.name, &ty, value, t)?,
                None => self.shape_like(&info.name, &ty, value),
            }
            self.define(&info.name, Item::Tensor(value));
        }
        symbols.check_options(&names)?;
        Ok(symbols.uses)
    }

    /// A short integer vector may be a shape: its elements get symbols, in case they are needed.
    fn shape_like(&mut self, name: &str, ty: &TensorType, value: Value) {
        let len = match ty.shape.as_slice() {
            [] => Some(1),
            [d] => d.as_const(),
            _ => None,
        };
        if let (DType::I64 | DType::I32, Some(n @ 0..=SHAPE_INPUT_LIMIT)) = (ty.dtype, len) {
            let elements = (0..n).map(|i| Known::Int(Dim::sym(format!("{name}[{i}]"))));
            self.b.set_content(value, elements.collect());
        }
    }

    /// Treats an input's elements as known, and requires them at run time.
    fn pin(&mut self, name: &str, ty: &TensorType, value: Value, pinned: &Tensor) -> Result<()> {
        if pinned.dtype() != ty.dtype {
            return Err(Error::usage(format!("--value {name}: the input is {ty}, the value {}", pinned.ty())));
        }
        let known = content::of_tensor(pinned).filter(|k| k.len() <= super::MAX_PINNED);
        let known = known.ok_or_else(|| {
            Error::usage(format!("--value {name}: {} elements at most, not {}", super::MAX_PINNED, pinned.ty()))
        })?;
        self.b.set_content(value, known);
        let size = ty.dtype.size();
        for (i, bytes) in pinned.data().chunks_exact(size).enumerate() {
            let bits = match ty.dtype.is_float() {
                // Floats are compared by their bits.
                true => bytes.iter().rev().fold(0i64, |bits, &b| bits << 8 | i64::from(b)),
                false => pinned.i64_at(i),
            };
            let element = Dim::sym(format!("{name}[{i}]"));
            self.b.graph.requires.equal(element, Dim::from(bits), "the value that the model was compiled for");
        }
        Ok(())
    }

    /// Imports the main graph's nodes; continues after an error, to find errors that do not follow from it.
    fn nodes_collecting(&mut self, graph: &GraphProto, plan: &NodeOrder<'_>) -> Result<()> {
        let mut failed: HashSet<&str> = HashSet::new();
        let mut errors = Vec::new();
        for node in plan.order.iter().map(|&n| &graph.node[n]) {
            let spoilt = !failed.is_empty() && order::uses(node).iter().any(|name| failed.contains(name));
            if !spoilt {
                match self.node(node) {
                    Ok(()) => continue,
                    Err(e) => errors.push(e),
                }
                if errors.len() == MAX_ERRORS {
                    break;
                }
            }
            failed.extend(node.output.iter().map(String::as_str).filter(|o| !o.is_empty()));
        }
        Error::all(errors).map_or(Ok(()), Err)
    }

    fn outputs(&mut self, graph: &GraphProto) -> Result<()> {
        for info in &graph.output {
            let within = |e: Error| e.within(format!("output \"{}\"", info.name));
            let value = match self.lookup(&info.name).map_err(within)? {
                Item::Tensor(v) => v,
                Item::Absent | Item::Sequence(_) | Item::Optional(_) => {
                    return Err(within(Error::unsupported("a model output that is not a tensor")));
                }
            };
            self.b.graph.outputs.push(Output { name: info.name.clone(), value });
        }
        Ok(())
    }

    /// Compares the declared types of results with the inferred ones, which are used.
    fn hints(&mut self, graph: &GraphProto) {
        let mut hints = Hints::default();
        for info in graph.output.iter().chain(&graph.value_info) {
            if let Ok(Item::Tensor(value)) = self.lookup(&info.name) {
                hints.compare(info, &self.b, value);
            }
        }
        self.b.graph.warnings.extend(hints.warnings());
    }

    /// Imports one node.
    fn node(&mut self, node: &NodeProto) -> Result<()> {
        self.node_results(node).map_err(|e| e.within(place(node)))
    }

    fn node_results(&mut self, proto: &NodeProto) -> Result<()> {
        self.b.budget.nodes(1)?;
        let inputs: Vec<Item> = proto
            .input
            .iter()
            .map(|name| if name.is_empty() { Ok(Item::Absent) } else { self.lookup(name) })
            .collect::<Result<_>>()?;
        let results = match self.function(proto) {
            Some(f) => self.call(&f, proto, inputs)?,
            None => {
                let domain = domain(&proto.domain);
                let version = self.version(domain);
                let importer = ops::find(domain, &proto.op_type, version)
                    .ok_or_else(|| Error::unsupported("mcc does not have this operator"))?;
                let outer = std::mem::replace(&mut self.b.label, label(proto).to_string());
                let node = Node { proto, inputs, version };
                let results = match importer {
                    Importer::Plain(f) => f(&mut self.b, &node),
                    Importer::Walking(f) => f(self, &node),
                };
                self.b.label = outer;
                results?.0
            }
        };
        if proto.output.iter().skip(results.len()).any(|o| !o.is_empty()) {
            return Err(Error::unsupported(format!("more than {} results", results.len())));
        }
        for (name, item) in proto.output.iter().zip(results) {
            if !name.is_empty() {
                self.define(name, item);
            }
        }
        self.b.budget.check()
    }

    fn body_results(&mut self, graph: &GraphProto, arguments: Vec<Item>) -> Result<Vec<Item>> {
        let plan = NodeOrder::of(graph)?;
        self.initializers(graph, &plan)?;
        for (info, item) in graph.input.iter().zip(arguments) {
            self.define(&info.name, item);
        }
        plan.order.iter().try_for_each(|&n| self.node(&graph.node[n]))?;
        graph.output.iter().map(|o| self.lookup(&o.name)).collect()
    }

    /// Expands a function, in which only its own names and operator sets are visible.
    fn call(&mut self, f: &FunctionProto, node: &NodeProto, inputs: Vec<Item>) -> Result<Vec<Item>> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::invalid(format!("functions call one another more than {MAX_DEPTH} deep")));
        }
        let arguments = inputs.into_iter().chain(std::iter::repeat(Item::Absent));
        let scope = Scope { names: f.input.iter().cloned().zip(arguments).collect(), depth: self.b.depth() };
        let outer_scopes = std::mem::replace(&mut self.scopes, vec![scope]);
        let versions = Rc::new(function_versions(f, &self.versions));
        let outer_versions = std::mem::replace(&mut self.versions, versions);
        let results = self.function_results(f, node);
        self.scopes = outer_scopes;
        self.versions = outer_versions;
        self.depth -= 1;
        results
    }

    fn function_results(&mut self, f: &FunctionProto, node: &NodeProto) -> Result<Vec<Item>> {
        let given = node.attribute.iter().chain(&f.attribute_proto).rev();
        let attributes: HashMap<&str, &AttributeProto> = given.map(|a| (a.name.as_str(), a)).collect();
        for n in function_plan(f)?.order {
            let mut inner = f.node[n].clone();
            bind_attributes(&mut inner, &attributes);
            self.node(&inner)?;
        }
        f.output.iter().map(|name| self.lookup(name)).collect()
    }

    fn define(&mut self, name: &str, item: Item) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.names.insert(name.to_string(), item);
        }
    }

    /// What a name stands for. Values of graphs around a region become inputs of it.
    fn lookup(&mut self, name: &str) -> Result<Item> {
        let found = self.scopes.iter().rev().find_map(|s| Some((s.names.get(name)?.clone(), s.depth)));
        let (item, depth) =
            found.ok_or_else(|| Error::invalid(format!("no node, input or initializer gives \"{name}\"")))?;
        self.captured(item, depth)
    }

    fn captured(&mut self, item: Item, depth: usize) -> Result<Item> {
        Ok(match item {
            Item::Tensor(value) => Item::Tensor(self.b.captured(value, depth)?),
            Item::Sequence(list) => {
                Item::Sequence(list.into_iter().map(|item| self.captured(item, depth)).collect::<Result<_>>()?)
            }
            Item::Optional(Some(item)) => Item::Optional(Some(Box::new(self.captured(*item, depth)?))),
            Item::Absent | Item::Optional(None) => item,
        })
    }
}

fn function_plan(f: &FunctionProto) -> Result<NodeOrder<'_>> {
    let [inputs, outputs] = [&f.input, &f.output].map(|names| names.iter().map(String::as_str));
    NodeOrder::new(&f.node, inputs, outputs).map_err(|e| e.within(format!("function {}", f.name)))
}

/// A function's own operator sets, and the caller's for domains that it does not list.
fn function_versions(f: &FunctionProto, outer: &Versions) -> Versions {
    let mut all = outer.clone();
    all.extend(versions(&f.opset_import));
    all
}

/// Replaces references to the function's attributes by the call's attributes; references without a value are removed.
fn bind_attributes(node: &mut NodeProto, given: &HashMap<&str, &AttributeProto>) {
    node.attribute = std::mem::take(&mut node.attribute)
        .into_iter()
        .filter_map(|mut a| {
            if !a.ref_attr_name.is_empty() {
                let value = given.get(a.ref_attr_name.as_str())?;
                return Some(AttributeProto { name: a.name, ..(*value).clone() });
            }
            for g in a.g.iter_mut().chain(&mut a.graphs) {
                g.node.iter_mut().for_each(|n| bind_attributes(n, given));
            }
            Some(a)
        })
        .collect();
}

impl Bodies for Walk {
    fn b(&mut self) -> &mut Builder {
        &mut self.b
    }

    fn body(&mut self, graph: &GraphProto, arguments: Vec<Item>) -> Result<Vec<Item>> {
        if arguments.len() != graph.input.len() {
            let (want, got) = (graph.input.len(), arguments.len());
            return Err(Error::invalid(format!("the body takes {want} inputs, but gets {got}")));
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::invalid(format!("graphs and functions nest deeper than {MAX_DEPTH}")));
        }
        self.scopes.push(Scope { names: HashMap::new(), depth: self.b.depth() });
        let results = self.body_results(graph, arguments);
        self.scopes.pop();
        self.depth -= 1;
        results
    }

    fn region(&mut self, graph: &GraphProto, operands: &[Value]) -> Result<(Region, Vec<Item>)> {
        let results = self.b.begin_region(operands).and_then(|()| self.body(graph, Vec::new()));
        // Whatever went wrong in it, the region ends here.
        let region = self.b.end_region().ok_or_else(|| Error::internal("no region to end"))?;
        Ok((region, results?))
    }
}
