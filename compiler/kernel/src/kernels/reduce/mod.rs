//! Reductions. Axes are merged into blocks that are kept or reduced; the innermost block is vectorized: adjacent
//! results if it is kept, several accumulators if it is reduced.

pub mod arg_reduce;
pub mod cumulative;
pub mod non_max_suppression;
pub mod non_zero;
pub mod run;
pub mod top_k;

use mcc_targets::schedule::loops::REDUCED_VECTORS;

use super::support::loops::{columns, parallel_coordinates, product};
use crate::kernels::support::emit::Emit;
use crate::kir::{Builder, Elem, Val};
use crate::numbers;
use mcc_ir::Result;
use mcc_ir::{BinaryOp, DType, Dim, ReduceKind};
use run::{Fold, arithmetic, combine};

/// Neighbouring axes that are all kept or all reduced.
struct Block {
    reduced: bool,
    extent: Dim,
    /// Elements between neighbours in the operand.
    stride: Dim,
}

/// ONNX Reduce*.
pub fn reduce(e: &Emit<'_>, k: &mut Builder, kind: ReduceKind, axes: &[usize], keep: bool) -> Result<()> {
    let x = e.shape(0);
    let last_kept = (0..x.len()).rev().find(|a| !axes.contains(a));
    // The axis of the result's columns; an epilogue needs it separate.
    let columns_axis = last_kept.filter(|&a| !(e.is_plain() || keep && a + 1 < x.len()));
    let mut blocks = blocks(x, axes, columns_axis);
    if columns_axis.is_none() && !e.is_plain() && blocks.last().is_some_and(|last| !last.reduced) {
        // Only reduced axes of extent 1 follow the last kept one: each of its elements is a row of one column.
        blocks.push(Block { reduced: true, extent: Dim::ONE, stride: Dim::ONE });
    }
    // Sums of bytes are wider, like loaded bytes.
    let dtype = if kind == ReduceKind::Sum { e.request.results[0].dtype } else { e.dtype(0) };
    let reducer = Reducer { e, kind, dtype, count: axes.iter().map(|&a| &x[a]).product() };
    reducer.build(k, &blocks, columns_axis.is_some());
    Ok(())
}

fn blocks(x: &[Dim], axes: &[usize], apart: Option<usize>) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (axis, extent) in x.iter().enumerate() {
        let reduced = axes.contains(&axis);
        let stride = product(&x[axis + 1..]);
        match blocks.last_mut() {
            _ if extent.is(1) && Some(axis) != apart => {}
            Some(last) if last.reduced == reduced && Some(axis) != apart => {
                last.extent = &last.extent * extent;
                last.stride = stride;
            }
            _ => blocks.push(Block { reduced, extent: extent.clone(), stride }),
        }
    }
    blocks
}

struct Reducer<'a> {
    e: &'a Emit<'a>,
    kind: ReduceKind,
    dtype: DType,
    /// Number of elements reduced to one result.
    count: Dim,
}

