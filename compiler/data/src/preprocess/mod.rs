//! How images, sound and text become tensors, as a TOML file says it once for every command.
//!
//! ```toml
//! source = "image"            # image, sound, text (one sample a file), lines (one a line) or bytes
//!
//! [input]                     # or [inputs.NAME] for each of several
//! steps = [
//!     { resize = { shorter = 256 } },
//!     { crop = [224, 224] },
//!     { scale = 0.00392156862745098 },
//!     { normalise = { mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] } },
//! ]
//! ```
//!
//! Contract: steps run in the order in which they are written, in 32-bit floats. Steps that cannot follow one another
//! are refused when the file is opened. [`schema`] has every key.

pub mod array;
pub mod image;
pub mod schema;
pub mod sound;
pub mod text;
pub mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mcc_ir::{DType, Error, Result, Tensor};

use crate::Port;
use schema::{File, Input, Source, Step, nearest};
use value::{Value, integers};

/// How the files of samples become a model's inputs, and what its first output means. Cloning costs little.
#[derive(Debug, Clone)]
pub struct Preprocess(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    file: PathBuf,
    source: Option<Source>,
    /// By name; the only input has none.
    inputs: BTreeMap<Option<String>, Recipe>,
    output: Option<Ctc>,
}

/// How one input is made.
#[derive(Debug)]
enum Recipe {
    Steps(Vec<Ready>),
    Constant { value: f64, shape: Option<Vec<usize>> },
    MaskOf(String),
    TypesOf(String),
}

/// A step whose files are read.
#[derive(Debug)]
enum Ready {
    Plain(Step),
    Characters(text::Characters),
    Wordpiece(text::Wordpiece),
}

/// The characters of a model that is trained by connectionist temporal classification (Graves et al. 2006): it gives a
/// class per step, and one class stands for no character.
#[derive(Debug, Clone, PartialEq)]
pub struct Ctc {
    /// The text of each class; that of the blank is empty.
    pub classes: Vec<String>,
    /// The class that stands for no character.
    pub blank: usize,
}

impl Preprocess {
    /// Reads a file of preprocessing, and the files that it names relative to its own folder.
    ///
    /// # Errors
    /// When it is not of the form that [`schema`] describes, or a step cannot follow the one before it; every such fault
    /// is listed.
    pub fn open(file: &Path) -> Result<Preprocess> {
        let text: File = schema::read(file)?;
        let folder = file.parent().unwrap_or(Path::new("")).to_path_buf();
        let within = |e: Error| e.within(file.display().to_string());
        let mut faults = Vec::new();
        let mut inputs = BTreeMap::new();
        if text.input.is_some() && !text.inputs.is_empty() {
            faults.push(within(Error::invalid("[input] and [inputs.NAME] are given; [input] is the model's only one")));
        }
        let named = text.inputs.into_iter().map(|(name, input)| (Some(name), input));
        for (name, input) in text.input.map(|input| (None, input)).into_iter().chain(named) {
            match recipe(input, text.source, &folder) {
                Ok(recipe) => drop(inputs.insert(name, recipe)),
                Err(e) => faults.push(within(e.within(table(&name)))),
            }
        }
        if text.source.is_some() && inputs.is_empty() && faults.is_empty() {
            faults.push(within(Error::invalid("no input is described").help("add [input] with steps = [ ... ]")));
        }
        if let Some(stray) = inputs.values().find_map(|recipe| stray(recipe, &inputs)) {
            let known: Vec<String> = inputs.keys().flatten().cloned().collect();
            let help = format!("{}inputs of this file: {}", nearest(&stray, &known), known.join(", "));
            faults.push(within(Error::invalid(format!("no steps for an input {stray:?}")).help(help)));
        }
        let output = text.output.map(|output| ctc(&output, &folder)).transpose();
        let output = output.unwrap_or_else(|e| {
            faults.push(within(e.within("[output]")));
            None
        });
        match Error::all(faults) {
            Some(error) => Err(error),
            None => Ok(Preprocess(Arc::new(Opened { file: file.to_path_buf(), source: text.source, inputs, output }))),
        }
    }

