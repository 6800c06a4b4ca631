//! Machine code of [`Stmt::Tile`](crate::lower::kir::Stmt::Tile): the inner loops of `f32` contractions on x86-64 with
//! AVX2, whose registers are twice as wide as Cranelift's vectors.
//!
//! A function takes a pointer to a [frame](crate::lower::kir::tile) and keeps `rows` rows by two registers of sums.
//! Its loops: taps, rounds of [`UNROLL`] contracted elements, single elements. Few rows have several sets of sums that
//! take turns, because a multiply-add takes four cycles and two start in each.
//!
//! | register | holds |
//! |---|---|
//! | `rdi` | the frame |
//! | `rsi`, `r12` | right pointer, bytes between its steps |
//! | `rdx` | the tap |
//! | `rax`, `rcx` | byte offset into the rows, where it ends |
//! | `r8`-`r11`, `rbx`, `rbp` | rows |
//! | `ymm0`-`ymm11`, `ymm12`-`ymm13`, `ymm14` | sums, the step's columns, the row's element |

use crate::lower::kir::tile::{MAX_ROWS, OUT, OUT_STEP, RIGHT, RIGHT_STEP, ROWS, RUN, TAP, TAPS_END, UNROLL, WHOLE};

const RAX: u8 = 0;
const RCX: u8 = 1;
const RDX: u8 = 2;
const RBX: u8 = 3;
const RBP: u8 = 5;
const RSI: u8 = 6;
const RDI: u8 = 7;
const R12: u8 = 12;
/// Where row pointers are kept.
const ROW: [u8; MAX_ROWS as usize] = [8, 9, 10, 11, RBX, RBP];
const SAVED: [u8; 3] = [RBX, RBP, R12];
const COLUMNS: [u8; 2] = [12, 13];
const ELEMENT: u8 = 14;

/// The function for tiles of `rows` rows, position-independent and without relocations.
pub(super) fn code(rows: u32) -> Vec<u8> {
    let rows = rows.clamp(1, MAX_ROWS) as u8;
    let sets = (COLUMNS[0] / (2 * rows)).clamp(1, UNROLL as u8);
    let mut a = Assembler { code: Vec::new() };
    SAVED.iter().for_each(|&r| a.push(r));
    a.load(RSI, RDI, RIGHT);
    a.load(R12, RDI, RIGHT_STEP);
    a.load(RDX, RDI, TAP);
    (0..rows).for_each(|r| a.load(ROW[r as usize], RDI, ROWS + 8 * i32::from(r)));
    (0..2 * rows * sets).for_each(|v| a.vector(Map::Plain, 0x57, v, v, v));

    let tap = a.code.len();
    a.load_from_pointer(RAX, RDX);
    a.copy(RCX, RAX);
    a.add_memory(RCX, RDI, WHOLE);
    a.compare(RAX, RCX);
    let skip = a.jump(Jump::AboveOrEqual);
    let round = a.code.len();
    for element in 0..UNROLL as u8 {
        a.step(rows, element % sets, 4 * i32::from(element));
    }
    a.add_byte(RAX, 4 * UNROLL as u8);
    a.compare(RAX, RCX);
    a.jump_back(Jump::Below, round);
    a.land(skip);
    a.load_from_pointer(RCX, RDX);
    a.add_memory(RCX, RDI, RUN);
    let single = a.code.len();
    a.compare(RAX, RCX);
    let done = a.jump(Jump::AboveOrEqual);
    a.step(rows, 0, 0);
    a.add_byte(RAX, 4);
    a.jump_back(Jump::Always, single);
    a.land(done);
    a.add_byte(RDX, 8);
    a.compare_memory(RDX, RDI, TAPS_END);
    a.jump_back(Jump::Below, tap);

    for set in 1..sets {
        (0..2 * rows).for_each(|v| a.vector(Map::Plain, 0x58, v, v, v + 2 * rows * set));
    }
    a.load(RAX, RDI, OUT);
    a.load(RCX, RDI, OUT_STEP);
    for row in 0..rows {
        (0..2).for_each(|v| a.vector_memory(Map::Plain, 0x11, 2 * row + v, 0, (RAX, None, 32 * i32::from(v))));
        if row + 1 < rows {
            a.add(RAX, RCX);
        }
    }
    a.code.extend([0xc5, 0xf8, 0x77]); // vzeroupper
    SAVED.iter().rev().for_each(|&r| a.pop(r));
    a.code.push(0xc3);
    a.code
}

/// Opcode map and mandatory prefix of a vector instruction.
#[derive(Clone, Copy)]
enum Map {
    /// `0F`, no prefix.
    Plain,
    /// `0F 38` with `66`.
    Long,
}

#[derive(Clone, Copy)]
enum Jump {
    Always,
    Below,
    AboveOrEqual,
}

/// An address: base, index, displacement.
type Place = (u8, Option<u8>, i32);

struct Assembler {
    code: Vec<u8>,
}

