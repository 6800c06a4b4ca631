//! The object file: functions, constants, descriptor.

use std::collections::BTreeSet;

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{Function, Signature};
use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::{CompiledCode, FinalizedMachReloc};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module, ModuleReloc, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};
use mcc_targets::Target;
use rayon::prelude::*;

use super::{abi, clif, descriptor, entry, isa, tile};
use crate::lower::kir;
use crate::lower::program::{ALIGN, Program};
use crate::{Error, Result};

/// Functions start on a boundary that keeps their first loops within few cache lines.
const FUNCTION_ALIGN: u64 = 32;

/// The object file of a program, and the bytes of machine code in it.
///
/// # Errors
/// When Cranelift refuses the target or a function.
pub fn object(program: &Program, target: &Target) -> Result<(Vec<u8>, usize)> {
    let isa = isa::isa(target)?;
    let builder =
        ObjectBuilder::new(isa.clone(), program.name.as_str(), default_libcall_names()).map_err(module_error)?;
    let mut object = Object { module: ObjectModule::new(builder), text_bytes: 0 };
    object.define_all(program, target)?;
    let Object { module, text_bytes } = object;
    let bytes = module.finish().emit().map_err(|e| Error::internal(format!("object file: {e}")))?;
    Ok((bytes, text_bytes))
}

struct Object {
    module: ObjectModule,
    text_bytes: usize,
}

/// Machine code that is not in the object yet.
struct Code {
    bytes: Vec<u8>,
    relocations: Vec<FinalizedMachReloc>,
    function: Function,
}

impl Object {
    fn define_all(&mut self, program: &Program, target: &Target) -> Result<()> {
        let name = &program.name;
        let tiles = self.tiles(program)?;
        let imports = clif::Imports { memcpy: self.import("memcpy")?, memset: self.import("memset")?, tiles };
        let mut kernels = Vec::with_capacity(program.kernels.len());
        for (i, kernel) in program.kernels.iter().enumerate() {
            let signature = clif::signature(kernel, self.module.isa());
            let symbol = format!("{name}__{i}_{}", identifier(&kernel.name));
            kernels.push(self.declare(&symbol, Linkage::Local, &signature)?);
        }
        let constants = self.constants(program)?;
        let function = |object: &mut Object, suffix: &str, linkage, args, gives_code| {
            let signature = entry::signature(object.module.isa(), args, gives_code);
            object.declare(&format!("{name}_{suffix}"), linkage, &signature)
        };
        let bind = function(self, "_bind", Linkage::Local, entry::BIND_ARGS, true)?;
        let steps = function(self, "_steps", Linkage::Local, entry::STEPS_ARGS, false)?;
        let shapes = function(self, "shapes", Linkage::Export, entry::SHAPES_ARGS, true)?;
        let invoke = function(self, "invoke", Linkage::Export, entry::INVOKE_ARGS, true)?;
        let trace = match program.traced {
            true => Some(self.import("mcc_step").map(FuncId::from_u32)?),
            false => None,
        };

        let module_isa = isa::isa(target)?;
        let compiled: Vec<Result<Code>> = program
            .kernels
            .par_iter()
            .map(|k| compile(&*module_isa, clif::function(k, target, &*module_isa, imports), &k.name))
            .collect();
        for (&id, code) in kernels.iter().zip(compiled) {
            self.define(id, &code?)?;
        }

        let module = &mut self.module;
        let mut parts = entry::Parts { program, module, kernels: &kernels, constants: &constants, bind, steps, trace };
        let mut functions = vec![
            (bind, entry::bind(&mut parts)?),
            (steps, entry::steps(&mut parts)?),
            (shapes, entry::shapes(&mut parts)?),
            (invoke, entry::invoke(&mut parts)?),
        ];
        if abi::has_typed_run(program) {
            let run = entry::run(&mut parts)?;
            let id = self.declare(&format!("{name}_run"), Linkage::Export, &run.signature)?;
            functions.push((id, run));
        }
        for (id, func) in functions {
            let code = compile(&*module_isa, func, name)?;
            self.define(id, &code)?;
        }
        descriptor::define(program, target, &mut self.module, shapes, invoke).map_err(module_error)
    }

