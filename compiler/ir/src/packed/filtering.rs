//! Minimal filtering: Winograd's algorithms F(m, r), which compute `m` results of a filter with `r` weights with
//! `m + r - 1` multiplications, as described for images by Lavin and Gray ("Fast Algorithms for Convolutional Neural
//! Networks", 2015), one axis at a time.
//!
//! Linear maps transform elements and weights, and products back to results. They come from interpolation: elements and
//! weights are coefficients of polynomials, which are evaluated at as many points as there are products; the last point
//! is infinity. So the transform of elements depends only on the number of products.

use crate::LowBit;

/// How the weights of a [`WeightFormat::Filtered`](crate::WeightFormat::Filtered) are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filters {
    /// In transformed space: `[planes, panels, in, columns]`.
    Transformed,
    /// Untransformed, one per element of the window: `[taps, panels, in, columns]`. They are transformed at run time.
    Plain,
    /// As the codes of a [`WeightFormat::LowBit`](crate::WeightFormat::LowBit), which are decoded and transformed at run time.
    LowBit(LowBit),
}

/// Common to all algorithms with this number of products.
#[derive(Debug)]
struct Points {
    /// The transform of elements: one row per product.
    input: &'static [&'static [f64]],
    /// The points of evaluation, each with the reciprocal of the product of its distances to the other points.
    finite: &'static [(f64, f64)],
}

