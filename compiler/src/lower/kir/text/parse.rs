//! Text to kernels: recursive descent, a line at a time.

use std::collections::HashMap;
use std::str::FromStr;

use super::words::{self, Word};
use crate::ir::Sym;
use crate::ir::text::unescape;
use crate::lower::kir::{Addr, Carried, Elem, Inst, Kernel, Stmt, Ty, Val};
use crate::{Error, Result};

/// How deep blocks may nest.
const DEEPEST: usize = 100;
/// Most values of a kernel.
const MOST: u32 = 1 << 24;

impl FromStr for Kernel {
    type Err = Error;

    /// The kernel that a text describes. It need not be sound: that is [`verify`](crate::lower::kir::verify::verify)'s.
    fn from_str(text: &str) -> Result<Kernel> {
        let lines = text.lines().enumerate().map(|(n, text)| {
            let code = text.trim_start();
            Line { number: n + 1, indent: text.len() - code.len(), text: code.trim_end() }
        });
        let lines: Vec<Line> = lines.filter(|l| !l.text.is_empty() && !l.text.starts_with("//")).collect();
        let mut parser = Parser { lines: &lines, at: 0, kernel: empty(), literals: HashMap::new(), entry: Vec::new() };
        parser.kernel().map_err(|e| match lines.get(parser.at.min(lines.len().saturating_sub(1))) {
            Some(line) => e.within(format!("line {}: {}", line.number, line.text)),
            None => e,
        })?;
        Ok(parser.kernel)
    }
}

fn empty() -> Kernel {
    Kernel { name: String::new(), pointers: 0, symbols: Vec::new(), insts: Vec::new(), body: Vec::new() }
}

struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

struct Parser<'a> {
    lines: &'a [Line<'a>],
    /// The line that is read.
    at: usize,
    kernel: Kernel,
    /// The value that each literal stands for.
    literals: HashMap<(Inst, Ty), Val>,
    /// Literals that no statement defines.
    entry: Vec<Stmt>,
}

impl<'a> Parser<'a> {
    fn kernel(&mut self) -> Result<()> {
        let first = self.lines.first().ok_or_else(|| Error::invalid("there is no kernel"))?;
        let mut cursor = self.cursor(first.text);
        cursor.expect("kernel ")?;
        let name = cursor.name()?;
        cursor.expect("(")?;
        let (mut pointers, mut symbols) = (0, Vec::new());
        while !cursor.eat(")") {
            let name = cursor.name()?;
            match numbered("p", &name) {
                Some(n) if symbols.is_empty() && n == pointers => pointers += 1,
                _ => symbols.push(Sym(name.into())),
            }
            // `;` stands before the symbols.
            if cursor.eat(";") || symbols.is_empty() && cursor.peek(")") {
                continue;
            }
            if !cursor.peek(")") {
                cursor.expect(",")?;
            }
        }
        cursor.end()?;
        self.kernel = Kernel { name, pointers, symbols, ..empty() };
        self.definitions()?;
        self.at = 1;
        let mut body = self.block(first.indent, 0)?;
        if let Some(line) = self.lines.get(self.at) {
            return Err(Error::invalid(format!("a statement {} columns in is in no block", line.indent)));
        }
        self.kernel.body = std::mem::take(&mut self.entry);
        self.kernel.body.append(&mut body);
        Ok(())
    }

    fn cursor<'p>(&'p mut self, text: &'a str) -> Cursor<'a, 'p>
    where
        'a: 'p,
    {
        Cursor { parser: self, rest: text, operands: 0 }
    }

