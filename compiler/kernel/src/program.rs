//! What lowering hands to code generation: kernels, the order of their calls, where every buffer lies.
//!
//! Contract for emitters:
//! - A kernel is one function. Its arguments are, in order, one pointer per entry of [`Step::Call`]'s `args`
//!   (`Kernel::pointers` of them), then one `i64` per symbol in [`Kernel::symbols`](super::kir::Kernel::symbols).
//!   Of kernels that [threads share](super::kir::share) the last two say which part to do; where a step is not shared, it
//!   is part 0 of 1.
//! - Before any step, the entry binds the symbols whose source is an input's dimension or element, checks every port's
//!   dimensions and [`Program::requires`] with overflow detection, and checks the arena's size. Only then memory is written.
//!   What depends on a symbol that a step binds, and what a branch requires, is a [`Step::Require`].
//! - Steps are a tree: those of a branch run only where it is taken, and symbols that they bind are not known after it, except
//!   [`Step::If`]'s own.
//! - Dimension expressions may use symbols bound so far.

use bytes::Bytes;
use mcc_targets::{Target, schedule};

use super::kir::Kernel;
use mcc_ir::{Condition, Decision, Dim, Sym, TensorType, bounds};

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
    /// What must hold before any step, in the order in which it is checked.
    pub requires: Vec<Check>,
    /// Read-only data.
    pub constants: Vec<Constant>,
    /// Distinct kernels.
    pub kernels: Vec<Kernel>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// Bytes of arena, which must be aligned to [`ALIGN`].
    pub arena_bytes: Dim,
    /// Largest sum of tensors that are live at once, for reports.
    pub live_bytes: Dim,
    /// Whether the object calls `void mcc_step(int32_t)` with the number of a call before every call of a kernel, and with -1
    /// after the last one, for profiles.
    pub traced: bool,
    /// Whether emitters check their own work.
    pub checked: bool,
    /// Most threads that a run may use.
    pub threads: u32,
    /// Where the weights are the last input: what its first eight bytes say, little-endian.
    pub weights_id: Option<i64>,
    /// What was decided about layers, for reports.
    pub decisions: Vec<Decision>,
}

impl Program {
    /// What the caller must make room for where a dimension is this one: its upper bound before any step has run.
    pub fn most(&self, d: &Dim) -> Dim {
        let most = upper_bound(d, &self.symbols);
        if most == *d { most } else { most.greater(&Dim::ZERO) }
    }

    /// Whether a program of the same model does the same, by the same kernels.
    pub fn runs_as(&self, other: &Program) -> bool {
        self.kernels == other.kernels && self.steps == other.steps && self.constants == other.constants
    }

    /// The input that holds the weights, where they are not in the object.
    pub fn weights_input(&self) -> Option<usize> {
        self.all_steps().flat_map(Step::places).find_map(|place| match place {
            Place::InputAt { input, .. } => Some(*input),
            _ => None,
        })
    }

    /// Every step, those within a step right behind it.
    pub fn all_steps(&self) -> Steps<'_> {
        Steps { open: vec![self.steps.iter()] }
    }

    /// Every call of a kernel, in the same order. Its number is what the program tells when it is [traced](Program::traced).
    pub fn calls(&self) -> impl Iterator<Item = Call<'_>> {
        self.all_steps().filter_map(|step| match step {
            Step::Call { kernel, label, work, .. } => Some(Call { kernel: &self.kernels[*kernel], label, work }),
            Step::Bind { .. } | Step::Let { .. } | Step::Require { .. } | Step::If { .. } => None,
        })
    }

    /// Multiply-adds of a run, as operations are defined; of branches those of the one that has more.
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

/// A call of a kernel, as reports see it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// What is called.
    pub kernel: &'a Kernel,
    /// The graph node that it computes.
    pub label: &'a str,
    /// How much that is.
    pub work: &'a Work,
}

/// A walk through all steps.
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

/// Something that must hold for the program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What must hold; it does not where computing it overflows.
    pub condition: Condition,
    /// What is wrong when it does not hold, in the caller's terms.
    pub text: String,
}

