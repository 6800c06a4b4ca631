//! Recurrent layers, one direction: per step, the product of all sequences' states with `r`, then the gates.
//!
//! The product is a contraction like any other ([`crate::kernels::gemm`]), over `r` in panels or as a plain matrix; if
//! `r` is codes, they are decoded in registers ([`crate::kernels::lowbit`]); if states are rounded to 8 bits and `r` is
//! bytes, a byte product ([`crate::kernels::int8::dot`]). States are stored in scratch memory in the register type.

mod cell;
mod coded;
mod rounded;

use crate::kernels::gemm::{Contraction, Extents, Job, Panels, Rows};
use crate::kernels::lowbit::Weights;
use crate::kernels::reduce::run::arithmetic;
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{cover, product};
use crate::kernels::support::request::missing;
use crate::kir::{Builder, Cmp, Ty, Val};
use crate::numbers;
use mcc_ir::Result;
use mcc_ir::{Cell, CellSpec, DType, Dim};
use rounded::{ByteProduct, ByteShape};

/// See [`CellSpec`].
pub fn recurrent(e: &Emit<'_>, k: &mut Builder, spec: &CellSpec) -> Result<()> {
    let [time, batch, width] = e.shape(0) else { return missing(e.request) };
    let [_, hidden] = e.shape(2) else { return missing(e.request) };
    let operands = Operands::of(spec);
    let products = match spec.coded {
        Some(coded) => Products::coded(e, spec, coded, [batch, width, hidden])?,
        None => Products::new(e, spec, batch, width, hidden),
    };
    let Some(products) = products else { return missing(e.request) };
    let mut layer = Layer::new(e, k, spec, operands, &products);
    let mut of_states = None;
    if e.dtype(1) == DType::I8 {
        let (Some(depth), Some(columns)) = (hidden.as_const(), width.as_const()) else { return missing(e.request) };
        let Some(used) = layer.used else { return missing(e.request) };
        let panel = products.panel;
        let shape = ByteShape { batch, depth, columns, panel };
        let (bytes, product) = ByteProduct::new(e, k, shape, used, layer.gates.at);
        layer.bytes = Some(bytes);
        of_states = Some(product);
    }
    let layer = layer;
    let (zero, time, batch_val) = (k.int(0), k.dim(time), k.dim(batch));
    let all = k.dim(&product(&[batch.clone(), hidden.clone()]));
    layer.copy_in(k, 2, layer.h, all);
    if let (Some(c0), Some(c)) = (operands.c0, layer.c) {
        layer.copy_in(k, c0, c, all);
    }
    let last = k.add_int(time, -1);
    k.for_each(zero, time, 1, |k, t| {
        let t = if spec.reverse { k.sub(last, t) } else { t };
        let first = k.mul(t, batch_val);
        if let (Some(used), Some(_)) = (layer.used, operands.scales) {
            k.for_each(zero, batch_val, 1, |k, b| layer.quantize(k, b, used));
            match &of_states {
                Some(product) => product.emit(k, used, e.operand(1), zero),
                None => products.early(k, used, &layer.gates),
            }
        } else {
            products.early(k, layer.h, &layer.gates);
        }
        if let (Some(used), Some(late)) = (layer.used, &layer.late) {
            k.for_each(zero, batch_val, 1, |k, b| {
                let row = k.add(first, b);
                layer.reset(k, row, b, used);
            });
            products.late(k, used, late);
        }
        k.for_each(zero, batch_val, 1, |k, b| {
            let row = k.add(first, b);
            let Some(lengths) = operands.lengths else { return layer.units(k, row, b) };
            let length = e.load_index(k, lengths, b);
            let (live, over) = (k.cmp(Cmp::Lt, t, length), k.cmp(Cmp::Ge, t, length));
            k.when(live, |k| layer.units(k, row, b));
            k.when(over, |k| {
                cover(k, layer.n, layer.lanes, |k, j, lanes| {
                    let v = k.zero(layer.elem.with_lanes(lanes));
                    e.store(k, row, j, v);
                });
            });
        });
    });
    for (result, state) in [(1, Some(layer.h)), (2, layer.c)] {
        let Some(state) = state else { continue };
        cover(k, all, layer.lanes, |k, i, lanes| {
            let v = layer.get(k, state, i, lanes);
            e.store_result(k, result, i, v);
        });
    }
    Ok(())
}

