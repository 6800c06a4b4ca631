//! Products with weights in blocks: the dense micro-kernel with a list of the elements to read, floats or four bytes
//! each.
//!
//! A tile of windows stays in the L1 and L2 caches while all panels use it. Of a panel only its blocks are read: their
//! values in order, and for each the offset from the start of a window to the elements that it multiplies. A tile's
//! windows have constant strides, along one or two axes of the result, so that one pointer serves all of them.

use crate::kernels::gemm::multiply_add;
use crate::kernels::int8::dot;
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::around;
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Addr, Bin, Builder, DotKind, Elem, Ty, Val};
use crate::view::View;
use mcc_ir::{ConvSpec, DType, Dim, Error, Result};
use mcc_targets::schedule;

/// [`WeightFormat::Blocks`](mcc_ir::WeightFormat::Blocks): `(x: channels last, heads, offsets, values: [blocks, tile] or
/// [blocks, tile, 4])`.
pub(crate) fn block_conv(
    request: &KernelRequest<'_>,
    e: &Emit<'_>,
    k: &mut Builder,
    spec: &ConvSpec,
    kernel: &[i64],
    out: usize,
) -> Result<()> {
    let (x, values) = (&request.operands[0], &request.operands[3]);
    let malformed = || Error::internal(format!("block_conv of {x} and {values}"));
    let tile = values.shape.get(1).and_then(Dim::as_const).and_then(|t| u32::try_from(t).ok());
    let tile = tile.filter(|&t| t > 0).ok_or_else(malformed)?;
    let lanes = (request.config.target.vector_bytes / WORD).min(1 << tile.trailing_zeros());
    let pixels = request.results[0].shape.split_last().ok_or_else(malformed)?.1;
    let strides = View::contiguous(&x.shape).strides;
    let axis = |axis: usize| {
        let step = if axis == 0 { 1 } else { spec.strides[axis - 1] };
        let bytes = &strides[axis] * &Dim::from(step * x.dtype.size() as i64);
        Axis { extent: pixels[axis].clone(), bytes }
    };
    let mut axes: Vec<Axis> = match kernel.is_empty() {
        // Rows of a matrix are contiguous, whatever its axes.
        true => {
            let bytes = strides.iter().rev().nth(1).ok_or_else(malformed)? * &Dim::from(x.dtype.size());
            vec![Axis { extent: Dim::ONE, bytes: Dim::ZERO }, Axis { extent: pixels.iter().product(), bytes }]
        }
        false => (0..pixels.len()).map(axis).collect(),
    };
    let images = axes.split_off(axes.len().checked_sub(2).ok_or_else(malformed)?);
    let (images, [lines, columns]) = (axes, <[Axis; 2]>::try_from(images).map_err(|_| malformed())?);
    let column_bytes = columns.constant().ok_or_else(malformed)?;
    // Lines that are too far apart do not share a pointer.
    let count = |axis: &Axis| axis.extent.as_const().and_then(|c| u32::try_from(c).ok());
    let together = lines.constant().map_or(Some(1), |_| count(&lines));
    let channels = x.shape.last().and_then(Dim::as_const).ok_or_else(malformed)?;
    let row_bytes = kernel.iter().all(|&n| n == 1).then_some(channels * x.dtype.size() as i64);
    let known = row_bytes.and_then(|b| u64::try_from(b).ok());
    let most = schedule::blocks::tile(
        &request.config.target,
        x.dtype != DType::F32,
        tile / lanes,
        [together, count(&columns)],
        known,
    );
    let line = request.config.target.machine.line_bytes();
    let copied = row_bytes
        .filter(|b| b % line == 0 && schedule::blocks::collide(&request.config.target, column_bytes.into(), 1));
    let room = copied.map(|bytes| e.scratch(k, Dim::from(i64::from(most[0] * most[1]) * (bytes + line))));
    let tiles = |axis: &Axis, most: u32| count(axis).map_or(i64::MAX >> 32, |n| n.div_ceil(most).into());
    let product = Product {
        e,
        kind: match x.dtype {
            DType::F32 => None,
            bytes => Some(dot::kind(bytes, &request.constants[3])),
        },
        size: x.dtype.size() as u32,
        lanes,
        vectors: tile / lanes,
        apart: [lines.constant().unwrap_or(0), column_bytes],
        row_bytes,
        room,
        out: out as i64,
        by_tiles: tiles(&lines, most[0]) * tiles(&columns, most[1]) >= 4,
        lines,
        columns,
        most,
    };
    let row = k.int(0);
    product.images(k, &images, Place { base: e.operand(0), row });
    Ok(())
}

