//! Bounds on dimensions with unknown symbols: intervals, monotonicity, and expressions as bounds.
//!
//! Extents are not negative; elements of inputs may be anything. If in doubt, results are "not certain".

use super::{Dim, DimNode, Sym};

/// Whether a symbol is an element of an input, which may be negative.
pub fn is_element(symbol: &str) -> bool {
    symbol.ends_with(']')
}

/// Whether a dimension depends on an input's elements.
pub fn has_element(d: &Dim) -> bool {
    d.symbols().iter().any(|s| is_element(&s.0))
}

/// The integers from `low` to `high`, both included; `None` if there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// The least one.
    pub low: Option<i64>,
    /// The greatest one.
    pub high: Option<i64>,
}

impl Interval {
    /// All integers.
    pub const ALL: Interval = Interval { low: None, high: None };
    /// All extents.
    pub const EXTENTS: Interval = Interval { low: Some(0), high: None };

    fn one(c: i64) -> Interval {
        Interval { low: Some(c), high: Some(c) }
    }

    fn plus(self, other: Interval) -> Interval {
        let add = |a: Option<i64>, b: Option<i64>| a?.checked_add(b?);
        Interval { low: add(self.low, other.low), high: add(self.high, other.high) }
    }

    fn times(self, other: Interval) -> Interval {
        match (self, other) {
            (Interval { low: Some(a), high }, Interval { low: Some(b), high: top }) if a >= 0 && b >= 0 => {
                // A product that overflows is at least the largest number.
                Interval { low: Some(a.saturating_mul(b)), high: high.zip(top).and_then(|(x, y)| x.checked_mul(y)) }
            }
            (Interval { low: Some(a), high: Some(b) }, Interval { low: Some(c), high: Some(d) }) => {
                let corners = [(a, c), (a, d), (b, c), (b, d)].map(|(x, y)| i128::from(x) * i128::from(y));
                let end = |v: Option<i128>| v.and_then(|v| i64::try_from(v).ok());
                Interval { low: end(corners.iter().copied().min()), high: end(corners.iter().copied().max()) }
            }
            _ => Interval::ALL,
        }
    }

    /// Multiplies by a number; an unlimited end stays unlimited.
    fn scaled(self, by: i64) -> Interval {
        let end = |v: Option<i64>| v?.checked_mul(by);
        match by {
            0 => Interval::one(0),
            1.. => Interval { low: end(self.low), high: end(self.high) },
            _ => Interval { low: end(self.high), high: end(self.low) },
        }
    }
}

/// The range of a dimension if every symbol is in the interval that `of` returns.
pub fn interval(d: &Dim, of: &dyn Fn(&Sym) -> Interval) -> Interval {
    node_interval(&d.visit(), of)
}

fn node_interval(node: &DimNode<'_>, of: &dyn Fn(&Sym) -> Interval) -> Interval {
    let at = |d: &Dim| interval(d, of);
    match node {
        DimNode::Const(c) => Interval::one(*c),
        DimNode::Sym(s) => of(s),
        DimNode::Sum(terms) => terms.iter().fold(Interval::one(0), |sum, (coefficient, factors)| {
            let product = factors.iter().map(|f| node_interval(f, of)).reduce(Interval::times);
            sum.plus(product.unwrap_or(Interval::one(1)).scaled(*coefficient))
        }),
        DimNode::FloorDiv(a, b) => {
            let (a, by) = (at(a), at(b));
            match b.as_const() {
                Some(c) if c > 0 => {
                    Interval { low: a.low.map(|l| l.div_euclid(c)), high: a.high.map(|h| h.div_euclid(c)) }
                }
                // Division by zero gives zero.
                _ if a.low.is_some_and(|l| l >= 0) && by.low.is_some_and(|l| l >= 0) => {
                    Interval { low: Some(0), high: a.high }
                }
                _ => Interval::ALL,
            }
        }
        DimNode::Min(a, b) => {
            let (a, b) = (at(a), at(b));
            Interval { low: a.low.zip(b.low).map(|(a, b)| a.min(b)), high: either(a.high, b.high, i64::min) }
        }
        DimNode::Max(a, b) => {
            let (a, b) = (at(a), at(b));
            Interval { low: either(a.low, b.low, i64::max), high: a.high.zip(b.high).map(|(a, b)| a.max(b)) }
        }
        DimNode::IfNeg(c, a, b) => {
            let (c, a, b) = (at(c), at(a), at(b));
            match c {
                Interval { low: Some(0..), .. } => b,
                Interval { high: Some(..=-1), .. } => a,
                _ => Interval {
                    low: a.low.zip(b.low).map(|(a, b)| a.min(b)),
                    high: a.high.zip(b.high).map(|(a, b)| a.max(b)),
                },
            }
        }
    }
}

