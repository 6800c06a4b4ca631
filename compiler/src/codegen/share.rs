//! Steps that several threads share: how the calls of a kernel get from `steps` to the threads of the caller's pool.
//!
//! Where the pool has threads and the step enough work, `steps` writes a block on its stack (the kernel, how many parts, a
//! counter, the arguments) and has the pool run a *task* once a thread. Tasks take parts by the counter until none is left,
//! so that a thread that is held up does not hold up the others. A task is one function for all kernels of the same number of
//! arguments. Nothing is allocated or locked, and nothing outlives the step.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AtomicRmwOp, Function, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, UserFuncName, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Module};
use mcc_targets::schedule;

use super::abi;
use super::dims::Dims;
use super::entry::{Entry, signature};
use crate::ir::Dim;
use crate::lower::program::{Program, Step};
use crate::{Error, Result};

/// Numbers of pointers and of symbols that a kernel takes; not counted are the symbols that say which part.
pub type Arguments = (usize, usize);

/// The block: the kernel, the number of parts, the next part; then pointers, each with the bytes between those of two
/// threads; then symbols.
const KERNEL: i32 = 0;
const PARTS: i32 = 8;
const NEXT: i32 = 16;
const ARGUMENTS: i32 = 24;

const FLAGS: MemFlagsData = MemFlagsData::trusted();

/// A call of a kernel.
pub(super) struct KernelCall {
    pub(super) kernel: FuncId,
    pub(super) pointers: Vec<Value>,
    /// Bytes between the memory of two threads, of pointers to memory that each thread has its own of.
    pub(super) slots: Vec<Option<Value>>,
    pub(super) symbols: Vec<Value>,
}

/// The caller's threads.
pub(super) struct Team {
    pool: Value,
    /// How many, at least 1.
    threads: Value,
    /// Where the block is.
    block: Value,
}

/// The shapes of the calls that a program's steps share.
pub(super) fn arguments(program: &Program) -> Vec<Arguments> {
    let mut all: Vec<Arguments> = program
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Call { kernel, shared: Some(_), .. } => program.kernels.get(*kernel),
            Step::Call { .. } | Step::Bind { .. } => None,
        })
        .map(|k| (k.pointers as usize, k.symbols.len().saturating_sub(2)))
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

