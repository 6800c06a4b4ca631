//! Call frame information of DWARF, in the form of `.eh_frame`: what a function's frame is at each instruction.
//!
//! Addresses are distances from where they stand, so that no relocation is left when a library is linked.

use cranelift_object::object::write::{
    Object, Relocation as ObjectRelocation, SectionId, Symbol, SymbolId, SymbolSection,
};
use cranelift_object::object::{
    BinaryFormat, RelocationEncoding, RelocationFlags, RelocationKind, SectionFlags, SectionKind, SymbolFlags,
    SymbolKind, SymbolScope, macho,
};
use gimli::write::{
    Address, CallFrameInstruction, CommonInformationEntry, EhFrame, EndianVec, FrameDescriptionEntry, FrameTable,
    RelocateWriter, Relocation, RelocationTarget,
};
use gimli::{DwEhPe, Encoding, Format, LittleEndian, Register, constants};
use mcc_targets::Arch;
use regalloc2::{PReg, RegClass};

use super::{Done, Frame, Placed, RECORD, Saved, refused};
use mcc_ir::{Error, Result};

/// Registers in DWARF's numbering, and the state of the stack at a function's first instruction.
struct Machine {
    stack: Register,
    frame: Register,
    return_address: Register,
    /// Bytes of the return address on the stack.
    on_stack: i32,
    instruction_bytes: u8,
}

const X86: Machine = Machine {
    stack: gimli::X86_64::RSP,
    frame: gimli::X86_64::RBP,
    return_address: gimli::X86_64::RA,
    on_stack: 8,
    instruction_bytes: 1,
};
const AARCH64: Machine = Machine {
    stack: gimli::AArch64::SP,
    frame: gimli::AArch64::X29,
    return_address: gimli::AArch64::X30,
    on_stack: 0,
    instruction_bytes: 4,
};

/// DWARF's numbers of x86-64's general registers, by their numbers in encodings.
const X86_GENERAL: [u16; 16] = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];
const X86_VECTORS: u16 = 17;
const AARCH64_VECTORS: u16 = 64;

fn number(arch: Arch, register: PReg) -> Register {
    let n = register.hw_enc() as u16;
    Register(match (arch, register.class()) {
        (Arch::X86_64, RegClass::Int) => X86_GENERAL[usize::from(n) % X86_GENERAL.len()],
        (Arch::X86_64, _) => X86_VECTORS + n,
        (Arch::Aarch64, RegClass::Int) => n,
        (Arch::Aarch64, _) => AARCH64_VECTORS + n,
    })
}

/// The section's bytes, and the references to functions in it.
struct Section {
    bytes: EndianVec<LittleEndian>,
    relocations: Vec<Relocation>,
}

impl RelocateWriter for Section {
    type Writer = EndianVec<LittleEndian>;

    fn writer(&self) -> &Self::Writer {
        &self.bytes
    }

    fn writer_mut(&mut self) -> &mut Self::Writer {
        &mut self.bytes
    }

    fn relocate(&mut self, relocation: Relocation) {
        self.relocations.push(relocation);
    }
}

/// The instructions that describe a frame.
fn describe(arch: Arch, machine: &Machine, frame: &Frame, entry: &mut FrameDescriptionEntry) {
    let record = RECORD as i32;
    let mut cfi = |at: u32, instruction| entry.add_instruction(at, instruction);
    for step in &frame.steps {
        match step.done {
            Done::Pushed => {
                cfi(step.at, CallFrameInstruction::CfaOffset(record));
                cfi(step.at, CallFrameInstruction::Offset(machine.frame, -record));
                if machine.on_stack == 0 {
                    cfi(step.at, CallFrameInstruction::Offset(machine.return_address, 8 - record));
                }
            }
            Done::Established => cfi(step.at, CallFrameInstruction::CfaRegister(machine.frame)),
            Done::Saved(Saved { register, below }) => {
                let at = -record - below as i32;
                cfi(step.at, CallFrameInstruction::Offset(number(arch, register), at));
            }
        }
    }
}

