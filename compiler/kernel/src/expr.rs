//! Element-wise expressions: the body of element-wise kernels, and the epilogue of all others.

use bytes::Bytes;

use super::kir::{Builder, Elem, Rounding, Val};
use super::{numbers, scalar};
use mcc_ir::{BinaryOp, DType, Tensor, UnaryOp};

/// A directed acyclic graph of element-wise operations, operands before users; the last node is the result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Expr {
    /// Operations.
    pub nodes: Vec<ExprNode>,
    /// Tables of 256 bytes, which are pointer arguments of kernels.
    pub tables: Vec<Bytes>,
}

/// One operation and its result's type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExprNode {
    /// The operation.
    pub kind: ExprKind,
    /// Type of the result.
    pub dtype: DType,
}

/// The operation of a node; operands are indices of earlier nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ExprKind {
    /// The element that the kernel itself computed.
    Anchor,
    /// An element of leaf `n`.
    Leaf(usize),
    /// A rank-0 constant.
    Constant(Tensor),
    /// [`Op::Unary`](mcc_ir::Op::Unary).
    Unary(UnaryOp, usize),
    /// [`Op::Binary`](mcc_ir::Op::Binary).
    Binary(BinaryOp, usize, usize),
    /// [`Op::Select`](mcc_ir::Op::Select).
    Select(usize, usize, usize),
    /// [`Op::Cast`](mcc_ir::Op::Cast) with its `saturate`.
    Cast(usize, bool),
    /// [`Op::Bitcast`](mcc_ir::Op::Bitcast) between types that share a compute type's width.
    Bitcast(usize),
    /// A byte: the first rounded to the nearest integer, plus the second, saturated; see
    /// [`Inst::Quantize`](super::kir::Inst). The last is whether the first is known to be [bounded](Rounding::bounded).
    Quantize(usize, usize, bool),
    /// A byte: the entry of table `n` for another byte, read as unsigned.
    Lookup(usize, usize),
}

impl ExprKind {
    /// The nodes that it reads.
    pub fn operands(&self) -> Vec<usize> {
        match *self {
            ExprKind::Anchor | ExprKind::Leaf(_) | ExprKind::Constant(_) => Vec::new(),
            ExprKind::Unary(_, x) | ExprKind::Cast(x, _) | ExprKind::Bitcast(x) | ExprKind::Lookup(x, _) => vec![x],
            ExprKind::Binary(_, a, b) | ExprKind::Quantize(a, b, _) => vec![a, b],
            ExprKind::Select(c, a, b) => vec![c, a, b],
        }
    }

    /// The same operation with renumbered operands.
    pub(super) fn renamed(&self, now: impl Fn(usize) -> usize) -> ExprKind {
        match *self {
            ExprKind::Anchor | ExprKind::Leaf(_) | ExprKind::Constant(_) => self.clone(),
            ExprKind::Unary(op, x) => ExprKind::Unary(op, now(x)),
            ExprKind::Binary(op, a, b) => ExprKind::Binary(op, now(a), now(b)),
            ExprKind::Select(c, a, b) => ExprKind::Select(now(c), now(a), now(b)),
            ExprKind::Cast(x, saturate) => ExprKind::Cast(now(x), saturate),
            ExprKind::Bitcast(x) => ExprKind::Bitcast(now(x)),
            ExprKind::Quantize(x, zero, bounded) => ExprKind::Quantize(now(x), now(zero), bounded),
            ExprKind::Lookup(x, table) => ExprKind::Lookup(now(x), table),
        }
    }
}

/// The context of emission: see [`Expr::emit`].
#[derive(Clone, Copy)]
struct Context<'a> {
    lanes: u32,
    anchor: Option<Val>,
    tables: &'a [Val],
}