impl Team {
    /// The threads of a pool, which may be null: then there is one. None when no step is shared.
    pub(super) fn new(b: &mut FunctionBuilder<'_>, program: &Program, pool: Value) -> Option<Team> {
        let words = arguments(program).into_iter().map(|(pointers, symbols)| 2 * pointers + symbols).max()?;
        let size = ARGUMENTS as u32 + 8 * words as u32;
        let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, size, 3));
        let block = b.ins().stack_addr(types::I64, slot, 0);
        let (some, after) = (b.create_block(), b.create_block());
        let threads = b.append_block_param(after, types::I64);
        let one = b.ins().iconst(types::I64, 1);
        b.ins().brif(pool, some, &[], after, &[one.into()]);
        b.switch_to_block(some);
        let given = b.ins().load(types::I32, FLAGS, pool, abi::POOL_THREADS);
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
    /// Calls a kernel here, for all its work.
    pub(super) fn call_kernel(&mut self, call: &KernelCall, is_shared: bool) {
        let mut values = [call.pointers.as_slice(), &call.symbols].concat();
        if is_shared {
            values.extend([0, 1].map(|v| self.b.ins().iconst(types::I64, v)));
        }
        let function = self.parts.module.declare_func_in_func(call.kernel, self.b.func);
        self.b.ins().call(function, &values);
    }

    /// Calls a kernel that takes one thread `work` nanoseconds on as many threads as pay.
    pub(super) fn share(&mut self, team: &Team, call: &KernelCall, work: &Dim, bounds: &mut Dims) -> Result<()> {
        let arguments = (call.pointers.len(), call.symbols.len());
        let task = self.parts.tasks.get(&arguments).ok_or_else(|| Error::internal("a shared step without its task"))?;
        // Constants are divided here, not by the code.
        let mut over = |nanoseconds: i64| bounds.value(&mut self.b, &work.floor_div(&Dim::from(nanoseconds)));
        let (most, most_parts) = (over(schedule::THREAD_NANOSECONDS), over(schedule::PART_NANOSECONDS));
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
        let parts = b.ins().imul_imm_s(threads, schedule::PARTS);
        let parts = b.ins().smin(parts, most_parts);
        let kernel = self.parts.module.declare_func_in_func(call.kernel, b.func);
        let kernel = b.ins().func_addr(types::I64, kernel);
        let zero = b.ins().iconst(types::I64, 0);
        for (at, v) in [(KERNEL, kernel), (PARTS, parts), (NEXT, zero)] {
            b.ins().store(FLAGS, v, team.block, at);
        }
        let pointers = call.pointers.iter().zip(&call.slots).flat_map(|(&p, slot)| [p, slot.unwrap_or(zero)]);
        for (n, v) in pointers.chain(call.symbols.iter().copied()).enumerate() {
            b.ins().store(FLAGS, v, team.block, ARGUMENTS + 8 * n as i32);
        }
        let task = self.parts.module.declare_func_in_func(*task, b.func);
        let task = b.ins().func_addr(types::I64, task);
        let context = b.ins().load(types::I64, FLAGS, team.pool, abi::POOL_CONTEXT);
        let parallel_for = b.ins().load(types::I64, FLAGS, team.pool, abi::POOL_PARALLEL_FOR);
        let signature = b.import_signature(signature(self.parts.module.isa(), 4, false));
        b.ins().call_indirect(signature, parallel_for, &[context, task, team.block, threads]);
        b.ins().jump(after, &[]);
        b.switch_to_block(after);
        Ok(())
    }
}

/// `task(block, thread)`: does parts of the work of a kernel of some calling convention until none is left.
pub(super) fn task<M: Module>(module: &M, (pointers, symbols): Arguments, kernels: CallConv) -> Function {
    let isa = module.isa();
    let mut func = Function::with_name_signature(UserFuncName::default(), signature(isa, 2, false));
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut func, &mut context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let (block, thread) = (b.block_params(entry)[0], b.block_params(entry)[1]);
    let load = |b: &mut FunctionBuilder<'_>, at: i32| b.ins().load(types::I64, FLAGS, block, at);
    let (kernel, parts) = (load(&mut b, KERNEL), load(&mut b, PARTS));
    let mut values = Vec::with_capacity(pointers + symbols + 2);
    for n in 0..pointers as i32 {
        let (first, distance) = (load(&mut b, ARGUMENTS + 16 * n), load(&mut b, ARGUMENTS + 16 * n + 8));
        let own = b.ins().imul(distance, thread);
        values.push(b.ins().iadd(first, own));
    }
    for n in 0..symbols as i32 {
        values.push(load(&mut b, ARGUMENTS + 16 * pointers as i32 + 8 * n));
    }
    let (next, some, done) = (b.create_block(), b.create_block(), b.create_block());
    b.ins().jump(next, &[]);
    b.switch_to_block(next);
    let counter = b.ins().iadd_imm_s(block, i64::from(NEXT));
    let one = b.ins().iconst(types::I64, 1);
    let part = b.ins().atomic_rmw(types::I64, FLAGS, AtomicRmwOp::Add, counter, one);
    let left = b.ins().icmp(IntCC::SignedLessThan, part, parts);
    b.ins().brif(left, some, &[], done, &[]);
    b.switch_to_block(some);
    values.extend([part, parts]);
    let mut taken = signature(isa, values.len(), false);
    taken.call_conv = kernels;
    let signature = b.import_signature(taken);
    b.ins().call_indirect(signature, kernel, &values);
    b.ins().jump(next, &[]);
    b.switch_to_block(done);
    b.ins().return_(&[]);
    b.seal_all_blocks();
    b.finalize(isa.frontend_config());
    func
}
