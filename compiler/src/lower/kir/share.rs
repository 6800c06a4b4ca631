//! Kernels that several threads share.
//!
//! A shared kernel is called once for each of some parts of its work, in any order and on any threads, with the symbols
//! [`PART`] and [`PARTS`], its last ones. In each call its [parallel](Builder::parallel) loops run that part of their rounds; every
//! statement outside of them runs in every call. So that results do not depend on the number of parts:
//! - rounds of parallel loops do not read what other rounds write, of the same loop or another one;
//! - statements outside write the same in every call, to scratch memory only (each thread has its own), or stand in
//!   [`Builder::once`].
//!
//! The rounds of a loop do not change with the number of parts, and neither does the order of additions in them: results
//! are the same bit by bit.

use super::{Bin, Builder, Cmp, Inst, Kernel, Val};
use crate::ir::{Dim, Sym};

/// Name of the symbol that tells a shared kernel which part to do, from 0 on.
pub const PART: &str = "#part";
/// Name of the symbol that tells a shared kernel how many parts there are.
pub const PARTS: &str = "#parts";

/// What a builder knows of sharing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    /// Whether kernels are shared at all.
    allowed: bool,
    /// Whether the builder is inside a parallel loop, or in what runs once.
    inside: bool,
    /// Loops that are shared so far.
    loops: u32,
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

impl Builder {
    /// Lets kernels be shared by this many threads; one thread shares nothing.
    pub fn with_threads(mut self, threads: u32) -> Builder {
        self.share.allowed = threads > 1;
        self
    }

    /// Whether a parallel loop here would be shared.
    pub fn shares(&self) -> bool {
        self.share.allowed && !self.share.inside
    }

    /// A loop whose rounds several threads may share. Inside another parallel loop it is like any other; where there is
    /// but one round, the parallel loops inside it are shared instead.
    pub fn parallel(&mut self, start: Val, end: Val, step: i64, body: &mut dyn FnMut(&mut Builder, Val)) {
        let rounds = self.as_int(start).zip(self.as_int(end)).map(|(s, e)| (e - s + step - 1).div_euclid(step));
        if !self.shares() {
            return self.for_each(start, end, step, body);
        }
        if rounds.is_some_and(|n| n <= 1) {
            let loops = self.share.loops;
            let statements = self.block(&mut |k| k.for_each(start, end, step, body));
            if self.share.loops > loops {
                return self.extend(statements);
            }
            let mut statements = Some(statements);
            return self.once(&mut |k| k.extend(statements.take().unwrap_or_default()));
        }
        self.share.loops += 1;
        let (part, parts) = (self.own_part(), self.all_parts());
        let size = self.sub(end, start);
        let size = self.add_int(size, step - 1);
        let step_val = self.int(step);
        let rounds = self.bin(Bin::Div, size, step_val);
        let next = self.add_int(part, 1);
        let mut bound = |part: Val| {
            let rounds = self.mul(rounds, part);
            let round = self.bin(Bin::Div, rounds, parts);
            let distance = self.mul_int(round, step);
            self.add(start, distance)
        };
        let (from, to) = (bound(part), bound(next));
        let to = self.bin(Bin::Min, to, end);
        self.inside(&mut |k| k.for_each(from, to, step, body));
    }

    /// Two nested loops from 0 on, whose pairs of rounds several threads may share.
    pub fn parallel_pairs(&mut self, outer: Val, inner: Val, body: &mut dyn FnMut(&mut Builder, Val, Val)) {
        let zero = self.int(0);
        let single = |v: Option<i64>| v.is_some_and(|n| n <= 1);
        if !self.shares() || single(self.as_int(inner)) {
            return self.parallel(zero, outer, 1, &mut |k, o| k.for_each(zero, inner, 1, &mut |k, i| body(k, o, i)));
        }
        if single(self.as_int(outer)) {
            return self.parallel(zero, outer, 1, &mut |k, o| k.parallel(zero, inner, 1, &mut |k, i| body(k, o, i)));
        }
        let pairs = self.mul(outer, inner);
        self.parallel(zero, pairs, 1, &mut |k, pair| {
            let o = k.bin(Bin::Div, pair, inner);
            let first = k.mul(o, inner);
            let i = k.sub(pair, first);
            body(k, o, i);
        });
    }

    /// Statements outside of parallel loops that run in one call only.
    pub fn once(&mut self, body: &mut dyn FnMut(&mut Builder)) {
        if !self.shares() {
            return body(self);
        }
        let (part, parts) = (self.own_part(), self.all_parts());
        let next = self.add_int(part, 1);
        let last = self.cmp(Cmp::Eq, next, parts);
        self.when(last, &mut |k| k.inside(body));
    }

    fn inside(&mut self, body: &mut dyn FnMut(&mut Builder)) {
        self.share.inside = true;
        body(self);
        self.share.inside = false;
    }

    fn own_part(&mut self) -> Val {
        self.dim(&Dim::sym(PART))
    }

    fn all_parts(&mut self) -> Val {
        self.dim(&Dim::sym(PARTS))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{interp, verify::verify};
    use super::*;

    /// Adds 1 to bytes: `once` to byte 0, a parallel loop to each of the next `n`, a loop of pairs to the `6 n` behind.
    fn counting(n: Option<i64>) -> Kernel {
        let mut k = Builder::new("count", 1).with_threads(2);
        let to = k.pointer(0);
        let n = n.map_or_else(|| Dim::sym("n"), Dim::from);
        let (zero, n, six) = (k.int(0), k.dim(&n), k.int(6));
        let add_one = |k: &mut Builder, at: Val| {
            let at = k.at_index(to, at, 1);
            let byte = super::super::Ty::new(super::super::Elem::I8, 1);
            let v = k.load(byte, at);
            let one = k.int_of(1, byte);
            let v = k.add(v, one);
            k.store(at, v);
        };
        k.once(&mut |k| add_one(k, zero));
        // Two in a round, the last round may be shorter.
        let end = k.add_int(n, 1);
        let one = k.int(1);
        k.parallel(one, end, 2, &mut |k, i| {
            let last = k.add_int(i, 2);
            let last = k.bin(Bin::Min, last, end);
            k.parallel(i, last, 1, &mut |k, i| add_one(k, i));
        });
        k.parallel_pairs(n, six, &mut |k, o, i| {
            let at = k.mul_int(o, 6);
            let at = k.add(at, i);
            let at = k.add(at, end);
            add_one(k, at);
        });
        k.finish()
    }

    #[test]
    fn every_round_runs_once() {
        for n in [0, 1, 2, 5, 8] {
            for kernel in [counting(None), counting(Some(n))] {
                verify(&kernel).unwrap();
                assert!(kernel.is_shared());
                for parts in [1, 2, 3, 7, 50] {
                    let mut memory = vec![vec![0; 1 + 7 * n as usize]];
                    for part in (0..parts).rev() {
                        let value = |s: &Sym| match &*s.0 {
                            PART => part,
                            PARTS => parts,
                            _ => n,
                        };
                        let symbols: Vec<i64> = kernel.symbols.iter().map(value).collect();
                        interp::run(&kernel, &mut memory, &symbols).unwrap();
                    }
                    assert!(memory[0].iter().all(|&b| b == 1), "{n} in {parts}: {:?}", memory[0]);
                }
            }
        }
    }

    #[test]
    fn one_thread_shares_nothing() {
        let mut k = Builder::new("t", 0).with_threads(1);
        let (zero, ten) = (k.int(0), k.int(10));
        k.parallel(zero, ten, 1, &mut |_, _| {});
        k.once(&mut |_| {});
        assert!(!k.finish().is_shared());
    }
}
