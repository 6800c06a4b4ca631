//! Operations that move elements: a result's source depends on its position, on indices, or on an interpolation.

pub mod concat;
pub mod gather;
pub mod grid_sample;
pub mod iota;
pub mod pad;
pub mod resize;
pub mod reverse_sequence;
pub mod scatter;
