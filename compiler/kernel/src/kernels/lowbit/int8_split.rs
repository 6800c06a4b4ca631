//! Rows of floats as 16-bit numbers of two digits, for byte products.
//!
//! With `m` a row's largest magnitude, an element `x` becomes `q = round(x * LARGEST_NUMBER / m)`, with an error of at
//! most half a unit, `m / (2 * LARGEST_NUMBER) = 1.5e-5 m`; `q = 256 h + l`. If products take signed bytes,
//! `-128 <= h, l <= 127`; otherwise both are unsigned, and `h + 128` is stored for `h`. So the only error of a product
//! with a column `w` is
//!
//! ```text
//! |error| <= 1.5e-5 * m * sum(|w|)
//! ```
//!
//! and usually smaller by about the square root of the number of contracted elements, since the rounding errors of the
//! elements are independent.
//!
//! A row of integers up to `LARGEST_NUMBER` is exact: `q = x * 2^n`, with the largest `n` that `m` allows. Such rows
//! are quantized data that reach a product as floats; the results may be quantized again, compared or cast to integers.
//!
//! A row has scale NaN if it has an infinity or NaN, or larger integers that `f32` represents exactly, or if the
//! reciprocal of its largest element is out of range.

use mcc_targets::schedule::lowbit::SPLIT_VECTORS;

use super::Weights;
use crate::kir::{Addr, Bin, Builder, Cmp, Elem, Ty, Un, Val};
use crate::numbers;
use mcc_ir::{DType, Dim};

/// The largest number with two signed digits.
const LARGEST_NUMBER: f64 = 32639.0;

/// `f32` has no fractions from here on.
const ALL_WHOLE: f64 = 8388608.0;

/// Rows of digits are padded to a multiple of this.
pub(crate) const PADDED_ELEMENTS: i64 = 16;

/// Adding this rounds a float of up to 22 bits into the low bits.
const MAGIC: i64 = 0x4b40_0000;

/// Magnitudes whose reciprocals, also scaled by what codes represent, are in range, as bits.
const MIN_MAGNITUDE_BITS: i64 = 0x0da2_4260;
const MAX_MAGNITUDE_BITS: i64 = 0x7e96_7699;

/// The digits of a block of rows.
pub(crate) struct Digits<'a, 'b, 'c> {
    w: &'c Weights<'a, 'b>,
    /// Bytes of a row's high (or low) digits.
    pub(crate) padded: i64,
    /// Whether digits are signed.
    signed: bool,
    /// Bytes of the sum of the numbers of a row and block; 0 if unused.
    pub(crate) sum_bytes: i64,
    /// A row's high digits, then its low ones.
    digits: Val,
    /// The sum of the numbers per row and block, as floats.
    sums: Option<Val>,
    /// Scale of a row's sums; NaN for rows that digits cannot represent.
    pub(crate) scales: Val,
}

/// Contracted elements of a row: `count` elements, starting at `at`.
#[derive(Clone, Copy)]
pub(super) struct Elements {
    /// Pointer to the row.
    pub(super) row: Val,
    pub(super) at: Val,
    pub(super) count: i64,
}

