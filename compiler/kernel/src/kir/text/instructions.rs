//! The names of instructions and the order of their operands: one table, read by the printer and by the parser.

use super::cursor::Cursor;
use super::show::Operands;
use super::words::Word;
use crate::kir::Inst;
use mcc_ir::{Error, Result};

/// Generates the printer and parser of instructions with operands: a row is the variant and its fields, the first part
/// of the name, the field that selects the rest of the name, if any, and the operands as they are written.
macro_rules! instructions {
    (@pattern) => { () };
    (@pattern $kind:ident) => { $kind };
    (@told $word:ident $name:literal) => { ($word == $name).then_some(()) };
    (@told $word:ident $name:literal $kind:ident) => { $word.strip_prefix($name).and_then(Word::of) };
    (@name $name:literal) => { $name.to_string() };
    (@name $name:literal $kind:ident) => { format!("{}{}", $name, $kind.word()) };
    ($($variant:ident($($field:ident),*) $name:literal $([$kind:ident])? $($operand:ident),*;)*) => {
        /// An instruction's text; `None` for literals.
        pub(super) fn show(inst: &Inst, operands: &Operands<'_>) -> Option<String> {
            match inst {
                Inst::Pointer(_) | Inst::Symbol(_) | Inst::Int(_) | Inst::Float(_) => None,
                Inst::Defined => Some(DEFINED.to_string()),
                $(Inst::$variant($($field),*) => {
                    let texts = [$(operands.show($operand)),*].join(", ");
                    Some(format!("{} {texts}", instructions!(@name $name $($kind)?)))
                })*
            }
        }

        /// The instruction with a name; its operands follow.
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

/// The name for values defined by a loop or branch.
const DEFINED: &str = "defined";

instructions! {
    Load(from) "load" from;
    LoadPart(from, count) "load_part" from, count;
    LoadExpanded(from, mask) "load_expanded" from, mask;
    Fma(a, b, c) "fma" a, b, c;
    FmaLane(a, b, lane, c) "fma_lane" a, b, lane, c;
    Dot(kind, a, b, acc) "dot_" [kind] a, b, acc;
    MatrixDot(kind, a, b, acc) "matrix_dot_" [kind] a, b, acc;
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
