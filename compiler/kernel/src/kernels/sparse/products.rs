//! Products of non-zeros: slices of input channels, groups of output channels, steps of non-zeros.

use super::planes::Straight;
use super::{Room, Sparse};
use crate::kir::{Addr, Bin, Builder, Elem, Ty, Val};
use mcc_ir::{DType, Staging};

/// Consecutive groups of output channels, starting at `listed`.
#[derive(Clone, Copy)]
struct Groups {
    listed: Val,
    count: i64,
}

/// Pointers to the planes, offsets and values of a group's non-zeros.
#[derive(Clone, Copy)]
struct Pointers {
    staged: Val,
    offsets: Val,
    values: Val,
}

impl Sparse<'_, '_> {
    /// Sums of `count` output channels, starting at `first`, over the part of the planes that starts at element
    /// `start`. They are kept in memory, unless they can be stored directly.
    pub(super) fn slices(
        &self,
        k: &mut Builder,
        room: &Room,
        start: Val,
        first: Val,
        count: i64,
        straight: Option<Straight>,
    ) {
        // Blocks are whole groups, each listed once per slice.
        let (slices, abreast) = (self.staging.slices(self.channels as usize) as i64, self.staging.abreast as i64);
        let per_slice = (count + abreast - 1) / abreast;
        let by = k.int(abreast);
        let listed = k.bin(Bin::Div, first, by);
        let listed = k.mul_int(listed, slices);
        let slice = |k: &mut Builder, n: Val, is_first: bool, straight: Option<Straight>| {
            let before = k.mul_int(n, per_slice);
            let listed = k.add(listed, before);
            self.slice(k, room, start, Groups { listed, count: per_slice }, is_first, straight);
        };
        let (zero, one, last) = (k.int(0), k.int(1), k.int(slices - 1));
        if slices > 1 {
            slice(k, zero, true, None);
            k.for_each(one, last, 1, |k, n| slice(k, n, false, None));
        }
        let ending = |k: &mut Builder, straight| {
            slice(k, last, slices == 1, straight);
            Vec::new()
        };
        match straight {
            None => ending(k, None),
            Some(to) => k.choose(to.partly, |k| ending(k, None), |k| ending(k, straight)),
        };
    }

    /// Adds the products of groups of output channels with a slice of the input channels.
    fn slice(
        &self,
        k: &mut Builder,
        room: &Room,
        start: Val,
        groups: Groups,
        is_first: bool,
        straight: Option<Straight>,
    ) {
        let (lanes, vectors, abreast) = (self.lanes as u32, self.vectors as usize, self.staging.abreast);
        let ty = self.sum(lanes);
        let (zero, end) = (k.int(0), k.int(groups.count));
        k.for_each(zero, end, 1, |k, group| {
            let group = k.add(groups.listed, group);
            let place = |k: &mut Builder, turn: usize| {
                let from = k.at_index(self.e.operand(2), group, abreast as u32);
                let place = k.load(Ty::new(Elem::I8, 1), Addr { offset: from.offset + turn as i32, ..from });
                k.uconvert(place, Elem::I64)
            };
            let waiting = |k: &mut Builder, turn: usize| {
                let place = place(k, turn);
                let skip = k.mul_int(place, (vectors as u32 * lanes * 4).into());
                k.add(room.sums, skip)
            };
            let at = |k: &mut Builder, sums: Val, v: usize| k.at(sums, (v as u32 * lanes * 4) as i32);
            let mut init = vec![k.zero(ty); abreast * vectors];
            if !is_first {
                for (turn, init) in init.chunks_exact_mut(vectors).enumerate() {
                    let sums = waiting(k, turn);
                    for (v, init) in init.iter_mut().enumerate() {
                        let from = at(k, sums, v);
                        *init = k.load(ty, from);
                    }
                }
            }
            for (turn, sums) in self.sums(k, room.staged, start, group, init).chunks_exact(vectors).enumerate() {
                if let Some(straight) = straight {
                    let place = place(k, turn);
                    straight.store(k, self, place, sums);
                    continue;
                }
                let to = waiting(k, turn);
                for (v, &sum) in sums.iter().enumerate() {
                    let to = at(k, to, v);
                    k.store(to, sum);
                }
            }
        });
    }

