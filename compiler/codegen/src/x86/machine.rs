//! Machine instructions on virtual registers, in basic blocks: the output of instruction selection and the input of the
//! register allocator.
//!
//! - An instruction is a mnemonic and its operands in the order of Intel's manuals; [`super::encode`] selects the
//!   encoding when the registers are known.
//! - Virtual registers are in SSA form. Values pass between blocks as block parameters, which only [`End::Jump`]
//!   passes; the targets of an [`End::Branch`] have no other predecessor.

use std::collections::HashMap;

use iced_x86::Mnemonic;
use regalloc2::{Block, InstRange, Operand, OperandConstraint, OperandKind, OperandPos, PReg, PRegSet, RegClass, VReg};

/// The width at which an operand accesses a register, which determines the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// 8 bits.
    B,
    /// 16 bits.
    W,
    /// 32 bits.
    D,
    /// 64 bits.
    Q,
    /// 128-bit vector.
    X,
    /// 256-bit vector.
    Y,
    /// 512-bit vector.
    Z,
    /// Mask.
    K,
}

/// The base of a memory operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// At a register's address.
    Reg(VReg),
    /// In the constant pool.
    Pool,
    /// In the function's own memory on the stack.
    Frame,
    /// In the caller's stack arguments.
    Incoming,
}

/// A memory operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mem {
    pub base: Base,
    /// A register and its scale.
    pub index: Option<(VReg, u8)>,
    pub disp: i32,
}

/// An operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Written.
    Def(VReg, View),
    /// Read.
    Use(VReg, View),
    /// The first is written in place of the second.
    Mod(VReg, VReg, View),
    Mem(Mem),
    Imm(i64),
}

/// A machine instruction.
#[derive(Debug, Clone)]
pub struct Inst {
    pub mnemonic: Mnemonic,
    pub ops: Vec<Op>,
    /// Registers that the instruction reads and writes implicitly.
    pub fixed_uses: Vec<(VReg, PReg)>,
    pub fixed_defs: Vec<(VReg, PReg)>,
    /// Lanes to compute; without [`zeroing`](Inst::zeroing) the others keep the first operand's values.
    pub mask: Option<VReg>,
    pub zeroing: bool,
    /// Whether the memory operand is one element for all lanes.
    pub broadcast: bool,
    /// Whether only the AVX-512 encoding is valid.
    pub evex: bool,
    /// The view that a memory operand would have as a register, if no other operand determines its width.
    pub memory_view: Option<View>,
}

impl Inst {
    pub fn new(mnemonic: Mnemonic, ops: impl Into<Vec<Op>>) -> Inst {
        Inst {
            mnemonic,
            ops: ops.into(),
            fixed_uses: Vec::new(),
            fixed_defs: Vec::new(),
            mask: None,
            zeroing: false,
            broadcast: false,
            evex: false,
            memory_view: None,
        }
    }

    pub fn masked(self, mask: VReg, zeroing: bool) -> Inst {
        Inst { mask: Some(mask), zeroing, evex: true, ..self }
    }

    pub fn fixed(self, uses: &[(VReg, PReg)], defs: &[(VReg, PReg)]) -> Inst {
        Inst { fixed_uses: uses.to_vec(), fixed_defs: defs.to_vec(), ..self }
    }
}

/// The end of a block.
#[derive(Debug, Clone)]
pub enum End {
    /// Jumps to a block, passing its parameters.
    Jump(Block, Vec<VReg>),
    /// Jumps to the first block if the condition holds, otherwise to the second.
    Branch(Cc, Block, Block),
    /// Returns.
    Return,
}

/// Condition codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cc {
    E,
    Ne,
    L,
    Le,
    G,
    Ge,
    B,
    Be,
    A,
    Ae,
}

impl Cc {
    pub fn inverse(self) -> Cc {
        match self {
            Cc::E => Cc::Ne,
            Cc::Ne => Cc::E,
            Cc::L => Cc::Ge,
            Cc::Ge => Cc::L,
            Cc::Le => Cc::G,
            Cc::G => Cc::Le,
            Cc::B => Cc::Ae,
            Cc::Ae => Cc::B,
            Cc::Be => Cc::A,
            Cc::A => Cc::Be,
        }
    }
}

/// A basic block.
#[derive(Debug, Clone)]
pub struct BlockBody {
    pub params: Vec<VReg>,
    pub insts: Vec<Inst>,
    pub end: End,
}

/// A function, and its constants.
#[derive(Debug, Default)]
pub struct VirtualCode {
    pub blocks: Vec<BlockBody>,
    pub vregs: usize,
    /// Constants, addressed by [`Base::Pool`] and an offset.
    pub pool: Vec<u8>,
    pooled: HashMap<Vec<u8>, i32>,
    /// Bytes of the function's own stack memory.
    pub frame: i32,
}

impl VirtualCode {
    pub fn vreg(&mut self, class: RegClass) -> VReg {
        self.vregs += 1;
        VReg::new(self.vregs - 1, class)
    }

    pub fn block(&mut self) -> Block {
        self.blocks.push(BlockBody { params: Vec::new(), insts: Vec::new(), end: End::Return });
        Block::new(self.blocks.len() - 1)
    }

    /// A constant in memory, aligned to its length.
    pub fn constant(&mut self, bytes: &[u8]) -> Mem {
        let pool = &mut self.pool;
        let at = *self.pooled.entry(bytes.to_vec()).or_insert_with(|| {
            pool.resize(pool.len().next_multiple_of(bytes.len().max(1)), 0);
            pool.extend_from_slice(bytes);
            (pool.len() - bytes.len()) as i32
        });
        Mem { base: Base::Pool, index: None, disp: at }
    }

