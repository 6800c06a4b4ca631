//! Arithmetic on vector registers, including floats: one arm per kernel instruction.

use iced_x86::Mnemonic as M;
use regalloc2::VReg;

use super::{Parts, Selector, Source};
use crate::x86::machine::{Op, View};
use mcc_kernel::kir::{self, Bin, Elem, Ty, Un, Val};

/// Rounding of `vroundps`, without the inexact flag.
const NEAREST: i64 = 8;
const DOWN: i64 = 9;
const UP: i64 = 10;
const TOWARDS_ZERO: i64 = 11;

impl Selector<'_> {
    /// Emits the instruction that defines `v`. Constants emit nothing: they are materialized at their uses.
    pub fn compute(&mut self, v: Val) {
        let kernel = self.kernel;
        let (inst, ty) = &kernel.insts[v.0 as usize];
        let ty = *ty;
        let parts = match inst {
            kir::Inst::Int(_) | kir::Inst::Float(_) | kir::Inst::Defined => return,
            kir::Inst::Pointer(n) => vec![self.arguments[*n as usize]],
            kir::Inst::Symbol(n) => vec![self.arguments[(kernel.pointers + n) as usize]],
            kir::Inst::Load(from) => return self.load(v, *from),
            kir::Inst::LoadPart(from, count) => self.load_part(v, *from, *count),
            kir::Inst::LoadExpanded(from, mask) => self.load_expanded(*from, *mask, ty),
            kir::Inst::Bin(op, a, b) => self.bin(*op, *a, *b, ty),
            kir::Inst::Un(op, a) => self.un(*op, *a, ty),
            kir::Inst::Fma(a, b, c) => self.fma(*a, *b, *c, ty),
            kir::Inst::FmaLane(a, b, lane, c) => {
                let spread = self.spread_lane(*b, *lane, ty);
                let (a, c) = (self.parts(*a), self.parts(*c));
                let mnemonic = fma_mnemonic(M::Vfmadd231ps, ty);
                (0..c.len())
                    .map(|i| self.tied(mnemonic, self.part_view(ty), c[i], a[i], Source::Register(spread)))
                    .collect()
            }
            kir::Inst::Dot(kind, a, b, acc) => self.dot(*kind, *a, *b, *acc, ty),
            kir::Inst::MatrixDot(_, _, _, acc) => {
                self.refuse("a product of matrices of bytes".to_string());
                self.parts(*acc)
            }
            kir::Inst::Cmp(op, a, b) => match self.compare(v, *op, *a, *b) {
                Some(parts) => parts,
                None => return,
            },
            kir::Inst::Select(mask, a, b) => self.select(*mask, *a, *b, ty),
            kir::Inst::MaskToInt(mask) => self.mask_to_int(*mask, ty),
            kir::Inst::AnyTrue(mask) => vec![self.any_true(*mask)],
            kir::Inst::Splat(a) => match self.splat(v, *a, ty) {
                Some(parts) => parts,
                None => return,
            },
            kir::Inst::Lane(a, lane) => vec![self.lane(*a, *lane)],
            kir::Inst::WithLane(a, scalar, lane) => self.with_lane(*a, *scalar, *lane, ty),
            kir::Inst::Shuffle(a, b, pattern) => self.shuffle(*a, *b, pattern, ty),
            kir::Inst::Bitcast(a) => self.bitcast(*a, ty),
            kir::Inst::Convert(a) => self.convert(*a, ty, true),
            kir::Inst::UConvert(a) => self.convert(*a, ty, false),
            kir::Inst::Quantize(parts, zero, rounding) => self.quantize(parts, *zero, *rounding),
            kir::Inst::Lookup(x, table) => self.lookup(*x, *table, ty),
            kir::Inst::Grid(x, zero, rounding) => self.grid(*x, *zero, *rounding),
            kir::Inst::FromHalf(a) => self.half_to_float(*a, ty),
            kir::Inst::ToHalf(a) => self.float_to_half(*a, ty),
            kir::Inst::Permute(a, places) => self.permute(*a, *places, ty),
        };
        self.set(v, parts);
    }

    /// Whether a type is held in general registers.
    pub fn is_int(&self, ty: Ty) -> bool {
        ty.lanes == 1 && !ty.elem.is_float()
    }

    /// `mnemonic result, b, last`, where the result replaces `tied`.
    pub fn tied(&mut self, mnemonic: M, view: View, tied: VReg, b: VReg, last: Source) -> VReg {
        let result = self.vector();
        self.with_source(mnemonic, &[Op::Mod(result, tied, view), Op::Use(b, view)], view, last);
        result
    }

    fn each(&mut self, a: Parts, b: Vec<Source>, mnemonic: M, view: View) -> Parts {
        a.into_iter().zip(b).map(|(x, y)| self.v3(mnemonic, view, x, y)).collect()
    }

    fn bin(&mut self, op: Bin, a: Val, b: Val, ty: Ty) -> Parts {
        if ty.elem.is_mask() {
            return self.mask_bin(op, a, b, ty);
        }
        if self.is_int(ty) {
            return vec![self.int_bin(op, a, b, ty.elem)];
        }
        if matches!(op, Bin::Shl | Bin::Shr | Bin::Sar) {
            return self.shift(op, a, b, ty);
        }
        if ty.elem.is_float() && matches!(op, Bin::Min | Bin::Max) {
            return self.extremum(op, a, b, ty);
        }
        let view = self.part_view(ty);
        let Some(mnemonic) = self.bin_mnemonic(op, ty) else {
            let (x, y) = (self.parts(a), self.parts(b));
            return x.into_iter().zip(y).map(|(x, y)| self.bin_sequence(op, x, y, ty)).collect();
        };
        let commutes = matches!(
            op,
            Bin::Add | Bin::Mul | Bin::And | Bin::Or | Bin::Xor | Bin::Min | Bin::Max | Bin::UMin | Bin::UMax
        );
        let (a, b) = if commutes && self.foldable(a) && !self.foldable(b) { (b, a) } else { (a, b) };
        // Instructions on bytes and words have no broadcast operand.
        let y = if ty.elem.bytes() < 4 && self.constant_folds(b) {
            self.parts(b).into_iter().map(Source::Register).collect()
        } else {
            self.sources(b)
        };
        let x = self.parts(a);
        self.each(x, y, mnemonic, view)
    }

    /// The single instruction for an operation, if there is one.
    fn bin_mnemonic(&self, op: Bin, ty: Ty) -> Option<M> {
        let (scalar, wide) = (ty.lanes == 1, self.avx512);
        Some(match (op, ty.elem) {
            (Bin::Add, Elem::F32) => pick(scalar, M::Vaddss, M::Vaddps),
            (Bin::Sub, Elem::F32) => pick(scalar, M::Vsubss, M::Vsubps),
            (Bin::Mul, Elem::F32) => pick(scalar, M::Vmulss, M::Vmulps),
            (Bin::Div, Elem::F32) => pick(scalar, M::Vdivss, M::Vdivps),
            (Bin::Add, Elem::F64) => pick(scalar, M::Vaddsd, M::Vaddpd),
            (Bin::Sub, Elem::F64) => pick(scalar, M::Vsubsd, M::Vsubpd),
            (Bin::Mul, Elem::F64) => pick(scalar, M::Vmulsd, M::Vmulpd),
            (Bin::Div, Elem::F64) => pick(scalar, M::Vdivsd, M::Vdivpd),
            (Bin::Add, Elem::I8) => M::Vpaddb,
            (Bin::Add, Elem::I16) => M::Vpaddw,
            (Bin::Add, Elem::I32) => M::Vpaddd,
            (Bin::Add, Elem::I64) => M::Vpaddq,
            (Bin::Sub, Elem::I8) => M::Vpsubb,
            (Bin::Sub, Elem::I16) => M::Vpsubw,
            (Bin::Sub, Elem::I32) => M::Vpsubd,
            (Bin::Sub, Elem::I64) => M::Vpsubq,
            (Bin::Mul, Elem::I16) => M::Vpmullw,
            (Bin::Mul, Elem::I32) => M::Vpmulld,
            (Bin::Mul, Elem::I64) if wide => M::Vpmullq,
            (Bin::Min, Elem::I8) => M::Vpminsb,
            (Bin::Min, Elem::I16) => M::Vpminsw,
            (Bin::Min, Elem::I32) => M::Vpminsd,
            (Bin::Min, Elem::I64) if wide => M::Vpminsq,
            (Bin::Max, Elem::I8) => M::Vpmaxsb,
            (Bin::Max, Elem::I16) => M::Vpmaxsw,
            (Bin::Max, Elem::I32) => M::Vpmaxsd,
            (Bin::Max, Elem::I64) if wide => M::Vpmaxsq,
            (Bin::UMin, Elem::I8) => M::Vpminub,
            (Bin::UMin, Elem::I16) => M::Vpminuw,
            (Bin::UMin, Elem::I32) => M::Vpminud,
            (Bin::UMin, Elem::I64) if wide => M::Vpminuq,
            (Bin::UMax, Elem::I8) => M::Vpmaxub,
            (Bin::UMax, Elem::I16) => M::Vpmaxuw,
            (Bin::UMax, Elem::I32) => M::Vpmaxud,
            (Bin::UMax, Elem::I64) if wide => M::Vpmaxuq,
            (Bin::And, _) => self.logic(M::Vpand, ty.elem),
            (Bin::Or, _) => self.logic(M::Vpor, ty.elem),
            (Bin::Xor, _) => self.logic(M::Vpxor, ty.elem),
            _ => return None,
        })
    }

    /// The mnemonic of a bitwise instruction on an element: with AVX-512 it determines the broadcast's width.
    pub fn logic(&self, plain: M, elem: Elem) -> M {
        let long = elem.bytes() == 8;
        match plain {
            _ if !self.avx512 => plain,
            M::Vpand => pick(long, M::Vpandq, M::Vpandd),
            M::Vpandn => pick(long, M::Vpandnq, M::Vpandnd),
            M::Vpor => pick(long, M::Vporq, M::Vpord),
            _ => pick(long, M::Vpxorq, M::Vpxord),
        }
    }

    /// Operations that take several instructions.
    fn bin_sequence(&mut self, op: Bin, x: VReg, y: VReg, ty: Ty) -> VReg {
        let view = self.part_view(ty);
        match (op, ty.elem) {
            // Products of the even and odd bytes.
            (Bin::Mul, Elem::I8) => {
                let even = self.r3(M::Vpmullw, view, x, y);
                let (a, b) = (self.v2i(M::Vpsrlw, view, x, 8), self.v2i(M::Vpsrlw, view, y, 8));
                let odd = self.r3(M::Vpmullw, view, a, b);
                let odd = self.v2i(M::Vpsllw, view, odd, 8);
                let low = self.vector_constant(&[0xff, 0], ty.with(Elem::I16));
                let even = self.r3(self.logic(M::Vpand, Elem::I32), view, even, low);
                self.r3(self.logic(M::Vpor, Elem::I32), view, even, odd)
            }
            // low * low + ((high * low + low * high) << 32)
            (Bin::Mul, Elem::I64) => {
                let (a, b) = (self.v2i(M::Vpsrlq, view, x, 32), self.v2i(M::Vpsrlq, view, y, 32));
                let (a, b) = (self.r3(M::Vpmuludq, view, a, y), self.r3(M::Vpmuludq, view, x, b));
                let cross = self.r3(M::Vpaddq, view, a, b);
                let cross = self.v2i(M::Vpsllq, view, cross, 32);
                let low = self.r3(M::Vpmuludq, view, x, y);
                self.r3(M::Vpaddq, view, low, cross)
            }
            (Bin::Min | Bin::Max | Bin::UMin | Bin::UMax, Elem::I64) => {
                let unsigned = matches!(op, Bin::UMin | Bin::UMax);
                let greater = self.long_greater(x, y, view, unsigned);
                let (a, b) = if matches!(op, Bin::Max | Bin::UMax) { (x, y) } else { (y, x) };
                self.blend(view, greater, a, b)
            }
            _ => {
                self.refuse(format!("{op:?} of vectors of {:?}", ty.elem));
                x
            }
        }
    }

    /// `x > y` on 64-bit integers, without AVX-512.
    pub fn long_greater(&mut self, x: VReg, y: VReg, view: View, unsigned: bool) -> VReg {
        if !unsigned {
            return self.r3(M::Vpcmpgtq, view, x, y);
        }
        let ty = Ty::new(Elem::I64, if view == View::Y { 4 } else { 2 });
        let sign = self.vector_constant(&i64::MIN.to_le_bytes(), ty);
        let (x, y) = (self.r3(M::Vpxor, view, x, sign), self.r3(M::Vpxor, view, y, sign));
        self.r3(M::Vpcmpgtq, view, x, y)
    }

    fn shift(&mut self, op: Bin, a: Val, count: Val, ty: Ty) -> Parts {
        let view = self.part_view(ty);
        let parts = self.parts(a);
        let constant = self.constant(count);
        let count = match constant {
            Some(_) => None,
            None => {
                let (count, v) = (self.reg(count), self.vector());
                self.emit(M::Vmovd, &[Op::Def(v, View::X), Op::Use(count, View::D)]);
                Some(v)
            }
        };
        parts.into_iter().map(|x| self.shift_part(op, x, constant, count, ty.elem, view)).collect()
    }

    fn shift_part(
        &mut self,
        op: Bin,
        x: VReg,
        constant: Option<i64>,
        count: Option<VReg>,
        elem: Elem,
        view: View,
    ) -> VReg {
        let mnemonic = match (op, elem) {
            (Bin::Shl, Elem::I16) => M::Vpsllw,
            (Bin::Shl, Elem::I32) => M::Vpslld,
            (Bin::Shl, Elem::I64) => M::Vpsllq,
            (Bin::Shr, Elem::I16) => M::Vpsrlw,
            (Bin::Shr, Elem::I32) => M::Vpsrld,
            (Bin::Shr, Elem::I64) => M::Vpsrlq,
            (Bin::Sar, Elem::I16) => M::Vpsraw,
            (Bin::Sar, Elem::I32) => M::Vpsrad,
            (Bin::Sar, Elem::I64) if self.avx512 => M::Vpsraq,
            (Bin::Sar, _) => {
                // The shifted sign bit is what an unsigned shift lacks: (s ^ m) - m.
                let shifted = self.shift_part(Bin::Shr, x, constant, count, elem, view);
                let bytes = elem.bytes();
                let lanes = view_bytes(view) / bytes;
                let sign = (1u64 << (8 * bytes - 1)).to_le_bytes();
                let sign = self.vector_constant(&sign[..bytes as usize], Ty::new(elem, lanes));
                let sign = self.shift_part(Bin::Shr, sign, constant, count, elem, view);
                let flipped = self.r3(self.logic(M::Vpxor, elem), view, shifted, sign);
                return self.r3(if bytes == 1 { M::Vpsubb } else { M::Vpsubq }, view, flipped, sign);
            }
            // Bytes: shifted as words, without the bits from the neighbour.
            _ => {
                let shifted = self.shift_part(op, x, constant, count, Elem::I16, view);
                let lanes = view_bytes(view);
                let ones = self.vector_constant(&[0xff], Ty::new(Elem::I8, lanes));
                let kept = if op == Bin::Shl {
                    let low = self.vector_constant(&[0xff, 0], Ty::new(Elem::I16, lanes / 2));
                    let low = self.shift_part(Bin::Shl, low, constant, count, Elem::I16, view);
                    let high = self.vector_constant(&[0, 0xff], Ty::new(Elem::I16, lanes / 2));
                    let high = self.shift_part(Bin::Shl, high, constant, count, Elem::I16, view);
                    let mask = self.vector_constant(&[0xff, 0], Ty::new(Elem::I16, lanes / 2));
                    let low = self.r3(self.logic(M::Vpand, Elem::I32), view, low, mask);
                    self.r3(self.logic(M::Vpor, Elem::I32), view, low, high)
                } else {
                    let low = self.vector_constant(&[0xff, 0], Ty::new(Elem::I16, lanes / 2));
                    let low = self.shift_part(Bin::Shr, low, constant, count, Elem::I16, view);
                    let high = self.v2i(M::Vpsllw, view, low, 8);
                    self.r3(self.logic(M::Vpor, Elem::I32), view, low, high)
                };
                let kept = self.r3(self.logic(M::Vpand, Elem::I32), view, kept, ones);
                return self.r3(self.logic(M::Vpand, Elem::I32), view, shifted, kept);
            }
        };
        match (constant, count) {
            (Some(c), _) => self.v2i(mnemonic, view, x, c),
            (None, Some(count)) => {
                let v = self.vector();
                self.emit(mnemonic, &[Op::Def(v, view), Op::Use(x, view), Op::Use(count, View::X)]);
                v
            }
            (None, None) => x,
        }
    }

    /// The hardware's minimum and maximum return their second operand if either is NaN, so a NaN there is kept; one in
    /// the first operand needs a blend, unless that is a constant.
    fn extremum(&mut self, op: Bin, a: Val, b: Val, ty: Ty) -> Parts {
        let view = self.part_view(ty);
        let scalar = ty.lanes == 1;
        let mnemonic = match (op, ty.elem) {
            (Bin::Min, Elem::F32) => pick(scalar, M::Vminss, M::Vminps),
            (Bin::Min, _) => pick(scalar, M::Vminsd, M::Vminpd),
            (_, Elem::F32) => pick(scalar, M::Vmaxss, M::Vmaxps),
            _ => pick(scalar, M::Vmaxsd, M::Vmaxpd),
        };
        let number = |s: &Self, v: Val| match *s.inst(v) {
            kir::Inst::Float(bits) => !f64::from_bits(bits).is_nan(),
            kir::Inst::Int(_) => true,
            _ => false,
        };
        let (first, second) = if number(self, b) { (b, a) } else { (a, b) };
        if number(self, first) {
            let (x, y) = (self.parts(first), self.sources(second));
            return self.each(x, y, mnemonic, view);
        }
        let (x, y) = (self.parts(first), self.parts(second));
        x.into_iter()
            .zip(y)
            .map(|(x, y)| {
                let best = self.r3(mnemonic, view, x, y);
                self.or_nan(x, best, ty)
            })
            .collect()
    }

    fn un(&mut self, op: Un, a: Val, ty: Ty) -> Parts {
        if ty.elem.is_mask() && ty.lanes > 1 {
            return self.mask_not(a, ty);
        }
        if self.is_int(ty) {
            return vec![self.int_un(op, a, ty.elem)];
        }
        let view = self.part_view(ty);
        let size = ty.elem.bytes() as usize;
        let scalar = ty.lanes == 1;
        let rounding = match op {
            Un::Floor => Some(DOWN),
            Un::Ceil => Some(UP),
            Un::Trunc => Some(TOWARDS_ZERO),
            Un::Nearest => Some(NEAREST),
            _ => None,
        };
        let parts = self.parts(a);
        // Bitwise operations work on all lanes.
        let full = Ty::new(ty.elem.int(), view_bytes(view) / ty.elem.bytes());
        parts
            .into_iter()
            .map(|x| match op {
                Un::Sqrt => {
                    let mnemonic = match (ty.elem, scalar) {
                        (Elem::F32, true) => M::Vsqrtss,
                        (Elem::F32, false) => M::Vsqrtps,
                        (_, true) => M::Vsqrtsd,
                        (_, false) => M::Vsqrtpd,
                    };
                    if scalar { self.r3(mnemonic, view, x, x) } else { self.v2(mnemonic, view, Source::Register(x)) }
                }
                Un::Neg | Un::Abs if ty.elem.is_float() => {
                    let sign = (1u64 << (8 * size - 1)).to_le_bytes();
                    let bits: Vec<u8> = sign[..size].iter().map(|&b| if op == Un::Neg { b } else { !b }).collect();
                    let mask = self.vector_constant(&bits, full);
                    let mnemonic = if op == Un::Neg { M::Vpxor } else { M::Vpand };
                    self.r3(self.logic(mnemonic, ty.elem), view, x, mask)
                }
                Un::Neg => self.negative(x, ty.elem, view),
                Un::Abs if ty.elem == Elem::I64 && !self.avx512 => {
                    let negative = self.negative(x, ty.elem, view);
                    self.blend(view, x, negative, x)
                }
                Un::Abs => {
                    let mnemonic = match ty.elem {
                        Elem::I8 => M::Vpabsb,
                        Elem::I16 => M::Vpabsw,
                        Elem::I32 => M::Vpabsd,
                        _ => M::Vpabsq,
                    };
                    self.v2(mnemonic, view, Source::Register(x))
                }
                Un::Not => {
                    let ones = self.vector_constant(&[0xff; 8][..size], full);
                    self.r3(self.logic(M::Vpxor, ty.elem), view, x, ones)
                }
                Un::CountOnes => {
                    self.refuse("counted bits of a vector".to_string());
                    x
                }
                Un::Floor | Un::Ceil | Un::Trunc | Un::Nearest => {
                    let rounding = rounding.unwrap_or(NEAREST);
                    let single = ty.elem == Elem::F32;
                    let mnemonic = match (self.avx512, scalar) {
                        (true, true) => pick(single, M::Vrndscaless, M::Vrndscalesd),
                        (true, false) => pick(single, M::Vrndscaleps, M::Vrndscalepd),
                        (false, true) => pick(single, M::Vroundss, M::Vroundsd),
                        (false, false) => pick(single, M::Vroundps, M::Vroundpd),
                    };
                    if scalar {
                        self.v3i(mnemonic, view, x, x, rounding)
                    } else {
                        self.v2i(mnemonic, view, x, rounding)
                    }
                }
            })
            .collect()
    }

    fn negative(&mut self, x: VReg, elem: Elem, view: View) -> VReg {
        let zero = self.zero_vector();
        let mnemonic = match elem {
            Elem::I8 => M::Vpsubb,
            Elem::I16 => M::Vpsubw,
            Elem::I32 => M::Vpsubd,
            _ => M::Vpsubq,
        };
        self.r3(mnemonic, view, zero, x)
    }

    /// `a * b + c`: the overwritten operand depends on which one is dead, and which one is in memory.
    fn fma(&mut self, a: Val, b: Val, c: Val, ty: Ty) -> Parts {
        let view = self.part_view(ty);
        let last_use = |s: &Self, v: Val| s.uses[v.0 as usize] == 1 && !s.constant_folds(v);
        // A factor in memory must be second.
        let (a, b) = if self.foldable(a) && !self.foldable(b) { (b, a) } else { (a, b) };
        if self.foldable(c) && !self.foldable(b) && (last_use(self, a) || last_use(self, b)) {
            // a = a * b + memory
            let (a, b) = if last_use(self, a) { (a, b) } else { (b, a) };
            let (x, y) = (self.parts(a), self.parts(b));
            let z = self.sources(c);
            let mnemonic = fma_mnemonic(M::Vfmadd213ps, ty);
            return (0..x.len()).map(|i| self.tied(mnemonic, view, x[i], y[i], z[i])).collect();
        }
        if !last_use(self, c) && last_use(self, a) {
            // a = a * memory + c
            let (x, z) = (self.parts(a), self.parts(c));
            let y = self.sources(b);
            let mnemonic = fma_mnemonic(M::Vfmadd132ps, ty);
            return (0..x.len()).map(|i| self.tied(mnemonic, view, x[i], z[i], y[i])).collect();
        }
        let (x, z) = (self.parts(a), self.parts(c));
        let y = self.sources(b);
        let mnemonic = fma_mnemonic(M::Vfmadd231ps, ty);
        (0..x.len()).map(|i| self.tied(mnemonic, view, z[i], x[i], y[i])).collect()
    }
}

