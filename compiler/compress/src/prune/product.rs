//! Products of data by constant weights: layers, and the two products of each direction of a recurrent node.
//!
//! Contract: a product's [`Layer`] has the shape of its weights, with all of a recurrent node's gates as rows, and tells
//! where its data is; the weights and the bias are read and written by the product.

use std::ops::Range;

use mcc_ir::{DType, Error, Result, Tensor};
use mcc_onnx::node::label;

use crate::attribute;
use crate::layers::{self, Bias, Kind, Layer};
use crate::matrix::Matrix;
use crate::model::Model;
use crate::unfold::Data;

/// Recurrent operators and their numbers of gates.
const RECURRENT: &[(&str, usize)] = &[("GRU", 3), ("LSTM", 4), ("RNN", 1)];

/// The input of a recurrent node that multiplies its data.
pub const INPUT_WEIGHTS: usize = 1;

/// The input of a recurrent node that multiplies its state.
pub const STATE_WEIGHTS: usize = 2;

/// The input of a recurrent node that has the biases of both.
pub const BIASES: usize = 3;

/// A product of data by constant weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// What it computes, as a layer.
    pub layer: Layer,
    /// Where it is in a recurrent node.
    gates: Option<Gates>,
}

/// The place of a product in a recurrent node; which one, its layer's weights say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gates {
    direction: usize,
    /// Whether the data has the batch before the time.
    batch_first: bool,
}

/// By what a product is found again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// A result of its node.
    output: String,
    /// The node's input that its weights are.
    slot: usize,
    direction: usize,
}

/// A recurrent node with constant weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrent {
    /// The node's name, or that of its first result.
    pub name: String,
    /// Its first result that has a name.
    pub output: String,
    /// Directions in time.
    pub directions: usize,
    /// Gates of a unit.
    pub gates: usize,
    /// The hidden units of a direction.
    pub units: usize,
    /// The products, those of the data first.
    pub products: Vec<Product>,
}

impl From<Layer> for Product {
    fn from(layer: Layer) -> Product {
        Product { layer, gates: None }
    }
}

impl Recurrent {
    /// A node of a model, if it is recurrent and has constant weights.
    pub fn of(model: &Model, n: usize) -> Option<Recurrent> {
        let node = &model.nodes()[n];
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            return None;
        }
        let (_, gates) = *RECURRENT.iter().find(|r| r.0 == node.op_type)?;
        let of = |slot: usize| node.input.get(slot).filter(|name| !name.is_empty());
        let floats = |slot: usize| {
            let name = of(slot).filter(|name| !layers::is_coded(model, name))?;
            model.constant(name).filter(|t| t.dtype() == DType::F32 && t.numel() > 0)
        };
        let (input, state) = (floats(INPUT_WEIGHTS)?, floats(STATE_WEIGHTS)?);
        let (&[directions, rows, columns], &[_, _, units]) = (input.shape(), state.shape()) else { return None };
        let biased = of(BIASES).is_some();
        if rows != gates * units
            || state.shape() != [directions, rows, units]
            || biased && floats(BIASES)?.shape() != [directions, 2 * rows]
        {
            return None;
        }
        let (name, output) = (label(node).to_string(), node.output.iter().find(|o| !o.is_empty())?.clone());
        let batch_first = attribute::int(node, "layout", 0) != 0;
        let product = |slot: usize, columns: usize, data: &String, direction: usize| Product {
            layer: Layer {
                name: name.clone(),
                operator: node.op_type.clone(),
                // The results by which the session knows both weights.
                output: node.output.get(slot - INPUT_WEIGHTS).filter(|o| !o.is_empty()).unwrap_or(&output).clone(),
                input: data.clone(),
                input_slot: 0,
                weights: node.input[slot].clone(),
                weights_slot: slot,
                shape: vec![rows, columns],
                bias: of(BIASES).map(|name| Bias { slot: BIASES, name: Some(name.clone()), added_by: None }),
                is_coded: false,
                kind: Kind::Product { transposed: true },
            },
            gates: Some(Gates { direction, batch_first }),
        };
        let mut products: Vec<Product> =
            (0..directions).map(|d| product(INPUT_WEIGHTS, columns, &node.input[0], d)).collect();
        // The state is known where it is a result; a gate of a GRU may multiply something else.
        let plain = node.op_type != "GRU" || attribute::int(node, "linear_before_reset", 0) != 0;
        let states = node.output.first().filter(|name| plain && !name.is_empty());
        products.extend(
            states.into_iter().flat_map(|name| (0..directions).map(|d| product(STATE_WEIGHTS, units, name, d))),
        );
        Some(Recurrent { name, output, directions, gates, units, products })
    }
}

impl Product {
    /// By what it is found again.
    pub fn key(&self) -> Key {
        let direction = self.gates.map_or(0, |g| g.direction);
        Key { output: self.layer.output.clone(), slot: self.layer.weights_slot, direction }
    }

    /// The same in another model, or after edits.
    ///
    /// # Errors
    /// When it is gone.
    pub fn again(&self, model: &Model) -> Result<Product> {
        if self.gates.is_none() {
            return Ok(layers::again(model, &self.layer.output)?.1.into());
        }
        let found = Recurrent::of(model, layers::node_of(model, &self.layer.output)?);
        let same = found.into_iter().flat_map(|r| r.products).find(|p| p.key() == self.key());
        same.ok_or_else(|| Error::internal(format!("\"{}\" is no recurrent node any more", self.layer.name)))
    }

