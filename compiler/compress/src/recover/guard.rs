//! Judges the whole model on samples held out, with the compiler's own objects.

use mcc_data::{Label, Labels, Samples};
use mcc_ir::{Error, Result, Tensor};

use super::mix;
use super::target::{Target, Wanted};
use super::train::is_held;
use crate::model::Model;
use crate::observe::{Setting, observe};
use crate::recipe::Recover;

/// What a model's outputs should be on the samples held out.
pub struct Guard {
    /// The values that are compared.
    pub names: Vec<String>,
    /// The class of each sample, if there are labels.
    pub classes: Option<Vec<usize>>,
    samples: Samples,
    wanted: Vec<Wanted>,
    target: Target,
}

impl Guard {
    /// Runs the teacher.
    ///
    /// # Errors
    /// When it does not compile or run, or labels do not fit the samples or the model.
    pub fn new(teacher: &Model, names: Vec<String>, step: &Recover, setting: &Setting) -> Result<Guard> {
        let classes = classes(step, setting)?;
        let count = setting.samples.len();
        let mut held: Vec<usize> = (0..count).filter(|&n| is_held(n)).collect();
        if held.is_empty() {
            held = (0..count).collect();
        }
        let mut tensors: Vec<Vec<Tensor>> = held.iter().map(|&n| setting.samples.read(n)).collect::<Result<_>>()?;
        tensors.extend(mix::held_mixtures(setting.samples, &held)?);
        let samples = Samples::from_tensors(tensors);
        let (mut wanted, mut shapes) = (Vec::new(), Vec::new());
        let texts: Vec<&str> = names.iter().map(String::as_str).collect();
        setting.progress.begin("the given model", samples.len());
        observe(teacher, &texts, &Setting { samples: &samples, ..*setting }, &mut |n, values| {
            let class = classes.as_ref().zip(held.get(n)).map(|(classes, &n)| classes[n]);
            wanted.push(Wanted::new(values, &names, class)?);
            shapes = values.iter().map(|v| v.shape().to_vec()).collect();
            Ok(())
        })?;
        let target = Target::outputs(&wanted.iter().collect::<Vec<_>>(), &shapes, classes.as_deref())?;
        Ok(Guard { names, classes, samples, wanted, target })
    }

    /// The mean error of a model.
    ///
    /// # Errors
    /// When it does not compile or run.
    pub fn judge(&self, model: &Model, setting: &Setting) -> Result<f64> {
        let texts: Vec<&str> = self.names.iter().map(String::as_str).collect();
        setting.progress.begin("samples held out", self.samples.len());
        let mut sum = 0.0;
        observe(model, &texts, &Setting { samples: &self.samples, ..*setting }, &mut |n, values| {
            let got = Wanted::new(values, &self.names, None)?;
            let outputs: Vec<&[f32]> = got.outputs.iter().map(|o| &o[..]).collect();
            sum += self.target.compare(&self.wanted[n], &outputs).0;
            Ok(())
        })?;
        Ok(sum / self.samples.len().max(1) as f64)
    }
}

/// The class of each sample, of a file of labels.
fn classes(step: &Recover, setting: &Setting) -> Result<Option<Vec<usize>>> {
    let Some(file) = &step.labels else { return Ok(None) };
    let labels = Labels::open(file)?.of(setting.samples)?;
    let class = |(n, label): (usize, &Label)| {
        let text = || format!("{}: {:?}, the label of {}", file.display(), label.shown(), setting.samples.name(n));
        label.class().ok_or_else(|| {
            let help = "labels to train with are the numbers of classes, from 0";
            Error::invalid(format!("{} is no class", text())).help(help)
        })
    };
    labels.iter().enumerate().map(class).collect::<Result<Vec<_>>>().map(Some)
}
