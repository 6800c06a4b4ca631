//! Resizing and sampling of images.

use super::super::builder::{self, Builder};
use super::super::content::Known;
use super::super::node::{Node, Results};
use mcc_ir::{CoordinateMode, Dim, Error, F64, NearestMode, Op, ResizeRule, Result, SampleMode, SamplePadding, Value};

/// Upsample: scales as an attribute, later as an input; coordinates as in the first version of Resize.
pub fn upsample(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let scales = match n.version {
        ..7 => {
            let (h, w) = (n.float("height_scale", 1.0)?, n.float("width_scale", 1.0)?);
            vec![Known::number(1.0), Known::number(1.0), Known::number(h), Known::number(w)]
        }
        7..9 => n.floats("scales")?.into_iter().map(|s| Known::number(f64::from(s))).collect(),
        _ => known_scales(b, n.input(1)?)?,
    };
    let rule = rule(n, CoordinateMode::Asymmetric, NearestMode::Simple)?;
    let axes: Vec<usize> = (0..b.rank(x)).collect();
    Ok(by_scales(b, x, &axes, &scales, rule)?.into())
}

pub fn resize(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let rank = b.rank(x);
    if n.version < 11 {
        let scales = known_scales(b, n.input(1)?)?;
        let rule = rule(n, CoordinateMode::Asymmetric, NearestMode::Simple)?;
        let axes: Vec<usize> = (0..rank).collect();
        return Ok(by_scales(b, x, &axes, &scales, rule)?.into());
    }
    let axes = match n.ints("axes")? {
        Some(axes) => axes.iter().map(|&a| builder::axis(a, rank)).collect::<Result<_>>()?,
        None => (0..rank).collect::<Vec<_>>(),
    };
    let coordinates = match n.text("coordinate_transformation_mode", "half_pixel")?.as_str() {
        "half_pixel" => CoordinateMode::HalfPixel,
        "half_pixel_symmetric" => CoordinateMode::HalfPixelSymmetric,
        "pytorch_half_pixel" => CoordinateMode::PytorchHalfPixel,
        "tf_half_pixel_for_nn" => CoordinateMode::TfHalfPixel,
        "align_corners" => CoordinateMode::AlignCorners,
        "asymmetric" => CoordinateMode::Asymmetric,
        "tf_crop_and_resize" => CoordinateMode::TfCropAndResize,
        other => return Err(Error::unsupported(format!("coordinate_transformation_mode \"{other}\""))),
    };
    let nearest = match n.text("nearest_mode", "round_prefer_floor")?.as_str() {
        "round_prefer_floor" => NearestMode::RoundPreferFloor,
        "round_prefer_ceil" => NearestMode::RoundPreferCeil,
        "floor" => NearestMode::Floor,
        "ceil" => NearestMode::Ceil,
        other => return Err(Error::unsupported(format!("nearest_mode \"{other}\""))),
    };
    let mut rule = rule(n, coordinates, nearest)?;
    if coordinates == CoordinateMode::TfCropAndResize {
        let roi = b.floats(n.input(1)?, "the region of interest")?;
        if roi.len() != 2 * axes.len() {
            return Err(Error::invalid(format!("{} numbers of a region on {} axes", roi.len(), axes.len())));
        }
        rule.roi = vec![(F64::from(0.0), F64::from(1.0)); rank];
        for (i, &a) in axes.iter().enumerate() {
            rule.roi[a] = (F64::from(roi[i]), F64::from(roi[i + axes.len()]));
        }
    }
    let given = |b: &Builder, v: Option<Value>| v.filter(|&v| !b.ty(v).numel().is(0));
    if let Some(scales) = given(b, n.optional(2)) {
        let scales = known_scales(b, scales)?;
        return Ok(by_scales(b, x, &axes, &scales, rule)?.into());
    }
    let sizes = n.optional(3).ok_or_else(|| Error::invalid("neither scales nor sizes"))?;
    let sizes = b.dims(sizes, "the sizes")?;
    Ok(by_sizes(b, n, x, &axes, &sizes, rule)?.into())
}

fn known_scales(b: &mut Builder, v: Value) -> Result<Vec<Known>> {
    if let Some(known) = b.content(v) {
        return Ok(known.to_vec());
    }
    Ok(b.floats(v, "the scales")?.into_iter().map(Known::number).collect())
}

