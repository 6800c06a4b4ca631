//! The step of a recipe that quantizes.

use mcc_ir::Result;
use serde::{Deserialize, Serialize};

use super::activation::{self, Seen};
use super::places::places;
use super::weights::Codes;
use super::{dynamic, recurrent, tables, weights};
use crate::equalize;
use crate::layers::Layer;
use crate::loss::Teacher;
use crate::model::Model;
use crate::moments::{Moments, by_gram_bytes, moments, relative_error};
use crate::observe::Setting;
use crate::ranges::Calibration;
use crate::recipe::{Activations, Quantize, Weights};
use crate::session::Session;

/// Samples that decide between methods.
const JUDGING: usize = 48;

/// Quantizes the layers that the step is for.
///
/// # Errors
/// When there are none, or the model does not compile or run on a sample.
pub fn run(session: &mut Session, step: &Quantize, setting: &Setting) -> Result<()> {
    let is_dynamic = step.activations == Activations::Dynamic;
    let can = |l: &Layer| (!is_dynamic || dynamic::fits(l)) && weights::fits(l, step.weights);
    let mut selected = session.selected(&step.selection(), can)?;
    if step.equalize {
        equalize::run(&mut session.model, setting)?;
        // Weights have other names now.
        selected = session.selected(&step.selection(), can)?;
    }
    let others: Vec<Layer> = selected.iter().filter(|l| l.recurrence().is_none()).cloned().collect();
    if is_dynamic {
        session.dynamic.extend(others.iter().map(|l| l.output.clone()));
    }
    let of_bytes = recurrent::of_bytes(session, &selected, step);
    session.dynamic.extend(of_bytes);
    let mut seen = None;
    if step.activations == Activations::Uint8 && !others.is_empty() {
        let found = places(&session.model, &others, setting.options)?;
        let look = || activation::look(&session.model, &found, setting);
        seen = Some(setting.cache.get("activations", 0, look)?);
        // Those of earlier steps stay.
        found.into_iter().for_each(|(name, readers)| session.places.entry(name).or_default().extend(readers));
    }
    let groups = by_weights(selected);
    let mut done = 0;
    for chunk in by_gram_bytes(&groups, |group| group.iter().map(Layer::gram_bytes).sum()) {
        let encoded = setting.cache.get("weights", done, || {
            setting.progress.begin("weights", setting.samples.len());
            let mut moments = moments(&session.model, &chunk.concat(), setting)?.into_iter();
            let one = |layers: &Vec<Layer>| {
                let together = moments.by_ref().take(layers.len()).reduce(Moments::join).unwrap_or_default();
                encode(&session.model, &layers[0], &together, step)
                    .map_err(|e| e.within(format!("layer \"{}\"", layers[0].name)))
            };
            chunk.iter().map(one).collect::<Result<Vec<Encoded>>>()
        })?;
        done += chunk.len();
        for (layers, encoded) in chunk.iter().zip(encoded) {
            apply(session, layers, encoded, step)?;
        }
    }
    encode_tables(session, step)?;
    seen.map_or(Ok(()), |seen| calibrate(session, &seen, step.calibration, setting))
}

/// Layers that share weights, and so will share codes, together.
fn by_weights(layers: Vec<Layer>) -> Vec<Vec<Layer>> {
    let mut groups: Vec<Vec<Layer>> = Vec::new();
    for layer in layers {
        let shares = |other: &Layer| {
            let recurrent = |l: &Layer| l.recurrence().is_some();
            let form = |l: &Layer| (l.weights.clone(), l.kind.groups(), l.kind.row_axis(), l.columns(), recurrent(l));
            form(other) == form(&layer)
        };
        match groups.iter_mut().find(|group| shares(&group[0])) {
            Some(group) => group.push(layer),
            None => groups.push(vec![layer]),
        }
    }
    groups
}

/// Codes of layers that share weights.
#[derive(Serialize, Deserialize)]
struct Encoded {
    codes: Codes,
    /// The relative error of the layers' results.
    error: f64,
    /// What must be added to biases.
    shift: Vec<f32>,
}

/// Decides the codes of a layer's weights.
fn encode(model: &Model, layer: &Layer, moments: &[Moments], step: &Quantize) -> Result<Encoded> {
    let matrix = layer.matrix(model)?;
    let codes = weights::encode(layer, &matrix, moments, step)?;
    let rounded = codes.weights(&matrix);
    let (error, shift) = (relative_error(&matrix, &rounded, moments), weights::bias_shift(&matrix, &rounded, moments));
    Ok(Encoded { codes, error, shift })
}

/// Gives layers that share weights their codes.
fn apply(session: &mut Session, layers: &[Layer], encoded: Encoded, step: &Quantize) -> Result<()> {
    let Encoded { codes, error, shift } = encoded;
    let matrix = layers[0].matrix(&session.model)?;
    let rounded = codes.weights(&matrix);
    layers[0].share_matrix(&mut session.model, &rounded, layers)?;
    let zeros = rounded.zero_share();
    for layer in layers {
        let floats = step.activations == Activations::Float
            || layer.recurrence().is_some() && !session.dynamic.contains(&layer.output);
        let data_bits = if floats { 32 } else { 8 };
        if let Some(mut bias) = layer.bias(&session.model).filter(|_| step.bias_correction) {
            bias.iter_mut().zip(&shift).for_each(|(b, s)| *b += s);
            layer.set_bias(&mut session.model, &bias)?;
        }
        let bits = codes.bits(matrix.columns);
        session.change(&layer.output, |c| {
            (c.weight_bits, c.data_bits, c.zeros, c.error) = (bits, data_bits, zeros, error);
        });
        session.codes.insert(layer.output.clone(), codes.clone());
        session.given.insert(layer.output.clone(), matrix.clone());
    }
    Ok(())
}

fn encode_tables(session: &mut Session, step: &Quantize) -> Result<()> {
    if !matches!(step.weights, Weights::Int(_) | Weights::Codebook(_)) {
        return Ok(());
    }
    for table in tables::find(&session.model) {
        if step.selection().takes_named(&table.name, "Gather") {
            let error = tables::encode(&mut session.model, &table)?;
            let reason = || "a scale per row".to_string();
            session.change(&table.output, |c| (c.weight_bits, c.error, c.reason) = (8.0, error, reason()));
        }
    }
    Ok(())
}

/// Takes the ranges of activations with which the outputs are nearest to the given model's.
fn calibrate(session: &mut Session, seen: &Seen, method: Calibration, setting: &Setting) -> Result<()> {
    let candidates = method.candidates();
    let teacher = session.teacher.clone();
    if let [only] = candidates[..] {
        session.bytes.extend(seen.codes(only));
        return Ok(());
    }
    let earlier = session.bytes.clone();
    let mut with = |method: Calibration| {
        session.bytes = earlier.clone();
        session.bytes.extend(seen.codes(method));
        session.written()
    };
    let best = setting.cache.get("calibration", 0, || {
        let samples = setting.samples.take(JUDGING, 0);
        let setting = Setting { samples: &samples, ..*setting };
        setting.progress.begin("outputs", (1 + candidates.len()) * samples.len());
        let teacher = Teacher::new(&teacher, &setting)?;
        let mut best = (f64::INFINITY, candidates.len() - 1);
        for (n, &method) in candidates.iter().enumerate() {
            let loss = teacher.loss(&with(method)?, &setting)?.relative;
            if loss < best.0 {
                best = (loss, n);
            }
        }
        Ok(best.1)
    })?;
    with(candidates[best]).map(drop)
}