    /// The sums of a group's output channels, one after another, over the vectors from element `start` of the planes
    /// on.
    fn sums(&self, k: &mut Builder, staged: Val, start: Val, group: Val, init: Vec<Val>) -> Vec<Val> {
        let vectors = self.vectors as usize;
        let head = |k: &mut Builder, n: i64| {
            let from = k.at_index(self.e.operand(1), group, 4);
            let head = k.load(Ty::new(Elem::I32, 1), Addr { offset: from.offset + 4 * n as i32, ..from });
            k.convert(head, Elem::I64)
        };
        // The loop has its own pointers, so that they are in registers whatever the surrounding code needs.
        let bytes = k.mul_int(start, 4);
        let staged = k.add(staged, bytes);
        let (first, end) = (head(k, 0), head(k, 1));
        // Rounds are counted in offsets.
        let shared = self.staging.shared;
        let each = k.int(shared.trailing_zeros().into());
        let mut from_first = |operand: usize, each: Option<Val>| {
            // A value is a float or a word of bytes.
            let size = if each.is_some() { self.e.dtype(operand).size() as i64 } else { 4 };
            let bytes = k.mul_int(first, size);
            let bytes = each.map_or(bytes, |each| k.bin(Bin::Shr, bytes, each));
            k.add(self.e.operand(operand), bytes)
        };
        let (offsets, values) = (from_first(3, Some(each)), from_first(4, None));
        let pointers = Pointers { staged, offsets, values };
        let (zero, count) = (k.int(0), k.sub(end, first));
        let count = k.bin(Bin::Shr, count, each);
        k.fold_loop(zero, count, (self.staging.abreast / shared) as i64, &init, |k, at, sums| {
            let mut sums = sums.to_vec();
            if shared > 1 {
                for (n, sums) in sums.chunks_exact_mut(shared * vectors).enumerate() {
                    self.block_of_non_zeros(k, pointers, at, n as i32, sums);
                }
                return sums;
            }
            for (step, sums) in sums.chunks_exact_mut(Staging::STEP * vectors).enumerate() {
                let first = (step * Staging::STEP) as i32;
                let offsets = self.offsets(k, offsets, at, first);
                let values = self.values(k, values, at, first);
                for ((sums, offset), value) in sums.chunks_exact_mut(vectors).zip(offsets).zip(values) {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        let x = self.staged_vector(k, staged, offset, v);
                        *sum = self.multiplied(k, value, x, *sum);
                    }
                }
            }
            sums
        })
    }

    /// The vector of the planes that a non-zero multiplies, at an offset in bytes.
    fn staged_vector(&self, k: &mut Builder, staged: Val, offset: Val, v: usize) -> Val {
        let lanes = self.lanes as u32;
        let from = k.at_index(staged, offset, 1);
        let ty = if self.dot.is_some() { Ty::new(Elem::I8, 4 * lanes) } else { Ty::new(Elem::F32, lanes) };
        k.load(ty, Addr { offset: from.offset + (v as u32 * lanes * 4) as i32, ..from })
    }

    /// A value in all lanes; a word's bytes for words.
    fn everywhere(&self, k: &mut Builder, value: Val) -> Val {
        let lanes = self.lanes as u32;
        let all = if lanes == 1 { value } else { k.splat(value, lanes) };
        if self.dot.is_some() { k.bitcast(all, Ty::new(Elem::I8, 4 * lanes)) } else { all }
    }

    /// A sum plus the product of a non-zero and a vector of the planes.
    fn multiplied(&self, k: &mut Builder, value: Val, x: Val, sum: Val) -> Val {
        match self.dot {
            Some(kind) => k.dot(kind, x, value, sum),
            None => k.fma(value, x, sum),
        }
    }

    /// Adds the products of the non-zeros of several output channels that share offset `at + n`.
    fn block_of_non_zeros(&self, k: &mut Builder, pointers: Pointers, at: Val, n: i32, sums: &mut [Val]) {
        let Pointers { staged, offsets, values } = pointers;
        let (vectors, shared, unit) = (self.vectors as usize, self.staging.shared as i32, self.unit * 4);
        let (elem, bytes) = if self.e.dtype(3) == DType::U16 { (Elem::I16, 2) } else { (Elem::I32, 4) };
        let from = k.at_index(offsets, at, bytes as u32);
        let offset = k.load(Ty::new(elem, 1), Addr { offset: from.offset + bytes * n, ..from });
        let offset = k.uconvert(offset, Elem::I64);
        let offset = k.mul_int(offset, unit);
        let from = k.at_index(values, at, 4 * shared as u32);
        let value = |k: &mut Builder, i: i32| {
            let at = Addr { offset: from.offset + 4 * (n * shared + i), ..from };
            let value = k.load(Ty::new(Elem::F32, 1), at);
            self.everywhere(k, value)
        };
        // The last of four reloads its vectors: otherwise registers spill.
        let together = if shared as usize == Staging::STEP { shared - 1 } else { shared };
        let spread: Vec<Val> = (0..together).map(|i| value(k, i)).collect();
        for v in 0..vectors {
            let x = self.staged_vector(k, staged, offset, v);
            for (i, &value) in spread.iter().enumerate() {
                let sum = &mut sums[i * vectors + v];
                *sum = self.multiplied(k, value, x, *sum);
            }
        }
        for i in together..shared {
            let value = value(k, i);
            for v in 0..vectors {
                let x = self.staged_vector(k, staged, offset, v);
                let sum = &mut sums[i as usize * vectors + v];
                *sum = self.multiplied(k, value, x, *sum);
            }
        }
    }

    /// The offsets in bytes of the [`Staging::STEP`] non-zeros from `at + first` on.
    fn offsets(&self, k: &mut Builder, offsets: Val, at: Val, first: i32) -> Vec<Val> {
        let unit = self.unit * 4;
        if self.e.dtype(3) != DType::U16 {
            let from = k.at_index(offsets, at, 4);
            return (first..first + Staging::STEP as i32)
                .map(|n| {
                    let offset = k.load(Ty::new(Elem::I32, 1), Addr { offset: from.offset + 4 * n, ..from });
                    let offset = k.convert(offset, Elem::I64);
                    k.mul_int(offset, unit)
                })
                .collect();
        }
        // All are in one word; each is extracted as a count of bytes. Units are powers of two.
        let from = k.at_index(offsets, at, 2);
        let word = k.load(Ty::I64, Addr { offset: from.offset + 2 * first, ..from });
        let (shift, mask) = (i64::from(unit.trailing_zeros()), k.int(0xffff * unit));
        (0..Staging::STEP as i64)
            .map(|n| {
                let right = 16 * n - shift;
                let (op, by) = if right < 0 { (Bin::Shl, k.int(-right)) } else { (Bin::Shr, k.int(right)) };
                let moved = k.bin(op, word, by);
                k.bin(Bin::And, moved, mask)
            })
            .collect()
    }

    /// The [`Staging::STEP`] non-zeros from `at + first` on, each in all lanes.
    fn values(&self, k: &mut Builder, values: Val, at: Val, first: i32) -> Vec<Val> {
        let from = k.at_index(values, at, 4);
        let at = |n: i32| Addr { offset: from.offset + 4 * (first + n), ..from };
        let steps = 0..Staging::STEP as u8;
        if self.lanes == 1 {
            return steps
                .map(|n| {
                    let one = k.load(Ty::new(Elem::F32, 1), at(n.into()));
                    self.everywhere(k, one)
                })
                .collect();
        }
        let four = k.load(Ty::new(Elem::F32, Staging::STEP as u32), at(0));
        steps
            .map(|n| {
                let one = k.lane(four, n);
                self.everywhere(k, one)
            })
            .collect()
    }
}
