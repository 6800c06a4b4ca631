//! What kernel authors read operands from and write results to.

use std::cell::RefCell;

use bytes::Bytes;

use super::{Site, nest};
use crate::ir::Dim;
use crate::lower::expr::{Expr, ExprNode};
use crate::lower::kir::{Addr, Builder, Ty, Val};
use crate::lower::numbers;
use crate::lower::view::View;

/// Element-wise operations applied to result 0 before it is stored. Result 0 is seen as rows of its last axis.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Epilogue {
    /// The expression over the kernel's element and the leaves; empty: store the element.
    pub expr: Expr,
    /// Further tensors it reads.
    pub leaves: Vec<RowLeaf>,
}

/// A tensor that an epilogue reads row by row (all in elements).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowLeaf {
    /// Its type.
    pub dtype: crate::ir::DType,
    /// How it lies in memory, in the shape of result 0; the last stride is 0 or 1.
    pub view: View,
}

/// Where rows begin.
enum RowStarts {
    /// Every so many elements.
    Every(Dim),
    /// Where a table of `i64` says, which the kernel fills before anything else.
    Listed(Val),
}

/// Gives kernel authors their operands, results and scratch memory. Pointer arguments are, in order: operands,
/// epilogue leaves, results, scratch, constants.
pub struct Emit<'a> {
    pub(super) site: &'a Site<'a>,
    pub(super) epilogue: &'a Epilogue,
    operands: Vec<Val>,
    leaves: Vec<Val>,
    results: Vec<Val>,
    /// Rows of the leaves, then of result 0.
    rows: Vec<RowStarts>,
    scratch: RefCell<Vec<Dim>>,
    constants: RefCell<Vec<Bytes>>,
}

