//! State of instruction selection: statements become blocks, values become registers.
//!
//! A load with one use is deferred to that use, which may fold it as a memory operand; memory writes and branches emit
//! all deferred loads first.

pub(super) mod control;
mod dot;
pub(super) mod scalars;
pub(super) mod vectors;

use std::collections::HashMap;

use iced_x86::Mnemonic as M;
use mcc_targets::Target;
use regalloc2::{Block, RegClass, VReg};

use super::encode::{ARGUMENTS, Level};
use super::machine::{Base, End, Inst, Mem, Op, View, VirtualCode};
use dot::Split;
use mcc_ir::{Error, Result};
use mcc_kernel::kir::tidy;
use mcc_kernel::kir::{self, Addr, Kernel, Stmt, Ty, Val};

/// The registers of a value, the low lanes first.
pub type Parts = Vec<VReg>;

/// An instruction's last operand, which may be in memory.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    Register(VReg),
    Memory(Mem),
    /// One element in memory for all lanes.
    Broadcast(Mem),
}

pub struct Selector<'a> {
    pub kernel: &'a Kernel,
    pub avx512: bool,
    /// AVX-VNNI or AVX512-VNNI.
    pub vnni: bool,
    /// AVX512-VBMI.
    pub vbmi: bool,
    /// AVX512-VBMI2.
    pub vbmi2: bool,
    /// Bytes of the widest register.
    pub max: u32,
    pub code: VirtualCode,
    pub current: Block,
    pub widest: View,
    values: Vec<Parts>,
    /// The kernel's arguments.
    pub arguments: Parts,
    /// Number of uses of each value: in total, as the source of a splat, and as the condition of a branch.
    pub uses: Vec<u32>,
    pub spreads: Vec<u32>,
    pub branches: Vec<u32>,
    /// Deferred loads: the value and the address.
    waiting: Vec<(Val, Addr)>,
    /// Masks of counts in open blocks: count, lanes, element bytes.
    pub counted: Vec<HashMap<(Val, u32, u32), VReg>>,
    /// Operands prepared for byte products in open blocks.
    pub splits: Vec<HashMap<(Val, Split), Parts>>,
    /// Statements that cannot be selected; the first is reported.
    pub refused: Vec<String>,
}

/// Machine instructions of a kernel, and the properties that their encoding depends on.
///
/// # Errors
/// When the kernel has a statement without an instruction sequence here.
pub fn select(kernel: &Kernel, target: &Target) -> Result<(VirtualCode, Level)> {
    let kernel = &tidy::tidy(kernel, target.arch);
    let mut code = VirtualCode::default();
    let entry = code.block();
    let avx512 = target.vector_bytes == 64;
    let [uses, spreads, branches] = count_uses(kernel);
    let mut s = Selector {
        kernel,
        avx512,
        vbmi2: target.expands_bytes(),
        vbmi: target.has_fast_lookups(),
        vnni: target.has_byte_dot(),
        max: target.vector_bytes,
        code,
        current: entry,
        widest: View::X,
        values: vec![Parts::new(); kernel.insts.len()],
        arguments: Parts::new(),
        uses,
        spreads,
        branches,
        waiting: Vec::new(),
        counted: vec![HashMap::new()],
        splits: vec![HashMap::new()],
        refused: Vec::new(),
    };
    s.arguments();
    s.block(&kernel.body);
    s.end(End::Return);
    match s.refused.first() {
        Some(what) => Err(Error::internal(format!("kernel {}: {what}", kernel.name))),
        None => Ok((s.code, Level { avx512, widest: s.widest, checked: false })),
    }
}

/// Number of uses, of splats, and of branch conditions of each value; uses in a loop count once.
fn count_uses(kernel: &Kernel) -> [Vec<u32>; 3] {
    fn walk(kernel: &Kernel, body: &[Stmt], counts: &mut [Vec<u32>; 3]) {
        for stmt in body {
            let used = match stmt {
                Stmt::Let(v) => {
                    let inst = &kernel.insts[v.0 as usize].0;
                    if let kir::Inst::Splat(a) = inst {
                        counts[1][a.0 as usize] += 1;
                    }
                    inst.operands()
                }
                _ => stmt.operands(),
            };
            if let Stmt::If { condition, .. } = stmt {
                counts[2][condition.0 as usize] += 1;
            }
            used.into_iter().for_each(|v| counts[0][v.0 as usize] += 1);
            stmt.blocks().into_iter().for_each(|body| walk(kernel, body, counts));
        }
    }
    let mut counts = [0; 3].map(|n| vec![n; kernel.insts.len()]);
    walk(kernel, &kernel.body, &mut counts);
    counts
}

