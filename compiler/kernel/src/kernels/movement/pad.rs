//! Padding. Constants around rows that are copied in bulk, or already in place; the other modes map coordinates.

use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{
    columns, copy_bytes, dot, flat, parallel_coordinates, pointer_at, product, raw_dtype, shared_axis, zero_bytes,
};
use crate::kir::{Bin, Builder, Cmp, Ty, Val};
use crate::numbers;
use mcc_ir::Result;
use mcc_ir::{Dim, PadMode};

/// ONNX Pad.
pub fn pad(e: &Emit<'_>, k: &mut Builder, before: &[Dim], after: &[Dim], mode: PadMode) -> Result<()> {
    if mode == PadMode::Constant && e.is_plain() {
        let padded = (0..before.len()).rposition(|a| !before[a].is(0) || !after[a].is(0)).map_or(0, |a| a + 1);
        let (x, strides) = (e.shape(0), e.strides(0));
        let adjoins = |a: &usize| x[*a].is(1) || strides[*a] == product(&x[a + 1..]);
        let apart = (0..x.len()).rposition(|a| !adjoins(&a)).map_or(0, |a| a + 1);
        let whole = if e.is_inside(0) { padded } else { padded.max(apart) };
        let size = e.dtype(0).size();
        let value = match &e.request.constants.get(1) {
            Some(Some(value)) if value.data().iter().all(|&b| b == 0) => None,
            _ => {
                let from = k.at(e.operand(1), 0);
                Some(numbers::load(k, raw_dtype(size), from, 1))
            }
        };
        let zero = k.int(0);
        let shared = shared_axis(&x[..whole]);
        let walk = Walk { e, before, after, whole, shared, strides, value, size };
        walk.axis(k, 0, zero, zero);
    } else {
        by_rows(e, k, before, mode);
    }
    Ok(())
}

/// Constant padding without an epilogue: fills and copies contiguous runs.
struct Walk<'a> {
    e: &'a Emit<'a>,
    before: &'a [Dim],
    after: &'a [Dim],
    /// The first axis from which on nothing is padded and the operand is contiguous.
    whole: usize,
    /// The outer axis whose loop threads share.
    shared: Option<usize>,
    /// Elements between neighbours along the operand's axes.
    strides: Vec<Dim>,
    /// The fill element's raw bits; `None` if they are all zero.
    value: Option<Val>,
    size: usize,
}

impl Walk<'_> {
    /// `from` is an element of the operand, `to` a flat index over the result's axes before `axis`.
    fn axis(&self, k: &mut Builder, axis: usize, from: Val, to: Val) {
        let (x, out) = (self.e.shape(0), self.e.out_shape());
        if axis == self.whole {
            if self.e.is_inside(0) {
                return;
            }
            let run = k.dim(&product(&x[axis..]));
            let to = k.mul(to, run);
            let from = pointer_at(k, self.e.operand(0), from, self.size);
            let to = pointer_at(k, self.e.result(0), to, self.size);
            let bytes = k.mul_int(run, self.size as i64);
            k.once(|k| copy_bytes(k, self.e.request.config.target.vector_bytes, to, from, bytes));
            return;
        }
        let inner = product(&out[axis + 1..]);
        let (extent, out_extent) = (k.dim(&x[axis]), k.dim(&out[axis]));
        let (before, inner_val) = (k.dim(&self.before[axis]), k.dim(&inner));
        let first = k.mul(to, out_extent);
        let to_elem = k.mul(first, inner_val);
        k.once(|k| self.fill(k, to_elem, &(&self.before[axis] * &inner)));
        let middle = k.add(first, before);
        let stride = k.dim(&self.strides[axis]);
        // If the operand is already in the result, only the border is written.
        let empty = self.e.is_inside(0) && axis + 1 == self.whole;
        let (zero, visited) = (k.int(0), if empty { k.int(0) } else { extent });
        let round = |k: &mut Builder, i: Val| {
            let skip = k.mul(i, stride);
            let (from, to) = (k.add(from, skip), k.add(middle, i));
            self.axis(k, axis + 1, from, to);
        };
        k.parallel_if(self.shared == Some(axis), zero, visited, 1, round);
        let end = k.add(middle, extent);
        let end_elem = k.mul(end, inner_val);
        k.once(|k| self.fill(k, end_elem, &(&self.after[axis] * &inner)));
    }

    fn fill(&self, k: &mut Builder, index: Val, count: &Dim) {
        if count.is(0) {
            return;
        }
        let (zero, count) = (k.int(0), k.dim(count));
        let to = pointer_at(k, self.e.result(0), index, self.size);
        let Some(value) = self.value else {
            let bytes = k.mul_int(count, self.size as i64);
            zero_bytes(k, self.e.request.config.target.vector_bytes, to, bytes);
            return;
        };
        let raw = raw_dtype(self.size);
        columns(k, zero, count, self.e.lanes(raw), |k, i, lanes| {
            let to = k.at_index(to, i, self.size as u32);
            let v = k.splat(value, lanes);
            numbers::store(k, raw, to, v);
        });
    }
}

