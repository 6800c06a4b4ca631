//! Raises the operator set of a model and keeps what the model computes.
//!
//! Contract: every graph of the model (inner graphs and bodies of functions as well) is brought to one version of the
//! standard domain, since ONNX has one version per model. `table` lists what changed between versions: operator,
//! version, function that rewrites a node. A node without a row between the versions is the same in both. The result
//! computes the same values for every input for which the given model has a defined result; what cannot be carried over
//! is an error, and all such nodes are reported at once. A model for which an error is returned is unchanged.
//!
//! - `context`, `types`: what is known about names: constants, names in use; element types and ranks.
//! - `change`: a node that is rewritten, with the nodes added around it.
//! - `table`: the changes; `inputs` (attributes that became inputs), `alignment`, `normalization`, `resize`, `scan`,
//!   `softmax`: their functions.
//!
//! Changes of text that no engine implements are not carried over: an index below 0 of OneHot before version 11, and
//! average windows that start in the padding at the end before version 22.

mod alignment;
mod change;
mod context;
mod inputs;
mod normalization;
mod resize;
mod scan;
mod softmax;
mod table;
#[cfg(test)]
mod tests;
mod types;

use std::collections::HashSet;

use mcc_ir::{Error, Result};
use mcc_proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};

use change::Change;
use context::{Context, is_standard};

/// The oldest version of the standard operators that can be raised.
pub const OLDEST: i64 = 6;

/// The newest version to which models can be raised.
pub const NEWEST: i64 = 28;

/// The oldest version of the file format that allows a version of the standard operators: from the version in the first
/// column on.
const FILE_FORMATS: &[(i64, i64)] =
    &[(1, 3), (9, 4), (10, 5), (11, 6), (12, 7), (15, 8), (19, 9), (21, 10), (23, 11), (24, 12), (25, 13), (28, 14)];

/// The first version of the file format in which an initializer that is also an input is a default, not a constant.
const DEFAULTS_SINCE: i64 = 4;

/// Raises the version of the standard operators to `to`; a model that has it or a newer one stays as it is.
///
/// The version of the file format is raised to the one that `to` needs. Added constants are Constant nodes.
///
/// # Errors
/// When `to` is not between [`OLDEST`] and [`NEWEST`], when the model has no version or one before [`OLDEST`], or when
/// a node cannot be carried over; the model is unchanged then.
pub fn upgrade(model: &mut ModelProto, to: i64) -> Result<()> {
    if !(OLDEST..=NEWEST).contains(&to) {
        return Err(Error::usage(format!(
            "models can be raised to the operators of ai.onnx {OLDEST} to {NEWEST}, not {to}"
        )));
    }
    let from = version(&model.opset_import)
        .ok_or_else(|| Error::invalid("the model does not say which version of the operators of ai.onnx it uses"))?;
    let versions = model.functions.iter().filter_map(|f| version(&f.opset_import)).chain([from]);
    if let Some(old) = versions.clone().find(|&v| v < OLDEST) {
        return Err(Error::unsupported(format!("operators of ai.onnx {old} cannot be raised"))
            .help(format!("export the model with version {OLDEST} or a later one")));
    }
    // All parts of a model have one version: where one is newer than `to`, that one.
    let Some(to) = versions.max().map(|newest| newest.max(to)) else { return Ok(()) };
    let raised = raised(model, from, to)?;
    raised.store(model, to);
    let format = FILE_FORMATS.iter().rev().find(|row| row.0 <= to).map_or(0, |row| row.1);
    if model.ir_version < DEFAULTS_SINCE && format >= DEFAULTS_SINCE {
        drop_initialized_inputs(model);
    }
    model.ir_version = model.ir_version.max(format);
    Ok(())
}

fn version(imports: &[OperatorSetIdProto]) -> Option<i64> {
    imports.iter().find(|i| is_standard(&i.domain)).map(|i| i.version)
}

/// The nodes of every part of a model, raised.
struct Raised {
    main: Vec<NodeProto>,
    functions: Vec<Vec<NodeProto>>,
    training: Vec<[Option<Vec<NodeProto>>; 2]>,
}

impl Raised {
    fn store(self, model: &mut ModelProto, to: i64) {
        if let Some(graph) = &mut model.graph {
            graph.node = self.main;
        }
        set_version(&mut model.opset_import, to);
        for (function, nodes) in model.functions.iter_mut().zip(self.functions) {
            function.node = nodes;
            // Without an entry of its own, a function has the model's version.
            if version(&function.opset_import).is_some() {
                set_version(&mut function.opset_import, to);
            }
        }
        for (info, nodes) in model.training_info.iter_mut().zip(self.training) {
            for (graph, nodes) in [&mut info.initialization, &mut info.algorithm].into_iter().zip(nodes) {
                if let (Some(graph), Some(nodes)) = (graph, nodes) {
                    graph.node = nodes;
                }
            }
        }
    }
}

