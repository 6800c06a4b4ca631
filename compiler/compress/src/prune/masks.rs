//! Zeros among the weights of layers whose shapes stay.

use std::collections::BTreeMap;

use faer::Mat;
use mcc_ir::Result;
use serde::{Deserialize, Serialize};

use super::evidence::{ALL, Error, Evidence, Kept, Rows, evidence};
use super::fit::{Mask, Problem, masked};
use super::gain::{Gain, gains};
use super::product::Product;
use super::rank::Ranking;
use super::search::Search;
use super::zones::Zones;
use super::{Task, chunks, reference};
use crate::layers::{self, Layer};
use crate::matrix::Matrix;
use crate::model::Model;
use crate::observe::Setting;
use crate::recipe::{Criterion, Pattern, Scope};
use crate::session::Session;

/// The share of what may stay at the given share that stays in every layer, however little its weights matter.
const LEAST_LEFT: f64 = 0.25;

/// Zeros are set in these layers.
struct Plan<'a> {
    ranking: Ranking<'a>,
    /// The layers, in the order in which they run.
    layers: Vec<Layer>,
    /// What the compiler said about each, by its result.
    gains: BTreeMap<String, Gain>,
}

/// Sets weights to zero and fits the others.
///
/// # Errors
/// When no layer can be pruned; when the model does not compile or run.
pub fn run(session: &mut Session, task: &Task, setting: &Setting) -> Result<()> {
    let step = task.step;
    let plan = plan(session, task, setting)?;
    let shares = setting.cache.get("shares", 0, || plan.shares(&session.model, setting))?;
    let products: Vec<Product> = plan.layers.iter().cloned().map(Product::from).collect();
    let (reference, kept) = (reference(session, &products), Kept::new());
    for (n, chunk) in chunks(&products).into_iter().enumerate() {
        let fitted = setting.cache.get("zeros", n, || {
            setting.progress.begin("zeros", setting.samples.len());
            let evidence = evidence(&reference, &session.model, &kept, chunk, ALL, setting)?;
            let fitted = |(product, groups): (&Product, &Vec<Evidence>)| {
                let layer = &product.layer;
                let work = Work { ranking: &plan.ranking, reference: &reference, kept: &kept, product, groups };
                let share = shares.get(&layer.output).copied().unwrap_or(step.share());
                work.run(&session.model, Some((plan.shape(layer), share)))
            };
            chunk.iter().zip(&evidence).map(fitted).collect::<Result<Vec<Fitted>>>()
        })?;
        for (product, fitted) in chunk.iter().zip(fitted) {
            let layer = &product.layer;
            let error = fitted.apply(product, &mut session.model)?;
            let zeros = layers::again(&session.model, &layer.output)?.1.matrix(&session.model)?.zero_share();
            let reason = plan.reason(layer);
            session.change(&layer.output, |c| (c.zeros, c.error, c.reason) = (zeros, error, reason));
        }
        session.model.tidy()?;
    }
    Ok(())
}

/// Chooses the layers, and says about the others why they stay.
fn plan<'a>(session: &mut Session, task: &Task<'a>, setting: &Setting) -> Result<Plan<'a>> {
    let step = task.step;
    let selected = session.selected(&step.selection(), |_| true)?;
    let (mut fit, mut stay) = (Vec::new(), Vec::new());
    for layer in selected {
        match obstacle(&session.model, &layer, task)? {
            None => fit.push(layer),
            Some(reason) => stay.push((layer, reason)),
        }
    }
    if fit.is_empty() {
        let reason = |(layer, reason): &(Layer, String)| {
            mcc_ir::Error::unsupported(format!("\"{}\" stays: {reason}", layer.name))
        };
        let error = mcc_ir::Error::all(stay.iter().map(reason).collect());
        return Err(error
            .unwrap_or_else(|| mcc_ir::Error::internal("no layer"))
            .help("give a greater share, or another pattern"));
    }
    // Nobody has to be asked where every layer is pruned, in the only shape.
    let asked = !step.everywhere || step.pattern.shapes(task.bytes).len() > 1;
    let gains = if asked { gains(&session.model, &fit, task, setting)? } else { BTreeMap::new() };
    let gain = |l: &Layer| gains.get(&l.output).is_some_and(|g| g.factor > 1.0);
    let pays = fit.iter().any(gain);
    let (chosen, slow): (Vec<Layer>, Vec<Layer>) = fit.into_iter().partition(|l| step.everywhere || !pays || gain(l));
    let why = |l: Layer| {
        let reason = format!("zeros gain nothing: {}", gains[&l.output].reason);
        (l, reason)
    };
    stay.extend(slow.into_iter().map(why));
    for (layer, reason) in stay {
        session.change(&layer.output, |c| c.reason = reason);
    }
    Ok(Plan { ranking: Ranking { step, seed: task.seed }, layers: chosen, gains })
}

