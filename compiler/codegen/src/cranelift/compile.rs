//! Cranelift as an emitter, and as the compiler of the functions around kernels.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::{CompiledCode, Context};
use cranelift_module::{FuncId, ModuleReloc};
use mcc_targets::{Arch, Target};

use super::function;
use crate::emitter::{Convention, Emitter, EmitterInfo, MachineCode, Symbols, Vectors};
use crate::isa;
use crate::unwind::Frame;
use mcc_ir::{Error, Result};
use mcc_kernel::kir::Kernel;

/// The emitter.
pub const CRANELIFT: EmitterInfo = EmitterInfo {
    name: "Cranelift",
    vectors: &[Vectors { arch: Arch::X86_64, bytes: 16 }, Vectors { arch: Arch::Aarch64, bytes: 16 }],
    convention: Convention::System,
    imports: &["memcpy", "memset"],
    new: |target, checked| Ok(Box::new(Cranelift { target, isa: isa::isa(target, checked)? })),
};

struct Cranelift<'a> {
    target: &'a Target,
    isa: Arc<dyn TargetIsa>,
}

/// Functions of the C library, by their numbers in the object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Imports {
    pub(super) memcpy: u32,
    pub(super) memset: u32,
}

impl Imports {
    /// Numbers in listings, where nothing is linked.
    const IN_TEXT: Imports = Imports { memcpy: 0, memset: 1 };

    /// In the order of [`CRANELIFT`]'s imports.
    fn of(symbols: &Symbols<'_>) -> Result<Imports> {
        match *symbols.imports {
            [memcpy, memset] => Ok(Imports { memcpy: memcpy.as_u32(), memset: memset.as_u32() }),
            _ => Err(Error::internal("kernels for Cranelift without their imports")),
        }
    }
}

impl Cranelift<'_> {
    fn function(&self, kernel: &Kernel, imports: Imports) -> Function {
        function(kernel, self.target, &*self.isa, imports)
    }
}

impl Emitter for Cranelift<'_> {
    fn compile(&self, kernel: &Kernel, symbols: &Symbols<'_>) -> Result<MachineCode> {
        machine_code(&*self.isa, self.function(kernel, Imports::of(symbols)?), symbols.own, &kernel.name)
    }

    fn assembly(&self, kernel: &Kernel) -> Result<String> {
        let mut context = Context::for_function(self.function(kernel, Imports::IN_TEXT));
        context.set_disasm(true);
        let code = compile(&*self.isa, &mut context, &kernel.name)?;
        Ok(code.vcode.clone().unwrap_or_default())
    }

    fn clif(&self, kernel: &Kernel) -> Result<Option<String>> {
        Ok(Some(self.function(kernel, Imports::IN_TEXT).display().to_string()))
    }
}

/// The machine code of the function with number `id`; `name` is for messages.
///
/// # Errors
/// When Cranelift rejects it; with its CLIF if the compiler checks its own work.
pub fn machine_code(isa: &dyn TargetIsa, function: Function, id: FuncId, name: &str) -> Result<MachineCode> {
    let mut context = Context::for_function(function);
    let compiled = compile(isa, &mut context, name)?;
    let (bytes, relocations) = (compiled.code_buffer().to_vec(), compiled.buffer.relocs().to_vec());
    let frame = Frame::of_cranelift(&compiled.buffer.unwind_info).map_err(|e| e.within(format!("kernel {name}")))?;
    let relocations = relocations.iter().map(|r| ModuleReloc::from_mach_reloc(r, &context.func, id)).collect();
    Ok(MachineCode { bytes, relocations, frame })
}

fn compile<'a>(isa: &dyn TargetIsa, context: &'a mut Context, name: &str) -> Result<&'a CompiledCode> {
    let compiled = catch_unwind(AssertUnwindSafe(|| {
        context.compile(isa, &mut ControlPlane::default()).map(|_| ()).map_err(|e| {
            let listing = if isa.flags().enable_verifier() { format!("\n{}", e.func.display()) } else { String::new() };
            let what = cranelift_codegen::print_errors::pretty_error(e.func, e.inner);
            Error::internal(format!("kernel {name}: {what}{listing}"))
        })
    }));
    // Cranelift panics when its check of an allocation fails.
    let gave_up = || Error::internal(format!("kernel {name}: Cranelift gave up"));
    compiled.map_err(|_| gave_up())??;
    context.compiled_code().ok_or_else(gave_up)
}
