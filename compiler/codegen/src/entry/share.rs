//! Steps that several threads share: how `steps` passes calls of a kernel to the threads of the caller's pool.
//!
//! If the pool has threads and the step has enough work, `steps` writes a block on its stack (the kernel, the number of
//! parts, the arguments, one counter per thread) and has the pool run a *task* once per thread. A task takes the parts
//! of its own range, using its counter, then those left in other ranges: a thread accesses about the same memory in
//! every step, which its cache holds, and a delayed thread does not delay the others. All kernels with the same number
//! of arguments share a task function. Nothing is allocated or locked, and nothing outlives the step.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AtomicRmwOp, Function, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, UserFuncName, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Module};

use super::{Entry, signature};
use crate::abi;
use crate::dims::Dims;
use mcc_ir::{Dim, Error, Result};
use mcc_kernel::program::{Program, Step};
use mcc_targets::schedule;

/// Numbers of pointers and symbols that a kernel takes, without the symbols that select the part.
pub type Arguments = (usize, usize);

/// The block: the kernel, the number of threads, parts per thread; then pointers, each with the bytes between the
/// buffers of two threads; then symbols; then the number of parts taken of each thread's range.
const KERNEL: i32 = 0;
const THREADS: i32 = 8;
const PARTS: i32 = 16;
const ARGUMENTS: i32 = 24;

/// Offset of the counters.
fn counters((pointers, symbols): Arguments) -> i32 {
    ARGUMENTS + 8 * (2 * pointers + symbols) as i32
}

const FLAGS: MemFlagsData = MemFlagsData::trusted();

/// A call of a kernel.
pub(crate) struct KernelCall {
    pub(crate) kernel: FuncId,
    pub(crate) pointers: Vec<Value>,
    /// For each pointer, if every thread has its own copy: the bytes between the copies of two threads.
    pub(crate) slots: Vec<Option<Value>>,
    pub(crate) symbols: Vec<Value>,
}

/// The caller's threads.
pub(crate) struct Team {
    pool: Value,
    /// Number of threads, at least 1.
    threads: Value,
    /// Address of the block.
    block: Value,
}

/// The shapes of calls of shared steps in a program.
pub(crate) fn arguments(program: &Program) -> Vec<Arguments> {
    let mut all: Vec<Arguments> = program
        .all_steps()
        .filter_map(|step| match step {
            Step::Call { kernel, shared: Some(_), .. } => program.kernels.get(*kernel),
            Step::Call { .. } | Step::Bind { .. } | Step::Let { .. } | Step::Require { .. } | Step::If { .. } => None,
        })
        .map(|k| (k.pointers as usize, k.symbols.len().saturating_sub(2)))
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

impl Team {
    /// The threads of a pool; one if it is null. `None` if no step is shared.
    pub(crate) fn new(b: &mut FunctionBuilder<'_>, program: &Program, pool: Value) -> Option<Team> {
        let size = arguments(program).into_iter().map(counters).max()? as u32 + 8 * program.threads;
        let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, size, 3));
        let block = b.ins().stack_addr(types::I64, slot, 0);
        let (some, after) = (b.create_block(), b.create_block());
        let threads = b.append_block_param(after, types::I64);
        let one = b.ins().iconst(types::I64, 1);
        b.ins().brif(pool, some, &[], after, &[one.into()]);
        b.switch_to_block(some);
        let given = b.ins().load(types::I32, FLAGS, pool, abi::pool::THREADS as i32);
        let given = b.ins().sextend(types::I64, given);
        let most = b.ins().iconst(types::I64, i64::from(program.threads));
        let given = b.ins().smin(given, most);
        let given = b.ins().smax(given, one);
        b.ins().jump(after, &[given.into()]);
        b.switch_to_block(after);
        Some(Team { pool, threads, block })
    }
}

impl<M: Module> Entry<'_, '_, M> {
    /// Calls a kernel on this thread, for all its work.
    pub(crate) fn call_kernel(&mut self, call: &KernelCall, is_shared: bool) {
        let mut values = [call.pointers.as_slice(), &call.symbols].concat();
        if is_shared {
            values.extend([0, 1].map(|v| self.b.ins().iconst(types::I64, v)));
        }
        let function = self.parts.module.declare_func_in_func(call.kernel, self.b.func);
        self.b.ins().call(function, &values);
    }

