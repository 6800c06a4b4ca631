//! Convolutions and pooling.

use super::super::builder::{Builder, broadcast_shape};
use super::super::node::{Node, Results};
use mcc_ir::{
    ConvSpec, DType, Dim, Error, Layout, Op, PadMode, PoolKind, PoolSpec, ReduceKind, Result, UnaryOp, Value,
};

/// Windows along the spatial axes.
pub struct Window {
    /// Extents.
    pub kernel: Vec<i64>,
    /// Distance between windows.
    pub strides: Vec<i64>,
    /// Distance between a window's elements.
    pub dilations: Vec<i64>,
    /// Padding before each axis.
    pub before: Vec<Dim>,
    /// Padding after each axis.
    pub after: Vec<Dim>,
}

impl Window {
    /// The padding as pairs, if it is constant.
    pub fn fixed_pads(&self) -> Option<Vec<(i64, i64)>> {
        self.before.iter().zip(&self.after).map(|(a, z)| Some((a.as_const()?, z.as_const()?))).collect()
    }

    fn conv(&self, pads: Vec<(i64, i64)>, group: usize) -> ConvSpec {
        let (strides, dilations) = (self.strides.clone(), self.dilations.clone());
        ConvSpec { strides, dilations, pads, group, layout: Layout::ChannelsFirst }
    }
}

/// Maximum of strides, dilations, pads and windows: no axis is as long, and sums and products of two do not overflow.
const MAX_WINDOW_NUMBER: i64 = i32::MAX as i64;

/// Checks that an attribute's numbers are within bounds.
fn bounded(list: &[i64], low: i64, high: i64, name: &str) -> Result<()> {
    match list.iter().find(|&&v| v < low || v > high) {
        Some(v) => {
            Err(Error::invalid(format!("attribute {name} holds {v}")).help(format!("it must be {low} to {high}")))
        }
        None => Ok(()),
    }
}

/// A list of positive numbers, one per spatial axis.
fn spatial(n: &Node, name: &str, rank: usize) -> Result<Vec<i64>> {
    let list = n.ints(name)?.filter(|l| !l.is_empty()).unwrap_or_else(|| vec![1; rank]);
    if list.len() != rank {
        return Err(Error::invalid(format!("attribute {name} is {list:?} for {rank} spatial axes")));
    }
    bounded(&list, 1, MAX_WINDOW_NUMBER, name)?;
    Ok(list)
}

/// The windows over axes of extents `size`; automatic padding becomes numbers or expressions.
pub fn window(n: &Node, kernel: Vec<i64>, size: &[Dim]) -> Result<Window> {
    let rank = size.len();
    if kernel.len() != rank {
        return Err(Error::invalid(format!("kernel {kernel:?} for {rank} spatial axes")));
    }
    bounded(&kernel, 1, MAX_WINDOW_NUMBER, "kernel_shape")?;
    let (strides, dilations) = (spatial(n, "strides", rank)?, spatial(n, "dilations", rank)?);
    let mut w = Window { kernel, strides, dilations, before: vec![Dim::ZERO; rank], after: vec![Dim::ZERO; rank] };
    match n.text("auto_pad", "NOTSET")?.as_str() {
        "NOTSET" | "" => {
            let pads = n.ints("pads")?.filter(|p| !p.is_empty()).unwrap_or_else(|| vec![0; 2 * rank]);
            if pads.len() != 2 * rank {
                return Err(Error::invalid(format!("attribute pads is {pads:?} for {rank} spatial axes")));
            }
            bounded(&pads, -MAX_WINDOW_NUMBER, MAX_WINDOW_NUMBER, "pads")?;
            w.before = pads[..rank].iter().map(|&p| Dim::from(p)).collect();
            w.after = pads[rank..].iter().map(|&p| Dim::from(p)).collect();
        }
        "VALID" => {}
        rule @ ("SAME_UPPER" | "SAME_LOWER") => {
            for i in 0..rank {
                let reach = (w.kernel[i] - 1) * w.dilations[i] + 1;
                let stride = Dim::from(w.strides[i]);
                let covered = &(&(&size[i].ceil_div(&stride) - &Dim::ONE) * &stride) + &Dim::from(reach);
                let total = super::super::content::max(&(&covered - &size[i]), &Dim::ZERO);
                let half = total.floor_div(&Dim::from(2i64));
                let rest = &total - &half;
                (w.before[i], w.after[i]) = if rule == "SAME_UPPER" { (half, rest) } else { (rest, half) };
            }
        }
        other => return Err(Error::invalid(format!("attribute auto_pad is \"{other}\""))),
    }
    Ok(w)
}

