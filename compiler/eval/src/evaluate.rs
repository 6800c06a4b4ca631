//! Runs models on samples.
//!
//! Contract: the same seed gives the same values, whatever the number of threads; only times differ. Every model sees the
//! same samples, and times are measured in turn, so that differences are of the models.

use std::time::Duration;

use mcc::Compiled;
use mcc::loader::Model;
use mcc_data::preprocess::Ctc;
use mcc_data::{Label, Port, Samples};
use mcc_ir::{Dim, Error, Result};
use serde::{Deserialize, Serialize};

use crate::metrics::{self, Metric, Truth};
use crate::run::Run;

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

/// What models are worth on samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of samples.
    pub samples: usize,
    /// Whether the samples have labels. Without them the first model is the reference.
    pub labelled: bool,
    /// The metrics.
    pub metrics: Vec<Measure>,
    /// The models, the reference first.
    pub models: Vec<Outcome>,
    /// The samples on which a model is the worst by the first metric; those of the last model.
    pub worst: Vec<Worst>,
}

/// A metric in an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Its name.
    pub name: String,
    /// What it is.
    pub about: String,
    /// Whether a higher value is better.
    pub higher_is_better: bool,
    /// Whether it compares with labels, not with the first model.
    pub of_labels: bool,
}

/// What a model is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// A value for each metric.
    pub values: Vec<Worth>,
    /// Median time of a run in milliseconds, if it was measured.
    pub median_ms: Option<f64>,
    /// Bytes of the model's file.
    pub file_bytes: u64,
    /// Bytes of code.
    pub text_bytes: u64,
    /// Bytes of weights.
    pub weights_bytes: u64,
    /// Bytes of working memory, the most that a sample needs.
    pub arena_bytes: u64,
}

/// A metric's value for a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worth {
    /// The value; absent if there is none, such as the precision where nothing is found, or an infinite ratio.
    pub value: Option<f64>,
    /// The value minus that of the first model, with its 95 % confidence interval: absent for the first model.
    pub difference: Option<Interval>,
}

/// A number with its confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The number.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// A sample on which a model is bad.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// Its number among the samples.
    pub sample: usize,
    /// Its name.
    pub name: String,
    /// The metric's value for the model, on this sample alone.
    pub value: f64,
    /// The same for the first model.
    pub first: f64,
    /// The label.
    pub label: Option<String>,
    /// What each model says.
    pub said: Vec<String>,
}

/// The metrics for what is known of the samples, if a user names none.
pub fn default_metrics(labels: Option<&[Label]>, ctc: Option<&Ctc>) -> Vec<&'static Metric> {
    let names: &[&str] = match labels {
        Some(_) if ctc.is_some() => &["cer"],
        Some(labels) if labels.iter().all(|label| label.class().is_some()) => &["accuracy"],
        Some(_) => &["mse", "mae"],
        None => &["relative-l2", "cosine", "sqnr"],
    };
    names.iter().filter_map(|name| metrics::find(name).ok()).collect()
}

/// The inputs that all models take, those of the first one. Each model comes with its name and its inputs.
///
/// # Errors
/// When a model has other inputs; the error lists every difference.
pub fn common_inputs(models: &[(String, Vec<Port>)]) -> Result<Vec<Port>> {
    let ((first, wanted), others) = models.split_first().ok_or_else(|| Error::usage("no model"))?;
    let mut faults = Vec::new();
    for (name, found) in others {
        if found.len() != wanted.len() || !wanted.iter().zip(found).all(|(a, b)| alike(a, b)) {
            let show =
                |ports: &[Port]| ports.iter().map(|p| format!("{}: {}", p.name, p.ty)).collect::<Vec<_>>().join("; ");
            let text = format!("{name} takes {}, but {first} takes {}", show(found), show(wanted));
            let help = "models are compared on the same samples: give those with the same inputs";
            faults.push(Error::invalid(text).help(help));
        }
    }
    Error::all(faults).map_or(Ok(wanted.clone()), Err)
}

