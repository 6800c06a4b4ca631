//! Links a model's object into a static executable for Linux or Android: no C library, no NDK, no linker.
//!
//! The program around the model is written in C (`device/`), since the machines that build mcc have a C compiler for
//! both architectures but no Rust library for the other one. It is compiled beforehand: [`IMAGES`] are complete
//! executables with fixed addresses, to which [`link`] adds the object's sections and a [`Card`] that tells the program
//! about the model. `device/build.sh` makes the images, and a test compares them with their sources.

mod executable;
#[cfg(test)]
mod tests;

use object::read::elf::ElfFile64;
use object::{Architecture, Object, ObjectSymbol};

use executable::{Executable, Part, Span};
use mcc_ir::{Error, Result};

/// The program for each architecture.
const IMAGES: &[(Architecture, &[u8])] = &[
    (Architecture::X86_64, include_bytes!("../images/x86_64")),
    (Architecture::Aarch64, include_bytes!("../images/aarch64")),
];

/// What the program is told about its model: `card` in `device/runner.h`.
#[derive(Debug, Clone)]
pub struct Card<'a> {
    /// The prefix of the object's symbols.
    pub name: &'a str,
    /// A JSON object, which the program's reports contain.
    pub manifest: &'a str,
    /// The names of the steps of the code for each CPU level, the plainest first.
    pub levels: &'a [Vec<String>],
    /// The names of the inputs in the order of the model's file, by which recorded cases number them.
    pub file_inputs: &'a [String],
    /// Whether the last input is the weights, which have a file of their own.
    pub separate_weights: bool,
}

/// The executable of an ELF object.
///
/// # Errors
/// When the object is not for Linux or Android on x86-64 or 64-bit Arm, or imports what the program does not have.
pub fn link(object: &[u8], card: &Card) -> Result<Vec<u8>> {
    let file = object::File::parse(object).map_err(|e| Error::internal(format!("object file: {e}")))?;
    let arch = file.architecture();
    let (_, image) = IMAGES
        .iter()
        .find(|(of, _)| *of == arch)
        .ok_or_else(|| Error::unsupported(format!("--emit runner for {arch:?}")))?;
    let image = ElfFile64::parse(*image).map_err(|e| Error::internal(format!("the runner's image: {e}")))?;
    let (text, offsets) = texts(card);
    let pointers = vec![0; 8 * offsets.len()];
    let mut steps = 0;
    let mut starts = Vec::new();
    for level in card.levels {
        starts.extend(i64::to_le_bytes(steps));
        steps += level.len() as i64;
    }
    let more = [(text, 1), (pointers, 8), (starts, 8)];
    let more = more.map(|(bytes, align)| Span { part: Part::ReadOnly, bytes: bytes.into(), align });
    let (mut executable, sections, own) = Executable::new(&image, &file, more.into())?;
    let [texts, table, starts] = own[..] else {
        return Err(Error::internal("linking the runner: texts were not placed"));
    };
    executable.relocate(&file, &sections)?;
    let pointers: Vec<u8> = offsets.iter().flat_map(|at| (texts + *at as u64).to_le_bytes()).collect();
    executable.write(table, &pointers)?;
    let model = format!("{}_model", card.name);
    let model = file.symbols().find(|s| s.is_global() && s.name() == Ok(&model));
    let model = model.ok_or_else(|| Error::internal("object file: no model descriptor"))?;
    let model = executable.address(&file, &sections, model.index())?;
    // The first text is the manifest.
    let inputs = table + 8 + 8 * steps as u64;
    let count = |n: usize| i32::try_from(n).map_err(|_| Error::unsupported("--emit runner: too many steps or inputs"));
    let counts = [steps as usize, card.file_inputs.len(), card.levels.len(), usize::from(card.separate_weights)];
    let mut fields: Vec<u8> =
        [model, texts, table + 8, inputs, starts].iter().flat_map(|at| at.to_le_bytes()).collect();
    for n in counts {
        fields.extend(count(n)?.to_le_bytes());
    }
    let at = executable.symbol("mcc_runner_card")?;
    executable.write(at, &fields)?;
    executable.finish()
}

/// All texts of a card as C strings, and the offset of each: the manifest, the steps' names, the inputs' names.
fn texts(card: &Card) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut offsets) = (Vec::new(), Vec::new());
    let names = card.levels.iter().flatten().chain(card.file_inputs).map(String::as_str);
    for text in std::iter::once(card.manifest).chain(names) {
        offsets.push(bytes.len());
        // A C string ends at its first zero.
        bytes.extend(text.bytes().filter(|&b| b != 0));
        bytes.push(0);
    }
    (bytes, offsets)
}
