//! Builds kernels.
//!
//! [`masks`]: partial vectors; [`dims`]: dimensions; [`control`]: loops and branches.

mod parallel;

mod control;
mod dims;
mod masks;

use std::collections::HashMap;

use super::share::Share;
use super::{Addr, Bin, Cmp, DotKind, Elem, Inst, Kernel, Rounding, Stmt, Ty, Un, Val};
use mcc_ir::{DType, Dim};

/// Builds a kernel.
pub struct Builder {
    kernel: Kernel,
    /// Open blocks, the innermost last; the first is the function's body.
    blocks: Vec<Vec<Stmt>>,
    /// Statements before the body: arguments, dimensions, constants.
    entry: Vec<Stmt>,
    constants: HashMap<(Inst, Ty), Val>,
    dims: HashMap<Dim, Val>,
    /// Floor quotients of dimensions computed so far: they are factors of many others.
    quotients: HashMap<(Val, Val), Val>,
    /// Values that were decoded from a narrow type's code.
    codes: HashMap<Val, (DType, Val)>,
    /// Whether new statements go to `entry`.
    hoisting: bool,
    masks: bool,
    halves: bool,
    /// The count and the lanes of partial vectors: only lanes below the count are loaded and stored.
    part: Option<(Val, u32)>,
    pub(super) share: Share,
}

impl Builder {
    /// A kernel of `pointers` pointer arguments.
    pub fn new(name: &str, pointers: u32) -> Builder {
        let kernel =
            Kernel { name: name.to_string(), pointers, symbols: Vec::new(), insts: Vec::new(), body: Vec::new() };
        Builder {
            kernel,
            blocks: vec![Vec::new()],
            entry: Vec::new(),
            constants: HashMap::new(),
            dims: HashMap::new(),
            quotients: HashMap::new(),
            codes: HashMap::new(),
            hoisting: false,
            masks: false,
            halves: false,
            part: None,
            share: Share::default(),
        }
    }

    /// Sets whether the target has instructions that convert 16-bit floats.
    pub fn with_halves(self, halves: bool) -> Builder {
        Builder { halves, ..self }
    }

    /// Whether there are instructions that convert 16-bit floats.
    pub fn has_halves(&self) -> bool {
        self.halves
    }

    /// Lane `i` of the result is lane `places[i]` of `v`, modulo the number of lanes.
    pub fn permute(&mut self, v: Val, places: Val) -> Val {
        let ty = self.ty(v);
        self.inst(Inst::Permute(v, places), ty)
    }

    /// Converts 16-bit floats (as `I16`) to `F32`.
    pub fn half_to_float(&mut self, v: Val) -> Val {
        let ty = self.ty(v).with(Elem::F32);
        self.inst(Inst::FromHalf(v), ty)
    }

    /// Rounds `F32` to 16-bit floats (as `I16`).
    pub fn float_to_half(&mut self, v: Val) -> Val {
        let ty = self.ty(v).with(Elem::I16);
        self.inst(Inst::ToHalf(v), ty)
    }

    /// The finished kernel.
    pub fn finish(mut self) -> Kernel {
        self.kernel.body = self.entry;
        self.kernel.body.append(&mut self.blocks[0]);
        self.kernel.parts_last();
        self.kernel
    }

    /// A value's type.
    pub fn ty(&self, v: Val) -> Ty {
        self.kernel.insts[v.0 as usize].1
    }

    /// A value's integer constant, if it is one.
    pub fn as_int(&self, v: Val) -> Option<i64> {
        match self.kernel.insts[v.0 as usize].0 {
            Inst::Int(c) => Some(c),
            _ => None,
        }
    }

    /// Pointer argument `n`.
    pub fn pointer(&mut self, n: u32) -> Val {
        assert!(n < self.kernel.pointers, "pointer argument {n} of {}", self.kernel.pointers);
        self.entry_value(Inst::Pointer(n), Ty::I64)
    }

    /// One more pointer argument, after the existing ones.
    pub fn new_pointer(&mut self) -> Val {
        self.kernel.pointers += 1;
        self.pointer(self.kernel.pointers - 1)
    }

    /// Records the code of a value in a narrow type, so that storing it need not encode it.
    pub fn note_code(&mut self, v: Val, dtype: DType, code: Val) {
        self.codes.insert(v, (dtype, code));
    }

    /// The code that a value was decoded from, if it has this type.
    pub fn code_of(&self, v: Val, dtype: DType) -> Option<Val> {
        self.codes.get(&v).filter(|(of, _)| *of == dtype).map(|(_, code)| *code)
    }

