//! An evaluation as one page of HTML.
//!
//! Contract: the page needs no other file and no network; it reads in light and dark, on a wide and a narrow screen, and
//! on paper. It has no scripts.

mod html;
mod plots;
mod preview;

use mcc_data::Samples;
use mcc_ir::Result;
use serde::{Deserialize, Serialize};

use crate::evaluation::{Evaluation, Measure, Outcome, Worst};
use crate::metrics::Unit;
use crate::table::{bytes, difference, milliseconds, unit, value};
use html::{Cell, escape, grid};
use plots::{Bar, Mark, Span};

/// What a page shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The heading.
    pub title: String,
    /// The models; the first one is what the others are compared with.
    pub evaluation: Evaluation,
    /// What was done to each layer, in the model's order; may be empty.
    pub layers: Vec<LayerRow>,
    /// Further evaluated models.
    pub sweep: Option<Sweep>,
    /// How the last model was made, as text that repeats it.
    pub recipe: Option<String>,
}

/// What was done to a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRow {
    /// The node's name.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// Share of the weights that is zero, from 0 to 1.
    pub zeros: f64,
    /// Bits of a weight, scales included.
    pub weight_bits: f64,
    /// Bits of an activation.
    pub activation_bits: u32,
    /// Relative L2 error of the layer's output on calibration data, if it was measured.
    pub error: Option<f64>,
    /// Time before, in milliseconds, if it was measured.
    pub before_ms: Option<f64>,
    /// Time after.
    pub after_ms: Option<f64>,
    /// Why this was done, or nothing.
    pub why: String,
}

/// Models of one origin, each with other settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The metric's name.
    pub metric: String,
    /// Whether a higher value is better.
    pub higher_is_better: bool,
    /// The models.
    pub points: Vec<Point>,
}

/// A model of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its settings in a few words.
    pub name: String,
    /// Bytes of code and weights.
    pub bytes: u64,
    /// Median time of a run in milliseconds.
    pub median_ms: f64,
    /// The metric's value.
    pub value: f64,
}

impl Sweep {
    /// The points that no other one excels: the Pareto front by a cost and the value, by rising cost.
    pub fn front(&self, cost: impl Fn(&Point) -> f64) -> Vec<usize> {
        let good = |p: &Point| if self.higher_is_better { p.value } else { -p.value };
        let mut order: Vec<usize> = (0..self.points.len()).collect();
        let key = |n: usize| (cost(&self.points[n]), -good(&self.points[n]));
        order.sort_by(|&a, &b| key(a).0.total_cmp(&key(b).0).then(key(a).1.total_cmp(&key(b).1)));
        let mut best = f64::NEG_INFINITY;
        order.retain(|&n| {
            let better = good(&self.points[n]) > best;
            best = best.max(good(&self.points[n]));
            better
        });
        order
    }
}

/// The page. Samples are those of the evaluation, of which the worst are shown.
///
/// # Errors
/// When a sample cannot be read any more.
pub fn page(report: &Report, samples: &Samples) -> Result<String> {
    let evaluation = &report.evaluation;
    let mut body = format!("<header><h1>{}</h1><p>{}</p></header>\n", escape(&report.title), subtitle(evaluation));
    body += &cards(evaluation);
    body += &section("Models", &models(evaluation));
    body += &section("Time, size, quality", &figures(evaluation)?);
    if let Some(sweep) = &report.sweep {
        body += &section("Sweep", &swept(sweep)?);
    }
    if !report.layers.is_empty() {
        body += &section("Layers", &layers(&report.layers));
    }
    if !evaluation.worst.is_empty() {
        body += &section("Worst samples", &worst(evaluation, samples)?);
    }
    if let Some(recipe) = &report.recipe {
        body += &section("Recipe", &format!("<pre>{}</pre>", escape(recipe)));
    }
    let (title, style) = (escape(&report.title), include_str!("style.css"));
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    ))
}

fn section(title: &str, content: &str) -> String {
    format!("<section><h2>{title}</h2>\n{content}</section>\n")
}

