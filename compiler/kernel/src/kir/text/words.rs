//! The names of element types and kinds of instructions: one table each, used by the printer and the parser.

use crate::kir::{Bin, Cmp, DotKind, Elem, Rounding, Un};

/// A type whose values have names.
pub(super) trait Word: Sized {
    fn word(&self) -> &'static str;
    fn of(word: &str) -> Option<Self>;
}

/// Implements [`Word`]: one word per value.
macro_rules! words {
    ($($ty:ident { $($value:pat => $made:expr, $word:literal;)* })*) => {
        $(impl Word for $ty {
            fn word(&self) -> &'static str {
                match self { $($value => $word,)* }
            }
            fn of(word: &str) -> Option<$ty> {
                match word { $($word => Some($made),)* _ => None }
            }
        })*
    };
}

/// [`words!`] for variants without fields.
macro_rules! variants {
    ($($ty:ident { $($variant:ident $word:literal)* })*) => {
        words! { $($ty { $($ty::$variant => $ty::$variant, $word;)* })* }
    };
}

variants! {
    Elem {
        I8 "i8" I16 "i16" I32 "i32" I64 "i64" F32 "f32" F64 "f64"
        Mask8 "mask8" Mask16 "mask16" Mask32 "mask32" Mask64 "mask64"
    }
    Bin {
        Add "add" Sub "sub" Mul "mul" Div "div" UDiv "udiv" Rem "rem" URem "urem" Min "min" Max "max" UMin "umin"
        UMax "umax" And "and" Or "or" Xor "xor" Shl "shl" Shr "shr" Sar "sar"
    }
    Un {
        Neg "neg" Abs "abs" Not "not" Sqrt "sqrt" Floor "floor" Ceil "ceil" Trunc "trunc" Nearest "nearest"
        CountOnes "count_ones"
    }
    Cmp { Eq "eq" Ne "ne" Lt "lt" Le "le" Gt "gt" Ge "ge" ULt "ult" ULe "ule" UGt "ugt" UGe "uge" }
    DotKind { U8S8 "u8s8" S8S8 "s8s8" S8Narrow "s8narrow" U8U8 "u8u8" }
}

words! {
    Rounding {
        Rounding { signed: false, bounded: false } => Rounding { signed: false, bounded: false }, "u8";
        Rounding { signed: true, bounded: false } => Rounding { signed: true, bounded: false }, "s8";
        Rounding { signed: false, bounded: true } => Rounding { signed: false, bounded: true }, "bounded_u8";
        Rounding { signed: true, bounded: true } => Rounding { signed: true, bounded: true }, "bounded_s8";
    }
}