/// Indices of the optional operands, in order.
#[derive(Clone, Copy)]
struct Operands {
    /// The initial cell state.
    c0: Option<usize>,
    rbh: Option<usize>,
    peephole: Option<usize>,
    lengths: Option<usize>,
    scales: Option<usize>,
    /// The first of the parameters of codes.
    parameters: Option<usize>,
}

impl Operands {
    fn of(spec: &CellSpec) -> Operands {
        let mut last = 2;
        let mut next = |there: bool| {
            last += usize::from(there);
            there.then_some(last)
        };
        Operands {
            c0: next(spec.cell == Cell::Lstm),
            rbh: next(spec.cell == Cell::Gru { linear_before_reset: true }),
            peephole: next(spec.peephole),
            lengths: next(spec.lengths),
            scales: next(spec.quantized),
            parameters: next(spec.coded.is_some()),
        }
    }
}

/// How states are multiplied by `r`.
enum By<'a, 'b> {
    /// By its numbers.
    Numbers(Contraction<'a, 'b>),
    /// By its codes.
    Codes(Weights<'a, 'b>),
}

/// The products of states and `r`: of the states themselves and, if a gate resets states, of the reset ones.
struct Products<'a, 'b> {
    e: &'b Emit<'a>,
    by: By<'a, 'b>,
    batch: &'b Dim,
    hidden: &'b Dim,
    width: &'b Dim,
    /// Columns of a panel of `r`, or of as many as are decoded together.
    panel: u32,
    early_columns: Dim,
    late_columns: Option<Dim>,
    /// The first panel of the product of reset states.
    late_panel: i64,
}

impl<'a, 'b> Products<'a, 'b> {
    fn new(e: &'b Emit<'a>, spec: &CellSpec, batch: &'b Dim, width: &'b Dim, hidden: &'b Dim) -> Option<Self> {
        let r = &e.request.operands[1].shape;
        let panel = match r.as_slice() {
            [_, _, panel] | [_, _, panel, _] => u32::try_from(panel.as_const()?).ok()?,
            _ => 1,
        };
        let panels = if r.len() == 2 { Panels::Rows } else { Panels::Packed(panel) };
        let row_bytes = hidden * &Dim::from(i64::from(register(e).bytes()));
        let extents = Extents { rows: batch, columns: width, depth: hidden };
        let mut contraction = Contraction::new(e.request, e, panels, extents, &row_bytes);
        contraction.left = arithmetic(e.dtype(0));
        contraction.right = if e.dtype(1) == DType::I8 { contraction.left } else { contraction.right };
        contraction.run = hidden.clone();
        let resets = spec.cell == Cell::Gru { linear_before_reset: false };
        let (early_columns, late_columns, late_panel) = match (resets, r.len()) {
            (false, _) => (width.clone(), None, 0),
            // Without panels all columns share a row, so all are computed twice.
            (true, 2) => (width.clone(), Some(width.clone()), 0),
            (true, _) => {
                let two = (hidden * &Dim::from(2i64)).as_const()?;
                let late_panel = two / i64::from(panel);
                (Dim::from(two), Some(width - &Dim::from(late_panel * i64::from(panel))), late_panel)
            }
        };
        let by = By::Numbers(contraction);
        Some(Products { e, by, batch, hidden, width, panel, early_columns, late_columns, late_panel })
    }

    fn early(&self, k: &mut Builder, states: Val, product: &Product) {
        self.multiply(k, states, &self.early_columns, 0, product.at);
    }

    fn late(&self, k: &mut Builder, states: Val, product: &Product) {
        if let Some(columns) = &self.late_columns {
            self.multiply(k, states, columns, self.late_panel, product.at);
        }
    }

    /// Multiplies rows of states, starting at `left`, by columns of `r`, starting at a panel.
    fn multiply(&self, k: &mut Builder, left: Val, columns: &Dim, panel: i64, sink: Val) {
        let contraction = match &self.by {
            By::Numbers(contraction) => contraction,
            By::Codes(weights) => return self.multiply_codes(k, weights, left, columns, panel, sink),
        };
        let zero = k.int(0);
        let depth = k.dim(self.hidden);
        let skip = k.mul_int(depth, panel * i64::from(self.panel) * self.e.dtype(1).size() as i64);
        let right = k.add(self.e.operand(1), skip);
        let row_bytes = self.hidden * &Dim::from(i64::from(register(self.e).bytes()));
        let job = Job {
            rows: Rows::Affine { base: left, bytes: row_bytes },
            count: self.batch.clone(),
            columns: columns.clone(),
            right,
            out: (zero, zero),
            sink: Some(sink),
            adds: false,
        };
        contraction.emit(k, &job);
    }
}

