//! Operators that move elements without computing: shapes, slices, concatenation, padding.

use super::super::builder::{self, Builder, broadcast_shape};
use super::super::content::{self, lower_bound};
use super::super::node::{Node, Results};
use super::super::tensor;
use mcc_ir::{BinaryOp, Condition, DType, Dim, Error, Op, PadMode, Range, Result, Tensor, Value};

/// A list that is an input since version `since`, and was an attribute before.
pub fn list(b: &mut Builder, n: &Node, input: usize, attribute: &str, since: i64) -> Result<Option<Vec<i64>>> {
    if n.version < since {
        return n.ints(attribute);
    }
    n.optional(input).map(|v| b.ints(v, attribute)).transpose()
}

pub fn constant(b: &mut Builder, n: &Node) -> Result<Results> {
    if let Some(proto) = n.tensor("value")? {
        let t = tensor::tensor(&proto, &mut b.external)?;
        return Ok(b.constant(t).into());
    }
    if let Some(v) = n.try_float("value_float")? {
        return Ok(b.scalar(DType::F32, f64::from(v)).into());
    }
    if let Some(v) = n.try_int("value_int")? {
        return Ok(b.constant(Tensor::scalar_i64(DType::I64, v)).into());
    }
    if let Some(v) = n.ints("value_ints")? {
        return Ok(b.constant(Tensor::from_i64s(DType::I64, vec![v.len()], &v)?).into());
    }
    if n.has("value_floats") {
        let v: Vec<f64> = n.floats("value_floats")?.into_iter().map(f64::from).collect();
        return Ok(b.constant(Tensor::from_f64s(DType::F32, vec![v.len()], &v)?).into());
    }
    if let Some(proto) = n.attribute("sparse_value").and_then(|a| a.sparse_tensor.as_ref()) {
        let t = tensor::sparse(proto, &mut b.external)?;
        return Ok(b.constant(t).into());
    }
    Err(Error::unsupported("a constant of text, or without a value"))
}

pub fn constant_of_shape(b: &mut Builder, n: &Node) -> Result<Results> {
    let shape = b.dims(n.input(0)?, "the shape")?;
    let value = match n.tensor("value")? {
        Some(proto) => tensor::tensor(&proto, &mut b.external)?.reshaped(Vec::new())?,
        None => Tensor::scalar_f64(DType::F32, 0.0),
    };
    let scalar = b.constant(value);
    Ok(b.broadcast(scalar, shape)?.into())
}

pub fn shape(b: &mut Builder, n: &Node) -> Result<Results> {
    let dims = b.shape(n.input(0)?);
    let rank = dims.len() as i64;
    let clamp = |v: i64| (if v < 0 { v + rank } else { v }).clamp(0, rank) as usize;
    let (start, end) = (clamp(n.int("start", 0)?), clamp(n.int("end", rank)?));
    let taken = dims.get(start..end.max(start)).unwrap_or_default().to_vec();
    Ok(b.shape_tensor(taken)?.into())
}

pub fn size(b: &mut Builder, n: &Node) -> Result<Results> {
    let numel = b.ty(n.input(0)?).numel();
    Ok(b.dim_scalar(&numel, DType::I64)?.into())
}

pub fn transpose(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let rank = b.rank(x);
    let perm = match n.ints("perm")? {
        Some(p) => p.iter().map(|&a| builder::axis(a, rank)).collect::<Result<_>>()?,
        None => (0..rank).rev().collect::<Vec<_>>(),
    };
    Ok(b.transpose(x, &perm)?.into())
}

pub fn expand(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let target = b.dims(n.input(1)?, "the shape")?;
    let shape = broadcast_shape(&b.shape(x), &target)?;
    Ok(b.broadcast(x, shape)?.into())
}

pub fn tile(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    if n.version < 6 {
        let tiles = b.dims(n.input(1)?, "the number of tiles")?;
        let axis = b.ints(n.input(2)?, "the axis")?;
        let axis = builder::axis(axis.first().copied().unwrap_or(0), b.rank(x))?;
        let mut repeats = vec![Dim::ONE; b.rank(x)];
        repeats[axis] = tiles.first().cloned().unwrap_or(Dim::ONE);
        return Ok(tiled(b, x, &repeats)?.into());
    }
    let repeats = b.dims(n.input(1)?, "the repeats")?;
    if repeats.len() != b.rank(x) {
        return Err(Error::invalid(format!("{} repeats for {}", repeats.len(), b.ty(x))));
    }
    Ok(tiled(b, x, &repeats)?.into())
}

