//! What mcc knows of processors and systems, as plain data: no Cranelift, no model.
//!
//! A [`Target`] is a value made of a triple and a CPU description; everything that depends on the machine asks it.

pub mod schedule;

use target_lexicon::{Architecture, BinaryFormat, Triple};

/// A machine to compile for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Architecture, system and object format.
    pub triple: Triple,
    /// Instruction set family.
    pub arch: Arch,
    /// Instruction set extensions that the code may use, by Cranelift's names (`has_avx`, `has_dotprod`).
    pub features: Vec<&'static str>,
    /// Bytes of a vector register that the emitter uses.
    pub vector_bytes: u32,
}

/// Instruction set family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// A triple or CPU name that mcc does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownTarget(pub String);

/// One CPU level: its name and the features it stands for.
pub struct CpuLevel {
    /// Name as given to `--cpu`.
    pub name: &'static str,
    /// Family it belongs to.
    pub arch: Arch,
    /// Extensions, by Cranelift's names.
    pub features: &'static [&'static str],
}

const V2: &[&str] = &["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt", "has_cmpxchg16b"];
const V3: &[&str] = &[
    "has_sse3",
    "has_ssse3",
    "has_sse41",
    "has_sse42",
    "has_popcnt",
    "has_cmpxchg16b",
    "has_avx",
    "has_avx2",
    "has_fma",
    "has_bmi1",
    "has_bmi2",
    "has_lzcnt",
];

/// Every CPU level that `--cpu` takes, the default of each family first.
pub const CPU_LEVELS: &[CpuLevel] = &[
    CpuLevel { name: "x86-64-v3", arch: Arch::X86_64, features: V3 },
    CpuLevel { name: "x86-64-v2", arch: Arch::X86_64, features: V2 },
    CpuLevel { name: "generic", arch: Arch::Aarch64, features: &[] },
];

/// Extensions that `--cpu` turns on and off: family, name there, Cranelift's name.
pub const FEATURES: &[(Arch, &str, &str)] = &[
    (Arch::X86_64, "sse3", "has_sse3"),
    (Arch::X86_64, "ssse3", "has_ssse3"),
    (Arch::X86_64, "sse4.1", "has_sse41"),
    (Arch::X86_64, "sse4.2", "has_sse42"),
    (Arch::X86_64, "popcnt", "has_popcnt"),
    (Arch::X86_64, "cmpxchg16b", "has_cmpxchg16b"),
    (Arch::X86_64, "avx", "has_avx"),
    (Arch::X86_64, "avx2", "has_avx2"),
    (Arch::X86_64, "fma", "has_fma"),
    (Arch::X86_64, "bmi1", "has_bmi1"),
    (Arch::X86_64, "bmi2", "has_bmi2"),
    (Arch::X86_64, "lzcnt", "has_lzcnt"),
    (Arch::Aarch64, "lse", "has_lse"),
    (Arch::Aarch64, "fp16", "has_fp16"),
    (Arch::Aarch64, "dotprod", "has_dotprod"),
    (Arch::Aarch64, "i8mm", "has_i8mm"),
];

impl Target {
    /// The target of a triple and a `--cpu` value (`None`: the family's default level).
    ///
    /// # Errors
    /// When the triple does not parse, its architecture or object format is not supported, or the CPU is unknown.
    pub fn new(triple: &str, cpu: Option<&str>) -> Result<Target, UnknownTarget> {
        let parsed: Triple = triple.parse().map_err(|e| UnknownTarget(format!("target {triple}: {e}")))?;
        Self::from_triple(parsed, cpu)
    }

    /// The machine this process runs on, at a `--cpu` level.
    ///
    /// # Errors
    /// When the host is not supported or the CPU is unknown.
    pub fn host(cpu: Option<&str>) -> Result<Target, UnknownTarget> {
        Self::from_triple(Triple::host(), cpu)
    }

