//! A part of a model as operators that run forward and backward on one sample.
//!
//! Contract: shapes are known. What depends on no trained input may be any operation: it runs with the reference
//! evaluator where there is no operator. On the way from trained inputs to results every operation has gradients, or
//! there is no program, and the error names those that have none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mcc_ir::eval::eval_op;
use mcc_ir::{DType, Error, Graph, NodeId, Op, Result, Tensor, TensorType, Value};

use super::operators::{Call, Operator, Pass, operator, vectors};

/// Elements during a run.
#[derive(Clone)]
pub enum Data {
    /// As operators hold them.
    Floats(Arc<Vec<f32>>),
    /// As the evaluator does.
    Tensor(Tensor),
    /// A constant that both read.
    Both(Tensor, Arc<Vec<f32>>),
}

impl From<Tensor> for Data {
    fn from(tensor: Tensor) -> Data {
        match tensor.to_f32s() {
            Some(floats) if tensor.dtype() == DType::F32 => Data::Floats(Arc::new(floats)),
            _ => Data::Tensor(tensor),
        }
    }
}

impl Data {
    fn floats(&self) -> Arc<Vec<f32>> {
        match self {
            Data::Floats(floats) | Data::Both(_, floats) => floats.clone(),
            Data::Tensor(tensor) => {
                Arc::new(tensor.to_f32s().unwrap_or_else(|| tensor.to_f64s().into_iter().map(|v| v as f32).collect()))
            }
        }
    }

    fn tensor(&self, ty: &TensorType) -> Result<Tensor> {
        match self {
            Data::Tensor(tensor) | Data::Both(tensor, _) => Ok(tensor.clone()),
            Data::Floats(floats) => {
                let shape = ty.fixed_shape().ok_or_else(|| Error::internal(format!("{ty} has no fixed shape")))?;
                let values: Vec<f64> = floats.iter().map(|&v| f64::from(v)).collect();
                if ty.dtype.is_float() {
                    return Tensor::from_f64s(ty.dtype, shape, &values);
                }
                Tensor::from_i64s(ty.dtype, shape, &values.iter().map(|&v| v as i64).collect::<Vec<_>>())
            }
        }
    }
}

/// How a step computes.
enum Run {
    /// With gradients.
    Operator(Box<dyn Operator>),
    /// By the reference evaluator.
    Reference(Op),
}

struct Step {
    run: Run,
    operands: Vec<usize>,
    results: Vec<usize>,
    /// Whether it lies on the way from trained inputs.
    trained: bool,
}

/// A part of a model with known shapes.
pub struct Program {
    /// Names of the inputs, and where their elements go.
    inputs: BTreeMap<String, usize>,
    outputs: Vec<usize>,
    types: Vec<TensorType>,
    /// Elements that are known.
    constants: Vec<Option<Data>>,
    steps: Vec<Step>,
    /// Whether a place depends on trained inputs.
    trained: Vec<bool>,
    /// Whether its elements are needed after a run.
    held: Vec<bool>,
}

/// The elements of all places after a run.
pub struct Trace {
    data: Vec<Option<Arc<Vec<f32>>>>,
}

impl Program {
    /// The program of a graph with fixed shapes, which gives gradients by the inputs `trained`.
    ///
    /// # Errors
    /// Unsupported operations; when a shape is not fixed.
    pub fn new(graph: &Graph, trained: &BTreeSet<String>) -> Result<Program> {
        let mut builder =
            Builder { graph, places: HashMap::new(), program: Program::empty(), missing: BTreeSet::new() };
        for node in graph.topological() {
            builder.add(node, trained)?;
        }
        if !builder.missing.is_empty() {
            let list: Vec<String> = builder.missing.into_iter().collect();
            return Err(Error::unsupported(format!("no gradients for {}", list.join(", "))));
        }
        let mut program = builder.program;
        program.outputs = graph.outputs.iter().map(|o| builder.places[&o.value]).collect();
        let trained = program.steps.iter().filter(|s| s.trained).flat_map(|s| s.operands.iter().chain(&s.results));
        let held: BTreeSet<usize> = trained.chain(&program.outputs).copied().collect();
        program.held = (0..program.types.len()).map(|place| held.contains(&place)).collect();
        Ok(program)
    }

