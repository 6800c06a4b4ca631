//! `--target help`: lists the machines to compile for.

use mcc::{Error, Result};
use mcc_targets::{PLATFORMS, Target};
use target_lexicon::BinaryFormat;

use super::say;

/// The value of `--target` that asks for the list.
pub const HELP: &str = "help";

/// Prints the machines: what each is for, its object format and CPU levels, and how an app takes the object.
pub fn targets() -> Result<()> {
    let mut text = String::new();
    for platform in PLATFORMS {
        let targets = Target::all(platform.triple, None).map_err(|e| Error::usage(e.to_string()))?;
        let format = match targets.first().map(|t| t.triple.binary_format) {
            Some(BinaryFormat::Macho) => "Mach-O",
            Some(BinaryFormat::Coff) => "COFF",
            _ => "ELF",
        };
        let cpus: Vec<String> = targets.iter().map(Target::cpu_name).collect();
        text += &format!(
            "{}\n  for     {}\n  object  {format}; code for {} (--cpu)\n  link    {}\n",
            platform.triple,
            platform.what,
            cpus.join(", "),
            platform.link
        );
    }
    text += "\nOther spellings are accepted (arm64-v8a, arm64-apple-ios17.0-simulator, aarch64-none-linux-android21), and other\n\
             versions of Apple's systems: put your deployment target in. The default is this machine.\n";
    say(&text)
}
