//! Whether a dimension's name says that extents are equal.
//!
//! ONNX means one extent by one name, but exporters give "batch" or "N" to whatever they do not know, and other engines do not
//! look at it. What the nodes require decides: a model is imported with every use of a name a symbol of its own; where some
//! requirement brings two of them together they are one, else they are told apart, and a warning says so.

use std::collections::{BTreeMap, HashMap};

use mcc_ir::{Condition, Graph, Requirement};

/// A named dimension of an input that is not pinned.
#[derive(Debug, Clone)]
pub struct Use {
    /// Its name in the model.
    pub name: String,
    /// Where it stands: the input and the axis.
    pub place: (String, usize),
    /// The symbol that it got.
    pub symbol: String,
}

/// Which uses of a name are one dimension: those of one number, which is 0 where nothing is said.
pub type Naming = HashMap<(String, usize), usize>;

/// Every use for itself; `None` where no name has two.
pub fn apart(uses: &[Use]) -> Option<Naming> {
    let naming = numbered(uses, |n, _| n);
    naming.values().any(|&n| n > 0).then_some(naming)
}

/// The uses that the requirements of a model keep apart, which was imported with each for itself; `None` where they bring all
/// uses of every name together.
pub fn required(graph: &Graph, uses: &[Use]) -> Option<Naming> {
    let mut parents: HashMap<String, String> = HashMap::new();
    for requirement in required_within(graph) {
        // That a product of extents can be addressed says nothing of either.
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

/// Everything that a graph, its nodes and its regions require.
fn required_within(graph: &Graph) -> Vec<&Requirement> {
    let nodes = graph.topological();
    let own = nodes.iter().flat_map(|&node| graph.required_by(node));
    let within = nodes.iter().flat_map(|&node| graph.regions(node)).flat_map(required_within);
    graph.requires.iter().chain(own).chain(within).collect()
}

/// What a user should know of names that stand for several dimensions.
pub fn warnings(uses: &[Use]) -> Vec<String> {
    let mut by_name: BTreeMap<&str, BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    for u in uses {
        let places = by_name.entry(&u.name).or_default().entry(&u.symbol).or_default();
        places.push(format!("axis {} of input \"{}\"", u.place.1, u.place.0));
    }
    let several = by_name.into_iter().filter(|(_, symbols)| symbols.len() > 1);
    let told = several.map(|(name, symbols)| {
        let list = symbols.into_iter().map(|(symbol, places)| format!("{} is {symbol}", places.join(" and ")));
        let list: Vec<String> = list.collect();
        format!("dimension \"{name}\" is several, since no node needs them to be equal: {}", list.join(", "))
    });
    told.collect()
}

/// Numbers the uses of each name by a key, in the order in which keys come up.
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
