//! Quantized models: from dequantize, compute, quantize as the importer writes them to products of bytes.

pub mod int8_contractions;
pub mod int8_reductions;
pub mod qdq_contractions;
pub mod qdq_propagation;
pub mod requantize_affine;
pub mod signedness;

/// Why a layer of bytes computes in floats on a plain CPU: the reason of its [decision](mcc_ir::Decision).
pub const WITHOUT_BYTE_PRODUCTS: &str = "the target has no products of bytes: floats are as fast";