    /// What samples are made of; `None` if they are tensors.
    pub fn source(&self) -> Option<Source> {
        self.0.source
    }

    /// The characters of the model's first output.
    pub fn ctc(&self) -> Option<&Ctc> {
        self.0.output.as_ref()
    }

    /// Checks that each of the model's inputs is made.
    ///
    /// # Errors
    /// When an input is not described, or something else is.
    pub fn check_inputs(&self, inputs: &[Port]) -> Result<()> {
        let names: Vec<String> = inputs.iter().map(|port| port.name.clone()).collect();
        let file = self.0.file.display();
        let mut faults = Vec::new();
        for name in self.0.inputs.keys() {
            match name {
                None if inputs.len() != 1 => {
                    let text = format!("{file}: [input] is for one input, the model has {}", inputs.len());
                    faults.push(
                        Error::invalid(text).help(format!("write [inputs.NAME] for each of {}", names.join(", "))),
                    );
                }
                Some(name) if !names.contains(name) => {
                    let help = format!("{}its inputs are {}", nearest(name, &names), names.join(", "));
                    faults.push(Error::invalid(format!("{file}: the model has no input {name:?}")).help(help));
                }
                _ => {}
            }
        }
        for port in inputs {
            if self.recipe(&port.name).is_none() {
                let text = format!("{file}: nothing makes the input {:?}: {}", port.name, port.ty);
                faults.push(Error::invalid(text).help("add [inputs.NAME] with steps, value, mask-of or types-of"));
            }
        }
        Error::all(faults).map_or(Ok(()), Err)
    }

    fn recipe(&self, name: &str) -> Option<&Recipe> {
        self.0.inputs.get(&Some(name.to_string())).or_else(|| self.0.inputs.get(&None))
    }

    /// Makes the inputs of a sample.
    ///
    /// # Errors
    /// When a step cannot be applied, or its result does not fit the input; the error names step, input and file.
    pub fn make(&self, sample: &Value, inputs: &[Port]) -> Result<Vec<Tensor>> {
        let place = |e: Error, port: &Port| {
            e.within(format!("input {:?}: {}", port.name, port.ty)).within(self.0.file.display().to_string())
        };
        inputs.iter().map(|port| self.input(sample, port).map_err(|e| place(e, port))).collect()
    }

    fn input(&self, sample: &Value, port: &Port) -> Result<Tensor> {
        let of = |name: &str| match (self.recipe(name), sample) {
            (Some(Recipe::Steps(steps)), sample) => match run(steps, sample.clone())? {
                Value::Tokens(tokens) => Ok(tokens),
                _ => Err(Error::invalid(format!("input {name:?} is not made of tokens"))),
            },
            _ => Err(Error::internal("an input whose mask is asked for is not made by steps")),
        };
        match self.recipe(&port.name) {
            Some(Recipe::Steps(steps)) => run(steps, sample.clone())?.tensor(port),
            Some(Recipe::MaskOf(name)) => integers(&of(name)?.mask, port),
            Some(Recipe::TypesOf(name)) => integers(&of(name)?.types, port),
            Some(Recipe::Constant { value, shape }) => {
                let shape = shape.clone().or_else(|| port.ty.fixed_shape()).or_else(|| batch_of_one(port));
                let shape = shape.ok_or_else(|| {
                    Error::invalid("the constant has no shape").help("add shape = [ ... ], since the model fixes none")
                })?;
                let count = shape.iter().product();
                let tensor = Tensor::from_f64s(port.ty.dtype, shape, &vec![*value; count])?;
                crate::fit::check(&tensor, port).map(|()| tensor)
            }
            None => Err(Error::internal("an input that is not described")),
        }
    }
}

/// The input's shape, if only dimensions that may be a batch are symbolic: one sample.
fn batch_of_one(port: &Port) -> Option<Vec<usize>> {
    let named = port.ty.shape.iter().filter(|d| d.as_const().is_none()).count();
    let extent = |d: &mcc_ir::Dim| usize::try_from(d.as_const().unwrap_or(1)).ok();
    port.ty.shape.iter().map(extent).collect::<Option<Vec<_>>>().filter(|_| named <= 1)
}