/// `[a, b]` becomes `[1, a, 1, b]`, broadcasts to `[r, a, s, b]`, and is `[r*a, s*b]`.
fn tiled(b: &mut Builder, x: Value, repeats: &[Dim]) -> Result<Value> {
    let shape = b.shape(x);
    let (mut split, mut wide) = (Vec::new(), Vec::new());
    for (r, d) in repeats.iter().zip(&shape) {
        if !r.is(1) {
            split.push(Dim::ONE);
            wide.push(r.clone());
        }
        split.push(d.clone());
        wide.push(d.clone());
    }
    let x = b.reshape(x, split)?;
    let x = b.broadcast(x, wide)?;
    b.reshape(x, repeats.iter().zip(&shape).map(|(r, d)| r * d).collect())
}

pub fn concat(b: &mut Builder, n: &Node) -> Result<Results> {
    let parts = n.tensors()?;
    let first = *parts.first().ok_or_else(|| Error::invalid("no operand"))?;
    let axis = builder::axis(n.int("axis", 1)?, b.rank(first))?;
    Ok(b.concat(&parts, axis)?.into())
}

/// The sizes are an attribute or an input; without them, the axis is split evenly.
pub fn split(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let axis = builder::axis(n.int("axis", 0)?, b.rank(x))?;
    let extent = b.shape(x)[axis].clone();
    let given = match n.version {
        ..13 if n.version >= 2 || n.has("split") => n.ints("split")?.map(|s| s.into_iter().map(Dim::from).collect()),
        _ => n.optional(1).map(|v| b.dims(v, "the split")).transpose()?,
    };
    let sizes = match given {
        Some(sizes) => sizes,
        None => {
            let outputs = n.proto.output.len() as i64;
            let parts = n.try_int("num_outputs")?.unwrap_or(outputs);
            if parts != outputs.max(1) {
                return Err(Error::invalid(format!("attribute num_outputs is {parts} for {outputs} outputs")));
            }
            even_sizes(&extent, parts)
        }
    };
    b.require(
        Condition::Equal(extent, sizes.iter().cloned().sum()),
        "the extent of its axis and the sum of the parts",
    )?;
    let mut start = Dim::ZERO;
    let mut results = Vec::new();
    for size in sizes {
        results.push(b.slice(x, axis, start.clone(), size.clone())?);
        start = &start + &size;
    }
    Ok(results.into())
}

/// Equal sizes, rounded up, except the last one.
pub fn even_sizes(extent: &Dim, parts: i64) -> Vec<Dim> {
    let size = extent.ceil_div(&Dim::from(parts));
    let last = extent - &(&size * &Dim::from(parts - 1));
    let mut sizes = vec![size; (parts - 1) as usize];
    sizes.push(last);
    sizes
}

pub fn slice(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let rank = b.rank(x);
    let as_dims = |v: Vec<i64>| -> Vec<Dim> { v.into_iter().map(Dim::from).collect() };
    let (starts, ends, axes, steps) = if n.version < 10 {
        let starts = as_dims(n.need("starts", n.ints("starts")?)?);
        (starts, as_dims(n.need("ends", n.ints("ends")?)?), n.ints("axes")?, None)
    } else {
        let (starts, ends) = (b.dims(n.input(1)?, "starts")?, b.dims(n.input(2)?, "ends")?);
        let axes = n.optional(3).map(|v| b.ints(v, "axes")).transpose()?;
        (starts, ends, axes, n.optional(4).map(|v| b.ints(v, "steps")).transpose()?)
    };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|&l| l != starts.len()) {
        return Err(Error::invalid("starts, ends, axes and steps differ in length"));
    }
    let shape = b.shape(x);
    let mut ranges: Vec<Range> = shape.iter().map(Range::full).collect();
    for (i, &a) in axes.iter().enumerate() {
        let a = builder::axis(a, rank)?;
        ranges[a] = range(&starts[i], &ends[i], steps[i], &shape[a])?;
    }
    Ok(b.slice_ranges(x, ranges)?.into())
}

