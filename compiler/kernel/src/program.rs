//! The result of lowering, and the input of code generation: kernels, the order of their calls, the place of every
//! buffer.
//!
//! Contract for emitters:
//! - A kernel is one function. Its arguments are, in order, one pointer per entry of [`Step::Call`]'s `args`
//!   (`Kernel::pointers` of them), then one `i64` per symbol in [`Kernel::symbols`](super::kir::Kernel::symbols).
//!   The last two arguments of kernels that [threads share](super::kir::share) select the part to compute; for a step
//!   that is not shared, it is part 0 of 1.
//! - Before any step, the entry binds the symbols whose source is an input's dimension or element, checks every port's
//!   dimensions and [`Program::requires`] with overflow detection, and checks the arena's size, all before it writes
//!   memory. Checks that depend on a symbol bound by a step, and a branch's checks, are [`Step::Require`].
//! - Steps form a tree: those of a branch run only when it is taken, and the symbols that they bind are unknown after
//!   it, except [`Step::If`]'s own.
//! - Dimension expressions may use symbols bound so far.

use bytes::Bytes;
use mcc_targets::{Target, schedule};

use super::kir::Kernel;
use mcc_ir::{Condition, Decision, Dim, Sym, Tensor, TensorType, bounds};

/// A lowered model.
#[derive(Debug, Clone)]
pub struct Program {
    /// Prefix of every symbol of the object; a C identifier.
    pub name: String,
    /// Model inputs, in order.
    pub inputs: Vec<Port>,
    /// Model outputs, in order.
    pub outputs: Vec<Port>,
    /// Symbols in binding order.
    pub symbols: Vec<Symbol>,
    /// Checks to make before any step, in order.
    pub requires: Vec<Check>,
    /// Read-only data.
    pub constants: Vec<Constant>,
    /// Distinct kernels.
    pub kernels: Vec<Kernel>,
    /// Steps, in order.
    pub steps: Vec<Step>,
    /// Bytes of the arena, which must be aligned to [`ALIGN`].
    pub arena_bytes: Dim,
    /// Largest sum of tensors that are live at once, for reports.
    pub live_bytes: Dim,
    /// Whether the object calls `void mcc_step(int32_t)` for profiles: with -2 - n at the start of a run, n being the
    /// number of this program among those of the object, the plainest CPU's being 0; with the call's number before every
    /// call of a kernel; and with -1 after the last one.
    pub traced: bool,
    /// Whether emitters check their own work.
    pub checked: bool,
    /// Most threads that a run may use.
    pub threads: u32,
    /// When the weights are the last input: the value of its first eight bytes, little-endian.
    pub weights_id: Option<i64>,
    /// Decisions about layers, for reports.
    pub decisions: Vec<Decision>,
}

impl Program {
    /// The upper bound of a dimension before any step has run, for which the caller must provide memory.
    pub fn most(&self, d: &Dim) -> Dim {
        let most = upper_bound(d, &self.symbols);
        if most == *d { most } else { most.greater(&Dim::ZERO) }
    }

    /// Whether another program of the same model is equivalent, with equal kernels.
    pub fn runs_as(&self, other: &Program) -> bool {
        self.kernels == other.kernels && self.steps == other.steps && self.constants == other.constants
    }

    /// The input that holds the weights, when they are not in the object.
    pub fn weights_input(&self) -> Option<usize> {
        self.all_steps().flat_map(Step::places).find_map(|place| match place {
            Place::InputAt { input, .. } => Some(*input),
            _ => None,
        })
    }

