//! The samples themselves.

use std::path::PathBuf;
use std::sync::Arc;

use mcc_ir::{DType, Error, Random, Result, Tensor};

use crate::find;
use crate::fit::Part;
use crate::item::{Item, Source};
use crate::media;
use crate::preprocess::value::Value;
use crate::{Port, Preprocess};

/// Samples of a model's inputs, read when they are asked for. Cloning costs little.
///
/// Data is any number of files and folders, in any of these forms:
///
/// | form | samples |
/// |---|---|
/// | a `.npy` file, or a folder of them at any depth | models with one input: one each, or several stacked along the first axis |
/// | a folder with `NAME.npy` for each input | one, or several stacked |
/// | folders with `NAME.npy` for each input | one each |
/// | a `.npz` file whose arrays are named after the inputs, or a folder of them | one each, or several stacked |
/// | `test_data_set_N` with `input_M.pb` (ONNX's layout), or folders that hold such | one each |
/// | images, sound, text | one a file (or a line), with a [`Preprocess`] |
///
/// An input's first axis, if its extent is 1 or not fixed, may be missing, or hold several samples. Elements of type
/// `f64` become `f32`, and `i32` `i64`, where the input takes those; anything else must be the input's type. A name that
/// is not valid as a file's is replaced by `input_M`, where M is the input's number.
#[derive(Debug, Clone)]
pub struct Samples {
    inputs: Arc<[Port]>,
    preprocess: Option<Preprocess>,
    items: Arc<[Item]>,
    /// The items that are samples, in order.
    chosen: Arc<[usize]>,
}

/// Bytes of all samples up to which each is read when they are opened.
const READ_AT_ONCE: usize = 16 << 20;

/// Faults that one error lists; data that does not fit seldom does so in one place.
const LISTED_FAULTS: usize = 10;

impl Samples {
    /// Finds the samples for these inputs, and checks everything that can be checked without reading all of them:
    /// names, shapes, element types, and the values of small data.
    ///
    /// # Errors
    /// When there are no samples, or some do not fit the inputs; the error lists every fault.
    pub fn open(data: &[PathBuf], inputs: &[Port], preprocess: Option<&Preprocess>) -> Result<Samples> {
        let makes = preprocess.filter(|p| p.source().is_some());
        let found = match makes.and_then(Preprocess::source).zip(makes) {
            Some((kind, preprocess)) => {
                preprocess.check_inputs(inputs)?;
                media::samples(data, kind)
            }
            None => find::tensors(data, inputs),
        };
        if let Some(error) = all(found.faults) {
            return Err(error);
        }
        if found.items.is_empty() {
            let data: Vec<String> = data.iter().map(|path| path.display().to_string()).collect();
            return Err(Error::invalid(format!(
                "{}: no samples: an axis, or a file, has no elements",
                data.join(", ")
            )));
        }
        let samples = Samples { preprocess: makes.cloned(), ..Samples::of(inputs.into(), found.items) };
        samples.check_small()?;
        Ok(samples)
    }

    /// Samples of tensors at hand: each has a tensor per input.
    pub fn from_tensors(samples: Vec<Vec<Tensor>>) -> Samples {
        let item = |(n, tensors)| Item { name: format!("sample {n}"), source: Source::Tensors(tensors) };
        let port = |(n, tensor): (usize, &Tensor)| Port { name: format!("input {n}"), ty: tensor.ty() };
        let inputs = samples.first().map(|first| first.iter().enumerate().map(port).collect()).unwrap_or_default();
        Samples::of(inputs, samples.into_iter().enumerate().map(item).collect())
    }

