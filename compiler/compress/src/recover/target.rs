//! How far outputs are from what they should be, and the gradient of that.
//!
//! | output | error |
//! |---|---|
//! | numbers | squared, relative to the teacher's mean square |
//! | chances: rows that sum to one | Kullback and Leibler's divergence from the teacher's (Hinton et al. 2015) |
//! | scores of classes, where there are labels | the same of their softmax |
//!
//! With labels, the error of the classes is mixed with the cross-entropy of the labels.

use std::sync::Arc;

use mcc_ir::{Error, Random, Result, Tensor};

use crate::loss::is_distribution;

/// The part of labels in the error of classes.
const LABELS: f64 = 0.5;

/// Chances below this count as this.
const LEAST: f64 = 1e-12;

/// How an output is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Differences count by this factor.
    Numbers(f64),
    /// Rows of so many chances.
    Chances(usize),
    /// Rows of so many scores, whose softmax are chances.
    Scores(usize),
}

/// What outputs should be like.
#[derive(Debug, Clone)]
pub struct Target {
    kinds: Vec<Kind>,
    /// The output that labels are for.
    classes: Option<usize>,
}

/// The teacher's outputs for a sample, and its class if it is known.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The elements of each output.
    pub outputs: Vec<Arc<Vec<f32>>>,
    /// The number of the class.
    pub class: Option<usize>,
}

impl Target {
    /// Numbers all.
    pub fn numbers(all: &[&Wanted]) -> Target {
        let outputs = all.first().map_or(0, |w| w.outputs.len());
        let square = |output: usize| -> f64 {
            let elements = all.iter().flat_map(|w| w.outputs[output].iter());
            let count = all.iter().map(|w| w.outputs[output].len()).sum::<usize>().max(1);
            elements.map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / count as f64
        };
        let kind = |o| Kind::Numbers(1.0 / square(o).max(f64::from(f32::MIN_POSITIVE)));
        Target { kinds: (0..outputs).map(kind).collect(), classes: None }
    }

    /// Outputs of a whole model, of which a sample's shapes are given, and all samples' classes if there are labels.
    ///
    /// # Errors
    /// When there are labels, but not one output that is a score for each class.
    pub fn outputs(all: &[&Wanted], shapes: &[Vec<usize>], classes: Option<&[usize]>) -> Result<Target> {
        let mut target = Target::numbers(all);
        for (output, (kind, shape)) in target.kinds.iter_mut().zip(shapes).enumerate() {
            let columns = shape.last().copied().unwrap_or(1);
            let rows = |w: &&Wanted| w.outputs[output].chunks(columns.max(1)).all(is_distribution);
            if columns > 1 && all.iter().all(rows) {
                *kind = Kind::Chances(columns);
            }
        }
        if let Some(classes) = classes {
            let is_row = |shape: &Vec<usize>| shape.iter().product::<usize>() == shape.last().map_or(0, |&c| c.max(2));
            let rows: Vec<usize> = (0..shapes.len()).filter(|&o| is_row(&shapes[o])).collect();
            let [output] = rows[..] else {
                let text =
                    format!("labels are for models with one output of a score for each class, not {}", rows.len());
                return Err(Error::unsupported(text).help("train without labels: the given model is the teacher"));
            };
            let columns = shapes[output].last().copied().unwrap_or(1);
            if let Some(class) = classes.iter().max().filter(|class| **class >= columns) {
                return Err(Error::invalid(format!("a label is class {class}, but the model has {columns} classes")));
            }
            if let kind @ Kind::Numbers(_) = &mut target.kinds[output] {
                *kind = Kind::Scores(columns);
            }
            target.classes = Some(output);
        }
        Ok(target)
    }

    /// The error of a sample's outputs, and its gradient by them.
    pub fn compare(&self, wanted: &Wanted, outputs: &[&[f32]]) -> (f64, Vec<Vec<f32>>) {
        let (mut error, mut gradients) = (0.0, Vec::new());
        let part = 1.0 / outputs.len().max(1) as f64;
        for (n, ((y, t), kind)) in outputs.iter().zip(&wanted.outputs).zip(&self.kinds).enumerate() {
            let class = wanted.class.filter(|_| self.classes == Some(n));
            let mut gradient = vec![0.0; y.len()];
            error += part
                * match *kind {
                    Kind::Numbers(factor) => squares(y, t, factor / y.len().max(1) as f64, part, &mut gradient),
                    Kind::Chances(columns) => {
                        let part = part * columns as f64 / y.len().max(1) as f64;
                        let rows = y.chunks(columns).zip(t.chunks(columns)).zip(gradient.chunks_mut(columns));
                        let sum: f64 = rows.map(|((y, t), g)| chances(y, t, class, part, g)).sum();
                        sum * columns as f64 / y.len().max(1) as f64
                    }
                    Kind::Scores(_) => scores(y, t, class, part, &mut gradient),
                };
            gradients.push(gradient);
        }
        (error, gradients)
    }

    /// Random factors of outputs' elements: squares of the sums with small differences are, in the mean, the errors of these.
    pub fn probe(&self, outputs: &[&[f32]], random: &mut Random) -> Vec<Vec<f32>> {
        let part = 1.0 / outputs.len().max(1) as f64;
        let factors = |(y, kind): (&&[f32], &Kind)| -> Vec<f32> {
            let count = y.len().max(1) as f64;
            let factor = |&y: &f32| match *kind {
                Kind::Numbers(factor) => factor / count,
                // Half the square of a difference, relative to the chance, is the divergence.
                Kind::Chances(columns) | Kind::Scores(columns) => {
                    0.5 * columns as f64 / count / f64::from(y).max(LEAST)
                }
            };
            y.iter()
                .map(|y| ((part * factor(y)).sqrt() * if random.below(2) == 0 { 1.0 } else { -1.0 }) as f32)
                .collect()
        };
        outputs.iter().zip(&self.kinds).map(factors).collect()
    }
}