/// The elements from `start` to `end`, both clamped to the axis; negative ones count from its end.
pub fn range(start: &Dim, end: &Dim, step: i64, extent: &Dim) -> Result<Range> {
    if step == 0 {
        return Err(Error::invalid("a slice's step is 0"));
    }
    // A larger step than any axis takes one element, and so does the clamped one.
    let step = step.clamp(-(1 << 48), 1 << 48);
    let from_end = |d: &Dim| match (d.as_const(), lower_bound(d)) {
        (Some(c), _) if c < 0 => extent + d,
        (Some(_), _) => d.clone(),
        (None, Some(low)) if low >= 0 => d.clone(),
        // Not positive, and as far from the end as the start is: the start.
        _ if (extent + d).is(0) && lower_bound(&-d).is_some_and(|low| low >= 0) => Dim::ZERO,
        // A difference such as `n-4` that was computed from a shape may be negative, and then counts from the end.
        _ => d.if_neg(&(extent + d), d),
    };
    // The largest numbers mean "to the end"; adding to them would overflow.
    let unbounded = |d: &Dim| d.as_const().is_some_and(|c| c >= i64::from(i32::MAX));
    let bottomless = |d: &Dim| d.as_const().is_some_and(|c| c <= -i64::from(i32::MAX));
    let last = extent - &Dim::ONE;
    let (start, end) = if step > 0 {
        let clamp = |d: &Dim| match d {
            d if unbounded(d) => extent.clone(),
            d if bottomless(d) || d.is(0) => Dim::ZERO,
            d => content::min(&content::max(&from_end(d), &Dim::ZERO), extent),
        };
        (clamp(start), clamp(end))
    } else {
        let below = Dim::from(-1i64);
        let clamp = |d: &Dim, low: &Dim| match d {
            d if unbounded(d) => last.clone(),
            d if bottomless(d) => low.clone(),
            d => content::min(&content::max(&from_end(d), low), &last),
        };
        (clamp(start, &Dim::ZERO), clamp(end, &below))
    };
    let (distance, by) = if step > 0 { (&end - &start, step) } else { (&start - &end, -step) };
    let len = content::max(&distance.ceil_div(&Dim::from(by)), &Dim::ZERO);
    Ok(Range { start: if len.is(0) { Dim::ZERO } else { start }, step, len })
}

