//! Types of operations that slide windows over spatial axes.

use super::check::{self, Checker};
use crate::ir::{
    Coded, ConvSpec, DType, Dim, Filtering, Filters, Layout, PoolKind, PoolSpec, ResizeRule, Staging, TensorType,
    planes,
};
use crate::{Error, Result};

/// Batch, channels and spatial extents of an activation.
fn split(x: &TensorType, layout: Layout) -> Result<(&Dim, &Dim, &[Dim])> {
    match (layout, x.shape.as_slice()) {
        (Layout::ChannelsFirst, [batch, channels, spatial @ ..]) => Ok((batch, channels, spatial)),
        (Layout::ChannelsLast, [batch, spatial @ .., channels]) => Ok((batch, channels, spatial)),
        _ => Err(Error::invalid(format!("{x} has no batch and channel axes"))),
    }
}

/// The inverse of [`split`].
fn join(dtype: DType, layout: Layout, batch: &Dim, channels: Dim, spatial: Vec<Dim>) -> TensorType {
    let mut shape = vec![batch.clone()];
    match layout {
        Layout::ChannelsFirst => {
            shape.push(channels);
            shape.extend(spatial);
        }
        Layout::ChannelsLast => {
            shape.extend(spatial);
            shape.push(channels);
        }
    }
    TensorType::new(dtype, shape)
}

/// Asks that strides, dilations and pads are as many as there are spatial axes, and in range.
fn windows(strides: &[i64], dilations: &[i64], pads: &[(i64, i64)], spatial: usize) -> Result<()> {
    check::length(strides.len(), spatial, "strides")?;
    check::length(dilations.len(), spatial, "dilations")?;
    check::length(pads.len(), spatial, "pads")?;
    if strides.iter().chain(dilations).any(|&s| s <= 0) {
        return Err(Error::invalid(format!("strides {strides:?} and dilations {dilations:?} must be positive")));
    }
    if pads.iter().any(|&(b, a)| b < 0 || a < 0) {
        return Err(Error::invalid(format!("pads {pads:?} must not be negative")));
    }
    Ok(())
}

/// How far the operand, padding included, reaches beyond the first window; `None` when there is no window at all.
fn travel(extent: &Dim, kernel: &Dim, dilation: i64, pads: (i64, i64)) -> Result<Dim> {
    let reach = &(&(kernel - &Dim::ONE) * &Dim::from(dilation)) + &Dim::ONE;
    let padded = extent + &Dim::from(pads.0.saturating_add(pads.1));
    let travel = &padded - &reach;
    if travel.as_const().is_some_and(|t| t < 0) {
        return Err(Error::invalid(format!("a window of {reach} elements exceeds the padded extent {padded}")));
    }
    Ok(travel)
}

/// Asks that a window fits along each axis: smaller data have no result in ONNX, rather than an empty one.
fn fits(c: &mut Checker, spec: &ConvSpec, extents: &[Dim], kernel: &[Dim]) -> Result<()> {
    let axes = extents.iter().zip(kernel).zip(spec.dilations.iter().zip(&spec.pads));
    for (axis, ((extent, kernel), (&dilation, &pads))) in axes.enumerate() {
        let travel = travel(extent, kernel, dilation, pads)?;
        c.at_least(&travel, &Dim::ZERO, &format!("its window along spatial axis {axis}"))?;
    }
    Ok(())
}

/// Number of windows along each axis of a convolution.
fn positions(spec: &ConvSpec, extents: &[Dim], kernel: &[Dim]) -> Result<Vec<Dim>> {
    windows(&spec.strides, &spec.dilations, &spec.pads, extents.len())?;
    check::length(kernel.len(), extents.len(), "the kernel")?;
    (0..extents.len())
        .map(|i| {
            let travel = travel(&extents[i], &kernel[i], spec.dilations[i], spec.pads[i])?;
            Ok(&travel.floor_div(&Dim::from(spec.strides[i])) + &Dim::ONE)
        })
        .collect()
}

