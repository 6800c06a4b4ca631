//! Finds how a reshape regroups axes.

use std::ops;

use mcc_ir::Dim;

/// Operand axes and result axes of a reshape that hold the same elements, independent of all other axes.
pub(crate) struct Block {
    pub(crate) from: ops::Range<usize>,
    pub(crate) to: ops::Range<usize>,
}

/// Splits a reshape into its finest independent blocks; `None` if symbols prevent that.
pub(crate) fn blocks(from: &[Dim], to: &[Dim]) -> Option<Vec<Block>> {
    if from.iter().chain(to).any(|d| d.is(0)) {
        return None;
    }
    let mut blocks = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < from.len() || j < to.len() {
        let (first_i, first_j) = (i, j);
        let (mut p, mut q) = (Dim::ONE, Dim::ONE);
        if i < from.len() {
            p = from[i].clone();
            i += 1;
        }
        if j < to.len() {
            q = to[j].clone();
            j += 1;
        }
        while p != q {
            let take_from = match (p.as_const(), q.as_const()) {
                (Some(p), Some(q)) => p < q,
                _ if q.exact_div(&p).is_some() => true,
                _ if p.exact_div(&q).is_some() => false,
                _ => return None,
            };
            if take_from {
                p = &p * from.get(i)?;
                i += 1;
            } else {
                q = &q * to.get(j)?;
                j += 1;
            }
        }
        blocks.push(Block { from: first_i..i, to: first_j..j });
    }
    Some(blocks)
}
