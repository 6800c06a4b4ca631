//! Operators that gather or scatter elements by index.

use super::super::builder::{self, Builder};
use super::super::node::{Node, Results};
use mcc_ir::{BinaryOp, DType, Dim, Error, Op, Result, ScatterReduction, Tensor, Value};

pub fn gather(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let axis = builder::axis(n.int("axis", 0)?, b.rank(x))?;
    within(b, n.input(1)?, &b.shape(x)[axis].clone(), "input indices")?;
    Ok(b.gather(x, n.input(1)?, axis)?.into())
}

/// Checks known indices, such as those into a table of weights, against an axis.
pub fn within(b: &Builder, indices: Value, extent: &Dim, what: &str) -> Result<()> {
    let (Some(extent), Some(t)) = (extent.as_const(), b.graph.as_constant(indices)) else { return Ok(()) };
    let outside = (0..t.numel()).map(|i| (i, t.i64_at(i))).find(|&(_, v)| v < -extent || v >= extent);
    match outside {
        Some((at, v)) => Err(Error::invalid(format!("{what} is {v} at element {at}, for {extent} elements"))
            .help("indices start at 0; negative ones count from the end")),
        None => Ok(()),
    }
}

/// Checks known index tuples, whose elements along the last axis are indices for the leading axes.
fn tuples_within(b: &Builder, indices: Value, shape: &[Dim]) -> Result<()> {
    let Some(t) = b.graph.as_constant(indices) else { return Ok(()) };
    let width = t.shape().last().copied().unwrap_or(1).max(1);
    for i in 0..t.numel() {
        let (v, extent) = (t.i64_at(i), shape.get(i % width).and_then(Dim::as_const));
        if let Some(extent) = extent.filter(|e| !(-e..*e).contains(&v)) {
            let axis = i % width;
            return Err(Error::invalid(format!(
                "input indices is {v} at element {i}, for {extent} elements of axis {axis}"
            ))
            .help("indices start at 0; negative ones count from the end"));
        }
    }
    Ok(())
}

pub fn gather_elements(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let axis = builder::axis(n.int("axis", 0)?, b.rank(x))?;
    within(b, n.input(1)?, &b.shape(x)[axis].clone(), "input indices")?;
    Ok(b.add(Op::GatherElements { axis }, &[x, n.input(1)?])?.into())
}

pub fn gather_nd(b: &mut Builder, n: &Node) -> Result<Results> {
    let batch_dims = n.int("batch_dims", 0)?;
    let batch_dims = usize::try_from(batch_dims).map_err(|_| Error::invalid("attribute batch_dims is negative"))?;
    tuples_within(b, n.input(1)?, b.shape(n.input(0)?).get(batch_dims..).unwrap_or_default())?;
    Ok(b.add(Op::GatherNd { batch_dims }, &[n.input(0)?, n.input(1)?])?.into())
}

fn reduction(n: &Node) -> Result<ScatterReduction> {
    Ok(match n.text("reduction", "none")?.as_str() {
        "none" => ScatterReduction::None,
        "add" => ScatterReduction::Add,
        "mul" => ScatterReduction::Mul,
        "max" => ScatterReduction::Max,
        "min" => ScatterReduction::Min,
        other => return Err(Error::invalid(format!("attribute reduction is \"{other}\""))),
    })
}

pub fn scatter_elements(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let axis = builder::axis(n.int("axis", 0)?, b.rank(x))?;
    within(b, n.input(1)?, &b.shape(x)[axis].clone(), "input indices")?;
    Ok(b.add(Op::ScatterElements { axis, reduction: reduction(n)? }, &[x, n.input(1)?, n.input(2)?])?.into())
}

pub fn scatter_nd(b: &mut Builder, n: &Node) -> Result<Results> {
    tuples_within(b, n.input(1)?, &b.shape(n.input(0)?))?;
    Ok(b.add(Op::ScatterNd { reduction: reduction(n)? }, &[n.input(0)?, n.input(1)?, n.input(2)?])?.into())
}