/// Bytes that a block takes of a window, and of a column of weights.
const WORD: u32 = 4;

/// An axis of windows.
struct Axis {
    extent: Dim,
    /// Bytes between neighbours in the operand.
    bytes: Dim,
}

impl Axis {
    /// Bytes between neighbours, if they can share a pointer.
    fn constant(&self) -> Option<i32> {
        let bytes = self.bytes.as_const().and_then(|b| i32::try_from(b).ok());
        bytes.filter(|b| *b < schedule::blocks::FARTHEST)
    }
}

/// A window: its pointer, and its row of the result.
#[derive(Clone, Copy)]
struct Place {
    base: Val,
    row: Val,
}

impl Place {
    /// The `i`th place along an axis that starts here.
    fn along(self, k: &mut Builder, axis: &Axis, i: Val) -> Place {
        let (extent, bytes) = (k.dim(&axis.extent), k.dim(&axis.bytes));
        let (row, offset) = (k.mul(self.row, extent), k.mul(i, bytes));
        Place { base: k.add(self.base, offset), row: k.add(row, i) }
    }
}

struct Product<'a, 'b> {
    e: &'b Emit<'a>,
    /// How bytes are multiplied; `None` for floats.
    kind: Option<DotKind>,
    /// Bytes of an element of the operand.
    size: u32,
    lanes: u32,
    /// Vectors per panel.
    vectors: u32,
    lines: Axis,
    columns: Axis,
    /// Bytes between the lines and the columns of a tile.
    apart: [i32; 2],
    /// Bytes of a window, if windows have one element of the image.
    row_bytes: Option<i64>,
    /// Buffer for copies of such windows, a cache line apart.
    room: Option<Val>,
    /// Columns of the result.
    out: i64,
    /// The most lines and columns of a tile.
    most: [u32; 2],
    /// Whether threads share the tiles instead of the panels.
    by_tiles: bool,
}

/// A register tile: a pointer to its first window, and for each window its row and its byte offset from there.
struct Tile {
    base: Val,
    windows: Vec<(Val, i32)>,
}

/// A round of a panel's loop.
struct BlockStep<'a> {
    tile: &'a Tile,
    /// Number of blocks.
    count: u32,
    /// Sets of accumulators that are used in turn.
    sets: usize,
}

impl Product<'_, '_> {
    /// Columns of a panel.
    fn width(&self) -> u32 {
        self.lanes * self.vectors
    }

    /// All windows of all images.
    fn images(&self, k: &mut Builder, axes: &[Axis], first: Place) {
        if let Some((axis, inner)) = axes.split_first() {
            return around(k, &axis.extent, |k, i| {
                let first = first.along(k, axis, i);
                self.images(k, inner, first);
            });
        }
        self.covered(k, &self.lines.extent, self.most[0], |k, line, lines| {
            let first = first.along(k, &self.lines, line);
            self.covered(k, &self.columns.extent, self.most[1], |k, column, columns| {
                let first = first.along(k, &self.columns, column);
                let tile = self.tile(k, first, [lines, columns]);
                self.panels(k, &tile);
            });
        });
    }

