//! Plots as SVG. Colors are variables of the page's style, so that a plot follows light and dark.

use mcc_ir::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::evaluation::Interval;

/// A bar.
pub struct Bar {
    /// Whose it is.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// The value for people.
    pub shown: String,
    /// Whether it is of the model that others are compared with, which has another color.
    pub first: bool,
}

/// A difference with its confidence interval.
pub struct Span {
    /// Whose it is.
    pub name: String,
    /// The difference.
    pub interval: Interval,
    /// The same for people.
    pub shown: String,
}

/// A point of a scatter plot.
pub struct Mark {
    /// Place from left to right.
    pub x: f64,
    /// Place from bottom to top.
    pub y: f64,
    /// Whether it is on the front.
    pub best: bool,
}

/// Colors that are replaced by variables of the style.
const INK: RGBColor = RGBColor(0, 0, 1);
const MUTED: RGBColor = RGBColor(0, 0, 2);
const GRID: RGBColor = RGBColor(0, 0, 3);
const FIRST: RGBColor = RGBColor(0, 0, 4);
const OTHER: RGBColor = RGBColor(0, 0, 5);

const VARIABLES: &[(&str, &str)] = &[
    ("\"#000001\"", "\"var(--ink)\""),
    ("\"#000002\"", "\"var(--muted)\""),
    ("\"#000003\"", "\"var(--grid)\""),
    ("\"#000004\"", "\"var(--first)\""),
    ("\"#000005\"", "\"var(--other)\""),
];

