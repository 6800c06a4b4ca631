//! How operands are encoded: the columns of the [table](super::table).

use super::operand::Size;

/// A register operand: where its number is, and whether it is read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The result, at bit 0.
    D,
    /// Read at bit 0.
    Dr,
    /// Read and written at bit 0.
    Dm,
    /// Read at bit 5.
    N,
    /// Read and written at bit 5.
    Nm,
    /// Read at bit 16.
    M,
    /// Read at bit 10.
    A,
    /// Written at bit 10.
    Aw,
}

impl Role {
    pub fn bit(self) -> u32 {
        match self {
            Role::D | Role::Dr | Role::Dm => 0,
            Role::N | Role::Nm => 5,
            Role::A | Role::Aw => 10,
            Role::M => 16,
        }
    }

    pub fn letter(self) -> char {
        match self {
            Role::D | Role::Dr | Role::Dm => 'd',
            Role::N | Role::Nm => 'n',
            Role::A | Role::Aw => 'a',
            Role::M => 'm',
        }
    }
}

/// How an immediate is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// 16 bits of a constant.
    Mov16,
    /// Their place: 0, 16, 32 or 48.
    Half,
    /// 12 bits to add or compare.
    Add12,
    /// Bits of a logical operation, see [`bitmask`].
    Bitmask,
    /// A shift below 64 at bit 10.
    Amount,
    Immr,
    Imms,
    /// A condition at bit 12, at bit 0, or the opposite of one at bit 12.
    Cond,
    CondLow,
    Opposite,
    /// An offset: in units of the size, 12 bits; 9 bits with a sign; in units of the size, 7 bits with a sign; the last
    /// two in units of eight bytes.
    Scaled,
    Nine,
    Seven,
    Eights,
    Twelve8,
    /// What the size implies, only printed: a shift, or a number of bytes.
    Implied,
    /// An offset in the constant pool, filled in when the function's length is known.
    Pool,
    /// A lane of the size: beside the size, at bit 11, in memory instructions.
    Lane5,
    Lane4,
    InMemory,
    /// A lane in a product: of 32 bits, or of a float.
    LaneS,
    LaneF,
    /// A number of bytes at bit 11.
    Four11,
    /// A byte of a vector constant, and its place: a multiple of eight.
    Eight,
    Shift8,
    /// A short float, see [`short_float`].
    Float8,
    /// A shift of lanes.
    Left,
    Right,
}

/// How the size is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sized {
    /// The instruction has one size, or its immediate says it.
    One,
    /// The immediate says it; all sizes of lanes.
    Lanes,
    /// `S` or `D`: at bit 31; there and at bit 22.
    Wide,
    WideN,
    WideFloat,
    /// Integer lanes at bit 22: all sizes, or without `D`.
    Size,
    SizeBHS,
    /// Of the narrow lanes: the immediate says it; without `D`.
    Narrow,
    /// Float lanes, `S` or `D`: at bit 22, at bit 29.
    Double,
    Double29,
    /// Lanes at bit 10, at bit 16; whether `D` at bit 30.
    Ten,
    Five,
    Long30,
    /// Of a load or store: of one register, of a general one, of two.
    Transfer,
    TransferG,
    Pair,
}

impl Sized {
    /// Whether an instruction exists in a size.
    pub fn allows(self, size: Size) -> bool {
        match self {
            Sized::One | Sized::Transfer => true,
            Sized::Wide | Sized::WideN | Sized::WideFloat | Sized::Double | Sized::Double29 => {
                matches!(size, Size::S | Size::D)
            }
            Sized::Size | Sized::Lanes | Sized::Ten | Sized::Five | Sized::Long30 | Sized::TransferG => size != Size::Q,
            Sized::SizeBHS | Sized::Narrow => size < Size::D,
            Sized::Pair => size >= Size::S,
        }
    }

    pub fn bits(self, size: Size) -> u32 {
        let (log2, long) = (size.log2(), u32::from(size == Size::D));
        match self {
            Sized::One | Sized::Lanes | Sized::Narrow => 0,
            Sized::Wide => long << 31,
            Sized::WideN | Sized::WideFloat => long << 31 | long << 22,
            Sized::Size | Sized::SizeBHS => log2 << 22,
            Sized::Double => long << 22,
            Sized::Double29 => long << 29,
            Sized::Ten => log2 << 10,
            Sized::Five => 1 << (16 + log2),
            Sized::Long30 => long << 30,
            Sized::Transfer | Sized::TransferG => (log2 & 3) << 30 | (log2 >> 2) << 23,
            Sized::Pair => (log2 - 2) << 30,
        }
    }
}

