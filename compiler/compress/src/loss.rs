//! How far a model's outputs are from those of another.

use mcc_ir::{Result, Tensor};

use crate::model::Model;
use crate::observe::{Setting, observe};

/// The relative distance of a model's outputs from the teacher's, over all samples: the root of the squared differences
/// over that of the squares, of the output for which it is largest.
///
/// # Errors
/// When one of the two does not compile or run.
pub fn distance(teacher: &Model, model: &Model, setting: &Setting) -> Result<f64> {
    let names: Vec<&str> = teacher.graph().output.iter().map(|o| o.name.as_str()).collect();
    let mut wanted: Vec<Vec<Tensor>> = Vec::new();
    observe(teacher, &names, setting, &mut |_, outputs| {
        wanted.push(outputs.to_vec());
        Ok(())
    })?;
    let mut sums = vec![(0.0, 0.0); names.len()];
    observe(model, &names, setting, &mut |sample, outputs| {
        for ((output, want), (off, all)) in outputs.iter().zip(&wanted[sample]).zip(&mut sums) {
            for (a, b) in output.to_f64s().into_iter().zip(want.to_f64s()) {
                *off += (a - b) * (a - b);
                *all += b * b;
            }
        }
        Ok(())
    })?;
    let relative = |(off, all): (f64, f64)| if off == 0.0 { 0.0 } else { (off / all).sqrt() };
    Ok(sums.into_iter().map(relative).fold(0.0, f64::max))
}