/// The table of all functions; symbols are numbered by their order.
fn table(arch: Arch, address: DwEhPe, functions: &[Placed<'_>]) -> Result<Section> {
    let machine = match arch {
        Arch::X86_64 => &X86,
        Arch::Aarch64 => &AARCH64,
    };
    let encoding = Encoding { format: Format::Dwarf32, version: 1, address_size: 8 };
    let mut cie = CommonInformationEntry::new(encoding, machine.instruction_bytes, -8, machine.return_address);
    cie.fde_address_encoding = address;
    cie.add_instruction(CallFrameInstruction::Cfa(machine.stack, machine.on_stack));
    if machine.on_stack > 0 {
        cie.add_instruction(CallFrameInstruction::Offset(machine.return_address, -machine.on_stack));
    }
    let mut table = FrameTable::default();
    let cie = table.add_cie(cie);
    for (symbol, function) in functions.iter().enumerate() {
        let mut entry = FrameDescriptionEntry::new(Address::Symbol { symbol, addend: 0 }, function.length);
        describe(arch, machine, function.frame, &mut entry);
        table.add_fde(cie, entry);
    }
    let bytes = EndianVec::new(LittleEndian);
    let mut section = EhFrame(Section { bytes, relocations: Vec::new() });
    let written = table.write_eh_frame(&mut section);
    written.map_err(|e| Error::internal(format!("unwind tables: {e}")))?;
    Ok(section.0)
}

/// Adds the section to an ELF or Mach-O object.
pub fn add(object: &mut Object<'static>, arch: Arch, functions: &[Placed<'_>]) -> Result<()> {
    let is_macho = object.format() == BinaryFormat::MachO;
    // Differences of symbols are the only distances that Mach-O's relocations for 64-bit Arm express, with 8 bytes.
    let size = if is_macho { constants::DW_EH_PE_absptr } else { constants::DW_EH_PE_sdata4 };
    let address = DwEhPe(constants::DW_EH_PE_pcrel.0 | size.0);
    let Section { bytes, relocations } = table(arch, address, functions)?;
    let section = match is_macho {
        true => object.add_section(b"__TEXT".to_vec(), b"__eh_frame".to_vec(), SectionKind::ReadOnlyData),
        false => object.add_section(Vec::new(), b".eh_frame".to_vec(), SectionKind::ReadOnlyData),
    };
    if is_macho {
        // An entry is dropped with its function, and the linker may merge entries.
        let flags =
            macho::S_COALESCED | macho::S_ATTR_NO_TOC | macho::S_ATTR_STRIP_STATIC_SYMS | macho::S_ATTR_LIVE_SUPPORT;
        object.section_mut(section).flags = SectionFlags::MachO { flags };
    }
    object.append_section_data(section, &bytes.into_vec(), 8);
    let start = is_macho.then(|| object.add_symbol(start_of(section)));
    for relocation in relocations {
        let RelocationTarget::Symbol(function) = relocation.target else {
            return Err(Error::internal("unwind tables: a reference to a section"));
        };
        let (offset, symbol) = (relocation.offset as u64, functions[function].symbol);
        match start {
            Some(start) => difference(object, section, Place { offset, symbol, start })?,
            None => distance(object, section, Reference { offset, symbol })?,
        }
    }
    Ok(())
}

/// A symbol for the section's first byte.
fn start_of(section: SectionId) -> Symbol {
    Symbol {
        name: b"EH_frame".to_vec(),
        value: 0,
        size: 0,
        kind: SymbolKind::Data,
        scope: SymbolScope::Compilation,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    }
}

/// A place in an ELF section that holds a function's distance from there.
struct Reference {
    offset: u64,
    symbol: SymbolId,
}

fn distance(object: &mut Object<'static>, section: SectionId, reference: Reference) -> Result<()> {
    let Reference { offset, symbol } = reference;
    let function = object.symbol(symbol);
    let (value, code) = (function.value as i64, function.section.id());
    let code = code.ok_or_else(|| Error::internal("unwind tables: a function without code"))?;
    let flags =
        RelocationFlags::Generic { kind: RelocationKind::Relative, encoding: RelocationEncoding::Generic, size: 32 };
    // By the section: another library may define a function of the same name, which linkers of libraries allow for.
    let relocation = ObjectRelocation { offset, symbol: object.section_symbol(code), addend: value, flags };
    object.add_relocation(section, relocation).map_err(refused)
}

/// A place in a Mach-O section that holds a function's distance from there.
struct Place {
    offset: u64,
    symbol: SymbolId,
    /// The section's first byte.
    start: SymbolId,
}

fn difference(object: &mut Object<'static>, section: SectionId, place: Place) -> Result<()> {
    let Place { offset, symbol, start } = place;
    let flags =
        RelocationFlags::Generic { kind: RelocationKind::Absolute, encoding: RelocationEncoding::Generic, size: 64 };
    // symbol - (start + offset)
    let relocation = ObjectRelocation { offset, symbol, addend: -(offset as i64), flags };
    object.add_relocation_with_subtractor(section, relocation, Some(start)).map_err(refused)
}
