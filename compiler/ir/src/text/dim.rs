//! Parses dimension expressions, in the format of [`Dim`]'s `Display`.

use std::str::FromStr;

use super::attr::unescape;
use crate::dim::FUNCTIONS;
use crate::{Dim, Sym};
use crate::{Error, Result};

/// Maximum nesting of parentheses and functions.
const MAX_NESTING: usize = 100;

impl Sym {
    /// Whether the name needs no quotes in the text form: letters, digits, `_` and `.`, optionally followed by
    /// `[INDEX]`.
    pub fn is_plain(&self) -> bool {
        crate::dim::is_plain(&self.0)
    }
}

impl FromStr for Dim {
    type Err = Error;

    fn from_str(text: &str) -> Result<Dim> {
        let mut cursor = Cursor { text, rest: text, depth: 0 };
        let dim = cursor.sum()?;
        match cursor.rest.trim_start() {
            "" => Ok(dim),
            _ => Err(cursor.error()),
        }
    }
}

struct Cursor<'a> {
    text: &'a str,
    rest: &'a str,
    depth: usize,
}

impl<'a> Cursor<'a> {
    fn error(&self) -> Error {
        Error::invalid(format!("`{}` is not a dimension expression (at `{}`)", self.text, self.rest))
    }

    fn eat(&mut self, token: char) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: char) -> Result<()> {
        if self.eat(token) { Ok(()) } else { Err(self.error()) }
    }

    fn sum(&mut self) -> Result<Dim> {
        let negative = self.eat('-');
        let first = self.product()?;
        let mut sum = if negative { -&first } else { first };
        loop {
            if self.eat('+') {
                sum = &sum + &self.product()?;
            } else if self.eat('-') {
                sum = &sum - &self.product()?;
            } else {
                return Ok(sum);
            }
        }
    }

    fn product(&mut self) -> Result<Dim> {
        let mut product = self.factor()?;
        while self.eat('*') {
            product = &product * &self.factor()?;
        }
        Ok(product)
    }

    fn factor(&mut self) -> Result<Dim> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(self.error());
        }
        let factor = if self.eat('(') {
            let inner = self.sum()?;
            self.expect(')')?;
            inner
        } else if self.eat('\'') {
            self.quoted()?
        } else {
            self.word()?
        };
        self.depth -= 1;
        Ok(factor)
    }

    fn quoted(&mut self) -> Result<Dim> {
        let mut escaped = false;
        for (i, c) in self.rest.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '\'' => {
                    let name = unescape(&self.rest[..i])?;
                    self.rest = &self.rest[i + 1..];
                    return Ok(Dim::sym(name));
                }
                _ => {}
            }
        }
        Err(self.error())
    }

    /// A number, a symbol or a function.
    fn word(&mut self) -> Result<Dim> {
        let rest = self.rest.trim_start();
        let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let mut end = rest.find(|c| !part_of_name(c)).unwrap_or(rest.len());
        let name = &rest[..end];
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            let number = name.parse::<i64>().map_err(|_| self.error())?;
            self.rest = &rest[end..];
            return Ok(Dim::from(number));
        }
        if let Some((name, arguments)) = FUNCTIONS.iter().find(|f| f.0 == name) {
            self.rest = &rest[end..];
            return self.function(name, *arguments);
        }
        if rest[end..].starts_with('[') {
            end += rest[end..].find(']').ok_or_else(|| self.error())? + 1;
        }
        if !crate::dim::is_plain(&rest[..end]) {
            return Err(self.error());
        }
        self.rest = &rest[end..];
        Ok(Dim::sym(&rest[..end]))
    }

    fn function(&mut self, name: &str, arguments: usize) -> Result<Dim> {
        let mut args = Vec::with_capacity(arguments);
        self.expect('(')?;
        for i in 0..arguments {
            if i > 0 {
                self.expect(',')?;
            }
            args.push(self.sum()?);
        }
        self.expect(')')?;
        match (name, args.as_slice()) {
            ("floordiv", [a, b]) => Ok(a.floor_div(b)),
            ("min", [a, b]) => Ok(a.lesser(b)),
            ("max", [a, b]) => Ok(a.greater(b)),
            ("ifneg", [a, b, c]) => Ok(a.if_neg(b, c)),
            _ => Err(self.error()),
        }
    }
}