/// Why a layer cannot be pruned.
fn obstacle(model: &Model, layer: &Layer, task: &Task) -> Result<Option<String>> {
    let step = task.step;
    if layer.is_depthwise() {
        return Ok(Some("every channel has weights of its own, too few to skip".to_string()));
    }
    let matrix = layer.matrix(model)?;
    let shape = step.pattern.shapes(task.bytes)[0];
    let zones = Zones::new(layer, matrix.rows / layer.kind.groups(), shape);
    if zones.is_dense() {
        return Ok(Some(format!("its sums have too few channels for {}", step.pattern)));
    }
    let zeros = matrix.zero_share();
    let done = match step.pattern {
        Pattern::OutOf { .. } => (0..layer.kind.groups()).all(|group| {
            let present = present(&rows_of(&matrix, group, layer.kind.groups()));
            zones.mask(&vec![1.0; present.len()], &present, 0) == present
        }),
        // Half a weight is nothing that could be rounded to.
        _ => zeros + 0.5 / matrix.data.len() as f64 >= step.share(),
    };
    Ok(done.then(|| format!("{:.1} % of its weights are zero already", 100.0 * zeros)))
}

impl Plan<'_> {
    /// The shape of a layer's zeros.
    fn shape(&self, layer: &Layer) -> Pattern {
        self.gains.get(&layer.output).map_or(self.ranking.step.pattern, |gain| gain.shape)
    }

    /// What the compiler says about a layer.
    fn reason(&self, layer: &Layer) -> String {
        let Some(gain) = self.gains.get(&layer.output) else { return String::new() };
        let shape = if gain.shape == self.ranking.step.pattern { String::new() } else { format!("{}, ", gain.shape) };
        let speed =
            if gain.factor > 1.0 { format!("{:.1} times as fast", gain.factor) } else { "no faster".to_string() };
        format!("{shape}{speed}: {}", gain.reason)
    }

    /// The share of zeros of each layer that has one of its own.
    fn shares(&self, model: &Model, setting: &Setting) -> Result<BTreeMap<String, f64>> {
        let step = self.ranking.step;
        if step.scope == Scope::Layer {
            return Ok(BTreeMap::new());
        }
        let mut units: Vec<(f64, u32, usize)> = Vec::new();
        let mut totals = vec![0usize; self.layers.len()];
        let mut first = 0;
        let products: Vec<Product> = self.layers.iter().cloned().map(Product::from).collect();
        for chunk in chunks(&products) {
            let evidence = if self.ranking.needs_data() {
                setting.progress.begin("ranking", setting.samples.len());
                evidence(model, model, &Kept::new(), chunk, ALL, setting)?
            } else {
                Vec::new()
            };
            for (n, product) in chunk.iter().enumerate() {
                let layer = &product.layer;
                let matrix = layer.matrix(model)?;
                let groups = layer.kind.groups();
                for group in 0..groups {
                    let rows = rows_of(&matrix, group, groups);
                    let problem = evidence.get(n).map(|e| e[group].problem(&rows, &rows, layer.bias.is_some()));
                    let zones = Zones::new(layer, rows.ncols(), self.shape(layer));
                    let scores = self.ranking.scores(layer, &rows, problem.as_ref(), &zones)?;
                    let scale = self.ranking.scale(&rows, problem.as_ref());
                    let scored = zones.units(&scores, &present(&rows));
                    units.extend(scored.into_iter().map(|u| (u.score / scale, u.size, first + n)));
                }
                totals[first + n] = matrix.data.len();
            }
            first += chunk.len();
        }
        let zeros = apportion(units, &totals, step.share());
        let share = |n: usize| (self.layers[n].output.clone(), zeros[n] as f64 / totals[n] as f64);
        Ok((0..self.layers.len()).map(share).collect())
    }
}

