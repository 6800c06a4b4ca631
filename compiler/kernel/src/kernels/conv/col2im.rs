//! Col2Im: overlapping windows are summed in a padded plane, whose inside is the result.

use crate::kernels::support::emit::Emit;
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Bin, Builder, Ty, Val};
use crate::numbers;
use mcc_ir::Result;
use mcc_ir::{ConvSpec, Dim};

/// [`Op::Col2Im`](mcc_ir::Op::Col2Im): `(x: [batch, out * prod(kernel), positions])`.
pub(crate) fn col2im(
    request: &KernelRequest<'_>,
    e: &Emit<'_>,
    k: &mut Builder,
    spec: &ConvSpec,
    kernel: &[i64],
    size: &[Dim],
) -> Result<()> {
    let x = &request.operands[0];
    let ty = Ty::new(numbers::compute_elem(x.dtype), 1);
    let axes = kernel.len();
    let plane: Vec<Dim> = (0..axes).map(|a| &size[a] + &Dim::from(spec.pads[a].0 + spec.pads[a].1)).collect();
    let counts = (0..axes)
        .map(|a| {
            let travel = &plane[a] - &Dim::from((kernel[a] - 1) * spec.dilations[a] + 1);
            &travel.floor_div(&Dim::from(spec.strides[a])) + &Dim::ONE
        })
        .collect();
    let windows = Windows { spec, kernel, counts };
    let bytes = &plane.iter().product::<Dim>() * &Dim::from(i64::from(ty.bytes()));
    let sums = e.scratch(k, bytes.clone());
    let sums =
        Plane { e, ty, pointer: sums, lanes: request.config.target.vector_bytes / ty.elem.bytes(), extents: plane };
    let planes = &request.results[0].shape[0] * &request.results[0].shape[1];
    let (zero, end) = (k.int(0), k.dim(&planes));
    k.for_each(zero, end, 1, |k, n| {
        let bytes = k.dim(&bytes);
        k.fill_zero(sums.pointer, bytes);
        sums.add_taps(k, &windows, 0, n, zero);
        sums.store(k, spec, size, 0, n, zero);
    });
    Ok(())
}

/// The windows of an image.
struct Windows<'a> {
    spec: &'a ConvSpec,
    kernel: &'a [i64],
    /// Number of windows along each axis.
    counts: Vec<Dim>,
}

struct Plane<'a, 'b> {
    e: &'b Emit<'a>,
    ty: Ty,
    pointer: Val,
    lanes: u32,
    extents: Vec<Dim>,
}

impl Plane<'_, '_> {
    /// `index` times the extent of axis `axis` plus `i`.
    fn inner(&self, k: &mut Builder, index: Val, extent: &Dim, i: Val) -> Val {
        let extent = k.dim(extent);
        let index = k.mul(index, extent);
        k.add(index, i)
    }

    /// Loops over the kernel's elements: `row` is a row of `x`, `at` the position of the first window's element.
    fn add_taps(&self, k: &mut Builder, windows: &Windows<'_>, axis: usize, row: Val, at: Val) {
        let zero = k.int(0);
        let Some(&taps) = windows.kernel.get(axis) else {
            return self.add_windows(k, windows, 0, row, at, zero);
        };
        let end = k.int(taps);
        k.for_each(zero, end, 1, |k, i| {
            let row = self.inner(k, row, &Dim::from(taps), i);
            let offset = k.mul_int(i, windows.spec.dilations[axis]);
            let at = self.inner(k, at, &self.extents[axis], offset);
            self.add_taps(k, windows, axis + 1, row, at);
        });
    }

    /// Adds one element of every window: `position` is an element of `x`, `shift` an element of the plane.
    fn add_windows(&self, k: &mut Builder, windows: &Windows<'_>, axis: usize, position: Val, at: Val, shift: Val) {
        let Windows { spec, counts, .. } = windows;
        let (zero, end) = (k.int(0), k.dim(&counts[axis]));
        let last = axis + 1 == counts.len();
        let first = self.inner(k, position, &counts[axis], zero);
        let shift = self.inner(k, shift, &self.extents[axis], zero);
        if !last {
            return k.for_each(zero, end, 1, |k, i| {
                let offset = k.mul_int(i, spec.strides[axis]);
                let (position, shift) = (k.add(first, i), k.add(shift, offset));
                self.add_windows(k, windows, axis + 1, position, at, shift);
            });
        }
        let base = k.add(at, shift);
        let line = |k: &mut Builder, start: Val, end: Val, lanes: u32| {
            k.for_each(start, end, i64::from(lanes), |k, i| {
                let offset = k.mul_int(i, spec.strides[axis]);
                let (from, to) = (k.add(first, i), k.add(base, offset));
                let to = k.at_index(self.pointer, to, self.ty.bytes());
                let x = self.e.load(k, 0, from, lanes);
                let sum = k.load(Ty::new(self.ty.elem, lanes), to);
                let sum = k.add(sum, x);
                k.store(to, sum);
            });
        };
        if spec.strides[axis] != 1 {
            return line(k, zero, end, 1);
        }
        let lanes = Dim::from(i64::from(self.lanes));
        let middle = k.dim(&(&counts[axis].floor_div(&lanes) * &lanes));
        line(k, zero, middle, self.lanes);
        line(k, middle, end, 1);
    }

    /// Stores the plane without its padding: `row` is a row of the result, `at` an element of the plane.
    fn store(&self, k: &mut Builder, spec: &ConvSpec, size: &[Dim], axis: usize, row: Val, at: Val) {
        let (zero, end) = (k.int(0), k.dim(&size[axis]));
        let before = k.int(spec.pads[axis].0);
        let at = self.inner(k, at, &self.extents[axis], before);
        if axis + 1 < size.len() {
            let first = self.inner(k, row, &size[axis], zero);
            return k.for_each(zero, end, 1, |k, i| {
                let (row, at) = (k.add(first, i), k.add(at, i));
                self.store(k, spec, size, axis + 1, row, at);
            });
        }
        let lanes = Dim::from(i64::from(self.lanes));
        let middle = k.dim(&(&size[axis].floor_div(&lanes) * &lanes));
        for (start, end, lanes) in [(zero, middle, self.lanes), (middle, end, 1)] {
            k.for_each(start, end, i64::from(lanes), |k, i| {
                let from = k.bin(Bin::Add, at, i);
                let from = k.at_index(self.pointer, from, self.ty.bytes());
                let sum = k.load(Ty::new(self.ty.elem, lanes), from);
                self.e.store(k, row, i, sum);
            });
        }
    }
}
