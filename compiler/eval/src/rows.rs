//! How rows of numbers, one a sample, become a metric's value.

use std::collections::BTreeMap;

/// How rows become a value.
#[derive(Debug, Clone, Copy)]
pub enum Value {
    /// Of rows `[a, b]`, a function of the sums of all a and all b.
    Sums(fn(f64, f64) -> f64),
    /// Of rows of pairs `[class found, class wanted, ...]`, a function of each class's counts.
    Classes(fn(&Counts) -> f64),
    /// Of rows of pairs `[score, class wanted, ...]`, the area under the curve.
    Area,
}

/// The rows of all samples.
#[derive(Debug)]
pub struct Rows {
    value: Value,
    /// In the samples' order.
    pub rows: Vec<Vec<f64>>,
    /// For the area under a curve: by score.
    order: Vec<Place>,
}

/// A score among all.
#[derive(Debug)]
struct Place {
    sample: usize,
    score: f64,
    positive: bool,
}

impl Rows {
    /// The rows of all samples, in their order.
    pub fn new(value: Value, rows: Vec<Vec<f64>>) -> Rows {
        let mut order: Vec<Place> = Vec::new();
        if matches!(value, Value::Area) {
            for (sample, row) in rows.iter().enumerate() {
                order.extend(row.chunks_exact(2).map(|pair| Place { sample, score: pair[0], positive: pair[1] > 0.0 }));
            }
            order.sort_by(|a, b| a.score.total_cmp(&b.score));
        }
        Rows { value, rows, order }
    }

    /// The metric's value, with each sample counted as often as `weights` says.
    pub fn value(&self, weights: &[u32]) -> f64 {
        let weighted = || self.rows.iter().zip(weights).filter(|(_, w)| **w > 0).map(|(row, w)| (row, f64::from(*w)));
        match self.value {
            Value::Sums(f) => {
                let (mut a, mut b) = (0.0, 0.0);
                weighted().for_each(|(row, w)| (a, b) = (a + w * row[0], b + w * row[1]));
                f(a, b)
            }
            Value::Classes(f) => {
                let mut counts = Counts::default();
                for (row, w) in weighted() {
                    row.chunks_exact(2).for_each(|pair| counts.add(pair[0] as usize, pair[1] as usize, w));
                }
                f(&counts)
            }
            Value::Area => self.area(weights),
        }
    }

    /// The value of one sample alone.
    pub fn of(&self, sample: usize) -> f64 {
        let mut weights = vec![0; sample + 1];
        weights[sample] = 1;
        match self.value {
            Value::Sums(f) => f(self.rows[sample][0], self.rows[sample][1]),
            Value::Classes(_) => {
                let pairs = self.rows[sample].chunks_exact(2);
                let count = pairs.len().max(1) as f64;
                pairs.filter(|pair| pair[0] == pair[1]).count() as f64 / count
            }
            // How much the score is on the wanted side.
            Value::Area => self.rows[sample].chunks_exact(2).map(|p| if p[1] > 0.0 { p[0] } else { -p[0] }).sum(),
        }
    }

    /// The chance that a positive has a higher score than a negative; equal scores count half (Mann and Whitney 1947).
    fn area(&self, weights: &[u32]) -> f64 {
        let (mut negatives, mut positives, mut above) = (0.0, 0.0, 0.0);
        let mut at = 0;
        while at < self.order.len() {
            let score = self.order[at].score;
            let (mut tied_negatives, mut tied_positives) = (0.0, 0.0);
            while let Some(place) = self.order.get(at).filter(|place| place.score == score) {
                let w = f64::from(weights.get(place.sample).copied().unwrap_or(0));
                *(if place.positive { &mut tied_positives } else { &mut tied_negatives }) += w;
                at += 1;
            }
            above += tied_positives * (negatives + tied_negatives / 2.0);
            (negatives, positives) = (negatives + tied_negatives, positives + tied_positives);
        }
        above / (negatives * positives)
    }
}

/// Per class: how often it was found rightly, found, and wanted. Numbers of classes may be any.
#[derive(Debug, Default)]
pub struct Counts(BTreeMap<usize, Count>);

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    right: f64,
    found: f64,
    wanted: f64,
}

impl Counts {
    fn add(&mut self, found: usize, wanted: usize, weight: f64) {
        self.0.entry(found).or_default().found += weight;
        let count = self.0.entry(wanted).or_default();
        count.wanted += weight;
        count.right += if found == wanted { weight } else { 0.0 };
    }

    /// Of the classes 0 and 1 the value of 1, which is the positive one; of more the mean over
    /// all that are found or wanted, as scikit-learn's macro average.
    fn mean(&self, value: impl Fn(Count) -> f64) -> f64 {
        if self.0.keys().all(|&class| class <= 1) {
            return value(self.0.get(&1).copied().unwrap_or_default());
        }
        self.0.values().map(|&count| value(count)).sum::<f64>() / self.0.len() as f64
    }
}

/// 0 where nothing was found, as in scikit-learn.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// See the table of metrics.
pub fn precision(counts: &Counts) -> f64 {
    counts.mean(|class| share(class.right, class.found))
}

/// See the table of metrics.
pub fn recall(counts: &Counts) -> f64 {
    counts.mean(|class| share(class.right, class.wanted))
}

/// See the table of metrics.
pub fn f1(counts: &Counts) -> f64 {
    counts.mean(|class| share(2.0 * class.right, class.found + class.wanted))
}
