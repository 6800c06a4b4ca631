//! Candidates that are made, compiled and run: the [`Bench`] of real searches.
//!
//! For this machine times are measured: the least of runs in turns with the model as it is, whose time corrects for the
//! machine's changing speed. For another target they are predicted from the compiled program by the compiler's own figures
//! of work, which know multiply-adds, bytes and sparse forms but not a target's stalls. Bytes are those of the target's
//! object. Losses are always measured here.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mcc::driver::Compiled;
use mcc::kernel::program::{Place, Program, Step};
use mcc::loader::{self, timing, trace};
use mcc_data::Samples;
use mcc_ir::{Error, Result, Tensor};

use super::Figures;
use super::bench::{Bench, Parts};
use super::problem::{Assignment, Problem};
use super::sensitivity::{How, PROBES, Probe, Sensitivities, probes, scaled};
use crate::cache::NONE;
use crate::loss::{Loss, Teacher};
use crate::model::Model;
use crate::observe::{Progress, Setting, Silent};
use crate::ranges::Calibration;
use crate::recipe::{self, Recipe};
use crate::session::{self, Session};
use crate::times::by_label;

/// Samples of calibration, and held out, for the sensitivity of a layer.
const FEW: usize = 16;

/// Bytes of the given model's outputs that are kept.
const KEPT_BYTES: usize = 256 << 20;

/// Seconds of runs for each candidate.
const SECONDS: f64 = 0.4;

/// The share of the samples that is held out if there are not plenty.
const HELD_SHARE: usize = 4;

/// Samples held out at most.
const HELD: usize = 128;

/// Time that the sensitivities may take as whole models.
const PATIENCE: Duration = Duration::from_secs(600);

/// Samples for making candidates, and others for judging them.
#[derive(Debug, Clone)]
pub struct Split {
    /// Those that candidates are calibrated with: the ones that the recipe takes.
    pub calibration: Samples,
    /// The others.
    pub held: Samples,
    /// The recipe without steps that draws the former.
    pub recipe: Recipe,
}

impl Split {
    /// Splits samples: those that a recipe draws for calibration, but at most three quarters, and the others.
    ///
    /// # Errors
    /// When there are too few.
    pub fn new(samples: &Samples, plain: &Recipe) -> Result<Split> {
        let held = samples.len().div_ceil(HELD_SHARE);
        if samples.len() < 2 {
            return Err(Error::usage("one sample is too few to search with")
                .help("candidates are judged by samples that they were not made with; some 200 do well"));
        }
        let recipe = Recipe { samples: plain.samples.min(samples.len() - held), ..plain.clone() };
        let (calibration, rest) = samples.split(recipe.samples, recipe.seed);
        Ok(Split { calibration, held: rest.take(HELD, recipe.seed), recipe })
    }
}

/// What candidates are made of and measured with.
pub struct Machine<'a> {
    problem: &'a Problem,
    model: Model,
    plain: Recipe,
    calibration: Samples,
    held: Samples,
    few: Samples,
    teacher: Teacher,
    few_teacher: Teacher,
    /// How models are compiled for this machine.
    options: &'a mcc::Options,
    /// How they are compiled for another one.
    target: Option<&'a mcc::Options>,
    progress: &'a dyn Progress,
    /// The model as it is, ready to run, and its first measured time.
    float: Option<Ready>,
    float_ms: Option<f64>,
    /// The time that making and judging a candidate took.
    slowest: Duration,
}

/// By site, then option; `None` where it is not possible.
type Losses = Vec<Vec<Option<f64>>>;

/// A model that is ready to run, with inputs.
struct Ready {
    model: loader::Model,
    inputs: Vec<Tensor>,
}

