//! Decisions of the cost model that a measurement may overrule.
//!
//! A schedule asks [`Config::choose`] with what it would take and what it might take instead. A table of choices, which
//! tuning makes and which belongs to a target, answers for the problems that it knows; it never gives anything that the
//! schedule did not offer, so that every table makes right code. The answers are recorded, for who makes or checks tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Config;

/// What a measurement may decide. Knobs that decide the form of a computation come before those that ask only of one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Knob {
    /// Results of a tile of minimal filtering along an axis; 0: a convolution by its definition.
    Filtering,
    /// Neighbouring pixels that are computed as channels of one.
    MergedPixels,
    /// Whether a layer goes by its non-zeros.
    Sparse,
    /// Vectors in a tile of a sparse layer; of an image, twice its lines, plus one where every column has planes of its own.
    SparseTile,
    /// Slices of the input channels of a sparse layer.
    SparseSlices,
    /// Whether a convolution is computed in the kernel that reads it.
    Chain,
    /// Vectors of columns in the register tile of a contraction.
    TileVectors,
    /// Rows that pass over all panels of weights before the next ones come.
    RowBlock,
    /// Rows in the register tile of a contraction.
    TileRows,
    /// Weights fetched ahead: 0 never, 1 where those of a tile are few enough, 2 always.
    FetchAhead,
    /// Kilobytes of transformed input in a block of minimal filtering.
    FilteringBlock,
    /// Output channels whose weights minimal filtering takes to transformed space at once; 0: all.
    FilterColumns,
    /// Columns of output that a depthwise convolution computes at once.
    DepthwiseColumns,
}

/// Every knob with its name in tables, in the order in which tuning decides.
pub const KNOBS: &[(Knob, &str)] = &[
    (Knob::Filtering, "filtering"),
    (Knob::MergedPixels, "merged_pixels"),
    (Knob::Sparse, "sparse"),
    (Knob::SparseTile, "sparse_tile"),
    (Knob::SparseSlices, "sparse_slices"),
    (Knob::Chain, "chain"),
    (Knob::TileVectors, "tile_vectors"),
    (Knob::RowBlock, "row_block"),
    (Knob::TileRows, "tile_rows"),
    (Knob::FetchAhead, "ahead"),
    (Knob::FilteringBlock, "filtering_block"),
    (Knob::FilterColumns, "filter_columns"),
    (Knob::DepthwiseColumns, "depthwise_columns"),
];

impl Knob {
    /// The knob of a name.
    pub fn of_name(name: &str) -> Option<Knob> {
        KNOBS.iter().find(|p| p.1 == name).map(|p| p.0)
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        KNOBS.iter().find(|p| p.0 == self).map_or("", |p| p.1)
    }
}

/// What a decision is about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Problem<'a> {
    /// All that its time depends on: the operation, extents, types. Equal problems have equal answers.
    pub text: &'a str,
    /// The layer that asks.
    pub layer: &'a str,
}

/// What there was to decide, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// What the cost model says.
    pub default: i64,
    /// What may be taken.
    pub candidates: BTreeSet<i64>,
    /// What was taken.
    pub taken: i64,
    /// What the table says, if that may not be taken.
    pub refused: Option<i64>,
    /// Layers that asked.
    pub layers: BTreeSet<String>,
}

/// Answers to problems, by problem and knob.
pub type Table = BTreeMap<(String, Knob), i64>;

/// What was asked, by problem and knob.
pub type Record = BTreeMap<(String, Knob), Asked>;

/// A table of choices and a record of what was asked of it; clones share the record.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    rule: Rule,
    record: Arc<Mutex<Record>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Rule {
    #[default]
    Default,
    Table(Arc<BTreeMap<String, BTreeMap<Knob, i64>>>),
    Any(u64),
}

/// The record is no property of a target.
impl PartialEq for Choices {
    fn eq(&self, other: &Choices) -> bool {
        self.rule == other.rule
    }
}

impl Eq for Choices {}

impl Choices {
    /// The cost model's answers but for those of a table.
    pub fn new(table: &Table) -> Choices {
        let mut by_problem: BTreeMap<String, BTreeMap<Knob, i64>> = BTreeMap::new();
        for ((problem, knob), choice) in table {
            by_problem.entry(problem.clone()).or_default().insert(*knob, *choice);
        }
        Choices { rule: Rule::Table(Arc::new(by_problem)), record: Arc::default() }
    }

