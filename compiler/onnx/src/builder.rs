//! Builds the graph: adds primitives, keeps track of known elements, and has helpers that importers share.

mod indices;
mod region;

use std::collections::HashMap;

use self::region::Around;
use super::content::{self, Content, Known};
use super::file::ExternalData;

use super::limits::Budget;
use mcc_ir::{
    BinaryOp, Condition, DType, Dim, Error, Graph, NodeId, Op, PadMode, Range, ReduceKind, Requirement, Result, Sym,
    Tensor, TensorType, UnaryOp, Value,
};

pub use self::region::Region;

/// The graph under construction.
pub struct Builder {
    /// What has been built.
    pub graph: Graph,
    /// Loads tensors that are stored outside the model file.
    pub external: ExternalData,
    /// Label of the nodes being added: the ONNX node being imported.
    pub label: String,
    /// Whether indices in data are required to be in range.
    pub check_indices: bool,
    /// The remaining budget for operations and constants.
    pub budget: Budget,
    contents: HashMap<Value, Content>,
    /// The graphs around the region under construction, the model's first.
    around: Vec<Around>,
    /// Symbols that operations bind at run time.
    counted: Vec<Sym>,
}

impl Builder {
    /// An empty graph; `check_indices`: whether indices in data are required to be in range.
    pub fn new(external: ExternalData, budget: Budget, check_indices: bool) -> Builder {
        Builder {
            graph: Graph::new(),
            external,
            label: String::new(),
            budget,
            check_indices,
            contents: HashMap::new(),
            around: Vec::new(),
            counted: Vec::new(),
        }
    }

    /// Adds a primitive; returns its first result.
    pub fn add(&mut self, op: Op, operands: &[Value]) -> Result<Value> {
        self.budget.nodes(1)?;
        let id = self.node(op, operands)?;
        let value = Value::from(id);
        let Some(known) = self.evaluate(id, operands) else { return Ok(value) };
        let value = self.materialise(value, &known)?;
        self.contents.insert(value, known);
        Ok(value)
    }

    /// Adds a primitive with several results.
    pub fn add_many(&mut self, op: Op, operands: &[Value]) -> Result<Vec<Value>> {
        self.budget.nodes(1)?;
        let node = self.node(op, operands)?;
        Ok((0..self.graph.types(node).len()).map(|result| Value { node, result }).collect())
    }

    /// Adds a primitive. Requirements of the model's own operations are kept even if passes remove the operations.
    fn node(&mut self, op: Op, operands: &[Value]) -> Result<NodeId> {
        if self.check_indices {
            indices::require_in_range(self, &op, operands)?;
        }
        let node = self.graph.add_labelled(op, operands, &self.label)?;
        for requirement in self.graph.required_by(node).to_vec() {
            self.graph.requires.push(requirement);
        }
        Ok(node)
    }

