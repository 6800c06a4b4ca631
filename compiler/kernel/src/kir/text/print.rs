//! Kernels to text.

use std::fmt::{self, Display, Formatter, Write};

use super::instructions;
use super::show::{Operands, symbol};
use crate::kir::{Carried, Kernel, Stmt, Ty, Val};
use mcc_ir::Sym;

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pointers: Vec<String> = (0..self.pointers).map(|n| format!("p{n}")).collect();
        write!(f, "kernel {}({}", symbol(&Sym(self.name.as_str().into())), pointers.join(", "))?;
        for (i, s) in self.symbols.iter().enumerate() {
            write!(f, "{} {}", if i == 0 { ";" } else { "," }, symbol(s))?;
        }
        writeln!(f, ")")?;
        block(f, &Operands::of(self), &self.body, 1)
    }
}

/// The most characters on a line of literals.
const WIDTH: usize = 110;

/// A value that a statement defines, with its type if that is not the usual one.
fn defined(operands: &Operands<'_>, v: Val, usual: Option<Ty>) -> String {
    match operands.ty(v) {
        Some(ty) if usual != Some(ty) => format!("{v}: {ty}"),
        _ => v.to_string(),
    }
}

fn block(f: &mut Formatter<'_>, operands: &Operands<'_>, body: &[Stmt], depth: usize) -> fmt::Result {
    let show = |v: &Val| operands.show(v);
    let indent = "  ".repeat(depth);
    let mut literals = String::new();
    for stmt in body {
        if let Some(text) = operands.definition(stmt) {
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
            Stmt::Let(v) => match operands.value(*v) {
                Some((inst, ty)) => {
                    writeln!(f, "{v}: {ty} = {}", instructions::show(inst, operands).unwrap_or_default())?;
                }
                None => writeln!(f, "{v} = ?")?,
            },
            Stmt::Store(to, v) => writeln!(f, "store {}, {}", operands.show(to), show(v))?,
            Stmt::StorePart(to, v, count) => {
                writeln!(f, "store_part {}, {}, {}", operands.show(to), show(v), show(count))?;
            }
            Stmt::Prefetch(at) => writeln!(f, "prefetch {}", operands.show(at))?,
            Stmt::Copy { to, from, bytes } => writeln!(f, "copy {}, {}, {}", show(to), show(from), show(bytes))?,
            Stmt::Zero { to, bytes } => writeln!(f, "zero {}, {}", show(to), show(bytes))?,
            Stmt::For { index, start, end, step, carried, body } => {
                let index = defined(operands, *index, Some(Ty::I64));
                write!(f, "for {index} = {} to {} step {step}", show(start), show(end))?;
                for c in carried {
                    write!(f, ", {} = {}", defined(operands, c.inner, operands.ty(c.init)), show(&c.init))?;
                }
                writeln!(f)?;
                block(f, operands, body, depth + 1)?;
                if !carried.is_empty() {
                    let next: Vec<String> = carried.iter().map(|c| show(&c.next)).collect();
                    let result = |c: &Carried| defined(operands, c.result, operands.ty(c.inner));
                    let results: Vec<String> = carried.iter().map(result).collect();
                    writeln!(f, "{indent}next {} giving {}", next.join(", "), results.join(", "))?;
                }
            }
            Stmt::If { condition, then, otherwise, results } => {
                writeln!(f, "if {}", show(condition))?;
                block(f, operands, then, depth + 1)?;
                if !otherwise.is_empty() {
                    writeln!(f, "{indent}else")?;
                    block(f, operands, otherwise, depth + 1)?;
                }
                let result = |(result, a, b): &(Val, Val, Val)| {
                    format!("{} = {} or {}", defined(operands, *result, operands.ty(*a)), show(a), show(b))
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
