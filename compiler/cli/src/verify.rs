//! `mcc verify`: compares models' results with expected outputs.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mcc::driver::{self, Compiled, Options};
use mcc::ir::Tensor;
use mcc::kernel::program::Port;
use mcc::loader::Model;
use mcc::{Error, Result};
use mcc_data::pb;
use mcc_runtime::Pool;
use serde_json::{Value, json};

use super::compare::{Tolerance, difference};
use super::options::{ModelOptions, ThreadOptions};
use super::worker::{Answer, Worker, serve};
use super::{cases, output, say};

#[derive(Args)]
pub struct VerifyArgs {
    /// Cases, or folders that contain cases
    #[arg(value_name = "DIR", required_unless_present = "worker")]
    folders: Vec<PathBuf>,
    /// Tolerance relative to the expected value [default: the case's own, else 1e-3]
    #[arg(long)]
    rtol: Option<f64>,
    /// Absolute tolerance [default: the case's own, else 1e-5]
    #[arg(long)]
    atol: Option<f64>,
    /// Write the result of every case to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Pin every input to its shape in the first data set, for models with symbolic dimensions
    #[arg(long)]
    pin_shapes: bool,
    /// Seconds that one case may take
    #[arg(long, value_name = "S", default_value_t = 120)]
    timeout: u64,
    /// Cases run at the same time [default: one per processor]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Run between inaccessible pages: every input, output, array of dimensions and the arena has its exact size, once
    /// at the end and once at the start of its pages, each time with two kinds of initial contents, which must give the
    /// same bytes. Any access outside of them fails the case
    #[arg(long)]
    guard: bool,
    /// Instead of comparing outputs, run models on hostile dimensions and values between inaccessible pages: each run
    /// must be refused, or give the reference evaluator's result. Dimensions of the inputs become symbols
    #[arg(long)]
    hostile: bool,
    #[command(flatten)]
    threads: ThreadOptions,
    #[command(flatten)]
    options: ModelOptions,
    /// Read folders from stdin and answer on stdout
    #[arg(long, hide = true)]
    worker: bool,
}

/// Returns whether every case passes.
pub fn verify(args: &VerifyArgs) -> Result<bool> {
    if args.worker {
        return serve(|folder| answer(folder, args)).map(|()| true);
    }
    // Report faults in the options once, not per case.
    args.options.for_host(Path::new("model.onnx"), 1)?;
    let folders = cases::find(&args.folders)?;
    let results = ask_all(&folders, args)?;

    let passed = results.iter().filter(|r| r["status"] == "pass").count();
    let failed = results.len() - passed;
    say(&format!("{passed} passed, {failed} failed\n"))?;
    if let Some(file) = &args.json {
        let all = json!({ "passed": passed, "failed": failed, "cases": results });
        output::write(file, format!("{all:#}\n").as_bytes())?;
    }
    Ok(failed == 0)
}

/// The result of every case, in order; prints one line per case as it finishes.
fn ask_all(folders: &[PathBuf], args: &VerifyArgs) -> Result<Vec<Value>> {
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let bar = ProgressBar::new(folders.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{pos}/{len} {wide_msg}") {
        bar.set_style(style);
    }
    let program = std::env::current_exe().map_err(|e| Error::io("mcc's own path", &e))?;
    let next = AtomicUsize::new(0);
    let stopped = AtomicBool::new(false);
    let results = Mutex::new(vec![Value::Null; folders.len()]);
    let work = || -> Result<()> {
        let mut worker = Worker::new(program.clone(), worker_arguments(args), Duration::from_secs(args.timeout));
        while let Some((n, folder)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, folders.get(n)?)))
        {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            bar.set_message(folder.display().to_string());
            let result = match worker.ask(folder).inspect_err(|_| stopped.store(true, Ordering::Relaxed))? {
                Answer::Json(result) => result,
                Answer::Crashed(how) => failure(folder, "crash", &format!("the process died: {how}")),
                Answer::TimedOut => failure(folder, "timeout", &format!("no answer in {} s", args.timeout)),
            };
            bar.suspend(|| say(&line(&result))).inspect_err(|_| stopped.store(true, Ordering::Relaxed))?;
            bar.inc(1);
            if let Ok(mut results) = results.lock() {
                results[n] = result;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..jobs.clamp(1, folders.len())).map(|_| scope.spawn(work)).collect();
        let broken = || Error::internal("a thread of mcc verify panicked");
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| broken())?)
    })?;
    bar.finish_and_clear();
    results.into_inner().map_err(|_| Error::internal("a thread of mcc verify panicked"))
}

