//! The layers of a model: nodes that multiply data by constant weights, whatever their ONNX form.
//!
//! Contract: every algorithm of this crate sees the weights of a layer as a [`Matrix`]: a row per output channel, a column
//! per input that a row's sum has (channels of its group times window). [`Layer::matrix`] reads it, and
//! [`Layer::tensor`] gives it back in the node's own layout.

use mcc_ir::{DType, Error, Result, Tensor};
use mcc_onnx::node::label;
use mcc_proto::NodeProto;

use crate::attribute;
use crate::matrix::Matrix;
use crate::model::Model;
use crate::recurrent::{BIAS, OPERATORS, Part, Recurrence};

/// A layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// The node's name, or that of its result.
    pub name: String,
    /// The node's operator.
    pub operator: String,
    /// Its result, by which the layer is found again after edits.
    pub output: String,
    /// The data that the weights multiply.
    pub input: String,
    /// The node's input that the data is.
    pub input_slot: usize,
    /// The weights.
    pub weights: String,
    /// The node's input that the weights are.
    pub weights_slot: usize,
    /// The weights' shape in the file.
    pub shape: Vec<usize>,
    /// The bias and the node's input for it, if it is constant or absent.
    pub bias: Option<Bias>,
    /// Whether the weights are codes already, which the model turns into numbers.
    pub is_coded: bool,
    /// What it computes.
    pub kind: Kind,
}

/// Where a layer's bias is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bias {
    /// The node's input.
    pub slot: usize,
    /// Its name; `None` if the node has none yet.
    pub name: Option<String>,
    /// The result of the `Add` that follows the layer's node and adds the bias; `None` if the node does so itself.
    pub added_by: Option<String>,
}

/// What a layer computes.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `Conv`: weights `[outputs, inputs / groups, window...]`.
    Conv(Window),
    /// `ConvTranspose`: weights `[inputs, outputs / groups, window...]`.
    ConvTranspose(Window),
    /// `Gemm` or `MatMul` by one matrix: weights `[inputs, outputs]`, or the transpose.
    Product {
        /// Whether the weights are `[outputs, inputs]`.
        transposed: bool,
    },
    /// One of both weights of `LSTM`, `GRU` or `RNN`: `[directions, gates * hidden, inputs]`.
    Recurrent(Recurrence),
}

/// The window of a convolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Extents.
    pub kernel: Vec<usize>,
    /// Steps of the output.
    pub strides: Vec<usize>,
    /// Steps within the window.
    pub dilations: Vec<usize>,
    /// Padding before each axis, then after each.
    pub pads: Vec<i64>,
    /// How the padding is chosen, if not by `pads`.
    pub auto_pad: AutoPad,
    /// Groups of channels.
    pub groups: usize,
}

/// ONNX's `auto_pad`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoPad {
    /// `pads` says.
    Explicit,
    /// None.
    Valid,
    /// As many outputs as inputs over stride; an odd rest behind.
    SameUpper,
    /// The same; an odd rest before.
    SameLower,
}

/// The layers of a model's main graph, in the order in which they run.
///
/// Left out are those whose weights are not constant `f32`, or that multiply nothing (empty weights).
pub fn find(model: &Model) -> Vec<Layer> {
    (0..model.nodes().len()).flat_map(|n| of_node(model, n)).collect()
}

/// The layer with a given result.
///
/// # Errors
/// When there is none, which means that an edit removed it.
pub fn again(model: &Model, output: &str) -> Result<(usize, Layer)> {
    let node = node_of(model, output)?;
    let found = of_node(model, node).into_iter().find(|layer| layer.output == output).map(|layer| (node, layer));
    found.ok_or_else(|| Error::internal(format!("the node of \"{output}\" is no layer any more")))
}

/// The node of a layer, which may have other weights by now.
///
/// # Errors
/// When there is none, which means that an edit removed it.
pub fn node_of(model: &Model, output: &str) -> Result<usize> {
    model.giver(output).ok_or_else(|| Error::internal(format!("layer of \"{output}\" is gone")))
}

/// The layers of a node: two of a recurrent one, at most one of others.
fn of_node(model: &Model, n: usize) -> Vec<Layer> {
    let node = &model.nodes()[n];
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        return Vec::new();
    }
    if OPERATORS.contains(&node.op_type.as_str()) {
        return [Part::Data, Part::States].into_iter().filter_map(|part| recurrent(model, node, part)).collect();
    }
    layer(model, node).into_iter().collect()
}

