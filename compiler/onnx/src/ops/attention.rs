//! Attention and related operators.

use super::super::builder::Builder;
use super::super::node::{Node, Results};
use super::super::tensor;
use mcc_ir::{BinaryOp, DType, Dim, Error, Op, PadMode, ReduceKind, Result, UnaryOp, Value};

/// Reshapes `[batch, sequence, heads * size]` to `[batch, heads, sequence, size]`; `what` is its name in errors.
pub fn split_heads(b: &mut Builder, x: Value, heads: i64, what: &str) -> Result<Value> {
    let [batch, sequence, width] = b.extents(x, what)?;
    if heads < 1 {
        return Err(
            Error::invalid(format!("{what} is {} for {heads} heads", b.ty(x))).help("there must be at least one head")
        );
    }
    let heads = Dim::from(heads);
    let size = width.floor_div(&heads);
    let x = b.reshape(x, vec![batch, sequence, heads, size])?;
    b.transpose(x, &[0, 2, 1, 3])
}

/// The inverse.
fn join_heads(b: &mut Builder, x: Value) -> Result<Value> {
    let x = b.transpose(x, &[0, 2, 1, 3])?;
    let shape = b.shape(x);
    b.reshape(x, vec![shape[0].clone(), shape[1].clone(), &shape[2] * &shape[3]])
}

/// A term added to the scores, and whether a row of it may be all minus infinity.
struct Bias {
    value: Option<Value>,
    may_mask_rows: bool,
}

pub fn attention(b: &mut Builder, n: &Node) -> Result<Results> {
    let (mut q, mut k, mut v) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let packed = b.rank(q) == 3;
    if packed {
        let q_heads = n.need("q_num_heads", n.try_int("q_num_heads")?)?;
        let kv_heads = n.need("kv_num_heads", n.try_int("kv_num_heads")?)?;
        q = split_heads(b, q, q_heads, "input Q")?;
        (k, v) = (split_heads(b, k, kv_heads, "input K")?, split_heads(b, v, kv_heads, "input V")?);
    }
    for (x, what) in [(q, "input Q"), (k, "input K"), (v, "input V")] {
        b.extents::<4>(x, what)?;
    }
    let past = n.optional(4).map(|p| b.extents::<4>(p, "input past_key")).transpose()?.map(|[_, _, past, _]| past);
    if let (Some(past_key), Some(past_value)) = (n.optional(4), n.optional(5)) {
        (k, v) = (b.concat(&[past_key, k], 2)?, b.concat(&[past_value, v], 2)?);
    }
    let (present_key, present_value) = (k, v);
    let (q_shape, k_shape, v_shape) = (b.shape(q), b.shape(k), b.shape(v));
    let (queries, keys) = (q_shape[2].clone(), k_shape[2].clone());
    let scale = match n.try_float("scale")? {
        Some(s) => f64::from(s),
        None => {
            let size = q_shape[3].as_const();
            1.0 / (size.ok_or_else(|| Error::unsupported("a symbolic head size"))? as f64).sqrt()
        }
    };
    // Both operands are scaled by the root of the factor, as in the definition, to keep 16-bit products in range.
    let (q_scaled, k_scaled) = if b.dtype(q).bits() < 32 {
        (b.with(BinaryOp::Mul, q, scale.sqrt())?, b.with(BinaryOp::Mul, k, scale.sqrt())?)
    } else {
        (b.with(BinaryOp::Mul, q, scale)?, k)
    };
    // Query heads with a common key head are rows of one product.
    let kv_heads = k_shape[1].clone();
    let group = q_shape[1].floor_div(&kv_heads);
    let rows = vec![q_shape[0].clone(), kv_heads.clone(), &group * &queries, q_shape[3].clone()];
    let grouped = b.reshape(q_scaled, rows)?;
    let transposed = b.transpose(k_scaled, &[0, 1, 3, 2])?;
    let scores = b.matmul(grouped, transposed)?;
    let full = vec![q_shape[0].clone(), q_shape[1].clone(), queries.clone(), keys.clone()];
    let scores = b.reshape(scores, full.clone())?;
    let softcap = n.float("softcap", 0.0)?;
    let capped = if softcap == 0.0 {
        scores
    } else {
        let c = b.with(BinaryOp::Div, scores, softcap)?;
        let c = b.unary(UnaryOp::Tanh, c)?;
        b.with(BinaryOp::Mul, c, softcap)?
    };
    let bias = bias(b, n, b.dtype(q), &queries, &keys, past)?;
    let biased = match bias.value {
        Some(bias) => b.plus(capped, bias)?,
        None => capped,
    };
    let dtype = b.dtype(q);
    let precision = match n.int("softmax_precision", 0)? {
        0 => dtype,
        t => tensor::dtype(t)?,
    };
    let wide = b.cast(biased, precision)?;
    let mut p = b.add(Op::Softmax { axis: 3, log: false }, &[wide])?;
    if let Some(bias) = bias.value.filter(|_| bias.may_mask_rows) {
        let last: Vec<usize> = b.rank(bias).checked_sub(1).into_iter().collect();
        let top = b.reduce(ReduceKind::Max, bias, &last, true)?;
        let masked = b.with(BinaryOp::Equal, top, f64::NEG_INFINITY)?;
        let zero = b.scalar(precision, 0.0);
        p = b.select(masked, zero, p)?;
    }
    let p = b.cast(p, dtype)?;
    let probed = match n.int("qk_matmul_output_mode", 0)? {
        0 => scores,
        1 => capped,
        2 => biased,
        _ => p,
    };
    let p = b.reshape(p, vec![q_shape[0].clone(), kv_heads, &group * &queries, keys])?;
    let y = b.matmul(p, v)?;
    let y = b.reshape(y, vec![q_shape[0].clone(), q_shape[1].clone(), queries, v_shape[3].clone()])?;
    let y = if packed { join_heads(b, y)? } else { y };
    Ok([y, present_key, present_value, probed].into())
}

