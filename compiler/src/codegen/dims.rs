//! Dimension expressions as CLIF.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

use crate::ir::{Dim, DimNode, Sym};

/// Values of symbols, and of the expressions computed from them so far. What it holds must dominate every later use:
/// it is for straight-line code.
#[derive(Debug, Clone, Default)]
pub struct Dims {
    symbols: HashMap<Sym, Value>,
    computed: HashMap<Dim, Value>,
}

impl Dims {
    /// Gives a symbol a value, from here on.
    pub fn bind(&mut self, symbol: &Sym, value: Value) {
        if self.symbols.insert(symbol.clone(), value).is_some() {
            self.computed.retain(|d, _| !d.symbols().contains(symbol));
        }
    }

    /// A symbol's value; zero for one that is not bound.
    pub fn symbol(&self, b: &mut FunctionBuilder<'_>, symbol: &Sym) -> Value {
        self.symbols.get(symbol).copied().unwrap_or_else(|| b.ins().iconst(types::I64, 0))
    }

    /// An expression's value.
    pub fn value(&mut self, b: &mut FunctionBuilder<'_>, dim: &Dim) -> Value {
        if let Some(c) = dim.as_const() {
            return b.ins().iconst(types::I64, c);
        }
        if let Some(&v) = self.computed.get(dim) {
            return v;
        }
        let v = self.node(b, dim.visit());
        self.computed.insert(dim.clone(), v);
        v
    }

    fn node(&mut self, b: &mut FunctionBuilder<'_>, node: DimNode<'_>) -> Value {
        match node {
            DimNode::Const(c) => b.ins().iconst(types::I64, c),
            DimNode::Sym(s) => self.symbol(b, s),
            DimNode::Sum(terms) => {
                let mut sum = None;
                for (c, factors) in terms {
                    let mut term = None;
                    for factor in factors {
                        let f = self.node(b, factor);
                        term = Some(term.map_or(f, |t| b.ins().imul(t, f)));
                    }
                    let term = match term {
                        None => b.ins().iconst(types::I64, c),
                        Some(t) if c == 1 => t,
                        Some(t) => b.ins().imul_imm_s(t, c),
                    };
                    sum = Some(sum.map_or(term, |s| b.ins().iadd(s, term)));
                }
                sum.unwrap_or_else(|| b.ins().iconst(types::I64, 0))
            }
            DimNode::FloorDiv(x, y) => {
                let (x, y) = (self.value(b, x), self.value(b, y));
                let zero = b.ins().iconst(types::I64, 0);
                let one = b.ins().iconst(types::I64, 1);
                let by_zero = b.ins().icmp(IntCC::Equal, y, zero);
                let safe = b.ins().select(by_zero, one, y);
                let quotient = b.ins().sdiv(x, safe);
                let product = b.ins().imul(quotient, safe);
                let remainder = b.ins().isub(x, product);
                let inexact = b.ins().icmp(IntCC::NotEqual, remainder, zero);
                let signs = b.ins().bxor(remainder, safe);
                let differ = b.ins().icmp(IntCC::SignedLessThan, signs, zero);
                let down = b.ins().band(inexact, differ);
                let lower = b.ins().isub(quotient, one);
                let floor = b.ins().select(down, lower, quotient);
                b.ins().select(by_zero, zero, floor)
            }
            DimNode::Min(x, y) => {
                let (x, y) = (self.value(b, x), self.value(b, y));
                b.ins().smin(x, y)
            }
            DimNode::Max(x, y) => {
                let (x, y) = (self.value(b, x), self.value(b, y));
                b.ins().smax(x, y)
            }
            DimNode::IfNeg(c, x, y) => {
                let (c, x, y) = (self.value(b, c), self.value(b, x), self.value(b, y));
                let zero = b.ins().iconst(types::I64, 0);
                let negative = b.ins().icmp(IntCC::SignedLessThan, c, zero);
                b.ins().select(negative, x, y)
            }
        }
    }
}
