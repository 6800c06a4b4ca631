//! Kernels that several threads share.
//!
//! A shared kernel is called once for each of some parts of its work, in any order and on any threads, with the symbols
//! [`PART`] and [`PARTS`], its last ones. In each call its [parallel](super::Builder::parallel) loops run that part of their rounds; every
//! statement outside of them runs in every call. So that results do not depend on the number of parts:
//! - rounds of parallel loops do not read what other rounds write, of the same loop or another one;
//! - statements outside write the same in every call, to scratch memory only (each thread has its own), or stand in
//!   [`Builder::once`](super::Builder::once).
//!
//! The rounds of a loop do not change with the number of parts, and neither does the order of additions in them: results
//! are the same bit by bit.

use super::{Inst, Kernel};
use mcc_ir::Sym;

/// Name of the symbol that tells a shared kernel which part to do, from 0 on.
pub const PART: &str = "#part";
/// Name of the symbol that tells a shared kernel how many parts there are.
pub const PARTS: &str = "#parts";

/// What a builder knows of sharing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    /// Whether kernels are shared at all.
    pub(super) allowed: bool,
    /// Whether the builder is inside a parallel loop, or in what runs once.
    pub(super) inside: bool,
    /// Loops that are shared so far.
    pub(super) loops: u32,
}

/// Whether a symbol is one that sharing gives its value.
pub fn is_part(symbol: &Sym) -> bool {
    matches!(&*symbol.0, PART | PARTS)
}

impl Kernel {
    /// Whether the kernel takes a part of its work.
    pub fn is_shared(&self) -> bool {
        self.symbols.iter().any(is_part)
    }

    /// Makes [`PART`] and [`PARTS`] the last symbols.
    pub(super) fn parts_last(&mut self) {
        let place = |s: &Sym| [PART, PARTS].iter().position(|&p| p == &*s.0).map_or(0, |n| n + 1);
        let mut order: Vec<usize> = (0..self.symbols.len()).collect();
        order.sort_by_key(|&n| place(&self.symbols[n]));
        self.symbols = order.iter().map(|&n| self.symbols[n].clone()).collect();
        for (inst, _) in &mut self.insts {
            if let Inst::Symbol(n) = inst {
                *n = order.iter().position(|&o| o == *n as usize).map_or(*n, |new| new as u32);
            }
        }
    }
}
