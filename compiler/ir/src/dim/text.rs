//! How dimensions print.

use std::fmt;

use super::{Atom, Dim, Repr};

/// Names of the operations in the text form, with their numbers of arguments.
pub(in super::super) const FUNCTIONS: [(&str, usize); 4] = [("floordiv", 2), ("min", 2), ("max", 2), ("ifneg", 3)];

/// Whether a symbol needs no quotes in the text form: a name of letters, digits, `_` and `.`, optionally followed by
/// `[INDEX]`.
pub(in super::super) fn is_plain(name: &str) -> bool {
    let (name, index) = match name.split_once('[') {
        Some((name, rest)) => (name, rest.strip_suffix(']')),
        None => (name, Some("0")),
    };
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
        && index.is_some_and(|i| !i.is_empty() && i.bytes().all(|c| c.is_ascii_digit()))
        && FUNCTIONS.iter().all(|f| f.0 != name)
}

/// Prints sums as `4*seq+1`, operations as functions: `floordiv(a,b)`, `min(a,b)`, `max(a,b)`, `ifneg(a,b,c)`. Other
/// symbols are in single quotes.
impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Repr::Poly(terms, _) = &self.0 else {
            let Repr::Const(c) = self.0 else { return Ok(()) };
            return write!(f, "{c}");
        };
        // The constant term has the empty key and sorts first, but is printed last.
        let constant = terms.iter().filter(|(m, _)| m.is_empty());
        for (i, (product, c)) in terms.iter().filter(|(m, _)| !m.is_empty()).chain(constant).enumerate() {
            if i > 0 && *c >= 0 {
                write!(f, "+")?;
            }
            match (*c, product.is_empty()) {
                (c, true) => write!(f, "{c}")?,
                (1, false) => {}
                (-1, false) => write!(f, "-")?,
                (c, false) => write!(f, "{c}*")?,
            }
            for (j, atom) in product.iter().enumerate() {
                if j > 0 {
                    write!(f, "*")?;
                }
                match atom {
                    Atom::Sym(s) if is_plain(&s.0) => write!(f, "{s}")?,
                    Atom::Sym(s) => write!(f, "'{}'", s.0.replace('\\', "\\\\").replace('\'', "\\'"))?,
                    Atom::FloorDiv(a, b) => write!(f, "floordiv({a},{b})")?,
                    Atom::Min(a, b) => write!(f, "min({a},{b})")?,
                    Atom::Max(a, b) => write!(f, "max({a},{b})")?,
                    Atom::IfNeg(a, b, c) => write!(f, "ifneg({a},{b},{c})")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
