//! Turns contractions of 8-bit integers minus zero points into contractions of the bytes themselves
//! ([`WeightFormat::Int8`]).
//!
//! With a zero point `z` of the data, and weights `w` that are bytes `b` plus an offset `o` per column,
//!
//! ```text
//! sum((x - z) * w) = sum(x * b) - z * sum(w) + o * sum(x)
//! ```
//!
//! The sums of weights are constants, and the offsets are zero unless the weights' zero point is not in the middle. The
//! arithmetic is exact: in `i32`, which wraps, for integers; where integers are multiplied as floats, the result is
//! rounded once instead of at every step.

use bytes::Bytes;
use mcc_targets::choices::Problem;
use mcc_targets::schedule::int8::{DEPTHWISE_LANES, MIN_EXTENT};
use mcc_targets::{Arch, Config, Feature, Target, schedule};

use crate::support::edit::{Edit, rewrite};
use mcc_ir::Result;
use mcc_ir::{
    BinaryOp, ConvSpec, DType, Decision, Dim, Graph, Layout, NodeId, Op, Packed, PadMode, Subject, Tensor, Value,
    WeightFormat, planes, text,
};

/// Converts products of bytes.
///
/// # Errors
/// When the graph contradicts itself.
pub(crate) fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    let mut changed = false;
    for node in graph.topological() {
        if let Some(r) = recurrence(graph, node, config)? {
            let r = graph.constant(r);
            graph.set_operand(node, 1, r);
            changed = true;
        }
    }
    let rewritten = rewrite(graph, |edit, node| {
        let Some(contraction) = contraction(edit.graph, node) else { return Ok(None) };
        let Some(data) = data(edit.graph, contraction.x) else { return Ok(None) };
        let from = edit.dtype(data.bytes);
        let operator = edit.graph.op(node).name();
        let layer = edit.graph.label(node).to_string();
        let decide = |edit: &mut Edit, form: String, why: &str| {
            edit.graph.decide(Decision::new(layer.as_str(), Subject::Precision, operator, form, why));
        };
        if contraction.to.is_float() && !schedule::int8::multiplies_int8(&config.target) {
            decide(edit, contraction.to.to_string(), super::WITHOUT_BYTE_PRODUCTS);
            return Ok(None);
        }
        let text = text::node_signature(edit.graph, node);
        let columns = (contraction.out / contraction.spec.group) as u64;
        let tile = panel(config, Problem { text: &text, layer: &layer }, columns);
        let Some(weights) = Weights::new(&contraction, tile) else {
            decide(edit, contraction.to.to_string(), "the weights are not bytes, or too few to fill a step of four");
            return Ok(None);
        };
        let result = rewritten(edit, &contraction, &data, &weights, config)?;
        match result {
            Some(_) => {
                decide(edit, format!("int8 ({from} data, i8 weights)"), "bytes multiplied, exact sums in 32 bits")
            }
            None => decide(
                edit,
                contraction.to.to_string(),
                "zero points per row, or of padding outside the byte range, cannot be moved out of the sum",
            ),
        }
        Ok(result)
    })?;
    Ok(changed || rewritten)
}

/// The data type of the target's byte products, if it supports only one.
pub(crate) fn taken(target: &Target) -> Option<DType> {
    match target.arch {
        Arch::Aarch64 if target.has(Feature::I8mm) => None,
        _ => Some(if schedule::int8::takes_signed(target) { DType::I8 } else { DType::U8 }),
    }
}

/// Whether a product is of bytes and handled by this pass.
pub(crate) fn applies(graph: &Graph, node: NodeId, target: &Target) -> bool {
    schedule::int8::multiplies_int8(target) && graph.operand(node, 0).is_some_and(|x| data(graph, x).is_some())
}

