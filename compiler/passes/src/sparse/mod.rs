//! Weights with zeros: chooses the layers that gain by skipping zeros, and the format of their weights.

pub mod blocks;
pub mod csr;
pub mod int8_bitmask;
pub mod int8_blocks;
pub mod int8_csr;
pub mod shared_places;
