//! Kernels to text.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter, Write};

use super::words::{self, Word};
use crate::ir::Sym;
use crate::ir::text::escape;
use crate::lower::kir::{Addr, Inst, Kernel, Stmt, Ty, Val, is_part};

impl Display for Ty {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.elem.word())?;
        if self.lanes == 1 { Ok(()) } else { write!(f, "x{}", self.lanes) }
    }
}

impl Display for Val {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut printer = Printer { kernel: self, literals: HashMap::new() };
        printer.collect(&self.body);
        let pointers: Vec<String> = (0..self.pointers).map(|n| format!("p{n}")).collect();
        write!(f, "kernel {}({}", symbol(&Sym(self.name.as_str().into())), pointers.join(", "))?;
        for (i, s) in self.symbols.iter().enumerate() {
            write!(f, "{} {}", if i == 0 { ";" } else { "," }, symbol(s))?;
        }
        writeln!(f, ")")?;
        printer.block(f, &self.body, 1)
    }
}

/// A kernel on its way to text.
pub(super) struct Printer<'a> {
    kernel: &'a Kernel,
    /// The value that each literal stands for.
    literals: HashMap<(&'a Inst, Ty), Val>,
}

/// What an instruction or statement is made of.
pub(super) trait Show {
    fn show(&self, printer: &Printer<'_>) -> String;
}

/// Most characters of a line of literals.
const WIDTH: usize = 110;

impl<'a> Printer<'a> {
    pub(super) fn operand(&self, operand: &impl Show) -> String {
        operand.show(self)
    }

    fn collect(&mut self, body: &'a [Stmt]) {
        for stmt in body {
            if let Stmt::Let(v) = stmt
                && let Some((inst, ty)) = self.kernel.insts.get(v.0 as usize)
                && is_literal(inst)
            {
                self.literals.entry((inst, *ty)).or_insert(*v);
            }
            stmt.blocks().into_iter().for_each(|block| self.collect(block));
        }
    }

    /// A literal's text.
    fn literal(&self, inst: &Inst, ty: Ty) -> Option<String> {
        let text = match inst {
            Inst::Pointer(n) => format!("p{n}"),
            Inst::Symbol(n) => match self.kernel.symbols.get(*n as usize) {
                Some(s) => symbol(s),
                None => format!("symbol{n}"),
            },
            Inst::Int(c) => c.to_string(),
            Inst::Float(bits) => match f64::from_bits(*bits) {
                // Of NaNs only one has a name.
                v if v.is_nan() && *bits != f64::NAN.to_bits() => format!("{bits:#x}"),
                v => format!("{v:?}"),
            },
            _ => return None,
        };
        Some(if ty == Ty::I64 { text } else { format!("{text}:{ty}") })
    }

    /// Behind a value that a statement defines: its type, where it is not the usual one.
    fn unusual(&self, v: Val, usual: Option<Ty>) -> String {
        let own = self.ty(v);
        if own == usual { String::new() } else { own.map_or_else(String::new, |ty| format!(": {ty}")) }
    }

    fn ty(&self, v: Val) -> Option<Ty> {
        self.kernel.insts.get(v.0 as usize).map(|(_, ty)| *ty)
    }

