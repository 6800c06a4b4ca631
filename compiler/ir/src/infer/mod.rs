//! Infers the result types of every primitive from its operands' types.
//!
//! Conditions on dimensions that are not certain - that `batch` and `n` are equal, that a window fits an image, that a
//! result's extent is not negative - are assumed and returned as [`Inferred::requires`]; conditions that cannot hold
//! are errors.

mod check;
mod movement;
mod packed;
mod region;
mod window;

use super::{
    BinaryOp, Cell, CellSpec, Condition, DType, Dim, Op, ReduceKind, Requirement, TensorType, TreeEdge, TreeEnsemble,
    UnaryOp,
};
use crate::{Error, Result};
use check::Checker;

/// The inferred properties of an operation's results.
#[derive(Debug)]
pub struct Inferred {
    /// Type of each result.
    pub types: Vec<TensorType>,
    /// Conditions on dimensions at run time: assumed here, checked by the compiled model.
    pub requires: Vec<Requirement>,
}

impl Inferred {
    /// Whether dimensions were assumed to be equal.
    pub fn equates(&self) -> bool {
        self.requires.iter().any(|r| matches!(r.condition, Condition::Equal(..)))
    }
}

/// The result types of `op` on operands of types `operands`.
///
/// # Errors
/// When the operands' number, element types or shapes contradict the operation; the message names the contradiction.
pub fn infer(op: &Op, operands: &[&TensorType]) -> Result<Inferred> {
    let mut c = Checker { operands, requires: Vec::new() };
    let types = types(op, &mut c)
        .and_then(|types| c.extents(&types).and_then(|()| check::sizes(&types)).map(|()| types))
        .map_err(|e| {
            let list: Vec<String> = operands.iter().map(ToString::to_string).collect();
            e.within(format!("`{}` of ({})", op.name(), list.join(", ")))
        })?;
    Ok(Inferred { types, requires: c.requires })
}

