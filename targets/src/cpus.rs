//! CPU levels, and the grammar of `--cpu`.

use target_lexicon::{Environment, Triple};

use crate::features::Feature::*;
use crate::machine::{ARM, Machine, ZEN5};
use crate::{Arch, FEATURES, Feature, FeatureSet, UnknownTarget, arch_of, host};

/// A CPU level: a name for a set of features.
pub struct CpuLevel {
    /// Name for `--cpu`.
    pub name: &'static str,
    /// Family it belongs to.
    pub arch: Arch,
    /// Its features.
    pub features: FeatureSet,
    /// The machine whose figures schedules and costs use.
    pub machine: &'static Machine,
}

/// A CPU of a `--cpu` value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cpu {
    pub(crate) features: FeatureSet,
    pub(crate) machine: &'static Machine,
}

const fn with(base: FeatureSet, features: &[Feature]) -> FeatureSet {
    base.union(FeatureSet::of(features))
}

const V2: FeatureSet = FeatureSet::of(&[Sse3, Ssse3, Sse41, Sse42, Popcnt, Cmpxchg16b]);
const V3: FeatureSet = with(V2, &[Avx, Avx2, Fma, Bmi1, Bmi2, Lzcnt, F16c]);
const V4: FeatureSet = with(V3, &[Avx512f, Avx512bw, Avx512cd, Avx512dq, Avx512vl]);

const fn x86(name: &'static str, features: FeatureSet, machine: &'static Machine) -> CpuLevel {
    CpuLevel { name, arch: Arch::X86_64, features, machine }
}

const fn arm(name: &'static str, features: &[Feature], machine: &'static Machine) -> CpuLevel {
    CpuLevel { name, arch: Arch::Aarch64, features: FeatureSet::of(features), machine }
}

const DEFAULT_X86_LEVEL: CpuLevel = x86("x86-64-v3", V3, &ZEN5);
const DEFAULT_ARM_LEVEL: CpuLevel = arm("generic", &[], &ARM);

/// Every CPU level that `--cpu` takes, the default of each family first.
pub const CPU_LEVELS: &[CpuLevel] = &[
    DEFAULT_X86_LEVEL,
    x86("x86-64-v2", V2, &ZEN5),
    x86("x86-64-v4", V4, &ZEN5),
    x86("haswell", V3, &ZEN5),
    x86("alderlake", with(V3, &[Avxvnni]), &ZEN5),
    x86("skylake-avx512", V4, &ZEN5),
    x86("cascadelake", with(V4, &[Avx512vnni]), &ZEN5),
    x86("icelake-server", with(V4, &[Avx512vbmi, Avx512vbmi2, Avx512vnni]), &ZEN5),
    x86("sapphirerapids", with(V4, &[Avx512vbmi, Avx512vbmi2, Avx512vnni, Avxvnni]), &ZEN5),
    x86("znver3", V3, &ZEN5),
    x86("znver4", with(V4, &[Avx512vbmi, Avx512vbmi2, Avx512vnni]), &ZEN5),
    x86("znver5", with(V4, &[Avx512vbmi, Avx512vbmi2, Avx512vnni, Avxvnni]), &ZEN5),
    DEFAULT_ARM_LEVEL,
    arm("cortex-a55", &[Lse, Fp16, Dotprod], &ARM),
    arm("cortex-a76", &[Lse, Fp16, Dotprod], &ARM),
    arm("neoverse-n1", &[Lse, Fp16, Dotprod], &ARM),
    arm("neoverse-v1", &[Lse, Fp16, Dotprod, I8mm], &ARM),
    arm("apple-a12", &[Lse, Fp16], &ARM),
    arm("apple-a13", &[Lse, Fp16, Dotprod], &ARM),
    arm("apple-m1", &[Lse, Fp16, Dotprod], &ARM),
];

/// The CPUs without `--cpu`: code that runs almost everywhere, and fast code for newer CPUs; the two share their
/// weights. Where both would be the same, as on 64-bit Arm without byte products, an object has one. For Apple's
/// systems see [`apple_cpu`].
pub const DEFAULT_CPUS: &[(Arch, &str)] =
    &[(Arch::X86_64, "x86-64-v3,icelake-server"), (Arch::Aarch64, "generic,+dotprod")];

pub(crate) fn default_cpus(triple: &Triple) -> Option<&'static str> {
    if let Some(cpu) = apple_cpu(triple) {
        return Some(cpu);
    }
    let arch = arch_of(triple)?;
    DEFAULT_CPUS.iter().find(|d| d.0 == arch).map(|d| d.1)
}

/// The level that every 64-bit Arm device with an Apple system's deployment target has. Objects there do not detect the
/// CPU and have one level. Macs begin with the M1, and so do simulators and Catalyst; visionOS begins with the M2,
/// which has more. iOS 26 is the first version whose devices all have at least an A12; an A12 lacks `dotprod`.
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