/// Asks that there are groups and that they divide a known number of channels.
fn groups(group: usize, channels: &Dim, what: &str) -> Result<Dim> {
    if group == 0 {
        return Err(Error::invalid("the number of groups is 0"));
    }
    let group = Dim::from(group);
    match channels.as_const().zip(group.as_const()) {
        Some((c, g)) if c % g != 0 => Err(Error::invalid(format!("{c} {what} do not divide into {g} groups"))),
        _ => Ok(group),
    }
}

/// The optional bias of a convolution.
fn bias(c: &mut Checker, out: &Dim) -> Result<()> {
    if c.operands.len() > 2 {
        c.same_dtype(0, 2)?;
        c.shape(2, std::slice::from_ref(out), "the bias")?;
    }
    Ok(())
}

fn weight_kernel(w: &TensorType, spatial: usize) -> Result<(&Dim, &Dim, &[Dim])> {
    match w.shape.as_slice() {
        [a, b, kernel @ ..] if kernel.len() == spatial => Ok((a, b, kernel)),
        _ => Err(Error::invalid(format!("weights {w} do not fit {spatial} spatial axes"))),
    }
}

pub(super) fn conv(c: &mut Checker, spec: &ConvSpec) -> Result<TensorType> {
    let dtype = check::numeric(c.same_dtype(0, 1)?)?;
    let (batch, channels, extents) = split(c.ty(0), spec.layout)?;
    let (out, per_group, kernel) = weight_kernel(c.ty(1), extents.len())?;
    let group = groups(spec.group, out, "output channels")?;
    c.meet(channels, &(per_group * &group), "the channels of the operand and of the weights")?;
    bias(c, out)?;
    let spatial = positions(spec, extents, kernel)?;
    fits(c, spec, extents, kernel)?;
    Ok(join(dtype, spec.layout, batch, out.clone(), spatial))
}

fn prepadded(spec: &ConvSpec) -> Result<()> {
    if spec.layout != Layout::ChannelsLast {
        return Err(Error::invalid("the layout must be channels last"));
    }
    if spec.pads.iter().any(|p| *p != (0, 0)) {
        return Err(Error::invalid(format!("pads {:?} must be zero", spec.pads)));
    }
    Ok(())
}

pub(super) fn packed_conv(c: &mut Checker, spec: &ConvSpec, out: usize) -> Result<TensorType> {
    prepadded(spec)?;
    let dtype = check::numeric(c.weights_dtype()?)?;
    let (batch, channels, extents) = split(c.ty(0), spec.layout)?;
    let [w_group, panels, kernel @ .., per_group, tile] = c.ty(1).shape.as_slice() else {
        return Err(Error::invalid("packed weights have four axes or more"));
    };
    let group = groups(spec.group, &Dim::from(out), "output channels")?;
    c.meet(w_group, &group, "the weights' groups and the attribute")?;
    c.meet(channels, &(per_group * &group), "the channels of the operand and of the weights")?;
    c.meet(panels, &Dim::from(out / spec.group).ceil_div(tile), "the panels and what the channels need")?;
    Ok(join(dtype, spec.layout, batch, Dim::from(out), positions(spec, extents, kernel)?))
}

