//! Runs the compiled model on samples and shows the values of names to a function.
//!
//! Contract: samples run on all cores, and are shown in their order, so that what is summed up does not depend on the
//! number of cores. Only as many samples as cores are in memory.

use std::collections::BTreeSet;

use mcc::Options;
use mcc_data::Samples;
use mcc_ir::{Error, Result, Tensor};
use rayon::prelude::*;

use crate::cache::Cache;
use crate::model::Model;

/// Hears what is done, and how far it is.
pub trait Progress: Sync {
    /// Work of so many steps begins.
    fn begin(&self, what: &str, steps: usize);
    /// A step is done.
    fn advance(&self);
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: usize) {}
    fn advance(&self) {}
}

/// What every step of a compression works with.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The calibration data.
    pub samples: &'a Samples,
    /// How the model is compiled for this machine, on one thread.
    pub options: &'a Options,
    /// Hears what is done.
    pub progress: &'a dyn Progress,
    /// Keeps results.
    pub cache: &'a Cache,
}

/// A model compiled up to some names.
pub struct Tap {
    compiled: mcc::Compiled,
    loaded: mcc::loader::Model,
    /// The places of its inputs among those of the whole model.
    places: Vec<usize>,
    /// The output of each name: a name may be asked for twice, but an output has a name of its own.
    order: Vec<usize>,
}

impl Tap {
    /// Compiles the part of a model that computes `names`.
    ///
    /// # Errors
    /// When it does not compile.
    pub fn new(model: &Model, names: &[&str], setting: &Setting) -> Result<Tap> {
        let unique: Vec<&str> = names.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let order: Vec<usize> = names.iter().filter_map(|name| unique.binary_search(name).ok()).collect();
        let compiled = mcc::compile(model.tapped(&unique)?, setting.options)?;
        let loaded = compiled.load()?;
        // A part of the model may not read all inputs.
        let inputs = &model.graph().input;
        let place = |name: &str| inputs.iter().position(|i| i.name == name);
        let places: Option<Vec<usize>> = compiled.inputs().iter().map(|p| place(&p.name)).collect();
        let places = places.ok_or_else(|| Error::internal("an input that the model does not have"))?;
        Ok(Tap { compiled, loaded, places, order })
    }

    /// The values of the names for a sample.
    ///
    /// # Errors
    /// When the sample does not fit the model.
    pub fn run(&self, sample: &[Tensor]) -> Result<Vec<Tensor>> {
        let inputs = self.places.iter().map(|&p| sample[p].clone()).collect();
        let outputs = self.compiled.with_weights(inputs).and_then(|inputs| self.loaded.invoke(&inputs))?;
        Ok(self.order.iter().map(|&i| outputs[i].clone()).collect())
    }

    /// Shows the values of all taps for each sample, one tap's after the other's, with the sample's number.
    ///
    /// # Errors
    /// When a sample cannot be read or run; those of `each`.
    pub fn run_all(
        taps: &[&Tap],
        setting: &Setting,
        each: &mut dyn FnMut(usize, &[Tensor]) -> Result<()>,
    ) -> Result<()> {
        let run = |n: usize| -> Result<Vec<Tensor>> {
            let sample = setting.samples.read(n)?;
            let values: Result<Vec<Vec<Tensor>>> = taps.iter().map(|tap| tap.run(&sample)).collect();
            values.map(|v| v.concat()).map_err(|e| e.within(format!("sample {}", setting.samples.name(n))))
        };
        let at_once = rayon::current_num_threads().max(1);
        let all: Vec<usize> = (0..setting.samples.len()).collect();
        for chunk in all.chunks(at_once) {
            let outputs: Vec<Result<Vec<Tensor>>> = chunk.par_iter().map(|&n| run(n)).collect();
            for (&n, outputs) in chunk.iter().zip(outputs) {
                each(n, &outputs?)?;
                setting.progress.advance();
            }
        }
        Ok(())
    }
}

/// Shows the values of `names` for each sample, with the sample's number.
///
/// # Errors
/// When the model does not compile or run on a sample; those of `each`.
pub fn observe(
    model: &Model,
    names: &[&str],
    setting: &Setting,
    each: &mut dyn FnMut(usize, &[Tensor]) -> Result<()>,
) -> Result<()> {
    Tap::run_all(&[&Tap::new(model, names, setting)?], setting, each)
}