fn table(name: &Option<String>) -> String {
    name.as_ref().map_or("[input]".to_string(), |name| format!("[inputs.{name}]"))
}

/// A name in `mask-of` or `types-of` that has no steps.
fn stray(recipe: &Recipe, inputs: &BTreeMap<Option<String>, Recipe>) -> Option<String> {
    let (Recipe::MaskOf(name) | Recipe::TypesOf(name)) = recipe else { return None };
    let known = matches!(inputs.get(&Some(name.clone())), Some(Recipe::Steps(_)));
    (!known).then(|| name.clone())
}

fn recipe(input: Input, source: Option<Source>, folder: &Path) -> Result<Recipe> {
    match input {
        Input { steps: Some(steps), value: None, shape: None, mask_of: None, types_of: None } => {
            let source = source.ok_or_else(|| {
                Error::invalid("steps without a source")
                    .help("add source = \"image\", \"sound\", \"text\", \"lines\" or \"bytes\" at the top")
            })?;
            ready(steps, source, folder).map(Recipe::Steps)
        }
        Input { steps: None, value: Some(value), shape, mask_of: None, types_of: None } => {
            Ok(Recipe::Constant { value, shape })
        }
        Input { steps: None, value: None, shape: None, mask_of: Some(name), types_of: None } => {
            Ok(Recipe::MaskOf(name))
        }
        Input { steps: None, value: None, shape: None, mask_of: None, types_of: Some(name) } => {
            Ok(Recipe::TypesOf(name))
        }
        _ => Err(Error::invalid("expected one of steps, value (with or without shape), mask-of and types-of")),
    }
}

fn ctc(output: &schema::Output, folder: &Path) -> Result<Ctc> {
    let mut classes = text::lines(&folder.join(&output.vocabulary))?;
    classes.extend(output.more.iter().cloned());
    if output.blank > classes.len() {
        return Err(Error::invalid(format!("blank = {}, but there are {} classes", output.blank, classes.len())));
    }
    classes.insert(output.blank, String::new());
    Ok(Ctc { classes, blank: output.blank })
}

/// What a value is between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A picture of 8-bit values.
    Picture,
    /// A picture of other values.
    Scaled,
    Sound,
    Text,
    Bytes,
    Tokens,
    Array,
}

/// What a step makes of a stage; `None` where it cannot be applied.
fn after(step: &Step, stage: Stage) -> Option<Stage> {
    use Stage::{Array, Bytes, Picture, Scaled, Sound, Text, Tokens};
    match (step, stage) {
        (Step::Resize(_) | Step::Color(_), Picture) => Some(Picture),
        (Step::Crop(_) | Step::Pad(_), Picture | Scaled) => Some(stage),
        (Step::Scale(_) | Step::Normalise(_) | Step::Standardise, Picture | Scaled) => Some(Scaled),
        (Step::Scale(_) | Step::Normalise(_) | Step::Standardise, Sound | Array) => Some(stage),
        (Step::Layout(_), Picture | Scaled) => Some(Array),
        (Step::Dtype(_), Picture | Scaled | Sound | Array | Tokens) => Some(stage),
        (Step::Mono | Step::Resample(_), Sound) => Some(Sound),
        (Step::Length(_), Sound | Tokens) => Some(stage),
        (Step::Frames(_) | Step::Mel(_), Sound) => Some(Array),
        (Step::Log(_) | Step::Transpose, Array) => Some(Array),
        (Step::Strip, Text | Bytes) => Some(stage),
        (Step::Bytes, Text | Bytes) => Some(Tokens),
        (Step::Characters(_) | Step::Wordpiece(_), Text) => Some(Tokens),
        _ => None,
    }
}

impl Stage {
    fn of(source: Source) -> Stage {
        match source {
            Source::Image => Stage::Picture,
            Source::Sound => Stage::Sound,
            Source::Text | Source::Lines => Stage::Text,
            Source::Bytes => Stage::Bytes,
        }
    }

