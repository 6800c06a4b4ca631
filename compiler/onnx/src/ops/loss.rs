//! Loss functions.

use super::super::builder::Builder;
use super::super::node::{Node, Results};
use mcc_ir::{BinaryOp, DType, Error, Op, ReduceKind, Result, Tensor, UnaryOp, Value};

pub fn negative_log_likelihood(b: &mut Builder, n: &Node) -> Result<Results> {
    Ok(loss(b, n, n.input(0)?)?.into())
}

pub fn softmax_cross_entropy(b: &mut Builder, n: &Node) -> Result<Results> {
    let log = b.add(Op::Softmax { axis: 1, log: true }, &[n.input(0)?])?;
    let loss = loss(b, n, log)?;
    Ok([loss, log].into())
}

/// Selects each sample's logarithm by its class, applies weights, and reduces.
fn loss(b: &mut Builder, n: &Node, logs: Value) -> Result<Value> {
    let dtype = b.dtype(logs);
    let classes = n.input(1)?;
    let mut classes = b.cast(classes, DType::I64)?;
    let ignored = match n.try_int("ignore_index")? {
        Some(i) => {
            let i = b.constant(Tensor::scalar_i64(DType::I64, i));
            let ignored = b.binary(BinaryOp::Equal, classes, i)?;
            // Ignored classes may be out of range: they are replaced by a valid one.
            let zero = b.constant(Tensor::scalar_i64(DType::I64, 0));
            classes = b.select(ignored, zero, classes)?;
            Some(ignored)
        }
        None => None,
    };
    let index = b.unsqueeze(classes, &[1])?;
    let picked = b.add(Op::GatherElements { axis: 1 }, &[logs, index])?;
    let picked = b.squeeze(picked, &[1])?;
    let mut losses = b.unary(UnaryOp::Neg, picked)?;
    let mut weights = n.optional(2).map(|w| b.gather(w, classes, 0)).transpose()?;
    if let Some(ignored) = ignored {
        let (zero, one) = (b.scalar(dtype, 0.0), b.scalar(dtype, 1.0));
        weights = Some(b.select(ignored, zero, weights.unwrap_or(one))?);
        losses = b.select(ignored, zero, losses)?;
    }
    if let Some(w) = weights {
        losses = b.times(losses, w)?;
    }
    let axes: Vec<usize> = (0..b.rank(losses)).collect();
    match (n.text("reduction", "mean")?.as_str(), weights) {
        ("none", _) => Ok(losses),
        ("sum", _) => b.reduce(ReduceKind::Sum, losses, &axes, false),
        ("mean", None) => b.reduce(ReduceKind::Mean, losses, &axes, false),
        ("mean", Some(w)) => {
            let shape = b.shape(losses);
            let w = b.broadcast(w, shape)?;
            let (sum, total) =
                (b.reduce(ReduceKind::Sum, losses, &axes, false)?, b.reduce(ReduceKind::Sum, w, &axes, false)?);
            b.over(sum, total)
        }
        (other, _) => Err(Error::invalid(format!("attribute reduction is \"{other}\""))),
    }
}
