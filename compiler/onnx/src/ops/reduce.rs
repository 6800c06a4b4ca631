//! Reductions, softmax, matrix products and Einsum.

use super::super::builder::{self, Builder};
use super::super::node::{Node, Results};
use super::elementwise::{log_sum_exp, square};
use super::movement::list;
use mcc_ir::{BinaryOp, Condition, DType, Dim, Error, Op, ReduceKind, Result, UnaryOp, Value};

/// The operand and its axes: an attribute before `since`, an input from then on; no axes means all, or none.
fn operands(b: &mut Builder, n: &Node, since: i64) -> Result<(Value, Vec<usize>, bool)> {
    let x = n.input(0)?;
    let rank = b.rank(x);
    let axes = match list(b, n, 1, "axes", since)? {
        Some(a) if !a.is_empty() => builder::axes(&a, rank)?,
        _ if n.flag("noop_with_empty_axes", false)? => Vec::new(),
        _ => (0..rank).collect(),
    };
    Ok((x, axes, n.flag("keepdims", true)?))
}

fn reduce(b: &mut Builder, n: &Node, kind: ReduceKind, since: i64) -> Result<Results> {
    let (x, axes, keep) = operands(b, n, since)?;
    Ok(b.reduce(kind, x, &axes, keep)?.into())
}

pub fn reduce_sum(b: &mut Builder, n: &Node) -> Result<Results> {
    reduce(b, n, ReduceKind::Sum, 13)
}

pub fn reduce_mean(b: &mut Builder, n: &Node) -> Result<Results> {
    reduce(b, n, ReduceKind::Mean, 18)
}

pub fn reduce_prod(b: &mut Builder, n: &Node) -> Result<Results> {
    reduce(b, n, ReduceKind::Prod, 18)
}

/// Booleans are reduced as bytes.
fn extreme(b: &mut Builder, n: &Node, kind: ReduceKind) -> Result<Results> {
    let (x, axes, keep) = operands(b, n, 18)?;
    let dtype = b.dtype(x);
    let x = if dtype == DType::Bool { b.cast(x, DType::U8)? } else { x };
    let y = b.reduce(kind, x, &axes, keep)?;
    Ok(b.cast(y, dtype)?.into())
}

pub fn reduce_max(b: &mut Builder, n: &Node) -> Result<Results> {
    extreme(b, n, ReduceKind::Max)
}

pub fn reduce_min(b: &mut Builder, n: &Node) -> Result<Results> {
    extreme(b, n, ReduceKind::Min)
}

/// A function of the elements, a sum, and a function of the sum.
fn reduce_between(
    b: &mut Builder,
    n: &Node,
    before: fn(&mut Builder, Value) -> Result<Value>,
    after: fn(&mut Builder, Value) -> Result<Value>,
) -> Result<Results> {
    let (x, axes, keep) = operands(b, n, 18)?;
    let y = before(b, x)?;
    let y = b.reduce(ReduceKind::Sum, y, &axes, keep)?;
    Ok(after(b, y)?.into())
}

fn unchanged(_: &mut Builder, x: Value) -> Result<Value> {
    Ok(x)
}

/// The square root; integers are converted to `f64` and back.
fn rooted(b: &mut Builder, x: Value) -> Result<Value> {
    let dtype = b.dtype(x);
    let wide = if dtype.is_float() { dtype } else { DType::F64 };
    let x = b.cast(x, wide)?;
    let y = b.unary(UnaryOp::Sqrt, x)?;
    b.cast(y, dtype)
}

fn logarithm(b: &mut Builder, x: Value) -> Result<Value> {
    let dtype = b.dtype(x);
    let wide = if dtype.is_float() { dtype } else { DType::F64 };
    let x = b.cast(x, wide)?;
    let y = b.unary(UnaryOp::Log, x)?;
    b.cast(y, dtype)
}

pub fn reduce_l1(b: &mut Builder, n: &Node) -> Result<Results> {
    reduce_between(b, n, |b, x| b.unary(UnaryOp::Abs, x), unchanged)
}

pub fn reduce_l2(b: &mut Builder, n: &Node) -> Result<Results> {
    reduce_between(b, n, square, rooted)
}

pub fn reduce_sum_square(b: &mut Builder, n: &Node) -> Result<Results> {
    reduce_between(b, n, square, unchanged)
}

pub fn reduce_log_sum(b: &mut Builder, n: &Node) -> Result<Results> {
    reduce_between(b, n, unchanged, logarithm)
}

