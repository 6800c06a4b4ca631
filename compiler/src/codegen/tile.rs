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

use iced_x86::IcedError;
use iced_x86::code_asm::{
    AsmRegister64, AsmRegisterYmm, CodeAssembler, dword_ptr, gpr64::*, ptr, registers::ymm::*, ymmword_ptr,
};

use crate::lower::kir::tile::{MAX_ROWS, OUT, OUT_STEP, RIGHT, RIGHT_STEP, ROWS, RUN, TAP, TAPS_END, UNROLL, WHOLE};
use crate::{Error, Result};

/// Where row pointers are kept.
const ROW: [AsmRegister64; MAX_ROWS as usize] = [r8, r9, r10, r11, rbx, rbp];
const SAVED: [AsmRegister64; 3] = [rbx, rbp, r12];
const SUMS: [AsmRegisterYmm; 12] = [ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11];
const COLUMNS: [AsmRegisterYmm; 2] = [ymm12, ymm13];
const ELEMENT: AsmRegisterYmm = ymm14;

/// The function for tiles of `rows` rows, position-independent and without relocations.
///
/// # Errors
/// When the assembler refuses, which would be a mistake here.
pub(super) fn code(rows: u32) -> Result<Vec<u8>> {
    assemble(rows.clamp(1, MAX_ROWS) as usize).map_err(|e| Error::internal(format!("tile of {rows} rows: {e}")))
}

fn assemble(rows: usize) -> Result<Vec<u8>, IcedError> {
    let sets = (SUMS.len() / (2 * rows)).clamp(1, UNROLL as usize);
    let mut a = CodeAssembler::new(64)?;
    for register in SAVED {
        a.push(register)?;
    }
    a.mov(rsi, ptr(rdi + RIGHT))?;
    a.mov(r12, ptr(rdi + RIGHT_STEP))?;
    a.mov(rdx, ptr(rdi + TAP))?;
    for (row, &register) in ROW[..rows].iter().enumerate() {
        a.mov(register, ptr(rdi + (ROWS + 8 * row as i32)))?;
    }
    for &sum in &SUMS[..2 * rows * sets] {
        a.vxorps(sum, sum, sum)?;
    }

    let (mut tap, mut round, mut single) = (a.create_label(), a.create_label(), a.create_label());
    let (mut rounds_done, mut tap_done) = (a.create_label(), a.create_label());
    a.set_label(&mut tap)?;
    a.mov(rax, ptr(rdx))?;
    a.mov(rcx, rax)?;
    a.add(rcx, ptr(rdi + WHOLE))?;
    a.cmp(rax, rcx)?;
    a.jae(rounds_done)?;
    a.set_label(&mut round)?;
    for element in 0..UNROLL as usize {
        step(&mut a, rows, element % sets, 4 * element as i32)?;
    }
    a.add(rax, 4 * UNROLL as i32)?;
    a.cmp(rax, rcx)?;
    a.jb(round)?;
    a.set_label(&mut rounds_done)?;
    a.mov(rcx, ptr(rdx))?;
    a.add(rcx, ptr(rdi + RUN))?;
    a.set_label(&mut single)?;
    a.cmp(rax, rcx)?;
    a.jae(tap_done)?;
    step(&mut a, rows, 0, 0)?;
    a.add(rax, 4)?;
    a.jmp(single)?;
    a.set_label(&mut tap_done)?;
    a.add(rdx, 8)?;
    a.cmp(rdx, ptr(rdi + TAPS_END))?;
    a.jb(tap)?;

    for set in 1..sets {
        for sum in 0..2 * rows {
            a.vaddps(SUMS[sum], SUMS[sum], SUMS[sum + 2 * rows * set])?;
        }
    }
    a.mov(rax, ptr(rdi + OUT))?;
    a.mov(rcx, ptr(rdi + OUT_STEP))?;
    for row in 0..rows {
        for half in 0..2 {
            a.vmovups(ymmword_ptr(rax + 32 * half as i32), SUMS[2 * row + half])?;
        }
        if row + 1 < rows {
            a.add(rax, rcx)?;
        }
    }
    a.vzeroupper()?;
    for register in SAVED.into_iter().rev() {
        a.pop(register)?;
    }
    a.ret()?;
    a.assemble(0)
}

/// One contracted element: its columns, then row by row.
fn step(a: &mut CodeAssembler, rows: usize, set: usize, offset: i32) -> Result<(), IcedError> {
    for (half, &column) in COLUMNS.iter().enumerate() {
        a.vmovups(column, ymmword_ptr(rsi + 32 * half as i32))?;
    }
    a.add(rsi, r12)?;
    for (row, &register) in ROW[..rows].iter().enumerate() {
        a.vbroadcastss(ELEMENT, dword_ptr(register + rax + offset))?;
        for (half, &column) in COLUMNS.iter().enumerate() {
            a.vfmadd231ps(SUMS[2 * (set * rows + row) + half], ELEMENT, column)?;
        }
    }
    Ok(())
}