    /// The instruction that defines a value.
    pub fn inst_of(&self, v: Val) -> &Inst {
        &self.kernel.insts[v.0 as usize].0
    }

    /// An `i64` constant.
    pub fn int(&mut self, c: i64) -> Val {
        self.entry_value(Inst::Int(c), Ty::I64)
    }

    /// An integer constant of a type, in every lane.
    pub fn int_of(&mut self, c: i64, ty: Ty) -> Val {
        self.entry_value(Inst::Int(c), ty)
    }

    /// A float constant of a type, in every lane.
    pub fn float(&mut self, c: f64, ty: Ty) -> Val {
        self.entry_value(Inst::Float(c.to_bits()), ty)
    }

    /// Zero of any number type.
    pub fn zero(&mut self, ty: Ty) -> Val {
        if ty.elem.is_float() { self.float(0.0, ty) } else { self.int_of(0, ty) }
    }

    /// Zero of a value's type.
    pub fn zero_like(&mut self, v: Val) -> Val {
        self.zero(self.ty(v))
    }

    /// Sum of integers or floats; folds `i64` constants.
    pub fn add(&mut self, a: Val, b: Val) -> Val {
        self.bin(Bin::Add, a, b)
    }

    /// Difference; folds `i64` constants.
    pub fn sub(&mut self, a: Val, b: Val) -> Val {
        self.bin(Bin::Sub, a, b)
    }

    /// Product; folds `i64` constants.
    pub fn mul(&mut self, a: Val, b: Val) -> Val {
        self.bin(Bin::Mul, a, b)
    }

    /// `a + c`.
    pub fn add_int(&mut self, a: Val, c: i64) -> Val {
        let c = self.int(c);
        self.add(a, c)
    }

    /// `a * c`.
    pub fn mul_int(&mut self, a: Val, c: i64) -> Val {
        let c = self.int(c);
        self.mul(a, c)
    }

    /// An operation on two operands of one type.
    pub fn bin(&mut self, op: Bin, a: Val, b: Val) -> Val {
        let ty = self.ty(a);
        if !matches!(op, Bin::Shl | Bin::Shr | Bin::Sar) {
            assert_eq!(ty, self.ty(b), "operands of {op:?}");
        }
        if ty == Ty::I64
            && let Some(folded) = self.fold(op, a, b)
        {
            return folded;
        }
        self.inst(Inst::Bin(op, a, b), ty)
    }

    fn fold(&mut self, op: Bin, a: Val, b: Val) -> Option<Val> {
        let (x, y) = (self.as_int(a), self.as_int(b));
        match (op, x, y) {
            (Bin::Add, Some(x), Some(y)) => Some(self.int(x.wrapping_add(y))),
            (Bin::Sub, Some(x), Some(y)) => Some(self.int(x.wrapping_sub(y))),
            (Bin::Mul, Some(x), Some(y)) => Some(self.int(x.wrapping_mul(y))),
            (Bin::Div, Some(x), Some(y)) if y != 0 => Some(self.int(x.wrapping_div(y))),
            (Bin::Rem, Some(x), Some(y)) if y != 0 => Some(self.int(x.wrapping_rem(y))),
            (Bin::Min, Some(x), Some(y)) => Some(self.int(x.min(y))),
            (Bin::Max, Some(x), Some(y)) => Some(self.int(x.max(y))),
            (Bin::Add, Some(0), _) | (Bin::Mul, Some(1), _) => Some(b),
            (Bin::Add | Bin::Sub, _, Some(0)) | (Bin::Mul | Bin::Div, _, Some(1)) => Some(a),
            (Bin::Mul, Some(0), _) | (Bin::Mul, _, Some(0)) | (Bin::Rem, _, Some(1)) => Some(self.int(0)),
            _ => None,
        }
    }

    /// An operation on one operand.
    pub fn un(&mut self, op: Un, a: Val) -> Val {
        let ty = self.ty(a);
        self.inst(Inst::Un(op, a), ty)
    }

    /// `a * b + c`.
    pub fn fma(&mut self, a: Val, b: Val, c: Val) -> Val {
        let ty = self.ty(c);
        self.inst(Inst::Fma(a, b, c), ty)
    }

    /// `a * b[lane] + c`.
    pub fn fma_lane(&mut self, a: Val, b: Val, lane: u8, c: Val) -> Val {
        let ty = self.ty(c);
        self.inst(Inst::FmaLane(a, b, lane, c), ty)
    }

