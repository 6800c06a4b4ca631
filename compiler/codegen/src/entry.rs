//! The functions that a model's caller sees, and what they share: checks, binding of symbols, the steps.
//!
//! `NAME_invoke` and `NAME_shapes` take tensors, `NAME_run` takes typed pointers. All of them check all arguments
//! before they write anything. Symbols are in an array on the stack, in the order of [`Program::symbols`]; symbols
//! bound by a step hold their upper bound until then.

mod checks;
pub mod dispatch;
pub mod share;
#[cfg(test)]
mod share_tests;
pub mod steps;

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Block, Function, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind, UserFuncName, Value,
    types,
};
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataId, FuncId, Module};

use super::abi::{self, Status};
use super::dims::Dims;
use super::refusals::Refusals;
use mcc_ir::Dim;
use mcc_ir::Result;
use mcc_kernel::program::{Port, Program, Step, SymbolSource};
use share::Arguments;

/// The inputs and references of entry functions.
pub struct Parts<'a, M: Module> {
    /// The model.
    pub program: &'a Program,
    /// The object being made.
    pub module: &'a mut M,
    /// Kernels, in [`Program::kernels`]' order.
    pub kernels: &'a [FuncId],
    /// Constants, in [`Program::constants`]' order.
    pub constants: &'a [DataId],
    /// Checks inputs and binds symbols.
    pub bind: FuncId,
    /// Checks the requirements on symbols before any step, if there are any.
    pub check: Option<FuncId>,
    /// Runs the steps.
    pub steps: FuncId,
    /// `mcc_step`, for a traced program.
    pub trace: Option<FuncId>,
    /// The number of the variant in the object.
    pub number: usize,
    /// The task functions that threads run, for shared steps.
    pub tasks: &'a HashMap<Arguments, FuncId>,
    /// Texts of errors so far.
    pub refusals: &'a mut Refusals,
}

/// Signature of a function that takes `n` pointers and sizes and may return a code.
pub fn signature(isa: &dyn TargetIsa, n: usize, gives_code: bool) -> Signature {
    let mut s = Signature::new(isa.default_call_conv());
    s.params = vec![AbiParam::new(types::I64); n];
    if gives_code {
        s.returns = vec![AbiParam::new(types::I32)];
    }
    s
}

/// Arguments of the functions in [`Parts`] and of the public ones.
pub const BIND_ARGS: usize = 2;
/// Symbols.
pub const CHECK_ARGS: usize = 1;
/// Inputs, outputs, arena size.
pub const SHAPES_ARGS: usize = 3;
/// Inputs, outputs, arena, its size, pool.
pub const INVOKE_ARGS: usize = 5;

/// Number of arguments of the steps: pointers, arena, symbols, and the pool if there is one.
pub fn steps_args(program: &Program) -> usize {
    3 + usize::from(program.threads > 1)
}

/// Whether the steps may fail, and so return a code.
pub fn steps_refuse(program: &Program) -> bool {
    program.all_steps().any(|step| matches!(step, Step::Require { .. }))
}

const FLAGS: MemFlagsData = MemFlagsData::trusted();

pub(super) struct Entry<'a, 'b, M: Module> {
    pub(super) parts: &'b mut Parts<'a, M>,
    pub(super) b: FunctionBuilder<'b>,
    args: Vec<Value>,
    dims: Dims,
}

fn build<M: Module>(
    parts: &mut Parts<'_, M>,
    signature: Signature,
    body: impl FnOnce(&mut Entry<'_, '_, M>) -> Result<()>,
) -> Result<Function> {
    let config = parts.module.isa().frontend_config();
    let mut func = Function::with_name_signature(UserFuncName::default(), signature);
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut func, &mut context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let args = b.block_params(entry).to_vec();
    let mut e = Entry { parts, b, args, dims: Dims::default() };
    body(&mut e)?;
    e.b.seal_all_blocks();
    e.b.finalize(config);
    Ok(func)
}

