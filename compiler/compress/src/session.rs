//! A compression under way: the model given, the model as it is now, and what is decided about its layers.

use std::collections::BTreeMap;

use mcc_ir::{DType, Error, Result, Tensor};
use mcc_proto::NodeProto;

use crate::attribute;
use crate::layers::{self, Layer};
use crate::loss;
use crate::model::Model;
use crate::moments::{Moments, moments};
use crate::norms;
use crate::observe::Setting;
use crate::opset;
use crate::quantize::activation::{self, Bytes, Seen};
use crate::quantize::places::{Places, places};
use crate::quantize::tables;
use crate::quantize::weights::{self, Codes};
use crate::ranges::Calibration;
use crate::recipe::{Activations, Quantize, Recipe, Step, Weights};

/// Bytes of Gram matrices that are held at once.
const GRAM_BYTES: usize = 1 << 30;

/// The least version of the standard operators that has a scale per channel.
const PER_CHANNEL: i64 = 13;

/// The largest magnitude of a bias in steps, so that sums with it do not overflow.
const BIAS_LIMIT: f64 = (1u32 << 30) as f64;

/// A compression under way.
pub struct Session {
    /// The model given, with its normalisations folded.
    pub teacher: Model,
    /// The same with other weights; codes and bytes are not in it yet.
    pub model: Model,
    /// The codes of weights, by the layer's result.
    pub codes: BTreeMap<String, Codes>,
    /// Which activations are bytes, and who reads them.
    pub places: Places,
    /// The bytes' scales.
    pub bytes: BTreeMap<String, Bytes>,
    /// What happened to each layer.
    pub changes: Vec<Change>,
}

/// What happened to a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The layer's name.
    pub layer: String,
    /// Its operator.
    pub operator: String,
    /// Its result.
    pub output: String,
    /// The share of its weights that are zero.
    pub zeros: f64,
    /// Bits of a weight.
    pub weight_bits: f64,
    /// Bits of its data.
    pub data_bits: u32,
    /// The relative error that the change of its weights makes in its result, by itself.
    pub error: f64,
    /// What was decided, and why.
    pub reason: String,
}

/// Applies a recipe to a model.
///
/// # Errors
/// When the model does not compile, has no layers that a step is for, or a step cannot be done.
pub fn compress(model: Model, recipe: &Recipe, setting: &Setting) -> Result<Session> {
    recipe.check()?;
    let mut teacher = model;
    let quantizes = recipe.steps.iter().any(|step| matches!(step, Step::Quantize(_)));
    if quantizes && teacher.opset() < PER_CHANNEL {
        teacher.edit(|proto| opset::upgrade(proto, PER_CHANNEL))?;
    }
    norms::fold(&mut teacher)?;
    let mut session = Session {
        model: teacher.clone(),
        teacher,
        codes: BTreeMap::new(),
        places: Places::new(),
        bytes: BTreeMap::new(),
        changes: Vec::new(),
    };
    session.record_all();
    for (n, step) in recipe.steps.iter().enumerate() {
        let done = match step {
            Step::Quantize(quantize) => session.quantize(quantize, setting),
            Step::Prune(_) => Err(Error::unsupported("pruning")),
        };
        done.map_err(|e| e.within(format!("step {} of the recipe", n + 1)))?;
    }
    Ok(session)
}

impl Session {
    fn record_all(&mut self) {
        self.changes = layers::find(&self.model)
            .into_iter()
            .map(|layer| Change {
                zeros: layer.matrix(&self.model).map_or(0.0, |m| m.zero_share()),
                layer: layer.name,
                operator: layer.operator,
                output: layer.output,
                weight_bits: 32.0,
                data_bits: 32,
                error: 0.0,
                reason: String::new(),
            })
            .collect();
    }

    fn change(&mut self, output: &str, edit: impl FnOnce(&mut Change)) {
        if let Some(change) = self.changes.iter_mut().find(|c| c.output == output) {
            edit(change);
        }
    }

