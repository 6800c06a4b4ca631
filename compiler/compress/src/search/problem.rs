//! What is searched: sites, each of which takes one of the options, and the borders between them.

use std::collections::{BTreeMap, BTreeSet};

use mcc_ir::{Dim, Result};

use super::option::Opt;
use crate::layers::{self, Layer};
use crate::model::Model;
use crate::quantize::tables::{self, Table};
use crate::recipe::{Recipe, Step, fits};

/// The operator of tables.
const TABLE: &str = "Gather";

/// The option of each site: 0 leaves it as it is.
pub type Assignment = Vec<usize>;

/// What is searched.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What takes one option each.
    pub sites: Vec<Site>,
    /// The options: the first is to leave a site as it is.
    pub options: Vec<&'static Opt>,
    /// Where data goes from site to site.
    pub borders: Vec<Border>,
    /// The site of each layer's result.
    pub by_output: BTreeMap<String, usize>,
}

/// Layers that take the same option: usually one; several if a recipe cannot tell them apart by name.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// Names as a recipe's `only` has them; the first stands for all.
    pub names: Vec<String>,
    /// Layers and tables.
    pub members: Vec<Member>,
}

/// A layer, or a table that is looked up.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// Its result.
    pub output: String,
    /// Whether it is a table.
    pub is_table: bool,
}

/// Data that goes from one site to a later one, through whatever lies between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Border {
    /// Who gives it.
    pub from: usize,
    /// Who reads it.
    pub to: usize,
    /// Its elements, where run-time dimensions count as one.
    pub elements: f64,
}

impl Problem {
    /// The sites and borders of a model.
    ///
    /// # Errors
    /// When the model does not compile.
    pub fn new(model: &Model, options: Vec<&'static Opt>, compile: &mcc::Options) -> Result<Problem> {
        let (layers, members) = members(model);
        let sites = sites(members);
        let outputs =
            |(n, site): (usize, &Site)| site.members.iter().map(|m| (m.output.clone(), n)).collect::<Vec<_>>();
        let by_output: BTreeMap<String, usize> = sites.iter().enumerate().flat_map(outputs).collect();
        let owners = owners(model, &by_output);
        let inputs: Vec<&str> = layers.iter().map(|l| l.input.as_str()).collect();
        let types = if inputs.is_empty() { Vec::new() } else { model.types(&unique(&inputs), compile)? };
        let types: BTreeMap<&str, _> = unique(&inputs).into_iter().zip(types).collect();
        let mut borders: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for layer in &layers {
            let to = by_output[&layer.output];
            let Some(&from) = owners.get(layer.input.as_str()).filter(|&&from| from != to) else { continue };
            let extent = |d: &Dim| d.as_const().unwrap_or(1).max(1) as f64;
            *borders.entry((from, to)).or_default() +=
                types[layer.input.as_str()].shape.iter().map(extent).product::<f64>();
        }
        let borders = borders.into_iter().map(|((from, to), elements)| Border { from, to, elements }).collect();
        Ok(Problem { sites, options, borders, by_output })
    }

    /// Borders whose sides compute with different types of data.
    pub fn crossed<'a>(&'a self, assignment: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
        let bytes = |site: usize| self.options[assignment[site]].bytes;
        let crossed = move |b: &Border| bytes(b.from) != bytes(b.to);
        self.borders.iter().enumerate().filter(move |(_, b)| crossed(b)).map(|(n, _)| n)
    }

    /// All sites with one option.
    pub fn uniform(&self, option: usize) -> Assignment {
        vec![option; self.sites.len()]
    }

    /// The recipe of an assignment: one without steps, and each step that some options have, for the layers of those
    /// options.
    pub fn recipe(&self, assignment: &[usize], plain: &Recipe) -> Recipe {
        let mut steps: Vec<(Step, BTreeSet<usize>)> = Vec::new();
        for (site, &option) in assignment.iter().enumerate() {
            for step in self.options[option].steps() {
                match steps.iter_mut().find(|s| s.0 == step) {
                    Some((_, sites)) => drop(sites.insert(site)),
                    None => steps.push((step, BTreeSet::from([site]))),
                }
            }
        }
        // Shapes first, then zeros: what is quantized stays as it is.
        steps.sort_by_key(|(step, _)| match step {
            Step::LowRank(_) => 0,
            Step::Prune(_) => 1,
            Step::Quantize(_) => 2,
            Step::Recover(_) => 3,
        });
        let restrict = |(mut step, sites): (Step, BTreeSet<usize>)| {
            let names = |inside: bool| {
                let chosen = (0..self.sites.len()).filter(|n| sites.contains(n) == inside);
                chosen.flat_map(|n| self.sites[n].names.clone()).collect::<Vec<String>>()
            };
            let (inside, outside) = (names(true), names(false));
            let (only, except) = match &mut step {
                Step::Quantize(s) => (&mut s.only, &mut s.except),
                Step::Prune(s) => (&mut s.only, &mut s.except),
                Step::LowRank(s) => (&mut s.only, &mut s.except),
                Step::Recover(s) => (&mut s.only, &mut s.except),
            };
            if outside.len() < inside.len() {
                *except = outside
            } else {
                *only = inside
            }
            step
        };
        Recipe { steps: steps.into_iter().map(restrict).collect(), ..plain.clone() }
    }
}

