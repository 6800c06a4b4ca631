//! A static ELF executable from another one (the image) and an object, at fixed addresses.
//!
//! The image's segments stay where they are; the first one begins with room for the file's headers. What is added follows in one segment per kind of access, in the order of
//! [`Part`]: code first, next to the image's functions that it calls; constants last, since they may be larger than a
//! call reaches.

use std::borrow::Cow;
use std::collections::HashMap;

use mcc_ir::{Error, Result};
use mcc_loader::relocation::{self, Relocation};
use object::read::elf::ElfFile64;
use object::{
    Architecture, Object, ObjectSection, ObjectSegment, ObjectSymbol, RelocationFlags, RelocationTarget, SectionFlags,
    SectionIndex, SegmentFlags, SymbolIndex, elf,
};

/// At least the page size of every system: some phones have 16 KiB, some servers 64.
const PAGE: u64 = 1 << 16;
const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
/// Bytes at the start of the image that hold its headers and nothing else, see `device/build.sh`.
const HEADER_ROOM: usize = 1 << 10;
/// At least the alignment of a cache line, for segments.
const SEGMENT_ALIGN: u64 = 64;

/// What may be done with memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Executed.
    Code,
    /// Read and written.
    Writable,
    /// Only read.
    ReadOnly,
}

const PARTS: [Part; 3] = [Part::Code, Part::Writable, Part::ReadOnly];

impl Part {
    fn flags(self) -> elf::ProgramFlags {
        match self {
            Part::Code => elf::PF_R | elf::PF_X,
            Part::Writable => elf::PF_R | elf::PF_W,
            Part::ReadOnly => elf::PF_R,
        }
    }
}

/// Bytes to be placed together.
#[derive(Debug)]
pub struct Span<'a> {
    /// What may be done with them.
    pub part: Part,
    /// The contents.
    pub bytes: Cow<'a, [u8]>,
    /// Alignment of the address.
    pub align: u64,
}

/// A part of the file that the system maps.
struct Segment<'a> {
    address: u64,
    spans: Vec<(u64, Cow<'a, [u8]>)>,
    file_bytes: u64,
    memory_bytes: u64,
    flags: elf::ProgramFlags,
}

/// An executable whose contents are placed, to be completed by [`write`](Executable::write).
pub struct Executable<'a> {
    machine: u16,
    entry: u64,
    /// The image's symbols.
    symbols: HashMap<&'a str, u64>,
    segments: Vec<Segment<'a>>,
}

/// The sections of an object that are loaded, by their number, and where.
pub struct Sections(HashMap<SectionIndex, u64>);

fn broken(what: impl std::fmt::Display) -> Error {
    Error::internal(format!("linking the runner: {what}"))
}

/// What an object's section is for, if it is loaded. Tables for unwinding have no reader here.
fn part_of(section: &object::Section<'_, '_>) -> Option<Part> {
    let SectionFlags::Elf { sh_flags, .. } = section.flags() else { return None };
    let has = |flag| sh_flags & flag == flag;
    let loaded = has(elf::SHF_ALLOC) && section.size() > 0 && section.name().is_ok_and(|n| !n.starts_with(".eh_frame"));
    loaded.then(|| match () {
        () if has(elf::SHF_WRITE) => Part::Writable,
        () if has(elf::SHF_EXECINSTR) => Part::Code,
        () => Part::ReadOnly,
    })
}

