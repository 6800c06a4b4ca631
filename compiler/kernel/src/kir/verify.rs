//! The kernel verifier: checks the rules of [`super`] and reports all violations at once.
//!
//! | subject | rule |
//! |---|---|
//! | values | defined once, by an instruction or by the enclosing loop or branch; used after the definition, in the same block or blocks inside it |
//! | types | lanes are a power of two; operands and result have the types that each instruction's description requires |
//! | masks | come from comparisons, have the width of the compared values, and go to `Select`, `And`, `Or`, `Xor`, `Not`, `MaskToInt`, `AnyTrue`; memory holds none |
//! | division | of integers, and remainders: scalars only |
//! | shifts | by a scalar `I32` or `I64` |
//! | lanes | that `Lane`, `WithLane`, `FmaLane`, `Shuffle` name exist |
//! | arguments | pointers and symbols are in the kernel's lists |
//! | addresses | base and index are `i64`, the scale is 1, 2, 4 or 8 |
//! | counts | of partial loads and stores, of bytes to copy or clear, and masks of expanding loads, are `i64` |
//! | loops | bounds are `i64`, the step is positive; a carried value keeps its type |
//! | branches | the condition is a scalar mask; a result has one type in both blocks |
//! | sharing | [`PART`] and [`PARTS`] are the last symbols, in this order |
//!
//! Rules on values are checked by [`interp`](super::interp): addresses inside their buffers, non-zero divisors, shifts
//! by less than the width, copies and parts that do not overlap.

use std::fmt::Write;

use super::{Addr, Bin, Cmp, Elem, Inst, Kernel, PART, PARTS, Stmt, Ty, Un, Val, is_part};
use mcc_ir::{Error, Result};

/// Checks that every value is defined once and before its uses, in their block or an enclosing one, and that operands
/// have the types that instructions require.
///
/// # Errors
/// An internal error that lists all violations, with the kernel's text.
pub fn verify(kernel: &Kernel) -> Result<()> {
    let violations = violations(kernel);
    if violations.is_empty() {
        return Ok(());
    }
    let mut message = format!("kernel {} is unsound:", kernel.name);
    for violation in violations {
        let _ = write!(message, "\n  {violation}");
    }
    let _ = write!(message, "\n{kernel}");
    Err(Error::internal(message))
}

/// The violations of a kernel, in the order of its text.
pub fn violations(kernel: &Kernel) -> Vec<String> {
    let mut checker = Checker { kernel, defined: vec![State::Never; kernel.insts.len()], wrong: Vec::new() };
    checker.sharing();
    checker.block(&kernel.body);
    checker.wrong
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Never,
    /// Defined in this block or an enclosing one.
    Visible,
    /// Defined in a block that has ended.
    Left,
}

struct Checker<'a> {
    kernel: &'a Kernel,
    defined: Vec<State>,
    wrong: Vec<String>,
}

