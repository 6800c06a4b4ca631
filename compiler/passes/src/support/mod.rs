//! Helpers shared by all passes.

pub mod edit;
pub mod fold;
pub mod layouts;
pub mod regroup;
pub mod size;
pub mod weights;
