//! Register allocation and encoding: from machine instructions on virtual registers to bytes.
//!
//! Registers: `rsp` points to the frame, `rbp` to the caller's arguments; the allocator uses all others. The frame has
//! the function's own memory, then the spilled registers. The constant pool follows the code, aligned to 64 bytes.

use std::collections::HashMap;

use iced_x86::{
    BlockEncoder, BlockEncoderOptions, BlockEncoderResult, Code as Opcode, IcedError, Instruction, InstructionBlock,
    MemoryOperand, Mnemonic, OpKind, Register,
};
use regalloc2::{
    Algorithm, Allocation, Block, Edit, InstOrEdit, MachineEnv, PReg, PRegSet, RegClass, RegallocOptions, SpillSlot,
};

use super::encodings::{Place, choose, only_low, vector_number};
use super::machine::{Base, Cc, Inst, Mem, Op, View, VirtualCode, operands_of};
use crate::machine::Flat;
use crate::machine::check::check;
use crate::machine::layout::{Leave, layout};
use crate::unwind::Frame;
use mcc_ir::{Error, Result};

/// A general register for the allocator, by its encoding number.
pub const fn gpr(n: usize) -> PReg {
    PReg::new(n, RegClass::Int)
}

pub const RAX: PReg = gpr(0);
pub const RCX: PReg = gpr(1);
pub const RDX: PReg = gpr(2);
pub const RSI: PReg = gpr(6);
pub const RDI: PReg = gpr(7);

/// The registers of the first arguments in the System V convention.
pub const ARGUMENTS: [PReg; 6] = [RDI, RSI, RDX, RCX, gpr(8), gpr(9)];

/// Callee-saved registers.
const SAVED: [usize; 5] = [3, 12, 13, 14, 15];
const NOT_SAVED: [usize; 9] = [0, 1, 2, 6, 7, 8, 9, 10, 11];

/// The properties of the target that the encoder depends on.
#[derive(Debug, Clone, Copy)]
pub struct Level {
    /// AVX-512: 32 vector registers, masks.
    pub avx512: bool,
    /// Widest view of a vector in the function.
    pub widest: View,
    /// Whether the allocator's input and its result are checked.
    pub checked: bool,
}

/// A function's code.
pub struct Assembled {
    /// Position-independent and without relocations.
    pub bytes: Vec<u8>,
    pub frame: Frame,
}

/// The code of a function.
///
/// # Errors
/// When the allocator or encoder fails, or a check of the allocation does: a bug of instruction selection.
pub fn assemble(code: &VirtualCode, level: Level) -> Result<Assembled> {
    let vector_bytes = match level.widest {
        View::Z => 64,
        View::Y => 32,
        _ => 16,
    };
    let flat = Flat::new(code, vector_bytes, |inst| operands_of(inst, level.avx512 && only_low(inst)));
    let environment = environment(level);
    let options = RegallocOptions { verbose_log: false, validate_ssa: level.checked, algorithm: Algorithm::Ion };
    let allocated = regalloc2::run(&flat, &environment, &options)
        .map_err(|e| Error::internal(format!("register allocation: {e:?}")))?;
    if level.checked {
        check(&flat, &environment, &allocated)?;
    }
    let mut e = Encoder {
        code,
        level,
        spills: code.frame,
        frame: (code.frame + 8 * allocated.num_spillslots as i32 + 63) & !63,
        saved: Vec::new(),
        out: Vec::new(),
    };
    let mut bodies = Vec::with_capacity(code.blocks.len());
    for b in 0..code.blocks.len() {
        for step in allocated.block_insts_and_edits(&flat, Block::new(b)) {
            match step {
                InstOrEdit::Edit(Edit::Move { from, to }) => e.transfer(*from, *to)?,
                InstOrEdit::Inst(n) => {
                    let at = n.index() - regalloc2::Function::block_insns(&flat, Block::new(b)).first().index();
                    if let Some(inst) = code.blocks[b].insts.get(at) {
                        e.instruction(inst, allocated.inst_allocs(n))?;
                    }
                }
            }
        }
        bodies.push(std::mem::take(&mut e.out));
    }
    e.layout(bodies)
}

fn refused(e: IcedError) -> Error {
    Error::internal(format!("x86 encoder: {e}"))
}

