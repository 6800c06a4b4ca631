//! The memory plan: offsets of all intermediate buffers in one arena.
//!
//! Buffers of constant size are placed greedily, each at the lowest offset where it overlaps no buffer that lives at the
//! same time (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, who take the
//! largest first). No order is best for every graph, so that several are tried. Buffers of symbolic size follow in slots: a slot is handed on when its owner dies.

use super::program::ALIGN;
use crate::ir::Dim;

/// A buffer's need: bytes, and the first and last step (inclusive) of its life.
#[derive(Debug, Clone)]
pub struct Lifetime {
    /// Size.
    pub bytes: Dim,
    /// Step that writes it first.
    pub first: usize,
    /// Last step that touches it.
    pub last: usize,
}

/// Where everything lies.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Byte offset of each buffer, a multiple of [`ALIGN`].
    pub offsets: Vec<Dim>,
    /// Size of the arena.
    pub bytes: Dim,
    /// Largest sum of constant-size buffers that live at once.
    pub live: Dim,
}

/// Places buffers.
pub fn plan(buffers: &[Lifetime]) -> Plan {
    let mut offsets = vec![Dim::ZERO; buffers.len()];
    let mut fixed: Vec<(usize, i64)> = Vec::new();
    let mut symbolic: Vec<usize> = Vec::new();
    for (n, b) in buffers.iter().enumerate() {
        match b.bytes.as_const() {
            Some(bytes) => fixed.push((n, align(bytes.max(1)))),
            None => symbolic.push(n),
        }
    }
    let live = live_bytes(buffers, &fixed);
    let (top, best) =
        ORDERS.iter().map(|key| search(buffers, &fixed, key, live)).min_by_key(|p| p.0).unwrap_or_default();
    for (n, offset) in best {
        offsets[n] = Dim::from(offset);
    }
    let bytes = place_in_slots(buffers, &symbolic, Dim::from(top), &mut offsets);
    Plan { offsets, bytes, live: Dim::from(live) }
}

/// What buffers may be sorted by before they are placed, given their size; the smallest comes first.
const ORDERS: &[fn(&Lifetime, i64) -> (i64, i64)] = &[
    |b, bytes| (-bytes, b.first as i64),
    |b, bytes| (-bytes.saturating_mul((b.last - b.first + 1) as i64), b.first as i64),
    |b, _| (-((b.last - b.first) as i64), b.first as i64),
    |b, bytes| (b.first as i64, -bytes),
    |b, bytes| (-(b.last as i64), -bytes),
];

/// How often a buffer that sticks out may be put first.
const ATTEMPTS: usize = 32;

/// Memory that buffers take, and the offset of each.
type Placement = (i64, Vec<(usize, i64)>);

/// Places buffers of constant size in an order, then again with the buffer that reached furthest put first, as long
/// as more memory is taken than lives at once. Gives the best placement.
fn search(
    buffers: &[Lifetime],
    fixed: &[(usize, i64)],
    key: &dyn Fn(&Lifetime, i64) -> (i64, i64),
    live: i64,
) -> Placement {
    let mut order = fixed.to_vec();
    order.sort_by_key(|&(n, bytes)| (key(&buffers[n], bytes), n));
    let mut best = place(buffers, &order);
    for _ in 0..ATTEMPTS {
        let (top, offsets) = place(buffers, &order);
        let furthest = order.iter().position(|&(n, bytes)| offsets.iter().any(|&(m, at)| m == n && at + bytes == top));
        if top < best.0 {
            best = (top, offsets);
        }
        match furthest {
            Some(at) if at > 0 && best.0 > live => order[..=at].rotate_right(1),
            _ => break,
        }
    }
    best
}

/// Places buffers in the order given.
fn place(buffers: &[Lifetime], order: &[(usize, i64)]) -> Placement {
    let mut placed: Vec<(usize, i64, i64)> = Vec::new();
    let mut top = 0;
    for &(n, bytes) in order {
        let offset = lowest_gap(buffers, &placed, n, bytes);
        top = top.max(offset + bytes);
        let at = placed.partition_point(|p| p.1 <= offset);
        placed.insert(at, (n, offset, offset + bytes));
    }
    (top, placed.into_iter().map(|(n, offset, _)| (n, offset)).collect())
}

