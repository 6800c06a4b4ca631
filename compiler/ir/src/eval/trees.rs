//! Decision trees.

use super::elementwise;
use crate::tensor::encode_f64;
use crate::{Error, Result};
use crate::{ReduceKind, Tensor, TreeEdge, TreeEnsemble};

pub(super) fn tree_ensemble(x: &Tensor, trees: &TreeEnsemble) -> Result<Tensor> {
    let (rows, features) = (x.shape()[0], x.shape()[1]);
    let mut scores = Vec::with_capacity(rows * trees.targets);
    for row in 0..rows {
        let mut votes: Vec<Vec<f64>> = vec![Vec::new(); trees.targets];
        for &root in &trees.roots {
            let (first, count) = descend(x, row * features, trees, root)?;
            for (target, weight) in &trees.votes[first as usize..(first + count) as usize] {
                votes[*target as usize].push(weight.get());
            }
        }
        scores.extend(votes.iter().map(|votes| aggregate(trees.aggregate, votes, trees.roots.len())));
    }
    Tensor::from_f64s(x.dtype(), vec![rows, trees.targets], &scores)
}

/// The leaf that a row reaches in one tree.
fn descend(x: &Tensor, row: usize, trees: &TreeEnsemble, root: u32) -> Result<(u32, u32)> {
    let dtype = x.dtype();
    let size = dtype.size();
    let mut edge = TreeEdge::Node(root);
    for _ in 0..=trees.nodes.len() {
        let node = match edge {
            TreeEdge::Leaf(first, count) => return Ok((first, count)),
            TreeEdge::Node(n) => &trees.nodes[n as usize],
        };
        let at = row + node.feature as usize;
        let feature = &x.data()[at * size..(at + 1) * size];
        let (mut value, mut truth) = (Vec::new(), Vec::new());
        encode_f64(dtype, node.value.get(), &mut value);
        elementwise::binary_element(node.test, dtype, feature, &value, &mut truth);
        let missing = node.missing_is_true && x.f64_at(at).is_nan();
        edge = if truth == [1] || missing { node.yes } else { node.no };
    }
    Err(Error::invalid("a decision tree has a cycle"))
}

/// The score of a target; 0 without votes.
fn aggregate(kind: ReduceKind, votes: &[f64], trees: usize) -> f64 {
    match kind {
        _ if votes.is_empty() => 0.0,
        ReduceKind::Sum => votes.iter().sum(),
        ReduceKind::Mean => votes.iter().sum::<f64>() / trees as f64,
        ReduceKind::Prod => votes.iter().product(),
        ReduceKind::Min => votes.iter().copied().fold(f64::INFINITY, f64::min),
        ReduceKind::Max => votes.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    }
}