/// How many weights of each layer become zero: units with the least scores of all go, each with its number of weights
/// and its layer, but no layer loses nearly all.
fn apportion(mut units: Vec<(f64, u32, usize)>, totals: &[usize], share: f64) -> Vec<usize> {
    units.sort_by(|a, b| a.0.total_cmp(&b.0));
    let most = 1.0 - (1.0 - share) * LEAST_LEFT;
    let wanted = (share * totals.iter().sum::<usize>() as f64).round() as usize;
    let (mut gone, mut sum) = (vec![0usize; totals.len()], 0usize);
    for (_, size, layer) in units {
        if sum >= wanted {
            break;
        }
        if (gone[layer] + size as usize) as f64 <= most * totals[layer] as f64 {
            gone[layer] += size as usize;
            sum += size as usize;
        }
    }
    gone
}

/// New weights of a product.
#[derive(Serialize, Deserialize)]
pub(super) struct Fitted {
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    error: f64,
}

impl Fitted {
    /// Gives them to the product; returns the relative error of its result.
    pub fn apply(self, product: &Product, model: &mut Model) -> Result<f64> {
        let matrix = Matrix { data: self.weights, ..product.matrix(model)? };
        product.set_matrix(model, &matrix)?;
        if let Some(bias) = self.bias {
            product.set_bias(model, &bias)?;
        }
        Ok(self.error)
    }
}

/// One product and what is known about it.
pub(super) struct Work<'a> {
    pub ranking: &'a Ranking<'a>,
    pub reference: &'a Model,
    pub kept: &'a Kept,
    pub product: &'a Product,
    pub groups: &'a [Evidence],
}

impl Work<'_> {
    /// Fits the weights, of which a share becomes zero in a shape if one is given.
    pub fn run(&self, model: &Model, zeros: Option<(Pattern, f64)>) -> Result<Fitted> {
        let (product, groups) = (self.product, self.groups.len());
        let before = product.again(self.reference)?;
        let (original, mut matrix) = (before.matrix(self.reference)?, product.matrix(model)?);
        let (old_bias, mut bias) = (before.bias(self.reference), product.bias(model));
        let free = bias.is_some() && old_bias.is_some();
        let kept = self.kept.get(&product.key());
        let kept = |row: usize| kept.map_or(row, |rows| rows[row]);
        let mut error = Error::default();
        for (group, evidence) in self.groups.iter().enumerate() {
            let rows = rows_of(&matrix, group, groups);
            let first = group * rows.ncols();
            let old = |j: usize, r: usize| f64::from(original.row(kept(first + r))[j]);
            let reference = Mat::from_fn(original.columns, rows.ncols(), old);
            let problem = evidence.problem(&reference, &rows, free);
            let fitted = match zeros {
                Some(zeros) => self.fitted(&problem, &rows, zeros)?,
                None => problem.solve(&present(&rows))?,
            };
            error += evidence.error(&reference, &fitted, free);
            for r in 0..rows.ncols() {
                let values = matrix.row_mut(first + r).iter_mut().zip(fitted.col_as_slice(r));
                values.for_each(|(w, &v)| *w = v as f32);
                if let (Some(bias), Some(old)) = (&mut bias, &old_bias) {
                    let shift = evidence.shift(reference.col_as_slice(r), fitted.col_as_slice(r));
                    bias[first + r] = (f64::from(old[kept(first + r)]) + shift) as f32;
                }
            }
        }
        Ok(Fitted { weights: matrix.data, bias, error: error.relative() })
    }

    /// The rows with zeros.
    fn fitted(&self, problem: &Problem, rows: &Rows, (shape, share): (Pattern, f64)) -> Result<Rows> {
        let step = self.ranking.step;
        let zones = Zones::new(&self.product.layer, rows.ncols(), shape);
        let present = present(rows);
        let zeros = (share * present.len() as f64).round() as usize;
        let scores = self.ranking.scores(&self.product.layer, rows, Some(problem), &zones)?;
        let mask = zones.mask(&scores, &present, zeros);
        if !step.reconstruct {
            return Ok(masked(rows, &mask));
        }
        let fitted = problem.solve(&mask)?;
        if step.criterion != Criterion::Error {
            return Ok(fitted);
        }
        let found = Search { problem, zones: &zones, present: &present, zeros }.run(rows)?;
        let other = problem.solve(&found)?;
        Ok(if problem.error(&other) < problem.error(&fitted) { other } else { fitted })
    }
}

/// The rows of a group.
pub(super) fn rows_of(matrix: &Matrix, group: usize, groups: usize) -> Rows {
    let rows = matrix.rows / groups.max(1);
    Mat::from_fn(matrix.columns, rows, |j, r| f64::from(matrix.row(group * rows + r)[j]))
}

fn present(rows: &Rows) -> Mask {
    (0..rows.ncols()).flat_map(|r| rows.col_as_slice(r)).map(|w| *w != 0.0).collect()
}