fn set_version(imports: &mut Vec<OperatorSetIdProto>, to: i64) {
    let mut first = true;
    imports.retain(|i| !is_standard(&i.domain) || std::mem::take(&mut first));
    imports.iter_mut().filter(|i| is_standard(&i.domain)).for_each(|i| i.version = to);
}

fn raised(model: &ModelProto, from: i64, to: i64) -> Result<Raised> {
    let functions = model.functions.iter().map(|f| (f.domain.as_str(), f.name.as_str())).collect();
    let mut walk = Walk { context: Context::new(model, to), functions, errors: Vec::new() };
    let main = model.graph.as_ref().map(|g| walk.graph(g, from)).unwrap_or_default();
    let functions =
        model.functions.iter().map(|f| walk.function(f, version(&f.opset_import).unwrap_or(from))).collect();
    let training = model
        .training_info
        .iter()
        .map(|info| [&info.initialization, &info.algorithm].map(|graph| graph.as_ref().map(|g| walk.graph(g, from))));
    let training = training.collect();
    Error::all(walk.errors).map_or(Ok(Raised { main, functions, training }), Err)
}

/// Since IR version 4 an initializer that is also an input is the input's default; before, it was a constant.
fn drop_initialized_inputs(model: &mut ModelProto) {
    let Some(graph) = &mut model.graph else { return };
    let tensors = graph.initializer.iter().map(|t| t.name.as_str());
    let sparse = graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref()).map(|v| v.name.as_str());
    let constants: HashSet<&str> = tensors.chain(sparse).collect();
    graph.input.retain(|i| !constants.contains(i.name.as_str()));
}

/// A walk over a model's graphs. It reads the given model and builds new nodes.
struct Walk<'m> {
    context: Context<'m>,
    /// Domains and names of the operators that the model defines itself.
    functions: HashSet<(&'m str, &'m str)>,
    errors: Vec<Error>,
}

impl<'m> Walk<'m> {
    fn graph(&mut self, graph: &'m GraphProto, from: i64) -> Vec<NodeProto> {
        self.context.enter(graph);
        let nodes = graph.node.iter().flat_map(|n| self.node(n, from)).collect();
        self.context.leave();
        nodes
    }

    fn function(&mut self, function: &'m FunctionProto, from: i64) -> Vec<NodeProto> {
        let before = self.errors.len();
        self.context.enter_function(function);
        let nodes = function.node.iter().flat_map(|n| self.node(n, from)).collect();
        self.context.leave();
        for e in self.errors.split_off(before) {
            self.errors.push(e.within(format!("function \"{}\"", function.name)));
        }
        nodes
    }

    fn node(&mut self, node: &'m NodeProto, from: i64) -> Vec<NodeProto> {
        let mut copy = node.clone();
        copy.attribute = node.attribute.iter().map(|a| self.attribute(a, from)).collect();
        self.raised(copy, from).unwrap_or_else(|e| {
            self.errors.push(e.within(place(node)));
            Vec::new()
        })
    }

    fn attribute(&mut self, attribute: &'m AttributeProto, from: i64) -> AttributeProto {
        let mut copy = attribute.clone();
        let inner = attribute.g.iter().chain(&attribute.graphs);
        for (graph, new) in inner.zip(copy.g.iter_mut().chain(&mut copy.graphs)) {
            new.node = self.graph(graph, from);
        }
        copy
    }

    /// The nodes that replace one: the table's changes in the order of their versions. A node that a change adds has the
    /// form of that version, so it is raised from there.
    fn raised(&mut self, node: NodeProto, from: i64) -> Result<Vec<NodeProto>> {
        let mut done = Vec::new();
        let mut pending = vec![(node, from)];
        while let Some((node, version)) = pending.pop() {
            let is_function = self.functions.contains(&(node.domain.as_str(), node.op_type.as_str()));
            let row = match is_standard(&node.domain) && !is_function {
                true => table::next(&node.op_type, version, self.context.to),
                false => None,
            };
            let Some(row) = row else {
                done.push(node);
                continue;
            };
            let mut change = Change::new(&mut self.context, node);
            (row.rewrite)(&mut change)?;
            pending.extend(change.into_nodes().into_iter().rev().map(|node| (node, row.version)));
        }
        Ok(done)
    }
}

fn place(node: &NodeProto) -> String {
    let label = match node.name.as_str() {
        "" => node.output.iter().map(String::as_str).find(|o| !o.is_empty()).unwrap_or(""),
        name => name,
    };
    format!("node \"{label}\" ({})", node.op_type)
}