/// The weights of a recurrence over states rounded to bytes, as bytes: `[panels, steps, tile, 4]`.
fn recurrence(graph: &Graph, node: NodeId, config: &Config) -> Result<Option<Tensor>> {
    let Op::Recurrent(spec) = graph.op(node) else { return Ok(None) };
    let r = graph.operand(node, 1).and_then(|r| graph.as_constant(r));
    let Some(r) =
        r.filter(|r| spec.quantized && schedule::int8::multiplies_int8(&config.target) && r.dtype() == DType::F32)
    else {
        return Ok(None);
    };
    let &[hidden, columns] = r.shape() else { return Ok(None) };
    let values = r.to_f64s();
    if hidden == 0 || values.iter().any(|w| w.fract() != 0.0 || !(-128.0..=127.0).contains(w)) {
        return Ok(None);
    }
    let by_column = (0..columns).flat_map(|c| (0..hidden).map(move |row| row * columns + c));
    let bytes: Vec<i8> = by_column.map(|at| values[at] as i8).collect();
    let packed = pack(&bytes, [1, columns, 1, hidden], panel(config, Problem::default(), columns as u64))?;
    let &[_, panels, _, steps, tile, four] = packed.shape() else { return Ok(None) };
    packed.reshaped(vec![panels, steps, tile, four]).map(Some)
}

/// A product or convolution with constant weights.
struct Contraction {
    x: Value,
    w: Tensor,
    bias: Option<Value>,
    spec: ConvSpec,
    kernel: Vec<i64>,
    /// Contracted channels of a group, and result channels in total.
    channels: usize,
    out: usize,
    /// Type of the result.
    to: DType,
}

fn contraction(graph: &Graph, node: NodeId) -> Option<Contraction> {
    let operands = graph.operands(node);
    let (&x, w) = (operands.first()?, graph.as_constant(*operands.get(1)?));
    let to = graph.types(node)[0].dtype;
    if !matches!(to, DType::I32 | DType::F32) {
        return None;
    }
    match graph.op(node) {
        Op::MatMul => {
            let w = w?.clone();
            let &[channels, out] = w.shape() else { return None };
            Some(Contraction { x, w, bias: None, spec: ConvSpec::matrix(), kernel: Vec::new(), channels, out, to })
        }
        Op::Conv(spec) if spec.layout == Layout::ChannelsLast => {
            let w = w?.clone();
            let &[out, channels, ref kernel @ ..] = w.shape() else { return None };
            let kernel: Vec<i64> = kernel.iter().map(|&k| k as i64).collect();
            let narrow = channels < MIN_EXTENT || out / spec.group < MIN_EXTENT;
            if kernel.is_empty() || spec.group > 1 && narrow && !is_depthwise(spec, channels, out, &kernel) {
                return None;
            }
            Some(Contraction { x, w, bias: operands.get(2).copied(), spec: spec.clone(), kernel, channels, out, to })
        }
        _ => None,
    }
}

/// Whether a convolution has one filter per channel, of a size that [`WeightFormat::Int8Depthwise`] supports.
pub(crate) fn is_depthwise(spec: &ConvSpec, channels: usize, out: usize, kernel: &[i64]) -> bool {
    /// Maximum columns and rows of a window, whose products are unrolled; the rows apply to a single column.
    const MAX_WINDOW: (i64, i64) = (9, 33);
    let [_, rows, columns] = planes(kernel);
    let fits = columns <= MAX_WINDOW.0 && rows <= if columns == 1 { MAX_WINDOW.1 } else { MAX_WINDOW.0 };
    channels == 1 && out == spec.group && out >= MIN_EXTENT && rows > 1 && fits
}

/// Bytes, the number subtracted from each, and the moves of the difference.
struct Data {
    bytes: Value,
    zero: Option<Value>,
    /// Reshapes and transposes from the bytes to the operand, the last one first.
    moves: Vec<Op>,
}

/// A value as bytes minus a zero point.
fn data(graph: &Graph, v: Value) -> Option<Data> {
    let operands = graph.operands(v.node);
    match graph.op(v.node) {
        Op::Cast { .. } => {
            let bytes = *operands.first()?;
            let fits = matches!(graph.ty(bytes).dtype, DType::U8 | DType::I8);
            fits.then_some(Data { bytes, zero: None, moves: Vec::new() })
        }
        op @ (Op::Transpose { .. } | Op::Reshape { .. }) => {
            let mut inner = data(graph, *operands.first()?)?;
            // A single zero point is independent of moves.
            let moves = inner.zero.is_none_or(|z| graph.ty(z).numel().is(1));
            inner.moves.insert(0, op.clone());
            moves.then_some(inner)
        }
        Op::Binary(op @ (BinaryOp::Sub | BinaryOp::Add)) => {
            let inner = data(graph, operands[0])?;
            let zero = operands[1];
            let whole = match graph.as_constant(zero) {
                Some(t) => t.to_f64s().iter().all(|z| z.fract() == 0.0 && z.abs() <= 256.0),
                None => *op == BinaryOp::Sub && (!graph.ty(zero).dtype.is_float() || is_byte(graph, zero)),
            };
            let same = graph.ty(operands[0]) == graph.ty(v);
            // At most one per row.
            let shape = &graph.ty(zero).shape;
            let rows = shape.last().is_none_or(|d| d.is(1));
            (inner.zero.is_none() && inner.moves.is_empty() && same && whole && rows)
                .then_some(Data { zero: Some(zero), ..inner })
        }
        _ => None,
    }
}

