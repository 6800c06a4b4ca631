//! Decision trees: several rows descend a tree side by side, since a single one would wait for memory at every node.
//!
//! Each block of rows visits all trees, so that a tree is in the cache for all rows of a block. A tree is walked to the
//! depth of its deepest leaf; leaves are their own children (see [`Forest`]).

pub mod records;

use mcc_targets::schedule::loops::{TREE_BLOCK_ROWS, TREE_ROWS};

use super::reduce::run::{combine, highest, lowest, one};
use super::support::loops::columns;
use crate::kernels::support::emit::Emit;
use crate::kernels::support::request::missing;
use crate::kir::{Addr, Bin, Builder, Cmp, Elem, Ty, Val};
use crate::numbers;
use mcc_ir::Result;
use mcc_ir::{BinaryOp, DType, Dim, ReduceKind, TreeEnsemble};
use records::{Forest, Test};

/// Bytes between records.
const RECORD: i64 = 16;

/// Scores of every row.
///
/// # Errors
/// When the trees have a cycle.
pub fn tree_ensemble(e: &Emit<'_>, k: &mut Builder, trees: &TreeEnsemble) -> Result<()> {
    let dtype = e.dtype(0);
    let Some(forest) = Forest::new(trees, dtype).filter(|f| f.records.len() < (1 << 27)) else {
        return missing(e.request);
    };
    let walk = Walk::new(e, k, trees, forest);
    let shape = e.shape(0);
    let (zero, rows) = (k.int(0), k.dim(&shape[0]));
    k.for_each(zero, rows, TREE_BLOCK_ROWS, |k, first| {
        let block = k.int(TREE_BLOCK_ROWS);
        let left = k.sub(rows, first);
        let count = k.bin(Bin::Min, left, block);
        walk.gather(k, first, count);
        walk.descend(k, count);
        walk.scores(k, first, count);
    });
    Ok(())
}

/// The data that all steps of a kernel share.
struct Walk<'a, 'b> {
    e: &'b Emit<'a>,
    trees: &'b TreeEnsemble,
    forest: Forest,
    dtype: DType,
    elem: Ty,
    /// `[TREE_BLOCK_ROWS, sides, features]`: the rows' elements, followed by the negated ones if tests compare those.
    elements: Val,
    /// `[TREE_BLOCK_ROWS, targets]`: the aggregated votes.
    sums: Val,
    /// `[TREE_BLOCK_ROWS, targets]`: whether there was a vote, if that matters.
    seen: Option<Val>,
    records: Val,
    roots: Val,
    depths: Val,
    starts: Val,
    targets: Val,
    weights: Val,
}

impl<'a, 'b> Walk<'a, 'b> {
    fn new(e: &'b Emit<'a>, k: &mut Builder, trees: &'b TreeEnsemble, forest: Forest) -> Walk<'a, 'b> {
        let dtype = e.dtype(0);
        let elem = Ty::new(numbers::compute_elem(dtype), 1);
        let row = i64::from(forest.features) * forest.sides();
        let scratch =
            |k: &mut Builder, cells: i64| e.scratch(k, Dim::from(TREE_BLOCK_ROWS * cells * i64::from(elem.bytes())));
        let elements = scratch(k, row);
        let sums = scratch(k, trees.targets as i64);
        // A sum without votes is zero.
        let sum = matches!(trees.aggregate, ReduceKind::Sum | ReduceKind::Mean);
        let seen = if sum { None } else { Some(scratch(k, trees.targets as i64)) };
        let ints = |values: &mut dyn Iterator<Item = u32>| values.flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
        let float = |v: f64| match elem.elem {
            Elem::F64 => v.to_le_bytes().to_vec(),
            _ => (v as f32).to_le_bytes().to_vec(),
        };
        let tests = forest.tests();
        let mut records = Vec::with_capacity(forest.records.len() * RECORD as usize);
        for record in &forest.records {
            let begin = records.len();
            records.extend(float(record.value));
            let column = record.feature + if record.negated { forest.features } else { 0 };
            let test = tests.iter().position(|t| *t == record.test).unwrap_or(0) as u32;
            // The number of the test is in the low bits, which are zero in byte offsets of elements.
            records.extend((column * elem.bytes() + test).to_le_bytes());
            records.extend((record.children * RECORD as u32).to_le_bytes());
            records.resize(begin + RECORD as usize, 0);
        }
        let weights = forest.votes.iter().flat_map(|v| float(v.1)).collect::<Vec<u8>>();
        let at = |&record: &u32| record * RECORD as u32;
        Walk {
            records: e.constant(k, records.into()),
            roots: e.constant(k, ints(&mut forest.roots.iter().map(at)).into()),
            depths: e.constant(k, ints(&mut forest.depths.iter().copied()).into()),
            starts: e.constant(k, ints(&mut forest.starts.iter().copied()).into()),
            targets: e.constant(k, ints(&mut forest.votes.iter().map(|v| v.0)).into()),
            weights: e.constant(k, weights.into()),
            e,
            trees,
            forest,
            dtype,
            elem,
            elements,
            sums,
            seen,
        }
    }