pub fn reduce_log_sum_exp(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, axes, keep) = operands(b, n, 18)?;
    let dtype = b.dtype(x);
    let x = if dtype.is_float() { x } else { b.cast(x, DType::F64)? };
    let y = if b.ty(x).numel().is(0) {
        let e = b.unary(UnaryOp::Exp, x)?;
        let sum = b.reduce(ReduceKind::Sum, e, &axes, keep)?;
        b.unary(UnaryOp::Log, sum)?
    } else {
        log_sum_exp(b, x, &axes, keep)?
    };
    Ok(b.cast(y, dtype)?.into())
}

/// Before version 13 softmax worked on a matrix: rows are the axes before `axis`, columns those from it on.
pub fn softmax_view(b: &mut Builder, n: &Node, x: Value) -> Result<(Value, usize)> {
    let shape = b.shape(x);
    if n.version >= 13 {
        return Ok((x, builder::axis(n.int("axis", -1)?, shape.len())?));
    }
    let axis = match n.int("axis", 1)? {
        a if a == shape.len() as i64 => shape.len(),
        a => builder::axis(a, shape.len())?,
    };
    // With only the last axis, nothing needs to be joined.
    if axis + 1 == shape.len() {
        return Ok((x, axis));
    }
    let (outer, inner) = (shape[..axis].iter().product(), shape[axis..].iter().product());
    Ok((b.reshape(x, vec![outer, inner])?, 1))
}

fn softmax_as(b: &mut Builder, n: &Node, log: bool) -> Result<Results> {
    let x = n.input(0)?;
    let shape = b.shape(x);
    let (flat, axis) = softmax_view(b, n, x)?;
    let y = b.add(Op::Softmax { axis, log }, &[flat])?;
    Ok(b.reshape(y, shape)?.into())
}

pub fn softmax(b: &mut Builder, n: &Node) -> Result<Results> {
    softmax_as(b, n, false)
}

pub fn log_softmax(b: &mut Builder, n: &Node) -> Result<Results> {
    softmax_as(b, n, true)
}

pub fn matmul(b: &mut Builder, n: &Node) -> Result<Results> {
    Ok(product(b, n.input(0)?, n.input(1)?)?.into())
}

/// numpy's `matmul`: a vector is a row on the left and a column on the right.
pub fn product(b: &mut Builder, x: Value, y: Value) -> Result<Value> {
    let (rx, ry) = (b.rank(x), b.rank(y));
    if rx == 0 || ry == 0 {
        return Err(Error::invalid("a matrix product of a scalar"));
    }
    let left = if rx == 1 { b.unsqueeze(x, &[0])? } else { x };
    let right = if ry == 1 { b.unsqueeze(y, &[1])? } else { y };
    let z = b.matmul(left, right)?;
    let rank = b.rank(z);
    let mut drop = Vec::new();
    if rx == 1 {
        drop.push(rank - 2);
    }
    if ry == 1 {
        drop.push(rank - 1);
    }
    b.squeeze(z, &drop)
}

/// `alpha * A' * B' + beta * C`.
pub fn gemm(b: &mut Builder, n: &Node) -> Result<Results> {
    let (mut x, mut y) = (n.input(0)?, n.input(1)?);
    // Up to version 6, C is not flattened, but may have trailing axes of extent 1.
    if n.flag("transA", false)? {
        x = b.transpose_last(x)?;
    }
    if n.flag("transB", false)? {
        y = b.transpose_last(y)?;
    }
    let (alpha, beta) = (n.float("alpha", 1.0)?, n.float("beta", 1.0)?);
    let mut z = b.matmul(x, y)?;
    if alpha != 1.0 {
        z = b.with(BinaryOp::Mul, z, alpha)?;
    }
    if let Some(c) = n.optional(2)
        && beta != 0.0
    {
        let c = if beta == 1.0 { c } else { b.with(BinaryOp::Mul, c, beta)? };
        let product = b.shape(z);
        z = b.plus(z, c)?;
        if b.rank(z) != product.len() {
            return Err(Error::invalid(format!("input C is {}, the product {product:?}", b.ty(c)))
                .help("C must broadcast to the product, not the other way round"));
        }
        for (whole, own) in b.shape(z).into_iter().zip(product) {
            b.require(Condition::Equal(whole, own), "input C must broadcast to the product")?;
        }
    }
    Ok(z.into())
}

