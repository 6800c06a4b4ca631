//! Rewriting of dimensions by an equality.

use super::{Atom, Dim, Repr, Sym};

/// A product of symbols and operations, and its replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    product: Vec<Atom>,
    value: Dim,
}

impl Rule {
    /// The rule that follows from two dimensions being equal: the product with the most factors in their difference is
    /// replaced by the other terms, if these are multiples of its coefficient. If the difference is a sum of symbols,
    /// there is no rule.
    pub fn equating(a: &Dim, b: &Dim) -> Option<Rule> {
        let terms = (a - b).terms();
        // Ordered by degree first, so that a product is replaced by products that come before it.
        let (product, coefficient) = terms.into_iter().max_by(|a, b| (a.0.len(), &a.0).cmp(&(b.0.len(), &b.0)))?;
        let whole = &(a - b) - &Dim::from_terms([(product.clone(), coefficient)].into());
        let value = (&Dim::ZERO - &whole).exact_div(&Dim::from(coefficient))?;
        let plain = value.as_const().is_some() || product.len() > 1;
        let rule = Rule { product, value };
        (plain && !rule.product.is_empty() && rule.once(&rule.value) == rule.value).then_some(rule)
    }

    /// The symbol that must be constant, and the constant.
    pub fn fixed(&self) -> Option<(&Sym, i64)> {
        match self.product.as_slice() {
            [Atom::Sym(s)] => Some((s, self.value.as_const()?)),
            _ => None,
        }
    }

    /// Applies the rule to a dimension.
    pub fn apply(&self, d: &Dim) -> Dim {
        let mut d = d.clone();
        // Every iteration leaves products that come before those it replaced.
        loop {
            let next = self.once(&d);
            if next == d {
                return d;
            }
            d = next;
        }
    }

    fn once(&self, d: &Dim) -> Dim {
        if matches!(d.0, Repr::Const(_)) {
            return d.clone();
        }
        let terms = d.terms().into_iter().map(|(mut factors, c)| {
            let mut term = Dim::from(c);
            while let Some(rest) = self.divide(&factors) {
                factors = rest;
                term = &term * &self.value;
            }
            factors.iter().fold(term, |term, atom| &term * &atom.map(&|inner| self.once(inner)))
        });
        terms.sum()
    }

    /// The remaining factors of a product that has all factors of the rule.
    fn divide(&self, factors: &[Atom]) -> Option<Vec<Atom>> {
        let mut rest = factors.to_vec();
        for atom in &self.product {
            rest.remove(rest.iter().position(|a| a == atom)?);
        }
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(equality: &str) -> Option<Rule> {
        let (a, b) = equality.split_once(" == ").unwrap();
        Rule::equating(&a.parse().unwrap(), &b.parse().unwrap())
    }

    #[test]
    fn equalities_say() {
        let said = |equality: &str, of: &str| rule(equality).unwrap().apply(&of.parse().unwrap()).to_string();
        assert_eq!(said("c == 3", "2*c*h+floordiv(c+1,2)"), "6*h+2");
        assert_eq!(said("2*c-4 == 6", "c"), "5");
        assert_eq!(said("3*h*w == 60", "n*h*w+7*h"), "7*h+20*n");
        assert_eq!(said("16*floordiv(h,2)*floordiv(w,2) == 64", "n*floordiv(h,2)*floordiv(w,2)"), "4*n");
        // (h - 2) * (w - 2) == 12, of 5 channels.
        assert_eq!(said("h*w-2*h-2*w+4 == 12", "5*h*w-10*h-10*w+20"), "60");
        assert_eq!(said("h*w-2*h-2*w+4 == 12", "h*h*w"), "12*h+2*h*h+4*w+16");
    }

    #[test]
    fn some_say_nothing() {
        for equality in ["2*c == 5", "h+w == 20", "3 == 3", "3 == 4", "2*h*w+3*h == 8"] {
            assert_eq!(rule(equality), None, "{equality}");
        }
        assert_eq!(rule("c == 3").unwrap().fixed(), Some((&Sym("c".into()), 3)));
        assert_eq!(rule("h*w == 3").unwrap().fixed(), None);
    }
}