fn unique<'a>(names: &[&'a str]) -> Vec<&'a str> {
    names.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The layers of a model that are not codes yet, and these with its tables.
fn members(model: &Model) -> (Vec<Layer>, Vec<Member>) {
    let layers: Vec<Layer> = layers::find(model).into_iter().filter(|l| !l.is_coded).collect();
    let layer = |l: &Layer| Member {
        name: l.name.clone(),
        operator: l.operator.clone(),
        output: l.output.clone(),
        is_table: false,
    };
    let table = |t: Table| Member { name: t.name, operator: TABLE.to_string(), output: t.output, is_table: true };
    let tables = tables::find(model).into_iter().map(table);
    let members = tables.chain(layers.iter().map(layer)).collect();
    (layers, members)
}

/// Members in sites: a name that a recipe's pattern takes together with others makes one site of all of them.
fn sites(members: Vec<Member>) -> Vec<Site> {
    let mut site: Vec<usize> = (0..members.len()).collect();
    for (n, member) in members.iter().enumerate() {
        let together = |m: &usize| *m == n || fits(&member.name, &members[*m].name, &members[*m].operator);
        let merged: BTreeSet<usize> = (0..members.len()).filter(together).map(|m| site[m]).collect();
        let first = merged.first().copied().unwrap_or(n);
        site.iter_mut().filter(|s| merged.contains(s)).for_each(|s| *s = first);
    }
    let mut sites: BTreeMap<usize, Site> = BTreeMap::new();
    for (n, member) in members.into_iter().enumerate() {
        let entry = sites.entry(site[n]).or_default();
        if !entry.names.contains(&member.name) {
            entry.names.push(member.name.clone());
        }
        entry.members.push(member);
    }
    sites.into_values().collect()
}

/// For each name of a model, the site on whose result it depends through the first inputs of nodes; before the first
/// sites, the one that it leads to.
pub fn owners<'m>(model: &'m Model, by_output: &BTreeMap<String, usize>) -> BTreeMap<&'m str, usize> {
    let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
    for node in model.nodes() {
        let own = node.output.iter().find_map(|o| by_output.get(o)).copied();
        let given = node.input.iter().find_map(|i| owners.get(i.as_str()).copied());
        if let Some(owner) = own.or(given) {
            owners.extend(node.output.iter().map(|o| (o.as_str(), owner)));
        }
    }
    let mut readers: BTreeMap<&str, usize> = BTreeMap::new();
    for node in model.nodes().iter().rev() {
        let own = node.output.iter().find_map(|o| owners.get(o.as_str()).or(readers.get(o.as_str()))).copied();
        if let Some(owner) = own {
            readers.extend(node.input.iter().map(|i| (i.as_str(), owner)));
            for output in &node.output {
                owners.entry(output.as_str()).or_insert(owner);
            }
        }
    }
    owners
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::search::option::{self, find};

    fn member(name: &str, output: &str) -> Member {
        Member { name: name.into(), operator: "MatMul".into(), output: output.into(), is_table: false }
    }

    /// Layers one behind the other, which stay as they are or become int8.
    pub fn chain(count: usize) -> Problem {
        let output = |n: usize| format!("v{n}");
        Problem {
            sites: sites((0..count).map(|n| member(&format!("l{n}"), &output(n))).collect()),
            options: vec![&option::AS_IT_IS, find("int8").unwrap()],
            borders: (1..count).map(|to| Border { from: to - 1, to, elements: 100.0 }).collect(),
            by_output: (0..count).map(|n| (output(n), n)).collect(),
        }
    }

    #[test]
    fn a_recipe_takes_the_layers_of_its_options() {
        let problem = chain(5);
        for assignment in [[0, 1, 1, 0, 1], [1; 5], [0, 0, 0, 1, 0]] {
            let recipe = problem.recipe(&assignment, &Recipe::default());
            let [Step::Quantize(step)] = &recipe.steps[..] else { panic!("{recipe:?}") };
            let takes = |n: usize| usize::from(step.selection().takes_named(&problem.sites[n].names[0], "MatMul"));
            assert_eq!((0..5).map(takes).collect::<Vec<_>>(), assignment);
            assert_eq!(Recipe::parse(&recipe.text().unwrap()).unwrap(), recipe);
        }
        assert_eq!(problem.recipe(&[0; 5], &Recipe::default()).steps, []);
    }

    #[test]
    fn names_that_patterns_confuse_are_one_site() {
        let found = |names: &[&str]| -> Vec<Vec<String>> {
            sites(names.iter().map(|n| member(n, "")).collect()).into_iter().map(|s| s.names).collect()
        };
        // "MatMul" is every layer's operator.
        assert_eq!(found(&["a", "MatMul", "b*", "bc", "a"]).len(), 1);
        assert_eq!(found(&["a", "b*", "c", "bc", "a"]), [vec!["a"], vec!["b*", "bc"], vec!["c"]]);
    }
}
