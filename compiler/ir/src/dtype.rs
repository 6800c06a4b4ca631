//! Element types.

use std::fmt;

/// The type of a tensor's elements.
///
/// Types of less than a byte take one byte per element everywhere in mcc (IR, arena, and the compiled model's
/// interface), sign-extended if they are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DType {
    F32,
    F64,
    F16,
    BF16,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    F8E8M0,
    F4E2M1,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    I4,
    U4,
    I2,
    U2,
    Bool,
}

/// The kind of number that a type holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DTypeClass {
    /// Floating point of any width.
    Float,
    /// Signed integers.
    Signed,
    /// Unsigned integers.
    Unsigned,
    /// Booleans, one byte, 0 or 1.
    Bool,
}

use DTypeClass::{Bool, Float, Signed, Unsigned};

/// One row per type: name in the text form, storage bytes, significant bits, class, number in ONNX.
const TABLE: &[(DType, &str, usize, u32, DTypeClass, i32)] = &[
    (DType::F32, "f32", 4, 32, Float, 1),
    (DType::F64, "f64", 8, 64, Float, 11),
    (DType::F16, "f16", 2, 16, Float, 10),
    (DType::BF16, "bf16", 2, 16, Float, 16),
    (DType::F8E4M3FN, "f8e4m3fn", 1, 8, Float, 17),
    (DType::F8E4M3FNUZ, "f8e4m3fnuz", 1, 8, Float, 18),
    (DType::F8E5M2, "f8e5m2", 1, 8, Float, 19),
    (DType::F8E5M2FNUZ, "f8e5m2fnuz", 1, 8, Float, 20),
    (DType::F8E8M0, "f8e8m0", 1, 8, Float, 24),
    (DType::F4E2M1, "f4e2m1", 1, 4, Float, 23),
    (DType::I8, "i8", 1, 8, Signed, 3),
    (DType::I16, "i16", 2, 16, Signed, 5),
    (DType::I32, "i32", 4, 32, Signed, 6),
    (DType::I64, "i64", 8, 64, Signed, 7),
    (DType::U8, "u8", 1, 8, Unsigned, 2),
    (DType::U16, "u16", 2, 16, Unsigned, 4),
    (DType::U32, "u32", 4, 32, Unsigned, 12),
    (DType::U64, "u64", 8, 64, Unsigned, 13),
    (DType::I4, "i4", 1, 4, Signed, 22),
    (DType::U4, "u4", 1, 4, Unsigned, 21),
    (DType::I2, "i2", 1, 2, Signed, 26),
    (DType::U2, "u2", 1, 2, Unsigned, 25),
    (DType::Bool, "bool", 1, 1, Bool, 9),
];

impl DType {
    /// Every type, in the table's order.
    pub fn all() -> impl Iterator<Item = DType> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (DType, &'static str, usize, u32, DTypeClass, i32) {
        // The table lists the variants in declaration order; `table_is_in_order` checks it.
        &TABLE[self as usize]
    }

    /// Name in the text form, such as `f32`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The type with this name in the text form.
    pub fn from_name(name: &str) -> Option<DType> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Bytes an element takes in memory.
    pub fn size(self) -> usize {
        self.row().2
    }

    /// Significant bits of an element.
    pub fn bits(self) -> u32 {
        self.row().3
    }

    /// The kind of number that it holds.
    pub fn class(self) -> DTypeClass {
        self.row().4
    }

    /// The type's number in ONNX, which models use too.
    pub fn code(self) -> i32 {
        self.row().5
    }

    /// The type with this number in ONNX; mcc has no text, complex numbers and 6-bit floats.
    pub fn from_code(code: i32) -> Option<DType> {
        TABLE.iter().find(|row| row.5 == code).map(|row| row.0)
    }

    /// Whether it is floating point.
    pub fn is_float(self) -> bool {
        self.class() == Float
    }

    /// Whether it is a signed or unsigned integer (booleans are not).
    pub fn is_int(self) -> bool {
        matches!(self.class(), Signed | Unsigned)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_order() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i);
            assert_eq!(DType::from_name(row.1), Some(row.0));
            assert_eq!(DType::from_code(row.5), Some(row.0));
        }
    }
}
