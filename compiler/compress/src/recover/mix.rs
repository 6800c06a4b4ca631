//! More samples to train with: mixtures of two.
//!
//! The teacher tells what any input should give, so that inputs need not be real. Numbers of two samples are averaged
//! (mixup; Zhang et al. 2018); of numbers that stand for something, such as words, a part comes from one and the rest from
//! the other (CutMix; Yun et al. 2019).

use mcc_data::Samples;
use mcc_ir::{DType, Random, Result, Tensor, TensorType};

use super::train::is_held;

/// Bytes of all mixtures at most.
const BYTES: usize = 1 << 28;

/// Mixtures for each sample that is trained with.
const EACH: usize = 10;

/// Mixtures for each sample that is held out: few samples judge badly.
const EACH_HELD: usize = 4;

/// Samples, those given first.
pub struct Extended {
    /// All of them.
    pub samples: Samples,
    /// How many were given.
    pub real: usize,
    /// The first mixture of samples held out; these are last.
    pub held_from: usize,
}

/// The samples, and behind them mixtures of those to train with and of those held out.
///
/// # Errors
/// When a sample cannot be read.
pub fn extended(samples: &Samples, seed: u64) -> Result<Extended> {
    let real = samples.len();
    let (held, among): (Vec<usize>, Vec<usize>) = (0..real).partition(|&n| is_held(n));
    let mut all: Vec<Vec<Tensor>> = (0..real).map(|n| samples.read(n)).collect::<Result<_>>()?;
    all.extend(mixtures(samples, &among, EACH * among.len(), seed)?);
    let held_from = all.len();
    all.extend(held_mixtures(samples, &held)?);
    Ok(Extended { samples: Samples::from_tensors(all), real, held_from })
}

/// Mixtures of samples held out: always the same.
///
/// # Errors
/// When a sample cannot be read.
pub fn held_mixtures(samples: &Samples, held: &[usize]) -> Result<Vec<Vec<Tensor>>> {
    mixtures(samples, held, EACH_HELD * held.len(), 0)
}

/// Mixtures of the samples of some numbers, at most `count`; each is of two with the same types.
///
/// # Errors
/// When a sample cannot be read.
fn mixtures(samples: &Samples, among: &[usize], count: usize, seed: u64) -> Result<Vec<Vec<Tensor>>> {
    let mut random = Random::new(seed);
    let (mut made, mut bytes) = (Vec::new(), 0);
    for n in 0..count {
        let one = samples.read(among[n % among.len()])?;
        let other = samples.read(among[random.below(among.len())])?;
        let types = |sample: &[Tensor]| -> Vec<TensorType> { sample.iter().map(Tensor::ty).collect() };
        if types(&one) != types(&other) {
            continue;
        }
        let mixture = mixture(&one, &other, &mut random)?;
        bytes += mixture.iter().map(|t| t.data().len()).sum::<usize>();
        if bytes > BYTES {
            break;
        }
        made.push(mixture);
    }
    Ok(made)
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
        let made = mixtures(&samples, &[0, 1], 40, 1).unwrap();
        assert_eq!(made.len(), 40);
        assert!(made.iter().any(|m| m[0].to_f64s().iter().any(|v| *v > 0.0 && *v < 1.0)));
        for mixture in &made {
            assert!(mixture[0].to_f64s().iter().all(|v| (0.0..=1.0).contains(v)));
            assert!(mixture[1].to_i64s().iter().all(|c| [3, 7].contains(c)));
        }
        assert_eq!(made, mixtures(&samples, &[0, 1], 40, 1).unwrap());
    }
}