/// Whether a value was a byte before a cast.
fn is_byte(graph: &Graph, v: Value) -> bool {
    let is = |v: Value| matches!(graph.ty(v).dtype, DType::U8 | DType::I8);
    matches!(graph.op(v.node), Op::Cast { .. }) && graph.operand(v.node, 0).is_some_and(is)
}

/// Weights as bytes: `[group, column, tap, element of the run]`, and the offset subtracted per column.
struct Weights {
    bytes: Vec<i8>,
    offsets: Vec<i32>,
    sums: Vec<i32>,
    taps: usize,
    run: usize,
    /// Columns per panel.
    tile: usize,
}

impl Weights {
    fn new(c: &Contraction, tile: usize) -> Option<Weights> {
        let (taps, run) = c.spec.runs(&c.kernel, &Dim::from(c.channels));
        let (taps, run) = (taps as usize, usize::try_from(run.as_const()?).ok()?);
        if run * taps < MIN_EXTENT || c.out == 0 {
            return None;
        }
        let values = c.w.to_f64s();
        if values.iter().any(|w| w.fract() != 0.0 || w.abs() > 512.0) {
            return None;
        }
        let depth = taps * run;
        let window = depth / c.channels;
        // `[out, in, window]` or `[in, out]`; the run goes through channels fastest, then along the last kernel axis.
        let at = |column: usize, position: usize| {
            let (place, channel) = (position / c.channels, position % c.channels);
            match c.kernel.is_empty() {
                true => channel * c.out + column,
                false => (column * c.channels + channel) * window + place,
            }
        };
        let mut weights = Weights {
            bytes: Vec::with_capacity(depth * c.out),
            offsets: Vec::new(),
            sums: Vec::new(),
            taps,
            run,
            tile,
        };
        for column in 0..c.out {
            let column: Vec<i64> = (0..depth).map(|p| values[at(column, p)] as i64).collect();
            let (low, high) = column.iter().fold((0, 0), |(low, high), &w| (w.min(low), w.max(high)));
            let offset = match (low >= -128 && high <= 127, high - low <= 255) {
                (true, _) => 0,
                (false, true) => low + 128,
                (false, false) => return None,
            };
            weights.bytes.extend(column.iter().map(|&w| (w - offset) as i8));
            weights.offsets.push(offset as i32);
            weights.sums.push(column.iter().sum::<i64>() as i32);
        }
        Some(weights)
    }

    /// In panels: `[group, panels, taps, steps, tile, 4]`.
    fn packed(&self, group: usize) -> Result<Tensor> {
        pack(&self.bytes, [group, self.offsets.len() / group, self.taps, self.run], self.tile)
    }

    /// Weights of one column per group that sums the data.
    fn ones(&self, config: &Config, groups: usize) -> Result<Tensor> {
        let shape = [groups, 1, self.taps, self.run];
        pack(&vec![1; shape.iter().product()], shape, panel(config, Problem::default(), 1))
    }
}

/// Columns per panel of weights with `columns` columns in total.
fn panel(config: &Config, problem: Problem<'_>, columns: u64) -> usize {
    schedule::int8::panel_columns(config, problem, columns) as usize
}

fn pack(bytes: &[i8], [group, columns, taps, run]: [usize; 4], tile: usize) -> Result<Tensor> {
    let (panels, steps) = (columns.div_ceil(tile), run.div_ceil(4));
    let mut packed = vec![0u8; group * panels * taps * steps * tile * 4];
    for (n, runs) in bytes.chunks_exact(run).enumerate() {
        let (group, column, tap) = (n / taps / columns, n / taps % columns, n % taps);
        let panel = ((group * panels + column / tile) * taps + tap) * steps;
        for (i, &b) in runs.iter().enumerate() {
            packed[((panel + i / 4) * tile + column % tile) * 4 + i % 4] = b as u8;
        }
    }
    Tensor::new(DType::I8, vec![group, panels, taps, steps, tile, 4], Bytes::from(packed))
}

