//! What is found of samples before they are read.

use mcc_ir::{Error, Result, Tensor};

use crate::fit::Part;
use crate::raw::Raw;

/// A sample: its name, and where it comes from.
#[derive(Debug, Clone)]
pub struct Item {
    /// For messages and reports.
    pub name: String,
    /// Where its tensors come from.
    pub source: Source,
}

/// Where a sample's tensors come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// An array for each input.
    Parts(Vec<Part>),
    /// Tensors that a caller gave.
    Tensors(Vec<Tensor>),
    /// A file, or a part of it, from which the inputs are made.
    Raw(Raw),
}

impl Item {
    /// Bytes of its tensors, as far as they are known.
    pub fn bytes(&self) -> usize {
        match &self.source {
            Source::Parts(parts) => parts.iter().map(Part::bytes).sum(),
            Source::Tensors(_) | Source::Raw(_) => 0,
        }
    }
}

/// Samples so far, and faults so far.
#[derive(Default)]
pub struct Found {
    /// Samples in order.
    pub items: Vec<Item>,
    /// What does not fit.
    pub faults: Vec<Error>,
}

impl Found {
    /// Adds samples, or the fault that there is instead.
    pub fn keep(&mut self, items: Result<Vec<Item>>) {
        match items {
            Ok(items) => self.items.extend(items),
            Err(e) => self.faults.push(e),
        }
    }
}
