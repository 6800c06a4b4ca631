//! `mcc run`: runs a model once on this machine.

use std::path::PathBuf;

use clap::Args;
use mcc::Result;
use mcc::driver;
use mcc::kernel::program::Port as ProgramPort;
use mcc::loader::Model;
use mcc_data::Port;

use super::options::{ModelOptions, ThreadOptions, warn};
use super::say;
use super::tensors;

#[derive(Args)]
pub struct RunArgs {
    /// The model, an .onnx file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Data of an input; files without a name go to the inputs in order
    #[arg(short, long = "input", value_name = "NAME=FILE.npy")]
    input: Vec<String>,
    /// Write the outputs here, as DIR/NAME.npy (DIR/output_N.npy where NAME is not a valid file name) [default: print a summary]
    #[arg(short, long = "output", value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    threads: ThreadOptions,
    #[command(flatten)]
    options: ModelOptions,
}

/// Compiles, loads and runs the model.
pub fn run(args: &RunArgs) -> Result<()> {
    let options = args.options.for_host(&args.model, args.threads.threads)?;
    let compiled = driver::compile(&args.model, &options)?;
    warn(&options, &compiled);
    let inputs = compiled.with_weights(tensors::read_all(&args.input, &ports(compiled.inputs()))?)?;
    let model = Model::load(&compiled.code.object)?;
    let outputs =
        model.invoke_on(&inputs, args.threads.pool().as_ref()).map_err(|e| match compiled.program.unmet(&inputs) {
            Some(numbers) => e.help(format!("here {numbers}")),
            None => e,
        })?;
    let named = || compiled.program.outputs.iter().map(|p| p.name.as_str()).zip(&outputs);
    match &args.output {
        Some(dir) => tensors::write_all(dir, named()),
        None => named().try_for_each(|(name, tensor)| say(&format!("{name}: {}\n", tensors::summary(tensor)))),
    }
}

/// Converts the program's ports to inputs of samples.
pub fn ports(of: &[ProgramPort]) -> Vec<Port> {
    of.iter().map(|p| Port { name: p.name.clone(), ty: p.ty.clone() }).collect()
}