fn types(op: &Op, c: &mut Checker) -> Result<Vec<TensorType>> {
    let (least, most) = arity(op);
    c.count(least, most)?;
    let one = |ty: TensorType| Ok(vec![ty]);
    match op {
        Op::Input(_, ty) => one(ty.clone()),
        Op::Constant(tensor) => one(tensor.ty()),
        Op::Dims(dims) => one(TensorType::fixed(DType::I64, &[dims.len()])),
        Op::Iota { dtype, shape, axis } => {
            check::axis(*axis, shape.len())?;
            check::numeric(*dtype)?;
            one(TensorType::new(*dtype, shape.clone()))
        }

        Op::Unary(f) => one(unary(*f, c.ty(0))?),
        Op::Binary(f) => one(binary(*f, c)?),
        Op::Select => {
            c.dtype(0, &[DType::Bool])?;
            let shape = c.broadcast(&c.ty(0).shape, &c.ty(1).shape)?;
            one(TensorType::new(c.same_dtype(1, 2)?, c.broadcast(&shape, &c.ty(2).shape)?))
        }
        Op::Cast { to, saturate: _ } => one(TensorType::new(*to, c.ty(0).shape.clone())),
        Op::Bitcast { to } => {
            let from = c.ty(0).dtype;
            if from.size() != to.size() {
                return Err(Error::invalid(format!("{from} and {to} are not of one size")));
            }
            one(TensorType::new(*to, c.ty(0).shape.clone()))
        }

        Op::Reshape { shape } => {
            c.meet(&c.ty(0).numel(), &shape.iter().product(), "the number of elements")?;
            one(TensorType::new(c.ty(0).dtype, shape.clone()))
        }
        Op::Transpose { perm } => one(movement::transpose(c.ty(0), perm)?),
        Op::Broadcast { shape } => one(movement::broadcast(c, shape)?),
        Op::Slice { ranges } => one(movement::slice(c, ranges)?),
        Op::Concat { axis } => one(movement::concat(c, *axis)?),
        Op::Pad { before, after, mode } => one(movement::pad(c, before, after, *mode)?),
        Op::Gather { axis } => one(movement::gather(c, *axis)?),
        Op::GatherElements { axis } => one(movement::gather_elements(c, *axis)?),
        Op::GatherNd { batch_dims } => one(movement::gather_nd(c, *batch_dims)?),
        Op::ScatterElements { axis, reduction: _ } => one(movement::scatter_elements(c, *axis)?),
        Op::ScatterNd { reduction: _ } => one(movement::scatter_nd(c)?),
        Op::ReverseSequence { batch_axis, time_axis } => one(movement::reverse_sequence(c, *batch_axis, *time_axis)?),
        Op::Resize { sizes, rule } => one(window::resize(c, sizes, rule)?),
        Op::GridSample { .. } => one(window::grid_sample(c)?),

        Op::MatMul => one(matmul(c)?),
        Op::PackedMatMul { n } => one(packed_matmul(c, n)?),
        Op::Conv(spec) => one(window::conv(c, spec)?),
        Op::Packed(packed) => one(packed::packed(c, packed)?),
        Op::ConvTranspose { spec, output_pads } => one(window::conv_transpose(c, spec, output_pads)?),
        Op::Col2Im { spec, kernel, size } => one(window::col2im(c, spec, kernel, size)?),
        Op::Pool(spec) => one(window::pool(c, spec)?),
        Op::MaxPoolWithIndices { spec, column_major: _ } => window::max_pool_with_indices(c, spec),

        Op::Reduce { kind, axes, keep } => one(reduce(c.ty(0), *kind, axes, *keep)?),
        Op::ArgReduce { axis, keep, .. } => {
            let x = c.ty(0);
            check::axis(*axis, x.rank())?;
            let result = without(&x.shape, &[*axis], *keep);
            c.not_empty(&x.shape[*axis], &result, &format!("the elements along axis {axis} that it compares"))?;
            one(TensorType::new(DType::I64, result))
        }
        Op::Cumulative { axis, .. } => {
            check::axis(*axis, c.ty(0).rank())?;
            check::numeric(c.ty(0).dtype)?;
            one(c.ty(0).clone())
        }
        Op::Attention { scale: _, guarded: _ } => one(attention(c)?),
        Op::Softmax { axis, log: _ } | Op::Normalize { axis, .. } => {
            check::axis(*axis, c.ty(0).rank())?;
            check::float(c.ty(0).dtype)?;
            one(c.ty(0).clone())
        }
        Op::TopK { k, axis, largest: _ } => top_k(c, k, *axis),
        Op::Recurrent(spec) => recurrent(c, op, spec),
        Op::NonZero { count } => one(TensorType::new(DType::I64, vec![c.ty(0).rank().into(), count.clone()])),
        Op::NonMaxSuppression => {
            c.dtype(0, &[DType::F32])?;
            c.dtype(1, &[DType::Bool])?;
            c.dtype(2, &[DType::F32])?;
            let shape = c.ty(1).shape.clone();
            c.shape(0, &[shape.clone(), vec![Dim::from(4i64)]].concat(), "boxes")?;
            c.shape(2, &[], "threshold")?;
            let [_, _] = c.axes(1)?;
            one(TensorType::new(DType::I64, shape))
        }
        Op::TreeEnsemble(trees) => one(tree_ensemble(c, trees)?),
        Op::If(branches) => region::branches(c, branches),
    }
}

/// The minimum and maximum number of operands.
fn arity(op: &Op) -> (usize, usize) {
    match op {
        Op::Input(..) | Op::Constant(_) | Op::Dims(_) | Op::Iota { .. } => (0, 0),
        Op::Unary(_) | Op::Cast { .. } | Op::Bitcast { .. } => (1, 1),
        Op::Binary(_) => (2, 2),
        Op::Select => (3, 3),
        Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } | Op::Slice { .. } => (1, 1),
        Op::Concat { .. } => (1, usize::MAX),
        Op::Pad { .. } | Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. } => (2, 2),
        Op::ScatterElements { .. } | Op::ScatterNd { .. } => (3, 3),
        Op::ReverseSequence { .. } | Op::GridSample { .. } => (2, 2),
        Op::Resize { .. } => (1, 1),
        Op::MatMul | Op::PackedMatMul { .. } => (2, 2),
        Op::Packed(packed) => packed.weights.arity(),
        Op::Conv(_) | Op::ConvTranspose { .. } => (2, 3),
        Op::Col2Im { .. } | Op::Pool(_) | Op::MaxPoolWithIndices { .. } => (1, 1),
        Op::Reduce { .. } | Op::ArgReduce { .. } | Op::Cumulative { .. } => (1, 1),
        Op::Attention { .. } => (3, 4),
        Op::Softmax { .. } | Op::Normalize { .. } | Op::TopK { .. } => (1, 1),
        Op::Recurrent(spec) => {
            let extra = match spec.cell {
                Cell::Lstm | Cell::Gru { linear_before_reset: true } => 1,
                Cell::Rnn | Cell::Gru { linear_before_reset: false } => 0,
            };
            let n = 3 + extra + usize::from(spec.peephole) + usize::from(spec.lengths) + usize::from(spec.quantized);
            spec.coded.map_or((n, n), |_| (n + 1, n + 2))
        }
        Op::NonZero { .. } | Op::TreeEnsemble(_) => (1, 1),
        Op::NonMaxSuppression => (3, 3),
        Op::If(_) => (1, usize::MAX),
    }
}

