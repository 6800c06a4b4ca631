//! Matrix products and channels-last convolutions: rows of the left operand (for a convolution, one per output pixel)
//! times panels of packed weights, or a plain matrix.
//!
//! | operation | left rows | taps | run |
//! |---|---|---|---|
//! | product | rows of `a`, flattened over the batch where `b` has none | - | `k` |
//! | convolution, dilation 1 on the last axis, one group | windows of `x` | all kernel axes but the last | last kernel axis × channels |
//! | other convolutions | windows of `x` | all kernel axes | channels of a group |

use super::{Contraction, Extents, Job, Panels, Rows, Tap};
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::around;
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Builder, Val};
use crate::view::View;
use mcc_ir::{ConvSpec, Dim, Error, Result};

/// [`Op::PackedMatMul`](mcc_ir::Op::PackedMatMul): `(a: [..., m, k], packed: [..., panels, k, tile])`.
pub(crate) fn packed_matmul(request: &KernelRequest<'_>, e: &Emit<'_>, k: &mut Builder, n: &Dim) -> Result<()> {
    let shape = &request.operands[1].shape;
    let tile = shape.last().and_then(Dim::as_const).and_then(|t| u32::try_from(t).ok());
    let (Some(tile), true) = (tile, shape.len() >= 3) else {
        return Err(Error::internal(format!("packed_matmul: panels of {}", request.operands[1])));
    };
    product(request, e, k, n, Panels::Packed(tile), 3)
}

/// [`Op::MatMul`](mcc_ir::Op::MatMul) without packing: the right operand is read row by row.
pub(crate) fn matmul(request: &KernelRequest<'_>, e: &Emit<'_>, k: &mut Builder) -> Result<()> {
    let n = request.operands[1].shape.last().unwrap_or(&Dim::ONE);
    product(request, e, k, n, Panels::Rows, 2)
}

/// A product with a right operand whose last `matrix` axes form one matrix.
fn product(
    request: &KernelRequest<'_>,
    e: &Emit<'_>,
    k: &mut Builder,
    n: &Dim,
    panels: Panels,
    matrix: usize,
) -> Result<()> {
    let (a, b) = (&request.operands[0], &request.operands[1]);
    let (Some([m, depth]), true) = (a.shape.last_chunk(), b.rank() >= matrix) else {
        return Err(Error::internal(format!("product of {a} and {b}")));
    };
    let (a_batch, b_batch) = (&a.shape[..a.rank() - 2], &b.shape[..b.rank() - matrix]);
    let batch = &request.results[0].shape[..request.results[0].rank().saturating_sub(2)];
    let row_bytes = depth * &Dim::from(a.dtype.size());
    // One product over all batches if they all share the right matrix.
    let shared = b_batch.iter().all(|d| d.is(1)) && batch.iter().product::<Dim>() == a_batch.iter().product();
    let count = if shared { &batch.iter().product::<Dim>() * m } else { m.clone() };
    let extents = Extents { rows: &count, columns: n, depth };
    let mut contraction = Contraction::new(request, e, panels, extents, &row_bytes);
    contraction.run = depth.clone();
    let matrices = Matrices {
        contraction,
        count,
        columns: n.clone(),
        a: batch_strides(a_batch, batch, &(m * &row_bytes)),
        b: batch_strides(
            b_batch,
            batch,
            &(&b.shape[b.rank() - matrix..].iter().product::<Dim>() * &Dim::from(b.dtype.size())),
        ),
        rows: batch_strides(batch, batch, m),
        row_bytes,
        batch,
    };
    let zero = k.int(0);
    let axis = if shared { batch.len() } else { 0 };
    matrices.emit(k, axis, e.operand(0), e.operand(1), zero);
    Ok(())
}

/// A stack of products.
struct Matrices<'a, 'b, 'c> {
    contraction: Contraction<'a, 'b>,
    count: Dim,
    columns: Dim,
    row_bytes: Dim,
    batch: &'c [Dim],
    /// Per batch axis: bytes between left matrices, bytes between right ones, and rows between result matrices.
    a: Vec<Dim>,
    b: Vec<Dim>,
    rows: Vec<Dim>,
}

impl Matrices<'_, '_, '_> {
    fn emit(&self, k: &mut Builder, axis: usize, a: Val, b: Val, row: Val) {
        let Some(extent) = self.batch.get(axis) else {
            let rows = Rows::Affine { base: a, bytes: self.row_bytes.clone() };
            let columns = self.columns.clone();
            let zero = k.int(0);
            let job =
                Job { rows, count: self.count.clone(), columns, right: b, out: (row, zero), sink: None, adds: false };
            return self.contraction.emit(k, &job);
        };
        around(k, extent, |k, i| {
            let mut along = |base: Val, stride: &Dim| {
                let stride = k.dim(stride);
                let offset = k.mul(i, stride);
                k.add(base, offset)
            };
            let (a, b) = (along(a, &self.a[axis]), along(b, &self.b[axis]));
            let row = along(row, &self.rows[axis]);
            self.emit(k, axis + 1, a, b, row);
        });
    }
}

/// Strides of an operand's batch axes, aligned with the result's: 0 where broadcast.
fn batch_strides(own: &[Dim], batch: &[Dim], matrix: &Dim) -> Vec<Dim> {
    let mut stride = matrix.clone();
    let mut strides = vec![Dim::ZERO; batch.len()];
    for (i, extent) in own.iter().enumerate().rev() {
        let axis = i + batch.len() - own.len();
        if !extent.is(1) || batch[axis].is(1) {
            strides[axis] = stride.clone();
        }
        stride = &stride * extent;
    }
    strides
}

