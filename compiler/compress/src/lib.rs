//! Makes trained models smaller and faster: pruning, quantization, low rank, and recovery from what they lose.
//!
//! Contract: edits an ONNX model and gives a standard ONNX model, whose nodes, names and shapes are otherwise those of
//! the given one. The given model is the teacher: no training code and no labels are needed. The same model, samples and
//! recipe give the same bytes.

pub mod adaround;
pub mod attribute;
pub mod cache;
pub mod codebook;
pub mod curvature;
pub mod equalize;
pub mod gptq;
pub mod layers;
pub mod levels;
pub mod loss;
pub mod lowrank;
pub mod matrix;
pub mod model;
pub mod moments;
pub mod norms;
pub mod observe;
pub mod opset;
pub mod prune;
pub mod quantize;
pub mod ranges;
pub mod recipe;
pub mod recover;
pub mod recurrent;
pub mod refit;
pub mod search;
pub mod session;
pub mod sweep;
pub mod times;
pub mod unfold;
pub mod write;
