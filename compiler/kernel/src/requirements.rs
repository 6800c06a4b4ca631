//! The checks of a program before it runs: the graph's requirements that its input types do not already prove, with
//! messages in the caller's dimensions, and that every tensor is addressable.
//!
//! Requirements on a single extent become bounds on it ("at least 7"); the strictest one is kept. Bounds are checked
//! first, and conditions that they imply are not checked again.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::program::upper_bound;
use super::program::{Check, Program, Symbol, SymbolSource};
use mcc_ir::bounds::{self, Interval};
use mcc_ir::{Condition, Dim, Graph, NodeId, Requirement, Sym, Tensor};

/// With more sizes than this, implications between them are not searched.
const COMPARED: usize = 64;
/// Largest extent considered in the search for bounds.
const LARGEST_BOUND: i64 = 1 << 40;

/// The checks on a graph's dimensions.
pub struct Checks {
    /// Checks to make before any step, in order.
    pub before: Vec<Check>,
    /// Checks to make once a step of the graph binds a symbol, by the symbol's index.
    pub after: HashMap<usize, Vec<Check>>,
}

/// A model's symbols, and the names of its inputs.
pub struct Known<'a> {
    /// In binding order.
    pub symbols: &'a [Symbol],
    /// In order.
    pub inputs: &'a [String],
}

/// The checks of a model or a region; `sizes` are the bytes of memory needed besides the graph's values, each with its
/// name.
pub fn checks(graph: &Graph, known: &Known<'_>, sizes: Vec<(Dim, String)>) -> Checks {
    let own = graph.topological().into_iter().flat_map(|node| graph.required_by(node));
    let mut seen = HashSet::new();
    let required: Vec<&Requirement> = graph.requires.iter().chain(own).filter(|r| seen.insert(&r.condition)).collect();
    let own: HashSet<Sym> = graph.nodes().flat_map(|n| graph.op(n).binds().into_iter().cloned()).collect();
    let Known { symbols, inputs } = known;
    let checks = Checks { before: Vec::new(), after: HashMap::new() };
    let mut maker = Maker { graph, symbols, inputs, own, bounds: HashMap::new(), checks };
    let (bounds, others): (Vec<_>, Vec<_>) = required.into_iter().partition(|r| maker.bounds_extent(r));
    drop(bounds);
    maker.bounds_first();
    others.into_iter().for_each(|r| maker.condition(r));
    maker.sizes(sizes);
    maker.checks
}

impl Program {
    /// The symbol values for which the first failing check before all steps fails, such as "h is 5".
    pub fn unmet(&self, inputs: &[Tensor]) -> Option<String> {
        let value = |s: &Sym| match &self.symbols.iter().find(|x| x.name == *s)?.source {
            SymbolSource::InputDim { input, axis } => Some(*inputs.get(*input)?.shape().get(*axis)? as i64),
            SymbolSource::InputElement { input, index } => {
                let t = inputs.get(*input).filter(|t| !t.dtype().is_float() && *index < t.numel())?;
                Some(t.i64_at(*index))
            }
            SymbolSource::Step { .. } => None,
        };
        let apply = |d: &Dim| d.substitute(&|s| value(s).map(Dim::from));
        let wrong = |c: &&Check| c.condition.map(&apply).holds() == Some(false);
        let symbols: BTreeSet<Sym> =
            self.requires.iter().find(wrong)?.condition.dims().flat_map(|d| d.symbols()).collect();
        let list: Vec<String> = symbols.iter().filter_map(|s| Some(format!("{s} is {}", value(s)?))).collect();
        (!list.is_empty()).then(|| list.join(", "))
    }
}

/// The bounds that requirements set on an extent, each with its reason.
#[derive(Default)]
struct Bound<'a> {
    least: Option<(i64, &'a str)>,
    most: Option<(i64, &'a str)>,
}

struct Maker<'a> {
    graph: &'a Graph,
    symbols: &'a [Symbol],
    inputs: &'a [String],
    /// Symbols that steps of the graph bind.
    own: HashSet<Sym>,
    bounds: HashMap<Sym, Bound<'a>>,
    checks: Checks,
}

impl<'a> Maker<'a> {
    fn interval(&self, d: &Dim) -> Interval {
        bounds::interval(d, &|s| {
            let source = self.symbols.iter().find(|x| x.name == *s).map(|x| &x.source);
            let known = self.bounds.get(s);
            match source {
                None | Some(SymbolSource::InputElement { .. }) => Interval::ALL,
                Some(SymbolSource::InputDim { .. } | SymbolSource::Step { .. }) => Interval {
                    low: Some(known.and_then(|b| b.least).map_or(0, |(least, _)| least)),
                    high: known.and_then(|b| b.most).map(|(most, _)| most),
                },
            }
        })
    }

