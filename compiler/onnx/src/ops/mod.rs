//! The importers: one function per operator, and the table of all operators.

mod attention;
mod blocks;
mod branch;
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
mod reshape;
mod resize;
mod sequence;
mod signal;
mod table;

use mcc_proto::GraphProto;

use super::builder::{Builder, Region};
use super::node::{Item, Node, Results};
use mcc_ir::Result;
use mcc_ir::Value;

/// How an operator is imported.
#[derive(Clone, Copy)]
pub enum Importer {
    /// Needs only operands and attributes.
    Plain(fn(&mut Builder, &Node) -> Result<Results>),
    /// Also imports graphs that are attributes.
    Walking(fn(&mut dyn Bodies, &Node) -> Result<Results>),
}

/// Imports the graphs that are attributes of If, Loop and Scan.
pub trait Bodies {
    /// The graph under construction.
    fn b(&mut self) -> &mut Builder;

    /// Imports a body, in which the surrounding names are visible, and returns its results.
    ///
    /// # Errors
    /// When the body is invalid or contains something that is not supported.
    fn body(&mut self, graph: &GraphProto, arguments: Vec<Item>) -> Result<Vec<Item>>;

    /// Imports a body without inputs as a region of the graph, which takes what it uses of the names around it; the first of
    /// these are `operands`. Its results are values of the region.
    ///
    /// # Errors
    /// As [`Bodies::body`].
    fn region(&mut self, graph: &GraphProto, operands: &[Value]) -> Result<(Region, Vec<Item>)>;
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
