//! Dimension expressions as CLIF.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

use mcc_ir::{Dim, DimNode, Sym};

/// Values of symbols, and of the expressions computed from them so far. These values must dominate every later use: it
/// is for straight-line code.
#[derive(Debug, Clone, Default)]
pub struct Dims {
    symbols: HashMap<Sym, Value>,
    computed: HashMap<Dim, Number>,
    detects_overflow: bool,
}

/// An `i64`.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    /// Its value, wrapped on overflow.
    pub value: Value,
    /// Whether it overflowed, an `i8` that is 0 or 1; `None` if it cannot, or overflow is not detected.
    pub overflow: Option<Value>,
}

impl From<Value> for Number {
    fn from(value: Value) -> Number {
        Number { value, overflow: None }
    }
}

impl Dims {
    /// Without symbols; detects which numbers overflow.
    pub fn detecting_overflow() -> Dims {
        Dims { detects_overflow: true, ..Dims::default() }
    }

    /// Binds a symbol to a value, from here on.
    pub fn bind(&mut self, symbol: &Sym, value: Value) {
        if self.symbols.insert(symbol.clone(), value).is_some() {
            self.computed.retain(|d, _| !d.symbols().contains(symbol));
        }
    }

    /// A symbol's value; zero if it is not bound.
    pub fn symbol(&self, b: &mut FunctionBuilder<'_>, symbol: &Sym) -> Value {
        self.symbols.get(symbol).copied().unwrap_or_else(|| b.ins().iconst(types::I64, 0))
    }

    /// An expression's value.
    pub fn value(&mut self, b: &mut FunctionBuilder<'_>, dim: &Dim) -> Value {
        self.number(b, dim).value
    }

    /// An expression's value, and whether it overflows; for a choice, whether the selected operand does.
    pub fn number(&mut self, b: &mut FunctionBuilder<'_>, dim: &Dim) -> Number {
        if let Some(c) = dim.as_const() {
            return b.ins().iconst(types::I64, c).into();
        }
        if let Some(&n) = self.computed.get(dim) {
            return n;
        }
        let n = self.node(b, dim.visit());
        self.computed.insert(dim.clone(), n);
        n
    }

    fn node(&mut self, b: &mut FunctionBuilder<'_>, node: DimNode<'_>) -> Number {
        match node {
            DimNode::Const(c) => b.ins().iconst(types::I64, c).into(),
            DimNode::Sym(s) => self.symbol(b, s).into(),
            DimNode::Sum(terms) => {
                let mut sum: Option<Number> = None;
                for (c, factors) in terms {
                    let mut term: Option<Number> = None;
                    for factor in factors {
                        let f = self.node(b, factor);
                        term = Some(term.map_or(f, |t| self.times(b, t, f)));
                    }
                    let coefficient = |b: &mut FunctionBuilder<'_>| Number::from(b.ins().iconst(types::I64, c));
                    let term = match term {
                        None => coefficient(b),
                        Some(t) if c == 1 => t,
                        Some(t) => {
                            let c = coefficient(b);
                            self.times(b, t, c)
                        }
                    };
                    sum = Some(sum.map_or(term, |s| self.plus(b, s, term)));
                }
                sum.unwrap_or_else(|| b.ins().iconst(types::I64, 0).into())
            }
            DimNode::FloorDiv(x, y) => {
                let (dividend, divisor) = (self.number(b, x), self.number(b, y));
                match y.as_const() {
                    Some(c) if c > 0 => Number { value: floor_div(b, dividend.value, divisor.value), ..dividend },
                    _ => self.any_floor_div(b, dividend, divisor),
                }
            }
            DimNode::Min(x, y) => {
                let (x, y) = (self.number(b, x), self.number(b, y));
                Number { value: b.ins().smin(x.value, y.value), overflow: any(b, x.overflow, y.overflow) }
            }
            DimNode::Max(x, y) => {
                let (x, y) = (self.number(b, x), self.number(b, y));
                Number { value: b.ins().smax(x.value, y.value), overflow: any(b, x.overflow, y.overflow) }
            }
            DimNode::IfNeg(c, x, y) => {
                let (c, x, y) = (self.number(b, c), self.number(b, x), self.number(b, y));
                let negative = b.ins().icmp_imm_s(IntCC::SignedLessThan, c.value, 0);
                let value = b.ins().select(negative, x.value, y.value);
                // The operand that is not selected may overflow.
                let taken = match (x.overflow, y.overflow) {
                    (None, None) => None,
                    (x, y) => {
                        let no = b.ins().iconst(types::I8, 0);
                        Some(b.ins().select(negative, x.unwrap_or(no), y.unwrap_or(no)))
                    }
                };
                Number { value, overflow: any(b, c.overflow, taken) }
            }
        }
    }

