//! `com.microsoft` operators that ONNX Runtime's optimiser generates.

use super::super::builder::Builder;
use super::super::node::{Item, Node, Results};
use super::attention::split_heads;
use super::conv::conv_of;
use super::elementwise;
use super::parameters::{Spread, named};
use super::quantize::factors;
use mcc_ir::{BinaryOp, DType, Dim, Error, Op, Result, UnaryOp, Value};

/// An activation that was fused into another operator, with its parameters.
fn activated(b: &mut Builder, n: &Node, y: Value, parameters: &[f64]) -> Result<Value> {
    let at = |i: usize, default: f64| parameters.get(i).copied().unwrap_or(default);
    match n.text("activation", "")?.as_str() {
        "" => Ok(y),
        "Relu" => b.with(BinaryOp::Max, y, 0.0),
        "Tanh" => b.unary(UnaryOp::Tanh, y),
        "Sigmoid" => b.unary(UnaryOp::Sigmoid, y),
        "LeakyRelu" => elementwise::leaky_relu_of(b, y, at(0, 0.01)),
        "Clip" => b.clamp(y, at(0, f64::from(f32::MIN)), at(1, f64::from(f32::MAX))),
        "HardSigmoid" => elementwise::hard_sigmoid_of(b, y, at(0, 0.2), at(1, 0.5)),
        other => Err(Error::unsupported(format!("activation \"{other}\""))),
    }
}

/// Convolution, an optional sum, an optional activation.
pub fn fused_conv(b: &mut Builder, n: &Node) -> Result<Results> {
    let mut y = conv_of(b, n, n.input(0)?, n.input(1)?, n.optional(2), 0.0)?;
    if let Some(z) = n.optional(3) {
        y = b.plus(y, z)?;
    }
    let parameters: Vec<f64> = n.floats("activation_params")?.into_iter().map(f64::from).collect();
    Ok(activated(b, n, y, &parameters)?.into())
}

pub fn fused_gemm(b: &mut Builder, n: &Node) -> Result<Results> {
    let Some(Item::Tensor(y)) = super::reduce::gemm(b, n)?.0.into_iter().next() else {
        return Err(Error::internal("a product is one tensor"));
    };
    let names = ["activation_alpha", "activation_beta", "activation_gamma"];
    let parameters: Result<Vec<Option<f32>>> = names.iter().map(|name| n.try_float(name)).collect();
    let parameters: Vec<f64> = parameters?.into_iter().map_while(|p| p.map(f64::from)).collect();
    Ok(activated(b, n, y, &parameters)?.into())
}

/// Embeddings of words, positions and segments, summed and normalised.
pub fn embed_layer_norm(b: &mut Builder, n: &Node) -> Result<Results> {
    let ids = n.input(0)?;
    let shape = b.extents::<2>(ids, "input input_ids")?;
    let words = b.gather(n.input(2)?, ids, 0)?;
    let positions = match n.optional(8) {
        Some(p) => b.gather(n.input(3)?, p, 0)?,
        None => b.slice(n.input(3)?, 0, Dim::ZERO, shape[1].clone())?,
    };
    let mut sum = b.plus(words, positions)?;
    if let (Some(segments), Some(table)) = (n.optional(1), n.optional(4)) {
        let segments = b.gather(table, segments, 0)?;
        sum = b.plus(sum, segments)?;
    }
    let axis = b.extents_from(sum, 1, "the sum of embeddings")?.len() - 1;
    let y = b.add(Op::Normalize { axis, epsilon: n.float("epsilon", 1e-12)?.into(), center: true }, &[sum])?;
    let y = b.times(y, n.input(5)?)?;
    let y = b.plus(y, n.input(6)?)?;
    let lengths = match n.optional(7) {
        Some(mask) => {
            let counts = b.reduce(mcc_ir::ReduceKind::Sum, mask, &[1], false)?;
            b.cast(counts, DType::I32)?
        }
        None => b.splat(DType::I32, 0.0, vec![shape[0].clone()])?,
    };
    Ok([y, lengths, sum].into())
}

/// Attention over heads: scores of `[batch, heads, queries, size]` with keys, weighted sum of values, heads joined.
struct Heads {
    q: Value,
    k: Value,
    v: Value,
}

