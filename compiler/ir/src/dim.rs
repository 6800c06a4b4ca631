//! Dimensions: integers, or integer expressions over symbols, kept in a normal form.
//!
//! A [`Dim`] is a polynomial with integer coefficients over atoms; an atom is a symbol or an operation that a
//! polynomial cannot express (floor division, minimum, ...). Equal polynomials compare equal: `(s + 1) - 1 == s`.
//! Arithmetic saturates at the ends of `i64`; sizes that overflow are reported where a tensor's bytes are counted. An
//! expression with more than [`MAX_SIZE`] parts becomes [`Dim::too_large`], and so does everything computed from it,
//! since a few nodes of a model can square a polynomial repeatedly.

mod rule;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Add, Mul, Neg, Sub};
use std::sync::Arc;

pub use rule::Rule;
pub(super) use text::{FUNCTIONS, is_plain};

/// A symbol's name, such as `batch`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sym(pub Arc<str>);

impl fmt::Display for Sym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A constant or symbolic integer.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Const(i64),
    /// Not a constant; no zero coefficients; the empty product is the constant term.
    Poly(Arc<BTreeMap<Vec<Atom>, i64>>, usize),
}

/// Maximum number of parts of an expression: terms, and factors with all their parts. Models' dimensions have some
/// dozens, the size of an arena with many buffers has thousands.
pub const MAX_SIZE: usize = 1 << 15;

/// The symbol of an expression with too many parts, which no input can bind.
const TOO_LARGE: &str = "(an expression that is too large)";

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    Sym(Sym),
    FloorDiv(Dim, Dim),
    Min(Dim, Dim),
    Max(Dim, Dim),
    IfNeg(Dim, Dim, Dim),
}