    /// Every step; the steps within a step follow it directly.
    pub fn all_steps(&self) -> Steps<'_> {
        Steps { open: vec![self.steps.iter()] }
    }

    /// Every call of a kernel, in that order. A [traced](Program::traced) program reports a call by its index here.
    pub fn calls(&self) -> impl Iterator<Item = Call<'_>> {
        self.all_steps().filter_map(|step| match step {
            Step::Call { kernel, label, work, .. } => Some(Call { kernel: &self.kernels[*kernel], label, work }),
            Step::Bind { .. } | Step::Let { .. } | Step::Require { .. } | Step::If { .. } => None,
        })
    }

    /// The value of a dimension for given inputs, if they determine it.
    pub fn value(&self, dim: &Dim, inputs: &[Tensor]) -> Option<i64> {
        let extent = |symbol: &Sym| match self.symbols.iter().find(|s| s.name == *symbol)?.source {
            SymbolSource::InputDim { input, axis } => inputs.get(input)?.shape().get(axis).map(|&d| d as i64),
            SymbolSource::InputElement { input, index } => {
                let tensor = inputs.get(input)?;
                (!tensor.dtype().is_float() && index < tensor.numel()).then(|| tensor.i64_at(index))
            }
            SymbolSource::Step { .. } => None,
        };
        dim.eval(&extent)
    }

    /// Multiply-adds of a run, as operations are defined; of branches, the larger count.
    pub fn multiply_adds(&self) -> Dim {
        multiply_adds(&self.steps)
    }
}

fn multiply_adds(steps: &[Step]) -> Dim {
    let of = |step: &Step| match step {
        Step::Call { work, .. } => work.multiply_adds.clone(),
        Step::If { then, otherwise, .. } => bounds::max(&multiply_adds(then), &multiply_adds(otherwise)),
        Step::Bind { .. } | Step::Let { .. } | Step::Require { .. } => Dim::ZERO,
    };
    steps.iter().fold(Dim::ZERO, |sum, step| &sum + &of(step))
}

/// A call of a kernel, for reports.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The kernel called.
    pub kernel: &'a Kernel,
    /// The graph node that it computes.
    pub label: &'a str,
    /// The amount of work.
    pub work: &'a Work,
}

/// An iterator over all steps.
#[derive(Debug)]
pub struct Steps<'a> {
    open: Vec<std::slice::Iter<'a, Step>>,
}

impl<'a> Iterator for Steps<'a> {
    type Item = &'a Step;

    fn next(&mut self) -> Option<&'a Step> {
        loop {
            match self.open.last_mut()?.next() {
                Some(step) => {
                    self.open.extend(step.within().into_iter().rev().map(|steps| steps.iter()));
                    return Some(step);
                }
                None => drop(self.open.pop()),
            }
        }
    }
}

/// Alignment in bytes of the arena, of every buffer in it, and of constants.
pub const ALIGN: usize = mcc_runtime::abi::ARENA_ALIGN;

/// A model input or output.
#[derive(Debug, Clone)]
pub struct Port {
    /// Name in the model: any string.
    pub name: String,
    /// Name in C: an identifier, distinct among the ports.
    pub c_name: String,
    /// Element type and dimensions.
    pub ty: TensorType,
}

/// A condition that must hold for the program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The condition; it does not hold where computing it overflows.
    pub condition: Condition,
    /// The error when it does not hold, in the caller's terms.
    pub text: String,
}

/// A dimension whose value is known at run time.
#[derive(Debug, Clone)]
pub struct Symbol {
    /// Its name.
    pub name: Sym,
    /// Where its value comes from.
    pub source: SymbolSource,
}

/// Where a symbol's value comes from.
#[derive(Debug, Clone)]
pub enum SymbolSource {
    /// The extent of an input's axis.
    InputDim {
        /// Which input.
        input: usize,
        /// Which axis.
        axis: usize,
    },
    /// An element of an input; for a float, its bits.
    InputElement {
        /// Which input.
        input: usize,
        /// Which element, in row-major order.
        index: usize,
    },
    /// A [`Step::Bind`] or a [`Step::Let`]; the value never exceeds `max`, which sizes buffers.
    Step {
        /// Upper bound, over symbols bound before.
        max: Dim,
    },
}

/// Read-only data of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constant {
    /// Its name in listings.
    pub label: String,
    /// Its bytes.
    pub data: Bytes,
}

/// The place of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The caller's input.
    Input(usize),
    /// Within the caller's input, at a byte offset.
    InputAt {
        /// Which input.
        input: usize,
        /// Bytes from its start.
        offset: i64,
    },
    /// The caller's output.
    Output(usize),
    /// In the arena, at a byte offset that is a multiple of [`ALIGN`].
    Arena(Dim),
    /// In the arena, once per thread that shares the step.
    Slot {
        /// Offset of the first thread's copy.
        offset: Dim,
        /// Bytes between the copies of two threads, a multiple of [`ALIGN`].
        bytes: Dim,
    },
    /// In read-only data.
    Constant(usize),
}

