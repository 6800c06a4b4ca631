//! Weights outside the object: constants become one more input of the model, which the caller maps from a file.

use super::names::Names;
use super::program::{ALIGN, Place, Port, Program, Step};
use crate::ir::{DType, TensorType};

/// Takes the constants out of a program; gives their bytes, each constant on a boundary of [`ALIGN`]. The program then has
/// a last input of just these bytes.
pub fn separate(program: &mut Program) -> Vec<u8> {
    let mut blob: Vec<u8> = Vec::new();
    let mut offsets = Vec::with_capacity(program.constants.len());
    for constant in program.constants.drain(..) {
        blob.resize(blob.len().next_multiple_of(ALIGN), 0);
        offsets.push(blob.len() as i64);
        blob.extend_from_slice(&constant.data);
    }
    let input = program.inputs.len();
    let mut names = Names::default();
    program.inputs.iter().chain(&program.outputs).for_each(|p| {
        names.c_name(&p.c_name, "port");
    });
    let c_name = names.c_name("weights", "weights");
    program.inputs.push(Port { name: c_name.clone(), c_name, ty: TensorType::fixed(DType::U8, &[blob.len()]) });
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
    blob
}