    /// Adds the sums of four byte products per lane to `acc`.
    pub fn dot(&mut self, kind: DotKind, a: Val, b: Val, acc: Val) -> Val {
        let ty = self.ty(acc);
        self.inst(Inst::Dot(kind, a, b, acc), ty)
    }

    /// Adds products of 2x8 and 8x2 matrices of bytes to `acc`; see [`Inst::MatrixDot`].
    pub fn matrix_dot(&mut self, kind: DotKind, a: Val, b: Val, acc: Val) -> Val {
        let ty = self.ty(acc);
        self.inst(Inst::MatrixDot(kind, a, b, acc), ty)
    }

    /// Comparison.
    pub fn cmp(&mut self, op: Cmp, a: Val, b: Val) -> Val {
        let ty = self.ty(a);
        assert_eq!(ty, self.ty(b), "operands of {op:?}");
        self.inst(Inst::Cmp(op, a, b), ty.with(ty.elem.mask()))
    }

    /// `mask ? a : b`.
    pub fn select(&mut self, mask: Val, a: Val, b: Val) -> Val {
        let ty = self.ty(a);
        assert_eq!(ty, self.ty(b), "operands of select");
        if a == b {
            return a;
        }
        self.inst(Inst::Select(mask, a, b), ty)
    }

    /// A mask as integers 0 and 1.
    pub fn mask_to_int(&mut self, mask: Val) -> Val {
        let ty = self.ty(mask);
        self.inst(Inst::MaskToInt(mask), ty.with(ty.elem.int()))
    }

    /// Whether any lane is true.
    pub fn any_true(&mut self, mask: Val) -> Val {
        self.inst(Inst::AnyTrue(mask), Ty::new(Elem::Mask8, 1))
    }

    /// A scalar, broadcast to `lanes` lanes.
    pub fn splat(&mut self, v: Val, lanes: u32) -> Val {
        let ty = self.ty(v);
        match (lanes, self.kernel.insts[v.0 as usize].0.clone()) {
            (1, _) => v,
            (_, inst @ (Inst::Int(_) | Inst::Float(_))) => self.entry_value(inst, Ty::new(ty.elem, lanes)),
            _ => self.inst(Inst::Splat(v), Ty::new(ty.elem, lanes)),
        }
    }

    /// One lane.
    pub fn lane(&mut self, v: Val, lane: u8) -> Val {
        let ty = self.ty(v);
        if ty.lanes == 1 { v } else { self.inst(Inst::Lane(v, lane), Ty::new(ty.elem, 1)) }
    }

    /// A vector with one lane replaced.
    pub fn with_lane(&mut self, v: Val, scalar: Val, lane: u8) -> Val {
        let ty = self.ty(v);
        self.inst(Inst::WithLane(v, scalar, lane), ty)
    }

    /// Lanes of `a` and `b` in any order.
    pub fn shuffle(&mut self, a: Val, b: Val, pattern: &[u8]) -> Val {
        let ty = self.ty(a);
        self.inst(Inst::Shuffle(a, b, pattern.to_vec()), Ty::new(ty.elem, pattern.len() as u32))
    }

    /// Reinterprets the bits as another type of the same size.
    pub fn bitcast(&mut self, v: Val, to: Ty) -> Val {
        if self.ty(v) == to { v } else { self.inst(Inst::Bitcast(v), to) }
    }

    /// Converts signed numbers.
    pub fn convert(&mut self, v: Val, to: Elem) -> Val {
        let ty = self.ty(v);
        if ty.elem == to { v } else { self.inst(Inst::Convert(v), ty.with(to)) }
    }

    /// Converts unsigned numbers.
    pub fn uconvert(&mut self, v: Val, to: Elem) -> Val {
        let ty = self.ty(v);
        if ty.elem == to { v } else { self.inst(Inst::UConvert(v), ty.with(to)) }
    }

    /// Quantizes `F32` vectors to bytes, see [`Inst::Quantize`].
    pub fn quantize(&mut self, parts: &[Val], zero: Val, rounding: Rounding) -> Val {
        let lanes = self.ty(zero).lanes * parts.len() as u32;
        self.inst(Inst::Quantize(parts.to_vec(), zero, rounding), Ty::new(Elem::I8, lanes))
    }

    /// The entry of a table of 256 bytes for each byte.
    pub fn lookup(&mut self, bytes: Val, table: Val) -> Val {
        let ty = self.ty(bytes);
        self.inst(Inst::Lookup(bytes, table), ty)
    }

    /// Each lane quantized to a byte, as a float, see [`Inst::Grid`].
    pub fn grid(&mut self, v: Val, zero: Val, rounding: Rounding) -> Val {
        let ty = self.ty(v);
        self.inst(Inst::Grid(v, zero, rounding), ty)
    }