    fn from_triple(triple: Triple, cpu: Option<&str>) -> Result<Target, UnknownTarget> {
        let arch = match triple.architecture {
            Architecture::X86_64 => Arch::X86_64,
            Architecture::Aarch64(_) => Arch::Aarch64,
            other => return Err(UnknownTarget(format!("target {triple}: architecture {other} is not supported"))),
        };
        if !matches!(triple.binary_format, BinaryFormat::Elf | BinaryFormat::Macho | BinaryFormat::Coff) {
            return Err(UnknownTarget(format!("target {triple}: give a full triple such as aarch64-linux-android")));
        }
        let features = cpu_features(arch, cpu)?;
        Ok(Target { triple, arch, features, vector_bytes: 16 })
    }

    /// Whether the code may use an extension, by Cranelift's name.
    pub fn has(&self, feature: &str) -> bool {
        self.features.contains(&feature)
    }

    /// Whether `a * b + c` is one instruction.
    pub fn has_fma(&self) -> bool {
        self.arch == Arch::Aarch64 || self.has("has_fma")
    }
}

/// The extensions of a `--cpu` value: a level or `native`, then `+feature` and `-feature`, separated by commas; without a
/// level the family's default one.
fn cpu_features(arch: Arch, cpu: Option<&str>) -> Result<Vec<&'static str>, UnknownTarget> {
    let levels = || CPU_LEVELS.iter().filter(move |l| l.arch == arch);
    let mut features: Vec<&'static str> = levels().next().map(|l| l.features.to_vec()).unwrap_or_default();
    for (n, part) in cpu.unwrap_or_default().split(',').filter(|p| !p.is_empty()).enumerate() {
        let known = |name: &str| FEATURES.iter().find(|f| f.0 == arch && f.1 == name).map(|f| f.2);
        let all_features = || FEATURES.iter().filter(|f| f.0 == arch).map(|f| f.1).collect::<Vec<_>>().join(", ");
        let unknown =
            |name: &str| UnknownTarget(format!("cpu feature {name}: known ones of this family are {}", all_features()));
        if let Some(name) = part.strip_prefix('+') {
            features.push(known(name).ok_or_else(|| unknown(name))?);
        } else if let Some(name) = part.strip_prefix('-') {
            let off = known(name).ok_or_else(|| unknown(name))?;
            features.retain(|f| *f != off);
        } else if n == 0 && part == "native" {
            features = native(arch)?;
        } else {
            let level = levels().find(|l| n == 0 && l.name == part).ok_or_else(|| {
                let names: Vec<&str> = levels().map(|l| l.name).collect();
                UnknownTarget(format!(
                    "cpu {part}: give a level ({}, native), then +FEATURE or -FEATURE: {}",
                    names.join(", "),
                    all_features()
                ))
            })?;
            features = level.features.to_vec();
        }
    }
    features.sort_unstable();
    features.dedup();
    Ok(features)
}

/// The extensions of the best level that this machine has.
fn native(arch: Arch) -> Result<Vec<&'static str>, UnknownTarget> {
    #[cfg(target_arch = "x86_64")]
    let (host, has_v3) = (Arch::X86_64, {
        use std::arch::is_x86_feature_detected as has;
        has!("avx2") && has!("fma") && has!("bmi1") && has!("bmi2") && has!("lzcnt")
    });
    #[cfg(target_arch = "aarch64")]
    let (host, has_v3) = (Arch::Aarch64, false);
    if arch != host {
        return Err(UnknownTarget("cpu native: the target is not this machine; name a level".to_string()));
    }
    let best = match (arch, has_v3) {
        (Arch::X86_64, true) => V3,
        (Arch::X86_64, false) => V2,
        (Arch::Aarch64, _) => &[],
    };
    Ok(best.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_values() {
        let of = |cpu| Target::new("x86_64-unknown-linux-gnu", Some(cpu));
        assert!(of("x86-64-v3").unwrap().has_fma());
        assert!(!of("x86-64-v3,-fma").unwrap().has_fma());
        assert!(of("x86-64-v2,+avx,+fma").unwrap().has_fma());
        assert!(of("-fma").unwrap().has("has_avx2"));
        assert!(of("x86-64-v9").unwrap_err().0.contains("x86-64-v2"));
        assert!(of("+dotprod").unwrap_err().0.contains("avx2"));
        assert!(Target::new("aarch64-linux-android", Some("generic,+dotprod")).unwrap().has("has_dotprod"));
        assert!(Target::new("s390x-unknown-linux-gnu", None).is_err());
    }
}
