//! Operations with their gradients, on the elements of tensors of known shapes.
//!
//! Contract: an [`Operator`] is one operation of the IR for given shapes. It computes what
//! [`mcc_ir::eval`] does, in 32-bit floats, and the gradient of a sum of results by its operands
//! (reverse-mode differentiation; Griewank and Walther 2008). If it has several results, their elements are one after
//! another. Codes are held as floats too: rounding and casts pass gradients through unchanged ("straight through", Bengio
//! et al. 2013).

mod elementwise;
mod movement;
mod products;
mod recurrent;
mod reduce;
#[cfg(test)]
mod tests;
pub mod vectors;
mod windows;

use mcc_ir::{DType, Op, Result, Tensor, TensorType};

/// What is known when gradients are computed.
pub struct Pass<'a> {
    /// The operands' elements.
    pub x: &'a [&'a [f32]],
    /// The results'.
    pub y: &'a [f32],
    /// The gradient by the results.
    pub dy: &'a [f32],
}

/// An operation for given shapes.
pub trait Operator: Send + Sync {
    /// Computes the results, which are zeros before.
    fn forward(&self, x: &[&[f32]], y: &mut [f32]);

    /// Adds to the gradient by each operand that has one.
    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]);

    /// Multiplications and additions of the result, besides one for each element.
    fn work(&self) -> u64 {
        0
    }
}

/// An operation on tensors of known shapes.
pub struct Call<'a> {
    /// The operation.
    pub op: &'a Op,
    /// The operands' types.
    pub operands: &'a [TensorType],
    /// The operands' elements, where they are known.
    pub constants: &'a [Option<&'a Tensor>],
    /// The first result's type.
    pub result: &'a TensorType,
}

impl Call<'_> {
    /// The shape of an operand.
    fn shape(&self, operand: usize) -> Option<Vec<usize>> {
        self.operands.get(operand)?.fixed_shape()
    }

    /// The shape of the first result.
    fn result_shape(&self) -> Option<Vec<usize>> {
        self.result.fixed_shape()
    }
}

/// The operation with its gradients; `None` if it has none here.
///
/// # Errors
/// When the operation contradicts its operands.
pub fn operator(call: &Call) -> Result<Option<Box<dyn Operator>>> {
    let held = |ty: &TensorType| !matches!(ty.dtype, DType::F64 | DType::I64 | DType::U64 | DType::U32);
    if !held(call.result) {
        return Ok(None);
    }
    type Maker = fn(&Call) -> Result<Option<Box<dyn Operator>>>;
    let makers: [Maker; 6] = [
        elementwise::operator,
        movement::operator,
        products::operator,
        windows::operator,
        reduce::operator,
        recurrent::operator,
    ];
    for maker in makers {
        if let Some(made) = maker(call)? {
            return Ok(Some(made));
        }
    }
    Ok(None)
}
