//! A model that is edited: its main graph, with an index of who gives and who uses each name.
//!
//! Invariants, which [`Model::new`] establishes and [`Model::tidy`] restores: nodes stand in an order in which they can run;
//! no node, initializer or output of a node is unused; no initializer is also an input; every tensor's elements are in
//! the model (external data is mapped, not copied). Names never change, and new names collide with none, not even with
//! those of inner graphs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use bytes::Bytes;
use mcc_data::Port;
use mcc_ir::{DType, Dim, Error, Op, Result, Tensor, TensorType, eval};
use mcc_onnx::file::{self, ExternalData};
use mcc_onnx::node::domain;
use mcc_onnx::order::{NodeOrder, initialized, uses};
use mcc_onnx::tensor;
use mcc_proto::tensor_proto::DataLocation;
use mcc_proto::{GraphProto, Message, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use serde::de;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::attribute;

/// Bytes that a protobuf message can hold.
const MESSAGE_LIMIT: usize = i32::MAX as usize;

/// Operators whose result differs from run to run, so that they are not constants although they read none.
const RANDOM: &[&str] =
    &["RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"];

/// A place where a name is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// The node's number.
    pub node: usize,
    /// The number of the node's input; `None` for a use by an inner graph of the node.
    pub input: Option<usize>,
}

/// A model that is edited.
#[derive(Debug, Clone)]
pub struct Model {
    proto: ModelProto,
    /// Every name of the file, inner graphs included.
    names: HashSet<String>,
    /// Values of initializers, and of names that nodes compute from constants only.
    constants: HashMap<String, Tensor>,
    givers: HashMap<String, usize>,
    users: HashMap<String, Vec<Use>>,
}

impl Serialize for Model {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.proto.encode_to_vec())
    }
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Model, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        decode(bytes.into()).and_then(|proto| Model::new(proto, None)).map_err(de::Error::custom)
    }
}

