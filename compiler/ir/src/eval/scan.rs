//! Running sums and products.

use super::index;
use super::number::{Number, by_class};
use crate::Result;
use crate::{CumulativeKind, Tensor};

pub(super) fn cumulative(
    x: &Tensor,
    kind: CumulativeKind,
    axis: usize,
    exclusive: bool,
    reverse: bool,
) -> Result<Tensor> {
    by_class!(x.dtype(), run(x, kind, axis, exclusive, reverse))
}

fn run<T: Number>(x: &Tensor, kind: CumulativeKind, axis: usize, exclusive: bool, reverse: bool) -> Result<Tensor> {
    let (outer, n, inner) = index::around(x.shape(), axis);
    let mut values = T::all(x);
    for o in 0..outer {
        for i in 0..inner {
            let mut acc = match kind {
                CumulativeKind::Sum => T::ZERO,
                CumulativeKind::Prod => T::ONE,
            };
            for j in 0..n {
                let j = if reverse { n - 1 - j } else { j };
                let at = &mut values[(o * n + j) * inner + i];
                let before = acc;
                acc = match kind {
                    CumulativeKind::Sum => acc.plus(*at),
                    CumulativeKind::Prod => T::ZERO.mul_add(acc, *at),
                };
                *at = if exclusive { before } else { acc };
            }
        }
    }
    T::tensor(x.dtype(), x.shape().to_vec(), &values)
}