fn constant_kernel(b: &Builder, w: Value) -> Result<Vec<i64>> {
    let shape = b.shape(w);
    let kernel: Option<Vec<i64>> = shape.iter().skip(2).map(Dim::as_const).collect();
    kernel.ok_or_else(|| Error::unsupported(format!("weights of symbolic extents {shape:?}")))
}

fn group(n: &Node) -> Result<usize> {
    usize::try_from(n.int("group", 1)?)
        .ok()
        .filter(|&g| g > 0)
        .ok_or_else(|| Error::invalid("attribute group is not positive"))
}

pub fn conv(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, w) = (n.input(0)?, n.input(1)?);
    Ok(conv_of(b, n, x, w, n.optional(2), 0.0)?.into())
}

/// A convolution with the node's attributes; padding is filled with `outside`.
pub fn conv_of(b: &mut Builder, n: &Node, x: Value, w: Value, bias: Option<Value>, outside: f64) -> Result<Value> {
    let shape = b.shape(x);
    if shape.len() < 3 || b.rank(w) != shape.len() {
        return Err(Error::invalid(format!("weights {} for {}", b.ty(w), b.ty(x))));
    }
    let kernel = constant_kernel(b, w)?;
    let window = window(n, kernel, &shape[2..])?;
    let fixed = window.fixed_pads().filter(|p| outside == 0.0 && p.iter().all(|p| p.0 >= 0 && p.1 >= 0));
    let (x, pads) = match fixed {
        Some(pads) => (x, pads),
        None => {
            let around = |side: &[Dim]| [vec![Dim::ZERO; 2], side.to_vec()].concat();
            let value = b.scalar_like(x, outside);
            let (before, after) = (around(&window.before), around(&window.after));
            let x = super::movement::padded(b, x, value, before, after, PadMode::Constant)?;
            (x, vec![(0, 0); window.kernel.len()])
        }
    };
    let op = Op::Conv(window.conv(pads, group(n)?));
    match bias {
        Some(bias) => b.add(op, &[x, w, bias]),
        None => b.add(op, &[x, w]),
    }
}

pub fn conv_transpose(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, w) = (n.input(0)?, n.input(1)?);
    let shape = b.shape(x);
    let rank = shape.len().saturating_sub(2);
    let kernel = constant_kernel(b, w)?;
    if kernel.len() != rank || rank == 0 {
        return Err(Error::invalid(format!("weights {} for {}", b.ty(w), b.ty(x))));
    }
    let (strides, dilations) = (spatial(n, "strides", rank)?, spatial(n, "dilations", rank)?);
    let extra = n.ints("output_padding")?.unwrap_or_else(|| vec![0; rank]);
    let given = n.ints("pads")?.unwrap_or_else(|| vec![0; 2 * rank]);
    let rule = n.text("auto_pad", "NOTSET")?;
    let target = n.ints("output_shape")?.filter(|t| !t.is_empty());
    if extra.len() != rank || given.len() != 2 * rank || target.as_ref().is_some_and(|t| t.len() < rank) {
        return Err(Error::invalid("attribute pads, output_padding or output_shape has the wrong length"));
    }
    bounded(&given, -MAX_WINDOW_NUMBER, MAX_WINDOW_NUMBER, "pads")?;
    bounded(&extra, -MAX_WINDOW_NUMBER, MAX_WINDOW_NUMBER, "output_padding")?;
    bounded(target.as_deref().unwrap_or_default(), 0, MAX_WINDOW_NUMBER, "output_shape")?;
    bounded(&kernel, 1, MAX_WINDOW_NUMBER, "kernel_shape")?;
    let mut pads = Vec::new();
    for i in 0..rank {
        // The result's extent without padding, and how much of it padding removes.
        let reach = (kernel[i] - 1) * dilations[i] + 1;
        let total = match (&target, rule.as_str()) {
            (Some(t), _) => {
                let wanted = t[t.len() - rank + i];
                let size = shape[i + 2].as_const();
                let size = size.ok_or_else(|| Error::unsupported("output_shape with a symbolic input extent"))?;
                let total = size.checked_sub(1).and_then(|s| s.checked_mul(strides[i]));
                let total = total.and_then(|t| t.checked_add(extra[i] + reach - wanted));
                total.ok_or_else(|| Error::invalid(format!("attribute strides is {strides:?} for {}", b.ty(x))))?
            }
            (None, "SAME_UPPER" | "SAME_LOWER") => reach + extra[i] - strides[i],
            _ => {
                pads.push((given[i], given[i + rank]));
                continue;
            }
        };
        let half = total.div_euclid(2);
        pads.push(if rule == "SAME_UPPER" { (half, total - half) } else { (total - half, half) });
    }
    // Padding required by the target shape beyond the data extends the result.
    let mut output_pads = extra;
    for (p, o) in pads.iter_mut().zip(&mut output_pads) {
        if p.1 < 0 {
            *o -= p.1;
            p.1 = 0;
        }
    }
    if pads.iter().any(|p| p.0 < 0) {
        return Err(Error::unsupported(format!("a transposed convolution that starts before its data: pads {pads:?}")));
    }
    let spec = ConvSpec { strides, dilations, pads, group: group(n)?, layout: Layout::ChannelsFirst };
    let op = Op::ConvTranspose { spec, output_pads };
    let operands = [Some(x), Some(w), n.optional(2)];
    Ok(b.add(op, &operands.into_iter().flatten().collect::<Vec<_>>())?.into())
}