/// The outermost operation of an expression, for code that translates expressions.
pub enum DimNode<'a> {
    /// A constant.
    Const(i64),
    /// A symbol.
    Sym(&'a Sym),
    /// The sum of `coefficient * product of factors`.
    Sum(Vec<(i64, Vec<DimNode<'a>>)>),
    /// Division rounded towards negative infinity.
    FloorDiv(&'a Dim, &'a Dim),
    /// The smaller one.
    Min(&'a Dim, &'a Dim),
    /// The larger one.
    Max(&'a Dim, &'a Dim),
    /// `if .0 < 0 { .1 } else { .2 }`.
    IfNeg(&'a Dim, &'a Dim, &'a Dim),
}

impl Default for Dim {
    fn default() -> Dim {
        Dim::ZERO
    }
}

impl Dim {
    /// Zero.
    pub const ZERO: Dim = Dim(Repr::Const(0));
    /// One.
    pub const ONE: Dim = Dim(Repr::Const(1));

    /// The symbol of a name.
    pub fn sym(name: impl Into<Arc<str>>) -> Dim {
        Dim::atom(Atom::Sym(Sym(name.into())))
    }

    /// Its value when it is a constant.
    pub fn as_const(&self) -> Option<i64> {
        match self.0 {
            Repr::Const(c) => Some(c),
            Repr::Poly(..) => None,
        }
    }

    /// The replacement for an expression with more than [`MAX_SIZE`] parts.
    pub fn too_large() -> Dim {
        Dim::sym(TOO_LARGE)
    }

    /// Whether it is [`Dim::too_large`].
    pub fn is_too_large(&self) -> bool {
        let named = |atom: &Atom| matches!(atom, Atom::Sym(s) if &*s.0 == TOO_LARGE);
        matches!(&self.0, Repr::Poly(terms, 2) if terms.keys().flatten().any(named))
    }

    /// Number of parts.
    fn size(&self) -> usize {
        match self.0 {
            Repr::Const(_) => 0,
            Repr::Poly(_, size) => size,
        }
    }

    /// Number of terms.
    fn count(&self) -> usize {
        match &self.0 {
            Repr::Const(_) => 1,
            Repr::Poly(terms, _) => terms.len(),
        }
    }

    /// The symbol, if it is a bare one.
    pub fn as_sym(&self) -> Option<&Sym> {
        match self.visit() {
            DimNode::Sym(s) => Some(s),
            _ => None,
        }
    }

    /// Whether it is the constant `c`.
    pub fn is(&self, c: i64) -> bool {
        self.as_const() == Some(c)
    }

    /// Division rounded towards negative infinity. Division by a constant zero gives zero.
    pub fn floor_div(&self, by: &Dim) -> Dim {
        match (self.as_const(), by.as_const()) {
            (_, Some(1)) => return self.clone(),
            (_, Some(0)) => return Dim::ZERO,
            // Division of the least number by -1 overflows; arithmetic saturates.
            (Some(a), Some(-1)) => return Dim::from(a.saturating_neg()),
            (Some(a), Some(b)) => return Dim::from(a.div_euclid(b) - i64::from(b < 0 && a.rem_euclid(b) != 0)),
            (Some(0), _) => return Dim::ZERO,
            _ => {}
        }
        if self == by {
            return Dim::ONE;
        }
        if let Some(exact) = self.exact_div(by) {
            return exact;
        }
        // Multiples of the divisor are divided exactly, so that `(4*s+3)/4 == s` and `(s+2)/2 == s/2+1`.
        let (whole, rest) = match by.as_const() {
            Some(c) if c > 0 => self.split_multiples(c),
            _ => (Dim::ZERO, self.clone()),
        };
        match (rest.as_const(), by.as_const()) {
            // Both are constant, and the remainder is in `0..by`.
            (Some(_), Some(_)) => whole,
            _ => &whole + &Dim::atom(Atom::FloorDiv(rest, by.clone())),
        }
    }

    /// Quotient and remainder by a positive constant, term by term: products whose coefficient is not a multiple stay
    /// in the remainder, whose constant term is in `0..c`.
    fn split_multiples(&self, c: i64) -> (Dim, Dim) {
        let (mut whole, mut rest) = (BTreeMap::new(), BTreeMap::new());
        for (product, coefficient) in self.terms() {
            if product.is_empty() || coefficient % c == 0 {
                rest.insert(product.clone(), coefficient.rem_euclid(c));
                whole.insert(product, coefficient.div_euclid(c));
            } else {
                rest.insert(product, coefficient);
            }
        }
        (Dim::from_terms(whole), Dim::from_terms(rest))
    }

    /// Division rounded towards positive infinity.
    pub fn ceil_div(&self, by: &Dim) -> Dim {
        let lifted = self + &(by - &Dim::ONE);
        match self.exact_div(by) {
            Some(exact) => exact,
            None => lifted.floor_div(by),
        }
    }

    /// The smaller of both.
    pub fn lesser(&self, other: &Dim) -> Dim {
        match (self - other).as_const() {
            Some(d) if d <= 0 => self.clone(),
            Some(_) => other.clone(),
            None => Dim::atom(Atom::Min(self.clone(), other.clone())),
        }
    }

    /// The larger of both.
    pub fn greater(&self, other: &Dim) -> Dim {
        match (self - other).as_const() {
            Some(d) if d >= 0 => self.clone(),
            Some(_) => other.clone(),
            None => Dim::atom(Atom::Max(self.clone(), other.clone())),
        }
    }

    /// `if self < 0 { then } else { otherwise }`.
    pub fn if_neg(&self, then: &Dim, otherwise: &Dim) -> Dim {
        match self.as_const() {
            Some(c) if c < 0 => then.clone(),
            Some(_) => otherwise.clone(),
            None if then == otherwise => then.clone(),
            None => Dim::atom(Atom::IfNeg(self.clone(), then.clone(), otherwise.clone())),
        }
    }

    /// The quotient, if every coefficient is a multiple of a constant, or a product cancels exactly.
    pub fn exact_div(&self, by: &Dim) -> Option<Dim> {
        let (factors, coefficient) = match &by.0 {
            Repr::Const(c) => (Vec::new(), *c),
            Repr::Poly(p, _) if p.len() == 1 => p.iter().next().map(|(m, c)| (m.clone(), *c))?,
            Repr::Poly(..) => return None,
        };
        if coefficient == 0 {
            return None;
        }
        let mut terms = BTreeMap::new();
        for (mut product, c) in self.terms() {
            if c.checked_rem(coefficient)? != 0 {
                return None;
            }
            for f in &factors {
                product.remove(product.iter().position(|x| x == f)?);
            }
            terms.insert(product, c / coefficient);
        }
        Some(Dim::from_terms(terms))
    }

    /// The expression's outermost operation.
    pub fn visit(&self) -> DimNode<'_> {
        match &self.0 {
            Repr::Const(c) => DimNode::Const(*c),
            Repr::Poly(p, _) => match p.iter().next() {
                Some((m, 1)) if p.len() == 1 && m.len() == 1 => m[0].visit(),
                _ => DimNode::Sum(p.iter().map(|(m, c)| (*c, m.iter().map(Atom::visit).collect())).collect()),
            },
        }
    }

    /// All its symbols.
    pub fn symbols(&self) -> BTreeSet<Sym> {
        let mut found = BTreeSet::new();
        self.collect_symbols(&mut found);
        found
    }

    /// The value, if `bind` returns one for every symbol.
    pub fn eval(&self, bind: &dyn Fn(&Sym) -> Option<i64>) -> Option<i64> {
        self.substitute(&|s| bind(s).map(Dim::from)).as_const()
    }

    /// The expression with the symbols replaced for which `bind` returns a replacement.
    pub fn substitute(&self, bind: &dyn Fn(&Sym) -> Option<Dim>) -> Dim {
        match &self.0 {
            Repr::Const(_) => self.clone(),
            Repr::Poly(p, _) => p.iter().fold(Dim::ZERO, |sum, (product, c)| {
                let term = product.iter().fold(Dim::from(*c), |acc, a| &acc * &a.substitute(bind));
                &sum + &term
            }),
        }
    }

    fn collect_symbols(&self, found: &mut BTreeSet<Sym>) {
        if let Repr::Poly(p, _) = &self.0 {
            for atom in p.keys().flatten() {
                match atom {
                    Atom::Sym(s) => {
                        found.insert(s.clone());
                    }
                    Atom::FloorDiv(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                        a.collect_symbols(found);
                        b.collect_symbols(found);
                    }
                    Atom::IfNeg(a, b, c) => {
                        a.collect_symbols(found);
                        b.collect_symbols(found);
                        c.collect_symbols(found);
                    }
                }
            }
        }
    }

    fn atom(atom: Atom) -> Dim {
        Dim::from_terms(BTreeMap::from([(vec![atom], 1)]))
    }

    fn terms(&self) -> Vec<(Vec<Atom>, i64)> {
        match &self.0 {
            Repr::Const(0) => Vec::new(),
            Repr::Const(c) => vec![(Vec::new(), *c)],
            Repr::Poly(p, _) => p.iter().map(|(m, c)| (m.clone(), *c)).collect(),
        }
    }

    fn from_terms(mut terms: BTreeMap<Vec<Atom>, i64>) -> Dim {
        terms.retain(|_, c| *c != 0);
        match terms.first_key_value() {
            None => Dim::ZERO,
            Some((product, c)) if product.is_empty() && terms.len() == 1 => Dim(Repr::Const(*c)),
            Some(_) => {
                let size = terms.keys().map(|product| 1 + product.iter().map(Atom::size).sum::<usize>()).sum();
                if size > MAX_SIZE { Dim::too_large() } else { Dim(Repr::Poly(Arc::new(terms), size)) }
            }
        }
    }
}

impl Atom {
    /// Number of parts; an expression that contains one that is too large is too large itself.
    fn size(&self) -> usize {
        let part = |d: &Dim| if d.is_too_large() { MAX_SIZE } else { d.size() };
        match self {
            Atom::Sym(_) => 1,
            Atom::FloorDiv(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => 1 + part(a) + part(b),
            Atom::IfNeg(a, b, c) => 1 + part(a) + part(b) + part(c),
        }
    }

    fn visit(&self) -> DimNode<'_> {
        match self {
            Atom::Sym(s) => DimNode::Sym(s),
            Atom::FloorDiv(a, b) => DimNode::FloorDiv(a, b),
            Atom::Min(a, b) => DimNode::Min(a, b),
            Atom::Max(a, b) => DimNode::Max(a, b),
            Atom::IfNeg(a, b, c) => DimNode::IfNeg(a, b, c),
        }
    }

    fn substitute(&self, bind: &dyn Fn(&Sym) -> Option<Dim>) -> Dim {
        match self {
            Atom::Sym(s) => bind(s).unwrap_or_else(|| Dim::atom(self.clone())),
            _ => self.map(&|d| d.substitute(bind)),
        }
    }

    /// The operation applied to `f` of its operands.
    fn map(&self, f: &dyn Fn(&Dim) -> Dim) -> Dim {
        match self {
            Atom::Sym(_) => Dim::atom(self.clone()),
            Atom::FloorDiv(a, b) => f(a).floor_div(&f(b)),
            Atom::Min(a, b) => f(a).lesser(&f(b)),
            Atom::Max(a, b) => f(a).greater(&f(b)),
            Atom::IfNeg(a, b, c) => f(a).if_neg(&f(b), &f(c)),
        }
    }
}

impl From<i64> for Dim {
    fn from(c: i64) -> Dim {
        Dim(Repr::Const(c))
    }
}

impl From<usize> for Dim {
    fn from(c: usize) -> Dim {
        Dim(Repr::Const(i64::try_from(c).unwrap_or(i64::MAX)))
    }
}

impl Add for &Dim {
    type Output = Dim;
    fn add(self, other: &Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.as_const(), other.as_const()) {
            return Dim::from(a.saturating_add(b));
        }
        if self.is_too_large() || other.is_too_large() {
            return Dim::too_large();
        }
        let mut terms: BTreeMap<_, i64> = self.terms().into_iter().collect();
        for (product, c) in other.terms() {
            let slot = terms.entry(product).or_default();
            *slot = slot.saturating_add(c);
        }
        Dim::from_terms(terms)
    }
}

impl Sub for &Dim {
    type Output = Dim;
    fn sub(self, other: &Dim) -> Dim {
        self + &-other
    }
}

impl Neg for &Dim {
    type Output = Dim;
    fn neg(self) -> Dim {
        &Dim::from(-1i64) * self
    }
}

impl Mul for &Dim {
    type Output = Dim;
    fn mul(self, other: &Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.as_const(), other.as_const()) {
            return Dim::from(a.saturating_mul(b));
        }
        if self.is_too_large() || other.is_too_large() || self.count() * other.count() > 8 * MAX_SIZE {
            return Dim::too_large();
        }
        let mut terms: BTreeMap<_, i64> = BTreeMap::new();
        for (p, a) in self.terms() {
            for (q, b) in other.terms() {
                let mut product = [p.as_slice(), q.as_slice()].concat();
                product.sort();
                let slot = terms.entry(product).or_default();
                *slot = slot.saturating_add(a.saturating_mul(b));
            }
        }
        Dim::from_terms(terms)
    }
}

