//! Canonical form: constants folded, patterns fused, equal values shared, whatever the layout.

pub mod algebra;
pub mod attention;
pub mod conditions;
pub mod cse;
pub mod dead_code;
pub mod fold_batch_norm;
pub mod fold_constants;
pub mod fold_scales;
pub mod fuse_patterns;
pub mod known_extents;
pub mod reshapes;
pub mod scatters;
pub mod slices;
pub mod transposes;
pub mod unit_transposes;
