//! What mcc knows of processors and systems, as plain data: no Cranelift, no model.
//!
//! A [`Target`] is a value made of a triple and a CPU description; everything that depends on the machine asks it.

pub mod block_schedule;
pub mod choices;
pub mod dot_schedule;
mod host;
pub mod layout_schedule;
pub mod schedule;
pub mod sparse_schedule;

use std::cmp::Reverse;

use target_lexicon::{Architecture, BinaryFormat, Environment, Triple, Vendor};

use self::choices::Choices;

pub use self::host::{TEST_CPU, missing_here};

/// A machine to compile for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Architecture, system and object format.
    pub triple: Triple,
    /// Instruction set family.
    pub arch: Arch,
    /// Names of the [`FEATURES`] that the code may use.
    pub features: Vec<&'static str>,
    /// Bytes of a vector register that the emitter uses.
    pub vector_bytes: u32,
    /// Most threads that a run may use; with 1, code knows of no threads.
    pub threads: u32,
    /// What was measured to be faster than what the schedules say.
    pub choices: Choices,
    /// Which weights are kept as their non-zeros.
    pub sparsity: Sparsity,
    /// Whether bytes of the object count for more than time.
    pub compact: bool,
    /// How weights that are floats are stored.
    pub weights: WeightFloats,
    /// Whether the compiler checks its own work, stage by stage; code is the same. The default is that of debug assertions.
    pub checked: bool,
}

/// How weights that are floats are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WeightFloats {
    /// As the model has them.
    #[default]
    AsGiven,
    /// Rounded to IEEE's 16 bits.
    F16,
    /// Rounded to the upper 16 bits of `f32`.
    Bf16,
}

/// When weights with zeros are kept as their non-zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sparsity {
    /// Where the cost model finds that faster.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Wherever there is a kernel for it.
    Force,
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
    /// Lists of the [`FEATURES`] it has.
    pub features: &'static [&'static [&'static str]],
}

/// One instruction set extension: its family, its name for `--cpu`, how a program finds it.
pub struct Feature {
    /// Family it belongs to.
    pub arch: Arch,
    /// Name, as the architecture's manuals and other compilers spell it.
    pub name: &'static str,
    /// Whether Cranelift has a setting for it; what it lacks only the wide emitter uses.
    pub cranelift: bool,
    /// The bit that tells that a CPU has it.
    pub bit: (CpuWord, u32),
    /// Bits of `XCR0` that the operating system sets when it saves the registers that the extension needs.
    pub xcr0: u32,
}

/// A word of bits in which a CPU, or the system for it, tells what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CpuWord {
    /// `cpuid` leaf 1, `ecx`.
    Leaf1Ecx,
    /// `cpuid` leaf 7, `ebx`.
    Leaf7Ebx,
    /// `cpuid` leaf 7, `ecx`.
    Leaf7Ecx,
    /// `cpuid` leaf 7, subleaf 1, `eax`.
    Leaf7Sub1Eax,
    /// `cpuid` leaf 0x8000_0001, `ecx`.
    ExtendedEcx,
    /// `getauxval(AT_HWCAP)` of Linux on 64-bit Arm.
    Hwcap,
    /// `getauxval(AT_HWCAP2)`.
    Hwcap2,
}

/// Bits of `XCR0` for 256-bit registers.
const YMM: u32 = 0x06;
/// Bits of `XCR0` for masks and 512-bit registers.
const ZMM: u32 = 0xe6;

const fn x86(name: &'static str, cranelift: bool, word: CpuWord, bit: u32, xcr0: u32) -> Feature {
    Feature { arch: Arch::X86_64, name, cranelift, bit: (word, bit), xcr0 }
}

const fn arm(name: &'static str, word: CpuWord, bit: u32) -> Feature {
    Feature { arch: Arch::Aarch64, name, cranelift: true, bit: (word, bit), xcr0: 0 }
}

