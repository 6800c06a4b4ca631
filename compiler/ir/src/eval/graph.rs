//! Evaluation of whole graphs.

use std::collections::{BTreeMap, HashMap};

use super::eval_op;
use crate::{Dim, Graph, If, NodeId, Op, Sym, Tensor, TensorType, Value};
use crate::{Error, Result};

/// Maximum number of elements of an input that symbols are bound to.
const MAX_BOUND_ELEMENTS: usize = 64;

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
            for i in 0..tensor.numel().min(MAX_BOUND_ELEMENTS) {
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

    /// Gives a symbol the extent of results that it stands for.
    fn bind_extent(&mut self, symbol: &Sym, types: &[TensorType], results: &[Tensor]) -> Result<()> {
        let mut extents = types.iter().zip(results).flat_map(|(ty, tensor)| ty.shape.iter().zip(tensor.shape()));
        let extent = extents.find(|(dim, _)| dim.as_sym() == Some(symbol)).map(|(_, &extent)| extent as i64);
        self.bind(symbol, extent.ok_or_else(|| Error::internal(format!("nothing says what {symbol} is")))?)
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
    eval_graph_with(graph, inputs, &mut |_, _, _| {})
}

/// Sees, and may change, the results of a node.
pub type Observer<'o> = dyn FnMut(&Graph, NodeId, &mut [Tensor]) + 'o;

/// The same; `observer` sees every node's results, in regions too, before they are used.
///
/// # Errors
/// As [`eval_graph`].
pub fn eval_graph_with(graph: &Graph, inputs: &[Tensor], observer: &mut Observer<'_>) -> Result<Vec<Tensor>> {
    run(graph, inputs, Bindings::of_inputs(graph, inputs)?, observer)
}

/// The results of the region that a condition selects, where no symbol is known.
pub(super) fn branch(branches: &If, operands: &[Tensor]) -> Result<Vec<Tensor>> {
    taken(branches, operands, &Bindings::default(), &mut |_, _, _| {})
}

/// The results of the region that a condition, the first operand, takes; the symbols that it binds are not looked at.
fn taken(branches: &If, operands: &[Tensor], bindings: &Bindings, observer: &mut Observer<'_>) -> Result<Vec<Tensor>> {
    let (condition, operands) = operands.split_first().ok_or_else(|| Error::internal("no condition"))?;
    let [then, otherwise] = branches.branches();
    run(if condition.i64_at(0) != 0 { then } else { otherwise }, operands, bindings.clone(), observer)
}

/// A graph's outputs, where so much is known of symbols.
fn run(graph: &Graph, inputs: &[Tensor], mut bindings: Bindings, observer: &mut Observer<'_>) -> Result<Vec<Tensor>> {
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
        let operands = graph.operands(node).iter().map(|v| known(&values, *v)).collect::<Result<Vec<_>>>()?;
        let results = match graph.op(node) {
            Op::If(branches) => taken(branches, &operands, &bindings, observer),
            op => {
                let mut types = graph.types(node).to_vec();
                types.iter_mut().flat_map(|t| &mut t.shape).for_each(|d| *d = bindings.apply(d));
                op.map_dims(&|d| bindings.apply(d)).and_then(|op| eval_op(&op, &operands, &types))
            }
        };
        let mut results = results.map_err(|e| match graph.label(node) {
            "" => e,
            label => e.within(format!("node `{label}`")),
        })?;
        for symbol in graph.op(node).binds() {
            bindings.bind_extent(symbol, graph.types(node), &results)?;
            for requirement in
                graph.requires.iter().filter(|r| r.condition.dims().any(|d| d.symbols().contains(symbol)))
            {
                requirement.check(&|d| bindings.apply(d))?;
            }
        }
        if let Op::If(_) = graph.op(node) {
            let extents = graph.types(node).iter().zip(&results).flat_map(|(ty, t)| ty.shape.iter().zip(t.shape()));
            extents.into_iter().try_for_each(|(dim, &extent)| bindings.equal(dim, &Dim::from(extent)))?;
        }
        observer(graph, node, &mut results);
        for (result, tensor) in results.into_iter().enumerate() {
            values.insert(Value { node, result }, tensor);
        }
    }
    graph.outputs.iter().map(|o| known(&values, o.value)).collect()
}

fn known(values: &HashMap<Value, Tensor>, value: Value) -> Result<Tensor> {
    values.get(&value).cloned().ok_or_else(|| Error::internal(format!("{value:?} is used before it is computed")))
}
