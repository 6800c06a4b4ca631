//! The bits and the text of an instruction of the [table](super::table).

use std::fmt::Write;

use super::fields::{Field, expand_float};
use super::operand::{Cc, Size};
use super::table::Row;
use mcc_ir::{Error, Result};

/// The bits of an instruction with registers in the order of the roles.
///
/// # Errors
/// When an operand does not fit: a bug of instruction selection.
pub fn encode(row: Row, size: Size, regs: &[u8], imms: [i64; 2]) -> Result<u32> {
    let form = row.form();
    if form.roles.len() != regs.len() || !form.sized.allows(size) {
        return Err(Error::internal(format!("{row:?}: size {size:?} with {} registers", regs.len())));
    }
    let mut bits = form.bits | form.sized.bits(size);
    for (role, &reg) in form.roles.iter().zip(regs) {
        bits |= u32::from(reg & 31) << role.bit();
    }
    for (field, value) in form.fields.iter().zip(imms) {
        let does_not_fit = || Error::internal(format!("{row:?} of {size:?}: {field:?} of {value}"));
        bits |= field.bits(size, value).ok_or_else(does_not_fit)?;
    }
    Ok(bits)
}

/// The text of an instruction.
pub fn text(row: Row, size: Size, regs: &[u8], imms: [i64; 2]) -> String {
    let form = row.form();
    let number = |letter: char| {
        let found = form.roles.iter().position(|role| role.letter() == letter);
        found.and_then(|n| regs.get(n)).copied().unwrap_or(31)
    };
    let lanes = |size: Size, bytes: i64| format!("{}{}", bytes >> size.log2(), letter(size));
    let mut out = String::new();
    let mut rest = form.text.chars().peekable();
    while let Some(c) = rest.next() {
        let role = rest.peek().copied().unwrap_or(' ');
        let _ = match (c, role) {
            ('.', 'T') => write!(out, ".{}", lanes(size, 16)),
            ('.', 'L') => write!(out, ".{}", lanes(size, 8)),
            ('.', 'W') => write!(out, ".{}", lanes(Size::ALL[size.log2() as usize + 1], 16)),
            ('.', 'E') => write!(out, ".{}", letter(size)),
            ('V', r) => write!(out, "v{}", number(r)),
            ('Q', r) => write!(out, "{}{}", letter(size), number(r)),
            ('S' | 'D' | 'H', r) => write!(out, "{}{}", c.to_ascii_lowercase(), number(r)),
            ('X', r) => write!(out, "{}", general(true, number(r), r == 'n')),
            ('W', r) => write!(out, "{}", general(false, number(r), false)),
            ('G', r) => write!(out, "{}", general(size == Size::D, number(r), false)),
            ('I', _) => write!(out, "{}", immediate(form.fields[0], size, imms[0])),
            ('J', _) => write!(out, "{}", immediate(form.fields[1], size, imms[1])),
            ('C', _) => write!(out, "{}", Cc::NAMES[imms[0] as usize % Cc::NAMES.len()]),
            ('Z', _) => write!(out, "{}", ["b", "h", "", "", ""][size.log2() as usize]),
            _ => write!(out, "{c}"),
        };
        let placeholder = c == '.' && "TLWE".contains(role) || "VQSDHXWG".contains(c);
        if placeholder {
            rest.next();
        }
    }
    out
}

fn letter(size: Size) -> char {
    ['b', 'h', 's', 'd', 'q'][size.log2() as usize]
}

fn general(long: bool, number: u8, base: bool) -> String {
    match (number, long) {
        (31, _) if base => "sp".to_string(),
        (31, true) => "xzr".to_string(),
        (31, false) => "wzr".to_string(),
        (n, true) => format!("x{n}"),
        (n, false) => format!("w{n}"),
    }
}

fn immediate(field: Field, size: Size, value: i64) -> String {
    match field {
        Field::Float8 => format!("{:?}", expand_float(value)),
        Field::Pool => format!("pool+{value}"),
        Field::Bitmask if size != Size::D => format!("{:#x}", value as u32),
        Field::Bitmask => format!("{value:#x}"),
        _ => value.to_string(),
    }
}