    /// Stack memory, aligned to 64 bytes.
    pub fn room(&mut self, bytes: i32) -> Mem {
        let disp = self.frame;
        self.frame += (bytes + 63) & !63;
        Mem { base: Base::Frame, index: None, disp }
    }
}

/// A function as the allocator sees it.
pub struct Flat<'a> {
    pub code: &'a VirtualCode,
    /// Bytes of a vector register that must be preserved.
    pub vector_bytes: usize,
    /// First instruction of each block; the block's end is its last one.
    ranges: Vec<InstRange>,
    operands: Vec<Vec<Operand>>,
    /// Block of each instruction that ends one.
    ends: Vec<Option<Block>>,
    succs: Vec<Vec<Block>>,
    preds: Vec<Vec<Block>>,
}

impl<'a> Flat<'a> {
    /// `low` selects the instructions that can use only the first sixteen vector registers.
    pub fn new(code: &'a VirtualCode, vector_bytes: usize, low: impl Fn(&Inst) -> bool) -> Flat<'a> {
        let count = code.blocks.len();
        let (mut ranges, mut operands, mut ends) = (Vec::with_capacity(count), Vec::new(), Vec::new());
        let (mut succs, mut preds) = (Vec::with_capacity(count), vec![Vec::new(); count]);
        for (b, block) in code.blocks.iter().enumerate() {
            let first = operands.len();
            for inst in &block.insts {
                operands.push(operands_of(inst, low(inst)));
                ends.push(None);
            }
            operands.push(Vec::new());
            ends.push(Some(Block::new(b)));
            ranges.push(InstRange::new(regalloc2::Inst::new(first), regalloc2::Inst::new(operands.len())));
            let targets = match &block.end {
                End::Jump(to, _) => vec![*to],
                End::Branch(_, yes, no) => vec![*yes, *no],
                End::Return => Vec::new(),
            };
            for to in &targets {
                preds[to.index()].push(Block::new(b));
            }
            succs.push(targets);
        }
        Flat { code, vector_bytes, ranges, operands, ends, succs, preds }
    }

    fn end(&self, inst: regalloc2::Inst) -> Option<&End> {
        self.ends[inst.index()].map(|b| &self.code.blocks[b.index()].end)
    }
}

/// Number of vector registers that legacy encodings can name.
const LOW: usize = 16;

/// The registers of an instruction, in the order of [`Allocated`](super::encode): operands, bases and indices, mask,
/// fixed ones. A [`Op::Mod`] has two, the one read first. `low`: vectors must be in the first registers.
fn operands_of(inst: &Inst, low: bool) -> Vec<Operand> {
    let mut operands = Vec::with_capacity(6);
    let operand = |v: VReg, kind, position| {
        let limited = low && v.class() == RegClass::Float;
        let constraint = if limited { OperandConstraint::Limit(LOW) } else { OperandConstraint::Reg };
        Operand::new(v, constraint, kind, position)
    };
    let read = |v: VReg| operand(v, OperandKind::Use, OperandPos::Early);
    for op in &inst.ops {
        match *op {
            Op::Def(v, _) => operands.push(operand(v, OperandKind::Def, OperandPos::Late)),
            Op::Use(v, _) => operands.push(read(v)),
            Op::Mod(to, from, _) => {
                operands.push(read(from));
                operands.push(Operand::reg_reuse_def(to, operands.len() - 1));
            }
            Op::Mem(m) => {
                if let Base::Reg(v) = m.base {
                    operands.push(read(v));
                }
                if let Some((v, _)) = m.index {
                    operands.push(read(v));
                }
            }
            Op::Imm(_) => {}
        }
    }
    operands.extend(inst.mask.map(read));
    operands.extend(inst.fixed_uses.iter().map(|&(v, p)| Operand::reg_fixed_use(v, p)));
    operands.extend(inst.fixed_defs.iter().map(|&(v, p)| Operand::reg_fixed_def(v, p)));
    operands
}

impl regalloc2::Function for Flat<'_> {
    fn num_insts(&self) -> usize {
        self.operands.len()
    }

    fn num_blocks(&self) -> usize {
        self.code.blocks.len()
    }

    fn entry_block(&self) -> Block {
        Block::new(0)
    }

    fn block_insns(&self, block: Block) -> InstRange {
        self.ranges[block.index()]
    }

    fn block_succs(&self, block: Block) -> &[Block] {
        &self.succs[block.index()]
    }

    fn block_preds(&self, block: Block) -> &[Block] {
        &self.preds[block.index()]
    }

    fn block_params(&self, block: Block) -> &[VReg] {
        &self.code.blocks[block.index()].params
    }

    fn is_ret(&self, inst: regalloc2::Inst) -> bool {
        matches!(self.end(inst), Some(End::Return))
    }

    fn is_branch(&self, inst: regalloc2::Inst) -> bool {
        matches!(self.end(inst), Some(End::Jump(..) | End::Branch(..)))
    }

    fn branch_blockparams(&self, block: Block, _: regalloc2::Inst, _: usize) -> &[VReg] {
        match &self.code.blocks[block.index()].end {
            End::Jump(_, values) => values,
            End::Branch(..) | End::Return => &[],
        }
    }

    fn inst_operands(&self, inst: regalloc2::Inst) -> &[Operand] {
        &self.operands[inst.index()]
    }

    fn inst_clobbers(&self, _: regalloc2::Inst) -> PRegSet {
        PRegSet::empty()
    }

    fn num_vregs(&self) -> usize {
        self.code.vregs
    }

    fn spillslot_size(&self, class: RegClass) -> usize {
        match class {
            RegClass::Float => self.vector_bytes / 8,
            RegClass::Int | RegClass::Vector => 1,
        }
    }
}
