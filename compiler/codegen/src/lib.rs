//! Code generation: a [`Program`] becomes an object file and a C header. It decides nothing: every choice is in the
//! program already. Only this module sees Cranelift.
//!
//! - [`EMITTERS`] make machine code of kernels: [`cranelift`][] for 128-bit vectors, [`x86`] for wider ones; what they
//!   have in common is [`emitter`].
//! - [`entry`], [`dims`]: the functions around them; [`share`](entry::share): how several threads get to kernels.
//! - [`abi`], [`descriptor`], [`refusals`], [`mod@header`]: the interface to callers.
//! - [`object`]: the object file; [`cpu`]: what it asks the CPU.

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
mod object;
pub mod refusals;
#[cfg(test)]
mod sample_tests;
#[cfg(test)]
mod tests;
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

/// A compiled model.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The object file.
    pub object: Vec<u8>,
    /// The C header that declares what it defines.
    pub header: String,
    /// Bytes of machine code.
    pub text_bytes: usize,
    /// Bytes of constants.
    pub weights_bytes: usize,
}

/// Compiles a program.
///
/// # Errors
/// When the target cannot be generated for, or the program breaks its contract.
pub fn compile(program: &Program, target: &Target) -> Result<Compiled> {
    compile_variants(&[Variant { program, target }])
}

/// Compiles programs of one model for several CPUs, the plainest first: the object runs the last one that the CPU at hand
/// can run.
///
/// # Errors
/// As [`compile`], and when the programs are not of one model.
pub fn compile_variants(variants: &[Variant<'_>]) -> Result<Compiled> {
    let object::File { bytes, text_bytes, weights_bytes } = pool()?.install(|| object::object(variants))?;
    let programs: Vec<&Program> = variants.iter().map(|v| v.program).collect();
    Ok(Compiled { object: bytes, header: header::header(&programs), text_bytes, weights_bytes })
}

/// Bytes of stack of a thread that compiles kernels: emitters recurse over nested loops and dimensions.
const STACK_BYTES: usize = 64 << 20;

/// The threads that compile kernels, the same for all calls of this process.
fn pool() -> Result<&'static ThreadPool> {
    static POOL: OnceLock<Result<ThreadPool>> = OnceLock::new();
    let build = || {
        let threads = ThreadPoolBuilder::new().stack_size(STACK_BYTES).thread_name(|n| format!("mcc-codegen-{n}"));
        threads.build().map_err(|e| Error::Io(format!("threads for the compiler: {e}").into()))
    };
    POOL.get_or_init(build).as_ref().map_err(Error::clone)
}

/// All emitters. The first one that takes a target makes its kernels: an emitter made for an architecture stands before
/// Cranelift.
pub const EMITTERS: &[&EmitterInfo] = &[&x86::X86, &cranelift::CRANELIFT];

/// The emitter that makes a target's kernels.
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
/// As [`compile`]; and where kernels are not compiled by Cranelift.
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

/// Kernels as text, each below its name.
fn listing(program: &Program, text: impl Fn(&Kernel) -> Result<String>) -> Result<String> {
    program.kernels.iter().map(|kernel| Ok(format!("; {}\n{}\n", kernel.name, text(kernel)?))).collect()
}
