//! Conversions between number types.

use regalloc2::VReg;

use super::operand::Size;
use super::select::scalars::wide;
use super::select::{Parts, Selector, size};
use super::table::Row;
use crate::parts::{capacity, double, half, lanes_of};
use mcc_kernel::kir::{Elem, Ty, Val};

impl Selector<'_> {
    /// Between numbers of equal lane count.
    pub fn convert(&mut self, a: Val, to: Ty, signed: bool) -> Parts {
        let (from, parts) = (self.ty(a), self.parts(a));
        if from.elem == to.elem {
            return parts;
        }
        if from.lanes == 1 {
            return vec![self.convert_scalar(parts[0], from.elem, to.elem, signed)];
        }
        match (from.elem.is_float(), to.elem.is_float()) {
            (false, false) if from.elem.bytes() < to.elem.bytes() => self.widen(parts, from, to.elem, signed),
            (false, false) => self.narrow(parts, from.elem, to.elem),
            (false, true) if from.elem == Elem::I64 && to.elem == Elem::F32 => {
                // By way of `F64` they would be rounded twice.
                self.lane_by_lane(to, |s, i| {
                    let lane = s.lane(&parts, from, i);
                    s.convert_scalar(lane, from.elem, to.elem, signed)
                })
            }
            (false, true) => {
                let parts = self.widen(parts, from, to.elem.int(), signed);
                let row = if signed { Row::ScvtfV } else { Row::UcvtfV };
                parts.iter().map(|&x| self.v(row, size(to.elem), &[x])).collect()
            }
            (true, false) => self.truncated(parts, from, to.elem, signed),
            (true, true) if to.elem == Elem::F64 => self.doubled(&parts, from),
            (true, true) => parts
                .chunks(2)
                .map(|pair| {
                    let low = self.v(Row::Fcvtn, Size::S, &[pair[0]]);
                    if pair.len() > 1 { self.v(Row::Fcvtn2, Size::S, &[low, pair[1]]) } else { low }
                })
                .collect(),
        }
    }

    /// `F32` to `F64`.
    fn doubled(&mut self, parts: &[VReg], from: Ty) -> Parts {
        let mut wide = Parts::new();
        for (part, lanes) in lanes_of(from, parts) {
            wide.push(self.v(Row::Fcvtl, Size::S, &[part]));
            if lanes > 2 {
                wide.push(self.v(Row::Fcvtl2, Size::S, &[part]));
            }
        }
        wide
    }

    /// Floats to integers, saturating.
    fn truncated(&mut self, parts: Parts, from: Ty, to: Elem, signed: bool) -> Parts {
        let (mut parts, mut elem) = (parts, from.elem);
        if to == Elem::I64 && elem == Elem::F32 {
            (parts, elem) = (self.doubled(&parts, from), Elem::F64);
        }
        let row = if signed { Row::FcvtzsV } else { Row::FcvtzuV };
        parts = parts.iter().map(|&x| self.v(row, size(elem), &[x])).collect();
        let mut elem = elem.int();
        while elem.bytes() > to.bytes() {
            elem = half(elem);
            parts = self.saturated(&parts, elem, signed, signed);
        }
        parts
    }

    /// Integers of twice the width, narrowed with saturation; two registers become one.
    pub fn saturated(&mut self, parts: &[VReg], to: Elem, from_signed: bool, to_signed: bool) -> Parts {
        let (low, high) = match (from_signed, to_signed) {
            (true, true) => (Row::Sqxtn, Row::Sqxtn2),
            (true, false) => (Row::Sqxtun, Row::Sqxtun2),
            (false, _) => (Row::Uqxtn, Row::Uqxtn2),
        };
        parts
            .chunks(2)
            .map(|pair| {
                let first = self.v(low, size(to), &[pair[0]]);
                if pair.len() > 1 { self.v(high, size(to), &[first, pair[1]]) } else { first }
            })
            .collect()
    }

    /// Between 16-bit floats, as words, and `F32`.
    pub fn convert_halves(&mut self, a: Val, to: Ty) -> Parts {
        let (from, parts) = (self.ty(a), self.parts(a));
        if to.elem == Elem::F32 {
            if from.lanes == 1 {
                let word = self.v(Row::FmovToV, Size::S, &[parts[0]]);
                return vec![self.v(Row::FcvtlH, Size::H, &[word])];
            }
            let mut wide = Parts::new();
            for (part, lanes) in lanes_of(from, &parts) {
                wide.push(self.v(Row::FcvtlH, Size::H, &[part]));
                if lanes > 4 {
                    wide.push(self.v(Row::FcvtlH2, Size::H, &[part]));
                }
            }
            return wide;
        }
        let narrow: Parts = parts
            .chunks(2)
            .map(|pair| {
                let low = self.v(Row::FcvtnH, Size::H, &[pair[0]]);
                if pair.len() > 1 { self.v(Row::FcvtnH2, Size::H, &[low, pair[1]]) } else { low }
            })
            .collect();
        if to.lanes == 1 { vec![self.gi(Row::Umov, Size::H, &[narrow[0]], 0)] } else { narrow }
    }

    fn convert_scalar(&mut self, v: VReg, from: Elem, to: Elem, signed: bool) -> VReg {
        let grows = from.bytes() < to.bytes();
        match (from.is_float(), to.is_float()) {
            (false, false) if grows => self.extended(v, from, to, signed),
            (false, false) => v,
            (false, true) => {
                let v = self.extended(v, from, Elem::I32, signed);
                let row = match (from == Elem::I64, signed) {
                    (false, true) => Row::ScvtfW,
                    (false, false) => Row::UcvtfW,
                    (true, true) => Row::ScvtfX,
                    (true, false) => Row::UcvtfX,
                };
                self.v(row, size(to), &[v])
            }
            (true, false) if to.bytes() >= 4 => {
                let row = match (to == Elem::I64, signed) {
                    (false, true) => Row::FcvtzsW,
                    (false, false) => Row::FcvtzuW,
                    (true, true) => Row::FcvtzsX,
                    (true, false) => Row::FcvtzuX,
                };
                self.g(row, size(from), &[v])
            }
            (true, false) => {
                // As the lowest lane of a vector, which saturates.
                let parts = self.truncated(vec![v], Ty::new(from, 1), to, signed);
                self.gi(Row::Umov, size(to), &[parts[0]], 0)
            }
            (true, true) if grows => self.v(Row::FcvtToD, Size::S, &[v]),
            (true, true) => self.v(Row::FcvtToS, Size::D, &[v]),
        }
    }

    /// Extends integers, doubling the width until it fits.
    fn widen(&mut self, parts: Parts, from: Ty, to: Elem, signed: bool) -> Parts {
        let (mut parts, mut ty) = (parts, from);
        let (low, high) = if signed { (Row::Sshll, Row::Sshll2) } else { (Row::Ushll, Row::Ushll2) };
        while ty.elem.bytes() < to.bytes() {
            let mut wide = Parts::new();
            for (part, lanes) in lanes_of(ty, &parts) {
                wide.push(self.vi(low, size(ty.elem), &[part], 0));
                if lanes > capacity(ty.elem) / 2 {
                    wide.push(self.vi(high, size(ty.elem), &[part], 0));
                }
            }
            (parts, ty) = (wide, ty.with(double(ty.elem)));
        }
        parts
    }

    /// Narrows integers to their low bits.
    fn narrow(&mut self, parts: Parts, from: Elem, to: Elem) -> Parts {
        let (mut parts, mut elem) = (parts, from);
        while elem.bytes() > to.bytes() {
            elem = half(elem);
            parts = parts
                .chunks(2)
                .map(|pair| match *pair {
                    [low, high] => self.v(Row::Uzp1, size(elem), &[low, high]),
                    _ => self.v(Row::Xtn, size(elem), &[pair[0]]),
                })
                .collect();
        }
        parts
    }

    /// An integer's bits in the lowest lane of a vector register.
    pub fn in_vector(&mut self, v: VReg, elem: Elem) -> VReg {
        self.v(Row::FmovToV, wide(elem), &[v])
    }
}
