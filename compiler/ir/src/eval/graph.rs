//! Evaluation of whole graphs.

use std::collections::{BTreeMap, HashMap};

use super::eval_op;
use crate::{Dim, Graph, NodeId, Op, Sym, Tensor, TensorType, Value};
use crate::{Error, Result};

/// Maximum number of elements of an input that symbols are bound to.
const MAX_ELEMENTS: usize = 64;

/// An element as the value of a symbol; for a float, its bits.
fn element(tensor: &Tensor, i: usize) -> i64 {
    if !tensor.dtype().is_float() {
        return tensor.i64_at(i);
    }
    let size = tensor.dtype().size();
    tensor.data()[i * size..(i + 1) * size].iter().rev().fold(0, |bits, &b| bits << 8 | i64::from(b))
}

/// The values of symbols.
#[derive(Debug, Clone, Default)]
pub struct Bindings(BTreeMap<Sym, i64>);

impl Bindings {
    /// The symbols of a graph's input types, bound from actual inputs: a dimension that is a bare symbol from the
    /// tensor's extent, a symbol named `INPUT[INDEX]` from that element of the input.
    ///
    /// # Errors
    /// When an input's element type, rank or a dimension contradicts the graph.
    pub fn of_inputs(graph: &Graph, inputs: &[Tensor]) -> Result<Bindings> {
        if graph.inputs().len() != inputs.len() {
            let (want, have) = (graph.inputs().len(), inputs.len());
            return Err(Error::invalid(format!("the graph has {want} inputs, but {have} tensors are given")));
        }
        let mut bindings = Bindings::default();
        let types: Vec<&TensorType> = graph.inputs().iter().map(|&n| graph.ty(n.into())).collect();
        for ((&node, ty), tensor) in graph.inputs().iter().zip(&types).zip(inputs) {
            let name = input_name(graph, node.into());
            if ty.dtype != tensor.dtype() || ty.rank() != tensor.shape().len() {
                return Err(Error::invalid(format!("input `{name}` is {}, not {ty}", tensor.ty())));
            }
            for (dim, &extent) in ty.shape.iter().zip(tensor.shape()) {
                if let Some(symbol) = dim.as_sym() {
                    bindings.bind(symbol, extent as i64)?;
                }
            }
            for i in 0..tensor.numel().min(MAX_ELEMENTS) {
                bindings.bind(&Sym(format!("{name}[{i}]").into()), element(tensor, i))?;
            }
        }
        for ((&node, ty), tensor) in graph.inputs().iter().zip(&types).zip(inputs) {
            for (dim, &extent) in ty.shape.iter().zip(tensor.shape()) {
                let name = input_name(graph, node.into());
                bindings.equal(dim, &Dim::from(extent)).map_err(|e| e.within(format!("input `{name}`")))?;
            }
        }
        Ok(bindings)
    }

    /// Binds a symbol to a value.
    ///
    /// # Errors
    /// When it has another value already.
    pub fn bind(&mut self, symbol: &Sym, value: i64) -> Result<()> {
        match self.0.insert(symbol.clone(), value) {
            Some(old) if old != value => Err(Error::invalid(format!("`{symbol}` is both {old} and {value}"))),
            _ => Ok(()),
        }
    }

    /// A dimension with all bound symbols replaced.
    pub fn apply(&self, dim: &Dim) -> Dim {
        dim.substitute(&|s| self.0.get(s).map(|&v| Dim::from(v)))
    }

    fn equal(&self, a: &Dim, b: &Dim) -> Result<()> {
        match (&self.apply(a) - &self.apply(b)).as_const() {
            Some(d) if d != 0 => Err(Error::invalid(format!("{a} is {}, but {b} is {}", self.apply(a), self.apply(b)))),
            _ => Ok(()),
        }
    }
}

fn input_name(graph: &Graph, value: Value) -> &str {
    match graph.op(value.node) {
        Op::Input(name, _) => name,
        _ => graph.label(value.node),
    }
}

/// A graph's outputs for given inputs.
///
/// # Errors
/// When the inputs contradict the graph's types or requirements, or an operation fails on its data.
pub fn eval_graph(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    eval_graph_with(graph, inputs, &mut |_, _| {})
}

/// The same; `observer` sees, and may change, every node's results before they are used.
///
/// # Errors
/// As [`eval_graph`].
pub fn eval_graph_with(
    graph: &Graph,
    inputs: &[Tensor],
    observer: &mut dyn FnMut(NodeId, &mut [Tensor]),
) -> Result<Vec<Tensor>> {
    let mut bindings = Bindings::of_inputs(graph, inputs)?;
    for requirement in graph.requires.iter() {
        requirement.check(&|d| bindings.apply(d))?;
    }
    let mut values: HashMap<Value, Tensor> = HashMap::new();
    for (&node, tensor) in graph.inputs().iter().zip(inputs) {
        values.insert(node.into(), tensor.clone());
    }
    for node in graph.topological() {
        if matches!(graph.op(node), Op::Input(..)) {
            continue;
        }
        let op = graph.op(node).map_dims(&|d| bindings.apply(d));
        let operands = graph.operands(node).iter().map(|v| known(&values, *v)).collect::<Result<Vec<_>>>()?;
        let mut types = graph.types(node).to_vec();
        types.iter_mut().flat_map(|t| &mut t.shape).for_each(|d| *d = bindings.apply(d));
        let mut results = eval_op(&op, &operands, &types).map_err(|e| match graph.label(node) {
            "" => e,
            label => e.within(format!("node `{label}`")),
        })?;
        if let Op::NonZero { count } = graph.op(node)
            && let Some(symbol) = count.as_sym()
        {
            bindings.bind(symbol, results[0].shape()[1] as i64)?;
            for requirement in
                graph.requires.iter().filter(|r| r.condition.dims().any(|d| d.symbols().contains(symbol)))
            {
                requirement.check(&|d| bindings.apply(d))?;
            }
        }
        observer(node, &mut results);
        for (result, tensor) in results.into_iter().enumerate() {
            values.insert(Value { node, result }, tensor);
        }
    }
    graph.outputs.iter().map(|o| known(&values, o.value)).collect()
}

fn known(values: &HashMap<Value, Tensor>, value: Value) -> Result<Tensor> {
    values.get(&value).cloned().ok_or_else(|| Error::internal(format!("{value:?} is used before it is computed")))
}