fn layer(model: &Model, node: &NodeProto) -> Option<Layer> {
    let (input_slot, weights_slot, bias_slot) = match node.op_type.as_str() {
        "Conv" | "ConvTranspose" => (0, 1, Some(2)),
        "Gemm" => (0, 1, Some(2)),
        "MatMul" => (0, 1, None),
        _ => return None,
    };
    let name_of = |slot: usize| node.input.get(slot).filter(|name| !name.is_empty()).cloned();
    let (input, weights) = (name_of(input_slot)?, name_of(weights_slot)?);
    let tensor = model.constant(&weights).filter(|t| t.dtype() == DType::F32 && t.numel() > 0)?;
    if model.constant(&input).is_some() {
        return None;
    }
    let shape = tensor.shape().to_vec();
    let kind = kind(node, &shape)?;
    let own_bias = |slot: usize| match name_of(slot) {
        None => Some(Bias { slot, name: None, added_by: None }),
        Some(name) => {
            // Gemm's may be of any shape that broadcasts.
            let plain = |t: &Tensor| t.dtype() == DType::F32 && t.shape().len() == 1 && t.numel() == kind.rows(&shape);
            model.constant(&name).filter(|t| plain(t))?;
            Some(Bias { slot, name: Some(name), added_by: None })
        }
    };
    let bias = match bias_slot {
        Some(slot) => own_bias(slot),
        None => added_bias(model, node.output.first()?, kind.rows(&shape)),
    };
    Some(Layer {
        name: label(node).to_string(),
        operator: node.op_type.clone(),
        output: node.output.first()?.clone(),
        input,
        input_slot,
        weights,
        weights_slot,
        is_coded: is_coded(model, node.input.get(weights_slot)?),
        shape,
        bias,
        kind,
    })
}

/// The bias of a product that a node behind it adds, where nobody else reads the product.
fn added_bias(model: &Model, output: &str, rows: usize) -> Option<Bias> {
    let [only] = model.users(output) else { return None };
    let add = model.nodes().get(only.node).filter(|n| n.op_type == "Add" && n.input.len() == 2)?;
    let slot = 1usize.checked_sub(only.input?)?;
    if model.is_output(output) {
        return None;
    }
    let name = &add.input[slot];
    let fits = |t: &&Tensor| t.dtype() == DType::F32 && t.shape() == [rows];
    model.constant(name).filter(fits)?;
    Some(Bias { slot, name: Some(name.clone()), added_by: add.output.first().cloned() })
}

/// One of the weights of a recurrent node, if they are constant.
fn recurrent(model: &Model, node: &NodeProto, part: Part) -> Option<Layer> {
    let name_of = |list: &[String], slot: usize| list.get(slot).filter(|name| !name.is_empty()).cloned();
    let (weights_slot, _) = part.slot();
    let weights = name_of(&node.input, weights_slot)?;
    let data = name_of(&node.input, 0).filter(|name| model.constant(name).is_none())?;
    let tensor = model.constant(&weights).filter(|t| t.dtype() == DType::F32 && t.numel() > 0)?;
    let &[directions, width, _] = tensor.shape() else { return None };
    let batch_first = attribute::int(node, "layout", 0) != 0;
    let recurrence = Recurrence { part, directions, width, batch_first };
    let bias = match name_of(&node.input, BIAS) {
        None => Some(Bias { slot: BIAS, name: None, added_by: None }),
        Some(name) => {
            let fits = |t: &&Tensor| t.dtype() == DType::F32 && t.shape() == [directions, 2 * width];
            model.constant(&name).filter(fits).map(|_| Bias { slot: BIAS, name: Some(name), added_by: None })
        }
    };
    let results = [name_of(&node.output, 0)?, name_of(&node.output, 1)?];
    let [output, input] = match part {
        Part::Data => [results[0].clone(), data],
        Part::States => [results[1].clone(), results[0].clone()],
    };
    Some(Layer {
        name: label(node).to_string(),
        operator: node.op_type.clone(),
        output,
        input,
        input_slot: 0,
        is_coded: is_coded(model, &weights),
        weights,
        weights_slot,
        shape: tensor.shape().to_vec(),
        bias,
        kind: Kind::Recurrent(recurrence),
    })
}

/// Whether a constant is computed from integers that are not just a shape.
pub(crate) fn is_coded(model: &Model, name: &str) -> bool {
    let Some(node) = model.giver(name) else { return false };
    let from = model.nodes()[node].input.iter().filter(|i| !i.is_empty());
    from.into_iter().any(|input| {
        let integers = |t: &Tensor| t.dtype().is_int() && t.numel() > MAX_SHAPE;
        model.constant(input).is_some_and(integers) || is_coded(model, input)
    })
}

/// Integers of a shape, at most.
const MAX_SHAPE: usize = 8;

