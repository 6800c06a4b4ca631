//! The interface of emitters, which compile kernels to machine code. [`EMITTERS`](crate::EMITTERS) lists all of them.
//!
//! An emitter is a module with an [`EmitterInfo`], which states its capabilities and the requirements of its code, and
//! an [`Emitter`] for a target. It supports every kernel that lowering makes for its targets: the [`Target`] determines
//! whether kernels use masks, byte products or lookups.

use cranelift_codegen::ir::{AbiParam, Signature, types};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_module::{FuncId, ModuleReloc};
use mcc_targets::{Arch, Target};

use crate::unwind::Frame;
use mcc_ir::Result;
use mcc_kernel::kir::Kernel;

/// Capabilities of an emitter, and requirements of its code.
#[derive(Debug)]
pub struct EmitterInfo {
    /// Its name in messages.
    pub name: &'static str,
    /// The registers that it supports.
    pub vectors: &'static [Vectors],
    /// The calling convention of its kernels.
    pub convention: Convention,
    /// Functions of the C library that its kernels may call.
    pub imports: &'static [&'static str],
    /// The emitter for a target that it [`takes`](EmitterInfo::takes), and whether it checks its own work.
    pub new: for<'a> fn(&'a Target, bool) -> Result<Box<dyn Emitter + 'a>>,
}

/// Vector registers of an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vectors {
    /// The architecture.
    pub arch: Arch,
    /// Bytes of a register.
    pub bytes: u32,
}

/// A calling convention of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convention {
    /// That of the target's system.
    System,
    /// System V, whatever the system: one prologue and one set of saved registers.
    SystemV,
}

/// Functions of the object that a kernel's code refers to.
#[derive(Debug, Clone, Copy)]
pub struct Symbols<'a> {
    /// The kernel itself.
    pub own: FuncId,
    /// The functions of [`EmitterInfo::imports`], in that order.
    pub imports: &'a [FuncId],
}

/// Machine code that is not yet in the object.
pub struct MachineCode {
    /// Instructions, and constants that they reach without relocations.
    pub bytes: Vec<u8>,
    /// References to other functions.
    pub relocations: Vec<ModuleReloc>,
    /// What its prologue does.
    pub frame: Frame,
}

/// Compiles kernels to machine code for one target.
pub trait Emitter: Send + Sync {
    /// The machine code of a kernel. It probes its stack page by page if the system requires that.
    ///
    /// # Errors
    /// When the kernel cannot be compiled: a bug of the compiler.
    fn compile(&self, kernel: &Kernel, symbols: &Symbols<'_>) -> Result<MachineCode>;

    /// The same as assembly text, for listings and snapshots.
    ///
    /// # Errors
    /// As [`compile`](Emitter::compile).
    fn assembly(&self, kernel: &Kernel) -> Result<String>;

    /// The kernel as CLIF text, if Cranelift compiles it.
    ///
    /// # Errors
    /// As [`compile`](Emitter::compile).
    fn clif(&self, kernel: &Kernel) -> Result<Option<String>>;
}

impl EmitterInfo {
    /// Whether the emitter supports a target.
    pub fn takes(&self, target: &Target) -> bool {
        self.vectors.contains(&Vectors { arch: target.arch, bytes: target.vector_bytes })
    }
}

impl Convention {
    /// The same for Cranelift.
    pub fn for_cranelift(self, isa: &dyn TargetIsa) -> CallConv {
        match self {
            Convention::System => isa.default_call_conv(),
            Convention::SystemV => CallConv::SystemV,
        }
    }

    /// Signature of a kernel: pointers, then symbols.
    pub fn signature(self, kernel: &Kernel, isa: &dyn TargetIsa) -> Signature {
        let mut signature = Signature::new(self.for_cranelift(isa));
        let arguments = kernel.pointers as usize + kernel.symbols.len();
        signature.params = vec![AbiParam::new(types::I64); arguments];
        signature
    }
}