impl<'a> Emit<'a> {
    /// Takes the kernel's first pointers.
    pub(super) fn new(site: &'a Site<'a>, epilogue: &'a Epilogue, k: &mut Builder) -> Emit<'a> {
        let mut pointers = |n: usize| (0..n).map(|_| k.new_pointer()).collect::<Vec<_>>();
        let mut operands = pointers(site.operands.len());
        let mut leaves = pointers(epilogue.leaves.len());
        let mut results = pointers(site.results.len());
        let moved = |k: &mut Builder, pointer: &mut Val, view: &View, size: usize| {
            let offset = k.dim(&view.offset);
            *pointer = nest::pointer_at(k, *pointer, offset, size);
        };
        for (n, pointer) in operands.iter_mut().enumerate() {
            if let Some(view) = site.places.operands.get(n).and_then(Option::as_ref) {
                moved(k, pointer, view, site.operands[n].dtype.size());
            }
        }
        for (leaf, pointer) in epilogue.leaves.iter().zip(&mut leaves) {
            moved(k, pointer, &leaf.view, leaf.dtype.size());
        }
        if let (Some(view), Some(ty), Some(pointer)) = (&site.places.result, site.results.first(), results.first_mut())
        {
            moved(k, pointer, view, epilogue.expr.dtype().unwrap_or(ty.dtype).size());
        }
        let mut emit = Emit {
            site,
            epilogue,
            operands,
            leaves,
            results,
            rows: Vec::new(),
            scratch: RefCell::default(),
            constants: RefCell::default(),
        };
        emit.rows = emit.row_starts(k);
        emit
    }

    /// Bytes of the scratch buffers, and the tables, that were asked for.
    pub(super) fn wants(self) -> (Vec<Dim>, Vec<Bytes>) {
        (self.scratch.into_inner(), self.constants.into_inner())
    }

    /// Pointer of an operand.
    pub fn operand(&self, n: usize) -> Val {
        self.operands[n]
    }

    /// Elements between neighbours along each axis of an operand.
    pub fn strides(&self, operand: usize) -> Vec<Dim> {
        match self.site.places.operands.get(operand) {
            Some(Some(view)) => view.strides.clone(),
            _ => View::contiguous(&self.site.operands[operand].shape).strides,
        }
    }

    /// Whether an operand of Concat or Pad lies in the result already.
    pub fn is_inside(&self, operand: usize) -> bool {
        self.site.places.inside.get(operand).copied().unwrap_or(false)
    }

    /// Elements between rows of result 0, if sums can be stored as they are, at equal distances.
    pub fn plain_rows(&self) -> Option<Dim> {
        match self.rows.last() {
            Some(RowStarts::Every(stride)) if self.epilogue.expr.nodes.is_empty() => Some(stride.clone()),
            _ => None,
        }
    }

    fn row_starts(&self, k: &mut Builder) -> Vec<RowStarts> {
        let Some(result) = self.site.results.first() else { return Vec::new() };
        let own = self.site.places.result.clone().unwrap_or_else(|| View::contiguous(&result.shape));
        let views = self.epilogue.leaves.iter().map(|leaf| &leaf.view).chain([&own]);
        let mut listed: Vec<(&[Dim], Val)> = Vec::new();
        views
            .map(|view| {
                if let Some((stride, _)) = view.as_rows(&result.shape) {
                    return RowStarts::Every(stride);
                }
                let rows = result.rank() - 1;
                let strides = &view.strides[..rows];
                let known = listed.iter().find(|l| l.0 == strides).map(|l| l.1);
                let table = known.unwrap_or_else(|| {
                    let table = self.scratch(k, &nest::product(&result.shape[..rows]) * &Dim::from(8i64));
                    nest::nest(k, &result.shape[..rows], &mut |k, coords| {
                        let (row, start) =
                            (nest::flat(k, &result.shape[..rows], coords), nest::dot(k, strides, coords));
                        let to = k.at_index(table, row, 8);
                        k.store(to, start);
                    });
                    table
                });
                listed.push((strides, table));
                RowStarts::Listed(table)
            })
            .collect()
    }

    /// Where a row of leaf `n` begins; of result 0 for the number behind the last leaf.
    pub(super) fn row_start(&self, k: &mut Builder, n: usize, row: Val) -> Val {
        match &self.rows[n] {
            RowStarts::Every(stride) => {
                let stride = k.dim(stride);
                k.mul(row, stride)
            }
            RowStarts::Listed(table) => {
                let from = k.at_index(*table, row, 8);
                k.load(Ty::I64, from)
            }
        }
    }

    /// Loads `lanes` consecutive elements of an operand, from flat element index `index`, in its compute type.
    pub fn load(&self, k: &mut Builder, operand: usize, index: Val, lanes: u32) -> Val {
        let dtype = self.site.operands[operand].dtype;
        let from = k.at_index(self.operands[operand], index, dtype.size() as u32);
        numbers::load(k, dtype, from, lanes)
    }

    /// Stores lanes of result 0, from column `col` of row `row` on, after the epilogue. `v` is in the compute type of
    /// the operation's own result.
    pub fn store(&self, k: &mut Builder, row: Val, col: Val, v: Val) {
        let ty = &self.site.results[0];
        let (lanes, leaves) = (k.ty(v).lanes, &self.epilogue.leaves);
        // As many lanes of a wider type do not fit a register, and of a narrower one do not fill it.
        let width = k.ty(v).elem.bytes();
        let other_width = |n: &ExprNode| numbers::compute_elem(n.dtype).bytes() != width;
        if lanes > 1 && self.epilogue.expr.nodes.iter().any(other_width) {
            return nest::each_lane(k, lanes, &mut |k, lane| {
                let (one, col) = (k.lane(v, lane), k.add_int(col, lane.into()));
                self.store(k, row, col, one);
            });
        }
        let out = self.epilogue.expr.emit(k, lanes, Some(v), &mut |k, n| {
            let mut index = self.row_start(k, n, row);
            let level = leaves[n].view.strides.last().is_none_or(|s| s.is(0));
            if !level {
                index = k.add(index, col);
            }
            let from = k.at_index(self.leaves[n], index, leaves[n].dtype.size() as u32);
            let wide = if level { 1 } else { lanes };
            let loaded = numbers::load(k, leaves[n].dtype, from, wide);
            if wide == lanes { loaded } else { k.splat(loaded, lanes) }
        });
        let dtype = self.epilogue.expr.dtype().unwrap_or(ty.dtype);
        let index = self.index_of(k, row, col);
        let to = k.at_index(self.results[0], index, dtype.size() as u32);
        numbers::store(k, dtype, to, out.unwrap_or(v));
    }

    /// Stores an element (or lanes) of a result other than the first, at a flat index.
    pub fn store_result(&self, k: &mut Builder, result: usize, index: Val, v: Val) {
        let dtype = self.site.results[result].dtype;
        let to: Addr = k.at_index(self.results[result], index, dtype.size() as u32);
        numbers::store(k, dtype, to, v);
    }

    /// Pointer of a result, for kernels that write it in bulk: only where [`Emit::is_plain`].
    pub fn result(&self, n: usize) -> Val {
        self.results[n]
    }

    /// Elements in a row of result 0.
    pub fn columns(&self) -> Dim {
        self.site.results[0].shape.last().cloned().unwrap_or(Dim::ONE)
    }

    /// Whether result 0 is stored as computed, without an epilogue, and in order.
    pub fn is_plain(&self) -> bool {
        self.epilogue.expr.nodes.is_empty() && self.site.places.result.is_none()
    }

    /// Memory for the kernel's own use, 64-byte aligned, its content undefined. Asked for before any constant.
    pub fn scratch(&self, k: &mut Builder, bytes: Dim) -> Val {
        debug_assert!(self.constants.borrow().is_empty(), "constants are the last pointers");
        self.scratch.borrow_mut().push(bytes);
        k.new_pointer()
    }

    /// A read-only table, 64-byte aligned.
    pub fn constant(&self, k: &mut Builder, data: Bytes) -> Val {
        self.constants.borrow_mut().push(data);
        k.new_pointer()
    }
}
