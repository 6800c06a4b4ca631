//! Operations that move elements: where each result comes from depends on its place, on indices, or on an interpolation.

pub mod concat;
pub mod gather;
pub mod grid_sample;
pub mod iota;
pub mod pad;
pub mod resize;
pub mod reverse_sequence;
pub mod scatter;
