//! Kernel IR to x86-64 machine code with vectors of 256 (AVX2, FMA) or 512 bits (AVX-512 F, BW, DQ, VL), which Cranelift
//! does not have.
//!
//! | stage | makes |
//! |---|---|
//! | [`select`] and its files an operation family | [`machine`] instructions on virtual registers, in basic blocks |
//! | `regalloc2` | a register or a spill slot for each |
//! | [`encode`] | bytes: encodings, frame, constant pool |
//!
//! A kernel is a function of the System V convention on every system, calls nothing and has no relocations. Its values
//! are as [`super::cranelift`] holds them: a value of more lanes than a register has is several registers, one of fewer bytes
//! than 16 sits in the low lanes, and the lanes above are undefined. Masks are mask registers with AVX-512 and all-ones
//! lanes without; scalar masks are 0 or 1 in general registers. Integers in general registers have undefined bits above
//! their width.

mod check;
mod convert;
mod encode;
mod lanes;
mod listing;
mod machine;
mod masks;
mod memory;
mod quantize;
mod select;

pub use listing::listing;
use mcc_targets::Target;

use mcc_ir::Result;
use mcc_kernel::kir::Kernel;

/// Whether kernels for a target come from here.
pub fn handles(target: &Target) -> bool {
    target.vector_bytes > 16
}

/// The machine code of a kernel.
///
/// # Errors
/// When instruction selection makes what cannot be encoded: a mistake.
pub fn function(kernel: &Kernel, target: &Target, checked: bool) -> Result<Vec<u8>> {
    let (code, level) = select::select(kernel, target)?;
    let level = encode::Level { checked, ..level };
    encode::assemble(&code, level).map_err(|e| e.within(format!("kernel {}", kernel.name)))
}
