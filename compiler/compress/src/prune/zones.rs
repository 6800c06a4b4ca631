//! Which weights of a layer become zero together, and which stay, given a score for each.
//!
//! Shapes follow the kernels: neighbours in a row are input channels at the same place of the window, as the products of
//! bytes read them four at a time; rows of a block are output channels, as vectors hold them.

use std::ops::Range;

use super::fit::Mask;
use crate::layers::{Kind, Layer};
use crate::recipe::Pattern;

/// The weights of one group of a layer's channels, cut as a pattern says.
#[derive(Debug, Clone)]
pub struct Zones {
    /// Inputs of each row.
    columns: usize,
    /// Inputs that go together, or among which some stay.
    bundles: Vec<Vec<usize>>,
    /// Rows that go together.
    runs: Vec<Range<usize>>,
    /// How many inputs of each bundle stay, the same in all rows of a run, if the pattern says so.
    keep: Option<usize>,
}

/// Weights that go together.
#[derive(Debug, Clone, Copy)]
pub struct Unit {
    /// The mean score of its weights.
    pub score: f64,
    /// Its bundle and run.
    pub place: (u32, u32),
    /// The number of its weights.
    pub size: u32,
}

impl Zones {
    /// The weights of `rows` rows of a layer, in a pattern that names its shape.
    pub fn new(layer: &Layer, rows: usize, pattern: Pattern) -> Zones {
        let taps: usize = match &layer.kind {
            Kind::Conv(w) | Kind::ConvTranspose(w) => w.kernel.iter().product(),
            Kind::Product { .. } | Kind::Recurrent(_) => 1,
        };
        let columns = layer.columns();
        let (high, wide, keep) = match pattern {
            Pattern::Elements | Pattern::Channels | Pattern::Blocks(None) => (1, 1, None),
            Pattern::OutOf { keep, of, rows } => (rows.unwrap_or(1), of, Some(keep)),
            Pattern::Blocks(Some([rows, columns])) => (rows, columns, None),
        };
        let channels: Vec<usize> = (0..columns / taps).collect();
        let bundles = (0..taps)
            .flat_map(|tap| channels.chunks(wide).map(move |some| some.iter().map(|c| c * taps + tap).collect()))
            .collect();
        let runs = (0..rows).step_by(high).map(|first| first..(first + high).min(rows)).collect();
        Zones { columns, bundles, runs, keep }
    }

    /// Whether the pattern leaves all weights.
    pub fn is_dense(&self) -> bool {
        self.keep.is_some_and(|keep| self.bundles.iter().all(|bundle| bundle.len() <= keep))
    }

    /// Inputs that go together.
    pub fn bundles(&self) -> &[Vec<usize>] {
        if self.keep.is_some() { &[] } else { &self.bundles }
    }

    fn places(&self, unit: (u32, u32)) -> impl Iterator<Item = usize> + '_ {
        let bundle = &self.bundles[unit.0 as usize];
        self.runs[unit.1 as usize].clone().flat_map(move |row| bundle.iter().map(move |j| row * self.columns + j))
    }

    /// All units with their mean scores; units of zeros only come first.
    pub fn units(&self, scores: &[f64], present: &[bool]) -> Vec<Unit> {
        let unit = |bundle: usize, run: usize| {
            let place = (bundle as u32, run as u32);
            let (mut sum, mut size, mut zeros) = (0.0, 0, 0);
            for at in self.places(place) {
                sum += if present[at] { scores[at] } else { 0.0 };
                zeros += u32::from(!present[at]);
                size += 1;
            }
            Unit { score: if zeros == size { -1.0 } else { sum / f64::from(size) }, place, size }
        };
        (0..self.runs.len()).flat_map(|run| (0..self.bundles.len()).map(move |bundle| unit(bundle, run))).collect()
    }

    /// The weights that stay if about `zeros` of them go, those with the least scores; zeros that are there stay zero.
    /// The pattern's own number holds instead where it has one.
    pub fn mask(&self, scores: &[f64], present: &[bool], zeros: usize) -> Mask {
        let mut mask = present.to_vec();
        if let Some(keep) = self.keep {
            self.keep_some(scores, &mut mask, keep);
            return mask;
        }
        let mut units = self.units(scores, present);
        let order = |a: &Unit, b: &Unit| a.score.total_cmp(&b.score).then(a.place.cmp(&b.place));
        let size = units.first().map_or(1, |unit| unit.size);
        if units.iter().all(|unit| unit.size == size) {
            // Which ones go does not depend on their order.
            let gone = (zeros + size as usize / 2) / size as usize;
            if gone > 0 && gone < units.len() {
                units.select_nth_unstable_by(gone, order);
            }
            units.truncate(gone);
        } else {
            units.sort_unstable_by(order);
            let mut gone = 0;
            // Stops where more would be farther from what is asked for.
            let before = units.iter().take_while(|unit| {
                gone += unit.size as usize;
                gone - unit.size as usize / 2 <= zeros
            });
            let before = before.count();
            units.truncate(before);
        }
        units.iter().flat_map(|unit| self.places(unit.place)).for_each(|at| mask[at] = false);
        mask
    }

    fn keep_some(&self, scores: &[f64], mask: &mut Mask, keep: usize) {
        for run in &self.runs {
            for bundle in &self.bundles {
                let places = |j: usize| run.clone().map(move |row| row * self.columns + j);
                let mut sums: Vec<(f64, usize)> = bundle
                    .iter()
                    .filter(|&&j| places(j).any(|at| mask[at]))
                    .map(|&j| (places(j).map(|at| scores[at]).sum(), j))
                    .collect();
                sums.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                sums.iter().skip(keep).flat_map(|s| places(s.1)).for_each(|at| mask[at] = false);
            }
        }
    }
}
