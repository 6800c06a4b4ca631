//! Gradient descent on the error of a block's outputs.
//!
//! Contract: samples of a batch run side by side, each on one thread, and their gradients are summed in the samples'
//! order: the result does not depend on the number of threads. How many steps are made depends on the work of one and
//! never on the clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcc_ir::{Random, Result};
use rayon::prelude::*;

use super::examples::{Maker, Material};
use super::operators::vectors;
use super::program::{Data, Program};
use super::target::{Target, Wanted};
use super::weights::{Moment, Trained};
use crate::observe::Progress;

/// Samples of a step.
const BATCH: usize = 8;

/// One of so many samples is held out, to judge by.
const HELD_OUT: usize = 8;

/// One of so many samples of a step is made for it, if samples can be made.
const MADE: usize = 2;

/// Parts of the usual rates that are tried: how far weights may go at once depends on how deep a block is.
const RATES: [f32; 4] = [1.0, 0.3, 0.1, 0.03];

/// The part of the steps for which each is tried, and the least and most steps.
const TRIAL: (f32, f32, f32) = (0.05, 5.0, 50.0);

/// The part of the best rate's gain that a higher one must have.
const NEARLY: f64 = 0.5;

/// How often in the course of training the result is judged.
const TRIALS: usize = 8;

/// A sample of a block: what it reads, and what the teacher makes of it.
pub struct Example {
    /// The elements of the inputs.
    pub inputs: BTreeMap<String, Data>,
    /// The teacher's outputs.
    pub wanted: Wanted,
    /// The block for these shapes.
    pub program: Arc<Program>,
    /// Whether it is held out.
    pub is_held: bool,
}

/// Whether a sample is held out, by its number: one of each group is, by chance, as classes may take turns. Of fewer
/// samples than a group, none is.
pub fn is_held(sample: usize) -> bool {
    let (group, place) = (sample / HELD_OUT, sample % HELD_OUT);
    place == if group == 0 { HELD_OUT - 1 } else { Random::new(group as u64).below(HELD_OUT) }
}

/// One of a step's samples.
#[derive(Clone, Copy)]
struct Drawn {
    /// The example.
    example: usize,
    /// What a sample is made of instead, if samples can be made.
    seed: Option<u64>,
}

/// Examples, and how outputs are compared.
pub struct Lesson {
    examples: Vec<Example>,
    maker: Option<Maker>,
    target: Target,
    train: Vec<usize>,
    test: Vec<usize>,
}

/// The errors on samples held out.
#[derive(Debug, Clone, Copy)]
pub struct Errors {
    /// Before training.
    pub before: f64,
    /// After it.
    pub after: f64,
}

impl Lesson {
    /// Divides examples into those to train with and those to judge by.
    pub fn new(material: Material, target: Target) -> Lesson {
        let Material { examples, maker } = material;
        let (mut test, mut train): (Vec<usize>, Vec<usize>) = (0..examples.len()).partition(|&n| examples[n].is_held);
        // So few samples that all must do for both.
        if test.is_empty() || train.is_empty() {
            (test, train) = ((0..examples.len()).collect(), (0..examples.len()).collect());
        }
        Lesson { examples, maker, target, train, test }
    }

    /// Multiplications and additions of one step.
    pub fn work(&self) -> u64 {
        let one = self.examples.first().map_or(0, |e| e.program.work());
        3 * one * BATCH.min(self.train.len()) as u64
    }