fn attention(c: &mut Checker) -> Result<TensorType> {
    for n in 0..c.operands.len() {
        c.dtype(n, &[DType::F32])?;
    }
    let [batch, m, heads, d] = c.axes(0)?;
    let [batches, n, groups, depth] = c.axes(1)?;
    c.meet(&batch, &batches, "batches of queries and keys")?;
    c.meet(&d, &depth, "extents of queries and keys")?;
    let e = c.axes::<4>(2)?[3].clone();
    c.shape(2, &[batches, n.clone(), groups.clone(), e.clone()], "values")?;
    let uneven = |(heads, groups): (i64, i64)| groups <= 0 || heads % groups != 0;
    if heads.as_const().zip(groups.as_const()).is_some_and(uneven) {
        return Err(Error::invalid(format!("{heads} heads in {groups} groups")));
    }
    if c.operands.len() > 3 {
        let mask = c.axes::<4>(3)?;
        c.meet(&mask[3], &n, "keys and columns of the mask")?;
        for (have, want) in mask.iter().zip([&batch, &heads, &m]).filter(|(have, _)| !have.is(1)) {
            c.meet(have, want, "extents of the scores and of the mask")?;
        }
    }
    Ok(TensorType::new(DType::F32, vec![batch, m, heads, e]))
}

fn unary(f: UnaryOp, x: &TensorType) -> Result<TensorType> {
    use UnaryOp::*;
    let dtype = match f {
        Neg | Abs | Sign => check::numeric(x.dtype)?,
        Not => check::among(x.dtype, &[DType::Bool])?,
        BitNot => check::int(x.dtype)?,
        IsNan | IsInf => check::float(x.dtype).map(|_| DType::Bool)?,
        Floor | Ceil | Round | Sqrt | Reciprocal | Exp | Log | Sin | Cos | Tan | Asin | Acos | Atan | Sinh | Cosh
        | Tanh | Asinh | Acosh | Atanh | Erf | Gelu | Sigmoid | Softplus => check::float(x.dtype)?,
    };
    Ok(TensorType::new(dtype, x.shape.clone()))
}

fn binary(f: BinaryOp, c: &mut Checker) -> Result<TensorType> {
    use BinaryOp::*;
    let dtype = c.same_dtype(0, 1)?;
    match f {
        Add | Sub | Mul | Div | Pow | Min | Max | Mod | Rem | Less | LessOrEqual | Greater | GreaterOrEqual => {
            check::numeric(dtype)?;
        }
        And | Or | Xor if dtype == DType::Bool => {}
        And | Or | Xor | ShiftLeft | ShiftRight => {
            check::int(dtype)?;
        }
        Equal => {}
    }
    let shape = c.broadcast(&c.ty(0).shape, &c.ty(1).shape)?;
    Ok(TensorType::new(if f.is_comparison() { DType::Bool } else { dtype }, shape))
}

fn matmul(c: &mut Checker) -> Result<TensorType> {
    let dtype = check::numeric(c.same_dtype(0, 1)?)?;
    let (a, b) = (c.ty(0), c.ty(1));
    let ([a_batch @ .., m, k], [b_batch @ .., l, n]) = (a.shape.as_slice(), b.shape.as_slice()) else {
        return Err(Error::invalid("both operands must have two axes or more"));
    };
    c.meet(k, l, "the inner dimensions")?;
    let mut shape = c.broadcast(a_batch, b_batch)?;
    shape.extend([m.clone(), n.clone()]);
    Ok(TensorType::new(dtype, shape))
}