impl<'a> Machine<'a> {
    /// Runs the model as it is on the samples that are held out.
    ///
    /// # Errors
    /// When it does not compile or run.
    pub fn new(
        problem: &'a Problem,
        model: Model,
        split: &Split,
        setting: &Setting<'a>,
        target: Option<&'a mcc::Options>,
    ) -> Result<Machine<'a>> {
        let judge = |samples: &Samples| {
            Teacher::new(&model, &Setting { samples, options: setting.options, progress: &Silent, cache: &NONE })
        };
        let bytes = judge(&split.held.take(1, 0))?.bytes().max(1);
        let held = split.held.take((KEPT_BYTES / bytes).max(1), 0);
        let few = held.take(FEW, 0);
        let (teacher, few_teacher) = (judge(&held)?, judge(&few)?);
        Ok(Machine {
            problem,
            plain: split.recipe.clone(),
            calibration: split.calibration.clone(),
            held,
            few,
            teacher,
            few_teacher,
            model,
            options: setting.options,
            target,
            progress: setting.progress,
            float: None,
            float_ms: None,
            slowest: Duration::ZERO,
        })
    }

    fn session(&self, assignment: &[usize]) -> Result<Session> {
        let setting = Setting { samples: &self.calibration, options: self.options, progress: &Silent, cache: &NONE };
        session::compress(self.model.clone(), &self.problem.recipe(assignment, &self.plain), &setting)
    }

    /// The same with few samples, and one method for ranges instead of the best of all.
    fn rough(&self, assignment: &[usize]) -> Result<Session> {
        let samples = self.calibration.take(FEW, 0);
        let setting = Setting { samples: &samples, options: self.options, progress: &Silent, cache: &NONE };
        let mut recipe = self.problem.recipe(assignment, &self.plain);
        for step in &mut recipe.steps {
            if let recipe::Step::Quantize(quantize) = step {
                quantize.calibration = Calibration::Mse;
            }
        }
        session::compress(self.model.clone(), &recipe, &setting)
    }

    fn judge(&self, model: &Model) -> Result<Loss> {
        self.teacher
            .loss(model, &Setting { samples: &self.held, options: self.options, progress: &Silent, cache: &NONE })
    }

    fn ready(&self, model: &Model) -> Result<Ready> {
        let compiled = mcc::compile(model.encode()?, self.options)?;
        self.loaded(&compiled)
    }

    fn loaded(&self, compiled: &Compiled) -> Result<Ready> {
        Ok(Ready { model: compiled.load()?, inputs: compiled.with_weights(self.held.read(0)?)? })
    }

    /// The time of each model, in turns with the model as it is.
    fn times(&mut self, models: &[Ready]) -> Result<Vec<f64>> {
        if self.float.is_none() {
            let float = self.session(&self.problem.uniform(0))?.written()?;
            self.float = Some(self.ready(&float)?);
        }
        let all = self.float.iter().chain(models);
        let sessions: Result<Vec<_>> = all.map(|r| r.model.session(&r.inputs, None)).collect();
        let mut sessions = sessions?;
        let time = Duration::from_secs_f64(SECONDS * sessions.len() as f64);
        let least = timing::least_ms(&mut sessions, time)?;
        let first = *self.float_ms.get_or_insert(least[0]);
        Ok(least[1..].iter().map(|ms| ms * first / least[0]).collect())
    }

    /// What each option of a site loses, measured; `None` where it is not possible.
    fn measured(&mut self, site: usize, option: usize) -> Result<Option<f64>> {
        let start = Instant::now();
        let mut assignment = self.problem.uniform(0);
        assignment[site] = option;
        let model = match self.rough(&assignment).and_then(|s| s.written()) {
            Ok(model) => model,
            Err(Error::Unsupported(_)) => return Ok(None),
            Err(error) => return Err(error.within(format!("layer \"{}\"", self.problem.sites[site].names[0]))),
        };
        let setting = Setting { samples: &self.few, options: self.options, progress: &Silent, cache: &NONE };
        let loss = self.few_teacher.loss(&model, &setting)?;
        self.slowest = self.slowest.max(start.elapsed());
        self.progress.advance();
        Ok(Some(loss.relative))
    }

    fn all_measured(&mut self, possible: &[Vec<usize>]) -> Result<Losses> {
        self.progress.begin("sensitivity of layers", possible.iter().map(|options| options.len() - 1).sum());
        let mut losses = self.nothing_lost();
        for (site, options) in possible.iter().enumerate() {
            for &option in options.iter().filter(|&&option| option > 0) {
                losses[site][option] = self.measured(site, option)?;
            }
        }
        Ok(losses)
    }

    /// Local errors of all sites with an option at once, scaled by probes; tables are measured, as their results are not
    /// those of sums.
    fn local(&mut self, possible: &[Vec<usize>]) -> Result<Losses> {
        let sites = self.problem.sites.len();
        let options: BTreeSet<usize> = possible.iter().flatten().copied().filter(|&option| option > 0).collect();
        self.progress.begin("sensitivity of layers", PROBES.min(sites) * options.len());
        let mut losses = self.nothing_lost();
        for option in options {
            let session = self.rough(&self.problem.uniform(option))?;
            let mut local = vec![0.0; sites];
            for change in &session.changes {
                if let Some(&site) = self.problem.by_output.get(&change.output) {
                    local[site] += change.error * change.error;
                }
            }
            local.iter_mut().for_each(|e| *e = e.sqrt());
            let is_table = |site: &usize| self.problem.sites[*site].members.iter().any(|m| m.is_table);
            let chosen: BTreeSet<usize> = probes(sites).into_iter().chain((0..sites).filter(is_table)).collect();
            let mut told = Vec::new();
            for site in chosen {
                told.extend(self.measured(site, option)?.map(|loss| Probe { site, loss }));
            }
            losses.iter_mut().zip(scaled(&local, &told)).for_each(|(l, loss)| l[option] = Some(loss));
        }
        Ok(losses)
    }

    /// Leaving a site as it is loses nothing.
    fn nothing_lost(&self) -> Losses {
        let mut site = vec![None; self.problem.options.len()];
        site[0] = Some(0.0);
        vec![site; self.problem.sites.len()]
    }
}

