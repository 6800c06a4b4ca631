//! Bitmask format of packed bytes with many zeros: one bit per byte, and the non-zero bytes.
//!
//! With one group, these operands of [`WeightFormat::Int8`](crate::WeightFormat::Int8) can replace its packed weights
//! `i8[1, panels, taps, steps, tile, 4]`, whose tile must be a multiple of 16:
//! - `masks: i64[1, panels, taps, steps, tile / 16]`: the lowest bit of a word is for the first of its 64 bytes;
//! - `values: i8[n]`: the bytes whose bits are set, and 64 more, so that any 64 can be read at once;
//! - `heads: i32[panels]`: the start of each panel's values.

use bytes::Bytes;

use crate::{DType, Tensor};
use crate::{Error, Result};

/// Bytes per word of the mask.
const WORD_BYTES: usize = 64;

/// Masks, values and heads of packed bytes; `None` if words would not fill a tile.
///
/// # Errors
/// When the bytes are not packed in this way.
pub fn mask_bytes(packed: &Tensor) -> Result<Option<[Tensor; 3]>> {
    let &[group, panels, taps, steps, tile, four] = packed.shape() else {
        return Err(Error::internal(format!("masks of bytes {:?}", packed.shape())));
    };
    if group != 1 || !(tile * four).is_multiple_of(WORD_BYTES) {
        return Ok(None);
    }
    let panel = taps * steps * tile * four;
    let (mut masks, mut values, mut heads) = (Vec::new(), Vec::new(), Vec::new());
    for (n, bytes) in packed.data().chunks_exact(WORD_BYTES).enumerate() {
        if (n * WORD_BYTES).is_multiple_of(panel) {
            heads.push(values.len() as i64);
        }
        masks.push(bytes.iter().enumerate().fold(0u64, |mask, (i, &b)| mask | u64::from(b != 0) << i));
        values.extend(bytes.iter().filter(|b| **b != 0));
    }
    values.resize(values.len() + WORD_BYTES, 0);
    let masks: Vec<u8> = masks.into_iter().flat_map(u64::to_le_bytes).collect();
    Ok(Some([
        Tensor::new(DType::I64, vec![1, panels, taps, steps, tile * four / WORD_BYTES], Bytes::from(masks))?,
        Tensor::new(DType::I8, vec![values.len()], Bytes::from(values))?,
        Tensor::from_i64s(DType::I32, vec![panels], &heads)?,
    ]))
}

/// The packed bytes.
///
/// # Errors
/// When the operands have the wrong number of axes.
pub fn unmask_bytes(masks: &Tensor, values: &Tensor, heads: &Tensor) -> Result<Tensor> {
    let &[1, panels, taps, steps, words] = masks.shape() else {
        return Err(Error::internal(format!("masks {:?}", masks.shape())));
    };
    let mut bytes = Vec::with_capacity(masks.numel() * WORD_BYTES);
    for (panel, head) in heads.to_i64s().into_iter().enumerate() {
        let mut rest = values.data().iter().skip(head as usize);
        let words = taps * steps * words;
        for word in panel * words..(panel + 1) * words {
            let mask = masks.i64_at(word);
            let byte = |bit: usize| if mask >> bit & 1 == 1 { rest.next().copied() } else { None };
            bytes.extend((0..WORD_BYTES).map(byte).map(Option::unwrap_or_default));
        }
    }
    Tensor::new(DType::I8, vec![1, panels, taps, steps, words * WORD_BYTES / 4, 4], Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_bytes_come_back() {
        let shape = vec![1, 3, 2, 5, 32, 4];
        let bytes: Vec<u8> = (0..shape.iter().product::<usize>()).map(|i| (i * i % 7 * (i % 3)) as u8).collect();
        let packed = Tensor::new(DType::I8, shape, Bytes::from(bytes)).unwrap();
        let [masks, values, heads] = mask_bytes(&packed).unwrap().unwrap();
        assert_eq!(masks.shape(), [1, 3, 2, 5, 2]);
        assert_eq!(values.numel(), packed.data().iter().filter(|b| **b != 0).count() + 64);
        assert_eq!(unmask_bytes(&masks, &values, &heads).unwrap(), packed);
        let narrow = Tensor::new(DType::I8, vec![1, 1, 1, 1, 8, 4], Bytes::from(vec![1; 32])).unwrap();
        assert!(mask_bytes(&narrow).unwrap().is_none());
    }
}