/// `bind(inputs, symbols)`: checks the inputs' types, binds the symbols they determine, and checks the requirements on
/// them.
pub fn bind<M: Module>(parts: &mut Parts<'_, M>) -> Result<Function> {
    let signature = signature(parts.module.isa(), BIND_ARGS, true);
    build(parts, signature, |e| {
        let (inputs, symbols) = (e.args[0], e.args[1]);
        let program = e.parts.program;
        if !program.inputs.is_empty() {
            e.not_null(inputs, "the array of inputs is null");
        }
        for (i, port) in program.inputs.iter().enumerate() {
            e.check_type(inputs, i, port, "input");
            // Before any element is read.
            for (axis, want) in port.ty.shape.iter().enumerate().filter(|(_, want)| want.as_const().is_some()) {
                let extent = e.dim_of(inputs, i, axis);
                e.check_dim(extent, want, &format!("input \"{}\": dimension {axis}", port.name));
            }
        }
        for (k, symbol) in program.symbols.iter().enumerate() {
            let value = match &symbol.source {
                SymbolSource::InputDim { input, axis } => {
                    let extent = e.dim_of(inputs, *input, *axis);
                    let text =
                        format!("input \"{}\": dimension {axis} must not be negative", program.inputs[*input].name);
                    e.not_negative(extent, &text);
                    extent
                }
                SymbolSource::InputElement { input, index } => e.element_of(inputs, *input, *index)?,
                SymbolSource::Step { max } => {
                    let most = program.most(max);
                    e.value(&most)
                }
            };
            e.dims.bind(&symbol.name, value);
            e.b.ins().store(FLAGS, value, symbols, 8 * k as i32);
        }
        for (i, port) in program.inputs.iter().enumerate() {
            for (axis, want) in port.ty.shape.iter().enumerate() {
                let binds = |source: &SymbolSource| matches!(source, SymbolSource::InputDim { input, axis: of } if (*input, *of) == (i, axis));
                if want.as_const().is_none() && !program.symbols.iter().any(|s| binds(&s.source)) {
                    let extent = e.dim_of(inputs, i, axis);
                    let value = e.value(want);
                    let bad = e.b.ins().icmp(IntCC::NotEqual, value, extent);
                    e.refuse(bad, Status::WrongDimension, &other_dim(program, port, axis, want));
                }
            }
        }
        e.check_symbols(symbols);
        e.give_ok();
        Ok(())
    })
}

/// The message that an input's dimension must equal that of another input.
fn other_dim(program: &Program, port: &Port, axis: usize, want: &Dim) -> String {
    let source = want.as_sym().and_then(|s| program.symbols.iter().find(|x| x.name == *s)).map(|s| &s.source);
    let must = format!("input \"{}\": dimension {axis} must be {want}", port.name);
    match source {
        Some(SymbolSource::InputDim { input, axis }) => {
            format!("{must}, which is dimension {axis} of input \"{}\"", program.inputs[*input].name)
        }
        _ => must,
    }
}

/// `check(symbols)`: checks the requirements before any step.
pub fn check<M: Module>(parts: &mut Parts<'_, M>) -> Result<Function> {
    let signature = signature(parts.module.isa(), CHECK_ARGS, true);
    build(parts, signature, |e| {
        e.require_all(e.args[0], &e.parts.program.requires, true);
        e.give_ok();
        Ok(())
    })
}

/// `NAME_shapes(inputs, outputs, arena_size)`: fills in the outputs' types and the arena's size; either may be null.
pub fn shapes<M: Module>(parts: &mut Parts<'_, M>) -> Result<Function> {
    let signature = signature(parts.module.isa(), SHAPES_ARGS, true);
    build(parts, signature, |e| {
        let (inputs, outputs, arena_size) = (e.args[0], e.args[1], e.args[2]);
        let symbols = e.bind_symbols(inputs);
        e.load_symbols(symbols);
        let program = e.parts.program;
        e.unless_null(outputs, |e| {
            for (i, port) in program.outputs.iter().enumerate() {
                let at = i as i32 * abi::tensor::BYTES as i32;
                let rank = e.b.ins().iconst(types::I32, port.ty.rank() as i64);
                e.b.ins().store(FLAGS, rank, outputs, at + abi::tensor::RANK as i32);
                let dtype = e.b.ins().iconst(types::I32, i64::from(abi::dtype_code(port.ty.dtype).0));
                e.b.ins().store(FLAGS, dtype, outputs, at + abi::tensor::DTYPE as i32);
                let dims = e.b.ins().load(types::I64, FLAGS, outputs, at + abi::tensor::DIMS as i32);
                e.unless_null(dims, |e| e.store_dims(dims, port, |d| program.most(d)));
            }
        });
        e.unless_null(arena_size, |e| {
            let bytes = e.value(&program.arena_bytes);
            e.b.ins().store(FLAGS, bytes, arena_size, 0);
        });
        e.give_ok();
        Ok(())
    })
}

