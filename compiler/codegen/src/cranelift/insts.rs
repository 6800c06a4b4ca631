//! Instructions: one arm per kernel instruction. Operations are emitted part by part; those that the hardware lacks for
//! vectors, lane by lane.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::{FLAGS, Parts, Translator, part_type, vector_type};
use crate::parts::{capacity, part_count, place};
use mcc_kernel::kir::{Addr, Bin, Cmp, Elem, Inst, Ty, Un, Val};

impl Translator<'_> {
    /// Emits the instruction that defines `v`. Constants emit nothing: they are materialized at their uses.
    pub(super) fn inst(&mut self, v: Val) -> Parts {
        let kernel = self.kernel;
        let (inst, ty) = &kernel.insts[v.0 as usize];
        let ty = *ty;
        match inst {
            Inst::Int(_) | Inst::Float(_) => Vec::new(),
            Inst::Defined => self.values[v.0 as usize].clone(),
            Inst::Pointer(n) => vec![self.arguments[*n as usize]],
            Inst::Symbol(n) => vec![self.arguments[(kernel.pointers + n) as usize]],
            Inst::Load(from) => self.load(*from, ty),
            Inst::LoadPart(from, count) => self.load_part(*from, *count, ty),
            Inst::LoadExpanded(from, mask) => self.load_expanded(*from, *mask, ty),
            Inst::Bin(op, a, b) => self.bin(*op, *a, *b, ty),
            Inst::Un(op, a) => self.un(*op, *a, ty),
            Inst::Fma(a, b, c) => {
                let (a, b, c) = (self.parts(*a), self.parts(*b), self.parts(*c));
                (0..c.len()).map(|i| self.fma_part(a[i], b[i], c[i])).collect()
            }
            Inst::FmaLane(a, b, lane, c) => {
                let lane_type = self.ty(*b);
                let (a, b, c) = (self.parts(*a), self.parts(*b), self.parts(*c));
                let spread = self.spread_lane(&b, lane_type, u32::from(*lane));
                (0..c.len()).map(|i| self.fma_part(a[i], spread, c[i])).collect()
            }
            Inst::Dot(kind, a, b, acc) => self.dot(*kind, *a, *b, *acc),
            Inst::MatrixDot(kind, a, b, acc) => self.matrix_dot(*kind, *a, *b, *acc),
            Inst::Cmp(op, a, b) => self.compare(*op, *a, *b),
            Inst::Select(mask, a, b) => self.select(*mask, *a, *b, ty),
            Inst::MaskToInt(mask) => self.mask_to_int(*mask, ty),
            Inst::AnyTrue(mask) => vec![self.any_true(*mask)],
            Inst::Splat(a) => {
                let scalar = self.scalar(*a);
                if ty.lanes == 1 {
                    return vec![scalar];
                }
                let from = self.ty(*a).elem;
                let scalar = if is_mask(from) { self.b.ins().bmask(part_type(ty).lane_type(), scalar) } else { scalar };
                vec![self.b.ins().splat(part_type(ty), scalar); part_count(ty)]
            }
            Inst::Lane(a, lane) => {
                let from = self.ty(*a);
                let parts = self.parts(*a);
                let scalar = self.lane(&parts, from, u32::from(*lane));
                vec![scalar]
            }
            Inst::WithLane(a, scalar, lane) => {
                let mut parts = self.parts(*a);
                let scalar = self.scalar(*scalar);
                let (part, lane) = place(ty, u32::from(*lane));
                parts[part] = self.b.ins().insertlane(parts[part], scalar, lane);
                parts
            }
            Inst::Shuffle(a, b, pattern) => {
                let from = self.ty(*a);
                let (a, b) = (self.parts(*a), self.parts(*b));
                self.shuffle(&a, &b, from, pattern, ty)
            }
            Inst::Bitcast(a) => {
                let from = self.ty(*a);
                let parts = self.parts(*a);
                self.bitcast_parts(&parts, from, ty)
            }
            Inst::Convert(a) => {
                let from = self.ty(*a);
                let parts = self.parts(*a);
                self.convert(parts, from, ty, true)
            }
            Inst::FromHalf(a) | Inst::ToHalf(a) => {
                let from = self.ty(*a);
                let parts = self.parts(*a);
                self.convert_halves(&parts, from, ty)
            }
            Inst::Permute(a, places) => {
                let (parts, places) = (self.parts(*a), self.parts(*places));
                self.permute(&parts, &places, ty)
            }
            Inst::UConvert(a) => {
                let from = self.ty(*a);
                let parts = self.parts(*a);
                self.convert(parts, from, ty, false)
            }
            Inst::Quantize(parts, zero, rounding) => self.quantize(parts, *zero, rounding.signed),
            Inst::Lookup(x, table) => self.lookup(*x, *table),
            Inst::Grid(x, zero, rounding) => self.grid(*x, *zero, rounding.signed),
        }
    }

    pub(super) fn load(&mut self, from: Addr, ty: Ty) -> Parts {
        let (base, offset) = self.address(from);
        let clif = part_type(ty);
        if ty.lanes == 1 || ty.bytes() >= 16 {
            return (0..part_count(ty)).map(|i| self.b.ins().load(clif, FLAGS, base, offset + 16 * i as i32)).collect();
        }
        let wide = match ty.bytes() {
            8 => {
                let low = self.b.ins().load(types::F64, FLAGS, base, offset);
                self.b.ins().scalar_to_vector(types::F64X2, low)
            }
            4 => {
                let low = self.b.ins().load(types::F32, FLAGS, base, offset);
                self.b.ins().scalar_to_vector(types::F32X4, low)
            }
            _ => {
                let low = self.b.ins().uload16(types::I32, FLAGS, base, offset);
                self.b.ins().scalar_to_vector(types::I32X4, low)
            }
        };
        vec![self.cast_bits(wide, clif)]
    }

    pub(super) fn store(&mut self, to: Addr, v: Val) {
        let ty = self.ty(v);
        let parts = self.parts(v);
        let (base, offset) = self.address(to);
        if ty.lanes == 1 || ty.bytes() >= 16 {
            for (i, &part) in parts.iter().enumerate() {
                self.b.ins().store(FLAGS, part, base, offset + 16 * i as i32);
            }
            return;
        }
        let view = match ty.bytes() {
            8 => types::F64X2,
            4 => types::F32X4,
            _ => types::I16X8,
        };
        let wide = self.cast_bits(parts[0], view);
        let low = self.b.ins().extractlane(wide, 0);
        self.b.ins().store(FLAGS, low, base, offset);
    }

    fn fma_part(&mut self, a: Value, b: Value, c: Value) -> Value {
        if self.fma {
            return self.b.ins().fma(a, b, c);
        }
        let product = self.b.ins().fmul(a, b);
        self.b.ins().fadd(product, c)
    }

    fn bin(&mut self, op: Bin, a: Val, b: Val, ty: Ty) -> Parts {
        if matches!(op, Bin::Shl | Bin::Shr | Bin::Sar) {
            let count = self.scalar(b);
            let a = self.parts(a);
            return a.iter().map(|&x| self.shift(op, x, count)).collect();
        }
        if ty.elem.is_float() && matches!(op, Bin::Min | Bin::Max) && self.x86 {
            return self.x86_extremum(op, a, b, ty);
        }
        let (a, b) = (self.parts(a), self.parts(b));
        let by_lane = ty.lanes > 1
            && !ty.elem.is_float()
            && (matches!(op, Bin::Div | Bin::UDiv | Bin::Rem | Bin::URem) || (op == Bin::Mul && ty.elem == Elem::I8));
        if by_lane {
            return self.lane_by_lane(ty, |f, i| {
                let (x, y) = (f.lane(&a, ty, i), f.lane(&b, ty, i));
                f.bin_part(op, x, y, ty.with(ty.elem))
            });
        }
        (0..a.len()).map(|i| self.bin_part(op, a[i], b[i], ty)).collect()
    }

    fn bin_part(&mut self, op: Bin, a: Value, b: Value, ty: Ty) -> Value {
        let long = self.b.func.dfg.value_type(a) == types::I64X2;
        let float = ty.elem.is_float();
        let cc = match op {
            Bin::Min => IntCC::SignedLessThan,
            Bin::Max => IntCC::SignedGreaterThan,
            Bin::UMin => IntCC::UnsignedLessThan,
            _ => IntCC::UnsignedGreaterThan,
        };
        match op {
            Bin::Add if float => self.b.ins().fadd(a, b),
            Bin::Sub if float => self.b.ins().fsub(a, b),
            Bin::Mul if float => self.b.ins().fmul(a, b),
            Bin::Div if float => self.b.ins().fdiv(a, b),
            Bin::Min if float => self.b.ins().fmin(a, b),
            Bin::Max if float => self.b.ins().fmax(a, b),
            Bin::Add => self.b.ins().iadd(a, b),
            Bin::Sub => self.b.ins().isub(a, b),
            Bin::Mul => self.b.ins().imul(a, b),
            Bin::Div => self.b.ins().sdiv(a, b),
            Bin::UDiv => self.b.ins().udiv(a, b),
            Bin::Rem => self.b.ins().srem(a, b),
            Bin::URem => self.b.ins().urem(a, b),
            Bin::Min | Bin::Max | Bin::UMin | Bin::UMax if long => {
                let better = self.b.ins().icmp(cc, a, b);
                self.b.ins().bitselect(better, a, b)
            }
            Bin::Min => self.b.ins().smin(a, b),
            Bin::Max => self.b.ins().smax(a, b),
            Bin::UMin => self.b.ins().umin(a, b),
            Bin::UMax => self.b.ins().umax(a, b),
            Bin::And => self.b.ins().band(a, b),
            Bin::Or => self.b.ins().bor(a, b),
            Bin::Xor => self.b.ins().bxor(a, b),
            Bin::Shl | Bin::Shr | Bin::Sar => self.shift(op, a, b),
        }
    }

    fn shift(&mut self, op: Bin, a: Value, count: Value) -> Value {
        match op {
            Bin::Shl => self.b.ins().ishl(a, count),
            Bin::Shr => self.b.ins().ushr(a, count),
            _ => self.b.ins().sshr(a, count),
        }
    }

    /// x86's minimum and maximum return their second operand if either is NaN, so a NaN there is kept; one in the first
    /// operand needs a blend, unless that is a constant. `fmin` would also order zeros, at twice the cost.
    fn x86_extremum(&mut self, op: Bin, a: Val, b: Val, ty: Ty) -> Parts {
        let (first, second) = if self.is_number(b) { (b, a) } else { (a, b) };
        let checked = !self.is_number(first);
        let (first, second) = (self.parts(first), self.parts(second));
        let vector = vector_type(ty.elem);
        let cc = FloatCC::LessThan;
        let mut result = Vec::with_capacity(first.len());
        for (&x, &y) in first.iter().zip(&second) {
            let (x, y) = match ty.lanes {
                1 => (self.b.ins().scalar_to_vector(vector, x), self.b.ins().scalar_to_vector(vector, y)),
                _ => (x, y),
            };
            let smaller = if op == Bin::Min { self.b.ins().fcmp(cc, x, y) } else { self.b.ins().fcmp(cc, y, x) };
            let smaller = self.cast_bits(smaller, vector);
            let mut best = self.b.ins().bitselect(smaller, x, y);
            if checked {
                let nan = self.b.ins().fcmp(FloatCC::Unordered, x, x);
                let nan = self.cast_bits(nan, vector);
                best = self.b.ins().bitselect(nan, x, best);
            }
            result.push(if ty.lanes == 1 { self.b.ins().extractlane(best, 0) } else { best });
        }
        result
    }

    /// Whether a value is a constant that is not NaN.
    fn is_number(&self, v: Val) -> bool {
        match self.kernel.insts[v.0 as usize].0 {
            Inst::Float(bits) => !f64::from_bits(bits).is_nan(),
            Inst::Int(_) => true,
            _ => false,
        }
    }

    fn un(&mut self, op: Un, a: Val, ty: Ty) -> Parts {
        let a = self.parts(a);
        let float = ty.elem.is_float();
        a.iter()
            .map(|&x| match op {
                Un::Neg if float => self.b.ins().fneg(x),
                Un::Abs if float => self.b.ins().fabs(x),
                Un::Neg => self.b.ins().ineg(x),
                Un::Abs => self.b.ins().iabs(x),
                Un::Not if is_mask(ty.elem) && ty.lanes == 1 => {
                    let one = self.b.ins().iconst(types::I8, 1);
                    self.b.ins().bxor(x, one)
                }
                Un::Not => self.b.ins().bnot(x),
                Un::Sqrt => self.b.ins().sqrt(x),
                Un::Floor => self.b.ins().floor(x),
                Un::Ceil => self.b.ins().ceil(x),
                Un::Trunc => self.b.ins().trunc(x),
                Un::Nearest => self.b.ins().nearest(x),
                Un::CountOnes => self.b.ins().popcnt(x),
            })
            .collect()
    }

    fn compare(&mut self, op: Cmp, a: Val, b: Val) -> Parts {
        let ty = self.ty(a);
        let (a, b) = (self.parts(a), self.parts(b));
        a.into_iter()
            .zip(b)
            .map(|(x, y)| {
                if !ty.elem.is_float() {
                    return self.b.ins().icmp(int_cc(op), x, y);
                }
                let [x, y] = if ty.lanes > 1 { [x, y].map(|v| self.in_register(v)) } else { [x, y] };
                self.b.ins().fcmp(float_cc(op), x, y)
            })
            .collect()
    }

    fn select(&mut self, mask: Val, a: Val, b: Val, ty: Ty) -> Parts {
        let scalar_mask = self.ty(mask).lanes == 1;
        let (mask, a, b) = (self.parts(mask), self.parts(a), self.parts(b));
        if scalar_mask {
            return a.iter().zip(&b).map(|(&x, &y)| self.b.ins().select(mask[0], x, y)).collect();
        }
        let clif = part_type(ty);
        (0..a.len())
            .map(|i| {
                let mask = self.cast_bits(mask[i], clif);
                self.b.ins().bitselect(mask, a[i], b[i])
            })
            .collect()
    }

    fn mask_to_int(&mut self, mask: Val, ty: Ty) -> Parts {
        let mask = self.parts(mask);
        if ty.lanes == 1 {
            let one = mask[0];
            return vec![if ty.elem == Elem::I8 { one } else { self.b.ins().uextend(part_type(ty), one) }];
        }
        let one = self.int_constant(1, ty);
        mask.iter().map(|&m| self.b.ins().band(m, one)).collect()
    }

    fn any_true(&mut self, mask: Val) -> Value {
        let ty = self.ty(mask);
        let parts = self.parts(mask);
        if ty.lanes == 1 {
            return parts[0];
        }
        let mut all = parts[0];
        for &part in &parts[1..] {
            all = self.b.ins().bor(all, part);
        }
        if ty.lanes < capacity(ty.elem) {
            // The upper lanes are undefined: repeat the valid ones.
            let pattern: Vec<u8> = (0..capacity(ty.elem)).map(|i| (i % ty.lanes) as u8).collect();
            all = self.shuffle_registers(all, all, &pattern, ty.elem);
        }
        self.b.ins().vany_true(all)
    }
}