    /// Calls a kernel that takes one thread `work` nanoseconds on as many threads as pay off.
    pub(crate) fn share(&mut self, team: &Team, call: &KernelCall, work: &Dim, bounds: &mut Dims) -> Result<()> {
        let arguments = (call.pointers.len(), call.symbols.len());
        let task = self.parts.tasks.get(&arguments).ok_or_else(|| Error::internal("a shared step without its task"))?;
        // Constants are divided at compile time.
        let mut over = |nanoseconds: i64| bounds.value(&mut self.b, &work.floor_div(&Dim::from(nanoseconds)));
        let (most, most_parts) = (over(schedule::threads::MIN_THREAD_NS), over(schedule::threads::MIN_PART_NS));
        let b = &mut self.b;
        let threads = b.ins().smin(most, team.threads);
        let several = b.ins().icmp_imm_s(IntCC::SignedGreaterThan, threads, 1);
        let (shared, alone, after) = (b.create_block(), b.create_block(), b.create_block());
        b.ins().brif(several, shared, &[], alone, &[]);
        b.switch_to_block(alone);
        self.call_kernel(call, true);
        let b = &mut self.b;
        b.ins().jump(after, &[]);
        b.switch_to_block(shared);
        let parts = b.ins().sdiv(most_parts, threads);
        let most = b.ins().iconst(types::I64, schedule::threads::PARTS_PER_THREAD);
        let parts = b.ins().smin(parts, most);
        let one = b.ins().iconst(types::I64, 1);
        let parts = b.ins().smax(parts, one);
        let kernel = self.parts.module.declare_func_in_func(call.kernel, b.func);
        let kernel = b.ins().func_addr(types::I64, kernel);
        let zero = b.ins().iconst(types::I64, 0);
        for (at, v) in [(KERNEL, kernel), (THREADS, threads), (PARTS, parts)] {
            b.ins().store(FLAGS, v, team.block, at);
        }
        for thread in 0..self.parts.program.threads as i32 {
            b.ins().store(FLAGS, zero, team.block, counters(arguments) + 8 * thread);
        }
        let pointers = call.pointers.iter().zip(&call.slots).flat_map(|(&p, slot)| [p, slot.unwrap_or(zero)]);
        for (n, v) in pointers.chain(call.symbols.iter().copied()).enumerate() {
            b.ins().store(FLAGS, v, team.block, ARGUMENTS + 8 * n as i32);
        }
        let task = self.parts.module.declare_func_in_func(*task, b.func);
        let task = b.ins().func_addr(types::I64, task);
        let context = b.ins().load(types::I64, FLAGS, team.pool, abi::pool::CONTEXT as i32);
        let parallel_for = b.ins().load(types::I64, FLAGS, team.pool, abi::pool::PARALLEL_FOR as i32);
        let signature = b.import_signature(signature(self.parts.module.isa(), 4, false));
        b.ins().call_indirect(signature, parallel_for, &[context, task, team.block, threads]);
        b.ins().jump(after, &[]);
        b.switch_to_block(after);
        Ok(())
    }
}

/// `task(block, thread)`: computes parts of a kernel's work until none is left; the kernel has a given calling
/// convention.
pub(crate) fn task<M: Module>(module: &M, (pointers, symbols): Arguments, kernels: CallConv) -> Function {
    let isa = module.isa();
    let mut func = Function::with_name_signature(UserFuncName::default(), signature(isa, 2, false));
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut func, &mut context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let (block, thread) = (b.block_params(entry)[0], b.block_params(entry)[1]);
    let load = |b: &mut FunctionBuilder<'_>, at: i32| b.ins().load(types::I64, FLAGS, block, at);
    let (kernel, threads, parts) = (load(&mut b, KERNEL), load(&mut b, THREADS), load(&mut b, PARTS));
    let all_parts = b.ins().imul(threads, parts);
    let mut values = Vec::with_capacity(pointers + symbols + 2);
    for n in 0..pointers as i32 {
        let (first, distance) = (load(&mut b, ARGUMENTS + 16 * n), load(&mut b, ARGUMENTS + 16 * n + 8));
        let own = b.ins().imul(distance, thread);
        values.push(b.ins().iadd(first, own));
    }
    for n in 0..symbols as i32 {
        values.push(load(&mut b, ARGUMENTS + 16 * pointers as i32 + 8 * n));
    }
    // Visits the ranges from its own on, cyclically.
    let (range, next, some, leave, done) =
        (b.create_block(), b.create_block(), b.create_block(), b.create_block(), b.create_block());
    let (visited, owner) = (b.append_block_param(range, types::I64), b.append_block_param(range, types::I64));
    let zero = b.ins().iconst(types::I64, 0);
    b.ins().jump(range, &[zero.into(), thread.into()]);
    b.switch_to_block(range);
    let offset = b.ins().imul_imm_s(owner, 8);
    let counter = b.ins().iadd(block, offset);
    let counter = b.ins().iadd_imm_s(counter, i64::from(counters((pointers, symbols))));
    let first = b.ins().imul(owner, parts);
    b.ins().jump(next, &[]);
    b.switch_to_block(next);
    let one = b.ins().iconst(types::I64, 1);
    let taken = b.ins().atomic_rmw(types::I64, FLAGS, AtomicRmwOp::Add, counter, one);
    let left = b.ins().icmp(IntCC::SignedLessThan, taken, parts);
    b.ins().brif(left, some, &[], leave, &[]);
    b.switch_to_block(some);
    let part = b.ins().iadd(first, taken);
    values.extend([part, all_parts]);
    let mut takes = signature(isa, values.len(), false);
    takes.call_conv = kernels;
    let signature = b.import_signature(takes);
    b.ins().call_indirect(signature, kernel, &values);
    b.ins().jump(next, &[]);
    b.switch_to_block(leave);
    let visited = b.ins().iadd_imm_s(visited, 1);
    let owner = b.ins().iadd_imm_s(owner, 1);
    let wraps = b.ins().icmp(IntCC::Equal, owner, threads);
    let owner = b.ins().select(wraps, zero, owner);
    let more = b.ins().icmp(IntCC::SignedLessThan, visited, threads);
    b.ins().brif(more, range, &[visited.into(), owner.into()], done, &[]);
    b.switch_to_block(done);
    b.ins().return_(&[]);
    b.seal_all_blocks();
    b.finalize(isa.frontend_config());
    func
}