    /// Whether a requirement bounds a single extent of an input; if so, records the bound.
    fn bounds_extent(&mut self, requirement: &'a Requirement) -> bool {
        let Condition::AtLeast(a, b) = &requirement.condition else { return false };
        let d = a - b;
        let mut of = d.symbols().into_iter();
        let (Some(symbol), None) = (of.next(), of.next()) else { return false };
        let source = self.symbols.iter().find(|s| s.name == symbol).map(|s| &s.source);
        if !matches!(source, Some(SymbolSource::InputDim { .. })) {
            return false;
        }
        let holds = |v: i64| d.eval(&|_| Some(v)).is_some_and(|d| d >= 0);
        // The first extent for which it holds, or does not.
        let first = |holding: bool| {
            let (mut before, mut at) = (-1, LARGEST_BOUND);
            while at - before > 1 {
                let middle = before + (at - before) / 2;
                if holds(middle) == holding { at = middle } else { before = middle }
            }
            at
        };
        let bound = match bounds::rises(&d) {
            Some(true) if holds(LARGEST_BOUND) => (Some(first(true)), None),
            Some(false) if holds(0) => (None, (!holds(LARGEST_BOUND)).then(|| first(false) - 1)),
            _ => return false,
        };
        let known = self.bounds.entry(symbol).or_default();
        if let Some(least) = bound.0.filter(|&l| l > known.least.map_or(0, |(least, _)| least)) {
            known.least = Some((least, &requirement.reason));
        }
        if let Some(most) = bound.1.filter(|&m| known.most.is_none_or(|(most, _)| m < most)) {
            known.most = Some((most, &requirement.reason));
        }
        true
    }

    fn bounds_first(&mut self) {
        for symbol in self.symbols {
            let Some(Bound { least, most }) = self.bounds.get(&symbol.name) else { continue };
            let extent = || Dim::sym(symbol.name.0.clone());
            let least = least.map(|(least, why)| (Condition::AtLeast(extent(), Dim::from(least)), why));
            let most = most.map(|(most, why)| (Condition::AtLeast(Dim::from(most), extent()), why));
            for (condition, why) in least.into_iter().chain(most) {
                let text = self.text(&condition, why);
                self.checks.before.push(Check { condition, text });
            }
        }
    }

    fn condition(&mut self, requirement: &Requirement) {
        let condition = &requirement.condition;
        let certain = match condition {
            Condition::AtLeast(a, b) => self.interval(&(a - b)).low.is_some_and(|low| low >= 0),
            other => other.holds() == Some(true),
        };
        if certain {
            return;
        }
        let text = self.text(condition, &requirement.reason);
        let depends = |s: &Symbol| condition.dims().any(|d| d.symbols().contains(&s.name));
        let after = self.symbols.iter().rposition(|s| self.own.contains(&s.name) && depends(s));
        let checks = match after {
            Some(symbol) => self.checks.after.entry(symbol).or_default(),
            None => &mut self.checks.before,
        };
        checks.push(Check { condition: condition.clone(), text });
    }

    /// Checks that all values and other memory are addressable, and that no value's extent overflows: a zero extent
    /// would hide such an overflow in the number of bytes.
    fn sizes(&mut self, others: Vec<(Dim, String)>) {
        let mut seen = HashSet::new();
        // A region's inputs are checked by the outer graph.
        let given = |node: &NodeId| self.graph.is_region() && self.graph.inputs().contains(node);
        let nodes = self.graph.topological().into_iter().filter(|node| !given(node));
        let values = nodes.flat_map(|node| {
            let label = format!("a result of node \"{}\"", self.graph.label(node));
            self.graph.types(node).iter().flat_map(move |ty| {
                let computed = ty.shape.iter().filter(|d| d.as_sym().is_none()).cloned();
                computed.chain([ty.bytes()]).map(|d| (d, label.clone())).collect::<Vec<_>>()
            })
        });
        let bounded = values.chain(others).map(|(bytes, what)| (upper_bound(&bytes, self.symbols), what));
        let sizes: Vec<(Dim, String)> =
            bounded.filter(|(bytes, _)| bytes.as_const().is_none() && seen.insert(bytes.clone())).collect();
        let implied = |n: usize| {
            let by = |m: usize| {
                let low = self.interval(&(&sizes[m].0 - &sizes[n].0)).low;
                low.is_some_and(|low| low >= 0) && (m < n || low != Some(0))
            };
            sizes.len() <= COMPARED && (0..sizes.len()).any(|m| m != n && by(m))
        };
        let needed: Vec<usize> = (0..sizes.len()).filter(|&n| !implied(n)).collect();
        for n in needed {
            let (bytes, what) = &sizes[n];
            let text = format!("the dimensions make {what} larger than can be addressed: {bytes}");
            self.checks.before.push(Check { condition: Condition::Fits(bytes.clone()), text });
        }
    }