/// Converts indices that count from the end to indices from the start.
pub fn from_start(b: &mut Builder, indices: Value, extent: &Dim) -> Result<Value> {
    let dtype = b.dtype(indices);
    let extent = b.dim_scalar(extent, dtype)?;
    let shifted = b.plus(indices, extent)?;
    let negative = b.with(BinaryOp::Less, indices, 0.0)?;
    b.select(negative, shifted, indices)
}

/// Inserts an axis of extent `depth`, true at the index.
pub fn one_hot_mask(b: &mut Builder, indices: Value, depth: &Dim, axis: usize) -> Result<Value> {
    let indices = from_start(b, indices, depth)?;
    let indices = b.unsqueeze(indices, &[axis])?;
    let rank = b.rank(indices);
    let dtype = b.dtype(indices);
    let positions = b.iota(dtype, depth)?;
    let positions = b.along(positions, axis, rank)?;
    b.binary(BinaryOp::Equal, indices, positions)
}

pub fn one_hot(b: &mut Builder, n: &Node) -> Result<Results> {
    let (indices, depth, values) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let axis = builder::axis(n.int("axis", -1)?, b.rank(indices) + 1)?;
    let depth = b.dims(depth, "the depth")?.first().cloned().ok_or_else(|| Error::invalid("the depth is empty"))?;
    let indices = b.cast(indices, DType::I64)?;
    let on = one_hot_mask(b, indices, &depth, axis)?;
    let pick = |b: &mut Builder, i: i64| {
        let v = b.slice(values, 0, Dim::from(i), Dim::ONE)?;
        b.reshape(v, Vec::new())
    };
    let (off_value, on_value) = (pick(b, 0)?, pick(b, 1)?);
    Ok(b.select(on, on_value, off_value)?.into())
}

/// The count was an attribute before version 10. The results are always sorted.
pub fn top_k(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let axis = builder::axis(n.int("axis", -1)?, b.rank(x))?;
    let k = match n.version {
        ..10 => Dim::from(n.need("k", n.try_int("k")?)?),
        _ => b.dims(n.input(1)?, "k")?.first().cloned().ok_or_else(|| Error::invalid("k is empty"))?,
    };
    Ok(b.add_many(Op::TopK { k, axis, largest: n.flag("largest", true)? }, &[x])?.into())
}

fn arg_reduce(b: &mut Builder, n: &Node, largest: bool) -> Result<Results> {
    let x = n.input(0)?;
    let axis = builder::axis(n.int("axis", 0)?, b.rank(x))?;
    let (keep, last) = (n.flag("keepdims", true)?, n.flag("select_last_index", false)?);
    Ok(b.add(Op::ArgReduce { largest, axis, keep, last }, &[x])?.into())
}

pub fn arg_max(b: &mut Builder, n: &Node) -> Result<Results> {
    arg_reduce(b, n, true)
}

pub fn arg_min(b: &mut Builder, n: &Node) -> Result<Results> {
    arg_reduce(b, n, false)
}

/// One at the first largest element; before version 13 all trailing axes count as one.
pub fn hardmax(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let shape = b.shape(x);
    let (flat, axis) = super::reduce::softmax_view(b, n, x)?;
    let at = b.add(Op::ArgReduce { largest: true, axis, keep: false, last: false }, &[flat])?;
    let extent = b.shape(flat)[axis].clone();
    let on = one_hot_mask(b, at, &extent, axis)?;
    let dtype = b.dtype(x);
    let y = b.cast(on, dtype)?;
    Ok(b.reshape(y, shape)?.into())
}

/// Coordinates of non-zero elements; their number is known at run time only, unless the data is constant.
pub fn non_zero(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    Ok(non_zero_of(b, x)?.into())
}

fn non_zero_of(b: &mut Builder, x: Value) -> Result<Value> {
    if let (Some(known), Some(shape)) = (b.known_floats(x), b.ty(x).fixed_shape()) {
        let at: Vec<usize> = (0..known.len()).filter(|&i| known[i] != 0.0).collect();
        let mut coordinates = Vec::with_capacity(at.len() * shape.len());
        for axis in 0..shape.len() {
            let inner: usize = shape[axis + 1..].iter().product();
            coordinates.extend(at.iter().map(|i| (i / inner % shape[axis]) as i64));
        }
        return Ok(b.constant(Tensor::from_i64s(DType::I64, vec![shape.len(), at.len()], &coordinates)?));
    }
    let count = b.counted_symbol("nonzero");
    b.add(Op::NonZero { count }, &[x])
}

