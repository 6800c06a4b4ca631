//! The kernel IR: structured counted loops around typed SSA values. Emitters turn it into machine code.
//!
//! - A [`Kernel`] is a function of pointers and symbols (run-time dimensions), all `i64`.
//! - A [`Val`] is defined once and may be used in its block and the blocks inside it. Pointers are `i64` integers.
//! - A [`Ty`] is an element type and a number of lanes, a power of two that fits the target's registers. Nothing here
//!   assumes a width.
//! - Comparisons give masks ([`Elem::Mask32`] and the like, as wide as the compared values); only `Select`, `And`,
//!   `Or`, `Not` and `MaskToInt` use them.
//! - Memory operations need no alignment. Addresses are `base + index * scale + offset`, which maps to the target's
//!   addressing modes.
//! - A loop runs its body while `index < end`, starting at `start`, and carries values between rounds; `step` is a
//!   positive constant that need not divide `end - start`.
//!
//! If models may use several threads, kernels are shared: see [`share`].
//!
//! Kernels are made by [`Builder`]: it folds integer constants and computes dimensions once, at entry.
//! [`verify`] checks a kernel, [`interp`] runs it, `Display` prints it and `FromStr` parses that text ([`text`]).

mod builder;
pub mod interp;
pub mod share;
mod text;
pub mod tidy;
pub mod verify;

use mcc_ir::Sym;

pub use builder::Builder;
pub use share::{PART, PARTS, is_part};

/// Element type of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Elem {
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
    /// Result of an 8-bit comparison.
    Mask8,
    /// Result of a 16-bit comparison.
    Mask16,
    /// Result of a 32-bit comparison.
    Mask32,
    /// Result of a 64-bit comparison.
    Mask64,
}

impl Elem {
    /// Width in bytes (for a mask: of the compared values).
    pub fn bytes(self) -> u32 {
        match self {
            Elem::I8 | Elem::Mask8 => 1,
            Elem::I16 | Elem::Mask16 => 2,
            Elem::I32 | Elem::F32 | Elem::Mask32 => 4,
            Elem::I64 | Elem::F64 | Elem::Mask64 => 8,
        }
    }

    /// Whether it is a mask.
    pub fn is_mask(self) -> bool {
        matches!(self, Elem::Mask8 | Elem::Mask16 | Elem::Mask32 | Elem::Mask64)
    }

    /// Whether it is an integer.
    pub fn is_int(self) -> bool {
        !self.is_mask() && !self.is_float()
    }

    /// Whether it is `F32` or `F64`.
    pub fn is_float(self) -> bool {
        matches!(self, Elem::F32 | Elem::F64)
    }

    /// The mask type for comparisons of this type.
    pub fn mask(self) -> Elem {
        match self.bytes() {
            1 => Elem::Mask8,
            2 => Elem::Mask16,
            4 => Elem::Mask32,
            _ => Elem::Mask64,
        }
    }

    /// The integer type of the same width.
    pub fn int(self) -> Elem {
        match self.bytes() {
            1 => Elem::I8,
            2 => Elem::I16,
            4 => Elem::I32,
            _ => Elem::I64,
        }
    }
}

/// Type of a value: `lanes` elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ty {
    /// Element type.
    pub elem: Elem,
    /// Number of lanes; 1 is a scalar.
    pub lanes: u32,
}

impl Ty {
    /// The type of addresses and counts.
    pub const I64: Ty = Ty { elem: Elem::I64, lanes: 1 };

    /// A vector type, or a scalar type for one lane.
    pub const fn new(elem: Elem, lanes: u32) -> Ty {
        Ty { elem, lanes }
    }

    /// Bytes in memory.
    pub fn bytes(self) -> u32 {
        self.elem.bytes() * self.lanes
    }

    /// The same number of lanes of another element type.
    pub fn with(self, elem: Elem) -> Ty {
        Ty { elem, ..self }
    }

    /// The same element type with another number of lanes.
    pub fn with_lanes(self, lanes: u32) -> Ty {
        Ty { lanes, ..self }
    }
}