    /// Finds which values are defined, and the first definition of each literal.
    fn definitions(&mut self) -> Result<()> {
        let mut values = 0;
        for line in &self.lines[1..] {
            let mut giving = false;
            for (at, word) in names_in(line.text) {
                giving |= word == "giving";
                let behind = line.text[at + word.len()..].trim_start();
                if let Some(n) = numbered("v", word).filter(|_| giving || behind.starts_with([':', '='])) {
                    values = values.max(n.saturating_add(1));
                }
            }
        }
        if values > MOST {
            return Err(Error::invalid(format!("values are numbered up to v{}", values - 1)));
        }
        self.kernel.insts = vec![(Inst::Defined, Ty::I64); values as usize];
        for line in &self.lines[1..] {
            let mut cursor = self.cursor(line.text);
            while let Ok((v, inst, ty)) = cursor.definition() {
                let more = cursor.eat(";");
                if more || cursor.end().is_ok() {
                    cursor.parser.literals.entry((inst, ty)).or_insert(v);
                }
                if !more {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The statements that are further in than `outer`.
    fn block(&mut self, outer: usize, depth: usize) -> Result<Vec<Stmt>> {
        if depth > DEEPEST {
            return Err(Error::invalid(format!("more than {DEEPEST} blocks stand in each other")));
        }
        let mut body = Vec::new();
        let Some(indent) = self.lines.get(self.at).map(|l| l.indent).filter(|&i| i > outer) else { return Ok(body) };
        while let Some(line) = self.lines.get(self.at).filter(|l| l.indent > outer) {
            if line.indent != indent {
                return Err(Error::invalid(format!("a statement {} columns in, in a block of {indent}", line.indent)));
            }
            let text = line.text;
            if let Some(rest) = text.strip_prefix("for ") {
                body.push(self.repeated(rest, indent, depth)?);
            } else if let Some(rest) = text.strip_prefix("if ") {
                body.push(self.choice(rest, indent, depth)?);
            } else {
                let mut cursor = self.cursor(text);
                loop {
                    body.push(cursor.statement()?);
                    if !cursor.eat(";") {
                        break;
                    }
                }
                cursor.end()?;
                self.at += 1;
            }
        }
        Ok(body)
    }

    /// A loop, behind its first word.
    fn repeated(&mut self, text: &'a str, indent: usize, depth: usize) -> Result<Stmt> {
        let mut cursor = self.cursor(text);
        let (index, ty) = cursor.typed()?;
        cursor.parser.defined(index, ty.unwrap_or(Ty::I64))?;
        cursor.expect("=")?;
        let start = cursor.value()?;
        cursor.expect("to ")?;
        let end = cursor.value()?;
        cursor.expect("step ")?;
        let step = cursor.number()?;
        let mut carried = Vec::new();
        while cursor.eat(",") {
            let (inner, ty) = cursor.typed()?;
            cursor.expect("=")?;
            let init = cursor.value()?;
            let ty = ty.unwrap_or_else(|| cursor.parser.ty(init));
            cursor.parser.defined(inner, ty)?;
            carried.push(Carried { inner, init, next: init, result: inner });
        }
        cursor.end()?;
        self.at += 1;
        let body = self.block(indent, depth + 1)?;
        if carried.is_empty() {
            return Ok(Stmt::For { index, start, end, step, carried, body });
        }
        let next = self.lines.get(self.at).filter(|l| l.indent == indent).and_then(|l| l.text.strip_prefix("next "));
        let mut cursor = self.cursor(next.ok_or_else(|| Error::invalid("`next` is missing behind a loop's body"))?);
        for (n, c) in carried.iter_mut().enumerate() {
            if n > 0 {
                cursor.expect(",")?;
            }
            c.next = cursor.value()?;
        }
        cursor.expect("giving ")?;
        for (n, c) in carried.iter_mut().enumerate() {
            if n > 0 {
                cursor.expect(",")?;
            }
            let (result, ty) = cursor.typed()?;
            let ty = ty.unwrap_or_else(|| cursor.parser.ty(c.inner));
            cursor.parser.defined(result, ty)?;
            c.result = result;
        }
        cursor.end()?;
        self.at += 1;
        Ok(Stmt::For { index, start, end, step, carried, body })
    }

    /// A choice, behind its first word.
    fn choice(&mut self, text: &'a str, indent: usize, depth: usize) -> Result<Stmt> {
        let mut cursor = self.cursor(text);
        let condition = cursor.value()?;
        cursor.end()?;
        self.at += 1;
        let then = self.block(indent, depth + 1)?;
        let mut otherwise = Vec::new();
        if self.lines.get(self.at).is_some_and(|l| l.indent == indent && l.text == "else") {
            self.at += 1;
            otherwise = self.block(indent, depth + 1)?;
        }
        let mut results = Vec::new();
        let line = self.lines.get(self.at).filter(|l| l.indent == indent);
        if let Some(rest) = line.and_then(|l| l.text.strip_prefix("giving ")) {
            let mut cursor = self.cursor(rest);
            while results.is_empty() || cursor.eat(",") {
                let (result, ty) = cursor.typed()?;
                cursor.expect("=")?;
                let a = cursor.value()?;
                cursor.expect("or ")?;
                let b = cursor.value()?;
                let ty = ty.unwrap_or_else(|| cursor.parser.ty(a));
                cursor.parser.defined(result, ty)?;
                results.push((result, a, b));
            }
            cursor.end()?;
            self.at += 1;
        }
        Ok(Stmt::If { condition, then, otherwise, results })
    }

    fn ty(&self, v: Val) -> Ty {
        self.kernel.insts.get(v.0 as usize).map_or(Ty::I64, |(_, ty)| *ty)
    }

    /// Notes the type of a value that a statement defines.
    fn defined(&mut self, v: Val, ty: Ty) -> Result<()> {
        let slot = self.slot(v)?;
        if slot.0 == Inst::Defined {
            slot.1 = ty;
        }
        Ok(())
    }

    /// Notes what computes a value.
    fn computed(&mut self, v: Val, inst: Inst, ty: Ty) -> Result<()> {
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

    fn literal(&mut self, inst: Inst, ty: Ty) -> Val {
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

/// `prefix` and a number, nothing else.
fn numbered(prefix: &str, name: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    digits.bytes().all(|c| c.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '#')
}

/// The names of a line and where they stand; none of its comment, or in quotes.
fn names_in(text: &str) -> impl Iterator<Item = (usize, &str)> {
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

/// Bytes of the quoted name that a text begins with.
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

/// What is left of a line.
pub(super) struct Cursor<'a, 'p> {
    parser: &'p mut Parser<'a>,
    rest: &'a str,
    /// How many operands of the instruction are read.
    operands: usize,
}

/// What an instruction or statement is made of.
pub(super) trait Read: Sized {
    fn read(cursor: &mut Cursor<'_, '_>) -> Result<Self>;
}

impl<'a> Cursor<'a, '_> {
    /// The next operand, behind a comma from the second on.
    pub(super) fn operand<T: Read>(&mut self) -> Result<T> {
        if self.operands > 0 {
            self.expect(",")?;
        }
        self.operands += 1;
        T::read(self)
    }

    fn value(&mut self) -> Result<Val> {
        Val::read(self)
    }

    fn peek(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.starts_with(token)
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.peek(token);
        if found {
            self.rest = &self.rest[token.len()..];
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.eat(token) { Ok(()) } else { Err(self.missing(&format!("`{}`", token.trim_end()))) }
    }

    fn missing(&self, what: &str) -> Error {
        match self.rest {
            "" => Error::invalid(format!("{what} is missing at the end of the line")),
            rest => Error::invalid(format!("{what} is missing before `{rest}`")),
        }
    }

    /// Nothing is left but a comment.
    fn end(&mut self) -> Result<()> {
        match self.rest.trim_start() {
            rest if rest.is_empty() || rest.starts_with("//") => Ok(()),
            rest => Err(Error::invalid(format!("`{rest}` is too much"))),
        }
    }

    /// A plain or a quoted name.
    fn name(&mut self) -> Result<String> {
        if self.peek("'") {
            let len = quoted(self.rest).ok_or_else(|| self.missing("a closing quote"))?;
            let (name, rest) = self.rest.split_at(len);
            self.rest = rest;
            return unescape(&name[1..len - 1]);
        }
        let word = self.word()?;
        // An element that is a symbol: `x[3]`.
        let index = self.rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        match index.filter(|(index, _)| !index.is_empty() && index.bytes().all(|c| c.is_ascii_digit())) {
            Some((index, rest)) => {
                self.rest = rest;
                Ok(format!("{word}[{index}]"))
            }
            None => Ok(word.to_string()),
        }
    }

    fn word(&mut self) -> Result<&'a str> {
        self.rest = self.rest.trim_start();
        let len = self.rest.find(|c| !in_name(c)).unwrap_or(self.rest.len());
        if len == 0 {
            return Err(self.missing("a name"));
        }
        let (word, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(word)
    }

    fn number<T: FromStr>(&mut self) -> Result<T> {
        let negative = self.eat("-");
        let word = self.word()?;
        let text = if negative { format!("-{word}") } else { word.to_string() };
        text.parse().map_err(|_| Error::invalid(format!("`{text}` is no such number")))
    }

    /// `v3`, and perhaps its type.
    fn typed(&mut self) -> Result<(Val, Option<Ty>)> {
        let word = self.word()?;
        let n = numbered("v", word).ok_or_else(|| Error::invalid(format!("`{word}` is no value: `v0` is one")))?;
        let ty = if self.eat(":") { Some(self.ty()?) } else { None };
        Ok((Val(n), ty))
    }

    fn ty(&mut self) -> Result<Ty> {
        let word = self.word()?;
        let (elem, lanes) = word.split_once('x').unwrap_or((word, "1"));
        let ty = Elem::of(elem).zip(lanes.parse().ok()).map(|(elem, lanes)| Ty::new(elem, lanes));
        ty.ok_or_else(|| Error::invalid(format!("`{word}` is no type: `f32` and `i8x16` are some")))
    }

    /// `v2 = 0`.
    fn definition(&mut self) -> Result<(Val, Inst, Ty)> {
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
            let known = self.parser.kernel.symbols.iter().position(|s| *s.0 == *name).map(|n| Inst::Symbol(n as u32));
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
        let bad = || Error::invalid(format!("`{text}` is no number"));
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

    /// A statement that has no block.
    fn statement(&mut self) -> Result<Stmt> {
        self.operands = 0;
        self.rest = self.rest.trim_start();
        let before = self.rest;
        let word = self.word()?;
        if numbered("v", word).is_none() {
            return Ok(match word {
                "store" => Stmt::Store(self.operand()?, self.operand()?),
                "store_part" => Stmt::StorePart(self.operand()?, self.operand()?, self.operand()?),
                "prefetch" => Stmt::Prefetch(self.operand()?),
                "copy" => Stmt::Copy { to: self.operand()?, from: self.operand()?, bytes: self.operand()? },
                "zero" => Stmt::Zero { to: self.operand()?, bytes: self.operand()? },
                _ => return Err(Error::invalid(format!("there is no statement `{word}`"))),
            });
        }
        self.rest = before;
        if let (v, Some(ty)) = self.typed()? {
            self.expect("=")?;
            let word = self.word()?;
            let inst = words::read(word, self)?;
            self.parser.computed(v, inst, ty)?;
            return Ok(Stmt::Let(v));
        }
        self.rest = before;
        let (v, inst, ty) = self.definition()?;
        self.parser.computed(v, inst, ty)?;
        Ok(Stmt::Let(v))
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
        Ok(cursor.parser.literal(inst, ty))
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