/// A count with its thousands apart.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

fn subtitle(evaluation: &Evaluation) -> String {
    let against = match (evaluation.labelled, evaluation.models.first()) {
        (false, Some(first)) => format!("compared with {}", escape(&first.name)),
        _ => "compared with labels".to_string(),
    };
    let plural = if evaluation.samples == 1 { "" } else { "s" };
    format!("{} sample{plural}, {against}; times are medians, intervals 95 %", grouped(evaluation.samples))
}

/// What the last model gains and loses against the first.
fn cards(evaluation: &Evaluation) -> String {
    let (Some(first), Some(last)) = (evaluation.models.first(), evaluation.models.last()) else {
        return String::new();
    };
    let single = evaluation.models.len() == 1;
    let mut cards: Vec<[String; 3]> = Vec::new();
    let times = |ratio: f64, word: &str, opposite: &str| match ratio {
        _ if single || !ratio.is_finite() => String::new(),
        r if r >= 1.0 => format!("{r:.2} times {word}"),
        r => format!("{:.2} times {opposite}", 1.0 / r),
    };
    let before = |text: String| if single { String::new() } else { format!("{text} → ") };
    if let (Some(a), Some(b)) = (first.median_ms, last.median_ms) {
        let shown = format!("{}{} ms", before(milliseconds(a)), milliseconds(b));
        cards.push(["Time".to_string(), shown, times(a / b, "faster", "slower")]);
    }
    for (name, of) in SIZES {
        let (a, b) = (of(first), of(last));
        let shown = format!("{}{}", before(bytes(a)), bytes(b));
        cards.push([(*name).to_string(), shown, times(a as f64 / b as f64, "smaller", "larger")]);
    }
    for (n, measure) in evaluation.metrics.iter().enumerate().take(2) {
        let unit = unit(&measure.name);
        let show = |model: &Outcome| value(model.values[n].value, unit, measure.name == "sqnr");
        let shown = match measure.of_labels {
            true => format!("{}{}", before(show(first)), show(last)),
            false => show(last),
        };
        let change = last.values[n].difference.filter(|_| measure.of_labels);
        let change = change.map_or(measure.about.clone(), |d| difference(&d, unit));
        cards.push([measure.name.clone(), shown, change]);
    }
    let card = |[name, shown, change]: &[String; 3]| {
        let (name, shown, change) = (escape(name), escape(shown), escape(change));
        format!(
            "<div class=\"card\"><h3>{name}</h3><p class=\"value\">{shown}</p><p class=\"change\">{change}</p></div>\n"
        )
    };
    format!("<div class=\"cards\">\n{}</div>\n", cards.iter().map(card).collect::<String>())
}

/// The sizes of a model, with their names.
const SIZES: &[(&str, fn(&Outcome) -> u64)] =
    &[("Weights", |model| model.weights_bytes), ("Arena", |model| model.arena_bytes)];

fn models(evaluation: &Evaluation) -> String {
    let figure = |text: &str| Cell::Figure(text.to_string());
    let mut head = vec![Cell::Text("model".to_string())];
    let arrow = |measure: &Measure| if measure.higher_is_better { "↑" } else { "↓" };
    head.extend(evaluation.metrics.iter().map(|m| Cell::Figure(format!("{} {}", m.name, arrow(m)))));
    head.extend(["time", "file", "code", "weights", "arena"].map(figure));
    let row = |model: &Outcome| {
        let mut row = vec![Cell::Text(model.name.clone())];
        for (measure, worth) in evaluation.metrics.iter().zip(&model.values) {
            let unit = unit(&measure.name);
            let shown = value(worth.value, unit, measure.name == "sqnr");
            row.push(match worth.difference.filter(|_| measure.of_labels) {
                Some(d) => Cell::Noted(shown, difference(&d, unit)),
                None => Cell::Figure(shown),
            });
        }
        row.push(Cell::Figure(model.median_ms.map_or("-".to_string(), |ms| format!("{} ms", milliseconds(ms)))));
        let sizes = [model.file_bytes, model.text_bytes, model.weights_bytes, model.arena_bytes];
        row.extend(sizes.map(|size| Cell::Figure(bytes(size))));
        row
    };
    let rows: Vec<Vec<Cell>> = evaluation.models.iter().map(row).collect();
    let about = |m: &Measure| format!("<dt>{}</dt><dd>{}</dd>", escape(&m.name), escape(&m.about));
    let terms: String = evaluation.metrics.iter().map(about).collect();
    format!("{}<dl class=\"terms\">{terms}</dl>\n", grid(&head, &rows))
}

