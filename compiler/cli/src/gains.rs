//! The page of `mcc compress --report`: what a compression gained and lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use mcc::driver;
use mcc::loader::Model as Loaded;
use mcc::{Options, Result};
use mcc_compress::model::Model;
use mcc_compress::observe::Progress;
use mcc_compress::search::sweep::Front;
use mcc_compress::session::Change;
use mcc_compress::times;
use mcc_data::Samples;
use mcc_eval::{LayerRow, Report, Subject, report};

use super::progress::Bar;

/// Seconds for which each model is timed, whole and by layers.
const SECONDS: f64 = 1.0;

/// What a page is made of.
pub struct Gains<'a> {
    /// The model given, and its file.
    pub before: &'a Model,
    /// Where it is.
    pub before_file: &'a Path,
    /// The compressed model.
    pub after: &'a Model,
    /// Where it will be.
    pub after_file: &'a Path,
    /// What happened to each layer.
    pub changes: &'a [Change],
    /// The recipe's text.
    pub recipe: &'a str,
    /// The candidates of a search for several budgets.
    pub front: Option<&'a Front>,
    /// The data.
    pub samples: &'a Samples,
    /// How models are compiled for this machine.
    pub options: &'a Options,
}

/// Measures both models and gives the page.
pub fn page(gains: &Gains, bar: &Bar) -> Result<String> {
    let bytes = [gains.before.encode()?, gains.after.encode()?];
    let compiled = bytes.iter().map(|b| driver::compile(b.clone(), gains.options)).collect::<Result<Vec<_>>>()?;
    let loaded = compiled.iter().map(|c| Loaded::load(c.object())).collect::<Result<Vec<_>>>()?;
    let name = |path: &Path| path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let names = [name(gains.before_file), name(gains.after_file)];
    let subjects: Vec<Subject> = (0..2)
        .map(|n| Subject {
            name: names[n].clone(),
            compiled: &compiled[n],
            loaded: &loaded[n],
            file_bytes: bytes[n].len() as u64,
        })
        .collect();
    bar.begin("what it is worth", gains.samples.len());
    let advance = |_| bar.advance();
    let options = mcc_eval::Options {
        metrics: mcc_eval::default_metrics(None, None),
        ctc: None,
        seed: 0,
        timing: Duration::from_secs_f64(SECONDS),
        pool: None,
        progress: &advance,
    };
    let evaluation = mcc_eval::evaluate(&subjects, gains.samples, None, &options)?;
    let title = format!("{}, compressed", names[0]);
    let (layers, recipe) = (rows(gains)?, Some(gains.recipe.to_string()));
    report::page(
        &Report { title, evaluation, layers, sweep: gains.front.map(Front::for_report), recipe },
        gains.samples,
    )
}

/// A row a layer, with its times.
fn rows(gains: &Gains) -> Result<Vec<LayerRow>> {
    let sample = gains.samples.read(0)?;
    let outputs: Vec<String> = gains.changes.iter().map(|c| c.output.clone()).collect();
    let time = Duration::from_secs_f64(SECONDS);
    let of = |model: &Model| times::of_layers(model, &outputs, &sample, gains.options, time);
    let (before, after) = (of(gains.before)?, of(gains.after)?);
    let ms = |times: &BTreeMap<String, f64>, change: &Change| times.get(&change.output).copied();
    let why = |c: &Change| match (ms(&before, c), ms(&after, c)) {
        (Some(before), Some(after)) if c.reason.is_empty() && after > 0.0 => {
            format!("{:.2} times as fast", before / after)
        }
        _ => c.reason.clone(),
    };
    let row = |c: &Change| LayerRow {
        name: c.layer.clone(),
        operator: c.of(),
        zeros: c.zeros,
        weight_bits: c.weight_bits,
        activation_bits: c.data_bits,
        error: Some(c.error),
        before_ms: ms(&before, c),
        after_ms: ms(&after, c),
        why: why(c),
    };
    Ok(gains.changes.iter().map(row).collect())
}