impl<'a> Executable<'a> {
    /// The image, followed by the sections of an object and by further spans, each of whose addresses is returned.
    ///
    /// # Errors
    /// When the image or the object cannot be read.
    pub fn new(
        image: &'a ElfFile64<'a>,
        object: &object::File<'a>,
        more: Vec<Span<'a>>,
    ) -> Result<(Executable<'a>, Sections, Vec<u64>)> {
        let machine = match image.architecture() {
            Architecture::Aarch64 => elf::EM_AARCH64,
            _ => elf::EM_X86_64,
        };
        let symbols = image.symbols().filter(|s| s.is_definition());
        let symbols = symbols.filter_map(|s| Some((s.name().ok()?, s.address()))).collect();
        let mut executable = Executable { machine: machine.0, entry: image.entry(), symbols, segments: Vec::new() };
        for segment in image.segments() {
            let SegmentFlags::Elf { p_flags, .. } = segment.flags() else { continue };
            let data = segment.data().map_err(broken)?;
            executable.segments.push(Segment {
                address: segment.address(),
                spans: vec![(segment.address(), Cow::Borrowed(data))],
                file_bytes: data.len() as u64,
                memory_bytes: segment.size(),
                flags: p_flags,
            });
        }
        let mut spans = Vec::new();
        let mut indices = Vec::new();
        for section in object.sections() {
            let Some(part) = part_of(&section) else { continue };
            let data = section.data().map_err(broken)?;
            // The only zeros are a word of the object's own.
            let bytes = if data.is_empty() { vec![0; section.size() as usize].into() } else { Cow::Borrowed(data) };
            spans.push(Span { part, bytes, align: section.align() });
            indices.push(section.index());
        }
        spans.extend(more);
        let addresses = executable.place(spans);
        let own = addresses[indices.len()..].to_vec();
        Ok((executable, Sections(indices.into_iter().zip(addresses).collect()), own))
    }

    /// Places spans behind everything else; their addresses.
    fn place(&mut self, spans: Vec<Span<'a>>) -> Vec<u64> {
        let mut addresses = vec![0; spans.len()];
        let mut spans: Vec<(usize, Span)> = spans.into_iter().enumerate().collect();
        for part in PARTS {
            let (own, others): (Vec<_>, Vec<_>) = spans.into_iter().partition(|(_, span)| span.part == part);
            spans = others;
            let end = self.segments.iter().map(|s| s.address + s.memory_bytes).max().unwrap_or(0);
            let align = own.iter().map(|(_, span)| span.align.clamp(1, PAGE)).max().unwrap_or(1).max(SEGMENT_ALIGN);
            // A segment's first page in memory is that of the file.
            let start = end.next_multiple_of(PAGE) + self.file_end().next_multiple_of(align) % PAGE;
            let mut segment =
                Segment { address: start, spans: Vec::new(), file_bytes: 0, memory_bytes: 0, flags: part.flags() };
            for (n, span) in own {
                addresses[n] = (start + segment.file_bytes).next_multiple_of(span.align.clamp(1, PAGE));
                segment.file_bytes = addresses[n] - start + span.bytes.len() as u64;
                segment.spans.push((addresses[n], span.bytes));
            }
            segment.memory_bytes = segment.file_bytes;
            if !segment.spans.is_empty() {
                self.segments.push(segment);
            }
        }
        addresses
    }

    /// The place in the file of each segment, and the end of all: as close as addresses allow.
    fn file_places(&self) -> (Vec<u64>, u64) {
        let (mut places, mut end) = (Vec::new(), 0u64);
        for segment in &self.segments {
            let at = end + (segment.address.wrapping_sub(end) % PAGE);
            places.push(at);
            end = at + segment.file_bytes;
        }
        (places, end)
    }

    fn file_end(&self) -> u64 {
        self.file_places().1
    }

    /// The address of a symbol of the image.
    ///
    /// # Errors
    /// When it has none of that name.
    pub fn symbol(&self, name: &str) -> Result<u64> {
        let known = self.symbols.get(name).copied();
        known.ok_or_else(|| broken(format!("the object imports {name}, which the runner does not have")))
    }

    /// The address of a symbol of the object.
    ///
    /// # Errors
    /// When neither the object nor the image defines it.
    pub fn address(&self, object: &object::File, sections: &Sections, symbol: SymbolIndex) -> Result<u64> {
        let symbol = object.symbol_by_index(symbol).map_err(broken)?;
        if symbol.is_undefined() {
            return self.symbol(symbol.name().map_err(broken)?);
        }
        let section = symbol.section_index().and_then(|s| sections.0.get(&s));
        Ok(section.ok_or_else(|| broken("a symbol has no section"))? + symbol.address())
    }

