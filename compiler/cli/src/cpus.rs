//! `mcc cpus`: lists the CPU levels, and whether this machine runs them.

use mcc::{Error, Result};
use mcc_targets::{CPU_LEVELS, TEST_CPU, Target, here};

use super::say;

/// Prints a line per level of this machine's family.
pub fn cpus() -> Result<()> {
    let native = Target::host(Some("native")).map_err(|e| Error::usage(e.to_string()))?;
    let levels = CPU_LEVELS.iter().filter(|l| l.arch == native.arch);
    let width = levels.clone().map(|l| l.name.len()).max().unwrap_or(0);
    for level in levels {
        let missing = level.features.difference(here());
        let what = if missing.is_empty() { "runs here".to_string() } else { format!("lacks {missing}") };
        say(&format!("{:width$}  {what}\n", level.name))?;
    }
    let passing = std::env::var(TEST_CPU).ok().filter(|name| !name.is_empty());
    let passing = passing.map(|name| format!(", because {TEST_CPU}={name}")).unwrap_or_default();
    say(&format!("{:width$}  {}{passing}\n", "native", native.cpu_name()))
}
