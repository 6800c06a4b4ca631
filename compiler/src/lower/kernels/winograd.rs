//! 3x3 convolution by minimal filtering F(2x2, 3x3): 16 multiplications for 4 results where the definition has 36.
//!
//! A block of tiles (each 2x2 results) is taken to transformed space, multiplied there by 16 matrices, and taken back.
//! Blocks are whole rows of tiles, as many as keep the transformed data in the second-level cache; the last block is
//! moved up over rows that are done already rather than cut.

use mcc_targets::schedule;

use super::contract::{Contraction, Job, Panels, Rows};
use super::nest::around;
use super::{Emit, Site};
use crate::ir::Dim;
use crate::lower::kir::{Bin, Builder, Cmp, Ty, Val};
use crate::lower::numbers;
use crate::{Error, Result};

/// [`Op::WinogradConv`](crate::ir::Op::WinogradConv): `(x: [batch, h, w, in], packed: [16, panels, in, tile])`.
pub(super) fn winograd_conv(site: &Site<'_>, e: &Emit<'_>, k: &mut Builder, size: &[Dim], out: usize) -> Result<()> {
    let (x, packed) = (&site.operands[0], &site.operands[1]);
    let ty = Ty::new(numbers::compute_elem(x.dtype), 1);
    let lanes = i64::from(site.target.vector_bytes / ty.elem.bytes());
    let extents: Option<Vec<i64>> = size.iter().chain(&x.shape[1..]).chain(&packed.shape).map(Dim::as_const).collect();
    let Some(&[oh, ow, _, _, channels, _, panels, _, tile]) = extents.as_deref() else {
        return Err(Error::internal(format!("winograd_conv of {x} and {packed}: extents are not constant")));
    };
    let out = out as i64;
    if x.dtype.size() != ty.elem.bytes() as usize {
        return Err(Error::internal(format!("winograd_conv of {x} and {packed}: narrow elements")));
    }
    // As wide as channels fill.
    let lanes = lanes.min(1 << (channels | out).trailing_zeros().min(6));
    let (down, across) = ((oh + 1) / 2, (ow + 1) / 2);
    let bytes = i64::from(ty.elem.bytes());
    let row_bytes = 16 * across * channels * bytes;
    let most = (schedule::WINOGRAD_BLOCK_BYTES / row_bytes).clamp(1, down);
    let mut blocks = (down + most - 1) / most;
    if site.target.threads > 1 {
        // As many for each thread, where there are some for each.
        let threads = i64::from(site.target.threads.min(4));
        blocks = ((blocks + threads - 1) / threads * threads).min(down);
    }
    let block = (down + blocks - 1) / blocks;
    let strides: Option<Vec<i64>> = e.strides(0)[1..3].iter().map(Dim::as_const).collect();
    let Some(&[row, column]) = strides.as_deref() else {
        return Err(Error::internal(format!("winograd_conv of {x} and {packed}: distances are not constant")));
    };
    let image_bytes = &e.strides(0)[0] * &Dim::from(bytes);
    let nest = Nest { e, ty, lanes, row, column, channels, out, oh, ow, across, block };
    let tiles = block * across;
    let inputs = e.scratch(k, Dim::from(16 * tiles * channels * bytes));
    let sums = e.scratch(k, Dim::from(16 * tiles * out * bytes));
    let mut contraction = Contraction::new(
        site,
        e,
        Panels::Packed(tile as u32),
        (&Dim::from(tiles), &Dim::from(out)),
        &Dim::from(channels * bytes),
    );
    contraction.run = Dim::from(channels);
    around(k, &x.shape[0], &mut |k, image| {
        let (zero, end) = (k.int(0), k.int(down));
        k.parallel(zero, end, block, &mut |k, first| {
            let last = k.int(down - block);
            let first = k.bin(Bin::Min, first, last);
            let image_bytes = k.dim(&image_bytes);
            let offset = k.mul(image, image_bytes);
            let rows = k.mul_int(first, 2 * row * bytes);
            let x = k.add(e.operand(0), offset);
            let x = k.add(x, rows);
            nest.transform(k, x, inputs);
            let (zero, planes) = (k.int(0), k.int(16));
            k.for_each(zero, planes, 1, &mut |k, plane| {
                let mut at = |base: Val, size: i64| {
                    let offset = k.mul_int(plane, size * bytes);
                    k.add(base, offset)
                };
                let (left, right) = (at(inputs, tiles * channels), at(e.operand(1), panels * channels * tile));
                let sink = Some(at(sums, tiles * out));
                let rows = Rows::Affine { base: left, bytes: Dim::from(channels * bytes) };
                let zero = k.int(0);
                let (count, columns) = (Dim::from(tiles), Dim::from(out));
                contraction.emit(k, &Job { rows, count, columns, right, out: (zero, zero), sink });
            });
            nest.restore(k, (image, first), sums);
        });
    });
    Ok(())
}

struct Nest<'a, 'b> {
    e: &'b Emit<'a>,
    /// A scalar of the compute type.
    ty: Ty,
    lanes: i64,
    /// Elements between rows and between columns of `x`.
    row: i64,
    column: i64,
    channels: i64,
    out: i64,
    oh: i64,
    ow: i64,
    /// Tiles in a row of tiles.
    across: i64,
    /// Rows of tiles in a block.
    block: i64,
}

impl Nest<'_, '_> {
    fn bytes(&self, elements: i64) -> i64 {
        elements * i64::from(self.ty.elem.bytes())
    }

