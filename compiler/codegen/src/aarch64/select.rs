//! State of instruction selection: statements become blocks, values become registers.
//!
//! What one instruction can take as a lane of a register, or compute together with its use, is left to the use:
//!
//! - a lane in every lane ([`Selector::spread`]), which products take by element;
//! - a comparison of scalars that only branches and selections use, which read the flags;
//! - constants, which are made once per block, or before an innermost loop.

pub(super) mod control;
mod dot;
mod loops;
pub(super) mod scalars;
mod uses;
mod vectors;

use std::collections::HashMap;

use mcc_targets::{Feature, Target};
use regalloc2::{Block, RegClass, VReg};

use super::fields::{Role, short_float};
use super::inst::{Code, End, FP, Inst, Reg, VirtualCode};
use super::operand::Size;
use super::table::Row;
use crate::parts::part_count;
use dot::Prepared;
use mcc_ir::{Error, Result};
use mcc_kernel::kir::tidy;
use mcc_kernel::kir::{self, Addr, Elem, Kernel, Stmt, Ty, Val};
use uses::Uses;

/// The registers of a value, the low lanes first.
pub type Parts = Vec<VReg>;

/// A lane of a register that stands for a vector of that lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    pub register: VReg,
    pub lane: i64,
    pub size: Size,
}

/// Vector constants in registers, by their bytes.
type Constants = HashMap<Vec<u8>, VReg>;

/// A lane repeated to 16 bytes.
fn spread_bytes(lane: &[u8]) -> Vec<u8> {
    lane.iter().copied().cycle().take(16).collect()
}

/// `base + index * scale`, of an address.
pub type Sum = (Val, Val, u8);

pub struct Selector<'a> {
    pub kernel: &'a Kernel,
    /// `sdot` and `udot`.
    pub dotprod: bool,
    /// `usdot` and `sudot`.
    pub i8mm: bool,
    pub code: VirtualCode,
    pub current: Block,
    values: Vec<Parts>,
    /// The kernel's arguments.
    arguments: Parts,
    pub uses: Uses,
    /// Values that their uses take as a lane.
    spreads: HashMap<Val, Spread>,
    /// Registers with the sums of addresses in open blocks, and what is already added to them.
    pub sums: Vec<HashMap<Sum, (VReg, i64)>>,
    /// Vector constants of the current block, and of the innermost loop; integers of the current block.
    constants: Constants,
    held: Constants,
    integers: HashMap<i64, VReg>,
    /// Operands prepared for byte products in open blocks.
    prepared: Vec<HashMap<(VReg, Prepared), VReg>>,
    /// Statements that cannot be selected; the first is reported.
    refused: Vec<String>,
}

/// Machine instructions of a kernel.
///
/// # Errors
/// When the kernel has a statement without an instruction sequence here.
pub fn select(kernel: &Kernel, target: &Target) -> Result<VirtualCode> {
    let kernel = &tidy::tidy(kernel, target.arch);
    let mut code = VirtualCode::default();
    let entry = code.block();
    let mut s = Selector {
        kernel,
        dotprod: target.has(Feature::Dotprod),
        i8mm: target.has(Feature::Dotprod) && target.has(Feature::I8mm),
        code,
        current: entry,
        values: vec![Parts::new(); kernel.insts.len()],
        arguments: Parts::new(),
        uses: Uses::of(kernel, target.has(Feature::Dotprod)),
        spreads: HashMap::new(),
        sums: vec![HashMap::new()],
        constants: HashMap::new(),
        held: HashMap::new(),
        integers: HashMap::new(),
        prepared: vec![HashMap::new()],
        refused: Vec::new(),
    };
    s.take_arguments();
    s.block(&kernel.body);
    s.end(End::Return);
    match s.refused.first() {
        Some(what) => Err(Error::internal(format!("kernel {}: {what}", kernel.name))),
        None => Ok(s.code),
    }
}

/// The size of an element.
pub fn size(elem: Elem) -> Size {
    Size::of(elem.bytes())
}

/// The class of a value's registers.
pub fn class(ty: Ty) -> RegClass {
    if ty.lanes == 1 && !ty.elem.is_float() { RegClass::Int } else { RegClass::Float }
}

