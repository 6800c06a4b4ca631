//! Sums of four byte products per lane, all of them exact:
//!
//! | operands | with | by |
//! |---|---|---|
//! | both signed, or both unsigned | `dotprod` | `sdot`, `udot` |
//! | unsigned and signed | `i8mm` | `usdot`, or `sudot` if the first is a lane |
//! | signed and narrow | | 16-bit products, whose pairs fit 16 bits, added in pairs by `addp` and `sadalp` |
//! | any others of one kind | | 16-bit products, added in pairs by `saddlp`, `addp` and `add` |
//! | two rows of eight each, both kinds | `i8mm` | `smmla`, `ummla`, `usmmla` |
//! | unsigned and signed | | those of signed bytes: the unsigned ones less 128, and 128 times the sums of the others |
//!
//! Prepared operands are reused by products that share them: a tile's rows share weights, its columns data.

use regalloc2::VReg;

use super::{Parts, Selector, Spread};
use crate::aarch64::operand::Size;
use crate::aarch64::table::Row;
use mcc_kernel::kir::{DotKind, Elem, Val};

/// A prepared form of an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prepared {
    /// Unsigned bytes less 128.
    Lowered,
    /// -128 times the sums of four bytes.
    Sums,
}

/// An operand of a product.
#[derive(Debug, Clone, Copy)]
enum Factor {
    Register(VReg),
    Lane(Spread),
}