/// The mask, the causal limit, the window and the padding of the keys, all as terms of one sum.
fn bias(b: &mut Builder, n: &Node, dtype: DType, queries: &Dim, keys: &Dim, past: Option<Dim>) -> Result<Bias> {
    let causal = n.flag("is_causal", false)?;
    let (left, right) = (n.int("left_window_size", -1)?, n.int("right_window_size", -1)?);
    let valid = n.optional(6);
    let mut terms = Vec::new();
    if let Some(mask) = n.optional(3) {
        terms.push(mask_term(b, mask, dtype, keys)?);
    }
    let mut allowed = Vec::new();
    let grid = vec![queries.clone(), keys.clone()];
    if causal || left >= 0 || right >= 0 {
        let row = b.add(Op::Iota { dtype: DType::I64, shape: grid.clone(), axis: 0 }, &[])?;
        let column = b.add(Op::Iota { dtype: DType::I64, shape: grid.clone(), axis: 1 }, &[])?;
        // The number of keys before the first query.
        let offset = match (&past, valid) {
            (Some(past), _) => Some(b.dim_scalar(past, DType::I64)?),
            (None, Some(valid)) => {
                let queries = b.dim_scalar(queries, DType::I64)?;
                let offset = b.minus(valid, queries)?;
                Some(per_batch(b, offset)?)
            }
            (None, None) => None,
        };
        let position = match offset {
            Some(offset) => b.plus(row, offset)?,
            None => row,
        };
        let bounds = [
            (causal, 0.0, BinaryOp::LessOrEqual),
            (left >= 0, -(left as f64), BinaryOp::GreaterOrEqual),
            (right >= 0, right as f64, BinaryOp::LessOrEqual),
        ];
        for (_, distance, f) in bounds.into_iter().filter(|bound| bound.0) {
            let limit = if distance == 0.0 { position } else { b.with(BinaryOp::Add, position, distance)? };
            allowed.push(b.binary(f, column, limit)?);
        }
    }
    if let Some(valid) = valid {
        let column = b.iota(DType::I64, keys)?;
        let valid = per_batch(b, valid)?;
        allowed.push(b.binary(BinaryOp::Less, column, valid)?);
    }
    let may_mask_rows = !terms.is_empty() || valid.is_some() || left >= 0 || right >= 0;
    if let Some((&first, rest)) = allowed.split_first() {
        let all = rest.iter().try_fold(first, |a, &c| b.binary(BinaryOp::And, a, c))?;
        terms.push(mask_term(b, all, dtype, keys)?);
    }
    let value = match terms.split_first() {
        Some((&first, rest)) => Some(rest.iter().try_fold(first, |a, &t| b.plus(a, t))?),
        None => None,
    };
    Ok(Bias { value, may_mask_rows })
}

