//! Quantization in element-wise expressions: chains of rounding, shifting and clamping become one node; functions of
//! one byte become tables.

use bytes::Bytes;

use super::expr::{Expr, ExprKind, ExprNode};
use super::kir::Rounding;
use mcc_ir::eval::eval_op;
use mcc_ir::{BinaryOp, DType, Op, Tensor, TensorType, UnaryOp};

/// The largest magnitude of an integer type.
fn magnitude_of(dtype: DType) -> f64 {
    f64::from(dtype.bits()).exp2()
}

impl Expr {
    /// Replaces chains of rounding, shifting and clamping by [`ExprKind::Quantize`].
    pub fn with_quantize(mut self) -> Expr {
        for n in 0..self.nodes.len() {
            if let Some((x, zero)) = self.quantization(n) {
                let zero = match zero {
                    Some(zero) => zero,
                    None => {
                        // At the front, where all nodes can read it.
                        let nothing = Tensor::scalar_f64(DType::F32, 0.0);
                        return self.with_first(ExprKind::Constant(nothing), DType::F32).with_quantize();
                    }
                };
                self.nodes[n].kind = ExprKind::Quantize(x, zero, false);
            }
        }
        self.without_unused()
    }

    /// Records which values to quantize are known to be bounded, given the largest magnitudes of the leaves.
    pub fn with_bounds(mut self, leaves: &[Option<f64>]) -> Expr {
        let magnitudes = self.magnitudes(leaves);
        for node in &mut self.nodes {
            if let ExprKind::Quantize(x, _, bounded) = &mut node.kind {
                *bounded = magnitudes[*x].is_some_and(|m| m < Rounding::BOUND);
            }
        }
        self
    }

