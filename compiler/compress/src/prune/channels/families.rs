//! Sets of channels that may go, by the products that make them.

use std::collections::{BTreeMap, BTreeSet};

use super::sets::Sets;
use super::trace::Trace;

/// Channels that go together: one of each coupled layer, in the simplest case.
pub type Unit = Vec<usize>;

/// Units that the same products make.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// The units, by their first channels.
    pub units: Vec<Unit>,
    /// The channels of a unit that one product makes.
    pub per_layer: usize,
    /// The products that make the channels, by their places in the trace.
    pub makers: Vec<usize>,
    /// The products that read the channels and mix them.
    pub readers: Vec<usize>,
}

/// What is known about a unit.
#[derive(Default)]
struct Made {
    channels: BTreeSet<usize>,
    /// The number of its channels that each product makes.
    makers: BTreeMap<usize, usize>,
}

/// The families of a trace whose makers are all accepted; and why the channels of the other products stay.
pub fn families(trace: &mut Trace, accepts: impl Fn(usize) -> bool) -> (Vec<Family>, BTreeMap<usize, String>) {
    let products = trace.products.clone();
    let mut units: BTreeMap<usize, Made> = BTreeMap::new();
    for (n, product) in products.iter().enumerate() {
        for &channel in product.makes.iter().collect::<BTreeSet<_>>() {
            let made = units.entry(trace.sets.find(channel)).or_default();
            made.channels.insert(channel);
            *made.makers.entry(n).or_default() += 1;
        }
    }
    // Products with common units are one family.
    let mut joined = Sets::default();
    joined.add(products.len());
    for made in units.values() {
        let mut makers = made.makers.keys();
        let first = makers.next().copied().unwrap_or(0);
        makers.for_each(|&n| joined.join(first, n));
    }
    let (mut stay, mut found) = (BTreeMap::new(), BTreeMap::<usize, Family>::new());
    let mut family_of: BTreeMap<usize, usize> = BTreeMap::new();
    for (root, made) in units {
        let number = made.makers.keys().next().map_or(0, |&n| joined.find(n));
        let kept = trace.sets.reason(root).map(str::to_string);
        let refused = || made.makers.keys().any(|&n| !accepts(n));
        let kept = kept.or_else(|| refused().then(|| "they go with a layer that the step leaves alone".to_string()));
        if let Some(reason) = kept {
            for &n in made.makers.keys() {
                stay.entry(n).or_insert_with(|| reason.clone());
            }
            continue;
        }
        let fresh = || Family { units: Vec::new(), per_layer: 1, makers: Vec::new(), readers: Vec::new() };
        let family = found.entry(number).or_insert_with(fresh);
        family.per_layer = family.per_layer.max(made.makers.values().copied().max().unwrap_or(1));
        family.makers.extend(made.makers.keys());
        family.units.push(made.channels.into_iter().collect());
        family_of.insert(root, number);
    }
    for (n, product) in products.iter().enumerate().filter(|(_, p)| !p.product.layer.is_depthwise()) {
        let read = product.reads.iter().flatten().filter_map(|&c| family_of.get(&trace.sets.find(c)));
        for number in read.copied().collect::<BTreeSet<_>>() {
            found.entry(number).and_modify(|family| family.readers.push(n));
        }
    }
    let mut all: Vec<Family> = found.into_values().collect();
    for family in &mut all {
        family.makers.sort_unstable();
        family.makers.dedup();
    }
    // Nothing to choose from.
    all.retain(|family| family.units.len() > 1);
    (all, stay)
}
