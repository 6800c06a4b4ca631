//! The results of an evaluation, as plain data.

use serde::{Deserialize, Serialize};

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