/// An SSA value of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Val(pub u32);

/// `base + index * scale + offset`; scale 1, 2, 4 or 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Addr {
    /// A pointer.
    pub base: Val,
    /// A count, if any.
    pub index: Option<Val>,
    /// Bytes per index.
    pub scale: u8,
    /// Constant offset in bytes.
    pub offset: i32,
}

/// Operations on two values of one type. Float operations are IEEE; integer ones wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Bin {
    Add,
    Sub,
    Mul,
    /// Floats; scalar integers, truncating. Undefined for a zero divisor or overflow: guard it.
    Div,
    /// Scalar integers, unsigned.
    UDiv,
    /// Scalar integers: the dividend's sign.
    Rem,
    /// Scalar integers, unsigned.
    URem,
    /// Floats: NaN if either is NaN, and either one of two zeros; integers: signed.
    Min,
    Max,
    /// Integers, unsigned.
    UMin,
    UMax,
    /// Integers and masks.
    And,
    Or,
    Xor,
    /// Integers by a scalar `I32` or `I64` count below the width.
    Shl,
    /// Logical.
    Shr,
    /// Arithmetic.
    Sar,
}

/// Operations on one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Un {
    /// Floats and integers.
    Neg,
    /// Floats: clears the sign; integers wrap.
    Abs,
    /// Integers and masks.
    Not,
    Sqrt,
    Floor,
    Ceil,
    Trunc,
    /// Round to nearest, ties to even.
    Nearest,
    /// Number of set bits: scalar integers.
    CountOnes,
}

/// Comparisons; on floats, all except `Ne` are false for NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Integers, unsigned.
    ULt,
    ULe,
    UGt,
    UGe,
}

/// How the bytes of [`Inst::Dot`] are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum DotKind {
    /// The first operand's bytes as unsigned, the second's as signed.
    U8S8,
    S8S8,
    /// As [`DotKind::S8S8`], but the second's bytes are never -128: magnitudes fit bytes, and two products 16 bits.
    S8Narrow,
    U8U8,
}

impl DotKind {
    /// Whether the bytes of each operand are signed.
    pub fn signed(self) -> (bool, bool) {
        match self {
            DotKind::U8S8 => (false, true),
            DotKind::S8S8 | DotKind::S8Narrow => (true, true),
            DotKind::U8U8 => (false, false),
        }
    }
}

/// The variant of [`Inst::Quantize`] and [`Inst::Grid`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rounding {
    /// Whether the bytes are signed.
    pub signed: bool,
    /// Whether no float is NaN or exceeds [`Rounding::BOUND`].
    pub bounded: bool,
}

impl Rounding {
    /// Far from the limits of 32-bit integers.
    pub const BOUND: f64 = 1_073_741_824.0;
}

