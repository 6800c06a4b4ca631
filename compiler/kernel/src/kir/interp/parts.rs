//! Interprets shared kernels: runs all parts in turn, and checks whether one accesses memory that another one writes.
//! On threads that would be a race, whatever the interpreter's results.

use std::ops::Range;

use super::super::{Kernel, PART, PARTS};
use super::execute;
use mcc_ir::Result;

/// Kind of memory access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// The parts that have read and written each byte of memory that threads share.
pub(super) struct Parts {
    /// The current part, from 1 on.
    part: u32,
    /// One buffer per pointer; empty for memory that each thread has its own copy of.
    buffers: Vec<Vec<Touched>>,
}

/// The parts that accessed a byte.
#[derive(Debug, Clone, Copy, Default)]
struct Touched {
    /// The part that wrote it, or 0.
    writer: u32,
    /// A part that read it, or 0.
    reader: u32,
    /// Another part that read it, or 0.
    other: u32,
}

impl Parts {
    /// Records an access by the current part.
    pub(super) fn note(&mut self, buffer: usize, bytes: Range<usize>, access: Access) -> Result<(), String> {
        let (part, first) = (self.part, bytes.start);
        let Some(touched) = self.buffers[buffer].get_mut(bytes) else { return Ok(()) };
        let others = |other: u32| other != 0 && other != part;
        for (n, byte) in touched.iter_mut().enumerate() {
            let at = format_args!("byte {} of buffer {buffer}", first + n);
            match access {
                Access::Read if others(byte.writer) => {
                    return Err(format!("part {} reads {at}, which part {} writes", part - 1, byte.writer - 1));
                }
                Access::Read if byte.reader == 0 => byte.reader = part,
                Access::Read if others(byte.reader) => byte.other = part,
                Access::Read => {}
                Access::Write if others(byte.writer) => {
                    return Err(format!("part {} writes {at}, which part {} writes too", part - 1, byte.writer - 1));
                }
                Access::Write => {
                    if let Some(reader) = [byte.reader, byte.other].into_iter().find(|&r| others(r)) {
                        return Err(format!("part {} writes {at}, which part {} reads", part - 1, reader - 1));
                    }
                    byte.writer = part;
                }
            }
        }
        Ok(())
    }
}

/// Runs a kernel part by part, the last one first; a kernel that is not shared runs once. `symbols` are those of
/// [`run`](super::run), with [`PART`] and [`PARTS`] replaced. Each thread has its own copy of the buffers in `own`:
/// their content is lost between parts.
///
/// # Errors
/// As [`run`](super::run), and when a part accesses memory that another part writes.
pub fn run_parts(
    kernel: &Kernel,
    memory: &mut [Vec<u8>],
    symbols: &[i64],
    parts: u32,
    own: Range<usize>,
) -> Result<()> {
    if !kernel.is_shared() {
        return super::run(kernel, memory, symbols);
    }
    let shared = |(n, bytes): (usize, &Vec<u8>)| match own.contains(&n) {
        true => Vec::new(),
        false => vec![Touched::default(); bytes.len()],
    };
    let buffers = memory.iter().enumerate().map(shared).collect();
    let mut noted = Parts { part: 0, buffers };
    let mut symbols = symbols.to_vec();
    for part in (0..parts).rev() {
        noted.part = part + 1;
        memory[own.clone()].iter_mut().for_each(|bytes| bytes.fill(0xee));
        for (value, symbol) in symbols.iter_mut().zip(&kernel.symbols) {
            match &*symbol.0 {
                PART => *value = i64::from(part),
                PARTS => *value = i64::from(parts),
                _ => {}
            }
        }
        execute(kernel, memory, &symbols, true, Some(&mut noted))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kir::{Bin, Builder, Elem, Ty, Val};

    const BYTE: Ty = Ty { elem: Elem::I8, lanes: 1 };

    /// Eight shared rounds over three buffers of eight bytes; each thread has its own copy of the last one.
    fn shared(round: impl FnOnce(&mut Builder, [Val; 3], Val)) -> Kernel {
        let mut k = Builder::new("rounds", 3).with_threads(2);
        let buffers = [k.pointer(0), k.pointer(1), k.pointer(2)];
        let (zero, eight) = (k.int(0), k.int(8));
        k.parallel(zero, eight, 1, |k, i| round(k, buffers, i));
        k.finish()
    }

    fn copy(k: &mut Builder, (from, i): (Val, Val), (to, j): (Val, Val)) {
        let at = k.at_index(from, i, 1);
        let v = k.load(BYTE, at);
        let at = k.at_index(to, j, 1);
        k.store(at, v);
    }

    fn outcome(kernel: &Kernel, parts: u32) -> Result<Vec<Vec<u8>>, String> {
        let mut memory = vec![(0..8).collect(), vec![0; 8], vec![0; 8]];
        let symbols = vec![0; kernel.symbols.len()];
        run_parts(kernel, &mut memory, &symbols, parts, 2..3).map_err(|e| e.to_string())?;
        Ok(memory)
    }

    #[test]
    fn parts_that_keep_apart() {
        let kernel = shared(|k, [from, to, own], i| {
            let zero = k.int(0);
            copy(k, (from, i), (own, zero));
            copy(k, (own, zero), (to, i));
            // A round may read its own writes.
            copy(k, (to, i), (to, i));
        });
        for parts in [1, 2, 3, 64] {
            assert_eq!(outcome(&kernel, parts).unwrap()[1], (0..8).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn parts_that_meet_are_told() {
        let next = |k: &mut Builder, i: Val| {
            let (next, last) = (k.add_int(i, 1), k.int(7));
            k.bin(Bin::Min, next, last)
        };
        // Rounds write the same byte, read what the next one writes, or write what the next one reads.
        let all_write = shared(|k, [from, to, _], i| {
            let zero = k.int(0);
            copy(k, (from, i), (to, zero));
        });
        let reads_written = shared(|k, [_, to, own], i| {
            let (zero, next) = (k.int(0), next(k, i));
            copy(k, (to, next), (own, zero));
            copy(k, (own, zero), (to, i));
        });
        let writes_read = shared(|k, [_, to, own], i| {
            let (zero, next) = (k.int(0), next(k, i));
            copy(k, (to, i), (own, zero));
            copy(k, (own, zero), (to, next));
        });
        // A second loop reads other bytes that the first one wrote.
        let mut k = Builder::new("loops", 3).with_threads(2);
        let (from, to) = (k.pointer(0), k.pointer(1));
        let (zero, eight, four) = (k.int(0), k.int(8), k.int(4));
        k.parallel(zero, eight, 1, |k, i| copy(k, (from, i), (to, i)));
        k.parallel(zero, four, 1, |k, i| copy(k, (to, i), (from, i)));
        let loops = k.finish();
        for (kernel, told) in [
            (all_write, "part 0 writes byte 0 of buffer 1, which part 1 writes too"),
            (reads_written, "part 0 reads byte 4 of buffer 1, which part 1 writes"),
            (writes_read, "part 0 writes byte 4 of buffer 1, which part 1 reads"),
            (loops, "part 0 reads byte 2 of buffer 0, which part 1 writes"),
        ] {
            assert!(outcome(&kernel, 1).is_ok());
            let error = outcome(&kernel, 2).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