    fn text(&self, condition: &Condition, reason: &str) -> String {
        let says = match condition {
            Condition::Equal(a, b) if b.as_const().is_some() => format!("{} must be {b}", self.subject(a)),
            Condition::Equal(a, b) if a.as_const().is_some() => format!("{} must be {a}", self.subject(b)),
            Condition::Equal(a, b) => format!("{} and {} must be equal", self.subject(a), self.subject(b)),
            Condition::AtLeast(a, b) if b.is(0) => format!("{} must not be negative", self.subject(a)),
            Condition::AtLeast(a, b) if a.as_const().is_some() => format!("{} must be at most {a}", self.subject(b)),
            Condition::AtLeast(a, b) => format!("{} must be at least {}", self.subject(a), self.subject(b)),
            Condition::Differ(a, b) => format!("{} must not be {}", self.subject(a), self.subject(b)),
            Condition::Fits(bytes) => format!("{bytes} bytes cannot be addressed"),
        };
        if reason.is_empty() { says } else { format!("{says}, for {reason}") }
    }

    /// A dimension in the caller's terms.
    fn subject(&self, d: &Dim) -> String {
        let source = d.as_sym().and_then(|s| self.symbols.iter().find(|x| x.name == *s)).map(|s| &s.source);
        let name = |input: usize| self.inputs.get(input).map_or("", String::as_str);
        match source {
            Some(SymbolSource::InputDim { input, axis }) if d.to_string() == format!("{}.dim{axis}", name(*input)) => {
                format!("dimension {axis} of input \"{}\"", name(*input))
            }
            Some(SymbolSource::InputDim { input, axis }) => {
                format!("dimension {axis} ({d}) of input \"{}\"", name(*input))
            }
            Some(SymbolSource::InputElement { input, index }) => {
                format!("element {index} of input \"{}\"", name(*input))
            }
            Some(SymbolSource::Step { .. }) | None => d.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::lower;
    use crate::program::Program;
    use mcc_ir::{Tensor, text};
    use mcc_targets::Config;

    fn program(graph: &str) -> Program {
        let mut graph = text::parse(graph).expect("a graph");
        // In a model, the nodes' requirements are the graph's own.
        for node in graph.topological() {
            graph.required_by(node).to_vec().into_iter().for_each(|r| graph.requires.push(r));
        }
        lower(&graph, &Config::host(None).expect("the host is a target"), "t").expect("lowers")
    }

    fn texts(graph: &str) -> Vec<String> {
        program(graph).requires.into_iter().map(|check| check.text).filter(|t| !t.contains("addressed")).collect()
    }

    #[test]
    fn windows_in_a_row_bound_the_image() {
        let pool =
            "{kind=max, kernel=[3], strides=[2], dilations=[1], pads=[(0, 0)], ceil=false, layout=channels_first}";
        let graph = format!(
            "%0 = input \"x\" : f32[1, 3, height]\n\
             %1 = pool(%0) {pool} : f32[1, 3, floordiv(height-1,2)]  // one\n\
             %2 = pool(%1) {pool} : f32[1, 3, floordiv(floordiv(height-1,2)-1,2)]  // two\n\
             output \"y\" = %2\n"
        );
        // The second window's requirement implies the first, and that no extent is negative.
        let want =
            "dimension 2 (height) of input \"x\" must be at least 7, for node \"two\": its window along spatial axis 0";
        assert_eq!(texts(&graph), [want]);
        let six = Tensor::zeros(mcc_ir::DType::F32, vec![1, 3, 6]);
        assert_eq!(program(&graph).unmet(&[six]).as_deref(), Some("height is 6"));
    }

    #[test]
    fn what_is_certain_is_not_checked() {
        let graph = "%0 = input \"x\" : f32[n, 8]\n%1 = relu(%0) : f32[n, 8]\noutput \"y\" = %1\n";
        assert!(texts(&graph.replace("relu", "exp")).is_empty());
    }

    #[test]
    fn falling_requirements_bound_from_above() {
        let graph = "%0 = input \"x\" : f32[7]\n\
                     %1 = input \"like\" : f32[k]\n\
                     %2, %3 = top_k(%0) {k=k, axis=0, largest=true} : f32[k], i64[k]  // best\n\
                     %4 = add(%1, %2) : f32[k]\n\
                     output \"y\" = %4\n";
        let want = "dimension 0 (k) of input \"like\" must be at most 7, for node \"best\": k along axis 0";
        assert_eq!(texts(graph), [want]);
    }
}
