//! Data movement between dequantizing and quantizing moves the bytes.
//!
//! A pair of dequantizing and quantizing with the same scale and zero point is removed. Around concatenations and
//! reshapes, whose operands may have different ones, quantizing moves up to each operand. The results are the same.

use mcc_targets::Config;

use crate::support::edit::{Edit, rewrite};
use mcc_ir::Result;
use mcc_ir::{
    BinaryOp, CoordinateMode, DType, Graph, NodeId, Op, PadMode, PoolKind, ResizeRule, SampleMode, Tensor, UnaryOp,
    Value,
};

/// Maximum number of data movements that a quantization moves past.
const MAX_MOVES: usize = 8;

/// Moves quantizations up to the source of the codes.
///
/// # Errors
/// When the graph contradicts itself.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    rewrite(graph, |edit, node| {
        let Some(quantization) = Quantization::of(edit.graph, node) else { return Ok(None) };
        let x = quantization.x;
        // Directly after dequantizing, the pair is removed only if scale and zero point are equal.
        let exact = Dequantized::of(edit.graph, x).is_some();
        if !climbs(edit, x, &quantization, exact, MAX_MOVES) {
            return Ok(None);
        }
        moved(edit, x, &quantization).map(Some)
    })
}

/// A single scale and zero point for bytes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Parameters {
    pub(crate) scale: f64,
    pub(crate) zero: f64,
    dtype: DType,
}

/// `cast(min(max(round(x / scale) + zero, low), high))`.
pub(crate) struct Quantization {
    pub(crate) x: Value,
    /// The operations after `x`, in order, with their other operands.
    chain: Vec<(Op, Option<Value>)>,
    parameters: Parameters,
}

/// `(cast(codes) - zero) * scale`; a zero point of 0 and a scale of 1 may be omitted.
pub(crate) struct Dequantized {
    pub(crate) codes: Value,
    pub(crate) parameters: Parameters,
}

/// The operands of an operation with two operands.
fn operands_of(graph: &Graph, v: Value, op: BinaryOp) -> Option<(Value, Value)> {
    let found = matches!(graph.op(v.node), Op::Binary(b) if *b == op);
    let operands = graph.operands(v.node);
    found.then(|| (operands[0], operands[1]))
}

/// The value of a constant with one element, possibly after casts and reshapes.
pub(crate) fn number(graph: &Graph, mut v: Value) -> Option<f64> {
    while let Op::Cast { .. } | Op::Reshape { .. } = graph.op(v.node) {
        v = graph.operand(v.node, 0)?;
    }
    graph.as_constant(v).and_then(Tensor::splat_value).filter(|_| graph.ty(v).numel().is(1)).map(|t| t.f64_at(0))
}

impl Quantization {
    pub(crate) fn of(graph: &Graph, node: NodeId) -> Option<Quantization> {
        let Op::Cast { to, .. } = graph.op(node) else { return None };
        let (low, high) = match to {
            DType::U8 => (0.0, 255.0),
            DType::I8 => (-128.0, 127.0),
            _ => return None,
        };
        let bounded = |v: Value, op: BinaryOp, bound: f64| {
            let (x, c) = operands_of(graph, v, op)?;
            (number(graph, c) == Some(bound)).then_some((x, c))
        };
        let mut chain = vec![(graph.op(node).clone(), None)];
        let (v, c) = bounded(*graph.operands(node).first()?, BinaryOp::Min, high)?;
        chain.push((Op::Binary(BinaryOp::Min), Some(c)));
        let (v, c) = bounded(v, BinaryOp::Max, low)?;
        chain.push((Op::Binary(BinaryOp::Max), Some(c)));
        let (rounded, zero) = match operands_of(graph, v, BinaryOp::Add) {
            Some((rounded, zero)) => {
                chain.push((Op::Binary(BinaryOp::Add), Some(zero)));
                (rounded, number(graph, zero)?)
            }
            None => (v, 0.0),
        };
        let Op::Unary(UnaryOp::Round) = graph.op(rounded.node) else { return None };
        chain.push((Op::Unary(UnaryOp::Round), None));
        let (x, scale) = operands_of(graph, graph.operand(rounded.node, 0)?, BinaryOp::Div)?;
        chain.push((Op::Binary(BinaryOp::Div), Some(scale)));
        chain.reverse();
        let parameters = Parameters { scale: number(graph, scale)?, zero, dtype: *to };
        (graph.ty(x).dtype == DType::F32).then_some(Quantization { x, chain, parameters })
    }

