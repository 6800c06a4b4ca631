//! Register allocation and encoding: from machine instructions on virtual registers to bytes.
//!
//! Registers: `sp` points to the frame, `x29` to the caller's frame record; `x18` belongs to the system, `x16` holds
//! offsets that no instruction can; the allocator uses all others. The frame has the function's own memory, then the
//! spilled registers, then the caller's registers. The constant pool follows the code.

use std::collections::HashMap;

use regalloc2::{
    Algorithm, Allocation, Block, Edit, InstOrEdit, MachineEnv, Output, PReg, PRegSet, RegClass, RegallocOptions,
};

use super::encoding::{encode, text};
use super::inst::{Code, Inst, Reg, VirtualCode, operands_of};
use super::operand::{Cc, Size};
use super::table::Row;
use crate::machine::Flat;
use crate::machine::check::check;
use crate::machine::layout::{Leave, layout};
use crate::unwind::Frame;
use mcc_ir::{Error, Result};

/// Number of arguments in registers.
pub const ARGUMENTS: usize = 8;

/// Callee-saved registers; of vectors the low halves.
const SAVED: std::ops::Range<usize> = 19..29;
const SAVED_VECTORS: std::ops::Range<usize> = 8..16;
const SCRATCH: u8 = 16;
const STACK: u8 = 31;
const FRAME: u8 = 29;
const LINK: u8 = 30;

/// Bytes of a vector register, and of a spill slot.
const VECTOR: usize = 16;
const SLOT: i32 = 8;

/// A function's code.
pub struct Assembled {
    /// Position-independent and without relocations.
    pub bytes: Vec<u8>,
    /// Its text, block by block, if it is wanted.
    pub text: String,
    pub frame: Frame,
}

/// What else to do.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Check the allocator's input and its result.
    pub checked: bool,
    /// Make the text.
    pub listing: bool,
    /// Begin with a landing pad.
    pub landing_pad: bool,
}

/// The code of a function.
///
/// # Errors
/// When the allocator or encoder fails, or a check of the allocation does: a bug of instruction selection.
pub fn assemble(code: &VirtualCode, options: Options) -> Result<Assembled> {
    let flat = Flat::new(code, VECTOR, operands_of);
    let environment = environment();
    let Options { checked, listing, landing_pad } = options;
    let settings = RegallocOptions { verbose_log: false, validate_ssa: checked, algorithm: Algorithm::Ion };
    let allocated = regalloc2::run(&flat, &environment, &settings)
        .map_err(|e| Error::internal(format!("register allocation: {e:?}")))?;
    if checked {
        check(&flat, &environment, &allocated)?;
    }
    let saved = saved(&allocated);
    let own = (code.frame + SLOT * allocated.num_spillslots as i32 + 15) & !15;
    let frame = own + 16 * saved.len() as i32;
    let mut e = Encoder { code, listing, landing_pad, spills: code.frame, frame, saved, out: Body::default() };
    let mut bodies = Vec::with_capacity(code.blocks.len());
    for b in 0..code.blocks.len() {
        let first = regalloc2::Function::block_insns(&flat, Block::new(b)).first().index();
        for step in allocated.block_insts_and_edits(&flat, Block::new(b)) {
            match step {
                InstOrEdit::Edit(Edit::Move { from, to }) => e.transfer(*from, *to)?,
                InstOrEdit::Inst(n) => {
                    if let Some(Code::Inst(inst)) = code.blocks[b].insts.get(n.index() - first) {
                        e.instruction(inst, allocated.inst_allocs(n))?;
                    }
                }
            }
        }
        bodies.push(std::mem::take(&mut e.out));
    }
    e.layout(&bodies)
}

