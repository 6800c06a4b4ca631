//! Loop and Scan, which are unrolled at import, and SequenceMap.

use super::super::builder;
use super::super::node::{Item, Node, Results};
use super::Bodies;
use mcc_ir::{DType, Dim, Error, Result, Tensor, Value};

/// Unrolls a loop; the number of steps must be constant.
pub fn loop_(w: &mut dyn Bodies, n: &Node) -> Result<Results> {
    let body = n.graph("body")?;
    let limit = match n.optional(0) {
        Some(m) => {
            let m = w.b().ints(m, "the number of steps")?;
            Some(m.first().copied().unwrap_or(0).max(0))
        }
        None => None,
    };
    let constant = |w: &mut dyn Bodies, v: Value| w.b().known_floats(v).and_then(|c| c.first().map(|&c| c != 0.0));
    let undecided = || {
        Error::unsupported("a loop whose end is known at run time only")
            .help("mcc unrolls loops: their length must be constant")
    };
    let mut going = match n.optional(1) {
        Some(c) => constant(w, c).ok_or_else(undecided)?,
        None => true,
    };
    let mut carried: Vec<Item> = n.inputs.get(2..).unwrap_or_default().to_vec();
    let collected_count = body.output.len().saturating_sub(1 + carried.len());
    let mut collected: Vec<Vec<Value>> = vec![Vec::new(); collected_count];
    let mut step = 0;
    while going && limit.is_none_or(|l| step < l) {
        w.b().budget.steps(step + 1)?;
        let index = w.b().constant(Tensor::scalar_i64(DType::I64, step));
        let truth = w.b().constant(Tensor::scalar_i64(DType::Bool, 1));
        let arguments = [Item::Tensor(index), Item::Tensor(truth)].into_iter().chain(carried.clone()).collect();
        let mut results = w.body(&body, arguments)?.into_iter();
        match results.next() {
            Some(Item::Tensor(c)) => going = constant(w, c).ok_or_else(undecided)?,
            _ => return Err(Error::invalid("the loop's body returns no condition")),
        }
        carried = results.by_ref().take(carried.len()).collect();
        for (list, item) in collected.iter_mut().zip(results) {
            let Item::Tensor(v) = item else { return Err(Error::invalid("a scan output that is not a tensor")) };
            list.push(w.b().unsqueeze(v, &[0])?);
        }
        step += 1;
    }
    for list in collected {
        if list.is_empty() {
            return Err(Error::unsupported("scan outputs of a loop without steps"));
        }
        carried.push(Item::Tensor(w.b().concat(&list, 0)?));
    }
    Ok(Results(carried))
}

/// Version 8 has a batch axis and lengths as the first input; from version 9 on, axes and directions are attributes.
pub fn scan(w: &mut dyn Bodies, n: &Node) -> Result<Results> {
    let body = n.graph("body")?;
    let scanned = usize::try_from(n.need("num_scan_inputs", n.try_int("num_scan_inputs")?)?).unwrap_or(0);
    if n.version < 9 {
        return scan_batched(w, n, &body, scanned);
    }
    let states =
        n.arity().checked_sub(scanned).ok_or_else(|| Error::invalid("attribute num_scan_inputs is too large"))?;
    let outputs = body.output.len().saturating_sub(states);
    let list = |name: &str, len: usize| -> Result<Vec<i64>> {
        Ok(n.ints(name)?.filter(|l| l.len() == len).unwrap_or_else(|| vec![0; len]))
    };
    let initial = n.inputs[..states].to_vec();
    let inputs: Vec<Value> = (states..n.arity()).map(|i| n.input(i)).collect::<Result<_>>()?;
    let (input_axes, input_directions) = (list("scan_input_axes", scanned)?, list("scan_input_directions", scanned)?);
    let (output_axes, output_directions) =
        (list("scan_output_axes", outputs)?, list("scan_output_directions", outputs)?);
    let spec = Scan { inputs, input_axes, input_directions, output_axes, output_directions };
    Ok(Results(spec.run(w, &body, initial)?))
}

