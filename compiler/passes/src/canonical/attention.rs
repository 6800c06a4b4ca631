//! Fuses attention, `softmax(q kᵀ + mask) v`, into one operation, whose scores are never stored as a whole.
//!
//! [`Op::Attention`] has the heads after the tokens, as projections store them, so splitting and merging heads costs
//! nothing. If a model has them in another order, a transpose remains. Keys and values that are repeated for several
//! heads of queries are read from before the repetition.

use mcc_targets::Config;

use super::transposes::moves_nothing;
use crate::support::edit::{Edit, pad_rank, rewrite};
use mcc_ir::Result;
use mcc_ir::{BinaryOp, DType, Dim, Graph, NodeId, Op, UnaryOp, Value};

/// Swaps tokens and heads.
const SWAP_HEADS: [usize; 4] = [0, 2, 1, 3];

/// From keys as the right operand of a product to tokens before heads.
const KEYS_TO_TOKENS: [usize; 4] = [0, 3, 1, 2];

/// Fuses attention.
pub(crate) fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    // With fewer queries than vector lanes, most of a vector would be empty.
    let least = i64::from(config.target.vector_bytes / 8);
    rewrite(graph, |edit, node| {
        if let Some(merged) = merged(edit, node) {
            let shape = edit.shape(node.into());
            return edit.reshape(merged, shape).map(Some);
        }
        let Some(found) = find(edit, node.into(), least) else { return Ok(None) };
        found.build(edit).map(Some)
    })
}

/// The attention whose result a transpose only reorders, together with the transpose that `build` added.
fn merged(edit: &Edit, node: NodeId) -> Option<Value> {
    let (Op::Transpose { perm }, Some(inner)) = (edit.graph.op(node), edit.graph.operand(node, 0)) else { return None };
    let result = edit.graph.operand(inner.node, 0)?;
    let both: Vec<usize> = match edit.graph.op(inner.node) {
        Op::Transpose { perm: inner } if *inner == SWAP_HEADS => perm.iter().map(|&p| SWAP_HEADS[p]).collect(),
        _ => return None,
    };
    let attention = matches!(edit.graph.op(result.node), Op::Attention { .. });
    (attention && moves_nothing(&both, &edit.shape(result))).then_some(result)
}

struct Found {
    q: Value,
    /// Keys as the right operand of a product, with their elements before the tokens.
    keys: Value,
    values: Value,
    mask: Option<Value>,
    scale: f64,
    guarded: bool,
    /// Keys and values before their repetition, if both are repeated equally often.
    shared: Option<[Shared; 2]>,
}