    fn of(inputs: Arc<[Port]>, items: Vec<Item>) -> Samples {
        Samples { inputs, preprocess: None, chosen: (0..items.len()).collect(), items: items.into() }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// The name of sample `n`, for messages and reports: a file's, with a number if the file has several.
    pub fn name(&self, n: usize) -> &str {
        &self.items[self.chosen[n]].name
    }

    /// Reads sample `n`: a tensor per input, in the inputs' order.
    ///
    /// # Errors
    /// When a file cannot be read any more, or an element is not a finite number.
    pub fn read(&self, n: usize) -> Result<Vec<Tensor>> {
        let item = &self.items[self.chosen[n]];
        let tensors = match &item.source {
            Source::Parts(parts) => parts.iter().map(Part::read).collect::<Result<Vec<_>>>(),
            Source::Tensors(tensors) => Ok(tensors.clone()),
            Source::Raw(raw) => raw.read().and_then(|value| self.make(&value)),
        };
        let named = |e: Error| e.within(format!("sample {}", item.name));
        let tensors = tensors.map_err(named)?;
        for (tensor, port) in tensors.iter().zip(self.inputs.iter()) {
            if let Some((at, value)) = not_finite(tensor) {
                let text = format!("input {:?}: element {at} is {value}", port.name);
                let help = "a model cannot be judged by such a value: remove the sample, or repair it";
                return Err(named(Error::invalid(text).help(help)));
            }
        }
        Ok(tensors)
    }

    /// The names of all samples of the data, also those that [`Samples::take`] left out.
    pub fn all_names(&self) -> Vec<&str> {
        self.items.iter().map(|item| item.name.as_str()).collect()
    }

    /// The place of sample `n` among all samples of the data.
    pub fn place(&self, n: usize) -> usize {
        self.chosen[n]
    }

    fn make(&self, sample: &Value) -> Result<Vec<Tensor>> {
        match &self.preprocess {
            Some(preprocess) => preprocess.make(sample, &self.inputs),
            None => Err(Error::internal("a sample that nothing makes a tensor of")),
        }
    }

    /// Sample `n` as it was before it became tensors: a picture, sound or text; `None` if it is tensors.
    ///
    /// # Errors
    /// When its file cannot be read any more.
    pub fn raw(&self, n: usize) -> Result<Option<Value>> {
        match &self.items[self.chosen[n]].source {
            Source::Raw(raw) => raw.read().map(Some),
            Source::Parts(_) | Source::Tensors(_) => Ok(None),
        }
    }

    /// At most `count` of the samples, drawn by a seed, in their order; all of them if there are no more.
    pub fn take(&self, count: usize, seed: u64) -> Samples {
        self.split(count, seed).0
    }

    /// [At most `count`](Samples::take) of the samples, and the others, both in their order.
    pub fn split(&self, count: usize, seed: u64) -> (Samples, Samples) {
        let mut order: Vec<usize> = self.chosen.to_vec();
        let mut others = Vec::new();
        if count < order.len() {
            let mut random = Random::new(seed);
            for n in 0..count {
                let other = n + random.below(order.len() - n);
                order.swap(n, other);
            }
            others = order.split_off(count);
            order.sort_unstable();
            others.sort_unstable();
        }
        let of = |chosen: Vec<usize>| Samples { chosen: chosen.into(), ..self.clone() };
        (of(order), of(others))
    }

    /// Some of the samples, by their numbers.
    pub fn only(&self, numbers: &[usize]) -> Samples {
        Samples { chosen: numbers.iter().map(|&n| self.chosen[n]).collect(), ..self.clone() }
    }

    /// Reads all samples if they are small, and the first in any case.
    fn check_small(&self) -> Result<()> {
        if self.preprocess.is_some() {
            return self.read(0).map(drop);
        }
        let bytes: usize = self.items.iter().map(Item::bytes).fold(0, usize::saturating_add);
        if bytes > READ_AT_ONCE {
            return Ok(());
        }
        let faults = (0..self.len()).filter_map(|n| self.read(n).err()).collect();
        all(faults).map_or(Ok(()), Err)
    }
}

/// One error of all faults, of which it lists the first.
fn all(mut faults: Vec<Error>) -> Option<Error> {
    let more = faults.len().saturating_sub(LISTED_FAULTS);
    if more > 0 {
        faults.truncate(LISTED_FAULTS);
        faults.push(Error::invalid(format!("{more} more such faults")));
    }
    Error::all(faults)
}

/// The first element that is not finite, with its place.
fn not_finite(tensor: &Tensor) -> Option<(usize, f64)> {
    if !tensor.dtype().is_float() {
        return None;
    }
    if tensor.dtype() == DType::F32 {
        // Elements are read in place: this runs for every sample.
        let finite = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite();
        let at = tensor.data().chunks_exact(4).position(|b| !finite(b))?;
        return Some((at, tensor.f64_at(at)));
    }
    (0..tensor.numel()).map(|i| (i, tensor.f64_at(i))).find(|(_, v)| !v.is_finite())
}
