//! Moves factors of channels between layers so that channels have similar ranges, which a scale for all of them needs.
//!
//! Data `x` of a layer with weights `w` may be divided by factors per channel, if the weights of each channel are multiplied
//! by them and what gives the data can be divided, too: a normalization's scale and bias (SmoothQuant: Xiao et al. 2023), or
//! the rows of a layer before, also through operators `f` with `f(s x) = s f(x)` for positive `s` (cross-layer equalization:
//! Nagel et al. 2019). Factors are `max|x|^a / max|w|^(1 - a)`; the `a` of each place is the one with the least estimated
//! error, and none is as good a choice as any.
//!
//! Contract: the model's results stay, but for the rounding of 32-bit floats.

mod links;

use mcc_ir::{Error, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::layers::{self, Layer};
use crate::matrix::Matrix;
use crate::model::Model;
use crate::observe::{Setting, observe};
use links::{Link, Shift, channel_of, links};

/// The parts of the way from weights to data that are tried.
const PARTS: &[f64] = &[0.0, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0];

/// The largest factor, and one over the smallest.
const MOST: f64 = 1000.0;

/// How much less the estimated error must be.
const GAIN: f64 = 0.95;

/// What was seen of each channel of some data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    low: Vec<f64>,
    high: Vec<f64>,
    squares: Vec<f64>,
    count: usize,
}