/// The instruction that defines a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Inst {
    /// A pointer argument.
    Pointer(u32),
    /// A symbol argument, by its index in [`Kernel::symbols`].
    Symbol(u32),
    /// An integer, in every lane.
    Int(i64),
    /// A float, in every lane, as the bits of an `f64` (rounded to `F32` where the type says so).
    Float(u64),
    /// Loads a value of the type.
    Load(Addr),
    /// Loads the lanes below any `i64` count; the others are zero and their memory is not accessed.
    LoadPart(Addr, Val),
    /// Loads consecutive bytes into the lanes whose bits are set in an `I64`; the others are zero. May read as many
    /// bytes as there are lanes, at most 64.
    LoadExpanded(Addr, Val),
    /// An operation on two operands.
    Bin(Bin, Val, Val),
    /// An operation on one operand.
    Un(Un, Val),
    /// `a * b + c` on floats, rounded once. On a target without the instruction, rounded twice.
    Fma(Val, Val, Val),
    /// `a * b[lane] + c`: a by-element multiply-add if the target has it.
    FmaLane(Val, Val, u8, Val),
    /// `acc[i] + a[4i] * b[4i] + .. + a[4i+3] * b[4i+3]`, exact modulo 2^32: `a` and `b` are `I8` with four times the
    /// lanes of `acc`, which is `I32`.
    Dot(DotKind, Val, Val, Val),
    /// Products of 2x8 and 8x2 matrices of bytes, exact modulo 2^32: in each 16 bytes of `a` and `b`, which are `I8` with
    /// four times the lanes of `acc`, are two rows of eight, and `acc`'s four lanes get the sums of row 0 of `a` times rows
    /// 0 and 1 of `b`, then those of row 1 of `a`. Only if [`Target::has_matrix_dot`](mcc_targets::Target::has_matrix_dot).
    MatrixDot(DotKind, Val, Val, Val),
    /// Comparison; the type is the operands' mask type.
    Cmp(Cmp, Val, Val),
    /// `mask ? a : b`, lane by lane.
    Select(Val, Val, Val),
    /// A mask as integers 0 and 1 of the same width.
    MaskToInt(Val),
    /// Whether any lane of a mask is true, as a scalar `Mask8`.
    AnyTrue(Val),
    /// A scalar in every lane.
    Splat(Val),
    /// One lane as a scalar.
    Lane(Val, u8),
    /// A vector with one lane replaced by a scalar.
    WithLane(Val, Val, u8),
    /// Lane `i` of the result is lane `pattern[i]` of `a` followed by `b`.
    Shuffle(Val, Val, Vec<u8>),
    /// The same bits.
    Bitcast(Val),
    /// Between numbers of equal lane count: float to float; signed integer to float; float to signed integer
    /// (truncating, saturating, NaN is 0); integer to narrower (wraps) or wider (sign-extends).
    Convert(Val),
    /// Integer to wider, zero-extending; unsigned integer to float; float to unsigned integer (saturating).
    UConvert(Val),
    /// `F32` vectors of one type quantized to bytes, one vector after another: the nearest integers (ties to even) plus
    /// a zero point (a byte value in every lane), saturated; NaN gives 0.
    Quantize(Vec<Val>, Val, Rounding),
    /// The entry of a table of 256 bytes for each byte, read as unsigned; the second operand points to the table.
    Lookup(Val, Val),
    /// Each lane quantized to a byte as by [`Inst::Quantize`], as an `F32`; a zero may be negative.
    Grid(Val, Val, Rounding),
    /// 16-bit floats, as `I16`, to `F32`. Only if [`Builder::has_halves`].
    FromHalf(Val),
    /// `F32` rounded half to even to 16-bit floats, as `I16`. Only if [`Builder::has_halves`].
    ToHalf(Val),
    /// Lane `i` of the result is lane `b[i]` of `a`, modulo the number of lanes: several 32-bit lanes, and the same
    /// number of `I32` indices.
    Permute(Val, Val),
    /// A value that a structured statement defines (loop index, carried value, result).
    Defined,
}

