//! Recovery: what pruning and quantization lost is trained back, block by block, without labels.
//!
//! The given model is the teacher. Each block of the compressed model reads what the blocks before it give, as they are
//! by now, and is trained by gradient descent until its results are nearest to the teacher's (BRECQ; Li et al. 2021).
//! Weights that are zero stay zero; codes move to the neighbouring ones at most.
//!
//! Invariant: a block is changed only if its error on samples held out falls, and the model only if its own does. The
//! steps before recovery do not see those samples.

mod blocks;
mod examples;
mod fit;
mod guard;
mod levels;
mod mix;
pub mod operators;
mod part;
pub mod program;
pub mod responses;
mod spread;
mod target;
mod train;
mod weights;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

use mcc_data::Samples;
use mcc_ir::{Error, Result};

use self::blocks::Block;
use self::guard::Guard;
use self::levels::{Level, Levels, levels, way};
use self::mix::Extended;
use self::spread::spreads;
use self::target::{Target, Wanted};
use self::train::{Errors, Lesson, Plan, is_held};
use self::weights::Trained;
use crate::layers::{self, Layer};
use crate::matrix::Matrix;
use crate::model::Model;
use crate::observe::Setting;
use crate::quantize::activation::{self, Bytes};
use crate::quantize::places::Places;
use crate::quantize::weights::Codes;
use crate::recipe::Recover;
use crate::session::Session;

/// Multiplications and additions that all blocks' training takes at an effort of 1, with the gradients.
const WORK: f64 = 3e13;

/// Least and most steps for a block.
const STEPS: [f64; 2] = [60.0, 1500.0];

/// The same for the whole model.
const WHOLE_STEPS: [f64; 2] = [60.0, 20_000.0];

/// An error that is none, relative to the squared outputs.
const NOTHING: f64 = 1e-9;

/// What is said of a block with such an error.
const NOTHING_LOST: &str = "nothing was lost before its end";

/// The part of the work that is training the whole model.
const TOGETHER: f64 = 0.6;

/// The part of the usual rates then.
const TOGETHER_RATE: f32 = 0.5;

/// The model that is trained, and what is known of it.
pub struct Student<'a> {
    /// The model given.
    pub teacher: &'a Model,
    /// The compressed one; weights that are codes are exactly what these mean.
    pub model: &'a mut Model,
    /// The codes of weights, by the layer's result.
    pub codes: &'a mut BTreeMap<String, Codes>,
    /// The weights that codes were made from.
    pub given: &'a BTreeMap<String, Matrix>,
    /// Which activations are bytes.
    pub places: &'a Places,
    /// The bytes' scales.
    pub bytes: &'a BTreeMap<String, Bytes>,
}

/// What became of a layer.
pub struct Outcome {
    /// The layer's result.
    pub output: String,
    /// What was done, and how far the error fell.
    pub reason: String,
}

/// Trains the layers that a step is for.
///
/// # Errors
/// When there are none, or a model does not compile or run.
pub fn run(session: &mut Session, step: &Recover, seed: u64, setting: &Setting) -> Result<()> {
    session.selected(&step.selection(), |_| true)?;
    let student = Student {
        teacher: &session.teacher,
        model: &mut session.model,
        codes: &mut session.codes,
        given: &session.given,
        places: &session.places,
        bytes: &session.bytes,
    };
    for outcome in recover(student, step, seed, setting)? {
        let zeros = layers::again(&session.model, &outcome.output).and_then(|(_, l)| l.matrix(&session.model));
        session.change(&outcome.output, |c| {
            c.zeros = zeros.map_or(c.zeros, |m| m.zero_share());
            c.reason = match c.reason.is_empty() {
                true => outcome.reason,
                false => format!("{}; {}", c.reason, outcome.reason),
            };
        });
    }
    Ok(())
}

/// The samples that the steps before may see, so that those held out judge fairly.
pub fn not_held(samples: &Samples) -> Samples {
    let numbers: Vec<usize> = (0..samples.len()).filter(|&n| !is_held(n)).collect();
    samples.only(&numbers)
}

