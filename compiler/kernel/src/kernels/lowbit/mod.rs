//! Contractions with coded weights: [`WeightFormat::LowBit`](mcc_ir::WeightFormat::LowBit).
//!
//! | target and operation | how |
//! |---|---|
//! | byte products, 1x1 windows without strides, codes without a table | rows as two bytes per element: [`int8`] |
//! | few rows | decoded in registers: [`Weights::sums`] |
//! | other | groups of columns decoded to memory, for all rows of a block: [`float`] |
//!
//! All but the first compute in `f32` with exactly the weights that the codes represent.

pub mod float;
pub mod int8;
pub mod int8_split;

use crate::kernels::support::emit::Emit;
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Addr, Bin, Builder, Cmp, Elem, Ty, Val};
use crate::numbers;
use mcc_ir::{DType, Dim, Error, LowBit, Packed, Result};
use mcc_targets::schedule;

/// Entries of a table of codes of up to 4 bits.
const ENTRIES: u32 = LowBit::SHORT_TABLE as u32;

/// `(x: channels last, codes, parameters, [table])`.
pub(crate) fn lowbit_conv(
    request: &KernelRequest<'_>,
    e: &Emit<'_>,
    k: &mut Builder,
    p: &Packed,
    coded: LowBit,
) -> Result<()> {
    let weights = Weights::new(request, e, coded, [p.taps(), p.out as i64])?;
    let point = p.kernel.iter().all(|&k| k == 1) && p.spec.strides.iter().all(|&s| s == 1);
    let rows: Dim = request.results[0].shape.split_last().map_or(Dim::ONE, |(_, rows)| rows.iter().product());
    if point && request.config.target.has_byte_dot() && int8::fits(&weights) {
        int8::product(&weights, k, &rows);
    } else if point && rows.as_const().is_some_and(|r| r <= schedule::lowbit::MAX_ROWS_IN_REGISTERS) {
        few_rows(&weights, k, &rows);
    } else {
        float::product(request, &weights, k, p, &rows);
    }
    Ok(())
}

/// The right operand: codes, parameters, and their layout.
pub(crate) struct Weights<'a, 'b> {
    pub(crate) e: &'b Emit<'a>,
    /// Numbers of the operands that are codes, scales, and zero points or table.
    operands: [usize; 3],
    pub(crate) coded: LowBit,
    /// Contracted elements.
    pub(crate) depth: i64,
    pub(crate) columns: i64,
    /// Columns of a panel.
    pub(crate) panel: u32,
    words: i64,
    pub(crate) blocks: i64,
    /// Type of the scales.
    scale: DType,
    /// Type of the blocks' zero points, if any.
    zero: Option<DType>,
    pub(crate) table: bool,
    /// Lanes of a vector of columns.
    pub(crate) lanes: u32,
}

/// Adjacent columns: pointers to their codes and parameters.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    pub(crate) codes: Val,
    pub(crate) parameters: Val,
    /// Index of the first one.
    pub(crate) first: Val,
    /// Number of vectors that hold them.
    pub(crate) vectors: u32,
    /// Number of columns.
    pub(crate) count: u32,
}

/// `count` contracted elements, starting at index `at`, which counts in steps of `step`.
#[derive(Clone, Copy)]
struct Elements {
    at: Val,
    count: i64,
    step: i64,
}

impl<'a, 'b> Weights<'a, 'b> {
    /// The weights of `taps` elements of a window and `out` columns.
    pub(crate) fn new(
        request: &KernelRequest<'_>,
        e: &'b Emit<'a>,
        coded: LowBit,
        [taps, out]: [i64; 2],
    ) -> Result<Weights<'a, 'b>> {
        let x = &request.operands[0];
        let malformed = || Error::internal(format!("lowbit_conv of {x}"));
        let channels = x.shape.last().and_then(Dim::as_const).ok_or_else(malformed)?;
        Weights::of_operands(request, e, coded, [channels * taps, out], [1, 2, 3])
    }

    /// Weights `[depth, columns]`, whose codes, scales, and zero points or table are these operands.
    pub(crate) fn of_operands(
        request: &KernelRequest<'_>,
        e: &'b Emit<'a>,
        coded: LowBit,
        [depth, columns]: [i64; 2],
        operands: [usize; 3],
    ) -> Result<Weights<'a, 'b>> {
        let (codes, scales) = (&request.operands[operands[0]], &request.operands[operands[1]]);
        let malformed = || Error::internal(format!("weights of {codes} with {scales}"));
        let (codes, blocks) = (codes.fixed_shape().ok_or_else(malformed)?, scales.fixed_shape().ok_or_else(malformed)?);
        let (&[_, words, panel], &[_, blocks, _]) = (codes.as_slice(), blocks.as_slice()) else {
            return Err(malformed());
        };
        let panel = u32::try_from(panel).map_err(|_| malformed())?;
        let rest = request.operands.get(operands[2]).map(|ty| ty.dtype);
        Ok(Weights {
            e,
            operands,
            coded,
            depth,
            columns,
            panel,
            words: words as i64,
            blocks: blocks as i64,
            scale: scales.dtype,
            zero: rest.filter(|&dtype| dtype != DType::F32),
            table: rest == Some(DType::F32),
            lanes: (request.config.target.vector_bytes / 4).min(1 << panel.trailing_zeros()),
        })
    }

