//! Element-wise kernels over strided leaves; also plain copies of views (transpose, slice, broadcast).
//!
//! The loop nest follows the result in memory order, with axes merged where all leaves allow it. The innermost axis is
//! vectorized if all types involved have 4-byte registers and every leaf is contiguous or constant along it.
//! A copy whose source is contiguous along another axis moves 4 x 4 blocks through registers.

pub mod expand;

use super::support::interleave;
use super::support::loops::{around, rest, round_down, shared_axis};
use crate::expr::{Expr, ExprKind};
use crate::kir::{Addr, Bin, Builder, Elem, Kernel, Val};
use crate::numbers;
use crate::view::{View, collapse};
use expand::Expansion;
use mcc_ir::{DType, Dim, Error, Result, TensorType};

use mcc_targets::{Config, Target};

/// Builds the kernel of `expr` over `leaves` (type and view in the result's shape) with result type `result`, which may
/// be a part of a larger buffer.
/// Pointers: the leaves' buffers, the expression's tables, the result, then scratch memory, whose sizes are returned.
///
/// # Errors
/// When an invariant is broken.
pub fn build(
    expr: &Expr,
    leaves: &[(DType, View)],
    result: &TensorType,
    place: Option<&View>,
    config: &Config,
) -> Result<(Kernel, Vec<Dim>)> {
    let name = if is_copy(expr) { "copy" } else { "elementwise" };
    let mut k = Builder::new(name, leaves.len() as u32)
        .with_masks(config.target.has_masks())
        .with_halves(config.target.has_halves())
        .with_threads(config.threads);
    let own = place.cloned().unwrap_or_else(|| View::contiguous(&result.shape));
    let views: Vec<View> = leaves.iter().map(|l| l.1.clone()).chain([own]).collect();
    let (mut extents, mut views) = collapse(&result.shape, &views);
    let (lanes, turns) = (lanes(expr, &config.target), is_copy(expr));
    let mut expansion = None;
    if lanes > 1 {
        expansion = expand::plan(&extents, &views, 4 * i64::from(lanes));
        if expansion.is_none()
            && !turns
            && let Some((cut, own)) = expand::split(&extents, &views, lanes.into())
        {
            expansion = expand::plan(&cut, &own, 8 * i64::from(lanes));
            if expansion.is_some() {
                (extents, views) = (cut, own);
            }
        }
    }
    let own = views.pop().ok_or_else(|| Error::internal("no view of the result"))?;
    let tables: Vec<Val> = expr.tables.iter().map(|_| k.new_pointer()).collect();
    let nest = ElementwiseLoops {
        expr,
        leaves,
        views: &views,
        own: &own,
        extents: &extents,
        out: result.dtype,
        lanes,
        tables: &tables,
        target: &config.target,
    };
    let mut cursors = Vec::new();
    for (n, view) in views.iter().enumerate() {
        let pointer = k.pointer(n as u32);
        let offset = k.dim(&view.offset);
        cursors.push(advance(&mut k, pointer, offset, leaves[n].0.size()));
    }
    let (out, offset) = (k.new_pointer(), k.dim(&own.offset));
    let out = advance(&mut k, out, offset, result.dtype.size());
    let mut scratch = Vec::new();
    match (nest.block_axis(), &expansion) {
        (Some(axis), _) => nest.transposing(&mut k, 0, axis, cursors[0], out),
        (None, None) => nest.outer(&mut k, 0, &cursors, out, None)?,
        (None, Some(plan)) => {
            let tables = leaves.iter().zip(&plan.leaves).map(|((dtype, _), &row)| {
                (row == expand::Row::Spread).then(|| {
                    scratch.push(&Dim::from(plan.count) * &Dim::from(dtype.size()));
                    k.new_pointer()
                })
            });
            let tables = tables.collect();
            nest.outer(&mut k, 0, &cursors, out, Some(&Expanded { plan, tables }))?;
        }
    }
    Ok((k.finish(), scratch))
}

/// Builds the kernel of `Op::Dims`: writes dimensions as `i64`s to its only pointer.
pub fn dims(values: &[Dim]) -> Kernel {
    let mut k = Builder::new("dims", 1);
    let out = k.pointer(0);
    for (n, d) in values.iter().enumerate() {
        let v = k.dim(d);
        let to = k.at(out, 8 * n as i32);
        k.store(to, v);
    }
    k.finish()
}

