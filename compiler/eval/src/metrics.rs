//! The metrics: one table row each.
//!
//! Contract: a metric is computed from one row of numbers per sample, so that the samples can be weighted afterwards for
//! confidence intervals. Classes and texts are read from the model's first output, distances from all of its outputs.

use mcc_ir::{Error, Result};

use crate::rows::{Rows, Value, f1, precision, recall};
use crate::score::{Case, accuracy, agreement, characters, cosine, errors, pairs, powers, scores, top};

/// What a metric compares a model's outputs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// The number of a class, from the labels.
    Class,
    /// A text, from the labels.
    Text,
    /// Numbers from the labels; the outputs of the first model without labels.
    Numbers,
    /// The outputs of the first model.
    Reference,
}

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// What is compared with.
    pub truth: Truth,
    /// Whether a higher value is better.
    pub higher: bool,
    /// How it is printed.
    pub unit: Unit,
    /// The row of a sample.
    row: fn(&Case<'_>) -> Result<Vec<f64>>,
    /// The value of all rows.
    value: Value,
}

/// How a value is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share, as percents.
    Percent,
    /// Decibels.
    Decibel,
    /// A plain number.
    Number,
}

/// Every metric. `relative-l2` and `sqnr` are over the outputs of all samples together, `cosine` is a mean over samples.
pub const METRICS: &[Metric] = &[
    row("top1", "the class of the largest score is right", Truth::Class, true, Unit::Percent, |c| top(c, 1), RATIO),
    row("top5", "the class is among the five largest scores", Truth::Class, true, Unit::Percent, |c| top(c, 5), RATIO),
    row("accuracy", "the class found is right", Truth::Class, true, Unit::Percent, accuracy, RATIO),
    row(
        "precision",
        "of those found, the share that is right",
        Truth::Class,
        true,
        Unit::Percent,
        pairs,
        Value::Classes(precision),
    ),
    row(
        "recall",
        "of those wanted, the share that is found",
        Truth::Class,
        true,
        Unit::Percent,
        pairs,
        Value::Classes(recall),
    ),
    row("f1", "harmonic mean of precision and recall", Truth::Class, true, Unit::Percent, pairs, Value::Classes(f1)),
    row(
        "auc",
        "area under the receiver's curve, of two classes",
        Truth::Class,
        true,
        Unit::Percent,
        scores,
        Value::Area,
    ),
    row("cer", "wrong characters per character", Truth::Text, false, Unit::Percent, characters, RATIO),
    row("mse", "mean squared error", Truth::Numbers, false, Unit::Number, |c| errors(c, |e| e * e), RATIO),
    row("mae", "mean absolute error", Truth::Numbers, false, Unit::Number, |c| errors(c, f64::abs), RATIO),
    row("cosine", "cosine of the outputs and the first model's", Truth::Reference, true, Unit::Number, cosine, RATIO),
    row(
        "relative-l2",
        "distance from the first model's outputs, by their length",
        Truth::Reference,
        false,
        Unit::Number,
        powers,
        Value::Sums(relative),
    ),
    row(
        "sqnr",
        "power of the first model's outputs, by that of the error",
        Truth::Reference,
        true,
        Unit::Decibel,
        powers,
        Value::Sums(|e, s| 10.0 * (s / e).log10()),
    ),
    row("agreement", "the class is that of the first model", Truth::Reference, true, Unit::Percent, agreement, RATIO),
];

fn relative(error: f64, signal: f64) -> f64 {
    if error == 0.0 { 0.0 } else { (error / signal).sqrt() }
}

const RATIO: Value = Value::Sums(|a, b| a / b);

/// A row of the table.
#[allow(clippy::too_many_arguments, reason = "the columns of a table")]
const fn row(
    name: &'static str,
    about: &'static str,
    truth: Truth,
    higher: bool,
    unit: Unit,
    row: fn(&Case<'_>) -> Result<Vec<f64>>,
    value: Value,
) -> Metric {
    Metric { name, about, truth, higher, unit, row, value }
}

/// The metric with a name.
///
/// # Errors
/// When there is none; the error lists all.
pub fn find(name: &str) -> Result<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name).ok_or_else(|| {
        let known: Vec<String> = METRICS.iter().map(|metric| metric.name.to_string()).collect();
        let near = mcc_data::preprocess::schema::nearest(name, &known);
        Error::usage(format!("no metric {name:?}")).help(format!("{near}metrics are {}", known.join(", ")))
    })
}

impl Metric {
    /// The row of a sample.
    ///
    /// # Errors
    /// When outputs or label are not of the metric's kind.
    pub fn row(&self, case: &Case<'_>) -> Result<Vec<f64>> {
        (self.row)(case).map_err(|e| e.within(format!("metric {}", self.name)))
    }

    /// The rows of all samples, prepared for [`Rows::value`].
    pub fn rows(&self, rows: Vec<Vec<f64>>) -> Rows {
        Rows::new(self.value, rows)
    }

    /// A value for people.
    pub fn show(&self, value: f64) -> String {
        self.unit.show(value)
    }
}

impl Unit {
    /// A value for people.
    pub fn show(self, value: f64) -> String {
        match self {
            _ if value.is_nan() => "-".to_string(),
            Unit::Percent => format!("{:.2} %", value * 100.0),
            Unit::Decibel if value == f64::INFINITY => "exact".to_string(),
            Unit::Decibel => format!("{value:.1} dB"),
            Unit::Number if value == 0.0 => "0".to_string(),
            Unit::Number if value.abs() < 1e-3 => format!("{value:.2e}"),
            Unit::Number => format!("{value:.5}"),
        }
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
