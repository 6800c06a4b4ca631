//! Text to kernels: recursive descent. This file parses lines and blocks, [`Cursor`] the contents of a line.

use std::str::FromStr;

use super::cursor::{Cursor, Values, names_in, numbered};
use super::instructions;
use crate::kir::{Carried, Inst, Kernel, Stmt, Ty};
use mcc_ir::{Error, Result, Sym};

/// The deepest nesting of blocks.
const MAX_DEPTH: usize = 100;
/// The most values of a kernel.
const MAX_VALUES: u32 = 1 << 24;

impl FromStr for Kernel {
    type Err = Error;

    /// The kernel of a text. It need not be valid: [`verify`](crate::kir::verify::verify) checks that.
    fn from_str(text: &str) -> Result<Kernel> {
        let lines = text.lines().enumerate().map(|(n, text)| {
            let code = text.trim_start();
            Line { number: n + 1, indent: text.len() - code.len(), text: code.trim_end() }
        });
        let lines: Vec<Line> = lines.filter(|l| !l.text.is_empty() && !l.text.starts_with("//")).collect();
        let mut parser = Parser { lines: &lines, at: 0, values: Values::default() };
        parser.kernel().map_err(|e| match lines.get(parser.at.min(lines.len().saturating_sub(1))) {
            Some(line) => e.within(format!("line {}: {}", line.number, line.text)),
            None => e,
        })?;
        Ok(parser.values.kernel)
    }
}

struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

struct Parser<'a> {
    lines: &'a [Line<'a>],
    /// The current line.
    at: usize,
    values: Values,
}

impl<'a> Parser<'a> {
    fn kernel(&mut self) -> Result<()> {
        let first = self.lines.first().ok_or_else(|| Error::invalid("there is no kernel"))?;
        let mut cursor = self.cursor(first.text);
        cursor.expect("kernel ")?;
        let name = cursor.name()?;
        cursor.expect("(")?;
        let (mut pointers, mut symbols) = (0, Vec::new());
        while !cursor.peek(";") && !cursor.peek(")") {
            if pointers > 0 {
                cursor.expect(",")?;
            }
            let name = cursor.word()?;
            if numbered("p", name) != Some(pointers) {
                return Err(Error::invalid(format!(
                    "`{name}` is where pointer `p{pointers}` stands; symbols follow `;`"
                )));
            }
            pointers += 1;
        }
        while symbols.is_empty() && cursor.eat(";") || !symbols.is_empty() && cursor.eat(",") {
            symbols.push(Sym(cursor.name()?.into()));
        }
        cursor.expect(")")?;
        cursor.end()?;
        let kernel = &mut self.values.kernel;
        (kernel.name, kernel.pointers, kernel.symbols) = (name, pointers, symbols);
        self.definitions()?;
        self.at = 1;
        let mut body = self.block(first.indent, 0)?;
        if let Some(line) = self.lines.get(self.at) {
            return Err(Error::invalid(format!("a statement {} columns in is in no block", line.indent)));
        }
        let mut whole = std::mem::take(&mut self.values.entry);
        whole.append(&mut body);
        self.values.kernel.body = whole;
        Ok(())
    }

    fn cursor<'p>(&'p mut self, text: &'a str) -> Cursor<'a, 'p> {
        Cursor::new(&mut self.values, text)
    }

    /// Finds the defined values, and the first definition of each literal.
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
        if values > MAX_VALUES {
            return Err(Error::invalid(format!("values are numbered up to v{}", values - 1)));
        }
        self.values.kernel.insts = vec![(Inst::Defined, Ty::I64); values as usize];
        for line in &self.lines[1..] {
            let mut cursor = self.cursor(line.text);
            while let Ok((v, inst, ty)) = cursor.definition() {
                let more = cursor.eat(";");
                if more || cursor.end().is_ok() {
                    cursor.values.literals.entry((inst, ty)).or_insert(v);
                }
                if !more {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The statements indented more than `outer`.
    fn block(&mut self, outer: usize, depth: usize) -> Result<Vec<Stmt>> {
        if depth > MAX_DEPTH {
            return Err(Error::invalid(format!("more than {MAX_DEPTH} blocks stand in each other")));
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
                    body.push(statement(&mut cursor)?);
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

    /// A loop, after its first word.
    fn repeated(&mut self, text: &'a str, indent: usize, depth: usize) -> Result<Stmt> {
        let mut cursor = self.cursor(text);
        let (index, ty) = cursor.typed()?;
        cursor.values.defined(index, ty.unwrap_or(Ty::I64))?;
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
            let ty = ty.unwrap_or_else(|| cursor.values.ty(init));
            cursor.values.defined(inner, ty)?;
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
            let ty = ty.unwrap_or_else(|| cursor.values.ty(c.inner));
            cursor.values.defined(result, ty)?;
            c.result = result;
        }
        cursor.end()?;
        self.at += 1;
        Ok(Stmt::For { index, start, end, step, carried, body })
    }

    /// A branch, after its first word.
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
                let ty = ty.unwrap_or_else(|| cursor.values.ty(a));
                cursor.values.defined(result, ty)?;
                results.push((result, a, b));
            }
            cursor.end()?;
            self.at += 1;
        }
        Ok(Stmt::If { condition, then, otherwise, results })
    }
}

/// A statement without a block.
fn statement(cursor: &mut Cursor<'_, '_>) -> Result<Stmt> {
    cursor.begin();
    let before = cursor.rest();
    let word = cursor.word()?;
    if numbered("v", word).is_none() {
        return Ok(match word {
            "store" => Stmt::Store(cursor.operand()?, cursor.operand()?),
            "store_part" => Stmt::StorePart(cursor.operand()?, cursor.operand()?, cursor.operand()?),
            "prefetch" => Stmt::Prefetch(cursor.operand()?),
            "copy" => Stmt::Copy { to: cursor.operand()?, from: cursor.operand()?, bytes: cursor.operand()? },
            "zero" => Stmt::Zero { to: cursor.operand()?, bytes: cursor.operand()? },
            _ => return Err(Error::invalid(format!("there is no statement `{word}`"))),
        });
    }
    cursor.back_to(before);
    if let (v, Some(ty)) = cursor.typed()? {
        cursor.expect("=")?;
        let word = cursor.word()?;
        let inst = instructions::read(word, cursor)?;
        cursor.values.computed(v, inst, ty)?;
        return Ok(Stmt::Let(v));
    }
    cursor.back_to(before);
    let (v, inst, ty) = cursor.definition()?;
    cursor.values.computed(v, inst, ty)?;
    Ok(Stmt::Let(v))
}
