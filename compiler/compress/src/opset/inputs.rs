//! Attributes that became inputs, and other changes of form.

use mcc_ir::{DType, Error, Result, Tensor};
use mcc_proto::tensor_proto::DataType;

use super::change::{Change, int};

/// Squeeze, Unsqueeze and ReduceSum 13, other reductions 18: the axes. An empty list means all axes, except to Unsqueeze.
pub fn axes(c: &mut Change<'_, '_>) -> Result<()> {
    let empty = c.attribute("axes").is_some_and(|a| a.ints.is_empty() && a.ref_attr_name.is_empty());
    if empty && c.node.op_type != "Unsqueeze" {
        c.take("axes");
        return Ok(());
    }
    c.ints_to_input("axes", 1)
}

/// Split 13: the sizes.
pub fn split(c: &mut Change<'_, '_>) -> Result<()> {
    c.ints_to_input("split", 1)
}

/// Split 18: without sizes, the number of outputs is told.
pub fn num_outputs(c: &mut Change<'_, '_>) -> Result<()> {
    if c.input(1).is_empty() {
        let outputs = c.node.output.len() as i64;
        c.set(int("num_outputs", outputs));
    }
    Ok(())
}

/// Slice 10: everything.
pub fn slice(c: &mut Change<'_, '_>) -> Result<()> {
    c.ints_to_input("starts", 1)?;
    c.ints_to_input("ends", 2)?;
    c.ints_to_input("axes", 3)
}

/// TopK 10: the count.
pub fn top_k(c: &mut Change<'_, '_>) -> Result<()> {
    c.ints_to_input("k", 1)
}

/// Clip 11: the bounds. Before, they were `f32` and by default the largest numbers of that type; now they have the type
/// of the operand, whose largest numbers are the default.
pub fn clip(c: &mut Change<'_, '_>) -> Result<()> {
    let x = c.input(0).to_string();
    let is_f32 = c.element_type(&x) == Some(DataType::Float);
    for (n, name, default) in [(1, "min", f32::MIN), (2, "max", f32::MAX)] {
        let bound = c.float(name)?;
        c.take(name);
        if bound.is_some() || !is_f32 {
            let bound = c.scalar_like(name, &x, bound.unwrap_or(default))?;
            c.set_input(n, bound);
        }
    }
    Ok(())
}

/// Pad 11: amounts and value.
pub fn pad(c: &mut Change<'_, '_>) -> Result<()> {
    c.ints_to_input("pads", 1)?;
    let value = c.float("value")?.filter(|&v| v != 0.0);
    c.take("value");
    if let Some(value) = value {
        let x = c.input(0).to_string();
        let value = c.scalar_like("value", &x, value)?;
        c.set_input(2, value);
    }
    Ok(())
}

/// Upsample 9: the scales.
pub fn upsample(c: &mut Change<'_, '_>) -> Result<()> {
    let scales = c.take("scales").filter(|a| a.ref_attr_name.is_empty());
    let scales = scales.ok_or_else(|| Error::invalid("attribute scales is missing, or a caller's"))?;
    let floats: Vec<f64> = scales.floats.iter().map(|&s| f64::from(s)).collect();
    let scales = c.constant("scales", Tensor::from_f64s(DType::F32, vec![floats.len()], &floats)?);
    c.set_input(1, scales);
    Ok(())
}

/// Dropout 10: the mask's type. What it is in inference was undefined until version 12, and engines differ.
pub fn dropout_mask(c: &mut Change<'_, '_>) -> Result<()> {
    if c.is_used(c.output(1)) {
        return Err(Error::unsupported("output mask has no defined value before version 12")
            .help("remove what uses the mask: in inference, Dropout gives its input"));
    }
    c.node.output.truncate(1);
    Ok(())
}

/// Dropout 12: the ratio.
pub fn dropout(c: &mut Change<'_, '_>) -> Result<()> {
    dropout_mask(c)?;
    if let Some(ratio) = c.float("ratio")? {
        c.take("ratio");
        let ratio = c.constant("ratio", Tensor::scalar_f64(DType::F32, f64::from(ratio)));
        c.set_input(1, ratio);
    }
    Ok(())
}

/// DFT 20: the axis, whose default was the first after the batch.
pub fn dft(c: &mut Change<'_, '_>) -> Result<()> {
    let axis = c.int("axis", 1)?;
    c.take("axis");
    let axis = c.constant("axis", Tensor::scalar_i64(DType::I64, axis));
    c.set_input(2, axis);
    Ok(())
}

/// Scatter 11 is ScatterElements.
pub fn scatter(c: &mut Change<'_, '_>) -> Result<()> {
    c.node.op_type = "ScatterElements".into();
    Ok(())
}

/// Recurrent operators 7: an output is given where it is used.
pub fn output_sequence(c: &mut Change<'_, '_>) -> Result<()> {
    c.take("output_sequence");
    Ok(())
}

/// Erf 13, ReduceLogSum and ReduceLogSumExp 28: operands that are integers are no longer allowed.
pub fn no_integers(c: &mut Change<'_, '_>) -> Result<()> {
    use DataType::{Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
    match c.element_type(c.input(0)) {
        Some(t @ (Int8 | Int16 | Int32 | Int64 | Uint8 | Uint16 | Uint32 | Uint64)) => {
            Err(Error::unsupported(format!("of {t:?}, which ai.onnx {} does not have", c.to())))
        }
        _ => Ok(()),
    }
}
