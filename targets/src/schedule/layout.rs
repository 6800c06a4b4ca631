//! Predicted costs of the layouts of activations, from sizes and the target.
//!
//! Costs are in nanoseconds, fitted on [`ZEN5`](crate::machine::ZEN5) with AVX-512 to the times of pools and
//! transposes. To measure again: `mcc bench MODEL --profile`, which prints each step's time and size
//! (`docs/cost-model.md`).

use crate::Target;

/// A pool or an interpolation.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Elements of the result.
    pub results: u64,
    /// Elements that each result is computed from.
    pub taps: u64,
}

/// Nanoseconds per tap: for one channel at a time, and for a vector of channels.
const SCALAR_TAP_NS: f64 = 0.6;
const VECTOR_TAP_NS: f64 = 0.4;

/// Predicted nanoseconds of a window with channels first, computed one by one, and with channels last, vectorized along
/// them.
pub fn windows(target: &Target, window: Window) -> [f64; 2] {
    let met = (window.results * window.taps) as f64;
    [met * SCALAR_TAP_NS, met * VECTOR_TAP_NS / lanes(target)]
}

/// Nanoseconds to move an element through memory and back.
const MOVE_NS: f64 = 0.15;

/// Predicted nanoseconds of transposing `elements` from one layout to the other in a separate pass.
pub fn transpose(target: &Target, elements: u64) -> f64 {
    elements as f64 * (MOVE_NS + target.machine.figures.sparse.transpose_ns * 16.0 / lanes(target))
}

fn lanes(target: &Target) -> f64 {
    f64::from(target.lanes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_windows_are_transposed_for_long_vectors() {
        let target = Target::new("x86_64-unknown-linux-gnu", Some("x86-64-v4")).unwrap();
        let cost = |taps| {
            let [first, last] = windows(&target, Window { results: 1000, taps });
            (first, last + 2.0 * transpose(&target, 1000))
        };
        let (first, last) = cost(9);
        assert!(last < first);
        let (first, last) = cost(1);
        assert!(first < last);
    }
}
