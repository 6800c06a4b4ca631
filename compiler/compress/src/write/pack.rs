//! Integers of a few bits in bytes.

use mcc_ir::{Error, Result};

/// The bytes of integers of 4 or 8 bits, from the low bits up, as ONNX and `com.microsoft` store them.
pub fn packed(values: &[i32], bits: u32, [lowest, highest]: [i32; 2]) -> Result<Vec<u8>> {
    if let Some(bad) = values.iter().find(|v| !(lowest..=highest).contains(v)) {
        return Err(Error::internal(format!("code {bad} is not from {lowest} to {highest}")));
    }
    match bits {
        8 => Ok(values.iter().map(|&v| v as u8).collect()),
        _ => Ok(values
            .chunks(2)
            .map(|pair| (pair[0] & 15) as u8 | ((pair.get(1).unwrap_or(&0) & 15) << 4) as u8)
            .collect()),
    }
}