    /// Bytes of a row of elements.
    fn row_bytes(&self) -> i64 {
        i64::from(self.forest.features) * self.forest.sides() * i64::from(self.elem.bytes())
    }

    /// Loads the elements of `count` rows, and initializes their sums.
    fn gather(&self, k: &mut Builder, first: Val, count: Val) {
        let (zero, width) = (k.int(0), k.dim(&self.e.shape(0)[1]));
        let (used, size) = (k.int(self.forest.features.into()), self.elem.bytes());
        let lanes = self.e.request.config.target.vector_bytes / size;
        k.for_each(zero, count, 1, |k, r| {
            let row = k.add(first, r);
            let from = k.mul(row, width);
            let to = k.mul_int(r, self.row_bytes());
            let to = k.add(self.elements, to);
            columns(k, zero, used, lanes, |k, c, lanes| {
                let index = k.add(from, c);
                let x = self.e.load(k, 0, index, lanes);
                let place = k.at_index(to, c, size);
                k.store(place, x);
                if self.forest.sides() > 1 {
                    let minus = k.un(crate::kir::Un::Neg, x);
                    let place = Addr { offset: place.offset + (self.forest.features * size) as i32, ..place };
                    k.store(place, minus);
                }
            });
        });
        let start = match self.trees.aggregate {
            ReduceKind::Sum | ReduceKind::Mean => k.zero(self.elem),
            ReduceKind::Prod => one(k, self.dtype, 1),
            ReduceKind::Min => highest(k, self.dtype, 1),
            ReduceKind::Max => lowest(k, self.dtype, 1),
        };
        let cells = k.mul_int(count, self.trees.targets as i64);
        let no = k.zero(self.elem);
        k.for_each(zero, cells, 1, |k, i| {
            let to = k.at_index(self.sums, i, size);
            k.store(to, start);
            if let Some(seen) = self.seen {
                let to = k.at_index(seen, i, size);
                k.store(to, no);
            }
        });
    }

    /// Descends every tree with `count` rows.
    fn descend(&self, k: &mut Builder, count: Val) {
        let (zero, trees) = (k.int(0), k.int(self.forest.roots.len() as i64));
        k.for_each(zero, trees, 1, |k, tree| {
            let (root, depth) = (self.entry(k, self.roots, tree), self.entry(k, self.depths, tree));
            let mut done = zero;
            for rows in TREE_ROWS {
                let left = k.sub(count, done);
                let whole = super::support::loops::round_down(k, left, rows as u32);
                let end = k.add(done, whole);
                k.for_each(done, end, rows, |k, row| {
                    let leaves = self.side_by_side(k, row, rows, root, depth);
                    for (r, leaf) in leaves.into_iter().enumerate() {
                        let row = k.add_int(row, r as i64);
                        self.vote(k, row, leaf);
                    }
                });
                done = end;
            }
        });
    }

    /// The leaf records that `rows` rows reach from a root.
    fn side_by_side(&self, k: &mut Builder, row: Val, rows: i64, root: Val, depth: Val) -> Vec<Val> {
        let (zero, size) = (k.int(0), self.elem.bytes());
        let first = k.mul_int(row, self.row_bytes());
        let first = k.add(self.elements, first);
        let tests = self.forest.tests();
        k.fold_loop(zero, depth, 1, &vec![root; rows as usize], |k, _, at| {
            let step = |(r, &at): (usize, &Val)| {
                let value = k.at_index(self.records, at, 1);
                let field = |n: u32| Addr { offset: value.offset + (size + 4 * n) as i32, ..value };
                let column = self.unsigned(k, field(0));
                let test = if tests.len() > 1 { Some(self.low_bits(k, column)) } else { None };
                let column = test.map_or(column, |test| k.sub(column, test));
                let x = k.at_index(first, column, 1);
                let x = k.load(self.elem, Addr { offset: x.offset + r as i32 * self.row_bytes() as i32, ..x });
                let value = k.load(self.elem, value);
                let truth = self.truth(k, &tests, test, x, value);
                let children = self.unsigned(k, field(1));
                let bits = k.int(i64::from(RECORD.trailing_zeros()));
                let step = k.bin(Bin::Shl, truth, bits);
                k.add(children, step)
            };
            at.iter().enumerate().map(step).collect()
        })
    }

