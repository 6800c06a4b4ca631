//! Loads and stores of some lanes: whole if all lanes are valid, otherwise one lane after another up to the last valid
//! one.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, Value, types};

use super::{FLAGS, Parts, Translator, part_type, scalar_type, vector_type};
use crate::parts::{part_count, place};
use mcc_kernel::kir::{Addr, Ty, Val};

impl Translator<'_> {
    pub(super) fn load_part(&mut self, from: Addr, count: Val, ty: Ty) -> Parts {
        let count = self.scalar(count);
        // Computed here, so that it dominates all the blocks below.
        self.address(from);
        let done = self.b.create_block();
        let result: Parts = (0..part_count(ty)).map(|_| self.b.append_block_param(done, part_type(ty))).collect();
        self.whole_or(count, ty, |f| {
            let parts = f.load(from, ty);
            f.b.ins().jump(done, &arguments(&parts));
        });
        let mut parts = vec![self.int_or_float_zero(ty); part_count(ty)];
        for lane in 0..ty.lanes - u32::from(ty.lanes > 1) {
            let next = self.b.create_block();
            let counts = self.counts(count, lane);
            self.b.ins().brif(counts, next, &[], done, &arguments(&parts));
            self.switch_to(next);
            let (base, offset) = self.address(from);
            let at = offset + (lane * ty.elem.bytes()) as i32;
            let scalar = self.b.ins().load(scalar_type(ty.elem), FLAGS, base, at);
            if ty.lanes == 1 {
                parts = vec![scalar];
            } else {
                let (part, at) = place(ty, lane);
                parts[part] = self.b.ins().insertlane(parts[part], scalar, at);
            }
        }
        self.b.ins().jump(done, &arguments(&parts));
        self.switch_to(done);
        result
    }

    pub(super) fn store_part(&mut self, to: Addr, v: Val, count: Val) {
        let ty = self.ty(v);
        let count = self.scalar(count);
        self.address(to);
        let parts = self.parts(v);
        let done = self.b.create_block();
        self.whole_or(count, ty, |f| {
            f.store(to, v);
            f.b.ins().jump(done, &[]);
        });
        for lane in 0..ty.lanes - u32::from(ty.lanes > 1) {
            let next = self.b.create_block();
            let counts = self.counts(count, lane);
            self.b.ins().brif(counts, next, &[], done, &[]);
            self.switch_to(next);
            let scalar = self.lane(&parts, ty, lane);
            let (base, offset) = self.address(to);
            self.b.ins().store(FLAGS, scalar, base, offset + (lane * ty.elem.bytes()) as i32);
        }
        self.b.ins().jump(done, &[]);
        self.switch_to(done);
    }

    /// See [`Inst::LoadExpanded`](mcc_kernel::kir::Inst::LoadExpanded): a byte at a time.
    pub(super) fn load_expanded(&mut self, from: Addr, mask: Val, ty: Ty) -> Parts {
        let ((mut at, offset), mask) = (self.address(from), self.scalar(mask));
        self.lane_by_lane(ty, |f, lane| {
            let (lane, one) = (f.b.ins().iconst(types::I64, i64::from(lane)), f.b.ins().iconst(types::I64, 1));
            let bit = f.b.ins().ushr(mask, lane);
            let bit = f.b.ins().band(bit, one);
            let byte = f.b.ins().load(types::I8, FLAGS, at, offset);
            at = f.b.ins().iadd(at, bit);
            let bit = f.b.ins().ireduce(types::I8, bit);
            f.b.ins().imul(byte, bit)
        })
    }

    /// Runs `whole`, which ends its block, if all lanes are valid; continues in the other case.
    fn whole_or(&mut self, count: Value, ty: Ty, mut whole: impl FnMut(&mut Self)) {
        let (all, some) = (self.b.create_block(), self.b.create_block());
        let counts = self.counts(count, ty.lanes - 1);
        self.b.ins().brif(counts, all, &[], some, &[]);
        self.switch_to(all);
        whole(self);
        self.switch_to(some);
    }

    fn counts(&mut self, count: Value, lane: u32) -> Value {
        let lane = self.b.ins().iconst(types::I64, i64::from(lane));
        self.b.ins().icmp(IntCC::SignedGreaterThan, count, lane)
    }

    fn int_or_float_zero(&mut self, ty: Ty) -> Value {
        match (ty.lanes, ty.elem.is_float()) {
            (1, true) => self.float_constant(0.0, ty),
            (1, false) => self.int_constant(0, ty),
            _ => self.vector_constant(&[0], vector_type(ty.elem)),
        }
    }
}

fn arguments(parts: &[Value]) -> Vec<BlockArg> {
    parts.iter().map(|&p| p.into()).collect()
}
