//! `--emit runner`: what the executable is told about its model.
//!
//! Its reports contain the manifest, a JSON object, so that `mcc report` needs nothing but a report: per CPU level the
//! steps with their work. Amounts that depend on dimensions are expressions as [`Dim`] prints them; `symbols` says where
//! the values are in the report's inputs.

use std::path::Path;

use mcc::driver::{Compiled, Options};
use mcc::ir::Dim;
use mcc::kernel::program::{Call, Program, Symbol, SymbolSource};
use mcc::{Error, Result};
use mcc_runner::Card;
use mcc_targets::Target;
use serde_json::{Value, json};
use target_lexicon::{OperatingSystem, Triple};

use super::cases;

/// Whether there is a runner for a machine.
///
/// # Errors
/// When there is none.
pub fn check(triple: &Triple) -> Result<()> {
    if triple.operating_system == OperatingSystem::Linux {
        return Ok(());
    }
    Err(Error::unsupported(format!("--emit runner for {triple}"))
        .help("there are runners for Linux and Android, such as aarch64-linux-android; elsewhere link an object"))
}

/// Links a traced model with the program that runs it.
///
/// # Errors
/// When the model's file cannot be read again, or its object does not fit the program.
pub fn link(model: &Path, compiled: &Compiled, options: &Options) -> Result<Vec<u8>> {
    let names = |program: &Program| {
        program.calls().map(|Call { kernel, label, .. }| format!("{:<24} {label}", kernel.name)).collect()
    };
    let card = Card {
        name: &options.name,
        manifest: &manifest(compiled, options).to_string(),
        levels: &compiled.programs().map(names).collect::<Vec<Vec<String>>>(),
        file_inputs: &cases::input_names(model)?,
        separate_weights: compiled.weights.is_some(),
    };
    mcc_runner::link(compiled.object(), &card)
}

fn manifest(compiled: &Compiled, options: &Options) -> Value {
    let level = |(target, program): (&Target, &Program)| json!({ "cpu": target.cpu_name(), "steps": program.calls().map(step).collect::<Vec<_>>() });
    let levels: Vec<Value> = compiled.targets.iter().zip(compiled.programs()).map(level).collect();
    json!({
        "name": options.name,
        "target": options.config.target.triple.to_string(),
        "symbols": compiled.program.symbols.iter().filter_map(symbol).collect::<Vec<_>>(),
        "levels": levels,
        "text_bytes": compiled.code.text_bytes,
        "weights_bytes": compiled.code.weights_bytes,
    })
}

fn step(Call { kernel, label, work }: Call) -> Value {
    let amount = |d: &Dim| d.as_const().map_or_else(|| json!(d.to_string()), |n| json!(n));
    json!({
        "node": label, "kernel": kernel.name, "shapes": work.shapes, "multiply_adds": amount(&work.multiply_adds),
        "integers": work.integers, "bytes": amount(&work.bytes),
    })
}

/// Where a symbol's value is in a report. One that is bound during a run has none.
fn symbol(symbol: &Symbol) -> Option<Value> {
    let name = &*symbol.name.0;
    match symbol.source {
        SymbolSource::InputDim { input, axis } => Some(json!({ "name": name, "input": input, "axis": axis })),
        SymbolSource::InputElement { input, index } => Some(json!({ "name": name, "input": input, "element": index })),
        SymbolSource::Step { .. } => None,
    }
}
