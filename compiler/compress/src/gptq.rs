//! GPTQ: rounds the weights of a layer one column after the other, while the weights that are left make up for the error
//! (Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
//! Transformers", 2022).
//!
//! Contract: takes any levels: equal steps of any width, or codebooks. No row has a larger error than if each weight was
//! rounded to the nearest level; a row for which GPTQ is worse is rounded that way. Results do not depend on the number of
//! threads.

#[cfg(test)]
mod tests;

use mcc_ir::{Error, Result};
use rayon::prelude::*;

use crate::curvature::{Inverse, Order, ROWS, row_errors};
use crate::levels::Levels;
use crate::matrix::Matrix;
use crate::sweep::{Decide, sweep};

/// How weights are rounded.
#[derive(Clone, Copy, Debug)]
pub struct Options<'o> {
    /// What is added to the diagonal of the Gram matrix, relative to its mean; 0.01 is usual.
    pub damping: f64,
    /// Consecutive columns with levels of their own; `None` for one set per row.
    pub group: Option<usize>,
    /// The order in which columns are rounded. If it is not [`Order::Given`], levels are found from the given weights,
    /// since a group's columns are not rounded together.
    pub order: Order,
    /// The weights that stay; the others become 0. Without it all do.
    pub kept: Option<&'o [bool]>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { damping: 0.01, group: None, order: Order::Given, kept: None }
    }
}

/// The weights of one row that share levels.
#[derive(Clone, Copy, Debug)]
pub struct Group<'w> {
    /// The row.
    pub row: usize,
    /// The number of the group in the row.
    pub group: usize,
    /// What the weights are when the group is begun.
    pub weights: &'w [f32],
}

/// Rounded weights.
#[derive(Clone, Debug)]
pub struct Rounded {
    /// The code of every weight, row-major; of a weight that is not kept, the code nearest to 0.
    pub codes: Vec<i32>,
    /// The weights that codes stand for, 0 where one is not kept.
    pub values: Matrix,
    /// The levels of every row and group, row-major.
    pub levels: Vec<Levels>,
    /// Columns of a group.
    pub group: usize,
}

/// Rounds `weights`, given the Gram matrix of the layer's inputs (columns by columns, row-major). `levels` is called for
/// every row and group, with the given weights and again when the group is begun.
///
/// # Errors
/// When sizes do not agree, or a number is not finite.
pub fn gptq(
    weights: &Matrix,
    gram: &[f64],
    options: &Options<'_>,
    levels: &(impl Fn(Group<'_>) -> Levels + Sync),
) -> Result<Rounded> {
    check(weights, options)?;
    if weights.data.is_empty() {
        return Ok(Rounded { codes: Vec::new(), values: weights.clone(), levels: Vec::new(), group: 1 });
    }
    let plain = nearest(weights, options, levels);
    let inverse = Inverse::of(gram, weights.columns, options.order, options.damping)?;
    let chunks: Vec<usize> = (0..weights.rows).step_by(ROWS).collect();
    let parts: Vec<Rounded> = chunks
        .into_par_iter()
        .map(|first| {
            let rows = first..weights.rows.min(first + ROWS);
            swept(weights, rows, &inverse, options, &plain, levels)
        })
        .collect();
    let mut rounded = Rounded {
        codes: Vec::new(),
        values: Matrix::zeros(weights.rows, weights.columns),
        levels: Vec::new(),
        group: plain.group,
    };
    rounded.values.data.clear();
    for part in parts {
        rounded.codes.extend(part.codes);
        rounded.values.data.extend(part.values.data);
        rounded.levels.extend(part.levels);
    }
    prefer(&mut rounded, &plain, weights, gram)?;
    Ok(rounded)
}

/// Every weight rounded to the nearest level. Options and levels are those of [`gptq`].
pub fn nearest(weights: &Matrix, options: &Options<'_>, levels: &(impl Fn(Group<'_>) -> Levels + Sync)) -> Rounded {
    let columns = weights.columns.max(1);
    let width = options.group.unwrap_or(columns).clamp(1, columns);
    let groups = columns.div_ceil(width);
    let levels: Vec<Levels> = (0..weights.rows * groups)
        .into_par_iter()
        .map(|at| {
            let (row, group) = (at / groups, at % groups);
            let weights = &weights.row(row)[group * width..columns.min((group + 1) * width)];
            levels(Group { row, group, weights })
        })
        .collect();
    let kept = |at: usize| options.kept.is_none_or(|kept| kept[at]);
    let level = |at: usize| &levels[at / columns * groups + at % columns / width];
    let codes: Vec<i32> =
        (weights.data.par_iter().enumerate()).map(|(at, &w)| level(at).code(if kept(at) { w } else { 0.0 })).collect();
    let values = codes.par_iter().enumerate().map(|(at, &code)| if kept(at) { level(at).value(code) } else { 0.0 });
    let values = Matrix { rows: weights.rows, columns: weights.columns, data: values.collect() };
    Rounded { codes, values, levels, group: width }
}