/// Whether inputs have one name and may take the same tensors.
fn alike(a: &Port, b: &Port) -> bool {
    let same = |(x, y): (&Dim, &Dim)| x.as_const().zip(y.as_const()).is_none_or(|(x, y)| x == y);
    a.name == b.name
        && a.ty.dtype == b.ty.dtype
        && a.ty.rank() == b.ty.rank()
        && a.ty.shape.iter().zip(&b.ty.shape).all(same)
}

/// Runs the models on the samples and computes the metrics.
///
/// # Errors
/// When a metric does not suit labels or outputs (found with the first sample, before the others), or a model refuses a
/// sample.
pub fn evaluate(
    models: &[Subject<'_>],
    samples: &Samples,
    labels: Option<&[Label]>,
    options: &Options<'_>,
) -> Result<Evaluation> {
    check(samples, labels, options)?;
    let run = Run { models, samples, labels, options };
    // Whatever does not suit at all is found before the work.
    run.sample(0)?;
    let rows = run.all()?;
    let values = run.worths(&rows);
    let timings = run.timings()?;
    let outcome = |(m, (model, values)): (usize, (&Subject<'_>, Vec<Worth>))| Outcome {
        name: model.name.clone(),
        values,
        median_ms: timings[m].median_ms,
        file_bytes: model.file_bytes,
        text_bytes: model.compiled.code.text_bytes as u64,
        weights_bytes: model.compiled.code.weights_bytes as u64,
        arena_bytes: timings[m].arena_bytes as u64,
    };
    Ok(Evaluation {
        samples: samples.len(),
        labelled: labels.is_some(),
        metrics: options.metrics.iter().map(|metric| measure(metric, labels.is_some())).collect(),
        worst: run.worst(&rows)?,
        models: models.iter().zip(values).enumerate().map(outcome).collect(),
    })
}

fn measure(metric: &Metric, labelled: bool) -> Measure {
    Measure {
        name: metric.name.to_string(),
        about: metric.about.to_string(),
        higher_is_better: metric.higher,
        of_labels: metric.truth != Truth::Reference && labelled,
    }
}

/// What can be checked without running a model.
fn check(samples: &Samples, labels: Option<&[Label]>, options: &Options<'_>) -> Result<()> {
    let mut faults = Vec::new();
    if samples.is_empty() {
        faults.push(Error::invalid("there are no samples"));
    }
    if options.metrics.is_empty() {
        faults.push(Error::usage("no metric"));
    }
    for metric in &options.metrics {
        let name = metric.name;
        let needs = |what: &str| Error::usage(format!("--metric {name} needs {what}"));
        match (metric.truth, labels) {
            (Truth::Class | Truth::Text, None) => faults.push(needs("labels").help("give them with --labels FILE")),
            (Truth::Text, Some(_)) if options.ctc.is_none() => {
                let help = "write [output] with vocabulary and blank in the file for --preprocess";
                faults.push(needs("the characters of the model's classes").help(help));
            }
            (Truth::Text, Some(labels)) if labels.iter().any(|label| label.text().is_none()) => {
                faults.push(needs("labels that are text"));
            }
            (Truth::Class, Some(labels)) => {
                let wrong = labels.iter().position(|label| label.class().is_none() && label.numbers().is_none());
                faults.extend(wrong.map(|n| {
                    let (label, sample) = (labels[n].shown(), samples.name(n));
                    needs("labels that are numbers of classes").help(format!("that of {sample} is {label:?}"))
                }));
            }
            (Truth::Numbers, Some(labels)) => {
                let wrong = labels.iter().position(|label| label.numbers().is_none());
                faults.extend(wrong.map(|n| {
                    let (label, sample) = (labels[n].shown(), samples.name(n));
                    needs("labels that are numbers").help(format!("that of {sample} is {label:?}"))
                }));
            }
            _ => {}
        }
    }
    if labels.is_some_and(|labels| labels.len() != samples.len()) {
        faults.push(Error::internal("another number of labels than of samples"));
    }
    Error::all(faults).map_or(Ok(()), Err)
}