/// All of them, the fewest products first.
const POINTS: &[Points] = &[
    // An axis that is not filtered.
    Points { input: &[&[1.0]], finite: &[] },
    Points {
        input: &[&[1.0, 0.0, -1.0, 0.0], &[0.0, 1.0, 1.0, 0.0], &[0.0, -1.0, 1.0, 0.0], &[0.0, -1.0, 0.0, 1.0]],
        finite: &[(0.0, 1.0), (1.0, 0.5), (-1.0, 0.5)],
    },
    Points {
        input: &[
            &[4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
            &[0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
            &[0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
            &[0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
            &[0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
            &[0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
        ],
        finite: &[(0.0, 1.0 / 4.0), (1.0, -1.0 / 6.0), (-1.0, -1.0 / 6.0), (2.0, 1.0 / 24.0), (-2.0, 1.0 / 24.0)],
    },
    Points {
        input: &[
            &[1.0, 0.0, -5.25, 0.0, 5.25, 0.0, -1.0, 0.0],
            &[0.0, 1.0, 1.0, -4.25, -4.25, 1.0, 1.0, 0.0],
            &[0.0, -1.0, 1.0, 4.25, -4.25, -1.0, 1.0, 0.0],
            &[0.0, 0.5, 0.25, -2.5, -1.25, 2.0, 1.0, 0.0],
            &[0.0, -0.5, 0.25, 2.5, -1.25, -2.0, 1.0, 0.0],
            &[0.0, 2.0, 4.0, -2.5, -5.0, 0.5, 1.0, 0.0],
            &[0.0, -2.0, 4.0, 2.5, -5.0, -0.5, 1.0, 0.0],
            &[0.0, -1.0, 0.0, 5.25, 0.0, -5.25, 0.0, 1.0],
        ],
        finite: &[
            (0.0, 1.0),
            (1.0, -2.0 / 9.0),
            (-1.0, -2.0 / 9.0),
            (2.0, 1.0 / 90.0),
            (-2.0, 1.0 / 90.0),
            (0.5, 32.0 / 45.0),
            (-0.5, 32.0 / 45.0),
        ],
    },
];

/// An algorithm along an axis.
#[derive(Debug, Clone, Copy)]
pub struct Filtering {
    /// Results of a tile.
    pub results: usize,
    /// Weights of a filter.
    pub taps: usize,
    points: &'static Points,
}

impl Filtering {
    /// F(results, taps), if it is known. With one result and one weight it is a multiplication.
    pub fn new(results: i64, taps: i64) -> Option<Filtering> {
        let (results, taps) = (usize::try_from(results).ok()?, usize::try_from(taps).ok()?);
        let products = (results.max(1) - 1).checked_add(taps)?;
        let points = POINTS.iter().find(|p| p.input.len() == products)?;
        (results > 0 && taps > 0).then_some(Filtering { results, taps, points })
    }

    /// All algorithms for a number of weights, the smallest tiles first.
    pub fn of_taps(taps: usize) -> impl Iterator<Item = Filtering> {
        let tiles =
            POINTS.iter().filter_map(move |p| (p.input.len() + 1).checked_sub(taps).map(|results| (results, p)));
        tiles.filter(|t| t.0 > 0).map(move |(results, points)| Filtering { results, taps, points })
    }

    /// The algorithms for both axes of an image; a single axis is treated as images with one column.
    pub fn of_axes(tile: &[i64], kernel: &[i64]) -> Option<[Filtering; 2]> {
        match (tile, kernel) {
            (&[down, across], &[lines, columns]) => {
                Some([Filtering::new(down, lines)?, Filtering::new(across, columns)?])
            }
            (&[down], &[lines]) => Some([Filtering::new(down, lines)?, Filtering::new(1, 1)?]),
            _ => None,
        }
    }

    /// Number of elements of a tile, which is the number of products.
    pub fn elements(&self) -> usize {
        self.points.input.len()
    }

    /// The transform of elements: one row per product.
    pub fn input(&self) -> &'static [&'static [f64]] {
        self.points.input
    }

    /// The coefficient of a weight in a product's factor.
    pub fn filter(&self, product: usize, tap: usize) -> f64 {
        match self.points.finite.get(product) {
            Some((point, scale)) => point.powi(tap as i32) * scale,
            None => f64::from(u8::from(tap + 1 == self.taps)),
        }
    }

    /// Filters of an image's windows in transformed space, `[planes, in, out]`; `at` returns the weight for a tap, an
    /// input channel and an output channel.
    pub fn transformed(
        [down, across]: [Filtering; 2],
        [channels, out]: [usize; 2],
        at: &dyn Fn(usize, usize, usize) -> f64,
    ) -> Vec<f64> {
        let (rows, columns) = (down.elements(), across.elements());
        let factors = |f: &Filtering| -> Vec<Vec<f64>> {
            (0..f.elements()).map(|plane| (0..f.taps).map(|tap| f.filter(plane, tap)).collect()).collect()
        };
        let (vertical, horizontal) = (factors(&down), factors(&across));
        let mut values = vec![0.0; rows * columns * channels * out];
        for (c, o) in (0..channels).flat_map(|c| (0..out).map(move |o| (c, o))) {
            let filter: Vec<f64> = (0..down.taps * across.taps).map(|place| at(place, c, o)).collect();
            for (row, factors) in vertical.iter().enumerate() {
                let line: Vec<f64> = (0..across.taps)
                    .map(|column| {
                        factors.iter().enumerate().map(|(tap, f)| f * filter[tap * across.taps + column]).sum()
                    })
                    .collect();
                for (column, factors) in horizontal.iter().enumerate() {
                    let v = factors.iter().zip(&line).map(|(f, x)| f * x).sum();
                    values[((row * columns + column) * channels + c) * out + o] = v;
                }
            }
        }
        values
    }

    /// The coefficient of a product in a result.
    pub fn output(&self, result: usize, product: usize) -> f64 {
        match self.points.finite.get(product) {
            Some((point, _)) => point.powi(result as i32),
            None => f64::from(u8::from(result + 1 == self.results)),
        }
    }

    /// Number of tiles along an axis with `size` results, which are `dilation` apart within a tile. Tiles go through
    /// all residues by the dilation before the next `results * dilation` results.
    pub fn tiles(&self, size: usize, dilation: usize) -> usize {
        size.div_ceil(self.results * dilation) * dilation
    }

    /// Number of elements along an axis that all tiles of `size` results read.
    pub fn extent(&self, size: usize, dilation: usize) -> usize {
        self.tiles(size, dilation) * self.results + (self.taps - 1) * dilation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Correlation of one row, with the maps and directly.
    #[test]
    fn they_filter() {
        let all: Vec<Filtering> = (1..=7).flat_map(Filtering::of_taps).collect();
        assert_eq!(all.len(), 4 + 3 + 3 + 3 + 2 + 2 + 1);
        for f in all {
            let n = f.elements();
            let data: Vec<f64> = (0..n).map(|i| (i * i) as f64 - 7.0).collect();
            let weights = &[0.5, -2.0, 3.0, 1.5, -0.25, 2.5, 1.25][..f.taps];
            let product = |i: usize| {
                let element: f64 = f.input()[i].iter().zip(&data).map(|(a, b)| a * b).sum();
                let factor: f64 = weights.iter().enumerate().map(|(tap, w)| f.filter(i, tap) * w).sum();
                element * factor
            };
            for result in 0..f.results {
                let got: f64 = (0..n).map(|i| f.output(result, i) * product(i)).sum();
                let want: f64 = weights.iter().zip(&data[result..]).map(|(w, d)| w * d).sum();
                assert!((got - want).abs() < 1e-9, "F({}, {}) {result}: {got} {want}", f.results, f.taps);
            }
        }
    }

    #[test]
    fn extents_of_tiles() {
        let f = Filtering::new(4, 5).unwrap();
        assert_eq!((f.tiles(9, 1), f.extent(9, 1)), (3, 16));
        assert_eq!((f.tiles(9, 2), f.extent(9, 2)), (4, 24));
        assert!(Filtering::new(5, 5).is_none() && Filtering::new(0, 3).is_none() && Filtering::new(1, 1).is_some());
    }
}
