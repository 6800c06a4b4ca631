//! Matrix products and convolutions.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use mcc_ir::{ConvSpec, Layout, Op, Result};

use super::elementwise::Broadcasting;
use super::windows::Windows;
use super::{Call, Operator, Pass, vectors};

/// A matrix, row-major, or its transpose.
#[derive(Clone, Copy)]
struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a> View<'a> {
    fn new(data: &'a [f32], rows: usize, columns: usize) -> View<'a> {
        View { data: &data[..rows * columns], rows, columns, transposed: false }
    }

    fn transpose(self) -> View<'a> {
        View { transposed: !self.transposed, ..self }
    }

    fn matrix(&self) -> MatRef<'a, f32> {
        let matrix = MatRef::from_row_major_slice(self.data, self.rows, self.columns);
        if self.transposed { matrix.transpose() } else { matrix }
    }
}

/// Adds the product of two matrices to `y`, row-major.
fn add_product(y: &mut [f32], a: View, b: View) {
    let (a, b) = (a.matrix(), b.matrix());
    add(MatMut::from_row_major_slice_mut(&mut y[..a.nrows() * b.ncols()], a.nrows(), b.ncols()), a, b);
}

/// Adds the product of two matrices to `y`.
pub(super) fn add(y: MatMut<f32>, a: MatRef<f32>, b: MatRef<f32>) {
    // Samples run side by side.
    matmul(y, Accum::Add, a, b, 1.0, Par::Seq);
}

/// The operator of a product.
pub fn operator(call: &Call) -> Result<Option<Box<dyn Operator>>> {
    Ok(match call.op {
        Op::MatMul => product(call).map(|p| Box::new(p) as Box<dyn Operator>),
        Op::Conv(spec) => convolution(call, spec, false).map(|c| Box::new(c) as Box<dyn Operator>),
        Op::ConvTranspose { spec, .. } => convolution(call, spec, true).map(|c| Box::new(c) as Box<dyn Operator>),
        _ => None,
    })
}

/// A batch of matrix products.
struct Product {
    m: usize,
    k: usize,
    n: usize,
    batch: Broadcasting,
}

fn product(call: &Call) -> Option<Product> {
    let (a, b, y) = (call.shape(0)?, call.shape(1)?, call.result_shape()?);
    let [leading_a @ .., m, k] = &a[..] else { return None };
    let [leading_b @ .., _, n] = &b[..] else { return None };
    let leading = &y[..y.len() - 2];
    let folded: usize = leading_a.iter().product();
    if leading_b.iter().all(|&e| e == 1) && leading.iter().product::<usize>() == folded {
        // One matrix for all rows.
        let batch = Broadcasting::new(&[vec![1], vec![1]], &[1]);
        return Some(Product { m: folded * m, k: *k, n: *n, batch });
    }
    let batch = Broadcasting::new(&[leading_a.to_vec(), leading_b.to_vec()], leading);
    Some(Product { m: *m, k: *k, n: *n, batch })
}

impl Operator for Product {
    fn work(&self) -> u64 {
        (self.m * self.k * self.n * self.batch.elements()) as u64
    }

    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        let &Product { m, k, n, .. } = self;
        self.batch.each(|at, [a, b]| {
            let (a, b) = (View::new(&x[0][a * m * k..], m, k), View::new(&x[1][b * k * n..], k, n));
            add_product(&mut y[at * m * n..], a, b);
        });
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let &Product { m, k, n, .. } = self;
        let [da, db] = dx else { return };
        self.batch.each(|at, [a, b]| {
            let dy = View::new(&pass.dy[at * m * n..], m, n);
            if let Some(da) = da {
                let b = View::new(&pass.x[1][b * k * n..], k, n);
                add_product(&mut da[a * m * k..], dy, b.transpose());
            }
            if let Some(db) = db {
                let a = View::new(&pass.x[0][a * m * k..], m, k);
                add_product(&mut db[b * k * n..], a.transpose(), dy);
            }
        });
    }
}

/// A convolution as products of weights and unfolded data, or a transposed one, which is the gradient of one.
///
/// "Wide" is the side that windows slide over, "narrow" the side with an element for each window: a convolution's data
/// and result, and the reverse if it is transposed.
struct Convolution {
    transposed: bool,
    batch: usize,
    groups: usize,
    /// Channels of a group.
    wide: usize,
    narrow: usize,
    windows: Windows,
}

fn convolution(call: &Call, spec: &ConvSpec, transposed: bool) -> Option<Convolution> {
    let (x, w, y) = (call.shape(0)?, call.shape(1)?, call.result_shape()?);
    if spec.layout != Layout::ChannelsFirst || x.iter().chain(&w).chain(&y).any(|&e| e == 0) {
        return None;
    }
    let (wide, narrow) = if transposed { (&y, &x) } else { (&x, &y) };
    let windows = Windows::new(&wide[2..], &narrow[2..], &w[2..], &spec.into());
    let groups = spec.group;
    let (wide, narrow) = (wide[1] / groups, narrow[1] / groups);
    Some(Convolution { transposed, batch: x[0], groups, wide, narrow, windows })
}

impl Convolution {
    fn columns(&self) -> usize {
        self.wide * self.windows.taps()
    }

    /// Whether each window is one element, in order, so that unfolded data is the data.
    fn is_flat(&self) -> bool {
        self.windows.is_identity()
    }