/// Every extension that `--cpu` turns on and off.
pub const FEATURES: &[Feature] = &[
    x86("sse3", true, CpuWord::Leaf1Ecx, 0, 0),
    x86("ssse3", true, CpuWord::Leaf1Ecx, 9, 0),
    x86("sse4.1", true, CpuWord::Leaf1Ecx, 19, 0),
    x86("sse4.2", true, CpuWord::Leaf1Ecx, 20, 0),
    x86("popcnt", true, CpuWord::Leaf1Ecx, 23, 0),
    x86("cmpxchg16b", true, CpuWord::Leaf1Ecx, 13, 0),
    x86("avx", true, CpuWord::Leaf1Ecx, 28, YMM),
    x86("avx2", true, CpuWord::Leaf7Ebx, 5, YMM),
    x86("fma", true, CpuWord::Leaf1Ecx, 12, YMM),
    x86("bmi1", true, CpuWord::Leaf7Ebx, 3, 0),
    x86("bmi2", true, CpuWord::Leaf7Ebx, 8, 0),
    x86("lzcnt", true, CpuWord::ExtendedEcx, 5, 0),
    x86("f16c", false, CpuWord::Leaf1Ecx, 29, YMM),
    x86("avx512f", true, CpuWord::Leaf7Ebx, 16, ZMM),
    x86("avx512bw", false, CpuWord::Leaf7Ebx, 30, ZMM),
    x86("avx512cd", false, CpuWord::Leaf7Ebx, 28, ZMM),
    x86("avx512dq", true, CpuWord::Leaf7Ebx, 17, ZMM),
    x86("avx512vl", true, CpuWord::Leaf7Ebx, 31, ZMM),
    x86("avx512vbmi", false, CpuWord::Leaf7Ecx, 1, ZMM),
    x86("avx512vbmi2", false, CpuWord::Leaf7Ecx, 6, ZMM),
    x86("avx512vnni", false, CpuWord::Leaf7Ecx, 11, ZMM),
    x86("avxvnni", false, CpuWord::Leaf7Sub1Eax, 4, YMM),
    arm("lse", CpuWord::Hwcap, 8),
    arm("fp16", CpuWord::Hwcap, 10),
    arm("dotprod", CpuWord::Hwcap, 20),
    arm("i8mm", CpuWord::Hwcap2, 13),
];

