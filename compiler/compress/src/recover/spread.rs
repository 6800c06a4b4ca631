//! How far the numbers that a layer reads and gives vary: what its weights and biases are measured by when they are trained.
//!
//! A step that all weights of a layer make alike changes results more, the larger and the more alike the layer's inputs
//! are. Weights are therefore trained as if inputs and results had a mean of 0 and a deviation of 1 (LeCun et al. 1998,
//! "Efficient BackProp", 4.3), as batch norms would see to.

use std::collections::BTreeMap;

use mcc_ir::{Result, Tensor};

use super::levels::{Level, levels};
use crate::layers::Layer;
use crate::model::Model;
use crate::moments::POSITIONS;
use crate::observe::{Setting, observe};
use crate::unfold::Data;

/// The least variance of a column that counts, relative to the mean of all: others would be changed without limit.
const LEAST: f64 = 0.01;

/// What a layer reads and gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// The mean of each column, one group's after the other's.
    pub means: Vec<f32>,
    /// The deviation of each column.
    pub columns: Vec<f32>,
    /// The deviation of each row's result.
    pub rows: Vec<f32>,
}

/// The spreads of layers, by their results.
///
/// # Errors
/// When the model does not compile or run.
pub fn spreads(model: &Model, layers: &[Layer], setting: &Setting) -> Result<BTreeMap<String, Spread>> {
    let given = levels(model, layers, setting)?;
    let names: Vec<&str> = layers.iter().map(|l| l.input.as_str()).collect();
    let fresh = |l: &Layer| (0.0, vec![[0.0f64; 2]; l.columns() * l.kind.groups()]);
    let mut sums: Vec<(f64, Vec<[f64; 2]>)> = layers.iter().map(fresh).collect();
    observe(model, &names, setting, &mut |sample, values: &[Tensor]| {
        for ((layer, (count, sums)), value) in layers.iter().zip(&mut sums).zip(values) {
            let data = Data::of(layer, value, POSITIONS, sample)?;
            for (group, sums) in sums.chunks_exact_mut(layer.columns().max(1)).enumerate() {
                let unfolded = data.unfold(group);
                for row in unfolded.data.chunks_exact(sums.len()) {
                    for ([sum, squares], &v) in sums.iter_mut().zip(row) {
                        *sum += f64::from(v);
                        *squares += f64::from(v) * f64::from(v);
                    }
                }
                *count += if group == 0 { unfolded.rows as f64 } else { 0.0 };
            }
        }
        Ok(())
    })?;
    let spread = |(layer, (count, sums)): (&Layer, (f64, Vec<[f64; 2]>))| {
        let count = count.max(1.0);
        let means: Vec<f64> = sums.iter().map(|[sum, _]| sum / count).collect();
        let variances: Vec<f64> =
            sums.iter().zip(&means).map(|([_, squares], mean)| (squares / count - mean * mean).max(0.0)).collect();
        let least = LEAST * variances.iter().sum::<f64>() / variances.len().max(1) as f64;
        let rows = given.get(&layer.output).into_iter().flatten().map(|l: &Level| l.deviation as f32).collect();
        let columns = variances.iter().map(|v| (v + least).sqrt() as f32).collect();
        (layer.output.clone(), Spread { means: means.iter().map(|&m| m as f32).collect(), columns, rows })
    };
    Ok(layers.iter().zip(sums).map(spread).collect())
}

impl Spread {
    /// How far the weights of a layer go in a step, in the order of its matrix: `part` of what they are on the average if
    /// inputs and results deviate by 1.
    pub fn rates(&self, layer: &Layer, part: f32) -> Vec<f32> {
        let (columns, groups, rows) = (layer.columns(), layer.kind.groups(), self.rows.len());
        let part = part / (columns.max(1) as f32).sqrt();
        let of = |(r, deviation): (usize, &f32)| {
            let own = &self.columns[r * groups / rows * columns..][..columns];
            own.iter()
                .map(move |column| if *column > 0.0 { part * deviation / column } else { 0.0 })
                .collect::<Vec<f32>>()
        };
        self.rows.iter().enumerate().flat_map(of).collect()
    }
}
