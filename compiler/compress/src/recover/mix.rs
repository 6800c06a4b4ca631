//! More samples to train with: mixtures of two.
//!
//! The teacher tells what any input should give, so that inputs need not be real. Numbers of two samples are averaged
//! (mixup; Zhang et al. 2018); of numbers that stand for something, such as words, a part comes from one and the rest from
//! the other (CutMix; Yun et al. 2019).

use mcc_data::Samples;
use mcc_ir::{DType, Random, Result, Tensor, TensorType};

use super::train::is_held;

/// Mixtures for each sample that is held out: few samples judge badly.
const EACH_HELD: usize = 4;

/// How often another sample with the same types is looked for.
const TRIES: usize = 8;

/// Samples, those given first.
pub struct Extended {
    /// All of them.
    pub samples: Samples,
    /// How many were given; the others are mixtures of those held out.
    pub real: usize,
}

/// The samples, and behind them mixtures of those held out.
///
/// # Errors
/// When a sample cannot be read.
pub fn extended(samples: &Samples) -> Result<Extended> {
    let real = samples.len();
    let held: Vec<usize> = (0..real).filter(|&n| is_held(n)).collect();
    let mut all: Vec<Vec<Tensor>> = (0..real).map(|n| samples.read(n)).collect::<Result<_>>()?;
    all.extend(held_mixtures(samples, &held)?);
    Ok(Extended { samples: Samples::from_tensors(all), real })
}

/// Mixtures of samples held out: always the same.
///
/// # Errors
/// When a sample cannot be read.
pub fn held_mixtures(samples: &Samples, held: &[usize]) -> Result<Vec<Vec<Tensor>>> {
    (0..EACH_HELD * held.len()).map(|n| drawn(samples, held, n as u64)).collect()
}

/// A mixture of two of some samples that have the same types, or one of them if no other is found.
///
/// # Errors
/// When a sample cannot be read.
pub fn drawn(samples: &Samples, among: &[usize], seed: u64) -> Result<Vec<Tensor>> {
    let mut random = Random::new(seed);
    let types = |sample: &[Tensor]| -> Vec<TensorType> { sample.iter().map(Tensor::ty).collect() };
    let one = samples.read(among[random.below(among.len())])?;
    for _ in 0..TRIES {
        let other = samples.read(among[random.below(among.len())])?;
        if types(&one) == types(&other) {
            return mixture(&one, &other, &mut random);
        }
    }
    Ok(one)
}

fn mixture(one: &[Tensor], other: &[Tensor], random: &mut Random) -> Result<Vec<Tensor>> {
    // From 0 to 1.
    let mut share = || (random.real() + 1.0) / 2.0;
    let (part, begin) = (0.5 * share(), share());
    let cuts = random.below(2) == 0;
    one.iter().zip(other).map(|(a, b)| mixed(a, b, Mixing { part, cuts, begin })).collect()
}

/// How two samples are mixed: alike for all inputs, which belong together.
#[derive(Clone, Copy)]
struct Mixing {
    /// The part of the other one.
    part: f64,
    /// Whether numbers are not averaged.
    cuts: bool,
    /// Where the other one's part begins.
    begin: f64,
}

fn mixed(a: &Tensor, b: &Tensor, how: Mixing) -> Result<Tensor> {
    let extent = a.shape().last().copied().unwrap_or(1);
    let (from, len) = ((how.begin * extent as f64) as usize, (how.part * extent as f64) as usize);
    let is_other = |n: usize| (n % extent + extent - from) % extent < len;
    match a.dtype() {
        DType::F32 => {
            let values = a.to_f64s().into_iter().zip(b.to_f64s()).enumerate().map(|(n, (a, b))| match how.cuts {
                true if is_other(n) => b,
                true => a,
                false => (1.0 - how.part) * a + how.part * b,
            });
            Tensor::from_f64s(DType::F32, a.shape().to_vec(), &values.collect::<Vec<_>>())
        }
        dtype if dtype.is_int() => {
            let values = a.to_i64s().into_iter().zip(b.to_i64s()).enumerate();
            let values: Vec<i64> = values.map(|(n, (a, b))| if is_other(n) { b } else { a }).collect();
            Tensor::from_i64s(dtype, a.shape().to_vec(), &values)
        }
        _ => Ok(a.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_mixtures_are_of_the_two() {
        let floats = |v: f64| Tensor::from_f64s(DType::F32, vec![1, 64], &[v; 64]).unwrap();
        let codes = |v: i64| Tensor::from_i64s(DType::I64, vec![1, 64], &[v; 64]).unwrap();
        let samples = Samples::from_tensors(vec![vec![floats(0.0), codes(3)], vec![floats(1.0), codes(7)]]);
        let made: Vec<Vec<Tensor>> = (0..40).map(|seed| drawn(&samples, &[0, 1], seed).unwrap()).collect();
        assert!(made.iter().any(|m| m[0].to_f64s().iter().any(|v| *v > 0.0 && *v < 1.0)));
        for mixture in &made {
            assert!(mixture[0].to_f64s().iter().all(|v| (0.0..=1.0).contains(v)));
            assert!(mixture[1].to_i64s().iter().all(|c| [3, 7].contains(c)));
        }
        assert_eq!(made[7], drawn(&samples, &[0, 1], 7).unwrap());
    }
}