/// com.microsoft: transposes the last two axes, and scales.
pub fn fused_matmul(b: &mut Builder, n: &Node) -> Result<Results> {
    if n.flag("transBatchA", false)? || n.flag("transBatchB", false)? {
        return Err(Error::unsupported("attribute transBatchA or transBatchB"));
    }
    let (mut x, mut y) = (n.input(0)?, n.input(1)?);
    if n.flag("transA", false)? {
        x = b.transpose_last(x)?;
    }
    if n.flag("transB", false)? {
        y = b.transpose_last(y)?;
    }
    let z = product(b, x, y)?;
    let alpha = n.float("alpha", 1.0)?;
    Ok(if alpha == 1.0 { z } else { b.with(BinaryOp::Mul, z, alpha)? }.into())
}

/// Multiplies operands two at a time, each pair as one batched matrix product.
pub fn einsum(b: &mut Builder, n: &Node) -> Result<Results> {
    let equation: String = n.text("equation", "")?.chars().filter(|c| !c.is_whitespace()).collect();
    let (inputs, output) = match equation.split_once("->") {
        Some((i, o)) => (i.to_string(), Some(o.to_string())),
        None => (equation.clone(), None),
    };
    let values = n.tensors()?;
    let terms: Vec<&str> = inputs.split(',').collect();
    if terms.len() != values.len() {
        return Err(Error::invalid(format!(
            "equation \"{equation}\" has {} terms for {} inputs",
            terms.len(),
            values.len()
        )));
    }
    let (mut operands, mut all) = (Vec::new(), Vec::new());
    for (term, &x) in terms.iter().zip(&values) {
        let labels = labels(term, b.rank(x))?;
        all.extend(labels.iter().copied());
        operands.push(diagonal(b, x, labels)?);
    }
    let output: Vec<char> = match output {
        Some(o) => {
            let dots: std::collections::BTreeSet<char> = all.into_iter().filter(|c| !c.is_alphabetic()).collect();
            let ellipsis: String = dots.into_iter().collect();
            o.replace("...", &ellipsis).chars().collect()
        }
        None => {
            // Labels that occur once in all terms, in alphabetical order.
            let mut once: Vec<char> =
                all.iter().copied().filter(|c| all.iter().filter(|d| *d == c).count() == 1).collect();
            let mut dots: Vec<char> = all.into_iter().filter(|c| !c.is_alphabetic()).collect();
            dots.sort_unstable();
            dots.dedup();
            once.retain(|c| c.is_alphabetic());
            once.sort_unstable();
            dots.into_iter().chain(once).collect()
        }
    };
    let mut rest = operands.into_iter();
    let mut acc = rest.next().ok_or_else(|| Error::invalid("no operand"))?;
    let mut rest: Vec<Labelled> = rest.collect();
    while !rest.is_empty() {
        let next = rest.remove(0);
        let needed = |c: &char| output.contains(c) || rest.iter().any(|x| x.labels.contains(c));
        acc = contract(b, acc, next, &needed)?;
    }
    let Labelled { value: x, labels } = sum_out(b, acc, &|c| output.contains(c))?;
    let perm: Option<Vec<usize>> = output.iter().map(|c| labels.iter().position(|l| l == c)).collect();
    let perm =
        perm.ok_or_else(|| Error::invalid(format!("equation \"{equation}\": an output label is in no input")))?;
    Ok(b.transpose(x, &perm)?.into())
}

/// One letter per axis; the axes of an ellipsis get characters from U+E000 on, the last axis the highest.
fn labels(term: &str, rank: usize) -> Result<Vec<char>> {
    let Some((before, after)) = term.split_once("...") else {
        let labels: Vec<char> = term.chars().collect();
        return match labels.len() == rank {
            true => Ok(labels),
            false => Err(Error::invalid(format!("term \"{term}\" for an operand of rank {rank}"))),
        };
    };
    let named = before.chars().count() + after.chars().count();
    let hidden = rank.checked_sub(named).filter(|&h| h < 64);
    let hidden = hidden.ok_or_else(|| Error::invalid(format!("term \"{term}\" for an operand of rank {rank}")))?;
    let dots = (64 - hidden as u32..64).filter_map(|i| char::from_u32(0xe000 + i));
    Ok(before.chars().chain(dots).chain(after.chars()).collect())
}

/// An operand, and the label of each of its axes.
struct Labelled {
    value: Value,
    labels: Vec<char>,
}