/// Whether an element is a mask.
pub(super) fn is_mask(elem: Elem) -> bool {
    matches!(elem, Elem::Mask8 | Elem::Mask16 | Elem::Mask32 | Elem::Mask64)
}

fn float_cc(op: Cmp) -> FloatCC {
    match op {
        Cmp::Eq => FloatCC::Equal,
        Cmp::Ne => FloatCC::NotEqual,
        Cmp::Lt | Cmp::ULt => FloatCC::LessThan,
        Cmp::Le | Cmp::ULe => FloatCC::LessThanOrEqual,
        Cmp::Gt | Cmp::UGt => FloatCC::GreaterThan,
        Cmp::Ge | Cmp::UGe => FloatCC::GreaterThanOrEqual,
    }
}

fn int_cc(op: Cmp) -> IntCC {
    match op {
        Cmp::Eq => IntCC::Equal,
        Cmp::Ne => IntCC::NotEqual,
        Cmp::Lt => IntCC::SignedLessThan,
        Cmp::Le => IntCC::SignedLessThanOrEqual,
        Cmp::Gt => IntCC::SignedGreaterThan,
        Cmp::Ge => IntCC::SignedGreaterThanOrEqual,
        Cmp::ULt => IntCC::UnsignedLessThan,
        Cmp::ULe => IntCC::UnsignedLessThanOrEqual,
        Cmp::UGt => IntCC::UnsignedGreaterThan,
        Cmp::UGe => IntCC::UnsignedGreaterThanOrEqual,
    }
}
