//! Turns products of dequantized operands into products of their integers, scaled afterwards.
//!
//! Quantization tools write `(x - zx) * sx` and `(w - zw) * sw` in `f32` before each product or convolution. With one
//! scale for the data, and one, or one per column, for the weights, the scales can be moved out of the sum: `sx * sw *
//! sum((x - zx) * (w - zw))`, where the sum is one of integers and exact. The result differs from that of `f32`
//! arithmetic by rounding only. 16-bit data is split into two bytes, `256 * h + l`, and takes two products, unless
//! minimal filtering is faster.

use mcc_targets::choices::Problem;
use mcc_targets::schedule::filtering::{FilterStorage, Windows};
use mcc_targets::{Arch, Config, schedule};

use super::int8_contractions::is_depthwise;
use crate::layout::conv_phases;
use crate::pack::winograd;
use crate::support::edit::{Edit, rewrite};
use mcc_ir::Result;
use mcc_ir::{BinaryOp, DType, Decision, Dim, Graph, NodeId, Op, Subject, Tensor, Value};

/// Moves scales out of sums, if the target has byte products.
///
/// # Errors
/// When the graph contradicts itself.
pub(crate) fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    if !schedule::int8::multiplies_int8(&config.target) {
        for node in graph.topological() {
            let quantized = matches!(graph.op(node), Op::MatMul | Op::Conv(_) | Op::ConvTranspose { .. })
                && graph.operands(node)[..2].iter().all(|&v| Dequantized::of(graph, v).is_some());
            if quantized {
                stays_float(graph, node, super::WITHOUT_BYTE_PRODUCTS);
            }
        }
        return Ok(false);
    }
    rewrite(graph, |edit, node| {
        let op = edit.graph.op(node).clone();
        let operands = edit.graph.operands(node);
        // The axis of the weights' columns, unless they are a matrix.
        let axis = match &op {
            Op::MatMul => None,
            Op::Conv(_) => Some(0),
            Op::ConvTranspose { .. } => Some(1),
            _ => return Ok(None),
        };
        let rank = edit.graph.ty(node.into()).rank();
        let weights = Dequantized::of(edit.graph, operands[1]).filter(|w| !is_word(edit.dtype(w.codes)));
        let parts = (Dequantized::of(edit.graph, operands[0]), weights);
        let (x, w) = match parts {
            (Some(x), Some(w)) => (x, w),
            (None, None) => return Ok(None),
            (None, Some(_)) => {
                stays_float(edit.graph, node, "the data is not quantized to bytes");
                return Ok(None);
            }
            (Some(_), None) => {
                stays_float(edit.graph, node, "the weights are not quantized to bytes");
                return Ok(None);
            }
        };
        let one = |v: Value| edit.graph.ty(v).numel().is(1);
        let columns = axis.unwrap_or(edit.graph.ty(operands[1]).rank().saturating_sub(1));
        let refusal = if !one(x.scale) || !x.zero.is_none_or(one) {
            Some("the data has several scales or zero points, which cannot be moved out of the sum")
        } else if edit.graph.as_constant(w.codes).is_none() || edit.graph.ty(operands[1]).rank() < 2 {
            Some("the weights are not a constant matrix")
        } else if !along(&edit.shape(w.scale), w.rank, columns, &w.moves) {
            Some("the weights' scales run along a summed axis, and cannot be moved out of the sum")
        } else if is_word(edit.dtype(x.codes)) && !config.target.has_byte_dot() {
            Some("16-bit data would need two byte products: without an instruction for them, floats are faster")
        } else if is_word(edit.dtype(x.codes)) && x.zero.is_some_and(|z| edit.graph.as_constant(z).is_none()) {
            Some("16-bit data has a zero point that is not constant")
        } else {
            unfit(edit.graph, node, config, is_word(edit.dtype(x.codes)))
        };
        if let Some(why) = refusal {
            stays_float(edit.graph, node, why);
            return Ok(None);
        }
        let right = w.centred(edit)?;
        let sum_of = |edit: &mut Edit, left: Value| {
            let sum = edit.add(op.clone(), &[left, right])?;
            edit.add(Op::Cast { to: DType::F32, saturate: true }, &[sum])
        };
        let sum = if is_word(edit.dtype(x.codes)) {
            let [high, low] = x.centred_bytes(edit)?;
            let (high, low) = (sum_of(edit, high)?, sum_of(edit, low)?);
            let weight = edit.scalar(DType::F32, 256.0);
            let high = edit.add(Op::Binary(BinaryOp::Mul), &[high, weight])?;
            edit.add(Op::Binary(BinaryOp::Add), &[high, low])?
        } else {
            let left = x.centred(edit)?;
            sum_of(edit, left)?
        };
        let groups = if let Op::ConvTranspose { spec, .. } = &op { spec.group } else { 1 };
        let w_scale = per_column(edit, w.scale, rank, axis.is_some(), groups)?;
        let x_scale = edit.reshape(x.scale, Vec::new())?;
        let scale = edit.add(Op::Binary(BinaryOp::Mul), &[w_scale, x_scale])?;
        let mut result = edit.add(Op::Binary(BinaryOp::Mul), &[sum, scale])?;
        if let Some(&bias) = operands.get(2) {
            let bias = per_column(edit, bias, rank, true, 1)?;
            let bias = edit.cast(bias, DType::F32)?;
            result = edit.add(Op::Binary(BinaryOp::Add), &[result, bias])?;
        }
        let to = edit.dtype(node.into());
        edit.cast(result, to).map(Some)
    })
}