/// The operands of attention, if a product is one.
fn find(edit: &Edit, value: Value, least: i64) -> Option<Found> {
    let product = |v: Value| match edit.graph.op(v.node) {
        Op::MatMul => Some((edit.graph.operand(v.node, 0)?, edit.graph.operand(v.node, 1)?)),
        _ => None,
    };
    let (mut weights, values) = product(value)?;
    let guard = unguarded(edit, weights);
    let guarded = guard.is_some();
    // Both the guard's condition and its select use the weights.
    let users = |v: Value, n: usize| edit.users(v).len() == n && !edit.graph.is_output(v);
    if let Some(inner) = guard {
        if !users(weights, 1) || !users(inner, 2) {
            return None;
        }
        weights = inner;
    }
    let rank = edit.graph.ty(value).rank();
    let Op::Softmax { axis, log: false } = *edit.graph.op(weights.node) else { return None };
    if axis + 1 != rank || !(2..=4).contains(&rank) || !guarded && !users(weights, 1) {
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
    let shared = shared(edit, keys).zip(shared(edit, values)).filter(|(k, v)| k.times == v.times);
    let shared = shared.map(|(keys, values)| [keys, values]);
    let found = Found { q, keys, values, mask, scale, guarded, shared };
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

    /// Whether an operand is made from heads after tokens, or there are no heads.
    fn is_free(&self, edit: &Edit, v: Value) -> bool {
        let shape = edit.shape(v);
        let keys = v == self.keys;
        let wanted: &[usize] = match (shape.len(), keys) {
            (4, true) => &KEYS_TO_TOKENS,
            (4, false) => &SWAP_HEADS,
            (3, true) => &[0, 2, 1],
            (2, true) => &[1, 0],
            _ => return true,
        };
        let (perm, shape) = match &self.shared {
            Some([keys, _]) if v == self.keys => (keys.perm.clone(), keys.shape.clone()),
            Some([_, values]) if v == self.values => (values.perm.clone(), values.shape.clone()),
            _ => {
                let (x, perm) = untransposed(edit, v);
                (perm, edit.shape(x))
            }
        };
        let both: Vec<usize> = wanted.iter().map(|&p| perm[p]).collect();
        moves_nothing(&both, &shape)
    }

    fn build(&self, edit: &mut Edit) -> Result<Value> {
        let tokens = |edit: &mut Edit, v: Value, perm: [usize; 4]| -> Result<Value> {
            // Without heads the last batch axis can serve as heads if the axes before it have extent 1.
            let shape = edit.shape(v);
            if shape.len() == 4 {
                return turned(edit, v, perm.to_vec());
            }
            let v = if perm == SWAP_HEADS {
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
        let q = tokens(edit, self.q, SWAP_HEADS)?;
        let (mut keys, mut values) = (self.keys, self.values);
        if let Some([once, same]) = &self.shared {
            (keys, values) = (once.build(edit)?, same.build(edit)?);
        }
        let keys = tokens(edit, keys, KEYS_TO_TOKENS)?;
        let values = tokens(edit, values, SWAP_HEADS)?;
        let mut operands = vec![q, keys, values];
        if let Some(mask) = self.mask {
            let narrower = narrow(edit, mask)?;
            let keys = |v: Value| edit.shape(v).last().cloned();
            let mask = if keys(narrower) == keys(mask) { narrower } else { mask };
            let extents = pad_rank(&edit.shape(mask), rank);
            let shape = match rank {
                4 => extents,
                3 => vec![extents[0].clone(), Dim::ONE, extents[1].clone(), extents[2].clone()],
                _ => pad_rank(&extents, 4),
            };
            operands.push(edit.reshape(mask, shape)?);
        }
        let result = edit.add(Op::Attention { scale: self.scale.into(), guarded: self.guarded }, &operands)?;
        if rank == 4 {
            return edit.transpose(result, SWAP_HEADS.to_vec());
        }
        let shape = edit.shape(result);
        let tokens = [shape[0].clone(), shape[1].clone(), shape[3].clone()];
        edit.reshape(result, tokens[3 - rank..].to_vec())
    }
}

/// Keys or values of rank 4 whose heads are repeated, each for several consecutive heads of queries.
struct Shared {
    /// The repeated value, with an additional axis of extent 1.
    x: Value,
    /// Its shape without that axis.
    shape: Vec<Dim>,
    /// The permutation of the other axes to the operand's order.
    perm: Vec<usize>,
    /// The number of repetitions of a head.
    times: Dim,
}

impl Shared {
    fn build(&self, edit: &mut Edit) -> Result<Value> {
        let x = edit.reshape(self.x, self.shape.clone())?;
        turned(edit, x, self.perm.clone())
    }
}

/// The value that an operand repeats: a broadcast along an axis after that of the heads, which a reshape joins with it.
fn shared(edit: &Edit, operand: Value) -> Option<Shared> {
    let (joined, perm) = untransposed(edit, operand);
    let Op::Reshape { .. } = edit.graph.op(joined.node) else { return None };
    let repeated = edit.graph.operand(joined.node, 0)?;
    let Op::Broadcast { .. } = edit.graph.op(repeated.node) else { return None };
    let once = edit.graph.operand(repeated.node, 0)?;
    let (mut extents, from) = (edit.shape(repeated), edit.shape(once));
    if extents.len() != 5 || from.len() != 5 || perm.len() != 4 {
        return None;
    }
    let axis = (1..5).find(|&axis| from[axis].is(1) && !extents[axis].is(1))?;
    let same = (0..5).all(|i| i == axis || from[i] == extents[i]);
    let times = extents.remove(axis);
    extents[axis - 1] = &extents[axis - 1] * &times;
    if !same || extents != edit.shape(joined) || perm[1] + 1 != axis {
        return None;
    }
    let (x, mut inner) = untransposed(edit, once);
    let dropped = inner.remove(axis);
    let mut shape = edit.shape(x);
    shape.remove(dropped);
    let perm = perm.iter().map(|&p| inner[p] - usize::from(inner[p] > dropped)).collect();
    Some(Shared { x, shape, perm, times })
}

/// The operand of a transpose and its permutation; else the value itself.
fn untransposed(edit: &Edit, v: Value) -> (Value, Vec<usize>) {
    match (edit.graph.op(v.node), edit.graph.operand(v.node, 0)) {
        (Op::Transpose { perm }, Some(x)) => (x, perm.clone()),
        _ => (v, (0..edit.graph.ty(v).rank()).collect()),
    }
}

/// The value without the replacement of NaN by zeros.
fn unguarded(edit: &Edit, value: Value) -> Option<Value> {
    let Op::Select = edit.graph.op(value.node) else { return None };
    let &[condition, zero, x] = edit.graph.operands(value.node).as_slice() else { return None };
    let guard = matches!(edit.graph.op(condition.node), Op::Unary(UnaryOp::IsNan));
    let same = guard && edit.graph.operand(condition.node, 0) == Some(x) && edit.used_once(condition);
    (same && edit.splat(zero) == Some(0.0)).then_some(x)
}

/// A mask without a final broadcast, which its use does anyway.
fn narrow(edit: &mut Edit, mask: Value) -> Result<Value> {
    match edit.graph.op(mask.node) {
        Op::Broadcast { .. } => Ok(edit.graph.operands(mask.node)[0]),
        Op::Select => {
            let operands = edit.graph.operands(mask.node);
            let Op::Broadcast { .. } = edit.graph.op(operands[0].node) else { return Ok(mask) };
            if operands[1..].iter().any(|&v| edit.splat(v).is_none() || !edit.shape(v).is_empty()) {
                return Ok(mask);
            }
            let condition = edit.graph.operands(operands[0].node)[0];
            edit.add(Op::Select, &[condition, operands[1], operands[2]])
        }
        _ => Ok(mask),
    }
}

/// The transposed value; two transposes become one.
fn turned(edit: &mut Edit, v: Value, perm: Vec<usize>) -> Result<Value> {
    if let Op::Transpose { perm: inner } = edit.graph.op(v.node) {
        let both = perm.iter().map(|&p| inner[p]).collect();
        let x = edit.graph.operands(v.node)[0];
        return edit.transpose(x, both);
    }
    edit.transpose(v, perm)
}