impl Selector<'_> {
    // ---- registers and instructions ----

    pub fn int(&mut self) -> VReg {
        self.code.vreg(RegClass::Int)
    }

    pub fn vector(&mut self) -> VReg {
        self.code.vreg(RegClass::Float)
    }

    pub fn mask(&mut self) -> VReg {
        self.code.vreg(RegClass::Vector)
    }

    pub fn push(&mut self, inst: Inst) {
        for op in &inst.ops {
            if let Op::Def(_, v @ (View::Y | View::Z))
            | Op::Use(_, v @ (View::Y | View::Z))
            | Op::Mod(_, _, v @ (View::Y | View::Z)) = *op
            {
                self.widest = self.widest.max(v);
            }
        }
        self.code.blocks[self.current.index()].insts.push(inst);
    }

    pub fn emit(&mut self, mnemonic: M, ops: &[Op]) {
        self.push(Inst::new(mnemonic, ops));
    }

    /// `mnemonic result, a`.
    pub fn v2(&mut self, mnemonic: M, view: View, a: Source) -> VReg {
        let result = self.vector();
        self.with_source(mnemonic, &[Op::Def(result, view)], view, a);
        result
    }

    /// `mnemonic result, a, b`.
    pub fn v3(&mut self, mnemonic: M, view: View, a: VReg, b: Source) -> VReg {
        let result = self.vector();
        self.with_source(mnemonic, &[Op::Def(result, view), Op::Use(a, view)], view, b);
        result
    }

    /// `mnemonic result, a, b` on registers.
    pub fn r3(&mut self, mnemonic: M, view: View, a: VReg, b: VReg) -> VReg {
        self.v3(mnemonic, view, a, Source::Register(b))
    }

    /// `mnemonic result, a, imm`.
    pub fn v2i(&mut self, mnemonic: M, view: View, a: VReg, imm: i64) -> VReg {
        let result = self.vector();
        self.emit(mnemonic, &[Op::Def(result, view), Op::Use(a, view), Op::Imm(imm)]);
        result
    }

    /// `mnemonic result, a, b, imm`.
    pub fn v3i(&mut self, mnemonic: M, view: View, a: VReg, b: VReg, imm: i64) -> VReg {
        let result = self.vector();
        self.emit(mnemonic, &[Op::Def(result, view), Op::Use(a, view), Op::Use(b, view), Op::Imm(imm)]);
        result
    }

    /// An instruction whose last operand may be in memory.
    pub fn with_source(&mut self, mnemonic: M, ops: &[Op], view: View, last: Source) {
        let mut ops = ops.to_vec();
        ops.push(match last {
            Source::Register(v) => Op::Use(v, view),
            Source::Memory(m) | Source::Broadcast(m) => Op::Mem(m),
        });
        let broadcast = matches!(last, Source::Broadcast(_));
        self.push(Inst { broadcast, ..Inst::new(mnemonic, ops) });
    }

    pub fn refuse(&mut self, what: String) {
        self.refused.push(what);
    }

    // ---- values ----

    pub fn ty(&self, v: Val) -> Ty {
        self.kernel.insts[v.0 as usize].1
    }

    pub fn inst(&self, v: Val) -> &kir::Inst {
        &self.kernel.insts[v.0 as usize].0
    }

    /// A constant integer.
    pub fn constant(&self, v: Val) -> Option<i64> {
        match *self.inst(v) {
            kir::Inst::Int(c) => Some(c),
            _ => None,
        }
    }

    /// Bytes per register of a value in vector registers.
    pub fn part_bytes(&self, ty: Ty) -> u32 {
        ty.bytes().clamp(16, self.max)
    }

    pub fn part_view(&self, ty: Ty) -> View {
        match self.part_bytes(ty) {
            16 => View::X,
            32 => View::Y,
            _ => View::Z,
        }
    }

    /// Lanes per register of a value.
    pub fn part_lanes(&self, ty: Ty) -> u32 {
        (self.part_bytes(ty) / ty.elem.bytes()).min(ty.lanes)
    }

    pub fn part_count(&self, ty: Ty) -> usize {
        ty.bytes().div_ceil(self.max) as usize
    }

    /// The class of a value's registers.
    fn class(&self, ty: Ty) -> RegClass {
        match (ty.elem.is_mask(), ty.lanes) {
            (true, 1) => RegClass::Int,
            (true, _) if self.avx512 => RegClass::Vector,
            (true, _) => RegClass::Float,
            (false, 1) if !ty.elem.is_float() => RegClass::Int,
            _ => RegClass::Float,
        }
    }

    fn fresh(&mut self, ty: Ty) -> Parts {
        let class = self.class(ty);
        (0..self.part_count(ty)).map(|_| self.code.vreg(class)).collect()
    }

    /// The registers of a value; constants and deferred loads are emitted here.
    pub fn parts(&mut self, v: Val) -> Parts {
        if let Some(i) = self.waiting.iter().position(|w| w.0 == v) {
            let (v, from) = self.waiting.remove(i);
            let parts = self.load_now(v, from);
            self.values[v.0 as usize] = parts;
        }
        let (inst, ty) = &self.kernel.insts[v.0 as usize];
        match inst {
            kir::Inst::Int(_) | kir::Inst::Float(_) => self.constant_parts(v, *ty),
            _ => {
                if self.values[v.0 as usize].is_empty() {
                    self.refuse(format!("value {v} is not computed yet"));
                    return self.fresh(*ty);
                }
                self.values[v.0 as usize].clone()
            }
        }
    }

    /// The register of a value that has only one.
    pub fn reg(&mut self, v: Val) -> VReg {
        self.parts(v)[0]
    }

    /// The registers of a value as operands that may be in memory.
    pub fn sources(&mut self, v: Val) -> Vec<Source> {
        let ty = self.ty(v);
        if let Some(folded) = self.constant_sources(v, ty) {
            return folded;
        }
        if let Some(i) = self.waiting.iter().position(|w| w.0 == v) {
            let (_, from) = self.waiting.remove(i);
            return self.load_sources(v, from);
        }
        self.parts(v).into_iter().map(Source::Register).collect()
    }

    /// Whether [`sources`](Selector::sources) would return memory operands.
    pub fn foldable(&self, v: Val) -> bool {
        self.waiting.iter().any(|w| w.0 == v) || self.constant_folds(v)
    }

    pub fn set(&mut self, v: Val, parts: Parts) {
        self.values[v.0 as usize] = parts;
    }

    /// Defers a load to its use.
    pub fn wait(&mut self, v: Val, from: Addr) {
        self.waiting.push((v, from));
    }

    /// The address of a deferred load, which is no longer deferred.
    pub fn take_waiting(&mut self, v: Val) -> Option<Addr> {
        let i = self.waiting.iter().position(|w| w.0 == v)?;
        Some(self.waiting.remove(i).1)
    }

    /// Emits deferred loads.
    pub fn flush(&mut self) {
        for (v, from) in std::mem::take(&mut self.waiting) {
            let parts = self.load_now(v, from);
            self.values[v.0 as usize] = parts;
        }
    }

    /// An address as a memory operand.
    pub fn address(&mut self, a: Addr) -> Mem {
        let base = Base::Reg(self.reg(a.base));
        let index = a.index.map(|i| (self.reg(i), a.scale));
        Mem { base, index, disp: a.offset }
    }

    // ---- blocks ----

    fn end(&mut self, end: End) {
        self.code.blocks[self.current.index()].end = end;
    }

    fn switch(&mut self, block: Block) {
        self.current = block;
    }

    /// The first arguments are in registers, the others on the stack.
    fn arguments(&mut self) {
        let count = self.kernel.pointers as usize + self.kernel.symbols.len();
        let all: Parts = (0..count).map(|_| self.int()).collect();
        let defs: Vec<_> = all.iter().copied().zip(ARGUMENTS).collect();
        // An instruction without bytes, for the allocator.
        self.push(Inst::new(M::Nop, []).fixed(&[], &defs));
        for (i, &v) in all.iter().enumerate().skip(ARGUMENTS.len()) {
            let disp = 8 * (i - ARGUMENTS.len()) as i32;
            let from = Mem { base: Base::Incoming, index: None, disp };
            self.emit(M::Mov, &[Op::Def(v, View::Q), Op::Mem(from)]);
        }
        self.arguments = all;
    }

    fn scope(&mut self, statements: &[Stmt]) {
        self.counted.push(HashMap::new());
        self.splits.push(HashMap::new());
        self.block(statements);
        self.flush();
        self.counted.pop();
        self.splits.pop();
    }

    fn block(&mut self, statements: &[Stmt]) {
        for statement in statements {
            if !matches!(statement, Stmt::Let(_) | Stmt::Prefetch(_)) {
                // A store's value cannot be deferred past the store itself.
                self.flush();
            }
            match statement {
                // Instructions that define a value have no side effects.
                Stmt::Let(v) if self.uses[v.0 as usize] == 0 => {}
                Stmt::Let(v) => self.compute(*v),
                Stmt::Store(to, v) => self.store(*to, *v),
                Stmt::StorePart(to, v, count) => self.store_part(*to, *v, *count),
                Stmt::For { index, start, end, step, carried, body } => {
                    self.counted_loop(*index, *start, *end, *step, carried, body);
                }
                Stmt::If { condition, then, otherwise, results } => {
                    self.choice(*condition, then, otherwise, results);
                }
                Stmt::Prefetch(at) => {
                    let at = self.address(*at);
                    self.emit(M::Prefetcht1, &[Op::Mem(at)]);
                }
                Stmt::Copy { to, from, bytes } => self.copy(*to, Some(*from), *bytes),
                Stmt::Zero { to, bytes } => self.copy(*to, None, *bytes),
            }
        }
    }
}
