//! Schedules and cost formulas, as data and pure functions of type, shape and target: the only place for measured
//! figures. Every figure is an item with its unit in its name; a module's documentation says what was measured, on
//! which machine, and how to measure again. Cache sizes and rates come from the target's
//! [`Machine`](crate::machine::Machine).

pub mod blocks;
pub mod branches;
pub mod filtering;
pub mod int8;
pub mod layout;
pub mod loops;
pub mod lowbit;
pub mod products;
pub mod sparse;
pub mod threads;

/// A register tile of a contraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows held in registers at once.
    pub rows: u32,
    /// Vectors of columns held in registers at once.
    pub vectors: u32,
    /// Steps of the contraction per iteration of the inner loop.
    pub unroll: u32,
}
