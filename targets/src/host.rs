//! What this machine runs, for commands and tests.
//!
//! [`TEST_CPU`] makes this machine count as a lesser one: whatever the lesser one lacks counts as missing, for
//! `native`, for [`Target::runs_here`] and for the loader. Objects detect the real CPU, so objects for this machine
//! then hold no code above the lesser one.

use std::sync::OnceLock;

use target_lexicon::Triple;

use crate::cpus::{CPU_LEVELS, default_cpus, parse_cpus};
use crate::features::detected;
use crate::{Arch, Feature, FeatureSet, Target, UnknownTarget, last};

/// The environment variable that names the CPU to imitate: a `--cpu` value for one CPU, such as `x86-64-v3` (or `v3`).
pub const TEST_CPU: &str = "MCC_TEST_CPU";

impl Target {
    /// This machine at a `--cpu` level. `None` means the family's default level, or `native` if this machine does not
    /// run that.
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

    /// This machine at all CPUs of a `--cpu` value, the plainest first; at least one. `None` means
    /// [`DEFAULT_CPUS`](super::DEFAULT_CPUS), and additionally `native` if this machine runs none of them.
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

    /// A target for every level of [`CPU_LEVELS`] that this machine runs, one per set of features.
    pub fn host_levels() -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        for target in CPU_LEVELS.iter().filter_map(|l| Target::host(Some(l.name)).ok()) {
            if target.runs_here() && targets.iter().all(|t| t.features != target.features) {
                targets.push(target);
            }
        }
        targets
    }

    /// Whether this machine runs the target's code, in this process or in a program linked with it.
    pub fn runs_here(&self) -> bool {
        let host = Triple::host();
        let same = self.triple.architecture == host.architecture && self.triple.binary_format == host.binary_format;
        same && here().contains_all(self.features)
    }
}

/// The extensions of this machine, or of the CPU that it imitates.
pub fn here() -> FeatureSet {
    HOST.and_then(|arch| native(arch).ok()).unwrap_or_default()
}

/// The extensions, of a list separated by spaces, that this machine lacks.
pub fn missing_here(names: &str) -> Vec<&str> {
    let has = |name: &str| Feature::of_name(name).is_some_and(|feature| here().contains(feature));
    names.split_whitespace().filter(|name| !has(name)).collect()
}

/// This machine's family.
const HOST: Option<Arch> = if cfg!(target_arch = "x86_64") {
    Some(Arch::X86_64)
} else if cfg!(target_arch = "aarch64") {
    Some(Arch::Aarch64)
} else {
    None
};

/// The extensions of this machine, or of the CPU that it imitates.
pub(crate) fn native(arch: Arch) -> Result<FeatureSet, UnknownTarget> {
    static HERE: OnceLock<Result<FeatureSet, UnknownTarget>> = OnceLock::new();
    if Some(arch) != HOST {
        return Err(UnknownTarget("cpu native: the target is not this machine; name a level".to_string()));
    }
    HERE.get_or_init(|| match test_cpu() {
        Some(name) => lesser(arch, name, detected()),
        None => Ok(detected()),
    })
    .clone()
}

/// The value of [`TEST_CPU`].
fn test_cpu() -> Option<&'static str> {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    let name = NAME.get_or_init(|| std::env::var(TEST_CPU).ok().filter(|name| !name.is_empty()));
    name.as_deref()
}

/// The extensions of a CPU that this machine imitates.
fn lesser(arch: Arch, name: &str, detected: FeatureSet) -> Result<FeatureSet, UnknownTarget> {
    let refuse = |what: String| UnknownTarget(format!("{TEST_CPU}={name}: {what}"));
    let short = name.trim_start_matches('-');
    let level = if ["v2", "v3", "v4"].contains(&short) { format!("x86-64-{short}") } else { name.to_string() };
    let mut cpus = parse_cpus(arch, Some(&level)).map_err(|e| refuse(e.0))?;
    if cpus.len() != 1 || level.starts_with("native") {
        return Err(refuse("give one level, such as x86-64-v3".to_string()));
    }
    let features = cpus.swap_remove(0).features;
    let missing = features.difference(detected);
    if missing.is_empty() {
        Ok(features)
    } else {
        Err(refuse(format!("this machine lacks {}", missing.names().join(", "))))
    }
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
        assert!(missing_here(&native.features.to_string()).is_empty());
        assert_eq!(missing_here(" unheard-of  "), ["unheard-of"]);
        let levels = Target::host_levels();
        assert!(!levels.is_empty() && levels.iter().all(|l| native.features.contains_all(l.features)));
        let other = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"].map(|t| Target::new(t, None).unwrap());
        assert!(other.iter().any(|t| !t.runs_here()));
    }

    #[test]
    fn lesser_machines() {
        let of = |cpu| parse_cpus(Arch::X86_64, Some(cpu)).unwrap().swap_remove(0).features;
        let has = of("znver5");
        let pass = |name| lesser(Arch::X86_64, name, has);
        for (name, cpu) in [("v2", "x86-64-v2"), ("-v3", "x86-64-v3"), ("x86-64-v4", "x86-64-v4"), ("znver4", "znver4")]
        {
            assert_eq!(pass(name).unwrap(), of(cpu));
        }
        for (name, expected) in [("v9", "v9"), ("native", "one level"), ("x86-64-v2,x86-64-v3", "one level")] {
            let error = pass(name).unwrap_err().0;
            assert!(error.starts_with("MCC_TEST_CPU=") && error.contains(expected), "{error}");
        }
        let error = lesser(Arch::X86_64, "v4", of("x86-64-v3")).unwrap_err().0;
        assert!(error.contains("lacks avx512bw"), "{error}");
    }
}
