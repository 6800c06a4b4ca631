//! Quantized models: from dequantize, compute, quantize as the importer writes them to products of bytes.

pub mod int8_contractions;
pub mod int8_reductions;
pub mod qdq_contractions;
pub mod qdq_propagation;
pub mod requantize_affine;
pub mod signedness;