/// The CPUs of a `--cpu` value, those with the fewest extensions first. The value's grammar:
///
/// | item, between commas | meaning |
/// |---|---|
/// | `LEVEL`, `LEVEL+a+b-c` | adds a CPU: a level or `native`, with and without extensions |
/// | `+a` | adds a CPU: the one before it, with an extension |
/// | `-a` | removes an extension from the CPU before it |
///
/// If the first item has no level, it applies to the family's default level.
///
/// Adding an extension adds all that it implies; removing one removes all that imply it.
pub(crate) fn parse_cpus(arch: Arch, cpu: Option<&str>) -> Result<Vec<Cpu>, UnknownTarget> {
    let mut cpus: Vec<Cpu> = Vec::new();
    for item in cpu.unwrap_or_default().split(',').filter(|p| !p.is_empty()) {
        let name = item.starts_with(['+', '-']).then_some("");
        let name = name.map_or_else(|| level_of(arch, item), Ok)?;
        let mut cpu = match (name, cpus.last()) {
            ("", None) => default_level(arch),
            ("", Some(last)) => *last,
            // The CPU's model is not detected; the family's default machine is used.
            ("native", _) => Cpu { features: host::native(arch)?, ..default_level(arch) },
            _ => levels(arch).find(|l| l.name == name).map_or_else(|| default_level(arch), Cpu::of),
        };
        change(arch, &mut cpu.features, &item[name.len()..])?;
        if item.starts_with('-') {
            cpus.pop();
        }
        cpus.push(cpu);
    }
    if cpus.is_empty() {
        cpus.push(default_level(arch));
    }
    cpus.sort_by_key(|cpu| cpu.features.len());
    cpus.dedup();
    Ok(cpus)
}

pub(crate) fn levels(arch: Arch) -> impl Iterator<Item = &'static CpuLevel> {
    CPU_LEVELS.iter().filter(move |l| l.arch == arch)
}

fn default_level(arch: Arch) -> Cpu {
    Cpu::of(match arch {
        Arch::X86_64 => &DEFAULT_X86_LEVEL,
        Arch::Aarch64 => &DEFAULT_ARM_LEVEL,
    })
}

impl Cpu {
    fn of(level: &CpuLevel) -> Cpu {
        Cpu { features: level.features, machine: level.machine }
    }
}

/// The level at the beginning of an item of `--cpu`.
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
fn change(arch: Arch, features: &mut FeatureSet, changes: &str) -> Result<(), UnknownTarget> {
    let mut rest = changes;
    while !rest.is_empty() {
        let end = rest[1..].find(['+', '-']).map_or(rest.len(), |n| n + 1);
        let (sign, name) = rest[..end].split_at(1);
        let known = FEATURES.iter().find(|f| f.arch == arch && f.name == name).ok_or_else(|| {
            UnknownTarget(format!("cpu feature {name}: known ones of this family are {}", all_features(arch)))
        })?;
        match sign {
            "+" => features.add(known.feature),
            _ => features.remove(known.feature),
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
    use crate::Target;

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
            Target::all(triple, Some(cpu)).unwrap().iter().map(|t| t.features.to_string()).collect()
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
        assert!(of("znver4").unwrap().has(Avx512vnni) && !of("x86-64-v4").unwrap().has(Avx512vnni));
        for level in CPU_LEVELS {
            for feature in level.features.iter().map(Feature::row) {
                assert_eq!(feature.arch, level.arch, "{} of {}", feature.name, level.name);
                assert!(
                    feature.implies.iter().all(|&f| level.features.contains(f)),
                    "{} of {}",
                    feature.name,
                    level.name
                );
            }
        }
        assert!(!of("x86-64-v3,-fma").unwrap().has_fma());
        assert!(of("x86-64-v2,+avx,+fma").unwrap().has_fma());
        // AVX-VNNI applies to 256-bit registers, AVX-512 VNNI to 512-bit ones; neither helps the other.
        for (cpu, has) in [("x86-64-v3+avxvnni", true), ("x86-64-v3+avx512vnni", false), ("x86-64-v4+avx512vnni", true)]
        {
            assert_eq!(of(cpu).unwrap().has_byte_dot(), has, "{cpu}");
        }
        assert!(!of("x86-64-v4+avxvnni").unwrap().has_byte_dot());
        assert!(of("-fma").unwrap().has(Avx2));
        assert_eq!(of("x86-64-v4,-fma").unwrap().vector_bytes, 16);
        assert_eq!(
            of("x86-64-v2,+avx512vnni").unwrap().features.to_string(),
            "avx avx2 avx512f avx512vnni cmpxchg16b f16c fma popcnt sse3 sse4.1 sse4.2 ssse3"
        );
        assert!(of("x86-64-v9").unwrap_err().0.contains("x86-64-v2"));
        assert!(of("+dotprod").unwrap_err().0.contains("avx2"));
        assert!(Target::new("aarch64-linux-android", Some("generic,+dotprod")).unwrap().has(Dotprod));
        assert!(Target::new("s390x-unknown-linux-gnu", None).is_err());
    }
}
