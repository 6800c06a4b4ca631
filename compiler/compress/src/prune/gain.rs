//! Where zeros make the target faster: the compiler is asked, with zeros where magnitudes are least.

use std::collections::HashMap;

use mcc::driver;
use mcc::ir::Subject;
use mcc_ir::Result;

use super::fit::Mask;
use super::zones::Zones;
use crate::layers::Layer;
use crate::matrix::Matrix;
use crate::model::Model;
use crate::observe::Setting;
use crate::recipe::Prune;

/// What the compiler says about zeros in a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Gain {
    /// How many times faster the layer is with them.
    pub factor: f64,
    /// The compiler's choice and reason.
    pub reason: String,
}

/// The gains of zeros in some layers, by the layers' names.
///
/// # Errors
/// When the model does not compile.
pub fn gains(model: &Model, layers: &[Layer], step: &Prune, setting: &Setting) -> Result<HashMap<String, Gain>> {
    let mut trial = model.clone();
    for layer in layers {
        let mut matrix = layer.matrix(&trial)?;
        let mask = by_magnitude(layer, &matrix, step);
        matrix.data.iter_mut().zip(&mask).filter(|(_, stays)| !**stays).for_each(|(w, _)| *w = 0.0);
        layer.set_matrix(&mut trial, &matrix)?;
    }
    trial.tidy()?;
    let graph = driver::import(trial.encode()?, setting.options)?;
    let graph = driver::optimise(graph, setting.options, &mut |_, _| {})?;
    let of = |layer: &Layer| {
        let about = |d: &mcc_ir::Decision| d.layer == layer.name && d.subject == Subject::Weights;
        let decisions = graph.decisions();
        let decision = decisions.iter().find(|d| about(d));
        let gain = match decision {
            Some(d) => Gain { factor: d.gain.unwrap_or(1.0), reason: format!("{}: {}", d.form, d.reason) },
            None => Gain { factor: 1.0, reason: "the target has no kernel that skips its zeros".to_string() },
        };
        (layer.name.clone(), gain)
    };
    Ok(layers.iter().map(of).collect())
}

/// The weights that stay by magnitude.
fn by_magnitude(layer: &Layer, matrix: &Matrix, step: &Prune) -> Mask {
    let groups = layer.kind.groups();
    let zones = Zones::new(layer, matrix.rows / groups, step.pattern);
    let part = matrix.data.len() / groups;
    let of = |weights: &[f32]| {
        let scores: Vec<f64> = weights.iter().map(|w| f64::from(w.abs())).collect();
        let present: Vec<bool> = weights.iter().map(|w| *w != 0.0).collect();
        zones.mask(&scores, &present, (step.share() * part as f64).round() as usize)
    };
    matrix.data.chunks_exact(part).flat_map(of).collect()
}
