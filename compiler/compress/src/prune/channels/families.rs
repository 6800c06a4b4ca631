//! Sets of channels that may go, by the layers that make them.

use std::collections::{BTreeMap, BTreeSet};

use super::trace::Trace;

/// Channels that go together: one of each coupled layer, in the simplest case.
pub type Unit = Vec<usize>;

/// Units that the same layers make.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// The units, by their first channels.
    pub units: Vec<Unit>,
    /// The channels of a unit that one layer makes.
    pub per_layer: usize,
    /// The layers that make the channels, by their places in the trace.
    pub makers: Vec<usize>,
    /// The layers that read the channels and mix them.
    pub readers: Vec<usize>,
}

/// The families of a trace whose makers are all accepted; and why the channels of the other layers stay.
pub fn families(trace: &mut Trace, accepts: impl Fn(usize) -> bool) -> (Vec<Family>, BTreeMap<usize, String>) {
    let layers = trace.layers.clone();
    let mut stay = BTreeMap::new();
    // The unit of each channel, and the makers of each unit with the number of their channels.
    let (mut units, mut makers): (BTreeMap<usize, Unit>, BTreeMap<usize, BTreeMap<usize, usize>>) = Default::default();
    for (n, layer) in layers.iter().enumerate() {
        for &channel in &layer.makes {
            let root = trace.sets.find(channel);
            units.entry(root).or_default().push(channel);
            *makers.entry(root).or_default().entry(n).or_default() += 1;
        }
    }
    // Layers with common units are one family.
    let mut family: Vec<usize> = (0..layers.len()).collect();
    for of in makers.values() {
        let least = of.keys().map(|&n| family[n]).min().unwrap_or(0);
        let old: BTreeSet<usize> = of.keys().map(|&n| family[n]).collect();
        family.iter_mut().filter(|f| old.contains(f)).for_each(|f| *f = least);
    }
    let mut found: BTreeMap<usize, Family> = BTreeMap::new();
    for (root, unit) in units {
        let of = &makers[&root];
        let number = of.keys().next().map_or(0, |&n| family[n]);
        let reason = match trace.sets.reason(root) {
            Some(reason) => Some(reason.to_string()),
            None => {
                of.keys().any(|&n| !accepts(n)).then(|| "they go with a layer that the step leaves alone".to_string())
            }
        };
        if let Some(reason) = reason {
            for &n in of.keys() {
                stay.entry(n).or_insert_with(|| reason.clone());
            }
            continue;
        }
        let most = of.values().copied().max().unwrap_or(1);
        let entry = found.entry(number).or_insert_with(|| Family {
            units: Vec::new(),
            per_layer: 1,
            makers: Vec::new(),
            readers: Vec::new(),
        });
        entry.per_layer = entry.per_layer.max(most);
        entry.makers.extend(of.keys());
        entry.units.push(unit);
    }
    let mut all: Vec<Family> = found.into_values().collect();
    for family in &mut all {
        family.makers.sort_unstable();
        family.makers.dedup();
        let roots: BTreeSet<usize> = family.units.iter().map(|unit| trace.sets.find(unit[0])).collect();
        for (n, layer) in layers.iter().enumerate() {
            let mixes = !layer.layer.is_depthwise();
            let reads = layer.reads.iter().flatten().any(|&c| roots.contains(&trace.sets.find(c)));
            if mixes && reads {
                family.readers.push(n);
            }
        }
    }
    // Nothing to choose from.
    all.retain(|family| family.units.len() > 1);
    (all, stay)
}
