//! An interpreter of kernels over byte memory: the oracle for emitters and the ground of kernel tests.
//!
//! ```ignore
//! let mut memory = vec![input_bytes, vec![0; output_bytes]];
//! interp::run(&kernel, &mut memory, &[batch])?;
//! ```
//!
//! - Pointer argument `n` is the start of `memory[n]`; a kernel has one buffer a pointer, in the order of its pointers
//!   (for kernels of [`kernels::build`](crate::kernels::build): operands, epilogue leaves, results, scratch).
//! - `symbols[n]` is the value of `kernel.symbols[n]`.
//! - An address belongs to the buffer it was derived from; an access outside that buffer is an error, and so is all that
//!   the kernel IR leaves undefined (division by zero, shifts by the width or more, overlapping copies, what
//!   [`DotKind::S8Narrow`] promises not to be there).
//! - A fused multiply-add rounds once; [`run_unfused`] rounds twice, as targets without the instruction do.
//! - [`run_parts`] runs a shared kernel part by part, and finds parts that meet in memory.

mod parts;

pub use parts::run_parts;
use parts::{Access, Parts};

use super::{Addr, Bin, Cmp, DotKind, Elem, Inst, Kernel, Stmt, Ty, Un, Val, verify};
use mcc_ir::{Error, Result};

/// Runs a kernel.
///
/// # Errors
/// Internal errors when the kernel is unsound or does something undefined, or when buffers or symbols are missing.
pub fn run(kernel: &Kernel, memory: &mut [Vec<u8>], symbols: &[i64]) -> Result<()> {
    execute(kernel, memory, symbols, true, None)
}

/// Runs a kernel as a target without fused multiply-add does.
///
/// # Errors
/// As [`run`].
pub fn run_unfused(kernel: &Kernel, memory: &mut [Vec<u8>], symbols: &[i64]) -> Result<()> {
    execute(kernel, memory, symbols, false, None)
}

/// Runs a kernel whose pointers lead into buffers that they may share: each is a buffer's number and bytes from its start on.
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

/// Where the buffers lie in the address space; far enough apart that no sound arithmetic leads into another one.
const BUFFER_BITS: u32 = 40;

/// A failure's text.
type Step = std::result::Result<(), String>;

