//! An interpreter of kernels over byte memory: the oracle for emitters and for kernel tests.
//!
//! ```ignore
//! let mut memory = vec![input_bytes, vec![0; output_bytes]];
//! interp::run(&kernel, &mut memory, &[batch])?;
//! ```
//!
//! - Pointer argument `n` is the start of `memory[n]`; a kernel has one buffer per pointer, in the order of its pointers
//!   (for kernels of [`kernels::build`](crate::kernels::build): operands, epilogue leaves, results, scratch).
//! - `symbols[n]` is the value of `kernel.symbols[n]`.
//! - An address belongs to the buffer that it is derived from; an access outside that buffer is an error, and so is all
//!   undefined behaviour of the kernel IR (division by zero, shifts by the width or more, overlapping copies,
//!   violations of [`DotKind::S8Narrow`](super::DotKind::S8Narrow)).
//! - A fused multiply-add rounds once; [`run_unfused`] rounds twice, as targets without the instruction do.
//! - [`run_parts`] runs a shared kernel part by part, and detects parts that write to memory that others access.

mod compute;
mod numbers;
mod parts;

pub use parts::run_parts;
use parts::{Access, Parts};

use super::{Addr, Kernel, Stmt, Ty, Val, verify};
use mcc_ir::{Error, Result};

/// Runs a kernel.
///
/// # Errors
/// Internal errors when the kernel is invalid or its behaviour undefined, or when buffers or symbols are missing.
pub fn run(kernel: &Kernel, memory: &mut [Vec<u8>], symbols: &[i64]) -> Result<()> {
    execute(kernel, memory, symbols, true, None)
}

/// Runs a kernel like a target without fused multiply-add.
///
/// # Errors
/// As [`run`].
pub fn run_unfused(kernel: &Kernel, memory: &mut [Vec<u8>], symbols: &[i64]) -> Result<()> {
    execute(kernel, memory, symbols, false, None)
}

/// Runs a kernel whose pointers may share buffers: each is a buffer's number and a byte offset.
///
/// # Errors
/// As [`run`].
pub fn run_at(kernel: &Kernel, memory: &mut [Vec<u8>], pointers: &[(usize, i64)], symbols: &[i64]) -> Result<()> {
    execute_at(kernel, memory, pointers, symbols, true, None)
}

fn execute(
    kernel: &Kernel,
    memory: &mut [Vec<u8>],
    symbols: &[i64],
    fused: bool,
    parts: Option<&mut Parts>,
) -> Result<()> {
    let pointers: Vec<(usize, i64)> = (0..memory.len()).map(|n| (n, 0)).collect();
    execute_at(kernel, memory, &pointers, symbols, fused, parts)
}

fn execute_at(
    kernel: &Kernel,
    memory: &mut [Vec<u8>],
    pointers: &[(usize, i64)],
    symbols: &[i64],
    fused: bool,
    parts: Option<&mut Parts>,
) -> Result<()> {
    if pointers.len() != kernel.pointers as usize || symbols.len() != kernel.symbols.len() {
        return Err(Error::internal(format!(
            "{} takes {} pointers and {} symbols, but got {} and {}",
            kernel.name,
            kernel.pointers,
            kernel.symbols.len(),
            pointers.len(),
            symbols.len()
        )));
    }
    verify::verify(kernel)?;
    let mut offsets = Vec::with_capacity(kernel.insts.len());
    let mut size = 0;
    for (_, ty) in &kernel.insts {
        offsets.push(size);
        size += ty.lanes as usize;
    }
    let mut machine = Machine { kernel, memory, pointers, symbols, fused, parts, offsets, lanes: vec![0; size] };
    machine.block(&kernel.body).map_err(|what| Error::internal(format!("{}: {what}", kernel.name)))
}

/// Address bits per buffer: buffers are so far apart that no valid arithmetic reaches another one.
const BUFFER_BITS: u32 = 40;

/// The text of a failure.
type Step = std::result::Result<(), String>;

struct Machine<'a> {
    kernel: &'a Kernel,
    memory: &'a mut [Vec<u8>],
    /// The target of each pointer argument: a buffer and a byte offset.
    pointers: &'a [(usize, i64)],
    symbols: &'a [i64],
    fused: bool,
    /// The memory accesses of a shared kernel's parts.
    parts: Option<&'a mut Parts>,
    /// Index of each value's first lane.
    offsets: Vec<usize>,
    /// The lanes of all values: raw bits, zero-extended; masks are 0 or 1.
    lanes: Vec<u64>,
}