impl Inst {
    /// The values it reads.
    pub fn operands(&self) -> Vec<Val> {
        match *self {
            Inst::Pointer(_) | Inst::Symbol(_) | Inst::Int(_) | Inst::Float(_) | Inst::Defined => Vec::new(),
            Inst::Load(a) => [Some(a.base), a.index].into_iter().flatten().collect(),
            Inst::LoadPart(a, count) | Inst::LoadExpanded(a, count) => {
                [Some(a.base), a.index, Some(count)].into_iter().flatten().collect()
            }
            Inst::Bin(_, a, b) | Inst::Cmp(_, a, b) | Inst::WithLane(a, b, _) | Inst::Permute(a, b) => vec![a, b],
            Inst::Shuffle(a, b, _) | Inst::Grid(a, b, _) | Inst::Lookup(a, b) => vec![a, b],
            Inst::Quantize(ref parts, zero, _) => parts.iter().copied().chain([zero]).collect(),
            Inst::Fma(a, b, c) | Inst::FmaLane(a, b, _, c) | Inst::Select(a, b, c) => vec![a, b, c],
            Inst::Dot(_, a, b, c) | Inst::MatrixDot(_, a, b, c) => vec![a, b, c],
            Inst::Un(_, a)
            | Inst::MaskToInt(a)
            | Inst::AnyTrue(a)
            | Inst::Splat(a)
            | Inst::Lane(a, _)
            | Inst::Bitcast(a)
            | Inst::Convert(a)
            | Inst::UConvert(a)
            | Inst::FromHalf(a)
            | Inst::ToHalf(a) => vec![a],
        }
    }
}

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stmt {
    /// Computes a value; see [`Kernel::insts`].
    Let(Val),
    /// Stores a value.
    Store(Addr, Val),
    /// Stores the lanes of a value below any `i64` count, and accesses no other memory.
    StorePart(Addr, Val, Val),
    /// Prefetches an address, which need not be valid.
    Prefetch(Addr),
    /// A counted loop.
    For {
        /// The index, `i64`.
        index: Val,
        /// First index.
        start: Val,
        /// Bound.
        end: Val,
        /// Positive.
        step: i64,
        /// Carried values: the value in the body, the initial one, the one for the next round, the one after the loop.
        carried: Vec<Carried>,
        /// The body.
        body: Vec<Stmt>,
    },
    /// A branch.
    If {
        /// A scalar mask.
        condition: Val,
        /// When true.
        then: Vec<Stmt>,
        /// When false.
        otherwise: Vec<Stmt>,
        /// The value of each result after the branch, in the first block, in the second.
        results: Vec<(Val, Val, Val)>,
    },
    /// Copies `bytes` from `from` to `to`; they do not overlap. May become a call of `memcpy`.
    Copy {
        /// Destination pointer.
        to: Val,
        /// Source pointer.
        from: Val,
        /// Number of bytes.
        bytes: Val,
    },
    /// Fills `bytes` with zeros. May become a call of `memset`.
    Zero {
        /// Destination pointer.
        to: Val,
        /// Number of bytes.
        bytes: Val,
    },
}

impl Stmt {
    /// The values that the statement itself reads, without those that the statements within it read.
    pub fn operands(&self) -> Vec<Val> {
        let address = |a: &Addr| [Some(a.base), a.index].into_iter().flatten().collect::<Vec<_>>();
        match self {
            Stmt::Let(_) => Vec::new(),
            Stmt::Store(to, v) => [address(to), vec![*v]].concat(),
            Stmt::StorePart(to, v, count) => [address(to), vec![*v, *count]].concat(),
            Stmt::Prefetch(at) => address(at),
            Stmt::For { start, end, carried, .. } => {
                [*start, *end].into_iter().chain(carried.iter().flat_map(|c| [c.init, c.next])).collect()
            }
            Stmt::If { condition, results, .. } => {
                [*condition].into_iter().chain(results.iter().flat_map(|r| [r.1, r.2])).collect()
            }
            Stmt::Copy { to, from, bytes } => vec![*to, *from, *bytes],
            Stmt::Zero { to, bytes } => vec![*to, *bytes],
        }
    }

    /// The statements within it.
    pub fn blocks(&self) -> Vec<&[Stmt]> {
        match self {
            Stmt::For { body, .. } => vec![body],
            Stmt::If { then, otherwise, .. } => vec![then, otherwise],
            Stmt::Let(_)
            | Stmt::Store(..)
            | Stmt::StorePart(..)
            | Stmt::Prefetch(_)
            | Stmt::Copy { .. }
            | Stmt::Zero { .. } => Vec::new(),
        }
    }
}

/// A value that a loop carries between rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Carried {
    /// Inside the body.
    pub inner: Val,
    /// Before the first round.
    pub init: Val,
    /// At the body's end.
    pub next: Val,
    /// After the loop.
    pub result: Val,
}

/// One function.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// A descriptive name, such as `conv_6x8`; not unique.
    pub name: String,
    /// Pointer arguments.
    pub pointers: u32,
    /// Symbol arguments, after the pointers.
    pub symbols: Vec<Sym>,
    /// Instruction and type of every value.
    pub insts: Vec<(Inst, Ty)>,
    /// Statements.
    pub body: Vec<Stmt>,
}
