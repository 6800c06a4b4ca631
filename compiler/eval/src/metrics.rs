//! The metrics: one table row each.
//!
//! Contract: a metric is computed from one row of numbers per sample, so that the samples can be weighted afterwards for
//! confidence intervals. Classes and texts are read from the model's first output, distances from all of its outputs.

use mcc_data::preprocess::Ctc;
use mcc_data::{Label, edit_distance};
use mcc_ir::{DType, Error, Result, Tensor};

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

/// How rows become a value.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// Of rows `[a, b]`, a function of the sums of all a and all b.
    Sums(fn(f64, f64) -> f64),
    /// Of rows of pairs `[class found, class wanted, ...]`, a function of each class's counts.
    Classes(fn(&Counts) -> f64),
    /// Of rows of pairs `[score, class wanted, ...]`, the area under the curve.
    Area,
}

/// A sample's outputs and what they are compared with.
#[derive(Debug)]
pub struct Case<'a> {
    /// The model's outputs.
    pub outputs: &'a [Tensor],
    /// Those of the first model.
    pub reference: &'a [Tensor],
    /// The sample's label.
    pub label: Option<&'a Label>,
    /// The characters of the first output.
    pub ctc: Option<&'a Ctc>,
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
    pub fn rows(&'static self, rows: Vec<Vec<f64>>) -> Rows {
        let mut order: Vec<Place> = Vec::new();
        if matches!(self.value, Value::Area) {
            for (sample, row) in rows.iter().enumerate() {
                order.extend(row.chunks_exact(2).map(|pair| Place { sample, score: pair[0], positive: pair[1] > 0.0 }));
            }
            order.sort_by(|a, b| a.score.total_cmp(&b.score));
        }
        Rows { metric: self, rows, order }
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
            Unit::Number if value != 0.0 && value.abs() < 1e-3 => format!("{value:.2e}"),
            Unit::Number => format!("{value:.5}"),
        }
    }
}

/// The rows of all samples.
#[derive(Debug)]
pub struct Rows {
    metric: &'static Metric,
    /// In the samples' order.
    pub rows: Vec<Vec<f64>>,
    /// For the area under a curve: by score.
    order: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    sample: usize,
    score: f64,
    positive: bool,
}

impl Rows {
    /// The metric's value, with each sample counted as often as `weights` says.
    pub fn value(&self, weights: &[u32]) -> f64 {
        let weighted = || self.rows.iter().zip(weights).filter(|(_, w)| **w > 0).map(|(row, w)| (row, f64::from(*w)));
        match self.metric.value {
            Value::Sums(f) => {
                let (mut a, mut b) = (0.0, 0.0);
                weighted().for_each(|(row, w)| (a, b) = (a + w * row[0], b + w * row[1]));
                f(a, b)
            }
            Value::Classes(f) => {
                let mut counts = Counts::default();
                for (row, w) in weighted() {
                    row.chunks_exact(2).for_each(|pair| counts.add(pair[0] as usize, pair[1] as usize, w));
                }
                f(&counts)
            }
            Value::Area => self.area(weights),
        }
    }

    /// The value of one sample alone.
    pub fn of(&self, sample: usize) -> f64 {
        let mut weights = vec![0; sample + 1];
        weights[sample] = 1;
        match self.metric.value {
            Value::Sums(f) => f(self.rows[sample][0], self.rows[sample][1]),
            Value::Classes(_) => {
                let pairs = self.rows[sample].chunks_exact(2);
                let count = pairs.len().max(1) as f64;
                pairs.filter(|pair| pair[0] == pair[1]).count() as f64 / count
            }
            // How much the score is on the wanted side.
            Value::Area => self.rows[sample].chunks_exact(2).map(|p| if p[1] > 0.0 { p[0] } else { -p[0] }).sum(),
        }
    }

