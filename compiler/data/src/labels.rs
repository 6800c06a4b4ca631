//! What is known of samples: a class, a text or numbers for each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use mcc_ir::{Error, Result, Tensor};
use mcc_onnx::file::read_text;

use crate::Samples;
use crate::array::Array;
use crate::files::Kind;

/// What is known of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Label {
    /// As it is written; it may be a number.
    Text(String),
    /// One number or several.
    Numbers(Vec<f64>),
}

impl Label {
    /// The number of a class.
    pub fn class(&self) -> Option<usize> {
        match self {
            Label::Text(text) => text.trim().parse().ok(),
            Label::Numbers(numbers) => match numbers[..] {
                [n] if n.fract() == 0.0 && (0.0..1e15).contains(&n) => Some(n as usize),
                _ => None,
            },
        }
    }

    /// A text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Label::Text(text) => Some(text),
            Label::Numbers(_) => None,
        }
    }

    /// Numbers: in text, separated by commas or blanks.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        match self {
            Label::Text(text) => {
                let words = text.split([',', ';', ' ', '\t']).filter(|word| !word.is_empty());
                let numbers: Vec<f64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
                Some(numbers).filter(|numbers| !numbers.is_empty() && numbers.iter().all(|v| v.is_finite()))
            }
            Label::Numbers(numbers) => Some(numbers.clone()),
        }
    }

    /// For messages and reports.
    pub fn shown(&self) -> String {
        match self {
            Label::Text(text) => text.clone(),
            Label::Numbers(numbers) => {
                let shown = numbers.iter().take(8).map(f64::to_string).collect::<Vec<_>>().join(", ");
                if numbers.len() > 8 { format!("{shown}, ...") } else { shown }
            }
        }
    }
}

/// Labels in a file:
///
/// | file | labels |
/// |---|---|
/// | `.npy`, `.npz` (its only array, the one named `labels` or `y`, or `FILE.npz:NAME`) | one for each step along the first axis |
/// | `.csv` of two columns and more | a sample's name, then its label; the name's extension may be missing |
/// | `.csv` of one column; `.txt` | a label a line, in the samples' order |
///
/// A first row of `.csv` whose first field is `sample`, `name`, `file` or `label` is a heading.
#[derive(Debug, Clone)]
pub struct Labels {
    file: PathBuf,
    /// The samples' names, if labels are not in their order.
    names: Option<Vec<String>>,
    labels: Vec<Label>,
}

/// Columns of a heading that are not a label's.
const HEADINGS: &[&str] = &["sample", "name", "file", "filename", "label"];

impl Labels {
    /// Reads labels.
    ///
    /// # Errors
    /// When the file cannot be read, or a label is missing.
    pub fn open(file: &Path) -> Result<Labels> {
        let (path, key) = split_key(file);
        let within = |e: Error| e.within(format!("labels {}", file.display()));
        let (names, labels) = match Kind::of(&path) {
            Kind::Npy => (None, rows(&Array::npy(&path)?).map_err(within)?),
            Kind::Npz => (None, rows(&pick(Array::npz(&path)?, key.as_deref()).map_err(within)?).map_err(within)?),
            _ if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) => table(&path).map_err(within)?,
            _ => (None, read_text(&path)?.lines().map(|line| Label::Text(line.to_string())).collect()),
        };
        Ok(Labels { file: file.to_path_buf(), names, labels })
    }

    /// The label of each sample, in the samples' order. A subset of samples needs the labels of all.
    ///
    /// # Errors
    /// When there are more or fewer labels than samples, or their names differ; the error names them.
    pub fn of(&self, samples: &Samples) -> Result<Vec<Label>> {
        let file = self.file.display();
        let all = samples.all_names();
        let Some(names) = &self.names else {
            if self.labels.len() != all.len() {
                let text = format!("{file}: {} labels for {} samples", self.labels.len(), all.len());
                return Err(Error::invalid(text).help(
                    "labels without names are in the samples' order; in a .csv, a first column can name the sample",
                ));
            }
            return Ok((0..samples.len()).map(|n| self.labels[samples.place(n)].clone()).collect());
        };
        let mut by_name: HashMap<&str, usize> = HashMap::new();
        for (n, name) in names.iter().enumerate() {
            if by_name.insert(name, n).is_some() {
                return Err(Error::invalid(format!("{file}: two labels for {name:?}")));
            }
        }
        let (mut missing, mut of) = (Vec::new(), Vec::new());
        for name in &all {
            match by_name.remove(name).or_else(|| by_name.remove(without_extension(name))) {
                Some(n) => of.push(n),
                None => missing.push(*name),
            }
        }
        if let Some(name) = missing.first() {
            let text = format!("{file}: no label for {} of {} samples, such as {name:?}", missing.len(), all.len());
            return Err(match names.iter().find(|name| by_name.contains_key(name.as_str())) {
                Some(other) => Error::invalid(text).help(format!("it has labels for others, such as {other:?}")),
                None => Error::invalid(text),
            });
        }
        if let Some(other) = names.iter().find(|name| by_name.contains_key(name.as_str())) {
            let text = format!("{file}: {} labels are of no sample, such as that of {other:?}", by_name.len());
            return Err(Error::invalid(text));
        }
        Ok((0..samples.len()).map(|n| self.labels[of[samples.place(n)]].clone()).collect())
    }
}

