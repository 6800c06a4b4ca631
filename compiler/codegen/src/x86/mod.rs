//! Kernel IR to x86-64 machine code with vectors of 256 (AVX2, FMA) or 512 bits (AVX-512 F, BW, DQ, VL), which
//! Cranelift does not support.
//!
//! | stage | output |
//! |---|---|
//! | [`select`] and one file per operation family | [`machine`] instructions on virtual registers, in basic blocks |
//! | `regalloc2` | a register or a spill slot for each |
//! | [`encode`], [`encodings`] | bytes: frame, jumps, constant pool; the encoding of each instruction |
//!
//! A kernel is a System V function on every system, calls nothing and has no relocations. Its values are represented as
//! in [`super::cranelift`]: a value with more lanes than a register has is several registers, one of less than 16 bytes
//! is in the low lanes, and the upper lanes are undefined. Masks are mask registers with AVX-512 and all-ones lanes
//! without; scalar masks are 0 or 1 in general registers. Integers in general registers have undefined bits above their
//! width.

mod convert;
mod encode;
mod encodings;
mod lanes;
mod listing;
mod machine;
mod masks;
mod memory;
mod quantize;
mod select;

use mcc_targets::{Arch, Target};

use super::emitter::{Convention, Emitter, EmitterInfo, MachineCode, Symbols, Vectors};
use mcc_ir::Result;
use mcc_kernel::kir::Kernel;

/// The emitter.
pub const X86: EmitterInfo = EmitterInfo {
    name: "the emitter for AVX2 and AVX-512",
    vectors: &[Vectors { arch: Arch::X86_64, bytes: 32 }, Vectors { arch: Arch::X86_64, bytes: 64 }],
    convention: Convention::SystemV,
    imports: &[],
    new: |target, checked| Ok(Box::new(X86Emitter { target, checked })),
};

struct X86Emitter<'a> {
    target: &'a Target,
    checked: bool,
}

impl Emitter for X86Emitter<'_> {
    fn compile(&self, kernel: &Kernel, _: &Symbols<'_>) -> Result<MachineCode> {
        let encode::Assembled { bytes, frame } = function(kernel, self.target, self.checked)?;
        Ok(MachineCode { bytes, relocations: Vec::new(), frame })
    }

    fn assembly(&self, kernel: &Kernel) -> Result<String> {
        Ok(listing::listing(&function(kernel, self.target, self.checked)?.bytes))
    }

    fn clif(&self, _: &Kernel) -> Result<Option<String>> {
        Ok(None)
    }
}

fn function(kernel: &Kernel, target: &Target, checked: bool) -> Result<encode::Assembled> {
    let (code, level) = select::select(kernel, target)?;
    let level = encode::Level { checked, ..level };
    encode::assemble(&code, level).map_err(|e| e.within(format!("kernel {}", kernel.name)))
}