    /// The chance that a positive has a higher score than a negative; equal scores count half (Mann and Whitney 1947).
    fn area(&self, weights: &[u32]) -> f64 {
        let (mut negatives, mut positives, mut above) = (0.0, 0.0, 0.0);
        let mut at = 0;
        while at < self.order.len() {
            let score = self.order[at].score;
            let (mut tied_negatives, mut tied_positives) = (0.0, 0.0);
            while let Some(place) = self.order.get(at).filter(|place| place.score == score) {
                let w = f64::from(weights.get(place.sample).copied().unwrap_or(0));
                *(if place.positive { &mut tied_positives } else { &mut tied_negatives }) += w;
                at += 1;
            }
            above += tied_positives * (negatives + tied_negatives / 2.0);
            (negatives, positives) = (negatives + tied_negatives, positives + tied_positives);
        }
        above / (negatives * positives)
    }
}

/// Per class: how often it was found and wanted, only found, only wanted.
#[derive(Debug, Default)]
struct Counts {
    right: Vec<f64>,
    found: Vec<f64>,
    wanted: Vec<f64>,
}

impl Counts {
    fn add(&mut self, found: usize, wanted: usize, weight: f64) {
        let count = self.right.len().max(found.max(wanted) + 1);
        for counts in [&mut self.right, &mut self.found, &mut self.wanted] {
            counts.resize(count, 0.0);
        }
        self.found[found] += weight;
        self.wanted[wanted] += weight;
        if found == wanted {
            self.right[found] += weight;
        }
    }

    /// Of two classes the value of the second, which is the positive one; of more the mean over those that are wanted.
    fn mean(&self, value: impl Fn(usize) -> f64) -> f64 {
        let classes: Vec<usize> = match self.right.len() {
            0 => return f64::NAN,
            1 | 2 => vec![self.right.len() - 1],
            n => (0..n).filter(|&class| self.wanted[class] > 0.0).collect(),
        };
        classes.iter().map(|&class| value(class)).sum::<f64>() / classes.len() as f64
    }
}

/// 0 where nothing was found, as in scikit-learn.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn precision(counts: &Counts) -> f64 {
    counts.mean(|class| share(counts.right[class], counts.found[class]))
}

fn recall(counts: &Counts) -> f64 {
    counts.mean(|class| share(counts.right[class], counts.wanted[class]))
}

fn f1(counts: &Counts) -> f64 {
    counts.mean(|class| share(2.0 * counts.right[class], counts.found[class] + counts.wanted[class]))
}

/// The first output as rows of scores: the last axis is that of classes.
struct Scores {
    values: Vec<f64>,
    classes: usize,
}

impl Scores {
    fn of(outputs: &[Tensor]) -> Result<Scores> {
        let first = outputs.first().ok_or_else(|| Error::invalid("the model has no outputs"))?;
        let classes = first.shape().last().copied().unwrap_or(1).max(1);
        Ok(Scores { values: first.to_f64s(), classes })
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.classes)
    }
}

/// The classes that a model finds, one for each row of scores; the number of classes, if there are scores for each.
fn classes(outputs: &[Tensor]) -> Result<(Vec<usize>, Option<usize>)> {
    let first = outputs.first().ok_or_else(|| Error::invalid("the model has no outputs"))?;
    // Integers of 8 bits are quantized scores.
    if !first.dtype().is_float() && first.dtype() != DType::U8 && first.dtype() != DType::I8 {
        // The model itself chose.
        let found = first.to_i64s().into_iter().map(|class| usize::try_from(class).unwrap_or(usize::MAX >> 12));
        return Ok((found.collect(), None));
    }
    let scores = Scores::of(outputs)?;
    let found = match scores.classes {
        1 => scores.values.iter().map(|&v| usize::from(v > 0.5)).collect(),
        _ => scores.rows().map(largest).collect(),
    };
    Ok((found, Some(scores.classes.max(2))))
}

/// The place of the largest score, the first of equal ones.
fn largest(scores: &[f64]) -> usize {
    let better = |best: usize, n: usize| if scores[n] > scores[best] { n } else { best };
    (1..scores.len()).fold(0, better)
}

