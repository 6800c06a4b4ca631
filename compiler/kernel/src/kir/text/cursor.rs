//! The parts of a line of a kernel's text: names, literals, operands, statements.

use std::collections::HashMap;
use std::str::FromStr;

use super::words::Word;
use crate::kir::{Addr, Elem, Inst, Kernel, Stmt, Ty, Val};
use mcc_ir::text::unescape;
use mcc_ir::{Error, Result};

/// The part of a kernel that has been read.
pub(super) struct Values {
    pub kernel: Kernel,
    /// The value of each literal.
    pub literals: HashMap<(Inst, Ty), Val>,
    /// Definitions of the literals that no statement defines.
    pub entry: Vec<Stmt>,
}

impl Default for Values {
    fn default() -> Values {
        let (name, symbols, insts, body) = (String::new(), Vec::new(), Vec::new(), Vec::new());
        let kernel = Kernel { name, pointers: 0, symbols, insts, body };
        Values { kernel, literals: HashMap::new(), entry: Vec::new() }
    }
}

impl Values {
    pub(super) fn ty(&self, v: Val) -> Ty {
        self.kernel.insts.get(v.0 as usize).map_or(Ty::I64, |(_, ty)| *ty)
    }

    /// Records the type of a value that a statement defines.
    pub(super) fn defined(&mut self, v: Val, ty: Ty) -> Result<()> {
        let slot = self.slot(v)?;
        if slot.0 == Inst::Defined {
            slot.1 = ty;
        }
        Ok(())
    }

    /// Records the instruction that defines a value.
    pub(super) fn computed(&mut self, v: Val, inst: Inst, ty: Ty) -> Result<()> {
        let slot = self.slot(v)?;
        if slot.0 != Inst::Defined && *slot != (inst.clone(), ty) {
            return Err(Error::invalid(format!("{v} is another value above")));
        }
        *slot = (inst, ty);
        Ok(())
    }

    fn slot(&mut self, v: Val) -> Result<&mut (Inst, Ty)> {
        self.kernel.insts.get_mut(v.0 as usize).ok_or_else(|| Error::invalid(format!("{v} is not defined")))
    }

    pub(super) fn literal(&mut self, inst: Inst, ty: Ty) -> Val {
        let key = (inst, ty);
        if let Some(&v) = self.literals.get(&key) {
            return v;
        }
        let v = Val(self.kernel.insts.len() as u32);
        self.kernel.insts.push(key.clone());
        self.entry.push(Stmt::Let(v));
        self.literals.insert(key, v);
        v
    }
}

/// The number in `prefix` followed by a number and nothing else.
pub(super) fn numbered(prefix: &str, name: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    digits.bytes().all(|c| c.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '#')
}

/// The names on a line and their positions, without its comment and quoted names.
pub(super) fn names_in(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = &text[at..];
            let first = rest.chars().next().filter(|_| !rest.starts_with("//"))?;
            if first == '\'' {
                at += quoted(rest).unwrap_or(rest.len());
            } else if in_name(first) {
                let len = rest.find(|c| !in_name(c)).unwrap_or(rest.len());
                at += len;
                return Some((at - len, &rest[..len]));
            } else {
                at += first.len_utf8();
            }
        }
    })
}

/// Length in bytes of the quoted name at the start of a text.
fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' => return Some(i + 1),
            _ => {}
        }
    }
    None
}

/// The rest of a line.
pub(super) struct Cursor<'a, 'p> {
    pub values: &'p mut Values,
    rest: &'a str,
    /// Number of the instruction's operands read so far.
    operands: usize,
}

/// Parts of an instruction or statement.
pub(super) trait Read: Sized {
    fn read(cursor: &mut Cursor<'_, '_>) -> Result<Self>;
}

impl<'a, 'p> Cursor<'a, 'p> {
    pub(super) fn new(values: &'p mut Values, text: &'a str) -> Cursor<'a, 'p> {
        Cursor { values, rest: text, operands: 0 }
    }