const WIDTH: i32 = 400;
/// Pixels of a line; the backend makes letters about four fifths as high.
const FONT: i32 = 19;
/// Pixels of a row of a name and what is drawn below it.
const ROW: i32 = 54;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws into an SVG of a size.
fn svg(height: i32, draw: impl FnOnce(&Area<'_>) -> Result<(), Box<dyn std::error::Error>>) -> Result<String> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, (WIDTH as u32, height as u32)).into_drawing_area();
    let drawn = draw(&area).and_then(|()| area.present().map_err(Into::into));
    drawn.map_err(|e| Error::internal(format!("a plot is not drawn: {e}")))?;
    drop(area);
    let text = VARIABLES.iter().fold(text, |text, (color, variable)| text.replace(color, variable));
    Ok(text)
}

fn text_style<'a>(color: RGBColor, at: HPos) -> TextStyle<'a> {
    ("sans-serif", FONT).into_font().color(&color).pos(Pos::new(at, VPos::Center))
}

/// Bars below one another, each with its name above it and its value behind it.
///
/// # Errors
/// When it cannot be drawn, which does not depend on the bars.
pub fn bars(bars: &[Bar]) -> Result<String> {
    const VALUE: i32 = 110;
    let most = bars.iter().map(|bar| bar.value.abs()).fold(0.0, f64::max);
    svg(bars.len() as i32 * ROW, |area| {
        for (n, bar) in bars.iter().enumerate() {
            let top = n as i32 * ROW;
            let share = if most > 0.0 { bar.value.abs() / most } else { 0.0 };
            let length = ((WIDTH - VALUE) as f64 * share).max(1.0) as i32;
            let color = if bar.first { FIRST } else { OTHER };
            area.draw(&Text::new(shortened(&bar.name), (0, top + 12), text_style(MUTED, HPos::Left)))?;
            area.draw(&Rectangle::new([(0, top + 26), (length, top + 44)], color.filled()))?;
            area.draw(&Text::new(bar.shown.clone(), (length + 8, top + 36), text_style(INK, HPos::Left)))?;
        }
        Ok(())
    })
}

/// Differences below one another, each with its name and its value above it: a dot, a line from end to end of the
/// interval, and an upright line at no difference.
///
/// # Errors
/// When it cannot be drawn.
pub fn spans(spans: &[Span]) -> Result<String> {
    const DOT: i32 = 5;
    const ROW: i32 = 74;
    let low = spans.iter().map(|s| s.interval.low.min(s.interval.value)).fold(0.0, f64::min);
    let high = spans.iter().map(|s| s.interval.high.max(s.interval.value)).fold(0.0, f64::max);
    let width = f64::from(WIDTH - 4 * DOT) / (high - low).max(f64::MIN_POSITIVE);
    let place = |value: f64| 2 * DOT + ((value - low) * width) as i32;
    svg(spans.len() as i32 * ROW, |area| {
        for (n, Span { name, interval, shown }) in spans.iter().enumerate() {
            let top = n as i32 * ROW;
            let middle = top + 58;
            area.draw(&Text::new(shortened(name), (0, top + 12), text_style(MUTED, HPos::Left)))?;
            area.draw(&Text::new(shown.clone(), (0, top + 35), text_style(INK, HPos::Left)))?;
            area.draw(&PathElement::new([(place(0.0), top + 48), (place(0.0), top + 68)], MUTED))?;
            area.draw(&PathElement::new(
                [(place(interval.low), middle), (place(interval.high), middle)],
                OTHER.stroke_width(2),
            ))?;
            area.draw(&Circle::new((place(interval.value), middle), DOT, OTHER.filled()))?;
        }
        Ok(())
    })
}

/// Text that fits a plot.
fn shortened(text: &str) -> String {
    const CHARACTERS: usize = 40;
    match text.chars().count() > CHARACTERS {
        true => text.chars().take(CHARACTERS - 1).chain(['…']).collect(),
        false => text.to_string(),
    }
}

/// Points, with a line through those of the front.
///
/// # Errors
/// When it cannot be drawn.
pub fn scatter(marks: &[Mark], axis: &str) -> Result<String> {
    const HEIGHT: i32 = 300;
    let range = |of: &dyn Fn(&Mark) -> f64| {
        let known = marks.iter().map(of).filter(|v| v.is_finite());
        let (low, high) = known.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if low > high {
            return 0.0..1.0;
        }
        let margin = ((high - low) * 0.08).max(high.abs() * 1e-3).max(1e-9);
        low - margin..high + margin
    };
    let (x, y) = (range(&|m| m.x), range(&|m| m.y));
    svg(HEIGHT, |area| {
        let mut chart =
            ChartBuilder::on(area).margin(10).x_label_area_size(46).y_label_area_size(58).build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .axis_style(MUTED)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", FONT).into_font().color(&MUTED))
            .x_desc(axis)
            .x_labels(5)
            .y_labels(6)
            .draw()?;
        let mut front: Vec<(f64, f64)> = marks.iter().filter(|m| m.best).map(|m| (m.x, m.y)).collect();
        front.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart.draw_series(LineSeries::new(front, OTHER.stroke_width(2)))?;
        for (best, color) in [(false, FIRST), (true, OTHER)] {
            let of = marks.iter().filter(|m| m.best == best && m.x.is_finite() && m.y.is_finite());
            chart.draw_series(of.map(|m| Circle::new((m.x, m.y), 5, color.filled())))?;
        }
        Ok(())
    })
}

/// A signal: for each column the range of its samples.
///
/// # Errors
/// When it cannot be drawn.
pub fn waveform(signal: &[f32]) -> Result<String> {
    const HEIGHT: i32 = 100;
    let most = signal.iter().fold(1e-9f32, |m, v| m.max(v.abs()));
    let place = |v: f32| HEIGHT / 2 - (v / most * (HEIGHT / 2 - 4) as f32) as i32;
    svg(HEIGHT, |area| {
        area.draw(&PathElement::new([(0, HEIGHT / 2), (WIDTH, HEIGHT / 2)], GRID))?;
        let columns = signal.len().min(WIDTH as usize);
        for n in 0..columns {
            let part = &signal[n * signal.len() / columns..((n + 1) * signal.len() / columns).max(1)];
            let (low, high) = part.iter().fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
            let x = (n as i32 * WIDTH) / columns as i32;
            area.draw(&PathElement::new([(x, place(high)), (x, place(low) + 1)], OTHER))?;
        }
        Ok(())
    })
}
