//! Contractions of bytes: [`WeightFormat::Int8`](mcc_ir::WeightFormat::Int8).
//!
//! The loop nest is that of [`crate::kernels::gemm`], but a step takes four contracted bytes: those of a left row are
//! loaded into every lane, those of the right operand are adjacent. A run's last step may have fewer; the bytes after
//! it are not read. The sums are exact, so the order of the loops does not matter. A register tile spans whole panels
//! of the right operand, or a part of one.

use mcc_targets::choices::Problem;
use mcc_targets::schedule::{Tile, int8, products, threads};
use mcc_targets::{Arch, Config};

mod matrices;
mod tile;

use super::bitmask::{self, Masked};
use crate::kernels::gemm::Tap;
use crate::kernels::gemm::ahead::{Ahead, Fetch};
use crate::kernels::gemm::packed::windows;
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{IndexRange, around};
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Bin, Builder, Cmp, DotKind, Val};
use mcc_ir::{ConvSpec, DType, Dim, Error, Result, Tensor};

/// `(x: channels last, packed: [group, panels, taps, steps, panel, 4])`, or with masks, values and heads as weights.
pub(crate) fn int8_conv(
    request: &KernelRequest<'_>,
    e: &Emit<'_>,
    k: &mut Builder,
    spec: &ConvSpec,
    kernel: &[i64],
    out: usize,
) -> Result<()> {
    let (x, packed, y) = (&request.operands[0], &request.operands[1], &request.results[0]);
    let masked = request.operands.len() > 2;
    let axes = kernel.len();
    let malformed = || Error::internal(format!("int8_conv of {x} and {packed}"));
    let channels = x.shape.last().and_then(Dim::as_const).ok_or_else(malformed)? / spec.group as i64;
    let weights = packed.fixed_shape().ok_or_else(malformed)?;
    let (panels, taps, steps, panel) = match *weights.as_slice() {
        [_, panels, taps, steps, words] if masked => (panels, taps, steps, 16 * words),
        [_, panels, taps, steps, panel, _] => (panels, taps, steps, panel),
        _ => return Err(malformed()),
    };
    // Bytes between neighbours along each axis of `x`.
    let mut strides = vec![Dim::ONE; x.rank()];
    for axis in (0..x.rank() - 1).rev() {
        strides[axis] = &strides[axis + 1] * &x.shape[axis + 1];
    }
    let pixels = &y.shape[..y.rank() - 1];
    let count: Dim = pixels.iter().product();
    let run = spec.runs(kernel, &Dim::from(channels)).1.as_const().ok_or_else(malformed)?;
    let panel = u32::try_from(panel).map_err(|_| malformed())?;
    let (text, columns) = (request.problem(), (out / spec.group) as i64);
    let problem = Problem { text: &text, layer: request.layer };
    let (tile, lanes) = tile_of(request.config, problem, panel, columns, &count);
    let outer = if axes > 0 && spec.joins_last() { axes - 1 } else { axes };
    let taps_of = (0..outer).filter(|&a| kernel[a] != 1);
    let point = kernel.iter().all(|&k| k == 1) && spec.strides.iter().all(|&s| s == 1);
    let panel_bytes = (taps * steps) as i64 * i64::from(panel) * 4;
    let block = match (masked, x.bytes().as_const(), count.as_const()) {
        // Weights are expanded again for each block.
        (true, Some(bytes), Some(count)) if bytes <= int8::written_out_block_bytes(&request.config.target) => count,
        _ => int8::row_block(&request.config.target, tile, run * taps as i64),
    };
    let shared = threads::shared_rows(u64::from(tile.rows), count.as_const(), Some(columns), tile.vectors * lanes);
    let shared = shared.filter(|_| request.config.threads > 1);
    let nest = Int8Loops {
        e,
        kind: kind(x.dtype, &request.constants[if masked { 2 } else { 1 }]),
        by_lane: request.config.target.arch == Arch::Aarch64,
        tile,
        lanes,
        taps: taps_of
            .map(|a| Tap { count: Dim::from(kernel[a]), bytes: &strides[a + 1] * &Dim::from(spec.dilations[a]) })
            .collect(),
        run,
        table: if point { None } else { Some(windows(e, k, spec, &strides, &y.shape[..=axes])) },
        row_bytes: strides[x.rank() - 2].clone(),
        count,
        columns,
        panel,
        panel_bytes,
        block: shared.map_or(block, |rows| rows.min(block)),
        by_rows: shared.is_some(),
        ahead_bytes: products::ahead_bytes(request.config, problem),
        masked: masked.then(|| {
            let values = request.operands[2].numel().as_const().unwrap_or(0) / panels.max(1) as i64;
            Masked::new(e, k, [values, panel_bytes], (tile.vectors * lanes).div_ceil(panel))
        }),
        expanding: None,
        sink: None,
    };
    around(k, &Dim::from(spec.group), |k, group| {
        let x_offset = k.mul_int(group, channels);
        let w_offset = k.mul_int(group, panels as i64 * panel_bytes);
        let (left, right) = (k.add(e.operand(0), x_offset), k.add(e.operand(1), w_offset));
        let col = k.mul_int(group, nest.columns);
        nest.emit(k, left, right, col);
    });
    Ok(())
}

