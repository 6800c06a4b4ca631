//! Decisions of the cost model that a measurement may overrule.
//!
//! A schedule calls [`Config::choose`] with a default and the candidates. A table of choices, made by tuning and held
//! by the configuration, decides for the problems that it contains. It can only select a candidate, so every table gives
//! correct code. The choices are recorded, for making and checking tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Config;

/// The kinds of choices. Knobs that decide the form of a computation come before those that apply to one form only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Knob {
    /// Results of a tile of minimal filtering along an axis; 0 for direct convolution.
    Filtering,
    /// Neighbouring pixels that are computed as channels of one pixel.
    MergedPixels,
    /// Whether a layer's weights are stored as non-zeros.
    Sparse,
    /// Vectors in a tile of a sparse layer; for an image, twice its lines, plus one if every column of the window has
    /// planes of its own.
    SparseTile,
    /// Slices of the input channels of a sparse layer.
    SparseSlices,
    /// Whether a convolution is computed in the kernel that reads it.
    Chain,
    /// Vectors of columns in the register tile of a contraction.
    TileVectors,
    /// Rows per block; a block passes over all panels of weights before the next one.
    RowBlock,
    /// Rows in the register tile of a contraction.
    TileRows,
    /// Prefetching of weights: 0 never, 1 if those of a tile are few enough, 2 always.
    FetchAhead,
    /// Kilobytes of transformed input in a block of minimal filtering.
    FilteringBlock,
    /// Output channels whose weights minimal filtering transforms at once; 0 for all.
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
    /// The knob with a name.
    pub fn of_name(name: &str) -> Option<Knob> {
        KNOBS.iter().find(|p| p.1 == name).map(|p| p.0)
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        KNOBS.iter().find(|p| p.0 == self).map_or("", |p| p.1)
    }
}

/// The subject of a choice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Problem<'a> {
    /// Everything that its time depends on: the operation, extents, types. Equal problems get equal choices.
    pub text: &'a str,
    /// The layer.
    pub layer: &'a str,
}

/// A recorded choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The cost model's choice.
    pub default: i64,
    /// The candidates.
    pub candidates: BTreeSet<i64>,
    /// The candidate chosen.
    pub taken: i64,
    /// The table's choice, if it is not a candidate.
    pub refused: Option<i64>,
    /// The layers with this problem.
    pub layers: BTreeSet<String>,
}

/// Choices, by problem and knob.
pub type Table = BTreeMap<(String, Knob), i64>;

/// Recorded choices, by problem and knob.
pub type Record = BTreeMap<(String, Knob), Asked>;

/// A table of choices and a record of the choices made; clones share the record.
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

/// The record is not part of a target's identity.
impl PartialEq for Choices {
    fn eq(&self, other: &Choices) -> bool {
        self.rule == other.rule
    }
}

impl Eq for Choices {}

impl Choices {
    /// The choices of a table, and the cost model's for all others.
    pub fn new(table: &Table) -> Choices {
        let mut by_problem: BTreeMap<String, BTreeMap<Knob, i64>> = BTreeMap::new();
        for ((problem, knob), choice) in table {
            by_problem.entry(problem.clone()).or_default().insert(*knob, *choice);
        }
        Choices { rule: Rule::Table(Arc::new(by_problem)), record: Arc::default() }
    }

    /// Pseudo-random candidates, for tests: code must be correct for all of them.
    pub fn any(seed: u64) -> Choices {
        Choices { rule: Rule::Any(seed), record: Arc::default() }
    }

    /// The table.
    pub fn table(&self) -> Table {
        let Rule::Table(table) = &self.rule else { return Table::new() };
        let all = table.iter().flat_map(|(problem, knobs)| knobs.iter().map(move |p| (problem, p)));
        all.map(|(problem, (knob, choice))| ((problem.clone(), *knob), *choice)).collect()
    }

    /// The choices recorded so far.
    pub fn record(&self) -> Record {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The choice according to the rule, whether it is a candidate or not.
    fn wanted(&self, knob: Knob, problem: &str, candidates: &BTreeSet<i64>) -> Option<i64> {
        match &self.rule {
            Rule::Default => None,
            Rule::Table(table) => table.get(problem)?.get(&knob).copied(),
            Rule::Any(seed) => {
                // FNV-1a, which gives the same result on every machine.
                let bytes = problem.bytes().chain(knob.name().bytes()).chain(seed.to_le_bytes());
                let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
                let hash = bytes.fold(0xcbf2_9ce4_8422_2325, step) >> 16;
                candidates.iter().nth((hash % candidates.len().max(1) as u64) as usize).copied()
            }
        }
    }
}

impl Config {
    /// Chooses one of the candidates, which include `default`: the table's choice for this problem if it is a
    /// candidate, else the default.
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

    /// The compiler does not ask for a row.
    #[test]
    fn every_knob_has_a_row_in_order() {
        let (_, body) = include_str!("choices.rs").split_once("pub enum Knob {").unwrap();
        let lines = body.lines().take_while(|line| *line != "}").map(str::trim);
        let variants: Vec<&str> =
            lines.filter_map(|line| line.strip_suffix(',')).filter(|l| !l.contains(' ')).collect();
        let rows: Vec<String> = KNOBS.iter().map(|(knob, _)| format!("{knob:?}")).collect();
        assert_eq!(variants, rows, "the variants of Knob, and the rows of KNOBS");
    }

    #[test]
    fn names_are_unique() {
        for (knob, name) in KNOBS {
            assert_eq!((Knob::of_name(name), knob.name()), (Some(*knob), *name));
        }
    }
}