const V2: &[&str] = &["sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "cmpxchg16b"];
const V3: &[&str] = &["avx", "avx2", "fma", "bmi1", "bmi2", "lzcnt", "f16c"];
const V4: &[&str] = &["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"];

/// Every CPU level that `--cpu` takes, the default of each family first. A level's features are those of all its
/// lists.
pub const CPU_LEVELS: &[CpuLevel] = &[
    CpuLevel { name: "x86-64-v3", arch: Arch::X86_64, features: &[V2, V3] },
    CpuLevel { name: "x86-64-v2", arch: Arch::X86_64, features: &[V2] },
    CpuLevel { name: "x86-64-v4", arch: Arch::X86_64, features: &[V2, V3, V4] },
    CpuLevel { name: "haswell", arch: Arch::X86_64, features: &[V2, V3] },
    CpuLevel { name: "alderlake", arch: Arch::X86_64, features: &[V2, V3, &["avxvnni"]] },
    CpuLevel { name: "skylake-avx512", arch: Arch::X86_64, features: &[V2, V3, V4] },
    CpuLevel { name: "cascadelake", arch: Arch::X86_64, features: &[V2, V3, V4, &["avx512vnni"]] },
    CpuLevel {
        name: "icelake-server",
        arch: Arch::X86_64,
        features: &[V2, V3, V4, &["avx512vbmi", "avx512vbmi2", "avx512vnni"]],
    },
    CpuLevel {
        name: "sapphirerapids",
        arch: Arch::X86_64,
        features: &[V2, V3, V4, &["avx512vbmi", "avx512vbmi2", "avx512vnni", "avxvnni"]],
    },
    CpuLevel { name: "znver3", arch: Arch::X86_64, features: &[V2, V3] },
    CpuLevel {
        name: "znver4",
        arch: Arch::X86_64,
        features: &[V2, V3, V4, &["avx512vbmi", "avx512vbmi2", "avx512vnni"]],
    },
    CpuLevel {
        name: "znver5",
        arch: Arch::X86_64,
        features: &[V2, V3, V4, &["avx512vbmi", "avx512vbmi2", "avx512vnni", "avxvnni"]],
    },
    CpuLevel { name: "generic", arch: Arch::Aarch64, features: &[] },
    CpuLevel { name: "cortex-a55", arch: Arch::Aarch64, features: &[&["lse", "fp16", "dotprod"]] },
    CpuLevel { name: "cortex-a76", arch: Arch::Aarch64, features: &[&["lse", "fp16", "dotprod"]] },
    CpuLevel { name: "neoverse-n1", arch: Arch::Aarch64, features: &[&["lse", "fp16", "dotprod"]] },
    CpuLevel { name: "neoverse-v1", arch: Arch::Aarch64, features: &[&["lse", "fp16", "dotprod", "i8mm"]] },
    CpuLevel { name: "apple-a12", arch: Arch::Aarch64, features: &[&["lse", "fp16"]] },
    CpuLevel { name: "apple-a13", arch: Arch::Aarch64, features: &[&["lse", "fp16", "dotprod"]] },
    CpuLevel { name: "apple-m1", arch: Arch::Aarch64, features: &[&["lse", "fp16", "dotprod"]] },
];

/// The `--cpu` value that stands for none: code that runs almost everywhere, and code that is as fast as can be where the
/// CPU is newer; they share their weights. Where the second would be the first again, as on 64-bit Arm without products of
/// bytes, an object has one. Apple's systems see [`apple_cpu`].
pub const DEFAULT_CPUS: &[(Arch, &str)] =
    &[(Arch::X86_64, "x86-64-v3,icelake-server"), (Arch::Aarch64, "generic,+dotprod")];

fn parse(triple: &str) -> Result<Triple, UnknownTarget> {
    triple.parse().map_err(|e| UnknownTarget(format!("target {triple}: {e}")))
}

fn default_cpus(triple: &Triple) -> Option<&'static str> {
    if let Some(cpu) = apple_cpu(triple) {
        return Some(cpu);
    }
    let arch = arch_of(triple)?;
    DEFAULT_CPUS.iter().find(|d| d.0 == arch).map(|d| d.1)
}

/// The level of every 64-bit Arm device that an Apple system's deployment target runs on. An object has one there, since
/// nothing asks the CPU: Macs begin with the M1, and so do simulators and Catalyst; visionOS with the M2, which has more; iOS 26 is the first
/// whose phones and tablets all have an A12 or newer, and none has left the A12 behind yet, which lacks `dotprod`.
pub fn apple_cpu(triple: &Triple) -> Option<&'static str> {
    use target_lexicon::OperatingSystem as Os;
    if arch_of(triple)? != Arch::Aarch64 {
        return None;
    }
    if matches!(triple.environment, Environment::Sim | Environment::Macabi) {
        return Some("apple-m1");
    }
    match triple.operating_system {
        Os::Darwin(_) | Os::MacOSX(_) | Os::VisionOS(_) | Os::XROS(_) => Some("apple-m1"),
        Os::IOS(Some(least)) if least.major >= 26 => Some("apple-a12"),
        Os::IOS(_) | Os::TvOS(_) | Os::WatchOS(_) => Some("generic"),
        _ => None,
    }
}

