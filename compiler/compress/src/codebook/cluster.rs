//! Clusters of weighted numbers.

use super::nearest;

/// The largest number of different values times clusters for which the best clusters are searched among all.
const MAX_SEARCHED: usize = 1 << 20;

/// The largest number of values that remain after merging.
const MAX_MERGED: usize = 4096;

/// How often clusters are improved at most.
const MAX_ITERATIONS: usize = 200;

/// Different numbers, ascending, with the sums of all before each.
pub struct Points {
    values: Vec<f64>,
    /// Sums of weights, of weight times number, and of weight times square, over the points before each; numbers are
    /// relative to the mean, so that little is lost when sums are subtracted.
    sums: Vec<[f64; 3]>,
    mean: f64,
    /// The number of given points at each.
    counts: Vec<usize>,
}

impl Points {
    /// Of numbers with their weights, which are positive.
    pub fn new(mut points: Vec<(f64, f64)>) -> Points {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total: f64 = points.iter().map(|p| p.1).sum();
        let mean = points.iter().map(|p| p.0 * p.1).sum::<f64>() / total.max(f64::MIN_POSITIVE);
        let (mut values, mut counts): (Vec<f64>, Vec<usize>) = (Vec::new(), Vec::new());
        let mut sums = vec![[0.0; 3]];
        for (value, weight) in points {
            if values.last() != Some(&value) {
                values.push(value);
                counts.push(0);
                sums.push(sums[sums.len() - 1]);
            }
            let x = value - mean;
            let at = sums.len() - 1;
            sums[at] = [sums[at][0] + weight, sums[at][1] + weight * x, sums[at][2] + weight * x * x];
            counts[at - 1] += 1;
        }
        Points { values, sums, mean, counts }
    }

    fn sum(&self, from: usize, to: usize, n: usize) -> f64 {
        self.sums[to][n] - self.sums[from][n]
    }

    /// The mean of points `from..to`.
    fn centre(&self, from: usize, to: usize) -> f64 {
        self.mean + self.sum(from, to, 1) / self.sum(from, to, 0)
    }

    /// The squared error of points `from..to` from their mean.
    fn cost(&self, from: usize, to: usize) -> f64 {
        let [w, x, xx] = [0, 1, 2].map(|n| self.sum(from, to, n));
        (xx - x * x / w).max(0.0)
    }

    fn centres(&self, ends: &[usize]) -> Vec<f32> {
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts.zip(ends).filter(|(from, to)| from < to).map(|(from, &to)| self.centre(from, to) as f32).collect()
    }

    fn all(&self) -> Vec<f32> {
        self.values.iter().map(|&v| v as f32).collect()
    }

    /// Means of `k` intervals with as nearly the same number of given points as equal numbers allow.
    pub fn equal_population(&self, k: usize) -> Vec<f32> {
        if self.values.len() <= k {
            return self.all();
        }
        let total: usize = self.counts.iter().sum();
        let (mut ends, mut before) = (Vec::new(), 0);
        for (i, &count) in self.counts.iter().enumerate() {
            before += count;
            // This point ends every interval whose share it completes; at least one point per interval remains.
            let due = before * k / total > ends.len();
            let short = self.values.len() - 1 - i < k - ends.len();
            if due || short {
                ends.push(i + 1);
            }
        }
        ends.truncate(k);
        if let Some(last) = ends.last_mut() {
            *last = self.values.len();
        }
        self.centres(&ends)
    }

    /// Means of the `k` intervals with the least squared error, or nearly so if there are very many points.
    pub fn least_squares(&self, k: usize) -> Vec<f32> {
        if self.values.len() <= k {
            return self.all();
        }
        if self.values.len().saturating_mul(k) <= MAX_SEARCHED {
            return self.searched(k);
        }
        let merged = self.merged();
        let ends = if merged.values.len() <= k { (1..=merged.values.len()).collect() } else { merged.best_ends(k) };
        self.improved(merged.centres(&ends))
    }

    /// Means of the `k` intervals with the least squared error, of more points than that.
    pub fn searched(&self, k: usize) -> Vec<f32> {
        self.centres(&self.best_ends(k))
    }

    /// The ends of the `k` intervals with the least cost. Row by row: the least cost of the first points in so many
    /// intervals; where the last of them best begins does not decrease with the number of points.
    fn best_ends(&self, k: usize) -> Vec<usize> {
        let n = self.values.len();
        let mut least: Vec<f64> = (0..=n).map(|to| if to == 0 { 0.0 } else { self.cost(0, to) }).collect();
        let mut starts: Vec<Vec<u32>> = Vec::new();
        for clusters in 2..=k {
            let mut row =
                Row { points: self, before: &least, least: vec![f64::INFINITY; n + 1], starts: vec![0; n + 1] };
            row.search(clusters, n, clusters - 1, n - 1);
            let Row { least: next, starts: row, .. } = row;
            least = next;
            starts.push(row);
        }
        let mut ends = vec![n];
        for row in starts.iter().rev() {
            ends.push(row[ends[ends.len() - 1]] as usize);
        }
        ends.reverse();
        ends
    }

    /// The points merged with their neighbours: those that neither a quantile nor a step of the range separates.
    fn merged(&self) -> Points {
        let (first, last) = (self.values[0], self.values[self.values.len() - 1]);
        let cells = (MAX_MERGED / 2) as f64;
        let total = self.sum(0, self.values.len(), 0);
        let cell = |i: usize| {
            let quantile = (self.sums[i][0] / total * cells) as usize;
            (quantile, ((self.values[i] - first) / (last - first) * cells) as usize)
        };
        let mut points = Vec::new();
        let mut from = 0;
        for to in 1..=self.values.len() {
            if to == self.values.len() || cell(to) != cell(from) {
                points.push((self.centre(from, to), self.sum(from, to, 0)));
                from = to;
            }
        }
        Points::new(points)
    }

    /// Centres after Lloyd's iteration, which never adds to the error.
    fn improved(&self, mut centres: Vec<f32>) -> Vec<f32> {
        for _ in 0..MAX_ITERATIONS {
            let last = centres.len() - 1;
            let ends: Vec<usize> = (0..centres.len())
                .map(|c| match c == last {
                    true => self.values.len(),
                    false => self.values.partition_point(|&v| nearest(&centres, v as f32) <= c),
                })
                .collect();
            let next = self.centres(&ends);
            // A centre without points stays away; the others do as well without it.
            if next == centres {
                break;
            }
            centres = next;
        }
        centres
    }
}

/// One row of the table of least costs.
struct Row<'p> {
    points: &'p Points,
    /// The least cost of the first points in one interval less.
    before: &'p [f64],
    least: Vec<f64>,
    starts: Vec<u32>,
}

impl Row<'_> {
    /// Finds where the last interval of the first `from..=to` points begins: at `low..=high`. The middle one's start
    /// bounds those of both halves.
    fn search(&mut self, from: usize, to: usize, low: usize, high: usize) {
        if from > to {
            return;
        }
        let middle = from + (to - from) / 2;
        let mut best = (f64::INFINITY, low);
        for start in low..=high.min(middle - 1) {
            let cost = self.before[start] + self.points.cost(start, middle);
            if cost < best.0 {
                best = (cost, start);
            }
        }
        self.least[middle] = best.0;
        self.starts[middle] = best.1 as u32;
        self.search(from, middle - 1, low, best.1);
        self.search(middle + 1, to, best.1, high);
    }
}
