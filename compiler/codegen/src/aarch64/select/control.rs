//! Branches, and the loops and branches within single instructions.

use regalloc2::{Block, RegClass, VReg};

use super::{Parts, Selector, class};
use crate::aarch64::inst::End;
use crate::aarch64::operand::{Cc, Size};
use crate::aarch64::table::Row;
use crate::parts::part_count;
use mcc_kernel::kir::{self, Elem, Stmt, Val};

impl Selector<'_> {
    /// Ends the block with a conditional jump; returns the blocks for true and false.
    pub fn branch(&mut self, cc: Cc) -> (Block, Block) {
        let (yes, no) = (self.code.block(), self.code.block());
        self.end(End::Branch(cc, yes, no));
        (yes, no)
    }

    pub fn param(&mut self, block: Block, class: RegClass) -> VReg {
        let v = self.code.vreg(class);
        self.code.blocks[block.index()].params.push(v);
        v
    }

    pub fn define_as_params(&mut self, block: Block, v: Val) {
        let ty = self.ty(v);
        let parts = (0..part_count(ty)).map(|_| self.param(block, class(ty))).collect();
        self.set(v, parts);
    }

    pub fn all_parts(&mut self, values: impl Iterator<Item = Val>) -> Parts {
        values.flat_map(|v| self.parts(v)).collect()
    }

    /// Sets the flags to a scalar mask.
    pub fn condition(&mut self, mask: Val) -> Cc {
        if let kir::Inst::Cmp(op, a, b) = *self.inst(mask)
            && self.ty(a).lanes == 1
        {
            return self.compare_scalars(op, a, b);
        }
        let mask = self.reg(mask);
        self.put(Row::CmpImm, Size::S, &[mask], [0; 2]);
        Cc::Ne
    }

    /// An instruction without a result.
    pub fn put(&mut self, row: Row, size: Size, from: &[VReg], imms: [i64; 2]) {
        let regs: Vec<_> = from.iter().map(|&v| crate::aarch64::inst::Reg::Use(v)).collect();
        self.push(row, size, regs, imms);
    }

    pub fn choice(&mut self, condition: Val, then: &[Stmt], otherwise: &[Stmt], results: &[(Val, Val, Val)]) {
        let cc = self.condition(condition);
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

    /// A machine-code loop: `body` gets the values, while at least `step` of `left` is left; returns the values and what
    /// is left after it. The values of the next round are `body`'s.
    pub fn machine_loop(
        &mut self,
        left: VReg,
        step: i64,
        values: &[VReg],
        body: impl FnOnce(&mut Self, &[VReg]) -> Vec<VReg>,
    ) -> (VReg, Vec<VReg>) {
        let (head, after) = (self.code.block(), self.code.block());
        let enter = [left].into_iter().chain(values.iter().copied()).collect();
        self.end(End::Jump(head, enter));
        let left = self.param(head, RegClass::Int);
        let values: Vec<VReg> = values.iter().map(|v| self.param(head, v.class())).collect();
        self.switch(head);
        let rest = self.gi(Row::SubsImm, Size::D, &[left], step);
        let (yes, no) = self.branch(Cc::Ge);
        self.switch(yes);
        let next = body(self, &values);
        self.end(End::Jump(head, [rest].into_iter().chain(next).collect()));
        self.switch(no);
        self.end(End::Jump(after, vec![]));
        self.switch(after);
        (left, values)
    }

    /// Emits `body` for when the condition holds; the values after it are its results or the ones before.
    pub fn machine_if(&mut self, cc: Cc, values: &[VReg], body: impl FnOnce(&mut Self) -> Vec<VReg>) -> Vec<VReg> {
        let after = self.code.block();
        let (yes, no) = self.branch(cc);
        self.switch(yes);
        let changed = body(self);
        self.end(End::Jump(after, changed));
        self.switch(no);
        self.end(End::Jump(after, values.to_vec()));
        let results = values.iter().map(|v| self.param(after, v.class())).collect();
        self.switch(after);
        results
    }

    /// A scalar mask in a general register from the flags.
    pub fn flag(&mut self, cc: Cc) -> VReg {
        self.gi(Row::Cset, Size::S, &[], cc as i64)
    }

    /// Whether a comparison is left to the branches and selections that use it.
    pub fn is_left_to_uses(&self, v: Val) -> bool {
        match *self.inst(v) {
            kir::Inst::Cmp(_, a, _) => self.ty(a).lanes == 1 && self.uses.all_conditions(v),
            _ => false,
        }
    }

    /// The lanes of a vector register that a scalar mask selects: all or none.
    pub fn mask_in_lanes(&mut self, mask: Val, elem: Elem) -> VReg {
        let cc = self.condition(mask);
        let all = self.gi(Row::Csetm, Size::D, &[], cc as i64);
        self.v(Row::DupG, super::size(elem), &[all])
    }
}
