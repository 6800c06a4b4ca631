//! Layers whose data become bytes at run time: every run finds the range of its data.
//!
//! ```text
//! bytes, scale, zero = DynamicQuantizeLinear(data)
//! result = Cast(MatMulInteger(bytes, codes, zero)) * (scale * scales) + bias
//! ```

use std::collections::HashMap;

use mcc_ir::{DType, Error, Result, Tensor};
use mcc_proto::NodeProto;
use mcc_proto::tensor_proto::DataType;

use super::weights::{Codes, Form};
use crate::attribute;
use crate::layers::{self, Kind, Layer};
use crate::model::Model;

/// Whether a layer has such a form: ONNX has no transposed convolution of integers.
pub fn fits(layer: &Layer) -> bool {
    !matches!(layer.kind, Kind::ConvTranspose(_))
}

/// The names of codes and scales, by those of the weights: layers that share weights share them.
pub type Shared = HashMap<String, (String, String)>;

/// Replaces a layer's node by those that quantize its data at run time.
///
/// # Errors
/// When the layer is gone.
pub fn write(model: &mut Model, layer: &Layer, codes: &Codes, shared: &mut Shared) -> Result<()> {
    let Form::Steps(grid) = &codes.form else {
        return Err(Error::internal(format!("\"{}\" has no steps", layer.name)));
    };
    let node = layers::node_of(model, &layer.output)?;
    let stem = layer.output.as_str();
    let names = ["bytes", "scale", "zero_point", "sums", "numbers", "factor", "product"];
    let [bytes, scale, zero, sums, numbers, factor, product] = names.map(|what| model.fresh(&format!("{stem}_{what}")));
    let (rows, columns) = (layer.rows(), layer.columns());
    let elements: Vec<f64> = codes.codes.iter().map(|&c| f64::from(c)).collect();
    let (operator, weights, broadcast) = match &layer.kind {
        Kind::Product { .. } => {
            // The product of integers takes weights as inputs by outputs.
            let transposed: Vec<f64> =
                (0..rows * columns).map(|at| elements[at % rows * columns + at / rows]).collect();
            ("MatMulInteger", Tensor::from_f64s(DType::I8, vec![columns, rows], &transposed)?, vec![rows])
        }
        Kind::Recurrent(_) => return Err(Error::internal(format!("\"{}\" is no product", layer.name))),
        Kind::Conv(w) | Kind::ConvTranspose(w) => {
            let broadcast = [vec![rows], vec![1; w.kernel.len()]].concat();
            ("ConvInteger", layer.tensor(DType::I8, &elements)?, broadcast)
        }
    };
    let (weights, scales) = match shared.get(&layer.weights) {
        Some(names) => names.clone(),
        None => {
            let scales = Tensor::from_f64s(DType::F32, broadcast.clone(), &grid.scales)?;
            let weights = model.add_constant(&format!("{}_codes", layer.weights), weights);
            (weights, model.add_constant(&format!("{}_scale", layer.weights), scales))
        }
    };
    shared.insert(layer.weights.clone(), (weights.clone(), scales.clone()));
    let bias = layer.own_bias().filter(|b| b.name.is_some()).and_then(|_| layer.bias(model));
    let of = |op: &str, inputs: &[&str], outputs: &[&str]| NodeProto {
        op_type: op.to_string(),
        name: outputs[0].to_string(),
        input: inputs.iter().map(|i| (*i).to_string()).collect(),
        output: outputs.iter().map(|o| (*o).to_string()).collect(),
        ..Default::default()
    };
    let mut integer = of(operator, &[&bytes, &weights, &zero], &[&sums]);
    if operator == "ConvInteger" {
        integer.attribute.clone_from(&model.nodes()[node].attribute);
    }
    let mut cast = of("Cast", &[&sums], &[&numbers]);
    attribute::set_int(&mut cast, "to", DataType::Float as i64);
    let result = if bias.is_some() { product.as_str() } else { stem };
    let mut nodes = vec![
        of("DynamicQuantizeLinear", &[&layer.input], &[&bytes, &scale, &zero]),
        integer,
        cast,
        of("Mul", &[&scale, &scales], &[&factor]),
        of("Mul", &[&numbers, &factor], &[result]),
    ];
    if let Some(bias) = bias {
        let bias: Vec<f64> = bias.into_iter().map(f64::from).collect();
        let bias = model.add_constant(&format!("{stem}_bias"), Tensor::from_f64s(DType::F32, broadcast, &bias)?);
        nodes.push(of("Add", &[&product, &bias], &[stem]));
    }
    if let Some(last) = nodes.last_mut() {
        last.name.clone_from(&layer.name);
    }
    model.edit_node(node, |node| node.output.clear());
    model.add_nodes(nodes);
    Ok(())
}