pub fn pad(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let rank = b.rank(x);
    let pads: Vec<Dim> = match n.version {
        ..11 => {
            let pads = n.ints("pads")?.or(n.ints("paddings")?);
            n.need("pads", pads)?.into_iter().map(Dim::from).collect()
        }
        _ => b.dims(n.input(1)?, "the padding")?,
    };
    let value = match n.version {
        ..11 => b.scalar_like(x, n.float("value", 0.0)?),
        _ => match n.optional(2) {
            Some(v) => b.reshape(v, Vec::new())?,
            None => b.scalar_like(x, 0.0),
        },
    };
    let axes = match n.optional(3) {
        Some(v) => b.ints(v, "the axes")?.iter().map(|&a| builder::axis(a, rank)).collect::<Result<_>>()?,
        None => (0..rank).collect::<Vec<_>>(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(Error::invalid(format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    let (mut before, mut after) = (vec![Dim::ZERO; rank], vec![Dim::ZERO; rank]);
    for (i, &a) in axes.iter().enumerate() {
        before[a] = pads[i].clone();
        after[a] = pads[i + axes.len()].clone();
    }
    let mode = match n.text("mode", "constant")?.as_str() {
        "constant" => PadMode::Constant,
        "edge" => PadMode::Edge,
        "reflect" => PadMode::Reflect,
        "wrap" => PadMode::Wrap,
        other => return Err(Error::unsupported(format!("padding mode \"{other}\""))),
    };
    Ok(padded(b, x, value, before, after, mode)?.into())
}

/// Negative padding crops.
pub fn padded(
    b: &mut Builder,
    x: Value,
    value: Value,
    mut before: Vec<Dim>,
    mut after: Vec<Dim>,
    mode: PadMode,
) -> Result<Value> {
    let shape = b.shape(x);
    for (axis, extent) in shape.iter().enumerate() {
        let known = [extent, &before[axis], &after[axis]].map(Dim::as_const);
        let [Some(extent), Some(first), Some(last)] = known else { continue };
        let (left, result) = (
            extent.saturating_add(first.min(0)).saturating_add(last.min(0)),
            extent.saturating_add(first.saturating_add(last)),
        );
        if result < 0 || left < 0 && mode != PadMode::Constant {
            return Err(Error::invalid(format!("padding of {first} and {last} on axis {axis} of {}", b.ty(x)))
                .help("negative padding crops; it cannot take away more than there is"));
        }
        if left <= 0 && result > 0 && mode != PadMode::Constant {
            return Err(Error::invalid(format!("padding of {first} and {last} on axis {axis} of {}", b.ty(x)))
                .help("an axis without elements has none to fill up with: only mode \"constant\" can"));
        }
        if left < 0 {
            // No data is left: the result is all constant.
            (before[axis], after[axis]) = (Dim::from(-extent), Dim::from(result));
        }
    }
    let crop = |d: &Dim| content::max(&-d, &Dim::ZERO);
    let ranges = shape.iter().enumerate().map(|(i, d)| {
        let (first, last) = (crop(&before[i]), crop(&after[i]));
        Range { start: first.clone(), step: 1, len: &(d - &first) - &last }
    });
    let ranges = ranges.collect();
    let x = b.slice_ranges(x, ranges)?;
    let keep = |d: Dim| content::max(&d, &Dim::ZERO);
    let (before, after): (Vec<Dim>, Vec<Dim>) =
        (before.into_iter().map(keep).collect(), after.into_iter().map(keep).collect());
    if before.iter().chain(&after).all(|d| d.is(0)) {
        return Ok(x);
    }
    b.add(Op::Pad { before, after, mode }, &[x, value])
}

pub fn center_crop_pad(b: &mut Builder, n: &Node) -> Result<Results> {
    let mut x = n.input(0)?;
    let rank = b.rank(x);
    let sizes = b.ints(n.input(1)?, "the shape")?;
    let axes = n.ints("axes")?.unwrap_or_else(|| (0..rank as i64).collect());
    for (&size, &a) in sizes.iter().zip(&axes) {
        let a = builder::axis(a, rank)?;
        let extent = b.shape(x)[a].as_const().ok_or_else(|| Error::unsupported("a symbolic extent to crop or pad"))?;
        let (mut before, mut after) = (vec![Dim::ZERO; rank], vec![Dim::ZERO; rank]);
        if size < 0 {
            return Err(Error::invalid(format!("the shape asks for {size} elements along axis {a}")));
        }
        let missing = size - extent;
        // When padding, the odd element goes to the end; when cropping, the start loses the half rounded down.
        let first = if missing < 0 { -(-missing / 2) } else { missing / 2 };
        (before[a], after[a]) = (Dim::from(first), Dim::from(missing - first));
        let zero = b.scalar_like(x, 0.0);
        x = padded(b, x, zero, before, after, PadMode::Constant)?;
    }
    Ok(x.into())
}

/// Moves parts of the channels to the spatial axes; `mode` is the order of the channels.
pub fn depth_to_space(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let shape = image(&b.shape(x))?;
    let s = Dim::from(n.need("blocksize", n.try_int("blocksize")?)?);
    let [batch, c, h, w] = &shape;
    let depth = c.floor_div(&(&s * &s));
    let (split, perm) = match n.text("mode", "DCR")?.as_str() {
        "CRD" => ([batch.clone(), depth.clone(), s.clone(), s.clone(), h.clone(), w.clone()], [0, 1, 4, 2, 5, 3]),
        _ => ([batch.clone(), s.clone(), s.clone(), depth.clone(), h.clone(), w.clone()], [0, 3, 4, 1, 5, 2]),
    };
    let x = b.reshape(x, split.to_vec())?;
    let x = b.transpose(x, &perm)?;
    Ok(b.reshape(x, vec![batch.clone(), depth, h * &s, w * &s])?.into())
}

pub fn space_to_depth(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let [batch, c, h, w] = image(&b.shape(x))?;
    let s = Dim::from(n.need("blocksize", n.try_int("blocksize")?)?);
    let (rows, columns) = (h.floor_div(&s), w.floor_div(&s));
    let split = vec![batch.clone(), c.clone(), rows.clone(), s.clone(), columns.clone(), s.clone()];
    let x = b.reshape(x, split)?;
    let perm = match n.text("mode", "DCR")?.as_str() {
        "CRD" => [0, 1, 3, 5, 2, 4],
        _ => [0, 3, 5, 1, 2, 4],
    };
    let x = b.transpose(x, &perm)?;
    Ok(b.reshape(x, vec![batch, &(&c * &s) * &s, rows, columns])?.into())
}

fn image(shape: &[Dim]) -> Result<[Dim; 4]> {
    <[Dim; 4]>::try_from(shape.to_vec()).map_err(|s| Error::invalid(format!("rank 4 is needed, not shape {s:?}")))
}

/// The diagonal and the elements below or above it.
pub fn trilu(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let shape = b.shape(x);
    let rank = shape.len();
    if rank < 2 {
        return Err(Error::invalid("rank 2 at least is needed"));
    }
    let square = shape[rank - 2..].to_vec();
    let row = b.add(Op::Iota { dtype: DType::I64, shape: square.clone(), axis: 0 }, &[])?;
    let column = b.add(Op::Iota { dtype: DType::I64, shape: square, axis: 1 }, &[])?;
    let row = match n.optional(1) {
        Some(k) => {
            let k = b.cast(k, DType::I64)?;
            let k = b.reshape(k, Vec::new())?;
            b.plus(row, k)?
        }
        None => row,
    };
    let f = if n.flag("upper", true)? { BinaryOp::GreaterOrEqual } else { BinaryOp::LessOrEqual };
    let kept = b.binary(f, column, row)?;
    let zero = b.scalar_like(x, 0.0);
    Ok(b.select(kept, x, zero)?.into())
}

pub fn eye_like(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let dtype = match n.try_int("dtype")? {
        Some(t) => tensor::dtype(t)?,
        None => b.dtype(x),
    };
    let shape = b.shape(x);
    let row = b.add(Op::Iota { dtype: DType::I64, shape: shape.clone(), axis: 0 }, &[])?;
    let column = b.add(Op::Iota { dtype: DType::I64, shape, axis: 1 }, &[])?;
    let row = b.with(BinaryOp::Add, row, n.int("k", 0)? as f64)?;
    let on = b.binary(BinaryOp::Equal, column, row)?;
    Ok(b.cast(on, dtype)?.into())
}

/// `start, start + delta...`; the number of elements must be known, but start and delta need not be.
pub fn arange(b: &mut Builder, n: &Node) -> Result<Results> {
    let (start, limit, delta) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let dtype = b.dtype(start);
    let numbers: Option<Vec<f64>> =
        [start, limit, delta].iter().map(|&v| b.known_floats(v).and_then(|f| f.first().copied())).collect();
    let count = match numbers.as_deref() {
        Some(&[s, l, d]) if d == 0.0 || !((l - s) / d).is_finite() => {
            return Err(Error::invalid(format!("a range from {s} to {l} by {d}")).help("the step must not be 0"));
        }
        Some(&[s, l, d]) => Dim::from(((l - s) / d).ceil().max(0.0) as i64),
        _ => {
            let known = |b: &mut Builder, v, what| b.dims(v, what).map(|d| d.first().cloned().unwrap_or(Dim::ZERO));
            let (s, l) = (known(b, start, "the start")?, known(b, limit, "the limit")?);
            let d = known(b, delta, "the step")?;
            b.require(Condition::Differ(d.clone(), Dim::ZERO), "the step")?;
            // Rounds up for both signs.
            let count = -&(&s - &l).floor_div(&d);
            content::max(&count, &Dim::ZERO)
        }
    };
    let (start, delta) = (b.reshape(start, Vec::new())?, b.reshape(delta, Vec::new())?);
    let wide = if dtype.is_float() && dtype.bits() < 32 { DType::F32 } else { dtype };
    let (start, delta) = (b.cast(start, wide)?, b.cast(delta, wide)?);
    let mut y = b.iota(wide, &count)?;
    if b.known_floats(delta).as_deref() != Some(&[1.0]) {
        y = b.times(y, delta)?;
    }
    if b.known_floats(start).as_deref() != Some(&[0.0]) {
        y = b.plus(y, start)?;
    }
    Ok(b.cast(y, dtype)?.into())
}

pub fn reverse_sequence(b: &mut Builder, n: &Node) -> Result<Results> {
    let (batch_axis, time_axis) = (n.int("batch_axis", 1)?, n.int("time_axis", 0)?);
    let x = n.input(0)?;
    let rank = b.rank(x);
    let (batch_axis, time_axis) = (builder::axis(batch_axis, rank)?, builder::axis(time_axis, rank)?);
    Ok(b.add(Op::ReverseSequence { batch_axis, time_axis }, &[x, n.input(1)?])?.into())
}