    /// Combines all lanes of a vector into a scalar, in log2 steps.
    pub fn reduce_lanes(&mut self, v: Val, mut combine: impl FnMut(&mut Builder, Val, Val) -> Val) -> Val {
        let lanes = self.ty(v).lanes;
        let mut v = v;
        let mut half = lanes / 2;
        while half > 0 {
            let pattern: Vec<u8> = (0..lanes).map(|i| ((i + half) % lanes) as u8).collect();
            let rotated = self.shuffle(v, v, &pattern);
            v = combine(self, v, rotated);
            half /= 2;
        }
        self.lane(v, 0)
    }

    /// `pointer[offset]` in bytes.
    pub fn at(&mut self, pointer: Val, offset: i32) -> Addr {
        Addr { base: pointer, index: None, scale: 1, offset }
    }

    /// `pointer + index * scale`: folds a constant index into the offset.
    pub fn at_index(&mut self, pointer: Val, index: Val, scale: u32) -> Addr {
        let offset = self.as_int(index).map(|i| i.saturating_mul(i64::from(scale)));
        if let Some(offset) = offset.and_then(|o| i32::try_from(o).ok()) {
            return self.at(pointer, offset);
        }
        if matches!(scale, 1 | 2 | 4 | 8) {
            return Addr { base: pointer, index: Some(index), scale: scale as u8, offset: 0 };
        }
        let bytes = self.mul_int(index, i64::from(scale));
        Addr { base: pointer, index: Some(bytes), scale: 1, offset: 0 }
    }

    /// A load.
    pub fn load(&mut self, ty: Ty, from: Addr) -> Val {
        match self.part(ty.lanes) {
            Some(count) => self.load_part(ty, from, count),
            None => self.inst(Inst::Load(from), ty),
        }
    }

    /// Loads bytes into the lanes whose bits are set, see [`Inst::LoadExpanded`].
    pub fn load_expanded(&mut self, lanes: u32, from: Addr, mask: Val) -> Val {
        self.inst(Inst::LoadExpanded(from, mask), Ty::new(Elem::I8, lanes))
    }

    /// A store.
    pub fn store(&mut self, to: Addr, v: Val) {
        match self.part(self.ty(v).lanes) {
            Some(count) => self.store_part(to, v, count),
            None => self.push(Stmt::Store(to, v)),
        }
    }

    /// Copies `bytes` bytes.
    pub fn copy(&mut self, to: Val, from: Val, bytes: Val) {
        self.push(Stmt::Copy { to, from, bytes });
    }

    /// Prefetches an address.
    pub fn prefetch(&mut self, at: Addr) {
        self.push(Stmt::Prefetch(at));
    }

    /// Fills memory with zeros.
    pub fn fill_zero(&mut self, to: Val, bytes: Val) {
        self.push(Stmt::Zero { to, bytes });
    }

    fn inst(&mut self, inst: Inst, ty: Ty) -> Val {
        let v = self.new_val(inst, ty);
        self.push(Stmt::Let(v));
        v
    }

    /// A value that depends on nothing computed in the body: defined once, at entry.
    fn entry_value(&mut self, inst: Inst, ty: Ty) -> Val {
        if let Some(&v) = self.constants.get(&(inst.clone(), ty)) {
            return v;
        }
        let v = self.new_val(inst.clone(), ty);
        self.entry.push(Stmt::Let(v));
        self.constants.insert((inst, ty), v);
        v
    }

    fn new_val(&mut self, inst: Inst, ty: Ty) -> Val {
        self.kernel.insts.push((inst, ty));
        Val(self.kernel.insts.len() as u32 - 1)
    }

    fn push(&mut self, stmt: Stmt) {
        if self.hoisting {
            self.entry.push(stmt);
        } else if let Some(block) = self.blocks.last_mut() {
            block.push(stmt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dims_are_computed_once_at_entry() {
        let mut k = Builder::new("t", 1);
        let d = &Dim::sym("s") * &Dim::from(4i64);
        let (zero, p) = (k.int(0), k.pointer(0));
        let end = k.dim(&d);
        k.for_each(zero, end, 1, |k, i| {
            let again = k.dim(&d);
            let to = k.at_index(p, i, 8);
            k.store(to, again);
        });
        let kernel = k.finish();
        assert_eq!(kernel.symbols.len(), 1);
        let products = kernel.insts.iter().filter(|i| matches!(i.0, Inst::Bin(Bin::Mul, ..))).count();
        assert_eq!(products, 1);
    }
}