    /// Requires a condition to hold at run time.
    ///
    /// # Errors
    /// When it never holds.
    pub fn require(&mut self, condition: Condition, reason: &str) -> Result<()> {
        match condition.holds() {
            Some(true) => {}
            Some(false) => return Err(Error::invalid(format!("{condition} does not hold: {reason}"))),
            None => {
                let reason = format!("node \"{}\": {reason}", self.label);
                self.graph.requires.push(Requirement { condition, reason });
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, id: NodeId, operands: &[Value]) -> Option<Content> {
        let contents: Vec<Content> = operands.iter().map(|&v| self.content(v)).collect::<Option<_>>()?;
        let types = operands.iter().map(|&v| self.graph.ty(v));
        let operands: Vec<(Content, &TensorType)> = contents.into_iter().zip(types).collect();
        content::evaluate(self.graph.op(id), &operands, &self.graph.types(id)[0])
    }

    /// Known integers become a constant or dimensions, so that they need not be computed.
    fn materialise(&mut self, value: Value, known: &Content) -> Result<Value> {
        let ty = self.graph.ty(value).clone();
        if ty.dtype.is_float() {
            return Ok(value);
        }
        let dims: Vec<Dim> = known.iter().filter_map(|k| k.as_dim().cloned()).collect();
        let constants: Option<Vec<i64>> = dims.iter().map(Dim::as_const).collect();
        match (constants, ty.fixed_shape()) {
            _ if dims.len() != known.len() => Ok(value),
            (Some(constants), Some(shape)) => Ok(self.graph.constant(Tensor::from_i64s(ty.dtype, shape, &constants)?)),
            _ if ty.dtype == DType::I64 && ty.rank() <= 1 && !dims.iter().any(content::has_element) => {
                let vector = self.graph.add_labelled(Op::Dims(dims), &[], &self.label)?.into();
                match ty.rank() {
                    1 => Ok(vector),
                    _ => Ok(self.graph.add_labelled(Op::Reshape { shape: ty.shape }, &[vector], &self.label)?.into()),
                }
            }
            _ => Ok(value),
        }
    }

    /// The elements of a value, if all are known.
    pub fn content(&mut self, value: Value) -> Option<Content> {
        if let Some(known) = self.contents.get(&value) {
            return Some(known.clone());
        }
        let known = content::of_tensor(self.graph.as_constant(value)?)?;
        self.contents.insert(value, known.clone());
        Some(known)
    }

    /// Declares a value's elements.
    pub fn set_content(&mut self, value: Value, known: Content) {
        self.contents.insert(value, known);
    }

    /// The elements of an integer operand that the compiler must know.
    pub fn dims(&mut self, value: Value, what: &str) -> Result<Vec<Dim>> {
        self.known_dims(value).ok_or_else(|| {
            Error::unsupported(format!("{what} is computed from data"))
                .help("it must be constant, follow from shapes, or be a model input of known length")
        })
    }

    /// The elements of an integer operand, if they are known.
    pub fn known_dims(&mut self, value: Value) -> Option<Vec<Dim>> {
        self.content(value)?.iter().map(|k| k.as_dim().cloned()).collect()
    }

    /// The elements of an integer operand, which must be constant.
    pub fn ints(&mut self, value: Value, what: &str) -> Result<Vec<i64>> {
        let dims = self.dims(value, what)?;
        dims.iter().map(Dim::as_const).collect::<Option<_>>().ok_or_else(|| {
            Error::unsupported(format!("{what} is not constant")).help("pin the dimensions it follows from with --dim")
        })
    }

    /// The elements of an operand, which must be constant.
    pub fn floats(&mut self, value: Value, what: &str) -> Result<Vec<f64>> {
        self.known_floats(value).ok_or_else(|| Error::unsupported(format!("{what} is not constant")))
    }

    /// The elements of an operand, if they are constant.
    pub fn known_floats(&mut self, value: Value) -> Option<Vec<f64>> {
        if let Some(t) = self.graph.as_constant(value) {
            return Some(t.to_f64s());
        }
        self.content(value)?.iter().map(Known::as_f64).collect()
    }

    /// A symbol for a count that is known at run time only.
    pub fn counted_symbol(&mut self, stem: &str) -> Dim {
        let symbol = Sym(format!("{stem}.{}", self.counted.len() + 1).into());
        self.counted.push(symbol.clone());
        Dim::sym(symbol.0)
    }

    /// Whether a dimension depends on such a count.
    pub fn is_counted(&self, d: &Dim) -> bool {
        d.symbols().iter().any(|s| self.counted.contains(s))
    }

    /// A value's type.
    pub fn ty(&self, value: Value) -> TensorType {
        self.graph.ty(value).clone()
    }

    /// A value's element type.
    pub fn dtype(&self, value: Value) -> DType {
        self.graph.ty(value).dtype
    }

    /// A value's shape.
    pub fn shape(&self, value: Value) -> Vec<Dim> {
        self.graph.ty(value).shape.clone()
    }

    /// The extents of an operand, which must have `N` axes.
    ///
    /// # Errors
    /// When it has another number of axes.
    pub fn extents<const N: usize>(&self, value: Value, what: &str) -> Result<[Dim; N]> {
        let wrong = |shape: Vec<Dim>| {
            Error::invalid(format!("{what} is {}, of {} axes instead of {N}", self.ty(value), shape.len()))
        };
        self.shape(value).try_into().map_err(wrong)
    }

    /// The extents of an operand, which must have at least `least` axes.
    ///
    /// # Errors
    /// When it has fewer.
    pub fn extents_from(&self, value: Value, least: usize, what: &str) -> Result<Vec<Dim>> {
        let shape = self.shape(value);
        match shape.len() < least {
            true => Err(Error::invalid(format!("{what} is {}, but must have at least {least} axes", self.ty(value)))),
            false => Ok(shape),
        }
    }

    /// A value's rank.
    pub fn rank(&self, value: Value) -> usize {
        self.graph.ty(value).rank()
    }

    /// Adds constant data.
    pub fn constant(&mut self, tensor: Tensor) -> Value {
        self.budget.spend(tensor.data().len());
        self.graph.constant(tensor)
    }

    /// A constant of rank 0.
    pub fn scalar(&mut self, dtype: DType, v: f64) -> Value {
        self.graph.constant(Tensor::scalar_f64(dtype, v))
    }

    /// A constant of rank 0 and the type of `like`.
    pub fn scalar_like(&mut self, like: Value, v: f64) -> Value {
        let dtype = self.dtype(like);
        self.scalar(dtype, v)
    }

    /// Dimensions as a tensor.
    pub fn shape_tensor(&mut self, dims: Vec<Dim>) -> Result<Value> {
        self.add(Op::Dims(dims), &[])
    }

    /// A dimension as a scalar of a type.
    pub fn dim_scalar(&mut self, d: &Dim, dtype: DType) -> Result<Value> {
        if let Some(c) = d.as_const() {
            return Ok(self.graph.constant(Tensor::scalar_i64(dtype, c)));
        }
        let vector = self.shape_tensor(vec![d.clone()])?;
        let scalar = self.reshape(vector, Vec::new())?;
        self.cast(scalar, dtype)
    }

    /// An element-wise function.
    pub fn unary(&mut self, f: UnaryOp, x: Value) -> Result<Value> {
        self.add(Op::Unary(f), &[x])
    }

    /// An element-wise function of two operands.
    pub fn binary(&mut self, f: BinaryOp, a: Value, b: Value) -> Result<Value> {
        self.add(Op::Binary(f), &[a, b])
    }

    /// `a + b`.
    pub fn plus(&mut self, a: Value, b: Value) -> Result<Value> {
        self.binary(BinaryOp::Add, a, b)
    }

    /// `a - b`.
    pub fn minus(&mut self, a: Value, b: Value) -> Result<Value> {
        self.binary(BinaryOp::Sub, a, b)
    }

    /// `a * b`.
    pub fn times(&mut self, a: Value, b: Value) -> Result<Value> {
        self.binary(BinaryOp::Mul, a, b)
    }

    /// `a / b`.
    pub fn over(&mut self, a: Value, b: Value) -> Result<Value> {
        self.binary(BinaryOp::Div, a, b)
    }

    /// A function of an operand and a number.
    pub fn with(&mut self, f: BinaryOp, a: Value, number: f64) -> Result<Value> {
        let b = self.scalar_like(a, number);
        self.binary(f, a, b)
    }

    /// `condition ? a : b`.
    pub fn select(&mut self, condition: Value, a: Value, b: Value) -> Result<Value> {
        self.add(Op::Select, &[condition, a, b])
    }

    /// Clamps to two numbers.
    pub fn clamp(&mut self, x: Value, low: f64, high: f64) -> Result<Value> {
        let x = self.with(BinaryOp::Max, x, low)?;
        self.with(BinaryOp::Min, x, high)
    }

    /// Converts to another type, unless it has that type.
    pub fn cast(&mut self, x: Value, to: DType) -> Result<Value> {
        if self.dtype(x) == to {
            return Ok(x);
        }
        self.add(Op::Cast { to, saturate: true }, &[x])
    }

    /// Reshapes, unless it has that shape.
    pub fn reshape(&mut self, x: Value, shape: Vec<Dim>) -> Result<Value> {
        if self.graph.ty(x).shape == shape {
            return Ok(x);
        }
        self.add(Op::Reshape { shape }, &[x])
    }

    /// Inserts axes of extent 1 at `axes` (sorted) of the result.
    pub fn unsqueeze(&mut self, x: Value, axes: &[usize]) -> Result<Value> {
        let mut shape = self.shape(x);
        for &a in axes {
            if a > shape.len() {
                return Err(Error::invalid(format!("axis {a} of a result of rank {}", shape.len() + 1)));
            }
            shape.insert(a, Dim::ONE);
        }
        self.reshape(x, shape)
    }

    /// Drops axes.
    pub fn squeeze(&mut self, x: Value, axes: &[usize]) -> Result<Value> {
        let shape = self.shape(x).into_iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| d).collect();
        self.reshape(x, shape)
    }

    /// Permutes axes, unless the permutation is the identity.
    pub fn transpose(&mut self, x: Value, perm: &[usize]) -> Result<Value> {
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return Ok(x);
        }
        self.add(Op::Transpose { perm: perm.to_vec() }, &[x])
    }

