//! The first elements of a sorted axis. A few are kept in a sorted list while the axis is read once; for many, the
//! whole axis is merge-sorted. Both keep the order of equal elements.

use mcc_targets::schedule::loops::MAX_TOP_K_LIST;

use super::arg_reduce::ahead;
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::product;
use crate::kir::{Bin, Builder, Cmp, Ty, Val};
use crate::numbers;
use mcc_ir::Dim;
use mcc_ir::Result;

/// ONNX TopK, sorted.
pub fn top_k(e: &Emit<'_>, k: &mut Builder, count: &Dim, axis: usize, largest: bool) -> Result<()> {
    let (x, dtype) = (e.shape(0), e.dtype(0));
    let elem = Ty::new(numbers::compute_elem(dtype), 1);
    let listed = count.as_const().is_some_and(|c| c <= MAX_TOP_K_LIST);
    let bytes = |d: &Dim, size: u32| d * &Dim::from(i64::from(size));
    let length = if listed { count } else { &x[axis] };
    let mut lists = Vec::new();
    for _ in 0..if listed { 1 } else { 2 } {
        let values = e.scratch(k, bytes(length, elem.bytes()));
        lists.push(List { values, indices: e.scratch(k, bytes(length, 8)), elem });
    }
    let (zero, outer, inner) = (k.int(0), k.dim(&product(&x[..axis])), k.dim(&product(&x[axis + 1..])));
    let (n, count) = (k.dim(&x[axis]), k.dim(count));
    k.for_each(zero, outer, 1, |k, o| {
        k.for_each(zero, inner, 1, |k, i| {
            let load = |k: &mut Builder, j: Val| {
                let block = k.mul(o, n);
                let row = k.add(block, j);
                let start = k.mul(row, inner);
                let index = k.add(start, i);
                e.load(k, 0, index, 1)
            };
            let before = |k: &mut Builder, a: Val, b: Val| ahead(k, dtype, a, b, largest, false);
            let found = if listed {
                keep_best(k, &lists[0], n, count, load, before);
                lists[0]
            } else {
                k.for_each(zero, n, 1, |k, j| {
                    let v = load(k, j);
                    lists[0].set(k, j, v, j);
                });
                sort(k, lists[0], lists[1], n, before)
            };
            k.for_each(zero, count, 1, |k, j| {
                let block = k.mul(o, count);
                let row = k.add(block, j);
                let start = k.mul(row, inner);
                let to = k.add(start, i);
                let (v, index) = found.get(k, j);
                e.store_flat(k, to, v);
                e.store_result(k, 1, to, index);
            });
        });
    });
    Ok(())
}

/// Elements with their positions, in scratch memory.
#[derive(Clone, Copy)]
struct List {
    values: Val,
    indices: Val,
    elem: Ty,
}

impl List {
    fn get(&self, k: &mut Builder, at: Val) -> (Val, Val) {
        let (value, index) = (k.at_index(self.values, at, self.elem.bytes()), k.at_index(self.indices, at, 8));
        (k.load(self.elem, value), k.load(Ty::I64, index))
    }

    fn set(&self, k: &mut Builder, at: Val, value: Val, index: Val) {
        let to = k.at_index(self.values, at, self.elem.bytes());
        k.store(to, value);
        let to = k.at_index(self.indices, at, 8);
        k.store(to, index);
    }
}

