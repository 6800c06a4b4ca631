//! Lanes: extraction, shuffles, bitcasts, and the fallback for scalar-only operations.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value, types};

use super::insts::is_mask;
use super::{Parts, Translator, part_type, vector_type};
use crate::parts::{capacity, part_count, place};
use mcc_kernel::kir::{Elem, Ty};

/// Lane 0 is the lowest in memory and in registers on every target.
const CAST: MemFlagsData = MemFlagsData::new().with_endianness(Endianness::Little);

impl Translator<'_> {
    /// Reinterprets the bits of a register as another type.
    pub(super) fn cast_bits(&mut self, v: Value, to: Type) -> Value {
        if self.b.func.dfg.value_type(v) == to { v } else { self.b.ins().bitcast(to, CAST, v) }
    }

    /// The same vector, which the instruction that uses it does not load from memory: Cranelift folds loads into
    /// `cmpps` and `cmppd` at any address, which without AVX must be aligned.
    pub(super) fn in_register(&mut self, v: Value) -> Value {
        let ty = self.b.func.dfg.value_type(v);
        let bits = self.b.ins().bitcast(types::I8X16, CAST, v);
        self.b.ins().bitcast(ty, CAST, bits)
    }

    /// One lane as a scalar.
    pub(super) fn lane(&mut self, parts: &[Value], ty: Ty, lane: u32) -> Value {
        if ty.lanes == 1 {
            return parts[0];
        }
        let (part, at) = place(ty, lane);
        let scalar = self.b.ins().extractlane(parts[part], at);
        if is_mask(ty.elem) {
            let zero = self.b.ins().iconst(vector_type(ty.elem).lane_type(), 0);
            return self.b.ins().icmp(IntCC::NotEqual, scalar, zero);
        }
        scalar
    }

    /// Builds a value from the scalars of its lanes.
    pub(super) fn gather_lanes(&mut self, ty: Ty, scalars: &[Value]) -> Parts {
        if ty.lanes == 1 {
            return vec![scalars[0]];
        }
        let clif = vector_type(ty.elem);
        scalars
            .chunks(capacity(ty.elem) as usize)
            .map(|chunk| {
                let mut v = self.in_lane_zero(clif, chunk[0]);
                for (i, &scalar) in chunk.iter().enumerate().skip(1) {
                    v = self.b.ins().insertlane(v, scalar, i as u8);
                }
                v
            })
            .collect()
    }

    /// A scalar in lane 0. x86 has no `scalar_to_vector` of bytes and words.
    fn in_lane_zero(&mut self, to: Type, scalar: Value) -> Value {
        if to.lane_bits() < 32 { self.b.ins().splat(to, scalar) } else { self.b.ins().scalar_to_vector(to, scalar) }
    }

    /// A vector computed lane by lane.
    pub(super) fn lane_by_lane(&mut self, ty: Ty, mut of_lane: impl FnMut(&mut Self, u32) -> Value) -> Parts {
        let scalars: Vec<Value> = (0..ty.lanes).map(|i| of_lane(self, i)).collect();
        self.gather_lanes(ty, &scalars)
    }

    /// One lane, broadcast to every lane of a register. On aarch64 this becomes part of a by-element multiplication.
    pub(super) fn spread_lane(&mut self, parts: &[Value], ty: Ty, lane: u32) -> Value {
        if ty.lanes == 1 {
            return self.b.ins().splat(vector_type(ty.elem), parts[0]);
        }
        let (part, at) = place(ty, lane);
        self.shuffle_registers(parts[part], parts[part], &[at], ty.elem)
    }

    /// Lanes of two values in any order.
    pub(super) fn shuffle(&mut self, a: &[Value], b: &[Value], from: Ty, pattern: &[u8], ty: Ty) -> Parts {
        let source = |i: u8| {
            let i = u32::from(i);
            if i < from.lanes { (a, i) } else { (b, i - from.lanes) }
        };
        if from.lanes == 1 || ty.lanes == 1 {
            return self.lane_by_lane(ty, |f, i| {
                let (parts, lane) = source(pattern[i as usize]);
                f.lane(parts, from, lane)
            });
        }
        let lanes = capacity(ty.elem) as u8;
        let mut result = Parts::new();
        for chunk in pattern.chunks(lanes as usize) {
            let mut registers: Vec<Value> = Vec::new();
            let mut within = Vec::new();
            for &i in chunk {
                let (parts, lane) = source(i);
                let (part, at) = place(from, lane);
                let known = registers.iter().position(|&r| r == parts[part]);
                let register = known.unwrap_or_else(|| {
                    registers.push(parts[part]);
                    registers.len() - 1
                });
                within.push((register, at));
            }
            result.push(if registers.len() <= 2 {
                let pattern: Vec<u8> = within.iter().map(|&(r, at)| r as u8 * lanes + at).collect();
                let second = registers.get(1).copied().unwrap_or(registers[0]);
                self.shuffle_registers(registers[0], second, &pattern, ty.elem)
            } else {
                let full = Ty::new(ty.elem, lanes.into());
                let scalars: Vec<Value> =
                    within.iter().map(|&(r, at)| self.lane(&[registers[r]], full, at.into())).collect();
                self.gather_lanes(Ty::new(ty.elem, scalars.len() as u32), &scalars)[0]
            });
        }
        result
    }

    /// Lanes of two registers; a short pattern is repeated.
    /// See [`Inst::Permute`](mcc_kernel::kir::Inst::Permute): bytes of one register by byte indices, or lane by lane.
    pub(super) fn permute(&mut self, parts: &[Value], places: &[Value], ty: Ty) -> Parts {
        if parts.len() > 1 || ty.lanes < 4 {
            return self.lane_by_lane(ty, |t, lane| {
                let place = t.lane(places, ty.with(Elem::I32), lane);
                let place = t.b.ins().band_imm_u(place, i64::from(ty.lanes - 1));
                let first = t.lane(parts, ty, 0);
                (1..ty.lanes).fold(first, |found, n| {
                    let (here, other) = (t.b.ins().icmp_imm_u(IntCC::Equal, place, i64::from(n)), t.lane(parts, ty, n));
                    t.b.ins().select(here, other, found)
                })
            });
        }
        let words = vector_type(Elem::I32);
        let [low, bytes, within] =
            [3, 0x0404_0404, 0x0302_0100u32].map(|c| self.vector_constant(&c.to_le_bytes(), words));
        let place = self.b.ins().band(places[0], low);
        let place = self.b.ins().imul(place, bytes);
        let place = self.b.ins().iadd(place, within);
        let (x, place) = (self.cast_bits(parts[0], types::I8X16), self.cast_bits(place, types::I8X16));
        let y = self.b.ins().swizzle(x, place);
        [self.cast_bits(y, part_type(ty))].into_iter().collect()
    }

    pub(super) fn shuffle_registers(&mut self, x: Value, y: Value, pattern: &[u8], elem: Elem) -> Value {
        let width = elem.bytes() as u8;
        let bytes: Vec<u8> = pattern
            .iter()
            .cycle()
            .take(usize::from(16 / width))
            .flat_map(|&lane| (0..width).map(move |i| lane * width + i))
            .collect();
        let mask = self.b.func.dfg.immediates.push(ConstantData::from(&bytes[..]));
        let low = self.cast_bits(x, types::I8X16);
        // Cranelift's patterns for one register require the same value twice.
        let high = if x == y { low } else { self.cast_bits(y, types::I8X16) };
        let turned = self.b.ins().shuffle(low, high, mask);
        self.cast_bits(turned, vector_type(elem))
    }

    /// Reinterprets the bits as another type of the same size.
    pub(super) fn bitcast_parts(&mut self, parts: &[Value], from: Ty, to: Ty) -> Parts {
        match (from.lanes, to.lanes) {
            (1, 1) => vec![self.cast_bits(parts[0], part_type(to))],
            (1, _) => {
                let wide = self.in_lane_zero(vector_type(from.elem), parts[0]);
                vec![self.cast_bits(wide, part_type(to))]
            }
            (_, 1) => {
                let view = self.cast_bits(parts[0], vector_type(to.elem));
                vec![self.b.ins().extractlane(view, 0)]
            }
            _ => {
                assert_eq!(part_count(from), part_count(to));
                parts.iter().map(|&p| self.cast_bits(p, part_type(to))).collect()
            }
        }
    }
}
