//! Kernels: how each operation becomes loops. One file an operator family, one arm in [`build`] an operation.
//!
//! A kernel author reads operands with [`Emit::load`] and writes result 0 with [`Emit::store`], which applies the
//! epilogue (the element-wise operations that lowering fused behind the operation). Bounds may be constants or
//! run-time values: take them from [`Builder::dim`] and never ask which.

mod arg_reduce;
mod col2im;
mod concat;
mod contract;
#[cfg(test)]
mod contract_tests;
mod conv;
mod cumulative;
mod depthwise;
mod dot;
#[cfg(test)]
mod dot_tests;
mod expand;
mod gather;
mod grid_sample;
mod igemm;
mod interleave;
mod iota;
#[cfg(test)]
mod movement_tests;
mod nest;
mod non_zero;
mod normalize;
mod pad;
pub mod pointwise;
mod pool;
mod recurrent;
#[cfg(test)]
mod recurrent_tests;
mod reduce;
#[cfg(test)]
mod reduction_tests;
mod resize;
mod reverse_sequence;
mod run;
mod scatter;
#[cfg(test)]
mod search_tests;
mod softmax;
mod suppress;
#[cfg(test)]
mod testing;
mod top_k;
mod tree_ensemble;
mod winograd;

use std::cell::RefCell;

use bytes::Bytes;
use mcc_targets::Target;

use super::expr::{Expr, ExprNode};
use super::kir::{Addr, Builder, Kernel, Val};
use super::numbers;
use super::view::View;
use crate::ir::{Dim, Op, Tensor, TensorType};
use crate::{Error, Result};

/// What an operation is to be built for.
pub struct Site<'a> {
    /// The operation.
    pub op: &'a Op,
    /// Types of its operands.
    pub operands: &'a [TensorType],
    /// The operands that are constants (they are still passed as pointers).
    pub constants: &'a [Option<Tensor>],
    /// Types of its own results, before the epilogue.
    pub results: &'a [TensorType],
    /// Where they lie in larger buffers.
    pub places: &'a Places,
    /// The machine.
    pub target: &'a Target,
}

/// Operands and a result that are parts of larger buffers, which makes concatenations, slices and padding free. Only
/// what [`reads_spaced`] and [`fuses`] allow; by default everything lies in order from its pointer on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Places {
    /// Operands that do not lie in order.
    pub operands: Vec<Option<View>>,
    /// Result 0 if it does not lie in order. Its columns are adjacent.
    pub result: Option<View>,
    /// Concat, Pad: the operands that lie in the result already.
    pub inside: Vec<bool>,
}

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
    site: &'a Site<'a>,
    epilogue: &'a Epilogue,
    operands: Vec<Val>,
    leaves: Vec<Val>,
    results: Vec<Val>,
    /// Rows of the leaves, then of result 0.
    rows: Vec<RowStarts>,
    scratch: RefCell<Vec<Dim>>,
    constants: RefCell<Vec<Bytes>>,
}

/// A kernel and what it wants as its last pointers: scratch buffers, then constants.
pub struct Built {
    /// The kernel.
    pub kernel: Kernel,
    /// Bytes of each scratch buffer. The last one of [`Op::NonZero`] receives the value of `count` as an `i64`.
    pub scratch: Vec<Dim>,
    /// Read-only tables.
    pub constants: Vec<Bytes>,
}

/// Builds the kernel of an operation with an epilogue.
///
/// # Errors
/// When there is no kernel for this operation on these types; the message says what is missing.
pub fn build(site: &Site<'_>, epilogue: &Epilogue) -> Result<Built> {
    // What lies in the result already leaves little to do.
    let little = site.places.inside.contains(&true);
    let threads = if is_parallel(site.op) && !little { site.target.threads } else { 1 };
    let mut k = Builder::new(site.op.name(), 0).with_masks(site.target.has_masks()).with_threads(threads);
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
            moved(&mut k, pointer, view, site.operands[n].dtype.size());
        }
    }
    for (leaf, pointer) in epilogue.leaves.iter().zip(&mut leaves) {
        moved(&mut k, pointer, &leaf.view, leaf.dtype.size());
    }
    if let (Some(view), Some(ty), Some(pointer)) = (&site.places.result, site.results.first(), results.first_mut()) {
        moved(&mut k, pointer, view, epilogue.expr.dtype().unwrap_or(ty.dtype).size());
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
    emit.rows = emit.row_starts(&mut k);
    dispatch(site, &emit, &mut k)?;
    Ok(Built { kernel: k.finish(), scratch: emit.scratch.into_inner(), constants: emit.constants.into_inner() })
}