struct Machine<'a> {
    kernel: &'a Kernel,
    memory: &'a mut [Vec<u8>],
    /// Where each pointer argument leads: a buffer, and bytes from its start on.
    pointers: &'a [(usize, i64)],
    symbols: &'a [i64],
    fused: bool,
    /// What parts of a shared kernel have done to memory.
    parts: Option<&'a mut Parts>,
    /// First lane of each value.
    offsets: Vec<usize>,
    /// All values' lanes: raw bits, zero-extended; masks are 0 or 1.
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
        // Half a span's bias keeps small negative offsets with their own buffer.
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

    /// How many lanes of a type are below a count.
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

    fn fma(&self, elem: Elem, a: u64, b: u64, c: u64) -> u64 {
        if elem == Elem::F32 {
            let [a, b, c] = [a, b, c].map(|bits| f32::from_bits(bits as u32));
            return u64::from((if self.fused { a.mul_add(b, c) } else { a * b + c }).to_bits());
        }
        let [a, b, c] = [a, b, c].map(f64::from_bits);
        (if self.fused { a.mul_add(b, c) } else { a * b + c }).to_bits()
    }

    fn compute(&mut self, v: Val) -> Step {
        let (inst, ty) = &self.kernel.insts[v.0 as usize];
        let count = ty.lanes as usize;
        match inst {
            Inst::Pointer(n) => {
                let (buffer, offset) = self.pointers[*n as usize];
                self.set(v, 0, ((buffer as u64 + 1) << BUFFER_BITS).wrapping_add_signed(offset));
            }
            Inst::Symbol(n) => self.set(v, 0, self.symbols[*n as usize] as u64),
            Inst::Int(c) => (0..count).for_each(|i| self.set(v, i, truncate(*c as u64, ty.elem))),
            Inst::Float(bits) => {
                let bits = from_float(f64::from_bits(*bits), ty.elem);
                (0..count).for_each(|i| self.set(v, i, bits));
            }
            Inst::Load(from) => {
                self.load(v, from, count)?;
            }
            Inst::LoadPart(from, below) => {
                let loaded = self.lanes_below(*below, *ty);
                (loaded..count).for_each(|i| self.set(v, i, 0));
                self.load(v, from, loaded)?;
            }
            Inst::LoadExpanded(from, mask) => {
                let mask = self.get(*mask, 0);
                self.load(v, from, count)?;
                let bytes: Vec<u64> = (0..count).map(|i| self.get(v, i)).collect();
                let mut next = bytes.into_iter();
                for i in 0..count {
                    let byte = if mask >> i & 1 == 1 { next.next() } else { None };
                    self.set(v, i, byte.unwrap_or(0));
                }
            }
            Inst::Bin(op, a, b) => {
                let shift = matches!(op, Bin::Shl | Bin::Shr | Bin::Sar);
                for i in 0..count {
                    let (x, y) = (self.get(*a, i), self.get(*b, if shift { 0 } else { i }));
                    self.set(v, i, binary(*op, ty.elem, x, y)?);
                }
            }
            Inst::Un(op, a) => {
                for i in 0..count {
                    self.set(v, i, unary(*op, ty.elem, self.get(*a, i))?);
                }
            }
            Inst::Fma(a, b, c) => {
                for i in 0..count {
                    self.set(v, i, self.fma(ty.elem, self.get(*a, i), self.get(*b, i), self.get(*c, i)));
                }
            }
            Inst::FmaLane(a, b, lane, c) => {
                for i in 0..count {
                    self.set(
                        v,
                        i,
                        self.fma(ty.elem, self.get(*a, i), self.get(*b, usize::from(*lane)), self.get(*c, i)),
                    );
                }
            }
            Inst::Dot(kind, a, b, acc) => {
                let (a_signed, b_signed) = kind.signed();
                let byte = |bits: u64, is_signed: bool| if is_signed { signed(bits, Elem::I8) } else { bits as i64 };
                if *kind == DotKind::S8Narrow && self.all(*b).contains(&0x80) {
                    return Err("a product with -128".to_string());
                }
                for i in 0..count {
                    let products = (4 * i..4 * i + 4)
                        .map(|j| byte(self.get(*a, j), a_signed) * byte(self.get(*b, j), b_signed))
                        .sum::<i64>();
                    self.set(v, i, truncate(self.get(*acc, i).wrapping_add(products as u64), Elem::I32));
                }
            }
            Inst::Cmp(op, a, b) => {
                let elem = self.ty(*a).elem;
                for i in 0..count {
                    self.set(v, i, u64::from(compare(*op, elem, self.get(*a, i), self.get(*b, i))));
                }
            }
            Inst::Select(mask, a, b) => {
                for i in 0..count {
                    self.set(v, i, self.get(if self.get(*mask, i) != 0 { *a } else { *b }, i));
                }
            }
            Inst::MaskToInt(mask) => self.assign(v, *mask),
            Inst::AnyTrue(mask) => {
                let any = self.all(*mask).iter().any(|&lane| lane != 0);
                self.set(v, 0, u64::from(any));
            }
            Inst::Splat(a) => (0..count).for_each(|i| self.set(v, i, self.get(*a, 0))),
            Inst::Lane(a, lane) => self.set(v, 0, self.get(*a, usize::from(*lane))),
            Inst::WithLane(a, scalar, lane) => {
                self.assign(v, *a);
                self.set(v, usize::from(*lane), self.get(*scalar, 0));
            }
            Inst::Shuffle(a, b, pattern) => {
                let width = self.ty(*a).lanes as usize;
                for (i, &from) in pattern.iter().enumerate() {
                    let from = usize::from(from);
                    let lane = if from < width { self.get(*a, from) } else { self.get(*b, from - width) };
                    self.set(v, i, lane);
                }
            }
            Inst::Bitcast(a) => {
                let old = self.ty(*a).elem.bytes() as usize;
                let bytes: Vec<u8> = self.all(*a).iter().flat_map(|bits| bits.to_le_bytes()[..old].to_vec()).collect();
                for (i, chunk) in bytes.chunks_exact(ty.elem.bytes() as usize).enumerate() {
                    let mut bits = [0; 8];
                    bits[..chunk.len()].copy_from_slice(chunk);
                    self.set(v, i, u64::from_le_bytes(bits));
                }
            }
            Inst::Convert(a) | Inst::UConvert(a) => {
                let from = self.ty(*a).elem;
                let signed = matches!(inst, Inst::Convert(_));
                for i in 0..count {
                    self.set(v, i, convert(self.get(*a, i), from, ty.elem, signed));
                }
            }
            Inst::Quantize(parts, zero, rounding) => {
                let width = self.ty(*zero).lanes as usize;
                for (part, &x) in parts.iter().enumerate() {
                    for i in 0..width {
                        let byte = quantized(self.get(x, i), self.get(*zero, i), rounding.signed);
                        self.set(v, part * width + i, truncate(byte as u64, Elem::I8));
                    }
                }
            }
            Inst::Lookup(x, table) => {
                for i in 0..count {
                    let at = self.int(*table) + self.get(*x, i) as i64;
                    let byte = self.bytes(at, 1, Access::Read)?[0];
                    self.set(v, i, u64::from(byte));
                }
            }
            Inst::Grid(x, zero, rounding) => {
                for i in 0..count {
                    let byte = quantized(self.get(*x, i), self.get(*zero, i), rounding.signed);
                    self.set(v, i, from_float(byte as f64, Elem::F32));
                }
            }
            Inst::FromHalf(a) => {
                for i in 0..count {
                    let number = half::f16::from_bits(self.get(*a, i) as u16).to_f32();
                    self.set(v, i, number.to_bits().into());
                }
            }
            Inst::ToHalf(a) => {
                for i in 0..count {
                    let code = half::f16::from_f32(f32::from_bits(self.get(*a, i) as u32));
                    self.set(v, i, code.to_bits().into());
                }
            }
            Inst::Permute(a, places) => {
                for i in 0..count {
                    let place = self.get(*places, i) as usize % count;
                    self.set(v, i, self.get(*a, place));
                }
            }
            Inst::Defined => return Err("has no instruction".to_string()),
        }
        Ok(())
    }
}

