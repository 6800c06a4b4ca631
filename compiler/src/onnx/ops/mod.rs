//! The importers: one function an operator, and one table of them all.

mod attention;
mod blocks;
mod control;
mod conv;
mod elementwise;
mod indexing;
mod loss;
mod microsoft;
mod ml;
mod movement;
mod norm;
mod parameters;
mod qoperator;
mod quantize;
mod recurrent;
mod reduce;
mod resize;
mod sequence;
mod signal;
mod table;

use super::builder::Builder;
use super::import::WalkFn;
use super::node::{Node, Results};
use crate::Result;

/// How an operator is imported.
#[derive(Clone, Copy)]
pub enum Importer {
    /// From its operands and attributes alone.
    Plain(fn(&mut Builder, &Node) -> Result<Results>),
    /// By walking graphs that are its attributes.
    Walking(WalkFn),
}

/// Domain and name of every row.
pub fn operators() -> impl Iterator<Item = (&'static str, &'static str)> {
    table::TABLE.iter().map(|row| (row.0, row.1))
}

/// The importer of an operator at a version of its domain.
pub fn find(domain: &str, name: &str, version: i64) -> Option<Importer> {
    let rows = table::TABLE.iter().filter(|row| row.0 == domain && row.1 == name);
    rows.filter(|row| row.2.contains(&version)).map(|row| row.3).next()
}
