//! The last step of lowering: assigns places in the arena and builds the program.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::program::{Place, Port, Program, Step};
use super::{Arg, Buffer, Lowering, Planned, arena, kir, names, requirements};
use mcc_ir::{Dim, Error, Result, Sym};

impl Lowering<'_> {
    /// Assigns every buffer its place.
    pub(super) fn finish(self, name: &str) -> Result<Program> {
        let owner = |mut id: usize| {
            while let Some(&over) = self.made.shared.get(&id) {
                id = over;
            }
            id
        };
        let mut lives = self.made.lifetimes.clone();
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
            Buffer::Arena(id) => {
                let offset = offset_of[&owner(id)].clone();
                match self.made.slots.get(&id) {
                    Some(bytes) => Place::Slot { offset, bytes: bytes.clone() },
                    None => Place::Arena(offset),
                }
            }
        };
        let steps = self.placed(&self.steps, &place);
        let mut names = names::Names::default();
        let inputs = self.graph.inputs().iter().map(|&id| {
            let name = self.graph.label(id).to_string();
            Port { c_name: names.c_name("input", &name), name, ty: self.graph.ty(id.into()).clone() }
        });
        let inputs = inputs.collect();
        let outputs = self.graph.outputs.iter().map(|o| Port {
            c_name: names.c_name("output", &o.name),
            name: o.name.clone(),
            ty: self.graph.ty(o.value).clone(),
        });
        let outputs = outputs.collect();
        let memory = vec![(plan.bytes.clone(), "the arena".to_string())];
        let known = requirements::Known { symbols: &self.made.symbols, inputs: &self.made.inputs };
        let requires = requirements::checks(self.graph, &known, memory).before;
        let program = Program {
            name: name.to_string(),
            inputs,
            outputs,
            requires,
            constants: self.made.constants,
            kernels: self.made.kernels,
            steps,
            arena_bytes: plan.bytes,
            live_bytes: plan.live,
            traced: false,
            checked: self.config.checked,
            threads: self.config.threads,
            weights_id: None,
            decisions: self.made.decisions,
            symbols: self.made.symbols,
        };
        check_symbols(&program)?;
        if self.config.checked {
            program.kernels.iter().try_for_each(kir::verify::verify)?;
        }
        Ok(program)
    }
}

impl Lowering<'_> {
    /// Steps with the places of their buffers.
    fn placed(&self, steps: &[Planned], place: &dyn Fn(&Buffer) -> Place) -> Vec<Step> {
        let place_of = |arg: &Arg| match place(&arg.buffer) {
            Place::Arena(offset) => Place::Arena(&offset + &arg.offset),
            place => place,
        };
        let step = |step: &Planned| match step {
            Planned::Call { kernel, args, label, work } => {
                let args = args.iter().map(place_of).collect();
                let shared = self.threads(&self.made.kernels[*kernel], work) > 1;
                let shared = shared.then(|| self.bound(&work.nanoseconds(&self.config.target)));
                Step::Call { kernel: *kernel, args, label: label.clone(), work: work.clone(), shared }
            }
            Planned::Bind { symbol, buffer } => Step::Bind { symbol: *symbol, place: place(buffer) },
            Planned::Let { symbol, value } => Step::Let { symbol: *symbol, value: value.clone() },
            Planned::Require(checks) => Step::Require { checks: checks.clone() },
            Planned::If { condition, branches: [then, otherwise], binds, label } => Step::If {
                condition: place(condition),
                then: self.placed(then, place),
                otherwise: self.placed(otherwise, place),
                binds: binds.clone(),
                label: label.clone(),
            },
        };
        steps.iter().map(step).collect()
    }
}

/// Every symbol that the program needs must be bound.
fn check_symbols(program: &Program) -> Result<()> {
    let offsets = program.all_steps().flat_map(Step::places);
    let offsets = offsets.flat_map(|place| match place {
        Place::Arena(offset) => vec![offset],
        Place::Slot { offset, bytes } => vec![offset, bytes],
        Place::Input(_) | Place::InputAt { .. } | Place::Output(_) | Place::Constant(_) => Vec::new(),
    });
    let ports = program.inputs.iter().chain(&program.outputs).flat_map(|p| &p.ty.shape);
    let within = program.all_steps().flat_map(|step| match step {
        Step::Require { checks } => checks.iter().flat_map(|check| check.condition.dims()).collect(),
        Step::Let { value, .. } => vec![value],
        Step::Call { .. } | Step::Bind { .. } | Step::If { .. } => Vec::new(),
    });
    let required = program.requires.iter().flat_map(|check| check.condition.dims()).chain(within);
    let dims: HashSet<&Dim> = offsets.chain(ports).chain(required).chain([&program.arena_bytes]).collect();
    if dims.iter().any(|d| d.is_too_large()) {
        return Err(Error::unsupported("the memory that the model needs is too long an expression of its dimensions")
            .help("pin some of them with --dim or --shape"));
    }
    let mut missing: BTreeSet<Sym> = dims.into_iter().flat_map(Dim::symbols).collect();
    missing.extend(program.kernels.iter().flat_map(|k| &k.symbols).filter(|s| !kir::is_part(s)).cloned());
    missing.retain(|s| !program.symbols.iter().any(|x| x.name == *s));
    let errors = missing.into_iter().map(|s| {
        Error::unsupported(format!("dimension '{s}' depends on data that is known only while the model runs"))
            .help(format!("pin it with --dim {s}=N, or the model's inputs with --shape"))
    });
    Error::all(errors.collect()).map_or(Ok(()), Err)
}
