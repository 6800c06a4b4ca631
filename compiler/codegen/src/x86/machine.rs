//! Machine instructions on virtual registers, in basic blocks: the output of instruction selection and the input of the
//! register allocator.
//!
//! - An instruction is a mnemonic and its operands in the order of Intel's manuals; [`super::encode`] selects the
//!   encoding when the registers are known.
//! - Blocks, and how values pass between them, are those of [`machine`].

use iced_x86::Mnemonic;
use regalloc2::{Operand, OperandConstraint, OperandKind, OperandPos, PReg, RegClass, VReg};

use crate::machine;

/// The width at which an operand accesses a register, which determines the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// 8 bits.
    B,
    /// 16 bits.
    W,
    /// 32 bits.
    D,
    /// 64 bits.
    Q,
    /// 128-bit vector.
    X,
    /// 256-bit vector.
    Y,
    /// 512-bit vector.
    Z,
    /// Mask.
    K,
}

/// The base of a memory operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// At a register's address.
    Reg(VReg),
    /// In the constant pool.
    Pool,
    /// In the function's own memory on the stack.
    Frame,
    /// In the caller's stack arguments.
    Incoming,
}

/// A memory operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mem {
    pub base: Base,
    /// A register and its scale.
    pub index: Option<(VReg, u8)>,
    pub disp: i32,
}

/// An operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Written.
    Def(VReg, View),
    /// Read.
    Use(VReg, View),
    /// The first is written in place of the second.
    Mod(VReg, VReg, View),
    Mem(Mem),
    Imm(i64),
}

/// A machine instruction.
#[derive(Debug, Clone)]
pub struct Inst {
    pub mnemonic: Mnemonic,
    pub ops: Vec<Op>,
    /// Registers that the instruction reads and writes implicitly.
    pub fixed_uses: Vec<(VReg, PReg)>,
    pub fixed_defs: Vec<(VReg, PReg)>,
    /// Lanes to compute; without [`zeroing`](Inst::zeroing) the others keep the first operand's values.
    pub mask: Option<VReg>,
    pub zeroing: bool,
    /// Whether the memory operand is one element for all lanes.
    pub broadcast: bool,
    /// Whether only the AVX-512 encoding is valid.
    pub evex: bool,
    /// The view that a memory operand would have as a register, if no other operand determines its width.
    pub memory_view: Option<View>,
}

impl Inst {
    pub fn new(mnemonic: Mnemonic, ops: impl Into<Vec<Op>>) -> Inst {
        Inst {
            mnemonic,
            ops: ops.into(),
            fixed_uses: Vec::new(),
            fixed_defs: Vec::new(),
            mask: None,
            zeroing: false,
            broadcast: false,
            evex: false,
            memory_view: None,
        }
    }

    pub fn masked(self, mask: VReg, zeroing: bool) -> Inst {
        Inst { mask: Some(mask), zeroing, evex: true, ..self }
    }

    pub fn fixed(self, uses: &[(VReg, PReg)], defs: &[(VReg, PReg)]) -> Inst {
        Inst { fixed_uses: uses.to_vec(), fixed_defs: defs.to_vec(), ..self }
    }
}

/// Condition codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cc {
    E,
    Ne,
    L,
    Le,
    G,
    Ge,
    B,
    Be,
    A,
    Ae,
}

impl Cc {
    pub fn inverse(self) -> Cc {
        match self {
            Cc::E => Cc::Ne,
            Cc::Ne => Cc::E,
            Cc::L => Cc::Ge,
            Cc::Ge => Cc::L,
            Cc::Le => Cc::G,
            Cc::G => Cc::Le,
            Cc::B => Cc::Ae,
            Cc::Ae => Cc::B,
            Cc::Be => Cc::A,
            Cc::A => Cc::Be,
        }
    }
}

/// A function on virtual registers.
pub type VirtualCode = machine::VirtualCode<Inst, Cc>;

/// The end of a block.
pub type End = machine::End<Cc>;

impl VirtualCode {
    /// A constant in memory, aligned to its length.
    pub fn constant(&mut self, bytes: &[u8]) -> Mem {
        Mem { base: Base::Pool, index: None, disp: self.pooled(bytes) }
    }

    /// Stack memory, aligned to 64 bytes.
    pub fn room(&mut self, bytes: i32) -> Mem {
        Mem { base: Base::Frame, index: None, disp: self.reserved(bytes) }
    }
}

/// Number of vector registers that legacy encodings can name.
const LOW: usize = 16;

/// The registers of an instruction, in the order of [`Allocated`](super::encode): operands, bases and indices, mask,
/// fixed ones. A [`Op::Mod`] has two, the one read first. `low`: vectors must be in the first registers.
pub fn operands_of(inst: &Inst, low: bool) -> Vec<Operand> {
    let mut operands = Vec::with_capacity(6);
    let operand = |v: VReg, kind, position| {
        let limited = low && v.class() == RegClass::Float;
        let constraint = if limited { OperandConstraint::Limit(LOW) } else { OperandConstraint::Reg };
        Operand::new(v, constraint, kind, position)
    };
    let read = |v: VReg| operand(v, OperandKind::Use, OperandPos::Early);
    for op in &inst.ops {
        match *op {
            Op::Def(v, _) => operands.push(operand(v, OperandKind::Def, OperandPos::Late)),
            Op::Use(v, _) => operands.push(read(v)),
            Op::Mod(to, from, _) => {
                operands.push(read(from));
                operands.push(Operand::reg_reuse_def(to, operands.len() - 1));
            }
            Op::Mem(m) => {
                if let Base::Reg(v) = m.base {
                    operands.push(read(v));
                }
                if let Some((v, _)) = m.index {
                    operands.push(read(v));
                }
            }
            Op::Imm(_) => {}
        }
    }
    operands.extend(inst.mask.map(read));
    operands.extend(inst.fixed_uses.iter().map(|&(v, p)| Operand::reg_fixed_use(v, p)));
    operands.extend(inst.fixed_defs.iter().map(|&(v, p)| Operand::reg_fixed_def(v, p)));
    operands
}
