//! Codes in ONNX's form: initializers of integers, and nodes that say what they mean.

use std::collections::HashMap;

use mcc_ir::{DType, Result, Tensor};
use mcc_proto::NodeProto;

use super::activation::Bytes;
use super::dynamic;
use super::grid::Grid;
use super::places::origin;
use super::recurrent;
use super::table::Table;
use super::weights::{Codes, Form};
use crate::attribute;
use crate::layers::{self, Kind, Layer};
use crate::model::Model;
use crate::session::Session;
use crate::write::{self, Integer, MICROSOFT, Sharing, Steps, WeightNodes};

/// The largest magnitude of a bias in steps, so that sums with it do not overflow.
const BIAS_LIMIT: f64 = (1u32 << 30) as f64;

/// Puts the codes of all layers into a model.
///
/// # Errors
/// When the model and the session contradict each other.
pub fn codes(session: &Session, model: &mut Model) -> Result<()> {
    // Layers that share weights read the same ones.
    let mut done: HashMap<String, (Vec<f64>, String)> = HashMap::new();
    let mut shared = dynamic::Shared::new();
    for (output, codes) in &session.codes {
        if session.dynamic.contains(output) && is_recurrent(&session.model, output) {
            recurrent::write(session, model, output)?;
            continue;
        }
        let (node, layer) = layers::again(model, output)?;
        if session.dynamic.contains(output) {
            dynamic::write(model, &layer, codes, &mut shared)?;
            continue;
        }
        let data = layer.recurrence().is_none().then(|| data_of(session, node, layer.input_slot)).flatten();
        let bias = layer.own_bias().filter(|b| b.name.is_some()).and_then(|_| layer.bias(model));
        let scales = scales(codes, bias.as_deref(), data);
        match &codes.form {
            Form::Steps(grid) if is_product(&layer) && grid.runs.count(layer.columns()) > 1 => {
                write_product(model, &layer, codes, grid, bias)?;
                continue;
            }
            _ => {}
        }
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

fn is_recurrent(model: &Model, output: &str) -> bool {
    layers::again(model, output).is_ok_and(|(_, layer)| layer.recurrence().is_some())
}

/// The bytes that an input of a node reads, also through moves.
fn data_of(session: &Session, node: usize, slot: usize) -> Option<Bytes> {
    let name = &session.model.nodes()[node].input[slot];
    session.bytes.get(&origin(&session.model, name, (node, slot)).0).copied()
}

/// A scale per row and block; none for codes without.
fn scales(codes: &Codes, bias: Option<&[f32]>, data: Option<Bytes>) -> Vec<f64> {
    let Form::Steps(grid) = &codes.form else { return Vec::new() };
    let mut scales = grid.scales.clone();
    if let (Some(bias), Some(data)) = (bias, data) {
        // The bias's steps must not be so small that its codes overflow; that only happens to rows of zeros.
        let least = |b: f32| f64::from(b.abs()) / (data.scale * BIAS_LIMIT);
        scales.iter_mut().zip(bias).for_each(|(s, &b)| *s = s.max(least(b)));
    }
    scales
}

/// Writes the weights of a layer, and gives their name.
fn write_weights(model: &mut Model, layer: &Layer, codes: &Codes, scales: &[f64]) -> Result<String> {
    let output = model.fresh(&format!("{}_dequantized", layer.weights));
    // The rows of all directions have scales of their own: they are one axis until the weights are numbers.
    let flat =
        layer.recurrence().map(|_| (model.fresh(&format!("{output}_rows")), vec![layer.rows(), layer.columns()]));
    let (axis, shape) = match &flat {
        Some((_, shape)) => (0, shape.as_slice()),
        None => (layer.kind.row_axis(), layer.shape.as_slice()),
    };
    let whole = flat.as_ref().map_or(&output, |(name, _)| name);
    let in_order = layer.in_file_order(&codes.codes);
    let nodes = match &codes.form {
        Form::Steps(grid) => {
            let runs = grid.runs.count(layer.columns());
            let scales: Vec<f32> = scales[..shape[axis] * runs].iter().map(|&s| s as f32).collect();
            let integer = if grid.bits > 4 { Integer::I8 } else { Integer::I4 };
            // Blocks are those of a convolution or of recurrent rows, whose matrix is in the file's order.
            let sharing = match runs {
                1 => Sharing::Axis(axis),
                _ => Sharing::Blocks { axis: 1 - axis, size: grid.runs.size },
            };
            let steps = Steps { shape, codes: &in_order, integer, sharing, scales: &scales, zeros: None };
            write::steps(&steps, whole, &mut |stem| model.fresh(stem))?
        }
        Form::Table(Table { bits, entries, runs, factors }) => {
            let codes: Vec<u8> = in_order.iter().map(|&c| c as u8).collect();
            let count = runs.count(layer.columns());
            let in_order = factors_in_order(factors, axis, [shape[axis], count]);
            let sharing = match count {
                1 => Sharing::Axis(axis),
                _ => Sharing::Blocks { axis: 1 - axis, size: runs.size },
            };
            let factors = write::Factors { sharing, values: &in_order };
            let entries = write::Entries {
                shape,
                codes: &codes,
                tables: entries,
                entries: 1 << bits,
                sharing: None,
                factors: Some(factors),
                four_bits: model.opset() >= write::FOUR_BITS_SINCE,
            };
            write::codebook(&entries, whole, &mut |stem| model.fresh(stem))?
        }
        Form::Half(half) => {
            let given = model.constant(&layer.weights).and_then(Tensor::to_f32s).unwrap_or_default();
            write::half(shape, &given, *half, whole, &mut |stem| model.fresh(stem))?
        }
    };
    add(model, nodes)?;
    if let Some((rows, _)) = flat {
        let extents: Vec<i64> = layer.shape.iter().map(|&extent| extent as i64).collect();
        let extents = Tensor::from_i64s(DType::I64, vec![extents.len()], &extents)?;
        let extents = model.add_constant(&format!("{output}_shape"), extents);
        model.add_nodes([NodeProto {
            op_type: "Reshape".to_string(),
            name: output.clone(),
            input: vec![rows, extents],
            output: vec![output.clone()],
            ..Default::default()
        }]);
    }
    Ok(output)
}

fn is_product(layer: &Layer) -> bool {
    matches!(layer.kind, Kind::Product { .. })
}

/// Factors per row and run in the order of the file's axes.
fn factors_in_order(factors: &[f32], axis: usize, [rows, runs]: [usize; 2]) -> Vec<f32> {
    match axis {
        1 if runs > 1 => (0..rows * runs).map(|at| factors[at % rows * runs + at / rows]).collect(),
        _ => factors[..rows * runs].to_vec(),
    }
}

fn add(model: &mut Model, made: WeightNodes) -> Result<()> {
    made.initializers.into_iter().try_for_each(|proto| model.add_initializer(proto))?;
    model.add_nodes(made.nodes);
    Ok(())
}

/// Writes a product by codes with a scale per block in place of the layer's node.
fn write_product(model: &mut Model, layer: &Layer, codes: &Codes, grid: &Grid, bias: Option<Vec<f32>>) -> Result<()> {
    // Codes are stored unsigned, and a missing zero point is in the middle.
    let bits = if grid.bits > 4 { 8 } else { 4 };
    let unsigned: Vec<i32> = codes.codes.iter().map(|c| c + (1 << (bits - 1))).collect();
    let scales: Vec<f32> = grid.scales.iter().map(|&s| s as f32).collect();
    let (rows, columns, size) = (layer.rows(), layer.columns(), grid.runs.size);
    let blocks = write::Blocks { rows, columns, bits, size, codes: &unsigned, scales: &scales, zeros: None };
    let result = if bias.is_some() { model.fresh(&format!("{}_product", layer.output)) } else { layer.output.clone() };
    let made = write::matmul_nbits(&blocks, &layer.input, &result, &mut |stem| model.fresh(stem))?;
    let node = layers::node_of(model, &layer.output)?;
    model.edit_node(node, |node| node.output.clear());
    add(model, made)?;
    model.import_domain(MICROSOFT, 1);
    if let Some(bias) = bias {
        let bias: Vec<f64> = bias.into_iter().map(f64::from).collect();
        let bias = Tensor::from_f64s(DType::F32, vec![rows], &bias)?;
        let bias = model.add_constant(&format!("{}_bias", layer.output), bias);
        model.add_nodes([NodeProto {
            op_type: "Add".to_string(),
            name: layer.name.clone(),
            input: vec![result, bias],
            output: vec![layer.output.clone()],
            ..Default::default()
        }]);
    }
    Ok(())
}

/// Writes a layer's bias as codes of the product of both scales, in which the sums of its products are.
fn write_bias(model: &mut Model, layer: &Layer, bias: &[f32], scales: &[f64], data: Bytes) -> Result<()> {
    let Some(slot) = layer.own_bias().map(|b| b.slot) else { return Ok(()) };
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
