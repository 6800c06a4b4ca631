//! 3x3 convolution by minimal filtering: F(2x2, 3x3) takes 16 multiplications for 4 results where the definition has 36,
//! F(4x4, 3x3) takes 36 for 16 where it has 144, F(6x6, 3x3) 64 for 36 where it has 324.
//!
//! A block of tiles is taken to transformed space, multiplied there by a matrix a plane, and taken back.
//! Blocks are whole rows of tiles, as many as keep the transformed data in the second-level cache; the last block is
//! moved up over rows that are done already rather than cut.

use mcc_targets::choices::Problem;
use mcc_targets::schedule;

use super::contract::{Contraction, Job, Panels, Rows};
use super::nest::around;
use super::{Emit, Site};
use crate::ir::{Dim, Filtering};
use crate::lower::kir::{Bin, Builder, Cmp, Ty, Val};
use crate::lower::numbers;
use crate::{Error, Result};

/// [`Op::WinogradConv`](crate::ir::Op::WinogradConv): `(x: [batch, h, w, in], packed: [planes, panels, in, tile])`.
pub(super) fn winograd_conv(site: &Site<'_>, e: &Emit<'_>, k: &mut Builder, size: &[Dim], out: usize) -> Result<()> {
    let (x, packed) = (&site.operands[0], &site.operands[1]);
    let ty = Ty::new(numbers::compute_elem(x.dtype), 1);
    let lanes = i64::from(site.target.vector_bytes / ty.elem.bytes());
    let extents: Option<Vec<i64>> = size.iter().chain(&x.shape[1..]).chain(&packed.shape).map(Dim::as_const).collect();
    let Some(&[oh, ow, _, _, channels, planes, panels, _, tile]) = extents.as_deref() else {
        return Err(Error::internal(format!("winograd_conv of {x} and {packed}: extents are not constant")));
    };
    let filtering = usize::try_from(planes).ok().and_then(Filtering::of_planes);
    let Some(m) = filtering.map(|f| f.results as i64).filter(|m| [2, 4, 6].contains(m)) else {
        return Err(Error::internal(format!("winograd_conv of {x} and {packed}: no such filtering")));
    };
    let out = out as i64;
    if x.dtype.size() != ty.elem.bytes() as usize {
        return Err(Error::internal(format!("winograd_conv of {x} and {packed}: narrow elements")));
    }
    // As wide as channels fill.
    let lanes = lanes.min(1 << (channels | out).trailing_zeros().min(6));
    let (down, across) = ((oh + m - 1) / m, (ow + m - 1) / m);
    let bytes = i64::from(ty.elem.bytes());
    let row_bytes = planes * across * channels * bytes;
    let text = site.problem();
    let problem = Problem { text: &text, layer: site.layer };
    let most = (schedule::filtering_block(site.target, problem) / row_bytes).clamp(1, down);
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
    let nest = Nest { e, m, ty, lanes, row, column, channels, out, oh, ow, across, block };
    let tiles = block * across;
    let (left_plane, out_plane) = (nest.plane(channels), nest.plane(out));
    let inputs = e.scratch(k, Dim::from(planes * left_plane * bytes));
    let sums = e.scratch(k, Dim::from(planes * out_plane * bytes));
    let mut contraction = Contraction::new(
        site,
        e,
        Panels::Packed(tile as u32),
        (&Dim::from(tiles), &Dim::from(out), &Dim::from(channels)),
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
            let rows = k.mul_int(first, m * row * bytes);
            let x = k.add(e.operand(0), offset);
            let x = k.add(x, rows);
            nest.transform(k, x, inputs);
            let (zero, planes) = (k.int(0), k.int(planes));
            k.for_each(zero, planes, 1, &mut |k, plane| {
                let mut at = |base: Val, size: i64| {
                    let offset = k.mul_int(plane, size * bytes);
                    k.add(base, offset)
                };
                let (left, right) = (at(inputs, left_plane), at(e.operand(1), panels * channels * tile));
                let sink = Some(at(sums, out_plane));
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
    /// Results of a tile along an axis.
    m: i64,
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

    /// Takes a block to transformed space: `[planes, tiles, channels]`.
    fn transform(&self, k: &mut Builder, x: Val, to: Val) {
        let vector = Ty::new(self.ty.elem, self.lanes as u32);
        let (row, plane, n) = (self.bytes(self.row), self.bytes(self.plane(self.channels)), self.m + 2);
        self.tiles(k, &mut |k, ty, tx| {
            let (down, right) = (k.mul_int(ty, self.m * row), k.mul_int(tx, self.bytes(self.m * self.column)));
            let from = k.add(x, down);
            let from = k.add(from, right);
            let index = self.index(k, ty, tx);
            let offset = k.mul_int(index, self.bytes(self.channels));
            let to = k.add(to, offset);
            let (zero, end) = (k.int(0), k.int(self.bytes(self.channels)));
            k.for_each(zero, end, self.bytes(self.lanes), &mut |k, c| {
                let (from, to) = (k.add(from, c), k.add(to, c));
                let columns: Vec<Vec<Val>> = (0..n)
                    .map(|column| {
                        let line = |line: i64| {
                            let offset = k.int(line * row + self.bytes(column * self.column));
                            let at = k.at_index(from, offset, 1);
                            k.load(vector, at)
                        };
                        let elements: Vec<Val> = (0..n).map(line).collect();
                        spread(k, &elements)
                    })
                    .collect();
                for line in 0..n {
                    let elements: Vec<Val> = columns.iter().map(|c| c[line as usize]).collect();
                    for (column, v) in spread(k, &elements).into_iter().enumerate() {
                        let offset = k.int((line * n + column as i64) * plane);
                        let at = k.at_index(to, offset, 1);
                        k.store(at, v);
                    }
                }
            });
        });
    }

    /// Takes a block's sums `[planes, tiles, out]` back and stores them.
    fn restore(&self, k: &mut Builder, (image, first): (Val, Val), from: Val) {
        let vector = Ty::new(self.ty.elem, self.lanes as u32);
        let (plane, n) = (self.bytes(self.plane(self.out)), self.m + 2);
        self.tiles(k, &mut |k, ty, tx| {
            let index = self.index(k, ty, tx);
            let offset = k.mul_int(index, self.bytes(self.out));
            let from = k.add(from, offset);
            let ty = k.add(first, ty);
            let (y, z) = (k.mul_int(ty, self.m), k.mul_int(tx, self.m));
            let (zero, end) = (k.int(0), k.int(self.out));
            let above = k.mul_int(image, self.oh);
            k.for_each(zero, end, self.lanes, &mut |k, o| {
                let bytes = k.mul_int(o, i64::from(self.ty.elem.bytes()));
                let base = k.add(from, bytes);
                let columns: Vec<Vec<Val>> = (0..n)
                    .map(|column| {
                        let line = |line: i64| {
                            let offset = k.int((line * n + column) * plane);
                            let at = k.at_index(base, offset, 1);
                            k.load(vector, at)
                        };
                        let sums: Vec<Val> = (0..n).map(line).collect();
                        gather(k, &sums)
                    })
                    .collect();
                for line in 0..self.m {
                    let sums: Vec<Val> = columns.iter().map(|c| c[line as usize]).collect();
                    let values = gather(k, &sums);
                    let y = k.add_int(y, line);
                    self.inside(k, line, y, self.oh, &mut |k| {
                        for (column, &v) in values.iter().enumerate() {
                            let z = k.add_int(z, column as i64);
                            self.inside(k, column as i64, z, self.ow, &mut |k| {
                                let row = k.add(above, y);
                                let row = k.mul_int(row, self.ow);
                                let row = k.add(row, z);
                                self.e.store(k, row, o, v);
                            });
                        }
                    });
                }
            });
        });
    }

    /// Does something for the `nth` result of a tile where it exists: extents may end in the middle of a tile.
    fn inside(&self, k: &mut Builder, nth: i64, at: Val, extent: i64, then: &mut dyn FnMut(&mut Builder)) {
        if extent % self.m == 0 || nth < extent % self.m {
            return then(k);
        }
        let extent = k.int(extent);
        let exists = k.cmp(Cmp::Lt, at, extent);
        k.when(exists, then);
    }

    /// Elements between planes of so many channels: no multiple of a page, whose addresses would share cache sets.
    fn plane(&self, channels: i64) -> i64 {
        let elements = self.block * self.across * channels;
        if self.bytes(elements) % 1024 == 0 { elements + 64 / self.bytes(1) } else { elements }
    }
}

/// The elements of a tile along an axis in transformed space: the maps of [`Filtering::input`].
fn spread(k: &mut Builder, d: &[Val]) -> Vec<Val> {
    match *d {
        [a, b, c, d] => vec![k.sub(a, c), k.add(b, c), k.sub(c, b), k.sub(b, d)],
        [a, b, c, d, e, f] => {
            let ty = k.ty(a);
            let [two, four, minus_four, minus_five] = [2.0, 4.0, -4.0, -5.0].map(|x| k.float(x, ty));
            let [first, last] = [(a, c, e), (b, d, f)].map(|(x, y, z)| {
                let sum = k.fma(x, four, z);
                k.fma(y, minus_five, sum)
            });
            let (even, odd) = (k.fma(c, minus_four, e), k.fma(b, minus_four, d));
            let (near, far) = (k.sub(e, c), k.sub(d, b));
            let far = k.mul(far, two);
            vec![first, k.add(even, odd), k.sub(even, odd), k.add(near, far), k.sub(near, far), last]
        }
        [a, b, c, d, e, f, g, h] => {
            let ty = k.ty(a);
            let ends = [(a, c, e, g), (h, f, d, b)].map(|(x, y, z, w)| {
                let (outer, inner, factor) = (k.sub(x, w), k.sub(z, y), k.float(5.25, ty));
                k.fma(inner, factor, outer)
            });
            // Even and odd parts at three pairs of points: the factors of c, e and of b, d, f; that of g is 1.
            let parts =
                [([1.0, -4.25], [1.0, -4.25, 1.0]), ([0.25, -1.25], [0.5, -2.5, 2.0]), ([4.0, -5.0], [2.0, -2.5, 0.5])];
            let mut all = vec![ends[0]];
            for (even, odd) in parts {
                let even = weighted(k, g, &[(c, even[0]), (e, even[1])]);
                let first = k.float(odd[0], ty);
                let first = k.mul(b, first);
                let odd = weighted(k, first, &[(d, odd[1]), (f, odd[2])]);
                all.extend([k.add(even, odd), k.sub(even, odd)]);
            }
            all.push(ends[1]);
            all
        }
        _ => Vec::new(),
    }
}

/// The results of a tile along an axis from sums in transformed space: the maps of [`Filtering::output`].
fn gather(k: &mut Builder, m: &[Val]) -> Vec<Val> {
    match *m {
        [a, b, c, d] => {
            let (sum, difference) = (k.add(b, c), k.sub(b, c));
            vec![k.add(a, sum), k.sub(difference, d)]
        }
        [a, b, c, d, e, f] => {
            let ty = k.ty(a);
            let [two, four, eight] = [2.0, 4.0, 8.0].map(|x| k.float(x, ty));
            let (sum, difference) = (k.add(b, c), k.sub(b, c));
            let (far_sum, far_difference) = (k.add(d, e), k.sub(d, e));
            let first = k.add(a, sum);
            let last = k.add(difference, f);
            vec![
                k.add(first, far_sum),
                k.fma(far_difference, two, difference),
                k.fma(far_sum, four, sum),
                k.fma(far_difference, eight, last),
            ]
        }
        [a, b, c, d, e, f, g, h] => {
            let pairs = [(b, c), (d, e), (f, g)];
            let [s1, s2, s3] = pairs.map(|(x, y)| k.add(x, y));
            let [d1, d2, d3] = pairs.map(|(x, y)| k.sub(x, y));
            let first = k.add(a, s1);
            let last = k.add(d1, h);
            vec![
                weighted(k, first, &[(s2, 1.0), (s3, 1.0)]),
                weighted(k, d1, &[(d2, 2.0), (d3, 0.5)]),
                weighted(k, s1, &[(s2, 4.0), (s3, 0.25)]),
                weighted(k, d1, &[(d2, 8.0), (d3, 0.125)]),
                weighted(k, s1, &[(s2, 16.0), (s3, 0.0625)]),
                weighted(k, last, &[(d2, 32.0), (d3, 0.03125)]),
            ]
        }
        _ => Vec::new(),
    }
}

/// A sum of terms with factors, added to a value.
fn weighted(k: &mut Builder, start: Val, terms: &[(Val, f64)]) -> Val {
    terms.iter().fold(start, |sum, &(v, factor)| {
        if factor == 1.0 {
            return k.add(sum, v);
        }
        let factor = k.float(factor, k.ty(v));
        k.fma(v, factor, sum)
    })
}