impl Selector<'_> {
    // ---- registers and instructions ----

    pub fn int(&mut self) -> VReg {
        self.code.vreg(RegClass::Int)
    }

    pub fn push(&mut self, row: Row, size: Size, regs: impl Into<Vec<Reg>>, imms: [i64; 2]) {
        let inst = Inst::new(row, size, regs, imms);
        if !inst.fits() {
            self.refused.push(format!("operands of {inst:?}"));
        }
        self.code.blocks[self.current.index()].insts.push(Code::Inst(inst));
    }

    /// An instruction with a result of a class from registers in the order of the row's roles.
    fn make(&mut self, class: RegClass, row: Row, size: Size, from: &[VReg], imms: [i64; 2]) -> VReg {
        let result = self.code.vreg(class);
        let mut from = from.iter().copied();
        let mut regs = Vec::with_capacity(4);
        for role in row.form().roles {
            let reg = match role {
                Role::D => Some(Reg::Def(result)),
                Role::Dm => from.next().map(|v| Reg::Mod(result, v)),
                _ => from.next().map(Reg::Use),
            };
            regs.extend(reg);
        }
        self.push(row, size, regs, imms);
        result
    }

    /// An instruction with a result in a vector register.
    pub fn v(&mut self, row: Row, size: Size, from: &[VReg]) -> VReg {
        self.make(RegClass::Float, row, size, from, [0; 2])
    }

    /// The same with an immediate.
    pub fn vi(&mut self, row: Row, size: Size, from: &[VReg], imm: i64) -> VReg {
        self.make(RegClass::Float, row, size, from, [imm, 0])
    }

    /// The same with two.
    pub fn vii(&mut self, row: Row, size: Size, from: &[VReg], imms: [i64; 2]) -> VReg {
        self.make(RegClass::Float, row, size, from, imms)
    }

    /// An instruction with a result in a general register.
    pub fn g(&mut self, row: Row, size: Size, from: &[VReg]) -> VReg {
        self.make(RegClass::Int, row, size, from, [0; 2])
    }

    /// The same with an immediate.
    pub fn gi(&mut self, row: Row, size: Size, from: &[VReg], imm: i64) -> VReg {
        self.make(RegClass::Int, row, size, from, [imm, 0])
    }

    /// The same with two.
    pub fn gii(&mut self, row: Row, size: Size, from: &[VReg], imms: [i64; 2]) -> VReg {
        self.make(RegClass::Int, row, size, from, imms)
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

    /// The registers of a value; constants and spread lanes are made here.
    pub fn parts(&mut self, v: Val) -> Parts {
        let ty = self.ty(v);
        if let Some(lane) = self.lane_bytes(v) {
            if class(ty) == RegClass::Int {
                let c = self.constant(v).unwrap_or_default();
                return vec![self.int_constant(c)];
            }
            return vec![self.vector_constant(&lane); part_count(ty)];
        }
        if self.values[v.0 as usize].is_empty() {
            let Some(spread) = self.spreads.get(&v).copied() else {
                self.refuse(format!("value {v} is not computed yet"));
                return (0..part_count(ty)).map(|_| self.code.vreg(class(ty))).collect();
            };
            // Not kept: the block need not dominate the next use.
            let all = self.vi(Row::DupLane, spread.size, &[spread.register], spread.lane);
            return vec![all; part_count(ty)];
        }
        self.values[v.0 as usize].clone()
    }

    /// The register of a value that has only one.
    pub fn reg(&mut self, v: Val) -> VReg {
        self.parts(v)[0]
    }

    pub fn set(&mut self, v: Val, parts: Parts) {
        self.values[v.0 as usize] = parts;
    }

    /// A value as a lane of a register, if it is left to its uses.
    pub fn spread(&self, v: Val) -> Option<Spread> {
        self.spreads.get(&v).copied()
    }

    /// Leaves a value to its uses if all can take a lane, else makes it now.
    pub fn set_spread(&mut self, v: Val, spread: Spread) {
        let elem = self.ty(v).elem;
        if self.uses.all_by_lane(v) && (spread.size == Size::S || spread.size == Size::D && elem == Elem::F64) {
            self.spreads.insert(v, spread);
            return;
        }
        let all = self.vi(Row::DupLane, spread.size, &[spread.register], spread.lane);
        let count = part_count(self.ty(v));
        self.set(v, vec![all; count]);
    }

    // ---- constants ----

    /// The bytes of one lane of a constant.
    pub fn lane_bytes(&self, v: Val) -> Option<Vec<u8>> {
        let (inst, ty) = &self.kernel.insts[v.0 as usize];
        let of_float = |c: f64| match ty.elem {
            Elem::F32 => (c as f32).to_le_bytes().to_vec(),
            _ => c.to_le_bytes().to_vec(),
        };
        match *inst {
            kir::Inst::Int(c) if ty.elem.is_float() => Some(of_float(c as f64)),
            kir::Inst::Int(c) => Some(c.to_le_bytes()[..ty.elem.bytes() as usize].to_vec()),
            kir::Inst::Float(bits) => Some(of_float(f64::from_bits(bits))),
            _ => None,
        }
    }

    /// A vector register with a lane's bytes in every lane.
    pub fn vector_constant(&mut self, lane: &[u8]) -> VReg {
        self.vector_bytes(&spread_bytes(lane))
    }

    /// A vector register with 16 bytes.
    pub fn vector_bytes(&mut self, bytes: &[u8]) -> VReg {
        if let Some(&known) = self.constants.get(bytes).or_else(|| self.held.get(bytes)) {
            return known;
        }
        let made = match immediate(bytes) {
            Some((row, size, imms)) => self.vii(row, size, &[], imms),
            None => {
                let at = self.code.pooled(bytes);
                self.vi(Row::LdrPool, Size::Q, &[], at.into())
            }
        };
        self.constants.insert(bytes.to_vec(), made);
        made
    }

    /// A constant in a general register.
    pub fn int_constant(&mut self, c: i64) -> VReg {
        if let Some(&known) = self.integers.get(&c) {
            return known;
        }
        let half = |n: u32| c >> (16 * n) & 0xffff;
        let others = |fill: i64| (0..4).filter(|&n| half(n) != fill).collect::<Vec<u32>>();
        let (zeros, ones) = (others(0), others(0xffff));
        let (row, fill, halves) =
            if ones.len() < zeros.len() { (Row::Movn, 0xffff, ones) } else { (Row::Movz, 0, zeros) };
        let first = halves.first().copied().unwrap_or(0);
        let mut v = self.gii(row, Size::D, &[], [half(first) ^ fill, i64::from(16 * first)]);
        for &n in halves.iter().skip(1) {
            v = self.gii(Row::Movk, Size::D, &[v], [half(n), i64::from(16 * n)]);
        }
        self.integers.insert(c, v);
        v
    }

    // ---- blocks ----

    pub fn end(&mut self, end: End) {
        self.code.blocks[self.current.index()].end = end;
    }

    pub fn switch(&mut self, block: Block) {
        self.current = block;
        self.constants.clear();
        self.integers.clear();
    }

    /// The first arguments are in registers, the others on the stack.
    fn take_arguments(&mut self) {
        let count = self.kernel.pointers as usize + self.kernel.symbols.len();
        let all: Parts = (0..count).map(|_| self.int()).collect();
        let in_registers = count.min(super::encode::ARGUMENTS);
        self.code.blocks[0].insts.push(Code::Arguments(all[..in_registers].to_vec()));
        for (i, &v) in all.iter().enumerate().skip(in_registers) {
            // Above the caller's frame record.
            let at = 16 + 8 * (i - in_registers) as i64;
            self.push(Row::LdrG, Size::D, [Reg::Def(v), FP], [at, 0]);
        }
        self.arguments = all;
    }

    pub fn argument(&self, n: usize) -> Parts {
        self.arguments.get(n).map(|&v| vec![v]).unwrap_or_default()
    }

    /// Emits statements in a scope of their own.
    pub fn scope(&mut self, statements: &[Stmt]) {
        self.sums.push(HashMap::new());
        self.prepared.push(HashMap::new());
        self.block(statements);
        self.sums.pop();
        self.prepared.pop();
    }

    fn block(&mut self, statements: &[Stmt]) {
        let mut rest = statements.iter().peekable();
        while let Some(statement) = rest.next() {
            match statement {
                // Instructions that define a value have no side effects.
                Stmt::Let(v) if self.uses.total(*v) == 0 => {}
                Stmt::Let(v) => match rest.peek() {
                    Some(Stmt::Let(all)) if self.is_spread_load(*v, *all) => {
                        let all = *all;
                        self.load_spread(*v, all);
                        rest.next();
                    }
                    _ => self.compute(*v),
                },
                Stmt::Store(to, v) => self.store(*to, *v),
                Stmt::StorePart(to, v, count) => self.store_part(*to, *v, *count),
                Stmt::For { index, start, end, step, carried, body } => {
                    self.counted_loop(*index, [*start, *end], *step, carried, body);
                }
                Stmt::If { condition, then, otherwise, results } => {
                    self.choice(*condition, then, otherwise, results);
                }
                Stmt::Prefetch(at) => self.prefetch(*at),
                Stmt::Copy { to, from, bytes } => self.copy(*to, Some(*from), *bytes),
                Stmt::Zero { to, bytes } => self.copy(*to, None, *bytes),
            }
        }
    }

    /// Whether a value is loaded only to be spread by the next statement.
    fn is_spread_load(&self, v: Val, all: Val) -> bool {
        let of = |v: Val| matches!(self.inst(v), kir::Inst::Load(_));
        matches!(*self.inst(all), kir::Inst::Splat(from) if from == v)
            && of(v)
            && self.uses.total(v) == 1
            && self.uses.total(all) > 0
            && self.ty(all).lanes > 1
    }

    /// Loads one element for all lanes.
    fn load_spread(&mut self, v: Val, all: Val) {
        let kir::Inst::Load(from) = *self.inst(v) else { return };
        let ty = self.ty(all);
        let size = size(ty.elem);
        if self.uses.all_by_lane(all) && (size == Size::S || ty.elem == Elem::F64) {
            let register = self.load_element(from, ty.elem);
            self.spreads.insert(all, Spread { register, lane: 0, size });
            return;
        }
        let register = self.load_everywhere(from, ty.elem);
        self.set(all, vec![register; part_count(ty)]);
    }

    /// An address's sum of base and index, if a register has it, and what is already added to that.
    pub fn known_sum(&self, a: Addr) -> Option<(VReg, i64)> {
        let key = (a.base, a.index?, a.scale);
        self.sums.iter().rev().find_map(|known| known.get(&key)).copied()
    }
}