/// Checks before work begins that a step's labels, if it has any, fit the samples and the model; gives the classes.
///
/// # Errors
/// When they do not, or the model does not run.
pub fn check(model: &Model, step: &Recover, setting: &Setting) -> Result<Option<Vec<usize>>> {
    if step.labels.is_none() {
        return Ok(None);
    }
    let floats = comparable(model, model, setting)?;
    let ends = blocks::ends(model, &trainable(model), &|name| floats.contains(name));
    Ok(Guard::new(model, ends, step, setting)?.classes)
}

/// Trains a compressed model.
///
/// # Errors
/// When a model does not compile or run, or labels do not fit.
pub fn recover(mut student: Student, step: &Recover, seed: u64, setting: &Setting) -> Result<Vec<Outcome>> {
    let layers = trainable(student.model);
    let comparable = comparable(student.model, student.teacher, setting)?;
    let is_comparable = |name: &str| comparable.contains(name);
    let blocks = blocks::blocks(student.model, &layers, &is_comparable);
    let wanted: HashSet<&str> =
        layers.iter().filter(|l| step.selection().takes(l)).map(|l| l.output.as_str()).collect();
    let ends = blocks::ends(student.model, &layers, &is_comparable);
    let guard = Guard::new(student.teacher, ends, step, setting)?;
    let (given, before) = (student.saved(), guard.judge(&student.rounding()?, setting)?);
    setting.progress.begin("levels of channels", setting.samples.len());
    let has_levels = |l: &&Layer| comparable.contains(&l.output) && l.recurrence().is_none();
    let there: Vec<Layer> = layers.iter().filter(has_levels).cloned().collect();
    let wanted_levels = levels(student.teacher, &there, setting)?;
    let mut outcomes = Vec::new();
    let (mut lost, mut done) = (false, false);
    for (n, block) in blocks.iter().enumerate() {
        let trained: Vec<&str> = block.layers.iter().map(String::as_str).filter(|l| wanted.contains(l)).collect();
        if trained.is_empty() {
            continue;
        }
        let course = Course {
            block,
            trained: &trained,
            work: WORK * (1.0 - TOGETHER) * step.effort / blocks.len() as f64,
            rate: 1.0,
            seed: seed.wrapping_add(n as u64),
            what: &format!("recovery of block {} of {}", n + 1, blocks.len()),
            levels: &wanted_levels,
            whole: false,
            classes: None,
            real: setting.samples.len(),
        };
        // The last block, before which nothing was lost, is all that there is to train.
        let is_last = n + 1 == blocks.len() && block.outputs.iter().all(|name| guard.names.contains(name));
        let is_all = step.together && is_last && !lost;
        let together = match is_all {
            true => student.together(&guard, &layers, &wanted, seed, WORK * step.effort, setting)?,
            false => None,
        };
        done = together.is_some();
        let reason = match together {
            Some(said) => said,
            None => student.kept_block(n, &course, setting)?,
        };
        lost |= reason != NOTHING_LOST;
        outcomes.extend(trained.iter().map(|l| Outcome { output: (*l).to_string(), reason: reason.clone() }));
    }
    let (apart, mut after) = (student.saved(), guard.judge(&student.rounding()?, setting)?);
    let mut best = apart;
    // An error that is no number is no gain.
    if before.partial_cmp(&after) != Some(Ordering::Greater) {
        (best, after) = (given, before);
        student.restore(&best);
    }
    if step.together && !done {
        student.together(&guard, &layers, &wanted, seed, WORK * TOGETHER * step.effort, setting)?;
        let error = guard.judge(&student.rounding()?, setting)?;
        match error < after {
            true => after = error,
            false => student.restore(&best),
        }
    }
    let said = match after < before {
        true => format!("; the model's error {before:.3e} -> {after:.3e}"),
        false => "; given up: the model's error did not fall".to_string(),
    };
    outcomes.iter_mut().for_each(|o| o.reason += &said);
    Ok(outcomes)
}

fn text(errors: &Errors) -> String {
    let percent = |error: f64| 100.0 * error.sqrt();
    match errors.after < errors.before {
        true => format!("block error {:.2}% -> {:.2}%", percent(errors.before), percent(errors.after)),
        false => format!("block error {:.2}%, training did not help", percent(errors.before)),
    }
}

/// All layers; the biases of recurrent ones, which two layers share, stay.
fn trainable(model: &Model) -> Vec<Layer> {
    let without = |layer: Layer| match layer.recurrence() {
        Some(_) => Layer { bias: None, ..layer },
        None => layer,
    };
    layers::find(model).into_iter().map(without).collect()
}

