//! Attention as one operation: `softmax(q kᵀ + mask) v`, whose scores then are never stored as a whole.
//!
//! Heads stand behind tokens in [`Op::Attention`], as projections leave them, so that splitting and merging heads costs
//! nothing. Where a model has them in another order, a transpose remains.

use mcc_targets::Target;

use super::edit::{Edit, pad_rank, rewrite};
use crate::Result;
use crate::ir::{BinaryOp, DType, Dim, Graph, Op, Value};

/// Tokens and heads change places, either way.
const HEADS: [usize; 4] = [0, 2, 1, 3];

/// Puts attention together.
pub(super) fn run(graph: &mut Graph, target: &Target) -> Result<bool> {
    // With fewer queries than a vector has lanes, most of it would compute nothing.
    let least = i64::from(target.vector_bytes / 8);
    rewrite(graph, |edit, node| {
        if let Op::Transpose { perm } = edit.graph.op(node)
            && *perm == HEADS
            && let Some(inner) = edit.graph.operand(node, 0)
            && let Op::Transpose { perm } = edit.graph.op(inner.node)
            && *perm == HEADS
            && let Some(merged) = edit.graph.operand(inner.node, 0)
            && matches!(edit.graph.op(merged.node), Op::Attention { .. })
        {
            return Ok(Some(merged));
        }
        let Some(found) = find(edit, node.into(), least) else { return Ok(None) };
        found.build(edit).map(Some)
    })
}

struct Found {
    q: Value,
    /// Keys as the right operand of a product: their elements before them.
    keys: Value,
    values: Value,
    mask: Option<Value>,
    scale: f64,
}

/// The operands of a product that is attention.
fn find(edit: &Edit, value: Value, least: i64) -> Option<Found> {
    let product = |v: Value| match edit.graph.op(v.node) {
        Op::MatMul => Some((edit.graph.operand(v.node, 0)?, edit.graph.operand(v.node, 1)?)),
        _ => None,
    };
    let (weights, values) = product(value)?;
    let rank = edit.graph.ty(value).rank();
    let Op::Softmax { axis, log: false } = *edit.graph.op(weights.node) else { return None };
    if axis + 1 != rank || !(2..=4).contains(&rank) || !edit.used_once(weights) {
        return None;
    }
    let mut scores = edit.graph.operand(weights.node, 0)?;
    let shape = edit.shape(scores);
    let (mut mask, mut scale) = (None, 1.0);
    let (q, keys) = loop {
        if !edit.used_once(scores) || edit.dtype(scores) != DType::F32 || edit.shape(scores) != shape {
            return None;
        }
        if let Some(found) = product(scores) {
            break found;
        }
        let (a, b) = (edit.graph.operand(scores.node, 0)?, edit.graph.operand(scores.node, 1)?);
        scores = match edit.graph.op(scores.node) {
            Op::Binary(BinaryOp::Mul) => {
                scale *= edit.splat(b)?;
                a
            }
            Op::Binary(BinaryOp::Add) if mask.is_none() && scale == 1.0 => {
                let (a, b) = if product(b).is_some() || edit.shape(a) != shape { (b, a) } else { (a, b) };
                mask = Some(b);
                a
            }
            _ => return None,
        };
    };
    let found = Found { q, keys, values, mask, scale };
    found.fits(edit, &shape, least).then_some(found)
}

impl Found {
    fn fits(&self, edit: &Edit, scores: &[Dim], least: i64) -> bool {
        let rank = scores.len();
        let (q, keys, values) = (edit.shape(self.q), edit.shape(self.keys), edit.shape(self.values));
        if [&q, &keys, &values].iter().any(|shape| shape.len() != rank) {
            return false;
        }
        let fixed = |shape: &[Dim], axis: usize| shape[axis].as_const().is_some_and(|c| c > 0);
        let batch = &scores[..rank - 2];
        let same_batch = [&q, &keys, &values].iter().all(|shape| shape[..rank - 2] == *batch);
        let heads = rank < 4 || fixed(scores, 1);
        let many = scores[rank - 2].as_const().is_none_or(|m| m >= least);
        let mask = self.mask.is_none_or(|mask| {
            let extents = pad_rank(&edit.shape(mask), rank);
            let fits = |(have, want): (&Dim, &Dim)| have.is(1) || have == want;
            extents.len() == rank && extents.iter().zip(scores).all(fits) && extents[rank - 1] == scores[rank - 1]
        });
        let turned = [self.q, self.keys, self.values].into_iter().filter(|&v| !self.is_free(edit, v)).count();
        same_batch && heads && many && mask && fixed(&q, rank - 1) && fixed(&values, rank - 1) && turned <= 1
    }

    /// Whether heads behind tokens are what an operand was made of, or there are no heads.
    fn is_free(&self, edit: &Edit, v: Value) -> bool {
        let wanted: &[usize] = if v == self.keys { &[0, 2, 3, 1] } else { &HEADS };
        let shape = edit.shape(v);
        let one = shape.len() < 4 || shape[1].is(1);
        match edit.graph.op(v.node) {
            Op::Transpose { perm } => perm == wanted || one && perm.len() < 4,
            _ => one && v != self.keys,
        }
    }

    fn build(&self, edit: &mut Edit) -> Result<Value> {
        let tokens = |edit: &mut Edit, v: Value, perm: [usize; 4]| -> Result<Value> {
            // Without heads a batch may be one of heads; the axes in front of it have extent 1.
            let shape = edit.shape(v);
            if shape.len() == 4 {
                return turned(edit, v, perm.to_vec());
            }
            let v = if perm == HEADS {
                v
            } else {
                let last = shape.len() - 1;
                turned(edit, v, (0..last - 1).chain([last, last - 1]).collect())?
            };
            let shape = edit.shape(v);
            let [m, d] = shape.last_chunk::<2>().cloned().unwrap_or([Dim::ONE, Dim::ONE]);
            let batch = if shape.len() == 3 { shape[0].clone() } else { Dim::ONE };
            edit.reshape(v, vec![batch, m, Dim::ONE, d])
        };
        let rank = edit.shape(self.q).len();
        let q = tokens(edit, self.q, HEADS)?;
        let keys = tokens(edit, self.keys, [0, 3, 1, 2])?;
        let values = tokens(edit, self.values, HEADS)?;
        let mut operands = vec![q, keys, values];
        if let Some(mask) = self.mask {
            let extents = pad_rank(&edit.shape(mask), rank);
            let shape = match rank {
                4 => extents,
                3 => vec![extents[0].clone(), Dim::ONE, extents[1].clone(), extents[2].clone()],
                _ => pad_rank(&extents, 4),
            };
            operands.push(edit.reshape(mask, shape)?);
        }
        let result = edit.add(Op::Attention { scale: self.scale.into() }, &operands)?;
        if rank == 4 {
            return edit.transpose(result, HEADS.to_vec());
        }
        let shape = edit.shape(result);
        let tokens = [shape[0].clone(), shape[1].clone(), shape[3].clone()];
        edit.reshape(result, tokens[3 - rank..].to_vec())
    }
}

/// Transposed; two transposes are one.
fn turned(edit: &mut Edit, v: Value, perm: Vec<usize>) -> Result<Value> {
    if let Op::Transpose { perm: inner } = edit.graph.op(v.node) {
        let both = perm.iter().map(|&p| inner[p]).collect();
        let x = edit.graph.operands(v.node)[0];
        return edit.transpose(x, both);
    }
    edit.transpose(v, perm)
}
