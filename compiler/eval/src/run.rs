//! An evaluation at work: runs, times, confidence intervals, the worst samples.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mcc::Compiled;
use mcc::loader::{Model, Session};
use mcc_data::preprocess::Ctc;
use mcc_data::{Label, Samples};
use mcc_ir::{Error, Random, Result, Tensor};
use rayon::prelude::*;

use crate::evaluation::{Interval, Worst, Worth};
use crate::metrics::Metric;
use crate::rows::Rows;
use crate::score::{self, Case};

/// Samples that are listed as the worst.
const WORST: usize = 12;

/// Resamplings for a confidence interval (the percentile bootstrap, Efron 1979).
const RESAMPLINGS: usize = 1000;

/// Samples on which times are measured, evenly among all.
const TIMED: usize = 8;

/// A model to evaluate.
pub struct Subject<'a> {
    /// Its name in reports.
    pub name: String,
    /// The compiled model.
    pub compiled: &'a Compiled,
    /// The same, loaded.
    pub loaded: &'a Model,
    /// Bytes of the model's file.
    pub file_bytes: u64,
}

/// How to evaluate.
pub struct Options<'a> {
    /// The metrics; the first one decides which samples are the worst.
    pub metrics: Vec<&'static Metric>,
    /// The characters of the models' first output.
    pub ctc: Option<&'a Ctc>,
    /// Seeds the resampling for confidence intervals.
    pub seed: u64,
    /// For how long to measure the time of each model; nothing is measured if it is 0.
    pub timing: Duration,
    /// Threads to measure on.
    pub pool: Option<&'a mcc_runtime::Pool>,
    /// Called with the number of samples done so far, from any thread.
    pub progress: &'a (dyn Fn(usize) + Sync),
}

/// What is evaluated.
pub struct Run<'a> {
    /// The models.
    pub models: &'a [Subject<'a>],
    /// The samples.
    pub samples: &'a Samples,
    /// Their labels.
    pub labels: Option<&'a [Label]>,
    /// How.
    pub options: &'a Options<'a>,
}

/// What was measured of a model.
pub struct Timing {
    /// Median time of a run in milliseconds.
    pub median_ms: Option<f64>,
    /// Bytes of working memory.
    pub arena_bytes: usize,
}

/// A sample's row for each metric.
type SampleRows = Vec<Vec<f64>>;

