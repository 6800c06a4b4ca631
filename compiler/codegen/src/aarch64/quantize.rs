//! Floats to bytes: nearest integers plus a zero point, saturated.

use regalloc2::VReg;

use super::operand::Size;
use super::select::{Parts, Selector};
use super::table::Row;
use mcc_kernel::kir::{Elem, Rounding, Ty, Val};

impl Selector<'_> {
    /// See [`Inst::Quantize`](mcc_kernel::kir::Inst::Quantize).
    pub fn quantize(&mut self, parts: &[Val], zero: Val, rounding: Rounding, ty: Ty) -> Parts {
        let zeros = self.parts(zero);
        let shifts = !self.is_zero(zero);
        let mut words = Parts::new();
        for &x in parts {
            let x = self.parts(x);
            for (i, &v) in x.iter().enumerate() {
                words.push(if !shifts || rounding.bounded {
                    // Zero for NaN.
                    self.v(Row::FcvtnsV, Size::S, &[v])
                } else {
                    let shifted = self.rounded(v, zeros[i]);
                    self.v(Row::FcvtzsV, Size::S, &[shifted])
                });
            }
        }
        let mut halves = self.saturated(&words, Elem::I16, true, true);
        if shifts && rounding.bounded {
            let zero = self.zero_in_words(zero, zeros[0]);
            halves = halves.iter().map(|&v| self.v(Row::Sqadd, Size::H, &[v, zero])).collect();
        }
        let bytes = self.saturated(&halves, Elem::I8, true, rounding.signed);
        if ty.lanes == 1 { vec![self.gi(Row::Umov, Size::B, &[bytes[0]], 0)] } else { bytes }
    }

    /// A zero point in every 16-bit lane. Every lane of it is the same.
    fn zero_in_words(&mut self, zero: Val, register: VReg) -> VReg {
        if let Some(lane) = self.lane_bytes(zero).and_then(|lane| lane.try_into().ok()) {
            return self.vector_constant(&(f32::from_le_bytes(lane) as i16).to_le_bytes());
        }
        let words = self.v(Row::FcvtzsV, Size::S, &[register]);
        self.vi(Row::DupLane, Size::H, &[words], 0)
    }

    /// See [`Inst::Grid`](mcc_kernel::kir::Inst::Grid).
    pub fn grid(&mut self, x: Val, zero: Val, rounding: Rounding, ty: Ty) -> Parts {
        let (low, high) = if rounding.signed { (-128.0f32, 127.0f32) } else { (0.0, 255.0) };
        let (parts, zeros, shifts) = (self.parts(x), self.parts(zero), !self.is_zero(zero));
        debug_assert_eq!(ty.elem, Elem::F32);
        let [low, high] = [low, high].map(|bound| self.vector_constant(&bound.to_le_bytes()));
        let one = |s: &mut Self, v: VReg, zero: VReg| {
            let v = if shifts { s.rounded(v, zero) } else { s.v(Row::FrintnV, Size::S, &[v]) };
            let bounded = s.v(Row::FmaxV, Size::S, &[v, low]);
            let bounded = s.v(Row::FminV, Size::S, &[bounded, high]);
            if rounding.bounded {
                return bounded;
            }
            let number = s.v(Row::Fcmeq, Size::S, &[v, v]);
            s.v(Row::AndV, Size::B, &[bounded, number])
        };
        parts.iter().zip(&zeros).map(|(&v, &zero)| one(self, v, zero)).collect()
    }

    /// The nearest integers plus the zero point.
    fn rounded(&mut self, v: VReg, zero: VReg) -> VReg {
        let v = self.v(Row::FrintnV, Size::S, &[v]);
        self.v(Row::FaddV, Size::S, &[v, zero])
    }

    fn is_zero(&self, v: Val) -> bool {
        self.lane_bytes(v).is_some_and(|lane| lane.iter().all(|&b| b == 0))
    }
}
