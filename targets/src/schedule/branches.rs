//! When both branches of a condition are computed and their results selected.
//!
//! Selecting costs both branches' instructions in one pass over the data, which often is another kernel's pass; a branch is a pass of
//! its own, by a kernel of its own.

/// Element-wise operations of one instruction each, of both branches together, up to which results are selected.
pub const MOST_SELECTED_STEPS: usize = 4;

/// Tensors that both branches together read, up to which results are selected.
pub const MOST_SELECTED_TENSORS: usize = 2;