impl Run<'_> {
    /// The program's inputs of each model for a sample.
    fn inputs(&self, n: usize) -> Result<Vec<Vec<Tensor>>> {
        let inputs = self.samples.read(n)?;
        self.models.iter().map(|model| model.compiled.with_weights(inputs.clone())).collect()
    }

    /// Says of which model and sample an error is.
    fn place(&self, e: Error, model: usize, sample: usize) -> Error {
        e.within(format!("sample {}", self.samples.name(sample))).within(self.models[model].name.clone())
    }

    /// All models' outputs for a sample.
    fn outputs(&self, n: usize) -> Result<Vec<Vec<Tensor>>> {
        let run = |(m, inputs): (usize, Vec<Tensor>)| {
            let Subject { loaded, compiled, .. } = &self.models[m];
            let unmet = |e: Error| match compiled.program.unmet(&inputs) {
                Some(numbers) => e.help(format!("here {numbers}")),
                None => e,
            };
            loaded.invoke(&inputs).map_err(|e| self.place(unmet(e), m, n))
        };
        self.inputs(n)?.into_iter().enumerate().map(run).collect()
    }

    /// The rows of a sample, for each model.
    pub fn sample(&self, n: usize) -> Result<Vec<SampleRows>> {
        let outputs = self.outputs(n)?;
        let rows = |(m, found): (usize, &Vec<Tensor>)| {
            let label = self.labels.map(|labels| &labels[n]);
            let case = Case { outputs: found, reference: &outputs[0], label, ctc: self.options.ctc };
            let rows = self.options.metrics.iter().map(|metric| metric.row(&case)).collect::<Result<SampleRows>>();
            rows.map_err(|e| self.place(e, m, n))
        };
        outputs.iter().enumerate().map(rows).collect()
    }

    /// The rows of all samples: by model, then by metric.
    pub fn all(&self) -> Result<Vec<Vec<Rows>>> {
        let done = AtomicUsize::new(0);
        let sample = |n: usize| {
            let rows = self.sample(n)?;
            (self.options.progress)(done.fetch_add(1, Ordering::Relaxed) + 1);
            Ok(rows)
        };
        let samples: Vec<Vec<SampleRows>> =
            (0..self.samples.len()).into_par_iter().map(sample).collect::<Result<_>>()?;
        let column = |model: usize, metric: usize| samples.iter().map(|rows| rows[model][metric].clone()).collect();
        let of_model = |model: usize| {
            let metrics = self.options.metrics.iter().enumerate();
            metrics.map(|(n, metric)| metric.rows(column(model, n))).collect()
        };
        Ok((0..self.models.len()).map(of_model).collect())
    }

    /// The value of each metric for each model, with the confidence interval of its difference to the first model: the
    /// samples are drawn again and again, the same ones for both models.
    pub fn worths(&self, rows: &[Vec<Rows>]) -> Vec<Vec<Worth>> {
        let count = self.samples.len();
        let once = vec![1; count];
        let seeds = 0..RESAMPLINGS as u64;
        let draw = |n: u64| {
            let mut random = Random::new(self.options.seed.wrapping_mul(0x9e37_79b9).wrapping_add(n));
            let mut weights = vec![0; count];
            (0..count).for_each(|_| weights[random.below(count)] += 1);
            rows.iter().map(|metrics| metrics.iter().map(|m| m.value(&weights)).collect()).collect::<Vec<Vec<f64>>>()
        };
        let draws: Vec<Vec<Vec<f64>>> = match rows.len() {
            1 => Vec::new(),
            _ => seeds.into_par_iter().map(draw).collect(),
        };
        let worth = |model: usize, metric: usize| {
            let value = rows[model][metric].value(&once);
            let mut differences: Vec<f64> = draws.iter().map(|d| d[model][metric] - d[0][metric]).collect();
            // A resampling may have no value, such as an area without positives.
            differences.retain(|d| d.is_finite());
            differences.sort_by(f64::total_cmp);
            let difference = value - rows[0][metric].value(&once);
            let at =
                |share: f64| differences.get((share * (differences.len().max(1) - 1) as f64).round() as usize).copied();
            let interval = at(0.025).zip(at(0.975)).filter(|_| model > 0 && difference.is_finite());
            let difference = interval.map(|(low, high)| Interval { value: difference, low, high });
            Worth { value: Some(value).filter(|v| v.is_finite()), difference }
        };
        (0..rows.len()).map(|model| (0..rows[model].len()).map(|metric| worth(model, metric)).collect()).collect()
    }

    /// The times of all models, measured in turn.
    pub fn timings(&self) -> Result<Vec<Timing>> {
        let count = self.samples.len().min(TIMED);
        let chosen: Vec<usize> = (0..count).map(|n| n * self.samples.len() / count).collect();
        let inputs = chosen.iter().map(|&n| self.inputs(n)).collect::<Result<Vec<_>>>()?;
        let mut sessions: Vec<Vec<Session<'_>>> = Vec::new();
        for (m, model) in self.models.iter().enumerate() {
            let open = |(n, inputs): (usize, &Vec<Vec<Tensor>>)| {
                model.loaded.session(&inputs[m], self.options.pool).map_err(|e| self.place(e, m, chosen[n]))
            };
            sessions.push(inputs.iter().enumerate().map(open).collect::<Result<_>>()?);
        }
        let arena = |of: &Vec<Session<'_>>| of.iter().map(|session| session.arena_bytes).max().unwrap_or(0);
        let arenas: Vec<usize> = sessions.iter().map(arena).collect();
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); self.models.len()];
        let limit = self.options.timing * self.models.len() as u32;
        let start = Instant::now();
        let mut round = 0;
        // The first round of each sample pages in weights and code.
        while !limit.is_zero() && (round < 3 * count || start.elapsed() < limit) {
            for (m, sessions) in sessions.iter_mut().enumerate() {
                let begin = Instant::now();
                sessions[round % count].run()?;
                if round >= count {
                    times[m].push(begin.elapsed().as_secs_f64() * 1e3);
                }
            }
            round += 1;
        }
        let median = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied()
        };
        let timings = times.into_iter().zip(arenas);
        Ok(timings.map(|(times, arena_bytes)| Timing { median_ms: median(times), arena_bytes }).collect())
    }

    /// The samples on which the last model is worst by the first metric: where it loses most against the first model, then
    /// where it is worst by itself.
    pub fn worst(&self, rows: &[Vec<Rows>]) -> Result<Vec<Worst>> {
        let (Some(metric), Some(first), Some(last)) = (self.options.metrics.first(), rows.first(), rows.last()) else {
            return Ok(Vec::new());
        };
        let badness = |value: f64| if metric.higher { -value } else { value };
        let (own, others): (Vec<f64>, Vec<f64>) =
            (0..self.samples.len()).map(|n| (badness(last[0].of(n)), badness(first[0].of(n)))).unzip();
        let loss = |n: usize| if rows.len() > 1 { own[n] - others[n] } else { own[n] };
        let mut order: Vec<usize> = (0..own.len()).collect();
        order.sort_by(|&a, &b| loss(b).total_cmp(&loss(a)).then(own[b].total_cmp(&own[a])));
        let best = own.iter().copied().fold(f64::INFINITY, f64::min);
        // Samples that are as good as any are not bad.
        order.retain(|&n| own[n] > best);
        order.truncate(WORST);
        order.into_iter().map(|n| self.worst_at(n, [badness(own[n]), badness(others[n])])).collect()
    }

    fn worst_at(&self, n: usize, [value, first]: [f64; 2]) -> Result<Worst> {
        let said = self.outputs(n)?.iter().map(|outputs| score::shown(outputs, self.options.ctc)).collect();
        let label = self.labels.map(|labels| labels[n].shown());
        Ok(Worst { sample: n, name: self.samples.name(n).to_string(), value, first, label, said })
    }
}