/// The instruction that makes 16 bytes from an immediate.
fn immediate(bytes: &[u8]) -> Option<(Row, Size, [i64; 2])> {
    let repeats = |n: usize| bytes.chunks(n).all(|c| c == &bytes[..n]);
    let value = |n: usize| bytes[..n].iter().rev().fold(0u64, |v, &b| v << 8 | u64::from(b));
    if bytes.iter().all(|&b| b == 0) {
        return Some((Row::MoviD, Size::D, [0; 2]));
    }
    if repeats(1) {
        return Some((Row::MoviB, Size::B, [bytes[0].into(), 0]));
    }
    let one_byte = |v: u64, n: usize| {
        let at = (0..n).find(|at| v & !(0xff << (8 * at)) == 0)?;
        Some([(v >> (8 * at)) as i64, 8 * at as i64])
    };
    if repeats(2)
        && let Some(imms) = one_byte(value(2), 2)
    {
        return Some((Row::MoviH, Size::H, imms));
    }
    if repeats(4) {
        let v = value(4);
        if let Some(imms) = one_byte(v, 4) {
            return Some((Row::MoviS, Size::S, imms));
        }
        if let Some(imms) = one_byte(!v & 0xffff_ffff, 4) {
            return Some((Row::MvniS, Size::S, imms));
        }
        if let Some(byte) = short_float(f64::from(f32::from_bits(v as u32))) {
            return Some((Row::FmovImm, Size::S, [byte, 0]));
        }
    }
    if repeats(8) {
        return short_float(f64::from_bits(value(8))).map(|byte| (Row::FmovImm, Size::D, [byte, 0]));
    }
    None
}