/// A float as a byte, see [`Inst::Quantize`].
fn quantized(x: u64, zero: u64, signed: bool) -> i64 {
    let (x, zero) = (float(x, Elem::F32), float(zero, Elem::F32));
    let (low, high) = if signed { (-128.0, 127.0) } else { (0.0, 255.0) };
    (x.round_ties_even() + zero).clamp(low, high) as i64
}

fn truncate(bits: u64, elem: Elem) -> u64 {
    match elem.bytes() {
        8 => bits,
        n => bits & ((1 << (8 * n)) - 1),
    }
}

fn signed(bits: u64, elem: Elem) -> i64 {
    let unused = 64 - 8 * elem.bytes();
    (bits << unused) as i64 >> unused
}

fn float(bits: u64, elem: Elem) -> f64 {
    if elem == Elem::F32 { f64::from(f32::from_bits(bits as u32)) } else { f64::from_bits(bits) }
}

fn from_float(v: f64, elem: Elem) -> u64 {
    if elem == Elem::F32 { u64::from((v as f32).to_bits()) } else { v.to_bits() }
}

fn binary(op: Bin, elem: Elem, x: u64, y: u64) -> std::result::Result<u64, String> {
    if elem.is_float() {
        // The operations on `F32` are exact enough in `f64` that rounding again gives the same.
        let (a, b) = (float(x, elem), float(y, elem));
        let nan = a.is_nan() || b.is_nan();
        let result = match op {
            Bin::Add => a + b,
            Bin::Sub => a - b,
            Bin::Mul => a * b,
            Bin::Div => a / b,
            Bin::Min | Bin::Max if nan => f64::NAN,
            Bin::Min if a == b => {
                if a.is_sign_negative() {
                    a
                } else {
                    b
                }
            }
            Bin::Max if a == b => {
                if a.is_sign_negative() {
                    b
                } else {
                    a
                }
            }
            Bin::Min => a.min(b),
            Bin::Max => a.max(b),
            _ => return Err(format!("{op:?} of floats")),
        };
        return Ok(from_float(result, elem));
    }
    let (a, b) = (signed(x, elem), signed(y, elem));
    let width = u64::from(8 * elem.bytes());
    let divides = |ok: bool| if ok { Ok(()) } else { Err(format!("{op:?} of {a} by {b}")) };
    let smallest = signed(1 << (width - 1), elem);
    let result = match op {
        Bin::Add => a.wrapping_add(b) as u64,
        Bin::Sub => a.wrapping_sub(b) as u64,
        Bin::Mul => a.wrapping_mul(b) as u64,
        Bin::Div => {
            divides(b != 0 && !(a == smallest && b == -1))?;
            (a / b) as u64
        }
        Bin::Rem => {
            divides(b != 0 && !(a == smallest && b == -1))?;
            (a % b) as u64
        }
        Bin::UDiv => {
            divides(b != 0)?;
            x / y
        }
        Bin::URem => {
            divides(b != 0)?;
            x % y
        }
        Bin::Min => a.min(b) as u64,
        Bin::Max => a.max(b) as u64,
        Bin::UMin => x.min(y),
        Bin::UMax => x.max(y),
        Bin::And => x & y,
        Bin::Or => x | y,
        Bin::Xor => x ^ y,
        Bin::Shl | Bin::Shr | Bin::Sar if y >= width => return Err(format!("{op:?} of {width} bits by {y}")),
        Bin::Shl => x << y,
        Bin::Shr => x >> y,
        Bin::Sar => (a >> y) as u64,
    };
    Ok(truncate(result, elem))
}

