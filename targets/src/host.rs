//! What this machine runs: the one answer that commands and tests go by.
//!
//! [`TEST_CPU`] makes this machine pass for a lesser one: whatever that one lacks counts as missing here, for `native`, for
//! [`Target::runs_here`] and for who loads an object. Objects ask the real CPU, so that those for this machine then hold
//! no code that the lesser one would not run.

use std::sync::OnceLock;

use target_lexicon::Triple;

use super::{Arch, CPU_LEVELS, Target, UnknownTarget, cpu_features, default_cpus, last};

/// The environment variable that names the CPU to pass for: a `--cpu` value for one CPU, such as `x86-64-v3` (or `v3`).
pub const TEST_CPU: &str = "MCC_TEST_CPU";

impl Target {
    /// The machine this process runs on, at a `--cpu` level. `None` stands for the family's default level, or for what
    /// this machine has where it does not run that.
    ///
    /// # Errors
    /// When the host is not supported or the CPU is unknown.
    pub fn host(cpu: Option<&str>) -> Result<Target, UnknownTarget> {
        let target = Self::from_triple(Triple::host(), cpu).map(last)?;
        if cpu.is_none() && !target.runs_here() {
            return Self::host(Some("native"));
        }
        Ok(target)
    }

    /// The machine this process runs on, at all CPUs of a `--cpu` value, the plainest first; at least one. `None` stands
    /// for [`DEFAULT_CPUS`](super::DEFAULT_CPUS), and for what this machine has too where it runs none of them.
    ///
    /// # Errors
    /// As [`Target::host`].
    pub fn all_host(cpu: Option<&str>) -> Result<Vec<Target>, UnknownTarget> {
        let cpus = cpu.or_else(|| default_cpus(&Triple::host()));
        let mut targets = Self::from_triple(Triple::host(), cpus)?;
        if cpu.is_none() && !targets.iter().any(Target::runs_here) {
            targets.insert(0, Self::host(Some("native"))?);
        }
        if test_cpu().is_some() && targets.iter().any(Target::runs_here) {
            targets.retain(Target::runs_here);
        }
        Ok(targets)
    }

    /// A target for every level of [`CPU_LEVELS`] that this machine runs, those of the same features once.
    pub fn host_levels() -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        for target in CPU_LEVELS.iter().filter_map(|l| Target::host(Some(l.name)).ok()) {
            if target.runs_here() && targets.iter().all(|t| t.features != target.features) {
                targets.push(target);
            }
        }
        targets
    }

    /// Whether this machine runs the target's code, in a process or by a program linked with it.
    pub fn runs_here(&self) -> bool {
        let host = Triple::host();
        let same = self.triple.architecture == host.architecture && self.triple.binary_format == host.binary_format;
        same && missing_here(&self.features).is_empty()
    }
}

/// Which of some extensions this machine lacks.
pub fn missing_here<'a>(features: &[&'a str]) -> Vec<&'a str> {
    let here = HOST.and_then(|arch| native(arch).ok()).unwrap_or_default();
    features.iter().copied().filter(|f| !here.contains(f)).collect()
}

/// The family of the machine this process runs on.
const HOST: Option<Arch> = if cfg!(target_arch = "x86_64") {
    Some(Arch::X86_64)
} else if cfg!(target_arch = "aarch64") {
    Some(Arch::Aarch64)
} else {
    None
};

/// The extensions that this machine has, or is to pass for having.
pub(super) fn native(arch: Arch) -> Result<Vec<&'static str>, UnknownTarget> {
    static HERE: OnceLock<Result<Vec<&'static str>, UnknownTarget>> = OnceLock::new();
    if Some(arch) != HOST {
        return Err(UnknownTarget("cpu native: the target is not this machine; name a level".to_string()));
    }
    HERE.get_or_init(|| {
        let detected: Vec<&str> = detected().into_iter().filter(|f| f.1).map(|f| f.0).collect();
        match test_cpu() {
            Some(name) => lesser(arch, name, &detected),
            None => Ok(detected),
        }
    })
    .clone()
}

/// What [`TEST_CPU`] names.
fn test_cpu() -> Option<&'static str> {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    let name = NAME.get_or_init(|| std::env::var(TEST_CPU).ok().filter(|name| !name.is_empty()));
    name.as_deref()
}

