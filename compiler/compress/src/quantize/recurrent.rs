//! Recurrent layers whose products are of bytes: `com.microsoft` `DynamicQuantizeLSTM`, which finds the ranges of its data and
//! of the states of every step at run time. Both weights of a node have codes of 8 bits then, with a scale per row.
//!
//! There is no such operator for `GRU` and `RNN`; their weights, and codes of other forms, become numbers again before the
//! node, like those of other layers whose data stays float.

use std::collections::BTreeSet;

use mcc_ir::{DType, Error, Result, Tensor};
use mcc_onnx::node::label;
use mcc_proto::NodeProto;

use super::weights::{Codes, Form};
use crate::attribute;
use crate::layers::{self, Layer};
use crate::model::Model;
use crate::recipe::{Activations, Quantize, Weights};
use crate::recurrent::OPERATORS;
use crate::session::Session;
use crate::write::MICROSOFT;

/// Why the data of a recurrent layer stays float although a step asks for bytes.
const NO_OPERATOR: &str = "ONNX has recurrent layers of bytes for LSTM with 8-bit weights only: its data stays float";
const HALF: &str = "bytes need both W and R: its data stays float";

/// The layers, by their results, of nodes whose data becomes bytes; tells about the others why it does not.
pub fn of_bytes(session: &mut Session, selected: &[Layer], step: &Quantize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if step.activations == Activations::Float {
        return found;
    }
    for layer in selected.iter().filter(|l| l.recurrence().is_some()) {
        let node = session.model.giver(&layer.output);
        let both =
            selected.iter().filter(|l| l.recurrence().is_some() && session.model.giver(&l.output) == node).count();
        if layer.operator != "LSTM" || step.weights != Weights::Int(8) {
            session.change(&layer.output, |c| c.reason = NO_OPERATOR.to_string());
        } else if both < 2 {
            session.change(&layer.output, |c| c.reason = HALF.to_string());
        } else {
            found.insert(layer.output.clone());
        }
    }
    found
}

/// Replaces the node of a layer by one of bytes; its other weights' codes are those of the node's other layer.
///
/// # Errors
/// When the model and the session contradict each other.
pub fn write(session: &Session, model: &mut Model, output: &str) -> Result<()> {
    let node = layers::node_of(model, output)?;
    if !OPERATORS.contains(&model.nodes()[node].op_type.as_str()) {
        // Written with the node's other weights.
        return Ok(());
    }
    let pair = session.codes.iter().filter(|(name, _)| model.giver(name) == Some(node));
    let mut pair = pair.map(|(name, codes)| Ok((layers::again(model, name)?.1, codes))).collect::<Result<Vec<_>>>()?;
    pair.sort_by_key(|(layer, _)| layer.weights_slot);
    let mut given = model.nodes()[node].clone();
    given.input.resize(8, String::new());
    for (layer, codes) in &pair {
        let [weights, scales, zeros] = constants(model, layer, codes)?;
        given.input[layer.weights_slot] = weights;
        given.input.extend([scales, zeros]);
    }
    if given.input.len() != 12 {
        return Err(Error::internal(format!("\"{}\" has codes for one of its weights", label(&given))));
    }
    let batch_first = attribute::int(&given, "layout", 0) != 0;
    given.op_type = "DynamicQuantizeLSTM".to_string();
    given.domain = MICROSOFT.to_string();
    given.attribute.retain(|a| a.name != "layout");
    let hidden = pair[1].0.columns();
    attribute::set_int(&mut given, "hidden_size", hidden as i64);
    let mut moves = Vec::new();
    if batch_first {
        // The operator knows no other order than steps before batch.
        for slot in [0, 5, 6].into_iter().filter(|&slot| !given.input[slot].is_empty()).collect::<Vec<_>>() {
            let to = model.fresh(&format!("{}_steps_first", given.input[slot]));
            moves.push(transpose(&given.input[slot], &to, &[1, 0, 2]));
            given.input[slot] = to;
        }
        for (slot, name) in given.output.iter_mut().enumerate().filter(|(_, name)| !name.is_empty()) {
            let from = model.fresh(&format!("{name}_steps_first"));
            moves.push(transpose(&from, name, if slot == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] }));
            *name = from;
        }
    }
    model.edit_node(node, |node| *node = given);
    model.add_nodes(moves);
    model.import_domain(MICROSOFT, 1);
    Ok(())
}

/// The codes of a layer, `[directions, inputs, gates * hidden]`, with scale and zero point of each row.
fn constants(model: &mut Model, layer: &Layer, codes: &Codes) -> Result<[String; 3]> {
    let (Form::Steps(grid), &[directions, width, inputs]) = (&codes.form, layer.shape.as_slice()) else {
        return Err(Error::internal(format!("\"{}\" has no steps", layer.name)));
    };
    let place = |at: usize| {
        let (d, column, row) = (at / (width * inputs), at / width % inputs, at % width);
        (d * width + row) * inputs + column
    };
    let transposed: Vec<i64> = (0..codes.codes.len()).map(|at| i64::from(codes.codes[place(at)])).collect();
    let codes = Tensor::from_i64s(DType::I8, vec![directions, inputs, width], &transposed)?;
    let scales = Tensor::from_f64s(DType::F32, vec![directions, width], &grid.scales)?;
    let zeros = Tensor::zeros(DType::I8, vec![directions, width]);
    let stem = &layer.weights;
    Ok([
        model.add_constant(&format!("{stem}_codes"), codes),
        model.add_constant(&format!("{stem}_scale"), scales),
        model.add_constant(&format!("{stem}_zero_point"), zeros),
    ])
}

fn transpose(from: &str, to: &str, perm: &[i64]) -> NodeProto {
    let mut node = NodeProto {
        op_type: "Transpose".to_string(),
        name: to.to_string(),
        input: vec![from.to_string()],
        output: vec![to.to_string()],
        ..Default::default()
    };
    attribute::set_ints(&mut node, "perm", perm.to_vec());
    node
}