/// Time and size of all models; of each metric the differences to the first model, or the values.
fn figures(evaluation: &Evaluation) -> Result<String> {
    let bars = |shown: &dyn Fn(&Outcome) -> Option<String>, number: &dyn Fn(&Outcome) -> f64| -> Vec<Bar> {
        let models = evaluation.models.iter().enumerate();
        let bar = |(n, model): (usize, &Outcome)| {
            let first = n == 0 && evaluation.models.len() > 1;
            Some(Bar { name: model.name.clone(), value: number(model), shown: shown(model)?, first })
        };
        models.filter_map(bar).collect()
    };
    let mut html = String::new();
    let time = bars(&|m| m.median_ms.map(|ms| format!("{} ms", milliseconds(ms))), &|m| m.median_ms.unwrap_or(0.0));
    if !time.is_empty() {
        html += &figure("Time of a run", &plots::bars(&time)?);
    }
    let size = |model: &Outcome| model.text_bytes + model.weights_bytes;
    html += &figure("Code and weights", &plots::bars(&bars(&|m| Some(bytes(size(m))), &|m| size(m) as f64))?);
    for (n, measure) in evaluation.metrics.iter().enumerate() {
        let unit = unit(&measure.name);
        let span = |model: &Outcome| {
            let interval = model.values[n].difference?;
            Some(Span { name: model.name.clone(), interval, shown: difference(&interval, unit) })
        };
        let spans: Vec<Span> = evaluation.models.iter().filter_map(span).collect();
        let worth = |model: &Outcome| model.values[n].value;
        let bars = bars(&|m| worth(m).map(|v| unit.show(v)), &|m| worth(m).unwrap_or(0.0));
        if measure.of_labels && !spans.is_empty() {
            let first = &evaluation.models[0].name;
            html += &figure(&format!("{}: difference to {first}", measure.name), &plots::spans(&spans)?);
        } else if !bars.is_empty() {
            html += &figure(&measure.name, &plots::bars(&bars)?);
        }
    }
    Ok(format!("<div class=\"plots\">\n{html}</div>\n"))
}

fn figure(title: &str, svg: &str) -> String {
    format!("<figure><figcaption>{}</figcaption>\n{svg}</figure>\n", escape(title))
}

fn swept(sweep: &Sweep) -> Result<String> {
    let unit = unit(&sweep.metric);
    let scale = if unit == Unit::Percent { 100.0 } else { 1.0 };
    let costs: [(&str, fn(&Point) -> f64); 2] =
        [("milliseconds", |point| point.median_ms), ("megabytes", |point| point.bytes as f64 / 1e6)];
    let mut html = String::new();
    let mut best: Vec<usize> = Vec::new();
    for (axis, cost) in costs {
        let front = sweep.front(cost);
        let mark =
            |(n, point): (usize, &Point)| Mark { x: cost(point), y: point.value * scale, best: front.contains(&n) };
        let marks: Vec<Mark> = sweep.points.iter().enumerate().map(mark).collect();
        let title = format!("{}{} over {axis}", sweep.metric, if scale == 100.0 { " (%)" } else { "" });
        html += &figure(&title, &plots::scatter(&marks, axis)?);
        best.extend(front);
    }
    let head = [
        Cell::Text("settings".to_string()),
        Cell::Figure(sweep.metric.clone()),
        Cell::Figure("time".to_string()),
        Cell::Figure("size".to_string()),
        Cell::Text("front".to_string()),
    ];
    let row = |(n, point): (usize, &Point)| {
        vec![
            Cell::Text(point.name.clone()),
            Cell::Figure(unit.show(point.value)),
            Cell::Figure(format!("{} ms", milliseconds(point.median_ms))),
            Cell::Figure(bytes(point.bytes)),
            Cell::Text(if best.contains(&n) { "●" } else { "" }.to_string()),
        ]
    };
    let rows: Vec<Vec<Cell>> = sweep.points.iter().enumerate().map(row).collect();
    Ok(format!("<div class=\"plots\">\n{html}</div>\n{}", grid(&head, &rows)))
}