fn arch_of(triple: &Triple) -> Option<Arch> {
    match triple.architecture {
        Architecture::X86_64 => Some(Arch::X86_64),
        Architecture::Aarch64(_) => Some(Arch::Aarch64),
        _ => None,
    }
}

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
            return Err(UnknownTarget(format!("target {triple}: architecture {other} is not supported")));
        };
        if !matches!(triple.binary_format, BinaryFormat::Elf | BinaryFormat::Macho | BinaryFormat::Coff) {
            return Err(UnknownTarget(format!("target {triple}: give a full triple such as aarch64-linux-android")));
        }
        let target = |features: Vec<&'static str>| {
            let (vector_bytes, threads, choices, sparsity) = (16, 1, Choices::default(), Sparsity::Auto);
            let (triple, compact, weights) = (triple.clone(), false, WeightFloats::AsGiven);
            let checked = cfg!(debug_assertions);
            let mut target =
                Target { triple, arch, features, vector_bytes, threads, choices, sparsity, compact, weights, checked };
            let has_all = |names: &[&str]| names.iter().all(|f| target.has(f));
            if has_all(&["avx2", "fma", "bmi1", "bmi2"]) {
                target.vector_bytes = if has_all(V4) { 64 } else { 32 };
            }
            target
        };
        Ok(cpu_features(arch, cpu)?.into_iter().map(target).collect())
    }

    /// The [`FEATURES`] that the code may use.
    pub fn features(&self) -> impl Iterator<Item = &'static Feature> {
        FEATURES.iter().filter(|f| f.arch == self.arch && self.has(f.name))
    }

    /// The CPU as a `--cpu` value: the first level with most of its extensions, then the others.
    pub fn cpu_name(&self) -> String {
        let fits = |l: &&CpuLevel| l.features.concat().iter().all(|f| self.has(f));
        // Of several levels the first: the one with a number, not a maker's; for Apple's systems Apple's own.
        let foreign = |l: &CpuLevel| l.name.starts_with("apple-") != (self.triple.vendor == Vendor::Apple);
        let level = levels(self.arch).filter(fits).min_by_key(|l| (Reverse(l.features.concat().len()), foreign(l)));
        let known = level.map_or_else(Vec::new, |l| l.features.concat());
        let others = self.features.iter().filter(|f| !known.contains(f)).map(|f| format!("+{f}"));
        level.map(|l| l.name.to_string()).into_iter().chain(others).collect()
    }

    /// Whether the code may use one of the [`FEATURES`].
    pub fn has(&self, feature: &str) -> bool {
        self.features.contains(&feature)
    }

    /// Whether loads and stores of some of a vector's lanes are as good as single instructions.
    pub fn has_masks(&self) -> bool {
        self.arch == Arch::X86_64 && self.vector_bytes > 16
    }

    /// Whether it looks up a vector of bytes in a table of 256 by a few instructions.
    pub fn has_fast_lookups(&self) -> bool {
        self.vector_bytes == 64 && self.has("avx512vbmi")
    }

    /// Whether bytes are spread to the places that a mask of bits tells by one instruction.
    pub fn expands_bytes(&self) -> bool {
        self.vector_bytes == 64 && self.has("avx512vbmi2")
    }

    /// Whether that takes some instructions on whole registers, or one, not some for each byte.
    pub fn spreads_bytes(&self) -> bool {
        self.arch == Arch::X86_64 && self.vector_bytes > 16
    }

    /// Whether the emitter has conversions of 16-bit floats.
    pub fn has_halves(&self) -> bool {
        self.arch == Arch::X86_64 && self.vector_bytes > 16 && self.has("f16c")
    }

    /// Whether code can keep weights as they are to be stored, and convert them as it reads them.
    pub fn reads(&self, weights: WeightFloats) -> bool {
        match weights {
            WeightFloats::AsGiven => true,
            WeightFloats::F16 => self.has_halves(),
            // A shift.
            WeightFloats::Bf16 => self.vector_bytes > 16,
        }
    }

    /// Whether `a * b + c` is one instruction.
    pub fn has_fma(&self) -> bool {
        self.arch == Arch::Aarch64 || self.has("fma")
    }
}

/// The one with the most extensions.
fn last(mut targets: Vec<Target>) -> Target {
    targets.swap_remove(targets.len() - 1)
}

