//! Unwind information of Windows on x86-64: `.pdata` has a row per function, `.xdata` what its prologue does.
//!
//! The system undoes the prologue from its last step to its first. Saved registers are given by their distance from a
//! base, which lies below all of them: as if the prologue allocated the bytes between base and frame pointer and then
//! set the frame pointer so far above the stack pointer. Whatever else the function allocates needs no mention.

use cranelift_object::object::write::{Object, Relocation, SectionId, Symbol, SymbolId, SymbolSection};
use cranelift_object::object::{
    RelocationEncoding, RelocationFlags, RelocationKind, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};
use regalloc2::RegClass;

use super::{Done, Frame, Placed, refused};
use mcc_ir::{Error, Result};

const VERSION: u8 = 1;
const RBP: u8 = 5;
/// Operations of unwind codes.
const PUSH: u8 = 0;
const ALLOCATE_LARGE: u8 = 1;
const ALLOCATE_SMALL: u8 = 2;
const SET_FRAME: u8 = 3;
const SAVE_GENERAL: u8 = 4;
const SAVE_VECTOR: u8 = 8;
/// The most bytes from the base to the frame pointer, and the unit.
const FARTHEST: u32 = 240;
const UNIT: u32 = 16;

/// An unwind code.
struct Code {
    /// Offset behind the instruction. A prologue of more bytes is described as if its last instructions were earlier.
    at: u8,
    operation: u8,
    info: u8,
    operand: Option<u16>,
}

/// `UNWIND_INFO` of a frame.
///
/// # Errors
/// When registers are saved too far from the frame pointer.
pub(super) fn unwind_info(frame: &Frame) -> Result<Vec<u8>> {
    let base = frame.saved().map(|s| s.below).max().unwrap_or(0).next_multiple_of(UNIT);
    if base > FARTHEST {
        return Err(Error::internal(format!("registers are saved {base} bytes below the frame pointer")));
    }
    let mut codes = Vec::new();
    for step in &frame.steps {
        let at = u8::try_from(step.at).unwrap_or(u8::MAX);
        match step.done {
            Done::Pushed => codes.push(Code { at, operation: PUSH, info: RBP, operand: None }),
            Done::Established => {
                if let Some(more) = (base / 8).checked_sub(1) {
                    codes.push(match u8::try_from(more).ok().filter(|&more| more < 16) {
                        Some(info) => Code { at, operation: ALLOCATE_SMALL, info, operand: None },
                        None => Code { at, operation: ALLOCATE_LARGE, info: 0, operand: Some((base / 8) as u16) },
                    });
                }
                codes.push(Code { at, operation: SET_FRAME, info: 0, operand: None });
            }
            Done::Saved(saved) => {
                let (operation, unit) = match saved.register.class() {
                    RegClass::Int => (SAVE_GENERAL, 8),
                    _ => (SAVE_VECTOR, UNIT),
                };
                let offset = base - saved.below;
                if offset % unit != 0 {
                    return Err(Error::internal(format!("{} is not saved at a multiple of {unit}", saved.register)));
                }
                let operand = Some((offset / unit) as u16);
                codes.push(Code { at, operation, info: saved.register.hw_enc() as u8, operand });
            }
        }
    }
    let slots: usize = codes.iter().map(|code| 1 + usize::from(code.operand.is_some())).sum();
    let prologue = codes.last().map_or(0, |code| code.at);
    let slots = u8::try_from(slots).map_err(|_| Error::internal("unwind codes of too long a prologue"))?;
    let mut bytes = vec![VERSION, prologue, slots, RBP | ((base / UNIT) as u8) << 4];
    for code in codes.iter().rev() {
        bytes.extend([code.at, code.operation | code.info << 4]);
        bytes.extend(code.operand.into_iter().flat_map(u16::to_le_bytes));
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

/// Adds the sections to a COFF object. Functions without a frame need no rows.
pub(super) fn add(object: &mut Object<'static>, functions: &[Placed<'_>]) -> Result<()> {
    let mut section = |name: &[u8]| object.add_section(Vec::new(), name.to_vec(), SectionKind::ReadOnlyData);
    let (rows, infos) = (section(b".pdata"), section(b".xdata"));
    let infos_start = object.add_symbol(Symbol {
        name: b"$unwind".to_vec(),
        value: 0,
        size: 0,
        kind: SymbolKind::Data,
        scope: SymbolScope::Compilation,
        weak: false,
        section: SymbolSection::Section(infos),
        flags: SymbolFlags::None,
    });
    for function in functions.iter().filter(|f| !f.frame.steps.is_empty()) {
        let info = object.append_section_data(infos, &unwind_info(function.frame)?, 4);
        let row = object.append_section_data(rows, &[0; 12], 4);
        image_offset(object, rows, Address { at: row, symbol: function.symbol, addend: 0 })?;
        image_offset(object, rows, Address { at: row + 4, symbol: function.symbol, addend: function.length.into() })?;
        image_offset(object, rows, Address { at: row + 8, symbol: infos_start, addend: info as i64 })?;
    }
    Ok(())
}

/// An address, and where it stands.
struct Address {
    at: u64,
    symbol: SymbolId,
    addend: i64,
}

/// An address relative to the image's.
fn image_offset(object: &mut Object<'static>, section: SectionId, address: Address) -> Result<()> {
    let Address { at, symbol, addend } = address;
    let flags =
        RelocationFlags::Generic { kind: RelocationKind::ImageOffset, encoding: RelocationEncoding::Generic, size: 32 };
    object.add_relocation(section, Relocation { offset: at, symbol, addend, flags }).map_err(refused)
}
