//! Folds a normalisation by constants into the layer before it: the layer's weights are then what runs.

use mcc_ir::{Result, Tensor};

use crate::attribute;
use crate::layers::{self, Layer};
use crate::matrix::Matrix;
use crate::model::Model;

/// Folds every `BatchNormalization` whose only data is the result of a convolution that nothing else uses.
///
/// # Errors
/// When the model contradicts itself.
pub fn fold(model: &mut Model) -> Result<()> {
    let outputs: Vec<String> =
        layers::find(model).into_iter().filter(|l| l.recurrence().is_none()).map(|l| l.output).collect();
    for output in outputs {
        let (_, layer) = layers::again(model, &output)?;
        if let Some((node, scale, shift)) = normalisation(model, &layer) {
            let mut matrix = layer.matrix(model)?;
            let Some(mut bias) = layer.bias(model) else { continue };
            scale_rows(&mut matrix, &scale);
            bias.iter_mut().zip(&scale).zip(&shift).for_each(|((b, s), t)| *b = (f64::from(*b) * s + t) as f32);
            layer.set_matrix(model, &matrix)?;
            layer.set_bias(model, &bias)?;
            // The layer takes the place of the normalisation, under its name.
            let result = model.nodes()[node].output[0].clone();
            let layer_node = layers::node_of(model, &output)?;
            model.edit_node(node, |n| n.output.clear());
            model.edit_node(layer_node, |n| n.output[0] = result);
        }
    }
    model.tidy()
}

/// Factors and offsets of each channel by the normalisation behind a layer, and its node.
fn normalisation(model: &Model, layer: &Layer) -> Option<(usize, Vec<f64>, Vec<f64>)> {
    let [place] = model.users(&layer.output) else { return None };
    let node = &model.nodes()[place.node];
    let plain = node.op_type == "BatchNormalization"
        && place.input == Some(0)
        && attribute::int(node, "training_mode", 0) == 0
        && node.output.iter().skip(1).all(String::is_empty)
        && !model.is_output(&layer.output)
        && layer.bias.is_some();
    let numbers = |slot: usize| -> Option<Vec<f64>> {
        model.constant(node.input.get(slot)?).map(Tensor::to_f64s).filter(|v| v.len() == layer.rows())
    };
    let (gamma, beta, mean, variance) = (numbers(1)?, numbers(2)?, numbers(3)?, numbers(4)?);
    let epsilon = f64::from(attribute::float(node, "epsilon", 1e-5));
    let scale: Vec<f64> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let shift = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
    plain.then_some((place.node, scale, shift))
}

/// Multiplies each row by its factor.
pub fn scale_rows(matrix: &mut Matrix, factors: &[f64]) {
    for (row, factor) in factors.iter().enumerate() {
        matrix.row_mut(row).iter_mut().for_each(|v| *v = (f64::from(*v) * factor) as f32);
    }
}