    /// In words.
    fn name(self) -> &'static str {
        match self {
            Stage::Picture => "a picture",
            Stage::Scaled => "a picture whose values are scaled already",
            Stage::Sound => "sound",
            Stage::Text => "text",
            Stage::Bytes => "bytes",
            Stage::Tokens => "tokens",
            Stage::Array => "an array",
        }
    }
}

/// The key of a step.
fn name(step: &Step) -> &'static str {
    match step {
        Step::Resize(_) => "resize",
        Step::Crop(_) => "crop",
        Step::Color(_) => "color",
        Step::Pad(_) => "pad",
        Step::Scale(_) => "scale",
        Step::Normalise(_) => "normalise",
        Step::Layout(_) => "layout",
        Step::Dtype(_) => "dtype",
        Step::Mono => "mono",
        Step::Resample(_) => "resample",
        Step::Length(_) => "length",
        Step::Frames(_) => "frames",
        Step::Mel(_) => "mel",
        Step::Log(_) => "log",
        Step::Standardise => "standardise",
        Step::Transpose => "transpose",
        Step::Strip => "strip",
        Step::Bytes => "bytes",
        Step::Characters(_) => "characters",
        Step::Wordpiece(_) => "wordpiece",
    }
}

/// Checks the numbers of a step.
fn check(step: &Step) -> Result<()> {
    let exactly_one = |given: &[bool], keys: &str| match given.iter().filter(|g| **g).count() {
        1 => Ok(()),
        _ => Err(Error::invalid(format!("expected exactly one of {keys}"))),
    };
    let positive = |value: usize, key: &str| match value {
        0 => Err(Error::invalid(format!("{key} is 0"))),
        _ => Ok(()),
    };
    match step {
        Step::Resize(r) => {
            let given =
                [r.size.is_some(), r.shorter.is_some(), r.longer.is_some(), r.height.is_some(), r.width.is_some()];
            positive(r.multiple.unwrap_or(1), "multiple")?;
            match (r.multiple, given.contains(&true)) {
                (Some(_), false) => Ok(()),
                _ => exactly_one(&given, "size, shorter, longer, height and width"),
            }
        }
        Step::Crop(size) => size.iter().try_for_each(|&side| positive(side, "a side")),
        Step::Pad(p) => {
            positive(p.multiple.unwrap_or(1), "multiple")?;
            exactly_one(&[p.size.is_some(), p.multiple.is_some()], "size and multiple")
        }
        Step::Normalise(n) if n.mean.is_empty() || n.std.is_empty() => {
            Err(Error::invalid("mean and std need a number"))
        }
        Step::Normalise(n) if n.std.contains(&0.0) => Err(Error::invalid("std is 0")),
        Step::Dtype(name) if DType::from_name(name).is_none() => {
            let known: Vec<String> = DType::all().map(|dtype| dtype.to_string()).collect();
            let help = format!("{}types are {}", nearest(name, &known), known.join(", "));
            Err(Error::invalid(format!("no type {name:?}")).help(help))
        }
        Step::Resample(rate) => positive(*rate as usize, "the rate"),
        Step::Length(l) if l.last > 0 && l.first.is_none() => Err(Error::invalid("last without first")),
        Step::Length(l) => exactly_one(&[l.size.is_some(), l.first.is_some()], "size and first"),
        Step::Frames(f) => positive(f.size, "size").and_then(|()| positive(f.hop, "hop")),
        Step::Mel(m) if m.window.is_some_and(|window| window > m.fft) => {
            Err(Error::invalid("window is longer than fft"))
        }
        Step::Mel(m) => [(m.fft, "fft"), (m.hop, "hop"), (m.bands, "bands"), (m.window.unwrap_or(1), "window")]
            .into_iter()
            .try_for_each(|(value, key)| positive(value, key)),
        Step::Wordpiece(w) if w.separator.as_deref() == Some("") => Err(Error::invalid("separator is empty")),
        _ => Ok(()),
    }
}