/// The register tile over panels of `panel` columns, and the lanes of its vectors.
fn tile_of(config: &Config, problem: Problem<'_>, panel: u32, columns: i64, rows: &Dim) -> (Tile, u32) {
    let lanes = (config.target.vector_bytes / 4).min(1 << panel.trailing_zeros());
    let vectors = int8::tile_vectors(config, problem, lanes, panel, columns.unsigned_abs());
    (int8::row_tile(config, problem, vectors, rows.as_const()), lanes)
}

/// How the bytes of data and weights are read: which are signed.
pub(crate) fn kind(data: DType, weights: &Option<Tensor>) -> DotKind {
    /// -128, which cannot be negated.
    const MINUS_128: u8 = 0x80;
    match (data, weights) {
        (DType::I8, Some(weights)) if !weights.data().contains(&MINUS_128) => DotKind::S8Narrow,
        (DType::I8, _) => DotKind::S8S8,
        _ => DotKind::U8S8,
    }
}

/// The contractions of one kernel.
#[derive(Clone)]
pub(crate) struct Int8Loops<'a, 'b> {
    e: &'b Emit<'a>,
    kind: DotKind,
    /// Whether a vector of a row's bytes is loaded and its lanes are spread, instead of loading into every lane.
    by_lane: bool,
    tile: Tile,
    lanes: u32,
    taps: Vec<Tap>,
    /// Contiguous bytes of a left row.
    run: i64,
    /// Offsets of the rows, if they are not contiguous.
    table: Option<Val>,
    row_bytes: Dim,
    count: Dim,
    columns: i64,
    /// Columns of a panel, and its bytes.
    panel: u32,
    panel_bytes: i64,
    /// Rows that use all panels before the next rows do.
    block: i64,
    /// Whether threads share the blocks of rows instead of the panels.
    by_rows: bool,
    /// The most bytes of weights to prefetch.
    ahead_bytes: i64,
    /// Weights that are expanded before they are read, the panels of a tile at a time.
    masked: Option<Masked>,
    /// For a tile that reads such weights unexpanded: pointers to each panel's values and to the first one's masks, and
    /// whether it stores the expanded weights for later tiles.
    expanding: Option<(Vec<Val>, Val, bool)>,
    /// Where to store sums, if not in the result: rows of `columns` `i32`s.
    sink: Option<Val>,
}

/// A register tile: pointers to its operands, and the position of its result.
#[derive(Clone, Copy)]
struct Spot {
    rows: u32,
    left: Val,
    row: Val,
    /// Number of the first panel, and its bytes before the tile.
    panel: Val,
    within: Val,
    right: Val,
    /// Where to prefetch weights, and how many cache lines per round of the inner loop.
    next: [Option<Ahead>; 2],
    col: Val,
    /// Number of columns.
    columns: u32,
    /// Vectors that hold them; of the last panel perhaps not all.
    vectors: u32,
}

impl<'a, 'b> Int8Loops<'a, 'b> {
    fn width(&self) -> u32 {
        self.tile.vectors * self.lanes
    }