/// The extensions of a CPU that this machine is to pass for.
fn lesser(arch: Arch, name: &str, detected: &[&'static str]) -> Result<Vec<&'static str>, UnknownTarget> {
    let refuse = |what: String| UnknownTarget(format!("{TEST_CPU}={name}: {what}"));
    let short = name.trim_start_matches('-');
    let level = if ["v2", "v3", "v4"].contains(&short) { format!("x86-64-{short}") } else { name.to_string() };
    let mut cpus = cpu_features(arch, Some(&level)).map_err(|e| refuse(e.0))?;
    if cpus.len() != 1 || level.starts_with("native") {
        return Err(refuse("give one level, such as x86-64-v3".to_string()));
    }
    let features = cpus.swap_remove(0);
    let missing: Vec<&str> = features.iter().copied().filter(|f| !detected.contains(f)).collect();
    match missing.as_slice() {
        [] => Ok(features),
        _ => Err(refuse(format!("this machine lacks {}", missing.join(", ")))),
    }
}

#[cfg(target_arch = "x86_64")]
fn detected() -> Vec<(&'static str, bool)> {
    use std::arch::is_x86_feature_detected as has;
    vec![
        ("sse3", has!("sse3")),
        ("ssse3", has!("ssse3")),
        ("sse4.1", has!("sse4.1")),
        ("sse4.2", has!("sse4.2")),
        ("popcnt", has!("popcnt")),
        ("cmpxchg16b", has!("cmpxchg16b")),
        ("avx", has!("avx")),
        ("avx2", has!("avx2")),
        ("fma", has!("fma")),
        ("bmi1", has!("bmi1")),
        ("bmi2", has!("bmi2")),
        ("lzcnt", has!("lzcnt")),
        ("f16c", has!("f16c")),
        ("avx512f", has!("avx512f")),
        ("avx512bw", has!("avx512bw")),
        ("avx512cd", has!("avx512cd")),
        ("avx512dq", has!("avx512dq")),
        ("avx512vl", has!("avx512vl")),
        ("avx512vbmi", has!("avx512vbmi")),
        ("avx512vbmi2", has!("avx512vbmi2")),
        ("avx512vnni", has!("avx512vnni")),
        ("avxvnni", has!("avxvnni")),
    ]
}

#[cfg(target_arch = "aarch64")]
fn detected() -> Vec<(&'static str, bool)> {
    use std::arch::is_aarch64_feature_detected as has;
    vec![("lse", has!("lse")), ("fp16", has!("fp16")), ("dotprod", has!("dotprod")), ("i8mm", has!("i8mm"))]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detected() -> Vec<(&'static str, bool)> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_runs() {
        let native = Target::host(Some("native")).unwrap();
        assert!(native.runs_here());
        assert!(Target::host(None).unwrap().runs_here());
        assert!(Target::all_host(None).unwrap()[0].runs_here());
        assert!(missing_here(&native.features).is_empty());
        assert_eq!(missing_here(&["unheard-of"]), ["unheard-of"]);
        let levels = Target::host_levels();
        assert!(!levels.is_empty() && levels.iter().all(|l| l.features.iter().all(|f| native.has(f))));
        let other = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"].map(|t| Target::new(t, None).unwrap());
        assert!(other.iter().any(|t| !t.runs_here()));
    }

    #[test]
    fn lesser_machines() {
        let of = |cpu| cpu_features(Arch::X86_64, Some(cpu)).unwrap().swap_remove(0);
        let has = of("znver5");
        let pass = |name| lesser(Arch::X86_64, name, &has);
        for (name, cpu) in [("v2", "x86-64-v2"), ("-v3", "x86-64-v3"), ("x86-64-v4", "x86-64-v4"), ("znver4", "znver4")]
        {
            assert_eq!(pass(name).unwrap(), of(cpu));
        }
        for (name, told) in [("v9", "v9"), ("native", "one level"), ("x86-64-v2,x86-64-v3", "one level")] {
            let error = pass(name).unwrap_err().0;
            assert!(error.starts_with("MCC_TEST_CPU=") && error.contains(told), "{error}");
        }
        let error = lesser(Arch::X86_64, "v4", &of("x86-64-v3")).unwrap_err().0;
        assert!(error.contains("lacks avx512bw"), "{error}");
    }
}
