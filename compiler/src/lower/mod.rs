//! Lowering: every decision. A [`Graph`] becomes a [`Program`]: plain data.
//!
//! - [`group`]: which operations share a kernel; [`view`]: how kernels read buffers without copies.
//! - [`kernels`]: one file an operator family: how an operation becomes loops, in the kernel IR [`kir`].
//! - [`expr`]: element-wise expressions, alone or as the epilogue of another kernel.
//! - [`numbers`], [`scalar`]: how element types live in registers, and element-wise functions on them.
//! - [`arena`]: where every buffer lies.
//! - [`program`]: what comes out.

pub mod arena;
pub mod expr;
pub mod group;
pub mod kernels;
pub mod kir;
mod listing;
pub mod math;
pub mod names;
pub mod numbers;
pub mod program;
pub mod scalar;
mod symbols;
pub mod view;
pub mod weights;
mod work;

use std::collections::HashMap;

use mcc_targets::Target;

use self::arena::Lifetime;
use self::expr::Expr;
use self::group::{Group, Grouping};
use self::kernels::{Built, Epilogue, RowLeaf, Site};
use self::kir::Kernel;
use self::program::{Constant, Place, Port, Program, Step, Symbol, Work};
use self::view::View;
use crate::ir::{DType, Dim, Graph, NodeId, Op, Sym, Tensor, TensorType, Value};
use crate::{Error, Result};

/// Lowers a graph for a target; `name` prefixes every symbol of the object.
///
/// # Errors
/// When an operation has no kernel for its types, a symbol has no source, or sizes overflow: all of them at once.
pub fn lower(graph: &Graph, target: &Target, name: &str) -> Result<Program> {
    let grouping = group::group(graph)?;
    let symbols = symbols::bindings(graph)?;
    let mut lowering = Lowering::new(graph, target, grouping, symbols);
    lowering.all_groups()?;
    lowering.outputs_that_need_copies()?;
    lowering.finish(name)
}

/// A buffer before it has a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Buffer {
    Input(usize),
    Output(usize),
    Constant(usize),
    /// Index into the arena's lifetimes.
    Arena(usize),
}

enum Planned {
    Call { kernel: usize, args: Vec<Buffer>, label: String, work: Work },
    Bind { symbol: usize, buffer: Buffer },
}