fn environment() -> MachineEnv {
    let set = |class, numbers: &mut dyn Iterator<Item = usize>| {
        let mut set = PRegSet::empty();
        numbers.for_each(|n| set.add(PReg::new(n, class)));
        set
    };
    MachineEnv {
        preferred_regs_by_class: [
            set(RegClass::Int, &mut (0..16).chain([17])),
            set(RegClass::Float, &mut (0..8).chain(16..32)),
            PRegSet::empty(),
        ],
        non_preferred_regs_by_class: [
            set(RegClass::Int, &mut SAVED.clone()),
            set(RegClass::Float, &mut SAVED_VECTORS.clone()),
            PRegSet::empty(),
        ],
        scratch_by_class: [None, None, None],
        fixed_stack_slots: Vec::new(),
    }
}

/// The caller's registers that a function must restore, in pairs of one class.
fn saved(allocated: &Output) -> Vec<[PReg; 2]> {
    let moved = allocated.edits.iter().flat_map(|(_, Edit::Move { from, to })| [*from, *to]);
    let used: PRegSet = allocated.allocs.iter().copied().chain(moved).filter_map(Allocation::as_reg).fold(
        PRegSet::empty(),
        |mut set, p| {
            set.add(p);
            set
        },
    );
    let of = |class, numbers: std::ops::Range<usize>| {
        let all: Vec<PReg> = numbers.map(|n| PReg::new(n, class)).filter(|&p| used.contains(p)).collect();
        all.chunks(2).map(|pair| [pair[0], pair[pair.len() - 1]]).collect::<Vec<_>>()
    };
    [of(RegClass::Int, SAVED), of(RegClass::Float, SAVED_VECTORS)].concat()
}

/// Instructions whose places are not known yet.
#[derive(Default)]
struct Body {
    words: Vec<u32>,
    text: Vec<String>,
    /// Loads from the constant pool: the instruction, and the offset there.
    pooled: Vec<Pooled>,
}

struct Pooled {
    at: usize,
    offset: i64,
}

struct Encoder<'a> {
    code: &'a VirtualCode,
    listing: bool,
    landing_pad: bool,
    /// Offset of spilled registers in the frame.
    spills: i32,
    frame: i32,
    saved: Vec<[PReg; 2]>,
    out: Body,
}