    /// The largest magnitude of each node, if known; such a node is never NaN or infinite.
    fn magnitudes(&self, leaves: &[Option<f64>]) -> Vec<Option<f64>> {
        /// Exceeds all rounding errors.
        const SLACK: f64 = 1.0 + 1e-6;
        let mut known: Vec<Option<f64>> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let of = |n: usize| known[n];
            let both = |a: usize, b: usize, f: fn(f64, f64) -> f64| Some(f(of(a)?, of(b)?));
            let most = match &node.kind {
                _ if !node.dtype.is_float() => Some(magnitude_of(node.dtype)),
                ExprKind::Leaf(n) => leaves.get(*n).copied().flatten(),
                ExprKind::Constant(t) => Some(t.f64_at(0).abs()),
                ExprKind::Cast(x, _) | ExprKind::Unary(UnaryOp::Neg | UnaryOp::Abs, x) => of(*x),
                ExprKind::Unary(UnaryOp::Round | UnaryOp::Floor | UnaryOp::Ceil, x) => of(*x).map(|m| m + 1.0),
                ExprKind::Binary(BinaryOp::Add | BinaryOp::Sub, a, b) => both(*a, *b, |a, b| a + b),
                ExprKind::Binary(BinaryOp::Mul, a, b) => both(*a, *b, |a, b| a * b),
                ExprKind::Binary(BinaryOp::Max | BinaryOp::Min, a, b) | ExprKind::Select(_, a, b) => {
                    both(*a, *b, f64::max)
                }
                _ => None,
            };
            let finite = match node.dtype {
                DType::F32 | DType::F64 | DType::BF16 => 1e30,
                // Larger values become infinite.
                DType::F16 => 6e4,
                dtype if dtype.is_float() => 0.0,
                _ => f64::INFINITY,
            };
            // Also false for NaN.
            known.push(most.map(|m| m * SLACK).filter(|&m| m < finite));
        }
        known
    }

    /// The operand and the zero point of a byte: `cast(min(max(round(x) + zero, low), high))`.
    fn quantization(&self, n: usize) -> Option<(usize, Option<usize>)> {
        let (low, high) = match self.nodes[n].dtype {
            DType::U8 => (0.0, 255.0),
            DType::I8 => (-128.0, 127.0),
            _ => return None,
        };
        let ExprKind::Cast(clamped, _) = self.nodes[n].kind else { return None };
        let raised = self.bounded(clamped, BinaryOp::Min, high)?;
        let shifted = self.bounded(raised, BinaryOp::Max, low)?;
        let of = |n: usize| match self.nodes[n].kind {
            ExprKind::Unary(UnaryOp::Round, x) if self.nodes[n].dtype == DType::F32 => Some(x),
            _ => None,
        };
        if let Some(x) = of(shifted) {
            let zero = |node: &ExprNode| match &node.kind {
                ExprKind::Constant(t) => node.dtype == DType::F32 && t.f64_at(0) == 0.0,
                _ => false,
            };
            let found = self.nodes.iter().position(zero).filter(|&zero| zero < n);
            return Some((x, found));
        }
        let ExprKind::Binary(BinaryOp::Add, rounded, zero) = self.nodes[shifted].kind else { return None };
        // The zero point fits a byte.
        let fits = match &self.nodes[zero].kind {
            ExprKind::Constant(t) => (low..=high).contains(&t.f64_at(0)) && t.f64_at(0).fract() == 0.0,
            ExprKind::Cast(from, _) => self.nodes[*from].dtype == self.nodes[n].dtype,
            _ => false,
        };
        of(rounded).filter(|_| fits).map(|x| (x, Some(zero)))
    }

    /// The operand that a node bounds by a constant.
    fn bounded(&self, n: usize, by: BinaryOp, bound: f64) -> Option<usize> {
        let ExprKind::Binary(op, x, c) = self.nodes[n].kind else { return None };
        let ExprKind::Constant(t) = &self.nodes[c].kind else { return None };
        (op == by && t.f64_at(0) == bound).then_some(x)
    }

    fn with_first(&self, kind: ExprKind, dtype: DType) -> Expr {
        let rest = self.nodes.iter().map(|n| ExprNode { kind: n.kind.renamed(|x| x + 1), dtype: n.dtype });
        Expr { nodes: std::iter::once(ExprNode { kind, dtype }).chain(rest).collect(), tables: self.tables.clone() }
    }

    fn without_unused(&self) -> Expr {
        let mut used = vec![false; self.nodes.len()];
        if let Some(root) = used.last_mut() {
            *root = true;
        }
        for n in (0..self.nodes.len()).rev() {
            if used[n] {
                self.nodes[n].kind.operands().into_iter().for_each(|x| used[x] = true);
            }
        }
        let mut places = vec![0; self.nodes.len()];
        let mut kept = Expr { tables: self.tables.clone(), ..Expr::default() };
        for (n, node) in self.nodes.iter().enumerate().filter(|(n, _)| used[*n]) {
            places[n] = kept.nodes.len();
            kept.nodes.push(ExprNode { kind: node.kind.renamed(|x| places[x]), dtype: node.dtype });
        }
        kept
    }

    /// Replaces byte functions of one byte by tables. If lookups are `fast` (a vector of bytes at a time), replaces
    /// everything longer than a scaling; otherwise only slow functions.
    pub fn with_lookups(mut self, fast: bool) -> Expr {
        for root in (0..self.nodes.len()).rev() {
            if !matches!(self.nodes[root].kind, ExprKind::Quantize(..)) {
                continue;
            }
            let Some(source) = (0..root).find(|&source| self.worth_a_table(source, root, fast)) else { continue };
            let Some(table) = self.table(source, root) else { continue };
            self.tables.push(table);
            self.nodes[root].kind = ExprKind::Lookup(source, self.tables.len() - 1);
        }
        self.without_unused()
    }

    /// Whether a node depends on another node's bytes alone, and is long enough for a table.
    fn worth_a_table(&self, source: usize, root: usize, fast: bool) -> bool {
        let bytes = matches!(self.nodes[source].dtype, DType::U8 | DType::I8);
        let Some(cone) = bytes.then(|| self.cone(source, root)).flatten() else { return false };
        let slow = |&n: &usize| match self.nodes[n].kind {
            ExprKind::Unary(op, _) => !matches!(
                op,
                UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Not
            ),
            ExprKind::Binary(op, ..) => matches!(op, BinaryOp::Div | BinaryOp::Pow | BinaryOp::Rem | BinaryOp::Mod),
            _ => false,
        };
        let computes = |n: &&usize| !matches!(self.nodes[**n].kind, ExprKind::Constant(_));
        // A product, a sum and the quantization are as fast.
        let long = 4;
        let packed = matches!(self.nodes[source].kind, ExprKind::Quantize(..));
        cone.iter().any(slow) || fast && packed && cone.iter().filter(computes).count() > long
    }

    /// The nodes after `source` up to `root`, if they read only each other and constants.
    fn cone(&self, source: usize, root: usize) -> Option<Vec<usize>> {
        let (mut found, mut open, mut reached) = (Vec::new(), vec![root], false);
        while let Some(n) = open.pop() {
            if n == source {
                reached = true;
            } else if !found.contains(&n) {
                match self.nodes[n].kind {
                    ExprKind::Anchor | ExprKind::Leaf(_) | ExprKind::Lookup(..) => return None,
                    _ => open.extend(self.nodes[n].kind.operands()),
                }
                found.push(n);
            }
        }
        found.sort_unstable();
        reached.then_some(found)
    }

    /// The value of `root` for each of the 256 bytes of `source`, read as unsigned.
    fn table(&self, source: usize, root: usize) -> Option<Bytes> {
        let mut values: Vec<Option<Tensor>> = vec![None; root + 1];
        let all: Vec<u8> = (0..=255).collect();
        values[source] = Some(Tensor::new(self.nodes[source].dtype, vec![all.len()], all.into()).ok()?);
        for n in self.cone(source, root)? {
            let ExprNode { kind, dtype } = &self.nodes[n];
            let of = |n: usize| values[n].clone();
            let operands = kind.operands().into_iter().map(of).collect::<Option<Vec<_>>>()?;
            let op = match kind {
                ExprKind::Constant(t) => {
                    values[n] = Some(t.clone());
                    continue;
                }
                ExprKind::Quantize(..) => {
                    let zero = operands[1].f64_at(0);
                    let (low, high) = if *dtype == DType::I8 { (-128.0, 127.0) } else { (0.0, 255.0) };
                    let byte = |v: f64| (v.round_ties_even() + zero).clamp(low, high) as i64;
                    let bytes: Vec<i64> = operands[0].to_f64s().into_iter().map(byte).collect();
                    values[n] = Some(Tensor::from_i64s(*dtype, operands[0].shape().to_vec(), &bytes).ok()?);
                    continue;
                }
                ExprKind::Unary(op, _) => Op::Unary(*op),
                ExprKind::Binary(op, ..) => Op::Binary(*op),
                ExprKind::Select(..) => Op::Select,
                ExprKind::Cast(_, saturate) => Op::Cast { to: *dtype, saturate: *saturate },
                ExprKind::Bitcast(_) => Op::Bitcast { to: *dtype },
                ExprKind::Anchor | ExprKind::Leaf(_) | ExprKind::Lookup(..) => return None,
            };
            let count = operands.iter().map(Tensor::numel).max()?;
            let scalar = operands.iter().all(|t| t.shape().is_empty());
            let shape = if scalar { Vec::new() } else { vec![count] };
            values[n] = eval_op(&op, &operands, &[TensorType::fixed(*dtype, &shape)]).ok()?.pop();
        }
        let table = values[root].take()?;
        (table.numel() == 256).then(|| table.data().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `anchor * scale + leaf`, quantized to a byte, is known to be bounded.
    fn bounded(anchor: DType, scale: f64, leaf: Option<f64>) -> bool {
        bounded_in(DType::F32, anchor, scale, leaf)
    }

    /// The same for another float type.
    fn bounded_in(float: DType, anchor: DType, scale: f64, leaf: Option<f64>) -> bool {
        let mut expr = Expr::default();
        let mut x = expr.push(ExprKind::Anchor, anchor);
        if anchor != float {
            x = expr.push(ExprKind::Cast(x, true), float);
        }
        let scale = expr.push(ExprKind::Constant(Tensor::scalar_f64(float, scale)), float);
        let product = expr.push(ExprKind::Binary(BinaryOp::Mul, x, scale), float);
        let leaf_node = expr.push(ExprKind::Leaf(0), float);
        let sum = expr.push(ExprKind::Binary(BinaryOp::Add, product, leaf_node), float);
        let zero = expr.push(ExprKind::Constant(Tensor::scalar_f64(float, 0.0)), float);
        expr.push(ExprKind::Quantize(sum, zero, false), DType::I8);
        let expr = expr.with_bounds(&[leaf]);
        matches!(expr.nodes.last().map(|n| &n.kind), Some(ExprKind::Quantize(_, _, true)))
    }

    #[test]
    fn integers_times_constants_are_bounded() {
        assert!(bounded(DType::I32, 1e-3, Some(5.0)));
        assert!(bounded(DType::I32, -1e-3, Some(1e8)));
        // Sums beyond the bound, unknown magnitudes, possible NaN.
        assert!(!bounded(DType::I32, 1.0, Some(5.0)));
        assert!(!bounded(DType::I32, 1e-3, Some(1e10)));
        assert!(!bounded(DType::I32, 1e-3, None));
        assert!(!bounded(DType::I32, f64::NAN, Some(5.0)));
        assert!(!bounded(DType::I32, f64::INFINITY, Some(5.0)));
        assert!(!bounded(DType::F32, 1e-3, Some(5.0)));
        // A cast of 32-bit integers overflows, one of 8-bit integers does not.
        assert!(!bounded_in(DType::F16, DType::I32, 1e-3, Some(5.0)));
        assert!(bounded_in(DType::F16, DType::U8, 1e-3, Some(5.0)));
    }
}