/// [`WeightFormat::Dense`](mcc_ir::WeightFormat::Dense): `(x: channels last, packed: [group, panels, k..., in/group, tile])`.
pub(crate) fn packed_conv(
    request: &KernelRequest<'_>,
    e: &Emit<'_>,
    k: &mut Builder,
    spec: &ConvSpec,
    out: usize,
) -> Result<()> {
    let (x, packed, y) = (&request.operands[0], &request.operands[1], &request.results[0]);
    let axes = x.rank().saturating_sub(2);
    let malformed = || Error::internal(format!("packed_conv of {x} and {packed}"));
    let weights = packed.fixed_shape().filter(|w| w.len() == axes + 4 && axes > 0).ok_or_else(malformed)?;
    let (panels, kernel, channels, tile) = (weights[1], &weights[2..2 + axes], weights[axes + 2], weights[axes + 3]);
    if spec.pads.iter().any(|&p| p != (0, 0)) {
        return Err(malformed());
    }
    let size = Dim::from(x.dtype.size());
    // Bytes between neighbours along each axis of `x`.
    let steps: Vec<Dim> = e.strides(0).iter().map(|stride| stride * &size).collect();
    let rows: Dim = y.shape[..=axes].iter().product();
    let new_bytes = spec.strides.iter().product::<i64>().min(kernel.iter().product::<usize>() as i64);
    let row_bytes = &steps[axes] * &Dim::from(new_bytes);
    let group_out = out / spec.group;
    let panels_of = Panels::Packed(tile as u32);
    let (columns, depth) = (Dim::from(group_out), Dim::from(kernel.iter().product::<usize>() * channels));
    let extents = Extents { rows: &rows, columns: &columns, depth: &depth };
    let mut contraction = Contraction::new(request, e, panels_of, extents, &row_bytes);
    let adjoin = steps[axes] == &x.shape[axes + 1] * &size;
    let joined = spec.group == 1 && spec.dilations[axes - 1] == 1 && adjoin;
    contraction.taps = (0..axes - usize::from(joined))
        .filter(|&a| kernel[a] != 1)
        .map(|a| Tap { count: Dim::from(kernel[a]), bytes: &steps[a + 1] * &Dim::from(spec.dilations[a]) })
        .collect();
    contraction.run = Dim::from(if joined { channels * kernel[axes - 1] } else { channels });
    let point = kernel.iter().all(|&k| k == 1) && spec.strides.iter().all(|&s| s == 1);
    let even = View { offset: Dim::ZERO, strides: e.strides(0) }.as_rows(&x.shape).filter(|_| point);
    let table = if even.is_some() { None } else { Some(windows(e, k, spec, &steps, &y.shape[..=axes])) };
    let even = even.map_or(Dim::ZERO, |(stride, _)| &stride * &size);
    let group_bytes = packed.dtype.size() * panels * kernel.iter().product::<usize>() * channels * tile;
    around(k, &Dim::from(spec.group), |k, group| {
        let (x_offset, w_offset) =
            (k.mul_int(group, (channels * x.dtype.size()) as i64), k.mul_int(group, group_bytes as i64));
        let (base, right) = (k.add(e.operand(0), x_offset), k.add(e.operand(1), w_offset));
        let rows_at = match table {
            Some(table) => Rows::Table { base, table },
            None => Rows::Affine { base, bytes: even.clone() },
        };
        let (zero, col) = (k.int(0), k.mul_int(group, group_out as i64));
        let columns = columns.clone();
        contraction.emit(
            k,
            &Job { rows: rows_at, count: rows.clone(), columns, right, out: (zero, col), sink: None, adds: false },
        );
    });
    Ok(())
}

/// Fills a table with the byte offset of every output pixel's window, which saves a division per row.
pub(crate) fn windows(e: &Emit<'_>, k: &mut Builder, spec: &ConvSpec, steps: &[Dim], pixels: &[Dim]) -> Val {
    let table = e.scratch(k, &pixels.iter().product::<Dim>() * &Dim::from(8i64));
    let zero = k.int(0);
    fill(k, spec, &Windows { steps, pixels, table }, 0, zero, zero);
    return table;

    struct Windows<'a> {
        steps: &'a [Dim],
        pixels: &'a [Dim],
        table: Val,
    }

    fn fill(k: &mut Builder, spec: &ConvSpec, windows: &Windows<'_>, axis: usize, pixel: Val, offset: Val) {
        let &Windows { steps, pixels, table } = windows;
        if axis == pixels.len() {
            let to = k.at_index(table, pixel, 8);
            return k.store(to, offset);
        }
        let stride = if axis == 0 { 1 } else { spec.strides[axis - 1] };
        let bytes = &steps[axis] * &Dim::from(stride);
        let (start, end) = (k.int(0), k.dim(&pixels[axis]));
        k.for_each(start, end, 1, |k, i| {
            let bytes = k.dim(&bytes);
            let bytes = k.mul(i, bytes);
            let extent = k.dim(&pixels[axis]);
            let pixel = k.mul(pixel, extent);
            let (pixel, offset) = (k.add(pixel, i), k.add(offset, bytes));
            fill(k, spec, windows, axis + 1, pixel, offset);
        });
    }
}
