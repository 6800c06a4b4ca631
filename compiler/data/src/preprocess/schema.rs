//! The file of preprocessing, as TOML. Every key is known: others are errors that name the nearest one.

use std::path::{Path, PathBuf};

use mcc_ir::{Error, Result};
use mcc_onnx::file::read_text;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// What a sample is made of; absent if samples are tensors.
    pub source: Option<Source>,
    /// The only input.
    pub input: Option<Input>,
    /// Inputs by name.
    #[serde(default)]
    pub inputs: std::collections::BTreeMap<String, Input>,
    /// What the first output means.
    pub output: Option<Output>,
}

/// What a sample is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A picture.
    Image,
    /// A file of sound.
    Sound,
    /// A file of text.
    Text,
    /// A line of a file of text.
    Lines,
    /// Any file.
    Bytes,
}

/// How an input is made: exactly one of its keys is given (`shape` belongs to `value`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Input {
    /// From the sample, in order.
    pub steps: Option<Vec<Step>>,
    /// The same number for each element.
    pub value: Option<f64>,
    /// The shape of a constant, if the model does not fix it.
    pub shape: Option<Vec<usize>>,
    /// 1 for each token of another input, 0 for its padding.
    pub mask_of: Option<String>,
    /// The part of a pair that each token of another input belongs to, 0 or 1.
    pub types_of: Option<String>,
}

/// The meaning of the model's first output.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Output {
    /// A file with a line for each class.
    pub vocabulary: PathBuf,
    /// The class that stands for no character.
    pub blank: usize,
    /// Classes after those of the file.
    #[serde(default)]
    pub more: Vec<String>,
}

/// A step from a sample to a tensor.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Scales a picture.
    Resize(Resize),
    /// Cuts height and width out of the middle.
    Crop([usize; 2]),
    /// Order and number of channels.
    Color(Color),
    /// Adds pixels.
    Pad(Pad),
    /// Multiplies by a number.
    Scale(f32),
    /// Subtracts a mean and divides by a deviation, one each or one a channel.
    Normalise(Normalise),
    /// The order of a picture's axes.
    Layout(Layout),
    /// Rounds to an integer type, whose bounds limit the values.
    Dtype(String),
    /// The mean of all channels.
    Mono,
    /// Samples per second.
    Resample(u32),
    /// Cuts and pads to a length.
    Length(Length),
    /// Overlapping parts of a signal: \[frames, size\].
    Frames(Frames),
    /// The energy in bands of frequency: \[bands, frames\].
    Mel(Mel),
    /// The logarithm.
    Log(Log),
    /// Subtracts the sample's own mean and divides by its own deviation.
    Standardise,
    /// Exchanges the two axes.
    Transpose,
    /// Removes white space at both ends.
    Strip,
    /// Every byte is a token.
    Bytes,
    /// Every character is a token.
    Characters(Characters),
    /// Words and parts of words are tokens, as in BERT.
    Wordpiece(Wordpiece),
}

/// Exactly one of `size`, `shorter`, `longer`, `height` and `width` is given.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Resize {
    /// Height and width.
    pub size: Option<[usize; 2]>,
    /// With `size`: scale both sides alike, so that the picture fits in, and pad the rest with `value`.
    pub keep_aspect: bool,
    /// Where the picture is in its padding.
    pub at: Place,
    /// What is padded with.
    pub value: f32,
    /// The length of the shorter side; the other keeps the aspect.
    pub shorter: Option<usize>,
    /// The length of the longer side.
    pub longer: Option<usize>,
    /// The height.
    pub height: Option<usize>,
    /// The width.
    pub width: Option<usize>,
    /// Both sides become multiples of it.
    pub multiple: Option<usize>,
    /// How pixels are computed.
    pub filter: Filter,
}

/// How pixels of a scaled picture are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The nearest one.
    Nearest,
    /// A triangle as wide as the scale, as in Pillow and torchvision.
    #[default]
    Bilinear,
    /// A cubic as wide as the scale, as in Pillow.
    Bicubic,
    /// Lanczos's, as in Pillow.
    Lanczos,
    /// The nearest four, whatever the scale, as OpenCV's INTER_LINEAR.
    Linear,
}

/// Where a picture is in its padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// At the top left.
    #[default]
    Start,
    /// In the middle.
    Centre,
}

/// Exactly one of `size` and `multiple` is given.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Pad {
    /// Height and width.
    pub size: Option<[usize; 2]>,
    /// Both sides become multiples of it.
    pub multiple: Option<usize>,
    /// What is padded with.
    pub value: f32,
    /// Where the picture is in its padding.
    pub at: Place,
}

/// The channels of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// Red, green, blue: what pictures are without this step.
    Rgb,
    /// Blue, green, red, as OpenCV reads them.
    Bgr,
    /// Luminance (ITU-R BT.601, as Pillow and OpenCV compute it).
    Gray,
}

