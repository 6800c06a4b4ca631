//! Resize. Each resized axis first gets a table in scratch memory: the operand elements and weights of every result
//! coordinate. Nearest copies runs along the axes after the last resized one; interpolation sums whole rows, and
//! interpolates along the last axis within such a sum.

mod table;

use mcc_targets::schedule::loops::MAX_UNROLLED_TAPS;

use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{cover, flat, parallel_coordinates, product, spot};
use crate::kernels::support::request::missing;
use crate::kir::{Bin, Builder, Cmp, Elem, Ty, Val};
use crate::numbers;
use mcc_ir::Result;
use mcc_ir::{CoordinateMode, DType, Dim, ResizeRule, SampleMode};

pub use table::cubic;
use table::{Table, taps};

const F64: Ty = Ty::new(Elem::F64, 1);

/// ONNX Resize.
///
/// # Errors
/// When the filter of a shrinking antialiased axis is too wide.
pub fn resize(e: &Emit<'_>, k: &mut Builder, rule: &ResizeRule) -> Result<()> {
    let (x, out) = (e.shape(0), e.out_shape());
    let crops = rule.coordinates == CoordinateMode::TfCropAndResize;
    let elem = numbers::compute_elem(real(e.dtype(0)));
    let mut tables = Vec::new();
    for axis in 0..x.len() {
        if rule.scales[axis].get() == 1.0 && x[axis] == out[axis] && !crops {
            continue;
        }
        let taps = taps(rule, axis, &x[axis], &out[axis]);
        if taps.as_const().is_some_and(|t| !(1..1 << 16).contains(&t)) {
            return missing(e.request);
        }
        let entries = &(&out[axis] * &taps) * &Dim::from(8i64);
        let indices = e.scratch(k, entries.clone());
        let weights = e.scratch(k, entries);
        let outside = e.scratch(k, &out[axis] * &Dim::from(8i64));
        tables.push(Table { axis, taps, indices, weights, outside, real: Ty::new(elem, 1) });
    }
    for table in &tables {
        table.fill(k, rule, &x[table.axis], &out[table.axis]);
    }
    let resize = Resize { e, rule, tables: &tables, real: real(e.dtype(0)) };
    if crops {
        resize.element_by_element(k);
    } else if rule.mode == SampleMode::Nearest {
        resize.nearest(k);
    } else if tables.last().is_some_and(|t| t.axis + 1 == x.len()) {
        resize.along_rows(k);
    } else {
        resize.whole_rows(k);
    }
    Ok(())
}

/// The type to interpolate in.
fn real(dtype: DType) -> DType {
    match dtype {
        DType::F64 | DType::I32 | DType::U32 | DType::I64 | DType::U64 => DType::F64,
        _ => DType::F32,
    }
}

struct Resize<'a> {
    e: &'a Emit<'a>,
    rule: &'a ResizeRule,
    tables: &'a [Table],
    real: DType,
}