/// Bytes of a vector view.
pub fn view_bytes(view: View) -> u32 {
    match view {
        View::Z => 64,
        View::Y => 32,
        _ => 16,
    }
}

pub fn pick(first: bool, yes: M, no: M) -> M {
    if first { yes } else { no }
}

/// A multiply-add's mnemonic, from its form for packed `f32`.
fn fma_mnemonic(form: M, ty: Ty) -> M {
    match (form, ty.elem, ty.lanes) {
        (M::Vfmadd213ps, Elem::F32, 1) => M::Vfmadd213ss,
        (M::Vfmadd213ps, Elem::F32, _) => M::Vfmadd213ps,
        (M::Vfmadd213ps, _, 1) => M::Vfmadd213sd,
        (M::Vfmadd213ps, _, _) => M::Vfmadd213pd,
        (M::Vfmadd132ps, Elem::F32, 1) => M::Vfmadd132ss,
        (M::Vfmadd132ps, Elem::F32, _) => M::Vfmadd132ps,
        (M::Vfmadd132ps, _, 1) => M::Vfmadd132sd,
        (M::Vfmadd132ps, _, _) => M::Vfmadd132pd,
        (_, Elem::F32, 1) => M::Vfmadd231ss,
        (_, Elem::F32, _) => M::Vfmadd231ps,
        (_, _, 1) => M::Vfmadd231sd,
        _ => M::Vfmadd231pd,
    }
}
