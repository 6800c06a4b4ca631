//! Loops over elements, compiled for the vectors of the machine at hand.
//!
//! Contract: the numbers are the same on every machine, since the order of sums does not depend on it.

use pulp::Arch;

/// Numbers of partial sums.
const LANES: usize = 16;

/// Runs a loop with the widest vectors of the machine.
#[inline(always)]
pub fn vectorized<R>(run: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(run)
}

/// The sum of products of two slices of one length, in [`LANES`] partial sums.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0; LANES];
    for (a, b) in a.zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    rest + sums.iter().sum::<f32>()
}

/// The sum of a slice, in [`LANES`] partial sums.
#[inline(always)]
pub fn sum(a: &[f32]) -> f32 {
    let chunks = a.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().sum();
    let mut sums = [0.0; LANES];
    chunks.for_each(|a| sums.iter_mut().zip(a).for_each(|(sum, a)| *sum += a));
    rest + sums.iter().sum::<f32>()
}

/// Adds a slice to another.
pub fn add(to: &mut [f32], from: &[f32]) {
    vectorized(|| to.iter_mut().zip(from).for_each(|(to, from)| *to += from));
}
