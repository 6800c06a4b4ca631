//! ONNX models in a Rust program: compiled by its build script, called through a typed module.
//!
//! In `build.rs`:
//!
//! ```no_run
//! fn main() -> Result<(), mcc_build::Error> {
//!     mcc_build::Model::new("models/digits.onnx").compile()
//! }
//! ```
//!
//! In the program, which depends on `mcc-runtime`:
//!
//! ```ignore
//! mod digits {
//!     include!(concat!(env!("OUT_DIR"), "/digits.rs"));
//! }
//!
//! let mut arena = Box::new(digits::Arena::new());
//! let mut probabilities = [0.0; 10];
//! digits::run(&image, &mut probabilities, &mut arena)?;
//! ```
//!
//! The object is linked as a static library, for Cargo's target. A model whose dimensions are all constant has `run`,
//! with arrays of the right lengths; every model has `model()`, a [`mcc_runtime::Model`] for tensors of any dimensions.
//! Only `compile` prints: Cargo's instructions on what to link and when to rerun the script.
//!
//! What a build script does can be had without one, for any target and folder:
//!
//! ```
//! # let out = tempfile::tempdir().unwrap();
//! # let out = out.path();
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/models/digits.onnx");
//! let compiled = mcc_build::Model::new(path).cpu("cortex-a76").compile_to(out, "aarch64-linux-android")?;
//! assert_eq!(compiled.library, "digits_mcc");
//! let module = std::fs::read_to_string(&compiled.module).unwrap();
//! assert!(module.contains("output_probabilities: &mut [f32; 10]"));
//! # Ok::<(), mcc_build::Error>(())
//! ```
//!
//! [`mcc_runtime::Model`]: https://docs.rs/mcc-runtime

mod module;

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use mcc::driver::{self, Options};
use mcc::symbol;
use mcc_targets::Target;

/// Why a model could not be compiled: a fault in the model, in the options or in the environment.
#[derive(Clone)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// A build script that ends with an error prints it this way.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<mcc::Error> for Error {
    fn from(e: mcc::Error) -> Error {
        Error(e.to_string())
    }
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |e| Error(format!("{}: {e}", path.display()))
}

/// A model to compile.
#[derive(Debug, Clone)]
pub struct Model {
    path: PathBuf,
    name: Option<String>,
    cpu: Option<String>,
    dims: Vec<(String, i64)>,
    shapes: Vec<(String, Vec<i64>)>,
    threads: u32,
}

/// The files of a compiled model, see [`Model::compile_to`].
#[derive(Debug, Clone)]
pub struct Compiled {
    /// Name of the static library for the linker, without `lib` and `.a`.
    pub library: String,
    /// The Rust module.
    pub module: PathBuf,
    /// The files that the model consists of; if one changes, it must be compiled again.
    pub sources: Vec<PathBuf>,
}

impl Model {
    /// The model in a file; a relative path is relative to the package's folder.
    pub fn new(path: impl Into<PathBuf>) -> Model {
        let (dims, shapes) = (Vec::new(), Vec::new());
        Model { path: path.into(), name: None, cpu: None, dims, shapes, threads: 1 }
    }

    /// Sets the name of the module's file and prefix of the object's symbols, a C identifier; derived from the model's
    /// file name by default.
    #[must_use]
    pub fn name(mut self, name: &str) -> Model {
        self.name = Some(name.to_string());
        self
    }

    /// Sets the CPUs to compile for, as for `mcc --cpu`.
    #[must_use]
    pub fn cpu(mut self, cpu: &str) -> Model {
        self.cpu = Some(cpu.to_string());
        self
    }

    /// Pins a symbolic dimension to a value.
    #[must_use]
    pub fn dim(mut self, name: &str, value: i64) -> Model {
        self.dims.push((name.to_string(), value));
        self
    }

    /// Pins the shape of an input.
    #[must_use]
    pub fn shape(mut self, input: &str, shape: &[i64]) -> Model {
        self.shapes.push((input.to_string(), shape.to_vec()));
        self
    }

    /// Sets the largest number of threads that a run may use, from a pool that the program passes.
    #[must_use]
    pub fn threads(mut self, threads: u32) -> Model {
        self.threads = threads.max(1);
        self
    }

    /// Compiles within a build script, for its target and into its `OUT_DIR`, and prints Cargo's instructions.
    ///
    /// # Errors
    /// When the model cannot be compiled, files cannot be written, or this is not a build script.
    pub fn compile(&self) -> Result<(), Error> {
        let variable = |name: &str| {
            env::var(name).map_err(|_| Error(format!("{name} is not set: not in a build script of Cargo")))
        };
        let (out, target) = (PathBuf::from(variable("OUT_DIR")?), variable("TARGET")?);
        let model = Model { path: Path::new(&variable("CARGO_MANIFEST_DIR")?).join(&self.path), ..self.clone() };
        let compiled = model.compile_to(&out, &target)?;
        println!("cargo::rustc-link-search=native={}", out.display());
        println!("cargo::rustc-link-lib=static={}", compiled.library);
        for source in &compiled.sources {
            println!("cargo::rerun-if-changed={}", source.display());
        }
        Ok(())
    }

    /// Compiles for a target triple into a folder, without printing anything.
    ///
    /// # Errors
    /// As [`Model::compile`].
    pub fn compile_to(&self, out: &Path, target: &str) -> Result<Compiled, Error> {
        let name = self.name.clone().unwrap_or_else(|| symbol::of_file(&self.path));
        let targets = Target::all(target, self.cpu.as_deref()).map_err(|e| Error(e.to_string()))?;
        let mut options = Options::new(targets, &name)?;
        options.configs_mut().for_each(|config| config.threads = self.threads);
        options.where_it_differs = self.cpu.is_none();
        (options.dims, options.shapes) = (self.dims.clone(), self.shapes.clone());
        let imported = driver::import(&self.path, &options)?;
        let sources = [&[self.path.clone()][..], &imported.files].concat();
        let compiled = driver::compile_graph(imported, &options)?;
        if compiled.weights.is_some() {
            return Err(Error(format!("{}: more weights than an object can hold", self.path.display())));
        }
        let library = format!("{name}_mcc");
        let file = match target.contains("windows-msvc") {
            true => format!("{library}.lib"),
            false => format!("lib{library}.a"),
        };
        let archive = out.join(file);
        fs::write(&archive, compiled.static_library(&options)?).map_err(io(&archive))?;
        let module = out.join(format!("{name}.rs"));
        fs::write(&module, module::text(&compiled, &name)).map_err(io(&module))?;
        Ok(Compiled { library, module, sources })
    }
}
