//! Loops that threads share, see [`share`](crate::kir::share).

use super::Builder;
use super::control::Body;
use crate::kir::share::{PART, PARTS};
use crate::kir::{Bin, Cmp, Val};
use mcc_ir::Dim;

impl Builder {
    /// Allows kernels to be shared by this many threads; with one thread, nothing is shared.
    pub fn with_threads(mut self, threads: u32) -> Builder {
        self.share.allowed = threads > 1;
        self
    }

    /// Whether a parallel loop here would be shared.
    pub fn shares(&self) -> bool {
        self.share.allowed && !self.share.inside
    }

    /// A loop whose rounds several threads may share. Inside another parallel loop it is an ordinary loop; if it has
    /// only one round, the parallel loops inside it are shared instead.
    pub fn parallel(&mut self, start: Val, end: Val, step: i64, body: impl FnOnce(&mut Builder, Val)) {
        self.boxed_parallel(start, end, step, Box::new(body));
    }

    fn boxed_parallel(&mut self, start: Val, end: Val, step: i64, body: Body<'_>) {
        let rounds = self.as_int(start).zip(self.as_int(end)).map(|(s, e)| (e - s + step - 1).div_euclid(step));
        if !self.shares() {
            return self.boxed_for_each(start, end, step, body);
        }
        if rounds.is_some_and(|n| n <= 1) {
            let loops = self.share.loops;
            let (statements, ()) = self.block(|k| k.boxed_for_each(start, end, step, body));
            if self.share.loops > loops {
                return self.extend(statements);
            }
            return self.once(|k| k.extend(statements));
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
        self.inside(|k| k.boxed_for_each(from, to, step, body));
    }

    /// A loop that is parallel if `shared`.
    pub fn parallel_if(&mut self, shared: bool, start: Val, end: Val, step: i64, body: impl FnOnce(&mut Builder, Val)) {
        let body = Box::new(body);
        if shared { self.boxed_parallel(start, end, step, body) } else { self.boxed_for_each(start, end, step, body) }
    }

    /// Two nested loops from 0, whose pairs of rounds several threads may share.
    pub fn parallel_pairs(&mut self, outer: Val, inner: Val, body: impl FnOnce(&mut Builder, Val, Val)) {
        self.boxed_parallel_pairs(outer, inner, Box::new(body));
    }

    fn boxed_parallel_pairs(&mut self, outer: Val, inner: Val, body: Box<dyn FnOnce(&mut Builder, Val, Val) + '_>) {
        let zero = self.int(0);
        let single = |v: Option<i64>| v.is_some_and(|n| n <= 1);
        if !self.shares() || single(self.as_int(inner)) {
            return self.parallel(zero, outer, 1, |k, o| k.for_each(zero, inner, 1, |k, i| body(k, o, i)));
        }
        if single(self.as_int(outer)) {
            return self.parallel(zero, outer, 1, |k, o| k.parallel(zero, inner, 1, |k, i| body(k, o, i)));
        }
        let pairs = self.mul(outer, inner);
        self.parallel(zero, pairs, 1, |k, pair| {
            let o = k.bin(Bin::Div, pair, inner);
            let first = k.mul(o, inner);
            let i = k.sub(pair, first);
            body(k, o, i);
        });
    }

    /// Statements outside parallel loops that run in one call only.
    pub fn once(&mut self, body: impl FnOnce(&mut Builder)) {
        self.boxed_once(Box::new(body));
    }

    fn boxed_once(&mut self, body: Box<dyn FnOnce(&mut Builder) + '_>) {
        if !self.shares() {
            return body(self);
        }
        let (part, parts) = (self.own_part(), self.all_parts());
        let next = self.add_int(part, 1);
        let last = self.cmp(Cmp::Eq, next, parts);
        self.when(last, |k| k.inside(body));
    }

    fn inside(&mut self, body: impl FnOnce(&mut Builder)) {
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
    use super::*;
    use crate::kir::{Kernel, interp, verify::verify};
    use mcc_ir::Sym;

    /// Adds 1 to bytes: `once` to byte 0, a parallel loop to each of the next `n`, a loop of pairs to the next `6 n`.
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
        k.once(|k| add_one(k, zero));
        // Two per round; the last round may be shorter.
        let end = k.add_int(n, 1);
        let one = k.int(1);
        k.parallel(one, end, 2, |k, i| {
            let last = k.add_int(i, 2);
            let last = k.bin(Bin::Min, last, end);
            k.parallel(i, last, 1, |k, i| add_one(k, i));
        });
        k.parallel_pairs(n, six, |k, o, i| {
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
        k.parallel(zero, ten, 1, |_, _| {});
        k.once(|_| {});
        assert!(!k.finish().is_shared());
    }
}