    /// Swaps the last two axes.
    pub fn transpose_last(&mut self, x: Value) -> Result<Value> {
        let rank = self.rank(x);
        let mut perm: Vec<usize> = (0..rank).collect();
        if rank >= 2 {
            perm.swap(rank - 1, rank - 2);
        }
        self.transpose(x, &perm)
    }

    /// Broadcasts to `shape`, unless it has that shape.
    pub fn broadcast(&mut self, x: Value, shape: Vec<Dim>) -> Result<Value> {
        if self.graph.ty(x).shape == shape {
            return Ok(x);
        }
        self.add(Op::Broadcast { shape }, &[x])
    }

    /// Elements `start..start+len` of one axis.
    pub fn slice(&mut self, x: Value, axis: usize, start: Dim, len: Dim) -> Result<Value> {
        let shape = self.shape(x);
        let mut ranges: Vec<Range> = shape.iter().map(Range::full).collect();
        let range = ranges.get_mut(axis).ok_or_else(|| Error::invalid(format!("no axis {axis}")))?;
        // An empty slice may start past the end, where there is no element.
        *range = Range { start: if len.is(0) { Dim::ZERO } else { start }, step: 1, len };
        self.slice_ranges(x, ranges)
    }

    /// A slice along any axes, unless it takes all elements.
    pub fn slice_ranges(&mut self, x: Value, ranges: Vec<Range>) -> Result<Value> {
        if ranges.iter().zip(self.shape(x)).all(|(r, d)| *r == Range::full(&d)) {
            return Ok(x);
        }
        self.add(Op::Slice { ranges }, &[x])
    }