    /// The same codes in another type, with `shift` added.
    pub(crate) fn again_as(&self, edit: &mut Edit, dtype: DType, shift: f64) -> Result<Value> {
        let zero = self.parameters.zero + shift;
        let (low, high) = if dtype == DType::U8 { (0.0, 255.0) } else { (-128.0, 127.0) };
        let mut x = self.x;
        // The division and the rounding.
        for (op, other) in &self.chain[..2] {
            let operands: Vec<Value> = std::iter::once(x).chain(*other).collect();
            x = edit.add(op.clone(), &operands)?;
        }
        for (op, number) in [(BinaryOp::Add, zero), (BinaryOp::Max, low), (BinaryOp::Min, high)] {
            if (op, number) != (BinaryOp::Add, 0.0) {
                let number = edit.scalar(DType::F32, number);
                x = edit.add(Op::Binary(op), &[x, number])?;
            }
        }
        edit.add(Op::Cast { to: dtype, saturate: true }, &[x])
    }

    /// Another value, quantized the same way.
    fn again(&self, edit: &mut Edit, mut x: Value) -> Result<Value> {
        for (op, other) in &self.chain {
            let operands: Vec<Value> = std::iter::once(x).chain(*other).collect();
            x = edit.add(op.clone(), &operands)?;
        }
        Ok(x)
    }
}

impl Dequantized {
    pub(crate) fn of(graph: &Graph, v: Value) -> Option<Dequantized> {
        let (shifted, scale) = match operands_of(graph, v, BinaryOp::Mul) {
            Some((shifted, scale)) => (shifted, number(graph, scale)?),
            None => (v, 1.0),
        };
        let subtracted = operands_of(graph, shifted, BinaryOp::Sub);
        let (wide, zero) = match (subtracted, operands_of(graph, shifted, BinaryOp::Add)) {
            (Some((wide, zero)), _) => (wide, number(graph, zero)?),
            (None, Some((wide, less))) => (wide, -number(graph, less)?),
            (None, None) => (shifted, 0.0),
        };
        let Op::Cast { to: DType::F32, .. } = graph.op(wide.node) else { return None };
        let codes = graph.operand(wide.node, 0)?;
        let dtype = graph.ty(codes).dtype;
        let same = graph.ty(codes).shape == graph.ty(v).shape && matches!(dtype, DType::U8 | DType::I8);
        let parameters = Parameters { scale, zero, dtype };
        same.then_some(Dequantized { codes, parameters })
    }
}

/// Whether `v` is made from codes by data movement only; `exact`: codes with the same scale and zero point.
fn climbs(edit: &Edit, v: Value, q: &Quantization, exact: bool, depth: usize) -> bool {
    if let Some(code) = Dequantized::of(edit.graph, v) {
        return !exact || code.parameters == q.parameters;
    }
    if depth == 0 || !edit.used_once(v) {
        return false;
    }
    let operands = edit.graph.operands(v.node);
    let all = |values: &[Value], exact: bool| values.iter().all(|&v| climbs(edit, v, q, exact, depth - 1));
    match edit.graph.op(v.node) {
        Op::Reshape { .. } | Op::Transpose { .. } => all(&operands, exact),
        Op::Concat { .. } => all(&operands, exact),
        Op::Select => all(&operands[1..], exact) && operands[1..].iter().all(|&o| edit.shape(o) == edit.shape(v)),
        // Others move fewer or more elements than there are, or the largest.
        Op::Slice { .. } | Op::Gather { .. } | Op::Broadcast { .. } => all(&operands[..1], true),
        Op::Pad { mode: PadMode::Constant, .. } => {
            operands.get(1).and_then(|&c| number(edit.graph, c)) == Some(0.0) && all(&operands[..1], exact)
        }
        Op::Pool(spec) => spec.kind == PoolKind::Max && q.parameters.scale > 0.0 && all(&operands[..1], true),
        Op::Resize { rule, .. } => nearest(rule) && all(&operands[..1], true),
        _ => false,
    }
}

/// Whether a resize only repeats or drops elements.
fn nearest(rule: &ResizeRule) -> bool {
    rule.mode == SampleMode::Nearest && rule.coordinates != CoordinateMode::TfCropAndResize
}

/// The codes of `v`, for which [`climbs`] must hold.
fn moved(edit: &mut Edit, v: Value, q: &Quantization) -> Result<Value> {
    if let Some(code) = Dequantized::of(edit.graph, v) {
        return if code.parameters == q.parameters { Ok(code.codes) } else { q.again(edit, v) };
    }
    let op = edit.graph.op(v.node).clone();
    let mut operands = edit.graph.operands(v.node);
    let data = match &op {
        Op::Concat { .. } => 0..operands.len(),
        Op::Select => 1..3,
        _ => 0..1,
    };
    for operand in &mut operands[data] {
        *operand = moved(edit, *operand, q)?;
    }
    if let Op::Pad { .. } = op {
        operands[1] = edit.scalar(q.parameters.dtype, q.parameters.zero);
    }
    edit.add(op, &operands)
}