    /// An extent in pieces of `most`, and the tail in smaller ones.
    fn covered(&self, k: &mut Builder, extent: &Dim, most: u32, mut body: impl FnMut(&mut Builder, Val, u32)) {
        let (mut done, mut size) = (Dim::ZERO, most);
        while size > 0 {
            let step = Dim::from(i64::from(size));
            let until = &done + &(&(extent - &done).floor_div(&step) * &step);
            let (start, end) = (k.dim(&done), k.dim(&until));
            k.parallel_if(self.by_tiles, start, end, size.into(), |k, i| body(k, i, size));
            let rest = (extent - &until).as_const().and_then(|r| u32::try_from(r).ok());
            size = rest.unwrap_or(size / 2);
            done = until;
        }
    }

    fn tile(&self, k: &mut Builder, first: Place, [lines, columns]: [u32; 2]) -> Tile {
        let mut windows = Vec::new();
        for line in 0..lines {
            let width = k.dim(&self.columns.extent);
            let before = k.mul_int(width, line.into());
            let row = k.add(first.row, before);
            for column in 0..columns {
                let bytes = self.apart[0] * line as i32 + self.apart[1] * column as i32;
                windows.push((k.add_int(row, column.into()), bytes));
            }
        }
        Tile { base: first.base, windows }
    }

    /// All panels of a tile.
    fn panels(&self, k: &mut Builder, tile: &Tile) {
        let tile = &self.fetched(k, tile);
        let width = i64::from(self.width());
        let (zero, end) = (k.int(0), k.int(self.out / width));
        let each = |k: &mut Builder, panel: Val| self.panel(k, tile, panel, self.width());
        k.parallel_if(!self.by_tiles, zero, end, 1, each);
        let rest = (self.out % width) as u32;
        let last = |k: &mut Builder| self.panel(k, tile, end, rest);
        match rest {
            0 => {}
            _ if self.by_tiles => last(k),
            _ => k.once(last),
        }
    }

    /// Prefetches windows of one element in order, since blocks access channels at random, and copies windows that
    /// would map to few cache sets.
    fn fetched(&self, k: &mut Builder, tile: &Tile) -> Tile {
        let windows = tile.windows.clone();
        let line = self.e.request.config.target.machine.line_bytes();
        let Some(bytes) = self.row_bytes else { return Tile { base: tile.base, windows } };
        let (zero, end) = (k.int(0), k.int(bytes));
        let Some(room) = self.room else {
            k.for_each(zero, end, line, |k, byte| {
                for &(_, offset) in &windows {
                    let at = k.at_index(tile.base, byte, 1);
                    k.prefetch(Addr { offset: at.offset + offset, ..at });
                }
            });
            return Tile { base: tile.base, windows };
        };
        let apart = (bytes + line) as i32;
        let piece = Ty::new(Elem::I32, self.e.request.config.target.vector_bytes / WORD);
        k.for_each(zero, end, line, |k, byte| {
            let (from, to) = (k.at_index(tile.base, byte, 1), k.at_index(room, byte, 1));
            for (i, &(_, offset)) in windows.iter().enumerate() {
                for more in (0..line as i32).step_by(piece.bytes() as usize) {
                    let v = k.load(piece, Addr { offset: from.offset + offset + more, ..from });
                    k.store(Addr { offset: to.offset + apart * i as i32 + more, ..to }, v);
                }
            }
        });
        let windows = windows.iter().enumerate().map(|(i, &(row, _))| (row, apart * i as i32));
        Tile { base: room, windows: windows.collect() }
    }