impl Machine<'_> {
    fn block(&mut self, body: &[Stmt]) -> Step {
        for stmt in body {
            match stmt {
                Stmt::Let(v) => self.compute(*v).map_err(|e| format!("{v}: {e}"))?,
                Stmt::Store(to, v) => {
                    let lanes = self.ty(*v).lanes as usize;
                    self.store(to, *v, lanes)?;
                }
                Stmt::StorePart(to, v, count) => {
                    let lanes = self.lanes_below(*count, self.ty(*v));
                    self.store(to, *v, lanes)?;
                }
                Stmt::For { index, start, end, step, carried, body } => {
                    for c in carried {
                        self.assign(c.inner, c.init);
                    }
                    let (mut at, end) = (self.int(*start), self.int(*end));
                    while at < end {
                        self.set(*index, 0, at as u64);
                        self.block(body)?;
                        let next: Vec<Vec<u64>> = carried.iter().map(|c| self.all(c.next).to_vec()).collect();
                        for (c, lanes) in carried.iter().zip(&next) {
                            self.set_all(c.inner, lanes);
                        }
                        at = at.checked_add(*step).ok_or("loop index overflows")?;
                    }
                    for c in carried {
                        self.assign(c.result, c.inner);
                    }
                }
                Stmt::If { condition, then, otherwise, results } => {
                    let yes = self.get(*condition, 0) != 0;
                    self.block(if yes { then } else { otherwise })?;
                    for (result, a, b) in results {
                        self.assign(*result, if yes { *a } else { *b });
                    }
                }
                Stmt::Copy { to, from, bytes } => {
                    let n = usize::try_from(self.int(*bytes)).map_err(|_| "copy of a negative size")?;
                    let (to, from) = (self.int(*to), self.int(*from));
                    if (to - from).unsigned_abs() < n as u64 {
                        return Err("overlapping copy".to_string());
                    }
                    let data = self.bytes(from, n, Access::Read)?.to_vec();
                    self.bytes(to, n, Access::Write)?.copy_from_slice(&data);
                }
                Stmt::Prefetch(_) => {}
                Stmt::Zero { to, bytes } => {
                    let n = usize::try_from(self.int(*bytes)).map_err(|_| "zeros of a negative size")?;
                    self.bytes(self.int(*to), n, Access::Write)?.fill(0);
                }
            }
        }
        Ok(())
    }

    fn ty(&self, v: Val) -> Ty {
        self.kernel.insts[v.0 as usize].1
    }

    fn get(&self, v: Val, lane: usize) -> u64 {
        self.lanes[self.offsets[v.0 as usize] + lane]
    }

    fn set(&mut self, v: Val, lane: usize, bits: u64) {
        self.lanes[self.offsets[v.0 as usize] + lane] = bits;
    }

    fn all(&self, v: Val) -> &[u64] {
        let at = self.offsets[v.0 as usize];
        &self.lanes[at..at + self.ty(v).lanes as usize]
    }

    fn set_all(&mut self, v: Val, lanes: &[u64]) {
        let at = self.offsets[v.0 as usize];
        self.lanes[at..at + lanes.len()].copy_from_slice(lanes);
    }

    fn assign(&mut self, to: Val, from: Val) {
        for i in 0..self.ty(to).lanes as usize {
            self.set(to, i, self.get(from, i));
        }
    }

    /// A scalar `i64`.
    fn int(&self, v: Val) -> i64 {
        self.get(v, 0) as i64
    }

    fn address(&self, a: &Addr) -> i64 {
        let index = a.index.map_or(0, |i| self.int(i).wrapping_mul(i64::from(a.scale)));
        self.int(a.base).wrapping_add(index).wrapping_add(i64::from(a.offset))
    }

    fn bytes(&mut self, at: i64, n: usize, access: Access) -> std::result::Result<&mut [u8], String> {
        if n == 0 {
            return Ok(&mut []);
        }
        // A bias of half a span keeps small negative offsets in their own buffer.
        let biased = at.wrapping_add(1 << (BUFFER_BITS - 1));
        let buffer = (biased >> BUFFER_BITS) - 1;
        let offset = at - ((buffer + 1) << BUFFER_BITS);
        let outside = || format!("access of {n} bytes at offset {offset} of buffer {buffer}");
        let index = usize::try_from(buffer).map_err(|_| outside())?;
        let memory = self.memory.get_mut(index).ok_or_else(outside)?;
        let size = memory.len();
        let start = usize::try_from(offset).ok().filter(|s| s.checked_add(n).is_some_and(|end| end <= size));
        let start = start.ok_or_else(|| format!("{}, which has {size} bytes", outside()))?;
        if let Some(parts) = &mut self.parts {
            parts.note(index, start..start + n, access)?;
        }
        Ok(&mut memory[start..start + n])
    }

    /// The number of lanes of a type that are below a count.
    fn lanes_below(&self, count: Val, ty: Ty) -> usize {
        self.int(count).clamp(0, i64::from(ty.lanes)) as usize
    }

    fn load(&mut self, v: Val, from: &Addr, lanes: usize) -> Step {
        let (at, width) = (self.address(from), self.ty(v).elem.bytes() as usize);
        for i in 0..lanes {
            let mut bits = [0; 8];
            bits[..width].copy_from_slice(self.bytes(at + (i * width) as i64, width, Access::Read)?);
            self.set(v, i, u64::from_le_bytes(bits));
        }
        Ok(())
    }

    fn store(&mut self, to: &Addr, v: Val, lanes: usize) -> Step {
        let (at, width) = (self.address(to), self.ty(v).elem.bytes() as usize);
        for i in 0..lanes {
            let bits = self.get(v, i).to_le_bytes();
            self.bytes(at + (i * width) as i64, width, Access::Write)?.copy_from_slice(&bits[..width]);
        }
        Ok(())
    }
}