fn is_copy(expr: &Expr) -> bool {
    matches!(expr.nodes.as_slice(), [node] if node.kind == ExprKind::Leaf(0))
}

/// The most lanes that all registers of an expression support.
fn lanes(expr: &Expr, target: &Target) -> u32 {
    let narrow = expr.nodes.iter().all(|n| matches!(numbers::compute_elem(n.dtype), Elem::F32 | Elem::I32));
    if narrow { target.vector_bytes / 4 } else { 1 }
}

/// `pointer + index * size`.
fn advance(k: &mut Builder, pointer: Val, index: Val, size: usize) -> Val {
    let bytes = k.mul_int(index, size as i64);
    k.add(pointer, bytes)
}

struct ElementwiseLoops<'a> {
    expr: &'a Expr,
    leaves: &'a [(DType, View)],
    views: &'a [View],
    /// The view of the result in memory.
    own: &'a View,
    extents: &'a [Dim],
    out: DType,
    lanes: u32,
    tables: &'a [Val],
    target: &'a Target,
}

/// Last axes that are merged, and the buffers of copied leaves.
struct Expanded<'a> {
    plan: &'a Expansion,
    tables: Vec<Option<Val>>,
}

impl ElementwiseLoops<'_> {
    /// The loops over all axes but the last, or the merged ones, then the row.
    fn outer(
        &self,
        k: &mut Builder,
        axis: usize,
        cursors: &[Val],
        out: Val,
        expanded: Option<&Expanded<'_>>,
    ) -> Result<()> {
        if let Some(Expanded { plan, tables }) = expanded {
            if axis == plan.axis {
                return self.joined_row(k, plan, cursors, out);
            }
            if axis + 1 == plan.axis {
                let (mut cursors, bytes) = (cursors.to_vec(), self.target.vector_bytes);
                for (n, table) in tables.iter().enumerate() {
                    let Some(table) = *table else { continue };
                    let strides = &self.views[n].strides[plan.axis..];
                    expand::spread(k, self.leaves[n].0, bytes, &self.extents[plan.axis..], strides, cursors[n], table);
                    cursors[n] = table;
                }
                return self.each(k, axis, &cursors, out, expanded);
            }
        } else if axis + 1 >= self.extents.len() {
            return self.row(k, cursors, out);
        }
        self.each(k, axis, cursors, out, expanded)
    }

    /// The loop over one axis.
    fn each(
        &self,
        k: &mut Builder,
        axis: usize,
        cursors: &[Val],
        out: Val,
        expanded: Option<&Expanded<'_>>,
    ) -> Result<()> {
        let (start, end) = (k.int(0), k.dim(&self.extents[axis]));
        let out_stride = self.out_stride(axis);
        let mut done = Ok(());
        let round = |k: &mut Builder, i: Val| {
            let inner: Vec<Val> = (0..cursors.len()).map(|n| self.step(k, n, axis, cursors[n], i)).collect();
            let inner_out = self.step_out(k, &out_stride, out, i);
            done = self.outer(k, axis + 1, &inner, inner_out, expanded);
        };
        k.parallel_if(self.shared_axis() == Some(axis), start, end, 1, round);
        done
    }

    /// A row of all merged axes.
    fn joined_row(&self, k: &mut Builder, plan: &Expansion, cursors: &[Val], out: Val) -> Result<()> {
        let stride = |row: &expand::Row| if *row == expand::Row::Level { Dim::ZERO } else { Dim::ONE };
        let line = |stride: Dim| View { offset: Dim::ZERO, strides: vec![stride] };
        let views: Vec<View> = plan.leaves.iter().map(|row| line(stride(row))).collect();
        let (own, extents) = (line(Dim::ONE), [Dim::from(plan.count)]);
        ElementwiseLoops { views: &views, own: &own, extents: &extents, ..*self }.row(k, cursors, out)
    }

    /// Whether the last axis is contiguous in the result's memory.
    fn columns_adjoin(&self) -> bool {
        self.own.strides.last().is_none_or(|s| s.is(1))
    }

    /// The axis whose loop threads share: not the row if another axis is long enough.
    fn shared_axis(&self) -> Option<usize> {
        let row = self.extents.len().checked_sub(1)?;
        let vectors = self.extents[row].floor_div(&Dim::from(i64::from(self.lanes)));
        let extents: Vec<Dim> = self.extents[..row].iter().cloned().chain([vectors]).collect();
        shared_axis(&extents)
    }

    fn out_stride(&self, axis: usize) -> Dim {
        self.own.strides[axis].clone()
    }

    fn step(&self, k: &mut Builder, leaf: usize, axis: usize, cursor: Val, i: Val) -> Val {
        let stride = k.dim(&self.views[leaf].strides[axis]);
        let index = k.mul(i, stride);
        advance(k, cursor, index, self.leaves[leaf].0.size())
    }

    fn step_out(&self, k: &mut Builder, stride: &Dim, out: Val, i: Val) -> Val {
        let stride = k.dim(stride);
        let index = k.mul(i, stride);
        advance(k, out, index, self.out.size())
    }

    /// The innermost axis: whole vectors, then single elements.
    fn row(&self, k: &mut Builder, cursors: &[Val], out: Val) -> Result<()> {
        let one = Dim::ONE;
        let extent = self.extents.last().unwrap_or(&one);
        let inner = |n: usize| self.views[n].strides.last().cloned().unwrap_or(Dim::ZERO);
        let alternate = |n: usize| self.alternates(n);
        let unit =
            (0..cursors.len()).all(|n| inner(n).is(0) || inner(n).is(1) || alternate(n)) && self.columns_adjoin();
        let (zero, end) = (k.int(0), k.dim(extent));
        // Leaves that are constant along the row are loaded once.
        let scalars: Vec<Option<Val>> = (0..cursors.len())
            .map(|n| {
                inner(n).is(0).then(|| {
                    let from = k.at(cursors[n], 0);
                    numbers::load(k, self.leaves[n].0, from, 1)
                })
            })
            .collect();
        let long = k.has_masks() || extent.as_const().is_none_or(|c| c >= i64::from(self.lanes));
        let mut from = zero;
        if unit && self.lanes > 1 && long {
            let whole = round_down(k, end, self.lanes);
            let splats: Vec<Option<Val>> = scalars.iter().map(|s| s.map(|s| k.splat(s, self.lanes))).collect();
            if self.expr.is_quantized() && self.lanes >= 4 {
                // Four vectors are quantized to one vector of bytes.
                let four = 4 * self.lanes;
                from = round_down(k, end, four);
                k.parallel(zero, from, four.into(), |k, i| self.quantized(k, i, cursors, &splats, out));
            }
            k.parallel(from, whole, i64::from(self.lanes), |k, i| {
                self.elements(k, i, self.lanes, cursors, &splats, out);
            });
            from = whole;
            if k.has_masks() && !(0..cursors.len()).any(alternate) {
                k.once(|k| {
                    rest(k, from, end, self.lanes, |k| self.elements(k, whole, self.lanes, cursors, &splats, out));
                });
                from = end;
            }
        }
        if from != end {
            k.parallel(from, end, 1, |k, i| self.elements(k, i, 1, cursors, &scalars, out));
        }
        if self.expr.nodes.is_empty() { Err(Error::internal("an empty expression")) } else { Ok(()) }
    }

    /// Four vectors of bytes, for adjacent elements starting at index `i` of the row.
    fn quantized(&self, k: &mut Builder, i: Val, cursors: &[Val], fixed: &[Option<Val>], out: Val) {
        let (mut parts, mut zero) = (Vec::with_capacity(4), None);
        for n in 0..4 {
            let i = k.add_int(i, n * i64::from(self.lanes));
            let leaf = |k: &mut Builder, n: usize| self.leaf(k, n, i, self.lanes, cursors, fixed);
            if let Some((x, z)) = self.expr.emit_unquantized(k, self.lanes, None, self.tables, leaf) {
                parts.push(x);
                zero = zero.or(Some(z));
            }
        }
        let Some(bytes) = zero.and_then(|zero| self.expr.emit_bytes(k, &parts, zero, self.tables)) else { return };
        let to = k.at_index(out, i, 1);
        k.store(to, bytes);
    }

    /// `lanes` elements of a leaf, starting at index `i` of the row.
    fn leaf(&self, k: &mut Builder, n: usize, i: Val, lanes: u32, cursors: &[Val], fixed: &[Option<Val>]) -> Val {
        if let Some(v) = fixed[n] {
            return v;
        }
        let dtype = self.leaves[n].0;
        let stride = k.dim(self.views[n].strides.last().unwrap_or(&Dim::ONE));
        let index = k.mul(i, stride);
        let from = k.at_index(cursors[n], index, dtype.size() as u32);
        if lanes == 1 || !self.alternates(n) {
            return numbers::load(k, dtype, from, lanes);
        }
        // Two vectors; the second starts with the last element of the first, so that nothing past the last element is
        // read.
        let further = Addr { offset: from.offset + 4 * (lanes as i32 - 1), ..from };
        let [low, high] = [from, further].map(|from| numbers::load(k, dtype, from, lanes));
        let places: Vec<u8> = (0..lanes).map(|l| (2 * l + u32::from(2 * l >= lanes)) as u8).collect();
        k.shuffle(low, high, &places)
    }

    /// Whether a leaf of 4-byte elements has stride 2 along the last axis.
    fn alternates(&self, n: usize) -> bool {
        self.leaves[n].0.size() == 4 && self.views[n].strides.last().is_some_and(|s| s.is(2))
    }

    /// `lanes` elements, starting at index `i` of the row.
    fn elements(&self, k: &mut Builder, i: Val, lanes: u32, cursors: &[Val], fixed: &[Option<Val>], out: Val) {
        let leaf = |k: &mut Builder, n: usize| self.leaf(k, n, i, lanes, cursors, fixed);
        let value = self.expr.emit(k, lanes, None, self.tables, leaf);
        if let Some(value) = value {
            let index = match self.own.strides.last() {
                Some(stride) if !self.columns_adjoin() => {
                    let stride = k.dim(stride);
                    k.mul(i, stride)
                }
                _ => i,
            };
            let to = k.at_index(out, index, self.out.size() as u32);
            numbers::store(k, self.out, to, value);
        }
    }

    /// The axis, other than the last, along which the source of a copy of 4-byte elements, or of a few planes of bytes,
    /// is contiguous.
    fn block_axis(&self) -> Option<usize> {
        let (rank, size) = (self.extents.len(), self.out.size());
        if !is_copy(self.expr) || !self.columns_adjoin() || self.lanes < 4 || !matches!(size, 1 | 4) || rank < 2 {
            return None;
        }
        let strides = &self.views[0].strides;
        if strides[rank - 1].is(1) || strides[rank - 1].is(0) {
            return None;
        }
        let found = (0..rank - 1).find(|&axis| strides[axis].is(1));
        found.filter(|&axis| size == 4 || self.planes(axis).is_some())
    }

    /// The extent of the last axis, if it is a supported number of planes to interleave.
    fn planes(&self, turned: usize) -> Option<i64> {
        let planes = self.extents[self.extents.len() - 1].as_const()?;
        let few = interleave::planes(self.out.size()).contains(&planes) && self.own.strides[turned].is(planes);
        let long = self.extents[turned].as_const().is_none_or(|n| n >= i64::from(self.plane_length(planes)));
        (few && long).then_some(planes)
    }

    fn plane_length(&self, planes: i64) -> u32 {
        interleave::length(self.target, self.out.size(), planes)
    }

    /// The loops of a copy that transposes `axis` with the last axis: both are stepped by blocks, the others are
    /// outside.
    fn transposing(&self, k: &mut Builder, axis: usize, turned: usize, cursor: Val, out: Val) {
        let last = self.extents.len() - 1;
        if axis < last {
            if axis == turned {
                return self.transposing(k, axis + 1, turned, cursor, out);
            }
            let out_stride = self.out_stride(axis);
            around(k, &self.extents[axis], |k, i| {
                let inner = self.step(k, 0, axis, cursor, i);
                let inner_out = self.step_out(k, &out_stride, out, i);
                self.transposing(k, axis + 1, turned, inner, inner_out);
            });
            return;
        }
        // Rows of the result run along `last`, rows of the source along `turned`.
        let (zero, rows, cols) = (k.int(0), k.dim(&self.extents[turned]), k.dim(&self.extents[last]));
        let (whole_rows, whole_cols) = (round_down(k, rows, 4), round_down(k, cols, 4));
        let out_stride = self.out_stride(turned);
        let (source_step, out_step) = (k.dim(&self.views[0].strides[last]), k.dim(&out_stride));
        let size = self.out.size();
        let (source_step, out_step) = (k.mul_int(source_step, size as i64), k.mul_int(out_step, size as i64));
        if let Some(planes) = self.planes(turned) {
            let lanes = self.plane_length(planes);
            let move_planes = |k: &mut Builder, r: Val| {
                let mut plane = advance(k, cursor, r, size);
                let to = self.step_out(k, &out_stride, out, r);
                let mut pointers = vec![plane];
                for _ in 1..planes {
                    plane = k.add(plane, source_step);
                    pointers.push(plane);
                }
                match size {
                    1 => interleave::interleave_bytes(k, &pointers, to, lanes),
                    _ => interleave::interleave(k, &pointers, to, lanes),
                }
            };
            if self.extents[turned].as_const().is_some() {
                // The last block may overlap the previous one.
                let end = k.add_int(rows, -i64::from(lanes));
                k.parallel(zero, rows, lanes.into(), |k, r| {
                    let r = k.bin(Bin::Min, r, end);
                    move_planes(k, r);
                });
                return;
            }
            let whole = round_down(k, rows, lanes);
            k.parallel(zero, whole, lanes.into(), |k, r| move_planes(k, r));
            return self.transposed_rows(k, whole, rows, cursor, out);
        }
        k.parallel(zero, whole_rows, 4, |k, r| {
            let from_rows = advance(k, cursor, r, 4);
            let to_rows = self.step_out(k, &out_stride, out, r);
            k.for_each(zero, whole_cols, 4, |k, c| {
                let offset = k.mul(c, source_step);
                let from = k.add(from_rows, offset);
                let to = advance(k, to_rows, c, 4);
                transpose_block(k, from, source_step, to, out_step);
            });
            k.for_each(whole_cols, cols, 1, |k, c| {
                let offset = k.mul(c, source_step);
                let mut from = k.add(from_rows, offset);
                let mut to = advance(k, to_rows, c, 4);
                for _ in 0..4 {
                    self.move_one(k, from, to);
                    from = k.add_int(from, 4);
                    to = k.add(to, out_step);
                }
            });
        });
        self.transposed_rows(k, whole_rows, rows, cursor, out);
    }

    /// Rows of a transposing copy, element by element.
    fn transposed_rows(&self, k: &mut Builder, first: Val, end: Val, cursor: Val, out: Val) {
        let Some(turned) = self.block_axis() else { return };
        let last = self.extents.len() - 1;
        let (zero, cols, out_stride) = (k.int(0), k.dim(&self.extents[last]), self.out_stride(turned));
        let (source_step, size) = (k.dim(&self.views[0].strides[last]), self.out.size());
        let source_step = k.mul_int(source_step, size as i64);
        k.parallel(first, end, 1, |k, r| {
            let from_row = advance(k, cursor, r, size);
            let to_row = self.step_out(k, &out_stride, out, r);
            k.for_each(zero, cols, 1, |k, c| {
                let offset = k.mul(c, source_step);
                let from = k.add(from_row, offset);
                let to = advance(k, to_row, c, size);
                self.move_one(k, from, to);
            });
        });
    }

    fn move_one(&self, k: &mut Builder, from: Val, to: Val) {
        let (from, to) = (k.at(from, 0), k.at(to, 0));
        let v = numbers::load(k, self.out, from, 1);
        numbers::store(k, self.out, to, v);
    }
}