    /// Starts the operands.
    pub(super) fn begin(&mut self) {
        (self.rest, self.operands) = (self.rest.trim_start(), 0);
    }

    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    pub(super) fn back_to(&mut self, rest: &'a str) {
        self.rest = rest;
    }

    /// The next operand, after a comma from the second on.
    pub(super) fn operand<T: Read>(&mut self) -> Result<T> {
        if self.operands > 0 {
            self.expect(",")?;
        }
        self.operands += 1;
        T::read(self)
    }

    pub(super) fn value(&mut self) -> Result<Val> {
        Val::read(self)
    }

    pub(super) fn peek(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.starts_with(token)
    }

    pub(super) fn eat(&mut self, token: &str) -> bool {
        let found = self.peek(token);
        if found {
            self.rest = &self.rest[token.len()..];
        }
        found
    }

    pub(super) fn expect(&mut self, token: &str) -> Result<()> {
        if self.eat(token) { Ok(()) } else { Err(self.missing(&format!("`{}`", token.trim_end()))) }
    }

    fn missing(&self, what: &str) -> Error {
        match self.rest {
            "" => Error::invalid(format!("{what} is missing at the end of the line")),
            rest => Error::invalid(format!("{what} is missing before `{rest}`")),
        }
    }

    /// Checks that only a comment is left.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.rest.trim_start() {
            rest if rest.is_empty() || rest.starts_with("//") => Ok(()),
            rest => Err(Error::invalid(format!("`{rest}` is too much"))),
        }
    }

    /// A plain or quoted name.
    pub(super) fn name(&mut self) -> Result<String> {
        if self.peek("'") {
            let len = quoted(self.rest).ok_or_else(|| self.missing("a closing quote"))?;
            let (name, rest) = self.rest.split_at(len);
            self.rest = rest;
            return unescape(&name[1..len - 1]);
        }
        let word = self.word()?;
        // A symbol that is an element: `x[3]`.
        let index = self.rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        match index.filter(|(index, _)| !index.is_empty() && index.bytes().all(|c| c.is_ascii_digit())) {
            Some((index, rest)) => {
                self.rest = rest;
                Ok(format!("{word}[{index}]"))
            }
            None => Ok(word.to_string()),
        }
    }

    pub(super) fn word(&mut self) -> Result<&'a str> {
        self.rest = self.rest.trim_start();
        let len = self.rest.find(|c| !in_name(c)).unwrap_or(self.rest.len());
        if len == 0 {
            return Err(self.missing("a name"));
        }
        let (word, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(word)
    }

    pub(super) fn number<T: FromStr>(&mut self) -> Result<T> {
        let negative = self.eat("-");
        let word = self.word()?;
        let text = if negative { format!("-{word}") } else { word.to_string() };
        text.parse().map_err(|_| Error::invalid(format!("`{text}` is not a number that fits here")))
    }

    /// `v3`, optionally with its type.
    pub(super) fn typed(&mut self) -> Result<(Val, Option<Ty>)> {
        let word = self.word()?;
        let n = numbered("v", word).ok_or_else(|| Error::invalid(format!("`{word}` is not a value, such as `v0`")))?;
        let ty = if self.eat(":") { Some(self.ty()?) } else { None };
        Ok((Val(n), ty))
    }

    fn ty(&mut self) -> Result<Ty> {
        let word = self.word()?;
        let (elem, lanes) = word.split_once('x').unwrap_or((word, "1"));
        let ty = Elem::of(elem).zip(lanes.parse().ok()).map(|(elem, lanes)| Ty::new(elem, lanes));
        ty.ok_or_else(|| Error::invalid(format!("`{word}` is not a type: such as `f32` and `i8x16`")))
    }

    /// `v2 = 0`.
    pub(super) fn definition(&mut self) -> Result<(Val, Inst, Ty)> {
        let (v, ty) = self.typed()?;
        if ty.is_some() {
            return Err(Error::invalid("the type of a literal stands behind it: `v1 = 0:i32`"));
        }
        self.expect("=")?;
        let (inst, ty) = self.literal()?;
        Ok((v, inst, ty))
    }

    fn literal(&mut self) -> Result<(Inst, Ty)> {
        let inst = self.untyped_literal()?;
        let ty = if self.eat(":") { self.ty()? } else { Ty::I64 };
        Ok((inst, ty))
    }

    fn untyped_literal(&mut self) -> Result<Inst> {
        let negative = self.eat("-");
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next().unwrap_or_default();
        let named = ["inf", "NaN"].into_iter().find(|name| {
            self.rest.strip_prefix(name).is_some_and(|rest| !rest.starts_with(|c| in_name(c) || c == '['))
        });
        if !negative && named.is_none() && !first.is_ascii_digit() {
            let quoted = first == '\'';
            let name = self.name()?;
            let known = self.values.kernel.symbols.iter().position(|s| *s.0 == *name).map(|n| Inst::Symbol(n as u32));
            let pointer = numbered("p", &name).map(Inst::Pointer).or(numbered("symbol", &name).map(Inst::Symbol));
            let inst = if quoted { known } else { pointer.or(known) };
            return inst.ok_or_else(|| Error::invalid(format!("the kernel has no symbol `{name}`")));
        }
        let mut len = self.rest.find(|c| !in_name(c)).unwrap_or(self.rest.len());
        let hexadecimal = self.rest.starts_with("0x");
        if !hexadecimal && self.rest[..len].ends_with('e') && self.rest[len..].starts_with(['-', '+']) {
            len += 1 + self.rest[len + 1..].find(|c| !in_name(c)).unwrap_or(self.rest.len() - len - 1);
        }
        let (text, rest) = self.rest.split_at(len);
        self.rest = rest;
        let bad = || Error::invalid(format!("`{text}` is not a number"));
        if let Some(digits) = text.strip_prefix("0x") {
            return u64::from_str_radix(digits, 16).map(Inst::Float).map_err(|_| bad());
        }
        if named.is_some() || text.contains(['.', 'e']) {
            let value = text.parse::<f64>().map_err(|_| bad())?;
            return Ok(Inst::Float(if negative { -value } else { value }.to_bits()));
        }
        let value = text.parse::<i128>().map_err(|_| bad())?;
        i64::try_from(if negative { -value } else { value }).map(Inst::Int).map_err(|_| bad())
    }
}

