//! Measures a core's peak: times loops that only multiply and add in registers.

use std::hint::black_box;
use std::time::Instant;

use mcc_targets::Target;

/// Independent accumulators: more than latency times units of any core.
const CHAINS: usize = 12;
/// Iterations per measurement, a fraction of a millisecond.
const ITERATIONS: u32 = 20_000;
/// Number of measurements; the best counts.
const MEASUREMENTS: usize = 50;

/// The peak for `f32` in GFLOP/s, a multiply-add being two operations, with the target's widest vectors. `None` on
/// machines for which there is no such loop.
pub fn f32_gflops(target: &Target) -> Option<f64> {
    best(f32_loop(target)?)
}

/// The same for products of 8-bit integers with 32-bit sums.
pub fn int8_gops(target: &Target) -> Option<f64> {
    best(int8_loop(target)?)
}

/// Multiply-adds per iteration, and the loop.
type Loop = (usize, fn(u32));

fn best((multiply_adds, run): Loop) -> Option<f64> {
    let seconds = (0..MEASUREMENTS).map(|_| {
        let start = Instant::now();
        run(ITERATIONS);
        start.elapsed().as_secs_f64()
    });
    let least = seconds.fold(f64::INFINITY, f64::min);
    (least > 0.0).then(|| 2.0 * (multiply_adds * CHAINS) as f64 * f64::from(ITERATIONS) / least / 1e9)
}

/// Defines a function that updates accumulators by an expression; the caller checks the CPU features that it needs.
macro_rules! chains {
    ($name:ident, $feature:literal, $start:expr, |$acc:ident, $x:ident| $step:expr) => {
        fn $name(rounds: u32) {
            #[target_feature(enable = $feature)]
            fn inside(rounds: u32) {
                // The compiler must assume that they differ, or it would merge the chains.
                let mut accumulators = black_box([$start; CHAINS]);
                let $x = black_box($start);
                for _ in 0..rounds {
                    for a in &mut accumulators {
                        let $acc = *a;
                        *a = $step;
                    }
                }
                black_box(accumulators);
            }
            // SAFETY: `f32_loop` and `int8_loop` return this function only for targets with the feature, and a target
            // whose objects are loaded here is this machine.
            unsafe { inside(rounds) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod loops {
    use std::arch::x86_64::*;

    use super::{CHAINS, Loop, black_box};
    use mcc_targets::{Feature, Target};

    chains!(f32_512, "avx512f", _mm512_set1_ps(0.5), |a, x| _mm512_fmadd_ps(x, x, a));
    chains!(f32_256, "avx2,fma", _mm256_set1_ps(0.5), |a, x| _mm256_fmadd_ps(x, x, a));
    chains!(f32_128, "sse2", _mm_set1_ps(0.5), |a, x| _mm_add_ps(a, _mm_mul_ps(a, x)));
    chains!(int8_512, "avx512vnni", _mm512_set1_epi8(1), |a, x| _mm512_dpbusd_epi32(a, x, x));
    chains!(int8_256, "avxvnni", _mm256_set1_epi8(1), |a, x| _mm256_dpbusd_avx_epi32(a, x, x));
    chains!(int8_avx2, "avx2", _mm256_set1_epi8(1), |a, x| {
        // The second operand changes; otherwise the products would be computed only once.
        let pairs = _mm256_maddubs_epi16(x, a);
        _mm256_add_epi32(a, _mm256_madd_epi16(pairs, x))
    });

    pub fn f32_loop(target: &Target) -> Option<Loop> {
        Some(match () {
            () if target.has(Feature::Avx512f) => (16, f32_512),
            () if target.has(Feature::Avx2) && target.has(Feature::Fma) => (8, f32_256),
            () => (4, f32_128),
        })
    }

    pub fn int8_loop(target: &Target) -> Option<Loop> {
        let rows: [(Feature, Loop); 3] = [
            (Feature::Avx512vnni, (64, int8_512)),
            (Feature::Avxvnni, (32, int8_256)),
            (Feature::Avx2, (32, int8_avx2)),
        ];
        rows.into_iter().find(|(feature, _)| target.has(*feature)).map(|row| row.1)
    }
}

#[cfg(target_arch = "aarch64")]
mod loops {
    use std::arch::aarch64::*;

    use super::{CHAINS, Loop, black_box};
    use mcc_targets::Target;

    chains!(f32_128, "neon", vdupq_n_f32(0.5), |a, x| vfmaq_f32(a, x, x));

    pub fn f32_loop(_: &Target) -> Option<Loop> {
        Some((4, f32_128))
    }

    pub fn int8_loop(_: &Target) -> Option<Loop> {
        None
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod loops {
    use super::Loop;
    use mcc_targets::Target;

    pub fn f32_loop(_: &Target) -> Option<Loop> {
        None
    }

    pub fn int8_loop(_: &Target) -> Option<Loop> {
        None
    }
}

use loops::{f32_loop, int8_loop};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_of_this_machine_has_a_peak() {
        for target in Target::host_levels() {
            assert!(f32_gflops(&target).is_none_or(|g| g.is_finite() && g > 0.01));
            assert!(int8_gops(&target).is_none_or(|g| g.is_finite() && g > 0.01));
        }
    }
}
