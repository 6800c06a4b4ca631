//! Counted loops.
//!
//! In an innermost loop, an address that advances with the index is a register of its own that advances as well, so that
//! accesses need only constant offsets; [`combine`](crate::aarch64::combine) lets one of them advance it. If nothing else
//! needs the index, the loop counts what is left of it.

use std::collections::{HashMap, HashSet};

use regalloc2::{RegClass, VReg};

use super::{Constants, Parts, Selector, Sum, class, spread_bytes};
use crate::aarch64::inst::End;
use crate::aarch64::operand::{Cc, Size};
use crate::aarch64::table::Row;
use crate::parts::part_count;
use mcc_kernel::kir::{Addr, Carried, Inst, Stmt, Ty, Val};

/// The most registers that advance with a loop.
const POINTERS: usize = 16;

/// The most vector registers for a loop's carried values and constants: the others are for its computations.
const HELD: usize = 20;

/// A register that advances with a loop.
struct Pointer {
    sum: Sum,
    /// What is added to the sum: the offset of its first access.
    ahead: i64,
}

/// The values that a loop uses: its address sums with their first offsets and numbers of accesses, and the rest.
#[derive(Default)]
struct Body {
    sums: Vec<(Addr, u32)>,
    others: HashSet<Val>,
    index_uses: u32,
    defined: HashSet<Val>,
}

