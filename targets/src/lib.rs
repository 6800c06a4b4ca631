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
        let of_arch = || CPU_LEVELS.iter().filter(|l| l.arch == arch);
        let level = match cpu {
            None => of_arch().next(),
            Some(name) => of_arch().find(|l| l.name == name),
        };
        let Some(level) = level else {
            let known: Vec<_> = of_arch().map(|l| l.name).collect();
            return Err(UnknownTarget(format!("cpu {}: known ones are {}", cpu.unwrap_or(""), known.join(", "))));
        };
        Ok(Target { triple, arch, features: level.features.to_vec(), vector_bytes: 16 })
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