fn rule(n: &Node, coordinates: CoordinateMode, nearest: NearestMode) -> Result<ResizeRule> {
    let mode = match n.text("mode", "nearest")?.as_str() {
        "nearest" => SampleMode::Nearest,
        "linear" | "bilinear" => SampleMode::Linear,
        "cubic" => SampleMode::Cubic,
        other => return Err(Error::unsupported(format!("mode \"{other}\""))),
    };
    Ok(ResizeRule {
        mode,
        coordinates,
        nearest,
        scales: Vec::new(),
        cubic_a: n.float("cubic_coeff_a", -0.75)?.into(),
        exclude_outside: n.flag("exclude_outside", false)?,
        antialias: n.flag("antialias", false)?,
        extrapolation: n.float("extrapolation_value", 0.0)?.into(),
        roi: Vec::new(),
    })
}

/// Every extent times its scale, rounded down.
fn by_scales(b: &mut Builder, x: Value, axes: &[usize], scales: &[Known], mut rule: ResizeRule) -> Result<Value> {
    let shape = b.shape(x);
    if scales.len() != axes.len() {
        return Err(Error::invalid(format!("{} scales for {} axes", scales.len(), axes.len())));
    }
    let mut sizes = shape.clone();
    rule.scales = vec![F64::from(1.0); shape.len()];
    for (&a, scale) in axes.iter().zip(scales) {
        let Some(s) = scale.as_f64() else {
            return Err(Error::unsupported("a scale that is not constant").help("pin the dimension with --dim"));
        };
        rule.scales[a] = F64::from(s);
        let span = match rule.roi.get(a) {
            Some((first, last)) => last.get() - first.get(),
            None => 1.0,
        };
        sizes[a] = match shape[a].as_const() {
            // The product in `f32`, the type of the scales.
            Some(c) => Dim::from(((c as f32) * (s * span) as f32).floor() as i64),
            None => scaled(&shape[a], s * span)?,
        };
    }
    b.add(Op::Resize { sizes, rule }, &[x])
}

/// `floor(d * s)` for a scale that is a fraction of small numbers.
fn scaled(d: &Dim, s: f64) -> Result<Dim> {
    for q in 1..=512i64 {
        let p = s * q as f64;
        if (p - p.round()).abs() < 1e-6 {
            return Ok((d * &Dim::from(p.round() as i64)).floor_div(&Dim::from(q)));
        }
    }
    Err(Error::unsupported(format!("the scale {s} of a symbolic extent")).help("pin the dimension with --dim"))
}

fn by_sizes(b: &mut Builder, n: &Node, x: Value, axes: &[usize], sizes: &[Dim], mut rule: ResizeRule) -> Result<Value> {
    let shape = b.shape(x);
    if sizes.len() != axes.len() {
        return Err(Error::invalid(format!("{} sizes for {} axes", sizes.len(), axes.len())));
    }
    let mut target = shape.clone();
    rule.scales = vec![F64::from(1.0); shape.len()];
    for (&a, size) in axes.iter().zip(sizes) {
        target[a] = size.clone();
        rule.scales[a] = F64::from(scale_of(size, &shape[a])?);
    }
    let policy = n.text("keep_aspect_ratio_policy", "stretch")?;
    if policy != "stretch" {
        if rule.scales.iter().any(|s| s.get() == 0.0) {
            return Err(Error::unsupported(format!("policy {policy} with sizes that are not constant")));
        }
        let scales = axes.iter().map(|&a| rule.scales[a].get());
        let scale = match policy.as_str() {
            "not_larger" => scales.fold(f64::INFINITY, f64::min),
            "not_smaller" => scales.fold(f64::NEG_INFINITY, f64::max),
            other => return Err(Error::invalid(format!("attribute keep_aspect_ratio_policy is \"{other}\""))),
        };
        for &a in axes {
            let extent = shape[a].as_const();
            let extent = extent.ok_or_else(|| Error::unsupported(format!("policy {policy} of a symbolic extent")))?;
            rule.scales[a] = F64::from(scale);
            // Halves round up.
            target[a] = Dim::from((extent as f64 * scale + 0.5).floor() as i64);
        }
    }
    b.add(Op::Resize { sizes: target, rule }, &[x])
}

