//! Checks a register allocation: every operand must find its value where the allocator claims.
//!
//! regalloc2's checker visits blocks in numeric order, and loses its state at a block that precedes all its
//! predecessors. So it gets the function, and the allocation, in reverse postorder.

use regalloc2::checker::Checker;
use regalloc2::{Block, Function, Inst, InstRange, MachineEnv, Operand, Output, PRegSet, ProgPoint, RegClass, VReg};

use super::Flat;
use mcc_ir::{Error, Result};

/// Checks an allocation.
///
/// # Errors
/// When an operand does not find its value: a bug of the allocator, or of its input.
pub fn check<I, C>(flat: &Flat<'_, I, C>, environment: &MachineEnv, allocated: &Output) -> Result<()> {
    let ordered = Ordered::new(flat);
    let mut checker = Checker::new(&ordered, environment);
    checker.prepare(&ordered.renumbered(allocated));
    checker.run().map_err(|e| Error::internal(format!("the allocation of registers is unsound: {e:?}")))
}

/// The reachable blocks, in reverse postorder.
struct Ordered<'a, I, C> {
    flat: &'a Flat<'a, I, C>,
    /// The number in the function of each block and each instruction.
    blocks: Vec<Block>,
    insts: Vec<Inst>,
    ranges: Vec<InstRange>,
    succs: Vec<Vec<Block>>,
    preds: Vec<Vec<Block>>,
}

impl<'a, I, C> Ordered<'a, I, C> {
    fn new(flat: &'a Flat<'a, I, C>) -> Ordered<'a, I, C> {
        let blocks = reverse_postorder(flat);
        let mut places = vec![None; flat.num_blocks()];
        for (n, b) in blocks.iter().enumerate() {
            places[b.index()] = Some(Block::new(n));
        }
        let place = |all: &[Block]| all.iter().filter_map(|b| places[b.index()]).collect();
        let (mut insts, mut ranges) = (Vec::new(), Vec::new());
        for &b in &blocks {
            let first = Inst::new(insts.len());
            insts.extend(flat.block_insns(b).iter());
            ranges.push(InstRange::new(first, Inst::new(insts.len())));
        }
        let succs = blocks.iter().map(|&b| place(flat.block_succs(b))).collect();
        let preds = blocks.iter().map(|&b| place(flat.block_preds(b))).collect();
        Ordered { flat, blocks, insts, ranges, succs, preds }
    }

    /// The function's allocation for the blocks in this order.
    fn renumbered(&self, of: &Output) -> Output {
        let mut own = Output { num_spillslots: of.num_spillslots, ..Output::default() };
        for (n, &old) in self.insts.iter().enumerate() {
            let point = |p: ProgPoint| ProgPoint::new(Inst::new(n), p.pos());
            let from = of.edits.partition_point(|e| e.0.inst() < old);
            let edits = of.edits[from..].iter().take_while(|e| e.0.inst() == old);
            own.edits.extend(edits.map(|(at, edit)| (point(*at), edit.clone())));
            own.inst_alloc_offsets.push(own.allocs.len() as u32);
            own.allocs.extend_from_slice(of.inst_allocs(old));
        }
        own
    }
}

fn reverse_postorder<I, C>(flat: &Flat<'_, I, C>) -> Vec<Block> {
    let entry = flat.entry_block();
    let mut seen = vec![false; flat.num_blocks()];
    seen[entry.index()] = true;
    let (mut open, mut order) = (vec![(entry, 0)], Vec::new());
    while let Some((block, next)) = open.last_mut() {
        let succ = flat.block_succs(*block).get(*next).copied();
        *next += 1;
        match succ {
            Some(b) if !seen[b.index()] => {
                seen[b.index()] = true;
                open.push((b, 0));
            }
            Some(_) => {}
            None => {
                order.push(*block);
                open.pop();
            }
        }
    }
    order.reverse();
    order
}

impl<I, C> Function for Ordered<'_, I, C> {
    fn num_insts(&self) -> usize {
        self.insts.len()
    }

    fn num_blocks(&self) -> usize {
        self.blocks.len()
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
        self.flat.block_params(self.blocks[block.index()])
    }

    fn is_ret(&self, inst: Inst) -> bool {
        self.flat.is_ret(self.insts[inst.index()])
    }

    fn is_branch(&self, inst: Inst) -> bool {
        self.flat.is_branch(self.insts[inst.index()])
    }

    fn branch_blockparams(&self, block: Block, inst: Inst, succ: usize) -> &[VReg] {
        self.flat.branch_blockparams(self.blocks[block.index()], self.insts[inst.index()], succ)
    }

    fn inst_operands(&self, inst: Inst) -> &[Operand] {
        self.flat.inst_operands(self.insts[inst.index()])
    }

    fn inst_clobbers(&self, inst: Inst) -> PRegSet {
        self.flat.inst_clobbers(self.insts[inst.index()])
    }

    fn num_vregs(&self) -> usize {
        self.flat.num_vregs()
    }

    fn spillslot_size(&self, class: RegClass) -> usize {
        self.flat.spillslot_size(class)
    }
}
