//! `mcc bench`: measures how long an inference takes on this machine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use mcc::ir::Tensor;
use mcc::loader::{Model, timing};
use mcc::{Result, driver};
use mcc_data::{Port, npy};
use serde_json::json;

use super::options::{ModelOptions, ThreadOptions, warn};
use super::run::ports;
use super::{output, profile, say, tensors, tune};

#[derive(Args)]
pub struct BenchArgs {
    /// The model, an .onnx file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Data of an input; files without a name go to the inputs in order; an input without data gets seeded noise, or ones
    #[arg(short, long = "input", value_name = "NAME=FILE.npy")]
    input: Vec<String>,
    /// Seconds to measure
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    seconds: f64,
    #[command(flatten)]
    threads: ThreadOptions,
    /// Report the time of each step and kernel, and its share of this core's peak
    #[arg(long)]
    profile: bool,
    /// First time the candidates of the cost model's choices for this model's layers on this machine, --seconds each,
    /// and write the fastest ones to a file for --choices; entries of the file for other models and CPUs are kept
    #[arg(long, value_name = "FILE", conflicts_with = "choices")]
    tune: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: ModelOptions,
}

/// Compiles, loads and times the model.
pub fn bench(args: &BenchArgs) -> Result<()> {
    let mut options = args.options.for_host(&args.model, args.threads.threads)?;
    options.traced = args.profile;
    let pool = args.threads.pool();
    if let Some(path) = &args.tune {
        output::check(&[("the model", &args.model)], &[("the file of choices", path)])?;
        let inputs = |compiled: &driver::Compiled| read_or_make(args, compiled);
        tune::tune(&args.model, &mut options, &inputs, pool.as_ref(), args.seconds.clamp(0.0, 3600.0), path)?;
    }
    let start = Instant::now();
    let compiled = driver::compile(&args.model, &options)?;
    warn(&options, &compiled);
    let compile_ms = ms(start.elapsed());
    let inputs = compiled.with_weights(read_or_make(args, &compiled)?)?;
    let seconds = Duration::from_secs_f64(args.seconds.clamp(0.0, 3600.0));
    if args.profile {
        let report = profile::measure(&compiled, &options.config.target, &inputs, pool.as_ref(), seconds)?;
        return say(&if args.json { format!("{}\n", report.json()) } else { report.text() });
    }

    let start = Instant::now();
    let model = Model::load(&compiled.code.object)?;
    let load_ms = ms(start.elapsed());
    let mut session = [model.session(&inputs, pool.as_ref())?];
    let mut times = Vec::new();
    timing::in_turns(&mut session, seconds, &mut |run| times.push(ms(run.whole)))?;
    times.sort_by(f64::total_cmp);
    let (min, median) = (times[0], times[times.len() / 2]);
    let (arena, text, weights) = (session[0].arena_bytes, compiled.code.text_bytes, compiled.code.weights_bytes);
    say(&if args.json {
        let row = json!({
            "min_ms": min, "median_ms": median, "runs": times.len(), "arena_bytes": arena, "text_bytes": text, "threads": args.threads.threads,
            "weights_bytes": weights, "load_ms": load_ms, "compile_ms": compile_ms,
        });
        format!("{row}\n")
    } else {
        let kb = |bytes: usize| bytes as f64 / 1e3;
        format!(
            "{min:.4} ms minimum, {median:.4} ms median of {} runs; compiled in {compile_ms:.0} ms, loaded in {load_ms:.3} ms\n\
             code {:.1} kB, weights {:.1} kB, arena {:.1} kB\n",
            times.len(),
            kb(text),
            kb(weights),
            kb(arena)
        )
    })
}

fn read_or_make(args: &BenchArgs, compiled: &driver::Compiled) -> Result<Vec<Tensor>> {
    let ports = ports(compiled.inputs());
    let files = tensors::assign(&args.input, &ports)?;
    let read = |(port, file): (&Port, Option<PathBuf>)| match file {
        Some(file) => npy::read(&file, port.ty.dtype),
        None => tensors::stand_in(port),
    };
    ports.iter().zip(files).map(read).collect()
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}
