//! The command line. Its contract is in the options' help, since scripts rely on it.
//!
//! Exit status: 0 done, 1 the model or its data is at fault, 2 usage, 3 internal error.

mod bench;
mod cases;
mod choices;
mod compare;
mod compile;
mod compress;
mod cpus;
mod eval;
mod fit;
mod gains;
#[cfg(unix)]
mod hostile;
mod inspect;
mod last_resort;
mod link;
mod options;
mod output;
mod profile;
mod progress;
mod report;
mod run;
mod runner;
mod search;
mod sizes;
mod targets;
mod tensors;
mod tune;
mod verify;
mod worker;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use mcc::error::Report;
use mcc::{Error, Result};

/// Ahead-of-time compiler from ONNX models to native object code.
///
/// Exit status: 0 done, 1 the model or its data is at fault, 2 usage, 3 internal error.
#[derive(Parser)]
#[command(name = "mcc", version, args_conflicts_with_subcommands = true)]
#[command(
    override_usage = "mcc MODEL -o OUT.o [OPTIONS]\n       mcc run|verify|bench|report|eval|inspect|compress|fit|cpus ..."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compile: compile::CompileArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run a model here: inputs from .npy files, outputs to .npy files
    Run(run::RunArgs),
    /// Check test cases in ONNX's layout: DIR/model.onnx, DIR/test_data_set_N/{input,output}_M.pb
    Verify(verify::VerifyArgs),
    /// Time a model here
    Bench(bench::BenchArgs),
    /// Print what a runner (--emit runner) measured on another machine, as tables
    Report(report::ReportArgs),
    /// Say what models are worth on data: accuracy or distance, time, size
    Eval(Box<eval::EvalArgs>),
    /// Show a model's contents and how it is compiled
    Inspect(inspect::InspectArgs),
    /// Prune and quantize a trained model, with sample inputs but without labels or training code
    Compress(Box<compress::CompressArgs>),
    /// Fit the cost model's figures to times measured by `bench --tune`, for another CPU
    Fit(fit::FitArgs),
    /// List the CPU levels that --cpu takes, and whether this machine runs them
    Cpus,
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

#[derive(Args)]
struct CompletionsArgs {
    shell: clap_complete::Shell,
}

#[global_allocator]
static ALLOCATOR: last_resort::Allocator = last_resort::Allocator;

fn main() -> ExitCode {
    last_resort::guarded(command)
}

/// The whole program.
fn command() -> ExitCode {
    // clap reports bad usage itself, with exit status 2.
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            let kind = if matches!(e, Error::Internal(_)) { "internal error" } else { "error" };
            if e.report().message != STDOUT_CLOSED {
                tell(&format!("mcc: {kind}: {}\n", render(e.report())));
            }
            ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(3))
        }
    }
}

/// Returns whether all is well; `false` for results that are not errors, such as a failing case.
fn dispatch(cli: Cli) -> Result<bool> {
    match cli.command {
        None => compile::compile(&cli.compile).map(|()| true),
        Some(Command::Run(args)) => run::run(&args).map(|()| true),
        Some(Command::Verify(args)) => verify::verify(&args),
        Some(Command::Bench(args)) => bench::bench(&args).map(|()| true),
        Some(Command::Report(args)) => report::report(&args).map(|()| true),
        Some(Command::Eval(args)) => eval::eval(&args).map(|()| true),
        Some(Command::Inspect(args)) => inspect::inspect(&args).map(|()| true),
        Some(Command::Compress(args)) => compress::compress(&args).map(|()| true),
        Some(Command::Fit(args)) => fit::fit(&args).map(|()| true),
        Some(Command::Cpus) => cpus::cpus().map(|()| true),
        Some(Command::Completions(args)) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "mcc", &mut script);
            say(&String::from_utf8_lossy(&script)).map(|()| true)
        }
    }
}

/// The error when the reader of stdout is gone (`mcc inspect | head`): only the exit status reports it.
const STDOUT_CLOSED: &str = "stdout is closed";

/// Prints to stdout; a failure to write is an error.
fn say(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Error::Io(STDOUT_CLOSED.to_string().into()),
        _ => Error::io("stdout", &e),
    })
}

/// Prints to stderr; a failure to write cannot be reported.
fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// An error's text: fault, context, remedy; then every further blocker found in the same run.
fn render(report: &Report) -> String {
    let mut text = report.message.clone();
    for place in &report.context {
        text += &format!("\n  in {place}");
    }
    if let Some(help) = &report.help {
        text += &format!("\n  help: {help}");
    }
    for other in &report.also {
        text += &format!("\nalso: {}", render(other));
    }
    text
}