impl Resize<'_> {
    fn table(&self, axis: usize) -> Option<&Table> {
        self.tables.iter().find(|t| t.axis == axis)
    }

    /// Copies the axes after the last resized one, or single elements along it.
    fn nearest(&self, k: &mut Builder) {
        let (x, out) = (self.e.shape(0), self.e.out_shape());
        let zero = k.int(0);
        let depth = self.tables.last().map_or(0, |t| t.axis + 1);
        let source = |k: &mut Builder, coords: &[Val]| {
            let mut at = Vec::with_capacity(coords.len());
            for (axis, &c) in coords.iter().enumerate() {
                at.push(match self.table(axis) {
                    Some(table) => table.index(k, c, zero),
                    None => c,
                });
            }
            flat(k, &x[..coords.len()], &at)
        };
        if depth == out.len() && depth > 0 {
            let (rows, inner) = (&out[..depth - 1], k.dim(&x[depth - 1]));
            let cols = k.dim(&out[depth - 1]);
            let Some(table) = self.tables.last() else { return };
            parallel_coordinates(k, rows, |k, coords| {
                let row = flat(k, rows, coords);
                let line = source(k, coords);
                let start = k.mul(line, inner);
                k.for_each(zero, cols, 1, |k, col| {
                    let i = table.index(k, col, zero);
                    let from = k.add(start, i);
                    self.e.relay(k, 0, from, row, col, 1);
                });
            });
            return;
        }
        let (lead_shape, tail) = out.split_at(depth);
        let run = k.dim(&product(tail));
        parallel_coordinates(k, lead_shape, |k, coords| {
            let block = source(k, coords);
            let from = k.mul(block, run);
            let lead = flat(k, lead_shape, coords);
            self.e.relay_block(k, 0, from, lead, tail);
        });
    }

    /// Sums of rows: the axes after the last resized one stay whole.
    fn whole_rows(&self, k: &mut Builder) {
        let (x, out) = (self.e.shape(0), self.e.out_shape());
        let depth = self.tables.last().map_or(0, |t| t.axis + 1);
        let (lead_shape, tail) = out.split_at(depth);
        let Some((last, rows)) = tail.split_last() else { return };
        let (zero, last, rows) = (k.int(0), k.dim(last), k.dim(&product(rows)));
        let lanes = self.lanes();
        parallel_coordinates(k, lead_shape, |k, coords| {
            let blocks = self.blocks(k, &x[..depth], coords);
            let lead = flat(k, lead_shape, coords);
            let first = k.mul(lead, rows);
            k.for_each(zero, rows, 1, |k, r| {
                let row = k.add(first, r);
                cover(k, last, lanes, |k, col, lanes| {
                    let v = self.sum(k, &blocks, lanes, |k, block| {
                        let line = k.mul(block, rows);
                        let line = k.add(line, r);
                        let start = k.mul(line, last);
                        k.add(start, col)
                    });
                    let v = self.finish(k, v);
                    self.e.store(k, row, col, v);
                });
            });
        });
    }

    /// Sums of rows in scratch memory, then interpolation along each row.
    fn along_rows(&self, k: &mut Builder) {
        let (x, out) = (self.e.shape(0), self.e.out_shape());
        let (Some((last_out, rows)), Some((last, outer)), Some((table, _))) =
            (out.split_last(), x.split_last(), self.tables.split_last())
        else {
            return;
        };
        let elem = Ty::new(numbers::compute_elem(self.real), 1);
        let line = self.e.scratch(k, last * &Dim::from(i64::from(elem.bytes())));
        let (zero, n, cols) = (k.int(0), k.dim(last), k.dim(last_out));
        parallel_coordinates(k, rows, |k, coords| {
            let row = flat(k, rows, coords);
            let blocks = self.blocks(k, outer, coords);
            cover(k, n, self.lanes(), |k, i, lanes| {
                let v = self.sum(k, &blocks, lanes, |k, block| {
                    let start = k.mul(block, n);
                    k.add(start, i)
                });
                let to = k.at_index(line, i, elem.bytes());
                k.store(to, v);
            });
            k.for_each(zero, cols, 1, |k, col| {
                let init = k.zero(elem);
                let v = each_tap(k, &table.taps, init, |k, tap, sum| {
                    let index = table.index(k, col, tap);
                    let weight = table.weight(k, col, tap);
                    let from = k.at_index(line, index, elem.bytes());
                    let v = k.load(elem, from);
                    k.fma(v, weight, sum)
                });
                let v = self.finish(k, v);
                self.e.store(k, row, col, v);
            });
        });
    }

    /// Crops: any mode, slowly; elements outside get the extrapolation value.
    fn element_by_element(&self, k: &mut Builder) {
        let (x, out) = (self.e.shape(0), self.e.out_shape());
        parallel_coordinates(k, out, |k, coords| {
            let zero = k.int(0);
            let blocks = self.blocks(k, x, coords);
            let v = self.sum(k, &blocks, 1, |_, block| block);
            let mut outside = zero;
            for table in self.tables {
                let from = k.at_index(table.outside, coords[table.axis], 8);
                let flag = k.load(Ty::I64, from);
                outside = k.bin(Bin::Or, outside, flag);
            }
            let outside = k.cmp(Cmp::Ne, outside, zero);
            let other = k.float(self.rule.extrapolation.get(), k.ty(v));
            let v = k.select(outside, other, v);
            let v = self.finish(k, v);
            let (row, col) = spot(k, out, coords);
            self.e.store(k, row, col, v);
        });
    }

    /// The operand blocks of the result block at `coords`; `shape` are the operand's leading axes.
    fn blocks<'a>(&'a self, k: &mut Builder, shape: &'a [Dim], coords: &[Val]) -> Blocks<'a> {
        let short = |t: &Table| t.axis >= coords.len() || is_short(&t.taps);
        if !self.tables.iter().all(short) {
            return Blocks::Walk { shape, coords: coords.to_vec() };
        }
        let mut blocks: Vec<(Val, Option<Val>)> = vec![(k.int(0), None)];
        for (axis, &c) in coords.iter().enumerate() {
            let extent = k.dim(&shape[axis]);
            let table = self.table(axis);
            let own: Vec<(Val, Option<Val>)> = match table {
                None => vec![(c, None)],
                Some(table) => (0..table.taps.as_const().unwrap_or(0))
                    .map(|tap| {
                        let tap = k.int(tap);
                        (table.index(k, c, tap), Some(table.weight(k, c, tap)))
                    })
                    .collect(),
            };
            let mut next = Vec::with_capacity(blocks.len() * own.len());
            for &(block, weight) in &blocks {
                let start = k.mul(block, extent);
                for &(i, w) in &own {
                    let weight = match (weight, w) {
                        (Some(a), Some(b)) => Some(k.mul(a, b)),
                        (a, b) => a.or(b),
                    };
                    next.push((k.add(start, i), weight));
                }
            }
            blocks = next;
        }
        Blocks::List(blocks)
    }

    /// The weighted sum of lanes of all blocks; `at` gives the operand's flat index for a block.
    fn sum(
        &self,
        k: &mut Builder,
        blocks: &Blocks<'_>,
        lanes: u32,
        mut at: impl FnMut(&mut Builder, Val) -> Val,
    ) -> Val {
        let ty = Ty::new(numbers::compute_elem(self.real), lanes);
        let mut add = |k: &mut Builder, sum: Val, block: Val, weight: Option<Val>| {
            let index = at(k, block);
            let v = self.e.load(k, 0, index, lanes);
            let v = self.as_real(k, v);
            match weight {
                Some(weight) => {
                    let weight = k.splat(weight, lanes);
                    k.fma(v, weight, sum)
                }
                None => k.add(sum, v),
            }
        };
        let zero = k.zero(ty);
        match blocks {
            Blocks::List(list) => list.iter().fold(zero, |sum, &(block, weight)| add(k, sum, block, weight)),
            Blocks::Walk { shape, coords } => {
                let first = k.int(0);
                let at = Tap { shape, coords, axis: 0, block: first, weight: None };
                self.walk(k, at, zero, &mut add)
            }
        }
    }

    /// Accumulates all blocks of a tap into a sum.
    fn walk(&self, k: &mut Builder, at: Tap<'_>, sum: Val, add: &mut AddBlock<'_>) -> Val {
        let Some(&c) = at.coords.get(at.axis) else { return add(k, sum, at.block, at.weight) };
        let extent = k.dim(&at.shape[at.axis]);
        let start = k.mul(at.block, extent);
        let Some(table) = self.table(at.axis) else {
            let block = k.add(start, c);
            return self.walk(k, Tap { axis: at.axis + 1, block, ..at }, sum, add);
        };
        each_tap(k, &table.taps, sum, |k, tap, sum| {
            let index = table.index(k, c, tap);
            let own = table.weight(k, c, tap);
            let block = k.add(start, index);
            let weight = match at.weight {
                Some(weight) => k.mul(weight, own),
                None => own,
            };
            self.walk(k, Tap { axis: at.axis + 1, block, weight: Some(weight), ..at }, sum, add)
        })
    }

    /// Lanes that fit a register both for the operand and for the interpolation.
    fn lanes(&self) -> u32 {
        self.e.lanes(self.e.dtype(0)).min(self.e.lanes(self.real)).min(
            if numbers::compute_elem(self.e.dtype(0)).bytes() == numbers::compute_elem(self.real).bytes() {
                u32::MAX
            } else {
                1
            },
        )
    }

    fn as_real(&self, k: &mut Builder, v: Val) -> Val {
        let dtype = self.e.dtype(0);
        if dtype.is_float() { v } else { numbers::cast(k, v, dtype, self.real, false) }
    }

    /// Converts back to the result's register type.
    fn finish(&self, k: &mut Builder, v: Val) -> Val {
        let dtype = self.e.dtype(0);
        if dtype.is_float() { v } else { numbers::cast(k, v, self.real, dtype, false) }
    }
}

