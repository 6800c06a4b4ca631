//! Compiles the model into the program: an object that is linked, and the module that `main.rs` includes.

fn main() -> Result<(), mcc_build::Error> {
    mcc_build::Model::new("../../tests/models/digits.onnx").compile()
}