fn pool(b: &mut Builder, n: &Node, mut x: Value, kind: PoolKind) -> Result<(Value, PoolSpec)> {
    let shape = b.shape(x);
    if shape.len() < 3 {
        return Err(Error::invalid(format!("pooling of {}", b.ty(x))));
    }
    let kernel = n.need("kernel_shape", n.ints("kernel_shape")?)?;
    let w = window(n, kernel, &shape[2..])?;
    // With automatic padding, every window starts inside.
    let by_rule = !matches!(n.text("auto_pad", "NOTSET")?.as_str(), "NOTSET" | "");
    let pads = match w.fixed_pads() {
        Some(pads) => pads,
        None => {
            let outside = match kind {
                PoolKind::Max => lowest(b.dtype(x)),
                PoolKind::Lp { .. } | PoolKind::Average { include_pad: true } => 0.0,
                PoolKind::Average { include_pad: false } => {
                    return Err(Error::unsupported("auto_pad with a symbolic extent in average pooling")
                        .help("pin the dimension with --dim or --shape"));
                }
            };
            let around = |side: &[Dim]| [vec![Dim::ZERO; 2], side.to_vec()].concat();
            let value = b.scalar_like(x, outside);
            x = super::movement::padded(b, x, value, around(&w.before), around(&w.after), PadMode::Constant)?;
            vec![(0, 0); w.kernel.len()]
        }
    };
    let ceil = n.flag("ceil_mode", false)? && !by_rule;
    let (kernel, strides, dilations) = (w.kernel, w.strides, w.dilations);
    Ok((x, PoolSpec { kind, kernel, strides, dilations, pads, ceil, layout: Layout::ChannelsFirst }))
}

fn lowest(dtype: DType) -> f64 {
    match dtype {
        DType::U8 => 0.0,
        DType::I8 => -128.0,
        _ => f64::NEG_INFINITY,
    }
}

pub fn max_pool(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, spec) = pool(b, n, n.input(0)?, PoolKind::Max)?;
    if n.wants(1) {
        let column_major = n.flag("storage_order", false)?;
        return Ok(b.add_many(Op::MaxPoolWithIndices { spec, column_major }, &[x])?.into());
    }
    Ok(b.add(Op::Pool(spec), &[x])?.into())
}

/// The maxima without their indices.
pub fn max_pool_of(b: &mut Builder, n: &Node, x: Value) -> Result<Value> {
    let (x, spec) = pool(b, n, x, PoolKind::Max)?;
    b.add(Op::Pool(spec), &[x])
}

pub fn average_pool(b: &mut Builder, n: &Node) -> Result<Results> {
    Ok(average_pool_of(b, n, n.input(0)?)?.into())
}

/// The means of windows given by the node's attributes.
pub fn average_pool_of(b: &mut Builder, n: &Node, x: Value) -> Result<Value> {
    let include_pad = n.flag("count_include_pad", false)?;
    let (x, spec) = pool(b, n, x, PoolKind::Average { include_pad })?;
    b.add(Op::Pool(spec), &[x])
}

