//! Quantized models: turns dequantize-compute-quantize, as the importer writes it, into products of bytes.

pub mod int8_contractions;
pub mod int8_reductions;
pub mod qdq_contractions;
pub mod qdq_propagation;
pub mod requantize_affine;
pub mod signedness;

/// The reason of a [decision](mcc_ir::Decision) for floats in a quantized layer, on targets without byte products.
pub const WITHOUT_BYTE_PRODUCTS: &str = "the target has no byte products: floats are as fast";
