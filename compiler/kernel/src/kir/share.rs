//! Kernels that several threads share.
//!
//! A shared kernel is called once per part of its work, in any order and on any threads, with the symbols [`PART`] and
//! [`PARTS`], its last ones. In each call, its [parallel](super::Builder::parallel) loops run that part of their
//! rounds; all statements outside them run in every call. To make results independent of the number of parts:
//! - rounds of parallel loops do not read what other rounds write, in the same loop or another one;
//! - statements outside write the same values in every call, to scratch memory only (each thread has its own), or are
//!   in [`Builder::once`](super::Builder::once).
//!
//! Neither a loop's rounds nor the order of additions in them depend on the number of parts: results are bitwise
//! identical.

use super::{Inst, Kernel};
use mcc_ir::Sym;

/// Name of the symbol for the part that a call of a shared kernel computes, from 0 on.
pub const PART: &str = "#part";
/// Name of the symbol for the number of parts of a shared kernel.
pub const PARTS: &str = "#parts";

/// The builder's state of sharing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    /// Whether kernels are shared at all.
    pub(super) allowed: bool,
    /// Whether the builder is inside a parallel loop, or in statements that run once.
    pub(super) inside: bool,
    /// Number of shared loops so far.
    pub(super) loops: u32,
}

/// Whether a symbol's value comes from sharing.
pub fn is_part(symbol: &Sym) -> bool {
    matches!(&*symbol.0, PART | PARTS)
}

impl Kernel {
    /// Whether a call of the kernel computes a part of its work.
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