pub(super) fn dot_conv(c: &mut Checker, spec: &ConvSpec, kernel: &[i64], out: usize) -> Result<TensorType> {
    prepadded(spec)?;
    c.dtype(0, &[DType::U8, DType::I8])?;
    let masked = c.operands.len() > 2;
    c.dtype(1, &[if masked { DType::I64 } else { DType::I8 }])?;
    if kernel.iter().any(|&k| k <= 0) || kernel.is_empty() && spec.group != 1 {
        return Err(Error::invalid(format!("no window of {kernel:?} in {} groups", spec.group)));
    }
    let Some((channels, rows)) = c.ty(0).shape.split_last().map(|(c, r)| (c.clone(), r.to_vec())) else {
        return Err(Error::invalid("the operand has no axis"));
    };
    let extents = if kernel.is_empty() { &[] } else { rows.get(1..).unwrap_or_default() };
    let kernel_dims: Vec<Dim> = kernel.iter().map(|&k| Dim::from(k)).collect();
    let spatial = positions(spec, extents, &kernel_dims)?;
    let group = groups(spec.group, &Dim::from(out), "output channels")?;
    let per_group = channels.floor_div(&groups(spec.group, &channels, "channels")?);
    let (taps, run) = spec.runs(kernel, &per_group);
    let [w_group, panels, w_taps, steps, tile] = if masked {
        let [w_group, panels, w_taps, steps, words] = c.axes(1)?;
        c.dtype(2, &[DType::I8])?;
        let [_] = c.axes(2)?;
        c.dtype(3, &[DType::I32])?;
        c.shape(3, std::slice::from_ref(&panels), "the heads and the panels")?;
        [w_group, panels, w_taps, steps, &words * &Dim::from(16i64)]
    } else {
        let [w_group, panels, w_taps, steps, tile, four] = c.axes(1)?;
        c.meet(&four, &Dim::from(4i64), "the weights' last axis and 4")?;
        [w_group, panels, w_taps, steps, tile]
    };
    c.meet(&w_group, &group, "the weights' groups and the attribute")?;
    c.meet(&w_taps, &Dim::from(taps), "the weights' taps and the window's")?;
    c.meet(&steps, &run.ceil_div(&Dim::from(4i64)), "the weights' steps and the window's")?;
    c.meet(&panels, &Dim::from(out / spec.group).ceil_div(&tile), "the panels and what the channels need")?;
    let outer = if kernel.is_empty() { rows } else { [&rows[..1], &spatial].concat() };
    Ok(TensorType::new(DType::I32, [outer, vec![Dim::from(out)]].concat()))
}

pub(super) fn block_conv(c: &mut Checker, spec: &ConvSpec, kernel: &[i64], out: usize) -> Result<TensorType> {
    prepadded(spec)?;
    let floats = c.dtype(0, &[DType::F32, DType::U8, DType::I8])? == DType::F32;
    c.dtype(1, &[DType::I32])?;
    c.dtype(2, &[DType::I32])?;
    c.dtype(3, &[if floats { DType::F32 } else { DType::I8 }])?;
    if kernel.iter().any(|&k| k <= 0) || spec.group != 1 {
        return Err(Error::invalid(format!("no window of {kernel:?} in {} groups", spec.group)));
    }
    let Some((_, rows)) = c.ty(0).shape.split_last() else { return Err(Error::invalid("the operand has no axis")) };
    let extents = if kernel.is_empty() { &[] } else { rows.get(1..).unwrap_or_default() };
    let kernel_dims: Vec<Dim> = kernel.iter().map(|&k| Dim::from(k)).collect();
    let spatial = positions(spec, extents, &kernel_dims)?;
    let ([heads], [offsets]) = (c.axes(1)?, c.axes(2)?);
    let [blocks, tile] = if floats {
        c.axes(3)?
    } else {
        let [blocks, tile, four] = c.axes(3)?;
        c.meet(&four, &Dim::from(4i64), "the values' last axis and 4")?;
        [blocks, tile]
    };
    c.meet(&offsets, &blocks, "the offsets and the blocks")?;
    c.meet(&heads, &(&Dim::from(out).ceil_div(&tile) + &Dim::ONE), "the heads and one more than the panels")?;
    let outer = if kernel.is_empty() { rows.to_vec() } else { [&rows[..1], &spatial].concat() };
    let dtype = if floats { DType::F32 } else { DType::I32 };
    Ok(TensorType::new(dtype, [outer, vec![Dim::from(out)]].concat()))
}