impl Selector<'_> {
    /// The test is at the bottom; another one before the loop guards loops that may have no rounds. A loop of one round
    /// is its body.
    pub(super) fn counted_loop(&mut self, index: Val, bounds: [Val; 2], step: i64, carried: &[Carried], body: &[Stmt]) {
        let [start, end] = bounds;
        let known = (self.constant(start), self.constant(end));
        if let (Some(s), Some(e)) = known
            && s < e
            && s.checked_add(step).is_some_and(|next| next >= e)
        {
            return self.single_round(index, start, carried, body);
        }
        let init = self.all_parts(carried.iter().map(|c| c.init));
        let innermost = body.iter().all(|s| !has_loop(s));
        let constants = if innermost { self.make_constants(carried, body) } else { Constants::new() };
        let (inside, after) = (self.code.block(), self.code.block());
        let runs = matches!(known, (Some(s), Some(e)) if s < e);
        let (pointers, counts_down) = if innermost { self.pointers(index, carried, body) } else { (Vec::new(), false) };
        if !runs {
            let cc = self.compare_scalars(mcc_kernel::kir::Cmp::Lt, start, end);
            let (yes, no) = self.branch(cc);
            self.switch(no);
            self.end(End::Jump(after, init.clone()));
            self.switch(yes);
        }
        let counter = if counts_down { self.distance(start, end) } else { self.reg(start) };
        let mut enter: Parts = vec![counter];
        for pointer in &pointers {
            let first = self.first_address(pointer, start);
            enter.push(first);
        }
        enter.extend(init);
        self.end(End::Jump(inside, enter));
        let counter = self.param(inside, RegClass::Int);
        let registers: Vec<VReg> = pointers.iter().map(|_| self.param(inside, RegClass::Int)).collect();
        if !counts_down {
            self.set(index, vec![counter]);
        }
        for c in carried {
            self.define_as_params(inside, c.inner);
            self.define_as_params(after, c.result);
        }
        self.switch(inside);
        self.held = constants;
        let sums: HashMap<Sum, (VReg, i64)> =
            pointers.iter().zip(&registers).map(|(p, &r)| (p.sum, (r, p.ahead))).collect();
        self.sums.push(sums);
        self.scope(body);
        self.sums.pop();
        let next = self.all_parts(carried.iter().map(|c| c.next));
        let advanced: Vec<VReg> = pointers
            .iter()
            .zip(&registers)
            .map(|(p, &r)| self.plus(r, step.wrapping_mul(i64::from(p.sum.2))))
            .collect();
        let (there, cc) = if counts_down {
            (self.less(counter, step), Cc::Gt)
        } else {
            let there = self.plus(counter, step);
            self.compare_with(there, end);
            (there, Cc::Lt)
        };
        let (yes, no) = self.branch(cc);
        self.switch(yes);
        let round = [there].into_iter().chain(advanced).chain(next.iter().copied()).collect();
        self.end(End::Jump(inside, round));
        self.switch(no);
        let left = if innermost { self.copies(&next) } else { next };
        self.end(End::Jump(after, left));
        self.held.clear();
        self.switch(after);
    }

    /// Copies of vectors: the allocator then chooses registers for a loop's state without regard to what follows the loop,
    /// instead of spilling it in the loop because registers are short afterwards. Copies in the same register cost nothing.
    fn copies(&mut self, values: &[VReg]) -> Parts {
        let copy = |s: &mut Self, &v: &VReg| match v.class() {
            RegClass::Float => s.v(Row::OrrV, Size::B, &[v, v]),
            RegClass::Int | RegClass::Vector => v,
        };
        values.iter().map(|v| copy(self, v)).collect()
    }

    fn single_round(&mut self, index: Val, start: Val, carried: &[Carried], body: &[Stmt]) {
        let first = self.reg(start);
        self.set(index, vec![first]);
        for c in carried {
            let parts = self.parts(c.init);
            self.set(c.inner, parts);
        }
        self.scope(body);
        for c in carried {
            let parts = self.parts(c.next);
            self.set(c.result, parts);
        }
    }

    /// `end - start`.
    fn distance(&mut self, start: Val, end: Val) -> VReg {
        match (self.constant(start), self.constant(end)) {
            (Some(s), Some(e)) => self.int_constant(e.wrapping_sub(s)),
            (Some(0), None) => self.reg(end),
            _ => {
                let (start, end) = (self.reg(start), self.reg(end));
                self.g(Row::Sub, Size::D, &[end, start])
            }
        }
    }

    /// `counter - step`, and the flags of that comparison.
    fn less(&mut self, counter: VReg, step: i64) -> VReg {
        if (0..4096).contains(&step) {
            return self.gi(Row::SubsImm, Size::D, &[counter], step);
        }
        let step = self.int_constant(step);
        self.g(Row::Subs, Size::D, &[counter, step])
    }

    fn compare_with(&mut self, there: VReg, end: Val) {
        match self.constant(end) {
            Some(c) if (0..4096).contains(&c) => self.put(Row::CmpImm, Size::D, &[there], [c, 0]),
            _ => {
                let end = self.reg(end);
                self.put(Row::Cmp, Size::D, &[there, end], [0; 2]);
            }
        }
    }

    fn first_address(&mut self, pointer: &Pointer, start: Val) -> VReg {
        let (base, _, scale) = pointer.sum;
        let base = self.reg(base);
        let sum = match self.constant(start) {
            Some(c) => return self.plus(base, c.wrapping_mul(i64::from(scale)).wrapping_add(pointer.ahead)),
            None => {
                let start = self.reg(start);
                self.gi(Row::AddShifted, Size::D, &[base, start], scale.trailing_zeros().into())
            }
        };
        self.plus(sum, pointer.ahead)
    }

    /// The addresses of an innermost loop that get registers of their own, and whether the index is then unused.
    fn pointers(&self, index: Val, carried: &[Carried], statements: &[Stmt]) -> (Vec<Pointer>, bool) {
        let mut body = Body::default();
        body.defined.extend(carried.iter().map(|c| c.inner));
        self.survey(index, statements, &mut body);
        body.index_uses += carried.iter().filter(|c| c.next == index).count() as u32;
        let outside = |a: &Addr| !body.defined.contains(&a.base) && a.base != index;
        let (fits, others): (Vec<_>, Vec<_>) = body.sums.iter().partition(|(a, _)| outside(a));
        let unused = others.is_empty() && body.index_uses == 0 && fits.len() <= POINTERS;
        // A single access can add the index itself, if the index is needed anyway.
        let wanted = |a: &Addr, count: u32| unused || count > 1 || a.offset != 0;
        let pointers: Vec<Pointer> = fits
            .into_iter()
            .filter(|(a, count)| wanted(a, *count))
            .take(POINTERS)
            .map(|(a, _)| Pointer { sum: (a.base, index, a.scale), ahead: a.offset.into() })
            .collect();
        (pointers, unused)
    }

    fn survey(&self, index: Val, statements: &[Stmt], body: &mut Body) {
        for statement in statements {
            let (address, accesses, used) = match statement {
                Stmt::Let(v) => {
                    body.defined.insert(*v);
                    if self.uses.total(*v) == 0 {
                        continue;
                    }
                    let count = part_count(self.ty(*v)) as u32;
                    match *self.inst(*v) {
                        Inst::Load(a) => (Some(a), count, vec![]),
                        Inst::LoadPart(a, other) | Inst::LoadExpanded(a, other) => (Some(a), 2, vec![other]),
                        ref other => (None, 0, other.operands()),
                    }
                }
                Stmt::Store(a, v) => (Some(*a), part_count(self.ty(*v)) as u32, vec![*v]),
                Stmt::StorePart(a, v, count) => (Some(*a), 2, vec![*v, *count]),
                Stmt::Prefetch(a) => (Some(*a), 2, vec![]),
                Stmt::For { .. } | Stmt::If { .. } | Stmt::Copy { .. } | Stmt::Zero { .. } => {
                    (None, 0, statement.operands())
                }
            };
            for v in used {
                body.index_uses += u32::from(v == index);
                body.others.insert(v);
            }
            if let Some(a) = address {
                body.index_uses += u32::from(a.base == index);
                if a.index == Some(index) {
                    match body.sums.iter_mut().find(|(b, _)| (b.base, b.scale) == (a.base, a.scale)) {
                        Some((_, count)) => *count += accesses,
                        None => body.sums.push((a, accesses)),
                    }
                }
            }
            if let Stmt::If { results, .. } = statement {
                body.defined.extend(results.iter().map(|r| r.0));
            }
            statement.blocks().into_iter().for_each(|inner| self.survey(index, inner, body));
        }
    }

    /// Makes the vector constants of an innermost loop before it, if its other values leave enough registers.
    fn make_constants(&mut self, carried: &[Carried], body: &[Stmt]) -> Constants {
        let mut used = Body::default();
        self.survey(Val(u32::MAX), body, &mut used);
        let constant = |&v: &Val| self.lane_bytes(v).is_some() && class(self.ty(v)) == RegClass::Float;
        let mut constants: Vec<Val> = used.others.iter().copied().filter(constant).collect();
        constants.sort_unstable();
        let state: usize = carried
            .iter()
            .map(|c| (c.inner, self.ty(c.inner)))
            .filter(|c| is_vector(c.1))
            .map(|c| part_count(c.1))
            .sum();
        if state + constants.len() > HELD {
            return Constants::new();
        }
        let made = constants.into_iter().filter_map(|v| Some((spread_bytes(&self.lane_bytes(v)?), self.parts(v)[0])));
        made.collect()
    }
}

fn is_vector(ty: Ty) -> bool {
    class(ty) == RegClass::Float
}

fn has_loop(statement: &Stmt) -> bool {
    matches!(statement, Stmt::For { .. }) || statement.blocks().into_iter().flatten().any(has_loop)
}
