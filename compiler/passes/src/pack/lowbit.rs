//! Keeps constant weights that are codes as codes.
//!
//! However a model expresses them (dequantized per tensor, channel or block, cast and multiplied, packed in nibbles,
//! looked up in a codebook), at this point weights are numbers; their values show whether they are codes:
//! - a column, or each block of it, consists of integers of a small range times one scale, up to the rounding of `f32`;
//! - or the whole tensor has few distinct values, possibly times a factor per column, which then form a table.
//!
//! Products and convolutions with such weights become [`WeightFormat::LowBit`], and recurrent layers have codes of their
//! `r`; rows of such tables are gathered as bytes and scaled afterwards. That is as exact as the model's own arithmetic; see [`LowBit`].
//!
//! Convolutions that are faster with minimal filtering become [`WeightFormat::Filtered`] with codes. Not converted are
//! weights that are too small to gain anything, and products whose results are quantized to 16 bits, which is more
//! precise than rows of 16 bits.

use bytes::Bytes;
use mcc_targets::schedule::filtering::FilterStorage;
use mcc_targets::schedule::{
    lowbit::{BLOCK_SIZES, MIN_COLUMNS, MIN_DEPTH, MIN_WEIGHTS},
    products::PANEL_COLUMNS,
};
use mcc_targets::{Config, Target, WeightFloats, schedule};

use super::codebook;
use super::dense::pad;
use super::winograd;
use crate::support::edit::{Edit, rewrite};
use mcc_ir::Result;
use mcc_ir::{
    BinaryOp, CellSpec, Column, ConvSpec, DType, Decision, Dim, Filters, Graph, Layout, LowBit, NodeId, Op, Packed,
    Subject, Tensor, Value, WeightFormat,
};

/// Maximum relative difference of a weight divided by its scale from an integer: several roundings of `f32`.
const MAX_RELATIVE_ERROR: f64 = 1.0 / (1 << 20) as f64;

/// The largest difference of two 8-bit integers.
const MAX_SPAN: i32 = 255;

/// Converts weights that are codes.
///
/// # Errors
/// When the graph contradicts itself.
pub(crate) fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    let mut changed = false;
    for node in graph.topological() {
        changed |= recurrent(graph, node, config)?;
    }
    let rewritten = rewrite(graph, |edit, node| match edit.graph.op(node).clone() {
        Op::MatMul => product(edit, node, config),
        Op::Conv(spec) if spec.layout == Layout::ChannelsLast && spec.group == 1 => conv(edit, node, &spec, config),
        Op::Gather { axis: 0 } => gather(edit, node),
        _ => Ok(None),
    })?;
    Ok(changed || rewritten)
}

/// Lets a recurrent layer multiply its states by codes.
fn recurrent(graph: &mut Graph, node: NodeId, config: &Config) -> Result<bool> {
    let Op::Recurrent(spec) = graph.op(node).clone() else { return Ok(false) };
    let mut operands = graph.operands(node);
    let Some(r) = graph.as_constant(operands[1]).filter(|_| !spec.quantized && spec.coded.is_none()) else {
        return Ok(false);
    };
    let &[depth, out] = r.shape() else { return Ok(false) };
    if graph.ty(operands[0]).dtype != DType::F32 {
        return Ok(false);
    }
    let Some(form) = Form::of(r, [depth, out], |element, column| element * out + column, config)? else {
        return Ok(false);
    };
    let label = graph.label(node).to_string();
    let Stored { operands: stored, reason } = form.stored(graph, config)?;
    let sequences = graph.types(node)[0].shape[1].as_const();
    // Its product with the data has the same label and a decision of its own.
    let decision = Decision::new(format!("{label} (states)"), Subject::Weights, "recurrent", form.name(), reason);
    graph.decide(decision.zeros(form.zeros).gain(schedule::lowbit::decoded_gain(sequences)));
    operands[1] = stored[0];
    operands.extend(&stored[1..]);
    let op = Op::Recurrent(CellSpec { coded: Some(form.coded), ..spec });
    let new = graph.add_labelled(op, &operands, &label)?;
    for result in 0..graph.types(node).len() {
        graph.replace(Value { node, result }, Value { node: new, result });
    }
    Ok(true)
}

