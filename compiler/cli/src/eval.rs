//! `mcc eval`: what models are worth on data.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use mcc::driver::{self, Compiled, Options};
use mcc::ir::{Graph, NodeId, Op};
use mcc::loader::Model;
use mcc::{Error, Result};
use mcc_compress::observe::Progress;
use mcc_data::{Labels, Port, Preprocess, Samples};
use mcc_eval::{Evaluation, Metric, Report, Subject, metrics, report};

use super::options::{ModelOptions, ThreadOptions, warn};
use super::progress::Bar;
use super::{output, progress, say};

#[derive(Args)]
pub struct EvalArgs {
    /// Models with the same inputs, .onnx files; the others are compared with the first one
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<PathBuf>,
    /// Samples: a file or folder of .npy or .npz (one sample each, or several stacked along the first axis; named after
    /// the inputs if there are several), of test_data_set_N/input_M.pb, or with --preprocess of images, sound or text.
    /// May be given more than once
    #[arg(long, value_name = "PATH", required = true)]
    data: Vec<PathBuf>,
    /// What is true of the samples, classes, texts or numbers: .csv (sample,label), .txt (a line each, in order), .npy,
    /// .npz. Without labels the first model is the reference
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// top1, top5, accuracy, precision, recall, f1, auc, cer, mse or mae with labels; relative-l2, cosine, sqnr, agreement,
    /// mse or mae without. May be given more than once; the first one decides which samples are the worst [default:
    /// accuracy, cer or mse, as the labels are; relative-l2, cosine and sqnr without]
    #[arg(long = "metric", value_name = "NAME")]
    metrics: Vec<String>,
    /// How images, sound or text become inputs, and the characters of the outputs' classes (TOML, see docs/guide.md)
    #[arg(long, value_name = "FILE")]
    preprocess: Option<PathBuf>,
    /// Evaluate at most this many samples, drawn by --seed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    samples: Option<u64>,
    /// Decides which samples are drawn, and the confidence intervals
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Seconds to measure the time of each model; 0 measures none
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    seconds: f64,
    /// Write the results as JSON; - prints them instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots and the worst samples; it needs no other file
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    #[command(flatten)]
    threads: ThreadOptions,
    #[command(flatten)]
    options: ModelOptions,
}

/// Evaluates the models.
pub fn eval(args: &EvalArgs) -> Result<()> {
    check_files(args)?;
    let (chosen, preprocess, labels) = read_descriptions(args)?;
    let names = names(&args.models);
    let imported = import(args, &names)?;
    let ports: Vec<(String, Vec<Port>)> =
        names.iter().cloned().zip(imported.iter().map(|(_, graph)| ports(graph))).collect();
    let inputs = mcc_eval::common_inputs(&ports)?;
    let open = || Samples::open(&args.data, &inputs, preprocess.as_ref());
    let mut samples = progress::show("reading the data", open)?;
    if let Some(count) = args.samples {
        samples = samples.take(usize::try_from(count).unwrap_or(usize::MAX), args.seed);
    }
    let labels = labels.map(|labels| labels.of(&samples)).transpose()?;
    let ctc = preprocess.as_ref().and_then(Preprocess::ctc);
    let metrics = if chosen.is_empty() { mcc_eval::default_metrics(labels.as_deref(), ctc) } else { chosen };
    let compiled = compile(imported, &names)?;
    let loaded = compiled.iter().map(|c| Model::load(&c.code.object)).collect::<Result<Vec<_>>>()?;
    let mut models = Vec::new();
    for (n, name) in names.into_iter().enumerate() {
        let file = std::fs::metadata(&args.models[n]).map_err(|e| Error::io(args.models[n].display(), &e))?;
        models.push(Subject { name, compiled: &compiled[n], loaded: &loaded[n], file_bytes: file.len() });
    }
    let pool = args.threads.pool();
    let timing = Duration::from_secs_f64(args.seconds.clamp(0.0, 3600.0));
    let bar = Bar::default();
    bar.begin("samples", samples.len());
    let advance = |_| bar.advance();
    let options = mcc_eval::Options { metrics, ctc, seed: args.seed, timing, pool: pool.as_ref(), progress: &advance };
    let evaluation = mcc_eval::evaluate(&models, &samples, labels.as_deref(), &options);
    bar.clear();
    write(args, evaluation?, &samples)
}

