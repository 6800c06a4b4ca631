//! How kernel authors read operands and write results.

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;

use super::loops;
use super::request::{KernelRequest, column_axes};
use crate::expr::{Expr, ExprNode};
use crate::kir::{Addr, Builder, Ty, Val};
use crate::numbers;
use crate::view::View;
use mcc_ir::{Dim, Error, Result};

/// Element-wise operations applied to result 0 before it is stored. Result 0 is treated as rows of its last axis, or of
/// its last [`column_axes`], merged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Epilogue {
    /// The expression over the kernel's element and the leaves; if empty, the element is stored as it is.
    pub expr: Expr,
    /// Other tensors that it reads.
    pub leaves: Vec<RowLeaf>,
}

/// A tensor that an epilogue reads row by row (all in elements).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowLeaf {
    /// Its type.
    pub dtype: mcc_ir::DType,
    /// Its view in the shape of result 0; the last stride is 0 or 1.
    pub view: View,
}

/// An operation and its epilogue.
pub struct Link<'a> {
    /// The operation's request.
    pub request: &'a KernelRequest<'a>,
    /// The epilogue of its result.
    pub epilogue: &'a Epilogue,
}

/// Where rows start.
#[derive(Clone)]
enum RowStarts {
    /// At multiples of this number of elements.
    Every(Dim),
    /// At the offsets in a table of `i64`s, which the kernel fills first.
    Listed(Val),
}

/// Gives kernel authors access to operands, results and scratch memory. Pointer arguments are, in order: operands,
/// epilogue leaves, tables, results, scratch, constants.
#[derive(Clone)]
pub struct Emit<'a> {
    pub(crate) request: &'a KernelRequest<'a>,
    pub(crate) epilogue: &'a Epilogue,
    operands: Vec<Val>,
    leaves: Vec<Val>,
    tables: Vec<Val>,
    results: Vec<Val>,
    /// Row starts of the leaves, then of result 0.
    rows: Vec<RowStarts>,
    /// For each leaf, whether it is constant along a row.
    level: Vec<bool>,
    scratch: RefCell<Vec<Dim>>,
    constants: RefCell<Vec<Bytes>>,
}

impl<'a> Emit<'a> {
    /// Declares the kernel's first pointers.
    ///
    /// # Errors
    /// When leaves or the result do not have the row layout that the operation's kernel expects.
    pub(crate) fn new(request: &'a KernelRequest<'a>, epilogue: &'a Epilogue, k: &mut Builder) -> Result<Emit<'a>> {
        Emit::with_arguments(request, epilogue, k, request.operands.len(), request.results.len()).with_rows(k)
    }

    /// The same for two operations in one kernel. The first one's only result is operand 0 of the second and has no
    /// pointer: the caller provides memory for it. The kernel's arguments are those of the first operation except its
    /// result, then those of the second except that operand.
    ///
    /// # Errors
    /// As [`Emit::new`].
    pub(crate) fn chain([first, second]: [&'a Link<'a>; 2], k: &mut Builder) -> Result<[Emit<'a>; 2]> {
        let (ins, outs) = (second.request.operands.len() - 1, second.request.results.len());
        let feeding = Emit::with_arguments(first.request, first.epilogue, k, first.request.operands.len(), 0);
        let mut fed = Emit::with_arguments(second.request, second.epilogue, k, ins, outs);
        fed.operands.insert(0, k.int(0));
        Ok([feeding.with_rows(k)?, fed.with_rows(k)?])
    }

    /// Declares pointers for the last `operands` operands, the first `results` results, and the epilogue's inputs.
    fn with_arguments(
        request: &'a KernelRequest<'a>,
        epilogue: &'a Epilogue,
        k: &mut Builder,
        operands: usize,
        results: usize,
    ) -> Emit<'a> {
        let first = request.operands.len() - operands;
        let mut pointers = |n: usize| (0..n).map(|_| k.new_pointer()).collect::<Vec<_>>();
        let mut operands = pointers(operands);
        let mut leaves = pointers(epilogue.leaves.len());
        let tables = pointers(epilogue.expr.tables.len());
        let mut results = pointers(results);
        let moved = |k: &mut Builder, pointer: &mut Val, view: &View, size: usize| {
            let offset = k.dim(&view.offset);
            *pointer = loops::pointer_at(k, *pointer, offset, size);
        };
        for (n, pointer) in (first..).zip(&mut operands) {
            if let Some(view) = request.places.operands.get(n).and_then(Option::as_ref) {
                moved(k, pointer, view, request.operands[n].dtype.size());
            }
        }
        for (leaf, pointer) in epilogue.leaves.iter().zip(&mut leaves) {
            moved(k, pointer, &leaf.view, leaf.dtype.size());
        }
        if let (Some(view), Some(ty), Some(pointer)) =
            (&request.places.result, request.results.first(), results.first_mut())
        {
            moved(k, pointer, view, epilogue.expr.dtype().unwrap_or(ty.dtype).size());
        }
        let (rows, level, scratch, constants) = Default::default();
        Emit { request, epilogue, operands, leaves, tables, results, rows, level, scratch, constants }
    }

