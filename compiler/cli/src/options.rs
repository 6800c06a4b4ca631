//! Options that every command takes, since each compiles the model.

use std::collections::HashSet;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mcc::driver::{Compiled, Options};
use mcc::ir::{Graph, Tensor};
use mcc::passes::{Effort, WITHOUT_BYTE_PRODUCTS};
use mcc::{Error, Result, symbol};
use mcc_data::npy;
use mcc_runtime::Pool;
use mcc_targets::{Arch, Sparsity, Target, WeightFloats};

use super::{choices, tell};

/// Options for compiling.
#[derive(Args, Clone)]
pub struct ModelOptions {
    /// CPUs to compile for, separated by commas: each a level (x86-64-v2, x86-64-v3, x86-64-v4, generic, ...) or
    /// "native", with +FEATURE and -FEATURE behind it. The object holds code for each and runs the best that the CPU
    /// supports. "a,+b" is a and a+b; "a,-b" is a without b. The default is x86-64-v3,icelake-server (AVX2; AVX-512),
    /// generic,+dotprod (the second only if the model has int8 or low-bit layers), or the level that Apple's deployment
    /// target guarantees; on a machine that runs none of these, its own level is added
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub cpu: Option<String>,
    /// Pin a symbolic dimension of the model
    #[arg(long = "dim", value_name = "NAME=N")]
    pub dims: Vec<String>,
    /// Pin the shape of an input
    #[arg(long = "shape", value_name = "INPUT=1x3x224x224")]
    pub shapes: Vec<String>,
    /// Pin the elements of a small input that the compiler must know, such as axes or scales
    #[arg(long = "value", value_name = "INPUT=FILE.npy")]
    pub values: Vec<String>,
    /// Refuse runs whose data contain out-of-range indices (for Gather, Scatter and the like) instead of clamping them
    /// to the nearest valid one; this costs a pass over the indices
    #[arg(long)]
    pub check_indices: bool,
    /// Raise a limit on what a model may expand to: nodes (50000 operations, beyond 64 for each of the file's nodes), steps
    /// (2048, of a loop), constant (268435456 bytes, of one constant that importing makes), constants (1073741824 bytes, of
    /// all, beyond twice the file)
    #[arg(long = "limit", value_name = "NAME=N")]
    pub limits: Vec<String>,
    /// When to store weights as non-zeros only
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub sparse: Sparse,
    /// 0 runs only the passes that code generation needs; 1 to 3 run all of them
    #[arg(short = 'O', value_name = "LEVEL", default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=3))]
    pub level: u8,
    /// Prefer a small object to a fast one: weights with few distinct values and those of 3x3 convolutions stay
    /// compressed, and without --cpu there is code for one CPU only (x86-64-v3 or generic)
    #[arg(long)]
    pub opt_size: bool,
    /// Round the weights of products and convolutions, and tables, to 16-bit floats, which halves their size. Weights
    /// outside the type's range or precision are kept; f16 also rounds the scales of low-bit weights
    #[arg(long, value_name = "TYPE", value_enum)]
    pub round_weights: Option<ShortFloat>,
    /// Use choices from a file that --tune wrote, in place of the cost model's. Entries for other CPUs and layers are
    /// ignored
    #[arg(long, value_name = "FILE")]
    pub choices: Option<PathBuf>,
    /// Check the compiler's own work: the graph after every pass, every kernel, Cranelift's input, and register
    /// allocation. A fault is reported as an internal error; the object is the same. Compiling takes about twice as
    /// long
    #[arg(long)]
    pub verify: bool,
}

/// When weights with zeros are stored as non-zeros only.
#[derive(ValueEnum, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sparse {
    /// If that is predicted to be faster.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Wherever a kernel supports it.
    Force,
}

/// The type that weights are rounded to.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum ShortFloat {
    /// 11 bits of precision, for magnitudes from 6e-5 to 65504.
    F16,
    /// 8 bits of precision.
    Bf16,
}

/// The name of an option's value.
fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|v| v.get_name().to_string()).unwrap_or_default()
}

impl Sparse {
    fn rule(self) -> Sparsity {
        match self {
            Sparse::Auto => Sparsity::Auto,
            Sparse::Off => Sparsity::Off,
            Sparse::Force => Sparsity::Force,
        }
    }
}

