//! Bounds on the expansion of a model during import: a file of a few hundred bytes can ask for more nodes, or larger
//! constants, than any machine has memory for. The contents of the file itself count, but are always allowed.

use mcc_ir::{Error, Result};

/// The limits that `--limit NAME=N` sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Operations that functions, loops and operators expand to, in addition to [`FREE_PER_NODE`] per node of the file.
    pub nodes: u64,
    /// Steps of an unrolled loop.
    pub steps: u64,
    /// Bytes of a single constant that the importer makes.
    pub constant: u64,
    /// Bytes of all constants, in addition to twice the file's size.
    pub constants: u64,
}

/// Operations per node of the file that do not count against [`Limits::nodes`].
const FREE_PER_NODE: u64 = 64;

impl Default for Limits {
    fn default() -> Limits {
        Limits { nodes: 50_000, steps: 2048, constant: 256 << 20, constants: 1 << 30 }
    }
}

impl Limits {
    /// Sets a limit by its name.
    ///
    /// # Errors
    /// When there is no such limit.
    pub fn set(&mut self, name: &str, value: u64) -> Result<()> {
        let known = [
            ("nodes", &mut self.nodes),
            ("steps", &mut self.steps),
            ("constant", &mut self.constant),
            ("constants", &mut self.constants),
        ];
        match known.into_iter().find(|(n, _)| *n == name) {
            Some((_, slot)) => *slot = value,
            None => {
                return Err(Error::usage(format!("--limit {name}: no such limit"))
                    .help("the limits are nodes, steps, constant and constants"));
            }
        }
        Ok(())
    }
}

/// The part of the limits that is used up.
#[derive(Debug, Default)]
pub struct Budget {
    limits: Limits,
    nodes: u64,
    bytes: u64,
}

/// The error of an exceeded limit.
fn over(what: &str, name: &str, limit: u64) -> Error {
    Error::unsupported(format!("{what}, more than the limit of {limit}"))
        .help(format!("if this is intended, raise the limit: --limit {name}=N"))
}

impl Budget {
    /// Unused limits, for a file with `nodes` nodes and `bytes` bytes.
    pub fn new(limits: &Limits, nodes: usize, bytes: usize) -> Budget {
        let mut limits = limits.clone();
        limits.nodes = limits.nodes.saturating_add(FREE_PER_NODE.saturating_mul(nodes as u64));
        limits.constants = limits.constants.saturating_add(2 * bytes as u64);
        Budget { limits, nodes: 0, bytes: 0 }
    }

    /// Counts operations, or work that takes as long.
    ///
    /// # Errors
    /// When there are too many.
    pub fn nodes(&mut self, count: u64) -> Result<()> {
        self.nodes = self.nodes.saturating_add(count);
        match self.nodes > self.limits.nodes {
            true => Err(over("the model expands to more operations here", "nodes", self.limits.nodes)),
            false => Ok(()),
        }
    }

    /// Checks the steps of a loop.
    ///
    /// # Errors
    /// When there are too many.
    pub fn steps(&self, count: i64) -> Result<()> {
        match u64::try_from(count).unwrap_or(0) > self.limits.steps {
            true => Err(over(&format!("a loop of {count} steps, which are unrolled"), "steps", self.limits.steps)),
            false => Ok(()),
        }
    }

    /// Checks a constant of the given extents and `size` bytes per element, before it is made.
    ///
    /// # Errors
    /// When it is too large.
    pub fn room(&self, extents: &[u64], size: usize) -> Result<()> {
        let bytes = extents.iter().fold(size as u64, |n, &d| n.saturating_mul(d));
        match bytes > self.limits.constant {
            true => Err(over(&format!("a constant of {bytes} bytes"), "constant", self.limits.constant)),
            false => Ok(()),
        }
    }

    /// Counts the bytes of a constant.
    pub fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Checks the size of all constants so far.
    ///
    /// # Errors
    /// When they are too many.
    pub fn check(&self) -> Result<()> {
        match self.bytes > self.limits.constants {
            true => Err(over(&format!("constants of {} bytes", self.bytes), "constants", self.limits.constants)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_holds_is_allowed() {
        let mut limits = Limits::default();
        limits.set("nodes", 10).expect("a limit");
        limits.set("constants", 0).expect("a limit");
        assert!(limits.set("node", 10).is_err());
        let mut budget = Budget::new(&limits, 1, 100);
        assert!(budget.nodes(10 + FREE_PER_NODE).is_ok());
        let error = budget.nodes(1).expect_err("one too many").report().to_string();
        assert!(error.contains("the limit of 74") && error.contains("--limit nodes=N"), "{error}");
        budget.spend(200);
        assert!(budget.check().is_ok());
        budget.spend(1);
        assert!(budget.check().is_err());
        assert!(budget.room(&[1 << 40, 1 << 40], 4).is_err());
    }
}