fn product(edit: &mut Edit, node: NodeId, config: &Config) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let Some(w) = edit.graph.as_constant(operands[1]) else { return Ok(None) };
    let &[ref batch @ .., depth, out] = w.shape() else { return Ok(None) };
    if batch.iter().any(|&extent| extent != 1) || edit.shape(operands[0]).len() < w.shape().len() {
        return Ok(None);
    }
    let Some(form) = Form::of(w, [depth, out], |element, column| element * out + column, config)? else {
        return Ok(None);
    };
    if too_coarse(edit, node, &config.target) {
        return Ok(None);
    }
    let spec = ConvSpec::matrix();
    let gain = form.gain(edit, node, &spec, &[], &config.target);
    let op = Packed { spec, kernel: Vec::new(), out, weights: WeightFormat::LowBit(form.coded) }.into();
    form.apply(edit, node, operands[0], op, gain, config).map(Some)
}

fn conv(edit: &mut Edit, node: NodeId, spec: &ConvSpec, config: &Config) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let Some(w) = edit.graph.as_constant(operands[1]) else { return Ok(None) };
    let &[out, channels, ref kernel @ ..] = w.shape() else { return Ok(None) };
    if kernel.is_empty() || w.numel() == 0 {
        return Ok(None);
    }
    let (window, kernel): (usize, Vec<i64>) = (kernel.iter().product(), kernel.iter().map(|&k| k as i64).collect());
    let at = |element: usize, column: usize| {
        let (place, channel) = (element / channels, element % channels);
        (column * channels + channel) * window + place
    };
    let Some(form) = Form::of(w, [window * channels, out], at, config)? else { return Ok(None) };
    // Requires that neighbouring channels share a word of codes.
    let plan = winograd::plan(edit.graph, node, w, config, FilterStorage::Plain)
        .filter(|_| channels.is_multiple_of(form.coded.in_word()));
    if plan.is_none() && too_coarse(edit, node, &config.target) {
        return Ok(None);
    }
    let pads = plan.as_ref().map_or_else(|| spec.pads.clone(), |plan| plan.pads(spec));
    let side = |pick: fn(&(i64, i64)) -> i64| -> Vec<Dim> {
        let spatial = pads.iter().map(|p| Dim::from(pick(p)));
        std::iter::once(Dim::ZERO).chain(spatial).chain([Dim::ZERO]).collect()
    };
    let x = pad(edit.graph, operands[0], side(|p| p.0), side(|p| p.1))?;
    let (op, gain) = match plan {
        Some(plan) => (plan.op(Filters::LowBit(form.coded)), plan.gain),
        None => {
            let gain = form.gain(edit, node, spec, &kernel, &config.target);
            let spec = ConvSpec { pads: vec![(0, 0); kernel.len()], ..spec.clone() };
            (Packed { spec, kernel, out, weights: WeightFormat::LowBit(form.coded) }.into(), gain)
        }
    };
    let result = form.apply(edit, node, x, op, gain, config)?;
    match operands.get(2) {
        Some(&bias) => edit.add(Op::Binary(BinaryOp::Add), &[result, bias]).map(Some),
        None => Ok(Some(result)),
    }
}

/// Whether the target's arithmetic on codes is off by steps of the quantized result.
fn too_coarse(edit: &mut Edit, node: NodeId, target: &Target) -> bool {
    /// Maximum number of operations from a product to its quantization to 16 bits, with some margin.
    const MAX_SEARCHED_OPERATIONS: usize = 16;
    if !target.has_byte_dot() {
        return false;
    }
    let (graph, mut next) = (&*edit.graph, vec![node]);
    let mut fine = false;
    for _ in 0..MAX_SEARCHED_OPERATIONS {
        let users: Vec<NodeId> = next.iter().flat_map(|&n| graph.users(n.into())).map(|(user, _)| user).collect();
        fine |= users.iter().any(|&n| matches!(graph.op(n), Op::Cast { to: DType::I16 | DType::U16, .. }));
        next = users;
        next.sort_unstable();
        next.dedup();
        next.retain(|&n| {
            matches!(graph.op(n), Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Reshape { .. } | Op::Transpose { .. })
        });
    }
    if fine {
        let reason = "quantized 16-bit results are more precise than products of 16-bit rows";
        let (label, name) = (edit.graph.label(node).to_string(), edit.graph.op(node).name());
        edit.graph.decide(Decision::new(label, Subject::Weights, name, "dense", reason));
    }
    fine
}

