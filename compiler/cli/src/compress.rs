//! `mcc compress`: makes a trained model smaller and faster.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use mcc::{Error, Result, driver};
use mcc_compress::cache::{Cache, NONE};
use mcc_compress::codebook::Fit;
use mcc_compress::model::Model;
use mcc_compress::observe::Setting;
use mcc_compress::ranges::Calibration;
use mcc_compress::recipe::{
    Activations, Criterion, LowRank, Pattern, Prune, Quantize, Recipe, Recover, Rounding, Scope, Step, Weights,
};
use mcc_compress::session::{self, Change};
use mcc_data::{Preprocess, Samples};
use serde_json::json;

use super::gains::{self, Gains};
use super::options::{ModelOptions, warn_of};
use super::progress::Bar;
use super::search::SearchArgs;
use super::{output, say, tell};

#[derive(Args)]
pub struct CompressArgs {
    /// The trained model, an .onnx file with 32-bit float weights
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The compressed model, an ONNX file that other engines run too; the recipe is written beside it, as OUT.toml
    #[arg(short, long, value_name = "OUT.onnx")]
    output: PathBuf,
    /// Calibration data, as the model sees in use; some 100 samples, without labels. Files and folders of .npy, .npz or
    /// .pb tensors; images, sound and text with --preprocess
    #[arg(long, value_name = "DATA", num_args = 1.., required = true)]
    calib: Vec<PathBuf>,
    /// How images, sound or text become the model's inputs
    #[arg(long, value_name = "FILE.toml")]
    preprocess: Option<PathBuf>,
    /// What to do, step by step, from a file as this command writes it; instead of the options below
    #[arg(long, value_name = "FILE.toml", conflicts_with_all = ["quantize", "prune", "pattern", "recover", "low_rank"])]
    recipe: Option<PathBuf>,
    /// Set this share of the weights to zero, such as 0.7
    #[arg(long, value_name = "SHARE")]
    prune: Option<f64>,
    /// Which weights become zero together: elements, channels, blocks or N:M (N of M stay) in the shape that the target's
    /// kernels skip, or in a shape of your own, such as 16x1 or 16x2:4 [default: elements]
    #[arg(long, value_name = "PATTERN")]
    pattern: Option<Pattern>,
    /// How weights are ranked: by the error that removing them makes in a layer's result, by their magnitude times that of
    /// what they multiply (activation), by l1 or l2 magnitude, or by chance; channels also by what the model's outputs
    /// change, to the first order (taylor)
    #[arg(long, value_name = "METHOD", value_parser = choice(&[("error", Criterion::Error), ("activation", Criterion::Activation), ("taylor", Criterion::Taylor), ("l1", Criterion::L1), ("l2", Criterion::L2), ("random", Criterion::Random)]))]
    criterion: Option<Criterion>,
    /// Rank the weights of all layers together, so that layers lose different shares
    #[arg(long)]
    global: bool,
    /// Prune also layers that zeros do not make faster on the target
    #[arg(long)]
    everywhere: bool,
    /// Store weights as int8, int4, int3, codebook4 (a table of 16 values), f16, ...
    #[arg(long, value_name = "TYPE")]
    quantize: Option<Weights>,
    /// Compute with activations as uint8 (ranges from calibration), dynamic (ranges found at run time) or float
    /// [default: uint8 with int8 weights, else float]
    #[arg(long, value_name = "TYPE", requires = "quantize", value_parser = choice(&[("uint8", Activations::Uint8), ("dynamic", Activations::Dynamic), ("float", Activations::Float)]))]
    activations: Option<Activations>,
    /// How the ranges of activations are chosen
    #[arg(long, value_name = "METHOD", requires = "quantize", value_parser = choice(&[("auto", Calibration::Auto), ("mse", Calibration::Mse), ("min-max", Calibration::MinMax), ("percentile", Calibration::Percentile), ("entropy", Calibration::Entropy)]))]
    calibration: Option<Calibration>,
    /// How weights are rounded to codes
    #[arg(long, value_name = "METHOD", requires = "quantize", value_parser = choice(&[("gptq", Rounding::Gptq), ("nearest", Rounding::Nearest), ("adaround", Rounding::Adaround)]))]
    rounding: Option<Rounding>,
    /// Before quantizing, move factors between layers so that the channels of each activation have similar ranges
    /// (SmoothQuant, cross-layer equalization)
    #[arg(long, requires = "quantize")]
    equalize: bool,
    /// Inputs that share a scale, for int7 and shorter and for codebooks: 16, 32, 64, ... [default: 32 with 4 bits and less
    /// and in products also up to int7, else all of an output channel]
    #[arg(long, value_name = "N", requires = "quantize")]
    block: Option<usize>,
    /// How the values of codebooks are found: with the least squared error, or each for as many weights as any other
    #[arg(long, value_name = "METHOD", requires = "quantize", value_parser = choice(&[("k-means", Fit::KMeans), ("quantiles", Fit::Quantiles)]))]
    table: Option<Fit>,
    /// Make large layers two smaller ones each, so that this share of all multiply-adds is saved, such as 0.3
    #[arg(long, value_name = "SHARE")]
    low_rank: Option<f64>,
    /// Train what is left to give what the given model gives, without labels. EFFORT is a part of the usual computing time
    #[arg(long, value_name = "EFFORT", num_args = 0..=1, default_missing_value = "1")]
    recover: Option<f64>,
    /// Classes of the calibration data, which --recover then learns besides, for classifiers: a file as mcc eval reads
    #[arg(long, value_name = "FILE", requires = "recover")]
    labels: Option<PathBuf>,
    /// Write a page that tells what was gained and lost, on the calibration data: layers with their times before and
    /// after, plots, the worst samples. For accuracy on labelled data, see mcc eval
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Only these layers: names with * for any text, or operators such as MatMul
    #[arg(long, value_name = "LAYER")]
    only: Vec<String>,
    /// Not these layers
    #[arg(long, value_name = "LAYER")]
    except: Vec<String>,
    /// Calibration samples to use at most [default: 128]
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Where random choices start: the same seed gives the same file [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keep what was computed in this folder: a run that was interrupted goes on from there, and one with more steps repeats
    /// only what these change
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    options: ModelOptions,
}

/// A parser for the names of a type's values.
fn choice<T: Copy + Send + Sync + 'static>(names: &'static [(&'static str, T)]) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names.iter().map(|n| n.0))
        .map(|name| names.iter().find(|n| n.0 == name).map_or(names[0].1, |n| n.1))
}

/// Compresses the model and writes it with its recipe.
pub fn compress(args: &CompressArgs) -> Result<()> {
    let mut recipe = args.recipe()?;
    let recipe_file = args.output.with_extension("toml");
    let mut inputs = vec![("the model", args.model.as_path())];
    inputs.extend(args.labels.iter().map(|l| ("the labels", l.as_path())));
    inputs.extend(args.recipe.iter().map(|r| ("the recipe", r.as_path())).filter(|r| r.1 != recipe_file));
    let mut outputs = vec![("the compressed model", args.output.as_path()), ("its recipe", &recipe_file)];
    outputs.extend(args.search.sweep.iter().map(|s| ("the sweep", s.as_path())));
    outputs.extend(args.report.iter().map(|r| ("the report", r.as_path())));
    output::check(&inputs, &outputs)?;
    let here = args.search.here(&args.options);
    let mut options = here.for_targets(here.host_native()?, "model", 1)?;
    options.where_it_differs = false;
    let model = Model::read(&args.model)?;
    warn_of(&driver::import(&args.model, &options)?);
    let ports = model.ports(&options)?;
    let preprocess = args.preprocess.as_deref().map(Preprocess::open).transpose()?;
    let samples = Samples::open(&args.calib, &ports, preprocess.as_ref())?;
    let cache = args.cache.as_ref().map(|dir| opened(dir, &model, &options, &samples)).transpose()?;
    let cache = cache.as_ref().unwrap_or(&NONE);
    let bar = Bar::default();
    let mut found = None;
    if args.search.wanted() {
        let setting = Setting { samples: &samples, options: &options, progress: &bar, cache };
        let result = args.search.find(&model, &args.options, &setting, &recipe)?;
        recipe = result.recipe.clone();
        found = Some(result);
    }
    let samples = samples.take(recipe.samples, recipe.seed);
    let setting = Setting { samples: &samples, options: &options, progress: &bar, cache };
    let mut done = session::compress(model, &recipe, &setting)?;
    let written = done.written()?;
    bar.clear();
    let bytes = written.encode()?;
    let front = found.as_ref().and_then(|f| f.front.as_ref());
    let (text, sweep) = (recipe.text()?, front.map(|f| json!(f).to_string()));
    let mut files: Vec<(&Path, &[u8])> = vec![(&args.output, &bytes), (&recipe_file, text.as_bytes())];
    files.extend(args.search.sweep.as_deref().zip(sweep.as_deref().map(str::as_bytes)));
    if let Some(found) = &found {
        for change in &mut done.changes {
            change.reason = found.reasons.get(&change.output).cloned().unwrap_or_default();
        }
        tell(&args.search.report(found));
    }
    let gains = Gains {
        before: &done.teacher,
        before_file: &args.model,
        after: &written,
        after_file: &args.output,
        changes: &done.changes,
        recipe: &text,
        front,
        samples: &samples,
        options: &options,
    };
    let page = args.report.as_ref().map(|_| gains::page(&gains, &bar)).transpose()?;
    bar.clear();
    files.extend(args.report.as_deref().zip(page.as_deref().map(str::as_bytes)));
    output::write_all(&files)?;
    let before = std::fs::metadata(&args.model).map_or(0, |m| m.len());
    say(&table(&done.changes))?;
    tell(&format!("{}: {before} -> {} bytes\n", args.output.display(), bytes.len()));
    Ok(())
}

/// The cache of what depends on this program, a model, how it is compiled, and samples.
fn opened(dir: &Path, model: &Model, options: &mcc::Options, samples: &Samples) -> Result<Cache> {
    let program = std::env::current_exe().and_then(std::fs::read);
    let program = program.map_err(|e| Error::internal(format!("this program cannot be read: {e}")))?;
    let compiled = format!("{options:?}");
    Cache::open(dir, &[&program, &model.encode()?, compiled.as_bytes()], samples)
}

impl CompressArgs {
    /// The recipe of the file, or of the options.
    fn recipe(&self) -> Result<Recipe> {
        let mut recipe = match &self.recipe {
            Some(path) => {
                Recipe::parse(&mcc::onnx::file::read_text(path)?).map_err(|e| e.within(path.display().to_string()))?
            }
            None => Recipe::default(),
        };
        let (only, except) = (self.only.clone(), self.except.clone());
        if let Some(share) = self.low_rank {
            recipe.steps.push(Step::LowRank(LowRank {
                share,
                only: only.clone(),
                except: except.clone(),
                ..LowRank::default()
            }));
        }
        if self.prune.is_some() || self.pattern.is_some() {
            let pattern = self.pattern.unwrap_or(Pattern::Elements);
            recipe.steps.push(Step::Prune(Prune {
                pattern,
                share: self.prune,
                criterion: self.criterion.unwrap_or_default(),
                scope: if self.global { Scope::Global } else { Scope::Layer },
                everywhere: self.everywhere,
                only: only.clone(),
                except: except.clone(),
                ..Prune::default()
            }));
        }
        let ranked = self.criterion.is_some() || self.global || self.everywhere;
        if ranked && self.prune.is_none() && self.pattern.is_none() {
            let text = "--criterion, --global and --everywhere have no effect without pruning";
            return Err(Error::usage(text).help("give --prune 0.7 or --pattern 2:4 too"));
        }
        if let Some(weights) = self.quantize {
            let usual = if weights == Weights::Int(8) { Activations::Uint8 } else { Activations::Float };
            recipe.steps.push(Step::Quantize(Quantize {
                weights,
                activations: self.activations.unwrap_or(usual),
                calibration: self.calibration.unwrap_or_default(),
                rounding: self.rounding.unwrap_or_default(),
                block: self.block,
                table: self.table.unwrap_or_default(),
                equalize: self.equalize,
                only: only.clone(),
                except: except.clone(),
                ..Quantize::default()
            }));
        }
        if let Some(effort) = self.recover {
            recipe.steps.push(Step::Recover(Recover {
                effort,
                labels: self.labels.clone(),
                only,
                except,
                ..Recover::default()
            }));
        }
        recipe.samples = self.samples.unwrap_or(recipe.samples);
        recipe.seed = self.seed.unwrap_or(recipe.seed);
        if recipe.steps.is_empty() && !self.search.wanted() {
            return Err(Error::usage("nothing to do")
                .help("give --quantize int8, --prune 0.7, --pattern 2:4, --recipe FILE.toml or --search"));
        }
        recipe.check()?;
        Ok(recipe)
    }
}

/// A row a layer.
fn table(changes: &[Change]) -> String {
    let width = changes.iter().map(|c| c.layer.chars().count().min(40)).max().unwrap_or(0).max(5);
    let mut text = format!(
        "{:width$}  {:13} {:>6} {:>5} {:>5} {:>8}  why\n",
        "layer", "operator", "zeros", "bits", "data", "error"
    );
    for c in changes {
        // The end of a name tells layers apart.
        let name: String = c.layer.chars().skip(c.layer.chars().count().saturating_sub(40)).collect();
        let (zeros, bits) = (c.zeros * 100.0, c.weight_bits);
        text += &format!(
            "{name:width$}  {:13} {zeros:>5.1}% {bits:>5} {:>5} {:>7.2}%  {}\n",
            c.of(),
            c.data_bits,
            c.error * 100.0,
            c.reason
        );
    }
    text
}
