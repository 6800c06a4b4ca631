//! The note in ELF objects for 64-bit Arm that all functions begin with a landing pad. A linker gives it to a library whose
//! objects all have it; the system then lets indirect branches reach landing pads only.

use cranelift_object::object::write::Object;
use cranelift_object::object::{SectionFlags, SectionKind, elf};

#[cfg(test)]
#[path = "note_tests.rs"]
mod tests;

/// `NT_GNU_PROPERTY_TYPE_0` of the owner "GNU".
const TYPE: u32 = 5;
/// `GNU_PROPERTY_AARCH64_FEATURE_1_AND`.
const FEATURES: u32 = 0xc000_0000;
/// `GNU_PROPERTY_AARCH64_FEATURE_1_BTI`.
const LANDING_PADS: u32 = 1;

/// Adds the note.
pub fn add_landing_pads(object: &mut Object<'static>) {
    // The name's and the description's length, the type, the name; the property, its length, its value, padding.
    let words = [4, 16, TYPE, u32::from_le_bytes(*b"GNU\0"), FEATURES, 4, LANDING_PADS, 0];
    let section = object.add_section(Vec::new(), b".note.gnu.property".to_vec(), SectionKind::Note);
    object.section_mut(section).flags = SectionFlags::Elf { sh_flags: elf::SHF_ALLOC.into() };
    let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    object.append_section_data(section, &bytes, 8);
}