    /// Bytes of a block's scales, the unit of parameter offsets.
    pub(crate) fn block_bytes(&self) -> i64 {
        i64::from(self.panel) * self.scale.size() as i64
    }

    /// Bytes between the words of a column.
    pub(crate) fn word_bytes(&self) -> i64 {
        i64::from(self.panel) * 4
    }

    /// Contracted elements in the words of a column.
    pub(crate) fn elements(&self) -> i64 {
        self.words * self.coded.in_word() as i64
    }

    /// Bytes of a panel's codes.
    pub(crate) fn panel_bytes(&self) -> i64 {
        self.words * self.word_bytes()
    }

    /// Runs `body` for groups of `vectors` vectors of columns; the last group may be smaller. Groups are whole panels,
    /// or panels are whole groups.
    pub(crate) fn each_group(&self, k: &mut Builder, vectors: u32, mut body: impl FnMut(&mut Builder, Columns)) {
        let width = vectors * self.lanes;
        let (full, rest) = (self.columns / i64::from(width), (self.columns % i64::from(width)) as u32);
        let (zero, count) = (k.int(0), k.int(full));
        k.parallel(zero, count, 1, |k, group| {
            let columns = self.group(k, group, vectors, width);
            body(k, columns);
        });
        if rest > 0 {
            k.once(|k| {
                let group = k.int(full);
                let columns = self.group(k, group, vectors, width);
                body(k, Columns { vectors: rest.div_ceil(self.lanes), count: rest, ..columns });
            });
        }
    }

    /// The columns of group number `group`, for groups of this width.
    pub(crate) fn group(&self, k: &mut Builder, group: Val, vectors: u32, width: u32) -> Columns {
        let (panel, within) = if width >= self.panel {
            (k.mul_int(group, i64::from(width / self.panel)), k.int(0))
        } else {
            let parts = k.int(i64::from(self.panel / width));
            let (panel, part) = (k.bin(Bin::UDiv, group, parts), k.bin(Bin::URem, group, parts));
            (panel, k.mul_int(part, i64::from(width)))
        };
        let at = |k: &mut Builder, base: Val, bytes: i64, size: i64| {
            let (offset, within) = (k.mul_int(panel, bytes), k.mul_int(within, size));
            let start = k.add(base, offset);
            k.add(start, within)
        };
        let codes = at(k, self.e.operand(self.operands[0]), self.panel_bytes(), 4);
        let parameters =
            at(k, self.e.operand(self.operands[1]), self.blocks * self.block_bytes(), self.scale.size() as i64);
        Columns { codes, parameters, first: k.mul_int(group, width.into()), vectors, count: width }
    }

    /// Loads the words of a vector of columns.
    pub(crate) fn words(&self, k: &mut Builder, codes: Val, vector: u32, word: i64) -> Val {
        let at = vector * self.lanes;
        let offset = i64::from(at / self.panel) * self.panel_bytes() + i64::from(at % self.panel) * 4;
        let from = k.at(codes, (offset + word * self.word_bytes()) as i32);
        k.load(Ty::new(Elem::I32, self.lanes), from)
    }

    /// Loads the scales of a vector of columns, for the block whose scales are at `parameters`.
    pub(crate) fn scale(&self, k: &mut Builder, parameters: Val, vector: u32) -> Val {
        let from = k.at(parameters, (self.parameter(vector) * self.scale.size() as i64) as i32);
        numbers::load(k, self.scale, from, self.lanes)
    }

    /// The same for zero points, as integers, if there are any.
    pub(crate) fn zero(&self, k: &mut Builder, parameters: Val, vector: u32) -> Option<Val> {
        let (dtype, halvings) = (self.zero?, self.scale.size().trailing_zeros());
        // They have the same offset from their start as the scales.
        let distance = k.sub(parameters, self.e.operand(self.operands[1]));
        let halvings = k.int(halvings.into());
        let number = k.bin(Bin::Shr, distance, halvings);
        let start = k.mul_int(number, dtype.size() as i64);
        let start = k.add(self.e.operand(self.operands[2]), start);
        let from = k.at(start, (self.parameter(vector) * dtype.size() as i64) as i32);
        Some(numbers::load(k, dtype, from, self.lanes))
    }