/// Values of floats that two models have with the same type.
fn comparable(model: &Model, teacher: &Model, setting: &Setting) -> Result<HashSet<String>> {
    let all = model.nodes().iter().flat_map(|n| &n.output).map(String::as_str);
    let names: Vec<&str> = all.filter(|o| !o.is_empty() && teacher.giver(o).is_some()).collect();
    let [own, other] = [model, teacher].map(|model| model.types(&names, setting.options));
    let same = names.iter().zip(own?).zip(other?).filter(|((_, a), b)| a == b && a.dtype == mcc_ir::DType::F32);
    Ok(same.map(|((name, _), _)| (*name).to_string()).collect())
}

/// What is done to a block.
struct Course<'a> {
    block: &'a Block,
    /// Results of the layers that change.
    trained: &'a [&'a str],
    /// Multiplications and additions.
    work: f64,
    seed: u64,
    what: &'a str,
    /// The part of the usual rates.
    rate: f32,
    /// The teacher's levels of layers that are brought to them first.
    levels: &'a Levels,
    /// Whether outputs are the model's, which may be chances.
    whole: bool,
    /// The classes of samples, if there are labels.
    classes: Option<&'a [usize]>,
    /// How many samples are those given; the others are mixtures of samples held out.
    real: usize,
}

impl Course<'_> {
    /// The class of a sample.
    fn class(&self, sample: usize) -> Option<usize> {
        self.classes?.get(sample).copied()
    }

    /// Whether a sample is held out.
    fn holds_out(&self, sample: usize) -> bool {
        sample >= self.real || is_held(sample)
    }
}

/// Weights that may come back.
struct Saved {
    model: Model,
    codes: BTreeMap<String, Codes>,
}

enum Done {
    Trained(Errors),
    /// Why it was not.
    Left(String),
}

