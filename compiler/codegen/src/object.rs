//! The object file: functions, constants, descriptor.

use std::collections::HashMap;

use bytes::Bytes;
use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, Signature, types};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};
use mcc_targets::{Arch, FeatureSet, Target};
use rayon::prelude::*;

use super::emitter::{MachineCode, Symbols};
use super::entry::share;
use super::refusals::Refusals;
use super::{abi, cpu, cranelift, descriptor, emitter_of, entry, isa, note, unwind};
use mcc_ir::{Error, Result};
use mcc_kernel::program::{ALIGN, Program};

/// Alignment of functions, such that their first loops span few cache lines.
const FUNCTION_ALIGN: u64 = 64;

/// One of an object's programs, and its target.
#[derive(Clone, Copy)]
pub struct Variant<'a> {
    /// The model, lowered for `target`.
    pub program: &'a Program,
    /// The machine.
    pub target: &'a Target,
}

/// An object file.
pub struct File {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Bytes of machine code in it.
    pub text_bytes: usize,
    /// Bytes of constants in it.
    pub weights_bytes: usize,
}

/// The object file of a model's variants, the most basic first.
///
/// # Errors
/// When Cranelift rejects the target or a function, or the variants are not of one model.
pub fn object(variants: &[Variant<'_>]) -> Result<File> {
    let Some(first) = variants.first() else { return Err(Error::internal("an object without a program")) };
    // Code that runs before the CPU is detected uses none of its extensions.
    let plain = Target { features: FeatureSet::EMPTY, ..first.target.clone() };
    let builder = ObjectBuilder::new(
        isa::isa(&plain, first.program.checked)?,
        first.program.name.as_str(),
        default_libcall_names(),
    );
    let module = ObjectModule::new(builder.map_err(module_error)?);
    let name = &first.program.name;
    let refusals = Refusals::default();
    let mut object = Object { module, name, functions: Vec::new(), constants: HashMap::new(), refusals };
    object.define_all(variants)?;
    let Object { module, functions, constants, .. } = object;
    let weights_bytes = constants.keys().map(Bytes::len).sum();
    let text_bytes = functions.iter().map(|f| f.length as usize).sum();
    let mut product = module.finish();
    if plain.has_landing_pads() {
        note::add_landing_pads(&mut product.object);
    }
    unwind::add_tables(&mut product, plain.arch, plain.triple.binary_format, &functions)?;
    let bytes = product.emit().map_err(|e| Error::internal(format!("object file: {e}")))?;
    Ok(File { bytes, text_bytes, weights_bytes })
}

struct Object<'a> {
    module: ObjectModule,
    name: &'a str,
    /// All functions that are defined.
    functions: Vec<unwind::Function>,
    /// Constants by their bytes: variants share equal ones.
    constants: HashMap<Bytes, DataId>,
    refusals: Refusals,
}

/// The functions that callers see, or those of one variant.
#[derive(Clone, Copy)]
struct Functions {
    shapes: FuncId,
    invoke: FuncId,
    run: Option<FuncId>,
}

/// Prefixes of symbols: those of kernels and helpers, and those of the functions that callers see.
struct Names {
    locals: String,
    entry: String,
    linkage: Linkage,
    /// The number of the variant.
    number: usize,
}

