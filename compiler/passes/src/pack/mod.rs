//! Stores weights as kernels read them: panels of columns, transformed filters, low-bit codes.

pub mod codebook;
pub mod dense;
pub mod half_weights;
pub mod joined_axes;
pub mod lowbit;
#[cfg(test)]
mod lowbit_tests;
pub mod merge_pixels;
#[cfg(test)]
mod tests;
pub mod winograd;
