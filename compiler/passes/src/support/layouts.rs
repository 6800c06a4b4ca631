//! Permutations between layouts.

/// The permutation from channels-first to channels-last.
pub(crate) fn to_last(rank: usize) -> Vec<usize> {
    std::iter::once(0).chain(2..rank).chain([1]).collect()
}

/// The permutation from channels-last to channels-first.
pub(crate) fn to_first(rank: usize) -> Vec<usize> {
    [0, rank - 1].into_iter().chain(1..rank - 1).collect()
}