    /// The gradients by what is trained.
    fn run(&self, drawn: Drawn, trained: &BTreeMap<String, Data>) -> Result<BTreeMap<String, Vec<f32>>> {
        let given = &self.examples[drawn.example];
        let made = match (&self.maker, drawn.seed) {
            (Some(maker), Some(seed)) => maker.make(seed)?,
            _ => None,
        };
        let example = made.as_ref().unwrap_or(given);
        let input = |name: &str| trained.get(name).or_else(|| example.inputs.get(name)).cloned();
        let trace = example.program.forward(&input)?;
        let (_, gradients) = self.target.compare(&example.wanted, &example.program.outputs(&trace));
        let found = example.program.backward(&trace, gradients);
        Ok(found.into_iter().map(|(name, g)| (name.to_string(), g)).collect())
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
            Ok(self.target.compare(&example.wanted, &example.program.outputs(&trace)).0)
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
        let rate = self.rate(layers, before, plan)?;
        let (mut best, mut least) = (layers.clone(), before);
        let mut draws = Draws::new(plan.seed);
        for step in 0..plan.steps {
            self.step(layers, &Moment { step, of: plan.steps, rate }, &mut draws)?;
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

    /// The highest rate with which some steps gain nearly as much as with the best one: few steps say too much for low ones.
    fn rate(&self, layers: &[Trained], before: f64, plan: &Plan) -> Result<f32> {
        let steps = plan.trial();
        let mut gains: Vec<(f32, f64)> = Vec::new();
        for part in RATES {
            let (mut layers, mut draws) = (layers.to_vec(), Draws::new(plan.seed));
            let rate = plan.rate * part;
            for step in 0..steps {
                // As the first steps of many: rates rise, and do not fall.
                self.step(&mut layers, &Moment { step, of: steps * TRIALS, rate }, &mut draws)?;
                plan.progress.advance();
            }
            gains.push((rate, before - self.judge(&layers)?));
        }
        let most = gains.iter().map(|g| g.1).fold(0.0, f64::max);
        let found = gains.iter().find(|(_, gain)| *gain > 0.0 && *gain >= NEARLY * most);
        Ok(found.map_or(plan.rate * RATES[RATES.len() - 1], |(rate, _)| *rate))
    }

    /// Changes layers by the gradients of a batch.
    fn step(&self, layers: &mut [Trained], moment: &Moment, draws: &mut Draws) -> Result<()> {
        let batch: Vec<Drawn> = (0..BATCH.min(self.train.len()))
            .map(|n| Drawn {
                example: self.draw(draws),
                seed: n.is_multiple_of(MADE).then(|| draws.seed.wrapping_add((moment.step * BATCH + n) as u64)),
            })
            .collect();
        let sums = self.gradients(&batch, &data(layers, Some(moment)))?;
        for layer in layers {
            let bias = layer.bias_name().and_then(|name| sums.get(name)).cloned();
            let weights = sums.get(&layer.layer.weights).cloned();
            layer.descend(weights.as_deref(), bias.as_deref(), moment);
        }
        Ok(())
    }

    /// The gradients by what is trained, summed over some examples in their order; few of them are in memory.
    fn gradients(&self, batch: &[Drawn], trained: &BTreeMap<String, Data>) -> Result<BTreeMap<String, Vec<f32>>> {
        let mut sums: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        for some in batch.chunks(rayon::current_num_threads().max(1)) {
            let results: Vec<Result<_>> = some.par_iter().map(|&drawn| self.run(drawn, trained)).collect();
            for result in results {
                for (name, gradient) in result? {
                    match sums.get_mut(&name) {
                        Some(sum) => vectors::add(sum, &gradient),
                        None => drop(sums.insert(name, gradient)),
                    }
                }
            }
        }
        Ok(sums)
    }

    /// The next example; each comes once before any comes again.
    fn draw(&self, draws: &mut Draws) -> usize {
        if draws.waiting.is_empty() {
            draws.waiting.clone_from(&self.train);
        }
        let at = draws.random.below(draws.waiting.len());
        draws.waiting.swap_remove(at)
    }
}

/// Which examples come next.
struct Draws {
    seed: u64,
    random: Random,
    /// Those that have not come yet in this round.
    waiting: Vec<usize>,
}

impl Draws {
    fn new(seed: u64) -> Draws {
        Draws { seed, random: Random::new(seed), waiting: Vec::new() }
    }
}

/// How training goes.
pub struct Plan<'a> {
    /// Steps.
    pub steps: usize,
    /// The part of the usual rates.
    pub rate: f32,
    /// Where random choices start.
    pub seed: u64,
    /// Hears of each step.
    pub progress: &'a dyn Progress,
}

impl Plan<'_> {
    /// Steps for which a rate is tried.
    fn trial(&self) -> usize {
        let (part, least, most) = TRIAL;
        (self.steps as f32 * part).clamp(least, most) as usize
    }

    /// All steps, with those that find the rate.
    pub fn all_steps(&self) -> usize {
        self.steps + RATES.len() * self.trial()
    }
}

/// The elements of all that is trained.
fn data(layers: &[Trained], moment: Option<&Moment>) -> BTreeMap<String, Data> {
    layers.iter().flat_map(|layer| layer.data(moment)).collect()
}