/// Moves factors wherever the error of 8-bit data and weights becomes less; gives the names of the data.
///
/// # Errors
/// When the model does not compile or run on a sample.
pub fn run(model: &mut Model, setting: &Setting) -> Result<Vec<String>> {
    let found = links(model);
    let names: Vec<&str> = found.iter().map(|l| l.data.as_str()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut seen = setting.cache.get("channels", 0, || look(model, &found, &names, setting))?;
    let mut moved = Vec::new();
    for at in 0..found.len() {
        let link = &found[at];
        let readers = link.readers.iter().map(|output| Reader::of(model, output)).collect::<Result<Vec<_>>>()?;
        let Some(factors) = best(&seen[at], &readers) else { continue };
        apply(model, link, &readers, &factors)?;
        seen[at].low.iter_mut().zip(&factors).for_each(|(v, f)| *v /= f);
        seen[at].high.iter_mut().zip(&factors).for_each(|(v, f)| *v /= f);
        moved.push(link.data.clone());
    }
    model.tidy()?;
    Ok(moved)
}

fn look(model: &Model, links: &[Link], names: &[&str], setting: &Setting) -> Result<Vec<Seen>> {
    setting.progress.begin("channels", setting.samples.len());
    let mut all = vec![Seen::default(); links.len()];
    observe(model, names, setting, &mut |_, values: &[Tensor]| {
        for ((seen, link), value) in all.iter_mut().zip(links).zip(values) {
            seen.add(link, value)?;
        }
        Ok(())
    })?;
    Ok(all)
}

impl Seen {
    fn add(&mut self, link: &Link, value: &Tensor) -> Result<()> {
        let axis = if link.is_map { Some(1) } else { value.shape().len().checked_sub(1) };
        let axis = axis.filter(|&a| value.shape().get(a) == Some(&link.channels));
        let (Some(axis), Some(values)) = (axis, value.to_f32s()) else {
            return Err(Error::internal(format!("\"{}\" has the shape {:?}", link.data, value.shape())));
        };
        let inner: usize = value.shape()[axis + 1..].iter().product();
        // A range contains 0.
        self.low.resize(link.channels, 0.0);
        self.high.resize(link.channels, 0.0);
        self.squares.resize(link.channels, 0.0);
        for (at, value) in values.into_iter().map(f64::from).enumerate() {
            let channel = at / inner.max(1) % link.channels;
            self.low[channel] = self.low[channel].min(value);
            self.high[channel] = self.high[channel].max(value);
            self.squares[channel] += value * value;
        }
        self.count += value.numel() / link.channels;
        Ok(())
    }

    fn largest(&self, channel: usize) -> f64 {
        self.high[channel].max(-self.low[channel])
    }
}

/// A layer that reads the data.
struct Reader {
    layer: Layer,
    matrix: Matrix,
}

impl Reader {
    fn of(model: &Model, output: &str) -> Result<Reader> {
        let (_, layer) = layers::again(model, output)?;
        let matrix = layer.matrix(model)?;
        Ok(Reader { layer, matrix })
    }

    /// Each weight with its row and channel.
    fn weights(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        let columns = self.matrix.columns;
        self.matrix.data.iter().enumerate().map(move |(at, &w)| {
            let (row, column) = (at / columns, at % columns);
            (row, channel_of(&self.layer, row, column), f64::from(w))
        })
    }
}

/// The factors with the least estimated error, if that is clearly less than without.
fn best(seen: &Seen, readers: &[Reader]) -> Option<Vec<f64>> {
    let channels = seen.low.len();
    let mut weights = vec![0.0f64; channels];
    let all = readers.iter().flat_map(Reader::weights);
    all.for_each(|(_, channel, w)| weights[channel] = weights[channel].max(w.abs()));
    let finite = (0..channels).all(|c| seen.largest(c).is_finite() && seen.squares[c].is_finite());
    let without = error(seen, readers, &vec![1.0; channels]);
    if !finite || !without.is_finite() {
        return None;
    }
    let tried = PARTS.iter().map(|&part| {
        let factors = factors(seen, &weights, part);
        (error(seen, readers, &factors), factors)
    });
    let (least, factors) = tried.min_by(|a, b| a.0.total_cmp(&b.0))?;
    (least < GAIN * GAIN * without).then_some(factors)
}

/// Factors with a mean of 1, of their logarithms. Channels without data or weights have 1.
fn factors(seen: &Seen, weights: &[f64], part: f64) -> Vec<f64> {
    let live = |c: usize| seen.largest(c) > 0.0 && weights[c] > 0.0;
    let log = |c: usize| part * seen.largest(c).ln() - (1.0 - part) * weights[c].ln();
    let logs: Vec<Option<f64>> = (0..weights.len()).map(|c| live(c).then(|| log(c))).collect();
    let known = logs.iter().flatten();
    let mean = known.clone().sum::<f64>() / known.count().max(1) as f64;
    let factor = |log: &Option<f64>| log.map_or(1.0, |log| (log - mean).exp().clamp(1.0 / MOST, MOST));
    // What is applied is what is judged.
    logs.iter().map(factor).map(|f| f64::from(f as f32)).collect()
}

/// The expected squared error of the readers' results, in which each rounding is off by up to half a step and roundings are
/// independent.
fn error(seen: &Seen, readers: &[Reader], factors: &[f64]) -> f64 {
    const STEPS: [f64; 2] = [255.0, 127.0];
    let of = |values: &[f64]| {
        values.iter().zip(factors).map(|(v, f)| v / f).fold((0.0f64, 0.0f64), |(l, h), v| (l.min(v), h.max(v)))
    };
    let step = (of(&seen.high).1 - of(&seen.low).0) / STEPS[0];
    let count = seen.count.max(1) as f64;
    let energy: Vec<f64> = seen.squares.iter().zip(factors).map(|(s, f)| s / count / (f * f)).collect();
    let mut sum = 0.0;
    for reader in readers {
        let mut rows = vec![(0.0f64, 0.0f64); reader.matrix.rows];
        for (row, channel, w) in reader.weights() {
            let w = w * factors[channel];
            sum += step * step * w * w;
            rows[row] = (rows[row].0.max(w.abs()), rows[row].1 + energy[channel]);
        }
        sum += rows.iter().map(|(largest, energy)| (largest / STEPS[1]).powi(2) * energy).sum::<f64>();
    }
    sum
}

/// Multiplies the readers' weights, and divides what gives the data.
fn apply(model: &mut Model, link: &Link, readers: &[Reader], factors: &[f64]) -> Result<()> {
    for reader in readers {
        let mut matrix = reader.matrix.clone();
        for (at, (_, channel, w)) in reader.weights().enumerate() {
            matrix.data[at] = (w * factors[channel]) as f32;
        }
        reader.layer.set_matrix(model, &matrix)?;
    }
    for shift in &link.origin {
        match shift {
            Shift::Constant { output, slot } => {
                let node = layers::node_of(model, output)?;
                let name = model.nodes()[node].input[*slot].clone();
                let Some(tensor) = model.constant(&name).cloned() else {
                    return Err(Error::internal(format!("\"{name}\" is no constant any more")));
                };
                let values: Vec<f64> = tensor.to_f64s().iter().zip(factors).map(|(v, f)| v / f).collect();
                let tensor = Tensor::from_f64s(tensor.dtype(), tensor.shape().to_vec(), &values)?;
                let name = model.add_constant(&name, tensor);
                model.set_input(node, *slot, &name);
            }
            Shift::Layer { output } => {
                let (_, layer) = layers::again(model, output)?;
                let mut matrix = layer.matrix(model)?;
                let inverse: Vec<f64> = factors.iter().map(|f| 1.0 / f).collect();
                crate::norms::scale_rows(&mut matrix, &inverse);
                layer.set_matrix(model, &matrix)?;
                // A bias that a node behind it adds is a shift of its own.
                let own = layer.own_bias().and_then(|_| layer.bias(model));
                if let Some(mut bias) = own.filter(|b| b.iter().any(|v| *v != 0.0)) {
                    bias.iter_mut().zip(factors).for_each(|(b, f)| *b = (f64::from(*b) / f) as f32);
                    layer.set_bias(model, &bias)?;
                }
            }
        }
    }
    Ok(())
}
