//! Names of machines: the list of those that mcc is made for, and the spellings of them that other tools use.

use target_lexicon::{OperatingSystem, Triple, Vendor};

use crate::UnknownTarget;

/// A machine to compile for.
#[derive(Debug, Clone, Copy)]
pub struct Platform {
    /// Its name; Apple's with a deployment target, for which others may be given.
    pub triple: &'static str,
    /// What it is.
    pub what: &'static str,
    /// How an app takes the object.
    pub link: &'static str,
}

const fn platform(triple: &'static str, what: &'static str, link: &'static str) -> Platform {
    Platform { triple, what, link }
}

const NDK: &str = "add m.o to the native library's sources, or --emit shared";
const CC: &str = "cc main.c m.o, or --emit shared";
const XCODE: &str = "--emit static-lib; add libm.a and m.h to the target";

/// The machines that tests and documents speak of. Other triples of the same architectures and object formats are
/// accepted as well.
pub const PLATFORMS: &[Platform] = &[
    platform("aarch64-linux-android", "Android phones (ABI arm64-v8a)", NDK),
    platform("x86_64-linux-android", "Android emulators, Chromebooks (ABI x86_64)", NDK),
    platform("aarch64-apple-ios17.0", "iPhones and iPads from iOS 17.0 on", XCODE),
    platform("aarch64-apple-ios17.0-sim", "their simulator on Macs with Apple's chips", XCODE),
    platform("aarch64-apple-macosx14.0", "Macs with Apple's chips from macOS 14.0 on", "cc main.c m.o"),
    platform("x86_64-apple-macosx14.0", "Macs with Intel's", "cc main.c m.o"),
    platform("aarch64-unknown-linux-gnu", "Linux on 64-bit Arm, glibc or musl", CC),
    platform("x86_64-unknown-linux-gnu", "Linux on x86-64, glibc or musl", CC),
    platform("x86_64-pc-windows-msvc", "Windows, Visual Studio", "cl main.c m.obj"),
    platform("x86_64-pc-windows-gnu", "Windows, MinGW", "gcc main.c m.obj"),
];

/// Whole names that are no triples, and the triples that they stand for.
const ALIASES: &[[&str; 2]] =
    &[["arm64-v8a", "aarch64-linux-android"], ["x86_64-w64-mingw32", "x86_64-pc-windows-gnu"]];

/// Words of triples, as other tools spell them and as this one's parser does.
const WORDS: &[[&str; 2]] = &[["amd64", "x86_64"], ["x64", "x86_64"], ["simulator", "sim"]];

/// The first version of Android with 64-bit code.
const FIRST_ANDROID: u32 = 21;

/// A triple from any of its usual spellings: `arm64-apple-ios17.0-simulator`, `aarch64-none-linux-android21`.
///
/// # Errors
/// When it is none; with the nearest name that is one.
pub(crate) fn parse(name: &str) -> Result<Triple, UnknownTarget> {
    let canonical = canonical(name)?;
    let triple = canonical.parse::<Triple>().ok().filter(|t| !is_misspelt(t));
    triple.ok_or_else(|| unknown(name, "no such target"))
}

/// The spelling that the parser takes.
fn canonical(name: &str) -> Result<String, UnknownTarget> {
    if let Some([_, triple]) = ALIASES.iter().find(|[alias, _]| *alias == name) {
        return Ok((*triple).to_string());
    }
    let mut words = Vec::new();
    // Arm's toolchains have no vendor.
    for word in name.replacen("-none-linux-", "-linux-", 1).split('-') {
        let known = WORDS.iter().find(|[other, _]| *other == word).map(|[_, word]| *word);
        words.push(match (known, word.strip_prefix("android"), word.strip_prefix("macos")) {
            (Some(known), ..) => known.to_string(),
            (None, Some(level), _) if !level.is_empty() && level.bytes().all(|b| b.is_ascii_digit()) => {
                if level.parse::<u32>().is_ok_and(|level| level < FIRST_ANDROID) {
                    let first = format!("64-bit code runs on Android from API level {FIRST_ANDROID} on");
                    return Err(UnknownTarget(format!("target {name}: {first}")));
                }
                "android".to_string()
            }
            // `macos14` is a triple's `macosx14`.
            (None, None, Some(version)) if !version.starts_with('x') => format!("macosx{version}"),
            _ => word.to_string(),
        });
    }
    Ok(words.join("-"))
}

