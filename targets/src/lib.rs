//! Processors and systems as plain data, independent of Cranelift and of the IR.
//!
//! A [`Target`] is made from a triple and a CPU description; everything that depends on the machine reads it. A
//! [`Config`] adds the options for the code: threads, sizes, precision, measured choices.

pub mod choices;
mod config;
mod cpus;
mod features;
pub mod figures;
mod host;
pub mod machine;
pub mod schedule;
mod triples;

use std::cmp::Reverse;

use target_lexicon::{Architecture, BinaryFormat, OperatingSystem, Triple, Vendor};

use self::cpus::{Cpu, default_cpus, levels, parse_cpus};
use self::machine::Machine;
use self::triples::{parse, unknown};

pub use self::config::{Config, Sparsity, WeightFloats};
pub use self::cpus::{CPU_LEVELS, CpuLevel, DEFAULT_CPUS, apple_cpu};
pub use self::features::{CpuWord, FEATURES, Feature, FeatureRow, FeatureSet};
pub use self::host::{TEST_CPU, here, missing_here};
pub use self::triples::{PLATFORMS, Platform};

/// A machine to compile for. What is wanted of its code is a [`Config`].
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Architecture, system and object format.
    pub triple: Triple,
    /// Instruction set family.
    pub arch: Arch,
    /// Extensions that the code may use.
    pub features: FeatureSet,
    /// The machine whose figures schedules and costs use.
    pub machine: &'static Machine,
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

fn arch_of(triple: &Triple) -> Option<Arch> {
    match triple.architecture {
        Architecture::X86_64 => Some(Arch::X86_64),
        Architecture::Aarch64(_) => Some(Arch::Aarch64),
        _ => None,
    }
}

/// Features that the x86 emitter requires, for 256-bit registers and for 512-bit ones.
const AVX2_EMITTER: FeatureSet = FeatureSet::of(&[Feature::Avx2, Feature::Fma, Feature::Bmi1, Feature::Bmi2]);
const AVX512_EMITTER: FeatureSet =
    FeatureSet::of(&[Feature::Avx512f, Feature::Avx512bw, Feature::Avx512cd, Feature::Avx512dq, Feature::Avx512vl]);

impl Target {
    /// The target of a triple and a `--cpu` value (`None`: the family's default level).
    ///
    /// # Errors
    /// When the triple does not parse, its architecture or object format is not supported, or the CPU is unknown.
    pub fn new(triple: &str, cpu: Option<&str>) -> Result<Target, UnknownTarget> {
        Self::from_triple(parse(triple)?, cpu).map(last)
    }

    /// The targets of a triple and all CPUs of a `--cpu` value, the plainest first; at least one. `None` stands for
    /// [`DEFAULT_CPUS`].
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn all(triple: &str, cpu: Option<&str>) -> Result<Vec<Target>, UnknownTarget> {
        let triple = parse(triple)?;
        let cpus = cpu.or_else(|| default_cpus(&triple));
        Self::from_triple(triple, cpus)
    }

    fn from_triple(triple: Triple, cpu: Option<&str>) -> Result<Vec<Target>, UnknownTarget> {
        let Some(arch) = arch_of(&triple) else {
            let other = triple.architecture;
            return Err(unknown(&triple.to_string(), &format!("{other} is not supported, only 64-bit x86 and Arm")));
        };
        let has_format = matches!(triple.binary_format, BinaryFormat::Elf | BinaryFormat::Macho | BinaryFormat::Coff);
        if !has_format || triple.operating_system == OperatingSystem::Unknown {
            return Err(unknown(&triple.to_string(), "give a full triple, such as aarch64-linux-android"));
        }
        let target = |Cpu { features, machine }: Cpu| {
            let mut target = Target { triple: triple.clone(), arch, features, machine, vector_bytes: 16 };
            if features.contains_all(AVX2_EMITTER) {
                target.vector_bytes = if features.contains_all(AVX512_EMITTER) { 64 } else { 32 };
            }
            target
        };
        Ok(parse_cpus(arch, cpu)?.into_iter().map(target).collect())
    }

