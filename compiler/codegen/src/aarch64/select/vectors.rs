//! Instructions: one arm per kernel instruction. Operations are emitted register by register.

use regalloc2::{RegClass, VReg};

use super::{Parts, Selector, Spread, class, scalars, size};
use crate::aarch64::operand::{Cc, Size};
use crate::aarch64::table::Row;
use crate::parts::{capacity, part_count, place};
use mcc_kernel::kir::{Bin, Cmp, Elem, Inst, Ty, Un, Val};

impl Selector<'_> {
    /// Emits the instruction that defines `v`, or leaves it to its uses. Constants are made at their uses.
    pub fn compute(&mut self, v: Val) {
        let kernel = self.kernel;
        let (inst, ty) = &kernel.insts[v.0 as usize];
        let ty = *ty;
        let parts = match inst {
            Inst::Int(_) | Inst::Float(_) | Inst::Defined => return,
            Inst::Cmp(..) if self.is_left_to_uses(v) => return,
            Inst::Splat(a) if self.leave_splat(v, *a) => return,
            Inst::Lane(a, _) if self.uses.all_splats(v) && self.ty(*a).elem == Elem::F32 => return,
            Inst::Shuffle(a, _, pattern) if self.leave_shuffle(v, *a, pattern) => return,
            Inst::Bitcast(a) if self.leave_bitcast(v, *a) => return,
            Inst::Pointer(n) => self.argument(*n as usize),
            Inst::Symbol(n) => self.argument((kernel.pointers + n) as usize),
            Inst::Load(from) => self.load(*from, ty),
            Inst::LoadPart(from, count) => self.load_part(*from, *count, ty),
            Inst::LoadExpanded(from, mask) => self.load_expanded(*from, *mask, ty),
            Inst::Bin(op, a, b) => self.bin(*op, *a, *b, ty),
            Inst::Un(op, a) => self.un(*op, *a, ty),
            Inst::Fma(a, b, c) => self.fma(*a, *b, *c, ty),
            Inst::FmaLane(a, b, lane, c) => self.fma_lane(*a, *b, *lane, *c, ty),
            Inst::Dot(kind, a, b, acc) => self.dot(*kind, *a, *b, *acc),
            Inst::MatrixDot(kind, a, b, acc) => self.matrix_dot(*kind, *a, *b, *acc),
            Inst::Cmp(op, a, b) => self.compare(*op, *a, *b),
            Inst::Select(mask, a, b) => self.select(*mask, *a, *b, ty),
            Inst::MaskToInt(mask) => self.mask_to_int(*mask, ty),
            Inst::AnyTrue(mask) => vec![self.any_true(*mask)],
            Inst::Splat(a) => self.splat(*a, ty),
            Inst::Lane(a, lane) => {
                let (from, parts) = (self.ty(*a), self.parts(*a));
                vec![self.lane(&parts, from, (*lane).into())]
            }
            Inst::WithLane(a, scalar, lane) => self.with_lane(*a, *scalar, (*lane).into(), ty),
            Inst::Shuffle(a, b, pattern) => self.shuffle(*a, *b, pattern, ty),
            Inst::Permute(a, places) => self.permute(*a, *places, ty),
            Inst::Bitcast(a) => self.bitcast(*a, ty),
            Inst::Convert(a) => self.convert(*a, ty, true),
            Inst::UConvert(a) => self.convert(*a, ty, false),
            Inst::FromHalf(a) | Inst::ToHalf(a) => self.convert_halves(*a, ty),
            Inst::Quantize(parts, zero, rounding) => self.quantize(parts, *zero, *rounding, ty),
            Inst::Grid(x, zero, rounding) => self.grid(*x, *zero, *rounding, ty),
            Inst::Lookup(x, table) => self.lookup(*x, *table, ty),
        };
        self.set(v, parts);
    }

    // ---- lanes that are left to their uses ----

    /// A splat of a float, or of a lane of a vector.
    fn leave_splat(&mut self, v: Val, a: Val) -> bool {
        let ty = self.ty(v);
        if ty.lanes == 1 || !ty.elem.is_float() || self.lane_bytes(a).is_some() {
            return false;
        }
        let size = size(ty.elem);
        let spread = match *self.inst(a) {
            Inst::Lane(from, lane) => {
                let from_ty = self.ty(from);
                let (part, lane) = if from_ty.lanes == 1 { (0, 0) } else { place(from_ty, lane.into()) };
                Spread { register: self.parts(from)[part], lane: lane.into(), size }
            }
            _ => Spread { register: self.reg(a), lane: 0, size },
        };
        self.set_spread(v, spread);
        true
    }

    /// A shuffle that repeats four or eight bytes of one register.
    fn leave_shuffle(&mut self, v: Val, a: Val, pattern: &[u8]) -> bool {
        let (from, ty) = (self.ty(a), self.ty(v));
        let bytes = ty.elem.bytes();
        for unit in [4, 8] {
            let lanes = (unit / bytes) as usize;
            if unit < bytes || ty.bytes() <= unit || from.lanes == 1 || !pattern.len().is_multiple_of(lanes) {
                continue;
            }
            let first = &pattern[..lanes];
            let consecutive = first.iter().zip(first[0]..).all(|(&lane, wanted)| lane == wanted);
            let start = u32::from(first[0]);
            let aligned = start * bytes % unit == 0 && start + (lanes as u32) <= from.lanes;
            if consecutive && aligned && pattern.chunks(lanes).all(|c| c == first) {
                let (part, lane) = place(from, start);
                let register = self.parts(a)[part];
                let lane = i64::from(lane) * i64::from(bytes) / i64::from(unit);
                self.set_spread(v, Spread { register, lane, size: Size::of(unit) });
                return true;
            }
        }
        false
    }

    /// Another view of such lanes.
    fn leave_bitcast(&mut self, v: Val, a: Val) -> bool {
        let Some(spread) = self.spread(a).filter(|_| self.ty(v).lanes > 1) else { return false };
        self.set_spread(v, spread);
        true
    }

    /// An operand as a lane of the size that an instruction takes.
    pub fn by_lane(&self, v: Val, size: Size) -> Option<Spread> {
        self.spread(v).filter(|spread| spread.size == size)
    }

    // ---- arithmetic ----

    fn bin(&mut self, op: Bin, a: Val, b: Val, ty: Ty) -> Parts {
        if class(ty) == RegClass::Int {
            return vec![self.int_bin(op, a, b, ty.elem)];
        }
        if matches!(op, Bin::Shl | Bin::Shr | Bin::Sar) {
            return self.shift(op, a, b, ty);
        }
        if op == Bin::Mul && ty.elem.is_float() && ty.lanes > 1 {
            for (a, b) in [(a, b), (b, a)] {
                if let Some(lane) = self.by_lane(b, size(ty.elem)) {
                    let a = self.parts(a);
                    return a
                        .iter()
                        .map(|&x| self.vi(Row::FmulLane, lane.size, &[x, lane.register], lane.lane))
                        .collect();
                }
            }
        }
        let (a, b) = (self.parts(a), self.parts(b));
        a.iter().zip(&b).map(|(&x, &y)| self.bin_part(op, x, y, ty)).collect()
    }

    fn bin_part(&mut self, op: Bin, x: VReg, y: VReg, ty: Ty) -> VReg {
        let (size, scalar) = (size(ty.elem), ty.lanes == 1);
        if ty.elem.is_float() {
            let row = match (op, scalar) {
                (Bin::Add, true) => Row::Fadd,
                (Bin::Sub, true) => Row::Fsub,
                (Bin::Mul, true) => Row::Fmul,
                (Bin::Div, true) => Row::Fdiv,
                (Bin::Min, true) => Row::Fmin,
                (Bin::Max, true) => Row::Fmax,
                (Bin::Add, false) => Row::FaddV,
                (Bin::Sub, false) => Row::FsubV,
                (Bin::Mul, false) => Row::FmulV,
                (Bin::Div, false) => Row::FdivV,
                (Bin::Min, false) => Row::FminV,
                (Bin::Max, false) => Row::FmaxV,
                _ => return self.no_vector(op, x),
            };
            return self.v(row, size, &[x, y]);
        }
        let row = match op {
            Bin::Add => Row::AddV,
            Bin::Sub => Row::SubV,
            Bin::Mul if size == Size::D => return self.long_product(x, y),
            Bin::Mul => Row::MulV,
            Bin::Min | Bin::Max | Bin::UMin | Bin::UMax if size == Size::D => {
                let mask = match op {
                    Bin::Min => self.v(Row::Cmgt, size, &[y, x]),
                    Bin::Max => self.v(Row::Cmgt, size, &[x, y]),
                    Bin::UMin => self.v(Row::Cmhi, size, &[y, x]),
                    _ => self.v(Row::Cmhi, size, &[x, y]),
                };
                return self.v(Row::Bsl, Size::B, &[mask, x, y]);
            }
            Bin::Min => Row::Smin,
            Bin::Max => Row::Smax,
            Bin::UMin => Row::Umin,
            Bin::UMax => Row::Umax,
            Bin::And => Row::AndV,
            Bin::Or => Row::OrrV,
            Bin::Xor => Row::EorV,
            _ => return self.no_vector(op, x),
        };
        self.v(row, size, &[x, y])
    }

    fn no_vector(&mut self, op: Bin, x: VReg) -> VReg {
        self.refuse(format!("{op:?} of vectors"));
        x
    }

    /// Products of 64-bit lanes, which no instruction computes.
    fn long_product(&mut self, x: VReg, y: VReg) -> VReg {
        let products = [0, 1].map(|lane| {
            let [x, y] = [x, y].map(|v| self.gi(Row::Umov, Size::D, &[v], lane));
            self.g(Row::Mul, Size::D, &[x, y])
        });
        let low = self.v(Row::FmovToV, Size::D, &[products[0]]);
        self.vi(Row::InsG, Size::D, &[low, products[1]], 1)
    }

    fn shift(&mut self, op: Bin, a: Val, count: Val, ty: Ty) -> Parts {
        let size = size(ty.elem);
        let a = self.parts(a);
        if let Some(c) = self.constant(count) {
            let row = match op {
                _ if c == 0 => return a,
                Bin::Shl => Row::ShlImm,
                Bin::Shr => Row::UshrImm,
                _ => Row::SshrImm,
            };
            return a.iter().map(|&x| self.vi(row, size, &[x], c)).collect();
        }
        let mut count = self.reg(count);
        if op != Bin::Shl {
            // Shifts to the right are to the left by less than nothing.
            count = self.g(Row::Neg, Size::S, &[count]);
        }
        let counts = self.v(Row::DupG, size, &[count]);
        let row = if op == Bin::Sar { Row::Sshl } else { Row::Ushl };
        a.iter().map(|&x| self.v(row, size, &[x, counts])).collect()
    }

    fn un(&mut self, op: Un, a: Val, ty: Ty) -> Parts {
        if class(ty) == RegClass::Int {
            return vec![self.int_un(op, a, ty.elem)];
        }
        let (float, scalar) = (ty.elem.is_float(), ty.lanes == 1);
        let row = match (op, float, scalar) {
            (Un::Neg, true, true) => Row::Fneg,
            (Un::Neg, true, false) => Row::FnegV,
            (Un::Neg, false, _) => Row::NegV,
            (Un::Abs, true, true) => Row::Fabs,
            (Un::Abs, true, false) => Row::FabsV,
            (Un::Abs, false, _) => Row::AbsV,
            (Un::Not, ..) => Row::NotV,
            (Un::Sqrt, _, true) => Row::Fsqrt,
            (Un::Sqrt, _, false) => Row::FsqrtV,
            (Un::Floor, _, true) => Row::Frintm,
            (Un::Floor, _, false) => Row::FrintmV,
            (Un::Ceil, _, true) => Row::Frintp,
            (Un::Ceil, _, false) => Row::FrintpV,
            (Un::Trunc, _, true) => Row::Frintz,
            (Un::Trunc, _, false) => Row::FrintzV,
            (Un::Nearest, _, true) => Row::Frintn,
            (Un::Nearest, _, false) => Row::FrintnV,
            (Un::CountOnes, ..) => {
                self.refuse("set bits of vectors".to_string());
                Row::NotV
            }
        };
        let a = self.parts(a);
        a.iter().map(|&x| self.v(row, size(ty.elem), &[x])).collect()
    }

    fn fma(&mut self, a: Val, b: Val, c: Val, ty: Ty) -> Parts {
        let size = size(ty.elem);
        if ty.lanes > 1 {
            for (a, b) in [(a, b), (b, a)] {
                if let Some(lane) = self.by_lane(b, size) {
                    let (a, c) = (self.parts(a), self.parts(c));
                    return self.multiply_add_lane(&a, lane, &c);
                }
            }
        }
        let (a, b, c) = (self.parts(a), self.parts(b), self.parts(c));
        (0..c.len())
            .map(|i| match ty.lanes {
                1 => self.v(Row::Fmadd, size, &[a[i], b[i], c[i]]),
                _ => self.v(Row::FmlaV, size, &[c[i], a[i], b[i]]),
            })
            .collect()
    }

    fn fma_lane(&mut self, a: Val, b: Val, lane: u8, c: Val, ty: Ty) -> Parts {
        let (from, size) = (self.ty(b), size(ty.elem));
        let (a, b, c) = (self.parts(a), self.parts(b), self.parts(c));
        if ty.lanes == 1 {
            let b = self.lane(&b, from, lane.into());
            return vec![self.v(Row::Fmadd, size, &[a[0], b, c[0]])];
        }
        let (part, lane) = if from.lanes == 1 { (0, 0) } else { place(from, lane.into()) };
        self.multiply_add_lane(&a, Spread { register: b[part], lane: lane.into(), size }, &c)
    }

    fn multiply_add_lane(&mut self, a: &[VReg], lane: Spread, c: &[VReg]) -> Parts {
        let product = |s: &mut Self, i: usize| s.vi(Row::FmlaLane, lane.size, &[c[i], a[i], lane.register], lane.lane);
        (0..c.len()).map(|i| product(self, i)).collect()
    }

    // ---- masks ----

    fn compare(&mut self, op: Cmp, a: Val, b: Val) -> Parts {
        let ty = self.ty(a);
        if ty.lanes == 1 {
            let cc = self.compare_scalars(op, a, b);
            return vec![self.flag(cc)];
        }
        let (float, size) = (ty.elem.is_float(), size(ty.elem));
        let (a, b) = (self.parts(a), self.parts(b));
        let (row, swapped) = match (op, float) {
            (Cmp::Eq | Cmp::Ne, true) => (Row::Fcmeq, false),
            (Cmp::Gt | Cmp::UGt, true) => (Row::Fcmgt, false),
            (Cmp::Ge | Cmp::UGe, true) => (Row::Fcmge, false),
            (Cmp::Lt | Cmp::ULt, true) => (Row::Fcmgt, true),
            (Cmp::Le | Cmp::ULe, true) => (Row::Fcmge, true),
            (Cmp::Eq | Cmp::Ne, false) => (Row::Cmeq, false),
            (Cmp::Gt, false) => (Row::Cmgt, false),
            (Cmp::Ge, false) => (Row::Cmge, false),
            (Cmp::Lt, false) => (Row::Cmgt, true),
            (Cmp::Le, false) => (Row::Cmge, true),
            (Cmp::UGt, false) => (Row::Cmhi, false),
            (Cmp::UGe, false) => (Row::Cmhs, false),
            (Cmp::ULt, false) => (Row::Cmhi, true),
            (Cmp::ULe, false) => (Row::Cmhs, true),
        };
        let one = |s: &mut Self, x: VReg, y: VReg| {
            let mask = s.v(row, size, &if swapped { [y, x] } else { [x, y] });
            if op == Cmp::Ne { s.v(Row::NotV, Size::B, &[mask]) } else { mask }
        };
        a.iter().zip(&b).map(|(&x, &y)| one(self, x, y)).collect()
    }

    fn select(&mut self, mask: Val, a: Val, b: Val, ty: Ty) -> Parts {
        let (x, y) = (self.parts(a), self.parts(b));
        if self.ty(mask).lanes > 1 {
            let mask = self.parts(mask);
            return (0..x.len()).map(|i| self.v(Row::Bsl, Size::B, &[mask[i], x[i], y[i]])).collect();
        }
        if ty.lanes > 1 {
            let mask = self.mask_in_lanes(mask, ty.elem);
            return (0..x.len()).map(|i| self.v(Row::Bsl, Size::B, &[mask, x[i], y[i]])).collect();
        }
        let cc = self.condition(mask) as i64;
        vec![match class(ty) {
            RegClass::Int => self.gi(Row::Csel, Size::D, &[x[0], y[0]], cc),
            _ => self.vi(Row::Fcsel, size(ty.elem), &[x[0], y[0]], cc),
        }]
    }

    fn mask_to_int(&mut self, mask: Val, ty: Ty) -> Parts {
        let mask = self.parts(mask);
        if ty.lanes == 1 {
            return mask;
        }
        let sign = i64::from(8 * ty.elem.bytes()) - 1;
        mask.iter().map(|&m| self.vi(Row::UshrImm, size(ty.elem), &[m], sign)).collect()
    }

    fn any_true(&mut self, mask: Val) -> VReg {
        let (ty, parts) = (self.ty(mask), self.parts(mask));
        if ty.lanes == 1 {
            return parts[0];
        }
        let all = parts[1..].iter().fold(parts[0], |all, &part| self.v(Row::OrrV, Size::B, &[all, part]));
        // The upper lanes of a part of a register are undefined.
        let bits = match ty.bytes() {
            2 => self.gi(Row::Umov, Size::H, &[all], 0),
            4 => self.g(Row::FmovToG, Size::S, &[all]),
            8 => self.g(Row::FmovToG, Size::D, &[all]),
            _ => {
                let most = self.v(Row::Umaxv, Size::S, &[all]);
                self.g(Row::FmovToG, Size::S, &[most])
            }
        };
        self.put(Row::CmpImm, if ty.bytes() == 8 { Size::D } else { Size::S }, &[bits], [0; 2]);
        self.flag(Cc::Ne)
    }

    fn splat(&mut self, a: Val, ty: Ty) -> Parts {
        if ty.lanes == 1 {
            return self.parts(a);
        }
        let all = if ty.elem.is_mask() {
            self.mask_in_lanes(a, ty.elem)
        } else if let Some(lane) = self.lane_bytes(a) {
            self.vector_constant(&lane)
        } else {
            let scalar = self.reg(a);
            match ty.elem.is_float() {
                true => self.vi(Row::DupLane, size(ty.elem), &[scalar], 0),
                false => self.v(Row::DupG, size(ty.elem), &[scalar]),
            }
        };
        vec![all; part_count(ty)]
    }

    /// One lane as a scalar.
    pub fn lane(&mut self, parts: &[VReg], ty: Ty, lane: u32) -> VReg {
        if ty.lanes == 1 {
            return parts[0];
        }
        let (part, at) = place(ty, lane);
        if ty.elem.is_float() {
            return if at == 0 { parts[part] } else { self.vi(Row::DupLane, size(ty.elem), &[parts[part]], at.into()) };
        }
        let scalar = self.gi(Row::Umov, size(ty.elem), &[parts[part]], at.into());
        if ty.elem.is_mask() { self.gi(Row::AndImm, Size::S, &[scalar], 1) } else { scalar }
    }

    /// A vector's part with one lane replaced by a scalar.
    fn insert(&mut self, part: VReg, scalar: VReg, at: i64, elem: Elem) -> VReg {
        if elem.is_float() {
            return self.vii(Row::InsLane, size(elem), &[part, scalar], [at, 0]);
        }
        let scalar = if elem.is_mask() { self.g(Row::Neg, Size::D, &[scalar]) } else { scalar };
        self.vi(Row::InsG, size(elem), &[part, scalar], at)
    }

    fn with_lane(&mut self, a: Val, scalar: Val, lane: u32, ty: Ty) -> Parts {
        let scalar = self.reg(scalar);
        if ty.lanes == 1 {
            return vec![scalar];
        }
        let mut parts = self.parts(a);
        let (part, at) = place(ty, lane);
        parts[part] = self.insert(parts[part], scalar, at.into(), ty.elem);
        parts
    }

    /// A value from the scalars of its lanes.
    pub fn gather_lanes(&mut self, ty: Ty, scalars: &[VReg]) -> Parts {
        if ty.lanes == 1 {
            return vec![scalars[0]];
        }
        let mut parts = Parts::new();
        for chunk in scalars.chunks(capacity(ty.elem) as usize) {
            let mut part = match ty.elem.is_float() {
                true => chunk[0],
                false => {
                    let first = if ty.elem.is_mask() { self.g(Row::Neg, Size::D, &[chunk[0]]) } else { chunk[0] };
                    self.v(Row::FmovToV, scalars::wide(ty.elem.int()), &[first])
                }
            };
            for (i, &scalar) in chunk.iter().enumerate().skip(1) {
                part = self.insert(part, scalar, i as i64, ty.elem);
            }
            parts.push(part);
        }
        parts
    }

    /// A vector computed lane by lane.
    pub fn lane_by_lane(&mut self, ty: Ty, mut of_lane: impl FnMut(&mut Self, u32) -> VReg) -> Parts {
        let scalars: Vec<VReg> = (0..ty.lanes).map(|i| of_lane(self, i)).collect();
        self.gather_lanes(ty, &scalars)
    }
}
