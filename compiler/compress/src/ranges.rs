//! Ranges of activations: which interval the codes of a value cover.
//!
//! Values beyond the range saturate, values within it are rounded to its steps; the methods weigh one against the
//! other. All work on a histogram of what calibration data give.

use serde::{Deserialize, Serialize};

/// How a range is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Calibration {
    /// Whichever of the others changes the model's outputs least.
    #[default]
    Auto,
    /// All that was seen.
    MinMax,
    /// All but the outermost 0.01 % at either end.
    Percentile,
    /// The least squared error of rounding and saturation.
    Mse,
    /// The least Kullback-Leibler divergence of the rounded from the seen distribution (Migacz, GTC 2017).
    Entropy,
}

impl Calibration {
    /// The methods that [`Calibration::Auto`] chooses from.
    pub const ALL: [Calibration; 4] =
        [Calibration::Mse, Calibration::Percentile, Calibration::MinMax, Calibration::Entropy];

    /// The methods to try.
    pub fn candidates(self) -> Vec<Calibration> {
        if self == Calibration::Auto { Calibration::ALL.to_vec() } else { vec![self] }
    }
}

/// A closed interval that contains zero.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Its lower end, at most 0.
    pub low: f64,
    /// Its upper end, at least 0.
    pub high: f64,
}

/// Bins of a histogram.
const BINS: usize = 2048;

/// The share of values that [`Calibration::Percentile`] leaves out at either end.
const LEFT_OUT: f64 = 1e-4;

/// Candidates that are tried for either end.
const CANDIDATES: usize = 64;

impl Range {
    /// The smallest one.
    pub const NOTHING: Range = Range { low: 0.0, high: 0.0 };

    /// Extends it to hold finite values.
    pub fn include(&mut self, values: &[f32]) {
        for v in values.iter().map(|&v| f64::from(v)).filter(|v| v.is_finite()) {
            self.low = self.low.min(v);
            self.high = self.high.max(v);
        }
    }
}

/// How often values fell into each of equal parts of a range.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Histogram {
    /// All that was seen.
    pub seen: Range,
    counts: Vec<f64>,
}

impl Histogram {
    /// An empty one, for values within `seen`.
    pub fn new(seen: Range) -> Histogram {
        Histogram { seen, counts: vec![0.0; BINS] }
    }

    /// Counts values.
    pub fn add(&mut self, values: &[f32]) {
        let width = self.width();
        if width <= 0.0 {
            return;
        }
        for v in values.iter().map(|&v| f64::from(v)).filter(|v| v.is_finite()) {
            let bin = ((v - self.seen.low) / width) as usize;
            self.counts[bin.min(BINS - 1)] += 1.0;
        }
    }

    fn width(&self) -> f64 {
        (self.seen.high - self.seen.low) / BINS as f64
    }

    fn centre(&self, bin: usize) -> f64 {
        self.seen.low + (bin as f64 + 0.5) * self.width()
    }

    /// The range for `levels` codes.
    pub fn range(&self, method: Calibration, levels: usize) -> Range {
        if self.width() <= 0.0 || self.counts.iter().all(|&c| c == 0.0) {
            return self.seen;
        }
        match method {
            Calibration::MinMax | Calibration::Auto => self.seen,
            Calibration::Percentile => self.percentile(),
            Calibration::Mse => self.least(|range| self.squared_error(range, levels)),
            Calibration::Entropy => self.least(|range| self.divergence(range, levels)),
        }
    }

    fn percentile(&self) -> Range {
        let (low, high) = (self.end(0..BINS).unwrap_or(0), self.end((0..BINS).rev()).unwrap_or(BINS - 1));
        Range {
            low: (self.centre(low) - self.width() / 2.0).min(0.0),
            high: (self.centre(high) + self.width() / 2.0).max(0.0),
        }
    }

    /// The bin before which the share lies that is left out.
    fn end(&self, mut bins: impl Iterator<Item = usize>) -> Option<usize> {
        let mut left = self.counts.iter().sum::<f64>() * LEFT_OUT;
        bins.find(|&bin| {
            left -= self.counts[bin];
            left < 0.0
        })
    }

    /// The candidate with the least cost: the upper end is searched first, then the lower one, then the upper one
    /// again. An end at zero stays.
    fn least(&self, cost: impl Fn(Range) -> f64) -> Range {
        let mut best = self.seen;
        let mut least = cost(best);
        for upper in [true, false, true] {
            let from = if upper { self.seen.high } else { self.seen.low };
            for n in 1..=CANDIDATES {
                let end = from * n as f64 / CANDIDATES as f64;
                let candidate = if upper { Range { high: end, ..best } } else { Range { low: end, ..best } };
                let cost = cost(candidate);
                if cost < least {
                    (best, least) = (candidate, cost);
                }
            }
        }
        best
    }

