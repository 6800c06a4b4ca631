//! Comparisons, masks, selection.

use iced_x86::Mnemonic as M;
use regalloc2::VReg;

use super::machine::{Base, Cc, Inst, Mem, Op, View};
use super::memory::{further, masked_move};
use super::select::vectors::{pick, view_bytes};
use super::select::{Parts, Selector, Source};
use mcc_kernel::kir::{Addr, Bin, Cmp, Elem, Ty, Val};

/// Predicates of `vcmpps`: ordered and quiet, except `Ne`, which is true for NaN.
fn float_predicate(op: Cmp) -> i64 {
    match op {
        Cmp::Eq => 0x00,
        Cmp::Ne => 0x04,
        Cmp::Lt | Cmp::ULt => 0x11,
        Cmp::Le | Cmp::ULe => 0x12,
        Cmp::Gt | Cmp::UGt => 0x1e,
        Cmp::Ge | Cmp::UGe => 0x1d,
    }
}

/// "Either is NaN".
const UNORDERED: i64 = 0x03;

/// Predicates of `vpcmpd`.
fn int_predicate(op: Cmp) -> i64 {
    match op {
        Cmp::Eq => 0,
        Cmp::Lt | Cmp::ULt => 1,
        Cmp::Le | Cmp::ULe => 2,
        Cmp::Ne => 4,
        Cmp::Ge | Cmp::UGe => 5,
        Cmp::Gt | Cmp::UGt => 6,
    }
}

fn unsigned(op: Cmp) -> bool {
    matches!(op, Cmp::ULt | Cmp::ULe | Cmp::UGt | Cmp::UGe)
}