/// Spatial extents of the results of [`Op::SparseConv`](crate::ir::Op::SparseConv), whose tiles must fit its planes.
pub(super) fn sparse_conv(
    c: &mut Checker,
    spec: &ConvSpec,
    kernel: &[i64],
    staging: &Staging,
    (out, stored): (usize, Layout),
) -> Result<TensorType> {
    let floats = c.dtype(0, &[DType::F32, DType::U8, DType::I8])? == DType::F32;
    c.dtype(1, &[DType::I32])?;
    c.dtype(2, &[DType::U8])?;
    c.dtype(3, &[DType::U16, DType::I32])?;
    c.dtype(4, &[if floats { DType::F32 } else { DType::I8 }])?;
    if !floats && [spec.layout, stored] != [Layout::ChannelsLast; 2] {
        return Err(Error::invalid("words of bytes have their channels last"));
    }
    if kernel.iter().any(|&k| k <= 0) {
        return Err(Error::invalid(format!("no window of {kernel:?}")));
    }
    let mut rows = c.ty(0).shape.clone();
    let channels = spec.layout.channels(rows.len());
    if channels >= rows.len() {
        return Err(Error::invalid(format!("the operand has no {:?}", spec.layout)));
    }
    let mut channels = rows.remove(channels);
    if !floats {
        let words = channels.floor_div(&Dim::from(4i64));
        c.meet(&channels, &(&words * &Dim::from(4i64)), "the channels and those of whole words")?;
        channels = words;
    }
    let extents = if kernel.is_empty() { &[] } else { rows.get(1..).unwrap_or_default() };
    let kernel_dims: Vec<Dim> = kernel.iter().map(|&k| Dim::from(k)).collect();
    let spatial = positions(spec, extents, &kernel_dims)?;
    if !Staging::fits(spec) || !staging.holds(spec, kernel) {
        return Err(Error::invalid(format!("windows of {kernel:?} cannot be staged as {staging:?}")));
    }
    let ([heads], [slots], [offsets]) = (c.axes(1)?, c.axes(2)?, c.axes(3)?);
    let values = if floats {
        let [values] = c.axes(4)?;
        values
    } else {
        let [values, four] = c.axes(4)?;
        c.meet(&four, &Dim::from(4i64), "the values' last axis and 4")?;
        values
    };
    let slices = channels.ceil_div(&Dim::from(staging.depth));
    let groups = &Dim::from(staging.groups(out)) * &slices;
    c.meet(&heads, &(&groups + &Dim::ONE), "the heads and one more than the groups of all slices")?;
    c.meet(&slots, &(&groups * &Dim::from(staging.abreast)), "the slots and the channels of groups")?;
    c.meet(&(&offsets * &Dim::from(staging.shared)), &values, "the offsets of all and the values")?;
    let mut shape = if kernel.is_empty() { rows } else { [&rows[..1], &spatial].concat() };
    let channels = stored.channels(shape.len() + 1);
    if channels > shape.len() {
        return Err(Error::invalid(format!("the result has no {stored:?}")));
    }
    shape.insert(channels, Dim::from(out));
    Ok(TensorType::new(if floats { DType::F32 } else { DType::I32 }, shape))
}

pub(super) fn coded_conv(
    c: &mut Checker,
    spec: &ConvSpec,
    kernel: &[i64],
    out: usize,
    coded: Coded,
) -> Result<TensorType> {
    prepadded(spec)?;
    if kernel.iter().any(|&k| k <= 0) || spec.group != 1 {
        return Err(Error::invalid(format!("no window of {kernel:?} in {} groups", spec.group)));
    }
    let Some((channels, rows)) = c.ty(0).shape.split_last().map(|(c, r)| (c.clone(), r.to_vec())) else {
        return Err(Error::invalid("the operand has no axis"));
    };
    let extents = if kernel.is_empty() { &[] } else { rows.get(1..).unwrap_or_default() };
    let kernel_dims: Vec<Dim> = kernel.iter().map(|&k| Dim::from(k)).collect();
    let spatial = positions(spec, extents, &kernel_dims)?;
    let depth = &channels * &kernel_dims.iter().product::<Dim>();
    codes(c, coded, &depth, out)?;
    let outer = if kernel.is_empty() { rows } else { [&rows[..1], &spatial].concat() };
    Ok(TensorType::new(DType::F32, [outer, vec![Dim::from(out)]].concat()))
}