impl Encoder<'_> {
    fn put(&mut self, row: Row, size: Size, regs: &[u8], imms: [i64; 2]) -> Result<()> {
        self.out.words.push(encode(row, size, regs, imms)?);
        if self.listing {
            self.out.text.push(text(row, size, regs, imms));
        }
        Ok(())
    }

    fn instruction(&mut self, inst: &Inst, allocs: &[Allocation]) -> Result<()> {
        let mut allocs = allocs.iter().map(|a| a.as_reg().map(|p| p.hw_enc() as u8));
        let mut next = || allocs.next().flatten().ok_or_else(|| Error::internal("an operand without a register"));
        let mut regs = [0; 4];
        for (reg, op) in regs.iter_mut().zip(&inst.regs) {
            *reg = match *op {
                Reg::Def(_) | Reg::Use(_) => next()?,
                Reg::Mod(..) => {
                    next()?;
                    next()?
                }
                Reg::Fixed(n) => n,
            };
        }
        let copies = inst.row == Row::Mov && inst.size == Size::D && regs[0] == regs[1];
        if copies || inst.row == Row::OrrV && regs[0] == regs[1] && regs[1] == regs[2] {
            return Ok(());
        }
        if inst.row == Row::LdrPool {
            self.out.pooled.push(Pooled { at: self.out.words.len(), offset: inst.imms[0] });
        }
        self.put(inst.row, inst.size, &regs[..inst.regs.len()], inst.imms)
    }

    /// A move that the allocator requests.
    fn transfer(&mut self, from: Allocation, to: Allocation) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let slot =
            |a: Allocation| a.as_stack().map(|slot| i64::from(self.spills) + i64::from(SLOT) * slot.index() as i64);
        let number = |p: PReg| p.hw_enc() as u8;
        match (from.as_reg(), to.as_reg()) {
            (Some(from), Some(to)) if from.class() == RegClass::Int => {
                self.put(Row::Mov, Size::D, &[number(to), number(from)], [0; 2])
            }
            (Some(from), Some(to)) => self.put(Row::OrrV, Size::B, &[number(to), number(from), number(from)], [0; 2]),
            (Some(p), None) => {
                let at = slot(to).unwrap_or_default();
                let rows =
                    if p.class() == RegClass::Int { [Row::StrG, Row::StrGReg] } else { [Row::StrV, Row::StrVReg] };
                self.in_frame(rows, p, at)
            }
            (None, Some(p)) => {
                let at = slot(from).unwrap_or_default();
                let rows =
                    if p.class() == RegClass::Int { [Row::LdrG, Row::LdrGReg] } else { [Row::LdrV, Row::LdrVReg] };
                self.in_frame(rows, p, at)
            }
            (None, None) => Err(Error::internal("a move from memory to memory")),
        }
    }

    /// Accesses the frame, with the instruction for near offsets or the one for any.
    fn in_frame(&mut self, rows: [Row; 2], p: PReg, at: i64) -> Result<()> {
        let size = if p.class() == RegClass::Int { Size::D } else { Size::Q };
        let reg = p.hw_enc() as u8;
        if encode(rows[0], size, &[reg, STACK], [at, 0]).is_ok() {
            return self.put(rows[0], size, &[reg, STACK], [at, 0]);
        }
        self.put(Row::Movz, Size::D, &[SCRATCH], [at & 0xffff, 0])?;
        self.put(Row::Movk, Size::D, &[SCRATCH], [at >> 16, 16])?;
        self.put(rows[1], size, &[reg, STACK, SCRATCH], [0; 2])
    }

    /// Saves or restores the caller's registers, which end at the frame pointer.
    fn keep(&mut self, general: Row, vectors: Row) -> Result<()> {
        for (n, [first, second]) in self.saved.clone().into_iter().enumerate() {
            let regs = [first.hw_enc() as u8, second.hw_enc() as u8, FRAME];
            let at = -16 * (n as i64 + 1);
            let vector = first.class() == RegClass::Float;
            // A register without a partner is saved as one: a pair of one register cannot be loaded.
            match (first == second, vector) {
                (true, true) => {
                    let row = if vectors == Row::StpV { Row::SturV } else { Row::LdurV };
                    self.put(row, Size::D, &[regs[0], FRAME], [at, 0])?;
                }
                (true, false) => {
                    let row = if general == Row::StpX { Row::SturG } else { Row::LdurG };
                    self.put(row, Size::D, &[regs[0], FRAME], [at, 0])?;
                }
                (false, true) => self.put(vectors, Size::D, &regs, [at, 0])?,
                (false, false) => self.put(general, Size::D, &regs, [at, 0])?,
            }
        }
        Ok(())
    }

    fn prologue(&mut self) -> Result<Body> {
        if self.landing_pad {
            self.put(Row::BtiC, Size::D, &[], [0; 2])?;
        }
        self.put(Row::StpXPre, Size::D, &[FRAME, LINK, STACK], [-16, 0])?;
        self.put(Row::AddImm, Size::D, &[FRAME, STACK], [0, 0])?;
        let frame = i64::from(self.frame);
        // The stack pointer covers the registers before they are saved.
        if frame >> 12 != 0 {
            self.put(Row::SubImmHigh, Size::D, &[STACK, STACK], [frame >> 12, 0])?;
        }
        if frame & 0xfff != 0 {
            self.put(Row::SubImm, Size::D, &[STACK, STACK], [frame & 0xfff, 0])?;
        }
        self.keep(Row::StpX, Row::StpV)?;
        Ok(std::mem::take(&mut self.out))
    }

    /// What a prologue of so many instructions does: it begins with the frame record, apart from the landing pad, and ends
    /// with saved registers.
    fn unwind(&self, instructions: usize) -> Frame {
        let behind = |n: usize| 4 * (n as u32 + 1);
        let record = usize::from(self.landing_pad);
        let mut frame = Frame::default();
        frame.push(behind(record));
        frame.establish(behind(record + 1));
        let first = instructions - self.saved.len();
        for (n, &[low, high]) in self.saved.iter().enumerate() {
            let (at, below) = (behind(first + n), 16 * (n as u32 + 1));
            frame.save(at, low, below);
            if high != low {
                frame.save(at, high, below - 8);
            }
        }
        frame
    }

    fn epilogue(&mut self) -> Result<Body> {
        self.keep(Row::LdpX, Row::LdpV)?;
        if self.frame > 0 {
            self.put(Row::AddImm, Size::D, &[STACK, FRAME], [0, 0])?;
        }
        self.put(Row::LdpXPost, Size::D, &[FRAME, LINK, STACK], [16, 0])?;
        self.put(Row::Ret, Size::D, &[], [0; 2])?;
        Ok(std::mem::take(&mut self.out))
    }

    /// Joins the blocks.
    fn layout(mut self, bodies: &[Body]) -> Result<Assembled> {
        let (prologue, epilogue) = (self.prologue()?, self.epilogue()?);
        let unwind = self.unwind(prologue.words.len());
        let placed = layout(self.code, |b| bodies[b].words.is_empty(), Cc::inverse);
        let mut starts = HashMap::new();
        let mut at = prologue.words.len();
        for (b, leave) in &placed {
            starts.insert(*b, at);
            at += bodies[*b].words.len();
            at += match leave {
                Leave::Return => epilogue.words.len(),
                Leave::Fall => 0,
                Leave::Jump(_) | Leave::If(..) => 1,
                Leave::Either(..) => 2,
            };
        }
        let mut whole =
            Whole { starts, pool: at.next_multiple_of(4), words: Vec::with_capacity(at), text: String::new() };
        whole.append(&prologue)?;
        for (b, leave) in placed {
            whole.text += &format!("block{b}:\n");
            whole.append(&bodies[b])?;
            match leave {
                Leave::Return => whole.append(&epilogue)?,
                Leave::Fall => {}
                Leave::Jump(to) => whole.jump(None, to)?,
                Leave::If(cc, to) => whole.jump(Some(cc), to)?,
                Leave::Either(cc, yes, no) => {
                    whole.jump(Some(cc), yes)?;
                    whole.jump(None, no)?;
                }
            }
        }
        let mut bytes: Vec<u8> = whole.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        if !self.code.pool.is_empty() {
            bytes.resize(4 * whole.pool, 0);
            bytes.extend_from_slice(&self.code.pool);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        Ok(Assembled { bytes, text: whole.text, frame: unwind })
    }
}