    /// Number of parameters in a block from a group's first column to a vector's.
    fn parameter(&self, vector: u32) -> i64 {
        let at = vector * self.lanes;
        i64::from(at / self.panel) * self.blocks * i64::from(self.panel) + i64::from(at % self.panel)
    }

    /// Whether blocks have zero points.
    pub(crate) fn has_zeros(&self) -> bool {
        self.zero.is_some()
    }

    /// The decoding parameters of a vector of columns in a block.
    pub(crate) fn decoder(&self, k: &mut Builder, parameters: Val, vector: u32) -> Decoder {
        let (scale, zero) = (self.scale(k, parameters, vector), self.zero(k, parameters, vector));
        let zero = zero.map(|zero| k.convert(zero, Elem::F32));
        let table = self.table(k);
        let ty = k.ty(scale);
        let middle = if self.table { 0.0 } else { f64::from(self.coded.middle()) };
        let middle = (middle != 0.0).then(|| k.float(middle, ty));
        // The sum is exact: zero points are integers.
        let less = match (middle, zero) {
            (Some(middle), Some(zero)) => Some(k.add(middle, zero)),
            (middle, zero) => middle.or(zero),
        };
        Decoder { scale, less, table }
    }

    /// The table in registers, if that is possible.
    fn table(&self, k: &mut Builder) -> Vec<Val> {
        if !self.table || self.coded.bits > 4 || self.lanes < 4 {
            return Vec::new();
        }
        let ty = Ty::new(Elem::F32, self.lanes);
        (0..ENTRIES / self.lanes)
            .map(|n| {
                let from = k.at(self.e.operand(self.operands[2]), (4 * n * self.lanes) as i32);
                k.load(ty, from)
            })
            .collect()
    }

    /// The entries of codes: looked up in each register by the code's low bits, then selected by each higher bit.
    fn entry(&self, k: &mut Builder, table: &[Val], code: Val) -> Val {
        let mut found: Vec<Val> = table.iter().map(|&part| k.permute(part, code)).collect();
        let mut bit = i64::from(self.lanes);
        while found.len() > 1 {
            let ty = k.ty(code);
            let (mask, zero) = (k.int_of(bit, ty), k.zero(ty));
            let set = k.bin(Bin::And, code, mask);
            let upper = k.cmp(Cmp::Ne, set, zero);
            found = found.chunks(2).map(|pair| k.select(upper, pair[1], pair[0])).collect();
            bit *= 2;
        }
        found[0]
    }

    /// The weights of one element from the words of a vector of columns.
    pub(crate) fn weight(&self, k: &mut Builder, d: &Decoder, words: Val, element: usize) -> Val {
        let (bits, (_, bit)) = (self.coded.bits, self.coded.place(element));
        let mut code = words;
        if bit > 0 {
            let count = k.int(bit.into());
            code = k.bin(Bin::Shr, code, count);
        }
        if bit + bits < 32 {
            let mask = k.int_of((1 << bits) - 1, k.ty(code));
            code = k.bin(Bin::And, code, mask);
        }
        let mut value = if !d.table.is_empty() {
            self.entry(k, &d.table, code)
        } else if self.table {
            let table = self.e.operand(self.operands[2]);
            numbers::by_lanes(k, Ty::new(Elem::F32, self.lanes), |k, lane| {
                let one = if self.lanes > 1 { k.lane(code, lane as u8) } else { code };
                let one = k.uconvert(one, Elem::I64);
                let from = k.at_index(table, one, 4);
                k.load(Ty::new(Elem::F32, 1), from)
            })
        } else {
            k.convert(code, Elem::F32)
        };
        if let Some(less) = d.less {
            value = k.sub(value, less);
        }
        k.mul(value, d.scale)
    }

    /// Runs `body` for every contracted element in order, with the element's weights in all vectors of the columns. Its
    /// return value is carried to the next call; the index counts elements in steps of `step`, and the number is the
    /// element's offset from that index.
    pub(crate) fn each_element(
        &self,
        k: &mut Builder,
        columns: &Columns,
        step: i64,
        state: &[Val],
        mut body: impl FnMut(&mut Builder, Val, i64, &[Val], &[Val]) -> Vec<Val>,
    ) -> Vec<Val> {
        let block = self.coded.block as i64;
        let full = if self.blocks > 1 { self.depth / block } else { 0 };
        let (zero, end) = (k.int(0), k.int(full * block * step));
        let carried = [state, &[columns.codes, columns.parameters]].concat();
        let state = k.fold_loop(zero, end, block * step, &carried, |k, at, state| {
            self.block_elements(k, columns, Elements { at, count: block, step }, state, &mut body)
        });
        let rest = self.depth - full * block;
        let mut state = if rest > 0 {
            self.block_elements(k, columns, Elements { at: end, count: rest, step }, &state, &mut body)
        } else {
            state
        };
        state.truncate(carried.len() - 2);
        state
    }