/// The blocks of the operand whose weighted sum is a block of the result.
enum Blocks<'a> {
    /// Index and weight of each; `None` means weight 1.
    List(Vec<(Val, Option<Val>)>),
    /// Too many to list: visited by loops.
    Walk { shape: &'a [Dim], coords: Vec<Val> },
}

/// Adds a block with a weight to a sum; `None` means weight 1.
type AddBlock<'a> = dyn FnMut(&mut Builder, Val, Val, Option<Val>) -> Val + 'a;

/// The state of a walk through the operand's blocks: the axes before `axis` are fixed.
#[derive(Clone, Copy)]
struct Tap<'a> {
    shape: &'a [Dim],
    /// Coordinates in the result.
    coords: &'a [Val],
    axis: usize,
    /// Number of the block, along the fixed axes.
    block: Val,
    weight: Option<Val>,
}

/// Accumulates a sum over all taps, unrolled if they are few.
fn each_tap(k: &mut Builder, taps: &Dim, init: Val, mut step: impl FnMut(&mut Builder, Val, Val) -> Val) -> Val {
    let (zero, count) = (k.int(0), k.dim(taps));
    if is_short(taps) {
        return (0..taps.as_const().unwrap_or(0)).fold(init, |sum, tap| {
            let tap = k.int(tap);
            step(k, tap, sum)
        });
    }
    k.fold_loop(zero, count, 1, &[init], |k, tap, sum| vec![step(k, tap, sum[0])])[0]
}

fn is_short(taps: &Dim) -> bool {
    taps.as_const().is_some_and(|t| t <= MAX_UNROLLED_TAPS)
}
