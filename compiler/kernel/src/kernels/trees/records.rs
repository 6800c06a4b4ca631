//! Decision trees as records that a kernel walks without branches.
//!
//! The children of a node are adjacent records, the one for "false" first: a step is a load, a comparison and an
//! addition, `record = children + truth`. A leaf is its own child. A node with several incoming edges has one record
//! per edge.
//!
//! Tests become `x <= value`, which is false for NaN: strict ones use the next smaller value, greater ones compare
//! `-x`, and those that treat missing values as "true" swap the children of the opposite test.

use crate::kir::Elem;
use crate::numbers;
use mcc_ir::{BinaryOp, DType, Tensor, TreeEdge, TreeEnsemble, TreeNode};

/// How a record compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    /// `x <= value`.
    LessOrEqual,
    /// `x == value`, and whether a missing `x` is true as well.
    Equal(bool),
}

/// A node or leaf, at the end of one edge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) test: Test,
    /// The value to compare with, in the operand's type.
    pub(crate) value: f64,
    pub(crate) feature: u32,
    /// Whether `-x` is compared instead of `x`.
    pub(crate) negated: bool,
    /// Index of the record for "false"; that for "true" follows.
    pub(crate) children: u32,
}

/// The trees of an ensemble.
pub(crate) struct Forest {
    pub(crate) records: Vec<Record>,
    /// Records of the roots.
    pub(crate) roots: Vec<u32>,
    /// Number of decisions on the longest path of each tree.
    pub(crate) depths: Vec<u32>,
    /// Target and weight of each vote, in the order of the records that are leaves.
    pub(crate) votes: Vec<(u32, f64)>,
    /// First vote of each record, and the end of the last one's.
    pub(crate) starts: Vec<u32>,
    /// Tests use features below this one.
    pub(crate) features: u32,
}

impl Forest {
    /// The forest for operands of a type; `None` when a tree has a cycle.
    pub(crate) fn new(trees: &TreeEnsemble, dtype: DType) -> Option<Forest> {
        let depths = trees.roots.iter().map(|&root| depth(trees, root)).collect::<Option<_>>()?;
        let mut edges: Vec<TreeEdge> = trees.roots.iter().map(|&root| TreeEdge::Node(root)).collect();
        let roots = (0..edges.len() as u32).collect();
        let mut children: Vec<Option<u32>> = vec![None; trees.nodes.len()];
        let (mut records, mut votes, mut starts) = (Vec::new(), Vec::new(), vec![0]);
        while let Some(&edge) = edges.get(records.len()) {
            let own = records.len() as u32;
            match edge {
                TreeEdge::Leaf(first, count) => {
                    let range = first as usize..(first + count) as usize;
                    votes.extend(trees.votes[range].iter().map(|&(target, weight)| (target, weight.get())));
                    // Nothing is less than or equal to NaN.
                    let (test, value) = (Test::LessOrEqual, f64::NAN);
                    records.push(Record { test, value, feature: 0, negated: false, children: own });
                }
                TreeEdge::Node(n) => {
                    let node = &trees.nodes[n as usize];
                    let (mut record, exchanged) = canonical(node, dtype);
                    record.children = *children[n as usize].get_or_insert_with(|| {
                        let pair = edges.len() as u32;
                        edges.extend(if exchanged { [node.yes, node.no] } else { [node.no, node.yes] });
                        pair
                    });
                    records.push(record);
                }
            }
            starts.push(votes.len() as u32);
        }
        let features = trees.nodes.iter().map(|n| n.feature + 1).max().unwrap_or(1);
        Some(Forest { records, roots, depths, votes, starts, features })
    }

    /// 2 if tests also use negated elements, else 1.
    pub(crate) fn sides(&self) -> i64 {
        if self.records.iter().any(|r| r.negated) { 2 } else { 1 }
    }

    /// Whether every leaf has one vote, for the only target.
    pub(crate) fn votes_once(&self) -> bool {
        let leaf = |(i, r): (usize, &Record)| r.children != i as u32 || self.starts[i + 1] - self.starts[i] == 1;
        self.records.iter().enumerate().all(leaf) && self.votes.iter().all(|v| v.0 == 0)
    }

    /// The distinct tests, in order of appearance.
    pub(crate) fn tests(&self) -> Vec<Test> {
        let mut tests = vec![Test::LessOrEqual];
        for record in &self.records {
            if !tests.contains(&record.test) {
                tests.push(record.test);
            }
        }
        tests
    }
}

/// A node's record, and whether to swap its children.
fn canonical(node: &TreeNode, dtype: DType) -> (Record, bool) {
    use BinaryOp::*;
    let exchanged = node.missing_is_true && node.test != Equal;
    let test = match node.test {
        Less if exchanged => GreaterOrEqual,
        LessOrEqual if exchanged => Greater,
        Greater if exchanged => LessOrEqual,
        GreaterOrEqual if exchanged => Less,
        test => test,
    };
    let negated = matches!(test, Greater | GreaterOrEqual);
    let mut value = Tensor::scalar_f64(dtype, node.value.get()).f64_at(0);
    if negated {
        value = -value;
    }
    if matches!(test, Less | Greater) {
        value = match numbers::compute_elem(dtype) {
            // Nothing is less than negative infinity.
            _ if value == f64::NEG_INFINITY => f64::NAN,
            Elem::F64 => value.next_down(),
            _ => (value as f32).next_down().into(),
        };
    }
    let test = if test == Equal { Test::Equal(node.missing_is_true) } else { Test::LessOrEqual };
    (Record { test, value, feature: node.feature, negated, children: 0 }, exchanged)
}

/// Number of decisions on the longest path from a root to a leaf; `None` if there is a cycle.
fn depth(trees: &TreeEnsemble, root: u32) -> Option<u32> {
    let mut level = vec![root];
    let mut depth = 0;
    while !level.is_empty() {
        depth += 1;
        if depth as usize > trees.nodes.len() {
            return None;
        }
        let edges = level.iter().flat_map(|&n| [trees.nodes[n as usize].no, trees.nodes[n as usize].yes]);
        level = edges
            .filter_map(|edge| match edge {
                TreeEdge::Node(n) => Some(n),
                TreeEdge::Leaf(..) => None,
            })
            .collect();
        level.sort_unstable();
        level.dedup();
    }
    Some(depth)
}