fn packed_matmul(c: &mut Checker, n: &Dim) -> Result<TensorType> {
    let dtype = check::numeric(c.weights_dtype()?)?;
    let (a, b) = (c.ty(0), c.ty(1));
    let ([a_batch @ .., m, k], [b_batch @ .., panels, l, tile]) = (a.shape.as_slice(), b.shape.as_slice()) else {
        return Err(Error::invalid("the operands must have two and three axes or more"));
    };
    c.meet(k, l, "the inner dimensions")?;
    c.meet(panels, &n.ceil_div(tile), "the number of panels")?;
    let mut shape = c.broadcast(a_batch, b_batch)?;
    shape.extend([m.clone(), n.clone()]);
    Ok(TensorType::new(dtype, shape))
}

fn reduce(x: &TensorType, kind: ReduceKind, axes: &[usize], keep: bool) -> Result<TensorType> {
    if !matches!(kind, ReduceKind::Min | ReduceKind::Max) {
        check::numeric(x.dtype)?;
    }
    if !axes.is_sorted_by(|a, b| a < b) {
        return Err(Error::invalid(format!("axes {axes:?} are not sorted and distinct")));
    }
    axes.iter().try_for_each(|&a| check::axis(a, x.rank()))?;
    let bytes = kind == ReduceKind::Sum && matches!(x.dtype, DType::U8 | DType::I8);
    Ok(TensorType::new(if bytes { DType::I32 } else { x.dtype }, without(&x.shape, axes, keep)))
}

/// The shape after `axes` are reduced.
fn without(shape: &[Dim], axes: &[usize], keep: bool) -> Vec<Dim> {
    let dims = shape.iter().enumerate();
    dims.filter_map(|(i, d)| match axes.contains(&i) {
        true => keep.then_some(Dim::ONE),
        false => Some(d.clone()),
    })
    .collect()
}

fn top_k(c: &mut Checker, k: &Dim, axis: usize) -> Result<Vec<TensorType>> {
    let x = c.ty(0);
    check::axis(axis, x.rank())?;
    check::numeric(x.dtype)?;
    c.at_least(&x.shape[axis], k, &format!("k along axis {axis}"))?;
    let mut shape = x.shape.clone();
    shape[axis] = k.clone();
    Ok(vec![TensorType::new(x.dtype, shape.clone()), TensorType::new(DType::I64, shape)])
}