impl Selector<'_> {
    /// See [`Inst::Dot`](mcc_kernel::kir::Inst::Dot).
    pub fn dot(&mut self, kind: DotKind, a: Val, b: Val, acc: Val) -> Parts {
        let scalar = self.ty(acc).lanes == 1;
        let mut sums = self.parts(acc);
        if scalar {
            sums = vec![self.in_vector(sums[0], Elem::I32)];
        }
        let (lane_a, lane_b) = match (self.by_lane(a, Size::S), self.by_lane(b, Size::S)) {
            _ if !self.dotprod || scalar => (None, None),
            (a, None) => (a, None),
            (_, b) => (None, b),
        };
        let (x, y) = (self.factors(a, lane_a, sums.len()), self.factors(b, lane_b, sums.len()));
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = self.dot_part(kind, x[i], y[i], *sum);
        }
        if scalar { vec![self.g(Row::FmovToG, Size::S, &[sums[0]])] } else { sums }
    }

    /// See [`Inst::MatrixDot`](mcc_kernel::kir::Inst::MatrixDot).
    pub fn matrix_dot(&mut self, kind: DotKind, a: Val, b: Val, acc: Val) -> Parts {
        if !self.i8mm {
            self.refuse("a product of matrices of bytes without i8mm".to_string());
        }
        let row = match kind {
            DotKind::U8S8 => Row::Usmmla,
            DotKind::S8S8 | DotKind::S8Narrow => Row::Smmla,
            DotKind::U8U8 => Row::Ummla,
        };
        let (a, b, sums) = (self.parts(a), self.parts(b), self.parts(acc));
        (0..sums.len()).map(|i| self.v(row, Size::S, &[sums[i], a[i], b[i]])).collect()
    }

    fn factors(&mut self, v: Val, lane: Option<Spread>, count: usize) -> Vec<Factor> {
        match lane {
            Some(lane) => vec![Factor::Lane(lane); count],
            None => self.parts(v).into_iter().map(Factor::Register).collect(),
        }
    }

    fn dot_part(&mut self, kind: DotKind, a: Factor, b: Factor, acc: VReg) -> VReg {
        match (kind, a, b) {
            (DotKind::U8S8, Factor::Lane(a), b) if self.i8mm => {
                self.sum(Row::Usdot, Row::SudotLane, b, Factor::Lane(a), acc)
            }
            (DotKind::U8S8, ..) if self.i8mm => self.sum(Row::Usdot, Row::UsdotLane, a, b, acc),
            (DotKind::U8S8, ..) => {
                let lowered = match a {
                    Factor::Register(a) => Factor::Register(self.lowered(a)),
                    Factor::Lane(lane) => Factor::Lane(Spread { register: self.lowered(lane.register), ..lane }),
                };
                let sum = self.dot_part(DotKind::S8S8, lowered, b, acc);
                let less = self.sums_of(b);
                self.v(Row::SubV, Size::S, &[sum, less])
            }
            (DotKind::S8S8 | DotKind::S8Narrow, ..) if self.dotprod => self.sum(Row::Sdot, Row::SdotLane, a, b, acc),
            (DotKind::U8U8, ..) if self.dotprod => self.sum(Row::Udot, Row::UdotLane, a, b, acc),
            (kind, Factor::Register(a), Factor::Register(b)) => self.by_words(kind, a, b, acc),
            _ => {
                self.refuse("a lane of bytes without an instruction".to_string());
                acc
            }
        }
    }

    /// One instruction; the lane, if any, is its second operand.
    fn sum(&mut self, whole: Row, by_lane: Row, a: Factor, b: Factor, acc: VReg) -> VReg {
        match (a, b) {
            (Factor::Register(a), Factor::Register(b)) => self.v(whole, Size::S, &[acc, a, b]),
            (Factor::Register(a), Factor::Lane(lane)) | (Factor::Lane(lane), Factor::Register(a)) => {
                self.vi(by_lane, Size::S, &[acc, a, lane.register], lane.lane)
            }
            (Factor::Lane(a), Factor::Lane(lane)) => {
                let a = self.vi(Row::DupLane, a.size, &[a.register], a.lane);
                self.vi(by_lane, Size::S, &[acc, a, lane.register], lane.lane)
            }
        }
    }

    /// Uses 16-bit products.
    fn by_words(&mut self, kind: DotKind, a: VReg, b: VReg, acc: VReg) -> VReg {
        let unsigned = kind == DotKind::U8U8;
        let (low, high) = if unsigned { (Row::Umull, Row::Umull2) } else { (Row::Smull, Row::Smull2) };
        let products = [low, high].map(|row| self.v(row, Size::B, &[a, b]));
        if kind == DotKind::S8Narrow {
            let pairs = self.v(Row::Addp, Size::H, &products);
            return self.v(Row::Sadalp, Size::H, &[acc, pairs]);
        }
        let row = if unsigned { Row::Uaddlp } else { Row::Saddlp };
        let pairs = products.map(|p| self.v(row, Size::H, &[p]));
        let sums = self.v(Row::Addp, Size::S, &pairs);
        self.v(Row::AddV, Size::S, &[acc, sums])
    }

    fn lowered(&mut self, x: VReg) -> VReg {
        self.prepare(x, Prepared::Lowered, |s| {
            let flip = s.vector_constant(&[0x80]);
            s.v(Row::EorV, Size::B, &[x, flip])
        })
    }

    fn sums_of(&mut self, factor: Factor) -> VReg {
        let x = match factor {
            Factor::Register(x) => x,
            Factor::Lane(lane) => {
                let sums = self.sums_of(Factor::Register(lane.register));
                return self.vi(Row::DupLane, Size::S, &[sums], lane.lane);
            }
        };
        self.prepare(x, Prepared::Sums, |s| {
            if s.dotprod {
                let (zero, least) = (s.vector_constant(&[0]), s.vector_constant(&[0x80]));
                return s.v(Row::Sdot, Size::S, &[zero, x, least]);
            }
            let pairs = s.v(Row::Saddlp, Size::B, &[x]);
            let sums = s.v(Row::Saddlp, Size::H, &[pairs]);
            let sums = s.v(Row::NegV, Size::S, &[sums]);
            s.vi(Row::ShlImm, Size::S, &[sums], 7)
        })
    }

    /// The known form of a register, or a new one.
    fn prepare(&mut self, x: VReg, form: Prepared, make: impl FnOnce(&mut Self) -> VReg) -> VReg {
        if let Some(&known) = self.prepared.iter().rev().find_map(|known| known.get(&(x, form))) {
            return known;
        }
        let made = make(self);
        if let Some(known) = self.prepared.last_mut() {
            known.insert((x, form), made);
        }
        made
    }
}
