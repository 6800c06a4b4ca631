//! Lowering makes all decisions: it turns a [`Graph`] into a [`Program`], which is plain data.
//!
//! - [`plan`], made by [`fusion`], [`chain`] and [`placement`]: which operations share a kernel, which run a block at a
//!   time, which results are parts of larger buffers. [`view`]: how kernels read buffers without copies.
//! - [`kernels`]: how an operation becomes loops in the kernel IR, [`kir`]; one file per operator family.
//! - [`expr`]: element-wise expressions, alone or as the epilogue of another kernel.
//! - [`numbers`], [`scalar`]: how element types are held in registers, and element-wise functions on them.
//! - [`arena`]: the offset of every buffer.
//! - [`program`]: the result.

pub mod arena;
mod assemble;
mod branch;
mod buffers;
pub mod chain;
pub mod expr;
pub mod fusion;

pub mod kernels;
pub mod kir;
mod listing;
pub mod math;
pub mod names;
pub mod numbers;
pub mod placement;
pub mod plan;
pub mod program;
mod requantize;
mod requirements;
pub mod scalar;
mod symbols;
pub mod view;
pub mod weights;
mod work;

use std::collections::HashMap;

use bytes::Bytes;
use mcc_targets::{Config, schedule};

use self::arena::Lifetime;
use self::expr::Expr;
use self::kernels::{Built, Epilogue, KernelRequest, Link, Places, RowLeaf};
use self::kir::Kernel;
use self::plan::{Group, Grouping, Leaf, Placements};
use self::program::{Check, Constant, Program, Symbol, Work};
use self::requirements::Checks;
use self::view::View;
use mcc_ir::{DType, Decision, Dim, Error, Graph, NodeId, Op, Result, Tensor, TensorType, Value};

/// Lowers a graph for a target; `name` prefixes every symbol of the object.
///
/// # Errors
/// When an operation has no kernel for its types, a symbol has no source, or sizes overflow: all errors at once.
pub fn lower(graph: &Graph, config: &Config, name: &str) -> Result<Program> {
    let input_name = |id: &NodeId| if let Op::Input(name, _) = graph.op(*id) { name.clone() } else { String::new() };
    let inputs = graph.inputs().iter().map(input_name).collect();
    let made = Made { symbols: symbols::bindings(graph)?, inputs, ..Made::default() };
    let ports = Ports {
        inputs: (0..graph.inputs().len()).map(Buffer::Input).collect(),
        outputs: (0..graph.outputs.len()).map(Buffer::Output).collect(),
    };
    let mut lowering = Lowering::new(graph, config, ports)?;
    lowering.made = made;
    lowering.all_steps("")?;
    lowering.finish(name)
}

/// A buffer that has no place yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Buffer {
    Input(usize),
    Output(usize),
    Constant(usize),
    /// Index into the arena's lifetimes.
    Arena(usize),
}

/// A pointer into a buffer: to its start or, in the arena, to a byte offset.
#[derive(Debug, Clone)]
struct Arg {
    buffer: Buffer,
    offset: Dim,
}

impl From<Buffer> for Arg {
    fn from(buffer: Buffer) -> Arg {
        Arg { buffer, offset: Dim::ZERO }
    }
}

enum Planned {
    Call { kernel: usize, args: Vec<Arg>, label: String, work: Work },
    Bind { symbol: usize, buffer: Buffer },
    Let { symbol: usize, value: Dim },
    Require(Vec<Check>),
    If { condition: Buffer, branches: [Vec<Planned>; 2], binds: Vec<usize>, label: String },
}

/// The buffers of a graph's inputs and outputs.
struct Ports {
    inputs: Vec<Buffer>,
    outputs: Vec<Buffer>,
}

/// The inputs for building a kernel.
struct Ingredients<'a> {
    graph: &'a Graph,
    anchor: NodeId,
    types: Vec<TensorType>,
    constants: Vec<Option<Tensor>>,
    places: Places,
    epilogue: Epilogue,
}

impl Ingredients<'_> {
    fn request<'s>(&'s self, config: &'s Config) -> KernelRequest<'s> {
        KernelRequest {
            op: self.graph.op(self.anchor),
            operands: &self.types,
            constants: &self.constants,
            results: self.graph.types(self.anchor),
            places: &self.places,
            config,
            layer: self.graph.label(self.anchor),
        }
    }

    fn work(&self) -> Work {
        let op = self.graph.op(self.anchor);
        let mut work = work::of(op, &self.types, self.graph.types(self.anchor));
        work::leave_out(&mut work, op, &self.types, &self.places.inside);
        work
    }
}