/// The classes that are wanted, one for each of `rows`.
fn wanted(case: &Case<'_>, rows: usize, classes: Option<usize>) -> Result<Vec<usize>> {
    let label = case.label.ok_or_else(|| Error::internal("a metric of labels without a label"))?;
    let found = match (label.class(), label.numbers()) {
        (Some(class), _) => vec![class],
        (None, Some(numbers)) if numbers.iter().all(|v| v.fract() == 0.0 && *v >= 0.0) => {
            numbers.iter().map(|&v| v as usize).collect()
        }
        _ => return Err(Error::invalid(format!("the label {:?} is not the number of a class", label.shown()))),
    };
    if found.len() != rows {
        let text = format!("the label has {} classes, the model's first output {rows} rows of scores", found.len());
        return Err(Error::invalid(text));
    }
    if let Some((class, count)) = classes.and_then(|count| Some((found.iter().find(|c| **c >= count)?, count))) {
        return Err(Error::invalid(format!("the label is class {class}, the model has {count} classes, from 0 on")));
    }
    Ok(found)
}

fn top(case: &Case<'_>, count: usize) -> Result<Vec<f64>> {
    let scores = Scores::of(case.outputs)?;
    if scores.classes < 2 {
        let shape = case.outputs[0].shape();
        return Err(Error::invalid(format!("the first output is {shape:?}, without an axis of scores"))
            .help("--metric accuracy takes one score, or the number of a class"));
    }
    let wanted = wanted(case, scores.values.len() / scores.classes, Some(scores.classes))?;
    let higher = |row: &[f64], class: usize| {
        let better = |n: &usize| row[*n] > row[class] || row[*n] == row[class] && *n < class;
        (0..row.len()).filter(better).count()
    };
    // A score that is not a number is never right.
    let right =
        scores.rows().zip(&wanted).filter(|(row, class)| !row[**class].is_nan() && higher(row, **class) < count);
    Ok(vec![right.count() as f64, wanted.len() as f64])
}

fn accuracy(case: &Case<'_>) -> Result<Vec<f64>> {
    let (found, count) = classes(case.outputs)?;
    let wanted = wanted(case, found.len(), count)?;
    let right = found.iter().zip(&wanted).filter(|(a, b)| a == b).count();
    Ok(vec![right as f64, wanted.len() as f64])
}

fn pairs(case: &Case<'_>) -> Result<Vec<f64>> {
    let (found, count) = classes(case.outputs)?;
    let wanted = wanted(case, found.len(), count)?;
    Ok(found.iter().zip(&wanted).flat_map(|(&found, &wanted)| [found as f64, wanted as f64]).collect())
}

fn scores(case: &Case<'_>) -> Result<Vec<f64>> {
    let scores = Scores::of(case.outputs)?;
    let score = |row: &[f64]| match row {
        [one] => Some(*one),
        [no, yes] => Some(yes - no),
        _ => None,
    };
    let found: Option<Vec<f64>> = scores.rows().map(score).collect();
    let found = found.ok_or_else(|| Error::invalid(format!("{} classes, not two", scores.classes)))?;
    let wanted = wanted(case, found.len(), Some(2))?;
    Ok(found.iter().zip(&wanted).flat_map(|(&score, &wanted)| [score, wanted as f64]).collect())
}

/// The text of a model that gives a class per step: repeated classes count once, blanks are left out (Graves et al. 2006,
/// best path).
///
/// # Errors
/// When the first output is not \[1, steps, classes\] or \[steps, classes\].
pub fn decode(outputs: &[Tensor], ctc: &Ctc) -> Result<String> {
    let scores = Scores::of(outputs)?;
    if scores.classes != ctc.classes.len() {
        let text = format!("{} classes in the first output, {} in the vocabulary", scores.classes, ctc.classes.len());
        return Err(Error::invalid(text).help("classes are the lines of the file, those of `more`, and the blank"));
    }
    let path: Vec<usize> = match outputs[0].dtype().is_float() {
        true => scores.rows().map(largest).collect(),
        false => return Err(Error::unsupported("text of integer scores")),
    };
    let kept = path.iter().enumerate().filter(|&(n, class)| *class != ctc.blank && (n == 0 || path[n - 1] != *class));
    Ok(kept.map(|(_, class)| ctc.classes[*class].as_str()).collect())
}