/// The exponent; it was a float in version 1.
fn exponent(n: &Node) -> Result<u32> {
    let p = if n.version < 2 { n.float("p", 2.0)? as i64 } else { n.int("p", 2)? };
    u32::try_from(p).ok().filter(|&p| p > 0).ok_or_else(|| Error::invalid(format!("attribute p is {p}")))
}

pub fn lp_pool(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, spec) = pool(b, n, n.input(0)?, PoolKind::Lp { p: exponent(n)? })?;
    Ok(b.add(Op::Pool(spec), &[x])?.into())
}

fn global(b: &mut Builder, n: &Node, kind: ReduceKind) -> Result<Results> {
    let x = n.input(0)?;
    let axes: Vec<usize> = (2..b.rank(x)).collect();
    Ok(b.reduce(kind, x, &axes, true)?.into())
}

pub fn global_average_pool(b: &mut Builder, n: &Node) -> Result<Results> {
    global(b, n, ReduceKind::Mean)
}

pub fn global_max_pool(b: &mut Builder, n: &Node) -> Result<Results> {
    global(b, n, ReduceKind::Max)
}

pub fn global_lp_pool(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let axes: Vec<usize> = (2..b.rank(x)).collect();
    Ok(lp_norm(b, x, exponent(n)?, &axes)?.into())
}

/// `(sum |x|^p)^(1/p)`, keeping the axes.
pub fn lp_norm(b: &mut Builder, x: Value, p: u32, axes: &[usize]) -> Result<Value> {
    use mcc_ir::BinaryOp::Pow;
    match p {
        1 => {
            let a = b.unary(UnaryOp::Abs, x)?;
            b.reduce(ReduceKind::Sum, a, axes, true)
        }
        2 => {
            let a = b.times(x, x)?;
            let sum = b.reduce(ReduceKind::Sum, a, axes, true)?;
            b.unary(UnaryOp::Sqrt, sum)
        }
        _ => {
            let a = b.unary(UnaryOp::Abs, x)?;
            let a = b.with(Pow, a, f64::from(p))?;
            let sum = b.reduce(ReduceKind::Sum, a, axes, true)?;
            b.with(Pow, sum, 1.0 / f64::from(p))
        }
    }
}

pub fn col2im(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let size = b.dims(n.input(1)?, "the image shape")?;
    let kernel = b.ints(n.input(2)?, "the block shape")?;
    let w = window(n, kernel.clone(), &size)?;
    let pads = w.fixed_pads().unwrap_or_default();
    Ok(b.add(Op::Col2Im { spec: w.conv(pads, 1), kernel, size }, &[x])?.into())
}

/// A causal depthwise convolution that carries its last inputs as a state.
pub fn causal_conv_with_state(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, w) = (n.input(0)?, n.input(1)?);
    let [batch, channels, _] = b.extents(x, "input")?;
    b.extents::<3>(w, "weights")?;
    let kernel = constant_kernel(b, w)?;
    let carried = Dim::from(kernel.first().copied().unwrap_or(1).max(1) - 1);
    let state_shape = vec![batch, channels.clone(), carried.clone()];
    let padded = match n.optional(3) {
        Some(past) => b.concat(&[past, x], 2)?,
        None => b.pad_zeros(x, vec![Dim::ZERO, Dim::ZERO, carried.clone()], vec![Dim::ZERO; 3])?,
    };
    let channels = channels.as_const().and_then(|c| usize::try_from(c).ok());
    let group = channels.ok_or_else(|| Error::unsupported("a symbolic number of channels"))?;
    let spec =
        ConvSpec { strides: vec![1], dilations: vec![1], pads: vec![(0, 0)], group, layout: Layout::ChannelsFirst };
    let operands: Vec<Value> = [Some(padded), Some(w), n.optional(2)].into_iter().flatten().collect();
    let mut y = b.add(Op::Conv(spec), &operands)?;
    if matches!(n.text("activation", "none")?.as_str(), "silu" | "swish") {
        y = super::elementwise::swish_of(b, y, 1.0)?;
    }
    let length = b.shape(padded)[2].clone();
    let state = b.slice(padded, 2, &length - &carried, carried)?;
    let state = b.broadcast(state, broadcast_shape(&state_shape, &state_shape)?)?;
    Ok([y, state].into())
}