impl Object<'_> {
    fn define_all(&mut self, variants: &[Variant<'_>]) -> Result<()> {
        let targets: Vec<&Target> = variants.iter().map(|v| v.target).collect();
        let Variant { program, target } = variants[0];
        if variants.iter().any(|v| !abi::same_interface(v.program, program)) {
            return Err(Error::internal("variants of different models in one object"));
        }
        let prefix = format!("{}_", self.name);
        let public = Names { locals: prefix.clone(), entry: prefix, linkage: Linkage::Export, number: 0 };
        let functions = if cpu::asks(&targets)? {
            let level = self.level(&targets)?;
            let mut inner = Vec::with_capacity(variants.len());
            for (n, variant) in variants.iter().enumerate() {
                let locals = format!("{}__v{n}", self.name);
                let names = Names { entry: format!("{locals}_"), locals, linkage: Linkage::Local, number: n };
                inner.push(self.variant(*variant, &names)?);
            }
            self.dispatch(program, &public, level, &inner)?
        } else {
            self.variant(variants[0], &public)?
        };
        let programs: Vec<&Program> = variants.iter().map(|v| v.program).collect();
        let (functions, texts) = ([functions.shapes, functions.invoke], self.refusals.texts());
        descriptor::define(&programs, target, &mut self.module, functions, texts).map_err(module_error)
    }

    /// The function that determines which variant runs on the actual CPU.
    fn level(&mut self, targets: &[&Target]) -> Result<FuncId> {
        let word = cpu::word(&mut self.module, self.name).map_err(module_error)?;
        let signature = cpu::signature(&self.module);
        let id = self.declare(&format!("{}__level", self.name), Linkage::Local, &signature)?;
        let function = if targets[0].arch == Arch::X86_64 {
            let ask = self.declare(&format!("{}__cpuid", self.name), Linkage::Local, &signature)?;
            self.define(ask, cpu::ask_x86(targets)?)?;
            cpu::level(&mut self.module, word, |module, b| {
                let ask = module.declare_func_in_func(ask, b.func);
                let call = b.ins().call(ask, &[]);
                Ok(b.inst_results(call)[0])
            })?
        } else {
            let signature = cpu::getauxval_signature(&self.module);
            let getauxval = self.declare(cpu::GETAUXVAL, Linkage::Import, &signature)?;
            cpu::level(&mut self.module, word, |module, b| Ok(cpu::ask_linux(targets, getauxval, module, b)))?
        };
        self.define_entry(id, function)?;
        Ok(id)
    }

    /// The functions that callers see, each of which calls the selected variant.
    fn dispatch(&mut self, program: &Program, names: &Names, level: FuncId, inner: &[Functions]) -> Result<Functions> {
        let functions = self.functions(program, names)?;
        let all = |of: fn(&Functions) -> Option<FuncId>| inner.iter().filter_map(of).collect::<Vec<FuncId>>();
        let mut wanted = vec![
            (functions.shapes, entry::SHAPES_ARGS, all(|f| Some(f.shapes))),
            (functions.invoke, entry::INVOKE_ARGS, all(|f| Some(f.invoke))),
        ];
        if let Some(run) = functions.run {
            wanted.push((run, abi::run_args(program), all(|f| f.run)));
        }
        for (id, args, targets) in wanted {
            let function = entry::dispatch::dispatch(&mut self.module, args, level, &targets);
            self.define_entry(id, function)?;
        }
        Ok(functions)
    }

    /// Declares the functions that callers see.
    fn functions(&mut self, program: &Program, names: &Names) -> Result<Functions> {
        let mut function = |suffix: &str, args| {
            let signature = entry::signature(self.module.isa(), args, true);
            self.declare(&format!("{}{suffix}", names.entry), names.linkage, &signature)
        };
        let shapes = function("shapes", entry::SHAPES_ARGS)?;
        let invoke = function("invoke", entry::INVOKE_ARGS)?;
        let run = match abi::has_typed_run(program) {
            true => Some(function("run", abi::run_args(program))?),
            false => None,
        };
        Ok(Functions { shapes, invoke, run })
    }

    /// Defines all functions and data of a variant.
    fn variant(&mut self, variant: Variant<'_>, names: &Names) -> Result<Functions> {
        let Variant { program, target } = variant;
        let info = emitter_of(target)?;
        let imports = info.imports.iter().map(|name| self.import(name)).collect::<Result<Vec<FuncId>>>()?;
        let mut kernels = Vec::with_capacity(program.kernels.len());
        for (i, kernel) in program.kernels.iter().enumerate() {
            let signature = info.convention.signature(kernel, self.module.isa());
            let symbol = format!("{}_{i}_{}", names.locals, identifier(&kernel.name));
            kernels.push(self.declare(&symbol, Linkage::Local, &signature)?);
        }
        let constants = self.constants(program)?;
        let emitter = (info.new)(target, program.checked)?;
        let compiled: Vec<Result<MachineCode>> = (program.kernels.par_iter().zip(&kernels))
            .map(|(kernel, &own)| emitter.compile(kernel, &Symbols { own, imports: &imports }))
            .collect();
        for (&id, code) in kernels.iter().zip(compiled) {
            self.define(id, code?)?;
        }

        let local = |object: &mut Self, suffix: &str, args, gives_code| {
            let signature = entry::signature(object.module.isa(), args, gives_code);
            object.declare(&format!("{}_{suffix}", names.locals), Linkage::Local, &signature)
        };
        let bind = local(self, "bind", entry::BIND_ARGS, true)?;
        let check = match program.requires.is_empty() {
            true => None,
            false => Some(local(self, "check", entry::CHECK_ARGS, true)?),
        };
        let steps = local(self, "steps", entry::steps_args(program), entry::steps_refuse(program))?;
        let mut tasks = HashMap::new();
        for arguments in share::arguments(program) {
            let suffix = format!("task_{}_{}", arguments.0, arguments.1);
            let id = local(self, &suffix, 2, false)?;
            let function = share::task(&self.module, arguments, info.convention.for_cranelift(self.module.isa()));
            self.define_entry(id, function)?;
            tasks.insert(arguments, id);
        }
        let functions = self.functions(program, names)?;
        let trace = match program.traced {
            true => {
                let mut signature = Signature::new(self.module.isa().default_call_conv());
                signature.params.push(AbiParam::new(types::I32));
                Some(self.declare("mcc_step", Linkage::Import, &signature)?)
            }
            false => None,
        };
        let module = &mut self.module;
        let mut parts = entry::Parts {
            program,
            module,
            kernels: &kernels,
            constants: &constants,
            bind,
            check,
            steps,
            trace,
            number: names.number,
            tasks: &tasks,
            refusals: &mut self.refusals,
        };
        let mut entries = vec![
            (bind, entry::bind(&mut parts)?),
            (steps, entry::steps::steps(&mut parts)?),
            (functions.shapes, entry::shapes(&mut parts)?),
            (functions.invoke, entry::invoke(&mut parts)?),
        ];
        if let Some(check) = check {
            entries.push((check, entry::check(&mut parts)?));
        }
        if let Some(run) = functions.run {
            entries.push((run, entry::run(&mut parts)?));
        }
        for (id, function) in entries {
            self.define_entry(id, function)?;
        }
        Ok(functions)
    }

    /// Defines a function around kernels.
    fn define_entry(&mut self, id: FuncId, function: Function) -> Result<()> {
        let code = cranelift::machine_code(self.module.isa(), function, id, self.name)?;
        self.define(id, code)
    }

    fn import(&mut self, name: &str) -> Result<FuncId> {
        // Calls have their own signatures.
        let signature = Signature::new(self.module.isa().default_call_conv());
        self.declare(name, Linkage::Import, &signature)
    }

    fn declare(&mut self, name: &str, linkage: Linkage, signature: &Signature) -> Result<FuncId> {
        self.module.declare_function(name, linkage, signature).map_err(module_error)
    }

    fn constants(&mut self, program: &Program) -> Result<Vec<DataId>> {
        let mut ids = Vec::with_capacity(program.constants.len());
        for constant in &program.constants {
            if let Some(&id) = self.constants.get(&constant.data) {
                ids.push(id);
                continue;
            }
            let symbol = format!("{}__c{}", self.name, self.constants.len());
            let id = self.module.declare_data(&symbol, Linkage::Local, false, false).map_err(module_error)?;
            let mut data = DataDescription::new();
            // Cranelift does not support empty data objects.
            let bytes = if constant.data.is_empty() { vec![0] } else { constant.data.to_vec() };
            data.define(bytes.into_boxed_slice());
            data.set_align(ALIGN as u64);
            self.module.define_data(id, &data).map_err(module_error)?;
            self.constants.insert(constant.data.clone(), id);
            ids.push(id);
        }
        Ok(ids)
    }

    fn define(&mut self, id: FuncId, code: MachineCode) -> Result<()> {
        let MachineCode { bytes, relocations, frame } = code;
        let length = u32::try_from(bytes.len()).map_err(|_| Error::internal("a function of more than 4 GB"))?;
        self.functions.push(unwind::Function { id, length, frame });
        self.module.define_function_bytes(id, FUNCTION_ALIGN, &bytes, &relocations).map_err(module_error)
    }
}

fn module_error(e: cranelift_module::ModuleError) -> Error {
    Error::internal(format!("object file: {e}"))
}

/// A name as a part of a C identifier.
fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