    /// The data of a sample, for at most `limit` positions; `shift` moves which ones.
    ///
    /// # Errors
    /// When it does not fit the product.
    pub fn data(&self, tensor: &Tensor, limit: usize, shift: usize) -> Result<Data> {
        let Some(gates) = self.gates.filter(|_| self.layer.weights_slot == STATE_WEIGHTS) else {
            return Data::of(&self.layer, tensor, limit, shift);
        };
        // All states of a direction: `[time, direction, batch, unit]`, or `[batch, time, direction, unit]`.
        let axis = if gates.batch_first { 2 } else { 1 };
        let own = mcc::passes::prune::axes::pick(tensor, axis, &[gates.direction])?;
        Data::of(&self.layer, &own, limit, shift)
    }

    /// Which elements of the constant are its weights, and the row of each.
    ///
    /// # Errors
    /// When the layer's shape is none of its kind.
    pub fn weight_rows(&self) -> Result<(Range<usize>, Vec<usize>)> {
        let (rows, columns) = (self.layer.rows(), self.layer.columns());
        let by_place: Vec<usize> = (0..rows * columns).map(|place| place / columns.max(1)).collect();
        let Some(gates) = self.gates else {
            let numbers: Vec<f64> = by_place.iter().map(|&row| row as f64).collect();
            let rows = self.layer.tensor(DType::F64, &numbers)?.to_f64s().into_iter().map(|row| row as usize);
            return Ok((0..by_place.len(), rows.collect()));
        };
        let first = gates.direction * by_place.len();
        Ok((first..first + by_place.len(), by_place))
    }

    /// Which elements of the constant are its bias.
    pub fn bias_range(&self) -> Range<usize> {
        let first = self.gates.map_or(0, |gates| self.first_bias(gates));
        first..first + self.layer.rows()
    }

    /// The weights.
    ///
    /// # Errors
    /// When they are not those that the product was found with.
    pub fn matrix(&self, model: &Model) -> Result<Matrix> {
        let Some(gates) = self.gates else { return self.layer.matrix(model) };
        let data = self.constant(model, self.layer.weights_slot)?.1;
        let (rows, columns) = (self.layer.rows(), self.layer.columns());
        let own = data.get(gates.direction * rows * columns..(gates.direction + 1) * rows * columns);
        let own = own.ok_or_else(|| Error::internal(format!("weights of \"{}\" have changed", self.layer.name)))?;
        Ok(Matrix { data: own.to_vec(), ..Matrix::zeros(rows, columns) })
    }

    /// Puts other weights into the model.
    ///
    /// # Errors
    /// When the product is gone, or the matrix has another shape.
    pub fn set_matrix(&self, model: &mut Model, matrix: &Matrix) -> Result<()> {
        match self.gates {
            None => self.layer.set_matrix(model, matrix),
            Some(gates) => {
                self.replace(model, self.layer.weights_slot, gates.direction * matrix.data.len(), &matrix.data)
            }
        }
    }

    /// The bias; zeros if a layer has none.
    pub fn bias(&self, model: &Model) -> Option<Vec<f32>> {
        let Some(gates) = self.gates else { return self.layer.bias(model) };
        let (_, data) = self.constant(model, self.layer.bias.as_ref()?.slot).ok()?;
        data.get(self.first_bias(gates)..)?.get(..self.layer.rows()).map(<[f32]>::to_vec)
    }

    /// Gives the product another bias.
    ///
    /// # Errors
    /// When the product is gone or takes no bias, or the number of values is wrong.
    pub fn set_bias(&self, model: &mut Model, values: &[f32]) -> Result<()> {
        match self.gates {
            None => self.layer.set_bias(model, values),
            Some(gates) => self.replace(model, BIASES, self.first_bias(gates), values),
        }
    }

    /// The place of its biases, which stand behind those of the data.
    fn first_bias(&self, gates: Gates) -> usize {
        (2 * gates.direction + usize::from(self.layer.weights_slot == STATE_WEIGHTS)) * self.layer.rows()
    }

    /// The shape and elements of a constant input of a recurrent node.
    fn constant(&self, model: &Model, slot: usize) -> Result<(Vec<usize>, Vec<f32>)> {
        let node = layers::node_of(model, &self.layer.output)?;
        let tensor = model.nodes()[node].input.get(slot).and_then(|name| model.constant(name));
        let found = tensor.and_then(|t| Some((t.shape().to_vec(), t.to_f32s()?)));
        found.ok_or_else(|| Error::internal(format!("input {slot} of \"{}\" is no constant", self.layer.name)))
    }

    /// Changes some elements of a constant input of a recurrent node.
    fn replace(&self, model: &mut Model, slot: usize, first: usize, values: &[f32]) -> Result<()> {
        let (shape, mut data) = self.constant(model, slot)?;
        let own = data.get_mut(first..first + values.len());
        let own = own.ok_or_else(|| Error::internal(format!("weights of \"{}\" have changed", self.layer.name)))?;
        own.copy_from_slice(values);
        let values: Vec<f64> = data.iter().map(|&v| f64::from(v)).collect();
        let node = layers::node_of(model, &self.layer.output)?;
        let stem = model.nodes()[node].input[slot].clone();
        let name = model.add_constant(&stem, Tensor::from_f64s(DType::F32, shape, &values)?);
        model.set_input(node, slot, &name);
        Ok(())
    }
}
