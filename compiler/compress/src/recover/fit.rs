//! Layers that cannot be trained: their weights are fitted one by one.

use faer::Mat;
use mcc_ir::Result;

use super::{Course, Student};
use crate::layers;
use crate::matrix::Matrix;
use crate::moments::{Moments, moments};
use crate::observe::Setting;
use crate::prune::fit::Problem;
use crate::quantize::weights::bias_shift;

/// Damping of the fit of layers that cannot be trained, relative to the Gram matrix's mean diagonal.
const DAMPING: f64 = 1e-4;

impl Student<'_> {
    /// Fits the layers of a block that cannot be trained, one by one.
    pub(super) fn refit(&mut self, course: &Course, setting: &Setting) -> Result<String> {
        setting.progress.begin(course.what, setting.samples.len() * course.trained.len());
        let mut fitted = 0;
        for output in course.trained {
            let (_, layer) = layers::again(self.model, output)?;
            let teacher = match layers::again(self.teacher, output) {
                Ok((_, given)) if given.shape == layer.shape && given.kind == layer.kind => given,
                _ => continue,
            };
            let moments = moments(&self.rounding()?, std::slice::from_ref(&layer), setting)?.remove(0);
            let (mut matrix, wanted) = (layer.matrix(self.model)?, teacher.matrix(self.teacher)?);
            if !self.codes.contains_key(*output) {
                matrix = refit(&wanted, &matrix, &moments)?;
                layer.set_matrix(self.model, &matrix)?;
                fitted += 1;
            }
            if let (Some(mut bias), true) = (teacher.bias(self.teacher), layer.bias.is_some()) {
                let shift = bias_shift(&wanted, &matrix, &moments);
                bias.iter_mut().zip(shift).for_each(|(b, s)| *b += s);
                layer.set_bias(self.model, &bias)?;
            }
        }
        Ok(if fitted == 0 { "biases fitted" } else { "weights fitted layer by layer" }.to_string())
    }
}

/// The weights that are not zero, fitted so that the layer gives what the teacher's weights give on the same data.
fn refit(teacher: &Matrix, student: &Matrix, moments: &[Moments]) -> Result<Matrix> {
    let (rows, n) = (student.rows / moments.len().max(1), student.columns);
    let mut data = Vec::new();
    for (group, moments) in moments.iter().enumerate() {
        let of = |all: &Matrix| Mat::from_fn(n, rows, |j, r| f64::from(all.row(group * rows + r)[j]));
        let (wanted, own) = (of(teacher), of(student));
        let mut gram = Mat::from_fn(n, n, |i, j| moments.gram[i * n + j]);
        let mut target = &gram * &wanted;
        // Where data says nothing, weights stay.
        let damping = DAMPING * (0..n).map(|j| gram[(j, j)]).sum::<f64>() / n.max(1) as f64;
        (0..n).for_each(|j| gram[(j, j)] += damping.max(f64::MIN_POSITIVE.sqrt()));
        target += damping * &own;
        let kept: Vec<bool> = (0..rows).flat_map(|r| own.col_as_slice(r)).map(|w| *w != 0.0).collect();
        let fitted = Problem { gram, target }.solve(&kept)?;
        data.extend((0..rows).flat_map(|r| fitted.col_as_slice(r)).map(|&w| w as f32));
    }
    Ok(Matrix { data, ..student.clone() })
}
