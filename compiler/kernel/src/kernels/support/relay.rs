//! More of the interface of [`Emit`]: shapes, indices, and moves of unchanged elements.

use super::emit::Emit;
use super::loops::{columns, copy_bytes, pointer_at, product, raw_dtype};
use crate::kir::{Bin, Builder, Cmp, Elem, Val};
use crate::numbers;
use mcc_ir::{DType, Dim};

impl Emit<'_> {
    /// Number of lanes in which elements of a type are computed. 64-bit integers are scalar: few targets have vector
    /// operations on them.
    pub fn lanes(&self, dtype: DType) -> u32 {
        match numbers::compute_elem(dtype) {
            Elem::I64 => 1,
            elem => (self.request.config.target.vector_bytes / elem.bytes()).max(1),
        }
    }

    /// Copies `lanes` unchanged elements of an operand to columns `col..` of a row of result 0.
    pub fn relay(&self, k: &mut Builder, operand: usize, from: Val, row: Val, col: Val, lanes: u32) {
        if !self.is_plain() {
            let v = self.load(k, operand, from, lanes);
            self.store(k, row, col, v);
            return;
        }
        let size = self.request.operands[operand].dtype.size();
        let raw = raw_dtype(size);
        let from = k.at_index(self.operand(operand), from, size as u32);
        let v = numbers::load(k, raw, from, lanes);
        let to = self.index_of(k, row, col);
        let to = k.at_index(self.result(0), to, size as u32);
        numbers::store(k, raw, to, v);
    }

    /// Copies `count` unchanged elements of an operand to columns `col..` of a row of result 0. Without an epilogue the
    /// run may continue into the following rows.
    pub fn relay_run(&self, k: &mut Builder, operand: usize, from: Val, row: Val, col: Val, count: Val) {
        let dtype = self.request.operands[operand].dtype;
        if self.is_plain() {
            let size = dtype.size();
            let from = pointer_at(k, self.operand(operand), from, size);
            let index = self.index_of(k, row, col);
            let to = pointer_at(k, self.result(0), index, size);
            let bytes = k.mul_int(count, size as i64);
            copy_bytes(k, self.request.config.target.vector_bytes, to, from, bytes);
            return;
        }
        let zero = k.int(0);
        columns(k, zero, count, self.lanes(dtype), |k, i, lanes| {
            let (from, col) = (k.add(from, i), k.add(col, i));
            self.relay(k, operand, from, row, col, lanes);
        });
    }

    /// Copies the elements of all axes `tail`, starting at flat index `from` of an operand, to flat index `lead` of the
    /// axes before them in result 0. An empty tail (one element) is allowed only without an epilogue.
    pub fn relay_block(&self, k: &mut Builder, operand: usize, from: Val, lead: Val, tail: &[Dim]) {
        let zero = k.int(0);
        match tail.split_last() {
            Some((last, rows)) if !self.is_plain() => {
                let (last, rows) = (k.dim(last), k.dim(&product(rows)));
                let first = k.mul(lead, rows);
                k.for_each(zero, rows, 1, |k, r| {
                    let row = k.add(first, r);
                    let skip = k.mul(r, last);
                    let from = k.add(from, skip);
                    self.relay_run(k, operand, from, row, zero, last);
                });
            }
            _ => {
                let run = k.dim(&product(tail));
                let to = k.mul(lead, run);
                self.relay_run(k, operand, from, zero, to, run);
            }
        }
    }

    /// Stores lanes at a flat index of result 0: only if [`Emit::is_plain`].
    pub fn store_flat(&self, k: &mut Builder, index: Val, v: Val) {
        assert!(self.is_plain());
        let zero = k.int(0);
        self.store(k, zero, index, v);
    }

    /// Index of a row's column in the memory of result 0.
    pub fn index_of(&self, k: &mut Builder, row: Val, col: Val) -> Val {
        let start = self.row_start(k, self.epilogue.leaves.len(), row);
        k.add(start, col)
    }

    /// Shape of an operand.
    pub fn shape(&self, operand: usize) -> &[Dim] {
        &self.request.operands[operand].shape
    }

    /// Type of an operand's elements.
    pub fn dtype(&self, operand: usize) -> DType {
        self.request.operands[operand].dtype
    }

    /// Shape of result 0.
    pub fn out_shape(&self) -> &[Dim] {
        &self.request.results[0].shape
    }

    /// Loads an element of an integer operand as `i64`.
    pub fn load_index(&self, k: &mut Builder, operand: usize, index: Val) -> Val {
        let v = self.load(k, operand, index, 1);
        numbers::cast(k, v, self.dtype(operand), DType::I64, false)
    }

    /// Loads an element of an index operand, counted from the end if negative and clamped to `0..extent`, so that a bad
    /// index cannot access other memory.
    pub fn load_bounded_index(&self, k: &mut Builder, operand: usize, index: Val, extent: Val) -> Val {
        let i = self.load_index(k, operand, index);
        let (zero, last) = (k.int(0), k.add_int(extent, -1));
        let from_end = k.add(i, extent);
        let negative = k.cmp(Cmp::Lt, i, zero);
        let i = k.select(negative, from_end, i);
        let i = k.bin(Bin::Min, i, last);
        k.bin(Bin::Max, i, zero)
    }
}
