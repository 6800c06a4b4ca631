//! Code generation: a [`Program`] becomes an object file and a C header. It decides nothing: every choice is in the
//! program already. Only this module sees Cranelift.
//!
//! - [`cranelift`][] for kernels on 128-bit vectors, [`x86`] for those on wider ones.
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

use mcc_ir::{Error, Result};
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

/// The program's kernels as CLIF text.
///
/// # Errors
/// As [`compile`]; and where kernels are not compiled by Cranelift.
pub fn clif_text(program: &Program, target: &Target) -> Result<String> {
    if x86::handles(target) {
        return Err(Error::unsupported("kernels for AVX2 and AVX-512 are not made of CLIF")
            .help("--emit asm shows their instructions; --cpu x86-64-v2 makes CLIF"));
    }
    let isa = isa::isa(target, program.checked)?;
    let imports = cranelift::Imports { memcpy: 0, memset: 1 };
    let texts = program.kernels.iter().map(|k| {
        let function = cranelift::function(k, target, &*isa, imports);
        format!("; {}\n{}\n", k.name, function.display())
    });
    Ok(texts.collect())
}

/// The program's kernels as assembly text.
///
/// # Errors
/// As [`compile`].
pub fn asm_text(program: &Program, target: &Target) -> Result<String> {
    let isa = isa::isa(target, program.checked)?;
    let imports = cranelift::Imports { memcpy: 0, memset: 1 };
    let mut text = String::new();
    for kernel in &program.kernels {
        if x86::handles(target) {
            text += &format!("; {}\n{}\n", kernel.name, x86::listing(&x86::function(kernel, target, program.checked)?));
            continue;
        }
        let mut context = cranelift_codegen::Context::for_function(cranelift::function(kernel, target, &*isa, imports));
        context.set_disasm(true);
        let code = object::compile_function(&*isa, &mut context, &kernel.name)?;
        text += &format!("; {}\n{}\n", kernel.name, code.vcode.as_deref().unwrap_or_default());
    }
    Ok(text)
}
