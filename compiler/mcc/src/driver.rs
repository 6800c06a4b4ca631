//! From an ONNX model to an object: calls the stages in turn. Every command uses it.
//!
//! Functions return all errors; none prints, ends the process or panics. They run on a separate stack that is large enough
//! for models nested as deep as the importer accepts.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use mcc_targets::{Config, Target};

use mcc_codegen::Variant;
use mcc_ir::{DType, Error, Graph, Result, Tensor};
use mcc_kernel::program::{Port, Program};
use mcc_passes::Effort;

use crate::stack::on_large_stack;
use crate::{codegen, kernel, loader, onnx, passes, symbol};

/// Bytes of weights that an object can hold: x86-64 instructions address 2 GB, code included.
pub const EMBEDDED_LIMIT: usize = (1 << 31) - (1 << 27);

/// A model to compile.
#[derive(Debug, Clone)]
pub enum Source {
    /// An ONNX file; it names its external data relative to its folder.
    File(PathBuf),
    /// The bytes of an ONNX file without external data.
    Bytes(Bytes),
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Source {
    fn from(path: &P) -> Source {
        Source::File(path.as_ref().to_path_buf())
    }
}

impl From<Bytes> for Source {
    fn from(bytes: Bytes) -> Source {
        Source::Bytes(bytes)
    }
}

/// How to compile a model.
#[derive(Debug, Clone)]
pub struct Options {
    /// The machine to compile for, and the options for its code.
    pub config: Config,
    /// Further CPUs of the machine, with fewer features, that the object also has code for; the plainest first.
    pub plainer: Vec<Config>,
    /// Whether to leave out a CPU whose program equals that of a plainer one.
    pub where_it_differs: bool,
    /// Prefix of every symbol of the object: a C identifier other than `mcc`, which is the prefix of mcc.h.
    pub name: String,
    /// Symbolic dimensions to pin, with their values.
    pub dims: Vec<(String, i64)>,
    /// Inputs whose shapes to pin.
    pub shapes: Vec<(String, Vec<i64>)>,
    /// Inputs whose elements to pin, where they must be known at compile time, such as axes.
    pub values: Vec<(String, Tensor)>,
    /// Whether out-of-range indices in data are refused instead of clamped to the nearest valid one.
    pub check_indices: bool,
    /// Bounds on the expansion of the model.
    pub limits: onnx::limits::Limits,
    /// Which passes run.
    pub effort: Effort,
    /// Whether the weights are kept out of the object and become the model's last input.
    pub separate_weights: bool,
    /// Bytes of weights above which they are kept out of it in any case: usually [`EMBEDDED_LIMIT`].
    pub embedded_limit: usize,
    /// Whether the object reports when its steps start, see [`Program::traced`].
    pub traced: bool,
}

impl Options {
    /// Default options for the CPUs of one machine, the plainest first. `name` is the prefix of the object's symbols.
    ///
    /// # Errors
    /// When the [name](symbol::check) is not valid, or there is no target.
    pub fn new(targets: Vec<Target>, name: &str) -> Result<Options> {
        symbol::check(name)?;
        let mut plainer: Vec<Config> = targets.into_iter().map(Config::from).collect();
        let config = plainer.pop().ok_or_else(|| Error::usage("no target"))?;
        plainer.iter_mut().for_each(|plain| plain.weights_machine = config.weights_machine);
        Ok(Options {
            config,
            plainer,
            where_it_differs: false,
            name: name.to_string(),
            dims: Vec::new(),
            shapes: Vec::new(),
            values: Vec::new(),
            check_indices: false,
            limits: onnx::limits::Limits::default(),
            effort: Effort::Full,
            separate_weights: false,
            embedded_limit: EMBEDDED_LIMIT,
            traced: false,
        })
    }

    /// Checks the name, and that all CPUs belong to one machine; fields may have changed since [`Options::new`].
    fn check(&self) -> Result<()> {
        symbol::check(&self.name)?;
        let machine = &self.config.target.triple;
        match self.plainer.iter().map(|plain| &plain.target.triple).find(|other| *other != machine) {
            None => Ok(()),
            Some(other) => Err(Error::usage(format!("an object is for one machine, not for {other} and {machine}"))),
        }
    }

    /// The configuration for each CPU, the plainest first.
    pub fn configs_mut(&mut self) -> impl Iterator<Item = &mut Config> {
        self.plainer.iter_mut().chain([&mut self.config])
    }
}

/// The results of all stages.
#[derive(Debug)]
pub struct Compiled {
    /// The CPUs that the object has code for, the plainest first.
    pub targets: Vec<Target>,
    /// The optimised graph, for the last of them.
    pub graph: Graph,
    /// What lowering decided.
    pub program: Program,
    /// The programs for the other CPUs, the plainest first.
    pub plainer: Vec<Program>,
    /// The weights' bytes, if they are not in the object; they are the program's last input.
    pub weights: Option<Bytes>,
    /// Bytes of arena that suffice for every CPU, if no dimension decides them.
    pub arena_bytes: Option<i64>,
    /// The object and its header.
    pub code: codegen::Compiled,
}

impl Compiled {
    /// The model's own inputs.
    pub fn inputs(&self) -> &[Port] {
        let all = &self.program.inputs;
        &all[..all.len() - usize::from(self.weights.is_some())]
    }

