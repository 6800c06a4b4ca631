//! How much a model's outputs change with its constants, to the first order.
//!
//! Contract: a change `d` of the constants changes outputs by about `J d`, and raises the error that [`Target`] measures by
//! about the square of `M J d`, where `M` makes squares of differences of outputs errors. That square is the mean of
//! `(g d)^2` over random `g = r M J` with `r` of independent signs (Hutchinson 1989), and each `g` is one pass
//! backward. No labels are needed: at the model itself the error has no gradient, but outputs have.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mcc_ir::{Error, Random, Result, Tensor, TensorType};
use rayon::prelude::*;

use super::examples::{Ports, Programs};
use super::program::{Data, Program};
use super::target::{Target, Wanted};
use super::{blocks, comparable, part, trainable};
use crate::model::Model;
use crate::observe::{Setting, Tap};

/// Random sums of outputs for each sample.
const PROBES: usize = 2;

/// What is computed of the gradients by constants, in the files' order of elements.
pub type Sums<'a> = dyn Fn(&BTreeMap<&str, Vec<f32>>) -> Vec<f64> + Sync + 'a;

/// The means, over samples and random sums of outputs, of the squares of what `sums` makes of the gradients by constants.
///
/// # Errors
/// When the model has an operation without gradients, no output that layers change, or does not run.
pub fn squares(
    model: &Model,
    constants: &BTreeSet<String>,
    sums: &Sums,
    seed: u64,
    setting: &Setting,
) -> Result<Vec<f64>> {
    let layers = trainable(model);
    let floats = comparable(model, model, setting)?;
    let names = blocks::ends(model, &layers, &|name| floats.contains(name));
    let block = blocks::whole(model, &layers, &names)
        .ok_or_else(|| Error::unsupported("no output of the model is of floats and depends on layers"))?;
    let ports = Ports::new(model, &block)?;
    let known = |name: &String| model.constant(name).map(|tensor| (name.clone(), tensor));
    let fixed: BTreeMap<String, &Tensor> = constants.iter().filter_map(known).collect();
    let given: BTreeMap<String, Data> =
        fixed.iter().map(|(name, t)| (name.clone(), Data::from((*t).clone()))).collect();
    let texts: Vec<&str> = names.iter().map(String::as_str).collect();
    let tap = Tap::new(model, &texts, setting)?;
    let first = tap.run(&setting.samples.read(0)?)?;
    let shapes: Vec<Vec<usize>> = first.iter().map(|t| t.shape().to_vec()).collect();
    let target = Target::outputs(&[&Wanted::new(&first, &names, None)?], &shapes, None)?;
    let mut programs = Programs::new();
    for n in 0..setting.samples.len() {
        let types = types(&ports.sides(&setting.samples.read(n)?));
        if let Entry::Vacant(entry) = programs.entry(types) {
            let inputs = ports.names.iter().cloned().zip(entry.key().iter().cloned());
            let all = inputs.chain(fixed.iter().map(|(name, t)| (name.clone(), t.ty()))).collect();
            let made = part::program(model, &all, &names, constants, setting.options)?;
            entry.insert(Arc::new(made));
        }
    }
    let run = |n: usize| -> Result<Vec<Vec<f64>>> {
        let read = ports.sides(&setting.samples.read(n)?);
        let program: &Program = &programs[&types(&read)];
        let inputs = ports.inputs(program, read);
        let trace = program.forward(&|name| inputs.get(name).or_else(|| given.get(name)).cloned())?;
        let outputs = program.outputs(&trace);
        let mut random = Random::new(seed.wrapping_add(n as u64));
        Ok((0..PROBES).map(|_| sums(&program.backward(&trace, target.probe(&outputs, &mut random)))).collect())
    };
    let all: Vec<usize> = (0..setting.samples.len()).collect();
    let mut means: Vec<f64> = Vec::new();
    for chunk in all.chunks(rayon::current_num_threads().max(1)) {
        let found: Vec<Result<Vec<Vec<f64>>>> = chunk.par_iter().map(|&n| run(n)).collect();
        for found in found {
            for sums in found? {
                means.resize(sums.len(), 0.0);
                means.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += sum * sum);
            }
            setting.progress.advance();
        }
    }
    let count = (PROBES * all.len()).max(1) as f64;
    Ok(means.into_iter().map(|mean| mean / count).collect())
}

fn types(tensors: &[Tensor]) -> Vec<TensorType> {
    tensors.iter().map(Tensor::ty).collect()
}
