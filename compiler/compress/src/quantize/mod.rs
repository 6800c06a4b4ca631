//! Quantization: weights as codes, activations as bytes.
//!
//! Contract: [`weights`] decides the codes of layers, which the session keeps beside weights that are exactly what the codes
//! mean; [`crate::session::Session::written`] puts both into ONNX's form at the end.

pub mod activation;
pub mod dynamic;
pub mod grid;
pub mod places;
pub mod recurrent;
pub mod runs;
pub mod step;
pub mod table;
pub mod tables;
pub mod weights;
pub mod write;