/// The amount of work of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Multiplications whose products are added, as the operation is defined.
    pub multiply_adds: Dim,
    /// Whether they are on 8-bit integers.
    pub integers: bool,
    /// Bytes of the tensors that the step reads and writes.
    pub bytes: Dim,
    /// Elements of its results; a step is skipped when this depends on symbols and turns out to be zero.
    pub elements: Dim,
    /// Shapes of the operands and of the first result, for listings.
    pub shapes: String,
}

impl Work {
    /// A rough estimate of one thread's time.
    pub fn nanoseconds(&self, target: &Target) -> Dim {
        let rate = schedule::threads::multiply_adds_per_ns(target)
            * if self.integers { schedule::threads::INT8_SPEEDUP } else { 1 };
        let bytes = self.bytes.floor_div(&Dim::from(schedule::threads::bytes_per_ns(target)));
        &self.multiply_adds.floor_div(&Dim::from(rate)) + &bytes
    }
}

/// One step of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Calls a kernel.
    Call {
        /// Index into [`Program::kernels`].
        kernel: usize,
        /// Its pointers.
        args: Vec<Place>,
        /// The graph node it computes, for profiles and debugging.
        label: String,
        /// The amount of work, for profiles.
        work: Work,
        /// If threads may share the step: a rough estimate of one thread's time, in nanoseconds.
        shared: Option<Dim>,
    },
    /// Binds a symbol to the `i64` at a place.
    Bind {
        /// Index into [`Program::symbols`].
        symbol: usize,
        /// The place of the value.
        place: Place,
    },
    /// Binds a symbol to the value of an expression.
    Let {
        /// Index into [`Program::symbols`].
        symbol: usize,
        /// An expression over symbols bound so far.
        value: Dim,
    },
    /// Fails the run unless all checks hold.
    Require {
        /// The checks, in order.
        checks: Vec<Check>,
    },
    /// Runs one of two lists of steps.
    If {
        /// The place of a `Bool`.
        condition: Place,
        /// Steps if it is true.
        then: Vec<Step>,
        /// Steps if it is false.
        otherwise: Vec<Step>,
        /// Indices into [`Program::symbols`] of those that both branches bind and later steps may use.
        binds: Vec<usize>,
        /// The graph node that it comes from.
        label: String,
    },
}

impl Step {
    /// The places that the step itself uses, without those of steps within it.
    pub fn places(&self) -> &[Place] {
        match self {
            Step::Call { args, .. } => args,
            Step::Bind { place, .. } | Step::If { condition: place, .. } => std::slice::from_ref(place),
            Step::Let { .. } | Step::Require { .. } => &[],
        }
    }

    /// The steps within it, in listing order.
    pub fn within(&self) -> Vec<&[Step]> {
        match self {
            Step::If { then, otherwise, .. } => vec![then, otherwise],
            Step::Call { .. } | Step::Bind { .. } | Step::Let { .. } | Step::Require { .. } => Vec::new(),
        }
    }

    /// Updates every place that the step and the steps within it use.
    pub fn change_places(&mut self, f: &mut dyn FnMut(&mut Place)) {
        match self {
            Step::Call { args, .. } => args.iter_mut().for_each(f),
            Step::Bind { place, .. } => f(place),
            Step::If { condition, then, otherwise, .. } => {
                f(condition);
                then.iter_mut().chain(otherwise).for_each(|step| step.change_places(f));
            }
            Step::Let { .. } | Step::Require { .. } => {}
        }
    }
}

/// Whether a step binds a symbol.
pub fn binds_late(symbol: &Sym, symbols: &[Symbol]) -> bool {
    symbols.iter().any(|s| s.name == *symbol && matches!(s.source, SymbolSource::Step { .. }))
}

/// An upper bound of `d` without the symbols that steps bind.
pub fn upper_bound(d: &Dim, symbols: &[Symbol]) -> Dim {
    let mut bound = d.clone();
    // A bound may depend on symbols bound by earlier steps, so the latest symbol goes first.
    for symbol in symbols.iter().rev() {
        if let SymbolSource::Step { max } = &symbol.source {
            bound = bounds::upper(&bound, &|s| (*s == symbol.name).then(|| (Dim::ZERO, max.clone())));
        }
    }
    bound
}