/// The reason why floats are better for a layer, whatever its scales; its data may be two bytes.
fn unfit(graph: &Graph, node: NodeId, config: &Config, words: bool) -> Option<&'static str> {
    let shape = &graph.ty(graph.operand(node, 1)?).shape;
    let narrow = |extent: &Dim| extent.as_const().is_none_or(|c| c < schedule::int8::MIN_EXTENT as i64);
    match graph.op(node) {
        Op::Conv(spec) => {
            let extents: Option<Vec<i64>> = shape.iter().map(Dim::as_const).collect();
            let depthwise = match extents.as_deref() {
                // Elsewhere interleaving the bytes of four rows costs what the products save.
                Some([out, channels, kernel @ ..])
                    if config.target.arch == Arch::X86_64 && config.target.has_byte_dot() =>
                {
                    is_depthwise(spec, *channels as usize, *out as usize, kernel)
                }
                _ => false,
            };
            let columns = shape[0].floor_div(&Dim::from(spec.group));
            let empty = spec.group > 1 && !depthwise && (narrow(&shape[1]) || narrow(&columns));
            if empty {
                return Some("groups of few channels leave most of a step of four bytes empty");
            }
            let w = graph.ty(graph.operand(node, 1)?).fixed_shape();
            let windows = w.and_then(|w| winograd::windows(graph, node, &w));
            let rather = |w: &Windows| match words {
                true => schedule::filtering::tile(config, Problem::default(), w, FilterStorage::Transformed).is_some(),
                false => schedule::filtering::beats_int8(config, w),
            };
            let filtered = !config.compact && windows.is_some_and(|w| rather(&w));
            filtered.then_some("minimal filtering of floats is faster than byte products")
        }
        Op::ConvTranspose { spec, .. } => {
            let channels = shape[0].floor_div(&Dim::from(spec.group));
            if narrow(&channels) || spec.group > 1 && narrow(&shape[1]) {
                return Some("few channels leave most of a step of four bytes empty");
            }
            if !config.target.has_byte_dot() {
                return Some("without an instruction for byte products, phases of floats are faster");
            }
            (!conv_phases::fits(graph, node, spec))
                .then_some("windows of this dilation or padding cannot be turned into convolutions")
        }
        _ => None,
    }
}

/// Records that a layer with quantized operands computes in floats.
fn stays_float(graph: &mut Graph, node: NodeId, why: &str) {
    let (layer, operator) = (graph.label(node).to_string(), graph.op(node).name());
    let form = graph.ty(node.into()).dtype.to_string();
    graph.decide(Decision::new(layer, Subject::Precision, operator, form, why));
}

/// Whether codes have two bytes.
fn is_word(dtype: DType) -> bool {
    matches!(dtype, DType::U16 | DType::I16)
}