/// The order of a picture's axes; the batch axis is added in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Channels first: what pictures are without this step.
    #[serde(alias = "NCHW", alias = "nchw", alias = "CHW")]
    Chw,
    /// Channels last.
    #[serde(alias = "NHWC", alias = "nhwc", alias = "HWC")]
    Hwc,
}

/// `(x - mean) / std`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalise {
    /// One for all channels, or one each.
    pub mean: Vec<f32>,
    /// The same.
    pub std: Vec<f32>,
}

/// Exactly one of `size` and `first` is given.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Length {
    /// The number of elements.
    pub size: Option<usize>,
    /// Elements of the beginning.
    pub first: Option<usize>,
    /// With `first`: elements of the end, after them.
    pub last: usize,
    /// What is padded with.
    pub pad: f32,
    /// Keeps what is shorter as it is.
    pub shorter: bool,
}

/// Overlapping parts of a signal.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frames {
    /// Samples of a frame.
    pub size: usize,
    /// Samples from the start of one to that of the next.
    pub hop: usize,
    /// What its samples are multiplied by.
    #[serde(default)]
    pub window: Window,
}

/// What the samples of a frame are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// 1.
    #[default]
    None,
    /// Hann's, periodic.
    Hann,
    /// Hamming's, periodic.
    Hamming,
}

/// A mel spectrogram, as librosa and torchaudio define it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mel {
    /// Samples of a transform.
    pub fft: usize,
    /// Samples of Hann's window, in its middle.
    pub window: Option<usize>,
    /// Samples from one transform to the next.
    pub hop: usize,
    /// Bands.
    pub bands: usize,
    /// The lowest frequency in hertz.
    #[serde(default)]
    pub low: f64,
    /// The highest, half of the rate if absent.
    pub high: Option<f64>,
    /// 2 for energies, 1 for magnitudes.
    #[serde(default = "two")]
    pub power: f32,
    /// The scale of frequencies.
    #[serde(default)]
    pub formula: Formula,
    /// Whether a band's weights are divided by its width (librosa's `norm="slaney"`).
    #[serde(default)]
    pub by_width: bool,
    /// Whether frames are around their places, with the signal mirrored at its ends.
    #[serde(default = "yes")]
    pub centre: bool,
}

fn two() -> f32 {
    2.0
}

fn yes() -> bool {
    true
}

/// The scale of frequencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Formula {
    /// `2595 log10(1 + f / 700)`.
    #[default]
    Htk,
    /// Linear up to 1 kHz, logarithmic above, as in Slaney's Auditory Toolbox.
    Slaney,
}

/// `log(max(x, floor))`, or with an offset `log(x + offset)`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What is added.
    pub offset: f32,
    /// What smaller values are taken as.
    pub floor: f32,
    /// Base 10; e if absent.
    pub decimal: bool,
}

impl Default for Log {
    fn default() -> Log {
        Log { offset: 0.0, floor: 1e-10, decimal: false }
    }
}

/// Every character is a token: its number among the vocabulary's lines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Characters {
    /// A file with a character a line.
    pub vocabulary: PathBuf,
    /// The token of other characters, one of the lines.
    pub unknown: Option<String>,
    /// Whether characters become lower case.
    #[serde(default)]
    pub lowercase: bool,
}

/// BERT's tokens: words, and parts of words after `##`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wordpiece {
    /// A file with a token a line.
    pub vocabulary: PathBuf,
    /// Whether letters become lower case without accents.
    #[serde(default = "yes")]
    pub lowercase: bool,
    /// What separates the two texts of a pair, if samples are pairs.
    pub separator: Option<String>,
    /// The token of unknown words.
    #[serde(default = "unk")]
    pub unknown: String,
    /// The first token.
    #[serde(default = "cls")]
    pub start: String,
    /// The token after each text.
    #[serde(default = "sep")]
    pub end: String,
}

fn unk() -> String {
    "[UNK]".to_string()
}

fn cls() -> String {
    "[CLS]".to_string()
}

fn sep() -> String {
    "[SEP]".to_string()
}

/// Reads a TOML file; an unknown key is an error that names the nearest known one.
///
/// # Errors
/// When the file cannot be read, or is not of this form.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = read_text(path)?;
    toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
        let (message, known) = e.message().split_once(", expected ").unwrap_or((e.message(), ""));
        let error = Error::invalid(format!("{}: line {line}: {message}", path.display()));
        let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_string).collect::<Vec<_>>();
        let known = quoted(known);
        match (quoted(message).first(), known.is_empty()) {
            (Some(given), false) => error.help(format!("{}known: {}", nearest(given, &known), known.join(", "))),
            _ => error,
        }
    })
}

/// The nearest of some names, as the beginning of a remedy.
pub fn nearest(given: &str, known: &[String]) -> String {
    let best = known.iter().min_by_key(|name| distance(given, name));
    match best.filter(|name| distance(given, name) <= given.len().max(name.len()) / 2) {
        Some(name) => format!("did you mean {name}? "),
        None => String::new(),
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    crate::edit_distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>())
}
