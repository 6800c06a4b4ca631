//! Loops and branches.

use super::Builder;
use crate::kir::{Carried, Inst, Stmt, Ty, Val};

/// Emits the statements of a loop's body: called once, whatever the number of rounds.
pub(super) type Body<'a> = Box<dyn FnOnce(&mut Builder, Val) + 'a>;
/// The same with the loop's carried values; returns those for the next round.
type FoldBody<'a> = Box<dyn FnOnce(&mut Builder, Val, &[Val]) -> Vec<Val> + 'a>;

/// Generic functions here only box their bodies: the rest is compiled once.
impl Builder {
    /// A loop without carried values.
    pub fn for_each(&mut self, start: Val, end: Val, step: i64, body: impl FnOnce(&mut Builder, Val)) {
        self.boxed_for_each(start, end, step, Box::new(body));
    }

    pub(super) fn boxed_for_each(&mut self, start: Val, end: Val, step: i64, body: Body<'_>) {
        let body = |k: &mut Builder, i: Val, _: &[Val]| {
            body(k, i);
            Vec::new()
        };
        self.boxed_fold_loop(start, end, step, &[], Box::new(body));
    }

    /// A loop that carries values between rounds; returns their final values.
    pub fn fold_loop(
        &mut self,
        start: Val,
        end: Val,
        step: i64,
        init: &[Val],
        body: impl FnOnce(&mut Builder, Val, &[Val]) -> Vec<Val>,
    ) -> Vec<Val> {
        self.boxed_fold_loop(start, end, step, init, Box::new(body))
    }

    fn boxed_fold_loop(&mut self, start: Val, end: Val, step: i64, init: &[Val], body: FoldBody<'_>) -> Vec<Val> {
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
        let (body, next) = self.block(|k| body(k, index, &inner));
        let carried = self.carried(init, &inner, &next);
        let results = carried.iter().map(|c| c.result).collect();
        self.push(Stmt::For { index, start, end, step, carried, body });
        results
    }

    /// The carried values of a loop, from the initial ones, those that its body sees, and those that its body computes.
    fn carried(&mut self, init: &[Val], inner: &[Val], next: &[Val]) -> Vec<Carried> {
        assert_eq!(next.len(), init.len(), "carried values");
        let mut carried = Vec::with_capacity(next.len());
        for ((&init, &inner), &next) in init.iter().zip(inner).zip(next) {
            assert_eq!(self.ty(init), self.ty(next), "type of a carried value");
            let result = self.new_val(Inst::Defined, self.ty(init));
            carried.push(Carried { inner, init, next, result });
        }
        carried
    }

    /// The statements that `body` emits, which are not in the kernel yet, and its result.
    pub(in crate::kir) fn block<R>(&mut self, body: impl FnOnce(&mut Builder) -> R) -> (Vec<Stmt>, R) {
        self.blocks.push(Vec::new());
        let result = body(self);
        (self.blocks.pop().unwrap_or_default(), result)
    }

    /// Adds statements at the current position.
    pub(in crate::kir) fn extend(&mut self, statements: Vec<Stmt>) {
        statements.into_iter().for_each(|s| self.push(s));
    }

    /// Runs `then` if a scalar mask is true.
    pub fn when(&mut self, condition: Val, then: impl FnOnce(&mut Builder)) {
        assert!(!self.hoisting);
        let (then, ()) = self.block(then);
        self.push(Stmt::If { condition, then, otherwise: Vec::new(), results: Vec::new() });
    }

    /// Computes values in one of two ways.
    pub fn choose(
        &mut self,
        condition: Val,
        then: impl FnOnce(&mut Builder) -> Vec<Val>,
        otherwise: impl FnOnce(&mut Builder) -> Vec<Val>,
    ) -> Vec<Val> {
        assert!(!self.hoisting);
        let (then, a) = self.block(then);
        let (otherwise, b) = self.block(otherwise);
        self.push_choice(condition, [then, otherwise], [a, b])
    }

    fn push_choice(&mut self, condition: Val, [then, otherwise]: [Vec<Stmt>; 2], [a, b]: [Vec<Val>; 2]) -> Vec<Val> {
        assert_eq!(a.len(), b.len(), "results of both branches");
        let results: Vec<_> =
            a.iter().zip(&b).map(|(&a, &b)| (self.new_val(Inst::Defined, self.ty(a)), a, b)).collect();
        let values = results.iter().map(|r| r.0).collect();
        self.push(Stmt::If { condition, then, otherwise, results });
        values
    }
}