/// States times `r`: one row per sequence.
struct Product {
    columns: Val,
    at: Val,
}

struct Layer<'a, 'b> {
    e: &'b Emit<'a>,
    spec: &'b CellSpec,
    operands: Operands,
    elem: Ty,
    lanes: u32,
    /// The type to compute in.
    math: DType,
    /// Hidden units.
    n: Val,
    /// Gates times hidden units.
    width: Val,
    gates: Product,
    /// The product of reset states, from column `late_first` of `r` on.
    late: Option<Product>,
    late_first: i64,
    h: Val,
    /// The buffer that the product reads instead of the state.
    used: Option<Val>,
    /// Scales of the rounded states.
    factors: Option<Val>,
    c: Option<Val>,
    /// Set if the rounded states are bytes.
    bytes: Option<ByteProduct>,
}

/// The type of states and products in memory.
fn register(e: &Emit<'_>) -> Ty {
    Ty::new(numbers::compute_elem(e.dtype(0)), 1)
}

/// A sequence in a step: its row in the projection and the result, its number, and its state's first unit.
#[derive(Clone, Copy)]
struct At {
    row: Val,
    b: Val,
    state: Val,
}

impl<'a, 'b> Layer<'a, 'b> {
    fn new(
        e: &'b Emit<'a>,
        k: &mut Builder,
        spec: &'b CellSpec,
        operands: Operands,
        products: &Products<'_, '_>,
    ) -> Layer<'a, 'b> {
        let elem = register(e);
        let rows = |columns: &Dim| columns * &Dim::from(i64::from(elem.bytes()));
        let of_states = rows(&(products.batch * products.hidden));
        let rounds = operands.scales.is_some();
        let product = |k: &mut Builder, columns: &Dim| Product {
            columns: k.dim(columns),
            at: e.scratch(k, rows(&(products.batch * columns))),
        };
        Layer {
            e,
            spec,
            operands,
            elem,
            lanes: e.lanes(e.dtype(0)),
            math: arithmetic(e.dtype(0)),
            n: k.dim(products.hidden),
            width: k.dim(products.width),
            gates: product(k, &products.early_columns),
            late: products.late_columns.as_ref().map(|columns| product(k, columns)),
            late_first: products.late_panel * i64::from(products.panel),
            h: e.scratch(k, of_states.clone()),
            // For a reset state, or one rounded to 8 bits, the product reads this instead of the state.
            used: (rounds || products.late_columns.is_some()).then(|| e.scratch(k, of_states.clone())),
            factors: rounds.then(|| e.scratch(k, rows(products.batch))),
            c: operands.c0.map(|_| e.scratch(k, of_states)),
            bytes: None,
        }
    }

    /// The state of sequence `b` times its reset gate.
    fn reset(&self, k: &mut Builder, row: Val, b: Val, used: Val) {
        let at = At { row, b, state: k.mul(b, self.n) };
        cover(k, self.n, self.lanes, |k, j, lanes| {
            let r = self.gate(k, 1, at, j, lanes);
            let r = self.activate(k, 0, r);
            let i = k.add(at.state, j);
            let h = self.get(k, self.h, i, lanes);
            let v = k.mul(r, h);
            self.put(k, used, i, v);
        });
    }

    fn get(&self, k: &mut Builder, base: Val, index: Val, lanes: u32) -> Val {
        let from = k.at_index(base, index, self.elem.bytes());
        k.load(Ty::new(self.elem.elem, lanes), from)
    }

    fn put(&self, k: &mut Builder, base: Val, index: Val, v: Val) {
        let to = k.at_index(base, index, self.elem.bytes());
        k.store(to, v);
    }

    /// Copies a whole operand to scratch memory.
    fn copy_in(&self, k: &mut Builder, operand: usize, to: Val, count: Val) {
        cover(k, count, self.lanes, |k, i, lanes| {
            let v = self.e.load(k, operand, i, lanes);
            self.put(k, to, i, v);
        });
    }
}
