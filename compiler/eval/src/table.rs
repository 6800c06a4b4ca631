//! An evaluation as a table for a terminal.

use crate::evaluation::{Evaluation, Interval, Outcome};
use crate::metrics::{self, Unit};

/// A row of cells, the first of which is aligned to the left.
type Row = Vec<String>;

/// The evaluation as text: a row for each model. Distances from the first model are differences already.
pub fn table(evaluation: &Evaluation) -> String {
    let mut head: Row = vec!["model".to_string()];
    for measure in &evaluation.metrics {
        head.push(measure.name.clone());
        if measure.of_labels && evaluation.models.len() > 1 {
            head.push("difference [95 %]".to_string());
        }
    }
    head.extend(["time", "file", "code", "weights", "arena"].map(str::to_string));
    let rows: Vec<Row> = evaluation.models.iter().map(|model| row(evaluation, model)).collect();
    let all: Vec<&Row> = std::iter::once(&head).chain(&rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in all {
        let cell = |(column, cell): (usize, &String)| match column {
            0 => format!("{cell:<width$}", width = widths[0]),
            _ => format!("{cell:>width$}", width = widths[column]),
        };
        let cells: Vec<String> = row.iter().enumerate().map(cell).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    let of = if evaluation.labelled { "with labels" } else { "compared with the first model" };
    text += &format!("{} samples, {of}\n", evaluation.samples);
    text
}

fn row(evaluation: &Evaluation, model: &Outcome) -> Row {
    let mut row = vec![model.name.clone()];
    for (measure, worth) in evaluation.metrics.iter().zip(&model.values) {
        let unit = unit(&measure.name);
        row.push(value(worth.value, unit, measure.name == "sqnr"));
        if measure.of_labels && evaluation.models.len() > 1 {
            row.push(worth.difference.map_or(String::new(), |d| difference(&d, unit)));
        }
    }
    row.push(model.median_ms.map_or("-".to_string(), |ms| format!("{} ms", milliseconds(ms))));
    let sizes = [model.file_bytes, model.text_bytes, model.weights_bytes, model.arena_bytes];
    row.extend(sizes.map(bytes));
    row
}

/// How a metric's values are printed.
pub fn unit(metric: &str) -> Unit {
    metrics::find(metric).map_or(Unit::Number, |metric| metric.unit)
}

/// A value, where one exists; a ratio of which the divisor is 0 is exact.
pub fn value(value: Option<f64>, unit: Unit, ratio: bool) -> String {
    match value {
        None if ratio => "exact".to_string(),
        value => unit.show(value.unwrap_or(f64::NAN)),
    }
}

/// A difference with its interval, with signs.
pub fn difference(interval: &Interval, unit: Unit) -> String {
    let Interval { value, low, high } = interval;
    match unit {
        Unit::Percent => format!("{:+.2} [{:+.2}, {:+.2}]", value * 100.0, low * 100.0, high * 100.0),
        Unit::Decibel => format!("{value:+.1} [{low:+.1}, {high:+.1}]"),
        Unit::Number => format!("{value:+.2e} [{low:+.2e}, {high:+.2e}]"),
    }
}

/// Milliseconds with four figures.
pub fn milliseconds(ms: f64) -> String {
    let digits = (3 - ms.max(1e-4).log10().floor() as i32).clamp(0, 6) as usize;
    format!("{ms:.digits$}")
}

/// Bytes with a unit.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        assert_eq!([0.012346, 1.23456, 123.456, 12345.6].map(milliseconds), ["0.01235", "1.235", "123.5", "12346"]);
        assert_eq!([999, 1_500, 2_345_678, 3_000_000_000].map(bytes), ["999 B", "1.5 kB", "2.35 MB", "3.00 GB"]);
        let interval = Interval { value: -0.012, low: -0.02, high: 0.001 };
        assert_eq!(difference(&interval, Unit::Percent), "-1.20 [-2.00, +0.10]");
        assert_eq!(value(None, Unit::Decibel, true), "exact");
        assert_eq!(value(None, Unit::Percent, false), "-");
    }
}
