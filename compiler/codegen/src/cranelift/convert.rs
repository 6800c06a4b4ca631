//! Conversions between number types.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::{Parts, Translator, part_type};
use crate::parts::{capacity, double, half, lanes_of};
use mcc_kernel::kir::{Elem, Ty};

impl Translator<'_> {
    /// Between numbers of equal lane count.
    pub(super) fn convert(&mut self, parts: Parts, from: Ty, to: Ty, signed: bool) -> Parts {
        if from.elem == to.elem {
            return parts;
        }
        if from.lanes == 1 {
            return vec![self.convert_scalar(parts[0], from.elem, to.elem, signed)];
        }
        match (from.elem.is_float(), to.elem.is_float()) {
            (false, false) if from.elem.bytes() < to.elem.bytes() => self.widen(parts, from, to, signed),
            (false, false) => self.narrow(parts, from, to),
            (false, true) if from.elem == Elem::I64 => self.convert_lanes(&parts, from, to, signed),
            (false, true) => {
                // Bytes and words become signed 32-bit integers of the same value.
                let words = from.with(Elem::I32);
                let short = from.elem != Elem::I32;
                let parts = if short { self.widen(parts, from, words, signed) } else { parts };
                self.widen_words(&parts, to, signed || short)
            }
            (true, false) if from.elem == Elem::F32 && to.elem != Elem::I64 => {
                self.truncate_to_ints(&parts, to, signed)
            }
            (true, false) => self.convert_lanes(&parts, from, to, signed),
            (true, true) if to.elem == Elem::F64 => {
                let mut wide = Parts::new();
                for (part, lanes) in lanes_of(from, &parts) {
                    wide.push(self.b.ins().fvpromote_low(part));
                    if lanes > 2 {
                        let high = self.shuffle_registers(part, part, &[2, 3], Elem::F32);
                        wide.push(self.b.ins().fvpromote_low(high));
                    }
                }
                wide
            }
            (true, true) => {
                let short: Parts = parts.iter().map(|&p| self.b.ins().fvdemote(p)).collect();
                self.join_halves(&short, Elem::F32)
            }
        }
    }

    /// Between 16-bit floats, as words, and `f32`: scalars only, so targets do not use kernels with these.
    pub(super) fn convert_halves(&mut self, parts: &[Value], from: Ty, to: Ty) -> Parts {
        self.lane_by_lane(to, |t, lane| {
            let v = if from.lanes == 1 { parts[0] } else { t.lane(parts, from, lane) };
            if to.elem == Elem::F32 {
                let half = t.cast_bits(v, types::F16);
                return t.b.ins().fpromote(types::F32, half);
            }
            let half = t.b.ins().fdemote(types::F16, v);
            t.cast_bits(half, types::I16)
        })
    }

    fn convert_scalar(&mut self, v: Value, from: Elem, to: Elem, signed: bool) -> Value {
        let clif = part_type(Ty::new(to, 1));
        let grows = from.bytes() < to.bytes();
        match (from.is_float(), to.is_float()) {
            (false, false) if grows && signed => self.b.ins().sextend(clif, v),
            (false, false) if grows => self.b.ins().uextend(clif, v),
            (false, false) => self.b.ins().ireduce(clif, v),
            (false, true) => {
                let short = from.bytes() < 4;
                let v = match (short, signed) {
                    (true, true) => self.b.ins().sextend(types::I32, v),
                    (true, false) => self.b.ins().uextend(types::I32, v),
                    _ => v,
                };
                if signed || short {
                    self.b.ins().fcvt_from_sint(clif, v)
                } else {
                    self.b.ins().fcvt_from_uint(clif, v)
                }
            }
            (true, false) => {
                let short = to.bytes() < 4;
                let wide = if short { types::I32 } else { clif };
                let v = if signed {
                    self.b.ins().fcvt_to_sint_sat(wide, v)
                } else {
                    self.b.ins().fcvt_to_uint_sat(wide, v)
                };
                if !short {
                    return v;
                }
                let (low, high) = range(to, signed);
                let (low, high) = (self.b.ins().iconst(wide, low), self.b.ins().iconst(wide, high));
                let v = if signed {
                    let v = self.b.ins().smax(v, low);
                    self.b.ins().smin(v, high)
                } else {
                    self.b.ins().umin(v, high)
                };
                self.b.ins().ireduce(clif, v)
            }
            (true, true) if grows => self.b.ins().fpromote(clif, v),
            (true, true) => self.b.ins().fdemote(clif, v),
        }
    }

    fn convert_lanes(&mut self, parts: &[Value], from: Ty, to: Ty, signed: bool) -> Parts {
        self.lane_by_lane(to, |f, i| {
            let lane = f.lane(parts, from, i);
            f.convert_scalar(lane, from.elem, to.elem, signed)
        })
    }

    /// Extends integers, doubling the width until it fits.
    fn widen(&mut self, parts: Parts, from: Ty, to: Ty, signed: bool) -> Parts {
        let (mut parts, mut ty) = (parts, from);
        while ty.elem.bytes() < to.elem.bytes() {
            let mut wide = Parts::new();
            for (part, lanes) in lanes_of(ty, &parts) {
                let half = capacity(ty.elem) / 2;
                wide.push(if signed { self.b.ins().swiden_low(part) } else { self.b.ins().uwiden_low(part) });
                if lanes > half {
                    wide.push(if signed { self.b.ins().swiden_high(part) } else { self.b.ins().uwiden_high(part) });
                }
            }
            (parts, ty) = (wide, ty.with(double(ty.elem)));
        }
        parts
    }

    /// Narrows integers to their low bits.
    fn narrow(&mut self, parts: Parts, from: Ty, to: Ty) -> Parts {
        let (wide, width) = (from.elem.bytes(), to.elem.bytes());
        let ratio = (wide / width) as u8;
        let kept: Vec<u8> = (0..capacity(from.elem) as u8).map(|i| i * ratio).collect();
        if parts.len() == 1 {
            return vec![self.shuffle_registers(parts[0], parts[0], &kept, to.elem)];
        }
        // Two registers at a time, halving the width each time.
        let (mut parts, mut elem) = (parts, from.elem);
        while elem.bytes() > width {
            elem = half(elem);
            let lanes = capacity(elem) as u8;
            let evens: Vec<u8> = (0..lanes).map(|i| i * 2).collect();
            parts = parts
                .chunks(2)
                .map(|pair| {
                    let second = pair.get(1).copied().unwrap_or(pair[0]);
                    self.shuffle_registers(pair[0], second, &evens, elem)
                })
                .collect();
        }
        parts
    }

    /// 32-bit integers to floats.
    fn widen_words(&mut self, parts: &[Value], to: Ty, signed: bool) -> Parts {
        if to.elem == Elem::F32 {
            return parts
                .iter()
                .map(|&p| {
                    if signed {
                        self.b.ins().fcvt_from_sint(types::F32X4, p)
                    } else {
                        self.b.ins().fcvt_from_uint(types::F32X4, p)
                    }
                })
                .collect();
        }
        let mut wide = Parts::new();
        for (part, lanes) in lanes_of(to.with(Elem::I32), parts) {
            let mut push = |f: &mut Self, low: Value| {
                // The widening is part of the instruction's pattern.
                wide.push(if signed {
                    let low = f.b.ins().swiden_low(low);
                    f.b.ins().fcvt_from_sint(types::F64X2, low)
                } else {
                    let low = f.b.ins().uwiden_low(low);
                    f.b.ins().fcvt_from_uint(types::F64X2, low)
                });
            };
            push(self, part);
            if lanes > 2 {
                let high = self.shuffle_registers(part, part, &[2, 3], Elem::I32);
                push(self, high);
            }
        }
        wide
    }

    /// `F32` to integers of at most 32 bits, saturating.
    fn truncate_to_ints(&mut self, parts: &[Value], to: Ty, signed: bool) -> Parts {
        let words = to.with(Elem::I32);
        let mut ints: Parts = parts
            .iter()
            .map(|&p| {
                if signed {
                    self.b.ins().fcvt_to_sint_sat(types::I32X4, p)
                } else {
                    self.b.ins().fcvt_to_uint_sat(types::I32X4, p)
                }
            })
            .collect();
        if to.elem == Elem::I32 {
            return ints;
        }
        let (low, high) = range(to.elem, signed);
        let (low, high) = (self.int_constant(low, words), self.int_constant(high, words));
        for v in &mut ints {
            *v = if signed {
                let bounded = self.b.ins().smax(*v, low);
                self.b.ins().smin(bounded, high)
            } else {
                self.b.ins().umin(*v, high)
            };
        }
        self.narrow(ints, words, to)
    }

    /// Joins two registers of which only the low halves are valid.
    fn join_halves(&mut self, parts: &[Value], elem: Elem) -> Parts {
        let half = capacity(elem) as u8 / 2;
        let pattern: Vec<u8> = (0..half).chain(2 * half..3 * half).collect();
        parts
            .chunks(2)
            .map(|pair| match pair {
                [low, high] => self.shuffle_registers(*low, *high, &pattern, elem),
                _ => pair[0],
            })
            .collect()
    }
}

/// The smallest and largest value of an 8- or 16-bit integer.
fn range(elem: Elem, signed: bool) -> (i64, i64) {
    let bits = elem.bytes() * 8;
    if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}