fn worker_arguments(args: &VerifyArgs) -> Vec<String> {
    let mut arguments = vec!["verify".to_string(), "--worker".to_string()];
    for (flag, value) in [("--rtol", args.rtol), ("--atol", args.atol)] {
        if let Some(value) = value {
            arguments.extend([flag.to_string(), value.to_string()]);
        }
    }
    if args.pin_shapes {
        arguments.push("--pin-shapes".to_string());
    }
    for (flag, given) in [("--guard", args.guard), ("--hostile", args.hostile)] {
        arguments.extend(given.then(|| flag.to_string()));
    }
    arguments.extend(["--threads".to_string(), args.threads.threads.to_string()]);
    arguments.extend(args.options.to_arguments());
    arguments
}

fn line(result: &Value) -> String {
    let text = |key: &str| result[key].as_str().unwrap_or_default().to_string();
    if result["status"] != "pass" {
        return format!("FAIL {}: {}: {}\n", text("case"), text("kind"), text("reason").replace('\n', ";"));
    }
    let texts = |key: &str| result[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
    let pinned = texts("pinned");
    match pinned.as_slice() {
        [] if !texts("told").is_empty() => format!("pass {}: {}\n", text("case"), texts("told").join(", ")),
        [] => format!("pass {}\n", text("case")),
        _ => format!("pass {} (compiled for given values of {})\n", text("case"), pinned.join(", ")),
    }
}

fn failure(folder: &Path, kind: &str, reason: &str) -> Value {
    json!({ "case": folder.to_string_lossy(), "status": "fail", "kind": kind, "reason": reason })
}

/// One case's result. Kinds of failure: invalid, unsupported, internal, panic, data, wrong; the parent adds crash and timeout.
fn answer(folder: &Path, args: &VerifyArgs) -> Value {
    let result = std::panic::catch_unwind(|| if args.hostile { hostile(folder, args) } else { check(folder, args) });
    match result {
        Ok(Ok(Finding { wrong: None, pinned, told })) => {
            json!({ "case": folder.to_string_lossy(), "status": "pass", "pinned": pinned, "told": told })
        }
        Ok(Ok(Finding { wrong: Some(reason), .. })) => failure(folder, "wrong", &reason),
        Ok(Err(e)) => failure(folder, kind_of(&e), &super::render(e.report())),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
            failure(folder, "panic", text)
        }
    }
}

fn kind_of(e: &Error) -> &'static str {
    match e {
        Error::InvalidModel(_) => "invalid",
        Error::Unsupported(_) => "unsupported",
        Error::Io(_) => "io",
        Error::Usage(_) => "usage",
        Error::Internal(_) => "internal",
    }
}

/// The result of a check: the fault, if any, and the inputs whose values had to be known at compile time.
#[derive(Default)]
struct Finding {
    wrong: Option<String>,
    pinned: Vec<String>,
    /// Counts of the outcomes of runs on hostile inputs.
    told: Vec<String>,
}

#[cfg(unix)]
fn hostile(folder: &Path, args: &VerifyArgs) -> Result<Finding> {
    let options = args.options.for_host(Path::new("model.onnx"), args.threads.threads)?;
    let found = match super::hostile::check(folder, &options, args.threads.pool().as_ref()) {
        Err(e @ Error::Unsupported(_)) => {
            return Ok(Finding { told: vec![format!("not compiled: {}", e.report().message)], ..Finding::default() });
        }
        found => found?,
    };
    let counts = found.counts.iter().map(|(word, n)| format!("{n} {word}")).collect::<Vec<_>>().join(", ");
    let wrong = (!found.wrong.is_empty()).then(|| format!("{counts}: {}", found.wrong.join("\n")));
    Ok(Finding { wrong, told: vec![counts], ..Finding::default() })
}

#[cfg(not(unix))]
fn hostile(_: &Path, _: &VerifyArgs) -> Result<Finding> {
    Err(Error::unsupported("--hostile on this system"))
}

