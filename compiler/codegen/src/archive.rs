//! Objects in static libraries.

use std::io::Cursor;

use ar_archive_writer::{ArchiveKind, DEFAULT_OBJECT_READER, NewArchiveMember, write_archive_to_stream};
use target_lexicon::{BinaryFormat, Triple};

use mcc_ir::{Error, Result};

/// An `ar` archive of an object, with a symbol table, in the format of a platform's linkers.
///
/// # Errors
/// When the archive cannot be built, which would be a bug here.
pub fn archive(object: &[u8], triple: &Triple, name: &str) -> Result<Vec<u8>> {
    let kind = match triple.binary_format {
        BinaryFormat::Macho => ArchiveKind::Darwin,
        BinaryFormat::Coff => ArchiveKind::Coff,
        _ => ArchiveKind::Gnu,
    };
    let name = format!("{name}.o");
    let member = NewArchiveMember::new(object, &DEFAULT_OBJECT_READER, name);
    let mut out = Cursor::new(Vec::new());
    write_archive_to_stream(&mut out, &[member], kind, false, None)
        .map_err(|e| Error::internal(format!("the archive cannot be written: {e}")))?;
    Ok(out.into_inner())
}