/// Options for running.
#[derive(Args, Clone)]
pub struct ThreadOptions {
    /// Threads to run on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_THREADS))]
    pub threads: u32,
}

/// Layers have too little work for more threads.
pub const MAX_THREADS: i64 = 64;

impl ThreadOptions {
    /// A pool, if there are several threads.
    pub fn pool(&self) -> Option<Pool> {
        (self.threads > 1).then(|| Pool::new(self.threads as usize))
    }
}

impl ModelOptions {
    /// The driver's options, for this machine.
    pub fn for_host(&self, model: &std::path::Path, threads: u32) -> Result<Options> {
        self.for_targets(self.targets(None)?, &symbol::of_file(model), threads)
    }

    /// The CPUs of a machine, the plainest first.
    pub fn targets(&self, triple: Option<&str>) -> Result<Vec<Target>> {
        let targets = match triple {
            Some(triple) => Target::all(triple, self.cpu.as_deref()),
            None => Target::all_host(self.cpu.as_deref()),
        };
        targets.map_err(|e| Error::usage(e.to_string()))
    }

    /// This machine's own CPU, or the one that is given.
    pub fn host_native(&self) -> Result<Vec<Target>> {
        let cpu = self.cpu.as_deref().unwrap_or("native");
        Target::all_host(Some(cpu)).map_err(|e| Error::usage(e.to_string()))
    }

    /// The driver's options, for a machine's CPUs, the plainest first.
    pub fn for_targets(&self, targets: Vec<Target>, name: &str, threads: u32) -> Result<Options> {
        let (sparsity, compact) = (self.sparse.rule(), self.opt_size);
        let weights = match self.round_weights {
            None => WeightFloats::AsGiven,
            Some(ShortFloat::F16) => WeightFloats::F16,
            Some(ShortFloat::Bf16) => WeightFloats::Bf16,
        };
        let mut targets = targets;
        if compact && self.cpu.is_none() {
            targets.truncate(1);
        }
        let mut options = Options::new(targets, name)?;
        for config in options.configs_mut() {
            (config.threads, config.sparsity, config.compact, config.weights) = (threads, sparsity, compact, weights);
            config.checked |= self.verify;
        }
        let target = &options.config.target;
        if let Some(to) = self.round_weights.filter(|_| !target.reads(weights)) {
            let (to, triple, cpu) = (name_of(to), &target.triple, target.cpu_name());
            return Err(Error::usage(format!("--round-weights {to} has no effect on {triple}, {cpu}"))
                .help("its code reads weights as 32-bit floats; 16-bit ones need x86-64-v3 or better"));
        }
        if let Some(path) = &self.choices {
            choices::File::read(path)?.apply(options.configs_mut());
        }
        let dims = self.dims.iter().map(|d| parse_dim(d)).collect::<Result<Vec<_>>>()?;
        let shapes = self.shapes.iter().map(|s| parse_shape(s)).collect::<Result<Vec<_>>>()?;
        let values = self.values.iter().map(|v| read_value(v)).collect::<Result<Vec<_>>>()?;
        once("--dim", dims.iter().map(|d| &d.0))?;
        // A value also pins the shape.
        once("--shape or --value", shapes.iter().map(|s| &s.0).chain(values.iter().map(|v| &v.0)))?;
        for text in &self.limits {
            let (name, value) = split_pair(text, "--limit NAME=N")?;
            options.limits.set(name, u64::try_from(parse_extent(value, text)?).unwrap_or(0))?;
        }
        if self.level == 0 {
            options.effort = Effort::Required;
        }
        (options.dims, options.shapes, options.values) = (dims, shapes, values);
        options.check_indices = self.check_indices;
        options.where_it_differs = self.cpu.is_none();
        Ok(options)
    }

    /// The files that the options refer to.
    pub fn files(&self) -> Vec<PathBuf> {
        let values = self.values.iter().filter_map(|v| Some(PathBuf::from(v.rsplit_once('=')?.1)));
        values.chain(self.choices.clone()).collect()
    }