fn unary(op: Un, elem: Elem, x: u64) -> std::result::Result<u64, String> {
    if matches!(elem, Elem::Mask8 | Elem::Mask16 | Elem::Mask32 | Elem::Mask64) {
        return if op == Un::Not { Ok(x ^ 1) } else { Err(format!("{op:?} of a mask")) };
    }
    if elem.is_float() {
        let sign = 1 << (8 * elem.bytes() - 1);
        let a = float(x, elem);
        let result = match op {
            Un::Neg => return Ok(x ^ sign),
            Un::Abs => return Ok(x & !sign),
            Un::Sqrt => a.sqrt(),
            Un::Floor => a.floor(),
            Un::Ceil => a.ceil(),
            Un::Trunc => a.trunc(),
            Un::Nearest => a.round_ties_even(),
            Un::Not | Un::CountOnes => return Err(format!("{op:?} of a float")),
        };
        return Ok(from_float(result, elem));
    }
    let result = match op {
        Un::Neg => (x as i64).wrapping_neg() as u64,
        Un::Abs => signed(x, elem).wrapping_abs() as u64,
        Un::Not => !x,
        Un::CountOnes => u64::from(x.count_ones()),
        _ => return Err(format!("{op:?} of an integer")),
    };
    Ok(truncate(result, elem))
}

fn compare(op: Cmp, elem: Elem, x: u64, y: u64) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match op {
        Cmp::ULt | Cmp::ULe | Cmp::UGt | Cmp::UGe => Some(x.cmp(&y)),
        _ if elem.is_float() => float(x, elem).partial_cmp(&float(y, elem)),
        _ => Some(signed(x, elem).cmp(&signed(y, elem))),
    };
    match op {
        Cmp::Eq => order == Some(Equal),
        Cmp::Ne => order != Some(Equal),
        Cmp::Lt | Cmp::ULt => order == Some(Less),
        Cmp::Le | Cmp::ULe => matches!(order, Some(Less | Equal)),
        Cmp::Gt | Cmp::UGt => order == Some(Greater),
        Cmp::Ge | Cmp::UGe => matches!(order, Some(Greater | Equal)),
    }
}

fn convert(bits: u64, from: Elem, to: Elem, is_signed: bool) -> u64 {
    match (from.is_float(), to.is_float()) {
        (true, true) => from_float(float(bits, from), to),
        (true, false) => {
            let v = float(bits, from);
            let width = 8 * to.bytes();
            let result = match (is_signed, width) {
                (true, 64) => v as i64 as u64,
                (true, _) => (v as i64).clamp(-1 << (width - 1), (1 << (width - 1)) - 1) as u64,
                (false, 64) => v as u64,
                (false, _) => (v as u64).min((1 << width) - 1),
            };
            truncate(result, to)
        }
        (false, true) => match (is_signed, to) {
            (true, Elem::F32) => u64::from((signed(bits, from) as f32).to_bits()),
            (true, _) => (signed(bits, from) as f64).to_bits(),
            (false, Elem::F32) => u64::from((bits as f32).to_bits()),
            (false, _) => (bits as f64).to_bits(),
        },
        (false, false) => truncate(if is_signed { signed(bits, from) as u64 } else { bits }, to),
    }
}