impl Expr {
    /// Adds a node and gives its index.
    pub fn push(&mut self, kind: ExprKind, dtype: DType) -> usize {
        let node = ExprNode { kind, dtype };
        if let Some(same) = self.nodes.iter().position(|n| *n == node) {
            return same;
        }
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Type of the result.
    pub fn dtype(&self) -> Option<DType> {
        self.nodes.last().map(|n| n.dtype)
    }

    /// Emits the expression in `lanes` lanes; `tables` point to the tables, `leaf` loads an element (or lanes) of a leaf in its
    /// compute type.
    pub fn emit(
        &self,
        k: &mut Builder,
        lanes: u32,
        anchor: Option<Val>,
        tables: &[Val],
        mut leaf: impl FnMut(&mut Builder, usize) -> Val,
    ) -> Option<Val> {
        self.first(self.nodes.len(), k, Context { lanes, anchor, tables }, &mut leaf)?.last().copied()
    }

    /// Whether it quantizes floats to bytes.
    pub fn quantizes(&self) -> bool {
        self.nodes.iter().any(|n| matches!(n.kind, ExprKind::Quantize(..)))
    }

    /// Whether the result is a byte from [`ExprKind::Quantize`], or looked up by one.
    pub fn is_quantized(&self) -> bool {
        self.quantization_of_result().is_some()
    }

    /// The node that quantizes to the result's bytes, and the table that they index, if any.
    fn quantization_of_result(&self) -> Option<(usize, Option<usize>)> {
        let last = self.nodes.len().checked_sub(1)?;
        let (node, table) = match self.nodes[last].kind {
            ExprKind::Lookup(x, table) => (x, Some(table)),
            _ => (last, None),
        };
        matches!(self.nodes[node].kind, ExprKind::Quantize(..)).then_some((node, table))
    }

    /// Converts vectors from [`emit_unquantized`](Expr::emit_unquantized) to result bytes.
    pub fn emit_bytes(&self, k: &mut Builder, parts: &[Val], zero: Val, tables: &[Val]) -> Option<Val> {
        let (node, table) = self.quantization_of_result()?;
        let bytes = k.quantize(parts, zero, self.rounding(node));
        Some(match table {
            Some(table) => k.lookup(bytes, tables[table]),
            None => bytes,
        })
    }

    /// Emits the value to quantize, and its zero point, if the result [`is_quantized`](Expr::is_quantized).
    pub fn emit_unquantized(
        &self,
        k: &mut Builder,
        lanes: u32,
        anchor: Option<Val>,
        tables: &[Val],
        mut leaf: impl FnMut(&mut Builder, usize) -> Val,
    ) -> Option<(Val, Val)> {
        let (node, _) = self.quantization_of_result()?;
        let ExprKind::Quantize(x, zero, _) = self.nodes[node].kind else { return None };
        let values = self.first(node, k, Context { lanes, anchor, tables }, &mut leaf)?;
        Some((values[x], values[zero]))
    }

    /// The values of the first `count` nodes.
    fn first(
        &self,
        count: usize,
        k: &mut Builder,
        context: Context<'_>,
        leaf: &mut dyn FnMut(&mut Builder, usize) -> Val,
    ) -> Option<Vec<Val>> {
        let mut values: Vec<Val> = Vec::with_capacity(count);
        for n in 0..count {
            let v = self.node(k, n, context, &values, leaf)?;
            values.push(v);
        }
        Some(values)
    }

    fn node(
        &self,
        k: &mut Builder,
        n: usize,
        context: Context<'_>,
        values: &[Val],
        leaf: &mut dyn FnMut(&mut Builder, usize) -> Val,
    ) -> Option<Val> {
        let Context { lanes, anchor, tables } = context;
        let node = &self.nodes[n];
        let dtype_of = |n: usize| self.nodes[n].dtype;
        Some(match &node.kind {
            ExprKind::Anchor => anchor?,
            ExprKind::Leaf(n) => leaf(k, *n),
            ExprKind::Constant(t) => constant(k, t, lanes),
            ExprKind::Unary(op, x) => scalar::unary(k, *op, dtype_of(*x), values[*x]),
            ExprKind::Binary(op, a, b) => match self.multiply_add(n) {
                Some((x, y, z)) => k.fma(values[x], values[y], values[z]),
                None => scalar::binary(k, *op, dtype_of(*a), values[*a], values[*b]),
            },
            ExprKind::Select(c, a, b) => scalar::select(k, values[*c], values[*a], values[*b]),
            ExprKind::Cast(x, saturate) => match self.nodes[*x].kind {
                // The float before quantization.
                ExprKind::Quantize(before, zero, _) if node.dtype == DType::F32 => {
                    k.grid(values[before], values[zero], self.rounding(*x))
                }
                _ => numbers::cast(k, values[*x], dtype_of(*x), node.dtype, *saturate),
            },
            ExprKind::Bitcast(x) => numbers::bitcast(k, values[*x], dtype_of(*x), node.dtype),
            // Only casts to floats read it; they need no byte.
            ExprKind::Quantize(x, ..) if n + 1 < self.nodes.len() && self.only_as_float(n) => values[*x],
            ExprKind::Quantize(x, zero, _) => {
                let bytes = k.quantize(&[values[*x]], values[*zero], self.rounding(n));
                widened(k, bytes, node.dtype)
            }
            ExprKind::Lookup(x, table) => {
                let known = k.code_of(values[*x], dtype_of(*x)).filter(|&code| k.ty(code).elem == Elem::I8);
                let bytes = match known {
                    Some(bytes) => bytes,
                    None => k.convert(values[*x], Elem::I8),
                };
                let bytes = k.lookup(bytes, tables[*table]);
                widened(k, bytes, node.dtype)
            }
        })
    }

    /// The operands if node `n` is `x * y + z` in an expression that quantizes, where a bias follows every scale.
    fn multiply_add(&self, n: usize) -> Option<(usize, usize, usize)> {
        let node = &self.nodes[n];
        let ExprKind::Binary(BinaryOp::Add, a, b) = node.kind else { return None };
        if node.dtype != DType::F32 || !self.quantizes() {
            return None;
        }
        [(a, b), (b, a)].into_iter().find_map(|(product, z)| match self.nodes[product].kind {
            ExprKind::Binary(BinaryOp::Mul, x, y) => Some((x, y, z)),
            _ => None,
        })
    }

    fn rounding(&self, n: usize) -> Rounding {
        let bounded = matches!(self.nodes[n].kind, ExprKind::Quantize(_, _, true));
        Rounding { signed: self.nodes[n].dtype == DType::I8, bounded }
    }

    /// Whether all readers of a node are casts to `f32`.
    fn only_as_float(&self, n: usize) -> bool {
        let reads = |node: &&ExprNode| node.kind.operands().contains(&n);
        self.nodes.iter().filter(reads).all(|node| matches!(node.kind, ExprKind::Cast(..)) && node.dtype == DType::F32)
    }
}

/// Bytes in the compute type.
fn widened(k: &mut Builder, bytes: Val, dtype: DType) -> Val {
    let wide = if dtype == DType::I8 { k.convert(bytes, Elem::I32) } else { k.uconvert(bytes, Elem::I32) };
    k.note_code(wide, dtype, bytes);
    wide
}

/// A rank-0 constant in the compute type, in every lane.
pub fn constant(k: &mut Builder, t: &Tensor, lanes: u32) -> Val {
    let ty = super::kir::Ty::new(numbers::compute_elem(t.dtype()), lanes);
    if ty.elem.is_float() { k.float(t.f64_at(0), ty) } else { k.int_of(t.i64_at(0), ty) }
}
