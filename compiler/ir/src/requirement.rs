//! Requirements on dimensions that must hold before a model may run.
//!
//! Inference adds a requirement wherever an operation's contract is not certain for all values of the symbols: extents
//! that must be equal, a window that must fit, an extent that must not be negative. The evaluator and the compiled
//! model check them; kernels check nothing, and none runs with a violated contract.

use std::collections::HashSet;
use std::fmt;

use super::{Dim, bounds};
use crate::{Error, Result};

/// A condition on dimensions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Both are equal.
    Equal(Dim, Dim),
    /// The first is at least the second.
    AtLeast(Dim, Dim),
    /// They differ.
    Differ(Dim, Dim),
    /// This number of bytes can be addressed; see [`MAX_BYTES`].
    Fits(Dim),
}

/// Maximum size of a tensor and of the arena.
pub const MAX_BYTES: i64 = 1 << 62;

impl Condition {
    /// Whether it holds, if that is certain.
    pub fn holds(&self) -> Option<bool> {
        let low = |a: &Dim, b: &Dim| bounds::lower_bound(&(a - b));
        match self {
            Condition::Equal(a, b) => (a - b).as_const().map(|d| d == 0),
            Condition::Differ(a, b) => match (a - b).as_const() {
                Some(d) => Some(d != 0),
                None => (low(a, b)? > 0 || low(b, a)? > 0).then_some(true),
            },
            Condition::AtLeast(a, b) => match (a - b).as_const() {
                Some(d) => Some(d >= 0),
                None => (low(a, b)? >= 0).then_some(true),
            },
            Condition::Fits(d) => d.as_const().map(|d| (0..=MAX_BYTES).contains(&d)),
        }
    }

    /// The same condition on other dimensions.
    pub fn map(&self, f: &dyn Fn(&Dim) -> Dim) -> Condition {
        match self {
            Condition::Equal(a, b) => Condition::Equal(f(a), f(b)),
            Condition::AtLeast(a, b) => Condition::AtLeast(f(a), f(b)),
            Condition::Differ(a, b) => Condition::Differ(f(a), f(b)),
            Condition::Fits(d) => Condition::Fits(f(d)),
        }
    }

    /// Its dimensions.
    pub fn dims(&self) -> impl Iterator<Item = &Dim> {
        let (a, b) = match self {
            Condition::Equal(a, b) | Condition::AtLeast(a, b) | Condition::Differ(a, b) => (a, Some(b)),
            Condition::Fits(d) => (d, None),
        };
        std::iter::once(a).chain(b)
    }
}

/// The text form of graphs.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Equal(a, b) => write!(f, "{a} == {b}"),
            Condition::AtLeast(a, b) => write!(f, "{a} >= {b}"),
            Condition::Differ(a, b) => write!(f, "{a} != {b}"),
            Condition::Fits(d) => write!(f, "{d} bytes"),
        }
    }
}

/// A condition and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The condition.
    pub condition: Condition,
    /// Which dimensions these are and which node requires it, for people.
    pub reason: String,
}

impl Requirement {
    /// An error that describes the violated condition, given the dimensions' values.
    ///
    /// # Errors
    /// When it certainly does not hold.
    pub fn check(&self, values: &dyn Fn(&Dim) -> Dim) -> Result<()> {
        if self.condition.map(values).holds() != Some(false) {
            return Ok(());
        }
        let is: Vec<String> =
            self.condition.dims().filter(|d| d.as_const().is_none()).map(|d| format!("{d} is {}", values(d))).collect();
        let reason = if self.reason.is_empty() { String::new() } else { format!(" ({})", self.reason) };
        Err(Error::invalid(format!("{} does not hold{reason}: {}", self.condition, is.join(", "))))
    }
}

/// Requirements in the order in which they were added, each condition once.
#[derive(Debug, Clone, Default)]
pub struct Requirements {
    list: Vec<Requirement>,
    seen: HashSet<Condition>,
}

impl PartialEq for Requirements {
    fn eq(&self, other: &Requirements) -> bool {
        self.list == other.list
    }
}

impl Requirements {
    /// Adds a requirement, unless its condition is known.
    pub fn push(&mut self, requirement: Requirement) {
        if self.seen.insert(key(&requirement.condition)) {
            self.list.push(requirement);
        }
    }

    /// Adds the requirement that two dimensions are equal.
    pub fn equal(&mut self, a: Dim, b: Dim, reason: &str) {
        self.push(Requirement { condition: Condition::Equal(a, b), reason: reason.to_string() });
    }

    /// Keeps only the first `len` ones.
    pub fn truncate(&mut self, len: usize) {
        for gone in self.list.drain(len.min(self.list.len())..) {
            self.seen.remove(&key(&gone.condition));
        }
    }

    /// Whether a condition is required.
    pub fn contains(&self, condition: &Condition) -> bool {
        self.seen.contains(&key(condition))
    }

    /// Keeps the requirements for which `wanted` is true, in their order.
    pub fn retain(&mut self, wanted: impl Fn(&Requirement) -> bool) {
        self.list.retain(wanted);
        self.seen = self.list.iter().map(|requirement| key(&requirement.condition)).collect();
    }

    /// The number of requirements.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Requirement> {
        self.list.iter()
    }

    /// Whether two dimensions are required to be equal.
    pub fn equate(&self, a: &Dim, b: &Dim) -> bool {
        let pair = |a: &Dim, b: &Dim| self.seen.contains(&Condition::Equal(a.clone(), b.clone()));
        pair(a, b) || pair(b, a)
    }
}

/// A normal form, equal for equivalent conditions.
fn key(condition: &Condition) -> Condition {
    match condition {
        Condition::AtLeast(a, b) => Condition::AtLeast(a - b, Dim::ZERO),
        other => other.clone(),
    }
}