/// The operands that hold coded weights `[depth, out]`.
fn codes(c: &mut Checker, coded: Coded, depth: &Dim, out: usize) -> Result<()> {
    let Coded { bits, block } = coded;
    if ![2, 4, 8].contains(&bits) || block == 0 || !block.is_multiple_of(16) {
        return Err(Error::invalid(format!("no codes of {bits} bits in blocks of {block}")));
    }
    c.dtype(0, &[DType::F32])?;
    c.dtype(1, &[DType::I32])?;
    c.dtype(2, &[DType::F32, DType::F16])?;
    let [panels, words, tile] = c.axes(1)?;
    let blocks = depth.ceil_div(&Dim::from(block));
    c.meet(&words, &depth.ceil_div(&Dim::from(coded.in_word())), "the codes and the window's elements")?;
    c.meet(&panels, &Dim::from(out).ceil_div(&tile), "the panels and what the channels need")?;
    let parameters = [panels, blocks, tile];
    c.shape(2, &parameters, "the scales")?;
    if c.operands.len() > 3 && c.ty(3).dtype != DType::F32 {
        c.dtype(3, &[coded.zero_type()])?;
        c.shape(3, &parameters, "the zero points")
    } else if c.operands.len() > 3 {
        c.shape(3, &[Dim::from(coded.table_size())], "the table")
    } else {
        Ok(())
    }
}

pub(super) fn winograd_conv(
    c: &mut Checker,
    size: &[Dim],
    [tile, kernel, dilations]: [&[i64]; 3],
    (out, filters): (usize, Filters),
) -> Result<TensorType> {
    let dtype = check::float(c.ty(0).dtype)?;
    check::length(size.len(), kernel.len(), "size")?;
    check::length(dilations.len(), kernel.len(), "dilations")?;
    let (batch, channels, extents) = split(c.ty(0), Layout::ChannelsLast)?;
    let (batch, channels, extents) = (batch.clone(), channels.clone(), extents.to_vec());
    check::length(extents.len(), kernel.len(), "the operand's spatial axes")?;
    let unknown = || Error::invalid(format!("there is no minimal filtering by {tile:?} of {kernel:?}"));
    let filterings = Filtering::of_axes(tile, kernel).ok_or_else(unknown)?;
    if dilations.iter().any(|&d| d < 1) {
        return Err(Error::invalid(format!("dilations of {dilations:?}")));
    }
    for (axis, have) in extents.iter().enumerate() {
        let step = Dim::from(tile[axis] * dilations[axis]);
        let need = &(&size[axis].ceil_div(&step) * &step) + &Dim::from((kernel[axis] - 1) * dilations[axis]);
        c.meet(have, &need, "the operand's extent and what the results need")?;
    }
    let taps: usize = filterings.iter().map(|f| f.taps).product();
    let planes = match filters {
        Filters::Transformed => {
            c.same_dtype(0, 1)?;
            filterings.iter().map(Filtering::elements).product()
        }
        Filters::Plain => {
            c.dtype(0, &[DType::F32])?;
            c.dtype(1, &[DType::F32, DType::F16, DType::BF16])?;
            taps
        }
        Filters::Coded(coded) => {
            codes(c, coded, &(&channels * &Dim::from(taps)), out)?;
            return Ok(join(dtype, Layout::ChannelsLast, &batch, Dim::from(out), size.to_vec()));
        }
    };
    let [w_planes, panels, w_channels, columns] = c.axes(1)?;
    c.meet(&w_planes, &Dim::from(planes), "the planes and the products of a tile or the window's elements")?;
    c.meet(&channels, &w_channels, "the channels of the operand and of the weights")?;
    c.meet(&panels, &Dim::from(out).ceil_div(&columns), "the panels and what the channels need")?;
    Ok(join(dtype, Layout::ChannelsLast, &batch, Dim::from(out), size.to_vec()))
}

