//! What the model's outputs lose with each unit, to the first order: the sum over the weights that make the unit of weight
//! times gradient (Molchanov et al. 2019), squared. The gradients are those of outputs, see
//! [`responses`](crate::recover::responses).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use mcc_ir::{Error, Result};

use super::Plan;
use super::families::Unit;
use super::trace::Traced;
use crate::model::Model;
use crate::observe::Setting;
use crate::prune::product::Product;
use crate::recover::responses::squares;

/// The elements of a constant that make rows of a product.
struct Elements {
    constant: String,
    /// The elements, of which all have a row.
    range: Range<usize>,
    /// For each, its row.
    rows: Vec<usize>,
}

/// A score for each unit of each plan.
///
/// # Errors
/// When the model has an operation without gradients, or does not run.
pub fn scores(
    model: &Model,
    products: &[Traced],
    plans: &[Plan],
    seed: u64,
    setting: &Setting,
) -> Result<Vec<Vec<f64>>> {
    let makers: BTreeSet<usize> = plans.iter().flat_map(|plan| plan.family.makers.iter().copied()).collect();
    let mut elements: Vec<(usize, Elements)> = Vec::new();
    for &maker in &makers {
        elements.extend(of_product(model, &products[maker].product)?.into_iter().map(|e| (maker, e)));
    }
    let constants: BTreeSet<String> = elements.iter().map(|(_, e)| e.constant.clone()).collect();
    let values: BTreeMap<&str, Vec<f32>> =
        constants.iter().filter_map(|name| Some((name.as_str(), model.constant(name)?.to_f32s()?))).collect();
    // The unit of each row of each maker; all plans' units one after another.
    let units: Vec<&Unit> = plans.iter().flat_map(|plan| &plan.family.units).collect();
    let unit_of: BTreeMap<usize, usize> =
        units.iter().enumerate().flat_map(|(n, unit)| unit.iter().map(move |&channel| (channel, n))).collect();
    let sums = |gradients: &BTreeMap<&str, Vec<f32>>| -> Vec<f64> {
        let mut sums = vec![0.0; units.len()];
        for (maker, Elements { constant, range, rows }) in &elements {
            let (Some(gradient), Some(values)) = (gradients.get(constant.as_str()), values.get(constant.as_str()))
            else {
                continue;
            };
            let makes = &products[*maker].makes;
            let each = rows.iter().zip(gradient[range.clone()].iter().zip(&values[range.clone()]));
            for (&row, (&g, &w)) in each {
                if let Some(&unit) = unit_of.get(&makes[row]) {
                    sums[unit] += f64::from(g) * f64::from(w);
                }
            }
        }
        sums
    };
    setting.progress.begin("responses of outputs", setting.samples.len());
    let found = squares(model, &constants, &sums, seed, setting).map_err(|error| match error {
        error @ Error::Unsupported(_) => error.help("choose another --criterion"),
        error => error,
    })?;
    let mut rest = found.into_iter();
    Ok(plans.iter().map(|plan| rest.by_ref().take(plan.family.units.len()).collect()).collect())
}

/// The weights of a product, and its bias if it has one of its own.
fn of_product(model: &Model, product: &Product) -> Result<Vec<Elements>> {
    let (range, rows) = product.weight_rows()?;
    let mut all = vec![Elements { constant: product.layer.weights.clone(), range, rows }];
    let name = product.layer.bias.as_ref().and_then(|bias| bias.name.clone());
    if let Some(constant) = name.filter(|name| model.users(name).len() == 1) {
        let range = product.bias_range();
        all.push(Elements { constant, rows: (0..range.len()).collect(), range });
    }
    Ok(all)
}
