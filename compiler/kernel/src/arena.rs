//! The memory plan: offsets of all intermediate buffers in one arena.
//!
//! Buffers of constant size are placed greedily, each at the lowest offset where it overlaps no buffer that lives at the
//! same time (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, who take the
//! largest first). No order is best for every graph, so several are tried. Buffers of symbolic size follow in slots:
//! when the owner of a slot dies, another buffer takes the slot.
//!
//! Steps form a tree; lifetimes are intervals of its steps in listing order. For branches that is exact: only one of
//! two branches runs, so buffers live in one branch alone may share memory with the other's, and buffers live across
//! both cover both. A loop will have to extend lifetimes: a value made before the loop and read in it lives to the
//! loop's end, and a value passed from one round to the next lives through the whole loop.

use std::collections::BTreeMap;

use super::program::ALIGN;
use mcc_ir::{Dim, bounds};

/// The requirements of a buffer: bytes, and the first and last step (inclusive) of its lifetime.
#[derive(Debug, Clone)]
pub struct Lifetime {
    /// Size.
    pub bytes: Dim,
    /// The step that first writes it.
    pub first: usize,
    /// The last step that accesses it.
    pub last: usize,
}

/// The layout of the arena.
#[derive(Debug, Clone)]
pub struct ArenaPlan {
    /// Byte offset of each buffer, a multiple of [`ALIGN`].
    pub offsets: Vec<Dim>,
    /// Size of the arena.
    pub bytes: Dim,
    /// Largest sum of constant-size buffers that are live at once.
    pub live: Dim,
}

/// Assigns an offset to each buffer.
pub fn plan(buffers: &[Lifetime]) -> ArenaPlan {
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
    let (top, best) = place_fixed(buffers, &fixed, live);
    for (&(n, _), offset) in fixed.iter().zip(best) {
        offsets[n] = Dim::from(offset);
    }
    let bytes = place_in_slots(buffers, &symbolic, Dim::from(top), &mut offsets);
    ArenaPlan { offsets, bytes, live: Dim::from(live) }
}

/// Sort keys for buffers of a given size; buffers are placed in ascending order.
const ORDERS: &[fn(&Lifetime, i64) -> (i64, i64)] = &[
    |b, bytes| (-bytes, b.first as i64),
    |b, bytes| (-bytes.saturating_mul((b.last - b.first + 1) as i64), b.first as i64),
    |b, _| (-((b.last - b.first) as i64), b.first as i64),
    |b, bytes| (b.first as i64, -bytes),
    |b, bytes| (-(b.last as i64), -bytes),
];

/// How many times a buffer that extends too far may be moved to the front of the order.
const ATTEMPTS: u64 = 32;

/// Limit on visited pairs of buffers that live at the same time: large graphs get fewer attempts.
const WORK: u64 = 200_000_000;

/// The memory used, and the offset of each buffer of constant size, in order.
type Placement = (i64, Vec<i64>);

/// Places the buffers of constant size, using the best of the orders that the budget allows.
fn place_fixed(buffers: &[Lifetime], fixed: &[(usize, i64)], live: i64) -> Placement {
    let Some(neighbours) = Neighbours::of(buffers, fixed) else { return in_time(buffers, fixed) };
    let attempts = WORK / neighbours.work().max(1);
    let orders = usize::try_from(attempts).unwrap_or(usize::MAX).clamp(1, ORDERS.len());
    let again = (attempts / orders as u64).min(ATTEMPTS);
    let placements = ORDERS[..orders].iter().map(|key| search(buffers, fixed, key, live, again, &neighbours));
    placements.min_by_key(|p| p.0).unwrap_or_default()
}

/// For each buffer of constant size, those that are live at the same time, in one list.
struct Neighbours {
    starts: Vec<usize>,
    list: Vec<u32>,
}

impl Neighbours {
    /// `None` if there are too many to list.
    fn of(buffers: &[Lifetime], fixed: &[(usize, i64)]) -> Option<Neighbours> {
        const MOST: usize = 16 << 20;
        let mut by_start: Vec<usize> = (0..fixed.len()).collect();
        by_start.sort_by_key(|&i| buffers[fixed[i].0].first);
        let (mut live, mut pairs): (Vec<usize>, Vec<(u32, u32)>) = (Vec::new(), Vec::new());
        for i in by_start {
            let own = &buffers[fixed[i].0];
            live.retain(|&j| overlap(&buffers[fixed[j].0], own));
            if pairs.len() + live.len() > MOST {
                return None;
            }
            pairs.extend(live.iter().map(|&j| (i as u32, j as u32)));
            live.push(i);
        }
        let mut starts = vec![0; fixed.len() + 1];
        for &(i, j) in &pairs {
            starts[i as usize + 1] += 1;
            starts[j as usize + 1] += 1;
        }
        for i in 0..fixed.len() {
            starts[i + 1] += starts[i];
        }
        let (mut next, mut list) = (starts.clone(), vec![0; 2 * pairs.len()]);
        for (i, j) in pairs {
            for (own, other) in [(i, j), (j, i)] {
                list[next[own as usize]] = other;
                next[own as usize] += 1;
            }
        }
        Some(Neighbours { starts, list })
    }

    fn of_buffer(&self, i: usize) -> &[u32] {
        &self.list[self.starts[i]..self.starts[i + 1]]
    }

    /// The cost of placing all buffers once.
    fn work(&self) -> u64 {
        (self.starts.len() + self.list.len()) as u64
    }
}