/// The extensions of each CPU of a `--cpu` value, those with the fewest first. The value's grammar:
///
/// | item, between commas | stands for |
/// |---|---|
/// | `LEVEL`, `LEVEL+a+b-c` | one more CPU: a level or `native`, with and without extensions |
/// | `+a` | one more CPU: the one before it, with an extension |
/// | `-a` | no more CPU: the one before it loses an extension |
///
/// Before the first item stands the family's default level, which counts only when that item has no level.
fn cpu_features(arch: Arch, cpu: Option<&str>) -> Result<Vec<Vec<&'static str>>, UnknownTarget> {
    let mut cpus: Vec<Vec<&'static str>> = Vec::new();
    for item in cpu.unwrap_or_default().split(',').filter(|p| !p.is_empty()) {
        let name = item.starts_with(['+', '-']).then_some("");
        let name = name.map_or_else(|| level_of(arch, item), Ok)?;
        let mut features = match (name, cpus.last()) {
            ("", None) => default_level(arch),
            ("", Some(last)) => last.clone(),
            ("native", _) => host::native(arch)?,
            _ => levels(arch).find(|l| l.name == name).map(|l| l.features.concat()).unwrap_or_default(),
        };
        change(arch, &mut features, &item[name.len()..])?;
        features.sort_unstable();
        features.dedup();
        if item.starts_with('-') {
            cpus.pop();
        }
        cpus.push(features);
    }
    if cpus.is_empty() {
        cpus.push(default_level(arch));
    }
    cpus.iter_mut().for_each(|features| {
        features.sort_unstable();
    });
    cpus.sort_by_key(Vec::len);
    cpus.dedup();
    Ok(cpus)
}

fn levels(arch: Arch) -> impl Iterator<Item = &'static CpuLevel> {
    CPU_LEVELS.iter().filter(move |l| l.arch == arch)
}

fn default_level(arch: Arch) -> Vec<&'static str> {
    levels(arch).next().map(|l| l.features.concat()).unwrap_or_default()
}

