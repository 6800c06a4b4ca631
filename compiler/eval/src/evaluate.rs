//! Runs models on samples.
//!
//! Contract: the same seed gives the same values, whatever the number of threads; only times differ. Every model sees the
//! same samples, and times are measured in turn, so that differences are of the models.

use mcc_data::preprocess::Ctc;
use mcc_data::{Label, Port, Samples};
use mcc_ir::{Dim, Error, Result};

use crate::evaluation::{Evaluation, Measure, Outcome, Worth};
use crate::metrics::{self, Metric, Truth};
use crate::run::{Options, Run, Subject};

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
