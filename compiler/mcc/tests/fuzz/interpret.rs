//! A lowered program, run by the interpreter of kernels.

use std::collections::HashMap;

use mcc_ir::{Dim, Error, Result, Sym, Tensor};
use mcc_kernel::kir::{PART, PARTS, interp};
use mcc_kernel::program::{Place, Port, Program, Step, SymbolSource};

/// The outputs for some inputs; shared steps run in so many parts, the last one first.
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
    let (first_output, arena) = (inputs.len(), memory.len() - 1);
    let first_constant = first_output + program.outputs.len();
    let bounds = values.clone();
    let at = |place: &Place, part: i64| -> Result<(usize, i64)> {
        Ok(match place {
            Place::Input(n) => (*n, 0),
            Place::InputAt { input, offset } => (*input, *offset),
            Place::Output(n) => (first_output + n, 0),
            Place::Constant(n) => (first_constant + n, 0),
            Place::Arena(offset) => (arena, value(offset, &bounds)?),
            Place::Slot { offset, bytes } => (arena, value(offset, &bounds)? + part * value(bytes, &bounds)?),
        })
    };
    for step in &program.steps {
        match step {
            Step::Call { kernel, args, shared, .. } => {
                let kernel = &program.kernels[*kernel];
                let parts = if shared.is_some() { parts.min(i64::from(program.threads)) } else { 1 };
                for part in (0..parts).rev() {
                    let pointers = args.iter().map(|place| at(place, part)).collect::<Result<Vec<_>>>()?;
                    let symbol = |s: &Sym| match &*s.0 {
                        PART => Ok(part),
                        PARTS => Ok(parts),
                        _ => value(&Dim::sym(s.0.clone()), &values),
                    };
                    let symbols = kernel.symbols.iter().map(symbol).collect::<Result<Vec<_>>>()?;
                    interp::run_at(kernel, &mut memory, &pointers, &symbols)?;
                }
            }
            Step::Bind { symbol, place } => {
                let (buffer, offset) = at(place, 0)?;
                let bytes = memory[buffer].get(offset as usize..offset as usize + 8).and_then(|b| b.try_into().ok());
                let bound = bytes.map(i64::from_le_bytes).ok_or_else(|| Error::internal("no i64 to bind"))?;
                values.insert(program.symbols[*symbol].name.clone(), bound);
            }
        }
    }
    let tensor = |(n, port): (usize, &Port)| {
        let shape = port.ty.shape.iter().map(|d| value(d, &values).map(|d| d as usize)).collect::<Result<Vec<_>>>()?;
        let mut bytes = std::mem::take(&mut memory[first_output + n]);
        bytes.truncate(shape.iter().product::<usize>() * port.ty.dtype.size());
        Tensor::new(port.ty.dtype, shape, bytes.into())
    };
    program.outputs.iter().enumerate().map(tensor).collect()
}

fn value(dim: &Dim, values: &HashMap<Sym, i64>) -> Result<i64> {
    dim.eval(&|s| values.get(s).copied()).ok_or_else(|| Error::internal(format!("{dim} has no value")))
}