    fn empty() -> Program {
        Program {
            inputs: BTreeMap::new(),
            outputs: Vec::new(),
            types: Vec::new(),
            constants: Vec::new(),
            steps: Vec::new(),
            trained: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Whether an input is read.
    pub fn reads(&self, name: &str) -> bool {
        let place = self.inputs.get(name);
        place.is_some_and(|p| self.outputs.contains(p) || self.steps.iter().any(|s| s.operands.contains(p)))
    }

    /// Multiplications and additions of a run.
    pub fn work(&self) -> u64 {
        let work = |step: &Step| match &step.run {
            Run::Operator(operator) => operator.work(),
            Run::Reference(_) => 0,
        };
        let elements: usize = self.steps.iter().flat_map(|s| &s.results).map(|&r| self.elements(r)).sum();
        self.steps.iter().map(work).sum::<u64>() + elements as u64
    }

    fn place(&mut self, ty: TensorType) -> usize {
        self.types.push(ty);
        self.constants.push(None);
        self.trained.push(false);
        self.types.len() - 1
    }

    /// Runs on the elements of inputs.
    ///
    /// # Errors
    /// When an input is missing, or an operation fails on the data.
    pub fn forward(&self, input: &dyn Fn(&str) -> Option<Data>) -> Result<Trace> {
        let mut data: Vec<Option<Data>> = self.constants.clone();
        for (name, &place) in &self.inputs {
            data[place] = input(name);
        }
        let missing = || Error::internal("a value is read before it is computed");
        for step in &self.steps {
            let operands: Vec<Data> =
                step.operands.iter().map(|&o| data[o].clone().ok_or_else(missing)).collect::<Result<_>>()?;
            match &step.run {
                Run::Operator(operator) => {
                    let floats: Vec<Arc<Vec<f32>>> = operands.iter().map(Data::floats).collect();
                    let slices: Vec<&[f32]> = floats.iter().map(|f| &f[..]).collect();
                    let mut y = vec![0.0; step.results.iter().map(|&r| self.elements(r)).sum()];
                    operator.forward(&slices, &mut y);
                    for &result in step.results.iter().skip(1).rev() {
                        let own = y.split_off(y.len() - self.elements(result));
                        data[result] = Some(Data::Floats(Arc::new(own)));
                    }
                    data[step.results[0]] = Some(Data::Floats(Arc::new(y)));
                }
                Run::Reference(op) => {
                    let tensors = operands.iter().zip(&step.operands).map(|(d, &o)| d.tensor(&self.types[o]));
                    let tensors: Vec<Tensor> = tensors.collect::<Result<_>>()?;
                    let types: Vec<TensorType> = step.results.iter().map(|&r| self.types[r].clone()).collect();
                    for (&place, tensor) in step.results.iter().zip(eval_op(op, &tensors, &types)?) {
                        data[place] = Some(Data::Tensor(tensor));
                    }
                }
            }
        }
        let held = |(place, data): (usize, Option<Data>)| data.filter(|_| self.held[place]).map(|d| d.floats());
        Ok(Trace { data: data.into_iter().enumerate().map(held).collect() })
    }

    /// The number of elements of a place.
    fn elements(&self, place: usize) -> usize {
        self.types[place].fixed_shape().map_or(0, |s| s.iter().product())
    }

    /// The outputs of a run.
    pub fn outputs<'t>(&self, trace: &'t Trace) -> Vec<&'t [f32]> {
        self.outputs.iter().map(|&o| trace.data[o].as_ref().map_or(&[][..], |d| &d[..])).collect()
    }

    /// The shapes of the outputs.
    pub fn output_shapes(&self) -> Vec<Vec<usize>> {
        self.outputs.iter().map(|&o| self.types[o].fixed_shape().unwrap_or_default()).collect()
    }