fn check(weights: &Matrix, options: &Options<'_>) -> Result<()> {
    if let Some(kept) = options.kept
        && kept.len() != weights.data.len()
    {
        return Err(Error::internal(format!("a mask of {} for {} weights", kept.len(), weights.data.len())));
    }
    match weights.data.iter().find(|w| !w.is_finite()) {
        Some(bad) => Err(Error::invalid(format!("a weight is {bad}, and cannot be rounded"))),
        None => Ok(()),
    }
}

/// Takes the rows of `plain` that have less error.
fn prefer(rounded: &mut Rounded, plain: &Rounded, weights: &Matrix, gram: &[f64]) -> Result<()> {
    let [new, old] = [&rounded.values, &plain.values].map(|values| row_errors(weights, values, gram));
    let (new, old) = (new?, old?);
    let (columns, groups) = (weights.columns, rounded.levels.len() / weights.rows);
    for row in (0..weights.rows).filter(|&row| old[row] < new[row]) {
        let (all, own) = (row * columns..(row + 1) * columns, row * groups..(row + 1) * groups);
        rounded.codes[all.clone()].copy_from_slice(&plain.codes[all.clone()]);
        rounded.values.data[all.clone()].copy_from_slice(&plain.values.data[all]);
        rounded.levels[own.clone()].clone_from_slice(&plain.levels[own]);
    }
    Ok(())
}

/// Some rows, rounded by a sweep over the columns.
fn swept(
    weights: &Matrix,
    rows: std::ops::Range<usize>,
    inverse: &Inverse,
    options: &Options<'_>,
    plain: &Rounded,
    levels: &(impl Fn(Group<'_>) -> Levels + Sync),
) -> Rounded {
    let n = weights.columns;
    let width = options.group.unwrap_or(n).clamp(1, n);
    let groups = n.div_ceil(width);
    let mut values: Vec<f32> =
        rows.clone().flat_map(|row| inverse.order.iter().map(move |&c| weights.row(row)[c])).collect();
    let mut rounding = Rounding {
        first: rows.start,
        order: &inverse.order,
        columns: n,
        width,
        kept: options.kept,
        find: levels,
        levels: plain.levels[rows.start * groups..rows.end * groups].to_vec(),
        codes: vec![0; values.len()],
        begins: options.order == Order::Given,
    };
    sweep(&mut values, inverse, width, &mut rounding);
    let mut data = vec![0.0; values.len()];
    for (row, values) in values.chunks(n).enumerate() {
        inverse.order.iter().zip(values).for_each(|(&c, &v)| data[row * n + c] = v);
    }
    let Rounding { codes, levels, .. } = rounding;
    Rounded { codes, values: Matrix { rows: rows.len(), columns: n, data }, levels, group: width }
}

/// Rounds to levels that are found when a group begins.
struct Rounding<'r, F> {
    /// The first row's number in the layer.
    first: usize,
    order: &'r [usize],
    columns: usize,
    width: usize,
    kept: Option<&'r [bool]>,
    find: &'r F,
    levels: Vec<Levels>,
    codes: Vec<i32>,
    /// Whether levels are found when a group begins.
    begins: bool,
}

impl<F: Fn(Group<'_>) -> Levels> Decide for Rounding<'_, F> {
    fn block(&mut self, _: &[f32], _: usize, _: usize) {}

    fn value(&mut self, row: usize, column: usize, weights: &[f32]) -> f32 {
        let at = self.order[column];
        let group = at / self.width;
        let levels = &mut self.levels[row * self.columns.div_ceil(self.width) + group];
        // The first group's levels are known: nothing has changed before it.
        if self.begins && at.is_multiple_of(self.width) && at > 0 {
            let weights = &weights[..self.width.min(weights.len())];
            *levels = (self.find)(Group { row: self.first + row, group, weights });
        }
        let is_kept = self.kept.is_none_or(|kept| kept[(self.first + row) * self.columns + at]);
        let code = levels.code(if is_kept { weights[0] } else { 0.0 });
        self.codes[row * self.columns + at] = code;
        if is_kept { levels.value(code) } else { 0.0 }
    }
}