impl Checker<'_> {
    fn fail(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }

    fn sharing(&mut self) {
        let symbols = &self.kernel.symbols;
        let last = symbols.len().saturating_sub(2);
        let named: Vec<&str> = symbols[last..].iter().map(|s| &*s.0).collect();
        if symbols[..last].iter().any(is_part) || symbols[last..].iter().any(is_part) && named != [PART, PARTS] {
            self.fail(format!("{PART} and {PARTS} are not the last symbols"));
        }
    }

    /// The values that a block defines are not visible after it.
    fn block(&mut self, body: &[Stmt]) {
        let mut own = Vec::new();
        for stmt in body {
            self.statement(stmt, &mut own);
        }
        for v in own {
            self.leave(v);
        }
    }

    fn leave(&mut self, v: Val) {
        if let Some(state) = self.defined.get_mut(v.0 as usize) {
            *state = State::Left;
        }
    }

    fn statement(&mut self, stmt: &Stmt, own: &mut Vec<Val>) {
        match stmt {
            Stmt::Let(v) => {
                match self.kernel.insts.get(v.0 as usize) {
                    Some((Inst::Defined, _)) => self.fail(format!("{v} has no instruction")),
                    Some((inst, ty)) => self.instruction(*v, inst, *ty),
                    None => {}
                }
                self.define(*v, own);
            }
            Stmt::Store(to, v) => {
                self.address(to, "a store");
                if self.used(*v, "a store").is_some_and(|ty| ty.elem.is_mask()) {
                    self.fail(format!("{v} is a mask and stored"));
                }
            }
            Stmt::StorePart(to, v, count) => {
                self.address(to, "a store");
                self.integer(*count, "a store's count");
                if self.used(*v, "a store").is_some_and(|ty| ty.elem.is_mask()) {
                    self.fail(format!("{v} is a mask and stored"));
                }
            }
            Stmt::For { index, start, end, step, carried, body } => {
                for bound in [start, end] {
                    self.integer(*bound, "a loop's bound");
                }
                if *step <= 0 {
                    self.fail(format!("the loop over {index} has step {step}"));
                }
                let mut inside = Vec::new();
                self.structured(*index, Some(Ty::I64), &mut inside);
                for c in carried {
                    let ty = self.used(c.init, "a loop's carried value");
                    self.structured(c.inner, ty, &mut inside);
                }
                let mut block = Vec::new();
                for stmt in body {
                    self.statement(stmt, &mut block);
                }
                for c in carried {
                    let ty = self.used(c.next, "a loop's next value");
                    if ty != self.ty(c.inner) {
                        self.fail(format!("{} becomes {} of another type", c.inner, c.next));
                    }
                }
                block.into_iter().chain(inside).for_each(|v| self.leave(v));
                for c in carried {
                    self.structured(c.result, self.ty(c.inner), own);
                }
            }
            Stmt::If { condition, then, otherwise, results } => {
                if self.used(*condition, "a condition").is_some_and(|ty| !ty.elem.is_mask() || ty.lanes != 1) {
                    self.fail(format!("{condition} is a condition but not a scalar mask"));
                }
                let mut branch = |body: &[Stmt], values: Vec<Val>| {
                    let mut block = Vec::new();
                    for stmt in body {
                        self.statement(stmt, &mut block);
                    }
                    let types: Vec<_> = values.iter().map(|&v| self.used(v, "a branch's result")).collect();
                    block.into_iter().for_each(|v| self.leave(v));
                    types
                };
                let a = branch(then, results.iter().map(|r| r.1).collect());
                let b = branch(otherwise, results.iter().map(|r| r.2).collect());
                for ((result, ..), (a, b)) in results.iter().zip(a.into_iter().zip(b)) {
                    if a != b {
                        self.fail(format!("{result} has another type in each branch"));
                    }
                    self.structured(*result, a, own);
                }
            }
            Stmt::Copy { to, from, bytes } => {
                [to, from, bytes].into_iter().for_each(|v| self.integer(*v, "a copy"));
            }
            Stmt::Prefetch(at) => self.address(at, "a prefetch"),
            Stmt::Zero { to, bytes } => [to, bytes].into_iter().for_each(|v| self.integer(*v, "zeros")),
        }
    }

    fn define(&mut self, v: Val, own: &mut Vec<Val>) {
        match self.defined.get_mut(v.0 as usize) {
            Some(state) if *state == State::Never => *state = State::Visible,
            Some(_) => self.fail(format!("{v} is defined twice")),
            None => self.fail(format!("{v} does not exist")),
        }
        own.push(v);
    }

    /// A value that a statement defines.
    fn structured(&mut self, v: Val, ty: Option<Ty>, own: &mut Vec<Val>) {
        if self.kernel.insts.get(v.0 as usize).is_some_and(|(inst, _)| *inst != Inst::Defined) {
            self.fail(format!("{v} is defined by a statement and by an instruction"));
        }
        if ty.is_some() && ty != self.ty(v) {
            self.fail(format!("{v} is not of its statement's type"));
        }
        self.define(v, own);
    }

    fn ty(&self, v: Val) -> Option<Ty> {
        self.kernel.insts.get(v.0 as usize).map(|(_, ty)| *ty)
    }

    /// The type of an operand, which must be visible.
    fn used(&mut self, v: Val, by: &str) -> Option<Ty> {
        match self.defined.get(v.0 as usize) {
            Some(State::Visible) => return self.ty(v),
            Some(State::Never) => self.fail(format!("{by} uses {v} before it is defined")),
            Some(State::Left) => self.fail(format!("{by} uses {v}, which another block defines")),
            None => self.fail(format!("{by} uses {v}, which does not exist")),
        }
        None
    }

    fn integer(&mut self, v: Val, by: &str) {
        if self.used(v, by).is_some_and(|ty| ty != Ty::I64) {
            self.fail(format!("{by} uses {v}, which is not an i64"));
        }
    }

    fn address(&mut self, a: &Addr, by: &str) {
        self.integer(a.base, by);
        if let Some(index) = a.index {
            self.integer(index, by);
        }
        if !matches!(a.scale, 1 | 2 | 4 | 8) {
            self.fail(format!("{by} has scale {}", a.scale));
        }
    }

    fn instruction(&mut self, v: Val, inst: &Inst, ty: Ty) {
        let by = &v.to_string();
        if !ty.lanes.is_power_of_two() {
            self.fail(format!("{v} has {} lanes", ty.lanes));
        }
        let elem = ty.elem;
        let fits = match inst {
            Inst::Pointer(n) => ty == Ty::I64 && *n < self.kernel.pointers,
            Inst::Symbol(n) => ty == Ty::I64 && (*n as usize) < self.kernel.symbols.len(),
            Inst::Int(_) => elem.is_int(),
            Inst::Float(_) => elem.is_float(),
            Inst::Load(from) => {
                self.address(from, by);
                !elem.is_mask()
            }
            Inst::LoadExpanded(from, mask) => {
                self.address(from, by);
                self.integer(*mask, by);
                elem == Elem::I8 && (2..=64).contains(&ty.lanes)
            }
            Inst::LoadPart(from, count) => {
                self.address(from, by);
                self.integer(*count, by);
                !elem.is_mask()
            }
            _ => {
                // Operands that are not visible are reported once; their other rules cannot be checked.
                let operands: Option<Vec<Ty>> = inst.operands().into_iter().map(|o| self.used(o, by)).collect();
                operands.is_none_or(|operands| takes_operands(inst, ty, &operands))
            }
        };
        if !fits {
            self.fail(format!("{v}: {ty} does not fit its operands or operation: {inst:?}"));
        }
    }
}

