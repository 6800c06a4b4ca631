//! Values, addresses and literals as text.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter, Write};

use super::words::Word;
use crate::kir::{Addr, Inst, Kernel, Stmt, Ty, Val, is_part};
use mcc_ir::Sym;
use mcc_ir::text::escape;

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

/// The names of a kernel's values.
pub(super) struct Operands<'a> {
    kernel: &'a Kernel,
    /// The value of each literal.
    literals: HashMap<(&'a Inst, Ty), Val>,
}

/// Parts of an instruction or statement.
pub(super) trait Show {
    fn text(&self, operands: &Operands<'_>) -> String;
}

impl<'a> Operands<'a> {
    pub(super) fn of(kernel: &'a Kernel) -> Operands<'a> {
        let mut operands = Operands { kernel, literals: HashMap::new() };
        operands.collect(&kernel.body);
        operands
    }

    pub(super) fn show(&self, operand: &impl Show) -> String {
        operand.text(self)
    }

    fn collect(&mut self, body: &'a [Stmt]) {
        for stmt in body {
            if let Stmt::Let(v) = stmt
                && let Some((inst, ty)) = self.value(*v)
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
                // Only one NaN has a name.
                v if v.is_nan() && *bits != f64::NAN.to_bits() => format!("{bits:#x}"),
                v => format!("{v:?}"),
            },
            _ => return None,
        };
        Some(if ty == Ty::I64 { text } else { format!("{text}:{ty}") })
    }

    pub(super) fn value(&self, v: Val) -> Option<&'a (Inst, Ty)> {
        self.kernel.insts.get(v.0 as usize)
    }

    pub(super) fn ty(&self, v: Val) -> Option<Ty> {
        self.value(v).map(|(_, ty)| *ty)
    }

    /// The definition of a literal.
    pub(super) fn definition(&self, stmt: &Stmt) -> Option<String> {
        let Stmt::Let(v) = stmt else { return None };
        let (inst, ty) = self.value(*v)?;
        self.literal(inst, *ty).map(|text| format!("{v} = {text}"))
    }
}

/// Whether an instruction is written at its uses.
fn is_literal(inst: &Inst) -> bool {
    matches!(inst, Inst::Pointer(_) | Inst::Symbol(_) | Inst::Int(_) | Inst::Float(_))
}

/// A symbol's name, quoted if it is ambiguous.
pub(super) fn symbol(s: &Sym) -> String {
    let numbered = |prefix: &str| {
        let number = s.0.strip_prefix(prefix);
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit()))
    };
    let taken = ["p", "v", "symbol"].into_iter().any(numbered) || matches!(&*s.0, "inf" | "NaN");
    if is_part(s) || s.is_plain() && !taken { s.0.to_string() } else { format!("'{}'", escape(&s.0, '\'')) }
}

/// A value's name, or its literal.
impl Show for Val {
    fn text(&self, operands: &Operands<'_>) -> String {
        let literal = operands.value(*self).and_then(|(inst, ty)| {
            let same = operands.literals.get(&(inst, *ty)) == Some(self);
            if same { operands.literal(inst, *ty) } else { None }
        });
        literal.unwrap_or_else(|| self.to_string())
    }
}

impl Show for Addr {
    fn text(&self, operands: &Operands<'_>) -> String {
        let mut text = format!("[{}", self.base.text(operands));
        if let Some(index) = self.index {
            let _ = write!(text, " + {}*{}", index.text(operands), self.scale);
        }
        if self.offset != 0 {
            let sign = if self.offset < 0 { '-' } else { '+' };
            let _ = write!(text, " {sign} {}", self.offset.unsigned_abs());
        }
        text + "]"
    }
}

impl Show for u8 {
    fn text(&self, _: &Operands<'_>) -> String {
        self.to_string()
    }
}

impl<T: Show> Show for Vec<T> {
    fn text(&self, operands: &Operands<'_>) -> String {
        format!("[{}]", self.iter().map(|item| item.text(operands)).collect::<Vec<_>>().join(", "))
    }
}
