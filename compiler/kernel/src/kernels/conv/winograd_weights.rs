//! Weights of minimal filtering that are transformed at run time, panel by panel: low-bit codes
//! ([`WeightFormat::LowBit`](mcc_ir::WeightFormat::LowBit)), decoded a word of input channels at a time, or numbers in
//! memory.

use mcc_targets::machine::Machine;
use mcc_targets::schedule;

use crate::kernels::lowbit::{Columns, Decoder, Weights};
use crate::kernels::support::emit::Emit;
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Bin, Builder, Elem, Ty, Val};
use crate::numbers;
use mcc_ir::{DType, Dim, Filtering};

/// The source of the weights.
pub(crate) enum Source<'a, 'b> {
    /// `[taps, panels, channels, columns]`.
    Memory {
        at: Val,
        dtype: DType,
        panels: i64,
    },
    Codes(Weights<'a, 'b>),
}

/// Weights to transform into `[planes, panels, channels, columns]`.
pub(crate) struct Filters<'a, 'b> {
    pub(crate) source: Source<'a, 'b>,
    filterings: [Filtering; 2],
    /// Number of input channels.
    channels: i64,
    /// Columns of a panel, as stored and after the transform.
    pub(crate) panel: i64,
    pub(crate) to_panel: i64,
    /// Lanes of a vector of columns.
    lanes: i64,
    machine: &'static Machine,
    /// Buffer of the decoded weights of some channels: `[taps, channels, lanes]`.
    decoded: Option<Val>,
}

/// The weights that are transformed at once.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    /// The first panel, and the number of panels.
    pub(crate) panel: Val,
    pub(crate) panels: i64,
    /// The first input channel, and the number of channels.
    pub(crate) channel: Val,
    pub(crate) channels: i64,
}

impl<'a, 'b> Filters<'a, 'b> {
    pub(crate) fn new(
        request: &KernelRequest<'_>,
        e: &'b Emit<'a>,
        k: &mut Builder,
        source: Source<'a, 'b>,
        filterings: [Filtering; 2],
        channels: i64,
        panel: i64,
    ) -> Filters<'a, 'b> {
        let lanes = i64::from(request.config.target.vector_bytes / 4).min(1 << panel.trailing_zeros());
        let taps = filterings.iter().map(|f| f.taps as i64).product::<i64>();
        let (decoded, to_panel) = match &source {
            Source::Memory { .. } => (None, panel),
            Source::Codes(w) => {
                let decoded = e.scratch(k, Dim::from(4 * taps * w.coded.in_word() as i64 * lanes));
                // 128-bit tiles are at most two vectors wide.
                (Some(decoded), if request.config.target.vector_bytes == 16 { panel.min(2 * lanes) } else { panel })
            }
        };
        Filters {
            source,
            filterings,
            channels,
            panel,
            to_panel,
            lanes,
            machine: request.config.target.machine,
            decoded,
        }
    }

    /// Channels are processed in multiples of this.
    pub(crate) fn unit(&self) -> i64 {
        match &self.source {
            Source::Memory { .. } => 1,
            Source::Codes(w) => w.coded.in_word() as i64,
        }
    }

    fn taps(&self) -> i64 {
        self.filterings.iter().map(|f| f.taps as i64).product()
    }

    /// Bytes between planes of `panels` panels and `channels` channels: not a multiple of a page, because such
    /// addresses share cache sets.
    pub(crate) fn plane_bytes(&self, panels: i64, channels: i64) -> i64 {
        let bytes = 4 * panels * self.panel * channels;
        schedule::filtering::plane_bytes(self.machine, bytes)
    }