struct Lowering<'a> {
    graph: &'a Graph,
    target: &'a Target,
    grouping: Grouping,
    symbols: Vec<Symbol>,
    buffers: HashMap<Value, Buffer>,
    constants: Vec<Constant>,
    constant_of: HashMap<Value, usize>,
    lifetimes: Vec<Lifetime>,
    /// Arena buffers that lie where another one does: `(written in place, over)`.
    shared: HashMap<usize, usize>,
    kernels: Vec<Kernel>,
    kernel_of: HashMap<Kernel, usize>,
    steps: Vec<Planned>,
    /// Last group that reads each buffer's value.
    last_use: HashMap<Value, usize>,
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, target: &'a Target, grouping: Grouping, symbols: Vec<Symbol>) -> Self {
        let mut lowering = Lowering {
            graph,
            target,
            grouping,
            symbols,
            buffers: HashMap::new(),
            constants: Vec::new(),
            constant_of: HashMap::new(),
            lifetimes: Vec::new(),
            shared: HashMap::new(),
            kernels: Vec::new(),
            kernel_of: HashMap::new(),
            steps: Vec::new(),
            last_use: HashMap::new(),
        };
        for (n, &input) in graph.inputs().iter().enumerate() {
            lowering.buffers.insert(input.into(), Buffer::Input(n));
        }
        // A computed value that is an output is computed right there; a second output of the same value is a copy.
        for (n, output) in graph.outputs.iter().enumerate() {
            let value = lowering.grouping.buffer_of(output.value);
            let computed = !matches!(graph.op(value.node), Op::Input(..) | Op::Constant(_));
            if computed {
                lowering.buffers.entry(value).or_insert(Buffer::Output(n));
            }
        }
        for (n, group) in lowering.grouping.groups.iter().enumerate() {
            for value in lowering.reads(group) {
                lowering.last_use.insert(value, n);
            }
        }
        lowering
    }

    /// Values whose buffers a group reads.
    fn reads(&self, group: &Group) -> Vec<Value> {
        let operands = group.anchor.map(|a| self.graph.operands(a)).unwrap_or_default();
        operands.into_iter().map(|v| self.grouping.buffer_of(v)).chain(group.leaves.iter().map(|l| l.0)).collect()
    }

    fn all_groups(&mut self) -> Result<()> {
        let mut errors = Vec::new();
        for (n, group) in self.grouping.groups.clone().iter().enumerate() {
            if let Err(e) = self.group(n, group) {
                let node = group.anchor.unwrap_or(group.root);
                errors.push(e.within(format!("node '{}' ({})", self.graph.label(node), self.graph.op(node).name())));
            }
        }
        // What a failed group did not compute is missing in those behind it; that is no news.
        if errors.iter().any(|e| !matches!(e, Error::Internal(_))) {
            errors.retain(|e| !matches!(e, Error::Internal(_)));
        }
        Error::all(errors).map_or(Ok(()), Err)
    }

    fn group(&mut self, n: usize, group: &Group) -> Result<()> {
        match group.anchor {
            Some(anchor) => self.anchored(group, anchor),
            None => self.elementwise(n, group),
        }
    }

    fn elementwise(&mut self, n: usize, group: &Group) -> Result<()> {
        let ty = self.graph.ty(group.root.into()).clone();
        let leaves: Vec<(DType, View)> =
            group.leaves.iter().map(|(v, view)| (self.leaf_dtype(*v), view.clone())).collect();
        let kernel = kernels::pointwise::build(&group.expr, &leaves, &ty, self.target)?;
        let mut args: Vec<Buffer> = group.leaves.iter().map(|l| self.buffer(l.0)).collect::<Result<_>>()?;
        let over = self.in_place_leaf(n, group, &ty);
        let result = self.new_result(group.root.into(), &ty, over)?;
        args.push(result);
        let operands: Vec<TensorType> = group.leaves.iter().map(|(v, _)| self.graph.ty(*v).clone()).collect();
        let work = work::of(self.graph.op(group.root), &operands, &[ty]);
        self.call(kernel, args, self.graph.label(group.root), work);
        Ok(())
    }

    /// The arena buffer that an element-wise kernel may overwrite with its result: read by nothing else, in the very
    /// order it is written, and dead afterwards.
    fn in_place_leaf(&self, n: usize, group: &Group, ty: &TensorType) -> Option<usize> {
        group.leaves.iter().find_map(|(value, view)| {
            let Some(&Buffer::Arena(id)) = self.buffers.get(value) else { return None };
            let uses = group.leaves.iter().filter(|l| l.0 == *value).count();
            let same_size =
                self.leaf_dtype(*value).size() == ty.dtype.size() && self.graph.ty(*value).numel() == ty.numel();
            let dies = self.last_use.get(value) == Some(&n);
            (uses == 1 && same_size && dies && view.is_contiguous(&ty.shape)).then_some(id)
        })
    }

    fn anchored(&mut self, group: &Group, anchor: NodeId) -> Result<()> {
        let graph = self.graph;
        let op = graph.op(anchor);
        let root_ty = graph.ty(group.root.into()).clone();
        if let Op::Dims(values) = op {
            let result = self.new_result(anchor.into(), &root_ty, None)?;
            self.call(kernels::pointwise::dims(values), vec![result], graph.label(anchor), Work::default());
            return Ok(());
        }
        let operands = graph.operands(anchor);
        let types: Vec<TensorType> = operands.iter().map(|&v| graph.ty(v).clone()).collect();
        let constants: Vec<Option<Tensor>> = operands.iter().map(|&v| graph.as_constant(v).cloned()).collect();
        let site =
            Site { op, operands: &types, constants: &constants, results: graph.types(anchor), target: self.target };
        let epilogue = self.epilogue(group, &graph.ty(anchor.into()).shape)?;
        let Built { kernel, scratch, constants } = kernels::build(&site, &epilogue)?;
        let mut args: Vec<Buffer> = Vec::new();
        for value in operands.iter().chain(group.leaves.iter().map(|l| &l.0)) {
            args.push(self.buffer(self.grouping.buffer_of(*value))?);
        }
        args.push(self.new_result(group.root.into(), &root_ty, None)?);
        for result in 1..graph.types(anchor).len() {
            let value = Value { node: anchor, result };
            args.push(self.new_result(value, &graph.ty(value).clone(), None)?);
        }
        for bytes in scratch {
            let id = self.new_lifetime(self.bound(&bytes));
            args.push(Buffer::Arena(id));
        }
        let last = args.last().copied();
        for data in constants {
            self.constants.push(Constant { label: format!("{} table", graph.label(anchor)), data });
            args.push(Buffer::Constant(self.constants.len() - 1));
        }
        let work = work::of(op, &types, graph.types(anchor));
        self.call(kernel, args, graph.label(anchor), work);
        if let (Op::NonZero { count }, Some(buffer)) = (op, last) {
            self.bind(count, buffer)?;
        }
        Ok(())
    }

    /// The kernel's last scratch buffer holds the value of a data-dependent dimension.
    fn bind(&mut self, dim: &Dim, buffer: Buffer) -> Result<()> {
        let symbol = dim.as_sym().and_then(|s| self.symbols.iter().position(|x| x.name == *s));
        let symbol = symbol.ok_or_else(|| Error::internal(format!("dimension {dim} has no symbol")))?;
        if let Buffer::Arena(id) = buffer {
            self.lifetimes[id].last = self.steps.len();
        }
        self.steps.push(Planned::Bind { symbol, buffer });
        Ok(())
    }

    fn epilogue(&self, group: &Group, shape: &[Dim]) -> Result<Epilogue> {
        if group.expr == Expr::default() {
            return Ok(Epilogue::default());
        }
        let leaves = group.leaves.iter().map(|(value, view)| {
            let (row_stride, col_stride) =
                view.as_rows(shape).ok_or_else(|| Error::internal("an epilogue leaf that is not read by rows"))?;
            Ok(RowLeaf { dtype: self.leaf_dtype(*value), row_stride, col_stride })
        });
        Ok(Epilogue { expr: group.expr.clone(), leaves: leaves.collect::<Result<_>>()? })
    }

    fn leaf_dtype(&self, value: Value) -> DType {
        self.graph.ty(value).dtype
    }

    /// The buffer that holds a value.
    fn buffer(&mut self, value: Value) -> Result<Buffer> {
        if let Some(&b) = self.buffers.get(&value) {
            return Ok(b);
        }
        let Op::Constant(tensor) = self.graph.op(value.node) else {
            return Err(Error::internal(format!("'{}' is read before it is computed", self.graph.label(value.node))));
        };
        let constants = &mut self.constants;
        let id = *self.constant_of.entry(value).or_insert_with(|| {
            let label = self.graph.label(value.node).to_string();
            constants.push(Constant { label, data: tensor.data().clone() });
            constants.len() - 1
        });
        Ok(Buffer::Constant(id))
    }

    /// A buffer for a value that the next step computes.
    fn new_result(&mut self, value: Value, ty: &TensorType, over: Option<usize>) -> Result<Buffer> {
        if let Some(&b) = self.buffers.get(&value) {
            return Ok(b);
        }
        let bytes = self.bound(&ty.bytes());
        if bytes.as_const().is_some_and(|b| b > isize::MAX as i64 / 4) {
            return Err(Error::unsupported(format!("a tensor of type {ty} does not fit in memory")));
        }
        let id = self.new_lifetime(bytes);
        if let Some(over) = over {
            self.shared.insert(id, over);
        }
        self.buffers.insert(value, Buffer::Arena(id));
        Ok(Buffer::Arena(id))
    }

    fn new_lifetime(&mut self, bytes: Dim) -> usize {
        let now = self.steps.len();
        self.lifetimes.push(Lifetime { bytes, first: now, last: now });
        self.lifetimes.len() - 1
    }

    /// A size with data-dependent symbols at their upper bounds.
    fn bound(&self, d: &Dim) -> Dim {
        symbols::upper_bound(d, &self.symbols)
    }

    fn call(&mut self, kernel: Kernel, args: Vec<Buffer>, label: &str, work: Work) {
        let next = self.kernels.len();
        let id = *self.kernel_of.entry(kernel).or_insert_with_key(|kernel| {
            self.kernels.push(kernel.clone());
            next
        });
        for arg in &args {
            if let Buffer::Arena(n) = arg {
                self.lifetimes[*n].last = self.steps.len();
            }
        }
        self.steps.push(Planned::Call { kernel: id, args, label: label.to_string(), work });
    }

    /// Outputs that are inputs, constants, or a second name of another output.
    fn outputs_that_need_copies(&mut self) -> Result<()> {
        let graph = self.graph;
        for (n, output) in graph.outputs.iter().enumerate() {
            let value = self.grouping.buffer_of(output.value);
            let from = self.buffer(value)?;
            if from == Buffer::Output(n) {
                continue;
            }
            let ty = graph.ty(output.value);
            let mut expr = Expr::default();
            expr.push(expr::ExprKind::Leaf(0), ty.dtype);
            let leaf = (ty.dtype, View::contiguous(&ty.shape));
            let kernel = kernels::pointwise::build(&expr, &[leaf], ty, self.target)?;
            self.call(kernel, vec![from, Buffer::Output(n)], &output.name, Work::default());
        }
        Ok(())
    }

    fn finish(self, name: &str) -> Result<Program> {
        let owner = |mut id: usize| {
            while let Some(&over) = self.shared.get(&id) {
                id = over;
            }
            id
        };
        let mut lives = self.lifetimes.clone();
        for id in 0..lives.len() {
            let (first, last) = (lives[id].first, lives[id].last);
            let shared = &mut lives[owner(id)];
            shared.first = shared.first.min(first);
            shared.last = shared.last.max(last);
        }
        let owners: Vec<usize> = (0..lives.len()).filter(|&id| owner(id) == id).collect();
        let plan = arena::plan(&owners.iter().map(|&id| lives[id].clone()).collect::<Vec<_>>());
        let offset_of: HashMap<usize, &Dim> = owners.iter().copied().zip(&plan.offsets).collect();
        let place = |b: &Buffer| match *b {
            Buffer::Input(n) => Place::Input(n),
            Buffer::Output(n) => Place::Output(n),
            Buffer::Constant(n) => Place::Constant(n),
            Buffer::Arena(id) => Place::Arena(offset_of[&owner(id)].clone()),
        };
        let steps = self.steps.iter().map(|step| match step {
            Planned::Call { kernel, args, label, work } => {
                let args = args.iter().map(place).collect();
                Step::Call { kernel: *kernel, args, label: label.clone(), work: work.clone() }
            }
            Planned::Bind { symbol, buffer } => Step::Bind { symbol: *symbol, place: place(buffer) },
        });
        let steps = steps.collect();
        let mut names = names::Names::default();
        let inputs = self.graph.inputs().iter().map(|&id| {
            let name = self.graph.label(id).to_string();
            Port { c_name: names.c_name(&name, "input"), name, ty: self.graph.ty(id.into()).clone() }
        });
        let inputs = inputs.collect();
        let outputs = self.graph.outputs.iter().map(|o| Port {
            c_name: names.c_name(&o.name, "output"),
            name: o.name.clone(),
            ty: self.graph.ty(o.value).clone(),
        });
        let outputs = outputs.collect();
        let program = Program {
            name: name.to_string(),
            inputs,
            outputs,
            requires: symbols::checks(&self.graph.requires, &self.symbols)?,
            constants: self.constants,
            kernels: self.kernels,
            steps,
            arena_bytes: plan.bytes,
            live_bytes: plan.live,
            traced: false,
            symbols: self.symbols,
        };
        check_symbols(&program)?;
        if cfg!(debug_assertions) {
            program.kernels.iter().try_for_each(kir::verify::verify)?;
        }
        Ok(program)
    }
}

/// Every symbol that the program needs must be bound.
fn check_symbols(program: &Program) -> Result<()> {
    let mut missing: Vec<&Sym> = program.kernels.iter().flat_map(|k| &k.symbols).collect();
    missing.retain(|s| !program.symbols.iter().any(|x| x.name == **s));
    missing.sort();
    missing.dedup();
    let errors = missing.into_iter().map(|s| {
        Error::unsupported(format!("dimension '{s}' depends on data that is known only while the model runs"))
            .help(format!("pin it with --dim {s}=N, or the model's inputs with --shape"))
    });
    Error::all(errors.collect()).map_or(Ok(()), Err)
}
