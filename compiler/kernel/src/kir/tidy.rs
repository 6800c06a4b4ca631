//! Optimizes a kernel before emission: common subexpressions, loop-invariant code, additions of constants folded into
//! addresses.
//!
//! Loads are not moved, nor are integer divisions, which trap if they precede their guards.

use std::collections::HashMap;

use mcc_targets::Arch;

use super::{Addr, Bin, Carried, Inst, Kernel, Stmt, Ty, Val};

/// The optimized kernel: the same values, fewer or moved.
pub fn tidy(kernel: &Kernel, arch: Arch) -> Kernel {
    let mut t = Tidy {
        arch,
        insts: kernel.insts.clone(),
        same: (0..kernel.insts.len() as u32).map(Val).collect(),
        level: vec![0; kernel.insts.len()],
        open: vec![Level { is_loop: false, out: Vec::new(), known: HashMap::new() }],
    };
    t.block(&kernel.body);
    let body = t.open.pop().map(|l| l.out).unwrap_or_default();
    Kernel { insts: t.insts, body, ..kernel.clone() }
}

struct Tidy {
    arch: Arch,
    insts: Vec<(Inst, Ty)>,
    /// The replacement of each value.
    same: Vec<Val>,
    /// Index into `open` of the block where each value is computed.
    level: Vec<usize>,
    open: Vec<Level>,
}

/// An open structured block.
struct Level {
    is_loop: bool,
    out: Vec<Stmt>,
    known: HashMap<(Inst, Ty), Val>,
}

impl Tidy {
    fn now(&self, v: Val) -> Val {
        self.same[v.0 as usize]
    }

    fn block(&mut self, statements: &[Stmt]) {
        for statement in statements {
            match statement {
                Stmt::Let(v) => self.compute(*v),
                Stmt::Store(to, v) => {
                    let v = self.now(*v);
                    let to = self.address(*to, self.insts[v.0 as usize].1);
                    self.push(Stmt::Store(to, v));
                }
                Stmt::StorePart(to, v, count) => {
                    let (v, count) = (self.now(*v), self.now(*count));
                    let to = self.address(*to, self.insts[v.0 as usize].1);
                    self.push(Stmt::StorePart(to, v, count));
                }
                Stmt::Prefetch(at) => {
                    let at = self.address(*at, Ty::I64);
                    self.push(Stmt::Prefetch(at));
                }
                Stmt::For { index, start, end, step, carried, body } => {
                    let (start, end) = (self.now(*start), self.now(*end));
                    let inits: Vec<Val> = carried.iter().map(|c| self.now(c.init)).collect();
                    let inner = carried.iter().map(|c| c.inner).chain([*index]);
                    let body = self.nested(true, inner, body);
                    let carried = carried
                        .iter()
                        .zip(inits)
                        .map(|(c, init)| Carried { init, next: self.now(c.next), ..*c })
                        .collect::<Vec<_>>();
                    for c in &carried {
                        self.defined_here(c.result);
                    }
                    self.push(Stmt::For { index: *index, start, end, step: *step, carried, body });
                }
                Stmt::If { condition, then, otherwise, results } => {
                    let condition = self.now(*condition);
                    let then = self.nested(false, [].into_iter(), then);
                    let ones: Vec<Val> = results.iter().map(|r| self.now(r.1)).collect();
                    let otherwise = self.nested(false, [].into_iter(), otherwise);
                    let results =
                        results.iter().zip(ones).map(|(r, one)| (r.0, one, self.now(r.2))).collect::<Vec<_>>();
                    for r in &results {
                        self.defined_here(r.0);
                    }
                    self.push(Stmt::If { condition, then, otherwise, results });
                }
                Stmt::Copy { to, from, bytes } => {
                    let (to, from, bytes) = (self.now(*to), self.now(*from), self.now(*bytes));
                    self.push(Stmt::Copy { to, from, bytes });
                }
                Stmt::Zero { to, bytes } => {
                    let (to, bytes) = (self.now(*to), self.now(*bytes));
                    self.push(Stmt::Zero { to, bytes });
                }
            }
        }
    }

    fn nested(&mut self, is_loop: bool, defined: impl Iterator<Item = Val>, statements: &[Stmt]) -> Vec<Stmt> {
        self.open.push(Level { is_loop, out: Vec::new(), known: HashMap::new() });
        for v in defined {
            self.defined_here(v);
        }
        self.block(statements);
        self.open.pop().map(|l| l.out).unwrap_or_default()
    }

    fn defined_here(&mut self, v: Val) {
        self.level[v.0 as usize] = self.open.len() - 1;
    }

    fn push(&mut self, statement: Stmt) {
        if let Some(level) = self.open.last_mut() {
            level.out.push(statement);
        }
    }

    fn compute(&mut self, v: Val) {
        let (inst, ty) = self.insts[v.0 as usize].clone();
        let inst = self.renamed(inst, ty);
        self.insts[v.0 as usize].0 = inst.clone();
        if matches!(inst, Inst::Load(_) | Inst::LoadPart(..) | Inst::LoadExpanded(..)) {
            self.defined_here(v);
            return self.push(Stmt::Let(v));
        }
        let key = (inst, ty);
        if let Some(&same) = self.open.iter().rev().find_map(|l| l.known.get(&key)) {
            self.same[v.0 as usize] = same;
            return;
        }
        let at = self.placement(&key.0);
        self.level[v.0 as usize] = at;
        self.open[at].out.push(Stmt::Let(v));
        self.open[at].known.insert(key, v);
    }

