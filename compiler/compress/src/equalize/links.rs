//! Data whose channels can be scaled: what gives it can be divided, and all who read it are layers.

use mcc_ir::{DType, Tensor};
use mcc_onnx::node::domain;
use mcc_proto::NodeProto;

use crate::attribute;
use crate::layers::{self, Kind, Layer};
use crate::model::Model;

/// Operators that treat every channel alike, and multiply their result if their input is multiplied by a positive number.
const HOMOGENEOUS: &[&str] = &["Relu", "LeakyRelu", "Identity", "Dropout"];

/// The same of feature maps: the places of a channel only.
const OF_MAPS: &[&str] = &["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "PRelu"];

/// Data whose channels can be scaled.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Its name.
    pub data: String,
    /// Its channels.
    pub channels: usize,
    /// Whether channels are the second axis of a feature map; else the last of a sequence.
    pub is_map: bool,
    /// What is divided.
    pub origin: Vec<Shift>,
    /// The results of the layers whose weights are multiplied.
    pub readers: Vec<String>,
}

/// What is divided by factors per channel.
#[derive(Debug, Clone, PartialEq)]
pub enum Shift {
    /// A constant that a node reads, with an element per channel.
    Constant {
        /// The node's result.
        output: String,
        /// The node's input.
        slot: usize,
    },
    /// A layer's rows and bias.
    Layer {
        /// The layer's result.
        output: String,
    },
}

/// The channel that a weight of a reader multiplies.
pub fn channel_of(layer: &Layer, row: usize, column: usize) -> usize {
    match &layer.kind {
        Kind::Conv(w) => {
            let (window, inputs) = (w.kernel.iter().product::<usize>(), layer.shape[1]);
            row / (layer.rows() / w.groups) * inputs + column / window
        }
        Kind::ConvTranspose(_) | Kind::Product { .. } | Kind::Recurrent(_) => column,
    }
}

/// The links of a model, in the order of their readers.
pub fn links(model: &Model) -> Vec<Link> {
    let layers = layers::find(model);
    let mut found: Vec<Link> = Vec::new();
    for layer in &layers {
        if !found.iter().any(|l| l.data == layer.input) {
            found.extend(link(model, &layers, &layer.input));
        }
    }
    found
}

fn link(model: &Model, layers: &[Layer], data: &str) -> Option<Link> {
    let uses = model.users(data);
    if model.is_output(data) {
        return None;
    }
    let reader = |n: usize| layers.iter().find(|l| model.giver(&l.output) == Some(n));
    let readers: Vec<&Layer> =
        uses.iter().map(|u| reader(u.node).filter(|l| u.input == Some(l.input_slot))).collect::<Option<_>>()?;
    let first = readers.first()?;
    let (spatial, channels) = (spatial(first), channels(first)?);
    let fits = |l: &&Layer| self::spatial(l) == spatial && self::channels(l) == Some(channels) && can_change(model, l);
    if !readers.iter().all(fits) {
        return None;
    }
    let origin = Search { model, layers, spatial, channels }.origin(data)?;
    let readers = readers.iter().map(|l| l.output.clone()).collect();
    Some(Link { data: data.to_string(), channels, is_map: spatial > 0, origin, readers })
}

/// Input channels of a layer that can be a reader.
fn channels(layer: &Layer) -> Option<usize> {
    match &layer.kind {
        Kind::Conv(w) => Some(layer.shape[1] * w.groups),
        Kind::Product { .. } => Some(layer.columns()),
        Kind::ConvTranspose(_) | Kind::Recurrent(_) => None,
    }
}

/// The axes behind that of the channels.
fn spatial(layer: &Layer) -> usize {
    match &layer.kind {
        Kind::Conv(w) | Kind::ConvTranspose(w) => w.kernel.len(),
        Kind::Product { .. } | Kind::Recurrent(_) => 0,
    }
}

/// Whether the weights are the layer's own and no codes.
fn can_change(model: &Model, layer: &Layer) -> bool {
    !layer.is_coded && model.users(&layer.weights).len() == 1 && !model.is_output(&layer.weights)
}