impl Reducer<'_> {
    fn build(&self, k: &mut Builder, blocks: &[Block], columns_apart: bool) {
        let (last, outer) = match blocks.split_last() {
            Some((last, outer)) => (Some(last), outer),
            None => (None, blocks),
        };
        let kept: Vec<&Block> = outer.iter().filter(|b| !b.reduced).collect();
        let reduced: Vec<&Block> = outer.iter().filter(|b| b.reduced).collect();
        let kept_shape: Vec<Dim> = kept.iter().map(|b| b.extent.clone()).collect();
        let lanes = self.e.lanes(self.dtype);
        parallel_coordinates(k, &kept_shape, |k, coords| {
            let mut base = k.int(0);
            for (block, &c) in kept.iter().zip(coords) {
                base = advance(k, base, block, c);
            }
            match last {
                Some(last) if !last.reduced => {
                    let row = super::support::loops::flat(k, &kept_shape, coords);
                    self.abreast(k, base, &reduced, last, row, columns_apart);
                }
                _ => {
                    let (row, col) = self.place(k, &kept_shape, coords, columns_apart);
                    let one = Dim::ONE;
                    let v = self.run(k, base, &reduced, last.map_or(&one, |b| &b.extent), lanes);
                    let v = self.finish(k, v);
                    self.e.store(k, row, col, v);
                }
            }
        });
    }

    /// Row and column of an element whose kept blocks are all outside the innermost one.
    fn place(&self, k: &mut Builder, shape: &[Dim], coords: &[Val], columns_apart: bool) -> (Val, Val) {
        if columns_apart {
            return super::support::loops::spot(k, shape, coords);
        }
        let (index, zero) = (super::support::loops::flat(k, shape, coords), k.int(0));
        if self.e.is_plain() { (zero, index) } else { (index, zero) }
    }

    /// A kept innermost block: adjacent vectors.
    fn abreast(&self, k: &mut Builder, base: Val, reduced: &[&Block], last: &Block, row: Val, columns_apart: bool) {
        let (zero, extent) = (k.int(0), k.dim(&last.extent));
        let lanes = self.e.lanes(self.dtype);
        let first = k.mul(row, extent);
        let some = |k: &mut Builder, i: Val, vectors: usize, lanes: u32| {
            let at = k.add(base, i);
            let init: Vec<Val> = (0..vectors).map(|_| self.init(k, lanes)).collect();
            let sums = self.over(k, at, reduced, &Dim::ONE, &init, |k, at, accs| {
                let mut next = Vec::new();
                for (n, &acc) in accs.iter().enumerate() {
                    let at = k.add_int(at, n as i64 * i64::from(lanes));
                    let v = self.e.load(k, 0, at, lanes);
                    next.push(combine(k, self.op(), self.dtype, acc, v));
                }
                next
            });
            for (n, v) in sums.into_iter().enumerate() {
                let col = k.add_int(i, n as i64 * i64::from(lanes));
                let v = self.finish(k, v);
                if columns_apart {
                    self.e.store(k, row, col, v);
                } else {
                    let index = k.add(first, col);
                    self.e.store(k, zero, index, v);
                }
            }
        };
        let mut from = zero;
        if lanes > 1 {
            let step = REDUCED_VECTORS as i64 * i64::from(lanes);
            from = super::support::loops::round_down(k, extent, step as u32);
            k.parallel(zero, from, step, |k, i| some(k, i, REDUCED_VECTORS, lanes));
        }
        k.once(|k| columns(k, from, extent, lanes, |k, i, lanes| some(k, i, 1, lanes)));
    }

    /// A reduced innermost block of `n` elements.
    fn run(&self, k: &mut Builder, base: Val, reduced: &[&Block], extent: &Dim, lanes: u32) -> Val {
        let (mut at_run, n) = (base, k.dim(extent));
        let init = &|k: &mut Builder, lanes: u32| self.init(k, lanes);
        let merge = &|k: &mut Builder, a: Val, b: Val| combine(k, self.op(), self.dtype, a, b);
        let state = run::start(k, n, lanes, Fold { init, step: &|_, acc, _| acc, merge });
        let state = self.over(k, at_run, reduced, extent, &state, |k, at, accs| {
            at_run = at;
            let step = &|k: &mut Builder, acc: Val, i: Val| {
                let at = k.add(at_run, i);
                let v = self.e.load(k, 0, at, k.ty(acc).lanes);
                combine(k, self.op(), self.dtype, acc, v)
            };
            run::walk(k, n, lanes, accs, Fold { init, step, merge })
        });
        run::finish(k, lanes, &state, Fold { init, step: &|_, acc, _| acc, merge })
    }

    /// Loops over the outer reduced blocks around `body`, which loops over `innermost`; no rounds if that is empty.
    fn over(
        &self,
        k: &mut Builder,
        base: Val,
        reduced: &[&Block],
        innermost: &Dim,
        accs: &[Val],
        body: impl FnOnce(&mut Builder, Val, &[Val]) -> Vec<Val>,
    ) -> Vec<Val> {
        let Some((block, inner)) = reduced.split_first() else { return body(k, base, accs) };
        let within: Vec<Dim> = inner.iter().map(|b| &b.extent).chain([innermost]).cloned().collect();
        let (zero, extent) = (k.int(0), k.dim(&super::support::loops::visited(&block.extent, &within)));
        k.fold_loop(zero, extent, 1, accs, |k, i, accs| {
            let base = advance(k, base, block, i);
            self.over(k, base, inner, innermost, accs, body)
        })
    }

    fn op(&self) -> BinaryOp {
        match self.kind {
            ReduceKind::Sum | ReduceKind::Mean => BinaryOp::Add,
            ReduceKind::Prod => BinaryOp::Mul,
            ReduceKind::Min => BinaryOp::Min,
            ReduceKind::Max => BinaryOp::Max,
        }
    }

    fn init(&self, k: &mut Builder, lanes: u32) -> Val {
        match self.kind {
            ReduceKind::Sum | ReduceKind::Mean => k.zero(crate::kir::Ty::new(numbers::compute_elem(self.dtype), lanes)),
            ReduceKind::Prod => run::one(k, self.dtype, lanes),
            ReduceKind::Min => run::highest(k, self.dtype, lanes),
            ReduceKind::Max => run::lowest(k, self.dtype, lanes),
        }
    }

    fn finish(&self, k: &mut Builder, v: Val) -> Val {
        if self.kind != ReduceKind::Mean {
            return v;
        }
        let count = k.dim(&self.count);
        let count = match numbers::compute_elem(self.dtype) {
            elem @ (Elem::F32 | Elem::F64) => k.convert(count, elem),
            elem => k.convert(count, elem),
        };
        let count = k.splat(count, k.ty(v).lanes);
        combine(k, BinaryOp::Div, arithmetic(self.dtype), v, count)
    }
}

fn advance(k: &mut Builder, base: Val, block: &Block, i: Val) -> Val {
    let stride = k.dim(&block.stride);
    let skip = k.mul(i, stride);
    k.add(base, skip)
}
