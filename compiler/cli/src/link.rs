//! Wraps an object in a static or shared library, or in an executable.

use std::path::Path;
use std::process::Command;

use mcc::driver::{Compiled, Options};
use mcc::{Error, Result, codegen};
use target_lexicon::{BinaryFormat, Environment, OperatingSystem, Triple};

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

/// The end of a library's file name on some systems.
struct Ending {
    extension: &'static str,
    form: Form,
    /// The formats of objects on these systems; all, if empty.
    formats: &'static [BinaryFormat],
}

/// Endings that tell the form. Whatever ends otherwise is an object.
const ENDINGS: &[Ending] = &[
    Ending { extension: "so", form: Form::Shared, formats: &[BinaryFormat::Elf] },
    Ending { extension: "dylib", form: Form::Shared, formats: &[BinaryFormat::Macho] },
    Ending { extension: "dll", form: Form::Shared, formats: &[BinaryFormat::Coff] },
    Ending { extension: "a", form: Form::StaticLib, formats: &[] },
    Ending { extension: "lib", form: Form::StaticLib, formats: &[BinaryFormat::Coff] },
];

/// The form that an output's file name tells.
///
/// # Errors
/// When files of that name are other systems'.
pub fn form_of(output: &Path, triple: &Triple) -> Result<Form> {
    let extension = output.extension().unwrap_or_default().to_ascii_lowercase();
    let Some(ending) = ENDINGS.iter().find(|e| extension == e.extension) else { return Ok(Form::Object) };
    let fits = |e: &Ending| e.formats.is_empty() || e.formats.contains(&triple.binary_format);
    if fits(ending) {
        return Ok(ending.form);
    }
    let own = ENDINGS.iter().find(|e| e.form == ending.form && fits(e)).map_or("o", |e| e.extension);
    Err(Error::usage(format!("-o {}: a file of this name would be no library of {triple}", output.display()))
        .help(format!("its libraries end in .{own}; --emit object writes an object of any name")))
}

/// Wraps a model's object, for a file of a name.
///
/// # Errors
/// When there is no linker, or it fails.
pub fn link(model: &Path, compiled: &Compiled, options: &Options, form: Form, output: &Path) -> Result<Vec<u8>> {
    let object = compiled.object();
    match form {
        Form::Object => Ok(object.to_vec()),
        Form::StaticLib => compiled.static_library(options),
        Form::Shared => shared(object, &options.config.target.triple, output),
        Form::Runner => runner::link(model, compiled, options),
    }
}

/// Linker flags of a library that Android's loader takes too: 16 KiB pages, no text relocations, only libraries that it
/// needs.
const FLAGS: &[&str] = &[
    "-shared",
    "--gc-sections",
    "--hash-style=gnu",
    "--as-needed",
    "-zmax-page-size=16384",
    "-znow",
    "-zrelro",
    "-znoexecstack",
    "-ztext",
];

/// Names of `ld.lld` in various distributions, the newest first.
const LLD: &[&str] =
    &["ld.lld", "ld.lld-22", "ld.lld-21", "ld.lld-20", "ld.lld-19", "ld.lld-18", "ld.lld-17", "ld.lld-16"];

/// The name that a system's programs know its C library by, from which libraries take what objects import. Where it is
/// not known, libraries leave it to the program.
fn c_library(triple: &Triple) -> Option<&'static str> {
    match (triple.operating_system, triple.environment) {
        (OperatingSystem::Linux, Environment::Android | Environment::Musl | Environment::Ohos) => Some("libc.so"),
        (OperatingSystem::Linux, _) => Some("libc.so.6"),
        _ => None,
    }
}

fn shared(object: &[u8], triple: &Triple, output: &Path) -> Result<Vec<u8>> {
    if triple.binary_format != BinaryFormat::Elf {
        return Err(Error::unsupported(format!("--emit shared for {triple}"))
            .help("compile an object or a static library, and link it with the platform's own tools"));
    }
    let folder = tempfile::tempdir().map_err(|e| Error::io("a temporary folder", &e))?;
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, bytes: &[u8]| std::fs::write(at(name), bytes).map_err(|e| Error::io(name, &e));
    write("model.o", object)?;
    // Programs and other libraries name a library by its SONAME: the file's name.
    let soname = output.file_name().unwrap_or_default();
    let found = LLD.iter().find(|lld| Command::new(lld).arg("--version").output().is_ok_and(|o| o.status.success()));
    let mut command = match found {
        Some(lld) => {
            let mut command = Command::new(lld);
            command.args(FLAGS).arg("-soname").arg(soname).arg(at("model.o"));
            if let Some(name) = c_library(triple) {
                // A library that has what objects import stands for the target's C library, which is not here.
                write("libc.o", &codegen::c_library_stub(triple)?)?;
                let mut stub = Command::new(lld);
                run(stub.args(["-shared", "-soname", name, "-o"]).arg(at("libc.so")).arg(at("libc.o")))?;
                // Nothing may be undefined that it lacks.
                command.arg(at("libc.so")).arg("-zdefs");
            }
            command
        }
        None if *triple == Triple::host() => {
            let mut command = Command::new("cc");
            let mut option = std::ffi::OsString::from("-Wl,-soname,");
            option.push(soname);
            command.args(["-shared", "-nostartfiles"]).arg(option).arg(at("model.o"));
            command
        }
        None => {
            return Err(Error::unsupported("--emit shared: no ld.lld on this machine").help("install lld"));
        }
    };
    run(command.arg("-o").arg(at("model.so")))?;
    std::fs::read(at("model.so")).map_err(|e| Error::io("the linker's output", &e))
}

/// Runs the linker.
fn run(command: &mut Command) -> Result<()> {
    let result = command.output().map_err(|e| Error::io("the linker", &e))?;
    if result.status.success() {
        return Ok(());
    }
    Err(Error::internal(format!("the linker failed: {}", String::from_utf8_lossy(&result.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_form() {
        let of = |name: &str, triple: &str| form_of(Path::new(name), &triple.parse().unwrap());
        let (linux, mac, windows) = ("aarch64-linux-android", "aarch64-apple-darwin", "x86_64-pc-windows-gnu");
        for (name, triple, form) in [
            ("m.o", linux, Form::Object),
            ("m", linux, Form::Object),
            ("m.obj", windows, Form::Object),
            ("libm.so", linux, Form::Shared),
            ("libm.a", linux, Form::StaticLib),
            ("libm.A", mac, Form::StaticLib),
            ("m.lib", windows, Form::StaticLib),
            ("libm.dylib", mac, Form::Shared),
            ("m.dll", windows, Form::Shared),
        ] {
            assert_eq!(of(name, triple).unwrap(), form, "{name}");
        }
        for (name, triple, right) in [("m.dll", linux, ".so"), ("m.so", mac, ".dylib"), ("m.lib", mac, ".a")] {
            let error = of(name, triple).unwrap_err();
            assert!(matches!(error, Error::Usage(_)), "{error}");
            assert!(error.report().help.as_ref().unwrap().contains(right), "{error}");
        }
    }
}