fn layers(layers: &[LayerRow]) -> String {
    let text = |t: &str| Cell::Text(t.to_string());
    let figure = |t: &str| Cell::Figure(t.to_string());
    let head = [
        text("layer"),
        text("operator"),
        figure("zeros"),
        figure("weight bits"),
        figure("activation bits"),
        figure("error"),
        figure("before"),
        figure("after"),
        Cell::Long("why".to_string()),
    ];
    let ms = |ms: Option<f64>| ms.map_or("-".to_string(), |ms| format!("{} ms", milliseconds(ms)));
    let row = |layer: &LayerRow| {
        vec![
            text(&layer.name),
            text(&layer.operator),
            figure(&format!("{:.1} %", layer.zeros * 100.0)),
            figure(format!("{:.3}", layer.weight_bits).trim_end_matches('0').trim_end_matches('.')),
            figure(&layer.activation_bits.to_string()),
            figure(&layer.error.map_or("-".to_string(), |e| format!("{e:.2e}"))),
            figure(&ms(layer.before_ms)),
            figure(&ms(layer.after_ms)),
            Cell::Long(layer.why.clone()),
        ]
    };
    grid(&head, &layers.iter().map(row).collect::<Vec<_>>())
}

fn worst(evaluation: &Evaluation, samples: &Samples) -> Result<String> {
    let Some(measure) = evaluation.metrics.first() else { return Ok(String::new()) };
    let unit = unit(&measure.name);
    let mut html = String::new();
    for Worst { sample, name, value: worth, first, label, said } in &evaluation.worst {
        let mut lines = vec![[measure.name.clone(), unit.show(*worth)]];
        if evaluation.models.len() > 1 && measure.of_labels {
            lines.push(["before".to_string(), unit.show(*first)]);
        }
        lines.extend(label.iter().map(|label| ["label".to_string(), label.clone()]));
        lines.extend(evaluation.models.iter().zip(said).map(|(model, said)| [model.name.clone(), said.clone()]));
        let line = |[key, text]: &[String; 2]| format!("<dt>{}</dt><dd>{}</dd>", escape(key), escape(text));
        let facts: String = lines.iter().map(line).collect();
        let shown = preview::show(samples, *sample)?;
        html += &format!("<article><h3>{}</h3>\n{shown}<dl>{facts}</dl></article>\n", escape(name));
    }
    let about = match evaluation.models.last().filter(|_| evaluation.models.len() > 1) {
        Some(last) => format!("Where {} loses most by {}.", escape(&last.name), escape(&measure.name)),
        None => format!("Where the model is worst by {}.", escape(&measure.name)),
    };
    Ok(format!("<p>{about}</p>\n<div class=\"samples\">\n{html}</div>\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn the_front_is_of_points_that_none_excels() {
        let point = |bytes: u64, value: f64| Point { name: String::new(), bytes, median_ms: 1.0, value };
        let points = vec![point(4, 0.9), point(2, 0.8), point(3, 0.7), point(2, 0.85), point(9, 0.9), point(1, 0.1)];
        let mut sweep = Sweep { metric: "top1".to_string(), higher_is_better: true, points };
        assert_eq!(sweep.front(|p| p.bytes as f64), [5, 3, 0]);
        sweep.higher_is_better = false;
        assert_eq!(sweep.front(|p| p.bytes as f64), [5]);
    }
}