impl Assembler {
    /// One contracted element: its columns, then row by row.
    fn step(&mut self, rows: u8, set: u8, offset: i32) {
        for (v, &column) in COLUMNS.iter().enumerate() {
            self.vector_memory(Map::Plain, 0x10, column, 0, (RSI, None, 32 * v as i32)); // vmovups
        }
        self.add(RSI, R12);
        for row in 0..rows {
            let from = (ROW[row as usize], Some(RAX), offset);
            self.vector_memory(Map::Long, 0x18, ELEMENT, 0, from); // vbroadcastss
            for (v, &column) in COLUMNS.iter().enumerate() {
                self.vector(Map::Long, 0xb8, 2 * (set * rows + row) + v as u8, ELEMENT, column); // vfmadd231ps
            }
        }
    }

    fn vex(&mut self, map: Map, reg: u8, second: u8, index: u8, base: u8) {
        let (map, prefix) = match map {
            Map::Plain => (1, 0),
            Map::Long => (2, 1),
        };
        let inverted = |r: u8, bit: u8| if r >= 8 { 0 } else { bit };
        self.code.push(0xc4);
        self.code.push(inverted(reg, 0x80) | inverted(index, 0x40) | inverted(base, 0x20) | map);
        self.code.push(((!second & 15) << 3) | 4 | prefix);
    }

    /// `opcode reg, second, rm` on 256-bit registers.
    fn vector(&mut self, map: Map, opcode: u8, reg: u8, second: u8, rm: u8) {
        self.vex(map, reg, second, 0, rm);
        self.code.extend([opcode, 0xc0 | ((reg & 7) << 3) | (rm & 7)]);
    }

    fn vector_memory(&mut self, map: Map, opcode: u8, reg: u8, second: u8, at: Place) {
        self.vex(map, reg, second, at.1.unwrap_or(0), at.0);
        self.code.push(opcode);
        self.operand(reg, at);
    }

    /// ModRM, SIB and displacement.
    fn operand(&mut self, reg: u8, (base, index, displacement): Place) {
        let short = i8::try_from(displacement).ok();
        let mode = if short.is_some() { 0x40 } else { 0x80 };
        let reg = (reg & 7) << 3;
        match index {
            None if base & 7 != 4 => self.code.push(mode | reg | (base & 7)),
            // Index 4 means none.
            _ => self.code.extend([mode | reg | 4, (index.unwrap_or(4) & 7) << 3 | (base & 7)]),
        }
        match short {
            Some(byte) => self.code.push(byte as u8),
            None => self.code.extend(displacement.to_le_bytes()),
        }
    }

    fn wide(&mut self, opcode: u8, reg: u8, base: u8) {
        self.code.extend([0x48 | (reg >> 3) << 2 | base >> 3, opcode]);
    }

    fn load(&mut self, to: u8, base: u8, offset: i32) {
        self.wide(0x8b, to, base);
        self.operand(to, (base, None, offset));
    }

    fn load_from_pointer(&mut self, to: u8, pointer: u8) {
        self.load(to, pointer, 0);
    }

    fn add_memory(&mut self, to: u8, base: u8, offset: i32) {
        self.wide(0x03, to, base);
        self.operand(to, (base, None, offset));
    }

    fn compare_memory(&mut self, a: u8, base: u8, offset: i32) {
        self.wide(0x3b, a, base);
        self.operand(a, (base, None, offset));
    }

    fn registers(&mut self, opcode: u8, to: u8, from: u8) {
        self.wide(opcode, from, to);
        self.code.push(0xc0 | (from & 7) << 3 | (to & 7));
    }

    fn copy(&mut self, to: u8, from: u8) {
        self.registers(0x89, to, from);
    }

    fn add(&mut self, to: u8, from: u8) {
        self.registers(0x01, to, from);
    }

    fn compare(&mut self, a: u8, b: u8) {
        self.registers(0x39, a, b);
    }

    fn add_byte(&mut self, to: u8, byte: u8) {
        self.wide(0x83, 0, to);
        self.code.extend([0xc0 | (to & 7), byte]);
    }

    fn push(&mut self, r: u8) {
        self.short(0x50, r);
    }

    fn pop(&mut self, r: u8) {
        self.short(0x58, r);
    }

    fn short(&mut self, opcode: u8, r: u8) {
        if r >= 8 {
            self.code.push(0x41);
        }
        self.code.push(opcode + (r & 7));
    }

    /// A jump whose target comes later; gives where it is to be [landed](Self::land).
    fn jump(&mut self, jump: Jump) -> usize {
        match jump {
            Jump::Always => self.code.push(0xe9),
            Jump::Below => self.code.extend([0x0f, 0x82]),
            Jump::AboveOrEqual => self.code.extend([0x0f, 0x83]),
        }
        self.code.extend([0; 4]);
        self.code.len()
    }

    fn land(&mut self, jump: usize) {
        let distance = (self.code.len() - jump) as i32;
        self.code[jump - 4..jump].copy_from_slice(&distance.to_le_bytes());
    }

    fn jump_back(&mut self, jump: Jump, target: usize) {
        let end = self.jump(jump);
        let distance = target as i32 - end as i32;
        self.code[end - 4..end].copy_from_slice(&distance.to_le_bytes());
    }
}