impl<'a, 'b, 'c> Digits<'a, 'b, 'c> {
    /// Allocates scratch memory for `rows` rows, with or without the sums of their numbers.
    pub(crate) fn new(
        w: &'c Weights<'a, 'b>,
        k: &mut Builder,
        rows: i64,
        signed: bool,
        summed: bool,
    ) -> Digits<'a, 'b, 'c> {
        let padded = (w.depth + PADDED_ELEMENTS - 1) / PADDED_ELEMENTS * PADDED_ELEMENTS;
        let scratch = |k: &mut Builder, bytes: i64| w.e.scratch(k, Dim::from(rows * bytes));
        let digits = scratch(k, 2 * padded);
        let scales = scratch(k, 4);
        let sum_bytes = if summed { 4 } else { 0 };
        let sums = (sum_bytes > 0).then(|| scratch(k, w.blocks * sum_bytes));
        Digits { w, padded, signed, sum_bytes, digits, sums, scales }
    }

    /// Pointer to the digits of a row of the block.
    pub(crate) fn row(&self, k: &mut Builder, local: Val) -> Val {
        let start = k.mul_int(local, 2 * self.padded);
        k.add(self.digits, start)
    }

    /// Pointer to the sums of a row of the block.
    pub(crate) fn row_sums(&self, k: &mut Builder, local: Val) -> Val {
        let Some(sums) = self.sums else { return self.digits };
        let start = k.mul_int(local, self.w.blocks * self.sum_bytes);
        k.add(sums, start)
    }

    /// Splits a row into digits; `first` is the first row of the block.
    pub(crate) fn cut(&self, k: &mut Builder, first: Val, row: Val) {
        let (w, lanes) = (self.w, self.w.lanes);
        let (from, local) = (w.row(k, row), k.sub(row, first));
        let bits = self.largest(k, from);
        let bits_ty = k.ty(bits);
        // For a row of zeros, any scale will do.
        let (nothing, one) = (k.int_of(0, bits_ty), k.int_of(0x3f80_0000, bits_ty));
        let empty = k.cmp(Cmp::Eq, bits, nothing);
        let bits = k.select(empty, one, bits);
        let (least, span) =
            (k.int_of(MIN_MAGNITUDE_BITS, bits_ty), k.int_of(MAX_MAGNITUDE_BITS - MIN_MAGNITUDE_BITS, bits_ty));
        let above = k.sub(bits, least);
        let ordinary = k.cmp(Cmp::ULe, above, span);
        let float = Ty::new(Elem::F32, 1);
        let m = k.bitcast(bits, float);
        let (inverse, scale) = self.unit(k, from, m);
        let odd = k.float(f64::NAN, float);
        let scale = k.select(ordinary, scale, odd);
        let to = k.at_index(self.scales, local, 4);
        k.store(to, scale);
        let inverse = k.splat(inverse, lanes);
        let (high, sums) = (self.row(k, local), self.row_sums(k, local));
        // Without sums, block boundaries do not matter.
        let block = if self.sums.is_some() { w.coded.block as i64 } else { w.depth };
        let full = if w.blocks > 1 { w.depth / block } else { 0 };
        let (zero, end) = (k.int(0), k.int(full * block));
        let sums = k.fold_loop(zero, end, block, &[sums], |k, at, sums| {
            self.cut_block(k, Elements { row: from, at, count: block }, inverse, high, sums[0]);
            vec![k.add_int(sums[0], self.sum_bytes)]
        });
        if full * block < w.depth {
            let rest = Elements { row: from, at: end, count: w.depth - full * block };
            self.cut_block(k, rest, inverse, high, sums[0]);
        }
    }

    /// The factor from a row with largest magnitude `m` to its numbers, and the factor back.
    fn unit(&self, k: &mut Builder, from: Val, m: Val) -> (Val, Val) {
        let float = k.ty(m);
        let (largest, unit) = (k.float(LARGEST_NUMBER, float), k.float(1.0 / LARGEST_NUMBER, float));
        let (inverse, scale) = (k.bin(Bin::Div, largest, m), k.mul(m, unit));
        // If the largest element is not an integer, the row is not one of integers: only other rows are checked in
        // full. From `ALL_WHOLE` on, every float is an integer, which proves nothing.
        let (rounded, all_whole) = (k.un(Un::Nearest, m), k.float(ALL_WHOLE, float));
        let (whole, telling) = (k.cmp(Cmp::Eq, m, rounded), k.cmp(Cmp::Lt, m, all_whole));
        let whole = k.bin(Bin::And, whole, telling);
        let both = k.choose(
            whole,
            |k| {
                let fractions = self.fractions(k, from);
                let bits = k.ty(fractions);
                let nothing = k.zero(bits);
                let whole = k.cmp(Cmp::Eq, fractions, nothing);
                // The power of two in the quotient's exponent, and its reciprocal.
                let power = k.bitcast(inverse, bits);
                let exponent = k.int_of(0x7f80_0000, bits);
                let power = k.bin(Bin::And, power, exponent);
                let reciprocals = k.int_of(254 << 23, bits);
                let reciprocal = k.sub(reciprocals, power);
                let (power, reciprocal) = (k.bitcast(power, float), k.bitcast(reciprocal, float));
                let odd = k.float(f64::NAN, float);
                let fits = k.cmp(Cmp::Le, m, largest);
                let reciprocal = k.select(fits, reciprocal, odd);
                vec![k.select(whole, power, inverse), k.select(whole, reciprocal, scale)]
            },
            |_| vec![inverse, scale],
        );
        (both[0], both[1])
    }

    /// Zero if all elements of a row are integers.
    fn fractions(&self, k: &mut Builder, from: Val) -> Val {
        self.over_row(k, from, Bin::Or, |k, x| {
            let (ty, whole) = (k.ty(x).with(Elem::I32), k.un(Un::Nearest, x));
            let (bits, whole) = (k.bitcast(x, ty), k.bitcast(whole, ty));
            k.bin(Bin::Xor, bits, whole)
        })
    }

    /// The bits of a row's largest magnitude: greater than infinity's if there is a NaN.
    fn largest(&self, k: &mut Builder, from: Val) -> Val {
        self.over_row(k, from, Bin::Max, |k, x| {
            let ty = k.ty(x).with(Elem::I32);
            let (bits, magnitude) = (k.bitcast(x, ty), k.int_of(0x7fff_ffff, ty));
            k.bin(Bin::And, bits, magnitude)
        })
    }

    /// Maps each element of a row to 32 bits and combines these; elements past the end are zero.
    fn over_row(&self, k: &mut Builder, from: Val, op: Bin, mut make: impl FnMut(&mut Builder, Val) -> Val) -> Val {
        let ty = Ty::new(Elem::I32, self.w.lanes);
        let (zero, nothing) = (k.int(0), k.zero(ty));
        // Several independent accumulators hide latency.
        let lanes = i64::from(self.w.lanes);
        let whole = self.w.depth / (lanes * SPLIT_VECTORS) * (lanes * SPLIT_VECTORS);
        let end = k.int(whole);
        let sums = k.fold_loop(zero, end, lanes * SPLIT_VECTORS, &[nothing; SPLIT_VECTORS as usize], |k, at, sums| {
            (0i64..)
                .zip(sums)
                .map(|(n, &sum)| {
                    let at = k.add_int(at, n * lanes);
                    let x = self.elements(k, from, at, lanes);
                    let made = make(k, x);
                    k.bin(op, made, sum)
                })
                .collect()
        });
        let mut sum = sums.into_iter().reduce(|a, b| k.bin(op, a, b)).unwrap_or(nothing);
        let mut done = whole;
        while done < self.w.depth {
            let at = k.int(done);
            let x = self.elements(k, from, at, self.w.depth - done);
            let made = make(k, x);
            sum = k.bin(op, made, sum);
            done += lanes;
        }
        k.reduce_lanes(sum, |k, a, b| k.bin(op, a, b))
    }

    /// A vector of a row's elements, `count` of them valid; the other lanes are zero.
    fn elements(&self, k: &mut Builder, from: Val, at: Val, count: i64) -> Val {
        let lanes = self.w.lanes;
        let ty = Ty::new(Elem::F32, lanes);
        let from = k.at_index(from, at, 4);
        if count >= i64::from(lanes) {
            return k.load(ty, from);
        }
        if k.has_masks() {
            let count = k.int(count);
            return k.load_part(ty, from, count);
        }
        let mut v = k.zero(ty);
        for lane in 0..count as u8 {
            let one = k.load(ty.with_lanes(1), Addr { offset: from.offset + 4 * i32::from(lane), ..from });
            v = k.with_lane(v, one, lane);
        }
        v
    }

    /// Digits of some elements, and the sum of their numbers.
    fn cut_block(&self, k: &mut Builder, elements: Elements, inverse: Val, high: Val, sum: Val) {
        let Elements { row: from, at, count } = elements;
        let lanes = i64::from(self.w.lanes);
        let ty = Ty::new(Elem::I32, self.w.lanes);
        let nothing = if self.sums.is_some() { vec![k.zero(ty)] } else { Vec::new() };
        let add = |k: &mut Builder, state: &[Val], bits: Val| -> Vec<Val> {
            state.iter().map(|&sum| k.add(sum, bits)).collect()
        };
        // Several vectors per round reduce the loop's overhead.
        let step = if count >= 4 * lanes { 4 } else { 1 };
        let whole = count / (step * lanes) * step * lanes;
        let end = k.add_int(at, whole);
        let mut state = k.fold_loop(at, end, step * lanes, &nothing, |k, at, state| {
            (0..step).fold(state.to_vec(), |state, n| {
                let at = k.add_int(at, n * lanes);
                let bits = self.cut_vector(k, from, at, lanes, inverse, high);
                add(k, &state, bits)
            })
        });
        let mut vectors = whole / lanes;
        // Padding of the last step is zero.
        while vectors * lanes < (count + PADDED_ELEMENTS - 1) / PADDED_ELEMENTS * PADDED_ELEMENTS {
            let at = k.add_int(at, vectors * lanes);
            let bits = self.cut_vector(k, from, at, (count - vectors * lanes).max(0), inverse, high);
            state = add(k, &state, bits);
            vectors += 1;
        }
        if let Some(&all) = state.first() {
            let all = k.reduce_lanes(all, |k, a, b| k.add(a, b));
            let offset = self.magic().wrapping_mul(vectors * lanes) as i32;
            let offset = k.int_of(offset.into(), ty.with_lanes(1));
            let all = k.sub(all, offset);
            let all = k.convert(all, Elem::F32);
            let negative = k.un(Un::Neg, all);
            let to = k.at(sum, 0);
            k.store(to, negative);
        }
    }

    /// The bits of a float whose addition leaves the number in the low bits, ready to be split into digits.
    fn magic(&self) -> i64 {
        if self.signed { MAGIC } else { MAGIC + 0x8000 }
    }

    /// Stores the digits of a vector of elements, `count` of them valid; returns the bits they are split from.
    fn cut_vector(&self, k: &mut Builder, from: Val, at: Val, count: i64, inverse: Val, high: Val) -> Val {
        let x = if count > 0 { self.elements(k, from, at, count) } else { k.zero_like(inverse) };
        let magic = k.float(f64::from(f32::from_bits(self.magic() as u32)), k.ty(x));
        let rounded = k.fma(x, inverse, magic);
        let ty = k.ty(rounded).with(Elem::I32);
        let bits = k.bitcast(rounded, ty);
        let mut tops = bits;
        if self.signed {
            let half = k.int_of(128, ty);
            tops = k.add(bits, half);
        }
        let eight = k.int(8);
        let tops = k.bin(Bin::Shr, tops, eight);
        let to = k.at_index(high, at, 1);
        numbers::store(k, DType::I8, to, tops);
        numbers::store(k, DType::I8, Addr { offset: to.offset + self.padded as i32, ..to }, bits);
        bits
    }
}
