//! Every row of the table in several instances, compared with the encodings that `llvm-mc` gives its texts.
//! `tests/tools/aarch64_encodings.py` writes the expected ones, from the instances that `MCC_ENCODINGS=FILE` makes this
//! test write.

use std::fmt::Write;

use super::encoding::{encode, text};
use super::fields::{Field, Role};
use super::operand::{Cc, Size};
use super::table::{ROWS, Row};

/// `llvm-mc`'s encodings: a line is eight hexadecimal digits and the text.
const EXPECTED: &str = include_str!("encodings.txt");

/// Values of an immediate; those that do not fit a size are left out.
fn values(field: Field) -> Vec<i64> {
    match field {
        Field::Mov16 => vec![0, 1, 0xffff, 0x1234],
        Field::Half => vec![0, 16, 32, 48],
        Field::Add12 => vec![0, 1, 4095],
        Field::Bitmask => {
            vec![1, 0xff, 0x7fff_fff0, 0xffff_fffe, 0x5555_5555, 0x0f0f_0f0f, 0xff00_ff00_ff00_ff00u64 as i64]
        }
        Field::Amount | Field::Immr | Field::Imms => vec![0, 3, 31, 63],
        Field::Cond | Field::CondLow | Field::Opposite => Cc::ALL.map(|cc| cc as i64).to_vec(),
        Field::Scaled | Field::Twelve8 => vec![0, 16, 240, 4080],
        Field::Nine => vec![-256, -1, 0, 255],
        Field::Seven | Field::Eights => vec![-64, 0, 16, 240],
        Field::Implied | Field::Pool => vec![0],
        Field::Lane5 | Field::Lane4 | Field::InMemory => (0..16).collect(),
        Field::LaneS | Field::LaneF => (0..4).collect(),
        Field::Four11 => vec![0, 5, 15],
        Field::Eight => vec![0, 1, 0x80, 0xa5, 255],
        Field::Shift8 => vec![0, 8],
        Field::Float8 => vec![0, 0x70, 0x80, 0xa5, 255],
        Field::Left | Field::Right => vec![0, 1, 5, 7, 8, 15, 31, 63],
    }
}

/// The value that a size implies.
fn implied(row: Row, size: Size) -> i64 {
    if row == Row::Ld1rPost { size.bytes() } else { size.log2().into() }
}

/// Encodings and texts of a row's instances.
fn instances(row: Row) -> Vec<(u32, String)> {
    let form = row.form();
    let mut made = Vec::new();
    let choices = |n: usize| form.fields.get(n).map_or(vec![0], |&field| values(field));
    for size in Size::ALL.into_iter().filter(|&size| form.sized.allows(size)) {
        for first in choices(0) {
            for second in choices(1) {
                let first = if form.fields.first() == Some(&Field::Implied) { implied(row, size) } else { first };
                let sets = [[1, 2, 3, 4], [30, 29, 28, 27], [0, 15, 16, 8]];
                let start = made.len() % sets.len();
                for set in if form.fields.is_empty() { &sets[..] } else { &sets[start..=start] } {
                    let regs: Vec<u8> = form.roles.iter().zip(set).map(|(_, &n)| n).collect();
                    if let Ok(bits) = encode(row, size, &regs, [first, second]) {
                        made.push((bits, text(row, size, &regs, [first, second])));
                    }
                }
            }
        }
    }
    made
}

/// Targets of jumps and places of constants, which the encoder fills in.
fn has_distance(row: Row) -> bool {
    matches!(row, Row::B | Row::BCond | Row::LdrPool)
}

#[test]
fn encodings_are_those_of_llvm() {
    let mut all = String::new();
    for &row in ROWS {
        let instances = instances(row);
        assert!(!instances.is_empty(), "{row:?} has no instance");
        for (bits, text) in instances.into_iter().filter(|_| !has_distance(row)) {
            let _ = writeln!(all, "{bits:08x} {text}");
        }
    }
    if let Ok(path) = std::env::var("MCC_ENCODINGS") {
        std::fs::write(path, &all).expect("written");
        return;
    }
    let differ: Vec<_> = all.lines().zip(EXPECTED.lines()).filter(|(ours, theirs)| ours != theirs).take(20).collect();
    assert!(differ.is_empty() && all.lines().count() == EXPECTED.lines().count(), "ours and llvm's: {differ:#?}");
}

/// Every row whose register at bit 0 is written says so: a store reads it, everything else defines or modifies it.
#[test]
fn stores_read_and_loads_write() {
    for &row in ROWS {
        let form = row.form();
        let stores = form.text.starts_with("st");
        let reads = form.roles.contains(&Role::Dr);
        assert_eq!(stores, reads, "{row:?}");
    }
}