/// Integers and their scale.
struct Fit {
    scale: f32,
    numbers: Vec<i32>,
}

impl Fit {
    /// Integers whose differences are at most [`MAX_SPAN`] and a scale that give the values, if they exist.
    fn of(values: &[f32]) -> Option<Fit> {
        let magnitudes = values.iter().map(|v| f64::from(v.abs())).filter(|&v| v != 0.0);
        let (least, most) = magnitudes.fold((f64::INFINITY, 0.0f64), |(l, m), v| (l.min(v), m.max(v)));
        if values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        if most == 0.0 {
            return Some(Fit { scale: 1.0, numbers: vec![0; values.len()] });
        }
        // The least value is some multiple of the scale.
        let bound = (f64::from(MAX_SPAN) * (1.0 + MAX_RELATIVE_ERROR) * least / most) as i32;
        let multiple = (1..=bound).find(|&m| {
            let scale = least / f64::from(m);
            values.iter().all(|&v| {
                let ratio = f64::from(v) / scale;
                (ratio - ratio.round()).abs() <= MAX_RELATIVE_ERROR * ratio.abs()
            })
        })?;
        let mut scale = least / f64::from(multiple);
        // Signed integers reach further below zero than above.
        if values.iter().fold(0.0f32, |sum, &v| if v.abs() > sum.abs() { v } else { sum }) > 0.0 {
            scale = -scale;
        }
        let numbers: Vec<i32> = values.iter().map(|&v| (f64::from(v) / scale).round() as i32).collect();
        let (low, high) = range(&numbers);
        (high - low <= MAX_SPAN).then(|| Fit { scale: exact_scale(values, &numbers), numbers })
    }

    /// Number of bits for the differences of the integers; they are bytes if fewer than 8 bits suffice.
    fn bits(&self) -> u32 {
        let (low, high) = range(&self.numbers);
        // Zero points are bytes then, too.
        let small = low >= -100 && high <= 100;
        [2, 4].into_iter().find(|bits| small && high - low < 1 << bits).unwrap_or(8)
    }

    /// The number to subtract from codes of `bits` bits, which are stored minus their middle.
    fn zero(&self, bits: u32) -> i32 {
        let ((low, high), middle) = (range(&self.numbers), 1 << (bits - 1));
        if low >= -middle && high < middle { 0 } else { -middle - low }
    }
}

fn range(numbers: &[i32]) -> (i32, i32) {
    numbers.iter().fold((i32::MAX, i32::MIN), |(low, high), &n| (low.min(n), high.max(n)))
}

/// The scale whose products with the integers equal the most values exactly.
fn exact_scale(values: &[f32], numbers: &[i32]) -> f32 {
    let pairs = || values.iter().zip(numbers).filter(|p| *p.1 != 0);
    let Some((&v, &n)) = pairs().max_by_key(|p| p.1.abs()) else { return 1.0 };
    let near = v / n as f32;
    let candidates = (-2..=2).map(|ulps| f32::from_bits((near.to_bits() as i32 + ulps) as u32));
    let matches = |scale: f32| pairs().filter(|&(&v, &n)| n as f32 * scale == v).count();
    candidates.max_by_key(|&scale| (matches(scale), scale == near)).unwrap_or(near)
}

/// Weights as codes.
struct Form {
    coded: LowBit,
    depth: usize,
    columns: Vec<Column>,
    table: Option<Vec<f32>>,
    zeros: f64,
}

