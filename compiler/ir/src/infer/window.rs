//! Types of operations that slide windows over spatial axes.

use super::check::{self, Checker};
use crate::{ConvSpec, DType, Dim, Layout, PoolKind, PoolSpec, ResizeRule, TensorType};
use crate::{Error, Result};

/// Batch, channels and spatial extents of an activation.
pub(super) fn split(x: &TensorType, layout: Layout) -> Result<(&Dim, &Dim, &[Dim])> {
    match (layout, x.shape.as_slice()) {
        (Layout::ChannelsFirst, [batch, channels, spatial @ ..]) => Ok((batch, channels, spatial)),
        (Layout::ChannelsLast, [batch, spatial @ .., channels]) => Ok((batch, channels, spatial)),
        _ => Err(Error::invalid(format!("{x} has no batch and channel axes"))),
    }
}

/// The inverse of [`split`].
pub(super) fn join(dtype: DType, layout: Layout, batch: &Dim, channels: Dim, spatial: Vec<Dim>) -> TensorType {
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

/// Checks that there are strides, dilations and pads for each spatial axis, and that they are in range.
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

/// How far the operand, padding included, extends beyond the first window; `None` if there is no window.
fn travel(extent: &Dim, kernel: &Dim, dilation: i64, pads: (i64, i64)) -> Result<Dim> {
    let reach = &(&(kernel - &Dim::ONE) * &Dim::from(dilation)) + &Dim::ONE;
    let padded = extent + &Dim::from(pads.0.saturating_add(pads.1));
    let travel = &padded - &reach;
    if travel.as_const().is_some_and(|t| t < 0) {
        return Err(Error::invalid(format!("a window of {reach} elements exceeds the padded extent {padded}")));
    }
    Ok(travel)
}

/// Requires that a window fits along each axis: smaller data are an error in ONNX, not an empty result.
fn fits(c: &mut Checker, spec: &ConvSpec, extents: &[Dim], kernel: &[Dim]) -> Result<()> {
    let axes = extents.iter().zip(kernel).zip(spec.dilations.iter().zip(&spec.pads));
    for (axis, ((extent, kernel), (&dilation, &pads))) in axes.enumerate() {
        let travel = travel(extent, kernel, dilation, pads)?;
        c.at_least(&travel, &Dim::ZERO, &format!("its window along spatial axis {axis}"))?;
    }
    Ok(())
}

/// Number of windows along each axis of a convolution.
pub(super) fn positions(spec: &ConvSpec, extents: &[Dim], kernel: &[Dim]) -> Result<Vec<Dim>> {
    windows(&spec.strides, &spec.dilations, &spec.pads, extents.len())?;
    check::length(kernel.len(), extents.len(), "the kernel")?;
    (0..extents.len())
        .map(|i| {
            let travel = travel(&extents[i], &kernel[i], spec.dilations[i], spec.pads[i])?;
            Ok(&travel.floor_div(&Dim::from(spec.strides[i])) + &Dim::ONE)
        })
        .collect()
}

/// Checks that the number of groups is positive and divides a known number of channels.
pub(super) fn groups(group: usize, channels: &Dim, what: &str) -> Result<Dim> {
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
            // A window that starts in the padding after the data does not count.
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