    /// Relocates the object's sections.
    ///
    /// # Errors
    /// When the object has relocations that mcc does not emit.
    pub fn relocate(&mut self, object: &object::File, sections: &Sections) -> Result<()> {
        for section in object.sections() {
            let Some(&start) = sections.0.get(&section.index()) else { continue };
            for (offset, entry) in section.relocations() {
                let (RelocationTarget::Symbol(symbol), RelocationFlags::Elf { r_type }) =
                    (entry.target(), entry.flags())
                else {
                    return Err(broken("a relocation without a symbol"));
                };
                let value = self.address(object, sections, symbol)?.wrapping_add_signed(entry.addend()) as i64;
                let here = start + offset;
                let relocation = Relocation { arch: object.architecture(), r_type, here: here as i64, value };
                relocation::apply(self.at(here)?, &relocation)?;
            }
        }
        Ok(())
    }

    /// The bytes at an address, up to the end of their span.
    fn at(&mut self, address: u64) -> Result<&mut [u8]> {
        let spans = self.segments.iter_mut().flat_map(|s| &mut s.spans);
        let mut holding = spans.filter(|(start, bytes)| (*start..start + bytes.len() as u64).contains(&address));
        let (start, bytes) = holding.next().ok_or_else(|| broken(format!("nothing is at {address:#x}")))?;
        Ok(&mut bytes.to_mut()[(address - *start) as usize..])
    }

    /// Overwrites bytes at an address.
    ///
    /// # Errors
    /// When there is less.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let room = self.at(address)?.get_mut(..bytes.len()).ok_or_else(|| broken("a write past the end"))?;
        room.copy_from_slice(bytes);
        Ok(())
    }

    /// The file.
    ///
    /// # Errors
    /// When the headers do not fit before the image's code, which would be a bug here.
    pub fn finish(self) -> Result<Vec<u8>> {
        let (places, end) = self.file_places();
        let mut file: Vec<u8> = Vec::with_capacity(end as usize);
        for (segment, at) in self.segments.iter().zip(&places) {
            for (address, bytes) in &segment.spans {
                file.resize((at + address - segment.address) as usize, 0);
                file.extend_from_slice(bytes);
            }
        }
        let headers = self.headers(&places);
        let room = file.get_mut(..headers.len()).filter(|room| room.len() <= HEADER_ROOM);
        room.ok_or_else(|| broken("no room for headers"))?.copy_from_slice(&headers);
        Ok(file)
    }

    /// The headers of the file and of its segments.
    fn headers(&self, places: &[u64]) -> Vec<u8> {
        let mut file = Vec::with_capacity(HEADER_ROOM);
        // e_ident: 64 bits, little-endian, version 1.
        file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let halves = |file: &mut Vec<u8>, values: &[u16]| file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let words = |file: &mut Vec<u8>, values: &[u32]| file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let longs = |file: &mut Vec<u8>, values: &[u64]| file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        halves(&mut file, &[elf::ET_EXEC.0, self.machine]);
        words(&mut file, &[1]);
        longs(&mut file, &[self.entry, HEADER_BYTES as u64, 0]);
        words(&mut file, &[0]);
        let count = self.segments.len() as u16 + 1;
        halves(&mut file, &[HEADER_BYTES as u16, PROGRAM_HEADER_BYTES as u16, count, 0, 0, 0]);
        for (segment, at) in self.segments.iter().zip(places) {
            words(&mut file, &[elf::PT_LOAD.0, segment.flags.0]);
            let Segment { address, file_bytes, memory_bytes, .. } = segment;
            longs(&mut file, &[*at, *address, *address, *file_bytes, *memory_bytes, PAGE]);
        }
        // A stack that is not executable.
        words(&mut file, &[elf::PT_GNU_STACK.0, Part::Writable.flags().0]);
        longs(&mut file, &[0, 0, 0, 0, 0, 16]);
        file
    }
}
