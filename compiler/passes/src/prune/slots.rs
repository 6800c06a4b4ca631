//! Channels as slots: sets that must be kept or removed together, and whether they are needed.

/// Disjoint sets of slots; a set is needed or not.
#[derive(Default)]
pub(super) struct Slots {
    parent: Vec<usize>,
    /// Indexed by the root of the set.
    needed: Vec<bool>,
}

impl Slots {
    /// Adds `count` slots, each a set of its own; returns the first one's number.
    pub(super) fn add(&mut self, count: usize) -> usize {
        let first = self.parent.len();
        self.parent.extend(first..first + count);
        self.needed.resize(first + count, false);
        first
    }

    fn root(&mut self, mut slot: usize) -> usize {
        while self.parent[slot] != slot {
            self.parent[slot] = self.parent[self.parent[slot]];
            slot = self.parent[slot];
        }
        slot
    }

    /// Joins two sets.
    pub(super) fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        let (first, second) = (a.min(b), a.max(b));
        self.parent[second] = first;
        self.needed[first] |= self.needed[second];
    }

    /// Marks a slot's set as needed; returns whether it was not needed before.
    pub(super) fn need(&mut self, slot: usize) -> bool {
        let root = self.root(slot);
        !std::mem::replace(&mut self.needed[root], true)
    }

    /// Whether a slot's set is needed.
    pub(super) fn is_needed(&mut self, slot: usize) -> bool {
        let root = self.root(slot);
        self.needed[root]
    }
}
