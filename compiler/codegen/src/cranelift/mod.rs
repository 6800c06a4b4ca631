//! Kernel IR to CLIF, 128-bit vectors; see [`CRANELIFT`].
//!
//! - A kernel value becomes one CLIF value, or several when its lanes need more than one register ([`Parts`]).
//!   Vectors of less than 16 bytes are in the low lanes of a register; the upper lanes are undefined.
//! - Masks are all-ones integers in vectors, and an `i8` of 0 or 1 for scalars.
//! - Cranelift runs without its mid-end (see [`isa`](super::isa)), so the order of a kernel's statements is the order
//!   of its instructions; [`tidy`](mcc_kernel::kir::tidy) has already done the optimizations that pay: common
//!   subexpressions, loop invariants, address folding. Constants are materialized at their uses: kept over a loop, they
//!   would take registers from accumulators. Only innermost loops on aarch64 keep theirs, if there are registers for
//!   them; see [`pool`].

mod compile;
mod convert;
mod dot;
mod insts;
mod lanes;
mod part;
mod pool;
mod quantize;

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    self, AbiParam, BlockArg, ConstantData, ExtFuncData, ExternalName, FuncRef, Function, InstBuilder, MemFlagsData,
    Signature, Type, UserExternalName, UserFuncName, Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use mcc_targets::{Arch, Target};

use crate::parts::part_count;
use compile::Imports;
pub use compile::{CRANELIFT, machine_code};
use mcc_kernel::kir::{Addr, Carried, Elem, Inst, Kernel, Stmt, Ty, Val};

/// Translates a kernel.
fn function(kernel: &Kernel, target: &Target, isa: &dyn TargetIsa, imports: Imports) -> Function {
    let kernel = &mcc_kernel::kir::tidy::tidy(kernel, target.arch);
    let mut func = Function::with_name_signature(UserFuncName::default(), CRANELIFT.convention.signature(kernel, isa));
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut func, &mut context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let arguments = b.block_params(entry).to_vec();
    let mut f = Translator {
        kernel,
        x86: target.arch == Arch::X86_64,
        dot: dot::Support::of(target),
        fma: target.has_fma(),
        b,
        arguments,
        values: vec![Vec::new(); kernel.insts.len()],
        constants: HashMap::new(),
        pool: pool::Pool::of(kernel, target.arch),
        addresses: vec![HashMap::new()],
        imports,
        functions: HashMap::new(),
        pointer_call: isa.default_call_conv(),
    };
    f.block(&kernel.body);
    f.b.ins().return_(&[]);
    f.b.seal_all_blocks();
    f.b.finalize(isa.frontend_config());
    func
}

/// The registers of a value, the low lanes first.
type Parts = Vec<Value>;

struct Translator<'a> {
    kernel: &'a Kernel,
    x86: bool,
    dot: dot::Support,
    fma: bool,
    b: FunctionBuilder<'a>,
    arguments: Vec<Value>,
    values: Vec<Parts>,
    /// Constants of the current basic block, by bits and type.
    constants: HashMap<(u64, Type), Value>,
    pool: pool::Pool,
    /// Values of `base + index * scale`, per open structured block.
    addresses: Vec<HashMap<(Val, Val, u8), Value>>,
    imports: Imports,
    functions: HashMap<u32, FuncRef>,
    pointer_call: CallConv,
}

/// Kernel addresses have no known alignment.
const FLAGS: MemFlagsData = MemFlagsData::new().with_notrap();

/// The longest constant copy or fill that is expanded inline.
const INLINE_COPY: i64 = 128;

/// CLIF type of a scalar.
fn scalar_type(elem: Elem) -> Type {
    match elem {
        Elem::I8 | Elem::Mask8 | Elem::Mask16 | Elem::Mask32 | Elem::Mask64 => types::I8,
        Elem::I16 => types::I16,
        Elem::I32 => types::I32,
        Elem::I64 => types::I64,
        Elem::F32 => types::F32,
        Elem::F64 => types::F64,
    }
}

