//! The memory plan: offsets of all intermediate buffers in one arena.
//!
//! Buffers of constant size are placed greedily, each at the lowest offset where it overlaps no buffer that lives at the
//! same time (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, who take the
//! largest first). No order is best for every graph, so that several are tried. Buffers of symbolic size follow in slots: a slot is handed on when its owner dies.
//!
//! Steps are a tree, and lifetimes are intervals of its steps in the order of the listing. For branches that is exact: of
//! two branches one runs, so that what lives in the one alone may lie where the other one's buffers do, and what lives across
//! both covers both. A loop will have to stretch lives before it hands them over: what is made before the loop and read in
//! it lives to the loop's end, and what one round leaves to the next lives through all of it.

use std::collections::BTreeMap;

use super::program::ALIGN;
use mcc_ir::{Dim, bounds};

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
pub struct ArenaPlan {
    /// Byte offset of each buffer, a multiple of [`ALIGN`].
    pub offsets: Vec<Dim>,
    /// Size of the arena.
    pub bytes: Dim,
    /// Largest sum of constant-size buffers that live at once.
    pub live: Dim,
}

/// Places buffers.
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

/// What buffers may be sorted by before they are placed, given their size; the smallest comes first.
const ORDERS: &[fn(&Lifetime, i64) -> (i64, i64)] = &[
    |b, bytes| (-bytes, b.first as i64),
    |b, bytes| (-bytes.saturating_mul((b.last - b.first + 1) as i64), b.first as i64),
    |b, _| (-((b.last - b.first) as i64), b.first as i64),
    |b, bytes| (b.first as i64, -bytes),
    |b, bytes| (-(b.last as i64), -bytes),
];

/// How often a buffer that sticks out may be put first.
const ATTEMPTS: u64 = 32;

/// Pairs of buffers that live at the same time, looked at in all: large graphs get fewer attempts.
const WORK: u64 = 200_000_000;

/// Memory that buffers take, and the offset of each, in the order of the buffers of constant size.
type Placement = (i64, Vec<i64>);

/// Places the buffers of constant size: by the best of the orders that there is time for.
fn place_fixed(buffers: &[Lifetime], fixed: &[(usize, i64)], live: i64) -> Placement {
    let Some(neighbours) = Neighbours::of(buffers, fixed) else { return in_time(buffers, fixed) };
    let attempts = WORK / neighbours.work().max(1);
    let orders = usize::try_from(attempts).unwrap_or(usize::MAX).clamp(1, ORDERS.len());
    let again = (attempts / orders as u64).min(ATTEMPTS);
    let placements = ORDERS[..orders].iter().map(|key| search(buffers, fixed, key, live, again, &neighbours));
    placements.min_by_key(|p| p.0).unwrap_or_default()
}

/// For each buffer of constant size those that live at the same time, all in one list.
struct Neighbours {
    starts: Vec<usize>,
    list: Vec<u32>,
}

impl Neighbours {
    /// `None` when they are too many to list.
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

    /// What placing all buffers once costs.
    fn work(&self) -> u64 {
        (self.starts.len() + self.list.len()) as u64
    }
}

/// Places buffers in the order in which their lives start, each into the lowest gap of what is free then.
fn in_time(buffers: &[Lifetime], fixed: &[(usize, i64)]) -> Placement {
    let mut events: Vec<(usize, bool, usize)> = Vec::with_capacity(2 * fixed.len());
    for (i, &(n, _)) in fixed.iter().enumerate() {
        events.push((buffers[n].first, true, i));
        // What is free behind a step comes before what starts at the next one.
        events.push((buffers[n].last + 1, false, i));
    }
    events.sort_unstable();
    let (mut offsets, mut top) = (vec![0; fixed.len()], 0);
    // Gaps by offset; what lies behind the last one is free to the end.
    let mut free: BTreeMap<i64, i64> = BTreeMap::from([(0, 1 << 62)]);
    for (_, starts, i) in events {
        let bytes = fixed[i].1;
        if starts {
            let gap = free.iter().find(|(_, size)| **size >= bytes).map(|(&at, &size)| (at, size));
            // There is no such memory: the arena's size says so.
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

/// Places buffers of constant size in an order, then again with the buffer that reached furthest put first, as long
/// as more memory is taken than lives at once. Gives the best placement.
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

/// Places buffers in the order given.
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

/// The lowest offset for so many bytes, beside those that are taken: offsets, sorted, and bytes.
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
