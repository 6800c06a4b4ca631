//! Codes in ONNX's form: initializers of integers, and nodes that say what they mean.

use std::collections::HashMap;

use mcc_ir::{DType, Result, Tensor};
use mcc_proto::NodeProto;

use super::activation::Bytes;
use super::dynamic;
use super::places::origin;
use super::weights::Codes;
use crate::attribute;
use crate::layers::{self, Layer};
use crate::model::Model;
use crate::session::Session;

/// The largest magnitude of a bias in steps, so that sums with it do not overflow.
const BIAS_LIMIT: f64 = (1u32 << 30) as f64;

/// Puts the codes of all layers into a model.
///
/// # Errors
/// When the model and the session contradict each other.
pub fn codes(session: &Session, model: &mut Model) -> Result<()> {
    // Layers that share weights read the same dequantized ones.
    let mut done: HashMap<String, (Vec<f64>, String)> = HashMap::new();
    for (output, codes) in &session.codes {
        let (node, layer) = layers::again(model, output)?;
        if session.dynamic.contains(output) {
            dynamic::write(model, &layer, codes)?;
            continue;
        }
        let data = data_of(session, node, layer.input_slot);
        let bias = layer.bias.as_ref().filter(|b| b.name.is_some()).and_then(|_| layer.bias(model));
        let scales = scales(codes, bias.as_deref(), data);
        let shared = done.get(&layer.weights).filter(|(of, _)| *of == scales).map(|(_, name)| name.clone());
        let weights = match shared {
            Some(name) => name,
            None => write_weights(model, &layer, codes, &scales)?,
        };
        done.insert(layer.weights.clone(), (scales.clone(), weights.clone()));
        let node = layers::node_of(model, output)?;
        model.set_input(node, layer.weights_slot, &weights);
        if let (Some(bias), Some(data)) = (bias, data) {
            write_bias(model, &layer, &bias, &scales, data)?;
        }
    }
    Ok(())
}

/// The bytes that an input of a node reads, also through moves.
fn data_of(session: &Session, node: usize, slot: usize) -> Option<Bytes> {
    let name = &session.model.nodes()[node].input[slot];
    session.bytes.get(&origin(&session.model, name, (node, slot)).0).copied()
}

/// A scale per row and block.
fn scales(codes: &Codes, bias: Option<&[f32]>, data: Option<Bytes>) -> Vec<f64> {
    let mut scales = codes.grid.scales.clone();
    if let (Some(bias), Some(data)) = (bias, data) {
        // The bias's steps must not be so small that its codes overflow; that only happens to rows of zeros.
        let least = |b: f32| f64::from(b.abs()) / (data.scale * BIAS_LIMIT);
        scales.iter_mut().zip(bias).for_each(|(s, &b)| *s = s.max(least(b)));
    }
    scales
}

fn write_weights(model: &mut Model, layer: &Layer, codes: &Codes, scales: &[f64]) -> Result<String> {
    let elements: Vec<f64> = codes.codes.iter().map(|&c| f64::from(c)).collect();
    let of_axis = layer.shape[layer.kind.row_axis()];
    dequantized(model, &layer.weights, layer.tensor(DType::I8, &elements)?, &scales[..of_axis], layer.kind.row_axis())
}

/// Writes a layer's bias as codes of the product of both scales, in which the sums of its products are.
fn write_bias(model: &mut Model, layer: &Layer, bias: &[f32], scales: &[f64], data: Bytes) -> Result<()> {
    let Some(slot) = layer.bias.as_ref().map(|b| b.slot) else { return Ok(()) };
    let steps: Vec<f64> = scales.iter().map(|s| f64::from(*s as f32 * data.scale as f32)).collect();
    let codes: Vec<i64> = bias.iter().zip(&steps).map(|(&b, s)| (f64::from(b) / s).round_ties_even() as i64).collect();
    let tensor = Tensor::from_i64s(DType::I32, vec![codes.len()], &codes)?;
    let name = dequantized(model, &format!("{}_bias", layer.output), tensor, &steps, 0)?;
    let node = layers::node_of(model, &layer.output)?;
    model.set_input(node, slot, &name);
    Ok(())
}

/// Adds codes with a scale per element of an axis, and gives the name of what they mean.
fn dequantized(model: &mut Model, stem: &str, codes: Tensor, scales: &[f64], axis: usize) -> Result<String> {
    let zeros = Tensor::zeros(codes.dtype(), vec![scales.len()]);
    let input = vec![
        model.add_constant(&format!("{stem}_codes"), codes),
        model.add_constant(&format!("{stem}_scale"), Tensor::from_f64s(DType::F32, vec![scales.len()], scales)?),
        model.add_constant(&format!("{stem}_zero_point"), zeros),
    ];
    let name = model.fresh(&format!("{stem}_dequantized"));
    let op_type = "DequantizeLinear".to_string();
    let mut node = NodeProto { op_type, name: name.clone(), input, output: vec![name.clone()], ..Default::default() };
    attribute::set_int(&mut node, "axis", axis as i64);
    model.add_nodes([node]);
    Ok(name)
}