    /// Concatenates along an axis.
    pub fn concat(&mut self, parts: &[Value], axis: usize) -> Result<Value> {
        match parts {
            [one] => Ok(*one),
            _ => self.add(Op::Concat { axis }, parts),
        }
    }

    /// Pads with zeros.
    pub fn pad_zeros(&mut self, x: Value, before: Vec<Dim>, after: Vec<Dim>) -> Result<Value> {
        if before.iter().chain(&after).all(|d| d.is(0)) {
            return Ok(x);
        }
        let zero = self.scalar_like(x, 0.0);
        self.add(Op::Pad { before, after, mode: PadMode::Constant }, &[x, zero])
    }

    /// Matrix product.
    pub fn matmul(&mut self, a: Value, b: Value) -> Result<Value> {
        self.add(Op::MatMul, &[a, b])
    }

    /// A reduction over `axes`, if there are any.
    pub fn reduce(&mut self, kind: ReduceKind, x: Value, axes: &[usize], keep: bool) -> Result<Value> {
        if axes.is_empty() {
            return Ok(x);
        }
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        axes.dedup();
        self.add(Op::Reduce { kind, axes, keep }, &[x])
    }

    /// `0, 1, 2...` as a vector.
    pub fn iota(&mut self, dtype: DType, len: &Dim) -> Result<Value> {
        self.add(Op::Iota { dtype, shape: vec![len.clone()], axis: 0 }, &[])
    }

    /// Gathers by indices.
    pub fn gather(&mut self, x: Value, indices: Value, axis: usize) -> Result<Value> {
        self.add(Op::Gather { axis }, &[x, indices])
    }

    /// A scalar broadcast to a shape.
    pub fn splat(&mut self, dtype: DType, v: f64, shape: Vec<Dim>) -> Result<Value> {
        let scalar = self.scalar(dtype, v);
        self.broadcast(scalar, shape)
    }

    /// A vector along `axis` of a tensor with a rank: `[n]` becomes `[1, n, 1...]`.
    pub fn along(&mut self, x: Value, axis: usize, rank: usize) -> Result<Value> {
        let mut shape = vec![Dim::ONE; rank];
        match (self.shape(x).as_slice(), shape.get_mut(axis)) {
            ([n], Some(slot)) => *slot = n.clone(),
            _ => return Err(Error::invalid(format!("expected a vector, not {}", self.ty(x)))),
        }
        self.reshape(x, shape)
    }
}

/// An axis, which may count from the end.
///
/// # Errors
/// When it is out of range.
pub fn axis(a: i64, rank: usize) -> Result<usize> {
    let rank = rank as i64;
    match if a < 0 { a + rank } else { a } {
        n if (0..rank).contains(&n) => Ok(n as usize),
        _ => Err(Error::invalid(format!("axis {a} of a tensor of rank {rank}"))),
    }
}

/// Axes, which may count from the end, sorted.
///
/// # Errors
/// When one is out of range or repeats.
pub fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut axes: Vec<usize> = list.iter().map(|&a| axis(a, rank)).collect::<Result<_>>()?;
    axes.sort_unstable();
    match axes.windows(2).any(|w| w[0] == w[1]) {
        true => Err(Error::invalid(format!("axes {list:?} repeat"))),
        false => Ok(axes),
    }
}

/// The shape that operands broadcast to. Extents that are not known to be 1 are assumed to be equal.
///
/// # Errors
/// When two constant extents contradict each other.
pub fn broadcast_shape(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let at = |s: &[Dim], i: usize| (i + s.len()).checked_sub(rank).map_or(Dim::ONE, |i| s[i].clone());
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y.is(1) => Ok(x),
            (x, y) if x.is(1) => Ok(y),
            (x, y) => match (x.as_const(), y.as_const()) {
                (Some(_), Some(_)) => Err(Error::invalid(format!("shapes {a:?} and {b:?} do not broadcast"))),
                (Some(_), None) => Ok(x),
                _ => Ok(y),
            },
        })
        .collect()
}
