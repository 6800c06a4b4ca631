//! Finds output channels with non-zeros at the same places, as pruning in blocks of 4x1 or 2x1 weights, or of whole
//! windows, leaves them: by value, in any order within a block of output channels.

/// An order of output channels in which neighbours share the places of their non-zeros.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// The number of channels that share places.
    pub shared: usize,
    /// For each block of output channels, its channels in order.
    pub order: Vec<Vec<usize>>,
    /// Number of non-zeros, including zeros where only other channels have one.
    pub values: usize,
}

/// The non-zero weights of an output channel, one bit each.
type Support = Vec<u64>;

/// An order in which `shared` channels of each block share places; the original order if that is as good. `filters` are
/// the bits of the weights per output channel.
pub(crate) fn order<'a>(filters: impl Iterator<Item = &'a [u32]>, block: usize, shared: usize) -> Shared {
    let support = |filter: &[u32]| -> Support {
        let word = |some: &[u32]| some.iter().rev().fold(0, |bits, &w| bits << 1 | u64::from(w != 0));
        filter.chunks(64).map(word).collect()
    };
    let supports: Vec<Support> = filters.map(support).collect();
    let (mut order, mut values) = (Vec::new(), 0);
    for block in supports.chunks(block.max(1)) {
        let natural: Vec<usize> = (0..block.len()).collect();
        let best = match (shared, size(block, &natural, shared), size(block, &natural, 1)) {
            (1, all, _) => (all, natural),
            // At most a fortieth is padding.
            (_, all, single) if all <= single + single / 40 => (all, natural),
            (_, all, _) => {
                let alike = alike(block, shared);
                let other = size(block, &alike, shared);
                if other < all { (other, alike) } else { (all, natural) }
            }
        };
        values += best.0;
        order.push(best.1);
    }
    Shared { shared, order, values }
}

/// Number of values of all blocks of `shared` neighbours.
fn size(supports: &[Support], order: &[usize], shared: usize) -> usize {
    let union = |some: &[usize]| {
        let words = supports.first().map_or(0, Vec::len);
        (0..words).map(|w| some.iter().fold(0, |bits, &c| bits | supports[c][w]).count_ones() as usize).sum::<usize>()
    };
    order.chunks(shared).map(|some| shared * union(some)).sum()
}

/// An order in which each channel is followed by the remaining ones that differ the least from it and one another.
fn alike(supports: &[Support], shared: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..supports.len()).rev().collect();
    let mut order = Vec::with_capacity(supports.len());
    while let Some(first) = left.pop() {
        let mut union = supports[first].clone();
        order.push(first);
        for _ in 1..shared {
            let differs = |&c: &usize| supports[c].iter().zip(&union).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
            // Of those that differ equally, the next one.
            let Some((at, _)) = left.iter().enumerate().rev().min_by_key(|(_, c)| differs(c)) else { break };
            let next = left.remove(at);
            union.iter_mut().zip(&supports[next]).for_each(|(a, b)| *a |= b);
            order.push(next);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Filters of 70 weights, of which every third, starting at a remainder, is not zero.
    fn found(remainders: &[usize], block: usize, shared: usize) -> Shared {
        let weights: Vec<u32> = remainders.iter().flat_map(|r| (0..70).map(move |n| u32::from(n % 3 == *r))).collect();
        order(weights.chunks(70), block, shared)
    }

    #[test]
    fn neighbours_and_others() {
        let natural = found(&[0, 0, 1, 1, 2, 2], 8, 2);
        assert_eq!((natural.order, natural.values), (vec![vec![0, 1, 2, 3, 4, 5]], 140));
        let apart = found(&[0, 1, 2, 2, 0, 1], 8, 2);
        assert_eq!((apart.order, apart.values), (vec![vec![0, 4, 1, 5, 2, 3]], 140));
        let blocks = found(&[0, 1, 2, 2, 0, 1], 4, 2);
        assert_eq!(blocks.order, [vec![0, 1, 2, 3], vec![0, 1]]);
        assert_eq!(blocks.values, 2 * (24 + 23 + 23 + 24 + 23));
        assert_eq!(found(&[0, 1], 8, 1).values, 47);
        // A partial block is padded.
        assert_eq!(found(&[0, 0, 0, 0, 0], 8, 4).values, 4 * 48);
    }
}