fn kind(node: &NodeProto, shape: &[usize]) -> Option<Kind> {
    match (node.op_type.as_str(), shape) {
        ("Conv", [_, _, kernel @ ..]) if !kernel.is_empty() => window(node, kernel, shape[0]).map(Kind::Conv),
        ("ConvTranspose", [_, _, kernel @ ..]) if !kernel.is_empty() => {
            window(node, kernel, shape[0]).map(Kind::ConvTranspose)
        }
        // Scaled or transposed data is rare, and another layer.
        ("Gemm", [_, _]) => {
            let plain = attribute::float(node, "alpha", 1.0) == 1.0
                && attribute::float(node, "beta", 1.0) == 1.0
                && attribute::int(node, "transA", 0) == 0;
            plain.then(|| Kind::Product { transposed: attribute::int(node, "transB", 0) != 0 })
        }
        ("MatMul", [_, _]) => Some(Kind::Product { transposed: false }),
        _ => None,
    }
}

/// The window of a convolution; `None` if its attributes contradict the weights, which compiling reports.
fn window(node: &NodeProto, kernel: &[usize], channels: usize) -> Option<Window> {
    let list = |name: &str, default: i64, n: usize| {
        let list = attribute::ints(node, name).unwrap_or_else(|| vec![default; n]);
        (list.len() == n).then_some(list)
    };
    let sizes = |name: &str| -> Option<Vec<usize>> {
        list(name, 1, kernel.len())?.iter().map(|&v| usize::try_from(v).ok().filter(|&v| v > 0)).collect()
    };
    let groups =
        usize::try_from(attribute::int(node, "group", 1)).ok().filter(|&g| g > 0 && channels.is_multiple_of(g))?;
    let auto_pad = match attribute::text(node, "auto_pad").as_deref() {
        None | Some("" | "NOTSET") => AutoPad::Explicit,
        Some("VALID") => AutoPad::Valid,
        Some("SAME_UPPER") => AutoPad::SameUpper,
        Some("SAME_LOWER") => AutoPad::SameLower,
        Some(_) => return None,
    };
    Some(Window {
        kernel: kernel.to_vec(),
        strides: sizes("strides")?,
        dilations: sizes("dilations")?,
        pads: list("pads", 0, 2 * kernel.len())?,
        auto_pad,
        groups,
    })
}

impl Kind {
    /// The number of output channels, given the weights' shape.
    pub fn rows(&self, shape: &[usize]) -> usize {
        match self {
            Kind::Conv(_) => shape[0],
            Kind::ConvTranspose(w) => shape[1] * w.groups,
            Kind::Product { transposed: true } => shape[0],
            Kind::Product { transposed: false } => shape[1],
            Kind::Recurrent(_) => shape[0] * shape[1],
        }
    }

    /// Groups of channels: rows of different groups multiply different data.
    pub fn groups(&self) -> usize {
        match self {
            Kind::Conv(w) | Kind::ConvTranspose(w) => w.groups,
            Kind::Product { .. } => 1,
            Kind::Recurrent(r) => r.groups(),
        }
    }

    /// The axis of the weights that counts output channels (within a group, for `ConvTranspose`, or a direction of a
    /// recurrent layer).
    pub fn row_axis(&self) -> usize {
        match self {
            Kind::Conv(_) | Kind::Product { transposed: true } => 0,
            Kind::ConvTranspose(_) | Kind::Product { transposed: false } | Kind::Recurrent(_) => 1,
        }
    }
}

impl Layer {
    /// The number of output channels.
    pub fn rows(&self) -> usize {
        self.kind.rows(&self.shape)
    }

    /// The number of inputs of each row's sum.
    pub fn columns(&self) -> usize {
        self.shape.iter().product::<usize>() / self.rows()
    }

    /// Bytes of its data's Gram matrices.
    pub fn gram_bytes(&self) -> usize {
        self.kind.groups() * self.columns() * self.columns() * size_of::<f64>()
    }

    /// What it is of a recurrent layer.
    pub fn recurrence(&self) -> Option<&Recurrence> {
        if let Kind::Recurrent(recurrence) = &self.kind { Some(recurrence) } else { None }
    }

    /// Whether every channel has its own data: little work, and sensitive.
    pub fn is_depthwise(&self) -> bool {
        let per_group = self.rows() / self.kind.groups();
        self.kind.groups() > 1 && per_group <= 2 && matches!(&self.kind, Kind::Conv(_)) && self.shape[1] == 1
    }

