//! A stand-in for a C library that is not on this machine.

use object::write::{Object, StandardSection, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolKind, SymbolScope};
use target_lexicon::Triple;

use super::{EMITTERS, cpu};
use mcc_ir::{Error, Result};

/// An ELF object with every function that models import, and no code: linked as a shared library, it lets a linker see
/// which of them a model takes from there.
///
/// # Errors
/// When the object cannot be written, which would be a bug here.
pub fn c_library_stub(triple: &Triple) -> Result<Vec<u8>> {
    let arch = match triple.architecture {
        target_lexicon::Architecture::X86_64 => Architecture::X86_64,
        _ => Architecture::Aarch64,
    };
    let mut object = Object::new(BinaryFormat::Elf, arch, Endianness::Little);
    let text = object.section_id(StandardSection::Text);
    object.append_section_data(text, &[0; 4], 4);
    let imports = EMITTERS.iter().flat_map(|emitter| emitter.imports).copied().chain([cpu::GETAUXVAL]);
    for name in imports {
        object.add_symbol(Symbol {
            name: name.as_bytes().to_vec(),
            value: 0,
            size: 4,
            kind: SymbolKind::Text,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(text),
            flags: SymbolFlags::None,
        });
    }
    object.write().map_err(|e| Error::internal(format!("a stand-in for the C library: {e}")))
}