impl Bench for Machine<'_> {
    fn figures(&mut self, candidates: &[Assignment]) -> Result<Vec<Figures>> {
        self.progress.begin("measuring candidates", candidates.len());
        let (mut figures, mut models) = (Vec::new(), Vec::new());
        for assignment in candidates {
            let written = self.session(assignment)?.written()?;
            let loss = self.judge(&written)?;
            let compiled = mcc::compile(written.encode()?, self.target.unwrap_or(self.options))?;
            let bytes = (compiled.code.text_bytes + compiled.code.weights_bytes) as u64;
            let mut arena = compiled.arena_bytes.and_then(|b| u64::try_from(b).ok());
            let mut ms = f64::NAN;
            match self.target {
                Some(options) => {
                    let calls = predicted(&compiled.program, options, &self.held.read(0)?);
                    ms = calls.iter().sum::<f64>();
                }
                None => {
                    let ready = self.loaded(&compiled)?;
                    arena = Some(ready.model.session(&ready.inputs, None)?.arena_bytes as u64);
                    models.push(ready);
                }
            }
            figures.push(Figures { loss, ms, bytes, arena });
            self.progress.advance();
        }
        if self.target.is_none() && !models.is_empty() {
            let times = self.times(&models)?;
            figures.iter_mut().zip(times).for_each(|(f, ms)| f.ms = ms);
        }
        Ok(figures)
    }

    fn parts(&mut self, candidate: &Assignment) -> Result<Parts> {
        self.progress.begin("times of layers", 1);
        let written = self.session(candidate)?.written()?;
        let options = self.target.unwrap_or(self.options);
        let traced = mcc::Options { traced: self.target.is_none(), ..options.clone() };
        let compiled = mcc::compile(written.encode()?, &traced)?;
        let sample = self.held.read(0)?;
        let calls = match self.target {
            Some(options) => predicted(&compiled.program, options, &sample),
            None => {
                let ready = self.loaded(&compiled)?;
                let mut session = [ready.model.session(&ready.inputs, None)?];
                let overhead = trace::overhead();
                let least = timing::least_calls(&mut session, Duration::from_secs_f64(SECONDS))?;
                let ms = |t: Option<Duration>| t.map_or(0.0, |t| t.saturating_sub(overhead).as_secs_f64() * 1e3);
                least.into_iter().next().unwrap_or_default().into_iter().map(ms).collect()
            }
        };
        let mut parts = by_site(self.problem, &written, &compiled.program, &calls);
        let whole = (compiled.code.text_bytes + compiled.code.weights_bytes) as f64;
        parts.rest_bytes = (whole - parts.bytes.iter().sum::<f64>()).max(0.0);
        self.progress.advance();
        Ok(parts)
    }

    fn sensitivities(&mut self, problem: &Problem, possible: &[Vec<usize>]) -> Result<Sensitivities> {
        let count: usize = possible.iter().map(|options| options.len() - 1).sum();
        self.progress.begin("sensitivity of layers", 1);
        self.slowest = Duration::ZERO;
        // The last site's candidate computes the most.
        let last = possible.last().and_then(|options| options.last()).copied().unwrap_or(0);
        self.measured(problem.sites.len() - 1, last)?;
        match self.slowest.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)) <= PATIENCE {
            true => Ok(Sensitivities { how: How::Measured, losses: self.all_measured(possible)? }),
            false => Ok(Sensitivities { how: How::Local, losses: self.local(possible)? }),
        }
    }
}

/// Predicted milliseconds of a program's calls: work over the target's rates, and what a sparse form gains.
fn predicted(program: &Program, options: &mcc::Options, inputs: &[Tensor]) -> Vec<f64> {
    let sparse = |label: &str| {
        let decision = program.decisions.iter().find(|d| d.layer == label && d.zeros.is_some());
        decision.and_then(|d| d.gain).filter(|gain| *gain > 0.0).unwrap_or(1.0)
    };
    let ms = |call: mcc::kernel::program::Call<'_>| {
        let ns = program.value(&call.work.nanoseconds(&options.config.target), inputs).unwrap_or(0);
        ns as f64 * 1e-6 / sparse(call.label)
    };
    program.calls().map(ms).collect()
}

/// The times and constants of calls, by the site whose result they compute or continue.
fn by_site(problem: &Problem, model: &Model, program: &Program, calls: &[f64]) -> Parts {
    let labels = by_label(model, &problem.by_output);
    let sites = problem.sites.len();
    let mut parts = Parts { ms: vec![0.0; sites], bytes: vec![0.0; sites], rest_bytes: 0.0 };
    let mut counted = vec![false; program.constants.len()];
    let (mut number, mut last) = (0, 0);
    for step in program.all_steps() {
        let Step::Call { label, args, .. } = step else { continue };
        last = labels.get(label.as_str()).copied().unwrap_or(last);
        parts.ms[last] += calls.get(number).copied().unwrap_or(0.0);
        number += 1;
        for place in args {
            if let Place::Constant(n) = place
                && !std::mem::replace(&mut counted[*n], true)
            {
                parts.bytes[last] += program.constants[*n].data.len() as f64;
            }
        }
    }
    parts
}
