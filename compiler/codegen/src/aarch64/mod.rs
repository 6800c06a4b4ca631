//! Kernel IR to AArch64 machine code with vectors of 128 bits.
//!
//! | stage | output |
//! |---|---|
//! | [`select`] and one file per operation family | [`inst`]ructions on virtual registers, in basic blocks |
//! | [`combine`] | pairs of loads and stores, and accesses that advance their addresses |
//! | [`schedule`] | loads before the instructions that would wait for them |
//! | `regalloc2` | a register or a spill slot for each |
//! | [`encode`], [`encoding`], [`table`], [`fields`] | bytes: frame, jumps, constant pool; the encoding of each instruction |
//!
//! A kernel is a function of the system's convention: integer arguments only, `x18` unused, a frame record. It calls
//! nothing and has no relocations. Its values are represented as in [`super::cranelift`]: a value of more than 16 bytes is
//! several registers, one of less is in the low lanes, and the upper lanes are undefined. Masks are all-ones lanes; scalar
//! masks are 0 or 1 in general registers. Integers in general registers have undefined bits above their width.

mod combine;
mod convert;
mod encode;
mod encoding;
mod fields;
mod inst;
mod lanes;
mod memory;
mod operand;
mod quantize;
mod schedule;
mod select;
mod table;
#[cfg(test)]
mod table_tests;

use mcc_targets::{Arch, Target};

use super::emitter::{Convention, Emitter, EmitterInfo, MachineCode, Symbols, Vectors};
use mcc_ir::Result;
use mcc_kernel::kir::Kernel;

/// The emitter.
pub const AARCH64: EmitterInfo = EmitterInfo {
    name: "the emitter for AArch64",
    vectors: &[Vectors { arch: Arch::Aarch64, bytes: 16 }],
    convention: Convention::System,
    imports: &[],
    new: |target, checked| Ok(Box::new(Aarch64Emitter { target, checked })),
};

struct Aarch64Emitter<'a> {
    target: &'a Target,
    checked: bool,
}

impl Aarch64Emitter<'_> {
    fn function(&self, kernel: &Kernel, listing: bool) -> Result<encode::Assembled> {
        let mut code = select::select(kernel, self.target)?;
        combine::combine(&mut code);
        schedule::schedule(&mut code);
        let options = encode::Options { checked: self.checked, listing, landing_pad: self.target.has_landing_pads() };
        encode::assemble(&code, options).map_err(|e| e.within(format!("kernel {}", kernel.name)))
    }
}

impl Emitter for Aarch64Emitter<'_> {
    fn compile(&self, kernel: &Kernel, _: &Symbols<'_>) -> Result<MachineCode> {
        let encode::Assembled { bytes, frame, .. } = self.function(kernel, false)?;
        Ok(MachineCode { bytes, relocations: Vec::new(), frame })
    }

    fn assembly(&self, kernel: &Kernel) -> Result<String> {
        Ok(self.function(kernel, true)?.text)
    }

    fn clif(&self, _: &Kernel) -> Result<Option<String>> {
        Ok(None)
    }
}