/// `FILE.npz:NAME` as the file and the name.
fn split_key(file: &Path) -> (PathBuf, Option<String>) {
    let text = file.to_string_lossy();
    match text.rsplit_once(".npz:") {
        Some((stem, key)) if !file.exists() => (PathBuf::from(format!("{stem}.npz")), Some(key.to_string())),
        _ => (file.to_path_buf(), None),
    }
}

fn pick(mut arrays: Vec<(String, Array)>, key: Option<&str>) -> Result<Array> {
    let names: Vec<String> = arrays.iter().map(|(name, _)| name.clone()).collect();
    let wanted = |name: &String| match key {
        Some(key) => name == key,
        None => names.len() == 1 || ["labels", "label", "y"].contains(&name.as_str()),
    };
    match names.iter().position(wanted) {
        Some(at) => Ok(arrays.swap_remove(at).1),
        None => Err(Error::invalid(format!("no array {:?}", key.unwrap_or("labels")))
            .help(format!("its arrays are {}; name one as FILE.npz:NAME", names.join(", ")))),
    }
}

/// The labels along the first axis.
fn rows(array: &Array) -> Result<Vec<Label>> {
    let tensor: Tensor = array.read_own()?;
    let [count, row @ ..] = tensor.shape() else {
        return Err(Error::invalid("a single number, not one for each sample"));
    };
    let width: usize = row.iter().product();
    let numbers = tensor.to_f64s();
    if numbers.iter().any(|v| !v.is_finite()) {
        return Err(Error::invalid("an element is not a finite number"));
    }
    Ok((0..*count).map(|n| Label::Numbers(numbers[n * width..(n + 1) * width].to_vec())).collect())
}

fn table(path: &Path) -> Result<(Option<Vec<String>>, Vec<Label>)> {
    let text = read_text(path)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).trim(csv::Trim::None).from_reader(text.as_bytes());
    let (mut names, mut labels) = (Vec::new(), Vec::new());
    for (n, row) in reader.records().enumerate() {
        let row = row.map_err(|e| Error::invalid(format!("not a readable .csv file: {e}")))?;
        let fields: Vec<&str> = row.iter().collect();
        let heading = fields.first().is_some_and(|f| HEADINGS.contains(&f.trim().to_ascii_lowercase().as_str()));
        match fields[..] {
            _ if n == 0 && heading => {}
            [label] => labels.push(Label::Text(label.to_string())),
            [name, label] => {
                names.push(name.to_string());
                labels.push(Label::Text(label.to_string()));
            }
            [name, ref several @ ..] => {
                names.push(name.to_string());
                labels.push(Label::Text(several.join(",")));
            }
            [] => {}
        }
    }
    match names.len() {
        0 => Ok((None, labels)),
        n if n == labels.len() => Ok((Some(names), labels)),
        _ => Err(Error::invalid("some rows have a sample's name, others do not")),
    }
}

fn without_extension(name: &str) -> &str {
    name.rsplit_once('.').filter(|(_, e)| !e.contains('/')).map_or(name, |(stem, _)| stem)
}
