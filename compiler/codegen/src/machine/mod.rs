//! Machine code before register allocation, for every architecture: instructions on virtual registers in basic blocks,
//! and the allocator's view of them.
//!
//! Virtual registers are in SSA form. Values pass between blocks as block parameters, which only [`End::Jump`] passes;
//! the targets of an [`End::Branch`] have no other predecessor. What an instruction is, and which condition codes there
//! are, the emitter for an architecture says.

pub mod check;
pub mod layout;

use std::collections::HashMap;

use regalloc2::{Block, InstRange, Operand, PRegSet, RegClass, VReg};

/// The end of a block.
#[derive(Debug, Clone)]
pub enum End<C> {
    /// Jumps to a block, passing its parameters.
    Jump(Block, Vec<VReg>),
    /// Jumps to the first block if the condition holds, otherwise to the second.
    Branch(C, Block, Block),
    /// Returns.
    Return,
}

/// A basic block.
#[derive(Debug, Clone)]
pub struct BlockBody<I, C> {
    pub params: Vec<VReg>,
    pub insts: Vec<I>,
    pub end: End<C>,
}

/// A function, and its constants.
#[derive(Debug)]
pub struct VirtualCode<I, C> {
    pub blocks: Vec<BlockBody<I, C>>,
    pub vregs: usize,
    /// Constants, addressed by their offsets.
    pub pool: Vec<u8>,
    pooled: HashMap<Vec<u8>, i32>,
    /// Bytes of the function's own stack memory.
    pub frame: i32,
}

impl<I, C> Default for VirtualCode<I, C> {
    fn default() -> Self {
        VirtualCode { blocks: Vec::new(), vregs: 0, pool: Vec::new(), pooled: HashMap::new(), frame: 0 }
    }
}

impl<I, C> VirtualCode<I, C> {
    pub fn vreg(&mut self, class: RegClass) -> VReg {
        self.vregs += 1;
        VReg::new(self.vregs - 1, class)
    }

    pub fn block(&mut self) -> Block {
        self.blocks.push(BlockBody { params: Vec::new(), insts: Vec::new(), end: End::Return });
        Block::new(self.blocks.len() - 1)
    }

    /// The pool's offset of a constant, aligned to its length.
    pub fn pooled(&mut self, bytes: &[u8]) -> i32 {
        let pool = &mut self.pool;
        *self.pooled.entry(bytes.to_vec()).or_insert_with(|| {
            pool.resize(pool.len().next_multiple_of(bytes.len().max(1)), 0);
            pool.extend_from_slice(bytes);
            (pool.len() - bytes.len()) as i32
        })
    }

    /// The frame's offset of stack memory, aligned to 64 bytes.
    pub fn reserved(&mut self, bytes: i32) -> i32 {
        let at = self.frame;
        self.frame += (bytes + 63) & !63;
        at
    }
}

/// A function as the allocator sees it.
pub struct Flat<'a, I, C> {
    pub code: &'a VirtualCode<I, C>,
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

impl<'a, I, C> Flat<'a, I, C> {
    /// `operands_of` gives the registers of an instruction, in the order in which the encoder asks for them.
    pub fn new(
        code: &'a VirtualCode<I, C>,
        vector_bytes: usize,
        operands_of: impl Fn(&I) -> Vec<Operand>,
    ) -> Flat<'a, I, C> {
        let count = code.blocks.len();
        let (mut ranges, mut operands, mut ends) = (Vec::with_capacity(count), Vec::new(), Vec::new());
        let (mut succs, mut preds) = (Vec::with_capacity(count), vec![Vec::new(); count]);
        for (b, block) in code.blocks.iter().enumerate() {
            let first = operands.len();
            for inst in &block.insts {
                operands.push(operands_of(inst));
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

    fn end(&self, inst: regalloc2::Inst) -> Option<&End<C>> {
        self.ends[inst.index()].map(|b| &self.code.blocks[b.index()].end)
    }
}

impl<I, C> regalloc2::Function for Flat<'_, I, C> {
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
