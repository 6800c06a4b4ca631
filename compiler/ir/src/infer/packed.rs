//! Types of products and convolutions with packed weights.

use super::check::{self, Checker};
use super::window::{groups, join, positions, split};
use crate::{DType, Dim, Filtering, Filters, Layout, LowBit, Packed, Staging, TensorType, WeightFormat, planes};
use crate::{Error, Result};

pub(super) fn packed(c: &mut Checker, p: &Packed) -> Result<TensorType> {
    if p.kernel.iter().any(|&k| k <= 0) {
        return Err(Error::invalid(format!("no window of {:?}", p.kernel)));
    }
    let staged = matches!(p.weights, WeightFormat::NonZeros { .. });
    if !staged && p.spec.layout != Layout::ChannelsLast {
        return Err(Error::invalid("the layout must be channels last"));
    }
    if !staged && p.spec.pads.iter().any(|p| *p != (0, 0)) {
        return Err(Error::invalid(format!("pads {:?} must be zero", p.spec.pads)));
    }
    match &p.weights {
        WeightFormat::Dense => dense(c, p),
        WeightFormat::Depthwise => depthwise(c, p),
        WeightFormat::Int8 { bitmask } => int8(c, p, *bitmask),
        WeightFormat::Int8Depthwise => int8_depthwise(c, p),
        WeightFormat::Blocks => blocks(c, p),
        WeightFormat::NonZeros { staging, stored } => non_zeros(c, p, staging, *stored),
        WeightFormat::LowBit(coded) => low_bit(c, p, *coded),
        WeightFormat::Filtered { tile, size, filters } => filtered(c, p, tile, size, *filters),
    }
}

fn dims(extents: &[i64]) -> Vec<Dim> {
    extents.iter().map(|&k| Dim::from(k)).collect()
}

/// The result's shape without channels, given that of the data: windows, or the rows of a matrix.
fn outer(p: &Packed, rows: &[Dim]) -> Result<Vec<Dim>> {
    let extents = if p.kernel.is_empty() { &[] } else { rows.get(1..).unwrap_or_default() };
    let spatial = positions(&p.spec, extents, &dims(&p.kernel))?;
    Ok(if p.kernel.is_empty() { rows.to_vec() } else { [&rows[..1], &spatial].concat() })
}

/// Channels of the data, and [`outer`] of the rest.
fn channels_and_outer(c: &Checker, p: &Packed) -> Result<(Dim, Vec<Dim>)> {
    let Some((channels, rows)) = c.ty(0).shape.split_last() else {
        return Err(Error::invalid("the operand has no axis"));
    };
    Ok((channels.clone(), outer(p, rows)?))
}

fn one_group(p: &Packed) -> Result<()> {
    if p.spec.group == 1 { Ok(()) } else { Err(Error::invalid(format!("{} groups, of 1", p.spec.group))) }
}

/// Requires one filter per channel, for all channels of the data.
fn filters_of_channels(c: &mut Checker, p: &Packed, channels: &Dim) -> Result<()> {
    c.meet(channels, &Dim::from(p.spec.group), "the channels and the groups")?;
    if p.spec.group == p.out {
        Ok(())
    } else {
        Err(Error::invalid(format!("{} filters of {} channels", p.out, p.spec.group)))
    }
}

fn result(dtype: DType, outer: Vec<Dim>, out: usize) -> TensorType {
    TensorType::new(dtype, [outer, vec![Dim::from(out)]].concat())
}

fn dense(c: &mut Checker, p: &Packed) -> Result<TensorType> {
    let dtype = check::numeric(c.weights_dtype()?)?;
    let (batch, channels, extents) = split(c.ty(0), p.spec.layout)?;
    let [w_group, panels, kernel @ .., per_group, tile] = c.ty(1).shape.as_slice() else {
        return Err(Error::invalid("packed weights have four axes or more"));
    };
    check::length(kernel.len(), p.kernel.len(), "the window's axes in the weights")?;
    for (have, want) in kernel.iter().zip(&p.kernel) {
        c.meet(have, &Dim::from(*want), "the weights' window and the attribute")?;
    }
    let group = groups(p.spec.group, &Dim::from(p.out), "output channels")?;
    c.meet(w_group, &group, "the weights' groups and the attribute")?;
    c.meet(channels, &(per_group * &group), "the channels of the operand and of the weights")?;
    c.meet(panels, &Dim::from(p.out / p.spec.group).ceil_div(tile), "the panels and what the channels need")?;
    Ok(join(dtype, p.spec.layout, batch, Dim::from(p.out), positions(&p.spec, extents, kernel)?))
}

fn depthwise(c: &mut Checker, p: &Packed) -> Result<TensorType> {
    let dtype = check::numeric(c.same_dtype(0, 1)?)?;
    let (batch, channels, extents) = split(c.ty(0), p.spec.layout)?;
    c.shape(1, &[dims(&p.kernel), vec![channels.clone()]].concat(), "the weights and the window's elements")?;
    filters_of_channels(c, p, channels)?;
    Ok(join(dtype, p.spec.layout, batch, channels.clone(), positions(&p.spec, extents, &dims(&p.kernel))?))
}

