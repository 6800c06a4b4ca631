//! Codes of activations: bytes of one scale and zero point.

use std::collections::BTreeMap;

use mcc_ir::{DType, Error, Result, Tensor};
use mcc_proto::NodeProto;
use serde::{Deserialize, Serialize};

use super::grid::single;
use super::places::Places;
use crate::model::Model;
use crate::observe::{Setting, observe};
use crate::ranges::{Calibration, Histogram, Range};

/// Codes of bytes.
const LEVELS: usize = 256;

/// Scale and zero point of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bytes {
    /// What a step is worth; exact in 32-bit floats.
    pub scale: f64,
    /// The code of zero.
    pub zero: u8,
}

impl Bytes {
    /// The codes that cover a range.
    pub fn of(range: Range) -> Bytes {
        let scale = single((range.high - range.low) / (LEVELS - 1) as f64);
        let zero = (-range.low / scale).round_ties_even().clamp(0.0, 255.0) as u8;
        Bytes { scale, zero }
    }
}

/// What activations were seen to be.
#[derive(Serialize, Deserialize)]
pub struct Seen {
    names: Vec<String>,
    histograms: Vec<Histogram>,
}

/// Looks at the values of each place.
///
/// # Errors
/// When the model does not compile or run, or gives a value that is not a number.
pub fn look(model: &Model, places: &Places, setting: &Setting) -> Result<Seen> {
    let names: Vec<&str> = places.keys().map(String::as_str).collect();
    let mut ranges = vec![Range::NOTHING; names.len()];
    setting.progress.begin("ranges of activations", 2 * setting.samples.len());
    observe(model, &names, setting, &mut |sample, values| {
        for ((range, value), name) in ranges.iter_mut().zip(values).zip(&names) {
            let numbers = floats(value)?;
            if numbers.iter().any(|v| !v.is_finite()) {
                let text = format!("\"{name}\" is not a finite number on sample {}", setting.samples.name(sample));
                return Err(Error::invalid(text).help("leave the sample out, or check how it is preprocessed"));
            }
            range.include(&numbers);
        }
        Ok(())
    })?;
    let mut histograms: Vec<Histogram> = ranges.iter().map(|&seen| Histogram::new(seen)).collect();
    observe(model, &names, setting, &mut |_, values| {
        histograms.iter_mut().zip(values).try_for_each(|(h, value)| floats(value).map(|v| h.add(&v)))
    })?;
    Ok(Seen { names: names.into_iter().map(str::to_string).collect(), histograms })
}

impl Seen {
    /// The codes of each place by a method.
    pub fn codes(&self, method: Calibration) -> BTreeMap<String, Bytes> {
        let bytes = self.histograms.iter().map(|h| Bytes::of(h.range(method, LEVELS)));
        self.names.iter().cloned().zip(bytes).collect()
    }
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_f32s().ok_or_else(|| Error::internal(format!("an activation is {}", tensor.dtype())))
}

/// Puts a quantizing and a dequantizing node behind each place, for those who read it.
///
/// # Errors
/// When the model contradicts itself.
pub fn write(model: &mut Model, places: &Places, codes: &BTreeMap<String, Bytes>) -> Result<()> {
    for (name, readers) in places {
        let Some(bytes) = codes.get(name) else { continue };
        let scale = model.add_constant(&format!("{name}_scale"), Tensor::scalar_f64(DType::F32, bytes.scale));
        let zero = model.add_constant(&format!("{name}_zero_point"), Tensor::scalar_i64(DType::U8, bytes.zero.into()));
        let quantized = model.fresh(&format!("{name}_quantized"));
        let back = model.fresh(&format!("{name}_dequantized"));
        let node = |op: &str, from: &str, to: &str| NodeProto {
            op_type: op.to_string(),
            name: to.to_string(),
            input: vec![from.to_string(), scale.clone(), zero.clone()],
            output: vec![to.to_string()],
            ..Default::default()
        };
        for reader in readers {
            if let Some(node) = model.giver(&reader.output) {
                model.set_input(node, reader.input, &back);
            }
        }
        model.add_nodes([node("QuantizeLinear", name, &quantized), node("DequantizeLinear", &quantized, &back)]);
    }
    Ok(())
}
