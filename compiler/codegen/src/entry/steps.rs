//! The steps: calls of kernels, branches, and checks of symbols bound by steps.
//!
//! The inputs of an expression's value must dominate its uses: values computed in a branch are forgotten after it, and
//! symbols bound in it are reloaded from their array.

use cranelift_codegen::ir::{Function, InstBuilder, Value, types};
use cranelift_module::Module;

use super::share::{KernelCall, Team};
use super::{Entry, FLAGS, Parts, build, signature, steps_args, steps_refuse};
use crate::dims::Dims;
use mcc_ir::{Error, Result};
use mcc_kernel::kir::is_part;
use mcc_kernel::program::{Place, Step};

/// The inputs of steps.
struct Context {
    /// The arrays of the ports' data and of symbols, and the arena.
    pointers: Value,
    arena: Value,
    symbols: Value,
    /// The threads, if a step is shared.
    team: Option<Team>,
    /// Offsets use the bounds that the arena was sized with: the symbols' values before any step.
    bounds: Dims,
    /// Number of kernel calls so far.
    calls: i64,
}

/// `steps(pointers, arena, symbols)`, with several threads also `pool`; returns a code if a step may fail.
pub fn steps<M: Module>(parts: &mut Parts<'_, M>) -> Result<Function> {
    let signature = signature(parts.module.isa(), steps_args(parts.program), steps_refuse(parts.program));
    build(parts, signature, |e| {
        let (pointers, arena, symbols) = (e.args[0], e.args[1], e.args[2]);
        let program = e.parts.program;
        e.load_symbols(symbols);
        let team = e.args.get(3).copied().and_then(|pool| Team::new(&mut e.b, program, pool));
        let mut context = Context { pointers, arena, symbols, team, bounds: e.dims.clone(), calls: 0 };
        e.trace(-2 - e.parts.number as i64);
        e.all(&program.steps, &mut context)?;
        e.trace(-1);
        match steps_refuse(program) {
            true => e.give_ok(),
            false => drop(e.b.ins().return_(&[])),
        }
        Ok(())
    })
}

impl<M: Module> Entry<'_, '_, M> {
    fn all(&mut self, steps: &[Step], context: &mut Context) -> Result<()> {
        steps.iter().try_for_each(|step| self.step(step, context))
    }

    fn step(&mut self, step: &Step, context: &mut Context) -> Result<()> {
        let program = self.parts.program;
        match step {
            Step::Call { .. } => self.call(step, context),
            Step::Bind { symbol, place } => {
                let at = self.pointer(place, context);
                let value = self.b.ins().load(types::I64, FLAGS, at, 0);
                self.bind_symbol(*symbol, value, context);
                Ok(())
            }
            Step::Let { symbol, value } => {
                let value = self.value(value);
                self.bind_symbol(*symbol, value, context);
                Ok(())
            }
            Step::Require { checks } => {
                self.require_all(context.symbols, checks, false);
                Ok(())
            }
            Step::If { condition, then, otherwise, binds, .. } => {
                let at = self.pointer(condition, context);
                let condition = self.b.ins().load(types::I8, FLAGS, at, 0);
                let (yes, no, after) = (self.next(), self.next(), self.next());
                self.b.ins().brif(condition, yes, &[], no, &[]);
                let (dims, bounds) = (self.dims.clone(), context.bounds.clone());
                for (block, steps) in [(yes, then), (no, otherwise)] {
                    self.b.switch_to_block(block);
                    self.all(steps, context)?;
                    self.b.ins().jump(after, &[]);
                    self.dims = dims.clone();
                    context.bounds = bounds.clone();
                }
                self.b.switch_to_block(after);
                for &symbol in binds {
                    let value = self.b.ins().load(types::I64, FLAGS, context.symbols, 8 * symbol as i32);
                    self.dims.bind(&program.symbols[symbol].name, value);
                }
                Ok(())
            }
        }
    }

    fn bind_symbol(&mut self, symbol: usize, value: Value, context: &Context) {
        self.b.ins().store(FLAGS, value, context.symbols, 8 * symbol as i32);
        self.dims.bind(&self.parts.program.symbols[symbol].name, value);
    }

    fn call(&mut self, step: &Step, context: &mut Context) -> Result<()> {
        let Step::Call { kernel, args, label, shared, work } = step else { return Ok(()) };
        let program = self.parts.program;
        self.trace(context.calls);
        context.calls += 1;
        let broken = || Error::internal(format!("step {label} does not fit its kernel"));
        let callee = program.kernels.get(*kernel).ok_or_else(broken)?;
        if callee.pointers as usize != args.len() {
            return Err(broken());
        }
        let (pointers, slots, symbols) = (Vec::new(), Vec::new(), Vec::new());
        let mut call = KernelCall { kernel: self.parts.kernels[*kernel], pointers, slots, symbols };
        for place in args {
            call.pointers.push(self.pointer(place, context));
            call.slots.push(match place {
                Place::Slot { bytes, .. } => Some(context.bounds.value(&mut self.b, bytes)),
                _ => None,
            });
        }
        for s in callee.symbols.iter().filter(|s| !is_part(s)) {
            call.symbols.push(self.dims.symbol(&mut self.b, s));
        }
        let mut inside = context.bounds.clone();
        let team = &context.team;
        let mut run = |e: &mut Entry<'_, '_, M>| match (team, shared) {
            (Some(team), Some(work)) => e.share(team, &call, work, &mut inside),
            _ => {
                e.call_kernel(&call, callee.is_shared());
                Ok(())
            }
        };
        match work.elements.as_const() {
            Some(_) => run(self),
            None => {
                let elements = self.value(&work.elements);
                self.unless_null(elements, run)
            }
        }
    }

    /// Reports to the tracer that a call starts, or that the last one has ended.
    fn trace(&mut self, number: i64) {
        if let Some(function) = self.parts.trace {
            let function = self.parts.module.declare_func_in_func(function, self.b.func);
            self.b.func.dfg.ext_funcs[function].colocated = true;
            let number = self.b.ins().iconst(types::I32, number);
            self.b.ins().call(function, &[number]);
        }
    }

    fn pointer(&mut self, place: &Place, context: &mut Context) -> Value {
        let (pointers, arena) = (context.pointers, context.arena);
        match place {
            Place::Input(i) => self.b.ins().load(types::I64, FLAGS, pointers, 8 * *i as i32),
            Place::InputAt { input, offset } => {
                let base = self.b.ins().load(types::I64, FLAGS, pointers, 8 * *input as i32);
                let offset = self.b.ins().iconst(types::I64, *offset);
                self.b.ins().iadd(base, offset)
            }
            Place::Output(i) => {
                let i = self.parts.program.inputs.len() + i;
                self.b.ins().load(types::I64, FLAGS, pointers, 8 * i as i32)
            }
            Place::Arena(offset) | Place::Slot { offset, .. } if offset.is(0) => arena,
            Place::Arena(offset) | Place::Slot { offset, .. } => {
                let offset = context.bounds.value(&mut self.b, offset);
                self.b.ins().iadd(arena, offset)
            }
            Place::Constant(i) => {
                let data = self.parts.module.declare_data_in_func(self.parts.constants[*i], self.b.func);
                self.b.ins().symbol_value(types::I64, data)
            }
        }
    }
}