/// Reads elements once; inserts each one that precedes the list's last into the list.
fn keep_best(
    k: &mut Builder,
    list: &List,
    n: Val,
    count: Val,
    load: impl Fn(&mut Builder, Val) -> Val,
    before: impl Fn(&mut Builder, Val, Val) -> Val,
) {
    let (zero, one, last) = (k.int(0), k.int(1), k.add_int(count, -1));
    let sink = |k: &mut Builder, v: Val, j: Val, filled: Val| {
        // After an element is inserted, all later ones move by one.
        let carried = k.fold_loop(zero, filled, 1, &[v, j, zero], |k, at, carried| {
            let (value, index) = list.get(k, at);
            let first = before(k, carried[0], value);
            let moving = k.select(first, one, carried[2]);
            let moves = k.cmp(Cmp::Ne, moving, zero);
            let (better, better_index) = (k.select(moves, carried[0], value), k.select(moves, carried[1], index));
            list.set(k, at, better, better_index);
            vec![k.select(moves, value, carried[0]), k.select(moves, index, carried[1]), moving]
        });
        (carried[0], carried[1])
    };
    k.for_each(zero, count, 1, |k, j| {
        let v = load(k, j);
        let (v, index) = sink(k, v, j, j);
        list.set(k, j, v, index);
    });
    // With an empty list there is no last element to compare with.
    let some = k.cmp(Cmp::Gt, count, zero);
    let end = k.select(some, n, zero);
    k.for_each(count, end, 1, |k, j| {
        let v = load(k, j);
        let (worst, _) = list.get(k, last);
        let better = before(k, v, worst);
        k.when(better, |k| {
            sink(k, v, j, count);
        });
    });
}

/// Sorts `n` elements of `a`, with `b` of the same length as a second buffer; returns the one that holds the result.
fn sort(k: &mut Builder, a: List, b: List, n: Val, before: impl Fn(&mut Builder, Val, Val) -> Val) -> List {
    let elem = a.elem;
    // The length of runs doubles in each round, until one run spans all.
    let rounds = match k.as_int(n) {
        Some(n) => i64::from(64 - (n.max(1) - 1).leading_zeros()),
        None => 62,
    };
    let (zero, one, rounds) = (k.int(0), k.int(1), k.int(rounds));
    let init = [a.values, a.indices, b.values, b.indices];
    let lists = k.fold_loop(zero, rounds, 1, &init, |k, round, p| {
        let width = k.bin(Bin::Shl, one, round);
        let unsorted = k.cmp(Cmp::Lt, width, n);
        let (from, to) = (List { values: p[0], indices: p[1], elem }, List { values: p[2], indices: p[3], elem });
        k.choose(
            unsorted,
            |k| {
                merge_round(k, from, to, n, width, before);
                vec![p[2], p[3], p[0], p[1]]
            },
            |_| p.to_vec(),
        )
    });
    List { values: lists[0], indices: lists[1], elem }
}

/// Merges pairs of adjacent runs of `width` elements.
fn merge_round(
    k: &mut Builder,
    from: List,
    to: List,
    n: Val,
    width: Val,
    before: impl Fn(&mut Builder, Val, Val) -> Val,
) {
    let zero = k.int(0);
    let double = k.add(width, width);
    let last = k.add_int(n, -1);
    let lifted = k.add(last, double);
    let pairs = k.bin(Bin::Div, lifted, double);
    k.for_each(zero, pairs, 1, |k, pair| {
        let start = k.mul(pair, double);
        let middle = k.add(start, width);
        let middle = k.bin(Bin::Min, middle, n);
        let end = k.add(start, double);
        let end = k.bin(Bin::Min, end, n);
        k.fold_loop(start, end, 1, &[start, middle], |k, at, heads| {
            let (left, right) = (heads[0], heads[1]);
            let (safe_left, safe_right) = (k.bin(Bin::Min, left, last), k.bin(Bin::Min, right, last));
            let ((v, i), (w, j)) = (from.get(k, safe_left), from.get(k, safe_right));
            let no_left = k.cmp(Cmp::Ge, left, middle);
            let some_right = k.cmp(Cmp::Lt, right, end);
            // Both comparisons yield masks of one width.
            let first = before(k, w, v);
            let (yes, no) = (k.int(1), k.int(0));
            let first = k.select(first, yes, no);
            let first = k.cmp(Cmp::Ne, first, no);
            let first = k.bin(Bin::And, first, some_right);
            let take_right = k.bin(Bin::Or, no_left, first);
            let (value, index) = (k.select(take_right, w, v), k.select(take_right, j, i));
            to.set(k, at, value, index);
            let (next_left, next_right) = (k.add_int(left, 1), k.add_int(right, 1));
            vec![k.select(take_right, left, next_left), k.select(take_right, next_right, right)]
        });
    });
}