/// Transposes a 4 x 4 block of 4-byte elements.
pub(super) fn transpose_block(k: &mut Builder, from: Val, from_step: Val, to: Val, to_step: Val) {
    let ty = crate::kir::Ty::new(Elem::F32, 4);
    let mut rows = Vec::new();
    let mut cursor = from;
    for _ in 0..4 {
        let at = k.at(cursor, 0);
        rows.push(k.load(ty, at));
        cursor = k.add(cursor, from_step);
    }
    // Interleave rows 0, 2 and 1, 3; then interleave the results: column n of the block is the n-th vector.
    let low = |k: &mut Builder, a, b| k.shuffle(a, b, &[0, 4, 1, 5]);
    let high = |k: &mut Builder, a, b| k.shuffle(a, b, &[2, 6, 3, 7]);
    let (even_low, even_high) = (low(k, rows[0], rows[2]), high(k, rows[0], rows[2]));
    let (odd_low, odd_high) = (low(k, rows[1], rows[3]), high(k, rows[1], rows[3]));
    let columns = [
        low(k, even_low, odd_low),
        high(k, even_low, odd_low),
        low(k, even_high, odd_high),
        high(k, even_high, odd_high),
    ];
    let mut cursor = to;
    for column in columns {
        let at = k.at(cursor, 0);
        k.store(at, column);
        cursor = k.add(cursor, to_step);
    }
}