fn dispatch(site: &Site<'_>, e: &Emit<'_>, k: &mut Builder) -> Result<()> {
    match site.op {
        Op::Iota { dtype, axis, .. } => iota::iota(e, k, *dtype, *axis),
        Op::Concat { axis } => concat::concat(e, k, *axis),
        Op::Pad { before, after, mode } => pad::pad(e, k, before, after, *mode),
        Op::Gather { axis } => gather::gather(e, k, *axis),
        Op::GatherElements { axis } => gather::gather_elements(e, k, *axis),
        Op::GatherNd { batch_dims } => gather::gather_nd(e, k, *batch_dims),
        Op::ScatterElements { axis, reduction } => scatter::scatter_elements(e, k, *axis, *reduction),
        Op::ScatterNd { reduction } => scatter::scatter_nd(e, k, *reduction),
        Op::ReverseSequence { batch_axis, time_axis } => {
            reverse_sequence::reverse_sequence(e, k, *batch_axis, *time_axis)
        }
        Op::Resize { rule, .. } => resize::resize(e, k, rule),
        Op::GridSample { mode, padding, align_corners } => {
            let rule = grid_sample::Rule { mode: *mode, padding: *padding, align_corners: *align_corners };
            grid_sample::grid_sample(e, k, rule)
        }
        Op::MatMul => igemm::matmul(site, e, k),
        Op::PackedMatMul { n } => igemm::packed_matmul(site, e, k, n),
        Op::Conv(spec) => conv::conv(site, e, k, spec),
        Op::PackedConv { spec, out } => igemm::packed_conv(site, e, k, spec, *out),
        Op::DotConv { spec, kernel, out } => dot::dot_conv(site, e, k, spec, kernel, *out),
        Op::WinogradConv { size, out } => winograd::winograd_conv(site, e, k, size, *out),
        Op::DepthwiseConv(spec) => depthwise::depthwise_conv(site, e, k, spec),
        Op::ConvTranspose { .. } => missing(site),
        Op::Col2Im { spec, kernel, size } => col2im::col2im(site, e, k, spec, kernel, size),
        Op::Pool(spec) => pool::pool(e, k, spec),
        Op::MaxPoolWithIndices { spec, column_major } => pool::max_pool_with_indices(e, k, spec, *column_major),
        Op::Reduce { kind, axes, keep } => reduce::reduce(e, k, *kind, axes, *keep),
        Op::ArgReduce { largest, axis, last, .. } => arg_reduce::arg_reduce(e, k, *largest, *axis, *last),
        Op::Cumulative { kind, axis, exclusive, reverse } => {
            cumulative::cumulative(e, k, *kind, *axis, *exclusive, *reverse)
        }
        Op::Softmax { axis, log } => softmax::softmax(e, k, *axis, *log),
        Op::Normalize { axis, epsilon, center } => normalize::normalize(e, k, *axis, epsilon.get(), *center),
        Op::TopK { k: count, axis, largest } => top_k::top_k(e, k, count, *axis, *largest),
        Op::Recurrent(spec) => recurrent::recurrent(e, k, spec),
        Op::NonZero { .. } => non_zero::non_zero(e, k),
        Op::Suppress => suppress::suppress(e, k),
        Op::TreeEnsemble(trees) => tree_ensemble::tree_ensemble(e, k, trees),
        // Lowering turns these into buffers, views and element-wise kernels; none reaches this point.
        Op::Input(..)
        | Op::Constant(_)
        | Op::Dims(_)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Select
        | Op::Cast { .. }
        | Op::Bitcast { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Broadcast { .. }
        | Op::Slice { .. } => {
            Err(Error::internal(format!("{} is not lowered through a kernel of its own", site.op.name())))
        }
    }
}

/// Whether the kernel of an operation keeps to what [shared kernels](super::kir::share) must, so that its parallel loops
/// may be shared.
fn is_parallel(op: &Op) -> bool {
    match op {
        Op::Iota { .. }
        | Op::Concat { .. }
        | Op::Pad { .. }
        | Op::Gather { .. }
        | Op::GatherElements { .. }
        | Op::GatherNd { .. }
        | Op::Resize { .. }
        | Op::GridSample { .. }
        | Op::MatMul
        | Op::PackedMatMul { .. }
        | Op::Conv(_)
        | Op::PackedConv { .. }
        | Op::DotConv { .. }
        | Op::WinogradConv { .. }
        | Op::DepthwiseConv(_)
        | Op::Pool(_)
        | Op::MaxPoolWithIndices { .. }
        | Op::Reduce { .. }
        | Op::ArgReduce { .. }
        | Op::Softmax { .. }
        | Op::Normalize { .. } => true,
        // Steps that need one another, sums in place, or too little to do.
        Op::ReverseSequence { .. }
        | Op::ConvTranspose { .. }
        | Op::Col2Im { .. }
        | Op::ScatterElements { .. }
        | Op::ScatterNd { .. }
        | Op::Cumulative { .. }
        | Op::TopK { .. }
        | Op::Recurrent(_)
        | Op::NonZero { .. }
        | Op::Suppress
        | Op::TreeEnsemble(_) => false,
        Op::Input(..)
        | Op::Constant(_)
        | Op::Dims(_)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Select
        | Op::Cast { .. }
        | Op::Bitcast { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Broadcast { .. }
        | Op::Slice { .. } => false,
    }
}

/// Whether the kernel of an operation stores result 0 through [`Emit::store`] alone (or in bulk only where
/// [`Emit::is_plain`]), so that it can have an epilogue.
pub fn fuses(op: &Op) -> bool {
    match op {
        Op::Iota { .. }
        | Op::Concat { .. }
        | Op::Pad { .. }
        | Op::Gather { .. }
        | Op::GatherElements { .. }
        | Op::GatherNd { .. }
        | Op::ReverseSequence { .. }
        | Op::Resize { .. }
        | Op::GridSample { .. }
        | Op::MatMul
        | Op::PackedMatMul { .. }
        | Op::Conv(_)
        | Op::PackedConv { .. }
        | Op::DotConv { .. }
        | Op::WinogradConv { .. }
        | Op::DepthwiseConv(_)
        | Op::Col2Im { .. }
        | Op::Pool(_)
        | Op::Reduce { .. }
        | Op::ArgReduce { .. }
        | Op::Softmax { .. }
        | Op::Normalize { .. }
        | Op::TreeEnsemble(_) => true,
        // These read their own result again, or have several.
        Op::ScatterElements { .. }
        | Op::ScatterNd { .. }
        | Op::ConvTranspose { .. }
        | Op::MaxPoolWithIndices { .. }
        | Op::Cumulative { .. }
        | Op::TopK { .. }
        | Op::Recurrent(_)
        | Op::NonZero { .. }
        | Op::Suppress => false,
        Op::Input(..)
        | Op::Constant(_)
        | Op::Dims(_)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Select
        | Op::Cast { .. }
        | Op::Bitcast { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Broadcast { .. }
        | Op::Slice { .. } => false,
    }
}

/// Whether the kernel of an operation reads an operand through [`Emit::strides`], so that it may be part of a larger
/// buffer: its last axis in order, the others at these distances.
pub fn reads_spaced(op: &Op, operand: usize, strides: &[Dim]) -> bool {
    let fixed = |from: usize| strides.iter().skip(from).all(|s| s.as_const().is_some());
    match op {
        Op::Concat { .. } => true,
        Op::PackedConv { .. } | Op::Pad { .. } => operand == 0,
        // Distances between columns, and here also between rows, are part of the code.
        Op::DepthwiseConv(_) => operand == 0 && fixed(strides.len().saturating_sub(2)),
        Op::WinogradConv { .. } => operand == 0 && fixed(1),
        Op::Pool(spec) => spec.layout == crate::ir::Layout::ChannelsLast,
        _ => false,
    }
}

fn missing(site: &Site<'_>) -> Result<()> {
    Err(Error::unsupported(format!("{}: no kernel for {:?}", site.op.name(), site.operands)))
}

impl Emit<'_> {
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
    fn row_start(&self, k: &mut Builder, n: usize, row: Val) -> Val {
        match &self.rows[n] {
            RowStarts::Every(stride) => {
                let stride = k.dim(stride);
                k.mul(row, stride)
            }
            RowStarts::Listed(table) => {
                let from = k.at_index(*table, row, 8);
                k.load(super::kir::Ty::I64, from)
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