    /// Some candidate of every knob, without a reason: code must be right for all of them.
    pub fn any(seed: u64) -> Choices {
        Choices { rule: Rule::Any(seed), record: Arc::default() }
    }

    /// What the table says.
    pub fn table(&self) -> Table {
        let Rule::Table(table) = &self.rule else { return Table::new() };
        let all = table.iter().flat_map(|(problem, knobs)| knobs.iter().map(move |p| (problem, p)));
        all.map(|(problem, (knob, choice))| ((problem.clone(), *knob), *choice)).collect()
    }

    /// What was asked so far.
    pub fn record(&self) -> Record {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the rule wants, offered or not.
    fn wanted(&self, knob: Knob, problem: &str, candidates: &BTreeSet<i64>) -> Option<i64> {
        match &self.rule {
            Rule::Default => None,
            Rule::Table(table) => table.get(problem)?.get(&knob).copied(),
            Rule::Any(seed) => {
                // FNV-1a: the same on every machine.
                let bytes = problem.bytes().chain(knob.name().bytes()).chain(seed.to_le_bytes());
                let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
                let hash = bytes.fold(0xcbf2_9ce4_8422_2325, step) >> 16;
                candidates.iter().nth((hash % candidates.len().max(1) as u64) as usize).copied()
            }
        }
    }
}

impl Config {
    /// Decides between some candidates, of which `default` is one: what the table says of this problem if that is
    /// among them, else the default.
    pub fn choose(&self, knob: Knob, problem: Problem<'_>, default: i64, candidates: &[i64]) -> i64 {
        let candidates: BTreeSet<i64> = candidates.iter().copied().chain([default]).collect();
        if candidates.len() < 2 || problem.text.is_empty() {
            return default;
        }
        let wanted = self.choices.wanted(knob, problem.text, &candidates);
        let taken = wanted.filter(|w| candidates.contains(w)).unwrap_or(default);
        let mut record = self.choices.record.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = record.entry((problem.text.to_string(), knob)).or_default();
        (asked.default, asked.taken, asked.refused) = (default, taken, wanted.filter(|&w| w != taken));
        asked.candidates.extend(candidates);
        if !problem.layer.is_empty() {
            asked.layers.insert(problem.layer.to_string());
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_overrule_defaults_within_what_is_offered() {
        let mut config = Config::new("x86_64-unknown-linux-gnu", None).unwrap();
        let problem = Problem { text: "product 3 4 5", layer: "a" };
        assert_eq!(config.choose(Knob::RowBlock, problem, 24, &[24, 48]), 24);
        let table = Table::from([
            ((problem.text.to_string(), Knob::RowBlock), 48),
            ((problem.text.to_string(), Knob::TileRows), 7),
        ]);
        config.choices = Choices::new(&table);
        assert_eq!(config.choose(Knob::RowBlock, problem, 24, &[48]), 48);
        assert_eq!(config.choose(Knob::TileRows, Problem { layer: "b", ..problem }, 6, &[4, 12]), 6);
        assert_eq!(config.choose(Knob::RowBlock, Problem { text: "other", ..problem }, 24, &[48]), 24);
        let record = config.clone().choices.record();
        let asked = &record[&(problem.text.to_string(), Knob::TileRows)];
        assert_eq!((asked.refused, asked.taken, asked.candidates.len()), (Some(7), 6, 3));
        assert_eq!(asked.layers, BTreeSet::from(["b".to_string()]));
    }

    #[test]
    fn any_choice_is_a_candidate() {
        let mut config = Config::new("x86_64-unknown-linux-gnu", None).unwrap();
        let mut taken = BTreeSet::new();
        for seed in 0..32 {
            config.choices = Choices::any(seed);
            taken.insert(config.choose(Knob::Filtering, Problem { text: "a", layer: "" }, 4, &[0, 2]));
        }
        assert_eq!(taken, BTreeSet::from([0, 2, 4]));
    }

    #[test]
    fn names_are_unique() {
        for (knob, name) in KNOBS {
            assert_eq!((Knob::of_name(name), knob.name()), (Some(*knob), *name));
        }
    }
}