impl Selector<'_> {
    /// `None` for comparisons that are emitted by their branches.
    pub fn compare(&mut self, v: Val, op: Cmp, a: Val, b: Val) -> Option<Parts> {
        let ty = self.ty(a);
        if self.is_int(ty) {
            if self.branches[v.0 as usize] == self.uses[v.0 as usize] {
                return None;
            }
            return Some(vec![self.int_compare(op, a, b)]);
        }
        let (x, y) = (self.parts(a), self.parts(b));
        Some((0..x.len()).map(|i| self.compare_part(op, x[i], y[i], ty)).collect())
    }

    fn compare_part(&mut self, op: Cmp, x: VReg, y: VReg, ty: Ty) -> VReg {
        let view = self.part_view(ty);
        if ty.elem.is_float() {
            let truth = self.compare_floats(float_predicate(op), x, y, ty);
            return if ty.lanes == 1 { self.scalar_truth(truth) } else { truth };
        }
        if self.avx512 {
            let mnemonic = match (ty.elem, unsigned(op)) {
                (Elem::I8, false) => M::Vpcmpb,
                (Elem::I8, true) => M::Vpcmpub,
                (Elem::I16, false) => M::Vpcmpw,
                (Elem::I16, true) => M::Vpcmpuw,
                (Elem::I32, false) => M::Vpcmpd,
                (Elem::I32, true) => M::Vpcmpud,
                (_, false) => M::Vpcmpq,
                (_, true) => M::Vpcmpuq,
            };
            let k = self.mask();
            let ops = [Op::Def(k, View::K), Op::Use(x, view), Op::Use(y, view), Op::Imm(int_predicate(op))];
            self.emit(mnemonic, &ops);
            return k;
        }
        let (x, y) = if unsigned(op) { (self.biased(x, ty), self.biased(y, ty)) } else { (x, y) };
        let (greater, equal) = match ty.elem {
            Elem::I8 => (M::Vpcmpgtb, M::Vpcmpeqb),
            Elem::I16 => (M::Vpcmpgtw, M::Vpcmpeqw),
            Elem::I32 => (M::Vpcmpgtd, M::Vpcmpeqd),
            _ => (M::Vpcmpgtq, M::Vpcmpeqq),
        };
        match op {
            Cmp::Eq => self.r3(equal, view, x, y),
            Cmp::Ne => {
                let same = self.r3(equal, view, x, y);
                self.flipped(same, view)
            }
            Cmp::Gt | Cmp::UGt => self.r3(greater, view, x, y),
            Cmp::Lt | Cmp::ULt => self.r3(greater, view, y, x),
            Cmp::Le | Cmp::ULe => {
                let more = self.r3(greater, view, x, y);
                self.flipped(more, view)
            }
            Cmp::Ge | Cmp::UGe => {
                let less = self.r3(greater, view, y, x);
                self.flipped(less, view)
            }
        }
    }

    /// Flips the sign bit, so that signed comparison orders unsigned numbers.
    fn biased(&mut self, x: VReg, ty: Ty) -> VReg {
        let size = ty.elem.bytes() as usize;
        let sign = (1u64 << (8 * size - 1)).to_le_bytes();
        let view = self.part_view(ty);
        let sign = self.vector_constant(&sign[..size], Ty::new(ty.elem, view_bytes(view) / size as u32));
        self.r3(M::Vpxor, view, x, sign)
    }

    fn flipped(&mut self, x: VReg, view: View) -> VReg {
        let ones = self.vector_constant(&[0xff; 4], Ty::new(Elem::I32, view_bytes(view) / 4));
        self.r3(M::Vpxor, view, x, ones)
    }

    /// The mask (a vector without AVX-512) of a float comparison.
    fn compare_floats(&mut self, predicate: i64, x: VReg, y: VReg, ty: Ty) -> VReg {
        let (single, scalar) = (ty.elem == Elem::F32, ty.lanes == 1);
        let mnemonic = match (single, scalar) {
            (true, true) => M::Vcmpss,
            (true, false) => M::Vcmpps,
            (false, true) => M::Vcmpsd,
            (false, false) => M::Vcmppd,
        };
        let view = self.part_view(ty);
        if !self.avx512 {
            return self.v3i(mnemonic, view, x, y, predicate);
        }
        let k = self.mask();
        self.emit(mnemonic, &[Op::Def(k, View::K), Op::Use(x, view), Op::Use(y, view), Op::Imm(predicate)]);
        k
    }

    /// Lane 0 of a mask as 0 or 1.
    pub fn scalar_truth(&mut self, mask: VReg) -> VReg {
        let (bits, one) = (self.int(), self.int());
        let move_ = if self.avx512 { (M::Kmovd, View::K) } else { (M::Vmovd, View::X) };
        self.emit(move_.0, &[Op::Def(bits, View::D), Op::Use(mask, move_.1)]);
        self.emit(M::And, &[Op::Mod(one, bits, View::D), Op::Imm(1)]);
        one
    }

    /// `x` if it is NaN, otherwise `y`.
    pub fn or_nan(&mut self, x: VReg, y: VReg, ty: Ty) -> VReg {
        let nan = self.compare_floats(UNORDERED, x, x, ty);
        self.blend_part(nan, x, y, ty)
    }

    /// `mask ? a : b` with a vector mask, by the sign of each byte.
    pub fn blend(&mut self, view: View, mask: VReg, a: VReg, b: VReg) -> VReg {
        let v = self.vector();
        self.emit(M::Vblendvpd, &[Op::Def(v, view), Op::Use(b, view), Op::Use(a, view), Op::Use(mask, view)]);
        v
    }

    /// `mask ? a : b` for a mask from a comparison of `ty`.
    pub fn blend_part(&mut self, mask: VReg, a: VReg, b: VReg, ty: Ty) -> VReg {
        let view = self.part_view(ty);
        let v = self.vector();
        if self.avx512 {
            let mnemonic = match ty.elem {
                Elem::F32 => M::Vblendmps,
                Elem::F64 => M::Vblendmpd,
                _ => match ty.elem.bytes() {
                    1 => M::Vpblendmb,
                    2 => M::Vpblendmw,
                    4 => M::Vpblendmd,
                    _ => M::Vpblendmq,
                },
            };
            let ops = [Op::Def(v, view), Op::Use(b, view), Op::Use(a, view)];
            self.push(Inst::new(mnemonic, ops).masked(mask, false));
            return v;
        }
        let mnemonic = match ty.elem {
            Elem::F32 => M::Vblendvps,
            Elem::F64 => M::Vblendvpd,
            _ => M::Vpblendvb,
        };
        self.emit(mnemonic, &[Op::Def(v, view), Op::Use(b, view), Op::Use(a, view), Op::Use(mask, view)]);
        v
    }

    pub fn select(&mut self, mask: Val, a: Val, b: Val, ty: Ty) -> Parts {
        if ty.lanes > 1 && !ty.elem.is_mask() {
            let (mask, a, b) = (self.parts(mask), self.parts(a), self.parts(b));
            return (0..a.len()).map(|i| self.blend_part(mask[i], a[i], b[i], ty)).collect();
        }
        if ty.elem.is_mask() && ty.lanes > 1 {
            // (mask & a) | (!mask & b)
            let (mask, a, b) = (self.parts(mask), self.parts(a), self.parts(b));
            return (0..a.len())
                .map(|i| {
                    let (yes, no) = (self.mask_op(Bin::And, mask[i], a[i], ty), self.mask_and_not(mask[i], b[i], ty));
                    self.mask_op(Bin::Or, yes, no, ty)
                })
                .collect();
        }
        let (c, a, b) = (self.reg(mask), self.reg(a), self.reg(b));
        if self.is_int(ty) {
            self.emit(M::Test, &[Op::Use(c, View::D), Op::Use(c, View::D)]);
            return vec![self.int_select(Cc::Ne, a, b)];
        }
        let mask = self.lane_mask(c, ty.elem);
        vec![self.blend_part(mask, a, b, ty)]
    }

    /// A boolean 0 or 1 as a mask of at least lane 0.
    fn lane_mask(&mut self, truth: VReg, elem: Elem) -> VReg {
        if self.avx512 {
            let k = self.mask();
            self.emit(M::Kmovd, &[Op::Def(k, View::K), Op::Use(truth, View::D)]);
            return k;
        }
        let all = self.int();
        self.emit(M::Neg, &[Op::Mod(all, truth, View::Q)]);
        self.in_vector(all, if elem.bytes() == 8 { Elem::I64 } else { Elem::I32 })
    }

    /// A boolean 0 or 1 in every lane.
    pub fn splat_truth(&mut self, truth: VReg, ty: Ty) -> Parts {
        let all = self.int();
        self.emit(M::Neg, &[Op::Mod(all, truth, View::Q)]);
        let part = if self.avx512 {
            let k = self.mask();
            self.emit(M::Kmovq, &[Op::Def(k, View::K), Op::Use(all, View::Q)]);
            k
        } else {
            let v = self.in_vector(all, Elem::I64);
            let view = self.part_view(ty);
            let spread = self.vector();
            self.emit(M::Vpbroadcastq, &[Op::Def(spread, view), Op::Use(v, View::X)]);
            spread
        };
        vec![part; self.part_count(ty)]
    }

    // ---- operations on masks ----

    pub fn mask_bin(&mut self, op: Bin, a: Val, b: Val, ty: Ty) -> Parts {
        if ty.lanes == 1 {
            return vec![self.int_bin(op, a, b, Elem::I32)];
        }
        let (x, y) = (self.parts(a), self.parts(b));
        (0..x.len()).map(|i| self.mask_op(op, x[i], y[i], ty)).collect()
    }

    fn mask_op(&mut self, op: Bin, x: VReg, y: VReg, ty: Ty) -> VReg {
        if self.avx512 {
            let mnemonic = match op {
                Bin::And => M::Kandq,
                Bin::Or => M::Korq,
                _ => M::Kxorq,
            };
            return self.k3(mnemonic, x, y);
        }
        let mnemonic = match op {
            Bin::And => M::Vpand,
            Bin::Or => M::Vpor,
            _ => M::Vpxor,
        };
        self.r3(mnemonic, self.part_view(ty), x, y)
    }

    /// `!x & y`.
    fn mask_and_not(&mut self, x: VReg, y: VReg, ty: Ty) -> VReg {
        if self.avx512 { self.k3(M::Kandnq, x, y) } else { self.r3(M::Vpandn, self.part_view(ty), x, y) }
    }

    fn k3(&mut self, mnemonic: M, x: VReg, y: VReg) -> VReg {
        let k = self.mask();
        self.emit(mnemonic, &[Op::Def(k, View::K), Op::Use(x, View::K), Op::Use(y, View::K)]);
        k
    }

    pub fn mask_not(&mut self, a: Val, ty: Ty) -> Parts {
        let view = self.part_view(ty);
        let parts = self.parts(a);
        parts
            .into_iter()
            .map(|x| {
                if !self.avx512 {
                    return self.flipped(x, view);
                }
                let k = self.mask();
                self.emit(M::Knotq, &[Op::Def(k, View::K), Op::Use(x, View::K)]);
                k
            })
            .collect()
    }

    pub fn mask_to_int(&mut self, mask: Val, ty: Ty) -> Parts {
        let parts = self.parts(mask);
        if ty.lanes == 1 {
            return parts;
        }
        let (view, size) = (self.part_view(ty), ty.elem.bytes() as usize);
        let one = self.vector_constant(&1u64.to_le_bytes()[..size], ty);
        parts
            .into_iter()
            .map(|x| {
                if !self.avx512 {
                    return self.r3(M::Vpand, view, x, one);
                }
                let v = self.vector();
                self.push(Inst::new(masked_move(ty.elem), [Op::Def(v, view), Op::Use(one, view)]).masked(x, true));
                v
            })
            .collect()
    }

    pub fn any_true(&mut self, mask: Val) -> VReg {
        let ty = self.ty(mask);
        let parts = self.parts(mask);
        if ty.lanes == 1 {
            return parts[0];
        }
        let mut all = parts[0];
        for &part in &parts[1..] {
            all = self.mask_op(Bin::Or, all, part, ty);
        }
        let bits = self.int();
        // The bits of the valid lanes: the others are undefined.
        let count = if self.avx512 {
            self.emit(M::Kmovq, &[Op::Def(bits, View::Q), Op::Use(all, View::K)]);
            self.part_lanes(ty)
        } else {
            self.emit(M::Vpmovmskb, &[Op::Def(bits, View::D), Op::Use(all, self.part_view(ty))]);
            self.part_lanes(ty) * ty.elem.bytes()
        };
        let kept = if count == 64 {
            bits
        } else {
            let (kept, low) = (self.int(), self.int_constant(((1u64 << count) - 1) as i64));
            self.emit(M::And, &[Op::Mod(kept, bits, View::Q), Op::Use(low, View::Q)]);
            kept
        };
        self.emit(M::Test, &[Op::Use(kept, View::Q), Op::Use(kept, View::Q)]);
        self.flag(Cc::Ne)
    }

    /// See [`Inst::LoadExpanded`](mcc_kernel::kir::Inst::LoadExpanded): one instruction with AVX512-VBMI2, otherwise
    /// whole registers by a permutation, or, for a few bytes, one at a time.
    pub fn load_expanded(&mut self, from: Addr, mask: Val, ty: Ty) -> Parts {
        let (from, bits) = (self.address(from), self.reg(mask));
        if ty.bytes() < 16 {
            return self.expanded_by_bytes(from, bits, ty);
        }
        if !self.vbmi2 {
            return self.expanded_by_places(from, bits, ty);
        }
        let (view, k, v) = (self.part_view(ty), self.mask(), self.vector());
        self.emit(M::Kmovq, &[Op::Def(k, View::K), Op::Use(bits, View::Q)]);
        // In place of its operand: processors wait for the destination register although its value is unused.
        let x = self.load_vector(ty, from);
        self.push(Inst::new(M::Vpexpandb, [Op::Mod(v, x, view), Op::Use(x, view)]).masked(k, true));
        vec![v]
    }

    fn expanded_by_bytes(&mut self, from: Mem, bits: VReg, ty: Ty) -> Parts {
        let (room, mut at) = (self.code.room(16), self.lea(from));
        for lane in 0..ty.lanes {
            let byte = self.load_int(Elem::I8, Mem { base: Base::Reg(at), index: None, disp: 0 });
            let [shifted, bit, all, kept, next] = [(); 5].map(|()| self.int());
            self.emit(M::Shr, &[Op::Mod(shifted, bits, View::Q), Op::Imm(lane.into())]);
            self.emit(M::And, &[Op::Mod(bit, shifted, View::D), Op::Imm(1)]);
            self.emit(M::Neg, &[Op::Mod(all, bit, View::D)]);
            self.emit(M::And, &[Op::Mod(kept, byte, View::D), Op::Use(all, View::D)]);
            self.emit(M::Mov, &[Op::Mem(further(room, lane)), Op::Use(kept, View::B)]);
            self.emit(M::Add, &[Op::Mod(next, at, View::Q), Op::Use(bit, View::Q)]);
            at = next;
        }
        vec![self.load_vector(ty, room)]
    }

    /// Sixteen bytes at a time, with two or four of these per register: each set bit selects the byte whose number is
    /// the count of set bits before it.
    fn expanded_by_places(&mut self, from: Mem, bits: VReg, ty: Ty) -> Parts {
        let (view, from) = (self.part_view(ty), self.lea(from));
        let sixteens = self.part_bytes(ty) / 16;
        let insert = pick(self.avx512, M::Vinserti32x4, M::Vinserti128);
        let and_not = self.logic(M::Vpandn, Elem::I8);
        let mut parts = Parts::new();
        for part in 0..self.part_count(ty) as u32 {
            let mut bytes = None;
            for n in 0..sixteens {
                let index = self.bits_below(bits, 16 * (part * sixteens + n)).map(|count| (count, 1));
                let x = self.load_vector(ty.with_lanes(16), Mem { base: Base::Reg(from), index, disp: 0 });
                bytes = Some(match bytes {
                    None => x,
                    Some(before) => {
                        let both = self.vector();
                        let ops = [Op::Def(both, view), Op::Use(before, view), Op::Use(x, View::X), Op::Imm(n.into())];
                        self.emit(insert, &ops);
                        both
                    }
                });
            }
            let Some(bytes) = bytes else { continue };
            let mut own = bits;
            if part > 0 {
                own = self.int();
                self.emit(M::Shr, &[Op::Mod(own, bits, View::Q), Op::Imm((part * self.max).into())]);
            }
            let set = self.bits_to_bytes(own, view);
            // All ones are -1: their sums, inverted, number the set bits from 0.
            let mut places = set;
            for step in [1, 2, 4, 8] {
                let moved = self.v2i(M::Vpslldq, view, places, step);
                places = self.r3(M::Vpaddb, view, places, moved);
            }
            let places = self.r3(and_not, view, places, set);
            let moved = self.r3(M::Vpshufb, view, bytes, places);
            parts.push(self.r3(self.logic(M::Vpand, Elem::I8), view, moved, set));
        }
        parts
    }

    /// The number of set bits below a bit.
    fn bits_below(&mut self, bits: VReg, first: u32) -> Option<VReg> {
        (first > 0).then(|| {
            let [high, count] = [(); 2].map(|()| self.int());
            self.emit(M::Shl, &[Op::Mod(high, bits, View::Q), Op::Imm((64 - first).into())]);
            self.emit(M::Popcnt, &[Op::Def(count, View::Q), Op::Use(high, View::Q)]);
            count
        })
    }

    /// Expands bits to bytes of all ones.
    fn bits_to_bytes(&mut self, bits: VReg, view: View) -> VReg {
        if self.avx512 {
            let (k, v) = (self.mask(), self.vector());
            self.emit(M::Kmovq, &[Op::Def(k, View::K), Op::Use(bits, View::Q)]);
            self.emit(M::Vpmovm2b, &[Op::Def(v, view), Op::Use(k, View::K)]);
            return v;
        }
        let (word, all) = (self.in_vector(bits, Elem::I32), self.vector());
        self.emit(M::Vpbroadcastd, &[Op::Def(all, view), Op::Use(word, View::X)]);
        let count = view_bytes(view) as u8;
        let own: Vec<u8> = (0..count).map(|i| i / 8).collect();
        let bit: Vec<u8> = (0..count).map(|i| 1 << (i % 8)).collect();
        let (own, bit) = (self.code.constant(&own), self.code.constant(&bit));
        let own = self.v3(M::Vpshufb, view, all, Source::Memory(own));
        let one = self.v3(M::Vpand, view, own, Source::Memory(bit));
        self.v3(M::Vpcmpeqb, view, one, Source::Memory(bit))
    }

    // ---- counts ----

    /// A mask register with the low `count` bits set (at most 64).
    pub fn low_bits(&mut self, count: VReg) -> VReg {
        let (ones, bits, k) = (self.int(), self.int(), self.mask());
        self.emit(M::Mov, &[Op::Def(ones, View::Q), Op::Imm(-1)]);
        self.emit(M::Bzhi, &[Op::Def(bits, View::Q), Op::Use(ones, View::Q), Op::Use(count, View::Q)]);
        self.emit(M::Kmovq, &[Op::Def(k, View::K), Op::Use(bits, View::Q)]);
        k
    }

    /// The mask of the lanes below `count` in a register of a value: computed once per block.
    pub fn first_lanes(&mut self, count: Val, ty: Ty, part: usize) -> VReg {
        let per_part = self.part_lanes(ty);
        let key = (count, ty.lanes, ty.elem.bytes() << 8 | part as u32);
        if let Some(&mask) = self.counted.iter().rev().find_map(|known| known.get(&key)) {
            return mask;
        }
        let all = self.clamped(count, ty.lanes);
        let skipped = part as i64 * i64::from(per_part);
        let mask = if self.avx512 {
            let k = self.low_bits(all);
            if skipped == 0 {
                k
            } else {
                let rest = self.mask();
                self.emit(M::Kshiftrq, &[Op::Def(rest, View::K), Op::Use(k, View::K), Op::Imm(skipped)]);
                rest
            }
        } else {
            // Compare the lane numbers with the count.
            let elem = ty.elem.int();
            let size = elem.bytes() as usize;
            let view = self.part_view(ty);
            let numbers: Vec<u8> = (0..view_bytes(view) / elem.bytes())
                .flat_map(|i| (i64::from(i) + skipped).to_le_bytes()[..size].to_vec())
                .collect();
            let numbers = self.code.constant(&numbers);
            let v = self.in_vector(all, elem);
            let spread = self.vector();
            let mnemonic = pick(size == 8, M::Vpbroadcastq, M::Vpbroadcastd);
            self.emit(mnemonic, &[Op::Def(spread, view), Op::Use(v, View::X)]);
            self.v3(pick(size == 8, M::Vpcmpgtq, M::Vpcmpgtd), view, spread, Source::Memory(numbers))
        };
        if let Some(known) = self.counted.last_mut() {
            known.insert(key, mask);
        }
        mask
    }
}