    /// The outermost block that may compute an instruction: outside every loop that does not change it.
    fn placement(&self, inst: &Inst) -> usize {
        let innermost = self.open.len() - 1;
        let traps = matches!(inst, Inst::Bin(Bin::Div | Bin::UDiv | Bin::Rem | Bin::URem, a, _)
            if !self.insts[a.0 as usize].1.elem.is_float());
        if traps {
            return innermost;
        }
        let needs = inst.operands().into_iter().map(|v| self.level[v.0 as usize]).max().unwrap_or(0);
        (needs + 1..=innermost).find(|&l| self.open[l].is_loop).map_or(innermost, |l| l - 1)
    }

    /// An address for an access of type `ty`, with constants folded into its offset as far as its range allows.
    fn address(&self, a: Addr, ty: Ty) -> Addr {
        let mut a = Addr { base: self.now(a.base), index: a.index.map(|i| self.now(i)), ..a };
        while let Some(folded) = self.fold(a).filter(|f| self.reaches(f.offset, ty)) {
            a = folded;
        }
        a
    }

    /// The same address with one more constant folded into its offset.
    fn fold(&self, a: Addr) -> Option<Addr> {
        let moved = |c: i64, scale: u8| -> Option<i32> {
            i32::try_from(i64::from(a.offset).checked_add(c.checked_mul(scale.into())?)?).ok()
        };
        if let Some(index) = a.index {
            if let Inst::Int(c) = self.insts[index.0 as usize].0 {
                return Some(Addr { index: None, offset: moved(c, a.scale)?, ..a });
            }
            if let Some((inner, c)) = self.offset_of(index) {
                return Some(Addr { index: Some(inner), offset: moved(c, a.scale)?, ..a });
            }
        }
        let (base, c) = self.offset_of(a.base)?;
        Some(Addr { base, offset: moved(c, 1)?, ..a })
    }

    /// Whether an access supports this offset without an additional instruction.
    fn reaches(&self, offset: i32, ty: Ty) -> bool {
        match self.arch {
            Arch::X86_64 => offset.abs() < 1 << 28,
            Arch::Aarch64 => {
                let size = (ty.elem.bytes() * ty.lanes).min(16) as i32;
                // The last register of a wide value is at a larger offset.
                let last = offset.saturating_add((ty.bytes() as i32 - size).max(0));
                (-256..256).contains(&last) || (last >= 0 && last % size == 0 && last / size < 4096)
            }
        }
    }

    /// `v` as the sum of another value and a constant.
    fn offset_of(&self, v: Val) -> Option<(Val, i64)> {
        let constant = |v: Val| match self.insts[v.0 as usize].0 {
            Inst::Int(c) => Some(c),
            _ => None,
        };
        match self.insts[v.0 as usize].0 {
            Inst::Bin(Bin::Add, a, b) => constant(b).map(|c| (a, c)).or_else(|| constant(a).map(|c| (b, c))),
            Inst::Bin(Bin::Sub, a, b) => Some((a, constant(b)?.checked_neg()?)),
            _ => None,
        }
    }

    fn renamed(&self, inst: Inst, ty: Ty) -> Inst {
        let now = |v: Val| self.now(v);
        match inst {
            Inst::Pointer(_) | Inst::Symbol(_) | Inst::Int(_) | Inst::Float(_) | Inst::Defined => inst,
            Inst::Load(from) => Inst::Load(self.address(from, ty)),
            Inst::LoadPart(from, count) => Inst::LoadPart(self.address(from, ty), now(count)),
            Inst::LoadExpanded(from, mask) => Inst::LoadExpanded(self.address(from, ty), now(mask)),
            Inst::Bin(op, a, b) => Inst::Bin(op, now(a), now(b)),
            Inst::Un(op, a) => Inst::Un(op, now(a)),
            Inst::Fma(a, b, c) => Inst::Fma(now(a), now(b), now(c)),
            Inst::FmaLane(a, b, lane, c) => Inst::FmaLane(now(a), now(b), lane, now(c)),
            Inst::Dot(kind, a, b, acc) => Inst::Dot(kind, now(a), now(b), now(acc)),
            Inst::MatrixDot(kind, a, b, acc) => Inst::MatrixDot(kind, now(a), now(b), now(acc)),
            Inst::Cmp(op, a, b) => Inst::Cmp(op, now(a), now(b)),
            Inst::Select(m, a, b) => Inst::Select(now(m), now(a), now(b)),
            Inst::MaskToInt(m) => Inst::MaskToInt(now(m)),
            Inst::AnyTrue(m) => Inst::AnyTrue(now(m)),
            Inst::Splat(a) => Inst::Splat(now(a)),
            Inst::Lane(a, lane) => Inst::Lane(now(a), lane),
            Inst::WithLane(a, s, lane) => Inst::WithLane(now(a), now(s), lane),
            Inst::Shuffle(a, b, pattern) => Inst::Shuffle(now(a), now(b), pattern),
            Inst::Bitcast(a) => Inst::Bitcast(now(a)),
            Inst::Convert(a) => Inst::Convert(now(a)),
            Inst::UConvert(a) => Inst::UConvert(now(a)),
            Inst::Quantize(parts, zero, signed) => {
                Inst::Quantize(parts.into_iter().map(now).collect(), now(zero), signed)
            }
            Inst::Lookup(a, table) => Inst::Lookup(now(a), now(table)),
            Inst::Grid(a, zero, rounding) => Inst::Grid(now(a), now(zero), rounding),
            Inst::FromHalf(a) => Inst::FromHalf(now(a)),
            Inst::ToHalf(a) => Inst::ToHalf(now(a)),
            Inst::Permute(a, places) => Inst::Permute(now(a), now(places)),
        }
    }
}