    /// Determines where the rows of the leaves and of result 0 start.
    fn with_rows(mut self, k: &mut Builder) -> Result<Emit<'a>> {
        let (request, epilogue) = (self.request, self.epilogue);
        let Some(result) = request.results.first() else { return Ok(self) };
        let columns = column_axes(request.op, result.rank());
        let merged = |view: &View| {
            view.merged(&result.shape, columns)
                .ok_or_else(|| Error::internal(format!("no rows in {view:?} of {result}")))
        };
        let own = request.places.result.clone().unwrap_or_else(|| View::contiguous(&result.shape));
        let views: Vec<View> =
            epilogue.leaves.iter().map(|leaf| &leaf.view).chain([&own]).map(merged).collect::<Result<_>>()?;
        let (rows, last) = result.shape.split_at(result.rank() - columns);
        self.rows = self.row_starts(k, &views, &[rows, &[loops::product(last)]].concat());
        self.level = views.iter().map(|view| view.strides.last().is_none_or(|s| s.is(0))).collect();
        Ok(self)
    }

    /// The same, with result 0 at another pointer; the copy must not request memory.
    pub(crate) fn storing_at(&self, pointer: Val) -> Emit<'a> {
        Emit { results: vec![pointer], ..self.clone() }
    }

    /// Bytes of the requested scratch buffers, and the requested tables.
    pub(crate) fn wants(self) -> (Vec<Dim>, Vec<Bytes>) {
        (self.scratch.into_inner(), self.constants.into_inner())
    }

    /// Pointer to an operand.
    pub fn operand(&self, n: usize) -> Val {
        self.operands[n]
    }

    /// Elements between neighbours along each axis of an operand.
    pub fn strides(&self, operand: usize) -> Vec<Dim> {
        match self.request.places.operands.get(operand) {
            Some(Some(view)) => view.strides.clone(),
            _ => View::contiguous(&self.request.operands[operand].shape).strides,
        }
    }

    /// Whether an operand of Concat or Pad is already stored in the result.
    pub fn is_inside(&self, operand: usize) -> bool {
        self.request.places.inside.get(operand).copied().unwrap_or(false)
    }

    /// Row stride of result 0 in elements, if sums can be stored without an epilogue, at a constant stride.
    pub fn plain_rows(&self) -> Option<Dim> {
        match self.rows.last() {
            Some(RowStarts::Every(stride)) if self.epilogue.expr.nodes.is_empty() => Some(stride.clone()),
            _ => None,
        }
    }

    fn row_starts(&self, k: &mut Builder, views: &[View], shape: &[Dim]) -> Vec<RowStarts> {
        let mut listed: Vec<(&[Dim], Val)> = Vec::new();
        let rows = shape.len().saturating_sub(1);
        views
            .iter()
            .map(|view| {
                if let Some((stride, _)) = view.as_rows(shape) {
                    return RowStarts::Every(stride);
                }
                let strides = &view.strides[..rows];
                let known = listed.iter().find(|l| l.0 == strides).map(|l| l.1);
                let table = known.unwrap_or_else(|| {
                    let table = self.scratch(k, &loops::product(&shape[..rows]) * &Dim::from(8i64));
                    loops::each_coordinate(k, &shape[..rows], |k, coords| {
                        let (row, start) = (loops::flat(k, &shape[..rows], coords), loops::dot(k, strides, coords));
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

    /// Where a row of leaf `n` starts; the number after the last leaf is result 0.
    pub(crate) fn row_start(&self, k: &mut Builder, n: usize, row: Val) -> Val {
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

    /// Loads `lanes` consecutive elements of an operand, starting at flat index `index`, in its compute type.
    pub fn load(&self, k: &mut Builder, operand: usize, index: Val, lanes: u32) -> Val {
        let dtype = self.request.operands[operand].dtype;
        let from = k.at_index(self.operands[operand], index, dtype.size() as u32);
        numbers::load(k, dtype, from, lanes)
    }

    /// Applies the epilogue and stores lanes of result 0, starting at column `col` of row `row`. `v` is in the compute
    /// type of the operation's own result.
    pub fn store(&self, k: &mut Builder, row: Val, col: Val, v: Val) {
        let lanes = k.ty(v).lanes;
        if lanes > 1 && self.has_other_widths(k, v) {
            return loops::each_lane(k, lanes, |k, lane| {
                let (one, col) = (k.lane(v, lane), k.add_int(col, lane.into()));
                self.store(k, row, col, one);
            });
        }
        self.store_with(k, row, col, v, |k, n| self.leaf(k, n, row, col, lanes));
    }

    /// The same with a custom load of leaves.
    fn store_with(&self, k: &mut Builder, row: Val, col: Val, v: Val, leaf: impl FnMut(&mut Builder, usize) -> Val) {
        let out = self.epilogue.expr.emit(k, k.ty(v).lanes, Some(v), &self.tables, leaf);
        let dtype = self.epilogue.expr.dtype().unwrap_or(self.request.results[0].dtype);
        let index = self.index_of(k, row, col);
        let to = k.at_index(self.results[0], index, dtype.size() as u32);
        numbers::store(k, dtype, to, out.unwrap_or(v));
    }

    /// Whether the epilogue computes in another width: lanes of a wider type do not fit a register, those of a narrower
    /// one do not fill it.
    fn has_other_widths(&self, k: &Builder, v: Val) -> bool {
        let width = k.ty(v).elem.bytes();
        self.epilogue.expr.nodes.iter().any(|n: &ExprNode| numbers::compute_elem(n.dtype).bytes() != width)
    }

    /// Applies the epilogue and stores `columns` columns of result 0 from adjacent vectors, starting at column `col` of
    /// row `row`: up to four vectors together if it quantizes them to bytes.
    pub fn store_columns(&self, k: &mut Builder, row: Val, col: Val, vectors: &[Val], columns: u32) {
        let Some(&first) = vectors.first() else { return };
        let lanes = k.ty(first).lanes;
        let bytes = self.epilogue.expr.is_quantized() && lanes >= 4 && !self.has_other_widths(k, first);
        // Partial stores of bytes are cheap where partial stores of vectors are single instructions.
        let rest = columns % lanes;
        let partly = bytes && rest > 0 && lanes == 16 && k.has_masks();
        let mut done = 0;
        while done < columns {
            let col = k.add_int(col, i64::from(done));
            let left = &vectors[(done / lanes) as usize..columns.div_ceil(lanes) as usize];
            let whole = ((columns - done) / lanes).min(4);
            let now = match (bytes, whole) {
                (true, _) if partly && left.len() <= 4 => columns - done,
                (true, 1..) => lanes << whole.ilog2(),
                (_, 1..) => lanes,
                _ => columns - done,
            };
            match now {
                now if bytes && now > lanes => {
                    self.store_bytes(k, row, col, &left[..now.div_ceil(lanes) as usize], now);
                }
                now if now == lanes => self.store(k, row, col, left[0]),
                now if k.has_masks() && now > 1 => {
                    let count = k.int(i64::from(now));
                    k.partly(count, lanes, |k| self.store(k, row, col, left[0]));
                }
                now => {
                    for lane in 0..now {
                        let (one, col) = (k.lane(left[0], lane as u8), k.add_int(col, i64::from(lane)));
                        self.store(k, row, col, one);
                    }
                }
            }
            done += now;
        }
    }

    /// Applies the epilogue and stores the same number of vectors, starting at column `col`, in each of up to four rows
    /// of result 0: up to four vectors together if it quantizes them to bytes.
    pub fn store_pixels(&self, k: &mut Builder, rows: &[Val], col: Val, vectors: &[Val]) {
        let Some(lanes) = vectors.first().map(|&v| k.ty(v).lanes) else { return };
        let each = vectors.len() / rows.len().max(1);
        let cols: Vec<Val> = (0..each as u32).map(|v| k.add_int(col, i64::from(v * lanes))).collect();
        let other = self.has_other_widths(k, vectors[0]);
        let bytes = self.epilogue.expr.is_quantized() && lanes >= 4 && !other;
        // Leaves that are equal in all rows are loaded once.
        let mut level: HashMap<(usize, usize), Val> = HashMap::new();
        let mut leaf = |k: &mut Builder, n: usize, row: Val, v: usize| {
            let place = (n, if self.level[n] { 0 } else { v });
            let x = level.get(&place).copied().unwrap_or_else(|| self.leaf(k, n, row, cols[v], lanes));
            if matches!(&self.rows[n], RowStarts::Every(stride) if stride.is(0)) {
                level.insert(place, x);
            }
            x
        };
        if !bytes {
            let shares = self.epilogue.expr.quantizes() && !other;
            for (vectors, &row) in vectors.chunks(each).zip(rows) {
                for (i, &v) in vectors.iter().enumerate() {
                    match shares {
                        true => self.store_with(k, row, cols[i], v, |k, n| leaf(k, n, row, i)),
                        false => self.store(k, row, cols[i], v),
                    }
                }
            }
            return;
        }
        let at_once = (4 / each).max(1);
        for (rows, vectors) in rows.chunks(at_once).zip(vectors.chunks(at_once * each)) {
            let (mut parts, mut zero) = (Vec::with_capacity(4), None);
            for (i, &v) in vectors.iter().enumerate() {
                let leaf = |k: &mut Builder, n: usize| leaf(k, n, rows[i / each], i % each);
                if let Some((x, z)) = self.epilogue.expr.emit_unquantized(k, lanes, Some(v), &self.tables, leaf) {
                    parts.push(x);
                    zero = zero.or(Some(z));
                }
            }
            let (Some(zero), Some(&last)) = (zero, parts.last()) else { return };
            parts.resize(parts.len().next_power_of_two(), last);
            let Some(bytes) = self.epilogue.expr.emit_bytes(k, &parts, zero, &self.tables) else { return };
            for (i, &row) in rows.iter().enumerate() {
                let width = each as u32 * lanes;
                let own: Vec<u8> = (0..width).map(|lane| (i as u32 * width + lane) as u8).collect();
                let part = k.shuffle(bytes, bytes, &own);
                let index = self.index_of(k, row, col);
                let to = k.at_index(self.results[0], index, 1);
                k.store(to, part);
            }
        }
    }

    fn store_bytes(&self, k: &mut Builder, row: Val, col: Val, vectors: &[Val], columns: u32) {
        let lanes = k.ty(vectors[0]).lanes;
        let (mut parts, mut zero) = (Vec::with_capacity(4), None);
        for (i, &v) in vectors.iter().enumerate() {
            let begin = i as u32 * lanes;
            let col = k.add_int(col, i64::from(begin));
            let mut one = |k: &mut Builder| {
                let leaf = |k: &mut Builder, n: usize| self.leaf(k, n, row, col, lanes);
                if let Some((x, z)) = self.epilogue.expr.emit_unquantized(k, lanes, Some(v), &self.tables, leaf) {
                    parts.push(x);
                    zero = zero.or(Some(z));
                }
            };
            if columns - begin < lanes {
                let count = k.int(i64::from(columns - begin));
                k.partly(count, lanes, one);
            } else {
                one(k);
            }
        }
        let (Some(zero), Some(&last)) = (zero, parts.last()) else { return };
        parts.resize(parts.len().next_power_of_two(), last);
        let Some(bytes) = self.epilogue.expr.emit_bytes(k, &parts, zero, &self.tables) else { return };
        let index = self.index_of(k, row, col);
        let to = k.at_index(self.results[0], index, 1);
        let count = k.int(i64::from(columns));
        k.store_part(to, bytes, count);
    }

    /// Lanes of leaf `n` of the epilogue, starting at column `col` of row `row`.
    fn leaf(&self, k: &mut Builder, n: usize, row: Val, col: Val, lanes: u32) -> Val {
        let leaf = &self.epilogue.leaves[n];
        let mut index = self.row_start(k, n, row);
        if !self.level[n] {
            index = k.add(index, col);
        }
        let from = k.at_index(self.leaves[n], index, leaf.dtype.size() as u32);
        let wide = if self.level[n] { 1 } else { lanes };
        let loaded = numbers::load(k, leaf.dtype, from, wide);
        if wide == lanes { loaded } else { k.splat(loaded, lanes) }
    }

    /// Stores an element (or lanes) of a result other than the first, at a flat index.
    pub fn store_result(&self, k: &mut Builder, result: usize, index: Val, v: Val) {
        let dtype = self.request.results[result].dtype;
        let to: Addr = k.at_index(self.results[result], index, dtype.size() as u32);
        numbers::store(k, dtype, to, v);
    }

    /// Pointer to a result, for kernels that write it in bulk: only if [`Emit::is_plain`].
    pub fn result(&self, n: usize) -> Val {
        self.results[n]
    }

    /// Elements in a row of result 0.
    pub fn columns(&self) -> Dim {
        self.request.results[0].shape.last().cloned().unwrap_or(Dim::ONE)
    }

    /// Whether result 0 is contiguous and stored without an epilogue.
    pub fn is_plain(&self) -> bool {
        self.epilogue.expr.nodes.is_empty() && self.request.places.result.is_none()
    }

    /// Scratch memory, 64-byte aligned and uninitialized. Must be requested before any constant.
    pub fn scratch(&self, k: &mut Builder, bytes: Dim) -> Val {
        assert!(self.constants.borrow().is_empty(), "constants are the last pointers");
        self.scratch.borrow_mut().push(bytes);
        k.new_pointer()
    }

    /// A read-only table, 64-byte aligned.
    pub fn constant(&self, k: &mut Builder, data: Bytes) -> Val {
        self.constants.borrow_mut().push(data);
        k.new_pointer()
    }
}