impl Form {
    /// The weights `[depth, out]` as codes, if possible; `at` is the position of a column's element.
    fn of(
        w: &Tensor,
        [depth, out]: [usize; 2],
        at: impl Fn(usize, usize) -> usize,
        config: &Config,
    ) -> Result<Option<Form>> {
        if depth < MIN_DEPTH || out < MIN_COLUMNS || depth * out < MIN_WEIGHTS {
            return Ok(None);
        }
        let Some(values) = w.to_f32s() else { return Ok(None) };
        let column = |c: usize| -> Vec<f32> { (0..depth).map(|element| values[at(element, c)]).collect() };
        let zeros = values.iter().filter(|&&v| v == 0.0).count() as f64 / values.len() as f64;
        let form = |(coded, columns, table)| Form { coded, depth, columns, table, zeros };
        let found = affine(depth, out, &column).or_else(|| {
            // Longer tables are looked up in memory, which takes longer than reading weights.
            let most = if config.compact { 256 } else { LowBit::SHORT_TABLE };
            codebook::encode(&values, out, &column, most).map(|(coded, columns, table)| (coded, columns, Some(table)))
        });
        Ok(found.map(form))
    }

    /// Name of the form.
    fn name(&self) -> String {
        let bits = self.coded.bits;
        if let Some(table) = &self.table {
            let scale = match self.coded.block < self.depth {
                true => format!(" times a scale per block of {}", self.coded.block),
                false if self.columns.iter().any(|c| c.scales != [1.0]) => " times a scale per column".to_string(),
                false => String::new(),
            };
            return format!("codebook of {}{scale}, {bits} bits", table.len());
        }
        let zero = if self.columns.iter().any(|c| !c.zeros.is_empty()) { " with zero points" } else { "" };
        match self.coded.block < self.depth {
            true => format!("int{bits} in blocks of {}{zero}", self.coded.block),
            false => format!("int{bits} per column{zero}"),
        }
    }

    /// The constants that hold the codes.
    fn stored(&self, graph: &mut Graph, config: &Config) -> Result<Stored> {
        let mut packed = self.coded.pack(&self.columns, PANEL_COLUMNS as usize)?;
        let scales = packed[1].to_f64s();
        let halves = Tensor::from_f64s(DType::F16, packed[1].shape().to_vec(), &scales)?;
        // Kernels do not support subnormal numbers.
        let normal = scales.iter().all(|v| *v == 0.0 || (2f64.powi(-14)..65504.0).contains(&v.abs()));
        let (exact, wanted) = (scales == halves.to_f64s(), config.weights == WeightFloats::F16);
        if config.target.has_halves() && normal && (exact || wanted) {
            packed[1] = halves;
        }
        let rounded = if exact || packed[1].dtype() != DType::F16 { "" } else { "; scales are rounded to f16" };
        let bytes: usize = packed.iter().map(|t| t.data().len()).sum();
        let mut operands: Vec<Value> = packed.into_iter().map(|t| graph.constant(t)).collect();
        if let Some(table) = &self.table {
            let mut data: Vec<u8> = table.iter().flat_map(|v| v.to_le_bytes()).collect();
            let size = self.coded.table_size();
            data.resize(4 * size, 0);
            let table = Tensor::new(DType::F32, vec![size], Bytes::from(data))?;
            operands.push(graph.constant(table));
        }
        let dense = 4 * self.depth * self.columns.len();
        Ok(Stored { operands, reason: format!("{bytes} bytes instead of {dense}{rounded}") })
    }

    /// The operation on the codes.
    fn apply(&self, edit: &mut Edit, node: NodeId, x: Value, op: Op, gain: f64, config: &Config) -> Result<Value> {
        let Stored { operands, reason } = self.stored(edit.graph, config)?;
        let operands = [&[x], operands.as_slice()].concat();
        let (label, name) = (edit.graph.label(node).to_string(), edit.graph.op(node).name());
        let filtered =
            if matches!(op.weights(), Some(WeightFormat::Filtered { .. })) { " by minimal filtering" } else { "" };
        let decision = Decision::new(label, Subject::Weights, name, self.name() + filtered, reason);
        edit.graph.decide(decision.zeros(self.zeros).gain(gain));
        edit.add(op, &operands)
    }

