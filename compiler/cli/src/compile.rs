//! `mcc MODEL -o OUT.o`: compiles a model to files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mcc::ir::{Graph, text};
use mcc::{Error, Result, codegen, driver, kernel, passes, symbol};

use super::link::{self, Form};
use super::options::{MAX_THREADS, ModelOptions, ThreadOptions, warn, warn_of};
use super::run::ports;
use super::tensors::stand_in;
use super::{output as files, progress, runner, say, sizes, targets, tell, tune};

#[derive(Args)]
pub struct CompileArgs {
    /// The model, an .onnx file
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// The file to write; "-" is stdout, for text output only
    #[arg(short, long, value_name = "OUT.o")]
    output: Option<PathBuf>,
    /// Machine to compile for, such as aarch64-linux-android; "help" lists them [default: this one]
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// Prefix of the object's symbols, anything but "mcc" [default: derived from the model's file name]
    #[arg(long, value_name = "SYM")]
    name: Option<String>,
    /// Where to write the C header [default: beside the object, as OUT.h]
    #[arg(long, value_name = "OUT.h")]
    header: Option<PathBuf>,
    /// What to write [default: what OUT ends in: .so a shared library, .a or .lib a static one, otherwise an object]
    #[arg(long, value_enum)]
    emit: Option<Emit>,
    #[command(flatten)]
    options: ModelOptions,
    /// Print the graph to stderr after each run of this pass that changed it; "all" for every pass
    #[arg(long, value_name = "PASS")]
    dump_ir: Option<String>,
    /// Let a run use up to N threads of a pool that the application provides; the arena holds scratch memory once per
    /// thread
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_value_t = 1,
          default_missing_value = "4", value_parser = clap::value_parser!(u32).range(1..=MAX_THREADS))]
    threads: u32,
    /// First time the candidates of the cost model's choices on this machine, write the fastest ones to a file for
    /// --choices, and compile with them; the inputs are noise (mcc bench --tune can use given data)
    #[arg(long, value_name = "FILE", conflicts_with = "choices")]
    tune: Option<PathBuf>,
    /// Where to put the weights
    #[arg(long, value_name = "WHERE", value_enum, default_value_t = Weights::Auto)]
    weights: Weights,
}

/// Seconds per measurement while tuning.
const TUNE_SECONDS: f64 = 2.0;

/// Where weights go.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Weights {
    /// Embedded up to 2 GB, the most that an object can hold; separate above
    Auto,
    /// In the object's read-only data
    Embedded,
    /// In a file beside the object, OUT.weights, whose bytes the program maps and passes as the model's last input; any
    /// other file is refused
    Separate,
}

/// Outputs of the compiler.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Emit {
    /// The object and its C header
    Object,
    /// A static library and its C header
    StaticLib,
    /// A shared library and its C header; ELF targets, linked by ld.lld or the host's cc
    Shared,
    /// An executable that times the model, profiles its steps and checks recorded cases on a phone or another machine,
    /// without anything else; Linux and Android
    Runner,
    /// The graph as imported
    ImportedGraph,
    /// The optimised graph
    Graph,
    /// Kernels, buffers and the order of calls
    Program,
    /// Cranelift's IR of every function
    Clif,
    /// Assembly of every function
    Asm,
}

/// A kind of text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    ImportedGraph,
    Graph,
    Program,
    Clif,
    Asm,
}

/// Files for a linker, or a text.
#[derive(Clone, Copy)]
enum Wanted {
    Binary(Form),
    Listing(Stage),
}

impl Emit {
    fn wanted(self) -> Wanted {
        match self {
            Emit::Object => Wanted::Binary(Form::Object),
            Emit::StaticLib => Wanted::Binary(Form::StaticLib),
            Emit::Shared => Wanted::Binary(Form::Shared),
            Emit::Runner => Wanted::Binary(Form::Runner),
            Emit::ImportedGraph => Wanted::Listing(Stage::ImportedGraph),
            Emit::Graph => Wanted::Listing(Stage::Graph),
            Emit::Program => Wanted::Listing(Stage::Program),
            Emit::Clif => Wanted::Listing(Stage::Clif),
            Emit::Asm => Wanted::Listing(Stage::Asm),
        }
    }
}