impl Model {
    /// Reads a model with its external data.
    ///
    /// # Errors
    /// When the file cannot be read or is not a model.
    pub fn read(path: &Path) -> Result<Model> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let read = || Model::new(decode(file::map(path)?)?, Some(folder));
        read().map_err(|e| e.within(path.display().to_string()))
    }

    /// A model from its message; external data is looked up in `folder`.
    ///
    /// # Errors
    /// When it is no valid model.
    pub fn new(proto: ModelProto, folder: Option<&Path>) -> Result<Model> {
        let mut model = Model {
            proto,
            names: HashSet::new(),
            constants: HashMap::new(),
            givers: HashMap::new(),
            users: HashMap::new(),
        };
        let Some(graph) = &mut model.proto.graph else { return Err(Error::invalid("the model has no graph")) };
        embed(graph, &mut ExternalData::new(folder))?;
        let given: HashSet<String> = initialized(graph).map(str::to_string).collect();
        graph.input.retain(|input| !given.contains(&input.name));
        names_of(graph, &mut model.names);
        model.tidy()?;
        model.fold()?;
        Ok(model)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// When it is larger than a file can be.
    pub fn encode(&self) -> Result<Bytes> {
        match self.proto.encoded_len() {
            size if size <= MESSAGE_LIMIT => Ok(self.proto.encode_to_vec().into()),
            size => Err(Error::unsupported(format!("the result has {size} bytes, but a model file holds 2 GB"))
                .help("quantize more of its weights")),
        }
    }

    /// The message.
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// The main graph's nodes.
    pub fn nodes(&self) -> &[NodeProto] {
        &self.graph().node
    }

    /// The main graph.
    pub fn graph(&self) -> &GraphProto {
        // `new` refuses models without a graph.
        self.proto.graph.as_ref().unwrap_or(const { &EMPTY })
    }

    fn graph_mut(&mut self) -> &mut GraphProto {
        self.proto.graph.get_or_insert_default()
    }

    /// The version of the standard operators.
    pub fn opset(&self) -> i64 {
        let standard = self.proto.opset_import.iter().find(|o| domain(&o.domain).is_empty());
        standard.map_or(1, |o| o.version)
    }

    /// Declares that nodes of another domain are used.
    pub fn import_domain(&mut self, name: &str, version: i64) {
        if !self.proto.opset_import.iter().any(|o| o.domain == name) {
            let import = mcc_proto::OperatorSetIdProto { domain: name.to_string(), version };
            self.proto.opset_import.push(import);
        }
    }

    /// Applies an edit to the whole message.
    ///
    /// # Errors
    /// Those of the edit, and when it leaves no valid model.
    pub fn edit(&mut self, edit: impl FnOnce(&mut ModelProto) -> Result<()>) -> Result<()> {
        edit(&mut self.proto)?;
        names_of(self.proto.graph.get_or_insert_default(), &mut self.names);
        self.tidy()?;
        self.fold()
    }

    /// The number of the node that gives a name.
    pub fn giver(&self, name: &str) -> Option<usize> {
        self.givers.get(name).copied()
    }

    /// Where a name is used, apart from the model's outputs.
    pub fn users(&self, name: &str) -> &[Use] {
        self.users.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a name is an output of the model.
    pub fn is_output(&self, name: &str) -> bool {
        self.graph().output.iter().any(|o| o.name == name)
    }

    /// The elements of a name, if they are known: an initializer, or computed from initializers only.
    pub fn constant(&self, name: &str) -> Option<&Tensor> {
        self.constants.get(name)
    }

    /// A name that nothing has yet.
    pub fn fresh(&mut self, stem: &str) -> String {
        let mut name = stem.to_string();
        let mut n = 1;
        while !self.names.insert(name.clone()) {
            n += 1;
            name = format!("{stem}_{n}");
        }
        name
    }

    /// Adds a constant, under a name like `stem`.
    pub fn add_constant(&mut self, stem: &str, tensor: Tensor) -> String {
        let name = self.fresh(stem);
        self.graph_mut().initializer.push(tensor::proto(&name, &tensor));
        self.constants.insert(name.clone(), tensor);
        name
    }

    /// Adds an initializer that was made elsewhere under a [fresh](Model::fresh) name.
    ///
    /// # Errors
    /// When it is no valid tensor.
    pub fn add_initializer(&mut self, proto: TensorProto) -> Result<()> {
        self.constants.insert(proto.name.clone(), tensor::tensor_of(&proto)?);
        self.graph_mut().initializer.push(proto);
        Ok(())
    }

    /// Lets an input of a node read another name.
    pub fn set_input(&mut self, node: usize, input: usize, name: &str) {
        let place = Use { node, input: Some(input) };
        let Some(node) = self.graph_mut().node.get_mut(node) else { return };
        if node.input.len() <= input {
            node.input.resize(input + 1, String::new());
        }
        let old = std::mem::replace(&mut node.input[input], name.to_string());
        // Only this use is another: an index of everything for every edit would make many edits slow.
        if let Some(users) = self.users.get_mut(&old) {
            users.retain(|user| *user != place);
        }
        if !name.is_empty() {
            let users = self.users.entry(name.to_string()).or_default();
            users.push(place);
            users.sort_by_key(|user| (user.node, user.input.unwrap_or(usize::MAX)));
        }
    }

    /// Changes a node in place.
    pub fn edit_node(&mut self, node: usize, edit: impl FnOnce(&mut NodeProto)) {
        if let Some(node) = self.graph_mut().node.get_mut(node) {
            edit(node);
        }
        self.index();
    }

    /// Appends nodes; [`Model::tidy`] brings them into order.
    pub fn add_nodes(&mut self, nodes: impl IntoIterator<Item = NodeProto>) {
        self.graph_mut().node.extend(nodes);
        self.index();
    }

    /// Lets all uses of `old` that `which` accepts read `new`. An output of the model keeps its name.
    pub fn replace_uses(&mut self, old: &str, new: &str, which: impl Fn(&NodeProto, usize) -> bool) {
        let uses: Vec<Use> = self.users(old).to_vec();
        for place in uses {
            let Some(input) = place.input else { continue };
            let node = &mut self.graph_mut().node[place.node];
            if which(node, input) {
                node.input[input] = new.to_string();
            }
        }
        self.index();
    }

    /// Brings the nodes into an order in which they can run, and removes what no output needs.
    ///
    /// # Errors
    /// When two nodes give one name, or nodes form a cycle.
    pub fn tidy(&mut self) -> Result<()> {
        let graph = self.graph_mut();
        let plan = NodeOrder::of(graph)?;
        let needs: HashSet<String> = plan.needs.iter().map(|n| (*n).to_string()).collect();
        let order = plan.order;
        let mut nodes: Vec<Option<NodeProto>> = std::mem::take(&mut graph.node).into_iter().map(Some).collect();
        graph.node = order.into_iter().filter_map(|n| nodes[n].take()).collect();
        graph.initializer.retain(|t| needs.contains(&t.name));
        graph.sparse_initializer.retain(|t| t.values.as_ref().is_some_and(|v| needs.contains(&v.name)));
        let known: HashSet<&str> = graph.node.iter().flat_map(|n| &n.output).map(String::as_str).collect();
        graph.value_info.retain(|v| known.contains(v.name.as_str()));
        self.constants.retain(|name, _| needs.contains(name));
        self.index();
        Ok(())
    }

    /// Computes the index from the nodes.
    fn index(&mut self) {
        let (mut givers, mut users) = (HashMap::new(), HashMap::<String, Vec<Use>>::new());
        for (n, node) in self.nodes().iter().enumerate() {
            for output in node.output.iter().filter(|o| !o.is_empty()) {
                givers.insert(output.clone(), n);
            }
            let own = node.input.len() - node.input.iter().filter(|i| i.is_empty()).count();
            for (input, name) in node.input.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                users.entry(name.clone()).or_default().push(Use { node: n, input: Some(input) });
            }
            for name in uses(node).into_iter().skip(own) {
                users.entry(name.to_string()).or_default().push(Use { node: n, input: None });
            }
        }
        (self.givers, self.users) = (givers, users);
    }

    /// Computes the elements of all names that depend on constants only.
    fn fold(&mut self) -> Result<()> {
        let mut constants = HashMap::new();
        for proto in &self.graph().initializer {
            constants.insert(proto.name.clone(), tensor::tensor_of(proto)?);
        }
        for proto in &self.graph().sparse_initializer {
            let name = proto.values.as_ref().map(|v| v.name.clone()).unwrap_or_default();
            constants.insert(name, tensor::sparse(proto, &mut ExternalData::new(None))?);
        }
        let mut known: HashSet<&str> = constants.keys().map(String::as_str).collect();
        let mut computed: Vec<&str> = Vec::new();
        for node in self.nodes() {
            let constant = node.input.iter().all(|i| i.is_empty() || known.contains(i.as_str()))
                && !RANDOM.contains(&node.op_type.as_str())
                && node.attribute.iter().all(|a| a.g.is_none() && a.graphs.is_empty());
            if constant {
                let outputs = node.output.iter().map(String::as_str).filter(|o| !o.is_empty());
                computed.extend(outputs.clone());
                known.extend(outputs);
            }
        }
        // Only what other nodes use, and what a node states.
        let used = |name: &&str| {
            let states = |n: usize| self.nodes()[n].op_type == "Constant";
            let reads = |place: &Use| self.nodes()[place.node].output.iter().any(|o| !known.contains(o.as_str()));
            self.users(name).iter().any(reads) || self.giver(name).is_some_and(states)
        };
        let wanted: Vec<String> = computed.into_iter().filter(used).map(str::to_string).collect();
        if !wanted.is_empty() {
            let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
            let graph = mcc::driver::import(self.tapped(&names)?, &plain_options()?)?;
            let tensors = eval::eval_graph(&graph, &[])?;
            constants.extend(wanted.into_iter().zip(tensors));
        }
        self.constants = constants;
        Ok(())
    }

    /// The file of the part that computes given names, which are its outputs.
    ///
    /// # Errors
    /// When it is larger than a file can be.
    pub fn tapped(&self, names: &[&str]) -> Result<Bytes> {
        let mut part = ModelProto { graph: None, ..self.proto.clone() };
        let graph = self.graph();
        let output = |name: &&str| ValueInfoProto { name: (*name).to_string(), ..Default::default() };
        let given = graph.input.iter().map(|i| i.name.as_str()).chain(initialized(graph));
        let plan = NodeOrder::new(&graph.node, given, names.iter().copied())?;
        let nodes: BTreeSet<usize> = plan.order.iter().copied().collect();
        let needs = |name: &str| plan.needs.contains(name);
        part.graph = Some(GraphProto {
            node: nodes.into_iter().map(|n| graph.node[n].clone()).collect(),
            initializer: graph.initializer.iter().filter(|t| needs(&t.name)).cloned().collect(),
            sparse_initializer: graph
                .sparse_initializer
                .iter()
                .filter(|t| t.values.as_ref().is_some_and(|v| needs(&v.name)))
                .cloned()
                .collect(),
            input: graph.input.iter().filter(|i| needs(&i.name)).cloned().collect(),
            output: names.iter().map(output).collect(),
            name: graph.name.clone(),
            ..Default::default()
        });
        Model { proto: part, ..Model::nothing() }.encode()
    }

    /// A model of which only the message matters.
    fn nothing() -> Model {
        Model {
            proto: ModelProto::default(),
            names: HashSet::new(),
            constants: HashMap::new(),
            givers: HashMap::new(),
            users: HashMap::new(),
        }
    }

    /// The types of names, with symbols for dimensions that only run time knows.
    ///
    /// # Errors
    /// When the model does not compile.
    pub fn types(&self, names: &[&str], options: &mcc::Options) -> Result<Vec<TensorType>> {
        let graph = mcc::driver::import(self.tapped(names)?, options)?;
        Ok(graph.outputs.iter().map(|o| graph.ty(o.value).clone()).collect())
    }

    /// The inputs, in the file's order.
    ///
    /// # Errors
    /// When the model is not valid, or needs something that is not supported.
    pub fn ports(&self, options: &mcc::Options) -> Result<Vec<Port>> {
        let graph = mcc::driver::import(self.encode()?, options)?;
        let ports = graph.inputs().iter().filter_map(|&node| match graph.op(node) {
            Op::Input(name, _) => Some(Port { name: name.to_string(), ty: graph.ty(node.into()).clone() }),
            _ => None,
        });
        Ok(ports.collect())
    }

    /// The integers of an attribute, or of an input that took its place.
    pub fn integers(&self, node: usize, attribute: &str, input: Option<usize>) -> Option<Vec<i64>> {
        let node = &self.nodes()[node];
        if let Some(list) = attribute::ints(node, attribute) {
            return Some(list);
        }
        let name = node.input.get(input?)?;
        self.constant(name).filter(|t| t.dtype() == DType::I64 || t.dtype() == DType::I32).map(Tensor::to_i64s)
    }
}

