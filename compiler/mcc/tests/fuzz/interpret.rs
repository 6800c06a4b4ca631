//! Runs a lowered program with the interpreter of kernels.

use std::collections::HashMap;

use mcc_ir::{Dim, Error, Result, Sym, Tensor};
use mcc_kernel::kir::{PART, PARTS, interp};
use mcc_kernel::program::{Place, Port, Program, Step, SymbolSource};

/// The outputs for some inputs; shared steps run in `parts` parts, the last one first.
pub fn run(program: &Program, inputs: &[Tensor], parts: i64) -> Result<Vec<Tensor>> {
    let mut values: HashMap<Sym, i64> = HashMap::new();
    for symbol in &program.symbols {
        let value = match &symbol.source {
            SymbolSource::InputDim { input, axis } => inputs[*input].shape()[*axis] as i64,
            SymbolSource::InputElement { input, index } => inputs[*input].i64_at(*index),
            SymbolSource::Step { max } => value(max, &values)?,
        };
        values.insert(symbol.name.clone(), value);
    }
    // All buffers: inputs, outputs, constants, the arena.
    let mut memory: Vec<Vec<u8>> = inputs.iter().map(|t| t.data().to_vec()).collect();
    for port in &program.outputs {
        memory.push(vec![0xff; value(&port.ty.bytes(), &values)? as usize]);
    }
    memory.extend(program.constants.iter().map(|c| c.data.to_vec()));
    memory.push(vec![0xff; value(&program.arena_bytes, &values)? as usize]);
    let first_output = inputs.len();
    let bounds = values.clone();
    let mut run = Run { program, parts, first_output, bounds, values, memory };
    run.all(&program.steps)?;
    let Run { values, mut memory, .. } = run;
    let tensor = |(n, port): (usize, &Port)| {
        let shape = port.ty.shape.iter().map(|d| value(d, &values).map(|d| d as usize)).collect::<Result<Vec<_>>>()?;
        let mut bytes = std::mem::take(&mut memory[first_output + n]);
        bytes.truncate(shape.iter().product::<usize>() * port.ty.dtype.size());
        Tensor::new(port.ty.dtype, shape, bytes.into())
    };
    program.outputs.iter().enumerate().map(tensor).collect()
}

/// A run of a program.
struct Run<'a> {
    program: &'a Program,
    parts: i64,
    first_output: usize,
    /// The symbols' values before any step, and now.
    bounds: HashMap<Sym, i64>,
    values: HashMap<Sym, i64>,
    memory: Vec<Vec<u8>>,
}

impl Run<'_> {
    /// The buffer of a place and the offset in it, for a part of a shared step.
    fn at(&self, place: &Place, part: i64) -> Result<(usize, i64)> {
        let (first_constant, arena) = (self.first_output + self.program.outputs.len(), self.memory.len() - 1);
        let value = |d: &Dim| value(d, &self.bounds);
        Ok(match place {
            Place::Input(n) => (*n, 0),
            Place::InputAt { input, offset } => (*input, *offset),
            Place::Output(n) => (self.first_output + n, 0),
            Place::Constant(n) => (first_constant + n, 0),
            Place::Arena(offset) => (arena, value(offset)?),
            Place::Slot { offset, bytes } => (arena, value(offset)? + part * value(bytes)?),
        })
    }

    fn all(&mut self, steps: &[Step]) -> Result<()> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Call { kernel, args, shared, .. } => {
                let kernel = &self.program.kernels[*kernel];
                let parts = if shared.is_some() { self.parts.min(i64::from(self.program.threads)) } else { 1 };
                for part in (0..parts).rev() {
                    let pointers = args.iter().map(|place| self.at(place, part)).collect::<Result<Vec<_>>>()?;
                    let symbol = |s: &Sym| match &*s.0 {
                        PART => Ok(part),
                        PARTS => Ok(parts),
                        _ => value(&Dim::sym(s.0.clone()), &self.values),
                    };
                    let symbols = kernel.symbols.iter().map(symbol).collect::<Result<Vec<_>>>()?;
                    interp::run_at(kernel, &mut self.memory, &pointers, &symbols)?;
                }
            }
            Step::Bind { symbol, place } => {
                let bound = i64::from_le_bytes(self.bytes(place)?);
                self.bind(*symbol, bound);
            }
            Step::Let { symbol, value: dim } => {
                let bound = value(dim, &self.values)?;
                self.bind(*symbol, bound);
            }
            Step::Require { checks } => {
                for check in checks {
                    let values = |d: &Dim| value(d, &self.values).map_or_else(|_| d.clone(), Dim::from);
                    if check.condition.map(&values).holds() == Some(false) {
                        return Err(Error::invalid(check.text.clone()));
                    }
                }
            }
            Step::If { condition, then, otherwise, .. } => {
                let [condition] = self.bytes(condition)?;
                self.all(if condition != 0 { then } else { otherwise })?;
            }
        }
        Ok(())
    }

    fn bind(&mut self, symbol: usize, value: i64) {
        self.values.insert(self.program.symbols[symbol].name.clone(), value);
    }

    fn bytes<const N: usize>(&self, place: &Place) -> Result<[u8; N]> {
        let (buffer, offset) = self.at(place, 0)?;
        let bytes = self.memory[buffer].get(offset as usize..offset as usize + N).and_then(|b| b.try_into().ok());
        bytes.ok_or_else(|| Error::internal("nothing to read"))
    }
}

fn value(dim: &Dim, values: &HashMap<Sym, i64>) -> Result<i64> {
    dim.eval(&|s| values.get(s).copied()).ok_or_else(|| Error::internal(format!("{dim} has no value")))
}