    /// Elements that share parameters; the state ends with the pointers to codes and parameters.
    fn block_elements(
        &self,
        k: &mut Builder,
        columns: &Columns,
        elements: Elements,
        state: &[Val],
        mut body: impl FnMut(&mut Builder, Val, i64, &[Val], &[Val]) -> Vec<Val>,
    ) -> Vec<Val> {
        let Elements { at, count, step } = elements;
        let (parameters, state) = (state[state.len() - 1], &state[..state.len() - 1]);
        let decoders: Vec<Decoder> = (0..columns.vectors).map(|v| self.decoder(k, parameters, v)).collect();
        let in_word = self.coded.in_word() as i64;
        let mut round = |k: &mut Builder, at: Val, elements: i64, state: &[Val]| -> Vec<Val> {
            let (codes, mut state) = (state[state.len() - 1], state[..state.len() - 1].to_vec());
            let words: Vec<Val> = (0..columns.vectors).map(|v| self.words(k, codes, v, 0)).collect();
            for element in 0..elements {
                let weights: Vec<Val> =
                    decoders.iter().zip(&words).map(|(d, &words)| self.weight(k, d, words, element as usize)).collect();
                state = body(k, at, element, &weights, &state);
            }
            state.push(k.add_int(codes, self.word_bytes()));
            state
        };
        let whole = count / in_word * in_word;
        let end = k.add_int(at, whole * step);
        let mut state = k.fold_loop(at, end, in_word * step, state, |k, at, state| round(k, at, in_word, state));
        if count > whole {
            state = round(k, end, count - whole, &state);
        }
        state.push(k.add_int(parameters, self.block_bytes()));
        state
    }

    /// The sums of some rows, whose elements start at `rows`, with some columns, in `f32`: row by row.
    pub(crate) fn sums(&self, k: &mut Builder, columns: &Columns, rows: &[Val]) -> Vec<Val> {
        let (zero, vectors) = (k.zero(Ty::new(Elem::F32, self.lanes)), columns.vectors as usize);
        // Two alternating sums per column hide latency if there is but one row.
        let (size, sets) = (rows.len() * vectors, if rows.len() == 1 { 2 } else { 1 });
        let sums = self.each_element(k, columns, 4, &vec![zero; sets * size], |k, at, n, weights, state| {
            let mut state = state.to_vec();
            let set = n as usize % sets * size;
            for (sums, &row) in state[set..set + size].chunks_mut(vectors).zip(rows) {
                let from = k.at_index(row, at, 1);
                let x = k.load(Ty::new(Elem::F32, 1), Addr { offset: from.offset + 4 * n as i32, ..from });
                let x = k.splat(x, self.lanes);
                for (sum, &w) in sums.iter_mut().zip(weights) {
                    *sum = k.fma(w, x, *sum);
                }
            }
            state
        });
        if sets == 1 { sums } else { (0..size).map(|n| k.add(sums[n], sums[size + n])).collect() }
    }

    /// Stores a row's results in some columns.
    pub(crate) fn store(&self, k: &mut Builder, columns: &Columns, row: Val, sums: &[Val]) {
        for (v, &sum) in (0u32..).zip(sums) {
            let some = (columns.count - v * self.lanes).min(self.lanes);
            let col = k.add_int(columns.first, i64::from(v * self.lanes));
            if some == self.lanes {
                self.e.store(k, row, col, sum);
            } else if some > 1 && k.has_masks() {
                let count = k.int(some.into());
                k.partly(count, self.lanes, |k| self.e.store(k, row, col, sum));
            } else {
                for lane in 0..some {
                    let (one, col) = (k.lane(sum, lane as u8), k.add_int(col, lane.into()));
                    self.e.store(k, row, col, one);
                }
            }
        }
    }

    /// Pointer to a row of the left operand, if rows are contiguous.
    pub(crate) fn row(&self, k: &mut Builder, row: Val) -> Val {
        let offset = k.mul_int(row, 4 * self.depth);
        k.add(self.e.operand(0), offset)
    }
}

/// Decoding parameters of a block: a weight is its value minus `less`, times `scale`.
pub(crate) struct Decoder {
    scale: Val,
    less: Option<Val>,
    table: Vec<Val>,
}

/// Each row separately.
fn few_rows(w: &Weights<'_, '_>, k: &mut Builder, rows: &Dim) {
    let vectors = (w.panel / w.lanes).max(2);
    w.each_group(k, vectors, |k, columns| {
        let (zero, count) = (k.int(0), k.dim(rows));
        k.for_each(zero, count, 1, |k, row| {
            let from = w.row(k, row);
            let sums = w.sums(k, &columns, &[from]);
            w.store(k, &columns, row, &sums);
        });
    });
}
