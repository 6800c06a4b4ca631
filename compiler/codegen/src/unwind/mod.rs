//! Unwind tables: how debuggers, profilers, crash reporters and exceptions of the caller pass through the object's
//! functions.
//!
//! A [`Frame`] is a function's frame, as whoever made the function's code describes it. All of the object's functions
//! have frames of one kind: the caller's frame pointer is pushed (on 64-bit Arm with the return address), the frame
//! pointer set to that place, and what else must be restored is below it. So one description suffices for every format:
//!
//! | format of the object | tables | written by |
//! |---|---|---|
//! | ELF, Mach-O | `.eh_frame`, `__eh_frame`, with addresses relative to their own places | [`dwarf`] |
//! | COFF | `.pdata`, `.xdata` | [`windows`] |
//!
//! They hold at every instruction but those of an epilogue, where no fault happens.

mod dwarf;
#[cfg(test)]
mod tests;
mod windows;

use cranelift_codegen::isa::unwind::UnwindInst;
use cranelift_module::FuncId;
use cranelift_object::ObjectProduct;
use cranelift_object::object::write::{self, SymbolId};
use mcc_targets::Arch;
use regalloc2::PReg;
use target_lexicon::BinaryFormat;

use mcc_ir::{Error, Result};

/// A function's frame: the steps of its prologue, in order. A function without steps leaves the stack pointer, and all
/// registers that belong to its caller, as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    steps: Vec<Step>,
}

/// What an instruction of a prologue has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    /// Offset in the function of the instruction behind it.
    at: u32,
    done: Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// The caller's frame pointer is on the stack, below the return address; the stack pointer points to it.
    Pushed,
    /// The frame pointer is the stack pointer.
    Established,
    /// A register of the caller is in memory.
    Saved(Saved),
}

/// A register of the caller in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Saved {
    register: PReg,
    /// Bytes from there to where the frame pointer points.
    below: u32,
}

/// Bytes of the return address and the caller's frame pointer.
const RECORD: u32 = 16;

impl Frame {
    /// The frame record is on the stack once the instruction before offset `at` is done.
    pub fn push(&mut self, at: u32) {
        self.steps.push(Step { at, done: Done::Pushed });
    }

    /// The frame pointer points to it.
    pub fn establish(&mut self, at: u32) {
        self.steps.push(Step { at, done: Done::Established });
    }

    /// A register is saved, so many bytes below the frame pointer.
    pub fn save(&mut self, at: u32, register: PReg, below: u32) {
        self.steps.push(Step { at, done: Done::Saved(Saved { register, below }) });
    }

    /// A frame of Cranelift's.
    ///
    /// # Errors
    /// When it has a step that no function of these objects needs.
    pub fn of_cranelift(insts: &[(u32, UnwindInst)]) -> Result<Frame> {
        let mut frame = Frame::default();
        let mut lowest = 0;
        for (at, inst) in insts {
            match *inst {
                UnwindInst::PushFrameRegs { offset_upward_to_caller_sp: RECORD } => frame.push(*at),
                UnwindInst::DefineNewFrame { offset_upward_to_caller_sp: RECORD, offset_downward_to_clobbers } => {
                    lowest = offset_downward_to_clobbers;
                    frame.establish(*at);
                }
                UnwindInst::SaveReg { clobber_offset, reg } if clobber_offset <= lowest => {
                    frame.save(*at, reg.into(), lowest - clobber_offset);
                }
                UnwindInst::StackAlloc { .. } | UnwindInst::Aarch64SetPointerAuth { return_addresses: false } => {}
                _ => return Err(Error::internal(format!("a frame with {inst:?}"))),
            }
        }
        Ok(frame)
    }

    /// The saved registers.
    fn saved(&self) -> impl Iterator<Item = Saved> {
        self.steps.iter().filter_map(|step| match step.done {
            Done::Saved(saved) => Some(saved),
            Done::Pushed | Done::Established => None,
        })
    }
}

/// A function of the object.
#[derive(Debug)]
pub struct Function {
    /// Its number in the module.
    pub id: FuncId,
    /// Bytes of its code.
    pub length: u32,
    pub frame: Frame,
}

/// A function in the finished object.
struct Placed<'a> {
    symbol: SymbolId,
    length: u32,
    frame: &'a Frame,
}

/// Adds the tables of all functions to an object.
///
/// # Errors
/// When a frame has no form in the object's format, or the object cannot hold the tables: bugs here.
pub fn add_tables(product: &mut ObjectProduct, arch: Arch, format: BinaryFormat, functions: &[Function]) -> Result<()> {
    let placed =
        functions.iter().map(|f| Placed { symbol: product.function_symbol(f.id), length: f.length, frame: &f.frame });
    let placed: Vec<Placed<'_>> = placed.collect();
    match format {
        BinaryFormat::Coff => windows::add(&mut product.object, &placed),
        _ => dwarf::add(&mut product.object, arch, &placed),
    }
}

fn refused(e: write::Error) -> Error {
    Error::internal(format!("unwind tables: {e}"))
}