fn either(a: Option<i64>, b: Option<i64>, both: fn(i64, i64) -> i64) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(both(a, b)),
        (a, b) => a.or(b),
    }
}

/// A lower bound of the dimension; extents are not negative.
pub fn lower_bound(d: &Dim) -> Option<i64> {
    interval(d, &|s| if is_element(&s.0) { Interval::ALL } else { Interval::EXTENTS }).low
}

/// The smaller one, without an operation at run time if it is certain.
pub fn min(a: &Dim, b: &Dim) -> Dim {
    match lower_bound(&(a - b)) {
        Some(l) if l >= 0 => b.clone(),
        _ if lower_bound(&(b - a)).is_some_and(|l| l >= 0) => a.clone(),
        _ => a.lesser(b),
    }
}

/// The larger one, without an operation at run time if it is certain.
pub fn max(a: &Dim, b: &Dim) -> Dim {
    match lower_bound(&(a - b)) {
        Some(l) if l >= 0 => a.clone(),
        _ if lower_bound(&(b - a)).is_some_and(|l| l >= 0) => b.clone(),
        _ => a.greater(b),
    }
}

/// Whether a dimension never decreases (`Some(true)`) or never increases (`Some(false)`) as its only symbol grows from
/// 0 on, if that is certain.
pub fn rises(d: &Dim) -> Option<bool> {
    node_rises(&d.visit())
}

fn node_rises(node: &DimNode<'_>) -> Option<bool> {
    let same = |a: &Dim, b: &Dim| match (a.as_const(), b.as_const()) {
        (Some(_), _) => rises(b),
        (_, Some(_)) => rises(a),
        _ => rises(a).filter(|r| rises(b) == Some(*r)),
    };
    match node {
        DimNode::Const(_) | DimNode::Sym(_) => Some(true),
        DimNode::Sum(terms) => {
            let mut all = None;
            for (coefficient, factors) in terms.iter().filter(|(_, f)| !f.is_empty()) {
                let nonnegative =
                    |f: &DimNode<'_>| node_interval(f, &|_| Interval::EXTENTS).low.is_some_and(|l| l >= 0);
                let term = match factors.as_slice() {
                    [one] => node_rises(one)?,
                    many if many.iter().all(|f| nonnegative(f) && node_rises(f) == Some(true)) => true,
                    _ => return None,
                };
                let term = term == (*coefficient > 0);
                if all.is_some_and(|all| all != term) {
                    return None;
                }
                all = Some(term);
            }
            Some(all.unwrap_or(true))
        }
        DimNode::FloorDiv(a, b) => match b.as_const()? {
            1.. => rises(a),
            ..=-1 => rises(a).map(|r| !r),
            0 => Some(true),
        },
        DimNode::Min(a, b) | DimNode::Max(a, b) => same(a, b),
        DimNode::IfNeg(..) => None,
    }
}

/// An upper bound of `d` as an expression without the symbols for which `of` returns the least and the greatest value.
pub fn upper(d: &Dim, of: &dyn Fn(&Sym) -> Option<(Dim, Dim)>) -> Dim {
    ends(&d.visit(), of).1
}

