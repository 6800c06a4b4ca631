//! The row of numbers that a metric needs of a sample.

use mcc_data::preprocess::Ctc;
use mcc_data::{Label, edit_distance};
use mcc_ir::{Error, Result, Tensor};

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

/// The first output as rows of scores: the last axis is that of classes.
struct Scores {
    values: Vec<f64>,
    classes: usize,
}

impl Scores {
    fn of(outputs: &[Tensor]) -> Result<Scores> {
        let first = first(outputs)?;
        if is_choice(first) {
            return Err(Error::invalid(format!(
                "the first output is {}, the numbers of classes, not scores",
                first.ty()
            ))
            .help("--metric accuracy takes those"));
        }
        let classes = first.shape().last().copied().unwrap_or(1).max(1);
        Ok(Scores { values: first.to_f64s(), classes })
    }

    /// The same for a label of as many classes as there are scores: then each score is that of a decision between two.
    fn of_label(outputs: &[Tensor], label: Option<&Label>) -> Result<Scores> {
        let mut scores = Scores::of(outputs)?;
        let wanted = label.and_then(Label::numbers).map_or(1, |numbers| numbers.len());
        if wanted > 1 && wanted == scores.values.len() {
            scores.classes = 1;
        }
        Ok(scores)
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.classes)
    }
}

fn first(outputs: &[Tensor]) -> Result<&Tensor> {
    outputs.first().ok_or_else(|| Error::invalid("the model has no outputs"))
}

/// Whether the model itself chose the class. Integers of 8 bits are quantized scores.
fn is_choice(output: &Tensor) -> bool {
    !output.dtype().is_float() && output.dtype().size() > 1
}

/// The classes that a model finds, one for each row of scores; the number of classes, if there are scores for each.
fn classes(outputs: &[Tensor], label: Option<&Label>) -> Result<(Vec<usize>, Option<usize>)> {
    let first = first(outputs)?;
    if is_choice(first) {
        let found = first.to_i64s().into_iter().map(|class| usize::try_from(class).unwrap_or(usize::MAX >> 12));
        return Ok((found.collect(), None));
    }
    let scores = Scores::of_label(outputs, label)?;
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

/// Rows with the wanted class among the `count` largest scores, and all rows.
///
/// # Errors
/// When outputs or label are of another kind.
pub fn top(case: &Case<'_>, count: usize) -> Result<Vec<f64>> {
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

/// Right classes, and all.
///
/// # Errors
/// When outputs or label are of another kind.
pub fn accuracy(case: &Case<'_>) -> Result<Vec<f64>> {
    let (found, count) = classes(case.outputs, case.label)?;
    let wanted = wanted(case, found.len(), count)?;
    let right = found.iter().zip(&wanted).filter(|(a, b)| a == b).count();
    Ok(vec![right as f64, wanted.len() as f64])
}

/// Pairs of the class found and the class wanted.
///
/// # Errors
/// When outputs or label are of another kind.
pub fn pairs(case: &Case<'_>) -> Result<Vec<f64>> {
    let (found, count) = classes(case.outputs, case.label)?;
    let wanted = wanted(case, found.len(), count)?;
    Ok(found.iter().zip(&wanted).flat_map(|(&found, &wanted)| [found as f64, wanted as f64]).collect())
}

/// Pairs of the score of the second of two classes and the class wanted.
///
/// # Errors
/// When outputs or label are of another kind.
pub fn scores(case: &Case<'_>) -> Result<Vec<f64>> {
    let scores = Scores::of_label(case.outputs, case.label)?;
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

/// Wrong characters, and wanted ones.
///
/// # Errors
/// When outputs or label are of another kind.
pub fn characters(case: &Case<'_>) -> Result<Vec<f64>> {
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

/// The sum of a function of all errors, and their number.
///
/// # Errors
/// When outputs or label are of another kind.
pub fn errors(case: &Case<'_>, of: fn(f64) -> f64) -> Result<Vec<f64>> {
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

/// The cosine of all outputs and the first model's, and 1.
///
/// # Errors
/// When outputs or label are of another kind.
pub fn cosine(case: &Case<'_>) -> Result<Vec<f64>> {
    let (found, wanted) = both(case)?;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let lengths = (dot(&found, &found) * dot(&wanted, &wanted)).sqrt();
    // Equal outputs have an angle of 0, also where there are only zeros.
    let cosine = if found == wanted { 1.0 } else { dot(&found, &wanted) / lengths };
    Ok(vec![if cosine.is_finite() { cosine } else { 0.0 }, 1.0])
}

/// The power of the error, and that of the first model's outputs.
///
/// # Errors
/// When the first model has other outputs.
pub fn powers(case: &Case<'_>) -> Result<Vec<f64>> {
    let (found, wanted) = both(case)?;
    let error = found.iter().zip(&wanted).map(|(a, b)| (a - b) * (a - b)).sum();
    Ok(vec![error, wanted.iter().map(|v| v * v).sum()])
}

/// Classes that are those of the first model, and all.
///
/// # Errors
/// When outputs or label are of another kind.
pub fn agreement(case: &Case<'_>) -> Result<Vec<f64>> {
    let (found, _) = classes(case.outputs, case.label)?;
    let (wanted, _) = classes(case.reference, case.label)?;
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
    let Ok(scores) = Scores::of(outputs) else {
        return outputs.first().map(|first| few(&first.to_f64s(), 0)).unwrap_or_default();
    };
    if scores.values.len() == scores.classes && scores.classes > 1 {
        let class = largest(&scores.values);
        return format!("{class} ({:.3})", scores.values[class]);
    }
    few(&scores.values, 3)
}

/// The first of some numbers.
fn few(values: &[f64], digits: usize) -> String {
    let first: Vec<String> = values.iter().take(4).map(|v| format!("{v:.digits$}")).collect();
    format!("{}{}", first.join(", "), if values.len() > 4 { ", ..." } else { "" })
}