    fn block(&self, f: &mut Formatter<'_>, body: &[Stmt], depth: usize) -> fmt::Result {
        let show = |v: &Val| self.operand(v);
        let indent = "  ".repeat(depth);
        let mut literals = String::new();
        for stmt in body {
            if let Some(text) = self.definition(stmt) {
                if !literals.is_empty() && literals.len() + text.len() > WIDTH {
                    writeln!(f, "{indent}{literals}")?;
                    literals.clear();
                }
                let separator = if literals.is_empty() { "" } else { "; " };
                let _ = write!(literals, "{separator}{text}");
                continue;
            }
            if !literals.is_empty() {
                writeln!(f, "{indent}{literals}")?;
                literals.clear();
            }
            write!(f, "{indent}")?;
            match stmt {
                Stmt::Let(v) => match self.kernel.insts.get(v.0 as usize) {
                    Some((inst, ty)) => {
                        writeln!(f, "{v}: {ty} = {}", words::show(inst, self).unwrap_or_default())?;
                    }
                    None => writeln!(f, "{v} = ?")?,
                },
                Stmt::Store(to, v) => writeln!(f, "store {}, {}", self.operand(to), show(v))?,
                Stmt::StorePart(to, v, count) => {
                    writeln!(f, "store_part {}, {}, {}", self.operand(to), show(v), show(count))?;
                }
                Stmt::Prefetch(at) => writeln!(f, "prefetch {}", self.operand(at))?,
                Stmt::Copy { to, from, bytes } => writeln!(f, "copy {}, {}, {}", show(to), show(from), show(bytes))?,
                Stmt::Zero { to, bytes } => writeln!(f, "zero {}, {}", show(to), show(bytes))?,
                Stmt::For { index, start, end, step, carried, body } => {
                    let unusual = self.unusual(*index, Some(Ty::I64));
                    write!(f, "for {index}{unusual} = {} to {} step {step}", show(start), show(end))?;
                    for c in carried {
                        write!(f, ", {}{} = {}", c.inner, self.unusual(c.inner, self.ty(c.init)), show(&c.init))?;
                    }
                    writeln!(f)?;
                    self.block(f, body, depth + 1)?;
                    if !carried.is_empty() {
                        let next: Vec<String> = carried.iter().map(|c| show(&c.next)).collect();
                        let result = |v: Val, usual: Val| format!("{v}{}", self.unusual(v, self.ty(usual)));
                        let results: Vec<String> = carried.iter().map(|c| result(c.result, c.inner)).collect();
                        writeln!(f, "{indent}next {} giving {}", next.join(", "), results.join(", "))?;
                    }
                }
                Stmt::If { condition, then, otherwise, results } => {
                    writeln!(f, "if {}", show(condition))?;
                    self.block(f, then, depth + 1)?;
                    if !otherwise.is_empty() {
                        writeln!(f, "{indent}else")?;
                        self.block(f, otherwise, depth + 1)?;
                    }
                    let result = |(result, a, b): &(Val, Val, Val)| {
                        format!("{result}{} = {} or {}", self.unusual(*result, self.ty(*a)), show(a), show(b))
                    };
                    if !results.is_empty() {
                        let results: Vec<String> = results.iter().map(result).collect();
                        writeln!(f, "{indent}giving {}", results.join(", "))?;
                    }
                }
            }
        }
        if literals.is_empty() { Ok(()) } else { writeln!(f, "{indent}{literals}") }
    }

    /// The definition of a literal.
    fn definition(&self, stmt: &Stmt) -> Option<String> {
        let Stmt::Let(v) = stmt else { return None };
        let (inst, ty) = self.kernel.insts.get(v.0 as usize)?;
        self.literal(inst, *ty).map(|text| format!("{v} = {text}"))
    }
}

/// Whether an instruction is written where it is used.
fn is_literal(inst: &Inst) -> bool {
    matches!(inst, Inst::Pointer(_) | Inst::Symbol(_) | Inst::Int(_) | Inst::Float(_))
}

/// A symbol's name, in quotes where it could be taken for something else.
fn symbol(s: &Sym) -> String {
    let numbered = |prefix: &str| {
        let number = s.0.strip_prefix(prefix);
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit()))
    };
    let taken = ["p", "v", "symbol"].into_iter().any(numbered) || matches!(&*s.0, "inf" | "NaN");
    if is_part(s) || s.is_plain() && !taken { s.0.to_string() } else { format!("'{}'", escape(&s.0, '\'')) }
}

/// A value's name, or the literal that it is.
impl Show for Val {
    fn show(&self, printer: &Printer<'_>) -> String {
        let literal = printer.kernel.insts.get(self.0 as usize).and_then(|(inst, ty)| {
            let same = printer.literals.get(&(inst, *ty)) == Some(self);
            if same { printer.literal(inst, *ty) } else { None }
        });
        literal.unwrap_or_else(|| self.to_string())
    }
}

impl Show for Addr {
    fn show(&self, printer: &Printer<'_>) -> String {
        let mut text = format!("[{}", self.base.show(printer));
        if let Some(index) = self.index {
            let _ = write!(text, " + {}*{}", index.show(printer), self.scale);
        }
        if self.offset != 0 {
            let sign = if self.offset < 0 { '-' } else { '+' };
            let _ = write!(text, " {sign} {}", self.offset.unsigned_abs());
        }
        text + "]"
    }
}

impl Show for u8 {
    fn show(&self, _: &Printer<'_>) -> String {
        self.to_string()
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self, printer: &Printer<'_>) -> String {
        format!("[{}]", self.iter().map(|item| item.show(printer)).collect::<Vec<_>>().join(", "))
    }
}
