//! Dimensions in kernels: computed once, at entry.

use super::Builder;
use crate::kir::{Bin, Cmp, Inst, Ty, Val};
use mcc_ir::{Dim, DimNode};

impl Builder {
    /// A dimension: a constant, or computed once at the kernel's entry.
    pub fn dim(&mut self, d: &Dim) -> Val {
        if let Some(c) = d.as_const() {
            return self.int(c);
        }
        if let Some(&v) = self.dims.get(d) {
            return v;
        }
        let was = std::mem::replace(&mut self.hoisting, true);
        let v = self.dim_node(d.visit());
        self.hoisting = was;
        self.dims.insert(d.clone(), v);
        v
    }

    fn dim_node(&mut self, node: DimNode<'_>) -> Val {
        match node {
            DimNode::Const(c) => self.int(c),
            DimNode::Sym(s) => {
                let n = self.kernel.symbols.iter().position(|x| x == s).unwrap_or_else(|| {
                    self.kernel.symbols.push(s.clone());
                    self.kernel.symbols.len() - 1
                });
                self.entry_value(Inst::Symbol(n as u32), Ty::I64)
            }
            DimNode::Sum(terms) => {
                let mut sum = self.int(0);
                for (c, factors) in terms {
                    let mut term = self.int(c);
                    for f in factors {
                        let f = self.dim_node(f);
                        term = self.mul(term, f);
                    }
                    sum = self.add(sum, term);
                }
                sum
            }
            DimNode::FloorDiv(a, b) => {
                let (a, b) = (self.dim(a), self.dim(b));
                if let Some(&known) = self.quotients.get(&(a, b)) {
                    return known;
                }
                let quotient = self.floor_div(a, b);
                self.quotients.insert((a, b), quotient);
                quotient
            }
            DimNode::Min(a, b) => {
                let (a, b) = (self.dim(a), self.dim(b));
                self.bin(Bin::Min, a, b)
            }
            DimNode::Max(a, b) => {
                let (a, b) = (self.dim(a), self.dim(b));
                self.bin(Bin::Max, a, b)
            }
            DimNode::IfNeg(c, a, b) => {
                let (c, a, b) = (self.dim(c), self.dim(a), self.dim(b));
                let zero = self.int(0);
                let negative = self.cmp(Cmp::Lt, c, zero);
                self.select(negative, a, b)
            }
        }
    }

    /// Floor division of `i64`s; a zero divisor gives zero, and the smallest number divided by -1 gives itself.
    pub fn floor_div(&mut self, a: Val, b: Val) -> Val {
        if let (Some(x), Some(y)) = (self.as_int(a), self.as_int(b)) {
            let d = Dim::from(x).floor_div(&Dim::from(y)).as_const().unwrap_or(0);
            return self.int(d);
        }
        if let Some(y) = self.as_int(b).filter(|&y| y > 0 && (y as u64).is_power_of_two()) {
            let bits = self.int(i64::from(y.trailing_zeros()));
            return self.bin(Bin::Sar, a, bits);
        }
        let (zero, one) = (self.int(0), self.int(1));
        if self.as_int(b).is_some_and(|y| y > 0) {
            return self.rounded_down(a, b);
        }
        // Machines cannot divide by these two.
        let minus_one = self.int(-1);
        let (by_zero, by_minus_one) = (self.cmp(Cmp::Eq, b, zero), self.cmp(Cmp::Eq, b, minus_one));
        let special = self.bin(Bin::Or, by_zero, by_minus_one);
        let safe = self.select(special, one, b);
        let floor = self.rounded_down(a, safe);
        let negative = self.sub(zero, a);
        let quotient = self.select(by_minus_one, negative, floor);
        self.select(by_zero, zero, quotient)
    }

    /// `a / b` rounded down, where a machine can divide.
    fn rounded_down(&mut self, a: Val, safe: Val) -> Val {
        let zero = self.int(0);
        let one = self.int(1);
        let quotient = self.bin(Bin::Div, a, safe);
        let remainder = self.bin(Bin::Rem, a, safe);
        let inexact = self.cmp(Cmp::Ne, remainder, zero);
        let signs = self.bin(Bin::Xor, remainder, safe);
        let differ = self.cmp(Cmp::Lt, signs, zero);
        let down = self.bin(Bin::And, inexact, differ);
        let lower = self.sub(quotient, one);
        self.select(down, lower, quotient)
    }
}