    /// The CPU as a `--cpu` value: the first level with the most of its extensions, then the remaining extensions.
    pub fn cpu_name(&self) -> String {
        let fits = |l: &&CpuLevel| self.features.contains_all(l.features);
        // Prefer the first of several equal levels, a numbered one; on Apple's systems Apple's own.
        let foreign = |l: &CpuLevel| l.name.starts_with("apple-") != (self.triple.vendor == Vendor::Apple);
        let key = |l: &&CpuLevel| (l.machine != self.machine, Reverse(l.features.len()), foreign(l));
        let level = levels(self.arch).filter(fits).min_by_key(key);
        let others = self.features.difference(level.map(|l| l.features).unwrap_or_default()).names();
        let others = others.into_iter().map(|f| format!("+{f}"));
        level.map(|l| l.name.to_string()).into_iter().chain(others).collect()
    }

    /// Whether the code may use an extension.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(feature)
    }

    /// Whether the emitter has one instruction for four products of bytes and their sum: `vpdpbusd` or `sdot`.
    pub fn has_byte_dot(&self) -> bool {
        match self.vector_bytes {
            64 => self.has(Feature::Avx512vnni),
            32 => self.has(Feature::Avxvnni),
            _ => self.has(Feature::Dotprod),
        }
    }

    /// Whether the emitter has one instruction for products of 2x8 and 8x2 matrices of bytes: `smmla`, `usmmla`.
    pub fn has_matrix_dot(&self) -> bool {
        self.arch == Arch::Aarch64 && self.has(Feature::Dotprod) && self.has(Feature::I8mm)
    }

    /// Number of vector registers of the size that the emitter uses.
    pub fn vector_registers(&self) -> u32 {
        if self.arch == Arch::Aarch64 || self.vector_bytes == 64 { 32 } else { 16 }
    }

    /// Lanes of 32 bits in a vector register.
    pub fn lanes(&self) -> u32 {
        self.vector_bytes / 4
    }

    /// Whether masked loads and stores are about as fast as plain ones.
    pub fn has_masks(&self) -> bool {
        self.arch == Arch::X86_64 && self.vector_bytes > 16
    }

    /// Whether looking up a vector of bytes in a table of 256 takes only a few instructions.
    pub fn has_fast_lookups(&self) -> bool {
        self.vector_bytes == 64 && self.has(Feature::Avx512vbmi)
    }

    /// Whether one instruction expands bytes to the positions of a mask's bits.
    pub fn expands_bytes(&self) -> bool {
        self.vector_bytes == 64 && self.has(Feature::Avx512vbmi2)
    }

    /// Whether expanding bytes takes a few instructions per register, rather than some per byte.
    pub fn spreads_bytes(&self) -> bool {
        self.arch == Arch::X86_64 && self.vector_bytes > 16
    }

    /// Whether the emitter converts 16-bit floats.
    pub fn has_halves(&self) -> bool {
        self.arch == Arch::X86_64 && self.vector_bytes > 16 && self.has(Feature::F16c)
    }

    /// Whether code can read weights that are stored this way, and convert them while reading.
    pub fn reads(&self, weights: WeightFloats) -> bool {
        match weights {
            WeightFloats::AsGiven => true,
            WeightFloats::F16 => self.has_halves(),
            // A shift converts them.
            WeightFloats::Bf16 => self.vector_bytes > 16,
        }
    }

    /// Whether functions begin with a landing pad, the only places that indirect branches may then reach: `bti c` on 64-bit
    /// Arm, in the format that tells linkers of it.
    pub fn has_landing_pads(&self) -> bool {
        self.arch == Arch::Aarch64 && self.triple.binary_format == BinaryFormat::Elf
    }

    /// Whether `a * b + c` is one instruction.
    pub fn has_fma(&self) -> bool {
        self.arch == Arch::Aarch64 || self.has(Feature::Fma)
    }
}

/// The target with the most extensions.
fn last(mut targets: Vec<Target>) -> Target {
    targets.swap_remove(targets.len() - 1)
}
