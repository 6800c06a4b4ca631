//! Where zeros make the target faster: the compiler is asked, with zeros where magnitudes are least.

use std::collections::BTreeMap;

use mcc::driver;
use mcc::ir::Subject;
use mcc_ir::Result;

use super::Task;
use super::fit::Mask;
use super::zones::Zones;
use crate::layers::Layer;
use crate::matrix::Matrix;
use crate::model::Model;
use crate::observe::Setting;
use crate::recipe::Pattern;
use crate::recurrent::Part;
use crate::times::by_label;

/// What the compiler says about zeros in a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Gain {
    /// The shape of the zeros.
    pub shape: Pattern,
    /// How many times faster the layer is with them.
    pub factor: f64,
    /// The compiler's choice and reason.
    pub reason: String,
}

/// The gains of zeros in some layers, by the layers' results, in the shape that gains most.
///
/// # Errors
/// When the model does not compile.
pub fn gains(model: &Model, layers: &[Layer], task: &Task, setting: &Setting) -> Result<BTreeMap<String, Gain>> {
    let mut best: BTreeMap<String, Gain> = BTreeMap::new();
    for shape in task.step.pattern.shapes(task.bytes) {
        for (layer, gain) in layers.iter().zip(gains_of(model, layers, (shape, task.step.share()), setting)?) {
            match best.get_mut(&layer.output) {
                Some(other) if other.factor >= gain.factor => {}
                Some(other) => *other = gain,
                None => drop(best.insert(layer.output.clone(), gain)),
            }
        }
    }
    Ok(best)
}

/// The gains of a share of zeros in a shape, layer by layer.
fn gains_of(model: &Model, layers: &[Layer], zeros: (Pattern, f64), setting: &Setting) -> Result<Vec<Gain>> {
    let mut trial = model.clone();
    for layer in layers {
        let mut matrix = layer.matrix(&trial)?;
        let mask = by_magnitude(layer, &matrix, zeros);
        matrix.data.iter_mut().zip(&mask).filter(|(_, stays)| !**stays).for_each(|(w, _)| *w = 0.0);
        layer.set_matrix(&mut trial, &matrix)?;
    }
    trial.tidy()?;
    let graph = driver::import(trial.encode()?, setting.options)?;
    let graph = driver::optimise(graph, setting.options, &mut |_, _| {})?;
    // The compiler names a layer by the last of the nodes that it makes one of.
    // What it says about the products of a recurrent node is about what multiplies the data.
    let of_data = |l: &Layer| l.recurrence().is_none_or(|r| r.part == Part::Data);
    let numbers: BTreeMap<String, usize> =
        layers.iter().enumerate().filter(|(_, l)| of_data(l)).map(|(n, l)| (l.output.clone(), n)).collect();
    let by_label = by_label(&trial, &numbers);
    let mut found: Vec<Option<Gain>> = vec![None; layers.len()];
    for decision in graph.decisions().iter().filter(|d| d.subject == Subject::Weights) {
        let Some(&n) = by_label.get(decision.layer.as_str()) else { continue };
        let gain = Gain {
            shape: zeros.0,
            factor: decision.gain.unwrap_or(1.0),
            reason: format!("{}: {}", decision.form, decision.reason),
        };
        if found[n].as_ref().is_none_or(|other| other.factor < gain.factor) {
            found[n] = Some(gain);
        }
    }
    let none =
        Gain { shape: zeros.0, factor: 1.0, reason: "the target has no kernel that skips its zeros".to_string() };
    Ok(found.into_iter().map(|gain| gain.unwrap_or_else(|| none.clone())).collect())
}

/// The weights that stay by magnitude.
fn by_magnitude(layer: &Layer, matrix: &Matrix, (shape, share): (Pattern, f64)) -> Mask {
    let groups = layer.kind.groups();
    let zones = Zones::new(layer, matrix.rows / groups, shape);
    let part = matrix.data.len() / groups;
    let of = |weights: &[f32]| {
        let scores: Vec<f64> = weights.iter().map(|w| f64::from(w.abs())).collect();
        let present: Vec<bool> = weights.iter().map(|w| *w != 0.0).collect();
        zones.mask(&scores, &present, (share * part as f64).round() as usize)
    };
    matrix.data.chunks_exact(part).flat_map(of).collect()
}