/// The quotient of two extents that are constant or multiples of one another; 0 if it is known at run time only.
fn scale_of(size: &Dim, extent: &Dim) -> Result<f64> {
    if let (Some(s), Some(e)) = (size.as_const(), extent.as_const()) {
        return Ok(if e == 0 { 1.0 } else { s as f64 / e as f64 });
    }
    if size == extent {
        return Ok(1.0);
    }
    if let Some(q) = size.exact_div(extent).and_then(|q| q.as_const()) {
        return Ok(q as f64);
    }
    if let Some(q) = extent.exact_div(size).and_then(|q| q.as_const()).filter(|&q| q != 0) {
        return Ok(1.0 / q as f64);
    }
    Ok(0.0)
}

pub fn grid_sample(b: &mut Builder, n: &Node) -> Result<Results> {
    let mode = match n.text("mode", "linear")?.as_str() {
        "nearest" => SampleMode::Nearest,
        "linear" | "bilinear" => SampleMode::Linear,
        "cubic" | "bicubic" => SampleMode::Cubic,
        other => return Err(Error::unsupported(format!("mode \"{other}\""))),
    };
    let padding = match n.text("padding_mode", "zeros")?.as_str() {
        "zeros" => SamplePadding::Zeros,
        "border" => SamplePadding::Border,
        "reflection" => SamplePadding::Reflection,
        other => return Err(Error::unsupported(format!("padding_mode \"{other}\""))),
    };
    let op = Op::GridSample { mode, padding, align_corners: n.flag("align_corners", false)? };
    Ok(b.add(op, &[n.input(0)?, n.input(1)?])?.into())
}

/// A grid of coordinates from -1 to 1, times a matrix per batch.
pub fn affine_grid(b: &mut Builder, n: &Node) -> Result<Results> {
    let theta = n.input(0)?;
    let size = b.dims(n.input(1)?, "the size")?;
    let align = n.flag("align_corners", false)?;
    let dtype = b.dtype(theta);
    let spatial = size.get(2..).filter(|s| (2..=3).contains(&s.len()));
    let spatial = spatial.ok_or_else(|| Error::invalid(format!("a grid of size {size:?}")))?.to_vec();
    let rank = spatial.len();
    // The last coordinate is the first axis of the grid's vectors: x, y, z.
    let mut columns = Vec::new();
    for a in (0..rank).rev() {
        let extent = b.dim_scalar(&spatial[a], dtype)?;
        let i = b.add(Op::Iota { dtype, shape: spatial.clone(), axis: a }, &[])?;
        let i = b.with(mcc_ir::BinaryOp::Mul, i, 2.0)?;
        let c = if align {
            let steps = b.with(mcc_ir::BinaryOp::Sub, extent, 1.0)?;
            let c = b.over(i, steps)?;
            b.with(mcc_ir::BinaryOp::Sub, c, 1.0)?
        } else {
            let c = b.with(mcc_ir::BinaryOp::Add, i, 1.0)?;
            let c = b.over(c, extent)?;
            b.with(mcc_ir::BinaryOp::Sub, c, 1.0)?
        };
        columns.push(b.unsqueeze(c, &[rank])?);
    }
    let ones = b.splat(dtype, 1.0, [spatial.clone(), vec![Dim::ONE]].concat())?;
    columns.push(ones);
    let grid = b.concat(&columns, rank)?;
    let points: Dim = spatial.iter().product();
    let grid = b.reshape(grid, vec![Dim::ONE, points, Dim::from(rank + 1)])?;
    let theta = b.transpose(theta, &[0, 2, 1])?;
    let y = b.matmul(grid, theta)?;
    let shape = [vec![size[0].clone()], spatial, vec![Dim::from(rank)]].concat();
    Ok(b.reshape(y, shape)?.into())
}