fn align(bytes: i64) -> i64 {
    bytes.saturating_add(ALIGN as i64 - 1) / ALIGN as i64 * ALIGN as i64
}

fn overlap(a: &Lifetime, b: &Lifetime) -> bool {
    a.first <= b.last && b.first <= a.last
}

/// The lowest offset for buffer `n`; `placed` is sorted by offset.
fn lowest_gap(buffers: &[Lifetime], placed: &[(usize, i64, i64)], n: usize, bytes: i64) -> i64 {
    let mut offset = 0;
    for &(other, start, end) in placed.iter().filter(|p| overlap(&buffers[p.0], &buffers[n])) {
        assert_ne!(other, n);
        if offset + bytes <= start {
            break;
        }
        offset = offset.max(end);
    }
    offset
}

fn live_bytes(buffers: &[Lifetime], fixed: &[(usize, i64)]) -> i64 {
    let steps = fixed.iter().map(|&(n, _)| buffers[n].last + 1).max().unwrap_or(0);
    let mut delta = vec![0i64; steps + 1];
    for &(n, _) in fixed {
        let bytes = buffers[n].bytes.as_const().unwrap_or(0);
        delta[buffers[n].first] += bytes;
        delta[buffers[n].last + 1] -= bytes;
    }
    let mut sum = 0;
    delta
        .iter()
        .map(|d| {
            sum += d;
            sum
        })
        .max()
        .unwrap_or(0)
}

/// Gives each symbolic buffer a slot and returns the arena's size.
fn place_in_slots(buffers: &[Lifetime], symbolic: &[usize], base: Dim, offsets: &mut [Dim]) -> Dim {
    struct Slot {
        bytes: Dim,
        free_after: usize,
        owners: Vec<usize>,
    }
    let mut by_start = symbolic.to_vec();
    by_start.sort_by_key(|&n| (buffers[n].first, n));
    let mut slots: Vec<Slot> = Vec::new();
    for n in by_start {
        let b = &buffers[n];
        let free = |s: &&mut Slot| s.free_after < b.first;
        let same = slots.iter_mut().filter(free).position(|s| s.bytes == b.bytes);
        let mut candidates: Vec<&mut Slot> = slots.iter_mut().filter(free).collect();
        match (same, candidates.is_empty()) {
            (Some(i), _) => {
                candidates[i].free_after = b.last;
                candidates[i].owners.push(n);
            }
            (None, false) => {
                let slot = &mut candidates[0];
                slot.bytes = slot.bytes.greater(&b.bytes);
                slot.free_after = b.last;
                slot.owners.push(n);
            }
            (None, true) => slots.push(Slot { bytes: b.bytes.clone(), free_after: b.last, owners: vec![n] }),
        }
    }
    let unit = Dim::from(ALIGN);
    let mut top = base;
    for slot in slots {
        for n in slot.owners {
            offsets[n] = top.clone();
        }
        top = &top + &(&slot.bytes.ceil_div(&unit) * &unit);
    }
    top
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(bytes: i64, first: usize, last: usize) -> Lifetime {
        Lifetime { bytes: Dim::from(bytes), first, last }
    }

    #[test]
    fn disjoint_lives_share_memory() {
        let buffers = [life(128, 0, 1), life(64, 1, 2), life(128, 2, 3), life(64, 3, 4)];
        let plan = plan(&buffers);
        assert_eq!(plan.bytes, Dim::from(192i64));
        assert_eq!(plan.live, Dim::from(192i64));
        for (a, x) in buffers.iter().enumerate() {
            for (b, y) in buffers.iter().enumerate().skip(a + 1) {
                let (p, q) = (plan.offsets[a].as_const().unwrap(), plan.offsets[b].as_const().unwrap());
                let apart = p + x.bytes.as_const().unwrap() <= q || q + y.bytes.as_const().unwrap() <= p;
                assert!(apart || !overlap(x, y), "{a} and {b}");
            }
        }
    }

    #[test]
    fn symbolic_slots_are_handed_on() {
        let s = Dim::sym("s");
        let b = |first, last| Lifetime { bytes: s.clone(), first, last };
        let plan = plan(&[b(0, 1), b(1, 2), b(2, 3)]);
        assert_eq!(plan.offsets[0], plan.offsets[2]);
        assert_ne!(plan.offsets[0], plan.offsets[1]);
    }
}
