//! Random numbers and tensors, the same ones for the same seed on every machine: what the text form's
//! [generators](super::text) write, and what tests compute with.

use super::{DType, Tensor};
use crate::Result;

/// A generator of numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// 64 bits.
    #[allow(clippy::should_implement_trait, reason = "there is always another number")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to before `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// From `low` to `high`, both included.
    pub fn within(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    /// True so many times of a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of several.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// From -1 to 1.
    pub fn real(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// `count` numbers from `low` to `high`.
    pub fn reals(&mut self, count: usize, low: f64, high: f64) -> Vec<f64> {
        (0..count).map(|_| low + (self.real() + 1.0) / 2.0 * (high - low)).collect()
    }

    /// A value of a type that is not zero: of floats a sixteenth of an integer from -32 to 32, so that sums of products are
    /// exact; of integers any that fits a byte.
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

/// A tensor of values that are not zero (of truth values either): of floats sixteenths of integers, of integers bytes.
///
/// # Errors
/// When the shape is too large.
pub fn noise(dtype: DType, shape: &[usize], seed: u64) -> Result<Tensor> {
    sparse(dtype, shape, seed, if dtype == DType::Bool { 0.5 } else { 1.0 }, &[])
}

/// [`noise`], of which only some blocks are not zero: each with the probability `density`. The last axes are cut into blocks
/// by `block`.
///
/// # Errors
/// When the shape is too large.
pub fn sparse(dtype: DType, shape: &[usize], seed: u64, density: f64, block: &[usize]) -> Result<Tensor> {
    let mut random = Random::new(seed);
    // How many elements of each axis are in one block, and how many blocks there are.
    let axis = |n: usize| (n + block.len()).checked_sub(shape.len()).map_or(1, |n| block[n].max(1));
    let blocks: Vec<usize> = shape.iter().enumerate().map(|(n, &extent)| extent.div_ceil(axis(n))).collect();
    let kept: Vec<bool> = (0..blocks.iter().product()).map(|_| (random.real() + 1.0) / 2.0 < density).collect();
    let block_of = |element: usize| {
        let (mut rest, mut stride, mut at) = (element, 1, 0);
        for n in (0..shape.len()).rev() {
            at += rest % shape[n] / axis(n) * stride;
            (rest, stride) = (rest / shape[n], stride * blocks[n]);
        }
        at
    };
    let count = shape.iter().product();
    let values: Vec<f64> = (0..count)
        .map(|element| {
            let value = random.value(dtype);
            if kept[block_of(element)] { value } else { 0.0 }
        })
        .collect();
    Tensor::from_f64s(dtype, shape.to_vec(), &values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zero_or_not() {
        let t = sparse(DType::F32, &[3, 10, 8], 1, 0.5, &[5, 4]).unwrap();
        let mut kept = 0;
        for block in 0..3 * 2 * 2 {
            let (i, j, k) = (block / 4, block / 2 % 2 * 5, block % 2 * 4);
            let element = |e: usize| t.f64_at(80 * i + 8 * (j + e / 4) + k + e % 4);
            let zeros = (0..20).filter(|&e| element(e) == 0.0).count();
            assert!(zeros == 0 || zeros == 20, "{zeros} of block {block}");
            kept += usize::from(zeros == 0);
        }
        assert!((2..11).contains(&kept), "{kept}");
        assert!(noise(DType::I8, &[1000], 2).unwrap().to_f64s().iter().all(|&v| v != 0.0));
        assert_eq!(noise(DType::F16, &[0, 3], 2).unwrap().numel(), 0);
    }
}
