//! Register tiles of `f32` on registers wider than the emitter's vectors: a frame is filled in, and [`Stmt::Tile`] does
//! the rest. Sums go straight to the result where nothing is left to do to them, otherwise through memory behind the
//! frame to the epilogue.
//!
//! [`Stmt::Tile`]: crate::lower::kir::Stmt::Tile

use super::contract::{Contraction, Job, Shape, Tap};
use crate::ir::Dim;
use crate::lower::kir::{Builder, Elem, Ty, Val, tile};

impl Contraction<'_, '_> {
    /// Where sums can go as they are: rows of `columns` elements.
    pub(super) fn plain_out(&self, job: &Job) -> Option<Val> {
        job.sink.or_else(|| self.emit.plain_rows().map(|_| self.emit.result(0)))
    }

    /// Fills in what is the same for all tiles of a job.
    pub(super) fn fill_frame(&self, k: &mut Builder, job: &Job) {
        let Some(frame) = self.frame else { return };
        let count: Dim = self.taps.iter().map(|t| &t.count).product();
        let table = self.emit.scratch(k, &count * &Dim::from(8i64));
        let (zero, bytes) = (k.int(0), k.dim(&(&count * &Dim::from(8i64))));
        self.fill_taps(k, &self.taps, (zero, zero), table);
        let end = k.add(table, bytes);
        let whole = &self.run.floor_div(&Dim::from(tile::UNROLL)) * &Dim::from(4 * tile::UNROLL);
        let run = &self.run * &Dim::from(4i64);
        let (step, whole, run) = (k.dim(&self.right_bytes(&job.columns)), k.dim(&whole), k.dim(&run));
        let fields = [
            (tile::RIGHT_STEP, step),
            (tile::TAP, table),
            (tile::TAPS_END, end),
            (tile::WHOLE, whole),
            (tile::RUN, run),
        ];
        for (offset, v) in fields {
            let at = k.at(frame, offset);
            k.store(at, v);
        }
    }

    fn fill_taps(&self, k: &mut Builder, taps: &[Tap], (index, offset): (Val, Val), table: Val) {
        let Some((tap, inner)) = taps.split_first() else {
            let to = k.at_index(table, index, 8);
            return k.store(to, offset);
        };
        let (zero, end) = (k.int(0), k.dim(&tap.count));
        let index = k.mul(index, end);
        k.for_each(zero, end, 1, &mut |k, i| {
            let bytes = k.dim(&tap.bytes);
            let bytes = k.mul(i, bytes);
            let at = (k.add(index, i), k.add(offset, bytes));
            self.fill_taps(k, inner, at, table);
        });
    }

    /// Sums by the wide inner loop; none when it stores them in place.
    pub(super) fn wide_sums(
        &self,
        k: &mut Builder,
        (frame, plain): (Val, Option<Val>),
        job: &Job,
        (row, col): (Val, Val),
        pointers: &[Val],
        right: Val,
        shape: Shape,
    ) -> Vec<Val> {
        let own = k.add_int(frame, tile::BYTES);
        let (out, step) = match plain {
            Some(base) => {
                let columns = match (job.sink, self.emit.plain_rows()) {
                    (None, Some(stride)) => stride,
                    _ => job.columns.clone(),
                };
                let columns = k.dim(&columns);
                let start = k.mul(row, columns);
                let start = k.add(start, col);
                let start = k.mul_int(start, 4);
                (k.add(base, start), k.mul_int(columns, 4))
            }
            None => (own, k.int(i64::from(4 * tile::COLUMNS))),
        };
        let fields = [(tile::RIGHT, right), (tile::OUT, out), (tile::OUT_STEP, step)];
        let rows = pointers.iter().enumerate().map(|(i, &p)| (tile::ROWS + 8 * i as i32, p));
        for (offset, v) in fields.into_iter().chain(rows) {
            let at = k.at(frame, offset);
            k.store(at, v);
        }
        k.tile(shape.rows, frame);
        if plain.is_some() {
            return Vec::new();
        }
        let ty = Ty::new(Elem::F32, shape.lanes);
        (0..shape.rows * shape.vectors)
            .map(|i| {
                let at = k.at(own, (i * ty.bytes()) as i32);
                k.load(ty, at)
            })
            .collect()
    }
}
