//! The names of everything that a kernel's text names: one table each, read by the printer and by the parser.

use super::parse::Cursor;
use super::print::Printer;
use crate::lower::kir::{Bin, Cmp, DotKind, Elem, Inst, Rounding, Un};
use crate::{Error, Result};

/// A type whose values are words.
pub(super) trait Word: Sized {
    fn word(&self) -> &'static str;
    fn of(word: &str) -> Option<Self>;
}

/// Implements [`Word`]: a word a value.
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

/// Makes printer and parser of the instructions that have operands: a row is the variant and its fields, the first part of
/// the name, the field that the rest of the name tells if there is one, and the operands as they are written.
macro_rules! instructions {
    (@pattern) => { () };
    (@pattern $kind:ident) => { $kind };
    (@told $word:ident $name:literal) => { ($word == $name).then_some(()) };
    (@told $word:ident $name:literal $kind:ident) => { $word.strip_prefix($name).and_then(Word::of) };
    (@name $name:literal) => { $name.to_string() };
    (@name $name:literal $kind:ident) => { format!("{}{}", $name, $kind.word()) };
    ($($variant:ident($($field:ident),*) $name:literal $([$kind:ident])? $($operand:ident),*;)*) => {
        /// An instruction's text; none of literals.
        pub(super) fn show(inst: &Inst, printer: &Printer<'_>) -> Option<String> {
            match inst {
                Inst::Pointer(_) | Inst::Symbol(_) | Inst::Int(_) | Inst::Float(_) => None,
                Inst::Defined => Some(DEFINED.to_string()),
                $(Inst::$variant($($field),*) => {
                    let operands = [$(printer.operand($operand)),*].join(", ");
                    Some(format!("{} {operands}", instructions!(@name $name $($kind)?)))
                })*
            }
        }

        /// The instruction of a name; its operands are what comes next.
        pub(super) fn read(word: &str, cursor: &mut Cursor<'_, '_>) -> Result<Inst> {
            if word == DEFINED {
                return Ok(Inst::Defined);
            }
            $(if let Some(instructions!(@pattern $($kind)?)) = instructions!(@told word $name $($kind)?) {
                $(let $operand = cursor.operand()?;)*
                return Ok(Inst::$variant($($field),*));
            })*
            Err(Error::invalid(format!("there is no instruction `{word}`")))
        }
    };
}

/// Of a value that a loop or a choice is to define.
const DEFINED: &str = "defined";

instructions! {
    Load(from) "load" from;
    LoadPart(from, count) "load_part" from, count;
    LoadExpanded(from, mask) "load_expanded" from, mask;
    Fma(a, b, c) "fma" a, b, c;
    FmaLane(a, b, lane, c) "fma_lane" a, b, lane, c;
    Dot(kind, a, b, acc) "dot_" [kind] a, b, acc;
    Cmp(op, a, b) "cmp_" [op] a, b;
    Select(mask, a, b) "select" mask, a, b;
    MaskToInt(mask) "mask_to_int" mask;
    AnyTrue(mask) "any_true" mask;
    Splat(scalar) "splat" scalar;
    Lane(a, lane) "lane" a, lane;
    WithLane(a, scalar, lane) "with_lane" a, scalar, lane;
    Shuffle(a, b, pattern) "shuffle" a, b, pattern;
    Bitcast(a) "bitcast" a;
    Convert(a) "convert" a;
    UConvert(a) "uconvert" a;
    Quantize(parts, zero, rounding) "quantize_" [rounding] parts, zero;
    Lookup(a, table) "lookup" a, table;
    Grid(a, zero, rounding) "grid_" [rounding] a, zero;
    FromHalf(a) "from_half" a;
    ToHalf(a) "to_half" a;
    Permute(a, places) "permute" a, places;
    Bin(op, a, b) "" [op] a, b;
    Un(op, a) "" [op] a;
}
