//! Pseudo-random numbers and tensors, the same for the same seed on every machine, for the text form's
//! [generators](super::text) and for tests.

use super::{DType, Tensor};
use crate::Result;

/// A generator of numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator with a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait, reason = "there is always another number")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An integer from 0 to `n - 1`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// An integer from `low` to `high`, both included.
    pub fn within(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    /// True with a probability of `percent`.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of several items.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// A number from -1 to 1.
    pub fn real(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// An `f32` tensor of numbers from `-bound` to `bound`.
    ///
    /// # Errors
    /// When the shape is too large.
    pub fn floats(&mut self, shape: &[usize], bound: f64) -> Result<Tensor> {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| self.real() * bound).collect();
        Tensor::from_f64s(DType::F32, shape.to_vec(), &values)
    }

    /// A tensor of integers from `low` to `high`.
    ///
    /// # Errors
    /// When the shape is too large.
    pub fn integers(&mut self, dtype: DType, shape: &[usize], low: i64, high: i64) -> Result<Tensor> {
        let values: Vec<i64> = (0..shape.iter().product()).map(|_| self.within(low, high)).collect();
        Tensor::from_i64s(dtype, shape.to_vec(), &values)
    }

    /// A non-zero value of a type: for floats a sixteenth of an integer from -32 to 32, so that sums of products are
    /// exact; for integers any that fits a byte.
    fn value(&mut self, dtype: DType) -> f64 {
        let (low, high, unit) = match dtype {
            DType::Bool => (1, 1, 1.0),
            t if t.is_float() => (-32, 32, 1.0 / 16.0),
            t if t.class() == super::DTypeClass::Signed => (-128, 127, 1.0),
            _ => (0, 255, 1.0),
        };
        loop {
            let n = self.within(low, high);
            if n != 0 {
                return n as f64 * unit;
            }
        }
    }
}

/// The non-zero places of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct NonZeros {
    /// The share of non-zero blocks, from 0 to 1; each block is non-zero with this probability.
    pub density: f64,
    /// Extents of a block along the last axes; along the axes before them it has one element.
    pub block: Vec<usize>,
    /// Number of elements along the first axes after which the places repeat.
    pub period: Vec<usize>,
}

impl NonZeros {
    /// All places.
    pub const ALL: NonZeros = NonZeros { density: 1.0, block: Vec::new(), period: Vec::new() };

    /// Whether each element of a shape is non-zero.
    fn mask(&self, shape: &[usize], random: &mut Random) -> Vec<bool> {
        let skipped = shape.len().saturating_sub(self.block.len());
        let axis = |n: usize| {
            let block = n.checked_sub(skipped).map_or(1, |n| self.block[n].max(1));
            (self.period.get(n).copied().unwrap_or(shape[n]).max(1), block)
        };
        // Blocks per period along each axis.
        let blocks: Vec<usize> = (0..shape.len()).map(|n| axis(n).0.div_ceil(axis(n).1)).collect();
        let kept: Vec<bool> =
            (0..blocks.iter().product()).map(|_| (random.real() + 1.0) / 2.0 < self.density).collect();
        let block_of = |mut element: usize| {
            let (mut stride, mut at) = (1, 0);
            for n in (0..shape.len()).rev() {
                let (period, block) = axis(n);
                at += element % shape[n] % period / block * stride;
                (element, stride) = (element / shape[n], stride * blocks[n]);
            }
            at
        };
        (0..shape.iter().product()).map(|element| kept[block_of(element)]).collect()
    }
}

/// A tensor of non-zero values: for floats sixteenths of integers, for integers bytes.
///
/// # Errors
/// When the type has no such values.
pub fn noise(dtype: DType, shape: &[usize], seed: u64) -> Result<Tensor> {
    sparse(dtype, shape, seed, &NonZeros::ALL)
}

/// [`noise`] at some places, zero elsewhere.
///
/// # Errors
/// As [`noise`].
pub fn sparse(dtype: DType, shape: &[usize], seed: u64, places: &NonZeros) -> Result<Tensor> {
    let mut random = Random::new(seed);
    let places = places.mask(shape, &mut random);
    let values: Vec<f64> = places.into_iter().map(|kept| random.value(dtype) * f64::from(u8::from(kept))).collect();
    Tensor::from_f64s(dtype, shape.to_vec(), &values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zero_or_not() {
        let places = NonZeros { density: 0.5, block: vec![5, 4], period: vec![] };
        let t = sparse(DType::F32, &[3, 10, 8], 1, &places).unwrap();
        let mut kept = 0;
        for block in 0..3 * 2 * 2 {
            let (i, j, k) = (block / 4, block / 2 % 2 * 5, block % 2 * 4);
            let element = |e: usize| t.f64_at(80 * i + 8 * (j + e / 4) + k + e % 4);
            let zeros = (0..20).filter(|&e| element(e) == 0.0).count();
            assert!(zeros == 0 || zeros == 20, "{zeros} of block {block}");
            kept += usize::from(zeros == 0);
        }
        assert!((2..11).contains(&kept), "{kept}");
        let t = sparse(DType::I8, &[7, 20], 1, &NonZeros { density: 0.3, block: vec![], period: vec![3] }).unwrap();
        let zero = |row: usize, column: usize| t.f64_at(20 * row + column) == 0.0;
        assert!((0..4 * 20).all(|i| zero(i / 20, i % 20) == zero(i / 20 + 3, i % 20)), "{:?}", t.to_f64s());
        assert!((0..20).any(|i| zero(0, i) != zero(1, i)));
        assert!(noise(DType::I8, &[1000], 2).unwrap().to_f64s().iter().all(|&v| v != 0.0));
        assert_eq!(noise(DType::F16, &[0, 3], 2).unwrap().numel(), 0);
    }
}