fn scan_batched(w: &mut dyn Bodies, n: &Node, body: &mcc_proto::GraphProto, scanned: usize) -> Result<Results> {
    if n.optional(0).is_some() {
        return Err(Error::unsupported("sequence lengths in Scan"));
    }
    let operands: Vec<Value> = (1..n.arity()).map(|i| n.input(i)).collect::<Result<_>>()?;
    let states =
        operands.len().checked_sub(scanned).ok_or_else(|| Error::invalid("attribute num_scan_inputs is too large"))?;
    let batch = operands.first().and_then(|&v| w.b().shape(v).first().and_then(Dim::as_const));
    let batch = batch.ok_or_else(|| Error::unsupported("Scan of a symbolic batch"))?;
    w.b().budget.steps(batch)?;
    let outputs = body.output.len().saturating_sub(states);
    let directions = n.ints("directions")?.filter(|d| d.len() == scanned).unwrap_or_else(|| vec![0; scanned]);
    let mut batches: Vec<Vec<Value>> = vec![Vec::new(); body.output.len()];
    for i in 0..batch {
        let mut parts = Vec::new();
        for &v in &operands {
            let v = w.b().slice(v, 0, Dim::from(i), Dim::ONE)?;
            parts.push(w.b().squeeze(v, &[0])?);
        }
        let spec = Scan {
            inputs: parts.split_off(states),
            input_axes: vec![0; scanned],
            input_directions: directions.clone(),
            output_axes: vec![0; outputs],
            output_directions: vec![0; outputs],
        };
        let results = spec.run(w, body, parts.into_iter().map(Item::Tensor).collect())?;
        for (list, item) in batches.iter_mut().zip(results) {
            let Item::Tensor(v) = item else { return Err(Error::invalid("a result that is not a tensor")) };
            list.push(w.b().unsqueeze(v, &[0])?);
        }
    }
    let results: Vec<Value> = batches.iter().map(|list| w.b().concat(list, 0)).collect::<Result<_>>()?;
    Ok(results.into())
}

struct Scan {
    inputs: Vec<Value>,
    input_axes: Vec<i64>,
    input_directions: Vec<i64>,
    output_axes: Vec<i64>,
    output_directions: Vec<i64>,
}

impl Scan {
    fn run(self, w: &mut dyn Bodies, body: &mcc_proto::GraphProto, mut carried: Vec<Item>) -> Result<Vec<Item>> {
        let mut length = None;
        let mut axes = Vec::new();
        for (&v, &a) in self.inputs.iter().zip(&self.input_axes) {
            let axis = builder::axis(a, w.b().rank(v))?;
            axes.push(axis);
            length = length.or(w.b().shape(v)[axis].as_const());
        }
        let length = length.ok_or_else(|| {
            Error::unsupported("Scan over a symbolic length").help("pin the dimension with --dim or --shape")
        })?;
        w.b().budget.steps(length)?;
        let mut collected: Vec<Vec<Value>> = vec![Vec::new(); self.output_axes.len()];
        for step in 0..length {
            let mut arguments = carried.clone();
            for ((&v, &axis), &direction) in self.inputs.iter().zip(&axes).zip(&self.input_directions) {
                let at = if direction == 0 { step } else { length - 1 - step };
                let part = w.b().slice(v, axis, Dim::from(at), Dim::ONE)?;
                arguments.push(Item::Tensor(w.b().squeeze(part, &[axis])?));
            }
            let mut results = w.body(body, arguments)?.into_iter();
            carried = results.by_ref().take(carried.len()).collect();
            for (list, item) in collected.iter_mut().zip(results) {
                let Item::Tensor(v) = item else { return Err(Error::invalid("a scan output that is not a tensor")) };
                list.push(v);
            }
        }
        for ((mut list, &axis), &direction) in collected.into_iter().zip(&self.output_axes).zip(&self.output_directions)
        {
            let first = *list.first().ok_or_else(|| Error::unsupported("Scan over no steps"))?;
            let axis = builder::axis(axis, w.b().rank(first) + 1)?;
            for v in &mut list {
                *v = w.b().unsqueeze(*v, &[axis])?;
            }
            if direction != 0 {
                list.reverse();
            }
            carried.push(Item::Tensor(w.b().concat(&list, axis)?));
        }
        Ok(carried)
    }
}

/// Applies a body to every element of a sequence.
pub fn sequence_map(w: &mut dyn Bodies, n: &Node) -> Result<Results> {
    let body = n.graph("body")?;
    let Item::Sequence(first) = n.item(0) else { return Err(Error::invalid("input 0 is not a sequence")) };
    let mut results: Vec<Vec<Item>> = vec![Vec::new(); body.output.len()];
    for i in 0..first.len() {
        let arguments = n.inputs.iter().map(|item| match item {
            Item::Sequence(list) => {
                list.get(i).cloned().ok_or_else(|| Error::invalid("the sequences differ in length"))
            }
            Item::Absent | Item::Tensor(_) | Item::Optional(_) => Ok(item.clone()),
        });
        let arguments = arguments.collect::<Result<_>>()?;
        for (list, item) in results.iter_mut().zip(w.body(&body, arguments)?) {
            list.push(item);
        }
    }
    Ok(Results(results.into_iter().map(Item::Sequence).collect()))
}