/// One filter per channel, `[channel, window]`, in the order of [`WeightFormat::Int8Depthwise`].
fn pack_filters(bytes: &[i8], channels: usize, kernel: &[i64]) -> Result<Tensor> {
    let [lines, rows, columns] = planes(kernel).map(|extent| extent as usize);
    let lanes = channels.next_multiple_of(DEPTHWISE_LANES);
    let quads = rows.div_ceil(4);
    let mut packed = vec![0u8; lines * quads * columns * lanes * 4];
    for (n, &b) in bytes.iter().enumerate() {
        let (channel, place) = (n / (lines * rows * columns), n % (lines * rows * columns));
        let (line, row, column) = (place / columns / rows, place / columns % rows, place % columns);
        packed[(((line * quads + row / 4) * columns + column) * lanes + channel) * 4 + row % 4] = b as u8;
    }
    Tensor::new(DType::I8, vec![lines, quads, columns, lanes, 4], Bytes::from(packed))
}

fn rewritten(
    edit: &mut Edit,
    c: &Contraction,
    data: &Data,
    weights: &Weights,
    config: &Config,
) -> Result<Option<Value>> {
    let offsets = weights.offsets.iter().any(|&o| o != 0);
    let padded = c.spec.pads.iter().any(|&p| p != (0, 0));
    // Sums of the data are one number per row; padding contributes one number in total.
    let rows = data.zero.filter(|&z| !edit.graph.ty(z).numel().is(1));
    let depthwise = is_depthwise(&c.spec, c.channels, c.out, &c.kernel);
    if rows.is_some() && !c.kernel.is_empty() {
        return Ok(None);
    }
    let mut zero = match data.zero {
        Some(zero) => Some(zero_point(edit, c.x, zero)?),
        None => None,
    };
    if padded && zero.is_some_and(|z| !in_range(edit.graph, z, edit.graph.ty(data.bytes).dtype)) {
        return Ok(None);
    }
    let x = operand(edit, c, data, &mut zero, config)?;
    let spec = ConvSpec { pads: vec![(0, 0); c.kernel.len()], ..c.spec.clone() };
    let dot = |edit: &mut Edit, packed: Tensor, spec: &ConvSpec, out: usize| {
        let packed = edit.graph.constant(packed);
        let (spec, kernel, weights) = (spec.clone(), c.kernel.clone(), WeightFormat::Int8 { bitmask: false });
        edit.add(Packed { spec, kernel, out, weights }.into(), &[x, packed])
    };
    let filters = |edit: &mut Edit, bytes: &[i8]| {
        let packed = edit.graph.constant(pack_filters(bytes, c.out, &c.kernel)?);
        let (spec, kernel, weights) = (spec.clone(), c.kernel.clone(), WeightFormat::Int8Depthwise);
        edit.add(Packed { spec, kernel, out: c.out, weights }.into(), &[x, packed])
    };
    let mut sum = match depthwise {
        true => filters(edit, &weights.bytes)?,
        false => dot(edit, weights.packed(c.spec.group)?, &spec, c.out)?,
    };
    let vector = |edit: &mut Edit, values: &[i32]| -> Result<Value> {
        let wide: Vec<i64> = values.iter().map(|&v| i64::from(v)).collect();
        Ok(edit.graph.constant(Tensor::from_i64s(DType::I32, vec![values.len()], &wide)?))
    };
    if let Some(zero) = zero {
        let sums = vector(edit, &weights.sums)?;
        let correction = edit.add(Op::Binary(BinaryOp::Mul), &[zero, sums])?;
        sum = edit.add(Op::Binary(BinaryOp::Sub), &[sum, correction])?;
    }
    if offsets {
        let groups = c.spec.group;
        let mut met = match depthwise {
            true => filters(edit, &vec![1; weights.bytes.len()])?,
            false => dot(edit, weights.ones(config, groups)?, &spec, groups)?,
        };
        let mut offsets = vector(edit, &weights.offsets)?;
        let apart = groups > 1 && !depthwise;
        if apart {
            // The columns of a group read the same data.
            let each = [edit.shape(met), vec![Dim::ONE]].concat();
            met = edit.reshape(met, each)?;
            offsets = edit.reshape(offsets, vec![Dim::from(groups), Dim::from(c.out / groups)])?;
        }
        let mut moved = edit.add(Op::Binary(BinaryOp::Mul), &[met, offsets])?;
        if apart {
            moved = edit.reshape(moved, edit.shape(sum))?;
        }
        sum = edit.add(Op::Binary(BinaryOp::Add), &[sum, moved])?;
    }
    if c.to != DType::I32 {
        sum = edit.add(Op::Cast { to: c.to, saturate: true }, &[sum])?;
    }
    match c.bias {
        Some(bias) => edit.add(Op::Binary(BinaryOp::Add), &[sum, bias]).map(Some),
        None => Ok(Some(sum)),
    }
}

