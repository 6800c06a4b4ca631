//! Weights outside the object: constants become one more input of the model, which the caller maps from a file.

use std::collections::HashMap;

use bytes::Bytes;

use super::names::Names;
use super::program::{ALIGN, Constant, Place, Port, Program, Step};
use crate::ir::{DType, TensorType};

/// Takes the constants out of a model's programs; gives their bytes, each constant once and on a boundary of [`ALIGN`].
/// Every program then has a last input of just these bytes.
pub fn separate(programs: &mut [Program]) -> Vec<u8> {
    let mut blob: Vec<u8> = Vec::new();
    let mut known: HashMap<Bytes, i64> = HashMap::new();
    let mut place = |constant: Constant| {
        *known.entry(constant.data).or_insert_with_key(|data| {
            blob.resize(blob.len().next_multiple_of(ALIGN), 0);
            let at = blob.len() as i64;
            blob.extend_from_slice(data);
            at
        })
    };
    let offsets: Vec<Vec<i64>> = programs.iter_mut().map(|p| p.constants.drain(..).map(&mut place).collect()).collect();
    for (program, offsets) in programs.iter_mut().zip(offsets) {
        take_from_input(program, &offsets, blob.len());
    }
    blob
}

/// Replaces constants by parts of one more input of some bytes.
fn take_from_input(program: &mut Program, offsets: &[i64], bytes: usize) {
    let input = program.inputs.len();
    let (mut names, mut c_names) = (Names::default(), Names::default());
    for port in program.inputs.iter().chain(&program.outputs) {
        names.distinct(&port.name);
        c_names.distinct(&port.c_name);
    }
    let (name, c_name) = (names.distinct("weights"), c_names.c_name("input", "weights"));
    program.inputs.push(Port { name, c_name, ty: TensorType::fixed(DType::U8, &[bytes]) });
    let moved = |place: &mut Place| {
        if let Place::Constant(n) = *place {
            *place = Place::InputAt { input, offset: offsets[n] };
        }
    };
    for step in &mut program.steps {
        match step {
            Step::Call { args, .. } => args.iter_mut().for_each(moved),
            Step::Bind { place, .. } => moved(place),
        }
    }
}