    /// The object file: ELF, Mach-O or COFF, depending on the target.
    pub fn object(&self) -> &[u8] {
        &self.code.object
    }

    /// The C header that declares the object's functions; it needs no other file.
    pub fn header(&self) -> &str {
        &self.code.header
    }

    /// Loads the object into this process.
    ///
    /// # Errors
    /// When it is not for this machine, or needs CPU features that this machine lacks.
    pub fn load(&self) -> Result<loader::Model> {
        loader::Model::load(&self.code.object)
    }

    /// The object in a static library.
    ///
    /// # Errors
    /// When the archive cannot be written; this does not depend on the model.
    pub fn static_library(&self, options: &Options) -> Result<Vec<u8>> {
        codegen::archive(&self.code.object, &options.config.target.triple, &options.name)
    }

    /// The program for each of [`targets`](Compiled::targets).
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        self.plainer.iter().chain([&self.program])
    }

    /// The program's inputs: the model's, and the weights if they are not in the object.
    ///
    /// # Errors
    /// When the weights do not make a tensor, which cannot happen.
    pub fn with_weights(&self, mut inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        if let Some(weights) = &self.weights {
            inputs.push(Tensor::new(DType::U8, vec![weights.len()], weights.clone())?);
        }
        Ok(inputs)
    }
}

/// Compiles a model.
///
/// # Errors
/// When the model cannot be read, is invalid or needs something that mcc does not support; the error lists all blockers
/// that a stage found.
pub fn compile(model: impl Into<Source>, options: &Options) -> Result<Compiled> {
    let model = model.into();
    on_large_stack(|| generate(read(&model, options)?, options))
}

/// Compiles an imported model.
///
/// # Errors
/// As [`compile`].
pub fn compile_graph(imported: Graph, options: &Options) -> Result<Compiled> {
    on_large_stack(|| generate(imported, options))
}

/// Reads a model; opset versions, functions and shape computations do not go beyond this point.
///
/// # Errors
/// As [`compile`].
pub fn import(model: impl Into<Source>, options: &Options) -> Result<Graph> {
    let model = model.into();
    on_large_stack(|| read(&model, options))
}

/// Runs the passes; `observer` sees the graph after each pass, with the pass's name.
///
/// # Errors
/// When a pass finds the graph invalid.
pub fn optimise(mut graph: Graph, options: &Options, observer: &mut (dyn FnMut(&str, &Graph) + Send)) -> Result<Graph> {
    on_large_stack(|| {
        passes::run(&mut graph, &options.config, options.effort, observer)?;
        Ok(graph)
    })
}

fn read(model: &Source, options: &Options) -> Result<Graph> {
    // Shapes are pinned before the import, so that it folds everything computed from them.
    let Options { dims, shapes, values, check_indices, limits, .. } = options.clone();
    let options = onnx::Options { dims, shapes, values, check_indices, limits };
    match model {
        Source::File(path) => onnx::import_file(path, &options),
        Source::Bytes(bytes) => onnx::import(bytes.clone(), None, &options),
    }
}

fn generate(imported: Graph, options: &Options) -> Result<Compiled> {
    options.check()?;
    // Every CPU has its own layouts and kernels; commands show those of the CPU with the most features.
    let (mut graphs, mut programs, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for config in options.plainer.iter().chain([&options.config]) {
        let (graph, program) = lower_for(config, imported.clone(), options)?;
        if options.where_it_differs && programs.last().is_some_and(|plainer: &Program| plainer.runs_as(&program)) {
            continue;
        }
        // Keep only the last graph: each is as large as the model.
        graphs = vec![graph];
        programs.push(program);
        targets.push(config.target.clone());
    }
    let separate = options.separate_weights || kernel::weights::exceed(&programs, options.embedded_limit);
    let weights = separate.then(|| kernel::weights::separate(&mut programs)).transpose()?;
    let variants: Vec<Variant<'_>> =
        programs.iter().zip(&targets).map(|(program, target)| Variant { program, target }).collect();
    let code = codegen::compile_variants(&variants)?;
    let arena_bytes = codegen::abi::fixed_arena(&programs.iter().collect::<Vec<_>>());
    match (graphs.pop(), programs.pop()) {
        (Some(graph), Some(program)) => {
            Ok(Compiled { targets, graph, program, plainer: programs, weights, arena_bytes, code })
        }
        _ => Err(Error::internal("a model without a program")),
    }
}

/// The optimised graph and the program for one CPU.
fn lower_for(config: &Config, mut graph: Graph, options: &Options) -> Result<(Graph, Program)> {
    passes::run(&mut graph, config, options.effort, &mut |_, _| {})?;
    let mut program = kernel::lower(&graph, config, &options.name)?;
    program.traced = options.traced;
    Ok((graph, program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let target = |triple| Target::new(triple, None).unwrap();
        let (x86, arm) = (target("x86_64-unknown-linux-gnu"), target("aarch64-unknown-linux-gnu"));
        let message = |options: &Options| compile_graph(Graph::default(), options).unwrap_err().to_string();
        let mixed = Options::new(vec![arm, x86.clone()], "m").unwrap();
        assert!(message(&mixed).contains("one machine"));
        let named = Options { name: "a b".to_string(), ..Options::new(vec![x86], "m").unwrap() };
        assert!(message(&named).contains("not a C identifier"));
    }
}