impl Read for Val {
    fn read(cursor: &mut Cursor<'_, '_>) -> Result<Val> {
        cursor.rest = cursor.rest.trim_start();
        let before = cursor.rest;
        if let Some(n) = cursor.word().ok().and_then(|word| numbered("v", word)) {
            return Ok(Val(n));
        }
        cursor.rest = before;
        let (inst, ty) = cursor.literal()?;
        Ok(cursor.values.literal(inst, ty))
    }
}

impl Read for Addr {
    fn read(cursor: &mut Cursor<'_, '_>) -> Result<Addr> {
        cursor.expect("[")?;
        let mut addr = Addr { base: cursor.value()?, index: None, scale: 1, offset: 0 };
        while !cursor.eat("]") {
            let negative = cursor.peek("-");
            if !negative {
                cursor.expect("+")?;
            }
            let before = cursor.rest;
            let offset = cursor.number::<i32>();
            if offset.is_ok() && !cursor.peek("*") {
                addr.offset =
                    addr.offset.checked_add(offset?).ok_or_else(|| Error::invalid("the offset is too large"))?;
                continue;
            }
            cursor.rest = before;
            if negative || addr.index.is_some() {
                return Err(cursor.missing("`]`"));
            }
            addr.index = Some(cursor.value()?);
            cursor.expect("*")?;
            addr.scale = cursor.number()?;
        }
        Ok(addr)
    }
}

impl Read for u8 {
    fn read(cursor: &mut Cursor<'_, '_>) -> Result<u8> {
        cursor.number()
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(cursor: &mut Cursor<'_, '_>) -> Result<Vec<T>> {
        cursor.expect("[")?;
        let mut items = Vec::new();
        while !cursor.eat("]") {
            if !items.is_empty() {
                cursor.expect(",")?;
            }
            items.push(T::read(cursor)?);
        }
        Ok(items)
    }
}
