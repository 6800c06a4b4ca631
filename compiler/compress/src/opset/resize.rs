//! Operators that sample an image.

use mcc_ir::{DType, Error, Result, Tensor};

use super::change::{Change, text};

/// Upsample 10 is Resize. No axis of Upsample shrinks, which [`coordinates`] learns from the attribute.
pub fn upsample(c: &mut Change<'_, '_>) -> Result<()> {
    c.node.op_type = "Resize".into();
    if c.to() > 10 {
        c.set(text("nearest_mode", "floor"));
    }
    Ok(())
}

/// Resize 11: coordinates and rounding are attributes with another default; the scales are input 2, behind a region.
///
/// Before, coordinates were output coordinates divided by the scale. The nearest element was the one below where an axis
/// grows and the one above where it shrinks (ONNX did not say, but ONNX Runtime and the cases of ONNX agree); both kinds
/// of axes in one node take two nodes.
pub fn coordinates(c: &mut Change<'_, '_>) -> Result<()> {
    let scales = c.input(1).to_string();
    let is_nearest = c.text("mode", "nearest")? == "nearest";
    c.set(text("coordinate_transformation_mode", "asymmetric"));
    let scales = match is_nearest && c.attribute("nearest_mode").is_none() {
        true => nearest(c, &scales)?,
        false => scales,
    };
    let roi = no_region(c)?;
    c.set_input(1, roi);
    c.set_input(2, scales);
    Ok(())
}

/// The scales that remain for this node, which rounds down where possible.
fn nearest(c: &mut Change<'_, '_>, name: &str) -> Result<String> {
    let scales = c.known(name).map(|t| t.to_f64s()).ok_or_else(|| {
        Error::unsupported(format!(
            "the scales \"{name}\" are not constant, and how elements are chosen depends on them"
        ))
        .help("fix the scales, for example by exporting the model with constant shapes")
    })?;
    let grows = scales.iter().any(|&s| s > 1.0);
    let shrinks = scales.iter().any(|&s| s < 1.0);
    c.set(text("nearest_mode", if shrinks && !grows { "ceil" } else { "floor" }));
    if !(grows && shrinks) {
        return Ok(name.to_string());
    }
    let part = |c: &mut Change<'_, '_>, what: &str, f: fn(f64, f64) -> f64| -> Result<String> {
        let part: Vec<f64> = scales.iter().map(|&s| f(s, 1.0)).collect();
        Ok(c.constant(what, Tensor::from_f64s(DType::F32, vec![part.len()], &part)?))
    };
    let shrinking = part(c, "shrinking", f64::min)?;
    let growing = part(c, "growing", f64::max)?;
    let (x, roi) = (c.input(0).to_string(), no_region(c)?);
    let attributes = vec![
        text("mode", "nearest"),
        text("coordinate_transformation_mode", "asymmetric"),
        text("nearest_mode", "ceil"),
    ];
    let smaller = c.compute("Resize", &[&x, &roi, &shrinking], attributes);
    c.set_input(0, smaller);
    Ok(growing)
}

/// Until version 13 the region cannot be left out; an empty one is not read.
fn no_region(c: &mut Change<'_, '_>) -> Result<String> {
    match c.to() {
        ..13 => Ok(c.constant("roi", Tensor::from_f64s(DType::F32, vec![0], &[])?)),
        _ => Ok(String::new()),
    }
}

/// Resize 13: what had to be an empty tensor can be left out, and then must be: one of scales and sizes is given.
pub fn absent(c: &mut Change<'_, '_>) -> Result<()> {
    for n in [1, 2] {
        if c.known(c.input(n)).is_some_and(|t| t.numel() == 0) {
            c.set_input(n, String::new());
        }
    }
    Ok(())
}

/// RoiAlign 16: the default moved by half an element.
pub fn roi_align(c: &mut Change<'_, '_>) -> Result<()> {
    c.set(text("coordinate_transformation_mode", "output_half_pixel"));
    Ok(())
}

/// GridSample 20: modes have names for any number of axes.
pub fn grid_sample(c: &mut Change<'_, '_>) -> Result<()> {
    let mode = match c.text("mode", "bilinear")?.as_str() {
        "bilinear" => "linear".to_string(),
        "bicubic" => "cubic".to_string(),
        other => other.to_string(),
    };
    c.set(text("mode", &mode));
    Ok(())
}