    /// The weights.
    ///
    /// # Errors
    /// When they are not the tensor that the layer was found with.
    pub fn matrix(&self, model: &Model) -> Result<Matrix> {
        let tensor = model.constant(&self.weights).filter(|t| t.shape() == self.shape);
        let data = tensor.and_then(Tensor::to_f32s);
        let data = data.ok_or_else(|| Error::internal(format!("weights of \"{}\" have changed", self.name)))?;
        let (rows, columns) = (self.rows(), self.columns());
        let mut matrix = Matrix::zeros(rows, columns);
        for (at, value) in data.into_iter().enumerate() {
            let place = self.place(at);
            matrix.data[place] = value;
        }
        Ok(matrix)
    }

    /// Elements of the matrix in the order of the file's tensor.
    pub fn in_file_order<T: Copy>(&self, elements: &[T]) -> Vec<T> {
        (0..elements.len()).map(|at| elements[self.place(at)]).collect()
    }

    /// Elements in the matrix's order as a tensor in the node's layout.
    ///
    /// # Errors
    /// When there are not as many as weights.
    pub fn tensor(&self, dtype: DType, elements: &[f64]) -> Result<Tensor> {
        Tensor::from_f64s(dtype, self.shape.clone(), &self.in_file_order(elements))
    }

    /// The place in the matrix of an element of the file's tensor.
    fn place(&self, at: usize) -> usize {
        match &self.kind {
            Kind::Conv(_) | Kind::Product { transposed: true } | Kind::Recurrent(_) => at,
            Kind::Product { transposed: false } => {
                let (columns, rows) = (self.shape[0], self.shape[1]);
                at % rows * columns + at / rows
            }
            Kind::ConvTranspose(w) => {
                let window: usize = w.kernel.iter().product();
                let (per_group, inputs) = (self.shape[1], self.shape[0] / w.groups);
                let (tap, rest) = (at % window, at / window);
                let (row, input) = (rest % per_group, rest / per_group);
                let (group, input) = (input / inputs, input % inputs);
                ((group * per_group + row) * inputs + input) * window + tap
            }
        }
    }

    /// Puts other weights into the model; other nodes that read the old ones keep them.
    ///
    /// # Errors
    /// When the layer is gone, or the matrix has another shape.
    pub fn set_matrix(&self, model: &mut Model, matrix: &Matrix) -> Result<()> {
        let values: Vec<f64> = matrix.data.iter().map(|&v| f64::from(v)).collect();
        let name = model.add_constant(&self.weights.clone(), self.tensor(DType::F32, &values)?);
        let node = node_of(model, &self.output)?;
        model.set_input(node, self.weights_slot, &name);
        Ok(())
    }

    /// Puts other weights into the model for several layers that share them.
    ///
    /// # Errors
    /// As [`Layer::set_matrix`].
    pub fn share_matrix(&self, model: &mut Model, matrix: &Matrix, layers: &[Layer]) -> Result<()> {
        self.set_matrix(model, matrix)?;
        let node = node_of(model, &self.output)?;
        let name = model.nodes()[node].input[self.weights_slot].clone();
        for layer in layers {
            let node = node_of(model, &layer.output)?;
            model.set_input(node, layer.weights_slot, &name);
        }
        Ok(())
    }

    /// The bias that the layer's own node adds.
    pub fn own_bias(&self) -> Option<&Bias> {
        self.bias.as_ref().filter(|b| b.added_by.is_none())
    }

    /// The bias; zeros if the node has none.
    pub fn bias(&self, model: &Model) -> Option<Vec<f32>> {
        match (&self.bias.as_ref()?.name, self.recurrence()) {
            (Some(name), None) => model.constant(name)?.to_f32s(),
            (Some(name), Some(recurrence)) => Some(recurrence.bias(&model.constant(name)?.to_f32s()?)),
            (None, _) => Some(vec![0.0; self.rows()]),
        }
    }

    /// Gives the node another bias.
    ///
    /// # Errors
    /// When the layer is gone, takes no bias, or the number of values is wrong.
    pub fn set_bias(&self, model: &mut Model, values: &[f32]) -> Result<()> {
        let Some(bias) = &self.bias else { return Err(Error::internal(format!("\"{}\" takes no bias", self.name))) };
        let node = node_of(model, bias.added_by.as_ref().unwrap_or(&self.output))?;
        let tensor = match self.recurrence() {
            Some(recurrence) => {
                // The other weights of the node may have given it another by now.
                let now = model.nodes()[node].input.get(bias.slot).and_then(|name| model.constant(name));
                recurrence.with_bias(now.and_then(Tensor::to_f32s), values)?
            }
            None => {
                let values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
                Tensor::from_f64s(DType::F32, vec![values.len()], &values)?
            }
        };
        let stem = bias.name.clone().unwrap_or_else(|| format!("{}_bias", self.output));
        let name = model.add_constant(&stem, tensor);
        model.set_input(node, bias.slot, &name);
        Ok(())
    }
}