/// The mean or maximum of bilinear samples in the bins of regions.
pub fn roi_align(b: &mut Builder, n: &Node) -> Result<Results> {
    use mcc_ir::{BinaryOp::*, DType, ReduceKind, UnaryOp};
    let (x, rois, batch) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let dtype = b.dtype(x);
    let (height, width) = (n.int("output_height", 1)?, n.int("output_width", 1)?);
    let ratio = n.int("sampling_ratio", 0)?;
    if ratio <= 0 {
        return Err(Error::unsupported("RoiAlign with a sampling ratio that depends on the regions"));
    }
    let scale = n.float("spatial_scale", 1.0)?;
    let default = if n.version >= 16 { "half_pixel" } else { "output_half_pixel" };
    let half_pixel = n.text("coordinate_transformation_mode", default)? == "half_pixel";
    for (number, name) in [(height, "output_height"), (width, "output_width"), (ratio, "sampling_ratio")] {
        if !(1..=1 << 15).contains(&number) {
            return Err(Error::invalid(format!("attribute {name} is {number}")).help("it must be 1 to 32768"));
        }
    }
    let shape = b.extents::<4>(x, "input X")?;
    let [count, _] = b.extents(rois, "input rois")?;
    let corner = |b: &mut Builder, i: i64| -> Result<Value> {
        let v = b.slice(rois, 1, Dim::from(i), Dim::ONE)?;
        let v = b.with(Mul, v, scale)?;
        if half_pixel { b.with(Sub, v, 0.5) } else { Ok(v) }
    };
    // Per axis: the two neighbours of every sample, and the weight of the farther one; 0 outside.
    let mut axes = Vec::new();
    for (first, last, bins, extent) in [(1, 3, height, &shape[2]), (0, 2, width, &shape[3])] {
        let (start, end) = (corner(b, first)?, corner(b, last)?);
        let mut span = b.minus(end, start)?;
        if !half_pixel {
            span = b.with(Max, span, 1.0)?;
        }
        let step = b.with(Div, span, (bins * ratio) as f64)?;
        let at = b.iota(dtype, &Dim::from(bins * ratio))?;
        let at = b.with(Add, at, 0.5)?;
        let at = b.times(step, at)?;
        let at = b.plus(start, at)?;
        let top = b.dim_scalar(extent, dtype)?;
        let below = b.with(Less, at, -1.0)?;
        let above = b.binary(Greater, at, top)?;
        let outside = b.binary(Or, below, above)?;
        let last_index = b.with(Sub, top, 1.0)?;
        let at = b.with(Max, at, 0.0)?;
        let at = b.binary(Min, at, last_index)?;
        let low = b.unary(UnaryOp::Floor, at)?;
        let high = b.with(Add, low, 1.0)?;
        let high = b.binary(Min, high, last_index)?;
        let far = b.minus(at, low)?;
        let one = b.scalar(dtype, 1.0);
        let near = b.minus(one, far)?;
        let zero = b.scalar(dtype, 0.0);
        let (near, far) = (b.select(outside, zero, near)?, b.select(outside, zero, far)?);
        axes.push([(b.cast(low, DType::I64)?, near), (b.cast(high, DType::I64)?, far)]);
    }
    let (rows, columns) = (Dim::from(height * ratio), Dim::from(width * ratio));
    let grid = vec![count.clone(), rows.clone(), columns.clone()];
    let image = b.transpose(x, &[0, 2, 3, 1])?;
    let batch = b.cast(batch, DType::I64)?;
    let batch = b.reshape(batch, vec![count.clone(), Dim::ONE, Dim::ONE])?;
    let batch = b.broadcast(batch, grid.clone())?;
    let mut samples = Vec::new();
    for (row, row_weight) in axes[0] {
        for (column, column_weight) in axes[1] {
            let lay = |b: &mut Builder, v: Value, axis: usize| {
                let v = b.unsqueeze(v, &[axis])?;
                b.broadcast(v, grid.clone())
            };
            let mut index = Vec::new();
            for v in [batch, lay(b, row, 2)?, lay(b, column, 1)?] {
                index.push(b.unsqueeze(v, &[3])?);
            }
            let index = b.concat(&index, 3)?;
            let picked = b.add(Op::GatherNd { batch_dims: 0 }, &[image, index])?;
            let (rw, cw) = (lay(b, row_weight, 2)?, lay(b, column_weight, 1)?);
            let weight = b.times(rw, cw)?;
            let weight = b.unsqueeze(weight, &[3])?;
            samples.push(b.times(picked, weight)?);
        }
    }
    let max = n.text("mode", "avg")? == "max";
    let combine = if max { Max } else { Add };
    let first = samples[0];
    let all = samples[1..].iter().try_fold(first, |acc, &s| b.binary(combine, acc, s))?;
    let [r, h, w, channels] = [Dim::from(ratio), Dim::from(height), Dim::from(width), shape[1].clone()];
    let split = b.reshape(all, vec![count, h, r.clone(), w, r, channels])?;
    let kind = if max { ReduceKind::Max } else { ReduceKind::Mean };
    let y = b.reduce(kind, split, &[2, 4], false)?;
    Ok(b.transpose(y, &[0, 3, 1, 2])?.into())
}
