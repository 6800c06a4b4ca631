//! Wraps an object in a static or shared library, or in an executable.

use std::path::Path;
use std::process::Command;

use mcc::driver::{Compiled, Options};
use mcc::{Error, Result};
use target_lexicon::{BinaryFormat, Triple};

use super::runner;

/// Form of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The object itself.
    Object,
    /// An `ar` archive with a symbol table.
    StaticLib,
    /// An ELF shared library.
    Shared,
    /// A static executable around the model.
    Runner,
}

/// Wraps a model's object.
///
/// # Errors
/// When there is no linker, or it fails.
pub fn link(model: &Path, compiled: &Compiled, options: &Options, form: Form) -> Result<Vec<u8>> {
    let object = compiled.object();
    match form {
        Form::Object => Ok(object.to_vec()),
        Form::StaticLib => compiled.static_library(options),
        Form::Shared => shared(object, options),
        Form::Runner => runner::link(model, compiled, options),
    }
}

/// Linker flags of a library that Android's loader takes too: 16 KiB pages, no text relocations, nothing undefined but
/// what the C library has.
const FLAGS: &[&str] = &[
    "-shared",
    "--gc-sections",
    "--hash-style=gnu",
    "-zmax-page-size=16384",
    "-znow",
    "-zrelro",
    "-znoexecstack",
    "-ztext",
];

/// Names of `ld.lld` in various distributions, the newest first.
const LLD: &[&str] =
    &["ld.lld", "ld.lld-22", "ld.lld-21", "ld.lld-20", "ld.lld-19", "ld.lld-18", "ld.lld-17", "ld.lld-16"];

fn shared(object: &[u8], options: &Options) -> Result<Vec<u8>> {
    let triple = &options.config.target.triple;
    if triple.binary_format != BinaryFormat::Elf {
        return Err(Error::unsupported(format!("--emit shared for {triple}"))
            .help("compile an object or a static library, and link it with the platform's own tools"));
    }
    let folder = tempfile::tempdir().map_err(|e| Error::io("a temporary folder", &e))?;
    let (input, output) = (folder.path().join("model.o"), folder.path().join("model.so"));
    std::fs::write(&input, object).map_err(|e| Error::io(input.display(), &e))?;
    let soname = format!("lib{}.so", options.name);
    let found = LLD.iter().find(|lld| Command::new(lld).arg("--version").output().is_ok_and(|o| o.status.success()));
    let mut command = match found {
        Some(lld) => {
            let mut command = Command::new(lld);
            command.args(FLAGS).arg("-soname").arg(&soname);
            command
        }
        None if *triple == Triple::host() => {
            let mut command = Command::new("cc");
            command.args(["-shared", "-nostartfiles"]).arg(format!("-Wl,-soname,{soname}"));
            command
        }
        None => {
            return Err(Error::unsupported("--emit shared: no ld.lld on this machine").help("install lld"));
        }
    };
    let result = command.arg("-o").arg(&output).arg(&input).output().map_err(|e| Error::io("the linker", &e))?;
    if !result.status.success() {
        return Err(Error::internal(format!("the linker failed: {}", String::from_utf8_lossy(&result.stderr).trim())));
    }
    std::fs::read(&output).map_err(|e| Error::io(output.display(), &e))
}
