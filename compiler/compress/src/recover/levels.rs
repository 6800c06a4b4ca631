//! Mean and deviation of each channel of layers' results: what a batch norm would measure anew.
//!
//! Zeros and codes change both. Scaling a channel's weights and moving its bias brings them back to the teacher's
//! (re-estimated batch norm statistics, after norms are folded into layers; Jordan et al. 2023, REPAIR).

use std::collections::BTreeMap;

use mcc_ir::{Error, Result};

use crate::layers::{Kind, Layer};
use crate::model::Model;
use crate::observe::{Setting, observe};

/// Mean and deviation of a channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub deviation: f64,
}

/// The levels of layers, by their results.
pub type Levels = BTreeMap<String, Vec<Level>>;

/// The levels of layers on the samples.
///
/// # Errors
/// When the model does not compile or run.
pub fn levels(model: &Model, layers: &[Layer], setting: &Setting) -> Result<Levels> {
    let names: Vec<&str> = layers.iter().map(|l| l.output.as_str()).collect();
    let mut sums: Vec<Vec<[f64; 3]>> = layers.iter().map(|l| vec![[0.0; 3]; l.rows()]).collect();
    observe(model, &names, setting, &mut |_, values| {
        for ((layer, sums), value) in layers.iter().zip(&mut sums).zip(values) {
            let numbers = value.to_f32s();
            let numbers =
                numbers.ok_or_else(|| Error::internal(format!("\"{}\" is {}", layer.output, value.dtype())))?;
            let inner = match &layer.kind {
                Kind::Product { .. } | Kind::Recurrent(_) => 1,
                Kind::Conv(_) | Kind::ConvTranspose(_) => value.shape()[2..].iter().product::<usize>(),
            };
            let channels = sums.len();
            for (run, numbers) in numbers.chunks_exact(inner.max(1)).enumerate() {
                let [count, sum, squares] = &mut sums[run % channels];
                *count += numbers.len() as f64;
                *sum += numbers.iter().map(|&v| f64::from(v)).sum::<f64>();
                *squares += numbers.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
            }
        }
        Ok(())
    })?;
    let level = |[count, sum, squares]: [f64; 3]| {
        let mean = sum / count.max(1.0);
        Level { mean, deviation: (squares / count.max(1.0) - mean * mean).max(0.0).sqrt() }
    };
    let of = |(layer, sums): (&Layer, Vec<[f64; 3]>)| (layer.output.clone(), sums.into_iter().map(level).collect());
    Ok(layers.iter().zip(sums).map(of).collect())
}

/// What a channel is multiplied by, and what is added then, to come from one level to another.
pub fn way(from: Level, to: Level) -> [f32; 2] {
    /// Channels that hardly vary say nothing about their scale.
    const LIMITS: [f64; 2] = [0.5, 2.0];
    let ratio = if from.deviation > 0.0 { to.deviation / from.deviation } else { 1.0 };
    let factor = ratio.clamp(LIMITS[0], LIMITS[1]);
    [factor as f32, (to.mean - factor * from.mean) as f32]
}
