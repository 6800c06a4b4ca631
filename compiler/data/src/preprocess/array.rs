//! Numbers with axes.

/// Numbers with axes, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Extents.
    pub shape: Vec<usize>,
    /// The numbers.
    pub data: Vec<f32>,
}
