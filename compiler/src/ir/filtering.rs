//! Minimal filtering of 3x3 filters: the algorithms F(2x2, 3x3), F(4x4, 3x3) and F(6x6, 3x3) of Winograd, as Lavin and
//! Gray give them ("Fast Algorithms for Convolutional Neural Networks", 2015), one axis at a time.

/// An algorithm: results of a tile an axis, and its three linear maps.
#[derive(Debug)]
pub struct Filtering {
    /// Results of a tile along an axis. It reads two elements more.
    pub results: usize,
    /// What elements become in transformed space.
    pub input: &'static [&'static [f64]],
    /// What the filter's three weights become there.
    pub filter: &'static [[f64; 3]],
    /// What sums in transformed space give.
    pub output: &'static [&'static [f64]],
}

/// The known algorithms, the smallest tiles first.
pub const FILTERINGS: &[Filtering] = &[
    Filtering {
        results: 2,
        input: &[&[1.0, 0.0, -1.0, 0.0], &[0.0, 1.0, 1.0, 0.0], &[0.0, -1.0, 1.0, 0.0], &[0.0, 1.0, 0.0, -1.0]],
        filter: &[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]],
        output: &[&[1.0, 1.0, 1.0, 0.0], &[0.0, 1.0, -1.0, -1.0]],
    },
    Filtering {
        results: 4,
        input: &[
            &[4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
            &[0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
            &[0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
            &[0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
            &[0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
            &[0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
        ],
        filter: &[
            [1.0 / 4.0, 0.0, 0.0],
            [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
            [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
            [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
            [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
            [0.0, 0.0, 1.0],
        ],
        output: &[
            &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
            &[0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
            &[0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
            &[0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
        ],
    },
    // Interpolated at 0, 1, -1, 2, -2, 1/2, -1/2 and infinity.
    Filtering {
        results: 6,
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
        filter: &[
            [1.0, 0.0, 0.0],
            [-2.0 / 9.0, -2.0 / 9.0, -2.0 / 9.0],
            [-2.0 / 9.0, 2.0 / 9.0, -2.0 / 9.0],
            [1.0 / 90.0, 1.0 / 45.0, 2.0 / 45.0],
            [1.0 / 90.0, -1.0 / 45.0, 2.0 / 45.0],
            [32.0 / 45.0, 16.0 / 45.0, 8.0 / 45.0],
            [32.0 / 45.0, -16.0 / 45.0, 8.0 / 45.0],
            [0.0, 0.0, 1.0],
        ],
        output: &[
            &[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
            &[0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 0.0],
            &[0.0, 1.0, 1.0, 4.0, 4.0, 0.25, 0.25, 0.0],
            &[0.0, 1.0, -1.0, 8.0, -8.0, 0.125, -0.125, 0.0],
            &[0.0, 1.0, 1.0, 16.0, 16.0, 0.0625, 0.0625, 0.0],
            &[0.0, 1.0, -1.0, 32.0, -32.0, 0.03125, -0.03125, 1.0],
        ],
    },
];

impl Filtering {
    /// Elements of a tile along an axis.
    pub fn elements(&self) -> usize {
        self.results + 2
    }

    /// Products of a tile in transformed space.
    pub fn planes(&self) -> usize {
        self.elements() * self.elements()
    }

    /// The algorithm of so many planes.
    pub fn of_planes(planes: usize) -> Option<&'static Filtering> {
        FILTERINGS.iter().find(|f| f.planes() == planes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Correlation of one row, as the maps compute it and as it is defined.
    #[test]
    fn they_filter() {
        for f in FILTERINGS {
            let dot = |row: &[f64], v: &[f64]| row.iter().zip(v).map(|(a, b)| a * b).sum::<f64>();
            let data: Vec<f64> = (0..f.elements()).map(|i| (i * i) as f64 - 7.0).collect();
            let filter = [0.5, -2.0, 3.0];
            let products: Vec<f64> =
                (0..f.elements()).map(|i| dot(f.input[i], &data) * dot(&f.filter[i], &filter)).collect();
            for (i, row) in f.output.iter().enumerate() {
                assert!((dot(row, &products) - dot(&filter, &data[i..i + 3])).abs() < 1e-9, "{} {i}", f.results);
            }
        }
    }
}
