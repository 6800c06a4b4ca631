//! Machine instructions on virtual registers.

use regalloc2::{Operand, PReg, RegClass, VReg};

use super::fields::Role;
use super::operand::{Cc, Size};
use super::table::Row;
use crate::machine;

/// A general register for the allocator, by its number.
pub const fn gpr(n: usize) -> PReg {
    PReg::new(n, RegClass::Int)
}

/// A register operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reg {
    /// Written.
    Def(VReg),
    /// Read.
    Use(VReg),
    /// The first is written in place of the second.
    Mod(VReg, VReg),
    /// A register that the allocator does not know, by its number.
    Fixed(u8),
}

/// The frame pointer.
pub const FP: Reg = Reg::Fixed(29);

/// A machine instruction: a row of the table with its operands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inst {
    pub row: Row,
    pub size: Size,
    /// In the order of the row's roles.
    pub regs: Vec<Reg>,
    /// In the order of the row's fields.
    pub imms: [i64; 2],
}

/// What a block consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    Inst(Inst),
    /// The function's first arguments, in the registers in which the caller passes them.
    Arguments(Vec<VReg>),
}

/// A function on virtual registers.
pub type VirtualCode = machine::VirtualCode<Code, Cc>;

/// The end of a block.
pub type End = machine::End<Cc>;

impl Inst {
    pub fn new(row: Row, size: Size, regs: impl Into<Vec<Reg>>, imms: [i64; 2]) -> Inst {
        Inst { row, size, regs: regs.into(), imms }
    }

    /// Whether the instruction writes memory.
    pub fn writes_memory(&self) -> bool {
        use Row::*;
        matches!(
            self.row,
            StrV | StrG
                | SturV
                | SturG
                | StrVPost
                | StrGPost
                | StrVReg
                | StrGReg
                | StrVIndex
                | StrGIndex
                | StpV
                | StpVPost
                | StpX
                | StpXPre
                | St1Lane
        )
    }

    /// Whether the instruction reads memory.
    pub fn reads_memory(&self) -> bool {
        use Row::*;
        matches!(
            self.row,
            LdrV | LdrG
                | LdurV
                | LdurG
                | LdrVPost
                | LdrGPost
                | LdrVReg
                | LdrGReg
                | LdrVIndex
                | LdrGIndex
                | LdpV
                | LdpVPost
                | LdpX
                | LdpXPost
                | Ld1r
                | Ld1rPost
                | Ld1Lane
        )
    }

    /// The virtual registers that it reads.
    pub fn reads(&self) -> impl Iterator<Item = VReg> + '_ {
        self.regs.iter().filter_map(|reg| match *reg {
            Reg::Use(v) | Reg::Mod(_, v) => Some(v),
            Reg::Def(_) | Reg::Fixed(_) => None,
        })
    }

    /// The virtual registers that it writes.
    pub fn writes(&self) -> impl Iterator<Item = VReg> + '_ {
        self.regs.iter().filter_map(|reg| match *reg {
            Reg::Def(v) | Reg::Mod(v, _) => Some(v),
            Reg::Use(_) | Reg::Fixed(_) => None,
        })
    }

    /// Whether the operands are as the row says.
    pub fn fits(&self) -> bool {
        let roles = self.row.form().roles;
        roles.len() == self.regs.len()
            && roles.iter().zip(&self.regs).all(|(role, reg)| match reg {
                Reg::Fixed(_) => true,
                Reg::Def(_) => matches!(role, Role::D | Role::Aw),
                Reg::Use(_) => matches!(role, Role::Dr | Role::N | Role::M | Role::A),
                Reg::Mod(..) => matches!(role, Role::Dm | Role::Nm),
            })
    }
}

/// The registers of an instruction for the allocator, in the order of its operands. A [`Reg::Mod`] has two, the one read
/// first.
pub fn operands_of(code: &Code) -> Vec<Operand> {
    let mut operands = Vec::with_capacity(4);
    match code {
        Code::Arguments(all) => {
            operands.extend(all.iter().enumerate().map(|(n, &v)| Operand::reg_fixed_def(v, gpr(n))));
        }
        Code::Inst(inst) => {
            // A register that is written early must differ from those that are read: loads of pairs with a new base do.
            for reg in &inst.regs {
                match *reg {
                    Reg::Def(v) => operands.push(Operand::reg_def(v)),
                    Reg::Use(v) => operands.push(Operand::reg_use(v)),
                    Reg::Mod(to, from) => {
                        operands.push(Operand::reg_use(from));
                        operands.push(Operand::reg_reuse_def(to, operands.len() - 1));
                    }
                    Reg::Fixed(_) => {}
                }
            }
        }
    }
    operands
}

/// Whether a register is a vector register.
pub fn is_vector(v: VReg) -> bool {
    v.class() == RegClass::Float
}