    /// Computes and stores the sums of one panel of `columns` columns.
    fn panel(&self, k: &mut Builder, tile: &Tile, panel: Val, columns: u32) {
        let head = |k: &mut Builder, next: i32| {
            let at = k.at_index(self.e.operand(1), panel, 4);
            let head = k.load(Ty::new(Elem::I32, 1), Addr { offset: at.offset + 4 * next, ..at });
            k.convert(head, Elem::I64)
        };
        let (first, last) = (head(k, 0), head(k, 1));
        // Decreasing heads denote a panel without blocks.
        let last = k.bin(Bin::Max, first, last);
        let rows = tile.windows.len() as u32;
        let sets = schedule::blocks::sets(rows, self.vectors);
        let size = (rows * self.vectors) as usize;
        let elem = if self.kind.is_some() { Elem::I32 } else { Elem::F32 };
        let zero = k.zero(Ty::new(elem, self.lanes));
        let mut state = vec![zero; size * sets as usize];
        let bytes = k.mul_int(first, i64::from(self.width() * WORD));
        state.push(k.add(self.e.operand(3), bytes));
        let round = sets.max(schedule::blocks::UNROLL);
        let (all, number) = (k.sub(last, first), k.int(round.into()));
        let over = k.bin(Bin::URem, all, number);
        let middle = k.sub(last, over);
        let step = |count: u32| BlockStep { tile, count, sets: sets.min(count) as usize };
        let rounds = |k: &mut Builder, from: Val, to: Val, count: u32, state: &[Val]| {
            k.fold_loop(from, to, count.into(), state, |k, i, state| self.step(k, &step(count), i, state))
        };
        state = rounds(k, first, middle, round, &state);
        state = rounds(k, middle, last, 1, &state);
        let mut sums = state[..size].to_vec();
        for set in 1..sets as usize {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = k.add(*sum, state[set * size + i]);
            }
        }
        let col = k.mul_int(panel, self.width().into());
        if self.vectors == 1 && columns == self.lanes {
            let rows: Vec<Val> = tile.windows.iter().map(|w| w.0).collect();
            return self.e.store_pixels(k, &rows, col, &sums);
        }
        for (sums, &(row, _)) in sums.chunks(self.vectors as usize).zip(&tile.windows) {
            self.e.store_columns(k, row, col, sums, columns);
        }
    }

    /// The blocks from block `i` on. The state is the sums and the pointer to the values.
    fn step(
        &self,
        k: &mut Builder,
        &BlockStep { tile, count, sets }: &BlockStep<'_>,
        i: Val,
        state: &[Val],
    ) -> Vec<Val> {
        let (mut state, values) = (state.to_vec(), state[state.len() - 1]);
        let size = tile.windows.len() * self.vectors as usize;
        for block in 0..count {
            let at = k.at_index(self.e.operand(2), i, 4);
            let index = k.load(Ty::new(Elem::I32, 1), Addr { offset: at.offset + 4 * block as i32, ..at });
            let index = k.convert(index, Elem::I64);
            let ahead =
                k.at(values, (i64::from(block * self.width() * WORD) + schedule::blocks::FETCH_AHEAD_BYTES) as i32);
            k.prefetch(ahead);
            let columns: Vec<Val> = (0..self.vectors)
                .map(|v| {
                    let from = k.at(values, ((block * self.vectors + v) * self.lanes * WORD) as i32);
                    let ty = if self.kind.is_some() {
                        Ty::new(Elem::I8, 4 * self.lanes)
                    } else {
                        Ty::new(Elem::F32, self.lanes)
                    };
                    k.load(ty, from)
                })
                .collect();
            for (row, &(_, offset)) in tile.windows.iter().enumerate() {
                let from = k.at_index(tile.base, index, self.size);
                // Four bytes are loaded as a float, which emitters load into all lanes at once.
                let word = k.load(Ty::new(Elem::F32, 1), Addr { offset: from.offset + offset, ..from });
                let mut all = k.splat(word, self.lanes);
                if self.kind.is_some() {
                    all = k.bitcast(all, Ty::new(Elem::I8, 4 * self.lanes));
                }
                for (v, &column) in columns.iter().enumerate() {
                    let sum = &mut state[block as usize % sets * size + row * self.vectors as usize + v];
                    *sum = match self.kind {
                        Some(kind) => k.dot(kind, all, column, *sum),
                        None => multiply_add(k, column, all, *sum),
                    };
                }
            }
        }
        let next = k.add_int(values, i64::from(count * self.width() * WORD));
        if let Some(pointer) = state.last_mut() {
            *pointer = next;
        }
        state
    }
}
