//! Integers in general registers.

use iced_x86::Mnemonic as M;
use regalloc2::VReg;

use super::Selector;
use crate::x86::encode::{RAX, RDX};
use crate::x86::machine::{Cc, Inst, Op, View};
use mcc_kernel::kir::{Bin, Cmp, Elem, Un, Val};

/// The view of an integer.
pub fn view(elem: Elem) -> View {
    match elem {
        Elem::I8 => View::B,
        Elem::I16 => View::W,
        Elem::I64 => View::Q,
        _ => View::D,
    }
}

/// The view to compute in: the upper bits of narrow results do not matter.
fn wide(elem: Elem) -> View {
    if elem == Elem::I64 { View::Q } else { View::D }
}

impl Selector<'_> {
    /// A constant in a register.
    pub fn int_constant(&mut self, c: i64) -> VReg {
        let v = self.int();
        // The 32-bit move is shorter and clears the upper half; unlike `xor` it preserves the flags.
        let view = if u32::try_from(c).is_ok() { View::D } else { View::Q };
        self.emit(M::Mov, &[Op::Def(v, view), Op::Imm(c)]);
        v
    }

    /// A value as an immediate if it fits, otherwise in a register.
    pub fn int_operand(&mut self, v: Val) -> Op {
        match self.constant(v).filter(|&c| i32::try_from(c).is_ok()) {
            Some(c) => Op::Imm(c),
            None => Op::Use(self.reg(v), View::Q),
        }
    }

    /// Sets the flags.
    pub fn compare_ints(&mut self, a: Val, b: Val, view: View) {
        let a = self.reg(a);
        let fits = |c: i64| match view {
            View::B => i8::try_from(c).is_ok(),
            View::W => i16::try_from(c).is_ok(),
            _ => i32::try_from(c).is_ok(),
        };
        let b = match self.constant(b).filter(|&c| fits(c)) {
            Some(c) => Op::Imm(c),
            None => Op::Use(self.reg(b), view),
        };
        self.emit(M::Cmp, &[Op::Use(a, view), b]);
    }

    /// The result of a comparison, 0 or 1.
    pub fn int_compare(&mut self, op: Cmp, a: Val, b: Val) -> VReg {
        let elem = self.ty(a).elem;
        self.compare_ints(a, b, view(elem));
        self.flag(condition_code(op))
    }

    /// A condition of the flags as 0 or 1.
    pub fn flag(&mut self, cc: Cc) -> VReg {
        let (byte, truth) = (self.int(), self.int());
        self.emit(set_if(cc), &[Op::Def(byte, View::B)]);
        self.emit(M::Movzx, &[Op::Def(truth, View::D), Op::Use(byte, View::B)]);
        truth
    }

    /// `flags ? a : b`.
    pub fn int_select(&mut self, cc: Cc, a: VReg, b: VReg) -> VReg {
        let v = self.int();
        self.emit(move_if(cc), &[Op::Mod(v, b, View::Q), Op::Use(a, View::Q)]);
        v
    }

    /// The value extended to 32 or 64 bits.
    pub fn extended(&mut self, v: VReg, from: Elem, to: Elem, signed: bool) -> VReg {
        if from.bytes() >= to.bytes() {
            return v;
        }
        let result = self.int();
        let (mnemonic, to) = match (from, signed) {
            (Elem::I32, true) => (M::Movsxd, View::Q),
            // Writing 32 bits clears the upper ones.
            (Elem::I32, false) => (M::Mov, View::D),
            (_, true) => (M::Movsx, wide(to)),
            (_, false) => (M::Movzx, View::D),
        };
        self.emit(mnemonic, &[Op::Def(result, to), Op::Use(v, view(from))]);
        result
    }

    pub fn int_bin(&mut self, op: Bin, a: Val, b: Val, elem: Elem) -> VReg {
        let at = wide(elem);
        let plain = match op {
            Bin::Add => Some(M::Add),
            Bin::Sub => Some(M::Sub),
            Bin::And => Some(M::And),
            Bin::Or => Some(M::Or),
            Bin::Xor => Some(M::Xor),
            Bin::Mul => Some(M::Imul),
            _ => None,
        };
        if let Some(mnemonic) = plain {
            return self.int_plain(mnemonic, a, b, at);
        }
        match op {
            Bin::Shl | Bin::Shr | Bin::Sar => self.int_shift(op, a, b, elem),
            Bin::Min | Bin::Max | Bin::UMin | Bin::UMax => {
                let cc = match op {
                    Bin::Min => Cc::L,
                    Bin::Max => Cc::G,
                    Bin::UMin => Cc::B,
                    _ => Cc::A,
                };
                let (x, y) = (self.reg(a), self.reg(b));
                self.emit(M::Cmp, &[Op::Use(x, view(elem)), Op::Use(y, view(elem))]);
                self.int_select(cc, x, y)
            }
            _ => {
                let signed = matches!(op, Bin::Div | Bin::Rem);
                let (x, y) = (self.reg(a), self.reg(b));
                let (x, y) = (self.extended(x, elem, Elem::I32, signed), self.extended(y, elem, Elem::I32, signed));
                let (quotient, remainder) = self.divide(x, y, at, signed);
                if matches!(op, Bin::Div | Bin::UDiv) { quotient } else { remainder }
            }
        }
    }

    fn int_plain(&mut self, mnemonic: M, a: Val, b: Val, at: View) -> VReg {
        let (a, b) = if self.constant(a).is_some() && mnemonic != M::Sub { (b, a) } else { (a, b) };
        let x = self.reg(a);
        let v = self.int();
        let constant = self.constant(b).filter(|&c| i32::try_from(c).is_ok());
        match (mnemonic, constant) {
            (M::Imul, Some(c)) if c > 0 && (c as u64).is_power_of_two() => {
                self.emit(M::Shl, &[Op::Mod(v, x, at), Op::Imm(i64::from(c.trailing_zeros()))]);
            }
            (M::Imul, Some(c)) => self.emit(mnemonic, &[Op::Def(v, at), Op::Use(x, at), Op::Imm(c)]),
            (_, Some(c)) => self.emit(mnemonic, &[Op::Mod(v, x, at), Op::Imm(c)]),
            (_, None) => {
                let y = self.reg(b);
                self.emit(mnemonic, &[Op::Mod(v, x, at), Op::Use(y, at)]);
            }
        }
        v
    }

    fn int_shift(&mut self, op: Bin, a: Val, count: Val, elem: Elem) -> VReg {
        let at = wide(elem);
        let x = self.reg(a);
        let x = match op {
            Bin::Shr => self.extended(x, elem, Elem::I32, false),
            Bin::Sar => self.extended(x, elem, Elem::I32, true),
            _ => x,
        };
        let v = self.int();
        if let Some(c) = self.constant(count) {
            let mnemonic = match op {
                Bin::Shl => M::Shl,
                Bin::Shr => M::Shr,
                _ => M::Sar,
            };
            self.emit(mnemonic, &[Op::Mod(v, x, at), Op::Imm(c)]);
            return v;
        }
        let mnemonic = match op {
            Bin::Shl => M::Shlx,
            Bin::Shr => M::Shrx,
            _ => M::Sarx,
        };
        let count = self.reg(count);
        self.emit(mnemonic, &[Op::Def(v, at), Op::Use(x, at), Op::Use(count, at)]);
        v
    }

    fn divide(&mut self, x: VReg, y: VReg, at: View, signed: bool) -> (VReg, VReg) {
        let (high, quotient, remainder) = (self.int(), self.int(), self.int());
        if signed {
            let mnemonic = if at == View::Q { M::Cqo } else { M::Cdq };
            self.push(Inst::new(mnemonic, []).fixed(&[(x, RAX)], &[(high, RDX)]));
        } else {
            self.emit(M::Mov, &[Op::Def(high, View::D), Op::Imm(0)]);
        }
        let divide = if signed { M::Idiv } else { M::Div };
        let inst = Inst::new(divide, [Op::Use(y, at)]);
        self.push(inst.fixed(&[(x, RAX), (high, RDX)], &[(quotient, RAX), (remainder, RDX)]));
        (quotient, remainder)
    }

    pub fn int_un(&mut self, op: Un, a: Val, elem: Elem) -> VReg {
        let at = wide(elem);
        let x = self.reg(a);
        let v = self.int();
        match op {
            Un::Neg => self.emit(M::Neg, &[Op::Mod(v, x, at)]),
            Un::Not if elem.is_mask() => self.emit(M::Xor, &[Op::Mod(v, x, at), Op::Imm(1)]),
            Un::Not => self.emit(M::Not, &[Op::Mod(v, x, at)]),
            Un::Abs => {
                let x = self.extended(x, elem, Elem::I32, true);
                let negative = self.int();
                self.emit(M::Neg, &[Op::Mod(negative, x, at)]);
                self.emit(M::Test, &[Op::Use(x, at), Op::Use(x, at)]);
                return self.int_select(Cc::L, negative, x);
            }
            Un::CountOnes => {
                let x = self.extended(x, elem, Elem::I32, false);
                self.emit(M::Popcnt, &[Op::Def(v, at), Op::Use(x, at)]);
            }
            Un::Sqrt | Un::Floor | Un::Ceil | Un::Trunc | Un::Nearest => {
                self.refuse(format!("{op:?} of integers"));
            }
        }
        v
    }
}