/// Looks upwards for what can be divided.
struct Search<'s> {
    model: &'s Model,
    layers: &'s [Layer],
    /// Axes behind that of the channels.
    spatial: usize,
    channels: usize,
}

impl Search<'_> {
    fn origin(&self, data: &str) -> Option<Vec<Shift>> {
        let mut shifts = Vec::new();
        let mut name = data.to_string();
        loop {
            // All that is above the data is for it only.
            if name != data && (self.model.users(&name).len() != 1 || self.model.is_output(&name)) {
                return None;
            }
            let node = &self.model.nodes()[self.model.giver(&name)?];
            if node.output[0] != name
                || !domain(&node.domain).is_empty()
                || node.output.iter().skip(1).any(|o| self.is_used(o))
            {
                return None;
            }
            if let Some(layer) = self.layers.iter().find(|l| l.output == name) {
                return self.rows(layer).map(|shift| [shifts, vec![shift]].concat());
            }
            match node.op_type.as_str() {
                "LayerNormalization" => return self.normalization(node).map(|own| [shifts, own].concat()),
                "Mul" => {
                    let slot = self.constant_of(node)?;
                    shifts.push(Shift::Constant { output: name, slot });
                    return Some(shifts);
                }
                "Add" => {
                    let slot = self.constant_of(node)?;
                    let next = node.input.get(1 - slot)?.clone();
                    shifts.push(Shift::Constant { output: name, slot });
                    name = next;
                }
                operator if self.passes(operator, node) => name = node.input.first()?.clone(),
                _ => return None,
            }
        }
    }

    /// Which of two inputs is a constant with an element per channel.
    fn constant_of(&self, node: &NodeProto) -> Option<usize> {
        (0..2).find(|&slot| node.input.get(slot).is_some_and(|name| self.is_per_channel(name)))
    }

    fn is_used(&self, name: &str) -> bool {
        !name.is_empty() && (!self.model.users(name).is_empty() || self.model.is_output(name))
    }

    fn passes(&self, operator: &str, node: &NodeProto) -> bool {
        let known = HOMOGENEOUS.contains(&operator) || self.spatial > 0 && OF_MAPS.contains(&operator);
        // A slope is a number that the data is multiplied with.
        known && node.input.iter().skip(1).all(|i| i.is_empty() || self.model.constant(i).is_some())
    }

    fn normalization(&self, node: &NodeProto) -> Option<Vec<Shift>> {
        if self.spatial > 0 || !matches!(attribute::int(node, "axis", -1), -1) {
            return None;
        }
        let slots = (1..node.input.len()).filter(|&slot| !node.input[slot].is_empty());
        let shift = |slot: usize| {
            let is_vector = self.is_per_channel(&node.input[slot]);
            is_vector.then(|| Shift::Constant { output: node.output[0].clone(), slot })
        };
        slots.map(shift).collect()
    }

    /// A layer whose rows are the channels.
    fn rows(&self, layer: &Layer) -> Option<Shift> {
        let same = match layer.kind {
            Kind::Conv(_) => self.spatial > 0,
            Kind::Product { .. } => self.spatial == 0,
            Kind::ConvTranspose(_) | Kind::Recurrent(_) => false,
        };
        // Without a bias that is known there must be none at all.
        let known = layer.bias.is_some() || layer.operator == "MatMul";
        let fits = same && known && layer.rows() == self.channels && can_change(self.model, layer);
        fits.then(|| Shift::Layer { output: layer.output.clone() })
    }

    /// Whether a name is a constant with an element per channel, along the channels' axis.
    fn is_per_channel(&self, name: &str) -> bool {
        let fits = |t: &Tensor| {
            // The spatial axes of a map are behind its channels.
            let axis = t.shape().len().checked_sub(1 + self.spatial);
            let along = axis.is_some_and(|a| t.shape()[a] == self.channels);
            t.dtype() == DType::F32 && t.numel() == self.channels && along
        };
        self.model.constant(name).is_some_and(fits) && self.channels > 1
    }
}
