//! Axes: where a reshape moves one, and some of the indices along one.

use mcc_ir::{Dim, Result, Tensor};

/// The axis of a reshape's result that holds an axis of its operand.
#[derive(Debug, PartialEq, Eq)]
pub enum Moved {
    /// Index `i` of the operand is every index `(o * extent + i) * inner + n` of the result.
    Merged {
        /// The axis of the result.
        axis: usize,
        /// `n` is less than this.
        inner: usize,
    },
    /// Index `i` of the result is the operand's `i * inner + n` for `n < inner`.
    Split {
        /// The axis of the result.
        axis: usize,
        /// `n` is less than this.
        inner: usize,
    },
}

impl Moved {
    /// The axis of the result.
    pub fn axis(&self) -> usize {
        match *self {
            Moved::Merged { axis, .. } | Moved::Split { axis, .. } => axis,
        }
    }
}

/// Maximum multiple of a product of symbols that is tried.
const MAX_MULTIPLE: usize = 256;

/// The position of `axis` of `from` in `to`; of several candidates the one with the most indices.
pub fn moved(from: &[Dim], axis: usize, to: &[Dim]) -> Option<Moved> {
    let extent = usize::try_from(from[axis].as_const()?).ok().filter(|&e| e > 0)?;
    let before: Dim = from[..axis].iter().product();
    let mut best: Option<(usize, Moved)> = None;
    for b in 0..to.len() {
        let Some(size) = to[b].as_const().and_then(|s| usize::try_from(s).ok()).filter(|&s| s > 0) else { continue };
        let ahead: Dim = to[..b].iter().product();
        let place = if size % extent == 0 {
            let ratio = size / extent;
            // The result's axis may also hold indices of earlier axes.
            let quotient = before.exact_div(&ahead).and_then(|q| q.as_const()).and_then(|q| usize::try_from(q).ok());
            // Sums of products have no quotient; a multiple that fits is searched instead.
            let outer = (1..=ratio.min(MAX_MULTIPLE)).chain(quotient.filter(|q| (1..=ratio).contains(q)));
            let outer = outer.into_iter().find(|o| ratio.is_multiple_of(*o) && &ahead * &Dim::from(*o) == before);
            outer.map(|outer| Moved::Merged { axis: b, inner: ratio / outer })
        } else if extent % size == 0 && ahead == before {
            let rest: Dim = to[b..].iter().product();
            let old: Dim = from[axis..].iter().product();
            (rest == old && splits(&to[b + 1..], extent / size))
                .then_some(Moved::Split { axis: b, inner: extent / size })
        } else {
            None
        };
        if let Some(place) = place
            && best.as_ref().is_none_or(|(s, _)| size > *s)
        {
            best = Some((size, place));
        }
    }
    best.map(|(_, place)| place)
}

/// Whether the first axes hold exactly `inner` elements.
fn splits(shape: &[Dim], inner: usize) -> bool {
    let mut product = 1;
    for d in shape {
        if product == inner {
            return true;
        }
        let Some(d) = d.as_const().and_then(|d| usize::try_from(d).ok()) else { return false };
        product *= d;
    }
    product == inner
}

/// The elements of a constant at these indices along an axis.
///
/// # Errors
/// When the result has too many elements.
pub fn pick(t: &Tensor, axis: usize, indices: &[usize]) -> Result<Tensor> {
    let inner: usize = t.shape()[axis + 1..].iter().product::<usize>() * t.dtype().size();
    let outer: usize = t.shape()[..axis].iter().product();
    let extent = t.shape()[axis];
    if indices.len() == extent {
        return Ok(t.clone());
    }
    let mut data = Vec::with_capacity(outer * indices.len() * inner);
    for o in 0..outer {
        for &i in indices {
            let first = (o * extent + i) * inner;
            data.extend_from_slice(&t.data()[first..first + inner]);
        }
    }
    let mut shape = t.shape().to_vec();
    shape[axis] = indices.len();
    Tensor::new(t.dtype(), shape, data.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_merge_and_split() {
        let n = || Dim::sym("n");
        let d = |list: &[i64]| -> Vec<Dim> { std::iter::once(n()).chain(list.iter().map(|&i| Dim::from(i))).collect() };
        let place = |from: &[i64], axis, to: &[i64]| moved(&d(from), axis, &d(to));
        assert_eq!(place(&[8, 3, 3], 1, &[72]), Some(Moved::Merged { axis: 1, inner: 9 }));
        assert_eq!(place(&[8, 1, 1], 1, &[8]), Some(Moved::Merged { axis: 1, inner: 1 }));
        assert_eq!(place(&[8], 1, &[1, 8]), Some(Moved::Merged { axis: 2, inner: 1 }));
        assert_eq!(place(&[2, 8, 3], 2, &[48]), Some(Moved::Merged { axis: 1, inner: 3 }));
        assert_eq!(place(&[5, 12], 2, &[5, 3, 4]), Some(Moved::Split { axis: 2, inner: 4 }));
        assert_eq!(place(&[12, 5], 1, &[4, 3, 5]), Some(Moved::Split { axis: 1, inner: 3 }));
        assert_eq!(place(&[12, 5], 1, &[20, 3]), None);
        assert_eq!(place(&[5, 8], 2, &[8, 5]), None);
        let joined = moved(&d(&[5, 8]), 2, &[&n() * &Dim::from(5i64), Dim::from(8i64)]);
        assert_eq!(joined, Some(Moved::Merged { axis: 1, inner: 1 }));
    }
}