/// Refuses outputs that would replace an input.
fn check_files(args: &EvalArgs) -> Result<()> {
    let model = |path: &'_ PathBuf| ("the model", path.clone());
    let mut inputs: Vec<(&str, PathBuf)> = args.models.iter().map(model).collect();
    inputs.extend(args.data.iter().map(|path| ("the data", path.clone())));
    inputs.extend(args.labels.iter().map(|path| ("the labels", path.clone())));
    inputs.extend(args.preprocess.iter().map(|path| ("the preprocessing", path.clone())));
    inputs.extend(args.options.files().into_iter().map(|path| ("a file of options", path)));
    let inputs: Vec<output::Named<'_>> = inputs.iter().map(|(what, path)| (*what, path.as_path())).collect();
    let json = args.json.iter().filter(|path| !is_stdout(path)).map(|path| ("the JSON file", path.as_path()));
    let outputs: Vec<output::Named<'_>> =
        json.chain(args.report.iter().map(|path| ("the report", path.as_path()))).collect();
    output::check(&inputs, &outputs)
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// The metrics, the preprocessing and the labels; every fault of them at once.
fn read_descriptions(args: &EvalArgs) -> Result<(Vec<&'static Metric>, Option<Preprocess>, Option<Labels>)> {
    let mut faults = Vec::new();
    let mut chosen = Vec::new();
    for name in &args.metrics {
        match metrics::find(name) {
            Ok(metric) => chosen.push(metric),
            Err(e) => faults.push(e),
        }
    }
    let preprocess = args.preprocess.as_ref().map(|path| Preprocess::open(path)).transpose();
    let preprocess = preprocess.map_err(|e| faults.push(e)).unwrap_or_default();
    let labels = args.labels.as_ref().map(|path| Labels::open(path)).transpose();
    let labels = labels.map_err(|e| faults.push(e)).unwrap_or_default();
    if let Err(e) = args.options.for_host(Path::new("model.onnx"), 1) {
        faults.push(e);
    }
    Error::all(faults).map_or(Ok((chosen, preprocess, labels)), Err)
}

/// A short name for each model: its file's, or its path where that is not unique.
fn names(models: &[PathBuf]) -> Vec<String> {
    let stem = |path: &PathBuf| path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let stems: Vec<String> = models.iter().map(stem).collect();
    let unique = |name: &String| stems.iter().filter(|other| *other == name).count() == 1;
    models
        .iter()
        .zip(&stems)
        .map(|(path, stem)| if unique(stem) { stem.clone() } else { path.display().to_string() })
        .collect()
}

/// Reads the models; their inputs are known then.
fn import(args: &EvalArgs, names: &[String]) -> Result<Vec<(Options, Graph)>> {
    let (mut imported, mut faults) = (Vec::new(), Vec::new());
    for (path, name) in args.models.iter().zip(names) {
        let options = args.options.for_host(path, args.threads.threads)?;
        match progress::show(&format!("reading {name}"), || driver::import(path, &options)) {
            Ok(graph) => imported.push((options, graph)),
            Err(e) => faults.push(e.within(path.display().to_string())),
        }
    }
    Error::all(faults).map_or(Ok(imported), Err)
}

/// The inputs of an imported model.
fn ports(graph: &Graph) -> Vec<Port> {
    let port = |&node: &NodeId| match graph.op(node) {
        Op::Input(name, ty) => Some(Port { name: name.clone(), ty: ty.clone() }),
        _ => None,
    };
    graph.inputs().iter().filter_map(port).collect()
}

fn compile(imported: Vec<(Options, Graph)>, names: &[String]) -> Result<Vec<Compiled>> {
    let mut compiled = Vec::new();
    for ((options, graph), name) in imported.into_iter().zip(names) {
        let one = progress::show(&format!("compiling {name}"), || driver::compile_graph(graph, &options));
        let one = one.map_err(|e| e.within(name.clone()))?;
        warn(&options, &one);
        compiled.push(one);
    }
    Ok(compiled)
}

fn write(args: &EvalArgs, evaluation: Evaluation, samples: &Samples) -> Result<()> {
    let json = serde_json::to_string_pretty(&evaluation);
    let json = json.map_err(|e| Error::internal(format!("the results are not JSON: {e}")))? + "\n";
    match &args.json {
        Some(path) if is_stdout(path) => say(&json)?,
        Some(path) => output::write(path, json.as_bytes())?,
        None => {}
    }
    if !args.json.as_deref().is_some_and(is_stdout) {
        say(&mcc_eval::table(&evaluation))?;
    }
    if let Some(path) = &args.report {
        let title = evaluation.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>().join(", ");
        let report = Report { title, evaluation, layers: Vec::new(), sweep: None, recipe: None };
        output::write(path, report::page(&report, samples)?.as_bytes())?;
    }
    Ok(())
}
