//! Decision trees: nodes, leaves and votes are read-only tables; a tree is walked to the depth of its deepest leaf, leaves
//! leading to themselves. Several rows go down a tree side by side: a single one would wait for memory at every node.

use super::nest::columns;
use super::run::{combine, highest, lowest, one};
use super::{Emit, missing};
use crate::Result;
use crate::ir::{BinaryOp, Dim, ReduceKind, Tensor, TreeEdge, TreeEnsemble};
use crate::lower::kir::{Bin, Builder, Cmp, Elem, Ty, Val};
use crate::lower::{numbers, scalar};

/// The trees as tables: a leaf follows the nodes, and has its votes' range in place of children.
struct Tables {
    features: Vec<i32>,
    values: Vec<f64>,
    tests: Vec<i32>,
    /// Next of each: when false, when true.
    next: Vec<i32>,
    /// First vote and end, a leaf.
    votes: Vec<i32>,
    /// Decisions on the longest way down, a tree.
    depths: Vec<i32>,
    /// Distinct tests; a node's entry of `tests` is an index here.
    kinds: Vec<(BinaryOp, bool)>,
}

/// Rows that go down a tree side by side.
const ROWS: i64 = 8;

/// Scores of every row.
///
/// # Errors
/// When the trees have a cycle.
pub fn tree_ensemble(e: &Emit<'_>, k: &mut Builder, trees: &TreeEnsemble) -> Result<()> {
    let dtype = e.dtype(0);
    let elem = Ty::new(numbers::compute_elem(dtype), 1);
    let Some(t) = tables(trees) else { return missing(e.site) };
    let nodes = trees.nodes.len() as i64;
    let sums = e.scratch(k, Dim::from(ROWS as usize * trees.targets * elem.bytes() as usize));
    let seen = e.scratch(k, Dim::from(ROWS as usize * trees.targets * elem.bytes() as usize));
    let ints = |values: &[i32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let floats = |values: &mut dyn Iterator<Item = f64>| {
        let mut bytes = Vec::new();
        for v in values {
            // The value in the operand's type, but in a register's width.
            let v = Tensor::scalar_f64(dtype, v).f64_at(0);
            if elem.elem == Elem::F64 { bytes.extend(v.to_le_bytes()) } else { bytes.extend((v as f32).to_le_bytes()) }
        }
        bytes
    };
    let roots: Vec<i32> = trees.roots.iter().map(|&r| r as i32).collect();
    let targets: Vec<i32> = trees.votes.iter().map(|v| v.0 as i32).collect();
    let features = e.constant(k, ints(&t.features).into());
    let values = e.constant(k, floats(&mut t.values.iter().copied()).into());
    let tests = e.constant(k, ints(&t.tests).into());
    let next = e.constant(k, ints(&t.next).into());
    let ranges = e.constant(k, ints(&t.votes).into());
    let roots = e.constant(k, ints(&roots).into());
    let depths = e.constant(k, ints(&t.depths).into());
    let targets = e.constant(k, ints(&targets).into());
    let weights = e.constant(k, floats(&mut trees.votes.iter().map(|v| v.1.get())).into());
    let table = |k: &mut Builder, base: Val, index: Val| {
        let from = k.at_index(base, index, 4);
        let v = k.load(Ty::new(Elem::I32, 1), from);
        k.convert(v, Elem::I64)
    };
    let shape = e.shape(0);
    let whole = &shape[0].floor_div(&Dim::from(ROWS)) * &Dim::from(ROWS);
    let (zero, rows, whole, width) = (k.int(0), k.dim(&shape[0]), k.dim(&whole), k.dim(&shape[1]));
    let (tree_count, target_count) = (k.int(trees.roots.len() as i64), k.int(trees.targets as i64));
    let (op, start) = match trees.aggregate {
        ReduceKind::Sum | ReduceKind::Mean => (BinaryOp::Add, k.zero(elem)),
        ReduceKind::Prod => (BinaryOp::Mul, one(k, dtype, 1)),
        ReduceKind::Min => (BinaryOp::Min, highest(k, dtype, 1)),
        ReduceKind::Max => (BinaryOp::Max, lowest(k, dtype, 1)),
    };
    let (no, yes) = (k.zero(elem), one(k, dtype, 1));
    let block = |k: &mut Builder, row: Val, rows: i64| {
        let cells = k.int(rows * trees.targets as i64);
        columns(k, zero, cells, 1, &mut |k, i, _| {
            let to = k.at_index(sums, i, elem.bytes());
            k.store(to, start);
            let to = k.at_index(seen, i, elem.bytes());
            k.store(to, no);
        });
        let mut firsts = Vec::new();
        for r in 0..rows {
            let row = k.add_int(row, r);
            firsts.push(k.mul(row, width));
        }
        k.for_each(zero, tree_count, 1, &mut |k, tree| {
            let (root, depth) = (table(k, roots, tree), table(k, depths, tree));
            let leaves = k.fold_loop(zero, depth, 1, &vec![root; firsts.len()], &mut |k, _, at| {
                let down = |(&first, &at): (&Val, &Val)| {
                    let feature = table(k, features, at);
                    let index = k.add(first, feature);
                    let x = e.load(k, 0, index, 1);
                    let from = k.at_index(values, at, elem.bytes());
                    let value = k.load(elem, from);
                    let kind = if t.kinds.len() > 1 { Some(table(k, tests, at)) } else { None };
                    let truth = decide(k, &t.kinds, kind, dtype, x, value);
                    let slot = k.add(at, at);
                    let slot = k.add(slot, truth);
                    table(k, next, slot)
                };
                firsts.iter().zip(at).map(down).collect()
            });
            for (r, leaf) in leaves.into_iter().enumerate() {
                let leaf = k.add_int(leaf, -nodes);
                let slot = k.add(leaf, leaf);
                let from = table(k, ranges, slot);
                let slot = k.add_int(slot, 1);
                let end = table(k, ranges, slot);
                k.for_each(from, end, 1, &mut |k, vote| {
                    let target = table(k, targets, vote);
                    let cell = k.add_int(target, (r * trees.targets) as i64);
                    let weight = k.at_index(weights, vote, elem.bytes());
                    let weight = k.load(elem, weight);
                    let place = k.at_index(sums, cell, elem.bytes());
                    let sum = k.load(elem, place);
                    let sum = combine(k, op, dtype, sum, weight);
                    k.store(place, sum);
                    let place = k.at_index(seen, cell, elem.bytes());
                    k.store(place, yes);
                });
            }
        });
        let count = k.int(rows);
        k.for_each(zero, count, 1, &mut |k, r| {
            let (row, cells) = (k.add(row, r), k.mul(r, target_count));
            k.for_each(zero, target_count, 1, &mut |k, target| {
                let cell = k.add(cells, target);
                let from = k.at_index(sums, cell, elem.bytes());
                let mut v = k.load(elem, from);
                if trees.aggregate == ReduceKind::Mean {
                    let count = k.float(trees.roots.len() as f64, elem);
                    v = k.bin(Bin::Div, v, count);
                }
                let from = k.at_index(seen, cell, elem.bytes());
                let flag = k.load(elem, from);
                let voted = k.cmp(Cmp::Ne, flag, no);
                let v = k.select(voted, v, no);
                e.store(k, row, target, v);
            });
        });
    };
    k.for_each(zero, whole, ROWS, &mut |k, row| block(k, row, ROWS));
    k.for_each(whole, rows, 1, &mut |k, row| block(k, row, 1));
    Ok(())
}

/// 1 when a node's test holds, else 0.
fn decide(
    k: &mut Builder,
    kinds: &[(BinaryOp, bool)],
    kind: Option<Val>,
    dtype: crate::ir::DType,
    x: Val,
    value: Val,
) -> Val {
    let zero = k.int(0);
    let mut truth = zero;
    for (n, &(test, missing_is_true)) in kinds.iter().enumerate() {
        let holds = scalar::binary(k, test, super::run::arithmetic(dtype), x, value);
        let mut holds = k.convert(holds, Elem::I64);
        if missing_is_true {
            let one = k.int(1);
            let nan = k.cmp(Cmp::Ne, x, x);
            holds = k.select(nan, one, holds);
        }
        truth = match kind {
            Some(kind) => {
                let n = k.int(n as i64);
                let this = k.cmp(Cmp::Eq, kind, n);
                k.select(this, holds, truth)
            }
            None => holds,
        };
    }
    truth
}

fn tables(trees: &TreeEnsemble) -> Option<Tables> {
    let nodes = trees.nodes.len();
    let mut t = Tables {
        features: Vec::new(),
        values: Vec::new(),
        tests: Vec::new(),
        next: Vec::new(),
        votes: Vec::new(),
        depths: Vec::new(),
        kinds: Vec::new(),
    };
    let edge = |t: &mut Tables, edge: TreeEdge| match edge {
        TreeEdge::Node(n) => n as i32,
        TreeEdge::Leaf(first, count) => {
            t.votes.extend([first as i32, (first + count) as i32]);
            (nodes + t.votes.len() / 2 - 1) as i32
        }
    };
    for node in &trees.nodes {
        let kind = (node.test, node.missing_is_true);
        let index = t.kinds.iter().position(|k| *k == kind).unwrap_or_else(|| {
            t.kinds.push(kind);
            t.kinds.len() - 1
        });
        t.tests.push(index as i32);
        t.features.push(node.feature as i32);
        t.values.push(node.value.get());
        let (no, yes) = (edge(&mut t, node.no), edge(&mut t, node.yes));
        t.next.extend([no, yes]);
    }
    for leaf in nodes..nodes + t.votes.len() / 2 {
        t.features.push(0);
        t.values.push(0.0);
        t.tests.push(0);
        t.next.extend([leaf as i32, leaf as i32]);
    }
    t.depths = trees.roots.iter().map(|&root| depth(trees, root)).collect::<Option<_>>()?;
    Some(t)
}

/// Decisions on the longest way from a root to a leaf; `None` when there is a cycle.
fn depth(trees: &TreeEnsemble, root: u32) -> Option<i32> {
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
