//! Channels that are kept or removed together.

use std::collections::HashMap;

/// Disjoint sets of channels of values; each may have a reason to be kept.
#[derive(Debug, Default)]
pub struct Sets {
    parents: Vec<usize>,
    reasons: HashMap<usize, String>,
}

impl Sets {
    /// New channels, each by itself.
    pub fn add(&mut self, count: usize) -> Vec<usize> {
        let first = self.parents.len();
        self.parents.extend(first..first + count);
        (first..first + count).collect()
    }

    /// The channel that stands for the set of another.
    pub fn find(&mut self, mut channel: usize) -> usize {
        while self.parents[channel] != channel {
            self.parents[channel] = self.parents[self.parents[channel]];
            channel = self.parents[channel];
        }
        channel
    }

    /// The same without shortening paths.
    pub fn root(&self, mut channel: usize) -> usize {
        while self.parents[channel] != channel {
            channel = self.parents[channel];
        }
        channel
    }

    /// The number of channels.
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Lets two channels be kept or removed together.
    pub fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        // The earliest stands for all, whatever the order of joining.
        let (low, high) = (a.min(b), a.max(b));
        self.parents[high] = low;
        if let Some(reason) = self.reasons.remove(&high) {
            self.reasons.entry(low).or_insert(reason);
        }
    }

    /// Keeps a channel.
    pub fn need(&mut self, channel: usize, reason: &str) {
        let root = self.find(channel);
        self.reasons.entry(root).or_insert_with(|| reason.to_string());
    }

    /// Why a channel is kept, if it must be.
    pub fn reason(&mut self, channel: usize) -> Option<&str> {
        let root = self.find(channel);
        self.reasons.get(&root).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_hold_for_all_that_is_joined() {
        let mut sets = Sets::default();
        let c = sets.add(4);
        sets.join(c[3], c[1]);
        sets.need(c[3], "output");
        sets.join(c[1], c[0]);
        assert_eq!(
            (0..4).map(|n| sets.reason(n).map(str::to_string)).collect::<Vec<_>>(),
            [Some("output".to_string()), Some("output".to_string()), None, Some("output".to_string())]
        );
        assert_eq!(sets.find(3), 0);
    }
}