/// Whether a word that the parser takes for a vendor's name, as it does any, is a misspelt one.
fn is_misspelt(triple: &Triple) -> bool {
    let system = triple.operating_system;
    matches!(triple.vendor, Vendor::Custom(_)) && (system == OperatingSystem::Unknown || system.is_like_darwin())
}

/// The error for a name: the nearest known ones, and all.
pub(crate) fn unknown(name: &str, why: &str) -> UnknownTarget {
    let distance = |other: &str| strsim::damerau_levenshtein(name, other);
    let names = || PLATFORMS.iter().map(|p| p.triple).chain(ALIASES.iter().map(|[alias, _]| *alias));
    let nearest = names().min_by_key(|other| distance(other)).filter(|other| distance(other) <= name.len() / 3);
    let nearest = nearest.map(|other| format!("; did you mean {other}?")).unwrap_or_default();
    let known: Vec<&str> = names().collect();
    UnknownTarget(format!("target {name}: {why}{nearest}\n  known: {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;

    #[test]
    fn spellings_of_other_tools() {
        for (name, canonical) in [
            ("arm64-apple-ios17.0-simulator", "aarch64-apple-ios17.0.0-sim"),
            ("arm64-apple-ios17.0", "aarch64-apple-ios17.0.0"),
            ("arm64-apple-ios", "aarch64-apple-ios"),
            ("arm64-apple-macosx14", "aarch64-apple-macosx14.0.0"),
            ("arm64-apple-macos14.2", "aarch64-apple-macosx14.2.0"),
            ("arm64-apple-macos", "aarch64-apple-macosx"),
            ("arm64-apple-ios17.0-macabi", "aarch64-apple-ios17.0.0-macabi"),
            ("arm64-apple-xros1.0-simulator", "aarch64-apple-xros1.0.0-sim"),
            ("aarch64-linux-android21", "aarch64-linux-android"),
            ("aarch64-none-linux-android", "aarch64-linux-android"),
            ("aarch64-none-linux-android34", "aarch64-linux-android"),
            ("aarch64-unknown-linux-android", "aarch64-linux-android"),
            ("arm64-v8a", "aarch64-linux-android"),
            ("x86_64-linux-android29", "x86_64-linux-android"),
            ("aarch64-linux-gnu", "aarch64-unknown-linux-gnu"),
            ("aarch64-none-linux-gnu", "aarch64-unknown-linux-gnu"),
            ("aarch64-linux-musl", "aarch64-unknown-linux-musl"),
            ("amd64-unknown-linux-gnu", "x86_64-unknown-linux-gnu"),
            ("x86_64-linux-gnu", "x86_64-unknown-linux-gnu"),
            ("x86_64-w64-mingw32", "x86_64-pc-windows-gnu"),
            ("x86_64-windows-msvc", "x86_64-pc-windows-msvc"),
        ] {
            let [of, same] = [name, canonical].map(|t| Target::all(t, None).unwrap_or_else(|e| panic!("{name}: {e}")));
            assert_eq!(of[0].features, same[0].features, "{name}");
            let [of, same] = [of[0].triple.clone(), same[0].triple.clone()];
            assert_eq!(
                (of.architecture, of.operating_system, of.environment, of.binary_format),
                (same.architecture, same.operating_system, same.environment, same.binary_format),
                "{name}"
            );
        }
    }

    #[test]
    fn every_platform_is_a_target() {
        for platform in PLATFORMS {
            Target::all(platform.triple, None).unwrap_or_else(|e| panic!("{e}"));
        }
    }

    #[test]
    fn unknown_names_are_answered_with_known_ones() {
        let error = |name: &str| Target::all(name, None).unwrap_err().0;
        for (name, expected) in [
            ("arch64-linux-android", "did you mean aarch64-linux-android?"),
            ("aarch64-linux-andriod", "did you mean aarch64-linux-android?"),
            ("aarch64-appel-ios17.0", "did you mean aarch64-apple-ios17.0?"),
            ("armv7-linux-androideabi", "64-bit x86 and Arm"),
            ("s390x-unknown-linux-gnu", "s390x"),
            ("aarch64-linux-android16", "from API level 21 on"),
            ("aarch64", "give a full triple"),
            ("phone", "x86_64-pc-windows-msvc"),
        ] {
            assert!(error(name).contains(expected), "{name}: {}", error(name));
        }
        assert!(!error("phone").contains("did you mean"), "{}", error("phone"));
    }
}