/// Expressions for the least and the greatest value of a dimension.
fn ends(node: &DimNode<'_>, of: &dyn Fn(&Sym) -> Option<(Dim, Dim)>) -> (Dim, Dim) {
    let at = |d: &Dim| {
        if d.symbols().iter().any(|s| of(s).is_some()) { ends(&d.visit(), of) } else { (d.clone(), d.clone()) }
    };
    match node {
        DimNode::Const(c) => (Dim::from(*c), Dim::from(*c)),
        DimNode::Sym(s) => of(s).unwrap_or_else(|| (Dim::sym(s.0.clone()), Dim::sym(s.0.clone()))),
        DimNode::Sum(terms) => terms.iter().fold((Dim::ZERO, Dim::ZERO), |(low, high), (coefficient, factors)| {
            let product = factors.iter().map(|f| ends(f, of)).reduce(|a, b| times(&a, &b));
            let (least, most) = product.unwrap_or((Dim::ONE, Dim::ONE));
            let c = Dim::from(*coefficient);
            let (least, most) = (&least * &c, &most * &c);
            let (least, most) = if *coefficient >= 0 { (least, most) } else { (most, least) };
            (&low + &least, &high + &most)
        }),
        DimNode::FloorDiv(a, b) => {
            let ((low, high), by) = (at(a), at(b));
            match by.0 == by.1 {
                true => hull(&[low.floor_div(&by.0), high.floor_div(&by.0)]),
                // A quotient is no farther from zero than its dividend.
                false => hull(&[-&low, -&high, low, high]),
            }
        }
        DimNode::Min(a, b) => {
            let (a, b) = (at(a), at(b));
            (a.0.lesser(&b.0), a.1.lesser(&b.1))
        }
        DimNode::Max(a, b) => {
            let (a, b) = (at(a), at(b));
            (a.0.greater(&b.0), a.1.greater(&b.1))
        }
        DimNode::IfNeg(_, a, b) => {
            let (a, b) = (at(a), at(b));
            hull(&[a.0, a.1, b.0, b.1])
        }
    }
}

fn times(a: &(Dim, Dim), b: &(Dim, Dim)) -> (Dim, Dim) {
    let certain = |d: &Dim| lower_bound(d).is_some_and(|l| l >= 0);
    if certain(&a.0) && certain(&b.0) {
        return (&a.0 * &b.0, &a.1 * &b.1);
    }
    hull(&[&a.0 * &b.0, &a.0 * &b.1, &a.1 * &b.0, &a.1 * &b.1])
}

fn hull(of: &[Dim]) -> (Dim, Dim) {
    let all = |f: fn(&Dim, &Dim) -> Dim| of.iter().skip(1).fold(of[0].clone(), |a, b| f(&a, b));
    (all(Dim::lesser), all(Dim::greater))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s() -> Dim {
        Dim::sym("s")
    }

    fn c(v: i64) -> Dim {
        Dim::from(v)
    }

    #[test]
    fn intervals() {
        let of = |low, high| move |_: &Sym| Interval { low: Some(low), high: Some(high) };
        let pooled = &(&s() - &c(3)).floor_div(&c(2)) + &Dim::ONE;
        assert_eq!(interval(&pooled, &of(3, 7)), Interval { low: Some(1), high: Some(3) });
        assert_eq!(interval(&(&c(7) - &s()), &of(0, 9)), Interval { low: Some(-2), high: Some(7) });
        assert_eq!(interval(&(&s() * &s()), &of(-2, 3)), Interval { low: Some(-6), high: Some(9) });
        assert_eq!(lower_bound(&(&s() - &c(3))), Some(-3));
        assert_eq!(lower_bound(&Dim::sym("x[0]").greater(&Dim::ZERO)), Some(0));
        assert_eq!(lower_bound(&Dim::sym("x[0]")), None);
    }

    #[test]
    fn monotony() {
        assert_eq!(rises(&(&s() - &c(3)).floor_div(&c(2))), Some(true));
        assert_eq!(rises(&(&c(3) - &s())), Some(false));
        assert_eq!(rises(&(&(&s() * &s()) - &s())), None);
        assert_eq!(rises(&s().lesser(&c(7))), Some(true));
        assert_eq!(rises(&s().if_neg(&c(1), &c(2))), None);
    }

    #[test]
    fn upper_bounds_of_what_falls_take_the_least() {
        let late = |x: &Sym| (&*x.0 == "count").then(|| (Dim::ZERO, Dim::sym("n")));
        let count = Dim::sym("count");
        assert_eq!(upper(&count, &late), Dim::sym("n"));
        assert_eq!(upper(&(&Dim::sym("n") - &count), &late), Dim::sym("n"));
        assert_eq!(upper(&(&count * &c(4)), &late), &Dim::sym("n") * &c(4));
        assert_eq!(upper(&s(), &late), s());
    }
}