fn check(folder: &Path, args: &VerifyArgs) -> Result<Finding> {
    let case = cases::open(folder)?;
    let mut options = args.options.for_host(&case.model, args.threads.threads)?;
    let pool = args.threads.pool();
    let inputs = cases::input_names(&case.model)?;
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    if args.pin_shapes {
        pin_shapes(&mut options, &pb::read_tensors(&case.data_sets[0], "input", &inputs)?, &inputs);
    }
    let mut finding = Finding::default();
    let mut current: Option<(Compiled, Model)> = None;
    for data_set in &case.data_sets {
        // A model that was compiled for one data set's values is used for that data set only.
        let (compiled, model) = match current.take().filter(|_| finding.pinned.is_empty()) {
            Some(known) => current.insert(known),
            None => {
                let (compiled, pinned) = compile_for(&case.model, &options, data_set, &inputs)?;
                finding.pinned = pinned;
                let model = Model::load(&compiled.code.object)?;
                current.insert((compiled, model))
            }
        };
        let given = pb::read_tensors(data_set, "input", &inputs)?;
        let missing =
            |side: &str, name: &str| Error::invalid(format!("{}: no data for {side} {name:?}", data_set.display()));
        let of_input = |port: &Port| {
            let slot = inputs.iter().position(|n| *n == port.name);
            slot.and_then(|s| given[s].clone()).ok_or_else(|| missing("input", &port.name))
        };
        let own = compiled.inputs().iter().map(of_input).collect::<Result<Vec<_>>>()?;
        let given = compiled.with_weights(own)?;
        let got = if args.guard {
            guarded(model, &given, pool.as_ref(), &data_set.display().to_string())?
        } else {
            model.invoke_on(&given, pool.as_ref())?
        };
        let outputs: Vec<&str> = compiled.program.outputs.iter().map(|p| p.name.as_str()).collect();
        let expected = pb::read_tensors(data_set, "output", &outputs)?;
        for (n, (got, want)) in got.iter().zip(expected).enumerate() {
            let want = want.ok_or_else(|| missing("output", outputs[n]))?;
            if let Some(reason) = difference(got, &want, tolerance(args, case.tolerance(n))) {
                let set = data_set.file_name().unwrap_or_default().to_string_lossy();
                finding.wrong = Some(format!("{set}: output {:?}: {reason}", outputs[n]));
                return Ok(finding);
            }
        }
    }
    Ok(finding)
}

#[cfg(unix)]
fn guarded(model: &Model, inputs: &[Tensor], pool: Option<&Pool>, note: &str) -> Result<Vec<Tensor>> {
    mcc::loader::guard::invoke(model, inputs, pool, note)
}

#[cfg(not(unix))]
fn guarded(_: &Model, _: &[Tensor], _: Option<&Pool>, _: &str) -> Result<Vec<Tensor>> {
    Err(Error::unsupported("--guard on this system"))
}

/// Compiles a case's model. Where an input must be known at compile time, its value is taken from the data set. As few
/// inputs as possible are pinned, so that the model computes as much as possible.
fn compile_for(model: &Path, options: &Options, data_set: &Path, inputs: &[&str]) -> Result<(Compiled, Vec<String>)> {
    let mut refusal = match driver::compile(model, options) {
        Ok(compiled) => return Ok((compiled, Vec::new())),
        Err(e @ Error::Unsupported(_)) => e,
        Err(e) => return Err(e),
    };
    let Ok(given) = pb::read_tensors(data_set, "input", inputs) else { return Err(refusal) };
    let small: Vec<(String, Tensor)> = inputs
        .iter()
        .zip(given)
        .filter_map(|(name, tensor)| Some(((*name).to_string(), tensor?)))
        .filter(|(_, t)| t.shape().len() <= 1 && t.numel() <= mcc::onnx::MAX_PINNED)
        .collect();
    let singles = small.iter().map(|one| vec![one.clone()]);
    // The first input is the data, the others are parameters.
    let operands = small.iter().filter(|(name, _)| *name != inputs[0]).cloned().collect();
    for values in singles.chain([operands, small.clone()]) {
        let pinned = values.iter().map(|(name, _)| name.clone()).collect();
        let options = Options { values: [options.values.clone(), values].concat(), ..options.clone() };
        // The error with all operands known says more than one that they are unknown.
        match driver::compile(model, &options) {
            Ok(compiled) => return Ok((compiled, pinned)),
            Err(e) => refusal = e,
        }
    }
    Err(refusal)
}

/// The command line's tolerance, else the case's, else the default.
fn tolerance(args: &VerifyArgs, of_case: Option<Tolerance>) -> Tolerance {
    let base = of_case.unwrap_or_default();
    Tolerance { rtol: args.rtol.unwrap_or(base.rtol), atol: args.atol.unwrap_or(base.atol) }
}

/// Adds the shapes of the given inputs to the options, unless they are pinned already.
fn pin_shapes(options: &mut Options, given: &[Option<Tensor>], inputs: &[&str]) {
    for (name, tensor) in inputs.iter().zip(given) {
        let Some(tensor) = tensor else { continue };
        if !options.shapes.iter().any(|(n, _)| n == name) {
            let shape = tensor.shape().iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect();
            options.shapes.push(((*name).to_string(), shape));
        }
    }
}