    /// The gradients by the trained inputs, of a sum whose gradients by the outputs are given.
    pub fn backward(&self, trace: &Trace, outputs: Vec<Vec<f32>>) -> BTreeMap<&str, Vec<f32>> {
        let mut gradients: Vec<Option<Vec<f32>>> = vec![None; self.types.len()];
        for (&place, gradient) in self.outputs.iter().zip(outputs).filter(|(p, _)| self.trained[**p]) {
            match &mut gradients[place] {
                Some(sum) => sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += g),
                none => *none = Some(gradient),
            }
        }
        for step in self.steps.iter().rev().filter(|s| s.trained) {
            let Run::Operator(operator) = &step.run else { continue };
            let Some(dy) = self.joined(&step.results, &mut gradients) else { continue };
            let floats = |place: usize| trace.data[place].as_ref().map_or(&[][..], |d| &d[..]);
            let all: Vec<f32>;
            let y = match step.results[..] {
                [result] => floats(result),
                ref results => {
                    all = results.iter().flat_map(|&r| floats(r)).copied().collect();
                    &all
                }
            };
            let x: Vec<&[f32]> = step.operands.iter().map(|&o| floats(o)).collect();
            // The same value twice is an operand with a gradient of its own each time.
            let mut dx: Vec<Option<Vec<f32>>> =
                step.operands.iter().map(|&o| self.trained[o].then(|| vec![0.0; self.elements(o)])).collect();
            operator.backward(&Pass { x: &x, y, dy: &dy }, &mut dx);
            for (&place, dx) in step.operands.iter().zip(dx) {
                let Some(dx) = dx else { continue };
                match &mut gradients[place] {
                    Some(sum) => vectors::add(sum, &dx),
                    none => *none = Some(dx),
                }
            }
        }
        let mut found = BTreeMap::new();
        for (name, &place) in &self.inputs {
            gradients[place].take().into_iter().for_each(|g| drop(found.insert(name.as_str(), g)));
        }
        found
    }

    /// The gradients by a step's results, one after another, if there are any.
    fn joined(&self, results: &[usize], gradients: &mut [Option<Vec<f32>>]) -> Option<Vec<f32>> {
        if let [result] = *results {
            return gradients[result].take();
        }
        results.iter().any(|&r| gradients[r].is_some()).then_some(())?;
        let own = |&r: &usize| gradients[r].take().unwrap_or_else(|| vec![0.0; self.elements(r)]);
        Some(results.iter().flat_map(own).collect())
    }
}

struct Builder<'g> {
    graph: &'g Graph,
    places: HashMap<Value, usize>,
    program: Program,
    missing: BTreeSet<String>,
}

impl Builder<'_> {
    fn add(&mut self, node: NodeId, trained: &BTreeSet<String>) -> Result<()> {
        let op = self.graph.op(node);
        let results: Vec<usize> = self.graph.types(node).iter().map(|ty| self.program.place(ty.clone())).collect();
        for (result, &place) in results.iter().enumerate() {
            self.places.insert(Value { node, result }, place);
        }
        match op {
            Op::Input(name, _) => {
                self.program.inputs.insert(name.clone(), results[0]);
                self.program.trained[results[0]] = trained.contains(name);
                return Ok(());
            }
            Op::Constant(tensor) => {
                self.program.constants[results[0]] = Some(known(tensor.clone()));
                return Ok(());
            }
            _ => {}
        }
        let operands: Vec<usize> = self.graph.operands(node).iter().map(|v| self.places[v]).collect();
        let types: Vec<TensorType> = operands.iter().map(|&o| self.program.types[o].clone()).collect();
        let constants: Vec<Option<Tensor>> = operands
            .iter()
            .zip(&types)
            .map(|(&o, ty)| self.program.constants[o].as_ref().map(|c| c.tensor(ty)).transpose())
            .collect::<Result<_>>()?;
        if constants.iter().all(Option::is_some) {
            let tensors: Vec<Tensor> = constants.into_iter().flatten().collect();
            for (&place, tensor) in results.iter().zip(eval_op(op, &tensors, self.graph.types(node))?) {
                self.program.constants[place] = Some(known(tensor));
            }
            return Ok(());
        }
        let on_the_way = operands.iter().any(|&o| self.program.trained[o]);
        let constants: Vec<Option<&Tensor>> = constants.iter().map(Option::as_ref).collect();
        let call = Call { op, operands: &types, constants: &constants, result: &self.graph.types(node)[0] };
        // Floats hold codes exactly, but not all integers.
        let held = |ty: &TensorType| matches!(ty.dtype, DType::F32 | DType::U8 | DType::I8);
        let is_held = on_the_way || results.len() == 1 && held(call.result);
        let made = if is_held { operator(&call)? } else { None };
        let run = match made {
            Some(operator) => Run::Operator(operator),
            // Integers have no gradients: what depends on trained inputs is where they come from, not what they are.
            None if on_the_way => {
                self.missing.insert(op.name().to_string());
                return Ok(());
            }
            None => Run::Reference(op.clone()),
        };
        results.iter().for_each(|&r| self.program.trained[r] = on_the_way);
        self.program.steps.push(Step { run, operands, results, trained: on_the_way });
        Ok(())
    }
}

/// Constants that operators read.
fn known(tensor: Tensor) -> Data {
    match tensor.to_f32s() {
        Some(floats) if tensor.dtype() == DType::F32 => Data::Both(tensor, Arc::new(floats)),
        _ => Data::Tensor(tensor),
    }
}
