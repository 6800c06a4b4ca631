//! What a model loses: how far its outputs are from those of another.

use std::collections::BTreeMap;

use mcc_ir::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::model::Model;
use crate::observe::{Setting, observe};

/// A row of an output is of scores if it is not negative and sums to one, within this.
const SUM_ERROR: f64 = 1e-3;

/// What a model loses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// The relative L2 distance of the output that is furthest away, over all samples: 0.01 is one percent. Infinite if
    /// an output is not a number, or its shape is another.
    pub relative: f64,
    /// Where outputs are scores: how many rows have the same best one, from 0 to 1.
    pub agreement: Option<f64>,
}

/// The given model's outputs on some samples.
pub struct Teacher {
    names: Vec<String>,
    /// Per sample, the outputs.
    outputs: BTreeMap<usize, Vec<Tensor>>,
    /// Whether each output is scores.
    scores: Vec<bool>,
}

/// Squared distances and agreements of one output.
#[derive(Clone, Default)]
struct Sums {
    error: f64,
    norm: f64,
    agree: usize,
    rows: usize,
}

impl Teacher {
    /// Runs the given model on the setting's samples.
    ///
    /// # Errors
    /// When it does not compile or run.
    pub fn new(model: &Model, setting: &Setting) -> Result<Teacher> {
        let names: Vec<String> = model.graph().output.iter().map(|o| o.name.clone()).collect();
        let mut scores = vec![true; names.len()];
        let mut outputs = BTreeMap::new();
        observe(model, &texts(&names), setting, &mut |n, values| {
            scores.iter_mut().zip(values).for_each(|(s, value)| *s = *s && are_scores(value));
            outputs.insert(n, values.to_vec());
            Ok(())
        })?;
        Ok(Teacher { names, outputs, scores })
    }

    /// Bytes of a sample's outputs, at most.
    pub fn bytes(&self) -> usize {
        self.outputs.values().map(|tensors| tensors.iter().map(|t| t.data().len()).sum()).max().unwrap_or(0)
    }

    /// What another model with the same inputs and outputs loses on the same samples.
    ///
    /// # Errors
    /// When it does not compile or run.
    pub fn loss(&self, model: &Model, setting: &Setting) -> Result<Loss> {
        let mut sums = vec![Sums::default(); self.names.len()];
        observe(model, &texts(&self.names), setting, &mut |n, values| {
            let right = self.outputs.get(&n).map_or(&[][..], Vec::as_slice);
            for (n, (sums, (right, value))) in sums.iter_mut().zip(right.iter().zip(values)).enumerate() {
                sums.add(right, value, self.scores[n]);
            }
            Ok(())
        })?;
        Ok(total(&sums))
    }
}

/// The relative distance of a model's outputs from the teacher's, over all samples, as [`Loss::relative`].
///
/// # Errors
/// When one of the two does not compile or run.
pub fn distance(teacher: &Model, model: &Model, setting: &Setting) -> Result<f64> {
    Ok(Teacher::new(teacher, setting)?.loss(model, setting)?.relative)
}

fn texts(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

impl Sums {
    fn add(&mut self, right: &Tensor, value: &Tensor, scores: bool) {
        if right.shape() != value.shape() {
            self.error = f64::INFINITY;
            return;
        }
        let (right_values, values) = (right.to_f64s(), value.to_f64s());
        self.error += right_values.iter().zip(&values).map(|(r, v)| (r - v) * (r - v)).sum::<f64>();
        self.norm += right_values.iter().map(|r| r * r).sum::<f64>();
        if scores {
            let columns = right.shape().last().copied().unwrap_or(1).max(1);
            let rows = right_values.chunks(columns).zip(values.chunks(columns));
            self.rows += right_values.len() / columns;
            self.agree += rows.filter(|(r, v)| best(r) == best(v)).count();
        }
    }
}

fn total(sums: &[Sums]) -> Loss {
    let relative = |s: &Sums| match s.error {
        0.0 => 0.0,
        error if error.is_finite() && s.norm > 0.0 => (error / s.norm).sqrt(),
        _ => f64::INFINITY,
    };
    let rows: usize = sums.iter().map(|s| s.rows).sum();
    let agree: usize = sums.iter().map(|s| s.agree).sum();
    Loss {
        relative: sums.iter().map(relative).fold(0.0, f64::max),
        agreement: (rows > 0).then(|| agree as f64 / rows as f64),
    }
}

/// The place of the largest element, the first of equal ones.
fn best(row: &[f64]) -> usize {
    (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0)
}

/// Whether numbers are probabilities that sum to one.
pub fn is_distribution<T: Copy + Into<f64>>(row: &[T]) -> bool {
    let values = || row.iter().map(|&v| v.into());
    values().all(|v: f64| v >= 0.0) && (values().sum::<f64>() - 1.0).abs() < SUM_ERROR
}

/// Whether a tensor's rows are probabilities, or it is one row of numbers for each sample, as classifiers give.
fn are_scores(tensor: &Tensor) -> bool {
    let [.., columns] = *tensor.shape() else { return false };
    if columns < 2 || !tensor.dtype().is_float() {
        return false;
    }
    let values = tensor.to_f64s();
    tensor.numel() == columns || values.chunks(columns).all(is_distribution)
}

#[cfg(test)]
mod tests {
    use mcc_ir::DType;

    use super::*;

    fn tensor(shape: &[usize], values: &[f64]) -> Tensor {
        Tensor::from_f64s(DType::F32, shape.to_vec(), values).unwrap()
    }

    fn loss(right: &Tensor, value: &Tensor) -> Loss {
        let mut sums = Sums::default();
        sums.add(right, value, are_scores(right));
        total(&[Sums::default(), sums])
    }

    #[test]
    fn the_loss_is_a_relative_distance_and_the_best_scores_are_compared() {
        let right = tensor(&[2, 2], &[0.75, 0.25, 0.5, 0.5]);
        assert_eq!(loss(&right, &right), Loss { relative: 0.0, agreement: Some(1.0) });
        let told = loss(&right, &tensor(&[2, 2], &[0.25, 0.75, 0.5, 0.5]));
        assert_eq!(told.agreement, Some(0.5));
        assert!((told.relative - (0.5 / 1.125f64).sqrt()).abs() < 1e-9);
        // Not scores: a negative number, and rows that sum to anything.
        let other = tensor(&[2, 2], &[-1.0, 0.25, 0.5, 0.5]);
        assert_eq!(loss(&other, &other).agreement, None);
    }

    #[test]
    fn what_is_no_number_or_of_another_shape_loses_everything() {
        let right = tensor(&[1, 2], &[0.75, 0.25]);
        assert_eq!(loss(&right, &tensor(&[1, 2], &[f64::NAN, 0.0])).relative, f64::INFINITY);
        assert_eq!(loss(&right, &tensor(&[2], &[0.75, 0.25])).relative, f64::INFINITY);
        let nothing = tensor(&[1, 2], &[0.0, 0.0]);
        assert_eq!(loss(&nothing, &nothing).relative, 0.0);
        assert_eq!(loss(&nothing, &right).relative, f64::INFINITY);
    }
}