/// Checks that each step can follow the one before it, and reads the files that they name.
fn ready(steps: Vec<Step>, source: Source, folder: &Path) -> Result<Vec<Ready>> {
    let mut stage = Stage::of(source);
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for (n, step) in steps.into_iter().enumerate() {
        let place = format!("step {} ({})", n + 1, name(&step));
        match after(&step, stage) {
            Some(next) => stage = next,
            None => {
                let text = format!("it does not apply to {}", stage.name());
                let error = match stage {
                    Stage::Scaled => Error::invalid(text).help("put it before scale and normalise"),
                    _ => Error::invalid(text),
                };
                faults.push(error.within(place));
                continue;
            }
        }
        let step = check(&step).and_then(|()| match step {
            Step::Characters(how) => text::Characters::open(&how, folder).map(Ready::Characters),
            Step::Wordpiece(how) => text::Wordpiece::open(&how, folder).map(Ready::Wordpiece),
            step => Ok(Ready::Plain(step)),
        });
        match step {
            Ok(step) => found.push(step),
            Err(e) => faults.push(e.within(place)),
        }
    }
    Error::all(faults).map_or(Ok(found), Err)
}

/// Runs the steps.
fn run(steps: &[Ready], sample: Value) -> Result<Value> {
    steps.iter().enumerate().try_fold(sample, |value, (n, step)| {
        let key = match step {
            Ready::Plain(step) => name(step),
            Ready::Characters(_) => "characters",
            Ready::Wordpiece(_) => "wordpiece",
        };
        apply(step, value).map_err(|e| e.within(format!("step {} ({key})", n + 1)))
    })
}

fn apply(step: &Ready, value: Value) -> Result<Value> {
    let step = match step {
        Ready::Plain(step) => step,
        Ready::Characters(how) => match value {
            Value::Text(text) => return how.tokens(&text).map(Value::Tokens),
            other => return Ok(other),
        },
        Ready::Wordpiece(how) => match value {
            Value::Text(text) => return Ok(Value::Tokens(how.tokens(&text))),
            other => return Ok(other),
        },
    };
    Ok(match (step, value) {
        (Step::Resize(how), Value::Picture(p)) => Value::Picture(p.resize(how)?),
        (Step::Crop(size), Value::Picture(p)) => Value::Picture(p.crop(*size)?),
        (Step::Color(to), Value::Picture(p)) => Value::Picture(p.color(*to)),
        (Step::Pad(how), Value::Picture(p)) => Value::Picture(p.pad(how)?),
        (Step::Layout(layout), Value::Picture(p)) => Value::Array(p.layout(*layout)),
        (Step::Mono, Value::Sound(s)) => Value::Sound(s.mono()),
        (Step::Resample(rate), Value::Sound(s)) => Value::Sound(s.resample(*rate)?),
        (Step::Frames(how), Value::Sound(s)) => Value::Array(s.frames(how)?),
        (Step::Mel(how), Value::Sound(s)) => Value::Array(s.mel(how)?),
        (Step::Strip, Value::Text(text)) => Value::Text(text.trim().to_string()),
        (Step::Strip, Value::Bytes(bytes)) => Value::Bytes(bytes.trim_ascii().to_vec()),
        (Step::Bytes, Value::Text(text)) => Value::Tokens(text::Tokens::bytes(text.as_bytes())),
        (Step::Bytes, Value::Bytes(bytes)) => Value::Tokens(text::Tokens::bytes(&bytes)),
        (Step::Scale(by), value) => value.map(|v| v * by),
        (Step::Normalise(how), value) => value.normalised(how)?,
        (Step::Standardise, value) => value.standardised(),
        (Step::Dtype(name), value) => value.rounded(DType::from_name(name).unwrap_or(DType::F32)),
        (Step::Length(how), value) => value.length(how)?,
        (Step::Log(how), value) => value.log(how),
        (Step::Transpose, value) => value.transposed()?,
        (step, _) => return Err(Error::internal(format!("the step {} on a value of another kind", name(step)))),
    })
}
