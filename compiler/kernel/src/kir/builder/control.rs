//! Loops and branches.

use super::Builder;
use crate::kir::{Carried, Inst, Stmt, Ty, Val};

impl Builder {
    /// A loop without carried values.
    pub fn for_each(&mut self, start: Val, end: Val, step: i64, body: &mut dyn FnMut(&mut Builder, Val)) {
        self.fold_loop(start, end, step, &[], &mut |k, i, _| {
            body(k, i);
            Vec::new()
        });
    }

    /// A loop that carries values from round to round; gives their last values.
    pub fn fold_loop(
        &mut self,
        start: Val,
        end: Val,
        step: i64,
        init: &[Val],
        body: &mut dyn FnMut(&mut Builder, Val, &[Val]) -> Vec<Val>,
    ) -> Vec<Val> {
        assert!(!self.hoisting && step > 0);
        if let (Some(s), Some(e)) = (self.as_int(start), self.as_int(end)) {
            if e <= s {
                return init.to_vec();
            }
            if e - s <= step {
                return body(self, start, init);
            }
        }
        let index = self.new_val(Inst::Defined, Ty::I64);
        let inner: Vec<Val> = init.iter().map(|&v| self.new_val(Inst::Defined, self.ty(v))).collect();
        self.blocks.push(Vec::new());
        let next = body(self, index, &inner);
        let block = self.blocks.pop().unwrap_or_default();
        assert_eq!(next.len(), init.len(), "carried values");
        let mut carried = Vec::new();
        for ((&init, &inner), &next) in init.iter().zip(&inner).zip(&next) {
            assert_eq!(self.ty(init), self.ty(next), "type of a carried value");
            let result = self.new_val(Inst::Defined, self.ty(init));
            carried.push(Carried { inner, init, next, result });
        }
        let results = carried.iter().map(|c| c.result).collect();
        self.push(Stmt::For { index, start, end, step, carried, body: block });
        results
    }

    /// The statements that something makes, which are not in the kernel yet.
    pub(in crate::kir) fn block(&mut self, body: &mut dyn FnMut(&mut Builder)) -> Vec<Stmt> {
        self.blocks.push(Vec::new());
        body(self);
        self.blocks.pop().unwrap_or_default()
    }

    /// Adds statements here.
    pub(in crate::kir) fn extend(&mut self, statements: Vec<Stmt>) {
        statements.into_iter().for_each(|s| self.push(s));
    }

    /// Does something when a scalar mask is true.
    pub fn when(&mut self, condition: Val, then: &mut dyn FnMut(&mut Builder)) {
        self.choose(
            condition,
            &mut |k| {
                then(k);
                Vec::new()
            },
            &mut |_| Vec::new(),
        );
    }

    /// One of two ways to compute values.
    pub fn choose(
        &mut self,
        condition: Val,
        then: &mut dyn FnMut(&mut Builder) -> Vec<Val>,
        otherwise: &mut dyn FnMut(&mut Builder) -> Vec<Val>,
    ) -> Vec<Val> {
        assert!(!self.hoisting);
        self.blocks.push(Vec::new());
        let a = then(self);
        let then = self.blocks.pop().unwrap_or_default();
        self.blocks.push(Vec::new());
        let b = otherwise(self);
        let otherwise = self.blocks.pop().unwrap_or_default();
        assert_eq!(a.len(), b.len(), "results of both branches");
        let results: Vec<_> =
            a.iter().zip(&b).map(|(&a, &b)| (self.new_val(Inst::Defined, self.ty(a)), a, b)).collect();
        let values = results.iter().map(|r| r.0).collect();
        self.push(Stmt::If { condition, then, otherwise, results });
        values
    }
}
