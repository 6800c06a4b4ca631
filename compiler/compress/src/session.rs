//! A compression under way: the model given, the model as it is now, and what is decided about its layers.

use std::collections::{BTreeMap, BTreeSet};

use mcc_ir::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::layers::{self, Layer};
use crate::lowrank;
use crate::matrix::Matrix;
use crate::model::Model;
use crate::norms;
use crate::observe::Setting;
use crate::opset;
use crate::prune::{self, Task};
use crate::quantize::activation::{self, Bytes};
use crate::quantize::places::Places;
use crate::quantize::weights::Codes;
use crate::quantize::{self, tables, write};
use crate::recipe::{Quantize, Recipe, Selection, Step, Weights, fits};
use crate::recover;
use crate::recurrent;
use crate::write::FOUR_BITS_SINCE;

/// Why a layer stays as it is.
const CODED: &str = "its weights are quantized already";

/// Layers that an error names.
const LISTED: usize = 20;

/// The least version of the standard operators that has a scale per channel.
const PER_CHANNEL: i64 = 13;

/// A compression under way.
#[derive(Debug, Clone)]
pub struct Session {
    /// The model given, with its normalisations folded.
    pub teacher: Model,
    /// The same with other weights; codes and bytes are not in it yet.
    pub model: Model,
    /// The codes of weights, by the layer's result.
    pub codes: BTreeMap<String, Codes>,
    /// The weights that they were made from.
    pub given: BTreeMap<String, Matrix>,
    /// The layers whose data become bytes at run time, by their results.
    pub dynamic: BTreeSet<String>,
    /// Which activations are bytes, and who reads them.
    pub places: Places,
    /// The bytes' scales.
    pub bytes: BTreeMap<String, Bytes>,
    /// What happened to each layer.
    pub changes: Vec<Change>,
}

/// What steps change.
#[derive(Serialize, Deserialize)]
struct State {
    model: Model,
    codes: BTreeMap<String, Codes>,
    given: BTreeMap<String, Matrix>,
    dynamic: BTreeSet<String>,
    places: Places,
    bytes: BTreeMap<String, Bytes>,
    changes: Vec<Change>,
}

/// What happened to a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The layer's name.
    pub layer: String,
    /// Its operator.
    pub operator: String,
    /// Which weights of the operator, `W` or `R`, if it has two.
    pub part: String,
    /// Its result.
    pub output: String,
    /// The share of its weights that are zero.
    pub zeros: f64,
    /// Bits of a weight.
    pub weight_bits: f64,
    /// Bits of its data.
    pub data_bits: u32,
    /// The relative error that the change of its weights makes in its result, by itself.
    pub error: f64,
    /// What was decided, and why.
    pub reason: String,
}

/// Applies a recipe to a model.
///
/// # Errors
/// When the model does not compile, has no layers that a step is for, or a step cannot be done.
pub fn compress(model: Model, recipe: &Recipe, setting: &Setting) -> Result<Session> {
    recipe.check()?;
    let mut teacher = model;
    let opset = recipe.steps.iter().filter_map(opset_of).max().unwrap_or(0);
    if teacher.opset() < opset {
        teacher.edit(|proto| opset::upgrade(proto, opset))?;
    }
    norms::fold(&mut teacher)?;
    recurrent::name_results(&mut teacher);
    let mut session = Session {
        model: teacher.clone(),
        teacher,
        codes: BTreeMap::new(),
        given: BTreeMap::new(),
        dynamic: BTreeSet::new(),
        places: Places::new(),
        bytes: BTreeMap::new(),
        changes: Vec::new(),
    };
    session.record_all();
    let within = |n: usize| move |e: Error| e.within(format!("step {} of the recipe", n + 1));
    // Recovery judges by samples that no other step sees.
    let (mut seen, mut labels) = (setting.samples.clone(), Vec::new());
    for (n, step) in recipe.steps.iter().enumerate() {
        if let Step::Recover(step) = step {
            labels.push(recover::check(&session.teacher, step, setting).map_err(within(n))?);
            seen = recover::not_held(setting.samples);
        }
    }
    for (n, step) in recipe.steps.iter().enumerate() {
        let bytes = recipe.steps[n..].iter().any(Step::is_bytes);
        let so_far = Recipe { steps: recipe.steps[..=n].to_vec(), ..recipe.clone() };
        let others = format!("{opset} {bytes} {} {labels:?}", seen.len());
        let cache = setting.cache.within(&[so_far.text()?.as_bytes(), others.as_bytes()]);
        let setting = &Setting { cache: &cache, ..*setting };
        let seen = &Setting { samples: &seen, ..*setting };
        let run = |session: &mut Session| match step {
            Step::Quantize(quantize) => quantize::step::run(session, quantize, seen),
            Step::Prune(step) => prune::run(session, &Task { step, seed: recipe.seed, bytes }, seen),
            Step::LowRank(step) => lowrank::run(session, step, seen),
            Step::Recover(step) => recover::run(session, step, recipe.seed, setting),
        };
        match cache.keeps() {
            false => run(&mut session).map_err(within(n))?,
            true => {
                let made = || run(&mut session).map(|()| session.state());
                let state = cache.get("step", n, made).map_err(within(n))?;
                session.restore(state);
            }
        }
    }
    Ok(session)
}

