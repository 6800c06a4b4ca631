//! Code generation: a [`Program`] becomes an object file and a C header. It decides nothing: every choice is already in
//! the program. Only this module uses Cranelift.
//!
//! - [`EMITTERS`] compile kernels: [`cranelift`][] for 128-bit vectors, [`x86`] for wider ones, [`aarch64`]; what the last
//!   two share is [`machine`], what the two for 128 bits do [`parts`], the common interface of all is [`emitter`].
//! - [`entry`], [`dims`]: the functions around kernels; [`share`](entry::share): how several threads share kernels.
//! - [`abi`], [`descriptor`], [`refusals`], [`mod@header`]: the interface to callers.
//! - [`object`]: the object file; [`unwind`], [`note`]: what it tells others of its code; [`cpu`]: how it detects the CPU;
//!   [`archive`](mod@archive), [`stub`]: for libraries.

mod aarch64;
pub mod abi;
mod archive;
mod cpu;
#[cfg(test)]
mod cpu_tests;
pub mod cranelift;
mod descriptor;
mod dims;
pub mod emitter;
mod entry;
mod header;
mod isa;
mod machine;
mod note;
mod object;
mod parts;
pub mod refusals;
#[cfg(test)]
mod sample_tests;
mod stub;
#[cfg(test)]
mod tests;
mod unwind;
mod x86;

use std::sync::OnceLock;

use mcc_targets::Target;
use rayon::{ThreadPool, ThreadPoolBuilder};

use emitter::EmitterInfo;
use mcc_ir::{Error, Result};
use mcc_kernel::kir::Kernel;
use mcc_kernel::program::Program;

pub use archive::archive;
pub use object::Variant;
pub use stub::c_library_stub;

/// A compiled model.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The object file.
    pub object: Vec<u8>,
    /// The C header that declares the object's functions.
    pub header: String,
    /// Bytes of machine code.
    pub text_bytes: usize,
    /// Bytes of constants.
    pub weights_bytes: usize,
}

/// Compiles a program.
///
/// # Errors
/// When the target is not supported, or the program breaks its contract.
pub fn compile(program: &Program, target: &Target) -> Result<Compiled> {
    compile_variants(&[Variant { program, target }])
}

/// Compiles programs of one model for several CPUs, the most basic first: the object runs the last one that the actual
/// CPU supports.
///
/// # Errors
/// As [`compile`], and when the programs are not of one model.
pub fn compile_variants(variants: &[Variant<'_>]) -> Result<Compiled> {
    let object::File { bytes, text_bytes, weights_bytes } = pool()?.install(|| object::object(variants))?;
    let programs: Vec<&Program> = variants.iter().map(|v| v.program).collect();
    Ok(Compiled { object: bytes, header: header::header(&programs), text_bytes, weights_bytes })
}

/// Stack bytes of a thread that compiles kernels: emitters recurse over nested loops and dimensions.
const STACK_BYTES: usize = 64 << 20;

/// The threads that compile kernels, shared by all calls in this process.
fn pool() -> Result<&'static ThreadPool> {
    static POOL: OnceLock<Result<ThreadPool>> = OnceLock::new();
    let build = || {
        let threads = ThreadPoolBuilder::new().stack_size(STACK_BYTES).thread_name(|n| format!("mcc-codegen-{n}"));
        threads.build().map_err(|e| Error::Io(format!("threads for the compiler: {e}").into()))
    };
    POOL.get_or_init(build).as_ref().map_err(Error::clone)
}

/// All emitters. The first one that supports a target compiles its kernels: emitters for one architecture precede
/// Cranelift.
pub const EMITTERS: &[&EmitterInfo] = &[&x86::X86, &aarch64::AARCH64, &cranelift::CRANELIFT];

/// The emitter that compiles a target's kernels.
///
/// # Errors
/// When there is none.
pub fn emitter_of(target: &Target) -> Result<&'static EmitterInfo> {
    EMITTERS.iter().copied().find(|emitter| emitter.takes(target)).ok_or_else(|| {
        let bits = 8 * target.vector_bytes;
        Error::internal(format!("target {}: no emitter makes vectors of {bits} bits", target.triple))
    })
}

/// The program's kernels as CLIF text.
///
/// # Errors
/// As [`compile`]; also when Cranelift does not compile the kernels.
pub fn clif_text(program: &Program, target: &Target) -> Result<String> {
    let info = emitter_of(target)?;
    let emitter = (info.new)(target, program.checked)?;
    listing(program, |kernel| {
        emitter.clif(kernel)?.ok_or_else(|| {
            Error::unsupported(format!("{} makes no CLIF", info.name))
                .help("--emit asm shows the instructions; --cpu x86-64-v2 makes CLIF")
        })
    })
}

/// The program's kernels as assembly text.
///
/// # Errors
/// As [`compile`].
pub fn asm_text(program: &Program, target: &Target) -> Result<String> {
    let emitter = (emitter_of(target)?.new)(target, program.checked)?;
    listing(program, |kernel| emitter.assembly(kernel))
}

/// Kernels as text, each preceded by its name.
fn listing(program: &Program, text: impl Fn(&Kernel) -> Result<String>) -> Result<String> {
    program.kernels.iter().map(|kernel| Ok(format!("; {}\n{}\n", kernel.name, text(kernel)?))).collect()
}
