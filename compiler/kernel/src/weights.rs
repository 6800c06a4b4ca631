//! Weights outside the object: constants become one more input of the model, which the caller maps from a file.
//!
//! The file begins with [`ALIGN`] bytes of which the first eight say whose weights these are; the program knows them too, so
//! that another model's file of the same size is refused. Kernels read constants at any address.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;

use super::names::Names;
use super::program::{ALIGN, Constant, Place, Port, Program};
use mcc_ir::{DType, Error, Result, TensorType};

/// The places of a model's constants in one run of bytes, each constant once and on a boundary of [`ALIGN`].
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

/// Whether the constants of a model's programs, each counted once, are more than so many bytes.
pub fn exceed(programs: &[Program], limit: usize) -> bool {
    let constants = || programs.iter().flat_map(|p| &p.constants);
    // Which ones are equal is only asked where that matters.
    if constants().map(|constant| constant.data.len().next_multiple_of(ALIGN)).sum::<usize>() <= limit {
        return false;
    }
    let mut places = Places::default();
    constants().for_each(|constant| {
        places.of(constant);
    });
    places.bytes > limit
}

/// Takes the constants out of a model's programs; gives their bytes. Every program then has a last input of just these.
///
/// # Errors
/// When the system has no memory for them.
pub fn separate(programs: &mut [Program]) -> Result<Bytes> {
    let mut places = Places { bytes: ALIGN, ..Places::default() };
    let offsets: Vec<Vec<usize>> =
        programs.iter_mut().map(|p| p.constants.drain(..).map(|constant| places.of(&constant)).collect()).collect();
    // A model without weights takes none.
    let bytes = if places.known.is_empty() { 0 } else { places.bytes };
    for (program, offsets) in programs.iter_mut().zip(offsets) {
        take_from_input(program, &offsets, bytes);
    }
    if bytes == 0 {
        return Ok(Bytes::new());
    }
    // Pages of their own, which begin where programs find a mapped file.
    let mut all = memmap2::MmapMut::map_anon(bytes).map_err(|e| Error::io("the weights", &e))?;
    for (data, at) in places.known {
        all[at..at + data.len()].copy_from_slice(&data);
    }
    let id = identity(&all);
    programs.iter_mut().for_each(|program| program.weights_id = Some(id));
    all[..8].copy_from_slice(&id.to_le_bytes());
    Ok(Bytes::from_owner(all))
}

/// A number that other weights hardly have, and no empty file.
fn identity(bytes: &[u8]) -> i64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish().max(1).cast_signed()
}

/// Replaces constants by parts of one more input of some bytes.
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
