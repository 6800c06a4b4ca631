//! Schedules and cost formulas, as data and pure functions of type, shape and target: the one place of figures that were
//! measured. Every figure is an item with its unit in its name; a module's head says what was measured, on what, and how to
//! measure again. Sizes of caches and rates are those of the target's [`Machine`](crate::machine::Machine).

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
    /// Steps of the contraction in one round of the inner loop.
    pub unroll: u32,
}