/// Takes the diagonal for a label that repeats within a term.
fn diagonal(b: &mut Builder, mut x: Value, mut labels: Vec<char>) -> Result<Labelled> {
    while let Some((i, j)) =
        (0..labels.len()).find_map(|i| (i + 1..labels.len()).find(|&j| labels[j] == labels[i]).map(|j| (i, j)))
    {
        let shape = b.shape(x);
        let equal = Condition::Equal(shape[i].clone(), shape[j].clone());
        b.require(equal, "the extents of two axes with one label")?;
        let square = vec![shape[i].clone(), shape[j].clone()];
        let row = b.add(Op::Iota { dtype: DType::I64, shape: square.clone(), axis: 0 }, &[])?;
        let column = b.add(Op::Iota { dtype: DType::I64, shape: square, axis: 1 }, &[])?;
        let on = b.binary(BinaryOp::Equal, row, column)?;
        let mut mask = vec![Dim::ONE; shape.len()];
        (mask[i], mask[j]) = (shape[i].clone(), shape[j].clone());
        let on = b.reshape(on, mask)?;
        let zero = b.scalar_like(x, 0.0);
        x = b.select(on, x, zero)?;
        x = b.reduce(ReduceKind::Sum, x, &[j], false)?;
        labels.remove(j);
    }
    Ok(Labelled { value: x, labels })
}

fn sum_out(b: &mut Builder, x: Labelled, keep: &dyn Fn(&char) -> bool) -> Result<Labelled> {
    let Labelled { value, labels } = x;
    let axes: Vec<usize> = (0..labels.len()).filter(|&i| !keep(&labels[i])).collect();
    let value = b.reduce(ReduceKind::Sum, value, &axes, false)?;
    Ok(Labelled { value, labels: labels.into_iter().filter(|c| keep(c)).collect() })
}

/// The product of two operands, summed over the labels that are not needed afterwards.
fn contract(b: &mut Builder, x: Labelled, y: Labelled, needed: &dyn Fn(&char) -> bool) -> Result<Labelled> {
    let Labelled { value: x, labels: xl } = sum_out(b, x, &|c| needed(c) || y.labels.contains(c))?;
    let Labelled { value: y, labels: yl } = sum_out(b, y, &|c| needed(c) || xl.contains(c))?;
    let batch: Vec<char> = xl.iter().copied().filter(|c| yl.contains(c) && needed(c)).collect();
    let inner: Vec<char> = xl.iter().copied().filter(|c| yl.contains(c) && !needed(c)).collect();
    let rows: Vec<char> = xl.iter().copied().filter(|c| !yl.contains(c)).collect();
    let columns: Vec<char> = yl.iter().copied().filter(|c| !xl.contains(c)).collect();
    let (sx, sy) = (b.shape(x), b.shape(y));
    let at = |labels: &[char], c: &char| labels.iter().position(|l| l == c).unwrap_or(0);
    let extent = |c: &char| -> Dim {
        let of = |labels: &[char], shape: &[Dim]| labels.iter().position(|l| l == c).map(|i| shape[i].clone());
        match (of(&xl, &sx), of(&yl, &sy)) {
            (Some(a), Some(d)) => {
                if a.is(1) {
                    d
                } else {
                    a
                }
            }
            (Some(a), None) | (None, Some(a)) => a,
            (None, None) => Dim::ONE,
        }
    };
    let perm = |labels: &[char], groups: [&[char]; 3]| -> Vec<usize> {
        groups.iter().flat_map(|g| g.iter()).map(|c| at(labels, c)).collect()
    };
    let full = |labels: [&[char]; 3]| -> Vec<Dim> { labels.iter().flat_map(|g| g.iter()).map(extent).collect() };
    let product = |labels: &[char]| -> Dim { labels.iter().map(extent).product() };
    let x = b.transpose(x, &perm(&xl, [&batch, &rows, &inner]))?;
    let y = b.transpose(y, &perm(&yl, [&batch, &inner, &columns]))?;
    let result: Vec<char> = [batch.clone(), rows.clone(), columns.clone()].concat();
    if inner.is_empty() {
        // A broadcast product is cheaper than an outer product.
        let ones = |n: usize| vec![Dim::ONE; n];
        let left = [b.shape(x), ones(columns.len())].concat();
        let mut right = b.shape(y);
        right.splice(batch.len()..batch.len(), ones(rows.len()));
        let (x, y) = (b.reshape(x, left)?, b.reshape(y, right)?);
        return Ok(Labelled { value: b.times(x, y)?, labels: result });
    }
    let x = b.broadcast(x, full([&batch, &rows, &inner]))?;
    let y = b.broadcast(y, full([&batch, &inner, &columns]))?;
    let outer: Vec<Dim> = batch.iter().map(extent).collect();
    let x = b.reshape(x, [outer.clone(), vec![product(&rows), product(&inner)]].concat())?;
    let y = b.reshape(y, [outer, vec![product(&inner), product(&columns)]].concat())?;
    let z = b.matmul(x, y)?;
    let z = b.reshape(z, result.iter().map(extent).collect())?;
    Ok(Labelled { value: z, labels: result })
}