    /// Sums of `count` contiguous rows of `depth` bytes with `columns` columns in panels of `panel`, stored to memory
    /// of their own.
    pub(crate) fn product(
        e: &'b Emit<'a>,
        kind: DotKind,
        count: &Dim,
        depth: i64,
        columns: i64,
        panel: u32,
        sink: Val,
    ) -> Int8Loops<'a, 'b> {
        let target = &e.request.config.target;
        let (tile, lanes) = tile_of(e.request.config, Problem::default(), panel, columns, count);
        Int8Loops {
            e,
            kind,
            by_lane: target.arch == Arch::Aarch64,
            tile,
            lanes,
            taps: Vec::new(),
            run: depth,
            table: None,
            row_bytes: Dim::from(depth),
            count: count.clone(),
            columns,
            panel,
            panel_bytes: (depth + 3) / 4 * i64::from(panel) * 4,
            block: int8::row_block(target, tile, depth),
            by_rows: false,
            ahead_bytes: 0,
            masked: None,
            expanding: None,
            sink: Some(sink),
        }
    }

    /// The loops over rows from `left` on and panels from `right` on; `col` is the result column of the first one.
    pub(crate) fn emit(&self, k: &mut Builder, left: Val, right: Val, col: Val) {
        let (zero, count) = (k.int(0), k.dim(&self.count));
        if self.count.as_const().is_some_and(|c| c <= self.block + self.block / 2) {
            return self.panels(k, IndexRange { first: zero, end: count }, left, right, col);
        }
        let round = |k: &mut Builder, first: Val| {
            let last = k.add_int(first, self.block);
            let last = k.bin(Bin::Min, last, count);
            self.panels(k, IndexRange { first, end: last }, left, right, col);
        };
        k.parallel_if(self.by_rows, zero, count, self.block, round);
    }

    fn panels(&self, k: &mut Builder, rows: IndexRange, left: Val, right: Val, col: Val) {
        let width = i64::from(self.width());
        let (zero, full, rest) = (k.int(0), k.int(self.columns / width), self.columns % width);
        let tile = |k: &mut Builder, number: Val, columns: u32| {
            let (panel, within) = self.place(k, number);
            let bytes = k.mul_int(panel, self.panel_bytes);
            let (right, before) = (k.add(right, bytes), k.mul_int(number, width));
            let (right, col) = (k.add(right, within), k.add(col, before));
            let vectors = columns.div_ceil(self.lanes);
            let next = [None; 2];
            self.rows(k, rows, &Spot { rows: 0, left, row: zero, panel, within, right, next, col, columns, vectors });
        };
        k.parallel(zero, full, 1, |k, number| tile(k, number, self.width()));
        if rest > 0 {
            k.once(|k| tile(k, full, rest as u32));
        }
    }

    /// The panel in which tile `number` starts, and that panel's bytes before it.
    fn place(&self, k: &mut Builder, number: Val) -> (Val, Val) {
        let (width, panel) = (self.width(), self.panel);
        if width >= panel {
            return (k.mul_int(number, i64::from(width / panel)), k.int(0));
        }
        let tiles = k.int(i64::from(panel / width));
        let (panel, part) = (k.bin(Bin::UDiv, number, tiles), k.bin(Bin::URem, number, tiles));
        (panel, k.mul_int(part, i64::from(4 * width)))
    }

    /// Full tiles, then smaller ones: only the last block of rows has a tail.
    fn rows(&self, k: &mut Builder, all: IndexRange, spot: &Spot) {
        let IndexRange { first, end: last } = all;
        let size = i64::from(self.tile.rows);
        let bound = k.add_int(last, 1 - size);
        let ahead = self.ahead(k, spot);
        let fetch = |k: &mut Builder, row: Val, rows: u32| {
            ahead.map(|a| {
                let (from, fetch) = (a?.0, self.fetch(a?.1, rows)?);
                let done = k.sub(row, first);
                Some(Ahead { from: fetch.start(k, from, done), lines: fetch.a_round })
            })
        };
        let next = if self.is_one_tile() { fetch(k, first, self.tile.rows) } else { [None; 2] };
        let (start, spot) = self.written_out(k, all, &Spot { next, ..*spot });
        let tile = |k: &mut Builder, row: Val, rows: i64| {
            let rows = rows as u32;
            let next = fetch(k, row, rows);
            self.tile(k, &Spot { rows, row, next, ..spot });
        };
        k.for_each(start, bound, size, |k, row| tile(k, row, size));
        let mut done = &self.count.floor_div(&Dim::from(size)) * &Dim::from(size);
        let rest = (&self.count - &done).as_const();
        let mut step = rest.unwrap_or(size / 2);
        while step > 0 {
            let until = &done + &(&(&self.count - &done).floor_div(&Dim::from(step)) * &Dim::from(step));
            let (start, end) = (k.dim(&done), k.dim(&until));
            let end = k.bin(Bin::Min, end, last);
            k.for_each(start, end, step, |k, row| tile(k, row, step));
            done = until;
            step = if rest.is_some() { 0 } else { step / 2 };
        }
    }