/// `NAME_invoke(inputs, outputs, arena, arena_size, pool)`.
pub fn invoke<M: Module>(parts: &mut Parts<'_, M>) -> Result<Function> {
    let signature = signature(parts.module.isa(), INVOKE_ARGS, true);
    build(parts, signature, |e| {
        let (inputs, outputs, arena, size) = (e.args[0], e.args[1], e.args[2], e.args[3]);
        let program = e.parts.program;
        let pool = (program.threads > 1).then(|| e.args[4]);
        let symbols = e.bind_symbols(inputs);
        e.load_symbols(symbols);
        if !program.outputs.is_empty() {
            e.not_null(outputs, "the array of outputs is null");
        }
        let pointers = e.slot(program.inputs.len() + program.outputs.len());
        for (i, port) in program.inputs.iter().enumerate() {
            let data = e.b.ins().load(
                types::I64,
                FLAGS,
                inputs,
                i as i32 * abi::tensor::BYTES as i32 + abi::tensor::DATA as i32,
            );
            e.data_not_null(data, port, "input");
            e.b.ins().store(FLAGS, data, pointers, 8 * i as i32);
        }
        e.check_weights(pointers);
        for (i, port) in program.outputs.iter().enumerate() {
            e.check_type(outputs, i, port, "output");
            for (axis, want) in port.ty.shape.iter().enumerate() {
                let given = e.dim_of(outputs, i, axis);
                e.check_dim(given, &program.most(want), &format!("output \"{}\": dimension {axis}", port.name));
            }
            let data = e.b.ins().load(
                types::I64,
                FLAGS,
                outputs,
                i as i32 * abi::tensor::BYTES as i32 + abi::tensor::DATA as i32,
            );
            e.data_not_null(data, port, "output");
            e.b.ins().store(FLAGS, data, pointers, 8 * (program.inputs.len() + i) as i32);
        }
        e.check_arena(arena, size);
        e.call_steps(pointers, arena, symbols, pool);
        e.true_dims(outputs, symbols);
        e.give_ok();
        Ok(())
    })
}

/// `NAME_run(symbols..., inputs..., outputs..., arena, arena_size)`, with several threads also `pool`.
pub fn run<M: Module>(parts: &mut Parts<'_, M>) -> Result<Function> {
    let program = parts.program;
    let signature = signature(parts.module.isa(), abi::run_args(program), true);
    build(parts, signature, |e| {
        let args = e.args.clone();
        let (bound, rest) = args.split_at(program.symbols.len());
        let (pointers, arena) = rest.split_at(program.inputs.len() + program.outputs.len());
        let symbols = e.slot(program.symbols.len());
        for (k, (symbol, &value)) in program.symbols.iter().zip(bound).enumerate() {
            e.not_negative(value, &format!("dimension {} must not be negative", symbol.name));
            e.dims.bind(&symbol.name, value);
            e.b.ins().store(FLAGS, value, symbols, 8 * k as i32);
        }
        // Kept in memory from here on: otherwise many arguments would stay in registers across all checks.
        let array = e.slot(pointers.len());
        for (i, &data) in pointers.iter().enumerate() {
            e.b.ins().store(FLAGS, data, array, 8 * i as i32);
        }
        e.check_symbols(symbols);
        let sides = [("input", &program.inputs), ("output", &program.outputs)];
        for (i, (side, port)) in sides.iter().flat_map(|(side, of)| of.iter().map(move |p| (side, p))).enumerate() {
            let data = e.b.ins().load(types::I64, FLAGS, array, 8 * i as i32);
            e.data_not_null(data, port, side);
        }
        e.check_weights(array);
        e.check_arena(arena[0], arena[1]);
        e.call_steps(array, arena[0], symbols, arena.get(2).copied());
        e.give_ok();
        Ok(())
    })
}