fn attend(b: &mut Builder, n: &Node, heads: Heads, terms: &[Value], past: &Dim) -> Result<Value> {
    let Heads { q, k, v } = heads;
    let (q_shape, keys) = (b.shape(q), b.shape(k)[2].clone());
    let scale = match n.float("scale", 0.0)? {
        0.0 => {
            let size = q_shape[3].as_const().ok_or_else(|| Error::unsupported("a symbolic head size"))?;
            1.0 / (size as f64).sqrt()
        }
        s => s,
    };
    let q = b.with(BinaryOp::Mul, q, scale)?;
    let k = b.transpose(k, &[0, 1, 3, 2])?;
    let mut scores = b.matmul(q, k)?;
    for &t in terms {
        scores = b.plus(scores, t)?;
    }
    if n.flag("unidirectional", false)? {
        let grid = vec![q_shape[2].clone(), keys];
        let row = b.add(Op::Iota { dtype: DType::I64, shape: grid.clone(), axis: 0 }, &[])?;
        let column = b.add(Op::Iota { dtype: DType::I64, shape: grid, axis: 1 }, &[])?;
        let past = b.dim_scalar(past, DType::I64)?;
        let row = b.plus(row, past)?;
        let seen = b.binary(BinaryOp::LessOrEqual, column, row)?;
        let hidden = b.scalar_like(scores, f64::NEG_INFINITY);
        scores = b.select(seen, scores, hidden)?;
    }
    let p = b.add(Op::Softmax { axis: 3, log: false }, &[scores])?;
    let y = b.matmul(p, v)?;
    let y = b.transpose(y, &[0, 2, 1, 3])?;
    let shape = b.shape(y);
    b.reshape(y, vec![shape[0].clone(), shape[1].clone(), &shape[2] * &shape[3]])
}

/// A mask as a term of the scores, from key lengths, or booleans per key, or per query and key.
fn mask_term(b: &mut Builder, n: &Node, mask: Value, keys: &Dim, dtype: DType) -> Result<Value> {
    let filter = n.float("mask_filter_value", -10000.0)?;
    let seen = match b.rank(mask) {
        1 => {
            let at = b.iota(DType::I32, keys)?;
            let lengths = b.cast(mask, DType::I32)?;
            let lengths = b.unsqueeze(lengths, &[1])?;
            let seen = b.binary(BinaryOp::Less, at, lengths)?;
            b.unsqueeze(seen, &[1, 2])?
        }
        rank @ (2 | 3) => {
            let seen = b.cast(mask, DType::Bool)?;
            b.unsqueeze(seen, if rank == 2 { &[1, 2] } else { &[1] })?
        }
        _ => return Err(Error::unsupported(format!("a mask {}", b.ty(mask)))),
    };
    let (zero, hidden) = (b.scalar(dtype, 0.0), b.scalar(dtype, filter));
    b.select(seen, zero, hidden)
}

/// Self-attention with the projections of queries, keys and values in one matrix.
pub fn attention(b: &mut Builder, n: &Node) -> Result<Results> {
    if n.optional(4).is_some() || n.wants(1) || n.flag("do_rotary", false)? {
        return Err(Error::unsupported("attention with past states or rotary embedding"));
    }
    let mut qkv = super::reduce::product(b, n.input(0)?, n.input(1)?)?;
    if let Some(bias) = n.optional(2) {
        qkv = b.plus(qkv, bias)?;
    }
    attention_of(b, n, qkv, n.optional(3), n.optional(5))
}

/// The same with data and weights of 8 bits.
pub fn quantized_attention(b: &mut Builder, n: &Node) -> Result<Results> {
    if n.optional(8).is_some() || n.wants(1) || n.flag("do_rotary", false)? || n.flag("unidirectional", false)? {
        return Err(Error::unsupported("quantized attention with past states, rotary embedding or a causal mask"));
    }
    let (operands, scales) = ([n.input(0)?, n.input(1)?], [n.input(3)?, n.input(4)?]);
    factors(b, n, 0, [named(3, "input_scale"), named(6, "input_zero_point")], Spread::Whole)?;
    factors(b, n, 1, [named(4, "weight_scale"), named(7, "weight_zero_point")], Spread::Columns(operands[1]))?;
    let zeros = [n.optional(6), n.optional(7)];
    let qkv = super::quantize::integer_product(b, operands, scales, zeros, Some(n.input(2)?))?;
    attention_of(b, n, qkv, n.optional(5), None)
}

