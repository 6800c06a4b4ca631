//! Gradient descent on a block's squared error.
//!
//! Contract: samples of a batch run side by side, each on one thread, and their gradients are summed in the samples'
//! order: the result does not depend on the number of threads. How many steps are made depends on the work of one and
//! never on the clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcc_ir::{Error, Random, Result};
use rayon::prelude::*;

use super::program::{Data, Program};
use super::weights::{Moment, Trained};
use crate::observe::Progress;

/// Samples of a step.
const BATCH: usize = 8;

/// One of so many samples is held out, to judge by.
const HELD_OUT: usize = 6;

/// How often in the course of training the result is judged.
const TRIALS: usize = 4;

/// A sample of a block: what it reads, and what the teacher makes of it.
pub struct Example {
    /// The elements of the inputs.
    pub inputs: BTreeMap<String, Data>,
    /// The teacher's outputs.
    pub targets: Vec<Arc<Vec<f32>>>,
    /// The block for these shapes.
    pub program: Arc<Program>,
}

/// Examples, and how errors of outputs are weighed.
pub struct Lesson {
    examples: Vec<Example>,
    /// One over the mean square of each output.
    factors: Vec<f64>,
    train: Vec<usize>,
    test: Vec<usize>,
}

/// The relative squared errors on samples held out.
#[derive(Debug, Clone, Copy)]
pub struct Errors {
    /// Before training.
    pub before: f64,
    /// After it.
    pub after: f64,
}

impl Lesson {
    /// Divides examples into those to train with and those to judge by.
    pub fn new(examples: Vec<Example>) -> Lesson {
        let outputs = examples.first().map_or(0, |e| e.targets.len());
        let square = |output: usize| -> f64 {
            let all = examples.iter().flat_map(|e| e.targets[output].iter());
            let count = examples.iter().map(|e| e.targets[output].len()).sum::<usize>().max(1);
            all.map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / count as f64
        };
        let factors = (0..outputs).map(|o| 1.0 / square(o).max(f64::from(f32::MIN_POSITIVE))).collect();
        let held = |n: &usize| n % HELD_OUT == HELD_OUT - 1;
        let (test, train): (Vec<usize>, Vec<usize>) = (0..examples.len()).partition(held);
        // So few samples that all must do for both.
        let test = if test.is_empty() { train.clone() } else { test };
        Lesson { examples, factors, train, test }
    }

    /// Multiplications and additions of one step.
    pub fn work(&self) -> u64 {
        let one = self.examples.first().map_or(0, |e| e.program.work());
        3 * one * BATCH.min(self.train.len()) as u64
    }

    /// The relative squared error of an example, and its gradient by the outputs.
    fn compare(&self, example: &Example, outputs: &[&[f32]]) -> (f64, Vec<Vec<f32>>) {
        let mut error = 0.0;
        let mut gradients = Vec::new();
        for ((y, t), factor) in outputs.iter().zip(&example.targets).zip(&self.factors) {
            let factor = factor / y.len().max(1) as f64 / outputs.len() as f64;
            let mut gradient = vec![0.0; y.len()];
            for ((g, &y), &t) in gradient.iter_mut().zip(*y).zip(t.iter()) {
                let off = f64::from(y) - f64::from(t);
                error += factor * off * off;
                *g = (2.0 * factor * off) as f32;
            }
            gradients.push(gradient);
        }
        (error, gradients)
    }

    fn run(&self, example: usize, trained: &BTreeMap<String, Data>) -> Result<(f64, BTreeMap<String, Vec<f32>>)> {
        let example = &self.examples[example];
        let input = |name: &str| trained.get(name).or_else(|| example.inputs.get(name)).cloned();
        let trace = example.program.forward(&input)?;
        let (error, gradients) = self.compare(example, &example.program.outputs(&trace));
        let found = example.program.backward(&trace, gradients);
        Ok((error, found.into_iter().map(|(name, g)| (name.to_string(), g)).collect()))
    }

    /// The mean error of the samples held out.
    ///
    /// # Errors
    /// When an operation fails on the data.
    pub fn judge(&self, layers: &[Trained]) -> Result<f64> {
        let trained = data(layers, None);
        let error = |&n: &usize| {
            let example = &self.examples[n];
            let input = |name: &str| trained.get(name).or_else(|| example.inputs.get(name)).cloned();
            let trace = example.program.forward(&input)?;
            Ok(self.compare(example, &example.program.outputs(&trace)).0)
        };
        let errors: Vec<Result<f64>> = self.test.par_iter().map(error).collect();
        let sum: f64 = errors.into_iter().sum::<Result<f64>>()?;
        Ok(sum / self.test.len().max(1) as f64)
    }

    /// Trains layers; they end as they were best on the samples held out, which may be as they began.
    ///
    /// # Errors
    /// When an operation fails on the data.
    pub fn train(&self, layers: &mut Vec<Trained>, plan: &Plan) -> Result<Errors> {
        let before = self.judge(layers)?;
        let (mut best, mut least) = (layers.clone(), before);
        let mut random = Random::new(plan.seed);
        let mut waiting: Vec<usize> = Vec::new();
        for step in 0..plan.steps {
            let moment = Moment { step, of: plan.steps };
            let batch: Vec<usize> =
                (0..BATCH.min(self.train.len())).map(|_| self.draw(&mut waiting, &mut random)).collect();
            let data = data(layers, Some(&moment));
            let results: Vec<Result<_>> = batch.par_iter().map(|&n| self.run(n, &data)).collect();
            let mut sums: BTreeMap<String, Vec<f32>> = BTreeMap::new();
            for result in results {
                for (name, gradient) in result?.1 {
                    match sums.get_mut(&name) {
                        Some(sum) => sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += g),
                        None => drop(sums.insert(name, gradient)),
                    }
                }
            }
            for layer in layers.iter_mut() {
                let bias = layer.bias_name().and_then(|name| sums.get(name)).cloned();
                let weights = sums.get(&layer.layer.weights).cloned();
                layer.descend(weights.as_deref(), bias.as_deref(), &moment);
            }
            plan.progress.advance();
            if (step + 1) % plan.steps.div_ceil(TRIALS) == 0 || step + 1 == plan.steps {
                let error = self.judge(layers)?;
                if error < least {
                    (best, least) = (layers.clone(), error);
                }
            }
        }
        *layers = best;
        Ok(Errors { before, after: least })
    }

    /// The next example; each comes once before any comes again.
    fn draw(&self, waiting: &mut Vec<usize>, random: &mut Random) -> usize {
        if waiting.is_empty() {
            *waiting = self.train.clone();
        }
        let at = random.below(waiting.len());
        waiting.swap_remove(at)
    }
}

/// How training goes.
pub struct Plan<'a> {
    /// Steps.
    pub steps: usize,
    /// Where random choices start.
    pub seed: u64,
    /// Hears of each step.
    pub progress: &'a dyn Progress,
}

/// The elements of all that is trained.
fn data(layers: &[Trained], moment: Option<&Moment>) -> BTreeMap<String, Data> {
    layers.iter().flat_map(|layer| layer.data(moment)).collect()
}

/// An example's inputs and targets as programs hold them.
///
/// # Errors
/// When an output is not of floats.
pub fn floats(tensor: &mcc_ir::Tensor, name: &str) -> Result<Arc<Vec<f32>>> {
    tensor.to_f32s().map(Arc::new).ok_or_else(|| Error::internal(format!("\"{name}\" is {}", tensor.dtype())))
}