pub(super) fn dot_depthwise(c: &mut Checker, spec: &ConvSpec, kernel: &[i64]) -> Result<TensorType> {
    prepadded(spec)?;
    c.dtype(0, &[DType::U8, DType::I8])?;
    c.dtype(1, &[DType::I8])?;
    if kernel.is_empty() || kernel.iter().any(|&k| k <= 0) {
        return Err(Error::invalid(format!("no window of {kernel:?}")));
    }
    let [lines, rows, columns] = planes(kernel);
    let (batch, channels, extents) = split(c.ty(0), spec.layout)?;
    c.meet(channels, &Dim::from(spec.group), "the channels and the groups")?;
    let kernel: Vec<Dim> = kernel.iter().map(|&k| Dim::from(k)).collect();
    let result = join(DType::I32, spec.layout, batch, channels.clone(), positions(spec, extents, &kernel)?);
    let [w_lines, w_quads, w_columns, lanes, four] = c.axes(1)?;
    c.meet(&w_lines, &Dim::from(lines), "the weights' lines and the window's")?;
    c.meet(&w_quads, &Dim::from((rows + 3) / 4), "the weights' rows in fours and the window's")?;
    c.meet(&w_columns, &Dim::from(columns), "the weights' columns and the window's")?;
    c.meet(&four, &Dim::from(4i64), "the weights' last axis and 4")?;
    match lanes.as_const() {
        Some(lanes) if lanes < spec.group as i64 => {
            Err(Error::invalid(format!("{lanes} lanes for {} channels", spec.group)))
        }
        _ => Ok(result),
    }
}

pub(super) fn depthwise_conv(c: &mut Checker, spec: &ConvSpec) -> Result<TensorType> {
    prepadded(spec)?;
    let dtype = check::numeric(c.same_dtype(0, 1)?)?;
    let (batch, channels, extents) = split(c.ty(0), spec.layout)?;
    let Some((w_channels, kernel)) = c.ty(1).shape.split_last() else {
        return Err(Error::invalid("the weights have no axis"));
    };
    c.meet(channels, w_channels, "the channels of the operand and of the weights")?;
    c.meet(channels, &Dim::from(spec.group), "the channels and the groups")?;
    Ok(join(dtype, spec.layout, batch, w_channels.clone(), positions(spec, extents, kernel)?))
}

pub(super) fn conv_transpose(c: &mut Checker, spec: &ConvSpec, output_pads: &[i64]) -> Result<TensorType> {
    let dtype = check::numeric(c.same_dtype(0, 1)?)?;
    let (batch, channels, extents) = split(c.ty(0), spec.layout)?;
    let (in_channels, per_group, kernel) = weight_kernel(c.ty(1), extents.len())?;
    c.meet(channels, in_channels, "the channels of the operand and of the weights")?;
    let group = groups(spec.group, in_channels, "input channels")?;
    let out = per_group * &group;
    bias(c, &out)?;
    windows(&spec.strides, &spec.dilations, &spec.pads, extents.len())?;
    check::length(output_pads.len(), extents.len(), "output_pads")?;
    let spatial = (0..extents.len()).map(|i| {
        let (before, after) = spec.pads[i];
        let span = &(&extents[i] - &Dim::ONE) * &Dim::from(spec.strides[i]);
        let reach = &(&kernel[i] - &Dim::ONE) * &Dim::from(spec.dilations[i]);
        [Dim::ONE, span, reach, Dim::from(output_pads[i]), -&Dim::from(before), -&Dim::from(after)].into_iter().sum()
    });
    Ok(join(dtype, spec.layout, batch, out, spatial.collect()))
}

pub(super) fn col2im(c: &mut Checker, spec: &ConvSpec, kernel: &[i64], size: &[Dim]) -> Result<TensorType> {
    let [batch, rows, count] = c.axes(0)?;
    let dtype = check::numeric(c.ty(0).dtype)?;
    let window: Dim = kernel.iter().map(|&k| Dim::from(k)).product();
    let channels = rows.floor_div(&window);
    c.meet(&rows, &(&channels * &window), "the rows and channels * window")?;
    let kernel: Vec<Dim> = kernel.iter().map(|&k| Dim::from(k)).collect();
    let positions: Dim = positions(spec, size, &kernel)?.into_iter().product();
    c.meet(&count, &positions, "the columns and the number of windows")?;
    Ok(join(dtype, Layout::ChannelsFirst, &batch, channels, size.to_vec()))
}