/// The least version of the standard operators that has what a step writes.
fn opset_of(step: &Step) -> Option<i64> {
    match step {
        Step::Quantize(Quantize { weights: Weights::Int(..=4) | Weights::Codebook(..=4), .. }) => Some(FOUR_BITS_SINCE),
        Step::Quantize(_) => Some(PER_CHANNEL),
        Step::Prune(_) | Step::LowRank(_) | Step::Recover(_) => None,
    }
}

impl Change {
    /// The operator, and which of its weights.
    pub fn of(&self) -> String {
        if self.part.is_empty() { self.operator.clone() } else { format!("{} {}", self.operator, self.part) }
    }
}

impl Session {
    fn state(&self) -> State {
        let Session { model, codes, given, dynamic, places, bytes, changes, teacher: _ } = self.clone();
        State { model, codes, given, dynamic, places, bytes, changes }
    }

    fn restore(&mut self, state: State) {
        let State { model, codes, given, dynamic, places, bytes, changes } = state;
        *self = Session { teacher: self.teacher.clone(), model, codes, given, dynamic, places, bytes, changes };
    }

    fn record_all(&mut self) {
        self.changes = layers::find(&self.model)
            .into_iter()
            .map(|layer| Change {
                zeros: layer.matrix(&self.model).map_or(0.0, |m| m.zero_share()),
                part: layer.recurrence().map_or("", |r| r.symbol()).to_string(),
                layer: layer.name,
                operator: layer.operator,
                output: layer.output,
                weight_bits: 32.0,
                data_bits: 32,
                error: 0.0,
                reason: String::new(),
            })
            .collect();
        for table in tables::find(&self.model) {
            self.changes.push(Change {
                layer: table.name,
                operator: "Gather".to_string(),
                part: String::new(),
                output: table.output,
                zeros: 0.0,
                weight_bits: 32.0,
                data_bits: 32,
                error: 0.0,
                reason: String::new(),
            });
        }
    }

    /// Changes what is recorded of a layer.
    pub fn change(&mut self, output: &str, edit: impl FnOnce(&mut Change)) {
        if let Some(change) = self.changes.iter_mut().find(|c| c.output == output) {
            edit(change);
        }
    }

    /// Checks that every pattern of a selection fits a layer.
    ///
    /// # Errors
    /// When one fits none.
    pub fn check(&self, selection: &Selection) -> Result<()> {
        let useless = selection.useless(|pattern| self.changes.iter().any(|c| fits(pattern, &c.layer, &c.operator)));
        if useless.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.changes.iter().map(|c| c.layer.as_str()).take(LISTED).collect();
        Err(Error::usage(format!("no layer fits {}", useless.join(", "))).help(format!(
            "the layers are {}{}",
            names.join(", "),
            if self.changes.len() > LISTED { ", ..." } else { "" }
        )))
    }

    /// The layers that a step is for, of those that `can` be.
    ///
    /// # Errors
    /// When there are none, or a pattern of the selection fits no layer.
    pub fn selected(&mut self, selection: &Selection, can: impl Fn(&Layer) -> bool) -> Result<Vec<Layer>> {
        self.check(selection)?;
        let takes = |l: &Layer| selection.takes(l) && can(l);
        let found: Vec<Layer> = layers::find(&self.model).into_iter().filter(takes).collect();
        let (coded, found): (Vec<Layer>, Vec<Layer>) = found.into_iter().partition(|l| l.is_coded);
        coded.iter().for_each(|l| self.change(&l.output, |c| c.reason = CODED.to_string()));
        match (found.is_empty(), coded.is_empty()) {
            (false, _) => Ok(found),
            (true, false) => Err(Error::unsupported("all weights that the step is for are quantized already")
                .help("compress the model from which this one was made")),
            (true, true) => {
                let inner = self.model.nodes().iter().flat_map(|n| &n.attribute).any(|a| a.g.is_some());
                let inner = if inner { "; those in branches and loops are not reached" } else { "" };
                Err(Error::unsupported("the model has no layers that the step is for").help(format!(
                    "layers are Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN with constant 32-bit float weights{inner}"
                )))
            }
        }
    }

    /// The model in ONNX's form.
    ///
    /// # Errors
    /// When its version of the standard operators has no such form.
    pub fn written(&self) -> Result<Model> {
        let mut model = self.model.clone();
        write::codes(self, &mut model)?;
        activation::write(&mut model, &self.places, &self.bytes)?;
        model.tidy()?;
        Ok(model)
    }
}
