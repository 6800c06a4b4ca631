//! Weights with zeros: which layers gain by skipping them, and in which format their weights are stored.

pub mod blocks;
pub mod csr;
pub mod int8_bitmask;
pub mod int8_blocks;
pub mod int8_csr;
pub mod shared_places;