/// Squared differences times a factor; gradients are multiplied by `part`, too.
fn squares(y: &[f32], t: &[f32], factor: f64, part: f64, gradient: &mut [f32]) -> f64 {
    let mut error = 0.0;
    for (g, (&y, &t)) in gradient.iter_mut().zip(y.iter().zip(t)) {
        let off = f64::from(y) - f64::from(t);
        error += factor * off * off;
        *g = (2.0 * part * factor * off) as f32;
    }
    error
}

/// What each class should have: the teacher's chances, mixed with the label if there is one.
fn mixed(t: f64, class: Option<usize>, n: usize) -> f64 {
    match class {
        Some(class) => (1.0 - LABELS) * t + if class == n { LABELS } else { 0.0 },
        None => t,
    }
}

/// The divergence of a row of chances. That of a mixture is the mixture's but for a constant.
fn chances(y: &[f32], t: &[f32], class: Option<usize>, part: f64, gradient: &mut [f32]) -> f64 {
    let mut error = 0.0;
    for (n, (g, (&y, &t))) in gradient.iter_mut().zip(y.iter().zip(t)).enumerate() {
        let (wanted, y) = (mixed(f64::from(t), class, n), f64::from(y));
        if wanted > 0.0 {
            error += wanted * (wanted.max(LEAST) / y.max(LEAST)).ln();
            *g = if y > LEAST { (-part * wanted / y) as f32 } else { 0.0 };
        }
    }
    error
}

/// The divergence of the softmax of a row of scores.
fn scores(y: &[f32], t: &[f32], class: Option<usize>, part: f64, gradient: &mut [f32]) -> f64 {
    let (y, t) = (softmax(y), softmax(t));
    let mut error = 0.0;
    for (n, (g, (&y, &t))) in gradient.iter_mut().zip(y.iter().zip(&t)).enumerate() {
        let wanted = mixed(t, class, n);
        error += if wanted > 0.0 { wanted * (wanted.max(LEAST) / y.max(LEAST)).ln() } else { 0.0 };
        *g = (part * (y - wanted)) as f32;
    }
    error
}

fn softmax(scores: &[f32]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = scores.iter().map(|&s| f64::from(s - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

impl Wanted {
    /// What outputs are for a sample.
    ///
    /// # Errors
    /// When an output is not of floats.
    pub fn new(outputs: &[Tensor], names: &[String], class: Option<usize>) -> Result<Wanted> {
        let floats = |(tensor, name): (&Tensor, &String)| {
            tensor.to_f32s().map(Arc::new).ok_or_else(|| Error::internal(format!("\"{name}\" is {}", tensor.dtype())))
        };
        Ok(Wanted { outputs: outputs.iter().zip(names).map(floats).collect::<Result<_>>()?, class })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(values: &[f32], class: Option<usize>) -> Wanted {
        Wanted { outputs: vec![Arc::new(values.to_vec())], class }
    }

    /// Gradients are what differences say, and the error is least where outputs are the teacher's.
    #[test]
    fn gradients_of_errors_are_right() {
        let (chances, scores) = ([0.1, 0.6, 0.3], [-1.0, 2.0, 0.5]);
        for (t, y, labelled, class) in [
            (chances, [0.2, 0.3, 0.5], false, None),
            (chances, [0.2, 0.3, 0.5], true, Some(2)),
            (scores, [0.2, 0.3, 0.5], false, None),
            (scores, [0.2, 0.3, 0.5], true, None),
            (scores, [0.2, 0.3, 0.5], true, Some(0)),
        ] {
            let t = wanted(&t, class);
            let target = Target::outputs(&[&t], &[vec![1, 3]], labelled.then_some(&[0])).unwrap();
            let error = |y: &[f32]| target.compare(&t, &[y]).0;
            let gradient = target.compare(&t, &[&y]).1.remove(0);
            for n in 0..3 {
                const STEP: f32 = 1e-3;
                let (mut above, mut below) = (y, y);
                above[n] += STEP;
                below[n] -= STEP;
                let slope = (error(&above) - error(&below)) / f64::from(2.0 * STEP);
                assert!((slope - f64::from(gradient[n])).abs() < 2e-3, "{t:?} {n}: {slope} {}", gradient[n]);
            }
            if class.is_none() {
                assert!(error(&t.outputs[0]).abs() < 1e-6 && error(&y) > 0.01, "{t:?}");
            }
        }
    }

    #[test]
    fn labels_need_classes() {
        let t = wanted(&[0.0; 6], Some(3));
        let error = |shapes: &[Vec<usize>]| Target::outputs(&[&t], shapes, Some(&[3])).unwrap_err().to_string();
        assert!(error(&[vec![2, 3]]).contains("one output of a score for each class, not 0"));
        let t = wanted(&[0.0; 3], Some(3));
        let told = Target::outputs(&[&t], &[vec![1, 3]], Some(&[3])).unwrap_err().to_string();
        assert!(told.contains("class 3, but the model has 3 classes"), "{told}");
    }
}
