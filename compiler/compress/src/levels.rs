//! The values that a quantized weight may have.

use std::sync::Arc;

use crate::codebook;

/// Values with a code each.
#[derive(Clone, Debug, PartialEq)]
pub enum Levels {
    /// Equal steps: code `c` stands for `(c - zero) * scale`.
    Steps {
        /// The distance of two values; positive.
        scale: f64,
        /// The code of 0.
        zero: i32,
        /// The smallest code.
        lowest: i32,
        /// The largest code.
        highest: i32,
    },
    /// A codebook: code `c` stands for entry `c` times the factor.
    Table {
        /// The entries. They ascend, and there is at least one.
        entries: Arc<[f32]>,
        /// The factor; positive.
        factor: f32,
    },
}

impl Levels {
    /// The code of the nearest value.
    pub fn code(&self, value: f32) -> i32 {
        match self {
            Levels::Steps { scale, zero, lowest, highest } => {
                // Saturates before the zero point is added, so nothing overflows.
                let steps = (f64::from(value) / scale).round_ties_even().clamp(-1e9, 1e9) as i32;
                (steps + zero).clamp(*lowest, *highest)
            }
            Levels::Table { entries, factor } => codebook::nearest(entries, value / factor) as i32,
        }
    }

    /// The value of a code.
    pub fn value(&self, code: i32) -> f32 {
        match self {
            Levels::Steps { scale, zero, .. } => (f64::from(code - zero) * scale) as f32,
            Levels::Table { entries, factor } => entries.get(code as usize).copied().unwrap_or_default() * factor,
        }
    }

    /// The codes just below and above a value, in the order of values; the same one twice beyond the ends.
    pub fn around(&self, value: f32) -> [i32; 2] {
        match self {
            Levels::Steps { scale, zero, lowest, highest } => {
                let below = (f64::from(value) / scale).floor().clamp(-1e9, 1e9) as i32 + zero;
                [below.clamp(*lowest, *highest), (below + 1).clamp(*lowest, *highest)]
            }
            Levels::Table { entries, factor } => {
                let last = entries.len() - 1;
                let above = entries.partition_point(|&c| c * factor <= value);
                [above.saturating_sub(1) as i32, above.min(last) as i32]
            }
        }
    }

    /// Levels whose values are so many times as large, up to the rounding of 32-bit floats.
    pub fn times(&self, by: f64) -> Levels {
        let mut levels = self.clone();
        match &mut levels {
            Levels::Steps { scale, .. } => *scale = single(*scale * by),
            Levels::Table { factor, .. } => *factor = single(f64::from(*factor) * by) as f32,
        }
        levels
    }
}

/// The nearest 32-bit float that scales may be.
pub fn single(v: f64) -> f64 {
    f64::from((v as f32).max(f32::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_of_the_nearest_value_in_range() {
        let int4 = Levels::Steps { scale: 0.5, zero: 3, lowest: 0, highest: 15 };
        let table = Levels::Table { entries: [-2.0, 0.0, 0.5, 4.0].into(), factor: 0.5 };
        for levels in [int4, table] {
            let all: Vec<f32> = (0..16).map(|c| levels.value(c)).take_while(|v| !v.is_nan()).collect();
            for n in -80..80 {
                let v = n as f32 * 0.1;
                let got = levels.value(levels.code(v));
                let highest = if matches!(levels, Levels::Table { .. }) { 4 } else { 16 };
                let best = all[..highest].iter().map(|x| (x - v).abs()).fold(f32::MAX, f32::min);
                assert!(((got - v).abs() - best).abs() < 1e-6, "{levels:?}: {v} became {got}");
                let [below, above] = levels.around(v).map(|c| levels.value(c));
                assert!(below == got || above == got, "{levels:?}: {v} is not between {below} and {above}");
            }
        }
        let wide = Levels::Steps { scale: 1e-30, zero: 0, lowest: -8, highest: 7 };
        assert_eq!((wide.code(1e30), wide.code(-1e30), wide.around(1e30)), (7, -8, [7, 7]));
    }
}