    /// Defines the tile functions that kernels call.
    fn tiles(&mut self, program: &Program) -> Result<[u32; kir::tile::MAX_ROWS as usize]> {
        let used: BTreeSet<u32> = program.kernels.iter().flat_map(kir::tiles).collect();
        let mut ids = [0; kir::tile::MAX_ROWS as usize];
        for rows in used {
            let signature = Signature::new(self.module.isa().default_call_conv());
            let id = self.declare(&format!("{}__tile_{rows}", program.name), Linkage::Local, &signature)?;
            let code = tile::code(rows)?;
            self.text_bytes += code.len();
            self.module.define_function_bytes(id, FUNCTION_ALIGN, &code, &[]).map_err(module_error)?;
            ids[rows as usize - 1] = id.as_u32();
        }
        Ok(ids)
    }

    fn import(&mut self, name: &str) -> Result<u32> {
        // Calls carry their own signatures.
        let signature = Signature::new(self.module.isa().default_call_conv());
        Ok(self.declare(name, Linkage::Import, &signature)?.as_u32())
    }

    fn declare(&mut self, name: &str, linkage: Linkage, signature: &Signature) -> Result<FuncId> {
        self.module.declare_function(name, linkage, signature).map_err(module_error)
    }

    fn constants(&mut self, program: &Program) -> Result<Vec<DataId>> {
        let mut ids = Vec::with_capacity(program.constants.len());
        for (i, constant) in program.constants.iter().enumerate() {
            let symbol = format!("{}__c{i}", program.name);
            let id = self.module.declare_data(&symbol, Linkage::Local, false, false).map_err(module_error)?;
            let mut data = DataDescription::new();
            // Cranelift has no empty data objects.
            let bytes = if constant.data.is_empty() { vec![0] } else { constant.data.to_vec() };
            data.define(bytes.into_boxed_slice());
            data.set_align(ALIGN as u64);
            self.module.define_data(id, &data).map_err(module_error)?;
            ids.push(id);
        }
        Ok(ids)
    }

    fn define(&mut self, id: FuncId, code: &Code) -> Result<()> {
        self.text_bytes += code.bytes.len();
        let relocations: Vec<ModuleReloc> =
            code.relocations.iter().map(|r| ModuleReloc::from_mach_reloc(r, &code.function, id)).collect();
        self.module.define_function_bytes(id, FUNCTION_ALIGN, &code.bytes, &relocations).map_err(module_error)
    }
}

fn compile(isa: &dyn TargetIsa, function: Function, name: &str) -> Result<Code> {
    let mut context = Context::for_function(function);
    let compiled = compile_function(isa, &mut context, name)?;
    let (bytes, relocations) = (compiled.code_buffer().to_vec(), compiled.buffer.relocs().to_vec());
    Ok(Code { bytes, relocations, function: context.func })
}

/// Compiles the function of a context.
///
/// # Errors
/// When Cranelift refuses it; in debug builds with its CLIF.
pub fn compile_function<'a>(isa: &dyn TargetIsa, context: &'a mut Context, name: &str) -> Result<&'a CompiledCode> {
    context.compile(isa, &mut ControlPlane::default()).map_err(|e| {
        let listing = if cfg!(debug_assertions) { format!("\n{}", e.func.display()) } else { String::new() };
        let what = cranelift_codegen::print_errors::pretty_error(e.func, e.inner);
        Error::internal(format!("kernel {name}: {what}{listing}"))
    })
}

fn module_error(e: cranelift_module::ModuleError) -> Error {
    Error::internal(format!("object file: {e}"))
}

/// A name as a part of a C identifier.
fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