/// Whether an instruction that reads no memory computes a value of type `ty` from operands of types `t`.
fn takes_operands(inst: &Inst, ty: Ty, t: &[Ty]) -> bool {
    let (elem, scalar) = (ty.elem, ty.lanes == 1);
    match inst {
        Inst::Bin(Bin::Shl | Bin::Shr | Bin::Sar, ..) => {
            elem.is_int() && t[0] == ty && t[1].lanes == 1 && matches!(t[1].elem, Elem::I32 | Elem::I64)
        }
        Inst::Bin(op, ..) => t[0] == ty && t[1] == ty && takes(*op, elem, scalar),
        Inst::Un(op, _) => {
            let allowed = match op {
                Un::Neg | Un::Abs => !elem.is_mask(),
                Un::Not => !elem.is_float(),
                Un::Sqrt | Un::Floor | Un::Ceil | Un::Trunc | Un::Nearest => elem.is_float(),
                Un::CountOnes => elem.is_int() && scalar,
            };
            allowed && t[0] == ty
        }
        Inst::Fma(..) => elem.is_float() && t.iter().all(|t| *t == ty),
        Inst::FmaLane(_, _, lane, _) => {
            elem.is_float() && t[0] == ty && t[2] == ty && t[1].elem == elem && u32::from(*lane) < t[1].lanes
        }
        Inst::Dot(..) | Inst::MatrixDot(..) => {
            let bytes = Ty::new(Elem::I8, 4 * ty.lanes);
            let whole = matches!(inst, Inst::Dot(..)) || ty.lanes.is_multiple_of(4);
            whole && elem == Elem::I32 && t[0] == bytes && t[1] == bytes && t[2] == ty
        }
        Inst::Cmp(op, ..) => {
            let unsigned = matches!(op, Cmp::ULt | Cmp::ULe | Cmp::UGt | Cmp::UGe);
            let compared = t[0].elem;
            t[0] == t[1] && !compared.is_mask() && (!unsigned || compared.is_int()) && ty == t[0].with(compared.mask())
        }
        Inst::Select(..) => {
            let width = scalar || t[0].elem.bytes() == elem.bytes();
            t[0].elem.is_mask() && t[0].lanes == ty.lanes && width && t[1] == ty && t[2] == ty
        }
        Inst::MaskToInt(_) => t[0].elem.is_mask() && ty == t[0].with(t[0].elem.int()),
        Inst::AnyTrue(_) => t[0].elem.is_mask() && ty == Ty::new(Elem::Mask8, 1),
        Inst::Splat(_) => t[0] == ty.with_lanes(1),
        Inst::Lane(_, lane) => scalar && t[0].elem == elem && u32::from(*lane) < t[0].lanes,
        Inst::WithLane(_, _, lane) => t[0] == ty && t[1] == ty.with_lanes(1) && u32::from(*lane) < ty.lanes,
        Inst::Shuffle(_, _, pattern) => {
            let inside = pattern.iter().all(|&i| u32::from(i) < 2 * t[0].lanes);
            t[0] == t[1] && t[0].elem == elem && pattern.len() == ty.lanes as usize && inside
        }
        Inst::Bitcast(_) => t[0].bytes() == ty.bytes() && !t[0].elem.is_mask() && !elem.is_mask(),
        Inst::Convert(_) => t[0].lanes == ty.lanes && !t[0].elem.is_mask() && !elem.is_mask(),
        Inst::UConvert(_) => {
            let from = t[0].elem;
            let widens = from.is_int() && elem.is_int() && elem.bytes() > from.bytes();
            t[0].lanes == ty.lanes && (widens || from.is_int() && elem.is_float() || from.is_float() && elem.is_int())
        }
        Inst::Quantize(parts, ..) => {
            let lanes = t[0].lanes * parts.len() as u32;
            let whole = parts.len() == 1 || t[0].lanes.is_multiple_of(4);
            let same = t.iter().all(|&of| of == t[0]);
            t[0].elem == Elem::F32 && same && whole && ty == Ty::new(Elem::I8, lanes)
        }
        Inst::Lookup(..) => elem == Elem::I8 && t[0] == ty && t[1] == Ty::I64,
        Inst::Grid(..) => elem == Elem::F32 && t[0] == ty && t[1] == ty,
        Inst::FromHalf(_) => t[0] == ty.with(Elem::I16) && elem == Elem::F32,
        Inst::ToHalf(_) => t[0] == ty.with(Elem::F32) && elem == Elem::I16,
        Inst::Permute(..) => t[0] == ty && t[1] == ty.with(Elem::I32) && elem.bytes() == 4 && ty.lanes > 1,
        Inst::Pointer(_)
        | Inst::Symbol(_)
        | Inst::Int(_)
        | Inst::Float(_)
        | Inst::Load(_)
        | Inst::LoadPart(..)
        | Inst::LoadExpanded(..)
        | Inst::Defined => true,
    }
}

/// Whether an operation on two operands of one type supports a type.
fn takes(op: Bin, elem: Elem, scalar: bool) -> bool {
    match op {
        Bin::Add | Bin::Sub | Bin::Mul | Bin::Min | Bin::Max => !elem.is_mask(),
        Bin::Div => elem.is_float() || elem.is_int() && scalar,
        Bin::UDiv | Bin::Rem | Bin::URem => elem.is_int() && scalar,
        Bin::UMin | Bin::UMax | Bin::Shl | Bin::Shr | Bin::Sar => elem.is_int(),
        Bin::And | Bin::Or | Bin::Xor => !elem.is_float(),
    }
}