impl std::iter::Product for Dim {
    fn product<I: Iterator<Item = Dim>>(iter: I) -> Dim {
        iter.fold(Dim::ONE, |a, b| &a * &b)
    }
}

impl<'a> std::iter::Product<&'a Dim> for Dim {
    fn product<I: Iterator<Item = &'a Dim>>(iter: I) -> Dim {
        iter.fold(Dim::ONE, |a, b| &a * b)
    }
}

impl std::iter::Sum for Dim {
    fn sum<I: Iterator<Item = Dim>>(iter: I) -> Dim {
        iter.fold(Dim::ZERO, |a, b| &a + &b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_form() {
        let s = Dim::sym("s");
        assert_eq!(&(&s + &Dim::ONE) - &Dim::ONE, s);
        let four = Dim::from(4i64);
        assert_eq!((&s * &four).floor_div(&four), s);
        assert_eq!((&s * &four).floor_div(&s), four);
        assert_eq!((&(&s * &four) + &Dim::ONE).to_string(), "4*s+1");
        assert_eq!(s.greater(&(&s + &Dim::ONE)), &s + &Dim::ONE);
        assert_eq!((&s - &s), Dim::ZERO);
        assert_eq!(Dim::from(-7i64).floor_div(&Dim::from(2i64)), Dim::from(-4i64));
        assert_eq!(Dim::from(7i64).floor_div(&Dim::from(-2i64)), Dim::from(-4i64));
        assert_eq!(Dim::from(7i64).ceil_div(&Dim::from(2i64)), Dim::from(4i64));
        let two = Dim::from(2i64);
        assert_eq!((&(&s * &four) + &Dim::from(3i64)).floor_div(&four), s);
        assert_eq!((&s + &two).floor_div(&two), &s.floor_div(&two) + &Dim::ONE);
        assert_eq!(&(&s - &Dim::ONE).floor_div(&two) + &Dim::ONE, (&s + &Dim::ONE).floor_div(&two));
        let e = (&s + &Dim::ONE).floor_div(&two);
        assert_eq!(e.eval(&|_| Some(6)), Some(3));
    }

    #[test]
    fn the_ends_of_the_range_do_not_trap() {
        let (least, minus) = (Dim::from(i64::MIN), Dim::from(-1i64));
        let most = Dim::from(i64::MAX);
        assert_eq!(least.floor_div(&minus), most);
        assert_eq!(-&least, most);
        assert_eq!(least.exact_div(&minus), None);
        assert_eq!(&least - &Dim::ONE, least);
        let s = &Dim::sym("s") * &least;
        assert_eq!(s.exact_div(&minus), None);
        let _ = (s.floor_div(&minus), s.ceil_div(&minus), s.floor_div(&least));
    }

    #[test]
    fn expressions_do_not_grow_without_bound() {
        let mut squares = &Dim::sym("a") + &Dim::sym("b");
        let mut nested = Dim::sym("n");
        for _ in 0..100 {
            squares = &squares * &squares;
            nested = nested.lesser(&(&nested.floor_div(&Dim::from(3i64)) + &Dim::sym("m")));
        }
        assert!(squares.is_too_large() && nested.is_too_large());
        assert!(squares.floor_div(&Dim::from(2i64)).to_string().len() < 200);
    }
}