pub(super) fn pool(c: &mut Checker, spec: &PoolSpec) -> Result<TensorType> {
    let x = c.ty(0);
    match spec.kind {
        PoolKind::Max => check::numeric(x.dtype)?,
        PoolKind::Average { .. } | PoolKind::Lp { .. } => check::float(x.dtype)?,
    };
    let (batch, channels, extents) = split(x, spec.layout)?;
    windows(&spec.strides, &spec.dilations, &spec.pads, extents.len())?;
    check::length(spec.kernel.len(), extents.len(), "the kernel")?;
    let spatial: Result<Vec<Dim>> = (0..extents.len())
        .map(|i| {
            let stride = Dim::from(spec.strides[i]);
            let travel = travel(&extents[i], &Dim::from(spec.kernel[i]), spec.dilations[i], spec.pads[i])?;
            if !spec.ceil {
                return Ok(&travel.floor_div(&stride) + &Dim::ONE);
            }
            // A window that starts in the far padding does not count.
            let last = travel.ceil_div(&stride);
            let beyond = &(&last * &stride) - &(&extents[i] + &Dim::from(spec.pads[i].0));
            Ok(beyond.if_neg(&(&last + &Dim::ONE), &last))
        })
        .collect();
    let spatial = spatial?;
    for (axis, extent) in extents.iter().enumerate() {
        let travel = travel(extent, &Dim::from(spec.kernel[axis]), spec.dilations[axis], spec.pads[axis])?;
        c.at_least(&travel, &Dim::ZERO, &format!("its window along spatial axis {axis}"))?;
    }
    Ok(join(x.dtype, spec.layout, batch, channels.clone(), spatial))
}

pub(super) fn max_pool_with_indices(c: &mut Checker, spec: &PoolSpec) -> Result<Vec<TensorType>> {
    if spec.kind != PoolKind::Max || spec.layout != Layout::ChannelsFirst {
        return Err(Error::invalid("only a channels-first maximum has indices"));
    }
    let values = pool(c, spec)?;
    let indices = TensorType::new(DType::I64, values.shape.clone());
    Ok(vec![values, indices])
}

pub(super) fn resize(c: &mut Checker, sizes: &[Dim], rule: &ResizeRule) -> Result<TensorType> {
    let x = c.ty(0);
    check::numeric(x.dtype)?;
    check::length(sizes.len(), x.rank(), "sizes")?;
    check::length(rule.scales.len(), x.rank(), "scales")?;
    if !rule.roi.is_empty() {
        check::length(rule.roi.len(), x.rank(), "roi")?;
    }
    for (axis, extent) in x.shape.iter().enumerate() {
        c.not_empty(extent, sizes, &format!("what it resizes along axis {axis}"))?;
    }
    Ok(TensorType::new(x.dtype, sizes.to_vec()))
}

pub(super) fn grid_sample(c: &mut Checker) -> Result<TensorType> {
    let (x, grid) = (c.ty(0), c.ty(1));
    check::float(grid.dtype)?;
    let (batch, channels, extents) = split(x, Layout::ChannelsFirst)?;
    let [g_batch, points @ .., coordinates] = grid.shape.as_slice() else {
        return Err(Error::invalid("the grid must have three axes or more"));
    };
    if extents.is_empty() {
        return Err(Error::invalid("there is no spatial axis"));
    }
    check::length(points.len(), extents.len(), "the grid's shape")?;
    let batch = c.meet(batch, g_batch, "the batches of the operand and of the grid")?;
    c.meet(coordinates, &Dim::from(extents.len()), "the coordinates and the spatial axes")?;
    let result = join(x.dtype, Layout::ChannelsFirst, &batch, channels.clone(), points.to_vec());
    for (axis, extent) in extents.iter().enumerate() {
        c.not_empty(extent, &result.shape, &format!("what it samples along spatial axis {axis}"))?;
    }
    Ok(result)
}