    /// Calls `f` for each image and group with the ranges of its weights, wide side and narrow side.
    fn each(&self, mut f: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>, std::ops::Range<usize>)) {
        let weights = self.narrow * self.columns();
        let (wide, narrow) = (self.wide * self.windows.wide, self.narrow * self.windows.narrow);
        for part in 0..self.batch * self.groups {
            let group = part % self.groups;
            f(
                group * weights..(group + 1) * weights,
                part * wide..(part + 1) * wide,
                part * narrow..(part + 1) * narrow,
            );
        }
    }

    /// `narrow += weights * unfold(wide)`.
    fn gather(&self, weights: &[f32], wide: &[f32], narrow: &mut [f32]) {
        let (rows, columns, positions) = (self.narrow, self.columns(), self.windows.narrow);
        let mut unfolded = Vec::new();
        self.each(|w, x, y| {
            let (w, x, y) = (&weights[w], &wide[x], &mut narrow[y]);
            if self.wide == 1 && !self.is_flat() {
                return y.chunks_exact_mut(positions).zip(w.chunks_exact(columns)).for_each(|(y, w)| {
                    w.iter().enumerate().for_each(|(tap, &w)| self.windows.add_gathered(tap, w, x, y));
                });
            }
            let x = self.unfolded(x, &mut unfolded);
            add_product(y, View::new(w, rows, columns), View::new(x, columns, positions));
        });
    }

    /// `wide += fold(weights^T * narrow)`.
    fn scatter(&self, weights: &[f32], narrow: &[f32], wide: &mut [f32]) {
        let (rows, columns, positions) = (self.narrow, self.columns(), self.windows.narrow);
        let mut folded = Vec::new();
        self.each(|w, x, y| {
            let (w, x, y) = (&weights[w], &mut wide[x], &narrow[y]);
            if self.wide == 1 && !self.is_flat() {
                return y.chunks_exact(positions).zip(w.chunks_exact(columns)).for_each(|(y, w)| {
                    w.iter().enumerate().for_each(|(tap, &w)| self.windows.add_scattered(tap, w, y, x));
                });
            }
            let (w, y) = (View::new(w, rows, columns).transpose(), View::new(y, rows, positions));
            if self.is_flat() {
                return add_product(x, w, y);
            }
            folded.clear();
            folded.resize(columns * positions, 0.0);
            add_product(&mut folded, w, y);
            for (at, row) in folded.chunks_exact(positions).enumerate() {
                let (channel, tap) = (at / self.windows.taps(), at % self.windows.taps());
                let plane = &mut x[channel * self.windows.wide..][..self.windows.wide];
                self.windows.add_scattered(tap, 1.0, row, plane);
            }
        });
    }

    /// `weights += narrow * unfold(wide)^T`.
    fn correlate(&self, narrow: &[f32], wide: &[f32], weights: &mut [f32]) {
        let (rows, columns, positions) = (self.narrow, self.columns(), self.windows.narrow);
        let mut unfolded = Vec::new();
        self.each(|w, x, y| {
            let (w, x, y) = (&mut weights[w], &wide[x], &narrow[y]);
            if self.wide == 1 && !self.is_flat() {
                return y.chunks_exact(positions).zip(w.chunks_exact_mut(columns)).for_each(|(y, w)| {
                    w.iter_mut().enumerate().for_each(|(tap, w)| *w += self.windows.dot(tap, x, y));
                });
            }
            let x = self.unfolded(x, &mut unfolded);
            add_product(w, View::new(y, rows, positions), View::new(x, columns, positions).transpose());
        });
    }

    /// A group's data with a row for each channel and element of the window.
    fn unfolded<'a>(&self, x: &'a [f32], room: &'a mut Vec<f32>) -> &'a [f32] {
        if self.is_flat() {
            return x;
        }
        let positions = self.windows.narrow;
        room.clear();
        room.resize(self.columns() * positions, 0.0);
        for (at, row) in room.chunks_exact_mut(positions).enumerate() {
            let (channel, tap) = (at / self.windows.taps(), at % self.windows.taps());
            self.windows.copy(tap, &x[channel * self.windows.wide..][..self.windows.wide], row);
        }
        room
    }

    /// Elements of a channel of the result.
    fn plane(&self) -> usize {
        if self.transposed { self.windows.wide } else { self.windows.narrow }
    }
}

impl Operator for Convolution {
    fn work(&self) -> u64 {
        (self.batch * self.groups * self.narrow * self.columns() * self.windows.narrow) as u64
    }

    fn forward(&self, x: &[&[f32]], y: &mut [f32]) {
        if let Some(bias) = x.get(2) {
            y.chunks_exact_mut(self.plane()).zip(bias.iter().cycle()).for_each(|(y, &bias)| y.fill(bias));
        }
        match self.transposed {
            false => self.gather(x[1], x[0], y),
            true => self.scatter(x[1], x[0], y),
        }
    }

    fn backward(&self, pass: &Pass, dx: &mut [Option<Vec<f32>>]) {
        let (x, w, dy) = (pass.x[0], pass.x[1], pass.dy);
        if let Some(dx) = &mut dx[0] {
            match self.transposed {
                false => self.scatter(w, dy, dx),
                true => self.gather(w, dy, dx),
            }
        }
        if let Some(dw) = &mut dx[1] {
            match self.transposed {
                false => self.correlate(dy, x, dw),
                true => self.correlate(x, dy, dw),
            }
        }
        if let Some(Some(bias)) = dx.get_mut(2) {
            let channels = bias.len();
            dy.chunks_exact(self.plane()).enumerate().for_each(|(n, dy)| bias[n % channels] += vectors::sum(dy));
        }
    }
}