    fn tiles(&self, k: &mut Builder, body: &mut dyn FnMut(&mut Builder, Val, Val)) {
        let (zero, down, across) = (k.int(0), k.int(self.block), k.int(self.across));
        k.for_each(zero, down, 1, &mut |k, ty| k.for_each(zero, across, 1, &mut |k, tx| body(k, ty, tx)));
    }

    /// The index of a tile in its block.
    fn index(&self, k: &mut Builder, ty: Val, tx: Val) -> Val {
        let row = k.mul_int(ty, self.across);
        k.add(row, tx)
    }

    /// Takes a block to transformed space: `[16, tiles, channels]`.
    fn transform(&self, k: &mut Builder, x: Val, to: Val) {
        let vector = Ty::new(self.ty.elem, self.lanes as u32);
        let (row, plane) = (self.bytes(self.row), self.bytes(self.block * self.across * self.channels));
        self.tiles(k, &mut |k, ty, tx| {
            let (down, right) = (k.mul_int(ty, 2 * row), k.mul_int(tx, self.bytes(2 * self.column)));
            let from = k.add(x, down);
            let from = k.add(from, right);
            let index = self.index(k, ty, tx);
            let offset = k.mul_int(index, self.bytes(self.channels));
            let to = k.add(to, offset);
            let (zero, end) = (k.int(0), k.int(self.bytes(self.channels)));
            k.for_each(zero, end, self.bytes(self.lanes), &mut |k, c| {
                let (from, to) = (k.add(from, c), k.add(to, c));
                let columns: Vec<[Val; 4]> = (0..4)
                    .map(|column| {
                        let mut at = |line: i64| {
                            let offset = k.int(line * row + self.bytes(column * self.column));
                            let at = k.at_index(from, offset, 1);
                            k.load(vector, at)
                        };
                        let d = [at(0), at(1), at(2), at(3)];
                        spread(k, d)
                    })
                    .collect();
                for line in 0..4 {
                    let values = spread(k, [0, 1, 2, 3].map(|column: usize| columns[column][line]));
                    for (column, v) in values.into_iter().enumerate() {
                        let offset = k.int((line * 4 + column) as i64 * plane);
                        let at = k.at_index(to, offset, 1);
                        k.store(at, v);
                    }
                }
            });
        });
    }

    /// Takes a block's sums `[16, tiles, out]` back and stores them.
    fn restore(&self, k: &mut Builder, (image, first): (Val, Val), from: Val) {
        let vector = Ty::new(self.ty.elem, self.lanes as u32);
        let plane = self.bytes(self.block * self.across * self.out);
        self.tiles(k, &mut |k, ty, tx| {
            let index = self.index(k, ty, tx);
            let offset = k.mul_int(index, self.bytes(self.out));
            let from = k.add(from, offset);
            let ty = k.add(first, ty);
            let (y, z) = (k.mul_int(ty, 2), k.mul_int(tx, 2));
            let (zero, end) = (k.int(0), k.int(self.out));
            let above = k.mul_int(image, self.oh);
            k.for_each(zero, end, self.lanes, &mut |k, o| {
                let columns: Vec<[Val; 2]> = (0..4)
                    .map(|column| {
                        let mut at = |line: i64| {
                            let bytes = k.mul_int(o, i64::from(self.ty.elem.bytes()));
                            let base = k.add(from, bytes);
                            let offset = k.int((line * 4 + column) * plane);
                            let at = k.at_index(base, offset, 1);
                            k.load(vector, at)
                        };
                        let m = [at(0), at(1), at(2), at(3)];
                        gather(k, m)
                    })
                    .collect();
                for line in 0..2 {
                    let values = gather(k, [0, 1, 2, 3].map(|column: usize| columns[column][line]));
                    for (column, v) in values.into_iter().enumerate() {
                        let (y, z) = (k.add_int(y, line as i64), k.add_int(z, column as i64));
                        self.inside(k, (line, y), (column, z), &mut |k| {
                            let row = k.add(above, y);
                            let row = k.mul_int(row, self.ow);
                            let row = k.add(row, z);
                            self.e.store(k, row, o, v);
                        });
                    }
                }
            });
        });
    }

    /// Does something where a result exists: odd extents end in the middle of a tile.
    fn inside(&self, k: &mut Builder, y: (usize, Val), z: (usize, Val), then: &mut dyn FnMut(&mut Builder)) {
        let checks = [(y, self.oh), (z, self.ow)];
        let mut open = checks.into_iter().filter(|&((far, _), extent)| far == 1 && extent % 2 == 1);
        let test = |k: &mut Builder, ((_, at), extent): ((usize, Val), i64)| {
            let extent = k.int(extent);
            k.cmp(Cmp::Lt, at, extent)
        };
        match (open.next(), open.next()) {
            (None, _) => then(k),
            (Some(a), None) => {
                let a = test(k, a);
                k.when(a, then);
            }
            (Some(a), Some(b)) => {
                let (a, b) = (test(k, a), test(k, b));
                k.when(a, &mut |k| k.when(b, then));
            }
        }
    }
}

/// Four elements in transformed space.
fn spread(k: &mut Builder, d: [Val; 4]) -> [Val; 4] {
    [k.sub(d[0], d[2]), k.add(d[1], d[2]), k.sub(d[2], d[1]), k.sub(d[1], d[3])]
}

/// Two results from four sums in transformed space.
fn gather(k: &mut Builder, m: [Val; 4]) -> [Val; 2] {
    let (sum, difference) = (k.add(m[1], m[2]), k.sub(m[1], m[2]));
    [k.add(m[0], sum), k.sub(difference, m[3])]
}