/// Everything made so far, for a model and its regions.
#[derive(Default)]
struct Made {
    symbols: Vec<Symbol>,
    /// Names of the model's inputs.
    inputs: Vec<String>,
    constants: Vec<Constant>,
    lifetimes: Vec<Lifetime>,
    /// Arena buffers that share the memory of another one: `(written in place, over)`.
    shared: HashMap<usize, usize>,
    kernels: Vec<Kernel>,
    kernel_of: HashMap<Kernel, usize>,
    /// Scratch buffers that exist once per thread: bytes per thread.
    slots: HashMap<usize, Dim>,
    decisions: Vec<Decision>,
    /// The number of the next step, the unit of lifetimes; a branch's steps are counted where the branch is.
    now: usize,
}

/// Lowering of one graph: a model or a region.
struct Lowering<'a> {
    graph: &'a Graph,
    config: &'a Config,
    grouping: Grouping,
    placements: Placements,
    buffers: HashMap<Value, Buffer>,
    /// The buffers of the graph's outputs.
    outputs: Vec<Buffer>,
    constant_of: HashMap<Value, usize>,
    steps: Vec<Planned>,
    /// Last group that reads each buffer's value.
    last_use: HashMap<Value, usize>,
    /// Checks to make once a symbol is bound.
    required: HashMap<usize, Vec<Check>>,
    made: Made,
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, config: &'a Config, ports: Ports) -> Result<Self> {
        let mut grouping = fusion::fuse(graph, config)?;
        let placements = placement::find(graph, &grouping);
        grouping.settle(graph, &placements)?;
        let mut lowering = Lowering {
            graph,
            config,
            grouping,
            placements,
            buffers: graph.inputs().iter().map(|&input| input.into()).zip(ports.inputs).collect(),
            outputs: ports.outputs,
            constant_of: HashMap::new(),
            steps: Vec::new(),
            last_use: HashMap::new(),
            required: HashMap::new(),
            made: Made::default(),
        };
        // A computed output is written to its output buffer directly; a second output of the same value is a copy.
        for (output, &place) in graph.outputs.iter().zip(&lowering.outputs) {
            let value = lowering.grouping.buffer_of(output.value);
            let computed = !matches!(graph.op(value.node), Op::Input(..) | Op::Constant(_));
            if computed {
                lowering.buffers.entry(value).or_insert(place);
            }
        }
        for (n, group) in lowering.grouping.groups.iter().enumerate() {
            for value in lowering.grouping.reads(graph, group) {
                lowering.last_use.insert(value, n);
            }
        }
        Ok(lowering)
    }

    /// All steps of the graph; `label` names the node that the graph belongs to.
    fn all_steps(&mut self, label: &str) -> Result<()> {
        let known = requirements::Known { symbols: &self.made.symbols, inputs: &self.made.inputs };
        let Checks { before, after } = requirements::checks(self.graph, &known, Vec::new());
        self.required = after;
        // A model's checks run before all steps.
        if self.graph.is_region() && !before.is_empty() {
            self.steps.push(Planned::Require(before));
        }
        self.all_groups()?;
        self.outputs_that_need_copies(label)?;
        self.made.decisions.append(&mut self.grouping.decisions);
        Ok(())
    }

    fn all_groups(&mut self) -> Result<()> {
        let mut errors = Vec::new();
        for (n, group) in self.grouping.groups.clone().iter().enumerate() {
            if let Err(e) = self.group(n, group) {
                let node = group.anchor.unwrap_or(group.root);
                errors.push(e.within(format!("node '{}' ({})", self.graph.label(node), self.graph.op(node).name())));
            }
        }
        // Groups that read a failed group's result fail as well; those errors are not reported.
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
        let mut args: Vec<Arg> = Vec::new();
        let mut leaves: Vec<(DType, View)> = Vec::new();
        for leaf in &group.leaves {
            let dtype = self.leaf_dtype(leaf.value);
            let (arg, view) = self.arg_of(leaf.value, leaf.view.clone(), dtype.size())?;
            args.push(arg);
            leaves.push((dtype, view));
        }
        self.add_tables(&mut args, &group.expr, self.graph.label(group.root));
        let over = self.in_place_leaf(n, group, &ty);
        let (result, place) = self.result(group.root.into(), over)?;
        let (kernel, scratch) = kernels::elementwise::build(&group.expr, &leaves, &ty, place.as_ref(), self.config)?;
        args.push(result);
        let operands: Vec<TensorType> = group.leaves.iter().map(|l| self.graph.ty(l.value).clone()).collect();
        let work = work::of(self.graph.op(group.root), &operands, &[ty]);
        let threads = self.threads(&kernel, &work);
        self.add_scratch(&mut args, &scratch, threads);
        self.call(kernel, args, self.graph.label(group.root), work);
        Ok(())
    }

    /// The arena buffer that an element-wise kernel may overwrite with its result: nothing else reads it, it is read in
    /// the order in which it is written, and it is dead afterwards.
    fn in_place_leaf(&self, n: usize, group: &Group, ty: &TensorType) -> Option<usize> {
        let holds_others = |value: Value| self.placements.values().any(|placement| placement.root == value);
        group.leaves.iter().find_map(|Leaf { value, view, .. }| {
            let Some(&Buffer::Arena(id)) = self.buffers.get(value) else { return None };
            // A region's inputs and outputs belong to the outer graph.
            if matches!(self.graph.op(value.node), Op::Input(..)) || self.outputs.contains(&Buffer::Arena(id)) {
                return None;
            }
            let uses = group.leaves.iter().filter(|l| l.value == *value).count();
            let same_size =
                self.leaf_dtype(*value).size() == ty.dtype.size() && self.graph.ty(*value).numel() == ty.numel();
            let dies = self.last_use.get(value) == Some(&n) && !holds_others(*value);
            (uses == 1 && same_size && dies && view.is_contiguous(&ty.shape)).then_some(id)
        })
    }

    fn anchored(&mut self, group: &Group, anchor: NodeId) -> Result<()> {
        let graph = self.graph;
        let op = graph.op(anchor);
        if let Op::Dims(values) = op {
            let result = self.new_result(anchor.into(), graph.ty(group.root.into()), None)?;
            self.call(kernels::elementwise::dims(values), vec![result.into()], graph.label(anchor), Work::default());
            return Ok(());
        }
        if let Op::If(branches) = op {
            return self.branches(anchor, branches);
        }
        let mut args: Vec<Arg> = Vec::new();
        let feeding = match &group.feeding {
            Some(feeding) => Some(self.ingredients(&mut args, feeding, 0)?),
            None => None,
        };
        let mut own = self.ingredients(&mut args, group, feeding.iter().len())?;
        if let Op::Concat { .. } = op
            && own.places.inside.iter().all(|&inside| inside)
        {
            return Ok(());
        }
        let (result, place) = self.result(group.root.into(), None)?;
        args.push(result);
        own.places.result = place;
        let mut work = own.work();
        let Built { kernel, scratch, constants } = match &feeding {
            Some(feeding) => {
                work::chain(&mut work, feeding.work(), &own.types[0]);
                let (first, second) = (feeding.request(self.config), own.request(self.config));
                let first = Link { request: &first, epilogue: &feeding.epilogue };
                kernels::build_chain(&[first, Link { request: &second, epilogue: &own.epilogue }])?
            }
            None => kernels::build(&own.request(self.config), &own.epilogue)?,
        };
        for result in 1..graph.types(anchor).len() {
            let value = Value { node: anchor, result };
            args.push(self.new_result(value, &graph.ty(value).clone(), None)?.into());
        }
        let threads = self.threads(&kernel, &work);
        self.add_scratch(&mut args, &scratch, threads);
        let last = args.last().map(|arg| arg.buffer);
        self.add_constants(&mut args, &constants, graph.label(anchor));
        self.call(kernel, args, graph.label(anchor), work);
        if let (Op::NonZero { count }, Some(buffer)) = (op, last) {
            self.bind(count, buffer)?;
        }
        Ok(())
    }

    /// The inputs for building the kernel of a group with an anchor. Adds the arguments that it reads; of the anchor's
    /// operands, those from number `first` on.
    fn ingredients(&mut self, args: &mut Vec<Arg>, group: &Group, first: usize) -> Result<Ingredients<'a>> {
        let graph = self.graph;
        let anchor = group.anchor.ok_or_else(|| Error::internal("a group without an anchor"))?;
        let operands = graph.operands(anchor);
        let types: Vec<TensorType> = operands.iter().map(|&v| graph.ty(v).clone()).collect();
        let constants = operands.iter().map(|&v| graph.as_constant(v).cloned()).collect();
        let mut places = Places { operands: vec![None; first], inside: vec![false; first], result: None };
        for (&value, ty) in operands.iter().zip(&types).skip(first) {
            let (base, view) = self.grouping.operand(graph, value, &self.placements)?;
            places.inside.push(self.is_inside(base, group));
            let (arg, view) = self.arg_of(base, view, ty.dtype.size())?;
            args.push(arg);
            places.operands.push((!view.is_contiguous(&ty.shape)).then_some(view));
        }
        let mut leaves = Vec::new();
        for leaf in &group.leaves {
            let dtype = self.leaf_dtype(leaf.value);
            let (arg, view) = self.arg_of(leaf.value, leaf.view.clone(), dtype.size())?;
            args.push(arg);
            leaves.push(RowLeaf { dtype, view });
        }
        self.add_tables(args, &group.expr, graph.label(anchor));
        let epilogue = Epilogue { expr: group.expr.clone(), leaves };
        Ok(Ingredients { graph, anchor, types, constants, places, epilogue })
    }

    fn add_tables(&mut self, args: &mut Vec<Arg>, expr: &Expr, label: &str) {
        self.add_constants(args, &expr.tables, label);
    }

    fn add_constants(&mut self, args: &mut Vec<Arg>, tables: &[Bytes], label: &str) {
        for data in tables {
            self.made.constants.push(Constant { label: format!("{label} table"), data: data.clone() });
            args.push(Buffer::Constant(self.made.constants.len() - 1).into());
        }
    }

    /// The kernel's last scratch buffer holds the value of a data-dependent dimension.
    fn bind(&mut self, dim: &Dim, buffer: Buffer) -> Result<()> {
        let symbol = dim.as_sym().ok_or_else(|| Error::internal(format!("dimension {dim} has no symbol")))?;
        let symbol = self.symbol(symbol)?;
        self.touch(buffer);
        self.steps.push(Planned::Bind { symbol, buffer });
        self.made.now += 1;
        self.require_after(symbol);
        Ok(())
    }

    /// Whether the group only moves values into its result, and `value` is already stored there.
    fn is_inside(&self, value: Value, group: &Group) -> bool {
        let root = Value::from(group.root);
        let whole = self.placements.get(&root).map_or(root, |placement| placement.root);
        let op = group.anchor.map(|anchor| self.graph.op(anchor));
        let moves = matches!(op, Some(Op::Concat { .. } | Op::Pad { .. })) && group.anchor == Some(group.root);
        moves
            && self.placements.get(&value).is_some_and(|placement| placement.root == whole && placement.within == root)
    }

    fn leaf_dtype(&self, value: Value) -> DType {
        self.graph.ty(value).dtype
    }

    /// The most threads that may share a call of a kernel, so that each has enough work.
    fn threads(&self, kernel: &Kernel, work: &Work) -> u32 {
        if !kernel.is_shared() {
            return 1;
        }
        let useful = work
            .nanoseconds(&self.config.target)
            .as_const()
            .map_or(i64::MAX, |ns| ns / schedule::threads::MIN_THREAD_NS);
        useful.clamp(1, i64::from(self.config.threads)) as u32
    }

    fn call(&mut self, kernel: Kernel, args: Vec<Arg>, label: &str, work: Work) {
        let next = self.made.kernels.len();
        let id = *self.made.kernel_of.entry(kernel).or_insert_with_key(|kernel| {
            self.made.kernels.push(kernel.clone());
            next
        });
        args.iter().for_each(|arg| self.touch(arg.buffer));
        self.steps.push(Planned::Call { kernel: id, args, label: label.to_string(), work });
        self.made.now += 1;
    }

    /// Copies outputs that are inputs, constants, or aliases of another output. Values made by a node have its label.
    fn outputs_that_need_copies(&mut self, label: &str) -> Result<()> {
        let graph = self.graph;
        for (output, to) in graph.outputs.iter().zip(self.outputs.clone()) {
            let value = self.grouping.buffer_of(output.value);
            let from = self.buffer(value)?;
            if from == to {
                continue;
            }
            let ty = graph.ty(output.value);
            let mut expr = Expr::default();
            expr.push(expr::ExprKind::Leaf(0), ty.dtype);
            let leaf = (ty.dtype, View::contiguous(&ty.shape));
            let (kernel, _) = kernels::elementwise::build(&expr, &[leaf], ty, None, self.config)?;
            let label = if graph.is_region() { label } else { &output.name };
            self.call(kernel, vec![from.into(), to.into()], label, Work::default());
        }
        Ok(())
    }
}