/// Any mode, with any epilogue: row by row.
fn by_rows(e: &Emit<'_>, k: &mut Builder, before: &[Dim], mode: PadMode) {
    let (x, out, dtype, strides) = (e.shape(0), e.out_shape(), e.dtype(0), e.strides(0));
    let zero = k.int(0);
    let value = (mode == PadMode::Constant).then(|| e.load(k, 1, zero, 1));
    let Some((last, rows)) = out.split_last() else {
        e.relay(k, 0, zero, zero, zero, 1);
        return;
    };
    let (inner, lanes) = (rows.len(), e.lanes(dtype));
    let (cols, extent) = (k.dim(last), k.dim(&x[inner]));
    let start = k.dim(&before[inner]);
    let end = k.add(start, extent);
    parallel_coordinates(k, rows, |k, coords| {
        let row = flat(k, rows, coords);
        let mut inside = k.cmp(Cmp::Eq, zero, zero);
        let mut source = Vec::with_capacity(inner);
        for (axis, &c) in coords.iter().enumerate() {
            if out[axis] == x[axis] {
                source.push(c);
                continue;
            }
            let (first, extent) = (k.dim(&before[axis]), k.dim(&x[axis]));
            let c = k.sub(c, first);
            let mapped = map(k, mode, c, extent);
            let here = k.cmp(Cmp::ULt, c, extent);
            inside = k.bin(Bin::And, inside, here);
            source.push(mapped);
        }
        let source_start = dot(k, &strides[..inner], &source);
        let copy_middle = |k: &mut Builder| {
            // An operand in place needs no copy, except for an epilogue, which such a result never has.
            if e.is_inside(0) {
                return;
            }
            columns(k, zero, extent, lanes, |k, i, lanes| {
                let (from, col) = (k.add(source_start, i), k.add(start, i));
                e.relay(k, 0, from, row, col, lanes);
            });
        };
        match value {
            Some(value) => {
                let fill = |k: &mut Builder, from: Val, to: Val| {
                    columns(k, from, to, lanes, |k, col, lanes| {
                        let v = k.splat(value, lanes);
                        e.store(k, row, col, v);
                    });
                };
                fill(k, zero, start);
                k.choose(
                    inside,
                    |k| {
                        copy_middle(k);
                        Vec::new()
                    },
                    |k| {
                        fill(k, start, end);
                        Vec::new()
                    },
                );
                fill(k, end, cols);
            }
            None => {
                let border = |k: &mut Builder, col: Val| {
                    let c = k.sub(col, start);
                    let c = map(k, mode, c, extent);
                    let from = k.add(source_start, c);
                    e.relay(k, 0, from, row, col, 1);
                };
                k.for_each(zero, start, 1, border);
                copy_middle(k);
                k.for_each(end, cols, 1, border);
            }
        }
    });
}

/// Maps a coordinate relative to the operand's first to a coordinate of the operand; unchanged if it is inside.
fn map(k: &mut Builder, mode: PadMode, c: Val, extent: Val) -> Val {
    let zero = k.int(0);
    let last = k.add_int(extent, -1);
    match mode {
        PadMode::Constant | PadMode::Edge => {
            let c = k.bin(Bin::Min, c, last);
            k.bin(Bin::Max, c, zero)
        }
        PadMode::Reflect => {
            let period = k.mul_int(last, 2);
            let c = modulo(k, c, period);
            let back = k.sub(period, c);
            k.bin(Bin::Min, c, back)
        }
        PadMode::Wrap => modulo(k, c, extent),
    }
}

/// The non-negative remainder; 0 for periods below 1.
fn modulo(k: &mut Builder, c: Val, period: Val) -> Val {
    assert_eq!(k.ty(c), Ty::I64);
    let (zero, one) = (k.int(0), k.int(1));
    let period = k.bin(Bin::Max, period, one);
    let rest = k.bin(Bin::Rem, c, period);
    let lifted = k.add(rest, period);
    let negative = k.cmp(Cmp::Lt, rest, zero);
    k.select(negative, lifted, rest)
}