/// Codes of at most 16 bits, with the number subtracted from them and the scale.
struct Dequantized {
    codes: Value,
    zero: Option<Value>,
    scale: Value,
    rank: usize,
    /// Transposes and reshapes after the multiplication, the last one first.
    moves: Vec<Move>,
}

/// A transpose or reshape.
struct Move {
    op: Op,
    /// The operand's shape.
    from: Vec<Dim>,
}

impl Move {
    /// The operand's axis that becomes an axis of the result.
    fn source(&self, axis: usize) -> Option<usize> {
        match &self.op {
            Op::Transpose { perm } => perm.get(axis).copied(),
            Op::Reshape { shape } => {
                let ahead = |shape: &[Dim]| shape.iter().product::<Dim>();
                let same = |&i: &usize| self.from[i] == shape[axis] && ahead(&self.from[..i]) == ahead(&shape[..axis]);
                (0..self.from.len()).find(same)
            }
            _ => None,
        }
    }
}

impl Dequantized {
    fn of(graph: &Graph, v: Value) -> Option<Dequantized> {
        let operands = graph.operands(v.node);
        match graph.op(v.node) {
            op @ (Op::Transpose { .. } | Op::Reshape { .. }) => {
                let mut inner = Self::of(graph, operands[0])?;
                inner.moves.insert(0, Move { op: op.clone(), from: graph.ty(operands[0]).shape.clone() });
                Some(inner)
            }
            // Layers in 16-bit floats: sums of integers need not be rounded to them first.
            Op::Cast { to: DType::F16 | DType::BF16, .. } => Self::of(graph, operands[0]),
            Op::Binary(BinaryOp::Mul) if graph.ty(v).dtype == DType::F32 => {
                let (difference, scale) = (operands[0], operands[1]);
                let (codes, zero) = match graph.op(difference.node) {
                    Op::Binary(BinaryOp::Sub) => {
                        let parts = graph.operands(difference.node);
                        (parts[0], Some(cast_from_code(graph, parts[1])?))
                    }
                    _ => (difference, None),
                };
                let codes = cast_from_code(graph, codes)?;
                let same = graph.ty(codes).shape == graph.ty(v).shape;
                let rank = graph.ty(v).rank();
                same.then_some(Dequantized { codes, zero, scale, rank, moves: Vec::new() })
            }
            _ => None,
        }
    }

    /// The codes minus the zero point, as `i32`.
    fn centred(&self, edit: &mut Edit) -> Result<Value> {
        let wide = |edit: &mut Edit, v: Value| edit.add(Op::Cast { to: DType::I32, saturate: true }, &[v]);
        let mut v = wide(edit, self.codes)?;
        if let Some(zero) = self.zero {
            let zero = wide(edit, zero)?;
            v = edit.add(Op::Binary(BinaryOp::Sub), &[v, zero])?;
        }
        self.moved(edit, v)
    }

    /// The same for codes of two bytes as two values: the high bytes minus that of the zero point, and the low bytes.
    fn centred_bytes(&self, edit: &mut Edit) -> Result<[Value; 2]> {
        let wide = |edit: &mut Edit, v: Value| edit.add(Op::Cast { to: DType::I32, saturate: true }, &[v]);
        let number = |edit: &mut Edit, c: i64| edit.graph.constant(Tensor::scalar_i64(DType::I32, c));
        let mut codes = wide(edit, self.codes)?;
        let mut zero = match self.zero {
            Some(zero) => wide(edit, zero)?,
            None => number(edit, 0),
        };
        if edit.dtype(self.codes) == DType::I16 {
            let shift = number(edit, 1 << 15);
            codes = edit.add(Op::Binary(BinaryOp::Add), &[codes, shift])?;
            zero = edit.add(Op::Binary(BinaryOp::Add), &[zero, shift])?;
        }
        let mut byte = |op: BinaryOp, by: i64| -> Result<Value> {
            let by = number(edit, by);
            let part = edit.add(Op::Binary(op), &[codes, by])?;
            let part = edit.add(Op::Cast { to: DType::U8, saturate: true }, &[part])?;
            let part = edit.add(Op::Cast { to: DType::I32, saturate: true }, &[part])?;
            let zero = edit.add(Op::Binary(op), &[zero, by])?;
            let part = edit.add(Op::Binary(BinaryOp::Sub), &[part, zero])?;
            self.moved(edit, part)
        };
        Ok([byte(BinaryOp::ShiftRight, 8)?, byte(BinaryOp::And, 255)?])
    }

