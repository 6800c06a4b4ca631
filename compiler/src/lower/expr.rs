//! Element-wise expressions: the body of element-wise kernels, and the epilogue of all others.

use super::kir::{Builder, Val};
use super::{numbers, scalar};
use crate::ir::{BinaryOp, DType, Tensor, UnaryOp};

/// A directed acyclic graph of element-wise operations, operands before users; the last node is the result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Expr {
    /// Operations.
    pub nodes: Vec<ExprNode>,
}

/// One operation and its result's type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExprNode {
    /// What it does.
    pub kind: ExprKind,
    /// Type of the result.
    pub dtype: DType,
}

/// What an expression's node does; operands are indices of earlier nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ExprKind {
    /// The element that the kernel itself computed.
    Anchor,
    /// An element of leaf `n`.
    Leaf(usize),
    /// A rank-0 constant.
    Constant(Tensor),
    /// [`Op::Unary`](crate::ir::Op::Unary).
    Unary(UnaryOp, usize),
    /// [`Op::Binary`](crate::ir::Op::Binary).
    Binary(BinaryOp, usize, usize),
    /// [`Op::Select`](crate::ir::Op::Select).
    Select(usize, usize, usize),
    /// [`Op::Cast`](crate::ir::Op::Cast) with its `saturate`.
    Cast(usize, bool),
    /// [`Op::Bitcast`](crate::ir::Op::Bitcast) between types that share a compute type's width.
    Bitcast(usize),
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

    /// Emits the expression in `lanes` lanes; `leaf` loads an element (or lanes) of a leaf in its compute type.
    pub fn emit(
        &self,
        k: &mut Builder,
        lanes: u32,
        anchor: Option<Val>,
        leaf: &mut dyn FnMut(&mut Builder, usize) -> Val,
    ) -> Option<Val> {
        let mut values: Vec<Val> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let dtype_of = |n: usize| self.nodes[n].dtype;
            let v = match &node.kind {
                ExprKind::Anchor => anchor?,
                ExprKind::Leaf(n) => leaf(k, *n),
                ExprKind::Constant(t) => constant(k, t, lanes),
                ExprKind::Unary(op, x) => scalar::unary(k, *op, dtype_of(*x), values[*x]),
                ExprKind::Binary(op, a, b) => scalar::binary(k, *op, dtype_of(*a), values[*a], values[*b]),
                ExprKind::Select(c, a, b) => scalar::select(k, values[*c], values[*a], values[*b]),
                ExprKind::Cast(x, saturate) => numbers::cast(k, values[*x], dtype_of(*x), node.dtype, *saturate),
                ExprKind::Bitcast(x) => numbers::bitcast(k, values[*x], dtype_of(*x), node.dtype),
            };
            values.push(v);
        }
        values.last().copied()
    }
}

/// A rank-0 constant in the compute type, in every lane.
pub fn constant(k: &mut Builder, t: &Tensor, lanes: u32) -> Val {
    let ty = super::kir::Ty::new(numbers::compute_elem(t.dtype()), lanes);
    if ty.elem.is_float() { k.float(t.f64_at(0), ty) } else { k.int_of(t.i64_at(0), ty) }
}