impl Student<'_> {
    /// The model with bytes where activations are bytes; weights are floats.
    fn rounding(&self) -> Result<Model> {
        let mut model = self.model.clone();
        activation::write(&mut model, self.places, self.bytes)?;
        model.tidy()?;
        Ok(model)
    }

    /// The weights as they are.
    fn saved(&self) -> Saved {
        Saved { model: self.model.clone(), codes: self.codes.clone() }
    }

    fn restore(&mut self, saved: &Saved) {
        *self.model = saved.model.clone();
        *self.codes = saved.codes.clone();
    }

    /// Trains all layers to make the model's outputs those of the teacher, with mixtures of samples too; says what came
    /// of it, if that is possible.
    fn together(
        &mut self,
        guard: &Guard,
        layers: &[Layer],
        wanted: &HashSet<&str>,
        seed: u64,
        work: f64,
        setting: &Setting,
    ) -> Result<Option<String>> {
        let Some(block) = blocks::whole(self.model, layers, &guard.names) else { return Ok(None) };
        let trained: Vec<&str> = block.layers.iter().map(String::as_str).filter(|l| wanted.contains(l)).collect();
        let Extended { samples, real } = mix::extended(setting.samples)?;
        let course = Course {
            block: &block,
            trained: &trained,
            work,
            rate: TOGETHER_RATE,
            seed,
            what: "recovery of the whole model",
            levels: &Levels::new(),
            whole: true,
            classes: guard.classes.as_deref(),
            real,
        };
        Ok(match self.block(&course, &Setting { samples: &samples, ..*setting })? {
            Done::Trained(errors) => Some(text(&errors)),
            Done::Left(_) => None,
        })
    }

    /// Trains a block, or takes what it was trained to before; says what came of it.
    fn kept_block(&mut self, number: usize, course: &Course, setting: &Setting) -> Result<String> {
        let trained = |student: &mut Student| {
            student.block(course, setting).map(|done| match done {
                Done::Trained(errors) => text(&errors),
                Done::Left(reason) => reason,
            })
        };
        if !setting.cache.keeps() {
            return trained(self);
        }
        let make = || Ok((trained(self)?, self.model.clone(), self.codes.clone()));
        let (reason, model, codes) = setting.cache.get("block", number, make)?;
        (*self.model, *self.codes) = (model, codes);
        Ok(reason)
    }

    /// Trains a block.
    fn block(&mut self, course: &Course, setting: &Setting) -> Result<Done> {
        let saved = self.model.clone();
        let mut layers = self.trained(course.trained, setting)?;
        if layers.is_empty() {
            return Ok(Done::Left("its weights are shared".to_string()));
        }
        let material = match self.material(course, &layers, setting) {
            Ok(material) => material,
            Err(error @ Error::Unsupported(_)) => {
                *self.model = saved;
                if course.whole {
                    return Ok(Done::Left(error.to_string()));
                }
                return self.refit(course, setting).map(|done| Done::Left(format!("{done}: {error}")));
            }
            Err(error) => return Err(error.within(course.what)),
        };
        let wanted: Vec<&Wanted> = material.examples.iter().map(|e| &e.wanted).collect();
        let target = match course.whole {
            true => Target::outputs(&wanted, &material.examples[0].program.output_shapes(), course.classes)?,
            false => Target::numbers(&wanted),
        };
        let lesson = Lesson::new(material, target);
        let [least, most] = if course.whole { WHOLE_STEPS } else { STEPS };
        let steps = (course.work / lesson.work().max(1) as f64).clamp(least, most) as usize;
        let before = lesson.judge(&layers)?;
        if before < NOTHING {
            *self.model = saved;
            return Ok(Done::Left(NOTHING_LOST.to_string()));
        }
        let plan = Plan { steps, rate: course.rate, seed: course.seed, progress: setting.progress };
        setting.progress.begin(course.what, plan.all_steps());
        let adjusted = self.adjusted(&layers, course, setting)?;
        if lesson.judge(&adjusted)? < before {
            layers = adjusted;
        }
        let errors = Errors { before, ..lesson.train(&mut layers, &plan)? };
        if errors.after >= errors.before {
            *self.model = saved;
            return Ok(Done::Trained(errors));
        }
        for layer in &layers {
            if let Some(codes) = layer.write(self.model)? {
                self.codes.insert(layer.layer.output.clone(), codes);
            }
        }
        Ok(Done::Trained(errors))
    }

    /// Layers whose channels have the teacher's means and deviations.
    fn adjusted(&self, layers: &[Trained], course: &Course, setting: &Setting) -> Result<Vec<Trained>> {
        let mut adjusted = layers.to_vec();
        let known = |t: &Trained| course.levels.get(&t.layer.output).is_some_and(|l| l.len() == t.layer.rows());
        let there: Vec<Layer> = layers.iter().filter(|t| known(t)).map(|t| t.layer.clone()).collect();
        if there.is_empty() {
            return Ok(adjusted);
        }
        let own = levels(&self.rounding()?, &there, setting)?;
        for trained in &mut adjusted {
            let output = &trained.layer.output;
            let (Some(own), Some(wanted)) = (own.get(output), course.levels.get(output)) else { continue };
            let ways: Vec<[f32; 2]> =
                own.iter().zip(wanted).map(|(&own, &wanted): (&Level, &Level)| way(own, wanted)).collect();
            trained.adjust(&ways);
        }
        Ok(adjusted)
    }

    /// The layers under training; each has a bias from now on, if it can.
    fn trained(&mut self, outputs: &[&str], setting: &Setting) -> Result<Vec<Trained>> {
        let mut found = Vec::new();
        for output in outputs {
            let (_, mut layer) = layers::again(self.model, output)?;
            if layer.recurrence().is_some() {
                layer.bias = None;
            }
            if self.model.users(&layer.weights).len() != 1 {
                continue;
            }
            match layer.bias.clone().and_then(|b| b.name) {
                Some(name) if self.model.users(&name).len() != 1 => layer.bias = None,
                Some(_) => {}
                None if layer.bias.is_some() => {
                    layer.set_bias(self.model, &vec![0.0; layer.rows()])?;
                    layer = layers::again(self.model, output)?.1;
                }
                None => {}
            }
            found.push(layer);
        }
        let free = |l: &&Layer| l.recurrence().is_none() && !self.codes.contains_key(&l.output);
        let floats: Vec<Layer> = found.iter().filter(free).cloned().collect();
        setting.progress.begin("what layers read and give", 2 * setting.samples.len());
        let spreads = spreads(&self.rounding()?, &floats, setting)?;
        let trained = |layer: &Layer| {
            let name = &layer.output;
            Trained::new(self.model, layer, self.codes.get(name), self.given.get(name), spreads.get(name))
        };
        found.iter().map(trained).collect()
    }
}