    fn moved(&self, edit: &mut Edit, mut v: Value) -> Result<Value> {
        for step in self.moves.iter().rev() {
            v = edit.add(step.op.clone(), &[v])?;
        }
        Ok(v)
    }
}

/// The operand of a cast, if it is one or two bytes, or a constant with fewer bits.
fn cast_from_code(graph: &Graph, v: Value) -> Option<Value> {
    let inner = graph.operand(v.node, 0)?;
    let dtype = graph.ty(inner).dtype;
    let few = dtype.bits() < 8 && !dtype.is_float() && graph.as_constant(inner).is_some();
    let code = matches!(dtype, DType::U8 | DType::I8) || is_word(dtype) || few;
    (matches!(graph.op(v.node), Op::Cast { .. }) && code).then_some(inner)
}

/// Whether a scale of this shape is one number, or one per element of an axis that moves take to axis `columns` of the
/// product's operand; the scaled tensor has `rank` axes.
fn along(scale: &[Dim], rank: usize, columns: usize, moves: &[Move]) -> bool {
    let from = moves.iter().try_fold(columns, |axis, step| step.source(axis));
    // Missing axes are leading ones.
    let missing = rank - scale.len().min(rank);
    scale.iter().enumerate().all(|(axis, extent)| extent.is(1) || Some(axis + missing) == from)
}

/// One number, or one per column, shaped for a result of `rank` axes: after the first axis for a convolution, else
/// last. Numbers of one group are repeated for all `groups`.
fn per_column(edit: &mut Edit, mut v: Value, rank: usize, conv: bool, groups: usize) -> Result<Value> {
    let mut count = edit.graph.ty(v).numel();
    if count.is(1) {
        return edit.reshape(v, Vec::new());
    }
    if groups > 1 {
        v = edit.reshape(v, vec![Dim::ONE, count.clone()])?;
        v = edit.broadcast(v, vec![Dim::from(groups), count.clone()])?;
        count = &count * &Dim::from(groups);
    }
    let behind = if conv { rank - 2 } else { 0 };
    edit.reshape(v, std::iter::once(count).chain(vec![Dim::ONE; behind]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcc_ir::text;

    /// The decisions for products whose operands have these scales.
    fn decided(x_scale: &str, w_scale: &str, cpu: &str) -> Vec<(String, String)> {
        let text = format!(
            "%0 = input \"x\" : u8[2, 4]\n%1 = cast(%0) {{to=f32, saturate=true}} : f32[2, 4]\n{x_scale}\n%3 = mul(%1, %2) : f32[2, 4]\n\
             %4 = constant [1, 2, 3, 4, 5, 6, 7, 8] : i8[4, 2]\n%5 = cast(%4) {{to=f32, saturate=true}} : f32[4, 2]\n{w_scale}\n\
             %7 = mul(%5, %6) : f32[4, 2]\n%8 = matmul(%3, %7) : f32[2, 2]  // layer\noutput \"y\" = %8\n"
        );
        let mut graph = text::parse(&text).unwrap();
        run(&mut graph, &Config::new("aarch64-unknown-linux-gnu", Some(cpu)).unwrap()).unwrap();
        graph.decisions().into_iter().map(|d| (d.form.clone(), d.reason.clone())).collect()
    }

    #[test]
    fn floats_are_explained() {
        let (one, many) = ("%2 = constant [0.5] : f32[]", "%2 = constant [0.5, 0.25] : f32[2, 1]");
        let (columns, rows) = ("%6 = constant [0.5, 0.1] : f32[2]", "%6 = constant [1.0, 2.0, 3.0, 4.0] : f32[4, 1]");
        let dot = "cortex-a76";
        assert_eq!(decided(one, columns, dot), []);
        for (x, w, cpu, why) in [
            (many, columns, dot, "several scales"),
            (one, rows, dot, "run along a summed axis"),
            (one, columns, "generic", "no byte products"),
        ] {
            let said = decided(x, w, cpu);
            assert!(said.len() == 1 && said[0].0 == "f32" && said[0].1.contains(why), "{said:?}");
        }
    }
}
