//! Makes codes of activations signed or unsigned, as the target's byte products need them.
//!
//! VNNI multiplies unsigned bytes by signed ones; x86-64 without it needs signed ones, as does Arm without `i8mm`. A
//! quantization to the other type, `q(x) = round(x / s) + z`, becomes one to this type with the zero point `z + 128` or
//! `z - 128`, so no shift is needed between it and the products. The results are the same.

use mcc_targets::{Config, schedule};

use super::int8_contractions::taken;
use super::qdq_propagation::{Quantization, number};
use crate::support::edit::{Edit, rewrite};
use mcc_ir::Result;
use mcc_ir::{BinaryOp, DType, Graph, Op, PadMode, PoolKind, Tensor, Value};

/// Shifts zero points.
///
/// # Errors
/// When the graph contradicts itself.
pub(crate) fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    let Some(wanted) = taken(&config.target).filter(|_| schedule::int8::multiplies_int8(&config.target)) else {
        return Ok(false);
    };
    let (from, shift) = if wanted == DType::U8 { (DType::I8, 128.0) } else { (DType::U8, -128.0) };
    let signs = Signs { from, wanted, shift };
    rewrite(graph, |edit, node| {
        let operands = edit.graph.operands(node);
        match edit.graph.op(node).clone() {
            Op::Cast { to, .. } if to == from => signs.quantization(edit, node.into()),
            Op::Cast { to, .. } if matches!(to, DType::F32 | DType::I32) => {
                match signs.shifted(edit.graph, operands[0]) {
                    Some(codes) => signs.number(edit, codes, to, shift).map(Some),
                    None => Ok(None),
                }
            }
            Op::Binary(BinaryOp::Sub) => signs.zero_point(edit, &operands),
            op => signs.moved(edit, op, &operands),
        }
    })
}

struct Signs {
    from: DType,
    wanted: DType,
    /// The number added to codes to get the wanted type.
    shift: f64,
}

impl Signs {
    /// A quantization to the other type.
    fn quantization(&self, edit: &mut Edit, v: Value) -> Result<Option<Value>> {
        let Some(q) = Quantization::of(edit.graph, v.node) else { return Ok(None) };
        if edit.graph.as_constant(q.x).is_some() || edit.graph.is_output(v) {
            return Ok(None);
        }
        let codes = q.again_as(edit, self.wanted, self.shift)?;
        self.back(edit, codes).map(Some)
    }

    /// Codes in their original type, for users that are not converted in turn.
    fn back(&self, edit: &mut Edit, codes: Value) -> Result<Value> {
        let less = self.number(edit, codes, DType::I32, self.shift)?;
        edit.graph.add(Op::Cast { to: self.from, saturate: true }, &[less])
    }

    /// The codes that [`back`](Signs::back) was given.
    fn shifted(&self, graph: &Graph, v: Value) -> Option<Value> {
        let Op::Cast { to, .. } = graph.op(v.node) else { return None };
        let (wide, zero) = self.difference(graph, graph.operand(v.node, 0)?)?;
        let codes = graph.operand(wide.node, 0)?;
        (*to == self.from && zero == self.shift && graph.ty(wide).dtype == DType::I32).then_some(codes)
    }

    /// Widened codes of the wanted type and the code subtracted from them.
    fn difference(&self, graph: &Graph, v: Value) -> Option<(Value, f64)> {
        let Op::Binary(BinaryOp::Sub) = graph.op(v.node) else { return None };
        let (wide, zero) = (graph.operand(v.node, 0)?, graph.operand(v.node, 1)?);
        let of = |v: Value| matches!(graph.op(v.node), Op::Cast { .. }).then(|| graph.operand(v.node, 0)).flatten();
        let codes = [of(wide)?, of(zero)?];
        codes.iter().all(|&c| graph.ty(c).dtype == self.wanted).then_some((wide, number(graph, zero)?))
    }

    /// Codes minus a zero point, in the form of dequantizing.
    fn number(&self, edit: &mut Edit, codes: Value, to: DType, zero: f64) -> Result<Value> {
        let wide = |edit: &mut Edit, v: Value| edit.graph.add(Op::Cast { to, saturate: true }, &[v]);
        let codes = wide(edit, codes)?;
        self.less(edit, codes, zero)
    }

    fn less(&self, edit: &mut Edit, wide: Value, zero: f64) -> Result<Value> {
        let to = edit.dtype(wide);
        let zero = edit.graph.constant(Tensor::scalar_f64(self.wanted, zero));
        let zero = edit.graph.add(Op::Cast { to, saturate: true }, &[zero])?;
        edit.graph.add(Op::Binary(BinaryOp::Sub), &[wide, zero])
    }

    /// A zero point of codes that were already shifted by one.
    fn zero_point(&self, edit: &mut Edit, operands: &[Value]) -> Result<Option<Value>> {
        let Some((wide, first)) = self.difference(edit.graph, operands[0]) else { return Ok(None) };
        let Some(zero) = number(edit.graph, operands[1]).map(|second| first + second) else { return Ok(None) };
        let (low, high) = if self.wanted == DType::U8 { (0.0, 255.0) } else { (-128.0, 127.0) };
        if zero.fract() != 0.0 || !(low..=high).contains(&zero) {
            return Ok(None);
        }
        self.less(edit, wide, zero).map(Some)
    }

    /// Moved data, shifted afterwards.
    fn moved(&self, edit: &mut Edit, op: Op, operands: &[Value]) -> Result<Option<Value>> {
        let data = match &op {
            Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } | Op::Broadcast { .. } | Op::Gather { .. } => {
                0..1
            }
            Op::Pad { mode: PadMode::Constant, .. } => 0..1,
            Op::Pool(spec) if spec.kind == PoolKind::Max => 0..1,
            Op::Concat { .. } => 0..operands.len(),
            Op::Select => 1..3,
            _ => return Ok(None),
        };
        let Some(codes) =
            operands[data.clone()].iter().map(|&v| self.shifted(edit.graph, v)).collect::<Option<Vec<_>>>()
        else {
            return Ok(None);
        };
        let mut operands = operands.to_vec();
        operands.splice(data, codes);
        if let Op::Pad { .. } = op {
            let Some(value) = number(edit.graph, operands[1]) else { return Ok(None) };
            operands[1] = edit.scalar(self.wanted, value + self.shift);
        }
        let moved = edit.add(op, &operands)?;
        self.back(edit, moved).map(Some)
    }
}