/// Places buffers in order of their first step, each into the lowest gap that is free then.
fn in_time(buffers: &[Lifetime], fixed: &[(usize, i64)]) -> Placement {
    let mut events: Vec<(usize, bool, usize)> = Vec::with_capacity(2 * fixed.len());
    for (i, &(n, _)) in fixed.iter().enumerate() {
        events.push((buffers[n].first, true, i));
        // Buffers are freed after their last step, before those of the next step are placed.
        events.push((buffers[n].last + 1, false, i));
    }
    events.sort_unstable();
    let (mut offsets, mut top) = (vec![0; fixed.len()], 0);
    // Gaps by offset; the memory after the last buffer is one gap without an end.
    let mut free: BTreeMap<i64, i64> = BTreeMap::from([(0, 1 << 62)]);
    for (_, starts, i) in events {
        let bytes = fixed[i].1;
        if starts {
            let gap = free.iter().find(|(_, size)| **size >= bytes).map(|(&at, &size)| (at, size));
            // No gap is large enough: the returned arena size reports that.
            let Some((at, size)) = gap else { return (i64::MAX, offsets) };
            free.remove(&at);
            if size > bytes {
                free.insert(at + bytes, size - bytes);
            }
            offsets[i] = at;
            top = top.max(at + bytes);
        } else {
            let (mut at, mut size) = (offsets[i], bytes);
            if let Some((&before, &gap)) = free.range(..at).next_back().filter(|(start, gap)| *start + *gap == at) {
                free.remove(&before);
                (at, size) = (before, gap + size);
            }
            if let Some(behind) = free.remove(&(at + size)) {
                size += behind;
            }
            free.insert(at, size);
        }
    }
    (top, offsets)
}

/// Places buffers of constant size in an order, then again with the buffer that reached furthest moved to the front, as
/// long as the arena is larger than the live bytes. Returns the best placement.
fn search(
    buffers: &[Lifetime],
    fixed: &[(usize, i64)],
    key: &dyn Fn(&Lifetime, i64) -> (i64, i64),
    live: i64,
    attempts: u64,
    neighbours: &Neighbours,
) -> Placement {
    let mut order: Vec<usize> = (0..fixed.len()).collect();
    order.sort_by_key(|&i| (key(&buffers[fixed[i].0], fixed[i].1), i));
    let mut best = place(fixed, &order, neighbours);
    for _ in 0..attempts {
        let (top, offsets) = place(fixed, &order, neighbours);
        let furthest = order.iter().position(|&i| offsets[i] + fixed[i].1 == top);
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

/// Places buffers in the given order.
fn place(fixed: &[(usize, i64)], order: &[usize], neighbours: &Neighbours) -> Placement {
    const NOWHERE: i64 = -1;
    let (mut offsets, mut top, mut taken) = (vec![NOWHERE; fixed.len()], 0, Vec::new());
    for &i in order {
        taken.clear();
        let placed = neighbours.of_buffer(i).iter().map(|&j| (offsets[j as usize], fixed[j as usize].1));
        taken.extend(placed.filter(|p| p.0 != NOWHERE));
        taken.sort_unstable();
        let bytes = fixed[i].1;
        let offset = lowest_gap(&taken, bytes);
        top = top.max(offset.saturating_add(bytes));
        offsets[i] = offset;
    }
    (top, offsets)
}

fn align(bytes: i64) -> i64 {
    bytes.saturating_add(ALIGN as i64 - 1) / ALIGN as i64 * ALIGN as i64
}

fn overlap(a: &Lifetime, b: &Lifetime) -> bool {
    a.first <= b.last && b.first <= a.last
}

/// The lowest offset for `bytes` bytes that avoids the taken ranges (offset and bytes, sorted).
fn lowest_gap(taken: &[(i64, i64)], bytes: i64) -> i64 {
    let mut offset = 0i64;
    for &(start, size) in taken {
        if offset.saturating_add(bytes) <= start {
            break;
        }
        offset = offset.max(start.saturating_add(size));
    }
    offset
}

fn live_bytes(buffers: &[Lifetime], fixed: &[(usize, i64)]) -> i64 {
    let steps = fixed.iter().map(|&(n, _)| buffers[n].last + 1).max().unwrap_or(0);
    let mut delta = vec![0i64; steps + 1];
    for &(n, _) in fixed {
        let bytes = buffers[n].bytes.as_const().unwrap_or(0);
        delta[buffers[n].first] = delta[buffers[n].first].saturating_add(bytes);
        delta[buffers[n].last + 1] = delta[buffers[n].last + 1].saturating_sub(bytes);
    }
    let mut sum = 0;
    delta
        .iter()
        .map(|d| {
            sum = i64::saturating_add(sum, *d);
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
                slot.bytes = bounds::max(&slot.bytes, &b.bytes);
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
    fn both_ways_to_place_keep_lives_apart() {
        let buffers: Vec<Lifetime> =
            (0..200).map(|i| life(64 + i * 37 % 500, i as usize / 2, (i * 7 % 23 + i / 2) as usize)).collect();
        let fixed: Vec<(usize, i64)> =
            buffers.iter().enumerate().map(|(n, b)| (n, align(b.bytes.as_const().unwrap()))).collect();
        for (top, offsets) in [place_fixed(&buffers, &fixed, 0), in_time(&buffers, &fixed)] {
            for (a, x) in buffers.iter().enumerate() {
                assert!(offsets[a] >= 0 && offsets[a] + fixed[a].1 <= top);
                for (b, y) in buffers.iter().enumerate().skip(a + 1) {
                    let apart = offsets[a] + fixed[a].1 <= offsets[b] || offsets[b] + fixed[b].1 <= offsets[a];
                    assert!(apart || !overlap(x, y), "{a} and {b}");
                }
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