/// Reshapes one number per batch to broadcast with `[batch, heads, queries, keys]`.
fn per_batch(b: &mut Builder, v: Value) -> Result<Value> {
    let numel = b.ty(v).numel();
    b.reshape(v, vec![numel, Dim::ONE, Dim::ONE, Dim::ONE])
}

/// A mask as a term of the scores: booleans become 0 and minus infinity; a mask that is too short hides the last keys.
fn mask_term(b: &mut Builder, mask: Value, dtype: DType, keys: &Dim) -> Result<Value> {
    let mask = if b.dtype(mask) == DType::Bool {
        let (zero, hidden) = (b.scalar(dtype, 0.0), b.scalar(dtype, f64::NEG_INFINITY));
        b.select(mask, zero, hidden)?
    } else {
        b.cast(mask, dtype)?
    };
    let shape = b.shape(mask);
    let Some(last) = shape.last() else { return Ok(mask) };
    match (keys - last).as_const() {
        Some(missing) if missing > 0 && !last.is(1) => {
            let mut after = vec![Dim::ZERO; shape.len()];
            after[shape.len() - 1] = Dim::from(missing);
            let hidden = b.scalar(dtype, f64::NEG_INFINITY);
            let before = vec![Dim::ZERO; shape.len()];
            b.add(Op::Pad { before, after, mode: PadMode::Constant }, &[mask, hidden])
        }
        _ => Ok(mask),
    }
}

/// Rotates pairs of features by the angles of their positions.
pub fn rotary_embedding(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let shape = b.shape(x);
    let packed = shape.len() == 3;
    // [batch, sequence, heads, size] either way.
    let heads_first = if packed {
        split_heads(b, x, n.need("num_heads", n.try_int("num_heads")?)?, "input X")?
    } else {
        b.extents::<4>(x, "input X").map(|_| x)?
    };
    let y = b.transpose(heads_first, &[0, 2, 1, 3])?;
    let laid = b.shape(y);
    let size = laid[3].as_const().ok_or_else(|| Error::unsupported("a symbolic head size"))?;
    let turned = match n.int("rotary_embedding_dim", 0)? {
        0 => size,
        d if (1..=size).contains(&d) => d,
        d => {
            return Err(Error::invalid(format!("attribute rotary_embedding_dim is {d} for heads of {size}"))
                .help("it must not exceed the head's size"));
        }
    };
    let half = Dim::from(turned / 2);
    let mut caches = Vec::new();
    for i in 1..3 {
        let mut cache = n.input(i)?;
        if let Some(positions) = n.optional(3) {
            cache = b.gather(cache, positions, 0)?;
        }
        caches.push(b.unsqueeze(cache, &[2])?);
    }
    let (cos, sin) = (caches[0], caches[1]);
    let rotating = b.slice(y, 3, Dim::ZERO, Dim::from(turned))?;
    let interleaved = n.flag("interleaved", false)?;
    let outer = laid[..3].to_vec();
    let halves = |pair: [Dim; 2]| [outer.clone(), pair.to_vec()].concat();
    // The two members of a pair are along an axis of their own: the last one if interleaved, else the one before.
    let (pairs, axis) = if interleaved {
        (halves([half.clone(), Dim::from(2i64)]), 4)
    } else {
        (halves([Dim::from(2i64), half.clone()]), 3)
    };
    let split = b.reshape(rotating, pairs)?;
    let (first, second) = (b.slice(split, axis, Dim::ZERO, Dim::ONE)?, b.slice(split, axis, Dim::ONE, Dim::ONE)?);
    let (first, second) = (b.squeeze(first, &[axis])?, b.squeeze(second, &[axis])?);
    let mut turn = |x: Value, by: Value| b.times(x, by);
    let (fc, fs, sc, ss) = (turn(first, cos)?, turn(first, sin)?, turn(second, cos)?, turn(second, sin)?);
    let (real, imaginary) = (b.minus(fc, ss)?, b.plus(fs, sc)?);
    let (real, imaginary) = (b.unsqueeze(real, &[axis])?, b.unsqueeze(imaginary, &[axis])?);
    let joined = b.concat(&[real, imaginary], axis)?;
    let mut z = b.reshape(joined, [outer, vec![Dim::from(turned)]].concat())?;
    if turned < size {
        let rest = b.slice(y, 3, Dim::from(turned), Dim::from(size - turned))?;
        z = b.concat(&[z, rest], 3)?;
    }
    Ok(if packed { b.reshape(z, shape)? } else { b.transpose(z, &[0, 2, 1, 3])? }.into())
}