fn set_if(cc: Cc) -> M {
    match cc {
        Cc::E => M::Sete,
        Cc::Ne => M::Setne,
        Cc::L => M::Setl,
        Cc::Le => M::Setle,
        Cc::G => M::Setg,
        Cc::Ge => M::Setge,
        Cc::B => M::Setb,
        Cc::Be => M::Setbe,
        Cc::A => M::Seta,
        Cc::Ae => M::Setae,
    }
}

fn move_if(cc: Cc) -> M {
    match cc {
        Cc::E => M::Cmove,
        Cc::Ne => M::Cmovne,
        Cc::L => M::Cmovl,
        Cc::Le => M::Cmovle,
        Cc::G => M::Cmovg,
        Cc::Ge => M::Cmovge,
        Cc::B => M::Cmovb,
        Cc::Be => M::Cmovbe,
        Cc::A => M::Cmova,
        Cc::Ae => M::Cmovae,
    }
}

/// The condition code of an integer comparison.
pub fn condition_code(op: Cmp) -> Cc {
    match op {
        Cmp::Eq => Cc::E,
        Cmp::Ne => Cc::Ne,
        Cmp::Lt => Cc::L,
        Cmp::Le => Cc::Le,
        Cmp::Gt => Cc::G,
        Cmp::Ge => Cc::Ge,
        Cmp::ULt => Cc::B,
        Cmp::ULe => Cc::Be,
        Cmp::UGt => Cc::A,
        Cmp::UGe => Cc::Ae,
    }
}