fn environment(level: Level) -> MachineEnv {
    let set = |class, numbers: &mut dyn Iterator<Item = usize>| {
        let mut set = PRegSet::empty();
        numbers.for_each(|n| set.add(PReg::new(n, class)));
        set
    };
    let vectors = if level.avx512 { 32 } else { 16 };
    MachineEnv {
        preferred_regs_by_class: [
            set(RegClass::Int, &mut NOT_SAVED.into_iter()),
            set(RegClass::Float, &mut (0..vectors)),
            // k0 as a mask operand means no mask.
            set(RegClass::Vector, &mut (1..8)),
        ],
        non_preferred_regs_by_class: [set(RegClass::Int, &mut SAVED.into_iter()), PRegSet::empty(), PRegSet::empty()],
        scratch_by_class: [None, None, None],
        fixed_stack_slots: Vec::new(),
    }
}

struct Encoder<'a> {
    code: &'a VirtualCode,
    level: Level,
    /// Offset of spilled registers in the frame.
    spills: i32,
    frame: i32,
    saved: Vec<usize>,
    out: Vec<Instruction>,
}

/// Addresses that represent blocks and the constant pool until the layout is known.
const BLOCKS: u64 = 1 << 40;
const POOL: u64 = 1 << 41;
/// Windows commits stack page by page, when the next page is touched; elsewhere this hits the guard page.
const PAGE: i32 = 4096;

/// Bytes that one entry of the pool declares.
const POOL_UNIT: usize = 4;

