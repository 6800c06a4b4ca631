//! Conditions with two regions, which are made like graphs.

use super::Maker;
use mcc_ir::{BinaryOp, DType, Dim, Graph, If, Op, Output, ReduceKind, Tensor, TensorType, Value};

/// Maximum nesting of conditions.
const MAX_NESTING: usize = 2;

impl Maker {
    /// One of two functions of a value and another one, chosen at run time.
    pub fn decided(&mut self, x: Value) -> Option<Value> {
        if self.depth == MAX_NESTING {
            return None;
        }
        let condition = self.condition(x)?;
        let mut operands = vec![x];
        let other = self.pool[self.random.below(self.pool.len())];
        operands.extend(Some(other).filter(|&v| v != x));
        let (mut then, ours) = self.region(&operands);
        let (mut otherwise, theirs) = self.region(&operands);
        let (mut results, mut binds) = (Vec::new(), Vec::new());
        for _ in 0..self.random.within(1, 2) {
            let kind = |g: &Graph, v: Value| (g.ty(v).dtype, g.ty(v).rank());
            // The latest pair of values with matching types, or any.
            let mut pairs = ours.iter().rev().flat_map(|&a| theirs.iter().rev().map(move |&z| (a, z)));
            let (a, z) = pairs.find(|&(a, z)| kind(&then, a) == kind(&otherwise, z) && self.random.chance(80))?;
            let dims = then.ty(a).shape.iter().zip(&otherwise.ty(z).shape).map(|(a, z)| match a == z {
                true => a.clone(),
                false => {
                    self.bound += 1;
                    let extent = Dim::sym(format!("taken{}", self.bound));
                    binds.extend(extent.as_sym().cloned());
                    extent
                }
            });
            results.push(TensorType::new(then.ty(a).dtype, dims.collect()));
            for (region, value) in [(&mut then, a), (&mut otherwise, z)] {
                let name = region.outputs.len().to_string();
                region.outputs.push(Output { name, value });
            }
        }
        then.remove_dead();
        otherwise.remove_dead();
        let operands = [&[condition][..], &operands].concat();
        let first = self.add(Op::If(Box::new(If { then, otherwise, results, binds })), &operands)?;
        let last = Value { result: self.graph.types(first.node).len() - 1, ..first };
        if last != first {
            self.pool.push(last);
        }
        Some(first)
    }

    /// A boolean: an input, or the sign of a sum.
    fn condition(&mut self, x: Value) -> Option<Value> {
        if self.depth == 0 && self.random.chance(60) {
            return Some(self.input(DType::Bool, Vec::new()));
        }
        let TensorType { dtype, shape } = self.ty(x);
        if dtype == DType::Bool {
            return None;
        }
        let sum =
            self.add(Op::Reduce { kind: ReduceKind::Sum, axes: (0..shape.len()).collect(), keep: false }, &[x])?;
        let dtype = self.ty(sum).dtype;
        let zero = self.graph.constant(Tensor::scalar_f64(dtype, 0.0));
        self.binary(BinaryOp::Less, sum, zero)
    }

    /// A region with some operands, and its values.
    fn region(&mut self, operands: &[Value]) -> (Graph, Vec<Value>) {
        let graph = std::mem::replace(&mut self.graph, Graph::region());
        let inputs =
            operands.iter().enumerate().map(|(n, &v)| self.graph.add_input(&n.to_string(), graph.ty(v).clone()));
        let inputs = inputs.collect();
        let pool = std::mem::replace(&mut self.pool, inputs);
        self.depth += 1;
        for _ in 0..self.random.within(0, 3) {
            self.step();
        }
        self.depth -= 1;
        (std::mem::replace(&mut self.graph, graph), std::mem::replace(&mut self.pool, pool))
    }
}
