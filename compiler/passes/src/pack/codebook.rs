//! Weights with few distinct values: entries of one table, or of one table times a factor per column or per block of a
//! column.
//!
//! Folding a batch normalisation into a table leaves a factor per column, and `mcc compress` writes factors per block. A
//! factor is recovered from the largest element, which must be an entry of the table times the factor; then all other
//! elements must be too, up to the rounding of `f32`. The table is that of the block with the most different values; others
//! add entries that it lacks.

use std::collections::{BTreeSet, HashMap};

use mcc_ir::{Column, LowBit};
use mcc_targets::schedule::lowbit::BLOCK_SIZES;

/// Maximum relative difference of a weight from a factor times an entry: several roundings of `f32`.
const MAX_RELATIVE_ERROR: f64 = 1.0 / (1 << 21) as f64;

/// Different values of a block that must be known entries times a factor before its others become entries, too.
const KNOWN: usize = 3;

/// Blocks that are looked at before all are: arbitrary weights are soon recognised.
const FIRST: usize = 64;

/// Codes, columns and the table of weights `[depth, out]` whose column `c` is `column(c)`, if it has at most `most`
/// entries.
pub(crate) fn encode(
    values: &[f32],
    out: usize,
    column: &dyn Fn(usize) -> Vec<f32>,
    most: usize,
) -> Option<(LowBit, Vec<Column>, Vec<f32>)> {
    let depth = values.len() / out.max(1);
    let whole = depth.next_multiple_of(16);
    let found = entries(values, most).map(|table| (table, vec![vec![1.0]; out], whole));
    let (table, factors, block) = found.or_else(|| {
        let parts = BLOCK_SIZES.into_iter().filter(|&b| b < depth);
        let parts = parts.map(|block| Limits { most: LowBit::SHORT_TABLE, block });
        let all = std::iter::once(Limits { most, block: whole }).chain(parts);
        all.into_iter().find_map(|limits| {
            let (table, factors) = scaled(out, column, limits)?;
            Some((table, factors, limits.block))
        })
    })?;
    let bits = [2, 4].into_iter().find(|&bits| table.len() <= 1 << bits).unwrap_or(8);
    let columns = (0..out).map(|c| {
        let code = |(block, values): (usize, &[f32])| -> Vec<u8> {
            let mut known: HashMap<u32, u8> = HashMap::new();
            let mut code = |v: f32| *known.entry(v.to_bits()).or_insert_with(|| nearest(&table, factors[c][block], v));
            values.iter().map(|&v| code(v)).collect()
        };
        let codes = column(c).chunks(block).enumerate().flat_map(code).collect();
        Column { codes, scales: factors[c].clone(), zeros: Vec::new() }
    });
    let columns: Vec<Column> = columns.collect();
    Some((LowBit { bits, block }, columns, table))
}

/// The distinct values, if there are at most `most`.
fn entries(values: &[f32], most: usize) -> Option<Vec<f32>> {
    let mut entries = BTreeSet::new();
    let mut last = None;
    for v in values {
        let bits = v.to_bits();
        if last != Some(bits) && entries.insert(bits) && entries.len() > most {
            return None;
        }
        last = Some(bits);
    }
    Some(entries.into_iter().map(f32::from_bits).collect())
}

/// Entries of a table, and elements of a column that share a factor.
#[derive(Clone, Copy)]
struct Limits {
    most: usize,
    block: usize,
}

/// A table, and each column's factors.
fn scaled(out: usize, column: &dyn Fn(usize) -> Vec<f32>, limits: Limits) -> Option<(Vec<f32>, Vec<Vec<f32>>)> {
    let numbers = |c: usize| -> Option<Vec<Vec<f32>>> {
        column(c).chunks(limits.block).map(|block| entries(block, limits.most)).collect()
    };
    // The first column of arbitrary weights shows that they are no entries.
    let first = numbers(0)?;
    table_of(first.iter().take(FIRST), limits.most)?;
    let columns = (0..out).map(numbers).collect::<Option<Vec<_>>>()?;
    let table = table_of(columns.iter().flatten(), limits.most)?;
    let factors = |blocks: &Vec<Vec<f32>>| blocks.iter().map(|numbers| factor(&table, numbers)).collect();
    let factors = columns.iter().map(factors).collect::<Option<Vec<Vec<f32>>>>()?;
    Some((table, factors))
}

/// The table of which some blocks' values are entries times a factor each, if it has at most `most` entries.
fn table_of<'b>(blocks: impl Iterator<Item = &'b Vec<f32>>, most: usize) -> Option<Vec<f32>> {
    let mut blocks: Vec<&Vec<f32>> = blocks.collect();
    // Those with many values first; the order is otherwise kept.
    blocks.sort_by_key(|b| std::cmp::Reverse(b.len()));
    let mut table = blocks.first().map(|b| b.to_vec())?;
    if blocks.iter().any(|b| b.iter().any(|v| !v.is_finite())) {
        return None;
    }
    for numbers in blocks {
        if factor(&table, numbers).is_some() {
            continue;
        }
        let new = lacking(&table, numbers)?;
        table.extend(new);
        if table.len() > most {
            return None;
        }
    }
    Some(table)
}

/// The entries that a table lacks for some numbers to be entries times a factor: for the factor by which the most are
/// entries already.
fn lacking(table: &[f32], numbers: &[f32]) -> Option<Vec<f32>> {
    if table.len() > LowBit::SHORT_TABLE || numbers.len() > LowBit::SHORT_TABLE {
        return None;
    }
    let needed = KNOWN.min(numbers.len());
    let pairs = numbers.iter().filter(|v| **v != 0.0).flat_map(|&v| table.iter().map(move |&t| (v, t)));
    let missing = |factor: f32| numbers.iter().copied().filter(|&v| !is_entry(table, factor, v)).collect::<Vec<f32>>();
    let tried = pairs.filter(|(_, t)| *t != 0.0).map(|(v, t)| v / t).map(|factor| (factor, missing(factor)));
    let (factor, missing) = tried.min_by_key(|(_, missing)| missing.len())?;
    let known = numbers.len() - missing.len();
    (known >= needed).then(|| missing.into_iter().map(|v| v / factor).collect())
}

/// The factor by which entries of a table give some numbers.
fn factor(table: &[f32], numbers: &[f32]) -> Option<f32> {
    let largest = numbers.iter().copied().fold(0.0f32, |m, v| if v.abs() > m.abs() { v } else { m });
    if largest == 0.0 {
        return Some(0.0);
    }
    let fits = |factor: f32| numbers.iter().all(|&v| is_entry(table, factor, v));
    table.iter().filter(|&&t| t != 0.0).map(|t| largest / t).find(|&factor| fits(factor))
}

fn is_entry(table: &[f32], factor: f32, v: f32) -> bool {
    let entry = f64::from(table[usize::from(nearest(table, factor, v))]) * f64::from(factor);
    (entry - f64::from(v)).abs() <= MAX_RELATIVE_ERROR * f64::from(v).abs()
}

/// The index of the entry that, times a factor, is nearest to a number; if the number is an entry, its index.
fn nearest(table: &[f32], factor: f32, v: f32) -> u8 {
    let same = table.iter().position(|t| t.to_bits() == v.to_bits()).filter(|_| factor == 1.0);
    if let Some(place) = same.and_then(|place| u8::try_from(place).ok()) {
        return place;
    }
    let off = |t: f32| (f64::from(t) * f64::from(factor) - f64::from(v)).abs();
    let places = (0..=u8::MAX).zip(table).min_by(|a, b| off(*a.1).total_cmp(&off(*b.1)));
    places.map_or(0, |(place, _)| place)
}