/// Maximum steps of the unrolled recurrence.
const MAX_STEPS: i64 = 512;

/// A recurrence over a matrix state, unrolled.
pub fn linear_attention(b: &mut Builder, n: &Node) -> Result<Results> {
    let q_heads = n.need("q_num_heads", n.try_int("q_num_heads")?)?;
    let kv_heads = n.need("kv_num_heads", n.try_int("kv_num_heads")?)?;
    let rule = n.text("update_rule", "gated_delta")?;
    let dtype = b.dtype(n.input(0)?);
    let q = split_heads(b, n.input(0)?, q_heads, "input query")?;
    let k = split_heads(b, n.input(1)?, kv_heads, "input key")?;
    let v = split_heads(b, n.input(2)?, kv_heads, "input value")?;
    let (q_shape, k_shape, v_shape) = (b.shape(q), b.shape(k), b.shape(v));
    let steps = q_shape[2].as_const().filter(|&t| t <= MAX_STEPS);
    let steps = steps.ok_or_else(|| Error::unsupported("linear attention over many steps, or a symbolic number"))?;
    let size = q_shape[3].as_const().ok_or_else(|| Error::unsupported("a symbolic head size"))?;
    let scale = match n.float("scale", 0.0)? {
        0.0 => 1.0 / (size as f64).sqrt(),
        s => s,
    };
    let state_shape = vec![k_shape[0].clone(), k_shape[1].clone(), k_shape[3].clone(), v_shape[3].clone()];
    let mut state = match n.optional(3) {
        Some(s) => s,
        None => b.splat(dtype, 0.0, state_shape)?,
    };
    let state_type = b.dtype(state);
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    state = b.cast(state, wide)?;
    // Decay: one number per head, or one per row of the state.
    let gated = rule == "gated" || rule == "gated_delta";
    let decay = n.optional(4).filter(|_| gated).map(|g| split_heads(b, g, kv_heads, "input decay")).transpose()?;
    let beta = n.optional(5).filter(|_| rule.ends_with("delta"));
    let beta = match beta {
        Some(v) => {
            let [_, _, width] = b.extents(v, "input beta")?;
            Some(split_heads(b, v, if width.is(1) { 1 } else { kv_heads }, "input beta")?)
        }
        None => None,
    };
    b.extents::<4>(state, "input past_state")?;
    let group = Dim::from(q_heads / kv_heads.max(1));
    let mut outputs = Vec::new();
    for t in 0..steps {
        let at = |b: &mut Builder, x: Value| -> Result<Value> {
            let x = b.slice(x, 2, Dim::from(t), Dim::ONE)?;
            b.cast(x, wide)
        };
        let (kt, vt) = (at(b, k)?, at(b, v)?);
        let k_column = b.transpose(kt, &[0, 1, 3, 2])?;
        if let Some(g) = decay {
            let g = at(b, g)?;
            let g = b.unary(UnaryOp::Exp, g)?;
            let g = b.transpose(g, &[0, 1, 3, 2])?;
            state = b.times(state, g)?;
        }
        let mut write = vt;
        if let Some(beta) = beta {
            let known = b.matmul(kt, state)?;
            let error = b.minus(vt, known)?;
            let beta = at(b, beta)?;
            write = b.times(error, beta)?;
        }
        let update = b.times(k_column, write)?;
        state = b.plus(state, update)?;
        let qt = at(b, q)?;
        let qt = b.with(BinaryOp::Mul, qt, scale)?;
        let rows = vec![k_shape[0].clone(), k_shape[1].clone(), group.clone(), q_shape[3].clone()];
        let qt = b.reshape(qt, rows)?;
        let y = b.matmul(qt, state)?;
        outputs.push(b.reshape(y, vec![k_shape[0].clone(), Dim::ONE, Dim::from(q_heads), v_shape[3].clone()])?);
    }
    let y = b.concat(&outputs, 1)?;
    let shape = b.shape(y);
    let y = b.reshape(y, vec![shape[0].clone(), shape[1].clone(), &shape[2] * &shape[3]])?;
    Ok([b.cast(y, dtype)?, b.cast(state, state_type)?].into())
}