    /// The layers that a step is for.
    fn selected(&self, takes: impl Fn(&Layer) -> bool) -> Result<Vec<Layer>> {
        let found: Vec<Layer> = layers::find(&self.model).into_iter().filter(takes).collect();
        match found.is_empty() {
            false => Ok(found),
            true => Err(Error::unsupported("the model has no layers that the step is for")
                .help("layers are Conv, ConvTranspose, Gemm and MatMul by constant 32-bit float weights")),
        }
    }

    fn quantize(&mut self, step: &Quantize, setting: &Setting) -> Result<()> {
        let selected = self.selected(|l| step.selection().takes(l))?;
        let mut seen = None;
        if step.activations == Activations::Uint8 {
            self.places = places(&self.model, &selected, setting.options)?;
            seen = Some(activation::look(&self.model, &self.places, setting)?);
        }
        for chunk in by_gram_bytes(&selected) {
            setting.progress.begin("weights", setting.samples.len());
            let moments = moments(&self.model, chunk, setting)?;
            for (layer, moments) in chunk.iter().zip(&moments) {
                self.encode(layer, moments, step)?;
            }
        }
        self.quantize_tables(step)?;
        match seen {
            Some(seen) => self.calibrate(&seen, step.calibration, setting),
            None => Ok(()),
        }
    }

    /// Takes the ranges of activations with which the outputs are nearest to the given model's.
    fn calibrate(&mut self, seen: &Seen, method: Calibration, setting: &Setting) -> Result<()> {
        let candidates = method.candidates();
        let mut best = (f64::INFINITY, BTreeMap::new());
        for &method in &candidates {
            self.bytes = seen.codes(method);
            if candidates.len() > 1 {
                setting.progress.begin("outputs", 2 * setting.samples.len());
                let loss = loss::distance(&self.teacher, &self.written()?, setting)?;
                if loss < best.0 {
                    best = (loss, self.bytes.clone());
                }
            }
        }
        if best.0.is_finite() {
            self.bytes = best.1;
        }
        Ok(())
    }

    fn quantize_tables(&mut self, step: &Quantize) -> Result<()> {
        if !matches!(step.weights, Weights::Int(_)) {
            return Ok(());
        }
        for table in tables::find(&self.model).into_iter().filter(|t| step.selection().takes_named(&t.name, "Gather")) {
            let error = tables::encode(&mut self.model, &table)?;
            self.changes.push(Change {
                layer: table.name,
                operator: "Gather".to_string(),
                output: table.output,
                zeros: 0.0,
                weight_bits: 8.0,
                data_bits: 32,
                error,
                reason: "a scale per row".to_string(),
            });
        }
        Ok(())
    }

    fn encode(&mut self, layer: &Layer, moments: &[Moments], step: &Quantize) -> Result<()> {
        let matrix = layer.matrix(&self.model)?;
        let Some(codes) = weights::encode(layer, &matrix, moments, step)? else { return Ok(()) };
        let rounded = codes.grid.weights(&codes.codes, matrix.rows, matrix.columns);
        layer.set_matrix(&mut self.model, &rounded)?;
        if let Some(mut bias) = layer.bias(&self.model).filter(|_| step.bias_correction) {
            let shift = weights::bias_shift(&matrix, &rounded, moments);
            bias.iter_mut().zip(shift).for_each(|(b, s)| *b += s);
            layer.set_bias(&mut self.model, &bias)?;
        }
        let bits = f64::from(codes.grid.bits);
        let data_bits = if step.activations == Activations::Float { 32 } else { 8 };
        let zeros = rounded.zero_share();
        self.codes.insert(layer.output.clone(), codes);
        self.change(&layer.output, |c| (c.weight_bits, c.data_bits, c.zeros) = (bits, data_bits, zeros));
        Ok(())
    }

    /// The model in ONNX's form.
    ///
    /// # Errors
    /// When its version of the standard operators has no such form.
    pub fn written(&self) -> Result<Model> {
        let mut model = self.model.clone();
        for (output, codes) in &self.codes {
            let (node, layer) = layers::again(&model, output)?;
            let bytes = self.data_of(node, layer.input_slot).copied();
            write_codes(&mut model, &layer, codes, bytes)?;
        }
        activation::write(&mut model, &self.places, &self.bytes)?;
        model.tidy()?;
        Ok(model)
    }