    /// Transforms a part of the weights.
    pub(crate) fn transform(&self, k: &mut Builder, part: Part, to: Val) {
        let row = 4 * self.to_panel;
        let (zero, end) = (k.int(0), k.int(part.panels));
        k.for_each(zero, end, 1, |k, number| {
            let panel = k.add(part.panel, number);
            let offset = k.mul_int(number, 4 * self.panel * part.channels);
            let to = k.add(to, offset);
            for vector in 0..self.panel / self.lanes {
                let column = vector * self.lanes;
                let place = column / self.to_panel * part.channels * row + column % self.to_panel * 4;
                let to = k.add_int(to, place);
                match &self.source {
                    Source::Memory { at, dtype, panels } => {
                        let row = self.panel * dtype.size() as i64;
                        let offset = k.mul_int(panel, self.channels * row);
                        let first = k.mul_int(part.channel, row);
                        let from = k.add(*at, offset);
                        let from = k.add(from, first);
                        let from = k.add_int(from, column * dtype.size() as i64);
                        let tap = panels * self.channels * row;
                        let stored = Stored { from, dtype: *dtype, count: part.channels, row, tap };
                        self.each(k, stored, to, part);
                    }
                    Source::Codes(w) => self.decoded(k, w, panel, vector as u32, to, part),
                }
            }
        });
    }

    /// The same for a vector of a panel of codes.
    fn decoded(&self, k: &mut Builder, w: &Weights<'_, '_>, panel: Val, vector: u32, to: Val, part: Part) {
        let Some(buffer) = self.decoded else { return };
        let columns = w.group(k, panel, self.panel as u32 / w.lanes, self.panel as u32);
        let all = (w.blocks == 1).then(|| w.decoder(k, columns.parameters, vector));
        let coded = CodedVector { w, columns: &columns, vector, decoder: all.as_ref() };
        let (unit, row) = (self.unit(), 4 * self.lanes);
        let (zero, end, taps) = (k.int(0), k.int(part.channels), k.int(self.taps()));
        k.for_each(zero, end, unit, |k, channel| {
            let first = k.add(part.channel, channel);
            k.for_each(zero, taps, 1, |k, tap| {
                let before = k.mul_int(tap, self.channels);
                let element = k.add(before, first);
                let offset = k.mul_int(tap, unit * row);
                let to = k.add(buffer, offset);
                self.decode_word(k, &coded, element, to);
            });
            let offset = k.mul_int(channel, 4 * self.to_panel);
            let to = k.add(to, offset);
            let decoded = Stored { from: buffer, dtype: DType::F32, count: unit, row, tap: unit * row };
            self.each(k, decoded, to, part);
        });
    }

    /// Decodes a word of channels of some columns, starting at element `element`.
    fn decode_word(&self, k: &mut Builder, coded: &CodedVector<'_, '_, '_>, element: Val, to: Val) {
        let &CodedVector { w, columns, vector, decoder } = coded;
        let fresh;
        let decoder = match decoder {
            Some(decoder) => decoder,
            None => {
                let block = k.int(w.coded.block as i64);
                let number = k.bin(Bin::UDiv, element, block);
                let offset = k.mul_int(number, w.block_bytes());
                let parameters = k.add(columns.parameters, offset);
                fresh = w.decoder(k, parameters, vector);
                &fresh
            }
        };
        let in_word = k.int(self.unit());
        let number = k.bin(Bin::UDiv, element, in_word);
        let offset = k.mul_int(number, w.word_bytes());
        let codes = k.add(columns.codes, offset);
        let words = w.words(k, codes, vector, 0);
        for n in 0..self.unit() {
            let weight = w.weight(k, decoder, words, n as usize);
            let to = k.at(to, (4 * n * self.lanes) as i32);
            k.store(to, weight);
        }
    }