    fn plus(&self, b: &mut FunctionBuilder<'_>, x: Number, y: Number) -> Number {
        if !self.detects_overflow {
            return b.ins().iadd(x.value, y.value).into();
        }
        let (value, overflow) = b.ins().sadd_overflow(x.value, y.value);
        let operands = any(b, x.overflow, y.overflow);
        Number { value, overflow: any(b, operands, Some(overflow)) }
    }

    fn times(&self, b: &mut FunctionBuilder<'_>, x: Number, y: Number) -> Number {
        if !self.detects_overflow {
            return b.ins().imul(x.value, y.value).into();
        }
        let (value, overflow) = b.ins().smul_overflow(x.value, y.value);
        let operands = any(b, x.overflow, y.overflow);
        Number { value, overflow: any(b, operands, Some(overflow)) }
    }

    /// Division by zero is zero; by -1 it is the negative, since machines cannot divide the smallest number by it.
    fn any_floor_div(&self, b: &mut FunctionBuilder<'_>, x: Number, y: Number) -> Number {
        let zero = b.ins().iconst(types::I64, 0);
        let one = b.ins().iconst(types::I64, 1);
        let by_zero = b.ins().icmp(IntCC::Equal, y.value, zero);
        let by_minus_one = b.ins().icmp_imm_s(IntCC::Equal, y.value, -1);
        let special = b.ins().bor(by_zero, by_minus_one);
        let safe = b.ins().select(special, one, y.value);
        let floor = floor_div(b, x.value, safe);
        let negative = b.ins().ineg(x.value);
        let quotient = b.ins().select(by_minus_one, negative, floor);
        let value = b.ins().select(by_zero, zero, quotient);
        let mut overflow = any(b, x.overflow, y.overflow);
        if self.detects_overflow {
            let least = b.ins().icmp_imm_s(IntCC::Equal, x.value, i64::MIN);
            let too_large = b.ins().band(least, by_minus_one);
            overflow = any(b, overflow, Some(too_large));
        }
        Number { value, overflow }
    }
}

/// Rounds down; the divisor is neither 0 nor -1.
fn floor_div(b: &mut FunctionBuilder<'_>, x: Value, y: Value) -> Value {
    let quotient = b.ins().sdiv(x, y);
    let product = b.ins().imul(quotient, y);
    let remainder = b.ins().isub(x, product);
    let inexact = b.ins().icmp_imm_s(IntCC::NotEqual, remainder, 0);
    let signs = b.ins().bxor(remainder, y);
    let differ = b.ins().icmp_imm_s(IntCC::SignedLessThan, signs, 0);
    let down = b.ins().band(inexact, differ);
    let lower = b.ins().iadd_imm_s(quotient, -1);
    b.ins().select(down, lower, quotient)
}

/// The disjunction of two optional conditions.
pub fn any(b: &mut FunctionBuilder<'_>, x: Option<Value>, y: Option<Value>) -> Option<Value> {
    match (x, y) {
        (Some(x), Some(y)) => Some(b.ins().bor(x, y)),
        (x, y) => x.or(y),
    }
}