    /// The number of a record's test.
    fn low_bits(&self, k: &mut Builder, column: Val) -> Val {
        let mask = k.int(i64::from(self.elem.bytes()) - 1);
        k.bin(Bin::And, column, mask)
    }

    /// 1 if a test holds, else 0.
    fn truth(&self, k: &mut Builder, tests: &[Test], test: Option<Val>, x: Val, value: Val) -> Val {
        let one_test = |k: &mut Builder, of: Test| {
            let cmp = if of == Test::LessOrEqual { Cmp::Le } else { Cmp::Eq };
            let mask = k.cmp(cmp, x, value);
            let mut holds = k.mask_to_int(mask);
            if of == Test::Equal(true) {
                let nan = k.cmp(Cmp::Ne, x, x);
                let nan = k.mask_to_int(nan);
                holds = k.bin(Bin::Or, holds, nan);
            }
            k.convert(holds, Elem::I64)
        };
        let mut truth = one_test(k, tests[0]);
        for (n, &of) in tests.iter().enumerate().skip(1) {
            let (Some(test), n) = (test, k.int(n as i64)) else { break };
            let holds = one_test(k, of);
            let this = k.cmp(Cmp::Eq, test, n);
            truth = k.select(this, holds, truth);
        }
        truth
    }

    /// Adds a leaf's votes to the sums of a row of the block.
    fn vote(&self, k: &mut Builder, row: Val, leaf: Val) {
        let bits = k.int(i64::from(RECORD.trailing_zeros()));
        let index = k.bin(Bin::Shr, leaf, bits);
        let first = self.entry(k, self.starts, index);
        let cells = k.mul_int(row, self.trees.targets as i64);
        if self.forest.votes_once() {
            return self.add(k, cells, first);
        }
        let next = k.add_int(index, 1);
        let end = self.entry(k, self.starts, next);
        k.for_each(first, end, 1, |k, vote| {
            let target = self.entry(k, self.targets, vote);
            let cell = k.add(cells, target);
            self.add(k, cell, vote);
        });
    }

    fn add(&self, k: &mut Builder, cell: Val, vote: Val) {
        let size = self.elem.bytes();
        let op = match self.trees.aggregate {
            ReduceKind::Sum | ReduceKind::Mean => BinaryOp::Add,
            ReduceKind::Prod => BinaryOp::Mul,
            ReduceKind::Min => BinaryOp::Min,
            ReduceKind::Max => BinaryOp::Max,
        };
        let weight = k.at_index(self.weights, vote, size);
        let weight = k.load(self.elem, weight);
        let place = k.at_index(self.sums, cell, size);
        let sum = k.load(self.elem, place);
        let sum = combine(k, op, self.dtype, sum, weight);
        k.store(place, sum);
        if let Some(seen) = self.seen {
            let place = k.at_index(seen, cell, size);
            let yes = one(k, self.dtype, 1);
            k.store(place, yes);
        }
    }

    /// Stores the scores of `count` rows; 0 for a target without a vote.
    fn scores(&self, k: &mut Builder, first: Val, count: Val) {
        let (zero, targets) = (k.int(0), k.int(self.trees.targets as i64));
        let (no, size) = (k.zero(self.elem), self.elem.bytes());
        k.for_each(zero, count, 1, |k, r| {
            let (row, cells) = (k.add(first, r), k.mul(r, targets));
            k.for_each(zero, targets, 1, |k, target| {
                let cell = k.add(cells, target);
                let from = k.at_index(self.sums, cell, size);
                let mut v = k.load(self.elem, from);
                if self.trees.aggregate == ReduceKind::Mean {
                    let count = k.float(self.forest.roots.len() as f64, self.elem);
                    v = k.bin(Bin::Div, v, count);
                }
                if let Some(seen) = self.seen {
                    let from = k.at_index(seen, cell, size);
                    let flag = k.load(self.elem, from);
                    let voted = k.cmp(Cmp::Ne, flag, no);
                    v = k.select(voted, v, no);
                }
                self.e.store(k, row, target, v);
            });
        });
    }

    /// An entry of a table of `u32`s below 2^31.
    fn entry(&self, k: &mut Builder, table: Val, index: Val) -> Val {
        let from = k.at_index(table, index, 4);
        self.unsigned(k, from)
    }

    fn unsigned(&self, k: &mut Builder, from: Addr) -> Val {
        let v = k.load(Ty::new(Elem::I32, 1), from);
        k.uconvert(v, Elem::I64)
    }
}