    /// The bytes that an input of a node reads, also through moves.
    fn data_of(&self, node: usize, slot: usize) -> Option<&Bytes> {
        let name = crate::quantize::places::origin(&self.model, &self.model.nodes()[node].input[slot], (node, slot)).0;
        self.bytes.get(&name)
    }
}

/// Layers in chunks whose Gram matrices fit in memory together.
pub(crate) fn by_gram_bytes(layers: &[Layer]) -> Vec<&[Layer]> {
    let bytes = |l: &Layer| l.kind.groups() * l.columns() * l.columns() * size_of::<f64>();
    let (mut chunks, mut from, mut held) = (Vec::new(), 0, 0);
    for (n, layer) in layers.iter().enumerate() {
        if n > from && held + bytes(layer) > GRAM_BYTES {
            chunks.push(&layers[from..n]);
            (from, held) = (n, 0);
        }
        held += bytes(layer);
    }
    chunks.push(&layers[from..]);
    chunks
}

/// Writes a layer's weights as codes of a row's scale, and its bias as codes of both scales where the data is bytes.
fn write_codes(model: &mut Model, layer: &Layer, codes: &Codes, data: Option<Bytes>) -> Result<()> {
    let Codes { grid, codes } = codes;
    let mut scales = grid.scales.clone();
    let bias = layer.bias.as_ref().filter(|b| b.name.is_some()).and_then(|_| layer.bias(model));
    if let (Some(bias), Some(data)) = (&bias, data) {
        // The bias's steps must not be so small that its codes overflow; that only happens to rows of zeros.
        let least = |b: f32| f64::from(b.abs()) / (data.scale * BIAS_LIMIT);
        scales.iter_mut().zip(bias).for_each(|(s, &b)| *s = s.max(least(b)));
    }
    let elements: Vec<f64> = codes.iter().map(|&c| f64::from(c)).collect();
    let stem = layer.weights.clone();
    let axis = layer.kind.row_axis() as i64;
    let weights = dequantized(model, &stem, layer.tensor(DType::I8, &elements)?, &scales, axis)?;
    let node = layers::node_of(model, &layer.output)?;
    model.set_input(node, layer.weights_slot, &weights);
    if let (Some(slot), Some(bias), Some(data)) = (layer.bias.as_ref().map(|b| b.slot), bias, data) {
        let steps: Vec<f64> = scales.iter().map(|s| f64::from(*s as f32 * data.scale as f32)).collect();
        let codes: Vec<i64> =
            bias.iter().zip(&steps).map(|(&b, s)| (f64::from(b) / s).round_ties_even() as i64).collect();
        let stem = format!("{}_bias", layer.output);
        let tensor = Tensor::from_i64s(DType::I32, vec![codes.len()], &codes)?;
        let name = dequantized(model, &stem, tensor, &steps, 0)?;
        let node = layers::node_of(model, &layer.output)?;
        model.set_input(node, slot, &name);
    }
    Ok(())
}

/// Adds codes with a scale per element of an axis, and gives the name of what they mean.
fn dequantized(model: &mut Model, stem: &str, codes: Tensor, scales: &[f64], axis: i64) -> Result<String> {
    let zeros = Tensor::zeros(codes.dtype(), vec![scales.len()]);
    let input = vec![
        model.add_constant(&format!("{stem}_codes"), codes),
        model.add_constant(&format!("{stem}_scale"), Tensor::from_f64s(DType::F32, vec![scales.len()], scales)?),
        model.add_constant(&format!("{stem}_zero_point"), zeros),
    ];
    let name = model.fresh(&format!("{stem}_dequantized"));
    let op_type = "DequantizeLinear".to_string();
    let mut node = NodeProto { op_type, name: name.clone(), input, output: vec![name.clone()], ..Default::default() };
    attribute::set_int(&mut node, "axis", axis);
    model.add_nodes([node]);
    Ok(name)
}