fn int8(c: &mut Checker, p: &Packed, bitmask: bool) -> Result<TensorType> {
    c.dtype(0, &[DType::U8, DType::I8])?;
    c.dtype(1, &[if bitmask { DType::I64 } else { DType::I8 }])?;
    if p.kernel.is_empty() {
        one_group(p)?;
    }
    let (channels, outer) = channels_and_outer(c, p)?;
    let group = groups(p.spec.group, &Dim::from(p.out), "output channels")?;
    let per_group = channels.floor_div(&groups(p.spec.group, &channels, "channels")?);
    let (taps, run) = p.spec.runs(&p.kernel, &per_group);
    let [w_group, panels, w_taps, steps, tile] = if bitmask {
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
    c.meet(&panels, &Dim::from(p.out / p.spec.group).ceil_div(&tile), "the panels and what the channels need")?;
    Ok(result(DType::I32, outer, p.out))
}

fn int8_depthwise(c: &mut Checker, p: &Packed) -> Result<TensorType> {
    c.dtype(0, &[DType::U8, DType::I8])?;
    c.dtype(1, &[DType::I8])?;
    if p.kernel.is_empty() {
        return Err(Error::invalid("no window"));
    }
    let [lines, rows, columns] = planes(&p.kernel);
    let (batch, channels, extents) = split(c.ty(0), p.spec.layout)?;
    filters_of_channels(c, p, channels)?;
    let spatial = positions(&p.spec, extents, &dims(&p.kernel))?;
    let result = join(DType::I32, p.spec.layout, batch, channels.clone(), spatial);
    let [w_lines, w_quads, w_columns, lanes, four] = c.axes(1)?;
    c.meet(&w_lines, &Dim::from(lines), "the weights' lines and the window's")?;
    c.meet(&w_quads, &Dim::from((rows + 3) / 4), "the weights' rows in fours and the window's")?;
    c.meet(&w_columns, &Dim::from(columns), "the weights' columns and the window's")?;
    c.meet(&four, &Dim::from(4i64), "the weights' last axis and 4")?;
    match lanes.as_const() {
        Some(lanes) if lanes < p.spec.group as i64 => {
            Err(Error::invalid(format!("{lanes} lanes for {} channels", p.spec.group)))
        }
        _ => Ok(result),
    }
}

fn blocks(c: &mut Checker, p: &Packed) -> Result<TensorType> {
    let floats = c.dtype(0, &[DType::F32, DType::U8, DType::I8])? == DType::F32;
    c.dtype(1, &[DType::I32])?;
    c.dtype(2, &[DType::I32])?;
    c.dtype(3, &[if floats { DType::F32 } else { DType::I8 }])?;
    one_group(p)?;
    let (_, outer) = channels_and_outer(c, p)?;
    let ([heads], [offsets]) = (c.axes(1)?, c.axes(2)?);
    let [blocks, tile] = if floats {
        c.axes(3)?
    } else {
        let [blocks, tile, four] = c.axes(3)?;
        c.meet(&four, &Dim::from(4i64), "the values' last axis and 4")?;
        [blocks, tile]
    };
    c.meet(&offsets, &blocks, "the offsets and the blocks")?;
    c.meet(&heads, &(&Dim::from(p.out).ceil_div(&tile) + &Dim::ONE), "the heads and one more than the panels")?;
    Ok(result(if floats { DType::F32 } else { DType::I32 }, outer, p.out))
}

/// The tiles of results must fit the planes.
fn non_zeros(c: &mut Checker, p: &Packed, staging: &Staging, stored: Layout) -> Result<TensorType> {
    let floats = c.dtype(0, &[DType::F32, DType::U8, DType::I8])? == DType::F32;
    c.dtype(1, &[DType::I32])?;
    c.dtype(2, &[DType::U8])?;
    c.dtype(3, &[DType::U16, DType::I32])?;
    c.dtype(4, &[if floats { DType::F32 } else { DType::I8 }])?;
    if !floats && [p.spec.layout, stored] != [Layout::ChannelsLast; 2] {
        return Err(Error::invalid("words of bytes have their channels last"));
    }
    let mut rows = c.ty(0).shape.clone();
    let channels = p.spec.layout.channels(rows.len());
    if channels >= rows.len() {
        return Err(Error::invalid(format!("the operand has no {:?}", p.spec.layout)));
    }
    let mut channels = rows.remove(channels);
    if !floats {
        let words = channels.floor_div(&Dim::from(4i64));
        c.meet(&channels, &(&words * &Dim::from(4i64)), "the channels and those of whole words")?;
        channels = words;
    }
    let mut shape = outer(p, &rows)?;
    if !Staging::fits(&p.spec) || !staging.holds(&p.spec, &p.kernel) {
        return Err(Error::invalid(format!("windows of {:?} cannot be staged as {staging:?}", p.kernel)));
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
    let groups = &Dim::from(staging.groups(p.out)) * &slices;
    c.meet(&heads, &(&groups + &Dim::ONE), "the heads and one more than the groups of all slices")?;
    c.meet(&slots, &(&groups * &Dim::from(staging.abreast)), "the slots and the channels of groups")?;
    c.meet(&(&offsets * &Dim::from(staging.shared)), &values, "the offsets of all and the values")?;
    let channels = stored.channels(shape.len() + 1);
    if channels > shape.len() {
        return Err(Error::invalid(format!("the result has no {stored:?}")));
    }
    shape.insert(channels, Dim::from(p.out));
    Ok(TensorType::new(if floats { DType::F32 } else { DType::I32 }, shape))
}

fn low_bit(c: &mut Checker, p: &Packed, coded: LowBit) -> Result<TensorType> {
    one_group(p)?;
    let (channels, outer) = channels_and_outer(c, p)?;
    codes(c, coded, [&(&channels * &Dim::from(p.taps())), &Dim::from(p.out)], [1, 2])?;
    Ok(result(DType::F32, outer, p.out))
}

/// Checks the operands that hold low-bit weights `[depth, out]`: the number of that of the codes, and of the first of the
/// parameters, which are the last operands.
pub(super) fn codes(c: &mut Checker, coded: LowBit, [depth, out]: [&Dim; 2], [at, first]: [usize; 2]) -> Result<()> {
    let LowBit { bits, block } = coded;
    if ![2, 4, 8].contains(&bits) || block == 0 || !block.is_multiple_of(16) {
        return Err(Error::invalid(format!("no codes of {bits} bits in blocks of {block}")));
    }
    c.dtype(0, &[DType::F32])?;
    c.dtype(at, &[DType::I32])?;
    c.dtype(first, &[DType::F32, DType::F16])?;
    let [panels, words, tile] = c.axes(at)?;
    let blocks = depth.ceil_div(&Dim::from(block));
    c.meet(&words, &depth.ceil_div(&Dim::from(coded.in_word())), "the codes and the window's elements")?;
    c.meet(&panels, &out.ceil_div(&tile), "the panels and what the channels need")?;
    let parameters = [panels, blocks, tile];
    c.shape(first, &parameters, "the scales")?;
    let rest = first + 1;
    if c.operands.len() > rest && c.ty(rest).dtype != DType::F32 {
        c.dtype(rest, &[coded.zero_type()])?;
        c.shape(rest, &parameters, "the zero points")
    } else if c.operands.len() > rest {
        c.shape(rest, &[Dim::from(coded.table_size())], "the table")
    } else {
        Ok(())
    }
}

fn filtered(c: &mut Checker, p: &Packed, tile: &[i64], size: &[Dim], filters: Filters) -> Result<TensorType> {
    let dtype = check::float(c.ty(0).dtype)?;
    one_group(p)?;
    check::length(size.len(), p.kernel.len(), "size")?;
    let (batch, channels, extents) = split(c.ty(0), Layout::ChannelsLast)?;
    let (batch, channels, extents) = (batch.clone(), channels.clone(), extents.to_vec());
    check::length(extents.len(), p.kernel.len(), "the operand's spatial axes")?;
    positions(&p.spec, &extents, &dims(&p.kernel))?;
    if p.spec.strides.iter().any(|&s| s != 1) {
        return Err(Error::invalid(format!("strides {:?} must be 1", p.spec.strides)));
    }
    let unknown = || Error::invalid(format!("there is no minimal filtering by {tile:?} of {:?}", p.kernel));
    let filterings = Filtering::of_axes(tile, &p.kernel).ok_or_else(unknown)?;
    for (axis, have) in extents.iter().enumerate() {
        let dilation = p.spec.dilations[axis];
        let step = Dim::from(tile[axis] * dilation);
        let need = &(&size[axis].ceil_div(&step) * &step) + &Dim::from((p.kernel[axis] - 1) * dilation);
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
        Filters::LowBit(coded) => {
            codes(c, coded, [&(&channels * &Dim::from(taps)), &Dim::from(p.out)], [1, 2])?;
            return Ok(join(dtype, Layout::ChannelsLast, &batch, Dim::from(p.out), size.to_vec()));
        }
    };
    let [w_planes, panels, w_channels, columns] = c.axes(1)?;
    c.meet(&w_planes, &Dim::from(planes), "the planes and the products of a tile or the window's elements")?;
    c.meet(&channels, &w_channels, "the channels of the operand and of the weights")?;
    c.meet(&panels, &Dim::from(p.out).ceil_div(&columns), "the panels and what the channels need")?;
    Ok(join(dtype, Layout::ChannelsLast, &batch, Dim::from(p.out), size.to_vec()))
}
