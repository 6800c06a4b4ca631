//! What passes of all kinds are written with.

pub mod edit;
pub mod fold;
pub mod layouts;
pub mod regroup;
pub mod size;
pub mod weights;