/// The level that an item of `--cpu` begins with.
fn level_of(arch: Arch, item: &str) -> Result<&str, UnknownTarget> {
    let fits =
        |name: &&str| item.strip_prefix(*name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', '-']));
    let names = levels(arch).map(|l| l.name).chain(["native"]);
    names.filter(fits).max_by_key(|name| name.len()).map(|name| &item[..name.len()]).ok_or_else(|| {
        let names: Vec<&str> = levels(arch).map(|l| l.name).collect();
        UnknownTarget(format!(
            "cpu {item}: give a level ({}, native), then +FEATURE or -FEATURE: {}",
            names.join(", "),
            all_features(arch)
        ))
    })
}

/// Adds and removes extensions: `+a-b`.
fn change(arch: Arch, features: &mut Vec<&'static str>, changes: &str) -> Result<(), UnknownTarget> {
    let mut rest = changes;
    while !rest.is_empty() {
        let end = rest[1..].find(['+', '-']).map_or(rest.len(), |n| n + 1);
        let (sign, name) = rest[..end].split_at(1);
        let known = FEATURES.iter().find(|f| f.arch == arch && f.name == name).ok_or_else(|| {
            UnknownTarget(format!("cpu feature {name}: known ones of this family are {}", all_features(arch)))
        })?;
        match sign {
            "+" => features.push(known.name),
            _ => features.retain(|f| *f != known.name),
        }
        rest = &rest[end..];
    }
    Ok(())
}

fn all_features(arch: Arch) -> String {
    FEATURES.iter().filter(|f| f.arch == arch).map(|f| f.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults() {
        let cpus = |triple| Target::all(triple, None).unwrap();
        let vectors: Vec<u32> = cpus("x86_64-pc-windows-gnu").iter().map(|t| t.vector_bytes).collect();
        assert_eq!(vectors, [32, 64]);
        assert_eq!(cpus("aarch64-linux-android").len(), 2);
        assert_eq!(Target::new("x86_64-unknown-linux-gnu", None).unwrap().vector_bytes, 32);
    }

    #[test]
    fn apples_deployment_targets_guarantee_a_level() {
        for (triple, cpu) in [
            ("aarch64-apple-darwin", "apple-a13"),
            ("aarch64-apple-macosx11.0", "apple-a13"),
            ("aarch64-apple-ios", "generic"),
            ("aarch64-apple-ios17.0", "generic"),
            ("aarch64-apple-ios26.0", "apple-a12"),
            ("aarch64-apple-ios17.0-sim", "apple-a13"),
            ("aarch64-apple-ios17.0-macabi", "apple-a13"),
            ("aarch64-apple-tvos26.0", "generic"),
            ("aarch64-apple-xros1.0", "apple-a13"),
        ] {
            let targets = Target::all(triple, None).unwrap();
            assert_eq!(targets, [Target::new(triple, Some(cpu)).unwrap()], "{triple}");
        }
        assert_eq!(Target::all("x86_64-apple-darwin", None).unwrap().len(), 2);
    }

    #[test]
    fn several_cpus() {
        let of = |triple, cpu| -> Vec<String> {
            Target::all(triple, Some(cpu)).unwrap().iter().map(|t| t.features.join(" ")).collect()
        };
        let x86 = |cpu| of("x86_64-unknown-linux-gnu", cpu);
        let arm = |cpu| of("aarch64-linux-android", cpu);
        assert_eq!(arm("generic,+dotprod,+i8mm"), ["", "dotprod", "dotprod i8mm"]);
        assert_eq!(arm("generic+dotprod+i8mm"), ["dotprod i8mm"]);
        assert_eq!(arm("neoverse-n1-fp16,generic"), ["", "dotprod lse"]);
        assert_eq!(arm("+i8mm"), ["i8mm"]);
        assert_eq!(x86("x86-64-v4,x86-64-v2,x86-64-v3,x86-64-v3").len(), 3);
        assert_eq!(x86("x86-64-v3,-fma"), x86("x86-64-v3-fma"));
        assert_eq!(x86("x86-64-v3,-fma,-f16c").len(), 1);
        assert!(x86("x86-64-v2,x86-64-v4+avx512vnni")[1].contains("avx512vnni"));
        for bad in ["x86-64-v3fma", "x86-64-v3+", "x86-64-v2,znver9", "+"] {
            assert!(Target::all("x86_64-unknown-linux-gnu", Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_stand_for_their_cpus() {
        for cpu in ["x86-64-v3", "x86-64-v2", "x86-64-v4", "x86-64-v3,-fma", "znver5", "x86-64-v2+avx"] {
            let of = |cpu: &str| Target::new("x86_64-unknown-linux-gnu", Some(cpu)).unwrap();
            assert_eq!(of(cpu), of(&of(cpu).cpu_name()), "{cpu}");
        }
        let v3 = Target::new("x86_64-unknown-linux-gnu", Some("haswell")).unwrap();
        assert_eq!(v3.cpu_name(), "x86-64-v3");
        let arm = |triple, cpu| Target::new(triple, Some(cpu)).unwrap().cpu_name();
        assert_eq!(arm("aarch64-apple-darwin", "apple-m1"), "apple-a13");
        assert_eq!(arm("aarch64-linux-android", "apple-m1"), "cortex-a55");
    }

    #[test]
    fn cpu_values() {
        let of = |cpu| Target::new("x86_64-unknown-linux-gnu", Some(cpu));
        assert!(of("x86-64-v3").unwrap().has_fma());
        assert!(of("znver4").unwrap().has("avx512vnni") && !of("x86-64-v4").unwrap().has("avx512vnni"));
        let listed = |name: &str, arch| FEATURES.iter().any(|f| f.name == name && f.arch == arch);
        for level in CPU_LEVELS {
            assert!(level.features.concat().iter().all(|f| listed(f, level.arch)), "{}", level.name);
        }
        assert!(!of("x86-64-v3,-fma").unwrap().has_fma());
        assert!(of("x86-64-v2,+avx,+fma").unwrap().has_fma());
        assert!(of("-fma").unwrap().has("avx2"));
        assert!(of("x86-64-v9").unwrap_err().0.contains("x86-64-v2"));
        assert!(of("+dotprod").unwrap_err().0.contains("avx2"));
        assert!(Target::new("aarch64-linux-android", Some("generic,+dotprod")).unwrap().has("dotprod"));
        assert!(Target::new("s390x-unknown-linux-gnu", None).is_err());
    }
}