/// Compiles and writes.
pub fn compile(args: &CompileArgs) -> Result<()> {
    if args.target.as_deref() == Some(targets::HELP) {
        return targets::targets();
    }
    // Optional for clap, which would otherwise require them with a subcommand too.
    let help = "mcc MODEL -o OUT.o; all options: mcc --help";
    let model = args.model.as_deref().ok_or_else(|| Error::usage("no model given").help(help))?;
    let output = args.output.as_deref().ok_or_else(|| Error::usage("no output given").help(help))?;
    let targets = args.options.targets(args.target.as_deref())?;
    let name = args.name.clone().unwrap_or_else(|| symbol::of_file(model));
    symbol::check(&name)?;
    let mut options = args.options.for_targets(targets, &name, args.threads)?;
    options.separate_weights = args.weights == Weights::Separate;
    let wanted = match args.emit {
        None => Wanted::Binary(link::form_of(output, &options.config.target.triple)?),
        Some(emit) => emit.wanted(),
    };
    if let Wanted::Binary(Form::Runner) = wanted {
        runner::check(&options.config.target.triple)?;
        options.traced = true;
    }
    let places = match wanted {
        Wanted::Binary(form) => Some(Places::new(args, output, form)?),
        Wanted::Listing(_) => None,
    };
    match &places {
        Some(places) => check_outputs(args, model, &places.named())?,
        None => {
            // A listing has neither header nor weights file.
            let header = args.header.as_ref().map(|_| "--header");
            if let Some(flag) = header.or(options.separate_weights.then_some("--weights separate")) {
                return Err(without_effect(args, flag));
            }
            let file = Some(("the listing", output)).filter(|_| output != Path::new("-"));
            check_outputs(args, model, &file.into_iter().collect::<Vec<_>>())?;
        }
    }
    if let Some(path) = &args.tune {
        let noise = |compiled: &driver::Compiled| ports(compiled.inputs()).iter().map(stand_in).collect();
        let pool = ThreadOptions { threads: args.threads }.pool();
        tune::tune(model, &mut options, &noise, pool.as_ref(), TUNE_SECONDS, path)?;
    }
    if let Some(pass) = &args.dump_ir {
        dump(model, pass, &options)?;
    }
    let stage = match (wanted, places) {
        (Wanted::Binary(form), Some(places)) => return binary(args, model, places, &options, form),
        (Wanted::Listing(stage), _) => stage,
        (Wanted::Binary(_), None) => return Err(Error::internal("an object without a place")),
    };
    let listing = listing(stage, model, &options)?;
    if output == Path::new("-") {
        return say(&listing);
    }
    files::write(output, listing.as_bytes())
}

/// Prints the graph to stderr after each run of a pass that changed it.
fn dump(model: &Path, pass: &str, options: &driver::Options) -> Result<()> {
    if pass != "all" && passes::find(pass).is_none() {
        let known: BTreeSet<&str> = passes::PIPELINE.iter().flat_map(|phase| phase.passes).map(|p| p.name).collect();
        let known: Vec<&str> = known.into_iter().collect();
        return Err(Error::usage(format!("--dump-ir {pass}: no such pass")).help(format!("all, {}", known.join(", "))));
    }
    let mut last = String::new();
    let mut show = |name: &str, graph: &Graph| {
        if pass == "all" || pass == name {
            let listing = text::print_with(graph, text::Constants::Digest);
            if listing != last {
                tell(&format!("// after {name}\n{listing}\n"));
                last = listing;
            }
        }
    };
    driver::optimise(driver::import(model, options)?, options, &mut show).map(|_| ())
}

fn listing(stage: Stage, model: &Path, options: &driver::Options) -> Result<String> {
    let imported = driver::import(model, options)?;
    warn_of(&imported);
    if stage == Stage::ImportedGraph {
        return Ok(text::print_with(&imported, text::Constants::Digest));
    }
    let graph = driver::optimise(imported, options, &mut |_, _| {})?;
    if stage == Stage::Graph {
        return Ok(text::print_with(&graph, text::Constants::Digest));
    }
    let program = kernel::lower(&graph, &options.config, &options.name)?;
    match stage {
        Stage::Clif => codegen::clif_text(&program, &options.config.target),
        Stage::Asm => codegen::asm_text(&program, &options.config.target),
        Stage::ImportedGraph | Stage::Graph | Stage::Program => Ok(program.to_string()),
    }
}