/// A dimension that is known at run time.
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
    /// An element of an input; of a float, its bits.
    InputElement {
        /// Which input.
        input: usize,
        /// Which element, in row-major order.
        index: usize,
    },
    /// A [`Step::Bind`] or a [`Step::Let`]; never more than `max`, which sizes buffers.
    Step {
        /// Upper bound, over symbols bound before.
        max: Dim,
    },
}

/// Read-only data of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constant {
    /// What it is, for listings.
    pub label: String,
    /// Its bytes.
    pub data: Bytes,
}

/// Where a buffer lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The caller's input.
    Input(usize),
    /// Within the caller's input, from a byte offset on.
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
    /// In the arena, once for each thread that shares the step.
    Slot {
        /// Where that of the first thread begins.
        offset: Dim,
        /// Bytes between those of two threads, a multiple of [`ALIGN`].
        bytes: Dim,
    },
    /// In read-only data.
    Constant(usize),
}

/// How much a step has to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Multiplications that are added to something, as the operation is defined.
    pub multiply_adds: Dim,
    /// Whether they are of 8-bit integers.
    pub integers: bool,
    /// Bytes of the tensors that it reads and writes.
    pub bytes: Dim,
    /// Elements of its results: where they depend on symbols and turn out none, the step is left out.
    pub elements: Dim,
    /// Shapes of the operands and of the first result, for people.
    pub shapes: String,
}

impl Work {
    /// What it takes one thread, roughly.
    pub fn nanoseconds(&self, target: &Target) -> Dim {
        let rate = schedule::threads::multiply_adds_per_ns(target)
            * if self.integers { schedule::threads::INT8_SPEEDUP } else { 1 };
        let bytes = self.bytes.floor_div(&Dim::from(schedule::threads::bytes_per_ns(target)));
        &self.multiply_adds.floor_div(&Dim::from(rate)) + &bytes
    }
}

/// One thing to do.
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
        /// How much that is, for profiles.
        work: Work,
        /// What it takes one thread, in nanoseconds and roughly, where several threads may share it.
        shared: Option<Dim>,
    },
    /// Gives a symbol the `i64` at a place.
    Bind {
        /// Index into [`Program::symbols`].
        symbol: usize,
        /// Where the value lies.
        place: Place,
    },
    /// Gives a symbol the value of an expression.
    Let {
        /// Index into [`Program::symbols`].
        symbol: usize,
        /// Over symbols bound so far.
        value: Dim,
    },
    /// Refuses to go on unless all of it holds.
    Require {
        /// In this order.
        checks: Vec<Check>,
    },
    /// Does one of two things.
    If {
        /// A `Bool`.
        condition: Place,
        /// Where it is true.
        then: Vec<Step>,
        /// Where it is not.
        otherwise: Vec<Step>,
        /// Indices into [`Program::symbols`] of what both bind and is known afterwards.
        binds: Vec<usize>,
        /// The graph node that it stems from.
        label: String,
    },
}

impl Step {
    /// The places that it names itself; not those of steps within it.
    pub fn places(&self) -> &[Place] {
        match self {
            Step::Call { args, .. } => args,
            Step::Bind { place, .. } | Step::If { condition: place, .. } => std::slice::from_ref(place),
            Step::Let { .. } | Step::Require { .. } => &[],
        }
    }

    /// The steps within it, in the order of the listing.
    pub fn within(&self) -> Vec<&[Step]> {
        match self {
            Step::If { then, otherwise, .. } => vec![then, otherwise],
            Step::Call { .. } | Step::Bind { .. } | Step::Let { .. } | Step::Require { .. } => Vec::new(),
        }
    }

    /// Changes every place that it and the steps within it name.
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

/// What `d` is at most, without the symbols that steps bind.
pub fn upper_bound(d: &Dim, symbols: &[Symbol]) -> Dim {
    let mut bound = d.clone();
    // A bound may itself depend on symbols bound by earlier steps, so the latest goes first.
    for symbol in symbols.iter().rev() {
        if let SymbolSource::Step { max } = &symbol.source {
            bound = bounds::upper(&bound, &|s| (*s == symbol.name).then(|| (Dim::ZERO, max.clone())));
        }
    }
    bound
}
