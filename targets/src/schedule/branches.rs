//! When both branches of a condition are computed and their results selected.
//!
//! Selecting costs both branches' instructions, in a pass over the data that is often another kernel's; a branch is a pass of its
//! own, by a kernel of its own. Measured on [`ZEN5`](crate::machine::ZEN5) with AVX-512: a softmax, a condition of some additions and
//! maxima of two vectors in either branch, a product. Of 4096 elements both ways take the same time at 6 operations in all, of a
//! million selecting is faster up to 16. To measure again: `mcc bench MODEL --cpu native --profile` with the figure changed; no
//! knob overrules these (`docs/cost-model.md`).

/// Element-wise operations of one instruction each, of both branches together, up to which results are selected.
pub const MOST_SELECTED_STEPS: usize = 6;

/// Tensors that both branches together read, up to which results are selected.
pub const MOST_SELECTED_TENSORS: usize = 2;