    /// The squared error of rounding to steps (a twelfth of the step's square) and of saturation.
    fn squared_error(&self, range: Range, levels: usize) -> f64 {
        let step = (range.high - range.low) / (levels - 1) as f64;
        let rounding = step * step / 12.0;
        let error = |(bin, &count): (usize, &f64)| {
            let v = self.centre(bin);
            let beyond = (v - range.high).max(range.low - v).max(0.0);
            // Exact zeros, which are frequent, are codes of their own.
            let zero = range.low == 0.0 && self.seen.low == 0.0 && bin == 0;
            count * (if zero { 0.0 } else { rounding } + beyond * beyond)
        };
        self.counts.iter().enumerate().map(error).sum()
    }

    /// The divergence of what codes can tell apart from what was seen. What saturates counts for the outermost bin
    /// on its side, but not for the codes, so that cutting it off has its price.
    fn divergence(&self, range: Range, levels: usize) -> f64 {
        let step = (range.high - range.low) / (levels - 1) as f64;
        if ((range.high - range.low) / self.width()) < levels as f64 {
            // As many codes as bins tell everything apart, which says nothing about steps.
            return f64::INFINITY;
        }
        let is_inside = |bin: &usize| self.centre(*bin) >= range.low && self.centre(*bin) <= range.high;
        let (Some(first), Some(last)) = ((0..BINS).find(is_inside), (0..BINS).rfind(is_inside)) else {
            return f64::INFINITY;
        };
        // Zero is a code of every range, so that how often it is seen has no say.
        let mut counts = self.counts.clone();
        if let Some(zero) = counts.get_mut((-self.seen.low / self.width()) as usize) {
            *zero = 0.0;
        }
        let mut seen = counts[first..=last].to_vec();
        seen[0] += counts[..first].iter().sum::<f64>();
        seen[last - first] += counts[last + 1..].iter().sum::<f64>();
        let code = |bin: usize| (((self.centre(bin) - range.low) / step).round() as usize).min(levels - 1);
        // A code stands for the bins that it rounds to, evenly for those that are not empty.
        let (mut mass, mut bins) = (vec![0.0f64; levels], vec![0.0f64; levels]);
        for bin in (first..=last).filter(|&bin| counts[bin] > 0.0) {
            mass[code(bin)] += counts[bin];
            bins[code(bin)] += 1.0;
        }
        let (total, kept) = (seen.iter().sum::<f64>(), mass.iter().sum::<f64>());
        let term = |(n, &count): (usize, &f64)| {
            let bin = first + n;
            let spread = if counts[bin] > 0.0 { mass[code(bin)] / bins[code(bin)] / kept } else { 0.0 };
            let p = count / total;
            if p > 0.0 { p * (p / spread.max(SMALLEST_SHARE)).ln() } else { 0.0 }
        };
        seen.iter().enumerate().map(term).sum()
    }
}

/// The share of a bin that no code stands for.
const SMALLEST_SHARE: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[f32]) -> Histogram {
        let mut seen = Range::NOTHING;
        seen.include(values);
        let mut histogram = Histogram::new(seen);
        histogram.add(values);
        histogram
    }

    /// Normal values by the inverse of a logistic curve, which is close enough.
    fn bell(n: usize) -> Vec<f32> {
        (1..n).map(|i| i as f64 / n as f64).map(|p| ((p / (1.0 - p)).ln() / 1.7) as f32).collect()
    }

    #[test]
    fn outliers_are_cut_off_where_rounding_gains_more() {
        let mut values = bell(100_000);
        values.push(50.0);
        let h = histogram(&values);
        assert_eq!(h.range(Calibration::MinMax, 256).high, 50.0);
        // One value of many is worth more than the steps of 256 codes, but not than those of 16.
        for (method, levels) in [(Calibration::Percentile, 256), (Calibration::Mse, 16), (Calibration::Entropy, 256)] {
            let range = h.range(method, levels);
            assert!(range.high > 2.0 && range.high < 20.0, "{method:?}: {range:?}");
            assert!(range.low < -2.0, "{method:?}: {range:?}");
        }
        // With few codes, steps are expensive and ranges narrow.
        assert!(h.range(Calibration::Mse, 16).high < h.range(Calibration::Mse, 256).high);
    }

    #[test]
    fn the_least_squared_error_is_least() {
        let values = bell(20_000);
        let error = |range: Range| {
            let step = (range.high - range.low) / 15.0;
            let rounded = |v: f64| ((v.clamp(range.low, range.high) - range.low) / step).round() * step + range.low;
            values.iter().map(|&v| (f64::from(v) - rounded(f64::from(v))).powi(2)).sum::<f64>()
        };
        let h = histogram(&values);
        let best = error(h.range(Calibration::Mse, 16));
        for method in [Calibration::MinMax, Calibration::Percentile, Calibration::Entropy] {
            assert!(best <= error(h.range(method, 16)) * 1.02, "{method:?}");
        }
    }

    #[test]
    fn nothing_and_constants_have_a_range() {
        assert_eq!(histogram(&[0.0, f32::NAN]).range(Calibration::Mse, 256), Range::NOTHING);
        let three = histogram(&[3.0; 10]).range(Calibration::Entropy, 256);
        assert!(three.low == 0.0 && three.high >= 2.9, "{three:?}");
        let negative = histogram(&[-1.0, -0.5]).range(Calibration::Mse, 256);
        assert!(negative.high == 0.0 && negative.low < -0.9, "{negative:?}");
    }
}
