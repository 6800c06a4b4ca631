//! Loops and branches: those of the kernel, and those within single instructions.

use iced_x86::Mnemonic as M;
use regalloc2::{Block, RegClass, VReg};

use super::{Parts, Selector, scalars};
use crate::x86::machine::{Base, Cc, End, Mem, Op, View};
use mcc_kernel::kir::{self, Carried, Stmt, Val};

impl Selector<'_> {
    /// Ends the block with a conditional jump; returns the blocks for true and false.
    fn branch(&mut self, cc: Cc) -> (Block, Block) {
        let (yes, no) = (self.code.block(), self.code.block());
        self.end(End::Branch(cc, yes, no));
        (yes, no)
    }

    fn param(&mut self, block: Block, class: RegClass) -> VReg {
        let v = self.code.vreg(class);
        self.code.blocks[block.index()].params.push(v);
        v
    }

    fn define_as_params(&mut self, block: Block, v: Val) {
        let ty = self.ty(v);
        let class = self.class(ty);
        let parts = (0..self.part_count(ty)).map(|_| self.param(block, class)).collect();
        self.set(v, parts);
    }

    fn all_parts(&mut self, values: impl Iterator<Item = Val>) -> Parts {
        values.flat_map(|v| self.parts(v)).collect()
    }

    /// The test is at the bottom; another one before the loop guards loops that may have no rounds. A loop of one round
    /// is its body.
    pub(super) fn counted_loop(
        &mut self,
        index: Val,
        start: Val,
        end: Val,
        step: i64,
        carried: &[Carried],
        body: &[Stmt],
    ) {
        let init = self.all_parts(carried.iter().map(|c| c.init));
        let first = self.reg(start);
        let bounds = (self.constant(start), self.constant(end));
        if let (Some(s), Some(e)) = bounds
            && s < e
            && s.checked_add(step).is_some_and(|next| next >= e)
        {
            self.set(index, vec![first]);
            let mut init = init.into_iter();
            for c in carried {
                let parts = init.by_ref().take(self.part_count(self.ty(c.inner))).collect();
                self.set(c.inner, parts);
            }
            self.scope(body);
            for c in carried {
                let parts = self.parts(c.next);
                self.set(c.result, parts);
            }
            return;
        }
        let (inside, after) = (self.code.block(), self.code.block());
        let enter: Parts = [first].into_iter().chain(init.iter().copied()).collect();
        match bounds {
            (Some(s), Some(e)) if s < e => self.end(End::Jump(inside, enter)),
            _ => {
                self.compare_ints(start, end, View::Q);
                let (yes, no) = self.branch(Cc::L);
                self.switch(yes);
                self.end(End::Jump(inside, enter));
                self.switch(no);
                self.end(End::Jump(after, init));
            }
        }
        let index_param = self.param(inside, RegClass::Int);
        self.set(index, vec![index_param]);
        for c in carried {
            self.define_as_params(inside, c.inner);
            self.define_as_params(after, c.result);
        }
        self.switch(inside);
        self.scope(body);
        let next = self.all_parts(carried.iter().map(|c| c.next));
        let there = self.int();
        self.emit(M::Add, &[Op::Mod(there, index_param, View::Q), Op::Imm(step)]);
        let bound = self.int_operand(end);
        self.emit(M::Cmp, &[Op::Use(there, View::Q), bound]);
        let (yes, no) = self.branch(Cc::L);
        self.switch(yes);
        let round: Parts = [there].into_iter().chain(next.iter().copied()).collect();
        self.end(End::Jump(inside, round));
        self.switch(no);
        self.end(End::Jump(after, next));
        self.switch(after);
    }

    pub(super) fn choice(&mut self, condition: Val, then: &[Stmt], otherwise: &[Stmt], results: &[(Val, Val, Val)]) {
        let cc = match *self.inst(condition) {
            kir::Inst::Cmp(op, a, b) if !self.ty(a).elem.is_float() && self.ty(a).lanes == 1 => {
                let view = scalars::view(self.ty(a).elem);
                self.compare_ints(a, b, view);
                scalars::condition_code(op)
            }
            _ => {
                let c = self.reg(condition);
                self.emit(M::Test, &[Op::Use(c, View::D), Op::Use(c, View::D)]);
                Cc::Ne
            }
        };
        let after = self.code.block();
        let (yes, no) = self.branch(cc);
        self.switch(yes);
        self.scope(then);
        let values = self.all_parts(results.iter().map(|r| r.1));
        self.end(End::Jump(after, values));
        self.switch(no);
        self.scope(otherwise);
        let values = self.all_parts(results.iter().map(|r| r.2));
        self.end(End::Jump(after, values));
        for r in results {
            self.define_as_params(after, r.0);
        }
        self.switch(after);
    }

    /// A machine-code loop: `body` gets the index, starting at zero, by `step` while `index + step <= end`. Returns the
    /// index after it.
    pub fn machine_loop(&mut self, end: VReg, step: i64, body: impl FnOnce(&mut Self, VReg)) -> VReg {
        let (head, after) = (self.code.block(), self.code.block());
        let zero = self.int_constant(0);
        let last = self.int();
        self.emit(
            M::Lea,
            &[Op::Def(last, View::Q), Op::Mem(Mem { base: Base::Reg(end), index: None, disp: -(step as i32) })],
        );
        self.end(End::Jump(head, vec![zero]));
        let index = self.param(head, RegClass::Int);
        self.switch(head);
        self.emit(M::Cmp, &[Op::Use(index, View::Q), Op::Use(last, View::Q)]);
        let (yes, no) = self.branch(Cc::Le);
        self.switch(yes);
        body(self, index);
        let next = self.int();
        self.emit(M::Add, &[Op::Mod(next, index, View::Q), Op::Imm(step)]);
        self.end(End::Jump(head, vec![next]));
        self.switch(no);
        self.end(End::Jump(after, vec![]));
        self.switch(after);
        index
    }

    /// Emits `body` for when the condition holds.
    pub fn machine_if(&mut self, cc: Cc, body: impl FnOnce(&mut Self)) {
        let after = self.code.block();
        let (yes, no) = self.branch(cc);
        self.switch(yes);
        body(self);
        self.end(End::Jump(after, vec![]));
        self.switch(no);
        self.end(End::Jump(after, vec![]));
        self.switch(after);
    }
}