    /// Pointers to a tile's panels, and the bytes from there to the next ones: values and masks, if weights are stored
    /// as such. Dense weights only if there are enough tiles of rows to prefetch them.
    fn ahead(&self, k: &mut Builder, spot: &Spot) -> [Option<(Val, i64)>; 2] {
        let (panels, width) = (self.width() / self.panel, i64::from(self.width()));
        let waits = self.masked.is_none() && self.is_one_tile();
        if panels == 0 || self.columns <= width || waits || self.by_lane {
            return [None; 2];
        }
        match &self.masked {
            None => [Some((spot.right, i64::from(panels) * self.panel_bytes)), None],
            Some(masked) => {
                let from = [masked.values(k, spot.panel, 0), masked.masks(k, spot.panel)];
                let bytes = masked.panel_bytes().map(|bytes| bytes * i64::from(panels));
                [Some((from[0], bytes[0])), Some((from[1], bytes[1]))]
            }
        }
    }

    fn is_one_tile(&self) -> bool {
        self.count.as_const().is_some_and(|count| count <= i64::from(self.tile.rows))
    }

    /// The share of the next `bytes` bytes that each tile of rows prefetches.
    fn fetch(&self, bytes: i64, rows: u32) -> Option<Fetch> {
        let (taps, all) = (self.taps.iter().map(|t| &t.count).product::<Dim>().as_const()?, self.count.as_const()?);
        let rounds = taps * (self.run / (4 * i64::from(self.tile.unroll)));
        let machine = self.e.request.config.target.machine;
        if bytes <= self.ahead_bytes { Fetch::new(machine, bytes, all.min(self.block), rows, rounds) } else { None }
    }

    /// Expands panels that are stored as masks and values: while the first full tile of rows reads them, if there is
    /// one. Returns the first remaining row, and the spot with the expanded panels.
    fn written_out(&self, k: &mut Builder, rows: IndexRange, spot: &Spot) -> (Val, Spot) {
        let IndexRange { first, end: last } = rows;
        let Some(masked) = &self.masked else { return (first, *spot) };
        let size = i64::from(self.tile.rows);
        let panels = spot.columns.div_ceil(self.panel);
        let write = |k: &mut Builder| (0..panels).for_each(|n| masked.write(k, spot.panel, n));
        let spot = Spot { right: k.add(masked.room, spot.within), ..*spot };
        let ends = (k.as_int(first), k.as_int(last));
        let short = matches!(ends, (Some(first), Some(last)) if last - first < size);
        // A tile reads words of masks as vectors of columns.
        if !self.e.request.config.target.expands_bytes()
            || self.lanes != bitmask::COLUMNS
            || self.panel != self.lanes
            || short
        {
            write(k);
            return (first, spot);
        }
        let last_tile = matches!(ends, (Some(first), Some(last)) if last - first == size);
        let values = (0..panels).map(|n| masked.values(k, spot.panel, n)).collect();
        let masks = masked.masks(k, spot.panel);
        let expanding = Int8Loops { expanding: Some((values, masks, !last_tile)), ..self.clone() };
        let after = k.add_int(first, size);
        let whole = k.cmp(Cmp::Le, after, last);
        let tile = |k: &mut Builder| expanding.tile(k, &Spot { rows: size as u32, row: first, ..spot });
        if ends.0.is_some() && ends.1.is_some() {
            tile(k);
            return (after, spot);
        }
        let start = k.choose(
            whole,
            |k| {
                tile(k);
                vec![after]
            },
            |k| {
                write(k);
                vec![first]
            },
        );
        (start[0], spot)
    }
}