    /// The speed-up of a convolution or product with the codes over its dense form.
    fn gain(&self, edit: &Edit, node: NodeId, spec: &ConvSpec, kernel: &[i64], target: &Target) -> f64 {
        let rows = edit.graph.types(node)[0].shape.split_last().map(|(_, rows)| rows.iter().product::<Dim>());
        let point = kernel.iter().all(|&k| k == 1) && spec.strides.iter().all(|&s| s == 1);
        if point && target.has_byte_dot() && self.table.is_none() {
            schedule::lowbit::int8_split_gain(self.coded.block.min(self.depth))
        } else {
            schedule::lowbit::decoded_gain(rows.and_then(|r| r.as_const()))
        }
    }
}

/// Constants, and what they save.
struct Stored {
    operands: Vec<Value>,
    reason: String,
}

type Found = (LowBit, Vec<Column>, Option<Vec<f32>>);

/// Columns whose blocks are integers times a scale each.
fn affine(depth: usize, out: usize, column: &dyn Fn(usize) -> Vec<f32>) -> Option<Found> {
    let whole = depth.next_multiple_of(16);
    let first = column(0);
    let blocks = std::iter::once(whole).chain(BLOCK_SIZES.into_iter().filter(|&b| b < depth));
    blocks.into_iter().find_map(|block| {
        let fits = |values: &[f32]| values.chunks(block).map(Fit::of).collect::<Option<Vec<Fit>>>();
        fits(&first)?;
        let columns = (0..out).map(|c| fits(&column(c))).collect::<Option<Vec<_>>>()?;
        let bits = columns.iter().flatten().map(Fit::bits).max()?;
        let columns = columns.iter().map(|fits| coded_column(fits, bits)).collect();
        Some((LowBit { bits, block }, columns, None))
    })
}

fn coded_column(fits: &[Fit], bits: u32) -> Column {
    let middle = 1 << (bits - 1);
    let zeros: Vec<i32> = fits.iter().map(|f| f.zero(bits)).collect();
    let code =
        |(fit, zero): (&Fit, &i32)| -> Vec<u8> { fit.numbers.iter().map(|n| (n + middle + zero) as u8).collect() };
    let some = zeros.iter().any(|&z| z != 0);
    Column {
        codes: fits.iter().zip(&zeros).flat_map(code).collect(),
        scales: fits.iter().map(|f| f.scale).collect(),
        zeros: if some { zeros } else { Vec::new() },
    }
}

/// Gathers rows of a table of integers times one scale, one per column or one per row.
fn gather(edit: &mut Edit, node: NodeId) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let (table, indices) = (edit.graph.as_constant(operands[0]), operands[1]);
    let Some(&[rows, columns]) = table.map(Tensor::shape) else { return Ok(None) };
    if rows * columns < MIN_WEIGHTS {
        return Ok(None);
    }
    let Some(values) = table.and_then(Tensor::to_f32s) else { return Ok(None) };
    let column = |c: usize| -> Vec<f32> { (0..rows).map(|r| values[r * columns + c]).collect() };
    let row = |r: usize| values[r * columns..][..columns].to_vec();
    let signed = |values: Vec<f32>| Fit::of(&values).filter(|f| f.zero(8) == 0);
    let all = |count: usize, of: &dyn Fn(usize) -> Vec<f32>| -> Option<Vec<Fit>> {
        signed(of(0))?;
        (0..count).map(|n| signed(of(n))).collect()
    };
    let (fits, by_row) = match (all(columns, &column), all(rows, &row)) {
        (Some(fits), _) => (fits, false),
        (None, Some(fits)) => (fits, true),
        (None, None) => return gather_entries(edit, node, &values),
    };
    let at = |r: usize, c: usize| if by_row { fits[r].numbers[c] } else { fits[c].numbers[r] };
    let small = columns.is_multiple_of(2) && fits.iter().all(|f| f.bits() <= 4 && f.zero(4) == 0);
    let (bits, middle) = if small { (4, 8) } else { (8, 0) };
    let codes: Vec<u8> = (0..rows * columns).map(|i| (at(i / columns, i % columns) + middle) as i8 as u8).collect();
    let one = fits.iter().all(|f| f.scale.to_bits() == fits[0].scale.to_bits());
    let scales: Vec<f64> = fits.iter().take(if one { 1 } else { fits.len() }).map(|f| f64::from(f.scale)).collect();
    let shape = match (one, by_row) {
        (true, _) => Vec::new(),
        (false, true) => vec![rows, 1],
        (false, false) => vec![columns],
    };
    let scales = edit.graph.constant(Tensor::from_f64s(DType::F32, shape, &scales)?);
    let scales = match one || !by_row {
        true => scales,
        false => edit.add(Op::Gather { axis: 0 }, &[scales, indices])?,
    };
    let label = edit.graph.label(node).to_string();
    let bytes = format!("{} bytes instead of {}", rows * columns * bits / 8, 4 * rows * columns);
    let form = format!("int{bits} per {}", if by_row { "row" } else { "column" });
    edit.graph.decide(Decision::new(label, Subject::Weights, "gather", form, bytes));
    let mut taken = if small {
        gathered_nibbles(edit, &codes, columns, indices)?
    } else {
        let codes = edit.graph.constant(Tensor::new(DType::I8, vec![rows, columns], Bytes::from(codes))?);
        edit.add(Op::Gather { axis: 0 }, &[codes, indices])?
    };
    taken = edit.add(Op::Cast { to: DType::F32, saturate: true }, &[taken])?;
    if small {
        let middle = edit.scalar(DType::F32, f64::from(middle));
        taken = edit.add(Op::Binary(BinaryOp::Sub), &[taken, middle])?;
    }
    edit.add(Op::Binary(BinaryOp::Mul), &[taken, scales]).map(Some)
}

