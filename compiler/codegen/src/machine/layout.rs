//! The order of blocks in memory: jumps to blocks that only jump are redirected, jumps to the next block are removed.

use regalloc2::Block;

use super::{End, VirtualCode};

/// How a placed block ends.
#[derive(Debug, Clone, Copy)]
pub enum Leave<C> {
    /// Returns.
    Return,
    /// The next block follows.
    Fall,
    /// Jumps to a block.
    Jump(usize),
    /// Jumps to a block if the condition holds, otherwise the next one follows.
    If(C, usize),
    /// Jumps to the first block if the condition holds, otherwise to the second.
    Either(C, usize, usize),
}

/// The blocks to place, in order, with their ends. `empty` says which have no instructions after the allocation of
/// registers, `inverse` gives the opposite of a condition.
pub fn layout<I, C: Copy>(
    code: &VirtualCode<I, C>,
    empty: impl Fn(usize) -> bool,
    inverse: impl Fn(C) -> C,
) -> Vec<(usize, Leave<C>)> {
    let through = |mut b: Block| {
        // At most as many steps as there are blocks: an empty loop would not terminate.
        for _ in 0..code.blocks.len() {
            match &code.blocks[b.index()].end {
                End::Jump(to, _) if empty(b.index()) => b = *to,
                _ => break,
            }
        }
        b.index()
    };
    let placed: Vec<usize> = (0..code.blocks.len()).filter(|&b| b == 0 || through(Block::new(b)) == b).collect();
    let ends = placed.iter().enumerate().map(|(i, &b)| {
        let next = placed.get(i + 1).copied();
        match &code.blocks[b].end {
            End::Return => Leave::Return,
            End::Jump(to, _) => match through(*to) {
                to if next == Some(to) => Leave::Fall,
                to => Leave::Jump(to),
            },
            End::Branch(cc, yes, no) => match (through(*yes), through(*no)) {
                (yes, no) if next == Some(yes) => Leave::If(inverse(*cc), no),
                (yes, no) if next == Some(no) => Leave::If(*cc, yes),
                (yes, no) => Leave::Either(*cc, yes, no),
            },
        }
    });
    placed.iter().copied().zip(ends).collect()
}
