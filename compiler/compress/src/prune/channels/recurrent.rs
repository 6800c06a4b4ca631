//! Hidden units of recurrent nodes: unit `h` is row `h` of every gate, column `h` of the state's weights, and channel `h` of
//! the results. All directions have the same number of units, so that units of the same number go together.

use mcc_ir::Tensor;

use super::trace::{Edit, Trace, Traced};
use crate::prune::product::{BIASES, INPUT_WEIGHTS, Recurrent, STATE_WEIGHTS};

/// The input that is a factor of each unit's cell.
const PEEPHOLES: usize = 7;

/// The inputs that are states at the start.
const STATES: [usize; 2] = [5, 6];

/// Operators that only move elements, with the inputs that hold them.
const MOVES: &[&str] = &[
    "Cast",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Follows a recurrent node; gives the inputs whose channels may go.
pub fn follow(trace: &mut Trace, n: usize, recurrent: &Recurrent) -> Vec<usize> {
    let units = trace.sets.add(recurrent.units);
    let node = &trace.model.nodes()[n];
    let given = |slot: usize| node.input.get(slot).filter(|name| !name.is_empty());
    let reads = given(0).and_then(|x| trace.tracks.get(x)).filter(|track| track.axis == 2).map(|t| t.channels.clone());
    let mut followed = vec![INPUT_WEIGHTS, STATE_WEIGHTS, BIASES];
    let rows = units.repeat(recurrent.gates);
    let cut =
        |input: usize, axis: usize, channels: &[usize]| Edit::Cut { node: n, input, axis, channels: channels.to_vec() };
    if let Some(reads) = &reads {
        trace.edits.push(cut(INPUT_WEIGHTS, 2, reads));
        followed.push(0);
    }
    trace.edits.extend([cut(INPUT_WEIGHTS, 1, &rows), cut(STATE_WEIGHTS, 1, &rows), cut(STATE_WEIGHTS, 2, &units)]);
    if given(BIASES).is_some() {
        trace.edits.push(cut(BIASES, 1, &rows.repeat(2)));
    }
    trace.edits.push(Edit::Attribute { node: n, name: "hidden_size", channels: units.clone() });
    for slot in STATES.into_iter().chain([PEEPHOLES]) {
        let Some(name) = given(slot) else { continue };
        let axis = if slot == PEEPHOLES { 1 } else { 2 };
        let constant = trace.model.constant(name).map(Tensor::shape);
        if let Some(extent) = constant.and_then(|shape| shape.get(axis)) {
            let each = units.repeat(extent / units.len());
            trace.edits.push(cut(slot, axis, &each));
        } else if slot != PEEPHOLES && is_zero(trace, name) {
            trace.edits.push(Edit::Drop { node: n, input: slot, channels: units.clone() });
        } else {
            let reason = format!("its state comes from \"{name}\", which has all of them");
            units.iter().for_each(|&unit| trace.sets.need(unit, &reason));
        }
        followed.push(slot);
    }
    for (output, name) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        trace.track(name, if output == 0 { 3 } else { 2 }, units.clone());
    }
    for product in &recurrent.products {
        let reads = match product.layer.weights_slot {
            STATE_WEIGHTS => Some(units.clone()),
            _ => reads.clone(),
        };
        trace.products.push(Traced { product: product.clone(), reads, makes: rows.clone() });
    }
    followed
}

/// Whether all elements of a value are zero, whatever its extents.
fn is_zero(trace: &Trace, name: &str) -> bool {
    let mut name = name;
    loop {
        if let Some(tensor) = trace.model.constant(name) {
            return tensor.to_f64s().iter().all(|&v| v == 0.0);
        }
        let Some(node) = trace.model.giver(name).map(|n| &trace.model.nodes()[n]) else { return false };
        if node.op_type == "ConstantOfShape" {
            let value = node.attribute.iter().find(|a| a.name == "value").and_then(|a| a.t.as_ref());
            return value
                .is_none_or(|t| mcc_onnx::tensor::tensor_of(t).is_ok_and(|t| t.to_f64s().iter().all(|&v| v == 0.0)));
        }
        match node.input.first().filter(|_| MOVES.contains(&node.op_type.as_str())) {
            Some(input) => name = input,
            None => return false,
        }
    }
}
