//! Weights as bytes: codes minus a value, four contracted elements of a column side by side.

use super::{Product, Written};
use crate::kernels::lowbit::Columns;
use crate::kir::{Bin, Builder, DotKind, Elem, Ty, Val};

impl Product<'_, '_, '_> {
    /// Decodes the weights of some columns to memory.
    pub(super) fn write_out(&self, k: &mut Builder, to: &Written, columns: &Columns) {
        let w = self.w;
        let block = w.coded.block as i64;
        let full = if w.blocks > 1 { w.depth / block } else { 0 };
        let (zero, end) = (k.int(0), k.int(full));
        let state = [columns.codes, columns.parameters, to.bytes, to.starts.unwrap_or(to.bytes)];
        let state = k.fold_loop(zero, end, 1, &state, |k, _, state| self.write_block(k, block, state, columns.vectors));
        if full * block < w.depth {
            self.write_block(k, w.depth - full * block, &state, columns.vectors);
        }
    }

    /// Decodes a block of `elements` elements; the state is pointers to its codes, parameters, bytes and initial sums.
    pub(super) fn write_block(&self, k: &mut Builder, elements: i64, state: &[Val], vectors: u32) -> Vec<Val> {
        let w = self.w;
        let &[codes, parameters, bytes, starts] = state else { return state.to_vec() };
        let words = Ty::new(Elem::I32, w.lanes);
        let in_word = w.coded.in_word() as i64;
        let less = self.less(k, parameters, vectors);
        let nothing = k.zero(words);
        let mut carried = vec![nothing; vectors as usize];
        carried.extend([codes, bytes]);
        let (zero, end) = (k.int(0), k.int((elements + in_word - 1) / in_word));
        let carried = k.fold_loop(zero, end, 1, &carried, |k, _, carried| {
            let (mut sums, codes, to) =
                (carried[..vectors as usize].to_vec(), carried[vectors as usize], carried[vectors as usize + 1]);
            let steps = 8 / w.coded.bits;
            for v in 0..vectors {
                let word = w.words(k, codes, v, 0);
                for step in 0..steps {
                    let numbers = self.four_elements(k, word, step, Some(less[v as usize]));
                    let to = k.at(to, ((step * vectors + v) * words.bytes()) as i32);
                    k.store(to, numbers);
                    if !self.signed {
                        sums[v as usize] = self.summed(k, numbers, sums[v as usize]);
                    }
                }
            }
            let step = i64::from(steps * vectors * words.bytes());
            sums.extend([k.add_int(codes, w.word_bytes()), k.add_int(to, step)]);
            sums
        });
        let (sums, pointers) = carried.split_at(vectors as usize);
        let mut starts = starts;
        if !self.signed {
            for (v, &sum) in (0u32..).zip(sums) {
                let seven = k.int(7);
                let sum = k.bin(Bin::Shl, sum, seven);
                let start = k.sub(nothing, sum);
                let to = k.at(starts, (v * words.bytes()) as i32);
                k.store(to, start);
            }
            starts = k.add_int(starts, i64::from(vectors * words.bytes()));
        }
        vec![pointers[0], k.add_int(parameters, w.block_bytes()), pointers[1], starts]
    }

    /// Adds up bytes, four per lane.
    pub(super) fn summed(&self, k: &mut Builder, numbers: Val, sum: Val) -> Val {
        let ones = k.int_of(0x0101_0101, k.ty(sum));
        let ones = k.bitcast(ones, k.ty(numbers));
        k.dot(DotKind::U8S8, ones, numbers, sum)
    }

    /// The values to subtract from the codes of a block, for each vector of columns.
    pub(super) fn less(&self, k: &mut Builder, parameters: Val, vectors: u32) -> Vec<Val> {
        let of = |v| {
            let zero = if self.w.coded.bits < 8 { self.w.zero(k, parameters, v) } else { None };
            self.in_bytes(k, zero)
        };
        (0..vectors).map(of).collect()
    }

    /// The value to subtract from codes, in each byte of a vector of words.
    pub(super) fn in_bytes(&self, k: &mut Builder, zero: Option<Val>) -> Val {
        let ty = Ty::new(Elem::I32, self.w.lanes);
        let middle = i64::from(self.w.coded.middle());
        let bytes = Ty::new(Elem::I8, 4 * self.w.lanes);
        let Some(zero) = zero else {
            let all = k.int_of(i64::from((middle as u32 * 0x0101_0101) as i32), ty);
            return k.bitcast(all, bytes);
        };
        let (middle, low, each) = (k.int_of(middle, ty), k.int_of(0xff, ty), k.int_of(0x0101_0101, ty));
        let less = k.add(zero, middle);
        let less = k.bin(Bin::And, less, low);
        let less = k.mul(less, each);
        k.bitcast(less, bytes)
    }

    /// Four adjacent elements of a vector of words as bytes: codes, or weights if something is subtracted.
    pub(super) fn four_elements(&self, k: &mut Builder, words: Val, step: u32, less: Option<Val>) -> Val {
        let (bits, ty) = (self.w.coded.bits, k.ty(words));
        let mut v = words;
        let lowest = 8 - bits * (step + 1);
        if lowest > 0 {
            let count = k.int(lowest.into());
            v = k.bin(Bin::Shr, v, count);
        }
        if bits < 8 {
            let mask = k.int_of(((1 << bits) - 1) * 0x0101_0101, ty);
            v = k.bin(Bin::And, v, mask);
        }
        let codes = k.bitcast(v, Ty::new(Elem::I8, 4 * ty.lanes));
        less.map_or(codes, |less| k.sub(codes, less))
    }
}