    /// The options as command-line arguments, for a child process.
    pub fn to_arguments(&self) -> Vec<String> {
        let given = |flag: &str, values: &[String]| {
            values.iter().flat_map(|v| [flag.to_string(), v.clone()]).collect::<Vec<_>>()
        };
        let cpu: Vec<String> = self.cpu.iter().cloned().collect();
        let pins = [
            given("--dim", &self.dims),
            given("--shape", &self.shapes),
            given("--value", &self.values),
            given("--limit", &self.limits),
        ];
        let choices: Vec<String> = self.choices.iter().map(|path| path.display().to_string()).collect();
        let schedule = given("--choices", &choices);
        let sparse = vec!["--sparse".to_string(), name_of(self.sparse)];
        let flags = [(self.opt_size, "--opt-size"), (self.check_indices, "--check-indices"), (self.verify, "--verify")];
        let given_flags = flags.iter().filter(|(is_given, _)| *is_given).map(|(_, flag)| flag.to_string());
        let level = std::iter::once(format!("-O{}", self.level)).chain(given_flags).collect();
        let rounded = given("--round-weights", &self.round_weights.map(name_of).into_iter().collect::<Vec<_>>());
        [given("--cpu", &cpu), pins.concat(), schedule, sparse, rounded, level].concat()
    }
}

/// Warns of false statements in the model, of layers that the default CPU runs in floats, and of choices without
/// effect.
pub fn warn(options: &Options, compiled: &Compiled) {
    let without = compiled.graph.decisions().into_iter().filter(|d| d.reason == WITHOUT_BYTE_PRODUCTS).count();
    let best = compiled.targets.last().filter(|_| options.where_it_differs && without > 0);
    let floats = best.map(|t| {
        let (triple, cpu) = (&t.triple, t.cpu_name());
        let other = if t.arch == Arch::X86_64 { "x86-64-v3" } else { "apple-a13 or generic+dotprod" };
        format!(
            "{without} int8 layers are computed in floats, since {triple} may run on {cpu}; to avoid this give --cpu, such as {other}"
        )
    });
    let choices = choices::unused(options.plainer.iter().chain([&options.config]));
    warn_of(&compiled.graph);
    floats.into_iter().chain(choices).for_each(|line| warning(&line));
}

/// Warns of false statements in the model.
pub fn warn_of(graph: &Graph) {
    graph.warnings.iter().for_each(|line| warning(line));
}

fn warning(line: &str) {
    tell(&format!("mcc: warning: {line}\n"));
}

/// Splits `NAME=VALUE` at the last `=`: a name may contain `=`, a value may not.
pub fn split_pair<'a>(text: &'a str, form: &str) -> Result<(&'a str, &'a str)> {
    text.rsplit_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| Error::usage(format!("{text}: expected {form}")))
}

/// Refuses an option that is given twice, since one of the two would have no effect.
fn once<'n>(option: &str, mut names: impl Iterator<Item = &'n String>) -> Result<()> {
    let mut seen = HashSet::new();
    match names.find(|name| !seen.insert(*name)) {
        Some(name) => Err(Error::usage(format!("{option} {name}: given twice"))),
        None => Ok(()),
    }
}

fn parse_dim(text: &str) -> Result<(String, i64)> {
    let (name, value) = split_pair(text, "--dim NAME=N")?;
    Ok((name.to_string(), parse_extent(value, text)?))
}

fn parse_shape(text: &str) -> Result<(String, Vec<i64>)> {
    let (name, value) = split_pair(text, "--shape INPUT=1x3x224x224")?;
    let extents = value.split(['x', ',']).map(|d| parse_extent(d, text)).collect::<Result<_>>()?;
    Ok((name.to_string(), extents))
}

fn read_value(text: &str) -> Result<(String, Tensor)> {
    let (name, file) = split_pair(text, "--value INPUT=FILE.npy")?;
    Ok((name.to_string(), npy::read_any(std::path::Path::new(file))?))
}

fn parse_extent(value: &str, whole: &str) -> Result<i64> {
    match value.parse::<i64>() {
        Ok(n) if n >= 0 => Ok(n),
        _ => Err(Error::usage(format!("{whole}: {value:?} is not a dimension"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        assert_eq!(parse_shape("a=b:0=1x3,8").unwrap(), ("a=b:0".to_string(), vec![1, 3, 8]));
        assert_eq!(parse_dim("seq=128").unwrap(), ("seq".to_string(), 128));
        for bad in ["seq", "=3", "seq=", "seq=-1", "seq=1x2"] {
            assert!(matches!(parse_dim(bad), Err(Error::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn names_are_identifiers() {}
}