/// The elements, or slices along an axis, at which a condition is true.
pub fn compress(b: &mut Builder, n: &Node) -> Result<Results> {
    let (mut x, mut condition) = (n.input(0)?, n.input(1)?);
    let axis = match n.try_int("axis")? {
        Some(a) => builder::axis(a, b.rank(x))?,
        None => {
            let numel = b.ty(x).numel();
            x = b.reshape(x, vec![numel])?;
            0
        }
    };
    let extent = b.shape(x)[axis].clone();
    let [count] = b.extents(condition, "input condition")?;
    if let (Some(c), Some(e)) = (count.as_const(), extent.as_const())
        && c > e
    {
        condition = b.slice(condition, 0, Dim::ZERO, extent)?;
    }
    let at = non_zero_of(b, condition)?;
    let at = b.squeeze(at, &[0])?;
    Ok(b.gather(x, at, axis)?.into())
}

/// Writes a window into a cache along an axis, at a separate index per batch.
pub fn tensor_scatter(b: &mut Builder, n: &Node) -> Result<Results> {
    let (cache, update) = (n.input(0)?, n.input(1)?);
    let rank = b.rank(cache);
    let axis = builder::axis(n.int("axis", -2)?, rank)?;
    let shape = b.shape(update);
    let mut position = b.add(Op::Iota { dtype: DType::I64, shape: shape.clone(), axis }, &[])?;
    if let Some(first) = n.optional(2) {
        let first = b.along(first, 0, rank)?;
        position = b.plus(position, first)?;
    }
    if n.text("mode", "linear")? == "circular" {
        let extent = b.shape(cache)[axis].clone();
        let extent = b.dim_scalar(&extent, DType::I64)?;
        position = b.binary(BinaryOp::Mod, position, extent)?;
    }
    let op = Op::ScatterElements { axis, reduction: ScatterReduction::None };
    Ok(b.add(op, &[cache, position, update])?.into())
}

/// The inverse of maximum pooling: puts values at the positions that their indices give.
pub fn max_unpool(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, indices) = (n.input(0)?, n.input(1)?);
    let shape = b.shape(x);
    let kernel = n.need("kernel_shape", n.ints("kernel_shape")?)?;
    let spatial = kernel.len();
    let strides = n.ints("strides")?.unwrap_or_else(|| vec![1; spatial]);
    let pads = n.ints("pads")?.unwrap_or_else(|| vec![0; 2 * spatial]);
    if shape.len() != spatial + 2 || strides.len() != spatial || pads.len() != 2 * spatial {
        return Err(Error::invalid(format!(
            "attributes kernel_shape {kernel:?}, strides {strides:?} and pads {pads:?} for {}",
            b.ty(x)
        )));
    }
    let target = match n.optional(2) {
        Some(v) => b.dims(v, "the output shape")?,
        None => {
            let mut natural = shape[..2].to_vec();
            for i in 0..spatial {
                let extent = &(&shape[i + 2] - &Dim::ONE) * &Dim::from(strides[i]);
                let pads = &Dim::from(pads[i]) + &Dim::from(pads[i + spatial]);
                natural.push(&extent + &(&Dim::from(kernel[i]) - &pads));
            }
            natural
        }
    };
    // The indices are flat indices into the result.
    let numel: Dim = target.iter().product();
    let flat = |b: &mut Builder, v| {
        let numel = b.ty(v).numel();
        b.reshape(v, vec![numel])
    };
    let (x, indices) = (flat(b, x)?, flat(b, indices)?);
    let dtype = b.dtype(x);
    let zeros = b.splat(dtype, 0.0, vec![numel])?;
    let op = Op::ScatterElements { axis: 0, reduction: ScatterReduction::None };
    let y = b.add(op, &[zeros, indices, x])?;
    Ok(b.reshape(y, target)?.into())
}

