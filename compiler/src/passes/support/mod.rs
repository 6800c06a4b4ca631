//! What passes of all kinds are written with.

pub mod edit;
pub mod regroup;
pub mod weights;
