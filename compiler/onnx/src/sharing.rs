//! Whether dimensions with the same name are equal.
//!
//! In ONNX a name stands for one extent, but exporters use "batch" or "N" for everything unknown, and other engines
//! ignore the names. So the nodes decide: first every use of a name gets a symbol of its own; uses that a requirement
//! equates are then one dimension, and the others are separate, with a warning.

use std::collections::{BTreeMap, HashMap};

use mcc_ir::{Condition, Graph, Requirement};

/// A use of a named dimension of an input that is not pinned.
#[derive(Debug, Clone)]
pub struct Use {
    /// Its name in the model.
    pub name: String,
    /// The input and the axis.
    pub place: (String, usize),
    /// The symbol that it got.
    pub symbol: String,
}

/// The number of each use of a name; uses with the same number are one dimension. Without an entry it is 0.
pub type Naming = HashMap<(String, usize), usize>;

/// A different number for every use; `None` if no name has two uses.
pub fn apart(uses: &[Use]) -> Option<Naming> {
    let naming = numbered(uses, |n, _| n);
    naming.values().any(|&n| n > 0).then_some(naming)
}

/// The uses that a model's requirements equate, given the model imported with all uses separate; `None` if all uses of
/// every name are equated.
pub fn required(graph: &Graph, uses: &[Use]) -> Option<Naming> {
    let mut parents: HashMap<String, String> = HashMap::new();
    for requirement in required_within(graph) {
        // That a product of extents can be addressed says nothing about the extents.
        if matches!(requirement.condition, Condition::Fits(_)) {
            continue;
        }
        let symbols: Vec<String> =
            requirement.condition.dims().flat_map(|d| d.symbols()).map(|s| s.0.to_string()).collect();
        for pair in symbols.windows(2) {
            let (one, other) = (root(&parents, &pair[0]), root(&parents, &pair[1]));
            if one != other {
                parents.insert(one, other);
            }
        }
    }
    let naming = numbered(uses, |_, u| root(&parents, &u.symbol));
    naming.values().any(|&n| n > 0).then_some(naming)
}

/// The requirements of a graph, its nodes and its regions.
fn required_within(graph: &Graph) -> Vec<&Requirement> {
    let nodes = graph.topological();
    let own = nodes.iter().flat_map(|&node| graph.required_by(node));
    let within = nodes.iter().flat_map(|&node| graph.regions(node)).flat_map(required_within);
    graph.requires.iter().chain(own).chain(within).collect()
}

/// Warnings about names that stand for several dimensions.
pub fn warnings(uses: &[Use]) -> Vec<String> {
    let mut by_name: BTreeMap<&str, BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    for u in uses {
        let places = by_name.entry(&u.name).or_default().entry(&u.symbol).or_default();
        places.push(format!("axis {} of input \"{}\"", u.place.1, u.place.0));
    }
    let several = by_name.into_iter().filter(|(_, symbols)| symbols.len() > 1);
    let warnings = several.map(|(name, symbols)| {
        let list = symbols.into_iter().map(|(symbol, places)| format!("{} is {symbol}", places.join(" and ")));
        let list: Vec<String> = list.collect();
        format!(
            "dimension \"{name}\" is treated as several, since no node requires them to be equal: {}",
            list.join(", ")
        )
    });
    warnings.collect()
}

/// Numbers the uses of each name by a key, in the order in which the keys occur.
fn numbered<K: PartialEq>(uses: &[Use], key: impl Fn(usize, &Use) -> K) -> Naming {
    let mut keys: HashMap<&str, Vec<K>> = HashMap::new();
    let mut naming = Naming::new();
    for (n, u) in uses.iter().enumerate() {
        let (known, key) = (keys.entry(u.name.as_str()).or_default(), key(n, u));
        let number = known.iter().position(|k| *k == key).unwrap_or(known.len());
        if number == known.len() {
            known.push(key);
        }
        naming.insert(u.place.clone(), number);
    }
    naming
}

fn root(parents: &HashMap<String, String>, symbol: &str) -> String {
    let mut at = symbol;
    while let Some(parent) = parents.get(at) {
        at = parent;
    }
    at.to_string()
}