/// Sorts boxes by descending score and suppresses them per class; rows `[batch, class, box]` of the boxes that are
/// kept.
pub fn non_max_suppression(b: &mut Builder, n: &Node) -> Result<Results> {
    let (boxes, scores) = (n.input(0)?, n.input(1)?);
    let shape = b.shape(scores);
    let [batch, classes, count] = <[Dim; 3]>::try_from(shape.clone())
        .map_err(|s| Error::invalid(format!("scores of shape {s:?}, not [batch, class, box]")))?;
    let scalar = |b: &mut Builder, input: usize, dtype: DType| match n.optional(input) {
        Some(v) => {
            let v = b.cast(v, dtype)?;
            b.reshape(v, Vec::new())
        }
        None => Ok(b.scalar(dtype, 0.0)),
    };
    let most = scalar(b, 2, DType::I64)?;
    let threshold = scalar(b, 3, DType::F32)?;
    let sorted = b.add_many(Op::TopK { k: count.clone(), axis: 2, largest: true }, &[scores])?;
    let (scores, order) = (sorted[0], sorted[1]);
    let corners = corners(b, boxes, n.flag("center_point_box", false)?)?;
    // A row of boxes per class, in the class's order.
    let wide = vec![batch.clone(), classes.clone(), count.clone(), Dim::from(4i64)];
    let corners = b.unsqueeze(corners, &[1])?;
    let corners = b.broadcast(corners, wide.clone())?;
    let index = b.unsqueeze(order, &[3])?;
    let index = b.broadcast(index, wide)?;
    let corners = b.add(Op::GatherElements { axis: 2 }, &[corners, index])?;
    let groups = &batch * &classes;
    let corners = b.reshape(corners, vec![groups.clone(), count.clone(), Dim::from(4i64)])?;
    let live = match n.optional(4) {
        Some(_) => {
            let least = scalar(b, 4, DType::F32)?;
            b.binary(BinaryOp::Greater, scores, least)?
        }
        None => b.splat(DType::Bool, 1.0, shape.clone())?,
    };
    let live = b.reshape(live, vec![groups, count])?;
    let kept = b.add(Op::NonMaxSuppression, &[corners, live, threshold])?;
    // The first `max_output_boxes_per_class` of them.
    let kind = mcc_ir::CumulativeKind::Sum;
    let rank = b.add(Op::Cumulative { kind, axis: 1, exclusive: false, reverse: false }, &[kept])?;
    let early = b.binary(BinaryOp::LessOrEqual, rank, most)?;
    let kept = b.cast(kept, DType::Bool)?;
    let kept = b.binary(BinaryOp::And, kept, early)?;
    let kept = b.reshape(kept, shape)?;
    let at = non_zero_of(b, kept)?;
    let at = b.transpose(at, &[1, 0])?;
    let found = b.add(Op::GatherNd { batch_dims: 0 }, &[order, at])?;
    let found = b.unsqueeze(found, &[1])?;
    let group = b.slice(at, 1, Dim::ZERO, Dim::from(2i64))?;
    Ok(b.concat(&[group, found], 1)?.into())
}

/// Converts boxes to `y0 x0 y1 x1` with the lesser corner first, from any two corners, or from centre and size.
fn corners(b: &mut Builder, boxes: Value, centred: bool) -> Result<Value> {
    let mut columns = Vec::new();
    for i in 0..4 {
        columns.push(b.slice(boxes, 2, Dim::from(i as i64), Dim::ONE)?);
    }
    let [c0, c1, c2, c3] = [columns[0], columns[1], columns[2], columns[3]];
    let parts = if centred {
        let (half_width, half_height) = (b.with(BinaryOp::Mul, c2, 0.5)?, b.with(BinaryOp::Mul, c3, 0.5)?);
        [b.minus(c1, half_height)?, b.minus(c0, half_width)?, b.plus(c1, half_height)?, b.plus(c0, half_width)?]
    } else {
        [
            b.binary(BinaryOp::Min, c0, c2)?,
            b.binary(BinaryOp::Min, c1, c3)?,
            b.binary(BinaryOp::Max, c0, c2)?,
            b.binary(BinaryOp::Max, c1, c3)?,
        ]
    };
    b.concat(&parts, 2)
}
