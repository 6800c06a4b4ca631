//! Minimal filtering: Winograd's algorithms F(m, r), which compute `m` results of a filter with `r` weights with `m + r - 1`
//! multiplications, as Lavin and Gray give them for images ("Fast Algorithms for Convolutional Neural Networks", 2015),
//! one axis at a time.
//!
//! Elements, weights and results are taken to and from products by linear maps. These come from interpolation: elements
//! and weights are coefficients of polynomials, which are evaluated at as many points as there are products, the last of
//! which is infinity. So what elements become depends on the number of products alone.

use crate::LowBit;

/// How the weights of a [`WeightFormat::Filtered`](crate::WeightFormat::Filtered) are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filters {
    /// In transformed space: `[planes, panels, in, columns]`.
    Transformed,
    /// As they are, element by element of the window: `[taps, panels, in, columns]`. They are transformed at run time.
    Plain,
    /// As the codes of a [`WeightFormat::LowBit`](crate::WeightFormat::LowBit), which are decoded and transformed at run time.
    LowBit(LowBit),
}

/// What algorithms with so many products have in common.
#[derive(Debug)]
struct Points {
    /// What elements become: a row a product.
    input: &'static [&'static [f64]],
    /// Where polynomials are evaluated, and one over the product of its distances to the other points.
    finite: &'static [(f64, f64)],
}

/// All of them, fewest products first.
const POINTS: &[Points] = &[
    // An axis along which there is nothing to save.
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

    /// All algorithms for so many weights, the smallest tiles first.
    pub fn of_taps(taps: usize) -> impl Iterator<Item = Filtering> {
        let tiles =
            POINTS.iter().filter_map(move |p| (p.input.len() + 1).checked_sub(taps).map(|results| (results, p)));
        tiles.filter(|t| t.0 > 0).map(move |(results, points)| Filtering { results, taps, points })
    }

    /// The algorithms of the axes of an image; a single axis is one of images with one column.
    pub fn of_axes(tile: &[i64], kernel: &[i64]) -> Option<[Filtering; 2]> {
        match (tile, kernel) {
            (&[down, across], &[lines, columns]) => {
                Some([Filtering::new(down, lines)?, Filtering::new(across, columns)?])
            }
            (&[down], &[lines]) => Some([Filtering::new(down, lines)?, Filtering::new(1, 1)?]),
            _ => None,
        }
    }

    /// Elements of a tile, and products.
    pub fn elements(&self) -> usize {
        self.points.input.len()
    }

    /// What elements become in transformed space: a row a product.
    pub fn input(&self) -> &'static [&'static [f64]] {
        self.points.input
    }

    /// How much of a weight is in a product's factor.
    pub fn filter(&self, product: usize, tap: usize) -> f64 {
        match self.points.finite.get(product) {
            Some((point, scale)) => point.powi(tap as i32) * scale,
            None => f64::from(u8::from(tap + 1 == self.taps)),
        }
    }

    /// Filters of an image's windows in transformed space, `[planes, in, out]`; `at` is a weight of a place in the window, an
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

    /// How much of a product is in a result.
    pub fn output(&self, result: usize, product: usize) -> f64 {
        match self.points.finite.get(product) {
            Some((point, _)) => point.powi(result as i32),
            None => f64::from(u8::from(result + 1 == self.results)),
        }
    }

    /// Tiles along an axis with `size` results, `dilation` apart in a tile. Tiles go through all residues by the dilation
    /// before the next `results * dilation` results come.
    pub fn tiles(&self, size: usize, dilation: usize) -> usize {
        size.div_ceil(self.results * dilation) * dilation
    }

    /// Elements along an axis that all tiles of `size` results read.
    pub fn extent(&self, size: usize, dilation: usize) -> usize {
        self.tiles(size, dilation) * self.results + (self.taps - 1) * dilation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Correlation of one row, as the maps compute it and as it is defined.
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