/// Attention with queries, keys and values side by side, a mask, and a term added to the scores.
fn attention_of(b: &mut Builder, n: &Node, qkv: Value, mask: Option<Value>, added: Option<Value>) -> Result<Results> {
    let heads = n.need("num_heads", n.try_int("num_heads")?)?;
    let [_, _, width] = b.extents(qkv, "the projection of queries, keys and values")?;
    let sizes = match n.ints("qkv_hidden_sizes")? {
        Some(s) if s.len() == 3 => s.into_iter().map(Dim::from).collect(),
        _ => vec![width.floor_div(&Dim::from(3i64)); 3],
    };
    let (mut parts, mut start) = (Vec::new(), Dim::ZERO);
    for size in sizes {
        let part = b.slice(qkv, 2, start.clone(), size.clone())?;
        parts.push(split_heads(b, part, heads, "a projection")?);
        start = &start + &size;
    }
    let keys = b.shape(parts[1])[2].clone();
    let dtype = b.dtype(qkv);
    let mut terms = Vec::new();
    if let Some(mask) = mask {
        terms.push(mask_term(b, n, mask, &keys, dtype)?);
    }
    terms.extend(added);
    let heads = Heads { q: parts[0], k: parts[1], v: parts[2] };
    Ok(attend(b, n, heads, &terms, &Dim::ZERO)?.into())
}

/// Attention of projected queries, keys and values.
pub fn multi_head_attention(b: &mut Builder, n: &Node) -> Result<Results> {
    let heads = n.need("num_heads", n.try_int("num_heads")?)?;
    let (Some(key), Some(value)) = (n.optional(1), n.optional(2)) else {
        return Err(Error::unsupported("packed queries, keys and values"));
    };
    let mut packed = [n.input(0)?, key, value];
    if let Some(bias) = n.optional(3) {
        let mut start = Dim::ZERO;
        for x in &mut packed {
            if b.rank(*x) != 3 {
                return Err(Error::unsupported("a bias of keys that are split into heads"));
            }
            let size = b.shape(*x)[2].clone();
            let part = b.slice(bias, 0, start.clone(), size.clone())?;
            *x = b.plus(*x, part)?;
            start = &start + &size;
        }
    }
    let split = |b: &mut Builder, x: Value, what| if b.rank(x) == 4 { Ok(x) } else { split_heads(b, x, heads, what) };
    let q = split(b, packed[0], "input query")?;
    let (mut k, mut v) = (split(b, packed[1], "input key")?, split(b, packed[2], "input value")?);
    if n.optional(9).is_some() {
        return Err(Error::unsupported("input cache_indirection, for beams that share a cache"));
    }
    let (mut past, mut rest) = (Dim::ZERO, None);
    if let (Some(past_key), Some(past_value)) = (n.optional(6), n.optional(7)) {
        let [_, _, room, _] = b.extents(past_key, "input past_key")?;
        past = match n.optional(8) {
            Some(v) => single_dim(b, v, "past_sequence_length")?,
            None => room.clone(),
        };
        let (mut of_k, mut of_v) = (past_key, past_value);
        if n.optional(8).is_some() {
            // The past is a buffer that is only partly used; elements after the new ones are kept.
            let used = &past + &b.shape(k)[2];
            let behind = &room - &used;
            let rest_of = |b: &mut Builder, v| b.slice(v, 2, used.clone(), behind.clone());
            rest = Some([rest_of(b, past_key)?, rest_of(b, past_value)?]);
            (of_k, of_v) =
                (b.slice(past_key, 2, Dim::ZERO, past.clone())?, b.slice(past_value, 2, Dim::ZERO, past.clone())?);
        }
        (k, v) = (b.concat(&[of_k, k], 2)?, b.concat(&[of_v, v], 2)?);
    } else if n.optional(8).is_some() {
        return Err(Error::invalid("past_sequence_length without past_key and past_value"));
    }
    let (keys, dtype) = (b.shape(k)[2].clone(), b.dtype(q));
    let mut terms = Vec::new();
    if let Some(mask) = n.optional(4) {
        terms.push(mask_term(b, n, mask, &keys, dtype)?);
    }
    terms.extend(n.optional(5));
    let y = attend(b, n, Heads { q, k, v }, &terms, &past)?;
    if let Some([rest_of_k, rest_of_v]) = rest {
        (k, v) = (b.concat(&[k, rest_of_k], 2)?, b.concat(&[v, rest_of_v], 2)?);
    }
    Ok([y, k, v].into())
}

/// The only element of an integer input, as a dimension.
fn single_dim(b: &mut Builder, v: Value, name: &str) -> Result<Dim> {
    if !b.ty(v).numel().is(1) {
        return Err(Error::invalid(format!("input {name} is {}, not one number", b.ty(v))));
    }
    let flat = b.reshape(v, vec![Dim::ONE])?;
    b.dims(flat, name)?.pop().ok_or_else(|| Error::invalid(format!("input {name} is empty")))
}