    /// Transforms vectors of weights of some channels.
    fn each(&self, k: &mut Builder, stored: Stored, to: Val, part: Part) {
        let Stored { from, dtype, count, row, tap } = stored;
        let plane = self.plane_bytes(part.panels, part.channels);
        let [down, across] = &self.filterings;
        let (zero, end) = (k.int(0), k.int(count));
        k.for_each(zero, end, 1, |k, n| {
            let (offset, result) = (k.mul_int(n, row), k.mul_int(n, 4 * self.to_panel));
            let (from, to) = (k.add(from, offset), k.add(to, result));
            let columns: Vec<Vec<Val>> = (0..across.taps)
                .map(|column| {
                    let weights: Vec<Val> = (0..down.taps)
                        .map(|line| {
                            let offset = k.int((line * across.taps + column) as i64 * tap);
                            let at = k.at_index(from, offset, 1);
                            numbers::load(k, dtype, at, self.lanes as u32)
                        })
                        .collect();
                    evaluated(k, down, &weights)
                })
                .collect();
            for line in 0..down.elements() {
                let weights: Vec<Val> = columns.iter().map(|c| c[line]).collect();
                for (column, v) in evaluated(k, across, &weights).into_iter().enumerate() {
                    let offset = k.int((line * across.elements() + column) as i64 * plane);
                    let at = k.at_index(to, offset, 1);
                    k.store(at, v);
                }
            }
        });
    }
}

/// Weights in memory: `count` channels with stride `row`, whose taps have stride `tap`, both in bytes.
#[derive(Clone, Copy)]
struct Stored {
    from: Val,
    dtype: DType,
    count: i64,
    row: i64,
    tap: i64,
}

/// A vector of columns of codes.
struct CodedVector<'a, 'b, 'c> {
    w: &'c Weights<'a, 'b>,
    columns: &'c Columns,
    vector: u32,
    /// The decoder, if all channels share it.
    decoder: Option<&'c Decoder>,
}

/// Clears `bytes` bytes, a multiple of the size of a vector of `lanes` `f32`.
pub(crate) fn clear(k: &mut Builder, at: Val, bytes: i64, lanes: u32) {
    let (zero, end, nothing) = (k.int(0), k.int(bytes), k.zero(Ty::new(Elem::F32, lanes)));
    k.for_each(zero, end, 4 * i64::from(lanes), |k, offset| {
        let to = k.at_index(at, offset, 1);
        k.store(to, nothing);
    });
}

/// A filter's transformed weights along an axis, by the maps of [`Filtering::filter`].
fn evaluated(k: &mut Builder, f: &Filtering, weights: &[Val]) -> Vec<Val> {
    let (n, ty) = (f.elements(), k.ty(weights[0]));
    let sum = |k: &mut Builder, product: usize, of: &mut dyn Iterator<Item = usize>| {
        let mut terms = of.map(|tap| (weights[tap], f.filter(product, tap))).filter(|t| t.1 != 0.0);
        let (first, factor) = terms.next()?;
        let start = if factor == 1.0 {
            first
        } else {
            let factor = k.float(factor, ty);
            k.mul(first, factor)
        };
        Some(weighted(k, start, &terms.collect::<Vec<_>>()))
    };
    // A point, pairs of opposite points, at which even powers are equal and odd ones opposite, and infinity.
    let mut all = vec![sum(k, 0, &mut (0..f.taps)).unwrap_or(weights[0])];
    for pair in (1..n.saturating_sub(1)).step_by(2) {
        let even = sum(k, pair, &mut (0..f.taps).step_by(2)).unwrap_or(weights[0]);
        match sum(k, pair, &mut (1..f.taps).step_by(2)) {
            Some(odd) => all.extend([k.add(even, odd), k.sub(even, odd)]),
            None => all.extend([even, even]),
        }
    }
    all.extend((n > 1).then(|| weights[f.taps - 1]));
    all
}

/// The sum of a value and terms with factors.
pub(crate) fn weighted(k: &mut Builder, start: Val, terms: &[(Val, f64)]) -> Val {
    terms.iter().fold(start, |sum, &(v, factor)| {
        if factor == 1.0 {
            return k.add(sum, v);
        }
        let factor = k.float(factor, k.ty(v));
        k.fma(v, factor, sum)
    })
}