impl Encoder<'_> {
    fn register(&mut self, p: PReg, view: View) -> Register {
        let n = p.hw_enc() as u32;
        if p.class() == RegClass::Int && SAVED.contains(&(n as usize)) && !self.saved.contains(&(n as usize)) {
            self.saved.push(n as usize);
        }
        match view {
            View::B if n < 4 => Register::AL + n,
            View::B => Register::SPL + (n - 4),
            View::W => Register::AX + n,
            View::D => Register::EAX + n,
            View::Q => Register::RAX + n,
            View::X => Register::XMM0 + n,
            View::Y => Register::YMM0 + n,
            View::Z => Register::ZMM0 + n,
            View::K => Register::K0 + n,
        }
    }

    /// A move that the allocator requests.
    fn transfer(&mut self, from: Allocation, to: Allocation) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let class = from.as_reg().or(to.as_reg()).map_or(RegClass::Int, PReg::class);
        let (mnemonic, view) = match class {
            RegClass::Int => (Mnemonic::Mov, View::Q),
            RegClass::Float => (Mnemonic::Vmovups, self.level.widest),
            RegClass::Vector => (Mnemonic::Kmovq, View::K),
        };
        let mut place = |a: Allocation| match (a.as_reg(), a.as_stack()) {
            (Some(p), _) => Place::Register(self.register(p, view), view),
            (None, slot) => Place::Memory(self.slot(slot.unwrap_or(SpillSlot::new(0))), None),
        };
        let places = [place(to), place(from)];
        let mnemonic = match (mnemonic, places[1]) {
            (Mnemonic::Vmovups, Place::Register(..)) if matches!(places[0], Place::Register(..)) => Mnemonic::Vmovaps,
            _ => mnemonic,
        };
        let inst = Inst::new(mnemonic, []);
        let made = choose(&inst, &places, Register::None, self.level.avx512)?;
        self.out.push(made);
        Ok(())
    }

    fn slot(&self, slot: SpillSlot) -> MemoryOperand {
        MemoryOperand::with_base_displ(Register::RSP, i64::from(self.spills) + 8 * slot.index() as i64)
    }

    fn instruction(&mut self, inst: &Inst, allocs: &[Allocation]) -> Result<()> {
        match inst.mnemonic {
            Mnemonic::Movsb => self.out.push(Instruction::with_rep_movsb(64).map_err(refused)?),
            Mnemonic::Stosb => self.out.push(Instruction::with_rep_stosb(64).map_err(refused)?),
            _ => {}
        }
        let mut allocs = allocs.iter().map(|a| a.as_reg());
        let mut next = || allocs.next().flatten().ok_or_else(|| Error::internal("an operand without a register"));
        let mut places = Vec::with_capacity(inst.ops.len());
        for op in &inst.ops {
            places.push(match *op {
                Op::Def(_, view) | Op::Use(_, view) => Place::Register(self.register(next()?, view), view),
                Op::Mod(_, _, view) => {
                    next()?;
                    Place::Register(self.register(next()?, view), view)
                }
                Op::Mem(m) => {
                    let base = match m.base {
                        Base::Reg(_) => Some(next()?),
                        _ => None,
                    };
                    let index = match m.index {
                        Some((_, scale)) => Some((next()?, scale)),
                        None => None,
                    };
                    Place::Memory(self.memory(m, base, index), inst.memory_view)
                }
                Op::Imm(c) => Place::Immediate(c),
            });
        }
        let mask = match inst.mask {
            Some(_) => self.register(next()?, View::K),
            None => Register::None,
        };
        for _ in inst.fixed_uses.iter().chain(&inst.fixed_defs) {
            self.register(next()?, View::Q);
        }
        match (inst.mnemonic, places.as_slice()) {
            (Mnemonic::Movsb | Mnemonic::Stosb | Mnemonic::Nop, _) => return Ok(()),
            // A register that is zeroed by itself, whatever it held.
            (Mnemonic::Vpxor, &[Place::Register(r, _)]) => {
                let made = if vector_number(r) < 16 {
                    Instruction::with3(Opcode::VEX_Vpxor_xmm_xmm_xmmm128, r, r, r)
                } else {
                    Instruction::with3(Opcode::EVEX_Vpxord_xmm_k1z_xmm_xmmm128b32, r, r, r)
                };
                self.out.push(made.map_err(refused)?);
                return Ok(());
            }
            _ => {}
        }
        let made = choose(inst, &places, mask, self.level.avx512)?;
        let copies = [Mnemonic::Mov, Mnemonic::Vmovaps, Mnemonic::Kmovq].contains(&inst.mnemonic);
        // A 32-bit move clears the upper half: it is not a copy.
        let wide = !matches!(places.first(), Some(Place::Register(_, View::D)));
        if !(copies && wide && inst.mask.is_none() && places.len() == 2 && places[0] == places[1]) {
            self.out.push(made);
        }
        Ok(())
    }

    fn memory(&mut self, m: Mem, base: Option<PReg>, index: Option<(PReg, u8)>) -> MemoryOperand {
        let disp = i64::from(m.disp);
        let base = match (m.base, base) {
            (Base::Reg(_), Some(p)) => self.register(p, View::Q),
            (Base::Pool, _) => return MemoryOperand::with_base_displ(Register::RIP, POOL as i64 + disp),
            (Base::Incoming, _) => return MemoryOperand::with_base_displ(Register::RBP, 16 + disp),
            _ => Register::RSP,
        };
        match index {
            None => MemoryOperand::with_base_displ(base, disp),
            Some((p, scale)) => {
                let index = self.register(p, View::Q);
                let size = u32::from(disp != 0);
                MemoryOperand::new(base, index, scale.into(), disp, size, false, Register::None)
            }
        }
    }

    /// Joins the blocks.
    fn layout(mut self, bodies: Vec<Vec<Instruction>>) -> Result<Assembled> {
        let mut all = self.prologue().map_err(refused)?;
        let mut first = HashMap::new();
        let jump = |code: Opcode, to: usize| Instruction::with_branch(code, BLOCKS + to as u64).map_err(refused);
        for (b, leave) in layout(self.code, |b| bodies[b].is_empty(), Cc::inverse) {
            first.insert(b, all.len());
            all.extend(&bodies[b]);
            match leave {
                Leave::Return => all.extend(self.epilogue().map_err(refused)?),
                Leave::Fall => {}
                Leave::Jump(to) => all.push(jump(Opcode::Jmp_rel32_64, to)?),
                Leave::If(cc, to) => all.push(jump(jump_if(cc), to)?),
                Leave::Either(cc, yes, no) => {
                    all.push(jump(jump_if(cc), yes)?);
                    all.push(jump(Opcode::Jmp_rel32_64, no)?);
                }
            }
        }
        for (i, inst) in all.iter_mut().enumerate() {
            inst.set_ip(1 + i as u64);
        }
        // Targets are the first instructions of blocks.
        for inst in &mut all {
            if inst.op_count() > 0 && inst.op0_kind() == OpKind::NearBranch64 {
                let to = (inst.near_branch64() - BLOCKS) as usize;
                inst.set_near_branch64(1 + first[&to] as u64);
            }
        }
        let encoded = self.with_pool(all).map_err(refused)?;
        let frame = self.frame(&encoded.new_instruction_offsets);
        Ok(Assembled { bytes: encoded.code_buffer, frame })
    }

    /// What the prologue does, which begins with pushes.
    fn frame(&self, offsets: &[u32]) -> Frame {
        let behind = |n: usize| offsets.get(n + 1).copied().unwrap_or_default();
        let mut frame = Frame::default();
        frame.push(behind(0));
        frame.establish(behind(1));
        for (n, &register) in self.saved.iter().enumerate() {
            frame.save(behind(2 + n), gpr(register), 8 * (n as u32 + 1));
        }
        frame
    }

    fn with_pool(&self, mut all: Vec<Instruction>) -> std::result::Result<BlockEncoderResult, IcedError> {
        let encode = |all: &[Instruction]| {
            let block = InstructionBlock::new(all, 0);
            BlockEncoder::encode(64, block, BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS)
        };
        if self.code.pool.is_empty() {
            return encode(&all);
        }
        let code = all.len();
        let declare = |bytes: &[u8], ip: u64| -> std::result::Result<Instruction, IcedError> {
            let mut inst = Instruction::with_declare_byte(bytes)?;
            inst.set_ip(ip);
            Ok(inst)
        };
        for (i, unit) in self.code.pool.chunks(POOL_UNIT).enumerate() {
            all.push(declare(unit, POOL + (i * POOL_UNIT) as u64)?);
        }
        // The length of the code determines the padding before the pool.
        let length = encode(&all)?.code_buffer.len() - self.code.pool.len();
        let gap = vec![0xcc; length.next_multiple_of(64) - length];
        for (i, bytes) in gap.chunks(16).enumerate() {
            all.insert(code + i, declare(bytes, BLOCKS - 16 + i as u64)?);
        }
        encode(&all)
    }

    fn prologue(&mut self) -> std::result::Result<Vec<Instruction>, IcedError> {
        self.saved.sort_unstable();
        let mut all = vec![
            Instruction::with1(Opcode::Push_r64, Register::RBP)?,
            Instruction::with2(Opcode::Mov_r64_rm64, Register::RBP, Register::RSP)?,
        ];
        for &n in &self.saved {
            all.push(Instruction::with1(Opcode::Push_r64, Register::RAX + n as u32)?);
        }
        for page in (PAGE..=self.frame).step_by(PAGE as usize) {
            let touched = MemoryOperand::with_base_displ(Register::RSP, -i64::from(page));
            all.push(Instruction::with2(Opcode::Test_rm64_r64, touched, Register::RSP)?);
        }
        if self.frame > 0 {
            all.push(Instruction::with2(Opcode::Sub_rm64_imm32, Register::RSP, self.frame)?);
            all.push(Instruction::with2(Opcode::And_rm64_imm8, Register::RSP, -64)?);
        }
        Ok(all)
    }

    fn epilogue(&self) -> std::result::Result<Vec<Instruction>, IcedError> {
        let mut all = Vec::new();
        if self.level.widest >= View::Y {
            // The caller's code may use encodings that are slow while upper halves are dirty.
            all.push(Instruction::with(Opcode::VEX_Vzeroupper));
        }
        if self.frame > 0 {
            let top = MemoryOperand::with_base_displ(Register::RBP, -8 * self.saved.len() as i64);
            all.push(Instruction::with2(Opcode::Lea_r64_m, Register::RSP, top)?);
        }
        for &n in self.saved.iter().rev() {
            all.push(Instruction::with1(Opcode::Pop_r64, Register::RAX + n as u32)?);
        }
        all.push(Instruction::with1(Opcode::Pop_r64, Register::RBP)?);
        all.push(Instruction::with(Opcode::Retnq));
        Ok(all)
    }
}

fn jump_if(cc: Cc) -> Opcode {
    match cc {
        Cc::E => Opcode::Je_rel32_64,
        Cc::Ne => Opcode::Jne_rel32_64,
        Cc::L => Opcode::Jl_rel32_64,
        Cc::Le => Opcode::Jle_rel32_64,
        Cc::G => Opcode::Jg_rel32_64,
        Cc::Ge => Opcode::Jge_rel32_64,
        Cc::B => Opcode::Jb_rel32_64,
        Cc::Be => Opcode::Jbe_rel32_64,
        Cc::A => Opcode::Ja_rel32_64,
        Cc::Ae => Opcode::Jae_rel32_64,
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
