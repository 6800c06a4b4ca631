//! Integers in general registers, and scalar floats' comparisons.

use regalloc2::VReg;

use super::{Selector, size};
use crate::aarch64::fields::bitmask;
use crate::aarch64::operand::{Cc, Size};
use crate::aarch64::table::Row;
use mcc_kernel::kir::{Bin, Cmp, Elem, Un, Val};

/// The size to compute in: the upper bits of narrow results do not matter.
pub fn wide(elem: Elem) -> Size {
    if elem == Elem::I64 { Size::D } else { Size::S }
}

impl Selector<'_> {
    /// `v` plus a constant.
    pub fn plus(&mut self, v: VReg, c: i64) -> VReg {
        self.plus_in(v, c, Size::D)
    }

    fn plus_in(&mut self, v: VReg, c: i64, at: Size) -> VReg {
        if c == 0 {
            return v;
        }
        let (near, high) = if c > 0 { (Row::AddImm, Row::AddImmHigh) } else { (Row::SubImm, Row::SubImmHigh) };
        let distance = c.unsigned_abs();
        if distance >> 24 != 0 {
            let c = self.int_constant(c);
            return self.g(Row::Add, at, &[v, c]);
        }
        let mut sum = v;
        if distance >> 12 != 0 {
            sum = self.gi(high, at, &[sum], (distance >> 12) as i64);
        }
        if distance & 0xfff != 0 {
            sum = self.gi(near, at, &[sum], (distance & 0xfff) as i64);
        }
        sum
    }

    /// Sets the flags to a comparison of scalars; returns the condition.
    pub fn compare_scalars(&mut self, op: Cmp, a: Val, b: Val) -> Cc {
        let elem = self.ty(a).elem;
        if elem.is_float() {
            let (x, y) = (self.reg(a), self.reg(b));
            self.put(Row::Fcmp, size(elem), &[x, y], [0; 2]);
            return float_condition(op);
        }
        let signed = !matches!(op, Cmp::ULt | Cmp::ULe | Cmp::UGt | Cmp::UGe);
        let x = self.reg(a);
        let x = self.extended(x, elem, Elem::I32, signed);
        // A narrow constant is compared as it would be extended.
        let constant = self.constant(b).map(|c| match (elem, signed) {
            (Elem::I8, true) => i64::from(c as i8),
            (Elem::I16, true) => i64::from(c as i16),
            (Elem::I32, true) => i64::from(c as i32),
            (Elem::I8, false) => i64::from(c as u8),
            (Elem::I16, false) => i64::from(c as u16),
            (Elem::I32, false) => i64::from(c as u32),
            _ => c,
        });
        match constant {
            Some(c @ 0..4096) => self.put(Row::CmpImm, wide(elem), &[x], [c, 0]),
            Some(c @ -4095..0) if signed => self.put(Row::CmnImm, wide(elem), &[x], [-c, 0]),
            _ => {
                let y = self.reg(b);
                let y = self.extended(y, elem, Elem::I32, signed);
                self.put(Row::Cmp, wide(elem), &[x, y], [0; 2]);
            }
        }
        int_condition(op)
    }

    /// The value extended to 32 or 64 bits.
    pub fn extended(&mut self, v: VReg, from: Elem, to: Elem, signed: bool) -> VReg {
        if from.bytes() >= to.bytes() {
            return v;
        }
        let row = if signed { Row::Sbfm } else { Row::Ubfm };
        self.gii(row, wide(to), &[v], [0, 8 * i64::from(from.bytes()) - 1])
    }

    pub fn int_bin(&mut self, op: Bin, a: Val, b: Val, elem: Elem) -> VReg {
        let at = wide(elem);
        // The constant, if any, is the second operand.
        let commutes = matches!(op, Bin::Add | Bin::Mul | Bin::And | Bin::Or | Bin::Xor);
        let (a, b) = if commutes && self.constant(a).is_some() { (b, a) } else { (a, b) };
        match op {
            Bin::Shl | Bin::Shr | Bin::Sar => return self.int_shift(op, a, b, elem),
            Bin::Min | Bin::Max | Bin::UMin | Bin::UMax => {
                let compare = match op {
                    Bin::Min => Cmp::Lt,
                    Bin::Max => Cmp::Gt,
                    Bin::UMin => Cmp::ULt,
                    _ => Cmp::UGt,
                };
                let (x, y) = (self.reg(a), self.reg(b));
                let cc = self.compare_scalars(compare, a, b);
                return self.gi(Row::Csel, Size::D, &[x, y], cc as i64);
            }
            Bin::Div | Bin::UDiv | Bin::Rem | Bin::URem => return self.divide(op, a, b, elem),
            _ => {}
        }
        if let Some(folded) = self.with_constant(op, a, b, at) {
            return folded;
        }
        let row = match op {
            Bin::Add => Row::Add,
            Bin::Sub => Row::Sub,
            Bin::Mul => Row::Mul,
            Bin::And => Row::And,
            Bin::Or => Row::Orr,
            _ => Row::Eor,
        };
        let (x, y) = (self.reg(a), self.reg(b));
        self.g(row, at, &[x, y])
    }

    /// An operation with a constant that an instruction can hold.
    fn with_constant(&mut self, op: Bin, a: Val, b: Val, at: Size) -> Option<VReg> {
        let c = self.constant(b)?;
        let power = (c > 0 && (c as u64).is_power_of_two()).then(|| c.trailing_zeros().into());
        let logic = |row| bitmask(c as u64, at).map(|_| row);
        let row = match op {
            Bin::Add | Bin::Sub if c.unsigned_abs() >> 24 == 0 => {
                let x = self.reg(a);
                return Some(self.plus_in(x, if op == Bin::Add { c } else { -c }, at));
            }
            Bin::Mul if c == 1 => return Some(self.reg(a)),
            Bin::Mul => {
                let x = self.reg(a);
                return power.map(|shift| self.shifted(Bin::Shl, x, shift, at));
            }
            Bin::And => logic(Row::AndImm),
            Bin::Or => logic(Row::OrrImm),
            Bin::Xor => logic(Row::EorImm),
            _ => None,
        };
        let x = self.reg(a);
        row.map(|row| self.gi(row, at, &[x], c))
    }

    /// A shift by a constant.
    fn shifted(&mut self, op: Bin, x: VReg, count: i64, at: Size) -> VReg {
        let width = 8 * at.bytes();
        let count = count & (width - 1);
        match op {
            Bin::Shl => self.gii(Row::Ubfm, at, &[x], [(width - count) & (width - 1), width - 1 - count]),
            Bin::Shr => self.gii(Row::Ubfm, at, &[x], [count, width - 1]),
            _ => self.gii(Row::Sbfm, at, &[x], [count, width - 1]),
        }
    }

    fn int_shift(&mut self, op: Bin, a: Val, count: Val, elem: Elem) -> VReg {
        let at = wide(elem);
        let x = self.reg(a);
        let x = match op {
            Bin::Shr => self.extended(x, elem, Elem::I32, false),
            Bin::Sar => self.extended(x, elem, Elem::I32, true),
            _ => x,
        };
        if let Some(c) = self.constant(count) {
            return self.shifted(op, x, c, at);
        }
        let row = match op {
            Bin::Shl => Row::Lsl,
            Bin::Shr => Row::Lsr,
            _ => Row::Asr,
        };
        let count = self.reg(count);
        self.g(row, at, &[x, count])
    }

    fn divide(&mut self, op: Bin, a: Val, b: Val, elem: Elem) -> VReg {
        let (at, signed) = (wide(elem), matches!(op, Bin::Div | Bin::Rem));
        if !signed
            && let Some(c) = self.constant(b).filter(|&c| c > 0 && (c as u64).is_power_of_two() && elem.bytes() >= 4)
        {
            let x = self.reg(a);
            if op == Bin::UDiv {
                return self.shifted(Bin::Shr, x, c.trailing_zeros().into(), at);
            }
            let bits = i64::from(c.trailing_zeros());
            return if bits == 0 { self.int_constant(0) } else { self.gii(Row::Ubfm, at, &[x], [0, bits - 1]) };
        }
        let (x, y) = (self.reg(a), self.reg(b));
        let (x, y) = (self.extended(x, elem, Elem::I32, signed), self.extended(y, elem, Elem::I32, signed));
        let quotient = self.g(if signed { Row::Sdiv } else { Row::Udiv }, at, &[x, y]);
        match op {
            Bin::Div | Bin::UDiv => quotient,
            _ => self.g(Row::Msub, at, &[quotient, y, x]),
        }
    }

    pub fn int_un(&mut self, op: Un, a: Val, elem: Elem) -> VReg {
        let at = wide(elem);
        let x = self.reg(a);
        match op {
            Un::Neg => self.g(Row::Neg, at, &[x]),
            Un::Not if elem.is_mask() => self.gi(Row::EorImm, Size::S, &[x], 1),
            Un::Not => self.g(Row::Mvn, at, &[x]),
            Un::Abs => {
                let x = self.extended(x, elem, Elem::I32, true);
                self.put(Row::CmpImm, at, &[x], [0; 2]);
                self.gi(Row::Csneg, at, &[x, x], Cc::Ge as i64)
            }
            Un::CountOnes => {
                let x = self.extended(x, elem, Elem::I64, false);
                let x = self.v(Row::FmovToV, Size::D, &[x]);
                let ones = self.v(Row::Cnt, Size::B, &[x]);
                let sum = self.v(Row::Uaddlv, Size::H, &[ones]);
                self.g(Row::FmovToG, Size::S, &[sum])
            }
            Un::Sqrt | Un::Floor | Un::Ceil | Un::Trunc | Un::Nearest => {
                self.refuse(format!("{op:?} of integers"));
                x
            }
        }
    }
}

/// The condition of an integer comparison.
fn int_condition(op: Cmp) -> Cc {
    match op {
        Cmp::Eq => Cc::Eq,
        Cmp::Ne => Cc::Ne,
        Cmp::Lt => Cc::Lt,
        Cmp::Le => Cc::Le,
        Cmp::Gt => Cc::Gt,
        Cmp::Ge => Cc::Ge,
        Cmp::ULt => Cc::Lo,
        Cmp::ULe => Cc::Ls,
        Cmp::UGt => Cc::Hi,
        Cmp::UGe => Cc::Hs,
    }
}

/// The condition of a float comparison: false for NaN, except `Ne`.
fn float_condition(op: Cmp) -> Cc {
    match op {
        Cmp::Eq => Cc::Eq,
        Cmp::Ne => Cc::Ne,
        Cmp::Lt | Cmp::ULt => Cc::Mi,
        Cmp::Le | Cmp::ULe => Cc::Ls,
        Cmp::Gt | Cmp::UGt => Cc::Gt,
        Cmp::Ge | Cmp::UGe => Cc::Ge,
    }
}
