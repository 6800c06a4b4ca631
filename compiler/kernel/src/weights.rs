//! Weights outside the object: constants become an additional model input, which the caller maps from a file.
//!
//! The file begins with [`ALIGN`] bytes, the first eight of which identify the weights; the program knows this number,
//! so it refuses a file of the same size from another model. Kernels read constants at any address.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;

use super::names::Names;
use super::program::{ALIGN, Constant, Place, Port, Program};
use mcc_ir::{DType, Error, Result, TensorType};

/// The offsets of a model's constants in one buffer, each constant once and aligned to [`ALIGN`].
#[derive(Default)]
struct Places {
    known: HashMap<Bytes, usize>,
    bytes: usize,
}

impl Places {
    fn of(&mut self, constant: &Constant) -> usize {
        *self.known.entry(constant.data.clone()).or_insert_with_key(|data| {
            let at = self.bytes.next_multiple_of(ALIGN);
            self.bytes = at + data.len();
            at
        })
    }
}

/// Whether the distinct constants of a model's programs exceed `limit` bytes.
pub fn exceed(programs: &[Program], limit: usize) -> bool {
    let constants = || programs.iter().flat_map(|p| &p.constants);
    // Constants are compared only if that matters.
    if constants().map(|constant| constant.data.len().next_multiple_of(ALIGN)).sum::<usize>() <= limit {
        return false;
    }
    let mut places = Places::default();
    constants().for_each(|constant| {
        places.of(constant);
    });
    places.bytes > limit
}

/// Removes the constants from a model's programs and returns their bytes. Every program then has them as its last
/// input.
///
/// # Errors
/// When memory allocation fails.
pub fn separate(programs: &mut [Program]) -> Result<Bytes> {
    let mut places = Places { bytes: ALIGN, ..Places::default() };
    let offsets: Vec<Vec<usize>> =
        programs.iter_mut().map(|p| p.constants.drain(..).map(|constant| places.of(&constant)).collect()).collect();
    // A model without weights has an empty input.
    let bytes = if places.known.is_empty() { 0 } else { places.bytes };
    for (program, offsets) in programs.iter_mut().zip(offsets) {
        take_from_input(program, &offsets, bytes);
    }
    if bytes == 0 {
        return Ok(Bytes::new());
    }
    // Page-aligned, as a mapped file is.
    let mut all = memmap2::MmapMut::map_anon(bytes).map_err(|e| Error::io("the weights", &e))?;
    for (data, at) in places.known {
        all[at..at + data.len()].copy_from_slice(&data);
    }
    let id = identity(&all);
    programs.iter_mut().for_each(|program| program.weights_id = Some(id));
    all[..8].copy_from_slice(&id.to_le_bytes());
    Ok(Bytes::from_owner(all))
}

/// A number that identifies the weights; never 0, the number of an empty file.
fn identity(bytes: &[u8]) -> i64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish().max(1).cast_signed()
}

/// Replaces constants by offsets in an additional input of `bytes` bytes.
fn take_from_input(program: &mut Program, offsets: &[usize], bytes: usize) {
    let input = program.inputs.len();
    let (mut names, mut c_names) = (Names::default(), Names::default());
    for port in program.inputs.iter().chain(&program.outputs) {
        names.distinct(&port.name);
        c_names.distinct(&port.c_name);
    }
    let (name, c_name) = (names.distinct("weights"), c_names.c_name("input", "weights"));
    program.inputs.push(Port { name, c_name, ty: TensorType::fixed(DType::U8, &[bytes]) });
    let mut moved = |place: &mut Place| {
        if let Place::Constant(n) = *place {
            *place = Place::InputAt { input, offset: offsets[n] as i64 };
        }
    };
    program.steps.iter_mut().for_each(|step| step.change_places(&mut moved));
}