fn without_effect(args: &CompileArgs, flag: &str) -> Error {
    let emit = args.emit.and_then(|e| e.to_possible_value()).map(|v| v.get_name().to_string()).unwrap_or_default();
    Error::usage(format!("{flag} has no effect on --emit {emit}"))
}

/// Paths of a compiled model's files.
struct Places {
    object: PathBuf,
    /// A runner has none.
    header: Option<PathBuf>,
    weights: Option<PathBuf>,
}

impl Places {
    fn new(args: &CompileArgs, output: &Path, form: Form) -> Result<Places> {
        if output == Path::new("-") {
            return Err(Error::usage("-o -: an object is binary; give a file"));
        }
        if form == Form::Runner && args.header.is_some() {
            return Err(without_effect(args, "--header"));
        }
        let header = args.header.clone().unwrap_or_else(|| output.with_extension("h"));
        let header = (form != Form::Runner).then_some(header);
        let weights = (args.weights == Weights::Separate).then(|| output.with_extension("weights"));
        Ok(Places { object: output.to_path_buf(), header, weights })
    }

    fn named(&self) -> Vec<files::Named<'_>> {
        let header = self.header.iter().map(|path| ("the header", path.as_path()));
        let weights = self.weights.iter().map(|path| ("the weights", path.as_path()));
        [("the object", self.object.as_path())].into_iter().chain(header).chain(weights).collect()
    }
}

/// Refuses outputs that would overwrite an input of the command or one another.
fn check_outputs(args: &CompileArgs, model: &Path, outputs: &[files::Named]) -> Result<()> {
    let given = args.options.files();
    let given = given.iter().map(|path| ("a file given with an option", path.as_path()));
    let inputs: Vec<files::Named> = std::iter::once(("the model", model)).chain(given).collect();
    let tuned = args.tune.iter().map(|path| ("the file of choices", path.as_path()));
    files::check(&inputs, &outputs.iter().copied().chain(tuned).collect::<Vec<_>>())
}

/// Refuses outputs that would overwrite the model's external data.
fn check_data(data: &[PathBuf], places: &Places) -> Result<()> {
    let data: Vec<files::Named> = data.iter().map(|path| ("the model's data", path.as_path())).collect();
    files::check(&data, &places.named())
}

fn binary(args: &CompileArgs, model: &Path, mut places: Places, options: &driver::Options, form: Form) -> Result<()> {
    let (compiled, data) = progress::show(&format!("compiling {}", model.display()), || {
        let imported = driver::import(model, options)?;
        let data = imported.files.clone();
        check_data(&data, &places)?;
        Ok((driver::compile_graph(imported, options)?, data))
    })?;
    warn(options, &compiled);
    if let (Some(weights), None) = (&compiled.weights, &places.weights) {
        let what = format!("the weights are {} bytes, more than an object can hold", weights.len());
        if args.weights == Weights::Embedded {
            return Err(Error::unsupported(what).help("without --weights embedded they are written to a file"));
        }
        let beside = places.object.with_extension("weights");
        let file = beside.display();
        tell(&format!(
            "mcc: note: {what}: they are in {file}, whose bytes the program passes as the model's last input\n"
        ));
        places.weights = Some(beside);
        check_outputs(args, model, &places.named())?;
        check_data(&data, &places)?;
    }
    let linked = link::link(model, &compiled, options, form, &places.object)?;
    let weights = places.weights.as_deref().zip(compiled.weights.as_deref());
    let header = places.header.as_deref().map(|path| (path, compiled.code.header.as_bytes()));
    let object = (places.object.as_path(), linked.as_slice());
    files::write_all(&weights.into_iter().chain(header).chain([object]).collect::<Vec<_>>())?;
    if form == Form::Runner {
        files::make_executable(&places.object)?;
    }
    tell(&sizes::report(&places.object, linked.len(), &compiled));
    Ok(())
}
