//! Sizes and conditions: what operands of instructions are besides registers and immediates.

/// The width of a register's lanes, or of a scalar in a register. General registers are of `S` or `D`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Size {
    /// 8 bits.
    B,
    /// 16 bits.
    H,
    /// 32 bits.
    S,
    /// 64 bits.
    D,
    /// 128 bits.
    Q,
}

impl Size {
    /// All sizes.
    pub const ALL: [Size; 5] = [Size::B, Size::H, Size::S, Size::D, Size::Q];

    /// The size of a number of bytes, a power of two up to 16.
    pub fn of(bytes: u32) -> Size {
        Size::ALL[bytes.trailing_zeros().min(4) as usize]
    }

    pub fn log2(self) -> u32 {
        self as u32
    }

    pub fn bytes(self) -> i64 {
        1 << self.log2()
    }
}

/// Condition codes, by their numbers in encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cc {
    Eq = 0,
    Ne = 1,
    Hs = 2,
    Lo = 3,
    /// Negative: of floats, less.
    Mi = 4,
    Pl = 5,
    Hi = 8,
    /// Of floats, less or equal.
    Ls = 9,
    Ge = 10,
    Lt = 11,
    Gt = 12,
    Le = 13,
}

impl Cc {
    /// All conditions.
    pub const ALL: [Cc; 12] =
        [Cc::Eq, Cc::Ne, Cc::Hs, Cc::Lo, Cc::Mi, Cc::Pl, Cc::Hi, Cc::Ls, Cc::Ge, Cc::Lt, Cc::Gt, Cc::Le];

    /// Names in assembly text, by number.
    pub const NAMES: [&str; 14] = ["eq", "ne", "hs", "lo", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le"];

    pub fn inverse(self) -> Cc {
        let other = self as u8 ^ 1;
        Cc::ALL.into_iter().find(|&cc| cc as u8 == other).unwrap_or(self)
    }
}