/// CLIF type of a full register of an element.
fn vector_type(elem: Elem) -> Type {
    match elem {
        Elem::I8 | Elem::Mask8 => types::I8X16,
        Elem::I16 | Elem::Mask16 => types::I16X8,
        Elem::I32 | Elem::Mask32 => types::I32X4,
        Elem::I64 | Elem::Mask64 => types::I64X2,
        Elem::F32 => types::F32X4,
        Elem::F64 => types::F64X2,
    }
}

/// CLIF type of each part of a value.
fn part_type(ty: Ty) -> Type {
    if ty.lanes == 1 { scalar_type(ty.elem) } else { vector_type(ty.elem) }
}

impl Translator<'_> {
    fn ty(&self, v: Val) -> Ty {
        self.kernel.insts[v.0 as usize].1
    }

    /// The registers of a value; constants are materialized here.
    fn parts(&mut self, v: Val) -> Parts {
        let (inst, ty) = &self.kernel.insts[v.0 as usize];
        match *inst {
            Inst::Int(c) => {
                let value =
                    if ty.elem.is_float() { self.float_constant(c as f64, *ty) } else { self.int_constant(c, *ty) };
                vec![value; part_count(*ty)]
            }
            Inst::Float(bits) => vec![self.float_constant(f64::from_bits(bits), *ty); part_count(*ty)],
            _ => self.values[v.0 as usize].clone(),
        }
    }

    /// The register of a scalar.
    fn scalar(&mut self, v: Val) -> Value {
        self.parts(v)[0]
    }

    /// A scalar as a 64-bit integer constant, if it is one.
    fn constant(&self, v: Val) -> Option<i64> {
        match self.kernel.insts[v.0 as usize].0 {
            Inst::Int(c) => Some(c),
            _ => None,
        }
    }

    fn int_constant(&mut self, c: i64, ty: Ty) -> Value {
        let clif = part_type(ty);
        let bits = c as u64;
        if let Some(&v) = self.constants.get(&(bits, clif)) {
            return v;
        }
        if let Some(v) = self.pooled(c as u32, ty) {
            return v;
        }
        let v = if ty.lanes == 1 {
            let width = clif.bits();
            let unsigned = if width == 64 { bits } else { bits & ((1 << width) - 1) };
            self.b.ins().iconst(clif, unsigned as i64)
        } else {
            let bytes = ty.elem.bytes() as usize;
            self.vector_constant(&bits.to_le_bytes()[..bytes], clif)
        };
        self.constants.insert((bits, clif), v);
        v
    }

    fn float_constant(&mut self, c: f64, ty: Ty) -> Value {
        let clif = part_type(ty);
        let bits = c.to_bits();
        if let Some(&v) = self.constants.get(&(bits, clif)) {
            return v;
        }
        if let Some(v) = self.pooled((c as f32).to_bits(), ty) {
            return v;
        }
        let v = match (ty.elem, ty.lanes) {
            (Elem::F32, 1) => self.b.ins().f32const(c as f32),
            (_, 1) => self.b.ins().f64const(c),
            (Elem::F32, _) => self.vector_constant(&(c as f32).to_le_bytes(), clif),
            _ => self.vector_constant(&c.to_le_bytes(), clif),
        };
        self.constants.insert((bits, clif), v);
        v
    }

    /// `lane` repeated to 16 bytes.
    fn vector_constant(&mut self, lane: &[u8], clif: Type) -> Value {
        let bytes: Vec<u8> = lane.iter().copied().cycle().take(16).collect();
        let handle = self.b.func.dfg.constants.insert(ConstantData::from(&bytes[..]));
        self.b.ins().vconst(clif, handle)
    }

    /// `base + index * scale`; the offset is left to the instruction.
    fn address(&mut self, a: Addr) -> (Value, i32) {
        let base = self.scalar(a.base);
        let Some(index) = a.index else { return (base, a.offset) };
        let key = (a.base, index, a.scale);
        if let Some(&v) = self.addresses.iter().rev().find_map(|scope| scope.get(&key)) {
            return (v, a.offset);
        }
        let index = self.scalar(index);
        let scaled = match a.scale {
            1 => index,
            s => {
                let count = self.b.ins().iconst(types::I64, i64::from(s.trailing_zeros()));
                self.b.ins().ishl(index, count)
            }
        };
        let sum = self.b.ins().iadd(base, scaled);
        if let Some(scope) = self.addresses.last_mut() {
            scope.insert(key, sum);
        }
        (sum, a.offset)
    }

    fn switch_to(&mut self, block: ir::Block) {
        self.b.switch_to_block(block);
        self.constants.clear();
        self.pool.leave_block();
    }

    /// Emits statements in a scope of their own.
    fn scope(&mut self, statements: &[Stmt]) {
        self.addresses.push(HashMap::new());
        self.block(statements);
        self.addresses.pop();
    }

    fn block(&mut self, statements: &[Stmt]) {
        for statement in statements {
            match statement {
                Stmt::Let(v) => {
                    let parts = self.inst(*v);
                    self.values[v.0 as usize] = parts;
                }
                Stmt::Store(to, v) => self.store(*to, *v),
                Stmt::StorePart(to, v, count) => self.store_part(*to, *v, *count),
                Stmt::For { index, start, end, step, carried, body } => {
                    self.counted_loop(*index, *start, *end, *step, carried, body);
                }
                Stmt::If { condition, then, otherwise, results } => {
                    self.choice(*condition, then, otherwise, results);
                }
                Stmt::Copy { to, from, bytes } => self.copy(*to, *from, *bytes),
                // Cranelift has no prefetch instruction.
                Stmt::Prefetch(_) => {}
                Stmt::Zero { to, bytes } => self.zero(*to, *bytes),
            }
        }
    }

    /// Defines `v` as the parameters of `block`.
    fn define_as_params(&mut self, block: ir::Block, v: Val) {
        let ty = self.ty(v);
        self.values[v.0 as usize] =
            (0..part_count(ty)).map(|_| self.b.append_block_param(block, part_type(ty))).collect();
    }

    fn arguments_of(&mut self, values: impl Iterator<Item = Val>) -> Vec<BlockArg> {
        values.flat_map(|v| self.parts(v)).map(BlockArg::from).collect()
    }

    /// The test is at the bottom; another one before the loop guards loops that may have no rounds.
    fn counted_loop(&mut self, index: Val, start: Val, end: Val, step: i64, carried: &[Carried], body: &[Stmt]) {
        let (inside, after) = (self.b.create_block(), self.b.create_block());
        let (first, bound) = (self.scalar(start), self.scalar(end));
        let init = self.arguments_of(carried.iter().map(|c| c.init));
        let mut enter: Vec<BlockArg> = vec![first.into()];
        enter.extend(&init);
        let held = self.held_constants(carried, body);
        if let (Some(s), Some(e)) = (self.constant(start), self.constant(end))
            && s < e
        {
            self.b.ins().jump(inside, &enter);
        } else {
            let runs = self.b.ins().icmp(IntCC::SignedLessThan, first, bound);
            self.b.ins().brif(runs, inside, &enter, after, &init);
        }
        self.define_as_params(inside, index);
        for c in carried {
            self.define_as_params(inside, c.inner);
            self.define_as_params(after, c.result);
        }
        self.switch_to(inside);
        (self.constants, self.pool.open) = held;
        self.scope(body);
        let bound = self.scalar(end);
        let next = self.arguments_of(carried.iter().map(|c| c.next));
        let here = self.scalar(index);
        let there = self.b.ins().iadd_imm_s(here, step);
        let again = self.b.ins().icmp(IntCC::SignedLessThan, there, bound);
        let mut round: Vec<BlockArg> = vec![there.into()];
        round.extend(&next);
        self.b.ins().brif(again, inside, &round, after, &next);
        self.switch_to(after);
    }

    fn choice(&mut self, condition: Val, then: &[Stmt], otherwise: &[Stmt], results: &[(Val, Val, Val)]) {
        let (yes, after) = (self.b.create_block(), self.b.create_block());
        let condition = self.scalar(condition);
        let plain = otherwise.is_empty() && results.is_empty();
        let no = if plain { after } else { self.b.create_block() };
        self.b.ins().brif(condition, yes, &[], no, &[]);
        self.switch_to(yes);
        self.scope(then);
        let values = self.arguments_of(results.iter().map(|r| r.1));
        self.b.ins().jump(after, &values);
        if !plain {
            self.switch_to(no);
            self.scope(otherwise);
            let values = self.arguments_of(results.iter().map(|r| r.2));
            self.b.ins().jump(after, &values);
        }
        for r in results {
            self.define_as_params(after, r.0);
        }
        self.switch_to(after);
    }

    fn copy(&mut self, to: Val, from: Val, bytes: Val) {
        let (to, from) = (self.scalar(to), self.scalar(from));
        match self.constant(bytes) {
            Some(n) if n <= INLINE_COPY => {
                for (offset, ty) in pieces(n) {
                    let v = self.b.ins().load(ty, FLAGS, from, offset);
                    self.b.ins().store(FLAGS, v, to, offset);
                }
            }
            _ => {
                let bytes = self.scalar(bytes);
                let memcpy = self.import(self.imports.memcpy, &[types::I64, types::I64, types::I64]);
                self.b.ins().call(memcpy, &[to, from, bytes]);
            }
        }
    }

    fn zero(&mut self, to: Val, bytes: Val) {
        let to = self.scalar(to);
        match self.constant(bytes) {
            Some(n) if n <= INLINE_COPY => {
                for (offset, ty) in pieces(n) {
                    let zero = if ty.is_vector() { self.vector_constant(&[0], ty) } else { self.b.ins().iconst(ty, 0) };
                    self.b.ins().store(FLAGS, zero, to, offset);
                }
            }
            _ => {
                let bytes = self.scalar(bytes);
                let zero = self.b.ins().iconst(types::I32, 0);
                let memset = self.import(self.imports.memset, &[types::I64, types::I32, types::I64]);
                self.b.ins().call(memset, &[to, zero, bytes]);
            }
        }
    }

    /// A function of the module that returns a pointer, by its index there. It is marked as colocated: calls are
    /// direct, and the linker adds stubs where needed.
    fn import(&mut self, index: u32, params: &[Type]) -> FuncRef {
        if let Some(&f) = self.functions.get(&index) {
            return f;
        }
        let mut signature = Signature::new(self.pointer_call);
        signature.params = params.iter().map(|&t| AbiParam::new(t)).collect();
        signature.returns = vec![AbiParam::new(types::I64)];
        self.near(index, signature)
    }

    fn near(&mut self, index: u32, signature: Signature) -> FuncRef {
        let signature = self.b.import_signature(signature);
        let name = self.b.func.declare_imported_user_function(UserExternalName::new(0, index));
        let data = ExtFuncData { name: ExternalName::user(name), signature, colocated: true, patchable: false };
        let f = self.b.import_function(data);
        self.functions.insert(index, f);
        f
    }
}

/// Offsets and types that cover `n` bytes.
fn pieces(n: i64) -> Vec<(i32, Type)> {
    let mut found = Vec::new();
    let mut at = 0;
    for (size, ty) in [(16, types::I8X16), (8, types::I64), (4, types::I32), (2, types::I16), (1, types::I8)] {
        while n - at >= size {
            found.push((at as i32, ty));
            at += size;
        }
    }
    found
}
