//! Shuffles, permutations and bitcasts.

use regalloc2::{RegClass, VReg};

use super::operand::Size;
use super::select::{Parts, Selector, class, size};
use super::table::Row;
use crate::parts::{capacity, part_count, place};
use mcc_kernel::kir::{Elem, Ty, Val};

/// A byte of no source: the lookup gives zero or keeps what was there.
const NOWHERE: u8 = 0xff;

impl Selector<'_> {
    /// Lanes of two values in any order.
    pub fn shuffle(&mut self, a: Val, b: Val, pattern: &[u8], ty: Ty) -> Parts {
        let from = self.ty(a);
        let (a, b) = (self.parts(a), self.parts(b));
        let source = |i: u8| {
            let i = u32::from(i);
            if i < from.lanes { (&a, i) } else { (&b, i - from.lanes) }
        };
        if from.lanes == 1 || ty.lanes == 1 {
            return self.lane_by_lane(ty, |s, i| {
                let (parts, lane) = source(pattern[i as usize]);
                s.lane(parts, from, lane)
            });
        }
        let chunks = pattern.chunks(capacity(ty.elem) as usize);
        chunks
            .map(|chunk| {
                let mut registers: Vec<VReg> = Vec::new();
                let mut lanes = Vec::new();
                for &i in chunk {
                    let (parts, lane) = source(i);
                    let (part, at) = place(from, lane);
                    let known = registers.iter().position(|&r| r == parts[part]);
                    let register = known.unwrap_or_else(|| {
                        registers.push(parts[part]);
                        registers.len() - 1
                    });
                    lanes.push((register, at));
                }
                self.gather(&registers, &lanes, ty.elem)
            })
            .collect()
    }

    /// Lanes of registers; the lanes above those given are undefined.
    fn gather(&mut self, registers: &[VReg], lanes: &[(usize, u8)], elem: Elem) -> VReg {
        let size = size(elem);
        let all = capacity(elem) as u8;
        let (x, y) = (registers[0], registers.get(1).copied().unwrap_or(registers[0]));
        // The number of each lane in the first two registers.
        let numbers: Vec<u8> = lanes.iter().map(|&(register, at)| register as u8 * all + at).collect();
        let is = |wanted: &dyn Fn(u8) -> u8| {
            // Of one register, both operands are the same.
            let same = |n: u8, m: u8| n == m || registers.len() == 1 && n == m % all;
            registers.len() <= 2 && numbers.iter().zip(0..).all(|(&n, i)| same(n, wanted(i)))
        };
        if is(&|i| i) && registers.len() == 1 {
            return x;
        }
        if numbers.iter().all(|&n| n == numbers[0]) && registers.len() == 1 {
            return self.vi(Row::DupLane, size, &[x], numbers[0].into());
        }
        let known: [(Row, &dyn Fn(u8) -> u8); 6] = [
            (Row::Zip1, &|i| i / 2 + i % 2 * all),
            (Row::Zip2, &|i| (all + i) / 2 + i % 2 * all),
            (Row::Uzp1, &|i| 2 * i),
            (Row::Uzp2, &|i| 2 * i + 1),
            (Row::Trn1, &|i| i / 2 * 2 + i % 2 * all),
            (Row::Trn2, &|i| i / 2 * 2 + 1 + i % 2 * all),
        ];
        if let Some((row, _)) = known.iter().find(|(_, wanted)| is(wanted)) {
            return self.v(*row, size, &[x, y]);
        }
        let first = numbers[0];
        if is(&|i| first.wrapping_add(i)) && first < all {
            return self.vi(Row::Ext, Size::B, &[x, y], i64::from(first) * size.bytes());
        }
        self.look_up(registers, lanes, elem)
    }

    /// The same by tables of bytes.
    fn look_up(&mut self, registers: &[VReg], lanes: &[(usize, u8)], elem: Elem) -> VReg {
        let width = elem.bytes() as u8;
        let mut result = None;
        for (n, &register) in registers.iter().enumerate() {
            let byte = |&(from, at): &(usize, u8)| {
                (0..width).map(move |i| if from == n { at * width + i } else { NOWHERE }).collect::<Vec<u8>>()
            };
            let mut places: Vec<u8> = lanes.iter().flat_map(byte).collect();
            places.resize(16, NOWHERE);
            let places = self.vector_bytes(&places);
            result = Some(match result {
                None => self.v(Row::Tbl, Size::B, &[register, places]),
                Some(others) => self.v(Row::Tbx, Size::B, &[others, register, places]),
            });
        }
        result.unwrap_or(registers[0])
    }

    /// See [`Inst::Permute`](mcc_kernel::kir::Inst::Permute).
    pub fn permute(&mut self, a: Val, places: Val, ty: Ty) -> Parts {
        let (parts, places) = (self.parts(a), self.parts(places));
        let constant = |c: u32| c.to_le_bytes();
        let below = self.vector_constant(&constant(ty.lanes - 1));
        let bytes = self.vector_constant(&constant(0x0404_0404));
        let within = self.vector_constant(&constant(0x0302_0100));
        let next = self.vector_constant(&[16]);
        places
            .iter()
            .map(|&place| {
                let place = self.v(Row::AndV, Size::B, &[place, below]);
                let mut place = self.v(Row::Mla, Size::S, &[within, place, bytes]);
                let mut found = self.v(Row::Tbl, Size::B, &[parts[0], place]);
                for &part in &parts[1..] {
                    place = self.v(Row::SubV, Size::B, &[place, next]);
                    found = self.v(Row::Tbx, Size::B, &[found, part, place]);
                }
                found
            })
            .collect()
    }

    /// The same bits as another type.
    pub fn bitcast(&mut self, a: Val, to: Ty) -> Parts {
        let (from, parts) = (self.ty(a), self.parts(a));
        let bytes = from.bytes();
        match (class(from), class(to)) {
            (RegClass::Int, RegClass::Float) => {
                let at = if bytes == 8 { Size::D } else { Size::S };
                vec![self.v(Row::FmovToV, at, &[parts[0]])]
            }
            (RegClass::Float, RegClass::Int) => vec![match bytes {
                8 => self.g(Row::FmovToG, Size::D, &[parts[0]]),
                4 => self.g(Row::FmovToG, Size::S, &[parts[0]]),
                _ => self.gi(Row::Umov, Size::of(bytes), &[parts[0]], 0),
            }],
            _ => {
                debug_assert_eq!(part_count(from), part_count(to));
                parts
            }
        }
    }
}