/// The data as the product reads it: of the sign that the machine multiplies, moved, and padded with the zero point, which changes
/// with the sign.
fn operand(edit: &mut Edit, c: &Contraction, data: &Data, zero: &mut Option<Value>, config: &Config) -> Result<Value> {
    let from = edit.dtype(data.bytes);
    let wanted = taken(&config.target).unwrap_or(from);
    let mut x = data.bytes;
    if wanted != from {
        let shift = edit.graph.constant(Tensor::scalar_i64(DType::I32, if wanted == DType::U8 { 128 } else { -128 }));
        let wide = edit.add(Op::Cast { to: DType::I32, saturate: true }, &[x])?;
        let moved = edit.add(Op::Binary(BinaryOp::Add), &[wide, shift])?;
        x = edit.add(Op::Cast { to: wanted, saturate: true }, &[moved])?;
        *zero = Some(match *zero {
            Some(zero) => edit.add(Op::Binary(BinaryOp::Add), &[zero, shift])?,
            None => shift,
        });
    }
    for op in data.moves.iter().rev() {
        x = edit.add(op.clone(), &[x])?;
    }
    if c.spec.pads.iter().any(|&p| p != (0, 0)) {
        let value = match *zero {
            Some(zero) => {
                let zero = edit.reshape(zero, Vec::new())?;
                edit.add(Op::Cast { to: wanted, saturate: true }, &[zero])?
            }
            None => edit.graph.constant(Tensor::scalar_i64(wanted, 0)),
        };
        let side = |pick: fn(&(i64, i64)) -> i64| -> Vec<Dim> {
            let spatial = c.spec.pads.iter().map(|p| Dim::from(pick(p)));
            std::iter::once(Dim::ZERO).chain(spatial).chain([Dim::ZERO]).collect()
        };
        let pad = Op::Pad { before: side(|p| p.0), after: side(|p| p.1), mode: PadMode::Constant };
        x = edit.add(pad, &[x, value])?;
    }
    Ok(x)
}

/// The subtracted number as `i32`; constants may have been turned into an addition.
fn zero_point(edit: &mut Edit, mut x: Value, zero: Value) -> Result<Value> {
    let negative = loop {
        match edit.graph.op(x.node) {
            Op::Binary(op) => break *op == BinaryOp::Add,
            _ => x = edit.graph.operands(x.node)[0],
        }
    };
    let mut zero = match edit.dtype(zero) {
        DType::I32 => zero,
        _ => edit.add(Op::Cast { to: DType::I32, saturate: true }, &[zero])?,
    };
    if edit.graph.ty(zero).numel().is(1) {
        zero = edit.reshape(zero, Vec::new())?;
    }
    if negative { edit.add(Op::Unary(mcc_ir::UnaryOp::Neg), &[zero]) } else { Ok(zero) }
}

/// Whether a zero point, as `i32`, is known to be in the byte type's range.
fn in_range(graph: &Graph, mut zero: Value, dtype: DType) -> bool {
    if let Some(t) = graph.as_constant(zero) {
        let (low, high) = if dtype == DType::U8 { (0, 255) } else { (-128, 127) };
        return t.to_i64s().iter().all(|z| (low..=high).contains(z));
    }
    loop {
        match graph.op(zero.node) {
            Op::Cast { .. } | Op::Reshape { .. } => zero = graph.operands(zero.node)[0],
            _ => return false,
        }
        if graph.ty(zero).dtype == dtype {
            return true;
        }
    }
}