impl Field {
    /// The bits of a value; `None` if it does not fit.
    pub fn bits(self, size: Size, value: i64) -> Option<u32> {
        let (log2, lanes, width) = (size.log2(), 16 >> size.log2(), 8 * size.bytes());
        let below = |limit: i64| (0..limit).contains(&value).then_some(value as u32);
        let signed = |width: u32, unit: i64| {
            let (units, half) = (value / unit, 1i64 << (width - 1));
            (value % unit == 0 && (-half..half).contains(&units)).then_some(units as u32 & ((1 << width) - 1))
        };
        let scaled =
            |unit: i64| if value % unit == 0 { Some(value / unit).filter(|u| (0..4096).contains(u)) } else { None };
        Some(match self {
            Field::Mov16 => below(1 << 16)? << 5,
            Field::Half => (below(width)? / 16) << 21,
            Field::Add12 => below(1 << 12)? << 10,
            Field::Bitmask => bitmask(value as u64, size)? << 10,
            Field::Amount | Field::Imms => below(width)? << 10,
            Field::Immr => below(width)? << 16,
            Field::Cond => below(14)? << 12,
            Field::CondLow => below(14)?,
            Field::Opposite => (below(14)? ^ 1) << 12,
            Field::Scaled => (scaled(size.bytes())? as u32) << 10,
            Field::Nine => signed(9, 1)? << 12,
            Field::Seven => signed(7, size.bytes())? << 15,
            Field::Eights => signed(7, 8)? << 15,
            Field::Twelve8 => (scaled(8)? as u32) << 10,
            Field::Implied | Field::Pool => 0,
            Field::Lane5 => (below(lanes)? << 1 | 1) << (16 + log2),
            Field::Lane4 => below(lanes)? << (11 + log2),
            Field::InMemory => in_memory(size, below(lanes)?)?,
            Field::LaneS => below(4).map(two_bit_lane)?,
            Field::LaneF if size == Size::D => below(2)? << 11,
            Field::LaneF => below(4).map(two_bit_lane)?,
            Field::Four11 => below(16)? << 11,
            Field::Eight | Field::Float8 => (below(256)? >> 5) << 16 | (value as u32 & 31) << 5,
            Field::Shift8 => (below(32)? / 8) << 13,
            Field::Left => (below(8 << log2)? + (8 << log2)) << 16,
            Field::Right if (1..=8 << log2).contains(&value) => (((16 << log2) - value) as u32) << 16,
            Field::Right => return None,
        })
    }
}

/// A lane of 32 bits in a product by a lane.
fn two_bit_lane(lane: u32) -> u32 {
    (lane & 1) << 21 | (lane >> 1) << 11
}

/// The lane of `ld1` and `st1`, in four bits that the size shares.
fn in_memory(size: Size, lane: u32) -> Option<u32> {
    let place = lane << size.log2();
    let opcode = match size {
        Size::B => 0,
        Size::H => 0b010 << 13,
        Size::S => 0b100 << 13,
        Size::D => 0b100 << 13 | 1 << 10,
        Size::Q => return None,
    };
    Some(opcode | (place >> 3) << 30 | (place >> 2 & 1) << 12 | (place & 3) << 10)
}

/// The encoding of a logical operation's bits: a rotated run of ones in elements that repeat. `None` for all others.
pub fn bitmask(value: u64, size: Size) -> Option<u32> {
    let value = if size == Size::D { value } else { (value & 0xffff_ffff) * 0x1_0000_0001 };
    if value == 0 || value == u64::MAX {
        return None;
    }
    // The shortest element.
    let mut width = 64;
    while width > 2 && value == value.rotate_right(width / 2) {
        width /= 2;
    }
    let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
    let element = value & mask;
    let ones = element.count_ones();
    let run = (1u64 << ones) - 1;
    let turned = |by: u32| (run >> by | if by == 0 { 0 } else { run << (width - by) }) & mask;
    let rotation = (0..width).find(|&by| turned(by) == element)?;
    let n = u32::from(width == 64);
    let lengths = if width == 64 { 0 } else { !(2 * width - 1) & 0x3f };
    Some(n << 12 | rotation << 6 | lengths | (ones - 1))
}

/// The byte that stands for a float with three bits of exponent and four of fraction.
pub fn short_float(value: f64) -> Option<i64> {
    (0..256).find(|&byte| expand_float(byte).to_bits() == value.to_bits())
}

/// The float that a byte stands for.
pub fn expand_float(byte: i64) -> f64 {
    let exponent = (byte >> 4 & 7 ^ 4) - 3;
    let value = (16 + (byte & 15)) as f64 / 16.0 * f64::powi(2.0, exponent as i32);
    if byte & 0x80 == 0 { value } else { -value }
}