/// A function whose blocks have places.
struct Whole {
    /// The first instruction of each block, and the place of the constant pool, in words.
    starts: HashMap<usize, usize>,
    pool: usize,
    words: Vec<u32>,
    text: String,
}

impl Whole {
    fn append(&mut self, body: &Body) -> Result<()> {
        let first = self.words.len();
        self.words.extend_from_slice(&body.words);
        for line in &body.text {
            self.text += &format!("  {line}\n");
        }
        for Pooled { at, offset } in &body.pooled {
            let distance = (self.pool - first - at) as i64 + offset / 4;
            self.words[first + at] |= near(distance, 19)? << 5;
        }
        Ok(())
    }

    fn jump(&mut self, cc: Option<Cc>, to: usize) -> Result<()> {
        let distance = self.starts.get(&to).copied().unwrap_or_default() as i64 - self.words.len() as i64;
        let row = if cc.is_some() { Row::BCond } else { Row::B };
        let imms = [cc.map_or(0, |cc| cc as i64), 0];
        let target = if cc.is_some() { near(distance, 19)? << 5 } else { near(distance, 26)? };
        self.words.push(encode(row, Size::D, &[], imms)? | target);
        self.text += &format!("  {}block{to}\n", text(row, Size::D, &[], imms));
        Ok(())
    }
}

/// A distance in words, in so many bits.
fn near(distance: i64, bits: u32) -> Result<u32> {
    let half = 1i64 << (bits - 1);
    if !(-half..half).contains(&distance) {
        return Err(Error::internal("a kernel is longer than its jumps and constants reach"));
    }
    Ok(distance as u32 & ((1 << bits) - 1))
}