/// Gathers rows of codes below 16, two per byte: one of the first half of the columns in the low bits, one of the
/// second half in the high bits.
fn gathered_nibbles(edit: &mut Edit, codes: &[u8], columns: usize, indices: Value) -> Result<Value> {
    let half = columns / 2;
    let packed: Vec<u8> =
        codes.chunks_exact(columns).flat_map(|row| (0..half).map(|c| row[c] | row[half + c] << 4)).collect();
    let packed = Tensor::new(DType::U8, vec![codes.len() / columns, half], Bytes::from(packed))?;
    let packed = edit.graph.constant(packed);
    let taken = edit.add(Op::Gather { axis: 0 }, &[packed, indices])?;
    let (mask, bits) = (edit.scalar(DType::U8, 15.0), edit.scalar(DType::U8, 4.0));
    let low = edit.add(Op::Binary(BinaryOp::And), &[taken, mask])?;
    let high = edit.add(Op::Binary(BinaryOp::ShiftRight), &[taken, bits])?;
    let axis = edit.shape(taken).len() - 1;
    edit.add(Op::Concat { axis }, &[low, high])
}

/// Gathers rows of a table with few distinct values.
fn gather_entries(edit: &mut Edit, node: NodeId, values: &[f32]) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let columns = edit.shape(operands[0])[1].as_const().and_then(|c| usize::try_from(c).ok()).unwrap_or(0);
    if columns == 0 || !columns.is_multiple_of(2) {
        return Ok(None);
    }
    let column = |c: usize| -> Vec<f32> { values.iter().skip(c).step_by(columns).copied().collect() };
    let found = codebook::encode(values, columns, &column, LowBit::SHORT_TABLE);
    let Some((_, coded, table)) = found.filter(|(_, coded, _)| coded.iter().all(|c| c.scales == [1.0])) else {
        return Ok(None);
    };
    let code = |i: usize| coded[i % columns].codes[i / columns];
    let codes: Vec<u8> = (0..values.len()).map(code).collect();
    let label = edit.graph.label(node).to_string();
    let form = format!("codebook of {}, 4 bits", table.len());
    let bytes = format!("{} bytes instead of {}", values.len() / 2, 4 * values.len());
    edit.graph.decide(Decision::new(label, Subject::Weights, "gather", form, bytes));
    let table: Vec<f64> = table.iter().map(|&v| f64::from(v)).collect();
    let table = edit.graph.constant(Tensor::from_f64s(DType::F32, vec![table.len()], &table)?);
    let taken = gathered_nibbles(edit, &codes, columns, operands[1])?;
    let taken = edit.add(Op::Cast { to: DType::I32, saturate: true }, &[taken])?;
    edit.add(Op::Gather { axis: 0 }, &[table, taken]).map(Some)
}
