//! Low-bit weights: small integer codes, with parameters per block.
//!
//! A column's codes along the contracted elements are in 32-bit words, `32 / bits` per word; words of `tile`
//! neighbouring columns are adjacent: `codes[panel][word][column]`. Byte `j` of a word holds, from its top bits down,
//! the codes of elements `j`, `4 + j`, `8 + j` and so on. Shifted left by a multiple of `bits` and masked, a word holds
//! four neighbouring elements per column, as byte products need them; shifted further, it holds single elements.
//!
//! A code is unsigned. It represents the code minus `2^(bits - 1)`, or an entry of a table. The weight is this value
//! minus the block's zero point, if there are any, times the block's scale, in `f32`: `scales[panel][block][column]`,
//! `zeros[panel][block][column]`. Zero points are integers, and with codes of fewer than 8 bits the difference fits a
//! signed byte. Scales may be 16-bit floats. Padding of the last word and the last panel does not affect any result.

use bytes::Bytes;

use crate::{DType, Tensor};
use crate::{Error, Result};

/// The encoding of weights: the attributes of [`WeightFormat::LowBit`](crate::WeightFormat::LowBit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LowBit {
    /// Bits per code: 2, 4 or 8.
    pub bits: u32,
    /// Number of contracted elements that share parameters: a multiple of 16.
    pub block: usize,
}

/// A column for [`LowBit::pack`].
pub struct Column {
    /// One code per contracted element.
    pub codes: Vec<u8>,
    /// One scale per block.
    pub scales: Vec<f32>,
    /// One zero point per block, if any is not zero.
    pub zeros: Vec<i32>,
}

impl LowBit {
    /// Entries of a table for codes of up to 4 bits; tables for codes of 8 bits have 256.
    pub const SHORT_TABLE: usize = 16;

    /// Entries of a table for these codes.
    pub fn table_size(self) -> usize {
        if self.bits <= 4 { Self::SHORT_TABLE } else { 1 << self.bits }
    }

    /// Number of codes per word.
    pub fn in_word(self) -> usize {
        32 / self.bits as usize
    }

    /// Position of an element's code: its word, and its lowest bit there.
    pub fn place(self, element: usize) -> (usize, u32) {
        let (word, within) = (element / self.in_word(), (element % self.in_word()) as u32);
        let (step, byte) = (within / 4, within % 4);
        (word, 8 * byte + 8 - self.bits * (step + 1))
    }

    /// Without a table a code represents the code minus this.
    pub fn middle(self) -> u8 {
        1 << (self.bits - 1)
    }

    /// Type of the zero points.
    pub fn zero_type(self) -> DType {
        if self.bits < 8 { DType::I8 } else { DType::I16 }
    }

    /// Codes, scales, and zero points if there are any, in panels of `tile` columns.
    ///
    /// # Errors
    /// When the columns differ in length.
    pub fn pack(self, columns: &[Column], tile: usize) -> Result<Vec<Tensor>> {
        let Some(first) = columns.first() else { return Err(Error::internal("weights without columns")) };
        let (words, blocks) = (first.codes.len().div_ceil(self.in_word()), first.scales.len());
        let panels = columns.len().div_ceil(tile);
        let mut codes = vec![0u32; panels * words * tile];
        let (mut scales, mut zeros) = (vec![0.0; panels * blocks * tile], vec![0; panels * blocks * tile]);
        for (n, column) in columns.iter().enumerate() {
            let (panel, at) = (n / tile, n % tile);
            for (element, &code) in column.codes.iter().enumerate() {
                let (word, bit) = self.place(element);
                codes[(panel * words + word) * tile + at] |= u32::from(code) << bit;
            }
            let place = |block: usize| (panel * blocks + block) * tile + at;
            column.scales.iter().enumerate().for_each(|(block, &v)| scales[place(block)] = f64::from(v));
            column.zeros.iter().enumerate().for_each(|(block, &v)| zeros[place(block)] = i64::from(v));
        }
        let codes: Vec<u8> = codes.into_iter().flat_map(u32::to_le_bytes).collect();
        let shape = vec![panels, blocks, tile];
        let mut packed = vec![
            Tensor::new(DType::I32, vec![panels, words, tile], Bytes::from(codes))?,
            Tensor::from_f64s(DType::F32, shape.clone(), &scales)?,
        ];
        if columns.iter().any(|c| !c.zeros.is_empty()) {
            packed.push(Tensor::from_i64s(self.zero_type(), shape, &zeros)?);
        }
        Ok(packed)
    }

    /// The weights, `[depth, out]`; the last operand holds zero points or a table.
    ///
    /// # Errors
    /// When the operands have the wrong number of axes.
    pub fn decode(
        self,
        codes: &Tensor,
        scales: &Tensor,
        rest: Option<&Tensor>,
        [depth, out]: [usize; 2],
    ) -> Result<Tensor> {
        let (&[_, words, tile], &[_, blocks, _]) = (codes.shape(), scales.shape()) else {
            return Err(Error::internal(format!("codes {codes:?} with {scales:?}")));
        };
        let (table, zeros) = (rest.filter(|t| t.dtype() == DType::F32), rest.filter(|t| t.dtype() != DType::F32));
        let mask = (1u32 << self.bits) - 1;
        let number = |t: &Tensor, at: usize| t.f64_at(at) as f32;
        let mut data = Vec::with_capacity(depth * out * 4);
        for element in 0..depth {
            let (word, bit) = self.place(element);
            for column in 0..out {
                let (panel, at) = (column / tile, column % tile);
                let code = codes.i64_at((panel * words + word) * tile + at) as u32 >> bit & mask;
                let value = match table {
                    Some(table) => number(table, code as usize),
                    None => code as f32 - f32::from(self.middle()),
                };
                let place = (panel * blocks + element / self.block) * tile + at;
                let zero = zeros.map_or(0.0, |t| number(t, place));
                data.extend(((value - zero) * number(scales, place)).to_le_bytes());
            }
        }
        Tensor::new(DType::F32, vec![depth, out], Bytes::from(data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_codes_come_back() {
        for bits in [2, 4, 8] {
            let coded = LowBit { bits, block: 16 };
            let column = |seed: usize| Column {
                codes: (0..21).map(|i| ((i * 37 + seed * 11) % (1 << bits)) as u8).collect(),
                scales: vec![0.5, 2.0],
                zeros: if seed == 1 { vec![1, -3] } else { Vec::new() },
            };
            let columns: Vec<Column> = (0..5).map(column).collect();
            let packed = coded.pack(&columns, 4).unwrap();
            let (codes, scales, zeros) = (&packed[0], &packed[1], &packed[2]);
            assert_eq!(codes.shape(), [2, 21usize.div_ceil(coded.in_word()), 4]);
            let weights = coded.decode(codes, scales, Some(zeros), [21, 5]).unwrap();
            for (i, w) in weights.to_f64s().into_iter().enumerate() {
                let (element, column) = (i / 5, &columns[i % 5]);
                let zero = column.zeros.get(element / 16).copied().unwrap_or(0) as f32;
                let value = f32::from(column.codes[element]) - f32::from(coded.middle()) - zero;
                assert_eq!(w, f64::from(value * column.scales[element / 16]), "{bits} bits, {element}");
            }
        }
    }

    #[test]
    fn four_elements_are_a_shift_away() {
        for bits in [2, 4, 8] {
            let coded = LowBit { bits, block: 16 };
            for element in 0..coded.in_word() {
                let (step, byte) = (element as u32 / 4, element as u32 % 4);
                assert_eq!(coded.place(element), (0, 8 * (byte + 1) - bits - bits * step));
            }
        }
    }
}
