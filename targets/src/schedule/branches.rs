//! When both branches of a condition are computed and their results selected.
//!
//! Selecting costs both branches' instructions, in a pass over the data that is often part of another kernel; a branch
//! is a pass of its own, in a separate kernel. Measured on [`ZEN5`](crate::machine::ZEN5) with AVX-512: a softmax, a
//! condition with some additions and maxima of two vectors in either branch, a product. With 4096 elements both ways
//! take the same time at 6 operations in total, with a million selecting is faster up to 16. To measure again: `mcc
//! bench MODEL --cpu native --profile` with the figure changed; no knob overrules these (`docs/cost-model.md`).

/// Maximum number of element-wise operations of one instruction each, in both branches together, for selecting results.
pub const MAX_SELECTED_STEPS: usize = 6;

/// Maximum number of tensors that both branches together read, for selecting results.
pub const MAX_SELECTED_TENSORS: usize = 2;