fn characters(case: &Case<'_>) -> Result<Vec<f64>> {
    let ctc = case.ctc.ok_or_else(|| Error::internal("a metric of text without a vocabulary"))?;
    let wanted = case.label.and_then(Label::text).ok_or_else(|| Error::internal("a metric of text without a label"))?;
    let found: Vec<char> = decode(case.outputs, ctc)?.chars().collect();
    let wanted: Vec<char> = wanted.chars().collect();
    Ok(vec![edit_distance(&found, &wanted) as f64, wanted.len() as f64])
}

/// All outputs as numbers, and those of the first model.
fn both(case: &Case<'_>) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut found, mut wanted) = (Vec::new(), Vec::new());
    if case.outputs.len() != case.reference.len() {
        let text = format!("{} outputs, the first model has {}", case.outputs.len(), case.reference.len());
        return Err(Error::invalid(text));
    }
    for (n, (output, reference)) in case.outputs.iter().zip(case.reference).enumerate() {
        if output.shape() != reference.shape() {
            let text = format!("output {n} is {}, the first model's {}", output.ty(), reference.ty());
            return Err(Error::invalid(text));
        }
        found.extend(output.to_f64s());
        wanted.extend(reference.to_f64s());
    }
    Ok((found, wanted))
}

fn errors(case: &Case<'_>, of: fn(f64) -> f64) -> Result<Vec<f64>> {
    let (found, wanted) = match case.label {
        Some(label) => {
            let numbers = label.numbers().ok_or_else(|| Error::invalid("the label is not a number"))?;
            let outputs = case.outputs.first().map(Tensor::to_f64s).unwrap_or_default();
            if numbers.len() != outputs.len() {
                let text = format!("the label has {} numbers, the first output {}", numbers.len(), outputs.len());
                return Err(Error::invalid(text));
            }
            (outputs, numbers)
        }
        None => both(case)?,
    };
    let sum = found.iter().zip(&wanted).map(|(a, b)| of(a - b)).sum();
    Ok(vec![sum, found.len() as f64])
}

fn cosine(case: &Case<'_>) -> Result<Vec<f64>> {
    let (found, wanted) = both(case)?;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let lengths = (dot(&found, &found) * dot(&wanted, &wanted)).sqrt();
    // Equal outputs have an angle of 0, also where there are only zeros.
    let cosine = if found == wanted { 1.0 } else { dot(&found, &wanted) / lengths };
    Ok(vec![if cosine.is_finite() { cosine } else { 0.0 }, 1.0])
}

/// The power of the error, and that of the first model's outputs.
fn powers(case: &Case<'_>) -> Result<Vec<f64>> {
    let (found, wanted) = both(case)?;
    let error = found.iter().zip(&wanted).map(|(a, b)| (a - b) * (a - b)).sum();
    Ok(vec![error, wanted.iter().map(|v| v * v).sum()])
}

fn agreement(case: &Case<'_>) -> Result<Vec<f64>> {
    let (found, _) = classes(case.outputs)?;
    let (wanted, _) = classes(case.reference)?;
    if found.len() != wanted.len() {
        return Err(Error::invalid(format!("{} classes, the first model has {}", found.len(), wanted.len())));
    }
    Ok(vec![found.iter().zip(&wanted).filter(|(a, b)| a == b).count() as f64, found.len() as f64])
}

/// What a model says of a sample, for a report: a text, a class with its score, or the first numbers.
pub fn shown(outputs: &[Tensor], ctc: Option<&Ctc>) -> String {
    if let Some(text) = ctc.and_then(|ctc| decode(outputs, ctc).ok()) {
        return text;
    }
    let Ok(scores) = Scores::of(outputs) else { return String::new() };
    if scores.values.len() == scores.classes && scores.classes > 1 {
        let class = largest(&scores.values);
        return format!("{class} ({:.3})", scores.values[class]);
    }
    let first: Vec<String> = scores.values.iter().take(4).map(|v| format!("{v:.3}")).collect();
    format!("{}{}", first.join(", "), if scores.values.len() > 4 { ", ..." } else { "" })
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