fn recurrent(c: &mut Checker, op: &Op, spec: &CellSpec) -> Result<Vec<TensorType>> {
    let dtype = check::float(c.same_dtype(0, 2)?)?;
    let [time, batch, width] = c.axes(0)?;
    let packed = c.ty(1).rank() == 3;
    let of_bytes = c.ty(1).dtype == DType::I8;
    let narrow = dtype == DType::F32 && matches!(c.ty(1).dtype, DType::F16 | DType::BF16);
    if !of_bytes && spec.coded.is_none() && !narrow {
        c.same_dtype(0, 1)?;
    }
    let hidden = if spec.coded.is_some() {
        c.axes::<2>(2)?[1].clone()
    } else if of_bytes {
        if !spec.quantized || dtype != DType::F32 {
            return Err(Error::invalid("recurrence weights of bytes are for quantized states of f32"));
        }
        c.axes::<2>(2)?[1].clone()
    } else if packed {
        c.axes::<3>(1)?[1].clone()
    } else {
        c.axes::<2>(1)?[0].clone()
    };
    let gates = &hidden * &Dim::from(spec.cell.gates());
    if let Some(coded) = spec.coded {
        if spec.quantized {
            return Err(Error::invalid("quantized states are multiplied by bytes or floats"));
        }
        packed::codes(c, coded, [&hidden, &gates], [1, arity(op).0 - 1])?;
    } else if of_bytes {
        let [panels, steps, tile, four] = c.axes(1)?;
        c.meet(&steps, &hidden.ceil_div(&Dim::from(4i64)), "the recurrence weights' steps and the hidden units")?;
        c.meet(&panels, &gates.ceil_div(&tile), "the recurrence weights' panels and gates * hidden")?;
        c.meet(&four, &Dim::from(4i64), "the recurrence weights' last axis and 4")?;
    } else if packed {
        let [panels, _, tile] = c.axes(1)?;
        if tile.as_const().is_none() {
            return Err(Error::invalid("the recurrence weights' panels are not of a fixed width"));
        }
        if (&(&panels * &tile) - &gates).as_const().is_some_and(|rest| rest < 0) {
            return Err(Error::invalid("the recurrence weights' panels have too few columns"));
        }
    } else {
        let [_, r_width] = c.axes(1)?;
        c.meet(&r_width, &gates, "the recurrence weights' width and gates * hidden")?;
    }
    c.meet(&width, &gates, "the projection's width and gates * hidden")?;
    let state = [batch.clone(), hidden.clone()];
    c.shape(2, &state, "the initial hidden state")?;
    let mut next = 3;
    let mut operand = |c: &mut Checker, dtype: DType, shape: &[Dim], what: &str| {
        c.dtype(next, &[dtype])?;
        next += 1;
        c.shape(next - 1, shape, what)
    };
    match spec.cell {
        Cell::Lstm => operand(c, dtype, &state, "the initial cell state")?,
        Cell::Gru { linear_before_reset: true } => {
            operand(c, dtype, std::slice::from_ref(&hidden), "the hidden gate's recurrence bias")?;
        }
        Cell::Gru { linear_before_reset: false } | Cell::Rnn => {}
    }
    if spec.peephole {
        if spec.cell != Cell::Lstm {
            return Err(Error::invalid("only an LSTM has peepholes"));
        }
        operand(c, dtype, &[&hidden * &Dim::from(3usize)], "the peephole weights")?;
    }
    if spec.lengths {
        operand(c, DType::I64, std::slice::from_ref(&batch), "the sequence lengths")?;
    }
    if spec.quantized {
        if spec.cell != Cell::Lstm {
            return Err(Error::invalid("only an LSTM has quantized states"));
        }
        operand(c, dtype, std::slice::from_ref(&gates), "the recurrence's scales")?;
    }
    let last = TensorType::new(dtype, state.to_vec());
    let mut results = vec![TensorType::new(dtype, vec![time, batch, hidden]), last.clone()];
    if spec.cell == Cell::Lstm {
        results.push(last);
    }
    Ok(results)
}

fn tree_ensemble(c: &mut Checker, trees: &TreeEnsemble) -> Result<TensorType> {
    let x = c.ty(0);
    check::float(x.dtype)?;
    let [n, features] = x.shape.as_slice() else {
        return Err(Error::invalid("the operand must have two axes"));
    };
    let edge_ok = |edge: &TreeEdge| match *edge {
        TreeEdge::Node(n) => (n as usize) < trees.nodes.len(),
        TreeEdge::Leaf(first, count) => first as usize + count as usize <= trees.votes.len(),
    };
    if !trees.roots.iter().all(|r| edge_ok(&TreeEdge::Node(*r))) {
        return Err(Error::invalid("a tree's root does not exist"));
    }
    for (i, node) in trees.nodes.iter().enumerate() {
        if !edge_ok(&node.yes) || !edge_ok(&node.no) {
            return Err(Error::invalid(format!("decision {i} leads to a node or leaf that does not exist")));
        }
        if !node.test.is_comparison() {
            return Err(Error::invalid(format!("decision {i} is not a comparison")));
        }
        if features.as_const().is_some_and(|f| i64::from(node.feature) >= f) {
            return Err(Error::invalid(format!("decision {i} looks at feature {} of {features}", node.feature)));
        }
    }
    if let Some(most) = trees.nodes.iter().map(|n| i64::from(n.feature)).max() {
        c.at_least(features, &Dim::from(most + 1), "the features that its decisions look at")?;
    }
    if let Some((t, _)) = trees.votes.iter().find(|(t, _)| *t as usize >= trees.targets) {
        return Err(Error::invalid(format!("a leaf votes for target {t} of {}", trees.targets)));
    }
    Ok(TensorType::new(x.dtype, vec![n.clone(), trees.targets.into()]))
}

#[cfg(test)]
mod tests;