impl<M: Module> Entry<'_, '_, M> {
    fn value(&mut self, dim: &Dim) -> Value {
        self.dims.value(&mut self.b, dim)
    }

    /// Continues in a new block.
    fn next(&mut self) -> Block {
        self.b.create_block()
    }

    fn give_ok(&mut self) {
        let code = self.b.ins().iconst(types::I32, Status::Ok as i64);
        self.b.ins().return_(&[code]);
    }

    /// Emits code that runs if the pointer or number is not zero. Expressions computed in it are unknown after it.
    fn unless_null<R>(&mut self, pointer: Value, body: impl FnOnce(&mut Self) -> R) -> R {
        let (inside, after) = (self.next(), self.next());
        self.b.ins().brif(pointer, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        let known = self.dims.clone();
        let result = body(self);
        self.dims = known;
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(after);
        result
    }

    fn slot(&mut self, words: usize) -> Value {
        let bytes = 8 * words.max(1) as u32;
        let slot = self.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3));
        self.b.ins().stack_addr(types::I64, slot, 0)
    }

    /// Calls `bind`; returns the array of symbols.
    fn bind_symbols(&mut self, inputs: Value) -> Value {
        let symbols = self.slot(self.parts.program.symbols.len());
        let bind = self.parts.module.declare_func_in_func(self.parts.bind, self.b.func);
        let call = self.b.ins().call(bind, &[inputs, symbols]);
        let code = self.b.inst_results(call)[0];
        self.pass_on(code);
        symbols
    }

    fn load_symbols(&mut self, symbols: Value) {
        for (k, symbol) in self.parts.program.symbols.iter().enumerate() {
            let value = self.b.ins().load(types::I64, FLAGS, symbols, 8 * k as i32);
            self.dims.bind(&symbol.name, value);
        }
    }

    /// Calls `steps`; `pointers` is the array of the inputs' and outputs' data.
    fn call_steps(&mut self, pointers: Value, arena: Value, symbols: Value, pool: Option<Value>) {
        let steps = self.parts.module.declare_func_in_func(self.parts.steps, self.b.func);
        let args: Vec<Value> = [pointers, arena, symbols].into_iter().chain(pool).collect();
        let call = self.b.ins().call(steps, &args);
        if steps_refuse(self.parts.program) {
            let code = self.b.inst_results(call)[0];
            self.pass_on(code);
        }
    }

    /// Stores a port's dimensions, mapped by `of`.
    fn store_dims(&mut self, dims: Value, port: &Port, of: impl Fn(&Dim) -> Dim) {
        for (axis, dim) in port.ty.shape.iter().enumerate() {
            let v = self.value(&of(dim));
            self.b.ins().store(FLAGS, v, dims, 8 * axis as i32);
        }
    }

    /// Stores the dimensions of outputs that depend on symbols bound by steps.
    fn true_dims(&mut self, outputs: Value, symbols: Value) {
        let program = self.parts.program;
        let late: Vec<_> =
            program.symbols.iter().filter(|s| matches!(s.source, SymbolSource::Step { .. })).map(|s| &s.name).collect();
        if late.is_empty() {
            return;
        }
        self.load_symbols(symbols);
        for (i, port) in program.outputs.iter().enumerate() {
            if abi::symbolic_dims(port).any(|d| d.symbols().iter().any(|s| late.contains(&s))) {
                let at = i as i32 * abi::tensor::BYTES as i32;
                let dims = self.b.ins().load(types::I64, FLAGS, outputs, at + abi::tensor::DIMS as i32);
                self.store_dims(dims, port, Dim::clone);
            }
        }
    }
}
