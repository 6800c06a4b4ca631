//! A lowered program, run by the interpreter of kernels.

use std::collections::HashMap;

use crate::ir::{Dim, Sym, Tensor};
use crate::lower::kir::{PART, PARTS, interp};
use crate::lower::program::{Place, Program, Step, SymbolSource};
use crate::{Error, Result};

/// The outputs for some inputs; shared steps run in so many parts, the last one first.
pub fn run(program: &Program, inputs: &[Tensor], parts: i64) -> Result<Vec<Tensor>> {
    let mut machine = Machine { program, inputs, values: HashMap::new(), arena: Vec::new(), outputs: Vec::new() };
    for symbol in &program.symbols {
        let value = match &symbol.source {
            SymbolSource::InputDim { input, axis } => inputs[*input].shape()[*axis] as i64,
            SymbolSource::InputElement { input, index } => inputs[*input].i64_at(*index),
            SymbolSource::Step { max } => machine.value(max)?,
        };
        machine.values.insert(symbol.name.clone(), value);
    }
    machine.arena = vec![0xff; machine.value(&program.arena_bytes)? as usize];
    for port in &program.outputs {
        machine.outputs.push(vec![0xff; machine.value(&port.ty.bytes())? as usize]);
    }
    let bounds = machine.values.clone();
    for step in &program.steps {
        match step {
            Step::Call { kernel, args, shared, .. } => {
                let parts = if shared.is_some() { parts.min(i64::from(program.threads)) } else { 1 };
                for part in (0..parts).rev() {
                    machine.call(*kernel, args, (part, parts), &bounds)?;
                }
            }
            Step::Bind { symbol, place } => {
                let bytes = machine.bytes(place, 0, &bounds)?;
                let value = i64::from_le_bytes(bytes[..8].try_into().map_err(|_| Error::internal("no i64 to bind"))?);
                machine.values.insert(program.symbols[*symbol].name.clone(), value);
            }
        }
    }
    let outputs = std::mem::take(&mut machine.outputs);
    let tensor = |(mut bytes, port): (Vec<u8>, &crate::lower::program::Port)| {
        let shape: Vec<usize> =
            port.ty.shape.iter().map(|d| machine.value(d).map(|d| d as usize)).collect::<Result<_>>()?;
        bytes.truncate(shape.iter().product::<usize>() * port.ty.dtype.size());
        Tensor::new(port.ty.dtype, shape, bytes.into())
    };
    outputs.into_iter().zip(&program.outputs).map(tensor).collect()
}

struct Machine<'a> {
    program: &'a Program,
    inputs: &'a [Tensor],
    values: HashMap<Sym, i64>,
    arena: Vec<u8>,
    outputs: Vec<Vec<u8>>,
}

fn eval(dim: &Dim, values: &HashMap<Sym, i64>) -> Result<i64> {
    dim.eval(&|s| values.get(s).copied()).ok_or_else(|| Error::internal(format!("{dim} has no value")))
}

impl Machine<'_> {
    fn value(&self, dim: &Dim) -> Result<i64> {
        eval(dim, &self.values)
    }

    /// All from a place on.
    fn bytes(&self, place: &Place, part: i64, bounds: &HashMap<Sym, i64>) -> Result<&[u8]> {
        let (buffer, offset): (&[u8], i64) = match place {
            Place::Input(n) => (self.inputs[*n].data(), 0),
            Place::InputAt { input, offset } => (self.inputs[*input].data(), *offset),
            Place::Output(n) => (&self.outputs[*n], 0),
            Place::Arena(offset) => (&self.arena, eval(offset, bounds)?),
            Place::Slot { offset, bytes } => (&self.arena, eval(offset, bounds)? + part * eval(bytes, bounds)?),
            Place::Constant(n) => (&self.program.constants[*n].data, 0),
        };
        buffer.get(offset as usize..).ok_or_else(|| Error::internal(format!("{place:?} lies at {offset}, outside")))
    }

    /// Runs a kernel on copies of all its buffers, which may overlap, and stores what it changed.
    fn call(&mut self, kernel: usize, args: &[Place], part: (i64, i64), bounds: &HashMap<Sym, i64>) -> Result<()> {
        let kernel = &self.program.kernels[kernel];
        let before: Vec<Vec<u8>> =
            args.iter().map(|a| Ok(self.bytes(a, part.0, bounds)?.to_vec())).collect::<Result<_>>()?;
        let symbol = |s: &Sym| match &*s.0 {
            PART => Ok(part.0),
            PARTS => Ok(part.1),
            _ => self.value(&Dim::sym(s.0.clone())),
        };
        let symbols = kernel.symbols.iter().map(symbol).collect::<Result<Vec<_>>>()?;
        let mut after = before.clone();
        interp::run(kernel, &mut after, &symbols)?;
        for ((place, before), after) in args.iter().zip(&before).zip(&after) {
            if before == after {
                continue;
            }
            let (buffer, offset) = match place {
                Place::Output(n) => (&mut self.outputs[*n], 0),
                Place::Arena(offset) => (&mut self.arena, eval(offset, bounds)?),
                Place::Slot { offset, bytes } => {
                    (&mut self.arena, eval(offset, bounds)? + part.0 * eval(bytes, bounds)?)
                }
                _ => return Err(Error::internal(format!("{} writes to {place:?}", kernel.name))),
            };
            let to = &mut buffer[offset as usize..];
            for (to, (before, after)) in to.iter_mut().zip(before.iter().zip(after)) {
                if before != after {
                    *to = *after;
                }
            }
        }
        Ok(())
    }
}