/// A graph without anything.
const EMPTY: GraphProto = GraphProto {
    node: Vec::new(),
    name: String::new(),
    initializer: Vec::new(),
    doc_string: String::new(),
    input: Vec::new(),
    output: Vec::new(),
    value_info: Vec::new(),
    quantization_annotation: Vec::new(),
    sparse_initializer: Vec::new(),
    metadata_props: Vec::new(),
};

/// Options for importing a part of a model.
fn plain_options() -> Result<mcc::Options> {
    let host = mcc::Target::host(None).map_err(|e| Error::usage(e.to_string()))?;
    mcc::Options::new(vec![host], "part")
}

/// Whether a type has only constant extents.
pub fn is_fixed(ty: &TensorType) -> bool {
    ty.shape.iter().all(|d: &Dim| d.as_const().is_some())
}

fn decode(bytes: Bytes) -> Result<ModelProto> {
    ModelProto::decode(bytes)
        .map_err(|e| Error::invalid(format!("not an ONNX model: {e}")).help("give an .onnx file; is it complete?"))
}

/// Replaces references to files by their bytes, in inner graphs too.
fn embed(graph: &mut GraphProto, external: &mut ExternalData) -> Result<()> {
    for proto in &mut graph.initializer {
        embed_tensor(proto, external)?;
    }
    for attribute in graph.node.iter_mut().flat_map(|n| &mut n.attribute) {
        attribute.t.iter_mut().chain(&mut attribute.tensors).try_for_each(|t| embed_tensor(t, external))?;
        attribute.g.iter_mut().chain(&mut attribute.graphs).try_for_each(|g| embed(g, external))?;
    }
    Ok(())
}

fn embed_tensor(proto: &mut TensorProto, external: &mut ExternalData) -> Result<()> {
    if proto.data_location == DataLocation::External as i32 {
        *proto = tensor::proto(&proto.name, &tensor::tensor(proto, external)?);
    }
    Ok(())
}

/// All names of a graph and of those inside it.
fn names_of(graph: &GraphProto, names: &mut HashSet<String>) {
    names.extend(graph.input.iter().chain(&graph.output).map(|v| v.name.clone()));
    names.extend(initialized(graph).map(str::to_string));
    for node in &graph.node {
        names.extend(node.input.iter().chain(&node.output).cloned());
        node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).for_each(|g| names_of(g, names));
    }
}
