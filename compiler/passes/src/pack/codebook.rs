//! Weights with few distinct values: entries of one table, or of one table times a factor per column.
//!
//! Folding a batch normalisation into a table leaves a factor per column. It is recovered from the column's largest
//! element, which must be an entry of the table times the factor; then all other elements must be too, up to the
//! rounding of `f32`.

use std::collections::{BTreeSet, HashMap};

use mcc_ir::{Column, LowBit};

/// Maximum relative difference of a weight from a factor times an entry: several roundings of `f32`.
const MAX_RELATIVE_ERROR: f64 = 1.0 / (1 << 21) as f64;

/// Codes, columns and the table of weights `[depth, out]` whose column `c` is `column(c)`, if it has at most `most`
/// entries.
pub(crate) fn encode(
    values: &[f32],
    out: usize,
    column: &dyn Fn(usize) -> Vec<f32>,
    most: usize,
) -> Option<(LowBit, Vec<Column>, Vec<f32>)> {
    let (table, factors) = match entries(values, most) {
        Some(table) => (table, vec![1.0; out]),
        None => scaled(out, column, most)?,
    };
    let bits = [2, 4].into_iter().find(|&bits| table.len() <= 1 << bits).unwrap_or(8);
    let columns = (0..out).map(|c| {
        let mut known: HashMap<u32, u8> = HashMap::new();
        let mut code = |v: f32| *known.entry(v.to_bits()).or_insert_with(|| nearest(&table, factors[c], v));
        Column { codes: column(c).into_iter().map(&mut code).collect(), scales: vec![factors[c]], zeros: Vec::new() }
    });
    let columns: Vec<Column> = columns.collect();
    let block = columns[0].codes.len().next_multiple_of(16);
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

/// A table, and each column's factor.
fn scaled(out: usize, column: &dyn Fn(usize) -> Vec<f32>, most: usize) -> Option<(Vec<f32>, Vec<f32>)> {
    let columns = (0..out).map(|c| entries(&column(c), most)).collect::<Option<Vec<Vec<f32>>>>()?;
    let table = columns.iter().max_by_key(|c| c.len())?.clone();
    if table.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let factors = columns.iter().map(|numbers| factor(&table, numbers)).collect::<Option<Vec<f32>>>()?;
    Some((table, factors))
}

/// The factor by which entries of a table give some numbers.
fn factor(table: &[f32], numbers: &[f32]) -> Option<f32> {
    let largest = numbers.iter().copied().fold(0.0f32, |m, v| if v.abs() > m.abs() { v } else { m });
    if largest == 0.0 {
        return Some(0.0);
    }
    let fits = |factor: f32| {
        numbers.iter().all(|&v| {
            let entry = f64::from(table[usize::from(nearest(table, factor, v))]) * f64::from(factor);
            (entry - f64::from(v)).abs() <= MAX_RELATIVE_ERROR * f64::from(v).abs()
        })
    };
    table.iter().filter(|&&t| t != 0.0).map(|t| largest / t).find(|&factor| fits(factor))
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
